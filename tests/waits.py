"""What would make the processor wait for a GPU, counted on the CPU."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2")


class Waits(TorchDispatchMode):
    """Counts the operators that need a value on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in WAITING:
            self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))
