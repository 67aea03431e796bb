"""Autoregressive likelihoods: order, normalisation, draws, and the exact toy of one shared bit."""

import math

import pytest
import torch
from linear_gaussian import D, agree
from torch import Tensor, nn
from torch.distributions import Distribution, OneHotCategorical

from hvae_course import analysis, data, recipes
from hvae_course.autoregressive import AutoregressivePixels, GatedLayer, PixelNetwork
from hvae_course.cli import main
from hvae_course.config import AUTOREGRESSIVE_LIKELIHOODS, Model
from hvae_course.data import DataSpec
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown, mean_of
from hvae_course.likelihoods import Autoregressive, PixelConvolutional
from hvae_course.objectives import elbo
from hvae_course.oracles import SharedBit
from hvae_course.posteriors import Direct, TopDownPosterior
from hvae_course.recipes import build

SHAPE = (2, 4)
IMAGES = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=D)] * 8)
"""All 256 binary images of 2 x 4 pixels."""


def noisy(module: nn.Module, *, std: float = 0.7, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module.double()


def likelihood(name: str, **options):
    if name == "autoregressive":
        return noisy(Autoregressive(nn.Identity(), 8, hidden=(16,), **options))
    made = PixelConvolutional(nn.Identity(), SHAPE, channels=4, num_layers=3, kernel=3, **options)
    return noisy(made)


def state(px, n: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 8 * px.outputs_per_pixel, dtype=D, generator=generator)


names = pytest.mark.parametrize("name", AUTOREGRESSIVE_LIKELIHOODS)


def sees(logits_of, shape) -> Tensor:
    """Which pixel (column) each logit (row) depends on."""
    x = torch.rand(1, math.prod(shape), dtype=D)
    jacobian = torch.autograd.functional.jacobian(lambda x: logits_of(x)[0], x)[:, 0]
    return jacobian != 0


# Probabilities


@names
def test_probabilities_of_all_images_sum_to_one_given_the_state(name):
    kind = likelihood(name)
    for h in state(kind, 3):
        px = kind(h.expand(256, -1))
        assert px.log_prob(IMAGES).exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("window", [0, 1, 3, 7])
def test_probabilities_sum_to_one_for_every_window(window):
    kind = likelihood("autoregressive", window=window)
    px = kind(state(kind, 1).expand(256, -1))
    assert px.log_prob(IMAGES).exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@names
def test_the_probability_is_the_product_of_the_conditional_ones(name):
    kind = likelihood(name)
    px = kind(state(kind, 1).expand(256, -1))
    expected = torch.zeros(256, dtype=D)
    for i in range(8):
        seen = IMAGES.clone()
        seen[:, i:] = 0.3  # what follows must not matter
        one = px.logits(seen)[:, i].sigmoid()
        expected += torch.where(IMAGES[:, i] == 1, one, 1 - one).log()
    torch.testing.assert_close(px.log_prob(IMAGES), expected, rtol=0, atol=1e-11)


@names
def test_draws_agree_with_the_probabilities(name):
    kind, n = likelihood(name), 20_000
    h = state(kind, 1)
    torch.manual_seed(3)
    x = kind(h.expand(n, -1)).sample()
    probability = kind(h.expand(256, -1)).log_prob(IMAGES).exp()
    number = (x @ (2.0 ** torch.arange(7, -1, -1, dtype=D))).long()
    found = torch.bincount(number, minlength=256) / n
    standard_error = (probability * (1 - probability) / n).sqrt()
    likely = probability > 1e-3
    assert ((found - probability).abs() < 5 * standard_error)[likely].all()
    assert agree(
        (probability[number] > probability.median()).to(D),
        probability[probability > probability.median()].sum(),
    )


@names
def test_several_draws_per_row_and_values_broadcast(name):
    kind = likelihood(name)
    px = kind(state(kind, 3))
    assert px.batch_shape == (3,) and px.event_shape == (8,)
    x = px.sample((5,))
    assert x.shape == (5, 3, 8) and ((x == 0) | (x == 1)).all() and not x.requires_grad
    found = px.log_prob(x)
    assert found.shape == (5, 3)
    torch.testing.assert_close(found[4], px.log_prob(x[4]))
    one = kind(state(kind, 1))
    assert one.log_prob(IMAGES[:, None]).shape == (256, 1)


# Order


@names
def test_every_pixel_sees_all_pixels_before_it_and_no_other(name):
    """Strictly triangular and full below the diagonal: no pixel sees itself, no blind spot."""
    kind = likelihood(name)
    px = kind(state(kind, 1))
    assert torch.equal(sees(px.logits, SHAPE), torch.ones(8, 8).tril(-1).bool())


@pytest.mark.parametrize("window", [0, 1, 3])
def test_a_window_limits_what_a_pixel_sees(window):
    kind = likelihood("autoregressive", window=window)
    px = kind(state(kind, 1))
    back = torch.arange(8)[:, None] - torch.arange(8)
    assert torch.equal(sees(px.logits, SHAPE), (back >= 1) & (back <= window))


@pytest.mark.parametrize(("shape", "kernel"), [((5, 5), 3), ((6, 3), 3), ((3, 7), 5), ((4, 1), 3)])
def test_gated_convolutions_have_no_blind_spot(shape, kernel):
    """A single masked 3x3 stack never sees the pixels above and far to the right."""
    layers = max(shape)
    net = noisy(PixelNetwork(2, channels=3, num_layers=layers, kernel=kernel))
    context = torch.randn(1, 2, *shape, dtype=D)
    found = sees(lambda x: net(x.reshape(1, 1, *shape), context).flatten(1), shape)
    n = math.prod(shape)
    assert torch.equal(found, torch.ones(n, n).tril(-1).bool())


def test_one_layer_reaches_as_far_as_its_kernel():
    """To the left: the shift and the kernel's reach; above: the rows and columns of the kernel."""
    net = noisy(PixelNetwork(1, channels=3, num_layers=1, kernel=3))
    context = torch.randn(1, 1, 5, 5, dtype=D)
    found = sees(lambda x: net(x.reshape(1, 1, 5, 5), context).flatten(1), (5, 5))
    for i in range(5):
        for j in range(5):
            for k in range(5):
                for m in range(5):
                    left = k == i and 1 <= j - m <= 2
                    above = 1 <= i - k <= 2 and abs(j - m) <= 1
                    assert found[5 * i + j, 5 * k + m] == (left or above)


def test_a_horizontal_stack_that_starts_with_its_own_pixel_is_noticed():
    net = noisy(PixelNetwork(1, channels=3, num_layers=2, kernel=3))
    context = torch.randn(1, 1, 3, 3, dtype=D)

    def wrong(x):
        above, left = net.above(x), net.left(x)  # without the shift to the left
        for layer in net.layers:
            above, left = layer(above, left, context)
        return net.leave(left).flatten(1)

    assert sees(lambda x: wrong(x.reshape(1, 1, 3, 3)), (3, 3)).diagonal().any()


def test_a_gated_layer_keeps_the_size_of_its_maps():
    layer = GatedLayer(4, 2, 5)
    maps, context = torch.randn(2, 4, 6, 3), torch.randn(2, 2, 6, 3)
    assert all(part.shape == (2, 4, 6, 3) for part in layer(maps, maps, context))


@names
@pytest.mark.parametrize("networks", ["mlp", "convolutional"])
def test_what_the_state_says_of_a_pixel_is_its_own_logit(name, networks):
    """In both layouts of a decoder the first outputs are logits of pixels in raster order."""
    model = Model(networks=networks, latent_sizes=(2,), likelihood=name)
    kind = build(model, DataSpec(SHAPE, 2)).top_down.likelihood
    outputs = torch.randn(1, 8 * kind.outputs_per_pixel)
    kind.net = nn.Identity()
    x = torch.rand(1, 8).round()
    before = kind(outputs).logits(x)
    outputs[0, 5] += 1.5
    expected = before.clone()
    expected[0, 5] += 1.5
    torch.testing.assert_close(kind(outputs).logits(x), expected)


# In a model


@names
def test_the_whole_state_and_every_parameter_matter(name):
    built = recipes.ladder_vae(DataSpec(SHAPE, 2), latent_sizes=(3, 2), likelihood=name)
    noisy(built, std=0.5)
    x = IMAGES[::8]
    elbo(built(x), x).mean().backward()
    assert all((p.grad != 0).any() for p in built.top_down.likelihood.parameters())


@names
def test_a_window_or_kernel_is_an_option(name):
    options = {"window": 2, "hidden": (8,)} if name == "autoregressive" else {"channels": 3}
    model = Model(likelihood=name, likelihood_options=options)
    kind = build(model, DataSpec(SHAPE, 2)).top_down.likelihood
    if name == "autoregressive":
        assert [layer.out_features for layer in kind.masked.layers] == [8, 8]
    else:
        assert kind.pixels.above.out_channels == 3


@pytest.mark.parametrize(
    ("settings", "spec", "message"),
    [
        ({"likelihood_options": {"window": -1}}, None, "window must be zero or more, got -1"),
        ({"likelihood_options": {"width": 1}}, None, "unknown option 'width'; it has window, hi"),
        ({}, DataSpec(8, None), "'autoregressive' scores grey values and the data are real"),
        ({}, DataSpec(8, 2, missing=True), "so it cannot leave out missing ones"),
    ],
)
def test_wrong_options_and_data_are_refused(settings, spec, message):
    with pytest.raises(ValueError, match=message):
        build(Model(likelihood="autoregressive", **settings), spec or DataSpec(8, 2))


@pytest.mark.parametrize("shape", [(8,), (3, 2, 2), (1, 1, 2, 2)])
def test_pixel_convolutions_want_images_of_one_channel(shape):
    with pytest.raises(ValueError, match=r"scores images \(H, W\) of one channel, got examples"):
        PixelConvolutional(nn.Identity(), shape)
    assert PixelConvolutional(nn.Identity(), (1, 2, 4)).size == (2, 4)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel must be odd, got 4"):
        Model(likelihood="pixel_convolutional", likelihood_options={"kernel": 4})
    with pytest.raises(ValueError, match="the kernel is an odd number, got kernel=2"):
        PixelNetwork(1, kernel=2)


@names
def test_a_recipe_that_reads_the_mean_refuses_a_likelihood_without(name):
    with pytest.raises(ValueError, match="compares x with the mean"):
        Model(recipe="draw", likelihood=name)


@names
def test_grey_values_are_refused(name):
    with pytest.raises(ValueError, match="likelihood scores binary pixels, got grey values"):
        likelihood(name).check(torch.full((1, 8), 0.5))


@names
def test_a_block_of_a_table_has_independent_columns(name):
    blocks = [{"columns": [0], "likelihood": name}]
    with pytest.raises(ValueError, match=f"unknown likelihood '{name}'; choose one of bernoulli"):
        Model(likelihood="mixed", likelihood_options={"blocks": blocks})


# There is no mean


@names
def test_there_is_no_mean_but_one_that_sees_the_data(name):
    kind = likelihood(name)
    px, x = kind(state(kind, 4)), IMAGES[100:104]
    with pytest.raises(NotImplementedError, match="draw images with sample"):
        _ = px.mean
    with pytest.raises(TypeError, match="AutoregressivePixels has no mean in closed form"):
        mean_of(px)
    mean = px.teacher_forced_mean(x)
    expected = (mean * x + (1 - mean) * (1 - x)).log().sum(dim=1)
    torch.testing.assert_close(px.log_prob(x), expected)
    assert not kind.has_mean


def test_means_that_see_the_data_resemble_them_without_any_latent():
    """So they are no evidence that z is used: here nothing depends on it."""
    copy = AutoregressivePixels(lambda x: 20 * nn.functional.pad(x, (1, -1)) - 10, like=IMAGES)
    x = (IMAGES * 0 + torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))[:256]
    assert (copy.teacher_forced_mean(x) - x).abs().mean() < 0.13
    assert (copy.sample() - x).abs().mean() > 0.3


@names
def test_the_squared_error_is_not_known_and_everything_else_is(name, tiny_binary):
    built = recipes.ladder_vae(tiny_binary, latent_sizes=(3, 2), hidden=(8,), likelihood=name)
    table = analysis.progressive(built, tiny_binary, max_examples=3)
    assert table["rmse"].isna().all() and table["log_px"].notna().all()
    assert analysis.evaluate(built, tiny_binary, num_samples=2).elbo.mean < 0
    x = tiny_binary.test.batch(slice(0, 2))
    assert analysis.reconstruct(built, x, from_level=2).px.sample().shape == x.shape


def test_the_command_line_draws_images_where_there_is_no_mean(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = "train bottom_up_vae --data digits --binarisation threshold --epochs 1 --quiet"
    train += " --hidden 8 --latent-sizes 2 --likelihood autoregressive --out run"
    train += " --likelihood-options window=1"
    assert main(train.split()) == 0
    assert main("sample run --count 2 --out drawn.png".split()) == 0
    with pytest.raises(SystemExit):
        main("sample run --count 2 --pixels mean --out mean.png".split())
    assert "this likelihood has no mean in closed form" in capsys.readouterr().err


# The exact toy

BIT = SharedBit()
WORTH = {0: "0.924", 1: "0.460", 2: "0.256", 3: "0.130", 5: "0.025", 7: "0.000"}


def test_the_numbers_of_the_toy_come_out():
    assert f"{BIT.entropy():.3f}" == "4.621" and f"{BIT.information():.3f}" == "0.618"
    assert {w: f"{BIT.worth(w):.3f}" for w in WORTH} == WORTH
    assert abs(BIT.worth(7)) < 1e-14


def test_the_toy_agrees_with_a_sum_over_all_images():
    log_px = BIT.log_px(BIT.images())
    assert log_px.exp().sum().item() == pytest.approx(1.0, abs=1e-14)
    assert BIT.entropy() == pytest.approx(-(log_px.exp() * log_px).sum().item(), abs=1e-13)
    g = BIT.posterior(BIT.images())
    rate = log_px.exp() * (g * (2 * g).log() + (1 - g) * (2 - 2 * g).log())
    assert BIT.information() == pytest.approx(rate.sum().item(), abs=1e-13)


def best_windowed(window: int) -> Tensor:
    """Mean negative log-probability of conditional frequencies, counted over all images."""
    x, p = BIT.images(), BIT.log_px(BIT.images()).exp()
    total = 0.0
    for i in range(8):
        seen = x[:, max(i - window, 0) : i]
        key = (seen @ (2.0 ** torch.arange(seen.shape[1], dtype=D))).long()
        longer = 2 * key + x[:, i].long()
        both, of = (torch.zeros(256, dtype=D).index_add(0, k, p) for k in (longer, key))
        total -= (p * (both[longer] / of[key]).log()).sum()
    return total


@pytest.mark.parametrize("window", WORTH)
def test_what_the_latent_is_worth_agrees_with_counting(window):
    expected = best_windowed(window).item()
    assert BIT.best_without_latent(window) == pytest.approx(expected, abs=1e-12)


def test_draws_of_the_toy_have_its_probabilities():
    x = BIT.sample_x(20_000)
    assert agree(-BIT.log_px(x), BIT.entropy())
    assert agree(x.mean(dim=1), 0.5)


@pytest.mark.parametrize("options", [{"num_pixels": 0}, {"agreement": 1.0}, {"agreement": 0.0}])
def test_a_toy_without_pixels_or_noise_is_refused(options):
    with pytest.raises(ValueError, match="at least one pixel and an agreement between 0 and 1"):
        SharedBit(**options)


class Bits(nn.Module):
    """Uniform prior over the bit, one-hot; or its exact posterior given images."""

    num_samples = 1

    def forward(self, x: object) -> Distribution:
        if not isinstance(x, Tensor):
            return OneHotCategorical(logits=torch.zeros(2, dtype=D), validate_args=False)
        return OneHotCategorical(logits=BIT.log_px_given(x), validate_args=False)


class Decoder(nn.Module):
    """Logits of the pixels given the bit, and an empty context."""

    def forward(self, z: Tensor) -> Tensor:
        logit = math.log(0.8 / 0.2) * (z[:, 1:] - z[:, :1])
        return torch.cat([logit.expand(-1, 8), torch.zeros(len(z), 8, dtype=D)], dim=1)


@pytest.mark.parametrize("window", WORTH)
def test_with_the_exact_latent_rate_and_distortion_are_the_entropy_for_every_window(window):
    kind = Autoregressive(Decoder(), 8, window=window)
    for parameter in kind.masked.parameters():
        nn.init.zeros_(parameter)
    model = HierarchicalVAE(
        Bits(),
        BottomUp([nn.Identity()]),
        posterior=TopDownPosterior([Direct(Bits())]),
        top_down=TopDown([MarkovUpdate()], [], kind),
    ).double()
    x, p = BIT.images(), BIT.log_px(BIT.images()).exp()
    trace = model(x)
    torch.testing.assert_close(trace.log_weight(x), BIT.log_px(x), rtol=0, atol=1e-12)
    rate, distortion = 0.0, 0.0
    for g in torch.eye(2, dtype=D):
        z = g.expand(256, 2)
        choose = model.posterior.score([x], [z])
        trace = model.top_down(model.top_prior(), choose, 256)
        of_g = p * trace.levels[0].q.log_prob(z).exp()
        rate = rate + (of_g * trace.levels[0].information).sum().item()
        distortion = distortion - (of_g * trace.log_px(x)).sum().item()
    assert rate == pytest.approx(BIT.information(), abs=1e-12)
    assert distortion == pytest.approx(BIT.noise_entropy(), abs=1e-12)
    assert rate + distortion == pytest.approx(BIT.entropy(), abs=1e-12)


def test_a_decoder_that_sees_everything_reaches_the_entropy_without_a_latent():
    """Rate 0.618 and rate 0 have one bound where the window holds all pixels."""
    ones = torch.arange(8)

    def logits_of(x):
        before = torch.nn.functional.pad(x.cumsum(dim=-1), (1, -1))  # ones before each pixel
        posterior = math.log(4) * (2 * before - ones)  # logit of g given them
        one = 0.8 * posterior.sigmoid() + 0.2 * (1 - posterior.sigmoid())
        return one.logit()

    x = BIT.images()
    px = AutoregressivePixels(logits_of, like=x)
    torch.testing.assert_close(px.log_prob(x), BIT.log_px(x), rtol=0, atol=1e-12)


# Data


def test_the_digits_are_64_bits():
    digits = data.load("digits", binarisation="threshold")
    assert digits.spec.num_values == 2 and digits.spec.num_features == 64
    x = digits.train.batch(slice(None))
    assert torch.equal(x, data.load("digits").train.batch(slice(None)).ge(0.5).to(x))
