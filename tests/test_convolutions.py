"""Convolutional networks: blocks, changes of resolution, and the deep hierarchies made of them."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import kl_divergence

from hvae_course import recipes
from hvae_course.config import AUTOREGRESSIVE_LIKELIHOODS, LIKELIHOODS, Model
from hvae_course.convolutions import (
    CELLS,
    MAP_NORMALISATIONS,
    ChannelNorm,
    Enlarge,
    MapBatchNorm,
    Reduce,
    Residual,
    ToMaps,
    ToRows,
    bottleneck,
    depthwise,
    last_layer,
    plain_cell,
    scale_last,
)
from hvae_course.data import DataSpec
from hvae_course.gaussians import LOG_STD_BOUND
from hvae_course.hierarchy.choices import hold
from hvae_course.likelihoods import MissingValues
from hvae_course.nets import ReadTable
from hvae_course.objectives import elbo
from hvae_course.priors import LearnedNormal
from hvae_course.recipes import build, read_config
from hvae_course.recipes.convolutional import Convolutions, usual_stages
from hvae_course.recipes.inference import INFERENCE

BINARY = DataSpec((8, 8), 2)
STAGES = ((4, 3, 8), (2, 2, 12))
SIZES = (2, 2, 2, 3, 3)
OTHERS = ("biva", "draw", "flow_ladder", "vq", "downscaled")
RECIPES = [name for name in INFERENCE if name not in OTHERS]
"""Recipes with one continuous latent per level."""


def options(**changed):
    """Networks whose output depends on what they read from the start."""
    return {"stages": STAGES, "zero_priors": False, "depth_scaled": False} | changed


def make(recipe="vdvae", spec=BINARY, *, sizes=SIZES, seed=0, networks=None, **settings):
    """A small convolutional model in double precision."""
    settings = {"networks": "convolutional", "normalisation": "none"} | settings
    given = options() if networks is None else networks
    model = Model(recipe=recipe, latent_sizes=sizes, networks_options=given, **settings)
    return build(model, spec, seed=seed).double()


def draw_maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def binary(n, spec=BINARY, *, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, spec.num_features, generator=generator) < 0.5).double()


# Blocks


def test_the_channel_norm_standardises_the_channels_of_every_position():
    norm, x = ChannelNorm(5).double(), draw_maps(2, 5, 3, 4)
    norm.weight.data, norm.bias.data = draw_maps(5, seed=1), draw_maps(5, seed=2)
    centred = x - x.mean(dim=1, keepdim=True)
    expected = centred / (centred.square().mean(dim=1, keepdim=True) + norm.eps).sqrt()
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)


def test_the_batch_norm_takes_statistics_over_examples_and_positions():
    norm, x = MapBatchNorm(2).double(), draw_maps(3, 2, 2, 2)
    mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
    expected = (x - mean[:, None, None]) / (var[:, None, None] + norm.eps).sqrt()
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)


def test_the_batch_norm_of_one_value_per_channel_uses_its_running_statistics():
    norm, x = MapBatchNorm(2).double(), draw_maps(1, 2, 1, 1)
    norm.running_mean[:], norm.running_var[:] = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 9.0])
    before = norm.running_mean.clone()
    expected = (x[0, :, 0, 0] - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(norm(x)[0, :, 0, 0], expected)
    assert torch.equal(norm.running_mean, before)
    torch.testing.assert_close(norm.eval()(x)[0, :, 0, 0], expected)
    norm.train()(draw_maps(1, 2, 1, 2))  # two positions have a variance
    assert not torch.equal(norm.running_mean, before)


def test_a_bottleneck_has_four_convolutions_each_after_its_activation():
    body = bottleneck(6, 2, 4, normalisation="layer", activation="relu")
    kinds = [ChannelNorm, nn.ReLU, nn.Conv2d]
    assert [type(part) for part in body] == 4 * kinds
    layers = [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in body[2::3]]
    assert layers == [(6, 2, 1), (2, 2, 3), (2, 2, 3), (2, 4, 1)]
    assert [type(part) for part in bottleneck(6, 2, 4)] == 4 * [nn.GELU, nn.Conv2d]


def test_a_plain_cell_has_two_convolutions_each_after_its_activation():
    body = plain_cell(6, 2, 4, kernel=5, normalisation="layer", activation="relu")
    assert [type(part) for part in body] == 2 * [ChannelNorm, nn.ReLU, nn.Conv2d]
    layers = [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in body[2::3]]
    assert layers == [(6, 2, 5), (2, 4, 5)]


def test_a_depthwise_cell_filters_every_channel_by_itself():
    body = depthwise(3, 12, 4)
    convolutions = [part for part in body if isinstance(part, nn.Conv2d)]
    assert [c.groups for c in convolutions] == [1, 12, 1]
    assert convolutions[1].kernel_size == (5, 5) and convolutions[1].weight.shape == (12, 1, 5, 5)
    assert [type(part) for part in body if not isinstance(part, nn.Conv2d)] == [
        *(MapBatchNorm, MapBatchNorm, nn.SiLU, MapBatchNorm, nn.SiLU, MapBatchNorm)
    ]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("normalisation", MAP_NORMALISATIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_keeps_height_and_width_and_trains_all_its_parameters(cell, normalisation, kernel):
    body = CELLS[cell](3, 5, 4, kernel=kernel, normalisation=normalisation)
    out = body(torch.randn(2, 3, 6, 7))
    assert out.shape == (2, 4, 6, 7)
    out.square().sum().backward()
    assert all(p.grad is not None for p in body.parameters())


def test_a_residual_block_adds_its_body_to_what_it_reads():
    h, body = draw_maps(2, 4, 3, 3), bottleneck(4, 2, 4).double()
    block = Residual(body, 4, 4)
    torch.testing.assert_close(block(h), h + body(h))
    assert isinstance(block.skip, nn.Identity)
    changing = Residual(bottleneck(4, 2, 6), 4, 6).double()
    torch.testing.assert_close(changing(h), changing.skip(h) + changing.body(h))
    assert changing.skip.kernel_size == (1, 1)
    torch.testing.assert_close(Residual(scale_last(body, 0), 4, 4)(h), h, rtol=0, atol=0)


@pytest.mark.parametrize("normalisation", MAP_NORMALISATIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_scaling_the_last_layer_scales_what_a_body_gives(cell, normalisation):
    h, body = draw_maps(2, 4, 3, 3), CELLS[cell](4, 2, 6, normalisation=normalisation).double()
    before, others = body(h), [p.clone() for p in body.parameters()][:-2]
    assert scale_last(body, 0.25) is body
    torch.testing.assert_close(body(h), before / 4)
    assert all(torch.equal(p, q) for p, q in zip(others, body.parameters(), strict=False))
    assert scale_last(body, 0)(h).abs().max() == 0


def test_a_convolution_without_bias_is_scaled_too():
    layer = nn.Conv2d(1, 1, 1, bias=False)
    weight = layer.weight.clone()
    torch.testing.assert_close(scale_last(nn.Sequential(layer), 2)[0].weight, 2 * weight)


def test_the_last_layer_is_a_convolution_or_the_normalisation_behind_it():
    body = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 2, 1), nn.ReLU())
    assert last_layer(body) is body[2]
    followed = nn.Sequential(*body, ChannelNorm(2))
    assert last_layer(followed) is followed[4]
    with pytest.raises(ValueError, match="Linear holds no convolution"):
        last_layer(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="ChannelNorm holds no convolution"):
        last_layer(ChannelNorm(1))


# Resolutions


def test_reducing_starts_as_the_mean_of_every_patch():
    h = draw_maps(2, 3, 4, 6)
    torch.testing.assert_close(Reduce(3, 3, 2).double()(h), F.avg_pool2d(h, 2))
    torch.testing.assert_close(Reduce(3, 3, (4, 3)).double()(h), F.avg_pool2d(h, (4, 3)))
    reduce = Reduce(3, 5, 2).double()
    torch.testing.assert_close(reduce(h), reduce.project(F.avg_pool2d(h, 2)))


def test_reducing_keeps_channels_apart():
    reduce, h = Reduce(2, 2, 2).double(), draw_maps(1, 2, 4, 4)
    reduce.pool.weight.data = draw_maps(2, 1, 2, 2, seed=1)
    changed = h.clone()
    changed[:, 0] += 1
    assert torch.equal(reduce(h)[:, 1], reduce(changed)[:, 1])
    assert not torch.isclose(reduce(h)[:, 0], reduce(changed)[:, 0]).any()


def test_enlarging_starts_as_nearest_neighbours():
    h = draw_maps(2, 3, 2, 3)
    nearest = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(Enlarge(3, 3, (4, 6)).double()(h), nearest)
    uneven = h.repeat_interleave(3, dim=2).repeat_interleave(1, dim=3)
    torch.testing.assert_close(Enlarge(3, 3, (6, 3)).double()(h), uneven)
    enlarge = Enlarge(3, 5, (4, 6)).double()
    expected = enlarge.project(h).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(enlarge(h), expected)


def test_gain_and_bias_tell_the_positions_of_a_patch_apart():
    enlarge, h = Enlarge(3, 3, (4, 4)).double(), draw_maps(2, 3, 2, 2)
    enlarge.gain.data, enlarge.bias.data = draw_maps(3, 4, 4, seed=1), draw_maps(3, 4, 4, seed=2)
    for i, j in itertools.product(range(4), range(4)):
        expected = h[:, :, i // 2, j // 2] * enlarge.gain[:, i, j] + enlarge.bias[:, i, j]
        torch.testing.assert_close(enlarge(h)[:, :, i, j], expected)


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (3, 4, 6)], ids=str)
@pytest.mark.parametrize("factor", [1, 2])
def test_rows_become_maps_and_come_back_without_loss(shape, factor):
    colours, size = math.prod(shape[:-2]), shape[-2:]
    x = draw_maps(2, math.prod(shape))
    to_maps, to_rows = ToMaps(colours, size, factor), ToRows(1, colours, factor)
    maps = to_maps(x)
    assert maps.shape == (2, to_maps.num_outputs, size[0] // factor, size[1] // factor)
    assert to_rows.num_inputs == to_maps.num_outputs
    assert torch.equal(to_rows(maps), x)


def test_a_position_holds_the_pixels_of_its_patch():
    x = torch.arange(3 * 4 * 6.0).reshape(1, 3, 4, 6)
    maps = ToMaps(3, (4, 6), 2)(x.flatten(1))
    for i, j in itertools.product(range(2), range(3)):
        patch = x[0, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        assert torch.equal(maps[0, :, i, j], patch.flatten())


def test_labels_stand_at_every_position_behind_the_pixels():
    x, y = draw_maps(2, 16), F.one_hot(torch.tensor([1, 2]), 3).double()
    to_maps = ToMaps(1, (4, 4), 2, num_classes=3)
    maps = to_maps(torch.cat([x, y], dim=1))
    assert to_maps.num_outputs == 7
    assert torch.equal(maps[:, :4], ToMaps(1, (4, 4), 2)(x))
    assert torch.equal(maps[:, 4:], y[:, :, None, None].expand(2, 3, 2, 2))


def test_the_values_of_a_pixel_come_last_and_its_kinds_first():
    maps = torch.arange(2 * 3 * 4.0).reshape(1, 6, 2, 2)
    assert torch.equal(ToRows(2, 3, 1)(maps), maps.flatten(1))
    by_value = ToRows(1, 3, 1, num_values=2)(maps).reshape(3, 2, 2, 2)  # (C, H, W, V)
    for c, v in itertools.product(range(3), range(2)):
        assert torch.equal(by_value[c, :, :, v], maps[0, 2 * c + v])


SPECS = {
    "bernoulli": {"num_values": 2},
    "categorical": {"num_values": 5},
    "discretized_logistic": {"num_values": 5},
    "logistic_mixture": {"num_values": 5},
    "gaussian": {"num_values": None},
    "isotropic_gaussian": {"num_values": None},
    "negative_binomial": {"num_values": None, "counts": True},
    "poisson": {"num_values": None, "counts": True},
}
"""Data that each likelihood of images scores whose pixels are one by one."""


def test_every_likelihood_of_images_is_tried():
    assert SPECS.keys() | {"mixed", *AUTOREGRESSIVE_LIKELIHOODS} == LIKELIHOODS.keys()


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("shape", [(2, 4), (3, 2, 4)], ids=["grey", "colour"])
@pytest.mark.parametrize("name", SPECS)
def test_the_maps_at_a_pixel_give_the_parameters_of_that_dimension_alone(name, shape, factor):
    """The log-probability of one dimension is asked which of the maps it depends on."""
    colours, (height, width) = math.prod(shape[:-2]), shape[-2:]
    spec = DataSpec(shape, **SPECS[name])
    networks = {"stages": ((height // factor, 1, 4),)}
    model = Model(
        networks="convolutional", latent_sizes=(1,), likelihood=name, networks_options=networks
    )
    likelihood = Convolutions(model, spec).likelihood()
    likelihood.net = likelihood.net[-1]  # the layout alone
    maps = draw_maps(1, likelihood.net.num_inputs, height // factor, width // factor)
    px = likelihood.double()(maps.requires_grad_())
    x = torch.zeros(1, spec.num_features, dtype=torch.float64)
    for c, i, j in itertools.product(range(colours), range(height), range(width)):
        other = x.clone()
        other[0, (c * height + i) * width + j] = 1
        difference = px.log_prob(x) - px.log_prob(other)
        (gradient,) = torch.autograd.grad(difference.sum(), maps, retain_graph=True)
        at_pixels = F.pixel_shuffle(gradient, factor)[0]
        read = at_pixels.abs() > 1e-12
        outside = read.clone()
        outside[:, i, j] = False
        assert not outside.any()
        if name == "logistic_mixture":  # colours of a pixel depend on each other
            assert read[:, i, j].any()
        elif name == "categorical":
            of_colour = torch.arange(len(read)) // 5 == c
            assert torch.equal(read[:, i, j].nonzero()[:, 0] // 5, torch.tensor([c, c]))
            assert not read[~of_colour, i, j].any()
        else:
            assert torch.equal(read[:, i, j], torch.arange(len(read)) % colours == c)


# Stages and levels


def test_levels_are_shared_out_over_the_halves_of_a_height():
    assert usual_stages(32, 5, 8) == ((16, 2, 8), (8, 2, 8), (4, 1, 8))
    assert usual_stages(28, 1, 8) == ((14, 1, 8),)
    assert usual_stages(8, 2, 4) == ((8, 1, 4), (4, 1, 4))
    assert usual_stages(7, 3, 4) == ((7, 3, 4),)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((28, 30), [(14, 15)]),
        ((3, 30, 28), [(15, 14)]),
        ((10, 5), [(10, 5)]),
        ((32, 12), [(16, 6), (8, 3)]),
        ((16, 4), [(8, 2), (4, 1)]),
        ((4, 64), [(4, 64)]),
    ],
    ids=str,
)
def test_heights_are_halved_only_where_widths_are_even_too(shape, sizes):
    """Without named stages every image has a model."""
    spec = DataSpec(shape, 2)
    for recipe in ("vdvae", "biva"):
        model = make(recipe, spec, sizes=(1, 1, 1), networks={"channels": 4})
        levels = model.generate(1).levels
        assert list(dict.fromkeys(tuple(level.z.shape[2:]) for level in levels)) == sizes


@pytest.mark.parametrize("recipe", RECIPES)
def test_latents_are_maps_of_the_resolution_of_their_level(recipe):
    model, x = make(recipe), binary(3)
    trace = model(x, 2)
    shapes = [tuple(level.z.shape) for level in trace.levels]
    assert shapes == 3 * [(6, 2, 4, 4)] + 2 * [(6, 3, 2, 2)]
    assert trace.px.batch_shape == (6,) and trace.px.event_shape == (64,)
    torch.testing.assert_close(
        model.generate(2).px.log_prob(x[:2]).shape, torch.Size([2]), msg="one number per row"
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_parameter_of_every_recipe_receives_a_gradient(recipe, assert_finite_gradients):
    model, x = make(recipe), binary(3)
    assert_finite_gradients(model, -elbo(model(x), x).mean())


@pytest.mark.parametrize("shape", [(4, 12), (3, 12, 4)], ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_images_need_not_be_square(recipe, shape):
    spec = DataSpec(shape, 2)
    rows = shape[-2]
    networks = options(stages=((rows // 2, 1, 8), (rows // 4, 1, 8)))
    model = make(recipe, spec, sizes=(2, 3), networks=networks)
    trace = model(binary(2, spec))
    sizes = [tuple(level.z.shape[2:]) for level in trace.levels]
    assert sizes == [tuple(s // f for s in shape[-2:]) for f in (2, 4)]
    assert trace.px.event_shape == (math.prod(shape),)


def latents_and_features(model, x, y=None):
    """Values for all latents and the features of x, as leaves whose gradients can be asked for."""
    levels = model(x, y=y).levels
    latents = [level.z.detach().requires_grad_() for level in levels]
    features = [d.detach().requires_grad_() for d in model.features(x, y)]
    return latents, features


def reads(distribution, leaves):
    """Which of the leaves the parameters of a distribution depend on."""
    base = distribution.base_dist
    values = torch.stack([(draw_maps(*v.shape) * v).sum() for v in (base.loc, base.scale)]).sum()
    if not values.requires_grad:
        return set()
    found = torch.autograd.grad(values, leaves, retain_graph=True, allow_unused=True)
    return {i for i, g in enumerate(found) if g is not None and g.abs().max() > 0}


def walked(model, latents, features):
    choose = model.posterior.score(features, latents)
    levels, h = model.top_down.walk(model.top_prior(), choose, len(latents[0]))
    return levels, model.top_down.likelihood(h)


@pytest.mark.parametrize("recipe", ["vdvae", "bidirectional", "delta", "ladder"])
def test_a_level_reads_all_latents_above_it_and_no_other(recipe):
    model, x = make(recipe), binary(2)
    latents, features = latents_and_features(model, x)
    levels, px = walked(model, latents, features)
    for l, level in enumerate(levels):
        above = set(range(l + 1, 5))
        assert reads(level.p, latents) == above
        assert reads(level.q, latents) == above
        assert reads(level.q, features) == {model.posterior.reads[l] - 1}
        assert reads(level.p, features) == set()
    gradients = torch.autograd.grad(px.log_prob(x).sum(), latents)
    assert all(g.abs().max() > 0 for g in gradients)


def test_all_levels_of_a_resolution_read_its_last_feature():
    model = make()
    assert model.posterior.reads == (3, 3, 3, 5, 5)
    assert make(networks=options(shared_features=False)).posterior.reads == (1, 2, 3, 4, 5)
    shapes = [tuple(d.shape[1:]) for d in model.features(binary(1))]
    assert shapes == 3 * [(8, 4, 4)] + 2 * [(12, 2, 2)]


def test_the_posterior_does_not_read_the_feature_of_the_prior_and_the_update_does():
    """The last bias of a prior network gives mean, raw scale and feature of its level."""
    model, x = make(), binary(2)
    latents, features = latents_and_features(model, x)
    levels, px = walked(model, latents, features)
    for l, prior in enumerate(model.top_down.conditionals):
        bias, given = last_layer(prior.net).bias, 2 * SIZES[l]

        def gradient(value, bias=bias):
            (found,) = torch.autograd.grad(value, bias, retain_graph=True, allow_unused=True)
            return torch.zeros_like(bias) if found is None else found.abs()

        q, p = levels[l].q, levels[l].p
        assert gradient(q.base_dist.loc.sum() + q.base_dist.scale.sum()).max() == 0
        of_p = gradient(p.base_dist.loc.sum() + p.base_dist.scale.sum())
        assert of_p[:given].min() > 0 and of_p[given:].max() == 0
        below = px.log_prob(x).sum() if l == 0 else levels[l - 1].q.base_dist.loc.sum()
        assert gradient(below)[given:].max() > 0
        assert gradient(below)[:given].max() == 0


def test_only_the_vdvae_has_a_feature_in_its_priors():
    widths = {
        recipe: last_layer(make(recipe).top_down.conditionals[3]).out_channels
        for recipe in ("bidirectional", "vdvae")
    }
    assert widths == {"bidirectional": 2 * 3, "vdvae": 2 * 3 + 12}


@pytest.mark.equation("eq-residual-state")
def test_the_feature_enters_the_state_beside_the_latent():
    """One level below the top, computed by hand: h <- R(h + f + W z)."""
    model = make(sizes=(2, 2), networks=options(stages=((2, 2, 8),)))
    latents, features = latents_and_features(model, binary(3))
    levels, px = walked(model, latents, features)
    top_down = model.top_down
    h = top_down.updates[1](top_down.initial_state(3), latents[1])
    q = model.posterior.rules[0].head(torch.cat([features[1], h], dim=1))
    torch.testing.assert_close(levels[0].q.mean, q.mean)
    raw = top_down.conditionals[0].net(h)
    mean, log_std, f = raw.split([2, 2, 8], dim=1)
    torch.testing.assert_close(levels[0].p.mean, mean)
    std = (LOG_STD_BOUND * torch.tanh(log_std / LOG_STD_BOUND)).exp()
    torch.testing.assert_close(levels[0].p.stddev, std)
    update = top_down.updates[0]
    h = update.blocks(h + f + update.latent(latents[0]))
    torch.testing.assert_close(px.base_dist.logits, top_down.likelihood(h).base_dist.logits)


# Groups of levels


def test_groups_change_no_parameter():
    shapes = [
        [
            (name.replace(".update.", ".").replace(".part.", ".").replace(".rule.", "."), p.shape)
            for name, p in make(networks=options(group=group)).named_parameters()
        ]
        for group in (1, 2, 4)
    ]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("recipe", ["vdvae", "bidirectional", "delta", "ladder", "mean_field"])
@pytest.mark.parametrize(
    ("group", "starts"),
    [(1, (0, 1, 2, 3, 4)), (2, (0, 2, 2, 4, 4)), (4, (2, 2, 2, 4, 4))],
    ids=["1", "2", "4"],
)
def test_a_level_reads_no_other_level_of_its_group(recipe, group, starts):
    """`starts` is the highest level of each level's group; stages hold levels 0 to 2, 3 and 4."""
    model, x = make(recipe, networks=options(group=group)), binary(2)
    latents, features = latents_and_features(model, x)
    levels, px = walked(model, latents, features)
    for l, level in enumerate(levels):
        above = set(range(starts[l] + 1, 5))
        assert reads(level.p, latents) == above
        assert reads(level.q, latents) == (set() if recipe == "mean_field" else above)
    gradients = torch.autograd.grad(px.log_prob(x).sum(), latents)
    assert all(g.abs().max() > 0 for g in gradients)


def test_a_grouped_chain_draws_on_the_way_up_and_reads_groups_on_the_way_down():
    model, x = make("bottom_up", networks=options(group=2)), binary(2)
    latents, _ = latents_and_features(model, x)
    levels, _ = walked(model, latents, model.features(x))
    above = [reads(level.p, latents) for level in levels]
    assert above == [{1, 2, 3, 4}, {3, 4}, {3, 4}, set(), set()]
    below = [reads(level.q, latents) for level in levels]
    assert below == [set(), {0}, {1}, {2}, {3}]


# The start


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "nvae"])
def test_every_prior_starts_as_a_standard_normal(recipe, cell):
    networks = {"stages": STAGES, "cell": cell}
    for level in make(recipe, networks=networks)(binary(3)).levels:
        torch.testing.assert_close(level.p.mean, torch.zeros_like(level.z), rtol=0, atol=0)
        torch.testing.assert_close(level.p.stddev, torch.ones_like(level.z), rtol=0, atol=0)


@pytest.mark.parametrize("reads_state", [True, False])
def test_deltas_start_at_zero_so_that_the_posterior_is_the_prior(reads_state):
    model = make("delta", networks={"stages": STAGES}, reads_state=reads_state)
    for level in model(binary(3)).levels:
        assert torch.equal(kl_divergence(level.q, level.p), torch.zeros(3, dtype=torch.float64))
    moved = make("delta", reads_state=reads_state)(binary(3))
    assert all((kl_divergence(level.q, level.p) > 0).all() for level in moved.levels)


def test_priors_that_start_at_zero_learn_after_one_step():
    model, x = make(networks={"stages": STAGES}), binary(5)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        (-elbo(model(x), x).mean()).backward()
        optimiser.step()
    assert all((level.p.mean.abs() > 0).any() for level in model(x).levels)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_the_depth_scaled_start_divides_the_last_layer_of_every_block(cell, blocks):
    plain, scaled = (
        make(
            normalisation="batch" if cell == "depthwise" else "none",
            networks=options(depth_scaled=scaled, blocks=blocks, cell=cell),
        )
        for scaled in (False, True)
    )
    factor = 1 / math.sqrt(5 * blocks)
    parts = [
        [m.body for m in part.modules() if isinstance(m, Residual)] for part in (plain, scaled)
    ]
    assert len(parts[0]) == 2 * 5 * blocks
    for pair in zip(*parts, strict=True):
        last = [{id(p) for p in last_layer(body).parameters()} for body in pair]
        for before, after in zip(*(body.parameters() for body in pair), strict=True):
            scaled_here = id(after) in last[1]
            assert scaled_here == (id(before) in last[0])
            torch.testing.assert_close(after, before * (factor if scaled_here else 1))
    for before, after in zip(plain.top_down.updates, scaled.top_down.updates, strict=True):
        torch.testing.assert_close(after.latent.weight, before.latent.weight / math.sqrt(5))


def test_the_path_upward_of_a_chain_has_the_blocks_of_one_level():
    plain, scaled = (
        make("bottom_up", networks=options(depth_scaled=scaled, blocks=2))
        for scaled in (False, True)
    )
    pairs = zip(plain.bottom_up.modules(), scaled.bottom_up.modules(), strict=True)
    bodies = [(one.body, other.body) for one, other in pairs if isinstance(one, Residual)]
    assert len(bodies) == 2
    for before, after in bodies:
        expected = last_layer(before).weight / math.sqrt(2)
        torch.testing.assert_close(last_layer(after).weight, expected)


# The learned normal prior


def test_the_learned_normal_prior_starts_standard_and_bounds_its_scale():
    prior = LearnedNormal(2, 3)
    p = prior()
    assert p.batch_shape == () and p.event_shape == (2, 3)
    assert torch.equal(p.mean, torch.zeros(2, 3)) and torch.equal(p.stddev, torch.ones(2, 3))
    z = torch.randn(4, 2, 3)
    with torch.no_grad():
        prior.mean += 0.5
        prior.log_std += math.log(2)
    std = math.exp(LOG_STD_BOUND * math.tanh(math.log(2) / LOG_STD_BOUND))
    expected = torch.distributions.Normal(0.5, std).log_prob(z).sum(dim=(1, 2))
    torch.testing.assert_close(prior().expand((4,)).log_prob(z), expected)
    with torch.no_grad():
        prior.log_std += 1e6
    torch.testing.assert_close(prior().stddev.max().item(), math.exp(LOG_STD_BOUND))
    with pytest.raises(ValueError, match="size"):
        LearnedNormal(2, 0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_the_learned_normal_prior(recipe, assert_finite_gradients):
    model, x = make(recipe, prior="normal"), binary(3)
    assert isinstance(model.prior, LearnedNormal) and model.prior.mean.shape == (3, 2, 2)
    assert_finite_gradients(model, -elbo(model(x), x).mean())


# Labels, missing values, colours


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("recipe", RECIPES)
def test_labels_reach_every_posterior_every_conditional_prior_and_the_likelihood(recipe, group):
    spec = replace(BINARY, num_classes=3)
    model = make(recipe, spec, conditional=True, networks=options(group=group))
    x = binary(2)
    latents = [level.z.detach() for level in model(x, y=torch.tensor([0, 0])).levels]
    walks = []
    for y in (torch.tensor([0, 0]), torch.tensor([0, 2])):
        choose = model.posterior.score(model.features(x, y), latents)
        walks.append(model.top_down(model.top_prior(), choose, 2, model.one_hot(y, 2)))
    pairs = list(zip(walks[0].levels, walks[1].levels, strict=True))
    differ = [(a.q.mean != b.q.mean).flatten(1).any(dim=1).tolist() for a, b in pairs]
    assert differ == 5 * [[False, True]]
    differ = [(a.p.mean != b.p.mean).flatten(1).any(dim=1).tolist() for a, b in pairs]
    assert differ == 4 * [[False, True]] + [[False, False]]  # p(z_L) reads no label
    a, b = (walk.px.base_dist.logits for walk in walks)
    assert (a != b).any(dim=1).tolist() == [False, True]


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8)], ids=str)
def test_images_with_missing_pixels_are_read_with_their_mask(shape, assert_finite_gradients):
    spec = DataSpec(shape, None, missing=True)
    model = make(spec=spec)
    assert isinstance(model.top_down.likelihood, MissingValues)
    assert isinstance(model.bottom_up.read, ReadTable)
    x = draw_maps(2, spec.num_features)
    x[0, 5] = torch.nan
    trace = model(x)
    assert trace.log_px(x).isfinite().all()
    assert_finite_gradients(model, -elbo(trace, x).mean())
    # pixels and masks lie in maps of their own, at the same positions
    maps = model.bottom_up.blocks[0][0](model.bottom_up.read(x))
    pixels = F.pixel_shuffle(maps, 2)
    assert pixels.shape == (2, 2 * math.prod(shape[:-2]), 8, 8)
    values, mask = pixels.chunk(2, dim=1)
    torch.testing.assert_close(values.flatten(1), x.nan_to_num(0))
    assert torch.equal(mask.flatten(1), (~x.isnan()).double())


# Number formats and layouts


def test_weights_are_kept_channels_last_and_the_layout_changes_no_number():
    model, x = build(make().config, seed=0), binary(2).float()
    convolution = next(m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    plain = build(make().config, seed=0).to(memory_format=torch.contiguous_format)
    torch.manual_seed(3)
    ours = elbo(model(x), x)
    torch.manual_seed(3)
    torch.testing.assert_close(elbo(plain(x), x), ours)


def test_under_autocast_networks_compute_in_bfloat16_and_densities_in_float32():
    model, x = make().float(), binary(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        trace = model(x)
        assert trace.px.base_dist.logits.dtype == torch.float32
        value = elbo(trace, x)
    assert value.dtype == torch.float32 and value.isfinite().all()
    assert all(level.q.mean.dtype == torch.float32 for level in trace.levels)
    value.mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_single_and_double_precision_agree():
    model, x = make(), binary(2)
    noise = [torch.randn_like(level.z) for level in model(x).levels]
    scores = []
    for dtype in (torch.float64, torch.float32):
        same = build(make().config, seed=0).to(dtype)
        latents = [z.to(dtype) for z in noise]
        choose = same.posterior.score(same.features(x.to(dtype)), latents)
        trace = same.top_down(same.top_prior(), choose, 2)
        assert all(level.p.mean.dtype == dtype for level in trace.levels)
        scores.append(trace.log_weight(x.to(dtype)).double())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_model_is_built_again_from_what_it_recorded(recipe):
    model, x = make(recipe, DataSpec((3, 8, 8), 2)), binary(2, DataSpec((3, 8, 8), 2))
    again = build(model.config).double()
    again.load_state_dict(model.state_dict())
    described, spec = read_config(model.config)
    assert described.networks == "convolutional" and spec.shape == (3, 8, 8)
    assert described.networks_options["stages"] == STAGES
    torch.manual_seed(0)
    ours = elbo(model(x), x)
    torch.manual_seed(0)
    assert torch.equal(elbo(again(x), x), ours)


def test_fifty_levels_take_a_step_and_generate():
    stages = ((4, 30, 8), (2, 20, 8))
    model = recipes.vdvae(BINARY, latent_sizes=(1,) * 50, networks_options={"stages": stages})
    x = binary(4).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        value = elbo(model(x), x).mean()
        assert value.isfinite()
        optimiser.zero_grad()
        (-value).backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.generate(2).px.mean.shape == (2, 64)


# What is refused

BLOCKS = [{"columns": [*range(16)], "likelihood": "gaussian"}]
STAGE = {"stages": ((4, 2, 8),)}
REFUSED = {
    "heights that do not fall": ({"stages": ((4, 1, 8), (4, 1, 8))}, {}, "heights of the stages"),
    "heights that do not divide": ({"stages": ((6, 1, 8), (4, 1, 8))}, {}, "multiple of the next"),
    "a stage of two numbers": ({"stages": ((4, 2),)}, {}, "one triple"),
    "no level in a stage": ({"stages": ((4, 0, 8),)}, {}, "positive numbers"),
    "a level too many": (
        {"stages": ((4, 3, 8),)},
        {},
        "the stages have 3 levels and latent_sizes 2",
    ),
    "channels twice": (
        {"stages": ((4, 2, 8),), "channels": 32},
        {},
        "the stages name the channels of their maps, got channels=32 too; leave channels out",
    ),
    "an unknown option": ({"width": 3}, {}, "unknown option 'width'"),
    "features to share of a chain": (
        {"shared_features": True},
        {"recipe": "bottom_up", "networks": "convolutional"},
        "bottom_up reads one bottom-up feature.*leave shared_features out",
    ),
    "features to share of pairs": (
        {"shared_features": False, "stages": ((4, 3, 8),)},
        {"recipe": "biva", "latent_sizes": (1, 1, 1)},
        "biva reads one bottom-up feature.*leave shared_features out",
    ),
    "an unknown cell": ({"cell": "dense"}, {}, "unknown cell 'dense'"),
    "a group of none": ({"group": 0}, {}, "group must be positive"),
    "hidden layers": (STAGE, {"hidden": (64,)}, "hidden is an option of multilayer perceptrons"),
    "inference_hidden": (STAGE, {"inference_hidden": (64,)}, "inference_hidden is an option"),
    "dropout": (STAGE, {"dropout": 0.1}, "dropout is an option of multilayer perceptrons"),
    "another state": (STAGE, {"state": "skip"}, "state is an option of multilayer perceptrons"),
    "gates": (STAGE, {"activation": "glu"}, "'glu' doubles layers"),
    "perceptrons": (STAGE, {"networks": "mlp"}, "networks='mlp'; leave networks out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_options_are_refused_where_the_configuration_is_made(name):
    networks, settings, message = REFUSED[name]
    settings = {"recipe": "vdvae", "latent_sizes": (1, 1)} | settings
    with pytest.raises(ValueError, match=message):
        Model(networks_options=networks, **settings)


def test_perceptrons_have_no_options_of_their_own():
    with pytest.raises(ValueError, match="networks_options of the networks 'mlp'"):
        Model(networks_options={"channels": 3})


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        (DataSpec(64, 2), {}, r"convolutional networks read images .* got examples of the shape"),
        (DataSpec((2, 2, 4, 4), 2), {}, "convolutional networks read images"),
        (DataSpec((6, 6), 2), {}, "maps of height 4 do not divide images of 6 x 6 evenly"),
        (DataSpec((8, 7), 2), {}, "maps of height 4 do not divide images of 8 x 7 evenly"),
        (
            DataSpec((4, 4), None),
            {"likelihood": "mixed", "likelihood_options": {"blocks": BLOCKS}},
            "the likelihood 'mixed' scores the columns of a table",
        ),
        (DataSpec((8, 8), 2), {"prior": "mixture"}, "the prior 'mixture' is over vectors"),
        (DataSpec((8, 8), 2), {"prior": "vhp"}, "the prior 'vhp' is over vectors"),
    ],
    ids="table axes rows columns mixed mixture vhp".split(),
)
def test_data_that_do_not_fit_are_refused_where_the_model_is_built(spec, settings, message):
    settings = {"networks_options": STAGE, "latent_sizes": (1, 1)} | settings
    with pytest.raises(ValueError, match=message):
        recipes.vdvae(spec, **settings)


# Exact answers

PIXELS = DataSpec((4, 4), 2)


def moved(model, *, seed=5, scale=0.5):
    """A model whose parameters have moved from their start, so that its latents matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += scale * noise
    return model


@pytest.mark.parametrize("recipe", ["vdvae", "bottom_up", "delta", "ladder", "resnet"])
def test_importance_weights_average_to_the_exact_probability(recipe, assert_mean):
    """Two latents of one dimension each, over which p(x, z) is integrated on a grid."""
    networks = options(stages=((1, 2, 8),), expansion=0.5)
    model = moved(make(recipe, PIXELS, sizes=(1, 1), networks=networks), scale=0.3)
    axis = torch.linspace(-9, 9, 181, dtype=torch.float64)
    mean, std = model.top_prior().mean.item(), model.top_prior().stddev.item()
    x = binary(3, PIXELS)
    with torch.no_grad():
        z_2 = mean + std * axis
        z_1 = torch.linspace(-25, 25, 501, dtype=torch.float64)
        grid = torch.cartesian_prod(z_1, z_2)
        latents = {1: grid[:, :1, None, None], 2: grid[:, 1:, None, None]}
        trace = model.generate(len(grid), hold(latents))
        log_pz = sum(level.p.log_prob(level.z) for level in trace.levels)
        cell = (z_1[1] - z_1[0]).log() + (z_2[1] - z_2[0]).log()
        torch.testing.assert_close(
            (log_pz + cell).logsumexp(dim=0).exp().item(), 1.0, rtol=1e-6, atol=0
        )
        torch.manual_seed(0)
        for row in x:
            log_px = (log_pz + cell + trace.px.log_prob(row)).logsumexp(dim=0)
            weights = model(row[None], 10_000).log_weight(row[None])
            assert_mean((weights - log_px).exp(), 1.0)
            assert weights.mean() < log_px


def test_two_resolutions_give_the_same_probability_from_prior_and_posterior(assert_mean):
    """Draws from p(z) and draws from q(z | x) weigh the same integral."""
    networks = options(stages=((2, 1, 8), (1, 1, 8)))
    model = moved(make(spec=PIXELS, sizes=(1, 1), networks=networks), scale=0.15)
    x = binary(2, PIXELS)
    torch.manual_seed(0)
    with torch.no_grad():
        px = model.generate(100_000).px
        for row in x:
            from_prior = px.log_prob(row)
            from_posterior = model(row[None], 100_000).log_weight(row[None])
            scale = from_prior.logsumexp(dim=0) - math.log(100_000)
            a, b = (from_prior - scale).exp(), (from_posterior - scale).exp()
            error = math.hypot(a.std().item(), b.std().item()) / math.sqrt(100_000)
            assert error < 0.05
            assert abs(a.mean() - b.mean()).item() < 5 * error


@pytest.mark.parametrize("recipe", ["vdvae", "ladder", "biva", "resnet"])
def test_no_normalisation_ends_the_network_of_a_distribution(recipe):
    sizes = (2, 2, 2)
    options = {"cell": "depthwise", "channels": 4}
    model = build(
        Model(
            recipe=recipe,
            latent_sizes=sizes,
            networks="convolutional",
            normalisation="batch",
            networks_options=options,
        ),
        DataSpec((8, 8), num_values=2),
    )
    heads = [*model.posterior.modules(), *model.top_down.conditionals.modules()]
    ends = [
        part.net[-1] for part in heads if isinstance(getattr(part, "net", None), nn.Sequential)
    ]
    assert ends and all(isinstance(end, nn.Conv2d) for end in ends)
