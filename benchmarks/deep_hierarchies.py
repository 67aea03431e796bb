"""Deep convolutional hierarchies on the digits: the tables of chapter 8.

Run it with ``make deep``, or one experiment with ``python -m benchmarks.deep_hierarchies
--experiment changes``. Each experiment has its table, ``benchmarks/deep_EXPERIMENT.csv``:

- ``changes``: eight levels on maps of 4x4, and what a change of the objective does;
- ``depths``: the same levels in groups of 1 to 8, with three times the epochs;
- ``steps``: the first of them with other steps, clipped, skipped and longer;
- ``tricks``: 24 levels, with and without the two tricks of initialisation;
- ``splits``: eight levels, shared out between maps of 8x8 and of 4x4;
- ``starts``: 6 to 48 levels before the first step, without training.

Learning rate, warm-up and normalisation were chosen on the validation split with seed 0; the
likelihood is that of chapter 5. The test split is used once per run, at the end.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import data, evaluate, fit
from hvae_course.config import Model, Objective, Training
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.machine import using
from hvae_course.objectives import elbo, make_objective
from hvae_course.recipes import build
from hvae_course.training.history import History
from hvae_course.training.optimisers import Skipping

CHANNELS, LATENTS = 16, 2
"""Channels of every map of features and state, and of every latent map."""
WARM_UP = 10
"""Epochs of KL warm-up, in all runs that do not say otherwise."""
FLOOR = 0.5
"""Free nats per example of every level, in the runs with free bits."""
TRAINING = Training(epochs=20, learning_rate=6e-3, batch_size=100, clip_norm=1e30)
"""The limit of the norm is never reached; with one, the norm of every gradient is computed."""
CLIP_NORM, SKIP_NORM, LOW_NORM = 60.0, 150.0, 20.0
"""Limits of the norm of a gradient: one to clip at, one to skip above, and one far too low. In a
trial with seed 0 the norms had a median of 60 and a largest of 130 after the first 20 steps."""
NO_RECOVERY = 10**9
"""As ``skip_limit``: more steps than any run has, so that a step may be skipped for ever."""
IDLE = 0.1
"""Nats per example below which a level counts as idle."""
SPIKE = 10.0
"""A gradient is a spike if it is longer than this multiple of the run's median."""
NUM_SAMPLES, VALIDATION_SAMPLES, MAX_ROWS = 100, 10, 1_000
SEEDS = {
    "changes": (0, 1, 2),
    "depths": (0, 1, 2),
    "steps": (0,),
    "tricks": (0,),
    "splits": (0,),
    "starts": (0, 1, 2, 3, 4),
}
"""Seeds of every table; the option ``--seeds`` adds others."""
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Setting:
    """What one run changes in the model, the objective and the training that all share."""

    stages: tuple[tuple[int, int, int], ...] = ((4, 8, CHANNELS),)
    """Height of the maps, number of levels and channels of every resolution, data upward."""
    networks: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `hvae_course.config.networks.Convolutional`."""
    objective: Objective = field(default_factory=partial(Objective, warm_up=WARM_UP))
    training: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `hvae_course.config.training.Training`."""
    normalisation: str = "layer"

    @property
    def heights(self) -> list[int]:
        """Height of the maps of every level, from z_1 upward."""
        return [height for height, levels, _ in self.stages for _ in range(levels)]

    @property
    def model(self) -> Model:
        """The configuration of the model."""
        return Model(
            recipe="vdvae",
            latent_sizes=(LATENTS,) * len(self.heights),
            normalisation=self.normalisation,
            activation="silu",
            likelihood="discretized_logistic",
            networks_options={"stages": self.stages, "expansion": 0.5, **self.networks},
        )


def _tricks(levels: int, **others: Any) -> dict[str, Setting]:  # noqa: ANN401
    """Settings with and without the two tricks of initialisation, by name."""
    stages = ((4, levels, CHANNELS),)
    off = {
        "both": (),
        "no depth scaling": ("depth_scaled",),
        "no zero priors": ("zero_priors",),
        "neither": ("depth_scaled", "zero_priors"),
    }
    return {
        name: Setting(stages, dict.fromkeys(names, False), **others) for name, names in off.items()
    }


def _splits(*shares: tuple[int, int]) -> dict[str, Setting]:
    """Settings with levels at 8x8 and 4x4."""
    return {
        f"{low} + {high}": Setting(((8, low, CHANNELS), (4, high, CHANNELS)))
        for low, high in shares
    }


FAST = {"learning_rate": 4 * TRAINING.learning_rate}
CHANGES = {
    "baseline": Setting(),
    "no warm-up": Setting(objective=Objective()),
    "free bits": Setting(objective=Objective(free_bits=FLOOR)),
    "warm-up, free bits": Setting(objective=Objective(warm_up=WARM_UP, free_bits=FLOOR)),
}
"""The run that all others change, and what each changes in the objective, by name."""
DEPTHS = {
    f"groups of {group}": Setting(networks={"group": group}, training={"epochs": 60})
    for group in (1, 2, 4, 8)
}
"""Depth at equal parameters: levels of a group read the same state."""
STEPS = {
    "clip": Setting(training={"clip_norm": CLIP_NORM}),
    "skip": Setting(training={"skip_norm": SKIP_NORM}),
    "rate x 4": Setting(training=FAST),
    "rate x 4, clip": Setting(training={**FAST, "clip_norm": CLIP_NORM}),
    "rate x 4, skip": Setting(training={**FAST, "skip_norm": SKIP_NORM}),
    "low skip": Setting(training={"skip_norm": LOW_NORM}),
    "low skip, no recovery": Setting(
        training={"skip_norm": LOW_NORM, "skip_limit": NO_RECOVERY, "epochs": 3}
    ),
}
"""What changes in the steps of the baseline."""
SETTINGS: dict[str, dict[str, Setting]] = {
    "changes": CHANGES,
    "depths": DEPTHS,
    "steps": STEPS,
    "tricks": _tricks(24, training={"epochs": 8}),
    "splits": _splits((6, 2), (4, 4), (2, 6)),
}
"""Trained models by experiment and name."""
STARTS = {
    (levels, normalisation, name): setting
    for levels in (6, 12, 24, 48)
    for normalisation in ("layer", "none")
    for name, setting in _tricks(levels, normalisation=normalisation).items()
}
"""Models that are judged before the first step, by levels, normalisation and tricks."""
EXPERIMENTS = (*SETTINGS, "starts")


def table_of(experiment: str) -> Path:
    """Give the file of an experiment's table."""
    return FOLDER / f"deep_{experiment}.csv"


def jobs(experiment: str, seeds: Sequence[int] | None = None) -> list[Row]:
    """List the runs of an experiment, by seed first; by default with its own seeds."""
    seeds = seeds or SEEDS[experiment]
    if experiment == "starts":
        keys = ("levels", "normalisation", "setting")
        named = [dict(zip(keys, names, strict=True)) for names in STARTS]
    else:
        named = [{"setting": name} for name in SETTINGS[experiment]]
    return [names | {"seed": seed} for seed in seeds for names in named]


def numbers(text: str) -> list[float]:
    """Read a cell that holds several numbers, such as ``validation_curve``."""
    return [float(number) for number in str(text).split()]


def epochs_to(curve: str, bound: float) -> float:
    """Find the first epoch whose validation ELBO reaches a bound; infinity if none does.

    Args:
        curve: a cell of the column ``validation_curve``.
        bound: nats per example.

    Returns:
        The epoch, counted from 1.
    """
    reached = [epoch for epoch, value in enumerate(numbers(curve), start=1) if value >= bound]
    return reached[0] if reached else float("inf")


def read(experiment: str) -> pd.DataFrame:
    """Read the committed table of an experiment."""
    return pd.read_csv(table_of(experiment), float_precision="round_trip")


def levels_of(experiment: str) -> pd.DataFrame:
    """Tabulate what every level of every run carries, one row per level.

    Args:
        experiment: a key of `SETTINGS`.

    Returns:
        Columns ``setting``, ``seed``, ``level`` (1 next to the data), ``height`` of its maps,
        ``dimensions``, ``nats`` (raw information on the test set, per example) and
        ``per_dimension``.
    """
    rows = []
    for run in read(experiment).to_dict("records"):
        for level, height in enumerate(SETTINGS[experiment][run["setting"]].heights, start=1):
            nats, dimensions = run[f"information_{level}"], LATENTS * height**2
            own = {"level": level, "height": height, "dimensions": dimensions, "nats": nats}
            own["per_dimension"] = nats / dimensions
            rows.append({"setting": run["setting"], "seed": run["seed"], **own})
    return pd.DataFrame(rows)


@contextlib.contextmanager
def recording() -> Iterator[tuple[Accelerator, list[float]]]:
    """Make an accelerator, and the list in which it keeps the norm of every gradient."""
    with using() as accelerator:
        norms, clip = [], accelerator.clip_grad_norm_

        def record(parameters: Any, max_norm: float, norm_type: float = 2) -> Tensor:  # noqa: ANN401
            norm = clip(parameters, max_norm, norm_type)
            norms.append(norm.item())
            return norm

        accelerator.clip_grad_norm_ = record
        yield accelerator, norms


def describe(norms: Sequence[float], training: Training) -> Row:
    """Summarise the norms of the gradients of a run, in nats per example."""
    skipping = Skipping(training)
    finite = torch.tensor(norms, dtype=torch.float64)
    finite = finite[finite.isfinite()]
    median = finite.median().item()
    return {
        "first_norm": norms[0],
        "median_norm": median,
        "norm_999": finite.quantile(0.999).item(),
        "largest_norm": finite.max().item(),
        "spikes": int((finite > SPIKE * median).sum()),
        "not_finite": len(norms) - len(finite),
        "skipped": sum(not skipping.takes(torch.tensor(norm)) for norm in norms),
        "steps": len(norms),
    }


def judge(model: HierarchicalVAE, digits: data.DataSet) -> Row:
    """Evaluate a trained model: bounds and raw information per level, nats per example."""
    digits = digits.to(model.device)
    sampling = {"max_rows": MAX_ROWS}
    validation = evaluate(
        model, digits, split="validation", num_samples=VALIDATION_SAMPLES, **sampling
    )
    test = evaluate(model, digits, num_samples=NUM_SAMPLES, **sampling)
    information = [level.mean for level in test.information]
    return {
        "parameters": test.num_parameters,
        "validation_elbo": validation.elbo.mean,
        "elbo": test.elbo.mean,
        "elbo_error": test.elbo.standard_error,
        "iw": test.log_likelihood.mean,
        "iw_error": test.log_likelihood.standard_error,
        "reconstruction": test.reconstruction.mean,
        "idle": sum(nats < IDLE for nats in information),
        **{f"information_{level}": nats for level, nats in enumerate(information, start=1)},
        "data": test.data,
        "num_samples": test.num_samples,
        "device": model.device.type,
    }


def run(job: Row, experiment: str) -> Row:
    """Train and judge one model: its row of the table.

    A run whose objective is no longer finite ends there (``failed_epoch``, else 0) and is judged
    with its best weights.
    """
    digits, setting = data.load("digits"), SETTINGS[experiment][job["setting"]]
    model = build(setting.model, digits, seed=job["seed"])
    training = replace(TRAINING, **setting.training, seed=job["seed"])
    found, failed = [History()], 0
    with recording() as (accelerator, norms):
        try:
            fit(
                model,
                digits,
                training,
                objective=make_objective(setting.objective),
                accelerator=accelerator,
                progress=False,
                after_epoch=lambda epoch, model, history: found.append(history),
            )
        except FloatingPointError:
            failed = len(found)
    history = found[-1]
    curve = [
        value
        for _, split, quantity, _, value in history.rows
        if (split, quantity) == ("validation", "elbo")
    ]
    row = {"best_epoch": history.best_epoch, "failed_epoch": failed, **judge(model, digits)}
    row = rounded(row | describe(norms, training), 4)
    row["validation_curve"] = " ".join(f"{value:.2f}" for value in curve)
    row["norms"] = " ".join(f"{norm:.4g}" for norm in norms)
    return row


def start(job: Row) -> Row:
    """Judge one model before its first step: its row of the table.

    ``first_norm`` is that of the gradient of the mean bound of the first 100 training images,
    ``state_variance`` the variance of the state that the likelihood reads, over images, positions
    and channels.
    """
    digits = data.load("digits")
    setting = STARTS[job["levels"], job["normalisation"], job["setting"]]
    model = build(setting.model, digits, seed=job["seed"])
    x, states = digits.train.batch(slice(0, TRAINING.batch_size)), []
    model.top_down.likelihood.register_forward_pre_hook(lambda _, read: states.append(read[0]))
    torch.manual_seed(job["seed"])
    value = elbo(model(x), x).mean()
    value.backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    row = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "elbo": value.item(),
        "first_norm": torch.stack(norms).norm().item(),
        "state_variance": states[0].var().item(),
    }
    return rounded(row, 6)


def main(words: Sequence[str] | None = None) -> None:
    """Run what the table of an experiment does not hold yet, and print it."""
    parser = table_parser(__doc__)
    parser.add_argument("--experiment", choices=EXPERIMENTS, default="changes")
    given = parser.parse_args(words)
    name = given.experiment
    own: Callable[[Row], Row] = start if name == "starts" else partial(run, experiment=name)
    path, asked = given.table or table_of(name), jobs(name, given.seeds)
    table = run_all(own, asked, path, processes=given.processes)
    by = [key for key in asked[0] if key != "seed"]
    shown = ["elbo", "first_norm", "state_variance"]
    if name != "starts":
        shown = ["parameters", "best_epoch", "validation_elbo", "elbo", "iw", "idle", "spikes"]
    print(table.groupby(by, sort=False)[shown].agg(["mean", "std"]).round(2).to_string())


if __name__ == "__main__":
    main()
