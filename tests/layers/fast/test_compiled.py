"""Compiled loops where nothing can be kept on disk, where what is kept is damaged, and where Numba does not work."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from mkmsr.layers.fast.compiled import compiled, has_numba


def test_where_no_folder_can_be_written_loops_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    from numba.core import caching

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert compiled(_twice)(4) == 8


def test_files_that_are_damaged_or_cannot_be_written_only_cost_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytest.importorskip("numba").config, "CACHE_DIR", str(tmp_path))
    assert compiled(_twice)(4) == 8
    kept = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert kept
    for each in kept:
        each.write_bytes(b"")
    assert compiled(_twice)(5) == 10
    made = compiled(_twice)
    for each in tmp_path.iterdir():
        shutil.rmtree(each)
        each.write_bytes(b"")  # In place of the folder.
    assert made(6) == 12


def test_a_numba_that_cannot_be_imported_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.3 or less')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert not has_numba.__wrapped__()


def _twice(number: int) -> int:
    return 2 * number
