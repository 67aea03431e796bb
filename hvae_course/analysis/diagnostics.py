r"""What every level carries: information, active units, and its split at the aggregated posterior.

A level can be unused in more than one way, and no single number shows all of them. The table of
`diagnose` puts several side by side, one row per level from z_1 upward (chapter 2).
"""

import math

import pandas as pd
import torch
from torch import Tensor

from hvae_course.analysis.evaluation import evaluating
from hvae_course.data import DataSet
from hvae_course.gaussians import is_diag_normal
from hvae_course.hierarchy import HierarchicalVAE, Level, mean_of
from hvae_course.seeding import isolated_random, seed_all


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


def _densities(
    model: HierarchicalVAE, x: Tensor, max_rows: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Score one draw per example under the posterior of every example.

    Returns:
        Per level ``log q(z_l^n | x_m, .)``, ``(N, N)``, and ``log p(z_l^n | .)``, ``(N,)``.
    """
    n, prior, features = len(x), model.top_prior(), model.bottom_up(x)
    levels, _ = model.top_down.walk(prior, model.posterior(features), n)
    log_p = [level.p.log_prob(level.z) for level in levels]
    chunk, rows = max(1, max_rows // n), []
    for start in range(0, n, chunk):  # each draw of the chunk, with the features of all examples
        held = [level.z[start : start + chunk].repeat_interleave(n, dim=0) for level in levels]
        pairs = len(held[0])
        repeated = [d.repeat(pairs // n, *[1] * (d.dim() - 1)) for d in features]
        choose = model.posterior.score(repeated, held)
        scored, _ = model.top_down.walk(prior, choose, pairs)
        rows.append([level.q.log_prob(level.z).unflatten(0, (-1, n)) for level in scored])
    return [torch.cat(level) for level in zip(*rows, strict=True)], log_p


def aggregate_split(
    model: HierarchicalVAE, x: Tensor, *, max_rows: int = 50_000
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
    different conditions, and the term may be negative.

    Args:
        model: the model, in evaluation mode.
        x: the examples, ``(N, D)``.
        max_rows: largest number of pairs of examples in memory at a time.

    Returns:
        Two lists, bottom to top, of tensors ``(N,)`` in nats: the index code and the marginal
        term, from one draw per example.

    Source:
        Hoffman and Johnson (2016), ELBO surgery, NIPS workshop; here per level by the chain rule.
    """
    log_q, log_p = _densities(model, x, max_rows)
    levels = range(model.num_levels)
    upward = model.posterior.draws_bottom_up
    order = [l for l in levels if upward[l]] + [l for l in reversed(levels) if not upward[l]]
    index: dict[int, Tensor] = {}
    marginal: dict[int, Tensor] = {}
    joint = torch.zeros_like(log_q[0])  # log q of the levels drawn so far, (N, N)
    before = torch.zeros_like(log_p[0])  # the same for the average of q over the examples
    for l in order:
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
    - ``status``: "active" if the information exceeds ``threshold``, else "collapsed".

    Args:
        model: the model; evaluated in evaluation mode on the device it is on.
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
        ValueError: if there are fewer than two examples or no draws.

    Source:
        Burda et al. (2016), arXiv:1509.00519, for active units.
    """
    device = model.device
    part = data.split(split).to(device)
    if min(len(part), max_examples) < 2 or num_samples < 1:
        raise ValueError(
            "a diagnosis compares examples and averages draws: it needs at least two examples and "
            f"one draw, got {min(len(part), max_examples)} and {num_samples}"
        )
    with evaluating(model), isolated_random(device):
        seed_all(seed)
        x = part.batch(slice(0, max_examples))  # may draw binary pixels
        trace = model(x, num_samples)
        information = [level.information.mean().item() for level in trace.levels]
        index = aggregate_split(model, x)[0] if index_code else []
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
        for l, level in enumerate(trace.levels)
    )
    if index_code:
        table["index_code"] = [code.mean().item() for code in index]
        table["marginal_kl"] = table["information"] - table["index_code"]
    table["status"] = ["active" if value > threshold else "collapsed" for value in information]
    return table
