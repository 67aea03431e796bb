"""What the tests of every chapter's checks share: answers as parameters, and one judgement."""

import re
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from hvae_course.checks import Verdict


def define(code: str, name: str) -> Callable:
    """The function of that name that a source defines, as in a notebook that imports torch."""
    names = {"torch": torch}
    exec(compile(code, "<answer>", "exec"), names)
    return names[name]


def judge(
    checks: ModuleType, name: str, answer: Callable, capsys: pytest.CaptureFixture
) -> Verdict:
    """Run a check and hold it to what every check promises."""
    before = torch.get_rng_state()
    capsys.readouterr()
    verdict = getattr(checks, name)(answer)
    assert capsys.readouterr().out == f"{verdict}\n"
    assert "\n" not in str(verdict)
    assert verdict.exercise == name
    assert torch.equal(torch.get_rng_state(), before)
    return verdict


def right(chapter: ModuleType) -> Iterator:
    """Every solution of a chapter: name of the exercise, source."""
    for name, code in chapter.SOLUTIONS.items():
        yield pytest.param(name, code, id=name)
        for way, other in chapter.OTHERS[name].items():
            yield pytest.param(name, other, id=f"{name}-{way}".replace(" ", "-"))


def wrong(chapter: ModuleType) -> Iterator:
    """Every wrong answer of a chapter: name of the exercise, source, part of its hint."""
    for name, answers in chapter.WRONG.items():
        for number, (code, hint) in enumerate(answers, start=1):
            words = re.sub(r"\W+", "-", hint).strip("-")
            yield pytest.param(name, code, hint, id=f"{name}-{number}-{words}")


def not_a_number(value: object) -> object:
    """The same answer with NaN for every number."""
    if isinstance(value, Tensor):
        return value * torch.nan
    if isinstance(value, tuple | list):
        return [not_a_number(part) for part in value]
    return torch.nan


def unfinished(chapter: ModuleType) -> Iterator:
    """Answers that are no answers: name of the exercise, function, what the verdict says."""
    for name, stub in chapter.STUBS.items():
        solution = define(chapter.SOLUTIONS[name], name)
        failing = define(f"def {name}(*inputs):\n    raise KeyError('a\\nb')\n", name)
        yield pytest.param(name, define(stub, name), "^not written yet$", id=f"{name}-stub")
        yield pytest.param(name, lambda *inputs: None, "is None; does", id=f"{name}-none")
        yield pytest.param(
            name, failing, rf"raised KeyError.* line 2 of {name}$", id=f"{name}-error"
        )
        yield pytest.param(name, lambda: 0, "raised TypeError", id=f"{name}-no-arguments")
        yield pytest.param(
            name,
            lambda *inputs, solution=solution: not_a_number(solution(*inputs)),
            "not finite",
            id=f"{name}-nan",
        )
        yield pytest.param(name, lambda *inputs: "text", "should be", id=f"{name}-text")
