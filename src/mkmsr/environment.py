"""What measurements depend on besides the code: processor, threads, versions, load; and this process's memory."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["environment", "peak_mib"]

_LIBRARIES = ("mkmsr", "torch", "numpy", "polars", "narwhals")
_CPU_FILE = Path("/proc/cpuinfo")


def peak_mib() -> float | None:
    """The process's largest resident memory so far, in MiB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def environment() -> dict[str, Any]:
    """What to state beside a measurement, as plain data for JSON; nothing in it names the machine or its user.

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
