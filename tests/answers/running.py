"""How the tests run answers: those of a sheet, in another precision, and through a check."""

import ast
import copy
import functools
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import nbformat
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from hvae_course.checks import Verdict

Answer = Callable[..., object]
SHEETS = {
    path.stem[3:]: path
    for path in sorted((Path(__file__).parents[2] / "notebooks/exercises").glob("*.ipynb"))
}
"""Notebooks of the exercise sheets by the name of the module that checks them."""
_TORCH = {"torch": torch}


def name_of(source: str) -> str:
    """The first function or class that a source defines."""
    return re.search(r"^(?:def|class) (\w+)", source, re.MULTILINE)[1]


@functools.cache
def sources(sheet: str, tag: str) -> dict[str, str]:
    """The cells of a sheet with a tag that define a function, by its name."""
    cells = nbformat.read(SHEETS[sheet], as_version=4).cells
    return {name_of(c.source): c.source for c in cells if tag in c.metadata.get("tags", [])}


@functools.cache
def imported(sheet: str) -> dict[str, object]:
    """The names that a student finds in a sheet: imported, or in cells with the tag ``given``."""
    cells = nbformat.read(SHEETS[sheet], as_version=4).cells
    given = [c.source for c in cells if "given" in c.metadata.get("tags", [])]
    (cell,) = [c.source for c in cells if "imports" in c.metadata.get("tags", [])]
    body = ast.parse(re.sub(r"^%.*$", "", cell, flags=re.MULTILINE)).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {}
    exec("\n".join([ast.unparse(ast.Module(imports, [])), *given]), names)
    return names


def define(source: str, exercise: str, names: Mapping[str, object] = _TORCH) -> Answer:
    """The function that a source defines, as if typed into a notebook."""
    scope = {**names, "__name__": "__main__"}
    exec(compile(source, "<notebook>", "exec"), scope)
    return scope[exercise]


def solution(sheet: str, exercise: str) -> Answer:
    """The solution that a sheet gives, with its imports and its solutions to other exercises."""
    all_of_them = "\n\n".join(
        source for name, source in sources(sheet, "solution").items() if name != exercise
    )
    names = {**imported(sheet), "__name__": "__main__"}
    exec(all_of_them, names)
    return define(sources(sheet, "solution")[exercise], exercise, names)


def stub(sheet: str, exercise: str) -> Answer:
    """What a student finds in a sheet."""
    return define(sources(sheet, "exercise-stub")[exercise], exercise, imported(sheet))


def _mapped(value: object, change: Callable[[object], object]) -> object:
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, nn.Module):
        return change(copy.deepcopy(value))
    if isinstance(value, tuple | list):
        return type(value)(_mapped(part, change) for part in value)
    return value


def in_precision(answer: Answer, dtype: torch.dtype) -> Answer:
    """An answer that computes in, and returns, one precision; a class, whose models do."""
    if isinstance(answer, type):
        return lambda *parts: answer(*parts).to(dtype)

    def cast(*inputs: object) -> object:
        inputs = [_mapped(part, lambda tensor: tensor.to(dtype)) for part in inputs]
        usual = torch.get_default_dtype()
        torch.set_default_dtype(dtype)  # of noise that the answer draws
        try:
            return _mapped(answer(*inputs), lambda tensor: tensor.to(dtype))
        finally:
            torch.set_default_dtype(usual)

    return cast


def with_nan(value: object) -> object:
    """The same result, all of it not a number."""
    if value is None or isinstance(value, int | float):
        return math.nan
    if isinstance(value, tuple | list):
        return type(value)(with_nan(part) for part in value)
    if isinstance(value, dict):
        return {key: with_nan(part) for key, part in value.items()}
    if isinstance(value, Distribution):
        nothing = torch.full_like(value.mean, math.nan)
        return Independent(Normal(nothing, nothing, validate_args=False), 1, validate_args=False)
    if isinstance(value, nn.Module):
        value.register_forward_hook(lambda module, inputs, output: with_nan(output))
        return value
    if not value.is_floating_point():  # numbers of codes, which stay
        return value
    return torch.full_like(value, math.nan)


def run_check(check: Callable[..., Verdict], answer: object, capsys) -> Verdict:
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
