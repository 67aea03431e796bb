"""Checks of the exercises on the merge: right answers pass, wrong ones hear their own hint."""

import pytest
from answers import ladder_merge as answers
from answers.running import define, judge, solutions, with_nan, wrong

from hvae_course.checks import ladder_merge as checks

RIGHT, WRONG = solutions(answers), wrong(answers)
exercises = pytest.mark.parametrize("exercise", sorted(answers.STUBS))


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_passes_however_it_is_written(name, capsys):
    exercise, answer = RIGHT[name]
    verdict = judge(getattr(checks, exercise), answer, capsys)
    assert verdict, verdict
    assert str(verdict).startswith(f"right - {exercise}: ")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_hears_its_own_hint(name, capsys):
    exercise, answer, hint = WRONG[name]
    verdict = judge(getattr(checks, exercise), answer, capsys)
    assert not verdict
    assert hint in verdict.message
    others = {fragment for e, _, fragment in WRONG.values() if e == exercise} - {hint}
    assert not [other for other in others if other in verdict.message]


@exercises
def test_what_is_not_begun_is_not_written_yet(exercise, capsys):
    stub = define(answers.STUBS[exercise], exercise)
    assert judge(getattr(checks, exercise), stub, capsys).message == "not written yet"


@exercises
def test_an_answer_without_return_is_told_so(exercise, capsys):
    verdict = judge(getattr(checks, exercise), lambda *inputs: None, capsys)
    assert not verdict
    assert "is None; does your function end with return?" in verdict.message


@exercises
def test_an_error_inside_an_answer_is_named_with_its_line(exercise, capsys):
    code = f"def {exercise}(*inputs):\n    raise KeyError('first line\\nsecond')"
    verdict = judge(getattr(checks, exercise), define(code, exercise), capsys)
    assert not verdict
    assert verdict.message.startswith("your code raised KeyError: ")
    assert f"in line 2 of {exercise}" in verdict.message


@exercises
def test_an_answer_that_is_no_function_is_wrong(exercise, capsys):
    verdict = judge(getattr(checks, exercise), None, capsys)
    assert "your code raised TypeError" in verdict.message


@exercises
def test_an_answer_that_is_not_a_number_is_wrong(exercise, capsys):
    right = define(answers.SOLUTIONS[exercise], exercise)
    verdict = judge(getattr(checks, exercise), lambda *a: with_nan(right(*a)), capsys)
    assert not verdict
    assert "finite" in verdict.message


@exercises
def test_an_answer_may_change_what_it_is_given(exercise, capsys):
    right = define(answers.SOLUTIONS[exercise], exercise)

    def careless(*inputs):
        value = right(*inputs)
        for part in inputs:
            for tensor in part if isinstance(part, list) else [part]:
                if hasattr(tensor, "fill_"):
                    tensor.fill_(7.0)
            if isinstance(part, list | dict):
                part.clear()
        return value

    assert judge(getattr(checks, exercise), careless, capsys)


@exercises
def test_a_check_says_the_same_each_time(exercise, capsys):
    _, answer = RIGHT[f"{exercise}-another way"]
    check = getattr(checks, exercise)
    assert judge(check, answer, capsys) == judge(check, answer, capsys)


@exercises
def test_four_wrong_answers_at_least_are_told_apart(exercise):
    assert len({hint for _, hint in answers.WRONG[exercise]}) >= 4


def test_what_only_draws_show_is_seen(capsys):
    right = define(answers.SOLUTIONS["posterior_by_merging"], "posterior_by_merging")

    def too_wide(x, *parts):
        mean, std = right(x, *parts)
        return mean, std * (1.1 if len(x) > 1000 else 1)

    verdict = judge(checks.posterior_by_merging, too_wide, capsys)
    assert "do not spread about your mean" in verdict.message
