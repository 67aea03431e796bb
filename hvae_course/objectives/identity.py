"""What an objective computes, as text that is the same in every process.

Code of one's own counts by its syntax tree: comments, formatting and docstrings do not matter, and
neither does the file that it is in. With it count its default arguments, what it encloses, and the
functions, classes, numbers and other values at module level that it reads. The package and
installed libraries count by name, so that a new version of them keeps checkpoints usable.
"""

import ast
import dis
import functools
import hashlib
import inspect
import linecache
import os
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvae_course.hierarchy.model import HierarchicalVAE

PACKAGE = __name__.partition(".")[0]
LIBRARIES = {"site-packages", "dist-packages"}
LIMIT = 1000
"""Most functions, classes and objects that one objective may consist of."""
DESCRIPTORS = (
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
"""Attributes of classes that are not written in Python."""


class _UnreadableError(Exception):
    """Something that text cannot stand for."""


def identify(value: Callable[..., Any]) -> str | None:
    """Give what a function or a callable object computes as text.

    Args:
        value: any function or callable object.

    Returns:
        For parts of the package with plain settings what `describe` gives, otherwise a name and a
        hash; None if there is code that cannot be read, such as that of a lambda.
    """
    text = _Text()
    try:
        content = text.of(value)
    except Exception:  # an object may raise any error when its content is asked for
        return None
    if text.only_package:
        return describe(value)
    return f"{_name(value)} {hashlib.sha256(content.encode()).hexdigest()[:32]}"


def describe(value: Any, *, depth: int = 8) -> str:  # noqa: ANN401
    """Describe a value in a way that does not depend on where it is in memory.

    Args:
        value: a function, an object or a setting.
        depth: how many containers and objects inside each other are described.

    Returns:
        A name with the settings; it begins with the name.
    """
    if depth == 0:
        return "..."
    shown = functools.partial(describe, depth=depth - 1)
    if isinstance(value, functools.partial):
        given = [shown(entry) for entry in (value.func, *value.args)]
        given += [f"{name}={shown(entry)}" for name, entry in value.keywords.items()]
        return f"partial({', '.join(given)})"
    if isinstance(value, dict):
        pairs = [f"{name!r}: {shown(entry)}" for name, entry in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if type(value) in (list, tuple):
        entries = ", ".join(map(shown, value)) + ("," if len(value) == 1 else "")
        return f"[{entries.removesuffix(',')}]" if isinstance(value, list) else f"({entries})"
    if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        file = os.path.basename(value.__code__.co_filename)
        return f"<lambda> in line {value.__code__.co_firstlineno} of {file}"
    if isinstance(value, type) or inspect.isroutine(value):
        return value.__name__
    if type(value).__repr__ is object.__repr__:  # which would name a place in memory
        return f"{_name(value)}({shown(getattr(value, '__dict__', {}))})"
    return repr(value)


def _name(value: Any) -> str:  # noqa: ANN401
    """The name of a function, or of the class of an object."""
    if isinstance(value, functools.partial):
        return f"partial({_name(value.func)})"
    return value.__name__ if inspect.isroutine(value) else type(value).__name__


def _installed(module: str) -> bool:
    """Whether a module belongs to the package, to Python or to an installed library."""
    root = module.partition(".")[0]
    if root in (PACKAGE, "__main__"):
        return root == PACKAGE
    files = (getattr(sys.modules.get(name), "__file__", None) for name in (module, root))
    path = next((Path(file) for file in files if file), None)
    if path is None:
        return root in sys.stdlib_module_names
    return Path(os.__file__).parent in path.parents or bool(LIBRARIES.intersection(path.parts))


def _nested(code: CodeType) -> Iterator[CodeType]:
    """A code object and all code objects inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _globals(code: CodeType) -> set[str]:
    """The names at module level or of Python that code reads."""
    found = (entry for part in _nested(code) for entry in dis.get_instructions(part))
    return {e.argval for e in found if "GLOBAL" in e.opname or e.opname == "LOAD_NAME"}


def _tree(code: CodeType) -> ast.AST:
    """The syntax tree of a function, without docstrings."""
    lines = "".join(inspect.getsourcelines(code)[0])
    (node,) = ast.parse(f"if True:\n{lines}" if lines[0].isspace() else lines).body
    node = node.body[0] if isinstance(node, ast.If) else node
    if getattr(node, "name", None) != code.co_name or not _current(code):
        raise _UnreadableError
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
            ast.get_docstring(part, clean=False) is not None
        ):
            del part.body[0]
    return node


def _current(code: CodeType) -> bool:
    """Whether the file that code comes from still holds it; it may have changed since."""
    source = "".join(linecache.getlines(code.co_filename))
    try:
        whole = compile(source, code.co_filename, "exec", dont_inherit=True)
    except SyntaxError:  # a notebook's cell that awaits something
        return True
    return code in _nested(whole)


def _written(value: Any) -> bool:  # noqa: ANN401
    """Whether an attribute of a class with a special name is a method that somebody wrote."""
    generated = ("<string>", "dataclasses.py", "reprlib.py")  # the methods of a data class
    return (
        isinstance(value, FunctionType)
        and os.path.basename(value.__code__.co_filename) not in generated
    )


def _dump(node: Any) -> str:  # noqa: ANN401
    """A syntax tree as text that does not depend on the version of Python."""
    if isinstance(node, list):
        return f"[{' '.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    names = ("kind", "type_comment")
    found = [(n, v) for n, v in ast.iter_fields(node) if n not in names and v not in (None, [])]
    return f"({type(node).__name__} {' '.join(f'{n}={_dump(v)}' for n, v in found)})"


class _Text:
    """The text of one value and of all values that belong to it."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[int, Any]] = {}  # the values too, so that none is freed
        self.only_package = True

    def of(self, value: Any) -> str:  # noqa: ANN401
        """Give the text of a value."""
        if isinstance(value, np.generic):
            value = value.item()
        kind = type(value)
        if kind in (type(None), bool, int, float, complex, str, bytes, type(...)):
            return repr(value)
        if isinstance(value, list | tuple):  # named tuples, too
            return f"{kind.__name__}[{' '.join(map(self.of, value))}]"
        if isinstance(value, dict):
            pairs = sorted((self.of(name), entry) for name, entry in value.items())
            return f"{{{' '.join(f'{name}:{self.of(entry)}' for name, entry in pairs)}}}"
        if isinstance(value, set | frozenset):
            return f"set[{' '.join(sorted(map(self.of, value)))}]"
        if isinstance(value, ModuleType):
            return self.module(value, set())
        module = getattr(value, "__module__", None) or "builtins"
        if isinstance(value, FunctionType):  # a decorator may have changed the name of its module
            module = value.__globals__.get("__name__", "")
            if value.__code__.co_name == "<lambda>":
                raise _UnreadableError
        name, library = f"{module}.{getattr(value, '__qualname__', '')}", _installed(module)
        if isinstance(value, type) and library:
            return name
        if id(value) in self.seen:
            return f"again {self.seen[id(value)][0]}"
        self.seen[id(value)] = len(self.seen), value
        if len(self.seen) > LIMIT:
            raise _UnreadableError
        if isinstance(value, DESCRIPTORS):
            return name
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            if not library or not isinstance(owner, ModuleType | type | None):
                raise _UnreadableError
            return name
        if isinstance(value, FunctionType) and library:
            return name + (self.enclosed(value) if value.__closure__ else "")
        if isinstance(value, MethodType):
            return f"{self.of(value.__func__)} of {self.of(value.__self__)}"
        if isinstance(value, HierarchicalVAE):  # whose weights are what is trained
            return f"model {self.of(value.config) if value.config else value}"
        package = module.partition(".")[0] == PACKAGE
        if not package and not isinstance(value, functools.partial):
            self.only_package = False
        if isinstance(value, Tensor | np.ndarray):
            return self.array(value)
        if isinstance(value, FunctionType):
            return self.function(value)
        if isinstance(value, type):
            return self.kind(value)
        return self.thing(value, package=package)

    def array(self, value: Tensor | np.ndarray) -> str:
        """Give type, shape and content of a tensor, wherever it is."""
        if isinstance(value, Tensor):
            kind, raw = value.dtype, value.detach().cpu().contiguous().reshape(-1)
            content = raw.view(torch.uint8).numpy().tobytes()
        elif value.dtype.hasobject:
            raise _UnreadableError
        else:
            kind, content = value.dtype.str, value.tobytes()
        return f"{kind} {tuple(value.shape)} {hashlib.sha256(content).hexdigest()}"

    def module(self, module: ModuleType, names: set[str]) -> str:
        """Give the name of a module, and of one's own what is read of it."""
        if _installed(module.__name__) or id(module) in self.seen:
            return module.__name__
        self.seen[id(module)] = len(self.seen), module
        read = sorted(names & vars(module).keys())
        return f"module {' '.join(f'{n}={self.read(vars(module)[n], names)}' for n in read)}"

    def read(self, value: Any, names: set[str]) -> str:  # noqa: ANN401
        """Give the text of what code reads at module level."""
        if isinstance(value, ModuleType):
            return self.module(value, names)
        try:
            return self.of(value)
        except Exception:
            if callable(value) or len(self.seen) > LIMIT:
                raise
            return type(value).__name__  # such as an open file, which is no setting

    def enclosed(self, function: FunctionType) -> str:
        """Give what a function has from where it was defined."""
        names, cells = function.__code__.co_freevars, function.__closure__ or ()
        values = {n: c.cell_contents for n, c in zip(names, cells, strict=True)}
        return self.of((values, function.__defaults__, function.__kwdefaults__))

    def function(self, function: FunctionType) -> str:
        """Give name, code and surroundings of a function."""
        code = function.__code__
        attributes = {name for part in _nested(code) for name in part.co_names}
        tree, read = _dump(_tree(code)), sorted(_globals(code) & function.__globals__.keys())
        values = [f"{n}={self.read(function.__globals__[n], attributes)}" for n in read]
        values += [self.enclosed(function), self.of(vars(function))]
        return f"{function.__qualname__} {tree} {' '.join(values)}"

    def kind(self, kind: type) -> str:
        """Give name, bases, methods and attributes of a class."""
        if issubclass(kind, Enum):
            return f"{kind.__qualname__} {self.of({m.name: m.value for m in kind})}"
        parts = {}
        for name, value in vars(kind).items():
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            elif isinstance(value, property):
                value = (value.fget, value.fset)
            elif isinstance(value, functools.cached_property):
                value = value.func
            if name != "_abc_impl" and (not name.startswith("__") or _written(value)):
                parts[name] = value
        return f"{kind.__qualname__} {self.of(kind.__bases__)} {self.of(parts)}"

    def thing(self, value: Any, *, package: bool) -> str:  # noqa: ANN401
        """Give the class and the content of an object, which are what pickle would keep."""
        content = value.__reduce_ex__(4)
        if isinstance(content, str):
            return f"{self.of(type(value))} {content}"
        make, arguments, state, *entries = (*content, None, None, None)[:5]
        if isinstance(value, nn.Module):
            left_out = vars(nn.Module()).keys() - {
                "training",
                "_parameters",
                "_buffers",
                "_modules",
            }
            if package and hasattr(type(value), "identity"):  # the state of an objective
                left_out |= {"_buffers"}
            state = {name: entry for name, entry in state.items() if name not in left_out}
        entries = [None if entry is None else list(entry) for entry in entries]
        return f"{self.of(make)} {self.of(arguments)} {self.of(state)} {self.of(entries)}"
