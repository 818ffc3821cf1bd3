"""The recorder's thread: takes samples from a bounded queue, cuts them into rows, and writes them.

    put ──► ring of samples ──► rows ──► RecordingFiles
    mark ─► what changes at which sample

Samples are numbered as they enter the queue. Every sample that was offered is in the end written or dropped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract.errors import EMindError
from .recording_files import RecordingFiles, Stretch

FLUSH_S = 1.0  # a row group is closed after this time although it is not full
PIECE = 1 << 18  # samples taken from the queue together; a row that is longer whole
LONGEST_ROW = 1 << 26  # samples; the queue holds two, a gigabyte

STATISTICS_KEYS = (
    "samples_seen", "samples_written", "samples_queued", "samples_dropped", "samples_skipped", "rows", "gaps", "files",
    "error")


@dataclass(frozen=True)
class Mark:
    """What changes at a sample; a row ends there, except at a span.

    ``labels``: those from here on. ``span``: for as many samples, labels that go before the others; a row has those
    that its middle has. ``gap``: the samples before and after do not belong together. ``valid``: of this window only so
    many samples are signal. ``known``: labels of all rows from here on that every other label goes before; spans from
    before end here.
    """

    labels: dict[str, Any] | None = None
    span: tuple[int, dict[str, Any]] | None = None
    stretch: Stretch | None = None
    gap: bool = False
    valid: int | None = None
    known: dict[str, Any] | None = None


# Rows (n, samples) and their rate in Hz, if known -> labels, a list of one each; None: the rows belong to a new stream.
Measure = Callable[[np.ndarray | None, float | None], dict[str, list]]


class RecorderThread:
    """Owns the files. ``put``, ``mark``, ``drop`` and ``stop`` belong to one thread, the rest to any.

    Parameters
    ----------
    files: where to
    length: samples a row; a row before a gap and the last one are shorter
    capacity: samples that the queue holds
    measure: gives labels that every other label goes before
    short_rows: rows with fewer than ``length`` samples are written too; else they count as skipped
    """

    def __init__(self, files: RecordingFiles, length: int, capacity: int, labels: dict[str, Any] | None = None,
                 clock: Callable[[], float] = time.monotonic, measure: Measure | None = None,
                 short_rows: bool = True) -> None:
        self.error: Exception | None = None
        self._files, self._length, self._clock = files, length, clock
        self._ring = np.empty(max(capacity, 2 * length), np.complex64)
        self._labels = dict(labels or {})
        self._spans: deque[tuple[int, int, dict]] = deque()  # from, to, labels
        self._marks: deque[tuple[int, Mark]] = deque()
        self._put = self._done = 0  # samples that entered and left the queue
        self._valid: dict[int, int] = {}  # rows of windows that are not all signal
        self._measure, self._short_rows = measure, short_rows
        self._known: dict[str, Any] = {}
        self._rate: float | None = None
        self._stream: tuple[float | None, float | None] = None, None  # rate and centre
        self._dropped = self._padding = self._gaps = 0
        self._passed = self._short = 0  # samples that were not wanted, and those of rows that were too short
        self._closing = False
        self._due = clock() + FLUSH_S
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="emind-recorder", daemon=True)

    def start(self) -> None:
        """Start the thread. It runs once."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Write what is queued, finish the files, end the thread. True when it ended."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def position(self) -> int:
        """Number of the next sample that enters the queue."""
        return self._put

    def room(self) -> int:
        """Samples that fit into the queue; 0 once recording has failed."""
        with self._changed:
            return 0 if self.error is not None else len(self._ring) - (self._put - self._done)

    def wait(self, timeout_s: float) -> None:
        """Until there is room, the recording has failed, or the time is over."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.error is not None or self._put - self._done < len(self._ring), timeout_s)

    def put(self, samples: np.ndarray) -> None:
        """Copy samples into the queue; no more than ``room()``."""
        start, count = self._put % len(self._ring), len(samples)
        head = min(count, len(self._ring) - start)
        self._ring[start : start + head] = samples[:head]
        self._ring[: count - head] = samples[head:]
        with self._changed:
            waiting = self._put - self._done
            self._put += count
            if waiting < self._length <= waiting + count:  # it may be asleep only while no row is whole
                self._changed.notify_all()

    def mark(self, sample: int, mark: Mark) -> None:
        """What changes at sample number ``sample``, which is not in the queue yet; in order."""
        with self._changed:
            if self.error is None:  # afterwards nobody would take it
                self._marks.append((sample, mark))

    def drop(self, count: int) -> None:
        """Samples were offered and not taken: what follows is behind a gap."""
        with self._changed:
            self._dropped += count
            if self.error is None and not (self._marks and self._marks[-1][0] == self._put and self._marks[-1][1].gap):
                self._marks.append((self._put, Mark(gap=True)))

    def skip(self, count: int) -> None:
        """Samples came that are not wanted; a negative number where such were put after all."""
        with self._changed:
            self._passed += count

    def statistics(self) -> dict:
        """With STATISTICS_KEYS: seen = written + queued + dropped + skipped."""
        with self._changed:
            skipped = self._passed + self._short
            seen = self._put + self._dropped - self._padding + self._passed
            written, files = self._files.written, len(self._files.files)
            if self.error is not None:
                queued, dropped = 0, seen - written - skipped
            else:
                dropped = self._dropped
                queued = seen - written - dropped - skipped
            return dict(zip(STATISTICS_KEYS, (
                seen, written, queued, dropped, skipped, self._files.rows, self._gaps, files,
                "" if self.error is None else str(self.error)), strict=True))

    def _run(self) -> None:
        try:
            while self._step():
                pass
            self._files.close()
        except Exception as fault:  # whatever is wrong with the disk, the flowgraph goes on
            self._fail(fault)

    def _fail(self, fault: Exception) -> None:
        if isinstance(fault, OSError):
            fault = EMindError(f"{self._files.base}: recording ended ({fault.strerror or fault})")
        try:
            self._files.end()
        except (EMindError, OSError) as second:
            fault = EMindError(f"{fault}; {second}")
        with self._changed:
            self.error = fault
            self._marks.clear()
            self._changed.notify_all()

    def _step(self) -> bool:
        """Write what is there. False when all is written and the thread shall end."""
        with self._changed:
            self._changed.wait_for(self._ready, max(0.0, self._due - self._clock()))
            closing, end = self._closing, min(self._put, self._done + max(PIECE, self._length))
            last = closing and end == self._put
            marks = []
            while self._marks and self._marks[0][0] <= end:
                marks.append(self._marks.popleft())
        start = self._done
        for sample, mark in marks:
            start = self._rows(start, sample, whole=mark.span is not None)
            self._apply(sample, mark)
        start = self._rows(start, end, whole=not last)
        with self._changed:
            self._done = start
            self._changed.notify_all()
        if self._clock() >= self._due:
            self._files.flush()
            self._files.sync()
            self._due = self._clock() + FLUSH_S
        return not last

    def _ready(self) -> bool:
        return self._closing or self._put - self._done >= self._length

    def _rows(self, start: int, end: int, whole: bool) -> int:
        """Write samples ``start`` to ``end`` in rows, with ``whole`` only full ones. Where the rest begins."""
        while end - start >= self._length or (end > start and not whole):
            length = min(self._length, end - start)
            rows, labels = self._alike(start, (end - start) // length)
            samples = self._samples(start, rows * length).reshape(rows, length)
            valid = self._valid.pop(start, length)
            if valid < self._length and not self._short_rows:
                self._short += valid
            else:
                self._write(samples[:, :valid], labels)
            start += rows * length
            self._padding += length - valid if rows == 1 else 0
        return start

    def _write(self, samples: np.ndarray, labels: dict) -> None:
        if self._measure is not None:
            found = self._measure(samples, self._rate)
            known = {name: values for name, values in found.items() if any(value is not None for value in values)}
            labels = {**known, **labels}
        self._files.write(samples, labels)

    def _alike(self, start: int, rows: int) -> tuple[int, dict]:
        """How many rows from ``start`` on have the same labels, and which."""
        if start in self._valid:
            rows = 1
        for number in self._valid:
            rows = min(rows, max(1, (number - start) // self._length)) if number > start else rows
        middle = start + self._length // 2
        while self._spans and self._spans[0][1] <= start:
            self._spans.popleft()
        over = {**self._known, **self._labels}
        for first, after, labels in self._spans:
            if first <= middle < after:
                over |= labels
                rows = min(rows, max(1, (after - middle - 1) // self._length + 1))
            elif first > middle:
                rows = min(rows, max(1, (first - middle - 1) // self._length + 1))
        return rows, over

    def _samples(self, start: int, count: int) -> np.ndarray:
        size = len(self._ring)
        first = start % size
        if first + count <= size:
            return self._ring[first : first + count]
        return np.concatenate([self._ring[first:], self._ring[: first + count - size]])

    def _apply(self, sample: int, mark: Mark) -> None:
        if mark.known is not None:
            self._known = mark.known
            self._spans.clear()
        if mark.labels is not None:
            self._labels = mark.labels
        if mark.span is not None:
            self._spans.append((sample, sample + mark.span[0], mark.span[1]))
        if mark.valid is not None:
            self._valid[sample] = mark.valid
        if mark.gap:
            with self._changed:
                self._gaps += 1
        if mark.stretch is not None:
            if self._measure is not None and (mark.stretch.rate, mark.stretch.freq) != self._stream:
                self._measure(None, None)
            self._stream = self._rate, _ = mark.stretch.rate, mark.stretch.freq
            self._files.set_stretch(mark.stretch)
