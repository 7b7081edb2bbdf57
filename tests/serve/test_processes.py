"""The program itself: workers that share a port, that die, and that end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from live import Live
from test_stores import RedisServer

from mkmsr.serve.settings import can_share_port

pytestmark = pytest.mark.slow
EVENTS = [{"item": "item-03", "operation": "click"}]


@contextmanager
def program(*arguments: object, **environment: str) -> Iterator[tuple[Live, subprocess.Popen[str]]]:
    """`mkmsr serve` as a process of its own, ready to answer."""
    command = [sys.executable, "-m", "mkmsr", "serve", *map(str, arguments), "--port", "0", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        yield Live(urlsplit(json.loads(line)["url"]).port or 0), process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def children(pid: int) -> list[int]:
    """Workers of a service, by what the system says."""
    found = []
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes():
            found.append(int(each))
    return found


def test_the_program_serves_and_ends_in_time_after_the_request_under_way(bundle: Path) -> None:
    with program(bundle) as (live, process), socket.create_connection(("127.0.0.1", live.port)) as connection:
        body = json.dumps({"events": EVENTS}).encode()
        start = f"POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        connection.sendall(start.encode() + b"content-type: application/json\r\n\r\n" + body[:5])
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        time.sleep(0.3)
        connection.sendall(body[5:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5


def test_a_wrong_start_is_one_line(bundle: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        command = [sys.executable, "-m", "mkmsr", "serve", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "--keys" in refused(bundle, "--host", "0.0.0.0")
    assert "not a bundle" in refused(tmp_path, "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "cannot listen" in refused(bundle, "--port", taken.getsockname()[1])


@pytest.mark.skipif(not can_share_port(), reason="this system cannot share a port")
class TestSeveralWorkers:
    def test_all_of_them_know_sessions_changes_and_counts(self, bundle: Path, tmp_path: Path) -> None:
        with program(bundle, "--workers", 2, "--state", tmp_path) as (live, process):
            assert len(children(process.pid)) == 2
            live.send("shared", "item-01", "item-02")
            new = {"item": "new", "attributes": {"brand": "brand-1"}}
            live.call("POST", "/v1/catalogue/items", {"items": [new]})
            for _ in range(20):
                assert len(live.call("GET", "/v1/sessions/shared").json["events"]) == 2
                assert "new" in live.recommend(events=EVENTS, k=100).items
            described = live.call("GET", "/v1/service").json
            assert (described["workers"], described["store"]) == (2, "sqlite")
            assert described["live"]["compass"]["lists"] == 20

    def test_one_that_is_killed_is_replaced_and_the_others_answer(self, bundle: Path) -> None:
        with program(bundle, "--workers", 2) as (live, process):
            live.call("POST", "/v1/catalogue/retire", {"items": ["plain"]})
            victim, failed, answered, stop = children(process.pid)[0], [], [], threading.Event()

            def ask() -> None:
                while not stop.is_set():
                    try:
                        answered.append(live.recommend(events=EVENTS).status)
                    except (OSError, http.client.HTTPException) as error:
                        failed.append(error)

            asking = [threading.Thread(target=ask) for _ in range(4)]
            for thread in asking:
                thread.start()
            time.sleep(1)
            os.kill(victim, signal.SIGKILL)
            time.sleep(2)
            stop.set()
            for thread in asking:
                thread.join()
            assert set(answered) == {200}
            assert len(failed) <= len(asking)  # what was under way
            until = time.monotonic() + 60
            while time.monotonic() < until and len(set(children(process.pid)) - {victim}) < 2:
                time.sleep(0.2)
            time.sleep(8)
            for _ in range(20):
                assert "plain" not in live.recommend(events=EVENTS, k=100).items

    def test_they_end_with_the_program_however_it_ends(self, bundle: Path) -> None:
        with program(bundle, "--workers", 2) as (_, process):
            workers = children(process.pid)
            process.kill()
            process.wait()
            until = time.monotonic() + 20
            while time.monotonic() < until and any(Path(f"/proc/{each}").exists() for each in workers):
                time.sleep(0.1)
            assert not any(Path(f"/proc/{each}").exists() for each in workers)


def test_answers_are_flagged_while_redis_is_down_and_whole_afterwards(bundle: Path, tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    secret = {"MKMSR_SESSION_SECRET": "k" * 32}
    with program(bundle, "--workers", 2, "--store", server.address, **secret) as (live, _):
        asked: dict[str, Any] = {"session": "a", "consent": True, "append": EVENTS}
        assert live.recommend(**asked).json["degraded"] is False
        statuses: list[tuple[int, bool]] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answer = live.recommend(**asked)
                statuses.append((answer.status, answer.json["degraded"]))

        asking = threading.Thread(target=ask)
        asking.start()
        server.kill()
        time.sleep(1.5)
        server.start()
        time.sleep(2.5)
        stop.set()
        asking.join()
        assert {status for status, _ in statuses} == {200}
        assert {degraded for _, degraded in statuses} == {True, False}
        assert live.recommend(**asked).json["degraded"] is False
    server.kill()
