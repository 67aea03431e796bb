"""What the results page says about speed: ratios of the timed rounds, and verdicts."""

import pytest

from benchmarks.page.speed import speed_text


def timed_case(reference, goal, fastest, **speeds):
    """A case as the benchmark writes it, each variant with its images per second in two rounds."""
    names = {"compiled": "ours, compiled"}
    variants = {
        names.get(name, name): {"rounds": rounds, "first_run_extra_seconds": 12.4}
        for name, rounds in speeds.items()
    }
    ratios = [a / b for a, b in zip(speeds["compiled"], speeds[reference], strict=True)]
    return {
        "case": {"name": "a model", "batch_size": 8, "reference": reference, "goal": goal},
        "variants": variants,
        "fastest": fastest,
        "ratio": sum(ratios) / 2,
        "load": [0.5, None],
        "data": "MNIST",
    }


@pytest.mark.parametrize(("goal", "words"), [(2.5, "3.00: met."), (3.5, "3.00: not met.")])
def test_speed_is_told_in_ratios_round_by_round_with_its_verdict(goal, words):
    speeds = {"textbook": [100.0, 50.0], "compiled": [300.0, 150.0], "bound": [400.0, 300.0]}
    case = timed_case("textbook", goal, "ours, compiled", **speeds)
    machine = {"device_name": "a machine", "threads": 2}
    text = speed_text({"cases": [case], "machine": machine, "rounds": 2})
    assert "| trained with | a model, × textbook |" in text
    assert "| textbook loop | 1.00 |" in text
    assert "| `fit`, compiled | 3.00 |" in text
    assert "| bound | 5.00 |" in text  # of 4 and 6
    assert f"is {goal} times the textbook loop; `fit`, compiled, reaches {words}" in text
    assert "(MNIST; batches of 8; a machine, 2 threads, load 0.5). Compilation takes 12" in text


def test_what_could_not_be_timed_is_said():
    case = timed_case("bound", 0.5, "ours", compiled=[1.0, 1.0], bound=[2.0, 2.0])
    case |= {"ratio": None, "variants": {"bound": case["variants"]["bound"]}}
    machine = {"device_name": "a machine", "threads": 1}
    text = speed_text({"cases": [case], "machine": machine, "rounds": 2})
    assert "For “a model”, the bound could not be timed." in text and "Compilation" not in text
