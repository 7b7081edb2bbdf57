"""Measuring: times, this process's memory, and what they depend on besides the code: processor, threads, load."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

_LIBRARIES = ("mkmsr", "torch", "numpy", "polars", "narwhals")
_CPU_FILE = Path("/proc/cpuinfo")
_PROCESSES = Path("/proc")


def timed(action: Callable[[], object]) -> float:
    """Return the seconds of wall time that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def spread(**measured: Sequence[float]) -> dict[str, dict[str, float]]:
    """Return the smallest, median and largest of each kind of measurement."""
    return {
        name: {"min": min(values), "median": median(values), "max": max(values)} for name, values in measured.items()
    }


def peak_mib() -> float | None:
    """Return the process's largest resident memory so far, in MiB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def tree_peak_mib() -> float | None:
    """Return the same with the peaks of all processes below this one that still run, such as Spark's Java, added to it.

    Where the system does not tell (only Linux does), this process's alone.
    """
    own, below = peak_mib(), _below(str(os.getpid()))
    lines = [line for pid in below for line in _read(_PROCESSES / pid / "status").splitlines()]
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return None if own is None else own + sum(peaks) / 1024


def tree_cpu_seconds() -> float:
    """Return processor seconds so far of this process, of those it waited for, and of those below it that still run."""
    return sum(os.times()[:4]) + sum(cpu_seconds(pid) for pid in _below(str(os.getpid())))


def cpu_seconds(process: int | str) -> float:
    """Return processor seconds so far of another process; 0 where it has ended, or the system does not tell."""
    fields = _read(_PROCESSES / str(process) / "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _below(parent: str) -> list[str]:
    """Numbers of the processes that a process started, and of those that they started."""
    if not _PROCESSES.is_dir():
        return []
    children: list[str] = []
    for task in (_PROCESSES / parent / "task").glob("*/children"):
        children += _read(task).split()
    return [*children, *(each for child in children for each in _below(child))]


def _read(file: Path) -> str:
    """What the system says of a process; nothing if that has ended meanwhile."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return file.read_text()
    return ""


def environment() -> dict[str, Any]:
    """Return what to state beside a measurement, as plain data for JSON; nothing in it names the machine or its user.

    `load` is the mean number of busy processes over the last minute: where it is well above the benchmark's own
    threads, others were at work and times are too long.
    """
    import torch

    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "libraries": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
    }


def _cpu() -> str:
    """The processor's name, with the kind of vectors that PyTorch uses on it."""
    import torch

    name = platform.processor() or platform.machine()
    if _CPU_FILE.is_file():
        lines = _CPU_FILE.read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"
