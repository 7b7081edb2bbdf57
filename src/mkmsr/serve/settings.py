"""What a service is told when it starts, checked before anything is loaded."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mkmsr.errors import ConfigError, ServiceError
from mkmsr.runtime.files import atomic_file
from mkmsr.serve.stores import MemoryStore, RedisStore, SessionStore, SqliteStore

SECRET_VARIABLE = "MKMSR_SESSION_SECRET"
"""Environment variable with the key of the hash of session ids, for services that share a Redis."""

_SECRET_BYTES = 32


_NO_FLAG = Parameter(parse=False)
_PORT = Parameter(validator=Number(gte=0, lte=65535))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a service is told; but for the bundle and what workers are told, the flags of `mkmsr serve`.

    Args:
        bundle: The bundle that serves.
        host: Address to listen at; any other than a loopback one needs --keys.
        port: Port; 0 is a free one.
        admin_port: With --keys, port on 127.0.0.1 for catalogue, bundles and metrics; the next one if missing.
        workers: Processes that share the port.
        store: Where sessions live: auto is memory for one worker and sqlite for several; redis://host:6379/0 serves
            several machines.
        state: Folder for what outlives the service: sessions and catalogue changes. Missing keeps nothing.
        keys: File of keys, one a line: secret KEY or public KEY, perhaps with requests a second behind.
        origins: Web pages that may call, such as https://shop.example.
        image_hosts: Hosts whose images may be shown.
        proxies: Addresses of proxies before the service, whose X-Forwarded-For says who calls: rates of public keys are
            counted by caller.
        beside: A second bundle, which requests name by its model, or which answers a share of the sessions.
        split: That share.
        idle_minutes: After so many minutes without an event a session is forgotten.
        session_memory: MiB that all sessions may take; beyond that those longest idle are forgotten.
        share: Folder by which workers hold the weights once in memory, see `load_bundle`.
        patience: Seconds that a request waits for the model before neighbours answer, or popularity.
        most_queued: Requests that may wait at a worker; more are turned away.
    """

    bundle: Annotated[Path, _NO_FLAG] = Path()
    host: str = "127.0.0.1"
    port: Annotated[int, _PORT] = 8420
    admin_port: Annotated[int | None, _PORT] = None
    workers: Annotated[int, Parameter(validator=Number(gte=1, lte=256))] = 1
    store: str = "auto"
    state: Path | None = None
    keys: Path | None = None
    origins: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    beside: Path | None = None
    split: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.0
    idle_minutes: Annotated[float, Parameter(validator=Number(gt=0))] = 30.0
    session_memory: Annotated[int, Parameter(validator=Number(gte=1))] = 256
    share: Annotated[Path | None, _NO_FLAG] = None
    patience: Annotated[float, _NO_FLAG] = 0.25
    most_queued: Annotated[int, _NO_FLAG] = 512

    @property
    def kind_of_store(self) -> str:
        """ "memory", "sqlite" or "redis"."""
        if "://" in self.store:
            return "redis"
        return (
            self.store if self.store != "auto" else "memory" if self.workers == 1 and self.state is None else "sqlite"
        )


def check(settings: Settings) -> None:
    """Refuse settings that are not safe or do not fit together with a ConfigError, whose key says which."""
    if not _is_loopback(settings.host) and settings.keys is None:
        raise ConfigError(f"{settings.host} can be reached by others: a public address needs --keys FILE", key="host")
    if settings.store not in ("auto", "memory", "sqlite") and "://" not in settings.store:
        raise ConfigError("should be memory, sqlite, or the address of a Redis: redis://host:6379/0", key="store")
    if settings.workers > 1 and settings.kind_of_store == "memory":
        raise ConfigError("memory is that of one worker; several need sqlite or redis://..", key="store")
    if settings.split and settings.beside is None:
        raise ConfigError("a split needs a second bundle: --beside BUNDLE", key="split")
    if not 0 <= settings.split <= 1:
        raise ConfigError("should be a share from 0 to 1", key="split")
    for origin in settings.origins:
        if not origin.startswith(("https://", "http://")) or origin.count("/") != 2:
            raise ConfigError(f"{origin!r:.100} should read https://shop.example, without a path", key="origins")
    for host in settings.image_hosts:
        if not host or set(host) & set(":/"):
            raise ConfigError(f"{host!r:.100} should be a host alone, such as cdn.shop.example", key="image_hosts")


def can_share_port() -> bool:
    """Whether several processes can listen at one port, each getting its part of the connections."""
    return sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")


def open_store(settings: Settings) -> SessionStore:
    """Open the store of sessions; one that cannot be used raises ServiceError."""
    kind, idle = settings.kind_of_store, 60 * settings.idle_minutes
    if kind == "redis":
        return RedisStore(settings.store, idle=idle)
    capacity = settings.session_memory * 1024 * 1024
    if kind == "memory":
        return MemoryStore(idle=idle, capacity=capacity)
    assert settings.state is not None
    return SqliteStore(settings.state / "sessions.sqlite", idle=idle, capacity=capacity)


def session_secret(settings: Settings) -> bytes:
    """Return the key of the hash of session ids: from the environment, the folder of the state, or a new one.

    Makes the folder of the state where it is missing. A key that is too short, or that several machines need and nobody
    gives, raises ServiceError.
    """
    if settings.state is not None:
        try:
            settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ServiceError(f"{settings.state}: {error.strerror}") from None
    given = os.environ.get(SECRET_VARIABLE, "")
    if given:
        if len(given) < 24:
            raise ServiceError(f"{SECRET_VARIABLE} needs 24 characters or more; openssl rand -hex 32")
        return given.encode()[:64]
    if settings.kind_of_store == "redis":
        raise ServiceError(f"services that share a Redis need the same key for session ids: set {SECRET_VARIABLE}")
    if settings.state is None:
        return secrets.token_bytes(32)
    file = settings.state / "session.key"
    try:
        if not file.exists():
            with atomic_file(file) as part:
                part.touch(mode=0o600)
                part.write_bytes(secrets.token_bytes(_SECRET_BYTES))
        secret = file.read_bytes()
    except OSError as error:
        raise ServiceError(f"{file}: {error.strerror}") from None
    if len(secret) != _SECRET_BYTES:
        raise ServiceError(
            f"{file}: should hold {_SECRET_BYTES} bytes and holds {len(secret)}; remove it for a new key"
        )
    return secret


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
