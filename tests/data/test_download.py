"""Downloads against a real server on this machine: checked, refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mkmsr.data.downloads import download
from mkmsr.errors import DataError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Shelf(ThreadingHTTPServer):
    """A server of one file that can be told to misbehave.

    Args:
        cut: It closes the connection after so many bytes.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.asked = CONTENT, len(CONTENT), 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Shelf

    def do_GET(self) -> None:
        shelf = self.server
        shelf.asked += 1
        if not self.path.endswith("file.bin"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(shelf.content)))
        self.end_headers()
        self.wfile.write(shelf.content[: shelf.cut])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Shelf()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetched(shelf: Shelf, folder: Path, **wanted: object) -> bool:
    options = {"size": len(CONTENT), "sha256": SHA256, **wanted}
    return download(f"{shelf.address}/file.bin", folder / "sub" / "file.bin", **options)


def test_a_file_arrives_whole_and_progress_counts_its_bytes(shelf, tmp_path):
    counts: list[int] = []
    assert fetched(shelf, tmp_path, progress=counts.append)
    assert (tmp_path / "sub" / "file.bin").read_bytes() == CONTENT
    assert sum(counts) == len(CONTENT)
    assert [each.name for each in (tmp_path / "sub").iterdir()] == ["file.bin"]


def test_a_file_that_is_there_is_not_fetched_again(shelf, tmp_path):
    fetched(shelf, tmp_path)
    assert not fetched(shelf, tmp_path)
    assert shelf.asked == 1


def test_a_file_that_was_altered_is_fetched_again(shelf, tmp_path):
    fetched(shelf, tmp_path)
    (tmp_path / "sub" / "file.bin").write_bytes(b"altered")
    assert fetched(shelf, tmp_path)
    assert (tmp_path / "sub" / "file.bin").read_bytes() == CONTENT


def test_a_lost_connection_is_an_error_and_leaves_nothing(shelf, tmp_path):
    shelf.cut = 100_000
    with pytest.raises(DataError, match=r"100,000 bytes arrived, should be 512,000; not kept"):
        fetched(shelf, tmp_path)
    assert not list((tmp_path / "sub").iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [(CONTENT[::-1], "another content arrived: SHA-256"), (CONTENT[:-1], "511,999 bytes arrived, should be")],
)
def test_other_content_is_refused_and_the_old_file_stays(shelf, tmp_path, content, message):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.bin").write_bytes(b"old")
    shelf.content = content
    with pytest.raises(DataError, match=message):
        fetched(shelf, tmp_path)
    assert (tmp_path / "sub" / "file.bin").read_bytes() == b"old"
    assert [each.name for each in (tmp_path / "sub").iterdir()] == ["file.bin"]


def test_a_missing_file_is_said_at_once(shelf, tmp_path):
    with pytest.raises(DataError, match=r"/nothing answers 404 Not Found"):
        download(f"{shelf.address}/nothing", tmp_path / "nothing")
    assert shelf.asked == 1


def test_a_server_that_is_not_there(shelf, tmp_path):
    address = shelf.address
    shelf.server_close()
    with pytest.raises(DataError, match=r"cannot fetch .*; try again"):
        download(f"{address}/file.bin", tmp_path / "file.bin")


def test_only_addresses_of_the_web_are_fetched(tmp_path):
    with pytest.raises(DataError, match=r"is not an address of the web"):
        download(f"file://{tmp_path}/x", tmp_path / "y")
