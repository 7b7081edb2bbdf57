"""How much a Parquet file unpacks to, told from its footer and the headers of its pages, before anything is unpacked.

A page of zeros packs into a thirty-thousandth of its size, and a column of equal values into next to nothing: a file of
a few kilobytes could fill the memory of the machine that reads it. What its footer says is not enough, because a
decoder takes the sizes of pages from their own headers; so these are walked through, and must agree with the footer.
Only flat columns are understood, which is what a bundle has.

Source: the Parquet format's `parquet.thrift` and Thrift's compact protocol.
"""

from __future__ import annotations

from typing import Any

from mkmsr.errors import DataError

__all__ = ["unpacked_bytes"]

BYTES_A_VALUE = 16
"""Of memory that a value takes beside its page: a view of a text, or a number."""

_MAGIC = b"PAR1"
_DEEPEST = 16
_DATA_HEADERS, _DICTIONARY_HEADER = (5, 8), 7
_BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = 3, (4, 5, 6), 7, 8, (9, 10), 12


def unpacked_bytes(content: bytes) -> int:
    """Bytes of memory that the columns of a Parquet file need at most: its pages unpacked, and its values.

    Raises:
        DataError: It is no Parquet file, or its counts contradict each other.
    """
    end = len(content) - 8
    if end < len(_MAGIC) or not content.startswith(_MAGIC) or not content.endswith(_MAGIC):
        raise DataError("it does not begin and end as Parquet does")
    begin = end - int.from_bytes(content[end : end + 4], "little")
    if begin < len(_MAGIC):
        raise DataError("its footer is longer than the file")
    try:
        footer = _Structures(memoryview(content)[begin:end]).read()
        groups, rows = footer[4], footer[3]
        pages = memoryview(content)[:begin]
        total = sum(_unpacked_chunk(pages, chunk[3], group[3]) for group in groups for chunk in group[1])
        counted = sum(group[3] for group in groups)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"its footer, or the header of a page, is not as it should be: {error!r}") from None
    if counted != rows:
        raise DataError(f"its footer counts {rows} rows, and the parts of it {counted}")
    return total


def _unpacked_chunk(content: memoryview, chunk: dict[int, Any], rows: int) -> int:
    """The same of one column of one group of rows, whose pages lie one after the other."""
    place = chunk.get(11, chunk[9])  # A page of distinct values, if there is one, goes before those that refer to it.
    end, total, values = place + chunk[7], 0, 0
    if place < len(_MAGIC) or not place <= end <= len(content):
        raise DataError(f"a column stands at bytes {place} to {end}, which is not in the file")
    while place < end:
        reader = _Structures(content[place:end])
        page = reader.read()
        headers = [page[number] for number in (*_DATA_HEADERS, _DICTIONARY_HEADER) if number in page]
        unpacked, packed, counts = page[2], page[3], [header[1] for header in headers]
        if min(unpacked, packed, *counts) < 0 or reader.place + packed > end - place:
            raise DataError(f"the page at byte {place} does not fit into its column")
        total += unpacked + BYTES_A_VALUE * sum(counts)
        values += sum(page[number][1] for number in _DATA_HEADERS if number in page)
        place += reader.place + packed
    if not values == chunk[5] == rows:
        raise DataError(f"a column of {rows} rows says that it has {chunk[5]} values, and its pages have {values}")
    return total


class _Structures:
    """Reads structures written in Thrift's compact protocol: what each field holds, by its number.

    Args:
        content: The bytes, from the beginning of a structure.
    """

    def __init__(self, content: memoryview):
        self._content, self.place = content, 0

    def read(self, depth: int = 0) -> dict[int, Any]:
        """The structure that begins at `place`, which moves behind it."""
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise DataError("its structures are nested too deeply")
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._bytes(self._natural())
        if kind in _LISTS:
            head = self._byte()
            length = self._natural() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth + 1) for _ in range(length)]
        if kind == _STRUCT:
            return self.read(depth + 1)
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind in (1, 2, _BYTE):  # In a list a truth value takes a byte.
            return self._byte()
        raise DataError(f"a field is of the unknown kind {kind}")

    def _integer(self) -> int:
        natural = self._natural()
        return (natural >> 1) ^ -(natural & 1)

    def _natural(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise DataError("a number has more than 64 bits")

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> memoryview:
        found = self._content[self.place : self.place + count]
        if len(found) < count:
            raise DataError("it ends within a structure")
        self.place += count
        return found
