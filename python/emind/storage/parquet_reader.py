"""Reads signals from Parquet, mapped into memory; mends files whose writer was killed."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..contract.errors import EMindError, UsageError
from ..contract.schema import COLUMNS, IQ, KINDS, LABELS, SCHEMA_VERSION, Signal
from . import iq_page
from .parquet_format import (
    FRAME, FRAME_MAGIC, MAGIC, OPENING, OPENING_MAGIC, PREFIX, footer_bytes)
from .part_file import PART, file_lock, sync_folder
from .thrift import Struct, ThriftReader


@dataclass(frozen=True)
class Block:
    """The samples of one row group: row i is ``iq[starts[i]:starts[i + 1]]``; ``first`` is its first row's number."""

    first: int
    iq: np.ndarray
    starts: np.ndarray
    map: mmap.mmap | None = None  # of the file that ``iq`` is a view of; None where it is a copy

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, index: int) -> np.ndarray:
        return self.iq[self.starts[index] : self.starts[index + 1]]

    def rows(self) -> np.ndarray | None:
        """All rows (rows, samples) without copying, None where their lengths differ."""
        length = int(self.starts[1])
        return self.iq.reshape(-1, length) if np.all(np.diff(self.starts) == length) else None


class Reader:
    """Reads a file of signals. Opening reads the footer only; ``iq`` is read for the rows that are asked for.

    Arrays of samples are views of the file, mapped into memory, where it holds float32 as :class:`Writer` writes it:
    they cannot be written to. Files that other programs wrote with the same columns can be read, more slowly. A
    file ``<name>.parquet.part`` is read up to its last whole row group.

    ``count``: rows. ``metadata``: text by name (``origin``, ``seed``, ``recorded``, ``iq_format`` ...).
    ``finished``: False for a ``.part`` file.

    Raises
    ------
    EMindError: no such file, not Parquet, cut off, other columns, or a newer version
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._map, self._data = _mapped(self.path)
        self.finished = self.path.suffix != PART
        if self.finished:
            _check_ends(self.path, self._data)
            metadata = None
        else:
            template, groups, _ = walk_frames(self.path, self._data)
            whole = MAGIC + footer_bytes(template, groups)
            metadata = pq.read_metadata(pa.BufferReader(whole))
        try:
            self._file = pq.ParquetFile(self.path, metadata=metadata, memory_map=True,
                                        page_checksum_verification=True)
        except (pa.ArrowException, OSError) as fault:
            raise EMindError(f"{self.path}: not readable as Parquet ({_first_line(fault)})") from None
        self.metadata = _metadata(self._file)
        self._check_schema()
        about = self._file.metadata
        self.count = about.num_rows
        self.row_groups = about.num_row_groups
        self._first = np.cumsum([0] + [about.row_group(g).num_rows for g in range(self.row_groups)])
        self._layouts: dict[int, iq_page.PageLayout | None] = {}
        self._last: tuple[int, Block] | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def first_rows(self) -> np.ndarray:
        """Number of each row group's first row, and of all rows, (row groups + 1,)."""
        return self._first

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *fault) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Arrays that were given out stay valid."""
        self._file.close()
        self._last = None

    def table(self, names: Sequence[str] = LABELS, **filters: Any) -> pa.Table:
        """Columns as an Arrow table. Filters: see :meth:`where`."""
        for name in names:
            if name not in COLUMNS:
                raise UsageError(f"{self.path}: there is no column {name!r}; known: {', '.join(COLUMNS)}")
        table = self._read(list(names))
        return table.take(pa.array(self.where(**filters))) if filters else table

    def columns(self, names: Sequence[str] = LABELS, group: int | None = None) -> dict[str, np.ndarray]:
        """Columns other than ``iq``, each an array of all rows, or of the rows of one row group.

        Text gives objects (str or None), numbers float64 with nan for null.
        """
        if IQ in names:
            raise UsageError("columns() gives labels; iterate or use blocks() for iq")
        table = self.table(names) if group is None else self._read(list(names), group)
        try:
            return {name: _values(table.column(name), KINDS[name]) for name in names}
        except (pa.ArrowException, ValueError, IndexError) as fault:
            raise EMindError(f"{self.path}: the columns cannot be read ({_first_line(fault)})") from None

    def where(self, **filters: Any) -> np.ndarray:
        """Numbers of the rows whose labels are as asked, without reading ``iq``.

        A filter is a value, a collection of values, None for null, or a function of the column's array that gives
        an array of bool: ``where(modulation={"QPSK", "8PSK"}, snr=lambda db: db >= 0)``.
        """
        chosen = np.ones(self.count, bool)
        for name, column in self.columns(list(filters)).items():
            chosen &= _matches(column, filters[name])
        return np.flatnonzero(chosen)

    def lengths(self) -> np.ndarray:
        """Samples of each row, (count,); of files written here without reading the samples."""
        return np.concatenate([np.zeros(0, np.int64)] + [np.diff(self._starts(g)) for g in range(self.row_groups)])

    def iq(self, row: int) -> np.ndarray:
        """Samples of one row, complex64 (n,)."""
        if not -self.count <= row < self.count:
            raise IndexError(f"{self.path}: row {row} of {self.count}")
        row %= self.count
        group = int(np.searchsorted(self._first, row, "right")) - 1
        return self.block(group).row(row - int(self._first[group]))

    def __getitem__(self, row: int) -> Signal:
        samples = self.iq(row)
        row %= self.count
        return Signal(samples, **{name: self._labels[name][row].as_py() for name in LABELS})

    def __iter__(self) -> Iterator[Signal]:
        for group in range(self.row_groups):
            block = self.block(group)
            try:
                labels = self._file.read_row_group(group, columns=list(LABELS), use_threads=False).to_pylist()
            except (pa.ArrowException, OSError, ValueError, IndexError) as fault:
                raise EMindError(f"{self.path}: row group {group} cannot be read ({_first_line(fault)})") from None
            for index, fields in enumerate(labels):
                yield Signal(block.row(index), **fields)

    def blocks(self) -> Iterator[Block]:
        """The samples of one row group after another."""
        for group in range(self.row_groups):
            yield self.block(group)

    def block(self, group: int) -> Block:
        """The samples of a row group."""
        if self._last is not None and self._last[0] == group:
            return self._last[1]
        layout = self._layout(group)
        if layout is None:
            iq, starts = self._decoded(group)
        else:
            starts = layout.starts
            iq = self._samples(group, layout)
        mapped = layout is not None and not layout.compressed and self._scale is None
        block = Block(int(self._first[group]), iq, starts, self._map if mapped else None)
        self._last = group, block
        return block

    def verify(self) -> None:
        """Compare the samples with their checksums: EMindError names the row group that is damaged."""
        for group in range(self.row_groups):
            layout = self._layout(group)
            if layout is not None and iq_page.has_faults(self._data, layout):
                raise EMindError(f"{self.path}: row group {group} (rows {self._first[group]} to "
                                 f"{self._first[group + 1] - 1}) is damaged: its checksum is another")

    @cached_property
    def _labels(self) -> dict[str, pa.Array]:
        table = self._read(list(LABELS)).combine_chunks()
        return {name: table.column(name).chunk(0) if self.count else table.column(name) for name in LABELS}

    def _read(self, names: list[str], group: int | None = None) -> pa.Table:
        try:
            if group is not None:
                return self._file.read_row_group(group, columns=names, use_threads=False)
            return self._file.read(columns=names, use_threads=False)
        except (pa.ArrowException, OSError) as fault:
            raise EMindError(f"{self.path}: the columns cannot be read ({_first_line(fault)})") from None

    def _check_schema(self) -> None:
        schema = self._file.schema_arrow
        missing = [name for name in COLUMNS if name not in schema.names]
        if missing:
            raise EMindError(f"{self.path}: is Parquet, but not a set of signals: it has no column {missing[0]!r}")
        version = self.metadata.get("schema_version", str(SCHEMA_VERSION))
        if version != str(SCHEMA_VERSION):
            raise EMindError(f"{self.path}: has version {version} of the schema, and this program knows version "
                             f"{SCHEMA_VERSION}: a newer gr-emind wrote it")
        number = schema.field(IQ).type
        while pa.types.is_list(number) or pa.types.is_large_list(number) or pa.types.is_fixed_size_list(number):
            number = number.value_type
        if not pa.types.is_primitive(number):
            raise EMindError(f"{self.path}: column iq holds {schema.field(IQ).type} and not a list of [I, Q]")
        whole = pa.types.is_integer(number)
        scale = self.metadata.get("iq_scale")
        if whole and scale is None:
            raise EMindError(f"{self.path}: holds whole numbers as iq, but its metadata has no {PREFIX}iq_scale")
        self._scale = np.float32(scale) if whole else None

    def _layout(self, group: int) -> iq_page.PageLayout | None:
        if group not in self._layouts:
            about = self._file.metadata.row_group(group)
            column = about.column(0)
            layout = None
            if column.path_in_schema.split(".")[0] == IQ:
                try:
                    layout = iq_page.find_page(self._data, column.data_page_offset, column.total_compressed_size,
                                               about.num_rows)
                except (ValueError, KeyError, IndexError) as fault:
                    raise EMindError(f"{self.path}: row group {group} is damaged ({fault})") from None
            self._layouts[group] = layout
        return self._layouts[group]

    def _starts(self, group: int) -> np.ndarray:
        layout = self._layout(group)
        return self.block(group).starts if layout is None else layout.starts

    def _samples(self, group: int, layout: iq_page.PageLayout) -> np.ndarray:
        if self._scale is None and not layout.compressed:
            return np.frombuffer(self._data, np.complex64, layout.body_bytes // 8, layout.body)
        body: Any = self._data[layout.body : layout.body + layout.body_bytes]
        if layout.compressed:
            try:
                body = pa.decompress(body, layout.plain_bytes, "zstd")
            except (pa.ArrowException, OSError) as fault:
                raise EMindError(f"{self.path}: row group {group} is damaged ({_first_line(fault)})") from None
        if self._scale is None:
            return np.frombuffer(body, np.complex64)
        values = np.frombuffer(body, np.int32).astype(np.float32)
        values *= self._scale
        return values.view(np.complex64)

    def _decoded(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples and rows' starts, by pyarrow: for files that other programs wrote."""
        try:
            column = self._file.read_row_group(group, columns=[IQ], use_threads=False).column(0).combine_chunks()
        except (pa.ArrowException, OSError) as fault:
            raise EMindError(f"{self.path}: row group {group} cannot be read ({_first_line(fault)})") from None
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        lengths = column.value_lengths()
        pairs = column.flatten()
        nested = not pa.types.is_primitive(pairs.type)
        numbers = pairs.flatten() if nested else pairs
        lengths = lengths.to_numpy(zero_copy_only=False)
        if column.null_count or numbers.null_count or len(numbers) != lengths.sum() * (2 if nested else 1):
            raise EMindError(f"{self.path}: column iq of row group {group} is not a list of [I, Q] in every row")
        values = numbers.to_numpy(zero_copy_only=False).astype(np.float32)
        if self._scale is not None:
            values *= self._scale
        starts = np.append(0, np.cumsum(lengths if nested else lengths // 2))
        return np.ascontiguousarray(values).view(np.complex64), starts


def recover(path: str | Path) -> Path | None:
    """Finishes a file whose writer was killed: footer and final name. The new path, None where no row group is whole.

    A row group whose bytes are not those that were written ends the file before it. EMindError where another
    process still writes it, or the finished name is taken.
    """
    path = Path(path)
    if path.suffix != PART:
        raise UsageError(f"{path}: only unfinished files (*{PART}) can be mended")
    final = path.with_suffix("")
    map_, data = _mapped(path)
    with file_lock(path) as file:
        template, groups, ends = walk_frames(path, data, check=True)
        if not groups:
            path.unlink()
            return None
        if final.exists():
            raise EMindError(f"{final}: exists already; move it away to finish {path.name}")
        try:
            file.truncate(ends)
            file.seek(ends)
            file.write(footer_bytes(template, groups))
            file.flush()
            os.fsync(file.fileno())
            os.rename(path, final)
        except OSError as fault:
            raise EMindError(f"{path}: cannot be finished ({fault.strerror}); its row groups stay readable") from None
    sync_folder(final.parent)
    return final


def walk_frames(path: Path, data: memoryview, check: bool = False) -> tuple[Struct, list[Struct], int]:
    """The footer's frame, the descriptions of all whole row groups, and where the last one ends.

    ``check``: compare the samples with their checksums, and end before the first that differ.
    """
    start = len(MAGIC) + OPENING.size
    if len(data) < start or bytes(data[: len(MAGIC)]) != MAGIC:
        raise EMindError(f"{path}: is not an unfinished file of signals, or was left before its first byte")
    magic, size, crc = OPENING.unpack_from(data, len(MAGIC))
    opening = data[start : start + size]
    if magic != OPENING_MAGIC or len(opening) < size or zlib.crc32(opening) != crc:
        raise EMindError(f"{path}: its opening is damaged or was not written by this program")
    template = ThriftReader(opening).struct()
    groups: list[Struct] = []
    end = start + size
    while end + FRAME.size <= len(data):
        magic, padding, body, described, crc = FRAME.unpack_from(data, end)
        begin = end + FRAME.size + padding
        after = begin + body + described
        if magic != FRAME_MAGIC or after > len(data) or zlib.crc32(data[begin + body : after]) != crc:
            break
        group = ThriftReader(data[begin + body : after]).struct()
        if check:
            column = group[1][1][1][0][3][1]
            layout = iq_page.find_page(data, column[9][1], column[7][1], group[3][1])
            if layout is None or iq_page.has_faults(data, layout):
                break
        groups.append(group)
        end = after
    return template, groups, end


def _mapped(path: Path) -> tuple[mmap.mmap | None, memoryview]:
    if path.is_dir():
        raise EMindError(f"{path}: is a folder, not a file of signals")
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise EMindError(f"{path}: is empty")
            map_ = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as fault:
        raise EMindError(f"{path}: {'no such file' if isinstance(fault, FileNotFoundError) else fault.strerror}") \
            from None
    return map_, memoryview(map_)


def _check_ends(path: Path, data: memoryview) -> None:
    """EMindError where the file is not Parquet or was cut off."""
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise EMindError(f"{path}: is not Parquet (it does not begin with {MAGIC.decode()})")
    size = int.from_bytes(data[-8:-4], "little")
    if len(data) < 12 or bytes(data[-len(MAGIC) :]) != MAGIC or size > len(data) - 12:
        raise EMindError(f"{path}: was cut off after {len(data)} bytes: its footer is missing")


def _metadata(file: pq.ParquetFile) -> dict[str, str]:
    pairs = file.metadata.metadata or {}
    return {key.decode().removeprefix(PREFIX): value.decode(errors="replace") for key, value in pairs.items()
            if key.decode(errors="replace").startswith(PREFIX)}


def _values(column: pa.ChunkedArray, kind: str) -> np.ndarray:
    if kind != "text":
        return column.cast(pa.float64()).to_numpy()  # null becomes nan
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    parts = [np.zeros(0, object)]
    for chunk in column.chunks:
        known = np.array([*chunk.dictionary.to_pylist(), None], object)
        codes = chunk.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)
        parts.append(known[codes])
    return np.concatenate(parts)


def _matches(column: np.ndarray, wanted: Any) -> np.ndarray:
    if isinstance(wanted, Callable):
        return np.asarray(wanted(column), bool)
    if wanted is None:
        return np.array([value is None for value in column], bool) if column.dtype == object else np.isnan(column)
    if isinstance(wanted, Collection) and not isinstance(wanted, str):
        return np.isin(column, list(wanted)) if column.dtype != object else \
            np.array([value in set(wanted) for value in column], bool)
    return np.asarray(column == wanted, bool)


def _first_line(fault: BaseException) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]
