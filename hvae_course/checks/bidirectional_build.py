"""Checks of the build of chapter 5: one walk for inference and generation, with a skip state.

A Gaussian is a pair of tensors, mean and log standard deviation. The first checks use networks of
any input width, so that a network that reads too much or too little gives wrong values, which have
a hint, where other networks would give an error. The last check compares with the package's model.
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
    AnyWidth,
    Level,
    Networks,
    Pair,
    images,
    level_names,
    log_px,
    log_ratio,
    noises,
    normal,
    plain_parts,
    small_package,
)
from hvae_course.checks.nested import (
    compare_models,
    compare_nested,
    package_log_weight,
    split_gaussian,
)
from hvae_course.checks.verdict import Answer, checked
from hvae_course.recipes import bidirectional_vae

_EQUAL, _SIZES = (6, 6, 6, 6), (5, 4, 3, 2)


def _networks(sizes: Sequence[int]) -> tuple[Networks, Networks, Networks, nn.Module]:
    """Upward networks, posterior heads, prior networks and decoder that read any width."""
    up = [AnyWidth(PIXELS) for _ in sizes]
    heads = [AnyWidth(2 * size) for size in sizes]
    priors = [AnyWidth(2 * size) for size in sizes[:-1]]
    return up, heads, priors, AnyWidth(PIXELS)


@checked
def features(answer: Answer) -> str:
    r"""The way up: one feature per level.

    Write ``features(up, x) -> [d_1, ..., d_L]`` with :math:`d_l = f_l(d_{l-1})`, :math:`d_0 = x`;
    ``up`` holds the networks :math:`f_l`, level 1 first.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for number, batch, hints in ((4, 8, features.mistakes), (2, 5, ()), (1, 1, ())):
        compare_nested(
            answer,
            _features(),
            ([AnyWidth(PIXELS) for _ in range(number)], normal(batch, PIXELS)),
            names=[f"feature {l}" for l in range(1, number + 1)],
            mistakes=hints,
            gradients={1: "x"},
        )
    return "the features are right, for 1, 2 and 4 levels"


def _features(
    continues: Callable[[Tensor, Tensor], Tensor] = lambda d, x: d,
    result: Callable[[list[Tensor], Tensor], object] = lambda found, x: found,
) -> Answer:
    """The way up, or a mistake in it."""

    def answer(up: Networks, x: Tensor) -> object:
        d, found = x, []
        for network in up:
            d = network(continues(d, x))
            found.append(d)
        return result(found, x)

    return answer


for _hint, _wrong in {
    "every network reads x; f_2 and those above read the feature below": _features(lambda d, x: x),
    "the networks read the feature and x, joined; they read the feature below alone": _features(
        lambda d, x: torch.cat([d, x], dim=1) if d is not x else x
    ),
    "the networks read the sum of the feature and x; they read the feature below alone": (
        _features(lambda d, x: d + x if d is not x else x)
    ),
    "the top feature comes first; begin the list with d_1": _features(
        result=lambda found, x: found[::-1]
    ),
    "the list begins with x; it begins with d_1": _features(
        result=lambda found, x: [x, *found[:-1]]
    ),
    "every entry is the top feature; keep the feature of each level": _features(
        result=lambda found, x: [found[-1]] * len(found)
    ),
    "no gradient reaches x": _features(lambda d, x: d.detach()),
    "no gradient passes through it": _features(
        result=lambda found, x: [d.detach() for d in found]
    ),
}.items():
    features.mistake(_hint, _wrong)


@features.mistake("the networks are applied from the top down; f_1 reads x")
def _(up, x):
    return _features()(up[::-1], x)


@checked
def infer(answer: Answer) -> str:
    r"""The posterior that reads both paths, and a draw (:eq:`eq-concatenation`).

    Write ``infer(head, d, h, noise) -> z, mean, log_std``. The head reads the feature ``d``, ``(B,
    F)``, and the state ``h``, ``(B, H)``, joined in this order, and gives the mean and the raw
    log-scale of :math:`q(z_l \mid x, z_{>l})`. At the top ``h`` is empty, ``(B, 0)``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    names = ("z", "the mean of q", "the log std of q")
    for size, batch, width in ((3, 8, 6), (3, 5, 3), (2, 1, 4), (3, 8, 0)):
        head = AnyWidth(2 * size, largest=12.0)
        compare_nested(
            answer,
            _infer(),
            (head, normal(batch, PIXELS), normal(batch, width), normal(batch, size)),
            names=names if width else [f"{name} for an empty state" for name in names],
            mistakes=infer.mistakes if width == PIXELS else (),
            gradients={1: "d", 2: "h", 3: "the noise"},
        )
    return "posterior and draw are right, also for an empty state"


def _infer(
    joined: Callable[[Tensor, Tensor], Tensor] = lambda d, h: torch.cat([d, h], dim=1),
    split: Callable[[Tensor], Pair] = split_gaussian,
    draw: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda m, s, e: m + s.exp() * e,
    result: Callable[[Tensor, Tensor, Tensor], object] = lambda z, m, s: (z, m, s),
) -> Answer:
    """The step, or a mistake in it."""

    def answer(head: nn.Module, d: Tensor, h: Tensor, noise: Tensor) -> object:
        mean, log_std = split(head(joined(d, h)))
        return result(draw(mean, log_std, noise), mean, log_std)

    return answer


for _hint, _wrong in {
    "the posterior reads the feature alone; join the state": _infer(lambda d, h: d),
    "the posterior reads the state alone; join the feature": _infer(lambda d, h: h),
    "state and feature are in the wrong order; the feature comes first": _infer(
        lambda d, h: torch.cat([h, d], dim=1)
    ),
    "feature and state are added; join them along axis 1": _infer(lambda d, h: d + h),
    "the third value is the standard deviation; return its logarithm": _infer(
        result=lambda z, m, s: (z, m, s.exp())
    ),
    "mean and log_std come first; return z, mean, log_std": _infer(
        result=lambda z, m, s: (m, s, z)
    ),
    "no gradient reaches h": _infer(lambda d, h: torch.cat([d, h.detach()], dim=1)),
    "no gradient reaches d": _infer(lambda d, h: torch.cat([d.detach(), h], dim=1)),
    "the gradient with respect to d is not": _infer(draw=lambda m, s, e: m + s.exp().detach() * e),
}.items():
    infer.mistake(_hint, _wrong)
for _hint, _split in WRONG_SPLITS.items():
    infer.mistake(_hint, _infer(split=_split))
for _hint, _draw in WRONG_DRAWS.items():
    infer.mistake(_hint, _infer(draw=_draw))


@checked
def walk(answer: Answer) -> str:
    r"""The only loop: from the top down, for inference and for generation.

    Write ``walk(priors, choose, top) -> levels, h``. ``top`` is a pair, mean and log std of
    :math:`p(z_L)`, each ``(B, Z_L)``. At every level, from the top, ``choose(l, h, p)`` with l
    counted from 0 at the bottom gives ``z, q``; then the state collects the latent, ``h`` joined
    with ``z`` in this order, empty above the top; and ``priors[l - 1]`` gives the outputs of the
    next prior from the state. ``levels`` holds ``(z, q, p)``, level 1 first, and ``h`` is the
    state with all latents.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for sizes, batch, hints in ((_EQUAL, 8, walk.mistakes), (_SIZES, 5, ()), ((3,), 1, ())):
        _, heads, priors, _ = _networks(sizes)
        noise, zero = noises(sizes, batch), 0 * normal(batch, sizes[-1])

        def choose(
            l: int, h: Tensor, p: Pair, heads: Networks = heads, noise: list[Tensor] = noise
        ) -> tuple[Tensor, Pair]:
            z, *q = _infer()(heads[l], p[0] + 0.3 * p[1], h, noise[l])
            return z, tuple(q)

        compare_nested(
            answer,
            _walk(),
            (priors, choose, (zero + 0.2, zero - 0.1)),
            names=[*level_names(len(sizes)), "the state"],
            mistakes=hints,
            gradients={2: "top"},
        )
    return "levels and state are right, for 1 and 4 levels"


def _walk(
    collect: Callable[[Tensor, Tensor], Tensor] = lambda h, z: torch.cat([h, z], dim=1),
    reads: Callable[[Tensor, Tensor, Pair, Pair], Tensor] = lambda h, z, q, p: h,
    split: Callable[[Tensor], Pair] = split_gaussian,
    network: Callable[[Networks, int], nn.Module] = lambda priors, l: priors[l],
    prior: Callable[[Pair, Pair], Pair] = lambda p, top: p,
    number: Callable[[int, int], int] = lambda l, levels: l,
    result: Callable[[list[Level], Tensor], object] = lambda found, h: (found, h),
) -> Answer:
    """The loop, or a mistake in it."""

    def answer(priors: Networks, choose: Answer, top: Pair) -> object:
        p, found, h = top, [], top[0][:, :0]
        for l in reversed(range(len(priors) + 1)):
            z, q = choose(number(l, len(priors) + 1), h, p)
            found.insert(0, (z, q, p))
            h = collect(h, z)
            if l > 0:
                p = prior(split(network(priors, l - 1)(reads(h, z, q, p))), top)
        return result(found, h)

    return answer


for _hint, _wrong in {
    "the state is the last latent alone; a skip state collects all latents": _walk(lambda h, z: z),
    "the state is joined in the wrong order; the new latent comes last": _walk(
        lambda h, z: torch.cat([z, h], dim=1)
    ),
    "the latents are added up; join them along axis 1": _walk(
        lambda h, z: h + z if h.shape == z.shape else z
    ),
    "the prior networks read the last latent alone; they read the state": _walk(
        reads=lambda h, z, q, p: z
    ),
    "the prior networks read the state before the latent of the level above": _walk(
        reads=lambda h, z, q, p: h[:, : -z.shape[1]]
    ),
    "the prior networks read the mean of q; they read the state with the draws": _walk(
        reads=lambda h, z, q, p: torch.cat([h[:, : -z.shape[1]], q[0]], dim=1)
    ),
    "every level has the prior of the top; compute each from the state": _walk(
        prior=lambda p, top: top
    ),
    "the log std of the priors is not bounded; use the function gaussian": _walk(
        split=lambda outputs: outputs.chunk(2, dim=1)
    ),
    "the prior networks are in the wrong order; priors[0] gives that of z_1": _walk(
        network=lambda priors, l: priors[len(priors) - 1 - l]
    ),
    "choose counts levels from 0 at the bottom, so the walk begins with L - 1": _walk(
        number=lambda l, levels: levels - 1 - l
    ),
    "the top level comes first; begin the list with level 1": _walk(
        result=lambda found, h: (found[::-1], h)
    ),
    "q and p are swapped; give (z, q, p)": _walk(
        result=lambda found, h: ([(z, p, q) for z, q, p in found], h)
    ),
    "the state lacks z_1; collect it too, the decoder reads it": _walk(
        result=lambda found, h: (found, h[:, : -found[0][0].shape[1]])
    ),
    "the state has the order of the list; it begins with the top latent": _walk(
        result=lambda found, h: (found, torch.cat([z for z, _, _ in found], dim=1))
    ),
    "top is not used; its mean and log std are those of the prior of the top level": (
        lambda priors, choose, top: _walk()(priors, choose, (0 * top[0], 0 * top[1]))
    ),
    "the gradient with respect to top is not": _walk(lambda h, z: torch.cat([h, z.detach()], 1)),
    "no gradient reaches top": lambda priors, choose, top: _walk()(
        priors, choose, (top[0].detach(), top[1].detach())
    ),
}.items():
    walk.mistake(_hint, _wrong)


@checked
def generate(answer: Answer) -> str:
    r"""Generation: the same walk, with every latent drawn from its prior (:eq:`eq-generative`).

    Write ``generate(priors, decoder, noise) -> (B, D)``: probabilities of the pixels. ``noise``
    has one entry per level, level 1 first; :math:`p(z_L)` is :math:`N(0, I)`; the decoder gives
    logits from the state with all latents.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for sizes, batch, hints in ((_EQUAL, 8, generate.mistakes), (_SIZES, 5, ()), ((3,), 1, ())):
        _, _, priors, decoder = _networks(sizes)
        inputs = (priors, decoder, noises(sizes, batch))
        compare_nested(answer, _generate(), inputs, names=["the image"], mistakes=hints)
    return "the images of 14 draws are right, for equal and for unequal latent sizes"


def _generate(
    draw: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda m, s, e: m + s.exp() * e,
    reads: Callable[[list[Level], Tensor], Tensor] = lambda found, h: h,
    result: Callable[[Tensor], Tensor] = torch.sigmoid,
    noise_of: Callable[[list[Tensor], int], Tensor] = lambda noise, l: noise[l],
    walk_of: Answer = _walk(),  # noqa: B008
    top: float = 0.0,
) -> Answer:
    """Generation, or a mistake in it."""

    def answer(priors: Networks, decoder: nn.Module, noise: list[Tensor]) -> Tensor:
        zero = torch.zeros_like(noise[-1])

        def choose(l: int, h: Tensor, p: Pair) -> tuple[Tensor, Pair]:
            return draw(*p, noise_of(noise, l)), p

        found, h = walk_of(priors, choose, (zero, zero + top))
        return result(decoder(reads(found, h)))

    return answer


for _hint, _wrong in {
    "the decoder reads z_1 alone; it reads the state with all latents": _generate(
        reads=lambda found, h: found[0][0]
    ),
    "the decoder reads the top latent; it reads the state with all latents": _generate(
        reads=lambda found, h: found[-1][0]
    ),
    "the decoder reads the latents in the order of the list; it reads the state": _generate(
        reads=lambda found, h: torch.cat([z for z, _, _ in found], dim=1)
    ),
    "the log std of the prior of the top is 0, not 1": _generate(top=1.0),
    "these are draws of the pixels; return their probabilities": _generate(
        result=lambda logits: (logits > 0).float()
    ),
    "these are logits; return probabilities": _generate(result=lambda logits: logits),
    "the noise is taken in the order of the walk; noise[0] belongs to z_1": _generate(
        noise_of=lambda noise, l: noise[len(noise) - 1 - l]
    ),
    "every level has the same noise; use its own": _generate(noise_of=lambda noise, l: noise[0]),
    "this averages over the images; return one per row": _generate(
        result=lambda logits: logits.sigmoid().mean(dim=0)
    ),
}.items():
    generate.mistake(_hint, _wrong)
for _hint, _draw in WRONG_DRAWS.items():
    generate.mistake(_hint, _generate(_draw))


@checked
def Bidirectional(answer: Answer) -> str:  # noqa: N802
    r"""The whole model as a module (:eq:`eq-log-weight`).

    Write ``class Bidirectional(nn.Module)`` with ``__init__(self, up, heads, priors, decoder)``,
    which keeps the networks, and ``forward(self, x, noise) -> (B,)``, the log-weight of one draw
    in nats. The decoder gives the logits of the binary pixels from the state with all latents.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    inputs, name = (images(8), noises(_EQUAL, 8)), "the log-weight"
    hints = Bidirectional.mistakes
    compare_models(answer, _assembly(), _networks(_EQUAL), inputs, name=name, mistakes=hints)
    for sizes, batch in ((_SIZES, 5), ((3,), 1)):
        model = small_package(bidirectional_vae, sizes, scale=2, state="skip")
        if batch == 1:
            model.top_down.likelihood.net[-1].weight.data *= 100  # a decoder that is sure
        parts, inputs = plain_parts(model), (images(batch), noises(sizes, batch))
        compare_models(answer, package_log_weight(model), parts, inputs, name=name)
    return (
        "the log-weights of 14 draws are those of the package's model, for 1 and 4 levels, and so "
        "are the gradients of all parameters"
    )


def _assembly(
    reads: Callable[[list[Level], Tensor], Tensor] = lambda found, h: h,
    way_up: Answer = _features(),  # noqa: B008
    step: Answer = _infer(),  # noqa: B008
    reconstruction: Callable[[Tensor, Tensor], Tensor] = log_px,
    ratio: Callable[[Tensor, Pair, Pair], Tensor] = log_ratio,
    result: Callable[[Tensor], Tensor] = lambda value: value,
    keep: Callable[[Networks], object] = nn.ModuleList,
    noise_of: Callable[[list[Tensor], int], Tensor] = lambda noise, l: noise[l],
    levels_of: Callable[[list[Level]], list[Level]] = lambda found: found,
) -> type[nn.Module]:
    """The model, or a mistake in how its stages are put together."""

    class Answered(nn.Module):
        def __init__(
            self, up: Networks, heads: Networks, priors: Networks, decoder: nn.Module
        ) -> None:
            super().__init__()
            self.up, self.heads, self.priors = keep(up), keep(heads), keep(priors)
            self.decoder = decoder

        def forward(self, x: Tensor, noise: list[Tensor]) -> Tensor:
            d, zero = way_up(self.up, x), torch.zeros_like(noise[-1])

            def choose(l: int, h: Tensor, p: Pair) -> tuple[Tensor, Pair]:
                z, *q = step(self.heads[l], d[l], h, noise_of(noise, l))
                return z, tuple(q)

            found, h = _walk()(self.priors, choose, (zero, zero))
            terms = [ratio(*level) for level in levels_of(found)]
            return result(reconstruction(x, self.decoder(reads(found, h))) + sum(terms))

    return Answered


for _hint, _wrong in {
    "keep lists in nn.ModuleList": _assembly(keep=list),
    "the decoder reads z_1 alone; it reads the state with all latents": _assembly(
        lambda found, h: found[0][0]
    ),
    "the decoder reads the latents in the order of the list; it reads the state": _assembly(
        lambda found, h: torch.cat([z for z, _, _ in found], dim=1)
    ),
    "every level reads the top feature; level l reads d_l": _assembly(
        way_up=lambda up, x: [_features()(up, x)[-1]] * len(up)
    ),
    "the features are taken top first; level 1 reads d_1": _assembly(
        way_up=lambda up, x: _features()(up, x)[::-1]
    ),
    "the noise is taken in the order of the walk; noise[0] belongs to z_1": _assembly(
        noise_of=lambda noise, l: noise[len(noise) - 1 - l]
    ),
    "the top level is missing": _assembly(levels_of=lambda found: found[:-1]),
    "level 1 is missing": _assembly(levels_of=lambda found: found[1:]),
    "this is the reconstruction alone; the terms of the levels are missing": _assembly(
        levels_of=lambda found: []
    ),
    "this is the loss; forward returns the log-weight": _assembly(result=torch.neg),
    "this averages over the batch; return one number per example, (B,)": _assembly(
        result=torch.mean
    ),
    "draw every latent with z = mean + std * noise, and detach nothing": _assembly(
        way_up=lambda up, x: [d.detach() for d in _features()(up, x)]
    ),
    "two passes with the same noise differ": _assembly(
        noise_of=lambda noise, l: torch.randn_like(noise[l])
    ),
}.items():
    Bidirectional.mistake(_hint, _wrong)
for _hint, _ratio in WRONG_RATIOS.items():
    if _hint != "log std is taken for the standard deviation":  # that of the top prior is 0
        Bidirectional.mistake(_hint, _assembly(ratio=_ratio))
for _hint, _pixels in WRONG_PIXELS.items():
    Bidirectional.mistake(_hint, _assembly(reconstruction=_pixels))
