r"""Colour patches of two photographs that come with scikit-learn.

The photographs are a pagoda, ``china.jpg``, and a dahlia, ``flower.jpg``, 427x640 pixels each.
They are small enough to come with the library, so that colour needs no download. A patch has
16x16 pixels in three channels of 256 values, and its label says of which photograph it is.

Neighbouring patches are alike, and patches that overlap share pixels, so patches that were split
at random would carry training pixels into the test set. The split is therefore by region: each
photograph is cut into the vertical bands of `BANDS`, and 16 columns between two bands are left
out. Bands of every split lie on both sides of the middle, because sky, trees, pagoda and flower
are not everywhere.

The two photographs are of very different difficulty. One value of ``china.jpg`` has an entropy of
7.78 bits and its difference from the pixel to the left 5.54 bits; for ``flower.jpg`` they are 7.08
and 3.66. A model that needs more bits per dimension than the first number is worse than drawing
every value by itself, and one below the second is good; report the two photographs apart.

Photographs are stored as JPEG, and decoders may differ by a grey level in some pixels. The same
installation always gives the same bytes. Where another decoder gives other bytes, the fingerprint
of the data differs, and a run that was started elsewhere does not resume.
"""

import torch
from torch import Tensor

from hvae_course.data.sources import Raw
from hvae_course.data.splits import SPLITS

PHOTOGRAPHS = ("china", "flower")
"""The photographs; the labels are their numbers."""
SIDE = 16
"""Height and width of a patch, and the distance between bands, in pixels."""
BANDS = (
    *(("test", 2), ("train", 6), ("validation", 2), ("train", 5), ("test", 2)),
    *(("train", 5), ("validation", 2), ("train", 6), ("test", 2)),
)
"""The bands from left to right, with their widths in patches. One patch is left out between two
bands, and together they are 40 patches wide, as the photographs are."""
STRIDE = 8
"""Distance between training patches, in pixels. Each shares pixels with its neighbours."""


def cut(stride: int = STRIDE) -> Raw:
    """Cut the photographs into patches.

    Args:
        stride: distance between neighbouring training patches, in pixels; 16 for patches that do
            not overlap. Validation and test patches never overlap.

    Returns:
        The patches as bytes ``(N, 768)``, channels first, in the order of photographs, bands,
        rows and columns; labels are the photographs, and the factors ``"top"`` and ``"left"``
        are the position of the first pixel in the photograph.

    Raises:
        ValueError: if the stride is not between 1 and 16.
    """
    if not 1 <= stride <= SIDE:
        raise ValueError(f"stride must be between 1 and {SIDE} pixels, got {stride}")
    photographs = [read(name) for name in PHOTOGRAPHS]
    patches, labels, tops, lefts, sizes = [], [], [], [], []
    for split in SPLITS:
        step = stride if split == "train" else SIDE
        before = sum(map(len, patches))
        for label, photograph in enumerate(photographs):
            for left, right in regions(split):
                windows = photograph[:, :, left:right].unfold(1, SIDE, step).unfold(2, SIDE, step)
                rows, columns = windows.shape[1:3]  # (3, rows, columns, 16, 16)
                patches.append(windows.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1))
                labels.append(torch.full((rows * columns,), label))
                tops.append((step * torch.arange(rows)).repeat_interleave(columns))
                lefts.append((left + step * torch.arange(columns)).repeat(rows))
        sizes.append(sum(map(len, patches)) - before)
    return Raw(
        torch.cat(patches),
        torch.cat(labels),
        (3, SIDE, SIDE),
        255,
        tuple(sizes),
        {"top": torch.cat(tops), "left": torch.cat(lefts)},
        class_names=PHOTOGRAPHS,
        order="by region",
    )


def read(name: str) -> Tensor:
    """Read a photograph.

    Args:
        name: one of `PHOTOGRAPHS`.

    Returns:
        ``(3, 427, 640)``, bytes.
    """
    from sklearn.datasets import load_sample_image

    return torch.tensor(load_sample_image(f"{name}.jpg")).permute(2, 0, 1)


def regions(split: str) -> list[tuple[int, int]]:
    """Say which columns of a photograph belong to a split.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Returns:
        First column, and the one after the last, of each band.
    """
    found, left = [], 0
    for owner, width in BANDS:
        right = left + width * SIDE
        if owner == split:
            found.append((left, right))
        left = right + SIDE
    return found
