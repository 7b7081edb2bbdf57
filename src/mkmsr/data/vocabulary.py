"""Vocabulary: external ids (text) to indexes 1..n and back. Index 0 is padding and never an id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mkmsr.errors import DataError, UnknownIdError, nearest


class Vocabulary:
    """Two-way map between distinct external ids and the indexes 1..n, in the given order.

    `kind` says in messages what the ids are: "item", "operation", "relation", "attribute".
    """

    def __init__(self, ids: Iterable[str], *, kind: str):
        self.kind = kind
        self._ids: list[str] = [str(each) for each in ids]
        self._index = {each: index for index, each in enumerate(self._ids, start=1)}
        if len(self._index) != len(self._ids):
            raise DataError(f"{kind} ids must be distinct: {len(self._ids) - len(self._index)} occur again")

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, external: object) -> bool:
        return external in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.kind == other.kind and self._ids == other._ids

    __hash__ = None  # type: ignore[assignment]

    @property
    def ids(self) -> Sequence[str]:
        """All external ids; `ids[i - 1]` has index i."""
        return self._ids

    def index(self, external: str) -> int:
        """The index of one id; an unknown one raises UnknownIdError."""
        found = self._index.get(external)
        if found is None:
            few = self._ids if len(self._ids) <= 50 else []
            known = f"; known: {', '.join(few)}" if 0 < len(few) <= 12 else ""
            raise UnknownIdError(self.kind, external, suggestion=nearest(str(external), few) or known)
        return found

    def indexes(self, external: Iterable[str], *, missing: Literal["error", "zero"] = "error") -> NDArray[np.int64]:
        """Indexes of many ids; an unknown one is an error, or 0 when `missing="zero"`."""
        if missing == "error":
            return np.fromiter((self.index(each) for each in external), dtype=np.int64)
        return np.fromiter((self._index.get(each, 0) for each in external), dtype=np.int64)

    def id(self, index: int) -> str:
        """The external id at an index 1..n."""
        if not 1 <= index <= len(self._ids):
            raise UnknownIdError(f"{self.kind} index", index, suggestion=f"; indexes run from 1 to {len(self._ids)}")
        return self._ids[index - 1]
