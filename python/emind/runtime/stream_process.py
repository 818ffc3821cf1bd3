"""A process that infers for an engine in another one: see `engine_processes.py`.

It is started with two file descriptors: a socket for orders, and memory that both sides see. The first order, JSON,
says what to load; the answer, JSON too, what was loaded, and where in the memory windows and answers lie. Each further
order is a number of windows that lie there; the answer is empty, or what went wrong. The process ends when the socket
is closed, however the other side ended.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection

import numpy as np

from .machine import set_aside_what_is_there

MOST = 64  # windows in an order
_ALIGNED = 64  # bytes


@dataclass(frozen=True)
class Layout:
    """Where things lie in the memory: MOST windows of ``length`` complex64 samples, their rates (Hz, float64), and the
    rows of each head, ``heads`` holding names, types and the rows' shapes."""

    length: int
    heads: tuple[tuple[str, str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, length: int, answers: Mapping[str, np.ndarray]) -> Layout:
        """From answers to any number of windows."""
        return cls(length, tuple((name, rows.dtype.str, rows.shape[1:]) for name, rows in answers.items()))

    @classmethod
    def from_dict(cls, fields: dict) -> Layout:
        heads = tuple((name, kind, tuple(shape)) for name, kind, shape in fields["heads"])
        return cls(fields["length"], heads)

    def to_dict(self) -> dict:
        return asdict(self)

    def _parts(self) -> list[tuple[str, np.dtype, tuple[int, ...], int]]:
        """Name, type, shape and first byte of each array; at the end, under no name, the end of all."""
        wanted = [("windows", "<c8", (self.length,)), ("rates", "<f8", ()), *self.heads]
        parts, place = [], 0
        for name, kind, shape in wanted:
            parts.append((name, np.dtype(kind), (MOST, *shape), place))
            size = np.dtype(kind).itemsize * MOST * int(np.prod(shape, dtype=np.int64))
            place += -(-size // _ALIGNED) * _ALIGNED
        return [*parts, ("", np.dtype("u1"), (), place)]

    @property
    def size(self) -> int:
        """Bytes."""
        return self._parts()[-1][-1]

    def arrays(self, memory: mmap.mmap) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Windows, rates, and rows by head, as views."""
        views = [np.ndarray(shape, kind, memory, place) for _, kind, shape, place in self._parts()[:-1]]
        return views[0], views[1], {name: rows for (name, _, _), rows in zip(self.heads, views[2:])}


def main() -> None:
    connection, descriptor = Connection(int(sys.argv[1])), int(sys.argv[2])
    status = 0
    try:
        order = json.loads(connection.recv_bytes())
        engine, layout = _loaded(connection, order)
        if engine is not None:
            try:
                os.ftruncate(descriptor, layout.size)
                memory = mmap.mmap(descriptor, layout.size)
            except OSError as fault:
                _refuse(connection, f"no memory to share with a process for inference: {fault.strerror or fault}")
            else:
                gc.collect()
                set_aside_what_is_there()
                _tell(connection, engine, layout)
                _serve(connection, engine, layout.arrays(memory))
    except (EOFError, ConnectionError):
        pass
    except BaseException:
        status = 1
        traceback.print_exc()
    finally:
        # What the interpreter would do first, such as to give back the memory that arrays still look at, is for others.
        os._exit(status)


def _refuse(connection: Connection, fault: str, usage: bool = False) -> None:
    connection.send_bytes(json.dumps({"error": fault, "usage": usage}).encode())


def _loaded(connection: Connection, order: dict):
    """Engine and layout; none where the weights cannot be used, which is told."""
    from ..contract.errors import EMindError, UsageError

    try:
        from .engine import load_engine
        from .header import heads_for

        heads = heads_for(order["weights"], order["heads"], order["streams"])
        engine = load_engine(order["weights"], order["backend"], order["threads"], heads)
        # Each size once: what is compiled or allocated for it is not to wait for the first real windows.
        engine.warm_up(order["warm_up"])
        for count in range(1, order["warm_up"] + 1):
            windows = np.random.default_rng(count).standard_normal((count, 2 * engine.spec.length), np.float32)
            answers = engine.infer(windows.view(np.complex64), np.full(count, np.nan))
    except Exception as error:  # whatever is wrong: the other side says it
        fault = str(error) if isinstance(error, EMindError) else f"{type(error).__name__}: {error}"
        _refuse(connection, fault, isinstance(error, UsageError))
        return None, None
    return engine, Layout.of(engine.spec.length, answers)


def _tell(connection: Connection, engine, layout: Layout) -> None:
    from .engine_remote import described

    report = {**json.loads(described(engine)), "header": engine.header, "layout": layout.to_dict()}
    connection.send_bytes(json.dumps(report).encode())


def _serve(connection: Connection, engine, arrays) -> None:
    windows, rates, answers = arrays
    while True:
        count = int.from_bytes(connection.recv_bytes(), "little")
        fault = b""
        try:
            if not 1 <= count <= MOST:
                raise ValueError(f"{count} windows in an order")
            for name, rows in engine.infer(windows[:count], rates[:count]).items():
                answers[name][:count] = rows
        except Exception as error:  # whatever the engine's fault: the other side hears of it
            fault = f"{type(error).__name__}: {error}".encode() or b"?"
        connection.send_bytes(fault)


if __name__ == "__main__":
    main()
