"""Every error that mkmsr raises on purpose.

    MkmsrError
    ├── DataError          a raw log, an attribute table or a prepared dataset is not as it should be
    ├── UnknownIdError     an external id is not in a vocabulary
    ├── ConfigError        an option is unknown, of the wrong type or out of bounds
    ├── TrainingError      training cannot go on: a non-finite loss, a checkpoint of another run
    ├── EvaluationError    scores cannot be ranked
    ├── NotFittedError     a model was asked before `fit`
    ├── BundleError        a saved model is incomplete, altered or of another format
    └── ServiceError       the live service cannot answer

A message says what is wrong, which value, and what would be right. The location (path, row, column, key, epoch) is also
kept as an attribute, so that programs need not parse the text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class MkmsrError(Exception):
    """Base of all errors that mkmsr raises on purpose."""


class DataError(MkmsrError):
    """Input data is not as it should be.

    Args:
        message: What is wrong, which value, and what would be right.
        path: The file.
        row: 1-based line of the file, header included.
        column: The column's name in the file.
    """

    def __init__(
        self, message: str, *, path: str | Path | None = None, row: int | None = None, column: str | None = None
    ):
        self.path, self.row, self.column = path, row, column
        place = [str(path)] if path is not None else []
        place += [f"row {row}"] if row is not None else []
        place += [f"column {column!r}"] if column is not None else []
        super().__init__(": ".join([", ".join(place), message]) if place else message)


class UnknownIdError(MkmsrError):
    """An external id is not in a vocabulary."""

    def __init__(self, kind: str, unknown: object, *, suggestion: str = ""):
        self.kind, self.unknown = kind, unknown
        super().__init__(f"unknown {kind} {shown(unknown)}{suggestion}")


class ConfigError(MkmsrError):
    """An option is unknown, of the wrong type or out of bounds. `key` is dotted, as in `model.dim`."""

    def __init__(self, message: str, *, key: str | None = None, path: str | Path | None = None):
        self.key, self.path = key, path
        place = ", ".join(str(part) for part in (path, key) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class TrainingError(MkmsrError):
    """Training cannot go on."""

    def __init__(self, message: str, *, epoch: int | None = None, step: int | None = None):
        self.epoch, self.step = epoch, step
        place = ", ".join(f"{name} {n}" for name, n in (("epoch", epoch), ("step", step)) if n is not None)
        super().__init__(f"{place}: {message}" if place else message)


class EvaluationError(MkmsrError):
    """Scores cannot be ranked."""


class BundleError(MkmsrError):
    """A saved model is incomplete, altered or of another format."""

    def __init__(self, message: str, *, path: str | Path | None = None, expected: object = None, found: object = None):
        self.path, self.expected, self.found = path, expected, found
        text = f"{path}: {message}" if path is not None else message
        if expected is not None or found is not None:
            text += f" (expected {expected}, found {found})"
        super().__init__(text)


class NotFittedError(MkmsrError):
    """A model was asked before `fit`."""


class ServiceError(MkmsrError):
    """The live service cannot answer."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The words ", did you mean 'x'?" for the known word closest to a misspelt one, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """Return the beginning of a wrong value as messages quote it."""
    try:
        return f"{value!r:.100}"
    except ValueError:
        return "an integer of thousands of digits"
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"
