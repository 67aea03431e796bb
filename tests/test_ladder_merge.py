"""Equations of chapter 4: two opinions about a latent, their product, and what it is worth."""

import math

import numpy as np
import pytest
import torch
from linear_gaussian import CHAINS, TWO, D, agree
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from hvae_course.gaussians import diag_normal, kl_normal
from hvae_course.oracles import LinearGaussian, LinearGaussianLayer, LinearGaussianPair
from hvae_course.posteriors import (
    Concatenation,
    Delta,
    Direct,
    TopDownPosterior,
    merge_parameters,
    precision_weighted_merge,
)


def two_opinions(n=50, size=3):
    return tuple(diag_normal(*torch.randn(2, n, size, dtype=D)) for _ in range(2))


def variance(distribution):
    return distribution.base_dist.scale.square()


def share(message, p):
    """Share of the message in the precision of the product."""
    return variance(p) / (variance(p) + variance(message))


def conditional(covariance, of, given):
    """Weights and variance of one variable of a centred Gaussian, given others."""
    weights = torch.linalg.solve(covariance[given][:, given], covariance[given, of])
    return weights, covariance[of, of] - weights @ covariance[given, of]


def textbook_form(mean_a, log_std_a, mean_b, log_std_b):
    precision_a, precision_b = torch.exp(-2 * log_std_a), torch.exp(-2 * log_std_b)
    precision = precision_a + precision_b
    mean = (precision_a * mean_a + precision_b * mean_b) / precision
    return mean, 0.5 * torch.log(1 / precision)


@pytest.mark.equation("eq-gaussian-product")
def test_the_product_of_two_densities_is_a_density_times_their_agreement():
    message, p = two_opinions()
    z = torch.linspace(-4, 4, 9, dtype=D)[:, None, None]
    spread = (variance(message) + variance(p)).sqrt()
    agreement = Independent(Normal(p.mean, spread), 1).log_prob(message.mean)
    merged = precision_weighted_merge(message, p)
    product = message.log_prob(z.expand(9, 50, 3)) + p.log_prob(z.expand(9, 50, 3))
    torch.testing.assert_close(product, agreement + merged.log_prob(z.expand(9, 50, 3)))


@pytest.mark.equation("eq-ladder-merge")
def test_precisions_add_and_the_mean_is_weighted_by_them():
    message, p = two_opinions()
    merged = precision_weighted_merge(message, p)
    precision = 1 / variance(message) + 1 / variance(p)
    mean = (message.mean / variance(message) + p.mean / variance(p)) / precision
    torch.testing.assert_close(1 / variance(merged), precision)
    torch.testing.assert_close(merged.mean, mean)


@pytest.mark.equation("eq-merge-share")
def test_the_merge_moves_the_prior_by_the_share_of_the_message():
    message, p = two_opinions()
    merged, w = precision_weighted_merge(message, p), share(message, p)
    torch.testing.assert_close(merged.mean, p.mean + w * (message.mean - p.mean))
    torch.testing.assert_close(variance(merged), (1 - w) * variance(p))


@pytest.mark.equation("eq-merge-stable")
def test_only_the_stable_form_is_finite_from_log_variance_minus_200_to_200():
    log_variance = torch.arange(-200.0, 201.0, 5.0)
    log_std = torch.cartesian_prod(log_variance, log_variance).T.clone() / 2
    a, b = log_std.requires_grad_()
    means = torch.full((2, len(a)), 2.0) * torch.tensor([[1.0], [-1.0]])
    outputs = merge_parameters(means[0], a, means[1], b)
    (gradient,) = torch.autograd.grad(outputs[0].sum() + outputs[1].sum(), log_std)
    assert all(torch.isfinite(value).all() for value in (*outputs, gradient))
    textbook = torch.stack(textbook_form(means[0], a, means[1], b))
    for value in (-95.0, 110.0):
        both = (2 * a == value) & (2 * b == value)
        assert both.any()
        assert not torch.isfinite(textbook[:, both]).any()


@pytest.mark.equation("eq-merge-exact")
@pytest.mark.parametrize("levels", CHAINS)
def test_the_merge_of_message_and_prior_is_exact_conditioning(levels):
    chain = CHAINS[levels]
    x = chain.sample_x(32)
    trace = chain.hvae(chain.exact_rules("merge"))(x)
    for l, level in enumerate(trace.levels, start=1):
        given = [0, l + 1] if l < levels else [0]
        weights, exact = conditional(chain.covariance(), l, given)
        values = [x, trace.levels[l].z] if l < levels else [x]
        mean = sum(w * value for w, value in zip(weights, values, strict=True))
        torch.testing.assert_close(level.q.mean, mean, rtol=0, atol=1e-12)
        torch.testing.assert_close(variance(level.q), exact.expand_as(level.z), rtol=0, atol=1e-12)


@pytest.mark.equation("eq-merge-exact")
@pytest.mark.parametrize("levels", CHAINS)
def test_with_the_right_messages_every_draw_of_the_ladder_gives_the_evidence(levels):
    chain = CHAINS[levels]
    x = chain.sample_x(32)
    log_w = chain.hvae(chain.exact_rules("merge"))(x, 10).log_weight(x)
    expected = chain.log_px(x).repeat_interleave(10)
    torch.testing.assert_close(log_w, expected, rtol=0, atol=1e-12)


@pytest.mark.equation("eq-message")
@pytest.mark.parametrize("levels", CHAINS)
def test_messages_go_up_by_convolution_and_division(levels):
    """They are p(x | z_l): the covariance says how x depends on z_l, with no other level."""
    chain = CHAINS[levels]
    c, mean, spread = chain.covariance(), 1.0, 0.0  # the message of x about itself
    for l, (w, s) in enumerate(zip(chain.slopes, chain.variances, strict=True), start=1):
        mean, spread = mean / w, (spread + s) / w**2
        head = chain.messages()[l - 1]
        assert (head.slope, 2 * head.log_std) == pytest.approx((mean, math.log(spread)))
        gain, rest = conditional(c, 0, [l])  # p(x | z_l) = N(gain z_l, rest)
        assert (mean, spread) == pytest.approx((1 / gain.item(), (rest / gain[0] ** 2).item()))


@pytest.mark.equation("eq-message")
def test_the_factor_that_normalisation_drops_is_the_message_to_the_level_above():
    chain = CHAINS[3]
    x, z = torch.tensor([[0.7, -1.1]], dtype=D), torch.randn(40, 2, dtype=D)
    lower, upper = (chain.messages()[l](x) for l in (0, 1))
    p = chain.layers()[1](z)  # p(z_1 | z_2)
    spread = (variance(lower) + variance(p)).sqrt()
    factor = Independent(Normal(p.mean, spread), 1).log_prob(lower.mean)
    constant = factor - upper.log_prob(z)
    torch.testing.assert_close(constant, constant[:1].expand_as(constant))


class Shift(torch.nn.Module):
    """A delta that is a linear function of x alone."""

    def __init__(self, gain, log_scale):
        super().__init__()
        self.gain, self.raw = gain, 7 * math.atanh(log_scale / 7)

    def forward(self, d):
        return torch.cat([self.gain * d, torch.full_like(d, self.raw)], dim=-1)


def best_with_slope(chain, slope):
    """Rules for two levels whose q(z_1 | x, z_2) moves by `slope` with z_2; best otherwise."""
    c = chain.covariance()
    (a, b), v1 = conditional(c, 1, [0, 2])
    a2, v2 = conditional(c, 2, [0])
    gap = (b - slope) ** 2 * v2 / v1
    top = LinearGaussianLayer(a2.item(), (v2 / (1 + gap)).item())
    gain = (a + (b - slope) * a2).item()  # right at the mean of z_2
    return top, gain, v1.item(), 0.5 * torch.log1p(gap).item()


@pytest.mark.equation("eq-slope-gap")
@pytest.mark.parametrize("kind", ["mean field", "delta of x alone", "exact"])
def test_the_gap_of_a_rule_that_follows_z_2_with_the_wrong_slope(kind):
    chain, x = TWO, torch.tensor([[1.3]], dtype=D)
    w1, s1 = chain.slopes[1], chain.variances[1]
    (_, b), _ = conditional(chain.covariance(), 1, [0, 2])
    slope = {"mean field": 0.0, "delta of x alone": w1, "exact": b.item()}[kind]
    top, gain, v1, gap = best_with_slope(chain, slope)
    if kind == "delta of x alone":
        rule = Delta(Shift(gain, 0.5 * math.log(v1 / s1)), reads_state=False)
    else:
        rule = Concatenation(LinearGaussianPair((gain, slope), v1))
    model = chain.hvae(TopDownPosterior([rule, Direct(top)]))
    log_w = model(x, 100_000).log_weight(x)
    if kind == "exact":
        torch.testing.assert_close(log_w, chain.log_px(x).expand_as(log_w), rtol=0, atol=1e-10)
    else:
        assert agree(log_w, chain.log_px(x).item() - gap)


@pytest.mark.equation("eq-slope-gap")
@pytest.mark.parametrize("slope", [0.0, 0.9])
def test_no_other_gaussian_with_that_slope_comes_closer(slope):
    """Search over all means and variances; the divergence is that of the joint Gaussians."""
    c = TWO.covariance()
    gain = c[1:, 0] / c[0, 0]
    true = MultivariateNormal(1.3 * gain, c[1:, 1:] - torch.outer(gain, c[0, 1:]))
    theta = torch.zeros(4, dtype=D, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=500, line_search_fn="strong_wolfe")

    def divergence():
        m2, log_v2, m1, log_v1 = theta
        v2, v1 = log_v2.exp(), log_v1.exp()
        rows = [torch.stack([slope**2 * v2 + v1, slope * v2]), torch.stack([slope * v2, v2])]
        q = MultivariateNormal(torch.stack([m1 + slope * m2, m2]), torch.stack(rows))
        return kl_divergence(q, true)

    def step():
        optimizer.zero_grad()
        value = divergence()
        value.backward()
        return value

    optimizer.step(step)
    assert divergence().item() == pytest.approx(best_with_slope(TWO, slope)[3], abs=1e-8)


@pytest.mark.equation("eq-merge-variance")
def test_the_merged_variance_lies_between_half_the_smaller_one_and_the_smaller_one():
    message, p = two_opinions(500)
    smaller = torch.minimum(variance(message), variance(p))
    merged = variance(precision_weighted_merge(message, p))
    assert (merged < smaller).all()
    assert (merged >= smaller / 2).all()
    twice = variance(precision_weighted_merge(p, p))
    torch.testing.assert_close(twice, variance(p) / 2)


@pytest.mark.equation("eq-merge-kl")
def test_the_kl_of_a_merge_follows_from_the_share_and_the_surprise():
    message, p = two_opinions(500)
    w = share(message, p)
    surprise = (message.mean - p.mean).square() / variance(p)
    expected = 0.5 * (-torch.log1p(-w) - w + w**2 * surprise).sum(dim=1)
    torch.testing.assert_close(kl_normal(precision_weighted_merge(message, p), p), expected)
    assert (expected > 0).all()


@pytest.mark.equation("eq-merge-kl")
def test_the_kl_of_a_merge_vanishes_with_the_precision_of_the_message_and_not_before():
    p = diag_normal(torch.zeros(1, 1, dtype=D), torch.zeros(1, 1, dtype=D))
    at_the_prior_mean = [
        kl_normal(
            precision_weighted_merge(diag_normal(p.mean, torch.full_like(p.mean, s)), p), p
        ).item()
        for s in (0.0, 1.0, 2.0, 4.0, 6.0)
    ]
    assert at_the_prior_mean == sorted(at_the_prior_mean, reverse=True)
    assert 0 < at_the_prior_mean[-1] < 1e-9


def wrong_bound(chain, x, num_samples):
    """The objective that charges z_1 its distance from the message instead of the prior."""
    trace = chain.hvae(chain.exact_rules("merge"))(x, num_samples)
    value, (first, *above) = trace.log_px(x), trace.levels
    message = chain.messages()[0](x.repeat_interleave(num_samples, dim=0))
    above = sum(level.information for level in above)
    return trace, value - kl_normal(first.q, message) - above


@pytest.mark.equation("eq-wrong-kl")
def test_the_wrong_kl_differs_from_the_bound_by_message_against_prior():
    chain, x = TWO, torch.tensor([[1.3]], dtype=D)
    trace, wrong = wrong_bound(chain, x, 200_000)
    z, message = trace.levels[0].z, chain.messages()[0](x)
    excess = message.log_prob(z) - trace.levels[0].p.log_prob(z)
    assert agree(wrong - excess, chain.log_px(x).item())


@pytest.mark.equation("eq-wrong-kl-gap")
@pytest.mark.parametrize("prior_variance", [0.05, 0.25, 4.0])
def test_the_wrong_kl_exceeds_the_evidence_on_average_if_the_prior_is_vaguer(prior_variance):
    chain = LinearGaussian((1.0, 0.9), (0.25, prior_variance))
    x = chain.sample_x(200_000, seed=1)  # not the noise of the latents
    excess = wrong_bound(chain, x, 1)[1] - chain.log_px(x)
    assert agree(excess, 0.5 * math.log(prior_variance / 0.25))


def posterior_moments(log_likelihood, prior_mean, prior_variance):
    """Mean and variance of p(z | x) for a Gaussian prior, on a fine grid."""
    z = torch.linspace(-12, 12, 48_001, dtype=D)
    log_p = log_likelihood(z) - (z - prior_mean) ** 2 / (2 * prior_variance)
    p = torch.softmax(log_p, dim=0)
    mean = (p * z).sum()
    return mean, (p * (z - mean) ** 2).sum()


@pytest.mark.equation("eq-effective-message")
def test_the_effective_precision_is_constant_for_a_gaussian_likelihood_alone():
    likelihoods = {
        "linear": lambda z: -((1.5 - 2 * z) ** 2) / (2 * 0.8),
        "squared": lambda z: -((1.5 - z**2 / 2) ** 2),
        "logistic": lambda z: torch.nn.functional.logsigmoid(4 * z),
    }
    precision = {
        name: [(1 / posterior_moments(f, m, 1.0)[1] - 1).item() for m in np.linspace(-2, 2, 9)]
        for name, f in likelihoods.items()
    }
    assert precision["linear"] == pytest.approx([4 / 0.8] * 9, rel=1e-6)
    assert min(precision["squared"]) < 0  # the posterior is wider than its prior
    assert max(precision["squared"]) > 0
    assert min(precision["logistic"]) > 0  # log-concave: never wider
    assert max(precision["logistic"]) > 2 * min(precision["logistic"])
