"""Strict settings: small frozen Pydantic models, read from TOML files and `key=value` flags, written back to TOML.

A component's settings live beside the component; this file holds what they share. An unknown key is an error that names
it and the nearest right one, never a silent `None`. Nested tables are the same as flat ones with dotted keys, such as
`model.dim`; whatever walks them does so by the functions of this file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from mkmsr.errors import ConfigError, nearest, shown

ConfigT = TypeVar("ConfigT", bound=BaseModel)


MOST_BYTES = 16 << 10
"""Size of the largest settings file: a key of many dots takes memory by the square of their number."""

DEEPEST = 8
"""Tables and lists that may stand in each other."""


class StrictModel(BaseModel):
    """Base of every settings class: immutable, no unknown keys, finite numbers, defaults checked too."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: The file is missing, is not TOML, or is larger or nested deeper than settings are.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"too large for settings, which take {MOST_BYTES >> 10} KiB at most", path=path)
        settings = tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file", path=path) from None
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits.
        raise ConfigError(f"not a TOML file: {error}", path=path) from None
    _check_depth(settings, path)
    return settings


def table_of(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a copy of the table under a key, empty where there is none.

    Raises:
        ConfigError: It is not a table.
    """
    table = settings.get(key, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"should be a table, [{key}]; found {shown(table)}", key=key)
    return dict(table)


def to_toml(settings: BaseModel | Mapping[str, Any]) -> str:
    """Settings as TOML text; None, which TOML lacks and which is always a default, is left out."""
    data = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else dict(settings)
    return tomli_w.dumps(_without_none(data))


def apply_overrides(settings: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return nested settings with `dotted.key=value` overrides applied; values are read as TOML, else as text.

    Raises:
        ConfigError: An override has no `=` or goes through a key that is not a table.
    """
    result = laid_over(settings, {})
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"{override!r} should read key=value, for example model.dim=64")
        if key.count(".") >= DEEPEST:
            raise ConfigError(f"{shown(override)} goes through more than {DEEPEST} tables")
        _put(result, key.strip(), _toml_value(text.strip()))
    return result


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with dotted keys as nested tables.

    Raises:
        ConfigError: A key goes through another that is not a table.
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        _put(result, key, value)
    return result


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one with dotted keys; empty tables are left out."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        result |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested tables in which the values of `above` take the place of those below."""
    result = {key: laid_over(value, {}) if isinstance(value, Mapping) else value for key, value in below.items()}
    for key, value in above.items():
        inner = result.get(key)
        table = inner if isinstance(inner, dict) else {}
        result[key] = laid_over(table, value) if isinstance(value, Mapping) else value
    return result


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return what differs between nested settings stored earlier and those of now: `dotted.key is 1 there, 2 now`."""
    old, new = dotted(found), dotted(wanted)
    keys = [*old, *(key for key in new if key not in old)]
    return [f"{key} is {old.get(key)!r} there, {new.get(key)!r} now" for key in keys if old.get(key) != new.get(key)]


def validate(
    kind: type[ConfigT], values: Mapping[str, Any], *, path: str | Path | None = None, prefix: str = ""
) -> ConfigT:
    """Settings of the given kind from plain values.

    Raises:
        ConfigError: Names the dotted key, the wrong value and, for an unknown key, the nearest right one.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in (*([prefix] if prefix else []), *first["loc"]))
        if first["type"] == "extra_forbidden":
            owner: Any = kind
            for part in first["loc"][:-1]:
                owner = _field_type(owner, str(part))
            known = getattr(owner, "model_fields", {})
            word = str(first["loc"][-1])
            nested = _nested(owner, word)
            right = ".".join([*key.split(".")[:-1], nested]) if nested else ""
            hint = f", did you mean {right!r}?" if right else nearest(word, known)
            hint = hint or f"; known keys: {', '.join(sorted(known))}"
            raise ConfigError(f"unknown key{hint}", key=key, path=path) from None
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{said}, found {shown(first['input'])}", key=key or None, path=path) from None


def _field_type(owner: Any, name: str) -> Any:
    field = getattr(owner, "model_fields", {}).get(name)
    return field.annotation if field is not None else None


def _nested(owner: Any, word: str) -> str | None:
    """The dotted key of a field of this name in a table further down, if there is one."""
    for name, field in getattr(owner, "model_fields", {}).items():
        inner = getattr(field.annotation, "model_fields", {})
        found = word if word in inner else _nested(field.annotation, word)
        if found:
            return f"{name}.{found}"
    return None


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    table = settings
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{name!r} is a value, not a table", key=key)
    table[last] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _check_depth(value: Any, path: Path, depth: int = 0) -> None:
    """Make sure that tables and lists do not stand in each other so deep that no function gets to their end.

    Raises:
        ConfigError: They do.
    """
    if depth > DEEPEST:
        raise ConfigError(f"nested deeper than settings are, {DEEPEST} levels", path=path)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(each, path, depth + 1)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value
