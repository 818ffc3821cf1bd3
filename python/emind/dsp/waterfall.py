"""The newest lines of a waterfall, one FFT a line however many samples lie between two lines. numpy only."""

from __future__ import annotations

import math

import numpy as np

from .occupancy import ABOVE, FALL, FLOOR_PERCENTILE, JOIN

LOWEST_DB = -200.0  # of a bin in which there is nothing


class Waterfall:
    """Takes one stretch of ``size`` samples out of every ``every`` and keeps the spectra of the newest ``rows``.

    Line k shows samples k * every to (k + 1) * every, so that a sample's place in the picture follows by arithmetic.

    Parameters
    ----------
    rate: samples a second
    span_s: seconds that the picture shall cover; with slow streams it covers ``rows`` stretches, which may be more
    rows: lines at most
    size: samples an FFT, a power of two
    """

    def __init__(self, rate: float, span_s: float = 5.0, rows: int = 320, size: int = 512) -> None:
        self.rate, self.size = rate, size
        self.every = max(size, round(rate * span_s / rows))
        self.rows = max(2, min(rows, math.ceil(rate * span_s / self.every)))
        self._window = np.blackman(size + 1)[:-1].astype(np.float32)
        self._scale = np.float32(1.0 / float(self._window.sum()) ** 2)
        self._ring = np.full((self.rows, size), LOWEST_DB, np.float32)
        self._stretch = np.empty(size, np.complex64)
        self._filled = 0  # samples of the line that is being gathered
        self.position = 0  # samples taken
        self.count = 0  # lines so far, each of which took one FFT

    def take(self, samples: np.ndarray) -> None:
        """The next samples, complex64 (n,); what is between two lines is passed over without a look."""
        begin, end = self.position, self.position + len(samples)
        while (need := self.count * self.every + self._filled) < end:
            start = need - begin
            part = samples[start : start + self.size - self._filled]
            self._stretch[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled < self.size:
                break
            self._ring[self.count % self.rows] = self._line()
            self.count += 1
            self._filled = 0
        self.position = end

    def lines(self) -> tuple[np.ndarray, int]:
        """Levels in dB of full scale, float32 (lines, size), oldest first, lowest frequency first; the first's number.

        A tone of magnitude 1 is at 0 dB.
        """
        held = min(self.count, self.rows)
        first = self.count - held
        order = np.arange(first, self.count) % self.rows
        return self._ring[order], first

    def _line(self) -> np.ndarray:
        values = np.nan_to_num(self._stretch, copy=False, posinf=0.0, neginf=0.0)
        spectrum = np.fft.fftshift(np.fft.fft(values * self._window))
        power = (np.abs(spectrum) ** 2).astype(np.float32) * self._scale
        return 10.0 * np.log10(np.maximum(power, 10 ** (LOWEST_DB / 10)))


def occupied_part(levels_db: np.ndarray, floor: float, rate: float, low: float, high: float) -> tuple[float, float]:
    """The part of a channel that a signal fills, Hz from the middle of the band; the channel where none stands out.

    ``levels_db``: lines (lines, size) that show the signal. ``floor``: mean power in a bin without one. ``low``,
    ``high``: the channel's edges in Hz.
    """
    size = levels_db.shape[1]
    step = rate / size
    first = max(0, round((low + rate / 2) / step))
    last = min(size, max(first + 1, round((high + rate / 2) / step)))
    if not len(levels_db):
        return low, high
    power = (10.0 ** (levels_db[:, first:last].astype(np.float64) / 10.0)).mean(axis=0)
    threshold = ABOVE * (1 + 3 / math.sqrt(len(levels_db))) * floor
    peak = int(power.argmax())
    if not power[peak] > threshold:
        return low, high
    bins = np.flatnonzero(power > max(threshold, floor + FALL * (power[peak] - floor)))
    runs = np.split(bins, np.flatnonzero(np.diff(bins) > max(1, round(JOIN * size))) + 1)
    run = next(run for run in runs if run[0] <= peak <= run[-1])
    edges = first + int(run[0]), first + int(run[-1]) + 1
    return max(low, (edges[0] - 0.5) * step - rate / 2), min(high, (edges[1] - 0.5) * step - rate / 2)


def noise_floor(levels_db: np.ndarray) -> float:
    """Mean power in a bin of the quiet part of the lines (lines, size), as for :func:`occupied_part`."""
    power = 10.0 ** (levels_db.astype(np.float64) / 10.0)
    return float(np.percentile(power.mean(axis=0), FLOOR_PERCENTILE))
