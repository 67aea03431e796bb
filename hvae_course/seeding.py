"""Random numbers that follow from stated seeds and leave the caller's generators alone."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


def seed_all(*numbers: int) -> None:
    """Seed every device's generator from several numbers, well mixed.

    Args:
        *numbers: for instance run seed, epoch and process; each non-negative.
    """
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


@contextlib.contextmanager
def isolated_random(device: torch.device) -> Iterator[None]:
    """Restore the generators of the CPU and of one device afterwards.

    Args:
        device: the device in use.

    Yields:
        None: nothing.
    """
    cuda = [device] if device.type == "cuda" else []
    apple = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            if apple is not None:
                torch.mps.set_rng_state(apple)
