"""The linear-Gaussian hierarchies themselves, against brute force."""

import math

import pytest
import torch
from linear_gaussian import CHAINS
from torch.distributions import MultivariateNormal, Normal

from hvae_course.gaussians import diag_normal
from hvae_course.oracles import (
    LinearGaussian,
    LinearGaussianLayer,
    SharedCause,
    SharedNoise,
    optimise_link,
    two_level_terms,
)
from hvae_course.posteriors import (
    Chain,
    Concatenation,
    Delta,
    PrecisionWeighted,
    precision_weighted_merge,
)

CHAIN = LinearGaussian((0.8, -1.1, 0.6), (0.3, 0.5, 0.2))


def test_covariance_agrees_with_writing_out_the_linear_map():
    """The vector (x, z_1, z_2, z_3) is a matrix times independent noise."""
    a, s = CHAIN.slopes, CHAIN.variances
    noise_to_value = torch.zeros(4, 4, dtype=torch.float64)
    noise_to_value[3, 3] = 1
    for l in (2, 1, 0):
        noise_to_value[l] = a[l] * noise_to_value[l + 1]
        noise_to_value[l, l] = s[l] ** 0.5
    torch.testing.assert_close(CHAIN.covariance(), noise_to_value @ noise_to_value.T)


def test_posterior_chain_and_marginals_agree_with_conditioning_the_full_gaussian():
    c, x = CHAIN.covariance(), torch.tensor([[0.9]], dtype=torch.float64)
    gain = c[1:, 0] / c[0, 0]
    conditional = c[1:, 1:] - torch.outer(gain, c[0, 1:])
    true = MultivariateNormal(gain * x[0], conditional)
    z = true.sample((6,))
    below, log_q = x.expand(6, 1), 0.0
    for l, head in enumerate(CHAIN.posterior_chain()):
        log_q = log_q + head(below).log_prob(z[:, l : l + 1])
        below = z[:, l : l + 1]
    torch.testing.assert_close(log_q, true.log_prob(z))
    for l, head in enumerate(CHAIN.posterior_marginals()):
        torch.testing.assert_close(head(x).mean[0, 0], true.mean[l])
        torch.testing.assert_close(head(x).variance[0, 0], conditional[l, l])


@pytest.mark.parametrize("num_levels", CHAINS)
def test_posterior_conditionals_agree_with_inverting_the_covariance(num_levels):
    """Rows of the inverse covariance of (z_l, ..., z_L, x) are the regression on the others."""
    chain = CHAINS[num_levels]
    for l, head in enumerate(chain.posterior_conditionals(), start=1):
        kept = [l, *range(l + 1, num_levels + 1), 0]
        precision = torch.linalg.inv(chain.covariance()[kept][:, kept])
        slopes = -precision[0, 1:] / precision[0, 0]
        assert (slopes[1:-1].abs() < 1e-10).all()  # z_l+1 stands for all that is above it
        expected = [slopes[-1], *slopes[:1]] if l < num_levels else [slopes[-1]]
        assert head.slopes == pytest.approx([b.item() for b in expected])
        assert math.exp(-2 * head.log_std) == pytest.approx(precision[0, 0].item())


@pytest.mark.parametrize("num_levels", CHAINS)
def test_messages_are_proportional_to_the_likelihood_of_each_level(num_levels):
    """Merged with the marginal of z_l, what x says gives p(z_l | x)."""
    chain = CHAINS[num_levels]
    x, c = chain.sample_x(4), chain.covariance()
    rows = zip(chain.messages(), chain.posterior_marginals(), strict=True)
    for l, (message, marginal) in enumerate(rows, start=1):
        own = diag_normal(torch.zeros_like(x), 0.5 * c[l, l].log())
        merged = precision_weighted_merge(message(x), own)
        torch.testing.assert_close(merged.mean, marginal(x).mean)
        torch.testing.assert_close(merged.stddev, marginal(x).stddev)


def test_a_level_on_which_x_does_not_depend_has_no_message():
    match = r"slopes \(1.0, 0.0\) x does not depend on every level.* use non-zero slopes"
    with pytest.raises(ValueError, match=match):
        LinearGaussian((1.0, 0.0), (0.3, 0.5)).messages()


def test_an_unknown_rule_is_refused_with_the_known_ones():
    match = "unknown rule 'chain'; choose one of concatenation, delta, merge"
    with pytest.raises(ValueError, match=match):
        CHAIN.exact_rules("chain")


@pytest.mark.parametrize(
    ("kind", "rule"),
    [("concatenation", Concatenation), ("delta", Delta), ("merge", PrecisionWeighted)],
)
def test_exact_rules_are_of_the_requested_kind(kind, rule):
    assert [type(r) for r in CHAIN.exact_rules(kind).rules] == [rule] * 3


def test_samples_follow_the_evidence():
    x = CHAIN.sample_x(100_000, seed=1)[:, 0]
    expected = CHAIN.covariance()[0, 0]
    assert abs((x**2).mean() - expected) < 5 * (x**2).std() / len(x) ** 0.5


@pytest.mark.parametrize("variances", [(0.1,), (0.1, -0.2, 0.3), (0.1, 0.0, 0.3)])
def test_every_slope_needs_one_positive_variance(variances):
    with pytest.raises(ValueError, match="needs one positive variance"):
        LinearGaussian(CHAIN.slopes, variances)


def test_the_spine_refuses_a_posterior_of_another_depth():
    with pytest.raises(ValueError, match="posterior has 2 levels and the top-down path has 3"):
        CHAIN.hvae(Chain(CHAIN.posterior_chain()[:2]))


def test_terms_reproduce_the_worked_example_of_the_chapter():
    """x = 1.3, a = .9, s_1 = .19, s_0 = .25 and the exact posterior."""
    chain = LinearGaussian((1.0, 0.9), (0.25, 0.19))
    q1, q2 = chain.posterior_chain()
    x = torch.tensor(1.3, dtype=torch.float64)
    terms = two_level_terms(
        x,
        slopes=chain.slopes,
        variances=chain.variances,
        mean=q1.slope * x,
        variance=torch.tensor(2 * q1.log_std, dtype=torch.float64).exp(),
        gain=torch.tensor(q2.slope, dtype=torch.float64),
        offset=torch.tensor(0.0, dtype=torch.float64),
        residual=torch.tensor(2 * q2.log_std, dtype=torch.float64).exp(),
    )
    assert terms.elbo.item() == pytest.approx(chain.log_px(x[None, None]).item(), abs=1e-10)
    assert terms.closed_form.item() == pytest.approx(-2.5591, abs=5e-5)
    assert terms.mutual_information.item() == pytest.approx(0.3083, abs=5e-5)
    identity = terms.elbo_of_marginals - terms.mutual_information
    assert identity.item() == pytest.approx(terms.closed_form.item(), abs=1e-10)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ((0.5, (0.3,)), TypeError, "slopes is a sequence with one number per level, got 0.5"),
        (((0.5,), 0.3), TypeError, "variances is a sequence with one number per level, got 0.3"),
        ((("a",), (0.3,)), TypeError, r"slopes is a sequence .*, got \('a',\)"),
        (((), ()), ValueError, "a chain has at least one level"),
        (((0.5,), (0.3,), 0), ValueError, "size is a whole number of copies from 1 on, got 0"),
    ],
)
def test_a_chain_of_other_than_numbers_is_refused(settings, error, match):
    with pytest.raises(error, match=match):
        LinearGaussian(*settings)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 1, 1)])
def test_a_chain_scores_rows_of_its_size_only(shape):
    with pytest.raises(ValueError, match=r"needs x of shape \(B, 1\), got .*size=D"):
        CHAIN.log_px(torch.zeros(shape))


def test_parts_without_a_variance_are_refused():
    with pytest.raises(ValueError, match="a layer needs a positive variance, got -1.0"):
        LinearGaussianLayer(0.5, -1.0)
    for variances in (1.0, (1.0,), (1.0, 2.0, 3.0)):
        with pytest.raises(TypeError, match=r"variances are two, \(s_0, s_1\), got "):
            SharedCause(0.5, variances)


def test_a_slope_that_is_held_may_be_a_number():
    held, data = 0.7, SharedCause(0.9, (0.25, 0.19))
    expected = optimise_link("elbo", data, slope=torch.tensor(held, dtype=torch.float64))
    assert optimise_link("elbo", data, slope=held).terms.elbo == expected.terms.elbo


# Shared noise


@pytest.mark.equation("eq-shared-noise")
def test_one_noise_for_all_latents_reports_more_than_the_evidence():
    """The printed digits, and the excess, the information that the latents hold about x."""
    toy, x = SharedNoise(), torch.tensor([1.5], dtype=torch.float64)
    false, true = toy.shared(x, *toy.best_shared(x)), toy.log_px(x)
    assert (round(false.item(), 3), round(true.item(), 3)) == (-1.144, -1.949)
    torch.testing.assert_close(false - true, torch.full_like(x, 0.5 * math.log(5)))
    own = toy.independent(x, *toy.best_independent(x))
    assert own < true and round(own.item(), 3) == -2.530


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("variance", [0.3, 1.0, 2.5])
def test_the_values_of_both_draws_are_their_expectations_and_the_best_ones_are_stationary(
    steps, variance, assert_mean
):
    toy, x = SharedNoise(steps, variance), torch.tensor([0.8], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, steps, generator=generator, dtype=torch.float64)
    signs = torch.tensor([(-1.0) ** t for t in range(steps)], dtype=torch.float64)
    mean, spread = x / 3, torch.tensor([0.6], dtype=torch.float64)
    for value, best, drawn in (
        (toy.independent, toy.best_independent, noise),
        (toy.shared, toy.best_shared, noise[:, :1] * signs),
    ):
        z = mean + spread.sqrt() * drawn
        log_q, log_p = Normal(mean, spread.sqrt()).log_prob(z), Normal(0, 1).log_prob(z)
        log_px = Normal(z.sum(dim=1), variance**0.5).log_prob(x)
        assert_mean(log_px - (log_q - log_p).sum(dim=1), value(x, mean, spread))
        at = [parameter.requires_grad_() for parameter in best(x)]
        gradients = torch.autograd.grad(value(x, *at), at)
        torch.testing.assert_close(gradients, (torch.zeros_like(x),) * 2, rtol=0, atol=1e-12)


def test_a_sum_without_latents_or_noise_is_refused():
    for settings in ((0, 1.0), (4, 0.0)):
        with pytest.raises(ValueError, match="at least one latent and noise of a positive"):
            SharedNoise(*settings)
