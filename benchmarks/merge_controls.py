"""Why the merge collapses without KL warm-up: controls beside the table of chapter 5.

Run it with ``python -m benchmarks.merge_controls``. Model and recipe are those of the merge in
`benchmarks.posterior_rules` (Markov state, no warm-up, digits). Each control changes one thing;
``benchmarks/merge_controls.csv`` holds one row per control and seed.
"""

import argparse
import math
import os
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from benchmarks.posterior_rules import (
    BUDGETS,
    TRAINING,
    WARM_UPS,
    build_matched,
    judge,
)
from benchmarks.runs import Row, run_all
from hvae_course import data, fit
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import WarmUp, elbo
from hvae_course.posteriors import PosteriorRule, precision_weighted_merge

CONTROLS = ("least share", "second run", "second run, warm-up")
"""What is changed: the share has a floor from the first step; the collapsed model of the table is
trained once more, as before; and once more with warm-up."""
LEAST_SHARE = 0.1
SEEDS = (0,)
TABLE = Path(__file__).with_name("merge_controls.csv")


class FlooredMerge(PosteriorRule):
    """The merge of chapter 4, whose messages keep a least share of the precision.

    Args:
        head: module d_l -> the message, a diagonal Gaussian over z_l.
        least_share: smallest share of the message in the posterior's precision, in (0, 1).
    """

    reads_prior = True

    def __init__(self, head: torch.nn.Module, least_share: float) -> None:
        super().__init__()
        self.head, self.least_share = head, least_share

    def forward(self, d: Tensor, h: Tensor, p: Distribution) -> Independent:
        """Give ``q(z_l | x, z_>l)``.

        Args:
            d: bottom-up feature d_l, ``(B, F_l)``.
            h: state from above; it acts through p alone.
            p: prior ``p(z_l | z_>l)``, a diagonal Gaussian.

        Returns:
            A diagonal Gaussian over z_l, batch shape ``(B,)``.
        """
        message = self.head(d)
        largest = p.base_dist.scale * math.sqrt((1 - self.least_share) / self.least_share)
        scale = torch.minimum(message.base_dist.scale, largest)
        return precision_weighted_merge(diag_normal(message.mean, scale.log()), p)


def train(job: Row) -> tuple[HierarchicalVAE, int]:
    """Train the merge under one control.

    Args:
        job: control and seed.

    Returns:
        The model and its best epoch, that of the second run where there are two.
    """
    digits = data.load("digits")
    torch.manual_seed(job["seed"])
    model = build_matched("merge", "markov", digits)
    if job["control"] == "least share":
        rules = model.posterior.rules
        for l in range(len(rules) - 1):  # the top level is not merged
            rules[l] = FlooredMerge(rules[l].head, LEAST_SHARE)
    settings = BUDGETS["digits"] | TRAINING | {"seed": job["seed"], "progress": False}
    history = fit(model, digits, objective=elbo, **settings)
    if job["control"] != "least share":
        warm = job["control"] == "second run, warm-up"
        objective = WarmUp(WARM_UPS["digits"]) if warm else elbo
        history = fit(model, digits, objective=objective, **settings)
    return model, history.best_epoch


def run(job: Row) -> Row:
    """Train and judge one model.

    Args:
        job: control and seed.

    Returns:
        One row of the table, as in `benchmarks.posterior_rules`.
    """
    model, best_epoch = train(job)
    return judge(model, best_epoch, "digits")


def main() -> None:
    """Train what the table does not hold yet, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=None)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    jobs = [{"control": c, "seed": seed} for seed in SEEDS for c in CONTROLS]
    table = run_all(run, jobs, TABLE, processes=arguments.processes)
    shown = ["elbo", "iw", "information_1", "information_2", "information_3"]
    print(table.set_index(["control", "seed"])[shown].round(2).to_string())


if __name__ == "__main__":
    main()
