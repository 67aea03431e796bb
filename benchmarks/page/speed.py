"""How fast training is, for the results page, in ratios alone.

Every number and every verdict is computed from what ``python -m benchmarks.throughput`` wrote.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.page.published import table
from benchmarks.page.records import between, listing
from benchmarks.throughput import ratio

VARIANTS = {
    "textbook": "textbook loop",
    "ours": "`fit`",
    "ours, compiled": "`fit(compiled=True)`",
    "ours, captured": "`fit(compiled=True)`, captured",
    "ours, bf16": "`fit`, bfloat16",
    "bound": "bare matrix products",
}
"""What is timed, and what the page calls it."""
REFERENCES = {"textbook": "the textbook loop", "bound": "the bound"}
"""What goals are held against, and what the page calls it."""


def verdict(case: Mapping[str, Any]) -> str:
    """Say whether the goal of a model is met.

    Args:
        case: one of the cases in the file.

    Returns:
        A sentence.
    """
    goal, name = case["case"]["goal"], case["case"]["name"]
    against = REFERENCES[case["case"]["reference"]]
    if case["ratio"] is None:
        return f"For “{name}”, {against} could not be timed."
    met = "met" if case["ratio"] >= goal else "not met"
    return (
        f"Our goal for “{name}” is {goal} times {against}; "
        f"{VARIANTS[case['fastest']]} reaches {case['ratio']:.2f}: {met}."
    )


def speed_text(measured: Mapping[str, Any]) -> str:
    """Write how fast training is beside a textbook loop and beside the bound.

    Args:
        measured: what ``python -m benchmarks.throughput --out FILE`` wrote.

    Returns:
        Paragraphs and a table.
    """
    lines, compiling = [], []
    for case in measured["cases"]:
        timed = case["variants"]
        sizes = f"batch {case['case']['batch_size']}"
        for name, title in VARIANTS.items():
            if name not in timed:
                continue
            ratios = [ratio(timed, name, to) for to in REFERENCES]
            cells = ["" if value is None else f"{value:.2f}" for value in ratios]
            lines.append([f"{case['case']['name']}, {sizes}", title, *cells])
        if "ours, compiled" in timed:
            compiling.append(timed["ours, compiled"]["first_run_extra_seconds"])
    loads = [load for case in measured["cases"] for load in case["load"] if load is not None]
    machine = measured["machine"]
    where = f"{machine['device_name']}, {machine['threads']} threads"
    where += f", load {between(loads, 1)}" if loads else ""
    note = (
        f"Median over {measured['rounds']} rounds in which all variants take turns "
        f"({listing(sorted({case['data'] for case in measured['cases']}))}; {where})."
    )
    if compiling:
        note += f" Compilation takes {between(compiling, 0)} seconds at the start."
    header = ["model", "training with", "× textbook", "× bound"]
    return "\n\n".join(
        [
            table(header, lines, right=[2, 3]),
            note,
            " ".join(verdict(case) for case in measured["cases"]),
        ]
    )
