"""Preallocated ring of windows that wait for their answer, and of the answers."""

from __future__ import annotations

import threading

import numpy as np

UNANSWERED = -1


class Ring:
    """Slots for ``capacity`` windows of ``length`` complex64 samples. Window number n lives in slot n % capacity.

    The ring does no accounting: who writes sees to it that a slot is free.
    """

    def __init__(self, capacity: int, length: int) -> None:
        self.capacity, self.length = capacity, length
        self.windows = np.zeros((capacity, length), np.complex64)
        self.rates = np.full(capacity, np.nan)
        self.arrivals = np.zeros(capacity)
        self.made_by = np.full(capacity, UNANSWERED)  # the engine that answered, by its number, or why none did
        self.answers: dict[int, dict[str, np.ndarray]] = {}  # by engine and head
        self._across = np.zeros((0, length), np.complex64)
        self._new_answers = threading.Lock()

    def write(self, first: int, windows: np.ndarray, rate_hz: float, arrival: float) -> None:
        """Copy windows (n, length) into the slots from number ``first`` on; they are unanswered."""
        done = 0
        for part in self._parts(first, len(windows)):
            count = part.stop - part.start
            self.windows[part] = windows[done : done + count]
            self.rates[part] = rate_hz
            self.arrivals[part] = arrival
            self.made_by[part] = UNANSWERED
            done += count

    def read(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows (count, length), contiguous, and their rates (count,): views, copied only across the ring's end."""
        parts = self._parts(first, count)
        if len(parts) == 1:
            return self.windows[parts[0]], self.rates[parts[0]]
        if len(self._across) < count:
            self._across = np.empty((count, self.length), np.complex64)
        across = self._across[:count]
        np.concatenate([self.windows[part] for part in parts], out=across)
        return across, np.concatenate([self.rates[part] for part in parts])

    def answer(self, first: int, count: int, answers: dict[str, np.ndarray], engine: int = 0) -> None:
        """Store the answers (count, ...) of each of the engine's heads for the windows from ``first`` on.

        Raises ValueError when a head did not answer every window.
        """
        for head, rows in answers.items():
            rows = np.asarray(rows)
            if rows.ndim < 2 or len(rows) != count:
                raise ValueError(f"head {head} answered {rows.shape} to {count} windows")
            if head not in self.answers.get(engine, {}):
                with self._new_answers:  # of several threads that write
                    known = self.answers.get(engine, {})
                    if head not in known:
                        # New dicts in one step: the thread that reads may be going through the old ones.
                        known = {**known, head: np.zeros((self.capacity, *rows.shape[1:]), rows.dtype)}
                        self.answers = {**self.answers, engine: known}
            known = self.answers[engine]
            done = 0
            for part in self._parts(first, count):
                size = part.stop - part.start
                known[head][part] = rows[done : done + size]
                done += size
        self.mark(first, count, engine)

    def mark(self, first: int, count: int, made_by: int) -> None:
        """Note who answered these windows, or why nobody did: a number below zero."""
        for part in self._parts(first, count):
            self.made_by[part] = made_by

    def forget_engines(self, below: int) -> None:
        """The answers of engines with smaller numbers are not asked for any more."""
        if any(engine < below for engine in self.answers):
            with self._new_answers:
                self.answers = {engine: heads for engine, heads in self.answers.items() if engine >= below}

    def _parts(self, first: int, count: int) -> list[slice]:
        """The slots of ``count`` numbers from ``first`` on: one slice, or two across the ring's end."""
        start = first % self.capacity
        if start + count <= self.capacity:
            return [slice(start, start + count)]
        return [slice(start, self.capacity), slice(0, start + count - self.capacity)]
