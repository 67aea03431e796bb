"""Checks of chapter 10: what is called right agrees with the package and with exact answers."""

import math

import pytest
import torch
from answers.running import run_check, solution
from torch.distributions import MultivariateNormal, Normal

from hvae_course import attention, checks
from hvae_course.codes import Codebook, Codes, FiniteScalars
from hvae_course.flows import InverseAutoregressive
from hvae_course.gaussians import bound_log_std, diag_normal
from hvae_course.oracles import SharedNoise

D = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def assert_close(value, expected):
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


def masked(size, *, seed):
    """Shift and log-scale of every entry, both from the entries before it."""
    first, second = normal(2, size, size, seed=seed).tril(-1)
    return lambda z: (z @ first.T, torch.sin(z @ second.T))


def linear(size, *, seed):
    """A lower-triangular matrix with a unit diagonal, and the linear flow that it is."""
    below = normal(size, size, seed=seed).tril(-1)
    log_std = normal(size, seed=seed + 1) / 2
    return below, log_std, lambda z: (z @ below.T, log_std.expand(z.shape))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_linear_flow_has_the_density_of_the_gaussian_with_its_covariance(size):
    below, log_std, maps = linear(size, seed=size)
    factor = torch.linalg.solve(torch.eye(size, dtype=D) - below, torch.diag(log_std.exp()))
    gaussian = MultivariateNormal(torch.zeros(size, dtype=D), factor @ factor.T)
    z = normal(7, size, seed=9)
    found = solution("richer_levels", "flow_log_prob")(z, maps)
    torch.testing.assert_close(found, gaussian.log_prob(z), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_information_of_a_flow_follows_from_its_jacobian_and_is_the_package_s(size):
    noise, mean, log_std = normal(3, 4, size, seed=size)
    raw, step = masked(size, seed=size + 5), solution("richer_levels", "iaf_step")

    def maps(z):  # the package keeps log-scales within bounds
        shift, log_scale = raw(z)
        return shift, bound_log_std(log_scale)

    z, information = step(noise, mean, log_std, maps)
    prior = Normal(torch.zeros((), dtype=D), 1.0)
    for row in range(4):

        def draw(own, row=row):
            return step(own[None], mean[row : row + 1], log_std[row : row + 1], maps)[0][0]

        jacobian = torch.autograd.functional.jacobian(draw, noise[row])
        log_q = prior.log_prob(noise[row]).sum() - torch.linalg.slogdet(jacobian).logabsdet
        assert_close(information[row], log_q - prior.log_prob(z[row]).sum())
    flow = InverseAutoregressive(diag_normal(mean, log_std), raw, step=1.0)
    assert_close(flow.from_noise(noise), z)
    assert_close(information, flow.log_prob(z) - prior.log_prob(z).sum(dim=1))


def test_one_noise_reports_the_numbers_of_the_oracle():
    toy, x = SharedNoise(), torch.tensor([1.5], dtype=D)
    alternating = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=D)
    answer = solution("richer_levels", "toy_bounds")
    _, reported = answer(x, *toy.best_shared(x), alternating)
    assert (f"{reported.item():.3f}", f"{toy.log_px(x).item():.3f}") == ("-1.144", "-1.949")
    bound, _ = answer(x, *toy.best_independent(x), alternating)
    assert f"{bound.item():.3f}" == "-2.530"
    mean, variance = normal(5, seed=1), normal(5, seed=2).exp()
    x = normal(5, seed=3)
    bound, reported = answer(x, mean, variance, alternating)
    assert_close(bound, toy.independent(x, mean, variance))
    assert_close(reported, toy.shared(x, mean, variance))


def test_one_noise_reports_the_mean_over_its_draws():
    signs, noise = torch.tensor([1.0, 1.0, -1.0], dtype=D), normal(200_000, 1, seed=4)
    x, mean, std = normal(1, seed=5), normal(1, seed=6), torch.tensor([0.7], dtype=D)
    z = mean + std * signs * noise  # (draws, steps)
    fit = Normal(z.sum(dim=1), 1.0).log_prob(x)
    charged = 3 * torch.distributions.kl_divergence(Normal(mean, std), Normal(0.0, 1.0))
    _, expected = solution("richer_levels", "toy_bounds")(x, mean, std**2, signs)
    error = (fit - charged).mean() - expected
    assert abs(error) < 5 * fit.std() / len(fit) ** 0.5


def test_filters_of_a_mirrored_window_are_mirrored_and_a_full_window_is_the_identity():
    answer = solution("richer_levels", "filterbank")
    given = normal(3, 4).abs() + 1
    expected = attention.filterbank(*given, num_filters=4, size=9)
    assert_close(answer(*given, 4, 9), expected)
    center, stride, std = torch.tensor([[9.0], [2.0], [1.3]])
    own, other = (answer(g, stride, std, 5, 28) for g in (center, 29 - center))
    torch.testing.assert_close(own.flip(1, 2), other)
    full = answer(torch.tensor([4.0]), torch.ones(1), torch.tensor([0.05]), 7, 7)
    torch.testing.assert_close(full[0], torch.eye(7))


def test_a_quantiser_has_values_and_gradients_of_the_package_s():
    torch.manual_seed(0)
    book = Codebook(6, 3, commitment=0.4, decay=None).double()
    results = []
    for answer in (solution("codes", "quantise"), None):
        encodings = normal(5, 4, 3, seed=1).requires_grad_()
        if answer is None:
            q = book(encodings.movedim(-1, 1))
            z, penalty = q.point.movedim(1, -1), q.penalty
        else:
            z, penalty = answer(encodings, book.rows, 0.4)
        loss = (torch.linspace(1, 2, z.numel(), dtype=D).view_as(z) * z).sum()
        loss = loss + (torch.arange(1, 6) * penalty).sum()
        slopes = torch.autograd.grad(loss, [encodings, book.rows])
        results.append((z, penalty, *slopes))
    for value, expected in zip(*results, strict=True):
        assert_close(value, expected)


def test_a_moving_codebook_is_the_package_s_for_several_batches():
    torch.manual_seed(0)
    book = Codebook(5, 3, decay=0.7, smoothing=0.3).double()
    state = [book.rows.clone(), book.sums.clone(), book.counts.clone()]
    for seed in range(4):
        encodings = normal(9, 3, seed=seed)
        z, *state = solution("codes", "codebook_step")(encodings, *state, 0.7, 0.3, True)
        assert_close(book(encodings.requires_grad_()).point.detach(), z)
        for value, expected in zip(state, (book.rows, book.sums, book.counts), strict=True):
            assert_close(value, expected)


def test_without_decay_and_smoothing_the_step_is_one_of_k_means():
    encodings, rows = normal(40, 2, seed=1), normal(5, 2, seed=2)
    rows[0] = 30.0  # never the nearest
    index = (encodings[:, None] - rows).norm(dim=2).argmin(dim=1)
    means = [encodings[index == k].mean(dim=0) for k in range(1, 5)]
    start = rows * 3, torch.full((5,), 3.0, dtype=D)
    _, moved, _, counts = solution("codes", "codebook_step")(
        encodings, rows, *start, 0.0, 0.0, True
    )
    assert_close(moved, torch.stack([rows[0], *means]))
    assert counts.sum() == 40


def test_finite_scalars_have_values_and_gradients_of_the_package_s():
    values = (2, 3, 4, 5)
    results = []
    for answer in (solution("codes", "finite_scalars"), None):
        encodings = normal(50, 4, seed=1).requires_grad_()
        if answer is None:
            z = FiniteScalars(values)(encodings).point
        else:
            z = answer(encodings, torch.tensor(values))
        (slope,) = torch.autograd.grad((z * normal(50, 4, seed=2)).sum(), encodings)
        results.append((z, slope))
    for value, expected in zip(*results, strict=True):
        assert_close(value, expected)


def test_the_perplexity_of_equally_used_codes_is_their_number():
    batches = [torch.arange(6).view(3, 2), torch.arange(6, 8).view(1, 2)]
    live, perplexity = solution("codes", "code_usage")(batches, 20)
    assert live == 8
    assert perplexity.item() == pytest.approx(8, abs=1e-5)


def test_bound_and_gap_of_codes_agree_with_the_package_s_prior():
    rows, log_p = normal(4, 3, seed=1), normal(2, 4, seed=2).log_softmax(dim=1)
    index = torch.tensor([[0, 3], [2, 2], [1, 0]])
    log_px = normal(3, 4, 4, seed=3)
    bound, gap = solution("codes", "code_bound")(rows[index], rows, log_p, log_px)
    prior = Codes(log_p.T, rows, batch_dims=0)
    own = log_px[torch.arange(3), index[:, 0], index[:, 1]]
    assert_close(bound, own + prior.log_prob(rows[index].movedim(-1, 1)))
    log_px_all = (log_px + log_p[0][:, None] + log_p[1]).flatten(1).logsumexp(dim=1)
    assert_close(bound + gap, log_px_all)
    one = torch.zeros(3, 2, 5, dtype=D)  # a single row has no rate and no gap
    bound, gap = solution("codes", "code_bound")(
        one, one[0, :1], torch.zeros(2, 1, dtype=D), log_px[:, :1, :1]
    )
    assert_close(bound, log_px[:, 0, 0])
    assert_close(gap, torch.zeros(3, dtype=D))


def test_a_uniform_prior_has_the_rate_n_log_k():
    log_p = torch.full((3, 4), -math.log(4), dtype=D)
    rows, log_px = normal(4, 2, seed=1), normal(2, 4, 4, 4, seed=2)
    bound, _ = solution("codes", "code_bound")(
        rows[torch.zeros(2, 3, dtype=int)], rows, log_p, log_px
    )
    assert_close(bound, log_px[:, 0, 0, 0] - 3 * math.log(4))


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        (
            "codes.quantise",
            lambda z_e, rows, beta: [part.detach() for part in _reference(z_e, rows, beta)],
            "no gradient reaches the encodings from z",
        ),
        (
            "codes.finite_scalars",
            lambda z_e, values: solution("codes", "finite_scalars")(z_e, values).detach(),
            "no gradient reaches the encodings",
        ),
    ],
)
def test_what_only_gradients_show_is_named(exercise, answer, hint, capsys):
    sheet, name = exercise.split(".")
    verdict = run_check(getattr(getattr(checks, sheet), name), answer, capsys)
    assert not verdict
    assert hint in verdict.message


def _reference(z_e, rows, beta):
    return solution("codes", "quantise")(z_e, rows, beta)
