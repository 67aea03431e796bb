"""The state of a constrained objective: average, phase and KL weight, whatever errors it meets."""

import math
import re

import numpy as np
import pytest
import torch

from hvae_course.objectives import GECO, Constrained, ReWO


def fed(*errors: float, kappa: float = 1.0, **settings) -> Constrained:
    objective = Constrained(kappa, **settings).double()
    objective.reset()  # the weight as a number of that precision
    for error in errors:
        objective.update(torch.tensor(error))
    return objective


def test_the_average_starts_at_the_first_error_and_forgets_by_the_smoothing():
    objective = fed(4.0, smoothing=0.8)
    assert objective.average == 4 and objective.steps == 1
    for error, expected in ((2.0, 3.6), (0.0, 2.88)):
        objective.update(torch.tensor(error))
        assert objective.average.item() == pytest.approx(expected)
    assert objective.best.item() == pytest.approx(2.88)
    objective.update(torch.tensor(9.0))
    assert objective.best.item() == pytest.approx(2.88)
    assert objective.report() == {"beta": 0.01, "error": pytest.approx(0.8 * 2.88 + 0.2 * 9)}


@pytest.mark.parametrize("rule", [GECO(), ReWO()], ids=repr)
def test_the_weight_waits_until_the_average_meets_the_constraint_for_the_first_time(rule):
    objective, states = fed(smoothing=0.5, rule=rule), []
    for error in (3.0, 0.2, 0.2, 9.0):  # averages 3, 1.6, 0.9, 4.95
        objective.update(torch.tensor(error))
        states.append((objective.released.item(), objective.met, objective.duration))
        states[-1] += (objective.beta.item(),)
    before, after = (0.0, False, math.inf, 0.01), (1.0, True, 0.0)
    assert states[:2] == [before, before]
    assert [state[:3] for state in states[2:]] == [after, after]
    assert states[2][3] > 0.01 and states[3][3] < states[2][3]


def test_an_error_of_exactly_what_is_allowed_meets_the_constraint():
    objective = fed(0.25, kappa=0.5)
    assert objective.met and objective.released == 1
    assert not fed(0.2501, kappa=0.5).met


def test_without_a_first_phase_the_weight_moves_at_once():
    objective = fed(3.0, first_phase=False)
    assert objective.beta < 0.01 and objective.duration == 0 and not objective.met


def test_the_first_phase_settles_in_the_epoch_in_which_it_ends():
    objective = Constrained(1.0)
    for epoch, error in ((1, 2.0), (2, 2.0), (3, 0.0), (4, 2.0)):
        assert objective.for_epoch(epoch) is objective
        for _ in range(20):
            objective.update(torch.tensor(error))
        assert objective.duration == (math.inf if epoch < 3 else 3)
    objective.reset()
    assert objective.settled == 0 and objective.duration == math.inf


EXTREME = [1e30, 3e38, math.inf, math.nan]


@pytest.mark.parametrize("error", EXTREME)
@pytest.mark.parametrize("rule", [GECO(10.0), ReWO(10.0)], ids=repr)
@pytest.mark.parametrize("when", ["first", "later"])
def test_an_extreme_error_neither_overflows_nor_freezes_the_state(error, rule, when):
    objective = Constrained(0.3, rule=rule, beta=0.5)
    for value in [error] if when == "first" else [0.05, error, error]:
        before = objective.beta.clone()
        objective.update(torch.tensor(value))
    assert all(torch.isfinite(v) for v in (objective.beta, objective.average, objective.best))
    assert 1e-6 <= objective.beta <= 1e4 and objective.average <= 100 * 0.3**2
    assert objective.beta >= 0.99 * before * math.exp(-1)
    for _ in range(150):
        objective.update(torch.tensor(0.0))
    assert objective.average < 0.3**2
    moved = objective.beta.clone()
    objective.update(torch.tensor(0.0))
    assert objective.beta != moved or moved in (1, 1e4)
    for _ in range(30):
        objective.update(torch.tensor(0.2))
    assert objective.beta < moved


def test_an_error_that_is_not_finite_counts_as_the_average_before_it():
    for value in (math.nan, math.inf, -math.inf):
        assert fed(0.5, value, 0.3).average == fed(0.5, 0.5, 0.3).average


def test_an_error_of_a_batch_counts_as_at_most_so_many_times_what_is_allowed():
    objective = fed(0.0, 1e9, kappa=0.5, smoothing=0.5, max_violation=10.0)
    assert objective.average.item() == pytest.approx(0.5 * 10 * 0.25)
    assert fed(1e9, kappa=0.5, max_violation=10.0).average.item() == pytest.approx(2.5)


@pytest.mark.parametrize(("error", "factor"), [(5.0, math.exp(-0.25)), (0.0, math.exp(0.25))])
def test_the_weight_moves_by_at_most_one_step(error, factor):
    settings = {"rule": GECO(10.0), "max_step": 0.25, "first_phase": False}
    objective = fed(error, **settings, beta=1.0)
    assert objective.beta.item() == pytest.approx(factor)


@pytest.mark.parametrize(("error", "end"), [(5.0, 0.5), (0.0, 2.0)])
def test_the_weight_stays_in_its_range(error, end):
    settings = {"rule": GECO(1.0), "bounds": (0.5, 2.0), "beta": 1.0, "first_phase": False}
    assert fed(*[error] * 9, **settings).beta == end


def test_a_reset_forgets_everything():
    for settings in ({}, {"first_phase": False}, {"beta": 0.3}):
        objective = fed(0.5, 3.0, 0.1, **settings)
        objective.reset()
        torch.testing.assert_close(objective.state_dict(), fed(**settings).state_dict())


def test_the_state_is_six_numbers_that_can_be_saved():
    objective, other = fed(2.0, 0.5, 0.1, smoothing=0.5), fed(smoothing=0.5)
    other.load_state_dict(objective.state_dict())
    for each in (objective, other):
        each.update(torch.tensor(0.7))
    torch.testing.assert_close(objective.state_dict(), other.state_dict(), rtol=0, atol=0)
    assert {value.shape for value in objective.state_dict().values()} == {()}
    assert len(objective.state_dict()) == 6 and not list(objective.parameters())


OTHER = {
    "kappa": 0.2, "rule": GECO(), "error": "negative_log_likelihood", "beta": 0.5,
    "smoothing": 0.5, "first_phase": False, "inner_steps": 3, "max_step": 0.5,
    "max_violation": 7.0, "bounds": (0.01, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_tells_objectives_with_different_settings_apart(name):
    usual = {"kappa": 0.1}
    changed = Constrained(**(usual | {name: OTHER[name]}))
    assert repr(changed) != repr(Constrained(**usual))
    assert f"{name}={OTHER[name]!r}" in repr(changed)
    assert repr(changed) == repr(Constrained(**(usual | {name: OTHER[name]})))


def test_two_rules_of_one_kind_are_told_apart():
    names = {repr(Constrained(1.0, rule=r)) for r in (ReWO(), ReWO(0.2), ReWO(slope=2.0), GECO())}
    assert len(names) == 4
    assert repr(Constrained(1.0)) == repr(Constrained(1.0, rule=ReWO()))


# What is refused


@pytest.mark.parametrize(
    ("condition", "settings"),
    [("kappa > 0", {"kappa": value}) for value in (0.0, -1.0, math.nan)]
    + [("0 < bounds[0] <= beta <= bounds[1]", {"beta": b}) for b in (0.0, 1e-7, 2e4, math.nan)]
    + [("0 < bounds[0] <= beta <= bounds[1]", {"bounds": b}) for b in ((0.0, 1.0), (0.5, 0.1))]
    + [("0 <= smoothing < 1", {"smoothing": value}) for value in (-0.1, 1.0)]
    + [("whole inner_steps >= 0", {"inner_steps": value}) for value in (-1, 1.5)]
    + [("max_step > 0", {"max_step": 0.0})]
    + [("max_violation > 1", {"max_violation": 1.0})],
    ids=str,
)
def test_settings_out_of_range_are_refused(condition, settings):
    match = re.escape(f"a constrained objective needs {condition}, got kappa=")
    with pytest.raises(ValueError, match=match) as error:
        Constrained(**({"kappa": 1.0} | settings))
    ((name, value),) = settings.items()
    assert f"{name}={value}" in str(error.value)


def test_an_unknown_error_is_refused_with_the_known_ones():
    match = "unknown error 'l1'; choose one of squared_error, negative_log_likelihood"
    with pytest.raises(ValueError, match=match):
        Constrained(1.0, error="l1")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kappa": "0.3"}, "kappa must be a number, got '0.3'"),
        ({"kappa": np.array([0.3, 0.4])}, "kappa must be a number, got array"),
        ({"beta": None}, "beta must be a number, got None"),
        ({"bounds": 3.0}, "bounds must be two numbers, got 3.0"),
        ({"bounds": (1.0, 2.0, 3.0)}, r"bounds must be two numbers, got \(1.0, 2.0, 3.0\)"),
        ({"rule": ReWO}, "rule must be an object such as .*, got <class"),
        ({"rule": "geco"}, "rule must be an object such as .*, got 'geco'"),
    ],
    ids=str,
)
def test_settings_of_another_type_are_refused_by_name(settings, match):
    with pytest.raises(TypeError, match=match):
        Constrained(**({"kappa": 1.0} | settings))


def test_settings_of_numpy_are_those_of_python():
    settings = {"kappa": 0.5, "beta": 0.25, "smoothing": 0.5, "inner_steps": 3}
    given = {name: np.array(value) for name, value in settings.items()}
    made = Constrained(**given, bounds=np.array([0.125, 2.0]))
    assert repr(made) == repr(Constrained(**settings, bounds=(0.125, 2.0)))


def test_in_a_double_loop_the_weight_waits_while_the_prior_has_its_turn():
    objective, moved = fed(inner_steps=2, first_phase=False), []
    for _ in range(6):
        before = objective.beta.item()
        objective.update(torch.tensor(0.5))
        moved.append(objective.beta.item() != before)
    assert moved == [True, True, False, True, True, False]


def test_an_error_far_below_zero_is_held_as_one_far_above_it_is():
    objective = fed(-1e30, max_violation=10.0)
    assert objective.average == -10
