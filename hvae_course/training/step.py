"""The forward half of a training step, as one function that can be compiled.

Model, objective and statistics are compiled together, which fuses the many small operations
between the matrix products. The compiled function draws the same random numbers as the plain one,
and its results agree up to rounding.
"""

import copy
import os
import shutil
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hvae_course.objectives import Objective, penalty
from hvae_course.seeding import generator_states, restore_generators
from hvae_course.training.guards import check_value
from hvae_course.training.history import batch_statistics

Step = Callable[..., tuple[Tensor, Tensor]]
"""A function ``(model, objective, x, K, y=None)`` that returns the batch mean of the objective and
the statistics of the batch."""


class NotCompiled(UserWarning):
    """The training step could not be compiled and runs as it is."""


def step(
    model: nn.Module, objective: Objective, x: Tensor, num_samples: int, y: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Walk the hierarchy for a batch and score it.

    Args:
        model: the model, prepared for device, precision and processes.
        objective: what is maximised; penalties of levels are subtracted from it.
        x: data ``(B, D)``.
        num_samples: K, draws of the latents per example.
        y: labels ``(B,)``, for a conditional model.

    Returns:
        The mean of the objective, a scalar with gradients, and the statistics of
        `hvae_course.training.history.batch_statistics`.

    Raises:
        TypeError: if the objective returns no tensor of floating-point numbers.
        ValueError: if it does not return one value per example, with gradients.
    """
    trace = model(x, num_samples) if y is None else model(x, num_samples, y=y)
    value = check_value(objective(trace, x), trace, x)
    if (paid := penalty(trace)) is not None:
        value = value - paid
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
    compiled, ready = torch.compile(step, options=options), False

    def run(
        model: nn.Module,
        objective: Objective,
        x: Tensor,
        num_samples: int,
        y: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        nonlocal compiled, ready
        if replays:
            torch.compiler.cudagraph_mark_step_begin()  # overwrites the last step's outputs
        if ready:
            return compiled(model, objective, x, num_samples, y)
        before, failed = generator_states(device), None
        state = {name: value.clone() for name, value in model.named_buffers()}
        price = copy.deepcopy(objective.state_dict())
        try:
            result = compiled(model, objective, x, num_samples, y)
        except Exception as error:  # of the compiler, or of model and objective
            failed = error
        if failed is not None:
            restore_generators(before, device)
            for name, value in model.named_buffers():
                value.data.copy_(state[name])
            if price is not None:
                objective.load_state_dict(price)
            result = step(model, objective, x, num_samples, y)  # their own error is raised here
            compiled = step
            _warn_that_it_is_not_compiled(failed)
        ready = True
        return result

    return run


def _warn_that_it_is_not_compiled(error: Exception) -> None:
    """Say why a step runs uncompiled, and what to do."""
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "that TORCHINDUCTOR_CACHE_DIR names")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    warnings.warn(
        f"the training step could not be compiled ({' '.join(lines[:2])[:200]}) and runs "
        "uncompiled, with the same results up to rounding. If an earlier run was killed while it "
        f"compiled, delete the folder {folder}, which may hold files that are incomplete",
        NotCompiled,
        stacklevel=6,
    )
