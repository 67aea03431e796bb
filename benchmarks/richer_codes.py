"""Models of codes and of downscaled images: two tables of chapter 10.

Run it with ``make richer``, or one experiment with ``python -m benchmarks.richer_codes
--experiment codes``. Each experiment has its table:

- ``codes``, in ``benchmarks/richer_codes.csv``: a VQ-VAE of the nested shapes with codes on two
  grids, 2 x 2 above 4 x 4, of 32 codes each. The codebook follows moving averages with revival, or
  is trained by gradient, or is replaced by finite scalars; and it starts far from the encodings,
  with and without revival. The first stage takes 10 epochs, and once twice as many: the bound is
  better then, and a second stage saves a smaller share of the rate. Rates are those of the uniform
  prior and of two priors that a second stage fits, with independent positions and autoregressive.
- ``downscaled``, in ``benchmarks/richer_downscaled.csv``: digits with their image of 4 x 4 as a
  level, and a plain VAE of the same kind without it, which has fewer parameters.

All numbers are those of the test split, in nats per example unless a name says otherwise. Settings
were chosen on the validation split, but for the 10 epochs: longer first stages have better bounds.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score

from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import data, evaluate, fit
from hvae_course.analysis import Evaluation, diagnose, linear_probe, sample
from hvae_course.codes import Codebook, Downscale
from hvae_course.config import Model, Training
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import WarmUp
from hvae_course.recipes import build
from hvae_course.seeding import isolated_random, seed_all
from hvae_course.training import fit_prior

NUM_CODES = 32
STAGES = ((4, 1, 32), (2, 1, 32))
"""Grids of 4 x 4 and 2 x 2 positions, each of one level with 32 channels."""
FIRST = Training(learning_rate=2e-3, decay=1.0, batch_size=100)
"""First stage, with uniform priors; `Kind` has its epochs."""
SECOND = Training(
    epochs=14, learning_rate=2e-3, batch_size=100, optimiser="adamw", weight_decay=0.3
)
"""Second stage, of the priors alone."""
PRIORS: Mapping[str, tuple[int, ...] | None] = {"independent": None, "autoregressive": (256,)}
"""Hidden layers of the network through which the prior of a code sees those before it."""
FAR = 30.0
"""Distance of a bad start from the origin, in every dimension of a code."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What distinguishes one row of the table of codes."""

    codes: str = "codebook"
    """As in `hvae_course.config.Model`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the codes."""
    far: bool = False
    """Whether the codebooks start far from the encodings."""
    epochs: int = 10
    """Epochs of the first stage."""


KINDS: Mapping[str, Kind] = {
    "moving average": Kind(),
    "moving average, twice as long": Kind(epochs=20),
    "gradient": Kind(options={"decay": None}),
    "scalars": Kind(codes="scalars", options={"values": (4, 4, 2)}),
    "far start": Kind(options={"revival": 0.0}, far=True),
    "far start, revival": Kind(far=True),
}
"""Rows of the table of codes, by name; moving averages and revival are the package's defaults."""
LEVELS: Mapping[str, Model] = {
    "plain": Model(
        recipe="bidirectional",
        networks="convolutional",
        normalisation="none",
        latent_sizes=(4, 8),
        networks_options={"stages": ((4, 2, 32),)},
    ),
    "downscaled": Model(
        recipe="downscaled",
        latent_sizes=(4, 1, 8),
        networks_options={"stages": ((4, 3, 32),)},
    ),
}
"""Two latents of maps of 4 x 4, and the same with the downscaled image between them."""
TRAINING = Training(epochs=100, learning_rate=2e-3, decay=1.0, batch_size=50)
WARM_UP = 60
"""Epochs in which the KL weight rises to 1. In a trial without it both models dropped their
latents. With it the plain VAE uses them in every run, the other model in two of three."""
NUM_SAMPLES, MAX_ROWS = 50, 20_000
NUM_SETS, NUM_TREES = 5, 100
"""Sets of samples that a classifier compares with the test images, and its trees."""
TABLES = {
    "codes": Path(__file__).with_name("richer_codes.csv"),
    "downscaled": Path(__file__).with_name("richer_downscaled.csv"),
}
SEEDS = (0, 1, 2)
"""Seeds of both tables; the option ``--seeds`` chooses others."""
REPEATED = ("moving average", "moving average, twice as long", *LEVELS)
"""Kinds of codes, and models of the digits, that run with every seed; others with the first."""


def jobs(experiment: str, seeds: Sequence[int] | None = None) -> list[Row]:
    """List the runs of an experiment, by seed first; by default with its own seeds."""
    key, names = ("kind", KINDS) if experiment == "codes" else ("model", LEVELS)
    return [
        {key: name, "seed": seed}
        for seed in seeds or SEEDS
        for name in names
        if seeds or seed == SEEDS[0] or name in REPEATED
    ]


def read(experiment: str) -> pd.DataFrame:
    """Read the committed table of an experiment."""
    return pd.read_csv(TABLES[experiment], float_precision="round_trip")


# Codes


def codes_model(kind: str, prior: str) -> Model:
    """Configure a VQ-VAE of two grids."""
    options: dict[str, Any] = dict(KINDS[kind].options)
    if KINDS[kind].codes == "codebook":
        options["num_codes"] = NUM_CODES
    size = len(options.get("values", range(16)))
    return Model(
        recipe="vq",
        latent_sizes=(size, size),
        codes=KINDS[kind].codes,
        codes_options=options | {"prior_hidden": PRIORS[prior]},
        networks_options={"stages": STAGES},
    )


@torch.no_grad()
def move_far(model: HierarchicalVAE) -> None:
    """Let all codebooks start far from the encodings."""
    for part in model.modules():
        if isinstance(part, Codebook):
            part.rows.add_(FAR)
            part.sums.add_(FAR)


def run_codes(job: Row) -> Row:
    """Train a model of codes, fit its priors in two ways, and judge it: its row of the table."""
    shapes, kind = data.load("nested_shapes"), KINDS[job["kind"]]
    model = build(codes_model(job["kind"], "independent"), shapes, seed=job["seed"])
    if kind.far:
        move_far(model)
    fit(model, shapes, replace(FIRST, epochs=kind.epochs, seed=job["seed"]), progress=False)
    shapes = shapes.to(model.device)
    judge = partial(evaluate, data=shapes, num_samples=1, per_example=True)
    uniform = judge(model)
    row: dict[str, Any] = {
        "elbo_uniform": uniform.elbo.mean,
        "distortion": -uniform.reconstruction.mean,
        **by_level("rate_uniform", [level.mean for level in uniform.information]),
    }
    for prior in PRIORS:
        fitted = build(codes_model(job["kind"], prior), shapes, seed=job["seed"]).to(model.device)
        fitted.load_state_dict(posterior_and_decoder(model), strict=False)
        fit_prior(fitted, shapes, replace(SECOND, seed=job["seed"]), progress=False)
        row |= second_stage(prior, judge(fitted), uniform)
    usage = diagnose(model, shapes, num_samples=1, max_examples=len(shapes.test), index_code=False)
    row |= by_level("live", usage["live_codes"]) | by_level("perplexity", usage["perplexity"])
    probes = [linear_probe(model, shapes, levels=[level]) for level in (1, 2)]
    row |= by_level("probe", [probe.accuracy for probe in probes])
    return rounded(row | {"data": uniform.data}, 4)


def posterior_and_decoder(model: HierarchicalVAE) -> dict[str, torch.Tensor]:
    """Give a copy of the state of all that the first stage trains."""
    priors = ("prior.", "top_down.conditionals.")
    state = copy.deepcopy(model.state_dict())
    return {name: value for name, value in state.items() if not name.startswith(priors)}


def second_stage(prior: str, fitted: Evaluation, uniform: Evaluation) -> Row:
    """What a second stage gains, and by how much it changes the distortion of any example."""
    before, after = (one.per_example["reconstruction"] for one in (uniform, fitted))
    rates = [level.mean for level in fitted.information]
    of_uniform = sum(level.mean for level in uniform.information)
    return {
        f"elbo_{prior}": fitted.elbo.mean,
        **by_level(f"rate_{prior}", rates),
        f"reduction_{prior}": 100 * (1 - sum(rates) / of_uniform),  # per cent
        f"change_{prior}": float((after - before).abs().max()),
    }


def by_level(name: str, values: Sequence[float]) -> Row:
    """Name the values of the levels, from the one next to the data upward."""
    return {f"{name}_{level}": value for level, value in enumerate(values, start=1)}


# Downscaled images


def run_downscaled(job: Row) -> Row:
    """Train and judge a VAE of the digits, or one with the downscaled image as a level."""
    digits = data.load("digits")
    model = build(LEVELS[job["model"]], digits, seed=job["seed"])
    training = replace(TRAINING, seed=job["seed"])
    history = fit(model, digits, training, objective=WarmUp(WARM_UP), progress=False)
    digits = digits.to(model.device)
    test = evaluate(model, digits, num_samples=NUM_SAMPLES, max_rows=MAX_ROWS)
    known, images = (part.batch(slice(None)).cpu() for part in (digits.train, digits.test))
    told, fits = [], []
    for seed in range(NUM_SETS):
        trace = sample(model, len(images), seed=seed)
        with isolated_random(model.device):
            seed_all(seed)
            drawn = trace.px.sample()
        told.append(told_apart(images.numpy(), drawn.cpu().numpy()))
        if model.num_levels == 3:
            of_draws = Downscale(1, (8, 8), factor=2, num_values=17)(drawn).mean
            fits.append(torch.isclose(of_draws, trace.levels[1].z).double().mean().item())
    row: dict[str, Any] = {
        "parameters": test.num_parameters,
        "best_epoch": history.best_epoch,
        "elbo": test.elbo.mean,
        "iw": test.log_likelihood.mean,
        "reconstruction": test.reconstruction.mean,
        **by_level("information", [level.mean for level in test.information]),
        "told_apart": float(np.mean(told)),
        "told_apart_spread": float(np.std(told, ddof=1)),
        "told_apart_images": told_apart(images.numpy(), known[: len(images)].numpy()),
        "blocks_that_fit": float(np.mean(fits)) if fits else np.nan,
    }
    return rounded(row | {"data": test.data, "num_samples": NUM_SAMPLES}, 4)


def told_apart(images: np.ndarray, drawn: np.ndarray) -> float:
    """How often a classifier tells images from drawn ones, on images that it was not fitted to.

    A forest of 100 trees is fitted to four fifths of both sets and judged on the rest, in turn.
    One half is the best possible: nobody can tell. It is out of reach here, because the images of
    the training split come from other writers than those of the test split, and are told from
    them too. What is compared are draws of pixels; means would be told by their smoothness.

    Args:
        images: ``(N, D)``.
        drawn: ``(N, D)``.

    Returns:
        The share of right answers.

    Source:
        Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests, arXiv:1610.06545.
    """
    x, y = np.concatenate([images, drawn]), np.repeat([0, 1], [len(images), len(drawn)])
    forest = RandomForestClassifier(NUM_TREES, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(forest, x, y, cv=folds).mean())


RUNS: Mapping[str, Callable[[Row], Row]] = {"codes": run_codes, "downscaled": run_downscaled}
"""What makes a row, by experiment."""
SHOWN = {
    "codes": [
        "distortion",
        "reduction_independent",
        "reduction_autoregressive",
        "live_1",
        "live_2",
    ],
    "downscaled": ["elbo", "iw", "told_apart"],
}
"""Columns that are printed, by experiment."""


def main(words: Sequence[str] | None = None) -> None:
    """Run what the table of an experiment does not hold yet, and print it."""
    parser = table_parser(__doc__)
    parser.add_argument("--experiment", choices=TABLES, default="codes")
    given = parser.parse_args(words)
    name, asked = given.experiment, jobs(given.experiment, given.seeds)
    table = run_all(RUNS[name], asked, given.table or TABLES[name], processes=given.processes)
    (by,) = (key for key in asked[0] if key != "seed")
    print(table.groupby(by, sort=False)[SHOWN[name]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
