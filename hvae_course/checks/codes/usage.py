"""Check of how many codes are in use, over all of the data and not batch by batch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, checked, compare_cases

Batches = Sequence[Tensor]
"""Row numbers of every batch, ``(B, N)``."""


@checked
def code_usage(answer: Answer) -> str:
    r"""How many codes are in use: those taken at least once, and the perplexity.

    Write ``code_usage(batches, num_codes) -> (live, perplexity)``, two numbers. ``batches`` is a
    list of tensors of row numbers, ``(B, N)``, whose B differ; there are ``num_codes`` rows. The
    perplexity is :math:`e^H` with the entropy H, in nats, of the shares of the rows among all row
    numbers of all batches.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = []
    for num_codes, positions, sizes in ((16, 4, (3, 3, 3, 1)), (5, 1, (9, 2)), (40, 2, (6,))):
        weights = torch.rand(num_codes).square()
        weights[:: max(num_codes // 5, 2)] = 0  # rows that are never taken
        batches = [torch.multinomial(weights, b * positions, True) for b in sizes]
        cases.append(([index.reshape(-1, positions) for index in batches], num_codes))
    names, known = ["the number of live codes", "the perplexity"], code_usage.mistakes
    compare_cases(answer, _usage(), cases, name=names, mistakes=known)
    batches, num_codes = cases[0]
    whole = _usage()(batches, num_codes)[1]
    apart = _usage(pool=_each_batch)(batches, num_codes)[1]
    return (
        f"right for {len(cases)} sets of batches; the first has the perplexity {whole:.1f}, its "
        f"batches {apart:.1f} on average"
    )


def _together(values: Callable[[Tensor], Tensor], batches: Batches) -> Tensor:
    return values(torch.cat([index.flatten() for index in batches]))


def _each_batch(values: Callable[[Tensor], Tensor], batches: Batches) -> Tensor:
    return torch.stack([values(index.flatten()) for index in batches]).mean()


def _entropy(shares: Tensor) -> Tensor:
    return -torch.special.xlogy(shares, shares).sum()


def _usage(
    pool: Callable[..., Tensor] = _together,
    perplexity: Callable[[Tensor], Tensor] = lambda shares: _entropy(shares).exp(),
    live: Callable[[Tensor], Tensor] = lambda counts: (counts > 0).sum(),
    pool_live: Callable[..., Tensor] = _together,
    norm: Callable[[Tensor], Tensor] = lambda counts: counts / counts.sum(),
    last: Callable[[Tensor], Tensor] = lambda value: value,
) -> Answer:
    """Both numbers, or a mistake in a part of them."""

    def answer(batches: Batches, num_codes: int) -> tuple[Tensor, Tensor]:
        def counted(index: Tensor) -> Tensor:
            return torch.bincount(index, minlength=num_codes).double()

        in_use = pool_live(lambda index: live(counted(index)).double(), batches)
        return in_use, last(pool(lambda index: perplexity(norm(counted(index))), batches))

    return answer


for _hint, _wrong in {
    "this averages both over the batches; a small batch cannot use many codes, so count over all "
    "batches first": _usage(_each_batch, pool_live=_each_batch),
    "this is the mean perplexity of the batches, which depends on their sizes; count over all "
    "batches first": _usage(_each_batch),
    "the entropies of the batches are averaged; count over all batches first": _usage(
        _each_batch, _entropy, last=torch.exp
    ),
    "the live codes are averaged over the batches; a code is live if any batch takes it": _usage(
        pool_live=_each_batch
    ),
    "this is the last batch alone": _usage(
        lambda values, batches: _together(values, batches[-1:]),
        pool_live=lambda values, batches: _together(values, batches[-1:]),
    ),
    "this is the entropy; the perplexity is its exponential": _usage(perplexity=_entropy),
    "an entropy in nats belongs to exp, one in bits to a power of 2": _usage(
        perplexity=lambda shares: 2 ** _entropy(shares)
    ),
    "the entropy has the wrong sign": _usage(perplexity=lambda shares: (-_entropy(shares)).exp()),
    "the entropy is a mean over the codes; it is a sum": _usage(
        perplexity=lambda shares: (_entropy(shares) / len(shares)).exp()
    ),
    "the shares are those of equally used live codes; take the shares of the row numbers": _usage(
        norm=lambda counts: (counts > 0) / (counts > 0).sum()
    ),
    "the perplexity is divided by the number of codes": _usage(
        perplexity=lambda shares: _entropy(shares).exp() / len(shares)
    ),
    "the first value is the number of all codes; count those that are taken": _usage(
        live=lambda counts: counts.new_tensor(len(counts))
    ),
    "the first value is the number of codes that are never taken": _usage(
        live=lambda counts: (counts == 0).sum()
    ),
    "the first value is a share; return the number of codes": _usage(
        live=lambda counts: (counts > 0).double().mean()
    ),
    "not finite": _usage(perplexity=lambda shares: (-(shares * shares.log()).sum()).exp()),
}.items():
    code_usage.mistake(_hint, _wrong)


@code_usage.mistake("the shares of the batches are averaged, as if the batches were of one size")
def _(batches, num_codes):
    of_each = [torch.bincount(b.flatten(), minlength=num_codes).double() for b in batches]
    shares = torch.stack([counts / counts.sum() for counts in of_each]).mean(0)
    return (shares > 0).sum(), _entropy(shares).exp()


@code_usage.mistake("the two values are in the wrong order; return (live, perplexity)")
def _(batches, num_codes):
    return _usage()(batches, num_codes)[::-1]
