"""Hostile and clumsy clients, over a real socket: each gets a clear answer, and the service goes on."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from live import Live, running

from mkmsr.errors import ConfigError, ServiceError
from mkmsr.serve import endpoint, worker
from mkmsr.serve.access import Access, Key, read_keys
from mkmsr.serve.endpoint import Problem
from mkmsr.serve.settings import Settings, check

SECRET, PUBLIC = "secret-" + "s" * 30, "public-" + "p" * 30


def works(live: Live) -> bool:
    return len(live.recommend(events=[{"item": "item-03"}]).items) == 20


def head(path: str, **headers: Any) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"[" * 200_000, 422, "Expected"),
        (b'{"events":' + b"[" * 200_000, 422, "Expected"),
        (b'{"nothing":' + b"[" * 200_000, 422, "nothing"),
        (b'{"events":[],"k":NaN}', 400, "JSON"),
        (b'{"events":[],"k":1e999}', 422, "k"),
        (b'{"events":[],"k":' + b"9" * 5000 + b"}", 422, "k"),
        (b'{"events":[],"k":"20"}', 422, "k"),
        (b'{"events":[],"k":0}', 422, "k"),
        (b'{"events":{"item":"a"}}', 422, "events"),
        (b'{"events":["a"]}', 422, "events"),
        (b'{"events":[{"item":""}]}', 422, "item"),
        (b'{"events":[{"item":"' + b"x" * 300 + b'"}]}', 422, "item"),
        (b'{"events":[{"item":"a","time":-1}]}', 422, "time"),
        (b'{"evnets":[]}', 422, "evnets"),
        (b'{"events":[{"item":"\\ud800"}]}', 400, "JSON"),
        (b'{"events":[]', 400, "JSON"),
        (b"\xff\xfe", 400, "JSON"),
        (b"", 400, "JSON"),
        (b"{}", 422, "session"),
    ],
)
def test_a_wrong_body_is_refused_in_one_sentence(live: Live, body: bytes, status: int, word: str) -> None:
    answer = live.call("POST", "/v1/recommendations", body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in answer.json["detail"]
    assert len(answer.json["detail"]) < 600


@pytest.mark.parametrize("value", [b"9" * 5000, b"-1e400", b"NaN", b"true", b"null", b"[[1]]", b'{"a":1}'])
def test_a_fact_that_is_no_value_is_refused(live: Live, value: bytes) -> None:
    body = b'{"facts":{"price":{"plain":' + value + b"}}}"
    assert live.call("PUT", "/v1/catalogue/facts", body).status in (400, 422)


def test_what_is_unknown_is_skipped_or_named(live: Live) -> None:
    found = live.recommend(events=[{"item": "nowhere", "operation": "x"}, {"item": "plain", "operation": "dance"}]).json
    assert (found["skipped"], found["replaced"]) == (1, 1)
    for asked in ({"where": ["size=1"]}, {"where": ["colour"]}, {"at_most": {"size": 1}}, {"exclude_operations": ["x"]},
                  {"operation": "dance"}, {"model": "nobody"}):  # fmt: skip
        assert live.recommend(events=[], **asked).status == 422


def test_an_oversized_body_is_refused_before_it_is_read(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_FORGET_SECONDS", 0.1)
    answer = live.raw(head("/v1/events", content_length=10**9))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    chunks = head("/v1/events", transfer_encoding="chunked") + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 8
    assert live.raw(chunks).startswith(b"HTTP/1.1 413")
    assert works(live)


def test_a_session_of_a_million_events_is_refused_at_once_and_kept_short_in_parts(live: Live) -> None:
    event = b'{"item":"item-01"}'
    body = b'{"session":"m","consent":true,"events":[' + event + (b"," + event) * 10**6 + b"]}"
    began = time.monotonic()
    assert live.call("POST", "/v1/events", body).status == 413
    assert time.monotonic() - began < 5
    assert live.send("m", *[{"item": "item-01"}] * 1001).status == 422
    for _ in range(20):
        live.send("m", *[{"item": "item-01"}] * 1000)
    assert len(live.call("GET", "/v1/sessions/m").json["events"]) == 100


def test_a_slow_body_is_given_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_BODY_SECONDS", 0.3)
    assert live.raw(head("/v1/events", content_length=100) + b"{").startswith(b"HTTP/1.1 408")
    assert works(live)


def test_a_head_that_never_ends_is_given_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_HEAD_SECONDS", 0.3)
    began = time.monotonic()
    assert live.raw(b"GET / HTTP/1.1\r\nhost: 127") == b""
    assert time.monotonic() - began < 5
    monkeypatch.setattr(worker, "_HEAD_SECONDS", 30)
    assert live.raw(b"GET / HTTP/1.1\r\nx: " + b"a" * 300_000) == b""
    assert works(live)


def test_a_request_that_is_no_http_is_refused(live: Live) -> None:
    assert live.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10).startswith(b"HTTP/1.1 400")
    assert works(live)


@pytest.mark.parametrize("count", [200, pytest.param(3000, marks=pytest.mark.slow)])
def test_idle_connections_do_not_keep_others_out(live: Live, count: int) -> None:
    idle = []
    try:
        for _ in range(count):
            idle.append(socket.create_connection(("127.0.0.1", live.port), timeout=10))
        assert works(live)
    finally:
        for each in idle:
            each.close()


def test_aborted_requests_do_no_harm(live: Live) -> None:
    body = b'{"events":[{"item":"item-03"}]}'
    for end in (0, 10, len(body)):
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", live.port)) as connection:
                connection.sendall(head("/v1/recommendations", content_length=len(body)) + body[:end])
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert works(live)


@pytest.mark.parametrize(
    "path",
    ["/page/../worker.py", "/page/..%2fworker.py", "/page/%2e%2e/worker.py", "/page/", "/page/%00", "/../../etc/passwd",
     "//etc/passwd", "/page/index.html/..", "/v1/../v1/service", "/v1/sessions/", "/v1/sessions/" + "x" * 300],
)  # fmt: skip
def test_tricks_with_paths_find_nothing(live: Live, path: str) -> None:
    answer = live.call("GET", path)
    assert answer.status == 404
    assert "import" not in answer.text


def test_wrong_methods_media_and_parameters_are_refused(live: Live) -> None:
    assert live.call("DELETE", "/v1/service").status == 405
    assert live.call("POST", "/v1/events", b"{}", headers={"content-type": "text/plain"}).status == 415
    assert live.call("POST", "/v1/events", b"{}", headers={"content-encoding": "gzip"}).status == 415
    for query in ("limit=0", "limit=-1", "limit=1e3", "limit=" + "9" * 5000, "offset=x", "lmit=3", "relation=colour",
                  "&".join(["a=1"] * 100)):  # fmt: skip
        assert live.call("GET", f"/v1/items?{query}").status == 422


def test_every_answer_has_strict_headers(live: Live) -> None:
    for answer in (live.call("GET", "/v1/service"), live.call("GET", "/nothing"), live.recommend()):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_ids_with_escapes_come_back_as_data_and_stand_in_no_log(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    evil = "\x1b[31m<script>alert(1)</script>\r\nset-cookie: a=b"
    with caplog.at_level(logging.DEBUG):
        answer = live.send(evil, {"item": evil, "operation": evil})
        assert answer.status == 200
        live.recommend(events=[{"item": evil}], where=[f"{evil}=1"])
        live.recommend(events=[], model=evil)
        live.call("POST", "/v1/catalogue/retire", {"items": [evil]})
    assert "set-cookie" not in answer.headers
    assert "script" not in caplog.text
    assert "\x1b" not in caplog.text


def test_a_fault_of_ours_tells_nothing_about_the_request(
    live: Live, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("about private-" + "id")

    monkeypatch.setattr("mkmsr.serve.service.Cards.listed", fail)
    answer = live.recommend(events=[{"item": "item-03"}])
    assert answer.status == 500
    assert "private-id" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_without_keys_only_loopback_names_are_answered(live: Live) -> None:
    assert live.call("GET", "/v1/service", headers={"host": f"localhost:{live.port}"}).status == 200
    assert live.call("GET", "/v1/service", headers={"host": "[::1]:80"}).status == 200
    for host in ("shop.example", f"127.0.0.1.shop.example:{live.port}", ""):
        assert live.call("GET", "/v1/service", headers={"host": host}).status == 403


def test_a_public_address_needs_keys(bundle: Path) -> None:
    for host in ("0.0.0.0", "192.168.0.1", "shop.example", "::"):
        with pytest.raises(ConfigError, match="--keys"):
            check(Settings(bundle=bundle, host=host))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# the shop\nsecret {SECRET}\npublic {PUBLIC} 5\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def guarded(bundle: Path, keys: Path) -> Iterator[Live]:
    with running(Settings(bundle=bundle, keys=keys, origins=("https://shop.example",))) as service:
        yield service


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_keys_open_what_their_scope_allows(guarded: Live) -> None:
    asked = {"events": [{"item": "item-03"}]}
    statuses = {
        key: guarded.call("POST", "/v1/recommendations", asked, headers=bearer(key)).status
        for key in (SECRET, PUBLIC, "wrong", SECRET[:-1], "")
    }
    assert list(statuses.values()) == [200, 200, 401, 401, 401]
    assert guarded.call("POST", "/v1/recommendations", asked).status == 401
    assert guarded.call("GET", "/v1/service", headers=bearer(PUBLIC)).status == 403
    assert guarded.call("GET", "/v1/service", headers=bearer(SECRET)).status == 200
    assert guarded.call("GET", "/health/ready").status == 200


def test_admin_endpoints_are_at_their_own_listener(guarded: Live) -> None:
    retire = {"items": ["plain"]}
    for method, path, body in (("GET", "/metrics", None), ("POST", "/v1/catalogue/retire", retire)):
        assert guarded.call(method, path, body, headers=bearer(SECRET)).status == 404
        assert guarded.call(method, path, body, admin=True).status == 401
        assert guarded.call(method, path, body, headers=bearer(PUBLIC), admin=True).status == 403
        assert guarded.call(method, path, body, headers=bearer(SECRET), admin=True).status == 200


def test_a_public_key_is_slowed_down(guarded: Live) -> None:
    statuses = [guarded.call("GET", "/v1/items?limit=1", headers=bearer(PUBLIC)) for _ in range(20)]
    refused = [each for each in statuses if each.status == 429]
    assert 5 <= len(refused) <= 12
    assert refused[0].headers["retry-after"] == "1"


@pytest.mark.parametrize("proxies", [(), ("127.0.0.1",)])
def test_callers_behind_a_proxy_are_told_apart_if_it_is_trusted(bundle: Path, keys: Path, proxies: tuple[str]) -> None:
    with running(Settings(bundle=bundle, keys=keys, proxies=proxies)) as live:
        callers = [bearer(PUBLIC) | {"x-forwarded-for": f"10.0.0.{n}"} for n in range(20)]
        statuses = [live.call("GET", "/v1/items?limit=1", headers=each).status for each in callers]
    assert (429 in statuses) == (not proxies)


def test_allowed_pages_may_call_and_others_may_not(guarded: Live) -> None:
    def preflight(origin: str) -> Any:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        return guarded.call("OPTIONS", "/v1/events", headers=headers)

    allowed = preflight("https://shop.example")
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (204, "https://shop.example")
    assert preflight("https://evil.example").status == 403
    answer = guarded.call("GET", "/v1/items", headers={"origin": "https://shop.example", **bearer(PUBLIC)})
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_a_nearly_right_key_takes_as_long_as_a_wrong_one() -> None:
    access = Access([Key(sha256(SECRET.encode()).digest(), "secret", 1e6)])

    def microseconds(key: str) -> float:
        headers, times = {b"authorization": f"Bearer {key}".encode()}, []
        for _ in range(3000):
            began = time.perf_counter_ns()
            with pytest.raises(Problem) if key != SECRET else contextlib.nullcontext():
                access.check(headers, "", "secret", is_admin=False)
            times.append(time.perf_counter_ns() - began)
        return statistics.median(times) / 1000

    assert microseconds(SECRET[:-1] + "x") == pytest.approx(microseconds("x" * len(SECRET)), rel=0.3)


@pytest.mark.parametrize(
    ("text", "word"),
    [("secret short", "24"), ("admin " + "k" * 30, "row 1"), ("public " + "k" * 30, "no secret key"),
     ("secret " + "k" * 30 + " fast", "rate"), ("secret " + "k" * 30 + " -1", "rate")],
)  # fmt: skip
def test_a_file_of_keys_says_what_is_wrong(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ServiceError, match=word) as refused:
        read_keys(path)
    assert "k" * 30 not in str(refused.value)
    path.chmod(0o644)
    with pytest.raises(ServiceError, match="chmod"):
        read_keys(path)


def test_many_at_once_are_all_answered(live: Live) -> None:
    answers: list[str] = []

    def ask(number: int) -> None:
        for n in range(10):
            answers.append(json.dumps(live.recommend(events=[{"item": f"item-{(number + n) % 30:02d}"}]).items))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 160
    alone = {json.dumps(live.recommend(events=[{"item": f"item-{n:02d}"}]).items) for n in range(30)}
    assert set(answers) <= alone
