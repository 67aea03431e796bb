"""Options: what each takes and refuses, the names it knows, and settings as they are recorded."""

import ast
import enum
import inspect
import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from hvae_course import config, recipes
from hvae_course.config import (
    VHP,
    Data,
    Experiment,
    Machine,
    Model,
    Objective,
    Training,
    differences,
    plain,
)
from hvae_course.data import DataSpec, loading
from hvae_course.likelihoods import BinaryLikelihood, GreyLikelihood
from hvae_course.nets import ACTIVATIONS, NORMALISATIONS
from hvae_course.objectives import OBJECTIVES
from hvae_course.recipes.inference import INFERENCE
from hvae_course.training.optimisers import OPTIMISERS

GROUPS = (Data, Model, Objective, Training, Machine)
PARTS = (config.PRIORS, config.LIKELIHOODS, config.CODES)
KINDS = dict.fromkeys([*GROUPS, *(kind for part in PARTS for kind in part.values())])
EVERY = [(kind, entry.name) for kind in KINDS for entry in fields(kind)]


def named(value) -> str:
    return getattr(value, "__name__", str(value))


every_option = pytest.mark.parametrize(("kind", "name"), EVERY, ids=named)


def parts(kind: type, name: str) -> list:
    """All types and names in the type of an option."""
    found, left = [], [get_type_hints(kind)[name]]
    while left:
        found.append(left.pop(0))
        left += get_args(found[-1])
    return [getattr(part, "__origin__", part) for part in found]


def holds(kind: type, name: str, part: type) -> bool:
    return part in parts(kind, name)


def refused(kind: type, name: str, value) -> str:
    value = (value,) if holds(kind, name, tuple) and not isinstance(value, tuple) else value
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b.* (got|is) ") as error:
        kind(**{name: value})
    assert repr(value) in str(error.value)
    return str(error.value)


# What an option takes


@every_option
def test_no_option_takes_a_value_of_another_type_or_an_unknown_name(kind, name):
    choices = [choice for choice in parts(kind, name) if isinstance(choice, str)]
    known = f"unknown {name} ['(]*1j[')]*; choose one of {', '.join(choices)}$"
    match = known if choices else f"{name} must be .*, got 1j"
    with pytest.raises(ValueError if choices else (TypeError, ValueError), match=match):
        kind(**{name: 1j})


@pytest.mark.parametrize(
    ("kind", "name"), [e for e in EVERY if {int, float} & {*parts(*e)}], ids=named
)
def test_every_number_has_a_range_and_a_type(kind, name):
    refused(kind, name, -1.0 if holds(kind, name, float) else -1)
    refused(kind, name, True)
    refused(kind, name, math.nan)
    refused(kind, name, math.inf)
    if holds(kind, name, int):
        assert "a whole number" in refused(kind, name, 1.5)
    if name in kind.positive:
        assert f"{name} must be positive, got" in refused(kind, name, 0)
    if name in kind.shares:
        assert f"{name} must be at least 0 and below 1, got" in refused(kind, name, 1.0)
    if name in (*kind.not_negative, *kind.shares):
        kind(**{name: (0,) if holds(kind, name, tuple) else 0})


def test_a_decay_is_a_share_that_may_be_nothing_or_all():
    assert (Training(decay=0).decay, Training(decay=1).decay) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"decay is a share of the epochs in \[0, 1\], got 1.1"):
        Training(decay=1.1)


@pytest.mark.parametrize("number", [int, np.int64, np.int32], ids=named)
@pytest.mark.parametrize("real", [float, int, np.float64, np.float32, np.int64], ids=named)
def test_numbers_of_numpy_are_stored_as_those_of_python(number, real):
    training = Training(epochs=number(3), learning_rate=real(2), clip_norm=real(1))
    model = Model(
        latent_sizes=[number(4), number(3)],
        hidden=[[number(5)], []],
        prior="mixture",
        prior_options={"num_components": number(6), "spread": real(2)},
    )
    objective = Objective(warm_up=number(3), free_bits=[real(1), real(2)])
    assert training == Training(epochs=3, learning_rate=2.0, clip_norm=1.0)
    assert (model.latent_sizes, model.hidden) == ((4, 3), ((5,), ()))
    assert objective == Objective(warm_up=(3,), free_bits=(1.0, 2.0))
    assert model.make_prior_options() == config.Mixture(num_components=6, spread=2.0)
    recorded = Experiment(model=model, objective=objective, training=training).settings()
    assert json.loads(json.dumps(recorded)) == recorded
    assert all(type(value).__module__ == "builtins" for value in vars(training).values())


class Word(str, enum.Enum):
    """Options as constants of one's own."""

    LIKELIHOOD = "gaussian"
    RECIPE = "ladder"


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (Model, {"latent_sizes": 16}, {"latent_sizes": (16,)}),
        (Model, {"latent_sizes": 16.0, "hidden": 256}, {"latent_sizes": (16,), "hidden": (256,)}),
        (Model, {"latent_sizes": np.array([8, 4])}, {"latent_sizes": (8, 4)}),
        (Model, {"latent_sizes": np.array([8.0])}, {"latent_sizes": (8,)}),
        (Model, {"latent_sizes": torch.tensor([8, 4])}, {"latent_sizes": (8, 4)}),
        (Model, {"latent_sizes": range(8, 2, -3)}, {"latent_sizes": (8, 5)}),
        (Model, {"hidden": np.array(32)}, {"hidden": (32,)}),
        (Model, {"hidden": np.array([[8, 7], [6, 5]])}, {"hidden": ((8, 7), (6, 5))}),
        (Model, {"hidden": [np.array([8, 7]), 6]}, {"hidden": ((8, 7), (6,))}),
        (Model, {"inference_hidden": np.array([], int)}, {"inference_hidden": ()}),
        (Model, {"likelihood": Word.LIKELIHOOD}, {"likelihood": "gaussian"}),
        (Model, {"merge_top": np.bool_(True), "recipe": Word.RECIPE}, {"merge_top": True}),
        (
            Model,
            {"prior": "vhp", "prior_options": {"hidden": np.array([6]), "zeta_size": 2.0}},
            {"prior_options": {"hidden": (6,), "zeta_size": 2.0}},
        ),
        (Data, {"data": "mnist", "data_root": Path("a/b")}, {"data_root": "a/b"}),
        (Data, {"data": np.str_("mnist")}, {"data": "mnist"}),
        (Objective, {"warm_up": np.array([3, 4])}, {"warm_up": (3, 4)}),
        (Objective, {"warm_up": np.array(3)}, {"warm_up": (3,)}),
        (Objective, {"free_bits": 1}, {"free_bits": (1.0,)}),
        (Training, {"epochs": 3.0, "seed": np.array(2)}, {"epochs": 3, "seed": 2}),
        (Training, {"epochs": 1e2, "patience": np.float32(4)}, {"epochs": 100, "patience": 4}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_can_only_mean_one_thing_is_taken(kind, given, expected):
    made = kind(**given)
    found = {name: getattr(made, name) for name in expected}
    assert repr(found) == repr(expected)  # also in type
    assert all(type(value).__module__ == "builtins" for value in found.values())


MANY = "a whole number, a sequence of whole numbers or one sequence per level"


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Model, {"latent_sizes": {8, 4}}, "a whole number or a sequence of whole numbers"),
        (Model, {"latent_sizes": (n for n in (8, 4))}, "a whole number or a sequence of whole"),
        (Model, {"latent_sizes": "8, 4"}, "a whole number or a sequence of whole numbers"),
        (Model, {"latent_sizes": np.eye(2)}, "a whole number or a sequence of whole numbers"),
        (Model, {"latent_sizes": None}, "a whole number or a sequence of whole numbers"),
        (Model, {"hidden": 2.5}, MANY),
        (Model, {"hidden": ["256"]}, MANY),
        (Model, {"hidden": np.zeros((2, 2, 2))}, MANY),
        (Model, {"inference_hidden": "8"}, f"{MANY.replace(' or ', ', ', 1)} or None"),
        (Model, {"dropout": "0.1"}, "a number"),
        (Model, {"prior_options": {"spread": object()}}, "a mapping from names to numbers, words"),
        (Model, {"prior_options": [("spread", 1.0)]}, "a mapping from names to numbers, words"),
        (Objective, {"free_bits": (0.5, "1")}, "a number, a sequence of numbers or None"),
        (Training, {"epochs": "10"}, "a whole number"),
        (Training, {"epochs": np.array([10])}, "a whole number"),
        (Training, {"clip_norm": True}, "a number or None"),
        (Training, {"compiled": 1}, "True or False"),
        (Data, {"data_root": 3}, "a word or None"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_is_refused_is_told_what_it_must_be_in_one_sentence(kind, given, message):
    ((name, value),) = given.items()
    with pytest.raises(TypeError, match=rf"^{name} must be {message}.*, got ") as error:
        kind(**given)
    assert str(error.value).endswith(repr(value))


def test_a_copy_with_another_recipe_or_data_set_has_their_usual_options():
    """Also after a copy, and not those that were given."""
    ladder, other = Model(recipe="ladder"), Model(recipe="bidirectional")
    assert replace(ladder, recipe="bidirectional") == other
    assert replace(replace(ladder, dropout=0.1), recipe="bidirectional", dropout=0.0) == other
    given = Model(recipe="ladder", normalisation="batch")
    assert replace(given, recipe="bidirectional").normalisation == "batch"
    assert replace(given, recipe="bidirectional").activation == "gelu"
    assert replace(Data(), data="mnist").binarisation == "dynamic"
    assert replace(Data(data="mnist"), data="digits") == Data()
    assert replace(Data(binarisation="none"), data="mnist").binarisation == "none"
    usual = plain(ladder)["normalisation"]
    assert type(usual) is str and usual == ladder.normalisation == "batch"


def test_two_levels_need_two_sizes():
    with pytest.raises(ValueError, match=r"two_level_vae has two levels, got latent_sizes=16;"):
        recipes.two_level_vae(DataSpec(4, None), latent_sizes=16)
    model = recipes.two_level_vae(DataSpec(4, None), latent_sizes=np.array([3, 2]))
    assert model.config["latent_sizes"] == [3, 2]


def test_a_model_without_a_configuration_is_built_by_hand():
    with pytest.raises(ValueError, match=r"is empty, because no recipe built the model: build it"):
        recipes.build({})


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        Training().epochs = 3


CHAIN = {"latent_sizes": (4, 3, 2)}
REFUSED = [
    (Data, {"data": "pendulum", "binarisation": "static"}, "real values, .*'static'.* leave it"),
    (Model, {"latent_sizes": ()}, r"latent_sizes needs one size per level, got none; give \(16,"),
    (Model, CHAIN | {"hidden": ((8,), (8,))}, "hidden is one .* for each of 3 levels, got 2 seq"),
    (
        Model,
        CHAIN | {"inference_hidden": ((8,),) * 4},
        "inference_hidden is one .* of 3 levels, got 4",
    ),
    (Model, {"reads_state": False}, "reads_state is an option of the recipe delta, .* bottom_up"),
    (Model, {"recipe": "delta", "merge_top": True}, "merge_top is an option of the recipe ladder"),
    (Model, {"prior": "vamp"}, "q.z_L . u. depends on the other .* choose normalisation='layer'"),
    (Objective, {"objective": "iwae", "warm_up": 3}, "the objective 'iwae' has no KL terms"),
    (Objective, {"objective": "iwae", "free_bits": 3}, "the objective 'iwae' has no KL terms"),
    (Objective, {"kl_balancing": True}, "kl_balancing acts until .* give warm_up, or omit it"),
    (
        Training,
        {"decay_shape": "step"},
        "unknown decay_shape 'step'; choose one of linear, cosine",
    ),
    (Experiment, {"objective": Objective(objective="iwae")}, "num_samples=1 is the ELBO; choose"),
    (Experiment, {"objective": Objective(warm_up=(1, 2, 3))}, "warm_up has 3 values for 2 levels"),
    (
        Experiment,
        {"objective": Objective(free_bits=(1, 2)), "model": Model(**CHAIN)},
        "free_bits has 2 values for 3 levels",
    ),
    (
        Experiment,
        {"data": Data(data="pendulum"), "model": Model(likelihood="bernoulli")},
        "'bernoulli' scores grey values and pendulum holds real ones; choose isotropic_gaussian",
    ),
    (
        Experiment,
        {"model": Model(likelihood="poisson")},
        "'poisson' scores counts and digits holds images; choose another likelihood, or other",
    ),
]


@pytest.mark.parametrize(("kind", "settings", "match"), REFUSED, ids=lambda value: "")
def test_what_cannot_be_meant_is_refused_with_what_can(kind, settings, match):
    with pytest.raises(ValueError, match=match):
        kind(**settings)


@pytest.mark.parametrize(
    ("of", "name", "options", "match"),
    [
        ("prior", "mixture", {"components": 3}, "unknown option 'components'; it has num_compon"),
        ("prior", "standard", {"spread": 3.0}, "unknown option 'spread'; it has no options"),
        ("prior", "vamp", {"start": "zeros"}, "unknown start 'zeros'; choose one of data, random"),
        ("prior", "vhp", {"zeta_size": 0}, "zeta_size must be positive, got 0"),
        (
            *("prior", "vhp", {"hidden": "8"}),
            "hidden must be a whole number or a sequence of whole numbers, got '8'",
        ),
        ("likelihood", "gaussian", {"std": 0.1}, "unknown option 'std'; it has log_std_bound"),
        ("likelihood", "isotropic_gaussian", {"std": -1.0}, "std must be positive, got -1.0"),
    ],
)
def test_options_that_a_part_does_not_have_are_refused(of, name, options, match):
    settings = {of: name, f"{of}_options": options, "normalisation": "layer"}
    with pytest.raises(ValueError, match=f"{of}_options of the {of} '{name}': {match}"):
        Model(**settings)


# Names and defaults


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (config.Recipe, INFERENCE),
        (config.Recipe, [name.removesuffix("_vae") for name in recipes.RECIPES]),
        (config.DataName, config.DATA_SETS),
        (config.DataName, loading._READERS),
        (config.Normalisation, NORMALISATIONS),
        (config.Activation, ACTIVATIONS),
        (config.State, recipes.STATES),
        (config.CodesName, config.CODES),
        (config.LikelihoodName, config.LIKELIHOODS),
        (config.LikelihoodName, recipes.LIKELIHOODS),
        (config.PriorName, config.PRIORS),
        (config.PriorName, recipes.PRIORS),
        (config.ObjectiveName, OBJECTIVES),
        (config.Optimiser, OPTIMISERS),
    ],
)
def test_every_name_is_in_the_table_that_implements_it(names, table):
    assert get_args(names) == tuple(table)


def test_likelihoods_of_grey_values_are_those_that_check_them():
    kinds = recipes.LIKELIHOODS.items()
    grey = [n for n, kind in kinds if issubclass(kind, BinaryLikelihood | GreyLikelihood)]
    assert config.GREY_LIKELIHOODS == tuple(grey)
    binary = [n for n, kind in kinds if issubclass(kind, BinaryLikelihood)]
    assert config.BINARY_LIKELIHOODS == tuple(binary)
    without_mean = [n for n, kind in kinds if not kind.has_mean]
    assert config.AUTOREGRESSIVE_LIKELIHOODS == tuple(without_mean)


@pytest.mark.parametrize(
    ("recipe", "usual"), [("ladder", "batch silu"), ("bidirectional", "layer gelu")]
)
def test_normalisation_and_activation_follow_from_the_recipe_unless_told_otherwise(recipe, usual):
    model = Model(recipe=recipe)
    assert f"{model.normalisation} {model.activation}" == usual
    told = Model(recipe=recipe, normalisation="none", activation="relu")
    assert (told.normalisation, told.activation) == ("none", "relu")
    assert Model(recipe=recipe + "_vae") == model


def test_latent_sizes_that_nobody_gave_follow_from_the_recipe():
    usual, pairs = Model(), Model(recipe="biva")
    assert (usual.latent_sizes, pairs.latent_sizes) == ((16, 8), (16, 16, 8))
    assert replace(usual, recipe="biva") == pairs and replace(pairs, recipe="bottom_up") == usual
    steps = Model(recipe="draw")
    assert steps.latent_sizes == (16,) * 8 and replace(steps, recipe="bottom_up") == usual
    with pytest.raises(ValueError, match=r"odd number of latent sizes, got \(16, 8\); give those"):
        Model(recipe="biva", latent_sizes=(16, 8))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"stages": ((4, 1, 8), (2, 2, 8))}, r"every stage but the highest has .*\[1, 2\]"),
        ({"group": 2}, "are a group already; leave group out"),
    ],
)
def test_the_two_latents_of_a_level_of_biva_stay_together(options, match):
    with pytest.raises(ValueError, match=match):
        Model(recipe="biva", networks_options=options)


@pytest.mark.parametrize("recipe", ["bottom_up", "ladder", "vdvae", "biva", "draw"])
def test_recipes_without_a_flow_refuse_one(recipe):
    with pytest.raises(ValueError, match=f"iaf is an option of the recipe resnet, .* {recipe}"):
        Model(recipe=recipe, iaf=True)


@pytest.mark.parametrize("data", get_args(config.DataName))
def test_binarisation_follows_from_the_data_unless_told_otherwise(data):
    usual = "dynamic" if data in ("mnist", "fashion_mnist", "omniglot") else "none"
    assert Data(data=data).binarisation == usual
    assert Data(data=data, binarisation="none").binarisation == "none"


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_every_option_says_what_it_is(kind):
    (body,) = ast.parse(inspect.getsource(kind)).body
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            assert isinstance(after.value.value, str), node.target.id


# Settings as they are recorded

EXPERIMENTS = [
    Experiment(
        data=Data(data="mnist", binarisation="threshold"),
        model=Model(
            recipe="ladder", latent_sizes=(5, 4, 3), hidden=((8,), (7, 6), ()),
            inference_hidden=(9,), normalisation="layer", generative_normalisation="none",
            activation="glu", dropout=0.1, state="skip", likelihood="isotropic_gaussian",
            likelihood_options={"std": 0.1, "learned": True}, prior="vhp",
            prior_options={"hidden": [6]}, merge_top=True, conditional=True,
        ),
        objective=Objective(warm_up=3, free_bits=(0.5, 0.0, 2.0), kl_balancing=True),
        training=Training(
            num_samples=2, epochs=3, batch_size=7, optimiser="adamw", learning_rate=0.1,
            prior_learning_rate=0.2, decay=0.3, decay_shape="cosine", clip_norm=4.0,
            skip_norm=5.0, averaging=0.6, compiled=True, patience=8, seed=9, weight_decay=0.01,
            skip_limit=4, betas=(0.8, 0.9), epsilon=1e-3, rate_warm_up=50,
        ),
        machine=Machine(device="cpu", precision="bf16"),
    ),
    Experiment(
        model=Model(recipe="delta", reads_state=False),
        objective=Objective(objective="iwae"),
        training=Training(num_samples=5),
    ),
    Experiment(model=Model(recipe="resnet", networks_options={"channels": 8}, iaf=True)),
    Experiment(model=Model(recipe="flow_ladder", flow_options={"num_steps": 1})),
    Experiment(model=Model(recipe="draw", tied=False, attention=2)),
    Experiment(model=Model(recipe="vq", codes="scalars", codes_options={"values": (3, 4)})),
]  # fmt: skip


@pytest.mark.parametrize("experiment", [Experiment(), *EXPERIMENTS], ids=range(7))
def test_an_experiment_is_read_from_its_settings(experiment):
    recorded = json.loads(json.dumps(experiment.settings()))
    assert recorded == experiment.settings()
    assert Experiment.from_settings(recorded) == experiment
    assert list(recorded) == [
        entry.name for kind in GROUPS for entry in fields(kind) if entry.name != "data_root"
    ]


def test_the_experiments_above_choose_every_option():
    usual = Experiment().settings()
    chosen = {n for e in EXPERIMENTS for n, v in e.settings().items() if v != usual[n]}
    assert chosen == usual.keys()


def test_settings_of_earlier_versions_are_read():
    ladder = {"recipe": "ladder_vae", "recipe_options": {"merge_top": True}, "levels": [4]}
    expected = Experiment(model=Model(recipe="ladder", merge_top=True))
    assert Experiment.from_settings(ladder) == expected
    assert Experiment.from_settings({"recipe_options": None}) == Experiment()


def test_where_the_data_lie_is_not_recorded():
    mnist = Experiment(data=Data(data="mnist"))
    moved = replace(mnist, data=Data(data="mnist", data_root="elsewhere"))
    assert moved.settings() == mnist.settings()


def test_a_folder_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match="digits is not read from the folder data_root='here'"):
        Data(data_root="here")


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": (1, (2,))}, {"a": [1, [2]]}, ""),
        ({"a": 1, "b": 2}, {"b": 3, "a": 1.5}, "b was 2 and is 3, a was 1 and is 1.5"),
        (
            {"d": 1, "c": 1},
            {"a": None},
            "a was missing and is None, c was 1 and is missing, d was",
        ),
        ({"a": {"b": (1,)}}, {"a": {"b": (2,)}}, "a was {'b': [1]} and is {'b': [2]}"),
    ],
)
def test_two_runs_are_compared_by_what_they_record(before, now, expected):
    assert differences(before, now).startswith(expected)
    assert bool(differences(before, now)) == bool(expected)


def test_plain_values_are_those_of_every_file_format():
    value = {1: (Machine(), [VHP().hidden])}
    assert plain(value) == {"1": [{"device": "auto", "precision": "no"}, [[128, 128]]]}
