"""The device a command runs on, and what a result records about it."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

import hvae_course
from hvae_course.cli.options import option

DEVICES = ("auto", "cpu", "cuda")
"""Devices a command can run on."""
PRECISIONS = ("no", "tf32", "bf16", "fp16")
"""Full precision, TF32 matrix products on a GPU, and mixed precision."""


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Device."""

    device: str = option("auto", "where to compute", choices=DEVICES)

    def find(self) -> torch.device:
        """Look up the device.

        Returns:
            The device.
        """
        return make_accelerator(self.device).device


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """Device and precision."""

    device: str = option("auto", "where to compute", choices=DEVICES)
    precision: str = option(
        "no", "precision of the networks; tf32 on CUDA devices only", choices=PRECISIONS
    )


def make_accelerator(device: str = "auto", precision: str = "no") -> Accelerator:
    """Choose device, precision and processes.

    Args:
        device: one of `DEVICES`.
        precision: one of `PRECISIONS`.

    Returns:
        What `hvae_course.training.loop.fit` trains with.

    Raises:
        ValueError: if the device is missing or does not support the precision.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, but PyTorch finds no CUDA device; choose cpu or auto")
    if precision == "tf32" and (device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("--precision tf32 needs a CUDA device; choose no or bf16")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    mixed = "no" if precision == "tf32" else precision
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)


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
