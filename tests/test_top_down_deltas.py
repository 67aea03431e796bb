"""Chapter 3: top-down posteriors, deltas, batch statistics and likelihoods of grey values."""

import math

import numpy as np
import pytest
import torch
from linear_gaussian import CHAINS, TWO, D, agree
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from hvae_course import recipes
from hvae_course.data import DataSpec
from hvae_course.gaussians import diag_normal, kl_normal
from hvae_course.likelihoods import Bernoulli, Categorical, DiscretizedLogistic
from hvae_course.nets import BatchNorm
from hvae_course.oracles import LinearGaussianLayer, LinearGaussianPair
from hvae_course.posteriors import Concatenation, Delta, Direct, TopDownPosterior
from hvae_course.posteriors.delta import kl_delta

SPEC = DataSpec(6, 17)
SIZES = {1: (3,), 2: (4, 3), 3: (4, 3, 2)}
depths = pytest.mark.parametrize("sizes", SIZES.values(), ids=len)


class Constant(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.values = torch.tensor(values, dtype=D)

    def forward(self, features):
        return self.values.expand(len(features), -1)


def images(n, spec=SPEC):
    steps = spec.num_values - 1
    return torch.randint(steps + 1, (n, spec.num_features)).to(D) / steps


def delta_model(sizes, **settings):
    return recipes.delta_vae(SPEC, latent_sizes=sizes, hidden=(8,), **settings).double().eval()


def wrong_rules(chain):
    """A top-down posterior by concatenation that is not the true one, but not far from it."""
    heads = chain.posterior_conditionals()
    wrong = [
        LinearGaussianPair([0.8 * slope for slope in q.slopes], 1.5 * math.exp(2 * q.log_std))
        for q in heads
    ]
    return TopDownPosterior([Concatenation(head) for head in wrong])


@pytest.mark.equation("eq-top-down")
@depths
@pytest.mark.parametrize("state", ["markov", "skip"])
def test_each_level_is_drawn_given_the_data_and_the_same_draws_above(sizes, state):
    model, x = delta_model(sizes, state=state), images(5)
    trace, d = model(x), model.bottom_up(x)
    h = torch.zeros(5, 0, dtype=D)
    for l in reversed(range(len(sizes))):
        shift, log_scale = model.posterior.rules[l].delta(d[l], h)
        p = model.top_down.conditionals[l](h) if h.shape[1] else model.prior().expand((5,))
        q = diag_normal(p.mean + shift, p.stddev.log() + log_scale)
        torch.testing.assert_close(trace.levels[l].q.mean, q.mean)
        torch.testing.assert_close(trace.levels[l].q.stddev, q.stddev)
        torch.testing.assert_close(kl_delta(shift, log_scale, p), kl_normal(q, p))
        h = torch.cat([h, trace.levels[l].z], dim=1) if state == "skip" else trace.levels[l].z


@pytest.mark.equation("eq-top-down")
@pytest.mark.parametrize("kind", ["concatenation", "delta", "merge"])
def test_the_joint_density_is_the_product_over_levels_of_the_true_posterior(kind):
    """log p(x, z) - log q(z | x) is log p(x) for every draw only if the product is p(z | x)."""
    chain = CHAINS[3]
    x = chain.sample_x(16)
    trace = chain.hvae(chain.exact_rules(kind))(x, 5)
    expected = chain.log_px(x).repeat_interleave(5)
    torch.testing.assert_close(trace.log_weight(x), expected, rtol=0, atol=1e-9)


@pytest.mark.equation("eq-top-down-elbo")
@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_closed_form_kls_at_drawn_upper_levels_do_not_change_the_bound(levels):
    torch.manual_seed(0)
    chain = CHAINS[levels]
    x = chain.sample_x(1)
    trace = chain.hvae(wrong_rules(chain))(x, 100_000)
    closed = [kl_normal(level.q, level.p) for level in trace.levels]
    for level, kl in zip(trace.levels, closed, strict=True):
        assert agree(level.information - kl, 0.0)
        assert (kl >= 0).all()
    assert agree(trace.log_px(x) - sum(closed) - trace.log_weight(x), 0.0)


@pytest.mark.equation("eq-top-down-elbo")
def test_the_kl_of_z_1_needs_its_expectation_over_z_2():
    """By quadrature: the KL at the mean of z_2 misses the quadratic part of the expectation."""
    model, x = TWO.hvae(wrong_rules(TWO)), torch.tensor([[1.3]], dtype=D)
    nodes, weights = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(16))
    q2 = model.posterior.rules[1].head(x)
    z2 = q2.mean + q2.stddev * nodes[:, None]
    p1 = model.top_down.conditionals[0](z2)
    q1 = model.posterior.rules[0](x.expand(16, -1), z2, p1)
    kl = kl_normal(q1, p1)
    expected = (kl * weights).sum() / weights.sum()
    torch.manual_seed(0)
    assert agree(model(x, 200_000).levels[0].information, expected)
    p1 = model.top_down.conditionals[0](q2.mean)
    assert kl_normal(model.posterior.rules[0](x, q2.mean, p1), p1) < expected - 0.01


@pytest.mark.equation("eq-delta")
def test_a_delta_shifts_the_mean_and_scales_the_standard_deviation():
    shift, log_scale = (0.3, -1.2), (0.5, -0.4)
    p = diag_normal(*torch.randn(2, 7, 2, dtype=D))
    rule = Delta(Constant(*shift, *log_scale), log_std_bound=1e6)  # a bound without effect
    q = rule(torch.zeros(7, 4, dtype=D), torch.zeros(7, 3, dtype=D), p)
    torch.testing.assert_close(q.mean, p.mean + torch.tensor(shift, dtype=D))
    torch.testing.assert_close(q.stddev, p.stddev * torch.tensor(log_scale, dtype=D).exp())


@pytest.mark.equation("eq-delta-kl")
def test_the_delta_kl_is_the_kl_of_the_distributions_sampled_from():
    torch.manual_seed(0)
    p = diag_normal(*torch.randn(2, 50, 4, dtype=D))
    shift, log_scale = torch.randn(2, 50, 4, dtype=D)
    q = diag_normal(p.mean + shift, p.base_dist.scale.log() + log_scale)
    ratio, scale2 = shift / p.stddev, (2 * log_scale).exp()
    printed = 0.5 * (ratio**2 + scale2 - 1 - scale2.log()).sum(dim=1)
    for kl in (kl_delta(shift, log_scale, p), kl_divergence(q, p)):
        torch.testing.assert_close(kl, printed)


@pytest.mark.equation("eq-delta-kl")
def test_a_delta_that_changes_nothing_has_a_kl_of_exactly_zero():
    p = diag_normal(*torch.randn(2, 7, 4, dtype=D))
    nothing = torch.zeros(7, 4, dtype=D)
    assert (kl_delta(nothing, nothing, p) == 0).all()
    rule = Delta(Constant(*[0.0] * 8))
    # exp(log(std)) is std to one unit in the last place on some processors
    assert (kl_normal(rule(nothing, nothing, p), p) < 1e-30).all()


@pytest.mark.equation("eq-delta-kl")
def test_moving_the_mean_of_the_prior_leaves_the_delta_kl_and_moves_the_posterior():
    x = torch.tensor([[1.3]], dtype=D)
    kls, means = {}, {}
    for kind in ("delta", "concatenation"):
        for offset in (0.0, 2.0):
            model = TWO.hvae(TWO.exact_rules(kind))
            model.top_down.conditionals[0] = LinearGaussianLayer(0.9, 0.19, offset)
            torch.manual_seed(0)
            level = model(x, 100).levels[0]
            kls[kind, offset], means[kind, offset] = kl_normal(level.q, level.p), level.q.mean
    torch.testing.assert_close(kls["delta", 0.0], kls["delta", 2.0])
    torch.testing.assert_close(means["delta", 0.0] + 2, means["delta", 2.0])
    assert kls["concatenation", 2.0].mean() > kls["concatenation", 0.0].mean() + 1
    torch.testing.assert_close(means["concatenation", 0.0], means["concatenation", 2.0])


@pytest.mark.equation("eq-delta-error")
def test_the_formula_is_wrong_by_a_function_of_the_changed_scale():
    torch.manual_seed(0)
    p = diag_normal(*torch.randn(2, 50, 3, dtype=D))
    shift, log_scale, log_chi = torch.randn(3, 50, 3, dtype=D)
    q = diag_normal(p.mean + shift, p.base_dist.scale.log() + log_scale + log_chi)
    error = kl_divergence(q, p) - kl_delta(shift, log_scale, p)
    chi2, scale2 = (2 * log_chi).exp(), (2 * log_scale).exp()
    torch.testing.assert_close(error, 0.5 * ((chi2 - 1) * scale2 - chi2.log()).sum(dim=1))
    assert (error > 0).any() and (error < 0).any()


@pytest.mark.equation("eq-delta-exact")
@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_the_exact_shift_is_the_share_of_the_data_times_what_the_prior_did_not_predict(levels):
    """Against the conditionals that the oracle finds by solving the full covariance."""
    chain = CHAINS[levels]
    x, z = torch.randn(2, 40, chain.size, dtype=D)  # z stands for z_l+1
    a_bar, v = 1.0, 0.0
    for l, head in enumerate(chain.posterior_conditionals()):
        a_bar, v = a_bar * chain.slopes[l], v + a_bar**2 * chain.variances[l]
        # x | z_l ~ N(a_bar z_l, v)
        top = l == levels - 1
        mean, variance = (0 * x, 1.0) if top else (chain.slopes[l + 1] * z, None)
        variance = variance or chain.variances[l + 1]
        share = a_bar**2 * variance / (a_bar**2 * variance + v)
        q = head(x if top else torch.cat([x, z], dim=1))
        torch.testing.assert_close(q.mean, mean + share * (x / a_bar - mean))
        torch.testing.assert_close(q.variance, torch.full_like(x, variance * (1 - share)))


def smallest_kl(x, slope):
    """Least KL to p(z_1, z_2 | x) of Gaussians whose z_1 has a given slope in z_2."""
    c = TWO.covariance()
    gain = c[1:, 0] / c[0, 0]
    true = MultivariateNormal(gain * x, c[1:, 1:] - torch.outer(gain, c[0, 1:]))
    direction = torch.tensor([slope, 1.0], dtype=D)
    q = torch.zeros(4, dtype=D, requires_grad=True)
    optimizer = torch.optim.LBFGS([q], max_iter=500, line_search_fn="strong_wolfe")

    def kl():
        mean_1, mean_2, log_var_1, log_var_2 = q
        own = torch.diag(torch.stack([log_var_1.exp(), torch.zeros((), dtype=D)]))
        covariance = log_var_2.exp() * torch.outer(direction, direction) + own
        return kl_divergence(MultivariateNormal(torch.stack([mean_1, mean_2]), covariance), true)

    def step():
        optimizer.zero_grad()
        (loss := kl()).backward()
        return loss

    optimizer.step(step)
    return kl().item()


@pytest.mark.equation("eq-following-gap")
@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.51136, 0.9, 1.5])
def test_the_gap_of_a_slope_is_the_least_kl_that_any_such_posterior_reaches(slope):
    (a0, a1), (s0, s1) = TWO.slopes, TWO.variances
    share = a0**2 * s1 / (a0**2 * s1 + s0)
    exact, r1 = a1 * (1 - share), s1 * (1 - share)
    r2 = math.exp(2 * TWO.posterior_marginals()[1].log_std)  # Var(z_2 | x)
    gap = 0.5 * math.log1p((slope - exact) ** 2 * r2 / r1)
    assert smallest_kl(0.7, slope) == pytest.approx(gap, abs=1e-8)


@pytest.mark.equation("eq-following-gap")
def test_the_best_blind_delta_misses_the_evidence_by_its_gap():
    torch.manual_seed(0)
    (_, a), (s0, s1) = TWO.slopes, TWO.variances
    share, top = s1 / (s0 + s1), TWO.posterior_marginals()[1]
    r1, r2 = (1 - share) * s1, math.exp(2 * top.log_std)
    curvature = (share * a) ** 2 / r1
    variance2 = 1 / (1 / r2 + curvature)
    slope = share * (1 - a * top.slope)  # of the exact shift, at the mean of z_2

    class Shift(nn.Module):
        def forward(self, d):
            raw = torch.full_like(d, 7 * math.atanh(0.5 * math.log(1 - share) / 7))
            return torch.cat([slope * d, raw], dim=1)

    rules = [
        Delta(Shift(), reads_state=False),
        Direct(LinearGaussianLayer(top.slope, variance2)),
    ]
    x = torch.tensor([[1.3]], dtype=D)
    log_w = TWO.hvae(TopDownPosterior(rules))(x, 400_000).log_weight(x)
    gap = 0.5 * math.log1p(curvature * r2)
    assert agree(log_w, TWO.log_px(x).item() - gap)


@pytest.mark.equation("eq-batch-statistics")
def test_statistics_of_a_layer_depend_on_where_its_input_comes_from():
    """Batch normalisation finds the mean and the variance of a linear layer under each input."""
    torch.manual_seed(0)
    linear, mean, std = nn.Linear(3, 5).double(), torch.randn(3, dtype=D), torch.rand(3, dtype=D)
    for mu, sigma in ((mean, std), (torch.zeros(3, dtype=D), torch.ones(3, dtype=D))):
        norm = BatchNorm(5, momentum=None).double()  # the cumulative average of all batches
        outputs = [linear(mu + sigma * torch.randn(500, 3, dtype=D)) for _ in range(100)]
        for a in outputs:
            norm(a)
        a = torch.cat(outputs)
        expected = linear.weight @ mu + linear.bias
        variance = (linear.weight**2) @ sigma**2
        for i in range(5):
            assert agree(a[:, i], expected[i])
            assert agree((a[:, i] - expected[i]) ** 2, variance[i])
        torch.testing.assert_close(norm.running_mean, a.mean(dim=0))
        within = torch.stack([batch.var(dim=0) for batch in outputs]).mean(dim=0)
        torch.testing.assert_close(norm.running_var, within)


@pytest.mark.equation("eq-categorical")
def test_the_categorical_likelihood_is_a_softmax_per_pixel():
    torch.manual_seed(0)
    logits, x = torch.randn(5, 6 * 17, dtype=D), images(5)
    px = Categorical(nn.Identity(), 17)(logits)
    a = logits.unflatten(1, (6, 17))
    probability = a.exp() / a.exp().sum(dim=2, keepdim=True)
    index = (16 * x).round().long()
    expected = probability.gather(2, index[..., None]).squeeze(2).log().sum(dim=1)
    torch.testing.assert_close(px.log_prob(x), expected)


@pytest.mark.equation("eq-discretised-logistic")
@pytest.mark.parametrize("num_values", [2, 17])
def test_the_discretised_logistic_integrates_its_density_over_each_bin(num_values):
    torch.manual_seed(0)
    raw = torch.stack([torch.rand(40), torch.randn(40) - 2], dim=1).double()
    px = DiscretizedLogistic(nn.Identity(), num_values)(raw)
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(200))
    half, total = 0.5 / (num_values - 1), 0.0
    for k, value in enumerate(torch.linspace(0, 1, num_values, dtype=D)):
        probability = px.log_prob(value.expand(40, 1)).exp()
        total = total + probability
        if 0 < k < num_values - 1:
            u = (value + half * nodes - px.location) / px.scale
            density = torch.sigmoid(u) * torch.sigmoid(-u) / px.scale  # of a logistic variable
            torch.testing.assert_close(probability, (density * weights).sum(dim=1) * half)
    torch.testing.assert_close(total, torch.ones_like(total))


def discrete_model(seed, values=3, pixels=4):
    """p(z), log p(y | z) of all binary images y, a grey image x, P(y | x) and some q(z)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(values, pixels, generator=generator, dtype=D)
    log_prior, log_q = (
        torch.randn(values, generator=generator, dtype=D).log_softmax(dim=0) for _ in range(2)
    )
    x = torch.rand(pixels, generator=generator, dtype=D)
    y = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=D)] * pixels)  # (2^D, D)
    log_py = Bernoulli(nn.Identity())(logits).log_prob(y[:, None])  # (2^D, values)
    p_y = (y * x + (1 - y) * (1 - x)).prod(dim=1)
    return logits, log_prior, log_py, x, p_y, log_q


@pytest.mark.equation("eq-grey-cross-entropy")
def test_the_cross_entropy_of_grey_values_bounds_the_likelihood_of_their_binarisation():
    for seed in range(200):
        check_grey_cross_entropy(seed)


def check_grey_cross_entropy(seed):
    logits, log_prior, log_py, x, p_y, log_q = discrete_model(seed)
    torch.testing.assert_close(p_y.sum(), torch.ones((), dtype=D))
    grey = Bernoulli(nn.Identity())(logits).log_prob(x)  # cross-entropy with targets x
    torch.testing.assert_close(grey, p_y @ log_py)
    q = log_q.exp()
    bound = q @ (grey + log_prior - log_q)
    log_joint = log_prior + log_py
    log_evidence = log_joint.logsumexp(dim=1)
    log_posterior = log_joint - log_evidence[:, None]
    gap = p_y @ ((log_q - log_posterior) @ q)
    torch.testing.assert_close(bound, p_y @ log_evidence - gap)
    assert gap >= 0
    # an encoder that sees y can reach the expected log-likelihood itself
    seeing = (log_posterior.exp() * (log_joint - log_posterior)).sum(dim=1)
    torch.testing.assert_close(p_y @ seeing, p_y @ log_evidence)


@pytest.mark.equation("eq-grey-cross-entropy")
@pytest.mark.parametrize("logit", [-5.0, 0.0, 0.3, 8.0])
def test_the_cross_entropy_of_grey_values_is_not_the_log_of_a_density(logit):
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(50))
    x = 0.5 + 0.5 * nodes[:, None]
    density = Bernoulli(nn.Identity())(torch.full_like(x, logit)).log_prob(x).exp()
    assert (weights * density).sum() / 2 <= 0.5 + 1e-12
