"""Counters of windows and percentiles of their latency. Safe to read from another thread."""

from __future__ import annotations

import threading

import numpy as np

from ..contract.tags import STATISTICS_KEYS

RESERVOIR_WINDOWS = 8192


class Reservoir:
    """The newest ``capacity`` values."""

    def __init__(self, capacity: int = RESERVOIR_WINDOWS) -> None:
        self._values = np.zeros(capacity)
        self._added = 0

    def add(self, values: np.ndarray) -> None:
        values = values[-len(self._values) :]
        slots = (self._added + np.arange(len(values))) % len(self._values)
        self._values[slots] = values
        self._added += len(values)

    def percentiles(self, *ranks: float) -> list[float]:
        """Values below which ``ranks`` per cent lie; zeros while empty."""
        if not self._added:
            return [0.0] * len(ranks)
        return np.percentile(self._values[: self._added], ranks).tolist()


class Statistics:
    """Every window seen is in the end inferred, skipped or gated: the three counts add up to the first.

    The four reasons for which windows are skipped add up to those. ``results_lost`` are answers that were counted as
    inferred and then not reported; ``stall_ms_max`` is the longest time for which the stream waited for an answer.
    """

    COUNTERS = (
        "seen", "inferred", "skipped", "gated", "gaps", "skipped_no_room", "skipped_late", "skipped_failed",
        "skipped_at_end", "results_lost", "detections_sent", "detections_dropped",
    )  # fmt: skip

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latency_ms = Reservoir()
        self._counts = dict.fromkeys(self.COUNTERS, 0)
        self._stall_ms = 0.0

    def count(self, **added: int) -> None:
        """Add to counters, by their names in ``COUNTERS``."""
        with self._lock:
            for name, number in added.items():
                self._counts[name] += number

    def stalled(self, milliseconds: float) -> None:
        """The stream has waited so long."""
        if milliseconds > self._stall_ms:
            self._stall_ms = milliseconds

    def add_latencies(self, milliseconds: np.ndarray) -> None:
        with self._lock:
            self._latency_ms.add(milliseconds)

    def snapshot(self, queue_depth: int, backend: str, weights: str, engine_errors: int = 0) -> dict:
        """The counters under the keys of ``contract.tags.STATISTICS_KEYS``; latencies are 0 before the first answer."""
        with self._lock:
            counts = dict(self._counts)
            median, tail = self._latency_ms.percentiles(50, 99)
        windows = [counts.pop(name) for name in ("seen", "inferred", "skipped", "gated")]
        values = (*windows, counts.pop("gaps"), queue_depth, median, tail, backend, weights,
                  *counts.values(), engine_errors, self._stall_ms)  # fmt: skip
        return dict(zip(STATISTICS_KEYS, values, strict=True))
