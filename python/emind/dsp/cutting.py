"""Windows out of a stretch of samples, tuned and decimated as `emind classify` does it, the quiet ones left out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..contract.schema import Signal
from .band import TuningPlan

LOUD_DB = 6.0  # above the quietest windows: a recording with bursts this loud is one of bursts and pauses
QUIET_PERCENTILE = 10  # of the windows' powers: the floor


def tuned(samples: np.ndarray, rate: float, plan: TuningPlan) -> tuple[np.ndarray, float]:
    """Samples complex64 shifted, filtered and decimated as the plan says, and their rate in Hz."""
    if not plan.tunes:
        return samples, rate
    taps = np.asarray(plan.taps(), np.float64)
    shifted = samples * np.exp(-2j * np.pi * plan.center / rate * np.arange(len(samples)))
    size = 1 << int(np.ceil(np.log2(max(4 * len(taps), 4096))))
    step, spectrum = size - len(taps) + 1, np.fft.fft(taps, size)
    before = np.concatenate([np.zeros(len(taps) - 1), shifted])
    pieces = [np.fft.ifft(np.fft.fft(before[k : k + size], size) * spectrum)[len(taps) - 1 :]
              for k in range(0, len(samples), step)]
    delay = (len(taps) - 1) // 2
    filtered = np.concatenate(pieces)[: len(samples)][delay :: plan.decimation]
    return filtered.astype(np.complex64), rate / plan.decimation


def windows_of(samples: np.ndarray, length: int) -> np.ndarray:
    """Whole windows (N, length) complex64, one behind the other; fewer samples than one are filled up with zeros."""
    if len(samples) < length:
        samples = np.concatenate([samples, np.zeros(length - len(samples), samples.dtype)])
    whole = len(samples) // length * length
    return np.ascontiguousarray(samples[:whole], np.complex64).reshape(-1, length)


def with_signal(windows: np.ndarray) -> np.ndarray:
    """bool (N,): the windows that hold a signal. Where none stands out from the quietest, all that are not zero."""
    power = np.mean(np.abs(windows) ** 2, axis=1)
    alive = (power > 0) & np.isfinite(power)
    if not alive.any():
        return alive
    loud = power > np.percentile(power[alive], QUIET_PERCENTILE) * 10 ** (LOUD_DB / 10)
    return alive & loud if loud.any() else alive


def rows_to_take(snr_db: np.ndarray, most: int) -> np.ndarray:
    """Numbers of at most so many recorded rows, spread evenly over those that hold a signal, from their SNR (dB, NaN:
    unknown). What a recorder keeps around an event is noise of a signal's label. Where no row has 0 dB, all may: that
    of a signal without pauses that fills the band is estimated too low."""
    noise = snr_db < 0
    numbers = np.flatnonzero(~noise) if not noise.all() else np.arange(len(snr_db))
    return numbers[np.linspace(0, len(numbers) - 1, min(most, len(numbers))).astype(int)] if len(numbers) else numbers


def windows_of_rows(rows: Iterable[Signal], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole windows (N, length) complex64 of recorded rows and their rates (Hz, NaN: unknown). Of rows of unknown SNR
    those that hold a signal, by :func:`with_signal`; none that is zero or not finite."""
    cut, rates, known = [np.zeros((0, length), np.complex64)], [], []
    for row in rows:
        cut.append(windows_of(row.iq, length))
        rates += [row.sampling_rate or math.nan] * len(cut[-1])
        known += [row.snr is not None] * len(cut[-1])
    windows, kept = np.concatenate(cut), np.array(known, bool)
    kept &= np.isfinite(windows).all(axis=1) & windows.any(axis=1)
    unknown = np.flatnonzero(~np.array(known, bool))
    kept[unknown[with_signal(windows[unknown])]] = True
    return windows[kept], np.array(rates, float)[kept]
