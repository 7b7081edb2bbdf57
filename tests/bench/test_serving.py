"""`mkmsr bench serving` sends what it says, and counts what comes back."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from small_shop import fitted, small_shop

from mkmsr.bench.serving import Arrivals, Load, Outcome, draw_latency
from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.cli.app import run

LIST = b'{"items":[{"item":"sku-1","rank":1,"score":1.0}],"degraded":false}'


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that gives each request the next of these answers (the last one from then on), and keeps requests."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    requests: list[bytes] = []
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection:
            while request := connection.recv(65536):
                answer = answers[min(len(requests), len(answers) - 1)]
                requests.append(request)
                connection.sendall(answer)
                if not answer:
                    return

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1], requests
    finally:
        over.set()
        thread.join()
        listener.close()


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def sent(port: int, *, keep: int = 0) -> Outcome:
    load = Load(["sku-1", "sku-2"], np.array([1.0, 0.0]), ["click"], rate=100, seconds=0.2)
    return Arrivals(port, load, keep=keep).run()


def test_every_request_that_is_due_is_sent_and_answered() -> None:
    with answering(answer(200, LIST)) as (port, requests):
        outcome = sent(port, keep=3)
    assert len(outcome.milliseconds) == len(requests) == 20
    assert outcome.errors == 0
    assert [(events[-1], listed) for events, listed in outcome.kept] == [(("sku-1", "click"), ["sku-1"])] * 3
    asked = json.loads(requests[0].partition(b"\r\n\r\n")[2])
    assert asked["consent"] is True
    assert asked["append"] == [{"item": "sku-1", "operation": "click"}]


def test_refusals_empty_lists_and_lost_connections_are_errors() -> None:
    refused, empty = answer(429, b"{}"), answer(200, b'{"items":[]}')
    with answering(refused, empty, b"", answer(200, LIST)) as (port, _):
        outcome = sent(port)
    assert outcome.errors == 3
    assert len(outcome.milliseconds) == 17


def test_answers_that_say_that_they_are_degraded_are_counted() -> None:
    with answering(answer(200, LIST.replace(b"false", b"true"))) as (port, _):
        assert sent(port).degraded == 20


@pytest.mark.slow
def test_the_service_is_measured_at_each_rate_and_its_lists_are_those_of_recommend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = small_shop()
    config, model = fitted("compass", dataset)
    bundle = save_bundle(tmp_path / "bundle", new_bundle(model, name="compass", config=config, dataset=dataset))
    figure = tmp_path / "latency.svg"
    asked = ["bench", "serving", "--bundle", str(bundle), "--rate", "20", "10", "--seconds", "1"]
    assert run([*asked, "--figure", str(figure), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [each["rate"] for each in result["curve"]] == [10, 20]
    assert result["errors"] == 0
    assert result["recall_at_20"] == 1
    assert 0 < result["p50_ms"] <= result["p90_ms"] <= result["p99_ms"]
    assert result["peak_mib"] > 50
    assert figure.read_bytes() == draw_latency(result)
