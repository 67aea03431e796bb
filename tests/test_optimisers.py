"""Optimisers: their steps, which gradients they take, and step sizes that fall."""

import math

import pytest
import torch
from steps import (
    after_every_step,
    interrupted_after,
    moving_average,
    same,
    weights,
    weights_at_every_step,
)

from hvae_course.config import Training
from hvae_course.objectives import Constrained, elbo
from hvae_course.training import NoSteps, load_checkpoint, save_checkpoint
from hvae_course.training.optimisers import (
    OPTIMISERS,
    Skipping,
    make_optimiser,
    share_of_rate,
    share_of_step,
)

STEPS = 3  # per epoch: 120 images in batches of 40
AT_ONCE = 10.0  # a constraint that is met from the first step
RATES = {"learning_rate": 1e-2, "prior_learning_rate": 3e-3}
LEARNED = {"latent_sizes": (3,), "prior": "mixture", "prior_options": {"num_components": 5}}
SMOOTH = {"normalisation": "layer"}  # without buffers that move whatever the optimiser does
optimisers = pytest.mark.parametrize("name", OPTIMISERS)


# Steps


@optimisers
def test_the_first_step_has_the_size_of_the_rate_in_every_coordinate(name, make_model, train):
    model, gradients = make_model(**LEARNED, **SMOOTH), []

    def record(optimizer) -> None:
        assert type(optimizer) is OPTIMISERS[name]
        gradients.append([p.grad.clone() for p in model.parameters()])

    before = [p.detach().clone() for p in model.parameters()]
    with after_every_step(record):
        train(model, optimiser=name, batch_size=120, epochs=1, **RATES)
    prior = {id(p) for p in model.prior.parameters()}
    for p, start, gradient in zip(model.parameters(), before, gradients[0], strict=True):
        rate = RATES["prior_learning_rate" if id(p) in prior else "learning_rate"]
        start = start * (1 - 0.01 * rate) if name == "adamw" else start  # its weight decay
        large = gradient.abs() > 1e-4  # far above the epsilon in the divisor
        step = (p.detach() - start)[large]
        torch.testing.assert_close(step, -rate * gradient[large].sign(), rtol=1e-3, atol=1e-7)
        assert large.any()


def test_the_weight_decay_of_adamw_is_decoupled_from_the_gradient(make_model, train):
    """The decayed weights shrink by the rate times the decay, whatever their gradient."""
    settings = {"optimiser": "adamw", "batch_size": 120, "epochs": 1, "learning_rate": 1e-2}
    none, some, usual = (make_model(**SMOOTH) for _ in range(3))
    start = [p.detach().clone() for p in none.parameters()]
    train(none, weight_decay=0.0, **settings)
    train(some, weight_decay=0.3, **settings)
    train(usual, **settings)
    for p, q, r, s in zip(start, *(m.parameters() for m in (none, some, usual)), strict=True):
        torch.testing.assert_close(r.detach(), q.detach() - 1e-2 * 0.3 * p)
        torch.testing.assert_close(s.detach(), q.detach() - 1e-2 * 0.01 * p)


@optimisers
def test_the_constants_of_the_optimiser_are_pytorchs_unless_given(name, make_model):
    group = make_optimiser(model := make_model(), Training(optimiser=name)).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)
    training = Training(optimiser=name, betas=(0.8, 0.9), epsilon=1e-3)
    group = make_optimiser(model, training).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-3)


@pytest.mark.parametrize("betas", [0.9, (0.9, 1.0), (-0.1, 0.9), (0.9, 0.9, 0.9), (0.9, math.nan)])
def test_betas_are_two_decays(betas):
    with pytest.raises(ValueError, match=r"betas are two numbers of at least 0 and below 1, such"):
        Training(betas=betas)


@optimisers
def test_a_run_is_resumed_with_the_state_of_its_optimiser(name, make_model, train, tmp_path):
    whole, resumed = make_model(**LEARNED), make_model(**LEARNED)
    settings = {"optimiser": name, **RATES}
    train(whole, epochs=2, **settings)
    for epochs in (1, 2):
        train(resumed, epochs=epochs, checkpoint=tmp_path / "run.pt", **settings)
    assert same(weights(whole), weights(resumed))


def test_the_prior_has_a_learning_rate_of_its_own(make_model, train):
    model = make_model(**LEARNED)
    training = Training(learning_rate=1.0, prior_learning_rate=2.0)
    groups = make_optimiser(model, training).param_groups
    assert [group["lr"] for group in groups] == [1.0, 2.0]
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in model.prior.parameters()]
    every = {id(p) for group in groups for p in group["params"]}
    assert every == {id(p) for p in model.parameters()}
    same_rate = make_optimiser(model, Training(learning_rate=0.02)).param_groups
    assert [group["lr"] for group in same_rate] == [0.02, 0.02]
    alone = make_optimiser(make_model(), training).param_groups
    assert [group["lr"] for group in alone] == [1.0]


# Gradients that are too long


def norms_of(train, model, **settings) -> list[torch.Tensor]:
    """Norm of the gradient that the optimiser was given, and the gradient, in every step."""
    found = []

    def record(_) -> None:
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]).clone())

    with after_every_step(record):
        train(model, **settings)
    return found


def test_a_gradient_that_is_too_long_is_scaled_down_and_others_are_left_alone(make_model, train):
    free, clipped, loose = (
        norms_of(train, make_model(), clip_norm=limit, epochs=1) for limit in (None, 0.5, 1e6)
    )
    assert all(gradient.norm() > 1 for gradient in free)
    assert all(gradient.norm() <= 0.5 * (1 + 1e-6) for gradient in clipped)
    torch.testing.assert_close(clipped[0], free[0] * 0.5 / free[0].norm())
    assert all(map(torch.equal, free, loose))


def spoilt_in_step(number: int, factor: float):
    """The ELBO, whose gradient is spoilt in one step of training; its value stays finite."""
    steps = []

    def bound(trace, x):
        value = elbo(trace, x)
        if torch.is_grad_enabled():
            steps.append(x)
            if len(steps) == number:
                value.register_hook(lambda gradient: gradient * factor)
        return value

    return bound


@pytest.mark.parametrize("factor", [1e12, math.inf, math.nan])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_spoilt_gradient_is_skipped_by_weights_and_average(factor, clip_norm, make_model, train):
    model = make_model(**SMOOTH)
    settings = {"averaging": 0.6, "epochs": 1, "skip_norm": 1e6, "clip_norm": clip_norm}
    objective = spoilt_in_step(STEPS, factor)
    seen, _ = weights_at_every_step(train, model, objective=objective, **settings)
    assert len(seen) == STEPS  # at the start, and after all but the last
    assert not same(seen[0], seen[1]) and not same(seen[1], seen[2])
    for name, value in weights(model).items():
        torch.testing.assert_close(value, moving_average([s[name] for s in seen], 0.6))


def test_without_a_limit_every_step_is_taken(make_model, train):
    for settings in ({}, {"skip_norm": 1e6}):
        seen, _ = weights_at_every_step(train, make_model(), epochs=1, **settings)
        assert len(seen) == STEPS + 1
    objective = spoilt_in_step(STEPS, math.nan)
    with pytest.raises(FloatingPointError, match="no longer finite in epoch 1"):
        train(make_model(), objective=objective, epochs=1)


# Skipping that ends


def scaled_by_step(factors: list[float]):
    """The ELBO, whose gradient is multiplied by a factor in every step of training."""
    left = list(factors)

    def bound(trace, x):
        value = elbo(trace, x)
        if torch.is_grad_enabled():
            factor = left.pop(0)
            value.register_hook(lambda gradient: gradient * factor)
        return value

    return bound


def taken(norms: list[float], **settings) -> list[bool]:
    skipping = Skipping(Training(**settings))
    return [skipping.takes(torch.tensor(norm)) for norm in norms]


@pytest.mark.equation("eq-skip")
@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        ([1, 4, 1, 4, 4, 1], [1, 0, 1, 0, 0, 1]),  # spikes
        ([3.0, 3.1], [1, 0]),  # the limit itself is short enough
        ([4] * 7, [0, 0, 0, 1, 1, 1, 1]),  # too long for ever
        ([4] * 5 + [1, 4, 4, 4, 4], [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]),  # and again
        ([4, 4, 1, 4, 4, 4, 4], [0, 0, 1, 0, 0, 0, 1]),  # counted from the last short one
        ([4, 4, math.nan, 4, 4, math.inf, 4], [0, 0, 0, 0, 1, 0, 1]),  # NaN never, nor counted
        ([math.nan] * 3 + [1] + [math.inf] * 3, [0, 0, 0, 1, 0, 0, 0]),
    ],
)
def test_steps_are_skipped_until_too_many_in_a_row_are_too_long(norms, expected):
    assert taken(norms, skip_norm=3.0, skip_limit=3) == [*map(bool, expected)]


def test_without_a_skip_norm_the_norm_is_not_looked_at():
    assert all(taken([1.0, math.inf, math.nan], skip_limit=1)) and Skipping(Training()).takes(None)


def test_a_gradient_that_overflows_in_half_precision_is_not_counted_until_the_scale_is_one():
    """The scale falls from 8 to 1 in three steps; three more may be skipped, and a seventh not."""
    skipping = Skipping(Training(skip_norm=3.0, skip_limit=3))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    weight = torch.ones(1, requires_grad=True)
    optimiser = torch.optim.SGD([weight])
    scales = []
    for _ in range(6):
        optimiser.zero_grad()
        scaler.scale(weight.sum() * math.inf).backward()
        scaler.unscale_(optimiser)
        scales.append(scaler.get_scale())
        assert not skipping.takes(weight.grad.norm(), scaler=scaler)
        scaler.update()
    assert scales == [8, 4, 2, 1, 0.5, 0.25] and skipping.not_finite == 3
    with pytest.raises(FloatingPointError, match="of 4 steps in a row are not finite"):
        skipping.takes(torch.tensor(math.nan), scaler=scaler)


def test_too_many_gradients_that_are_not_finite_end_the_training(make_model, train):
    with pytest.raises(FloatingPointError, match=r"of 4 steps in a row are not finite.*limit=3"):
        taken([math.nan, math.inf, math.nan, math.inf], skip_norm=3.0, skip_limit=3)
    model = make_model(**SMOOTH)
    before, broken = weights(model), scaled_by_step([math.nan] * 6)
    with (
        pytest.warns(NoSteps, match="no weight changed: none of the gradients is finite; lower"),
        pytest.raises(FloatingPointError, match=r"of 4 steps in a row are not finite, more than"),
    ):
        train(model, objective=broken, epochs=2, skip_norm=1e6, skip_limit=3)
    assert same(weights(model), before)


@pytest.mark.equation("eq-skip")
@pytest.mark.parametrize(("clip_norm", "length"), [(None, 2.0), (0.5, 0.5), (7.0, 2.0)])
def test_a_gradient_that_is_too_long_for_ever_is_scaled_down(clip_norm, length, make_model, train):
    """The reported fault: a threshold just below the usual norm, and no step is ever taken."""
    settings = {"skip_norm": 2.0, "clip_norm": clip_norm, "epochs": 4, "skip_limit": 5}
    with pytest.warns(NoSteps) as caught:
        found = norms_of(train, make_model(**SMOOTH), **settings)
    assert len(found) == 4 * STEPS - 5
    lengths = torch.stack([gradient.norm() for gradient in found])
    torch.testing.assert_close(lengths, torch.full_like(lengths, length), rtol=1e-5, atol=0)
    texts = [str(warning.message) for warning in caught]
    assert "skip_norm=2 skipped all 3 steps of an epoch, so that no weight changed" in texts[0]
    assert "skipped 2 steps of an epoch and scaled the gradients of 1 down: the small" in texts[1]
    assert "skipped 0 steps of an epoch and scaled the gradients of 3 down" in texts[2]


def test_the_moving_average_follows_the_steps_that_are_taken_after_all(make_model, train):
    model = make_model(**SMOOTH)
    settings = {"averaging": 0.6, "epochs": 2, "skip_norm": 2.0, "skip_limit": 4}
    with pytest.warns(NoSteps):
        seen, history = weights_at_every_step(train, model, **settings)
    assert len(seen) == 1 + 2 * STEPS - 4 and history.best_epoch == 2
    for name, value in weights(model).items():
        torch.testing.assert_close(value, moving_average([s[name] for s in seen], 0.6))


@pytest.mark.filterwarnings("ignore::hvae_course.training.NoSteps")
def test_a_resumed_run_counts_the_skipped_steps_of_the_epochs_before(make_model, train, tmp_path):
    """Five skips in a row: three of them before the interruption and two after it."""
    settings = {"skip_norm": 2.0, "skip_limit": 5, "epochs": 3, "averaging": 0.5}
    whole, path = make_model(**SMOOTH), tmp_path / "whole.pt"
    train(whole, checkpoint=path, **settings)
    settings["checkpoint"] = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(make_model(**SMOOTH), after_epoch=interrupted_after(1), **settings)
    assert load_checkpoint(settings["checkpoint"]).run["skipping"]["skipped"] == 3
    resumed = make_model(**SMOOTH)
    assert len(norms_of(train, resumed, **settings)) == 2 * STEPS - 2
    assert same(weights(whole), weights(resumed))
    kept = []
    for file in (path, settings["checkpoint"]):
        run = load_checkpoint(file).run
        kept.append([run["weights"], run["average"], run["optimizer"]["state"], run["skipping"]])
    torch.testing.assert_close(kept[0], kept[1], rtol=0, atol=0)


def test_a_checkpoint_without_the_count_is_resumed(make_model, train, tmp_path):
    path = tmp_path / "run.pt"
    train(make_model(), epochs=1, checkpoint=path)
    checkpoint = load_checkpoint(path)
    del checkpoint.run["skipping"]
    for name in ("skip_limit", "betas", "epsilon", "rate_warm_up"):
        del checkpoint.run["settings"][name]
    save_checkpoint(checkpoint, path)
    assert len(train(make_model(), epochs=2, checkpoint=path).frame["epoch"].unique()) == 2


# Step sizes that rise


def test_the_share_of_a_step_rises_on_a_line_to_one():
    training = Training(rate_warm_up=4)
    assert [share_of_step(n, training) for n in range(1, 7)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert share_of_step(1, Training()) == 1


def every_rate(train, model, **settings) -> list[list[float]]:
    """Learning rate of every parameter group in every step."""
    rates = []
    with after_every_step(lambda o: rates.append([group["lr"] for group in o.param_groups])):
        train(model, **settings)
    return rates


def test_both_rates_rise_over_the_first_steps_also_when_it_is_resumed(make_model, train, tmp_path):
    settings = {"rate_warm_up": 5, "decay": 1.0, "epochs": 3, **RATES}
    rise = [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    fall = [0.75] * STEPS + [0.5] * STEPS + [0.25] * STEPS
    shares = [a * b for a, b in zip(rise, fall, strict=True)]
    expected = [pytest.approx([1e-2 * share, 3e-3 * share]) for share in shares]
    assert every_rate(train, whole := make_model(**LEARNED), **settings) == expected
    settings["checkpoint"] = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(make_model(**LEARNED), after_epoch=interrupted_after(1), **settings)
    resumed = make_model(**LEARNED)
    assert every_rate(train, resumed, **settings) == expected[STEPS:]
    assert same(weights(whole), weights(resumed))


def test_the_first_step_of_a_warm_up_is_a_share_of_the_step_without(make_model, train):
    settings = {"batch_size": 120, "epochs": 1, "learning_rate": 1e-2}
    start, full, small = (make_model(**SMOOTH) for _ in range(3))
    train(full, **settings)
    train(small, rate_warm_up=100, **settings)
    for p, q, r in zip(*(m.parameters() for m in (start, full, small)), strict=True):
        torch.testing.assert_close(r - p, (q - p) / 100, rtol=1e-3, atol=1e-7)


# Step sizes that fall


def rates_of(train, model, **settings) -> list[list[float]]:
    """Learning rate of every parameter group in every epoch."""
    rates = []
    with after_every_step(lambda o: rates.append([group["lr"] for group in o.param_groups])):
        train(model, **settings)
    assert rates[::STEPS] == rates[1::STEPS] == rates[2::STEPS]
    return rates[::STEPS]


@pytest.mark.parametrize(
    ("decay", "shape", "expected"),
    [
        (0.0, "linear", [1.0] * 5),
        (0.4, "linear", [1, 1, 1, 2 / 3, 1 / 3]),
        (1.0, "linear", [n / 6 for n in (5, 4, 3, 2, 1)]),
        (0.4, "cosine", [1, 1, 1, 0.75, 0.25]),
        (1.0, "cosine", [(1 + math.cos(math.pi * n / 6)) / 2 for n in (1, 2, 3, 4, 5)]),
    ],
)
def test_both_rates_fall_at_the_end_on_a_line_or_on_a_cosine(decay, shape, expected):
    training = Training(epochs=5, decay=decay, decay_shape=shape)
    assert [share_of_rate(n, training) for n in range(1, 6)] == pytest.approx(expected)


def test_training_follows_the_falling_rates_also_when_it_is_resumed(make_model, train, tmp_path):
    settings = {"decay": 1.0, "epochs": 4, **RATES}
    expected = [pytest.approx([1e-2 * n / 5, 3e-3 * n / 5]) for n in (4, 3, 2, 1)]
    assert rates_of(train, make_model(**LEARNED), **settings) == expected
    settings["checkpoint"] = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(make_model(**LEARNED), after_epoch=interrupted_after(2), **settings)
    assert rates_of(train, make_model(**LEARNED), **settings) == expected[2:]


def test_a_run_with_another_course_is_not_resumed(make_model, train, tmp_path):
    settings = {"decay": 0.5, "epochs": 1, "checkpoint": tmp_path / "run.pt"}
    settings["objective"] = Constrained(AT_ONCE)
    train(make_model(**LEARNED), **settings)
    for change, text in (
        ({"epochs": 3}, "decays_until was 1 and is 3"),
        ({"decay": 0.25}, "decay was 0.5 and is 0.25"),
        ({"decay_shape": "cosine"}, "decay_shape was 'linear' and is 'cosine'"),
        ({"averaging": 0.9}, "averaging was 0.0 and is 0.9"),
        ({"optimiser": "adamax"}, "optimiser was 'adam' and is 'adamax'"),
        ({"clip_norm": 1}, "clip_norm was None and is 1.0"),
        ({"skip_norm": 1}, "skip_norm was None and is 1.0"),
        ({"skip_limit": 3}, "skip_limit was 10 and is 3"),
        ({"betas": (0.9, 0.9)}, "betas was None and is [0.9, 0.9]"),
        ({"epsilon": 1e-3}, "epsilon was None and is 0.001"),
        ({"rate_warm_up": 5}, "rate_warm_up was 0 and is 5"),
        ({"prior_learning_rate": 0.01}, "prior_learning_rate was 0.001 and is 0.01"),
        ({"objective": Constrained(AT_ONCE, smoothing=0.5)}, "objective was"),
    ):
        with pytest.raises(ValueError, match="belongs to a run with other settings") as error:
            train(make_model(**LEARNED), **settings | change)
        assert text in str(error.value)
