"""Whether an experiment was run as it should be.

The loop over settings and seeds is watched through functions that note what they are given.
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
    """One model, and what was done with it."""

    setting: dict[str, int]
    model: nn.Linear
    weight: Tensor
    """Weights as they were before training."""
    last_seed: int
    """Seed that was set last when the model was built."""
    trained: list[int] = field(default_factory=list)
    """Seeds of its trainings."""
    seed_in_training: int = 0
    """Seed that was set last when training began."""


def _linear(setting: Mapping[str, int]) -> nn.Linear:
    return nn.Linear(setting["levels"] + 1, setting["width"])


class _Watch:
    """The three functions of an experiment, with a record of their calls."""

    def __init__(self) -> None:
        self.runs: list[_Run] = []

    def build(self, setting: Mapping[str, int]) -> nn.Linear:
        if not isinstance(setting, Mapping):
            raise Mistake("build takes the whole setting, the dict, not one value out of it")
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
        """Numbers that no other run has, and another before training."""
        trained = bool(run.trained) if trained is None else trained
        return {"elbo": -100.0 - self.runs.index(run) - (0 if trained else 50), "kl": 7.5}

    def _find(self, model: object, name: str) -> _Run:
        if model is None:
            raise Mistake(
                f"{name} was given None; train returns nothing, it changes the model that it is "
                "given, so go on with what build returned"
            )
        for run in self.runs:
            if run.model is model:
                return run
        raise Mistake(f"{name} was given something that build has not made")


def judge_experiment(answer: Callable[..., object]) -> str:
    """Watch an experiment of tiny models.

    Args:
        answer: the student's ``experiment``.

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
    _judge_runs(watch.runs)
    if isinstance(rows, pd.DataFrame):
        rows = rows.to_dict("records")
    if isinstance(rows, Mapping):
        raise Mistake("this is one row; asked is the list of all, so append each to a list")
    if not isinstance(rows, list | tuple):
        raise Mistake(f"asked is a list of rows, your function gave {type(rows).__name__}")
    _judge_rows(list(rows), watch)
    return (
        f"{len(watch.runs)} runs of {len(_SETTINGS)} settings and {len(_SEEDS)} seeds: seeded "
        "before each is built, trained with their seed, measured after it, one row each"
    )


def _judge_runs(runs: list[_Run]) -> None:
    """Whether each setting has a model of its own for each seed, built and trained with it."""
    asked = len(_SETTINGS) * len(_SEEDS)
    trainings = sum(len(run.trained) for run in runs)
    if len(runs) < asked:
        if trainings >= asked:
            raise Mistake(
                "a model is trained on and on; call build for every setting and every seed"
            )
        if len(runs) == min(len(_SETTINGS), len(_SEEDS)):
            raise Mistake(
                "settings and seeds are paired; asked is every setting with every seed, a loop "
                "inside a loop"
            )
        hint = "; does return stand inside the loop?" if len(runs) == 1 else ""
        raise Mistake(f"build was called for {len(runs)} of {asked} runs{hint}")
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
                "the seed is set before some models only; set it again right before every build"
            )
        if late and seeds[0] is None:
            raise Mistake("the seed is set after build; the first weights must follow from it")
        raise Mistake(
            "the first weights do not follow from the seed; call torch.manual_seed(seed) right "
            "before build"
        )
    for run, seed in zip(runs, seeds, strict=True):
        if not run.trained:
            raise Mistake("a model was built, but never trained")
        if len(run.trained) > 1:
            raise Mistake(f"one model was trained {len(run.trained)} times; once is asked")
        if run.trained != [seed]:
            raise Mistake(
                f"train was given seed {run.trained[0]} for a model that was built with seed "
                f"{seed}; both get the same"
            )
    pairs = [(tuple(run.setting.items()), seed) for run, seed in zip(runs, seeds, strict=True)]
    if len(runs) != asked or len(set(pairs)) != asked:
        raise Mistake(f"asked is one run per setting and seed, {asked}; yours are {len(runs)}")


def _judge_rows(rows: list[object], watch: _Watch) -> None:
    """Whether the rows hold the settings, the seeds and the results that belong to them."""
    if len(rows) != len(watch.runs):
        hint = "; append every one to the list" if len(rows) < len(watch.runs) else ""
        raise Mistake(f"the list has {len(rows)} rows for {len(watch.runs)} runs{hint}")
    if not all(isinstance(row, Mapping) for row in rows):
        raise Mistake("every row should be a dict with the setting, the seed and the results")
    if len({id(row) for row in rows}) < len(rows):
        raise Mistake(
            "rows are one and the same dict, updated in place, so all show the last run; make a "
            "new dict for every run"
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
                f"rows lack {name} {', '.join(missing)}; a row is one flat dict, for which ** "
                "unpacks another"
            )
        if any(row[key] != row[key] for row in rows for key in keys):
            raise Mistake(f"rows hold values of {keys[0]} that are not finite")
    left = list(rows)
    for run in watch.runs:
        own = {**run.setting, "seed": run.trained[0]}
        found = [row for row in left if all(row[key] == own[key] for key in own)]
        if not found:
            raise Mistake(f"a row is missing, or there twice: {own}")
        left = [row for row in left if row is not found[0]]
        results = {key: found[0][key] for key in ("elbo", "kl")}
        if results == watch.results(run, trained=False):
            raise Mistake("a model was measured before it was trained")
        if results != watch.results(run):
            raise Mistake(f"the row {own} holds the results of another run")
