"""Rules of the top-down posteriors: what each reads and refuses, its KL, and extreme inputs."""

import math

import pytest
import torch
from linear_gaussian import D
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from hvae_course.gaussians import LOG_STD_BOUND, GaussianHead, diag_normal, kl_normal
from hvae_course.posteriors import (
    Concatenation,
    Delta,
    PrecisionWeighted,
    kl_delta,
    merge_parameters,
    precision_weighted_merge,
)


def gaussian(*shape: int, scale: float = 1.0) -> Distribution:
    return diag_normal(torch.randn(*shape, dtype=D), scale * torch.randn(*shape, dtype=D))


def mixture(n: int = 5, size: int = 3) -> MixtureSameFamily:
    parts = diag_normal(torch.zeros(2, size), torch.zeros(2, size)).expand((n, 2))
    return MixtureSameFamily(Categorical(torch.ones(n, 2)), parts)


def linear(size_in: int, size_out: int) -> nn.Linear:
    return nn.Linear(size_in, size_out, dtype=D)


@pytest.fixture
def d() -> Tensor:
    return torch.randn(5, 4, dtype=D)


@pytest.fixture
def h() -> Tensor:
    return torch.randn(5, 2, dtype=D)


# Concatenation


def test_concatenation_reads_the_feature_first_then_the_state_and_not_the_prior(d, h):
    head = GaussianHead(6, 3).double()
    q, expected = Concatenation(head)(d, h, gaussian(5, 3)), head(torch.cat([d, h], dim=1))
    assert torch.equal(q.mean, expected.mean) and torch.equal(q.stddev, expected.stddev)


# Delta


@pytest.mark.parametrize("reads_state", [True, False])
def test_delta_shifts_and_scales_the_prior(reads_state, d, h):
    net, p = linear(6 if reads_state else 4, 6), gaussian(5, 3)
    q = Delta(net, reads_state=reads_state)(d, h, p)
    shift, raw = net(torch.cat([d, h], dim=1) if reads_state else d).split(3, dim=1)
    log_scale = LOG_STD_BOUND * torch.tanh(raw / LOG_STD_BOUND)
    torch.testing.assert_close(q.mean, p.mean + shift)
    torch.testing.assert_close(q.stddev, p.stddev * log_scale.exp())


def test_a_delta_that_reads_the_state_moves_with_it_and_one_that_does_not_stays(d, h):
    seeing, blind = Delta(linear(6, 6)), Delta(linear(4, 6), reads_state=False)
    for rule, moves in ((seeing, True), (blind, False)):
        first, second = rule.delta(d, h), rule.delta(d, h + 1)
        assert [not torch.equal(a, b) for a, b in zip(first, second, strict=True)] == [moves] * 2


@pytest.mark.parametrize("bound", [LOG_STD_BOUND, 2.0])
@pytest.mark.parametrize("raw", [-1e3, 1e3])
def test_the_log_scale_of_a_delta_stays_within_its_bound(bound, raw, d, h):
    net, p = linear(6, 6), gaussian(5, 3)
    net.bias.data[3:] = raw
    rule = Delta(net) if bound == LOG_STD_BOUND else Delta(net, log_std_bound=bound)
    log_scale = rule(d, h, p).stddev.log() - p.stddev.log()
    torch.testing.assert_close(log_scale, torch.full_like(log_scale, math.copysign(bound, raw)))


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_a_zero_delta_is_the_prior_and_its_kl_is_exactly_zero(dtype, d, h):
    net = linear(6, 6).to(dtype)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    rule, p = Delta(net), diag_normal(*torch.randn(2, 5, 3, dtype=dtype))
    d, h = d.to(dtype), h.to(dtype)
    q = rule(d, h, p)
    assert (kl_delta(*rule.delta(d, h), p) == 0).all()
    assert torch.equal(q.mean, p.mean)
    torch.testing.assert_close(q.stddev, p.stddev)
    assert (kl_normal(q, p).abs() < 100 * torch.finfo(dtype).eps ** 2).all()


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 3.0])
def test_kl_of_a_delta_is_the_kl_of_prior_plus_delta(size):
    shift, log_scale = size * torch.randn(2, 50, 4, dtype=D)
    log_std = torch.randn(50, 4, dtype=D)
    p = diag_normal(torch.zeros(50, 4, dtype=D), log_std)
    exact = kl_normal(diag_normal(shift, log_std + log_scale), p)
    torch.testing.assert_close(kl_delta(shift, log_scale, p), exact, rtol=1e-8, atol=0)


@pytest.mark.parametrize("size", [1e-8, 1e-5])
def test_kl_of_a_tiny_delta_keeps_its_digits(size):
    """To second order it is half the squared shift in prior scales, plus the squared log-scale."""
    shift, log_scale = size * torch.ones(1, 1, dtype=D), -size * torch.ones(1, 1, dtype=D)
    p = diag_normal(torch.zeros(1, 1, dtype=D), torch.full((1, 1), math.log(2.0), dtype=D))
    expected = torch.tensor([(0.125 + 1) * size**2], dtype=D)
    torch.testing.assert_close(
        kl_delta(shift, log_scale, p), expected, rtol=2 * size + 1e-7, atol=0
    )


def test_kl_of_a_delta_is_not_that_of_a_clamped_sum():
    shift, log_scale = torch.zeros(2, 1, 3, dtype=D), torch.full((1, 3), 2.0, dtype=D)
    p = diag_normal(shift[0], torch.ones(1, 3, dtype=D))
    q = diag_normal(shift[0], (1 + log_scale).clamp(max=1.5))
    assert kl_delta(shift[1], log_scale, p) > kl_normal(q, p) + 10


def test_kl_of_a_delta_passes_gradcheck():
    shift, log_scale, log_std = torch.randn(3, 4, 2, dtype=D, requires_grad=True)
    zeros = torch.zeros(4, 2, dtype=D)
    assert torch.autograd.gradcheck(
        lambda a, b, c: kl_delta(a, b, diag_normal(zeros, c)), (shift, log_scale, log_std)
    )


def test_delta_refuses_a_prior_that_it_cannot_shift(d, h):
    match = r"Delta shifts a diagonal Gaussian .*got MixtureSameFamily; use Direct at the top"
    with pytest.raises(TypeError, match=match):
        Delta(linear(6, 6))(d, h, mixture())


# Precision-weighted merge


def test_the_merge_is_proportional_to_the_product_of_the_densities():
    a, b, z = gaussian(5, 3), gaussian(5, 3), torch.randn(7, 5, 3, dtype=D)
    merged = precision_weighted_merge(a, b)
    log_constant = a.log_prob(z) + b.log_prob(z) - merged.log_prob(z)
    torch.testing.assert_close(log_constant, log_constant[:1].expand_as(log_constant))


def test_the_merge_agrees_with_the_textbook_form_where_that_is_finite():
    mean_a, mean_b = torch.randn(2, 1000, dtype=D)
    log_std_a, log_std_b = 10 * torch.randn(2, 1000, dtype=D)
    mean, log_std = merge_parameters(mean_a, log_std_a, mean_b, log_std_b)
    tau_a, tau_b = (-2 * log_std_a).exp(), (-2 * log_std_b).exp()
    expected = (tau_a * mean_a + tau_b * mean_b) / (tau_a + tau_b)
    torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(log_std, -0.5 * (tau_a + tau_b).log(), rtol=1e-10, atol=1e-10)


def test_the_merge_is_finite_with_finite_gradients_where_the_textbook_form_overflows():
    """All pairs of log-variances from -200 to 200, in float32."""
    grid = torch.linspace(-100, 100, 81)
    log_std_a, log_std_b = torch.cartesian_prod(grid, grid).requires_grad_().unbind(1)
    mean_a, mean_b = (torch.randn(len(log_std_a)).requires_grad_() for _ in range(2))
    arguments = (mean_a, log_std_a, mean_b, log_std_b)
    mean, log_std = merge_parameters(*arguments)
    exact = merge_parameters(*(argument.double() for argument in arguments))
    torch.testing.assert_close((mean, log_std), tuple(e.float() for e in exact))
    for output in (mean, log_std):
        gradients = torch.autograd.grad(output.sum(), arguments, allow_unused=True)
        assert all(g is None or torch.isfinite(g).all() for g in gradients)
    assert (log_std <= torch.minimum(log_std_a, log_std_b) + 1e-5).all()
    assert (mean <= torch.maximum(mean_a, mean_b) + 1e-6).all()
    assert (mean >= torch.minimum(mean_a, mean_b) - 1e-6).all()


def test_a_tiny_share_keeps_its_digits():
    """1 minus the other share would be zero in float32."""
    zeros, ones = torch.zeros(2), torch.ones(2)
    log_std_a, log_std_b = torch.tensor([0.0, 10.0]), torch.tensor([10.0, 0.0])
    mean, _ = merge_parameters(zeros, log_std_a, ones, log_std_b)
    other, _ = merge_parameters(ones, log_std_b, zeros, log_std_a)
    share = math.exp(-20) / (1 + math.exp(-20))
    torch.testing.assert_close(mean, torch.tensor([share, 1 - share]), rtol=1e-5, atol=0)
    torch.testing.assert_close(other, mean, rtol=1e-5, atol=0)


def test_the_merge_is_symmetric():
    a, b = gaussian(5, 3, scale=10), gaussian(5, 3, scale=10)
    one, other = precision_weighted_merge(a, b), precision_weighted_merge(b, a)
    torch.testing.assert_close(one.mean, other.mean)
    assert torch.equal(one.stddev, other.stddev)


def test_merging_with_a_flat_gaussian_changes_nothing_and_with_itself_halves_the_variance():
    a = gaussian(5, 3)
    flat = diag_normal(torch.randn(5, 3, dtype=D), torch.full((5, 3), 40.0, dtype=D))
    for merged in (precision_weighted_merge(a, flat), precision_weighted_merge(flat, a)):
        torch.testing.assert_close(merged.mean, a.mean)
        torch.testing.assert_close(merged.stddev, a.stddev)
    twice = precision_weighted_merge(a, a)
    torch.testing.assert_close(twice.mean, a.mean)
    torch.testing.assert_close(twice.variance, a.variance / 2)


def test_the_merge_passes_gradcheck():
    arguments = tuple(torch.randn(4, 3, 2, dtype=D, requires_grad=True))
    assert torch.autograd.gradcheck(merge_parameters, arguments)


def test_a_prior_without_batch_shape_is_merged_with_every_row():
    a, b = gaussian(5, 3), diag_normal(*torch.randn(2, 1, 3, dtype=D))
    merged = precision_weighted_merge(a, b)
    assert (merged.batch_shape, merged.event_shape) == ((5,), (3,))


@pytest.mark.parametrize("order", [1, -1])
def test_the_merge_refuses_other_distributions(order):
    match = "the merge multiplies diagonal Gaussians, got MixtureSameFamily; use Direct at the top"
    with pytest.raises(TypeError, match=match):
        precision_weighted_merge(*(gaussian(5, 3), mixture())[::order])


def test_the_merge_refuses_gaussians_over_different_latents():
    match = r"event shapes \(3,\) and \(2,\): both must be distributions over the same z_l"
    with pytest.raises(ValueError, match=match):
        precision_weighted_merge(gaussian(5, 3), gaussian(5, 2))


def test_the_rule_merges_the_message_with_the_prior_and_reads_no_state(d, h):
    head, p = GaussianHead(4, 3).double(), gaussian(5, 3)
    q, expected = PrecisionWeighted(head)(d, h, p), precision_weighted_merge(head(d), p)
    assert torch.equal(q.mean, expected.mean) and torch.equal(q.stddev, expected.stddev)
