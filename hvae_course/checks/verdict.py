"""The verdict of a check: right, not written yet, or what the mistake probably is, in one line.

A check never raises for a wrong answer. It prints its verdict, so the notebook keeps running. The
function behind a check returns a sentence about what it verified, or raises `Mistake` with a hint;
`checked` turns either into a `Verdict`.

Each check holds the mistakes that it knows: wrong answers, written as a student would write them,
each with a hint. `compare` runs the student's answer, then the known mistakes, and gives the hint
of the first that returns the same wrong values.
"""

import contextlib
import functools
import io
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import torch
from torch import Tensor

from hvae_course.seeding import isolated_random

_TORCH = str(Path(torch.__file__).parent)

Answer = Callable[..., object]
"""A function as a student writes it."""


class Mistake(Exception):
    """A wrong answer, with a hint at the probable reason."""


@dataclass(frozen=True)
class Verdict:
    """Result of a check."""

    exercise: str
    """Name of the exercise."""
    passed: bool
    message: str
    """One line for the student."""

    def __bool__(self) -> bool:
        """Whether the answer is right."""
        return self.passed

    def __str__(self) -> str:
        mark = "right" if self.passed else "not yet"
        return f"{mark} - {self.exercise}: {self.message}"

    def _ipython_display_(self) -> None:
        """Show nothing; the check has printed its line."""


@dataclass(frozen=True)
class Known:
    """A mistake that a check knows."""

    answer: Answer
    """A wrong answer, with the student's signature."""
    hint: str
    """What the student hears, or a part of it if the mistake shows in a property."""


class Check(Protocol):
    """A check of one exercise, with the mistakes that it knows."""

    __name__: str
    mistakes: list[Known]

    def __call__(self, answer: object) -> Verdict:
        """Print the verdict on an answer and return it."""

    def mistake(self, hint: str, *answers: Answer) -> Callable[[Answer], Answer]:
        """Register wrong answers that have the same hint; a decorator for one more."""


def _place(error: BaseException) -> str:
    """The line of the student's own code that raised an error."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    libraries = ("hvae_course", "torch", "site-packages", "dist-packages")
    own = [f for f in frames if not any(name in f.filename for name in libraries)]
    return f" in line {own[-1].lineno} of {own[-1].name}" if own else ""


def _is_stub(error: BaseException) -> bool:
    """Whether the exercise is still a stub; the same error from inside PyTorch does not count."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return isinstance(error, NotImplementedError) and not last.filename.startswith(_TORCH)


def checked(check: Callable[..., str]) -> Check:
    """Turn a function that returns a sentence or raises `Mistake` into a check.

    The check seeds the random numbers and restores them afterwards, so the verdict is the same
    every time and nothing outside changes.

    Args:
        check: function from the answer to a sentence.

    Returns:
        A function that takes the answer, prints the verdict and returns it. It has a list
        ``mistakes``, to which ``mistake(hint, *answers)`` adds, or ``@mistake(hint)``.
    """

    @functools.wraps(check)
    def run(answer: object) -> Verdict:
        try:
            with isolated_random(torch.device("cpu")), torch.enable_grad():
                torch.random.default_generator.manual_seed(0)  # leaves other devices alone
                verdict = Verdict(check.__name__, True, check(answer))
        except Mistake as mistake:
            verdict = Verdict(check.__name__, False, str(mistake))
        except Exception as error:  # whatever a student's code may raise
            raised = f"your code raised {type(error).__name__}: {error}{_place(error)}"
            message = "not written yet" if _is_stub(error) else " ".join(raised.split())
            verdict = Verdict(check.__name__, False, message)
        print(verdict)
        return verdict

    def mistake(hint: str, *answers: Answer) -> Callable[[Answer], Answer]:
        def register(answer: Answer) -> Answer:
            run.mistakes.append(Known(answer, hint))
            return answer

        for answer in answers:
            register(answer)
        return register

    run.mistakes, run.mistake = [], mistake
    return cast(Check, run)  # a plain function, which the API page lists


def ready(checks: ModuleType, *answers: Callable[..., object]) -> bool:
    """Whether a cell can use these answers; prints which ones are still wrong or missing.

    Args:
        checks: the module that holds their checks.
        *answers: the student's functions; each has the name of its check.

    Returns:
        True if every check passes.

    Example:
        >>> from hvae_course.checks import posterior_collapse
        >>> def free_bits(information, floor):
        ...     raise NotImplementedError
        >>> ready(posterior_collapse, free_bits)
        this cell waits for free_bits
        False
    """
    with contextlib.redirect_stdout(io.StringIO()):  # the verdicts were printed before
        waiting = [a.__name__ for a in answers if not getattr(checks, a.__name__)(a)]
    if waiting:
        print(f"this cell waits for {', '.join(waiting)}")
    return not waiting


def _numbers(value: object) -> Tensor:
    """The values of a result in double precision on the CPU."""
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
        value = torch.stack([torch.as_tensor(v).detach().cpu() for v in value])
    return torch.as_tensor(value).detach().cpu().double()


def as_tensor(value: object, shape: Sequence[int], *, name: str) -> Tensor:
    """Convert an answer to a tensor in double precision on the CPU, if it has the right shape.

    Args:
        value: what the student's function returned.
        shape: the right shape.
        name: name of the value, for the hint.

    Returns:
        The values.

    Raises:
        Mistake: if it does not consist of numbers, has another shape, or is not finite.
    """
    if value is None:
        raise Mistake(f"{name} is None; does your function end with return?")
    try:
        value = _numbers(value)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise Mistake(f"{name} should be numbers; your function returned a {kind}") from None
    if tuple(value.shape) != tuple(shape):
        hint = ""
        if value.numel() == 1 and len(shape) > 0:
            hint = "; this is one number for the whole batch; return one per example"
        raise Mistake(
            f"{name} should have shape {tuple(shape)}, yours has {tuple(value.shape)}{hint}"
        )
    if not torch.isfinite(value).all():
        raise Mistake(
            f"{name} is not finite for moderate inputs; look for logarithms and divisions"
        )
    return value


def as_sequence(value: object, length: int, *, name: str) -> Sequence[object]:
    """Convert an answer to several values: a tuple, a list, or a tensor along its first axis.

    Args:
        value: what the student's function returned.
        length: the right number of values.
        name: name of the answer, for the hint.

    Returns:
        The values.

    Raises:
        Mistake: if it is not a sequence or has another length.
    """
    if value is None:
        raise Mistake(f"{name} is None; does your function end with return?")
    if not isinstance(value, tuple | list | Tensor) or (
        isinstance(value, Tensor) and value.dim() == 0
    ):
        raise Mistake(f"{name} should be {length} values; your function returned one")
    if len(value) != length:
        raise Mistake(f"{name} should be {length} values; your function returned {len(value)}")
    return list(value)


def copies(inputs: Sequence[object]) -> list[object]:
    """Copy arguments, so that an answer may change what it is given.

    Args:
        inputs: tensors, tables, lists, tuples and dicts of them, and anything else.

    Returns:
        Copies; functions, modules and distributions stay as they are.
    """

    def copy(value: object) -> object:
        if isinstance(value, Tensor):
            return value.clone()
        if isinstance(value, list | tuple):
            return type(value)(copy(part) for part in value)
        if isinstance(value, dict):
            return {key: copy(part) for key, part in value.items()}
        return value.copy() if hasattr(value, "copy") else value

    return [copy(value) for value in inputs]


def hint_for(mistakes: Sequence[Known], matches: Callable[[Answer], bool]) -> None:
    """Raise the hint of the first known mistake that does what the student's answer does.

    Args:
        mistakes: the known mistakes.
        matches: whether a wrong answer does the same; a mistake for which this fails is skipped.

    Raises:
        Mistake: if one matches.
    """
    for known in mistakes:
        try:
            same = matches(known.answer)
        except Exception:  # it fails on these inputs, or returns another structure
            continue
        if same:
            raise Mistake(known.hint)


def alike(value: object, other: object, tolerance: float = 1e-4) -> bool:
    """Whether two results have the same shape and the same finite values.

    Args:
        value: a tensor, a number, or a sequence of them.
        other: another.
        tolerance: relative and absolute, wide enough for float32.

    Returns:
        False as well if one of them does not consist of numbers.
    """
    try:
        a, b = _numbers(value), _numbers(other)
    except (TypeError, ValueError, RuntimeError):
        return False
    finite = bool(a.isfinite().all())
    return finite and a.shape == b.shape and torch.allclose(a, b, tolerance, tolerance)


def compare(
    answer: Answer,
    right: Answer,
    inputs: Sequence[object],
    *,
    name: str | Sequence[str],
    mistakes: Sequence[Known] = (),
) -> None:
    """Compare the values of one case, as `compare_cases` does."""
    compare_cases(answer, right, [inputs], name=name, mistakes=mistakes)


def compare_cases(
    answer: Answer,
    right: Answer,
    cases: Sequence[Sequence[object]],
    *,
    name: str | Sequence[str],
    mistakes: Sequence[Known] = (),
) -> None:
    """Accept an answer that returns the right values, or name the known mistake that it makes.

    A mistake is named only if it explains all cases.

    Args:
        answer: the student's function.
        right: the reference, with the same arguments.
        cases: arguments, case by case; each function is given copies.
        name: name of the result for the hint, or one name per value that the answer returns.
        mistakes: known mistakes; the first that returns the same wrong values gives the hint.

    Raises:
        Mistake: if a value is wrong.
    """
    names = [name] if isinstance(name, str) else list(name)

    def results(function: Answer) -> list[Sequence[object]]:
        """What a function returns, ``[case][position]``."""
        values = [function(*copies(case)) for case in cases]
        if isinstance(name, str):
            return [[value] for value in values]
        return [as_sequence(value, len(names), name="the result") for value in values]

    def same(a: Sequence[object], b: Sequence[object], at: Sequence[int]) -> bool:
        return all(alike(u[i], v[i]) for u, v in zip(a, b, strict=True) for i in at)

    values, expected = results(answer), results(right)
    wrong = [i for i in range(len(names)) if not same(values, expected, [i])]
    if not wrong:
        return
    for at in (range(len(names)), wrong[:1]):  # better a mistake that explains every value
        hint_for(mistakes, lambda known, at=at: same(values, results(known), at))
    for value, reference in zip(values, expected, strict=True):
        for i in wrong:
            compare_values(value[i], reference[i], name=names[i])


def compare_values(value: object, expected: object, *, name: str, tolerance: float = 1e-4) -> None:
    """Accept a right value.

    Args:
        value: what the student's function returned.
        expected: the right value.
        name: name of the value, for the hint.
        tolerance: relative and absolute, wide enough for float32.

    Raises:
        Mistake: if the value is wrong.
    """
    expected = _numbers(expected)
    value = as_tensor(value, expected.shape, name=name)
    if torch.allclose(value, expected, tolerance, tolerance):
        return
    worst = (value - expected).abs().flatten().argmax()
    raise Mistake(
        f"{name} should be {expected.flatten()[worst]:.4f} where yours is "
        f"{value.flatten()[worst]:.4f} (the largest difference)"
    )


def over_the_batch(right: Answer) -> list[Known]:
    """Mistakes that come from reducing the batch.

    Args:
        right: the reference; it returns one number per example, ``(B,)``.

    Returns:
        Known mistakes, for the list of a check.
    """
    instead = "return one number per example, (B,)"
    return [
        Known(lambda *inputs: right(*inputs).sum(), f"this sums over the batch; {instead}"),
        Known(lambda *inputs: right(*inputs).mean(), f"this averages over the batch; {instead}"),
    ]


def compare_draws(value: object, draws: Tensor, *, name: str) -> None:
    """Accept a value that agrees with a Monte Carlo estimate to five standard errors.

    Args:
        value: what the student's function returned, ``(B,)``.
        draws: independent estimates of it, ``(N, B)``.
        name: name of the estimate, for the hint.

    Raises:
        Mistake: if they disagree.
    """
    draws = draws.detach().double()
    error = as_tensor(value, draws.shape[1:], name=name) - draws.mean(0)
    if (error.abs() > 5 * draws.std(0) / len(draws) ** 0.5).any():
        raise Mistake(
            f"{name} over {len(draws):,} draws differs from your value by more than five standard "
            "errors"
        )
