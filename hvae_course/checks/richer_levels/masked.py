"""Check of the density of one step of masked autoregressive flow."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import Answer, Mistake, checked, compare_cases

Maps = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Shift and log-scale ``(B, Z)`` of every entry, from the entries before it."""


class CountedMaps:
    """Masked network of a case, which counts how often it runs.

    Args:
        size: Z.
    """

    def __init__(self, size: int) -> None:
        self.weights = torch.randn(2, size, size).tril(-1)
        self.biases = torch.randn(2, 1, size)
        self.runs = 0

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Give shift and log-scale.

        Args:
            z: ``(B, Z)``.

        Returns:
            Both ``(B, Z)``.
        """
        self.runs += 1
        shift, raw = z @ self.weights.to(z).mT + self.biases.to(z)
        return shift, raw.tanh()


def check_runs(answer: Answer, inputs: Sequence[object], *, why: str) -> None:
    """Accept a right answer that does not run the masked network once per entry.

    Args:
        answer: the student's function.
        inputs: the arguments of one case, of which the first is ``(B, Z)`` and the last the
            network, a `CountedMaps`.
        why: why one run is enough, for the hint.

    Raises:
        Mistake: if it runs the network Z times or more.
    """
    first, *_, maps = inputs
    before = maps.runs
    answer(*inputs)
    if (runs := maps.runs - before) >= first.shape[1]:
        raise Mistake(f"the values are right, but the network ran {runs} times; {why}")


def total(each: Tensor) -> Tensor:
    """Sum over the entries of a level, ``(B, Z)`` to ``(B,)``."""
    return each.sum(dim=1)


@checked
def flow_log_prob(answer: Answer) -> str:
    r"""The density of one step of masked autoregressive flow (:eq:`eq-flow-prior`).

    Write ``flow_log_prob(z, maps) -> (B,)``, in nats: log p(z) of :math:`z_i = \tilde\mu_i +
    e^{\tilde\xi_i} \tilde z_i` with :math:`\tilde z \sim N(0, I)`. ``z`` is ``(B, Z)``, and
    ``shift, log_scale = maps(z)`` gives :math:`\tilde\mu` and :math:`\tilde\xi`, each ``(B, Z)``,
    whose entry i depends on the entries of z before i alone.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [(torch.randn(b, z), CountedMaps(z)) for b, z in ((4, 3), (1, 6), (5, 1))]
    known = flow_log_prob.mistakes
    compare_cases(answer, _density(), cases, name="the log-density", mistakes=known)
    z, maps = cases[1]
    check_runs(answer, [z.clone(), maps], why="all of z is known, so one run gives every entry")
    given_z = [lambda z, f=f: f(z, maps) for f in (answer, _density())]
    check_gradients(*given_z, [z], names=["z"])
    return "densities of one, three and six entries, each from one run of the network"


def _density(
    base: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda z, a, b: (z - a) * (-b).exp(),
    log_normal: Callable[[Tensor], Tensor] = lambda z0: Normal(0.0, 1.0).log_prob(z0),
    volume: Callable[[Tensor], Tensor] = lambda b: -b,
    reduce: Callable[[Tensor], Tensor] = total,
) -> Answer:
    """The density, or a mistake in a part of it."""

    def answer(z: Tensor, maps: Maps) -> Tensor:
        shift, log_scale = maps(z)
        return reduce(log_normal(base(z, shift, log_scale)) + volume(log_scale))

    return answer


for _hint, _wrong in {
    "the sign of the log-determinant is wrong: where the flow stretches, the density falls": (
        _density(volume=lambda b: b)
    ),
    "this is the density of the draw before the flow; the log-determinant is missing": _density(
        volume=torch.zeros_like
    ),
    "the scale is its inverse: from z to the draw before the flow, divide by exp(log_scale)": (
        _density(lambda z, a, b: (z - a) * b.exp())
    ),
    "scale and log-determinant are those of the inverse: here z = shift + exp(log_scale) * draw": (
        _density(lambda z, a, b: (z - a) * b.exp(), volume=lambda b: b)
    ),
    "the flow is applied to z once more; invert it: (z - shift) / exp(log_scale)": _density(
        lambda z, a, b: a + b.exp() * z
    ),
    "N(0, I) is evaluated at z; evaluate it at the draw before the flow": _density(
        lambda z, a, b: z
    ),
    "the log-determinant is the sum of log_scale, not of the scales": _density(
        volume=lambda b: -b.exp()
    ),
    "this is -log p(z)": _density(reduce=lambda each: -total(each)),
    "the shift is added; subtract it": _density(lambda z, a, b: (z + a) * (-b).exp()),
    "the shift is subtracted after the division; (z - shift) / exp(log_scale)": _density(
        lambda z, a, b: z * (-b).exp() - a
    ),
    "log_scale is taken for the scale; the scale is exp(log_scale)": _density(
        lambda z, a, b: (z - a) / b, volume=lambda b: -b.abs().log()
    ),
    "log_scale is taken for a log-variance; exp(log_scale) is a standard deviation": _density(
        lambda z, a, b: (z - a) * (-b / 2).exp(), volume=lambda b: -b / 2
    ),
    "the constant of the Gaussian is missing, log(2 pi) / 2 per entry": _density(
        log_normal=lambda z0: -(z0**2) / 2
    ),
    "this averages over the entries; sum them": _density(reduce=lambda each: each.mean(dim=1)),
    "this is one number per entry; sum over them": _density(reduce=lambda each: each),
    "this sums over the batch; return one number per example, (B,)": _density(reduce=torch.sum),
    "this averages over the batch; return one number per example, (B,)": _density(
        reduce=lambda each: each.sum(dim=1).mean()
    ),
}.items():
    flow_log_prob.mistake(_hint, _wrong)


@flow_log_prob.mistake("the network reads the draw before the flow; in this direction it reads z")
def _(z: Tensor, maps: Maps) -> Tensor:
    shift, log_scale = maps(z)
    shift, log_scale = maps((z - shift) * (-log_scale).exp())
    return total(Normal(0.0, 1.0).log_prob((z - shift) * (-log_scale).exp()) - log_scale)


@flow_log_prob.mistake("so one run gives every entry")
def _(z, maps):
    terms = []
    for i in range(z.shape[1]):
        shift, log_scale = (part[:, i] for part in maps(z))
        terms.append(Normal(shift, log_scale.exp()).log_prob(z[:, i]))
    return torch.stack(terms).sum(0)


@flow_log_prob.mistake("no gradient passes through it")
def _(z, maps):
    return _density()(z, maps).detach()
