"""The four posterior rules of the course on one generative model: the table of chapter 5.

Run it with ``make comparison``, or ``python -m benchmarks.posterior_rules``. It trains every rule
with the same number of parameters, budget and seeds, evaluates the weights of the best validation
epoch, and writes ``benchmarks/posterior_rules.csv``. There are three blocks: Markov and skip state
with KL warm-up, and Markov state without. ``--data mnist`` does the same on dynamically binarised
MNIST and writes ``benchmarks/posterior_rules_mnist.csv``.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.runs import Row, run_all
from hvae_course import analysis, data, evaluate, fit, recipes
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import WarmUp, elbo

RULES: dict[str, Callable[..., HierarchicalVAE]] = {
    "chain": recipes.bottom_up_vae,
    "concatenation": recipes.bidirectional_vae,
    "delta": recipes.delta_vae,
    "merge": recipes.ladder_vae,
}
"""The four posterior rules, with the recipes that use them."""
ARCHITECTURE = {
    "latent_sizes": (16, 8, 4),
    "hidden": (256,),
    "normalisation": "layer",
    "activation": "gelu",
    "dropout": 0.1,
}
"""What all models share; their generative networks have the same parameters."""
LIKELIHOODS = {"digits": "discretized_logistic", "mnist": "bernoulli"}
BUDGETS = {"digits": {"epochs": 400, "patience": 40}, "mnist": {"epochs": 30, "patience": 10}}
TRAINING = {"learning_rate": 1e-3, "batch_size": 100}
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
    """List the blocks of the table.

    Args:
        name: ``"digits"`` or ``"mnist"``.

    Returns:
        State of the generative model and epochs of KL warm-up, one pair per block.
    """
    return [("markov", WARM_UPS[name]), ("skip", WARM_UPS[name]), ("markov", 0)]


def num_parameters(model: torch.nn.Module) -> int:
    """Count the parameters of a model.

    Args:
        model: any module.

    Returns:
        Their number.
    """
    return sum(parameter.numel() for parameter in model.parameters())


def build_matched(rule: str, state: str, dataset: data.DataSet) -> HierarchicalVAE:
    """Build a model whose inference networks are as wide as its budget of parameters allows.

    The budget is the number of parameters of concatenation with inference networks as wide as the
    generative ones; the other rules get the largest width that stays within it.

    Args:
        rule: a key of `RULES`.
        state: ``"markov"`` or ``"skip"``.
        dataset: the data set, a key of `LIKELIHOODS`.

    Returns:
        The untrained model; only this one draws from the caller's generator.
    """

    def build(rule: str, width: int) -> HierarchicalVAE:
        return RULES[rule](
            dataset,
            state=state,
            inference_hidden=(width,),
            likelihood=LIKELIHOODS[dataset.name],
            **ARCHITECTURE,
        )

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        budget = num_parameters(build("concatenation", *ARCHITECTURE["hidden"]))
        low, high = 1, 8192
        while low < high:  # the widest that stays within the budget
            middle = (low + high + 1) // 2
            if num_parameters(build(rule, middle)) <= budget:
                low = middle
            else:
                high = middle - 1
    return build(rule, low)


def train(job: Row, name: str) -> tuple[HierarchicalVAE, int]:
    """Train one model.

    Args:
        job: rule, state, warm_up and seed.
        name: ``"digits"`` or ``"mnist"``.

    Returns:
        The model and its best epoch.
    """
    dataset = data.load(name)
    torch.manual_seed(job["seed"])
    model = build_matched(job["rule"], job["state"], dataset)
    objective = WarmUp(job["warm_up"]) if job["warm_up"] else elbo
    history = fit(
        model,
        dataset,
        objective=objective,
        **BUDGETS[name],
        **TRAINING,
        seed=job["seed"],
        progress=False,
    )
    return model, history.best_epoch


def judge(model: HierarchicalVAE, best_epoch: int, name: str) -> Row:
    """Evaluate one trained model.

    Args:
        model: the model, with the weights of its best epoch.
        best_epoch: that epoch.
        name: ``"digits"`` or ``"mnist"``.

    Returns:
        Nats per example on the test set, units, and how they were measured.
    """
    dataset = data.load(name).to(model.device)
    sampling = {"num_samples": NUM_SAMPLES, "max_rows": MAX_ROWS[name]}
    test = evaluate(model, dataset, **sampling)
    validation = evaluate(model, dataset, split="validation", **sampling)
    levels = analysis.diagnose(model, dataset)
    row = {
        "parameters": test.num_parameters,
        "best_epoch": best_epoch,
        "validation_elbo": validation.elbo.mean,
        "elbo": test.elbo.mean,
        "iw": test.log_likelihood.mean,
        "reconstruction": test.reconstruction.mean,
    }
    for level in levels.to_dict("records"):
        row[f"information_{level['level']}"] = test.information[level["level"] - 1].mean
        row[f"informative_units_{level['level']}"] = level["informative_units"]
    row |= {"data": test.data, "num_samples": NUM_SAMPLES, "device": model.device.type}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def run(job: Row, name: str = "digits") -> Row:
    """Train and judge one model.

    Args:
        job: rule, state, warm_up and seed.
        name: ``"digits"`` or ``"mnist"``.

    Returns:
        One row of the table.
    """
    model, best_epoch = train(job, name)
    return judge(model, best_epoch, name)


def main() -> None:
    """Train what the table does not hold yet, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=TABLES, default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=None)
    parser.add_argument("--table", type=Path, default=None)
    parser.add_argument("--processes", type=int, default=None)
    arguments = parser.parse_args()
    name = arguments.data
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    jobs = [
        {"rule": rule, "state": state, "warm_up": warm_up, "seed": seed}
        for seed in arguments.seeds or SEEDS[name]
        for state, warm_up in settings(name)
        for rule in RULES
    ]
    path = arguments.table or TABLES[name]
    table = run_all(partial(run, name=name), jobs, path, processes=arguments.processes)
    shown = ["parameters", "elbo", "iw", "information_1", "information_2", "information_3"]
    summary = table.groupby(["state", "warm_up", "rule"])[shown].agg(["mean", "std"])
    print(summary.drop(columns=[("parameters", "std")]).round(2).to_string())


if __name__ == "__main__":
    main()
