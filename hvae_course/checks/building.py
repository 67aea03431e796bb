"""What the checks of the build exercises share.

A build exercise ends with a model, a prior or a loop that a student has written in plain PyTorch.
The checks give it the package's weights (`plain`) and the package's noise (`fixed_noise`), so that
the two must agree to rounding. Where draws differ although the answer is right, `at` gives the
package's distributions at the student's own latents. `compare_sum` names the term of a bound that
is missing or wrong, `compare_noise` says what is wrong with a draw.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hvae_course.checks.verdict import Answer, Known, Mistake, alike, as_tensor, compare_values
from hvae_course.gaussians import GaussianHead
from hvae_course.hierarchy import HierarchicalVAE, Trace

_NORMAL = ("aten::randn", "aten::normal")
"""Beginnings of the names of PyTorch's operations that draw Gaussian noise."""


class _FixedNoise(TorchDispatchMode):
    """Replaces Gaussian noise by a pattern along the last axis."""

    def __torch_dispatch__(  # noqa: D105
        self,
        func: Callable,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = func._schema.name
        drawn = func(*args, **(kwargs or {}))
        if not name.startswith(_NORMAL):
            return drawn
        noise = torch.cos(2.4 * torch.arange(drawn.shape[-1] if drawn.dim() else 1) + 0.5)
        noise = (1.3 * noise).to(drawn).expand(drawn.shape)
        if name.startswith("aten::randn"):
            return drawn.copy_(noise)
        named = dict(zip((a.name for a in func._schema.arguments), args, strict=False))
        named |= kwargs or {}
        mean, std = named.get("mean", 0.0), named.get("std", 1.0)
        return drawn.copy_(noise * std + mean)


@contextmanager
def fixed_noise() -> Iterator[None]:
    """A context in which Gaussian noise depends on the latent dimension alone.

    Every row and every draw has the same noise, so the order in which an answer draws, and whether
    it draws with ``randn_like``, ``rsample`` or ``torch.normal``, makes no difference.

    Yields:
        None: nothing.

    Example:
        >>> with fixed_noise():
        ...     a, b = torch.randn(2, 3), torch.distributions.Normal(0.0, torch.ones(3)).rsample()
        >>> bool((a == b).all())
        True
    """
    with _FixedNoise():
        yield


def seeded(answer: Answer) -> Answer:
    """Give an answer the same random numbers in every call.

    Args:
        answer: a function that draws.

    Returns:
        The same function, with the seed set before each call.
    """

    def run(*inputs: object) -> object:
        torch.random.default_generator.manual_seed(1)
        return answer(*inputs)

    return run


def used(use: Callable[[Answer], Answer], mistakes: Sequence[Known]) -> list[Known]:
    """Apply the same use to every known mistake, as a check does to the student's answer.

    Args:
        use: function from an answer, such as a class, to a function whose values are compared.
        mistakes: mistakes of the form of the answer.

    Returns:
        Mistakes of the form of the values.
    """
    return [Known(use(known.answer), known.hint) for known in mistakes]


def not_none(value: object, name: str = "the result") -> object:
    """Accept whatever is not None.

    Args:
        value: what the student's function returned.
        name: name of the value, for the hint.

    Returns:
        The value.

    Raises:
        Mistake: if there is none.
    """
    if value is None:
        raise Mistake(f"{name} is None; does your function end with return?")
    return value


def make(answer: Answer, *parts: object, methods: Sequence[str] = ("forward",)) -> nn.Module:
    """Make a module of the student's class.

    Args:
        answer: the class.
        *parts: arguments of its constructor.
        methods: methods that the check calls.

    Returns:
        The module.

    Raises:
        Mistake: if it is not a module, lacks a method, or hides parameters of its parts.
    """
    module = not_none(answer(*parts), "the model")
    if not isinstance(module, nn.Module):
        raise Mistake(
            f"the model should be an nn.Module, got {type(module).__name__}; write "
            "class Name(nn.Module), and call super().__init__() first"
        )
    for method in methods:
        if getattr(type(module), method, None) in (None, nn.Module.forward):
            raise Mistake(f"the model has no method {method}; write def {method}(self, ...)")
    own = {id(p) for p in module.parameters()}
    if any(
        id(p) not in own
        for part in parts
        if isinstance(part, nn.Module)
        for p in part.parameters()
    ):
        raise Mistake(
            "the model does not register all of its networks, so an optimiser would not find "
            "them; assign each to self, and keep lists of modules in an nn.ModuleList"
        )
    return module


def plain(*modules: nn.Module) -> nn.Sequential:
    """One network of plain layers, with the weights of the package's modules.

    Args:
        *modules: modules that follow one another; a Gaussian head counts as its linear layer, so
            that the network gives means and raw log-scales, ``(B, 2 Z)``.

    Returns:
        The network; it shares its parameters with the modules.
    """
    layers = [m for module in modules for m in _layers(module)]
    return nn.Sequential(
        *(layer.linear if isinstance(layer, GaussianHead) else layer for layer in layers)
    )


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.Sequential):
        for part in module:
            yield from _layers(part)
    elif not isinstance(module, nn.Identity):
        yield module


@contextmanager
def inputs_of(*networks: nn.Module) -> Iterator[list[list[Tensor]]]:
    """A context that records what networks are given, such as latents that an answer keeps.

    Args:
        *networks: modules with one argument.

    Yields:
        list[list[Tensor]]: the inputs of each network, call by call, without gradients.
    """
    records: list[list[Tensor]] = [[] for _ in networks]
    hooks = [
        net.register_forward_pre_hook(lambda _, given, to=record: to.append(given[0].detach()))
        for net, record in zip(networks, records, strict=True)
    ]
    try:
        yield records
    finally:
        for hook in hooks:
            hook.remove()


def at(model: HierarchicalVAE, x: Tensor, latents: Sequence[Tensor]) -> Trace:
    """The package's distributions at given latents.

    Args:
        model: a model of the package.
        x: data ``(B, D)``.
        latents: z_1, ..., z_L, ``(B, Z_l)`` each.

    Returns:
        A trace whose latents are the given ones.
    """
    choose = model.posterior.score(model.features(x), latents)
    return model.top_down(model.top_prior(), choose, len(x))


def compare_sum(value: object, terms: Mapping[str, Tensor], *, name: str) -> None:
    """Accept a sum of terms, or name the term that is missing, doubled or of the wrong sign.

    Args:
        value: what the student's function returned.
        terms: the terms by name, ``(B,)`` each, with the sign that they have in the sum.
        name: name of the sum, for the hint.

    Raises:
        Mistake: if the value is wrong.
    """
    parts = {term: part.detach().cpu().double() for term, part in terms.items()}
    right = sum(parts.values())
    whole = torch.as_tensor(value).detach().cpu().double() if isinstance(value, Tensor) else value
    if isinstance(whole, Tensor) and whole.dim() == 0 and len(right) > 1:
        for reduced, how in ((right.sum(), "sums"), (right.mean(), "averages")):
            if alike(whole, reduced):
                raise Mistake(f"{name} {how} over the batch; return one number per example, (B,)")
    number = as_tensor(value, right.shape, name=name)
    if alike(number, right):
        return
    if alike(number, -right):
        raise Mistake(f"{name} has the sign reversed in every term; return it to be maximised")
    changes = {0: "is missing", -1: "has the wrong sign", 2: "is counted twice"}
    for factor, what in changes.items():
        for term, part in parts.items():
            if alike(number, right + (factor - 1) * part):
                raise Mistake(f"{term} {what} in {name}")
    for a, b in combinations(parts, 2):
        if alike(number, right - parts[a] - parts[b]):
            raise Mistake(f"{a} and {b} are missing in {name}")
        if alike(number, right - 2 * parts[a] - 2 * parts[b]):
            raise Mistake(f"{a} and {b} have the wrong sign in {name}")
    compare_values(number, right, name=name)


def compare_noise(noise: Tensor, *, name: str) -> None:
    """Accept noise that is standard normal to five standard errors in mean and variance.

    Args:
        noise: ``(N, Z)``, the draw minus its mean, divided by its standard deviation.
        name: name of the draw, such as ``z_1``, for the hint.

    Raises:
        Mistake: if it is not.
    """
    noise = as_tensor(noise, noise.shape, name=name)
    n, (mean, variance) = noise.numel(), (noise.mean(), noise.var())
    if variance < 1e-6:
        raise Mistake(f"{name} is not drawn: it has no noise; add std times a standard normal")
    if abs(mean) > 5 * (variance / n) ** 0.5 or abs(variance - 1) > 5 * math.sqrt(2 / n):
        raise Mistake(
            f"{name} is not a draw from the right Gaussian: in units of its standard deviation, "
            f"the noise should have mean 0 and variance 1, yours has {mean:.2f} and {variance:.2f}"
        )


def weights(module: nn.Module) -> Tensor:
    """All parameters of a module in one vector.

    Args:
        module: the module.

    Returns:
        ``(P,)``, without gradients.
    """
    return nn.utils.parameters_to_vector(module.parameters()).detach()
