r"""What every level carries: information, active units, and its split at the aggregated posterior.

A level can be unused in more than one way, and no single number shows all of them. The table of
`diagnose` puts several side by side, one row per level from z_1 upward (chapter 2).
"""

import math
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


def _informative_units(level: Level, threshold: float) -> int | None:
    """Count latent dimensions that carry more nats; None where q and p do not factorise."""
    if not (is_diag_normal(level.q) and is_diag_normal(level.p)):
        return None
    ratio = level.q.base_dist.log_prob(level.z) - level.p.base_dist.log_prob(level.z)
    return int((ratio.mean(dim=0) > threshold).sum())


def _active_units(level: Level, num_samples: int, threshold: float) -> int | None:
    """Count dimensions whose mean varies over the data (:eq:`eq-active-unit`), if q has one."""
    try:
        means = mean_of(level.q).unflatten(0, (-1, num_samples))  # (N K, ...) -> (N, K, ...)
    except TypeError:
        return None
    variance = means.mean(dim=1).var(dim=0)
    if num_samples > 1:  # the sampling noise that a mean over K draws still has
        variance = variance - means.var(dim=1).mean(dim=0) / num_samples
    return int((variance > threshold).sum())


def _draw(
    model: HierarchicalVAE, x: Tensor, y: Tensor | None, num_samples: int
) -> tuple[Level, ...]:
    """Levels of K draws per example, without the likelihood, which can take most of the memory."""
    features = [d.repeat_interleave(num_samples, dim=0) for d in model.features(x, y)]
    label = model.one_hot(y, len(x))
    label = None if label is None else label.repeat_interleave(num_samples, dim=0)
    choose, n = model.posterior(features), len(x) * num_samples
    return model.top_down.walk(model.top_prior(), choose, n, label)[0]


def _repeat(values: Tensor, times: int) -> Tensor:
    return values.repeat(times, *[1] * (values.dim() - 1))


def _densities(
    model: HierarchicalVAE, x: Tensor, y: Tensor | None, max_rows: int | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Score one draw per example under the posterior of every example.

    Returns:
        Per level ``log q(z_l^n | x_m, .)``, ``(N, N)``, and ``log p(z_l^n | .)``, ``(N,)``.
    """
    n, prior, features = len(x), model.top_prior(), model.features(x, y)
    label = model.one_hot(y, n)
    levels, _ = model.top_down.walk(prior, model.posterior(features), n, label)
    log_p = [level.p.log_prob(level.z) for level in levels]

    def score(held: list[Tensor], examples: slice, times: int) -> list[Tensor]:
        """Density of latents under the posteriors of some examples, repeated."""
        repeated = [_repeat(d[examples], times) for d in features]
        choose = model.posterior.score(repeated, held)
        labels = None if label is None else _repeat(label[examples], times)
        scored, _ = model.top_down.walk(prior, choose, len(held[0]), labels)
        return [level.q.log_prob(level.z) for level in scored]

    if max_rows is None:
        one = [level.z[:1] for level in levels]
        max_rows = rows_in_memory(
            lambda rows: score([_repeat(z, rows) for z in one], slice(0, 1), rows),
            x.device,
            most=MAX_PAIRS,
        )
    chunk, rows = max(1, max_rows // n), []
    for start in range(0, n, chunk):  # each draw of the chunk, with the features of all examples
        held = [level.z[start : start + chunk].repeat_interleave(n, dim=0) for level in levels]
        scored = score(held, slice(None), len(held[0]) // n)
        rows.append([log_q.unflatten(0, (-1, n)) for log_q in scored])
    return [torch.cat(level) for level in zip(*rows, strict=True)], log_p


def aggregate_split(
    model: HierarchicalVAE,
    x: Examples,
    *,
    y: Labels | None = None,
    max_rows: int | None = None,
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

    Args:
        model: the model; used in evaluation mode.
        x: the examples, data as for `hvae_course.analysis.layers.infer`.
        y: their labels for a conditional model.
        max_rows: largest number of pairs of examples in memory at a time, at least N; None for
            50,000, or as many as fit into the budget of `hvae_course.analysis.memory`.

    Returns:
        Two lists, bottom to top, of tensors ``(N,)`` in nats: the index code and the marginal
        term, from one draw per example.

    Raises:
        ValueError: if x or y do not fit the model.
        TypeError: if x or y have another type.

    Source:
        Hoffman and Johnson (2016), ELBO surgery, NIPS workshop; here per level by the chain rule.
    """
    x = as_rows(model, x)
    labels = as_labels(model, y, len(x), name="y")
    with evaluating(model):
        log_q, log_p = _densities(model, x, labels, max_rows)
    levels = range(model.num_levels)
    index: dict[int, Tensor] = {}
    marginal: dict[int, Tensor] = {}
    joint = torch.zeros_like(log_q[0])  # log q of the levels drawn so far, (N, N)
    before = torch.zeros_like(log_p[0])  # the same for the average of q over the examples
    for l in draw_order(model):
        joint = joint + log_q[l]
        aggregate = joint.logsumexp(dim=1) - math.log(len(x))
        conditional = aggregate - before  # log q(z_l | drawn before), (N,)
        index[l] = log_q[l].diagonal() - conditional
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
    part = part.select(slice(0, max_examples))
    with evaluating(model), isolated_random(device):
        check_data(model, data, part)
        seed_all(seed)
        x = part.batch(slice(None)).to(model.dtype)  # may draw binary pixels
        y = None if model.num_classes is None else part.labels
        levels = _draw(model, x, y, num_samples)
        information = [level.information.mean().item() for level in levels]
        index = aggregate_split(model, x, y=y)[0] if index_code else []
    total = sum(information) or math.nan
    table = pd.DataFrame(
        {
            "level": l + 1,
            "information": information[l],
            "share": information[l] / total,
            "units": level.z[0].numel(),
            "active_units": _active_units(level, num_samples, unit_threshold),
            "informative_units": _informative_units(level, unit_threshold),
        }
        for l, level in enumerate(levels)
    )
    if index_code:
        table["index_code"] = [code.mean().item() for code in index]
        table["marginal_kl"] = table["information"] - table["index_code"]
    table["status"] = [
        "not finite" if not math.isfinite(i) else "active" if i > threshold else "collapsed"
        for i in information
    ]
    return table
