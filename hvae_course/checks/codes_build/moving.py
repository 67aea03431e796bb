"""Check of a quantiser whose codebook is a moving average, with a revival of dead codes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_course.checks.building import make, used
from hvae_course.checks.codes_build.quantiser import (
    NAMES,
    encodings,
    nearest_code,
    results_of,
    rows_at,
    slopes,
    squares,
    straight_through,
)
from hvae_course.checks.verdict import Answer, Mistake, checked, compare, compare_cases

_DEAD = 3
"""The first code that is out of reach in the case with dead codes."""


@checked
def MovingQuantiser(answer: Answer) -> str:  # noqa: N802
    r"""A codebook of moving averages, whose dead codes are revived.

    Write ``class MovingQuantiser(nn.Module)`` with ``__init__(self, codes, commitment, decay,
    revival)`` and the ``forward(self, z_e) -> (z, index, penalty)`` of ``Quantiser``, without the
    term of the penalty that moved the codes. Three buffers stand for them: ``codes``, ``(n_e,
    D)``, sums, which start as a copy of them, and counts, which start at one. In training mode
    only, and after a batch has been quantised, ``count = decay * count + (1 - decay) * number`` of
    its encodings with that code, likewise the sum with the sum of those encodings, and ``codes =
    sums / counts``. Then each code whose count is below ``revival`` times the mean count becomes
    an encoding of the batch, drawn at random; its count becomes the mean count, and its sum the
    count times the encoding.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    names = (
        *NAMES,
        "the gradients",
        "a code after training",
        "a code after an evaluation",
        "a code after the model has been saved and loaded",
    )
    batches = [encodings(4, 3, 2, 3) for _ in range(3)]
    cases = [
        (encodings(6, 3), 0.25, 0.9, batches),
        (2 * encodings(5, 2), 0.6, 0.6, [encodings(2, 2, 2, 2) for _ in range(4)]),
    ]
    known = used(_trained, MovingQuantiser.mistakes)
    compare_cases(_trained(answer), _trained(_moving()), cases, name=names, mistakes=known)
    for case in ((_around_corners(4), 0.5, 0.1), (_around_corners(6), 0.6, 0.1)):
        _check_revival(answer, *case)
    return (
        "codes move in training alone, after use, and are in the saved state; dead ones become "
        "encodings and stay alive"
    )


def _codes(quantiser: nn.Module) -> Tensor:
    """A copy of the rows, which are a buffer."""
    codes = getattr(quantiser, "codes", None)
    if not isinstance(codes, Tensor):
        raise Mistake("keep the rows in a buffer with the name codes, a tensor")
    if any(p.requires_grad for p in quantiser.parameters()):
        raise Mistake(
            "moving averages need no gradient: make buffers of codes, sums and counts, not "
            "parameters, or an optimiser would move the codes as well"
        )
    if codes.requires_grad:
        raise Mistake(
            "the codes keep a graph of gradients from batch to batch; detach the encodings"
        )
    if "codes" not in quantiser.state_dict():
        raise Mistake(
            "the codes are not in the saved state of the module; use register_buffer, and keep "
            "its name when you set new values"
        )
    return codes.detach().clone()


def _made(answer: Answer, codes: Tensor, *settings: float) -> nn.Module:
    quantiser = make(answer, codes.clone(), *settings)
    _codes(quantiser)
    return quantiser


def _trained(answer: Answer) -> Answer:
    """What a quantiser gives in some batches, and its codes afterwards; no code is revived."""

    def run(codes: Tensor, commitment: float, decay: float, batches: list[Tensor]) -> list[object]:
        quantiser = _made(answer, codes, commitment, decay, 0.0)
        results, gradients, moved = [], [], []
        for number, z_e in enumerate(batches):
            z_e = z_e.to(_codes(quantiser)).requires_grad_()
            values = results_of(quantiser.train(), z_e)
            results.append(values)
            gradients += [*slopes(values[0], [z_e]), *slopes(values[2], [z_e])]
            moved.append(_codes(quantiser))
            if number == 0:
                state = {name: value.clone() for name, value in quantiser.state_dict().items()}
        results.append(results_of(quantiser.eval(), batches[0].to(moved[0])))
        after = _codes(quantiser)
        again = _made(answer, codes + 1, commitment, decay, 0.0)
        again.load_state_dict(state)
        again(batches[1].to(moved[0]).requires_grad_())
        stacked = [torch.stack(parts) for parts in zip(*results, strict=True)]
        return [
            *stacked,
            torch.stack(gradients),
            torch.stack(moved),
            after,
            _codes(again),
        ]

    return run


def _around_corners(n: int) -> Tensor:
    """Codes at three corners and four out of reach, and encodings near the corners."""
    corners = 4 * torch.eye(3)
    away = 100 + torch.arange(4)[:, None] * torch.ones(3)
    offsets = 0.2 + torch.cartesian_prod(*[torch.linspace(-0.6, 0.6, n)] * 2)
    offsets = F.pad(offsets, (0, 1))  # (n^2, 3)
    points = (corners[:, None] + offsets).flatten(0, 1)[torch.randperm(3 * n * n)]
    return torch.cat([corners, away, points]).float()


def _until_revival(answer: Answer) -> Answer:
    """After how many batches codes without encodings move, and the other codes then."""

    def run(case: Tensor, decay: float, revival: float) -> list[object]:
        quantiser = _made(answer, case[:7], 0.25, decay, revival).train()
        start = _codes(quantiser)
        for batch in range(1, 13):
            after = _feed(quantiser, case[7:])
            if (after - start)[_DEAD:].abs().amax() > 1:  # more than by rounding
                return [batch, after[:_DEAD], quantiser]
        raise Mistake(
            "dead codes are never revived: codes without encodings in 12 batches are where they "
            "were"
        )

    return run


def _feed(quantiser: nn.Module, points: Tensor) -> Tensor:
    """Train with a batch of one image, ``(N, D)``, and give the codes."""
    z_e = points.T[None, :, None].to(_codes(quantiser))
    quantiser(z_e.clone().requires_grad_())
    return _codes(quantiser)


def _check_revival(answer: Answer, case: Tensor, decay: float, revival: float) -> None:
    """Accept codes that become encodings when they are dead, and then stay alive."""

    def first_two(known: Answer) -> Answer:
        return lambda *inputs: _until_revival(known)(*inputs)[:2]

    names = ("the number of batches until dead codes are revived", "a code that is not dead")
    known = used(first_two, MovingQuantiser.mistakes)
    inputs = (case, decay, revival)
    compare(first_two(answer), first_two(_moving()), inputs, name=names, mistakes=known)
    *_, quantiser = _until_revival(answer)(*inputs)
    after = _codes(quantiser)
    fresh, points = after[_DEAD:], case[7:].to(after)
    if torch.cdist(fresh, points).amin(dim=1).amax() > 1e-3:
        raise Mistake(
            "a revived code is not one of the encodings of the batch; give it one of them, which "
            "are in reach of the encoder"
        )
    if len(fresh.unique(dim=0)) == 1:
        raise Mistake("all revived codes are the same encoding; draw one for each")
    later = _feed(quantiser, after[:1].expand(3, 3))
    moved = (later - after)[_DEAD:].abs().amax(dim=1) > 1e-3
    if moved.any():
        again = torch.cdist(later[_DEAD:][moved], after[:1]).amax() < 1e-3
        raise Mistake(
            "a revived code is replaced again in the next batch: set its count to the mean count"
            if again
            else "a revived code moves in a batch without any encoding near it: set its sum to "
            "the encoding times its count, or the old sum brings it back"
        )
    beside = (later[_DEAD] + 1e-2).expand(4, 3)
    pull, mean = (1 - decay) * 4, _mean_count_then(case, decay, revival)
    expected = 1e-2 * pull / (decay * decay * mean + pull)
    if ((_feed(quantiser, beside) - later)[_DEAD] / expected - 1).abs().amax() > 1e-2:
        raise Mistake(
            "the count of a revived code is not the mean count: encodings beside it move it by "
            "another distance"
        )
    other = _made(answer, case[:7], 0.25, decay, 1.5).eval()  # all of its counts are below
    start = _codes(other)
    other(points.T[None, :, None])
    if not torch.equal(_codes(other), start):
        raise Mistake("dead codes are revived in evaluation too; ask self.training")


def _mean_count_then(case: Tensor, decay: float, revival: float) -> float:
    """Mean count in the batch in which dead codes are revived."""
    *_, quantiser = _until_revival(_moving())(case, decay, revival)
    return quantiser.counts[-1].item()


def _averages(module: nn.Module, taken: Tensor, vectors: Tensor) -> Tensor:
    """Move counts and sums by a batch, and give the new codes."""
    module.counts.mul_(module.decay).add_((1 - module.decay) * taken.sum(dim=0))
    module.sums.mul_(module.decay).add_((1 - module.decay) * taken.T @ vectors)
    return module.sums / module.counts[:, None]


def _fresh(vectors: Tensor, codes: Tensor) -> Tensor:
    return vectors[torch.randint(len(vectors), codes.shape[:1])]


def _mean_count(counts: Tensor) -> Tensor:
    return counts.mean().expand_as(counts)


def _moving(
    penalty: Callable[[Tensor, Tensor, float], Tensor] = lambda z_e, e, weight: (
        weight * squares(z_e, e.detach())
    ),
    point: Callable[[Tensor, Tensor], Tensor] = straight_through,
    average: Callable[[nn.Module, Tensor, Tensor], Tensor] = _averages,
    dead: Callable[[Tensor, float], Tensor] = lambda counts, share: counts < share * counts.mean(),
    fresh: Callable[[Tensor, Tensor], Tensor] = _fresh,
    new_count: Callable[[Tensor], Tensor] = _mean_count,
    new_sum: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda row, count, old: row * count,
    moves: Callable[[nn.Module], bool] = lambda module: module.training,
    revives: Callable[[nn.Module], bool] = lambda module: module.training,
    after: Callable[[int], int] = lambda index: index,
    keep: Callable[[nn.Module, str, Tensor], None] = nn.Module.register_buffer,
    first_use: bool = False,
) -> Answer:
    """The quantiser, or a mistake in it."""

    class Answered(nn.Module):
        def __init__(self, codes: Tensor, commitment: float, decay: float, revival: float) -> None:
            super().__init__()
            self.commitment, self.decay, self.revival = commitment, decay, revival
            keep(self, "codes", codes.clone())
            keep(self, "sums", codes.clone())
            keep(self, "counts", codes.new_ones(len(codes)))

        def forward(self, z_e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            index = nearest_code(z_e, self.codes)
            e = rows_at(self.codes, index)
            self.learn(z_e, index)
            if first_use:
                e = rows_at(self.codes, index)
            return point(z_e, e), index, penalty(z_e, e, self.commitment)

        @torch.no_grad()
        def learn(self, z_e: Tensor, index: Tensor) -> None:
            vectors = z_e.movedim(1, -1).flatten(0, -2)
            taken = F.one_hot(index.flatten(), len(self.codes)).to(vectors)
            if moves(self):
                self.codes = average(self, taken, vectors)
            if revives(self):
                at = dead(self.counts, self.revival)
                rows, count = fresh(vectors, self.codes), new_count(self.counts)
                self.codes = torch.where(at[:, None], rows, self.codes)
                sums = new_sum(rows, count[:, None], self.sums)
                self.sums = torch.where(at[:, None], sums, self.sums)
                self.counts = torch.where(at, count, self.counts)

    return Answered


reference_quantiser = _moving()
"""The class as it should be."""


def _of_the_batch(module: nn.Module, taken: Tensor, vectors: Tensor) -> Tensor:
    number = taken.sum(dim=0)[:, None]
    return torch.where(number > 0, taken.T @ vectors / number.clamp(min=1), module.codes)


def _rows(module: nn.Module, taken: Tensor, vectors: Tensor) -> Tensor:
    means = _of_the_batch(module, taken, vectors)
    _averages(module, taken, vectors)
    used_now = taken.any(dim=0)[:, None]
    return torch.where(
        used_now, module.decay * module.codes + (1 - module.decay) * means, module.codes
    )


def _swapped(module: nn.Module, taken: Tensor, vectors: Tensor) -> Tensor:
    module.counts.mul_(1 - module.decay).add_(module.decay * taken.sum(dim=0))
    module.sums.mul_(1 - module.decay).add_(module.decay * taken.T @ vectors)
    return module.sums / module.counts[:, None]


def _added(module: nn.Module, taken: Tensor, vectors: Tensor) -> Tensor:
    module.counts.mul_(module.decay).add_(taken.sum(dim=0))
    module.sums.mul_(module.decay).add_(taken.T @ vectors)
    return module.sums / module.counts[:, None]


def _sums_alone(module: nn.Module, taken: Tensor, vectors: Tensor) -> Tensor:
    _averages(module, taken, vectors)
    return module.sums


def _divided_by_the_batch(module: nn.Module, taken: Tensor, vectors: Tensor) -> Tensor:
    _averages(module, taken, vectors)
    return module.sums / taken.sum(dim=0)[:, None]


for _hint, _wrong in {
    "the codes are the means of the last batch; average over batches": _of_the_batch,
    "the rows are averaged; average sums and counts apart, and divide": _rows,
    "decay and 1 - decay are exchanged": _swapped,
    "the batch is added with weight 1; its weight is 1 - decay": _added,
    "these are the sums; divide by the counts": _sums_alone,
    "is not finite": _divided_by_the_batch,
}.items():
    MovingQuantiser.mistake(_hint, _moving(average=_wrong))

for _hint, _settings in {
    "the codes move before the batch has been quantised: z, or its penalty, has the new ones": {
        "first_use": True
    },
    "the codes move in evaluation too; ask self.training": {"moves": lambda module: True},
    "the codes move in evaluation and not in training; self.training is True in training": {
        "moves": lambda module: not module.training
    },
    "the codes never move": {"moves": lambda module: False, "revives": lambda module: False},
    "the penalty still has the term that moved the codes": {
        "penalty": lambda z_e, e, weight: squares(z_e.detach(), e) + weight * squares(z_e, e)
    },
    "the commitment weight is missing": {"penalty": lambda z_e, e, weight: squares(z_e, e)},
    "there is no penalty; the encodings still have to stay near their codes": {
        "penalty": lambda z_e, e, weight: 0 * squares(z_e, e)
    },
    "the penalty is detached, so that nothing keeps the encodings near their codes": {
        "penalty": lambda z_e, e, weight: weight * squares(z_e.detach(), e)
    },
    "the squares of the penalty are averaged; add them up": {
        "penalty": lambda z_e, e, weight: weight * squares(z_e, e) / e[0].numel()
    },
    "z has no gradient; it hands its gradient to the encodings": {"point": lambda z_e, e: e},
    "dead codes are never revived": {"revives": lambda module: False},
    "all revived codes are the same encoding; draw one for each": {
        "fresh": lambda vectors, codes: vectors[:1].expand_as(codes)
    },
    "a revived code is not one of the encodings of the batch": {
        "fresh": lambda vectors, codes: torch.randn_like(codes)
    },
    "a count is compared with the share itself; compare it with that share of the mean count": {
        "dead": lambda counts, share: counts < share
    },
    "a count is compared with a share of all counts; take a share of the mean count": {
        "dead": lambda counts, share: counts < share * counts.sum()
    },
    "set its sum to the encoding times its count, or the old sum brings it back": {
        "new_sum": lambda row, count, old: old
    },
    "a revived code is replaced again in the next batch: set its count to the mean count": {
        "new_count": lambda counts: counts
    },
    "the count of a revived code is not the mean count": {"new_count": torch.ones_like},
    "dead codes are revived in evaluation too; ask self.training": {
        "revives": lambda module: True
    },
    "moving averages need no gradient: make buffers of codes, sums and counts": {
        "keep": lambda module, name, value: setattr(module, name, nn.Parameter(value))
    },
    "the codes are not in the saved state of the module; use register_buffer": {"keep": setattr},
    "counts and sums are not in the saved state; register all three as buffers": {
        "keep": lambda module, name, value: (
            module.register_buffer(name, value)
            if name == "codes"
            else setattr(module, name, value)
        )
    },
}.items():
    MovingQuantiser.mistake(_hint, _moving(**_settings))


@MovingQuantiser.mistake("the codes keep a graph of gradients from batch to batch")
class _(nn.Module):
    def __init__(self, codes: Tensor, commitment: float, decay: float, revival: float) -> None:
        super().__init__()
        self.commitment, self.decay = commitment, decay
        self.register_buffer("codes", codes.clone())
        self.register_buffer("sums", codes.clone())
        self.register_buffer("counts", codes.new_ones(len(codes)))

    def forward(self, z_e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = nearest_code(z_e, self.codes)
        e = rows_at(self.codes, index)
        if self.training:
            vectors = z_e.movedim(1, -1).flatten(0, -2)
            taken = F.one_hot(index.flatten(), len(self.codes)).to(vectors)
            self.counts = self.decay * self.counts + (1 - self.decay) * taken.sum(dim=0)
            self.sums = self.decay * self.sums + (1 - self.decay) * taken.T @ vectors
            self.codes = self.sums / self.counts[:, None]
        return straight_through(z_e, e), index, self.commitment * squares(z_e, e.detach())


MovingQuantiser.mistake(
    "a revived code is not one of the encodings of the batch",
    _moving(fresh=lambda vectors, codes: vectors.mean(dim=0).expand_as(codes)),
    _moving(fresh=lambda vectors, codes: codes[torch.randint(_DEAD, codes.shape[:1])]),
)
MovingQuantiser.mistake(
    "set its sum to the encoding times its count",
    _moving(new_sum=lambda row, count, old: row + 0 * count),
)


@MovingQuantiser.mistake(
    "dead codes are looked for before the averages have moved; first move them, then revive"
)
class _(reference_quantiser):
    def learn(self, z_e: Tensor, index: Tensor) -> None:
        vectors = z_e.detach().movedim(1, -1).flatten(0, -2)
        taken = F.one_hot(index.flatten(), len(self.codes)).to(vectors)
        if self.training:
            mean = self.counts.mean()
            dead = self.counts < self.revival * mean
            self.sums[dead] = mean * _fresh(vectors, self.codes)[dead]
            self.counts[dead] = mean
            self.codes = _averages(self, taken, vectors)
