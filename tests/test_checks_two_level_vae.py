"""Checks of chapter 1: known mistakes can be told apart, and gradients count."""

import pytest
import torch
from answers.running import define, run_check, sources

from hvae_course.checks import Mistake
from hvae_course.checks import two_level_vae as checks
from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import as_tensor, compare_draws
from hvae_course.oracles import LinearGaussianLayer


@pytest.fixture(scope="module")
def shown_by_draws():
    """Mistakes in the joint bound whose hint is the whole message; a property shows the others."""
    known = checks.joint_elbo.mistakes
    rows = [k for k in known if checks.joint_elbo(k.answer).message == k.hint]
    return [k for k in rows if "over the batch" not in k.hint]


@pytest.mark.parametrize("seed", range(2))
def test_mistakes_in_the_joint_bound_can_be_told_apart(seed, shown_by_draws):
    """Each agrees with a second set of draws of itself, and with none that has another hint."""
    torch.manual_seed(seed)
    (px, p1), x = checks._MODEL.layers(), torch.tensor([[1.3, -0.4]]).repeat(20_000, 1)
    rough = (LinearGaussianLayer(0.5, 0.36), LinearGaussianLayer(0.6, 0.09, 0.3), p1, px)
    once, again = ([(k.answer(x, *rough), k.hint) for k in shown_by_draws] for _ in range(2))
    assert len(once) >= 15
    for a, hint in once:
        assert {other for b, other in again if checks._same_distribution(a, b)} == {hint}


def test_a_check_asks_the_same_questions_each_time(capsys):
    given = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        run_check(checks.gaussian_kl, lambda *inputs: given.append(inputs), capsys)
    for first, second in zip(*given, strict=True):
        assert torch.equal(first, second)


def test_a_missing_kl_of_the_library_is_an_error_and_not_an_unwritten_exercise(capsys):
    gamma = "torch.distributions.Gamma(1.0, 1.0)"
    line = f"torch.distributions.kl_divergence(q1(x), {gamma})\n    return "
    code = sources("two_level_vae", "solution")["joint_elbo"].replace("return ", line)
    verdict = run_check(checks.joint_elbo, define(code, "joint_elbo"), capsys)
    assert not verdict
    assert "NotImplementedError" in verdict.message and "line 6" in verdict.message


def test_gradients_are_compared_with_the_right_ones():
    x, y = torch.tensor([1.0, 2.0]), torch.ones(2)
    check_gradients(lambda x: x**2, torch.square, [x], names=["x"])
    with pytest.raises(Mistake, match="the gradient with respect to x is not"):
        check_gradients(lambda x: x * x.detach(), torch.square, [x], names=["x"])
    with pytest.raises(Mistake, match="the gradient with respect to x is not"):
        check_gradients(
            lambda x: x.detach() + (x - x.detach()).flip(0), torch.clone, [x], names=["x"]
        )
    with pytest.raises(Mistake, match="no gradient reaches y"):
        check_gradients(lambda x, y: x**2, lambda x, y: x**2 + y - 1, [x, y], names=["x", "y"])
    with pytest.raises(Mistake, match="no gradient passes through it"):
        check_gradients(lambda x: x.detach() ** 2, torch.square, [x], names=["x"])


def test_one_value_that_is_not_finite_is_named():
    with pytest.raises(Mistake, match="the KL is not finite for moderate inputs"):
        as_tensor(torch.tensor([1.0, torch.inf]), (2,), name="the KL")


def test_draws_are_compared_in_standard_errors():
    draws = torch.randn(10_000, 2)
    compare_draws(draws.mean(0), draws, name="the mean")
    compare_draws(draws.mean(0) + 0.04, draws, name="the mean")
    with pytest.raises(Mistake, match="the mean over 10,000 draws differs from your value"):
        compare_draws(draws.mean(0) + 0.06, draws, name="the mean")


def test_a_list_of_tensors_is_a_tensor():
    values = [torch.tensor(1.0, requires_grad=True), torch.tensor(2.0), 3]
    assert as_tensor(values, (3,), name="it").tolist() == [1, 2, 3]
