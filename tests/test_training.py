"""Training: reproducible, without waiting for the device, strict about its settings."""

import math

import pytest
import torch
from steps import same, weights
from torch import Tensor
from waits import Waits

from hvae_course import Trace, fit
from hvae_course.config import Training
from hvae_course.objectives import elbo, importance_weighted
from hvae_course.training import History, loop
from hvae_course.training.guards import check_sizes
from hvae_course.training.history import QUANTITIES, batch_statistics


class Scores:
    """The ELBO while training; in validation, which is one batch, the given scores in turn."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return elbo(trace, x)
        return torch.full((len(x),), float(self.scores.pop(0)))


# What training does


@pytest.mark.parametrize("recipe", ["bottom_up_vae", "mean_field_vae"])
@pytest.mark.parametrize("objective", [elbo, importance_weighted])
@pytest.mark.parametrize("data", ["tiny_data", "tiny_binary"])
def test_training_improves_the_bound(recipe, objective, data, make_model, train, request):
    data = request.getfixturevalue(data)
    model = make_model(recipe, data)
    settings = {"objective": objective, "num_samples": 2, "epochs": 8, "learning_rate": 1e-2}
    bound = train(model, data, **settings).frame.query("quantity == 'objective'")
    for _, rows in bound.groupby("split"):
        assert rows["value"].iloc[-1] > rows["value"].iloc[0] + 1
    assert not model.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_model, train):
    models = [make_model(seed=3) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(100 + seed)  # the caller's random numbers play no part
        torch.rand(3)
        train(model, seed=seed)
    first, second, other = map(weights, models)
    assert same(first, second)
    assert not same(first, other)


def test_options_may_come_in_one_object(make_model, tiny_data, make_accelerator):
    models = make_model(), make_model()
    training, options = Training(epochs=1, batch_size=40, seed=3), {"progress": False}
    options["accelerator"] = make_accelerator()
    fit(models[0], tiny_data, training, **options)
    fit(models[1], tiny_data, epochs=1, batch_size=40, seed=3, **options)
    assert same(*map(weights, models))


@pytest.mark.parametrize("data", ["tiny_data", "tiny_binary"])
def test_fit_leaves_the_callers_random_numbers_alone(data, make_model, train, request):
    data = request.getfixturevalue(data)
    model = make_model(data=data)
    before = torch.get_rng_state()
    train(model, data, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("normalisation", ["batch", "layer"])
def test_the_model_ends_with_the_weights_of_its_best_epoch(normalisation, make_model, train):
    model, shorter = (make_model(normalisation=normalisation) for _ in range(2))
    history = train(model, objective=Scores(1, 2, 5, 3, 4), epochs=5)
    train(shorter, epochs=3)
    assert history.best_epoch == 3
    assert same(weights(model), weights(shorter))


def test_an_error_leaves_the_weights_of_the_best_epoch_before_it(make_model, train):
    scores = Scores(1, math.nan)
    model, shorter = make_model(), make_model()
    with pytest.raises(FloatingPointError):
        train(model, objective=scores, epochs=3)
    train(shorter, epochs=1)
    assert same(weights(model), weights(shorter))
    assert not model.training


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_stops_after_so_many_epochs_without_a_better_bound(patience, make_model, train):
    scores = [1, 2] + [1] * 10
    history = train(make_model(), objective=Scores(*scores), epochs=12, patience=patience)
    assert history.best_epoch == 2
    assert history.frame["epoch"].max() == 2 + patience


@pytest.mark.parametrize(("batch_size", "expected"), [(40, 40), (50, 50), (120, 120)])
def test_every_step_sees_a_full_batch_of_different_images(batch_size, expected, train, make_model):
    batches = []

    def objective(trace: Trace, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            batches.append(x)
        return elbo(trace, x)

    train(make_model(), objective=objective, batch_size=batch_size, epochs=2)
    steps = 120 // expected
    assert [len(x) for x in batches] == [expected] * 2 * steps
    first, second = torch.cat(batches[:steps]), torch.cat(batches[steps:])
    assert len(first.unique(dim=0)) == len(first) == len(second.unique(dim=0))
    assert not torch.equal(first, second)


def test_every_validation_has_the_same_noise_and_every_epoch_of_training_its_own(
    make_model, train
):
    model, noise = make_model(normalisation="none"), []

    def objective(trace: Trace, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            noise.append((trace.levels[0].z - trace.levels[0].q.mean) / trace.levels[0].q.stddev)
        return elbo(trace, x)

    history = train(model, objective=objective, learning_rate=1e-30, batch_size=120)
    values = history.frame.groupby(["split", "quantity"])["value"]
    assert (values.nunique().loc["validation"] == [1, 2, 1, 1]).all()  # information of two levels
    assert (values.nunique().loc["train"] == [2, 4, 2, 2]).all()
    assert not torch.allclose(*noise, atol=1e-2)


def test_a_model_trains_in_training_mode_and_is_validated_in_evaluation_mode(make_model, train):
    model, modes = make_model(), set()
    model.register_forward_hook(lambda m, *_: modes.add((torch.is_grad_enabled(), m.training)))
    train(model)
    assert modes == {(True, True), (False, False)}


@pytest.mark.parametrize("data", ["tiny_data", "tiny_binary"])
def test_waits_for_the_device_do_not_depend_on_the_number_of_steps(
    data, make_model, train, request, monkeypatch
):
    data, counts = request.getfixturevalue(data), []
    for batch_size in (10, 40):
        waits = Waits()
        for name in ("tolist", "cpu", "numpy"):
            method = getattr(Tensor, name)

            def counted(self, *args, _name=name, _method=method, _count=waits.count):
                _count[_name] += 1
                return _method(self, *args)

            monkeypatch.setattr(Tensor, name, counted)
        with waits:
            train(make_model(data=data), data, batch_size=batch_size, epochs=1)
        monkeypatch.undo()
        counts.append(waits.count)
    assert counts[0] == counts[1]
    assert counts[0]["tolist"] == 3  # at the start, for training, for validation


def test_the_progress_bar_shows_the_bound_and_every_level(make_model, train, capsys):
    train(make_model(), progress=True)
    shown = capsys.readouterr().err
    assert all(name in shown for name in ("elbo=", "z_1=", "z_2="))
    train(make_model(), progress=False)
    assert capsys.readouterr().err == ""


# What is refused


def test_options_are_checked_and_are_not_mixed_with_an_object_that_holds_them(make_model, train):
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        train(make_model(), batch_size=0)
    with pytest.raises(TypeError, match="fit has no option 'batches'; did you mean batch_size"):
        train(make_model(), batches=3)
    with pytest.raises(TypeError, match="a Training object, got both: epochs, batch_size"):
        train(make_model(), training=Training())
    with pytest.raises(TypeError, match=r"function \(trace, x\) -> \(B,\), got 'elbo'"):
        train(make_model(), objective="elbo")


def test_a_batch_that_processes_cannot_share_equally_is_refused():
    with pytest.raises(ValueError, match="batch_size=5 cannot be shared equally by 2 processes"):
        check_sizes(Training(batch_size=5), 120, 2)
    with pytest.raises(ValueError, match="3 training examples cannot be shared by 4 processes"):
        check_sizes(Training(batch_size=8), 3, 4)


def test_data_outside_the_support_are_refused_before_training(make_model, train):
    model = make_model(likelihood="bernoulli")
    before = weights(model)
    with pytest.raises(ValueError, match="binary pixels, got grey values"):
        train(model)
    assert same(weights(model), before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("training", [True, False])
def test_an_objective_that_is_not_finite_stops_the_run(value, training, make_model, train):
    def objective(trace: Trace, x: Tensor) -> Tensor:
        return elbo(trace, x) * (value if torch.is_grad_enabled() == training else 1)

    message = "in the first step, before" if training else "no longer finite in epoch 1"
    with pytest.raises(FloatingPointError, match=message):
        train(make_model(), objective=objective)


# History


def test_the_history_holds_every_quantity_of_every_epoch_once(make_model, train):
    history = train(make_model(latent_sizes=(4, 3, 2)), epochs=3)
    frame = history.frame
    assert list(frame.columns) == ["epoch", "split", "quantity", "level", "value"]
    assert not frame.duplicated(["epoch", "split", "quantity", "level"]).any()
    kinds = {(name, None) for name in QUANTITIES[:3]} | {("information", l) for l in (1, 2, 3)}
    assert len(frame) == 3 * 2 * len(kinds) and frame["level"].dtype == "Int64"
    levels = frame["level"].astype(object).where(frame["level"].notna(), None)
    assert set(zip(frame["quantity"], levels, strict=True)) == kinds
    for split in ("train", "validation"):  # the objective is the ELBO
        information = sum(history.last("information", split, level=l) for l in (1, 2, 3))
        expected = history.last("reconstruction", split) - information
        assert history.last("elbo", split) == pytest.approx(expected, abs=1e-3)
        assert history.last("objective", split) == pytest.approx(expected, abs=1e-3)


def test_level_1_of_the_history_is_next_to_the_data(make_model, tiny_data):
    x = tiny_data.test.batch(slice(0, 5))
    trace, history = make_model(latent_sizes=(4, 3, 2))(x, 2), History()
    statistics = batch_statistics(trace, x, importance_weighted(trace, x))
    history.record(1, "train", statistics.tolist())
    assert not statistics.requires_grad
    for l, level in enumerate(trace.levels, start=1):
        assert history.last("information", level=l) == level.information.mean().item()
    assert history.last("objective") == importance_weighted(trace, x).mean().item()


def test_last_means_the_latest_epoch():
    history = History()
    for epoch, value in ((1, 5.0), (2, 7.0)):
        history.record(epoch, "train", [value, value, value, value])
    assert history.last("elbo") == history.last("information", level=1) == 7
    assert list(history.frame["epoch"].unique()) == [1, 2]


@pytest.mark.parametrize(
    ("quantity", "split", "level"),
    [("elbo", "validation", None), ("loss", "train", None), ("elbo", "train", 1)]
    + [("information", "train", level) for level in (None, 0, 2)],
)
def test_what_was_not_recorded_is_refused(quantity, split, level):
    history = History()
    history.record(1, "train", [1.0, 2.0, 3.0, 4.0])
    match = f"no '{quantity}' of level {level} was recorded for split '{split}'"
    with pytest.raises(KeyError, match=match):
        history.last(quantity, split, level)


def test_the_best_information_is_that_of_a_level(make_model, train):
    history = train(make_model(), epochs=2)
    rows = history.frame.query("split == 'validation' and quantity == 'information'")
    best = rows[rows["epoch"] == history.best_epoch].set_index("level")["value"]
    assert [history.best("information", level) for level in (1, 2)] == list(best)
    with pytest.raises(KeyError, match="no 'information' of level None was recorded in epoch"):
        history.best("information")


def test_a_progress_bar_of_many_levels_shows_their_sum():
    few, many = ([-1.0, -9.0, -5.0, *[0.5] * levels] for levels in (6, 7))
    assert list(loop._describe(few)) == ["elbo", *(f"z_{l}" for l in range(1, 7))]
    assert loop._describe(many) == {"elbo": "-9.0", "information": "3.5"}
