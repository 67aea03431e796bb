"""One joint draw of a two-level VAE, scored correctly and with the usual mistakes."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.gaussians import kl_normal, standard_normal


@torch.no_grad()
def scores_and_hints(
    x: Tensor, q1: Callable, q2: Callable, p1: Callable, px: Callable
) -> list[tuple[Tensor, str]]:
    """Compute what typical mistakes give for one draw per example.

    Args:
        x: data ``(B, D)``.
        q1: gives q(z_1 | x).
        q2: gives q(z_2 | z_1).
        p1: gives p(z_1 | z_2).
        px: gives p(x | z_1).

    Returns:
        Pairs of values ``(B,)`` and a hint; the first is the right log-weight and has none.
    """
    q = q1(x)
    z1, again = q.sample(), q.sample()
    z2, apart, of_mean = q2(z1).sample(), q2(again).sample(), q2(q.mean).sample()
    prior = standard_normal(z2.shape[-1], like=z2)

    def weight(z1: Tensor, z2: Tensor) -> Tensor:
        above = p1(z2).log_prob(z1) + prior.log_prob(z2)
        return px(z1).log_prob(x) + above - q.log_prob(z1) - q2(z1).log_prob(z2)

    log_px, log_p1, log_p2 = px(z1).log_prob(x), p1(z2).log_prob(z1), prior.log_prob(z2)
    log_q1, log_q2 = q.log_prob(z1), q2(z1).log_prob(z2)
    right, top = weight(z1, z2), kl_normal(q2(z1), prior)
    closed = log_px - kl_normal(q, p1(z2))
    trap = (
        "this takes KL(q(z_1 | x) || p(z_1 | z_2)) in closed form, the trap of the chapter; z_2 "
        "was drawn from z_1, so score both densities of z_1 at that draw"
    )
    redrawn = (
        "z_1 seems to be drawn a second time; score the z_1 from which z_2 was drawn, in "
        "log p(z_1 | z_2) and in all other terms"
    )
    integrated = (
        "right on average, but the KL of z_2 is in closed form; use the five log-densities of one "
        "joint draw, which give log p(x) without noise when q is exact"
    )
    return [
        (right, ""),
        (closed + log_p2 - log_q2, trap),
        (closed - top, trap),
        (right - log_p1 + p1(z2).log_prob(again), redrawn),
        (weight(z1, apart), redrawn),
        (weight(z1, of_mean), "z_2 is drawn from the mean of q(z_1 | x), not from its draw"),
        (right - log_p2, "the prior of z_2 is missing: add log p(z_2) of N(0, I)"),
        (right - log_p1, "log p(z_1 | z_2) is missing"),
        (
            right + log_q2,
            "log q(z_2 | z_1) is missing; without it the KL term of z_2 is incomplete",
        ),
        (right + log_q1, "log q(z_1 | x) is missing; without it the KL term of z_1 is incomplete"),
        (right - log_px, "the reconstruction log p(x | z_1) is missing"),
        (right - 2 * log_px, "the reconstruction has the wrong sign: log p(x | z_1) is added"),
        (-right, "this is the negative bound, a loss; return the bound"),
        (
            2 * log_px - right,
            "the signs of p and q are swapped: log p is added, log q is subtracted",
        ),
        (right - log_px + px(z2).log_prob(x), "x is scored under px(z_2); the decoder reads z_1"),
        (log_px + log_p1 - log_q1 - top, integrated),
        (log_px + log_p1 + q.entropy() - top, integrated),
    ]


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether two sets of independent draws agree in mean and spread, in standard errors.

    Args:
        a: ``(N,)``.
        b: ``(N,)``.

    Returns:
        False if they differ by more than five standard errors.
    """
    squares = [(draws - draws.mean()) ** 2 for draws in (a.double(), b.double())]
    for left, right in ((a.double(), b.double()), squares):
        error = ((left.var() + right.var()) / len(a)).sqrt() + 1e-6
        if (left.mean() - right.mean()).abs() > 5 * error:
            return False
    return True
