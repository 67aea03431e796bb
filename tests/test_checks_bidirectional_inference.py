"""Checks of the exercises on the downward pass: what only draws and properties reveal."""

from answers import bidirectional_inference as answers
from answers.running import define, judge

from hvae_course.checks import bidirectional_inference as checks


def test_what_only_draws_show_is_seen(capsys):
    right = define(answers.SOLUTIONS["level_information"], "level_information")

    def too_large(z, q, p):
        return [value + (0.1 if len(value) > 1000 else 0) for value in right(z, q, p)]

    verdict = judge(checks.level_information, too_large, capsys)
    assert "the mean over many is not KL(q || p)" in verdict.message


def test_pytorch_without_a_formula_is_not_mistaken_for_a_stub(capsys):
    """PyTorch raises NotImplementedError for a pair of distributions that it has no KL for."""
    code = """
from torch.distributions import Cauchy, Normal, kl_divergence

def level_information(z, q, p):
    return [kl_divergence(Cauchy(0.0, 1.0), Normal(0.0, 1.0)) for _ in z]
"""
    verdict = judge(checks.level_information, define(code, "level_information"), capsys)
    assert verdict.message.startswith("your code raised NotImplementedError: ")
