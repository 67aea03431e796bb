"""Check of one step of a codebook whose rows are moving averages."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, Mistake, as_sequence, checked, compare_cases
from hvae_course.codes import nearest

_OPTIONS = (
    (0.0, 0.0, True),
    (0.9, 0.5, True),
    (0.6, 1.0, True),
    (0.8, 0.3, False),
)
"""Decay, smoothing and training of every case."""
_NAMES = ("z", "a row", "a sum", "a count")


@checked
def codebook_step(answer: Answer) -> str:
    r"""One step of a codebook whose rows are moving averages of their encodings.

    Write ``codebook_step(encodings, rows, sums, counts, decay, smoothing, training) -> (z, rows,
    sums, counts)``. First the batch is quantised: z, ``(M, D)``, are the ``rows``, ``(K, D)``,
    nearest to the ``encodings``, ``(M, D)``. Then, in training only, the moving ``counts``,
    ``(K,)``, become ``decay * counts + (1 - decay) * number`` of the batch's encodings with that
    row, and likewise ``sums``, ``(K, D)``, with the sums of those encodings. The rows become the
    sums divided by the smoothed counts :math:`(c_k + s)\, C / (C + K s)`, with :math:`C = \sum_k
    c_k`; a row whose smoothed count is 0 stays. No gradient passes through the averages.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    cases = [_case(*sizes, *o) for sizes, o in zip(_SIZES, _OPTIONS, strict=True)]
    hints = codebook_step.mistakes
    for some in (cases[1:], cases):  # the first divides by 0 where nothing prevents it
        compare_cases(answer, _step(), some, name=_NAMES, mistakes=hints)
    encodings, *rest = cases[1]
    encodings = encodings.clone().requires_grad_()
    _, *moved = as_sequence(answer(encodings + 0, *_copied(rest)), 4, name="the result")
    if any(isinstance(value, Tensor) and value.requires_grad for value in moved):
        raise Mistake(
            "the averages keep the graph of the batch, which grows from step to step; compute "
            "them from encodings.detach()"
        )
    return (
        "z are rows from before the step, nothing moves in an evaluation, and with decay and "
        "smoothing 0 the step is one of k-means"
    )


_SIZES = ((9, 6, 2), (12, 5, 3), (7, 4, 2), (8, 3, 1))
"""Encodings, rows and dimensions of every case."""


def _case(
    num: int, k: int, size: int, decay: float, smoothing: float, training: bool
) -> tuple[object, ...]:
    """Arguments with one row out of reach, which the batch does not use."""
    rows = torch.randn(k, size)
    rows[0] = 40.0
    counts = 0.5 + 3 * torch.rand(k)
    sums = rows * counts[:, None] + 0.3 * torch.randn(k, size)
    return torch.randn(num, size), rows, sums, counts, decay, smoothing, training


def _copied(parts: list[object]) -> list[object]:
    return [part.clone() if isinstance(part, Tensor) else part for part in parts]


def _smoothed(counts: Tensor, smoothing: float) -> Tensor:
    total = counts.sum()
    return (counts + smoothing) * total / (total + len(counts) * smoothing)


def _divided(sums: Tensor, counts: Tensor, rows: Tensor) -> Tensor:
    used = counts[:, None] > 0
    return torch.where(used, sums / torch.where(used, counts[:, None], 1), rows)


def _step(
    trains: Callable[[bool], bool] = lambda training: training,
    weights: Callable[[float], tuple[float, float]] = lambda decay: (decay, 1 - decay),
    number: Callable[[Tensor], Tensor] = lambda n: n,
    smooth: Callable[[Tensor, float], Tensor] = _smoothed,
    rows_of: Callable[..., Tensor] = lambda rows, old, new, batch: _divided(*new, rows),
    late: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda z_e, rows, index: index,
    before: bool = True,
    kept: Callable[[Tensor, Tensor], Tensor] = lambda counts, smooth: counts,
    added: Callable[[Tensor, Tensor], Tensor] = lambda total, n: total,
) -> Answer:
    """The step, or a mistake in a part of it."""

    def answer(
        encodings: Tensor,
        rows: Tensor,
        sums: Tensor,
        counts: Tensor,
        decay: float,
        smoothing: float,
        training: bool,
    ) -> tuple[Tensor, ...]:
        encodings, index = encodings.detach(), nearest(encodings, rows)
        z = rows[index]
        if not trains(training):
            return z, rows, sums, counts
        batch = torch.nn.functional.one_hot(index, len(rows)).to(rows)  # (M, K)
        n = number(batch.sum(dim=0))
        total = added(batch.T @ encodings, n)
        old, new = weights(decay)
        moved = old * counts + new * n
        smooth_count = smooth(moved, smoothing)
        new_sums = old * sums + new * total
        new_rows = rows_of(
            rows, (sums, smooth(counts, smoothing)), (new_sums, smooth_count), (total, n)
        )
        if not before:
            z = new_rows[late(encodings, new_rows, index)]
        return z, new_rows, new_sums, kept(moved, smooth_count)

    return answer


for _hint, _wrong in {
    "the rows move before the batch is quantised; z are rows of the codebook as it was": _step(
        before=False
    ),
    "the batch is quantised after the rows have moved; quantise it with the rows as they were": (
        _step(before=False, late=lambda z_e, rows, index: nearest(z_e, rows))
    ),
    "the codebook moves in an evaluation; it moves in training only": _step(lambda training: True),
    "the codebook does not move in training": _step(lambda training: False),
    "the codebook moves in an evaluation, and not in training": _step(
        lambda training: not training
    ),
    "decay weights the batch; it weights what was there before": _step(
        weights=lambda decay: (1 - decay, decay)
    ),
    "the batch has the weight 1; it has 1 - decay": _step(weights=lambda decay: (decay, 1)),
    "the counts are shares of the batch; count encodings": _step(number=lambda n: n / n.sum()),
    "the sums take the means of the batch's encodings; take their sums": _step(
        added=lambda total, n: total / n.clamp(min=1)[:, None]
    ),
    "the counts are not smoothed": _step(smooth=lambda counts, smoothing: counts),
    "the smoothed counts do not add up to the counts: multiply them by C / (C + K s)": _step(
        smooth=lambda counts, smoothing: counts + smoothing
    ),
    "the smoothed counts are shares; multiply them by C": _step(
        smooth=lambda counts, smoothing: (
            (counts + smoothing) / (counts.sum() + len(counts) * smoothing)
        )
    ),
    "K is missing in the smoothed counts, C / (C + K s)": _step(
        smooth=lambda counts, smoothing: (
            (counts + smoothing) * counts.sum() / (counts.sum() + smoothing)
        )
    ),
    "the counts that you return are smoothed; smooth them for the division alone": _step(
        kept=lambda counts, smooth: smooth
    ),
    "the rows are means of this batch; divide the moving sums by the moving counts": _step(
        rows_of=lambda rows, old, new, batch: _divided(*batch, rows)
    ),
    "the rows follow the sums and counts from before this batch": _step(
        rows_of=lambda rows, old, new, batch: _divided(*old, rows)
    ),
    "the rows stay as they are; divide the sums by the smoothed counts": _step(
        rows_of=lambda rows, old, new, batch: rows
    ),
    "the rows are the moving sums; divide them by the smoothed counts": _step(
        rows_of=lambda rows, old, new, batch: new[0]
    ),
    "a row that has no encodings is set to 0; a row whose smoothed count is 0 stays": _step(
        rows_of=lambda rows, old, new, batch: _divided(*new, torch.zeros_like(rows))
    ),
    "not finite": _step(rows_of=lambda rows, old, new, batch: new[0] / new[1][:, None]),
}.items():
    codebook_step.mistake(_hint, _wrong)


@codebook_step.mistake("z are the encodings; return the rows that stand for them")
def _(encodings, rows, sums, counts, decay, smoothing, training):
    _, *moved = _step()(encodings, rows, sums, counts, decay, smoothing, training)
    return encodings, *moved


@codebook_step.mistake("a row that the batch does not use keeps its place; its averages move too")
def _(encodings, rows, sums, counts, decay, smoothing, training):
    z, new, *averages = _step()(encodings, rows, sums, counts, decay, smoothing, training)
    used = torch.bincount(nearest(encodings, rows), minlength=len(rows))[:, None] > 0
    return z, torch.where(used, new, rows), *averages


@codebook_step.mistake("these rows are averages of old rows and of the means of this batch")
def _(encodings, rows, sums, counts, decay, smoothing, training):
    z, _, *averages = _step()(encodings, rows, sums, counts, decay, smoothing, training)
    if training:
        _, means, *_ = _step()(encodings, rows, 0 * sums, 0 * counts, 0.0, 0.0, True)
        rows = decay * rows + (1 - decay) * means
    return z, rows, *averages


@codebook_step.mistake("the averages keep the graph of the batch")
def _(encodings, rows, sums, counts, decay, smoothing, training):
    z, *moved = _step()(encodings, rows, sums, counts, decay, smoothing, training)
    return z, *(value + 0 * encodings.sum() for value in moved)
