"""Priors on pendulum images, whose true latent space is a circle: the table of chapters 6 and 7.

Run it with ``make pendulum``, or ``python -m benchmarks.pendulum``. It trains every model with
the same networks, budget and seeds, judges it on the test set by its weights of the best
validation epoch, and writes ``benchmarks/pendulum.csv``, with its configuration beside it in
``benchmarks/pendulum.json``. With ``--sensitivity`` it varies one constant at a time, judges on
the *validation* set, and writes ``benchmarks/pendulum_sensitivity.csv`` instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import latent_paths
from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import data, evaluate, fit, recipes
from hvae_course.config import Training, differences, plain
from hvae_course.files import read_json, write_json
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import (
    GECO,
    Constrained,
    Objective,
    ReWO,
    as_objective,
    elbo,
    importance_weighted,
)
from hvae_course.objectives.constrained import squared_error

ARCHITECTURE = {
    "latent_size": 2,
    "hidden": (128, 128),
    "normalisation": "none",
    "activation": "tanh",
    "likelihood_options": {"std": 0.2},
}
"""What all models share, chosen on the validation set with seeds 0 and 1."""
BUDGET = {
    "epochs": 30,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "prior_learning_rate": 3e-3,
    "decay": 0.3,
}
"""The same for every model."""
CONSTRAINT = {"kappa": 0.06, "beta": 0.01, "smoothing": 0.95}
"""Constants of ReWO; the rate and the slope are its defaults."""
GECO_CONSTRAINT = {"kappa": 0.053, "rule": GECO(0.3)}
"""What differs for GECO, chosen on the validation set like the others."""
SEEDS = (10, 11, 12, 13, 14)
"""None of them was used to choose a constant."""
SENSITIVITY_SEEDS = (0, 1)
NUM_SAMPLES, PRIOR_SAMPLES = 100, 64
"""K draws of z per test image, M draws of zeta per z, in the importance-weighted bound."""
EVALUATED = 500
"""Test images in the importance-weighted bound."""


@dataclass(frozen=True)
class Setting:
    """One model of a table: how it differs from the others."""

    prior: str = "vhp"
    prior_options: dict[str, Any] = field(default_factory=dict)
    constraint: dict[str, Any] | None = None
    """Settings of `hvae_course.objectives.constrained.Constrained`; None for the ELBO."""
    num_samples: int = 1
    """K of the importance-weighted objective; 1 is the ELBO."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """What differs from the shared architecture."""

    def objective(self) -> Objective:
        """What is maximised."""
        if self.constraint is not None:
            return Constrained(**self.constraint)
        return as_objective(elbo if self.num_samples == 1 else importance_weighted)

    def build(self, pendulum: data.DataSet, *, seed: int) -> HierarchicalVAE:
        """Build the untrained model with weights from a seed."""
        torch.manual_seed(seed)
        options = ARCHITECTURE | self.architecture
        return recipes.vae(pendulum, **options, prior=self.prior, prior_options=self.prior_options)


MODELS = {
    "VAE": Setting("standard"),
    "IWAE": Setting("standard", num_samples=16),
    "mixture": Setting("mixture"),
    "VampPrior": Setting("vamp"),
    "VHP": Setting("vhp"),
    "VHP, ReWO": Setting("vhp", constraint=CONSTRAINT),
    "VHP, GECO": Setting("vhp", constraint=CONSTRAINT | GECO_CONSTRAINT),
}
"""The table's rows."""


def _rewo(
    prior: dict[str, Any] | None = None,
    architecture: dict[str, Any] | None = None,
    **constraint: Any,  # noqa: ANN401
) -> Setting:
    return Setting("vhp", prior or {}, CONSTRAINT | constraint, architecture=architecture or {})


def _activation(prior: str, name: str, constraint: dict[str, Any] | None = None) -> Setting:
    return Setting(prior, constraint=constraint, architecture={"activation": name})


VARIATIONS = {
    "ReWO as in the table": _rewo(),
    "tau 1": _rewo(rule=ReWO(slope=1.0)),
    "tau 10": _rewo(rule=ReWO(slope=10.0)),
    "nu 0.01": _rewo(rule=ReWO(0.01)),
    "nu 1": _rewo(rule=ReWO(1.0)),
    "beta_0 0.001": _rewo(beta=0.001),
    "beta_0 0.1": _rewo(beta=0.1),
    "no first phase": _rewo(first_phase=False),
    "kappa 0.05": _rewo(kappa=0.05),
    "kappa 0.055": _rewo(kappa=0.055),
    "kappa 0.08": _rewo(kappa=0.08),
    "M 1": _rewo({"num_samples": 1}),
    "M 4": _rewo({"num_samples": 4}),
    "double loop, 1 inner step": _rewo(inner_steps=1),
    "double loop, 5 inner steps": _rewo(inner_steps=5),
    "sigma 0.1": _rewo(architecture={"likelihood_options": {"std": 0.1}}),
    "sigma 0.5": _rewo(architecture={"likelihood_options": {"std": 0.5}}),
    "sigma learned": _rewo(architecture={"likelihood_options": {"std": 0.2, "learned": True}}),
    "ReLU in the prior": _rewo({"activation": "relu"}),
    "ReLU elsewhere": _activation("vhp", "relu", CONSTRAINT),
    "SiLU elsewhere": _activation("vhp", "silu", CONSTRAINT),
    "VHP, ReLU elsewhere": _activation("vhp", "relu"),
    "VampPrior, ReLU": _activation("vamp", "relu"),
    "VAE, ReLU": _activation("standard", "relu"),
    "GECO, kappa 0.06": _rewo(**(GECO_CONSTRAINT | {"kappa": 0.06})),
    "GECO, no first phase": _rewo(**(GECO_CONSTRAINT | {"beta": 1.0, "first_phase": False})),
}
"""VHP with ReWO, one constant changed at a time, and what the models share changed for three."""


def train(setting: Setting, pendulum: data.DataSet, job: Row) -> tuple[HierarchicalVAE, Row]:
    """Train one model: itself, its bounds in nats per image, and the state of its constraint."""
    model, objective = setting.build(pendulum, seed=job["seed"]), setting.objective()
    training = Training(num_samples=setting.num_samples, **BUDGET, seed=job["seed"])
    history = fit(model, pendulum, training, objective=objective, progress=False)
    model = model.cpu()
    judged = pendulum.split(job["split"])
    torch.manual_seed(job["seed"])
    with torch.no_grad():
        trace = model(judged.pixels)
    some = replace(pendulum, **{job["split"]: judged.select(slice(0, EVALUATED))})
    if setting.prior == "vhp":  # the same for all, however many it was trained with
        model.prior.num_samples = PRIOR_SAMPLES
    bounds = evaluate(model, some, split=job["split"], num_samples=NUM_SAMPLES)
    row: Row = {
        "parameters": bounds.num_parameters,
        "best_epoch": history.best_epoch,
        "validation_elbo": history.best("elbo"),
        "error": squared_error(trace, judged.pixels).mean().item(),
        "elbo": bounds.elbo.mean,
        "iw": bounds.log_likelihood.mean,
        "iw_standard_error": bounds.log_likelihood.standard_error,
        "std": model.top_down.likelihood.log_std.exp().item(),
    }
    row |= {"met": None, "beta": 1.0, "moving_error": None}
    if isinstance(objective, Constrained):
        row |= {"met": objective.met, "beta": objective.beta.item()}
        row["moving_error"] = objective.average.item()
    return model, row


def run(job: Row) -> Row:
    """Train and judge one model: its row of the table."""
    pendulum = data.load("pendulum")
    model, row = train((MODELS | VARIATIONS)[job["model"]], pendulum, job)
    row |= latent_paths.judge(model, pendulum.train, pendulum.split(job["split"]))
    row["data"] = str(pendulum)
    return rounded(row, 5)


def configuration() -> dict[str, Any]:
    """Everything that the tables depend on, as plain values by name."""
    settings = {name: repr(setting) for name, setting in (MODELS | VARIATIONS).items()}
    measures = ("NODES", "PRUNED", "NEIGHBOURS", "PAIRS", "FRAMES", "JUMP", "CLEAN")
    return {
        "architecture": ARCHITECTURE,
        "budget": BUDGET,
        "seeds": {"table": SEEDS, "sensitivity": SENSITIVITY_SEEDS},
        "bound": {"draws": NUM_SAMPLES, "draws_of_zeta": PRIOR_SAMPLES, "images": EVALUATED},
        "measures": {name.lower(): getattr(latent_paths, name) for name in measures},
        "models": settings,
        "torch": torch.__version__,
    }


def keep_configuration(path: Path, beside: Path, now: dict[str, Any]) -> None:
    """Write the configuration beside a table, and refuse to continue a table of another one.

    Args:
        path: the table.
        beside: JSON file of the configuration.
        now: the configuration of this program.

    Raises:
        ValueError: if the table was made with another configuration.
    """
    if path.exists() and (before := read_json(beside)) is not None:
        if other := differences(before | {"torch": now["torch"]}, now):
            raise ValueError(
                f"{path} was made with other settings than those of this program: {other}; delete "
                f"it and {beside}, or name another file in another folder"
            )
    write_json(beside, now)


def main(words: Sequence[str] | None = None) -> None:
    """Train what the table does not hold yet, and print it."""
    parser = table_parser(__doc__)
    parser.add_argument("--sensitivity", action="store_true", help="vary one constant at a time")
    given = parser.parse_args(words)
    models, seeds, split, name = MODELS, SEEDS, "test", "pendulum"
    if given.sensitivity:
        models, seeds, split = VARIATIONS, SENSITIVITY_SEEDS, "validation"
        name = "pendulum_sensitivity"
    jobs = [
        {"model": model, "split": split, "seed": seed}
        for model in models
        for seed in given.seeds or seeds
    ]
    folder = Path(__file__).parent
    path = given.table or folder / f"{name}.csv"
    keep_configuration(path, path.with_name("pendulum.json"), plain(configuration()))
    table = run_all(run, jobs, path, processes=given.processes)
    shown = ["ring", "hole_ratio", "pruned_jumps", "pruned_angle_step", "unpruned_angle_step"]
    shown += ["codes_angle_step", "two_sample", "iw", "beta"]
    print(table.groupby("model", sort=False)[shown].median().round(3).to_string())
    parts = table[table.filter(like="_joined").min(axis=1) < 1]
    for row in parts.itertuples():
        print(f"a graph of {row.model}, seed {row.seed}, is in parts: not all pairs are joined")


if __name__ == "__main__":
    main()
