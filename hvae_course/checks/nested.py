"""Answers that hold several values: lists of pairs, and models whose forward pass is compared."""

from collections.abc import Iterator, Mapping, Sequence

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
    gradients: Mapping[int, str] | None = None,
) -> None:
    """Compare the values of one case, whose results are lists of lists, and their gradients.

    Args:
        answer: the student's function.
        right: the reference, with the same arguments.
        inputs: the arguments; each function is given copies.
        names: names of the values in the order in which they stand in the result.
        mistakes: known mistakes; the first that returns the same wrong values gives the hint.
        gradients: names, by position, of the arguments through which gradients have to pass.

    Raises:
        Mistake: if a value or a gradient is wrong, or the result is built in another way.
    """
    like = right(*copies(inputs))

    def flat(function: Answer) -> Answer:
        return lambda *given: list(_leaves(function(*given), like, "the result"))

    known = [Known(flat(mistake.answer), mistake.hint) for mistake in mistakes]
    try:
        compare_cases(flat(answer), flat(right), [inputs], name=names, mistakes=known)
    except Mistake:
        calls = [flat(answer)(*copies(inputs)) for _ in range(2)]
        for value, again in zip(*calls, strict=True):
            if alike(value, value) and not alike(value, again):
                raise Mistake(
                    "two calls with the same noise differ; draw with the noise that is given"
                ) from None
        raise
    if gradients:
        _compare_gradients(flat(answer), flat(right), inputs, gradients)


def _require_gradients(value: object) -> object:
    """The same arguments, whose numbers are leaves of a graph."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    if isinstance(value, list | tuple):
        return type(value)(_require_gradients(part) for part in value)
    return value


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _compare_gradients(
    answer: Answer, right: Answer, inputs: Sequence[object], names: Mapping[int, str]
) -> None:
    """Accept right values if their gradients with respect to some arguments are right as well."""
    given = [_require_gradients(value) for value in inputs]
    leaves = [
        (name, leaf) for position, name in names.items() for leaf in _tensors(given[position])
    ]

    def slopes(function: Answer) -> list[Tensor]:
        values = function(*copies(given))
        if not any(isinstance(value, Tensor) and value.requires_grad for value in values):
            raise Mistake(
                "the value is right, but no gradient passes through it; compute with tensors "
                "throughout, without item(), detach(), numpy or no_grad()"
            )
        whole = torch.cat([torch.as_tensor(value).cpu().double().flatten() for value in values])
        loss = (torch.linspace(1, 2, len(whole)) * whole).sum()
        variables = [leaf for _, leaf in leaves]
        return torch.autograd.grad(loss, variables, allow_unused=True, materialize_grads=True)

    expected, own = slopes(right), slopes(answer)
    rounding = 1e-5 * max(slope.norm() for slope in expected)  # in single precision
    for name in names.values():
        at = [i for i, (of, _) in enumerate(leaves) if of == name]
        if all((own[i] - expected[i]).norm() <= 1e-3 * expected[i].norm() + rounding for i in at):
            continue
        if any(own[i].any() for i in at):
            what = f"the gradient with respect to {name} is not"
        else:
            what = f"no gradient reaches {name}"
        raise Mistake(f"the value is right, but {what}; detach nothing")


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

    def run(model: nn.Module) -> object:
        dtype = next(model.parameters()).dtype
        x, noise = copies(inputs)
        return model(x.to(dtype), [e.to(dtype) for e in noise])

    model, other = built(answer, parts), built(right, parts)
    held, value = list(model.parameters()), not_none(run(model), name)
    if len(held) > len(list(model.parameters())):
        raise Mistake("a pass takes networks out of the model; the next one needs them again")
    again, expected = run(model), run(other)
    if isinstance(value, Tensor) and value.isfinite().all() and not alike(value, again):
        raise Mistake("two passes with the same noise differ; draw with the noise that is given")
    if not alike(value, expected):
        hint_for(mistakes, lambda wrong: alike(value, run(built(wrong, parts))))
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
        features, posterior = self.model.features(x), self.model.posterior

        def choose(l: int, h: State, p: Distribution) -> tuple[Distribution, Tensor]:
            q = posterior.rules[l](features[posterior.reads[l] - 1], h, p)
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
