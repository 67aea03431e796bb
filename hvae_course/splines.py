r"""Autoregressive flows of splines, from the package zuko.

A step maps every dimension by a monotonic piecewise rational-quadratic function whose knots depend
on the dimensions before it, so that a prior may have several modes in one dimension. Outside
:math:`[-5, 5]` a spline is the identity. Everything else is as in `hvae_course.vector_flows`: one
pass of a network scores a value, a draw takes one pass per dimension.

A compiled training step is compiled around the splines, whose own compiled gradients are wrong.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from hvae_course.gaussians import at_least_float32
from hvae_course.nets import ACTIVATIONS
from hvae_course.vector_flows import Flow, FlowHead


def import_zuko() -> ModuleType:
    """Import zuko without its change to the distributions of the whole process.

    Its import switches off the checks of arguments of all PyTorch distributions, and empties the
    constraints of their base class.

    Returns:
        The package.

    Raises:
        ImportError: if it is not installed.
    """
    before = Distribution._validate_args, Distribution.arg_constraints
    try:
        import zuko
    except ImportError as error:
        raise ImportError(
            "splines need the package zuko; install it with pip install 'hvae-course[flows]', or "
            "choose transform='affine'"
        ) from error
    finally:
        Distribution._validate_args, Distribution.arg_constraints = before
    return zuko


class Transformed(Flow):
    """A diagonal Gaussian moved by a transform that leads from z to it, as zuko writes flows.

    Args:
        base: the Gaussian, event shape ``(Z,)``.
        transform: a transform of PyTorch's kind with the method ``call_and_ladj``.
    """

    def __init__(self, base: Independent, transform: Any) -> None:  # noqa: ANN401
        super().__init__(base)
        self.transform = transform

    def with_base(self, base: Independent) -> "Transformed":  # noqa: D102
        return Transformed(base, self.transform)

    @torch.compiler.disable
    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return self.transform.call_and_ladj(z)

    @torch.compiler.disable
    def push(self, z0: Tensor) -> Tensor:  # noqa: D102
        return self.transform.inv(z0)


class SplineFlow(FlowHead):
    """Last layer of a conditional prior: features in, an autoregressive flow of splines out.

    Args:
        size: Z, number of latent dimensions.
        context: width of the features; 0 for a flow that depends on nothing, as a top prior.
        num_steps: number of steps.
        hidden: widths of the hidden layers of a step.
        activation: a key of `hvae_course.nets.ACTIVATIONS`, but not glu.

    Source:
        Durkan et al. (2019), Neural spline flows, arXiv:1906.04032; the implementation is zuko's.
    """

    def __init__(
        self,
        size: int,
        *,
        context: int = 0,
        num_steps: int = 2,
        hidden: Sequence[int] = (64,),
        activation: str = "gelu",
    ) -> None:
        super().__init__(size, context=context)
        self.flow = import_zuko().flows.NSF(
            size,
            context,
            transforms=num_steps,
            hidden_features=[*hidden],
            activation=ACTIVATIONS[activation],
        )

    @torch.compiler.disable
    def move(self, base: Independent, features: Tensor | None) -> Transformed:  # noqa: D102
        features = features if features is None else at_least_float32(features)
        return Transformed(base, self.flow.transform(features))
