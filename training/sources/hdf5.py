"""HDF5 and MATLAB files: opened with errors that name the file, read in parts where the format allows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError

from .source import foreign

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MATLAB_HEADER = 512  # bytes of MATLAB's own before the HDF5 of a version 7.3 file


@contextmanager
def open_hdf5(path: Path) -> Iterator:
    """The open h5py file; EMindError also for what breaks while it is read."""
    try:
        import h5py
    except ImportError:
        raise EMindError("reading HDF5 needs h5py; install it with: pip install 'gr-emind[train]'") from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as fault:
        raise foreign(path, f"not a readable HDF5 file, or cut short ({type(fault).__name__}: {fault})") from None


def dataset(file, path: Path, name: str):
    """The dataset of that name; EMindError where there is none or it lies in another file."""
    import h5py

    # an external or soft link would read another file than the one the user named
    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise foreign(path, f"has no dataset {name!r}; it has: {', '.join(list(file)[:8]) or 'none'}")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise foreign(path, f"{name!r} is not a dataset within the file")
    return found


def is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(MATLAB_HEADER + len(SIGNATURE))
    except OSError as fault:
        raise foreign(path, f"cannot be read ({fault.strerror})") from None
    return head.startswith(SIGNATURE) or head[MATLAB_HEADER:].startswith(SIGNATURE)


@contextmanager
def open_mat(path: Path, names: tuple[str, ...]) -> Iterator[dict]:
    """Variable -> its vector, which can be sliced, of a MATLAB file of any version; those not there are left out.

    Version 7.3 is HDF5 and is read in parts; older ones are in memory as a whole.
    """
    if is_hdf5(path):
        with open_hdf5(path) as file:
            yield {name: Vector(path, name, dataset(file, path, name)) for name in names if name in file}
        return
    from scipy.io import loadmat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # scipy only warns of files it reads wrongly
            held = loadmat(path, variable_names=names)
    except Exception as fault:  # damaged bytes make scipy raise nearly anything
        raise foreign(path, f"not a readable MATLAB file, or cut short ({type(fault).__name__}: {fault})") from None
    yield {name: Vector(path, name, np.asarray(held[name])) for name in names if name in held}


class Vector:
    """A MATLAB vector, 1 x n or n x 1, in memory or in a file. EMindError where it is a matrix or no numbers."""

    def __init__(self, path: Path, name: str, held) -> None:
        shape = held.shape
        if held.dtype.kind not in "fiu" or len(shape) > 2 or (len(shape) == 2 and min(shape) > 1):
            raise foreign(path, f"{name} is not a vector of numbers ({held.dtype}, {'x'.join(map(str, shape))})")
        self._held, self._long = held, int(np.argmax(shape)) if shape else 0
        self.size = int(np.prod(shape, dtype=np.int64))

    def __getitem__(self, part: slice) -> np.ndarray:
        if len(self._held.shape) < 2:
            return np.asarray(self._held[part])
        return np.asarray(self._held[part, :] if self._long == 0 else self._held[:, part]).reshape(-1)
