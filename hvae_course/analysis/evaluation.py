"""Bounds on log p(x) over a data set, with the settings that a reported result must state.

A bound on the log-probability of discrete values is never positive, and models of the same data
can be compared by it. A bound on a log-density can be any number, which depends on the units of
the data. The two must not be compared, so every result states its `Evaluation.measure`.
"""

import math
from dataclasses import InitVar, dataclass
from numbers import Real
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hvae_course.analysis.inputs import check_positive
from hvae_course.analysis.memory import rows_in_memory
from hvae_course.analysis.partial import Partial, fingerprint
from hvae_course.compatibility import check_data, check_kinds, discrete_values
from hvae_course.data import DataSet, Split
from hvae_course.hierarchy import HierarchicalVAE, evaluating
from hvae_course.seeding import isolated_random, seed_all

MAX_ROWS = 20_000
"""Largest number of draws that an evaluation holds at a time, if memory allows."""


@dataclass(frozen=True)
class Estimate:
    """Mean over a data set and its standard error."""

    mean: float
    """Nats per example."""
    standard_error: float
    """Standard deviation over examples divided by the root of their number; NaN for one."""

    def __str__(self) -> str:
        alone = math.isnan(self.standard_error) and not math.isnan(self.mean)
        spread = "(one example)" if alone else f"+- {self.standard_error:.2f}"
        return f"{self.mean:.2f} {spread}"


@dataclass(frozen=True)
class Evaluation:
    """Bounds and information of one model on one split, in nats per example.

    Evaluations of different `measure` cannot be compared.
    """

    elbo: Estimate
    """Evidence lower bound, averaged over K draws per example."""
    log_likelihood: Estimate
    """Importance-weighted lower bound on log p(x) with K draws (IW-K), of the log-density if the
    measure is a density."""
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
    measure: Literal["probability", "density"]
    """Whether p(x) is a probability of discrete values or a density."""
    discrete: bool
    """Whether the values are discrete; a density of them is not a fit of the data."""
    num_dimensions: float
    """D, data dimensions per example; those observed, on average, where values are missing."""
    max_rows: int
    """Largest number of draws in memory at a time, on which the random draws depend."""
    per_example: InitVar[pd.DataFrame | None] = None
    """With ``per_example=True`` the table of all examples of the split, in their order, otherwise
    None: columns ``row`` if the examples were cut off from an array, where it is their row in it,
    ``label`` if the data have labels, ``elbo``, ``log_likelihood`` (``log_density``
    for a density), ``reconstruction``, and ``information_1`` to ``information_L``, in nats. It
    is no field, so ``asdict`` leaves it out."""

    def __post_init__(self, per_example: pd.DataFrame | None) -> None:
        object.__setattr__(self, "per_example", per_example)

    @property
    def unit(self) -> str:
        """Name what the bounds are of, a log-probability or a log-density, and of what values."""
        values = " of discrete values" if self.discrete and self.measure == "density" else ""
        return f"log-{self.measure}{values}"

    @property
    def frame(self) -> pd.DataFrame:
        """The estimates as a table, one row per quantity, with standard errors."""
        quantity = "log p(x)" if self.measure == "probability" else self.unit
        rows = {
            "ELBO": self.elbo,
            f"{quantity}, IW-{self.num_samples}": self.log_likelihood,
            "reconstruction": self.reconstruction,
        }
        rows |= {f"information of z_{l}": e for l, e in enumerate(self.information, start=1)}
        table = {name: [e.mean, e.standard_error] for name, e in rows.items()}
        columns = ["nats per example", "standard error"]
        return pd.DataFrame.from_dict(table, orient="index", columns=columns)

    def __str__(self) -> str:
        unit = "" if self.measure == "probability" else f"{self.unit}: "
        bounds = f"ELBO {self.elbo}, IW-{self.num_samples} {self.log_likelihood}"
        return (
            f"{unit}{bounds} nats per example\n"
            f"{self.data}; {self.split} split, {self.num_examples} examples\n"
            f"seed {self.seed}; {self.num_parameters:,} parameters; {self.device}"
        )


def _estimate(values: Tensor) -> Estimate:
    spread = values.std().item() if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), spread / math.sqrt(len(values)))


def _accumulate(
    model: HierarchicalVAE, x: Tensor, y: Tensor | None, num_samples: int, max_rows: int
) -> Tensor:
    """Sum over draws: log sum w, log w, log p(x|z) and the information of L levels, (3 + L, B)."""
    features = model.features(x, y)  # shared by all draws
    chunk = max(1, max_rows // (len(x) * model.prior.num_samples))
    # Apple's GPUs have no float64
    precision = torch.float32 if x.device.type == "mps" else torch.float64
    log_sum_w = torch.full((len(x),), -math.inf, device=x.device, dtype=precision)
    sums = 0.0
    for start in range(0, num_samples, chunk):
        k = min(chunk, num_samples - start)
        # no name for the trace, which would keep it while the next one is made
        terms = torch.stack(model(x, k, features=features, y=y).terms(x))
        terms = terms.to(precision).unflatten(1, (-1, k))  # (2 + L, B, k)
        log_sum_w = torch.logaddexp(log_sum_w, terms[0].logsumexp(dim=1))
        sums = sums + terms.sum(dim=2)
    return torch.cat([log_sum_w[None], sums])


def usual_rows(model: HierarchicalVAE, x: Tensor, y: Tensor | None = None) -> int:
    """Choose how many draws to hold at a time, by what a draw costs in this model.

    Args:
        model: the model, in evaluation mode; random numbers are drawn.
        x: one example, ``(1, D)``.
        y: its label, for a conditional model.

    Returns:
        `MAX_ROWS`, or fewer if they would take more than the budget of
        `hvae_course.analysis.memory`, 512 MB on a CPU and 2 GB on a GPU; counted with the draws
        that the prior's density takes. At least one example is held per draw, so the features of
        so many examples fit too.
    """

    def run(rows: int) -> Tensor:
        n = rows // 2  # of two draws each
        some, labels = x.expand(n, *x.shape[1:]), None if y is None else y.expand(n)
        features = model.features(some, labels)
        trace = model.forward(some, 2, features=features, y=labels)  # unseen by hooks
        return torch.stack(trace.terms(some))

    def read(rows: int) -> tuple[Tensor, ...]:  # where the way up takes more than the way down
        some, labels = x.expand(rows, *x.shape[1:]), None if y is None else y.expand(rows)
        return model.features(some, labels)

    prior = model.prior.num_samples
    rows = min(rows_in_memory(what, x.device, most=MAX_ROWS) for what in (run, read))
    return max(prior, min(MAX_ROWS, prior * rows))


def evaluate(
    model: HierarchicalVAE,
    data: DataSet,
    *,
    split: str = "test",
    num_samples: int = 100,
    batch_size: int = 100,
    max_rows: int | None = None,
    seed: int = 0,
    partial: str | Path | None = None,
    per_example: bool = False,
) -> Evaluation:
    """Estimate ELBO and importance-weighted log-likelihood over a split.

    Draws are processed in chunks with a running logsumexp, so memory does not grow with K, and
    the bottom-up path sees every example once.

    Args:
        model: the model; evaluated in evaluation mode on the device it is on. A conditional model
            is given the labels of the split.
        data: the data set.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        num_samples: K, draws per example.
        batch_size: examples at a time.
        max_rows: largest number of draws in memory at a time, including those that the prior's
            density takes. None measures what a draw of this model takes and holds as many as fit
            into 512 MB on a CPU and 2 GB on a GPU, but no more than 20,000, and fewer examples
            than ``batch_size`` if one draw of each is too much. With a number at least one draw
            per example of a batch is held, so if memory is short, lower the batch size too.
        seed: seed of the draws; the caller's generators are left unchanged.
        partial: file that keeps the finished batches, so that an interrupted evaluation resumes
            where it stopped, with the same result; removed at the end.
        per_example: whether to keep the numbers of every example, in `Evaluation.per_example`.

    Returns:
        The bounds, each a mean over the split with its standard error over examples.

    Raises:
        ValueError: if the number of samples, the batch size or the memory limit is not positive,
            the model was built for other data, or the file belongs to another evaluation.
        TypeError: if something is not what its name says, such as a tensor for the data.
        FloatingPointError: if the bound of an example is not finite; the message says of which.

    Warns:
        DensityOfDiscreteValues: if the likelihood is a density and the data hold discrete values.

    Example:
        Bounds per class, from the scores of all examples.

        >>> from hvae_course import data, recipes
        >>> digits = data.load("digits")
        >>> model = recipes.two_level_vae(digits, latent_sizes=(4, 2), hidden=(8,))
        >>> scores = evaluate(model, digits, num_samples=2, per_example=True).per_example
        >>> list(scores.columns)[:3]
        ['label', 'elbo', 'log_likelihood']
        >>> scores.groupby("label")["elbo"].mean().index.tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    check_kinds(model, data)
    limits = {} if max_rows is None else {"max_rows": max_rows}
    check_positive(num_samples=num_samples, batch_size=batch_size, **limits)
    device = model.device
    part, run = data.split(split).to(device), {}
    labels = None if model.num_classes is None else part.labels
    with evaluating(model), isolated_random(device):
        check_data(model, data, part)

        def batch(start: int, stop: int) -> tuple[Tensor, Tensor | None]:
            some = slice(start, stop)
            return part.batch(some).to(model.dtype), None if labels is None else labels[some]

        most = batch_size
        if max_rows is None:
            max_rows = usual_rows(model, *batch(0, 1))
            most = min(batch_size, max_rows // model.prior.num_samples)
        if partial is not None:
            run = {
                "data": str(data),
                "content of the data": data.fingerprint(),
                "split": split,
                "num_samples": num_samples,
                "batch_size": batch_size,
                "max_rows": max_rows,
                "seed": seed,
                "weights": fingerprint(model),
                "prior draws": model.prior.num_samples,
            }
        seed_all(seed)
        done = Partial(partial, run, device)
        for start in range(len(done.columns) * batch_size, len(part), batch_size):
            x, y = batch(start, start + batch_size)
            some = [slice(first, first + most) for first in range(0, len(x), most)]
            columns = [
                _accumulate(model, x[i], None if y is None else y[i], num_samples, max_rows)
                for i in some
            ]
            done.add(torch.cat(columns, dim=1))
    numbers = done.done().cpu().double()  # (3 + L, N)
    numbers[0] -= math.log(num_samples)
    numbers[1:] /= num_samples
    _check_finite(numbers)
    log_likelihood, elbo, reconstruction, *information = map(_estimate, numbers)
    likelihood = model.top_down.likelihood
    measure = getattr(likelihood, "measure", "density")
    observed = data.spec.num_features
    if data.missing:
        observed = part.pixels.isnan().logical_not().sum().item() / len(part)
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
        measure=measure,
        discrete=measure == "probability" or bool(discrete_values(data, likelihood)),
        num_dimensions=observed,
        max_rows=max_rows,
        per_example=_scores(numbers, part, measure) if per_example else None,
    )


def _check_finite(numbers: Tensor) -> None:
    """Refuse numbers (3 + L, N) whose mean would say nothing."""
    wrong = (~numbers.isfinite().all(dim=0)).nonzero()[:, 0].tolist()
    if wrong:
        first = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise FloatingPointError(
            f"the bounds of {len(wrong)} of {numbers.shape[1]} examples are not finite (rows "
            f"{first} of the split); look for extreme values there, or train the model again with "
            "a lower learning rate"
        )


def _scores(numbers: Tensor, part: Split, measure: str) -> pd.DataFrame:
    """Tabulate the numbers of every example of a split, (3 + L, N)."""
    likelihood = "log_likelihood" if measure == "probability" else "log_density"
    log_p, elbo, reconstruction, *information = numbers.numpy()
    known = {"row": part.factors.get("row"), "label": part.labels}
    columns = {name: some.cpu().numpy() for name, some in known.items() if some is not None}
    columns |= {"elbo": elbo, likelihood: log_p, "reconstruction": reconstruction}
    columns |= {f"information_{l}": values for l, values in enumerate(information, start=1)}
    return pd.DataFrame(columns).rename_axis("example")


Nats = float | Tensor | np.ndarray | pd.Series


def bits_per_dim(nats: Nats | Estimate | Evaluation, num_dimensions: Nats | None = None) -> Nats:
    r"""Convert a log-likelihood to bits per dimension.

    .. math:: -\frac{\log p(x)}{D \log 2}

    For a colour image D is :math:`3 H W`, every channel of every pixel. The probability of
    discrete values needs no further term. Never convert a density at such values: it has no upper
    limit. A log-density of values to which uniform noise of the width of a bin was added bounds
    the log-probability from below in other units: add the binary logarithm of the number of bins
    per unit to its bits per dimension, 8 bits where 256 bins fill [0, 1).

    Args:
        nats: log-likelihood or bound, nats per example: a number, an array, or an estimate, whose
            mean counts. Of an evaluation it is the importance-weighted bound.
        num_dimensions: D, number of data dimensions, or how many were observed, on average or of
            each example; None for that of an evaluation.

    Returns:
        ``-nats / (D log 2)``; lower is better. It compares probabilities of the same data. Those
        of a density depend on the units of the data and can be negative.

    Raises:
        ValueError: if the number of dimensions is not positive or missing, or the evaluation is of
            a density of discrete values.
        TypeError: if nats or the number of dimensions are no numbers.

    Example:
        >>> bits_per_dim(-64 * math.log(2), 64)
        1.0
    """
    if isinstance(nats, Evaluation):
        if nats.measure == "density" and nats.discrete:
            raise ValueError(
                "this evaluation is of a density, and the data hold discrete values: its value "
                "has no upper limit and is not comparable with bits per dimension of discrete "
                "data; choose a likelihood that gives probabilities, such as "
                "'discretized_logistic', or 'bernoulli' for binary data"
            )
        num_dimensions = nats.num_dimensions if num_dimensions is None else num_dimensions
        nats = nats.log_likelihood
    if num_dimensions is None:
        raise ValueError(
            "num_dimensions is missing; give D, the number of data dimensions, or an Evaluation, "
            "which knows it"
        )
    nats = nats.mean if isinstance(nats, Estimate) else nats
    numbers = Real | Tensor | np.ndarray | pd.Series
    if not isinstance(nats, numbers) or isinstance(nats, bool):
        raise TypeError(
            f"nats must be a number, an Estimate or an Evaluation, got {type(nats).__name__}"
        )
    if not isinstance(num_dimensions, numbers) or isinstance(num_dimensions, bool):
        raise TypeError(f"num_dimensions must be a number, got {num_dimensions!r}")
    if not np.all(np.asarray(num_dimensions) > 0):
        raise ValueError(f"num_dimensions must be positive, got {num_dimensions}")
    return -nats / (num_dimensions * math.log(2))
