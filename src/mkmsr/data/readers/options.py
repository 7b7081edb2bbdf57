"""What a reader may be told about a raw log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mkmsr.config import StrictModel
from mkmsr.errors import ConfigError

__all__ = ["ReadOptions", "TimeUnit"]

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]


class ReadOptions(StrictModel):
    """How to read a raw log. Readers of a fixed format refuse what they have no use for."""

    columns: dict[str, str] = Field(default_factory=dict)
    """The file's name of each field: item, operation, time, user, session, split. A field that is not named here is the
    column of its own name, if there is one; an empty name says that there is none."""
    attributes: Path | None = None
    """A table of item attributes, long (item, relation, value) or wide (one column a relation)."""
    multi: str | None = Field(default=None, min_length=1)
    """Separator of several values in one attribute cell."""
    time_unit: TimeUnit = "auto"
    """Unit of numeric times; "auto" tells it from their size."""

    def refuse(self, kind: str, *, allowed: tuple[str, ...]) -> None:
        """Checks that only allowed options differ from their defaults.

        Raises:
            ConfigError: Another option is set.
        """
        for name, info in type(self).model_fields.items():
            if name not in allowed and getattr(self, name) != info.get_default(call_default_factory=True):
                raise ConfigError(f"the reader {kind!r} has no use for this option", key=name)
