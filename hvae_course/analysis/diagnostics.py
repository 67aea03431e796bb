r"""What every level carries: information, active units, and what the aggregated posterior adds.

A level can be idle in more than one way, and no single number shows them all. The table of
`diagnose` puts them side by side, one row per level from z_1 upward (chapter 2).
"""

import math

import pandas as pd
import torch
from torch import Tensor

from hvae_course.analysis.evaluation import evaluating
from hvae_course.data import DataSet
from hvae_course.gaussians import is_diag_normal
from hvae_course.hierarchy import HierarchicalVAE, Level
from hvae_course.seeding import isolated_random, seed_all


def _informative_units(level: Level, threshold: float) -> int | None:
    """Latent dimensions that carry more than so many nats; None where q and p do not factorise."""
    if not (is_diag_normal(level.q) and is_diag_normal(level.p)):
        return None
    ratio = level.q.base_dist.log_prob(level.z) - level.p.base_dist.log_prob(level.z)
    return int((ratio.mean(dim=0) > threshold).sum())


def _active_units(level: Level, num_samples: int, threshold: float) -> int:
    """Latent dimensions whose posterior mean varies over the data (:eq:`eq-active-unit`)."""
    means = level.q.mean.unflatten(0, (-1, num_samples))  # (N K, Z_l) -> (N, K, Z_l)
    variance = means.mean(dim=1).var(dim=0)
    if num_samples > 1:  # what the draws of the other levels add to the variance of K of them
        variance = variance - means.var(dim=1).mean(dim=0) / num_samples
    return int((variance > threshold).sum())


def _densities(
    model: HierarchicalVAE, x: Tensor, max_rows: int
) -> tuple[list[Tensor], list[Tensor]]:
    """One draw per example, under the posterior of every example.

    Returns per level ``log q(z_l^n | x_m, .)`` as ``(N, N)`` and ``log p(z_l^n | .)`` as ``(N,)``.
    """
    n, prior, features = len(x), model.top_prior(), model.bottom_up(x)
    levels, _ = model.top_down.walk(prior, model.posterior(features), n)
    log_p = [level.p.log_prob(level.z) for level in levels]
    chunk, rows = max(1, max_rows // n), []
    for start in range(0, n, chunk):  # every draw of the chunk, with the features of everyone
        held = [level.z[start : start + chunk].repeat_interleave(n, dim=0) for level in levels]
        pairs = len(held[0])
        choose = model.posterior.score([d.repeat(pairs // n, 1) for d in features], held)
        scored, _ = model.top_down.walk(prior, choose, pairs)
        rows.append([level.q.log_prob(level.z).unflatten(0, (-1, n)) for level in scored])
    return [torch.cat(level) for level in zip(*rows, strict=True)], log_p


def aggregate_split(
    model: HierarchicalVAE, x: Tensor, *, max_rows: int = 50_000
) -> tuple[list[Tensor], list[Tensor]]:
    r"""Split every level's information at the aggregated posterior (:eq:`eq-aggregate-split`).

    .. math:: \mathbb E \log \frac{q(z_l \mid x, \cdot)}{p(z_l \mid z_{>l})}
              = \underbrace{\mathbb E \log \frac{q(z_l \mid x, \cdot)}{q(z_l \mid \cdot)}}_{
                I_q(n;\, z_l \mid \cdot)}
              + \mathbb E \log \frac{q(z_l \mid \cdot)}{p(z_l \mid z_{>l})}

    The dot is what the posterior draws before this level: the levels above for top-down
    inference, those below for bottom-up inference. :math:`q(z) = \frac1N \sum_n q(z \mid x_n)`
    is the posterior averaged over the N examples given.

    Args:
        model: the model, in evaluation mode.
        x: the examples, ``(N, D)``.
        max_rows: largest number of pairs of examples held in memory at a time.

    Returns:
        Two lists, bottom to top, of tensors ``(N,)`` in nats, the index-code mutual information
        and the marginal KL, from one draw per example.

    Source:
        Hoffman and Johnson (2016), ELBO surgery, NIPS workshop; here per level by the chain rule.
    """
    log_q, log_p = _densities(model, x, max_rows)
    levels = range(model.num_levels)
    order = levels if model.posterior.draws_bottom_up else reversed(levels)
    index: dict[int, Tensor] = {}
    marginal: dict[int, Tensor] = {}
    joint = torch.zeros_like(log_q[0])  # log q of what was drawn so far, (N, N)
    before = torch.zeros_like(log_p[0])  # the same, averaged over the examples
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
    seed: int = 0,
) -> pd.DataFrame:
    """Table of what every level of a model carries, one row per level from z_1 upward.

    Columns, with nats per example where not said otherwise:

    - ``level``: the book's number, 1 next to the data;
    - ``information``: mean log-ratio of joint draws; the levels sum to the gap between
      reconstruction and ELBO;
    - ``share``: of that sum, NaN where it is zero;
    - ``units``: number of latent dimensions Z_l;
    - ``active_units``: those whose posterior mean varies over the data with a variance above
      ``unit_threshold``. Below a level that is in use the *prior* varies with the data too, so a
      unit that only follows its prior is counted;
    - ``informative_units``: those that carry more than ``unit_threshold`` nats themselves;
    - ``index_code``: how much the level tells, beyond what was drawn before it, about *which*
      example it was drawn for; ``marginal_kl``: the rest of the information, see
      `aggregate_split`;
    - ``status``: "active" if the information exceeds ``threshold``, else "collapsed".

    Args:
        model: the model; evaluated in evaluation mode on the device it is on.
        data: the data set.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        threshold: nats per example above which a level counts as active.
        unit_threshold: variance, or nats, above which a unit counts.
        num_samples: draws per example for information and units.
        max_examples: the first so many examples of the split are used.
        seed: seed of the draws; the caller's generators are left as they were.

    Returns:
        The table.

    Raises:
        ValueError: if there are fewer than two examples, or no draws.

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
        x = part.batch(slice(0, max_examples))  # binary pixels may be drawn here
        trace = model(x, num_samples)
        information = [level.information.mean().item() for level in trace.levels]
        index, _ = aggregate_split(model, x)
    total = sum(information) or math.nan
    rows = []
    for l, level in enumerate(trace.levels):
        rows.append(
            {
                "level": l + 1,
                "information": information[l],
                "share": information[l] / total,
                "units": level.z[0].numel(),
                "active_units": _active_units(level, num_samples, unit_threshold),
                "informative_units": _informative_units(level, unit_threshold),
                "index_code": index[l].mean().item(),
                "marginal_kl": information[l] - index[l].mean().item(),
                "status": "active" if information[l] > threshold else "collapsed",
            }
        )
    return pd.DataFrame(rows)
