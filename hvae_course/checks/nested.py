"""Answers that hold several values: lists of pairs, and models whose forward pass is compared."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course.checks.building import make, not_none
from hvae_course.checks.verdict import (
    Answer,
    Known,
    Mistake,
    alike,
    as_sequence,
    compare_cases,
    compare_values,
    copies,
    hint_for,
)
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.hierarchy.trace import State


def _leaves(value: object, like: object, name: str) -> Iterator[object]:
    """The values of nested lists and tuples that are built as another one."""
    if not isinstance(like, list | tuple):
        yield value
        return
    parts = as_sequence(value, len(like), name=name)
    for number, (part, other) in enumerate(zip(parts, like, strict=True), start=1):
        yield from _leaves(part, other, f"entry {number} of {name}")


def compare_nested(
    answer: Answer,
    right: Answer,
    inputs: Sequence[object],
    *,
    names: Sequence[str],
    mistakes: Sequence[Known] = (),
) -> None:
    """Compare the values of one case, whose results are lists of lists.

    Args:
        answer: the student's function.
        right: the reference, with the same arguments.
        inputs: the arguments; each function is given copies.
        names: names of the values in the order in which they stand in the result.
        mistakes: known mistakes; the first that returns the same wrong values gives the hint.

    Raises:
        Mistake: if a value is wrong, or the result is built in another way.
    """
    like = right(*copies(inputs))

    def flat(function: Answer) -> Answer:
        return lambda *given: list(_leaves(function(*given), like, "the result"))

    known = [Known(flat(mistake.answer), mistake.hint) for mistake in mistakes]
    compare_cases(flat(answer), flat(right), [inputs], name=names, mistakes=known)


def built(answer: Answer, parts: Sequence[object]) -> nn.Module:
    """Build the student's model from networks and lists of networks.

    Args:
        answer: the student's class.
        parts: what its constructor takes.

    Returns:
        The model.

    Raises:
        Mistake: if it is not a module, or does not hold the parameters of its parts.
    """
    model = make(answer, *copies(parts))
    networks = [part if isinstance(part, list) else [part] for part in parts]
    expected = sum(
        p.numel() for part in networks for network in part for p in network.parameters()
    )
    held = sum(p.numel() for p in model.parameters())
    if held < expected:
        raise Mistake(
            f"model.parameters() has {held:,} numbers where the networks have {expected:,}, so an "
            "optimiser would leave some networks as they are; keep lists in nn.ModuleList"
        )
    return model


def compare_models(
    answer: Answer,
    right: Answer,
    parts: Sequence[object],
    inputs: Sequence[object],
    *,
    name: str,
    mistakes: Sequence[Known] = (),
) -> None:
    """Compare the forward pass of a model, and the gradients of its parameters.

    Args:
        answer: the student's class.
        right: the reference, a class too.
        parts: what both constructors take.
        inputs: what both forward passes take: x, and a list of tensors.
        name: name of the result, for the hint.
        mistakes: known mistakes; the first that returns the same wrong values gives the hint.

    Raises:
        Mistake: if a value or a gradient is wrong.
    """

    def run(kind: Answer) -> tuple[nn.Module, object]:
        model = built(kind, parts)
        dtype = next(model.parameters()).dtype
        x, noise = copies(inputs)
        return model, model(x.to(dtype), [e.to(dtype) for e in noise])

    (model, value), (_, again), (other, expected) = run(answer), run(answer), run(right)
    not_none(value, name)
    if isinstance(value, Tensor) and value.isfinite().all() and not alike(value, again):
        raise Mistake("two passes with the same noise differ; draw with the noise that is given")
    if not alike(value, expected):
        hint_for(mistakes, lambda wrong: alike(value, run(wrong)[1]))
        compare_values(value, expected, name=name)
    if not value.requires_grad:
        raise Mistake(f"{name} is right, but no gradient passes through it; do not detach it")
    gradients = []
    for module, result in ((model, value), (other, expected)):
        weights = torch.linspace(1, 2, len(result), dtype=result.dtype)
        leaves = [p for p in module.parameters() if p.requires_grad]
        slopes = torch.autograd.grad((weights * result).sum(), leaves, allow_unused=True)
        norms = [s.double().norm() for s in slopes if s is not None and s.any()]
        gradients.append(torch.stack(sorted(norms)))
    if not alike(*gradients, 1e-3):
        raise Mistake(
            f"{name} is right, but the gradients of the parameters are not; draw every latent "
            "with z = mean + std * noise, and detach nothing"
        )


class _WithNoise(nn.Module):
    """The log-weight of a model of the package, with given noise."""

    def __init__(self, model: HierarchicalVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Sequence[Tensor]) -> Tensor:
        features, rules = self.model.features(x), self.model.posterior.rules

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            q = rules[l](features[l], h, p)
            return q, q.mean + q.stddev * noise[l]

        return self.model.top_down(self.model.top_prior(), choose, len(x)).log_weight(x)


def package_log_weight(model: HierarchicalVAE) -> Answer:
    """What a student's class should be, if its parts have the weights of a model of the package.

    Args:
        model: a model that infers on the way down, with one rule per level.

    Returns:
        A function that ignores the parts and gives a module from x and noise to log-weights.
    """
    return lambda *parts: _WithNoise(model)


def split_gaussian(outputs: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean and bounded log standard deviation from the outputs of a network.

    .. math:: \log\sigma = 7 \tanh(\xi / 7)

    Args:
        outputs: ``(B, 2 Z)``, the means first.

    Returns:
        Two tensors ``(B, Z)``.
    """
    mean, raw = outputs.chunk(2, dim=1)
    return mean, 7 * torch.tanh(raw / 7)


def log_normal(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of a diagonal Gaussian.

    Args:
        z: ``(B, Z)``.
        mean: ``(B, Z)``.
        log_std: ``(B, Z)``.

    Returns:
        ``(B,)``, nats.
    """
    standard = (z - mean) / log_std.exp()
    return -(0.5 * standard**2 + log_std + 0.5 * torch.log(2 * torch.pi + 0 * z)).sum(dim=1)
