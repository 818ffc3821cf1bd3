"""Overload policies: which windows are answered when more come than the engine can infer.

    name                    answered under overload                          unanswered stretch     delay of an answer
    lossless                every window; the stream waits                   none                   unbounded
    realtime-even           every n-th, n as the load asks for               shortest               two batches
    realtime-skip-newest    those that find room behind the ones that wait   a batch's time, long   a full queue
    realtime-skip-oldest    the newest; those that waited longest give way   a batch's time, long   one or two batches
    realtime                the same as realtime-even

Under the realtime policies the stream never waits. While the engine keeps up they all answer every window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

LOSSLESS = "lossless"
REALTIME = "realtime"
SKIP_NEWEST = "realtime-skip-newest"
SKIP_OLDEST = "realtime-skip-oldest"
EVEN = "realtime-even"
POLICIES = (LOSSLESS, REALTIME, EVEN, SKIP_NEWEST, SKIP_OLDEST)

# Windows that should wait when the engine comes for the next batch, in batches: enough that it is full; but no more
# than it infers in this time, or they would be too late when they have been through the batch before and their own.
QUEUE_BATCHES, QUEUE_S = 1.5, 0.025
# How strongly a queue that is shorter or longer than that changes the share of windows chosen.
TRIM = 0.5
# Arrivals are reckoned over at least this time, and remembered for about that long.
LOOK_S, MEMORY_S = 0.02, 0.5


class Waiting(Protocol):
    """What a choice asks of the worker."""

    batch: int

    @property
    def limit(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def speed(self) -> float: ...

    def room(self) -> int: ...

    def cancel(self, count: int) -> None: ...


class SkipNewest:
    """Those that find no room are skipped; what waits stays."""

    def choose(self, count: int, worker: Waiting) -> np.ndarray:
        """Which of ``count`` windows, the oldest first, go to the worker: indices that find room, ascending."""
        return np.arange(min(count, worker.room()))


class SkipOldest:
    """What has waited longest gives way to what comes."""

    def choose(self, count: int, worker: Waiting) -> np.ndarray:
        """As :meth:`SkipNewest.choose`; cancels windows that wait where there is no other room."""
        missing = count - worker.room()
        if missing > 0:
            worker.cancel(missing)
        room = worker.room()
        return np.arange(max(0, count - room), count)


class Even:
    """Every n-th window, n being what arrives over what the engine infers, a fraction as a rule.

    The share follows the two rates; a queue that grows or shrinks corrects what is wrong in them. Where in the
    sequence the last choice lay is remembered, so that the distances do not depend on how windows come in calls.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._phase = 0.0  # part of the way to the next choice
        self._arrived, self._since = 0, math.nan
        self._rate = math.nan  # windows a second, nan until known

    def choose(self, count: int, worker: Waiting) -> np.ndarray:
        """As :meth:`SkipNewest.choose`."""
        share = self._share(count, worker)
        if share >= 1.0:
            self._phase = 0.0
            chosen = np.arange(count)
        else:
            steps = np.floor(self._phase + share * np.arange(count + 1))
            self._phase = (self._phase + share * count) % 1.0
            chosen = np.flatnonzero(np.diff(steps))
        room = worker.room()
        if len(chosen) > room:
            chosen = chosen[np.arange(room) * len(chosen) // room] if room else chosen[:0]
        return chosen

    def _share(self, count: int, worker: Waiting) -> float:
        """Part of the windows to choose; 1 while either rate is unknown."""
        now = self._clock()
        self._observe(now)
        self._arrived += count
        speed = worker.speed
        if math.isnan(self._rate) or self._rate <= 0 or speed <= 0:
            return 1.0
        target = max(1.0, min(QUEUE_BATCHES * worker.batch, 0.75 * worker.limit, QUEUE_S * speed))
        trim = 1.0 + TRIM * min(1.0, max(-1.0, (target - worker.waiting) / target))
        return speed / self._rate * trim

    def _observe(self, now: float) -> None:
        """Reckon the rate of arrival from what has come up to now."""
        if math.isnan(self._since):
            self._since = now
            return
        passed = now - self._since
        if passed < LOOK_S:
            return
        rate = self._arrived / passed
        weight = 1.0 if math.isnan(self._rate) else 1.0 - math.exp(-passed / MEMORY_S)
        self._rate = rate if weight == 1.0 else self._rate + weight * (rate - self._rate)
        self._arrived, self._since = 0, now


def choice(policy: str, clock: Callable[[], float]) -> SkipNewest | SkipOldest | Even:
    """What chooses windows under this policy. ValueError where there is none of that name."""
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
    if policy in (REALTIME, EVEN):
        return Even(clock)
    return SkipOldest() if policy == SKIP_OLDEST else SkipNewest()
