"""The spine that every model of the course shares (chapter 1, *Two-level VAE*)."""

from hvae_course.hierarchy.bottom_up import BottomUp
from hvae_course.hierarchy.choices import (
    centre_of,
    common_noise,
    draw_noise,
    from_noise,
    from_prior,
    hold,
    mean_of,
    prior_mean,
    switch,
    tempered,
)
from hvae_course.hierarchy.model import HierarchicalVAE, evaluating
from hvae_course.hierarchy.states import (
    LearnedState,
    MarkovUpdate,
    SkipUpdate,
    join,
    with_label,
)
from hvae_course.hierarchy.top_down import TopDown
from hvae_course.hierarchy.trace import Choose, Level, State, Trace

__all__ = [
    "BottomUp",
    "Choose",
    "HierarchicalVAE",
    "LearnedState",
    "Level",
    "MarkovUpdate",
    "SkipUpdate",
    "State",
    "TopDown",
    "Trace",
    "centre_of",
    "common_noise",
    "draw_noise",
    "evaluating",
    "from_noise",
    "from_prior",
    "hold",
    "join",
    "mean_of",
    "prior_mean",
    "switch",
    "tempered",
    "with_label",
]
