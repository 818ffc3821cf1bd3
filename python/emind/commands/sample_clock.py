"""The time of a sample of `emind live`, counted in samples, where the rate changes on the way."""

from __future__ import annotations

import math


class SampleClock:
    """How long the samples before a sample took to come, where the rate changes on the way. Samples may be asked for
    that lie before a change; those behind one that has not been told are told by their own rate."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, float, float]] = []  # first sample, its time in s, rate in Hz

    def change(self, sample: int, rate: float) -> None:
        """From this sample on the rate is another one."""
        while self._pieces and self._pieces[-1][0] >= sample:
            self._pieces.pop()
        if not self._pieces or self._pieces[-1][2] != rate:
            self._pieces.append((sample, self.at(sample), rate))

    def at(self, sample: int, rate: float | None = None) -> float:
        """Seconds from sample 0 on; ``rate``: the sample's own, if known."""
        if rate is not None and self._pieces and sample > self._pieces[-1][0] and not math.isclose(
                rate, self._pieces[-1][2], rel_tol=1e-6):
            self.change(sample, rate)
        for first, time_s, piece_rate in reversed(self._pieces):
            if sample >= first:
                return time_s + (sample - first) / piece_rate
        return 0.0
