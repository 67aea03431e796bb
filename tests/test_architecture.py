"""The package as a whole: who imports whom, how long a module is, what importing it changes."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hvae_course

PACKAGE = Path(hvae_course.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ALLOWED = {
    "atomic": set(),
    "claims": set(),
    "gaussians": set(),
    "nets": set(),
    "seeding": set(),
    "data": set(),
    "tensor_files": {"atomic"},
    "grey_values": {"gaussians"},
    "hierarchy": {"gaussians"},
    "compatibility": {"data", "hierarchy"},
    "likelihoods": {"gaussians", "grey_values"},
    "priors": {"gaussians"},
    "posteriors": {"gaussians", "hierarchy"},
    "objectives": {"hierarchy"},
    "training": {
        *("compatibility", "data", "hierarchy", "objectives", "seeding", "tensor_files"),
    },
    "analysis": {
        *("compatibility", "data", "gaussians", "hierarchy"),
        *("objectives", "seeding", "tensor_files"),
    },
    "oracles": {"gaussians", "hierarchy", "likelihoods", "posteriors", "priors"},
    "checks": {
        *("gaussians", "hierarchy", "likelihoods", "objectives"),
        *("oracles", "posteriors", "priors", "seeding"),
    },
    "plots": {"training"},
    "recipes": {
        *("data", "gaussians", "nets", "hierarchy"),
        *("likelihoods", "posteriors", "priors"),
    },
    "pretrained": {"data", "hierarchy", "objectives", "recipes", "training"},
    "cli": {
        *("analysis", "atomic", "compatibility", "data", "hierarchy", "nets", "objectives"),
        *("plots", "pretrained", "recipes", "seeding", "training"),
    },
    "__main__": {"cli"},
}
every_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)


def part(path: Path) -> str:
    """The first name below the package: a module or a subpackage."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Absolute dotted names of everything that a file imports, inside functions too."""
    package = ("hvae_course", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) + 1 - node.level]] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def arrows(path: Path) -> set[str]:
    """Parts of the package that a file imports from, its own left out."""
    names = [name.split(".") for name in imported(path)]
    return {name[1] for name in names if name[0] == "hvae_course" and len(name) > 1} - {part(path)}


def test_every_part_of_the_package_has_its_place_in_the_table():
    assert {part(path) for path in MODULES} - {"__init__"} == set(ALLOWED)


@every_module
def test_a_module_imports_only_what_its_place_allows(path):
    if part(path) == "__init__":
        return
    assert arrows(path) <= ALLOWED[part(path)]


def test_there_is_no_circle_among_the_parts():
    left = {name: set() for name in ALLOWED}
    for path in MODULES:
        if part(path) != "__init__":
            left[part(path)] |= arrows(path)
    while left:
        floor = {name for name, below in left.items() if not below & left.keys()}
        assert floor, f"these import each other: {left}"
        left = {name: below for name, below in left.items() if name not in floor}


@every_module
def test_the_package_imports_neither_its_tests_nor_the_book(path):
    outside = {"tests", "conftest", "book", "notebooks", "pytest"}
    assert not {name.split(".")[0] for name in imported(path)} & outside


@every_module
def test_a_module_has_at_most_300_lines_and_a_docstring(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    assert ast.get_docstring(parse(path))


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Public functions, classes and methods."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not node.name.startswith("_"):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    yield from public(node.body, f"{prefix}{node.name}.")


@every_module
def test_everything_public_has_a_docstring(path):
    missing = [name for name, node in public(parse(path).body) if not ast.get_docstring(node)]
    assert not missing


@every_module
def test_every_function_is_annotated_in_full(path):
    missing = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name == "_":  # a wrong answer, as a student writes it
                continue
            a = node.args
            arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
            named = [arg for arg in arguments if arg and arg.arg not in ("self", "cls")]
            if node.returns is None or any(arg.annotation is None for arg in named):
                missing.append(node.name)
    assert not missing


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name
)
def test_what_a_package_exports_is_sorted_and_there(path):
    name = ".".join(["hvae_course", *path.relative_to(PACKAGE).parts[:-1]])
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, exported) for exported in module.__all__)


IMPORT = """
import random, sys
import matplotlib, numpy, torch
from torch.distributions import Distribution

def state():
    return {
        "default dtype": torch.get_default_dtype(),
        "initial seed": torch.initial_seed(),
        "torch's random numbers": torch.get_rng_state().tolist(),
        "numpy's random numbers": str(numpy.random.get_state()),
        "Python's random numbers": random.getstate(),
        "plotting style": dict(matplotlib.rcParams.copy()),
        "validation of distributions": Distribution._validate_args,
        "gradients": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "precision of products": torch.get_float32_matmul_precision(),
        "number of threads": torch.get_num_threads(),
    }

torch.manual_seed(1234)
before = state()
import hvae_course
after = state()
changed = [name for name in before if before[name] != after[name]]
assert not changed, changed
assert "torchvision" not in sys.modules
"""


def test_importing_the_package_changes_nothing():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr


def test_the_package_asks_for_lower_bounds_only():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = text[text.index("[project]") : text.index("[tool.")]
    required = re.findall(r'^\s*(?:[a-z]+ = \[)?"([a-z]+[^"]*)"', project, flags=re.MULTILINE)
    assert len(required) >= 11
    assert all(re.fullmatch(r"[a-z-]+>=[\d.]+", requirement) for requirement in required)


def test_the_tested_set_is_exact_and_satisfies_the_lower_bounds():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    assert required
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", requirement) for requirement in required)

    def number(version: str) -> tuple[int, ...]:
        return tuple(int(digits) for digits in re.findall(r"\d+", version))

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lowest = dict(re.findall(r'"([a-z-]+)>=([\d.]+)"', text))
    exact = [requirement.split("==") for requirement in required]
    for name in lowest.keys() - {"setuptools"}:
        versions = [number(version) for known, version in exact if known == name]
        assert versions and min(versions) >= number(lowest[name]), name
