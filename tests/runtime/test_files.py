"""Files and folders appear whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mkmsr.runtime.files import atomic_folder, atomic_write, locked, may_replace, scratch_folder, sha256


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in another process; it sees `folder`, the writers and a limit on the size of a file."""
    head = """
import os, resource, signal, sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from mkmsr.runtime.files import atomic_folder, atomic_write, locked, scratch_folder
folder = Path(sys.argv[1])
def limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
"""
    command = [sys.executable, "-c", head + code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_text_is_written_as_utf8_and_bytes_as_they_are(tmp_path: Path) -> None:
    atomic_write(tmp_path / "new" / "text", "é 漢\n")
    atomic_write(tmp_path / "new" / "bytes", b"\x00\xff")
    assert (tmp_path / "new" / "text").read_bytes() == "é 漢\n".encode()
    assert (tmp_path / "new" / "bytes").read_bytes() == b"\x00\xff"
    assert names(tmp_path / "new") == ["bytes", "text"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "file", "x")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


def test_what_is_written_to_a_link_goes_to_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "file-link").symlink_to("target.json")
    atomic_write(tmp_path / "file-link", "x")
    with atomic_folder(tmp_path / "link") as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["file-link", "link", "target", "target.json"]
    assert names(tmp_path / "target") == ["new"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file-link").is_symlink()


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "old")
    done = run("limit_files(1000)\natomic_write(folder / 'file', 'new' * 1000)", tmp_path)
    assert done.returncode == 1
    assert "OSError" in done.stderr
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_content_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_write(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_only_what_is_ours_or_empty_may_be_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert may_replace(folder, "marker")
    folder.mkdir()
    assert may_replace(folder, "marker")
    (folder / "other").touch()
    assert not may_replace(folder, "marker")
    assert not may_replace(folder / "other", "marker")
    (folder / "marker").touch()
    assert may_replace(folder, "marker")


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    for content in ("old", "new"):
        with atomic_folder(target) as folder:
            (folder / content).write_text(content)
            if content == "new":
                assert names(target) == ["old"]
    assert names(target) == ["new"]
    assert names(target.parent) == ["run"]


def test_a_block_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "old").write_text("old")

    def fail_half_way() -> None:
        with atomic_folder(tmp_path / "run") as folder:
            (folder / "half").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


def test_a_full_disk_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "old").write_text("old")
    code = """
limit_files(1000)
with atomic_folder(folder / 'run') as new:
    (new / 'small').write_text('x')
    (new / 'large').write_text('x' * 5000)
"""
    done = run(code, tmp_path)
    assert done.returncode == 1
    assert "OSError" in done.stderr
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


def test_a_kill_leaves_the_old_folder_readable(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "old").write_text("old")
    code = """
with atomic_folder(folder / 'run') as new:
    (new / 'half').write_text('x')
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(code, tmp_path).returncode == -9
    assert (tmp_path / "run" / "old").read_text() == "old"
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "new").write_text("new")
    assert names(tmp_path / "run") == ["new"]


def test_a_kill_between_the_old_folder_and_the_new_one_loses_neither(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "old").write_text("old")
    code = """
rename = Path.rename
def killed(self, target):
    if self.name == ".run.new":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = killed
with atomic_folder(folder / 'run') as new:
    (new / 'new').write_text('x')
"""
    assert run(code, tmp_path).returncode == -9
    with locked(tmp_path / "run"):
        assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


def test_the_second_process_is_told_who_holds_a_folder_and_leaves_it_alone(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), locked(tmp_path / "run"):
        done = run("with locked(folder / 'run'): pass", tmp_path)
        assert done.returncode == 1
        assert f"ConfigError: {tmp_path / 'run'}: in use by process {os.getpid()} on " in done.stderr
        assert run("with atomic_folder(folder / 'run'): pass", tmp_path).returncode == 1
    assert run("with locked(folder / 'run'): pass", tmp_path).returncode == 0
    assert names(tmp_path) == []


def test_a_link_and_its_target_are_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with locked(tmp_path / "link"):
        assert run("with locked(folder / 'run'): pass", tmp_path).returncode == 1


def test_a_folder_whose_process_was_killed_is_free_and_its_unfinished_files_go(tmp_path: Path) -> None:
    code = """
with locked(folder / 'run'):
    (folder / 'run').mkdir()
    (folder / 'run' / '.history.jsonl.77.part').touch()
    (folder / 'run' / 'history.jsonl').touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(code, tmp_path).returncode == -9
    with locked(tmp_path / "run"):
        assert names(tmp_path / "run") == ["history.jsonl"]
    assert names(tmp_path) == ["run"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_stands_where_nothing_else_can_be_written_is_locked_inside(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    tmp_path.chmod(0o555)
    try:
        with locked(tmp_path / "run"):
            assert names(tmp_path / "run") == [".lock"]
            assert may_replace(tmp_path / "run", "marker")
    finally:
        tmp_path.chmod(0o755)
    assert names(tmp_path / "run") == []


def test_temporary_folders_of_killed_processes_are_swept_and_those_in_use_stay(tmp_path: Path) -> None:
    (tmp_path / "mkmsr-results").mkdir()
    with scratch_folder(tmp_path) as mine:
        code = """
with scratch_folder(folder) as scratch:
    (scratch / 'spill').touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
        assert run(code, tmp_path).returncode == -9
        (left,) = [each for each in tmp_path.glob("mkmsr-scratch-*") if each != mine]
        with scratch_folder(tmp_path) as second:
            assert {*tmp_path.iterdir()} == {mine, second, tmp_path / "mkmsr-results"}
    assert not left.exists()
    assert names(tmp_path) == ["mkmsr-results"]


def test_writing_needs_nothing_that_windows_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush, write, unlink = os.fsync, Path.write_text, Path.unlink

    def flush_what_is_open_for_writing(descriptor: int) -> None:
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_RDWR
        flush(descriptor)

    def refuse_for_locks(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *arguments: Any, **named: Any) -> Any:
            if path.name.endswith(".lock"):
                raise PermissionError(13, "used by another process", str(path))
            return method(path, *arguments, **named)

        return call

    monkeypatch.setattr(os, "fsync", flush_what_is_open_for_writing)
    monkeypatch.setattr(Path, "write_text", refuse_for_locks(write))
    monkeypatch.setattr(Path, "unlink", refuse_for_locks(unlink))
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "file").write_bytes(content.encode())
        assert (tmp_path / "folder" / "file").read_text() == content
