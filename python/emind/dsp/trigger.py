"""Which samples of a stream to keep around events, and the samples before them. numpy only.

    stream   ...........[event]..............[event].........
    kept          <-----------after->   <-----------after->
                  before
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from .snr import NoiseFloor, looks_like_noise

LEAST_CHUNK = 64


class History:
    """The newest ``size`` samples of a stream, complex64; ``begin``: number of the first one."""

    def __init__(self, size: int, begin: int = 0) -> None:
        self._ring = np.empty(max(1, size), np.complex64)
        self._size, self._begin = size, begin
        self.end = begin  # number of the next sample

    @property
    def oldest(self) -> int:
        """Number of the oldest sample that is held."""
        return max(self._begin, self.end - self._size)

    def push(self, samples: np.ndarray) -> None:
        """The next samples (n,)."""
        kept = samples[max(0, len(samples) - self._size) :]
        self.end += len(samples)
        at = (self.end - len(kept)) % len(self._ring)
        head = min(len(kept), len(self._ring) - at)
        self._ring[at : at + head] = kept[:head]
        self._ring[: len(kept) - head] = kept[head:]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start`` to ``stop``, which must be held."""
        first, count = start % len(self._ring), stop - start
        if first + count <= len(self._ring):
            return self._ring[first : first + count]
        return np.concatenate([self._ring[first:], self._ring[: first + count - len(self._ring)]])


class Selection:
    """Turns events into stretches of the stream: from ``before`` samples ahead to ``after`` behind, in whole rows.

    Stretches that touch are one. Events may come late: what has been passed over and is not held any more is lost.
    """

    def __init__(self, before: int, after: int, row: int) -> None:
        self._before, self._after, self._row = before, after, row
        self._wanted: deque[list[int]] = deque()  # from, to; in order and apart
        self._done = 0  # all before this sample is decided
        self._begun: int | None = None  # where the newest stretch began; what begins where it ended goes on with it

    def event(self, start: int, stop: int) -> None:
        """Samples ``start`` to ``stop`` hold what is wanted."""
        begin, end = max(0, start - self._before), stop + self._after
        for wanted in reversed(self._wanted):
            if begin > wanted[1]:
                break
            if end >= wanted[0]:
                wanted[0], wanted[1] = min(wanted[0], begin), max(wanted[1], end)
                return
        self._wanted.append([begin, end])

    def close(self) -> None:
        """Nothing is wanted any more."""
        self._wanted.clear()
        self._begun = None

    def take(self, oldest: int, end: int) -> list[tuple[int, int, bool]]:
        """Stretches to write now, of the samples ``oldest`` to ``end``: (from, to, whether a new one begins)."""
        out = []
        while self._wanted:
            begin, stop = self._wanted[0]
            start = max(begin, self._done, oldest)
            fresh = self._begun is None or start != self._done
            first = start if fresh else self._begun
            stop = first + math.ceil(max(0, stop - first) / self._row) * self._row
            if start >= end:
                break
            upto = min(stop, end)
            if upto > start:
                out.append((start, upto, fresh))
                self._done, self._begun = upto, first
            if stop > end:
                break
            self._wanted.popleft()
        return out


def chunk_of(row: int) -> int:
    """Samples whose power is looked at together, where rows are recorded."""
    return max(LEAST_CHUNK, row // 4)


class EnergyTrigger:
    """Events where the power stands ``threshold_db`` above that of the quietest stretches.

    ``chunk``: samples that are looked at together. Nothing is an event before the floor is known. ``begin``: number of
    the first sample.

    A floor that rises beyond the threshold, as after a change of gain, is learned anew after RELEARN_WINDOWS chunks that
    look like noise, see :class:`.snr.NoiseFloor`; so is a signal like white noise over the whole band that lasts as
    long, whose event ends there.
    """

    def __init__(self, threshold_db: float, chunk: int, begin: int = 0) -> None:
        self._ratio = 10 ** (threshold_db / 10)
        self._chunk = chunk
        self._floor = NoiseFloor(max(threshold_db, 1.0))
        self._part, self._count = np.empty(chunk, np.complex64), 0  # the chunk that is being filled
        self.position = begin

    def restart(self) -> None:
        """Forget the floor, as after a change of frequency or rate. A chunk ends here that is not looked at."""
        self._floor.restart()
        self._count = 0

    def events(self, samples: np.ndarray) -> list[tuple[int, int]]:
        """First sample and the one behind the last of each loud stretch in the next samples (n,)."""
        begin = self.position - self._count  # first sample of the chunk that is being filled
        self.position += len(samples)
        head = min(len(samples), self._chunk - self._count)
        self._part[self._count : self._count + head] = samples[:head]
        self._count += head
        if self._count < self._chunk:
            return []
        whole = (len(samples) - head) // self._chunk
        tail = samples[head + whole * self._chunk :]
        chunks = samples[head : len(samples) - len(tail)].reshape(whole, self._chunk)
        means = np.concatenate([_powers(self._part[None]), _powers(chunks)])
        floors, _ = self._floor.follow(
            means, lambda index: looks_like_noise(chunks[index - 1] if index else self._part))
        self._part[: len(tail)], self._count = tail, len(tail)
        with np.errstate(invalid="ignore"):
            loud = means > floors * self._ratio
        edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
        return [(begin + int(a) * self._chunk, begin + int(b) * self._chunk) for a, b in edges.reshape(-1, 2)]


def _powers(chunks: np.ndarray) -> np.ndarray:
    """Mean of |x|^2 of each chunk (n, samples), float64 (n,)."""
    return (np.square(chunks.real) + np.square(chunks.imag)).mean(axis=1, dtype=np.float64)
