"""Verdicts on the exercises of chapter 2: right answers, wrong ones, and none."""

import re

import pytest
import torch
from answers import posterior_collapse as chapter
from answers.judging import define, judge, right, unfinished, wrong

from hvae_course.checks import posterior_collapse as checks


@pytest.mark.parametrize(("name", "code"), right(chapter))
@pytest.mark.parametrize("seed", [0, 1])
def test_a_correct_answer_is_right_however_it_is_written(name, code, seed, capsys):
    torch.manual_seed(seed)
    verdict = judge(checks, name, define(code, name), capsys)
    assert verdict, verdict.message


@pytest.mark.parametrize(("name", "code", "hint"), wrong(chapter))
def test_a_wrong_answer_is_told_its_own_mistake(name, code, hint, capsys):
    verdict = judge(checks, name, define(code, name), capsys)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize(("name", "answer", "message"), unfinished(chapter))
def test_no_answer_is_told_apart_from_a_wrong_one(name, answer, message, capsys):
    verdict = judge(checks, name, answer, capsys)
    assert not verdict
    assert re.search(message, verdict.message), verdict.message


def test_every_exercise_has_a_stub_a_solution_and_typical_mistakes():
    assert chapter.STUBS.keys() == chapter.SOLUTIONS.keys() == chapter.WRONG.keys()
    for name, answers in chapter.WRONG.items():
        assert chapter.SOLUTIONS[name] not in [code for code, _ in answers]
        assert len({code for code, _ in answers}) == len(answers)
        assert len({hint for _, hint in answers}) >= 4
