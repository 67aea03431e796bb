"""The device that computes, and what a result records about it."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

import hvae_course
from hvae_course.config import Machine


def make_accelerator(machine: Machine | None = None) -> Accelerator:
    """Choose device, precision and processes.

    Args:
        machine: device and precision; by default chosen by Accelerate.

    Returns:
        What `hvae_course.training.loop.fit` trains with.

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
    torch.set_float32_matmul_precision("highest" if precise else "high")
    return Accelerator(
        cpu=machine.device == "cpu", mixed_precision=machine.precision if precise else "no"
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
