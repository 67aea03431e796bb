"""How an image comes to be: the canvas of DRAW after every step."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from hvae_course.hierarchy import HierarchicalVAE, State, Trace, evaluating, hold, mean_of


def canvases(model: HierarchicalVAE, trace: Trace) -> Tensor:
    r"""Mean image before the first step and after each one, :math:`\mathrm{E}[x \mid c_t]`.

    Args:
        model: a model that draws on a canvas, `hvae_course.recipes.richer.draw`.
        trace: latents of its steps, from `hvae_course.analysis.layers.sample` or
            `hvae_course.analysis.layers.infer`.

    Returns:
        ``(T + 1, B, D)``. The first image is the same for every row, the last is the mean of the
        trace.

    Raises:
        TypeError: if the model has no canvas.
        ValueError: if the trace has another number of levels.

    Example:
        >>> from hvae_course import analysis, data, recipes
        >>> model = recipes.draw(data.load("digits"), steps=4)
        >>> canvases(model, analysis.sample(model, 10)).shape
        torch.Size([5, 10, 64])
    """
    if len(trace.levels) != model.num_levels:
        raise ValueError(
            f"the trace has {len(trace.levels)} levels and the model {model.num_levels}; give a "
            "trace of this model"
        )
    given, states = hold({l: level.z for l, level in enumerate(trace.levels, start=1)}), []

    def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
        states.append(h)
        return given(l, h, p)

    with evaluating(model):
        _, last = model.top_down.walk(model.top_prior(), choose, len(trace.levels[0].z))
        if not hasattr(last, "canvas"):
            raise TypeError(
                "the states of this model hold no canvas, which the likelihood reads after every "
                "step; give a model made by recipes.draw"
            )
        return torch.stack([mean_of(model.top_down.likelihood(h)) for h in (*states, last)])
