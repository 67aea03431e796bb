"""Whether the runs of an experiment were built, trained and measured correctly.

The functions that the loop over settings and seeds calls record their arguments.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn

from hvae_course.checks.verdict import Mistake

_SETTINGS = ({"levels": 1, "width": 4}, {"levels": 2, "width": 4}, {"levels": 2, "width": 3})
_SEEDS = (11, 5)


@dataclass(eq=False)
class _Run:
    """One model and the calls that concern it."""

    setting: dict[str, int]
    model: nn.Linear
    weight: Tensor
    """Weights as they were before training."""
    last_seed: int
    """The seed that was set when the model was built."""
    trained: list[int] = field(default_factory=list)
    """Seeds with which it was trained."""
    seed_in_training: int = 0
    """The seed that was set when training began."""


def _linear(setting: Mapping[str, int]) -> nn.Linear:
    return nn.Linear(setting["levels"] + 1, setting["width"])


class _Watch:
    """The three functions that an experiment calls, with a record of the calls."""

    def __init__(self) -> None:
        self.runs: list[_Run] = []

    def build(self, setting: Mapping[str, int]) -> nn.Linear:
        if not isinstance(setting, Mapping):
            raise Mistake("build received one value; pass it the whole setting, the dict")
        model = _linear(setting)
        weight = model.weight.detach().clone()
        self.runs.append(_Run(dict(setting), model, weight, torch.initial_seed()))
        return model

    def train(self, model: nn.Linear, seed: int) -> None:
        run = self._find(model, "train")
        run.trained.append(seed)
        run.seed_in_training = torch.initial_seed()
        with torch.no_grad():
            model.weight.normal_()

    def measure(self, model: nn.Linear) -> dict[str, float]:
        return self.results(self._find(model, "measure"))

    def results(self, run: _Run, *, trained: bool | None = None) -> dict[str, float]:
        """Numbers that differ from run to run, and before and after training."""
        trained = bool(run.trained) if trained is None else trained
        return {"elbo": -100.0 - self.runs.index(run) - (0 if trained else 50), "kl": 7.5}

    def _find(self, model: object, name: str) -> _Run:
        if model is None:
            raise Mistake(
                f"{name} received None; train changes its model and returns nothing, so keep the "
                "model that build returned"
            )
        for run in self.runs:
            if run.model is model:
                return run
        raise Mistake(f"{name} received something that build did not return")


def check_experiment(answer: Callable[..., object]) -> str:
    """Check the runs of an experiment with tiny models.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    watch, settings = _Watch(), [dict(setting) for setting in _SETTINGS]
    rows = answer(list(settings), list(_SEEDS), watch.build, watch.train, watch.measure)
    if settings != list(_SETTINGS):
        raise Mistake("a setting was changed; make a new dict for a row, such as {**setting, ...}")
    if rows is None:
        raise Mistake("the list of rows is None; does your function end with return?")
    if isinstance(rows, Iterator):
        raise Mistake("this is a generator, which has not run yet; return a list")
    _check_runs(watch.runs)
    if isinstance(rows, pd.DataFrame):
        rows = rows.to_dict("records")
    if isinstance(rows, Mapping):
        raise Mistake("this is one row; return the list of all rows")
    if not isinstance(rows, list | tuple):
        raise Mistake(f"your function returned a {type(rows).__name__}; return a list of rows")
    _check_rows(list(rows), watch)
    return (
        f"{len(watch.runs)} runs of {len(_SETTINGS)} settings and {len(_SEEDS)} seeds: each is "
        "seeded, built, trained with its seed and measured, in this order, and has a row"
    )


def _check_runs(runs: list[_Run]) -> None:
    """Whether every setting has one model per seed, built and trained with that seed."""
    needed = len(_SETTINGS) * len(_SEEDS)
    trainings = sum(len(run.trained) for run in runs)
    if len(runs) < needed:
        if trainings >= needed:
            raise Mistake(
                "one model is trained again and again; call build for every setting and every seed"
            )
        if len(runs) == min(len(_SETTINGS), len(_SEEDS)):
            raise Mistake(
                "settings and seeds are paired one to one; combine every setting with every seed, "
                "a loop inside a loop"
            )
        hint = "; is return inside the loop?" if len(runs) == 1 else ""
        raise Mistake(f"build was called for {len(runs)} of {needed} runs{hint}")
    seeds = []
    for run in runs:
        known = []
        for seed in _SEEDS:
            torch.random.default_generator.manual_seed(seed)
            if torch.equal(_linear(run.setting).weight, run.weight):
                known.append(seed)
        seeds.append(known[0] if known else None)
    if None in seeds:
        late = all(run.seed_in_training in _SEEDS for run in runs)
        if any(seed is not None for seed in seeds):
            raise Mistake(
                "the seed is set before some models only; set it directly before every build"
            )
        if late and seeds[0] is None:
            raise Mistake(
                "the seed is set after build; set it before, to determine the initial weights"
            )
        raise Mistake(
            "the seed does not determine the initial weights; call torch.manual_seed(seed) "
            "directly before build"
        )
    for run, seed in zip(runs, seeds, strict=True):
        if not run.trained:
            raise Mistake("a model was built, but never trained")
        if len(run.trained) > 1:
            raise Mistake(f"one model was trained {len(run.trained)} times; train it once")
        if run.trained != [seed]:
            raise Mistake(
                f"train received seed {run.trained[0]} for a model that was built with seed "
                f"{seed}; use the same seed for both"
            )
    pairs = [(tuple(run.setting.items()), seed) for run, seed in zip(runs, seeds, strict=True)]
    if len(runs) != needed or len(set(pairs)) != needed:
        raise Mistake(f"these are {len(runs)} runs; make one per setting and seed, {needed}")


def _check_rows(rows: list[object], watch: _Watch) -> None:
    """Whether the rows hold the settings, the seeds and the results that belong to them."""
    if len(rows) != len(watch.runs):
        hint = "; append every row to the list" if len(rows) < len(watch.runs) else ""
        raise Mistake(f"the list has {len(rows)} rows for {len(watch.runs)} runs{hint}")
    if not all(isinstance(row, Mapping) for row in rows):
        raise Mistake("every row should be a dict with the setting, the seed and the results")
    if len({id(row) for row in rows}) < len(rows):
        raise Mistake(
            "all rows are the same dict, updated in place, so all show the last run; make a new "
            "dict for every run"
        )
    parts = {
        "values of the setting,": list(_SETTINGS[0]),
        "the": ["seed"],
        "what measure returns,": ["elbo", "kl"],
    }
    for name, keys in parts.items():
        missing = [key for key in keys if any(key not in row for row in rows)]
        if missing:
            raise Mistake(
                f"rows lack {name} {', '.join(missing)}; a row is one flat dict, into which ** "
                "unpacks another"
            )
        if any(row[key] != row[key] for row in rows for key in keys):
            raise Mistake(f"rows hold values of {keys[0]} that are not finite")
    left = list(rows)
    for run in watch.runs:
        own = {**run.setting, "seed": run.trained[0]}
        found = [row for row in left if all(row[key] == own[key] for key in own)]
        if not found:
            raise Mistake(f"a row is missing or occurs twice: {own}")
        left = [row for row in left if row is not found[0]]
        results = {key: found[0][key] for key in ("elbo", "kl")}
        if results == watch.results(run, trained=False):
            raise Mistake("a model was measured before it was trained")
        if results != watch.results(run):
            raise Mistake(f"the row {own} holds the results of another run")
