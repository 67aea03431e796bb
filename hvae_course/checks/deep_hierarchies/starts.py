"""Check of a start whose variance does not grow with the number of residual blocks."""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hvae_course.checks.building import used
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    alike,
    as_sequence,
    checked,
    compare_cases,
)

_CHANNELS, _DEPTHS = 32, (4, 16, 64)
_STATES = tuple(f"the state after {n} blocks" for n in _DEPTHS)


def _bodies(n: int) -> tuple[nn.Module, ...]:
    """Bodies that add about half of the variance that they read, with biases in both layers."""
    bodies = []
    for _ in range(n):
        first, last = (nn.Conv2d(_CHANNELS, _CHANNELS, 1, dtype=torch.float32) for _ in range(2))
        for layer in (first, last):
            nn.init.normal_(layer.weight, std=1.1 / math.sqrt(_CHANNELS))
            nn.init.normal_(layer.bias, std=0.3)
        bodies.append(nn.Sequential(nn.GELU(), first, nn.GELU(), last))
    return tuple(bodies)


def _run(bodies: Sequence[nn.Module], h: Tensor) -> Tensor:
    """The state after all blocks, or what a body that is no module lets one see of it."""
    h = h.to(next(bodies[0].parameters()).dtype)
    for body in bodies:
        h = h + body(h)
    return h


@checked
def scale_bodies(answer: Answer) -> str:
    r"""A start at which B residual blocks add a bounded variance (:eq:`eq-depth-scale`).

    Write ``scale_bodies(bodies) -> bodies``. ``bodies`` is a tuple of B networks g, each an
    ``nn.Sequential`` that ends in a convolution; a block computes :math:`h + g(h)`. Divide
    weight and bias of the last layer of each by :math:`\sqrt B`, in place, and return the bodies.
    Nothing else changes: the bodies keep their layers, and all parameters can be trained.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    given = [_bodies(n) for n in _DEPTHS]
    h = torch.randn(32, _CHANNELS, 2, 2, dtype=torch.float32)

    def states(function: Answer) -> Answer:
        def run() -> list[Tensor]:
            """The states at every depth, without changing what other answers are given."""
            values = []
            for bodies in given:
                held = copy.deepcopy(bodies)
                own = function(held)
                own = list(own) if isinstance(own, nn.ModuleList) else own
                own = as_sequence(own, len(bodies), name="the result")
                if not all(isinstance(body, nn.Module) for body in own):
                    raise Mistake("the result should be the bodies, which are modules")
                with torch.no_grad():
                    values.append(_run(own, h))
                _check_layers(own, bodies)
                if any(one is not other for one, other in zip(own, held, strict=True)):
                    raise Mistake(
                        "these are other bodies than the given ones, whose weights stay as they "
                        "are; change the given bodies in place, and return them"
                    )
            return values

        return run

    hints = used(states, scale_bodies.mistakes)
    compare_cases(states(answer), states(_scaled()), [()], name=_STATES, mistakes=hints)
    growth = [value.var() / h.var() for value in states(_scaled())()]
    before = [_run(bodies, h).var() / h.var() for bodies in given]
    return (
        f"{', '.join(map(str, _DEPTHS))} blocks multiply the variance by "
        f"{', '.join(f'{v:.2f}' for v in growth)}; unscaled, by "
        f"{', '.join(f'{v:.3g}' for v in before)}"
    )


def _check_layers(own: Sequence[nn.Module], bodies: Sequence[nn.Module]) -> None:
    """Accept bodies that are built as before, whose values are compared in another place."""
    for one, other in zip(own, bodies, strict=True):
        if [type(part) for part in one.modules()] != [type(part) for part in other.modules()]:
            raise Mistake(
                "the bodies are built in another way; change the weights of their last layers, "
                "and leave the layers as they are"
            )
        shapes = [[p.shape for p in body.parameters()] for body in (one, other)]
        if shapes[0] != shapes[1] or not all(p.requires_grad for p in one.parameters()):
            raise Mistake(
                "some parameters can no longer be trained; multiply them in place, under "
                "torch.no_grad()"
            )
        first, before = (list(body.parameters())[:-2] for body in (one, other))
        scaled = list(one.parameters())[-2:]
        kept = all(alike(p, q, 1e-6) for p, q in zip(first, before, strict=True))
        if not kept and alike(scaled, scaled):  # not a network whose numbers are not finite
            raise Mistake("another layer is changed too; scale the last layer of each body alone")


def _scaled(
    factor: Callable[[int, int], float] = lambda i, n: 1 / math.sqrt(n),
    layers: Callable[[nn.Module], list] = lambda body: list(body.parameters())[-2:],
) -> Answer:
    """The bodies, scaled, or a mistake in the factor or in what is scaled."""

    def answer(bodies: Sequence[nn.Module]) -> Sequence[nn.Module]:
        with torch.no_grad():
            for i, body in enumerate(bodies):
                for parameter in layers(body):
                    parameter.mul_(factor(i, len(bodies)))
        return bodies

    return answer


for _hint, _wrong in {
    "nothing is scaled, so the variance grows with every block": _scaled(lambda i, n: 1.0),
    "the factor is 1 / B, which makes the sum of many blocks vanish; it is 1 / sqrt(B)": _scaled(
        lambda i, n: 1 / n
    ),
    "the factor is 1 / B**(1/4): variances are scaled by its square; it is 1 / sqrt(B)": _scaled(
        lambda i, n: n**-0.25
    ),
    "the factor is sqrt(B); divide by it": _scaled(lambda i, n: math.sqrt(n)),
    "the factor depends on the place of the block; it is 1 / sqrt(B) for all": _scaled(
        lambda i, n: 1 / math.sqrt(i + 1)
    ),
    "the factor is 0: every block starts as the identity; here it is 1 / sqrt(B)": _scaled(
        lambda i, n: 0.0
    ),
    "only the last block is scaled; scale each": _scaled(
        lambda i, n: 1 / math.sqrt(n) if i == n - 1 else 1.0
    ),
    "the bias of the last layer is not scaled; a body gives weight and bias": _scaled(
        layers=lambda body: list(body.parameters())[-2:-1]
    ),
    "the bias of the last layer is set to zero; divide it as the weight": _scaled(
        layers=lambda body: [body[-1].weight, *[body[-1].bias.zero_()] * 1]
    ),
    "another layer is changed too": _scaled(layers=lambda body: list(body.parameters())),
}.items():
    scale_bodies.mistake(_hint, _wrong)


@scale_bodies.mistake("another layer is changed too")
def _(bodies):
    return _scaled(layers=lambda body: list(body.parameters())[:2])(bodies)


@scale_bodies.mistake("the bodies are built in another way")
def _(bodies):
    class Scaled(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, h: Tensor) -> Tensor:
            return self.body(h) / len(bodies) ** 0.5

    return [Scaled(body) for body in bodies]


@scale_bodies.mistake("change the given bodies in place")
def _(bodies):
    return _scaled()(copy.deepcopy(bodies))


@scale_bodies.mistake("can no longer be trained")
def _(bodies):
    for parameter in (p for body in bodies for p in body.parameters()):
        parameter.requires_grad_(False)
    return _scaled()(bodies)


@scale_bodies.mistake("should be the bodies, which are modules")
def _(bodies):
    return [body[-1].weight / len(bodies) ** 0.5 for body in bodies]
