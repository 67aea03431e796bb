r"""A linear classifier of the latents, the check that what they hold can be read.

.. math:: p(y \mid x) = \operatorname{softmax}\bigl(W \mu(x) + b\bigr)

:math:`\mu(x)` are the posterior means of all levels side by side, or draws. Means are functions of
x without noise, so a probe may read in them what no draw of z holds; they are not standardised,
which would make that worse. What a draw tells about the label is at most its rate
(`least_information`).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from hvae_course.analysis.classification import Classification
from hvae_course.analysis.layers import infer, reconstruct
from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.seeding import isolated_random, seed_all


def linear_probe(
    model: HierarchicalVAE,
    data: DataSet,
    *,
    levels: Sequence[int] | None = None,
    draws: bool = False,
    split: str = "test",
    penalty: float = 1.0,
    batch_size: int = 1000,
    seed: int = 0,
) -> Classification:
    """Predict the label from the latents with a multinomial logistic regression.

    The training split fits the classifier, another split judges it.

    Args:
        model: a model of x alone.
        data: the data set, with labels.
        levels: levels that the classifier reads, 1 next to the data; None for all.
        draws: whether it reads one posterior draw per example in place of the means, each mean
            given those of the levels that are drawn before it.
        split: the split that is classified.
        penalty: weight of half the squared length of W, in nats; the intercept is free.
        batch_size: examples at a time.
        seed: seed of the draws; the caller's generators are left unchanged.

    Returns:
        Posterior of the classifier and most probable class of every example; ``accuracy`` and
        ``standard_error`` sum it up. The prior is the share of each class among the training
        labels.

    Raises:
        ValueError: if the data have no labels, the model is given them, or there is no such level.
        TypeError: if a posterior has no mean in closed form.

    Source:
        Alain and Bengio (2017), Understanding intermediate layers using linear classifier probes,
        arXiv:1610.01644.

    Example:
        >>> from hvae_course import data, fit, recipes
        >>> digits = data.load("digits")
        >>> model = recipes.two_level_vae(digits, latent_sizes=(8, 2), hidden=(32,))
        >>> history = fit(model, digits, epochs=5, learning_rate=1e-2, progress=False)
        >>> linear_probe(model, digits).accuracy > 0.5
        True
    """
    if model.num_classes is not None:
        raise ValueError(
            "a conditional model is given the label, so a probe would read what it was told; "
            "probe a model of x alone"
        )
    chosen = [*range(1, model.num_levels + 1)] if levels is None else [*levels]
    if not chosen or not all(level in range(1, model.num_levels + 1) for level in chosen):
        raise ValueError(
            f"levels are numbers from 1 (next to the data) to {model.num_levels}, got {levels!r}"
        )
    train, judged = data.train, data.split(split)
    if train.labels is None or judged.labels is None:
        raise ValueError("a probe predicts labels, and these data have none; load labelled data")
    known, labels = train.labels.cpu(), judged.labels.cpu()
    classifier = LogisticRegression(C=1 / penalty, max_iter=10_000)
    with isolated_random(model.device):
        seed_all(seed)
        read = [_latents(model, part, chosen, draws, batch_size) for part in (train, judged)]
    classifier.fit(read[0], known)
    found = classifier.predict_log_proba(read[1])
    num_classes = max(data.num_classes or 0, int(known.max()) + 1)
    log_posterior = torch.full((len(labels), num_classes), -torch.inf, dtype=torch.float64)
    log_posterior[:, classifier.classes_] = torch.from_numpy(found).double()
    counts = torch.bincount(known, minlength=num_classes).double()
    return Classification(log_posterior, log_posterior.argmax(1), labels, counts / counts.sum())


def _latents(
    model: HierarchicalVAE, part: Split, levels: Sequence[int], draws: bool, batch_size: int
) -> np.ndarray:
    """Posterior means or draws of some levels, ``(N, sum of Z_l)``, float64."""
    rows: list[Tensor] = []
    for start in range(0, len(part), batch_size):
        x = part.batch(slice(start, start + batch_size))
        trace = infer(model, x) if draws else reconstruct(model, x, deterministic=True)
        rows.append(torch.cat([trace.levels[l - 1].z.flatten(1) for l in levels], dim=1))
    return torch.cat(rows).double().cpu().numpy()


def least_information(accuracy: float, num_classes: int) -> float:
    r"""Bound from below what a code tells about the label, by how well it predicts it.

    .. math:: I(z; y) \ge \log C - H(e) - e \log(C - 1)

    This is Fano's inequality for C classes of equal frequency, where e is the error rate and
    :math:`H(e)` the entropy of a coin with that probability.

    Args:
        accuracy: share of the examples that some classifier of z predicts right, 1 - e.
        num_classes: C.

    Returns:
        Nats per example; 0 where the accuracy is no better than that of guessing.

    Raises:
        ValueError: if the accuracy is not between 0 and 1, or there are fewer than two classes.

    Source:
        Cover and Thomas (2006), Elements of information theory, section 2.10.

    Example:
        >>> print(f"{least_information(1.0, 10):.3f} {least_information(0.1, 10):.3f}")
        2.303 0.000
    """
    if not 0 <= accuracy <= 1 or num_classes < 2:
        raise ValueError(
            "an accuracy is between 0 and 1, and there are at least two classes, got "
            f"accuracy={accuracy} and num_classes={num_classes}"
        )
    error = 1 - accuracy
    if accuracy <= 1 / num_classes:
        return 0.0
    entropy = -sum(share * math.log(share) for share in (error, accuracy) if share > 0)
    return math.log(num_classes) - entropy - error * math.log(num_classes - 1)
