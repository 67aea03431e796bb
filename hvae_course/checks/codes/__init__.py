"""Checks of chapter 10 on codes: quantisers, a moving codebook, an exact gap, and usage."""

from hvae_course.checks.codes.bound import code_bound
from hvae_course.checks.codes.moving import codebook_step
from hvae_course.checks.codes.quantiser import quantise
from hvae_course.checks.codes.scalars import finite_scalars
from hvae_course.checks.codes.usage import code_usage

__all__ = ["code_bound", "code_usage", "codebook_step", "finite_scalars", "quantise"]
