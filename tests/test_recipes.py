"""Recipes: every named model learns with all its parts, at every depth and likelihood."""

import json
from dataclasses import fields
from typing import Any

import pytest
import torch
from recipe_kinds import DEEP, GAUSSIAN, PERCEPTRONS
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from hvae_course import likelihoods, recipes
from hvae_course.config import BINARY_LIKELIHOODS, COUNT_LIKELIHOODS, GREY_LIKELIHOODS, Model
from hvae_course.data import DataSpec
from hvae_course.gaussians import kl_normal
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.nets import NORMALISATIONS
from hvae_course.objectives import elbo, importance_weighted
from hvae_course.recipes import LIKELIHOODS, RECIPES, build

DEPTHS = {1: (4,), 2: (4, 3), 3: (4, 3, 2), 5: (5, 4, 3, 2, 1)}
recipe_names = pytest.mark.parametrize("recipe", PERCEPTRONS)
deep_names = pytest.mark.parametrize("recipe", DEEP)
depths = pytest.mark.parametrize("sizes", DEPTHS.values(), ids=len)
likelihood_names = pytest.mark.parametrize("likelihood", LIKELIHOODS)


MIXED = [
    {"columns": [0, 3], "likelihood": "gaussian"},
    {"columns": [1], "likelihood": "bernoulli"},
    {"columns": [5], "likelihood": "poisson"},
    {"columns": [4, 2], "likelihood": "categorical", "num_values": 2},
]


def spec_for(likelihood: str, num_features: int = 6) -> DataSpec:
    if likelihood == "mixed":
        return DataSpec(num_features, None)
    if likelihood in COUNT_LIKELIHOODS:
        return DataSpec(num_features, None, counts=True)
    shape = (2, num_features // 2) if likelihood == "pixel_convolutional" else num_features
    return DataSpec(shape, 2 if likelihood in BINARY_LIKELIHOODS else 17)


def data_for(likelihood: str, batch: int, num_features: int = 6) -> Tensor:
    if likelihood in COUNT_LIKELIHOODS:
        return torch.poisson(torch.full((batch, num_features), 30.0))
    steps = (spec_for(likelihood).num_values or 2) - 1
    return torch.randint(steps + 1, (batch, num_features)) / steps


def options_for(likelihood: str) -> dict[str, Any]:
    options = {"blocks": MIXED} if likelihood == "mixed" else {}
    return {"likelihood": likelihood, "likelihood_options": options}


@recipe_names
@depths
@likelihood_names
def test_every_parameter_receives_a_gradient(
    recipe, sizes, likelihood, make_model, assert_finite_gradients
):
    model = make_model(recipe, spec_for(likelihood), latent_sizes=sizes, **options_for(likelihood))
    x = data_for(likelihood, 7)
    assert_finite_gradients(model, -elbo(model(x), x).mean())
    normalised = {  # a shift before batch normalisation has no effect, so its gradient is zero
        f"{name}.{i}.bias"
        for name, net in model.named_modules()
        if isinstance(net, nn.Sequential)
        for i in range(len(net) - 1)
        if isinstance(net[i + 1], nn.BatchNorm1d)
    }
    for name, parameter in model.named_parameters():
        assert name in normalised or (parameter.grad != 0).any(), name


@recipe_names
@depths
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("num_samples", [1, 3])
def test_shapes_follow_from_batch_draws_and_latent_sizes(
    recipe, sizes, batch, num_samples, make_model
):
    model, x = make_model(recipe, latent_sizes=sizes), torch.rand(batch, 64)
    trace, rows = model(x, num_samples), batch * num_samples
    for level, size in zip(trace.levels, sizes, strict=True):
        assert level.z.shape == (rows, size)
        assert level.q.batch_shape == level.p.batch_shape == level.information.shape == (rows,)
    assert trace.px.mean.shape == (rows, 64)
    assert trace.log_px(x).shape == trace.log_weight(x).shape == (rows,)
    assert elbo(trace, x).shape == importance_weighted(trace, x).shape == (batch,)


@recipe_names
@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)], ids=str)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("batch", [1, 4])
def test_constant_images_and_a_single_one_give_finite_gradients(
    recipe, hidden, normalisation, batch, make_model, assert_finite_gradients
):
    model = make_model(recipe, hidden=hidden, normalisation=normalisation).train()
    for value in (0.0, 1.0):
        x = torch.full((batch, 64), value)
        assert_finite_gradients(model, -elbo(model(x), x).mean())


def last_layers(model: HierarchicalVAE) -> list[nn.Linear]:
    """Layers whose outputs are parameters of a distribution: no normalisation follows them."""
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    followed = {
        id(net[i])
        for net in model.modules()
        if isinstance(net, nn.Sequential)
        for i in range(len(net) - 1)
    }
    return [layer for layer in linear if id(layer) not in followed]


@recipe_names
@likelihood_names
@pytest.mark.parametrize("value", [-1e3, 1e3])
@pytest.mark.parametrize("part", ["all", "means", "scales"])
def test_extreme_network_outputs_give_finite_losses_and_gradients(
    recipe, likelihood, value, part, make_model, assert_finite_gradients
):
    model = make_model(recipe, spec_for(likelihood), **options_for(likelihood))
    for layer in last_layers(model):
        half = layer.out_features // 2
        chosen = {"all": slice(None), "means": slice(half), "scales": slice(half, None)}[part]
        if layer.bias is not None:
            with torch.no_grad():
                layer.bias[chosen] = value
    for batch in (1, 4):
        x = data_for(likelihood, batch)
        assert_finite_gradients(model, -elbo(model(x), x).mean())
        assert_finite_gradients(model, -importance_weighted(model(x, 3), x).mean())


@pytest.mark.parametrize("recipe", GAUSSIAN)
@likelihood_names
def test_under_autocast_every_density_is_float32(recipe, likelihood, make_model):
    model = make_model(recipe, spec_for(likelihood), **options_for(likelihood))
    x = data_for(likelihood, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trace = model(x, 3)
        log_px, log_w, bound = trace.log_px(x), trace.log_weight(x), importance_weighted(trace, x)
        divergences = [kl_normal(level.q, level.p) for level in trace.levels]
    expected = log_px.double()
    for level, kl in zip(trace.levels, divergences, strict=True):
        q, p = (Normal(d.mean.double(), d.stddev.double()) for d in (level.q, level.p))
        expected += (p.log_prob(level.z.double()) - q.log_prob(level.z.double())).sum(1)
        exact = kl_divergence(q, p).sum(1)
        torch.testing.assert_close(kl.double(), exact, rtol=1e-4, atol=1e-5)
        assert kl.dtype == level.z.dtype == level.information.dtype == torch.float32
    assert log_px.dtype == log_w.dtype == bound.dtype == torch.float32
    torch.testing.assert_close(log_w.double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        bound.double(), expected.unflatten(0, (-1, 3)).exp().mean(1).log(), rtol=1e-5, atol=1e-4
    )


@recipe_names
@depths
def test_a_model_is_rebuilt_from_its_configuration(recipe, sizes, make_model):
    model = make_model(
        recipe, latent_sizes=sizes, hidden=(8, 6), normalisation="layer", likelihood="gaussian"
    )
    again = build(model.config)
    again.load_state_dict(model.state_dict())
    assert str(again) == str(model) and again.config == model.config
    x = torch.rand(3, 64)
    torch.manual_seed(1)
    first = model(x).log_weight(x)
    torch.manual_seed(1)
    assert torch.equal(again(x).log_weight(x), first)


@recipe_names
def test_a_configuration_holds_what_json_holds(recipe, make_model):
    config = make_model(recipe, latent_sizes=(4, 3), hidden=(8,)).config
    assert json.loads(json.dumps(config)) == config
    expected = {"shape": [8, 8], "num_values": 17, "recipe": recipe.removesuffix("_vae")}
    expected |= {"latent_sizes": [4, 3], "hidden": [8]}
    assert expected.items() <= config.items()
    names = {entry.name for entry in fields(Model)}
    assert config.keys() == names | expected.keys()


def test_a_configuration_of_an_earlier_version_is_read(make_model):
    model = make_model("ladder_vae", DataSpec(64, 17), merge_top=True)
    old = {"recipe": "ladder_vae", "num_features": 64, "num_values": 17, "merge_top": True}
    again = build(old | {"hidden": [16], "latent_sizes": [4, 3]})
    assert again.config == model.config and str(again) == str(model)


def test_a_data_set_and_its_spec_give_the_same_model(tiny_data, make_model):
    model = make_model(data=tiny_data)
    for data in (tiny_data.spec, DataSpec((8, 8), 17)):
        assert str(make_model(data=data)) == str(model)
    assert str(build(model.config)) == str(build(model.config, tiny_data)) == str(model)


def test_a_seed_gives_the_same_weights_and_leaves_the_random_numbers_alone(tiny_data):
    before, model = torch.get_rng_state(), Model(hidden=(8,))
    weights = [build(model, tiny_data, seed=n).state_dict() for n in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert any(not torch.equal(weights[0][name], value) for name, value in weights[2].items())


def test_an_ordinary_vae_has_one_level(tiny_data):
    model = recipes.vae(tiny_data, latent_size=5, hidden=(8,))
    assert [level.z.shape for level in model.generate(2).levels] == [(2, 5)]


def test_the_two_level_vae_is_the_bottom_up_vae_of_two_levels(tiny_data):
    settings = {"hidden": (8,), "latent_sizes": (4, 3)}
    model = recipes.two_level_vae(tiny_data, **settings)
    assert model.config == recipes.bottom_up_vae(tiny_data, **settings).config


# Recipes of convolutional networks


@deep_names
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("batch", [1, 4])
def test_constant_images_give_deep_recipes_finite_gradients(
    recipe, normalisation, batch, make_model, assert_finite_gradients
):
    """The top level has maps of one position, which of a single image have no variance."""
    options = {"stages": ((4, 2, 4), (1, 1, 4)), "zero_priors": False}
    settings = {"latent_sizes": (4, 3, 2), "networks_options": options}
    model = make_model(recipe, normalisation=normalisation, **settings).train()
    for value in (0.0, 1.0):
        x = torch.full((batch, 64), value)
        assert_finite_gradients(model, -elbo(model(x), x).mean())
    model.eval()
    assert torch.isfinite(model(x, 3).log_weight(x)).all()


@deep_names
def test_every_weight_of_a_deep_recipe_receives_a_gradient(recipe, make_model):
    model, x = make_model(recipe, latent_sizes=(4, 3, 2)), torch.rand(7, 64)
    nn.init.normal_(model.top_down.initial.value)  # at zero, weights that read it have none
    (-elbo(model(x), x).mean()).backward()
    for name, parameter in model.named_parameters():
        # a bias before batch normalisation has no effect
        assert (parameter.grad != 0).any() or name.endswith(".bias"), name


@deep_names
def test_a_deep_model_is_rebuilt_from_what_json_holds(recipe, make_model):
    model = make_model(recipe, latent_sizes=(4, 3, 2), likelihood="gaussian").eval()
    again = build(json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict())
    assert str(again) == str(model) and again.config == model.config
    x, values = torch.rand(3, 64), []
    for built in (model, again):
        torch.manual_seed(1)
        values.append(built(x).log_weight(x))
    assert torch.equal(*values)


@deep_names
def test_under_autocast_every_density_of_a_deep_recipe_is_float32(recipe, make_model):
    model, x = make_model(recipe, latent_sizes=(4, 3, 2)), torch.rand(5, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trace = model(x, 3)
        log_px, log_w = trace.log_px(x), trace.log_weight(x)
    expected = log_px.double()
    for level in trace.levels:
        q, p = (Normal(d.mean.double(), d.stddev.double()) for d in (level.q, level.p))
        z = level.z.double()
        expected += (p.log_prob(z) - q.log_prob(z)).flatten(1).sum(1)
        assert level.z.dtype == level.information.dtype == torch.float32
    assert log_px.dtype == log_w.dtype == torch.float32
    torch.testing.assert_close(log_w.double(), expected, rtol=1e-5, atol=1e-4)


# Likelihoods


@pytest.mark.parametrize(
    ("num_values", "kind"),
    [(None, "IsotropicGaussian"), (2, "Bernoulli"), (3, "Categorical"), (32, "Categorical")]
    + [(33, "DiscretizedLogistic"), (256, "DiscretizedLogistic")],
)
def test_the_usual_likelihood_follows_from_the_values(num_values, kind, make_model):
    model = make_model(data=DataSpec(6, num_values))
    assert type(model.top_down.likelihood) is getattr(likelihoods, kind)
    assert model(torch.zeros(2, 6)).px.event_shape == (6,)


def test_the_options_of_a_likelihood_reach_it(make_model):
    def likelihood(name: str | None, **options) -> likelihoods.Likelihood:
        settings = {"likelihood": name, "likelihood_options": options}
        return make_model(data=DataSpec(4, None), **settings).top_down.likelihood

    scale = likelihood(None, std=0.1, learned=True).log_std
    assert scale.exp().item() == pytest.approx(0.1) and scale.requires_grad
    assert likelihood("gaussian", log_std_bound=2.0).log_std_bound == 2.0


# What is refused


@pytest.mark.parametrize("name", GREY_LIKELIHOODS)
def test_likelihoods_of_grey_values_refuse_real_ones(name, make_model):
    match = f"'{name}' scores grey values and the data are real-valued; choose 'isotropic_gau"
    with pytest.raises(ValueError, match=match):
        make_model(data=DataSpec(4, None), likelihood=name)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_not_an_option_is_refused(recipe, make_model):
    with pytest.raises(TypeError, match="has no option 'depth'; its options are recipe, "):
        make_model(recipe, depth=3)
    with pytest.raises(ValueError, match=r"latent_sizes must be positive, got \(4, -1\)"):
        make_model(recipe, latent_sizes=(4, -1))


@pytest.mark.parametrize("sizes", [(), (4,), (4, 3, 2)], ids=str)
def test_a_two_level_vae_with_other_than_two_levels_is_refused(sizes, tiny_data):
    with pytest.raises(ValueError, match="two_level_vae has two levels, got latent_sizes=") as e:
        recipes.two_level_vae(tiny_data, latent_sizes=sizes)
    assert f"{sizes}; bottom_up_vae takes any number" in str(e.value)


@pytest.mark.parametrize("config", [{"num_values": 2}, {"recipe": "nvp"}], ids=str)
def test_a_configuration_of_no_recipe_is_refused_with_the_known_ones(config):
    recipe = config.get("recipe")
    match = f"unknown recipe {recipe!r} .*; known recipes are bottom_up, .*; build any other"
    with pytest.raises(ValueError, match=match):
        build(config)


@pytest.mark.parametrize(("model", "data"), [(Model(), None), ("ladder", DataSpec(6, 2))])
def test_a_model_without_configuration_or_data_is_refused(model, data):
    with pytest.raises(TypeError, match="a data set or its DataSpec, got (Model and None|str)"):
        build(model, data)


def test_a_configuration_without_the_shape_of_the_data_is_refused():
    with pytest.raises(ValueError, match="does not name shape and num_values of the data; build"):
        build({"recipe": "ladder", "latent_sizes": [2]}, DataSpec(6, 2))


def test_a_configuration_with_options_of_a_later_version_is_refused():
    config = build(Model(recipe="ladder"), DataSpec(6, 2)).config
    with pytest.raises(ValueError, match="unknown options depth, width; read it with the version"):
        build({**config, "width": 3, "depth": 2})


def test_a_seed_is_no_option_of_a_recipe():
    with pytest.raises(TypeError, match=r"torch.manual_seed, or with build\(.*, data, seed=3\)"):
        recipes.ladder_vae(DataSpec(6, 2), seed=3)
