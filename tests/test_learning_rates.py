"""Learning rates: one of its own for the prior, and a line down at the end of a run."""

import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from hvae_course.objectives import Constrained, elbo
from hvae_course.training.phases import parameter_groups

STEPS = 3  # per epoch: 120 images in batches of 40
AT_ONCE = 10.0  # a constraint that is met from the first step
RATES = {"learning_rate": 1e-2, "prior_learning_rate": 3e-3}
LEARNED = {"latent_sizes": (3,), "prior": "mixture", "prior_options": {"num_components": 5}}


def rates_of(train, model, **settings) -> list[list[float]]:
    """Learning rate of every parameter group in the first step of every epoch."""
    rates = []

    def record(optimizer, args, kwargs) -> None:
        rates.append([group["lr"] for group in optimizer.param_groups])

    handle = register_optimizer_step_pre_hook(record)
    try:
        train(model, **settings)
    finally:
        handle.remove()
    return rates[::STEPS]


def test_the_prior_has_a_learning_rate_of_its_own(make_model, train):
    model = make_model(**LEARNED)
    groups = parameter_groups(model, learning_rate=1.0, prior_learning_rate=2.0)
    assert [group["lr"] for group in groups] == [1.0, 2.0]
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in model.prior.parameters()]
    every = {id(p) for group in groups for p in group["params"]}
    assert every == {id(p) for p in model.parameters()}
    assert rates_of(train, model, **RATES) == [[1e-2, 3e-3]] * 2
    assert rates_of(train, make_model(**LEARNED), learning_rate=0.02) == [[0.02, 0.02]] * 2
    assert rates_of(train, make_model(), **RATES) == [[1e-2]] * 2


@pytest.mark.parametrize(
    ("decay", "shares"),
    [
        (0.0, [1.0] * 5),
        (0.4, [1, 1, 1, 1, 2 / 3, 1 / 3][1:]),
        (1.0, [n / 6 for n in (5, 4, 3, 2, 1)]),
    ],
)
def test_both_learning_rates_fall_on_a_line_at_the_end(decay, shares, make_model, train):
    rates = rates_of(train, make_model(**LEARNED), decay=decay, epochs=5, **RATES)
    expected = [[1e-2 * share, 3e-3 * share] for share in shares]
    assert rates == [pytest.approx(pair) for pair in expected]


def test_a_cosine_is_half_way_down_where_the_line_is(make_model, train):
    rates = rates_of(train, make_model(), decay=1.0, decay_shape="cosine", epochs=5)
    expected = [1e-3 * (1 + math.cos(math.pi * n / 6)) / 2 for n in (1, 2, 3, 4, 5)]
    assert [rate for (rate,) in rates] == pytest.approx(expected)
    assert rates[2] == pytest.approx([5e-4])
    late = rates_of(train, make_model(), decay=0.4, decay_shape="cosine", epochs=5)
    assert [rate for (rate,) in late] == pytest.approx([1e-3] * 3 + [7.5e-4, 2.5e-4])


def test_an_unknown_way_to_fall_is_refused(make_model, train):
    with pytest.raises(ValueError, match="unknown decay_shape 'step'; choose one of linear, cos"):
        train(make_model(), decay_shape="step")


def interrupted_after(epochs: int):
    """The ELBO, until a number of epochs have been validated."""
    calls = []

    def bound(trace, x):
        calls.extend([] if torch.is_grad_enabled() else [1])
        if len(calls) > epochs:
            raise KeyboardInterrupt
        return elbo(trace, x)

    return bound


def test_a_resumed_run_falls_on_the_same_line(make_model, train, tmp_path):
    settings = {"decay": 1.0, "epochs": 4, "checkpoint": tmp_path / "run.pt"}
    with pytest.raises(KeyboardInterrupt):
        train(make_model(**LEARNED), objective=interrupted_after(2), **settings)
    model = make_model(**LEARNED)
    rates = rates_of(train, model, objective=interrupted_after(2), **settings)
    assert rates == [pytest.approx([1e-3 * n / 5] * 2) for n in (2, 1)]


@pytest.mark.parametrize("name", ["learning_rate", "prior_learning_rate"])
@pytest.mark.parametrize("rate", [0, 0.0, -1.0, math.nan])
def test_a_learning_rate_that_is_not_positive_is_refused(name, rate, make_model, train):
    with pytest.raises(ValueError, match=f"^{name} must be positive, got {rate}"):
        train(make_model(**LEARNED), **{name: rate})


@pytest.mark.parametrize("decay", [-0.1, 1.1, math.nan])
def test_a_decay_that_is_no_share_is_refused(decay, make_model, train):
    with pytest.raises(ValueError, match=rf"decay is a share .* in \[0, 1\], got {decay}"):
        train(make_model(**LEARNED), decay=decay)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 3}, "decays_until was 2 and is 3"),
        ({"decay": 0.25}, "decay was 0.5 and is 0.25"),
        ({"decay_shape": "cosine"}, "decay_shape was 'linear' and is 'cosine'"),
        ({"averaging": 0.9}, "averaging was 0.0 and is 0.9"),
        ({"prior_learning_rate": 0.01}, "prior_learning_rate was 0.001 and is 0.01"),
        ({"objective": Constrained(AT_ONCE, smoothing=0.5)}, "objective was"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_with_another_course_is_not_resumed(change, text, make_model, train, tmp_path):
    settings = {"decay": 0.5, "epochs": 2, "checkpoint": tmp_path / "run.pt"}
    settings["objective"] = Constrained(AT_ONCE)
    train(make_model(**LEARNED), **settings)
    with pytest.raises(ValueError, match="belongs to a run with other settings") as error:
        train(make_model(**LEARNED), **(settings | change))
    assert text in str(error.value)
