"""Checks of the exercises on the merge: what only draws and properties reveal."""

from answers import ladder_merge as answers
from answers.running import define, judge

from hvae_course.checks import ladder_merge as checks


def test_what_only_draws_show_is_seen(capsys):
    right = define(answers.SOLUTIONS["posterior_by_merging"], "posterior_by_merging")

    def too_wide(x, *parts):
        mean, std = right(x, *parts)
        return mean, std * (1.1 if len(x) > 1000 else 1)

    verdict = judge(checks.posterior_by_merging, too_wide, capsys)
    assert "are not spread about your mean" in verdict.message
