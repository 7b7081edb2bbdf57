"""Bundles and a service that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from live import Live, running, write_bundle

from mkmsr.serve.settings import Settings


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "compass")


@pytest.fixture(scope="session")
def narm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "narm", "narm")


@pytest.fixture(scope="module")
def live(bundle: Path) -> Iterator[Live]:
    with running(Settings(bundle=bundle, patience=30)) as service:
        yield service
