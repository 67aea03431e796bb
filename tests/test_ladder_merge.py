"""Equations of chapter 4: message and prior of a latent, their product, and when it is exact."""

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


def message_and_prior(n=50, size=3):
    return tuple(diag_normal(*torch.randn(2, n, size, dtype=D)) for _ in range(2))


def variance(distribution):
    return distribution.base_dist.scale.square()


def share(message, p):
    """Share of the message in the precision of the product."""
    return variance(p) / (variance(p) + variance(message))


def conditional(covariance, of, given):
    """Slopes and variance of one variable of a centred Gaussian, given others."""
    slopes = torch.linalg.solve(covariance[given][:, given], covariance[given, of])
    return slopes, covariance[of, of] - slopes @ covariance[given, of]


def textbook_form(mean_a, log_std_a, mean_b, log_std_b):
    precision_a, precision_b = torch.exp(-2 * log_std_a), torch.exp(-2 * log_std_b)
    precision = precision_a + precision_b
    mean = (precision_a * mean_a + precision_b * mean_b) / precision
    return mean, 0.5 * torch.log(1 / precision)


@pytest.mark.equation("eq-gaussian-product")
def test_the_product_of_two_densities_is_a_density_times_their_agreement():
    message, p = message_and_prior()
    z = torch.linspace(-4, 4, 9, dtype=D)[:, None, None]
    spread = (variance(message) + variance(p)).sqrt()
    agreement = Independent(Normal(p.mean, spread), 1).log_prob(message.mean)
    merged = precision_weighted_merge(message, p)
    product = message.log_prob(z.expand(9, 50, 3)) + p.log_prob(z.expand(9, 50, 3))
    torch.testing.assert_close(product, agreement + merged.log_prob(z.expand(9, 50, 3)))


@pytest.mark.equation("eq-ladder-merge")
def test_precisions_add_and_the_mean_is_weighted_by_them():
    message, p = message_and_prior()
    merged = precision_weighted_merge(message, p)
    precision = 1 / variance(message) + 1 / variance(p)
    mean = (message.mean / variance(message) + p.mean / variance(p)) / precision
    torch.testing.assert_close(1 / variance(merged), precision)
    torch.testing.assert_close(merged.mean, mean)


@pytest.mark.equation("eq-merge-share")
def test_the_merge_moves_the_prior_by_the_share_of_the_message():
    message, p = message_and_prior()
    merged, gamma = precision_weighted_merge(message, p), share(message, p)
    torch.testing.assert_close(merged.mean, p.mean + gamma * (message.mean - p.mean))
    torch.testing.assert_close(variance(merged), (1 - gamma) * variance(p))


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
        slopes, exact = conditional(chain.covariance(), l, given)
        values = [x, trace.levels[l].z] if l < levels else [x]
        mean = sum(slope * value for slope, value in zip(slopes, values, strict=True))
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
    for l, (a, s) in enumerate(zip(chain.slopes, chain.variances, strict=True), start=1):
        mean, spread = mean / a, (spread + s) / a**2
        head = chain.messages()[l - 1]
        assert (head.slope, 2 * head.log_std) == pytest.approx((mean, math.log(spread)))
        (slope,), rest = conditional(c, 0, [l])  # p(x | z_l) = N(slope z_l, rest)
        assert (mean, spread) == pytest.approx((1 / slope.item(), (rest / slope**2).item()))
        assert slope.item() == pytest.approx(math.prod(chain.slopes[:l]))


@pytest.mark.equation("eq-message")
def test_the_variance_of_a_message_grows_with_the_level_if_all_levels_have_one_scale():
    slopes = (0.9, -0.8, 0.5, 0.99)
    chain = LinearGaussian(slopes, [1 - a**2 for a in slopes])
    log_stds = [head.log_std for head in chain.messages()]
    assert log_stds == sorted(log_stds)
    shrinks = LinearGaussian((1.0, 1.5), (1.0, 0.05)).messages()
    assert [math.exp(2 * head.log_std) for head in shrinks] == pytest.approx([1, 0.47], abs=0.005)


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

    def __init__(self, c, log_scale):
        super().__init__()
        self.c, self.raw = c, 7 * math.atanh(log_scale / 7)

    def forward(self, d):
        return torch.cat([self.c * d, torch.full_like(d, self.raw)], dim=-1)


def best_with_slope(chain, b):
    """Rules for two levels whose q(z_1 | x, z_2) follows z_2 with slope b; best otherwise."""
    covariance = chain.covariance()
    (c1, b_star), r1 = conditional(covariance, 1, [0, 2])
    (c2,), r2 = conditional(covariance, 2, [0])
    excess = (b - b_star) ** 2 * r2 / r1
    top = LinearGaussianLayer(c2.item(), (r2 / (1 + excess)).item())
    c = (c1 + (b_star - b) * c2).item()  # right at the mean of z_2
    return top, c, r1.item(), 0.5 * torch.log1p(excess).item()


@pytest.mark.equation("eq-slope-gap")
@pytest.mark.parametrize("kind", ["mean field", "delta of x alone", "exact"])
def test_the_gap_of_a_rule_that_follows_z_2_with_the_wrong_slope(kind):
    chain, x = TWO, torch.tensor([[1.3]], dtype=D)
    a1, s1 = chain.slopes[1], chain.variances[1]
    (_, b_star), _ = conditional(chain.covariance(), 1, [0, 2])
    v1 = math.exp(2 * chain.messages()[0].log_std)
    assert b_star.item() == pytest.approx((1 - s1 / (s1 + v1)) * a1)  # the merge's
    b = {"mean field": 0.0, "delta of x alone": a1, "exact": b_star.item()}[kind]
    top, c, r1, gap = best_with_slope(chain, b)
    if kind == "delta of x alone":
        rule = Delta(Shift(c, 0.5 * math.log(r1 / s1)), reads_state=False)
    else:
        rule = Concatenation(LinearGaussianPair((c, b), r1))
    model = chain.hvae(TopDownPosterior([rule, Direct(top)]))
    log_w = model(x, 100_000).log_weight(x)
    if kind == "exact":
        torch.testing.assert_close(log_w, chain.log_px(x).expand_as(log_w), rtol=0, atol=1e-10)
    else:
        assert agree(log_w, chain.log_px(x).item() - gap)


@pytest.mark.equation("eq-slope-gap")
@pytest.mark.parametrize("b", [0.0, 0.9])
def test_no_other_gaussian_with_that_slope_comes_closer(b):
    """Search over all means and variances; the divergence is that of the joint Gaussians."""
    covariance = TWO.covariance()
    gain = covariance[1:, 0] / covariance[0, 0]
    rest = covariance[1:, 1:] - torch.outer(gain, covariance[0, 1:])
    true = MultivariateNormal(1.3 * gain, rest)
    theta = torch.zeros(4, dtype=D, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=500, line_search_fn="strong_wolfe")

    def divergence():
        m2, log_r2, m1, log_r1 = theta
        r2, r1 = log_r2.exp(), log_r1.exp()
        rows = [torch.stack([b**2 * r2 + r1, b * r2]), torch.stack([b * r2, r2])]
        q = MultivariateNormal(torch.stack([m1 + b * m2, m2]), torch.stack(rows))
        return kl_divergence(q, true)

    def step():
        optimizer.zero_grad()
        value = divergence()
        value.backward()
        return value

    optimizer.step(step)
    assert divergence().item() == pytest.approx(best_with_slope(TWO, b)[3], abs=1e-8)


@pytest.mark.equation("eq-merge-variance")
def test_the_merged_variance_lies_between_half_the_smaller_one_and_the_smaller_one():
    message, p = message_and_prior(500)
    smaller = torch.minimum(variance(message), variance(p))
    merged = variance(precision_weighted_merge(message, p))
    assert (merged < smaller).all()
    assert (merged >= smaller / 2).all()
    twice = variance(precision_weighted_merge(p, p))
    torch.testing.assert_close(twice, variance(p) / 2)


@pytest.mark.equation("eq-merge-kl")
def test_the_kl_of_a_merge_follows_from_the_share_and_the_surprise():
    message, p = message_and_prior(500)
    gamma = share(message, p)
    surprise = (message.mean - p.mean).square() / variance(p)
    expected = 0.5 * (-torch.log1p(-gamma) - gamma + gamma**2 * surprise).sum(dim=1)
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
    """The objective that takes the KL of z_1 from the message instead of the prior."""
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


LIKELIHOODS = {
    "linear": lambda z: -((1.5 - 2 * z) ** 2) / (2 * 0.8),
    "squared": lambda z: -((1.5 - z**2 / 2) ** 2),
    "logistic": lambda z: torch.nn.functional.logsigmoid(4 * z),
}
"""Log-likelihoods of one observation as functions of z; the first and the last are concave."""


def exact_posterior(log_likelihood, prior_mean, prior_variance):
    """Log-evidence and variance of p(z | x) for a Gaussian prior, on a fine grid."""
    z = torch.linspace(-12, 12, 48_001, dtype=D)
    prior = Normal(torch.as_tensor(prior_mean, dtype=D), prior_variance**0.5)
    log_p = log_likelihood(z) + prior.log_prob(z)
    p = torch.softmax(log_p, dim=0)
    mean = (p * z).sum()
    return log_p.logsumexp(dim=0) + math.log(z[1] - z[0]), (p * (z - mean) ** 2).sum()


@pytest.mark.equation("eq-effective-message")
def test_the_effective_precision_is_constant_for_a_gaussian_likelihood_alone():
    precision = {
        name: [(1 / exact_posterior(f, m, 1.0)[1] - 1).item() for m in np.linspace(-2, 2, 9)]
        for name, f in LIKELIHOODS.items()
    }
    assert precision["linear"] == pytest.approx([4 / 0.8] * 9, rel=1e-6)
    assert min(precision["squared"]) < 0  # the posterior is wider than its prior
    assert max(precision["squared"]) > 0
    assert min(precision["logistic"]) > 0  # log-concave: never wider
    assert max(precision["logistic"]) > 2 * min(precision["logistic"])


@pytest.mark.equation("eq-effective-message")
@pytest.mark.parametrize("prior_variance", [0.3, 1.0])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_posterior_is_wider_than_the_prior_just_where_the_evidence_is_convex(
    name, prior_variance
):
    """As a function of the prior's mean; log-concave likelihoods make it log-concave."""
    step, curvatures = 1e-2, []
    for mean in np.linspace(-2, 2, 9):
        below, here, above = (
            exact_posterior(LIKELIHOODS[name], mean + shift, prior_variance)
            for shift in (-step, 0.0, step)
        )
        curvature = ((below[0] - 2 * here[0] + above[0]) / step**2).item()
        expected = (here[1].item() / prior_variance - 1) / prior_variance
        assert curvature == pytest.approx(expected, rel=1e-3, abs=1e-3)
        curvatures.append(curvature)
    if name == "squared" and prior_variance == 1:
        assert max(curvatures) > 0
    elif name != "squared":
        assert max(curvatures) <= 0
