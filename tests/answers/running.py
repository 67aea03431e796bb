"""How the tests run answers: source into functions, and results of another precision."""

import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from hvae_course.checks import Verdict


def define(source: str, exercise: str) -> Callable[..., object]:
    """The function that a source defines, as if typed into a notebook."""
    names = {"__name__": "__main__", "torch": torch}
    exec(compile(source, "<notebook>", "exec"), names)
    return names[exercise]


def _mapped(value: object, change: Callable[[Tensor], Tensor]) -> object:
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(_mapped(part, change) for part in value)
    return value


def in_precision(answer: Callable[..., object], dtype: torch.dtype) -> Callable[..., object]:
    """An answer that computes in, and returns, one precision."""

    def cast(*inputs: object) -> object:
        inputs = [_mapped(part, lambda tensor: tensor.to(dtype)) for part in inputs]
        return _mapped(answer(*inputs), lambda tensor: tensor.to(dtype))

    return cast


def solutions(answers: ModuleType) -> dict[str, tuple[str, Callable[..., object]]]:
    """Right answers by a readable name: each solution in two precisions, and other ways."""
    table = {}
    for exercise, source in answers.SOLUTIONS.items():
        first = define(source, exercise)
        table[f"{exercise}-as it is"] = exercise, first
        for dtype in (torch.float32, torch.float64):
            name = f"{exercise}-{dtype}".replace("torch.", "")
            table[name] = exercise, in_precision(first, dtype)
        for way, other in answers.OTHERS[exercise].items():
            table[f"{exercise}-{way}"] = exercise, define(other, exercise)
    return table


def wrong(answers: ModuleType) -> dict[str, tuple[str, Callable[..., object], str]]:
    """Wrong answers by a readable name, each with a part of its hint."""
    table = {}
    for exercise, rows in answers.WRONG.items():
        for number, (source, hint) in enumerate(rows):
            name = f"{exercise}-{number}-{hint}"
            table[name] = exercise, define(source, exercise), hint
    return table


def with_nan(value: object) -> object:
    """The same result, all of it not a number."""
    if value is None or isinstance(value, int | float):
        return math.nan
    if isinstance(value, tuple | list):
        return type(value)(with_nan(part) for part in value)
    if isinstance(value, dict):
        return {key: with_nan(part) for key, part in value.items()}
    return torch.full_like(value, math.nan)


def judge(check: Callable[..., Verdict], answer: object, capsys) -> Verdict:
    """Run a check; it raises nothing, prints one line and leaves the random numbers alone."""
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    dtype = torch.get_default_dtype()
    verdict = check(answer)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == dtype
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(verdict)]
    assert printed.err == ""
    assert verdict.exercise == check.__name__
    return verdict
