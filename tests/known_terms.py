"""Traces whose reconstruction and information are given, for the tests of objectives."""

import math

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from hvae_course import Trace
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import Level


def nats(*values: float | list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def trace_of(reconstruction: Tensor, *information: Tensor) -> tuple[Trace, Tensor]:
    """A trace with given log p(x | z) and information, each (B,) or (B, K), and its data."""
    levels = []
    for value in information:
        z = 0.5 - value.reshape(-1, 1)  # log N(z; 0, 1) - log N(z; 1, 1) = 1/2 - z
        zeros = torch.zeros_like(z)
        levels.append(Level(z, diag_normal(zeros, zeros), diag_normal(zeros + 1, zeros)))
    log_scale = -reconstruction.reshape(-1, 1) - 0.5 * math.log(2 * math.pi)
    px = Independent(Normal(torch.zeros_like(log_scale), log_scale.exp()), 1)
    num_samples = reconstruction.shape[1] if reconstruction.dim() == 2 else 1
    return Trace(tuple(levels), px, num_samples), torch.zeros(
        len(reconstruction), 1, dtype=torch.float64
    )
