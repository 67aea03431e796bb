"""What `fit` says instead of being silent: about objectives, data, accelerators and callbacks."""

import copy
import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from steps import same, weights
from torch import Tensor

import hvae_course
from hvae_course import Trace, check_data, evaluate, fit
from hvae_course.config import Machine, Training
from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.machine import make_accelerator, using
from hvae_course.objectives import (
    Constrained,
    FreeBits,
    Objective,
    WarmUp,
    Weighted,
    as_objective,
    elbo,
    importance_weighted,
)
from hvae_course.training import (
    BoundFalls,
    CannotResume,
    FewExamples,
    History,
    NoSteps,
    NotCompared,
    load_checkpoint,
    save_checkpoint,
)
from hvae_course.training.guards import warn_if_bound_falls

# What an objective returns

RETURNED = {
    "one value per pixel": (
        lambda t, x: -((x - t.px.mean[::2]) ** 2),
        r"one value per example, shape \(40,\), got the shape \(40, 64\); sum over all axes",
    ),
    "one value per level": (
        lambda t, x: torch.stack([l.information[::2] for l in t.levels], dim=1),
        r"got the shape \(40, 2\); sum over all axes",
    ),
    "one value per draw": (
        lambda t, x: t.log_weight(x),
        r"got the shape \(80,\); average over the 2 draws, value\.unflatten\(0, \(-1, 2\)\)",
    ),
    "their mean": (
        lambda t, x: t.log_weight(x).mean(),
        r"got the shape \(\); do not take the mean over the batch",
    ),
    "the batch": (lambda t, x: x, r"got the shape \(40, 64\)"),
    "nothing": (lambda t, x: None, "returns a tensor of floating-point numbers.*got NoneType"),
    "a number": (lambda t, x: 1.5, "got float"),
    "an array": (lambda t, x: np.zeros(len(x)), "got ndarray"),
    "whole numbers": (lambda t, x: torch.zeros(len(x), dtype=torch.long), "a tensor of torch.int"),
    "no gradient": (lambda t, x: elbo(t, x).detach(), "no gradient with respect to the weights"),
    "a constant": (lambda t, x: torch.zeros(len(x)), "no gradient with respect to the weights"),
}


@pytest.mark.parametrize("case", RETURNED)
def test_what_is_no_value_per_example_is_refused_in_the_first_step(case, make_model, train):
    objective, message = RETURNED[case]
    model = make_model()
    before = weights(model)
    with pytest.raises((TypeError, ValueError), match=message):
        train(model, objective=objective, num_samples=2)
    assert same(weights(model), before)


class LearnedWeight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, trace: Trace, x: Tensor) -> Tensor:
        return self.weight * elbo(trace, x)


class Holding(Objective):
    def __init__(self, part: LearnedWeight) -> None:
        self.part = part

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        return self.part(trace, x)


@pytest.mark.parametrize("how", ["module", "attribute", "closure"])
def test_parameters_that_no_optimiser_would_move_are_refused(how, make_model, train):
    part = LearnedWeight()
    ways = {"module": part, "attribute": Holding(part), "closure": lambda t, x: part(t, x)}
    model = make_model()
    before = weights(model)
    with pytest.raises(ValueError, match=r"parameters of its own, one of the shape \(\), and fit"):
        train(model, objective=ways[how])
    assert same(weights(model), before)
    part.requires_grad_(False)
    train(model, objective=ways[how])


def test_the_importance_weighted_bound_of_one_draw_is_refused(make_model, train):
    with pytest.raises(ValueError, match="importance-weighted bound with num_samples=1 is the EL"):
        train(make_model(), objective=importance_weighted)


class Seen(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen = torch.nn.Dropout().eval()
        self.modes = set()

    def forward(self, trace: Trace, x: Tensor) -> Tensor:
        self.modes.add((torch.is_grad_enabled(), self.training, self.frozen.training))
        return elbo(trace, x)

    def named(self, trace: Trace, x: Tensor) -> Tensor:
        return self(trace, x)


class SeenObjective(Objective, Seen):
    __call__ = Seen.forward


@pytest.mark.parametrize("how", ["module", "method"])
def test_a_module_as_objective_validates_in_evaluation_mode(how, make_model, train):
    module = Seen()
    train(make_model(), objective=module if how == "module" else module.named)
    assert module.modes == {(True, True, False), (False, False, False)}
    assert module.training and not module.frozen.training  # as they were


def test_an_objective_that_is_also_a_module_is_switched_as_a_whole(make_model, train):
    objective = SeenObjective()
    train(make_model(), objective=objective)
    assert objective.modes == {(True, True, True), (False, False, False)}


def test_validation_may_return_values_without_gradients(make_model, train):
    def objective(trace: Trace, x: Tensor) -> Tensor:
        return elbo(trace, x) if torch.is_grad_enabled() else torch.zeros(len(x))

    assert train(make_model(), objective=objective).last("objective", "validation") == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_objective_that_is_not_finite_at_the_start_is_named_before_a_weight_changes(
    value, make_model, train
):
    model = make_model()
    before = weights(model)
    with pytest.raises(FloatingPointError, match=f"{value} in the first step, before any weight"):
        train(model, objective=lambda t, x: elbo(t, x) + value)
    assert same(weights(model), before)


# Its sign


def loss(trace: Trace, x: Tensor) -> Tensor:
    return -elbo(trace, x)


def plus_kl(trace: Trace, x: Tensor) -> Tensor:
    return trace.log_px(x) + sum(level.information for level in trace.levels)


def minus_reconstruction(trace: Trace, x: Tensor) -> Tensor:
    return -trace.log_px(x) - sum(level.information for level in trace.levels)


class Loss(Objective):
    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        return -elbo(trace, x)


def beta_elbo(trace: Trace, x: Tensor, beta: float) -> Tensor:
    return trace.log_px(x) - beta * sum(level.information for level in trace.levels)


@pytest.mark.parametrize("objective", [loss, plus_kl, Loss()], ids=["loss", "plus KL", "class"])
@pytest.mark.parametrize("epochs", [2, 5])
def test_a_bound_that_falls_while_it_is_maximised_names_the_sign(
    objective, epochs, make_model, train
):
    settings = {"epochs": epochs, "learning_rate": 1e-2}
    with pytest.warns(BoundFalls, match="ELBO fell from .* while the objective rose.*signs"):
        train(make_model(normalisation="layer"), objective=objective, **settings)


HONEST = {
    "ELBO": elbo,
    "IWAE": importance_weighted,
    "warm-up": WarmUp(10),
    "free bits": FreeBits(4.0),
    "no KL": Weighted(0.0),
    "beta = 100": Weighted(100.0),
    "constraint": Constrained(10.0),
    "own beta = 0": functools.partial(beta_elbo, beta=0.0),
    "own beta = 0.01": functools.partial(beta_elbo, beta=0.01),
    "own beta = 10": functools.partial(beta_elbo, beta=10.0),
    "own beta = 100": functools.partial(beta_elbo, beta=100.0),
}


@pytest.mark.parametrize("objective", HONEST)
@pytest.mark.parametrize("recipe", ["bottom_up_vae", "ladder_vae"])
@pytest.mark.parametrize("learning_rate", [1e-3, 3e-2])
def test_no_honest_objective_is_suspected(objective, recipe, learning_rate, make_model, train):
    """Although the ELBO falls with some of them: warnings are errors here."""
    settings = {"epochs": 3, "learning_rate": learning_rate, "num_samples": 1}
    objective = copy.deepcopy(HONEST[objective])
    if objective is importance_weighted:
        settings["num_samples"] = 5
    train(make_model(recipe, normalisation="layer"), objective=objective, **settings)


def test_the_wrong_sign_of_the_reconstruction_is_named(make_model, train):
    """The information falls as it should, so the objective gains a little more than is lost."""
    settings = {"epochs": 3, "learning_rate": 3e-2, "objective": minus_reconstruction}
    with pytest.warns(BoundFalls, match="ELBO fell from .* while the objective rose.*signs"):
        train(make_model(normalisation="layer"), **settings)


def losing(second: tuple[float, float, float]) -> History:
    """Three epochs at the end of which ELBO and objective have moved apart."""
    history = History()
    for epoch, values in enumerate([(9, -10, -8), second, (12, -13, -10)], start=1):
        history.record(epoch, "train", values)
    return history


def test_one_noisy_epoch_does_not_hide_a_wrong_sign():
    with pytest.warns(BoundFalls, match="ELBO fell from -10 to -13 while the objective rose fr"):
        warn_if_bound_falls(losing((8.5, -9.5, -7)), 3, as_objective(loss))


# Settings that have no effect, or too much


def test_skipping_every_step_names_the_norms(make_model, train):
    model = make_model(normalisation="layer")
    before = weights(model)
    with pytest.warns(NoSteps, match=r"skip_norm=1e-06 skipped all 3 steps.*smallest gradient"):
        train(model, skip_norm=1e-6, epochs=1)
    assert same(weights(model), before)


def test_a_batch_of_more_examples_than_there_are_is_named(make_model, train):
    with pytest.warns(FewExamples, match="batch_size=1000 is more than the 120 training examples"):
        whole = train(make_model(), batch_size=1000, epochs=1)
    assert whole.frame.equals(train(make_model(), batch_size=120, epochs=1).frame)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": 0.1}, "weight_decay=0.1 with adam would be an L2 penalty.*adamw"),
        ({"weight_decay": -0.1, "optimiser": "adamw"}, "weight_decay must be zero or more"),
    ],
)
def test_settings_that_would_do_something_else_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Training(**settings)


# One call does not decide for the next


@pytest.fixture
def fresh():
    """No accelerator was made before in this process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def precision_of(path) -> str:
    return load_checkpoint(path).run["settings"]["precision"]


@pytest.mark.usefixtures("fresh")
def test_the_precision_of_one_fit_is_not_that_of_the_next(make_model, tiny_data, tmp_path):
    half = Accelerator(cpu=True, mixed_precision="bf16")
    run = {"epochs": 1, "progress": False, "batch_size": 40}
    fit(make_model(), tiny_data, accelerator=half, checkpoint=tmp_path / "half.pt", **run)
    fit(make_model(), tiny_data, checkpoint=tmp_path / "plain.pt", **run)
    fit(make_model(), tiny_data, accelerator=half, checkpoint=tmp_path / "again.pt", **run)
    files = [tmp_path / f"{name}.pt" for name in ("half", "plain", "again")]
    assert [precision_of(file) for file in files] == ["bf16", "no", "bf16"]
    first, plain, again = (load_checkpoint(file).weights for file in files)
    assert same(first, again) and not same(first, plain)
    assert Accelerator().mixed_precision == "bf16"  # as the user's own call left it


@pytest.mark.usefixtures("fresh")
def test_after_a_fit_every_accelerator_can_be_made(make_model, tiny_data):
    fit(make_model(), tiny_data, epochs=1, batch_size=40, progress=False)
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"


@pytest.mark.usefixtures("fresh")
def test_accelerators_keep_what_they_were_made_with():
    first = make_accelerator(Machine(device="cpu", precision="bf16"))
    second = make_accelerator(Machine(device="cpu"))
    assert (first.mixed_precision, second.mixed_precision) == ("bf16", "no")
    for given, precision in ((first, "bf16"), (second, "no"), (None, "no")):
        with using(given) as accelerator:
            assert accelerator.mixed_precision == precision


@pytest.mark.usefixtures("fresh")
def test_what_a_launch_has_set_holds(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with using() as accelerator:
        assert accelerator.mixed_precision == "bf16"


def test_the_precision_of_products_lasts_as_long_as_the_fit(make_accelerator):
    accelerator = make_accelerator()
    accelerator.float32_matmul_precision = "high"  # as with tf32
    before = torch.get_float32_matmul_precision()
    with using(accelerator):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_an_accelerator_that_would_change_the_objective_is_refused(
    make_model, train, make_accelerator
):
    four = make_accelerator(gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match="accumulates the gradients of 4 batches, which fit does"):
        train(make_model(), accelerator=four)
    for other in ("cuda", Accelerator):
        with pytest.raises(TypeError, match="accelerator is an accelerate.Accelerator, got"):
            train(make_model(), accelerator=other)
    half = make_accelerator(mixed_precision="fp16")
    with pytest.raises(ValueError, match="fp16 is not available on the device cpu; choose no or"):
        train(make_model(), accelerator=half)
    with torch.autocast("cpu"), pytest.raises(ValueError, match="inside torch.autocast; call it"):
        train(make_model())


def test_a_fit_after_a_loop_that_stopped_between_two_updates_trains(
    make_model, train, make_accelerator
):
    accelerator = make_accelerator()
    accelerator.gradient_state._set_sync_gradients(False)  # as accumulate() leaves it
    model, expected = make_model(), make_model()
    train(model, accelerator=accelerator)
    assert not accelerator.sync_gradients
    train(expected)
    assert same(weights(model), weights(expected))


def test_the_surroundings_of_a_fit_do_not_change_it(make_model, train):
    models = [make_model() for _ in range(4)]
    train(models[0])
    with torch.no_grad():
        train(models[1])
    with torch.inference_mode():
        train(models[2])
    torch.set_default_dtype(torch.float64)
    try:
        train(models[3])
    finally:
        torch.set_default_dtype(torch.float32)
    for model in models[1:]:
        assert same(weights(model), weights(models[0]))


def surroundings() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "products": torch.get_float32_matmul_precision(),
        "generator": torch.get_rng_state().tolist(),
        "Accelerate": AcceleratorState._shared_state,
    }


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.usefixtures("fresh")
def test_a_fit_leaves_its_surroundings_as_they_were(fails, make_model, tiny_data):
    def objective(trace: Trace, x: Tensor) -> Tensor:
        return elbo(trace, x) * (math.nan if fails else 1)

    model = make_model()
    before = surroundings()
    try:
        fit(model, tiny_data, epochs=1, batch_size=40, objective=objective, progress=False)
    except FloatingPointError:
        assert fails
    assert surroundings() == before
    assert not model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_an_accelerator_does_not_keep_the_models_it_has_trained(
    make_model, train, make_accelerator
):
    accelerator = make_accelerator()
    train(make_model(), accelerator=accelerator, epochs=1)
    assert accelerator._models == accelerator._optimizers == []


# Types of numbers


def test_models_in_double_precision_train_and_are_evaluated(make_model, train, tiny_data):
    model = make_model().double()
    history = train(model, epochs=3, learning_rate=1e-2)
    assert all(p.dtype == torch.float64 for p in model.parameters())
    single = make_model()
    expected = train(single, epochs=3, learning_rate=1e-2)
    assert history.last("elbo") == pytest.approx(expected.last("elbo"), abs=2)
    assert math.isfinite(evaluate(model, tiny_data, num_samples=2).elbo.mean)


def test_a_run_is_not_resumed_in_another_precision_of_the_weights(make_model, tiny_data, tmp_path):
    how = {"checkpoint": tmp_path / "run.pt", "progress": False}
    fit(make_model(), tiny_data, epochs=1, **how)
    with pytest.raises(ValueError, match=r"weights was 'torch.float32' and is 'torch.float64'"):
        fit(make_model().double(), tiny_data, epochs=2, **how)


def test_a_default_of_double_precision_is_no_obstacle(tiny_data):
    torch.set_default_dtype(torch.float64)
    try:
        model = hvae_course.recipes.ladder_vae(tiny_data, hidden=(16,), latent_sizes=(4, 3))
        history = fit(model, tiny_data, epochs=1, batch_size=40, progress=False)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.dtype == torch.float64 and math.isfinite(history.last("elbo"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_refused(dtype, make_model, train, tiny_data):
    for work in (train, evaluate, check_data):
        with pytest.raises(ValueError, match=f"weights are {dtype}.*mixed_precision='bf16'"):
            work(make_model().to(dtype), tiny_data)


def test_weights_of_two_types_are_refused(make_model, train):
    model = make_model()
    model.bottom_up.double()
    with pytest.raises(ValueError, match=r"different types, torch.float32, torch.float64; choose"):
        train(model)


def test_options_may_be_numbers_of_numpy(make_model, train):
    plain, given = make_model(), make_model()
    train(plain, epochs=1, batch_size=30, learning_rate=0.01, seed=3, clip_norm=2.0)
    train(
        given,
        epochs=np.int64(1),
        batch_size=np.array([30])[0],
        learning_rate=np.float32(0.01).astype(np.float64).round(5),
        seed=np.uint8(3),
        clip_norm=np.float64(2),
    )
    assert same(weights(plain), weights(given))


# Data


def test_model_and_data_are_not_confused_with_something_else(make_model, tiny_data):
    loader = torch.utils.data.DataLoader(torch.zeros(3, 64))
    for data in (loader, torch.zeros(3, 64), np.zeros((3, 64)), tiny_data.train, None):
        with pytest.raises(TypeError, match=f"a DataSet as the data, got {type(data).__name__}"):
            fit(make_model(), data)
    with pytest.raises(TypeError, match="HierarchicalVAE as the model, got DataSet"):
        fit(tiny_data, make_model())


@pytest.mark.parametrize("name", ["train", "validation"])
def test_an_empty_split_is_named(name, make_model, train, tiny_data):
    data = replace(tiny_data, **{name: getattr(tiny_data, name).select(slice(0, 0))})
    with pytest.raises(ValueError, match="split of .* is empty; give it at least one example"):
        train(make_model(), data)


def test_a_conditional_model_is_trained_with_the_labels_of_the_examples(make_model, train):
    """Of two classes of constant images, only their labels tell which is which."""
    bright = torch.cat([torch.zeros(60, 4), torch.ones(60, 4)])
    labels = torch.arange(120) // 60
    split = Split(bright, labels, None)
    data = DataSet("two", (2, 2), None, "none", split, split, split, num_classes=2)
    model = hvae_course.recipes.ladder_vae(data, hidden=(16,), latent_sizes=(2,), conditional=True)
    train(model, data, epochs=60, learning_rate=1e-2)
    for label in (0, 1):
        mean = model.generate(20, y=torch.full((20,), label)).px.mean
        assert (mean - label).abs().mean() < 0.2
    unknown = replace(split, labels=None)
    with pytest.raises(ValueError, match="needs labels, and the data have none"):
        train(model, replace(data, train=unknown))


def real_data(*splits: Tensor) -> DataSet:
    shape = (1, splits[0].shape[1])
    return DataSet("real", shape, None, "none", *(Split(x, None, None) for x in splits))


@pytest.mark.parametrize("normalisation", ["batch", "layer"])
@pytest.mark.parametrize("features", [1, 3])
def test_one_example_and_constant_features_train_without_nan(normalisation, features, train):
    one = real_data(*[torch.ones(1, features)] * 3)
    many = real_data(*[torch.ones(50, features)] * 3)
    for data, size in ((one, 1), (many, 25)):
        settings = {"hidden": (8,), "latent_sizes": (1, 1), "normalisation": normalisation}
        model = hvae_course.recipes.ladder_vae(data, **settings)
        history = train(model, data, batch_size=size)
        assert history.frame["value"].map(math.isfinite).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_that_are_not_finite_are_named_before_training(value, train):
    x = torch.zeros(50, 3)
    x[-1, 1] = value
    data = real_data(x, x[:10], x[:10])
    with pytest.raises(ValueError, match="finite|NaN"):
        train(hvae_course.recipes.ladder_vae(data, hidden=(8,)), data)


def test_check_data_looks_at_every_split_if_none_is_named(make_model, tiny_data):
    check_data(make_model(), tiny_data)
    grey = replace(tiny_data.test, pixels=torch.full_like(tiny_data.test.pixels, 17))
    with pytest.raises(ValueError, match="grey|grid|values"):
        check_data(make_model(), replace(tiny_data, test=grey))


# Which run a checkpoint belongs to


def test_a_run_is_not_resumed_on_data_with_another_content(make_model, train, tmp_path):
    """The cell after a fix of the preprocessing, run again."""
    raw = torch.randn(120, 8, generator=torch.Generator().manual_seed(0)) * 3 + 10
    path, data = tmp_path / "run.pt", real_data(raw, raw, raw)
    model = hvae_course.recipes.ladder_vae(data, hidden=(8,))
    train(model, data, checkpoint=path)
    fixed = (raw - raw.mean(0)) / raw.std(0)
    with pytest.raises(ValueError, match="data differ in content, although name and sizes agree"):
        train(model, real_data(fixed, fixed, fixed), checkpoint=path)
    train(model, real_data(raw.clone(), raw, raw), checkpoint=path)


def test_a_run_is_not_resumed_with_other_numbers_in_its_objective(make_model, train, tmp_path):
    path = tmp_path / "run.pt"
    train(make_model(), objective=functools.partial(beta_elbo, beta=100.0), checkpoint=path)
    with pytest.raises(ValueError, match="objective was 'partial.*100.*and is 'partial.*1.0"):
        train(make_model(), objective=functools.partial(beta_elbo, beta=1.0), checkpoint=path)
    train(make_model(), objective=functools.partial(beta_elbo, beta=100.0), checkpoint=path)


def defined(factor: str) -> Callable[[Trace, Tensor], Tensor]:
    """A function of one name, whose code was edited."""

    def weighed(trace: Trace, x: Tensor) -> Tensor:
        return elbo(trace, x)

    def weighed_otherwise(trace: Trace, x: Tensor) -> Tensor:
        return elbo(trace, x) * 2

    weighed_otherwise.__name__ = weighed.__name__
    return weighed if factor == "1" else weighed_otherwise


def test_a_run_is_not_resumed_with_other_code_under_the_same_name(make_model, train, tmp_path):
    path = tmp_path / "run.pt"
    train(make_model(), objective=defined("1"), checkpoint=path)
    with pytest.raises(ValueError, match="objective differs in its code or its settings"):
        train(make_model(), objective=defined("2"), checkpoint=path)
    train(make_model(), objective=defined("1"), checkpoint=path)


def test_an_objective_that_nothing_identifies_is_named_when_a_run_starts_and_when_it_resumes(
    make_model, train, tmp_path
):
    path, objective = tmp_path / "run.pt", eval("lambda t, x: elbo(t, x)", {"elbo": elbo})  # noqa: S307
    with pytest.warns(CannotResume, match="cannot be resumed.*<lambda>.*define it with def"):
        train(make_model(), objective=objective, checkpoint=path)
    with pytest.raises(ValueError, match="cannot be resumed with the objective <lambda>"):
        train(make_model(), objective=objective, checkpoint=path)
    train(make_model(), objective=objective)  # without a checkpoint there is nothing to say


def rising(steps: Tensor | float, trace: Trace, x: Tensor) -> Tensor:
    return trace.log_px(x) - steps / 9 * sum(level.information for level in trace.levels)


class Counter:
    steps = 0

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        self.steps += torch.is_grad_enabled()
        return rising(self.steps, trace, x)


class CountingObjective(Counter, Objective):
    pass


class CountingModule(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, trace: Trace, x: Tensor) -> Tensor:
        self.steps += self.training
        return rising(self.steps, trace, x)


class CountingBoth(Objective, CountingModule):
    __call__ = CountingModule.forward


class WithEpoch(Objective):
    epoch = 0

    def for_epoch(self, epoch: int) -> Objective:
        self.epoch = epoch
        return self

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        return rising(self.epoch, trace, x)


@pytest.mark.parametrize("kind", [CountingModule, CountingBoth, WithEpoch])
def test_a_state_in_buffers_or_of_the_epoch_is_resumed(kind, make_model, train, tmp_path):
    whole, resumed, path = make_model(), make_model(), tmp_path / "run.pt"
    train(whole, objective=kind(), epochs=3)
    for epochs in (1, 3):
        train(resumed, objective=kind(), epochs=epochs, checkpoint=path)
    assert same(weights(whole), weights(resumed))


@pytest.mark.parametrize("kind", [Counter, CountingObjective])
def test_a_state_that_no_checkpoint_holds_is_named(kind, make_model, train, tmp_path):
    with pytest.warns(CannotResume, match=f"{kind.__name__} changes during training.*for_epoch"):
        train(make_model(), objective=kind(), checkpoint=tmp_path / "run.pt")
    train(make_model(), objective=kind())  # without a checkpoint there is nothing to say


def test_an_objective_that_a_callback_changes_is_named(make_model, train, tmp_path):
    objective = Counter()

    def change(epoch: int, model: HierarchicalVAE, history: History) -> None:
        objective.scale = epoch

    with pytest.warns(CannotResume, match="Counter changes during training"):
        train(
            make_model(), objective=objective, after_epoch=change, checkpoint=tmp_path / "run.pt"
        )


class Logging:
    def __init__(self) -> None:
        self.log = []

    def __call__(self, trace: Trace, x: Tensor) -> Tensor:
        value = elbo(trace, x)
        self.log += value.tolist()
        return value


def test_a_log_that_prevents_resuming_is_shown_in_short(make_model, train, tmp_path):
    objective, path = Logging(), tmp_path / "run.pt"
    with pytest.warns(CannotResume, match=r"keep logs outside, or reset them in begin\(\)"):
        train(make_model(), objective=objective, checkpoint=path)
    with pytest.raises(ValueError, match=r"'log': \[-.*\.\.\..*keep logs outside, or re") as error:
        train(make_model(), objective=objective, checkpoint=path, epochs=3)
    assert len(str(error.value)) < 1200


@pytest.mark.parametrize("objective", ["elbo", "partial"])
def test_a_run_of_an_earlier_version_is_resumed_with_a_warning(
    objective, make_model, train, tmp_path
):
    """Its objective is known by name alone, a partial as just that."""
    function = elbo if objective == "elbo" else functools.partial(beta_elbo, beta=0.5)
    path, settings = tmp_path / "run.pt", {"objective": function}
    whole, resumed = make_model(), make_model()
    train(whole, epochs=2, **settings)
    train(resumed, epochs=1, checkpoint=path, **settings)
    checkpoint = load_checkpoint(path)
    recorded = {n: v for n, v in checkpoint.run["settings"].items() if "_content" not in n}
    checkpoint.run["settings"] = recorded | {"objective": objective}
    save_checkpoint(checkpoint, path)
    with pytest.raises(ValueError, match="objective was .* and is .FreeBits"):
        train(resumed, epochs=2, checkpoint=path, objective=FreeBits(4.0))
    message = "names of data and objective; whether they are the same"
    with pytest.warns(NotCompared, match=message) as caught:
        train(resumed, epochs=2, checkpoint=path, **settings)
    assert caught[0].filename.endswith("conftest.py")  # which called fit
    assert same(weights(whole), weights(resumed))


def by_hand(model: HierarchicalVAE) -> HierarchicalVAE:
    parts = {"posterior": model.posterior, "top_down": model.top_down}
    return HierarchicalVAE(model.prior, model.bottom_up, **parts)


def test_a_model_built_by_hand_resumes_and_another_architecture_is_refused(
    make_model, train, tmp_path
):
    path = tmp_path / "run.pt"
    train(by_hand(make_model()), checkpoint=path, epochs=1)
    train(by_hand(make_model()), checkpoint=path, epochs=2)
    for other in ({"hidden": (8,)}, {"activation": "tanh"}):
        model = by_hand(make_model(**other))
        before = weights(model)
        with pytest.raises(ValueError, match="the model has another architecture"):
            train(model, checkpoint=path, epochs=2)
        assert same(weights(model), before)
    with pytest.raises(ValueError, match="model was built by hand and is built by a recipe"):
        train(make_model(), checkpoint=path, epochs=2)
    train(make_model(), checkpoint=tmp_path / "recipe.pt", epochs=1)
    with pytest.raises(ValueError, match="model was built by a recipe and is built by hand"):
        train(by_hand(make_model()), checkpoint=tmp_path / "recipe.pt", epochs=2)


@pytest.mark.parametrize("part", ["weights", "best", "optimizer", "average"])
def test_a_state_that_does_not_fit_is_refused_and_the_model_is_left_alone(
    part, make_model, train, tmp_path
):
    path, settings = tmp_path / "run.pt", {"averaging": 0.9, "epochs": 1}
    train(make_model(), checkpoint=path, **settings)
    checkpoint = load_checkpoint(path)
    if part == "optimizer":  # the parameters in another order
        state = checkpoint.run["optimizer"]["state"]
        state[0], state[1] = state[1], state[0]
    elif part == "average":
        checkpoint.run["average"] = {"steps": 3}
    else:
        held = checkpoint.weights if part == "best" else checkpoint.run["weights"]
        held.pop(next(iter(held)))
    save_checkpoint(checkpoint, path)
    model = make_model(seed=1)
    before = weights(model)
    with pytest.raises(ValueError, match="run.pt does not fit this model and its training"):
        train(model, checkpoint=path, **settings | {"epochs": 2})
    assert same(weights(model), before)


def test_what_is_only_loaded_or_resumed_is_said_in_one_line(make_model, train, tmp_path, capsys):
    path = tmp_path / "run.pt"
    train(make_model(), checkpoint=path, epochs=2)
    assert capsys.readouterr().err == ""
    best = train(make_model(), checkpoint=path, epochs=2).best_epoch
    assert capsys.readouterr().err == (
        f"{path} holds the finished run of 2 epochs; its best weights (epoch {best}) were loaded, "
        "nothing was trained\n"
    )
    train(make_model(), checkpoint=path, epochs=1)
    assert "finished run of 2 epochs (1 were asked for); its" in capsys.readouterr().err
    train(make_model(), checkpoint=path, epochs=3)
    assert capsys.readouterr().err == ""
    train(make_model(), checkpoint=path, epochs=4, progress=True)
    assert f"resuming {path} after epoch 3\n" in capsys.readouterr().err


# After every epoch


def test_a_callback_sees_every_epoch_and_changes_nothing(make_model, train, tiny_data, tmp_path):
    seen, settings = [], {"epochs": 3, "averaging": 0.9}

    def look(epoch: int, model: HierarchicalVAE, history: History) -> None:
        assert not model.training and not torch.is_grad_enabled()
        torch.manual_seed(7)
        trace = model.generate(5)
        evaluate(model, tiny_data, num_samples=1, split="validation")
        history.rows.clear()
        model.train()
        seen.append((epoch, trace.px.mean.shape, len(load_checkpoint(path).run["history"])))

    path, model, expected = tmp_path / "run.pt", make_model(dropout=0.2), make_model(dropout=0.2)
    history = train(model, after_epoch=look, checkpoint=path, **settings)
    plain = train(expected, **settings)
    assert same(weights(model), weights(expected)) and history.frame.equals(plain.frame)
    assert [entry[0] for entry in seen] == [1, 2, 3]
    assert seen[0][2] * 3 == seen[2][2]  # the epoch was saved before


def test_a_callback_sees_the_weights_that_were_validated(make_model, train, tiny_data):
    bounds = []

    def look(epoch: int, model: HierarchicalVAE, history: History) -> None:
        bounds.append(weights(model))

    model = make_model()
    history = train(model, after_epoch=look, epochs=3, averaging=0.9)
    assert same(bounds[history.best_epoch - 1], weights(model))


@pytest.mark.parametrize(("first", "then"), [("bf16", "no"), ("no", "bf16")])
def test_a_copy_made_in_a_callback_does_not_keep_the_precision(
    first, then, make_model, train, make_accelerator
):
    copies, clean = [], make_model(normalisation="layer")
    train(
        make_model(normalisation="layer"),
        epochs=1,
        accelerator=make_accelerator(mixed_precision=first),
        after_epoch=lambda epoch, model, history: copies.append(copy.deepcopy(model)),
    )
    clean.load_state_dict(copies[0].state_dict())
    for model in (copies[0], clean):
        train(model, accelerator=make_accelerator(mixed_precision=then))
    assert same(weights(copies[0]), weights(clean))


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("how", ["in place", "through data", "a buffer", "requires_grad"])
def test_a_callback_that_changes_the_model_is_refused(how, averaging, make_model, train):
    def change(epoch: int, model: HierarchicalVAE, history: History) -> None:
        parameter = next(model.parameters())
        if how == "in place":
            parameter.add_(1e-3)
        elif how == "through data":
            parameter.data.mul_(1.5)
        elif how == "a buffer":
            dict(model.named_buffers())["bottom_up.blocks.0.1.running_mean"].add_(1)
        else:
            parameter.requires_grad_(averaging > 0)

    with pytest.raises(RuntimeError, match=r"after_epoch has changed the model \(bottom_up"):
        train(make_model(), after_epoch=change, averaging=averaging, epochs=1)


def test_an_error_of_a_callback_leaves_a_checkpoint_to_resume_from(make_model, train, tmp_path):
    def stop(epoch: int, model: HierarchicalVAE, history: History) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    path, whole, resumed = tmp_path / "run.pt", make_model(), make_model()
    train(whole, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train(resumed, epochs=3, checkpoint=path, after_epoch=stop)
    train(resumed, epochs=3, checkpoint=path)
    assert same(weights(whole), weights(resumed))
    with pytest.raises(TypeError, match=r"after_epoch is a function \(epoch, model, history\)"):
        train(make_model(), after_epoch=3)


def test_warnings_point_to_the_line_that_called_fit(make_model, tiny_data):
    settings = {"batch_size": 1000, "skip_norm": 1e-9, "epochs": 1, "progress": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(make_model(), tiny_data, objective=Constrained(1e-3), **settings)
    assert len(caught) == 3 and {warning.filename for warning in caught} == {__file__}
