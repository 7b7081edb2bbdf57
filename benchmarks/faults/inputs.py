"""Feeds changed inputs to every surface: each must be read, or refused by an `MkmsrError` (the service: by 4xx).

    python benchmarks/faults/inputs.py --out runs/faults [--only bundle TOML] [--share 0.01]

Each surface has a process of its own, with a limit of memory, and of processor time for each input. Inputs that reach
new lines of the program are changed further. The same call goes on where an earlier one ended; the counts go to
OUT/inputs.json, and the first input that found a fault to OUT/found.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

import msgspec

SECONDS = 5
"""Processor time that an input may take; by the clock six times as much, since the machine may be busy."""
MEMORY = 2 << 30
"""Address space beyond what the process has after its first inputs."""
MOST_KEPT, MOST_SEEDS = 400, 20
SAVE_EVERY = 500
LARGEST_KEPT = 100_000
ALL_TRACED = 1000
"""Inputs without a new line after which only every fourth is traced, since tracing takes half as long as reading."""

Input = dict[str, bytes]


class Hang(Exception):
    """An input took longer than it may."""


def main() -> None:
    """Run the surfaces one after the other, starting a process again that an input has ended."""
    from surfaces import INPUTS

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(INPUTS), choices=list(INPUTS))
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.out, round(INPUTS[options.work] * options.share))
        os._exit(0)  # Threads of a service would go on.
    for name in options.only:
        call = [sys.executable, __file__, "--out", options.out, "--share", str(options.share), "--work", name]
        while code := subprocess.run(call, check=False).returncode:
            if not State(options.out, name).note_death(code):
                sys.exit(f"{name}: the process ended with {code} between two inputs")
        print(name, json.dumps(State(options.out, name).counts), flush=True)
    found = {name: State(options.out, name).counts for name in INPUTS}
    (options.out / "inputs.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


class State:
    """What is known of a surface so far; kept in files between processes."""

    def __init__(self, out: Path, name: str):
        self.name, self.out, self.file = name, out, out / f"{name}.json"
        self.current = out / f"{name}.current"
        out.mkdir(parents=True, exist_ok=True)
        self.corpus: list[Input] = []
        self.counts: dict[str, Any] = {"inputs": 0, "read": 0, "refused": 0, "faults": {}, "lines": 0}
        self.counts |= {"last_new_line_at": 0, "seconds": 0.0, "peak_mib": 0}
        if self.file.is_file():
            self.counts = json.loads(self.file.read_text("utf-8"))
        if self.file.with_suffix(".corpus").is_file():
            self.corpus = msgspec.msgpack.decode(self.file.with_suffix(".corpus").read_bytes())

    def save(self) -> None:
        """Write counts and kept inputs."""
        self.file.with_suffix(".corpus").write_bytes(msgspec.msgpack.encode(self.corpus))
        self.file.write_text(json.dumps(self.counts, indent=1), "utf-8")

    def note(self, fault: str, given: Input) -> None:
        """Count a fault, and keep the first input that found it."""
        faults = self.counts["faults"]
        faults[fault] = faults.get(fault, 0) + 1
        folder = self.out / "found" / f"{self.name} {hashlib.sha256(fault.encode()).hexdigest()[:8]}"
        if not folder.exists():
            folder.mkdir(parents=True)
            for each, content in {**given, "FAULT": fault.encode()}.items():
                (folder / each).write_bytes(content)

    def note_death(self, code: int) -> bool:
        """Count an input that ended its process; return whether there was one."""
        if not self.current.is_file():
            return False
        self.note(f"the process ended with {code}", msgspec.msgpack.decode(self.current.read_bytes(), type=Input))
        self.current.unlink()
        self.counts["inputs"] += 1
        self.save()
        return True


def work(name: str, out: Path, target: int) -> None:
    """Change and read inputs until there were enough."""
    import torch
    from coverage import Coverage
    from surfaces import surface_of

    torch.set_num_threads(1)
    os.fsync = lambda _: None  # type: ignore[assignment]
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mkmsr-faults-", dir=shared) as home:
        tempfile.tempdir = home
        surface, state, place = surface_of(name, Path(home)), State(out, name), Path(home) / "input"
        state.corpus = state.corpus or surface.seeds()
        for given in state.corpus[:5]:
            outcome_of(surface.read, place, given)
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        lines = Coverage(data_file=None, source_pkgs=["mkmsr"], config_file=False)
        lines.start()
        tracer = sys.gettrace()
        covered, counts, began = 0, state.counts, time.process_time()
        while counts["inputs"] < target:
            chance = Random(f"{name} {counts['inputs']}")
            given = surface.change(chance.choice(state.corpus), chance)
            state.current.write_bytes(msgspec.msgpack.encode(given))
            since = counts["inputs"] - counts["last_new_line_at"]
            sys.settrace(tracer if since < ALL_TRACED or since % 4 == 0 else None)
            outcome = outcome_of(surface.read, place, given)
            sys.settrace(None)
            state.current.unlink()
            counts["inputs"] += 1
            if outcome in ("read", "refused"):
                counts[outcome] += 1
            else:
                state.note(outcome, given)
            # What `get_data` would copy, far too slowly for every input.
            now = sum(map(len, lines._collector.data.values()))  # type: ignore[union-attr]
            if now > covered and sum(map(len, given.values())) < LARGEST_KEPT:
                state.corpus.append(given)
                if len(state.corpus) > MOST_KEPT:
                    del state.corpus[chance.randrange(MOST_SEEDS, MOST_KEPT)]
            if now > max(covered, counts["lines"]):
                counts["last_new_line_at"] = counts["inputs"]
            covered = now
            counts["lines"] = max(now, counts["lines"])
            if counts["inputs"] % SAVE_EVERY == 0 or counts["inputs"] == target:
                counts["seconds"] = round(counts["seconds"] + time.process_time() - began, 1)
                began = time.process_time()
                counts["peak_mib"] = max(counts["peak_mib"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
                state.save()


def outcome_of(read: Any, place: Path, given: Input) -> str:
    """Return "read", "refused", or what is wrong with how an input was treated: kind and place of the error."""
    from mkmsr.errors import MkmsrError

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in given.items():
        (place / name).write_bytes(content)
    for each in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(each, _hang)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
    faulthandler.dump_traceback_later(12 * SECONDS, exit=True)  # where no Python runs that a signal could end
    try:
        read(place, given)
    except MkmsrError:
        return "refused"
    except Hang:
        return f"longer than {SECONDS} s"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # A panic of Polars is no Exception.
        own = [each for each in traceback.extract_tb(error.__traceback__) if "mkmsr" in each.filename]
        where = f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}" if own else f"no file of ours: {error}"
        return f"{type(error).__name__} at {where:.200}"
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        faulthandler.cancel_dump_traceback_later()
    return "read"


def _hang(*_: object) -> None:
    raise Hang


if __name__ == "__main__":
    main()
