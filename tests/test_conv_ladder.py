"""The ladder of convolutional networks: what its merge reads, and how narrow it has to be."""

import math

import pytest
import torch
from deep_models import held, reads
from linear_gaussian import CHAINS, D, assert_exact
from torch import Tensor, nn

from hvae_course import recipes
from hvae_course.convolutions import Residual, scale_last
from hvae_course.data import DataSpec
from hvae_course.gaussians import LOG_STD_BOUND, diag_normal
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.oracles import LinearGaussian
from hvae_course.oracles.layers import LinearGaussianLayer
from hvae_course.recipes.convolutional import MapGaussian

SPEC = DataSpec((8, 8), 2, num_classes=3)
STAGES = ((4, 2, 6), (2, 2, 4))
SIZES = (2, 1, 2, 3)
NAMES = ("z_1", "z_2", "z_3", "z_4")
merges = pytest.mark.parametrize("merge", ["precision", "concatenation"])


def small(merge: str = "precision", spec: DataSpec = SPEC, **settings) -> HierarchicalVAE:
    networks = {"stages": STAGES, "zero_priors": False} | settings.pop("networks_options", {})
    torch.manual_seed(0)
    model = recipes.conv_ladder_vae(
        spec, merge=merge, **{"latent_sizes": SIZES, "networks_options": networks} | settings
    )
    return model.double().eval()


def binary(n: int, size: int = 64) -> Tensor:
    return torch.bernoulli(torch.full((n, size), 0.5, dtype=D))


@merges
@pytest.mark.parametrize("conditional", [False, True])
def test_a_level_reads_the_data_and_all_latents_above_it(merge, conditional):
    model, x = small(merge, conditional=conditional), binary(3).requires_grad_()
    y = torch.tensor([0, 2, 1]) if conditional else None
    latents = [level.z.detach().requires_grad_() for level in model(x, y=y).levels]
    leaves = {"x": x} | dict(zip(NAMES, latents, strict=True))
    trace = held(model, x, latents, y)
    for l, level in enumerate(trace.levels):
        assert reads(level.q, leaves) == {"x", *NAMES[l + 1 :]}
        assert reads(level.p, leaves) == {*NAMES[l + 1 :]}


@pytest.mark.parametrize(
    ("merge", "expected"), [("precision", {"d", "p"}), ("concatenation", {"d", "h"})]
)
def test_only_the_concatenation_reads_the_state_itself(merge, expected):
    """In the merge the latents above act through p alone, in the concatenation not through it."""
    rule = small(merge).posterior.rules[0]
    d, h, p_mean = (
        torch.randn(2, channels, 4, 4, dtype=D).requires_grad_() for channels in (6, 6, 2)
    )
    q = rule(d, h, diag_normal(p_mean, torch.zeros_like(p_mean)))
    assert reads(q, {"d": d, "h": h, "p": p_mean}) == expected


def test_a_merge_is_never_wider_than_its_prior_and_a_concatenation_may_be():
    """Code that is known as a ladder and concatenates has no such limit."""
    x = binary(50)
    wider = {}
    for merge in ("precision", "concatenation"):
        model = small(merge)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
            levels = model(x).levels[:-1]
        wider[merge] = [(level.q.stddev > level.p.stddev).double().mean() for level in levels]
    assert max(wider["precision"]) == 0
    assert min(wider["concatenation"]) > 0.02


def test_both_merges_have_the_same_generative_part_and_path_upward():
    a, b = small("precision"), small("concatenation")
    for part in ("top_down", "bottom_up", "prior"):
        assert str(getattr(a, part)) == str(getattr(b, part))
    assert a.config["recipe"] == "ladder" and b.config["recipe"] == "bidirectional"
    differ = {name for name in a.config if a.config[name] != b.config[name]}
    assert differ == {"recipe"}


def test_it_is_the_ladder_of_convolutional_networks_with_features_of_their_own():
    options = {"stages": STAGES, "zero_priors": False, "shared_features": False}
    by_hand = recipes.ladder_vae(
        SPEC, latent_sizes=SIZES, networks="convolutional", networks_options=options
    )
    assert by_hand.config == small().config
    assert small().posterior.reads == (1, 2, 3, 4)
    assert small(networks_options={"shared_features": True}).posterior.reads == (2, 2, 4, 4)
    given = {"channels": 4}
    recipes.conv_ladder_vae(SPEC, latent_sizes=(2,), networks_options=given)
    assert given == {"channels": 4}  # what a caller holds is not changed


def test_the_top_level_is_merged_on_request():
    assert small(merge_top=True).posterior.reads_top_prior
    assert not small().posterior.reads_top_prior


def test_another_merge_is_refused():
    with pytest.raises(ValueError, match="merge is one of precision, concatenation, got 'product"):
        recipes.conv_ladder_vae(SPEC, merge="product")


def test_other_networks_are_refused():
    with pytest.raises(
        ValueError, match=r"networks='mlp'; leave networks out, or call ladder_vae"
    ):
        recipes.conv_ladder_vae(SPEC, networks="mlp")
    assert small(networks="convolutional").config == small().config


# An exact answer


def set_weights(convolution: nn.Conv2d, *outputs: tuple[dict[int, float], float]) -> None:
    """One row per output channel: weights by input channel, and the bias."""
    with torch.no_grad():
        convolution.weight.zero_()
        for row, (weights, bias) in enumerate(outputs):
            for channel, weight in weights.items():
                convolution.weight[row, channel] = weight
            convolution.bias[row] = bias


def gaussian(channels: int, layer: LinearGaussianLayer, weights: dict[int, float]) -> MapGaussian:
    """A linear mean, and the scale of a layer."""
    net = nn.Conv2d(channels, 2, 1).double()
    raw = LOG_STD_BOUND * math.atanh(layer.log_std / LOG_STD_BOUND)
    set_weights(net, (weights, 0.0), ({}, raw))
    return MapGaussian(net)


def linear_ladder(chain: LinearGaussian, merge: str) -> HierarchicalVAE:
    """Every position of the maps is one copy of the chain, z_l is in channel l of the state."""
    size = chain.num_levels
    model = small(
        merge,
        DataSpec((2, 2), None),
        latent_sizes=(1,) * size,
        likelihood="isotropic_gaussian",
        networks_options={"stages": ((2, size, size),)},
    )
    for part in model.modules():
        if isinstance(part, Residual):
            scale_last(part.body, 0)
    top_down, rules = model.top_down, model.posterior.rules
    layers, messages, exact = chain.layers(), chain.messages(), chain.posterior_conditionals()
    set_weights(model.bottom_up.blocks[0][1], *(({0: float(l == 0)}, 0.0) for l in range(size)))
    set_weights(top_down.likelihood.net[0], ({0: layers[0].slope}, 0.0))
    with torch.no_grad():
        top_down.likelihood.log_std.fill_(layers[0].log_std)
    for l in range(size):
        set_weights(top_down.updates[l].latent, *(({0: float(k == l)}, 0.0) for k in range(size)))
        if l < size - 1:
            above = {l + 1: layers[l + 1].slope}
            top_down.conditionals[l] = gaussian(size, layers[l + 1], above)
        if merge == "precision":
            top = l == size - 1
            message = {0: exact[l].slopes[0] if top else messages[l].slope}
            rules[l].head = gaussian(size, exact[l] if top else messages[l], message)
        else:
            channels = (0, size + l + 1)
            weights = dict(zip(channels, exact[l].slopes, strict=False))
            rules[l].head = gaussian(2 * size, exact[l], weights)
    return model


@merges
@pytest.mark.parametrize("num_levels", [1, 2, 3, 5])
def test_with_the_exact_posterior_every_draw_gives_the_evidence(merge, num_levels):
    chain = LinearGaussian(CHAINS[num_levels].slopes, CHAINS[num_levels].variances, size=4)
    assert_exact(linear_ladder(chain, merge), chain)
