"""The four posterior rules of the course on one generative model: the table of chapter 5.

Run it with ``make comparison``, or ``python -m benchmarks.posterior_rules``. It trains every rule
with the same number of parameters, budget and seeds, evaluates the weights of the best validation
epoch, and writes ``benchmarks/posterior_rules.csv``. There are three blocks: Markov and skip state
with KL warm-up, and Markov state without. ``--data mnist`` does the same on dynamically binarised
MNIST and writes ``benchmarks/posterior_rules_mnist.csv``.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import analysis, data, evaluate, fit
from hvae_course.config import Model, Objective, Training
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import make_objective
from hvae_course.recipes import build

SHARED = Model(
    latent_sizes=(16, 8, 4),
    hidden=(256,),
    normalisation="layer",
    activation="gelu",
    dropout=0.1,
)
"""What all models share; their generative networks have the same parameters."""
RULES = {
    "chain": "bottom_up",
    "concatenation": "bidirectional",
    "delta": "delta",
    "merge": "ladder",
}
"""The four posterior rules, with the recipes that use them."""
LIKELIHOODS = {"digits": "discretized_logistic", "mnist": "bernoulli"}
TRAININGS = {
    "digits": Training(epochs=400, patience=40, learning_rate=1e-3, batch_size=100),
    "mnist": Training(epochs=30, patience=10, learning_rate=1e-3, batch_size=100),
}
WARM_UPS = {"digits": 50, "mnist": 10}
"""Epochs of KL warm-up by data set: 500 steps on the digits, 5,000 on MNIST."""
SEEDS = {"digits": (0, 1, 2), "mnist": (0,)}
NUM_SAMPLES = 100
MAX_ROWS = {"digits": 20_000, "mnist": 2_000}
"""Draws held in memory at a time; fewer are faster for larger images on a CPU."""
TABLES = {
    "digits": Path(__file__).with_name("posterior_rules.csv"),
    "mnist": Path(__file__).with_name("posterior_rules_mnist.csv"),
}


def settings(name: str) -> list[tuple[str, int]]:
    """List the blocks of a table: state of the generative model, and epochs of KL warm-up."""
    return [("markov", WARM_UPS[name]), ("skip", WARM_UPS[name]), ("markov", 0)]


def num_parameters(model: torch.nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def matched(rule: str, state: str, dataset: data.DataSet) -> Model:
    """Make the inference networks of a model as wide as its budget of parameters allows.

    The budget is the number of parameters of concatenation with inference networks as wide as the
    generative ones; the other rules get the largest width that stays within it.
    """

    def model(rule: str, width: int) -> Model:
        own = {"recipe": RULES[rule], "likelihood": LIKELIHOODS[dataset.name], "state": state}
        return replace(SHARED, inference_hidden=(width,), **own)

    def size(rule: str, width: int) -> int:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return num_parameters(build(model(rule, width), dataset.spec))

    budget = size("concatenation", *SHARED.hidden)
    low, high = 1, 8192
    while low < high:  # the widest that stays within the budget
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(rule, middle) <= budget else (low, middle - 1)
    return model(rule, low)


def judge(model: HierarchicalVAE, dataset: data.DataSet, best_epoch: int) -> Row:
    """Evaluate one trained model on the test set: bounds in nats per example, and units."""
    dataset = dataset.to(model.device)
    sampling = {"num_samples": NUM_SAMPLES, "max_rows": MAX_ROWS[dataset.name]}
    test = evaluate(model, dataset, **sampling)
    validation = evaluate(model, dataset, split="validation", **sampling)
    row: dict[str, Any] = {
        "parameters": test.num_parameters,
        "best_epoch": best_epoch,
        "validation_elbo": validation.elbo.mean,
        "elbo": test.elbo.mean,
        "iw": test.log_likelihood.mean,
        "reconstruction": test.reconstruction.mean,
    }
    levels = analysis.diagnose(model, dataset, index_code=False).to_dict("records")
    for level, information in zip(levels, test.information, strict=True):
        row[f"information_{level['level']}"] = information.mean
        row[f"informative_units_{level['level']}"] = level["informative_units"]
    row |= {"data": test.data, "num_samples": NUM_SAMPLES, "device": model.device.type}
    return rounded(row, 4)


def run(job: Row, name: str = "digits") -> Row:
    """Train and judge one model: its row of the table."""
    dataset, seed = data.load(name), job["seed"]
    model = build(matched(job["rule"], job["state"], dataset), dataset, seed=seed)
    history = fit(
        model,
        dataset,
        replace(TRAININGS[name], seed=seed),
        objective=make_objective(Objective(warm_up=job["warm_up"] or None)),
        progress=False,
    )
    return judge(model, dataset, history.best_epoch)


def main(words: Sequence[str] | None = None) -> None:
    """Train what the table does not hold yet, and print it."""
    parser = table_parser(__doc__)
    parser.add_argument("--data", choices=TABLES, default="digits")
    given = parser.parse_args(words)
    name = given.data
    jobs = [
        {"rule": rule, "state": state, "warm_up": warm_up, "seed": seed}
        for seed in given.seeds or SEEDS[name]
        for state, warm_up in settings(name)
        for rule in RULES
    ]
    path = given.table or TABLES[name]
    table = run_all(partial(run, name=name), jobs, path, processes=given.processes)
    shown = ["parameters", "elbo", "iw", "information_1", "information_2", "information_3"]
    summary = table.groupby(["state", "warm_up", "rule"])[shown].agg(["mean", "std"])
    print(summary.drop(columns=[("parameters", "std")]).round(2).to_string())


if __name__ == "__main__":
    main()
