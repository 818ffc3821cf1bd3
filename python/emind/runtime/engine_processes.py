"""An engine whose streams are processes of their own.

Python runs one thread of a process at a time. The blocks of a flowgraph are threads, and so are the streams of the
engines that run in it: all of them would wait for each other, at every operation. In processes of their own streams
wait for nobody:

    infer ──► shared memory ──► stream_process.py ──► load_engine's engine, one thread
          ◄── shared memory ◄──────────────────────────┘

Each takes its share of a batch, or, in a lane of its own, a whole one.

A process that has died, or does not answer for ANSWER_S, is an error for the batch that it had; the next batch finds it
started again.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from ..contract.errors import EMindError, UsageError
from ..contract.window import Domain, HeadSpec, WindowSpec
from .machine import all_cores, available_threads
from .stream_process import MOST, Layout

SMALLEST_SHARE = 2  # windows for which another process pays
LARGEST_WARM_UP = 32  # windows at once that are tried before the stream starts
ANSWER_S, REPORT_S = 20.0, 300.0  # that a process has for a batch, and to load the weights
END_S = 2.0  # that a process has to end by itself
_ROOT = Path(__file__).resolve().parents[len(__package__.split("."))]  # what this package is imported from


class ProcessEngine:
    """Infers in ``processes`` of their own, see above; else as :class:`.engine_base.Engine`.

    Parameters
    ----------
    weights, backend, heads: as of :func:`.engine.load_engine`; ``streams``: heads that make waveforms, besides
    threads: in all, 0: as many as the machine has
    batch: windows that will come at once
    cores: that they run on, one each, in turn; none: wherever the system puts them

    Raises
    ------
    EMindError: weights that cannot be used, or processes that do not start
    """

    def __init__(
        self,
        weights: str | Path,
        backend: str = "auto",
        threads: int = 0,
        batch: int = 32,
        heads: Iterable[str] | None = None,
        streams: Iterable[str] = (),
        processes: int = 1,
        cores: Sequence[int] = (),
    ) -> None:
        if processes < 1:
            raise UsageError(f"{processes} processes cannot infer: at least 1")
        most = available_threads()
        self.threads = min(threads, most) if threads > 0 else most
        processes = min(processes, self.threads)
        warm_up = min(batch, MOST, LARGEST_WARM_UP)  # in a lane it gets a whole batch
        heads, streams = ([names] if isinstance(names, str) else names for names in (heads, streams))
        self._order = {
            "weights": str(weights), "backend": backend, "threads": max(1, self.threads // processes),
            "heads": None if heads is None else list(heads), "streams": list(streams), "warm_up": warm_up,
        }  # fmt: skip
        self._closed = False
        self._locks = [threading.Lock() for _ in range(processes)]  # one batch at a time each
        self._cores = [{cores[place % len(cores)]} if cores else None for place in range(processes)]
        self._streams = [_Stream(self._order, own) for own in self._cores]
        self._finalizer = weakref.finalize(self, _forgotten, self._streams)
        try:
            reports = [stream.report() for stream in self._streams]
        except BaseException:
            self.close()
            raise
        told = reports[0]
        self.spec = WindowSpec.from_dict(told["spec"])
        specs = [HeadSpec.from_dict(fields) for fields in told["heads"]]
        self.heads: dict[str, HeadSpec] = {head.name: head for head in specs}
        self.domains = {name: Domain(**fields) for name, fields in told["domains"].items()}
        self.name, self.backend, self.header = told["name"], told["backend"], told["header"]
        self.weights = str(weights)

    @property
    def processes(self) -> list[int]:
        """Their numbers, as the system has them."""
        return [stream.number for stream in self._streams]

    @property
    def lanes(self) -> int:
        """Batches that can be inferred side by side: one a process."""
        return len(self._streams)

    def infer(self, windows: np.ndarray, rates_hz: np.ndarray, lane: int | None = None) -> dict[str, np.ndarray]:
        """As :meth:`.engine_base.Engine.infer`, by all processes, or in one lane by its own.

        Threads may call it at a time. RuntimeError where a process died or its back end raised.
        """
        if windows.ndim != 2 or windows.shape[1] != self.spec.length:
            raise ValueError(f"windows of shape {windows.shape}; the weights ask for (N, {self.spec.length})")
        places = range(self.lanes) if lane is None else (lane,)
        round_ = MOST * len(places)
        with ExitStack() as held:
            for place in places:  # always in this order: nobody waits for one who waits for him
                held.enter_context(self._locks[place])
            streams = [self._stream(place) for place in places]
            parts = [
                part
                for start in range(0, len(windows), round_)
                for part in _round(streams, windows[start : start + round_], rates_hz[start : start + round_])
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.heads}

    def warm_up(self, batch: int) -> None:
        """The processes are warm when they say that they are there."""

    def close(self) -> None:
        """End the processes. An engine that is closed infers no more."""
        self._closed = True
        if self._finalizer.detach() is not None:
            _end(self._streams)

    def _stream(self, place: int) -> _Stream:
        """The one in this place, another where it has failed."""
        if self._closed:
            raise RuntimeError("the engine is closed")
        if self._streams[place].failed:
            self._streams[place].end()
            fresh = _Stream(self._order, self._cores[place])
            try:
                fresh.report()
            except BaseException:
                fresh.end()
                raise
            self._streams[place] = fresh
        return self._streams[place]


def _round(streams: list[_Stream], windows: np.ndarray, rates_hz: np.ndarray) -> list[dict[str, np.ndarray]]:
    """The answers of each share, one a stream at most."""
    count = len(windows)
    shares = max(1, min(len(streams), count // SMALLEST_SHARE))
    edges = [count * k // shares for k in range(shares + 1)]
    asked = []
    for stream, low, high in zip(streams, edges, edges[1:]):
        stream.ask(windows[low:high], rates_hz[low:high])
        asked.append((stream, high - low))
    faults, parts = [], []
    for stream, share in asked:  # all of them, or the next batch would get what is left of this one
        answers, fault = stream.answers(share)
        faults += [fault] if fault else []
        parts.append({name: rows.copy() for name, rows in answers.items()})
    if faults:
        raise RuntimeError(faults[0])
    return parts


class _Stream:
    """One process, its socket and its memory. ``failed`` once it does not answer any more."""

    def __init__(self, order: dict, cores: set[int] | None) -> None:
        self.failed = False
        ours, theirs = socket.socketpair()
        self._memory_file = _memory_file()
        descriptor = self._memory_file.fileno()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)]),
            "PYTHONSAFEPATH": "1",  # the user's folder may have a numpy.py
            "OMP_NUM_THREADS": str(order["threads"]),
        }
        try:
            # A session of its own: Ctrl-C at the terminal is for the flowgraph, which then closes the socket.
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.stream_process", str(theirs.fileno()), str(descriptor)],
                env=environment, pass_fds=(theirs.fileno(), descriptor), stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        except OSError as fault:
            ours.close()
            self._memory_file.close()
            raise EMindError(f"a process for inference does not start: {fault}") from None
        finally:
            theirs.close()
        self.number = self._process.pid
        if hasattr(os, "sched_setaffinity"):  # else it would be kept where the flowgraph is
            os.sched_setaffinity(self.number, cores or all_cores())
        self._connection = Connection(ours.detach())
        self._connection.send_bytes(json.dumps(order).encode())

    def report(self) -> dict:
        """What it has loaded, once it has. EMindError where it could not."""
        try:
            if not self._connection.poll(REPORT_S):
                self._process.kill()
            told = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise EMindError(f"a process for inference ended before it had loaded the weights ({self._how()})") from None
        if "error" in told:
            raise (UsageError if told["usage"] else EMindError)(told["error"])
        layout = Layout.from_dict(told["layout"])
        memory = mmap.mmap(self._memory_file.fileno(), layout.size)
        self._windows, self._rates, self._rows = layout.arrays(memory)
        return told

    def ask(self, windows: np.ndarray, rates_hz: np.ndarray) -> None:
        """Hand it windows, MOST of them at most."""
        count = len(windows)
        self._windows[:count] = windows
        self._rates[:count] = rates_hz
        try:
            self._connection.send_bytes(count.to_bytes(4, "little"))
        except OSError:
            self.failed = True

    def answers(self, count: int) -> tuple[dict[str, np.ndarray], str]:
        """Rows of each head, as views, and what went wrong, empty when nothing did."""
        fault, hangs = "", False
        try:
            if not self.failed:
                hangs = not self._connection.poll(ANSWER_S)
                if hangs:
                    self._process.kill()
                fault = self._connection.recv_bytes().decode()
        except (EOFError, OSError):
            self.failed = True
        if self.failed:
            how = f"has not answered for {ANSWER_S:g} s and was ended" if hangs else f"has died ({self._how()})"
            fault = f"a process for inference {how}"
        return ({} if fault else {name: rows[:count] for name, rows in self._rows.items()}), fault

    def _how(self) -> str:
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def end(self) -> None:
        self._connection.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._memory_file.close()


def _memory_file():
    """A file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("emind"), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _forgotten(streams: list[_Stream]) -> None:
    """End the processes of an engine that nobody has any more, such as one that other weights took over from.

    That may come to pass in a block's thread, which is not to wait for them.
    """
    for stream in streams:
        stream._connection.close()
    try:
        threading.Thread(target=_end, args=(streams,), name="emind-end", daemon=True).start()
    except RuntimeError:  # the interpreter ends
        _end(streams)


def _end(streams: list[_Stream]) -> None:
    for stream in streams:
        stream._connection.close()  # all of them first: they end side by side
    for stream in streams:
        stream.end()
