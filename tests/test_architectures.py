"""The settings that recipes share: widths, states, normalisation, and what a recipe adds."""

import pytest
import torch
from torch import Tensor, nn

from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE, MarkovUpdate, SkipUpdate, hold
from hvae_course.nets import ACTIVATIONS, BatchNorm
from hvae_course.posteriors import (
    Chain,
    Concatenation,
    Delta,
    Direct,
    PrecisionWeighted,
)
from hvae_course.recipes import RECIPES, Architecture, build
from hvae_course.training import Checkpoint, load_checkpoint, save_checkpoint

SIZES = (4, 3, 2)
recipe_names = pytest.mark.parametrize("recipe", RECIPES)
states = pytest.mark.parametrize("state", ["markov", "skip"])


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


def inference(model: HierarchicalVAE) -> nn.ModuleList:
    return nn.ModuleList([model.bottom_up, model.posterior])


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in module.named_parameters()}


# What is refused


@pytest.mark.parametrize(
    "sizes", [{"latent_sizes": ()}, {"latent_sizes": (4, 0)}, {"latent_sizes": (-1,)}], ids=str
)
def test_an_architecture_refuses_latent_sizes_that_are_not_positive(sizes):
    with pytest.raises(ValueError, match="needs a positive size, bottom to top, got latent_sizes"):
        Architecture(**sizes)


@pytest.mark.parametrize("name", ["hidden", "inference_hidden"])
def test_an_architecture_refuses_widths_that_are_not_positive(name):
    with pytest.raises(ValueError, match=r"every hidden layer needs .* and hidden=.*8, 0\)"):
        Architecture(**{name: (8, 0)})


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown state 'ring'; choose one of markov, skip"):
        Architecture(state="ring")
    with pytest.raises(ValueError, match="unknown likelihood 'poisson'; choose one of bernoulli,"):
        Architecture(likelihood="poisson")


@pytest.mark.parametrize("name", ["generative_normalisation", "activation"])
def test_names_of_layers_are_refused_when_the_networks_are_built(name, make_model):
    with pytest.raises(ValueError, match=f"unknown {name.split('_')[-1]} 'cube'; choose one of"):
        make_model(**{name: "cube"})


@recipe_names
def test_an_unknown_setting_is_refused(recipe, make_model):
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        make_model(recipe, depth=3)


# State


@pytest.mark.parametrize(
    ("state", "sizes", "expected"),
    [("markov", SIZES, (3, 2, 0)), ("skip", SIZES, (5, 2, 0))]
    + [("markov", (4,), (0,)), ("skip", (4,), (0,)), ("skip", (5, 4, 3, 2), (9, 5, 2, 0))],
)
def test_a_level_meets_the_latent_above_it_or_all_of_them(state, sizes, expected):
    assert Architecture(latent_sizes=sizes, state=state).state_sizes == expected


@recipe_names
@pytest.mark.parametrize(("state", "kind"), [("markov", MarkovUpdate), ("skip", SkipUpdate)])
def test_the_walk_down_meets_states_of_these_widths(recipe, state, kind, make_model):
    model, met = make_model(recipe, latent_sizes=SIZES, state=state).eval(), {}

    def choose(l: int, h: Tensor, p):
        met[l] = h.shape[1]
        return p, p.sample()

    model.generate(2, choose)
    expected = Architecture(latent_sizes=SIZES, state=state).state_sizes
    assert tuple(met[l] for l in range(3)) == expected
    assert all(type(update) is kind for update in model.top_down.updates)


@recipe_names
@pytest.mark.parametrize(("state", "depends"), [("markov", False), ("skip", True)])
def test_given_z_1_only_a_skip_lets_the_data_depend_on_the_levels_above(
    recipe, state, depends, make_model
):
    model = make_model(recipe, latent_sizes=SIZES, state=state).eval()
    z1, z2, z3 = (torch.randn(3, size) for size in SIZES)
    means = [
        model.generate(3, hold(dict(enumerate(held, start=1)))).px.mean
        for held in ((z1, z2, z3), (z1, z2 + 1, z3), (z1, z2, z3 + 1))
    ]
    assert [not torch.equal(means[0], other) for other in means[1:]] == [depends] * 2


@states
def test_recipes_of_one_architecture_share_one_generative_model(state, make_model):
    settings = {"latent_sizes": SIZES, "hidden": (8, 6), "state": state, "dropout": 0.1}
    settings |= {"normalisation": "layer", "activation": "gelu"}
    models = [make_model(recipe, **settings) for recipe in RECIPES]
    assert len({str((model.prior, model.top_down)) for model in models}) == 1
    assert len({str(shapes(model.top_down)) for model in models}) == 1
    assert len({str(model.posterior) for model in models}) == len(models)


# Widths, normalisation, activation, dropout


@recipe_names
@pytest.mark.parametrize("inference_hidden", [None, (7, 9), ()], ids=str)
def test_inference_networks_may_have_widths_of_their_own(recipe, inference_hidden, make_model):
    model = make_model(recipe, hidden=(8,), inference_hidden=inference_hidden)
    usual = make_model(recipe, hidden=(8,))
    assert shapes(model.top_down) == shapes(usual.top_down)
    layers = [part for part in model.bottom_up.modules() if isinstance(part, nn.Linear)]
    widths = [layer.out_features for layer in layers]
    expected = (8,) if inference_hidden is None else inference_hidden
    assert tuple(widths[: len(expected)]) == expected
    assert model.bottom_up(torch.rand(2, 64))[0].shape[1] == (64, *expected)[-1]
    assert model(torch.rand(2, 64)).px.batch_shape == (2,)


OF_LEVELS = ((9, 8), (7,), (6, 5))
"""Widths of three levels, bottom to top, all different."""


def layer_sizes(part):
    layers = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in layers]


@recipe_names
def test_each_level_may_have_widths_of_its_own(recipe, make_model):
    model = make_model(recipe, latent_sizes=SIZES, hidden=OF_LEVELS, likelihood="bernoulli")
    z1, z2, z3 = SIZES
    below_3, below_2 = model.top_down.conditionals[1], model.top_down.conditionals[0]
    assert layer_sizes(below_3) == [(z3, 6), (6, 5), (5, 2 * z2)]
    assert layer_sizes(below_2) == [(z2, 7), (7, 2 * z1)]
    assert layer_sizes(model.top_down.likelihood) == [(z1, 9), (9, 8), (8, 64)]
    upward = [layer_sizes(block) for block in model.bottom_up.blocks]
    expected = [[(64, 9), (9, 8)], [(8, 7)], [(7, 6), (6, 5)]]
    assert upward == expected[: len(upward)] and len(upward) in (1, 3)
    assert model(torch.rand(2, 64)).px.batch_shape == (2,)


@recipe_names
@pytest.mark.parametrize("state", ["markov", "skip"])
def test_the_same_widths_for_all_may_be_said_level_by_level(recipe, state, make_model):
    settings = {"latent_sizes": SIZES, "state": state, "inference_hidden": (9,)}
    at_once = make_model(recipe, hidden=(8, 6), **settings)
    each = make_model(recipe, hidden=((8, 6),) * 3, **(settings | {"inference_hidden": [[9]] * 3}))
    torch.testing.assert_close(at_once.state_dict(), each.state_dict(), rtol=0, atol=0)
    again = build(each.config)
    assert shapes(again) == shapes(each) and again.config == each.config


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "bottom_up_vae"])
def test_a_seed_gives_the_bottom_up_path_its_weights_first(recipe, make_model):
    settings = {"hidden": (8,), "latent_sizes": SIZES, "normalisation": "layer"}
    model = make_model(recipe, seed=5, activation="silu", **settings)
    torch.manual_seed(5)  # results that are quoted follow from the order of the draws
    alone = Architecture(activation="silu", **settings).bottom_up(DataSpec(64, 17))
    torch.testing.assert_close(model.bottom_up.state_dict(), alone.state_dict(), rtol=0, atol=0)


@recipe_names
def test_a_level_without_hidden_layers_hands_its_feature_on(recipe, make_model):
    model = make_model(recipe, latent_sizes=SIZES, hidden=((9,), (), (5,)))
    features = model.bottom_up(torch.rand(2, 64))
    assert [d.shape[1] for d in features] == [9, 9, 5][: len(features)]
    assert model(torch.rand(2, 64)).px.batch_shape == (2,)


@pytest.mark.parametrize("name", ["hidden", "inference_hidden"])
def test_widths_by_level_must_be_one_for_each(name):
    with pytest.raises(ValueError, match=f"{name} is one .*, or one for each of 3 levels, got 2"):
        Architecture(latent_sizes=SIZES, **{name: ((8,), (8,))})
    with pytest.raises(ValueError, match=rf"{name} is .* got a mixture: \(8, \(8,\), 8\)"):
        Architecture(latent_sizes=SIZES, **{name: (8, (8,), 8)})
    with pytest.raises(ValueError, match=r"positive size.* and hidden=.*8, 8, 0"):
        Architecture(latent_sizes=SIZES, **{name: ((8,), (8,), (0,))})


@recipe_names
def test_generative_networks_may_be_normalised_in_another_way(recipe, make_model):
    model = make_model(recipe, normalisation="layer", generative_normalisation="batch")
    assert count(model.top_down, BatchNorm) == 2 and not count(model.top_down, nn.LayerNorm)
    assert count(inference(model), nn.LayerNorm) and not count(inference(model), BatchNorm)
    same = make_model(recipe, normalisation="layer")
    assert count(same.top_down, nn.LayerNorm) == 2 and not count(same.top_down, BatchNorm)


@recipe_names
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_network_has_the_activation_that_is_asked_for(recipe, activation, make_model):
    model = make_model(recipe, activation=activation)
    for part in (inference(model), model.top_down):
        found = {kind for kind in ACTIVATIONS.values() if count(part, kind)}
        assert found == {ACTIVATIONS[activation]}


@recipe_names
def test_dropout_acts_in_training_in_inference_and_generation(recipe, make_model):
    model, x = make_model(recipe, dropout=0.5), torch.rand(5, 64)
    usual, z1 = make_model(recipe), torch.randn(1, 4).expand(50, -1)
    assert count(inference(model), nn.Dropout) and count(model.top_down, nn.Dropout) == 2
    assert not count(usual, nn.Dropout)
    for training in (True, False):
        model.train(training)
        features = [model.bottom_up(x)[0] for _ in range(2)]
        assert torch.equal(*features) != training
        state = model.top_down.likelihood(z1).mean
        assert torch.equal(state[:1].expand(50, -1), state) != training


# What a recipe adds


@pytest.mark.parametrize(
    ("recipe", "settings", "kinds"),
    [
        ("mean_field_vae", {}, [Direct] * 3),
        ("delta_vae", {}, [Delta] * 3),
        ("delta_vae", {"reads_state": False}, [Delta] * 3),
        ("ladder_vae", {}, [PrecisionWeighted, PrecisionWeighted, Direct]),
        ("ladder_vae", {"merge_top": True}, [PrecisionWeighted] * 3),
        ("bidirectional_vae", {}, [Concatenation] * 3),
    ],
)
@states
def test_a_recipe_is_known_by_its_rules_also_when_built_again(
    recipe, settings, kinds, state, make_model, tmp_path
):
    settings = settings | {"latent_sizes": SIZES, "state": state, "dropout": 0.1}
    model, path = make_model(recipe, **settings), tmp_path / "checkpoint.pt"
    assert [type(rule) for rule in model.posterior.rules] == kinds
    save_checkpoint(Checkpoint(model.config, model.state_dict()), path)
    checkpoint = load_checkpoint(path)
    again = build(checkpoint.config)
    again.load_state_dict(checkpoint.weights)
    assert str(again) == str(model) and again.config == model.config
    assert settings.items() <= (again.config | {"latent_sizes": SIZES}).items()
    for rule in again.posterior.rules:
        assert getattr(rule, "reads_state", True) == settings.get("reads_state", True)


def test_the_chain_of_the_bottom_up_vae_has_a_head_per_level(make_model):
    model = make_model("bottom_up_vae", latent_sizes=SIZES)
    assert type(model.posterior) is Chain and len(model.posterior.heads) == 3
    assert len(model.bottom_up.blocks) == 1 and all(model.posterior.draws_bottom_up)


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "bottom_up_vae"])
def test_top_down_recipes_have_a_feature_per_level_each_built_on_the_one_below(recipe, make_model):
    model, x = make_model(recipe, latent_sizes=SIZES).eval(), torch.rand(4, 64)
    assert not any(model.posterior.draws_bottom_up)
    below = x
    for feature, block in zip(model.bottom_up(x), model.bottom_up.blocks, strict=True):
        assert torch.equal(feature, block(below))
        below = feature


@states
def test_a_delta_that_is_blind_to_the_state_has_fewer_inputs(state, make_model):
    seeing, blind = (
        make_model("delta_vae", latent_sizes=SIZES, state=state, reads_state=reads)
        for reads in (True, False)
    )
    above = Architecture(latent_sizes=SIZES, state=state).state_sizes
    for h, rule, other in zip(above, seeing.posterior.rules, blind.posterior.rules, strict=True):
        first, second = (next(r.net.parameters()).shape for r in (rule, other))
        assert first[1] == second[1] + h == 16 + h


def test_the_bidirectional_vae_has_layer_normalisation_and_gelu_unless_told_otherwise(make_model):
    usual = make_model("bidirectional_vae")
    assert count(usual, nn.LayerNorm) and count(usual, nn.GELU)
    assert not count(usual, BatchNorm) and not count(usual, nn.SiLU)
    assert (usual.config["normalisation"], usual.config["activation"]) == ("layer", "gelu")
    told = make_model("bidirectional_vae", normalisation="batch", activation="silu")
    assert count(told, BatchNorm) and count(told, nn.SiLU)
    assert not count(told, nn.LayerNorm) and not count(told, nn.GELU)
