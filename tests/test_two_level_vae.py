"""Chapter 1: every labelled equation but those of the trap, held against exact answers."""

import numpy as np
import pytest
import torch
from linear_gaussian import CHAINS, TWO, D, agree, standard_error, wrong_posterior
from torch.distributions import MultivariateNormal, Normal

from hvae_course import data, objectives, recipes
from hvae_course.analysis import smoothness
from hvae_course.gaussians import bound_log_std, diag_normal, kl_normal
from hvae_course.hierarchy import hold
from hvae_course.oracles import LinearGaussian, LinearGaussianLayer
from hvae_course.posteriors import Chain, Direct, TopDownPosterior


@pytest.mark.equation("eq-generative")
def test_ancestral_samples_have_the_covariance_of_the_joint():
    torch.manual_seed(0)
    model, n = TWO.hvae(Chain(TWO.posterior_chain())), 200_000
    trace = model.generate(n)
    x = trace.px.sample()
    values = torch.cat([x, *(level.z for level in trace.levels)], dim=1)
    for (i, j), expected in np.ndenumerate(TWO.covariance().numpy()):
        assert agree(values[:, i] * values[:, j], expected)


@pytest.mark.equation("eq-generative")
def test_given_z_1_the_data_do_not_depend_on_z_2():
    model = recipes.two_level_vae(data.DataSpec(6, 2), latent_sizes=(3, 2), hidden=(8,)).eval()
    z1 = torch.randn(1, 3).expand(5, -1)
    logits = model.generate(5, hold({1: z1, 2: torch.randn(5, 2)})).px.base_dist.logits
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))


@pytest.mark.equation("eq-chain")
def test_z_2_is_inferred_from_the_very_draw_of_z_1():
    model = recipes.two_level_vae(data.DataSpec(6, 2), latent_sizes=(3, 2), hidden=(8,)).eval()
    level_1, level_2 = model(torch.rand(4, 6).round()).levels
    torch.testing.assert_close(level_2.q.mean, model.posterior.heads[1](level_1.z).mean)


@pytest.mark.equation("eq-reparametrisation")
def test_a_draw_is_mean_plus_scale_times_noise_and_passes_gradients():
    mean = torch.randn(7, 3, dtype=D, requires_grad=True)
    log_std = torch.randn(7, 3, dtype=D, requires_grad=True)
    torch.manual_seed(1)
    z = diag_normal(mean, log_std).rsample()
    torch.manual_seed(1)
    noise = torch.normal(torch.zeros(7, 3, dtype=D), torch.ones(7, 3, dtype=D))
    torch.testing.assert_close(z, mean + log_std.exp() * noise)
    by_mean, by_log_std = torch.autograd.grad(z.sum(), (mean, log_std))
    torch.testing.assert_close(by_mean, torch.ones_like(mean))
    torch.testing.assert_close(by_log_std, log_std.exp() * noise)


@pytest.mark.equation("eq-direct")
def test_levels_are_independent_given_x_in_mean_field_and_dependent_in_the_chain():
    torch.manual_seed(0)
    x, c = torch.tensor([[1.3]], dtype=D), TWO.covariance()
    rules = TopDownPosterior([Direct(head) for head in TWO.posterior_marginals()])
    expected = {"direct": 0.0, "chain": (c[1, 2] - c[1, 0] * c[0, 2] / c[0, 0]).item()}
    for name, posterior in (("direct", rules), ("chain", Chain(TWO.posterior_chain()))):
        z1, z2 = (level.z[:, 0] for level in TWO.hvae(posterior)(x, 200_000).levels)
        assert agree((z1 - z1.mean()) * (z2 - z2.mean()), expected[name])


@pytest.mark.equation("eq-hierarchy")
@pytest.mark.parametrize("sizes", [(3,), (3, 2), (4, 3, 2), (5, 4, 3, 2, 1)])
def test_log_weight_of_L_levels_is_the_sum_of_its_log_densities(sizes):
    model = recipes.bottom_up_vae(data.DataSpec(6, 2), latent_sizes=sizes, hidden=(8,))
    model, x = model.double().eval(), torch.rand(5, 6, dtype=D).round()
    trace = model(x)
    z = [level.z for level in trace.levels]
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(
        model.top_down.likelihood.net(z[0]), x, reduction="none"
    ).sum(dim=1)
    expected = expected + Normal(torch.zeros_like(z[-1]), 1.0).log_prob(z[-1]).sum(dim=1)
    for below, above, conditional in zip(z, z[1:], model.top_down.conditionals, strict=False):
        expected = expected + conditional(above).log_prob(below)
    for value, seen, head in zip(
        z, [model.bottom_up(x)[0], *z], model.posterior.heads, strict=False
    ):
        expected = expected - head(seen).log_prob(value)
    torch.testing.assert_close(trace.log_weight(x), expected, rtol=0, atol=1e-10)


@pytest.mark.equation("eq-evidence-gap")
def test_the_gap_of_the_bound_is_the_kl_to_the_true_posterior():
    """Draw by draw: log w = log p(x) + log p(z | x) - log q(z | x)."""
    chain, x = LinearGaussian(TWO.slopes, TWO.variances), torch.tensor([[0.7]], dtype=D)
    trace = chain.hvae(Chain(wrong_posterior(chain)))(x, 5_000)
    c = chain.covariance()
    gain = c[1:, 0] / c[0, 0]
    true = MultivariateNormal(gain * x[0], c[1:, 1:] - torch.outer(gain, c[0, 1:]))
    log_true = true.log_prob(torch.cat([level.z for level in trace.levels], dim=1))
    log_q = sum(level.q.log_prob(level.z) for level in trace.levels)
    identity = chain.log_px(x) + log_true - log_q
    torch.testing.assert_close(trace.log_weight(x), identity, rtol=0, atol=1e-10)
    kl = log_q - log_true
    assert kl.mean() > 5 * standard_error(kl)


@pytest.mark.equation("eq-elbo")
@pytest.mark.parametrize("levels", CHAINS)
def test_the_elbo_of_any_other_posterior_is_below_the_evidence(levels):
    torch.manual_seed(0)
    chain, x = CHAINS[levels], CHAINS[levels].sample_x(3)
    trace = chain.hvae(Chain(wrong_posterior(chain)))(x, 20_000)
    gap = chain.log_px(x)[:, None] - trace.log_weight(x).unflatten(0, (3, -1))
    assert all(example.mean() > 5 * standard_error(example) for example in gap)
    torch.testing.assert_close(objectives.elbo(trace, x), chain.log_px(x) - gap.mean(dim=1))


@pytest.mark.equation("eq-log-weight")
@pytest.mark.parametrize("levels", CHAINS)
def test_with_the_exact_posterior_every_draw_gives_the_evidence(levels):
    """If q(z|x) = p(z|x) then p(x, z) / q(z|x) = p(x), whatever z was drawn."""
    chain = CHAINS[levels]
    x = chain.sample_x(64)
    log_w = chain.hvae(Chain(chain.posterior_chain()))(x, 10).log_weight(x).unflatten(0, (64, 10))
    expected = chain.log_px(x)[:, None].expand(-1, 10)
    torch.testing.assert_close(log_w, expected, rtol=0, atol=1e-10)


@pytest.mark.equation("eq-information")
def test_information_is_what_lies_between_reconstruction_and_bound():
    chain = CHAINS[3]
    x = chain.sample_x(8)
    trace = chain.hvae(Chain(wrong_posterior(chain)))(x, 4)
    between = trace.log_px(x) - trace.log_weight(x)
    total = sum(level.information for level in trace.levels)
    torch.testing.assert_close(total, between, rtol=0, atol=1e-10)


@pytest.mark.equation("eq-information")
def test_information_of_z_1_can_be_negative_and_of_the_top_level_cannot():
    torch.manual_seed(0)
    chain, x = LinearGaussian((1.0, 1.0), (1.0, 0.01)), torch.zeros(1, 1, dtype=D)
    heads = [LinearGaussianLayer(0.0, 1.0), LinearGaussianLayer(1.0, 0.01)]
    level_1, level_2 = chain.hvae(Chain(heads))(x, 50_000).levels
    assert level_1.information.mean() < -5 * standard_error(level_1.information)
    top = kl_normal(level_2.q, level_2.p)
    assert (top >= 0).all()
    assert agree(level_2.information - top, 0.0)


@pytest.mark.equation("eq-kl-gauss")
def test_closed_form_kl_agrees_with_pytorch_and_with_samples():
    torch.manual_seed(0)
    q, p = (diag_normal(*torch.randn(2, 6, 4, dtype=D)) for _ in range(2))
    torch.testing.assert_close(kl_normal(q, p), torch.distributions.kl_divergence(q, p))
    z = q.sample((100_000,))
    for sampled, exact in zip((q.log_prob(z) - p.log_prob(z)).T, kl_normal(q, p), strict=True):
        assert agree(sampled, exact)


@pytest.mark.equation("eq-elbo-entropy")
def test_entropy_and_top_kl_may_be_exact_without_changing_the_bound():
    torch.manual_seed(0)
    x = torch.tensor([[1.3]], dtype=D)
    trace = TWO.hvae(Chain(wrong_posterior(TWO)))(x, 200_000)
    level_1, level_2 = trace.levels
    log_p1 = level_1.p.log_prob(level_1.z)
    exact_terms = trace.log_px(x) + log_p1 + level_1.q.entropy() - kl_normal(level_2.q, level_2.p)
    assert agree(exact_terms - trace.log_weight(x), 0.0)


@pytest.mark.equation("eq-elbo-entropy")
def test_exact_terms_do_not_lower_the_variance_where_the_posterior_is_exact():
    x = torch.tensor([[1.3]], dtype=D)
    trace = TWO.hvae(Chain(TWO.posterior_chain()))(x, 10_000)
    level_1, level_2 = trace.levels
    log_p1 = level_1.p.log_prob(level_1.z)
    exact_terms = trace.log_px(x) + log_p1 + level_1.q.entropy() - kl_normal(level_2.q, level_2.p)
    assert trace.log_weight(x).std() < 1e-10
    assert exact_terms.std() > 0.1


@pytest.mark.equation("eq-iwae")
@pytest.mark.parametrize("levels", [2, 3])
def test_importance_weighted_bounds_rise_towards_the_evidence(levels):
    torch.manual_seed(0)
    chain, n = LinearGaussian(CHAINS[levels].slopes, CHAINS[levels].variances), 20_000
    x = chain.sample_x(1).expand(n, -1)
    model, bounds = chain.hvae(Chain(wrong_posterior(chain))), {}
    for k in (1, 4, 16):
        bounds[k] = objectives.importance_weighted(model(x, k), x)
    for fewer, more in ((1, 4), (4, 16)):
        spread = (standard_error(bounds[fewer]) ** 2 + standard_error(bounds[more]) ** 2) ** 0.5
        assert bounds[more].mean() - bounds[fewer].mean() > 5 * spread
    gap = chain.log_px(x)[0] - bounds[16].mean()
    assert gap > -5 * standard_error(bounds[16])
    assert gap < 0.1 * (chain.log_px(x)[0] - bounds[1].mean())


@pytest.mark.equation("eq-smoothness")
def test_smoothness_of_paths_with_known_steps():
    line = torch.linspace(0, 1, 7, dtype=D)[:, None] * torch.ones(1, 3, dtype=D)
    assert smoothness(line).jump_ratio == pytest.approx(1.0)
    assert smoothness(line).second_difference == pytest.approx(0.0, abs=1e-12)
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 4.0]], dtype=D)
    mean = 5 / 3  # steps 1, 1, 3; second differences (-1, 1) and (0, 2)
    assert smoothness(corner).jump_ratio == pytest.approx(3 / mean)
    assert smoothness(corner).second_difference == pytest.approx((2 + 4) / 2 / mean**2)


@pytest.mark.equation("eq-bounded-scale")
def test_the_bounded_scale_is_the_identity_near_zero_and_keeps_a_gradient_past_its_bound():
    raw = torch.tensor([-50.0, -10.0, -0.01, 0.0, 0.01, 10.0, 50.0], dtype=D, requires_grad=True)
    log_std = bound_log_std(raw)
    torch.testing.assert_close(log_std, 7 * torch.tanh(raw / 7))
    torch.testing.assert_close(log_std[2:5], raw[2:5], rtol=1e-6, atol=0)
    assert (log_std.abs() <= 7).all()
    (gradient,) = torch.autograd.grad(log_std.sum(), raw)
    assert (gradient[[1, 5]] > 0.2).all()
    p, q = (diag_normal(torch.zeros(1, 1), bound_log_std(r)) for r in torch.tensor([-99.0, 99.0]))
    assert kl_normal(q, p).isfinite().all()
