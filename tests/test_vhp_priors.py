"""Every prior on top of every hierarchy: through recipes, training, evaluation and checkpoints."""

import json
import math
from dataclasses import replace

import pytest
import torch

from hvae_course import recipes
from hvae_course.analysis import diagnose, evaluate
from hvae_course.data import DataSpec, load
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import Constrained, elbo
from hvae_course.priors import (
    VHP,
    FlowPrior,
    LearnedNormal,
    MixtureOfGaussians,
    StandardNormal,
    VampPrior,
)
from hvae_course.recipes import PRIORS, build
from hvae_course.training import load_checkpoint

OPTIONS = {
    "standard": {},
    "normal": {},
    "mixture": {"num_components": 5, "spread": 0.5},
    "vamp": {"num_components": 5},
    "vhp": {"zeta_size": 1, "num_samples": 3, "hidden": [6]},
    "flow": {"hidden": [6], "num_steps": 1},
}
KINDS = {
    "standard": StandardNormal,
    "normal": LearnedNormal,
    "mixture": MixtureOfGaussians,
    "vamp": VampPrior,
    "vhp": VHP,
    "flow": FlowPrior,
}
DEPTHS = {1: (3,), 2: (4, 3), 3: (4, 3, 2)}
BLIND = ["mean_field_vae", "bidirectional_vae", "ladder_vae"]  # a top level that reads no prior
COMBINATIONS = [(recipe, depth, prior) for recipe in BLIND for depth in DEPTHS for prior in PRIORS]
COMBINATIONS += [("bottom_up_vae", 1, prior) for prior in PRIORS]
COMBINATIONS += [("bottom_up_vae", n, p) for n in (2, 3) for p in PRIORS if p != "vamp"]
COMBINATIONS += [("delta_vae", depth, "standard") for depth in DEPTHS]
combinations = pytest.mark.parametrize(("recipe", "depth", "prior"), COMBINATIONS)
prior_names = pytest.mark.parametrize("prior", PRIORS)


@pytest.fixture(scope="module")
def tiny_pendulum():
    data = load("pendulum")
    parts = {n: data.split(n).select(slice(40)) for n in ("train", "validation", "test")}
    return replace(data, **parts)


@pytest.fixture
def learned(tiny_pendulum):
    """A small model of real values with one of the priors."""

    def make(recipe="bottom_up_vae", depth=1, prior="vhp", data=None, **settings):
        torch.manual_seed(0)
        settings = {"normalisation": "layer", "hidden": (8,), "latent_sizes": DEPTHS[depth]} | {
            "prior": prior, "prior_options": OPTIONS[prior], **settings
        }  # fmt: skip
        if recipe == "merged":
            recipe, settings["merge_top"] = "ladder_vae", True
        return getattr(recipes, recipe)(data or tiny_pendulum, **settings)

    return make


def values(model: HierarchicalVAE, data) -> torch.Tensor:
    torch.manual_seed(1)
    x = data.test.batch(slice(None))
    return torch.stack(model.eval()(x, 2).terms(x))


# Every prior on top of any hierarchy


@combinations
def test_a_bound_with_any_prior_reaches_every_parameter(
    recipe, depth, prior, learned, tiny_pendulum, assert_finite_gradients
):
    model, x = learned(recipe, depth, prior), tiny_pendulum.train.batch(slice(20))
    assert isinstance(model.prior, KINDS[prior]) and model.num_levels == depth
    trace = model(x, 2)
    assert elbo(trace, x).shape == (20,)
    assert_finite_gradients(model, -elbo(trace, x).mean())
    assert all((parameter.grad != 0).any() for parameter in model.parameters())


@combinations
def test_models_with_any_prior_generate_and_can_be_judged(
    recipe, depth, prior, learned, tiny_pendulum
):
    model = learned(recipe, depth, prior)
    trace = model.generate(9)
    for level, size in zip(trace.levels, DEPTHS[depth], strict=True):
        assert level.z.shape == (9, size) and torch.isfinite(level.z).all()
        assert len(level.z.unique(dim=0)) == 9
    assert torch.isfinite(trace.px.sample()).all()
    result = evaluate(model, tiny_pendulum, num_samples=4)
    numbers = [result.elbo, result.log_likelihood, result.reconstruction, *result.information]
    assert all(math.isfinite(n.mean) and n.standard_error > 0 for n in numbers)
    assert result.log_likelihood.mean >= result.elbo.mean
    table = diagnose(model, tiny_pendulum, num_samples=3)
    columns = ["information", "active_units", "index_code", "marginal_kl"]
    assert len(table) == depth and torch.isfinite(torch.tensor(table[columns].to_numpy())).all()
    known = [not math.isnan(n) for n in table["informative_units"].astype(float)]
    assert known == [True] * (depth - 1) + [prior in ("standard", "normal")]


CHAIN = "inference over {} levels q.* has no closed form, so no"
REFUSED = [("bottom_up_vae", depth, "vamp", CHAIN.format(depth)) for depth in (2, 3)]
RELATIVE = "is relative to a diagonal Gaussian prior, and the prior '{}'"
REFUSED += [
    (recipe, depth, prior, RELATIVE.format(prior))
    for depth in (1, 2, 3)
    for recipe in ("delta_vae", "merged")
    for prior in ("mixture", "vamp", "vhp")
]


@pytest.mark.parametrize(("recipe", "depth", "prior", "match"), REFUSED)
def test_posteriors_that_do_not_go_with_a_prior_are_refused_at_once(
    recipe, depth, prior, match, learned
):
    with pytest.raises(TypeError, match=match):
        learned(recipe, depth, prior)


@pytest.mark.parametrize(
    ("recipe", "prior", "match"),
    [
        ("delta_vae", "mixture", "Delta shifts a diagonal .*, got DiagNormalMixture; use Direct"),
        ("delta_vae", "vhp", "Delta shifts a diagonal .*, got VHPDistribution; use Direct"),
        ("delta_vae", "vamp", "does not read the prior, got Delta; use Direct at the top"),
        ("merged", "mixture", "multiplies diagonal Gaussians, got DiagNormalMixture; use Direct"),
        ("merged", "vamp", "does not read the prior, got PrecisionWeighted; use Direct at the"),
    ],
)
def test_a_model_put_together_by_hand_says_so_when_it_runs(
    recipe, prior, match, learned, tiny_pendulum
):
    model = learned(recipe, 2, "standard")
    model.prior = learned("bidirectional_vae", 2, prior).prior
    with pytest.raises(TypeError, match=match):
        model(tiny_pendulum.test.batch(slice(4)))


@prior_names
@pytest.mark.parametrize("objective", ["elbo", "constrained"])
def test_training_improves_the_bound_with_any_prior(
    prior, objective, learned, train, tiny_pendulum
):
    model = learned("bidirectional_vae", 2, prior, hidden=(16,))
    objective = elbo if objective == "elbo" else Constrained(10.0)
    settings = {"objective": objective, "epochs": 20, "batch_size": 20, "learning_rate": 1e-2}
    rows = train(model, tiny_pendulum, **settings).frame.query("quantity == 'elbo'")
    for _, part in rows.groupby("split"):
        assert part["value"].iloc[-1] > part["value"].iloc[0] + 1


# Settings


@prior_names
def test_a_checkpoint_holds_all_that_the_prior_needs(
    prior, learned, train, tiny_pendulum, tmp_path
):
    model = learned("bidirectional_vae", 2, prior, likelihood_options={"std": 0.3})
    assert json.loads(json.dumps(model.config)) == model.config
    train(model, tiny_pendulum, checkpoint=tmp_path / "run.pt", batch_size=20)
    checkpoint = load_checkpoint(tmp_path / "run.pt")
    again = build(checkpoint.config)
    assert again.config == model.config
    again.load_state_dict(checkpoint.weights)
    assert again.prior.num_samples == model.prior.num_samples
    expected = values(model, tiny_pendulum)
    torch.testing.assert_close(values(again, tiny_pendulum), expected, rtol=0, atol=0)


def test_the_options_of_a_prior_reach_it(learned):
    mixture = learned(prior="mixture", prior_options={"num_components": 7, "spread": 1e-3}).prior
    assert len(mixture.means) == 7 and mixture.means.abs().max() < 0.01
    assert len(learned(prior="vamp", prior_options={"num_components": 7}).prior.pseudo_inputs) == 7
    options = {"zeta_size": 5, "num_samples": 9, "hidden": (6, 4), "activation": "relu"}
    vhp = learned(prior="vhp", prior_options=options | {"normalisation": "layer"}).prior
    assert vhp.zeta.shape == (5,) and vhp.num_samples == 9 and vhp.shape == (3,)
    widths = [m.weight.shape for m in vhp.generative.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [(6, 5), (4, 6), (6, 4)]  # to mean and scale of three codes
    widths = [m.weight.shape for m in vhp.inference.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [(6, 3), (4, 6), (10, 4)]
    kinds = {type(module) for module in vhp.inference.modules()}
    assert {torch.nn.ReLU, torch.nn.LayerNorm} <= kinds and torch.nn.Tanh not in kinds
    usual = learned(prior="vhp", prior_options={}).prior
    assert (usual.zeta.shape, usual.num_samples) == ((3,), 16)
    linear = learned(prior="vhp", prior_options={"hidden": ()}).prior
    assert linear.generative[-1].linear.weight.shape == (6, 3)


def test_pseudo_inputs_start_from_data_where_there_are_data(learned, tiny_pendulum):
    x = tiny_pendulum.train.batch(slice(None))
    started = learned(prior="vamp").prior.pseudo_inputs
    assert (started[:, None] == x).all(dim=2).any(dim=1).all()
    options = {"num_components": 5, "start": "random"}
    spec = tiny_pendulum.spec
    for data, settings in ((None, options), (spec, options), (spec, {"num_components": 5})):
        random = learned(prior="vamp", data=data, prior_options=settings).prior.pseudo_inputs
        assert random.shape == (5, 256) and (random - 0.5).abs().max() < 0.6
        assert (random.std(dim=1) < 0.2).all()


def test_more_pseudo_inputs_than_examples_are_refused(learned):
    with pytest.raises(ValueError, match="41 pseudo-inputs cannot start from 40 examples"):
        learned(prior="vamp", prior_options={"num_components": 41})


def test_only_pseudo_inputs_refuse_batch_normalisation_and_only_in_inference(learned):
    with pytest.raises(ValueError, match="for the prior 'vamp'"):
        recipes.vae(DataSpec(4, None), prior="vamp")  # where it is usual
    for settings in ({"normalisation": "none"}, {"generative_normalisation": "batch"}):
        assert learned(prior="vamp", **settings).prior.pseudo_inputs.requires_grad
    assert learned(prior="mixture", normalisation="batch").num_levels == 1
