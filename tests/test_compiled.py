"""The compiled step against the other one; nothing in an epoch waits for the device."""

import copy
import math

import pytest
import torch
from waits import Waits

from hvae_course.objectives import Constrained, FreeBits, WarmUp, Weighted, elbo
from hvae_course.objectives.multipliers import GECO
from hvae_course.training import load_checkpoint
from hvae_course.training.loop import _train_epoch
from hvae_course.training.step import check_compiler, compile_step, step, weights_on

CPU = torch.device("cpu")


def has_compiler() -> bool:
    try:
        check_compiler(CPU)
    except ValueError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")


@pytest.fixture
def count_compilations():
    """Count how often a function is compiled from here on."""

    def count() -> int:
        return torch._dynamo.utils.counters["stats"]["unique_graphs"] - before

    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return count


def outcome(run, model, objective, x, num_samples):
    """Value, statistics, gradients and buffers after one step from the same random numbers."""
    model, objective = copy.deepcopy(model).train(), copy.deepcopy(objective)
    torch.manual_seed(5)
    value, statistics = run(model, objective, x, num_samples)
    value.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    state = objective.state_dict() if isinstance(objective, Constrained) else {}
    return value.detach(), statistics, gradients, dict(model.named_buffers()), state


CASES = {
    "bottom-up, ELBO": ("bottom_up_vae", {}, elbo, 1),
    "ladder, free bits that cost less": ("ladder_vae", {}, FreeBits(0.5, weights=(0.3, 1.0)), 2),
    "VHP under a constraint": (
        "bidirectional_vae",
        {"prior": "vhp", "prior_options": {"num_samples": 3, "hidden": (6,)}},
        Constrained(0.2, rule=GECO(), first_phase=False),
        1,
    ),
}


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_the_compiled_step_is_the_other_one_up_to_rounding(case, make_model, tiny_data):
    recipe, settings, objective, num_samples = CASES[case]
    model, x = make_model(recipe, **settings), tiny_data.train.batch(slice(0, 40))
    compiled = outcome(compile_step(CPU), model, weights_on(objective, CPU), x, num_samples)
    expected = outcome(step, model, objective, x, num_samples)
    torch.testing.assert_close(compiled, expected, rtol=2e-4, atol=2e-5)


@needs_compiler
def test_prices_that_change_with_every_epoch_are_compiled_once(
    make_model, tiny_data, count_compilations
):
    warm_up, model = WarmUp((4, 2)), make_model()
    x, run = tiny_data.train.batch(slice(0, 40)), compile_step(CPU)
    for epoch in range(1, 6):
        goal = warm_up.for_epoch(epoch)
        compiled = outcome(run, model, weights_on(goal, CPU), x, 1)
        torch.testing.assert_close(
            compiled, outcome(step, model, goal, x, 1), rtol=2e-4, atol=2e-5
        )
    assert count_compilations() == 1


@needs_compiler
def test_a_compiled_run_repeats_itself_and_resumes_bitwise(train, make_model, tmp_path):
    settings = {"compiled": True, "objective": WarmUp(2), "averaging": 0.9}
    # a bias before batch normalisation has no gradient but rounding, which Adam makes large
    models = [make_model(normalisation="layer") for _ in range(3)]
    train(models[0], epochs=3, **settings)
    train(models[1], epochs=1, checkpoint=tmp_path / "run.pt", **settings)
    train(models[1], epochs=3, checkpoint=tmp_path / "run.pt", **settings)
    train(models[2], epochs=3, **settings | {"compiled": False})
    whole, resumed, other = (model.state_dict() for model in models)
    torch.testing.assert_close(whole, resumed, rtol=0, atol=0)
    torch.testing.assert_close(whole, other, rtol=1e-3, atol=1e-4)
    assert load_checkpoint(tmp_path / "run.pt").run["settings"]["compiled"] is True
    with pytest.raises(ValueError, match="compiled was True and is False"):
        train(
            models[1], epochs=3, checkpoint=tmp_path / "run.pt", **settings | {"compiled": False}
        )


def test_without_a_compiler_the_run_is_refused_before_it_begins(train, make_model, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ValueError, match="needs a C.. compiler and found none of CXX, g.., c"):
        train(make_model(), compiled=True)


def test_a_device_that_cannot_compile_is_refused():
    with pytest.raises(ValueError, match="works on the CPU and on CUDA, got the device mps"):
        check_compiler(torch.device("mps"))


@pytest.mark.parametrize("weights", [0.5, (0.5, 2.0), [0.5, 2.0]])
def test_prices_become_tensors_and_stay_what_they_are(weights):
    moved = weights_on(Weighted(weights), CPU).weights
    values = (moved,) if isinstance(weights, float) else moved
    assert all(isinstance(value, torch.Tensor) and value.dim() == 0 for value in values)
    assert moved == (tuple(weights) if isinstance(weights, list) else weights)
    assert weights_on(elbo, CPU) is elbo


# Nothing waits for the device


PRIORS = {
    "standard": {},
    "mixture": {"num_components": 3},
    "vamp": {"num_components": 3},
    "vhp": {"num_samples": 3, "hidden": (6,)},
}
OBJECTIVES = {
    "elbo": elbo,
    "warm-up": WarmUp((3, 2)).for_epoch(1),
    "free bits": FreeBits(0.5),
    "constraint": Constrained(0.2, first_phase=False),
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_step_waits_for_the_device(prior, objective, make_model, tiny_binary, make_accelerator):
    settings = {"prior": prior, "prior_options": PRIORS[prior], "normalisation": "layer"}
    model = make_model("ladder_vae", tiny_binary, **settings)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    settings = {"objective": OBJECTIVES[objective], "num_samples": 2, "batch_size": 10}
    settings |= {"accelerator": make_accelerator()}
    waits = []
    for size in (20, 100):
        with Waits() as counter:
            order = torch.arange(size)
            statistics = _train_epoch(model, optimizer, tiny_binary.train, order, **settings)
        waits.append(counter.count)
        assert all(map(math.isfinite, statistics))
    assert waits[0] == waits[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_epoch_on_a_gpu_waits_only_at_its_end(objective, compiled, make_model, tiny_binary):
    from accelerate import Accelerator

    accelerator = Accelerator()
    data, goal = tiny_binary.to(accelerator.device), OBJECTIVES[objective]
    model = make_model("ladder_vae", tiny_binary).to(accelerator.device)
    goal = goal.to(accelerator.device) if isinstance(goal, Constrained) else goal
    goal = weights_on(goal, accelerator.device) if compiled else goal
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    run = compile_step(accelerator.device) if compiled else step
    order = torch.randperm(len(data.train), device=accelerator.device)
    strict = []

    def watched(*args):
        result = run(*args)
        strict.append(True)
        torch.cuda.set_sync_debug_mode("error" if 3 <= len(strict) < 11 else "default")
        return result

    settings = {"objective": goal, "num_samples": 1, "batch_size": 10, "step": watched}
    try:
        _train_epoch(model, optimizer, data.train, order, **settings, accelerator=accelerator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(strict) == 12
