"""The compiled step against the other one; nothing in an epoch waits for the device."""

import copy
import math

import pytest
import torch
from waits import Waits

from hvae_course.config import Training
from hvae_course.objectives import Constrained, FreeBits, WarmUp, Weighted, as_objective, elbo
from hvae_course.objectives.multipliers import GECO
from hvae_course.training import NotCompiled, load_checkpoint, loop
from hvae_course.training.loop import _train_epoch
from hvae_course.training.step import check_compiler, compile_step, step

CPU = torch.device("cpu")


def has_compiler() -> bool:
    try:
        check_compiler(CPU)
    except ValueError:
        return False
    return True


def compiles(test):
    """Mark a test that compiles, where there is a compiler."""
    without = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
    return pytest.mark.slow(without(test))


@pytest.fixture(scope="module")
def run():
    """One compiled step for all tests, so that equal models are compiled once."""
    return compile_step(CPU)


def compilations() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def outcome(run, model, objective, x, num_samples):
    """What a step gives and changes, from the same random numbers."""
    model, objective = copy.deepcopy(model).train(), copy.deepcopy(objective)
    torch.manual_seed(5)
    value, statistics = run(model, objective, x, num_samples)
    value.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return (
        value.detach(),
        statistics,
        gradients,
        dict(model.named_buffers()),
        objective.state_dict(),
    )


def assert_compiled(run, model, objective, x, num_samples=1):
    compiled = outcome(run, model, objective.on(CPU), x, num_samples)
    expected = outcome(step, model, objective, x, num_samples)
    torch.testing.assert_close(compiled, expected, rtol=2e-4, atol=2e-5)


@compiles
def test_the_compiled_step_is_the_other_one_up_to_rounding(run, make_model, tiny_data):
    """A model with parts of every kind that has a state: buffers, a price, an estimated prior."""
    settings = {"prior": "vhp", "prior_options": {"num_samples": 3, "hidden": ()}}
    model = make_model("bidirectional_vae", normalisation="batch", **settings)
    objective = Constrained(0.2, rule=GECO(), first_phase=False)
    assert_compiled(run, model, objective, tiny_data.train.batch(slice(0, 40)))


@compiles
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("flow_ladder", {"hidden": (8,), "prior": "flow", "iaf": True}),
        ("draw", {"latent_sizes": (2, 2), "tied": True}),
        ("vq_vae", {"latent_sizes": (2,), "codes_options": {"num_codes": 4, "revival": 0.9}}),
        ("downscaled_vae", {"latent_sizes": (2, 1, 2)}),
        ("bottom_up_vae", {"latent_sizes": (3,), "likelihood": "autoregressive"}),
    ],
    ids=["flows", "steps", "codes", "image", "pixels before"],
)
def test_levels_richer_than_gaussians_are_compiled_too(
    recipe, settings, run, make_model, tiny_data, tiny_binary
):
    """A codebook moves its averages, and draws the encodings that replace the dead codes."""
    data = tiny_binary if recipe in ("draw", "bottom_up_vae") else tiny_data
    model, before = make_model(recipe, data, **settings), compilations()
    assert_compiled(run, model, as_objective(elbo), data.train.batch(slice(0, 40)))
    assert compilations() == before + 1


@compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_splines_run_as_they_are_between_compiled_parts(make_model, tiny_data):
    """Compiled with everything else, their gradients differ in the second digit."""
    model, before = make_model("flow_ladder", flow_options={"transform": "spline"}), compilations()
    try:
        x = tiny_data.train.batch(slice(0, 40))
        assert_compiled(compile_step(CPU), model, as_objective(elbo), x)
        assert compilations() > before + 1
    finally:
        torch.compiler.reset()  # other models would be compiled in parts too


@compiles
def test_prices_that_change_with_every_epoch_are_compiled_once(run, make_model, tiny_data):
    warm_up = WarmUp((4, 2), FreeBits(0.5, weights=(0.3, 1.0)))
    model, before = make_model("ladder_vae", hidden=()), compilations()
    for epoch in range(1, 6):
        goal = warm_up.for_epoch(epoch)
        assert_compiled(run, model, goal, tiny_data.train.batch(slice(0, 40)), num_samples=2)
    assert compilations() == before + 1


@compiles
def test_a_compiled_run_repeats_itself_and_resumes_bitwise(
    run, train, make_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "compile_step", lambda device: run)
    settings = {"compiled": True, "objective": WarmUp(2), "averaging": 0.9}
    # a bias before batch normalisation has no gradient but rounding, which Adam makes large
    models = [make_model(normalisation="layer") for _ in range(3)]
    before = compilations()
    train(models[0], epochs=3, **settings)
    train(models[1], epochs=1, checkpoint=tmp_path / "run.pt", **settings)
    train(models[1], epochs=3, checkpoint=tmp_path / "run.pt", **settings)
    assert compilations() == before + 1
    train(models[2], epochs=3, **settings | {"compiled": False})
    whole, resumed, other = (model.state_dict() for model in models)
    torch.testing.assert_close(whole, resumed, rtol=0, atol=0)
    torch.testing.assert_close(whole, other, rtol=1e-3, atol=1e-4)
    assert load_checkpoint(tmp_path / "run.pt").run["settings"]["compiled"] is True
    with pytest.raises(ValueError, match="compiled was True and is False"):
        train(
            models[1], epochs=3, checkpoint=tmp_path / "run.pt", **settings | {"compiled": False}
        )


@compiles
@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda t, x: t.levels[0].z, r"shape \(40,\), got the shape \(40, 4\)"),
        (lambda t, x: elbo(t, x).detach(), "no gradient with respect to the weights"),
    ],
    ids=["per dimension", "no gradient"],
)
def test_what_an_objective_returns_is_checked_in_a_compiled_step_too(
    objective, message, make_model, train
):
    with pytest.raises(ValueError, match=message):
        train(make_model(), objective=objective, compiled=True)


def broken(message: str):
    """A compiler that fails when the step is called, after it has drawn and moved something."""

    def compile_(function, **settings):
        def call(model, objective, x, *rest):
            torch.rand(3)
            model.bottom_up.blocks[0][1].running_mean.add_(1)
            objective.update(torch.tensor(3.0))
            raise RuntimeError(message)

        return call

    return compile_


def test_a_step_that_cannot_be_compiled_runs_as_it_is_and_says_which_folder_to_delete(
    make_model, train, monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch, "compile", broken("CppCompileError: half a file"))
    monkeypatch.setattr("shutil.which", lambda _: "g++")
    models = [make_model() for _ in range(2)]
    settings = {"epochs": 1, "objective": Constrained(10.0)}
    with pytest.warns(NotCompiled, match=f"half a file.*delete the folder {tmp_path}") as caught:
        train(models[0], compiled=True, **settings)
    train(models[1], **settings)
    assert len(caught) == 1
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=0, atol=0)


def test_an_error_of_the_model_is_not_taken_for_one_of_the_compiler(
    make_model, train, monkeypatch
):
    def objective(trace, x):
        raise LookupError("of its own")

    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    monkeypatch.setattr("shutil.which", lambda _: "g++")
    with pytest.raises(LookupError, match="of its own"):
        train(make_model(), compiled=True, objective=objective)


def test_without_a_compiler_the_run_is_refused_before_it_begins(train, make_model, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ValueError, match="needs a C.. compiler and found none of CXX, g.., c"):
        train(make_model(), compiled=True)


def test_a_device_that_cannot_compile_is_refused():
    with pytest.raises(ValueError, match="works on the CPU and on CUDA, got the device mps"):
        check_compiler(torch.device("mps"))


@pytest.mark.parametrize("weights", [0.5, (0.5, 2.0), [0.5, 2.0]])
def test_prices_become_tensors_and_stay_what_they_are(weights):
    moved = Weighted(weights).on(CPU).weights
    values = (moved,) if isinstance(weights, float) else moved
    assert all(isinstance(value, torch.Tensor) and value.dim() == 0 for value in values)
    assert moved == (tuple(weights) if isinstance(weights, list) else weights)
    objective = as_objective(elbo)
    assert objective.on(CPU) is objective


# Nothing waits for the device


PRIORS = {
    "standard": {},
    "mixture": {"num_components": 3},
    "vamp": {"num_components": 3},
    "vhp": {"num_samples": 3, "hidden": (6,)},
}
OBJECTIVES = {
    "elbo": as_objective(elbo),
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
    training = Training(num_samples=2, batch_size=10)
    settings = {"training": training, "accelerator": make_accelerator()}
    settings["objective"] = OBJECTIVES[objective]
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
    goal = goal.on(accelerator.device) if compiled else goal
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    run = compile_step(accelerator.device) if compiled else step
    order = torch.randperm(len(data.train), device=accelerator.device)
    strict = []

    def watched(*args):
        result = run(*args)
        strict.append(True)
        torch.cuda.set_sync_debug_mode("error" if 3 <= len(strict) < 11 else "default")
        return result

    settings = {"objective": goal, "training": Training(batch_size=10), "step": watched}
    try:
        _train_epoch(model, optimizer, data.train, order, **settings, accelerator=accelerator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(strict) == 12
