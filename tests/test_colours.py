"""Colours: probabilities that sum to one, channels that depend on each other, and known errors."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course import recipes
from hvae_course.analysis import bits_per_dim
from hvae_course.colours import LogisticMixture, num_pairs
from hvae_course.data import DataSpec
from hvae_course.grey_values import DiscretizedLogisticDistribution
from hvae_course.likelihoods import MissingValues, MixtureOfLogistics
from hvae_course.objectives import elbo
from hvae_course.recipes import build

D = torch.float64
SIZES = {"grey, 2 values": (1, 2), "grey, 5 bits": (1, 32), "grey, 8 bits": (1, 256)}
SIZES |= {"two channels": (2, 17), "RGB": (3, 6)}
sizes = pytest.mark.parametrize(("channels", "num_values"), SIZES.values(), ids=SIZES)


def mixture(
    channels: int, num_values: int, *, components: int = 3, pixels: int = 1, batch: int = 2
) -> LogisticMixture:
    """One of random parameters in float64, whose components differ."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, components, *shape, pixels, generator=generator, dtype=D)

    return LogisticMixture(
        draw(),
        0.5 + 0.5 * draw(channels),
        draw(channels) - 2,
        draw(num_pairs(channels)).tanh(),
        num_values=num_values,
    )


def flat(*parameters: list[float], dtype: torch.dtype = D) -> list[Tensor]:
    """Parameters of one pixel of one image in one component, (1, 1, C, 1)."""
    return [torch.tensor(some, dtype=dtype).view(1, 1, -1, 1) for some in parameters]


def every_colour(channels: int, num_values: int) -> Tensor:
    """All colours of one pixel, (V^C, C)."""
    index = torch.cartesian_prod(*[torch.arange(num_values)] * channels).view(-1, channels)
    return index.to(D) / (num_values - 1)


def probabilities(p: Distribution, channels: int, num_values: int) -> Tensor:
    """Probability of all colours of one pixel, (V^C, B)."""
    return p.log_prob(every_colour(channels, num_values)[:, None]).exp()


# Probabilities


@sizes
def test_the_probabilities_of_all_colours_sum_to_one(channels, num_values):
    total = probabilities(mixture(channels, num_values), channels, num_values).sum(0)
    torch.testing.assert_close(total, torch.ones(2, dtype=D), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 2e-4), (D, 1e-12)], ids=str)
@pytest.mark.parametrize("num_values", [32, 256])
@pytest.mark.parametrize("log_scale", [-7.0, -5.0, -3.0, 0.0, 7.0])
def test_grey_values_near_and_beyond_both_edges_are_all_counted_once(
    num_values, log_scale, dtype, atol
):
    """Black and white areas, and the values beside them, such as 254."""
    step = 1 / (num_values - 1)
    places = torch.tensor([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0], dtype=D) * step
    means = torch.cat([-places, places, 1 - places, 1 + places]).to(dtype)  # one per pixel
    shape = (1, 1, 1, len(means))
    p = LogisticMixture(
        torch.zeros(1, 1, len(means), dtype=dtype),
        means.view(shape),
        torch.full(shape, log_scale, dtype=dtype),
        num_values=num_values,
    )
    values = torch.linspace(0, 1, num_values, dtype=dtype)[:, None].expand(-1, len(means))
    total = p.log_prob_pixels(values[:, None]).double().exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=atol)


@pytest.mark.parametrize("num_values", [32, 256])
@pytest.mark.parametrize("before", [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)], ids=str)
def test_the_last_channel_sums_to_the_probability_of_the_channels_before_it(num_values, before):
    """Each conditional distribution is normalised, also after black and white channels.

    The mixture of the first channels alone has their parameters: nothing after them plays a part.
    """
    p = mixture(3, num_values)
    for channels in (2, 3):
        shorter, longer = (
            LogisticMixture(
                p.logits,
                p.means[:, :, :c],
                p.log_scales[:, :, :c],
                p.coefficients[:, :, : num_pairs(c)],
                num_values=num_values,
            )
            for c in (channels - 1, channels)
        )
        known = torch.tensor(before[: channels - 1], dtype=D)
        last = torch.linspace(0, 1, num_values, dtype=D)
        x = torch.cat([known.expand(num_values, -1), last[:, None]], dim=1)
        total = longer.log_prob(x[:, None]).exp().sum(0)
        expected = shorter.log_prob(known[None]).exp()
        torch.testing.assert_close(total, expected, rtol=1e-10, atol=0)


@pytest.mark.equation("eq-logistic-mixture")
def test_probabilities_are_sums_over_components_of_products_over_channels():
    """One pixel, component and channel at a time, by differences of two sigmoids."""
    p, x = mixture(3, 256, components=4, pixels=5), torch.randint(256, (2, 3, 5)).to(D) / 255
    x[0, :, 0], x[1, :, 1] = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])
    x = (255 * x).round() / 255
    expected = torch.zeros(2, dtype=D)
    for b, n in itertools.product(range(2), range(5)):
        weights = p.logits[b, :, n].softmax(0)
        r, g, _ = x[b, :, n] - 0.5
        total = 0.0
        for k in range(4):
            a = p.coefficients[b, k, :, n]
            shifts = (0, a[0] * r, a[1] * r + a[2] * g)
            product = weights[k]
            for c, shift in enumerate(shifts):
                location, scale = p.means[b, k, c, n] + shift, p.log_scales[b, k, c, n].exp()
                edges = x[b, c, n] + torch.tensor([0.5, -0.5], dtype=D) / 255
                upper, lower = torch.sigmoid((edges - location) / scale)
                upper = 1.0 if x[b, c, n] == 1 else upper
                lower = 0.0 if x[b, c, n] == 0 else lower
                product = product * (upper - lower)
            total = total + product
        expected[b] += total.log()
    torch.testing.assert_close(p.log_prob(x.flatten(1)), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(p.log_prob_pixels(x.flatten(1)).sum(1), expected)


@pytest.mark.parametrize("components", [1, 4])
def test_equal_components_of_a_grey_image_are_one_discretised_logistic(components):
    means, log_scales = torch.randn(3, 6, dtype=D), torch.randn(3, 6, dtype=D) - 2
    one = DiscretizedLogisticDistribution(means, log_scales, 17)
    spread = [some[:, None, None].expand(-1, components, 1, -1) for some in (means, log_scales)]
    p = LogisticMixture(torch.randn(3, components, 6, dtype=D), *spread, num_values=17)
    x = one.sample((5,))
    torch.testing.assert_close(p.log_prob(x), one.log_prob(x))
    torch.testing.assert_close(p.log_prob_each(x), one.log_prob_each(x))
    torch.testing.assert_close(p.mean, one.mean)


def test_a_likelihood_of_one_component_is_the_discretised_logistic_around_mid_grey():
    raw = torch.randn(2, 3, 6, dtype=D)
    px = MixtureOfLogistics(nn.Identity(), 17, num_components=1)(raw.flatten(1))
    one = DiscretizedLogisticDistribution(0.5 + raw[:, 1], 7 * torch.tanh(raw[:, 2] / 7), 17)
    x = one.sample()
    torch.testing.assert_close(px.log_prob(x), one.log_prob(x))


# Gradients


@pytest.mark.parametrize("dtype", [torch.float32, D], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("value", "mean"), [(0.0, 5.0), (0.4, 5.0), (0.4, -4.0), (1.0, -4.0)])
def test_a_far_and_narrow_component_has_finite_probabilities_and_gradients(
    channels, value, mean, dtype
):
    """A difference of sigmoids is zero there, so its logarithm would have no gradient."""
    means = torch.full((1, 1, channels, 1), mean, dtype=dtype, requires_grad=True)
    log_scales = torch.full_like(means, -7.0).detach().requires_grad_()
    slopes = torch.zeros(1, 1, num_pairs(channels), 1, dtype=dtype, requires_grad=True)
    logits = torch.zeros(1, 1, 1, dtype=dtype)
    p = LogisticMixture(logits, means, log_scales, slopes, num_values=256)
    x = torch.full((1, channels), value, dtype=dtype)
    log_p = p.log_prob(x)
    log_p.sum().backward()
    scale = math.exp(-7)
    ends = torch.sigmoid((value + torch.tensor([0.5, -0.5], dtype=dtype) / 255 - mean) / scale)
    assert ends[0] == ends[1]
    distance = abs(value - mean) / scale
    torch.testing.assert_close(log_p.item(), -distance * channels, rtol=1e-3, atol=0)
    away = math.copysign(1 / scale, value - mean)
    torch.testing.assert_close(means.grad, torch.full_like(means, away), rtol=1e-3, atol=0)
    torch.testing.assert_close(
        log_scales.grad, torch.full_like(means, distance), rtol=1e-3, atol=0
    )
    if channels > 1:
        expected = torch.full_like(slopes, away * (value - 0.5))
        torch.testing.assert_close(slopes.grad, expected, rtol=1e-3, atol=0)


def test_the_log_probability_passes_gradcheck():
    p = mixture(3, 8, components=2, pixels=2)
    x = p.sample()
    x[:, 0], x[:, -1] = 0, 1

    def log_prob(*parameters: Tensor) -> Tensor:
        return LogisticMixture(*parameters, num_values=8).log_prob(x)

    parameters = (p.logits, p.means, p.log_scales, p.coefficients)
    assert torch.autograd.gradcheck(log_prob, [one.requires_grad_() for one in parameters])


# Samples and means


def three_values() -> LogisticMixture:
    """Two components with large coefficients and three values, where rounding matters most."""
    return LogisticMixture(
        torch.tensor([[[0.3], [-0.2]]], dtype=D),
        torch.tensor([[[0.3, 0.6, 0.4], [0.8, 0.2, 0.6]]], dtype=D).unsqueeze(-1),
        torch.tensor([[[-2.0, -2.5, -2.0], [-1.5, -2.0, -2.5]]], dtype=D).unsqueeze(-1),
        torch.tensor([[[0.9, -0.8, 0.9], [-0.9, 0.7, 0.9]]], dtype=D).unsqueeze(-1),
        num_values=3,
    )


def largest_error(p: LogisticMixture, x: Tensor) -> float:
    """Largest difference of frequency and probability of a colour, in standard errors."""
    levels = (x * (p.num_values - 1)).round().long()  # (n, C)
    powers = p.num_values ** torch.arange(p.num_channels).flip(0)
    count = torch.bincount((levels * powers).sum(1), minlength=p.num_values**p.num_channels)
    probability = probabilities(p, p.num_channels, p.num_values)[:, 0]
    standard_error = (probability * (1 - probability) / len(x)).sqrt()
    return ((count / len(x) - probability).abs() / (standard_error + 1 / len(x))).max().item()


def sample_from_unrounded(p: LogisticMixture, count: int) -> Tensor:
    """The sampler of public code: each channel shifts with the values before they are rounded."""
    k = torch.multinomial(p.logits[0, :, 0].softmax(0), count, replacement=True)
    means, scales = p.means[0, :, :, 0][k], p.log_scales[0, :, :, 0].exp()[k]
    a = p.coefficients[0, :, :, 0][k]
    r, g, b = (means + scales * torch.logit(torch.rand(count, 3, dtype=D))).T
    r = r.clamp(0, 1)
    g = (g + a[:, 0] * (r - 0.5)).clamp(0, 1)
    b = (b + a[:, 1] * (r - 0.5) + a[:, 2] * (g - 0.5)).clamp(0, 1)
    return (torch.stack([r, g, b], 1) * (p.num_values - 1)).round() / (p.num_values - 1)


def test_frequencies_of_colours_are_their_probabilities():
    """Of 27 colours one exceeds five standard errors once in 60,000 seeds."""
    p = three_values()
    assert largest_error(p, p.sample((100_000,))[:, 0]) < 5


def test_a_sampler_that_conditions_on_values_before_rounding_draws_from_another_distribution():
    p = three_values()
    assert largest_error(p, sample_from_unrounded(p, 100_000)) > 25


@sizes
@pytest.mark.parametrize("sample_shape", [(), (3,), (2, 3)], ids=str)
def test_samples_lie_on_the_grid_and_keep_the_shapes(channels, num_values, sample_shape):
    p = mixture(channels, num_values, batch=4, pixels=6)
    x = p.sample(sample_shape)
    assert x.shape == (*sample_shape, 4, 6 * channels) and x.dtype == D
    assert p.log_prob(x).shape == (*sample_shape, 4)
    assert torch.equal(x, (x * (num_values - 1)).round() / (num_values - 1))
    assert 0 <= x.min() and x.max() <= 1 and not x.requires_grad
    assert (p.batch_shape, p.event_shape) == ((4,), (6 * channels,))
    assert p.mean.shape == (4, 6 * channels)


def test_pixels_are_independent_and_the_channels_of_a_pixel_share_a_component(assert_mean):
    """Two components, black and white: a pixel is one of them, its neighbour either."""
    means = torch.tensor([-5.0, 6.0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 3, 2)
    scales = torch.full((1, 2, 3, 2), -2.0, dtype=D)
    p = LogisticMixture(torch.zeros(1, 2, 2, dtype=D), means, scales, num_values=256)
    x = p.sample((20_000,)).view(-1, 3, 2)
    assert (x == x[:, :1]).all()
    assert_mean(x[:, 0].prod(1), 0.25)


@sizes
def test_the_mean_is_exact_for_the_first_channel_and_close_for_the_others(channels, num_values):
    p = mixture(channels, num_values)
    exact = probabilities(p, channels, num_values).T @ every_colour(channels, num_values)
    torch.testing.assert_close(p.mean[:, 0], exact[:, 0], rtol=0, atol=1e-12)
    assert (p.mean - exact).abs().max() < 0.02


def test_away_from_black_and_white_the_mean_is_exact(assert_mean):
    """The mean of a bin is linear in the location there, if the scale is not below the bin."""
    p = mixture(3, 256, components=3)
    inside = 0.5 + 0.1 * (p.means - 0.5).tanh()
    p = LogisticMixture(
        p.logits, inside, torch.full_like(inside, -5.5), p.coefficients, num_values=256
    )
    x = p.sample((50_000,))
    assert_mean(x, p.mean)
    a, m = p.coefficients, inside - 0.5
    m_r, weights = m[:, :, 0], p.logits.softmax(1)
    exact = (weights * (m[:, :, 1] + a[:, :, 0] * m_r)).sum(1) + 0.5
    torch.testing.assert_close(p.mean[:, 1], exact[:, 0], rtol=0, atol=1e-5)
    averaged = (weights * a[:, :, 0]).sum(1) * (weights * m_r).sum(1)  # as in public code
    assert ((weights * m[:, :, 1]).sum(1) + averaged + 0.5 - exact).abs().max() > 0.003


@pytest.mark.parametrize("u", [0.0, 1.0])
def test_a_uniform_draw_at_its_end_gives_a_finite_pixel(u, monkeypatch):
    monkeypatch.setattr(torch, "rand_like", lambda some: torch.full_like(some, u))
    p = mixture(3, 17)
    assert (p.sample((3,)) == u).all()


# Shapes, types and devices


def test_an_expanded_distribution_repeats_its_rows_without_a_copy():
    p = mixture(3, 17, batch=1, pixels=4)
    for shape in ((5,), (2, 5)):
        many = p.expand(shape)
        assert (many.batch_shape, many.event_shape) == (shape, (12,))
        assert many.means.data_ptr() == p.means.data_ptr()
        x = many.sample()
        assert x.shape == (*shape, 12) and many.mean.shape == x.shape
        torch.testing.assert_close(many.log_prob(x), p.log_prob(x.view(-1, 1, 12)).view(shape))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_parameters_give_float32_probabilities(dtype):
    p = mixture(3, 17, pixels=4)
    half = [some.to(dtype) for some in (p.logits, p.means, p.log_scales, p.coefficients)]
    p = LogisticMixture(*half, num_values=17)
    x = p.sample()
    assert x.dtype == p.mean.dtype == p.log_prob(x).dtype == torch.float32
    exact = LogisticMixture(*[some.double() for some in half], num_values=17)
    torch.testing.assert_close(p.log_prob(x).double(), exact.log_prob(x.double()))


PHOTOS = DataSpec((3, 2, 2), 256)
SETTINGS = {"latent_sizes": (4, 2), "hidden": (16,), "likelihood": "logistic_mixture"}


def colour_model(**settings) -> nn.Module:
    torch.manual_seed(0)
    return recipes.ladder_vae(PHOTOS, **SETTINGS | {"normalisation": "layer"} | settings)


def photos(batch: int = 7) -> Tensor:
    return torch.randint(256, (batch, 12)) / 255


def test_under_autocast_the_probabilities_are_those_of_the_same_outputs_in_float32():
    likelihood = MixtureOfLogistics(nn.Linear(8, 40 * 4), 256, num_channels=3, num_components=4)
    h, x = torch.randn(4, 8), photos(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw, px = likelihood.net(h), likelihood(h)
        log_prob, mean, drawn = px.log_prob(x), px.mean, px.sample()
    assert raw.dtype == torch.bfloat16
    assert log_prob.dtype == mean.dtype == drawn.dtype == torch.float32
    likelihood.net = nn.Identity()
    torch.testing.assert_close(log_prob, likelihood(raw.float()).log_prob(x))
    torch.testing.assert_close(mean, likelihood(raw.float()).mean)


def test_a_training_step_and_samples_take_place_on_the_meta_device():
    with torch.device("meta"):
        model = build(colour_model().config)
        trace, x = model(torch.empty(5, 12), 2), torch.empty(5, 12)
        trace.log_weight(x).mean().backward()
        assert trace.px.sample((3,)).is_meta and trace.px.mean.is_meta
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_step_is_captured_as_one_graph():
    """Without a break, so that nothing in it waits for the device."""
    model, x = colour_model(), photos()

    def step(x: Tensor) -> Tensor:
        return model(x, 2).log_weight(x)

    torch.manual_seed(0)
    expected = step(x)
    torch.manual_seed(0)
    found = torch.compile(step, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(found, expected)


# The likelihood


def test_the_outputs_of_a_decoder_are_maps_of_which_a_pixel_reads_its_own_place():
    """Parameters first and pixels last, as in (B, P, H, W) after flattening."""
    count, height, width = MixtureOfLogistics.num_outputs(3, 2), 2, 3
    maps = torch.randn(1, count, height, width, dtype=D, requires_grad=True)
    likelihood = MixtureOfLogistics(nn.Flatten(), 8, num_channels=3, num_components=2)
    px = likelihood(maps)
    image = torch.randint(8, (1, 3, height, width)).to(D) / 7  # rows are (C, H, W), flattened
    (gradient,) = torch.autograd.grad(px.log_prob_pixels(image.flatten(1))[0, 4], maps)
    assert (gradient[0, :, 1, 1] != 0).all()
    gradient[0, :, 1, 1] = 0
    assert (gradient == 0).all()
    one = likelihood(maps[..., 1:2, 1:2]).log_prob(image[..., 1, 1])
    torch.testing.assert_close(px.log_prob_pixels(image.flatten(1))[:, 4], one)


@pytest.mark.parametrize(
    ("shape", "channels", "outputs"),
    [((3, 2, 4), 3, 10 * 8), ((2, 4), 1, 3 * 8), ((1, 2, 4), 1, 3 * 8), (8, 1, 3 * 8)],
    ids=str,
)
@pytest.mark.parametrize("components", [1, 5])
def test_channels_and_number_of_outputs_follow_from_the_shape_of_the_data(
    shape, channels, outputs, components
):
    spec = DataSpec(shape, 32)
    model = recipes.vae(
        spec,
        hidden=(8,),
        likelihood="logistic_mixture",
        likelihood_options={"num_components": components},
    )
    likelihood = model.top_down.likelihood
    assert (likelihood.num_channels, likelihood.num_components) == (channels, components)
    assert likelihood.net[-1].out_features == components * outputs
    assert model.generate(2).px.event_shape == (spec.num_features,)
    assert str(build(model.config)) == str(model)


def test_a_model_of_colour_images_sends_a_gradient_to_every_parameter(assert_finite_gradients):
    model, x = colour_model(), photos()
    assert_finite_gradients(model, -elbo(model(x), x).mean())
    assert all((p.grad != 0).any() for p in model.parameters())


def test_one_component_learns_how_channels_depend_on_each_other():
    """At the maximum of the likelihood the coefficients are the slopes that made the data."""
    torch.manual_seed(0)
    truth = LogisticMixture(
        torch.zeros(1, 1, 1, dtype=D),
        *flat([0.5, 0.45, 0.55], [-2.5, -3.5, -3.5], [0.9, -0.4, 0.7]),
        num_values=256,
    )
    x = truth.sample((4_000,))[:, 0]
    raw = torch.zeros(1, 10, dtype=D, requires_grad=True)
    likelihood = MixtureOfLogistics(nn.Identity(), 256, num_channels=3, num_components=1)
    optimiser = torch.optim.LBFGS([raw], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -likelihood(raw).log_prob(x).mean()
        value.backward()
        return value

    optimiser.step(loss)
    found = likelihood(raw).coefficients.flatten().detach()
    torch.testing.assert_close(found, truth.coefficients.flatten(), rtol=0, atol=0.05)
    independent = LogisticMixture(truth.logits, truth.means, truth.log_scales, num_values=256)
    assert -loss().item() > independent.log_prob(x).mean() + 1


# What is refused


def test_channels_without_a_coefficient_for_every_pair_are_refused():
    means, log_scales, coefficients = flat([0.5] * 3, [0.0] * 3, [0.1] * 2)
    match = "3 channels need 3 coefficients per component, one for each pair, got 2; their order"
    with pytest.raises(ValueError, match=match):
        LogisticMixture(means[:, :, 0], means, log_scales, coefficients, num_values=8)


def test_missing_colours_are_refused_and_missing_grey_values_are_not():
    with pytest.raises(ValueError, match="3 channels of a pixel together, .* choose 'discretized"):
        recipes.vae(DataSpec((3, 2, 2), 256, missing=True), likelihood="logistic_mixture")
    grey = recipes.vae(DataSpec((2, 2), 256, missing=True), likelihood="logistic_mixture")
    assert isinstance(grey.top_down.likelihood, MissingValues)
    with pytest.raises(TypeError, match="3 channels of a pixel depend on each other given z, so"):
        mixture(3, 8).log_prob_each(torch.zeros(2, 3, dtype=D))


# Errors of public code, each with its size; their formulas have values in [-1, 1]


def public_probability(
    x: Tensor, mean: float, log_scale: float, *, half_bin: float, last: float = 0.999
) -> Tensor:
    """Discretised logistic of public code: tails below -0.999 and above ``last``."""
    scale = math.exp(log_scale)
    upper = torch.sigmoid((x + half_bin - mean) / scale)
    lower = torch.sigmoid((x - half_bin - mean) / scale)
    return torch.where(x < -0.999, upper, torch.where(x > last, 1 - lower, upper - lower))


BYTES = torch.arange(256, dtype=D) / 127.5 - 1
WHITE = {"light grey": (0.9, -3.0, 1.13), "white": (1.0, -7.0, 1.99)}


@pytest.mark.parametrize(("mean", "log_scale", "size"), WHITE.values(), ids=WHITE)
def test_a_right_tail_above_099_counts_white_twice(mean, log_scale, size):
    """The value 254 is 0.9922, so it is given the tail that belongs to 255."""
    wrong = public_probability(BYTES, mean, log_scale, half_bin=1 / 255, last=0.99)
    right = public_probability(BYTES, mean, log_scale, half_bin=1 / 255)
    torch.testing.assert_close(right.sum(), right.new_tensor(1.0))
    torch.testing.assert_close(wrong.sum(), 1 + right[-1])
    assert wrong.sum().item() == pytest.approx(size, abs=0.005)
    p = LogisticMixture(
        torch.zeros(1, 1, 1, dtype=D),
        *flat([(mean + 1) / 2], [log_scale - math.log(2)]),
        num_values=256,
    )
    found = p.log_prob((BYTES[:, None, None] + 1) / 2).exp()[:, 0]
    torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("log_scale", [-3.0, -2.0])
def test_five_bits_kept_as_bytes_overlap_and_flatter_by_004_bits_per_dimension(log_scale):
    """Values 0, 8, ..., 248 are 8 / 127.5 apart, and their bins are 2 / 31 wide."""
    values = 8 * torch.arange(32, dtype=D) / 127.5 - 1
    wrong = public_probability(values, 0.0, log_scale, half_bin=1 / 31).sum().item()
    assert wrong == pytest.approx((2 / 31) / (8 / 127.5), abs=1e-3)  # 1.028
    assert bits_per_dim(math.log(wrong), 1) == pytest.approx(-0.040, abs=1e-3)
    grid = torch.linspace(0, 1, 32, dtype=D)  # the same values, 0, 1/31, ..., 1
    p = LogisticMixture(
        torch.zeros(1, 1, 1, dtype=D), *flat([0.5], [log_scale - math.log(2)]), num_values=32
    )
    total = p.log_prob(grid[:, None, None]).exp().sum()
    torch.testing.assert_close(total, total.new_tensor(1.0))


def test_five_bits_kept_as_bytes_lose_the_tail_of_their_white():
    """Their largest value is 0.945 and never above 0.999, where public code has the tail."""
    values = 8 * torch.arange(32, dtype=D) / 127.5 - 1
    assert public_probability(values, 1.0, -3.0, half_bin=1 / 31).sum() < 0.7


def test_samples_that_are_truncated_to_bytes_are_half_a_grey_level_dark(assert_mean):
    mean, scale = 0.2, math.exp(-2.5)
    drawn = (mean + scale * torch.logit(torch.rand(50_000, dtype=D))).clamp(-1, 1)
    truncated = (127.5 * (drawn + 1)).to(torch.uint8).to(D)
    p = LogisticMixture(
        torch.zeros(1, 1, 1, dtype=D),
        *flat([(mean + 1) / 2], [math.log(scale / 2)]),
        num_values=256,
    )
    assert_mean(truncated, 255 * p.mean.item() - 0.5)
    assert_mean(255 * p.sample((50_000,))[:, 0, 0], 255 * p.mean.item())


def test_a_product_outside_the_mixture_costs_two_thirds_of_a_bit_per_dimension():
    """Of two colours, each of one component, it knows neither, but all eight combinations."""
    colours = torch.tensor([[0.1, 0.5, 0.9], [0.9, 0.1, 0.3]], dtype=D)
    means = colours.view(1, 2, 3, 1)
    log_scales = torch.full_like(means, -7)
    logits = torch.zeros(1, 2, 1, dtype=D)
    inside = LogisticMixture(logits, means, log_scales, num_values=11).log_prob(colours[:, None])
    outside = torch.zeros(2, 1, dtype=D)
    for c in range(3):
        some = slice(c, c + 1)
        one = LogisticMixture(logits, means[:, :, some], log_scales[:, :, some], num_values=11)
        outside += one.log_prob(colours[:, None, some])
    torch.testing.assert_close(inside, torch.full_like(inside, -math.log(2)))
    torch.testing.assert_close(outside, torch.full_like(inside, -math.log(8)))
    assert bits_per_dim((outside - inside).mean().item(), 3) == pytest.approx(2 / 3)
