"""Whole training steps on the meta device, whose tensors have shapes and no values.

Whatever needs a value on the host, to print it or to decide by it, makes the processor wait for a
GPU, and fails here. The parts are taken from the registries, so that a new one is tried too.
"""

import inspect
import itertools

import pytest
import torch
from torch import Tensor

from hvae_course import config, objectives, posteriors, priors
from hvae_course.config import (
    AUTOREGRESSIVE_LIKELIHOODS,
    DEEP_RECIPES,
    LIKELIHOODS,
    NETWORKS,
    PRIORS,
    VECTOR_RECIPES,
    Model,
    Training,
)
from hvae_course.convolutions import CELLS, MAP_NORMALISATIONS
from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import (
    GECO,
    OBJECTIVES,
    Constrained,
    FreeBits,
    KLBalancing,
    Objective,
    ReWO,
    WarmUp,
    Weighted,
    as_objective,
    elbo,
)
from hvae_course.posteriors import PosteriorRule, TopDownPosterior
from hvae_course.recipes import build
from hvae_course.recipes.inference import INFERENCE
from hvae_course.training import optimisers
from hvae_course.training.optimisers import OPTIMISERS, make_optimiser
from hvae_course.training.step import step

BINARY = DataSpec((8, 8), 2)
LABELLED = DataSpec((8, 8), 2, num_classes=3)
RECIPE_NETWORKS = [
    (recipe, networks)
    for recipe, networks in itertools.product(INFERENCE, NETWORKS)
    if recipe not in (DEEP_RECIPES if networks == "mlp" else ("draw", *VECTOR_RECIPES))
]
NAMES = ["-".join(pair) for pair in RECIPE_NETWORKS]
SWITCHES = {
    "ladder": [{"merge_top": True}],
    "delta": [{"reads_state": False}],
    "resnet": [{"iaf": True}],
    "draw": [{"tied": False}, {"attention": 2}],
    "flow_ladder": [{"iaf": True}],
    "vq": [
        {"codes": "scalars"},
        {"codes_options": {"decay": None, "revival": 0.1, "num_codes": 7}},
    ],
}
"""Options of one recipe alone."""


@pytest.fixture(autouse=True)
def without_fused_kernels(monkeypatch):
    """PyTorch has no fused optimiser on this device; the one of many kernels does the same."""

    def unfused(kind):
        return lambda groups, fused=None, **how: kind(groups, **{"foreach": True, **how})

    kinds = {name: unfused(kind) for name, kind in OPTIMISERS.items()}
    monkeypatch.setattr(optimisers, "OPTIMISERS", kinds)


def make(spec: DataSpec = BINARY, *, networks: str = "mlp", **settings) -> HierarchicalVAE:
    """A model of three levels without values."""
    small = {"channels": 4} if networks == "convolutional" else {}
    sizes = {"hidden": (8,)} if networks == "mlp" else {}
    usual = (2, 1, 2) if settings.get("recipe") == "downscaled" else (2,) * 3
    if settings.get("codes") == "scalars":
        settings["codes_options"] = {"values": (3, 4)}
    settings = {"latent_sizes": usual, **sizes, **settings}
    settings["networks_options"] = small | settings.get("networks_options", {})
    with torch.device("meta"):
        return build(Model(networks=networks, **settings), spec)


def train_step(
    model: HierarchicalVAE,
    objective=elbo,
    training: Training | None = None,
    *,
    spec: DataSpec = BINARY,
    epoch: int = 1,
) -> Tensor:
    """Take one step as `fit` does, and give the statistics of the batch."""
    training = Training() if training is None else training
    x = torch.empty(5, spec.num_features, device="meta")
    y = None
    if model.num_classes is not None:
        y = torch.empty(5, dtype=torch.int64, device="meta")
    objective = as_objective(objective)
    objective.begin(torch.device("meta"))
    goal = objective.for_epoch(epoch)
    goal.train()
    optimiser = make_optimiser(model.train(), training)
    optimiser.zero_grad()
    value, statistics = step(model, goal, x, training.num_samples, y)
    (-value).backward()
    optimiser.step()
    assert value.is_meta and statistics.shape == (2 + 1 + model.num_levels,)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and p.grad.is_meta for p in trained)
    return statistics


def generates(model: HierarchicalVAE, spec: DataSpec = BINARY) -> None:
    y = None
    if model.num_classes is not None:
        y = torch.empty(2, dtype=torch.int64, device="meta")
    drawn = model.eval().generate(2, y=y).px.sample()
    assert drawn.is_meta and drawn.shape == (2, spec.num_features)


# Recipes


@pytest.mark.parametrize(
    ("recipe", "networks"), RECIPE_NETWORKS, ids=map("-".join, RECIPE_NETWORKS)
)
def test_every_recipe_trains_and_generates(recipe, networks):
    for switch in [{}, *SWITCHES.get(recipe, [])]:
        model = make(networks=networks, recipe=recipe, **switch)
        train_step(model)
        generates(model)


@pytest.mark.parametrize(
    ("recipe", "networks"), RECIPE_NETWORKS, ids=map("-".join, RECIPE_NETWORKS)
)
def test_every_recipe_trains_with_labels_and_several_draws(recipe, networks):
    if recipe == "draw":
        with pytest.raises(ValueError, match="draw is a model of x alone"):
            make(LABELLED, recipe=recipe, conditional=True)
        return
    model = make(LABELLED, networks=networks, recipe=recipe, conditional=True)
    train_step(model, objectives.importance_weighted, Training(num_samples=3))
    generates(model)


def parts_of(models) -> set[type]:
    return {type(part) for model in models for part in model.modules()}


def concrete(names, base, package) -> set[type]:
    """Public classes of a package that can be used as they are."""
    found = [getattr(package, name) for name in names]
    kinds = [kind for kind in found if inspect.isclass(kind) and issubclass(kind, base)]
    return {kind for kind in kinds if not inspect.isabstract(kind) and kind is not base}


def test_the_recipes_use_every_posterior_of_the_package():
    models = [
        make(networks=networks, recipe=recipe, **switch)
        for recipe, networks in RECIPE_NETWORKS
        for switch in [{}, *SWITCHES.get(recipe, [])]
    ]
    rules = concrete(posteriors.__all__, posteriors.PosteriorRule, posteriors)
    whole = concrete(posteriors.__all__, posteriors.Posterior, posteriors)
    assert rules and whole and rules | whole <= parts_of(models)


# Networks


@pytest.mark.parametrize("normalisation", MAP_NORMALISATIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_trains_with_every_normalisation(cell, normalisation):
    options = {"cell": cell, "shared_features": False, "group": 2}
    settings = {"recipe": "vdvae", "normalisation": normalisation, "networks_options": options}
    settings["latent_sizes"] = (2, 2)
    model = make(networks="convolutional", **settings)
    train_step(model)
    generates(model)


@pytest.mark.parametrize("state", ["markov", "skip"])
@pytest.mark.parametrize("normalisation", MAP_NORMALISATIONS)
def test_perceptrons_train_with_every_state_and_normalisation(state, normalisation):
    model = make(state=state, normalisation=normalisation, dropout=0.1)
    train_step(model)
    generates(model)


# Priors


@pytest.mark.parametrize("networks", NETWORKS)
@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_trains_and_generates(name, networks):
    settings = {"networks": networks, "recipe": "bidirectional", "prior": name}
    if name in ("mixture", "vhp", "flow") and networks == "convolutional":
        with pytest.raises(ValueError, match="is over vectors"):
            make(**settings)
        return
    model = make(**settings)
    train_step(model)
    generates(model)


def test_the_names_give_every_prior_of_the_package():
    models = [make(prior=name, recipe="bidirectional") for name in PRIORS]
    assert concrete(priors.__all__, priors.Prior, priors) <= parts_of(models)


# Likelihoods

SPECS = {
    "autoregressive": {"num_values": 2},
    "bernoulli": {"num_values": 2},
    "categorical": {"num_values": 5},
    "discretized_logistic": {"num_values": 5},
    "logistic_mixture": {"num_values": 5},
    "gaussian": {"num_values": None},
    "isotropic_gaussian": {"num_values": None},
    "mixed": {"num_values": None},
    "negative_binomial": {"num_values": None, "counts": True},
    "pixel_convolutional": {"num_values": 2},
    "poisson": {"num_values": None, "counts": True},
}
"""Data that each likelihood scores."""
BLOCKS = [
    {"columns": [0, 1], "likelihood": "gaussian"},
    {"columns": [2], "likelihood": "categorical", "num_values": 3},
    {"columns": [3], "likelihood": "bernoulli"},
    {"columns": [4, 5], "likelihood": "poisson"},
]


def test_every_likelihood_is_tried():
    assert SPECS.keys() == LIKELIHOODS.keys()


@pytest.mark.parametrize("networks", NETWORKS)
@pytest.mark.parametrize("name", AUTOREGRESSIVE_LIKELIHOODS)
def test_every_autoregressive_likelihood_trains_and_generates(name, networks):
    model = make(likelihood=name, networks=networks)
    train_step(model)
    generates(model)


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize(
    "name", [name for name in SPECS if name not in AUTOREGRESSIVE_LIKELIHOODS]
)
def test_every_likelihood_trains_and_generates(name, missing):
    """Complete rows of numbers, colour images of which a part is missing."""
    shape = (3, 8, 8) if missing and name not in ("mixed", "logistic_mixture") else 6
    spec = DataSpec(shape, missing=missing, **SPECS[name])
    options = {"blocks": BLOCKS} if name == "mixed" else {}
    networks = "mlp" if shape == 6 else "convolutional"
    model = make(spec, networks=networks, likelihood=name, likelihood_options=options)
    train_step(model, spec=spec)
    generates(model, spec)


def test_mixtures_of_logistics_train_on_colours():
    spec = DataSpec((3, 8, 8), 256)
    model = make(spec, networks="convolutional", likelihood="logistic_mixture")
    train_step(model, spec=spec)
    generates(model, spec)


@pytest.mark.parametrize("name", ["gaussian", "isotropic_gaussian"])
def test_learned_and_bounded_scales_train(name):
    spec = DataSpec((8, 8), None)
    options = {"learned": True} if name == "isotropic_gaussian" else {"log_std_bound": 3.0}
    train_step(make(spec, likelihood=name, likelihood_options=options), spec=spec)


# Objectives and optimisers

INSTANCES = [
    Weighted(0.5),
    FreeBits(0.1),
    WarmUp(3),
    WarmUp(3, FreeBits(0.1)),
    KLBalancing(WarmUp(3)),
    Constrained(0.2, rule=GECO()),
    Constrained(0.2, rule=ReWO()),
    Constrained(0.2, error="negative_log_likelihood", first_phase=False),
]


def test_every_class_of_objectives_is_tried():
    kinds = concrete(objectives.__all__, Objective, objectives)
    assert kinds == {type(objective) for objective in INSTANCES}


@pytest.mark.parametrize("objective", INSTANCES, ids=map(str, range(len(INSTANCES))))
def test_every_objective_trains_in_every_phase(objective):
    for epoch in (1, 5):
        train_step(make(), objective, epoch=epoch)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_named_objective_trains(name):
    train_step(make(), OBJECTIVES[name], Training(num_samples=2))


def test_the_options_of_objectives_train():
    for chosen in (
        config.Objective(warm_up=(2,), free_bits=(0.1,), kl_balancing=True),
        config.Objective(warm_up=(1, 2, 3), free_bits=(0.1,) * 3),
        config.Objective(objective="iwae"),
    ):
        train_step(make(), objectives.make_objective(chosen), Training(num_samples=2))


@pytest.mark.parametrize("prior", ["standard", "normal"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_takes_a_step(name, prior):
    train_step(make(prior=prior), training=Training(optimiser=name, prior_learning_rate=1e-4))


# That these tests can fail


class Waiting(PosteriorRule):
    """A rule that looks at a value before it decides."""

    def __init__(self, rule: PosteriorRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, d, h, p):
        if d.abs().max().item() > 1e6:
            raise FloatingPointError
        return self.rule(d, h, p)


class Branching(Waiting):
    """The same in other words."""

    def forward(self, d, h, p):
        return self.rule(d.clamp(max=1) if (d > 1).any() else d, h, p)


@pytest.mark.parametrize("kind", [Waiting, Branching])
def test_a_part_that_waits_for_the_device_is_noticed(kind):
    model = make(recipe="bidirectional")
    rules = [*model.posterior.rules]
    model.posterior = TopDownPosterior([kind(rules[0]), *rules[1:]])
    with pytest.raises((RuntimeError, NotImplementedError), match="(?i)meta"):
        train_step(model)


def test_an_objective_that_waits_for_the_device_is_noticed():
    def objective(trace, x):
        return elbo(trace, x) * min(1.0, trace.log_px(x).mean().item())

    with pytest.raises((RuntimeError, NotImplementedError), match="(?i)meta"):
        train_step(make(), objective)
