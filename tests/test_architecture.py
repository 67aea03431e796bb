"""The package as a whole: who imports whom, what is documented, what importing it changes."""

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hvae_course

PACKAGE = Path(hvae_course.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ALLOWED = {
    name: set(below.split())
    for name, below in {
        "config": "",
        "claims": "",
        "gaussians": "",
        "nets": "",
        "convolutions": "nets",
        "masked": "nets",
        "autoregressive": "gaussians",
        "processes": "",
        "seeding": "",
        "data": "config files",
        "files": "config",
        "machine": "config",
        "grey_values": "gaussians",
        "hierarchy": "gaussians",
        "compatibility": "data hierarchy likelihoods recipes",
        "colours": "gaussians grey_values",
        "counts": "gaussians",
        "tables": "gaussians",
        "likelihoods": "autoregressive colours counts gaussians grey_values masked tables",
        "priors": "gaussians",
        "flows": "gaussians nets",
        "attention": "gaussians",
        "draw": "",
        "windows": "attention",
        "vector_flows": "flows gaussians masked",
        "splines": "gaussians nets vector_flows",
        "codes": "gaussians masked priors",
        "posteriors": "flows gaussians hierarchy",
        "objectives": "config hierarchy tables",
        "training": "compatibility config data files hierarchy machine objectives seeding",
        "analysis": "codes compatibility data files gaussians hierarchy seeding",
        "oracles": "flows gaussians hierarchy likelihoods posteriors priors vector_flows",
        "checks": "analysis codes colours config data gaussians hierarchy likelihoods objectives "
        "oracles posteriors priors recipes seeding training",
        "plots": "",
        "recipes": "codes config convolutions data draw flows gaussians hierarchy "
        "likelihoods nets posteriors priors splines vector_flows windows",
        "pretrained": "config data hierarchy objectives recipes training",
        "run_folder": "analysis compatibility config data files hierarchy machine objectives "
        "pretrained recipes training",
        "parsing": "config",
        "cli": "analysis config data files machine objectives parsing plots pretrained recipes "
        "run_folder seeding",
        "__main__": "cli",
    }.items()
}
"""What each part may import, from the ground floor up."""
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
    TopologicalSorter(ALLOWED).prepare()


@every_module
def test_the_package_imports_neither_its_tests_nor_the_book(path):
    outside = {"tests", "conftest", "book", "notebooks", "pytest"}
    assert not {name.split(".")[0] for name in imported(path)} & outside


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Public functions, classes and methods."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not node.name.startswith("_"):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    yield from public(node.body, f"{prefix}{node.name}.")


def dotted(path: Path) -> str:
    return ".".join(("hvae_course", *path.relative_to(PACKAGE).with_suffix("").parts))


@every_module
def test_everything_public_has_a_docstring_or_inherits_one(path):
    module = parse(path)
    assert ast.get_docstring(module)
    for name, node in public(module.body):
        if not ast.get_docstring(node):
            found = importlib.import_module(dotted(path))
            assert inspect.getdoc(functools.reduce(getattr, name.split("."), found)), name


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
    module = importlib.import_module(dotted(path).removesuffix(".__init__"))
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, exported) for exported in module.__all__)
    assert set(module.__all__) <= set(dir(module))


def test_what_is_imported_on_first_use_is_also_there_for_type_checkers():
    (block,) = [node for node in parse(PACKAGE / "__init__.py").body if isinstance(node, ast.If)]
    names = [alias.name for node in block.body for alias in node.names]
    assert sorted(names) == hvae_course.__all__
    with pytest.raises(AttributeError, match="module 'hvae_course' has no attribute 'nvae'"):
        hvae_course.nvae  # noqa: B018


IMPORT = """
import random, sys
import hvae_course.config
assert "torch" not in sys.modules
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
for name in hvae_course.__all__:
    getattr(hvae_course, name)
import hvae_course.cli, hvae_course.run_folder
after = state()
changed = [name for name in before if before[name] != after[name]]
assert not changed, changed
assert "torchvision" not in sys.modules
assert "zuko" not in sys.modules
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
