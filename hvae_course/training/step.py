"""The forward half of a training step, as one function that can be compiled.

Model, objective and statistics are compiled together, so that the many small operations between
the matrix products become a few. Random numbers come from PyTorch's own generators either way:
the compiled function draws the same ones, and its results agree with the other's up to rounding.
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hvae_course.training.history import batch_statistics
from hvae_course.training.settings import Objective

Step = Callable[[nn.Module, Objective, Tensor, int], tuple[Tensor, Tensor]]
"""A function ``(model, objective, x, K)`` that gives the batch mean of the objective and the
statistics of the batch."""


def step(
    model: nn.Module, objective: Objective, x: Tensor, num_samples: int
) -> tuple[Tensor, Tensor]:
    """Walk the hierarchy for a batch and score it.

    Args:
        model: the model, prepared for device, precision and processes.
        objective: what is maximised.
        x: data ``(B, D)``.
        num_samples: K, draws of the latents per example.

    Returns:
        The mean of the objective, a scalar with gradients, and what
        `hvae_course.training.history.batch_statistics` gives.
    """
    trace = model(x, num_samples)
    value = objective(trace, x)
    return value.mean(), batch_statistics(trace, x, value)


def check_compiler(device: torch.device) -> None:
    """Refuse to compile where that cannot work.

    Args:
        device: where the model is.

    Raises:
        ValueError: if there is no C++ compiler, or none for this kind of device.
    """
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"compiled=True works on the CPU and on CUDA, got the device {device}; leave it out"
        )
    names = (os.environ.get("CXX"), "g++", "c++", "clang++", "cl")
    if not any(name and shutil.which(name) for name in names):
        raise ValueError(
            "compiled=True needs a C++ compiler and found none of CXX, g++, c++, clang++ and cl; "
            "install one, or leave it out"
        )


def compile_step(device: torch.device, *, captured: bool = True) -> Step:
    """Compile `step` for the next model.

    What was compiled for earlier models is forgotten: PyTorch keeps only a few versions of a
    function, and would run the next one without compilation.

    Args:
        device: where the model is.
        captured: whether a GPU captures the kernels of a step once, and then replays them as one
            graph without launching each.

    Returns:
        A function that compiles itself when it is first called.

    Raises:
        ValueError: if there is no compiler.
    """
    check_compiler(device)
    torch.compiler.reset()
    options = {"fallback_random": True}
    replays = captured and device.type == "cuda"
    if replays:
        options["triton.cudagraphs"] = True
    compiled = torch.compile(step, options=options)

    def run(
        model: nn.Module, objective: Objective, x: Tensor, num_samples: int
    ) -> tuple[Tensor, Tensor]:
        if replays:
            torch.compiler.cudagraph_mark_step_begin()  # what the last step gave is used up
        return compiled(model, objective, x, num_samples)

    return run


def prices_on(objective: Objective, device: torch.device) -> Objective:
    """Keep the prices of an objective on the device, as tensors.

    A compiled function would take a new number for a reason to compile again.

    Args:
        objective: what is maximised in one epoch.
        device: where the model is.

    Returns:
        The same objective, with 0-dimensional tensors for weights if it has weights.
    """
    weights = getattr(objective, "weights", None)
    if weights is None or not dataclasses.is_dataclass(objective):
        return objective

    def price(weight: float) -> Tensor:
        return torch.tensor(weight, dtype=torch.float64, device=device)

    weights = tuple(map(price, weights)) if isinstance(weights, Sequence) else price(weights)
    return dataclasses.replace(objective, weights=weights)
