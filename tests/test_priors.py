"""Priors over the top level."""

import math

import numpy as np
import pytest
import torch

from hvae_course.gaussians import is_diag_normal
from hvae_course.priors import MixtureOfGaussians, Prior, StandardNormal, VampPrior


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_standard_normal_has_the_density_of_its_formula(size, dtype):
    p = StandardNormal(size).to(dtype)()
    z = torch.randn(6, size, dtype=dtype)
    expected = -0.5 * z.square().sum(1) - 0.5 * size * math.log(2 * math.pi)
    torch.testing.assert_close(p.expand((6,)).log_prob(z), expected)


@pytest.mark.parametrize("size", [1, 8])
def test_the_standard_normal_is_one_gaussian_without_batch_shape(size):
    p = StandardNormal(size)()
    assert is_diag_normal(p)
    assert (p.batch_shape, p.event_shape) == ((), (size,))
    assert p.expand((3,)).sample().shape == (3, size)


def test_the_standard_normal_has_nothing_to_learn_or_to_save():
    prior = StandardNormal(3)
    assert not list(prior.parameters())
    assert not prior.state_dict()


def test_draws_have_zero_mean_and_unit_covariance(assert_mean):
    z = StandardNormal(3).double()().sample((50_000,))
    assert_mean(z, 0.0)
    products = z[:, :, None] * z[:, None, :]
    assert_mean(products, torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("size", [0, -1])
def test_a_prior_without_dimensions_is_refused(size):
    with pytest.raises(
        ValueError, match=rf"a prior needs size of at least 1, got size=\({size},\)"
    ):
        StandardNormal(size)


@pytest.mark.parametrize("size", [2.0, "2", (2, 1.5), True, None], ids=repr)
def test_sizes_that_are_no_whole_numbers_are_refused(size):
    with pytest.raises(TypeError, match="a prior needs size in whole numbers, got size="):
        MixtureOfGaussians(size)
    with pytest.raises(TypeError, match="a prior needs size in whole numbers, got size="):
        StandardNormal(size)
    with pytest.raises(TypeError, match="needs num_components in whole numbers, got num_comp"):
        MixtureOfGaussians(2, 3.5)


def test_sizes_of_numpy_are_taken():
    assert MixtureOfGaussians(np.int64(4), np.int64(3)).means.shape == (3, 4)
    assert StandardNormal(np.int64(4))().event_shape == (4,)


@pytest.mark.parametrize(
    "x",
    [np.zeros((5, 4)), [[0.0, 1.0]], torch.zeros(5, 4, dtype=torch.uint8), None],
    ids=["array", "list", "bytes", "nothing"],
)
def test_pseudo_inputs_are_tensors_of_real_numbers(x):
    for make in (VampPrior, lambda x: VampPrior.from_data(1, x)):
        with pytest.raises(TypeError, match=r"real numbers as a model sees them, such as data.tr"):
            make(x)


def test_a_prior_must_say_what_it_returns():
    with pytest.raises(TypeError, match="abstract"):
        Prior()
