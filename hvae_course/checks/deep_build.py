"""Checks of the build of chapter 8: a deep convolutional hierarchy, made of one module per part.

The parts are modules that the package's walk takes: a conditional prior that gives a feature too,
a rule of the posterior, an update of the state. Each check compares one of them with the formula,
at its start and after its parameters have changed. The last one compares with the package's model.
All is in double precision.
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.checks.building import make, used
from hvae_course.checks.levels import WRONG_SPLITS, AnyWidth, normal
from hvae_course.checks.nested import (
    compare_models,
    compare_nested,
    package_log_weight,
    split_gaussian,
)
from hvae_course.checks.verdict import Answer, Mistake, as_sequence, checked
from hvae_course.data import DataSpec
from hvae_course.gaussians import diag_normal
from hvae_course.hierarchy import HierarchicalVAE, TopDown
from hvae_course.hierarchy.trace import State
from hvae_course.priors import StandardNormal
from hvae_course.recipes import vdvae

_CHANNELS, _LATENT, _SIDE = 6, 3, 4


def _maps(batch: int, channels: int = _CHANNELS, side: int = _SIDE) -> Tensor:
    return normal(batch, channels, side, side).double()


def _body() -> nn.Module:
    """A body whose two layers have biases."""
    first, last = (nn.Conv2d(_CHANNELS, _CHANNELS, k, padding=k // 2) for k in (3, 1))
    return nn.Sequential(nn.GELU(), first, nn.GELU(), last).double()


def _change(module: nn.Module) -> None:
    """Change all parameters as a training would, by a formula."""
    for number, parameter in enumerate(module.parameters()):
        steps = torch.arange(parameter.numel()).to(parameter)
        change = 0.3 * torch.cos(1.7 * steps + number).view_as(parameter)
        parameter.data = parameter.data + change  # what was computed before keeps its gradients


def _flat(value: object, like: Sequence[str]) -> list[object]:
    """Tensors and distributions as a list of tensors, as many as there are names."""
    numbers = []
    wanted = as_sequence(value, 2, name="the result") if len(like) == 3 else [value]
    for part in wanted:
        is_pair = isinstance(part, Distribution)
        numbers += [part.mean, part.stddev] if is_pair else [part]
    if len(numbers) != len(like):
        raise Mistake(
            f"the module should give {' and '.join(like)}, where a Gaussian is a distribution; "
            f"got {', '.join(type(part).__name__ for part in wanted)}"
        )
    return numbers


def _compare_module(
    answer: Answer,
    right: Answer,
    cases: Sequence[tuple[Sequence[object], Sequence[Tensor]]],
    *,
    names: Sequence[str],
    inputs: str,
    mistakes: Sequence,
) -> None:
    """Compare a module at its start and after a change of its parameters.

    Args:
        answer: the student's class.
        right: the reference.
        cases: arguments of the constructor and of the forward pass.
        names: what the forward pass gives.
        inputs: what the forward pass takes.
        mistakes: known mistakes.
    """

    def applied(function: Answer) -> Answer:
        def run(parts: Sequence[object], given: list[Tensor]) -> list[object]:
            module = make(function, *copy.deepcopy(parts))
            values = []
            for change in (False, True):
                if change:
                    _change(module)
                first = next(module.parameters(), None)
                if first is None:
                    raise Mistake(
                        "the module has no parameters, so nothing in it is learned; keep what is "
                        "learned as an nn.Parameter of its own"
                    )
                values += _flat(module(*(x.to(first.dtype) for x in given)), names)
            return values

        return run

    after = [*names, *(f"{name}, when the parameters have changed," for name in names)]
    for parts, given in cases:
        compare_nested(
            applied(answer),
            applied(right),
            (parts, list(given)),
            names=after,
            mistakes=used(applied, mistakes),
            gradients={1: inputs},
        )


@checked
def Residual(answer: Answer) -> str:  # noqa: N802
    r"""A residual block with a scaled start (:eq:`eq-depth-scale`).

    Write ``class Residual(nn.Module)`` with ``__init__(self, body, num_blocks)``, which divides
    weight and bias of the last layer of ``body``, an ``nn.Sequential``, by the square root of
    ``num_blocks``, once, and ``forward(self, h) -> (B, C, H, W)``, the state plus what the body
    gives.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    cases = [((_body(), n), [_maps(batch)]) for n, batch in ((9, 4), (2, 1))]
    _compare_module(
        answer,
        _residual(),
        cases,
        names=["the state"],
        inputs="the state",
        mistakes=Residual.mistakes,
    )
    return "the states are right at the start, for two numbers of blocks, and after a change"


def _residual(
    add: Callable[[Tensor, Tensor, int], Tensor] = lambda h, g, n: h + g,
    power: float = -0.5,
    layers: Callable[[nn.Module], list] = lambda body: list(body[-1].parameters()),
    keep: Callable[[nn.Module], object] = lambda body: body,
) -> Answer:
    """The block, or a mistake in it."""

    class Answered(nn.Module):
        def __init__(self, body: nn.Module, num_blocks: int) -> None:
            super().__init__()
            self.body, self.num_blocks = keep(body), num_blocks
            with torch.no_grad():
                for parameter in layers(body):
                    parameter.mul_(num_blocks**power)

        def forward(self, h: Tensor) -> Tensor:
            body = self.body[0] if isinstance(self.body, list) else self.body
            return add(h, body(h), self.num_blocks)

    return Answered


for _hint, _wrong in {
    "the state is missing in the sum": _residual(lambda h, g, n: g),
    "the body is subtracted; add it": _residual(lambda h, g, n: h - g),
    "the state is added twice": _residual(lambda h, g, n: 2 * h + g),
    "the body is not scaled": _residual(power=0.0),
    "the factor is 1 / num_blocks; it is 1 / sqrt(num_blocks)": _residual(power=-1.0),
    "the factor is sqrt(num_blocks); divide by it": _residual(power=0.5),
    "the bias of the last layer is not scaled": _residual(layers=lambda body: [body[-1].weight]),
    "all layers are scaled; scale the last": _residual(
        layers=lambda body: list(body.parameters())
    ),
    "the body's output is divided in every pass; divide the weights of the last layer, once, so "
    "that training is free to change it": _residual(lambda h, g, n: h + g / n**0.5, power=0.0),
    "the body is divided twice, in its weights and in the pass": _residual(
        lambda h, g, n: h + g / n**0.5
    ),
    "the state is divided too; it passes through untouched": _residual(
        lambda h, g, n: (h + g) / n**0.5, power=0.0
    ),
    "does not register all of its networks": _residual(keep=lambda body: [body]),
    "the gradient with respect to the state is not": _residual(lambda h, g, n: h.detach() + g),
}.items():
    Residual.mistake(_hint, _wrong)


@checked
def Enlarge(answer: Answer) -> str:  # noqa: N802
    """A change of resolution: nearest neighbours and a learned map.

    Write ``class Enlarge(nn.Module)`` with ``__init__(self, channels, size)``, where ``size`` is
    the height and width of the output, multiples of those of the input, and ``forward(self, h)``:
    each value is copied to all positions of its patch, and a learned map ``(channels, *size)``,
    zero at the start, is added. That of `hvae_course.convolutions` has a learned gain too.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    cases = [
        ((_CHANNELS, (4, 4)), [_maps(3, side=2)]),
        ((_CHANNELS, (4, 6)), [_maps(1, side=2)]),
    ]
    _compare_module(
        answer,
        _enlarge(),
        cases,
        names=["the larger map"],
        inputs="the map",
        mistakes=Enlarge.mistakes,
    )
    return "maps of two sizes are enlarged, and the learned map has its own value everywhere"


def _nearest(h: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(h, size)


def _enlarge(
    copied: Callable[[Tensor, tuple[int, int]], Tensor] = _nearest,
    shape: Callable[[int, tuple[int, int]], tuple[int, ...]] = lambda c, size: (c, *size),
    start: float = 0.0,
    add: Callable[[Tensor, Tensor], Tensor] = torch.add,
) -> Answer:
    """The change of resolution, or a mistake in it."""

    class Answered(nn.Module):
        def __init__(self, channels: int, size: tuple[int, int]) -> None:
            super().__init__()
            self.map, self.size = nn.Parameter(torch.zeros(shape(channels, size)) + start), size

        def forward(self, h: Tensor) -> Tensor:
            return add(copied(h, self.size), self.map)

    return Answered


def _blocks_of_zeros(h: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = (new // old for new, old in zip(size, h.shape[2:], strict=True))
    larger = h.new_zeros(*h.shape[:2], *size)
    larger[:, :, ::rows, ::columns] = h
    return larger


for _hint, _wrong in {
    "this interpolates between the positions; copy each value to its patch": _enlarge(
        lambda h, size: F.interpolate(h, size, mode="bilinear")
    ),
    "the map is repeated as a whole, like tiles; copy each value to its own patch": _enlarge(
        lambda h, size: h.repeat(1, 1, size[0] // h.shape[2], size[1] // h.shape[3])
    ),
    "each value stands in one corner of its patch, with zeros beside it; copy it": _enlarge(
        _blocks_of_zeros
    ),
    "height and width of the copy are exchanged": _enlarge(lambda h, size: _nearest(h, size).mT),
    "the learned map has one value per channel; it has one for every position too": _enlarge(
        shape=lambda c, size: (c, 1, 1)
    ),
    "the learned map is the same for all channels; it has one for each": _enlarge(
        shape=lambda c, size: (1, *size)
    ),
    "the learned map starts at one; it starts at zero": _enlarge(start=1.0),
    "the copy is multiplied by the learned map; add it": _enlarge(add=torch.mul),
    "should have shape (1, 6, 4, 6), yours has (1, 6, 4, 4)": _enlarge(
        lambda h, size: _nearest(h, (size[0], size[0])), lambda c, size: (c, size[0], size[0])
    ),
    "the copy is missing": _enlarge(add=lambda h, m: 0 * h + m),
    "no gradient reaches the map": _enlarge(add=lambda h, m: h.detach() + m),
}.items():
    Enlarge.mistake(_hint, _wrong)


@Enlarge.mistake(
    "the learned map is at the lower resolution, so that all positions of a patch get the same; "
    "it has the larger size"
)
class _(nn.Module):
    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.map, self.size = nn.Parameter(torch.zeros(channels, 2, 2)), size

    def forward(self, h: Tensor) -> Tensor:
        return _nearest(h + self.map, self.size)


@Enlarge.mistake("the module has no parameters, so nothing in it is learned")
class _(nn.Module):
    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.map, self.size = torch.zeros(channels, *size), size

    def forward(self, h: Tensor) -> Tensor:
        return _nearest(h, self.size) + self.map


@checked
def Prior(answer: Answer) -> str:  # noqa: N802
    r"""The prior of a level, and the feature that its network gives besides.

    Write ``class Prior(nn.Module)`` with ``__init__(self, net, latent)`` and ``forward(self, h) ->
    (p, f)``: the distribution :math:`p(z_l | z_>l)` and the feature of :eq:`eq-residual-state`.
    ``net`` gives ``2 * latent + C`` channels: the means, the raw log-scales :math:`\xi` with
    :math:`\log\sigma = 7 \tanh(\xi / 7)`, and the feature.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    net = AnyWidth(2 * _LATENT + _CHANNELS, largest=12.0).double()
    cases = [((net, _LATENT), [_maps(4)]), ((net, 2), [_maps(1, side=2)])]
    _compare_module(
        answer,
        _prior(),
        cases,
        names=["the mean of p", "the std of p", "the feature"],
        inputs="the state",
        mistakes=Prior.mistakes,
    )
    return "p and the feature are right, for two latent sizes"


def _normal_of(outputs: Tensor) -> Distribution:
    return diag_normal(*split_gaussian(outputs))


def _prior(
    head: Callable[[Tensor, int], Tensor] = lambda outputs, z: outputs[:, : 2 * z],
    feature: Callable[[Tensor, int, Tensor], Tensor] = lambda outputs, z, h: outputs[:, 2 * z :],
    split: Callable[[Tensor], Distribution] = _normal_of,
    result: Callable[[Distribution, Tensor], object] = lambda p, f: (p, f),
) -> Answer:
    """The prior, or a mistake in it."""

    class Answered(nn.Module):
        def __init__(self, net: nn.Module, latent: int) -> None:
            super().__init__()
            self.net, self.latent = net, latent

        def forward(self, h: Tensor) -> object:
            outputs = self.net(h)
            f = feature(outputs, self.latent, h)
            return result(split(head(outputs, self.latent)), f)

    return Answered


for _hint, _wrong in {
    "the feature is taken first; the means and raw log-scales come first": _prior(
        lambda outputs, z: outputs[:, -2 * z :], lambda outputs, z, h: outputs[:, : -2 * z]
    ),
    "the feature comes first; return (p, f)": _prior(result=lambda p, f: (f, p)),
    "the feature holds all outputs of the network; leave those of the prior out": _prior(
        feature=lambda outputs, z, h: outputs
    ),
    "the state is added to the feature; the walk adds it": _prior(
        feature=lambda outputs, z, h: outputs[:, 2 * z :] + h
    ),
    "the feature is the state; it is the rest of the network's outputs": _prior(
        feature=lambda outputs, z, h: h
    ),
    "the feature is zero; it is the rest of the network's outputs": _prior(
        feature=lambda outputs, z, h: 0 * h
    ),
    "all outputs are split into means and log-scales; the last C are the feature": _prior(
        lambda outputs, z: outputs
    ),
    "the gradient with respect to the state is not": _prior(
        feature=lambda outputs, z, h: outputs[:, 2 * z :].detach()
    ),
    "should be 2 values": _prior(result=lambda p, f: p),
}.items():
    Prior.mistake(_hint, _wrong)
for _hint, _split in WRONG_SPLITS.items():
    Prior.mistake(_hint, _prior(split=lambda o, split=_split: diag_normal(*split(o))))


@checked
def Posterior(answer: Answer) -> str:  # noqa: N802
    r"""The rule of the posterior (:eq:`eq-concatenation`).

    Write ``class Posterior(PosteriorRule)`` with ``__init__(self, net)`` and ``forward(self, d, h,
    p) -> q``. The network reads the feature and the state, joined along the channels in this
    order, and gives means and raw log-scales. It reads neither p nor the feature of the prior.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    net = AnyWidth(2 * _LATENT, largest=12.0).double()
    cases = [
        (
            (net,),
            [_maps(batch, side=side), _maps(batch, side=side), _maps(batch, 2 * _LATENT, side)],
        )
        for batch, side in ((4, 4), (1, 2))
    ]
    _compare_module(
        _with_prior(answer),
        _with_prior(_posterior()),
        cases,
        names=["the mean of q", "the std of q"],
        inputs="d and h",
        mistakes=used(_with_prior, Posterior.mistakes),
    )
    return "q is right, at two resolutions, and does not depend on p"


def _with_prior(answer: Answer) -> Answer:
    """A rule whose third argument is made from the outputs of a network."""

    def build(*parts: object) -> nn.Module:
        rule = make(answer, *parts)

        class Applied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rule = rule

            def forward(self, d: Tensor, h: Tensor, outputs: Tensor) -> object:
                return self.rule(d, h, _normal_of(outputs))

        return Applied()

    return build


def _posterior(
    joined: Callable[[Tensor, Tensor], Tensor] = lambda d, h: torch.cat([d, h], dim=1),
    split: Callable[[Tensor], Distribution] = _normal_of,
    relative: Callable[[Distribution, Distribution], Distribution] = lambda q, p: q,
) -> Answer:
    """The rule, or a mistake in it."""

    class Answered(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, d: Tensor, h: Tensor, p: Distribution) -> Distribution:
            return relative(split(self.net(joined(d, h))), p)

    return Answered


for _hint, _wrong in {
    "the posterior reads the feature alone; join the state": _posterior(lambda d, h: d),
    "the posterior reads the state alone; join the feature of the image": _posterior(
        lambda d, h: h
    ),
    "state and feature are in the wrong order; d comes first": _posterior(
        lambda d, h: torch.cat([h, d], dim=1)
    ),
    "feature and state are added; join them along axis 1": _posterior(lambda d, h: d + h),
    "this posterior is relative to p, as in chapter 3; here it does not read p": _posterior(
        relative=lambda q, p: diag_normal(p.mean + q.mean, p.stddev.log() + q.stddev.log())
    ),
    "the mean is relative to that of p; here q does not read p": _posterior(
        relative=lambda q, p: diag_normal(p.mean + q.mean, q.stddev.log())
    ),
    "this is the prior; the posterior is what the network gives": _posterior(
        relative=lambda q, p: p
    ),
    "the gradient with respect to d and h is not": _posterior(
        lambda d, h: torch.cat([d, h.detach()], dim=1)
    ),
    "where a Gaussian is a distribution": _posterior(relative=lambda q, p: q.mean),
}.items():
    Posterior.mistake(_hint, _wrong)
for _hint, _split in WRONG_SPLITS.items():
    Posterior.mistake(_hint, _posterior(split=lambda o, split=_split: diag_normal(*split(o))))


@checked
def Update(answer: Answer) -> str:  # noqa: N802
    r"""The update of the state by a latent (:eq:`eq-residual-state`).

    Write ``class Update(nn.Module)`` with ``__init__(self, latent, blocks)`` and ``forward(self,
    h, z) -> h``: the latent enters the state through the convolution ``latent``, and ``blocks``
    follow. The walk has added the feature of the prior to h.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    cases = []
    for batch, side, size in ((4, 4, _CHANNELS), (1, 2, 2)):
        parts = nn.Conv2d(size, _CHANNELS, 1).double(), AnyWidth(_CHANNELS).double()
        cases.append((parts, [_maps(batch, side=side), _maps(batch, size, side)]))
    _compare_module(
        answer,
        _update(),
        cases,
        names=["the state"],
        inputs="h and z",
        mistakes=Update.mistakes,
    )
    return "the states are right, at two resolutions"


def _update(
    enter: Callable[..., Tensor] = lambda h, z, latent, blocks: blocks(h + latent(z)),
) -> Answer:
    """The update, or a mistake in it."""

    class Answered(nn.Module):
        def __init__(self, latent: nn.Module, blocks: nn.Module) -> None:
            super().__init__()
            self.latent, self.blocks = latent, blocks

        def forward(self, h: Tensor, z: Tensor) -> Tensor:
            return enter(h, z, self.latent, self.blocks)

    return Answered


for _hint, _enter in {
    "the state is missing: the latent is added to it": (
        lambda h, z, latent, blocks: blocks(latent(z))
    ),
    "the latent is missing: it is added to the state": lambda h, z, latent, blocks: blocks(h),
    "the latent enters after the blocks; it enters before them": (
        lambda h, z, latent, blocks: blocks(h) + latent(z)
    ),
    "the latent is added as it is; it enters through the convolution": (
        lambda h, z, latent, blocks: blocks(h + z)
    ),
    "the convolution reads the sum; it reads the latent alone": (
        lambda h, z, latent, blocks: blocks(latent(h + z))
    ),
    "the blocks read the latent alone; they read the sum": (
        lambda h, z, latent, blocks: h + blocks(latent(z))
    ),
    "the state is added again after the blocks, which have their own sums": (
        lambda h, z, latent, blocks: h + blocks(h + latent(z))
    ),
    "the blocks are missing": lambda h, z, latent, blocks: h + latent(z),
    "the latent is subtracted; add it": lambda h, z, latent, blocks: blocks(h - latent(z)),
    "the gradient with respect to h and z is not": (
        lambda h, z, latent, blocks: blocks(h + latent(z.detach()))
    ),
}.items():
    Update.mistake(_hint, _update(_enter))


_STAGES = (((4, 3, 6),), ((4, 2, 6), (2, 1, 6)), ((4, 2, 6), (2, 2, 5), (1, 1, 4)), ((4, 1, 6),))
"""Resolutions of the models: height of the maps, number of levels, channels."""


def _package(stages: Sequence[tuple[int, int, int]]) -> tuple[HierarchicalVAE, list[Tensor]]:
    """A model of the package whose weights follow from a formula, and one row of noise."""
    shapes = [(2, side, side) for side, levels, _ in stages for _ in range(levels)]
    options = {"prior": "standard", "networks_options": {"stages": tuple(stages)}}
    model = vdvae(DataSpec((8, 8), num_values=2), latent_sizes=(2,) * len(shapes), **options)
    model = model.double().eval()
    _change(model)
    return model, [normal(4, *shape).double() for shape in shapes]


def _parts(model: HierarchicalVAE) -> tuple[object, ...]:
    down = model.top_down
    lists = model.bottom_up.blocks, model.posterior.rules, down.conditionals, down.updates
    return *([*modules] for modules in lists), down.initial, down.likelihood


@checked
def DeepVAE(answer: Answer) -> str:  # noqa: N802
    r"""The whole model, around the package's walk (:eq:`eq-log-weight`).

    Write ``class DeepVAE(nn.Module)`` with ``__init__(self, up, rules, conditionals, updates,
    start, likelihood)``, which keeps the modules of all levels, level 1 first, and ``forward(self,
    x, noise) -> (B,)``, the log-weight of one draw in nats. ``up`` holds the networks of the way
    up, one per level. Every level reads the last feature that has the size of its state. The prior
    of the top level is N(0, I), and ``noise`` has one entry per level.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    draws = 0
    for number, stages in enumerate(_STAGES):
        model, noise = _package(stages)
        x = torch.randint(2, (4, 64)).double()
        compare_models(
            answer,
            package_log_weight(model),
            _parts(model),
            (x, noise),
            name="the log-weight",
            mistakes=() if number else DeepVAE.mistakes,
        )
        draws += len(x)
    return (
        f"the log-weights of {draws} draws are those of the package's vdvae, for 1, 3 and 5 "
        "levels of one to three resolutions, and so are the gradients of all parameters"
    )


def _last_of_its_size(features: list[Tensor], h: Tensor, l: int) -> Tensor:
    return [d for d in features if d.shape[2:] == h.shape[2:]][-1]


def _assembly(
    reads: Callable[[list[Tensor], Tensor, int], Tensor] = _last_of_its_size,
    way_up: Callable[[Sequence[nn.Module], Tensor], list[Tensor]] | None = None,
    draw: Callable[..., Tensor] = lambda q, p, noise, l: q.mean + q.stddev * noise[l],
    given: Callable[[list], list] = lambda modules: modules,
    keep: Callable[[list], object] = nn.ModuleList,
    begin: Callable[[nn.Module], nn.Module] = lambda start: start,
    top: Callable[[Distribution], Distribution] = lambda p: p,
    state: Callable[[Tensor], Tensor] = lambda h: h,
    result: Callable[..., Tensor] = lambda trace, x: trace.log_weight(x),
) -> type[nn.Module]:
    """The model, or a mistake in how its parts are put together."""

    class Answered(nn.Module):
        def __init__(
            self,
            up: list[nn.Module],
            rules: list[nn.Module],
            conditionals: list[nn.Module],
            updates: list[nn.Module],
            start: nn.Module,
            likelihood: nn.Module,
        ) -> None:
            super().__init__()
            self.up, self.rules = keep(up), keep(given(rules))
            self.top_down = TopDown(updates, conditionals, likelihood, initial=begin(start))

        def forward(self, x: Tensor, noise: list[Tensor]) -> Tensor:
            features = (way_up or _way_up)(self.up, x)

            def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
                d = reads(features, h, l)
                q = self.rules[l](d, state(h), p)
                return q, draw(q, p, noise, l)

            prior = StandardNormal(*noise[-1].shape[1:]).to(noise[-1].dtype)()
            return result(self.top_down(top(prior), choose, len(x)), x)

    return Answered


def _way_up(up: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    features = []
    for network in up:
        x = network(x)
        features.append(x)
    return features


class _Zeros(nn.Module):
    """A start that the model keeps and does not use."""

    def __init__(self, start: nn.Module) -> None:
        super().__init__()
        self.start = start

    def forward(self, n: int) -> Tensor:
        return torch.zeros_like(self.start(n))


def _wider(p: Distribution) -> Distribution:
    return type(p)(type(p.base_dist)(p.mean, math.e * p.stddev), 3)


for _hint, _wrong in {
    "keep lists in nn.ModuleList": _assembly(keep=list),
    "every level reads the feature of its own number; all levels of a resolution read the last "
    "of that resolution": _assembly(lambda features, h, l: features[l]),
    "every level reads the first feature of its resolution; it reads the last": _assembly(
        lambda features, h, l: features[0]
    ),
    "z is the mean; the noise is missing": _assembly(draw=lambda q, p, noise, l: q.mean),
    "z is drawn from the prior; draw it from the posterior": _assembly(
        draw=lambda q, p, noise, l: p.mean + p.stddev * noise[l]
    ),
    "the noise is multiplied by the variance; multiply it by the standard deviation": _assembly(
        draw=lambda q, p, noise, l: q.mean + q.variance * noise[l]
    ),
    "the noise is taken in the order of the walk; noise[0] belongs to z_1": _assembly(
        draw=lambda q, p, noise, l: q.mean + q.stddev * noise[len(noise) - 1 - l]
    ),
    "the rules are taken in the order of the walk; rules[0] belongs to z_1": _assembly(
        given=lambda modules: modules[::-1]
    ),
    "the walk starts with zeros; give start to TopDown as initial": _assembly(begin=_Zeros),
    "the prior of the top level is N(0, I); its log std is 0, not 1": _assembly(top=_wider),
    "the rules are given a state of zeros; give them h": _assembly(state=torch.zeros_like),
    "this is the reconstruction alone: return the log-weight of the trace, and let choose give q, "
    "which z is drawn from, and not p": _assembly(result=lambda trace, x: trace.log_px(x)),
    "this is the loss; forward returns the log-weight": _assembly(
        result=lambda trace, x: -trace.log_weight(x)
    ),
    "this averages over the batch; return one number per example, (B,)": _assembly(
        result=lambda trace, x: trace.log_weight(x).mean()
    ),
    "draw every latent with z = mean + std * noise, and detach nothing": _assembly(
        draw=lambda q, p, noise, l: (q.mean + q.stddev * noise[l]).detach()
    ),
    "two passes with the same noise differ": _assembly(
        draw=lambda q, p, noise, l: q.mean + q.stddev * torch.randn_like(noise[l])
    ),
}.items():
    DeepVAE.mistake(_hint, _wrong)
