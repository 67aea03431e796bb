"""Checks of the exercises on layers: what they are judged on, and mistakes told apart."""

import math

import pytest
import torch
from answers import layer_analysis as answers
from answers.running import define, judge, with_nan

from hvae_course.checks import Mistake, layer_probes, layer_walks
from hvae_course.checks import layer_analysis as checks

exercises = pytest.mark.parametrize("exercise", answers.STUBS)


def right_answer(exercise):
    return define(answers.SOLUTIONS[exercise], exercise)


def test_six_wrong_answers_at_least_are_told_apart():
    for rows in answers.WRONG.values():
        assert len({hint for _, hint in rows}) >= 6


@exercises
def test_an_answer_that_is_not_a_number_is_wrong(exercise, capsys):
    right = right_answer(exercise)

    def broken(*inputs):
        value = right(*inputs)
        return dict.fromkeys(value, math.nan) if isinstance(value, dict) else with_nan(value)

    verdict = judge(getattr(checks, exercise), broken, capsys)
    assert not verdict
    assert "finite" in verdict.message


@exercises
def test_an_answer_may_change_what_it_is_given(exercise, capsys):
    right = right_answer(exercise)

    def careless(*inputs):
        value = right(*inputs)
        for part in inputs:
            for tensor in part if isinstance(part, list) else [part]:
                if isinstance(tensor, torch.Tensor):
                    tensor.fill_(7)
            if isinstance(part, list):
                part.clear()
            if hasattr(part, "iloc"):
                part.iloc[:, :] = 7.0
        return value

    assert judge(getattr(checks, exercise), careless, capsys)


@exercises
def test_a_check_works_without_gradients_around_it_and_in_double_precision(exercise, capsys):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert judge(getattr(checks, exercise), right_answer(exercise), capsys)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("kind", "tolerance"), [("category", 0.02), ("real", 0.05)])
@pytest.mark.parametrize("seed", range(3))
def test_no_two_mistakes_of_a_probe_have_the_same_scores(kind, tolerance, seed):
    """Neither has any of them the right scores, by what the check forgives."""
    torch.manual_seed(seed)
    cases = getattr(checks, f"_{kind}_cases")()
    right, slips = getattr(layer_probes, f"{kind}_mistakes")(cases)
    rows = [(right, "right"), *slips]
    for i, (a, hint) in enumerate(rows):
        for b, other in rows[:i]:
            assert hint == other or not torch.allclose(a, b, tolerance, tolerance)


def test_the_known_score_of_a_probe_is_that_of_scikit_learn():
    score = right_answer("probe_score")
    for kind in ("category", "real"):
        cases = getattr(checks, f"_{kind}_cases")()
        right, _ = getattr(layer_probes, f"{kind}_mistakes")(cases)
        values = torch.tensor([score(*case.copies()) for case in cases]).double()
        torch.testing.assert_close(values, right, rtol=0, atol=1e-5)


def test_a_visible_model_shows_its_latents():
    visible = layer_walks.visible_model(1, 3, 2)
    trace = visible.model(torch.randn(4, 6))
    z = visible.latents(trace.px.mean)
    for l, level in enumerate(trace.levels):
        assert torch.equal(z[l], level.z)
        if l < 2:
            prior = visible.prior_below(z, l)
            assert torch.equal(prior.mean, level.p.mean)
            assert torch.equal(prior.stddev, level.p.stddev)


def test_images_are_told_from_what_holds_them():
    trace = layer_walks.visible_model(2, 2).model(torch.randn(3, 4))
    assert layer_walks.as_images(trace.px.mean, (3, 4)).dtype == torch.float64
    with pytest.raises(Mistake, match="this is the trace"):
        layer_walks.as_images(trace, (3, 4))
    with pytest.raises(Mistake, match="this is the distribution"):
        layer_walks.as_images(trace.px, (3, 4))
