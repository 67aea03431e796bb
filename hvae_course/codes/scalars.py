r"""Quantisation without a codebook: every dimension is rounded to a few values (FSQ).

.. math:: u_i = \tfrac{L_i - 1}{2} \tanh z_i, \qquad
          e_i = \tfrac{2}{L_i - 1} \bigl( \operatorname{round}(u_i - o_i) + o_i \bigr), \qquad
          o_i = 0 \text{ if } L_i \text{ is odd, else } \tfrac12

The :math:`L_i` values of a dimension are equally spaced from -1 to 1. There are
:math:`K = \prod_i L_i` codes, none of which can lie out of reach, so there is nothing to learn and
no penalty. The published form shifts the tanh where :math:`L_i` is even, by the inverse tanh of
:math:`o_i` over the bound, so that an encoding of 0 is at a value; for two values that shift is
infinite. Here the grid is symmetric instead, and needs none.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hvae_course.codes.distributions import PointMass
from hvae_course.codes.quantiser import Quantiser
from hvae_course.gaussians import at_least_float32


class FiniteScalars(Quantiser):
    """Rounds every dimension of an encoding.

    Args:
        values: numbers of values L_1, ..., L_D, two or more each.

    Raises:
        ValueError: if a dimension has fewer than two values, or there is none.

    Source:
        Mentzer et al. (2024), Finite scalar quantization, arXiv:2309.15505.

    Example:
        >>> FiniteScalars((3, 2)).table().tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [0.0, -1.0], [0.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(self, values: Sequence[int]) -> None:
        super().__init__()
        if min(values, default=0) < 2:
            raise ValueError(f"every dimension needs two values or more, got values={values}")
        self.num_codes, self.size = math.prod(values), len(values)
        numbers = torch.tensor(values)
        steps = [math.prod(values[i + 1 :]) for i in range(len(values))]
        self.register_buffer("reach", (numbers - 1) / 2, persistent=False)
        self.register_buffer("offset", (1 - numbers % 2) / 2, persistent=False)
        self.register_buffer("steps", torch.tensor(steps), persistent=False)
        grids = torch.meshgrid(*(torch.arange(n) for n in values), indexing="ij")
        self.register_buffer("digits", torch.stack(grids, -1).flatten(0, -2), persistent=False)

    def table(self) -> Tensor:  # noqa: D102
        return (self.digits - self.reach) / self.reach

    def forward(self, encodings: Tensor) -> PointMass:  # noqa: D102
        z_e = at_least_float32(encodings).movedim(1, -1)
        bounded = self.reach * torch.tanh(z_e)
        rounded = (bounded.detach() - self.offset).round() + self.offset
        index = ((rounded + self.reach).long() * self.steps).sum(dim=-1)
        point = rounded / self.reach + (bounded - bounded.detach()) / self.reach
        return PointMass(point.movedim(-1, 1), index=index, num_codes=self.num_codes)
