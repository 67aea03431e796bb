"""Baseline and remedies of chapter 2 on dynamically binarised MNIST, for its table on digits.

Run it with ``python -m benchmarks.remedies``. The baseline and its nine changes are those of the
notebook, trained for 20 epochs of 500 steps; the notebook and its page read
``benchmarks/remedies_mnist.csv``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import analysis, data, evaluate, fit
from hvae_course.config import Model, Training
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import FreeBits, WarmUp, Weighted, elbo
from hvae_course.recipes import build

EPOCHS, PATIENCE = 20, 10
FLOOR = 4.0
"""Free nats of z_2, in the runs with free bits."""
NUM_SAMPLES = 10
SHARED = {"hidden": (256, 256), "normalisation": "layer"}
SEEDS = (0,)
TABLE = Path(__file__).with_name("remedies_mnist.csv")


def remedies(epochs: int = EPOCHS, floor: float = FLOOR) -> dict[str, dict[str, Any]]:
    """List the baseline and what each remedy changes, by the notebook's name.

    Args:
        epochs: the budget; a warm-up takes a quarter, half or three quarters of it.
        floor: free nats of z_2.

    Returns:
        The objective, and fields of `hvae_course.config.model.Model`.
    """
    short, half, long = epochs // 4, epochs // 2, 3 * epochs // 4
    free = FreeBits((0.0, floor))
    return {
        "baseline": {},
        "one hidden layer": {"hidden": (256,)},
        "warm-up, both": {"objective": WarmUp(half)},
        "warm-up, z_2 first": {"objective": WarmUp((long, short))},
        "warm-up, z_2 last": {"objective": WarmUp((short, long))},
        "free bits, z_2": {"objective": free},
        "half KL weight, z_2": {"objective": Weighted((1.0, 0.5))},
        "half KL weight, both": {"objective": Weighted(0.5)},
        "batch normalisation": {"normalisation": "batch"},
        "top-down, free bits": {"objective": free, "recipe": "delta_vae"},
    }


def explained(model: HierarchicalVAE, dataset: data.DataSet, x: Tensor) -> float:
    """Measure how much of the images z_2 alone explains.

    Returns the share of the squared error of the mean training image that a reconstruction from
    z_2 removes; x are test images, ``(N, D)``.
    """
    average = dataset.train.batch(slice(None)).mean(dim=0)
    torch.manual_seed(0)
    images = analysis.reconstruct(model, x, from_level=2).px.mean
    return (1 - (images - x).square().mean() / (average - x).square().mean()).item()


def run(job: Row) -> Row:
    """Train and evaluate one model: its row of the table, in nats per image."""
    dataset, seed = data.load("mnist"), job["seed"]
    options = SHARED | remedies()[job["remedy"]]
    objective = options.pop("objective", elbo)
    torch.manual_seed(seed)  # of the first weights, and of the pixels of the mean image
    model = build(Model(**options), dataset)
    training = Training(epochs=EPOCHS, patience=PATIENCE, seed=seed)
    history = fit(model, dataset, training, objective=objective, progress=False)
    dataset = dataset.to(model.device)
    test = evaluate(model, dataset, num_samples=NUM_SAMPLES, max_rows=2_000)
    row = {
        "parameters": test.num_parameters,
        "best_epoch": history.best_epoch,
        "elbo": test.elbo.mean,
        "iw": test.log_likelihood.mean,
        "information_1": test.information[0].mean,
        "information_2": test.information[1].mean,
        "explained_2": explained(model, dataset, dataset.test.batch(slice(None))),
    }
    for level in analysis.diagnose(model, dataset).to_dict("records"):
        for name in ("index_code", "informative_units"):
            row[f"{name}_{level['level']}"] = level[name]
    row |= {"data": test.data, "num_samples": NUM_SAMPLES, "device": model.device.type}
    return rounded(row, 4)


def main(words: Sequence[str] | None = None) -> None:
    """Run the jobs that the table does not hold yet, and print the table."""
    given = table_parser(__doc__).parse_args(words)
    jobs = [{"remedy": name, "seed": s} for s in given.seeds or SEEDS for name in remedies()]
    table = run_all(run, jobs, given.table or TABLE, processes=given.processes)
    shown = ["best_epoch", "elbo", "iw", "information_1", "information_2", "explained_2"]
    summary = table.groupby("remedy", sort=False)[shown].agg(["mean", "min", "max"])
    print(summary.round(2).to_string())


if __name__ == "__main__":
    main()
