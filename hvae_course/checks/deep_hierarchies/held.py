"""Check of a choice for the walk down that holds the top levels at posterior draws."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from hvae_course.checks.building import fixed_noise, not_none, used
from hvae_course.checks.levels import images, small_package
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    as_sequence,
    as_tensor,
    checked,
    compare_cases,
)
from hvae_course.hierarchy import Choose
from hvae_course.hierarchy.trace import State
from hvae_course.recipes import bidirectional_vae

_SIZES = (2, 3, 2, 3)

_Pair = tuple[Distribution, Tensor]


@checked
def held_top(answer: Answer) -> str:
    r"""A choice that holds the top k levels (:eq:`eq-held-top`).

    Write ``held_top(l, h, p, posterior, k, num_levels) -> (q, z)``, which the walk down calls at
    every level. ``l`` counts from 0, next to the data; ``h`` is the state and ``p`` the prior of
    the level, a distribution; ``posterior(l, h, p)`` gives the posterior of the level and a draw
    from it, ``(q, z)``. The top k of the levels are drawn from the posterior, the others from the
    prior. The first value is the distribution that z is drawn from.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    model = small_package(bidirectional_vae, _SIZES, scale=2, state="skip").eval()
    x, levels = images(4), len(_SIZES)
    with torch.no_grad():
        infer = model.posterior(model.features(x))

    def walk(function: Answer) -> Answer:
        def run(k: int) -> list[Tensor]:
            def posterior(l: int, h: State, p: Distribution) -> _Pair:
                return infer(l, h.to(x.dtype), p)

            def choose(l: int, h: State, p: Distribution) -> _Pair:
                value = not_none(function(l, h.clone(), p, posterior, k, levels), "the result")
                q, z = as_sequence(value, 2, name="the result")
                if not isinstance(q, Distribution) or not isinstance(z, Tensor):
                    raise Mistake(
                        "the result should be a distribution and a draw from it, in this order, "
                        f"got {type(q).__name__} and {type(z).__name__}"
                    )
                as_tensor(z, (len(x), *p.event_shape), name=f"z_{l + 1}")
                return q, z.to(x.dtype)

            with torch.no_grad(), fixed_noise():
                found, _ = model.top_down.walk(model.top_prior(), choose, len(x))
            values = ((level.z, level.q.mean, level.q.stddev) for level in found)
            return [part for each in values for part in each]

        return run

    patterns = ("z_{}", "the mean of the distribution of z_{}", "the std of that of z_{}")
    names = [text.format(l) for l in range(1, levels + 1) for text in patterns]
    cases = [(k,) for k in range(levels + 1)]
    hints = used(walk, held_top.mistakes)
    compare_cases(walk(answer), walk(_held()), cases, name=names, mistakes=hints)
    return f"latents and distributions of {levels} levels are right for k = 0 to {levels}"


def _draw(p: Distribution) -> _Pair:
    return p, p.sample()


def _held(
    is_held: Callable[[int, int, int], bool] = lambda l, k, levels: l >= levels - k,
    above: Callable[[Choose, int, Tensor, Distribution], _Pair] = lambda q, l, h, p: q(l, h, p),
    below: Callable[[Choose, int, Tensor, Distribution], _Pair] = lambda q, l, h, p: _draw(p),
) -> Answer:
    """The choice, or a mistake in a part of it."""

    def answer(
        l: int, h: Tensor, p: Distribution, posterior: Choose, k: int, num_levels: int
    ) -> _Pair:
        pick = above if is_held(l, k, num_levels) else below
        return pick(posterior, l, h, p)

    return answer


for _hint, _wrong in {
    "the bottom k levels are held; hold the top k": _held(lambda l, k, levels: l < k),
    "the top k levels are drawn from their priors, and the others held; exchange them": _held(
        lambda l, k, levels: l < levels - k
    ),
    "one level too many is held": _held(lambda l, k, levels: l >= levels - k - 1),
    "one level too few is held; l counts from 0, so the top level is num_levels - 1": _held(
        lambda l, k, levels: l > levels - k
    ),
    "l is compared with k itself; the held levels are the k last of num_levels": _held(
        lambda l, k, levels: l >= k
    ),
    "every level is held": _held(lambda l, k, levels: True),
    "no level is held": _held(lambda l, k, levels: False),
    "the levels below take the means of their priors; draw them: the likeliest value is not a "
    "typical one, and what follows from it is not a sample": _held(
        below=lambda q, l, h, p: (p, p.mean)
    ),
    "the held levels take the means of their posteriors; hold draws": _held(
        above=lambda q, l, h, p: (q(l, h, p)[0], q(l, h, p)[0].mean)
    ),
    "the levels below are drawn from N(0, I); draw them from their priors p": _held(
        below=lambda q, l, h, p: (p, torch.randn_like(p.mean))
    ),
    "the levels below are zero; draw them from their priors p": _held(
        below=lambda q, l, h, p: (p, torch.zeros_like(p.mean))
    ),
    "a level below is returned with its posterior; it is drawn from the prior p, so return p": (
        _held(below=lambda q, l, h, p: (q(l, h, p)[0], p.sample()))
    ),
    "a held level is returned with its prior; return the posterior": _held(
        above=lambda q, l, h, p: (p, q(l, h, p)[1])
    ),
    "the posterior is given a state of zeros; give it h": _held(
        above=lambda q, l, h, p: q(l, torch.zeros_like(h), p)
    ),
    "a distribution and a draw from it, in this order": (lambda *inputs: _held()(*inputs)[::-1]),
    "the levels below have the standard deviation 1 around the means of their priors": _held(
        below=lambda q, l, h, p: (p, p.mean + torch.randn_like(p.mean))
    ),
}.items():
    held_top.mistake(_hint, _wrong)
