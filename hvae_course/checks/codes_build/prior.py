"""Check of a prior over the codes of two grids: log-probabilities and draws."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical

from hvae_course.checks.building import make, used
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    as_sequence,
    checked,
    compare_cases,
)

_TOP, _BOTTOM = 3, 5
"""Numbers of codes."""
_DRAWS = 6000


class Below(nn.Module):
    """A network from maps of one-hot top codes to logits of the bottom, twice as wide and high."""

    def __init__(self, top: int, bottom: int, scale: float) -> None:
        super().__init__()
        self.net = nn.ConvTranspose2d(top, bottom, 2, stride=2)
        for parameter in self.net.parameters():
            parameter.data = scale * torch.randn_like(parameter)

    def forward(self, one_hot: Tensor) -> Tensor:
        """Map ``(B, n_2, h, w)`` to ``(B, n_1, 2 h, 2 w)``."""
        return self.net(one_hot)


@checked
def CodePrior(answer: Answer) -> str:  # noqa: N802
    r"""A prior over the codes of two grids (:eq:`eq-two-grids`).

    Write ``class CodePrior(nn.Module)`` with ``__init__(self, num_codes, positions, net)``,
    ``forward(self, index1, index2) -> (log_p1, log_p2)``, each ``(B,)``, nats, and ``sample(self,
    n) -> (index1, index2)``. Every position of the top has its own distribution over ``num_codes``
    codes, uniform at the start and learned; ``positions`` is the height and width of the top.
    Given the top, the positions of the bottom are independent: ``net`` gives their logits, ``(B,
    n_1, h_1, w_1)``, from the top's codes, one-hot, ``(B, num_codes, *positions)``.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    cases = []
    for batch, (height, width) in ((5, (2, 3)), (1, (2, 2))):
        index1 = torch.randint(_BOTTOM, (batch, 2 * height, 2 * width))
        index2 = torch.randint(_TOP, (batch, height, width))
        cases.append((Below(_TOP, _BOTTOM, 1.0), (height, width), index1, index2))
    names = ("log p of the bottom", "log p of the top, uniform at the start,")
    known = used(_scored, CodePrior.mistakes)
    compare_cases(_scored(answer), _scored(_prior()), cases, name=names, mistakes=known)
    prior, net = _changed(answer)
    _check_top(prior)
    _check_draws(prior, net)
    return (
        f"log-probabilities add up to one, also after a change, and {_DRAWS:,} draws have the "
        "right frequencies"
    )


def _scored(answer: Answer) -> Answer:
    """Log-probabilities at the start."""

    def run(net: nn.Module, positions: tuple[int, int], index1: Tensor, index2: Tensor) -> object:
        prior = make(answer, _TOP, positions, net, methods=("forward", "sample"))
        return prior(index1, index2)

    return run


def _changed(answer: Answer) -> tuple[nn.Module, nn.Module]:
    """A prior of 2 positions after its own parameters have moved, and its network."""
    net = Below(_TOP, _BOTTOM, 1.0)
    prior = make(answer, _TOP, (1, 2), net, methods=("forward", "sample"))
    held = {id(p) for p in net.parameters()}
    own = [p for p in prior.parameters() if id(p) not in held]
    if sum(p.numel() for p in own) < _TOP * 2:
        raise Mistake(
            f"besides those of net the prior has {sum(p.numel() for p in own)} parameters; "
            f"{_TOP} logits at each of 2 positions are to be learned, in an nn.Parameter"
        )
    with torch.no_grad():
        for parameter in own:
            parameter.copy_(0.8 * torch.randn(parameter.shape))
    return prior, net


def _all_tops() -> Tensor:
    codes = torch.arange(_TOP)
    return torch.cartesian_prod(codes, codes)[:, None]  # (9, 1, 2)


def _check_top(prior: nn.Module) -> None:
    """Whether p(top) is a distribution with parameters of its own at every position."""
    tops = _all_tops()
    bottoms = torch.randint(_BOTTOM, (len(tops), 2, 4))
    log_p2 = as_sequence(prior(bottoms, tops), 2, name="the result")[1].detach().double()
    total = log_p2.exp().sum()
    if abs(total - 1) > 1e-4:
        raise Mistake(
            f"when the logits have changed, p of the top sums to {total:.3f} over all of its "
            "codes; apply log_softmax over the codes"
        )
    if abs(log_p2 - log_p2[0]).amax() < 1e-4:
        raise Mistake("p of the top stays uniform whatever its parameters are; use them")
    p = log_p2.exp().view(_TOP, _TOP)
    if torch.allclose(p.sum(0), p.sum(1), atol=1e-4):
        raise Mistake("both positions of the top have the same distribution; each has its own")
    again = as_sequence(prior(bottoms.flip(0), tops), 2, name="the result")[1]
    if not torch.allclose(again.detach().double(), log_p2, atol=1e-4):
        raise Mistake("p of the top depends on the bottom; it comes first")


def _check_draws(prior: nn.Module, net: nn.Module) -> None:
    """Whether draws have the probabilities that the prior gives them."""
    index1, index2 = as_sequence(prior.sample(_DRAWS), 2, name="the sample")
    for index, shape, n, name in (
        (index1, (_DRAWS, 2, 4), _BOTTOM, "index1"),
        (index2, (_DRAWS, 1, 2), _TOP, "index2"),
    ):
        if not isinstance(index, Tensor) or tuple(index.shape) != shape:
            shown = tuple(index.shape) if isinstance(index, Tensor) else type(index).__name__
            raise Mistake(f"{name} of the draws should have shape {shape}, yours has {shown}")
        if index.is_floating_point() or index.min() < 0 or index.max() >= n:
            raise Mistake(f"{name} of the draws should be whole numbers from 0 to {n - 1}")
    tops = _all_tops()
    log_p1, log_p2 = (v.detach().double() for v in prior(index1, index2))
    expected = prior(torch.zeros(len(tops), 2, 4).long(), tops)[1].detach().double().exp()
    counts = F.one_hot(_TOP * index2[:, 0, 0] + index2[:, 0, 1], _TOP**2).double().mean(dim=0)
    error = (expected * (1 - expected) / _DRAWS).sqrt()
    if ((counts - expected).abs() > 5 * error + 1e-9).any():
        same = (index2 == index2[0]).all()
        raise Mistake(
            "all draws of the top are the same; draw them, the most probable code is no draw"
            if same
            else "the codes of the top are not drawn with the probabilities of log_p2"
        )
    # of a draw, the mean of log p is minus the entropy
    like = next(net.parameters())
    logits = net(F.one_hot(index2, _TOP).movedim(-1, 1).to(like)).detach().double()
    entropy = Categorical(logits=logits.movedim(1, -1)).entropy().sum(dim=(1, 2))
    apart = log_p1 + entropy
    if abs(apart.mean()) > 5 * apart.std() / _DRAWS**0.5:
        raise Mistake(
            "the codes of the bottom are always the most probable ones; draw them"
            if (index1 == logits.argmax(dim=1)).all()
            else "the codes of the bottom are not drawn from p given the top that is returned: "
            "draw the top first, give net that draw, and keep every position in its place"
        )


def _one_hot(index2: Tensor, num_codes: int) -> Tensor:
    return F.one_hot(index2, num_codes).movedim(-1, 1).to(torch.get_default_dtype())


def _taken(log_p: Tensor, index: Tensor) -> Tensor:
    return log_p.gather(1, index[:, None]).sum(dim=(1, 2, 3))


def _draw(logits: Tensor) -> Tensor:
    return Categorical(logits=logits.movedim(1, -1)).sample()


def _prior(
    normalise: Callable[[Tensor], Tensor] = lambda logits: logits.log_softmax(dim=1),
    normalise_top: Callable[[Tensor], Tensor] = lambda logits: logits.log_softmax(dim=1),
    one_hot: Callable[[Tensor, int], Tensor] = _one_hot,
    add: Callable[[Tensor, Tensor], Tensor] = _taken,
    result: Callable[[Tensor, Tensor], object] = lambda log_p1, log_p2: (log_p1, log_p2),
    start: Callable[..., object] = lambda *shape: nn.Parameter(torch.zeros(shape)),
    draw: Callable[[Tensor], Tensor] = _draw,
    draw_top: Callable[[Tensor], Tensor] = _draw,
    given: Callable[[Tensor], Tensor] = lambda index2: index2,
    drawn: Callable[[Tensor, Tensor], object] = lambda index1, index2: (index1, index2),
    keep: Callable[[nn.Module], object] = lambda net: net,
) -> Answer:
    """The prior, or a mistake in it."""

    class Answered(nn.Module):
        def __init__(self, num_codes: int, positions: tuple[int, int], net: nn.Module) -> None:
            super().__init__()
            self.num_codes, self.positions, self._net = num_codes, positions, keep(net)
            self.logits = start(num_codes, *positions)

        def net(self, index2: Tensor) -> Tensor:
            net = self._net[0] if isinstance(self._net, list) else self._net
            return net(one_hot(index2, self.num_codes).to(next(net.parameters())))

        def top(self, n: int) -> Tensor:
            return self.logits.expand(n, self.num_codes, *self.positions)

        def forward(self, index1: Tensor, index2: Tensor) -> object:
            log_p1 = add(normalise(self.net(index2)), index1)
            return result(log_p1, add(normalise_top(self.top(len(index2))), index2))

        def sample(self, n: int) -> object:
            index2 = draw_top(self.top(n))
            return drawn(draw(self.net(given(index2))), index2)

    return Answered


reference_prior = _prior()
"""The class as it should be."""

for _hint, _settings in {
    "the logits of the bottom are not normalised; apply log_softmax over the codes, axis 1": {
        "normalise": lambda logits: logits
    },
    "the bottom is normalised over positions; normalise over the codes, axis 1": {
        "normalise": lambda logits: logits.flatten(2).log_softmax(dim=2).view_as(logits)
    },
    "the bottom is normalised over a row of positions; normalise over the codes, axis 1": {
        "normalise": lambda logits: logits.log_softmax(dim=-1)
    },
    "the bottom is normalised over the batch; normalise over the codes, axis 1": {
        "normalise": lambda logits: logits.log_softmax(dim=0)
    },
    "the bottom is uniform here; its logits come from net": {
        "normalise": lambda logits: (0 * logits).log_softmax(dim=1)
    },
    "these are probabilities; return their logarithms": {
        "normalise": lambda logits: logits.softmax(dim=1),
        "normalise_top": lambda logits: logits.softmax(dim=1),
    },
    "log p is averaged over positions; add them up": {
        "add": lambda log_p, index: _taken(log_p, index) / index[0].numel()
    },
    "this is a loss; return log-probabilities": {
        "add": lambda log_p, index: -_taken(log_p, index)
    },
    "this averages over the batch; return one number per example, (B,)": {
        "add": lambda log_p, index: _taken(log_p, index).mean()
    },
    "the most probable code is scored, not the given one": {
        "add": lambda log_p, index: log_p.amax(dim=1).sum(dim=(1, 2))
    },
    "net is given a map without information about the top; give it the one-hot codes": {
        "one_hot": lambda index2, n: 0 * _one_hot(index2, n)
    },
    "net is given code numbers as if they were quantities; give it the one-hot codes": {
        "one_hot": lambda index2, n: index2[:, None].expand(-1, n, -1, -1).float()
    },
    "the top is flipped before net sees it": {
        "one_hot": lambda index2, n: _one_hot(index2, n).flip(-1)
    },
    "the top comes first; return (log_p1, log_p2)": {
        "result": lambda log_p1, log_p2: (log_p2, log_p1)
    },
    "log_p1 is the joint log-probability; return the two terms apart": {
        "result": lambda log_p1, log_p2: (log_p1 + log_p2, log_p2)
    },
    "the result should be 2 values": {"result": lambda log_p1, log_p2: log_p1 + log_p2},
    "the top is not normalised": {"normalise_top": lambda logits: logits},
    "the top is normalised over positions; normalise over the codes": {
        "normalise_top": lambda logits: logits.flatten(2).log_softmax(dim=2).view_as(logits)
    },
    "the top is not uniform at the start; its logits start at zero": {
        "start": lambda *shape: nn.Parameter(
            torch.arange(1.0 * torch.Size(shape).numel()).view(shape)
        )
    },
    "the prior has 0 parameters": {"start": lambda *shape: torch.zeros(shape)},
    "the prior has 3 parameters": {
        "start": lambda n, *positions: nn.Parameter(torch.zeros(n, 1, 1))
    },
    "does not register all of its networks": {"keep": lambda net: [net]},
    "all draws of the top are the same": {"draw_top": lambda logits: logits.argmax(dim=1)},
    "the codes of the bottom are always the most probable ones": {
        "draw": lambda logits: logits.argmax(dim=1)
    },
    "the codes of the top are not drawn with the probabilities of log_p2": {
        "draw_top": lambda logits: _draw(0 * logits)
    },
    "the codes of the bottom are not drawn from p given the top that is returned": {
        "given": lambda index2: index2[torch.randperm(len(index2))]
    },
    "should have shape (6000, 2, 4), yours has (6000, 1, 2)": {
        "drawn": lambda index1, index2: (index2, index1)
    },
    "should be whole numbers from 0 to 4": {"drawn": lambda index1, index2: (index1 + 1, index2)},
}.items():
    CodePrior.mistake(_hint, _prior(**_settings))
CodePrior.mistake(
    "the codes of the bottom are not drawn from p given the top that is returned",
    _prior(draw=lambda logits: _draw(0 * logits)),
)
CodePrior.mistake(
    "both positions of the top have the same distribution",
    _prior(normalise_top=lambda logits: logits[..., :1].expand_as(logits).log_softmax(dim=1)),
)
CodePrior.mistake(
    "p of the top stays uniform whatever its parameters are",
    _prior(normalise_top=lambda logits: (0 * logits).log_softmax(dim=1)),
)
