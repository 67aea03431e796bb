r"""What every level carries: information, active units, and its split at the aggregated posterior.

A level can be unused in more than one way, and no single number shows all of them. The table of
`diagnose` puts several side by side, one row per level from z_1 upward (chapter 2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import pandas as pd
import torch
from torch import Tensor

from hvae_course.analysis.inputs import Examples, Labels, as_labels, as_rows, check_whole
from hvae_course.analysis.layers import draw_order
from hvae_course.analysis.memory import rows_in_memory
from hvae_course.compatibility import check_data, check_kinds
from hvae_course.data import DataSet
from hvae_course.gaussians import is_diag_normal
from hvae_course.hierarchy import HierarchicalVAE, Level, evaluating, mean_of
from hvae_course.seeding import isolated_random, seed_all

MAX_PAIRS = 50_000
"""Largest number of pairs of examples that a diagnosis holds at a time, if memory allows."""

USUAL_OTHERS = 20
"""Other examples that stand for all of them where a posterior scores a draw slowly."""


@dataclass
class _Units:
    """Statistics of the units of one level over some examples, each ``(*event)``."""

    count: int
    """Number of examples."""
    size: int
    """Number of units Z_l."""
    ratio: Tensor | None
    """Mean log-ratio of every unit; None where q and p do not factorise."""
    mean: Tensor | None
    """Mean of the posterior mean; None if that has no closed form."""
    variance: Tensor | None
    """Variance over examples of the posterior mean, each averaged over its draws."""
    noise: Tensor | None
    """Variance of the posterior mean over the draws of one example, averaged over examples."""
    codes: Tensor | None = None
    """How often each code was taken, ``(K,)``; None if the level has no codes."""

    def merge(self, other: "_Units") -> "_Units":
        """Give the statistics over the examples of both."""
        n, m = self.count, other.count

        def average(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else torch.lerp(a, b, m / (n + m))

        variance = None
        if self.mean is not None and other.mean is not None:
            squares = (n - 1) * self.variance + (m - 1) * other.variance
            apart = (other.mean - self.mean).square() * (n * m / (n + m))
            variance = (squares + apart) / (n + m - 1)
        return _Units(
            n + m,
            self.size,
            average(self.ratio, other.ratio),
            average(self.mean, other.mean),
            variance,
            average(self.noise, other.noise),
            None if self.codes is None or other.codes is None else self.codes + other.codes,
        )

    def usage(self) -> dict[str, int | float]:
        """Codes that were taken, and the number of equally frequent ones with their entropy."""
        if self.codes is None:
            return {"live_codes": math.nan, "perplexity": math.nan}
        share = self.codes.double() / self.codes.sum()
        entropy = torch.special.entr(share).sum()
        return {"live_codes": int((self.codes > 0).sum()), "perplexity": entropy.exp().item()}

    def informative(self, threshold: float) -> int | None:
        """Count units that carry more nats."""
        return None if self.ratio is None else int((self.ratio > threshold).sum())

    def active(self, num_samples: int, threshold: float) -> int | None:
        """Count units whose mean varies over the data (:eq:`eq-active-unit`)."""
        if self.variance is None:
            return None
        variance = self.variance
        if num_samples > 1:  # the sampling noise that a mean over K draws still has
            variance = variance - self.noise / num_samples
        return int((variance > threshold).sum())


def _units(level: Level, num_samples: int) -> _Units:
    """Statistics of the units of a level, from K draws per example."""
    count, size, ratio = len(level.z) // num_samples, level.z[0].numel(), None
    codes, index = None, getattr(level.q, "index", None)
    if index is not None:
        codes = torch.bincount(index.flatten(), minlength=level.q.num_codes)
    if is_diag_normal(level.q) and is_diag_normal(level.p):
        ratio = level.q.base_dist.log_prob(level.z) - level.p.base_dist.log_prob(level.z)
        ratio = ratio.mean(dim=0)
    try:
        means = mean_of(level.q).unflatten(0, (-1, num_samples))  # (N K, ...) -> (N, K, ...)
    except TypeError:
        return _Units(count, size, ratio, None, None, None, codes)
    noise = means.var(dim=1).mean(dim=0) if num_samples > 1 else None
    means = means.mean(dim=1)
    variance = means.var(dim=0) if count > 1 else torch.zeros_like(means[0])
    return _Units(count, size, ratio, means.mean(dim=0), variance, noise, codes)


def _draw(
    model: HierarchicalVAE, x: Tensor, y: Tensor | None, num_samples: int
) -> tuple[Level, ...]:
    """Levels of K draws per example, without the likelihood, which can take most of the memory."""
    features = [d.repeat_interleave(num_samples, dim=0) for d in model.features(x, y)]
    label = model.one_hot(y, len(x))
    label = None if label is None else label.repeat_interleave(num_samples, dim=0)
    choose, n = model.posterior(features), len(x) * num_samples
    return model.top_down.walk(model.top_prior(), choose, n, label)[0]


def _describe(
    model: HierarchicalVAE, x: Tensor, y: Tensor | None, num_samples: int
) -> tuple[list[float], list[_Units]]:
    """Mean information and units of every level, as many examples at a time as fit into memory."""

    def run(
        examples: int,
    ) -> list[_Units]:  # the density of a prior may be random, and is left out
        levels = _draw(model, *_first(x, y, examples), num_samples)
        return [_units(level, num_samples) for level in levels]

    with isolated_random(x.device):
        chunk = rows_in_memory(run, x.device, most=len(x))
    information, units = [], []
    for start in range(0, len(x), chunk):
        some = slice(start, start + chunk)
        levels = _draw(model, x[some], None if y is None else y[some], num_samples)
        information.append([level.information for level in levels])
        new = [_units(level, num_samples) for level in levels]
        units = [a.merge(b) for a, b in zip(units, new, strict=True)] if units else new
        del levels  # before the next are drawn
    means = [torch.cat(parts).mean().item() for parts in zip(*information, strict=True)]
    return means, units


def _repeat(values: Tensor, times: int) -> Tensor:
    return values.repeat(times, *[1] * (values.dim() - 1))


def _first(x: Tensor, y: Tensor | None, times: int) -> tuple[Tensor, Tensor | None]:
    """Give the first example, repeated, to measure what a row takes."""
    return _repeat(x[:1], times), None if y is None else _repeat(y[:1], times)


def _draw_once(
    model: HierarchicalVAE, x: Tensor, y: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Draw once per example, as many examples at a time as fit into memory.

    Returns:
        Per level z_l, ``(N, *event)``, and ``log p(z_l | .)``, ``(N,)``.
    """

    def draw(x: Tensor, y: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        levels = _draw(model, x, y, 1)
        return [(level.z, level.p.log_prob(level.z)) for level in levels]

    with isolated_random(x.device):
        chunk = rows_in_memory(lambda n: draw(*_first(x, y, n)), x.device, most=MAX_PAIRS)
    chunks = [slice(start, start + chunk) for start in range(0, len(x), chunk)]
    drawn = [draw(x[some], None if y is None else y[some]) for some in chunks]
    levels = [[*zip(*parts, strict=True)] for parts in zip(*drawn, strict=True)]
    return [torch.cat(z) for z, _ in levels], [torch.cat(log_p) for _, log_p in levels]


def _densities(
    model: HierarchicalVAE,
    x: Tensor,
    y: Tensor | None,
    max_rows: int | None,
    num_others: int | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Score one draw per example under the posteriors of all examples, or of itself and others.

    Args:
        model: the model, in evaluation mode.
        x: the examples.
        y: their labels.
        max_rows: largest number of pairs at a time.
        num_others: M, the other examples that each draw is scored under; None for all.

    Returns:
        Per level ``log q(z_l^n | x_m, .)``, ``(N, N)``, or ``(N, 1 + M)`` with the draw's own
        example first, and ``log p(z_l^n | .)``, ``(N,)``.
    """
    n, prior, label = len(x), model.top_prior(), model.one_hot(y, len(x))
    z, log_p = _draw_once(model, x, y)
    others = None if num_others is None else _choose_others(n, num_others, x.device)

    def score(
        features: Sequence[Tensor], label: Tensor | None, draws: Tensor, examples: Tensor
    ) -> Tensor:
        """Density of some draws under the posteriors of some examples, (L, pairs)."""
        choose = model.posterior.score([d[examples] for d in features], [v[draws] for v in z])
        label = None if label is None else label[examples]
        scored, _ = model.top_down.walk(prior, choose, len(draws), label)
        return torch.stack([level.q.log_prob(level.z) for level in scored])

    def features_of(some: slice) -> tuple[Sequence[Tensor], Tensor | None]:
        of_label = None if label is None else label[some]
        return model.features(x[some], None if y is None else y[some]), of_label

    at = torch.arange(n, device=x.device)
    block = n  # of examples whose features are held at a time
    if max_rows is None:
        first, first_label = features_of(slice(0, 1))
        max_rows = rows_in_memory(
            lambda rows: score(first, first_label, at.new_zeros(rows), at.new_zeros(rows)),
            x.device,
            most=MAX_PAIRS,
        )
        run = lambda rows: model.features(*_first(x, y, rows))  # noqa: E731
        block = rows_in_memory(run, x.device, most=n)
    block = min(block, max_rows, n)
    columns = []
    if others is None:
        draws = max(1, max_rows // block)
        for start in range(0, n, block):
            some = at[start : start + block]
            features, of_label = features_of(slice(start, start + block))
            rows = []
            for first in range(0, n, draws):  # each draw, with the features of all examples
                chunk = at[first : first + draws]
                i, j = chunk.repeat_interleave(len(some)), (some - start).repeat(len(chunk))
                rows.append(score(features, of_label, i, j).unflatten(1, (-1, len(some))))
            columns.append(torch.cat(rows, dim=1))
        return [*torch.cat(columns, dim=2)], log_p
    pairs = torch.cat([at[:, None], others], dim=1)  # (N, 1 + M)
    order = pairs.flatten().argsort()  # by example, whose features are computed once
    examples, draws = pairs.flatten()[order], order // pairs.shape[1]
    for start in range(0, len(order), block):
        some = slice(start, start + block)
        low, high = examples[some][0].item(), examples[some][-1].item()
        features, of_label = features_of(slice(low, high + 1))
        columns.append(score(features, of_label, draws[some], examples[some] - low))
    sorted_log_q = torch.cat(columns, dim=1)  # (L, N (1 + M))
    log_q = torch.empty_like(sorted_log_q)
    log_q[:, order] = sorted_log_q
    return [*log_q.unflatten(1, pairs.shape)], log_p


def _is_slow(model: HierarchicalVAE, x: Tensor, y: Tensor | None) -> bool:
    """Whether a posterior takes long to score a draw of another example, as a flow does."""
    with isolated_random(x.device):
        levels = _draw(model, *_first(x, y, 1), 1)
    return any(getattr(level.q, "slow_to_score", False) for level in levels)


def _choose_others(n: int, num_others: int, device: torch.device) -> Tensor:
    """Choose other examples for each of n, without repeats, (n, M)."""
    if not 1 <= num_others < n:
        raise ValueError(
            f"each of {n} draws can be scored under 1 to {n - 1} other examples, got "
            f"num_others={num_others}; leave it out for all of them"
        )
    chosen = torch.stack([torch.randperm(n - 1)[:num_others] for _ in range(n)])
    return (chosen + (chosen >= torch.arange(n)[:, None])).to(device)  # leaves the own one out


def aggregate_split(
    model: HierarchicalVAE,
    x: Examples,
    *,
    y: Labels | None = None,
    max_rows: int | None = None,
    num_others: int | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    r"""Split every level's information at the aggregated posterior (:eq:`eq-aggregate-split`).

    .. math:: \mathbb E \log \frac{q(z_l \mid x, z_{<l})}{p(z_l \mid z_{>l})}
              = \underbrace{\mathbb E \log \frac{q(z_l \mid x, z_{<l})}{q(z_l \mid z_{<l})}}_{
                I_q(n;\, z_l \mid z_{<l})}
              + \underbrace{\mathbb E \log \frac{q(z_l \mid z_{<l})}{p(z_l \mid z_{>l})}}_{
                \text{marginal term}}

    This is the form for bottom-up inference, whose posterior draws the levels below z_l first.
    For any other, :math:`z_{<l}` in the condition of q stands for the levels drawn before z_l,
    which for top-down inference are :math:`z_{>l}`. :math:`q(z) = \frac1N \sum_n q(z \mid x_n)` is
    the posterior averaged over the N examples given. For top-down inference, and at the top of a
    chain, the marginal term is a KL divergence. For a lower level of a chain q and p have
    different conditions, and the term may be negative. In a conditional model an example is x
    with its label, and the average runs over both.

    All pairs of examples are N squared rows of the top-down path. For large models, and for
    posteriors that score the draw of another example slowly, give ``num_others``: each draw is
    scored under its own example and under M others, chosen at random without repeats, which stand
    for all others.

    .. math:: \hat q(z^n) = \frac1N\, q(z^n \mid x_n)
              + \frac{N - 1}{N M} \sum_{m \in S_n} q(z^n \mid x_m)

    This is an unbiased estimate of the average. Its logarithm is too small in expectation, so the
    sum of the index codes over levels is too large, by about half the relative variance of the
    estimate. It still does not exceed log N for any draw.

    Args:
        model: the model; used in evaluation mode.
        x: the examples, data as for `hvae_course.analysis.layers.infer`.
        y: their labels for a conditional model.
        max_rows: largest number of pairs of examples in memory at a time; None for 50,000, or as
            many as fit into the budget of `hvae_course.analysis.memory`.
        num_others: M, other examples that each draw is scored under; None for all N - 1.

    Returns:
        Two lists, bottom to top, of tensors ``(N,)`` in nats: the index code and the marginal
        term, from one draw per example.

    Raises:
        ValueError: if x or y do not fit the model, or there are not so many other examples.
        TypeError: if x or y have another type, or the number of others is not a whole number.

    Source:
        Hoffman and Johnson (2016), ELBO surgery, NIPS workshop; here per level by the chain rule.
    """
    x = as_rows(model, x)
    labels, n = as_labels(model, y, len(x), name="y"), len(x)
    if num_others is not None:
        check_whole(num_others=num_others)
    with evaluating(model):
        log_q, log_p = _densities(model, x, labels, max_rows, num_others)
    levels, rows = range(model.num_levels), torch.arange(n, device=x.device)
    own = rows  # the column of a draw's own example
    stands_for = torch.zeros_like(log_q[0])  # log of how many examples an entry stands for
    if num_others is not None:
        own = torch.zeros_like(rows)
        stands_for[:, 1:] = math.log((n - 1) / num_others)
    index: dict[int, Tensor] = {}
    marginal: dict[int, Tensor] = {}
    joint = stands_for  # log q of the levels drawn so far, (N, N) or (N, 1 + M)
    before = torch.zeros_like(log_p[0])  # the same for the average of q over the examples
    for l in draw_order(model):
        joint = joint + log_q[l]
        aggregate = joint.logsumexp(dim=1) - math.log(n)
        conditional = aggregate - before  # log q(z_l | drawn before), (N,)
        index[l] = log_q[l][rows, own] - conditional
        marginal[l] = conditional - log_p[l]
        before = aggregate
    return [index[l] for l in levels], [marginal[l] for l in levels]


def diagnose(
    model: HierarchicalVAE,
    data: DataSet,
    *,
    split: str = "test",
    threshold: float = 0.1,
    unit_threshold: float = 0.01,
    num_samples: int = 10,
    max_examples: int = 1000,
    index_code: bool = True,
    num_others: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate what every level of a model carries, one row per level from z_1 upward.

    Columns, in nats per example unless stated otherwise:

    - ``level``: the book's number, 1 next to the data;
    - ``information``: mean log-ratio of joint draws; the levels sum to the gap between
      reconstruction and ELBO;
    - ``share``: of that sum, NaN where the sum is zero;
    - ``units``: number of latent dimensions Z_l;
    - ``active_units``: those whose posterior mean varies over the data with a variance above
      ``unit_threshold``; None if that mean has no closed form. Below a level that is in use the
      *prior* varies with the data too, so a unit that only follows its prior is counted;
    - ``informative_units``: those whose own mean log-ratio exceeds ``unit_threshold`` nats;
    - ``index_code``: what the level says, beyond what was drawn before it, about *which* example
      it was drawn for;
    - ``marginal_kl``: the rest of the information, the marginal term of `aggregate_split`. For a
      lower level of a chain it is not a KL divergence and may be negative;
    - ``index_code_error``: of a sample of the pairs, the standard error of the index code over
      examples;
    - ``live_codes``, ``perplexity``: where a level has codes, how many were taken at least once,
      and the exponential of the entropy of their use, over all positions of all examples and not
      batch by batch;
    - ``status``: "active" if the information exceeds ``threshold``, else "collapsed"; "not finite"
      where the model gives NaN or infinity.

    Args:
        model: the model; evaluated in evaluation mode on the device it is on. A conditional model
            is given the labels of the split.
        data: the data set.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        threshold: nats per example above which a level counts as active.
        unit_threshold: variance, or nats, above which a unit counts.
        num_samples: K, draws per example for information and units.
        max_examples: largest number of examples, the first of the split.
        index_code: whether to compute the columns ``index_code`` and ``marginal_kl``, for which
            the draw of each example is scored under the posterior of every other, at the cost of
            ``max_examples`` squared rows.
        num_others: number of other examples that stand for all of them in these columns, see
            `aggregate_split`; for models whose ``max_examples`` squared rows take too long. None
            for all, or for 20 if a level's posterior is a flow, whose inverse takes many passes
            of a network for each row; ``max_examples - 1`` is all of them.
        seed: seed of the draws; the caller's generators are left unchanged.

    Returns:
        The table.

    Raises:
        ValueError: if there are fewer than two examples or no draws, or the model was built for
            other data.
        TypeError: if something is not what its name says, such as a tensor for the data.

    Source:
        Burda et al. (2016), arXiv:1509.00519, for active units.
    """
    check_kinds(model, data)
    device = model.device
    part = data.split(split).to(device)
    check_whole(num_samples=num_samples, max_examples=max_examples)
    for name, number in (("threshold", threshold), ("unit_threshold", unit_threshold)):
        if not (isinstance(number, Real) and math.isfinite(number)):
            raise ValueError(f"{name} must be a finite number, got {number!r}")
    if min(len(part), max_examples) < 2 or num_samples < 1:
        raise ValueError(
            "a diagnosis compares examples and averages draws: it needs at least two examples and "
            f"one draw, got {min(len(part), max_examples)} and {num_samples}"
        )
    if num_others is not None and not index_code:
        raise ValueError(
            f"num_others={num_others} is a setting of the index code; leave it out, or set "
            "index_code=True"
        )
    part = part.select(slice(0, max_examples))
    with evaluating(model), isolated_random(device):
        check_data(model, data, part)
        seed_all(seed)
        x = part.batch(slice(None)).to(model.dtype)  # may draw binary pixels
        y = None if model.num_classes is None else part.labels
        information, units = _describe(model, x, y, num_samples)
        if index_code and num_others is None and _is_slow(model, x, y):
            num_others = min(USUAL_OTHERS, len(x) - 1)
        index = aggregate_split(model, x, y=y, num_others=num_others)[0] if index_code else []
    total = sum(information) or math.nan
    table = pd.DataFrame(
        {
            "level": l + 1,
            "information": information[l],
            "share": information[l] / total,
            "units": level.size,
            "active_units": level.active(num_samples, unit_threshold),
            "informative_units": level.informative(unit_threshold),
        }
        for l, level in enumerate(units)
    )
    if any(level.codes is not None for level in units):
        used = [level.usage() for level in units]
        for name in ("live_codes", "perplexity"):
            table[name] = [of_level[name] for of_level in used]
    if index_code:
        table["index_code"] = [code.mean().item() for code in index]
        table["marginal_kl"] = table["information"] - table["index_code"]
    if num_others is not None:
        root = math.sqrt(len(part))
        table["index_code_error"] = [code.std().item() / root for code in index]
    table["status"] = [
        "not finite" if not math.isfinite(i) else "active" if i > threshold else "collapsed"
        for i in information
    ]
    return table
