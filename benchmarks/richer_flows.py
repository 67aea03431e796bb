"""Flows within levels and tied steps: two tables of chapter 10.

Run it with ``make richer``, or one experiment with ``python -m benchmarks.richer_flows
--experiment draw``. Each experiment has its table, ``benchmarks/richer_EXPERIMENT.csv``:

- ``flows``: two levels of the digits with their 17 grey values, whose conditional prior or
  posteriors are diagonal Gaussians or flows;
- ``draw``: DRAW without attention on nested shapes, in 1 to 8 steps, tied and untied, and with
  the mistake of drawing a single noise for all steps.

Epochs and learning rates were chosen on the validation split with seed 0. The test split is used
once per run, at the end. All numbers are nats per example.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Distribution

from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import data, evaluate, fit
from hvae_course.config import Model, Objective, Training
from hvae_course.hierarchy import Choose, HierarchicalVAE, State, evaluating
from hvae_course.objectives import make_objective
from hvae_course.posteriors import Recurrent
from hvae_course.recipes import build

COSINE = {"decay": 1.0, "decay_shape": "cosine", "averaging": 0.99}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "Gaussian": {"recipe": "bidirectional"},
    "Gaussian, wider": {"recipe": "bidirectional", "hidden": (160,)},
    "MAF prior": {"recipe": "flow_ladder"},
    "IAF posterior": {"recipe": "bidirectional", "iaf": True},
    "both": {"recipe": "flow_ladder", "iaf": True},
}
"""What a run changes in the model of the digits, by name. The wider one has about as many
parameters as the model with a flow in every posterior."""
STEPS = (1, 2, 4, 8)
"""Numbers of steps T."""
SHARED_STEPS = 4
"""T of the run with one noise for all steps."""
LATENTS, UNITS = 16, 128
"""Latent dimensions of every step, and units of each LSTM."""
NUM_IMAGES = {"validation": 500, "test": 1_000}
"""Nested shapes of the splits that are not used whole, the first ones."""
TRAINING = {
    "flows": Training(epochs=150, learning_rate=3e-3, **COSINE),
    "draw": Training(epochs=20, learning_rate=8e-3, batch_size=50, **COSINE),
}
OBJECTIVE = {"flows": Objective(warm_up=50), "draw": Objective()}
NUM_SAMPLES = {"flows": 100, "draw": 20}
"""K of the importance-weighted bound."""
MAX_ROWS, NUM_DRAWS = 2_000, 5_000
SEEDS = {"flows": (0, 1, 2, 3, 4), "draw": (0,)}
"""Seeds of every table; the option ``--seeds`` chooses others."""
TABLES = {name: Path(__file__).with_name(f"richer_{name}.csv") for name in SEEDS}


class OneNoise(Recurrent):
    """The mistake of a popular program: one noise for all steps, each charged for its own.

    What an objective reports of it is no bound.
    """

    def forward(self, features: Sequence[Tensor]) -> Choose:  # noqa: D102
        inner, noise = super().forward(features), None

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            nonlocal noise
            q, z = inner(l, h, p)
            noise = (z - q.mean) / q.stddev if noise is None else noise
            return q, q.mean + q.stddev * noise

        return choose


def largest_correlation(model: HierarchicalVAE, x: Tensor, *, num_draws: int) -> float:
    r"""Find the largest correlation between the noises of two latent dimensions, given x.

    Args:
        model: a model whose posteriors are diagonal Gaussians.
        x: one example, ``(1, D)``.
        num_draws: n, draws of all latents.

    Returns:
        Its size in standard errors, :math:`1 / \sqrt n`.
    """
    with torch.random.fork_rng(devices=[]), evaluating(model):
        torch.manual_seed(0)
        levels = model(x, num_draws).levels
    noise = torch.cat([(level.z - level.q.mean) / level.q.stddev for level in levels], dim=1)
    others = noise.T.corrcoef().fill_diagonal_(0)
    return others.abs().max().item() * num_draws**0.5


def jobs(experiment: str, seeds: Sequence[int] | None = None) -> list[Row]:
    """List the runs of an experiment, by seed first; by default with its own seeds."""
    if experiment == "flows":
        named: list[Row] = [{"setting": name} for name in SETTINGS]
    else:
        keys = ("steps", "tied", "noise")
        grid = [(steps, "tied", "own") for steps in STEPS]
        grid += [(SHARED_STEPS, "tied", "shared")]
        grid += [(steps, "untied", "own") for steps in STEPS if steps > 1]
        named = [dict(zip(keys, some, strict=True)) for some in grid]
    return [names | {"seed": seed} for seed in seeds or SEEDS[experiment] for names in named]


def read(experiment: str) -> pd.DataFrame:
    """Read the committed table of an experiment."""
    return pd.read_csv(TABLES[experiment], float_precision="round_trip")


def flow_model(setting: str) -> Model:
    """Configure a model of the digits."""
    base = Model(
        latent_sizes=(8, 8),
        hidden=(128,),
        state="skip",
        normalisation="layer",
        activation="gelu",
        dropout=0.1,
        likelihood="discretized_logistic",
        recipe="bidirectional",
    )
    return replace(base, **SETTINGS[setting])


def draw_model(steps: int, *, tied: bool) -> Model:
    """Configure a DRAW of T steps."""
    return Model(
        recipe="draw",
        latent_sizes=(LATENTS,) * steps,
        hidden=(UNITS,),
        tied=tied,
        likelihood="discretized_logistic",
    )


def shapes() -> data.DataSet:
    """Load the nested shapes, of some splits the first ones."""
    whole = data.load("nested_shapes")
    parts = {name: whole.split(name).select(slice(0, n)) for name, n in NUM_IMAGES.items()}
    return replace(whole, **parts)


def train(model: HierarchicalVAE, data_set: data.DataSet, *, experiment: str, seed: int) -> int:
    """Train a model; gives its best epoch on the validation split."""
    history = fit(
        model,
        data_set,
        replace(TRAINING[experiment], seed=seed),
        objective=make_objective(OBJECTIVE[experiment]),
        progress=False,
    )
    return history.best_epoch


def judge(model: HierarchicalVAE, data_set: data.DataSet, *, experiment: str) -> Row:
    """Evaluate a trained model on the test split."""
    test = evaluate(model, data_set, num_samples=NUM_SAMPLES[experiment], max_rows=MAX_ROWS)
    information = [level.mean for level in test.information]
    return {
        "parameters": test.num_parameters,
        "elbo": test.elbo.mean,
        "iw": test.log_likelihood.mean,
        "gap": test.log_likelihood.mean - test.elbo.mean,
        "rate": sum(information),
        "distortion": -test.reconstruction.mean,
        **{f"information_{level}": nats for level, nats in enumerate(information, start=1)},
        "data": test.data,
        "num_samples": test.num_samples,
    }


def run_flows(job: Row) -> Row:
    """Train and judge one model of the digits: its row of the table."""
    digits = data.load("digits")
    model = build(flow_model(job["setting"]), digits, seed=job["seed"])
    best_epoch = train(model, digits, experiment="flows", seed=job["seed"])
    return rounded({"best_epoch": best_epoch, **judge(model, digits, experiment="flows")}, 4)


def run_draw(job: Row) -> Row:
    """Train and judge one DRAW: its row of the table.

    ``reported`` is the mean of what the objective maximises on the test split. All other numbers
    are those of the same weights with noise of every step's own. ``correlation`` is the largest
    one between the noises with which the model was trained, in standard errors.
    """
    images = shapes()
    model = build(draw_model(job["steps"], tied=job["tied"] == "tied"), images, seed=job["seed"])
    own = model.posterior
    if job["noise"] == "shared":
        model.posterior = OneNoise(own.steps, own.likelihood)
    best_epoch = train(model, images, experiment="draw", seed=job["seed"])
    x = images.test.batch(slice(0, 1))
    correlation = largest_correlation(model, x, num_draws=NUM_DRAWS)
    reported = judged = judge(model, images, experiment="draw")
    if model.posterior is not own:
        model.posterior = own
        judged = judge(model, images, experiment="draw")
    row = {"best_epoch": best_epoch, "correlation": correlation, "reported": reported["elbo"]}
    return rounded(row | judged, 4)


RUNS: Mapping[str, Callable[[Row], Row]] = {"flows": run_flows, "draw": run_draw}
"""What makes a row, by experiment."""


def main(words: Sequence[str] | None = None) -> None:
    """Run what the table of an experiment does not hold yet, and print it."""
    parser = table_parser(__doc__)
    parser.add_argument("--experiment", choices=TABLES, default="flows")
    given = parser.parse_args(words)
    name, asked = given.experiment, jobs(given.experiment, given.seeds)
    table = run_all(RUNS[name], asked, given.table or TABLES[name], processes=given.processes)
    by = [key for key in asked[0] if key != "seed"]
    shown = ["parameters", "best_epoch", "elbo", "iw", "gap", "rate"]
    print(table.groupby(by, sort=False)[shown].agg(["mean", "std"]).round(2).to_string())


if __name__ == "__main__":
    main()
