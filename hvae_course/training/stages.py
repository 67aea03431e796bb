"""Training in stages: some parts learn while the others stay as they are, bit by bit."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from hvae_course.config import Training
from hvae_course.data import DataSet
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.training.history import History
from hvae_course.training.loop import fit


@contextlib.contextmanager
def training_only(model: nn.Module, *parts: nn.Module) -> Iterator[None]:
    """Train some parts of a model alone while the block runs.

    The parameters of all others have no gradients, and `hvae_course.training.loop.fit` keeps a
    part whose parameters are all frozen in evaluation mode, so that running statistics and moving
    codebooks stay too.

    Args:
        model: the model.
        *parts: the parts that learn.

    Yields:
        None: nothing.

    Raises:
        ValueError: if they have no parameters.
    """
    chosen = {id(p) for part in parts for p in part.parameters()}
    if not chosen:
        raise ValueError("the parts that are to be trained alone have no parameters")
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        for p, _ in flags:
            p.requires_grad_(id(p) in chosen)
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)


def fit_prior(
    model: HierarchicalVAE,
    data: DataSet,
    training: Training | None = None,
    **options: Any,  # noqa: ANN401
) -> History:
    """Second stage: train p(z_L) and the conditional priors, and nothing else.

    For levels of codes the posterior is fixed, so the rate falls from that of the uniform prior,
    N log K nats for N positions, to the cross-entropy of the codes, and the reconstruction does
    not change by a digit. This holds for any model in which neither posterior nor state reads the
    priors' parameters.

    Args:
        model: the model after its first stage, changed in place.
        data: the data set.
        training: how to train, as for `hvae_course.training.loop.fit`.
        **options: those of `hvae_course.training.loop.fit`, such as ``epochs=20``.

    Returns:
        The history of the second stage.

    Raises:
        ValueError: if the priors have no parameters.

    Source:
        van den Oord et al. (2017), VQ-VAE, arXiv:1711.00937, for a prior that is fitted last.
    """
    with training_only(model, model.prior, model.top_down.conditionals):
        return fit(model, data, training, **options)
