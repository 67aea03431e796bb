"""Checks of sheets 4 to 7: what only draws, a limit or a sum over many values shows."""

import pytest
from answers.running import run_check, solution

from hvae_course import checks


@pytest.mark.parametrize(
    ("exercise", "when", "error", "hint"),
    [
        (
            "ladder_merge.posterior_by_merging",
            lambda x, *_: len(x) > 1000,
            0.1,
            "are not spread about your mean",
        ),
        (
            "bidirectional_inference.level_information",
            lambda z, *_: len(z[0]) > 1000,
            0.1,
            "the mean over many is not KL(q || p)",
        ),
        (
            "vhp_priors.rewo_step",
            lambda beta, violation, rate, slope: rate == 0.2,
            0.05,
            "leads to",
        ),
        (
            "vhp_priors.vhp_bound",
            lambda p, *_: p.shape == (3, 50_000),
            0.01,
            "every draw should be log p(z)",
        ),
        (
            "vhp_priors.vhp_bound",
            lambda p, *_: p.shape == (4, 50_000),
            1.0,
            "exceeds log p(z)",
        ),
        (
            "vhp_priors.vhp_bound",
            lambda p, *_: p.shape == (4, 50_000),
            -5.0,
            "does not rise",
        ),
        ("vhp_priors.vamp_log_prob", lambda z, *_: len(z) > 1000, 0.1, "integrates to 1.1"),
    ],
    ids=["draws of z", "mean", "fixed point", "tight", "lower bound", "more draws", "mass"],
)
def test_what_only_a_property_shows_is_seen(exercise, when, error, hint, capsys):
    sheet, name = exercise.split(".")
    right = solution(sheet, name)

    def shifted(*inputs):
        value, by = right(*inputs), error if when(*inputs) else 0.0
        if isinstance(value, tuple | list):
            return [*value[:-1], value[-1] + by]
        return value + by

    verdict = run_check(getattr(getattr(checks, sheet), name), shifted, capsys)
    assert not verdict
    assert hint in verdict.message


def test_a_path_along_an_edge_that_does_not_exist_is_named(capsys):
    right = solution("latent_graphs", "shortest_path")

    def shortcut(*inputs):
        first, *rest = right(*inputs)
        return [first, *rest[1:]]

    verdict = run_check(checks.latent_graphs.shortest_path, shortcut, capsys)
    assert not verdict
    assert "the path uses an edge that does not exist, from 0 to" in verdict.message
