"""Two processes in one launch: the gradients of one, for every objective and every prior.

The noise of every example is the same however the batch is shared, so that nothing but the shares
differs between one process and two. ``accelerate launch`` runs this file.
"""

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributions import Normal
from torch.optim.optimizer import register_optimizer_step_pre_hook

import hvae_course
from hvae_course import objectives
from hvae_course.cli import main
from hvae_course.config import PRIORS, Model
from hvae_course.data import DataSet, Split, load
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.nets import BatchNorm
from hvae_course.objectives import (
    GECO,
    Constrained,
    FreeBits,
    KLBalancing,
    Objective,
    ReWO,
    WarmUp,
    Weighted,
)
from hvae_course.processes import end_with_parent
from hvae_course.recipes import build
from hvae_course.run_folder import find
from hvae_course.seeding import seed_all
from hvae_course.training import load_checkpoint

pytestmark = pytest.mark.slow
ROOT = Path(hvae_course.__file__).parents[1]
WORDS = "train ladder --latent-sizes 4 3 --hidden 16 --free-bits 0.5 --batch-size 500 --epochs 2"
WORDS = f"{WORDS} --seed 2 --validation-samples 2 --device cpu --quiet".split()
DRAWS, FLOOR = 2, 0.55
SETTINGS = {"num_samples": DRAWS, "epochs": 2, "batch_size": 8, "progress": False}
SIZES = {"latent_sizes": (4, 3), "hidden": (8,)}
OPTIONS = {
    "standard": {},
    "normal": {},
    "mixture": {"num_components": 5},
    "vamp": {"num_components": 5, "start": "random"},
    "vhp": {"num_samples": 3, "hidden": (6,)},
    "flow": {"hidden": (6,)},
}


def constrained(allowed: float, rule: GECO | ReWO, **settings) -> Constrained:
    """A constraint that is met in the second step and violated in the third."""
    return Constrained(allowed**0.5, rule=rule, beta=0.5, smoothing=0.5, **settings).double()


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "elbo": lambda: objectives.elbo,
    "importance_weighted": lambda: objectives.importance_weighted,
    "Weighted": lambda: Weighted((0.5, 2.0)),
    "FreeBits": lambda: FreeBits((FLOOR, 0.3)),
    "FreeBits per example": lambda: FreeBits(FLOOR, floor="example"),
    "WarmUp": lambda: WarmUp((1, 3), FreeBits((FLOOR, 0.3))),
    "KLBalancing": lambda: KLBalancing(WarmUp(3)),
    "Constrained ReWO": lambda: constrained(1.21, ReWO(0.5)),
    "Constrained GECO": lambda: constrained(14.3, GECO(0.5), error="negative_log_likelihood"),
    "Constrained double loop": lambda: constrained(1.21, ReWO(0.5), inner_steps=1),
}
EXCHANGING = ["FreeBits", "KLBalancing", "Constrained ReWO", "Constrained GECO"]
CASES = [(name, "standard") for name in OBJECTIVES]
CASES += product(["importance_weighted", "FreeBits", "Constrained ReWO"], list(OPTIONS)[1:])


def make_data() -> DataSet:
    """Real values in float64: 24 examples for training, in 3 steps per epoch."""
    generator = torch.Generator().manual_seed(0)

    def split(size: int) -> Split:
        pixels = torch.randn(size, 6, generator=generator, dtype=torch.float64)
        return Split(pixels, torch.zeros(size, dtype=torch.int64), None)

    return DataSet("real", (2, 3), None, "none", split(24), split(10), split(10))


def make_model(prior: str = "standard", normalisation: str = "layer") -> HierarchicalVAE:
    settings = {"normalisation": normalisation, "prior": prior, "prior_options": OPTIONS[prior]}
    return build(Model(recipe="ladder", **SIZES, **settings), make_data(), seed=3).double()


@contextlib.contextmanager
def noise_of_examples(rank: int = 0, processes: int = 1) -> Iterator[None]:
    """Give every example of a batch its own noise, whichever process it is in.

    Of a batch, process r has the examples r, r + n, r + 2 n and so on; validation, without
    gradients, has all of them in every process.
    """
    generator, before = torch.Generator().manual_seed(5), Normal.rsample

    def rsample(self: Normal, shape: tuple[int, ...] = ()) -> Tensor:
        share, n = (rank, processes) if torch.is_grad_enabled() else (0, 1)
        whole = (*shape, len(self.loc) // DRAWS, n, DRAWS, self.loc.shape[1])
        noise = torch.randn(whole, generator=generator, dtype=torch.float64)
        return self.loc + self.scale * noise[..., share, :, :].flatten(-3, -2)  # (..., B K, Z)

    Normal.rsample = rsample
    try:
        yield
    finally:
        Normal.rsample = before


@contextlib.contextmanager
def recording_gradients() -> Iterator[list[list[Tensor]]]:
    """Gradients of every step, as the optimiser finds them."""
    steps = []

    def keep(optimizer: torch.optim.Optimizer, args: tuple, settings: dict) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        steps.append([p.grad.clone() for p in parameters])

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield steps
    finally:
        handle.remove()


def run(
    accelerator: Accelerator, objective: str = "elbo", prior: str = "standard", **changes
) -> dict:
    """Train; everything that should be the same in any number of processes."""
    model = make_model(prior, changes.pop("normalisation", "layer"))
    chosen, settings = OBJECTIVES[objective](), SETTINGS | changes
    settings |= {"objective": chosen, "accelerator": accelerator}
    noise = noise_of_examples(accelerator.process_index, accelerator.num_processes)
    with noise, recording_gradients() as gradients:
        history = hvae_course.fit(model, make_data(), **settings)
    return {
        "gradients": gradients,
        "weights": model.state_dict(),
        "state": chosen.state_dict() if isinstance(chosen, Constrained) else {},
        "values": [row[-1] for row in history.rows],
    }


@contextlib.contextmanager
def without_exchange() -> Iterator[None]:
    """Let every process take the mean over its own share for the mean over the batch."""
    modules = objectives.free_bits, objectives.balancing, objectives.constrained
    before = objectives.weighted.mean_over_processes
    for module in modules:
        module.mean_over_processes = lambda value: value
    try:
        yield
    finally:
        for module in modules:
            module.mean_over_processes = before


def resumed(accelerator: Accelerator, path: Path) -> dict[str, Tensor]:
    """Weights of a run of three epochs that stopped after the second."""
    for epochs in (2, 3):
        model = make_model(normalisation="batch")
        settings = SETTINGS | {"epochs": epochs, "accelerator": accelerator, "checkpoint": path}
        hvae_course.fit(model, make_data(), **settings)
        accelerator.wait_for_everyone()  # the file is whole before anybody reads it
    return model.state_dict()


def from_different_starts(accelerator: Accelerator) -> dict:
    """Train with noise of its own, and a prior that is a bound itself; what the first step saw."""
    torch.manual_seed(accelerator.process_index)
    model = build(Model(recipe="ladder", prior="vhp", **SIZES), make_data()).double()
    seen = []
    model.register_forward_hook(lambda _, inputs, trace: seen.append((inputs[0], trace.levels[0])))
    objective = Constrained(1.1, inner_steps=1, smoothing=0.5).double()
    settings = SETTINGS | {"objective": objective, "accelerator": accelerator}
    history = hvae_course.fit(model, make_data(), **settings)
    batch, z1 = seen[0]
    return {
        "batch": batch,
        "noise": ((z1.z - z1.q.mean) / z1.q.stddev).detach(),
        "weights": model.state_dict() | objective.state_dict(),
        "history": str(history.rows),
    }


def by_hand(accelerator: Accelerator) -> dict:
    """Weights and values of the run that ``WORDS`` ask for."""
    data = load("digits")
    model = build(Model(recipe="ladder", latent_sizes=(4, 3), hidden=(16,)), data, seed=2)
    settings = {"batch_size": 500, "epochs": 2, "seed": 2, "progress": False}
    settings |= {"objective": FreeBits(0.5), "accelerator": accelerator}
    history = hvae_course.fit(model, data, **settings)
    return {"weights": model.state_dict(), "values": [row[-1] for row in history.rows]}


def work(folder: Path) -> None:
    """What each of the two processes does: train, and leave its results in a file."""
    accelerator = Accelerator(cpu=True)
    rank = accelerator.process_index
    result = {case: run(accelerator, *case) for case in CASES}
    with without_exchange():
        result["alone"] = {name: run(accelerator, name) for name in EXCHANGING}
    batch = {"normalisation": "batch", "epochs": 1, "batch_size": 24}
    result["batch statistics"] = run(accelerator, **batch)
    result["resumed"] = resumed(accelerator, folder / "checkpoint.pt")
    result["called"] = called = []
    whole = SETTINGS | {"epochs": 3, "after_epoch": lambda *seen: called.append(seen[0])}
    hvae_course.fit(model := make_model(normalisation="batch"), make_data(), **whole)
    result["not interrupted"] = model.state_dict()
    result["averaged"] = run(accelerator, normalisation="batch", averaging=0.9)["values"]
    with pytest.raises(ValueError, match=r"checkpoints of different epochs, \[3, 0\]; put"):
        resumed(accelerator, folder / ("checkpoint.pt" if rank == 0 else "no_such_file.pt"))
    result["different starts"] = from_different_starts(accelerator)
    result["by hand"] = by_hand(accelerator)
    torch.save(result, folder / f"{rank}.pt")
    assert main([*WORDS, "--out", str(folder / "run")]) == 0


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> tuple[Path, str]:
    """Folder and output of the two processes."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--main_process_port", "0", __file__, str(folder)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "MASTER_"))}
    kept |= {"OMP_NUM_THREADS": "1", "HF_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def results(launched) -> list[dict]:
    return [torch.load(launched[0] / f"{rank}.pt") for rank in range(2)]


# Every objective, every prior


def test_every_objective_rule_and_prior_is_here():
    assert OPTIONS.keys() == PRIORS.keys()
    tried = {word for name in OBJECTIVES for word in name.split()}
    others = {"ConstraintNeverMet", "OBJECTIVES", "Objective", "as_objective", "make_objective"}
    others |= {"penalty"}  # subtracted from every objective, and none of its own
    assert set(objectives.__all__) - others <= tried


@pytest.mark.parametrize(("objective", "prior"), CASES, ids=map(" ".join, CASES))
def test_gradients_of_two_processes_are_those_of_one(objective, prior, results, make_accelerator):
    expected = run(make_accelerator(), objective, prior)
    assert len(expected["gradients"]) == 6
    for result in results:
        torch.testing.assert_close(result[objective, prior], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("objective", EXCHANGING)
def test_means_over_the_shares_alone_would_give_other_gradients(objective, results):
    for result in results:
        alone, together = (
            torch.cat([g.flatten() for step in r["gradients"] for g in step])
            for r in (result["alone"][objective], result[objective, "standard"])
        )
        assert (alone - together).abs().max() > 1e-3


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if "Constrained" in name])
def test_the_constraint_is_met_on_the_way(objective, results):
    """Both phases are run through, so that the moving average decides about gradients."""
    state = results[0][objective, "standard"]["state"]
    assert state["released"] == 1 and state["settled"] == 1 and state["beta"] != 0.5


# Batch normalisation


def gradients_of_shares(shares: list[Tensor], ranks: list[int]) -> tuple[list, HierarchicalVAE]:
    """Mean of the gradients of shares of a batch, each normalised alone; the last one's model."""
    gradients = []
    for rank, x in zip(ranks, shares, strict=True):
        model = make_model(normalisation="batch")
        with noise_of_examples(rank, len(shares)):
            value = objectives.elbo(model(x, DRAWS), x).mean()
        gradients.append(torch.autograd.grad(-value, list(model.parameters())))
    return [sum(g) / len(g) for g in zip(*gradients, strict=True)], model


def first_batch() -> Tensor:
    seed_all(0, 1)
    data = make_data()
    return data.train.batch(torch.randperm(len(data.train)))


def test_batch_normalisation_is_over_the_share_of_each_process(results):
    x = first_batch()
    shares, _ = gradients_of_shares([x[0::2], x[1::2]], [0, 1])
    whole, _ = gradients_of_shares([x], [0])
    for result in results:
        (found,) = result["batch statistics"]["gradients"]
        torch.testing.assert_close(found, shares, rtol=1e-6, atol=1e-6)
        difference = [(f - w).abs().max() for f, w in zip(found, whole, strict=True)]
        assert max(difference) > 1e-2


def test_running_statistics_are_those_of_the_first_share(results):
    x = first_batch()
    _, model = gradients_of_shares([x[1::2], x[0::2]], [1, 0])
    expected = {name: value for name, value in model.named_buffers() if "running" in name}
    assert len(expected) == 2 * sum(isinstance(m, BatchNorm) for m in model.modules()) > 0
    for result in results:
        found = {name: result["batch statistics"]["weights"][name] for name in expected}
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_statistics_over_all_processes_keep_the_weights_and_their_names():
    """What the README recommends for GPUs; with one process it computes the same."""
    model, x = make_model(normalisation="batch").eval(), make_data().test.batch(slice(None))
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    assert not any(isinstance(module, BatchNorm) for module in converted.modules())
    assert converted.state_dict().keys() == model.state_dict().keys()
    with noise_of_examples():
        expected = model(x, DRAWS).log_weight(x)
    with noise_of_examples():
        torch.testing.assert_close(converted(x, DRAWS).log_weight(x), expected)


# Resumption


def test_two_processes_resume_as_if_they_had_not_stopped(results):
    for result in results:
        torch.testing.assert_close(result["resumed"], result["not interrupted"], rtol=0, atol=0)
        torch.testing.assert_close(result["resumed"], results[0]["resumed"], rtol=0, atol=0)


def test_only_the_main_process_calls_back_after_an_epoch(results):
    """In a fit that was given no accelerator, which shares the state of the launch."""
    assert [result["called"] for result in results] == [[1, 2, 3], []]


def test_averages_with_running_statistics_of_their_own_are_validated_alike(results):
    assert results[0]["averaged"] == results[1]["averaged"]


# Different starts and noise


def test_different_starts_end_with_the_same_weights_prices_and_history(results):
    first, second = (result["different starts"] for result in results)
    torch.testing.assert_close(first["weights"], second["weights"], rtol=0, atol=0)
    assert first["history"] == second["history"]
    state = first["weights"]
    assert state["steps"] == 6 and state["released"] == 1 and state["beta"] > 0.01


def test_the_processes_share_a_batch_and_draw_noise_of_their_own(results):
    first, second = (result["different starts"] for result in results)
    assert len(first["batch"]) == len(second["batch"]) == 4
    assert len(torch.cat([first["batch"], second["batch"]]).unique(dim=0)) == 8
    assert ((first["noise"] - second["noise"]).abs() > 1e-3).double().mean() > 0.9


# The command line


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_launched_processes_write_one_folder_and_one_result(launched):
    folder, output = launched[0] / "run", launched[1]
    files = {"checkpoint.pt", "config.json", "environment.json", "history.json", "result.json"}
    assert {path.name for path in folder.iterdir()} == files
    (start,) = read(folder, "environment.json")
    assert start["processes"] == 2 and start["device"].startswith("cpu")
    assert output.count("training in") == output.count("ELBO") == 1


def test_a_launched_run_is_that_of_fit_in_two_processes(launched, results):
    checkpoint = load_checkpoint(launched[0] / "run/checkpoint.pt")
    assert checkpoint.run["settings"]["num_processes"] == 2
    found = {"weights": checkpoint.weights, "values": [r[-1] for r in checkpoint.run["history"]]}
    for result in results:
        torch.testing.assert_close(found, result["by hand"], rtol=0, atol=0)


def test_the_result_of_a_launched_run_is_that_of_its_weights(launched):
    model, data = find(launched[0] / "run").model, load("digits")
    expected = hvae_course.evaluate(model, data, split="validation", num_samples=2)
    found = read(launched[0] / "run", "result.json")["validation"]
    assert found["log_likelihood"]["mean"] == pytest.approx(expected.log_likelihood.mean, rel=1e-6)
    assert found["num_examples"] == expected.num_examples == 350


@pytest.mark.usefixtures("make_accelerator")
def test_another_number_of_processes_is_refused(launched, tmp_path, capsys):
    folder = shutil.copytree(launched[0] / "run", tmp_path / "run")
    (folder / "result.json").unlink()
    with pytest.raises(SystemExit, match="2"):
        main([*WORDS, "--out", str(folder)])
    assert "num_processes was 2 and is 1" in capsys.readouterr().err


if __name__ == "__main__":
    end_with_parent()
    work(Path(sys.argv[1]))
