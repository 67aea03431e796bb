"""Checks of the build of chapter 4: a ladder of any number of levels, in plain PyTorch.

A Gaussian is a pair of tensors, mean and log standard deviation. In the first case of a check all
widths are equal, so that a network that reads the wrong tensor gives wrong values, which have a
hint, where other widths would give an error. The last check compares with the package's ladder.
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
from hvae_course.posteriors import merge_parameters
from hvae_course.recipes import ladder_vae

# mean and log standard deviation of a diagonal Gaussian, each (B, Z)
Pair = tuple[Tensor, Tensor]
Networks = list[nn.Module]
_EQUAL, _SIZES = (6, 6, 6, 6, 6), (5, 4, 3, 2, 1)
_BATCH = 8


def _package(sizes: Sequence[int], data: int = 6, hidden: int = 6) -> HierarchicalVAE:
    """A ladder of the package, with weights that are large enough for every mistake to show."""
    options = {"hidden": (hidden,), "normalisation": "none", "activation": "tanh"}
    spec = DataSpec((data,), num_values=2)
    model = ladder_vae(spec, latent_sizes=tuple(sizes), **options).float()
    for parameter in model.parameters():
        parameter.data *= 2
    return model


def _networks(model: HierarchicalVAE) -> tuple[Networks, Networks, Networks, nn.Module]:
    """Upward networks, heads, prior networks and decoder, of plain layers."""
    return (
        [plain(block) for block in model.bottom_up.blocks],
        [plain(rule.head) for rule in model.posterior.rules],
        [plain(conditional) for conditional in model.top_down.conditionals],
        plain(model.top_down.likelihood.net),
    )


def _noise(sizes: Sequence[int]) -> list[Tensor]:
    return [torch.randn(_BATCH, size, dtype=torch.float32) for size in sizes]


def _binary(*shape: int) -> Tensor:
    return torch.randint(2, shape).float()


def _pairs(sizes: Sequence[int]) -> list[Pair]:
    return [(mean, 0.5 * raw) for mean, raw in zip(_noise(sizes), _noise(sizes), strict=True)]


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
    for sizes, hints in ((_EQUAL, messages.mistakes), (_SIZES, ())):
        up, heads, _, _ = _networks(_package(sizes))
        for head in heads:
            head[0].weight.data *= 5  # the bound shows
        names = _names("the mean of message {}", "the log std of message {}", levels=len(sizes))
        inputs = (up, heads, torch.randn(_BATCH, 6, dtype=torch.float32))
        compare_nested(answer, _messages(), inputs, names=names, mistakes=hints)
    return "the five messages are right, for equal and for unequal latent sizes"


def _names(*patterns: str, levels: int) -> list[str]:
    return [pattern.format(l) for l in range(1, levels + 1) for pattern in patterns]


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
    "the second half of the outputs is taken for the means; the means come first": _messages(
        lambda outputs: split_gaussian(torch.cat(outputs.chunk(2, dim=1)[::-1], dim=1))
    ),
    "means and raw scales alternate here; the first half of the outputs holds the means": (
        _messages(
            lambda outputs: split_gaussian(torch.cat([outputs[:, ::2], outputs[:, 1::2]], dim=1))
        )
    ),
    "the raw log-scale is not bounded; the log std is 7 tanh(raw / 7)": _messages(
        lambda outputs: outputs.chunk(2, dim=1)
    ),
    "the log-scale is clamped; the smooth bound is 7 tanh(raw / 7)": _messages(
        lambda outputs: (outputs.chunk(2, 1)[0], outputs.chunk(2, 1)[1].clamp(-7, 7))
    ),
    "the bound is 1 here; the log std may go up to 7 in magnitude": _messages(
        lambda outputs: (outputs.chunk(2, 1)[0], outputs.chunk(2, 1)[1].tanh())
    ),
    "the raw scale is not divided by 7 inside the tanh": _messages(
        lambda outputs: (outputs.chunk(2, 1)[0], 7 * outputs.chunk(2, 1)[1].tanh())
    ),
    "this is the standard deviation; keep its logarithm": _messages(
        lambda outputs: (split_gaussian(outputs)[0], split_gaussian(outputs)[1].exp())
    ),
    "the log-scale is halved, as if it were a log-variance; it is the log std": _messages(
        lambda outputs: (split_gaussian(outputs)[0], split_gaussian(outputs)[1] / 2)
    ),
    "the top level comes first; begin the list with level 1": (
        lambda up, heads, x: _messages()(up, heads, x)[::-1]
    ),
}.items():
    messages.mistake(_hint)(_wrong)


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
    for prior in (True, False):
        message, other = _pairs((3, 3))
        inputs = (message, other if prior else None, torch.randn(_BATCH, 3, dtype=torch.float32))
        where = "" if prior else " at the top"
        named = [f"{name}{where}" for name in names]
        compare(answer, _infer(), inputs, name=named, mistakes=infer.mistakes)
    precise = torch.tensor([[-7.0, 7.0, -7.0]]), torch.tensor([[7.0, 7.0, -7.0]])
    message, other = [(torch.full((1, 3), 0.5), log_std.float()) for log_std in precise]
    inputs = (message, (other[0] + 1, other[1]), torch.ones(1, 3, dtype=torch.float32))
    named = [f"{name} at log stds of 7" for name in names]
    compare(answer, _infer(), inputs, name=named)
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
    "the draw multiplies the noise by log_std; multiply it by the standard deviation": _infer(
        draw=lambda q, noise, message, prior: q[0] + q[1] * noise
    ),
    "the draw multiplies the noise by the variance; multiply it by the standard deviation": (
        _infer(draw=lambda q, noise, message, prior: q[0] + (2 * q[1]).exp() * noise)
    ),
    "the draw halves log_std, as if it were a log-variance": _infer(
        draw=lambda q, noise, message, prior: q[0] + (q[1] / 2).exp() * noise
    ),
    "z is the mean; the noise is missing": _infer(draw=lambda q, noise, message, prior: q[0]),
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
}.items():
    infer.mistake(_hint)(_wrong)


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
    patterns = ("z_{}", "the mean of q at level {}", "the log std of q at level {}")
    patterns += ("the mean of p at level {}", "the log std of p at level {}")
    for sizes, hints in ((_EQUAL, walk_down.mistakes), (_SIZES, ()), ((3,), ()), ((2, 3), ())):
        _, _, priors, _ = _networks(_package(sizes))
        names = _names(*patterns, levels=len(sizes))
        inputs = (priors, _pairs(sizes), _noise(sizes))
        compare_nested(answer, _walk(), inputs, names=names, mistakes=hints)
    return "z, q and p are right at every level, for 1, 2 and 5 levels"


def _walk(
    reads: Callable[..., Tensor] = lambda z, q, p, e: z,
    step: Callable[[Pair, Pair | None, Tensor], tuple[Tensor, Tensor, Tensor]] = _infer(),  # noqa: B008
    network: Callable[[Networks, int], nn.Module] = lambda priors, l: priors[l],
    split: Callable[[Tensor], Pair] = split_gaussian,
    merges: Callable[[int, Pair, Pair], Pair | None] = lambda above, p, first: p,
    noise_of: Callable[[list[Tensor], int], Tensor] = lambda noise, l: noise[l],
    message_of: Callable[[list[Pair], int], Pair] = lambda found, l: found[l],
) -> Answer:
    """The way down, or a mistake in what a part of it reads."""

    def answer(
        priors: Networks, found: list[Pair], noise: list[Tensor]
    ) -> list[tuple[Tensor, Pair, Pair]]:
        levels, zero = [], torch.zeros_like(noise[-1])
        first = p = (zero, zero)
        for l in reversed(range(len(found))):
            given = None if l == len(found) - 1 else merges(l, p, first)
            z, *q = step(message_of(found, l), given, noise_of(noise, l))
            levels.insert(0, (z, tuple(q), p))
            if l > 0:
                p = split(network(priors, l - 1)(reads(z, q, p, noise[l])))
        return levels

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
        message_of=lambda found, l: found[len(found) - 1 - l]
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
}.items():
    walk_down.mistake(_hint)(_wrong)


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
    for sizes in (_EQUAL, _SIZES, (4,)):
        levels = list(zip(_noise(sizes), _pairs(sizes), _pairs(sizes), strict=True))
        inputs = (_binary(_BATCH, 6), 2 * torch.randn(_BATCH, 6, dtype=torch.float32), levels)
        compare(answer, _log_w(), inputs, name="the log-weight", mistakes=log_weight.mistakes)
    sure = (torch.tensor([[1.0, 0.0]]), torch.tensor([[-90.0, 120.0]]), levels[:0])
    sure = (sure[0].float(), sure[1].float(), [tuple(_first_row(level)) for level in levels])
    compare(answer, _log_w(), sure, name="the log-weight at logits of -90 and 120")
    return "the log-weights of 25 draws are right, also where the decoder is sure and wrong"


def _first_row(value: object) -> object:
    if isinstance(value, Tensor):
        return value[:1]
    return tuple(_first_row(part) for part in value)


def _log_px(x: Tensor, logits: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)


def _log_ratio(z: Tensor, q: Pair, p: Pair) -> Tensor:
    return log_normal(z, *p) - log_normal(z, *q)


def _log_w(
    reconstruction: Callable[[Tensor, Tensor], Tensor] = _log_px,
    ratio: Callable[[Tensor, Pair, Pair], Tensor] = _log_ratio,
    levels_of: Callable[[list], list] = lambda levels: levels,
    result: Callable[[Tensor], Tensor] = lambda value: value,
) -> Answer:
    """The log-weight, or a mistake in one of its terms."""

    def answer(x: Tensor, logits: Tensor, levels: list) -> Tensor:
        terms = [ratio(*level) for level in levels_of(levels)]
        return result(reconstruction(x, logits) + sum(terms))

    return answer


def _kl(z: Tensor, q: Pair, p: Pair) -> Tensor:
    t = 2 * (q[1] - p[1])
    return -0.5 * (t.exp() - 1 - t + ((q[0] - p[0]) / p[1].exp()) ** 2).sum(dim=1)


for _hint, _wrong in {
    "the signs of log q and log p are swapped": _log_w(ratio=lambda z, q, p: -_log_ratio(z, q, p)),
    "log q is missing": _log_w(ratio=lambda z, q, p: log_normal(z, *p)),
    "the log-priors are missing": _log_w(ratio=lambda z, q, p: -log_normal(z, *q)),
    "log q and log p are both added; the weight divides by q": _log_w(
        ratio=lambda z, q, p: log_normal(z, *p) + log_normal(z, *q)
    ),
    "these are closed-form KL terms; a log-weight has the log-densities at the draw": _log_w(
        ratio=_kl
    ),
    "every level has the prior N(0, I) here; use the p of the level": _log_w(
        ratio=lambda z, q, p: _log_ratio(z, q, (0 * z, 0 * z))
    ),
    "log std is missing in the log-densities; it does not cancel": _log_w(
        ratio=lambda z, q, p: _log_ratio(z, q, p) + (p[1] - q[1]).sum(dim=1)
    ),
    "the log-densities are averaged over the latent dimensions; sum them": _log_w(
        ratio=lambda z, q, p: _log_ratio(z, q, p) / z.shape[1]
    ),
    "log std is taken for the standard deviation": _log_w(
        ratio=lambda z, q, p: _log_ratio(z, (q[0], q[1].abs().log()), (p[0], p[1].abs().log()))
    ),
    "the reconstruction is averaged over the pixels; sum it": _log_w(
        lambda x, logits: _log_px(x, logits) / x.shape[1]
    ),
    "the cross-entropy is added; the log-probability of x is minus the cross-entropy": _log_w(
        lambda x, logits: -_log_px(x, logits)
    ),
    "the reconstruction is a squared error; binary pixels have a Bernoulli likelihood": _log_w(
        lambda x, logits: -((x - logits.sigmoid()) ** 2).sum(dim=1)
    ),
    "the reconstruction is missing": _log_w(lambda x, logits: 0 * _log_px(x, logits)),
    "logits are taken for probabilities of probabilities; the sigmoid is applied twice": _log_w(
        lambda x, logits: _log_px(x, logits.sigmoid())
    ),
    "the top level is missing": _log_w(levels_of=lambda levels: levels[:-1]),
    "level 1 is missing": _log_w(levels_of=lambda levels: levels[1:]),
    "this is the negative log-weight, a loss; return the log-weight": _log_w(result=torch.neg),
    "this sums over the batch; return one number per example, (B,)": _log_w(result=torch.sum),
    "this averages over the batch; return one number per example, (B,)": _log_w(result=torch.mean),
    "this is the weight; return its logarithm": _log_w(result=torch.exp),
}.items():
    log_weight.mistake(_hint)(_wrong)


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
    for sizes, hints in ((_EQUAL, Ladder.mistakes), (_SIZES, ()), ((3,), ())):
        model, inputs = _package(sizes), (_binary(_BATCH, 6), _noise(sizes))
        compare_models(
            answer,
            package_log_weight(model),
            _networks(model),
            inputs,
            name="the log-weight",
            mistakes=hints,
        )
    return (
        "the log-weights of 24 draws are those of the package's ladder, for 1 and 5 levels, and "
        "so are the gradients of all parameters"
    )


def _assembly(
    decodes: Callable[[list], Tensor] = lambda levels: levels[0][0],
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
            levels = walk(self.priors, way_up(self.up, self.heads, x), noise)
            return weight(x, self.decoder(decodes(levels)), levels)

    return Answered


for _hint, _wrong in {
    "keep lists in nn.ModuleList": _assembly(keep=list),
    "the decoder reads the mean of q(z_1); it reads the draw z_1": _assembly(
        lambda levels: levels[0][1][0]
    ),
    "the decoder reads the mean of the prior of z_1; it reads the draw z_1": _assembly(
        lambda levels: levels[0][2][0]
    ),
    "the decoder reads the top latent; it reads z_1": _assembly(lambda levels: levels[-1][0]),
    "the noise is given in the order of the walk; noise[0] belongs to z_1": _assembly(
        walk=lambda priors, found, noise: _walk()(priors, found, noise[::-1])
    ),
    "the decoder's outputs go through a sigmoid first; log_weight takes logits": _assembly(
        weight=lambda x, logits, levels: _log_w()(x, logits.sigmoid(), levels)
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
}.items():
    Ladder.mistake(_hint)(_wrong)


Ladder.mistake(
    "two passes with the same noise differ",
    _assembly(
        walk=lambda priors, found, noise: _walk()(
            priors, found, list(map(torch.randn_like, noise))
        )
    ),
)
