"""A browser for the tests of pages."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium; skip the test where it or Playwright is missing."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("page tests need Chromium")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
    yield browser
    browser.close()
    playwright.stop()


@contextmanager
def listening(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open a page in tabs of their own; what the browser complains of fails the test.

    Yields:
        Function that opens a tab; ``motion`` is "reduce" or "no-preference".
    """
    contexts, complaints = [], []

    def run(motion: str = "reduce", **options: Any) -> Any:
        context = browser.new_context(reduced_motion=motion, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(address)
        return tab

    yield run
    for context in contexts:
        context.close()
    assert not complaints
