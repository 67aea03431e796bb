"""Make binary pixels of grey ones."""

from dataclasses import replace

import torch

from hvae_course.data.splits import Split

BINARISATION_SEED = 20_161_128
"""Seed of the one draw that static sets, and dynamic validation and test sets, are made of."""


def binarise(split: Split, binarisation: str, *, number: int) -> Split:
    """Make the pixels of one split binary.

    Args:
        split: grey pixels, as bytes.
        binarisation: one of those in `hvae_course.data`.
        number: which split, 0 for training, 1 for validation, 2 for test. Each has draws of its
            own, and dynamic binarisation redraws only the training pixels.

    Returns:
        The split with pixels 0 and 1, or with grey ones of which every batch draws binary ones;
        the split itself with ``"none"``.
    """
    if binarisation == "none":
        return split
    if binarisation == "dynamic" and number == 0:
        return replace(split, redraw=True)
    probability = split.pixels.float() / split.max_value
    if binarisation == "threshold":
        pixels = (probability >= 0.5).to(torch.uint8)
    else:
        generator = torch.Generator().manual_seed(BINARISATION_SEED + number)
        pixels = (torch.rand(probability.shape, generator=generator) < probability).to(torch.uint8)
    return replace(split, pixels=pixels, max_value=1)
