"""Networks by level: their widths, states and layers, and other networks in their place."""

import pytest
import torch
from recipe_kinds import GAUSSIAN, OF_ANY_NETWORKS, PERCEPTRONS
from torch import Tensor, nn

from hvae_course.config import Model
from hvae_course.data import DataSpec
from hvae_course.gaussians import split_normal
from hvae_course.hierarchy import (
    HierarchicalVAE,
    LearnedState,
    MarkovUpdate,
    SkipUpdate,
    hold,
    join,
)
from hvae_course.nets import ACTIVATIONS, BatchNorm
from hvae_course.posteriors import Chain, Concatenation, Delta, Direct, PrecisionWeighted
from hvae_course.recipes import MLPs, Networks, build
from hvae_course.training import Checkpoint, load_checkpoint, save_checkpoint

SIZES = (4, 3, 2)
X = torch.rand(4, 64, generator=torch.Generator().manual_seed(0))
recipe_names = pytest.mark.parametrize("recipe", PERCEPTRONS)
top_down_names = pytest.mark.parametrize("recipe", PERCEPTRONS[1:])  # without bottom_up_vae
states = pytest.mark.parametrize("state", ["markov", "skip"])


@pytest.fixture
def make(make_model):
    """Build a small model, usually of three levels."""

    def build_small(recipe: str = "bottom_up_vae", **settings) -> HierarchicalVAE:
        return make_model(recipe, **{"latent_sizes": SIZES} | settings)

    return build_small


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


def inference(model: HierarchicalVAE) -> nn.ModuleList:
    return nn.ModuleList([model.bottom_up, model.posterior])


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in module.named_parameters()}


def layer_sizes(part: nn.Module) -> list[tuple[int, int]]:
    layers = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in layers]


# State


@recipe_names
@pytest.mark.parametrize(
    ("state", "sizes", "expected"),
    [("markov", SIZES, (3, 2, 0)), ("skip", SIZES, (5, 2, 0))]
    + [("markov", (4,), (0,)), ("skip", (4,), (0,)), ("skip", (5, 4, 3, 2), (9, 5, 2, 0))],
)
def test_a_level_meets_the_latent_above_it_or_all_of_them(recipe, state, sizes, expected, make):
    model, met = make(recipe, latent_sizes=sizes, state=state).eval(), {}

    def choose(l: int, h: Tensor, p):
        met[l] = h.shape[1]
        return p, p.sample()

    model.generate(2, choose)
    assert tuple(met[l] for l in range(len(sizes))) == expected
    kind = {"markov": MarkovUpdate, "skip": SkipUpdate}[state]
    assert all(type(update) is kind for update in model.top_down.updates)


@recipe_names
@pytest.mark.parametrize(("state", "depends"), [("markov", False), ("skip", True)])
def test_given_z_1_only_a_skip_lets_the_data_depend_on_the_levels_above(
    recipe, state, depends, make
):
    model = make(recipe, state=state).eval()
    z1, z2, z3 = (torch.randn(3, size) for size in SIZES)
    means = [
        model.generate(3, hold(dict(enumerate(held, start=1)))).px.mean
        for held in ((z1, z2, z3), (z1, z2 + 1, z3), (z1, z2, z3 + 1))
    ]
    assert [not torch.equal(means[0], other) for other in means[1:]] == [depends] * 2


@states
def test_recipes_share_one_generative_model(state, make):
    settings = {"hidden": (8, 6), "state": state, "dropout": 0.1}
    settings |= {"normalisation": "layer", "activation": "gelu"}
    models = [make(recipe, **settings) for recipe in GAUSSIAN]
    assert len({str((model.prior, model.top_down)) for model in models}) == 1
    assert len({str(shapes(model.top_down)) for model in models}) == 1
    assert len({str(model.posterior) for model in models}) == len(models)


# Widths, normalisation, activation, dropout


@recipe_names
@pytest.mark.parametrize("own", [None, (7, 9), ()], ids=str)
def test_inference_networks_may_have_widths_of_their_own(recipe, own, make):
    model, usual = (make(recipe, hidden=(8,), inference_hidden=w) for w in (own, None))
    assert shapes(model.top_down) == shapes(usual.top_down)
    expected = (8,) if own is None else own
    widths = tuple(width for _, width in layer_sizes(model.bottom_up))
    assert widths[: len(expected)] == expected
    assert model.bottom_up(X)[0].shape[1] == (64, *expected)[-1]
    assert model(X).px.batch_shape == (4,)


@pytest.mark.parametrize("recipe", GAUSSIAN)
def test_each_level_may_have_widths_of_its_own(recipe, make):
    model = make(recipe, hidden=((9, 8), (7,), (6, 5)), likelihood="bernoulli")
    z1, z2, z3 = SIZES
    below_2, below_3 = model.top_down.conditionals
    assert layer_sizes(below_3) == [(z3, 6), (6, 5), (5, 2 * z2)]
    assert layer_sizes(below_2) == [(z2, 7), (7, 2 * z1)]
    assert layer_sizes(model.top_down.likelihood) == [(z1, 9), (9, 8), (8, 64)]
    upward = [layer_sizes(block) for block in model.bottom_up.blocks]
    expected = [[(64, 9), (9, 8)], [(8, 7)], [(7, 6), (6, 5)]]
    assert upward == expected[: len(upward)] and len(upward) in (1, 3)
    assert model(X).px.batch_shape == (4,)


@recipe_names
@states
def test_the_same_widths_for_all_may_be_said_level_by_level(recipe, state, make):
    at_once = make(recipe, state=state, hidden=(8, 6), inference_hidden=(9,))
    each = make(recipe, state=state, hidden=((8, 6),) * 3, inference_hidden=[[9]] * 3)
    torch.testing.assert_close(at_once.state_dict(), each.state_dict(), rtol=0, atol=0)
    again = build(each.config)
    assert shapes(again) == shapes(each) and again.config == each.config


@top_down_names
def test_a_seed_gives_the_bottom_up_path_its_weights_first(recipe, make):
    settings = {"hidden": (8,), "normalisation": "layer", "activation": "silu"}
    model = make(recipe, seed=5, **settings)
    torch.manual_seed(5)  # results that are quoted follow from the order of the draws
    alone = MLPs(Model(latent_sizes=SIZES, **settings), DataSpec(64, 17)).features()
    torch.testing.assert_close(model.bottom_up.state_dict(), alone.state_dict(), rtol=0, atol=0)


@recipe_names
def test_a_level_without_hidden_layers_hands_its_feature_on(recipe, make):
    model = make(recipe, hidden=((9,), (), (5,)))
    features = model.bottom_up(X)
    assert [d.shape[1] for d in features] == [9, 9, 5][: len(features)]
    assert model(X).px.batch_shape == (4,)


@recipe_names
def test_generative_networks_may_be_normalised_in_another_way(recipe, make):
    model = make(recipe, normalisation="layer", generative_normalisation="batch")
    assert count(model.top_down, BatchNorm) == 3 and not count(model.top_down, nn.LayerNorm)
    assert count(inference(model), nn.LayerNorm) and not count(inference(model), BatchNorm)
    same = make(recipe, normalisation="layer")
    assert count(same.top_down, nn.LayerNorm) == 3 and not count(same.top_down, BatchNorm)


@pytest.mark.parametrize("recipe", GAUSSIAN)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_every_network_has_the_activation_that_is_asked_for(recipe, activation, make):
    model = make(recipe, activation=activation)
    usual = "gelu" if recipe == "bidirectional_vae" else "silu"
    for part in (inference(model), model.top_down):
        found = {kind for kind in ACTIVATIONS.values() if count(part, kind)}
        assert found == {ACTIVATIONS[activation or usual]}
    assert count(model, BatchNorm if usual == "silu" else nn.LayerNorm)


@recipe_names
def test_dropout_acts_in_training_in_inference_and_generation(recipe, make):
    model, z1 = make(recipe, dropout=0.5), torch.randn(1, 4).expand(50, -1)
    assert count(inference(model), nn.Dropout) and count(model.top_down, nn.Dropout) == 3
    assert not count(make(recipe), nn.Dropout)
    for training in (True, False):
        model.train(training)
        features = [model.bottom_up(X)[0] for _ in range(2)]
        assert torch.equal(*features) != training
        state = model.top_down.likelihood(z1).mean
        assert torch.equal(state[:1].expand(50, -1), state) != training


# What a recipe asks for


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
    recipe, settings, kinds, state, make, tmp_path
):
    settings = settings | {"state": state, "dropout": 0.1}
    model, path = make(recipe, **settings), tmp_path / "checkpoint.pt"
    assert [type(rule) for rule in model.posterior.rules] == kinds
    save_checkpoint(Checkpoint(model.config, model.state_dict()), path)
    checkpoint = load_checkpoint(path)
    again = build(checkpoint.config)
    again.load_state_dict(checkpoint.weights)
    assert str(again) == str(model) and again.config == model.config
    assert settings.items() <= again.config.items()
    for rule in again.posterior.rules:
        assert getattr(rule, "reads_state", True) == settings.get("reads_state", True)


def test_the_chain_of_the_bottom_up_vae_has_a_head_per_level(make):
    model = make("bottom_up_vae")
    assert type(model.posterior) is Chain and len(model.posterior.heads) == 3
    assert len(model.bottom_up.blocks) == 1 and all(model.posterior.draws_bottom_up)


@top_down_names
def test_top_down_recipes_have_a_feature_per_level_each_built_on_the_one_below(recipe, make):
    model, below = make(recipe).eval(), X
    assert not any(model.posterior.draws_bottom_up)
    for feature, block in zip(model.bottom_up(X), model.bottom_up.blocks, strict=True):
        assert torch.equal(feature, block(below))
        below = feature


@pytest.mark.parametrize(("state", "above"), [("markov", (3, 2, 0)), ("skip", (5, 2, 0))])
def test_a_delta_that_is_blind_to_the_state_has_fewer_inputs(state, above, make):
    for reads, more in ((True, above), (False, (0, 0, 0))):
        model = make("delta_vae", state=state, reads_state=reads)
        widths = [layer_sizes(rule)[0][0] for rule in model.posterior.rules]
        assert widths == [16 + h for h in more]


# Other networks


class Head(nn.Conv2d):
    """A 3x3 convolution to a Gaussian over an image."""

    def forward(self, d: Tensor):
        return split_normal(super().forward(d))


class Wider(nn.Module):
    """A latent joins the state, which then has twice the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.ConvTranspose2d(5 + channels, 5, 2, stride=2), nn.SiLU())

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        return self.net(join(h, z))


class Convolutions(Networks):
    """Images of 8x8 pixels: level l has half the resolution of what is below it, 5 channels."""

    def head_of(self, channels: int, l: int, kind=Head, **settings) -> nn.Module:
        return kind(channels, 2 * self.model.latent_sizes[l], 3, padding=1, **settings)

    def latent_shape(self, l):
        return (self.model.latent_sizes[l], 4 // 2**l, 4 // 2**l)

    def feature(self, l):
        below = nn.Identity() if l else nn.Unflatten(1, (1, *self.spec.shape))
        return nn.Sequential(below, nn.Conv2d(5 if l else 1, 5, 2, stride=2), nn.SiLU())

    def message(self, l):
        return self.head_of(5, l)

    def upward(self, l):
        return self.head_of(self.model.latent_sizes[l - 1], l, stride=2)

    def head(self, l):
        return self.head_of(10, l)

    def delta(self, l, *, reads_state):
        return self.head_of(10 if reads_state else 5, l, kind=nn.Conv2d)

    def update(self, l):
        return Wider(self.model.latent_sizes[l])

    def prior(self, l):
        return self.head_of(5, l)

    def decoder(self, num_outputs):
        return nn.Sequential(nn.Conv2d(5, num_outputs // 64, 1), nn.Flatten())

    def initial(self):
        return LearnedState(5, *self.latent_shape(self.levels[-1])[1:])


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("recipe", OF_ANY_NETWORKS)
def test_recipes_can_be_made_of_other_networks(recipe, depth, tiny_data, train):
    model = Model(recipe=recipe, latent_sizes=SIZES[:depth])
    vae = build(model, tiny_data, networks=Convolutions, seed=0)
    before = {name: value.clone() for name, value in vae.named_parameters()}
    trace = vae(X, 2)
    assert [level.z.shape for level in trace.levels] == [
        (8, size, 4 // 2**l, 4 // 2**l) for l, size in enumerate(model.latent_sizes)
    ]
    assert trace.log_weight(X).shape == (8,) and not vae.config
    history = train(vae, epochs=1, learning_rate=1e-2)
    assert history.best_epoch == 1
    assert "top_down.initial.value" in before
    for name, value in vae.named_parameters():
        assert not torch.equal(value, before[name]), name
    assert vae.generate(3).px.mean.shape == (3, 64)


def test_priors_over_images_are_those_that_have_any_shape(tiny_data):
    for prior in ("standard", "vamp"):
        model = Model(recipe="ladder", prior=prior, normalisation="layer")
        assert build(model, tiny_data, networks=Convolutions)(X).levels[1].z.shape == (4, 8, 2, 2)
    for prior in ("mixture", "vhp"):
        match = rf"'{prior}' is over vectors, and the top level has the shape \(8, 2, 2\); choose"
        with pytest.raises(ValueError, match=match):
            build(Model(recipe="ladder", prior=prior), tiny_data, networks=Convolutions)
