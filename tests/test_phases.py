"""Training under a constraint: phases, the double loop, and a state that a run can resume from."""

import copy
import math
import warnings

import pandas as pd
import pytest
import torch
from steps import after_every_step
from torch import nn
from waits import Waits

from hvae_course.config import Training
from hvae_course.objectives import GECO, Constrained, elbo
from hvae_course.training import ConstraintNeverMet
from hvae_course.training.optimisers import make_optimiser

NEVER, AT_ONCE = 0.1, 10.0  # kappa; the digits start with an error of about 0.2
STEPS = 3  # per epoch: 120 images in batches of 40
RATES = {"learning_rate": 1e-2, "prior_learning_rate": 3e-3}
priors = pytest.mark.parametrize("prior", ["mixture", "vhp"])


@pytest.fixture
def learned(make_model):
    """A model of one level whose prior can learn."""

    def make(prior: str = "mixture", seed: int = 0, **settings):
        options = {"mixture": {"num_components": 5}, "vhp": {"hidden": (6,), "num_samples": 2}}
        settings = {"latent_sizes": (3,), "normalisation": "none"} | settings
        return make_model(prior=prior, prior_options=options[prior], seed=seed, **settings)

    return make


def parts(model: nn.Module) -> tuple[list, list]:
    """Copies of the prior's parameters and of all others."""
    prior = [p.detach().clone() for p in model.prior.parameters()]
    rest = [p.detach().clone() for n, p in model.named_parameters() if not n.startswith("prior")]
    return prior, rest


def same(a: list, b: list) -> bool:
    return all(map(torch.equal, a, b))


@pytest.fixture
def steps(train):
    """Train, and give the prior's and the other parameters before the first and after every step.

    The second result is the same for the moving average and whether the phase is over, after.
    """

    def run(model, objective, **settings):
        recorded, states = [parts(model)], []

        def record(_) -> None:
            recorded.append(parts(model))
            state = getattr(objective, "average", None), getattr(objective, "released", None)
            states.append(tuple(None if value is None else value.item() for value in state))

        with after_every_step(record):
            train(model, objective=objective, **settings)
        return recorded, states

    return run


def moved(recorded: list) -> list[tuple[bool, bool]]:
    """Whether the prior and whether the rest moved, in every step."""
    pairs = zip(recorded, recorded[1:], strict=False)
    return [(not same(a[0], b[0]), not same(a[1], b[1])) for a, b in pairs]


def quiet(call, *args, **settings):
    """Call without the warning that the constraint was never met."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNeverMet)
        return call(*args, **settings)


@pytest.fixture
def kappa_after(learned, steps):
    """A kappa that the constraint is met for the first time in exactly that step."""

    def find(step: int, prior: str = "mixture", inner_steps: int = 0) -> float:
        objective = Constrained(NEVER, smoothing=0.5, inner_steps=inner_steps)
        _, states = quiet(steps, learned(prior), objective, epochs=-(-step // STEPS), **RATES)
        averages = [average for average, _ in states]
        earlier, now = min(averages[: step - 1]), averages[step - 1]
        assert now < earlier
        return math.sqrt((now + earlier) / 2)

    return find


# The first phase


@priors
@pytest.mark.parametrize("inner_steps", [0, 2])
def test_in_the_first_phase_the_prior_does_not_move_and_the_rest_does(
    prior, inner_steps, learned, steps
):
    objective = Constrained(NEVER, inner_steps=inner_steps)
    recorded, states = quiet(steps, learned(prior), objective, **RATES)
    assert len(states) == 2 * STEPS and not any(over for _, over in states)
    outer = [inner_steps > 0 and n % 3 == 2 for n in range(2 * STEPS)]
    assert moved(recorded) == [(False, not turn) for turn in outer]
    assert objective.beta.item() == pytest.approx(0.01)


@priors
def test_the_first_step_of_the_prior_is_that_of_a_fresh_optimiser(
    prior, learned, steps, kappa_after
):
    """Adam's first step has the size of the learning rate in every coordinate."""
    objective = Constrained(kappa_after(11, prior), smoothing=0.5)
    recorded, states = steps(learned(prior), objective, epochs=4, **RATES)
    assert [over for _, over in states] == [0.0] * 10 + [1.0] * 2
    assert moved(recorded) == [(False, True)] * 10 + [(True, True)] * 2
    change = [(a - b).abs() for a, b in zip(recorded[11][0], recorded[10][0], strict=True)]
    change = torch.cat([c.flatten() for c in change])
    assert (change < 1.001 * RATES["prior_learning_rate"]).all()
    assert change.median().item() == pytest.approx(RATES["prior_learning_rate"], rel=1e-3)
    rest = [(a - b).abs().max() for a, b in zip(recorded[12][1], recorded[11][1], strict=True)]
    assert max(rest) > 1.5 * RATES["prior_learning_rate"]


def test_after_or_without_a_first_phase_and_with_other_objectives_everything_moves(learned, steps):
    no_phase = Constrained(NEVER, first_phase=False)
    for objective in (no_phase, Constrained(AT_ONCE), elbo):
        recorded, _ = quiet(steps, learned(), objective, epochs=1)
        assert moved(recorded) == [(True, True)] * STEPS


def test_the_double_loop_moves_the_prior_alone_and_then_the_rest_alone(learned, steps):
    objective, model = Constrained(AT_ONCE, inner_steps=2), learned()
    recorded, _ = steps(model, objective, epochs=3)
    assert moved(recorded) == [(n % 3 == 2, n % 3 != 2) for n in range(9)]
    recorded, _ = steps(model, elbo, epochs=1)  # nothing is left of it
    assert moved(recorded) == [(True, True)] * STEPS


@pytest.mark.parametrize("kappa", [NEVER, AT_ONCE])
@pytest.mark.parametrize("inner_steps", [0, 1])
def test_neither_phase_nor_price_waits_for_the_device(kappa, inner_steps, learned, train):
    counts = []
    for batch_size in (10, 40):  # twelve steps, and three
        objective = Constrained(kappa, inner_steps=inner_steps)
        with Waits() as waits:
            settings = {"objective": objective, "batch_size": batch_size, "epochs": 1}
            quiet(train, learned("vhp"), **settings)
        counts.append(waits.count)
    assert counts[0] == counts[1] and counts[0].total() > 0


def test_nothing_is_held_back_after_the_block(learned):
    model = learned()
    optimizer, prior = make_optimiser(model, Training()), list(model.prior.parameters())

    def step() -> bool:
        """Whether a step moves the prior."""
        before = parts(model)[0]
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        return not same(parts(model)[0], before)

    with pytest.raises(KeyError), Constrained(NEVER).holding_back(optimizer, prior):
        assert not step()
        raise KeyError
    assert step()


# What a fit does with the state


@pytest.mark.parametrize("inner_steps", [0, 1])
@pytest.mark.parametrize("phase", ["first", "between", "second"])
def test_a_resumed_run_is_the_one_that_was_not_interrupted(
    phase, inner_steps, learned, train, kappa_after, tmp_path
):
    """Bit for bit, also if a file is read in the first phase and the second begins after it."""
    kappa = {"first": NEVER, "second": AT_ONCE}.get(phase) or kappa_after(
        11, "mixture", inner_steps
    )
    results, file = [], {"checkpoint": tmp_path / "run.pt"}
    for interruptions in ((4,), (3, 4)):  # the second is read in the middle of a double loop
        for n, epochs in enumerate(interruptions):  # a new process has new ones
            model = learned(seed=n)
            objective = Constrained(kappa, smoothing=0.5, inner_steps=inner_steps)
            settings = {"epochs": epochs, **RATES, **(file if len(interruptions) > 1 else {})}
            history = quiet(train, model, objective=objective, **settings)
        results.append((model.state_dict(), objective.state_dict(), history))
    (weights, state, history), (weights_2, state_2, history_2) = results
    torch.testing.assert_close((weights, state), (weights_2, state_2), rtol=0, atol=0)
    pd.testing.assert_frame_equal(history.frame, history_2.frame, check_exact=True)
    assert history.best_epoch == history_2.best_epoch
    assert state["released"] == (phase != "first") and state["steps"] == 4 * STEPS


def test_every_fit_starts_the_state_afresh(learned, train):
    objective, results = Constrained(AT_ONCE), []
    for _ in range(2):
        history = train(model := learned(), objective=objective)
        results.append((model.state_dict(), copy.deepcopy(objective.state_dict()), history.rows))
    torch.testing.assert_close(results[0][:2], results[1][:2], rtol=0, atol=0)
    assert str(results[0][2]) == str(results[1][2])
    assert objective.steps == 2 * STEPS and not objective.training


def test_the_history_holds_the_price_and_the_error_of_every_epoch(learned, train):
    objective = Constrained(AT_ONCE)
    frame = train(learned(), objective=objective, epochs=3).frame
    for name in ("beta", "error"):
        rows = frame.query("quantity == @name")
        assert rows["epoch"].tolist() == [1, 2, 3] and set(rows["split"]) == {"train"}
        assert rows["value"].iloc[-1] == objective.report()[name]
    assert frame.query("quantity == 'beta'")["value"].is_monotonic_increasing


def test_training_follows_the_price_and_validation_the_elbo(learned, train):
    history = quiet(train, learned(), objective=Constrained(NEVER, beta=0.25))
    information = history.last("information", level=1)
    assert information > 1
    expected = history.last("reconstruction") - 0.25 * information
    assert history.last("objective") == pytest.approx(expected, rel=1e-5)
    assert history.last("objective", "validation") == history.last("elbo", "validation")


@pytest.mark.parametrize("prior", ["mixture", "standard"])
def test_a_constraint_that_is_never_met_is_reported(prior, learned, make_model, train):
    model = learned() if prior == "mixture" else make_model()
    objective = Constrained(NEVER)
    match = (
        r"never met in 6 steps: the smallest moving average of the squared_error is 0\.\d+, the "
        r"largest allowed is 0\.01; the prior has not been trained\. Raise kappa, train longer"
    )
    with pytest.warns(ConstraintNeverMet, match=match) as caught:
        train(model, objective=objective)
    assert caught[0].filename.endswith("conftest.py")  # where fit is called
    assert f"{objective.best.item():.3g}" in str(caught[0].message)


def test_without_a_first_phase_the_report_does_not_say_that_the_prior_was_left_out(learned, train):
    objective = Constrained(NEVER, first_phase=False, error="negative_log_likelihood")
    with pytest.warns(ConstraintNeverMet, match=r"negative_log_likelihood is .*0\.01\. Raise"):
        train(learned(), objective=objective)


def test_a_constraint_that_was_met_once_is_not_reported(learned, train):
    """Also if it is violated in the end; warnings are errors in all tests."""
    objective = Constrained(AT_ONCE, rule=GECO(5.0), max_step=5.0)
    train(learned(), objective=objective)
    assert objective.met


class NeverBetter(Constrained):
    """Its validation is the same in every epoch, so that the first is the best."""

    def forward(self, trace, x):
        value = super().forward(trace, x)
        return value if self.training else torch.zeros_like(value)


def test_patience_waits_for_the_end_of_the_first_phase(learned, train, kappa_after):
    for kappa, last in ((NEVER, 12), (kappa_after(11), 6), (AT_ONCE, 3)):  # 11 is in epoch 4
        objective = NeverBetter(kappa, smoothing=0.5)
        settings = {"epochs": 12, "patience": 2, **RATES}
        history = quiet(train, learned(), objective=objective, **settings)
        assert (history.best_epoch, history.frame["epoch"].max()) == (1, last)
