"""What is checked and made before a service starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mkmsr.errors import ConfigError, ServiceError
from mkmsr.serve.server import _admin_port, _pause
from mkmsr.serve.settings import SECRET_VARIABLE, Settings, check, open_store, session_secret


def test_the_key_of_session_ids_is_kept_and_private(tmp_path: Path) -> None:
    settings = Settings(bundle=tmp_path, state=tmp_path / "state")
    secret = session_secret(settings)
    assert (len(secret), session_secret(settings)) == (32, secret)
    assert (tmp_path / "state" / "session.key").stat().st_mode & 0o077 == 0


def test_a_key_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "session.key").write_bytes(b"")
    with pytest.raises(ServiceError, match=r"session\.key: should hold 32 bytes and holds 0"):
        session_secret(Settings(bundle=tmp_path, state=tmp_path))


def test_the_folder_of_the_state_is_made_with_a_key_of_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "k" * 24)
    settings = Settings(bundle=tmp_path, state=tmp_path / "new")
    assert session_secret(settings) == b"k" * 24
    open_store(settings).close()


@pytest.mark.parametrize(("deaths", "seconds"), [(0, 0), (1, 1), (3, 7), (5, 30), (5000, 30)])
def test_workers_that_cannot_start_are_started_ever_more_rarely(deaths: int, seconds: float) -> None:
    assert _pause(deaths) == seconds


@pytest.mark.parametrize(
    ("port", "admin_port", "expected"), [(8420, None, 8421), (8420, 9000, 9000), (0, None, 0), (8420, 0, 0)]
)
def test_the_admin_port_is_the_next_one_or_a_free_one(
    tmp_path: Path, port: int, admin_port: int | None, expected: int
) -> None:
    settings = Settings(bundle=tmp_path, keys=tmp_path / "keys", port=port, admin_port=admin_port)
    assert _admin_port(settings) == expected


@pytest.mark.parametrize("host", ["https://cdn.shop.example", "cdn.shop.example/p", "cdn.shop.example:8443", ""])
def test_an_image_host_is_a_host_alone(host: str) -> None:
    with pytest.raises(ConfigError, match=r"image_hosts: .* should be a host alone"):
        check(Settings(bundle=Path("bundle"), image_hosts=(host,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0"}, r"host: 0\.0\.0\.0 can be reached by others: a public address needs --keys FILE"),
        ({"store": "postgres"}, "store: should be memory, sqlite, or the address of a Redis"),
        ({"workers": 2, "store": "memory"}, "store: memory is that of one worker"),
        ({"split": 0.5}, "split: a split needs a second bundle"),
        ({"split": 1.5, "beside": Path("other")}, "split: should be a share from 0 to 1"),
        ({"origins": ("shop.example",)}, r"origins: 'shop\.example' should read https://shop\.example, without a path"),
        ({"origins": ("https://shop.example/",)}, "origins: .* should read"),
    ],
)
def test_settings_that_are_unsafe_or_do_not_fit_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(Settings(bundle=Path("bundle"), **settings))


def test_a_public_address_with_keys_and_several_workers_with_a_shared_store_are_fine() -> None:
    check(Settings(bundle=Path("bundle"), host="0.0.0.0", keys=Path("keys"), origins=("https://shop.example",)))
    for store in ("auto", "sqlite", "redis://host:6379/0"):
        check(Settings(bundle=Path("bundle"), workers=2, store=store))


@pytest.mark.parametrize(
    ("variable", "settings", "message"),
    [
        ("short", {}, f"{SECRET_VARIABLE} needs 24 characters or more"),
        ("", {"store": "redis://host:6379/0"}, f"share a Redis need the same key .* set {SECRET_VARIABLE}"),
        ("", {"state": Path(__file__) / "state"}, "state: Not a directory"),
    ],
)
def test_session_ids_without_a_usable_key_are_refused(
    variable: str, settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, variable)
    with pytest.raises(ServiceError, match=message):
        session_secret(Settings(bundle=Path("bundle"), **settings))
