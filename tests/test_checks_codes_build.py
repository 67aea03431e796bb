"""Checks of the build of chapter 10: the results of both stages, and parts that sheets share."""

import math

import pytest
import torch
from answers.running import run_check
from torch import nn

from hvae_course import checks
from hvae_course.checks import codes_build
from hvae_course.checks.codes_build.moving import reference_quantiser
from hvae_course.checks.codes_build.quantiser import slopes, straight_through
from hvae_course.codes import Codebook


def results(**changes):
    distortion = torch.linspace(300, 350, 10)
    uniform = 16 * math.log(32) + 4 * math.log(8)
    usual = {
        "num_codes": (32, 8),
        "positions": (16, 4),
        "live": (30, 5),
        "distortion": (distortion, distortion.clone()),
        "rate": (uniform, 0.8 * uniform),
    }
    return usual | changes


def test_results_that_show_what_they_should_pass_as_tensors_too(capsys):
    verdict = run_check(checks.codes_build.works, results(), capsys)
    assert verdict and "30 and 5 codes live" in verdict.message
    assert "saves 20 % of the rate" in verdict.message
    as_tensors = {name: torch.tensor(results()[name]) for name in ("live", "rate")}
    assert run_check(codes_build.works, results(**as_tensors), capsys)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"live": (16, 5)}, "16 of 32 codes of the bottom grid live, which is half or less"),
        ({"live": (20, 4)}, "4 of 8 codes of the top grid live"),
        ({"live": (20, 30)}, "the top grid has 30 live codes of 8; count different codes"),
        ({"distortion": (torch.ones(3), torch.ones(3) + 1e-6)}, "the distortion has changed"),
        ({"distortion": (torch.ones(3), torch.ones(2))}, "should have shape (3,), yours has (2,)"),
        ({"distortion": (torch.ones(3), torch.ones(3) / 0)}, "the distortion is not finite"),
        ({"rate": (20 * math.log(32), 50.0)}, "the first rate is 69.31 nats where the uniform"),
        ({"rate": (results()["rate"][0], 60.0)}, "by less than a tenth"),
        ({"rate": (1.0,)}, "rate should be 2 values"),
    ],
)
def test_results_that_do_not_are_told_why(changes, hint, capsys):
    verdict = run_check(codes_build.works, results(**changes), capsys)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (None, "not written yet"),
        ([1, 2], "this is a list; pass the dictionary"),
        ({"live": (3, 3)}, "the results lack num_codes, positions, distortion, rate"),
    ],
)
def test_what_are_no_results_is_told_so(given, hint, capsys):
    verdict = run_check(codes_build.works, given, capsys)
    assert not verdict
    assert hint in verdict.message


def test_the_reference_moves_as_the_codebook_of_the_package():
    """Up to its smoothing of the counts, and before a code is revived."""
    torch.manual_seed(0)
    rows = torch.randn(6, 3, dtype=torch.float64)
    own = reference_quantiser(rows, 0.25, 0.9, 0.0)
    package = Codebook(6, 3, decay=0.9, smoothing=0.0).double()
    package.rows.copy_(rows)
    package.sums.copy_(rows)
    for _ in range(3):
        z_e = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
        (z, index, penalty), q = own(z_e), package(z_e)
        torch.testing.assert_close(z, q.point)
        torch.testing.assert_close(penalty, q.penalty)
        assert torch.equal(index, q.index)
        torch.testing.assert_close(own.codes, package.rows)


def test_a_gradient_that_does_not_arrive_is_zero():
    z_e, e = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    of_encodings, of_codes = slopes(straight_through(z_e, e), [z_e, e])
    torch.testing.assert_close(of_encodings.flatten(), torch.linspace(1, 2, 6))
    assert not of_codes.any()
    assert not slopes(e.detach(), [z_e])[0].any()
    assert not slopes(None, [z_e])[0].any()


def test_what_a_quantiser_gives_is_named_if_it_is_no_tensor(capsys):
    class Answered(nn.Module):
        def __init__(self, codes, commitment):
            super().__init__()
            self.codes = nn.Parameter(codes)

        def forward(self, z_e):
            return z_e, [1], z_e

    verdict = run_check(codes_build.Quantiser, Answered, capsys)
    assert "the index should be a tensor, got list" in verdict.message
