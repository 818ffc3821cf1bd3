"""One thread that gathers windows into batches and asks an engine about them.

    submit ──► ring ──► batch closes on size or latency ──► engine.infer ──► answers, read by number

Windows are numbered in the order they are submitted, and settled in that order. Four marks move forward only:

    released <= settled <= taken <= submitted
      the caller has its answer   |        a batch has it    it waits in the ring
                        the answer is there, or the window was cancelled

The engine can be replaced at any time; the next batch goes to the new one, and every answer says whose it is.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Callable, Protocol

import numpy as np

from .ring import Ring


# A window waits for the batch before its own, for those in front of it and for its own: with a queue that takes this
# share of the caller's patience, and a batch no longer than the queue, that is four fifths of it at most.
PATIENCE_SHARE = 0.4


class Infers(Protocol):
    """What the worker asks of an engine."""

    def infer(self, windows: np.ndarray, rates_hz: np.ndarray) -> dict[str, np.ndarray]: ...


class Worker:
    """Batches windows for one engine.

    One thread submits, reads and releases; the worker's own thread infers.

    Parameters
    ----------
    engine: object with ``infer(windows (n, length) complex64, rates_hz (n,) float64) -> {head: (n, columns)}``
    length: samples a window
    batch: windows at which a batch closes
    max_latency_s: time after which a batch closes although it is not full, from its oldest window's arrival
    capacity: windows that the ring holds, at least two batches so that one fills while the other is inferred
    """

    def __init__(
        self,
        engine: Infers,
        length: int,
        *,
        batch: int = 32,
        max_latency_s: float = 0.02,
        capacity: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if batch < 1 or max_latency_s < 0:
            raise ValueError(f"batch {batch} must be at least 1 and latency {max_latency_s} s not negative")
        self.batch = batch
        self.error: Exception | None = None
        self._engines = {0: engine}  # by number: those whose answers may still be read, the newest is in use
        self._engine = 0
        self._max_latency_s = max_latency_s
        self._clock = clock
        self._ring = Ring(max(capacity, 2 * batch), length)
        self._limit = self._ring.capacity  # windows that may wait, fewer once answers have come too late
        self._bearable_s = math.inf  # age at which the caller last gave windows up
        self._submitted = self._taken = self._released = 0
        self._flight: int | None = None  # first window of the batch that the engine has, None when it has none
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="emind-worker", daemon=True)

    def start(self) -> None:
        """Start the thread. A worker runs once."""
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End the thread after the batch that is with the engine; the rest stays unanswered. True when it ended."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def settled(self) -> int:
        """Every window below this number has its answer or never will have one."""
        with self._changed:
            return self._settled()

    @property
    def queue_depth(self) -> int:
        """Windows submitted and not settled."""
        with self._changed:
            return self._submitted - self._settled()

    @property
    def full_batch_waits(self) -> bool:
        """Whether the engine will not run dry before it has inferred one more full batch."""
        with self._changed:
            return self._submitted - self._taken >= min(self.batch, self._limit)

    @property
    def engine(self) -> Infers:
        """The engine that the next batch goes to."""
        with self._changed:
            return self._engines[self._engine]

    def replace_engine(self, engine: Infers) -> None:
        """From the next batch on ask this engine, which takes windows of the same length."""
        with self._changed:
            self._engine += 1
            self._engines[self._engine] = engine

    def room(self) -> int:
        """Windows that can be submitted now; 0 after an error or once stopped."""
        with self._changed:
            if self.error is not None or self._closing:
                return 0
            oldest = self._released if self._flight is None else min(self._released, self._flight)
            free = self._ring.capacity - (self._submitted - oldest)
            return max(0, min(free, self._limit - (self._submitted - self._taken)))

    def submit(self, windows: np.ndarray, rate_hz: float) -> int:
        """Copy windows (n, length), n <= room(), into the ring. Returns the number of the first."""
        first = self._submitted
        self._ring.write(first, windows, rate_hz, self._clock())
        with self._changed:
            self._submitted = first + len(windows)
            self._changed.notify_all()
        return first

    def made_by(self, numbers: np.ndarray) -> np.ndarray:
        """For settled, unreleased windows: which engine answered, int (n,), later ones higher; -1 for none."""
        slots = numbers % self._ring.capacity
        return np.where(self._ring.answered[slots], self._ring.made_by[slots], -1)

    def answers(self, numbers: np.ndarray, engine: int) -> tuple[Infers, dict[str, np.ndarray]]:
        """That engine, and each of its heads' rows (n, columns) for windows that it answered."""
        slots = numbers % self._ring.capacity
        heads = self._ring.answers.get(engine, {})
        return self._engines[engine], {head: rows[slots] for head, rows in heads.items()}

    def forget_engines(self, below: int) -> None:
        """The caller has all answers of engines with smaller numbers."""
        with self._changed:
            for engine in [number for number in self._engines if number < min(below, self._engine)]:
                del self._engines[engine]

    def release(self, below: int) -> None:
        """The caller is done with all windows below this number; those that still wait are not inferred any more."""
        with self._changed:
            self._released = max(self._released, below)
            self._taken = max(self._taken, below)
            self._changed.notify_all()

    def too_late(self, age_s: float) -> None:
        """The caller gave up windows of this age: from the next batch on let fewer wait, so that they come in time.

        A queue longer than what the engine does within the caller's patience would answer every window too late.
        """
        with self._changed:
            self._bearable_s = age_s

    def wait(self, beyond: int, timeout_s: float) -> bool:
        """Wait until more than ``beyond`` windows are settled, or for an error or the end; True when so."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._settled() > beyond or self.error is not None or self._closing, timeout_s
            )

    def _settled(self) -> int:
        return self._taken if self._flight is None else self._flight

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closing and not self._ready():
                    self._changed.wait(self._patience())
                if self._closing:
                    return
                first = self._taken
                count = min(self.batch, self._limit, self._submitted - first)
                self._flight, self._taken = first, first + count
                number = self._engine
                engine = self._engines[number]
                self._ring.forget_engines(min(self._engines))
            windows, rates = self._ring.read(first, count)
            begun = self._clock()
            try:
                self._ring.answer(first, count, engine.infer(windows, rates), number)
            except Exception as error:  # whatever the engine's fault, the caller decides what becomes of the stream
                with self._changed:
                    self.error, self._flight = error, None
                    self._changed.notify_all()
                return
            with self._changed:
                self._flight = None
                if self._bearable_s < math.inf:
                    bearable = count * PATIENCE_SHARE * self._bearable_s / max(self._clock() - begun, 1e-6)
                    self._limit = int(min(max(bearable, 1), self._ring.capacity))
                self._changed.notify_all()

    def _ready(self) -> bool:
        waiting = self._submitted - self._taken
        return waiting >= min(self.batch, self._limit) or (waiting > 0 and self._patience() <= 0)

    def _patience(self) -> float | None:
        """Seconds until the oldest waiting window closes the batch; None when none waits."""
        if self._submitted == self._taken:
            return None
        arrival = self._ring.arrivals[self._taken % self._ring.capacity]
        return max(0.0, arrival + self._max_latency_s - self._clock())
