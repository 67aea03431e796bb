"""Two formulas of chapter 8: variance of a long residual sum, and temperature of samples."""

import math

import pytest
import torch
from torch import nn

from hvae_course.convolutions import scale_last
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import tempered

D = torch.float64
RATIO = 0.5
"""c, variance of what a block adds over that of what it reads."""
WIDTH, RUNS = 16, 300


def block(num_blocks: int | None) -> nn.Sequential:
    """A linear body with random weights, divided by the root of a number of blocks if given."""
    body = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1, bias=False, dtype=D))
    nn.init.normal_(body[0].weight, std=math.sqrt(RATIO / WIDTH))
    return body if num_blocks is None else scale_last(body, 1 / math.sqrt(num_blocks))


@torch.no_grad()
def growth(num_blocks: int, *, scaled: bool) -> torch.Tensor:
    """Mean square of a state after the blocks over that before them, one per run."""
    found = []
    for _ in range(RUNS):
        h = start = torch.randn(1, WIDTH, 1, 1, dtype=D)
        for _ in range(num_blocks):
            h = h + block(num_blocks if scaled else None)(h)
        found.append(h.square().mean() / start.square().mean())
    return torch.stack(found)


@pytest.mark.equation("eq-depth-scale")
@pytest.mark.parametrize("num_blocks", [1, 4, 8])
def test_the_variance_of_a_residual_sum_grows_with_its_blocks_unless_they_are_divided(
    num_blocks, assert_mean
):
    torch.manual_seed(0)
    assert_mean(growth(num_blocks, scaled=False), (1 + RATIO) ** num_blocks)
    limited = (1 + RATIO / num_blocks) ** num_blocks
    assert_mean(growth(num_blocks, scaled=True), limited)
    assert limited < math.exp(RATIO)


@pytest.mark.equation("eq-temperature")
@pytest.mark.parametrize("temperature", [0.25, 0.7, 1.0])
def test_a_temperature_multiplies_the_standard_deviation_and_not_the_variance(
    temperature, assert_mean
):
    torch.manual_seed(0)
    mean, std = 3.0, 2.0
    shape = torch.ones(50_000, 1, dtype=D)
    p = diag_normal(mean * shape, math.log(std) * shape)
    _, z = tempered(temperature)(0, None, p)
    assert_mean(z[:, 0], mean)
    assert_mean((z[:, 0] - mean).square(), (temperature * std) ** 2)
