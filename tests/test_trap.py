"""Chapter 1: the equations of the trap, each against an independent computation."""

import itertools

import numpy as np
import pytest
import torch
from linear_gaussian import CHAINS, TWO, D, agree, log_normal, quadrature, random_q
from torch.distributions import MultivariateNormal, Normal

from hvae_course.gaussians import kl_normal
from hvae_course.oracles import SharedCause, optimise_link, two_level_terms
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
    x, a, s1 = torch.tensor(1.3, dtype=D), 0.7, 0.3
    terms = two_level_terms(x, slopes=(1.0, a), variances=(0.25, s1), **q)

    def log_p1(z1, z2):
        return log_normal(z1, a * z2, s1)

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
    (a0, a1), (s0, s1) = slopes, variances = (1.1, 0.7), (0.25, 0.3)
    v2, m2 = q["gain"] ** 2 * q["variance"] + q["residual"], q["gain"] * q["mean"] + q["offset"]

    def log_ratio_of_marginals(z1, z2):
        log_p = log_normal(x, a0 * z1, s0) + log_normal(z1, a1 * z2, s1)
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
    (a0, a1), (s0, s1) = TWO.slopes, TWO.variances
    z2 = nodes[:, None]
    z1 = a1 * z2 + s1**0.5 * nodes[None, :]
    x = torch.linspace(-2, 2, 5, dtype=D)
    density = log_normal(x[:, None, None], a0 * z1, s0).exp()
    mixed = (density * weights[:, None] * weights[None, :]).sum(dim=(1, 2)) / weights.sum() ** 2
    torch.testing.assert_close(mixed.log(), TWO.log_px(x[:, None]))
    same = Normal(0.0, torch.tensor(a1**2 + s1 + s0, dtype=D).sqrt()).log_prob(x)
    torch.testing.assert_close(TWO.log_px(x[:, None]), same)


@pytest.mark.equation("eq-linear-gap")
def test_the_linear_gap_is_the_slope_times_covariance_over_variance():
    q, a, s1 = random_q(50), 0.9, 0.19
    x = torch.tensor(0.4, dtype=D)
    terms = two_level_terms(x, slopes=(1.0, a), variances=(0.25, s1), **q)
    covariance = q["gain"] * q["variance"]
    torch.testing.assert_close(terms.elbo - terms.closed_form, a * covariance / s1)


@pytest.mark.equation("eq-trap-slope")
@pytest.mark.parametrize("objective", ["elbo", "closed_form"])
def test_the_best_upper_posterior_follows_z_1_less_by_the_share_of_the_data(objective):
    """The formula is a stationary point in slope, offset and variance, and beats all others."""
    a, s1, b1, r1, deviation = torch.tensor([0.9, 0.19, 0.7, 0.3, 1.4], dtype=D)
    share = (b1 * deviation) ** 2 / ((b1 * deviation) ** 2 + r1)
    slope = a / (a**2 + s1) * (share if objective == "closed_form" else 1.0)
    best = torch.stack([slope, torch.zeros((), dtype=D), s1 / (a**2 + s1)]).requires_grad_()
    x = torch.stack([deviation, -deviation])  # mean zero; all terms are quadratic in x

    def value(upper):
        gain, offset, residual = upper
        terms = two_level_terms(
            x[:, None],
            slopes=(1.0, a),
            variances=(0.25, s1),
            mean=b1 * x[:, None],
            variance=r1,
            gain=gain,
            offset=offset,
            residual=residual,
        )
        return getattr(terms, objective).mean(dim=0)

    (gradient,) = torch.autograd.grad(value(best[:, None]).sum(), best)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=D), rtol=0, atol=1e-12)
    others = best.detach()[:, None] + torch.tensor(
        np.random.default_rng(0).normal(scale=0.1, size=(3, 1_000))
    )
    others[2] = others[2].abs() + 1e-3
    assert (value(others) < value(best.detach()[:, None])).all()


def full_terms(q, data):
    """Both objectives of a chain with vectors and full matrices, averaged over the data."""
    a, s1, mean, variance, b2, r2 = (
        q[k] for k in ("slope", "variance", "mean", "covariance", "follow", "residual")
    )
    s0, size = data.variances[0], data.size
    moment = data.slope**2 * torch.ones(size, size, dtype=D)
    moment = moment + sum(data.variances) * torch.eye(size, dtype=D)
    rest = torch.eye(size, dtype=D) - mean
    spread, signal = torch.diag(variance), mean @ moment @ mean.T
    wrong = torch.eye(size, dtype=D) - torch.outer(a, b2)
    product = torch.diag(wrong @ signal @ wrong.T) + spread + a**2 * (b2 @ variance @ b2 + r2)
    log_p1 = -0.5 * (torch.log(2 * torch.pi * s1) + product / s1).sum()
    error = torch.trace(rest @ moment @ rest.T) + spread.sum()
    log_px = -0.5 * (size * np.log(2 * np.pi * s0) + error / s0)
    entropy = 0.5 * (size * np.log(2 * np.pi * np.e) + torch.logdet(variance))
    top = 0.5 * (r2 + b2 @ (signal + variance) @ b2 - 1 - torch.log(r2))
    closed_form = log_px + entropy + log_p1 - top
    return {"closed_form": closed_form, "elbo": closed_form + (a * (variance @ b2) / s1).sum()}


@pytest.mark.equation("eq-shared")
def test_with_a_shared_cause_the_coordinates_of_the_data_are_correlated():
    torch.manual_seed(0)
    data, n = SharedCause(0.9, (0.25, 0.19), size=3), 200_000
    z2 = torch.randn(n, 1, dtype=D)
    z1 = data.slope * z2 + 0.19**0.5 * torch.randn(n, 3, dtype=D)
    x = z1 + 0.5 * torch.randn(n, 3, dtype=D)
    along = x.sum(dim=1) / 3**0.5
    across = (x[:, 0] - x[:, 1]) / 2**0.5
    for direction, moment in zip((along, across), data.moments(), strict=True):
        assert agree(direction**2, moment)
    covariance = 0.81 * torch.ones(3, 3, dtype=D) + 0.44 * torch.eye(3, dtype=D)
    log_px = MultivariateNormal(torch.zeros(3, dtype=D), covariance).log_prob(x)
    assert agree(log_px, data.log_likelihood(data))
    assert agree(x[:, 0] * x[:, 1], 0.81)


@pytest.mark.equation("eq-shared")
@pytest.mark.parametrize("objective", ["elbo", "closed_form"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_a_search_over_all_vectors_and_matrices_finds_the_same_optimum(objective, diagonal):
    """No symmetry is assumed here: every entry of every vector and matrix is free."""
    data, generator = SharedCause(0.9, (0.25, 0.19), size=3), np.random.default_rng(1)
    shapes = {"slope": 3, "log_variance": 3, "mean": (3, 3), "root": (3, 3), "follow": 3}
    free = {k: torch.tensor(generator.normal(scale=0.4, size=v)) for k, v in shapes.items()}
    free |= {"scale": torch.tensor(generator.normal(size=3)), "log_residual": torch.zeros(1)}
    free = {k: v.to(D).requires_grad_() for k, v in free.items()}

    def value():
        root = torch.diag(free["scale"].exp())
        root = root if diagonal else root + torch.tril(free["root"], -1)
        q = {
            "slope": free["slope"],
            "variance": free["log_variance"].exp(),
            "mean": free["mean"],
            "covariance": root @ root.T,
            "follow": free["follow"],
            "residual": free["log_residual"].exp()[0],
        }
        return full_terms(q, data)[objective]

    search = torch.optim.LBFGS(
        list(free.values()), max_iter=2_000, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss():
        search.zero_grad()
        negative = -value()
        negative.backward()
        return negative

    search.step(loss)
    found = optimise_link(objective, data, diagonal=diagonal)
    torch.testing.assert_close(value(), getattr(found.terms, objective), rtol=0, atol=1e-6)
    slope = found.model.slope.expand(3)
    torch.testing.assert_close(free["slope"].abs(), slope, rtol=0, atol=1e-3)


def test_the_closed_form_weakens_a_needed_level_and_removes_an_idle_one():
    needed, idle = (SharedCause(0.9, (0.25, 0.19), size) for size in (8, 1))
    right, wrong = (optimise_link(name, needed) for name in ("elbo", "closed_form"))
    assert right.model.slope.item() == pytest.approx(0.9, abs=1e-6)
    torch.testing.assert_close(right.terms.elbo, needed.log_likelihood(needed))
    assert wrong.model.slope.item() == pytest.approx(0.868, abs=5e-4)
    assert wrong.model.log_likelihood(needed).item() == pytest.approx(-9.506, abs=1e-3)
    kept = wrong.terms.information_2 / right.terms.information_2
    assert kept.item() == pytest.approx(0.872, abs=1e-3)
    assert optimise_link("closed_form", idle).model.slope.item() == pytest.approx(0, abs=1e-4)
    assert optimise_link("elbo", idle).model.slope.item() == pytest.approx(0.7, abs=0.01)


def test_given_slopes_are_held():
    slopes = torch.tensor([0.2, 0.5], dtype=D)
    found = optimise_link("elbo", SharedCause(0.9, (0.25, 0.19), 8), slope=slopes)
    torch.testing.assert_close(found.model.slope, slopes)
    assert found.terms.elbo[0] < found.terms.elbo[1]


def test_an_unknown_objective_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="expected 'elbo' or 'closed_form' as objective, got 'iw"):
        optimise_link("iwae", SharedCause(0.9, (0.25, 0.19)))


def test_a_slope_of_one_or_more_can_be_given_or_be_the_start():
    """The exact posterior is among those searched, so no start ends elsewhere."""
    data = SharedCause(1.2, (0.25, 0.19))
    found = optimise_link("elbo", data, slope=torch.tensor([1.0, 1.2], dtype=D))
    assert found.terms.elbo[0] < found.terms.elbo[1]
    torch.testing.assert_close(found.terms.elbo[1], data.log_likelihood(data))
    learned = optimise_link("elbo", data, start=1.0)
    torch.testing.assert_close(learned.terms.elbo, data.log_likelihood(data))


def test_a_shared_cause_that_is_no_density_is_refused():
    for variances, size in (((0.25, 0.0), 8), ((-0.25, 0.19), 8), ((0.25, 0.19), 0)):
        with pytest.raises(ValueError, match="expected positive variances .* got variances"):
            SharedCause(0.9, variances, size)


def test_data_of_another_size_have_no_likelihood():
    small, large = (SharedCause(0.9, (0.25, 0.19), size) for size in (4, 8))
    with pytest.raises(ValueError, match="this model has 4 coordinates and the data 8"):
        small.log_likelihood(large)
