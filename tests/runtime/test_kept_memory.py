"""Memory that a step frees stays in the process."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import resource, sys, torch
from mkmsr.runtime.compute import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        first, second = torch.ones(1_500_000), torch.ones(1_200_000)
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults()
print(faults())
"""


def _faults(mode: str) -> int:
    found = subprocess.run([sys.executable, "-c", _SCRIPT, mode], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_arrays_of_a_step_are_fetched_from_the_system_once() -> None:
    assert _faults("keep") < 100


_PAGES = """
import re, torch
from mkmsr.runtime.compute import keep_freed_memory

keep_freed_memory()
array = torch.ones(4_000_000)
inside = False
for line in open("/proc/self/smaps"):
    if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
        inside = int(found[1], 16) <= array.data_ptr() + 8_000_000 < int(found[2], 16)
    elif inside and line.startswith("VmFlags:"):
        print("hg" in line.split())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="a setting of glibc and Linux",
)
def test_arrays_of_a_step_are_asked_for_in_large_pages() -> None:
    found = subprocess.run([sys.executable, "-c", _PAGES], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True"]
