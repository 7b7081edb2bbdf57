"""`mkmsr models`, `mkmsr doctor`: what this installation offers, and what is known to go wrong with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from mkmsr.cli.console import COMMON, Common, terminal, text_table

_OPTIONAL = ("duckdb", "pyspark", "psycopg", "optuna", "matplotlib", "gensim", "scikit-learn", "onnx")
"""Libraries that only some commands need."""

_LEAST_GIB = 2.0
"""Memory, and room for temporary files, below which a log of some million events may not fit."""


def models(*, common: Common = COMMON) -> None:
    """List every model: name, one line, source."""
    from mkmsr.models.registry import MODELS

    with terminal(common) as out:
        keys = ("summary", "source", "flagship")
        out.document([{"name": name, **{key: getattr(entry, key) for key in keys}} for name, entry in MODELS.items()])
        rows = [[f"{name} (flagship)" if e.flagship else name, e.summary, e.source] for name, e in MODELS.items()]
        out.show(text_table("Models", ["name", "summary", "source"], rows, numbers_from=3))


def doctor(*, common: Common = COMMON) -> None:
    """Show versions, threads, device, memory and known problems: what to send along with a question."""
    with terminal(common) as out:
        found = _findings()
        problems = list(_problems(found))
        out.document({**found, "problems": problems})
        rows = [[name, each or "not installed"] for name, each in found["libraries"].items()]
        rows += [[name.replace("_", " "), str(each)] for name, each in found.items() if name != "libraries"]
        out.show(text_table("This installation and machine", ["what", "found"], rows, numbers_from=2))
        out.print(f"known problems: {'; '.join(problems) or 'none'}")


def _findings() -> dict[str, Any]:
    """What is there, as plain data; None is what there is not, or what the system does not tell."""
    import polars as pl
    import torch

    from mkmsr.runtime.environment import environment

    found = environment()
    installed = {each.name: each.version for each in distributions()}
    return {
        "libraries": found.pop("libraries") | {name: installed.get(name) for name in _OPTIONAL},
        **found,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "polars_threads": pl.thread_pool_size(),
        "torch_cuda": torch.version.cuda,
        "available_memory_gib": _available_memory(),
        "temporary_folder": tempfile.gettempdir(),
        "temporary_folder_free_gib": round(shutil.disk_usage(tempfile.gettempdir()).free / 2**30, 1),
    }


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
    cores, memory = found["usable_cores"], found["available_memory_gib"]
    if found["torch_cuda"] and found["accelerator"] is None:
        yield "PyTorch is built for CUDA and finds no device: look whether nvidia-smi does"
    if found["polars_threads"] > cores:
        yield f"Polars takes more threads than there are cores to use: set POLARS_MAX_THREADS={cores}"
    if (found["load"] or 0) > cores:
        yield "other processes keep all cores busy: everything takes longer than usual"
    if memory is not None and memory < _LEAST_GIB:
        yield "little memory is available: prepare --engine duckdb --memory-limit 1GB works on disk"
    if found["temporary_folder_free_gib"] < _LEAST_GIB:
        yield "little room for temporary files: set TMPDIR, or prepare --scratch FOLDER"


def _available_memory() -> float | None:
    """GiB that the system still has and the limit of the container leaves; only Linux tells."""
    system, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if not system.is_file():
        return None
    sizes = [int(line.split()[1]) << 10 for line in system.read_text().splitlines() if line.startswith("MemAvailable")]
    if (group / "memory.max").is_file() and (most := (group / "memory.max").read_text().strip()).isdecimal():
        sizes.append(int(most) - int((group / "memory.current").read_text()))
    return round(min(sizes) / 2**30, 1)
