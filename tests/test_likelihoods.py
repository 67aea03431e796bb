"""Likelihoods: normalised, summed over pixels, finite at extremes, strict about their data."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent

from hvae_course import Trace
from hvae_course.config import AUTOREGRESSIVE_LIKELIHOODS
from hvae_course.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    Gaussian,
    IsotropicGaussian,
    Likelihood,
    MixtureOfLogistics,
)
from hvae_course.objectives.constrained import squared_error
from hvae_course.recipes import LIKELIHOODS

V = 5  # grey values
GREY = (Categorical, DiscretizedLogistic, MixtureOfLogistics)
REAL = ("gaussian", "isotropic_gaussian")
COUNTS = ("negative_binomial", "poisson")
OTHERS = ("mixed", *AUTOREGRESSIVE_LIKELIHOODS)  # whose pixels are not one by one
names = pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name not in OTHERS])


def make(name: str, net: nn.Module | None = None) -> Likelihood:
    """A likelihood whose state is the network's output itself, unless a network is given."""
    net = net or nn.Identity()
    grey = name in ("categorical", "discretized_logistic", "logistic_mixture")
    return LIKELIHOODS[name](net, V) if grey else LIKELIHOODS[name](net)


def num_outputs(name: str, pixels: int) -> int:
    factor = {"categorical": V, "logistic_mixture": 10}.get(name, 1)  # values or components
    return pixels * LIKELIHOODS[name].outputs_per_pixel * factor


def outputs(name: str, batch: int, pixels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, num_outputs(name, pixels), dtype=dtype)


def support(name: str) -> Tensor:
    """Every value of a pixel, a fine grid for the Gaussians, and counts up to many."""
    if name in COUNTS:
        return torch.arange(4_000, dtype=torch.float64)
    if name in REAL:
        return torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    return torch.linspace(0, 1, 2 if name == "bernoulli" else V, dtype=torch.float64)


@names
def test_probabilities_of_a_pixel_sum_or_integrate_to_one(name):
    raw, values = outputs(name, 1, 1).clamp(-1.5, 1.5), support(name)
    probability = make(name)(raw.expand(len(values), -1)).log_prob(values[:, None]).exp()
    step = values[1] - values[0] if name in REAL else 1
    torch.testing.assert_close(probability.sum() * step, values.new_tensor(1.0))


@names
def test_the_mean_is_the_expectation_under_the_probabilities(name):
    raw, values = outputs(name, 1, 1).clamp(-1.5, 1.5), support(name)
    px = make(name)(raw.expand(len(values), -1))
    probability = px.log_prob(values[:, None]).exp()
    step = values[1] - values[0] if name in REAL else 1
    torch.testing.assert_close(px.mean[0, 0], (probability * values).sum() * step)


@names
def test_sample_means_agree_with_the_mean(name, assert_mean):
    px = make(name)(outputs(name, 3, 2))
    assert_mean(px.sample((20_000,)), px.mean)


@names
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("pixels", [1, 6])
def test_one_row_of_outputs_gives_one_distribution_over_an_image(name, batch, pixels):
    px = make(name)(outputs(name, batch, pixels))
    assert (px.batch_shape, px.event_shape) == ((batch,), (pixels,))
    x = px.sample()
    assert x.shape == px.mean.shape == (batch, pixels)
    assert px.log_prob(x).shape == (batch,)


def pixel(name: str, raw: Tensor, d: int, pixels: int) -> Tensor:
    """The outputs of one pixel."""
    if name == "categorical":
        return raw[:, d * V : (d + 1) * V]
    return raw[:, d::pixels]  # mean and scale come in two halves


@names
def test_log_probability_is_the_sum_over_pixels_not_their_mean(name):
    raw = outputs(name, 4, 3)
    px = make(name)(raw)
    x = px.sample()
    each = [make(name)(pixel(name, raw, d, 3)).log_prob(x[:, d : d + 1]) for d in range(3)]
    torch.testing.assert_close(px.log_prob(x), sum(each))


@names
def test_probabilities_keep_float64(name):
    px = make(name)(outputs(name, 2, 3))
    assert px.sample().dtype == px.mean.dtype == px.log_prob(px.sample()).dtype == torch.float64


@names
def test_autocast_gives_the_float32_probabilities_of_the_same_outputs(name):
    net = nn.Linear(8, num_outputs(name, 6))
    likelihood, h = make(name, net), torch.randn(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw, px = net(h), likelihood(h)
        x = px.sample()
        log_prob = px.log_prob(x)
    assert raw.dtype == torch.bfloat16
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, make(name)(raw.float()).log_prob(x))


@names
def test_autocast_gives_the_float32_mean_of_the_same_outputs(name):
    net = nn.Linear(8, num_outputs(name, 6))
    likelihood, h = make(name, net), torch.randn(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw, mean = net(h), likelihood(h).mean
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, make(name)(raw.float()).mean)


@names
@pytest.mark.parametrize("value", [-1e3, 1e3])
@pytest.mark.parametrize("pattern", ["all", "first half", "second half", "alternating"])
@pytest.mark.parametrize("pixel", [0.0, 1.0])
def test_extreme_outputs_give_finite_losses_and_gradients(name, value, pattern, pixel):
    raw = torch.zeros(1, num_outputs(name, 6))
    half = raw.shape[1] // 2
    chosen = {
        "all": slice(None),
        "first half": slice(half),
        "second half": slice(half, None),
        "alternating": slice(None, None, 2),
    }
    raw[:, chosen[pattern]] = value
    raw.requires_grad_()
    px = make(name)(raw)
    loss = -px.log_prob(torch.full((1, 6), pixel)).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(raw.grad).all()
    assert torch.isfinite(px.mean).all() and torch.isfinite(px.sample()).all()


@pytest.mark.parametrize("logit", [20.0, 40.0, 1e3])
def test_the_loss_of_a_confidently_wrong_bernoulli_pixel_is_its_logit_with_gradient_one(logit):
    for sign, pixel in ((1, 0.0), (-1, 1.0)):
        raw = torch.tensor([[sign * logit]], requires_grad=True)
        loss = -make("bernoulli")(raw).log_prob(torch.tensor([[pixel]])).sum()
        loss.backward()
        torch.testing.assert_close(loss, torch.tensor(logit))
        torch.testing.assert_close(raw.grad, torch.tensor([[float(sign)]]))


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_the_bound_on_the_scale_bounds_the_gaussian_density(bound):
    raw = torch.zeros(1, 8, dtype=torch.float64)
    raw[:, 4:] = -1e3
    highest = Gaussian(nn.Identity(), log_std_bound=bound)(raw).log_prob(raw[:, :4])
    expected = 4 * (bound - 0.5 * math.log(2 * math.pi))
    torch.testing.assert_close(highest, highest.new_tensor([expected]))


@names
def test_a_likelihood_accepts_its_own_draws(name):
    likelihood = make(name)
    likelihood.check(likelihood(outputs(name, 20, 6, torch.float32)).sample())


@pytest.mark.parametrize("num_values", [2, 17, 256])
@pytest.mark.parametrize("kind", GREY)
def test_every_grey_value_in_float32_is_on_the_grid(kind, num_values):
    pixels = torch.arange(num_values, dtype=torch.uint8)
    kind(nn.Identity(), num_values).check(pixels.float()[None] / (num_values - 1))


@names
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_data_that_are_not_finite_are_refused(name, value):
    x = torch.zeros(2, 3)
    x[1, 2] = value
    nan = "hold NaN; remove them, or say that they are missing values .missing=True"
    with pytest.raises(ValueError, match=nan if math.isnan(value) else "infinite values; remove"):
        make(name).check(x)


def test_binary_pixels_have_the_bits_of_torch():
    logits, x = 9 * torch.randn(5, 7), torch.rand(5, 7).round()
    px = Bernoulli(nn.Identity())(logits)
    assert torch.equal(px.log_prob(x), Independent.log_prob(px, x))
    assert px.log_prob(px.sample((3,))).shape == (3, 5)


def test_bernoulli_refuses_grey_values():
    match = r"binary pixels, got grey values between 0 and 0\.25; binarise the data"
    with pytest.raises(ValueError, match=match):
        Bernoulli(nn.Identity()).check(torch.tensor([[0.0, 0.25]]))


@pytest.mark.parametrize("kind", GREY)
@pytest.mark.parametrize("value", [0.3, -0.25, 1.25])
def test_grey_likelihoods_refuse_values_off_their_grid(kind, value):
    match = rf"{kind.__name__} scores 5 grey values 0, 1/4, ..., 1, got values between .* off that"
    with pytest.raises(ValueError, match=match):
        kind(nn.Identity(), V).check(torch.tensor([[0.0, value]]))


@pytest.mark.parametrize("kind", GREY)
@pytest.mark.parametrize("num_values", [-1, 0, 1])
def test_a_pixel_with_fewer_than_two_values_is_refused(kind, num_values):
    with pytest.raises(ValueError, match=f"at least two grey values, got {num_values}"):
        kind(nn.Identity(), num_values)


@pytest.mark.parametrize("kind", GREY)
@pytest.mark.parametrize("num_values", [2, 3, 50, 256, 65536])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_grid_is_known_by_its_values_however_they_were_rounded(kind, num_values, dtype):
    likelihood, top = kind(nn.Identity(), num_values), num_values - 1
    index = torch.arange(num_values, dtype=dtype)
    above = torch.nextafter(torch.ones(1, dtype=dtype), torch.tensor(2.0, dtype=dtype))
    for x in (
        index / top,
        index * (1 / top),
        torch.linspace(0, 1, num_values, dtype=dtype),
        above,
    ):
        likelihood.check(x[None])
        ends = x[[0, -1]]
        outputs = {Categorical: num_values, DiscretizedLogistic: 2, MixtureOfLogistics: 30}[kind]
        raw = torch.zeros(1, 2 * outputs, dtype=dtype)
        assert torch.isfinite(likelihood(raw).log_prob(ends[None]))
    likelihood.check(torch.tensor([[-0.0]], dtype=dtype))
    with pytest.raises(ValueError, match="off that grid"):
        likelihood.check((index[-2:] - 0.3)[None] / top)


@pytest.mark.parametrize("name", REAL)
def test_the_gaussians_accept_any_finite_value(name):
    make(name).check(torch.tensor([[-3.7, 1e6]]))


# One scale for all dimensions


def isotropic(std: float, *, learned: bool = False) -> IsotropicGaussian:
    return IsotropicGaussian(nn.Identity(), std=std, learned=learned).double()


@pytest.mark.equation("eq-fixed-scale")
@pytest.mark.parametrize("std", [0.05, 1.0, 3.0])
@pytest.mark.parametrize("learned", [False, True])
def test_with_one_scale_the_reconstruction_is_a_squared_error_in_other_units(std, learned):
    mean, x = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    trace = Trace((), isotropic(std, learned=learned)(mean))
    constant = 6 * (math.log(std) + 0.5 * math.log(2 * math.pi))
    expected = 6 * squared_error(trace, x) / (2 * std**2) + constant
    torch.testing.assert_close(-trace.log_px(x), expected, rtol=1e-6, atol=1e-6)
    by_hand = (x - mean).square().sum(1) / (2 * std**2) + constant
    torch.testing.assert_close(expected, by_hand)


@pytest.mark.equation("eq-fixed-scale")
def test_a_variance_of_one_half_makes_the_reconstruction_the_squared_distance():
    mean, x = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    distance = (x - mean).square().sum(1) + 3 * math.log(math.pi)
    log_px = isotropic(math.sqrt(0.5))(mean).log_prob(x)
    torch.testing.assert_close(-log_px, distance, rtol=1e-6, atol=1e-6)


def test_a_fixed_scale_is_kept_and_a_learned_one_becomes_that_of_the_residuals():
    """At its maximum the likelihood has the root mean squared error as its scale."""
    fixed, learned = isotropic(0.3), isotropic(0.3, learned=True)
    assert not [*fixed.parameters()] and [*learned.parameters()] == [learned.log_std]
    assert "log_std" in fixed.state_dict() and "log_std" in learned.state_dict()
    x = 2 * torch.randn(50, 4, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(learned.parameters(), max_iter=50)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -learned(torch.zeros_like(x)).log_prob(x).mean()
        value.backward()
        return value

    optimizer.step(loss)
    torch.testing.assert_close(learned.log_std.exp(), x.square().mean().sqrt())


@pytest.mark.parametrize("std", [0.0, -0.2, math.nan])
def test_a_scale_that_is_not_positive_is_refused(std):
    with pytest.raises(ValueError, match=f"standard deviation must be positive, got std={std}"):
        IsotropicGaussian(nn.Identity(), std=std)
