"""Checks of the build of chapter 2: a training loop with warm-up, free bits and early stopping.

A small ladder VAE of the package is trained twice from the same weights, with the same noise: by
the student's loop, and with the package's objective and training step. The two must end with the
same weights.
"""

import copy
import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvae_course.checks.building import weights
from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    alike,
    as_tensor,
    checked,
    compare,
    compare_cases,
    compare_values,
    copies,
    hint_for,
)
from hvae_course.data import DataSpec
from hvae_course.gaussians import kl_normal
from hvae_course.hierarchy import HierarchicalVAE, Trace
from hvae_course.objectives import FreeBits, WarmUp
from hvae_course.recipes import ladder_vae
from hvae_course.training.step import step

_PIXELS, _SIZES = 6, (3, 2, 2, 2)


def _same_noise(*_: object) -> None:
    torch.random.default_generator.manual_seed(1)


def _package(levels: int = 3) -> HierarchicalVAE:
    """A small ladder VAE that draws the same noise whenever it is called."""
    model = ladder_vae(DataSpec(_PIXELS, 2), latent_sizes=_SIZES[:levels], hidden=(8,))
    model.register_forward_pre_hook(_same_noise)
    return model


def _images(rows: int) -> Tensor:
    """Binary images of two kinds, mostly black and mostly white."""
    kind = torch.rand(rows, 1) < 0.5
    probability = torch.where(kind, 0.1, 0.9).expand(rows, _PIXELS)
    return torch.bernoulli(probability).to(torch.get_default_dtype())


def _terms(trace: Trace, x: Tensor) -> tuple[Tensor, Tensor]:
    _, reconstruction, *information = trace.terms(x)
    return reconstruction, torch.stack(information, dim=1)


@checked
def terms(answer: Answer) -> str:
    r"""Reconstruction and information of every example, :eq:`eq-information`.

    Write ``terms(trace, x) -> (reconstruction, information)`` for a trace of the package, with one
    draw per example: :math:`\log p(x \mid z)`, ``(B,)``, and :math:`\log q(z_l \mid \cdot) - \log
    p(z_l \mid z_{>l})` at the draw, ``(B, L)``, in nats, z_1 first. Gradients must pass.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    names = ("the reconstruction", "the information")
    for rows, levels in ((5, 3), (9, 4)):
        model, x = _package(levels), _images(rows)
        trace = model(x)
        compare(answer, _terms, (trace, x), name=names, mistakes=terms.mistakes)
        pixels = x.clone().requires_grad_()
        pairs = zip(names, answer(trace, pixels.clone()), _terms(trace, x), strict=True)
        for name, value, expected in pairs:
            own, right = (_slopes(v, model) for v in (value, expected))
            if own is None:
                raise Mistake(f"the values are right, but no gradient passes through {name}")
            if not torch.allclose(own, right, 1e-3, 1e-4):
                raise Mistake(
                    f"the values are right, but the gradient of {name} is not; detach neither the "
                    "draws nor the densities"
                )
    return "values and gradients agree with the package for 3 and for 4 levels"


def _slopes(value: object, model: HierarchicalVAE) -> Tensor | None:
    """Gradient of a weighted sum of a value in the parameters of a model."""
    if not getattr(value, "requires_grad", False):
        return None
    total = (value.double() * torch.linspace(1, 2, value.numel()).view_as(value)).sum()
    parameters = list(model.parameters())
    slopes = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    zeros = map(torch.zeros_like, parameters)
    return torch.cat(
        [(z if s is None else s).flatten() for s, z in zip(slopes, zeros, strict=True)]
    )


def _measured(
    information: Callable = lambda level: level.information,
    reconstruction: Callable = lambda trace, x: trace.px.log_prob(x),
    join: Callable = lambda values: torch.stack(values, dim=1),
) -> Answer:
    """The two terms, with a mistake in one of them."""

    def answer(trace: Trace, x: Tensor) -> tuple[Tensor, Tensor]:
        return reconstruction(trace, x), join([information(level) for level in trace.levels])

    return answer


for _hint, _wrong in {
    "this is the closed-form KL; measure log q - log p at the draw, which is right for every "
    "posterior": _measured(lambda level: kl_normal(level.q, level.p)),
    "the sign of the information is reversed; it is log q - log p": _measured(
        lambda level: -level.information
    ),
    "log q is missing from the information": _measured(lambda level: -level.p.log_prob(level.z)),
    "log p is missing from the information": _measured(lambda level: level.q.log_prob(level.z)),
    "the levels are in the wrong order; z_1 comes first, as in trace.levels": _measured(
        join=lambda values: torch.stack(values[::-1], dim=1)
    ),
    "the axes of the information are swapped; the batch is axis 0": _measured(join=torch.stack),
    "the information is added up over the levels; keep one number per level": _measured(join=sum),
    "the information is averaged over the batch already; free bits do that later": _measured(
        join=lambda values: torch.stack(values, dim=1).mean(0)
    ),
    "the reconstruction is a squared error; use trace.px.log_prob": _measured(
        reconstruction=lambda trace, x: -((trace.px.mean - x) ** 2).sum(1)
    ),
    "the sign of the reconstruction is reversed": _measured(
        reconstruction=lambda trace, x: -trace.px.log_prob(x)
    ),
    "log p is added; the information is log q - log p": _measured(
        lambda level: level.q.log_prob(level.z) + level.p.log_prob(level.z)
    ),
    "the KL has its arguments swapped, and is in closed form; measure log q - log p at the draw": (
        _measured(lambda level: kl_normal(level.p, level.q))
    ),
    "the information is taken at the mean of q; take it at the draw, level.z": _measured(
        lambda level: level.q.log_prob(level.q.mean) - level.p.log_prob(level.q.mean)
    ),
    "negative information is set to zero; a single draw may be negative": _measured(
        lambda level: level.information.clamp(min=0)
    ),
    "the absolute value of the information is taken; a single draw may be negative": _measured(
        lambda level: level.information.abs()
    ),
    "no gradient passes through the reconstruction": _measured(
        reconstruction=lambda trace, x: trace.px.log_prob(x).detach()
    ),
    "no gradient passes through the information": _measured(
        lambda level: level.information.detach()
    ),
    "but the gradient of the information is not": _measured(
        lambda level: level.q.log_prob(level.z) - level.p.log_prob(level.z).detach()
    ),
}.items():
    terms.mistake(_hint, _wrong)
terms.mistake(
    "but the gradient of the information is not",
    _measured(lambda level: level.q.log_prob(level.z.detach()) - level.p.log_prob(level.z)),
)


def _objective(
    reconstruction: Tensor, information: Tensor, weights: Sequence[float], floor: float
) -> Tensor:
    counted = information.mean(0).clamp(min=floor)
    return reconstruction.mean() - (torch.as_tensor(weights).to(counted) * counted).sum()


@checked
def objective(answer: Answer) -> str:
    r"""The objective of one batch, with free bits and a KL weight per level, :eq:`eq-free-bits`.

    Write ``objective(reconstruction, information, weights, floor) -> ()`` for ``(B,)`` and ``(B,
    L)`` in nats, L weights and one floor: the mean reconstruction, minus the sum over levels of
    the weight times the larger of the floor and the mean information. To be maximised.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    settings = [
        ([2.0, 0.3, 0.9], [1.0, 1.0, 1.0], 0.5),
        ([0.4, -0.9, 1.3], [0.2, 0.6, 1.0], 0.7),
        ([3.0, 0.2], [0.5, 0.1], 0.0),
        ([0.1, 0.3, 0.2, 0.15], [1.0, 0.9, 0.8, 0.7], 0.9),
    ]
    cases = []
    for mean, weight, floor in settings:
        noise = torch.randn(6, len(mean))
        information = torch.tensor(mean) + noise - noise.mean(0)
        cases.append((torch.randn(6) - 8, information, weight, floor))
    compare_cases(answer, _objective, cases, name="the objective", mistakes=objective.mistakes)
    for reconstruction, information, weight, floor in cases:
        of_terms = [
            lambda r, i, f=f, weight=weight, floor=floor: f(r, i, [*weight], floor)
            for f in (answer, _objective)
        ]
        names = ("the reconstruction", "the information")
        check_gradients(*of_terms, [reconstruction, information], names=names)
    return "value and gradients agree for 2, 3 and 4 levels, weights and floors that differ"


def _scored(
    counted: Callable = lambda i, w, floor: (w * i.mean(0).clamp(min=floor)).sum(),
    reconstruction: Callable = lambda r: r.mean(),
) -> Answer:
    """The objective, with a mistake in one term."""

    def answer(r: Tensor, i: Tensor, w: Sequence[float], floor: float) -> Tensor:
        return reconstruction(r) - counted(i, torch.as_tensor(w).to(i), floor)

    return answer


for _hint, _wrong in {
    "the floor is under the weighted information; apply the floor first, then the weight": _scored(
        lambda i, w, floor: (w * i.mean(0)).clamp(min=floor).sum()
    ),
    "the floor is under every example; average over the batch first": _scored(
        lambda i, w, floor: (w * i.clamp(min=floor).mean(0)).sum()
    ),
    "the floor is missing": _scored(lambda i, w, floor: (w * i.mean(0)).sum()),
    "one floor is under the sum of the levels; put one under every level": _scored(
        lambda i, w, floor: (w * i.mean(0)).sum().clamp(min=floor)
    ),
    "the weights are missing": _scored(lambda i, w, floor: i.mean(0).clamp(min=floor).sum()),
    "the weights are in the wrong order; the first belongs to z_1": _scored(
        lambda i, w, floor: (w.flip(0) * i.mean(0).clamp(min=floor)).sum()
    ),
    "the smaller of floor and information is taken; take the larger": _scored(
        lambda i, w, floor: (w * i.mean(0).clamp(max=floor)).sum()
    ),
    "the floor is subtracted; above it, all of the information counts": _scored(
        lambda i, w, floor: (w * (i.mean(0) - floor).clamp(min=0)).sum()
    ),
    "the KL terms are averaged over the levels; add them up": _scored(
        lambda i, w, floor: (w * i.mean(0).clamp(min=floor)).mean()
    ),
    "the information is added up over the batch; average it": _scored(
        lambda i, w, floor: (w * i.sum(0).clamp(min=floor)).sum()
    ),
    "the absolute value of the information is taken; below the floor, the floor counts": _scored(
        lambda i, w, floor: (w * i.mean(0).abs().clamp(min=floor)).sum()
    ),
    "all levels have the first weight; each has its own": _scored(
        lambda i, w, floor: (w[0] * i.mean(0).clamp(min=floor)).sum()
    ),
    "the weights apply to the reconstruction as well; only the KL terms are weighted": (
        lambda r, i, w, floor: sum(w) / len(w) * r.mean() + _scored()(0 * r, i, w, floor)
    ),
    "the reconstruction is added up over the batch; average it": _scored(
        reconstruction=lambda r: r.sum()
    ),
    "this is the loss; return the objective, which is maximised": (
        lambda *inputs: -_objective(*inputs)
    ),
    "the KL terms are added; subtract them": (
        lambda r, i, w, floor: r.mean() - _scored()(0 * r, i, w, floor)
    ),
    "no gradient passes through it": lambda *inputs: _objective(*inputs).detach(),
}.items():
    objective.mistake(_hint, _wrong)


def _epoch(
    model: HierarchicalVAE,
    optimiser: torch.optim.Optimizer,
    batches: Sequence[Tensor],
    weights: Sequence[float],
    floor: float,
) -> Tensor:
    """One epoch with the package's objective and training step."""
    model.train()
    goal, measured = FreeBits(nats=floor, weights=tuple(weights)), []
    for x in batches:
        value, statistics = step(model, goal, x, 1)
        optimiser.zero_grad()
        (-value).backward()
        optimiser.step()
        measured.append(statistics[3:])
    return torch.stack(measured).mean(0)


def _trained(answer: Answer, model: HierarchicalVAE, *inputs: object) -> tuple[object, Tensor]:
    """What an answer returns when it trains a copy of a model, and the state it ends with."""
    model = copy.deepcopy(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05, eps=1e-3)  # not the sign of rounding
    result = answer(model, optimiser, *copies(inputs))
    state = [value.detach().double().flatten() for value in model.state_dict().values()]
    return result, torch.cat([weights(model).double(), *state])


@functools.cache
def _outcome(
    answer: Answer, case: Callable[[int], tuple], number: int, dtype: torch.dtype
) -> tuple[object, Tensor]:
    """What the reference, or a known mistake, does in a case; always the same, so kept."""
    model, inputs = case(number)
    return _trained(answer, model, *inputs)


def _compare_trained(
    answer: Answer,
    right: Answer,
    case: Callable[[int], tuple],
    number: int,
    *,
    check: Answer,
    name: str,
) -> object:
    """Accept an answer that returns the right values and leaves the model in the right state.

    Args:
        answer: the student's function.
        right: the reference.
        case: gives the model and the other inputs of a case.
        number: number of the case.
        check: the check, which has the known mistakes.
        name: name of the result, for the hint.

    Returns:
        What the answer returned.

    Raises:
        Mistake: if a value is wrong.
    """
    model, inputs = case(number)
    known = {"case": case, "number": number, "dtype": torch.get_default_dtype()}
    result, state = _trained(answer, model, *inputs)
    expected, wanted = _outcome(right, **known)
    try:
        compare_values(result, expected, name=name)
        if not alike(state, wanted):
            worst = (state - wanted).abs().max()
            raise Mistake(
                f"{name} is right, but the model does not end with the right weights (they differ "
                f"by up to {worst:.3f}); when does the optimiser step, on which gradient, and "
                "which weights does the model keep?"
            )
    except Mistake:

        def same(wrong: Answer) -> bool:
            other, ended = _outcome(wrong, **known)
            return alike(result, other) and alike(state, ended)

        hint_for(check.mistakes, same)
        raise
    return result


def _epoch_case(number: int) -> tuple[HierarchicalVAE, tuple]:
    weights, floor = (([0.2, 0.5, 1.0], 0.1), ([1.0, 0.5], 0.0))[number]
    torch.random.default_generator.manual_seed(number)
    model = _package(len(weights)).eval()
    return model, (list(_images(60).split(20)), weights, floor)


def _fit_case(number: int) -> tuple[HierarchicalVAE, tuple]:
    (first, second), warm_up, patience, epochs = (
        ((4, 14), [1, 2, 5], 2, 12),  # the best epoch is the third
        ((5, 12), [1, 1], 1, 12),  # the best epoch comes after the warm-up
        ((4, 14), [1, 2, 5], 2, 2),  # the last epoch comes before that
    )[number]
    torch.random.default_generator.manual_seed(first)
    model = _package(len(warm_up))
    torch.random.default_generator.manual_seed(second)
    data = _images(60)
    return model, (list(data[:20].split(10)), data[20:], warm_up, 0.1, patience, epochs)


@checked
def train_epoch(answer: Answer) -> str:
    r"""One epoch of training, and the information of every level in it.

    Write ``train_epoch(model, optimiser, batches, weights, floor) -> (L,)``: put the model into
    training mode, take one step per batch ``(B, D)`` that increases the objective, and return the
    information of every level, averaged over the examples of the epoch, in nats, detached.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    name = "the information per level"
    for number in range(2):
        result = _compare_trained(
            answer, _epoch, _epoch_case, number, check=train_epoch, name=name
        )
        if getattr(result, "requires_grad", False):
            raise Mistake(
                "the information keeps its graph of gradients, and so every batch in memory; "
                "detach it"
            )
    return "after three steps the weights are those of the package's training step, to 1e-4"


def _steps(
    measure: Callable = lambda i, w, floor: i.mean(0).detach(),
    zero: bool = True,
    sign: float = -1.0,
    train: bool = True,
    last_only: bool = False,
    forget: bool = False,
    weighted: bool = True,
    once: bool = False,
    total: Callable = lambda measured: torch.stack(measured).mean(0),
) -> Answer:
    """One epoch, with a mistake in the loop."""

    def answer(
        model: HierarchicalVAE,
        optimiser: torch.optim.Optimizer,
        batches: Sequence[Tensor],
        weights: Sequence[float],
        floor: float,
    ) -> Tensor:
        model.train(train or model.training)
        measured, weights = [], weights if weighted else [1.0] * len(weights)
        for number, x in enumerate(batches):
            trace = model(x)
            value = _objective(*_terms(trace, x), weights, 0.0 if forget else floor)
            if zero and not once:
                optimiser.zero_grad()
            (sign * value).backward()
            if not once or number == len(batches) - 1:
                optimiser.step()
            measured.append(measure(_terms(trace, x)[1], torch.tensor(weights), floor))
        return total(measured)

    return answer


for _hint, _wrong in {
    "the gradients of earlier batches are still there; set them to zero before every backward "
    "pass": _steps(zero=False),
    "the optimiser minimises the objective; give it the loss, minus the objective": _steps(
        sign=1.0
    ),
    "the model is not in training mode; call model.train() first": _steps(train=False),
    "there is one step in the whole epoch; step after every batch": _steps(once=True),
    "the weights are not used in training": _steps(weighted=False),
    "this is the information of the last batch; average over the epoch": _steps(
        total=lambda measured: measured[-1]
    ),
    "this adds up the information of the batches; average over the examples": _steps(
        total=lambda measured: torch.stack(measured).sum(0)
    ),
    "this is the total information; return one number per level": _steps(
        total=lambda measured: torch.stack(measured).mean(0).sum()
    ),
    "the levels are in the wrong order; z_1 comes first": _steps(
        total=lambda measured: torch.stack(measured).mean(0).flip(0)
    ),
    "the floor is not used in training": _steps(forget=True),
    "this is the information of the first batch; average over the epoch": _steps(
        total=lambda measured: measured[0]
    ),
    "the information is multiplied by the weights; return the raw one": _steps(
        lambda i, w, floor: i.mean(0).detach() * w
    ),
    "the floor is under the information that is returned; return the raw one": _steps(
        lambda i, w, floor: i.mean(0).detach().clamp(min=floor)
    ),
    "the information keeps its graph of gradients": _steps(lambda i, w, floor: i.mean(0)),
}.items():
    train_epoch.mistake(_hint, _wrong)


@train_epoch.mistake(
    "the information is measured after the step of its batch; measure it in the same pass"
)
def _(model, optimiser, batches, weights, floor):
    model.train()
    measured = []
    for x in batches:
        _steps()(model, optimiser, [x], weights, floor)
        measured.append(_terms(model(x), x)[1].detach().mean(0))
    return torch.stack(measured).mean(0)


@train_epoch.mistake("the model does not change; call optimiser.step() after the backward pass")
def _(model, optimiser, batches, weights, floor):
    model.train()
    measured = [_terms(model(x), x)[1].detach().mean(0) for x in batches]
    return torch.stack(measured).mean(0)


def _validation(model: HierarchicalVAE, x: Tensor, floor: float) -> float:
    """The package's free-bits objective in evaluation mode."""
    model.eval()
    with torch.no_grad():
        value = FreeBits(nats=floor)(model(x), x).mean().item()
    model.train()
    return value


@checked
def validate(answer: Answer) -> str:
    r"""The final objective on data that the model is not trained on.

    Write ``validate(model, x, floor) -> float``: the objective with every weight 1, in evaluation
    mode, without gradients. Afterwards the model is in training mode again, and unchanged.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for levels, floor in ((3, 1.0), (4, 0.0)):
        model, x = _package(levels).train(), _images(40)
        for parameter in model.parameters():
            parameter.data.mul_(1.5)

        def run(
            f: Answer, model: HierarchicalVAE = model, x: Tensor = x, floor: float = floor
        ) -> tuple[object, HierarchicalVAE, bool]:
            own, graphs = copy.deepcopy(model), []
            own.register_forward_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
            return f(own, x.clone(), floor), own, any(graphs)

        value, own, with_gradients = run(answer)
        expected, reference, _ = run(_validation)
        as_tensor(value, (), name="the validation objective")
        try:
            compare_values(value, expected, name="the validation objective")
        except Mistake:
            hint_for(validate.mistakes, lambda f, v=value, run=run: alike(v, run(f)[0]))
            raise
        if not own.training:
            raise Mistake("the model stays in evaluation mode; call model.train() at the end")
        if not all(map(torch.equal, own.state_dict().values(), reference.state_dict().values())):
            raise Mistake("the validation changes the model; is it in evaluation mode?")
        if getattr(value, "requires_grad", False):
            raise Mistake("the value keeps its graph of gradients; use torch.no_grad()")
        if with_gradients:
            raise Mistake(
                "the model runs with gradients, which costs time and memory; call it inside "
                "torch.no_grad()"
            )
    return "agrees with the package's objective; the model is unchanged and in training mode"


def _validated(
    mode: bool = False,
    after: bool = True,
    weights: float = 1.0,
    floored: bool = True,
    finish: Callable = lambda value: value.item(),
    grad: bool = False,
) -> Answer:
    """The validation objective, with a mistake in one step."""

    def answer(model: HierarchicalVAE, x: Tensor, floor: float) -> object:
        model.train(mode)
        with torch.set_grad_enabled(grad):
            both = _terms(model(x), x)
            value = _objective(*both, [weights] * both[1].shape[1], floor if floored else 0.0)
        model.train(after)
        return finish(value)

    return answer


for _hint, _wrong in {
    "the model is in training mode, where batch statistics depend on the batch and are kept; call "
    "model.eval() first": _validated(mode=True),
    "the model stays in evaluation mode": _validated(after=False),
    "the value keeps its graph of gradients": _validated(grad=True, finish=lambda v: v),
    "the sign is reversed; return the objective, larger is better": _validated(
        finish=lambda v: -v.item()
    ),
    "the KL weights are 0; validation uses the final weights, 1": _validated(weights=0.0),
    "the KL weights are one half; validation uses the final weights, 1": _validated(weights=0.5),
    "this adds up over the examples; return the mean": _validated(finish=lambda v: 40 * v.item()),
    "the floor is missing; validation uses it as training does": _validated(floored=False),
    "the model runs with gradients": _validated(grad=True),
}.items():
    validate.mistake(_hint, _wrong)


def _fitted(
    weight: Callable = lambda epoch, warm_up, model: list(
        WarmUp(tuple(warm_up)).for_epoch(epoch).weights
    ),
    better: Callable = lambda value, best: value > best,
    keep: Callable = lambda model: copy.deepcopy(model.state_dict()),
    counted: Callable = lambda best_epoch, warm_up: max(best_epoch, *warm_up),
    wait: int = 0,
    sought: Callable = lambda epoch, warm_up: True,
    restore: bool = True,
    row: Callable = lambda value, information: [value, *information.tolist()],
) -> Answer:
    """Training with early stopping, by the package's rule or with a mistake in it."""

    def answer(
        model: HierarchicalVAE,
        optimiser: torch.optim.Optimizer,
        train: Sequence[Tensor],
        validation: Tensor,
        warm_up: Sequence[int],
        floor: float,
        patience: int,
        epochs: int,
    ) -> list[list[float]]:
        history, best, best_epoch, state = [], -math.inf, 0, keep(model)
        for epoch in range(1, epochs + 1):
            information = _epoch(model, optimiser, train, weight(epoch, warm_up, model), floor)
            value = _validation(model, validation, floor)
            history.append(row(value, information))
            if sought(epoch, warm_up) and better(value, best):
                best, best_epoch, state = value, epoch, keep(model)
            if epoch - counted(best_epoch, warm_up) >= patience + wait:
                break
        if restore:
            model.load_state_dict(state)
        return history

    return answer


_fit = _fitted()


@checked
def fit(answer: Answer) -> str:
    r"""The loop over epochs: warm-up :eq:`eq-warm-up`, validation, early stopping.

    Write ``fit(model, optimiser, train, validation, warm_up, floor, patience, epochs) -> list``.
    ``train`` is a list of batches, ``validation`` one batch, ``warm_up`` holds T_l, one per level.
    After every epoch the list gets a row: validation objective, then the information of every
    level in training. Training stops after ``patience`` epochs without a better validation
    objective, counted from the best epoch or the end of the longest warm-up, whichever is later.
    The model ends with the weights of its best epoch.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    lengths = []
    for number in range(3):
        history = _compare_trained(answer, _fit, _fit_case, number, check=fit, name="the history")
        lengths.append(len(history))
    return (
        f"runs of {', '.join(map(str, lengths))} epochs agree with the package's objective and "
        "rule: the same history, and the same weights to 1e-4"
    )


for _hint, _wrong in {
    "the warm-up is one epoch late; epochs count from 1": _fitted(
        lambda epoch, warm_up, model: [min(1.0, (epoch - 1) / t) for t in warm_up]
    ),
    "the weights do not stop at 1": _fitted(
        lambda epoch, warm_up, model: [epoch / t for t in warm_up]
    ),
    "there is no warm-up; the weights rise from 1 / T": _fitted(
        lambda epoch, warm_up, model: [1.0 for t in warm_up]
    ),
    "one warm-up time is used for all levels; each has its own": _fitted(
        lambda epoch, warm_up, model: [min(1.0, epoch / max(warm_up)) for t in warm_up]
    ),
    "the warm-up times are in the wrong order; the first belongs to z_1": _fitted(
        lambda epoch, warm_up, model: [min(1.0, epoch / t) for t in warm_up[::-1]]
    ),
    "the smallest validation objective counts as the best; it is maximised": _fitted(
        better=lambda value, best: best == -math.inf or value < best
    ),
    "the history has the objective alone; add the information of every level": _fitted(
        row=lambda value, information: [value]
    ),
    "the information is in the wrong order; z_1 comes first": _fitted(
        row=lambda value, information: [value, *information.flip(0).tolist()]
    ),
    "the validation objective comes last in the rows; put it first": _fitted(
        row=lambda value, information: [*information.tolist(), value]
    ),
    "this stops one epoch late": _fitted(wait=1),
    "this stops one epoch early": _fitted(wait=-1),
    "patience is counted from the end of the warm-up, even if the best epoch comes later": _fitted(
        counted=lambda best_epoch, warm_up: max(warm_up)
    ),
    "patience is counted from the best epoch plus the warm-up; count from the later of the two": (
        _fitted(counted=lambda best_epoch, warm_up: best_epoch + max(warm_up))
    ),
    "the best epoch is sought after the warm-up only; every epoch counts": _fitted(
        sought=lambda epoch, warm_up: epoch >= max(warm_up)
    ),
    "the parameters are those of the best epoch, the statistics of batch normalisation are not; "
    "copy the whole state_dict()": _fitted(
        keep=lambda model: model.state_dict() | copy.deepcopy(dict(model.named_parameters()))
    ),
}.items():
    fit.mistake(_hint, _wrong)
fit.mistake(
    "patience is counted during the warm-up too; count from the end of the longest one at the "
    "earliest",
    _fitted(counted=lambda best_epoch, warm_up: best_epoch),
    _fitted(counted=lambda best_epoch, warm_up: max(best_epoch, min(warm_up))),
)
fit.mistake(
    "the model ends with its last weights; load a copy of those of the best epoch, as "
    "state_dict() alone gives references that training goes on changing",
    _fitted(restore=False),
    _fitted(keep=lambda model: model.state_dict()),
)
