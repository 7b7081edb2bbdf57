"""Ends commands at random moments: by SIGKILL, by SIGTERM, by a disk that takes no more. Nothing whole may be lost.

    python benchmarks/faults/kills.py --out runs/faults [--only prepare serve] [--ends 36]

After each end every file under its final name must be readable, data and bundles must load, and no process may be
left. The next run must end well, leave nothing behind, and write the bits of a run that nobody disturbed. This process
imports everything once and forks runs and checks; it uses no Polars itself, whose threads a fork lacks. The same call
goes on where an earlier one ended; the counts go to OUT/kills.json.
"""

from __future__ import annotations

import argparse
import atexit
import http.client
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import matplotlib.figure  # noqa: F401  # Importing these three takes most of a small run; forks have them.
import optuna.storages  # noqa: F401
import polars as pl
import torch
import torch._dynamo
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from small_shop import fitted, small_shop

from mkmsr.bundle.model_bundle import load_bundle, new_bundle, save_bundle
from mkmsr.cli.app import run
from mkmsr.data.dataset import PreparedDataset

ENDS = ("SIGKILL", "SIGTERM", "full disk")
DISK_BYTES = (0, 100, 1000, 4000, 10_000, 40_000)
"""Sizes beyond which no file can grow where the disk is full."""
SERVICE_DISK_BYTES = (20_000, 60_000, 200_000)
PATIENCE, MOST_SECONDS = 60, 600
"""Seconds after which a run that was ended must be over, and one that was not."""


@dataclass(frozen=True)
class Job:
    """A command that is disturbed: its arguments (OUT is its folder), those of the next run, what may stand at OUT.

    Files with the endings `timed` say how long runs took, and may differ.
    """

    call: Sequence[str]
    again: Sequence[str] = ()
    old: Path | None = None
    timed: tuple[str, ...] = ()


class Run:
    """A run in a process of its own, the first of its session."""

    def __init__(self, work: Sequence[str] | Callable[[], int], most_bytes: int | None = None):
        sys.stdout.flush()
        self.status: int | None = None
        self._heard = b""
        self._pipe, output = os.pipe()  # A full disk does not stop it, as it would a file.
        os.set_blocking(self._pipe, False)
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                os.setsid()
                os.dup2(output, 1)
                os.dup2(output, 2)
                # The old ones may take the pipe for a file.
                sys.stdout, sys.stderr = (os.fdopen(each, "w", closefd=False) for each in (1, 2))
                if most_bytes is not None:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
                code = work() if callable(work) else run(list(work))
                atexit._run_exitfuncs()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        os.close(output)

    def wait(self, seconds: float) -> bool:
        """Return whether the run ends in this time."""
        until = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                return False
            else:
                time.sleep(0.005)
        return True

    def said(self) -> str:
        """Return what it wrote so far."""
        with suppress(BlockingIOError):
            while part := os.read(self._pipe, 1 << 16):
                self._heard += part
        return self._heard.decode("utf-8", "replace")

    def faults(self, how: str) -> list[str]:
        """Return what is wrong with how it ended: too late, with a traceback, a strange status, processes left."""
        found = [] if self.wait(PATIENCE) else [f"still there {PATIENCE} s after {how}"]
        if "Traceback" in self.said() or self.status == 99:
            found.append(f"a traceback after {how}: {self.said()[-1500:]}")
        if how == "full disk" and self.status not in (0, 1):
            found.append(f"status {self.status} where the disk is full: {self.said()[-300:]}")
        until = time.monotonic() + PATIENCE / 3
        while (left := _session(self.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        if left:
            found.append(f"{len(left)} processes outlive it")
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self._pipe)
        return found


def main() -> None:
    """Disturb every command so many times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="commands")
    parser.add_argument("--ends", type=int, default=36, help="of each command; a run that was over before is none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # type: ignore[assignment]  # A kill loses nothing that the system holds, and it is slow.
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "kills.json"
    counts: dict[str, Any] = json.loads(results.read_text("utf-8")) if results.is_file() else {}
    place = options.out.absolute() / "kills"
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    os.environ["TMPDIR"] = str(place / "tmp")
    made = Run(lambda: make_inputs(place))
    if not made.wait(PATIENCE) or made.status != 0:
        sys.exit(made.said())
    jobs = jobs_in(place)
    for name in options.only or [*jobs, "serve"]:
        found = counts.setdefault(
            name, {"attempts": 0, "ended": dict.fromkeys(ENDS, 0), "over before": 0, "faults": []}
        )
        if sum(found["ended"].values()) >= options.ends:
            continue
        disturb = serve_attempts(place) if name == "serve" else job_attempts(name, jobs[name], place)
        while sum(found["ended"].values()) < options.ends:
            number = found["attempts"]
            how = min(ENDS, key=found["ended"].__getitem__)
            was_over, faults = disturb(how, Random(f"{name} {number}"))
            found["attempts"] += 1
            if was_over:
                found["over before"] += 1
            else:
                found["ended"][how] += 1
            found["faults"] += [f"{number}, {how}: {each}" for each in faults]
            results.write_text(json.dumps(counts, indent=1) + "\n", "utf-8")
        print(name, json.dumps(found), flush=True)


def make_inputs(place: Path) -> int:
    """Write what the commands need."""
    data = small_shop(sessions=60)
    data.save(place / "data")
    small_shop(sessions=40).save(place / "old")
    config, model = fitted("pop", data)
    save_bundle(place / "bundle", new_bundle(model, name="pop", config=config, dataset=data, metrics={}))
    rows = [(f"s{n // 5:05d}", f"item-{n * 7 % 30:02d}", "click", 1_700_000_000 + 60 * n) for n in range(20_000)]
    events = pl.DataFrame(rows, ["session", "item", "operation", "time"], orient="row")
    events.write_csv(place / "events.csv")
    events.write_parquet(place / "events.parquet")
    return 0


def jobs_in(place: Path) -> dict[str, Job]:
    """Return the commands that are disturbed, but for the service."""
    data, out = str(place / "data"), ["--out", "OUT"]
    small = ["--set", "model.dim=4", "training.batch_size=32", "training.epochs=3"]
    lists = ["recommend", str(place / "bundle"), "--sessions", str(place / "events.parquet"), "--shard-sessions", "200"]
    table = ["reproduce", "table2", data, "--models", "recency,v-sknn", "--seeds", "1", "--settings", str(place)]
    return {
        "prepare": Job(["prepare", "events", str(place / "events.csv"), *out], old=place / "old"),
        "train": Job(["train", data, "--model", "narm", *out, *small], ["--resume"], timed=(".html",)),
        "tune": Job(["tune", data, "--model", "v-sknn", "--trials", "3", *out]),
        "bulk": Job([*lists, *out], ["--resume"]),
        "reproduce": Job([*table, *out], timed=(".md", ".html", ".tex")),
    }


Attempt = Callable[[str, Random], tuple[bool, list[str]]]
"""Disturbs a command once: returns whether it was over before, and what is wrong afterwards."""


def job_attempts(name: str, job: Job, place: Path) -> Attempt:
    """Return what disturbs a job."""
    out = place / name / "out"
    first, again = ([str(out) if each == "OUT" else each for each in (*job.call, *more)] for more in ((), job.again))

    def fresh(old: Path | None = None) -> None:
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        if old is not None:
            shutil.copytree(old, out)

    undisturbed, seconds = [], []
    for _ in range(2):
        fresh()
        began, whole = time.monotonic(), Run(first)
        if not whole.wait(MOST_SECONDS) or whole.status != 0:
            sys.exit(f"{name} ends with {whole.status} undisturbed: {whole.said()}")
        seconds.append(time.monotonic() - began)
        undisturbed.append(_digests(out))
    same = {file: digest for file, digest in undisturbed[0].items() if undisturbed[1].get(file) == digest}
    same = {file: digest for file, digest in same.items() if not file.endswith(job.timed)}
    print(f"{name}: {min(seconds):.1f} s undisturbed; {len(same)} of {len(undisturbed[0])} files always the same")

    def attempt(how: str, chance: Random) -> tuple[bool, list[str]]:
        fresh(job.old if chance.random() < 0.5 else None)
        disturbed = Run(first, chance.choice(DISK_BYTES) if how == "full disk" else None)
        if how == "full disk":
            disturbed.wait(MOST_SECONDS)
        elif not disturbed.wait(chance.uniform(0, 1.1) * min(seconds)):
            os.kill(disturbed.pid, getattr(signal, how))
        faults = disturbed.faults(how) + _unreadable(out)
        next_run = Run(again)
        if not next_run.wait(MOST_SECONDS) or next_run.status != 0:
            return False, [*faults, f"the next run ended with {next_run.status}: {next_run.said()[-300:]}"]
        faults += next_run.faults("a whole run") + _unreadable(out)
        found = _digests(out)
        faults += [f"other bits after the next run: {file}" for file in same if found.get(file) != same[file]]
        return disturbed.status == 0, faults + _leftovers(out.parent, place / "tmp")

    return attempt


def serve_attempts(place: Path) -> Attempt:
    """Return what ends a service while visitors act: what was confirmed must be there after the next start."""
    folder = place / "serve"
    call = [
        "serve",
        str(place / "bundle"),
        "--port",
        "0",
        "--json",
        "--store",
        "sqlite",
        "--state",
        str(folder / "state"),
    ]

    def started(most_bytes: int | None = None) -> tuple[Run, int]:
        service = Run(call, most_bytes)
        while not service.wait(0.02) and '"url"' not in service.said():
            pass
        told = [line for line in service.said().splitlines() if line.startswith("{")]
        return service, (urlsplit(json.loads(told[0])["url"]).port or 0) if told else 0

    def attempt(how: str, chance: Random) -> tuple[bool, list[str]]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        service, port = started(chance.choice(SERVICE_DISK_BYTES) if how == "full disk" else None)
        confirmed, is_refused = 0, not port
        until = time.monotonic() + (PATIENCE if how == "full disk" else chance.uniform(0, 1))
        while not is_refused and time.monotonic() < until:
            is_refused = not _visit(port, confirmed)
            confirmed += not is_refused
        if port:
            os.kill(service.pid, signal.SIGKILL if how == "SIGKILL" else signal.SIGTERM)
        faults = service.faults(how) + _unreadable(folder)
        service, port = started()
        if not port:
            return False, [*faults, f"it does not start again: {service.said()[-300:]}"]
        lost = [number for number in range(confirmed) if not _remembers(port, number)]
        faults += [f"{len(lost)} of {confirmed} confirmed events are lost"] if lost else []
        os.kill(service.pid, signal.SIGTERM)
        faults += service.faults("SIGTERM") + _leftovers(folder, place / "tmp")
        return how == "full disk" and not is_refused, faults

    return attempt


def _visit(port: int, number: int) -> bool:
    """Send the first event of a session; return whether it was confirmed."""
    event = {"session": f"v{number}", "consent": True, "events": [{"item": "item-03", "operation": "click"}]}
    return _call(port, "POST", "/v1/events", json.dumps(event))[0] == 200


def _remembers(port: int, number: int) -> bool:
    status, text = _call(port, "GET", f"/v1/sessions/v{number}", None)
    return status == 200 and len(json.loads(text)["events"]) == 1


def _call(port: int, method: str, path: str, body: str | None) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""


def _unreadable(out: Path) -> list[str]:
    """Return what under final names cannot be read, as a process of its own finds."""

    def look() -> int:
        for path in sorted([out, *out.rglob("*")]):
            if not any(each.startswith(".") for each in path.relative_to(out).parts):
                try:
                    _open(path)
                except Exception as error:
                    print(f"{path.name} cannot be read: {type(error).__name__}: {str(error)[:200]!r}")
        return 0

    looked = Run(look)
    looked.wait(PATIENCE)
    return looked.said().splitlines() + looked.faults("a check")


def _open(path: Path) -> None:
    """Read a file to its end by what it is, prepared data and bundles as a whole."""
    if (path / "dataset.json").exists():
        PreparedDataset.load(path)
    elif (path / "bundle.json").exists() or path.name == "bundle":
        load_bundle(path)
    elif path.suffix == ".json":
        json.loads(path.read_text("utf-8"))
    elif path.suffix == ".toml":
        tomllib.loads(path.read_text("utf-8"))
    elif path.suffix == ".parquet":
        pl.read_parquet(path)
    elif path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix in (".sqlite3", ".sqlite"):
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise ValueError(found)


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def _leftovers(*folders: Path) -> list[str]:
    """Temporary files and folders that a run should have removed, its own or those of one before."""
    found = [path.name for folder in folders for path in folder.rglob("*")]
    return [f"left behind: {name}" for name in found if name.startswith((".", "mkmsr-", "pymp-"))]


def _session(leader: int) -> list[str]:
    """The processes of a session that are not over."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            state, _, _, session = path.read_text("ascii", "replace").rpartition(")")[2].split()[:4]
            found += [path.parent.name] if int(session) == leader and state not in "ZX" else []
    return found


if __name__ == "__main__":
    main()
