"""Check that a model fits the data, once before any work starts."""

import warnings
from dataclasses import replace

import torch
from torch import Tensor, nn

from hvae_course.data import DataSet, DataSpec, Split, as_data_set
from hvae_course.data.splits import SPLITS
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.likelihoods import Likelihood
from hvae_course.recipes import read_config
from hvae_course.recipes.likelihoods import usual_likelihood


class DensityOfDiscreteValues(UserWarning):
    """A density is computed of discrete values, where it is neither bounded nor comparable."""


def check_data(model: HierarchicalVAE, data: DataSet, *splits: Split) -> None:
    """Check that a model was built for the data, and that the data are what it can score.

    `hvae_course.training.loop.fit` and `hvae_course.analysis.evaluation.evaluate` call it; a
    training loop of your own should call it once before its first step. It reads every example,
    which waits for the device, and draws random numbers if the binarisation is dynamic.

    Args:
        model: the model; without a recipe's configuration only its likelihood is checked.
        data: the data set.
        *splits: its splits that will be used, on the model's device; all splits if none is given.

    Raises:
        TypeError: if model and data are something else, such as a data loader.
        ValueError: if the model was built for other data, its weights are in half precision or of
            different types, a split is empty, values lie outside the support of its likelihood,
            or labels are missing, not those of the model, or none of those of the training split.

    Warns:
        DensityOfDiscreteValues: if the likelihood is a density and the data hold discrete values.
    """
    check_kinds(model, data)
    if len(types := {str(p.dtype) for p in model.parameters()}) > 1:
        raise ValueError(
            f"the weights are of different types, {', '.join(sorted(types))}; choose one with "
            "model.float() or model.double()"
        )
    if model.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the weights are {model.dtype}, in which densities are too inexact; keep them in "
            "float32 with model.float(), and choose mixed precision for training: "
            "accelerator=Accelerator(mixed_precision='bf16')"
        )
    if model.config:
        _check_spec(read_config(model.config)[1], data.spec, data)
    for split in splits or [data.split(name) for name in SPLITS]:
        if len(split) == 0:
            raise ValueError(f"a split of {data} is empty; give it at least one example")
        if model.num_classes is not None:
            _check_labels(split, model.num_classes, data.train.labels)
        for start in range(0, len(split), 1000):
            x = split.batch(slice(start, start + 1000)).to(model.dtype)
            if isinstance(model.top_down.likelihood, Likelihood):  # not one built by hand
                model.top_down.likelihood.check(x)
    _name_density(model, data)


def check_kinds(model: HierarchicalVAE, data: DataSet) -> None:
    """Check that a model and a data set were given, in this order.

    Args:
        model: the model.
        data: the data set.

    Raises:
        TypeError: if they are something else.
    """
    if not isinstance(model, HierarchicalVAE):
        raise TypeError(
            f"expected a HierarchicalVAE as the model, got {type(model).__name__}; a function of "
            "hvae_course.recipes builds one, which fit compiles if it is called with compiled=True"
        )
    as_data_set(data)


def discrete_values(data: DataSet, likelihood: nn.Module) -> str:
    """Describe the discrete values that a density scores, also if they are kept as real numbers.

    Args:
        data: the data set, of which some training examples are looked at.
        likelihood: the likelihood.

    Returns:
        For instance ``"17 values"``; empty for real values, and for a probability.
    """
    if getattr(likelihood, "measure", "probability") == "probability":
        return ""
    if data.counts:
        return "counts"
    if data.num_values is not None:
        return f"{data.num_values} values"
    pixels, columns = data.train.pixels, getattr(likelihood, "density_columns", None)
    pixels = pixels if columns is None else pixels[:, columns]
    rows = pixels[: 1 + _LOOKED_AT // pixels.shape[1]].unique(dim=0)
    seen = rows[~rows.isnan()]
    different = seen.unique().numel()
    few = seen.numel() >= _LOOKED_AT // 2 and different <= 256
    return f"only {different} different values" if few else ""


_LOOKED_AT = 10_000


def _name_density(model: HierarchicalVAE, data: DataSet) -> None:
    likelihood = model.top_down.likelihood
    if not (values := discrete_values(data, likelihood)):
        return
    choice = "keep them as bytes or counts (hvae_course.data.from_arrays) and choose a likelihood "
    choice += "that gives probabilities"
    if data.num_values is not None or data.counts:
        choice = f"choose the likelihood {usual_likelihood(data.spec)!r}"
    warnings.warn(
        f"{type(likelihood).__name__} gives a density, and the data {data.name!r} hold {values}: "
        "the density of discrete values has no upper limit if its scale is learned, and cannot be "
        f"compared with a probability; {choice}",
        DensityOfDiscreteValues,
        stacklevel=4,
    )


def _check_spec(expected: DataSpec, given: DataSpec, data: DataSet) -> None:
    """Compare what a model was built for with the data, in all that the model depends on."""
    if len(expected.shape) == 1:  # a model of vectors takes any shape of that size
        given = replace(given, shape=given.num_features)
    pairs = {name: (getattr(expected, name), getattr(given, name)) for name in _ALWAYS}
    if given.missing and not expected.missing:
        pairs["missing"] = (False, True)
    if expected.feature_names and given.feature_names:
        pairs["feature_names"] = (expected.feature_names, given.feature_names)
    if wrong := [f"{name}={a} and they have {b}" for name, (a, b) in pairs.items() if a != b]:
        raise ValueError(
            f"the model does not take {data}: it was built for data with {', '.join(wrong)}; load "
            "the data that it was built for, or build a model for these data"
        )


_ALWAYS = ("shape", "num_values", "counts", "standardisation")


def _check_labels(split: Split, num_classes: int, trained: Tensor | None) -> None:
    """Require labels that a conditional model knows, and some that it has been trained with."""
    if split.labels is None:
        raise ValueError(
            "a conditional model needs labels, and the data have none; give labels, or build the "
            "model without conditional"
        )
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"the model knows the labels 0 to {num_classes - 1}, got labels from {low} to {high}"
        )
    if trained is not None and not set(split.labels.tolist()) & set(trained.tolist()):
        raise ValueError(
            f"no training example has one of the labels {low} to {high} of the split, so a "
            "conditional model has learned nothing about them (the test split of omniglot holds "
            "new characters); choose a split with the classes of the training, or build the model "
            "without conditional"
        )
