"""A file is complete or absent, readable by whoever may read its folder, and runs no code."""

import json
import math
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from hvae_course.files import read_json, read_tensors, write_json, write_tensors, write_whole


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


@pytest.mark.parametrize(
    "how",
    [
        *("empty", "text", "letters", "lower case", "picture", "archive", "zeros"),
        *("100", "500", "900", "999"),  # thousandths of a whole file
        *("pickle", "code"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused_without_running_it(how, path):
    spoilt(path, how)
    with pytest.raises(ValueError, match=r"file\.bin is not a checkpoint, or is damaged: "):
        read_tensors(path, kind="checkpoint")
    assert not (path.parent / "made").exists()
