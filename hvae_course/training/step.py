"""The forward half of a training step, as one function that can be compiled.

Model, objective and statistics are compiled together, which fuses the many small operations
between the matrix products. The compiled function draws the same random numbers as the plain one,
and its results agree up to rounding.
"""

import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hvae_course.objectives import Objective
from hvae_course.training.history import batch_statistics

Step = Callable[[nn.Module, Objective, Tensor, int], tuple[Tensor, Tensor]]
"""A function ``(model, objective, x, K)`` that returns the batch mean of the objective and the
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
        The mean of the objective, a scalar with gradients, and the statistics of
        `hvae_course.training.history.batch_statistics`.
    """
    trace = model(x, num_samples)
    value = objective(trace, x)
    return value.mean(), batch_statistics(trace, x, value)


def check_compiler(device: torch.device) -> None:
    """Check that the step can be compiled.

    Args:
        device: device of the model.

    Raises:
        ValueError: if there is no C++ compiler, or the device is not supported.
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

    The versions compiled for earlier models are discarded: PyTorch keeps only a few versions of a
    function and would run further ones without compilation.

    Args:
        device: device of the model.
        captured: whether to capture the kernels of a step as a CUDA graph and replay it.

    Returns:
        A function that is compiled when it is first called.

    Raises:
        ValueError: if the step cannot be compiled.
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
            torch.compiler.cudagraph_mark_step_begin()  # overwrites the last step's outputs
        return compiled(model, objective, x, num_samples)

    return run
