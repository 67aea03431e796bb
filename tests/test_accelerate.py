"""Training through Accelerate: fit after fit, mixed precision, two processes, launched ones."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from accelerate import Accelerator
from accelerate.commands.launch import launch_command_parser
from known_terms import nats, trace_of
from torch import Tensor, nn

import hvae_course
from hvae_course import Trace
from hvae_course.cli import main
from hvae_course.cli.program import _make_parser
from hvae_course.data import DataSet
from hvae_course.objectives import Constrained, FreeBits, elbo
from hvae_course.recipes import build_seeded
from hvae_course.training import load_checkpoint

ROOT = Path(hvae_course.__file__).parents[1]
SETTINGS = {"batch_size": 40, "epochs": 2, "progress": False}
WORDS = "train ladder --levels 4 3 --hidden 16 --free-bits 0.5 --batch-size 100 --epochs 2".split()
WORDS += "--seed 2 --validation-samples 2 --device cpu --quiet".split()


def test_a_second_fit_goes_on_with_the_same_or_another_accelerator(
    make_model, train, make_accelerator
):
    accelerator = make_accelerator()
    results = []
    for second in (accelerator, None):
        train(model := make_model(), accelerator=accelerator)
        train(model, accelerator=second or make_accelerator())
        results.append(model.state_dict())
    torch.testing.assert_close(*results, rtol=0, atol=0)


# Mixed precision


def computes_in_float32(model: nn.Module, x: Tensor, make_model: Callable) -> bool:
    """Whether the model computes as a fresh one with the same weights does."""
    fresh = make_model().eval()
    fresh.load_state_dict(model.state_dict())
    return torch.equal(fresh(x).levels[0].q.mean, model.eval()(x).levels[0].q.mean)


def test_mixed_precision_improves_the_bound_and_ends_with_the_fit(
    make_model, train, make_accelerator, tiny_data
):
    model, x, precisions = make_model(), tiny_data.test.batch(slice(0, 5)), []
    model.bottom_up.blocks[0][0].register_forward_hook(lambda *args: precisions.append(args[-1]))
    for _ in range(2):  # a second fit is in mixed precision too
        accelerator = make_accelerator(mixed_precision="bf16")
        history = train(model, epochs=8, learning_rate=1e-2, accelerator=accelerator)
        bound = history.frame.query("quantity == 'elbo' and split == 'train'")["value"]
        assert bound.iloc[-1] > bound.iloc[0] + 1
        assert {output.dtype for output in precisions} == {torch.bfloat16}
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        assert computes_in_float32(model, x, make_model)
        precisions.clear()


def test_mixed_precision_ends_with_an_interrupted_fit_too(
    make_model, train, make_accelerator, tiny_data
):
    def interrupted(trace: Trace, x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    model, x = make_model(), tiny_data.test.batch(slice(0, 5))
    with pytest.raises(KeyboardInterrupt):
        train(model, objective=interrupted, accelerator=make_accelerator(mixed_precision="bf16"))
    assert computes_in_float32(model, x, make_model)


# Two processes


def free_bits(share: slice) -> list[Tensor]:
    """Value and gradients of free bits for a share of four examples, an equal one per process.

    z_1 is above its floor in all four and below it in one process; z_2 the other way round.
    """
    terms = nats(
        [-1.0, -2.0, -3.0, -4.0], [0.0, 3.0, 0.5, 2.0], [1.5, 0.1, 1.6, 0.2], [1.0, 2.0, 3.0, 4.0]
    ).unbind()
    own = tuple(term[share] for term in terms)
    value = FreeBits((1.0, 1.0, 0.0))(*trace_of(*own))
    return [value.detach(), *torch.autograd.grad(value.sum(), own)]


def constrained(share: slice) -> list[Tensor]:
    """Value, state and gradients of a constrained objective for a share of four examples.

    The error of a batch is minus its mean reconstruction, 2.5 in all; every process's own would
    be on another side of the constraint.
    """
    terms = nats([-1.0, -2.0, -3.0, -4.0], [0.0, 3.0, 0.5, 2.0]).unbind()
    own = tuple(term[share] for term in terms)
    objective = Constrained(2.6**0.5, error="negative_log_likelihood", beta=0.5)
    value = objective(*trace_of(*own))
    state = torch.stack([objective.average, objective.beta, objective.released])
    return [value.detach(), state, *torch.autograd.grad(value.sum(), own)]


def constrained_run(data: DataSet, accelerator: Accelerator) -> dict[str, Tensor]:
    """Weights and state after training with a prior that is a bound itself."""
    options = {
        "hidden": (16,),
        "prior": "vhp",
        "prior_options": {"num_samples": 3, "hidden": (6,)},
    }
    model = hvae_course.recipes.vae(data, **options)
    objective = Constrained(0.5, inner_steps=1, smoothing=0.5)
    settings = {"objective": objective, "accelerator": accelerator}
    hvae_course.fit(model, data, **(SETTINGS | settings))
    return model.state_dict() | objective.state_dict()


def launched_by_hand(accelerator: Accelerator) -> dict:
    """Weights and values of the run that ``WORDS`` ask for."""
    data, sizes = hvae_course.data.load("digits"), {"latent_sizes": (4, 3), "hidden": (16,)}
    model = build_seeded("ladder_vae", data, sizes, seed=2)
    settings = SETTINGS | {"batch_size": 100, "seed": 2, "accelerator": accelerator}
    history = hvae_course.fit(model, data, objective=FreeBits(0.5), **settings)
    return {"weights": model.state_dict(), "values": [row[-1] for row in history.rows]}


def work(rank: int, port: int, data: DataSet, folder: Path) -> None:
    """What each of the two processes does: train, and leave its results in a file."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(rank)  # the processes start from different weights
    model = hvae_course.recipes.two_level_vae(data, hidden=(16,))
    traces, batches = [], []

    def objective(trace: Trace, x: Tensor) -> Tensor:
        traces.append(trace)
        batches.append(x)
        return elbo(trace, x)

    history = hvae_course.fit(
        model, data, objective=objective, accelerator=accelerator, **SETTINGS
    )
    z1 = traces[0].levels[0]
    result = {
        "batch": batches[0],
        "noise": ((z1.z - z1.q.mean) / z1.q.stddev).detach(),
        "weights": model.state_dict(),
        "history": history.rows,
        "free bits": free_bits(slice(rank, None, 2)),
        "constrained": constrained(slice(rank, None, 2)),
        "constrained run": constrained_run(data, accelerator),
        "launched": launched_by_hand(accelerator),
    }
    torch.save(result, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tiny_data, tmp_path_factory) -> list[dict]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (port, tiny_data, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_both_processes_end_with_the_same_weights(results):
    first, second = (result["weights"] for result in results)
    assert first.keys() == second.keys()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_both_processes_record_the_same_history(results):
    first, second = (result["history"] for result in results)
    assert str(first) == str(second)


def test_the_processes_share_a_batch_and_draw_noise_of_their_own(results):
    batch = torch.cat([result["batch"] for result in results])
    assert [len(result["batch"]) for result in results] == [20, 20]
    assert len(batch.unique(dim=0)) == 40
    first, second = (result["noise"] for result in results)
    assert ((first - second).abs() > 1e-3).float().mean() > 0.9


def test_the_batch_of_a_floor_is_that_of_both_processes(results):
    for rank, result in enumerate(results):
        expected = [part[rank::2] for part in free_bits(slice(None))]
        torch.testing.assert_close(result["free bits"], expected, rtol=0, atol=0)
        assert (result["free bits"][2] == -1).all()  # z_1 pays what it uses in both
        assert (result["free bits"][3] == 0).all()  # z_2 pays its floor in both


def test_the_error_of_a_constraint_is_that_of_both_processes(results):
    whole = constrained(slice(None))
    value, state, *gradients = whole
    assert state[0] == 2.5 and state[1] > 0.5 and state[2] == 1
    for rank, result in enumerate(results):
        expected = [value[rank::2], state, *(part[rank::2] for part in gradients)]
        torch.testing.assert_close(result["constrained"], expected)
        alone = -torch.tensor([-1.0, -2.0, -3.0, -4.0])[rank::2].mean()
        assert (alone < 2.6) == (rank == 0)


def test_a_constrained_run_keeps_prices_and_weights_of_both_processes_together(results):
    first, second = (result["constrained run"] for result in results)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first["steps"] == 6 and first["released"] == 1 and first["beta"] > 0.01


# The command line


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> tuple[Path, str]:
    """Folder and output of a run that ``accelerate launch`` has shared between two processes."""
    place = tmp_path_factory.mktemp("launched")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--main_process_port", "0", "-m", "hvae_course"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "MASTER_"))}
    done = subprocess.run(
        [*command, *WORDS, "--out", str(place / "run")],
        cwd=ROOT,
        env=kept | {"OMP_NUM_THREADS": "1", "HF_HOME": str(place)},  # nobody's own defaults
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return place / "run", done.stdout


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_launched_processes_write_one_folder_and_one_result(launched):
    folder, output = launched
    files = {"checkpoint.pt", "config.json", "environment.json", "history.json", "result.json"}
    assert {path.name for path in folder.iterdir()} == files
    (start,) = read(folder, "environment.json")
    assert start["processes"] == 2 and start["device"].startswith("cpu")
    assert output.count("training in") == output.count("ELBO") == 1


def test_a_launched_run_is_that_of_fit_in_two_processes(launched, results):
    checkpoint = load_checkpoint(launched[0] / "checkpoint.pt")
    assert checkpoint.run["settings"]["num_processes"] == 2
    found = {"weights": checkpoint.weights, "values": [r[-1] for r in checkpoint.run["history"]]}
    for result in results:
        torch.testing.assert_close(found, result["launched"], rtol=0, atol=0)


def test_the_result_of_a_launched_run_is_that_of_its_weights(launched):
    checkpoint = load_checkpoint(launched[0] / "checkpoint.pt")
    model = hvae_course.recipes.build(checkpoint.config)
    model.load_state_dict(checkpoint.weights)
    data = hvae_course.data.load("digits")
    expected = hvae_course.evaluate(model, data, split="validation", num_samples=2)
    found = read(launched[0], "result.json")["validation"]
    assert found["log_likelihood"]["mean"] == pytest.approx(expected.log_likelihood.mean, rel=1e-6)
    assert found["num_examples"] == expected.num_examples == 350


@pytest.mark.usefixtures("make_accelerator")
def test_another_number_of_processes_is_refused(launched, tmp_path, capsys):
    folder = shutil.copytree(launched[0], tmp_path / "run")
    (folder / "result.json").unlink()
    with pytest.raises(SystemExit, match="2"):
        main([*WORDS, "--out", str(folder)])
    assert "num_processes was 2 and is 1" in capsys.readouterr().err


def test_the_launch_commands_of_the_readme_are_understood():
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line for line in text.splitlines() if line.startswith("accelerate launch")]
    assert len(commands) >= 3
    for command in commands:
        words = shlex.split(command, comments=True)[2:]
        given = launch_command_parser().parse_args(words)
        assert given.module and given.training_script == "hvae_course"
        _make_parser()[0].parse_args(given.training_script_args)
