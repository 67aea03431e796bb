"""BIVA: which latents are drawn when, what each depends on, and exact answers."""

import math

import pytest
import torch
from deep_models import LINEAR, REAL, fit_posterior, held, make_linear, reads, weight_ratios
from linear_gaussian import D, agree, standard_error
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from hvae_course import analysis, recipes
from hvae_course.config import Model
from hvae_course.convolutions import Residual, last_layer
from hvae_course.data import DataSpec
from hvae_course.gaussians import diag_normal, kl_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, SkipUpdate, TopDown, common_noise
from hvae_course.objectives import FreeBits, Weighted, elbo
from hvae_course.oracles.layers import LinearGaussianLikelihood
from hvae_course.posteriors import BIVA, Concatenation
from hvae_course.priors import StandardNormal
from hvae_course.recipes import build, read_config
from hvae_course.recipes.convolutional import MapEntry

NAMES = ("B_1", "T_1", "B_2", "T_2", "z_3")
STAGES = ((4, 2, 6), (2, 3, 5))
SPEC = DataSpec((8, 8), 2, num_classes=3)


def small(*, sizes=(2, 3, 1, 2, 2), spec=SPEC, seed=0, stages=STAGES, **settings):
    networks = {"stages": stages, "zero_priors": False, **settings.pop("networks_options", {})}
    torch.manual_seed(seed)
    return recipes.biva(spec, latent_sizes=sizes, networks_options=networks, **settings)


def binary(n, size=64):
    return torch.bernoulli(torch.full((n, size), 0.5))


# What each latent depends on


ABOVE = {"B_1": {"B_2", "T_2", "z_3"}, "T_1": {"B_2", "T_2", "z_3"}}
PRIORS = ABOVE | {"B_2": {"z_3"}, "T_2": {"z_3"}, "z_3": set()}
POSTERIORS = {
    "B_1": {"x"},
    "B_2": {"x", "B_1"},
    "z_3": {"x", "B_1", "B_2"},
    "T_2": {"x", "B_1", "z_3"},
    "T_1": {"x", "B_2", "T_2", "z_3"},
}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("stages", [STAGES, ((4, 5, 6),)], ids=["two stages", "one"])
def test_every_latent_depends_on_what_the_equations_say(stages, conditional):
    """In a public port VAE and BIVA had each other's stages; gradients tell them apart."""
    model = small(stages=stages, conditional=conditional)
    x, y = binary(3).requires_grad_(), torch.tensor([0, 2, 1]) if conditional else None
    latents = [level.z.detach().requires_grad_() for level in model(x, y=y).levels]
    leaves = {"x": x} | dict(zip(NAMES, latents, strict=True))
    trace = held(model, x, latents, y)
    for name, level in zip(NAMES, trace.levels, strict=True):
        assert reads(level.q, leaves) == POSTERIORS[name], name
        assert reads(level.p, leaves) == PRIORS[name], name
    gradients = torch.autograd.grad(trace.px.log_prob(x.detach()).sum(), latents)
    assert all((gradient != 0).any() for gradient in gradients)


def test_a_label_reaches_every_part_but_the_top_prior():
    model, x = small(conditional=True).eval(), binary(1)
    latents = [level.z for level in model(x, y=torch.tensor([0])).levels]
    one, other = (held(model, x, latents, torch.tensor([y])) for y in (0, 1))
    for l, (a, b) in enumerate(zip(one.levels, other.levels, strict=True)):
        assert not torch.equal(a.q.mean, b.q.mean)
        assert torch.equal(a.p.mean, b.p.mean) == (l == 4)
    assert not torch.equal(one.px.mean, other.px.mean)


def test_the_latents_of_a_pair_are_independent_under_the_prior_and_read_one_state():
    model = small().eval()
    walks = []
    for t_2 in (0.0, 5.0):
        noise = [torch.zeros(1, *level.z.shape[1:]) for level in model.generate(1).levels]
        noise[3] = noise[3] + t_2
        walks.append(model.generate(1, common_noise(noise)).levels)
    assert torch.equal(walks[0][2].p.mean, walks[1][2].p.mean)  # of B_2
    assert not torch.equal(walks[0][1].p.mean, walks[1][1].p.mean)  # of T_1


# Order of the draws, and scores of held latents


@pytest.mark.parametrize("sizes", [(2,), (2, 2, 2), (1, 2, 3, 2, 1, 2, 2)], ids=len)
def test_every_second_latent_below_the_top_is_drawn_on_the_way_up(sizes):
    model = small(sizes=sizes, stages=((4, len(sizes), 6),))
    pairs = len(sizes) // 2
    assert model.posterior.draws_bottom_up == (True, False) * pairs + (False,)
    order = analysis.layers.draw_order(model)
    up, down = range(0, 2 * pairs, 2), range(2 * pairs - 1, 0, -2)
    assert order == [*up, 2 * pairs, *down]
    assert torch.isfinite(model(binary(2), 3).log_weight(binary(2))).all()


@pytest.mark.parametrize("conditional", [False, True])
def test_held_draws_have_the_density_that_they_were_drawn_with(conditional):
    model, x = small(conditional=conditional).eval(), binary(4)
    y = torch.tensor([0, 2, 1, 1]) if conditional else None
    drawn = model(x, y=y)
    again = held(model, x, [level.z for level in drawn.levels], y)
    for one, other in zip(drawn.levels, again.levels, strict=True):
        torch.testing.assert_close(one.q.log_prob(one.z), other.q.log_prob(other.z))
        torch.testing.assert_close(one.p.log_prob(one.z), other.p.log_prob(other.z))
    torch.testing.assert_close(drawn.log_weight(x), again.log_weight(x))


def test_the_top_has_a_posterior_of_x_alone_only_in_a_model_of_one_latent():
    x = binary(2)
    with pytest.raises(TypeError, match=r"q\(z_L \| x, B_<L\) depends on latents drawn below it"):
        small().encode_top(x)
    model = small(sizes=(2,), stages=((4, 1, 6),)).eval()
    torch.testing.assert_close(model.encode_top(x).mean, model(x).levels[0].q.mean)
    with pytest.raises(TypeError, match="so no prior can be built from it"):
        small(prior="vamp")


def test_parts_that_do_not_fit_together_are_refused():
    one, rule = nn.Identity(), Concatenation(nn.Identity())
    with pytest.raises(ValueError, match="got 2 and 1 modules, 1 heads and 1 rules"):
        BIVA([one, one], [one], heads=[one], rules=[rule], top=one)
    with pytest.raises(ValueError, match="got 2 and 2 modules, 1 heads and 0 rules"):
        BIVA([one, one], [one, one], heads=[one], rules=[], top=one)


# An exact model


class Linear(nn.Module):
    """N(W v, diag(s^2)) of a vector v."""

    def __init__(self, slopes: Tensor, variances: Tensor) -> None:
        super().__init__()
        self.slopes, self.log_std = slopes, variances.log() / 2

    def forward(self, v: Tensor) -> Independent:
        return diag_normal(v @ self.slopes.T, self.log_std.expand(len(v), -1))


X = [0, 1]
B_1, T_1, B_2, T_2, Z = range(2, 7)
SLOPES = {B_2: {Z: 0.8}, T_2: {Z: -0.7}, B_1: {B_2: 1.1}, T_1: {T_2: 0.9}}
APART = SLOPES | {0: {B_1: 1.2}, 1: {T_1: 0.8}}
"""Two chains from z_3 to one half of x each, so that given x and z_3 they are independent."""
MIXED = SLOPES | {0: {B_1: 1.2, T_1: 1.0}, 1: {T_1: 0.8, B_1: 0.4}}
"""Both chains explain both halves of x."""
VARIANCES = torch.tensor([0.3, 0.4, 0.5, 0.6, 0.4, 0.3, 1.0], dtype=D)


def covariance(slopes: dict) -> Tensor:
    """Covariance of (x, B_1, T_1, B_2, T_2, z_3)."""
    weights = torch.zeros(7, 7, dtype=D)
    for i, row in slopes.items():
        for j, slope in row.items():
            weights[i, j] = slope
    rows = torch.linalg.inv(torch.eye(7, dtype=D) - weights) * VARIANCES.sqrt()
    return rows @ rows.T


def given(c: Tensor, of: list[int], read: list[int]) -> Linear:
    """Conditional of some variables, independent of each other, given others."""
    slopes = torch.linalg.solve(c[read][:, read], c[read][:, of]).T
    return Linear(slopes, (c[of][:, of] - slopes @ c[read][:, of]).diagonal())


class Append(nn.Module):
    """The path that takes up draws: x and all draws so far."""

    def forward(self, u: Tensor, e_and_b: Tensor) -> Tensor:
        return torch.cat([u, e_and_b[:, -1:]], dim=1)


class Copy(nn.Module):
    """The other path, here a copy of the first."""

    def forward(self, e: Tensor, u: Tensor) -> Tensor:
        return u


class FirstHalf(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, v: Tensor) -> Independent:
        return self.inner(v.chunk(2, dim=1)[0])


READS = {
    B_1: X,
    B_2: [*X, B_1],
    Z: [*X, B_1, B_2],
    T_2: [*X, B_1, Z],
    T_1: [*X, Z, T_2, B_2],
}
"""What the posterior of each latent reads, in the order of the draws."""


def exact(slopes: dict) -> HierarchicalVAE:
    """The model of these slopes, each latent of q with its exact conditional on what it reads."""
    c = covariance(slopes)
    states = {l: [Z, T_2, B_2, T_1, B_1][: 4 - l] for l in range(4)}  # top first
    posterior = BIVA(
        [nn.Identity(), Append(), Append()],
        [Copy(), Copy(), Copy()],
        heads=[given(c, [l], READS[l]) for l in (B_1, B_2)],
        rules=[Concatenation(given(c, [l], READS[l])) for l in (T_1, T_2)],
        top=FirstHalf(given(c, [Z], READS[Z])),
    )
    priors = [given(c, [2 + l], states[l]) for l in range(4)]
    return HierarchicalVAE(
        StandardNormal(1),
        BottomUp([nn.Identity()]),
        posterior=posterior,
        top_down=TopDown(
            [SkipUpdate() for _ in range(5)],
            priors,
            LinearGaussianLikelihood(given(c, X, [Z, T_2, B_2, T_1, B_1])),
        ),
    ).double()


def log_px(slopes: dict, x: Tensor) -> Tensor:
    c = covariance(slopes)[:2, :2]
    return MultivariateNormal(torch.zeros(2, dtype=D), c).log_prob(x)


def draw_x(slopes: dict, n: int) -> Tensor:
    root = torch.linalg.cholesky(covariance(slopes)[:2, :2])
    generator = torch.Generator().manual_seed(7)
    return torch.randn(n, 2, generator=generator, dtype=D) @ root.T


@pytest.mark.equation("eq-biva")
def test_with_the_exact_posterior_every_draw_gives_the_evidence():
    """Where B and T explain different parts of x, the family holds the exact posterior."""
    x = draw_x(APART, 64)
    expected = log_px(APART, x).repeat_interleave(5)
    log_w = exact(APART)(x, 5).log_weight(x)
    torch.testing.assert_close(log_w, expected, rtol=0, atol=1e-12)


def test_a_posterior_of_t_that_does_not_read_b_leaves_a_gap_of_known_size():
    """log p(x) - ELBO is the KL divergence of q, here the product of its exact conditionals."""
    c = covariance(MIXED)
    joint = torch.zeros_like(c)  # of x under p and the latents under q
    joint[:2, :2], done = c[:2, :2], [*X]
    for l, read in READS.items():
        q = given(c, [l], read)
        slopes = torch.zeros(len(done), dtype=D)
        slopes[[done.index(i) for i in read]] = q.slopes[0]
        joint[l, done] = joint[done, l] = joint[done][:, done] @ slopes
        joint[l, l] = slopes @ joint[l, done] + (2 * q.log_std).exp()
        done.append(l)
    zero = torch.zeros(7, dtype=D)
    gap = kl_divergence(MultivariateNormal(zero, joint), MultivariateNormal(zero, c)).item()
    assert gap > 0.05
    x = draw_x(MIXED, 40_000)
    assert agree(log_px(MIXED, x) - elbo(exact(MIXED)(x), x), gap)


def test_the_importance_weighted_estimate_of_p_is_unbiased_with_that_gap():
    x = draw_x(MIXED, 3)
    log_w = exact(MIXED)(x, 100_000).log_weight(x).unflatten(0, (3, -1))
    for ratio in (log_w - log_px(MIXED, x)[:, None]).exp():
        assert agree(ratio, 1.0) and standard_error(ratio) < 0.01


# Analytic KL divergences


def test_the_closed_form_of_a_kl_is_a_term_of_the_elbo_for_t_and_the_top_but_not_for_b():
    """z_>l is drawn given B_l, so E log q(B_l) - log p(B_l | z_>l) is no KL given z_>l."""
    x = draw_x(APART, 1).expand(50_000, 2)
    trace = exact(APART)(x)
    differences = [kl_normal(level.q, level.p) - level.information for level in trace.levels]
    for name, difference in zip(NAMES, differences, strict=True):
        if name.startswith("B"):
            assert difference.mean() > 50 * standard_error(difference)
        else:
            assert agree(difference, 0.0)
    wrong = trace.log_px(x) - sum(kl_normal(level.q, level.p) for level in trace.levels)
    expected = log_px(APART, x[:1]).item()
    assert expected - wrong.mean() > 50 * standard_error(wrong)
    assert expected - wrong.mean() > 0.5  # nats


def test_objectives_and_diagnosis_take_the_log_ratio_of_the_draw(tiny_data):
    x = draw_x(APART, 1).expand(20_000, 2)
    trace, expected = exact(APART)(x), log_px(APART, x)
    for objective in (elbo, Weighted(), Weighted((1.0,) * 5)):
        torch.testing.assert_close(objective(trace, x), expected, rtol=0, atol=1e-12)
    nats = [level.information.mean().item() for level in trace.levels]
    closed = [kl_normal(level.q, level.p).mean().item() for level in trace.levels]
    for l in (0, 2):  # between the two, a floor binds that would not under the closed form
        floor = (nats[l] + closed[l]) / 2
        floors = tuple(floor if k == l else 0.0 for k in range(5))
        below = {k for k in range(5) if nats[k] < floors[k]}
        raised = sum(floors[k] - nats[k] for k in below)
        assert l in below
        value = FreeBits(floors)(trace, x).mean()
        torch.testing.assert_close(value, expected.mean() - raised, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("weights", "is_bound"),
    [
        ((1, 1, 1, 1, 3), True),
        ((1, 3, 1, 1, 1), True),
        ((1, 1, 1, 3, 1), True),
        ((2, 1, 2, 2, 2), True),  # no level below T_1 reads it in its prior
        ((1, 1, 2, 3, 2), True),
        ((2, 1, 1, 1, 1), False),
    ],
)
def test_weights_of_at_least_one_give_a_bound_if_no_b_weighs_more_than_what_is_above_it(
    weights, is_bound, monkeypatch
):
    """Where x says little and z_>1 much about B_1, its term of the ELBO is negative."""
    variances = torch.tensor([4.0, 4.0, 0.05, 0.6, 0.05, 0.3, 1.0], dtype=D)
    monkeypatch.setitem(globals(), "VARIANCES", variances)
    x = draw_x(APART, 1).expand(20_000, 2)
    trace, expected = exact(APART)(x), log_px(APART, x[:1])
    assert (trace.levels[0].information.mean() < -1) and torch.allclose(elbo(trace, x), expected)
    above = Weighted(tuple(map(float, weights)))(trace, x) - expected
    if is_bound:
        assert above.mean() < 5 * standard_error(above)
    else:
        assert above.mean() > 50 * standard_error(above)


# Scales


def heads(model: HierarchicalVAE) -> list[nn.Module]:
    """Modules that give the posteriors of all latents."""
    posterior = model.posterior
    return [*posterior.heads, posterior.top_head, *(rule.rule.head for rule in posterior.rules)]


def test_scales_of_posteriors_and_priors_have_no_floor_at_one():
    """In both public versions the log-variance passes a softplus, so that sigma >= 1."""
    model = small().eval()
    for head in [*heads(model), *(part.part for part in model.top_down.conditionals)]:
        last = last_layer(head.net)
        with torch.no_grad():
            last.weight[len(last.weight) // 2 :] = 0
            last.bias[len(last.bias) // 2 :] = -3.0
    for l, level in enumerate(model(binary(3)).levels):
        assert level.q.stddev.max() < 0.1
        assert level.p.stddev.max() < 0.1 or l == 4


@pytest.mark.parametrize("nats", [0.5, 1.0, 2.0])
def test_a_floor_of_one_makes_information_in_the_top_latent_expensive(nats):
    r"""The KL from N(0, 1) is (e^{2I} - 1) / 2 for I nats of a latent with sigma >= 1, else I.

    q(z | x) = N(m, s^2) with m ~ N(0, v) over the data says I = log(1 + v / s^2) / 2 about x. One
    nat costs 3.2, and two cost 26.8.
    """
    nodes = Normal(0.0, 1.0).icdf((torch.arange(4000, dtype=D) + 0.5) / 4000)
    prices = {}
    for std in torch.linspace(0.05, 1.5, 600, dtype=D).tolist() + [1.0, math.exp(-nats)]:
        means = nodes[:, None] * std * math.sqrt(math.expm1(2 * nats))
        q = diag_normal(means, means.new_tensor(math.log(std)))
        p = diag_normal(torch.zeros_like(means), torch.zeros_like(means))
        prices[std] = kl_normal(q, p).mean().item()
    assert min(prices.values()) == prices[math.exp(-nats)] == pytest.approx(nats, rel=5e-3)
    cheapest = min(price for std, price in prices.items() if std >= 1)
    assert cheapest == prices[1.0] == pytest.approx(math.expm1(2 * nats) / 2, rel=5e-3)


# The recipe


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_start_is_scaled_by_the_steps_of_each_path_and_not_by_the_number_of_latents(blocks):
    """Three levels are five latents on the way down, and four steps on each path upward."""
    plain, scaled = (
        small(networks_options={"depth_scaled": scaled, "blocks": blocks})
        for scaled in (False, True)
    )

    def ratios(part: str) -> list[float]:
        both = (model.get_submodule(part).modules() for model in (plain, scaled))
        found = []
        for one, other in zip(*both, strict=True):
            if isinstance(one, Residual):
                one, other = last_layer(one.body), last_layer(other.body)
            elif isinstance(one, MapEntry):
                one, other = one.enter, other.enter
            else:
                continue
            found.append((one.weight / other.weight).square().mean().item())
        return found

    assert ratios("bottom_up") == pytest.approx([4 * blocks] * blocks)
    entry = [3.0, *[4 * blocks] * blocks]
    assert ratios("posterior.draws") == pytest.approx([4 * blocks] * blocks + 2 * entry)
    assert ratios("posterior.features") == pytest.approx(3 * entry)
    assert ratios("top_down.updates") == pytest.approx([5 * blocks] * 5 * blocks)


def test_importance_weights_of_the_recipe_agree_with_the_exact_evidence():
    """p is linear-Gaussian, q the recipe's posterior."""
    model = make_linear(recipes.biva(REAL, latent_sizes=(1, 1, 1), **LINEAR))
    fit_posterior(model)
    for ratios in weight_ratios(model, 3, 10_000):
        assert agree(ratios, 1.0) and standard_error(ratios) < 0.05


def test_usual_stages_keep_the_pairs_of_a_level_together():
    for sizes in ((2,) * 3, (2,) * 5, (2,) * 9):
        for shape in ((8, 8), (28, 28), (3, 32, 32)):
            model = recipes.biva(DataSpec(shape, 2), latent_sizes=sizes)
            shapes = analysis.latent_shapes(model)
            assert all(shapes[l] == shapes[l + 1] for l in range(0, len(sizes) - 1, 2))
            assert shapes[0] != shapes[-1] or len({shape[1] for shape in shapes}) == 1


@pytest.mark.parametrize("conditional", [False, True])
def test_every_parameter_receives_a_gradient(conditional, assert_finite_gradients):
    model, x = small(conditional=conditional), binary(5)
    y = torch.tensor([0, 2, 1, 1, 0]) if conditional else None
    assert_finite_gradients(model, -elbo(model(x, y=y), x).mean())
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


def test_a_model_is_built_again_from_its_configuration():
    model, x = small(conditional=True).eval(), binary(2)
    again = build(model.config).eval()
    again.load_state_dict(model.state_dict())
    y = torch.tensor([0, 1])
    assert read_config(model.config)[0] == Model(
        recipe="biva",
        latent_sizes=(2, 3, 1, 2, 2),
        networks_options={"stages": STAGES, "zero_priors": False},
        conditional=True,
    )
    log_weights = []
    for one in (model, again):
        torch.manual_seed(3)
        log_weights.append(one(x, y=y).log_weight(x))
    assert torch.equal(*log_weights)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_step_and_a_walk_run_on_the_meta_device(conditional):
    model = small(conditional=conditional).to("meta")
    x = torch.empty(4, 64, device="meta")
    y = torch.empty(4, dtype=torch.int64, device="meta") if conditional else None
    optimiser = torch.optim.Adam(model.parameters())
    (-elbo(model(x, 2, y=y), x).mean()).backward()
    optimiser.step()
    assert model.generate(4, y=y).px.mean.shape == (4, 64)


def test_training_raises_the_bound_and_the_analysis_reads_the_model(tiny_binary, train):
    model = small(spec=tiny_binary.spec)
    history = train(model, tiny_binary, epochs=6, learning_rate=3e-3).frame
    bounds = history[(history["split"] == "validation") & (history["quantity"] == "elbo")]
    assert bounds["value"].iloc[-1] > bounds["value"].iloc[0] + 5
    table = analysis.diagnose(model, tiny_binary, split="test", max_examples=20, num_samples=2)
    assert list(table["units"]) == [2 * 16, 3 * 16, 1 * 4, 2 * 4, 2 * 4]
    assert table["index_code"].notna().all()
    image = tiny_binary.test.batch(slice(0, 2))
    assert analysis.reconstruct(model, image, deterministic=True).px.mean.shape == (2, 64)
