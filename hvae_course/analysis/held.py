r"""What the top levels hold: images from some levels alone, and a bound that infers some alone.

The levels above a place in the hierarchy come from the posterior, and the levels below it from
their priors. With ancestral draws below, this shows how much of an example the upper levels fix,
and it gives a score for data that a model has not been trained for.
"""

import math
from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor

from hvae_course.analysis.evaluation import usual_rows
from hvae_course.analysis.inputs import (
    Examples,
    Labels,
    as_labels,
    as_rows,
    check_positive,
    check_whole,
)
from hvae_course.compatibility import check_data, check_kinds
from hvae_course.data import DataSet
from hvae_course.hierarchy import (
    Choose,
    HierarchicalVAE,
    Trace,
    evaluating,
    from_prior,
    hold,
    mean_of,
    switch,
    tempered,
)
from hvae_course.seeding import isolated_random, seed_all


def _check_number(model: HierarchicalVAE, name: str, number: int) -> None:
    """Require a number of levels, none and all included."""
    check_whole(**{name: number})
    if not 0 <= number <= model.num_levels:
        raise ValueError(
            f"{name} must be between 0 and {model.num_levels}, the number of levels, got {number}"
        )


def hold_top(
    model: HierarchicalVAE,
    x: Examples,
    num_held: int,
    *,
    num_samples: int = 1,
    temperature: float = 1.0,
    y: Labels | None = None,
) -> Trace:
    """Draw the top levels from the posterior of x, and the levels below from their priors.

    Draws from the caller's generator: call ``torch.manual_seed`` first to get the same draw again.
    A posterior that draws bottom-up draws all levels and keeps the top ones, which is a draw of
    them given x.

    Args:
        model: the model; used in evaluation mode.
        x: data as for `hvae_course.analysis.layers.infer`.
        num_held: number of levels that are held, from the top: 0 gives ancestral samples, and L
            the posterior.
        num_samples: draws per example.
        temperature: what the standard deviation of the priors of the levels below is multiplied
            by, see `hvae_course.hierarchy.choices.tempered`.
        y: labels of x for a conditional model, one for each or one for all.

    Returns:
        A trace, draws of one example next to each other; ``trace.px.mean`` are the images. In the
        levels below, q is the prior itself.

    Raises:
        ValueError: if there are not so many levels, the number of draws is not positive, the
            temperature is negative, or x or y do not fit the model.
        TypeError: if an argument has another type, or the temperature is not 1 and a prior is not
            Gaussian.

    Source:
        Child (2021), Very Deep VAEs, arXiv:2011.10650, shows such images at several temperatures.
    """
    _check_number(model, "num_held", num_held)
    check_positive(num_samples=num_samples)
    x, below = as_rows(model, x), tempered(temperature)
    labels = as_labels(model, y, len(x), name="y")
    with evaluating(model):
        label = model.one_hot(labels, len(x))
        features = model.features(x, labels)
        if num_samples > 1:
            features = [d.repeat_interleave(num_samples, dim=0) for d in features]
            label = None if label is None else label.repeat_interleave(num_samples, dim=0)
        lowest = model.num_levels - num_held + 1
        choose = switch(lowest, model.posterior(features), below)
        rows = len(x) * num_samples
        return model.top_down(model.top_prior(), choose, rows, label, num_samples=num_samples)


def _held(
    model: HierarchicalVAE, trace: Trace, num_held: int, below: Choose, y: Tensor | None
) -> Trace:
    """Walk down again with the values of the top levels of a trace."""
    first = model.num_levels - num_held
    values = {l + 1: trace.levels[l].z for l in range(first, model.num_levels)}
    n, label = len(trace.levels[0].z), None
    if y is not None:
        label = model.one_hot(y.repeat_interleave(trace.num_samples), n)
    choose = hold(values, below)
    return model.top_down(model.top_prior(), choose, n, label, num_samples=trace.num_samples)


def _chunks(
    model: HierarchicalVAE, x: Tensor, y: Tensor | None, num_samples: int, max_rows: int
) -> Iterator[Trace]:
    """Posterior traces of a batch, of no more rows at a time than fit."""
    features, chunk = model.features(x, y), max(1, max_rows // len(x))
    for start in range(0, num_samples, chunk):
        yield model(x, min(chunk, num_samples - start), features=features, y=y)


def _rows(model: HierarchicalVAE, x: Tensor, y: Tensor | None) -> int:
    """How many rows to hold at a time, if there are two traces of each."""
    usual = usual_rows(model, x[:1], None if y is None else y[:1])
    return max(1, usual // (2 * model.prior.num_samples))


def _error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def progressive(
    model: HierarchicalVAE,
    data: DataSet,
    *,
    split: str = "test",
    held: Sequence[int] | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    max_examples: int = 1000,
    batch_size: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Measure how much of an example its top levels fix, as more and more of them are held.

    The top levels are drawn from the posterior, once for all numbers of levels, and those below
    from their priors. One row per number of levels held:

    - ``held``: number of levels held, from the top;
    - ``information``: the sum of their information, nats per example;
    - ``log_px``: :math:`\mathbb E \log p(x \mid z)`, nats per example; with all levels held this
      is the reconstruction term of the ELBO;
    - ``rmse``: root of the mean squared difference between x and the mean of p(x | z), over all
      dimensions, examples and draws, in the units of the data; NaN for an autoregressive
      likelihood, which has no mean in closed form;
    - ``information_error``, ``log_px_error``, ``rmse_error``: standard errors over examples.

    For inference from the bottom up the information of a level is no KL divergence, and only the
    last row, all levels, is the KL term of the ELBO.

    Args:
        model: the model; evaluated in evaluation mode on the device it is on. A conditional model
            is given the labels of the split.
        data: the data set.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        held: numbers of levels, in the order of the table; None for 0, ..., L, which takes L + 2
            walks per draw.
        num_samples: draws per example.
        temperature: what the standard deviation of the priors of the levels below is multiplied
            by.
        max_examples: largest number of examples, the first of the split.
        batch_size: largest number of examples at a time.
        seed: seed of the draws; the caller's generators are left unchanged.

    Returns:
        The table.

    Raises:
        ValueError: if there are not so many levels, a number is not positive, or the model was
            built for other data.
        TypeError: if something is not what its name says, the likelihood has no mean in closed
            form, or the temperature is not 1 and a prior is not Gaussian.

    Example:
        >>> from hvae_course import data, recipes
        >>> digits = data.load("digits")
        >>> model = recipes.ladder_vae(digits, latent_sizes=(4, 2), hidden=(8,))
        >>> progressive(model, digits, max_examples=20)["held"].tolist()
        [0, 1, 2]
    """
    check_kinds(model, data)
    check_positive(num_samples=num_samples, max_examples=max_examples, batch_size=batch_size)
    numbers = [*range(model.num_levels + 1)] if held is None else [*held]
    for number in numbers:
        _check_number(model, "held", number)
    below, device = tempered(temperature), model.device
    part = data.split(split).to(device).select(slice(0, max_examples))
    batches = []
    with evaluating(model), isolated_random(device):
        check_data(model, data, part)
        labels = None if model.num_classes is None else part.labels
        some = part.batch(slice(0, 1)).to(model.dtype)
        max_rows = _rows(model, some, labels)
        size = min(batch_size, max_rows)
        seed_all(seed)
        for start in range(0, len(part), size):
            x = part.batch(slice(start, start + size)).to(model.dtype)
            y = None if labels is None else labels[start : start + size]
            sums = 0.0
            for trace in _chunks(model, x, y, num_samples, max_rows):
                information = [level.information for level in trace.levels]
                rows = []
                for number in numbers:
                    shown = _held(model, trace, number, below, y)
                    kept = information[len(information) - number :]
                    nats = sum(kept) if kept else torch.zeros_like(information[0])
                    target = x.flatten(1).repeat_interleave(trace.num_samples, dim=0)
                    square = target.new_full((len(target),), math.nan)
                    if getattr(model.top_down.likelihood, "has_mean", True):
                        means = mean_of(shown.px).flatten(1)
                        square = (means - target).square().nanmean(dim=1)
                    rows.append(torch.stack([nats, shown.log_px(x), square]))
                terms = torch.stack(rows).double().unflatten(2, (len(x), -1))
                sums = sums + terms.sum(dim=3)
            batches.append((sums / num_samples).cpu())
    table = []
    for number, (nats, log_px, square) in zip(numbers, torch.cat(batches, dim=2), strict=True):
        rmse = square.mean().sqrt().item()
        table.append(
            {
                "held": number,
                "information": nats.mean().item(),
                "information_error": _error(nats),
                "log_px": log_px.mean().item(),
                "log_px_error": _error(log_px),
                "rmse": rmse,
                "rmse_error": _error(square) / (2 * rmse) if rmse > 0 else math.nan,
            }
        )
    return pd.DataFrame(table)


def _bounds(
    model: HierarchicalVAE,
    x: Examples,
    k: int,
    num_samples: int,
    weighted: bool,
    below: Choose,
    y: Labels | None,
    seed: int,
) -> Tensor:
    """The full bound and that of the levels above k, of the same draws, (2, B)."""
    _check_number(model, "k", k)
    check_positive(num_samples=num_samples)
    x = as_rows(model, x)
    labels = as_labels(model, y, len(x), name="y")
    columns = []
    with evaluating(model), isolated_random(model.device):
        max_rows = _rows(model, x, labels)
        seed_all(seed)
        for start in range(0, len(x), max_rows):
            some = x[start : start + max_rows]
            of_label = None if labels is None else labels[start : start + max_rows]
            terms = []
            for trace in _chunks(model, some, of_label, num_samples, max_rows):
                log_w, _, *information = trace.terms(some)
                shown = _held(model, trace, model.num_levels - k, below, of_label)
                part = shown.log_px(some) - sum(information[k:])
                terms.append(torch.stack([log_w, part]).unflatten(1, (len(some), -1)))
            draws = torch.cat(terms, dim=2)  # (2, B, S)
            if draws.device.type != "mps":  # Apple's GPUs have no float64
                draws = draws.double()
            if weighted:
                columns.append(draws.logsumexp(dim=2) - math.log(num_samples))
            else:
                columns.append(draws.mean(dim=2))
    return torch.cat(columns, dim=1)


def bound_above(
    model: HierarchicalVAE,
    x: Examples,
    k: int,
    *,
    num_samples: int = 1,
    weighted: bool = False,
    below: Choose = from_prior,
    y: Labels | None = None,
    seed: int = 0,
) -> Tensor:
    r"""A lower bound on log p(x) that infers the levels above k alone, in expectation.

    .. math:: \mathcal L^{>k} = \mathbb E_{p(z_{\le k} \mid z_{>k})\, q(z_{>k} \mid x)} \Bigl[
              \log p(x \mid z) - \sum_{l > k} \log \frac{q(z_l \mid \cdot)}{p(z_l \mid z_{>l})}
              \Bigr] \le \log p(x)

    The levels up to k are draws from their priors, and so cost no nats. With ``k=0`` this is the
    ELBO, with ``k=L`` it is :math:`\mathbb E_{p(z)} \log p(x \mid z)`. For inference from the
    bottom up the posterior draws the levels up to k on its way, and these draws are dropped:
    :math:`q(z_{k+1} \mid z_k)` stands where :math:`q(z_{k+1} \mid x)` would give a larger value.
    The result is a bound all the same.

    Args:
        model: the model; used in evaluation mode.
        x: data as for `hvae_course.analysis.layers.infer`.
        k: number of levels, from the bottom, that come from their priors, 0 to L.
        num_samples: S, draws per example.
        weighted: whether to take the logarithm of the mean weight of the S draws, a tighter bound,
            in place of the mean of their logarithms.
        below: how to pick the levels up to k. Only draws from the priors give a bound: the means,
            `hvae_course.hierarchy.choices.prior_mean`, give a number that can exceed log p(x).
        y: labels of x for a conditional model, one for each or one for all.
        seed: seed of the draws; the caller's generators are left unchanged.

    Returns:
        ``(B,)``, nats per example, on the model's device. It is an estimate, whose expectation is
        the bound.

    Raises:
        ValueError: if there are not so many levels, there is no draw, or x or y do not fit the
            model.
        TypeError: if an argument has another type.

    Source:
        Havtorn et al. (2021), Hierarchical VAEs Know What They Don't Know, arXiv:2102.08248.
    """
    return _bounds(model, x, k, num_samples, weighted, below, y, seed)[1]


def ood_score(
    model: HierarchicalVAE,
    x: Examples,
    k: int,
    *,
    num_samples: int = 1,
    weighted: bool = False,
    below: Choose = from_prior,
    y: Labels | None = None,
    seed: int = 0,
) -> Tensor:
    r"""Score how much of the bound comes from the lowest k levels; large for unusual examples.

    .. math:: \mathrm{LLR}^{>k} = \mathcal L - \mathcal L^{>k}

    A model often gives high likelihoods to data it was not trained for, by levels next to the data
    that describe any image. The score is what is lost where only the levels above k are inferred.
    It is a difference of two bounds, and not itself a bound. Both use the same draws of the levels
    above k, so ``k=0`` gives exactly 0.

    Args:
        model: the model; used in evaluation mode.
        x: data as for `hvae_course.analysis.layers.infer`.
        k: number of levels, from the bottom, that come from their priors in the second bound.
        num_samples: S, draws per example.
        weighted: whether both bounds are importance-weighted, see `bound_above`.
        below: how to pick the levels up to k in the second bound; see `bound_above`.
        y: labels of x for a conditional model, one for each or one for all.
        seed: seed of the draws; the caller's generators are left unchanged.

    Returns:
        ``(B,)``, nats per example, on the model's device.

    Raises:
        ValueError: if there are not so many levels, there is no draw, or x or y do not fit the
            model.
        TypeError: if an argument has another type.

    Source:
        Havtorn et al. (2021), Hierarchical VAEs Know What They Don't Know, arXiv:2102.08248.
    """
    full, part = _bounds(model, x, k, num_samples, weighted, below, y, seed)
    return full - part
