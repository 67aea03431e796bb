"""Checks of the build of chapter 4: a ladder of any number of levels, in plain PyTorch.

A Gaussian is a pair of tensors, mean and log standard deviation. In the first case of a check all
widths are equal, so that a network that reads the wrong tensor gives wrong values, which have a
hint, where other widths would give an error. The last check compares with the package's ladder.
"""

from collections.abc import Callable

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
    noises,
    normal,
    pairs,
    plain_parts,
    small_package,
    sure_of_the_wrong,
)
from hvae_course.checks.nested import compare_nested, split_gaussian
from hvae_course.checks.verdict import Answer, Known, checked
from hvae_course.posteriors import merge_parameters
from hvae_course.recipes import ladder_vae

_EQUAL, _SIZES = (6, 6, 6, 6, 6), (5, 4, 3, 2, 1)


@checked
def messages(answer: Answer) -> str:
    r"""The way up: features and messages of a ladder.

    Write ``messages(up, heads, x) -> [(mean, log_std), ...]``, level 1 first: the messages
    :math:`\tilde q(z_l \mid x)` from the features :math:`d_l = f_l(d_{l-1})`, :math:`d_0 = x`.
    ``up`` holds the networks :math:`f_l`, ``heads`` one network per level from :math:`d_l` to the
    mean and the raw log-scale :math:`\xi`, joined along axis 1; the log standard deviation is
    :math:`7 \tanh(\xi / 7)`.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for sizes, batch, hints in ((_EQUAL, 8, messages.mistakes), (_SIZES, 5, ()), ((3,), 1, ())):
        up, heads, _, _ = plain_parts(small_package(ladder_vae, sizes, scale=2))
        for head in heads:
            head[0].weight.data *= 5  # the bound shows
        patterns = ("the mean of message {}", "the log std of message {}")
        compare_nested(
            answer,
            _messages(),
            (up, heads, normal(batch, PIXELS)),
            names=[text.format(l) for l in range(1, len(sizes) + 1) for text in patterns],
            mistakes=hints,
            gradients={2: "x"},
        )
    return "the messages are right, for 1 and 5 levels, and for equal and unequal latent sizes"


def _messages(
    split: Callable[[Tensor], object] = split_gaussian,
    reads: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda d, below, x: d,
    continues: Callable[[Tensor, Tensor], Tensor] = lambda d, x: d,
) -> Answer:
    """The way up, or a mistake in what a head or the next network reads."""

    def answer(up: Networks, heads: Networks, x: Tensor) -> list[object]:
        d, found = x, []
        for network, head in zip(up, heads, strict=True):
            below, d = d, network(continues(d, x))
            found.append(split(head(reads(d, below, x))))
        return found

    return answer


for _hint, _wrong in {
    "every network reads x; f_2 and those above read the feature below": _messages(
        continues=lambda d, x: x
    ),
    "the heads read x; the head of level l reads the feature d_l": _messages(
        reads=lambda d, below, x: x
    ),
    "each head reads the feature of the level below its own": _messages(
        reads=lambda d, below, x: below
    ),
    "the log std comes first; give each pair as (mean, log_std)": _messages(
        lambda outputs: split_gaussian(outputs)[::-1]
    ),
    "every head reads the top feature; the head of level l reads the feature d_l": (
        lambda up, heads, x: [split_gaussian(head(nn.Sequential(*up)(x))) for head in heads]
    ),
    "this is the standard deviation; keep its logarithm": _messages(
        lambda outputs: (split_gaussian(outputs)[0], split_gaussian(outputs)[1].exp())
    ),
    "no gradient reaches x": _messages(reads=lambda d, below, x: d.detach()),
    "the gradient with respect to x is not": _messages(
        lambda outputs: (split_gaussian(outputs)[0], split_gaussian(outputs)[1].detach())
    ),
    "the top level comes first; begin the list with level 1": (
        lambda up, heads, x: _messages()(up, heads, x)[::-1]
    ),
}.items():
    messages.mistake(_hint, _wrong)
for _hint, _split in WRONG_SPLITS.items():
    messages.mistake(_hint, _messages(_split))


@messages.mistake("entry 1 of the result should be 2 values")
def _(up, heads, x):
    features = [x]
    for network in up:
        features.append(network(features[-1]))
    return [head(d) for head, d in zip(heads, features[1:], strict=True)]


@checked
def infer(answer: Answer) -> str:
    r"""The step at one level: the posterior, and a draw (:eq:`eq-ladder-merge`).

    Write ``infer(message, prior, noise) -> z, mean, log_std``. ``message`` and ``prior`` are pairs
    ``(mean, log_std)``; the posterior is their precision-weighted merge, and the message alone
    where ``prior`` is None, at the top. ``z`` is the posterior's draw with this noise. All tensors
    are ``(B, Z)``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    names = ("z", "the mean of q", "the log std of q")
    through = {0: "the message", 1: "the prior", 2: "the noise"}
    for size, batch, below in ((3, 8, True), (3, 8, False), (2, 5, True), (1, 1, False)):
        message, prior = pairs((size, size), batch)
        compare_nested(
            answer,
            _infer(),
            (message, prior if below else None, normal(batch, size)),
            names=names if below else [f"{name} at the top" for name in names],
            mistakes=infer.mistakes,
            gradients=through,
        )
    scales = torch.tensor([[-7.0, 7.0, -7.0]]), torch.tensor([[7.0, 7.0, -7.0]])
    message, prior = [(torch.full((1, 3), 0.5), log_std.float()) for log_std in scales]
    compare_nested(
        answer,
        _infer(),
        (message, (prior[0] + 1, prior[1]), torch.ones(1, 3, dtype=torch.float32)),
        names=[f"{name} at log stds of 7" for name in names],
        mistakes=_AT_THE_BOUND,
    )
    return "posterior and draw are right below the top, at the top, and at log stds of 7"


def _merged(message: Pair, prior: Pair) -> Pair:
    return merge_parameters(*message, *prior)


def _infer(
    posterior: Callable[[Pair, Pair], Pair] = _merged,
    draw: Callable[..., Tensor] = lambda q, noise, message, prior: q[0] + q[1].exp() * noise,
    top: Callable[[Pair], Pair] = lambda message: message,
    result: Callable[[Tensor, Pair], object] = lambda z, q: (z, *q),
) -> Answer:
    """The step at one level, or a mistake in one of its parts."""

    def answer(message: Pair, prior: Pair | None, noise: Tensor) -> object:
        q = top(message) if prior is None else posterior(message, prior)
        return result(draw(q, noise, message, prior or message), q)

    return answer


def _powers(share: float, scale: float) -> Callable[[Pair, Pair], Pair]:
    """A merge with other powers of the stds in the mean and in the scale."""

    def merge(message: Pair, prior: Pair) -> Pair:
        (m, s), (n, t) = message, prior
        a, b = (share * s).exp(), (share * t).exp()
        total = (scale * s).exp() + (scale * t).exp()
        return (a * m + b * n) / (a + b), total.log() / scale

    return merge


def _not_normalised(message: Pair, prior: Pair) -> Pair:
    (m, s), (n, t) = message, prior
    return (-2 * s).exp() * m + (-2 * t).exp() * n, _merged(message, prior)[1]


def _with_gain(message: Pair, prior: Pair) -> Pair:
    (m, s), (n, t) = message, prior
    gain = (2 * t).exp() / ((2 * s).exp() + (2 * t).exp())
    return n + gain * (m - n), 0.5 * ((1 - gain) * (2 * t).exp()).log()


_AT_THE_BOUND = [
    Known(
        _infer(_with_gain),
        "1 minus the gain rounds to 0 where the prior is much broader than the message; add the "
        "precisions instead",
    )
]


for _hint, _wrong in {
    "this posterior is the message alone; below the top it is the merge with the prior": _infer(
        lambda message, prior: message
    ),
    "this posterior is the prior; the message is missing": _infer(lambda message, prior: prior),
    "the shares are swapped; the Gaussian with the smaller std counts more": _infer(
        _powers(2, -2)
    ),
    "the shares are proportional to 1 / std; use precisions, 1 / std**2": _infer(_powers(-1, -2)),
    "this mean is the plain average; weight each mean by its precision": _infer(_powers(0, -2)),
    "the variances are added; in a product of densities the precisions add": _infer(
        _powers(-2, 2)
    ),
    "1 / std is added; add the precisions, 1 / std**2": _infer(_powers(-2, -1)),
    "z is drawn from the prior; draw it from the posterior": _infer(
        draw=lambda q, noise, message, prior: prior[0] + prior[1].exp() * noise
    ),
    "z is drawn from the message; draw it from the merge": _infer(
        draw=lambda q, noise, message, prior: message[0] + message[1].exp() * noise
    ),
    "the third value is the standard deviation; return its logarithm": _infer(
        result=lambda z, q: (z, q[0], q[1].exp())
    ),
    "mean and log_std come first; return z, mean, log_std": _infer(result=lambda z, q: (*q, z)),
    "the third value is the log-variance; return half of it": _infer(
        result=lambda z, q: (z, q[0], 2 * q[1])
    ),
    "the log-precision, or half of it, is taken for log_std; log_std is -1/2 of it": _infer(
        lambda message, prior: (_merged(message, prior)[0], -_merged(message, prior)[1])
    ),
    "the mean is not divided by the sum of the precisions": _infer(_not_normalised),
    "the gradient with respect to the prior is not": _infer(
        lambda message, prior: _merged(message, (prior[0], prior[1].detach()))
    ),
    "no gradient reaches the prior": _infer(
        lambda message, prior: _merged(message, (prior[0].detach(), prior[1].detach()))
    ),
    "the gradient with respect to the message is not": _infer(
        draw=lambda q, noise, message, prior: (q[0] + q[1].exp() * noise).detach()
    ),
}.items():
    infer.mistake(_hint, _wrong)
for _hint, _draw in WRONG_DRAWS.items():
    infer.mistake(_hint, _infer(draw=lambda q, noise, message, prior, draw=_draw: draw(*q, noise)))


@infer.mistake("at the top the message is merged with N(0, I); here the top is not merged")
def _(message, prior, noise):
    standard = (torch.zeros_like(noise), torch.zeros_like(noise))
    return _infer()(message, standard if prior is None else prior, noise)


@checked
def walk_down(answer: Answer) -> str:
    r"""The way down: prior, posterior and draw of every level.

    Write ``walk_down(priors, messages, noise) -> [(z, q, p), ...]``, level 1 first, where ``q``
    and ``p`` are pairs ``(mean, log_std)``. The walk starts at the top with the prior
    :math:`N(0, I)` and the message alone as the posterior; ``priors[l - 1]`` gives the outputs of
    :math:`p(z_l \mid z_{l+1})` from :math:`z_{l+1}`. ``messages`` and ``noise`` have one entry per
    level, level 1 first.

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
        _, _, priors, _ = plain_parts(small_package(ladder_vae, sizes, scale=2))
        compare_nested(
            answer,
            _walk(),
            (priors, pairs(sizes, batch), noises(sizes, batch)),
            names=level_names(len(sizes)),
            mistakes=hints,
            gradients={1: "the messages", 2: "the noise"},
        )
    return "z, q and p are right at every level, for 1, 2 and 5 levels"


def _walk(
    reads: Callable[..., Tensor] = lambda z, q, p, e: z,
    step: Callable[[Pair, Pair | None, Tensor], tuple[Tensor, Tensor, Tensor]] = _infer(),  # noqa: B008
    network: Callable[[Networks, int], nn.Module] = lambda priors, l: priors[l],
    split: Callable[[Tensor], Pair] = split_gaussian,
    merges: Callable[[int, Pair, Pair], Pair | None] = lambda above, p, first: p,
    noise_of: Callable[[list[Tensor], int], Tensor] = lambda noise, l: noise[l],
    message_of: Callable[[list[Pair], int], Pair] = lambda given, l: given[l],
    top: Callable[[Pair], Pair | None] = lambda first: None,
) -> Answer:
    """The way down, or a mistake in what a part of it reads."""

    def answer(priors: Networks, given: list[Pair], noise: list[Tensor]) -> list[Level]:
        found, zero = [], torch.zeros_like(noise[-1])
        first = p = (zero, zero)
        for l in reversed(range(len(given))):
            prior = top(first) if l == len(given) - 1 else merges(l, p, first)
            z, *q = step(message_of(given, l), prior, noise_of(noise, l))
            found.insert(0, (z, tuple(q), p))
            if l > 0:
                p = split(network(priors, l - 1)(reads(z, q, p, noise[l])))
        return found

    return answer


def _messages_as_posteriors(message: Pair, prior: Pair | None, noise: Tensor) -> tuple:
    return _infer()(message, None, noise)


for _hint, _wrong in {
    "the prior network reads the posterior's mean; it reads the draw z": _walk(
        reads=lambda z, q, p, e: q[0]
    ),
    "the prior network reads the prior's mean; it reads the draw z": _walk(
        reads=lambda z, q, p, e: p[0]
    ),
    "the prior network reads a draw from the prior; here z comes from the posterior": _walk(
        reads=lambda z, q, p, e: p[0] + p[1].exp() * e
    ),
    "no level below the top is merged with its prior": _walk(step=_messages_as_posteriors),
    "below the top every message is merged with N(0, I); use the level's own prior": _walk(
        merges=lambda above, p, first: first
    ),
    "the prior networks are taken in the wrong order; priors[0] gives p(z_1 | z_2)": _walk(
        network=lambda priors, l: priors[len(priors) - 1 - l]
    ),
    "the noise is taken in the order of the walk; noise[0] belongs to z_1": _walk(
        noise_of=lambda noise, l: noise[len(noise) - 1 - l]
    ),
    "the messages are taken in the order of the walk; messages[0] is about z_1": _walk(
        message_of=lambda given, l: given[len(given) - 1 - l]
    ),
    "every level draws with the noise of level 1; use its own": _walk(
        noise_of=lambda noise, l: noise[0]
    ),
    "the log std of the conditional priors is not bounded": _walk(
        split=lambda outputs: outputs.chunk(2, dim=1)
    ),
    "the top level comes first; begin the list with level 1": (
        lambda *inputs: _walk()(*inputs)[::-1]
    ),
    "q and p are swapped; give (z, q, p)": (
        lambda *inputs: [(z, p, q) for z, q, p in _walk()(*inputs)]
    ),
    "the top is merged with N(0, I) too; infer is told None there": _walk(top=lambda first: first),
    "the second entries of q and p are standard deviations; give their logarithms": (
        lambda *inputs: [
            (z, (q[0], q[1].exp()), (p[0], p[1].exp())) for z, q, p in _walk()(*inputs)
        ]
    ),
    "two calls with the same noise differ": _walk(
        noise_of=lambda noise, l: torch.randn_like(noise[l])
    ),
    "the gradient with respect to the messages is not": _walk(reads=lambda z, q, p, e: z.detach()),
}.items():
    walk_down.mistake(_hint, _wrong)


@walk_down.mistake("the prior of the top level is N(0, I), whose log std is 0, not 1")
def _(priors, messages, noise):
    *lower, (z, q, (mean, log_std)) = _walk()(priors, messages, noise)
    return [*lower, (z, q, (mean, log_std + 1))]


@checked
def log_weight(answer: Answer) -> str:
    r"""The log-weight of one joint draw (:eq:`eq-log-weight`).

    Write ``log_weight(x, logits, levels) -> (B,)``, in nats: the log-probability of the binary
    pixels ``x`` under ``logits``, both ``(B, D)``, plus :math:`\log p(z_l \mid z_{>l}) - \log
    q(z_l \mid x, z_{>l})` at the draw, summed over levels. ``levels`` is what ``walk_down``
    returns.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for sizes, batch in ((_EQUAL, 8), (_SIZES, 5), ((4,), 1), ((), 5)):
        compare_nested(
            answer,
            _log_w(),
            (images(batch), 2 * normal(batch, PIXELS), levels(sizes, batch)),
            names=["the log-weight" if sizes else "the log-weight without levels"],
            mistakes=log_weight.mistakes,
            gradients={1: "the logits", 2: "the levels"},
        )
    names = ["the log-weight at logits of -90 and 120 (use the logits, not probabilities)"]
    compare_nested(answer, _log_w(), sure_of_the_wrong(), names=names)
    return "the log-weights of 20 draws are right, also where the decoder is sure and wrong"


def _log_w(
    reconstruction: Callable[[Tensor, Tensor], Tensor] = log_px,
    ratio: Callable[[Tensor, Pair, Pair], Tensor] = log_ratio,
    levels_of: Callable[[list], list] = lambda found: found,
    result: Callable[[Tensor], Tensor] = lambda value: value,
) -> Answer:
    """The log-weight, or a mistake in one of its terms."""

    def answer(x: Tensor, logits: Tensor, found: list[Level]) -> Tensor:
        terms = [ratio(*level) for level in levels_of(found)]
        return result(reconstruction(x, logits) + sum(terms))

    return answer


for _hint, _wrong in {
    "the top level is missing": _log_w(levels_of=lambda found: found[:-1]),
    "level 1 is missing": _log_w(levels_of=lambda found: found[1:]),
    "this is the negative log-weight, a loss; return the log-weight": _log_w(result=torch.neg),
    "this sums over the batch; return one number per example, (B,)": _log_w(result=torch.sum),
    "this averages over the batch; return one number per example, (B,)": _log_w(result=torch.mean),
    "this is the weight; return its logarithm": _log_w(result=torch.exp),
    "the gradient with respect to the levels is not": _log_w(
        ratio=lambda z, q, p: log_ratio(z.detach(), q, p)
    ),
    "no gradient reaches the logits": _log_w(lambda x, logits: log_px(x, logits.detach())),
}.items():
    log_weight.mistake(_hint, _wrong)
for _hint, _ratio in WRONG_RATIOS.items():
    log_weight.mistake(_hint, _log_w(ratio=_ratio))
for _hint, _pixels in WRONG_PIXELS.items():
    log_weight.mistake(_hint, _log_w(_pixels))


@checked
def Ladder(answer: Answer) -> str:  # noqa: N802
    r"""The whole ladder as a module.

    Write ``class Ladder(nn.Module)`` with ``__init__(self, up, heads, priors, decoder)``, which
    keeps the networks, and ``forward(self, x, noise) -> (B,)``, the log-weight of one draw. The
    decoder gives the logits of the pixels from :math:`z_1`.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    cases = ((_EQUAL, 8), (_SIZES, 5), ((3,), 1))
    compare_with_recipe(answer, ladder_vae, cases, scale=2, mistakes=Ladder.mistakes)
    return (
        "the log-weights of 14 draws are those of the package's ladder, for 1 and 5 levels, and "
        "so are the gradients of all parameters"
    )


def _assembly(
    decodes: Callable[[list[Level]], Tensor] = lambda found: found[0][0],
    way_up: Answer = _messages(),  # noqa: B008
    walk: Answer = _walk(),  # noqa: B008
    weight: Answer = _log_w(),  # noqa: B008
    keep: Callable[[Networks], object] = nn.ModuleList,
) -> type[nn.Module]:
    """The ladder, or a mistake in how its stages are put together."""

    class Answered(nn.Module):
        def __init__(
            self, up: Networks, heads: Networks, priors: Networks, decoder: nn.Module
        ) -> None:
            super().__init__()
            self.up, self.heads, self.priors = keep(up), keep(heads), keep(priors)
            self.decoder = decoder

        def forward(self, x: Tensor, noise: list[Tensor]) -> Tensor:
            found = walk(self.priors, way_up(self.up, self.heads, x), noise)
            return weight(x, self.decoder(decodes(found)), found)

    return Answered


for _hint, _wrong in {
    "keep lists in nn.ModuleList": _assembly(keep=list),
    "the decoder reads the mean of q(z_1); it reads the draw z_1": _assembly(
        lambda found: found[0][1][0]
    ),
    "the decoder reads the mean of the prior of z_1; it reads the draw z_1": _assembly(
        lambda found: found[0][2][0]
    ),
    "the decoder reads the top latent; it reads z_1": _assembly(lambda found: found[-1][0]),
    "the noise is given in the order of the walk; noise[0] belongs to z_1": _assembly(
        walk=lambda priors, given, noise: _walk()(priors, given, noise[::-1])
    ),
    "the decoder's outputs go through a sigmoid first; log_weight takes logits": _assembly(
        weight=lambda x, logits, found: _log_w()(x, logits.sigmoid(), found)
    ),
    "the messages are given top first; messages[0] is about z_1": _assembly(
        way_up=lambda up, heads, x: _messages()(up, heads, x)[::-1]
    ),
    "this is the loss; forward returns the log-weight": _assembly(weight=_log_w(result=torch.neg)),
    "this averages over the batch; return one number per example, (B,)": _assembly(
        weight=_log_w(result=torch.mean)
    ),
    "draw every latent with z = mean + std * noise, and detach nothing": _assembly(
        way_up=lambda *inputs: [(m.detach(), s.detach()) for m, s in _messages()(*inputs)]
    ),
    "two passes with the same noise differ": _assembly(
        walk=_walk(noise_of=lambda noise, l: torch.randn_like(noise[l]))
    ),
}.items():
    Ladder.mistake(_hint, _wrong)
