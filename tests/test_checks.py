"""What every check of an exercise promises: right answers pass, wrong ones hear their own hint."""

import importlib
from types import ModuleType

import pytest
import torch
from answers.running import define, judge, solutions, with_nan, wrong

from hvae_course import checks

CHAPTERS = {
    name: (importlib.import_module(f"answers.{name}"), getattr(checks, name))
    for name in checks.__all__
    if isinstance(getattr(checks, name), ModuleType)
}
ANSWERS = {name: answers for name, (answers, _) in CHAPTERS.items()}
RIGHT = {f"{c}-{n}": (c, *row) for c, a in ANSWERS.items() for n, row in solutions(a).items()}
WRONG = {f"{c}-{n}": (c, *row) for c, a in ANSWERS.items() for n, row in wrong(a).items()}
EXERCISES = [(c, exercise) for c, answers in ANSWERS.items() for exercise in answers.STUBS]
exercises = pytest.mark.parametrize(("chapter", "exercise"), EXERCISES)


def check_of(chapter, exercise):
    return getattr(CHAPTERS[chapter][1], exercise)


def right_answer(chapter, exercise):
    return define(ANSWERS[chapter].SOLUTIONS[exercise], exercise)


def test_every_chapter_has_its_checks_and_its_answers():
    assert len(CHAPTERS) == 8
    for answers, module in CHAPTERS.values():
        assert answers.STUBS.keys() == answers.SOLUTIONS.keys() == answers.WRONG.keys()
        assert answers.OTHERS.keys() == answers.STUBS.keys()
        assert all(callable(getattr(module, exercise)) for exercise in answers.STUBS)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_right_answer_passes_however_it_is_written(name, seed, capsys):
    chapter, exercise, answer = RIGHT[name]
    torch.manual_seed(seed)
    verdict = judge(check_of(chapter, exercise), answer, capsys)
    assert verdict, verdict
    assert str(verdict).startswith(f"right - {exercise}: ")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_hears_its_own_hint(name, capsys):
    chapter, exercise, answer, hint = WRONG[name]
    verdict = judge(check_of(chapter, exercise), answer, capsys)
    assert not verdict
    assert hint in verdict.message


@exercises
def test_four_wrong_answers_at_least_are_told_apart(chapter, exercise):
    answers = ANSWERS[chapter]
    rows = answers.WRONG[exercise]
    assert len({hint for _, hint in rows}) >= 4
    assert len({code for code, _ in rows} | {answers.SOLUTIONS[exercise]}) == len(rows) + 1


@exercises
def test_what_is_not_begun_is_not_written_yet(chapter, exercise, capsys):
    stub = define(ANSWERS[chapter].STUBS[exercise], exercise)
    assert judge(check_of(chapter, exercise), stub, capsys).message == "not written yet"


@exercises
def test_an_answer_without_return_is_told_so(chapter, exercise, capsys):
    verdict = judge(check_of(chapter, exercise), lambda *inputs: None, capsys)
    assert not verdict
    assert "is None; does your function end with return?" in verdict.message


@exercises
def test_an_error_inside_an_answer_is_named_with_its_line(chapter, exercise, capsys):
    code = f"def {exercise}(*inputs):\n    raise KeyError('first line\\nsecond')"
    verdict = judge(check_of(chapter, exercise), define(code, exercise), capsys)
    assert not verdict
    assert verdict.message.startswith("your code raised KeyError: ")
    assert f"in line 2 of {exercise}" in verdict.message


@exercises
@pytest.mark.parametrize("answer", [None, lambda: 0], ids=["no function", "no arguments"])
def test_what_cannot_be_called_is_wrong(chapter, exercise, answer, capsys):
    verdict = judge(check_of(chapter, exercise), answer, capsys)
    assert "your code raised TypeError" in verdict.message


@exercises
def test_an_answer_that_is_not_a_number_is_wrong(chapter, exercise, capsys):
    right = right_answer(chapter, exercise)
    verdict = judge(check_of(chapter, exercise), lambda *a: with_nan(right(*a)), capsys)
    assert not verdict
    assert "finite" in verdict.message or "node numbers" in verdict.message


@exercises
def test_an_answer_may_change_what_it_is_given(chapter, exercise, capsys):
    right = right_answer(chapter, exercise)

    def careless(*inputs):
        value = right(*inputs)
        for part in inputs:
            for tensor in part if isinstance(part, list) else [part]:
                if isinstance(tensor, torch.Tensor) and tensor.is_leaf:
                    tensor.detach().fill_(7.0)
            if isinstance(part, list | dict):
                part.clear()
        return value

    assert judge(check_of(chapter, exercise), careless, capsys)


@exercises
def test_a_check_says_the_same_each_time(chapter, exercise, capsys):
    check, answer = check_of(chapter, exercise), right_answer(chapter, exercise)
    assert judge(check, answer, capsys) == judge(check, answer, capsys)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_builds_on_answers_is_ready_when_all_of_them_are_right(chapter, capsys):
    answers = {name: right_answer(chapter, name) for name in ANSWERS[chapter].SOLUTIONS}
    assert checks.ready(CHAPTERS[chapter][1], *answers.values())
    assert capsys.readouterr().out == ""
    names = list(answers)
    stubs = {name: define(ANSWERS[chapter].STUBS[name], name) for name in names[-2:]}
    assert not checks.ready(CHAPTERS[chapter][1], *(answers | stubs).values())
    assert capsys.readouterr().out == f"this cell waits for {', '.join(names[-2:])}\n"


def test_an_error_inside_a_library_is_blamed_on_the_line_that_called_it(capsys):
    def levels_in_use(table, threshold):
        return table.no_such_column  # raised inside pandas

    line = levels_in_use.__code__.co_firstlineno + 1
    verdict = checks.hierarchy_depth.levels_in_use(levels_in_use)
    assert verdict.message.endswith(f"in line {line} of levels_in_use"), verdict
