"""Checks of the build of chapter 5: one walk for inference and generation, with a skip state.

A Gaussian is a pair of tensors, mean and log standard deviation. The first checks use networks of
any input width, so that a network that reads too much or too little gives wrong values, which have
a hint, where other networks would give an error. The last check compares with the package's model.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_course.checks.building import plain
from hvae_course.checks.nested import (
    compare_models,
    compare_nested,
    log_normal,
    package_log_weight,
    split_gaussian,
)
from hvae_course.checks.verdict import Answer, checked, compare
from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.recipes import bidirectional_vae

# mean and log standard deviation of a diagonal Gaussian, each (B, Z)
Pair = tuple[Tensor, Tensor]
Networks = Sequence[nn.Module]
_BATCH, _WIDTH = 8, 6
_EQUAL, _SIZES = (6, 6, 6, 6), (5, 4, 3, 2)


class _AnyWidth(nn.Module):
    """A layer that reads inputs of any width, column by column."""

    def __init__(self, size_out: int, columns: int = 64) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.6 * torch.randn(columns, size_out, dtype=torch.float32))
        self.bias = nn.Parameter(0.5 * torch.randn(size_out, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        mixed = inputs @ self.weight[: inputs.shape[1]].to(inputs) + self.bias.to(inputs)
        return 2 * torch.tanh(mixed / 2)


def _networks(sizes: Sequence[int]) -> tuple[list, list, list, nn.Module]:
    """Upward networks, posterior heads, prior networks and decoder that read any width."""
    up = [_AnyWidth(_WIDTH) for _ in sizes]
    heads = [_AnyWidth(2 * size) for size in sizes]
    priors = [_AnyWidth(2 * size) for size in sizes[:-1]]
    return up, heads, priors, _AnyWidth(_WIDTH)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float32)


def _noise(sizes: Sequence[int]) -> list[Tensor]:
    return [_normal(_BATCH, size) for size in sizes]


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
    for levels in (4, 1):
        up = [_AnyWidth(_WIDTH) for _ in range(levels)]
        names = [f"feature {l}" for l in range(1, levels + 1)]
        hints = features.mistakes if levels > 1 else ()
        inputs = (up, _normal(_BATCH, _WIDTH))
        compare_nested(answer, _features(), inputs, names=names, mistakes=hints)
    return "the features of 4 levels, and of 1, are right"


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
}.items():
    features.mistake(_hint)(_wrong)


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
    for width in (6, 3, 0):
        inputs = (_AnyWidth(6), _normal(_BATCH, 6), _normal(_BATCH, width), _normal(_BATCH, 3))
        hints = infer.mistakes if width == 6 else ()
        where = "" if width else " for an empty state"
        named = [f"{name}{where}" for name in names]
        compare(answer, _infer(), inputs, name=named, mistakes=hints)
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
    "the log-scale is not bounded; use the function gaussian": _infer(
        split=lambda outputs: outputs.chunk(2, dim=1)
    ),
    "the draw multiplies the noise by log_std; multiply it by the standard deviation": _infer(
        draw=lambda m, s, e: m + s * e
    ),
    "the draw halves log_std, as if it were a log-variance": _infer(
        draw=lambda m, s, e: m + (s / 2).exp() * e
    ),
    "z is the mean; the noise is missing": _infer(draw=lambda m, s, e: m),
    "the third value is the standard deviation; return its logarithm": _infer(
        result=lambda z, m, s: (z, m, s.exp())
    ),
    "mean and log_std come first; return z, mean, log_std": _infer(
        result=lambda z, m, s: (m, s, z)
    ),
}.items():
    infer.mistake(_hint)(_wrong)


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
    patterns = ("z_{}", "the mean of q at level {}", "the log std of q at level {}")
    patterns += ("the mean of p at level {}", "the log std of p at level {}")
    for sizes, hints in ((_EQUAL, walk.mistakes), (_SIZES, ()), ((3,), ())):
        _, heads, priors, _ = _networks(sizes)
        noise, zero = _noise(sizes), torch.zeros(_BATCH, sizes[-1], dtype=torch.float32)

        def choose(
            l: int, h: Tensor, p: Pair, heads: Networks = heads, noise: list = noise
        ) -> tuple[Tensor, Pair]:
            z, *q = _infer()(heads[l], p[0] + 0.3 * p[1], h, noise[l])
            return z, tuple(q)

        names = [text.format(l) for l in range(1, len(sizes) + 1) for text in patterns]
        inputs = (priors, choose, (zero + 0.2, zero - 0.1))
        compare_nested(answer, _walk(), inputs, names=[*names, "the state"], mistakes=hints)
    return "levels and state are right, for 1 and 4 levels"


def _walk(
    collect: Callable[[Tensor, Tensor], Tensor] = lambda h, z: torch.cat([h, z], dim=1),
    reads: Callable[[Tensor, Tensor, Pair, Pair], Tensor] = lambda h, z, q, p: h,
    split: Callable[[Tensor], Pair] = split_gaussian,
    network: Callable[[Networks, int], nn.Module] = lambda priors, l: priors[l],
    prior: Callable[[Pair, Pair], Pair] = lambda p, top: p,
    number: Callable[[int, int], int] = lambda l, levels: l,
    result: Callable[[list, Tensor], object] = lambda levels, h: (levels, h),
) -> Answer:
    """The loop, or a mistake in it."""

    def answer(priors: Networks, choose: Answer, top: Pair) -> object:
        p, levels, h = top, [], top[0][:, :0]
        for l in reversed(range(len(priors) + 1)):
            z, q = choose(number(l, len(priors) + 1), h, p)
            levels.insert(0, (z, q, p))
            h = collect(h, z)
            if l > 0:
                p = prior(split(network(priors, l - 1)(reads(h, z, q, p))), top)
        return result(levels, h)

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
        result=lambda levels, h: (levels[::-1], h)
    ),
    "q and p are swapped; give (z, q, p)": _walk(
        result=lambda levels, h: ([(z, p, q) for z, q, p in levels], h)
    ),
    "the state lacks z_1; collect it too, the decoder reads it": _walk(
        result=lambda levels, h: (levels, h[:, : -levels[0][0].shape[1]])
    ),
}.items():
    walk.mistake(_hint)(_wrong)


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
    for sizes, hints in ((_EQUAL, generate.mistakes), (_SIZES, ())):
        _, _, priors, decoder = _networks(sizes)
        inputs = (priors, decoder, _noise(sizes))
        compare(answer, _generate(), inputs, name="the image", mistakes=hints)
    return "the images of 16 draws are right, for equal and for unequal latent sizes"


def _generate(
    draw: Callable[[Pair, Tensor], Tensor] = lambda p, e: p[0] + p[1].exp() * e,
    reads: Callable[[list, Tensor], Tensor] = lambda levels, h: h,
    result: Callable[[Tensor], Tensor] = torch.sigmoid,
    noise_of: Callable[[list[Tensor], int], Tensor] = lambda noise, l: noise[l],
    walk_of: Answer = _walk(),  # noqa: B008
) -> Answer:
    """Generation, or a mistake in it."""

    def answer(priors: Networks, decoder: nn.Module, noise: list[Tensor]) -> Tensor:
        zero = torch.zeros_like(noise[-1])

        def choose(l: int, h: Tensor, p: Pair) -> tuple[Tensor, Pair]:
            return draw(p, noise_of(noise, l)), p

        levels, h = walk_of(priors, choose, (zero, zero))
        return result(decoder(reads(levels, h)))

    return answer


for _hint, _wrong in {
    "every latent is the mean of its prior; use the noise": _generate(lambda p, e: p[0]),
    "every latent is drawn from N(0, I); below the top, use the prior of the level": _generate(
        lambda p, e: e
    ),
    "the noise is multiplied by log_std; multiply it by the standard deviation": _generate(
        lambda p, e: p[0] + p[1] * e
    ),
    "the noise is multiplied by the variance; multiply it by the standard deviation": _generate(
        lambda p, e: p[0] + (2 * p[1]).exp() * e
    ),
    "the decoder reads z_1 alone; it reads the state with all latents": _generate(
        reads=lambda levels, h: levels[0][0]
    ),
    "the decoder reads the top latent; it reads the state with all latents": _generate(
        reads=lambda levels, h: levels[-1][0]
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
    generate.mistake(_hint)(_wrong)


def _package(sizes: Sequence[int]) -> HierarchicalVAE:
    """A bidirectional model of the package with a skip state, with random weights."""
    options = {"hidden": (_WIDTH,), "normalisation": "none", "activation": "tanh"}
    spec = DataSpec((_WIDTH,), num_values=2)
    model = bidirectional_vae(spec, latent_sizes=tuple(sizes), state="skip", **options).float()
    for parameter in model.parameters():
        parameter.data *= 2
    return model


def _parts(model: HierarchicalVAE) -> tuple[list, list, list, nn.Module]:
    return (
        [plain(block) for block in model.bottom_up.blocks],
        [plain(rule.head) for rule in model.posterior.rules],
        [plain(conditional) for conditional in model.top_down.conditionals],
        plain(model.top_down.likelihood.net),
    )


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
    x, name = torch.randint(2, (_BATCH, _WIDTH)).float(), "the log-weight"
    inputs = (x, _noise(_EQUAL))
    hints = Bidirectional.mistakes
    compare_models(answer, _assembly(), _networks(_EQUAL), inputs, name=name, mistakes=hints)
    for sizes in (_SIZES, (3,)):
        model, inputs = _package(sizes), (x, _noise(sizes))
        right = package_log_weight(model)
        compare_models(answer, right, _parts(model), inputs, name=name)
    return (
        "the log-weights of 16 draws are those of the package's model, for 1 and 4 levels, and so "
        "are the gradients of all parameters"
    )


def _log_px(x: Tensor, logits: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)


def _assembly(
    reads: Callable[[list, Tensor], Tensor] = lambda levels, h: h,
    way_up: Answer = _features(),  # noqa: B008
    step: Answer = _infer(),  # noqa: B008
    reconstruction: Callable[[Tensor, Tensor], Tensor] = _log_px,
    ratio: Callable[[Tensor, Pair, Pair], Tensor] = (
        lambda z, q, p: log_normal(z, *p) - log_normal(z, *q)
    ),
    result: Callable[[Tensor], Tensor] = lambda value: value,
    keep: Callable[[list], object] = nn.ModuleList,
    noise_of: Callable[[list[Tensor], int], Tensor] = lambda noise, l: noise[l],
) -> type[nn.Module]:
    """The model, or a mistake in how its stages are put together."""

    class Answered(nn.Module):
        def __init__(self, up: list, heads: list, priors: list, decoder: nn.Module) -> None:
            super().__init__()
            self.up, self.heads, self.priors = keep(up), keep(heads), keep(priors)
            self.decoder = decoder

        def forward(self, x: Tensor, noise: list[Tensor]) -> Tensor:
            found, zero = way_up(self.up, x), torch.zeros_like(noise[-1])

            def choose(l: int, h: Tensor, p: Pair) -> tuple[Tensor, Pair]:
                z, *q = step(self.heads[l], found[l], h, noise_of(noise, l))
                return z, tuple(q)

            levels, h = _walk()(self.priors, choose, (zero, zero))
            terms = [ratio(*level) for level in levels]
            return result(reconstruction(x, self.decoder(reads(levels, h))) + sum(terms))

    return Answered


for _hint, _wrong in {
    "keep lists in nn.ModuleList": _assembly(keep=list),
    "the decoder reads z_1 alone; it reads the state with all latents": _assembly(
        lambda levels, h: levels[0][0]
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
    "log q is missing": _assembly(ratio=lambda z, q, p: log_normal(z, *p)),
    "the log-priors are missing": _assembly(ratio=lambda z, q, p: -log_normal(z, *q)),
    "the signs of log q and log p are swapped": _assembly(
        ratio=lambda z, q, p: log_normal(z, *q) - log_normal(z, *p)
    ),
    "every level is compared with N(0, I); use the prior of the level": _assembly(
        ratio=lambda z, q, p: log_normal(z, 0 * z, 0 * z) - log_normal(z, *q)
    ),
    "the reconstruction is averaged over the pixels; sum it": _assembly(
        reconstruction=lambda x, logits: _log_px(x, logits) / x.shape[1]
    ),
    "the decoder's outputs go through a sigmoid twice; they are logits": _assembly(
        reconstruction=lambda x, logits: _log_px(x, logits.sigmoid())
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
    Bidirectional.mistake(_hint)(_wrong)
