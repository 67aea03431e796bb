"""What the results page says about speed and machines: ratios, verdicts, circumstances."""

import pytest

from benchmarks.likelihood_models import BENCHMARKS
from benchmarks.page.records import Row
from benchmarks.page.sections import circumstances
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


def test_a_run_that_was_resumed_names_its_machine_once_and_every_commit():
    place = {"device_name": "a CPU", "device": "cpu", "threads": 1, "processors": 2}
    versions = {"torch": "2.13.0", "python": "3.11.7"}
    starts = [("a" * 40, False), ("a" * 40, False), ("b" * 40, True)]
    environments = [
        place | versions | {"git_commit": commit, "git_changed": changed}
        for commit, changed in starts
    ]
    run = {"environments": environments, "runs_at_a_time": 2, "load": [None, 0.5]}
    text = circumstances([Row("chain", BENCHMARKS["mnist"].models["chain"], (run,))])
    assert text.startswith(
        "- 1 run: a CPU (cpu, 1 thread of 2 processors), PyTorch 2.13.0, Python 3.11.7, commits "
        f"{'a' * 10} and {'b' * 10} with changes; 2 at a time.\n"
    )
