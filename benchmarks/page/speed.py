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
    "ours, compiled": "`fit`, compiled",
    "ours, captured": "`fit`, captured",
    "ours, bf16": "`fit`, bfloat16",
    "bound": "bound",
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
    best = VARIANTS[case["fastest"]]
    best += "," if "," in best else ""
    return (
        f"Our goal for “{name}” is {goal} times {against}; "
        f"{best} reaches {case['ratio']:.2f}: {met}."
    )


def speed_text(measured: Mapping[str, Any]) -> str:
    """Write how fast training is beside a textbook loop and beside the bound.

    Args:
        measured: what ``python -m benchmarks.throughput --out FILE`` wrote.

    Returns:
        Paragraphs and a table.
    """
    cases = measured["cases"]
    lines = []
    for name, title in VARIANTS.items():
        ratios = [ratio(c["variants"], name, c["case"]["reference"]) for c in cases]
        if any(ratios):
            cells = ["" if value is None else f"{value:.2f}" for value in ratios]
            lines.append([title, *cells])
    timed = [case["variants"] for case in cases]
    compiled = [of["ours, compiled"] for of in timed if "ours, compiled" in of]
    compiling = [of["first_run_extra_seconds"] for of in compiled]
    loads = [load for case in cases for load in case["load"] if load is not None]
    machine = measured["machine"]
    where = f"{machine['device_name']}, {machine['threads']} threads"
    where += f", load {between(loads, 1)}" if loads else ""
    note = (
        f"Median over {measured['rounds']} rounds in which all variants take turns "
        f"({listing(sorted({case['data'] for case in cases}))}; batches of "
        f"{listing([str(case['case']['batch_size']) for case in cases])}; {where})."
    )
    if compiling:
        note += f" Compilation takes {between(compiling, 0)} seconds at the start."
    given = [case["case"] for case in cases]
    header = ["trained with", *(f"{c['name']}, × {c['reference']}" for c in given)]
    return "\n\n".join(
        [
            table(header, lines, right=range(1, len(header))),
            note,
            " ".join(map(verdict, cases)),
        ]
    )
