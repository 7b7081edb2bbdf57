"""One endpoint: what it takes and gives, and the limits that hold before a body is parsed; errors as documents.

An endpoint is an ASGI application, so that the busiest ones are called without a router. The gate stands before all of
them: it sets the headers that every answer has, and makes a problem document of every error.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mkmsr.errors import MkmsrError, ServiceError, nearest
from mkmsr.serve.types import LONGEST_ID, ProblemDocument, Request

_log = logging.getLogger(__name__)

_BODY_SECONDS = 10.0
"""A body must be here after so many seconds."""

_FORGET_SECONDS, _FORGET_BYTES = 2.0, 32 * 1024 * 1024

_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


class Problem(Exception):
    """An error that the caller gets as a problem document. `detail` says what is wrong and what would be right."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def answer(self) -> Raw:
        """The answer as it is sent."""
        document = ProblemDocument(HTTPStatus(self.status).phrase, self.status, self.detail)
        return Raw(msgspec.json.encode(document), "application/problem+json", self.status, self.headers)


@dataclass(frozen=True)
class Raw:
    """An answer as bytes."""

    body: bytes
    media: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A request that has passed its checks: body and query in their types, and names in the path."""

    body: Any
    path: Mapping[str, str]
    query: Any


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of the service.

    Args:
        method: HTTP method.
        path: Path, with names in braces.
        summary: One line for the description.
        handle: Answers a call with a value of `gives`, or with bytes.
        takes: Type of the body; None for none.
        gives: Type of the answer; None for bytes.
        scope: Who may call, see `Access`.
        most_bytes: Longest body.
        query: Type of the parameters.
    """

    method: str
    path: str
    summary: str
    handle: Callable[[Call], Awaitable[Any]]
    takes: type | None = None
    gives: type | None = None
    scope: str = "public"
    most_bytes: int = 256 * 1024
    query: type[Request] = Request


class Served:
    """An endpoint as an ASGI application. `check` decides who may call, see `Access.check`."""

    def __init__(self, endpoint: Endpoint, check: Callable[..., None]):
        self._endpoint, self._check = endpoint, check
        self._decoder: msgspec.json.Decoder[Any] | None = (
            None if endpoint.takes is None else msgspec.json.Decoder(endpoint.takes)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        client = (scope.get("client") or ("",))[0]
        self._check(headers, client, self._endpoint.scope, is_admin=scope["state"].get("admin", False))
        scope["endpoint_path"] = self._endpoint.path
        names = scope.get("path_params", {})
        if not all(0 < len(name) <= LONGEST_ID for name in names.values()):
            raise Problem(404, f"an id in a path has 1 to {LONGEST_ID} characters")
        body = None
        if self._decoder is not None:
            body = _decoded(self._decoder, await _read_body(headers, receive, self._endpoint.most_bytes))
        query = _read_query(scope["query_string"], self._endpoint.query)
        answer = await self._endpoint.handle(Call(body, names, query))
        if not isinstance(answer, Raw):
            answer = Raw(_ENCODER.encode(answer), "application/json")
        await _send(send, answer, is_head=scope["method"] == "HEAD")


class Gate:
    """Stands before the whole service.

    Args:
        app: What answers.
        cors: Headers for the page that asks, see `Access.cors`.
        observe: Told path, status and seconds of every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        cors: Callable[[Mapping[bytes, bytes]], dict[str, str]],
        observe: Callable[[str, int, float], None],
    ):
        self._app, self._cors, self._observe = app, cors, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), 0
        headers = dict(scope["headers"])
        cors = self._cors(headers)
        more = [*_HEADERS, *_encoded(cors)] if cors else _HEADERS

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] += [pair for pair in more if pair[0] not in own]
            await send(message)

        try:
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await _send(send_with_headers, _preflight(cors))
            else:
                await self._app(scope, receive, send_with_headers)
        except (
            Exception
        ) as error:  # The boundary: every error becomes an answer, and none of its text a line of the log.
            problem = _problem(error)
            if not status:
                await _send(send_with_headers, problem.answer(), is_head=scope["method"] == "HEAD")
        self._observe(scope.get("endpoint_path", "other"), status, time.perf_counter() - began)


_ENCODER = msgspec.json.Encoder()


def _decoded(decoder: msgspec.json.Decoder[Any], content: bytes) -> Any:
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise _misfit(error, decoder.type) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body should be JSON: {str(error)[:200]}") from None


def _misfit(error: msgspec.ValidationError, request: Any) -> Problem:
    """What does not fit; of an unknown field of a request, or of an event or item in it, what would be right too."""
    text = str(error)
    found = re.fullmatch(r"Object contains unknown field `(.*?)`(?: - at `\$\.(\w+)\[.*\]`)?", text, flags=re.DOTALL)
    if found is None:
        return Problem(422, text[:500])
    fields = msgspec.structs.fields(request)
    if found[2] is not None:
        listed = msgspec.inspect.type_info(next(each.type for each in fields if each.encode_name == found[2]))
        kinds = listed.types if isinstance(listed, msgspec.inspect.UnionType) else (listed,)
        fields = msgspec.structs.fields(next(each.item_type.cls for each in kinds if hasattr(each, "item_type")))
    known = [each.encode_name for each in fields]
    return Problem(422, f"{text[:500]}{nearest(found[1], known)}; there are {', '.join(known) or 'none'}")


def _problem(error: Exception) -> Problem:
    """What the caller is told about an error."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        words = {404: "there is nothing here; see /openapi.json", 405: "this path has other methods; see Allow"}
        return Problem(error.status_code, words.get(error.status_code, error.detail), error.headers)
    if isinstance(error, ServiceError):
        return Problem(503, str(error), {"retry-after": "1"})
    if isinstance(error, MkmsrError):
        return Problem(422, str(error))
    places = "".join(traceback.format_tb(error.__traceback__))
    _log.error("unexpected %s\n%s", type(error).__name__, places)
    return Problem(500, "the service failed on this request; its log says where")


def _read_query(text: bytes, kind: type) -> Any:
    try:
        query = dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=20))
        return msgspec.convert(query, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _misfit(error, kind) from None
    except ValueError:
        raise Problem(422, "the query has more than 20 parameters") from None


async def _read_body(headers: Mapping[bytes, bytes], receive: Receive, most: int) -> bytes:
    """The body, which must be JSON by its header, short enough and in time."""
    media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media != b"application/json":
        raise Problem(415, "the content type should be application/json")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Problem(415, "the body should not be compressed")
    length = headers.get(b"content-length", b"0")
    if len(length) > 12 or int(length) > most:
        raise await _too_long(receive, most)
    parts, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem(400, "the connection closed before the body was there")
                part = message.get("body", b"")
                size += len(part)
                if size > most:
                    raise await _too_long(receive, most)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        slow = f"the body took longer than {_BODY_SECONDS:g} seconds"
        raise Problem(408, slow, {"connection": "close"}) from None


async def _too_long(receive: Receive, most: int) -> Problem:
    """The answer to a body that is too long. Its rest is read and forgotten for a moment: if the connection closed with
    bytes unread, the client would see a broken connection instead of the answer."""
    read = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_FORGET_SECONDS):
            while read < _FORGET_BYTES:
                message = await receive()
                read += len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    return Problem(413, f"the body is longer than {most:,} bytes", {"connection": "close"})


async def _send(send: Send, answer: Raw, *, is_head: bool = False) -> None:
    headers = [
        (b"content-type", answer.media.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        *_encoded(answer.headers),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else answer.body})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def _preflight(headers: Mapping[str, str]) -> Raw:
    """The answer to a browser that asks whether a page may call."""
    if "access-control-allow-origin" not in headers:
        raise Problem(403, "pages of this origin may not call; name it with --origins")
    allowed = {
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": "600",
    }
    return Raw(b"", "text/plain", 204, allowed)
