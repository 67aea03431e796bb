"""Check of the log-probability of a pixel under a mixture of discretised logistics."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    as_tensor,
    checked,
    compare,
    compare_cases,
    copies,
)
from hvae_course.colours import LogisticMixture

_NAME, _ARGUMENTS = "the log-probability", ("logits", "means", "log_scales")
_SIZES = ((256, 1, 5), (16, 1, 3), (6, 3, 2), (2, 2, 1))
"""Number of values, of channels and of components."""

_Case = tuple[Tensor, Tensor, Tensor, Tensor, int]


def _values(num_values: int, channels: int) -> Tensor:
    """All values that a pixel can have, ``(V^C, C)``."""
    grid = torch.linspace(0, 1, num_values, dtype=torch.float32)
    return torch.cartesian_prod(*[grid] * channels).reshape(-1, channels)


def _case(num_values: int, channels: int, components: int) -> _Case:
    means = torch.rand(components, channels)
    means[0], means[-1] = 1.02, -0.01  # the edges have mass
    scales = torch.randn(components, channels) * 0.2 - 1.5
    numbers = [part.float() for part in (torch.randn(components), means, scales)]
    return (_values(num_values, channels), *numbers, num_values)


@checked
def pixel_log_prob(answer: Answer) -> str:
    r"""The log-probability of a pixel under a mixture of logistics (:eq:`eq-logistic-mixture`).

    Write ``pixel_log_prob(x, logits, means, log_scales, num_values) -> (N,)``, in nats: that of N
    values of one pixel, ``x`` ``(N, C)`` on the grid 0, 1/(V-1), ..., 1. ``logits`` ``(K,)`` are
    unnormalised log-weights of the components; ``means`` and logarithms of the scales are ``(K,
    C)``. Channels do not shift one another here, so that :math:`\mu'_{ic} = \mu_{ic}`. Values and
    gradients have to stay right far from all components.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases, hints = [_case(*sizes) for sizes in _SIZES], pixel_log_prob.mistakes
    try:
        compare_cases(answer, _right, cases, name=_NAME, mistakes=hints)
    except Mistake as mistake:
        if "(the largest difference)" not in str(mistake):
            raise
        values = [as_tensor(answer(*copies(c)), (len(c[0]),), name=_NAME) for c in cases]
        totals = [float(value.exp().sum()) for value in values]
        off, case = max(zip((abs(t - 1) for t in totals), range(len(cases)), strict=True))
        if off < 1e-3:
            raise
        raise Mistake(
            f"{mistake}; the probabilities of all {len(cases[case][0])} values add up to "
            f"{totals[case]:.3f}, not to 1"
        ) from None
    for case in cases[1:]:
        check_gradients(_given(answer, case), _given(_right, case), case[1:4], names=_ARGUMENTS)
    for side in (1, -1):  # components above all values, and below
        far = (
            torch.tensor([[0.0], [0.5], [1.0]]).float(),
            torch.tensor([0.3, 0.0]).float(),
            side * torch.tensor([[40.0], [30.0]]).float(),
            torch.tensor([[-1.5], [-2.0]]).float(),
            256,
        )
        values = torch.as_tensor(answer(*copies(far)))
        if not values.isfinite().all():
            raise Mistake(f"right near the components, and not finite far from them: {_DIGITS}")
        compare(answer, _right, far, name=f"{_NAME} far from all components", mistakes=_FAR)
        check_gradients(_given(answer, far), _given(_right, far), far[1:4], names=_ARGUMENTS)
    total = sum(len(case[0]) for case in cases)
    return (
        f"right for {total} values in {len(cases)} cases, in each of which the probabilities add "
        "up to 1; also right 200 scales away from all components, on both sides"
    )


def _given(function: Answer, case: _Case) -> Answer:
    """A function of the parameters alone."""
    return lambda *parameters: function(case[0].clone(), *parameters, case[-1])


def _right(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor, num_values: int
) -> Tensor:
    parts = logits[:, None], means[..., None], log_scales[..., None]
    mixture = LogisticMixture(*(part[None] for part in parts), num_values=num_values)
    return mixture.log_prob(x)


def _bins(upper: Tensor, lower: Tensor) -> Tensor:
    """Logarithm of the difference of two sigmoids."""
    return F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))


def _tails(
    first: Callable[[Tensor, float], Tensor] = lambda x, v: x < 0.5 / (v - 1),
    last: Callable[[Tensor, float], Tensor] = lambda x, v: x > 1 - 0.5 / (v - 1),
    half: Callable[[int], float] = lambda v: 0.5 / (v - 1),
    bins: Callable[[Tensor, Tensor], Tensor] = _bins,
    scale: Callable[[Tensor], Tensor] = torch.exp,
) -> Callable[..., Tensor]:
    """Log-probabilities of every channel under every component, ``(N, K, C)``."""

    def each(x: Tensor, means: Tensor, log_scales: Tensor, v: int) -> Tensor:
        x = x[:, None]
        upper, lower = ((x + d - means) / scale(log_scales) for d in (half(v), -half(v)))
        low, high = first(x, v).expand_as(upper), last(x, v).expand_as(upper)
        inside = bins(upper, lower)
        inside = torch.where(low, F.logsigmoid(upper), inside)
        return torch.where(high, F.logsigmoid(-lower), inside)

    return each


def _mixed(each: Tensor, logits: Tensor) -> Tensor:
    """Product over the channels, then the mixture."""
    return (logits.log_softmax(0) + each.sum(dim=2)).logsumexp(dim=1)


def _log_prob(
    each: Callable[..., Tensor] = _tails(),  # noqa: B008
    mix: Callable[[Tensor, Tensor], Tensor] = _mixed,
) -> Answer:
    """The log-probability, or a mistake in a part of it."""
    return lambda x, logits, means, log_scales, v: mix(each(x, means, log_scales, v), logits)


def _none(x: Tensor, v: int) -> Tensor:
    return torch.zeros_like(x, dtype=torch.bool)


def _density(x: Tensor, means: Tensor, log_scales: Tensor, v: int) -> Tensor:
    at = (x[:, None] - means) / log_scales.exp()
    return F.logsigmoid(at) + F.logsigmoid(-at) - log_scales


def _difference(upper: Tensor, lower: Tensor) -> Tensor:
    return (upper.sigmoid() - lower.sigmoid()).log()


def _clamped(upper: Tensor, lower: Tensor) -> Tensor:
    return (upper.sigmoid() - lower.sigmoid()).clamp(min=1e-12).log()


def _one_sided(upper: Tensor, lower: Tensor) -> Tensor:
    """Right where F(u) and F(l) are small; where both round to 1, the difference is 0."""
    above, below = F.logsigmoid(upper), F.logsigmoid(lower)
    return above + torch.log(-torch.expm1(below - above))


def _other_sided(upper: Tensor, lower: Tensor) -> Tensor:
    """The same with F(-l) and F(-u)."""
    return _one_sided(-lower, -upper)


_DIGITS = (
    "the difference of the two sigmoids loses its digits, and far from all components it is 0, or "
    "what it is clamped to, so that no gradient leads back; write it as sigm(u) sigm(-l) (1 - "
    "exp(l - u)), in logarithms"
)

for _hint, _wrong in {
    "the values at the edges have no tails: 0 takes all of the lower tail, 1 all of the upper": (
        _log_prob(_tails(_none, _none))
    ),
    "the highest value has no tail; it takes all of the upper": _log_prob(_tails(last=_none)),
    "the lowest value has no tail; it takes all of the lower": _log_prob(_tails(first=_none)),
    "the upper tail is given to the last two values; it belongs to the value 1 alone": _log_prob(
        _tails(last=lambda x, v: x > 1 - 1.5 / (v - 1))
    ),
    "the lower tail is given to the first two values; it belongs to the value 0 alone": _log_prob(
        _tails(first=lambda x, v: x < 1.5 / (v - 1))
    ),
    "the bins are 1/V wide, which leaves gaps; the V values are 1/(V-1) apart": _log_prob(
        _tails(half=lambda v: 0.5 / v)
    ),
    "the bins are twice as wide as the distance of the values, so they overlap; an edge is half "
    "of it away": (_log_prob(_tails(half=lambda v: 1 / (v - 1)))),
    "every channel has a mixture of its own; take the product over the channels first, then the "
    "sum over the components": _log_prob(
        mix=lambda each, logits: (logits.log_softmax(0)[:, None] + each).logsumexp(1).sum(1)
    ),
    "the weights are not normalised; the logits need a softmax": _log_prob(
        mix=lambda each, logits: (logits + each.sum(2)).logsumexp(1)
    ),
    "all components have the same weight; use the logits": _log_prob(
        mix=lambda each, logits: _mixed(each, 0 * logits)
    ),
    "the logits are the weights here; they are unnormalised logarithms of them": _log_prob(
        mix=lambda each, logits: (logits.softmax(0).log_softmax(0) + each.sum(2)).logsumexp(1)
    ),
    "this is the mean of the logarithms over the components; take the logarithm of the mean": (
        _log_prob(mix=lambda each, logits: (logits.softmax(0) * each.sum(2)).sum(1))
    ),
    "the logarithms are averaged over the channels; sum them": _log_prob(
        mix=lambda each, logits: (logits.log_softmax(0) + each.mean(2)).logsumexp(1)
    ),
    "this is the probability; return its logarithm": _log_prob(
        mix=lambda each, logits: _mixed(each, logits).exp()
    ),
    "this is the logarithm of a density; the pixel has V values, each with a probability": (
        _log_prob(_density)
    ),
    "log_scales are taken for the scales; take their exponential": _log_prob(
        _tails(scale=lambda log: log.abs())
    ),
    "the scales are not inverted: divide by them": _log_prob(
        _tails(scale=lambda log: (-log).exp())
    ),
    "this sums over the values; return one number for each, (N,)": (
        lambda *inputs: _log_prob()(*inputs).sum()
    ),
    "no gradient reaches log_scales": (
        lambda x, logits, means, log_scales, v: _log_prob()(
            x, logits, means, log_scales.detach(), v
        )
    ),
}.items():
    pixel_log_prob.mistake(_hint, _wrong)
_BINS = (_clamped, _difference, _one_sided, _other_sided)
pixel_log_prob.mistake(_DIGITS, *(_log_prob(_tails(bins=bins)) for bins in _BINS))
_FAR = [known for known in pixel_log_prob.mistakes if known.hint == _DIGITS]
