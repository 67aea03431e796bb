"""A file is complete or absent, readable by whoever may read its folder, and runs no code."""

import enum
import errno
import json
import math
import os
import pickle
import traceback
from collections import Counter, OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from hvae_course.config import Training, plain
from hvae_course.files import (
    as_path,
    check_writable,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
    write_whole,
)


@pytest.fixture
def path(tmp_path) -> Path:
    """A file in a folder that does not exist yet."""
    return tmp_path / "a/b/file.bin"


# Whole files


def test_a_file_is_written_and_its_folder_made(path):
    write_whole(path, lambda file: file.write(b"first"))
    write_whole(str(path), lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failing_write_leaves_the_old_file_and_nothing_else(error, path):
    write_json(path, {"a": 1})
    before = path.read_bytes()

    def torn(file):
        file.write(b"half of it")
        raise error

    with pytest.raises(type(error)):
        write_whole(path, torn)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_new_file(path):
    before = os.umask(0o027)
    try:
        write_whole(path, lambda file: file.write(b"x"))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def wrong_paths(folder: Path) -> dict[str, tuple[Path, type[OSError], str]]:
    """Where no file can be written: the file, the error and what it says."""
    (folder / "taken").write_bytes(b"x")
    (folder / "folder").mkdir()
    return {
        "a folder": (folder / "folder", IsADirectoryError, "is a folder; give the name of a file"),
        "below a file": (folder / "taken/run.pt", OSError, "is a file, not a folder; choose an"),
        "far below a file": (folder / "taken/a/b.pt", OSError, "is a file, not a folder; choose"),
        "a long name": (folder / ("x" * 300), OSError, "the name is too long; choose a shorter"),
    }


@pytest.mark.parametrize("kind", ["a folder", "below a file", "far below a file", "a long name"])
def test_a_path_that_cannot_be_written_is_refused_before_the_work(kind, tmp_path):
    path, error, text = wrong_paths(tmp_path)[kind]
    before = sorted(tmp_path.rglob("*"))
    for attempt in (check_writable, lambda path: write_json(path, {})):
        with pytest.raises(error, match=f"cannot write {path}: ") as found:
            attempt(path)
        assert text in str(found.value) or attempt is not check_writable
        assert "\n" not in str(found.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_whether_a_file_can_be_written_is_tried_without_making_it(tmp_path):
    assert check_writable(tmp_path / "a/b/run.pt") == tmp_path / "a/b/run.pt"
    assert check_writable(str(tmp_path / "run.pt"), size=1000) == tmp_path / "run.pt"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match=r"it takes about 1,000,000,000,000,000 bytes and the disk"):
        check_writable(tmp_path / "run.pt", size=10**15)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "the disk is full; free some space, or choose another folder"),
        (errno.EDQUOT, "the quota of the disk is used up; free some space"),
        (errno.EROFS, "the disk is read-only; choose another folder"),
        (errno.EACCES, "permission denied; change the permissions, or choose another folder"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_machine_refuses_is_named_with_the_file(number, text, path, monkeypatch):
    write_tensors({"a": 1}, path)
    before = path.read_bytes()

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    for write in (lambda: write_tensors({"a": 2}, path), lambda: write_json(path, {})):
        with pytest.raises(OSError, match=f"^cannot write {path}: {text}") as error:
            write()
        assert error.value.errno == number
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.fixture
def full_disk():
    """No file may have more than 1000 bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_of_tensors_for_which_there_is_no_space_leaves_the_old_one(path, full_disk):
    """PyTorch's own writer raises a RuntimeError about its file format."""
    path.parent.mkdir(parents=True)
    path.write_bytes(b"before")
    with pytest.raises(OSError, match=f"^cannot write {path}: File too large$"):
        write_tensors({"w": torch.zeros(10_000)}, path)
    assert path.read_bytes() == b"before" and list(path.parent.iterdir()) == [path]


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("~/a/run.json", Path("~/a/run.json")):
        write_json(name, {"a": 1})
        assert read_json(name) == {"a": 1}
        assert [f.name for f in tmp_path.rglob("*")] == ["a", "run.json"]
        (tmp_path / "a/run.json").unlink(), (tmp_path / "a").rmdir()
    write_tensors({"a": 1}, "~/run.pt")
    assert read_tensors("~/run.pt", kind="file") == {"a": 1}
    assert check_writable("~/run.pt") == as_path("~/run.pt") == tmp_path / "run.pt"


@pytest.mark.parametrize(
    ("path", "error", "match"),
    [
        (True, TypeError, "a path is a string or a pathlib.Path, got True"),
        (None, TypeError, "got None"),
        (3, TypeError, "got 3"),
        ("", ValueError, "the path of a file is empty; give a name"),
        ("~nobody-of-that-name/x", ValueError, "no such user; give the folder itself"),
    ],
)
def test_what_is_no_path_is_refused(path, error, match):
    with pytest.raises(error, match=match):
        as_path(path)


# JSON


def test_json_holds_no_number_that_is_not_finite(path):
    write_json(path, {"x": (1.5, math.nan, -math.inf)})
    assert json.loads(path.read_text()) == read_json(str(path)) == {"x": [1.5, None, None]}


def test_damaged_json_is_refused_and_a_missing_file_is_none(path):
    assert read_json(path) is None
    for content in (b"{", b"\xff\xff"):
        write_whole(path, lambda file, content=content: file.write(content))
        with pytest.raises(ValueError, match=r"file\.bin is damaged"):
            read_json(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"file\.bin is empty"):
        read_json(path)
    with pytest.raises(IsADirectoryError, match="cannot read"):
        read_json(path.parent)


class Kind(enum.Enum):
    """An option of one's own."""

    FIRST = "first"
    SECOND = 2


class Word(str, enum.Enum):
    """An option that is also a string."""

    FIRST = "first"


Sizes = namedtuple("Sizes", "bottom top")

FOREIGN = {
    "whole number": (np.int64(3), 3),
    "number": (np.float64(0.1), 0.1),
    "condition": (np.bool_(True), True),
    "array": (np.array([8, 4]), [8, 4]),
    "array of numbers": (np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
    "array of text": (np.array(["a"]), ["a"]),
    "array without axes": (np.array(3), 3),
    "path": (Path("a/b"), "a/b"),
    "member": (Kind.SECOND, 2),
    "member with a text": (Word.FIRST, "first"),
    "tuple": ((1, (2.0,)), [1, [2.0]]),
    "named tuple": (Sizes(8, 4), [8, 4]),
    "data class": (Training(epochs=3), plain(Training(epochs=3))),
}
"""What settings may be, and what JSON holds for it."""


@pytest.mark.parametrize("kind", FOREIGN)
def test_json_holds_what_settings_may_be(kind, path):
    value, expected = FOREIGN[kind]
    write_json(path, {"a": value, "b": [value]})
    found = read_json(path)
    assert found == {"a": expected, "b": [expected]} and type(found["a"]) is type(expected)


def test_json_names_what_it_cannot_hold(path):
    for value in ({1}, object(), b"bytes"):
        match = f"cannot write {path}: .* not JSON serializable; convert it to numbers or text"
        with pytest.raises(TypeError, match=match):
            write_json(path, {"a": value})
    assert not path.exists()


# Tensors


def test_numbers_of_numpy_become_those_of_python(path):
    rate = np.logspace(-4, -2, 3)[1]
    content = {"a": [rate, (np.int64(3), np.bool_(True))], np.str_("b"): {"c": np.float32(0.5)}}
    write_tensors(content, path)
    found = read_tensors(path, kind="file")
    assert found == {"a": [rate, (3, True)], "b": {"c": 0.5}}
    assert [type(v) for v in (found["a"][0], *found["a"][1])] == [float, int, bool]


def test_weights_stay_as_they_are(path):
    state = torch.nn.BatchNorm1d(3).state_dict()
    write_tensors({"weights": state}, path)
    found = read_tensors(path, kind="file")["weights"]
    assert isinstance(found, OrderedDict) and found._metadata == state._metadata
    torch.testing.assert_close(dict(found), dict(state), rtol=0, atol=0)


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_tensors_can_be_read_whatever_its_settings_are(kind, path):
    """A size from NumPy was written, and could not be read again."""
    value, expected = FOREIGN[kind]
    write_tensors({"settings": {"a": value, "b": (value,)}}, path)
    found = read_tensors(path, kind="file")["settings"]
    for entry in (found["a"], *found["b"]):
        assert plain(entry) == expected
        assert type(entry).__module__ in ("builtins", "torch")


def test_a_file_of_tensors_keeps_sets_shapes_and_types(path):
    content = {"a": {1, 2}, "b": torch.Size([2]), "c": torch.float64, "d": torch.device("cpu")}
    content |= {"e": OrderedDict(x=(1, [None])), "f": frozenset("x"), "g": Counter("aab"), 3: b"x"}
    write_tensors(content, path)
    assert read_tensors(path, kind="file") == content


def test_a_file_of_tensors_names_the_place_of_what_it_cannot_hold(path):
    with pytest.raises(TypeError, match=r"run\['a'\]\[1\] is <object .*; convert it to numbers"):
        write_tensors({"run": {"a": (1, object())}}, path)
    assert not path.parent.exists()


class Malicious:
    """Would make a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def spoilt(path: Path, how: str) -> None:
    """Write something that is not a file of tensors, or only part of one."""
    write_tensors({"w": torch.zeros(2)}, path)
    content, code = path.read_bytes(), {"format": 1, "config": Malicious(path.parent / "made")}
    foreign = {
        "empty": b"",
        "text": b"Hello\n",
        "letters": b"a text\n",
        "lower case": b"hello\n",
        "picture": b"\x89PNG\r\n",
        "archive": b"PK\x03\x04",
        "zeros": bytes(64),
        "pickle": pickle.dumps(code, protocol=2),
    }
    if how == "code":
        torch.save(code, path)
    else:
        path.write_bytes(
            foreign[how] if how in foreign else content[: int(how) * len(content) // 1000]
        )


REASONS = {
    **dict.fromkeys(
        ("text", "letters", "lower case", "picture", "zeros"), "PyTorch did not write it"
    ),
    **dict.fromkeys(("archive", "100", "500", "900", "999"), "its end is missing"),  # thousandths
    "pickle": "PyTorch did not write it",
    "code": "it holds objects of other kinds",
}


@pytest.mark.parametrize("how", REASONS)
def test_a_foreign_or_damaged_file_is_refused_without_running_it(how, path):
    spoilt(path, how)
    reason = rf"file\.bin is not a checkpoint, or is damaged \({REASONS[how]}\); choose another"
    with pytest.raises(ValueError, match=reason) as error:
        read_tensors(path, kind="checkpoint")
    shown = "".join(traceback.format_exception(error.value))
    assert "weights_only" not in shown.partition("ValueError")[2] and "issue" not in shown
    assert not (path.parent / "made").exists()


def test_a_byte_that_has_changed_is_noticed(path):
    """PyTorch reads a changed number without a word."""
    write_tensors({"w": torch.arange(10_000.0)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)["w"], torch.arange(10_000.0))
    with pytest.raises(ValueError, match=r"or is damaged \(some bytes have changed\)"):
        read_tensors(path, kind="checkpoint")


def test_an_empty_file_a_folder_and_no_file_are_told_apart(path):
    with pytest.raises(FileNotFoundError, match=f"no checkpoint at {path}; check the path"):
        read_tensors(path, kind="checkpoint")
    spoilt(path, "empty")
    with pytest.raises(ValueError, match=f"{path} is empty, and not a checkpoint; delete it"):
        read_tensors(path, kind="checkpoint")
    with pytest.raises(IsADirectoryError, match="b is a folder, not a checkpoint; give a file$"):
        read_tensors(path.parent, kind="checkpoint")
    write_tensors({}, path.with_name("run.pt"))
    with pytest.raises(IsADirectoryError, match="; give a file, such as .*run.pt$"):
        read_tensors(path.parent, kind="checkpoint")
