"""Checks of the exercises on learned priors: what only draws and properties reveal."""

import numpy
import pytest
from answers import learned_priors as answers
from answers.running import define, judge

from hvae_course.checks import learned_priors as checks


@pytest.mark.parametrize(
    ("exercise", "when", "error", "hint"),
    [
        ("rewo_step", lambda beta, v, rate, slope: rate == 0.2, 0.05, "leads to"),
        ("vhp_bound", lambda p, *_: p.shape == (3, 50_000), 0.01, "every draw should be log p(z)"),
        ("vhp_bound", lambda p, *_: p.shape == (4, 50_000), 1.0, "exceeds log p(z)"),
        ("vhp_bound", lambda p, *_: p.shape == (4, 50_000), -5.0, "does not rise"),
        ("vamp_log_prob", lambda z, *_: len(z) > 1000, 0.1, "integrates to 1.1"),
    ],
    ids=["fixed point", "tight", "lower bound", "draws", "mass"],
)
def test_what_only_a_property_shows_is_seen(exercise, when, error, hint, capsys):
    right = define(answers.SOLUTIONS[exercise], exercise)

    def shifted(*inputs):
        return right(*inputs) + (error if when(*inputs) else 0)

    verdict = judge(getattr(checks, exercise), shifted, capsys)
    assert not verdict
    assert hint in verdict.message


def test_any_shortest_path_counts_however_its_numbers_are_held(capsys):
    right = define(answers.SOLUTIONS["shortest_path"], "shortest_path")
    assert judge(checks.shortest_path, lambda *a: tuple(right(*a)), capsys)
    assert judge(checks.shortest_path, lambda *a: numpy.array(right(*a)), capsys)
