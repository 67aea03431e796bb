r"""Classification by a conditional model, the check that the label means something to it.

A model of :math:`p(x \mid y)` and the share of each class give the class of x by Bayes' rule.

.. math:: p(y \mid x) = \frac{p(x \mid y)\, p(y)}{\sum_{y'} p(x \mid y')\, p(y')}

A model that ignores the label predicts the most frequent class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hvae_course.analysis.evaluation import evaluate
from hvae_course.data import DataSet
from hvae_course.hierarchy import HierarchicalVAE


@dataclass(frozen=True, eq=False)
class Classification:
    """What a conditional model says about the classes of one split."""

    log_posterior: Tensor
    """log p(y | x), ``(N, C)``, float64, nats."""
    predicted: Tensor
    """Most probable class of each example, ``(N,)``, int64."""
    labels: Tensor | None
    """The true classes, ``(N,)``, int64; None if the data have no labels."""
    prior: Tensor
    """p(y), ``(C,)``, float64."""

    @property
    def accuracy(self) -> float | None:
        """Share of the examples that are predicted right; None without labels."""
        if self.labels is None:
            return None
        return (self.predicted == self.labels).double().mean().item()

    @property
    def standard_error(self) -> float | None:
        """Standard error of the accuracy; None without labels."""
        share = self.accuracy
        return None if share is None else math.sqrt(share * (1 - share) / len(self.labels))

    def __str__(self) -> str:
        if self.labels is None:
            return f"{len(self.predicted)} examples, accuracy unknown without labels"
        accuracy = f"{self.accuracy:.3f} +- {self.standard_error:.3f}"
        return f"accuracy {accuracy}, {len(self.predicted)} examples"


def classify(
    model: HierarchicalVAE,
    data: DataSet,
    *,
    split: str = "test",
    num_samples: int = 10,
    seed: int = 0,
    prior: Sequence[float] | Tensor | None = None,
) -> Classification:
    """Classify a split by Bayes' rule, from the importance-weighted bound on every log p(x | y).

    The split is evaluated once for each class, with the same random numbers. The bounds are below
    the log-likelihoods, so the posterior is approximate, and more draws make it better.

    Args:
        model: a conditional model.
        data: the data set. The labels of the split serve for the accuracy alone.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        num_samples: K, draws per example and class.
        seed: seed of the draws; the caller's generators are left unchanged.
        prior: p(y), C probabilities; by default the shares of the classes among the training
            labels, so that a class that does not occur there is never predicted.

    Returns:
        Posterior and most probable class of every example.

    Raises:
        ValueError: if the model is not conditional, there are neither a prior nor training labels,
            or the prior does not hold C probabilities.
        FloatingPointError: if a bound is not finite.

    Example:
        >>> from hvae_course import data, fit, recipes
        >>> digits = data.load("digits")
        >>> ladder = recipes.ladder_vae(digits, hidden=(32,), conditional=True)
        >>> history = fit(ladder, digits, epochs=3, learning_rate=1e-2, progress=False)
        >>> classify(ladder, digits, num_samples=1).accuracy > 0.5
        True
    """
    if model.num_classes is None:
        raise ValueError(
            "only a conditional model can classify, and this one is of x alone; build it with "
            "conditional=True"
        )
    part, bounds = data.split(split), []
    prior = _prior(model.num_classes, data, prior)
    labels = None if part.labels is None else _known(model.num_classes, part.labels, split)
    for label in range(model.num_classes):
        given = replace(part, labels=torch.full((len(part),), label, device=part.pixels.device))
        scored = evaluate(
            model,
            replace(data, **{split: given}),
            split=split,
            num_samples=num_samples,
            seed=seed,
            per_example=True,
        )
        name = "log_likelihood" if scored.measure == "probability" else "log_density"
        bounds.append(torch.tensor(scored.per_example[name].to_numpy()))
    log_px = torch.stack(bounds, dim=1)  # (N, C)
    log_posterior = (log_px + prior.log()).log_softmax(dim=1)
    return Classification(log_posterior, log_posterior.argmax(dim=1), labels, prior)


def _known(num_classes: int, labels: Tensor, split: str) -> Tensor:
    """Labels on the CPU, all of which the model knows."""
    labels = labels.cpu()
    if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"the model knows the labels 0 to {num_classes - 1}, got labels from {labels.min()} "
            f"to {labels.max()} in the {split} split; remove those examples, or leave out the "
            "labels of the split"
        )
    return labels


def _prior(num_classes: int, data: DataSet, given: Sequence[float] | Tensor | None) -> Tensor:
    """Class probabilities, those given or those of the training labels."""
    if given is None:
        if data.train.labels is None:
            raise ValueError(
                "the training split has no labels to count; pass prior=, the probability of each "
                f"of {num_classes} classes"
            )
        labels = _known(num_classes, data.train.labels, "training")
        counts = torch.bincount(labels, minlength=num_classes).double()
        given = counts / counts.sum()
    prior = torch.as_tensor(np.asarray(given), dtype=torch.float64)
    if prior.shape != (num_classes,) or not (prior >= 0).all() or abs(prior.sum() - 1) > 1e-6:
        raise ValueError(
            f"prior must hold {num_classes} probabilities that sum to 1, got {prior.tolist()}"
        )
    return prior
