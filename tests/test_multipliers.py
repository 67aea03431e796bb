"""The rules GECO and ReWO: which way the KL weight goes, how far, and where it rests."""

import math

import numpy as np
import pytest
import torch
from linear_gaussian import D

from hvae_course.objectives import Constrained
from hvae_course.objectives.multipliers import GECO, ReWO

WEIGHTS = torch.tensor([1e-6, 0.01, 0.5, 1.0, 1.5, 1e4], dtype=D)
VIOLATIONS = (-1.0, -0.3, 0.0, 0.2, 5.0)


def path(rule: GECO | ReWO, error: float, steps: int, **settings) -> torch.Tensor:
    """KL weight after every step with one and the same error, where an error of 1 is allowed."""
    settings = {"first_phase": False, "smoothing": 0.0} | settings
    objective, weights = Constrained(1.0, rule=rule, **settings).double(), []
    for _ in range(steps):
        objective.update(torch.tensor(error))
        weights.append(objective.beta.clone())
    return torch.stack(weights)


@pytest.mark.equation("eq-geco")
@pytest.mark.parametrize("violation", VIOLATIONS)
def test_geco_follows_the_violation_whatever_the_weight(violation):
    for beta in WEIGHTS:
        step = GECO(0.2)(beta, torch.tensor(violation, dtype=D))
        torch.testing.assert_close(step, torch.tensor(-0.2 * violation, dtype=D))


@pytest.mark.equation("eq-geco")
def test_geco_is_exponentiated_gradient_ascent_in_the_multiplier():
    """One step scales lambda = 1 / beta by exp(rate * derivative), kappa^2 as the unit of C."""
    multiplier = torch.tensor(1 / 0.3, dtype=D, requires_grad=True)
    violation = torch.tensor(0.4, dtype=D)
    (derivative,) = torch.autograd.grad(multiplier * violation, multiplier)
    moved = multiplier.detach() * (0.1 * derivative).exp()
    beta = torch.tensor(0.3, dtype=D)
    torch.testing.assert_close(1 / (beta * GECO(0.1)(beta, violation).exp()), moved)


@pytest.mark.equation("eq-geco")
@pytest.mark.parametrize(("error", "end"), [(0.5, 1e4), (2.0, 1e-6)], ids=["met", "violated"])
def test_geco_has_no_rest_but_the_end_of_its_range(error, end):
    weights = path(GECO(), error, 400)
    factors = weights[1:] / weights[:-1]
    moving = weights[1:] != weights[-1]
    torch.testing.assert_close(factors[moving].log(), (factors[moving] * 0 + 0.1 * (1 - error)))
    assert weights[-1].item() == pytest.approx(end)
    assert moving.sum() > 50


@pytest.mark.equation("eq-rewo")
@pytest.mark.parametrize("violation", VIOLATIONS)
@pytest.mark.parametrize("slope", [0.5, 3.0])
def test_rewo_lowers_the_weight_or_moves_it_to_one(violation, slope):
    for beta in WEIGHTS:
        step = ReWO(0.2, slope)(beta, torch.tensor(violation, dtype=D))
        direction = math.tanh(slope * (beta - 1)) if violation < 0 else -1.0
        expected = torch.tensor(0.2 * violation * direction, dtype=D)
        torch.testing.assert_close(step, expected)


@pytest.mark.equation("eq-rewo")
@pytest.mark.parametrize("start", [1e-6, 0.01, 0.9, 1.1, 30.0, 1e4])
@pytest.mark.parametrize("error", [0.0, 0.5, 0.8])
def test_while_the_constraint_holds_the_weight_moves_to_one_without_passing_it(start, error):
    steps = round(300 / (1 - error))
    distance = (path(ReWO(), error, steps, beta=start) - 1) * (1 if start > 1 else -1)
    assert (distance >= -1e-9).all()
    assert (distance.diff() <= 1e-12).all()
    assert distance[-1] < 1e-6 < 0.5 * abs(start - 1)


@pytest.mark.equation("eq-rewo")
def test_one_is_the_only_weight_at_which_rewo_rests_while_the_constraint_holds():
    violation = torch.tensor(-0.5, dtype=D)
    for beta in WEIGHTS:
        assert (ReWO()(beta, violation) == 0) == (beta == 1)
        assert ReWO()(beta, violation) * (beta - 1) <= 0


@pytest.mark.equation("eq-rewo")
@pytest.mark.parametrize("start", [0.01, 1.0, 1e4])
def test_a_violated_constraint_lowers_any_weight(start):
    weights = path(ReWO(), 1.5, 50, beta=start)
    expected = start * torch.exp(-0.05 * torch.arange(1, 51, dtype=D))
    torch.testing.assert_close(weights, expected)


@pytest.mark.equation("eq-rewo")
def test_near_one_the_distance_shrinks_by_one_factor_in_every_step():
    """Linearised: log beta is multiplied by 1 + rate * slope * delta."""
    distance = path(ReWO(0.1, 3.0), 0.5, 30, beta=1 + 1e-7).log()
    ratio = (distance[1:] / distance[:-1])[:10]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1 - 0.15), rtol=1e-5, atol=0)


@pytest.mark.parametrize("rule", [GECO, ReWO])
def test_the_rate_scales_the_step(rule):
    beta, violation = torch.tensor(0.4, dtype=D), torch.tensor(0.7, dtype=D)
    one, three = rule(0.01)(beta, violation), rule(0.03)(beta, violation)
    torch.testing.assert_close(three, 3 * one)


@pytest.mark.parametrize("rule", [GECO(), ReWO()], ids=repr)
def test_the_weight_does_not_depend_on_the_unit_of_the_error(rule):
    errors = 0.2 + torch.rand(60, generator=torch.Generator().manual_seed(0), dtype=D)
    weights = []
    for unit in (1.0, 100.0, 1e-4):  # pixels, per cent of pixels, hundreds of pixels
        objective = Constrained(unit**0.5, rule=rule).double()
        for error in errors:
            objective.update(unit * error)
        weights.append(objective.beta.clone())
    torch.testing.assert_close(weights[1:], weights[:1] * 2)
    assert weights[0] > 0.02


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan])
def test_settings_that_are_not_positive_are_refused(value):
    for rule in (GECO, ReWO):
        match = f"rate of {rule.__name__} must be positive, got rate={value}"
        with pytest.raises(ValueError, match=match):
            rule(value)
        with pytest.raises(
            TypeError, match=f"rate of {rule.__name__} must be a number, got '0.1'"
        ):
            rule("0.1")
        assert repr(rule(np.float64(0.5))) == repr(rule(torch.tensor(0.5))) == repr(rule(0.5))
    with pytest.raises(ValueError, match=f"slope of ReWO must be positive, got slope={value}"):
        ReWO(slope=value)
