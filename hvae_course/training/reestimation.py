"""Statistics of batch normalisation that fit the weights of a model.

Running statistics are averages over the weights of the last steps. A moving average of the weights
has an average of them, whose means fit where a layer is linear in its weights, and whose variances
are too large, because weights of different steps partly cancel. Passes over data with the weights
held fixed give statistics that fit.
"""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hvae_course.data import Split
from hvae_course.hierarchy import HierarchicalVAE, evaluating
from hvae_course.seeding import isolated_random, seed_all


def reestimate_batch_statistics(
    model: HierarchicalVAE,
    split: Split,
    *,
    num_batches: int | None = None,
    batch_size: int = 100,
    seed: int = 0,
) -> None:
    """Replace the running statistics of batch normalisation by averages over batches of data.

    Every batch counts the same. Latents are drawn from the posterior. Dropout stays off, as in
    evaluation, and the weights stay as they are. Layers that data do not reach keep their
    statistics. New statistics make another model: evaluate it again. NVAE's code passes draws of
    the prior instead, which fits the generative layers to samples and not to data.

    Args:
        model: the model, changed in place.
        split: the data, in a random order; the training split for a model that is evaluated on
            another.
        num_batches: number of batches; None for one pass over the data. More than one pass begin
            again, in another order.
        batch_size: examples per batch, at least two; those of a smaller last batch are left out.
        seed: seed of the order and of the draws.

    Raises:
        ValueError: if the model has no batch normalisation with running statistics, or there is
            not a single batch.

    Source:
        Vahdat and Kautz (2020), NVAE, arXiv:2007.03898, for re-estimation.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    size = min(batch_size, len(split))
    if not norms:
        raise ValueError(
            "the model has no batch normalisation whose statistics could be re-estimated; build "
            "it with normalisation='batch', or leave the re-estimation out"
        )
    if size < 2 or (num_batches is not None and num_batches < 1):
        raise ValueError(
            "statistics need one batch of two examples or more, got "
            f"batch_size={batch_size} and num_batches={num_batches} for {len(split)} examples"
        )
    momenta = [norm.momentum for norm in norms]
    states = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    split = split.to(model.device)
    per_pass = len(split) // size
    try:
        with evaluating(model), isolated_random(model.device):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain average over all batches
                norm.train()
            for batch in range(per_pass if num_batches is None else num_batches):
                number, start = divmod(batch, per_pass)
                if start == 0:
                    seed_all(seed, number)
                    order = torch.randperm(len(split), device=model.device)
                index = order[start * size : (start + 1) * size]
                x = split.batch(index).to(model.dtype)
                y = None if model.num_classes is None else split.labels[index]
                model(x, y=y).terms(x)  # the networks of a prior are met in its density
    except BaseException:
        for norm, state in zip(norms, states, strict=True):
            _restore(norm, state)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for norm, state in zip(norms, states, strict=True):
        if norm.num_batches_tracked == 0:  # no data came here
            _restore(norm, state)


def _restore(norm: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for name, value in norm.named_buffers():
        value.copy_(state[name])
