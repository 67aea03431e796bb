"""The bottom-up path and the posterior of every recipe.

No other module of the package knows which model is the ladder VAE.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from hvae_course.hierarchy import BottomUp
from hvae_course.posteriors import (
    BIVA,
    Additive,
    Chain,
    Concatenation,
    Delta,
    Direct,
    Posterior,
    PosteriorRule,
    PrecisionWeighted,
    Recurrent,
    ResidualNormal,
    TopDownPosterior,
)
from hvae_course.recipes.convolutional import Convolutions
from hvae_course.recipes.networks import Networks
from hvae_course.recipes.recurrent import LSTMs


def _chain(networks: Networks) -> tuple[BottomUp, Posterior]:
    heads = [networks.message(0), *(networks.upward(l) for l in networks.levels[1:])]
    return networks.features(1), Chain(heads, reads_label=networks.model.conditional)


def _top_down(
    rule: Callable[[Any, int], PosteriorRule],
) -> Callable[[Networks], tuple[BottomUp, Posterior]]:
    """Inference on the way down, with one rule per level."""

    def make(networks: Networks) -> tuple[BottomUp, Posterior]:
        bottom_up = networks.features()
        rules = [networks.adapt(rule(networks, l)) for l in networks.levels]
        return bottom_up, TopDownPosterior(rules, reads=networks.reads)

    return make


def _direct(networks: Networks, l: int) -> PosteriorRule:
    return Direct(networks.message(l))


def _delta(networks: Networks, l: int) -> PosteriorRule:
    reads_state = networks.model.reads_state
    return Delta(networks.delta(l, reads_state=reads_state), reads_state=reads_state)


def _merge(networks: Networks, l: int) -> PosteriorRule:
    merges = l < networks.levels[-1] or networks.model.merge_top
    return (PrecisionWeighted if merges else Direct)(networks.message(l))


def _concatenation(networks: Networks, l: int) -> PosteriorRule:
    return Concatenation(networks.head(l))


def _residual(networks: Networks, l: int) -> PosteriorRule:
    if l == networks.levels[-1]:
        return Direct(networks.message(l))
    return ResidualNormal(networks.delta(l, reads_state=True))


def _biva(networks: Convolutions) -> tuple[BottomUp, Posterior]:
    *pairs, top = networks.levels[::2]
    posterior = BIVA(
        [networks.path_of_draws(l) for l in (*pairs, top)],
        [networks.path_of_features(l) for l in (*pairs, top)],
        heads=[networks.message(l) for l in pairs],
        rules=[networks.adapt(_concatenation(networks, l + 1)) for l in pairs],
        top=networks.paths_message(top),
    )
    return networks.features(1), posterior


def _additive(networks: Convolutions, l: int) -> PosteriorRule:
    context = networks.stage(l).channels if networks.model.iaf else 0
    return Additive(
        networks.addend(l, reads_state=False, context=context),
        networks.addend(l, reads_state=True, context=context),
        flow=networks.flow(l, context=context) if context else None,
        context=context,
    )


def _recurrent(networks: LSTMs) -> tuple[BottomUp, Posterior]:
    bottom_up = BottomUp([nn.Identity()])
    return bottom_up, Recurrent(networks.per_step(networks.step), networks.likelihood())


def _downscaled(networks: Convolutions) -> tuple[BottomUp, Posterior]:
    features = networks.features()
    bottom_up = BottomUp([nn.Identity(), *features.blocks], read=features.read)
    rules = [
        _concatenation(networks, 0),
        Direct(networks.downscale()),
        Direct(networks.message(2)),
    ]
    rules = [networks.adapt(rule) for rule in rules]
    low, _, top = networks.reads
    return bottom_up, TopDownPosterior(rules, reads=(low + 1, 1, top + 1))


def _codes(networks: Networks, l: int) -> PosteriorRule:
    return (_direct if l == networks.levels[-1] else _concatenation)(networks, l)


INFERENCE: dict[str, Callable[[Any], tuple[BottomUp, Posterior]]] = {
    "bottom_up": _chain,
    "mean_field": _top_down(_direct),
    "delta": _top_down(_delta),
    "ladder": _top_down(_merge),
    "bidirectional": _top_down(_concatenation),
    "vdvae": _top_down(_concatenation),
    "nvae": _top_down(_residual),
    "biva": _biva,
    "resnet": _top_down(_additive),
    "draw": _recurrent,
    "flow_ladder": _top_down(_concatenation),
    "vq": _top_down(_codes),
    "downscaled": _downscaled,
}
"""Bottom-up path and posterior of every recipe.

:meta hide-value:
"""
