"""What every reader has in common: its description, and errors that name the file and the fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError
from emind.contract.schema import Signal

BLOCK = 4096  # rows, or windows, that are in memory together where the format allows reading in parts


@dataclass(frozen=True)
class Source:
    """One public set. ``read(path, length)`` gives the signals of one file, in the file's order.

    name: as the paper writes it, and what stands in ``dataset_name``
    files: what is given on the command line; files beside them that belong to them are found by name
    certain: whether the layout follows from its publisher's own text or code
    length: samples of a window where recordings are cut, else None: the set has signals of its own
    """

    name: str
    files: str
    certain: bool
    read: Callable[[Path, int | None], Iterator[Signal]]
    length: int | None = None


def foreign(path: Path, fault: str) -> EMindError:
    """The error for a file that is not of the layout, or damaged."""
    return EMindError(f"{path}: {fault}")


def beside(path: Path, name: str) -> Path:
    """A file that belongs to ``path``; EMindError where it is not there."""
    other = path.with_name(name)
    if not other.is_file():
        raise foreign(path, f"belongs together with {name}, which is not beside it")
    return other


def pairs_to_iq(values: np.ndarray) -> np.ndarray:
    """(..., samples, 2) real -> (..., samples) complex64."""
    return np.ascontiguousarray(values, np.float32).view(np.complex64)[..., 0]


def halves_to_iq(i: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Two real arrays of one shape -> complex64 of that shape."""
    out = np.empty(i.shape, np.complex64)
    out.real, out.imag = i, q
    return out


def load_npy(path: Path) -> np.ndarray:
    """An array of a .npy file, mapped, never unpickled."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as fault:
        raise foreign(path, f"not a readable .npy file ({fault})") from None
    if not isinstance(found, np.ndarray):
        raise foreign(path, "not a .npy file of one array")
    return found
