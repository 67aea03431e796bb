"""Masked and inverse autoregressive flows over vectors: densities, levels and the exact gap."""

import math

import pytest
import torch
from linear_gaussian import D, agree
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from hvae_course import analysis, recipes
from hvae_course.config import Flow, Model
from hvae_course.data import DataSpec
from hvae_course.flows import InverseAutoregressive
from hvae_course.gaussians import diag_normal, kl_normal, standard_normal
from hvae_course.hierarchy import (
    centre_of,
    common_noise,
    from_noise,
    mean_of,
    prior_mean,
    tempered,
)
from hvae_course.masked import MaskedMLP
from hvae_course.oracles import LinearGaussian, OneVector, dense_normal, linear_maps
from hvae_course.priors import FlowPrior
from hvae_course.recipes import build
from hvae_course.vector_flows import InverseFlow, MaskedAutoregressive, MaskedFlow

CHAIN = LinearGaussian((0.8, -1.1, 0.6), (0.3, 0.5, 0.2))
steps = pytest.mark.parametrize("num_steps", [1, 2, 3])


def noisy(module: nn.Module, *, seed: int = 0, std: float = 1.0) -> nn.Module:
    """A module with weights that are far from their start."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module.double()


def flow(kind, *, n=6, num_steps=2, size=4, std=0.5):
    module = noisy(kind(size, context=3, num_steps=num_steps, hidden=(9,)), std=std)
    return module(torch.randn(n, 3, dtype=D, generator=torch.Generator().manual_seed(1)))


# The density of a masked flow


@pytest.mark.equation("eq-flow-prior")
@steps
def test_the_log_determinant_is_that_of_the_jacobian(num_steps):
    p = flow(MaskedFlow, n=1, num_steps=num_steps)
    z = p.sample()
    z0, found = p.pull(z)
    jacobian = torch.autograd.functional.jacobian(lambda z: p.pull(z)[0], z).reshape(4, 4)
    torch.testing.assert_close(found[0], torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(p.log_prob(z), p.base.log_prob(z0) + found, rtol=0, atol=1e-12)


@steps
def test_push_and_pull_are_inverse(num_steps):
    p = flow(MaskedFlow, num_steps=num_steps)
    z0 = p.base.sample()
    torch.testing.assert_close(p.pull(p.push(z0))[0], z0, rtol=0, atol=1e-11)
    torch.testing.assert_close(p.push(p.pull(z0)[0]), z0, rtol=0, atol=1e-11)


def test_a_density_of_two_dimensions_integrates_to_one_and_draws_have_it():
    p = noisy(MaskedFlow(2, num_steps=2, hidden=(8,)), std=0.8)()
    ticks = torch.linspace(-15, 15, 601, dtype=D)
    grid = torch.cartesian_prod(ticks, ticks)
    with torch.no_grad():
        density = p.expand((len(grid),)).log_prob(grid).exp() * 0.05**2
    assert density.sum() == pytest.approx(1.0, abs=1e-6)
    torch.manual_seed(3)
    found = (p.sample((20_000,)) > torch.tensor([0.5, -0.5])).all(dim=1).to(D)
    assert agree(found, density[(grid > torch.tensor([0.5, -0.5])).all(dim=1)].sum())


@pytest.mark.equation("eq-flow-prior")
def test_one_step_is_a_gaussian_per_dimension_given_those_before_it():
    p = flow(MaskedFlow, num_steps=1)
    z = p.sample()
    shift, raw = p.maps[0](z)
    scale = (7 * torch.tanh(0.1 * raw / 7)).exp()
    factors = Normal(0.1 * shift + scale * p.base.mean, scale * p.base.stddev)
    torch.testing.assert_close(p.log_prob(z), factors.log_prob(z).sum(1), rtol=0, atol=1e-11)


def test_the_linear_flow_is_a_cholesky_factor():
    """Its density and its draws are those of N(m, L L^T), with L z from the same noise."""
    torch.manual_seed(0)
    root, mean = torch.randn(5, 5, dtype=D), torch.randn(5, dtype=D)
    covariance = root @ root.T + 0.1 * torch.eye(5, dtype=D)
    p, z = dense_normal(mean, covariance), torch.randn(20, 5, dtype=D)
    exact = MultivariateNormal(mean, covariance)
    torch.testing.assert_close(p.expand((20,)).log_prob(z), exact.log_prob(z), rtol=0, atol=1e-9)
    factor = torch.linalg.cholesky(covariance)
    torch.testing.assert_close(p.from_noise(z), mean + z @ factor.T, rtol=0, atol=1e-11)


def test_a_masked_network_without_hidden_layers_is_the_linear_flow():
    torch.manual_seed(0)
    net = noisy(MaskedMLP(4, hidden=(), outputs=2))
    weight, bias = (net.layers[0].weight * net.layers[0].mask).detach(), net.layers[0].bias
    with torch.no_grad():
        net.layers[0].weight[4:] = 0
    linear = linear_maps(weight[:4], bias[:4].detach(), (7 * (bias[4:] / 7).tanh()).detach())
    base, z = standard_normal(4, like=z_like()).expand((3,)), torch.randn(3, 4, dtype=D)
    ours = MaskedAutoregressive(base, [lambda z: net(z).unbind(-2)], step=1.0)
    theirs = MaskedAutoregressive(base, [linear], step=1.0)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z), rtol=0, atol=1e-12)


def z_like() -> torch.Tensor:
    return torch.empty(0, dtype=D)


# A flow in the prior is an inverse flow in the posterior


@pytest.mark.equation("eq-flow-identity")
@steps
def test_a_flow_in_the_prior_is_its_inverse_in_the_posterior(num_steps):
    """With q(z|x) simple: N(0, I) over z_0, q(z_0|x) the inverse flow, and f in the decoder."""
    p = noisy(MaskedFlow(4, num_steps=num_steps, hidden=(9,)))().expand((50,))
    torch.manual_seed(2)
    q = diag_normal(torch.randn(50, 4, dtype=D), 0.3 * torch.randn(50, 4, dtype=D))
    z = q.sample()
    inverse = q
    for maps in p.maps:
        inverse = InverseAutoregressive(inverse, maps, step=p.step)
    z0, _ = p.pull(z)
    torch.testing.assert_close(p.push(z0), z, rtol=0, atol=1e-11)
    ours = p.log_prob(z) - q.log_prob(z)
    theirs = p.base.log_prob(z0) - inverse.log_prob(z0)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@steps
def test_an_inverse_flow_keeps_the_density_of_its_draw(num_steps):
    passes = []
    q = flow(InverseFlow, num_steps=num_steps)
    part = q
    while isinstance(part, InverseAutoregressive):
        part.maps = counted(part.maps, passes)
        part = part.base
    z = q.rsample()
    kept = q.log_prob(z)
    assert len(passes) == num_steps
    with torch.no_grad():
        again = q.log_prob(z.clone())
    assert len(passes) > 2 * num_steps
    torch.testing.assert_close(kept, again, rtol=0, atol=1e-9)


def counted(maps, passes):
    def count(z):
        passes.append(1)
        return maps(z)

    return count


# The exact cost of a diagonal posterior


@pytest.mark.equation("eq-diagonal-gap")
def test_the_best_diagonal_posterior_loses_what_the_formula_says():
    vector = OneVector(CHAIN)
    _, precision = vector.posterior()
    exact = MultivariateNormal(torch.zeros(3, dtype=D), precision_matrix=precision)
    std = precision.diagonal().rsqrt()
    best = MultivariateNormal(exact.mean, torch.diag(std**2))
    gap = torch.distributions.kl_divergence(best, exact).item()
    assert vector.diagonal_gap() == pytest.approx(gap, abs=1e-14)
    assert vector.diagonal_gap() == pytest.approx(
        0.5 * (precision.diagonal().log().sum() - precision.logdet()).item(), abs=1e-14
    )
    for factor in (0.9, 1.1):  # no other scale of a dimension is better
        scaled = std * torch.tensor([factor, 1, 1])
        other = MultivariateNormal(exact.mean, torch.diag(scaled**2))
        assert torch.distributions.kl_divergence(other, exact).item() > gap


def test_on_the_spine_the_diagonal_posterior_loses_that_and_one_linear_step_nothing():
    vector, x = OneVector(CHAIN), CHAIN.sample_x(5_000)
    torch.manual_seed(0)
    with torch.no_grad():
        weights = vector.hvae("diagonal")(x, 4).log_weight(x)
        flowed = vector.hvae("flow")(x, 4).log_weight(x)
    exact = CHAIN.log_px(x).repeat_interleave(4)
    assert agree(weights - exact, -vector.diagonal_gap())
    assert vector.diagonal_gap() > 0.4
    torch.testing.assert_close(flowed, exact, rtol=0, atol=1e-12)


def test_the_linear_step_scores_latents_that_it_has_not_drawn():
    model, x = OneVector(CHAIN).hvae("flow"), CHAIN.sample_x(8)
    z = torch.randn(8, 3, dtype=D)
    choose = model.posterior.score(model.features(x), [z])
    trace = model.top_down(model.top_prior(), choose, 8)
    torch.testing.assert_close(trace.log_weight(x), CHAIN.log_px(x), rtol=0, atol=1e-12)


def test_a_vector_is_that_of_one_chain():
    with pytest.raises(ValueError, match="the vector is that of one chain, got size=2"):
        OneVector(LinearGaussian((1.0,), (1.0,), size=2))


# Levels of a hierarchy

MODELS = {
    "prior": {"recipe": "flow_ladder"},
    "both": {"recipe": "flow_ladder", "iaf": True, "prior": "flow"},
    "posterior": {"recipe": "bidirectional", "iaf": True},
}
models = pytest.mark.parametrize("name", MODELS)


def model_of(name, *, sizes=(3, 2, 2), num_pixels=5, std=0.6, **settings):
    settings = {"latent_sizes": sizes, "hidden": (6,), **MODELS[name], **settings}
    built = build(Model(**settings), DataSpec(num_pixels, 2))
    return noisy(built, std=std).eval()


def pixels(n, num_pixels=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, num_pixels, generator=generator, dtype=D).round()


@models
def test_the_recipes_put_the_flows_where_they_say(name):
    built = model_of(name)
    trace = built(pixels(4))
    below = MaskedAutoregressive if name != "posterior" else Independent
    top = MaskedAutoregressive if name == "both" else Independent
    q = Independent if name == "prior" else InverseAutoregressive
    assert all(isinstance(level.p, below) for level in trace.levels[:-1])
    assert isinstance(trace.levels[-1].p, top)
    assert all(isinstance(level.q, q) for level in trace.levels)


def noise_of(distribution, z):
    """The standard-normal noise that became z."""
    if isinstance(distribution, MaskedAutoregressive):
        z = distribution.pull(z)[0]
    while isinstance(distribution, InverseAutoregressive):
        z, distribution = distribution.inverse(z), distribution.base
    base = getattr(distribution, "base", distribution)
    return (z - base.mean) / base.stddev


def assert_white(noise):
    """Mean 0 and covariance I, in standard errors."""
    n = len(noise)
    for row in range(noise.shape[1]):
        assert agree(noise[:, row], 0.0)
        for column in range(row + 1):
            assert agree(noise[:, row] * noise[:, column], float(row == column)), (row, column, n)


@models
def test_the_noise_of_every_level_is_independent_given_x(name):
    built, n = model_of(name), 5_000
    x = pixels(1).expand(n, -1)
    torch.manual_seed(1)
    with torch.no_grad():
        levels = built(x).levels
        assert_white(torch.cat([noise_of(level.q, level.z) for level in levels], dim=1))
        levels = built.generate(n).levels
        assert_white(torch.cat([noise_of(level.p, level.z) for level in levels], dim=1))


@models
def test_the_information_is_that_of_the_stored_latents(name):
    built, x = model_of(name), pixels(6)
    trace = built(x)
    held = [level.z.clone() for level in trace.levels]
    choose = built.posterior.score(built.features(x), held)
    again = built.top_down(built.top_prior(), choose, 6)
    for drawn, scored in zip(trace.levels, again.levels, strict=True):
        torch.testing.assert_close(drawn.information, scored.information, rtol=0, atol=1e-9)
    torch.testing.assert_close(trace.log_weight(x), again.log_weight(x), rtol=0, atol=1e-9)


def exact_log_px(built, x, *, reach=8.0, ticks=65):
    """log p(x) of latents of one and two dimensions, by a sum over a grid of all three."""
    axis = torch.linspace(-reach, reach, ticks, dtype=D)
    grid = torch.cartesian_prod(axis, axis, axis)
    held = [grid[:, :2], grid[:, 2:]]
    with torch.no_grad():
        trace = built.generate(len(grid), lambda l, h, p: (p, held[l]))
        log_p = sum(level.p.log_prob(level.z) for level in trace.levels)
        cell = 3 * math.log(2 * reach / (ticks - 1))
        joint = torch.stack([log_p + trace.px.log_prob(row.expand(len(grid), -1)) for row in x])
    assert (log_p + cell).logsumexp(dim=0).exp() == pytest.approx(1.0, abs=1e-3)
    return (joint + cell).logsumexp(dim=1)


@models
def test_the_weights_are_unbiased_and_the_bound_lies_below_the_evidence(name):
    built, x, n = model_of(name, sizes=(2, 1), std=0.4), pixels(3, seed=4), 20_000
    exact = exact_log_px(built, x)
    torch.manual_seed(2)
    with torch.no_grad():
        weights = built(x, n).log_weight(x).reshape(3, n)
    for log_w, log_px in zip(weights, exact, strict=True):
        assert agree((log_w - log_px).exp(), 1.0)
        assert log_w.mean() < log_px


@models
def test_every_parameter_receives_a_gradient(name):
    built, x = model_of(name, sizes=(3, 2)).train(), pixels(8)
    built(x).log_weight(x).mean().backward()
    missing = [n for n, p in built.named_parameters() if p.grad is None or (p.grad == 0).all()]
    assert not missing


# One value in place of a distribution


def test_noise_and_centre_of_a_flow_are_pushed_through_it():
    p, gaussian = flow(MaskedFlow), diag_normal(torch.ones(6, 4), torch.zeros(6, 4))
    noise = torch.randn(6, 4, dtype=D)
    expected = p.push(p.base.mean + p.base.stddev * noise)
    torch.testing.assert_close(common_noise([noise])(0, None, p)[1], expected)
    torch.testing.assert_close(from_noise(p, noise), expected)
    torch.testing.assert_close(prior_mean(0, None, p)[1], p.push(p.base.mean))
    assert torch.equal(centre_of(gaussian), gaussian.mean)
    q = flow(InverseFlow)
    z = from_noise(q, noise)
    back = q.base.inverse(q.inverse(z))
    base = q.base.base
    torch.testing.assert_close(back, base.mean + base.stddev * noise, rtol=0, atol=1e-9)


def test_a_flow_has_neither_a_mean_nor_a_closed_kl_nor_a_temperature():
    p = flow(MaskedFlow)
    with pytest.raises(TypeError, match="MaskedAutoregressive has no mean in closed form"):
        mean_of(p)
    with pytest.raises(TypeError, match="got MaskedAutoregressive for p; estimate this KL"):
        kl_normal(p.base, p)
    with pytest.raises(TypeError, match="the prior of z_1 is a MaskedAutoregressive; sample with"):
        tempered(0.5)(0, None, p)


@models
def test_levels_with_flows_are_analysed_like_others(name):
    built, x = model_of(name), pixels(2)
    assert analysis.interpolate(built, x, level=2, steps=3).px.mean.shape == (3, 5)
    assert analysis.vary(built, torch.zeros(4, 2, dtype=D), level=2).px.mean.shape == (4, 5)
    first, second = (
        analysis.reconstruct(built, x, from_level=2, deterministic=True) for _ in range(2)
    )
    assert torch.equal(first.px.mean, second.px.mean)


# Options


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "flow_ladder", "networks": "convolutional"}, "because its flows are"),
        ({"recipe": "ladder", "iaf": True}, "iaf is an option of the recipe resnet, and"),
        ({"recipe": "ladder", "flow_options": {"num_steps": 1}}, "flow_options are those of"),
        ({"recipe": "bidirectional", "flow_options": {"num_steps": 1}}, "with iaf=True, got them"),
        ({"recipe": "flow_ladder", "flow_options": {"steps": 1}}, "unknown option 'steps'"),
        ({"recipe": "flow_ladder", "flow_options": {"num_steps": 0}}, "num_steps must be pos"),
        (
            {"recipe": "bidirectional", "iaf": True, "flow_options": {"transform": "spline"}},
            "splines are for priors alone",
        ),
        ({"prior": "flow", "prior_options": {"hidden": (0,)}}, "hidden must be positive"),
    ],
)
def test_flows_are_refused_where_there_are_none(settings, message):
    with pytest.raises(ValueError, match=message):
        Model(**settings)


def test_the_options_of_flows_are_taken():
    options = {"num_steps": 3, "hidden": (7, 5), "activation": "tanh"}
    settings = {"latent_sizes": (4, 2), "flow_options": options, "iaf": True}
    built = recipes.flow_ladder(DataSpec(6, 2), **settings)
    (conditional,) = built.top_down.conditionals
    for part in (conditional[-1], built.posterior.rules[0].head[-1]):
        assert len(part.steps.nets) == 3
        assert [layer.out_features for layer in part.steps.nets[0].layers] == [7, 5, 8]
    assert Flow() == Model(recipe="flow_ladder").make_flow_options()


def test_a_flow_prior_is_over_vectors():
    prior = FlowPrior(MaskedFlow(3))
    assert prior().batch_shape == () and prior().expand((4,)).sample().shape == (4, 3)
    spec = DataSpec((8, 8), 2)
    with pytest.raises(ValueError, match="the prior 'flow' is over vectors"):
        build(Model(recipe="vdvae", prior="flow", latent_sizes=(2,)), spec)
