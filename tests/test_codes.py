"""Codes: exact bookkeeping, where gradients go, how codebooks move, priors that are fitted."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course import analysis, recipes
from hvae_course.analysis import aggregate_split, diagnose, evaluate
from hvae_course.codes import (
    Codebook,
    CodePrior,
    Codes,
    CodesBefore,
    ConditionalCodes,
    FiniteScalars,
    PointMass,
    nearest,
)
from hvae_course.config import Model, Training
from hvae_course.data import DataSpec
from hvae_course.gaussians import standard_normal
from hvae_course.hierarchy import HierarchicalVAE, Level, Trace, hold
from hvae_course.likelihoods import Bernoulli
from hvae_course.objectives import Weighted, as_objective, elbo, penalty
from hvae_course.recipes import build
from hvae_course.training import fit_prior, training_only
from hvae_course.training.step import step

D = torch.float64
GRIDS = [((2, 1, 4),), ((2, 1, 4), (1, 1, 4))]
"""One grid of 2x2 positions, and one of a single position above it."""


def small(stages=GRIDS[1], spec=None, *, seed=0, **settings) -> HierarchicalVAE:
    """A model of codes of small images in double precision."""
    usual = {"num_codes": 2} if settings.get("codes") != "scalars" else {}
    settings["codes_options"] = usual | settings.get("codes_options", {})
    spec = DataSpec((4, 4), 2) if spec is None else spec
    sizes = settings.pop("latent_sizes", (3,) * len(stages))
    networks = {"stages": stages, "depth_scaled": False, "expansion": 1.0}
    chosen = Model(recipe="vq", latent_sizes=sizes, networks_options=networks, **settings)
    return build(chosen, spec, seed=seed).double()


def shake_priors(model: HierarchicalVAE) -> HierarchicalVAE:
    """Priors that are far from uniform, and depend on the state."""
    for p in (*model.prior.parameters(), *model.top_down.conditionals.parameters()):
        p.data = torch.randn_like(p)
    return model


def binary(n: int, size: int = 16) -> Tensor:
    return torch.rand(n, size, dtype=D).round()


# Two distributions


def test_a_point_mass_has_the_log_probability_zero_at_its_point_alone():
    point = torch.randn(3, 2, 4)
    q = PointMass(point)
    assert torch.equal(q.rsample(), point) and torch.equal(q.sample((2,))[1], point)
    assert q.log_prob(point).tolist() == [0, 0, 0]
    moved = point.clone()
    moved[1, 0, 3] += 1e-6
    assert q.log_prob(moved).tolist() == [0, -math.inf, 0]


@pytest.mark.parametrize("positions", [(), (3,), (1, 2)], ids=str)
def test_probabilities_count_codes_and_add_up_to_one(positions):
    """A density over the rows would change with their scale."""
    torch.manual_seed(0)
    logits, table = torch.randn(2, 3, *positions, dtype=D), 100 * torch.randn(3, 4, dtype=D)
    p, n = Codes(logits, table), math.prod(positions)
    total, seen = 0, []
    for chosen in itertools.product(range(3), repeat=n):
        index = torch.tensor(chosen).view(positions).expand(2, *positions)
        value = table[index].movedim(-1, 1)
        each = logits.log_softmax(1).gather(1, index.unsqueeze(1))
        torch.testing.assert_close(p.log_prob(value), each.flatten(1).sum(1))
        total, seen = total + p.log_prob(value).exp(), [*seen, value]
    torch.testing.assert_close(total, torch.ones(2, dtype=D))
    drawn = p.sample((5,))
    assert drawn.shape == (5, 2, 4, *positions) and p.event_shape == (4, *positions)
    assert all(any(torch.equal(one, value[0]) for value in seen) for one in drawn[:, 0])
    torch.testing.assert_close(p.log_prob(drawn).shape, torch.Size((5, 2)))


def test_draws_have_the_frequencies_of_their_probabilities(assert_mean):
    p = Codes(torch.tensor([[0.0, 1.0, -1.0]]), torch.eye(3))
    assert_mean(p.sample((20_000,))[:, 0], torch.tensor([0.0, 1.0, -1.0]).softmax(0))


def test_a_prior_of_codes_is_expanded_to_a_batch():
    prior = CodePrior(Codebook(5, 2), 2, 2)
    prior.logits.data = torch.randn(5, 2, 2)
    p = prior()
    many = p.expand((4,))
    z = many.sample()
    assert p.batch_shape == () and many.batch_shape == (4,) and z.shape == (4, 2, 2, 2)
    torch.testing.assert_close(many.log_prob(z), p.log_prob(z))
    with pytest.raises(NotImplementedError):
        many.mean  # noqa: B018


@pytest.mark.equation("eq-nearest")
def test_the_nearest_row_has_the_smallest_squared_distance():
    vectors, table = torch.randn(50, 2, 3, dtype=D), torch.randn(7, 3, dtype=D)
    squares = (vectors[..., None, :] - table).square().sum(-1)  # (50, 2, 7)
    assert torch.equal(nearest(vectors, table), squares.argmin(-1))
    assert len(nearest(vectors, table).unique()) == 7


def test_a_row_is_its_own_nearest_row_wherever_the_table_lies():
    """Distances from squares and products would take a neighbour."""
    table = 1e3 + 1e-2 * torch.randn(200, 8)
    assert torch.equal(nearest(table, table), torch.arange(200))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(table, table), torch.arange(200))
    assert nearest(torch.zeros(3, 8), torch.ones(4, 8)).tolist() == [
        0,
        0,
        0,
    ]  # the first of equals


# Priors in which a position sees those before it


def shaken_before(positions=(2, 2), num_codes=3, **settings) -> CodesBefore:
    before = CodesBefore(num_codes, *positions, size=2, **settings).double()
    for p in before.parameters():
        p.data = 0.4 * torch.randn_like(p)
    return before


def autoregressive_priors(num_codes: int = 3) -> list[Distribution]:
    """p(z_L) for three rows, and p(z_l | z_>l) of three states, over maps of 2x2."""
    codebook = book(num_codes, 2)
    prior = CodePrior(
        codebook, 2, 2, before=shaken_before(num_codes=num_codes, hidden=(7,))
    ).double()
    prior.logits.data = torch.randn_like(prior.logits)
    net = nn.Conv2d(5, num_codes, 1).double()
    seen = shaken_before(num_codes=num_codes, hidden=(7,), context=20)
    below = ConditionalCodes(net, codebook, before=seen)
    return [prior().expand((3,)), below(torch.randn(3, 5, 2, 2, dtype=D))]


@pytest.mark.parametrize("which", [0, 1], ids=["top", "conditional"])
def test_autoregressive_probabilities_add_up_to_one(which):
    """Over all 81 maps of three codes; they are the products of what each position is given."""
    torch.manual_seed(0)
    p, total = autoregressive_priors()[which], 0
    for chosen in itertools.product(range(3), repeat=4):
        index = torch.tensor(chosen).expand(3, 4)
        value = p.table[index.view(3, 2, 2)].movedim(-1, 1)
        log_p = p.log_prob(value)
        each = [p.log_probs(index)[range(3), code, i] for i, code in enumerate(chosen)]
        torch.testing.assert_close(log_p, sum(each))
        torch.testing.assert_close(p.log_prob(value[:1]), log_p)
        total = total + log_p.exp()
    torch.testing.assert_close(total, torch.ones(3, dtype=D))


def test_a_single_position_has_none_before_it():
    codebook = book(3, 2)
    prior = CodePrior(codebook, before=CodesBefore(3, hidden=())).double()
    prior.logits.data = torch.randn(3, dtype=D)
    p = prior().expand((3,))
    torch.testing.assert_close(p.log_prob(codebook.table()), prior.logits.log_softmax(0))
    assert p.sample().shape == (3, 2)


@pytest.mark.parametrize("hidden", [(), (9, 8)], ids=str)
def test_what_is_said_about_a_position_depends_on_those_before_it_alone(hidden):
    """The Jacobian over the vectors of the codes is strictly triangular in the positions."""
    torch.manual_seed(0)
    before = shaken_before(hidden=hidden, context=4)
    context = torch.randn(4, dtype=D)
    vectors = torch.randn(2, 4, dtype=D)  # of a code, at four positions

    def logits(vectors: Tensor) -> Tensor:
        return before.net(vectors.flatten(), context)

    jacobian = torch.autograd.functional.jacobian(logits, vectors)  # (K, N, size, N)
    reads = (jacobian != 0).any(dim=2)
    assert torch.equal(reads, torch.ones(4, 4).tril(-1).bool().expand(3, 4, 4))
    index = torch.tensor([2, 0, 1, 2])
    torch.testing.assert_close(before(index, context), logits(before.vectors(index).mT))


def test_a_draw_of_position_after_position_has_the_probabilities_that_are_scored(assert_mean):
    torch.manual_seed(0)
    for p in autoregressive_priors(num_codes=2):
        drawn = p.sample((4000,))
        assert drawn.shape == (4000, 3, 2, 2, 2) and p.log_prob(drawn).shape == (4000, 3)
        assert p.expand((3,)).sample().shape == (3, *p.event_shape)
        index = nearest(drawn[:, 1].movedim(1, -1), p.table).flatten(1)  # (4000, 4)
        number = (index * torch.tensor([8, 4, 2, 1])).sum(1)
        maps = torch.tensor([*itertools.product(range(2), repeat=4)])
        values = p.table[maps.view(16, 1, 2, 2)].movedim(-1, -3).expand(16, 3, 2, 2, 2)
        expected = p.log_prob(values)[:, 1].exp()
        common = expected > 0.005
        assert common.sum() > 3
        assert_mean(F.one_hot(number, 16).double()[:, common], expected[common])


def test_a_prior_that_sees_positions_before_starts_uniform_and_learns_what_they_share():
    """Two equal codes: independent positions cost 2 log 2 nats, positions that see log 2."""
    torch.manual_seed(0)
    codebook = Codebook(2, 1)
    costs = {}
    for before in (None, CodesBefore(2, 1, 2, hidden=(8,))):
        prior = CodePrior(codebook, 1, 2, before=before)
        z = codebook.table()[torch.tensor([[0, 0], [1, 1]])].movedim(-1, 1)[:, :, None]
        start = -prior().expand((2,)).log_prob(z)
        torch.testing.assert_close(start, torch.full((2,), 2 * math.log(2)))
        optimiser = torch.optim.Adam(prior.parameters(), lr=0.05)
        for _ in range(150):
            optimiser.zero_grad()
            cost = -prior().log_prob(z).mean()
            cost.backward()
            optimiser.step()
        costs[before is None] = cost.item()
    assert costs[True] == pytest.approx(2 * math.log(2), abs=1e-5)
    assert math.log(2) - 1e-6 < costs[False] < math.log(2) + 0.02


def test_the_second_stage_fits_autoregressive_priors_alone(tiny_data, make_accelerator):
    networks = {"stages": ((4, 1, 4), (2, 1, 4))}
    settings = {"networks_options": networks, "latent_sizes": (3, 3)}
    options = {"num_codes": 6, "prior_hidden": (16,)}
    torch.manual_seed(0)
    model = recipes.vq_vae(tiny_data, codes_options=options, **settings)
    assert not any(p.requires_grad for p in model.prior.parameters())
    x = tiny_data.train.batch(slice(None))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(3):
        optimiser.zero_grad()
        (-step(model, as_objective(elbo), x, 1)[0]).backward()
        optimiser.step()
    before, judge = copy.deepcopy(model.state_dict()), {"split": "train", "num_samples": 1}
    uniform = evaluate(model, tiny_data, max_rows=200, per_example=True, **judge)
    for estimate, n in zip(uniform.information, (16, 4), strict=True):
        assert estimate.mean == pytest.approx(n * math.log(6), rel=1e-6)
    training = Training(epochs=2, batch_size=40, learning_rate=0.01)
    fit_prior(model, tiny_data, training, accelerator=make_accelerator(), progress=False)
    changed = {name for name, v in model.state_dict().items() if not torch.equal(v, before[name])}
    assert all(n.startswith(("prior.", "top_down.conditionals.")) for n in changed)
    assert "prior.before.net.direct.weight" in changed
    fitted = evaluate(model, tiny_data, max_rows=200, per_example=True, **judge)
    same = fitted.per_example["reconstruction"] == uniform.per_example["reconstruction"]
    assert same.all() and fitted.elbo.mean > uniform.elbo.mean
    table = diagnose(model, tiny_data, num_samples=2, max_examples=12)
    assert table[["information", "live_codes", "perplexity"]].notna().all(axis=None)
    assert analysis.sample(model, 3).px.mean.shape == (3, 64)
    again = build(model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(elbo(again.eval()(x), x), elbo(model.eval()(x), x))


def test_a_conditional_model_has_autoregressive_priors_too(make_model):
    model = make_model("vq_vae", conditional=True, codes_options={"prior_hidden": (8,)})
    y = torch.tensor([0, 1, 2])
    trace = model(torch.rand(3, 64).round(), y=y)
    assert elbo(trace, torch.rand(3, 64).round()).isfinite().all()
    assert model.generate(3, y=y).px.mean.shape == (3, 64)


# The bound is exact bookkeeping


def all_codes(model: HierarchicalVAE) -> list[tuple[Tensor, ...]]:
    """Every joint code of a small model, as one latent ``(1, D, H, W)`` per level."""
    levels = []
    for rule, shape in zip(model.posterior.rules, analysis.latent_shapes(model), strict=True):
        rows = rule.head[1].table()
        indices = itertools.product(range(len(rows)), repeat=math.prod(shape[1:]))
        maps = [torch.tensor(index).view(1, *shape[1:]) for index in indices]
        levels.append([rows[one].movedim(-1, 1) for one in maps])
    return list(itertools.product(*levels))


@pytest.mark.equation("eq-code-bound", "eq-two-grids")
@pytest.mark.parametrize("prior_hidden", [None, (8,)], ids=["independent", "autoregressive"])
@pytest.mark.parametrize("stages", GRIDS, ids=["one grid", "two grids"])
def test_every_code_accounts_for_the_evidence_and_the_gap_is_that_of_the_code_taken(
    stages, prior_hidden
):
    """log p(x) = log p(x|c) + log p(c) - log p(c|x) for 16, or 32, codes."""
    options = {"prior_hidden": prior_hidden}
    model, x = shake_priors(small(stages, codes_options=options)).eval(), binary(6)
    joint = []
    with torch.no_grad():
        for code in all_codes(model):
            held = {l: z.expand(6, *z.shape[1:]) for l, z in enumerate(code, start=1)}
            trace = model.generate(6, hold(held))
            prior = sum(level.p.log_prob(level.z) for level in trace.levels)
            joint.append(trace.log_px(x) + prior)
        joint = torch.stack(joint, dim=1)  # (6, codes), log p(x, c)
        assert joint.shape[1] == {1: 16, 2: 32}[len(stages)]
        evidence, trace = joint.logsumexp(1), model(x)
        bound = elbo(trace, x)
    taken = (joint - bound[:, None]).abs().argmin(dim=1, keepdim=True)
    torch.testing.assert_close(joint.gather(1, taken)[:, 0], bound)
    log_posterior = joint.gather(1, taken)[:, 0] - evidence  # log p(c* | x)
    torch.testing.assert_close(evidence - bound, -log_posterior)
    assert (bound < evidence).all()
    total = sum(
        torch.stack([level.p.log_prob(level.z) for level in trace.levels]).sum(0).exp()
        for trace in (
            model.generate(1, hold(dict(enumerate(code, start=1)))) for code in all_codes(model)
        )
    )
    torch.testing.assert_close(total, torch.ones(1, dtype=D))


@pytest.mark.equation("eq-code-rate")
def test_a_uniform_prior_has_the_rate_of_all_positions_and_one_code_none():
    x = binary(5)
    for k in (1, 7):
        trace = small(codes_options={"num_codes": k})(x)
        rates = [level.information for level in trace.levels]
        for rate, positions in zip(rates, (4, 1), strict=True):
            torch.testing.assert_close(rate, torch.full((5,), positions * math.log(k), dtype=D))


# Whose gradient goes where


def encodings(n: int = 6, size: int = 3) -> Tensor:
    return torch.randn(n, size, 2, dtype=D, requires_grad=True)


def book(num_codes: int = 5, size: int = 3, **settings) -> Codebook:
    return Codebook(num_codes, size, **settings).double()


@pytest.mark.equation("eq-straight-through")
@pytest.mark.parametrize("decay", [None, 0.9])
def test_the_decoders_gradient_is_copied_to_the_encoding_and_does_not_reach_the_codebook(decay):
    codebook, z_e = book(decay=decay).eval(), encodings()
    q = codebook(z_e)
    rows = codebook.table()
    assert torch.equal(q.point, rows[nearest(z_e.movedim(1, -1), rows)].movedim(-1, 1))
    (q.rsample().sin() ** 3).sum().backward()
    leaf = q.point.detach().requires_grad_()
    (leaf.sin() ** 3).sum().backward()
    torch.testing.assert_close(z_e.grad, leaf.grad, rtol=0, atol=0)
    assert all(p.grad is None or not p.grad.any() for p in codebook.parameters())


@pytest.mark.equation("eq-vq-penalty")
@pytest.mark.parametrize("commitment", [0.25, 2.0])
def test_the_penalty_is_a_sum_whose_weight_is_on_the_encoders_term(commitment):
    """Means, a weight on the other term, and swapped detaches would all show."""
    codebook, z_e = book(decay=None, commitment=commitment), encodings()
    q = codebook(z_e)
    e, apart = q.point.detach(), (z_e - q.point).detach()
    squares = apart.square().flatten(1).sum(1)
    torch.testing.assert_close(q.penalty.detach(), (1 + commitment) * squares)
    q.penalty.sum().backward()
    torch.testing.assert_close(z_e.grad, 2 * commitment * apart)
    expected = torch.zeros_like(codebook.rows)
    expected.index_add_(0, q.index.flatten(), -2 * apart.movedim(1, -1).flatten(0, 1))
    torch.testing.assert_close(codebook.rows.grad, expected)
    assert q.penalty.shape == (len(z_e),) and e.shape == z_e.shape


def test_moving_averages_leave_the_encoders_term_alone():
    codebook, z_e = book(decay=0.9, commitment=0.5), encodings()
    q = codebook(z_e)
    apart = (z_e - q.point).detach()
    torch.testing.assert_close(q.penalty.detach(), 0.5 * apart.square().flatten(1).sum(1))
    assert not list(codebook.parameters())


# How a codebook moves


def clusters(n: int = 400) -> Tensor:
    torch.manual_seed(3)
    centres = torch.tensor([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]], dtype=D)
    return centres[torch.arange(n) % 3] + 0.3 * torch.randn(n, 3, dtype=D)


def test_without_memory_and_smoothing_a_batch_moves_the_codebook_by_one_step_of_lloyd():
    vectors = clusters()
    codebook = book(4, decay=0.0, smoothing=0.0)
    codebook.rows[3] = 100.0  # of an empty cluster
    before = codebook.table()
    index = nearest(vectors, before)
    means = [vectors[index == k].mean(0) if (index == k).any() else before[k] for k in range(4)]
    codebook.learn(vectors, index)
    torch.testing.assert_close(codebook.rows, torch.stack(means))
    assert torch.equal(codebook.rows[3], before[3])


def test_averages_move_by_the_decay_and_counts_are_smoothed():
    vectors, decay, smoothing = clusters(), 0.8, 0.5
    codebook = book(4, decay=decay, smoothing=smoothing)
    index, rows = nearest(vectors, codebook.rows), codebook.table()
    counts = F.one_hot(index, 4).double()
    n = decay + (1 - decay) * counts.sum(0)
    sums = decay * rows + (1 - decay) * counts.T @ vectors
    codebook.learn(vectors, index)
    smooth = (n + smoothing) / (n.sum() + 4 * smoothing) * n.sum()
    torch.testing.assert_close(codebook.rows, sums / smooth[:, None])


def test_a_batch_is_quantised_before_it_moves_the_codebook():
    codebook, z_e = book(decay=0.5), encodings()
    before = codebook.table()
    prior = CodePrior(codebook, 2)().expand((6,))
    q = codebook(z_e)
    assert not torch.equal(codebook.rows, before)
    assert torch.equal(q.point, before[q.index].movedim(-1, 1))
    # and the prior still counts the codes that were taken
    prior.log_probs = torch.randn(5, dtype=D).log_softmax(0).expand(6, 2, 5)
    each = prior.log_probs.gather(-1, q.index[..., None]).sum(dim=(1, 2))
    torch.testing.assert_close(prior.log_prob(q.point), each)


@pytest.mark.parametrize("decay", [None, 0.5])
def test_nothing_moves_in_evaluation_or_for_encodings_without_gradients(decay):
    codebook = book(decay=decay, revival=0.5)
    before = copy.deepcopy(codebook.state_dict())
    codebook.eval()(encodings())
    codebook.train()(encodings().detach())
    with torch.no_grad():
        codebook(encodings())
    assert all(torch.equal(before[name], v) for name, v in codebook.state_dict().items())
    codebook(encodings())
    assert not torch.equal(before["counts"], codebook.counts)


@pytest.mark.parametrize("decay", [None, 0.5])
def test_dead_codes_become_encodings_of_the_batch_and_live_ones_stay(decay):
    vectors = clusters()
    codebook = book(8, decay=decay, revival=0.1, smoothing=0.0)
    codebook.rows.data[3:] = 100.0  # out of reach
    for _ in range(80):
        codebook.learn(vectors, nearest(vectors, codebook.rows))
    assert len(nearest(vectors, codebook.rows).unique()) >= 6
    assert codebook.rows.abs().max() < 20
    if decay is None:  # those that were dead are examples
        assert sum((vectors == row).all(1).any().item() for row in codebook.rows) >= 5
    without = book(8, decay=decay, smoothing=0.0)
    without.rows.data[3:] = 100.0
    for _ in range(80):
        without.learn(vectors, nearest(vectors, without.rows))
    assert len(nearest(vectors, without.rows).unique()) <= 3


# Finite scalars


@pytest.mark.parametrize("values", [2, 3, 4, 5, 8])
def test_every_value_is_reached_and_the_grid_is_symmetric(values):
    scalars = FiniteScalars((values,)).double()
    z = torch.linspace(-9, 9, 2001, dtype=D)[:, None]
    q = scalars(z)
    torch.testing.assert_close(q.point.unique(), torch.linspace(-1, 1, values, dtype=D))
    assert torch.equal(q.index.unique(), torch.arange(values))
    assert (q.point.diff(dim=0) >= 0).all() and q.penalty is None
    away = z.abs().squeeze() > 1e-9  # 0 itself is a tie if the number is even
    torch.testing.assert_close(q.point[away], -q.point.flip(0)[away])
    if values % 2:
        assert scalars(torch.zeros(1, 1, dtype=D)).point.item() == 0


@pytest.mark.parametrize("values", [2, 4, 8])
def test_the_shift_of_the_public_pseudocode_is_not_that_of_its_text(values):
    """tan in place of the inverse of tanh: they agree up to a fifth power, not for two values."""
    half = (values - 1) * (1 + 1e-3) / 2

    def bounded(z: float, shift: float) -> float:
        return half * math.tanh(z + shift) - 0.5

    assert abs(bounded(0, math.atanh(0.5 / half))) < 1e-12
    assert abs(bounded(0, math.tan(0.5 / half))) > {2: 1e-2, 4: 1e-4, 8: 1e-6}[values]
    middle = FiniteScalars((values,)).double()(torch.tensor([[-1e-6], [1e-6]], dtype=D)).point
    torch.testing.assert_close(middle.flatten(), torch.tensor([-1, 1], dtype=D) / (values - 1))


def test_scalars_are_rows_of_their_table_with_the_gradient_of_the_bounded_value():
    scalars = FiniteScalars((3, 4, 2)).double()
    z = torch.randn(50, 3, dtype=D, requires_grad=True)
    q = scalars(z)
    assert torch.equal(scalars.table()[q.index], q.point) and q.num_codes == 24
    assert torch.equal(nearest(q.point, scalars.table()), q.index)
    q.rsample().sum().backward()
    torch.testing.assert_close(z.grad, 1 - z.detach().tanh().square())
    assert len(scalars.table().unique(dim=0)) == 24
    with pytest.raises(ValueError, match=r"two values or more, got values=\(3, 1\)"):
        FiniteScalars((3, 1))


# What training maximises


def test_training_pays_the_penalties_of_all_levels_and_the_bound_does_not():
    model, x = small(), binary(5)
    model.eval()  # where the codebook stays
    trace = model(x)
    paid = sum(level.q.penalty for level in trace.levels)
    torch.testing.assert_close(penalty(trace), paid)
    value, statistics = step(model, as_objective(elbo), x, 1)
    torch.testing.assert_close(value, (elbo(trace, x) - paid).mean())
    torch.testing.assert_close(statistics[1].double(), elbo(trace, x).mean().double())
    torch.testing.assert_close(elbo(trace, x), trace.log_px(x) - 5 * math.log(2))
    weighted, _ = step(model, Weighted(0.0), x, 3)  # three draws of the same codes
    torch.testing.assert_close(weighted, (trace.log_px(x) - paid).mean())


def test_a_posterior_of_any_kind_may_have_a_penalty():
    q = standard_normal(2, like=torch.zeros(())).expand((6,))
    level = Level(torch.zeros(6, 2), q, q)
    px = Bernoulli(nn.Identity())(torch.zeros(6, 3))
    assert penalty(Trace((level, level), px, 2)) is None
    q.penalty = torch.arange(6.0)
    assert penalty(Trace((level, level), px, 2)).tolist() == [1, 5, 9]


@pytest.mark.parametrize("decay", [None, 0.9])
def test_every_parameter_but_those_of_the_priors_receives_a_gradient(decay):
    model, x = small(codes_options={"decay": decay}), binary(6)
    step(model, as_objective(elbo), x, 1)[0].backward()
    frozen = {
        id(p) for p in (*model.prior.parameters(), *model.top_down.conditionals.parameters())
    }
    for name, p in model.named_parameters():
        assert (p.grad is None) == (id(p) in frozen), name


# The recipe


@pytest.mark.equation("eq-two-grids")
def test_the_lower_encoder_reads_the_decoded_upper_codes():
    model, x = small().eval(), binary(4)
    features = model.features(x)
    tops = model.posterior.rules[1].head[1].table()
    heads = []
    for row in tops:
        z = row.view(1, 3, 1, 1).expand(4, 3, 1, 1)
        h = model.top_down.updates[1](model.top_down.initial_state(4), z)
        heads.append(model.posterior.rules[0].head[0](torch.cat([features[0], h], dim=1)))
    assert not torch.allclose(*heads)


def test_codebooks_belong_to_the_posterior_and_copies_refer_to_their_own():
    model = small(codes_options={"decay": None})
    assert sum("rows" in name for name in model.state_dict()) == 2
    assert [name for name, _ in model.prior.named_parameters()] == ["logits"]
    again = copy.deepcopy(model)
    again.posterior.rules[1].head[1].rows.data.fill_(7)
    assert again.top_prior().table.unique().tolist() == [7]
    assert not (model.top_prior().table == 7).any()


def test_a_model_of_codes_is_built_again_from_what_it_recorded():
    for settings in ({}, {"codes": "scalars", "codes_options": {"values": (2, 3, 2)}}):
        model, x = shake_priors(small(**settings)), binary(3)
        again = build(model.config).double()
        again.load_state_dict(model.state_dict())
        assert torch.equal(elbo(again.eval()(x), x), elbo(model.eval()(x), x))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"recipe": "vq", "prior": "normal"}, "priors of vq are over codes, got prior='normal'"),
        ({"recipe": "vq", "networks": "mlp"}, "is one of convolutional networks"),
        ({"recipe": "ladder", "codes": "scalars"}, "codes is an option of the recipe vq"),
        ({"recipe": "nvae", "codes_options": {"decay": 0.9}}, "codes_options is an option of the"),
        (
            {"recipe": "vq", "codes_options": {"size": 2}},
            "unknown option 'size'; it has num_codes",
        ),
        ({"recipe": "vq", "codes_options": {"num_codes": 0}}, "num_codes must be positive, got 0"),
        (
            {"recipe": "vq", "codes": "scalars", "latent_sizes": (16, 8)},
            r"codes of 3 values are latents of 3 dimensions, got latent_sizes \(16, 8\)",
        ),
    ],
)
def test_options_of_codes_that_cannot_be_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        Model(**settings)


# Two stages


def test_a_part_that_is_trained_alone_must_have_parameters(make_model):
    model = make_model("ladder_vae")
    with pytest.raises(ValueError, match="have no parameters"), training_only(model, nn.ReLU()):
        pass
    with training_only(model, model.posterior):
        assert {p.requires_grad for p in model.bottom_up.parameters()} == {False}
        assert {p.requires_grad for p in model.posterior.parameters()} == {True}
    assert all(p.requires_grad for p in model.parameters())


@pytest.fixture
def first_stage(make_model, tiny_data) -> HierarchicalVAE:
    """A model of the digits after some steps, with statistics that a second stage could spoil."""
    networks = {"stages": ((4, 1, 4), (2, 1, 4))}
    settings = {"networks_options": networks, "codes_options": {"num_codes": 6}}
    model, x = make_model("vq_vae", normalisation="batch", **settings), tiny_data.train
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for start in (0, 40, 80, 0, 40):
        optimiser.zero_grad()
        value, _ = step(model, as_objective(elbo), x.batch(slice(start, start + 40)), 1)
        (-value).backward()
        optimiser.step()
    return model


@pytest.mark.equation("eq-code-rate")
def test_the_second_stage_changes_the_rate_and_not_one_bit_of_anything_else(
    first_stage, tiny_data, make_accelerator
):
    model = first_stage
    before = copy.deepcopy(model.state_dict())
    options = {"split": "train", "num_samples": 1, "max_rows": 200, "per_example": True}
    uniform = evaluate(model, tiny_data, **options)
    positions = [math.prod(shape[1:]) for shape in analysis.latent_shapes(model)]
    for estimate, n in zip(uniform.information, positions, strict=True):
        assert estimate.mean == pytest.approx(n * math.log(6), rel=1e-6)
    training = Training(epochs=3, batch_size=40, learning_rate=0.1)
    fit_prior(model, tiny_data, training, accelerator=make_accelerator(), progress=False)
    changed = {name for name, v in model.state_dict().items() if not torch.equal(v, before[name])}
    assert changed and all(n.startswith(("prior.", "top_down.conditionals.")) for n in changed)
    assert not any(p.requires_grad for p in model.prior.parameters())  # as before
    fitted = evaluate(model, tiny_data, **options)
    same = fitted.per_example["reconstruction"] == uniform.per_example["reconstruction"]
    assert same.all()
    # what is gained is N log K minus the cross-entropy of the codes
    x = tiny_data.train.batch(slice(None))
    with torch.no_grad():
        trace = model.eval()(x)
    top = trace.levels[1]
    each = model.prior.logits.log_softmax(0).movedim(0, -1).expand(len(x), 2, 2, 6)
    cross_entropy = -each.gather(-1, top.q.index[..., None]).sum(dim=(1, 2, 3)).mean().item()
    assert fitted.information[1].mean == pytest.approx(cross_entropy, rel=1e-5)
    before, after = (sum(e.mean for e in one.information) for one in (uniform, fitted))
    gain = before - after
    assert gain > 0 and fitted.elbo.mean - uniform.elbo.mean == pytest.approx(gain, rel=1e-4)
    # for a prior of independent positions the best is the entropy of each
    share = F.one_hot(top.q.index, 6).double().mean(dim=0)
    assert cross_entropy > torch.special.entr(share).sum().item() - 1e-4


# Which level carries what


def test_usage_is_that_of_a_whole_split_and_not_of_a_batch(first_stage, tiny_data, monkeypatch):
    model, x = first_stage, tiny_data.test.batch(slice(None))
    table = diagnose(model, tiny_data, num_samples=2, index_code=False)
    with torch.no_grad():
        levels = model.eval()(x).levels
    for row, level in zip(table.itertuples(), levels, strict=True):
        counts = torch.bincount(level.q.index.flatten(), minlength=6).double()
        entropy = torch.special.entr(counts / counts.sum()).sum()
        assert row.live_codes == (counts > 0).sum()
        assert row.perplexity == pytest.approx(entropy.exp().item())
    monkeypatch.setattr("hvae_course.analysis.diagnostics.rows_in_memory", lambda *_, **__: 7)
    chunks = diagnose(model, tiny_data, num_samples=2, index_code=False)
    for name in ("live_codes", "perplexity"):
        assert chunks[name].tolist() == pytest.approx(table[name].tolist())
    by_level = analysis.information_by_level(
        model, evaluate(model, tiny_data, num_samples=1, max_rows=200)
    )
    assert by_level["resolution"].tolist() == ["4x4", "2x2"]
    assert by_level["information"].tolist() == pytest.approx(table["information"].tolist())


def test_levels_without_codes_have_no_usage(make_model, tiny_data):
    assert "perplexity" not in diagnose(make_model("ladder_vae"), tiny_data, index_code=False)


def test_the_index_code_of_codes_is_their_entropy():
    """The posterior is a function of x, so what it says about x is how codes differ."""
    model, x = small().eval(), binary(40)
    levels = analysis.infer(model, x).levels
    joint = torch.cat([level.q.index.flatten(1) for level in levels], dim=1)
    _, counts = joint.unique(dim=0, return_counts=True)
    entropy = torch.special.entr(counts.double() / 40).sum()
    index, marginal = aggregate_split(model, x)
    torch.testing.assert_close(sum(index).mean(), entropy)
    for code, rest, level in zip(index, marginal, levels, strict=True):
        torch.testing.assert_close(code + rest, level.information)


def test_samples_are_images_of_codes_from_the_priors(first_stage):
    trace = analysis.sample(first_stage, 5, seed=1)
    assert trace.px.sample().shape == (5, 64)
    for level, rule in zip(trace.levels, first_stage.posterior.rules, strict=True):
        vectors = level.z.movedim(1, -1)
        rows = rule.head[1].rows
        torch.testing.assert_close(rows[nearest(vectors, rows)], vectors)
    with pytest.raises(TypeError, match="the prior of z_2 is a Codes; sample with temperature=1"):
        analysis.sample(first_stage, 2, temperature=0.5)


def test_a_conditional_model_of_codes_reads_labels_at_every_level_but_the_top_prior(make_model):
    model = make_model("vq_vae", conditional=True).eval()
    x, y = torch.rand(4, 64).round(), torch.tensor([0, 1, 2, 3])
    trace = model(x, 2, y=y)
    assert elbo(trace, x).isfinite().all()
    assert model.generate(4, y=y).px.mean.shape == (4, 64)


def test_recipes_take_codes_by_their_name():
    model = recipes.vq_vae(DataSpec((8, 8), 2), latent_sizes=(4,), codes_options={"num_codes": 3})
    assert model.num_levels == 1 and model.prior.logits.shape == (3, 8, 8)
    assert model.config["codes_options"] == {"num_codes": 3}
