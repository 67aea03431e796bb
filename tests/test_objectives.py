"""Objectives with weights, floors and a warm-up; ELBO and IWAE are tested with the hierarchy."""

import math
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from known_terms import nats, trace_of
from torch import Tensor, nn

from hvae_course import config
from hvae_course.objectives import (
    FreeBits,
    Objective,
    WarmUp,
    Weighted,
    as_objective,
    elbo,
    importance_weighted,
    make_objective,
)
from hvae_course.training import load_checkpoint, loop
from hvae_course.training.step import step

D = torch.float64


@pytest.fixture
def given() -> tuple[Tensor, ...]:
    """Reconstruction and the information of three levels, for two examples."""
    return nats(-10.0, -20.0), nats(1.0, 3.0), nats(0.25, 0.5), nats(4.0, 6.0)


def assert_value(objective, terms: tuple[Tensor, ...], expected: list[float]) -> None:
    torch.testing.assert_close(objective(*trace_of(*terms)), torch.tensor(expected, dtype=D))


def gradients(objective, terms: tuple[Tensor, ...]) -> list[Tensor]:
    return list(torch.autograd.grad(objective(*trace_of(*terms)).mean(), terms))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Weighted((2.0, 3.0, 0.5)), [-14.75, -30.5]),
        (Weighted(2.0), [-20.5, -39.0]),
        (Weighted(0.0), [-10.0, -20.0]),
        (FreeBits((1.0, 1.0, 1.0)), [-10 - 1 - 1 - 4, -20 - 3 - 1 - 6]),
        (FreeBits(1.0), [-10 - 1 - 1 - 4, -20 - 3 - 1 - 6]),
        (FreeBits((3.0, 0.0, 0.0)), [-10 - 3 - 0.25 - 4, -20 - 3 - 0.5 - 6]),
        (FreeBits(), [-10 - 1 - 0.5 - 4, -20 - 3 - 0.5 - 6]),
        (FreeBits(0.0), [-10 - 1 - 0.25 - 4, -20 - 3 - 0.5 - 6]),  # the ELBO
        (FreeBits((2.5, 0.4, 5.0)), [-10 - 2.5 - 0.4 - 5.0, -20 - 2.5 - 0.4 - 5.0]),
        (FreeBits((1.9, 0.3, 4.9)), [-10 - 1 - 0.25 - 4, -20 - 3 - 0.5 - 6]),
    ],
    ids=str,
)
def test_each_level_has_its_weight_or_its_floor_from_z_1_upward(objective, expected, given):
    assert_value(objective, given, expected)


def test_a_weight_of_one_is_the_elbo(given):
    for draws in (given, tuple(torch.randn(4, 3, dtype=D) for _ in range(4))):
        trace, x = trace_of(*draws)
        torch.testing.assert_close(Weighted()(trace, x), elbo(trace, x))
        torch.testing.assert_close(WarmUp()(trace, x), elbo(trace, x))


SECOND = {
    "a weight": (Weighted((1.0, 1.0, 1.0)), Weighted((1.0, 5.0, 1.0))),
    "a floor": (FreeBits((0.0, 0.0, 0.0)), FreeBits((0.0, 9.0, 0.0))),
    "a floor's weight": (FreeBits(0.0, weights=(1.0,) * 3), FreeBits(0.0, weights=(1.0, 5.0, 1))),
    "a warm-up time": (WarmUp((0, 0, 0)).for_epoch(1), WarmUp((0, 4, 0)).for_epoch(1)),
}


@pytest.mark.parametrize("name", SECOND)
def test_the_second_setting_changes_the_kl_term_of_z_2_and_nothing_else(name, given):
    first, second = (gradients(objective, given) for objective in SECOND[name])
    changed = [not torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert changed == [False, False, True, False]  # reconstruction, z_1, z_2, z_3


# Free bits


def test_a_level_below_its_floor_gets_no_gradient(given):
    pulls = gradients(FreeBits((2.5, 0.4, 5.0)), given)
    torch.testing.assert_close(pulls[0], gradients(Weighted(), given)[0])
    assert all((pull == 0).all() for pull in pulls[1:])


def test_a_level_above_its_floor_gets_its_gradient_for_every_example(given):
    """Also an example that lies below the floor itself, like the first one of z_1 here."""
    free = FreeBits((1.9, 0.3, 4.9))
    torch.testing.assert_close(gradients(free, given), gradients(Weighted(), given))


def test_a_floor_of_zero_counts_a_negative_mean_as_zero():
    assert_value(FreeBits(0.0), (nats(-10.0, -20.0), nats(-3.0, 1.0)), [-10.0, -20.0])


def test_a_floor_under_each_example_counts_more_than_is_used():
    """The mean is 0.6, above the floor, and half of the examples lie below it."""
    terms = (nats(0.0, 0.0, 0.0, 0.0), nats(0.0, 0.2, 1.0, 1.2))
    under_batch, under_each = FreeBits(0.5), FreeBits(0.5, floor="example")
    assert_value(under_batch, terms, [0.0, -0.2, -1.0, -1.2])
    assert_value(under_each, terms, [-0.5, -0.5, -1.0, -1.2])
    assert (gradients(under_batch, terms)[1] == -0.25).all()
    assert gradients(under_each, terms)[1].tolist() == [0.0, 0.0, -0.25, -0.25]


def test_noise_alone_raises_the_kl_term_with_a_floor_under_each_example():
    information = 0.5 + torch.randn(100_000, 1, dtype=D)
    trace, x = trace_of(torch.zeros_like(information), information)
    counted = -FreeBits(0.5, floor="example")(trace, x)
    excess = counted - 0.5  # the mean of max(0, noise) is 1 / sqrt(2 pi)
    expected = 1 / math.sqrt(2 * math.pi)
    assert abs(excess.mean() - expected) < 5 * excess.std() / len(excess) ** 0.5


def test_under_the_batch_mean_the_same_noise_is_as_small_as_its_standard_error():
    """The mean of 100 draws has a tenth of the noise, and so has what the floor makes of it."""
    torch.manual_seed(0)
    information = 0.5 + torch.randn(400, 100, dtype=D)
    counted = []
    for batch in information:
        trace, x = trace_of(torch.zeros_like(batch), batch)
        counted.append(-FreeBits(0.5)(trace, x).mean())
    excess = torch.stack(counted) - 0.5
    expected = 1 / math.sqrt(2 * math.pi) / 10
    assert abs(excess.mean() - expected) < 5 * excess.std() / len(excess) ** 0.5


@pytest.mark.parametrize("floor", ["batch", "example"])
def test_the_floor_comes_first_and_the_weight_after_it(floor):
    free = FreeBits(1.0, floor=floor, weights=0.5)
    assert_value(free, (nats(0.0), nats(0.4)), [-0.5])
    assert_value(free, (nats(0.0), nats(1.5)), [-0.75])
    two = FreeBits(1.0, floor=floor, weights=(0.5, 2.0))
    assert_value(two, (nats(0.0), nats(0.4), nats(3.0)), [-6.5])


def test_draws_of_an_example_are_averaged_before_the_floor():
    terms = (nats([-10.0, -12.0], [-20.0, -20.0]), nats([0.0, 2.0], [0.0, 0.2]))
    assert_value(Weighted(3.0), terms, [-11 - 3.0, -20 - 0.3])
    assert_value(FreeBits(0.5, floor="example"), terms, [-12.0, -20.5])
    assert_value(FreeBits(0.5), terms, [-12.0, -20.1])
    assert_value(FreeBits(0.6), terms, [-11.6, -20.6])


# Warm-up


def test_the_kl_weight_rises_linearly_from_the_first_epoch_and_then_stays_one():
    warm_up = WarmUp(4)
    weights = [warm_up.for_epoch(epoch).weights for epoch in range(1, 7)]
    assert weights == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warm_up.duration == 4


def test_every_level_may_have_its_own_warm_up_time():
    warm_up = WarmUp((4, 0, 2))
    assert warm_up.for_epoch(1) == Weighted((0.25, 1.0, 0.5))
    assert warm_up.for_epoch(3) == Weighted((0.75, 1.0, 1.0))
    assert warm_up.duration == 4
    assert WarmUp(0).for_epoch(1) == Weighted(1.0) and WarmUp(0).duration == 0


def test_the_warm_up_multiplies_the_final_weights():
    assert WarmUp(4, Weighted(3.0)).for_epoch(2) == Weighted(1.5)
    assert WarmUp(4, Weighted((1.0, 3.0))).for_epoch(2) == Weighted((0.5, 1.5))
    assert WarmUp((4, 2), Weighted(3.0)).for_epoch(1) == Weighted((0.75, 1.5))
    assert WarmUp((4, 2), Weighted((2.0, 3.0))).for_epoch(1) == Weighted((0.5, 1.5))


def test_free_bits_keep_their_floors_during_the_warm_up(given):
    free = FreeBits((0.5, 1.0, 0.0), floor="example", weights=2.0)
    first = WarmUp(4, free).for_epoch(1)
    assert first == FreeBits((0.5, 1.0, 0.0), floor="example", weights=0.5)
    trace, x = trace_of(*given)
    assert torch.equal(WarmUp(4, free)(trace, x), free(trace, x))
    assert_value(first, given, [-10 - 0.5 * (1 + 1 + 4), -20 - 0.5 * (3 + 1 + 6)])


# In training


def still(train, make_model, objective, **settings):
    """History of a model that does not learn, so that every number follows from the objective."""
    model = make_model(latent_sizes=(4, 3, 2), normalisation="none")
    return train(model, objective=objective, learning_rate=1e-30, **settings)


KL_TERMS = {
    "weights": (
        Weighted((2.0, 30.0, 5.0)),
        lambda i1, i2, i3: 2 * i1 + 30 * i2 + 5 * i3,
        lambda i1, i2, i3: 2 * i1 + 30 * i2 + 5 * i3,
    ),
    "floors and weights": (
        FreeBits((0.0, 90.0, 80.0), weights=(1.0, 2.0, 3.0)),
        lambda i1, i2, i3: i1 + 2 * 90 + 3 * 80,
        lambda i1, i2, i3: i1 + 2 * 90 + 3 * 80,
    ),
    "a warm-up, in its second epoch": (
        WarmUp((0, 4, 10), Weighted((2.0, 30.0, 5.0))),
        lambda i1, i2, i3: 2 * i1 + 15 * i2 + i3,
        lambda i1, i2, i3: 2 * i1 + 30 * i2 + 5 * i3,
    ),
}
"""Objective, and its KL term in training and in validation."""


@pytest.mark.parametrize("name", KL_TERMS)
def test_training_follows_the_objective_and_validation_its_final_form(name, train, make_model):
    objective, *terms = KL_TERMS[name]
    history = still(train, make_model, objective, epochs=2)
    for split, kl in zip(("train", "validation"), terms, strict=True):
        information = [history.last("information", split, level=l) for l in (1, 2, 3)]
        assert min(information) > 0
        expected = history.last("reconstruction", split) - kl(*information)
        assert history.last("objective", split) == pytest.approx(expected, abs=1e-3)


def test_the_history_holds_raw_information_whatever_the_objective(train, make_model):
    objectives = (elbo, FreeBits(90.0), FreeBits(90.0, floor="example"), WarmUp(4))
    frames = [still(train, make_model, objective).frame for objective in objectives]
    raw = [frame.query("quantity != 'objective'") for frame in frames]
    for frame, other in zip(frames[1:], raw[1:], strict=True):
        pd.testing.assert_frame_equal(other, raw[0], check_exact=True)
        assert not frame.equals(frames[0])


@pytest.mark.parametrize(("epochs", "last"), [(0, 3), (5, 7), ((1, 4), 6)])
def test_patience_counts_from_the_end_of_the_warm_up(epochs, last, train, make_model):
    model = make_model(normalisation="none")  # never better than in its first epoch
    history = train(model, objective=WarmUp(epochs), learning_rate=1e-30, patience=2, epochs=20)
    assert (history.best_epoch, history.frame["epoch"].max()) == (1, last)


@pytest.mark.parametrize("objective", [WarmUp(4), WarmUp((2, 6), FreeBits(0.5))], ids=str)
def test_a_resumed_warm_up_is_the_one_that_was_not_interrupted(
    objective, train, make_model, tmp_path
):
    first, second, path = make_model(), make_model(), tmp_path / "checkpoint.pt"
    history = train(first, objective=objective, epochs=4)
    train(second, objective=objective, epochs=2, checkpoint=path)
    resumed = train(second, objective=objective, epochs=4, checkpoint=path)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    pd.testing.assert_frame_equal(history.frame, resumed.frame, check_exact=True)


def test_a_run_with_another_objective_is_not_resumed(train, make_model, tmp_path):
    for n, (before, now) in enumerate(
        [
            (WarmUp(4), WarmUp(5)),
            (WarmUp(4), WarmUp(4, FreeBits())),
            (FreeBits(), FreeBits(0.6)),
            (Weighted(2.0), Weighted((1.0, 2.0))),
            (Weighted(), elbo),
        ]
    ):
        path = tmp_path / f"{n}.pt"
        train(make_model(), objective=before, epochs=1, checkpoint=path)
        with pytest.raises(ValueError, match="belongs to a run with other settings") as error:
            train(make_model(), objective=now, checkpoint=path)
        shown = now.__name__ if now is elbo else now
        assert f"objective was {str(before)!r} and is {str(shown)!r}. Resume" in str(error.value)


# What training asks of an objective


class Recording(Objective):
    """The ELBO, with a state; it writes down what it is asked."""

    def __init__(self) -> None:
        self.calls, self.steps = [], torch.tensor(7.0)

    def __repr__(self) -> str:
        return "recording"

    def __call__(self, trace, x):
        self.calls.append("call")
        self.steps += torch.is_grad_enabled()
        return elbo(trace, x)

    def for_epoch(self, epoch):
        self.calls.append(f"epoch {epoch}")
        return self

    def on(self, device):
        self.calls.append(f"on {device}")
        return self

    def begin(self, device):
        self.calls.append(f"begin on {device}")
        self.steps = torch.zeros((), device=device)

    def train(self, mode=True):
        self.calls.append(f"train {mode}")
        return self

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.calls.append("load")
        self.steps = state["steps"]

    def report(self):
        return {"steps": self.steps.item()}

    @contextmanager
    def holding_back(self, optimizer, prior):
        self.calls.append(f"hold back {len(optimizer.param_groups)} {len(prior)}")
        yield
        self.calls.append("let go")

    def finish(self):
        self.calls.append("finish")


def epoch(n: int, *more: str) -> list[str]:
    return [f"epoch {n}", *more, "train True", *["call"] * 3, "train False", "call"]


END = ["let go", "train False", "finish"]


def test_training_calls_every_hook_in_its_turn(train, make_model, tmp_path):
    objective, path = Recording(), tmp_path / "run.pt"
    history = train(make_model(), objective=objective, checkpoint=path)
    start = ["begin on cpu", "hold back 1 0"]
    assert objective.calls == [*start, *epoch(1), *epoch(2), *END]
    assert history.frame.query("quantity == 'steps'")["value"].tolist() == [3.0, 6.0]
    saved = load_checkpoint(path).run
    assert saved["state"] == {"steps": 6} and saved["settings"]["objective"] == "recording"
    resumed = Recording()
    mixture = {"prior": "mixture", "prior_options": {"num_components": 3}}
    train(make_model(), objective=resumed, checkpoint=path, epochs=3)
    assert resumed.calls == [start[0], "load", start[1], *epoch(3), *END] and resumed.steps == 9
    train(make_model(**mixture), objective=objective, epochs=1)
    assert "hold back 2 3" in objective.calls


def test_a_compiled_step_asks_for_tensors_in_every_epoch(train, make_model, monkeypatch):
    monkeypatch.setattr(loop, "compile_step", lambda device: step)
    objective = Recording()
    train(make_model(), objective=objective, compiled=True)
    assert [call for call in objective.calls if call.startswith(("epoch", "on"))] == [
        *("epoch 1", "on cpu", "epoch 2", "on cpu")
    ]


def test_an_objective_that_overrides_nothing_changes_nothing():
    plain = as_objective(elbo)
    assert plain.description == "elbo" and as_objective(plain) is plain
    assert plain.for_epoch(3) is plain.on(torch.device("cpu")) is plain.train(False) is plain
    assert (plain.duration, plain.state_dict(), plain.report()) == (0, None, {})
    assert as_objective(nn.Identity()).description == "Identity()"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "elbo"),
        ({"objective": "iwae"}, "importance_weighted"),
        ({"warm_up": 3}, repr(WarmUp(3))),
        ({"free_bits": 0.5}, repr(FreeBits(0.5))),
        ({"free_bits": (1.0, 2.0), "warm_up": (0, 3)}, repr(WarmUp((0, 3), FreeBits((1.0, 2.0))))),
    ],
)
def test_objectives_are_made_from_their_configuration(settings, expected):
    assert make_objective(config.Objective(**settings)).description == expected


# What is refused


@pytest.mark.parametrize("value", [-0.1, (1.0, -0.1), (), math.nan, (1.0, math.nan)], ids=str)
@pytest.mark.parametrize(
    ("name", "make"),
    [("weights", Weighted), ("nats", FreeBits), ("epochs", WarmUp)]
    + [("weights", lambda value: FreeBits(weights=value))],
)
def test_negative_settings_are_refused(name, make, value):
    with pytest.raises(ValueError, match=f"{name} must be zero or more at every level, got") as e:
        make(value)
    assert str(value) in str(e.value)


SETTINGS = [("weights", Weighted), ("nats", FreeBits), ("epochs", WarmUp)] + [
    ("weights", lambda value: FreeBits(weights=value))
]


@pytest.mark.parametrize(("name", "make"), SETTINGS)
@pytest.mark.parametrize(
    "value",
    ["2", True, None, {1.0, 2.0}, [1.0, "2"], np.eye(2), iter([1.0]), 1j],
    ids=lambda value: type(value).__name__,
)
def test_settings_that_are_no_numbers_are_refused(name, make, value):
    match = f"{name} must be a number, or a sequence with one number per level, got "
    with pytest.raises(TypeError, match=match):
        make(value)


@pytest.mark.parametrize(("name", "make"), SETTINGS)
def test_settings_of_numpy_and_pytorch_are_those_of_python(name, make):
    for several in (np.array([1, 2]), torch.tensor([1, 2]), (np.int64(1), torch.tensor(2))):
        assert repr(make(several)) == repr(make((1, 2)))
    for one in (np.array(3), np.int64(3), torch.tensor(3)):
        assert repr(make(one)) == repr(make(3))
    with pytest.raises(ValueError, match=f"{name} must be zero or more at every level, got inf"):
        make(math.inf)


def test_an_objective_without_a_call_says_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"Objective does not say .*; define __call__"):
        Objective()(*trace_of(nats(0.0), nats(1.0)))


def test_an_unknown_floor_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown floor 'pixel'; choose one of batch, example"):
        FreeBits(floor="pixel")


@pytest.mark.parametrize(
    ("objective", "name"),
    [(Weighted((1.0, 1.0)), "Weighted.weights"), (FreeBits((1.0, 1.0)), "FreeBits.nats")]
    + [(FreeBits(weights=(1.0, 1.0)), "FreeBits.weights")]
    + [(WarmUp(3, FreeBits(weights=(1.0, 1.0))).for_epoch(1), "FreeBits.weights")]
    + [(WarmUp((1, 1)).for_epoch(1), "WarmUp.epochs")]
    + [(WarmUp((1, 1)).for_epoch(1).on(torch.device("cpu")), "WarmUp.epochs")],
)
def test_settings_for_another_number_of_levels_are_refused(objective, name, given):
    match = rf"{name} has 2 values for 3 levels; .* from z_1 \(next to the data\) to z_L"
    with pytest.raises(ValueError, match=match):
        objective(*trace_of(*given))


def test_warm_up_times_for_another_number_of_weights_are_refused():
    with pytest.raises(ValueError, match="3 warm-up times for 2 weights; give one per level"):
        WarmUp((1, 2, 3), Weighted((1.0, 1.0)))


@pytest.mark.parametrize("objective", [elbo, importance_weighted, None])
def test_what_has_no_weights_cannot_warm_up(objective):
    with pytest.raises(TypeError, match=r"changes the weights of Weighted\(\) or FreeBits"):
        WarmUp(5, objective)


class Scaled(Objective):
    """An objective as a user writes it, without a representation of its own."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, trace, x):
        return self.factor * elbo(trace, x)


def test_an_objective_of_ones_own_is_recognised_by_its_settings():
    assert Scaled(2.0).description == Scaled(2.0).description == "Scaled({'factor': 2.0})"
    assert Scaled(2.0).description != Scaled(3.0).description


@pytest.mark.parametrize("wrong", [FreeBits, "elbo", config.Objective()])
def test_what_is_no_objective_is_refused(wrong):
    with pytest.raises(TypeError, match="make_objective makes one from a hvae_course.config"):
        as_objective(wrong)
