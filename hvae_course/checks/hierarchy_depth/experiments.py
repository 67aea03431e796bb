"""Whether the runs of an experiment are built, trained and measured correctly.

The functions that the loop over settings and seeds calls record their arguments.
"""

from collections.abc import Callable, Iterator, Mapping

import pandas as pd
import torch
from torch import nn

from hvae_course.checks.verdict import Answer, Mistake, checked

_SETTINGS = ({"levels": 1, "width": 4}, {"levels": 2, "width": 4}, {"levels": 2, "width": 3})
_SEEDS = (11, 5)
_NEEDED = len(_SETTINGS) * len(_SEEDS)


class _Model(nn.Linear):
    """A model that remembers how it was built and trained."""

    def __init__(self, setting: Mapping[str, int]) -> None:
        seed = torch.initial_seed()
        unused = torch.Generator().manual_seed(seed).get_state().equal(torch.get_rng_state())
        super().__init__(setting["levels"], setting["width"])
        self.setting = dict(setting)
        self.seed = seed if unused and seed in _SEEDS else None  # determines the weights
        self.trained: list[int] = []  # seeds
        self.seed_in_training = 0


class _Watch:
    """The three functions that an experiment calls, with a record of the models."""

    def __init__(self) -> None:
        self.models: list[_Model] = []

    def build(self, setting: Mapping[str, int]) -> _Model:
        if not isinstance(setting, Mapping):
            raise Mistake("build received one value; pass it the whole setting, the dict")
        self.models.append(_Model(setting))
        return self.models[-1]

    def train(self, model: _Model, seed: int) -> None:
        self._require_built(model, "train")
        model.trained.append(seed)
        model.seed_in_training = torch.initial_seed()
        torch.randn(1)

    def measure(self, model: _Model) -> dict[str, float]:
        self._require_built(model, "measure")
        return self.results(model, trained=bool(model.trained))

    def results(self, model: _Model, *, trained: bool) -> dict[str, float]:
        """Numbers that differ from model to model, and before and after training."""
        return {"elbo": -100.0 - self.models.index(model) - (0 if trained else 50), "kl": 7.5}

    def _require_built(self, model: object, name: str) -> None:
        if model is None:
            raise Mistake(
                f"{name} received None; train changes its model and returns nothing, so keep the "
                "model that build returned"
            )
        if not any(model is own for own in self.models):
            raise Mistake(f"{name} received something that build did not return")


@checked
def experiment(answer: Answer) -> str:
    """A run for every setting and every seed.

    Write ``experiment(settings, seeds, build, train, measure) -> list``. For every setting, a
    dict, and every seed, call ``torch.manual_seed(seed)``, then ``model = build(setting)``, then
    ``train(model, seed)``, which returns nothing, and add a row: a new dict with the setting,
    ``"seed"``, and the dict that ``measure(model)`` returns. Rows may come in any order.

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
    _check_models(watch.models)
    if isinstance(rows, pd.DataFrame):
        rows = rows.to_dict("records")
    if isinstance(rows, Mapping):
        raise Mistake("this is one row; return the list of all rows")
    if not isinstance(rows, list | tuple):
        raise Mistake(f"your function returned a {type(rows).__name__}; return a list of rows")
    _check_rows(list(rows), watch)
    return (
        f"{_NEEDED} runs of {len(_SETTINGS)} settings and {len(_SEEDS)} seeds: each is "
        "seeded, built, trained with its seed and measured, in this order, and has a row"
    )


def _check_models(models: list[_Model]) -> None:
    """Whether every setting has one model per seed, built and trained with that seed."""
    if len(models) < _NEEDED:
        if sum(len(model.trained) for model in models) >= _NEEDED:
            raise Mistake(
                "one model is trained again and again; call build for every setting and every seed"
            )
        if len(models) == min(len(_SETTINGS), len(_SEEDS)):
            raise Mistake(
                "settings and seeds are paired one to one; combine every setting with every seed, "
                "a loop inside a loop"
            )
        hint = "; is return inside the loop?" if len(models) == 1 else ""
        raise Mistake(f"build was called for {len(models)} of {_NEEDED} runs{hint}")
    if None in [model.seed for model in models]:
        if any(model.seed is not None for model in models):
            hint = "is set before some models only; set it directly before every build"
        elif all(model.seed_in_training in _SEEDS for model in models):
            hint = "is set after build; set it before, to determine the initial weights"
        else:
            hint = "does not determine the initial weights; set it directly before build"
        raise Mistake(f"the seed {hint}")
    for model in models:
        if not model.trained:
            raise Mistake("a model was built, but never trained")
        if model.trained != [model.seed]:
            seeds = ", ".join(map(str, model.trained))
            raise Mistake(
                f"train received seed {seeds} for a model that was built with seed {model.seed}; "
                "train it once, with the same seed"
            )
    pairs = {(*model.setting.items(), model.seed) for model in models}
    if not len(models) == len(pairs) == _NEEDED:
        raise Mistake(f"these are {len(models)} runs; make one per setting and seed, {_NEEDED}")


def _check_rows(rows: list[object], watch: _Watch) -> None:
    """Whether the rows hold the settings, the seeds and the results that belong to them."""
    if len(rows) != _NEEDED:
        hint = "; append every row to the list" if len(rows) < _NEEDED else ""
        raise Mistake(f"the list has {len(rows)} rows for {_NEEDED} runs{hint}")
    if not all(isinstance(row, Mapping) for row in rows):
        raise Mistake("every row should be a dict with the setting, the seed and the results")
    if len({id(row) for row in rows}) < len(rows):
        raise Mistake(
            "all rows are the same dict, updated in place, so all show the last run; make a new "
            "dict for every run"
        )
    for model in watch.models:
        own, results = {**model.setting, "seed": model.seed}, watch.results(model, trained=True)
        missing = [key for key in own | results if any(key not in row for row in rows)]
        if missing:
            raise Mistake(
                f"rows lack {', '.join(missing)}; a row is one flat dict with the setting, the "
                "seed and what measure returns; ** unpacks a dict into another"
            )
        if any(row[key] != row[key] for row in rows for key in own | results):
            raise Mistake("rows hold values that are not finite")
        found = [row for row in rows if all(row[key] == own[key] for key in own)]
        if len(found) != 1:
            raise Mistake(f"a row is missing or occurs twice: {own}")
        measured = {key: found[0][key] for key in results}
        if measured == watch.results(model, trained=False):
            raise Mistake("a model was measured before it was trained")
        if measured != results:
            raise Mistake(f"the row {own} holds the results of another run")


def _same(part: object) -> object:
    return part


def _experiment(
    order: str = "seed build train measure",
    *,
    build: Callable[[Answer], Answer] = _same,
    train: Callable[[Answer], Answer] = _same,
    measure: Callable[[Answer], Answer] = _same,
    rows: Callable[[list[dict]], object] = _same,
) -> Answer:
    """An answer with its steps in some order, and a change of its functions or of its rows."""

    def answer(settings: list[dict], seeds: list[int], *functions: Answer) -> object:
        changes, table = (build, train, measure), []
        own_build, own_train, own_measure = (c(f) for c, f in zip(changes, functions, strict=True))
        for setting in settings:
            for seed in seeds:
                for step in order.split():
                    if step == "seed":
                        torch.manual_seed(seed)
                    elif step == "build":
                        model = own_build(setting)
                    elif step == "train":
                        own_train(model, seed)
                    else:
                        table.append({**setting, "seed": seed, **own_measure(model)})
        return rows(table)

    return answer


_right = _experiment()


def _without(*keys: str) -> Answer:
    """An answer whose rows lack some keys."""
    return _experiment(
        rows=lambda rows: [{k: row[k] for k in row if k not in keys} for row in rows]
    )


def _one_model(settings: list[dict], seeds: list[int], build: Answer, *others: Answer) -> object:
    model = build(settings[0])
    return _right(settings, seeds, lambda setting: model, *others)


for _hint, _answer in {
    "the seed is set after build": _experiment("build seed train measure"),
    "does not determine the initial weights": _experiment("build train measure"),
    "is set before some models only": lambda settings, seeds, *functions: (
        torch.manual_seed(seeds[0])
        and _experiment("build train measure")(settings, seeds, *functions)
    ),
    "a model was built, but never trained": _experiment("seed build measure"),
    "a model was measured before it was trained": _experiment("seed build measure train"),
    "train received seed 0": _experiment(train=lambda f: lambda model, seed: f(model, 0)),
    "measure received None": _experiment(measure=lambda f: lambda model: f(None)),
    "pass it the whole setting": _experiment(build=lambda f: lambda setting: f(setting["levels"])),
    "a setting was changed": _experiment(
        build=lambda f: lambda setting: setting.update(seed=5) or f(setting)
    ),
    "one model is trained again and again": _one_model,
    "model is trained again and again; call build": lambda settings, *others: [
        row for setting in settings for row in _one_model([setting], *others)
    ],
    "settings and seeds are paired": lambda settings, seeds, *functions: [
        _right([setting], [seed], *functions)[0]
        for setting, seed in zip(settings, seeds, strict=False)
    ],
    "is return inside the loop?": lambda settings, seeds, *functions: _right(
        settings[:1], seeds[:1], *functions
    ),
    "holds the results of another run": _experiment(
        rows=lambda rows: [{**row, "elbo": rows[0]["elbo"]} for row in rows]
    ),
    "this is one row": _experiment(rows=lambda rows: rows[-1]),
    "append every row": _experiment(rows=lambda rows: rows[-1:]),
    "all rows are the same dict": _experiment(rows=lambda rows: [rows[-1]] * len(rows)),
    "this is a generator": _experiment(rows=iter),
    "rows lack levels, width": _without("levels", "width"),
    "rows lack seed": _without("seed"),
    "rows lack elbo, kl": _without("elbo", "kl"),
    "what measure returns; ** unpacks": _experiment(
        measure=lambda f: lambda model: {"results": f(model)}
    ),
}.items():
    experiment.mistake(_hint)(_answer)
