"""Compiled loops where nothing can be kept on disk."""

from __future__ import annotations

import pytest

from mkmsr.layers.fast.compiled import compiled


def test_where_no_folder_can_be_written_loops_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    from numba.core import caching

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert compiled(_twice)(4) == 8


def _twice(number: int) -> int:
    return 2 * number
