"""Priors on poses of human motion: the second table of chapter 7.

Run it with ``make motion``, or ``python -m benchmarks.motion``. The recordings are those of the
folder ``cmu`` in ``HVAE_DATA`` (see `hvae_course.data.load_motion`). Every model has the same
networks, budget and seeds; it is judged on held-out recordings by its weights of the best
validation epoch. The table is ``benchmarks/motion.csv``, with its configuration beside it in
``benchmarks/motion.json``. With ``--sensitivity`` one setting is changed at a time, judged on the
*validation* recordings, and the table is ``benchmarks/motion_sensitivity.csv``.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from benchmarks.latent_paths import FRAMES, NEIGHBOURS, NODES, PAIRS, PRUNED, two_sample_accuracy
from benchmarks.pendulum import NUM_SAMPLES, PRIOR_SAMPLES, Setting, keep_configuration
from benchmarks.runs import Row, rounded, run_all, table_parser
from hvae_course import data, evaluate, fit
from hvae_course.analysis import LatentGraph, latent_graph, prune_sparse, resample, smoothness
from hvae_course.analysis.latent_graph import NoPathError
from hvae_course.config import Training, plain
from hvae_course.data.kinematics import joint_steps
from hvae_course.data.motion import MotionSet
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import Constrained

ARCHITECTURE = {
    "latent_size": 2,
    "hidden": (128, 128),
    "normalisation": "none",
    "activation": "tanh",
    "likelihood_options": {"std": 0.5},
}
"""What all models share, chosen on the validation recordings with seed 0; sigma is near the one
that is learned."""
BUDGET = {
    "epochs": 40,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "prior_learning_rate": 3e-3,
    "decay": 0.3,
}
"""The same for every model."""
CONSTRAINT = {"kappa": 0.48, "beta": 0.01, "smoothing": 0.95}
"""Constants of ReWO, chosen like the architecture; rate and slope are its defaults."""
SEEDS = (10, 11, 12, 13, 14)
"""None of them was used to choose a constant."""
SENSITIVITY_SEEDS = (0, 1)
"""Seeds of the variations."""
EVALUATED = 200
"""Frames of each motion in the bounds, at equal distances in time."""
JUMP = 20.0
"""Degrees; a joint that turns farther between two frames of a path jumps."""

MODELS = {
    "VAE": Setting("standard"),
    "IWAE": Setting("standard", num_samples=16),
    "VHP": Setting("vhp"),
    "VHP, ReWO": Setting("vhp", constraint=CONSTRAINT),
}
"""The table's rows."""


def _shared(name: str, **architecture: object) -> dict[str, Setting]:
    """The same change for the models that the source compares."""
    changed = {"VAE": MODELS["VAE"], "VHP, ReWO": MODELS["VHP, ReWO"]}
    return {
        f"{model}, {name}": replace(setting, architecture=architecture)
        for model, setting in changed.items()
    }


VARIATIONS = {
    "VAE, as in the table": MODELS["VAE"],
    "VHP, ReWO, as in the table": MODELS["VHP, ReWO"],
    **_shared("sigma 0.2", likelihood_options={"std": 0.2}),
    **_shared("ReLU", activation="relu"),
}
"""What the models share, changed one at a time for two of them."""


def folder() -> Path:
    """Where the recordings are.

    Raises:
        FileNotFoundError: if the variable ``HVAE_DATA`` names no folder that holds them.
    """
    place = Path(os.environ.get("HVAE_DATA") or ".") / "cmu"
    if not place.is_dir():
        raise FileNotFoundError(
            f"there are no recordings at {place}; set HVAE_DATA to the folder that holds cmu/"
        )
    return place


@cache
def recordings() -> tuple[MotionSet, data.DataSet]:
    """The poses, and the data set made of them."""
    return data.motion.gather(folder()), data.load_motion(folder())


def train(job: Row) -> tuple[HierarchicalVAE, Any, Any]:
    """Train one model: it, its objective and its history."""
    setting = (MODELS | VARIATIONS)[job["model"]]
    setting = replace(setting, architecture=ARCHITECTURE | setting.architecture)
    _, poses = recordings()
    model, objective = setting.build(poses, seed=job["seed"]), setting.objective()
    training = Training(num_samples=setting.num_samples, **BUDGET, seed=job["seed"])
    history = fit(model, poses, training, objective=objective, progress=False)
    if setting.prior == "vhp":  # the same for all, however many it was trained with
        model.prior.num_samples = PRIOR_SAMPLES
    return model.cpu().eval(), objective, history


def even(split: data.Split, number: int) -> Tensor:
    """Rows of a split: the same number of frames of every motion, at equal distances in time."""
    rows = [(split.labels == label).nonzero()[:, 0] for label in split.labels.unique()]
    return torch.cat([row[torch.linspace(0, len(row) - 1, number).long()] for row in rows])


def pairs(labels: Tensor, number: int, *, seed: int = 0) -> Tensor:
    """Pairs of frames of two motions, every two motions equally often, ``(number, 2)``."""
    motions = torch.combinations(labels.unique())
    generator = torch.Generator().manual_seed(seed)

    def one(label: Tensor) -> Tensor:
        rows = (labels == label).nonzero()[:, 0]
        return rows[torch.randint(len(rows), (), generator=generator)]

    chosen = (motions[i % len(motions)] for i in range(number))
    return torch.stack([torch.stack([one(a), one(b)]) for a, b in chosen])


@dataclass(frozen=True)
class Walker:
    """What is needed to measure paths through the latent space of one model."""

    model: HierarchicalVAE
    motions: MotionSet
    ends: Tensor
    """Codes that are joined, ``(P, 2, 2)``."""
    recorded: Tensor
    """Poses of the training recordings, standardised, ``(N, D)``."""

    @torch.no_grad()
    def decode(self, nodes: Tensor) -> Tensor:
        """Poses at equal distances along a path, standardised, ``(FRAMES, D)``."""
        return self.model.top_down.likelihood(resample(nodes, num_points=FRAMES)).mean

    def nodes(self, graph: LatentGraph | None, ends: Tensor) -> Tensor | None:
        """Corners of the path between two codes; None if no path joins them."""
        if graph is None:
            return ends
        try:
            return graph.path(*ends).nodes
        except NoPathError:
            return None

    def judge(self, graph: LatentGraph | None, *, name: str) -> Row:
        """Join the pairs and measure their paths, means over the pairs that are joined.

        ``joint_step`` is the largest turn of a joint between two frames of a path in degrees,
        ``jumps`` the share of paths on which it exceeds ``JUMP``, ``jump_ratio`` and
        ``second_difference`` are those of :eq:`eq-smoothness`, and ``off_recorded`` is the
        distance of the worst frame from the nearest recorded pose, in degrees, root mean square
        over the angles that move.
        """
        paths = [self.nodes(graph, ends) for ends in self.ends]
        frames = [self.decode(nodes) for nodes in paths if nodes is not None]
        row: Row = {f"{name}_joined": len(frames) / len(paths)}
        if not frames:
            return row
        turns = torch.stack([joint_steps(self.motions.rotations(f)).amax() for f in frames])
        scale = self.motions.std.float().rad2deg()
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(self.recorded * scale)
        every = torch.cat(frames) * scale
        away = torch.from_numpy(nearest.kneighbors(every)[0]).view(len(frames), -1)
        smooth = [smoothness(f) for f in frames]
        values = {
            "joint_step": turns.mean().item(),
            "jumps": (turns > JUMP).double().mean().item(),
            "off_recorded": (away.amax(dim=1) / math.sqrt(len(scale))).mean().item(),
            "jump_ratio": float(np.mean([s.jump_ratio for s in smooth])),
            "second_difference": float(np.mean([s.second_difference for s in smooth])),
        }
        return row | {f"{name}_{column}": value for column, value in values.items()}


@torch.no_grad()
def judge(model: HierarchicalVAE, split: str, *, seed: int = 0) -> Row:
    """Every measure of a latent space, the same for every model.

    Nearest neighbour names the motion of held-out frames, in the latent space and among the poses
    themselves (mean over the motions); a classifier tells prior samples from codes of training
    and of held-out frames; paths between two motions through graphs on pruned prior samples, on
    all of them, on codes of training frames, and straight lines.
    """
    motions, poses = recordings()
    torch.manual_seed(seed)
    train_split, judged = poses.train, poses.split(split)
    codes, held = (model.encode_top(s.pixels) for s in (train_split, judged))
    prior = model.top_prior().sample((NODES,))
    some = torch.randperm(len(train_split))[:NODES]
    drawn = codes.sample()[some]
    row: Row = {}
    spaces = {"latent": (codes.mean, held.mean), "poses": (train_split.pixels, judged.pixels)}
    for name, (known, asked) in spaces.items():
        classifier = KNeighborsClassifier(1).fit(known.numpy(), train_split.labels.numpy())
        named = classifier.predict(asked.numpy())
        row[f"{name}_accuracy"] = balanced_accuracy_score(judged.labels.numpy(), named)
    balanced = even(judged, EVALUATED)
    row["two_sample_train"] = two_sample_accuracy(prior, drawn)
    row["two_sample"] = two_sample_accuracy(prior, held.sample()[balanced])
    error = (model.top_down.likelihood(held.mean).mean - judged.pixels)[balanced]
    row["error"] = error.square().mean().item()
    degrees = (error * motions.std.float().rad2deg()).square().mean().sqrt()
    row["error_degrees"] = degrees.item()
    walker = Walker(model, motions, held.mean[pairs(judged.labels, PAIRS)], train_split.pixels)
    graphs = {"pruned": prune_sparse(prior, share=PRUNED), "unpruned": prior, "codes": drawn}
    for name, points in graphs.items():
        row |= walker.judge(latent_graph(points, k=NEIGHBOURS), name=name)
    return row | walker.judge(None, name="line")


def run(job: Row) -> Row:
    """Train and judge one model: its row of the table; bounds in nats per frame."""
    model, objective, history = train(job)
    _, poses = recordings()
    judged = poses.split(job["split"])
    some = replace(poses, **{job["split"]: judged.select(even(judged, EVALUATED))})
    torch.manual_seed(job["seed"])
    bounds = evaluate(model, some, split=job["split"], num_samples=NUM_SAMPLES)
    row: Row = {
        "parameters": bounds.num_parameters,
        "best_epoch": history.best_epoch,
        "validation_elbo": history.best("elbo"),
        "elbo": bounds.elbo.mean,
        "reconstruction": bounds.reconstruction.mean,
        "iw": bounds.log_likelihood.mean,
        "iw_standard_error": bounds.log_likelihood.standard_error,
        "met": None,
        "beta": 1.0,
        "moving_error": None,
    }
    if isinstance(objective, Constrained):
        row |= {"met": objective.met, "beta": objective.beta.item()}
        row["moving_error"] = objective.average.item()
    return rounded(row | judge(model, job["split"]), 5)


def configuration() -> dict[str, Any]:
    """Everything that the tables depend on, as plain values by name."""
    _, poses = recordings()
    return {
        "data": {"set": str(poses), "fingerprint": poses.fingerprint()},
        "architecture": ARCHITECTURE,
        "budget": BUDGET,
        "seeds": {"table": SEEDS, "sensitivity": SENSITIVITY_SEEDS},
        "bound": {"draws": NUM_SAMPLES, "draws_of_zeta": PRIOR_SAMPLES, "frames": EVALUATED},
        "measures": {
            "nodes": NODES,
            "pruned": PRUNED,
            "neighbours": NEIGHBOURS,
            "pairs": PAIRS,
            "frames": FRAMES,
            "jump": JUMP,
        },
        "models": {name: repr(setting) for name, setting in (MODELS | VARIATIONS).items()},
        "torch": torch.__version__,
    }


def main(words: Sequence[str] | None = None) -> None:
    """Train what the table does not hold yet, and print it."""
    parser = table_parser(__doc__)
    parser.add_argument("--sensitivity", action="store_true", help="change one setting at a time")
    given = parser.parse_args(words)
    models, seeds, split, name = MODELS, SEEDS, "test", "motion"
    if given.sensitivity:
        models, seeds, split = VARIATIONS, SENSITIVITY_SEEDS, "validation"
        name = "motion_sensitivity"
    jobs = [
        {"model": model, "split": split, "seed": seed}
        for model in models
        for seed in given.seeds or seeds
    ]
    path = given.table or Path(__file__).parent / f"{name}.csv"
    keep_configuration(path, path.with_name("motion.json"), plain(configuration()))
    table = run_all(run, jobs, path, processes=given.processes)
    shown = ["latent_accuracy", "two_sample_train", "pruned_joint_step", "pruned_jumps"]
    shown += ["line_joint_step", "line_jumps", "pruned_off_recorded", "iw", "beta"]
    print(table.groupby("model", sort=False)[shown].median().round(3).to_string())


if __name__ == "__main__":
    main()
