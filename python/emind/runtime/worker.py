"""Threads that gather windows into batches and ask an engine about them.

    submit ──► ring ──► batch closes on size or latency ──► engine.infer ──► answers, read by number

An engine of several lanes infers as many batches side by side, each by itself: smaller batches, which are there sooner
and wait for nobody. There is a thread a lane.

Windows are numbered in the order they are submitted, and settled in that order. Four marks move forward only:

    released <= settled <= taken <= submitted
      the caller has its answer   |        a batch has it    it waits in the ring
                        the answers of all before are there, or they were cancelled

The engine can be replaced at any time; the next batch goes to the new one, and every answer says whose it is.

When the engine raises, whatever it is, the windows of that batch and those that wait stay unanswered. A worker that
``goes_on`` counts the error, takes nothing for a pause that doubles with each further error, and tries again; any
other keeps ``error`` and ends. A thread that has ended although nobody asked it to is an error like any other.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Callable, Protocol

import numpy as np

from .ring import UNANSWERED, Ring
from .unanswered import Unanswered


# A window waits for the batch before its own, for those in front of it and for its own: with a queue that takes this
# share of the caller's patience, and a batch no longer than the queue, that is four fifths of it at most.
PATIENCE_SHARE = 0.4
# By how much the caller's patience is taken to have grown with each batch that came in time.
PATIENCE_GROWTH = 1.05
# Weight of the newest batch in the speed.
SPEED_WEIGHT = 0.2
# Instead of an engine's number: nobody was asked about the window, or the engine raised.
NOBODY, ENGINE_FAILED = UNANSWERED, -2
# Pause after an error of the engine, after each further one in a row twice as long.
PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class Infers(Protocol):
    """What the worker asks of an engine. One with an attribute ``lanes`` infers so many batches at a time, and is told
    by a third argument in which."""

    def infer(self, windows: np.ndarray, rates_hz: np.ndarray) -> dict[str, np.ndarray]: ...


def lanes_of(engine: object) -> int:
    """How many batches this engine infers at a time."""
    return getattr(engine, "lanes", 1)


class Worker:
    """Batches windows for one engine.

    One thread submits, reads and releases; the worker's own threads infer, one for each lane of the engine that it
    starts with.

    Parameters
    ----------
    engine: object with ``infer(windows (n, length) complex64, rates_hz (n,) float64) -> {head: (n, columns)}``
    length: samples a window
    batch: windows at which a batch closes
    max_latency_s: time after which a batch closes although it is not full, from its oldest window's arrival
    capacity: windows that may wait, at least two batches so that one fills while the other is inferred
    slots: windows that the ring holds, more than ``capacity`` where cancelled ones keep their slots for a while
    goes_on: whether an error of the engine leaves the worker running
    """

    def __init__(
        self,
        engine: Infers,
        length: int,
        *,
        batch: int = 32,
        max_latency_s: float = 0.002,
        capacity: int = 0,
        slots: int = 0,
        goes_on: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if batch < 1 or max_latency_s < 0:
            raise ValueError(f"batch {batch} must be at least 1 and latency {max_latency_s} s not negative")
        self.batch = batch
        self.error: BaseException | None = None  # what ended the worker
        self.errors = 0  # times that the engine raised
        self.last_error: BaseException | None = None
        self._goes_on = goes_on
        self._errors_in_a_row = 0
        self._resume_at = -math.inf  # nothing is taken before
        self._engines = {0: engine}  # by number: those whose answers may still be read, the newest is in use
        self._engine = 0
        self._asked = 0  # the newest of them that a batch went to
        self._max_latency_s = max_latency_s
        self._clock = clock
        self._capacity = max(capacity, 2 * batch)
        self._ring = Ring(max(slots, self._capacity), length)
        self._limit = self._capacity  # windows that may wait, fewer once answers have come too late
        self._pace_s = 0.0  # between two windows while there is work, 0 until known
        self._bearable_s = math.inf  # age at which the caller last gave windows up
        self._submitted = self._taken = self._released = 0
        self._flights: dict[int, tuple[int, int]] = {}  # by lane: first window of the batch that it has, and how many
        self._busy_since = self._finished = -math.inf  # when the first of the lanes began, when the last batch came back
        self._closing = False
        self._changed = threading.Condition()
        self._work = threading.Condition(self._changed._lock)  # for the lanes: one is woken, not all of them
        self._threads = [self._new_thread(lane) for lane in range(lanes_of(engine))]

    def _new_thread(self, lane: int) -> threading.Thread:
        return threading.Thread(target=self._run, args=(lane,), name="emind-worker", daemon=True)

    def start(self) -> None:
        """Start the threads. A worker runs once."""
        for thread in self._threads:
            thread.start()

    def look_after(self) -> None:
        """Where a thread has died, note the error, and if the worker goes on give it another one."""
        for lane, thread in enumerate(self._threads):
            if thread.ident is None or thread.is_alive() or self._closing or self.error is not None:
                continue
            self._fail(RuntimeError("the thread that asks the engine has died"), lane)
            if self._goes_on:
                self._threads[lane] = self._new_thread(lane)
                self._threads[lane].start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End the threads after the batches that are with the engine; the rest stays unanswered. True when they ended."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._work.notify_all()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

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
    def waiting(self) -> int:
        """Windows submitted that no batch has yet."""
        with self._changed:
            return self._submitted - self._taken

    @property
    def limit(self) -> int:
        """Windows that may wait."""
        with self._changed:
            return self._limit

    @property
    def speed(self) -> float:
        """Windows a second that the engine infers while it has work; 0 until known."""
        with self._changed:
            return 1.0 / self._pace_s if self._pace_s else 0.0

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
            if self._asked < self._engine:  # nobody will ask for answers of one that was never asked itself
                del self._engines[self._engine]
            self._engine += 1
            self._engines[self._engine] = engine
            self._errors_in_a_row, self._resume_at = 0, -math.inf  # what the old one did says nothing of this one

    def room(self) -> int:
        """Windows that can be submitted now; 0 after an error, for as long as it lasts, or once stopped."""
        with self._changed:
            if self.error is not None or self._closing or self._clock() < self._resume_at:
                return 0
            oldest = min(self._released, self._settled())
            free = self._ring.capacity - (self._submitted - oldest)
            return max(0, min(free, self._limit - (self._submitted - self._taken)))

    def submit(self, windows: np.ndarray, rate_hz: float) -> int:
        """Copy windows (n, length), n <= room(), into the ring. Returns the number of the first."""
        first = self._submitted
        self._ring.write(first, windows, rate_hz, self._clock())
        with self._changed:
            none_waited = self._submitted == self._taken
            self._submitted = first + len(windows)
            if none_waited or self._ready():
                self._work.notify()
        return first

    def cancel(self, count: int) -> None:
        """Give up the ``count`` windows that have waited longest, or all that wait: they settle unanswered."""
        with self._changed:
            self._taken += min(count, self._submitted - self._taken)
            self._changed.notify_all()

    def made_by(self, numbers: np.ndarray) -> np.ndarray:
        """For settled, unreleased windows: who answered, int (n,): an engine's number, or NOBODY, or ENGINE_FAILED."""
        return self._ring.made_by[numbers % self._ring.capacity]

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
        return min((first for first, _ in self._flights.values()), default=self._taken)

    def _run(self, lane: int) -> None:
        while True:
            engine = windows = answers = None  # a lane that waits keeps no engine that others took over from
            with self._changed:
                while not self._closing and self.error is None and not self._ready():
                    self._work.wait(self._patience())
                if self._closing or self.error is not None:
                    return
                first = self._taken
                count = min(self.batch, self._limit, self._submitted - first)
                if not self._flights:
                    self._busy_since = self._clock()
                self._flights[lane] = first, count
                self._taken = first + count
                if self._submitted > self._taken:
                    self._work.notify()
                number = self._asked = self._engine
                engine = self._engines[number]
                self._ring.forget_engines(min(self._engines))
            begun = self._clock()
            try:
                windows, rates = self._ring.read(first, count)
                lanes = lanes_of(engine)
                in_lane = (lane % lanes,) if 1 < lanes <= len(self._threads) else ()  # else all of it infers each batch
                try:
                    answers, missing = engine.infer(windows, rates, *in_lane), ()
                except Unanswered as partly:
                    answers, missing = partly.answers, np.flatnonzero(~partly.answered)
                self._ring.answer(first, count, answers, number)
                for index in missing:
                    self._ring.mark(first + int(index), 1, ENGINE_FAILED)
            except BaseException as error:  # whatever the engine's fault, even SystemExit: the caller hears of it
                self._fail(error, lane)
                if not self._goes_on:
                    return
                continue
            now = self._clock()
            with self._changed:
                self._errors_in_a_row = 0
                self._reckon(count, now - begun, now - max(self._busy_since, self._finished))
                del self._flights[lane]
                self._finished = now
                self._changed.notify_all()

    def _reckon(self, count: int, inferring_s: float, taken_s: float) -> None:
        """Learn from a batch that the engine had for ``inferring_s``, and that came so long after the one before."""
        # Times are averaged, not speeds: of two lanes that end one right after the other the second took no time at all.
        pace_s = max(taken_s, 1e-6) / count
        self._pace_s = pace_s if self._pace_s == 0 else self._pace_s + SPEED_WEIGHT * (pace_s - self._pace_s)
        if self._bearable_s < math.inf:
            side_by_side = len(self._flights) * count
            bearable = side_by_side * PATIENCE_SHARE * self._bearable_s / max(inferring_s, 1e-6)
            self._limit = int(min(max(bearable, 1), self._capacity))
            self._bearable_s *= PATIENCE_GROWTH

    def _fail(self, error: BaseException, lane: int) -> None:
        with self._changed:
            self.errors += 1
            self.last_error = error.with_traceback(None)  # whose frames would keep the engine
            for first, count in (self._flights.pop(lane, (0, 0)), (self._taken, self._submitted - self._taken)):
                self._ring.mark(first, count, ENGINE_FAILED)
            if self._goes_on:
                self._taken = self._submitted
                pause = min(PAUSE_S * 2**min(self._errors_in_a_row, 10), LONGEST_PAUSE_S)
                self._resume_at = self._clock() + pause
                self._errors_in_a_row += 1
            else:
                self.error = error
            self._changed.notify_all()
            self._work.notify_all()

    def _ready(self) -> bool:
        waiting = self._submitted - self._taken
        return waiting >= min(self.batch, self._limit) or (waiting > 0 and self._patience() <= 0)

    def _patience(self) -> float | None:
        """Seconds until the oldest waiting window closes the batch; None when none waits."""
        if self._submitted == self._taken:
            return None
        arrival = self._ring.arrivals[self._taken % self._ring.capacity]
        return max(0.0, arrival + self._max_latency_s - self._clock())
