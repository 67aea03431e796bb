"""Where the information sits: per level, per resolution and per latent dimension.

In a deep hierarchy the levels of one resolution share what they describe, and a level of large
maps has many more dimensions than one of small maps. So nats per level say little until they are
added up over a resolution and divided by the number of dimensions.
"""

import math

import pandas as pd

from hvae_course.analysis.evaluation import Evaluation
from hvae_course.analysis.layers import latent_shapes
from hvae_course.hierarchy import HierarchicalVAE


def information_by_level(model: HierarchicalVAE, evaluation: Evaluation) -> pd.DataFrame:
    """Tabulate the information of every level with its size, one row per level from z_1 upward.

    - ``level``: the book's number, 1 next to the data;
    - ``shape``: shape of the latent, for instance ``(C, H, W)`` or ``(Z,)``;
    - ``resolution``: ``"HxW"``, or ``"1x1"`` for a vector;
    - ``units``: number of latent dimensions;
    - ``information``, ``information_error``: nats per example, from the evaluation, and standard
      error; the levels sum to the gap between reconstruction and ELBO;
    - ``per_unit``: nats per latent dimension;
    - ``share``: of all nats, NaN where the sum is zero; a level of a bottom-up posterior may have
      less than nothing;
    - ``unit_share``: of all latent dimensions.

    Args:
        model: the model that was evaluated.
        evaluation: what `hvae_course.analysis.evaluation.evaluate` gave for it.

    Returns:
        The table.

    Raises:
        ValueError: if the evaluation is of a model with another number of levels.
        TypeError: if it is not an evaluation.

    Example:
        >>> from hvae_course import data, evaluate, recipes
        >>> digits = data.load("digits")
        >>> model = recipes.ladder_vae(digits, latent_sizes=(4, 2), hidden=(8,))
        >>> table = information_by_level(model, evaluate(model, digits, num_samples=1))
        >>> table[["level", "shape", "resolution", "units"]].values.tolist()
        [[1, (4,), '1x1', 4], [2, (2,), '1x1', 2]]
    """
    if not isinstance(evaluation, Evaluation):
        raise TypeError(
            f"evaluation must be what evaluate(model, data) gives, got {type(evaluation).__name__}"
        )
    shapes, information = latent_shapes(model), evaluation.information
    if len(shapes) != len(information):
        raise ValueError(
            f"the evaluation is of {len(information)} levels and the model has {len(shapes)}; "
            "give the evaluation of this model"
        )
    levels = pd.DataFrame(
        {
            "level": l,
            "shape": shape,
            "resolution": "x".join(map(str, shape[1:])) or "1x1",
            "units": math.prod(shape),
            "information": estimate.mean,
            "information_error": estimate.standard_error,
        }
        for l, (shape, estimate) in enumerate(zip(shapes, information, strict=True), start=1)
    )
    return _with_shares(levels)


def information_by_resolution(levels: pd.DataFrame) -> pd.DataFrame:
    """Add up the table of `information_by_level` over the levels of each resolution.

    Args:
        levels: the table of all levels.

    Returns:
        One row per resolution, in the order in which they occur from the data upward, with the
        columns ``resolution``, ``levels``, how many there are, ``units``, ``information``,
        ``per_unit``, ``share`` and ``unit_share``.

    Raises:
        ValueError: if columns of that table are missing.
    """
    missing = {"level", "resolution", "units", "information"} - set(levels.columns)
    if missing:
        raise ValueError(
            f"levels must be the table of information_by_level; it has no column "
            f"{', '.join(sorted(missing))}"
        )
    grouped = levels.groupby("resolution", sort=False)
    table = grouped.agg(
        levels=("level", "size"), units=("units", "sum"), information=("information", "sum")
    )
    return _with_shares(table.reset_index())


def _with_shares(table: pd.DataFrame) -> pd.DataFrame:
    total = table["information"].sum() or math.nan
    return table.assign(
        per_unit=table["information"] / table["units"],
        share=table["information"] / total,
        unit_share=table["units"] / table["units"].sum(),
    )
