r"""A multilayer perceptron whose outputs follow an order: number i sees inputs before i alone.

.. math:: o_i = f_i(v_{i-w}, \dots, v_{i-1}; c)

Every unit has an interval of inputs that it may see: output i the w inputs before it, a hidden
unit the interval of one output. A connection is kept where the interval of its source lies within
that of its target, so no path leads from an input to an output that must not see it. Masked
autoregressive flows (`hvae_course.vector_flows`), an autoregressive likelihood
(`hvae_course.likelihoods.Autoregressive`) and autoregressive priors over codes
(`hvae_course.codes.autoregressive.CodesBefore`) are made of this network.
"""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_course.nets import ACTIVATIONS

Intervals = Sequence[tuple[int, int]]
"""Inputs that each unit may see, ``(first, last + 1)``; an empty interval is ``(i, i)``."""


class MaskedLinear(nn.Linear):
    """A linear layer whose units read the units that see no more than they may see.

    Args:
        given: interval of every unit that is read.
        own: interval of every unit of the layer.
        bias: whether there is a bias.
    """

    def __init__(self, given: Intervals, own: Intervals, *, bias: bool = True) -> None:
        super().__init__(len(given), len(own), bias=bias)
        first, last = torch.tensor([*given]).T
        lowest, highest = torch.tensor([*own]).T[..., None]
        within = (first == last) | ((first >= lowest) & (last <= highest))
        self.register_buffer("mask", within.to(self.weight), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., F)`` to ``(..., G)``."""
        return F.linear(input, self.weight * self.mask, self.bias)


class MaskedMLP(nn.Module):
    """Masked network with a window and a context, which enters unmasked.

    Inputs reach the outputs through the hidden layers and directly, by a masked linear map. With a
    window w of D - 1 or None the masks are those of MADE; with w = 0 the context alone is read. In
    between, the hidden units of one output serve no other, so give hidden layers a multiple of D
    units.

    Args:
        size: D, number of dimensions.
        hidden: widths of the hidden layers; without any the network is linear.
        outputs: K, outputs per dimension.
        inputs: J, inputs per dimension.
        window: w, how many inputs before its own an output sees; None for all.
        order: place of every dimension in the order, from 0 on; None for the order as given.
        context: C, width of the context; 0 for none.
        activation: a key of `hvae_course.nets.ACTIVATIONS`, but not glu.

    Raises:
        ValueError: if the window is negative, or the order does not name every place once.

    Source:
        Germain et al. (2015), MADE, arXiv:1502.03509.

    Example:
        >>> net = MaskedMLP(4, window=1)
        >>> jacobian = torch.autograd.functional.jacobian(net, torch.zeros(4))  # (1, 4, 4)
        >>> (jacobian[0] != 0).int()
        tensor([[0, 0, 0, 0],
                [1, 0, 0, 0],
                [0, 1, 0, 0],
                [0, 0, 1, 0]], dtype=torch.int32)
    """

    def __init__(
        self,
        size: int,
        *,
        hidden: Sequence[int] = (64,),
        outputs: int = 1,
        inputs: int = 1,
        window: int | None = None,
        order: Sequence[int] | None = None,
        context: int = 0,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        places = [*range(size)] if order is None else [int(place) for place in order]
        if sorted(places) != [*range(size)]:
            raise ValueError(
                f"the order gives each of {size} dimensions a place from 0 to {size - 1}, got "
                f"{places}"
            )
        if window is not None and not (isinstance(window, Integral) and window >= 0):
            raise ValueError(
                f"the window is the number of inputs that an output sees, 0 or more, or None for "
                f"all before it, got {window!r}"
            )
        reach = size if window is None else window

        def before(place: int) -> tuple[int, int]:
            return max(place - reach, 0), place

        own = [(place, place + 1) for place in places] * inputs
        inner = [[before(k * size // width) for k in range(width)] for width in hidden]
        ends = [before(place) for place in places] * outputs
        self.layers = nn.ModuleList(MaskedLinear(*both) for both in pairwise([own, *inner, ends]))
        self.direct = MaskedLinear(own, ends, bias=False) if hidden else None
        width = self.layers[0].out_features
        self.context = nn.Linear(context, width, bias=False) if context else None
        self.activation = ACTIVATIONS[activation]()
        self.outputs = outputs

    def forward(self, v: Tensor, context: Tensor | None = None) -> Tensor:
        """Compute K outputs per dimension.

        Args:
            v: ``(..., D)``, with several inputs per dimension ``(..., J D)``, one after another
                as the outputs are.
            context: ``(..., C)``, broadcast against v; None without a context.

        Returns:
            ``(..., K, D)``.
        """
        first, *others = self.layers
        values = first(v)
        if self.context is not None:
            values = values + self.context(context)
        for layer in others:
            values = layer(self.activation(values))
        if self.direct is not None:
            values = values + self.direct(v)
        return values.unflatten(-1, (self.outputs, -1))
