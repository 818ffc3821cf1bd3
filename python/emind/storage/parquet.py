"""Signals in Parquet: one row a signal, the 17 columns of ``contract.schema``.

    PAR1 | opening | row group | row group | ... | footer PAR1

Parquet keeps the places of all row groups in a footer that is written last, so a file without its end is lost. Here
each row group stands in a frame of its own (lengths, samples and labels, and Parquet's description of them), which other
readers pass over: until the footer is there, a file called ``<name>.parquet.part`` can be read up to its last whole
frame, and ``recover`` gives it the footer. No sample is written twice for that, as a journal beside the file would.

Samples as float32 are not compressed: noise does not shrink (7 %), and as they are they can be used in place, mapped
into memory. Samples as int16 with a scale are compressed, and so are all labels (zstd, behind a dictionary).
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..contract.errors import EMindError, UsageError
from ..contract.schema import IQ, LABELS, SCHEMA_VERSION, Signal, checked_label
from . import iq_page
from .parquet_format import (
    FRAME, FRAME_MAGIC, MAGIC, OPENING, OPENING_MAGIC, PREFIX, arrow_schema, footer_bytes, parse_footer)
from .parquet_reader import Reader, recover
from .part_file import FLOAT32, FULL_SCALE, INT16, PART, keep_room, open_part, sync_data, sync_folder, to_steps
from .thrift import I16, I64, LIST, STRUCT, Struct
from .thrift import encode as encode_struct

__all__ = ["FLOAT32", "FULL_SCALE", "INT16", "PART", "ROW_GROUP_BYTES", "Reader", "Writer", "recover"]

# Large enough that what a row group costs beside its samples (labels and description: 5 ms to write) is a tenth of the
# time that 20 MS/s leave for it. Larger ones read no faster from mapped memory, and a crash would cost more.
ROW_GROUP_BYTES = 8 << 20
FOOTER_SLACK = 4096  # bytes of a footer beside the descriptions of its row groups


class Writer:
    """Writes signals to ``path``, which gets its name when all is written; until then it is ``<path>.part``.

    As a context manager it closes at the end, and after an exception removes what it wrote. Not safe for several
    threads at once.

    Parameters
    ----------
    origin: what made the signals
    seed: of the generator that made them
    iq_format: ``float32``, or ``int16`` where every value is a multiple of ``scale``
    row_group_bytes: samples of a row group, in bytes of complex64
    scale: value of one step of int16
    recorded: time of the recording, ISO 8601
    durable: force each row group to the disk, so that it survives a power failure

    Raises
    ------
    EMindError: the file cannot be written, another process writes it, or a value does not suit the schema
    """

    def __init__(
        self, path: str | Path, *, origin: str, seed: int | None = None, iq_format: str = FLOAT32,
        row_group_bytes: int = ROW_GROUP_BYTES, scale: float = FULL_SCALE, recorded: str | None = None,
        durable: bool = False,
    ) -> None:
        if iq_format not in (FLOAT32, INT16):
            raise UsageError(f"unknown iq_format {iq_format!r}: use {FLOAT32} or {INT16}")
        if row_group_bytes < 8 or not 0 < scale < np.inf:
            raise UsageError(f"row_group_bytes {row_group_bytes} must be at least 8 and scale {scale} above 0")
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + PART)
        self.count = self.samples = 0  # rows and samples in finished row groups
        self.size = 0  # bytes of the file so far
        self._format, self._scale, self._durable = iq_format, np.float32(scale), durable
        metadata = {"schema_version": SCHEMA_VERSION, "origin": origin, "seed": seed, "recorded": recorded,
                    "iq_format": iq_format, "iq_scale": repr(float(scale)) if iq_format == INT16 else None}
        self._schema = arrow_schema(iq_format).with_metadata(
            {PREFIX + key: str(value) for key, value in metadata.items() if value is not None})
        self._values = np.empty(max(1, row_group_bytes // 8), np.complex64)
        self._limit = len(self._values)
        self._clear()
        self._groups: list[Struct] = []
        self._described = 0  # bytes of the row groups' descriptions
        self._file = open_part(self.part, self.path)
        try:
            self._begin()
        except OSError as fault:
            self.abort()
            raise EMindError(f"{self.path}: cannot be written ({fault.strerror})") from None

    def write(self, signal: Signal) -> None:
        """Append one row."""
        self.write_block(np.asarray(signal.iq)[None], **signal.labels())

    def write_many(self, signals: Iterable[Signal]) -> None:
        for signal in signals:
            self.write(signal)

    def write_block(self, iq: np.ndarray, **labels: Any) -> None:
        """Append the rows of ``iq`` (rows, samples), complex64. A label is one value for all or a list of one each."""
        if iq.ndim != 2 or 0 in iq.shape:
            raise EMindError(f"{self.path}: a signal of {iq.shape[-1] if iq.ndim else 0} samples in {iq.ndim - 1} "
                             "dimensions cannot be a row: a row has one dimension and at least one sample")
        if iq.dtype != np.complex64:
            iq = iq.astype(np.complex64)
        rows, length = iq.shape
        values = {name: _column(name, labels.pop(name, None), rows) for name in LABELS}
        if labels:
            checked_label(next(iter(labels)), None)
        done = 0
        while done < rows:
            room = (self._limit - self._filled) // length
            if room <= 0 and self._filled:
                self.flush()
                continue
            count = max(1, min(room, rows - done))
            if count * length > len(self._values) - self._filled:  # a row longer than a row group
                self._values = np.empty(count * length, np.complex64)
            end = self._filled + count * length
            self._values[self._filled : end].reshape(count, length)[...] = iq[done : done + count]
            self._starts.append(self._filled + length * np.arange(count))
            for name, column in values.items():
                self._labels[name].extend(column[done : done + count])
            self._filled = end
            done += count

    @property
    def pending(self) -> int:
        """Samples in the row group that is being filled."""
        return self._filled

    def flush(self) -> None:
        """End the row group: it is in the file, readable whatever happens. OSError where the disk is full.

        After an OSError the file is as it was before, and the rows of that row group are still pending.
        """
        if not self._filled:
            return
        begin = self.size
        try:
            self._write_group(begin)
        except OSError:
            self._file.seek(begin)
            self._file.truncate(begin)
            raise
        self.count += sum(len(part) for part in self._starts)
        self.samples += self._filled
        self._clear()

    def discard(self) -> None:
        """Forget the row group that is being filled."""
        self._clear()

    def close(self) -> None:
        """Finish: the rest, the footer, the final name."""
        try:
            self.flush()
            self.finish()
        except OSError as fault:
            raise EMindError(f"{self.path}: cannot be written ({fault.strerror})") from None

    def finish(self) -> None:
        """The footer and the final name, without what is pending."""
        self._file.seek(self.size)
        self._file.truncate(self.size)  # room was kept for the footer
        self._file.write(footer_bytes(self._template, self._groups))
        os.fsync(self._file.fileno())
        os.replace(self.part, self.path)
        self._file.close()
        sync_folder(self.path.parent)

    def descriptor(self) -> int:
        """The open file, as a descriptor of the caller's own: for forcing it to the disk from another thread."""
        return os.dup(self._file.fileno())

    def abort(self) -> None:
        """Remove what was written."""
        if not self._file.closed:
            self.part.unlink(missing_ok=True)
            self._file.close()

    def leave(self) -> None:
        """Let go of the file as it is, under its temporary name, for ``Reader`` and ``recover``."""
        self._file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind, fault, trace) -> None:
        try:
            if kind is None:
                self.close()
                return
        finally:
            self.abort()
        if isinstance(fault, OSError):
            raise EMindError(f"{self.path}: cannot be written ({fault.strerror})") from None

    def _clear(self) -> None:
        self._filled = 0
        self._starts: list[np.ndarray] = []
        self._labels: dict[str, list] = {name: [] for name in LABELS}

    def _begin(self) -> None:
        self._template, _, _ = self._plain_parquet(0)
        opening = encode_struct({**self._template, 4: (LIST, (STRUCT, []))})
        self._file.write(MAGIC + OPENING.pack(OPENING_MAGIC, len(opening), zlib.crc32(opening)) + opening)
        self.size = self._file.tell()
        self._keep_room()

    def _plain_parquet(self, rows: int) -> tuple[Struct, Struct, bytes]:
        """The labels as pyarrow writes them beside empty samples: footer, the description of ``iq``, the bytes."""
        table = pa.table([pa.array([[]] * max(rows, 1), self._schema.field(IQ).type)] + [
            pa.array(self._labels[name] if rows else [None], self._schema.field(name).type) for name in LABELS
        ], schema=self._schema)
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd", compression_level=3, row_group_size=max(rows, 1),
                       write_page_checksum=True)
        data = out.getvalue()
        footer = parse_footer(data)
        return footer, footer[4][1][1][0][1][1][1][0], data

    def _write_group(self, begin: int) -> None:
        starts = np.concatenate(self._starts)
        footer, chunk, data = self._plain_parquet(len(starts))
        body, plain, codec = self._encoded(self._values[: self._filled])
        page = iq_page.encode_page(body, plain, starts, self._filled, codec)
        padding = -(begin + FRAME.size + len(page.head)) % iq_page.ALIGNMENT
        place = begin + FRAME.size + padding
        group = footer[4][1][1][0]
        old = chunk[3][1]
        rest = len(MAGIC) + old[7][1]  # where the labels begin in what pyarrow wrote: iq is the first column
        label_bytes = data[rest : len(data) - 8 - int.from_bytes(data[-8:-4], "little")]
        chunks = group[1][1][1]
        chunks[0] = iq_page.column_chunk(chunk, page, place, codec)
        for one in chunks[1:]:
            _move(one, place + page.size - rest)
        total = sum(one[3][1][6][1] for one in chunks)
        group |= {2: (I64, total), 5: (I64, place), 6: (I64, page.size + len(label_bytes))}
        group.pop(7, None)
        if len(self._groups) < 1 << 15:
            group[7] = (I16, len(self._groups))
        description = encode_struct(group)
        head = FRAME.pack(FRAME_MAGIC, padding, page.size + len(label_bytes), len(description),
                           zlib.crc32(description))
        self._file.seek(begin)
        for part in (head + bytes(padding) + page.head, page.body, label_bytes + description):
            self._file.write(part)
        size = self._file.tell()
        self._groups.append(group)
        self._described += len(description)
        self.size = size
        try:
            self._keep_room()
            if self._durable:
                sync_data(self._file)
        except OSError:
            self._groups.pop()
            self._described -= len(description)
            self.size = begin
            raise

    def _keep_room(self) -> None:
        """Claim the space that the footer will take, so that a disk that fills up cannot keep it from being written."""
        keep_room(self._file, self.size, self._described + FOOTER_SLACK)

    def _encoded(self, samples: np.ndarray) -> tuple[memoryview | bytes, int, int]:
        """The samples as stored, their size without compression, the compression."""
        if self._format == FLOAT32:
            return memoryview(samples.view(np.uint8)), samples.nbytes, iq_page.UNCOMPRESSED
        whole = to_steps(samples.view(np.float32), self._scale, self.path)
        wide = whole.astype(np.int32)  # Parquet has no narrower numbers; the compression takes the zeros out again
        return pa.Codec("zstd", compression_level=1).compress(wide, asbytes=True), wide.nbytes, iq_page.ZSTD


def _column(name: str, value: Any, rows: int) -> list:
    """A label of each row."""
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) != rows:
            raise EMindError(f"{len(value)} values of {name} for {rows} rows")
        return [checked_label(name, one) for one in value]
    return [checked_label(name, value)] * rows


def _move(chunk: Struct, by: int) -> None:
    """Moves the places that the description of a column chunk names."""
    for fields, numbers in ((chunk, (2,)), (chunk[3][1], (9, 10, 11))):
        for number in numbers:
            if number in fields and fields[number][1]:
                fields[number] = (I64, fields[number][1] + by)
