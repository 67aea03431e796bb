"""Inverse autoregressive flow: order of the dimensions, density, inverse and gradients."""

import math

import pytest
import torch
from linear_gaussian import D, agree
from torch import Tensor, nn

from hvae_course.flows import AutoregressiveMaps, InverseAutoregressive, MaskedConvolution
from hvae_course.gaussians import diag_normal, is_diag_normal, kl_normal
from hvae_course.hierarchy import Level, mean_of
from hvae_course.oracles.layers import LinearGaussianLayer

SHAPES = [(3, 3, 2), (1, 2, 3), (2, 1, 1), (4, 2, 2)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def networks(shape, *, hidden=7, seed=0) -> AutoregressiveMaps:
    torch.manual_seed(seed)
    maps = AutoregressiveMaps(shape[0], context=2, hidden=hidden)
    for parameter in maps.parameters():
        nn.init.normal_(parameter, std=0.5)
    return maps.double()


def flow(shape, n=1, *, step=0.5, maps=None, seed=0) -> InverseAutoregressive:
    """A flow with random networks over a random Gaussian."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_std = 0.5 * torch.randn(2, n, *shape, generator=generator, dtype=D)
    context = torch.randn(n, 2, *shape[1:], generator=generator, dtype=D)
    maps = networks(shape) if maps is None else maps
    return InverseAutoregressive(
        diag_normal(mean, log_std), lambda z0: maps(z0, context), step=step
    )


def in_order(jacobian: Tensor, shape) -> Tensor:
    """A Jacobian of maps, its rows and columns in raster order, channels fastest."""
    order = torch.arange(math.prod(shape)).reshape(shape).permute(1, 2, 0).flatten()
    return jacobian.reshape(math.prod(shape), math.prod(shape))[order][:, order]


# The order


@shapes
@pytest.mark.parametrize("hidden", [1, 2, 7])
def test_both_maps_read_earlier_entries_and_no_other(shape, hidden):
    maps, z = networks(shape, hidden=hidden), torch.randn(1, *shape, dtype=D)
    context = torch.randn(1, 2, *shape[1:], dtype=D)
    for which in (0, 1):
        of = lambda z: maps(z, context)[which]  # noqa: B023, E731
        jacobian = in_order(torch.autograd.functional.jacobian(of, z), shape)
        assert torch.equal(jacobian, jacobian.tril(-1))


@shapes
def test_both_maps_read_all_earlier_entries_within_reach(shape):
    """Each of three 3x3 layers goes one row up and one column aside, or one column to the left."""
    maps, z = networks(shape, hidden=12), torch.randn(1, *shape, dtype=D)
    context = torch.randn(1, 2, *shape[1:], dtype=D)
    of = lambda z: maps(z, context)[0]  # noqa: E731
    jacobian = in_order(torch.autograd.functional.jacobian(of, z), shape)
    places = [(i, j, c) for i in range(shape[1]) for j in range(shape[2]) for c in range(shape[0])]
    for (i, j, c), row in zip(places, jacobian, strict=True):
        for (k, m, b), value in zip(places, row, strict=True):
            earlier = (k, m) != (i, j) and 0 <= i - k <= 3 and -(i - k) <= j - m <= 3
            assert (value != 0) == (earlier or ((k, m) == (i, j) and b < c))


def test_a_masked_convolution_reads_its_own_position_by_degree():
    layer = MaskedConvolution([1, 2, 3], [0, 2], kernel=3)
    earlier = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    for o, degree in enumerate((0, 2)):
        for i in range(3):
            expected = earlier.clone()
            expected[1, 1] = i + 1 <= degree
            assert torch.equal(layer.mask[o, i], expected.float())
    assert "mask" not in layer.state_dict()


# The density


@pytest.mark.equation("eq-iaf")
@shapes
def test_the_density_has_the_determinant_of_the_jacobian(shape):
    q, n = flow(shape), math.prod(shape)
    z0 = torch.randn(1, *shape, dtype=D)
    of = lambda z: q.inverse(z)  # noqa: E731
    shift, raw = q.maps(z0)
    log_scale = 7 * torch.tanh(0.5 * raw / 7)
    z = (z0 - 0.5 * shift) * (-log_scale).exp()
    torch.testing.assert_close(q.inverse(z), z0, rtol=0, atol=1e-10)
    jacobian = torch.autograd.functional.jacobian(of, z).reshape(n, n)
    log_determinant = torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(log_determinant, log_scale.sum())
    expected = q.base.log_prob(z0) + log_determinant
    torch.testing.assert_close(q.log_prob(z), expected)


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 1), (2, 1, 1)], ids=str)
def test_the_density_of_two_dimensions_integrates_to_one(shape):
    ticks = torch.linspace(-12, 12, 241, dtype=D)
    grid = torch.cartesian_prod(ticks, ticks).reshape(-1, *shape)
    one = flow(shape)
    mean, std = (v.expand(len(grid), *shape) for v in (one.base.mean, one.base.stddev))
    maps, context = networks(shape), torch.randn(1, 2, *shape[1:], dtype=D)
    q = InverseAutoregressive(
        diag_normal(mean, std.log()),
        lambda z0: maps(z0, context.expand(len(z0), *context.shape[1:])),
        step=0.5,
    )
    with torch.no_grad():
        density = q.log_prob(grid).exp()
        assert density.sum() * 0.1**2 == pytest.approx(1.0, abs=1e-5)
        # and draws have it: how many fall into a quadrant
        inside = (grid > one.base.mean).flatten(1).all(dim=1)
        found = (q.rsample() > one.base.mean).flatten(1).all(dim=1).to(D)
    assert agree(found, density[inside].sum() * 0.1**2)


@shapes
def test_the_density_of_a_draw_is_that_of_any_equal_value(shape):
    q = flow(shape, 50)
    z = q.rsample()
    assert q.batch_shape == (50,) and z.shape == (50, *shape)
    torch.testing.assert_close(q.log_prob(z), q.log_prob(z.clone()), rtol=0, atol=1e-9)


def test_a_draw_takes_one_pass_of_the_networks_and_its_density_none():
    passes, maps = [], networks((2, 3, 3))

    def counted(z0, context):
        passes.append(len(z0))
        return maps(z0, context)

    q = flow((2, 3, 3), 4, step=0.1, maps=counted)
    z = q.rsample()
    q.log_prob(z)
    assert len(passes) == 1
    with torch.no_grad():
        q.log_prob(z.clone())
    assert 3 < len(passes) <= 1 + 18 + 1


def test_the_inverse_is_exact_where_the_networks_are_far_from_a_contraction():
    q = flow((2, 2, 2), 20, step=3.0)
    z = q.rsample()
    again = (q.inverse(z) - q.inverse(z.clone())).abs().max()
    assert again == 0
    shift, log_scale = q._shift_and_log_scale(q.inverse(z))
    back = (q.inverse(z) - shift) * (-log_scale).exp()
    torch.testing.assert_close(back, z)


def test_with_small_maps_the_flow_is_the_base():
    q = InverseAutoregressive(
        diag_normal(torch.zeros(3, 2), torch.zeros(3, 2)), lambda z0: (0 * z0, 0 * z0)
    )
    z = q.rsample()
    assert torch.equal(q.log_prob(z), q.base.log_prob(z))


# Gradients


@pytest.mark.parametrize("draw", ["rsample", "sample", "given"])
def test_gradients_of_the_density_agree_with_differences(draw):
    """Of a draw with respect to the path through z too, of a value that is held without it."""
    shape, maps = (2, 1, 2), networks((2, 1, 2), hidden=2)
    names = [name for name, _ in maps.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in maps.parameters()]
    held = torch.randn(1, *shape, dtype=D)

    def density(*parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        q = flow(shape, maps=lambda *args: torch.func.functional_call(maps, named, args))
        torch.manual_seed(5)
        if draw == "given":
            return q.log_prob(held)
        return q.log_prob(q.rsample() if draw == "rsample" else held_by(q))

    def held_by(q: InverseAutoregressive) -> Tensor:
        """A value that q has drawn without gradients."""
        q.rsample = lambda: held  # so that differences see the same value
        q._last = (held, torch.zeros(1, dtype=D), False)
        return q.rsample()

    assert torch.autograd.gradcheck(density, values)


def test_a_draw_without_gradients_has_a_density_with_gradients():
    maps = networks((2, 2, 2))
    q = flow((2, 2, 2), 3, maps=maps)
    z = q.sample()
    assert not z.requires_grad
    q.log_prob(z).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in maps.parameters())


@shapes
def test_a_draw_sends_gradients_into_every_part(shape):
    maps = networks(shape, hidden=8)
    q = flow(shape, 3, maps=maps)
    z = q.rsample()
    (q.log_prob(z) + z.square().flatten(1).sum(dim=1)).sum().backward()
    for name, parameter in maps.named_parameters():
        unused = shape[1:] == (1, 1) and name == "enter.weight" and shape[0] == 1
        assert unused or (parameter.grad != 0).any(), name


# What a flow does not have


def test_a_flow_has_no_closed_form_of_mean_and_kl_divergence():
    q = flow((1, 1, 2), 4)
    p = LinearGaussianLayer(0.0, 1.0)(torch.zeros(4, 1, 1, 2, dtype=D))
    assert not is_diag_normal(q)
    with pytest.raises(TypeError, match="got InverseAutoregressive for q; estimate this KL"):
        kl_normal(q, p)
    with pytest.raises(TypeError, match="InverseAutoregressive has no mean in closed form"):
        mean_of(q)
    z = q.rsample()
    assert torch.equal(Level(z, q, p).information, q.log_prob(z) - p.log_prob(z))


def test_several_draws_per_row_are_refused():
    with pytest.raises(ValueError, match=r"got the sample shape \(5,\); repeat the rows"):
        flow((1, 1, 2)).rsample((5,))
