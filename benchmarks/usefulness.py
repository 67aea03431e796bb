"""Bound, rate and a linear probe of many models of the digits: the tables of chapter 9.

Run it with ``make usefulness``, or one experiment with ``python -m benchmarks.usefulness
--experiment decoders``. Each experiment has its table:

- ``models``, in ``benchmarks/usefulness.csv``: the models of the digits with their 17 grey values:
  those of the results page, four of chapter 8, and the richer levels of chapter 10;
- ``decoders``, in ``benchmarks/usefulness_decoders.csv``: a small VAE of the digits in black and
  white, whose decoder also sees a window of pixels before its own, with several KL weights; with
  one level also with a warm-up, and for the widest window with a constraint on the distortion.

Rate and distortion are means over the test split, in nats per example; their sum is the negative
ELBO. The probes, of posterior means and of draws, are fitted on the training split and
judged on the test split. Codes are read as the vectors of their codebook, and in place of the mean
of a flow what it makes of the mean of its Gaussian. A row of a constrained fit also holds the KL
weight at its end.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import deep_hierarchies
from benchmarks.likelihood_models import DIGITS, change
from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import data, evaluate, fit
from hvae_course.analysis import linear_probe
from hvae_course.config import Experiment, Model, Training
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import (
    Constrained,
    ConstraintNeverMet,
    WarmUp,
    Weighted,
    make_objective,
)
from hvae_course.recipes import build
from hvae_course.training import fit_prior

NUM_SAMPLES, VALIDATION_SAMPLES, MAX_ROWS = 100, 10, 20_000
LEVELS = (1, 2)
WINDOWS = (0, 1, 8, 63)
"""How many pixels before its own a decoder sees."""
BETAS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""KL weights."""
LATENT_SIZES = (16, 8)
"""Latent dimensions from the bottom up; a model of one level has the first of them."""
TRAINING = Training(epochs=60, learning_rate=2e-3, batch_size=100)
DISTORTION = 16.0
"""Nats per example that the constraint allows: the distortion of the decoder without a window on
the validation split, with one level, beta = 1 and seed 0, rounded to a whole nat."""
REMEDIES: Mapping[str, Callable[[], Any]] = {
    "none": Weighted,
    "warm-up": partial(WarmUp, 40),
    "constraint": partial(
        Constrained, (DISTORTION / 64) ** 0.5, error="negative_log_likelihood", beta=0.1
    ),
}
"""Objectives by name; the warm-up is for every window, the constraint for the widest alone."""
_PLAIN = change(
    DIGITS.models["chain"].experiment, hidden=Model().hidden, normalisation="none", dropout=0.0
)
_TOP_DOWN = DIGITS.models["concatenation"].experiment
_MAPS = {"networks": "convolutional", "activation": "gelu"}
_DRAW = change(_PLAIN, recipe="draw", activation="tanh", hidden=(128,), latent_sizes=(16,))
_CODES = change(
    _PLAIN,
    recipe="vq",
    warm_up=None,
    networks_options={"stages": ((4, 1, 32), (2, 1, 32))},
    codes_options={"num_codes": 16, "prior_hidden": (64,)},
    **_MAPS,
)
RICHER = {
    "flow_prior": change(_TOP_DOWN, recipe="flow_ladder", prior="flow"),
    "flow_posterior": change(_TOP_DOWN, iaf=True),
    "draw_1": _DRAW,
    "draw_4": change(_DRAW, latent_sizes=(16,) * 4),
    "codes_uniform": _CODES,
    "codes_fitted": _CODES,
    "scalars_fitted": change(
        _CODES,
        codes="scalars",
        codes_options={"values": (4, 4), "prior_hidden": (64,)},
        latent_sizes=(2, 2),
    ),
    "downscaled": change(_PLAIN, recipe="downscaled", latent_sizes=(16, 1, 8), **_MAPS),
}
"""The richer levels of chapter 10, by name: the training of the results page, two grids of 4x4 and
2x2 codes, and an image of 4x4 between two latents."""
FITTED = ("codes_fitted", "scalars_fitted")
"""Models whose prior over codes is fitted after the rest, for as many epochs again."""
MODELS = (
    {name: entry.experiment for name, entry in DIGITS.models.items()}
    | {
        f"deep, {name}": Experiment(
            model=setting.model,
            objective=setting.objective,
            training=replace(deep_hierarchies.TRAINING, **setting.training),
        )
        for name, setting in deep_hierarchies.CHANGES.items()
    }
    | RICHER
)
"""Models of the digits in grey by name, each with how it is trained."""
TABLES = {
    "models": Path(__file__).with_name("usefulness.csv"),
    "decoders": Path(__file__).with_name("usefulness_decoders.csv"),
}
SEEDS = {"models": (0,), "decoders": (0, 1, 2)}
"""Seeds of every table; the option ``--seeds`` chooses others."""


def jobs(experiment: str, seeds: Sequence[int] | None = None) -> list[Row]:
    """List the runs of an experiment, by seed first; by default with those of its table."""
    if experiment == "models":
        named: list[Row] = [{"model": name} for name in MODELS]
    else:
        keys = ("levels", "window", "beta", "remedy")
        grid = [(n, window, beta, "none") for n in LEVELS for window in WINDOWS for beta in BETAS]
        grid += [(1, window, 1.0, "warm-up") for window in WINDOWS]
        grid += [(1, max(WINDOWS), 1.0, "constraint")]
        named = [dict(zip(keys, some, strict=True)) for some in grid]
    return [names | {"seed": seed} for seed in seeds or SEEDS[experiment] for names in named]


def read(experiment: str) -> pd.DataFrame:
    """Read the committed table of an experiment."""
    return pd.read_csv(TABLES[experiment], float_precision="round_trip")


def decoder_model(levels: int, window: int) -> Model:
    """Configure a small VAE whose decoder sees a window of pixels."""
    return Model(
        recipe="bidirectional",
        latent_sizes=LATENT_SIZES[:levels],
        hidden=(128,),
        state="skip",
        normalisation="layer",
        activation="gelu",
        dropout=0.1,
        likelihood="autoregressive",
        likelihood_options={"window": window, "hidden": (256,)},
    )


def judge(model: HierarchicalVAE, digits: data.DataSet, best_epoch: int) -> Row:
    """Judge a trained model on the test split: nats per example, and the probe's accuracy."""
    digits = digits.to(model.device)
    validation = evaluate(
        model, digits, split="validation", num_samples=VALIDATION_SAMPLES, max_rows=MAX_ROWS
    )
    test = evaluate(model, digits, num_samples=NUM_SAMPLES, max_rows=MAX_ROWS)
    probe, of_draws = (linear_probe(model, digits, draws=draws) for draws in (False, True))
    information = [level.mean for level in test.information]
    row: dict[str, Any] = {
        "parameters": test.num_parameters,
        "best_epoch": best_epoch,
        "validation_elbo": validation.elbo.mean,
        "validation_distortion": -validation.reconstruction.mean,
        "elbo": test.elbo.mean,
        "iw": test.log_likelihood.mean,
        "rate": sum(information),
        "distortion": -test.reconstruction.mean,
        "probe": probe.accuracy,
        "probe_error": probe.standard_error,
        "probe_draws": of_draws.accuracy,
    }
    row |= {f"information_{level}": nats for level, nats in enumerate(information, start=1)}
    return rounded(row | {"data": test.data, "num_samples": NUM_SAMPLES}, 4)


def run_model(job: Row) -> Row:
    """Train and judge one model of the digits in grey: its row of the table."""
    digits, entry = data.load("digits"), MODELS[job["model"]]
    model, training = (
        build(entry.model, digits, seed=job["seed"]),
        replace(entry.training, seed=job["seed"]),
    )
    history = fit(
        model, digits, training, objective=make_objective(entry.objective), progress=False
    )
    if job["model"] in FITTED:
        fit_prior(model, digits, training, progress=False)
    return {"recipe": entry.model.recipe} | judge(model, digits, history.best_epoch)


def run_decoder(job: Row) -> Row:
    """Train and judge one small VAE: its row of the table."""
    digits = data.load("digits", binarisation="threshold")
    model = build(decoder_model(job["levels"], job["window"]), digits, seed=job["seed"])
    make = REMEDIES[job["remedy"]]
    objective = make(job["beta"]) if make is Weighted else make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNeverMet)  # the distortion is in the table
        training = replace(TRAINING, seed=job["seed"])
        history = fit(model, digits, training, objective=objective, progress=False)
    row = judge(model, digits, history.best_epoch)
    if isinstance(objective, Constrained):
        row["final_beta"] = round(objective.beta.item(), 4)
    return row


RUNS: Mapping[str, Callable[[Row], Row]] = {"models": run_model, "decoders": run_decoder}
"""What makes a row, by experiment."""


def main(words: Sequence[str] | None = None) -> None:
    """Run what the table of an experiment does not hold yet, and print it."""
    parser = table_parser(__doc__)
    parser.add_argument("--experiment", choices=TABLES, default="models")
    given = parser.parse_args(words)
    name, asked = given.experiment, jobs(given.experiment, given.seeds)
    table = run_all(RUNS[name], asked, given.table or TABLES[name], processes=given.processes)
    by = [key for key in asked[0] if key != "seed"]
    shown = ["elbo", "iw", "rate", "distortion", "probe", "probe_draws"]
    print(table.groupby(by, sort=False)[shown].mean().round(3).to_string())


if __name__ == "__main__":
    main()
