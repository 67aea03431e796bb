"""Why the merge collapses without KL warm-up: controls beside the table of chapter 5.

Run it with ``python -m benchmarks.merge_controls``. Model and recipe are those of the merge in
`benchmarks.posterior_rules` (Markov state, no warm-up, digits). Each control changes one thing;
``benchmarks/merge_controls.csv`` holds one row per control and seed.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from benchmarks.posterior_rules import TRAININGS, WARM_UPS, judge, matched
from benchmarks.runs import Row, run_all, table_parser
from hvae_course import data, fit
from hvae_course.gaussians import diag_normal
from hvae_course.objectives import WarmUp, elbo
from hvae_course.posteriors import PosteriorRule, precision_weighted_merge
from hvae_course.recipes import build

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
        """Give ``q(z_l | x, z_>l)``, as any `PosteriorRule`; the state acts through p alone."""
        message = self.head(d)
        largest = p.base_dist.scale * math.sqrt((1 - self.least_share) / self.least_share)
        scale = torch.minimum(message.base_dist.scale, largest)
        return precision_weighted_merge(diag_normal(message.mean, scale.log()), p)


def run(job: Row) -> Row:
    """Train and judge the merge under one control: a row as in `benchmarks.posterior_rules`.

    Where there are two runs, it is about the second.
    """
    digits, control = data.load("digits"), job["control"]
    model = build(matched("merge", "markov", digits), digits, seed=job["seed"])
    if control == "least share":
        rules = model.posterior.rules
        for l in range(len(rules) - 1):  # the top level is not merged
            rules[l] = FlooredMerge(rules[l].head, LEAST_SHARE)
    second = WarmUp(WARM_UPS["digits"]) if control == "second run, warm-up" else elbo
    for objective in (elbo,) if control == "least share" else (elbo, second):
        training = replace(TRAININGS["digits"], seed=job["seed"])
        history = fit(model, digits, training, objective=objective, progress=False)
    return judge(model, digits, history.best_epoch)


def main(words: Sequence[str] | None = None) -> None:
    """Train what the table does not hold yet, and print it."""
    given = table_parser(__doc__).parse_args(words)
    jobs = [{"control": c, "seed": seed} for seed in given.seeds or SEEDS for c in CONTROLS]
    table = run_all(run, jobs, given.table or TABLE, processes=given.processes)
    shown = ["elbo", "iw", "information_1", "information_2", "information_3"]
    print(table.set_index(["control", "seed"])[shown].round(2).to_string())


if __name__ == "__main__":
    main()
