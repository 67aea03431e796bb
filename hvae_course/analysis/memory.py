"""How many rows of a computation fit into memory, measured on a few of them."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

CPU_BUDGET, GPU_BUDGET = 2**29, 2**31
"""Bytes that the rows held at a time may take, beside the model and the data."""


class _Alive(TorchDispatchMode):
    """Bytes of the tensors made in the block that are alive after each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.series = 0, []
        self.known: set[int] = set()  # storages that are counted

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,  # noqa: ANN401
        arguments: tuple[Any, ...] = (),
        settings: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = function(*arguments, **(settings or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._meet(tensor.untyped_storage())
        self.series.append(self.bytes)
        return result

    def _meet(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until the last tensor that uses it is gone."""
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.bytes += size
            weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def _series(run: Callable[[int], object], rows: int) -> list[int]:
    with _Alive() as alive:
        run(rows)
    return alive.series


def rows_in_memory(run: Callable[[int], object], device: torch.device, *, most: int) -> int:
    """Measure how many rows a computation can hold at a time.

    What counts are the tensors that the computation makes, such as the maps between the layers of
    a convolutional network, and not the size of its inputs or the number of its weights. The
    working memory inside one operation does not count. It is small but for convolutions in double
    precision on a CPU, which copy every map once for each place of their kernel.

    The bytes that two and four rows keep alive are compared operation by operation, so what does
    not depend on the number of rows, such as the pseudo-inputs of a prior, does not count.

    Args:
        run: function that computes a number of rows, 2 or 4; it is called without gradients.
        device: where it computes; the budget is `CPU_BUDGET` or `GPU_BUDGET`.
        most: largest answer.

    Returns:
        At least 1.
    """
    with torch.no_grad():
        two, four = _series(run, 2), _series(run, 4)
    if len(two) == len(four):
        per_row = max((b - a) // 2 for a, b in zip(two, four, strict=True))
    else:  # the operations depend on the rows
        per_row = max(four) // 4
    budget = CPU_BUDGET if device.type == "cpu" else GPU_BUDGET
    return min(most, max(1, budget // max(1, per_row)))
