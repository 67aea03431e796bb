"""Equations of chapter 5: two paths, concatenation, and the limit of many small steps."""

import math

import pytest
import torch
from linear_gaussian import CHAINS, D, agree
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from hvae_course import recipes
from hvae_course.data import DataSpec
from hvae_course.oracles import LinearGaussian, LinearGaussianLayer
from hvae_course.posteriors import Chain, merge_parameters

TOTAL_TIME = 6.0
SIZES = (4, 3, 2)


def skip_covariance():
    """Covariance of (x, z_1, z_2) when the decoder sees both levels: x ~ N(z_1 + 0.7 z_2, 0.3)."""
    z2, z1 = torch.tensor([0.0, 0.0, 1.0], dtype=D), torch.tensor([0.0, 0.6, 0.8], dtype=D)
    x = torch.tensor([0.3**0.5, 0.0, 0.0], dtype=D) + z1 + 0.7 * z2
    rows = torch.stack([x, z1, z2])  # in terms of independent standard normals
    return rows @ rows.T


def conditional(covariance, of, given):
    """Slopes and variance of one variable of a centred Gaussian, given others."""
    slopes = torch.linalg.solve(covariance[given][:, given], covariance[given, of])
    return slopes, covariance[of, of] - slopes @ covariance[given, of]


def variances(variance_x, num_levels, total_time=TOTAL_TIME):
    """Marginal variances of x = z_0, z_1, ..., z_L under the noising chain, and the step's."""
    decay = torch.exp(-total_time * torch.arange(num_levels + 1, dtype=D) / num_levels)
    return decay * variance_x + 1 - decay, 1 - math.exp(-total_time / num_levels)


def noising_covariance(variance_x, num_levels, total_time=TOTAL_TIME):
    """Joint covariance of (x, z_1, ..., z_L), built step by step."""
    omega = 1 - math.exp(-total_time / num_levels)
    rows = torch.zeros(num_levels + 1, num_levels + 1, dtype=D)
    rows[0, 0] = variance_x**0.5
    for l in range(num_levels):
        rows[l + 1] = (1 - omega) ** 0.5 * rows[l]
        rows[l + 1, l + 1] = omega**0.5
    return rows @ rows.T


def denoiser(variance_x, num_levels, *, fixed_variance):
    """The hierarchy with the exact reverse means, and exact or fixed variances."""
    v, omega = variances(variance_x, num_levels)
    ratio = (v[:-1] / v[1:]).tolist()
    slopes = [(1 - omega) ** 0.5 * r for r in ratio]
    return LinearGaussian(slopes, [omega * (1 if fixed_variance else r) for r in ratio])


@pytest.mark.equation("eq-two-paths")
@pytest.mark.parametrize("state", ["markov", "skip"])
def test_features_go_up_and_states_go_down(state):
    torch.manual_seed(0)
    model = recipes.bidirectional_vae(
        DataSpec(6, 2), latent_sizes=SIZES, hidden=(8,), state=state
    ).double()
    x = torch.randint(2, (5, 6)).to(D)
    d, features = x, []
    for block in model.bottom_up.blocks:
        d = block(d)
        features.append(d)
    trace = model(x)
    z1, z2, z3 = (level.z for level in trace.levels)
    empty = x[:, :0]
    states = {
        "markov": (z2, z3, empty, z1),
        "skip": (torch.cat([z3, z2], 1), z3, empty, torch.cat([z3, z2, z1], 1)),
    }[state]
    for l, level in enumerate(trace.levels):
        by_hand = model.posterior.rules[l].head(torch.cat([features[l], states[l]], 1))
        torch.testing.assert_close(level.q.mean, by_hand.mean)
        torch.testing.assert_close(level.q.base_dist.scale, by_hand.base_dist.scale)
        if l < 2:
            prior = model.top_down.conditionals[l](states[l])
            torch.testing.assert_close(level.p.mean, prior.mean)
    px = model.top_down.likelihood(states[3])
    torch.testing.assert_close(trace.px.mean, px.mean)


@pytest.mark.equation("eq-top-down-exact")
def test_the_posterior_of_any_hierarchy_factorises_from_the_top():
    c = skip_covariance()
    gain, left = c[1:, :1] / c[0, 0], c[1:, 1:] - c[1:, :1] @ c[:1, 1:] / c[0, 0]
    x, z = torch.tensor([0.9], dtype=D), torch.tensor([[0.3, -1.2], [1.0, 0.4]], dtype=D)
    joint = MultivariateNormal((gain * x).squeeze(1), left).log_prob(z)
    (a2,), v2 = conditional(c, 2, [0])
    (a1, b1), v1 = conditional(c, 1, [0, 2])
    top = Normal(a2 * x, v2.sqrt()).log_prob(z[:, 1])
    below = Normal(a1 * x + b1 * z[:, 1], v1.sqrt()).log_prob(z[:, 0])
    torch.testing.assert_close(top + below, joint)


@pytest.mark.equation("eq-skip-chain")
def test_a_chain_is_exact_in_a_markov_hierarchy_and_not_with_a_skip():
    markov = LinearGaussian((1.0, 0.8), (0.3, 0.36)).covariance()
    (of_x, _), _ = conditional(markov, 2, [0, 1])
    assert abs(of_x) < 1e-12  # z_2 does not depend on x once z_1 is known
    (of_x, _), variance = conditional(skip_covariance(), 2, [0, 1])
    _, without_x = conditional(skip_covariance(), 2, [1])
    assert of_x > 0.3
    assert without_x > 1.3 * variance


@pytest.mark.equation("eq-concatenation")
@pytest.mark.parametrize("num_levels", CHAINS)
def test_concatenation_holds_the_exact_posterior_of_a_linear_hierarchy(num_levels):
    chain = CHAINS[num_levels]
    x = chain.sample_x(64)
    trace = chain.hvae(chain.exact_rules("concatenation"))(x)
    expected = chain.log_px(x)
    torch.testing.assert_close(trace.log_weight(x), expected, rtol=0, atol=1e-12)
    for l in range(num_levels - 1):
        (a, b), variance = conditional(chain.covariance(), l + 1, [0, l + 2])
        mean = a * x + b * trace.levels[l + 1].z
        torch.testing.assert_close(trace.levels[l].q.mean, mean)
        torch.testing.assert_close(trace.levels[l].q.variance, variance.expand_as(mean))


@pytest.mark.equation("eq-merge-gradient")
def test_the_merge_follows_its_message_with_the_share_of_its_precision():
    generator = torch.Generator().manual_seed(0)
    m, mu_p, log_v, prior_log_std = torch.randn(4, 50, generator=generator, dtype=D)
    m.requires_grad_()
    log_v.requires_grad_()
    mean, log_std = merge_parameters(m, log_v / 2, mu_p, prior_log_std)
    variance_p = (2 * prior_log_std).exp()
    share = variance_p / (variance_p + log_v.exp())

    def gradient(of, by):
        (value,) = torch.autograd.grad(of.sum(), by, retain_graph=True)
        return value

    torch.testing.assert_close(gradient(mean, m), share)
    torch.testing.assert_close(gradient(mean, log_v), -share * (1 - share) * (m - mu_p))
    torch.testing.assert_close(gradient(2 * log_std, log_v), share)


@pytest.mark.equation("eq-noising", "eq-noising-marginal")
@pytest.mark.parametrize("num_levels", [1, 4, 32])
def test_noising_in_many_steps_or_at_once_is_the_same(num_levels):
    variance_x = 0.04
    covariance = noising_covariance(variance_x, num_levels)
    level = torch.arange(num_levels + 1, dtype=D)
    decay = torch.exp(-TOTAL_TIME * level / num_levels)
    torch.testing.assert_close(covariance[0], decay.sqrt() * variance_x)  # Cov(x, z_l)
    torch.testing.assert_close(covariance.diagonal(), decay * variance_x + 1 - decay)
    chain = Chain(
        [
            LinearGaussianLayer((1 - b) ** 0.5, b)
            for b in [1 - math.exp(-TOTAL_TIME / num_levels)] * num_levels
        ]
    )
    torch.manual_seed(0)
    x = torch.full((200_000, 1), 1.5, dtype=D)
    choose = chain([x])
    _, top = choose(num_levels - 1, x, None)
    assert agree(top, 1.5 * math.exp(-TOTAL_TIME / 2))
    assert agree((top - 1.5 * math.exp(-TOTAL_TIME / 2)) ** 2, 1 - math.exp(-TOTAL_TIME))


@pytest.mark.equation("eq-noising-posterior")
def test_the_noising_chain_can_be_read_from_the_top():
    variance_x, num_levels = 0.3, 5
    covariance = noising_covariance(variance_x, num_levels)
    omega = 1 - math.exp(-TOTAL_TIME / num_levels)
    for l in range(1, num_levels):
        decay = math.exp(-TOTAL_TIME * l / num_levels)
        variance = omega * (1 - decay) / (1 - decay * (1 - omega))
        slopes, expected = conditional(covariance, l, [0, l + 1])
        by_page = (
            decay**0.5 * variance / (1 - decay),
            (1 - omega) ** 0.5 * variance / omega,
        )
        torch.testing.assert_close(slopes, torch.tensor(by_page, dtype=D))
        assert expected.item() == pytest.approx(variance)


@pytest.mark.equation("eq-depth-gap")
@pytest.mark.parametrize("fixed_variance", [True, False])
@pytest.mark.parametrize("num_levels", [1, 3, 8])
def test_the_gap_of_a_deep_hierarchy_is_a_sum_over_its_steps(num_levels, fixed_variance):
    variance_x = 0.04
    v, omega = variances(variance_x, num_levels)
    model = denoiser(variance_x, num_levels, fixed_variance=fixed_variance)
    q, p = noising_covariance(variance_x, num_levels), model.covariance()
    zeros = torch.zeros(num_levels + 1, dtype=D)
    whole = kl_divergence(MultivariateNormal(zeros, q), MultivariateNormal(zeros, p))
    top = kl_divergence(Normal(0, v[-1].sqrt()), Normal(torch.zeros((), dtype=D), 1))
    reverse = omega * v[:-1] / v[1:]
    fixed = torch.full_like(reverse, omega) if fixed_variance else reverse
    steps = kl_divergence(
        Normal(0, reverse.sqrt()), Normal(torch.zeros((), dtype=D), fixed.sqrt())
    )
    torch.testing.assert_close(whole, top + steps.sum())
    torch.manual_seed(0)
    x = math.sqrt(variance_x) * torch.randn(100_000, 1, dtype=D)
    heads = [LinearGaussianLayer((1 - omega) ** 0.5, omega) for _ in range(num_levels)]
    log_weight = model.hvae(Chain(heads))(x).log_weight(x)  # the package's ELBO, one draw each
    log_data = Normal(torch.zeros((), dtype=D), variance_x**0.5).log_prob(x).squeeze(1)
    if fixed_variance:
        assert agree(log_data - log_weight, whole)
    else:  # exact at every depth, but for what the top level's prior misses
        assert whole < 1e-5
        torch.testing.assert_close(log_data, log_weight, rtol=0, atol=0.1)


@pytest.mark.equation("eq-gap-limit")
@pytest.mark.parametrize("variance_x", [0.04, 0.5, 3.0])
def test_the_gap_of_fixed_variances_falls_as_one_over_the_depth(variance_x):
    def scaled_gap(num_levels):
        v, _ = variances(variance_x, num_levels)
        ratio = v[:-1] / v[1:]
        return num_levels * 0.5 * (ratio - 1 - ratio.log()).sum()

    end = 1 + (variance_x - 1) * math.exp(-TOTAL_TIME)
    limit = TOTAL_TIME / 4 * (math.log(variance_x) + 1 / variance_x - math.log(end) - 1 / end)
    errors = [abs(scaled_gap(n).item() - limit) for n in (1_000, 10_000, 100_000)]
    assert errors[2] < 1e-3 * abs(limit)
    assert errors[1] < 0.15 * errors[0] and errors[2] < 0.15 * errors[1]


@pytest.mark.equation("eq-tweedie")
@pytest.mark.parametrize("omega", [0.05, 0.5])
def test_the_mean_of_a_reverse_step_follows_from_the_score(omega):
    below = torch.linspace(-8, 8, 40_001, dtype=D)
    centres = torch.tensor([-0.9, 0.9], dtype=D)
    log_below = Normal(centres, 0.3).log_prob(below[:, None]).logsumexp(1) - math.log(2)
    above = torch.linspace(-1.5, 1.5, 7, dtype=D, requires_grad=True)
    noise = Normal((1 - omega) ** 0.5 * below, omega**0.5)
    log_joint = log_below[:, None] + noise.log_prob(above[:, None]).T
    log_above = log_joint.logsumexp(0)  # up to the width of the grid
    (score,) = torch.autograd.grad(log_above.sum(), above)
    mean = (log_joint.softmax(0) * below[:, None]).sum(0)
    by_page = (above + omega * score) / (1 - omega) ** 0.5
    torch.testing.assert_close(mean, by_page, rtol=1e-8, atol=1e-8)
