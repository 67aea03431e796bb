"""Where a command runs, and what a result must state about it."""

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
"""Where a command may run."""
PRECISIONS = ("no", "tf32", "bf16", "fp16")
"""Full precision, matrix products of a GPU with shorter factors, and mixed precisions."""


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
        ValueError: if there is no such device, or it has no such precision.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, and PyTorch finds no CUDA device; choose cpu or auto")
    if precision == "tf32" and (device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("--precision tf32 needs a CUDA device; choose no or bf16")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    mixed = "no" if precision == "tf32" else precision
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)


def _git(*words: str) -> str | None:
    """What git says about the folder of this package; None where it is in no repository."""
    try:
        folder = str(Path(hvae_course.__file__).parent)
        result = subprocess.run(
            ["git", "-C", folder, *words], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _commit() -> dict[str, Any]:
    """The commit that the package is of, and whether it was changed since."""
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:  # installed, not checked out
        return {"git_commit": None, "git_changed": None}
    changed = _git("status", "--porcelain", "--", ".")
    return {"git_commit": _git("rev-parse", "HEAD"), "git_changed": changed != ""}


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """Describe what the numbers of a run may depend on beside its settings.

    Args:
        accelerator: device, precision and processes of the run.

    Returns:
        Versions, platform, threads, device and commit, in types that JSON has.
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
