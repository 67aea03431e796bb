"""The results of an interrupted evaluation, and the state of its random numbers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvae_course.files import as_path, check_writable, read_tensors, storable, write_tensors
from hvae_course.seeding import generator_states, restore_generators


def batches_done(path: str | Path | None) -> int:
    """Count the finished batches of an evaluation in a file.

    Args:
        path: the file, or None.

    Returns:
        The number of finished batches, 0 if there is no file.

    Raises:
        ValueError: if the file does not hold part of an evaluation.
    """
    if path is None or not as_path(path).exists():
        return 0
    return len(_read(path)["columns"])


def _read(path: str | Path) -> dict[str, Any]:
    content = read_tensors(path, kind="part of an evaluation")
    parts = {"run": dict, "columns": list, "generators": object}
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), kind) for name, kind in parts.items()
    ):
        raise ValueError(
            f"{path} does not hold part of an evaluation; choose another file, or delete it"
        )
    return content


def fingerprint(model: nn.Module) -> str:
    """Hash a model's structure and its state, parameters and running statistics.

    Args:
        model: any module.

    Returns:
        SHA-256 of names, types, shapes and values, in hexadecimal.
    """
    digest = hashlib.sha256(repr(model).encode())
    for name, values in model.state_dict().items():
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class Partial:
    """A file with the finished batches of an evaluation; removed when all are finished.

    Args:
        path: the file, or None to keep nothing.
        run: the settings of the evaluation, numbers and strings; a file with other settings is
            refused.
        device: the device in use.

    Raises:
        ValueError: if the file belongs to another evaluation, or does not hold one.
        OSError: if the file cannot be written.
    """

    def __init__(
        self, path: str | Path | None, run: Mapping[str, Any], device: torch.device
    ) -> None:
        self.path, self.device = None if path is None else check_writable(path), device
        self.run = storable({**run, "device": device.type})
        self.columns: list[Tensor] = []
        """Results of the finished batches, each ``(3 + L, B)``."""
        if self.path is None or not self.path.exists():
            return
        found = _read(self.path)
        before = found["run"]
        changed = [name for name in self.run if before.get(name) != self.run[name]]
        if changed:
            pairs = [(name, before.get(name), self.run[name]) for name in changed]
            listed = ", ".join(f"{name} was {was!r} and is {now!r}" for name, was, now in pairs)
            raise ValueError(
                f"{self.path} holds part of another evaluation: {listed}; finish that one with "
                "the same settings, or choose another file"
            )
        self.columns = [column.to(device) for column in found["columns"]]
        restore_generators(found["generators"], device)

    def add(self, column: Tensor) -> None:
        """Add the results of one batch; the file is replaced as a whole.

        Args:
            column: ``(3 + L, B)``.
        """
        self.columns.append(column)
        if self.path is None:
            return
        content = {"run": self.run, "columns": [c.cpu() for c in self.columns]}
        content["generators"] = generator_states(self.device)
        write_tensors(content, self.path)

    def done(self) -> Tensor:
        """End the evaluation and remove the file.

        Returns:
            All results, ``(3 + L, N)``.
        """
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        return torch.cat(self.columns, dim=1)
