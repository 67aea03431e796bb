"""Chapter 1: the equations of the trap, each against an independent computation."""

import itertools

import numpy as np
import pytest
import torch
from linear_gaussian import CHAINS, TWO, D, agree, log_normal, quadrature, random_q
from torch.distributions import Normal

from hvae_course.gaussians import kl_normal
from hvae_course.oracles import two_level_terms
from hvae_course.posteriors import Chain


@pytest.mark.equation("eq-closed-form")
def test_the_closed_form_objective_on_the_spine_has_its_exact_expectation():
    torch.manual_seed(0)
    x, (q1, q2) = torch.tensor([[1.3]], dtype=D), TWO.posterior_chain()
    trace = TWO.hvae(Chain([q1, q2]))(x, 200_000)
    sampled = trace.log_px(x) - sum(kl_normal(level.q, level.p) for level in trace.levels)
    terms = two_level_terms(
        x,
        slopes=TWO.slopes,
        variances=TWO.variances,
        mean=q1.slope * x,
        variance=torch.tensor(2 * q1.log_std, dtype=D).exp(),
        gain=torch.tensor(q2.slope, dtype=D),
        offset=torch.tensor(0.0, dtype=D),
        residual=torch.tensor(2 * q2.log_std, dtype=D).exp(),
    )
    assert agree(sampled, terms.closed_form.item())
    assert sampled.mean() < TWO.log_px(x).item() - 0.8


@pytest.mark.equation("eq-trap-gap")
def test_the_closed_form_averages_the_prior_over_an_independent_z_1():
    q = random_q(20)
    x, w, s1 = torch.tensor(1.3, dtype=D), 0.7, 0.3
    terms = two_level_terms(x, slopes=(1.0, w), variances=(0.25, s1), **q)

    def log_p1(z1, z2):
        return log_normal(z1, w * z2, s1)

    gap = quadrature(q, log_p1, joint=True) - quadrature(q, log_p1, joint=False)
    torch.testing.assert_close(terms.elbo - terms.closed_form, gap, rtol=1e-9, atol=1e-9)


@pytest.mark.equation("eq-chain-rule")
def test_the_conditional_kl_is_the_marginal_kl_plus_mutual_information():
    q = random_q(20)
    v1, cov = q["variance"], q["gain"] * q["variance"]
    v2, m2 = q["gain"] * cov + q["residual"], q["gain"] * q["mean"] + q["offset"]
    mutual_information = 0.5 * (v1 * v2 / (v1 * v2 - cov**2)).log()

    def conditional_kl(z1, _):
        mean = q["gain"] * z1 + q["offset"]
        return 0.5 * (q["residual"] + mean**2 - 1 - q["residual"].log())

    conditional = quadrature(q, conditional_kl, joint=True)
    marginal = 0.5 * (v2 + m2**2 - 1 - v2.log())
    torch.testing.assert_close(conditional, marginal + mutual_information)


@pytest.mark.equation("eq-trap")
def test_the_closed_form_is_the_elbo_of_the_marginals_minus_mutual_information():
    """Every term on the right by quadrature, none by the formula under test."""
    q, x = random_q(20), torch.tensor(1.3, dtype=D)
    (w0, w1), (s0, s1) = slopes, variances = (1.1, 0.7), (0.25, 0.3)
    v2, m2 = q["gain"] ** 2 * q["variance"] + q["residual"], q["gain"] * q["mean"] + q["offset"]

    def log_ratio_of_marginals(z1, z2):
        log_p = log_normal(x, w0 * z1, s0) + log_normal(z1, w1 * z2, s1)
        log_p = log_p + log_normal(z2, torch.zeros_like(z2), 1.0)
        return log_p - log_normal(z1, q["mean"], q["variance"]) - log_normal(z2, m2, v2)

    def log_dependence(z1, z2):
        mean = q["gain"] * z1 + q["offset"]
        return log_normal(z2, mean, q["residual"]) - log_normal(z2, m2, v2)

    expected = quadrature(q, log_ratio_of_marginals, joint=False)
    expected = expected - quadrature(q, log_dependence, joint=True)
    terms = two_level_terms(x, slopes=slopes, variances=variances, **q)
    torch.testing.assert_close(terms.closed_form, expected, rtol=0, atol=1e-6)


@pytest.mark.equation("eq-linear")
@pytest.mark.parametrize("levels", [2, 3])
def test_the_chain_on_the_spine_samples_the_covariance_of_the_oracle(levels):
    torch.manual_seed(0)
    chain = CHAINS[levels]
    trace = chain.hvae(Chain(chain.posterior_chain())).generate(100_000)
    values = torch.stack([trace.px.sample(), *(level.z for level in trace.levels)], dim=-1)
    for i, j in itertools.product(range(levels + 1), repeat=2):
        assert agree((values[..., i] * values[..., j])[:, 0], chain.covariance()[i, j])


@pytest.mark.equation("eq-linear-evidence")
def test_the_evidence_agrees_with_integration_over_both_latents():
    nodes, weights = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(80))
    (w0, w1), (s0, s1) = TWO.slopes, TWO.variances
    z2 = nodes[:, None]
    z1 = w1 * z2 + s1**0.5 * nodes[None, :]
    x = torch.linspace(-2, 2, 5, dtype=D)
    density = log_normal(x[:, None, None], w0 * z1, s0).exp()
    mixed = (density * weights[:, None] * weights[None, :]).sum(dim=(1, 2)) / weights.sum() ** 2
    torch.testing.assert_close(mixed.log(), TWO.log_px(x[:, None]))
    same = Normal(0.0, torch.tensor(w1**2 + s1 + s0, dtype=D).sqrt()).log_prob(x)
    torch.testing.assert_close(TWO.log_px(x[:, None]), same)


@pytest.mark.equation("eq-linear-gap")
def test_the_linear_gap_is_w_times_covariance_over_variance():
    q, w, s1 = random_q(50), 0.9, 0.19
    x = torch.tensor(0.4, dtype=D)
    terms = two_level_terms(x, slopes=(1.0, w), variances=(0.25, s1), **q)
    covariance = q["gain"] * q["variance"]
    torch.testing.assert_close(terms.elbo - terms.closed_form, w * covariance / s1)
