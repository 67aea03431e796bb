"""A file is there whole or not at all, and whoever may read its folder may read it."""

import os

import pytest

from hvae_course.atomic import write_whole


def test_a_file_is_written_and_its_folder_made(tmp_path):
    path = tmp_path / "a/b/file.bin"
    write_whole(path, lambda file: file.write(b"first"))
    write_whole(str(path), lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def torn(file):
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, torn)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file.bin", lambda file: file.write(b"x"))
    finally:
        os.umask(before)
    assert (tmp_path / "file.bin").stat().st_mode & 0o777 == 0o640
