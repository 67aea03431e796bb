"""One step of the KL weight under a constraint."""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_course.checks.verdict import Answer, Mistake, as_tensor, checked, compare_cases
from hvae_course.objectives.multipliers import GECO, ReWO

_BETAS = (0.01, 0.4, 1.0, 1.6, 4.0)
_VIOLATIONS = (-0.6, -0.1, 0.0, 0.2, 1.5)
_SETTINGS = ((0.1, 3.0), (0.3, 0.5))


@checked
def rewo_step(answer: Answer) -> str:
    r"""One step of the KL weight under a constraint (:eq:`eq-rewo`).

    Write ``rewo_step(beta, violation, rate, slope) -> beta``, the new KL weight. All arguments and
    the result are tensors of shape ``()``: the KL weight, the relative violation of the constraint
    (positive if the error is too large), nu and tau. The step eta is added to log beta.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    grid = [(b, v, *s) for s in _SETTINGS for v in _VIOLATIONS for b in _BETAS]
    cases = [torch.tensor(case).unbind() for case in grid]
    compare_cases(answer, _right, cases, name="the new beta", mistakes=rewo_step.mistakes)
    for start in (0.05, 3.0):
        weight = torch.tensor(start)
        for _ in range(150):
            new = answer(weight, torch.tensor(-0.8), torch.tensor(0.2), torch.tensor(2.0))
            weight = as_tensor(new, (), name="the new beta").float()
        if abs(weight.item() - 1) > 0.01:
            raise Mistake(f"from {start}, a constraint that holds leads to {weight:.3f}, not to 1")
    return (
        f"agrees with the formula in {len(cases)} cases; while the constraint holds, beta goes "
        "to 1 from above and from below"
    )


def _right(beta: Tensor, violation: Tensor, rate: Tensor, slope: Tensor) -> Tensor:
    return beta * ReWO(rate.item(), slope.item())(beta, violation).exp()


def _rewo(
    held: Callable[[Tensor, Tensor], Tensor] = lambda beta, slope: torch.tanh(slope * (beta - 1)),
    violated: Callable[[Tensor, Tensor], Tensor] = lambda beta, slope: torch.tensor(-1.0),
) -> Answer:
    """The step with another direction while the constraint is held, or while it is violated."""

    def answer(beta: Tensor, violation: Tensor, rate: Tensor, slope: Tensor) -> Tensor:
        direction = (held if violation < 0 else violated)(beta, slope)
        return beta * torch.exp(rate * violation * direction)

    return answer


@rewo_step.mistake("the branches are swapped; use the tanh while the constraint holds")
def _(beta, violation, rate, slope):
    if violation < 0:
        direction = -1.0
    else:
        direction = torch.tanh(slope * (beta - 1))
    return beta * torch.exp(rate * violation * direction)


@rewo_step.mistake("this is GECO; while the constraint holds, the step of ReWO has a tanh")
def _(beta, violation, rate, slope):
    return beta * GECO(rate.item())(beta, violation).exp()


for _hint, _held in {
    "while the constraint holds, beta moves away from 1; there the violation is < 0": (
        lambda b, t: torch.tanh(t * (1 - b))
    ),
    "beta goes to 0; write beta - 1 inside the tanh": lambda b, t: torch.tanh(t * b),
    "beta has no fixed point; write beta - 1 inside the tanh": lambda b, t: -torch.tanh(t * b),
    "the tanh has log beta inside; write beta - 1": lambda b, t: torch.tanh(t * b.log()),
    "the slope is not used; multiply beta - 1 by it": lambda b, t: torch.tanh(b - 1),
    "the slope stands in front of the tanh; move it inside": lambda b, t: t * torch.tanh(b - 1),
}.items():
    rewo_step.mistake(_hint)(_rewo(_held))

for _hint, _violated in {
    "a violated constraint raises beta; it should lower beta": lambda b, t: torch.tensor(1.0),
    "the tanh is in both branches; under a violated constraint use -1": (
        lambda b, t: torch.tanh(t * (b - 1))
    ),
    "the tanh is in both branches, as -|...| in one; under a violated constraint use -1": (
        lambda b, t: -torch.tanh(t * (b - 1)).abs()
    ),
}.items():
    rewo_step.mistake(_hint)(_rewo(violated=_violated))

for _hint, _result in {
    "this divides beta by exp(eta), as for lambda = 1 / beta; multiply": lambda b, new: b**2 / new,
    "this is the new lambda; return beta = 1 / lambda": lambda b, new: 1 / new,
    "the step is added to beta; add it to log beta, so multiply beta by exp(eta)": (
        lambda b, new: b + (new / b).log()
    ),
    "this is beta (1 + eta), the first order of beta exp(eta)": (
        lambda b, new: b * (1 + (new / b).log())
    ),
    "this is the step eta of log beta; return beta exp(eta)": lambda b, new: (new / b).log(),
    "this is the factor exp(eta); return beta exp(eta)": lambda b, new: new / b,
    "this is the logarithm of the new beta; return beta itself": lambda b, new: new.log(),
}.items():
    rewo_step.mistake(_hint)(lambda beta, *rest, of=_result: of(beta, _right(beta, *rest)))


@rewo_step.mistake("the rate is not used; the step is proportional to it")
def _(beta, violation, rate, slope):
    return _right(beta, violation, rate**0, slope)
