"""Memory and processor time of a process and of what it started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mkmsr.runtime.environment import peak_mib, tree_cpu_seconds, tree_peak_mib

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux tells it of other processes")

WORK = "import time; x = bytearray(60 << 20)\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
"""Takes 60 MiB and 0.3 s of processor time, however fast the processor is, and waits."""


@pytest.fixture
def child() -> Iterator[None]:
    """A process below this one that has taken 60 MiB and some time, and waits."""
    with subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


def test_memory_counts_the_processes_below(child: None) -> None:
    alone, together = peak_mib(), tree_peak_mib()
    assert alone is not None
    assert together is not None
    assert together > alone + 60


def test_a_process_that_ends_while_it_is_looked_at_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = tmp_path / str(os.getpid()) / "task" / "1" / "children"
    children.parent.mkdir(parents=True)
    children.write_text("12 34 ")  # Nothing else is left of them.
    monkeypatch.setattr("mkmsr.runtime.environment._PROCESSES", tmp_path)
    assert tree_peak_mib() == pytest.approx(peak_mib(), abs=1)
    assert tree_cpu_seconds() > 0


def test_time_counts_the_processes_below() -> None:
    before = tree_cpu_seconds()
    with subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert tree_cpu_seconds() >= before + 0.2
        process.kill()
