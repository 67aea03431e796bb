"""The device that computes, and what a result records about it."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

import hvae_course
from hvae_course.config import Machine


def make_accelerator(machine: Machine | None = None) -> Accelerator:
    """Choose device, precision and processes, whatever was chosen before in this process.

    Args:
        machine: device and precision; by default chosen by Accelerate.

    Returns:
        What `hvae_course.training.loop.fit` trains with. Accelerators made before keep their own
        settings.

    Raises:
        ValueError: if the device is missing or does not support the precision.
    """
    machine = machine or Machine()
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda, but PyTorch finds no CUDA device; choose cpu or auto")
    if machine.precision == "tf32" and (machine.device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("precision tf32 needs a CUDA device; choose no or bf16")
    if machine.precision == "fp16" and (machine.device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("precision fp16 needs a CUDA device; choose no or bf16")
    precise = machine.precision != "tf32"
    if not _launched():
        _set_states({}, {}, {})
    accelerator = Accelerator(
        cpu=machine.device == "cpu", mixed_precision=machine.precision if precise else "no"
    )
    accelerator.float32_matmul_precision = "highest" if precise else "high"
    return accelerator


_STATES = (AcceleratorState, PartialState, GradientState)
"""Where Accelerate keeps what holds for the whole process."""


def _launched() -> bool:
    """Whether this is one of several processes, which must keep the state they were given."""
    return PartialState._shared_state.get("num_processes", 1) > 1


def _set_states(*contents: dict[str, Any]) -> None:
    """Replace the process-wide states; accelerators made before keep theirs."""
    for state, content in zip(_STATES, contents, strict=True):
        state._shared_state = content


@contextlib.contextmanager
def using(accelerator: Accelerator | None = None) -> Iterator[Accelerator]:
    """Compute with an accelerator, or with a new one, and leave none of its settings behind.

    Accelerate keeps device, precision and gradient accumulation for the whole process: a later
    ``Accelerator()`` takes them over without a word, and one with other settings is an error.
    Here a new accelerator has the defaults, or what ``accelerate launch`` set, and on exit the
    process is as it was. Several launched processes share one state throughout.

    Args:
        accelerator: device, precision and processes; None for a new one.

    Yields:
        Accelerator: the accelerator.

    Raises:
        TypeError: if it is something else, such as the name of a device.
        ValueError: if the accelerator accumulates gradients, or cannot compute in its precision,
            or the block is entered inside ``torch.autocast``.
    """
    if accelerator is not None and not isinstance(accelerator, Accelerator):
        raise TypeError(
            f"accelerator is an accelerate.Accelerator, got {accelerator!r}; choose a device with "
            "Accelerator(cpu=True), or leave it out"
        )
    before = [state._shared_state for state in _STATES]
    precision = torch.get_float32_matmul_precision()
    if not _launched():
        if accelerator is None:
            _set_states({}, {}, {})
        else:
            whole = accelerator.state.__dict__
            part = {name: whole[name] for name in PartialState._known_attrs if name in whole}
            _set_states(whole, part, accelerator.gradient_state.__dict__)
    try:
        accelerator = accelerator or Accelerator()
        _check(accelerator)
        gradients = accelerator.gradient_state
        synchronised = gradients.sync_gradients
        gradients._set_sync_gradients(True)  # or the optimiser takes no step
        torch.set_float32_matmul_precision(
            getattr(accelerator, "float32_matmul_precision", precision)
        )
        try:
            yield accelerator
        finally:
            gradients._set_sync_gradients(synchronised)
    finally:
        torch.set_float32_matmul_precision(precision)
        if not _launched():
            _set_states(*before)


def _check(accelerator: Accelerator) -> None:
    """Refuse settings that training would not follow."""
    steps, precision = accelerator.gradient_accumulation_steps, accelerator.mixed_precision
    if steps != 1:
        raise ValueError(
            f"the accelerator accumulates the gradients of {steps} batches, which fit does not; "
            "leave gradient_accumulation_steps out and choose a larger batch_size"
        )
    if precision != "no" and not accelerator.native_amp:
        raise ValueError(
            f"precision {precision} is not available on the device {accelerator.device}; choose "
            "no or bf16"
        )
    if torch.is_autocast_enabled(accelerator.device.type):
        raise ValueError(
            "fit was called inside torch.autocast; call it outside, and choose the precision with "
            "accelerator=Accelerator(mixed_precision='bf16')"
        )


def _git(*words: str) -> str | None:
    """Output of a git command in the package folder; None outside a repository."""
    try:
        folder = str(Path(hvae_course.__file__).parent)
        result = subprocess.run(
            ["git", "-C", folder, *words], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _commit() -> dict[str, Any]:
    """The commit of the package, and whether the files differ from it."""
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:  # installed, not checked out
        return {"git_commit": None, "git_changed": None}
    changed = _git("status", "--porcelain", "--", ".")
    return {"git_commit": _git("rev-parse", "HEAD"), "git_changed": changed != ""}


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """Describe what the numbers of a run may depend on besides its settings.

    Args:
        accelerator: device, precision and processes of the run.

    Returns:
        Versions, platform, threads, device and commit, in JSON types.
    """
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "hvae_course": hvae_course.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": name or platform.machine(),
        "processes": accelerator.num_processes,
        **_commit(),
    }
