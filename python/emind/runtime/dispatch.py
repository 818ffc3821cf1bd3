"""What becomes of each window: inferred, gated or skipped, and when it may pass on.

The windows stay where they are, in the caller's buffer; this keeps their fates in order and says how many of the
oldest have theirs. Every window admitted is released, in order, once.

    admit ──► gate ──► policy ──► worker ──► release
               │         │          └ too late, or the engine failed (realtime only) ──► skipped
               │         └ not chosen, or no room (realtime only) ──► skipped
               └ zeros, below the gate, not finite ──► gated
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..dsp import gate
from .policy import LOSSLESS, POLICIES, choice
from .statistics import Statistics
from .worker import ENGINE_FAILED, NOBODY, Infers, Worker

__all__ = ["INFERRED", "INVALID", "LOSSLESS", "NOISE", "POLICIES", "SKIPPED", "WAITING", "Dispatcher", "Released"]

# Fates of a window. The last three tell apart why it was skipped; released windows are SKIPPED for any reason.
WAITING, INFERRED, SKIPPED, NOISE, INVALID, LATE, FAILED, AT_END = range(8)
NOT_SUBMITTED = -1
_FATE_OF_KIND = np.zeros(3, np.uint8)
_FATE_OF_KIND[[gate.OPEN, gate.NOISE, gate.INVALID]] = WAITING, NOISE, INVALID
_FATE_OF_SETTLED = np.zeros(3, np.uint8)
_FATE_OF_SETTLED[[0, NOBODY, ENGINE_FAILED]] = INFERRED, SKIPPED, FAILED

# Longest sleep for an answer. In realtime, or while a batch could still fill, it is short: the caller's buffer fills
# meanwhile and nobody but the caller looks.
SLEEP_S = 0.02
GLANCE_S = 0.002


@dataclass(frozen=True)
class Released:
    """The oldest windows, with their fates uint8 (n,), SNR in dB and latency in ms float64 (n,), and for each head the
    rows (m, columns) of the m inferred ones, in order. One engine made them all; where none was asked it is the one
    before."""

    fates: np.ndarray
    snr_db: np.ndarray
    latency_ms: np.ndarray
    answers: dict[str, np.ndarray]
    engine: Infers


class Dispatcher:
    """Sends windows to a worker under a policy and releases them in order.

    Parameters
    ----------
    worker, statistics: where windows go and are counted; the worker is started and stopped by the caller
    policy: see :mod:`.policy`
    hold: windows held back at most
    deadline_s: realtime only, age at which a window passes without an answer
    gate_db: see :class:`..dsp.gate.EnergyGate`
    """

    def __init__(
        self,
        worker: Worker,
        statistics: Statistics,
        *,
        policy: str,
        hold: int,
        deadline_s: float = 0.1,
        gate_db: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._choice = choice(policy, clock)
        if hold < 1:
            raise ValueError(f"hold {hold} must be at least one window")
        self.held = 0
        self._worker, self._statistics, self._clock = worker, statistics, clock
        self._realtime = policy != LOSSLESS
        self._hold, self._deadline_s = hold, deadline_s
        self._gate = gate.EnergyGate(gate_db)
        self._fates = np.zeros(hold, np.uint8)
        self._numbers = np.zeros(hold, np.int64)  # the worker's
        self._arrivals = np.zeros(hold)
        self._snr_db = np.zeros(hold)
        self._engine = 0  # the worker's number of the one that made the newest answer released
        self._moved = 0.0  # when the stream last moved on or had nothing to wait for

    def restart_floor(self) -> None:
        """The next window comes from another frequency or at another rate: its noise floor is its own."""
        self._gate.floor.restart()

    def set_gate(self, gate_db: float | None) -> None:
        """Another threshold of the gate, from the next windows on; from any thread."""
        self._gate.set(gate_db)

    def admit(self, windows: np.ndarray, rate_hz: float, valid_first: int) -> int:
        """Take on as many of these windows (n, length) as can be held and, when lossless, submitted. Returns how many.

        ``valid_first`` samples of the first window are signal; ``rate_hz`` is nan where unknown.
        """
        count = min(len(windows), self._hold - self.held)
        if not self._realtime:
            count = min(count, self._worker.room())
        if count <= 0:
            return 0
        now = self._clock()
        if not self.held:
            self._moved = now
        windows = windows[:count]
        kinds, ratios = self._gate.sort(windows, valid_first)
        new = slice(self.held, self.held + count)
        fates, numbers = self._fates[new], self._numbers[new]
        fates[:] = _FATE_OF_KIND[kinds]
        numbers[:] = NOT_SUBMITTED
        self._snr_db[new] = ratios
        self._arrivals[new] = now
        open_ = np.flatnonzero(fates == WAITING)
        chosen = open_
        if self._realtime and len(open_):
            chosen = open_[self._choice.choose(len(open_), self._worker)]
            if len(chosen) < len(open_):
                fates[open_] = SKIPPED
                fates[chosen] = WAITING
        if len(chosen):
            whole = len(chosen) == chosen[-1] - chosen[0] + 1
            picked = windows[chosen[0] : chosen[-1] + 1] if whole else windows[chosen]
            first = self._worker.submit(picked, rate_hz)
            numbers[chosen] = np.arange(first, first + len(chosen))
        self.held += count
        self._statistics.count(seen=count)
        return count

    def release(self, limit: int, pressing: int = 0) -> Released | None:
        """Release at most ``limit`` of the oldest windows; None while the oldest has to wait.

        ``pressing`` windows are there and not admitted: under ``realtime`` what cannot be held gives way to them.
        """
        self._worker.look_after()
        held = self.held
        if self._oldest_waits(held + pressing):
            return None
        fates, numbers = self._fates[:held], self._numbers[:held]
        open_ = (fates == WAITING) & (numbers >= self._worker.settled)
        if self._realtime:
            now = self._clock()
            late = self._arrivals[:held] <= now - self._deadline_s
            late[: max(0, held + pressing - self._hold)] = True
            if self._worker.error is not None:
                late[:] = True
            late[limit:] = False
            late &= open_
            if late.any():
                fates[late] = LATE if self._worker.error is None else FAILED
                open_ &= ~late
                self._worker.too_late(now - float(self._arrivals[late.argmax()]))
        count = min(limit, int(open_.argmax()) if open_.any() else held)
        return self._hand_over(count) if count else None

    def _oldest_waits(self, wanted: int) -> bool:
        """Whether the oldest window is to wait for its answer: told at a glance, since most calls end here."""
        if not self.held or self._fates[0] != WAITING or self._numbers[0] < self._worker.settled:
            return False
        if not self._realtime:
            return True
        in_time = self._arrivals[0] > self._clock() - self._deadline_s
        return bool(in_time) and wanted <= self._hold and self._worker.error is None

    def wait(self) -> None:
        """Wait until more can be released or admitted, for a short while."""
        fates = self._fates[: self.held]
        waiting = np.flatnonzero(fates == WAITING)
        patient = not self._realtime and (self._worker.full_batch_waits or self.held == self._hold)
        beyond = int(self._numbers[waiting[0]]) if len(waiting) else 0
        self._worker.wait(beyond, SLEEP_S if patient else GLANCE_S)

    def abandon(self) -> None:
        """Count what is still held as skipped: it will not pass on any more."""
        fates = self._fates[: self.held]
        waiting = np.flatnonzero(fates == WAITING)
        failed = self._worker.made_by(self._numbers[waiting]) == ENGINE_FAILED
        fates[waiting] = np.where(failed, FAILED, AT_END)
        self._count(fates)
        self.held = 0

    def _hand_over(self, count: int) -> Released:
        asked = np.flatnonzero(self._fates[:count] == WAITING)
        made_by = self._worker.made_by(self._numbers[asked])
        answered = made_by >= 0
        engines = made_by[answered]
        if len(engines):
            # The answers of the engine that came next are handed over by the next call.
            self._engine = int(engines[0])
            others = asked[answered][engines != self._engine]
            if len(others):
                count = int(others[0])
                kept = asked < count
                asked, answered, made_by = asked[kept], answered[kept], made_by[kept]
        fates = self._fates[:count].copy()
        fates[asked] = _FATE_OF_SETTLED[np.minimum(made_by, 0)]
        engine, answers = self._worker.answers(self._numbers[asked[answered]], self._engine)
        self._worker.forget_engines(self._engine)
        now = self._clock()
        latency_ms = (now - self._arrivals[:count]) * 1e3
        snr_db = self._snr_db[:count].copy()
        self._forget(count)
        self._count(fates)
        self._statistics.stalled((now - self._moved) * 1e3)
        self._moved = now
        if len(engines):
            self._statistics.add_latencies(latency_ms[fates == INFERRED])
        fates[fates > INVALID] = SKIPPED
        return Released(fates, snr_db, latency_ms, answers if len(engines) else {}, engine)

    def _count(self, fates: np.ndarray) -> None:
        """Count windows that leave with these fates."""
        by_fate = np.bincount(fates, minlength=AT_END + 1).tolist()
        no_room, late, failed, at_end = by_fate[SKIPPED], by_fate[LATE], by_fate[FAILED], by_fate[AT_END]
        self._statistics.count(
            inferred=by_fate[INFERRED], gated=by_fate[NOISE] + by_fate[INVALID],
            skipped=no_room + late + failed + at_end, skipped_no_room=no_room, skipped_late=late,
            skipped_failed=failed, skipped_at_end=at_end,
        )  # fmt: skip

    def _forget(self, count: int) -> None:
        """Drop the oldest from the books, and tell the worker up to where its slots are free."""
        newest = int(self._numbers[:count].max())
        if newest != NOT_SUBMITTED:
            self._worker.release(newest + 1)
        left = self.held - count
        for column in (self._fates, self._numbers, self._arrivals, self._snr_db):
            column[:left] = column[count : self.held].copy()
        self.held = left
