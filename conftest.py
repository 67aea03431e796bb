"""Test settings: seeds, and a table of the equations that are tested."""

from collections import defaultdict
from collections.abc import Iterator

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

matplotlib.use("Agg")


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
