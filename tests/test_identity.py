"""Objectives are recognised by what they compute, in every process, and not by their names."""

import enum
import functools
import importlib
import linecache
import math
import subprocess
import sys
import threading
from dataclasses import dataclass
from types import FunctionType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hvae_course.objectives import (
    GECO,
    Constrained,
    FreeBits,
    Objective,
    ReWO,
    WarmUp,
    Weighted,
    as_objective,
    elbo,
    importance_weighted,
)


def identity(objective) -> str | None:
    return as_objective(objective).identity


CELLS = iter(range(1000))


def written(source: str, *, name: str = "f"):
    """What a cell of a notebook defines; its source is where a notebook keeps it."""
    file, source = f"<cell {next(CELLS)}>", "\n".join(map(str.rstrip, source.splitlines())) + "\n"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    names = {"__name__": "__main__"}
    exec(compile(source, file, "exec", dont_inherit=True), names)
    return names[name]


FUNCTION = """
import functools
import math
from math import exp
BETA = 2.0
TABLE = {"levels": [1.0, 2.0]}

def weight(level):
    return TABLE["levels"][level] * BETA

def f(trace, x, scale=1.0, *, shift=0.0):
    return trace.log_px(x) - scale * weight(0) + shift + exp(0)
"""
CLOSURE = """
def make(beta):
    def f(trace, x):
        return beta * trace.log_weight(x)
    return f
f = make(2.0)
"""
CLASS = """
from hvae_course.objectives import Objective, elbo
class Base(Objective):
    power = 2
    def value(self, bound):
        return bound ** self.power
class Mine(Base):
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, trace, x):
        return self.factor * self.value(elbo(trace, x)) + self.shift
    @property
    def shift(self):
        return 1.0
    @staticmethod
    def unused(x):
        return 3
f = Mine(2.0)
"""
DATA_CLASS = """
from dataclasses import dataclass
from enum import Enum
class Kind(Enum):
    FIRST = 1
    SECOND = 2
@dataclass(frozen=True)
class Mine:
    kind: Kind = Kind.FIRST
    beta: float = 1.0
    def __call__(self, trace, x):
        return self.beta * trace.log_weight(x)
f = Mine()
"""
DECORATED = """
import functools
def twice(function):
    @functools.wraps(function)
    def wrapper(trace, x):
        return 2 * function(trace, x)
    return wrapper
@twice
def f(trace, x):
    return trace.log_weight(x)
"""

ATTRIBUTE = """
def f(trace, x):
    return f.beta * trace.log_weight(x)
f.beta = 2.0
"""

CHANGES = {
    "an attribute of a function": (ATTRIBUTE, "f.beta = 2.0", "f.beta = 3.0"),
    "a number": (FUNCTION, "exp(0)", "exp(1)"),
    "a default": (FUNCTION, "scale=1.0", "scale=2.0"),
    "a keyword's default": (FUNCTION, "shift=0.0", "shift=1.0"),
    "a number at module level": (FUNCTION, "BETA = 2.0", "BETA = 3.0"),
    "a table at module level": (FUNCTION, "[1.0, 2.0]", "[1.0, 3.0]"),
    "a function at module level": (FUNCTION, "* BETA", "/ BETA"),
    "an imported function": (FUNCTION, "from math import exp", "from math import cos as exp"),
    "what a function encloses": (CLOSURE, "make(2.0)", "make(3.0)"),
    "the code of a method": (CLASS, "self.factor *", "self.factor +"),
    "an attribute": (CLASS, "Mine(2.0)", "Mine(3.0)"),
    "the class below it": (CLASS, "bound **", "bound *"),
    "an attribute of that class": (CLASS, "power = 2", "power = 3"),
    "a property": (CLASS, "return 1.0", "return 2.0"),
    "a field": (DATA_CLASS, "f = Mine()", "f = Mine(beta=2.0)"),
    "a member of an enumeration": (DATA_CLASS, "f = Mine()", "f = Mine(Kind.SECOND)"),
    "a decorator of what the package has": (
        DECORATED.replace(
            "@twice\ndef f(trace, x):\n", "from hvae_course.objectives import elbo\n"
        ).replace("    return trace.log_weight(x)", "f = twice(elbo)"),
        "2 * function",
        "3 * function",
    ),
    "a decorator": (DECORATED, "2 * function", "3 * function"),
    "what is decorated": (DECORATED, "return trace.log", "return -trace.log"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_objective_is_another_one_if_anything_changes_that_it_computes_with(change):
    source, before, now = CHANGES[change]
    assert source.count(before) == 1
    first, again, changed = map(written, (source, source, source.replace(before, now)))
    assert identity(first) == identity(again) is not None
    assert identity(changed) not in (identity(first), None)


def test_comments_formatting_docstrings_and_unread_names_do_not_count():
    other = FUNCTION.replace("scale * weight(0)", "(scale  # per level\n          * weight( 0 ))")
    other = other.replace("shift=0.0):", 'shift=0.0):\n    """Say what it is."""')
    other = other.replace("(level):", "(level):\n    'One level.'") + "\nTHIRD = 4.0\n"
    assert identity(written(other)) == identity(written(FUNCTION))
    other = CLASS.replace("power = 2", "'''Text.'''\n    power = 2\n\n    # more")
    assert identity(written(other)) == identity(written(CLASS))


def scaled(trace, x, factor, offset=0.0):
    return factor * elbo(trace, x) + offset


def test_a_partial_counts_with_its_function_and_its_arguments():
    """The case of a coefficient that was changed: both were known as partial."""
    first, second = (functools.partial(scaled, factor=factor) for factor in (100.0, 1.0))
    assert as_objective(first).description == "partial(scaled, factor=100.0)"
    assert identity(first) != identity(second)
    assert identity(first) == identity(functools.partial(scaled, factor=100.0)) is not None
    assert identity(first) != identity(functools.partial(scaled, factor=100.0, offset=1.0))
    assert identity(first) != identity(functools.partial(written(FUNCTION), factor=100.0))
    nested = functools.partial(functools.partial(scaled, offset=1.0), factor=100.0)
    assert identity(nested) == identity(functools.partial(scaled, factor=100.0, offset=1.0))
    in_order = functools.partial(scaled, offset=1.0, factor=100.0)
    assert identity(nested) == identity(in_order)


class Holding:
    """A callable object that holds anything."""

    def __init__(self, held) -> None:
        self.held = held

    def __call__(self, trace, x):
        return elbo(trace, x)


class Net(nn.Module):
    """A network that an objective asks."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(2, 2)

    def forward(self, trace, x):
        return elbo(trace, x)


class Kind(enum.Enum):
    A = 1
    B = 2


@dataclass
class Slots:
    __slots__ = ("beta",)
    beta: float


HELD = {
    "tensor": (torch.ones(3), torch.ones(3) * 2),
    "type of a tensor": (torch.ones(3), torch.ones(3, dtype=torch.float64)),
    "shape": (torch.ones(4), torch.ones(2, 2)),
    "half precision": (torch.ones(3, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.bfloat16)),
    "array": (np.arange(3), np.arange(3)[::-1]),
    "large array": (np.zeros(5000), np.eye(1, 5000, 2500)[0]),  # the same text
    "number": (np.float64(0.1), np.float32(0.1)),
    "zero and False": (0, False),
    "text and number": (1, "1"),
    "list": ([1, [2.0]], [1, [2.5]]),
    "order": ((1, 2), (2, 1)),
    "set": ({"a", "b", "c"}, {"a", "b"}),
    "mapping": ({"a": {"b": 1}}, {"a": {"b": 2}}),
    "member": (Kind.A, Kind.B),
    "objective": (Weighted(2.0), Weighted(3.0)),
    "own objective": (Holding(1), Holding(2)),
    "network": (Net(0), Net(1)),
    "mode of a network": (Net().eval(), Net()),
    "function": (elbo, importance_weighted),
    "own function": (scaled, written(FUNCTION)),
    "bound method": (Holding(1).__call__, Holding(2).__call__),
    "names": (SimpleNamespace(beta=1), SimpleNamespace(beta=2)),
    "slots": (Slots(1.0), Slots(2.0)),
    "distribution": (torch.distributions.Laplace(0.0, 1.0), torch.distributions.Laplace(0.0, 2.0)),
    "type": (torch.float32, torch.float64),
    "class": (nn.ReLU, nn.SiLU),
    "infinity": (math.inf, math.nan),
}


@pytest.mark.parametrize("kind", HELD)
def test_whatever_an_objective_holds_counts_by_its_content(kind):
    first, second = map(Holding, HELD[kind])
    assert identity(first) == identity(Holding(HELD[kind][0])) is not None
    assert identity(second) not in (identity(first), None)


def test_the_weights_of_the_model_that_is_trained_do_not_count(make_model):
    first, again, other = make_model(), make_model(seed=1), make_model(latent_sizes=(4, 2))
    assert identity(Holding(first)) == identity(Holding(again)) != identity(Holding(other))


def test_an_objective_counts_as_it_is_before_training():
    """Also one that has been trained before, in the same session."""

    class Moving(Objective):
        def __init__(self, start: float) -> None:
            self.start, self.now, self.training = start, start, True

        def __call__(self, trace, x):
            return self.now * elbo(trace, x)

        def begin(self, device):
            self.now = self.start

        def train(self, mode=True):
            self.training = mode
            return self

    fresh, used, other = Moving(2.0), Moving(2.0), Moving(3.0)
    used.now = 7.0
    assert identity(used.train(False)) == identity(fresh) != identity(other)
    assert used.now == 7.0 and not used.training
    constrained = Constrained(0.3)
    constrained.update(torch.tensor(1.0))
    assert identity(constrained.train(False)) == identity(Constrained(0.3))


@pytest.mark.parametrize(
    "objective",
    [
        Weighted((1.0, 2.0)),
        FreeBits(0.25, floor="example"),
        WarmUp((3, 4), FreeBits()),
        Constrained(0.3, rule=GECO(0.2)),
        Constrained(0.2, rule=ReWO(), inner_steps=3),
    ],
    ids=str,
)
def test_objectives_of_the_package_are_their_names_and_settings(objective):
    """So that checkpoints survive a change of the package's code."""
    assert identity(objective) == objective.description == repr(objective)
    assert (identity(elbo), identity(importance_weighted)) == ("elbo", "importance_weighted")
    assert identity(functools.partial(elbo)) == "partial(elbo)"


def test_a_part_of_ones_own_counts_inside_an_objective_of_the_package():
    class Doubled(Weighted):
        def __call__(self, trace, x):
            return 2 * super().__call__(trace, x)

    doubled = identity(WarmUp(3, Doubled()))
    assert doubled not in (None, identity(WarmUp(3, Weighted()))) and "WarmUp" in doubled


def enclosing_a_lambda():
    penalty = lambda x: x  # noqa: E731

    def objective(trace, x):
        return penalty(x)

    return objective


library_lambda = FunctionType((lambda x: x).__code__, vars(torch.nn.functional))


def without_source():
    exec("def f(trace, x):\n    return x", names := {"__name__": "__main__"})
    return names["f"]


UNREADABLE = {
    "lambda": lambda trace, x: x,
    "enclosed lambda": enclosing_a_lambda(),
    "lambda as an attribute": Holding(lambda x: x),
    "lambda in a partial": functools.partial(scaled, factor=lambda x: x),
    "without source": without_source(),
    "generator": Holding(i for i in range(3)),
    "lock": Holding(threading.Lock()),
    "lambda of a library": functools.partial(scaled, factor=library_lambda),
    "built-in method of an object": [1, 2].count,
    "too many parts": Holding([Holding(i) for i in range(2000)]),
    "endless": Holding(endless := []),
}
endless.append(endless)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_has_no_identity(kind):
    assert identity(UNREADABLE[kind]) is None


def test_a_lambda_at_module_level_is_not_passed_over_and_a_lock_is():
    source = "{} = {}\ndef f(trace, x):\n    return used and x\n"
    assert identity(written(source.format("used", "lambda: 1"))) is None
    assert identity(written(source.format("used", "__import__('threading').Lock()"))) is not None


MODULE = """
import helpers
from hvae_course.objectives import elbo

def f(trace, x):
    return helpers.weigh({number}) * elbo(trace, x)
"""


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """A module of one's own that reads another one."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "helpers.py").write_text("def weigh(x):\n    return 2 * x\n")
    (tmp_path / "mine.py").write_text(MODULE.format(number=1.0))
    yield tmp_path
    for name in ("mine", "helpers"):
        sys.modules.pop(name, None)


def test_modules_of_ones_own_may_read_each_other(own_modules):
    (own_modules / "helpers.py").write_text(
        "import mine\ndef weigh(x):\n    return mine.two * x\n"
    )
    (own_modules / "mine.py").write_text(MODULE.format(number=1.0) + "\ntwo = 2\n")
    before = identity(imported())
    (own_modules / "mine.py").write_text(MODULE.format(number=1.0) + "\ntwo = 3\n")
    assert identity(imported()) not in (before, None) and before is not None


def imported():
    for name in ("mine", "helpers"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module("mine").f


def test_what_is_read_of_a_module_of_ones_own_counts(own_modules):
    before = identity(imported())
    (own_modules / "helpers.py").write_text("def weigh(x):\n    return 3 * x\n\n\nx = 1\n")
    assert identity(imported()) not in (before, None)


def test_a_function_whose_file_has_changed_since_it_was_imported_has_no_identity(own_modules):
    """The file holds other code than the code that runs."""
    running = imported()
    before = identity(running)
    (own_modules / "mine.py").write_text(MODULE.format(number=10.0))
    assert identity(running) is None
    assert identity(imported()) not in (before, None)


def test_the_identity_is_the_same_in_every_process_and_module(own_modules):
    code = """
import sys
from hvae_course.objectives import as_objective
import mine
print(as_objective(mine.f).identity, as_objective(mine.Mine()).identity)
"""
    more = "\n\nclass Mine:\n    names = {'a', 'b', 'c'}\n    def __call__(self, t, x):\n"
    (own_modules / "mine.py").write_text(MODULE.format(number=1.0) + more + "        return 1\n")
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=own_modules,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{own_modules}:{':'.join(sys.path)}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1 and "None" not in found.pop()


# Descriptions


@pytest.mark.parametrize(
    ("objective", "before", "now"),
    [
        (elbo, "elbo", "elbo"),
        (functools.partial(scaled, factor=2.0), "partial", "partial(scaled, factor=2.0)"),
        (functools.partial(scaled, factor=elbo), "partial", "partial(scaled, factor=elbo)"),
        (Holding(2.0), "Holding", "Holding({'held': 2.0})"),
        (Holding([scaled, (1,)]), "Holding", "Holding({'held': [scaled, (1,)]})"),
        (Holding({"f": scaled}), "Holding", "Holding({'held': {'f': scaled}})"),
        (Slots(1.0).__init__, "__init__", "__init__"),
        (nn.Identity(), "Identity", "Identity()"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_description_says_what_was_given_and_begins_with_the_name(objective, before, now):
    description = as_objective(objective).description
    assert description == now and description.startswith(before)


def test_an_object_that_holds_itself_can_be_described():
    objective = Holding(None)
    objective.held = [objective]
    assert as_objective(objective).description.startswith("Holding({'held': [Holding(")
    assert "..." in as_objective(objective).description


def test_a_rule_of_ones_own_is_described_by_its_name():
    assert "rule=scaled, error=" in Constrained(0.3, rule=scaled).description


def test_a_lambda_is_described_by_its_place():
    text = as_objective(UNREADABLE["lambda"]).description
    assert text.startswith("<lambda> in line ") and text.endswith(" of test_identity.py")
