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


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """States of the generators of the CPU and of one device.

    Args:
        device: the device in use.

    Returns:
        A state for each, by the device's type.
    """
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Set the generators to what `generator_states` gave.

    Args:
        states: as it was returned, on the CPU.
        device: the device in use, of the same type as then.

    Raises:
        ValueError: if there is no state for this device.
    """
    if device.type not in states:
        raise ValueError(
            f"the random numbers were kept on {', '.join(states)}, and this is {device.type}; go "
            "on with the same type of device"
        )
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
