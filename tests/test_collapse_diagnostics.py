"""Chapter 2: what the diagnostics of a level measure, against exact mixtures."""

import math

import pytest
import torch
from linear_gaussian import D, agree, wrong_posterior
from torch.distributions import Normal

from hvae_course.analysis import aggregate_split
from hvae_course.analysis.diagnostics import _units
from hvae_course.gaussians import diag_normal, kl_normal
from hvae_course.hierarchy import Level
from hvae_course.oracles import LinearGaussian, LinearGaussianLayer
from hvae_course.posteriors import Chain, Direct, TopDownPosterior

CHAIN = LinearGaussian((1.0, 0.9), (0.25, 0.19))
X = CHAIN.sample_x(40, seed=1)


def layer_log_prob(head, value, given):
    return Normal(head.slope * given + head.offset, math.exp(head.log_std)).log_prob(value)


def drawn(model):
    """The split, and the draws that it was made from."""
    torch.manual_seed(3)
    index, marginal = aggregate_split(model, X)
    torch.manual_seed(3)
    return index, marginal, model(X)


@pytest.mark.equation("eq-aggregate-split")
def test_the_split_of_a_chain_is_that_of_its_mixtures():
    heads = wrong_posterior(CHAIN)
    index, marginal, trace = drawn(CHAIN.hvae(Chain(heads)))
    z1, z2 = (level.z for level in trace.levels)
    aggregate = layer_log_prob(heads[0], z1, X.T).logsumexp(dim=1) - math.log(len(X))
    torch.testing.assert_close(index[0], layer_log_prob(heads[0], z1, X)[:, 0] - aggregate)
    torch.testing.assert_close(marginal[0], aggregate - trace.levels[0].p.log_prob(z1))
    torch.testing.assert_close(index[1], torch.zeros_like(index[1]))
    torch.testing.assert_close(marginal[1], trace.levels[1].information)
    for i, m, level in zip(index, marginal, trace.levels, strict=True):
        torch.testing.assert_close(i + m, level.information)


@pytest.mark.equation("eq-aggregate-split")
@pytest.mark.parametrize("kind", ["concatenation", "delta", "merge"])
def test_from_the_top_the_aggregate_of_z_1_is_conditional_on_z_2(kind):
    index, marginal, trace = drawn(CHAIN.hvae(CHAIN.exact_rules(kind)))
    c = CHAIN.covariance()
    gain = (c[2, 0] / c[0, 0]).item()
    top = LinearGaussianLayer(gain, (c[2, 2] - gain * c[0, 2]).item())
    low = CHAIN.posterior_conditionals()[0]
    z1, z2 = (level.z for level in trace.levels)
    log_q2 = layer_log_prob(top, z2, X.T)  # (N, N), draws by examples
    a, b = low.slopes
    log_q1 = Normal(a * X.T + b * z2, math.exp(low.log_std)).log_prob(z1)
    aggregate = log_q2.logsumexp(dim=1) - math.log(len(X))
    conditional = (log_q1 + log_q2).logsumexp(dim=1) - log_q2.logsumexp(dim=1)
    torch.testing.assert_close(index[1], log_q2.diagonal() - aggregate)
    torch.testing.assert_close(index[0], log_q1.diagonal() - conditional)
    for i, m, level in zip(index, marginal, trace.levels, strict=True):
        torch.testing.assert_close(i + m, level.information)


@pytest.mark.equation("eq-index-bound")
def test_the_index_code_is_between_nothing_and_the_logarithm_of_the_number_of_examples():
    apart = torch.arange(8, dtype=D)[:, None]
    for variance, expected in ((1e-6, math.log(8)), (1e8, 0.0)):
        heads = [LinearGaussianLayer(1.0, variance), LinearGaussianLayer(0.0, 1.0)]
        rules = TopDownPosterior([Direct(head) for head in heads])
        index, _ = aggregate_split(CHAIN.hvae(rules), apart)
        assert index[0].mean().item() == pytest.approx(expected, abs=1e-3)
    some = LinearGaussianLayer(1.0, 1.0)
    rules = TopDownPosterior([Direct(some), Direct(some)])
    index, _ = aggregate_split(CHAIN.hvae(rules), apart.repeat(1, 50)[:, :1])
    assert (sum(index) <= math.log(8) + 1e-12).all()


@pytest.mark.equation("eq-chain-budget")
def test_all_information_of_a_chain_is_code_mismatch_and_the_error_of_inference():
    """Draw by draw, with p(z_1) and p(z_2 | z_1) of the exact model."""
    heads = wrong_posterior(CHAIN)
    index, _, trace = drawn(CHAIN.hvae(Chain(heads)))
    z1, z2 = (level.z[:, 0] for level in trace.levels)
    c = CHAIN.covariance()
    log_p1 = Normal(0.0, c[1, 1].sqrt()).log_prob(z1)
    aggregate = layer_log_prob(heads[0], z1[:, None], X.T).logsumexp(dim=1) - math.log(len(X))
    true = CHAIN.posterior_chain()[1]
    error = layer_log_prob(heads[1], z2, z1) - layer_log_prob(true, z2, z1)
    total = sum(level.information for level in trace.levels)
    torch.testing.assert_close(total, index[0] + (aggregate - log_p1) + error)


@pytest.mark.equation("eq-top-split")
def test_the_top_of_a_chain_carries_what_it_shares_with_z_1_and_its_mismatch():
    variance, slope, residual = 1.7, 0.6, 0.3
    z1 = variance**0.5 * torch.randn(200_000, 1, dtype=D)
    q = LinearGaussianLayer(slope, residual)(z1)
    information = kl_normal(q, diag_normal(torch.zeros_like(z1), torch.zeros(1, dtype=D)))
    total = slope**2 * variance + residual
    shared, mismatch = 0.5 * math.log(total / residual), 0.5 * (total - 1 - math.log(total))
    assert agree(information, shared + mismatch)


@pytest.mark.equation("eq-active-unit")
def test_a_unit_is_active_if_its_mean_moves_with_the_data_and_not_with_other_draws():
    n, k = 2_000, 10
    data = torch.randn(n, 1, dtype=D).repeat_interleave(k, dim=0)
    noise = 0.5 * torch.randn(n * k, 1, dtype=D)
    still = torch.zeros(n * k, 1, dtype=D)
    # moves with the data; with the data and the noise; with the noise alone; hardly; not
    mean = torch.cat([data, data + noise, noise, 0.05 * data, still], dim=1)
    q = diag_normal(mean, torch.zeros(5, dtype=D))
    assert _units(Level(mean, q, q), k).active(k, 0.01) == 2
    assert noise.unflatten(0, (n, k)).mean(dim=1).var() > 0.02  # what the draws alone add
    few = diag_normal(mean[:, 3:], torch.zeros(2, dtype=D))
    assert _units(Level(few.mean, few, few), k).active(k, 0.001) == 1
