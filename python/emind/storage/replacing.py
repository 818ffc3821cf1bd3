"""Output files that appear under their name only when they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..contract.errors import EMindError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder; it takes the name ``path`` when the block ends without a fault.

    EMindError at once when the folder cannot be written, so that nothing long runs in vain.
    """
    path = Path(path)
    if path.is_dir():
        raise EMindError(f"{path}: is a folder; name a file to write")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.open("wb").close()
    except OSError as fault:
        raise EMindError(f"{path}: cannot be written ({fault.strerror})") from None
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
