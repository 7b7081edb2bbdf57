"""What a service is told when it starts, checked before anything is loaded."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from mkmsr.errors import ConfigError, ServiceError
from mkmsr.runtime.files import atomic_file
from mkmsr.serve.stores import MemoryStore, RedisStore, SessionStore, SqliteStore

SECRET_VARIABLE = "MKMSR_SESSION_SECRET"
"""Environment variable with the key of the hash of session ids, for services that share a Redis."""

_SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a service is told.

    Args:
        bundle: The bundle that serves.
        beside: A second bundle, or None.
        split: Part of the sessions that the second one answers, by a stable hash.
        host: Address to listen at.
        port: Port; 0 is a free one.
        admin_port: Port on 127.0.0.1 for catalogue, bundles and metrics, where there are keys; None is the next one.
        workers: Processes.
        store: "auto" (memory for one worker, else SQLite), "memory", "sqlite", or the address of a Redis.
        state: Folder for SQLite's file and the key of the hash; None keeps nothing after the end.
        share: Folder by which workers hold the weights once in memory, see `load_bundle`.
        keys: File of keys, see `read_keys`.
        origins: Origins of web pages that may call.
        image_hosts: Hosts whose images may be shown.
        proxies: Addresses of proxies that are believed when they say (X-Forwarded-For) who calls.
        idle: Seconds after which a session without a new event or list is forgotten.
        capacity: MiB of all sessions; beyond it those longest idle are forgotten.
        patience: Seconds that a request waits for the model before neighbours answer, or popularity.
        most_queued: Requests that may wait at a worker; more are turned away.
    """

    bundle: Path
    beside: Path | None = None
    split: float = 0.0
    host: str = "127.0.0.1"
    port: int = 8420
    admin_port: int | None = None
    workers: int = 1
    store: str = "auto"
    state: Path | None = None
    share: Path | None = None
    keys: Path | None = None
    origins: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    idle: float = 1800.0
    capacity: int = 256
    patience: float = 0.25
    most_queued: int = 512

    @property
    def kind_of_store(self) -> str:
        """ "memory", "sqlite" or "redis"."""
        if "://" in self.store:
            return "redis"
        return (
            self.store if self.store != "auto" else "memory" if self.workers == 1 and self.state is None else "sqlite"
        )


def check(settings: Settings) -> None:
    """Refuse settings that are not safe or do not fit together.

    Raises:
        ConfigError: They are not; the key says which.
    """
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
    """Open the store of sessions.

    Raises:
        ServiceError: It cannot be used.
    """
    capacity, kind = settings.capacity * 1024 * 1024, settings.kind_of_store
    if kind == "redis":
        return RedisStore(settings.store, idle=settings.idle)
    if kind == "memory":
        return MemoryStore(idle=settings.idle, capacity=capacity)
    assert settings.state is not None
    return SqliteStore(settings.state / "sessions.sqlite", idle=settings.idle, capacity=capacity)


def session_secret(settings: Settings) -> bytes:
    """Return the key of the hash of session ids: from the environment, the folder of the state, or a new one.

    Makes the folder of the state where it is missing.

    Raises:
        ServiceError: Several machines need the same one, and it is not given; or it is too short.
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
