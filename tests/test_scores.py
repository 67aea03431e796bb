"""Scores: what they are of, per example and dimension; the examples and labels that are taken."""

import json
import math
import sys
import warnings
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from recipe_kinds import CONDITIONAL, CONTINUOUS
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from benchmarks.likelihood_models import BENCHMARKS
from benchmarks.likelihood_run import bounds
from hvae_course import evaluate, recipes
from hvae_course.analysis import (
    Estimate,
    aggregate_split,
    angle_steps,
    bits_per_dim,
    diagnose,
    infer,
    interpolate,
    latent_graph,
    latent_shapes,
    prune_sparse,
    reconstruct,
    resample,
    sample,
    smoothness,
    vary,
)
from hvae_course.analysis.inputs import as_labels, as_rows
from hvae_course.cli import main
from hvae_course.compatibility import DensityOfDiscreteValues
from hvae_course.config import data_info
from hvae_course.data import DataSet, DataSpec, Split
from hvae_course.hierarchy import HierarchicalVAE, centre_of, mean_of, tempered
from hvae_course.recipes import LIKELIHOODS, RECIPES
from hvae_course.recipes.likelihoods import usual_likelihood
from hvae_course.seeding import seed_all


def real_data(x: Tensor, **fields: object) -> DataSet:
    """A data set of real values whose three splits are the same."""
    part = Split(x, torch.arange(len(x)) % 3, None)
    return DataSet("mine", (x.shape[1],), None, "none", part, part, part, **fields)


@pytest.fixture
def density(make_model, tiny_data) -> HierarchicalVAE:
    """A model that gives a density to 17 grey values."""
    return make_model(likelihood="gaussian")


@pytest.fixture
def conditional(make_model) -> HierarchicalVAE:
    return make_model("ladder_vae", conditional=True, normalisation="layer").eval()


# What a score is of


def test_a_density_of_discrete_pixels_is_named_where_it_is_evaluated(density, tiny_data):
    with pytest.warns(DensityOfDiscreteValues, match="17 values.*choose .*'categorical'"):
        result = evaluate(density, tiny_data, num_samples=2)
    assert (result.measure, result.discrete) == ("density", True)
    assert str(result).startswith("log-density of discrete values: ELBO ")
    assert "log-density of discrete values, IW-2" in result.frame.index
    assert not any("log p(x)" in name for name in result.frame.index)
    assert json.loads(json.dumps(asdict(result)))["measure"] == "density"


def test_a_density_of_discrete_pixels_is_named_where_training_starts(density, train):
    with pytest.warns(DensityOfDiscreteValues):
        train(density, epochs=1)


@pytest.mark.parametrize(("num_values", "choice"), [(2, "bernoulli"), (256, "discretized")])
def test_the_warning_says_which_likelihood_to_choose(num_values, choice, tiny_data, train):
    part = replace(tiny_data.test, pixels=tiny_data.test.pixels % 2, max_value=num_values - 1)
    data = DataSet("mine", (8, 8), num_values, "none", part, part, part)
    model = recipes.vae(data, hidden=(8,), likelihood="isotropic_gaussian")
    with pytest.warns(DensityOfDiscreteValues, match=choice):
        evaluate(model, data, num_samples=1)


def test_grey_images_that_come_as_real_numbers_are_named_too(tiny_data):
    x = tiny_data.train.batch(slice(None))  # (120, 64), 17 values
    model = recipes.vae(real_data(x), hidden=(8,))
    with pytest.warns(DensityOfDiscreteValues, match="17 different values"):
        assert evaluate(model, real_data(x), num_samples=1).discrete


def test_a_density_of_real_values_is_called_one_and_nothing_is_warned_of():
    data = real_data(torch.randn(120, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(recipes.vae(data, hidden=(8,)), data, num_samples=2)
    assert (result.measure, result.discrete) == ("density", False)
    assert str(result).startswith("log-density: ELBO ")
    assert list(result.frame.index[:2]) == ["ELBO", "log-density, IW-2"]


def test_a_probability_is_reported_as_before(make_model, tiny_data):
    result = evaluate(make_model(), tiny_data, num_samples=2)
    assert (result.measure, result.discrete) == ("probability", True)
    assert str(result).startswith("ELBO ") and result.frame.index[1] == "log p(x), IW-2"


# Bits per dimension


def test_bits_per_dimension_of_an_evaluation_know_their_dimensions(make_model, tiny_data):
    result = evaluate(make_model(), tiny_data, num_samples=2)
    expected = -result.log_likelihood.mean / (64 * math.log(2))
    assert bits_per_dim(result) == bits_per_dim(result.log_likelihood, 64) == expected
    assert bits_per_dim(result, 32) == pytest.approx(2 * expected)


def test_bits_per_dimension_count_what_was_observed():
    x = torch.randn(50, 8)
    x[:, ::2] = math.nan
    data = real_data(x, missing=True)
    result = evaluate(recipes.vae(data, hidden=(8,)), data, num_samples=2)
    assert result.num_dimensions == 4
    assert bits_per_dim(result) == bits_per_dim(result.log_likelihood, 4)
    assert bits_per_dim(result.elbo, 0.5) == 8 * bits_per_dim(result.elbo, result.num_dimensions)


def test_bits_per_dimension_of_a_density_of_discrete_values_are_refused(density, tiny_data):
    with pytest.warns(DensityOfDiscreteValues):
        result = evaluate(density, tiny_data, num_samples=1)
    with pytest.raises(ValueError, match="of a density, and the data hold discrete values"):
        bits_per_dim(result)


def test_bits_per_dimension_take_arrays_number_by_number():
    nats = np.array([-64.0, -128.0])
    expected = [1 / math.log(2), 2 / math.log(2)]
    for values in (nats, torch.tensor(nats), pd.Series(nats)):
        assert list(bits_per_dim(values, 64)) == pytest.approx(expected)
    assert bits_per_dim(np.float32(-64), np.int64(64)) == pytest.approx(expected[0])


@pytest.mark.parametrize("wrong", ["-64", None, [-64.0], {"elbo": -64.0}], ids=repr)
def test_bits_per_dimension_of_what_is_no_number_are_refused(wrong):
    with pytest.raises(TypeError, match="nats must be a number, an Estimate or an Evaluation"):
        bits_per_dim(wrong, 64)


def test_bits_per_dimension_need_the_number_of_dimensions():
    with pytest.raises(ValueError, match="num_dimensions is missing"):
        bits_per_dim(-64.0)
    with pytest.raises(TypeError, match="num_dimensions must be a number, got '64'"):
        bits_per_dim(-64.0, "64")
    with pytest.raises(ValueError, match="num_dimensions must be positive, got 0"):
        bits_per_dim(-64.0, 0)


# A score per example


@pytest.mark.parametrize("batch_size", [7, 100])
def test_the_mean_over_the_examples_is_the_evaluation(batch_size, make_model, tiny_data):
    settings = {"num_samples": 3, "batch_size": batch_size}
    model = make_model()
    result = evaluate(model, tiny_data, **settings, per_example=True)
    assert result == evaluate(model, tiny_data, **settings)  # the aggregates
    scores = result.per_example
    assert scores.index.name == "example" and list(scores.index) == list(range(60))
    assert scores["label"].tolist() == tiny_data.test.labels.tolist()
    pairs = {
        "elbo": result.elbo,
        "log_likelihood": result.log_likelihood,
        "reconstruction": result.reconstruction,
        "information_1": result.information[0],
        "information_2": result.information[1],
    }
    assert list(scores.columns) == ["label", *pairs]
    for name, estimate in pairs.items():
        assert scores[name].mean() == pytest.approx(estimate.mean, rel=1e-12)
        assert scores[name].sem() == pytest.approx(estimate.standard_error, rel=1e-12)


def test_the_scores_are_those_of_the_draws_of_each_example(make_model, tiny_data):
    model = make_model().eval()
    scores = evaluate(model, tiny_data, num_samples=5, seed=3, per_example=True).per_example
    x = tiny_data.test.batch(slice(None))
    seed_all(3)
    with torch.no_grad():
        log_w = model(x, 5).log_weight(x).double().unflatten(0, (-1, 5))
    np.testing.assert_allclose(scores["elbo"], log_w.mean(1), rtol=1e-10)
    bound = log_w.logsumexp(1) - math.log(5)
    np.testing.assert_allclose(scores["log_likelihood"], bound, rtol=1e-10)


def test_scores_are_kept_only_if_wanted_and_stay_out_of_the_record(make_model, tiny_data):
    model = make_model()
    assert evaluate(model, tiny_data, num_samples=1).per_example is None
    result = evaluate(model, tiny_data, num_samples=1, per_example=True)
    assert "per_example" not in asdict(result) and "per_example" not in repr(result)


def test_scores_without_labels_and_of_a_density_are_named_so():
    part = Split(torch.randn(120, 64), None, None)
    data = DataSet("mine", (64,), None, "none", part, part, part)
    model = recipes.vae(data, hidden=(8,))
    scores = evaluate(model, data, num_samples=1, per_example=True).per_example
    assert list(scores.columns) == ["elbo", "log_density", "reconstruction", "information_1"]


def test_one_example_is_said_to_be_one(make_model, tiny_data):
    data = replace(tiny_data, test=tiny_data.test.select(slice(0, 1)))
    result = evaluate(make_model(), data, num_samples=2)
    assert math.isnan(result.elbo.standard_error)
    assert str(result.elbo) == f"{result.elbo.mean:.2f} (one example)"
    assert str(Estimate(math.nan, math.nan)) == "nan +- nan"  # of any number of examples


# Temperature and deterministic reconstructions


@pytest.mark.parametrize("temperature", [0, 0.5, np.float32(2)])
def test_a_temperature_scales_the_noise_of_every_level(temperature, make_model):
    model = make_model("ladder_vae")
    usual, scaled = sample(model, 40), sample(model, 40, temperature=temperature)
    for usual_level, level in zip(reversed(usual.levels), reversed(scaled.levels), strict=True):
        noise = (usual_level.z - usual_level.p.mean) / usual_level.p.base_dist.scale
        expected = level.p.mean + float(temperature) * level.p.base_dist.scale * noise
        torch.testing.assert_close(level.z, expected, rtol=1e-4, atol=1e-4)


def test_temperature_one_is_the_usual_draw_for_every_prior(make_model):
    for prior in ("standard", "mixture", "vhp"):
        model = make_model("ladder_vae", normalisation="layer", prior=prior)
        usual, same = sample(model, 5, seed=2), sample(model, 5, seed=2, temperature=1.0)
        for a, b in zip(usual.levels, same.levels, strict=True):
            assert torch.equal(a.z, b.z)


@pytest.mark.parametrize("prior", ["mixture", "vhp"])
@pytest.mark.parametrize("temperature", [0, 0.5])
def test_a_prior_that_is_not_gaussian_has_no_temperature(prior, temperature, make_model):
    model = make_model("ladder_vae", normalisation="layer", prior=prior)
    with pytest.raises(TypeError, match="the prior of z_2 is a .*; sample with temperature=1"):
        sample(model, 3, temperature=temperature)


@pytest.mark.parametrize("temperature", [-0.1, math.inf, math.nan, "1", None])
def test_a_temperature_below_zero_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be a number of at least 0"):
        tempered(temperature)


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)])
def test_a_number_of_samples_that_is_none_is_refused(n, error, make_model):
    with pytest.raises(error, match="n must be"):
        sample(make_model(), n)


@pytest.mark.parametrize("recipe", CONTINUOUS)
def test_a_deterministic_reconstruction_takes_the_mean_of_every_posterior(
    recipe, make_model, tiny_data
):
    """Each q is that of the means drawn before it, so a second look finds the same means."""
    model, x = make_model(recipe, latent_sizes=(4, 3, 2)), tiny_data.test.batch(slice(0, 5))
    before = torch.get_rng_state()
    trace = reconstruct(model, x, deterministic=True)
    assert torch.equal(torch.get_rng_state(), before)
    z = [level.z for level in trace.levels]
    model.eval()
    with torch.no_grad():
        choose = model.posterior.score(model.features(x), z)
        levels, _ = model.top_down.walk(model.top_prior(), choose, len(x))
    for level, value in zip(levels, z, strict=True):
        torch.testing.assert_close(level.q.mean, value)
    upper = reconstruct(model, x, deterministic=True, from_level=2)
    assert torch.equal(upper.levels[1].z, z[1])
    assert torch.equal(upper.levels[0].z, centre_of(upper.levels[0].p))


def test_a_distribution_without_a_mean_says_so():
    categories = Categorical(logits=torch.zeros(2, 3))
    for distribution in (categories, torch.distributions.Cauchy(torch.zeros(2), torch.ones(2))):
        with pytest.raises(TypeError, match="has no mean in closed form; take draws"):
            mean_of(distribution)
    mixed = MixtureSameFamily(categories, Normal(torch.ones(2, 3), torch.ones(2, 3)))
    assert mean_of(mixed).tolist() == [1, 1]


# Examples as users have them


def test_examples_come_as_tensors_arrays_images_and_one_by_one(make_model, tiny_data):
    model, x = make_model(), tiny_data.test.batch(slice(0, 5))
    forms = {
        "an array": x.numpy(),
        "float64": x.numpy().astype(np.float64),
        "images": x.reshape(5, 8, 8),
        "images with a channel": x.reshape(5, 1, 8, 8),
        "lists": x.tolist(),
        "float16": x.half(),
    }
    for name, form in forms.items():
        assert torch.equal(as_rows(model, form), x), name
    for one in (x[0], x[0].reshape(8, 8), x[0].numpy(), x[:1]):
        assert torch.equal(as_rows(model, one), x[:1])
    assert as_rows(model.double(), x).dtype == torch.float64


def test_one_feature_and_one_example_are_told_apart_from_vectors():
    model = recipes.vae(DataSpec(1, None), latent_size=1, hidden=(4,))
    assert as_rows(model, torch.zeros(5)).shape == (5, 1)
    assert as_rows(model, torch.zeros(5, 1)).shape == (5, 1)


@pytest.mark.parametrize("shape", [(5, 63), (5, 8, 9), (8, 4), (64, 5), (5, 2, 64), ()], ids=str)
def test_examples_of_another_shape_are_refused(shape, make_model):
    match = r"takes examples \(B, 64\) or \(B, 8, 8\), got x of shape "
    with pytest.raises(ValueError, match=match):
        infer(make_model(), torch.rand(shape))


def test_examples_whose_scale_is_unknown_are_refused(make_model, tiny_data):
    model, pixels = make_model(), tiny_data.test.pixels[:5]
    for wrong in (pixels, pixels.int(), pixels.numpy()):
        for call in (infer, reconstruct, aggregate_split):
            with pytest.raises(TypeError, match="whole numbers .*whose scale a model cannot know"):
                call(model, wrong)
    with pytest.raises(TypeError, match="x must be a tensor or an array .*, got DataSet"):
        infer(model, tiny_data)
    with pytest.raises(ValueError, match="at least one example"):
        infer(model, torch.zeros(0, 64))


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        (DataSpec(3, None), r"real numbers, x.astype\(float\), standardised if"),
        (DataSpec(3, 17), "for instance x / 16 for the numbers 0 to 16"),
        (DataSpec(3, 256), "for instance x / 255 for bytes"),
    ],
    ids=["real", "17 values", "bytes"],
)
def test_the_advice_on_whole_numbers_depends_on_the_data(spec, hint):
    with pytest.raises(TypeError, match=hint):
        infer(recipes.vae(spec, hidden=(4,)), np.array([[1, 2, 3]]))


def test_examples_that_the_likelihood_cannot_score_are_refused(make_model, tiny_data):
    grey = tiny_data.test.pixels[:5].float()
    real = recipes.vae(DataSpec(3, None), hidden=(4,))
    for call in (infer, reconstruct):
        with pytest.raises(ValueError, match="off that grid; divide the numbers 0 to 16 by 16"):
            call(make_model(), grey)
        with pytest.raises(ValueError, match="the data hold NaN"):
            call(real, [[1.0, math.nan, 2.0]])


def test_masked_examples_and_frames_are_taken_as_data_are():
    spec = DataSpec(2, None, missing=True, feature_names=("a", "b"))
    model = recipes.vae(spec, hidden=(4,))
    x = np.array([[1.5, -999.0]])
    expected = torch.tensor([[1.5, math.nan]])
    frame = pd.DataFrame({"a": [1.5], "b": [math.nan]})
    for form in (np.ma.masked_equal(x, -999), frame):
        torch.testing.assert_close(as_rows(model, form), expected, equal_nan=True)
    with pytest.raises(ValueError, match="the columns of x are b, a, .* give them in this order"):
        infer(model, frame[["b", "a"]])


def test_binary_examples_may_be_booleans(make_model, tiny_binary):
    model, x = make_model(data=tiny_binary), tiny_binary.test.batch(slice(0, 5))
    assert torch.equal(as_rows(model, x.bool()), x)


def test_values_of_a_level_of_another_size_are_refused(make_model):
    with pytest.raises(ValueError, match=r"values of z_2 have the shape \(B, 3\).*got \(2, 4\)"):
        vary(make_model(), torch.zeros(2, 4), level=2)
    assert len(vary(make_model(), np.zeros((2, 3)), level=2).px.mean) == 2


def test_something_else_than_a_data_set_is_refused(make_model, tiny_data):
    for call in (evaluate, diagnose):
        with pytest.raises(TypeError, match="expected a DataSet as the data, got Tensor"):
            call(make_model(), tiny_data.test.pixels)
        with pytest.raises(TypeError, match="expected a HierarchicalVAE as the model"):
            call(tiny_data, make_model())


def test_an_empty_split_is_refused(make_model, tiny_data):
    data = replace(tiny_data, test=tiny_data.test.select(slice(0, 0)))
    with pytest.raises(ValueError, match="split .* is empty"):
        evaluate(make_model(), data)


def test_a_diagnosis_refuses_data_that_the_model_was_not_built_for(make_model, tiny_binary):
    with pytest.raises(ValueError, match="num_values"):
        diagnose(make_model(), tiny_binary)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_model_in_double_precision_is_evaluated_and_diagnosed(recipe, make_model, tiny_data):
    single, double = make_model(recipe), make_model(recipe).double()
    a, b = (evaluate(m, tiny_data, num_samples=20).elbo for m in (single, double))
    assert abs(a.mean - b.mean) < 5 * math.hypot(a.standard_error, b.standard_error)
    assert diagnose(double, tiny_data)["information"].notna().all()
    assert reconstruct(double, tiny_data.test.batch(slice(0, 2))).px.mean.dtype == torch.float64
    assert sample(double, 2).px.mean.dtype == torch.float64


def test_the_mode_is_restored_after_an_error(make_model, tiny_data):
    model = make_model().train()
    for call in (
        lambda: reconstruct(model, torch.rand(2, 64), from_level=1, below=None, y=1),
        lambda: sample(model, 2, label=1),
        lambda: evaluate(model, tiny_data, num_samples=2, partial="/"),
        lambda: reconstruct(model, torch.rand(2, 64), from_level=2, below=lambda *_: 1 / 0),
    ):
        with pytest.raises((ValueError, OSError, ZeroDivisionError)):
            call()
        assert all(module.training for module in model.modules())


# Conditional models


def test_an_evaluation_gives_a_conditional_model_the_labels_of_the_split(conditional, tiny_data):
    scores = evaluate(conditional, tiny_data, num_samples=3, seed=1, per_example=True).per_example
    x, y = tiny_data.test.batch(slice(None)), tiny_data.test.labels
    seed_all(1)
    with torch.no_grad():
        elbo = conditional(x, 3, y=y).log_weight(x).double().unflatten(0, (-1, 3)).mean(1)
    np.testing.assert_allclose(scores["elbo"], elbo, rtol=1e-10)
    shuffled = replace(tiny_data, test=replace(tiny_data.test, labels=y.flip(0)))
    assert evaluate(conditional, shuffled, num_samples=3, seed=1).elbo.mean != elbo.mean().item()


@pytest.mark.parametrize("recipe", CONDITIONAL)
def test_a_diagnosis_of_a_conditional_model_adds_up(recipe, make_model, tiny_data):
    model = make_model(recipe, conditional=True)
    table = diagnose(model, tiny_data, num_samples=2)
    torch.manual_seed(7)
    x, y = tiny_data.test.batch(slice(0, 9)), tiny_data.test.labels[:9]
    trace = infer(model, x, y=y)
    torch.manual_seed(7)
    index, marginal = aggregate_split(model, x, y=y)
    information = torch.stack([level.information for level in trace.levels])
    torch.testing.assert_close(
        torch.stack(index) + torch.stack(marginal), information, rtol=1e-3, atol=1e-3
    )
    assert table["information"].notna().all()


def test_labels_of_samples_are_one_for_all_or_one_for_each(conditional):
    one = sample(conditional, 4, label=3).px.mean
    assert torch.equal(sample(conditional, 4, label=[3, 3, 3, 3]).px.mean, one)
    assert torch.equal(sample(conditional, 4, label=np.array([3] * 4)).px.mean, one)
    assert torch.equal(sample(conditional, 4, label=torch.tensor(3)).px.mean, one)
    other = sample(conditional, 4, label=[3, 3, 3, 4]).px.mean
    torch.testing.assert_close(other[:3], one[:3])
    assert not torch.allclose(other[3], one[3])


@pytest.mark.parametrize(
    ("label", "error", "text"),
    [
        (None, ValueError, "is conditional; give label=, one of 0 to 9"),
        (10, ValueError, "must be one of 0 to 9, got labels from 10 to 10"),
        (-1, ValueError, "must be one of 0 to 9"),
        ([1, 2], ValueError, r"one label or one for each of 4 rows, got shape \(2,\)"),
        (1.0, TypeError, "must hold whole numbers"),
        ("three", TypeError, "must hold whole numbers"),
    ],
)
def test_wrong_labels_are_refused(label, error, text, conditional):
    with pytest.raises(error, match=text):
        sample(conditional, 4, label=label)


def test_every_function_of_the_layers_takes_labels(conditional, tiny_data):
    x = tiny_data.test.batch(slice(0, 2))
    calls = {
        "infer": lambda **y: infer(conditional, x, **y),
        "reconstruct": lambda **y: reconstruct(conditional, x, **y),
        "deterministic": lambda **y: reconstruct(conditional, x, deterministic=True, **y),
        "vary": lambda **y: vary(conditional, torch.zeros(2, 3), level=2, **y),
        "interpolate": lambda **y: interpolate(conditional, x, level=1, **y),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match="is conditional; give y="):
            call()
        images = []
        for label in (1, 2):
            torch.manual_seed(0)
            images.append(call(y=label).px.mean)
        assert not torch.allclose(*images), name
    assert latent_shapes(conditional) == [(4,), (3,)]


def test_a_model_without_labels_refuses_them(make_model):
    with pytest.raises(ValueError, match="not conditional and takes no label"):
        sample(make_model(), 4, label=3)
    assert as_labels(make_model(), None, 4, name="y") is None


# Extremes


def test_constant_features_one_feature_and_latents_of_size_one_are_diagnosed():
    for x in (torch.randn(50, 1), torch.ones(50, 3), torch.randn(2, 1)):
        data = real_data(x)
        model = recipes.ladder_vae(data, latent_sizes=(1, 1), hidden=(4,), normalisation="layer")
        table = diagnose(model, data, num_samples=2)
        assert table["units"].tolist() == [1, 1] and table["information"].notna().all()
        assert len(evaluate(model, data, num_samples=2, per_example=True).per_example) == len(x)


def test_a_level_that_is_not_finite_is_not_called_collapsed(make_model, tiny_data):
    model = make_model("ladder_vae")
    with torch.no_grad():
        next(iter(model.top_down.conditionals.parameters())).fill_(math.nan)
    table = diagnose(model, tiny_data, num_samples=1, index_code=False)
    assert table["status"][0] == "not finite"


def test_the_smoothness_of_images_is_that_of_their_rows():
    frames = torch.rand(6, 8, 8)
    expected = smoothness(frames.flatten(1))
    assert smoothness(frames) == expected
    assert smoothness(frames.numpy()) == expected
    assert smoothness(torch.arange(20).reshape(5, 4)).jump_ratio == 1
    with pytest.raises(ValueError, match="NaN or infinite"):
        smoothness(torch.full((4, 2), math.nan))
    with pytest.raises(ValueError, match=r"rows \(n \+ 1, D\), or images, got shape \(5,\)"):
        smoothness(torch.rand(5))


def test_whole_numbers_are_places_too():
    corners = torch.tensor([[0, 0], [1, 3]])
    torch.testing.assert_close(resample(corners, 4), resample(corners.float(), 4))
    graph = latent_graph(torch.arange(20).reshape(10, 2), k=2)
    assert graph.path([0.5, 0.5], np.array([9.5, 9.5])).nodes[0].tolist() == [0.5, 0.5]


def test_arrays_are_places_too():
    points = torch.randn(30, 2, dtype=torch.float64)
    a, b = latent_graph(points, k=4, grow=True), latent_graph(points.numpy(), k=4, grow=True)
    assert torch.equal(a.path(points[0], points[1]).nodes, b.path(points[0], points[1]).nodes)
    assert torch.equal(prune_sparse(points.numpy()), prune_sparse(points))
    assert torch.equal(resample(points.numpy(), 7), resample(points, 7))
    assert torch.equal(angle_steps(points[:, 0].numpy()), angle_steps(points[:, 0]))
    for wrong in ("points", points.to(torch.complex64)):
        with pytest.raises(TypeError, match="points must be a tensor or an array of real numbers"):
            latent_graph(wrong)


def test_corners_that_are_not_finite_and_numbers_that_are_not_whole_are_refused(make_model):
    with pytest.raises(ValueError, match="corners hold NaN or infinite"):
        resample([[0.0, math.nan], [1.0, 1.0]], 3)
    for call in (
        lambda: resample(torch.rand(3, 2), 5.0),
        lambda: latent_graph(torch.rand(9, 2), k=3.0),
        lambda: interpolate(make_model(), torch.zeros(2, 64), level=1, steps=5.0),
    ):
        with pytest.raises(TypeError, match="must be a whole number, got"):
            call()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"num_samples": 2.5}, TypeError),
        ({"max_examples": 100.0}, TypeError),
        ({"threshold": math.nan}, ValueError),
        ({"unit_threshold": "0.1"}, ValueError),
    ],
    ids=str,
)
def test_a_diagnosis_with_wrong_numbers_is_refused_by_name(settings, error, make_model, tiny_data):
    (name,) = settings
    with pytest.raises(error, match=f"{name} must be a"):
        diagnose(make_model(), tiny_data, **settings)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_models_of_a_table_are_all_scored_by_one_measure(name):
    measures = set()
    for entry in BENCHMARKS[name].models.values():
        chosen = entry.experiment
        info = data_info(chosen.data.data)
        num_values = 2 if chosen.data.binarisation != "none" else 17
        likelihood = chosen.model.likelihood or usual_likelihood(DataSpec((8, 8), num_values))
        assert not info.real
        measures.add(LIKELIHOODS[likelihood].measure)
    assert measures == {"probability"}


def test_a_result_of_the_benchmark_states_its_measure(make_model, tiny_data):
    result = asdict(evaluate(make_model(), tiny_data, num_samples=1))
    assert bounds(result)["measure"] == "probability"


BLOCKS = [
    {"columns": [*range(39)], "likelihood": "bernoulli"},
    {"columns": [39], "likelihood": "gaussian"},
]


def test_few_different_examples_of_real_values_are_no_discrete_values():
    binary = torch.randint(0, 2, (1000, 39)).float()
    holes = torch.randn(1000, 100)
    holes[:, 2:] = math.nan
    for data, options in (
        (real_data(torch.randn(3, 8).repeat(400, 1)), {}),
        (
            real_data(torch.cat([binary, torch.randn(1000, 1)], dim=1)),
            {"likelihood": "mixed", "likelihood_options": {"blocks": BLOCKS}},
        ),
        (real_data(holes, missing=True), {}),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = recipes.vae(data, hidden=(4,), **options)
            assert not evaluate(model, data, num_samples=1).discrete


def test_whether_values_are_discrete_does_not_depend_on_the_split():
    grey = torch.randint(0, 17, (200, 64)) / 16
    whole = real_data(grey)
    data = replace(whole, test=whole.test.select(slice(0, 5)))
    with pytest.warns(DensityOfDiscreteValues, match="only 17 different values"):
        assert evaluate(recipes.vae(data, hidden=(4,)), data, num_samples=1).discrete


def test_the_command_line_names_a_density_of_discrete_pixels_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "train ladder --likelihood gaussian --hidden 8 --epochs 1 --quiet --out dens"

    def show(message: Warning, *place: object) -> None:  # what Python does outside pytest
        sys.stderr.write(warnings.formatwarning(message, *place[:3]))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        assert main([*words.split(), "--validation-samples", "1"]) == 0
    shown = capsys.readouterr()
    assert "log-density of discrete values: ELBO " in shown.out
    assert shown.err.count("choose the likelihood 'categorical'") == 1


def test_bounds_that_are_not_finite_are_refused_with_their_rows():
    x = torch.randn(20, 3)
    x[[4, 7]] = 1e30
    data = real_data(x)
    model = recipes.vae(data, hidden=(4,), normalisation="layer")
    with pytest.raises(FloatingPointError, match=r"2 of 20 examples .* \(rows 4, 7 of the split"):
        evaluate(model, data, num_samples=2)


def test_an_evaluation_leaves_every_part_in_its_mode(make_model, tiny_data):
    model = make_model().train()
    model.bottom_up.eval()
    before = [part.training for part in model.modules()]
    evaluate(model, tiny_data, num_samples=1)
    assert [part.training for part in model.modules()] == before
    assert len(set(before)) == 2
