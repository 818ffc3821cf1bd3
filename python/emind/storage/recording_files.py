"""The files of one recording: Parquet, SigMF or both, a new one by size or time, named when finished."""

from __future__ import annotations

import glob
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.errors import EMindError, UsageError
from .part_file import FLOAT32, FULL_SCALE, PART
from .recording import DATA_SUFFIX

PARQUET, SIGMF, BOTH = "parquet", "sigmf", "both"
FILE_FORMATS = (PARQUET, SIGMF, BOTH)
PARQUET_SUFFIX = ".parquet"
ORIGIN = "gr-emind recorder"


@dataclass(frozen=True)
class Stretch:
    """Where the samples come from: rate and centre in Hz, None where unknown, and the time of the first, if known."""

    rate: float | None = None
    freq: float | None = None
    time: datetime | None = None


class RecordingFiles:
    """Writes rows of samples to ``<base>-<UTC time>-<number>``, with the suffixes of the formats.

    Parameters
    ----------
    base: folder and beginning of the names
    file_format: ``parquet``, ``sigmf`` or ``both``
    rotate_bytes, rotate_s: a file that has this many bytes, or holds this many seconds, is finished; 0: no limit
    iq_format, scale: as for ``parquet.Writer``
    now: the time, in seconds since 1970

    Raises
    ------
    EMindError or UsageError: parameters that cannot work, a folder that cannot be written
    OSError: the disk is full; :meth:`end` then finishes what was written until then
    """

    def __init__(
        self, base: str | Path, *, file_format: str = PARQUET, rotate_bytes: float = 0, rotate_s: float = 0,
        iq_format: str = FLOAT32, scale: float = FULL_SCALE, row_group_bytes: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        if file_format not in FILE_FORMATS:
            raise UsageError(f"unknown file_format {file_format!r}: use {', '.join(FILE_FORMATS)}")
        self.base = Path(base)
        check_target(self.base)
        self.files: list[Path] = []  # finished
        self.written = 0  # samples that are in a file, readable whatever happens
        self.rows = self._rows_before = 0  # the latter: ahead of the open file
        self._rotate_bytes, self._rotate_s, self._now = rotate_bytes, rotate_s, now
        self._formats = {PARQUET, SIGMF} if file_format == BOTH else {file_format}
        self._common = {"iq_format": iq_format, "scale": scale}
        self._parquet_only = {} if row_group_bytes is None else {"row_group_bytes": row_group_bytes}
        self._syncing: threading.Thread | None = None
        self._stretch = Stretch()
        self._number = 0
        self._parquet: Any = None
        self._sigmf: Any = None
        self._samples = self._flushed = 0  # of the open files: taken, and counted in ``written``
        self._since = 0  # samples since the stretch began
        self._opened = 0.0
        self.started = datetime.fromtimestamp(now(), timezone.utc)
        self._load()

    def recover(self) -> list[str]:
        """Finishes what recordings of this ``base`` left because they were killed; a line on each file.

        Files that another process is writing stay as they are.
        """
        said = []
        for part in sorted(self.base.parent.glob(f"{glob.escape(self.base.name)}-*{PART}")):
            if not part.name.endswith((PARQUET_SUFFIX + PART, DATA_SUFFIX + PART)):
                continue  # metadata: finished with its data
            try:
                found = recover_file(part)
                said.append(f"{part}: an earlier recording left it; " + (
                    f"finished as {found.name}" if found else "it held nothing and is removed"))
            except EMindError as fault:
                said.append(str(fault))
        return said

    @property
    def size(self) -> int:
        """Bytes of the open files, with what is pending."""
        parquet = self._parquet.size + 8 * self._parquet.pending if self._parquet else 0
        return parquet + (self._sigmf.size if self._sigmf else 0)

    def set_stretch(self, stretch: Stretch) -> None:
        """The next sample does not continue the last one, or rate, centre or time have become known."""
        if self._sigmf and stretch.rate != self._stretch.rate:
            self.rotate()  # a SigMF recording has one rate
        self._stretch, self._since = stretch, 0
        if self._sigmf:
            self._sigmf.capture(stretch.freq, _iso(stretch.time))

    def write(self, rows: np.ndarray, labels: dict[str, Any]) -> None:
        """Append rows (n, samples) with these labels, one value for all or a list of one each; ``sampling_rate`` is
        the stretch's unless they say."""
        done = 0
        while done < len(rows):
            if self._is_full():
                self.rotate()
            if self._parquet is None and self._sigmf is None:
                self._open()
            count = self._rows_that_fit(rows.shape[1], len(rows) - done)
            self._write(rows[done : done + count], {
                name: value[done : done + count] if isinstance(value, list) else value
                for name, value in labels.items()})
            done += count

    def _write(self, rows: np.ndarray, labels: dict[str, Any]) -> None:
        if self._stretch.rate is not None:
            labels = {"sampling_rate": self._stretch.rate, **labels}
        if self._sigmf:
            self._sigmf.write(rows, {name: _mean(name, value) if isinstance(value, list) else value
                                     for name, value in labels.items()}, join=True)
        if self._parquet:
            self._parquet.write_block(rows, **labels)
        self._samples += rows.size
        self._since += rows.size
        self.rows += len(rows)
        self._count()

    def flush(self) -> None:
        """What was taken is in the files."""
        if self._parquet:
            self._parquet.flush()
        if self._sigmf:
            self._sigmf.flush()
        self._count()

    def sync(self) -> None:
        """Begin to force what is in the files to the disk, for power failures; does not wait for it.

        Waiting after each row group would halve the speed. What goes wrong shows when the file is finished.
        """
        if self._syncing is not None and self._syncing.is_alive():
            return
        descriptors = [writer.descriptor() for writer in (self._parquet, self._sigmf) if writer is not None]
        if descriptors:
            self._syncing = threading.Thread(target=_sync, args=(descriptors,), name="emind-sync", daemon=True)
            self._syncing.start()

    def rotate(self) -> None:
        """Finish the open files; the next sample goes into new ones."""
        self.flush()
        for name in ("_sigmf", "_parquet"):
            writer = getattr(self, name)
            if writer is not None:
                writer.finish()
                setattr(self, name, None)
                self.files.append(writer.path)
        self._samples = self._flushed = 0

    def end(self) -> None:
        """Finish what is in the files and drop what is pending: for a disk that is full."""
        parquet, sigmf = self._parquet, self._sigmf
        self._parquet = self._sigmf = None
        if parquet:
            parquet.discard()
        if sigmf:
            sigmf.cut()
        held = parquet.samples if parquet else sigmf.count if sigmf else 0
        self.written += held - self._flushed
        if parquet:
            self.rows = self._rows_before + parquet.count
        self._samples = self._flushed = 0
        faults = []
        for writer in filter(None, (parquet, sigmf)):
            if writer.count == 0:
                writer.abort()
                continue
            try:
                writer.finish()
                self.files.append(writer.path)
            except OSError as fault:  # even the end does not fit: recover_file() finds all that was finished
                writer.leave()
                faults.append(fault.strerror)
        if faults:
            raise EMindError(f"{self.base}: unfinished files are left ({faults[0]}); `emind record --recover` "
                             "finishes them")

    def close(self) -> None:
        """Finish. EMindError where the disk is full; what was written until then is finished all the same."""
        self.rotate()

    def _rows_that_fit(self, length: int, rows: int) -> int:
        """Of so many rows, those that come before the next file; at least one."""
        if self._rotate_bytes:
            rows = min(rows, math.ceil((self._rotate_bytes - self.size) / (8 * length)))
        if self._rotate_s and self._stretch.rate:
            rows = min(rows, math.ceil((self._rotate_s * self._stretch.rate - self._samples) / length))
        return max(1, rows)

    def _is_full(self) -> bool:
        if self._rotate_bytes and self.size >= self._rotate_bytes:
            return True
        if not self._rotate_s or not self._samples:
            return False
        rate = self._stretch.rate
        held = self._samples / rate if rate else self._now() - self._opened
        return held >= self._rotate_s

    def _load(self) -> None:
        """The libraries, before anything waits for them."""
        if PARQUET in self._formats:
            from .parquet import Writer

            self._parquet_writer = Writer
        if SIGMF in self._formats:
            from .sigmf_labels import SigmfWriter

            self._sigmf_writer = SigmfWriter

    def _open(self) -> None:
        self._rows_before = self.rows
        self._opened = self._now()
        begun = self._stretch.time
        if begun is None or (self._since and not self._stretch.rate):
            begun = datetime.fromtimestamp(self._opened, timezone.utc)
        elif self._since:
            begun += timedelta(seconds=self._since / self._stretch.rate)
        while True:
            base = self.base.with_name(f"{self.base.name}-{self.started:%Y%m%dT%H%M%SZ}-{self._number:04d}")
            self._number += 1
            if not any(base.parent.glob(glob.escape(base.name) + ".*")):
                break
        self._samples = self._flushed = 0
        if SIGMF in self._formats:
            if not self._stretch.rate:
                raise EMindError(f"{self.base}: SigMF needs a sample rate: set it, or record Parquet")
            self._sigmf = self._sigmf_writer(base, self._stretch.rate, origin=ORIGIN, **self._common)
            self._sigmf.capture(self._stretch.freq, _iso(begun))
            self._sigmf.flush()
        if PARQUET in self._formats:
            self._parquet = self._parquet_writer(base.with_name(base.name + PARQUET_SUFFIX), origin=ORIGIN,
                                                 recorded=_iso(begun), **self._common, **self._parquet_only)

    def _count(self) -> None:
        """Bring ``written`` up to what the files hold. With both formats, what Parquet holds."""
        now = self._parquet.samples if self._parquet else self._sigmf.flushed if self._sigmf else 0
        self.written += now - self._flushed
        self._flushed = now


def check_target(base: str | Path) -> None:
    """EMindError or UsageError where no file of a recording of that name can be made; nothing is left behind."""
    base = Path(base)
    if not base.parent.is_dir():
        raise EMindError(f"{base.parent}: no such folder to record into")
    if not base.name or base.is_dir():
        raise UsageError(f"{base}: is a folder; add the beginning of a file name")
    probe = base.with_name(f".{base.name}.{os.getpid()}.part")  # a question would not know of read-only file systems
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as fault:
        raise EMindError(f"{base.parent}: cannot be recorded into ({fault.strerror}); name another folder, or see to "
                         "its permissions") from None


def recover_file(part: Path) -> Path | None:
    """Finishes one unfinished file. Its new name; None where it held nothing. EMindError says what is wrong."""
    if part.name.endswith(DATA_SUFFIX + PART):
        from .sigmf_labels import recover_sigmf

        return recover_sigmf(part)
    if part.name.endswith(PARQUET_SUFFIX + PART):
        from .parquet import recover

        return recover(part)
    raise UsageError(f"{part}: is not an unfinished recording (*{PARQUET_SUFFIX}{PART}, *{DATA_SUFFIX}{PART})")


def _mean(name: str, values: list[float | None]) -> float | None:
    """One number for several rows: the mean, of decibels that of the ratios."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if name == "snr":
        return round(10 * math.log10(sum(10 ** (value / 10) for value in known) / len(known)), 1)
    return float(f"{sum(known) / len(known):.4g}")


def _sync(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError:  # the writer meets the same fault when it finishes the file
            pass
        finally:
            os.close(descriptor)


def moment(whole: int, fraction: float) -> datetime | None:
    """A receiver's time as a date; None where it cannot be one."""
    try:
        return datetime.fromtimestamp(whole, timezone.utc) + timedelta(seconds=fraction)
    except (OverflowError, ValueError, OSError):
        return None


def _iso(time_: datetime | None) -> str | None:
    return None if time_ is None else time_.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
