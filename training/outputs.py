"""What a command is to write is looked at before it computes for hours, not behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

from emind.contract.errors import EMindError, UsageError

SUFFIX = ".safetensors"


def weights_file(out: Path, option: str = "--out") -> Path:
    """A weights file that can be written at ``out``; its folder is made.

    Raises
    ------
    UsageError: another ending than .safetensors, or the name of a folder
    EMindError: the folder cannot be made or written into
    """
    if out.suffix != SUFFIX:
        raise UsageError(f"{option} {out}: the name must end in {SUFFIX}")
    if out.is_dir():
        raise UsageError(f"{option} {out}: is a folder; name a file")
    writable(out.parent, option)
    return out


def writable(folder: Path, option: str = "--out") -> Path:
    """The folder, made where it is not there. EMindError where no file can be put into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # rights and a read-only disk show when one writes, not before
            pass
    except OSError as fault:
        raise EMindError(f"{option}: nothing can be written into {folder} ({told(fault)}); name another") from None
    return folder


def told(fault: OSError) -> str:
    """What went wrong, in one line, without the error's number."""
    return fault.strerror or str(fault) or type(fault).__name__
