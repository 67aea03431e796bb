"""Checks of the build of chapter 3: a top-down VAE whose posteriors are relative to the priors.

A Gaussian is a pair of tensors, mean and log standard deviation. In the first case of a check all
widths are equal, so that a network that reads the wrong tensor gives wrong values, which have a
hint, where other widths would give an error. The last check compares with the package's model.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hvae_course.checks.levels import (
    PIXELS,
    WRONG_DRAWS,
    WRONG_PIXELS,
    WRONG_RATIOS,
    WRONG_SPLITS,
    Level,
    Networks,
    Pair,
    compare_with_recipe,
    images,
    level_names,
    levels,
    log_px,
    log_ratio,
    minus_kl,
    noises,
    normal,
    pairs,
    plain_parts,
    small_package,
    sure_of_the_wrong,
)
from hvae_course.checks.nested import compare_nested, split_gaussian
from hvae_course.checks.verdict import Answer, checked, over_the_batch
from hvae_course.gaussians import diag_normal
from hvae_course.posteriors.delta import kl_delta
from hvae_course.recipes import delta_vae

_EQUAL, _SIZES = (6, 6, 6), (4, 3, 2)


def _delta(
    combine: Callable[[Tensor, Tensor, Pair], Pair] = lambda d, s, p: (p[0] + d, p[1] + s),
    split: Callable[[Tensor], Pair] = split_gaussian,
) -> Answer:
    """The posterior from a delta and a prior, or a mistake in how they are combined."""
    return lambda outputs, prior: combine(*split(outputs), prior)


@checked
def delta(answer: Answer) -> str:
    r"""The posterior relative to the prior, :eq:`eq-delta`.

    Write ``delta(outputs, prior) -> mean, log_std``. ``outputs``, ``(B, 2 Z)``, hold the shift
    :math:`\Delta\mu`, then raw numbers :math:`\xi` with :math:`\log \Delta\sigma = 7 \tanh(\xi /
    7)`. ``prior`` is the pair mean and log standard deviation.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for scale, size, batch in ((1.0, 3, 8), (6.0, 3, 8), (1.0, 2, 5), (1.0, 1, 1)):
        outputs = scale * normal(batch, 2 * size)
        outputs[0, -1] = 20.0  # beyond the bound
        compare_nested(
            answer,
            _delta(),
            (outputs, pairs([size], batch)[0]),
            names=("the mean", "the log std"),
            mistakes=delta.mistakes,
            gradients={0: "the outputs", 1: "the prior"},
        )
    return "mean and log std are right, also where the scale is bounded; gradients pass"


for _hint, _combine in {
    "the prior's mean is missing; the posterior is the prior, shifted": (
        lambda d, s, p: (d, p[1] + s)
    ),
    "the prior's scale is missing; the posterior's std is that of the prior, scaled": (
        lambda d, s, p: (p[0] + d, s)
    ),
    "the prior is missing altogether; this posterior is not relative to it": (
        lambda d, s, p: (d, s)
    ),
    "the shift is multiplied by the prior's std; in this chapter it is added as it is": (
        lambda d, s, p: (p[0] + p[1].exp() * d, p[1] + s)
    ),
    "the shift is subtracted; add it to the prior's mean": lambda d, s, p: (p[0] - d, p[1] + s),
    "the log-scales are multiplied; a product of scales is a sum of logarithms": (
        lambda d, s, p: (p[0] + d, p[1] * s)
    ),
    "the scale is added to the log std; add its logarithm": (
        lambda d, s, p: (p[0] + d, p[1] + s.exp())
    ),
    "this is the standard deviation; return its logarithm": (
        lambda d, s, p: (p[0] + d, (p[1] + s).exp())
    ),
    "the std is divided by the scale; multiply": lambda d, s, p: (p[0] + d, p[1] - s),
    "the log std comes first; return mean, log_std": lambda d, s, p: (p[1] + s, p[0] + d),
    "no gradient reaches the outputs": lambda d, s, p: (p[0] + d.detach(), p[1] + s.detach()),
    "no gradient reaches the prior": lambda d, s, p: (p[0].detach() + d, p[1].detach() + s),
    "the gradient with respect to the prior is not": (
        lambda d, s, p: (p[0].detach() + d, p[1] + s)
    ),
}.items():
    delta.mistake(_hint, _delta(_combine))
for _hint, _split in WRONG_SPLITS.items():
    delta.mistake(_hint, _delta(split=_split))
delta.mistake(
    "the sum is bounded; bound the delta alone and add it to the prior's log std",
    _delta(
        lambda d, s, p: (p[0] + d, 7 * ((p[1] + s) / 7).tanh()),
        lambda outputs: outputs.chunk(2, dim=1),
    ),
)


def _kl(outputs: Tensor, prior: Pair) -> Tensor:
    return kl_delta(*split_gaussian(outputs), diag_normal(*prior))


@checked
def kl(answer: Answer) -> str:
    r"""The KL divergence from the prior, in terms of the delta, :eq:`eq-delta-kl`.

    Write ``kl(outputs, prior) -> (B,)``, in nats, for the same arguments as ``delta``. It belongs
    to the posterior with the bounded scale.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for scale, size, batch in ((1.0, 3, 8), (3.0, 3, 8), (0.0, 3, 8), (1.0, 2, 5), (1.0, 1, 1)):
        compare_nested(
            answer,
            _kl,
            (scale * normal(batch, 2 * size), pairs([size], batch)[0]),
            names=["the KL" if scale else "the KL of a zero delta"],
            mistakes=kl.mistakes,
            gradients={0: "the outputs", 1: "the prior"},
        )
    return "agrees with the closed form, gradients included; the KL of a zero delta is zero"


def _wrong_kl(
    distance: Callable[[Tensor, Tensor], Tensor] = lambda d, std: (d / std) ** 2,
    spread: Callable[[Tensor], Tensor] = lambda s: (2 * s).exp() - 1 - 2 * s,
    split: Callable[[Tensor], Pair] = split_gaussian,
    total: Callable[[Tensor], Tensor] = lambda terms: 0.5 * terms.sum(1),
) -> Answer:
    """The KL, or a mistake in one of its terms."""

    def answer(outputs: Tensor, prior: Pair) -> Tensor:
        shift, log_scale = split(outputs)
        return total(distance(shift, prior[1].exp()) + spread(log_scale))

    return answer


def _between(arguments: Callable[[Pair, Pair], tuple[Pair, Pair]]) -> Answer:
    """The KL between two Gaussians that are chosen from posterior and prior."""
    return lambda outputs, prior: -minus_kl(outputs, *arguments(_delta()(outputs, prior), prior))


for _hint, _wrong in {
    "the shift is not divided by the prior's std": _wrong_kl(lambda d, std: d**2),
    "the squared shift is divided by the std; divide by the variance": _wrong_kl(
        lambda d, std: d**2 / std
    ),
    "the squared shift is divided by the log std; take its exponential first": _wrong_kl(
        lambda d, std: (d / std.log()) ** 2
    ),
    "the term of the shift is missing": _wrong_kl(lambda d, std: 0 * d),
    "the term of the scale is missing": _wrong_kl(spread=lambda s: 0 * s),
    "the logarithm of the scale stands where that of its square belongs": _wrong_kl(
        spread=lambda s: (2 * s).exp() - 1 - s
    ),
    "the log-scale is read as a log-variance": _wrong_kl(spread=lambda s: s.exp() - 1 - s),
    "the sign of the logarithm is reversed": _wrong_kl(spread=lambda s: (2 * s).exp() - 1 + 2 * s),
    "this is the KL of a scale without its bound; it has to belong to the posterior that is drawn "
    "from": _wrong_kl(split=lambda o: o.chunk(2, dim=1)),
    "the factor 1/2 is missing": _wrong_kl(total=lambda terms: terms.sum(1)),
    "this averages over the latent dimensions; add them up": _wrong_kl(
        total=lambda terms: 0.5 * terms.mean(1)
    ),
    "this is one number per latent dimension; add them up": _wrong_kl(
        total=lambda terms: 0.5 * terms
    ),
    "the sign is reversed; a KL divergence is never negative": _wrong_kl(
        total=lambda terms: -0.5 * terms.sum(1)
    ),
    "the scale stands where its square belongs": _wrong_kl(spread=lambda s: s.exp() - 1 - 2 * s),
    "1 is subtracted once; the sum over dimensions has it in every term": _wrong_kl(
        spread=lambda s: (2 * s).exp() - 2 * s, total=lambda terms: 0.5 * (terms.sum(1) - 1)
    ),
    "the -1 is missing": _wrong_kl(spread=lambda s: (2 * s).exp() - 2 * s),
    "this is KL(p || q); take KL(q || p)": _between(lambda q, p: (p, q)),
    "this is the KL from N(0, I); take the one from the prior": _between(
        lambda q, p: (q, (0 * p[0], 0 * p[1]))
    ),
    "the mean of the posterior stands where the shift belongs; the prior's mean does not enter": (
        _between(lambda q, p: (q, (0 * p[0], p[1])))
    ),
    "the shift is divided by the posterior's std; divide by that of the prior": (
        lambda outputs, prior: _wrong_kl()(outputs, prior)
        + _wrong_kl(spread=lambda s: 0 * s)(outputs, _delta()(outputs, prior))
        - _wrong_kl(spread=lambda s: 0 * s)(outputs, prior)
    ),
    "no gradient passes through it": lambda *inputs: _kl(*inputs).detach(),
    "no gradient reaches the prior": lambda outputs, prior: _kl(
        outputs, (prior[0], prior[1].detach())
    ),
}.items():
    kl.mistake(_hint, _wrong)
kl.mistakes += over_the_batch(_kl)


def _walk(
    reads: Callable[..., Tensor] = lambda d, h, p: torch.cat([d, h], dim=1),
    draw: Callable[[Pair, Pair, Tensor], Tensor] = lambda q, p, e: q[0] + q[1].exp() * e,
    split: Callable[[Tensor], Pair] = split_gaussian,
    carried: Callable[..., Tensor] = lambda z, q, p: z,
    relative: Callable[..., Pair] = lambda p, first: p,
    order: Callable[[Sequence, int], object] = lambda values, l: values[l],
    noise_of: Callable[[Sequence, int], Tensor] = lambda values, l: values[l],
    prior_of: Callable[[Sequence, int], nn.Module] = lambda values, l: values[l],
) -> Answer:
    """The way down, or a mistake in what a part of it reads."""

    def answer(
        deltas: Networks, priors: Networks, features: list[Tensor], noise: list[Tensor]
    ) -> list[Level]:
        zero, found = torch.zeros_like(noise[-1]), []
        first = p = (zero, zero)
        h = zero[:, :0]
        for l in reversed(range(len(deltas))):
            outputs = deltas[l](reads(order(features, l), h, p))
            q = _delta()(outputs, relative(p, first) if l < len(deltas) - 1 else p)
            z = draw(q, p, noise_of(noise, l))
            found.insert(0, (z, q, p))
            h = carried(z, q, p)
            if l > 0:
                p = split(prior_of(priors, l - 1)(h))
        return found

    return answer


@checked
def walk_down(answer: Answer) -> str:
    r"""The way down with relative posteriors, :eq:`eq-top-down`.

    Write ``walk_down(deltas, priors, features, noise) -> [(z, q, p), ...]``, level 1 first, where
    ``q`` and ``p`` are pairs ``(mean, log_std)``. The prior of the top level is N(0, I);
    ``priors[l - 1]`` gives the outputs of :math:`p(z_l \mid z_{l+1})` from :math:`z_{l+1}`.
    ``deltas[l - 1]`` reads the feature :math:`d_l` joined with the latent above, the feature
    first, and at the top the feature alone. A draw is the posterior's mean plus its standard
    deviation times ``noise[l - 1]``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for sizes, batch, hints in (
        (_EQUAL, 8, walk_down.mistakes),
        (_SIZES, 5, ()),
        ((3,), 1, ()),
        ((2, 3), 5, ()),
    ):
        _, deltas, priors, _ = plain_parts(small_package(delta_vae, sizes, scale=1.6))
        features = noises([PIXELS] * len(sizes), batch)
        compare_nested(
            answer,
            _walk(),
            (deltas, priors, features, noises(sizes, batch)),
            names=level_names(len(sizes)),
            mistakes=hints,
            gradients={2: "the features", 3: "the noise"},
        )
    return "z, q and p are right at every level, for 1, 2 and 3 levels"


for _hint, _wrong in {
    "feature and latent are joined in the wrong order; the feature comes first": _walk(
        reads=lambda d, h, p: torch.cat([h, d], dim=1)
    ),
    "the delta network reads the prior's mean; it reads the draw of the level above": _walk(
        reads=lambda d, h, p: torch.cat([d, p[0] if h.shape[1] else h], dim=1)
    ),
    "below the top the delta network does not see the latent above": _walk(
        reads=lambda d, h, p: torch.cat([d, 0 * h], dim=1)
    ),
    "the mean of q is passed down; pass the draw z": _walk(carried=lambda z, q, p: q[0]),
    "the mean of p is passed down; pass the draw z": _walk(carried=lambda z, q, p: p[0]),
    "z is drawn from the prior; draw it from the posterior": _walk(
        draw=lambda q, p, e: p[0] + p[1].exp() * e
    ),
    "the log std of the priors is not bounded; use the function gaussian": _walk(
        split=lambda outputs: outputs.chunk(2, dim=1)
    ),
    "the deltas are relative to N(0, I); below the top they are relative to p(z_l | z_>l)": _walk(
        relative=lambda p, first: first
    ),
    "the features are taken top first; features[0] belongs to z_1": _walk(
        order=lambda values, l: values[len(values) - 1 - l]
    ),
    "the noise is taken in the order of the walk; noise[0] belongs to z_1": _walk(
        noise_of=lambda values, l: values[len(values) - 1 - l]
    ),
    "the prior networks are taken in the wrong order; priors[0] gives p(z_1 | z_2)": _walk(
        prior_of=lambda values, l: values[len(values) - 1 - l]
    ),
    "the top level comes first; begin the list with level 1": (
        lambda *inputs: _walk()(*inputs)[::-1]
    ),
    "q and p are swapped; give (z, q, p)": (
        lambda *inputs: [(z, p, q) for z, q, p in _walk()(*inputs)]
    ),
    "the second entries of q and p are standard deviations; give their logarithms": (
        lambda *inputs: [
            (z, (q[0], q[1].exp()), (p[0], p[1].exp())) for z, q, p in _walk()(*inputs)
        ]
    ),
    "the gradient with respect to the features is not": _walk(
        draw=lambda q, p, e: (q[0] + q[1].exp() * e).detach()
    ),
    "but the gradient with respect to the features is not": _walk(
        relative=lambda p, first: (p[0].detach(), p[1].detach())
    ),
}.items():
    walk_down.mistake(_hint, _wrong)
for _hint, _draw in WRONG_DRAWS.items():
    walk_down.mistake(_hint, _walk(draw=lambda q, p, e, draw=_draw: draw(*q, e)))


@walk_down.mistake("the prior of the top level is N(0, I), whose log std is 0, not 1")
def _(deltas, priors, features, noise):
    *lower, (z, q, (mean, log_std)) = _walk()(deltas, priors, features, noise)
    return [*lower, (z, q, (mean, log_std + 1))]


def _bounds_with(
    drawn: Callable[..., Tensor] = log_ratio,
    closed: Callable[..., Tensor] = minus_kl,
    reconstruction: Callable[[Tensor, Tensor], Tensor] = log_px,
    result: Callable[[Tensor, Tensor], object] = lambda a, b: (a, b),
    levels_of: Callable[[list], list] = lambda found: found,
) -> Answer:
    """Log-weight and bound, or a mistake in one of their terms."""

    def answer(x: Tensor, logits: Tensor, found: list[Level]) -> object:
        pixels, chosen = reconstruction(x, logits), levels_of(found)
        return result(*(pixels + sum(f(*level) for level in chosen) for f in (drawn, closed)))

    return answer


@checked
def bounds(answer: Answer) -> str:
    r"""The log-weight :eq:`eq-log-weight`, and the bound with closed forms :eq:`eq-top-down-elbo`.

    Write ``bounds(x, logits, levels) -> log_weight, elbo``, both ``(B,)``, in nats. ``x`` holds
    binary pixels, ``logits`` their logits, ``levels`` what ``walk_down`` returns. The first has
    the log-densities of q and p at the draws, the second :math:`\mathrm{KL}(q \,\|\, p)` at every
    level.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    names = ("the log-weight", "the bound")
    through = {1: "the logits", 2: "the levels"}
    for sizes, batch in ((_EQUAL, 8), (_SIZES, 5), ((4,), 1)):
        compare_nested(
            answer,
            _bounds_with(),
            (images(batch), 2 * normal(batch, PIXELS), levels(sizes, batch)),
            names=names,
            mistakes=bounds.mistakes,
            gradients=through,
        )
    where = "at logits of -90 and 120 (use the logits, not probabilities)"
    names = [f"{name} {where}" for name in names]
    compare_nested(answer, _bounds_with(), sure_of_the_wrong(), names=names)
    return (
        "log-weights and bounds are right for 1 and 3 levels, also where the decoder is sure and "
        "wrong"
    )


for _hint, _wrong in {
    "the bound has log q - log p at the draw; take the closed form of KL(q || p)": _bounds_with(
        closed=log_ratio
    ),
    "the two are swapped; return the log-weight, then the bound": _bounds_with(
        result=lambda a, b: (b, a)
    ),
    "the bound has KL(p || q); take KL(q || p)": _bounds_with(
        closed=lambda z, q, p: minus_kl(z, p, q)
    ),
    "the KL terms are added to the bound; subtract them": _bounds_with(
        closed=lambda z, q, p: -minus_kl(z, q, p)
    ),
    "the KL terms are averaged over the latent dimensions; sum them": _bounds_with(
        closed=lambda z, q, p: minus_kl(z, q, p) / z.shape[1]
    ),
    "the top level is missing": _bounds_with(levels_of=lambda found: found[:-1]),
    "level 1 is missing": _bounds_with(levels_of=lambda found: found[1:]),
    "these are losses; return what is maximised": _bounds_with(result=lambda a, b: (-a, -b)),
    "these average over the batch; return one number per example, (B,)": _bounds_with(
        result=lambda a, b: (a.mean(), b.mean())
    ),
    "these sum over the batch; return one number per example, (B,)": _bounds_with(
        result=lambda a, b: (a.sum(), b.sum())
    ),
    "the gradient with respect to the levels is not": _bounds_with(
        drawn=lambda z, q, p: log_ratio(z.detach(), q, p)
    ),
    "no gradient reaches the logits": _bounds_with(
        reconstruction=lambda x, logits: log_px(x, logits.detach())
    ),
}.items():
    bounds.mistake(_hint, _wrong)
for _hint, _ratio in WRONG_RATIOS.items():
    bounds.mistake(_hint, _bounds_with(_ratio))
for _hint, _pixels in WRONG_PIXELS.items():
    bounds.mistake(_hint, _bounds_with(reconstruction=_pixels))


@checked
def DeltaVAE(answer: Answer) -> str:  # noqa: N802
    r"""The whole model as a module, held to ``recipes.delta_vae``.

    Write ``class DeltaVAE(nn.Module)`` with ``__init__(self, up, deltas, priors, decoder)``, which
    keeps the networks, and ``forward(self, x, noise) -> (B,)``, the log-weight of one draw. The
    features are :math:`d_l = f_l(d_{l-1})`, :math:`d_0 = x`, with the networks ``up``; the decoder
    gives the logits of the pixels from :math:`z_1`.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    cases = ((_EQUAL, 8), (_SIZES, 5), ((3,), 1))
    compare_with_recipe(answer, delta_vae, cases, scale=1.6, mistakes=DeltaVAE.mistakes)
    return (
        "given the same weights and noise, log-weights and gradients are those of "
        "recipes.delta_vae to 1e-4, for 1 and 3 levels"
    )


def _assembled(
    decodes: Callable[[list[Level]], Tensor] = lambda found: found[0][0],
    continues: Callable[[Tensor, Tensor], Tensor] = lambda d, x: d,
    finish: Callable[..., Tensor] = lambda log_weight, elbo: log_weight,
    noise_of: Callable[[list], list] = lambda noise: noise,
    features_of: Callable[[list], list] = lambda features: features,
    keep: Callable[[Networks], object] = nn.ModuleList,
    squash: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> type[nn.Module]:
    """The model, or a mistake in how its stages are put together."""

    class Answered(nn.Module):
        def __init__(
            self, up: Networks, deltas: Networks, priors: Networks, decoder: nn.Module
        ) -> None:
            super().__init__()
            self.up, self.deltas, self.priors = keep(up), keep(deltas), keep(priors)
            self.decoder = decoder

        def forward(self, x: Tensor, noise: list[Tensor]) -> Tensor:
            d, features = x, []
            for network in self.up:
                d = network(continues(d, x))
                features.append(d)
            features = features_of(features)
            found = _walk()(self.deltas, self.priors, features, noise_of(noise))
            return finish(*_bounds_with()(x, squash(self.decoder(decodes(found))), found))

    return Answered


for _hint, _wrong in {
    "keep lists in nn.ModuleList": _assembled(keep=list),
    "the decoder reads the mean of q(z_1); it reads the draw z_1": _assembled(
        lambda found: found[0][1][0]
    ),
    "the decoder reads the top latent; it reads z_1": _assembled(lambda found: found[-1][0]),
    "every level reads the top feature; level l reads d_l": _assembled(
        features_of=lambda features: [features[-1]] * len(features)
    ),
    "every network of the way up reads x; f_2 and those above read the feature below": _assembled(
        continues=lambda d, x: x
    ),
    "forward returns the bound with closed forms; return the log-weight": _assembled(
        finish=lambda log_weight, elbo: elbo
    ),
    "this is the loss; forward returns the log-weight": _assembled(
        finish=lambda log_weight, elbo: -log_weight
    ),
    "this averages over the batch; return one number per example, (B,)": _assembled(
        finish=lambda log_weight, elbo: log_weight.mean()
    ),
    "the noise is given in the order of the walk; noise[0] belongs to z_1": _assembled(
        noise_of=lambda noise: noise[::-1]
    ),
    "the features are given top first; features[0] belongs to z_1": _assembled(
        features_of=lambda features: features[::-1]
    ),
    "the decoder's outputs go through a sigmoid first; bounds takes logits": _assembled(
        squash=torch.sigmoid
    ),
    "draw every latent with z = mean + std * noise, and detach nothing": _assembled(
        features_of=lambda features: [d.detach() for d in features]
    ),
    "two passes with the same noise differ": _assembled(
        noise_of=lambda noise: [torch.randn_like(e) for e in noise]
    ),
}.items():
    DeltaVAE.mistake(_hint, _wrong)
