"""Where a recording's signal lies in frequency, and how to tune to it. numpy only.

A signal far narrower than the sample rate is one straight line in a window. ``occupied_band`` finds the band that
holds the middle 92 % of the power above the noise floor; ``plan_tuning`` shifts it to zero and decimates by a whole
number until the band fills at most 0.35 of the new rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIDDLE_SHARE = 0.92  # of the power above the floor; with more of it the receiver's mirror image gets in
FILL = 0.35  # most of the new rate that the band may fill
MIN_WINDOWS = 6  # that must remain: with fewer, one window's error is the recording's
LOUD_DB = 6.0  # a stretch this far above the quiet ones holds a burst
QUIET_PERCENTILE = 10
MAX_STRETCHES = 2048  # FFTs over the whole recording at most: bounded time and memory for any length
AT_ONCE = 128  # of them
MIN_FFT, MAX_FFT = 256, 4096
CLEAR = 2.0  # a bin counts where its power is this many times the floor
FLOOR_PERCENTILE = 20  # of a spectrum without quiet stretches: its floor
DC_BINS = 2  # each side of zero: where cheap receivers have a spike of their own
NEAR_MIDDLE = 0.05  # of the rate: no shift for a band this near to zero that needs no decimation
SPIKE = 4.0  # times the level around it
FILTER_REACH = 12  # the tuner's filter reaches this many output samples to each side
FILTER_BETA = 7.0  # Kaiser window: about 70 dB


@dataclass(frozen=True)
class Band:
    """A band by its edges in Hz relative to the recording's centre frequency, -rate/2 to rate/2."""

    low: float
    high: float

    @property
    def center(self) -> float:
        return (self.low + self.high) / 2

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True)
class TuningPlan:
    """How a recording is tuned.

    Shift ``center`` Hz to zero, then keep one sample in ``decimation``. (0, 1) leaves the recording as it is.
    ``band`` is what the plan was made for, None where nothing stood above the floor.
    """

    center: float = 0.0
    decimation: int = 1
    band: Band | None = None

    @property
    def tunes(self) -> bool:
        return self.decimation > 1 or self.center != 0.0

    def taps(self) -> np.ndarray:
        """The decimation filter, real float32. Its delay is a whole number of output samples: ``delay``."""
        if self.decimation == 1:
            return np.ones(1, np.float32)
        reach = FILTER_REACH * self.decimation
        n = np.arange(-reach, reach + 1)
        # Half power at the new Nyquist frequency: the band lies far inside, what folds back lies far outside of it.
        taps = np.sinc(n / self.decimation) * np.kaiser(len(n), FILTER_BETA)
        return (taps / taps.sum()).astype(np.float32)

    @property
    def delay(self) -> int:
        """Output samples by which the filter is late."""
        return 0 if self.decimation == 1 else FILTER_REACH


def fft_size(count: int) -> int:
    """FFT length for a recording of ``count`` samples: fine enough for a narrow signal, at least some 32 of them."""
    return int(np.clip(2 ** int(np.log2(max(count, 1) / 32 + 1)), MIN_FFT, MAX_FFT))


def _loud_and_quiet(stretches: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean power spectra, zero frequency in the middle, of the loud and of the quiet stretches.

    The quiet spectrum is None where the power hardly varies: then all stretches count as loud.
    """
    window = np.hanning(stretches.shape[1]).astype(np.float32)
    powers = np.empty(stretches.shape, np.float32)
    for start in range(0, len(stretches), AT_ONCE):  # numpy transforms in double precision: not all at once
        spectra = np.fft.fft(stretches[start : start + AT_ONCE] * window, axis=1)
        powers[start : start + AT_ONCE] = np.fft.fftshift(np.abs(spectra) ** 2, axes=1)
    levels = np.mean(np.abs(stretches - stretches.mean()) ** 2, axis=1)
    floor = np.percentile(levels, QUIET_PERCENTILE)
    loud = levels > floor * 10 ** (LOUD_DB / 10)
    if not loud.any():
        return powers.mean(axis=0), None
    return powers[loud].mean(axis=0), powers[levels <= 2 * floor].mean(axis=0)


def _without_receiver_spike(spectrum: np.ndarray) -> np.ndarray:
    """The spectrum with the bins around zero frequency replaced by their neighbours' level where they stand out."""
    middle = len(spectrum) // 2
    inner = slice(middle - DC_BINS, middle + DC_BINS + 1)
    around = np.r_[spectrum[middle - 4 * DC_BINS:inner.start], spectrum[inner.stop:middle + 4 * DC_BINS + 1]]
    level = np.median(around)
    out = spectrum.copy()
    out[inner] = np.where(out[inner] > SPIKE * level, level, out[inner])
    return out


def occupied_band(stretches: np.ndarray, rate: float) -> Band | None:
    """Band in Hz that holds the middle 92 % of the power above the floor, from complex64 stretches (n, fft length).

    Loud stretches count only, where the recording has loud and quiet ones; what the quiet ones hold too (noise,
    the receiver's spikes, other stations) is taken off. None where nothing stands above the floor.
    """
    spectrum, quiet = _loud_and_quiet(stretches)
    if quiet is None:
        spectrum = _without_receiver_spike(spectrum)
        floor = np.full_like(spectrum, np.percentile(spectrum, FLOOR_PERCENTILE))
    else:
        floor = quiet
    above = np.where(spectrum > CLEAR * floor, spectrum - floor, 0)
    total = above.sum()
    if not total > 0:
        return None
    share = np.cumsum(above) / total
    edge = (1 - MIDDLE_SHARE) / 2
    n = len(share)
    low, high = np.interp([edge, 1 - edge], np.r_[0.0, share], np.arange(n + 1))
    return Band((low - 0.5) / n * rate - rate / 2, (high - 0.5) / n * rate - rate / 2)


def plan_tuning(band: Band, rate: float, count: int, length: int) -> TuningPlan:
    """How to tune a recording of ``count`` samples to ``band`` for windows of ``length`` samples.

    Decimates until the band fills FILL of the new rate, never so far that fewer than MIN_WINDOWS windows remain. A wide
    band near the middle stays where it is: a shift would only fold its edge over.
    """
    wanted = int(FILL * rate / max(band.width, 1e-9 * rate))
    decimation = max(1, min(wanted, count // (MIN_WINDOWS * length)))
    stays = decimation == 1 and abs(band.center) < NEAR_MIDDLE * rate
    return TuningPlan(0.0 if stays else band.center, decimation, band)
