r"""How the KL weight follows a constraint: the rules GECO and ReWO.

Both multiply the KL weight :math:`\beta = 1 / \lambda` by a factor, :math:`\beta \leftarrow
\beta\, e^{\eta}`, where the step :math:`\eta` follows from the relative violation
:math:`\delta = \hat C / \kappa^2 - 1`.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def plain_number(value: Any, name: str, kind: str = "a number") -> float:  # noqa: ANN401
    """Convert a setting to one of Python's own numbers.

    Args:
        value: a number of Python, NumPy or PyTorch.
        name: what the number is, for the error message.
        kind: what it must be, for the error message.

    Returns:
        The number.

    Raises:
        TypeError: if it is not a number.
    """
    number = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(number, Real) or isinstance(number, bool):
        raise TypeError(f"{name} must be {kind}, got {value!r}")
    return number


def _check_positive(rule: "GECO | ReWO") -> None:
    for name, value in vars(rule).items():
        number = plain_number(value, f"the {name} of {type(rule).__name__}")
        if not 0 < number < math.inf:
            raise ValueError(
                f"the {name} of {type(rule).__name__} must be positive, got {name}={number}"
            )
        object.__setattr__(rule, name, number)


@dataclass(frozen=True)
class GECO:
    r"""Exponentiated gradient ascent in the multiplier (:eq:`eq-geco`).

    .. math:: \eta = -\nu\, \delta

    The multiplier is scaled by :math:`e^{\nu \delta}`, and :math:`\delta` is proportional to the
    Lagrangian's derivative in it. (Gradient ascent on :math:`\log \lambda` would have the factor
    :math:`\lambda` in the exponent.) While the constraint holds, the KL weight rises without end,
    past 1, where the objective is a bound that is lower than the ELBO; while it is violated, the
    KL weight falls without end.

    Args:
        rate: nu.

    Raises:
        ValueError: if the rate is not positive.
        TypeError: if it is not a number.

    Source:
        Rezende and Viola (2018), Taming VAEs, arXiv:1810.00597.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        _check_positive(self)

    def __call__(self, beta: Tensor, violation: Tensor) -> Tensor:
        """Give the step of log beta.

        Args:
            beta: the KL weight, ``()``.
            violation: relative violation, ``()``; positive if the error is too large.

        Returns:
            ``()``.
        """
        return -self.rate * violation


@dataclass(frozen=True)
class ReWO:
    r"""Reweighted optimisation: a KL weight that never ends above 1 (:eq:`eq-rewo`).

    .. math:: \eta = \nu\, \delta \cdot \begin{cases} -1 & \delta \ge 0 \\
              \tanh(\tau (\beta - 1)) & \delta < 0 \end{cases}

    A violated constraint lowers the KL weight. While it holds, the KL weight moves towards 1 from
    either side. It comes to rest at 1, where training ends with the ELBO, or at the weight where
    the error is :math:`\kappa^2`, whichever is lower.

    Args:
        rate: nu.
        slope: tau; how sharply the KL weight slows down near 1.

    Raises:
        ValueError: if a setting is not positive.
        TypeError: if a setting is not a number.

    Source:
        Klushyn et al. (2019), Learning Hierarchical Priors in VAEs, arXiv:1905.04982.
    """

    rate: float = 0.1
    slope: float = 3.0

    def __post_init__(self) -> None:
        _check_positive(self)

    def __call__(self, beta: Tensor, violation: Tensor) -> Tensor:
        """Give the step of log beta.

        Args:
            beta: the KL weight, ``()``.
            violation: relative violation, ``()``; positive if the error is too large.

        Returns:
            ``()``.
        """
        towards_one = torch.tanh(self.slope * (beta - 1))
        direction = torch.where(violation < 0, towards_one, -torch.ones_like(beta))
        return self.rate * direction * violation
