"""Chapter 2: the objectives and the exact model of a collapsing level."""

import math

import pytest
import torch
from linear_gaussian import D, agree, wrong_posterior

from hvae_course import data, objectives, recipes
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import Level, Trace
from hvae_course.objectives import FreeBits, WarmUp, Weighted
from hvae_course.oracles import LinearGaussian
from hvae_course.posteriors import Chain

KNOWN = [0.05, 0.1, 0.12, 0.2, 0.25, 0.3, 0.4, 0.62, 0.9, 1.5]


def trace_with(*levels):
    """A trace whose levels have the given information: q = N(m, 1), p = N(0, 1), z = m."""
    means = [(2 * torch.tensor(v, dtype=D)[:, None]).sqrt().requires_grad_() for v in levels]
    gaussians = [(m, diag_normal(m, 0 * m), diag_normal(0 * m, 0 * m)) for m in means]
    return Trace(tuple(Level(*g) for g in gaussians), gaussians[0][2]), means


def kl_term(objective, trace):
    """The KL term of an objective, per example."""
    x = torch.zeros(len(trace.levels[0].z), 1, dtype=D)
    return trace.log_px(x) - objective(trace, x)


def collapse_terms(a, b, s, r, sigma, beta):
    """The terms of the objective that contain z_2, averaged over z_1 ~ N(0, Sigma)."""
    square = b @ sigma @ b + r  # E z_2^2
    log_p = -0.5 * (s.log() + (sigma.diagonal() - 2 * a * (sigma @ b) + a**2 * square) / s).sum()
    return beta[0] * log_p - beta[1] * 0.5 * (square - 1 - r.log())


def random_covariance(size):
    a = torch.randn(size, size + 1, dtype=D)
    return a @ a.T


def equal_evidence(slope, s0=0.25):
    return LinearGaussian((1.0, slope), (s0, 1 - slope**2))


@pytest.mark.equation("eq-weighted")
@pytest.mark.parametrize("weights", [0.5, (1.0, 0.5, 2.0)])
def test_the_weighted_objective_weights_the_information_of_every_level(weights):
    model = recipes.bottom_up_vae(data.DataSpec(6, 2), latent_sizes=(4, 3, 2), hidden=(8,))
    model, x = model.double().eval(), torch.rand(5, 6, dtype=D).round()
    trace = model(x, 2)
    expected = trace.log_px(x)
    for l, level in enumerate(trace.levels):
        weight = weights[l] if isinstance(weights, tuple) else weights
        expected = expected - weight * (level.q.log_prob(level.z) - level.p.log_prob(level.z))
    value = Weighted(weights)(trace, x)
    torch.testing.assert_close(value, expected.unflatten(0, (5, 2)).mean(dim=1))
    torch.testing.assert_close(Weighted(1.0)(trace, x), objectives.elbo(trace, x))


@pytest.mark.equation("eq-weighted")
@pytest.mark.parametrize(("weights", "bound"), [((1, 1.5), True), ((1, 0.5), False)])
def test_with_weights_that_fall_on_the_way_up_a_chain_the_objective_is_not_a_bound(weights, bound):
    chain = equal_evidence(0.99)
    x = chain.sample_x(20_000, seed=1)
    gap = chain.log_px(x) - Weighted(weights)(chain.hvae(Chain(chain.posterior_chain()))(x), x)
    assert (gap.mean() > 0) == bound
    assert abs(gap.mean()) > 5 * gap.std() / len(gap) ** 0.5


@pytest.mark.equation("eq-mean-loss")
def test_a_mean_over_pixels_multiplies_the_kl_weight_by_their_number():
    model = recipes.two_level_vae(data.DataSpec(6, 2), latent_sizes=(3, 2), hidden=(8,))
    model, x = model.double().eval(), torch.rand(5, 6, dtype=D).round()
    trace = model(x)
    mean = trace.log_px(x) / 6 - sum(level.information for level in trace.levels)
    torch.testing.assert_close(6 * mean, Weighted(6.0)(trace, x))


@pytest.mark.equation("eq-warm-up")
def test_every_kl_weight_rises_linearly_to_its_own_epoch():
    warm_up = WarmUp((10, 30), Weighted((1.0, 0.8)))
    for epoch in (1, 5, 10, 20, 30, 31):
        expected = (min(1, epoch / 10), 0.8 * min(1, epoch / 30))
        assert warm_up.for_epoch(epoch).weights == pytest.approx(expected)
    reversed_list = WarmUp((30, 10)).for_epoch(10).weights
    assert reversed_list == pytest.approx((1 / 3, 1.0))  # z_2 at its full weight first


@pytest.mark.equation("eq-free-bits")
@pytest.mark.parametrize("nats", [0.1, 0.5])
def test_a_level_counts_as_its_floor_or_its_mean_whichever_is_larger(nats):
    trace, (first, second) = trace_with(KNOWN, KNOWN[::-1])
    value = kl_term(FreeBits((nats, 0.0)), trace).mean()
    mean = sum(KNOWN) / len(KNOWN)
    assert value.item() == pytest.approx(max(nats, mean) + mean)
    by_first, by_second = torch.autograd.grad(value, (first, second))
    assert (by_first == 0).all() == (mean < nats)
    torch.testing.assert_close(by_second, second.detach() / len(KNOWN))


@pytest.mark.equation("eq-free-bits-example")
def test_a_floor_under_every_example_counts_more_than_one_under_their_mean():
    trace, (mean,) = trace_with(KNOWN)
    value = kl_term(FreeBits(0.5, floor="example"), trace)
    torch.testing.assert_close(value, torch.tensor(KNOWN, dtype=D).clamp(min=0.5))
    assert value.mean().item() == pytest.approx(0.652)
    assert kl_term(FreeBits(0.5), trace).mean().item() == pytest.approx(0.5)
    assert sum(KNOWN) / 10 == pytest.approx(0.444)
    (pull,) = torch.autograd.grad(value.sum(), mean)
    assert (pull == 0).double().mean() == 0.7


@pytest.mark.equation("eq-free-bits-example")
def test_the_noise_of_one_draw_raises_the_kl_term():
    q, p = (diag_normal(torch.full((100_000, 1), m, dtype=D), torch.zeros(1)) for m in (1.0, 0.0))
    trace = Trace((Level(q.sample(), q, p),), p)
    value = kl_term(FreeBits(0.5, floor="example"), trace)
    assert agree(trace.levels[0].information, 0.5)  # the mean lies at the floor
    assert value.mean() > 0.5 + 5 * value.std() / len(value) ** 0.5


@pytest.mark.equation("eq-blind")
@pytest.mark.parametrize("state", ["markov", "skip"])
def test_in_a_markov_chain_reconstruction_sends_nothing_into_z_2(state):
    model = recipes.two_level_vae(
        data.DataSpec(6, 2), latent_sizes=(3, 2), hidden=(8,), state=state
    ).eval()
    x = torch.rand(5, 6).round()
    upper = [*model.posterior.heads[1].parameters(), *model.top_down.conditionals.parameters()]
    pulls = torch.autograd.grad(model(x).log_px(x).sum(), upper, allow_unused=True)
    into_q2 = pulls[: len(list(model.posterior.heads[1].parameters()))]
    assert all(pull is None for pull in pulls) == (state == "markov")
    assert all(pull is not None for pull in into_q2) == (state == "skip")


@pytest.mark.equation("eq-collapse-terms")
def test_the_exact_terms_of_z_2_are_what_the_objective_converges_to():
    chain = LinearGaussian((1.0, 0.6), (0.3, 0.5))
    q1, q2 = heads = wrong_posterior(chain)
    q2.offset = q1.offset = 0.0
    x, beta = chain.sample_x(400_000, seed=1), (0.7, 1.3)
    trace = chain.hvae(Chain(heads))(x)
    level_1, level_2 = trace.levels
    sampled = beta[0] * level_1.p.log_prob(level_1.z) - beta[1] * level_2.information
    variance = q1.slope**2 * chain.covariance()[0, 0] + math.exp(2 * q1.log_std)
    a, b, s, r = (
        torch.tensor(v, dtype=D) for v in ([0.6], [q2.slope], [0.5], math.exp(2 * q2.log_std))
    )
    exact = collapse_terms(a, b, s, r, variance.reshape(1, 1), beta)
    assert agree(sampled, (exact - beta[0] * 0.5 * math.log(2 * math.pi)).item())


@pytest.mark.equation("eq-collapse-gradient")
def test_each_half_of_the_link_is_driven_by_the_other():
    sigma, beta = random_covariance(3), (0.7, 1.3)
    a, b = torch.randn(2, 3, dtype=D).unbind()
    s, r = torch.rand(3, dtype=D) + 0.5, torch.tensor(0.8, dtype=D)
    a.requires_grad_(), b.requires_grad_()
    by_a, by_b = torch.autograd.grad(collapse_terms(a, b, s, r, sigma, beta), (a, b))
    torch.testing.assert_close(by_a, beta[0] * (sigma @ b - (b @ sigma @ b + r) * a) / s)
    pull = beta[0] * a / s - (beta[0] * (a**2 / s).sum() + beta[1]) * b
    torch.testing.assert_close(by_b, sigma @ pull)
    nothing = torch.zeros(3, dtype=D, requires_grad=True)
    at_collapse = collapse_terms(nothing, nothing, s, r, sigma, beta)
    assert (torch.autograd.grad(at_collapse, nothing)[0] == 0).all()


@pytest.mark.equation("eq-collapse-stability")
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("relative", [0.5, 0.95, 1.05, 2.0])
def test_collapse_is_left_where_a_correlation_outweighs_the_ratio_of_the_weights(size, relative):
    """Curvature in all directions, s and r included, at their best values for a = b = 0."""
    torch.manual_seed(size)
    sigma = random_covariance(size)
    scale = sigma.diagonal().sqrt()
    largest = torch.linalg.eigvalsh(sigma / torch.outer(scale, scale))[-1].item()
    beta = (0.7, 0.7 * largest * relative)

    def value(theta):
        a, b, log_s, log_r = theta.split([size, size, size, 1])
        return collapse_terms(a, b, log_s.exp(), log_r[0].exp(), sigma, beta)

    zero = torch.zeros(size, dtype=D)
    collapse = torch.cat([zero, zero, sigma.diagonal().log(), zero[:1]])
    gradient = torch.autograd.functional.jacobian(value, collapse)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)
    curvature = torch.linalg.eigvalsh(torch.autograd.functional.hessian(value, collapse))[-1]
    assert (curvature > 0) == (relative < 1)


@pytest.mark.equation("eq-collapse-stability")
def test_at_equal_weights_collapse_is_left_where_one_factor_improves_the_likelihood():
    """Factor analysis: log N(0, a a' + diag Sigma) grows from a = 0 along the same direction."""
    sigma = random_covariance(4)
    scale = sigma.diagonal().sqrt()
    values, directions = torch.linalg.eigh(sigma / torch.outer(scale, scale))

    def likelihood(a):
        covariance = torch.outer(a, a) + sigma.diagonal().diag()
        return -0.5 * (covariance.logdet() + (torch.linalg.inv(covariance) @ sigma).trace())

    hessian = torch.autograd.functional.hessian(likelihood, torch.zeros(4, dtype=D))
    rescaled = torch.outer(scale, scale) * hessian
    torch.testing.assert_close(rescaled, directions @ (values - 1).diag() @ directions.T)


@pytest.mark.equation("eq-link-information")
@pytest.mark.parametrize("slope", [0.0, 0.5, 0.9, 0.99])
def test_the_link_moves_information_between_levels_and_leaves_the_bound(slope):
    s0, chain = 0.25, equal_evidence(slope)
    x = chain.sample_x(200_000, seed=1)
    trace = chain.hvae(Chain(chain.posterior_chain()))(x)
    evidence = equal_evidence(0.0).log_px(x)
    torch.testing.assert_close(objectives.elbo(trace, x), evidence, rtol=0, atol=1e-9)
    first, second = (level.information for level in trace.levels)
    top = -0.5 * math.log(1 - slope**2)
    assert abs(second.mean() - top) < 1e-9 if slope == 0 else agree(second, top)
    assert agree(first, 0.5 * math.log((1 + s0) / s0) - top)
    assert (first.mean() < 0) == (slope**2 > 1 / (1 + s0))


@pytest.mark.equation("eq-weighted-bound")
def test_weights_that_rise_on_the_way_up_add_kl_divergences_to_the_unweighted_sum():
    """Each tail sum of a chain is a KL divergence, and so not negative in the mean."""
    chain = LinearGaussian((0.8, -1.1, 0.6), (0.3, 0.5, 0.2))
    x, beta = chain.sample_x(200_000, seed=1), (1.1, 1.3, 2.0)
    for heads in (chain.posterior_chain(), wrong_posterior(chain)):
        trace = chain.hvae(Chain(heads))(x)
        information = torch.stack([level.information for level in trace.levels])
        tails = information.flip(0).cumsum(0).flip(0)  # of this level and all above it
        assert (tails.mean(dim=1) > 5 * tails.std(dim=1) / len(x) ** 0.5).all()
        steps = torch.tensor(beta, dtype=D).diff(prepend=torch.zeros(1, dtype=D))
        expected = trace.log_px(x) - steps @ tails
        torch.testing.assert_close(Weighted(beta)(trace, x), expected)
