"""Diagonal Gaussians: bounded scales, float32 densities, a KL that does not cancel."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Laplace, Normal, kl_divergence

from hvae_course.gaussians import (
    LOG_STD_BOUND,
    GaussianHead,
    at_least_float32,
    bound_log_std,
    diag_normal,
    is_diag_normal,
    kl_normal,
    standard_normal,
)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Independent:
    generator = torch.Generator().manual_seed(seed)
    mean, log_std = torch.randn(2, *shape, generator=generator, dtype=dtype)
    return diag_normal(mean, log_std)


def slope(function: Callable[[Tensor], Tensor], at: float) -> float:
    at = torch.tensor(at, requires_grad=True)
    return torch.autograd.grad(function(at), at)[0].item()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
def test_only_half_precision_is_promoted(given, expected):
    value = torch.tensor([0.5, -2.0], dtype=given)
    promoted = at_least_float32(value)
    assert promoted.dtype == expected
    assert torch.equal(promoted, value.to(expected))


@pytest.mark.parametrize("bound", [0.5, 3.0, LOG_STD_BOUND])
def test_bounded_log_std_stays_within_the_bound(bound):
    raw = torch.cat([torch.tensor([-1e30, -1e3, 1e3, 1e30]), torch.linspace(-50, 50, 1001)])
    assert bound_log_std(raw, bound).abs().max() <= bound


def test_bounded_log_std_is_strictly_increasing():
    raw = torch.linspace(-30, 30, 10_001, dtype=torch.float64)
    assert (bound_log_std(raw).diff() > 0).all()


def test_bounded_log_std_is_odd_and_the_identity_near_zero():
    raw = torch.linspace(0, 20, 50, dtype=torch.float64)
    torch.testing.assert_close(bound_log_std(-raw), -bound_log_std(raw), rtol=0, atol=0)
    assert slope(bound_log_std, 0.0) == 1
    small = torch.tensor(1e-3, dtype=torch.float64)
    assert abs(bound_log_std(small) - small) < small**3 / LOG_STD_BOUND**2


@pytest.mark.parametrize("raw", [-20.0, 20.0])
def test_a_scale_far_outside_the_bound_still_has_a_gradient(raw):
    assert slope(bound_log_std, raw) > 0
    assert slope(lambda r: r.clamp(-LOG_STD_BOUND, LOG_STD_BOUND), raw) == 0


def test_bounded_log_std_passes_gradcheck():
    raw = torch.linspace(-15, 15, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bound_log_std, raw)


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (2, 3, 5, 5)], ids=str)
def test_every_axis_but_the_first_is_the_event(shape):
    q = gaussian(*shape)
    assert (q.batch_shape, q.event_shape) == (shape[:1], shape[1:])
    z = q.rsample()
    expected = Normal(q.mean, q.stddev).log_prob(z).flatten(1).sum(1)
    torch.testing.assert_close(q.log_prob(z), expected)


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 2, 2)], ids=str)
def test_density_and_gradients_have_the_bits_of_torch(shape):
    """Trained models stay what they are: fewer operations, not other numbers."""
    found = []
    for density in (lambda q, z: q.log_prob(z), Independent.log_prob):
        generator = torch.Generator().manual_seed(0)
        mean, std, z = (t.requires_grad_() for t in torch.randn(3, *shape, generator=generator))
        q = diag_normal(mean, std)
        value = density(q, z)
        found.append((value, *torch.autograd.grad(value.sum(), (mean, std, z))))
    assert all(map(torch.equal, *found))


def test_repeated_rows_have_the_density_of_the_single_one():
    p, z = standard_normal(3, like=torch.empty(0)), torch.randn(4, 3)
    repeated = p.expand((4,))
    assert type(repeated) is type(p)
    assert torch.equal(repeated.log_prob(z), p.log_prob(z))


def test_one_log_std_serves_every_dimension():
    mean = torch.randn(3, 4, dtype=torch.float64)
    one = diag_normal(mean, mean.new_tensor(-0.7))
    torch.testing.assert_close(one.stddev, torch.full_like(mean, math.exp(-0.7)))
    assert one.log_prob(mean).shape == (3,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_parameters_give_float32_densities(dtype):
    q = gaussian(5, 3, dtype=dtype)
    assert q.rsample().dtype == q.log_prob(q.mean).dtype == torch.float32
    exact = diag_normal(q.mean, q.stddev.log())
    torch.testing.assert_close(q.log_prob(q.mean), exact.log_prob(q.mean))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3)], ids=str)
def test_standard_normal_has_zero_mean_and_unit_scale(shape, dtype):
    p = standard_normal(*shape, like=torch.empty(0, dtype=dtype))
    assert (p.batch_shape, p.event_shape, p.mean.dtype) == ((), shape, dtype)
    z = torch.randn(6, *shape, dtype=dtype)
    expected = -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
    torch.testing.assert_close(p.expand((6,)).log_prob(z), expected)


def test_only_independent_normals_count_as_diagonal_gaussians():
    zero, one = torch.zeros(2, 3), torch.ones(2, 3)
    assert is_diag_normal(diag_normal(zero, zero))
    assert is_diag_normal(standard_normal(3, like=zero).expand((2,)))
    assert not is_diag_normal(Normal(zero, one))
    assert not is_diag_normal(Independent(Laplace(zero, one), 1))


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (2, 3, 4, 4)], ids=str)
def test_kl_agrees_with_the_one_of_torch(shape):
    q, p = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    kl = kl_normal(q, p)
    assert kl.shape == shape[:1]
    torch.testing.assert_close(kl, kl_divergence(q, p), rtol=1e-12, atol=1e-12)


def test_kl_agrees_with_its_monte_carlo_estimate(assert_mean):
    q, p = gaussian(4, 3, seed=1), gaussian(4, 3, seed=2)
    z = q.sample((100_000,))
    assert_mean(q.log_prob(z) - p.log_prob(z), kl_normal(q, p))


def test_kl_to_a_prior_without_batch_shape_broadcasts():
    q, p = gaussian(5, 3), standard_normal(3, like=torch.empty(0, dtype=torch.float64))
    torch.testing.assert_close(kl_normal(q, p), kl_normal(q, p.expand((5,))), rtol=0, atol=0)
    assert kl_normal(p, q).shape == (5,)
    assert kl_normal(p, p).shape == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equal_gaussians_have_exactly_zero_kl(dtype):
    q = gaussian(20, 5, dtype=dtype)
    assert (kl_normal(q, gaussian(20, 5, dtype=dtype)) == 0).all()


def near(delta: float, dtype: torch.dtype) -> tuple[Independent, Independent]:
    """Pairs of Gaussians of many widths that differ by ``delta`` in mean and scale."""
    log_std = torch.linspace(-LOG_STD_BOUND, LOG_STD_BOUND, 141)[:, None].to(dtype)
    mean = torch.zeros_like(log_std)
    return diag_normal(mean + delta * log_std.exp(), log_std + delta), diag_normal(mean, log_std)


@pytest.mark.parametrize("delta", [1e-1, 1e-2, 1e-3, 1e-4])
def test_kl_of_near_equal_gaussians_keeps_its_digits_in_float32(delta):
    exact = kl_normal(*near(delta, torch.float64))
    kl = kl_normal(*near(delta, torch.float32)).double()
    torch.testing.assert_close(kl, exact, rtol=5e-3, atol=0)


def test_the_textbook_form_of_the_kl_loses_its_digits_in_float32():
    exact = kl_normal(*near(1e-4, torch.float64))
    q, p = near(1e-4, torch.float32)
    t = 2 * (q.stddev.log() - p.stddev.log())
    textbook = 0.5 * (t.exp() - t - 1 + ((q.mean - p.mean) / p.stddev) ** 2)
    assert ((textbook[:, 0].double() - exact).abs() > 0.02 * exact).any()


def test_kl_is_never_negative_in_float32():
    log_std = 3 * torch.randn(100_000, 1)
    change = torch.randn_like(log_std) * 10 ** (-8 * torch.rand_like(log_std))
    zero = torch.zeros_like(log_std)
    assert kl_normal(diag_normal(zero, log_std + change), diag_normal(zero, log_std)).min() >= 0


def test_kl_is_finite_between_the_narrowest_and_the_widest_gaussian():
    mean = torch.tensor([[1e3]])
    for sign in (1, -1):
        q = diag_normal(mean, bound_log_std(torch.tensor([[1e3 * sign]])))
        p = diag_normal(-mean, bound_log_std(torch.tensor([[-1e3 * sign]])))
        assert torch.isfinite(kl_normal(q, p)).all()


def test_kl_passes_gradcheck():
    parameters = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)

    def kl(parameters: Tensor) -> Tensor:
        q_mean, q_log_std, p_mean, p_log_std = parameters
        return kl_normal(diag_normal(q_mean, q_log_std), diag_normal(p_mean, p_log_std))

    assert torch.autograd.gradcheck(kl, parameters)


@pytest.mark.parametrize("name", ["q", "p"])
def test_kl_refuses_other_distributions(name):
    given = {"q": gaussian(2, 3), "p": gaussian(2, 3)}
    given[name] = Laplace(torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(TypeError, match=f"two diagonal Gaussians, got Laplace for {name}"):
        kl_normal(**given)


def test_kl_refuses_gaussians_over_different_latents():
    with pytest.raises(ValueError, match=r"the same latent, got event shapes \(3,\) and \(4,\)"):
        kl_normal(gaussian(2, 3), gaussian(2, 4))


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("size", [1, 4])
def test_gaussian_head_gives_one_gaussian_per_row(batch, size):
    q = GaussianHead(6, size)(torch.randn(batch, 6))
    assert (q.batch_shape, q.event_shape) == ((batch,), (size,))


def test_a_head_of_zeros_is_the_standard_normal():
    head = GaussianHead(6, 3).double()
    torch.nn.init.zeros_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    q = head(torch.randn(4, 6, dtype=torch.float64))
    p = standard_normal(3, like=q.mean)
    assert (kl_normal(q, p) == 0).all()


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_gaussian_head_keeps_its_scales_within_its_bound(bound):
    head = GaussianHead(2, 3, log_std_bound=bound)
    log_std = head(1e4 * torch.randn(50, 2)).stddev.log()
    assert log_std.abs().max() <= bound + 1e-6
    assert log_std.abs().max() > 0.99 * bound


@pytest.mark.parametrize("value", [-1e3, 1e3])
def test_extreme_head_outputs_give_finite_kl_and_gradients(value, assert_finite_gradients):
    head = GaussianHead(2, 3)
    torch.nn.init.constant_(head.linear.bias, value)
    q = head(torch.randn(5, 2))
    p = standard_normal(3, like=q.mean)
    assert_finite_gradients(head, kl_normal(q, p).mean())
    assert_finite_gradients(head, head(torch.randn(5, 2)).log_prob(torch.zeros(5, 3)).mean())


def test_gradient_of_the_kl_pulls_a_saturated_scale_back():
    raw = torch.tensor([[-20.0], [20.0]], requires_grad=True)
    q = diag_normal(torch.zeros(2, 1), bound_log_std(raw))
    kl_normal(q, standard_normal(1, like=raw)).sum().backward()
    assert torch.equal(raw.grad.sign(), raw.detach().sign())  # descent moves both towards zero
