"""What can be measured of recorded rows while they are written: SNR, occupied bandwidth, amplitude. numpy only.

The power of the noise is the least of two things that both contain it: the power of the quietest rows (right for bursts
with pauses), and that of the quietest part of the spectrum (right for signals that leave some of the band free). A
signal that never pauses and fills the band hides the noise: its SNR is then told too low.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

SEGMENT = 64  # samples of a spectrum that is averaged
LEAST_SEGMENTS = 4  # a shorter row is not looked at by its spectrum
QUIET_SHARE = 0.2  # of the bins: the lowest are the noise
SPECTRA = 4  # rows of a call whose spectrum is taken
RISE_DB = 0.001  # a row, that the floor may rise
LEAST_DB = -20.0
CLEAR_DB = 10.0  # SNR from which the bandwidth is measured
BAND_SHARE = 0.05  # of the power that lies outside the band, at either side
_WINDOW = np.hanning(SEGMENT + 1)[:-1].astype(np.float32)


class RowMeasure:
    """Measures rows of one stream, which come in order; ``restart`` where rate or frequency change."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._floor = math.inf

    def labels(self, rows: np.ndarray, rate: float | None) -> dict[str, list[float | None]]:
        """``snr`` (dB, over the whole band), ``amplitude`` (root of the signal's power) and ``band_width`` (Hz, where
        the SNR is 10 dB and more) of rows complex64 (n, length); None where nothing can be said."""
        parts = rows.reshape(len(rows), -1).view(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            powers = np.einsum("ij,ij->i", parts, parts).astype(np.float64) / rows.shape[1]
        spectra, picked = self._spectra(rows)
        floors = self._follow(powers, spectra, picked, rows.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            signal = np.maximum(powers / floors - 1.0, 10 ** (LEAST_DB / 10))
            snrs = 10.0 * np.log10(signal)
        known = np.isfinite(snrs)
        amplitude = np.sqrt(np.maximum(powers - floors, 0.0))
        band = self._band(spectra, picked, snrs, floors, rate)
        return {
            "snr": [round(float(snr), 1) if ok else None for snr, ok in zip(snrs, known, strict=True)],
            "amplitude": [float(f"{a:.4g}") if ok else None for a, ok in zip(amplitude, known, strict=True)],
            "band_width": [band if ok and snr >= CLEAR_DB else None for snr, ok in zip(snrs, known, strict=True)],
        }

    def next_rows(self, rows: np.ndarray | None, rate: float | None) -> dict[str, list[float | None]]:
        """As :meth:`labels`; None where those to come have another rate or frequency: nothing is said."""
        if rows is None:
            self.restart()
            return {}
        return self.labels(rows, rate)

    def _spectra(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Averaged spectra (k, SEGMENT) of up to SPECTRA rows, and which rows; their mean is the row's power."""
        count, length = rows.shape
        if length < LEAST_SEGMENTS * SEGMENT:
            return np.empty((0, SEGMENT)), np.empty(0, int)
        picked = np.unique(np.linspace(0, count - 1, min(count, SPECTRA)).round().astype(int))
        starts = np.arange(0, length - SEGMENT + 1, SEGMENT // 2)
        pieces = rows[picked][:, starts[:, None] + np.arange(SEGMENT)] * _WINDOW
        powers = np.abs(np.fft.fft(pieces, axis=2)) ** 2
        return powers.mean(axis=1) / float(np.sum(_WINDOW**2)), picked

    def _follow(self, powers: np.ndarray, spectra: np.ndarray, picked: np.ndarray, length: int) -> np.ndarray:
        """Noise power at each row: the least so far, but for a slow rise."""
        found = np.where((powers > 0) & np.isfinite(powers), powers, np.inf)
        if len(spectra):
            quiet = _lowest(spectra) * _quiet_bias(min(length, 4096))
            found[picked] = np.minimum(found[picked], np.where(quiet > 0, quiet, np.inf))
        rise = 10 ** (RISE_DB / 10 * np.arange(1, len(found) + 1))
        floors = np.minimum.accumulate(np.concatenate([[self._floor], found / rise]))[1:] * rise
        self._floor = float(floors[-1])
        return np.where(np.isfinite(floors), floors, np.nan)

    def _band(self, spectra: np.ndarray, picked: np.ndarray, snrs: np.ndarray, floors: np.ndarray,
              rate: float | None) -> float | None:
        """Hz that hold 90 % of the power above the floor in the clear rows that were looked at."""
        with np.errstate(invalid="ignore"):
            clear = snrs[picked] >= CLEAR_DB
        if rate is None or not clear.any():
            return None
        spectrum = np.fft.fftshift(spectra[clear].mean(axis=0))
        above = np.maximum(spectrum - 2 * float(floors[picked][clear].mean()), 0.0)
        if not above.sum() > 0:
            return None
        # A band may lie across the ends of the spectrum: begin where there is least.
        around = np.convolve(np.tile(above, 3), np.ones(5), "same")[SEGMENT : 2 * SEGMENT]
        above = np.roll(above, -int(np.argmin(around)))
        share = np.append(0.0, np.cumsum(above) / above.sum())
        low, high = np.interp([BAND_SHARE, 1 - BAND_SHARE], share, np.arange(SEGMENT + 1))
        return float(f"{(high - low) * rate / SEGMENT:.3g}")


def _lowest(spectra: np.ndarray) -> np.ndarray:
    """Mean of the quietest bins of spectra (k, SEGMENT)."""
    count = int(SEGMENT * QUIET_SHARE)
    return np.partition(spectra, count, axis=1)[:, :count].mean(axis=1)


@lru_cache(maxsize=64)
def _quiet_bias(length: int) -> float:
    """Power of white noise over the mean of its quietest bins, for rows of so many samples."""
    generator = np.random.default_rng(0)
    noise = (generator.standard_normal((48, length, 2)) @ [1, 1j]).astype(np.complex64)
    starts = np.arange(0, length - SEGMENT + 1, SEGMENT // 2)
    pieces = noise[:, starts[:, None] + np.arange(SEGMENT)] * _WINDOW
    spectra = (np.abs(np.fft.fft(pieces, axis=2)) ** 2).mean(axis=1) / float(np.sum(_WINDOW**2))
    return float(2.0 / np.mean(_lowest(spectra)))
