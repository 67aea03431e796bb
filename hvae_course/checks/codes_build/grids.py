"""Check of two grids of codes that are inferred top-down: what depends on what."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hvae_course.checks.building import compare_sum, make
from hvae_course.checks.codes_build.quantiser import (
    nearest_code,
    rows_at,
    slopes,
    squares,
    straight_through,
)
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    alike,
    as_sequence,
    as_tensor,
    checked,
)

_SIZE, _VALUES, _SIDE = 3, 5, 16
_GRIDS = {"z1": (4, 4), "z2": (2, 2)}


class _Codes(nn.Module):
    """A quantiser that records what it is given and what it gives, or gives what it is told."""

    def __init__(self, num_codes: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(num_codes, _SIZE))
        self.held: Tensor | None = None
        self.calls: list[tuple[Tensor, tuple[Tensor, ...]]] = []
        self.order: list[nn.Module] = []

    def forward(self, z_e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = nearest_code(z_e, self.codes)
        e = rows_at(self.codes, index)
        penalty = squares(z_e.detach(), e) + 0.25 * squares(z_e, e.detach())
        z = straight_through(z_e, e) if self.held is None else self.held
        self.calls.append((z_e, (z, index, penalty)))
        self.order.append(self)
        return z, index, penalty


class _Run:
    """One pass of a student's model, with what its quantisers saw and gave."""

    def __init__(self, answer: Answer, *, seed: int = 0) -> None:
        torch.random.default_generator.manual_seed(seed)
        self.order: list[nn.Module] = []
        self.quantisers = _Codes(7), _Codes(6)
        self.model = make(
            answer, *self.quantisers, _SIZE, _VALUES, methods=("forward", "decode")
        ).eval()
        self.dtype = next(self.model.parameters()).dtype

    def images(self, n: int = 3) -> Tensor:
        """Random images with gradients."""
        return torch.rand(n, 1, _SIDE, _SIDE).to(self.dtype).requires_grad_()

    def __call__(self, x: Tensor, held: Sequence[Tensor | None] = (None, None)) -> list[object]:
        """Logits, index maps and penalty of images, perhaps with given codes."""
        self.order.clear()
        for quantiser, z in zip(self.quantisers, held, strict=True):
            quantiser.held, quantiser.order = z, self.order
            quantiser.calls.clear()
        return as_sequence(self.model(x), 3, name="the result")

    def held(self, n: int = 3) -> list[Tensor]:
        """Vectors for both grids, of no image."""
        return [torch.randn(n, _SIZE, *s).to(self.dtype) for s in _GRIDS.values()]

    def encodings(self) -> list[Tensor]:
        """What each quantiser was given in the last pass."""
        return [quantiser.calls[-1][0] for quantiser in self.quantisers]


@checked
def TwoGrids(answer: Answer) -> str:  # noqa: N802
    r"""An encoder and a decoder with codes at two resolutions, inferred top-down.

    Write ``class TwoGrids(nn.Module)`` with ``__init__(self, quantise1, quantise2, size,
    num_values)``, which makes networks of its own; the quantisers take and give maps of ``size``
    channels. ``forward(self, x) -> (logits, (index1, index2), penalty)`` reads images ``(B, 1, 16,
    16)``. Features d at 4 by 4 positions lead to the encodings of the top grid at 2 by 2. They are
    quantised, and the encodings of the bottom grid, at 4 by 4, read d and the decoded top codes.
    ``decode(self, z1, z2)`` gives logits, ``(B, num_values, 16, 16)``, of the maps of both grids,
    and the image reaches it through these maps alone. The penalty, ``(B,)``, is the sum of both.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    run = _Run(answer)
    _check_pass(run)
    _check_decoder(run)
    _check_encodings(run)
    _check_gradients(run)
    return (
        "the top is inferred first, the bottom reads its codes, the decoder reads both and "
        "nothing else, and every parameter has a gradient"
    )


def _check_pass(run: _Run) -> None:
    """What a pass gives, and in which order it quantises."""
    x = run.images()
    logits, index, penalty = run(x)
    shape = (len(x), _VALUES, _SIDE, _SIDE)
    as_tensor(logits, shape, name="logits")
    first, second = run.quantisers
    for quantiser, name in ((first, "quantise1"), (second, "quantise2")):
        if len(quantiser.calls) != 1:
            raise Mistake(
                f"{name} is called {len(quantiser.calls)} times in a pass; each grid has its own "
                "quantiser, which is called once"
            )
        grid = _GRIDS[f"z{name[-1]}"]
        z_e = quantiser.calls[0][0]
        if tuple(z_e.shape) != (len(x), _SIZE, *grid):
            raise Mistake(
                f"{name} is given {tuple(z_e.shape)}; the encodings of its grid are "
                f"{(len(x), _SIZE, *grid)}: strides of 4, then of 2"
            )
    if run.order[0] is first:
        raise Mistake(
            "the bottom grid is quantised first; the top comes first, and the bottom reads it"
        )
    pair = as_sequence(index, 2, name="the index")
    right = [quantiser.calls[0][1][1] for quantiser in run.quantisers]
    if alike(pair[0], right[1]) and alike(pair[1], right[0]):
        raise Mistake("the index maps are in the wrong order; the bottom, index1, comes first")
    for number, (own, expected) in enumerate(zip(pair, right, strict=True), start=1):
        if not alike(own, expected):
            raise Mistake(f"index{number} is not the index map that quantise{number} gave")
    penalties = [quantiser.calls[0][1][2] for quantiser in run.quantisers]
    terms = dict(zip(("that of the bottom", "that of the top"), penalties, strict=True))
    compare_sum(penalty, terms, name="the penalty")


def _check_decoder(run: _Run) -> None:
    """What the decoder reads, and where its gradient goes."""
    held = [z.requires_grad_() for z in run.held()]
    for z, name in zip(slopes(run.model.decode(*held), held), ("bottom", "top"), strict=True):
        if not z.any():
            raise Mistake(f"the decoder does not read the codes of the {name} grid")
        if not z.abs().sum(dim=(0, 1)).all():
            raise Mistake(f"the decoder leaves out some positions of the {name} grid")
    logits = run(run.images())[0]
    for gradient, name in zip(slopes(logits, run.encodings()), ("bottom", "top"), strict=True):
        if not gradient.any():
            raise Mistake(
                f"the decoder sends no gradient to the encodings of the {name}: go on with the "
                "first result of the quantiser, which hands it back, and detach nothing"
            )
    x = run.images()
    logits = run(x, held)[0]
    if slopes(logits, [x])[0].any() or not alike(logits, run(run.images(), held)[0]):
        raise Mistake(
            "the decoder sees the image past the codes that the quantisers gave, through features "
            "or encodings; the bound would leave out what it costs to code these"
        )
    if not alike(run.model.decode(*held), logits):
        raise Mistake("the logits of forward are not those of decode for the same codes")


def _check_encodings(run: _Run) -> None:
    """What the encodings of both grids read."""
    x, held = run.images(8), [z.requires_grad_() for z in run.held(8)]
    run(x, held)
    bottom, top = run.encodings()
    if not slopes(top, [x])[0].any():
        raise Mistake("the encodings of the top do not depend on the image")
    if slopes(top, held[:1])[0].any():
        raise Mistake("the encodings of the top read the codes of the bottom; the top comes first")
    of_image, of_codes, of_top = slopes(bottom, [x, held[1], top])
    if not of_image.any():
        raise Mistake("the encodings of the bottom read the top alone; they read the image too")
    if of_top.any():
        raise Mistake(
            "the encodings of the bottom read the top's encodings; they read its codes, which the "
            "decoder has too"
        )
    run(x, [held[0], run.held(8)[1]])
    changed = not alike(run.encodings()[0], bottom)
    if not changed:
        raise Mistake(
            "the encodings of the bottom do not read the codes of the top: decode what quantise2 "
            "gives first, and join the result to d"
        )
    if not of_codes.any():
        raise Mistake(
            "the encodings of the bottom read the codes of the top without their gradient; detach "
            "nothing, so that the encoder of the top learns what the bottom needs"
        )
    for z_e, name in ((bottom, "bottom"), (top, "top")):
        unseen = ~slopes(z_e, [x])[0].abs().sum(dim=(0, 1)).bool()
        if unseen.any():
            raise Mistake(
                f"{int(unseen.sum())} of {unseen.numel()} pixels reach no encoding of the {name}; "
                "a kernel smaller than its stride leaves pixels out"
            )


def _check_gradients(run: _Run) -> None:
    """Every parameter is trained."""
    logits, _, penalty = run(run.images(4))
    if not penalty.requires_grad:
        raise Mistake("the penalty has no gradient; detach nothing")
    names, parameters = zip(*run.model.named_parameters(), strict=True)
    total = logits.square().sum() + penalty.sum()
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    unused = [n for n, g in zip(names, gradients, strict=True) if g is None]
    if unused:
        raise Mistake(
            f"no gradient reaches {unused[0]}, so training leaves it as it is; is it used?"
        )


_WIDTH = 6


def _conv(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0
) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=padding)


def _forward(model: nn.Module, x: Tensor) -> tuple[object, ...]:
    d = model.features(x)
    z2, index2, penalty2 = model.quantise2(model.top(d))
    z1, index1, penalty1 = model.quantise1(model.bottom(torch.cat([d, model.down(z2)], dim=1)))
    return model.decode(z1, z2), (index1, index2), penalty1 + penalty2


def _decode(model: nn.Module, z1: Tensor, z2: Tensor) -> Tensor:
    return model.pixels(torch.cat([z1, model.down(z2)], dim=1))


def _grids(
    forward: Callable[[nn.Module, Tensor], tuple[object, ...]] = _forward,
    decode: Callable[[nn.Module, Tensor, Tensor], Tensor] = _decode,
    features: Callable[[], nn.Module] = lambda: _conv(1, _WIDTH, 4, stride=4),
    down: Callable[[], nn.Module] = lambda: nn.ConvTranspose2d(_SIZE, _WIDTH, 2, stride=2),
    top: Callable[[], nn.Module] = lambda: _conv(_WIDTH, _SIZE, 2, stride=2),
    keep: Callable[[nn.Module], object] = lambda quantiser: quantiser,
) -> Answer:
    """The model, or a mistake in what reads what."""

    class Answered(nn.Module):
        def __init__(
            self, quantise1: nn.Module, quantise2: nn.Module, size: int, num_values: int
        ) -> None:
            super().__init__()
            self.quantise1, self._held = quantise1, keep(quantise2)
            self.features = nn.Sequential(features(), nn.Tanh())
            self.top, self.down = top(), down()
            self.bottom = _conv(2 * _WIDTH, size, 1)
            self.pixels = nn.ConvTranspose2d(size + _WIDTH, num_values, 4, stride=4)

        @property
        def quantise2(self) -> nn.Module:
            return self._held[0] if isinstance(self._held, list) else self._held

        def decode(self, z1: Tensor, z2: Tensor) -> Tensor:
            return decode(self, z1, z2)

        def forward(self, x: Tensor) -> tuple[object, ...]:
            return forward(self, x)

    return Answered


def _walk(
    top: Callable[..., Tensor] = lambda model, d: model.top(d),
    read: Callable[..., Tensor] = lambda model, d, z2, z_e2: torch.cat([d, model.down(z2)], 1),
    decoded: Callable[..., Tensor] = lambda model, z1, z2, x: model.decode(z1, z2),
    result: Callable[..., object] = lambda logits, index, penalty: (logits, index, sum(penalty)),
    second: Callable[[nn.Module], nn.Module] = lambda model: model.quantise2,
) -> Callable[[nn.Module, Tensor], object]:
    """The pass, or a mistake in a step of it."""

    def forward(model: nn.Module, x: Tensor) -> object:
        d = model.features(x)
        z_e2 = top(model, d)
        z2, index2, penalty2 = second(model)(z_e2)
        z1, index1, penalty1 = model.quantise1(model.bottom(read(model, d, z2, z_e2)))
        logits = decoded(model, z1, z2, x)
        return result(logits, (index1, index2), (penalty1, penalty2))

    return forward


def _bottom_first(model: nn.Module, x: Tensor) -> tuple[object, ...]:
    d = model.features(x)
    z1, index1, penalty1 = model.quantise1(model.bottom(torch.cat([d, d], dim=1)))
    z2, index2, penalty2 = model.quantise2(model.top(d))
    return model.decode(z1, z2), (index1, index2), penalty1 + penalty2


def _past_the_codes(model: nn.Module, z1: Tensor, z2: Tensor, x: Tensor) -> Tensor:
    return model.decode(z1, z2) + model.features(x).mean(dim=(1, 2, 3), keepdim=True)


def _rows(model: nn.Module, z1: Tensor, z2: Tensor, x: Tensor) -> Tensor:
    return model.decode(z1.detach(), z2)


for _hint, _wrong in {
    "the bottom grid is quantised first": _bottom_first,
    "each grid has its own quantiser": _walk(second=lambda model: model.quantise1),
    "the index maps are in the wrong order": _walk(
        result=lambda logits, index, penalty: (logits, index[::-1], sum(penalty))
    ),
    "that of the top is missing in the penalty": _walk(
        result=lambda logits, index, penalty: (logits, index, penalty[0])
    ),
    "that of the bottom is missing in the penalty": _walk(
        result=lambda logits, index, penalty: (logits, index, penalty[1])
    ),
    "the penalty averages over the batch": _walk(
        result=lambda logits, index, penalty: (logits, index, sum(penalty).mean())
    ),
    "the decoder sees the image past the codes": _walk(decoded=_past_the_codes),
    "the decoder sends no gradient to the encodings of the bottom": _walk(decoded=_rows),
    "the encodings of the bottom do not read the codes of the top": _walk(
        read=lambda model, d, z2, z_e2: torch.cat([d, d], dim=1)
    ),
    "the encodings of the bottom read the top's encodings": _walk(
        read=lambda model, d, z2, z_e2: torch.cat([d, model.down(z_e2)], dim=1)
    ),
    "the encodings of the bottom read the top alone": _walk(
        read=lambda model, d, z2, z_e2: torch.cat([model.down(z2)] * 2, dim=1)
    ),
    "read the codes of the top without their gradient": _walk(
        read=lambda model, d, z2, z_e2: torch.cat([d, model.down(z2.detach())], dim=1)
    ),
    "the logits of forward are not those of decode": _walk(
        decoded=lambda model, z1, z2, x: model.decode(z1, z2).log_softmax(dim=1)
    ),
    "the logits of forward are not those of decode for the same codes": _walk(
        decoded=lambda model, z1, z2, x: model.decode(z1, z2.flip(0))
    ),
    "the result should be 3 values": _walk(
        result=lambda logits, index, penalty: (logits, *index, sum(penalty))
    ),
    "the encodings of the top do not depend on the image": _walk(
        top=lambda model, d: model.top(0 * d)
    ),
}.items():
    TwoGrids.mistake(_hint, _grids(_wrong))

for _hint, _parts in {
    "the decoder does not read the codes of the top grid": {
        "decode": lambda model, z1, z2: model.pixels(torch.cat([z1, 0 * model.down(z2)], dim=1))
    },
    "the decoder does not read the codes of the bottom grid": {
        "decode": lambda model, z1, z2: model.pixels(torch.cat([0 * z1, model.down(z2)], dim=1))
    },
    "the decoder leaves out some positions of the bottom grid": {
        "decode": lambda model, z1, z2: model.pixels(
            torch.cat([z1[:, :, :1].expand_as(z1), model.down(z2)], dim=1)
        )
    },
    "pixels reach no encoding of the bottom; a kernel smaller than its stride": {
        "features": lambda: _conv(1, _WIDTH, 3, stride=4)
    },
    "pixels reach no encoding of the top; a kernel smaller than its stride": {
        "top": lambda: _conv(_WIDTH, _SIZE, 1, stride=2)
    },
    "quantise2 is given (3, 3, 4, 4); the encodings of its grid are (3, 3, 2, 2)": {
        "top": lambda: _conv(_WIDTH, _SIZE, 1),
        "down": lambda: nn.ConvTranspose2d(_SIZE, _WIDTH, 1),
    },
    "does not register all of its networks": {"keep": lambda quantiser: [quantiser]},
}.items():
    TwoGrids.mistake(_hint, _grids(**_parts))


TwoGrids.mistake(
    "the penalty has no gradient; detach nothing",
    _grids(_walk(result=lambda logits, index, penalty: (logits, index, sum(penalty).detach()))),
)


@TwoGrids.mistake("is it used?")
class _(_grids()):
    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)
        self.extra = nn.Linear(2, 2)
