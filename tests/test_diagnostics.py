"""The table of a model's levels, against linear-Gaussian hierarchies and brute force."""

import math

import pandas as pd
import pytest
import torch
from linear_gaussian import CHAINS, D, agree, standard_error
from recipe_kinds import GAUSSIAN
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from hvae_course.analysis import aggregate_split, diagnose
from hvae_course.data import DataSet, Split
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import HierarchicalVAE, Trace
from hvae_course.oracles import LinearGaussian
from hvae_course.posteriors import Chain, Direct, PosteriorRule, TopDownPosterior
from hvae_course.seeding import seed_all

depths = pytest.mark.parametrize("num_levels", [1, 2, 3])
kinds = pytest.mark.parametrize("kind", ["chain", "top-down"])
COLUMNS = ["level", "information", "share", "units", "active_units", "informative_units"]
COLUMNS += ["index_code", "marginal_kl", "status"]


class Shifted(PosteriorRule):
    """The prior moved by the same shift for every example; (0, 0) is a level that collapsed."""

    def __init__(self, *shift: float) -> None:
        super().__init__()
        self.shift = torch.tensor(shift, dtype=D)

    def forward(self, d: Tensor, h: Tensor, p: Distribution) -> Distribution:
        return diag_normal(p.mean + self.shift, p.base_dist.scale.log())


def exact(chain: LinearGaussian, kind: str) -> HierarchicalVAE:
    if kind == "chain":
        return chain.hvae(Chain(chain.posterior_chain()))
    return chain.hvae(chain.exact_rules("concatenation"))


def data_of(x: Tensor) -> DataSet:
    """A data set of these examples."""
    part = Split(x.detach(), None, None)
    return DataSet("chain", (x.shape[1],), None, "none", part, part, part)


def draw_and_split(model: HierarchicalVAE, x: Tensor, **settings: int) -> tuple[Trace, Tensor]:
    """A draw per example, and the two parts of the information of the same draw, (2, L, N)."""
    torch.manual_seed(7)
    trace = model(x)
    torch.manual_seed(7)
    index, marginal = aggregate_split(model, x, **settings)
    return trace, torch.stack([torch.stack(index), torch.stack(marginal)])


def log_joint(chain: LinearGaussian, x: Tensor, z: Tensor, levels: list[int]) -> Tensor:
    """Exact log q(z_levels^n | x_m), (N, N), from the covariance; levels are counted from 1."""
    c = chain.covariance()
    gain = c[levels, 0] / c[0, 0]
    left = c[levels][:, levels] - torch.outer(gain, c[0, levels])
    mean = gain * x[..., None]  # (N, copies, levels)
    given = MultivariateNormal(mean, left)
    return given.log_prob(z[:, None, :, :][..., [l - 1 for l in levels]]).sum(dim=-1)


# The split at the aggregated posterior


@kinds
@depths
def test_the_split_agrees_with_brute_force_over_all_pairs_of_examples(kind, num_levels):
    """The posterior comes from the covariance here, and from rules or heads in the model."""
    chain = CHAINS[num_levels]
    x = chain.sample_x(9)
    trace, (index, marginal) = draw_and_split(exact(chain, kind), x)
    z = torch.stack([level.z for level in trace.levels], dim=-1)
    for l in range(1, num_levels + 1):
        before = list(range(1, l)) if kind == "chain" else list(range(l + 1, num_levels + 1))
        both = log_joint(chain, x, z, sorted([l, *before]))
        own, aggregate = both.diagonal(), both.logsumexp(dim=1)
        if before:
            alone = log_joint(chain, x, z, before)
            own, aggregate = own - alone.diagonal(), aggregate - alone.logsumexp(dim=1)
        else:
            aggregate = aggregate - math.log(9)
        log_p = trace.levels[l - 1].p.log_prob(trace.levels[l - 1].z)
        torch.testing.assert_close(index[l - 1], own - aggregate, rtol=0, atol=1e-10)
        torch.testing.assert_close(marginal[l - 1], aggregate - log_p, rtol=0, atol=1e-10)


@kinds
@depths
def test_index_code_and_marginal_kl_of_a_draw_add_up_to_its_information(kind, num_levels):
    chain = CHAINS[num_levels]
    trace, (index, marginal) = draw_and_split(exact(chain, kind), chain.sample_x(20))
    for l, level in enumerate(trace.levels):
        torch.testing.assert_close(index[l] + marginal[l], level.information, rtol=0, atol=1e-10)


@kinds
@depths
def test_no_draw_tells_more_than_log_n_and_the_mean_tells_no_less_than_nothing(kind, num_levels):
    chain = CHAINS[num_levels]
    for n in (2, 50):
        _, (index, _) = draw_and_split(exact(chain, kind), chain.sample_x(n))
        assert (index.sum(dim=0) <= math.log(n) + 1e-12).all()
        assert 0 < index.sum(dim=0).mean() < math.log(n)


@kinds
def test_far_apart_examples_are_told_apart_and_equal_ones_are_not(kind):
    model = exact(CHAINS[2], kind)
    far = 1e3 * torch.arange(6, dtype=D)[:, None].expand(-1, 2)
    _, (index, _) = draw_and_split(model, far)
    torch.testing.assert_close(index.sum(dim=0), torch.full((6,), math.log(6), dtype=D))
    _, (index, _) = draw_and_split(model, far[:1].expand(6, -1))
    torch.testing.assert_close(index, torch.zeros_like(index), rtol=0, atol=1e-10)


@depths
def test_in_a_chain_only_z_1_knows_which_example_it_was_drawn_for(num_levels):
    chain = CHAINS[num_levels]
    _, (index, _) = draw_and_split(exact(chain, "chain"), chain.sample_x(20))
    assert index[0].mean() > 0.1
    torch.testing.assert_close(index[1:], torch.zeros_like(index[1:]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("max_rows", [1, 21, 59, 400, 10_000])
@kinds
def test_chunks_change_nothing(kind, max_rows):
    chain = CHAINS[3]
    model, x = exact(chain, kind), chain.sample_x(20)
    _, whole = draw_and_split(model, x)
    _, cut = draw_and_split(model, x, max_rows=max_rows)
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-12)


def test_a_recipe_is_split_with_the_features_of_every_example(make_model, tiny_data):
    """By hand for one pair: the draw of example 0 under the posterior of example 3."""
    model, x = make_model("bidirectional_vae").eval(), tiny_data.test.batch(slice(0, 4))
    with torch.no_grad():
        trace, (index, marginal) = draw_and_split(model, x)
        z = [level.z[:1].expand(4, -1) for level in trace.levels]
        choose = model.posterior.score(model.bottom_up(x), z)
        scored, _ = model.top_down.walk(model.prior(), choose, 4)
    top = scored[1].q.log_prob(scored[1].z)  # of the first draw, under everyone's posterior
    torch.testing.assert_close(index[1, 0], top[0] - top.logsumexp(0) + math.log(4))
    joint = top + scored[0].q.log_prob(scored[0].z)
    torch.testing.assert_close(index[:, 0].sum(), joint[0] - joint.logsumexp(0) + math.log(4))
    information = torch.stack([level.information for level in trace.levels])
    torch.testing.assert_close(index + marginal, information, rtol=1e-4, atol=1e-4)


# The table


def information_of_exact(chain: LinearGaussian, kind: str) -> list[float]:
    """E log q(z_l | .) - log p(z_l | z_l+1) in nats, in expectation over data as well."""
    c, num_levels = chain.covariance(), chain.num_levels

    def variance(l: int, *given: int) -> Tensor:
        own = c[given, :][:, given]
        return c[l, l] - c[l, given] @ torch.linalg.solve(own, c[given, l]) if given else c[l, l]

    information = []
    for l in range(1, num_levels + 1):
        above = (l + 1,) if l < num_levels else ()
        given = (l - 1,) if kind == "chain" else (0, *above)
        information.append(0.5 * chain.size * (variance(l, *above) / variance(l, *given)).log())
    return [value.item() for value in information]


@kinds
@depths
def test_information_of_the_exact_posterior_has_its_closed_form(kind, num_levels):
    chain, expected = CHAINS[num_levels], information_of_exact(CHAINS[num_levels], kind)
    x, model = chain.sample_x(4_000, seed=1), exact(chain, kind)
    for level, closed_form in zip(model(x).levels, expected, strict=True):
        assert agree(level.information, closed_form)
    table = diagnose(model, data_of(x), max_examples=200)
    assert table["information"].tolist() == pytest.approx(expected, abs=0.25)


@kinds
@depths
def test_the_index_code_rises_to_the_mutual_information_of_data_and_latents(kind, num_levels):
    """I(x; z) = I(x; z_1); what N examples show of it is a lower bound, close from N = 200."""
    chain, seen = CHAINS[num_levels], []
    for n in (4, 200):
        _, (index, _) = draw_and_split(exact(chain, kind), chain.sample_x(n, seed=1))
        seen.append(index.sum(dim=0))
    limit = 0.5 * chain.size * math.log(chain.covariance()[0, 0] / chain.variances[0])
    assert seen[0].mean() < seen[1].mean() < limit + 5 * standard_error(seen[1])
    assert seen[1].mean() > limit - 5 * standard_error(seen[1]) - 0.1


def with_rules(bottom: PosteriorRule, top: PosteriorRule | None = None) -> HierarchicalVAE:
    """CHAINS[2] with another posterior of z_1, and the exact one of z_2 if no other is given."""
    rules = TopDownPosterior([bottom, top or Direct(CHAINS[2].posterior_marginals()[1])])
    return CHAINS[2].hvae(rules)


def test_a_level_that_collapsed_is_reported_although_its_mean_follows_its_prior():
    table = diagnose(with_rules(Shifted(0, 0)), data_of(CHAINS[2].sample_x(200)))
    z1, z2 = (table.loc[l] for l in (0, 1))
    assert (z1["status"], z1["informative_units"], z1["active_units"]) == ("collapsed", 0, 2)
    assert z1["information"] == pytest.approx(0, abs=1e-10)
    assert z1["index_code"] == pytest.approx(0, abs=1e-10)
    assert (z2["status"], z2["informative_units"], z2["active_units"]) == ("active", 2, 2)
    assert z2["share"] == pytest.approx(1) and z2["index_code"] > 0.1


def test_a_posterior_that_is_the_same_for_all_examples_tells_nothing_about_them():
    model = with_rules(Shifted(0, 0), Shifted(2, 0))
    z2 = diagnose(model, data_of(CHAINS[2].sample_x(200))).loc[1]
    assert z2["information"] == pytest.approx(2, abs=0.3)  # 2^2 / 2
    assert (z2["status"], z2["informative_units"], z2["active_units"]) == ("active", 1, 0)
    assert z2["index_code"] == pytest.approx(0, abs=1e-10)
    assert z2["marginal_kl"] == pytest.approx(z2["information"])


@kinds
def test_units_count_by_how_far_the_mean_of_z_given_x_moves_over_the_data(kind):
    """Draws of the other levels move it too, but are no variation over the data."""
    model, c, x = exact(CHAINS[2], kind), CHAINS[2].covariance(), CHAINS[2].sample_x(150)
    x = x * (c[0, 0].sqrt() / x.std(dim=0))
    still = diagnose(model, data_of(x[:1].expand(150, -1)))
    assert (still["active_units"] == 0).all()
    for l, exact_variance in enumerate((c[0, 1:] ** 2 / c[0, 0]).tolist()):
        for factor, count in ((0.9, 2), (1.1, 0)):
            table = diagnose(model, data_of(x), unit_threshold=factor * exact_variance)
            assert table["active_units"][l] == count
    none = diagnose(model, data_of(x[:9]), threshold=1e3, unit_threshold=1e3)
    assert (none["status"] == "collapsed").all() and (none["informative_units"] == 0).all()


def test_where_no_level_carries_anything_there_are_no_shares():
    table = diagnose(
        CHAINS[1].hvae(TopDownPosterior([Shifted(0, 0)])), data_of(CHAINS[1].sample_x(9))
    )
    assert (table["information"] == 0).all() and table["share"].isna().all()


@pytest.mark.parametrize("recipe", GAUSSIAN)
def test_the_table_is_what_its_draws_say_from_z_1_upward(recipe, make_model, tiny_data):
    model = make_model(recipe, latent_sizes=(4, 3, 2)).eval()
    table = diagnose(model, tiny_data, split="validation", num_samples=3, max_examples=40, seed=5)
    x = tiny_data.validation.batch(slice(0, 40))
    with torch.no_grad():
        seed_all(5)
        trace = model(x, 3)
        index, _ = aggregate_split(model, x)
    assert list(table.columns) == COLUMNS
    assert table["level"].tolist() == [1, 2, 3] and table["units"].tolist() == [4, 3, 2]
    information = [level.information.mean().item() for level in trace.levels]
    assert table["information"].tolist() == pytest.approx(information)
    assert table["share"].sum() == pytest.approx(1)
    assert table["index_code"].tolist() == pytest.approx([i.mean().item() for i in index])
    assert (table["index_code"] + table["marginal_kl"]).tolist() == pytest.approx(information)
    for l, level in enumerate(trace.levels):
        unit = level.q.base_dist.log_prob(level.z) - level.p.base_dist.log_prob(level.z)
        assert table["informative_units"][l] == (unit.mean(0) > 0.01).sum()


@pytest.mark.parametrize("data", ["tiny_data", "tiny_binary"])
def test_a_diagnosis_follows_from_its_seed_and_leaves_the_model_and_the_caller_alone(
    data, make_model, request
):
    data = request.getfixturevalue(data)
    model = make_model("delta_vae", data).train()
    before, weights = torch.get_rng_state(), str(model.state_dict())
    settings = {"split": "train", "max_examples": 20}  # where binary pixels are redrawn
    first = diagnose(model, data, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and str(model.state_dict()) == weights
    torch.manual_seed(100)
    pd.testing.assert_frame_equal(diagnose(model, data, **settings), first)
    assert not diagnose(model, data, **settings, seed=1).equals(first)


@pytest.mark.parametrize(
    ("settings", "got"), [({"max_examples": 1}, "1 and 10"), ({"num_samples": 0}, "60 and 0")]
)
def test_one_example_or_no_draws_are_refused(settings, got, make_model, tiny_data):
    match = f"it needs at least two examples and one draw, got {got}"
    with pytest.raises(ValueError, match=match):
        diagnose(make_model(), tiny_data, **settings)
