"""Checks of chapter 1: known mistakes can be told apart, and gradients count."""

import pytest
import torch
from answers import two_level_vae as chapter
from answers.running import define, judge

from hvae_course.checks import Mistake
from hvae_course.checks import two_level_vae as checks
from hvae_course.checks.joint_draws import alike, scores_and_hints
from hvae_course.checks.verdict import as_tensor, compare_draws, compare_gradients
from hvae_course.oracles import LinearGaussianLayer


@pytest.mark.parametrize("seed", range(2))
def test_mistakes_in_the_joint_bound_can_be_told_apart(seed):
    """Each agrees with a second set of draws of itself, and with none that has another hint."""
    torch.manual_seed(seed)
    (px, p1), x = checks._MODEL.layers(), torch.tensor([[1.3, -0.4]]).repeat(20_000, 1)
    rough = (LinearGaussianLayer(0.5, 0.36), LinearGaussianLayer(0.6, 0.09, 0.3), p1, px)
    once, again = (scores_and_hints(x, *rough)[1:] for _ in range(2))
    for a, hint in once:
        same = [other for b, other in again if alike(a, b)]
        assert set(same) == {hint}


@pytest.mark.parametrize("shape", [(6, 3), (4, 2)])
def test_no_two_mistakes_in_the_divergence_have_the_same_value(shape):
    mean_q, mean_p, log_q, log_p = torch.randn(4, *shape, dtype=torch.float64)
    mistakes = checks._kl_mistakes(mean_q, log_q.exp(), mean_p, log_p.exp())
    for i, (a, hint) in enumerate(mistakes):
        for b, other in mistakes[:i]:
            assert hint != other
            assert a.shape != b.shape or not torch.allclose(a, b, 1e-4, 1e-4)


def test_a_check_works_without_gradients_around_it_and_in_double_precision(capsys):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            for name, code in chapter.SOLUTIONS.items():
                assert judge(getattr(checks, name), define(code, name), capsys)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_check_asks_the_same_questions_each_time(capsys):
    asked = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        judge(checks.gaussian_kl, lambda *inputs: asked.append(inputs), capsys)
    for first, second in zip(*asked, strict=True):
        assert torch.equal(first, second)


def test_a_missing_kl_of_the_library_is_an_error_and_not_an_unwritten_exercise(capsys):
    gamma = "torch.distributions.Gamma(1.0, 1.0)"
    line = f"torch.distributions.kl_divergence(q1(x), {gamma})\n    return "
    code = chapter.ELBO.replace("return ", line)
    verdict = judge(checks.joint_elbo, define(code, "joint_elbo"), capsys)
    assert not verdict
    assert "NotImplementedError" in verdict.message and "line 7" in verdict.message


def test_gradients_are_compared_with_the_right_ones():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    expected = x.double() ** 2
    compare_gradients(x.clone() ** 2, expected, [x], names=["x"])
    with pytest.raises(Mistake, match="the gradient with respect to x is not"):
        compare_gradients(x * x.detach(), expected, [x], names=["x"])
    with pytest.raises(Mistake, match="no gradient reaches y"):
        y = torch.ones(2, requires_grad=True)
        compare_gradients(x**2, expected + y.double() - 1, [x, y], names=["x", "y"])
    with pytest.raises(Mistake, match="no gradient passes through it"):
        compare_gradients(x.detach() ** 2, expected, [x], names=["x"])


def test_draws_are_compared_in_standard_errors():
    draws = torch.randn(10_000, 2)
    compare_draws(draws.mean(0), draws, name="the mean")
    compare_draws(draws.mean(0) + 0.04, draws, name="the mean")
    with pytest.raises(Mistake, match="the mean over 10,000 draws differs from your value"):
        compare_draws(draws.mean(0) + 0.06, draws, name="the mean")


def test_a_list_of_tensors_is_a_tensor():
    values = [torch.tensor(1.0, requires_grad=True), torch.tensor(2.0), 3]
    assert as_tensor(values, (3,), name="it").tolist() == [1, 2, 3]
