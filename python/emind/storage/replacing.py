"""Output files that appear under their name only when they are complete."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..contract.errors import EMindError

_STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def own(path: str | Path) -> str | Path:
    """The path; of standard output's names the one that it has now: commands leave descriptor 1 to GNU Radio's log."""
    if str(path) not in _STANDARD_OUTPUT:
        return path
    try:
        return f"/dev/fd/{sys.stdout.fileno()}"
    except (AttributeError, OSError, ValueError):  # it has none
        return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder; it takes the name ``path`` when the block ends without a fault.

    EMindError at once when the folder cannot be written, so that nothing long runs in vain, and when the disk is full.
    A device or a pipe (/dev/stdout, /dev/null) is given as it is: a file that took its name would end it.
    """
    path = own(path)
    path = Path(os.path.realpath(path)) if Path(path).is_file() else Path(path)  # a link stays one
    if path.is_dir():
        raise EMindError(f"{path}: is a folder; name a file to write")
    if path.exists() and not path.is_file():
        with _room(path):
            yield path
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.open("wb").close()
    except OSError as fault:
        raise EMindError(f"{path}: cannot be written ({fault.strerror})") from None
    try:
        with _room(path):
            yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _room(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise EMindError(f"{path}: not written ({fault.strerror})") from None
