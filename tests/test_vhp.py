"""The variational hierarchical prior: a bound on log p(z), exact in linear-Gaussian cases."""

import math

import pytest
import torch
from linear_gaussian import D, agree, standard_error
from torch import nn

from hvae_course import Trace, recipes
from hvae_course.analysis import diagnose, evaluate
from hvae_course.data import DataSet, DataSpec, Split
from hvae_course.gaussians import GaussianHead, diag_normal, kl_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, Level, MarkovUpdate, TopDown, mean_of
from hvae_course.objectives import elbo, importance_weighted
from hvae_course.oracles import LinearGaussian, LinearGaussianLayer
from hvae_course.posteriors import Chain
from hvae_course.priors import VHP, StandardNormal

CHAIN = LinearGaussian((0.8, 0.9), (0.3, 0.4), size=2)  # zeta -> z -> x
PRIOR = LinearGaussian((0.9,), (0.4,), size=2)  # its upper half, z ~ N(0, 0.9^2 + 0.4)
EXACT = PRIOR.posterior_chain()[0]  # q(zeta | z) = p(zeta | z)
WRONG = LinearGaussianLayer(0.3, 0.6, 0.4)
EXACT_CODE = CHAIN.posterior_chain()[0]  # q(z | x) = p(z | x)
WRONG_CODE = LinearGaussianLayer(0.5, 0.4, 0.2)


def vhp(inference: nn.Module = WRONG, num_samples: int = 1) -> VHP:
    generative, zeta = PRIOR.layers()[0], StandardNormal(2)
    return VHP(generative, inference, size=2, zeta=zeta, num_samples=num_samples).double()


def model(code: nn.Module, inference: nn.Module, num_samples: int = 1) -> HierarchicalVAE:
    """The chain zeta -> z -> x as a VAE of one level, whose prior holds zeta."""
    likelihood = CHAIN.hvae(Chain(CHAIN.posterior_chain())).top_down.likelihood
    top_down = TopDown([MarkovUpdate()], [], likelihood)
    prior, bottom_up = vhp(inference, num_samples), BottomUp([nn.Identity()])
    return HierarchicalVAE(prior, bottom_up, posterior=Chain([code]), top_down=top_down).double()


def data_set(x: torch.Tensor) -> DataSet:
    split = Split(x, torch.zeros(len(x), dtype=torch.int64), None)
    return DataSet("chain", (1, x.shape[1]), None, "none", split, split, split)


@pytest.mark.equation("eq-vhp")
@pytest.mark.parametrize("num_samples", [1, 3, 16])
def test_with_the_exact_posterior_of_zeta_every_draw_gives_the_density(num_samples):
    z = PRIOR.sample_x(200)
    bound = vhp(EXACT, num_samples)().expand((200,)).log_prob(z)
    torch.testing.assert_close(bound, PRIOR.log_px(z), rtol=0, atol=1e-12)


@pytest.mark.equation("eq-vhp")
def test_the_bound_is_below_the_density_and_rises_with_the_draws():
    z = torch.tensor([1.2, -0.7], dtype=D).expand(40_000, -1)
    exact = PRIOR.log_px(z[:1])
    torch.manual_seed(0)
    bounds = [vhp(WRONG, k)().log_prob(z) for k in (1, 4, 16)]
    for lower, higher in zip(bounds, bounds[1:], strict=False):
        gap = higher.mean() - lower.mean()
        assert gap > 5 * (standard_error(lower) ** 2 + standard_error(higher) ** 2).sqrt()
    for bound in bounds:
        assert bound.mean() < exact - 5 * standard_error(bound)


@pytest.mark.equation("eq-vhp")
def test_one_draw_loses_the_distance_of_the_two_posteriors_of_zeta():
    z = torch.tensor([1.2, -0.7], dtype=D).expand(40_000, -1)
    torch.manual_seed(0)
    loss = PRIOR.log_px(z) - vhp()().log_prob(z)
    assert agree(loss, kl_normal(WRONG(z[:1]), EXACT(z[:1])))


@pytest.mark.equation("eq-vhp")
@pytest.mark.parametrize("num_samples", [1, 4])
def test_the_exponential_of_the_bound_is_unbiased(num_samples):
    z = torch.tensor([0.6, 0.5], dtype=D).expand(100_000, -1)
    close = LinearGaussianLayer(EXACT.slope, 1.5 * math.exp(2 * EXACT.log_std), 0.1)
    torch.manual_seed(0)
    assert agree(vhp(close, num_samples)().log_prob(z).exp(), PRIOR.log_px(z[:1]).exp())


@pytest.mark.equation("eq-vhp")
@pytest.mark.parametrize("code", [EXACT_CODE, WRONG_CODE], ids=["exact", "wrong"])
@pytest.mark.parametrize("inference", [EXACT, WRONG], ids=["exact", "wrong"])
def test_with_one_draw_the_prior_makes_the_two_level_chain(code, inference):
    """The same noise draws z and zeta in both models, so that every weight is the same."""
    x, weights = CHAIN.sample_x(64), []
    for hvae in (model(code, inference), CHAIN.hvae(Chain([code, inference]))):
        torch.manual_seed(1)
        weights.append(hvae(x).log_weight(x))
    torch.testing.assert_close(*weights, rtol=0, atol=1e-12)


@pytest.mark.equation("eq-vhp")
def test_with_one_draw_the_gradients_are_those_of_the_two_level_chain():
    x, gradients = CHAIN.sample_x(64), []
    for make in (model, lambda *heads: CHAIN.hvae(Chain(heads))):
        torch.manual_seed(3)
        heads = nn.ModuleList([GaussianHead(2, 2), GaussianHead(2, 2)]).double()
        hvae = make(*heads)
        torch.manual_seed(1)
        elbo(hvae(x), x).mean().backward()
        gradients.append([parameter.grad for parameter in heads.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.equation("eq-vhp-kl")
@pytest.mark.parametrize("num_samples", [1, 4])
def test_the_information_of_the_codes_is_above_their_kl_to_the_prior(num_samples):
    p = diag_normal(torch.zeros(1, 2, dtype=D), PRIOR.covariance()[0, 0].log() / 2)
    q = WRONG_CODE(torch.tensor([[0.9, -0.4]], dtype=D))
    torch.manual_seed(0)
    z = q.sample((40_000,))[:, 0]
    for inference, exact in ((EXACT, True), (WRONG, False)):
        prior = vhp(inference, num_samples)().expand((40_000,))
        level = Level(z, q.expand((40_000,)), prior)
        excess = level.information - kl_normal(q, p)
        assert agree(excess, 0.0) if exact else excess.mean() > 5 * standard_error(excess)


@pytest.mark.equation("eq-nested")
@pytest.mark.parametrize("num_samples", [1, 4, 16])
def test_with_both_exact_posteriors_every_nested_weight_is_the_evidence(num_samples):
    x = CHAIN.sample_x(50)
    expected, hvae = CHAIN.log_px(x), model(EXACT_CODE, EXACT, 3)
    torch.testing.assert_close(
        hvae(x, num_samples).log_weight(x),
        expected.repeat_interleave(num_samples),
        rtol=0,
        atol=1e-12,
    )
    result = evaluate(hvae, data_set(x), num_samples=num_samples)
    assert result.log_likelihood.mean == pytest.approx(expected.mean().item(), abs=1e-12)
    assert result.elbo.mean == pytest.approx(expected.mean().item(), abs=1e-12)


@pytest.mark.equation("eq-nested")
@pytest.mark.parametrize("inner", [1, 4])
@pytest.mark.parametrize("inference", [EXACT, WRONG], ids=["exact", "wrong"])
def test_the_nested_estimate_is_a_bound_that_rises_with_the_draws(inner, inference):
    x = torch.tensor([[0.7, -1.1]], dtype=D)
    hvae, copies = model(WRONG_CODE, inference, inner), x.expand(20_000, -1)
    torch.manual_seed(0)
    bounds = [importance_weighted(hvae(copies, s), copies) for s in (1, 4, 16)]
    for lower, higher in zip(bounds, bounds[1:], strict=False):
        gap = higher.mean() - lower.mean()
        assert gap > 5 * (standard_error(lower) ** 2 + standard_error(higher) ** 2).sqrt()
    for bound in bounds:
        assert bound.mean() < CHAIN.log_px(x) - 5 * standard_error(bound)
    result = evaluate(hvae, data_set(copies[:5000]), num_samples=4, batch_size=5000)
    spread = 5 * (result.log_likelihood.standard_error + standard_error(bounds[1]))
    assert abs(result.log_likelihood.mean - bounds[1].mean()) < spread


@pytest.mark.equation("eq-nested")
@pytest.mark.parametrize("outer", [1, 8])
def test_the_nested_estimate_rises_with_the_draws_of_the_prior(outer):
    copies = torch.tensor([[0.7, -1.1]], dtype=D).expand(20_000, -1)
    torch.manual_seed(0)
    few, many = (
        importance_weighted(model(WRONG_CODE, WRONG, inner)(copies, outer), copies)
        for inner in (1, 16)
    )
    spread = (standard_error(few) ** 2 + standard_error(many) ** 2).sqrt()
    assert many.mean() - few.mean() > 5 * spread
    assert many.mean() < CHAIN.log_px(copies[:1]) - 5 * standard_error(many)


@pytest.mark.equation("eq-nested")
def test_the_nested_weight_is_unbiased():
    x = torch.tensor([[0.7, -0.4]], dtype=D)
    hvae = model(LinearGaussianLayer(EXACT_CODE.slope, 0.3), EXACT, 1)
    hvae.prior.inference = LinearGaussianLayer(EXACT.slope, 0.6)
    torch.manual_seed(0)
    copies = x.expand(100_000, -1)
    assert agree(hvae(copies).log_weight(copies).exp(), CHAIN.log_px(x).exp())


def test_draws_come_from_the_prior_itself_whatever_the_inference(assert_mean):
    torch.manual_seed(0)
    z = vhp(WRONG)().expand((25_000,)).sample((2,)).flatten(0, 1)
    variance = PRIOR.covariance()[0, 0]
    assert_mean(z, 0.0)
    assert_mean(z[:, :, None] * z[:, None, :], variance * torch.eye(2, dtype=D))
    assert_mean(z**4, 3 * variance**2)


@pytest.mark.parametrize("sample_shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("batch_shape", [(), (4,)], ids=str)
def test_shapes_follow_from_draws_batch_and_event(sample_shape, batch_shape):
    p = vhp(num_samples=5)().expand(batch_shape)
    z = p.sample(torch.Size(sample_shape))
    assert (p.batch_shape, p.event_shape) == (batch_shape, (2,))
    assert z.shape == (*sample_shape, *batch_shape, 2)
    assert p.log_prob(z).shape == (*sample_shape, *batch_shape)
    assert z.dtype == p.log_prob(z).dtype == D


def small_vhp(**settings) -> HierarchicalVAE:
    """A model that can learn, on four real values."""
    torch.manual_seed(0)
    options = {"hidden": (6,), "num_samples": 4, "zeta_size": 1} | settings
    spec, sizes = DataSpec(4, None), {"latent_size": 2, "hidden": (8,)}
    return recipes.vae(spec, normalisation="none", prior="vhp", prior_options=options, **sizes)


def test_draws_carry_no_gradient_and_the_bound_reaches_every_part(assert_finite_gradients):
    hvae = small_vhp()
    z = hvae.top_prior().sample((5,))
    assert not z.requires_grad
    z.requires_grad_()
    assert_finite_gradients(hvae.prior, -hvae.top_prior().log_prob(z).mean())
    assert all((parameter.grad != 0).any() for parameter in hvae.prior.parameters())
    assert (z.grad != 0).any(dim=1).all()


def test_whoever_asks_a_trace_sees_the_same_estimate():
    x = torch.rand(3, 4)
    trace = small_vhp()(x)
    weight, reconstruction, information = trace.terms(x)
    again = trace.terms(x)
    torch.testing.assert_close((weight, reconstruction, information), again, rtol=0, atol=0)
    torch.testing.assert_close(weight, reconstruction - information, rtol=0, atol=0)
    assert torch.equal(trace.levels[0].information, information)
    level: Level = trace.levels[0]
    assert not torch.equal(level.p.log_prob(level.z), level.p.log_prob(level.z))


def test_an_estimate_without_gradients_is_not_kept_for_one_with_them():
    x = torch.rand(3, 4)
    trace: Trace = small_vhp()(x)
    with torch.no_grad():
        assert not trace.log_weight(x).requires_grad
    assert trace.log_weight(x).requires_grad
    with torch.no_grad():
        kept = trace.levels[0].information
    assert kept is trace.levels[0].information and kept.requires_grad
    trace = small_vhp().requires_grad_(False)(x)  # frozen: there are no gradients to come by
    assert trace.levels[0].information is trace.levels[0].information


def test_a_diagnosis_follows_from_its_seed_and_leaves_the_random_numbers_alone():
    """The information is an estimate with draws of its own, which belong to the diagnosis."""
    hvae, data = small_vhp(), data_set(torch.rand(20, 4))
    tables, before = [], torch.get_rng_state()
    for _ in range(2):
        tables.append(diagnose(hvae, data))
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(1)
        before = torch.get_rng_state()
    assert tables[0].equals(tables[1])
    assert not diagnose(hvae, data, seed=1).equals(tables[0])


def test_the_number_of_draws_may_be_raised_for_an_evaluation():
    hvae, data = model(EXACT_CODE, WRONG), data_set(CHAIN.sample_x(2000))
    first = evaluate(hvae, data, num_samples=1).elbo
    hvae.prior.num_samples = 16
    second = evaluate(hvae, data, num_samples=1).elbo
    assert second.mean > first.mean + 0.3


def test_the_draws_of_the_prior_count_in_the_memory_of_an_evaluation(monkeypatch):
    rows = []
    hvae = model(EXACT_CODE, WRONG, 10)
    hvae.register_forward_hook(lambda module, args, trace: rows.append(len(trace.levels[0].z)))
    evaluate(hvae, data_set(CHAIN.sample_x(20)), num_samples=7, max_rows=600)
    assert rows == [60, 60, 20]


def test_the_mean_has_no_closed_form():
    with pytest.raises(TypeError, match="VHPDistribution has no mean in closed form; take draws"):
        mean_of(vhp()())


@pytest.mark.parametrize("name", ["size", "num_samples"])
def test_a_prior_without_dimensions_or_draws_is_refused(name):
    settings = {"size": 2, "num_samples": 1, "zeta": StandardNormal(2)} | {name: 0}
    with pytest.raises(ValueError, match=f"a prior needs {name} of at least 1, got {name}=0"):
        VHP(EXACT, EXACT, **settings)
