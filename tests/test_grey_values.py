"""Distributions over grey values: normalised, sampled and averaged on the same grid."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Distribution

from hvae_course.grey_values import DiscretizedLogisticDistribution, GreyCategorical

KINDS = ("categorical", "logistic")
pixels = pytest.mark.parametrize("num_values", [2, 3, 17, 256])
kinds = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, num_values: int, batch: int = 5, size: int = 1, **to) -> Distribution:
    to = to or {"dtype": torch.float64}
    generator = torch.Generator().manual_seed(num_values)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(**to)

    if kind == "categorical":
        return GreyCategorical(2 * draw(batch, size, num_values))
    return DiscretizedLogisticDistribution(
        0.5 + draw(batch, size), draw(batch, size) - 1, num_values
    )


def grid(num_values: int) -> Tensor:
    return torch.linspace(0, 1, num_values, dtype=torch.float64)


def probabilities(distribution: Distribution) -> Tensor:
    """Probability of each grey value of the one pixel, (V, B)."""
    shape = distribution.batch_shape + distribution.event_shape
    images = grid(distribution.num_values).view(-1, *[1 for _ in shape]).expand(-1, *shape)
    return distribution.log_prob(images).exp()


@kinds
@pixels
def test_probabilities_of_all_grey_values_sum_to_one(kind, num_values):
    total = probabilities(make(kind, num_values)).sum(0)
    torch.testing.assert_close(total, torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-12)


@kinds
@pixels
def test_the_mean_is_the_expectation_over_all_grey_values(kind, num_values):
    p = make(kind, num_values)
    expected = (probabilities(p) * grid(num_values)[:, None]).sum(0)
    torch.testing.assert_close(p.mean[:, 0], expected, rtol=0, atol=1e-12)


@kinds
@pytest.mark.parametrize("num_values", [2, 3, 17])
def test_sample_frequencies_agree_with_the_probabilities(kind, num_values):
    p, n = make(kind, num_values), 50_000
    drawn = (p.sample((n,))[..., 0] * (num_values - 1)).round().long()  # (n, B)
    frequency = F.one_hot(drawn, num_values).double().mean(0).T  # (V, B)
    probability = probabilities(p)
    standard_error = (probability * (1 - probability) / n).sqrt()
    assert ((frequency - probability).abs() < 5 * standard_error + 1 / n).all()


@kinds
@pixels
@pytest.mark.parametrize("sample_shape", [(), (3,), (2, 3)], ids=str)
def test_samples_lie_on_the_grid_and_keep_the_shapes(kind, num_values, sample_shape):
    p = make(kind, num_values, batch=4, size=6)
    x = p.sample(sample_shape)
    assert x.shape == (*sample_shape, 4, 6)
    assert p.log_prob(x).shape == (*sample_shape, 4)
    assert (x[..., None] - grid(num_values)).abs().amin(-1).max() < 1e-12
    assert (p.mean.shape, p.batch_shape, p.event_shape) == ((4, 6), (4,), (6,))


@kinds
def test_log_probability_of_an_image_is_the_sum_over_its_pixels(kind):
    image = make(kind, 17, batch=4, size=3)
    x = image.sample()
    each = torch.zeros(4, dtype=torch.float64)
    for d in range(3):
        if kind == "categorical":
            single = GreyCategorical(image.base.logits[:, d : d + 1])
        else:
            single = DiscretizedLogisticDistribution(
                image.location[:, d : d + 1], image.scale[:, d : d + 1].log(), 17
            )
        each += single.log_prob(x[:, d : d + 1])
    torch.testing.assert_close(image.log_prob(x), each)


@kinds
def test_images_with_two_axes_are_one_event(kind):
    raw = torch.randn(3, 4, 5, 17, dtype=torch.float64)
    if kind == "categorical":
        p = GreyCategorical(raw)
    else:
        p = DiscretizedLogisticDistribution(raw[..., 0], raw[..., 1], 17)
    assert (p.batch_shape, p.event_shape) == ((3,), (4, 5))
    assert p.log_prob(p.sample()).shape == (3,)


@pytest.mark.parametrize("num_values", [2, 17])
def test_categorical_probabilities_are_the_softmax_of_the_logits(num_values):
    logits = torch.randn(4, 1, num_values, dtype=torch.float64)
    expected = logits.softmax(-1)[:, 0].T
    torch.testing.assert_close(probabilities(GreyCategorical(logits)), expected)


def test_categorical_with_two_values_is_bernoulli():
    logits = torch.randn(4, 6, 2, dtype=torch.float64)
    x = torch.randint(2, (4, 6)).double()
    bernoulli = Bernoulli(logits=logits[..., 1] - logits[..., 0])
    categorical = GreyCategorical(logits)
    torch.testing.assert_close(categorical.log_prob(x), bernoulli.log_prob(x).sum(1))
    torch.testing.assert_close(categorical.mean, bernoulli.mean)


@pixels
def test_logistic_probabilities_are_differences_of_sigmoids(num_values):
    p = make("logistic", num_values)
    half = 0.5 / (num_values - 1)
    edges = torch.cat([grid(num_values) - half, grid(num_values)[-1:] + half])
    cumulative = torch.sigmoid((edges[:, None] - p.location[:, 0]) / p.scale[:, 0])
    cumulative[0], cumulative[-1] = 0, 1  # the end bins include the tails
    torch.testing.assert_close(probabilities(p), cumulative.diff(dim=0), rtol=1e-9, atol=1e-12)


@pixels
def test_a_wide_logistic_has_half_its_mass_in_each_end_bin(num_values):
    half = torch.full((1, 1), 0.5, dtype=torch.float64)
    p = DiscretizedLogisticDistribution(half, 20 * half + 20, num_values)
    ends = probabilities(p)[[0, -1], 0]
    torch.testing.assert_close(ends, half.expand(2, 1)[:, 0], rtol=0, atol=1e-9)


def test_a_far_pixel_has_a_gradient_where_the_difference_of_sigmoids_is_zero():
    location = torch.tensor([[30.0]], requires_grad=True)
    p = DiscretizedLogisticDistribution(location, torch.tensor([[-2.0]]), 256)
    log_p = p.log_prob(torch.full((1, 1), 0.2))
    log_p.sum().backward()
    upper, lower = ((0.2 + s * 0.5 / 255 - 30) / p.scale for s in (1, -1))
    assert (torch.sigmoid(upper) - torch.sigmoid(lower)).item() == 0
    assert torch.isfinite(log_p).all() and log_p.item() < -100
    torch.testing.assert_close(location.grad, -1 / p.scale, rtol=1e-3, atol=0)


@pytest.mark.parametrize("num_values", [2, 17])
def test_logistic_log_probability_passes_gradcheck(num_values):
    location = torch.randn(6, 1, dtype=torch.float64, requires_grad=True)
    log_scale = torch.randn(6, 1, dtype=torch.float64, requires_grad=True)
    x = grid(num_values)[torch.arange(6) % num_values][:, None]

    def log_prob(location: Tensor, log_scale: Tensor) -> Tensor:
        return DiscretizedLogisticDistribution(location, log_scale, num_values).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, (location, log_scale))


@pixels
@pytest.mark.parametrize("location", [-1e3, 0.5, 1e3])
@pytest.mark.parametrize("log_scale", [-7.0, 0.0, 7.0])
def test_extreme_logistics_are_finite_in_float32(num_values, location, log_scale):
    parameters = torch.tensor([[[location]], [[log_scale]]], requires_grad=True)
    p = DiscretizedLogisticDistribution(*parameters, num_values)
    log_p = p.log_prob(torch.linspace(0, 1, num_values)[:, None, None])
    log_p.mean().backward()
    assert torch.isfinite(log_p).all()
    assert torch.isfinite(parameters.grad).all()
    assert 0 <= p.mean.item() <= 1 + 1e-5
    assert 0 <= p.sample((100,)).min() and p.sample((100,)).max() <= 1


@pytest.mark.parametrize("scale", [-1e3, 1e3])
def test_extreme_logits_are_finite_in_float32(scale):
    logits = scale * torch.tensor([[[0.0, 1.0, 0.5]]])
    logits.requires_grad_()
    log_p = GreyCategorical(logits).log_prob(torch.tensor([0.0, 0.5, 1.0])[:, None, None])
    log_p.mean().backward()
    torch.testing.assert_close(log_p.amin(), torch.tensor(-1e3))
    assert torch.isfinite(logits.grad).all() and (logits.grad != 0).any()


@pytest.mark.parametrize("u", [0.0, 1.0])
def test_a_uniform_draw_at_its_end_gives_a_finite_pixel(u, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **to: torch.full(shape, u, **to))
    p = make("logistic", 17, dtype=torch.float32)
    assert torch.isfinite(p.sample((3,))).all()


@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_parameters_give_float32_probabilities(kind, dtype):
    p = make(kind, 17, size=6, dtype=dtype)
    x = p.sample()
    assert x.dtype == p.mean.dtype == p.log_prob(x).dtype == torch.float32
    exact = make(kind, 17, size=6, dtype=dtype)
    if kind == "categorical":
        exact = GreyCategorical(exact.base.logits.double())
    else:
        exact = DiscretizedLogisticDistribution(
            exact.location.double(), exact.scale.double().log(), 17
        )
    torch.testing.assert_close(p.log_prob(x).double(), exact.log_prob(x.double()))
