"""Bounds on log p(x) over a data set, with the settings that a reported result must state."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from hvae_course.analysis.partial import Partial, fingerprint
from hvae_course.compatibility import check_data
from hvae_course.data import DataSet
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.seeding import isolated_random, seed_all


@dataclass(frozen=True)
class Estimate:
    """Mean over a data set and its standard error."""

    mean: float
    """Nats per example."""
    standard_error: float
    """Standard deviation over examples divided by the root of their number."""

    def __str__(self) -> str:
        return f"{self.mean:.2f} +- {self.standard_error:.2f}"


@dataclass(frozen=True)
class Evaluation:
    """Bounds and information of one model on one split, in nats per example."""

    elbo: Estimate
    """Evidence lower bound, averaged over K draws per example."""
    log_likelihood: Estimate
    """Importance-weighted lower bound on log p(x) with K draws (IW-K)."""
    reconstruction: Estimate
    """E_q log p(x | z)."""
    information: tuple[Estimate, ...]
    """``E_q log q(z_l | .) - log p(z_l | z_>l)`` per level, bottom to top, from joint draws."""
    num_samples: int
    """K, draws per example."""
    num_examples: int
    data: str
    """Data set, binarisation and split sizes."""
    split: str
    seed: int
    num_parameters: int
    device: str

    @property
    def frame(self) -> pd.DataFrame:
        """The estimates as a table, one row per quantity, with standard errors."""
        rows = {
            "ELBO": self.elbo,
            f"log p(x), IW-{self.num_samples}": self.log_likelihood,
            "reconstruction": self.reconstruction,
        }
        rows |= {f"information of z_{l}": e for l, e in enumerate(self.information, start=1)}
        table = {name: [e.mean, e.standard_error] for name, e in rows.items()}
        columns = ["nats per example", "standard error"]
        return pd.DataFrame.from_dict(table, orient="index", columns=columns)

    def __str__(self) -> str:
        return (
            f"ELBO {self.elbo}, IW-{self.num_samples} {self.log_likelihood} nats per example\n"
            f"{self.data}; {self.split} split, {self.num_examples} examples\n"
            f"seed {self.seed}; {self.num_parameters:,} parameters; {self.device}"
        )


@contextlib.contextmanager
def evaluating(model: HierarchicalVAE) -> Iterator[None]:
    """Evaluation mode without gradients, restoring the previous mode on exit.

    Args:
        model: the model.

    Yields:
        None: nothing.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _estimate(values: Tensor) -> Estimate:
    spread = values.std().item() if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), spread / math.sqrt(len(values)))


def _accumulate(model: HierarchicalVAE, x: Tensor, num_samples: int, max_rows: int) -> Tensor:
    """Sum over draws: log sum w, log w, log p(x|z) and the information of L levels, (3 + L, B)."""
    features = model.bottom_up(x)  # shared by all draws
    chunk = max(1, max_rows // (len(x) * model.prior.num_samples))
    # Apple's GPUs have no float64
    precision = torch.float32 if x.device.type == "mps" else torch.float64
    log_sum_w = torch.full((len(x),), -math.inf, device=x.device, dtype=precision)
    sums = 0.0
    for start in range(0, num_samples, chunk):
        k = min(chunk, num_samples - start)
        trace = model(x, k, features=features)
        terms = torch.stack(trace.terms(x)).to(precision).unflatten(1, (-1, k))  # (2 + L, B, k)
        log_sum_w = torch.logaddexp(log_sum_w, terms[0].logsumexp(dim=1))
        sums = sums + terms.sum(dim=2)
    return torch.cat([log_sum_w[None], sums])


def evaluate(
    model: HierarchicalVAE,
    data: DataSet,
    *,
    split: str = "test",
    num_samples: int = 100,
    batch_size: int = 100,
    max_rows: int = 20_000,
    seed: int = 0,
    partial: str | Path | None = None,
) -> Evaluation:
    """Estimate ELBO and importance-weighted log-likelihood over a split.

    Draws are processed in chunks with a running logsumexp, so memory does not grow with K, and
    the bottom-up path sees every example once.

    Args:
        model: the model; evaluated in evaluation mode on the device it is on.
        data: the data set.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        num_samples: K, draws per example.
        batch_size: examples at a time.
        max_rows: largest number of draws in memory at a time, including those that the prior's
            density takes. At least one draw per example of a batch is held, so if memory is short,
            lower the batch size too.
        seed: seed of the draws; the caller's generators are left unchanged.
        partial: file that keeps the finished batches, so that an interrupted evaluation resumes
            where it stopped, with the same result; removed at the end.

    Returns:
        The bounds, each a mean over the split with its standard error over examples.

    Raises:
        ValueError: if the number of samples, the batch size or the memory limit is not positive,
            the model was built for other data, or the file belongs to another evaluation.
    """
    if min(num_samples, batch_size, max_rows) < 1:
        raise ValueError(
            "num_samples, batch_size and max_rows must be positive, got "
            f"{num_samples}, {batch_size} and {max_rows}"
        )
    device = model.device
    part, run = data.split(split).to(device), {}
    if partial is not None:
        run = {
            "data": str(data),
            "split": split,
            "num_samples": num_samples,
            "batch_size": batch_size,
            "max_rows": max_rows,
            "seed": seed,
            "weights": fingerprint(model),
            "prior draws": model.prior.num_samples,
        }
    with evaluating(model), isolated_random(device):
        check_data(model, data, part)
        seed_all(seed)
        done = Partial(partial, run, device)
        for start in range(len(done.columns) * batch_size, len(part), batch_size):
            x = part.batch(slice(start, start + batch_size))
            done.add(_accumulate(model, x, num_samples, max_rows))
    per_example = done.done().cpu().double()  # (3 + L, N)
    per_example[0] -= math.log(num_samples)
    per_example[1:] /= num_samples
    log_likelihood, elbo, reconstruction, *information = map(_estimate, per_example)
    return Evaluation(
        elbo=elbo,
        log_likelihood=log_likelihood,
        reconstruction=reconstruction,
        information=tuple(information),
        num_samples=num_samples,
        num_examples=len(part),
        data=str(data),
        split=split,
        seed=seed,
        num_parameters=sum(p.numel() for p in model.parameters()),
        device=str(device),
    )


def bits_per_dim(nats: float, num_dimensions: int) -> float:
    """Convert a log-likelihood to bits per dimension.

    Args:
        nats: log-likelihood or bound, nats per example.
        num_dimensions: D, number of data dimensions.

    Returns:
        ``-nats / (D log 2)``; lower is better.

    Raises:
        ValueError: if the number of dimensions is not positive.

    Example:
        >>> bits_per_dim(-64 * math.log(2), 64)
        1.0
    """
    if num_dimensions < 1:
        raise ValueError(f"num_dimensions must be positive, got {num_dimensions}")
    return -nats / (num_dimensions * math.log(2))
