"""Pickles that hold nothing but numpy arrays of numbers in dicts, lists and tuples.

A pickle is a program. This reader knows no functions: the three names that numpy writes are answered by stand-ins
that only store their arguments, any other name refuses the file before anything is called, and arrays are made from
the stored bytes afterwards, when type, shape and length fit. numpy itself never sees what the file says of a dtype.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from emind.contract.errors import EMindError

from .source import foreign

MODULES = {  # numpy's names since 1, and since 2
    "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"), "ndarray": ("numpy",), "dtype": ("numpy",),
}  # fmt: skip
TYPES = {f"{kind}{size}" for kind, sizes in {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "c": (8, 16)}.items()
         for size in sizes}  # fmt: skip
DEPTH = 12  # of containers in each other; the sets have five


class Refused(pickle.UnpicklingError):
    """What the pickle asks for is not an array of numbers."""


class Name:
    """One of numpy's names. Called, it gives what stores the arguments; it cannot be changed."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: Any) -> Dtype | Array:
        if self._name == "dtype":
            return Dtype(arguments)
        if self._name == "_reconstruct":
            return Array()
        raise Refused("calls numpy.ndarray")

    def __setstate__(self, state: Any) -> None:
        raise Refused(f"changes numpy's {self._name}")


class Dtype:
    """Arguments of numpy.dtype and its state, as stored."""

    __slots__ = ("code", "order")

    def __init__(self, arguments: tuple) -> None:
        self.code, self.order = arguments[0] if arguments else None, "|"

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, item size, alignment, flags): plain numbers have none of them
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise Refused("an array of records")
        self.order = state[1]

    def numpy(self) -> np.dtype:
        code = self.code.decode("latin1") if isinstance(self.code, bytes) else self.code
        order = self.order.decode("latin1") if isinstance(self.order, bytes) else self.order
        if not isinstance(code, str) or code not in TYPES or order not in ("<", ">", "|", "="):
            raise Refused(f"an array of {code!r}, which is not a plain number")
        return np.dtype(order.replace("|", "=") + code)


class Array:
    """State of an array, as stored."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def numpy(self) -> np.ndarray:
        state = self._state
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused("an array without its state")
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, Dtype):
            raise Refused("an array without a type")
        made = dtype.numpy()
        if isinstance(data, str):
            data = data.encode("latin1")  # as Python 2 wrote bytes
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 8:
            raise Refused("an array with an impossible shape")
        if not isinstance(data, bytes) or len(data) != math.prod(shape) * made.itemsize:
            raise Refused("an array whose bytes do not fill its shape")
        return np.frombuffer(data, made).reshape(shape, order="F" if fortran else "C")


class ArraysOnly(pickle.Unpickler):
    """Knows three names of numpy, none of which runs anything."""

    def find_class(self, module: str, name: str) -> Name:
        if module not in MODULES.get(name, ()):
            raise Refused(f"names {module}.{name}")
        return Name(name)

    def persistent_load(self, pid: Any) -> None:
        raise Refused("refers to something outside of the file")


def _plain(value: Any, made: dict[int, Any], depth: int = 0) -> Any:
    """The value with stand-ins replaced by arrays; Refused for anything that is not data.

    ``made``: id -> what a value became, so that what is shared stays shared and cannot grow without bound.
    """
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return value
    if id(value) in made:
        return made[id(value)]
    if depth > DEPTH:
        raise Refused("containers nested too deeply")
    if isinstance(value, Array):
        out = value.numpy()
    elif isinstance(value, dict):
        out = {_plain(key, made, depth + 1): _plain(part, made, depth + 1) for key, part in value.items()}
    elif isinstance(value, list):
        out = [_plain(part, made, depth + 1) for part in value]
    elif isinstance(value, tuple):
        out = tuple(_plain(part, made, depth + 1) for part in value)
    else:
        raise Refused(f"holds a {type(value).__name__}")
    made[id(value)] = out
    return out


def load(path: Path) -> Any:
    """What the file holds, with text of Python 2 as latin 1. EMindError where it is not only arrays, or damaged.

    A pickle has no index: all of it is in memory together.
    """
    try:
        with path.open("rb") as file:
            held = ArraysOnly(file, encoding="latin1").load()
        return _plain(held, {})
    except Refused as fault:
        raise foreign(path, f"refused, nothing of it was run: a pickle of arrays of numbers is expected, "
                            f"but this one {_said(fault)}") from None
    except OSError as fault:
        raise foreign(path, f"cannot be read ({fault.strerror})") from None
    except EMindError:
        raise
    except Exception as fault:  # damaged bytes make the unpickler raise nearly anything
        raise foreign(path, f"not a readable pickle, or cut short ({type(fault).__name__}: {fault})") from None


def _said(fault: Refused) -> str:
    text = str(fault)
    return text if text.split(" ", 1)[0] in ("names", "calls", "changes", "holds", "refers") else f"has {text}"
