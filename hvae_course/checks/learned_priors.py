"""Checks of chapter 6: a KL weight under a constraint, densities of learned priors, paths."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from hvae_course.checks.graph_search import check_paths
from hvae_course.checks.prior_densities import (
    check_bound,
    check_mixture,
    components,
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
    r"""One step of the KL weight under a constraint (:eq:`eq-rewo`).

    Write ``rewo_step(beta, violation, rate, slope) -> beta``, the new KL weight. All arguments and
    the result are tensors of shape ``()``: the KL weight, the relative violation of the constraint
    (positive if the error is too large), nu and tau. The step eta is added to log beta.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = torch.tensor(
        [(b, v, *s) for s in _SETTINGS for v in _VIOLATIONS for b in _BETAS]
    )  # (N, 4)
    values = torch.stack(
        [as_tensor(answer(*case.clone().unbind()), (), name="the new beta") for case in cases]
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
    eta = (right / beta).log()
    geco = torch.stack([b * GECO(n.item())(b, v).exp() for b, v, n, _ in cases.double()])
    compare(
        values,
        right,
        name="the new beta",
        mistakes=[
            (geco, "this is GECO; while the constraint holds, the step of ReWO has a tanh"),
            (
                move(torch.where(held, pull, -down)),
                "a violated constraint raises beta; it should lower beta",
            ),
            (
                move(torch.where(held, -pull, down)),
                "while the constraint holds, beta moves away from 1; there the violation is < 0",
            ),
            (
                beta / eta.exp(),
                "this divides beta by exp(eta), as for lambda = 1 / beta; multiply instead",
            ),
            (
                1 / right,
                "this is the new lambda; return beta = 1 / lambda",
            ),
            (
                move(torch.where(held, torch.tanh(slope * beta), down)),
                "beta goes to 0; write beta - 1 inside the tanh",
            ),
            (
                move(torch.where(held, -torch.tanh(slope * beta), down)),
                "beta has no fixed point; write beta - 1 inside the tanh",
            ),
            (
                move(torch.where(held, torch.tanh(slope * beta.log()), down)),
                "the tanh has log beta inside; write beta - 1",
            ),
            (
                beta + eta,
                "the step is added to beta; add it to log beta, so multiply beta by exp(eta)",
            ),
            (beta + beta * eta, "this is beta (1 + eta), the first order of beta exp(eta)"),
            (move(pull), "the tanh is in both branches; under a violated constraint use -1"),
            (
                move(torch.where(held, pull, -pull.abs())),
                "the tanh is in both branches; under a violated constraint use -1",
            ),
            (
                move(torch.where(held, down, pull)),
                "the branches are swapped; use the tanh while the constraint holds",
            ),
            (
                move(torch.where(held, torch.tanh(beta - 1), down)),
                "the slope is not used; it multiplies beta - 1 inside the tanh",
            ),
            (
                move(torch.where(held, slope * torch.tanh(beta - 1), down)),
                "the slope stands in front of the tanh; move it inside",
            ),
            (
                beta * (violation * torch.where(held, pull, down)).exp(),
                "the rate is not used; the step is proportional to it",
            ),
            (eta, "this is the step eta of log beta; return beta exp(eta)"),
            (eta.exp(), "this is the factor exp(eta); return beta exp(eta)"),
            (right.log(), "this is the logarithm of the new beta; return beta itself"),
        ],
    )
    for start in (0.05, 3.0):
        weight = torch.tensor(start)
        for _ in range(150):
            new = answer(weight, torch.tensor(-0.8), torch.tensor(0.2), torch.tensor(2.0))
            weight = as_tensor(new, (), name="the new beta").float()
        if abs(weight.item() - 1) > 0.01:
            raise Mistake(f"from {start}, a constraint that holds leads to {weight:.3f}, not to 1")
    return (
        f"agrees with the formula in {len(cases)} cases; while the constraint holds, beta goes "
        "to 1 from above and from below"
    )


@checked
def vhp_bound(answer: Callable[..., object]) -> str:
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
        check_bound(answer, likelihood - 2, zeta - 1, q)

    likelihood, zeta, q = torch.randn(3, 4, 3).unbind()
    for shift in (torch.tensor([s, 0.0, s]) for s in (-1000.0, 1000.0)):
        value = answer(likelihood + shift, zeta.clone(), q.clone())
        right = (likelihood.double() + zeta - q).logsumexp(dim=0) + shift - math.log(4)
        refuse_overflow(
            value, (3,), hint="right for moderate log-densities, not finite at 1000 nats"
        )
        compare(value, right, name="the bound at 1000 nats")

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


@checked
def vamp_log_prob(answer: Callable[..., object]) -> str:
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
        z, means = torch.randn(batch, size), 1.5 * torch.randn(number, size)
        check_mixture(answer, z, means, 0.4 + torch.rand(number, size))

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
    """A* through a latent graph, with the straight line as its heuristic.

    Write ``shortest_path(neighbours, positions, start, goal) -> list`` of node numbers from start
    to goal, both included. ``neighbours`` maps a node to the list of nodes that it is linked to;
    ``positions``, ``(N, Z)``, holds the positions of the nodes. The length of an edge is the
    distance between its ends. A path exists. Any shortest path is accepted, however it was found.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    number = check_paths(answer)
    return f"valid, and as short as with Dijkstra's algorithm, in {number} searches of 5 graphs"
