"""Checks of chapter 6: the price of information, densities of learned priors, shortest paths."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.graph_search import judge_paths
from hvae_course.checks.prior_densities import (
    components,
    judge_bound,
    judge_mixture,
    refuse_overflow,
)
from hvae_course.checks.verdict import Mistake, as_tensor, checked, compare
from hvae_course.objectives.multipliers import GECO, ReWO

_BETAS = (0.01, 0.4, 1.0, 1.6, 4.0)
_VIOLATIONS = (-0.6, -0.1, 0.0, 0.2, 1.5)
_SETTINGS = ((0.1, 3.0), (0.3, 0.5))
_DRAWS = 50_000


@checked
def rewo_step(answer: Callable[..., object]) -> str:
    r"""Exercise: one step of the price under a constraint (:eq:`eq-rewo`).

    Asked is ``rewo_step(beta, violation, rate, slope) -> beta``, the new price. All arguments and
    the result are tensors of shape ``()``: the price, the relative violation of the constraint
    (positive if the error is too large), nu and tau. The step acts on the logarithm of the price.

    Args:
        answer: the student's ``rewo_step``.

    Returns:
        What was verified.
    """
    cases = torch.tensor(
        [(b, v, *s) for s in _SETTINGS for v in _VIOLATIONS for b in _BETAS]
    )  # (N, 4)
    values = torch.stack(
        [as_tensor(answer(*case.clone().unbind()), (), name="the new price") for case in cases]
    )
    beta, violation, rate, slope = cases.double().T
    held, step = violation < 0, rate * violation
    pull = torch.tanh(slope * (beta - 1))
    down = -torch.ones_like(beta)

    def move(direction: Tensor) -> Tensor:
        return beta * (step * direction).exp()

    right = torch.stack(
        [b * ReWO(n.item(), t.item())(b, v).exp() for b, v, n, t in cases.double()]
    )
    s = (right / beta).log()
    geco = torch.stack([b * GECO(n.item())(b, v).exp() for b, v, n, _ in cases.double()])
    compare(
        values,
        right,
        name="the new price",
        mistakes=[
            (geco, "this is GECO; while the constraint holds, ReWO's step has a tanh"),
            (
                move(torch.where(held, pull, -down)),
                "a violated constraint raises the price; it should lower it",
            ),
            (
                move(torch.where(held, -pull, down)),
                "while the constraint holds the price moves away from 1; mind that the violation "
                "is negative there",
            ),
            (
                beta / s.exp(),
                "this multiplies lambda = 1 / beta; the price itself is multiplied by exp(s)",
            ),
            (
                1 / right,
                "this is the new lambda; asked is the price beta = 1 / lambda",
            ),
            (
                move(torch.where(held, torch.tanh(slope * beta), down)),
                "the price comes to rest at 0; inside the tanh stands beta - 1",
            ),
            (
                move(torch.where(held, -torch.tanh(slope * beta), down)),
                "the price never rests; inside the tanh stands beta - 1",
            ),
            (
                move(torch.where(held, torch.tanh(slope * beta.log()), down)),
                "inside the tanh stands beta - 1, not log beta",
            ),
            (beta + s, "the step is added to beta; it belongs to log beta, so multiply by exp(s)"),
            (beta + beta * s, "this is beta (1 + s), the first order of beta exp(s)"),
            (move(pull), "the tanh is in both branches; a violated constraint has -1 instead"),
            (
                move(torch.where(held, pull, -pull.abs())),
                "the tanh is in both branches; a violated constraint has -1 instead",
            ),
            (
                move(torch.where(held, down, pull)),
                "the branches are swapped; the tanh belongs to a constraint that holds",
            ),
            (
                move(torch.where(held, torch.tanh(beta - 1), down)),
                "the slope does not enter; it multiplies beta - 1 inside the tanh",
            ),
            (
                move(torch.where(held, slope * torch.tanh(beta - 1), down)),
                "the slope stands before the tanh; it belongs inside",
            ),
            (
                beta * (violation * torch.where(held, pull, down)).exp(),
                "the rate does not enter the step",
            ),
            (s, "this is the step s of log beta; asked is the new price beta exp(s)"),
            (s.exp(), "this is the factor exp(s); asked is the new price beta exp(s)"),
            (right.log(), "this is the logarithm of the new price"),
        ],
    )
    for start in (0.05, 3.0):
        price = torch.tensor(start)
        for _ in range(150):
            new = answer(price, torch.tensor(-0.8), torch.tensor(0.2), torch.tensor(2.0))
            price = as_tensor(new, (), name="the new price").float()
        if abs(price.item() - 1) > 0.01:
            raise Mistake(f"from {start}, a constraint that holds leads to {price:.3f}, not to 1")
    return (
        f"agrees with the formula in {len(cases)} cases, and a constraint that holds leads to a "
        "price of 1 from above and from below"
    )


@checked
def vhp_bound(answer: Callable[..., object]) -> str:
    r"""Exercise: the importance-weighted bound on the density of a VHP (:eq:`eq-vhp`).

    Asked is ``vhp_bound(log_p_z_given_zeta, log_p_zeta, log_q_zeta) -> (B,)``, log of the estimate
    of p(z), nats per example. The arguments are log-densities, each ``(K, B)``: K draws of zeta
    from q(zeta | z) for each z. Log-densities of some -1000 nats must not underflow.

    Args:
        answer: the student's ``vhp_bound``.

    Returns:
        What was verified.
    """
    for num_samples, batch in ((5, 3), (1, 4), (3, 3)):
        likelihood, zeta, q = torch.randn(3, num_samples, batch).unbind()
        judge_bound(answer, likelihood - 2, zeta - 1, q)

    likelihood, zeta, q = torch.randn(3, 4, 3).unbind()
    for shift in (torch.tensor([s, 0.0, s]) for s in (-1000.0, 1000.0)):
        value = answer(likelihood + shift, zeta.clone(), q.clone())
        right = (likelihood.double() + zeta - q).logsumexp(dim=0) + shift - math.log(4)
        refuse_overflow(
            value, (3,), hint="right for moderate log-densities, not finite at 1000 nats"
        )
        compare(value, right, name="the bound at 1000 nats")

    w, s, z = 0.8, 0.5, torch.tensor([1.3])
    spread = math.sqrt(w**2 + s**2)
    exact = Normal(0.0, spread).log_prob(z)
    posterior = Normal(w * z / spread**2, s / spread)
    bounds = []
    for q_zeta, num_samples in ((posterior, 3), (Normal(0.0, 1.0), 1), (Normal(0.0, 1.0), 4)):
        draws = q_zeta.sample((num_samples, _DRAWS)).reshape(num_samples, _DRAWS)
        likelihood, zeta = Normal(w * draws, s).log_prob(z), Normal(0.0, 1.0).log_prob(draws)
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
        raise Mistake("the bound should rise with the number of draws")
    return (
        "agrees with the formula, equals log p(z) in every draw if q(zeta | z) is exact, and is "
        f"below it over {_DRAWS:,} draws otherwise, less so with 4 draws of zeta than with 1"
    )


@checked
def vamp_log_prob(answer: Callable[..., object]) -> str:
    r"""Exercise: the density of a VampPrior whose encoder has been called (:eq:`eq-vamp`).

    Asked is ``vamp_log_prob(z, means, stds) -> (B,)``, log p(z) in nats per example, for z of
    shape ``(B, Z)`` and K diagonal Gaussians q(z | u_k) with equal weights, whose means and
    standard deviations are ``(K, Z)``. Far from all components it must not underflow.

    Args:
        answer: the student's ``vamp_log_prob``.

    Returns:
        What was verified.
    """
    for batch, number, size in ((4, 3, 2), (5, 1, 3), (3, 6, 1)):
        z, means = torch.randn(batch, size), 1.5 * torch.randn(number, size)
        judge_mixture(answer, z, means, 0.4 + torch.rand(number, size))

    z = torch.tensor([[60.0, -40.0], [0.0, 90.0]])
    means, stds = torch.tensor([[0.0, 0.0], [1.0, -1.0]]), torch.tensor([[1.0, 0.5], [0.7, 1.2]])
    value = answer(z.clone(), means.clone(), stds.clone())
    refuse_overflow(
        value, (2,), hint="right near the components, not finite for z far away, where exp is 0"
    )
    far = components(z, means, stds).sum(dim=-1).logsumexp(dim=1) - math.log(2)
    try:
        compare(value, far, name="log p(z)")
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
def shortest_path(answer: Callable[..., object]) -> str:
    """Exercise: A* through a latent graph, with the straight line as its heuristic.

    Asked is ``shortest_path(neighbours, positions, start, goal) -> list`` of node numbers from
    start to goal, both included. ``neighbours`` is a dict from a node to the list of nodes that it
    is linked to, ``positions`` holds the nodes' places, ``(N, Z)``. An edge costs the straight
    distance of its two ends. A path exists. Any path of the smallest length is accepted, however
    it was found.

    Args:
        answer: the student's ``shortest_path``.

    Returns:
        What was verified.
    """
    number = judge_paths(answer)
    return f"valid, and as short as Dijkstra's path, in {number} searches through 5 graphs"
