"""Tasks in processes: results and messages come back, failures stay alone, and nothing outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mkmsr.errors import TrainingError
from mkmsr.runtime.files import scratch_folder
from mkmsr.runtime.workers import Line, Task, TaskEvent, run_tasks


def work(line: Line, what: str, value: Any = None) -> Any:
    """A task that does as it is told."""
    if what == "square":
        line.send("squaring")
        print("a word on standard output")  # noqa: T201
        return value**2
    if what == "ask":
        return [line.ask(number) for number in range(value)]
    if what == "refuse":
        raise TrainingError("the loss is not finite", epoch=3)
    if what == "break":
        raise ZeroDivisionError("an unexpected error")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "threads":
        import torch

        return torch.get_num_threads()
    if what == "beat":  # until somebody stops it
        while True:
            Path(value).write_text(str(time.time()), encoding="utf-8")
            time.sleep(0.05)
    raise AssertionError(what)


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Task]:
    return lambda what, value=None: Task(f"{what} {value}", work, (what, value), tmp_path / "logs" / f"{what}.log")


def outcome(events: list[TaskEvent], name: str) -> tuple[str, Any]:
    (last,) = [each for each in events if each.task.name == name and each.kind in ("done", "failed")]
    return last.kind, last.content


def test_results_and_messages_come_back_and_output_goes_to_the_log(
    task: Callable[..., Task], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    events = list(run_tasks([task("square", 7), task("square", 9), task("threads")], workers=2))
    assert [outcome(events, f"square {n}") for n in (7, 9)] == [("done", 49), ("done", 81)]
    assert outcome(events, "threads None") == ("done", 1)
    assert [each.content for each in events if each.kind == "sent"] == ["squaring"] * 2
    assert (tmp_path / "logs" / "square.log").read_text(encoding="utf-8").count("a word on standard output") == 2
    assert capfd.readouterr().out == ""


def test_a_failing_task_is_reported_with_its_reason_and_the_rest_go_on(task: Callable[..., Task]) -> None:
    events = list(run_tasks([task("refuse"), task("die"), task("break"), task("square", 3)], workers=2))
    assert outcome(events, "refuse None") == ("failed", "epoch 3: the loss is not finite")
    assert outcome(events, "die None") == ("failed", "killed by SIGKILL, perhaps for want of memory")
    kind, reason = outcome(events, "break None")
    assert kind == "failed"
    assert reason.startswith("ZeroDivisionError: an unexpected error (see ")
    assert outcome(events, "square 3") == ("done", 9)


def test_a_task_can_ask_and_wait_for_the_answer(task: Callable[..., Task]) -> None:
    events = []
    for event in run_tasks([task("ask", 3)], workers=1):
        events.append(event)
        if event.kind == "asked":
            event.answer(event.content + 10)
    assert outcome(events, "ask 3") == ("done", [10, 11, 12])


def test_the_next_task_is_chosen_after_the_results_before_it(task: Callable[..., Task]) -> None:
    found: list[int] = []

    def doubling() -> Any:
        yield task("square", 2)
        while len(found) < 3:
            yield task("square", found[-1])

    for event in run_tasks(doubling(), workers=1):
        if event.kind == "done":
            found.append(event.content)
    assert found == [4, 16, 256]


def stopped(beat: Path, within: float = 10) -> bool:
    """Whether a file is no longer written."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        before = beat.read_text(encoding="utf-8")
        time.sleep(0.5)
        if beat.read_text(encoding="utf-8") == before:
            return True
    return False


def test_leaving_early_stops_the_running_tasks(task: Callable[..., Task], tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    events = run_tasks([task("beat", beat)], workers=1)
    assert next(events).kind == "started"
    while not beat.exists():
        time.sleep(0.05)
    events.close()  # type: ignore[attr-defined]
    assert stopped(beat)


STARTER = """
import sys
from multiprocessing import forkserver
from pathlib import Path
from tests.runtime.test_workers import work
from mkmsr.runtime.workers import Task, run_tasks
folder = Path(sys.argv[1])
for event in run_tasks([Task("beat", work, ("beat", str(folder / "beat")), folder / "log")], workers=1):
    print(forkserver._forkserver._forkserver_pid, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while the server imports", "while a task runs"])
def test_tasks_and_their_server_end_when_the_process_that_started_them_is_killed(tmp_path: Path, moment: str) -> None:
    beat = tmp_path / "beat"
    root = Path(__file__).parents[2]
    (tmp_path / "tmp").mkdir()
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, tmp_path],
        cwd=root,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    server = int(starter.stdout.readline())
    if moment == "while a task runs":
        while not (beat.exists() and beat.read_text(encoding="utf-8")):
            assert starter.poll() is None
            time.sleep(0.05)
    starter.kill()
    starter.communicate()
    end = time.monotonic() + 10
    while is_running(server):
        assert time.monotonic() < end, "the server outlives its parent"
        time.sleep(0.05)
    assert not beat.exists() or stopped(beat)
    with scratch_folder(tmp_path / "tmp") as new:
        left = [each for each in (tmp_path / "tmp").iterdir() if each.name.startswith(("pymp-", "mkmsr-"))]
        assert left == [new], "the socket of a killed run is swept by the next one"


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the server ends when it has imported everything")
@pytest.mark.parametrize("is_parent_there", [True, False])
def test_a_server_whose_parent_is_killed_before_it_watches_it_ends_at_once(is_parent_there: bool) -> None:
    code = "import mkmsr.runtime.end_with_parent; print('on') # multiprocessing.forkserver"
    parent = os.getpid() if is_parent_there else os.getppid()
    env = {**os.environ, "MKMSR_FORK_SERVER_PARENT": str(parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert (done.stdout == b"on\n") == is_parent_there, done.stderr
