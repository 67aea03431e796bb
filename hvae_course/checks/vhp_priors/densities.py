"""Log-densities of learned priors: that of a VampPrior, and the bound on that of a VHP."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
    Check,
    Mistake,
    as_tensor,
    checked,
    compare,
    copies,
    over_the_batch,
)

_DRAWS = 50_000


@checked
def vamp_log_prob(answer: Answer) -> str:
    r"""The log-density of a VampPrior, given its components (:eq:`eq-vamp`).

    Write ``vamp_log_prob(z, means, stds) -> (B,)``, log p(z) in nats per example, for z of shape
    ``(B, Z)`` and U diagonal Gaussians q(z | u_1), ..., q(z | u_U) with equal weights, whose means
    and standard deviations are ``(U, Z)``. It must not underflow far from all components.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for batch, number, size in ((4, 3, 2), (5, 1, 3), (3, 6, 1)):
        means = 1.5 * torch.randn(number, size)
        inputs = torch.randn(batch, size), means, 0.4 + torch.rand(number, size)
        compare(answer, _mixture, inputs, name="log p(z)", mistakes=vamp_log_prob.mistakes)
        check_gradients(answer, _mixture, inputs, names=("z", "means", "stds"))

    z = torch.tensor([[60.0, -40.0], [0.0, 90.0]])
    means, stds = torch.tensor([[0.0, 0.0], [1.0, -1.0]]), torch.tensor([[1.0, 0.5], [0.7, 1.2]])
    _refuse_overflow(
        answer(*copies((z, means, stds))),
        hint="right near the components, not finite for z far away, where exp is 0",
    )
    try:
        compare(answer, _mixture, (z, means, stds), name="log p(z)")
    except Mistake as mistake:
        raise Mistake(
            f"right near the components; for z far away {mistake}; is there a small constant "
            "inside the logarithm?"
        ) from None

    grid = torch.linspace(-9, 9, 3001)[:, None]
    value = answer(grid, torch.tensor([[-2.0], [0.5], [1.0]]), torch.tensor([[0.5], [0.3], [1.2]]))
    mass = as_tensor(value, (3001,), name="log p(z)").exp().sum() * 18 / 3000
    if abs(mass - 1) > 1e-3:
        raise Mistake(f"in one dimension the density integrates to {mass:.4f}, not to 1")
    return (
        "agrees with brute force for 1, 3 and 6 components, integrates to 1 in one dimension, and "
        "stays right 90 standard deviations away"
    )


@checked
def vhp_bound(answer: Answer) -> str:
    r"""The importance-weighted bound on the log-density of a VHP (:eq:`eq-vhp`).

    Write ``vhp_bound(log_p_z_given_zeta, log_p_zeta, log_q_zeta) -> (B,)``, the log of the
    estimate of p(z), in nats per example. The arguments are log-densities, each ``(M, B)``, at M
    draws of zeta from q(zeta | z) for each z. Log-densities near -1000 nats must not underflow.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for num_draws, batch in ((5, 3), (1, 4), (3, 3)):
        likelihood, zeta, q = torch.randn(3, num_draws, batch).unbind()
        inputs = (likelihood - 2, zeta - 1, q)
        compare(answer, _bound, inputs, name="the bound", mistakes=vhp_bound.mistakes)
        names = ("log_p_z_given_zeta", "log_p_zeta", "log_q_zeta")
        check_gradients(answer, _bound, inputs, names=names)

    likelihood, zeta, q = torch.randn(3, 4, 3).unbind()
    for shift in (torch.tensor([s, 0.0, s]) for s in (-1000.0, 1000.0)):
        _refuse_overflow(
            answer(*copies((likelihood + shift, zeta, q))),
            hint="right for moderate log-densities, not finite at 1000 nats",
        )
        compare(answer, _bound, (likelihood + shift, zeta, q), name="the bound at 1000 nats")

    slope, std, z = 0.8, 0.5, torch.tensor([1.3])
    spread = math.sqrt(slope**2 + std**2)
    exact = Normal(0.0, spread).log_prob(z)
    posterior = Normal(slope * z / spread**2, std / spread)
    bounds = []
    for q_zeta, num_draws in ((posterior, 3), (Normal(0.0, 1.0), 1), (Normal(0.0, 1.0), 4)):
        draws = q_zeta.sample((num_draws, _DRAWS)).reshape(num_draws, _DRAWS)
        likelihood, zeta = Normal(slope * draws, std).log_prob(z), Normal(0.0, 1.0).log_prob(draws)
        value = answer(likelihood, zeta, q_zeta.log_prob(draws))
        bounds.append(as_tensor(value, (_DRAWS,), name="the bound"))
    tight, one, four = bounds
    if (tight - exact).abs().max() > 1e-4:
        raise Mistake("with the exact q(zeta | z) every draw should be log p(z); yours are not")
    for values in (one, four):
        error = values.std() / _DRAWS**0.5
        if values.mean() > exact.item() + 5 * error:
            raise Mistake("the mean exceeds log p(z); it should be a lower bound")
    if not one.mean() < four.mean():
        raise Mistake(
            "the bound does not rise from 1 draw to 4; average over the draws inside the log"
        )
    return (
        "agrees with the formula; equals log p(z) in every draw if q(zeta | z) is exact, and lies "
        f"below it over {_DRAWS:,} draws otherwise, closer with 4 draws of zeta than with 1"
    )


def _refuse_overflow(value: object, *, hint: str) -> None:
    if isinstance(value, Tensor) and not torch.isfinite(value).all():
        raise Mistake(f"{hint}; use logsumexp instead of exp and log")


def _log_mean(log_values: Tensor) -> Tensor:
    """Log of the mean over the first axis."""
    return log_values.logsumexp(dim=0) - math.log(len(log_values))


def _components(z: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """Log-density of each component in each dimension, ``(U, B, Z)``."""
    return Normal(means[:, None], stds[:, None]).log_prob(z)


def _mixture(z: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    return _log_mean(_components(z, means, stds).sum(dim=-1))


def _bound(likelihood: Tensor, zeta: Tensor, q: Tensor) -> Tensor:
    return _log_mean(likelihood + zeta - q)


@vamp_log_prob.mistake(
    "this is the log of the sum of the components; subtract log U for the log of the mean"
)
def _(z, means, stds):
    return Normal(means, stds).log_prob(z[:, None]).sum(dim=-1).logsumexp(dim=1)


@vhp_bound.mistake(
    "this is the log of the sum of the weights; subtract log M for the log of the mean"
)
def _(log_p_z_given_zeta, log_p_zeta, log_q_zeta):
    return (log_p_z_given_zeta + log_p_zeta - log_q_zeta).logsumexp(dim=0)


def _register(check: Check, logs: Answer, value: str, over: str, number: str) -> None:
    """Register the mistakes in the log of a mean.

    Args:
        check: the check.
        logs: the logarithms of what is averaged over the first axis, from the arguments.
        value: what is averaged.
        over: what the first axis stands for.
        number: the book's letter for the length of the first axis.
    """
    for hint, result in {
        f"this is the mean log-{value}; return the log of the mean {value}": (
            lambda logs: logs.mean(dim=0)
        ),
        f"this sums the log-{value} over the {over}; return the log of the mean {value}": (
            lambda logs: logs.sum(dim=0)
        ),
        f"this sums the log-{value} and subtracts log {number}; return the log of the mean": (
            lambda logs: logs.sum(dim=0) - math.log(len(logs))
        ),
        f"this is the largest log-{value}; return the log of the mean {value}": (
            lambda logs: logs.amax(dim=0)
        ),
        f"log {number} is added; subtract it": (
            lambda logs: _log_mean(logs) + 2 * math.log(len(logs))
        ),
        f"this averages over the examples; average over the {over}": (
            lambda logs: _log_mean(logs.T)
        ),
        f"this sums over the examples; average over the {over}": (
            lambda logs: logs.logsumexp(dim=1) - math.log(len(logs))
        ),
        f"this is the mean {value}; return its logarithm": lambda logs: _log_mean(logs).exp(),
        "the sign is wrong; remove the minus": lambda logs: -_log_mean(logs),
        "use logsumexp instead of exp and log": lambda logs: logs.exp().mean(dim=0).log(),
        "no gradient passes through it": lambda logs: _log_mean(logs).detach(),
    }.items():
        check.mistake(hint)(lambda *inputs, result=result: result(logs(*inputs)))
    check.mistakes += over_the_batch(lambda *inputs: _log_mean(logs(*inputs)))


_register(vamp_log_prob, lambda *of: _components(*of).sum(dim=-1), "density", "components", "U")
_register(
    vhp_bound, lambda likelihood, zeta, q: likelihood + zeta - q, "weight", "draws (axis 0)", "M"
)

for _hint, _result in {
    "this is one mixture per dimension; sum over the dimensions before logsumexp": (
        lambda each: _log_mean(each).sum(dim=-1)
    ),
    "this is one mixture per dimension, and log U is subtracted once; sum before logsumexp": (
        lambda each: each.logsumexp(dim=0).sum(dim=-1) - math.log(len(each))
    ),
    "this averages over the dimensions; sum the log-densities of a component over them": (
        lambda each: _log_mean(each.mean(dim=-1))
    ),
    "this returns one value per dimension; sum over the dimensions before logsumexp": _log_mean,
    "this sums densities over the dimensions; sum log-densities before logsumexp": (
        lambda each: _log_mean(each.logsumexp(dim=-1))
    ),
    "the constant -Z/2 log 2 pi is missing": (
        lambda each: _log_mean((each + 0.5 * math.log(2 * math.pi)).sum(dim=-1))
    ),
    "is there a small constant inside the logarithm?": (
        lambda each: (each.sum(dim=-1).exp().mean(dim=0) + 1e-12).log()
    ),
}.items():
    vamp_log_prob.mistake(_hint)(lambda *inputs, result=_result: result(_components(*inputs)))

for _hint, _std in {
    "stds are treated as variances; they are standard deviations": torch.sqrt,
    "stds are squared; Normal takes the standard deviation": torch.square,
    "stds are treated as log stds; they are standard deviations": torch.exp,
}.items():
    vamp_log_prob.mistake(_hint)(lambda z, means, stds, of=_std: _mixture(z, means, of(stds)))

for _hint, _log_weight in {
    "the weights lack p(zeta); multiply by it": lambda p, zeta, q: p - q,
    "the weights lack q(zeta | z); divide by it": lambda p, zeta, q: p + zeta,
    "log q is added; subtract it, since the weights divide by q": lambda p, zeta, q: p + zeta + q,
    "log p(zeta) is subtracted; add it, since the weights multiply by p(zeta)": (
        lambda p, zeta, q: p - zeta - q
    ),
    "the weights lack p(zeta) and q(zeta | z)": lambda p, zeta, q: p,
    "the weights lack p(z | zeta); multiply by it": lambda p, zeta, q: zeta - q,
}.items():
    vhp_bound.mistake(_hint)(lambda *logs, of=_log_weight: _log_mean(of(*logs)))
