"""What every check of an exercise promises: right answers pass, wrong ones hear their own hint."""

import importlib

import pytest
import torch
from answers.running import (
    SHEETS,
    define,
    in_precision,
    run_check,
    solution,
    sources,
    stub,
    with_nan,
)

from hvae_course import checks

EXERCISES = [(sheet, name) for sheet in SHEETS for name in sources(sheet, "exercise-stub")]
exercises = pytest.mark.parametrize(("sheet", "exercise"), EXERCISES)


def check_of(sheet, exercise):
    return getattr(getattr(checks, sheet), exercise)


def right_answers():
    """Solutions of the sheets, in two precisions as well, and other ways to write an answer."""
    for sheet, exercise in EXERCISES:
        first = solution(sheet, exercise)
        ways = {"as it is": first}
        given = importlib.import_module(f"answers.{sheet}")
        if exercise not in getattr(given, "IN_PLACE", ()):
            ways |= {
                str(dtype): in_precision(first, dtype) for dtype in (torch.float32, torch.float64)
            }
        others = given.OTHERS[exercise]
        ways |= {f"{number} {o.__name__}": o for number, o in enumerate(others)}
        for way, answer in ways.items():
            yield pytest.param(sheet, exercise, answer, id=f"{sheet}-{exercise}-{way}")


MISTAKES = [
    pytest.param(*row, known.answer, known.hint, id=f"{'-'.join(row)}-{number}-{known.hint}")
    for row in EXERCISES
    for number, known in enumerate(check_of(*row).mistakes)
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("sheet", "exercise", "answer"), right_answers())
def test_a_right_answer_passes_however_it_is_written(sheet, exercise, answer, seed, capsys):
    torch.manual_seed(seed)
    verdict = run_check(check_of(sheet, exercise), answer, capsys)
    assert verdict, verdict
    assert str(verdict).startswith(f"right - {exercise}: ")


@pytest.mark.parametrize(("sheet", "exercise", "answer", "hint"), MISTAKES)
def test_a_known_mistake_hears_its_own_hint(sheet, exercise, answer, hint, capsys):
    verdict = run_check(check_of(sheet, exercise), answer, capsys)
    assert not verdict
    assert hint in verdict.message


@exercises
def test_four_mistakes_at_least_are_told_apart(sheet, exercise):
    hints = {row.values[3] for row in MISTAKES if row.values[:2] == (sheet, exercise)}
    assert len(hints) >= (6 if sheet == "layer_analysis" else 4)


@exercises
def test_what_is_not_begun_is_not_written_yet(sheet, exercise, capsys):
    verdict = run_check(check_of(sheet, exercise), stub(sheet, exercise), capsys)
    assert verdict.message == "not written yet"


@exercises
def test_an_answer_without_return_is_told_so(sheet, exercise, capsys):
    verdict = run_check(check_of(sheet, exercise), lambda *inputs: None, capsys)
    assert not verdict
    assert "is None; does your function end with return?" in verdict.message


@exercises
def test_an_error_inside_an_answer_is_named_with_its_line(sheet, exercise, capsys):
    code = f"def {exercise}(*inputs):\n    raise KeyError('first line\\nsecond')"
    verdict = run_check(check_of(sheet, exercise), define(code, exercise), capsys)
    assert not verdict
    assert verdict.message.startswith("your code raised KeyError: ")
    assert f"in line 2 of {exercise}" in verdict.message


@exercises
@pytest.mark.parametrize("answer", [None, lambda: 0], ids=["no function", "no arguments"])
def test_what_cannot_be_called_is_wrong(sheet, exercise, answer, capsys):
    verdict = run_check(check_of(sheet, exercise), answer, capsys)
    assert "your code raised TypeError" in verdict.message


@exercises
def test_an_answer_that_is_not_a_number_is_wrong(sheet, exercise, capsys):
    right = solution(sheet, exercise)
    verdict = run_check(check_of(sheet, exercise), lambda *a: with_nan(right(*a)), capsys)
    assert not verdict
    assert "finite" in verdict.message or "node numbers" in verdict.message


@exercises
def test_an_answer_may_change_what_it_is_given(sheet, exercise, capsys):
    right = solution(sheet, exercise)

    def careless(*inputs):
        value = right(*inputs)
        for part in inputs:
            for tensor in part if isinstance(part, list) else [part]:
                if isinstance(tensor, torch.Tensor) and tensor.is_leaf:
                    tensor.detach().fill_(7.0)
            if isinstance(part, list | dict):
                part.clear()
            if hasattr(part, "iloc"):
                part.iloc[:, :] = 7
        return value

    assert run_check(check_of(sheet, exercise), careless, capsys)


@exercises
def test_a_check_says_the_same_each_time(sheet, exercise, capsys):
    check, answer = check_of(sheet, exercise), solution(sheet, exercise)
    assert run_check(check, answer, capsys) == run_check(check, answer, capsys)


@exercises
def test_a_check_works_without_gradients_around_it_and_in_double_precision(
    sheet, exercise, capsys
):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert run_check(check_of(sheet, exercise), solution(sheet, exercise), capsys)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("sheet", SHEETS)
def test_what_builds_on_answers_is_ready_when_all_of_them_are_right(sheet, capsys):
    answers = {name: solution(sheet, name) for name in sources(sheet, "solution")}
    assert checks.ready(getattr(checks, sheet), *answers.values())
    assert capsys.readouterr().out == ""
    names = list(answers)
    stubs = {name: stub(sheet, name) for name in names[-2:]}
    assert not checks.ready(getattr(checks, sheet), *(answers | stubs).values())
    assert capsys.readouterr().out == f"this cell waits for {', '.join(names[-2:])}\n"


def test_an_error_inside_a_library_is_blamed_on_the_line_that_called_it(capsys):
    def levels_in_use(table, threshold):
        return table.no_such_column  # raised inside pandas

    line = levels_in_use.__code__.co_firstlineno + 1
    verdict = checks.hierarchy_depth.levels_in_use(levels_in_use)
    assert verdict.message.endswith(f"in line {line} of levels_in_use"), verdict
