"""Files that are written under a temporary name: locked, written whole, forced to the disk; and samples as int16."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..contract.errors import EMindError

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ModuleNotFoundError:  # not on Windows: there nothing keeps two programs from one file
    LOCK_EX = LOCK_NB = 0

    def flock(file, operation: int) -> None:
        pass

PART = ".part"
FLOAT32, INT16 = "float32", "int16"
FULL_SCALE = 1 / 32768  # value of one step of int16, as in ci16 recordings
OFF_GRID = 0.01  # steps that a value may lie beside a whole number: more is no int16 source with that scale


def open_part(part: Path, path: Path) -> WholeWrites:
    """The temporary file of ``path``, empty and locked: it is this process's. EMindError where that cannot be."""
    try:
        file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "r+b", buffering=0)
    except OSError as fault:
        raise EMindError(f"{path}: cannot be written ({fault.strerror})") from None
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except OSError:
        file.close()
        raise EMindError(f"{path}: another process is writing it") from None
    file.truncate(0)
    return WholeWrites(file)


class WholeWrites:
    """A file whose ``write`` writes all that it is given: the system may take less, just before a disk is full."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.seek, self.tell, self.truncate, self.fileno, self.close = (
            file.seek, file.tell, file.truncate, file.fileno, file.close)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]


@contextmanager
def file_lock(part: Path) -> Iterator[io.BufferedRandom]:
    """An unfinished file that no process writes, open for mending. EMindError where it is missing or being written."""
    try:
        file = part.open("r+b")
    except OSError as fault:
        raise EMindError(f"{part}: cannot be mended ({fault.strerror})") from None
    with file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError:
            raise EMindError(f"{part}: another process is still writing it") from None
        yield file


def keep_room(file: WholeWrites, size: int, count: int) -> None:
    """Claims ``count`` bytes behind byte ``size`` of a file. OSError where the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), size, count)


def sync_data(file: WholeWrites) -> None:
    """What was written survives a power failure."""
    getattr(os, "fdatasync", os.fsync)(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes a rename survive a power failure."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_steps(values: np.ndarray, scale: float, path: Path) -> np.ndarray:
    """Whole numbers of steps of ``scale``, as float32. EMindError where a value is none, or needs more than 16 bits."""
    scale = np.float32(scale)
    steps = values / scale
    whole = np.rint(steps)
    good = (np.abs(steps - whole) <= OFF_GRID) & (whole >= -32768) & (whole <= 32767)
    if not good.all():
        bad = values[np.flatnonzero(~good)[0]]
        raise EMindError(f"{path}: {bad:g} is not a whole number of steps of {scale:g} within 16 bits: state the "
                         "source's own scale, or write float32")
    return whole
