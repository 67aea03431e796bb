"""Downloads of motion capture, from a server on this machine."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from acclaim import motion, skeleton, walk

from hvae_course import data
from hvae_course.data import motion_files


class Server(BaseHTTPRequestHandler):
    """Gives files by their path, bytes or a status, and notes what was asked for."""

    files: dict[str, bytes | int]
    asked: list[str]
    lost = 0
    """Bytes at the end that it promises and does not send."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        content = self.files.get(self.path, 404)
        if isinstance(content, int):
            self.send_error(content)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + self.lost))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server(monkeypatch) -> Iterator[type[Server]]:
    files = {
        "/07/07.asf": skeleton().encode(),
        "/07/07_01.amc": motion(walk(12, seed=1)).encode(),
        "/07/07_02.amc": motion(walk(12, seed=2)).encode(),
        "/112/112.asf": skeleton().encode(),
        "/112/112_03.amc": motion(walk(12, seed=3)).encode(),
    }
    handler = type("Handler", (Server,), {"files": files, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(motion_files, "SERVER", f"http://127.0.0.1:{running.server_port}")
        yield handler
        running.shutdown()
        thread.join()


WALKS = {"walking": ("07_01.amc", "07_02.amc", "112_03.amc")}


def fetch(folder: Path | None, motions=WALKS, **settings) -> Path:
    return data.download_motion(folder, motions=motions, progress=False, **settings)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_motions_come_with_their_skeletons_and_can_be_loaded(server, tmp_path):
    folder = fetch(tmp_path / "new" / "cmu")
    assert folder == tmp_path / "new" / "cmu"
    files = [path.split("/")[-1] for path in server.files]
    assert names(folder) == sorted([*files, "checksums.json"])
    for path, content in server.files.items():
        assert (folder / path.split("/")[-1]).read_bytes() == content
    assert len(data.load_motion(folder, WALKS).train) == 12


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    fetch(tmp_path, {"walking": ["07_01.amc"]})
    assert server.asked == ["/07/07.asf", "/07/07_01.amc"]
    server.asked.clear()
    fetch(tmp_path, WALKS | {"again": ["07_01.amc"]})
    assert server.asked == ["/07/07_02.amc", "/112/112.asf", "/112/112_03.amc"]
    server.asked.clear()
    server.files.clear()
    fetch(tmp_path)
    assert server.asked == []


def test_the_default_folder_is_that_of_the_other_data_sets(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HVAE_DATA", str(tmp_path / "own"))
    assert fetch(None) == tmp_path / "own" / "cmu"
    monkeypatch.delenv("HVAE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert fetch(None) == tmp_path / "cache" / "hvae_course" / "cmu"


def test_a_progress_bar_counts_files_and_can_be_switched_off(server, tmp_path, capsys):
    data.download_motion(tmp_path / "a", motions=WALKS)
    assert "5/5" in capsys.readouterr().err
    fetch(tmp_path / "b")
    assert capsys.readouterr().err == ""


def test_checksums_are_noted_at_the_first_download(server, tmp_path):
    fetch(tmp_path)
    noted = json.loads((tmp_path / "checksums.json").read_text())
    path = tmp_path / "07_02.amc"
    assert len(noted) == 5 and noted[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    fetch(tmp_path)  # line endings do not count


def test_a_file_that_has_changed_is_refused_here_and_on_the_server(server, tmp_path):
    fetch(tmp_path)
    path = tmp_path / "07_02.amc"
    path.write_bytes(path.read_bytes() + b"# a note\n")
    message = (
        r"07_02\.amc has changed: its SHA-256 is \w{12}\.\.\., .*; delete it and download it "
    )
    with pytest.raises(ValueError, match=message):
        fetch(tmp_path)
    server.files["/07/07_02.amc"] = path.read_bytes()
    path.unlink()
    message = r"http.*07/07_02\.amc has changed: .* try again later, or delete checksums\.json"
    with pytest.raises(ValueError, match=message):
        fetch(tmp_path)
    assert not path.exists()
    (tmp_path / "checksums.json").unlink()
    fetch(tmp_path)
    assert path.is_file()


def test_a_file_whose_checksum_the_course_knows_must_have_it(server, tmp_path):
    server.files |= {"/02/02.asf": skeleton().encode(), "/02/02_01.amc": motion(walk(9)).encode()}
    with pytest.raises(
        ValueError, match=r"that of 02_01\.amc was e196f67e5cee\.\.\.; .* leave it"
    ):
        fetch(tmp_path, {"walking": ["02_01.amc"]})
    assert names(tmp_path) == ["02.asf", "checksums.json"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            404,
            ConnectionError,
            r"could not download http.*/07_02\.amc: .*Not Found; try again late",
        ),
        (503, ConnectionError, r"could not download http.*/07_02\.amc: Service Unavailable"),
        (
            b"<html>Moved</html>",
            ValueError,
            r"not give the file 07_02\.amc, .*07_02\.amc, line 1: ",
        ),
        (b"", ValueError, r"not give the file 07_02\.amc, .*07_02\.amc has no frames"),
        (
            motion(walk(12))[:-30].encode(),
            ValueError,
            r"or not all of it \(07_02\.amc, line 63: thigh takes 3 values",
        ),
        (b"\x1f\x8b\x08\x00", ValueError, r"did not give the file 07_02\.amc"),
    ],
    ids=["not found", "busy", "a page", "nothing", "a piece", "something else"],
)
def test_what_is_no_whole_motion_leaves_nothing(content, error, message, server, tmp_path):
    server.files["/07/07_02.amc"] = content
    with pytest.raises(error, match=message) as caught:
        fetch(tmp_path)
    assert "part" not in str(caught.value)
    assert names(tmp_path) == ["07.asf", "07_01.amc", "checksums.json"]
    server.files["/07/07_02.amc"] = motion(walk(12)).encode()
    server.asked.clear()
    fetch(tmp_path)  # goes on where it stopped
    assert server.asked[0] == "/07/07_02.amc"


def test_a_page_in_place_of_a_skeleton_leaves_nothing(server, tmp_path):
    server.files["/07/07.asf"] = b"<!DOCTYPE html>"
    with pytest.raises(ValueError, match=r"not give the file 07\.asf, .* begins with a keyword"):
        fetch(tmp_path / "new")
    assert names(tmp_path / "new") == []


@pytest.mark.parametrize("name", ["07.asf", "07_02.amc"])
def test_half_a_file_that_is_there_already_is_not_noted(name, server, tmp_path):
    (tmp_path / name).write_bytes(server.files[f"/07/{name}"][:300])
    with pytest.raises(ValueError, match=rf"{name} is not the file .*, line .*; delete it and"):
        fetch(tmp_path)
    noted = tmp_path / "checksums.json"
    assert not noted.exists() or name not in json.loads(noted.read_text())
    (tmp_path / name).unlink()
    fetch(tmp_path)


def test_a_connection_that_breaks_off_leaves_nothing(server, tmp_path):
    server.lost = 10
    with pytest.raises(ConnectionError, match=r"could not download .*07\.asf: IncompleteRead"):
        fetch(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_server_that_does_not_answer_is_named(server, tmp_path, monkeypatch):
    monkeypatch.setattr(motion_files, "SERVER", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9/07/07\.asf: .*efused"):
        fetch(tmp_path / "new")


def test_motions_that_name_no_lists_of_files_are_refused(tmp_path):
    for motions in (["07_01.amc"], {"walking": {"07_01.amc"}}, {"walking": [7]}):
        with pytest.raises(TypeError, match=rf"list of files, .* got {re.escape(repr(motions))}"):
            fetch(tmp_path, motions)
    with pytest.raises(
        ValueError, match=r"every motion needs a file, got motions={'walking': \[\]}"
    ):
        fetch(tmp_path, {"walking": []})


@pytest.mark.parametrize("name", ["../07_01.amc", "07.asf", "7_1.amc", "07_01", ""])
def test_names_that_are_none_of_the_database_are_refused(name, server, tmp_path):
    with pytest.raises(ValueError, match=r"have names such as 02_01\.amc, got '"):
        fetch(tmp_path, {"walking": ["07_01.amc", name]})
    assert server.asked == []


def test_the_table_has_recordings_for_three_splits_and_names_of_the_database():
    files = [name for group in data.MOTIONS.values() for name in group]
    assert len(set(files)) == len(files) == 30
    assert all(motion_files.NAME.fullmatch(name) for name in files)
    assert min(map(len, data.MOTIONS.values())) >= 5


@pytest.mark.parametrize("name", list(motion_files.CHECKSUMS))
def test_the_known_checksums_are_those_of_the_files(name):
    path = Path(os.environ.get("HVAE_DATA", "")) / "cmu" / name
    if not path.is_file():
        pytest.skip(f"HVAE_DATA names no folder that holds cmu/{name}")
    content = path.read_bytes().replace(b"\r\n", b"\n")
    assert hashlib.sha256(content).hexdigest() == motion_files.CHECKSUMS[name]
