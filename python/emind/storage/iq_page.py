"""The pages of the column ``iq``: a row group's samples as one Parquet data page, and back without copying.

In Parquet, a list of [I, Q] pairs is its numbers one after another, and for each number a repetition level (2 bits)
that says what begins with it: 0 a row, 1 a pair, 2 nothing. So the levels of a pair are 1 2, and 0 2 where a row
begins: a byte holds the levels of two samples. General Parquet libraries decode such levels one by one and reach half
a gigabyte a second; this module writes and finds them a byte at a time, and the numbers themselves lie in the file as
they lie in memory. Any Parquet reader reads these pages.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from .thrift import FALSE, I32, I64, LIST, STRUCT, Struct, ThriftReader, encode, varint

PLAIN, RLE = 0, 3  # Parquet's numbers for encodings
UNCOMPRESSED, ZSTD = 0, 6  # ... and for compressions
DATA_PAGE_V2 = 3
ALIGNMENT = 64  # bytes: where in the file the samples begin, so that they can be used in place
_PAIR, _FIRST_BEGINS, _SECOND_BEGINS = 0x99, 0x01, 0x10  # levels of two samples; the bit that a row's begin clears


@dataclass(frozen=True)
class Page:
    """What stands in front of the samples in the file, the samples as stored, and their size without compression."""

    head: bytes
    body: bytes | memoryview
    plain_bytes: int  # head and body, had nothing been compressed
    values: int

    @property
    def size(self) -> int:
        return len(self.head) + len(self.body)


def encode_page(body: bytes | memoryview, plain_body: int, starts: np.ndarray, samples: int, codec: int) -> Page:
    """The page of rows that begin at the samples ``starts`` (ascending, the first 0).

    ``body`` are the stored bytes of ``samples`` pairs, ``plain_body`` their size without compression.
    """
    groups = -(-2 * samples // 8)  # levels come in groups of eight
    levels = np.full(2 * groups, _PAIR, np.uint8)
    even = starts % 2 == 0
    levels[starts[even] // 2] ^= _FIRST_BEGINS
    levels[starts[~even] // 2] ^= _SECOND_BEGINS
    repetition = varint(groups << 1 | 1) + levels.tobytes()
    definition = varint(2 * samples << 1) + b"\x02"  # one run: no value is missing
    size = len(repetition) + len(definition)
    check = zlib.crc32(body, zlib.crc32(repetition + definition))
    header = encode({
        1: (I32, DATA_PAGE_V2),
        2: (I32, size + plain_body),
        3: (I32, size + len(body)),
        4: (I32, check - (1 << 32) if check >> 31 else check),
        8: (STRUCT, {
            1: (I32, 2 * samples), 2: (I32, 0), 3: (I32, len(starts)), 4: (I32, PLAIN),
            5: (I32, len(definition)), 6: (I32, len(repetition)), 7: (FALSE, codec != UNCOMPRESSED),
        }),
    })
    head = header + repetition + definition
    return Page(head, body, len(head) + plain_body, 2 * samples)


def column_chunk(template: Struct, page: Page, offset: int, codec: int) -> Struct:
    """Parquet's description of a column chunk that is ``page`` at ``offset`` of the file; names are the template's."""
    old = template[3][1]
    return {
        2: (I64, 0),
        3: (STRUCT, {
            1: old[1], 2: (LIST, (I32, [PLAIN, RLE])), 3: old[3], 4: (I32, codec), 5: (I64, page.values),
            6: (I64, page.plain_bytes), 7: (I64, page.size), 9: (I64, offset),
        }),
    }


@dataclass(frozen=True)
class PageLayout:
    """Where in the file a page's samples lie. ``starts`` (rows + 1,) are the rows' first samples, and their end."""

    body: int
    body_bytes: int
    plain_bytes: int
    compressed: bool
    starts: np.ndarray
    check: tuple[int, int, int] | None  # CRC-32, and the stretch of the file that it is of


def find_page(data: memoryview, offset: int, size: int, rows: int) -> PageLayout | None:
    """The page at ``offset``, ``size`` bytes with its header; None when another program wrote it in another way.

    ValueError where the bytes make no sense.
    """
    reader = ThriftReader(data[offset : offset + size])
    header = reader.struct()
    if header.get(1) != (I32, DATA_PAGE_V2) or 8 not in header:
        return None
    fields = header[8][1]
    values, page_rows, definition, repetition = (fields[n][1] for n in (1, 3, 5, 6))
    stored = header[3][1]
    if reader.position + stored != size or page_rows != rows or fields[4][1] != PLAIN or values % 2:
        return None
    begin = offset + reader.position
    levels = ThriftReader(data[begin : begin + repetition])
    groups = levels.varint()
    if groups & 1 == 0 or repetition - levels.position != (groups >> 1) * 2 or (groups >> 1) != -(-values // 8):
        return None
    bytes_ = np.frombuffer(data, np.uint8, (groups >> 1) * 2, begin + levels.position)
    places = np.flatnonzero(bytes_ != _PAIR)
    marks = bytes_[places] ^ _PAIR
    if np.any(marks & ~np.uint8(_FIRST_BEGINS | _SECOND_BEGINS)):
        return None
    starts = np.concatenate([2 * places[(marks & _FIRST_BEGINS) != 0], 2 * places[(marks & _SECOND_BEGINS) != 0] + 1])
    starts = np.append(np.sort(starts[starts < values // 2]), values // 2)
    if len(starts) != rows + 1 or starts[0] != 0:
        return None
    check = None
    if 4 in header:
        check = header[4][1] & 0xFFFFFFFF, begin, stored
    body = begin + repetition + definition
    plain = header[2][1] - repetition - definition
    compressed = bool(fields.get(7, (FALSE, True))[1])
    return PageLayout(body, stored - repetition - definition, plain, compressed, starts, check)


def has_faults(data: memoryview, layout: PageLayout) -> bool:
    """Whether the page's bytes are not those that were written."""
    if layout.check is None:
        return False
    check, begin, size = layout.check
    return zlib.crc32(data[begin : begin + size]) != check

