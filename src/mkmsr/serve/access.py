"""Who may call what: keys and their scopes, rate limits, allowed origins, and which hosts may be named."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

from mkmsr.errors import ServiceError
from mkmsr.serve.endpoint import Problem

Scope: TypeAlias = Literal["open", "public", "secret", "admin"]
"""What an endpoint asks for: nothing, any key, a secret key, a secret key at the admin listener."""

_SHORTEST_KEY = 24
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_MOST_CLIENTS = 50_000
"""Clients whose requests are counted at the same time."""


@dataclass(frozen=True)
class Key:
    """A key, of which only the digest is kept.

    Args:
        digest: SHA-256 of the key.
        scope: "secret" for the shop's servers, "public" for browsers.
        rate: Requests a second; of a public key, for each client address.
    """

    digest: bytes = field(repr=False)
    scope: Literal["public", "secret"]
    rate: float


def read_keys(path: Path) -> list[Key]:
    """Return the keys of a file, one a line: `secret KEY` or `public KEY`, perhaps with requests a second behind.

    A line of another form, a key too short to be safe, or a file that others can read raises ServiceError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        is_private = not path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"{path}: cannot be read as a file of keys ({type(error).__name__})") from None
    if not is_private:
        raise ServiceError(f"{path}: others can read these keys; run chmod 600 {path}")
    keys = []
    for row, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (2, 3) or words[0] not in ("secret", "public"):
            raise ServiceError(f"{path}, row {row}: should be `secret KEY` or `public KEY`, perhaps with a rate behind")
        if len(words[1]) < _SHORTEST_KEY:
            raise ServiceError(f"{path}, row {row}: a key needs {_SHORTEST_KEY} characters; openssl rand -hex 24")
        try:
            rate = float(words[2]) if len(words) == 3 else {"secret": 2000.0, "public": 20.0}[words[0]]
        except ValueError:
            rate = 0.0
        if not 0 < rate < 1e9:
            raise ServiceError(f"{path}, row {row}: the rate should be requests a second, above 0")
        scope: Literal["public", "secret"] = "secret" if words[0] == "secret" else "public"
        keys.append(Key(sha256(words[1].encode()).digest(), scope, rate))
    if not any(key.scope == "secret" for key in keys):
        raise ServiceError(f"{path}: holds no secret key, which the catalogue and the admin listener need")
    return keys


class Access:
    """Decides about each request before its body is read.

    Without keys the service is for this machine alone: a request must name a loopback host, so that no web page can
    reach it under a name of its own (DNS rebinding), and may do everything.

    Args:
        keys: The keys; none is only safe on a loopback address.
        origins: Origins of web pages that may call, such as https://shop.example.
        share: Part of each rate that this process may use, where several share a port.
    """

    def __init__(self, keys: Sequence[Key] = (), origins: Sequence[str] = (), share: float = 1.0):
        self.keys, self.origins = tuple(keys), frozenset(origins)
        self._share = share
        self._buckets: OrderedDict[tuple[bytes, str], tuple[float, float]] = OrderedDict()

    def check(self, headers: Mapping[bytes, bytes], client: str, scope: Scope, *, is_admin: bool) -> None:
        """Let a request of this scope pass; one that may not raises a Problem: 401, 403, 404 or 429."""
        if not self.keys:
            host = headers.get(b"host", b"").decode("latin-1")
            name = host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host
            if name.lower() not in _LOOPBACK:
                raise Problem(403, "without keys the service answers to localhost alone; name that as the host")
            return
        if scope == "admin" and not is_admin:
            raise Problem(404, "there is nothing here; see /openapi.json")
        if scope == "open":
            return
        key = self._presented(headers)
        if key is None:
            raise Problem(401, "a key is needed: Authorization: Bearer KEY", {"www-authenticate": "Bearer"})
        if scope != "public" and key.scope != "secret":
            raise Problem(403, "a public key may not do this; use a secret one, from a server")
        self._count(key, client if key.scope == "public" else "")

    def cors(self, headers: Mapping[bytes, bytes]) -> dict[str, str]:
        """Return the headers that let an allowed web page read the answer."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not self.origins:
            return {}
        return {"vary": "origin"} | ({"access-control-allow-origin": origin} if origin in self.origins else {})

    def _presented(self, headers: Mapping[bytes, bytes]) -> Key | None:
        """The key of a request; all keys are compared, each in constant time."""
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        digest = sha256(given.strip()).digest() if kind.lower() == b"bearer" else b"\0" * 32
        found = None
        for key in self.keys:
            if hmac.compare_digest(digest, key.digest):
                found = key
        return found

    def _count(self, key: Key, client: str) -> None:
        """Take a token of the bucket of this key and client; it holds those of two seconds."""
        now, rate = time.monotonic(), key.rate * self._share
        most = max(1.0, 2 * rate)
        tokens, then = self._buckets.pop((key.digest, client), (most, now))
        tokens = min(most, tokens + (now - then) * rate)
        is_over = tokens < 1
        self._buckets[key.digest, client] = tokens if is_over else tokens - 1, now
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if is_over:
            wait = max(1, round((1 - tokens) / rate))
            raise Problem(429, "more requests than this key allows; slow down", {"retry-after": str(wait)})
