"""The ResNet-VAE, with and without inverse autoregressive flow."""

import math

import pytest
import torch
from deep_models import LINEAR, REAL, fit_posterior, held, make_linear, reads, weight_ratios
from linear_gaussian import CHAINS, D, agree, assert_exact, standard_error
from torch import Tensor, nn

from hvae_course import analysis, recipes
from hvae_course.config import Model
from hvae_course.data import DataSpec
from hvae_course.flows import InverseAutoregressive
from hvae_course.gaussians import LOG_STD_BOUND, diag_normal
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown
from hvae_course.objectives import elbo
from hvae_course.oracles.layers import LinearGaussianLikelihood
from hvae_course.posteriors import Additive, TopDownPosterior
from hvae_course.priors import LearnedNormal, StandardNormal
from hvae_course.recipes import build

NAMES = ("z_1", "z_2", "z_3")
SPEC = DataSpec((8, 8), 2, num_classes=3)
flows = pytest.mark.parametrize("iaf", [False, True], ids=["gaussian", "flow"])
labels = pytest.mark.parametrize("conditional", [False, True], ids=["plain", "conditional"])


def small(*, spec=SPEC, seed=0, networks=None, **settings):
    options = {"stages": ((4, 2, 6), (2, 1, 5)), "zero_priors": False} | (networks or {})
    torch.manual_seed(seed)
    settings = {"latent_sizes": (2, 3, 2)} | settings
    return recipes.resnet_vae(spec, networks_options=options, **settings)


def binary(n, size=64):
    return torch.bernoulli(torch.full((n, size), 0.5))


def some_labels(n, conditional):
    return torch.arange(n) % 3 if conditional else None


# What each latent depends on


@labels
@flows
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_posteriors_read_x_and_the_latents_above_and_priors_the_latents_above(
    iaf, conditional, shared
):
    model = small(iaf=iaf, conditional=conditional, networks={"shared_features": shared})
    x, y = binary(3).requires_grad_(), some_labels(3, conditional)
    latents = [level.z.detach().requires_grad_() for level in model(x, y=y).levels]
    leaves = {"x": x} | dict(zip(NAMES, latents, strict=True))
    trace = held(model, x, latents, y)
    for l, level in enumerate(trace.levels):
        assert isinstance(level.q, InverseAutoregressive) == iaf
        assert reads(level.q, leaves) == {"x", *NAMES[l + 1 :]}
        assert reads(level.p, leaves) == {*NAMES[l + 1 :]}
    gradients = torch.autograd.grad(trace.px.log_prob(x.detach()).sum(), latents)
    assert all((gradient != 0).any() for gradient in gradients)


@flows
def test_data_and_state_act_through_a_sum(iaf):
    """Means, raw log-scales and contexts are sums; q has no term of d and h together."""
    rule = small(iaf=iaf).posterior.rules[0]
    d, h = torch.randn(2, 2, 6, 4, 4)

    def outputs(d: Tensor, h: Tensor) -> Tensor:
        q = rule(d, h, None)
        q = q.base if iaf else q
        raw = LOG_STD_BOUND * torch.atanh(q.stddev.log() / LOG_STD_BOUND)
        return torch.cat([q.mean, raw], dim=1)

    other_d, other_h = torch.randn(2, 2, 6, 4, 4)
    torch.testing.assert_close(
        outputs(d, h) - outputs(d, other_h), outputs(other_d, h) - outputs(other_d, other_h)
    )


def test_the_posterior_is_not_relative_to_the_prior():
    rule = small().posterior.rules[0]
    d, h = torch.randn(2, 2, 6, 4, 4)
    p = diag_normal(torch.full((2, 2, 4, 4), 9.0), torch.full((2, 2, 4, 4), 2.0))
    assert torch.equal(rule(d, h, p).mean, rule(d, h, None).mean)
    assert not rule.reads_prior


def test_the_context_of_the_flow_reads_data_and_state():
    rule = small(iaf=True).posterior.rules[0]
    base = torch.zeros(1, 2, 4, 4)
    maps = [
        rule(d * torch.ones(1, 6, 4, 4), h * torch.ones(1, 6, 4, 4), None).maps(base)[0]
        for d, h in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    ]
    assert not torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])


def test_a_flow_without_context_and_a_context_without_flow_are_refused():
    one = nn.Identity()
    for parts in ({"flow": one}, {"context": 3}):
        with pytest.raises(ValueError, match="a flow reads a context, .* give both or neither"):
            Additive(one, one, **parts)


# Exact models


class Column(nn.Module):
    """Mean and raw log-scale of a linear-Gaussian pair, as one of two summands."""

    def __init__(self, slope: float, log_std: float) -> None:
        super().__init__()
        self.slope, self.raw = slope, LOG_STD_BOUND * math.atanh(log_std / LOG_STD_BOUND)

    def forward(self, value: Tensor) -> Tensor:
        return torch.cat([self.slope * value, torch.full_like(value, self.raw)], dim=1)


class Nothing(nn.Module):
    """The summand of an empty state."""

    def forward(self, h: Tensor) -> float:
        return 0.0


@pytest.mark.parametrize("num_levels", CHAINS)
def test_with_the_exact_posterior_every_draw_gives_the_evidence(num_levels):
    chain, rules = CHAINS[num_levels], []
    for q in chain.posterior_conditionals():
        c, *b = q.slopes
        down = Column(b[0], 0.0) if b else Nothing()
        rules.append(Additive(Column(c, q.log_std), down))
    assert_exact(chain.hvae(TopDownPosterior(rules)), chain)


class Correlated(nn.Module):
    """A linear shift of the second channel by the first, and by the context."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, z0: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        shift = torch.cat([torch.zeros_like(context), self.slope * z0[:, :1] + context], dim=1)
        return shift / 0.1, torch.zeros_like(z0)


def factor_model(weights: Tensor, variance: float, *, with_flow: bool) -> HierarchicalVAE:
    """x = w z + noise with two latents, and its exact posterior, or the best of no correlation."""
    precision = torch.eye(2, dtype=D) + torch.outer(weights, weights) / variance
    covariance = torch.linalg.inv(precision)
    slopes = covariance @ weights / variance  # of the mean of z given x
    gain = (covariance[0, 1] / covariance[0, 0]).item() if with_flow else 0.0
    variances = covariance.diagonal().clone() if with_flow else 1 / precision.diagonal()
    variances[1] -= gain**2 * covariance[0, 0]
    raw = LOG_STD_BOUND * torch.atanh(variances.log() / 2 / LOG_STD_BOUND)

    class Up(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            parts = [x * slopes, raw.expand(len(x), 2), gain * slopes[0] * x]
            return torch.cat(parts[: 2 + with_flow], dim=1)

    flow = {"flow": Correlated(-gain), "context": 1} if with_flow else {}

    class Likelihood(nn.Module):
        def forward(self, z: Tensor):
            mean = (z @ weights)[:, None]
            return diag_normal(mean, mean.new_tensor(math.log(variance) / 2))

    return HierarchicalVAE(
        StandardNormal(2),
        BottomUp([nn.Identity()]),
        posterior=TopDownPosterior([Additive(Up(), Nothing(), **flow)]),
        top_down=TopDown([MarkovUpdate()], [], LinearGaussianLikelihood(Likelihood())),
    ).double()


def test_a_linear_flow_holds_a_posterior_whose_dimensions_are_correlated():
    """Two causes of one observation explain each other away; no diagonal Gaussian can say so."""
    weights, variance = torch.tensor([1.5, -1.0], dtype=D), 0.4
    spread = (weights @ weights + variance).sqrt()
    x = torch.randn(64, 1, dtype=D) * spread
    expected = torch.distributions.Normal(0.0, spread).log_prob(x[:, 0])
    exact = factor_model(weights, variance, with_flow=True)(x, 5).log_weight(x)
    torch.testing.assert_close(exact, expected.repeat_interleave(5), rtol=0, atol=1e-12)

    x, expected = x.repeat(400, 1), expected.repeat(400)
    gap = expected - elbo(factor_model(weights, variance, with_flow=False)(x), x)
    precision = torch.eye(2, dtype=D) + torch.outer(weights, weights) / variance
    best = (precision.diagonal().log().sum() - torch.logdet(precision)) / 2
    assert agree(gap, best) and best > 0.4  # nats


@flows
def test_importance_weights_of_the_recipe_agree_with_the_exact_evidence(iaf):
    """p is linear-Gaussian, q the recipe's posterior."""
    options = LINEAR | {"networks_options": {"stages": ((2, 1, 4), (1, 1, 4))}}
    model = make_linear(recipes.resnet_vae(REAL, latent_sizes=(2, 2), iaf=iaf, **options))
    fit_posterior(model)
    for ratios in weight_ratios(model, 3, 10_000):
        assert agree(ratios, 1.0) and standard_error(ratios) < 0.05


# The recipe


@labels
@flows
def test_held_draws_have_the_density_that_they_were_drawn_with(iaf, conditional):
    model, x = small(iaf=iaf, conditional=conditional).double().eval(), binary(4).double()
    y = some_labels(4, conditional)
    with torch.no_grad():
        drawn = model(x, y=y)
        again = held(model, x, [level.z for level in drawn.levels], y)
    for one, other in zip(drawn.levels, again.levels, strict=True):
        torch.testing.assert_close(one.q.log_prob(one.z), other.q.log_prob(other.z))
    torch.testing.assert_close(drawn.log_weight(x), again.log_weight(x))


def test_the_top_prior_is_learned_and_the_flow_is_an_option_of_this_recipe_alone():
    assert isinstance(small().prior, LearnedNormal)
    assert Model(recipe="resnet").prior == "normal" and not Model(recipe="resnet_vae").iaf
    assert [Model(recipe="resnet", iaf=flag).iaf for flag in (False, True)] == [False, True]
    with pytest.raises(TypeError, match="resnet_vae has no option 'flow'; .*"):
        recipes.resnet_vae(SPEC, flow=True)


def test_a_flow_at_the_top_gives_no_pseudo_inputs():
    spec = DataSpec((8, 8), 2)
    assert small(spec=spec, prior="vamp").top_prior().event_shape == (2, 2, 2)
    with pytest.raises(ValueError, match=r"diagonal Gaussians .* is a flow; leave iaf out, or"):
        small(spec=spec, prior="vamp", iaf=True)


@labels
@flows
def test_every_parameter_receives_a_gradient(iaf, conditional, assert_finite_gradients):
    model, x = small(iaf=iaf, conditional=conditional), binary(5)
    with torch.no_grad():  # it is zero at the start, and so is what the top level reads of it
        model.top_down.initial.value.normal_()
    assert_finite_gradients(model, -elbo(model(x, y=some_labels(5, conditional)), x).mean())
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


@flows
def test_a_model_is_built_again_from_its_configuration(iaf):
    model, x = small(iaf=iaf).eval(), binary(2)
    again = build(model.config).eval()
    again.load_state_dict(model.state_dict())
    log_weights = []
    for one in (model, again):
        torch.manual_seed(3)
        log_weights.append(one(x).log_weight(x))
    assert torch.equal(*log_weights)
    assert model.config["iaf"] == iaf


@labels
@flows
def test_a_step_and_a_walk_run_on_the_meta_device(iaf, conditional):
    model = small(iaf=iaf, conditional=conditional).to("meta")
    x = torch.empty(4, 64, device="meta")
    y = torch.empty(4, dtype=torch.int64, device="meta") if conditional else None
    optimiser = torch.optim.Adam(model.parameters())
    (-elbo(model(x, 2, y=y), x).mean()).backward()
    optimiser.step()
    assert model.generate(4, y=y).px.mean.shape == (4, 64)


@flows
def test_training_raises_the_bound_and_the_analysis_reads_the_model(iaf, tiny_binary, train):
    model = small(iaf=iaf, spec=tiny_binary.spec)
    history = train(model, tiny_binary, epochs=6, learning_rate=3e-3).frame
    bounds = history[(history["split"] == "validation") & (history["quantity"] == "elbo")]
    assert bounds["value"].iloc[-1] > bounds["value"].iloc[0] + 5
    table = analysis.diagnose(model, tiny_binary, split="test", max_examples=8, num_samples=2)
    assert table["active_units"].isna().all() == iaf
    assert (table["index_code"] <= math.log(8) + 1e-4).all()
    image = tiny_binary.test.batch(slice(0, 2))
    assert analysis.reconstruct(model, image, from_level=2).px.mean.shape == (2, 64)
    again = [analysis.reconstruct(model, image, deterministic=True).px.mean for _ in range(2)]
    assert torch.equal(*again)


def test_half_precision_networks_give_densities_in_full_precision():
    model, x = small(iaf=True), binary(3)
    with torch.autocast("cpu", torch.bfloat16):
        trace = model(x)
        log_weight = trace.log_weight(x)
    assert log_weight.dtype == trace.levels[0].z.dtype == torch.float32
    assert torch.isfinite(log_weight).all()
