"""Test settings: seeds, and a table of the equations that are tested."""

import functools
import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

matplotlib.use("Agg")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that decide which notebooks run in full."""
    group = parser.getgroup("notebooks")
    about = "run every notebook in full, also those that hold the results of the present code"
    group.addoption("--all-notebooks", action="store_true", help=about)
    about = "run no notebook in full"
    group.addoption("--no-notebooks", action="store_true", help=about)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out notebooks that would give the results they hold; tests run them in small."""
    if collection_path.suffix != ".ipynb" or config.option.all_notebooks:
        return None
    # student copies run in the tests of the sheets; one also runs in a kernel
    if collection_path.parent.name == "student":
        return True if not collection_path.name.startswith("01") else config.option.no_notebooks
    return True if config.option.no_notebooks or _results().is_current(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no worker is left with one at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@functools.cache
def _results():  # noqa: ANN202
    spec = importlib.util.spec_from_file_location(
        "notebook_results", Path(__file__).parent / ".ci/notebook_results.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Give every test and doctest the same random numbers, whatever ran before it."""
    torch.manual_seed(0)
    yield
    plt.close("all")


def _labels(item: pytest.Item) -> list[str]:
    return [label for mark in item.iter_markers("equation") for label in mark.args]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the tests of each labelled equation after ``pytest -m equation``."""
    config = terminalreporter.config
    if "equation" not in (config.option.markexpr or ""):
        return
    tests = defaultdict(list)
    for item in getattr(config, "_equation_items", []):
        for label in _labels(item):
            tests[label].append(item.nodeid)
    terminalreporter.section("equations and the tests that check them")
    for label, names in sorted(tests.items()):
        terminalreporter.write_line(label)
        for name in names:
            terminalreporter.write_line(f"    {name}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember the selected equation tests for the summary."""
    session.config._equation_items = [item for item in session.items if _labels(item)]
