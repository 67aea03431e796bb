"""Training with two processes on the CPU: the same weights in both, and the gradient of one."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from accelerate import Accelerator
from torch import Tensor
from torch.distributions import Normal
from torch.optim.optimizer import register_optimizer_step_pre_hook

import hvae_course
from hvae_course.data import DataSet

SETTINGS = {"batch_size": 40, "epochs": 2, "progress": False}


def first_gradients(data: DataSet, accelerator: Accelerator) -> list[Tensor]:
    """Gradients of the first step of a model without batch statistics and without noise."""
    steps = []

    def keep(optimizer: torch.optim.Optimizer, args: tuple, settings: dict) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        steps.append([p.grad.clone() for p in parameters])

    torch.manual_seed(3)
    model = hvae_course.recipes.two_level_vae(data, hidden=(16,), normalisation="layer")
    noisy, Normal.rsample = Normal.rsample, lambda self, shape=(): self.loc
    handle = register_optimizer_step_pre_hook(keep)
    try:
        hvae_course.fit(model, data, accelerator=accelerator, **SETTINGS)
    finally:
        handle.remove()
        Normal.rsample = noisy
    return steps[0]


def work(rank: int, port: int, data: DataSet, folder: Path) -> None:
    """What each of the two processes does: train, and leave its results in a file."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(rank)  # the processes start from different weights
    model = hvae_course.recipes.two_level_vae(data, hidden=(16,))
    history = hvae_course.fit(model, data, accelerator=accelerator, **SETTINGS)
    result = {
        "weights": model.state_dict(),
        "history": history.rows,
        "gradients": first_gradients(data, accelerator),
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


def test_the_averaged_gradient_of_two_processes_is_that_of_one(
    results, tiny_data, make_accelerator
):
    expected = first_gradients(tiny_data, make_accelerator())
    for result in results:
        torch.testing.assert_close(result["gradients"], expected, rtol=1e-4, atol=1e-5)
