"""Seeding that leaves the caller's random number generators untouched."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


def seed_all(*numbers: int) -> None:
    """Seed the generators of all devices from several numbers.

    Args:
        *numbers: non-negative, for instance run seed, epoch and process.
    """
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


@contextlib.contextmanager
def isolated_random(device: torch.device) -> Iterator[None]:
    """Restore the generators of the CPU and of one device on exit.

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
    """Return the states of the generators of the CPU and of one device.

    Args:
        device: the device in use.

    Returns:
        States by type of device.
    """
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore states that `generator_states` returned.

    Args:
        states: the states, on the CPU.
        device: the device in use, of the type that the states belong to.

    Raises:
        ValueError: if there is no state for this type of device.
    """
    if device.type not in states:
        raise ValueError(
            f"the random states belong to {', '.join(states)}, got the device {device.type}; "
            "resume on the same type of device"
        )
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
