"""What `mkmsr doctor` finds on this machine, and what it would say of a worse one."""

from __future__ import annotations

import json
import platform

import pytest
import torch

from mkmsr.cli.app import run
from mkmsr.cli.installation import _problems

HEALTHY = {
    "usable_cores": 4,
    "polars_threads": 4,
    "torch_cuda": None,
    "accelerator": None,
    "load": 0.5,
    "available_memory_gib": 8.0,
    "temporary_folder_free_gib": 50.0,
}


def test_it_tells_versions_threads_device_memory_and_problems(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["libraries"]["python"] == platform.python_version()
    assert found["libraries"]["torch"] == torch.__version__
    assert {*HEALTHY, "cpu", "torch_threads", "problems"} <= found.keys()
    assert found["usable_cores"] >= 1


def test_people_get_the_same_as_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    shown = capfd.readouterr().out
    for words in ("polars", "available memory gib", "temporary folder", "problem"):
        assert words in shown


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("torch_cuda", "12.8", "finds no device"),
        ("polars_threads", 64, "POLARS_MAX_THREADS=4"),
        ("load", 9.0, "keep all cores busy"),
        ("available_memory_gib", 0.5, "little memory"),
        ("temporary_folder_free_gib", 0.1, "TMPDIR"),
    ],
)
def test_each_known_problem_is_named_with_what_helps(name: str, value: object, words: str) -> None:
    assert list(_problems(HEALTHY)) == []
    (said,) = _problems({**HEALTHY, name: value})
    assert words in said
