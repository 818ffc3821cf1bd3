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
    """Every window seen is in the end inferred, skipped or gated: the three counts add up to the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latency_ms = Reservoir()
        self._counts = {"seen": 0, "inferred": 0, "skipped": 0, "gated": 0, "gaps": 0}

    def count(self, *, seen: int = 0, inferred: int = 0, skipped: int = 0, gated: int = 0, gaps: int = 0) -> None:
        """Add to the counters."""
        with self._lock:
            counts = self._counts
            counts["seen"] += seen
            counts["inferred"] += inferred
            counts["skipped"] += skipped
            counts["gated"] += gated
            counts["gaps"] += gaps

    def add_latencies(self, milliseconds: np.ndarray) -> None:
        with self._lock:
            self._latency_ms.add(milliseconds)

    def snapshot(self, queue_depth: int, backend: str, weights: str) -> dict:
        """The counters under the keys of ``contract.tags.STATISTICS_KEYS``; latencies are 0 before the first answer."""
        with self._lock:
            counts = self._counts
            median, tail = self._latency_ms.percentiles(50, 99)
            values = (
                counts["seen"], counts["inferred"], counts["skipped"], counts["gated"], counts["gaps"],
                queue_depth, median, tail, backend, weights,
            )
        return dict(zip(STATISTICS_KEYS, values, strict=True))
