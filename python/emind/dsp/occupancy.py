"""Which parts of a received band are occupied, how strongly, and for how much of the time. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .band import DC_BINS, Band, TuningPlan

FFT = 1024  # samples a stretch: what is on for less than that is seen as weaker
FLOOR_PERCENTILE = 25  # of the spectrum's bins: the noise floor, where less than three quarters are occupied
ABOVE = 2.5  # times the floor: an occupied bin, where many stretches are averaged
JOIN = 0.01  # of the rate: occupied bins this near to each other belong to one signal
FALL = 0.02  # of the strongest bin's power: what is weaker beside it is its skirt or the FFT window's
LOUD_FROM = 80  # stretches: with fewer the loudest tenth is chance
SKIRTS = (2.0, 20.0), (5.0, 30.0)  # within so many of a signal's widths, what is so many dB weaker is its side lobe
WIDE = 40  # bins
SAME_TIME_DB = 15.0  # so much weaker than one with the same bursts: its side lobe too, however far away
AT_ONCE = 256


@dataclass(frozen=True)
class Occupied:
    """One signal: its band in Hz around the middle, SNR in dB while it is on, share of the time that it is on."""

    band: Band
    snr_db: float
    occupancy: float


def _power_spectra(samples: np.ndarray) -> np.ndarray:
    """Power of stretches by frequency, zero in the middle: (stretches, FFT), float32."""
    count = len(samples) // FFT
    window = np.blackman(FFT).astype(np.float32)
    stretches = samples[: count * FFT].reshape(count, FFT)
    out = np.empty((count, FFT), np.float32)
    for start in range(0, count, AT_ONCE):
        spectra = np.fft.fft(stretches[start : start + AT_ONCE] * window, axis=1)
        out[start : start + AT_ONCE] = np.fft.fftshift(np.abs(spectra) ** 2, axes=1)
    return out


def _groups(occupied: np.ndarray, join: int) -> list[tuple[int, int]]:
    """First bin and the one behind the last of each run of occupied bins, runs nearer than ``join`` as one."""
    bins = np.flatnonzero(occupied)
    if not len(bins):
        return []
    parts = np.split(bins, np.flatnonzero(np.diff(bins) > join) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def find_signals(samples: np.ndarray, rate: float, usable: float = 0.8) -> list[Occupied]:
    """Signals in complex64 samples (n,), n at least 16 stretches of 1024; the middle ``usable`` of the band counts.

    The receiver's own spike at zero frequency is not reported; a tone exactly there cannot be told from it.
    """
    if len(samples) < 16 * FFT:
        raise ValueError(f"{len(samples)} samples are fewer than {16 * FFT}")
    powers = _power_spectra(samples)
    edge = round(FFT * (1 - usable) / 2)
    inside = np.zeros(FFT, bool)
    inside[edge : FFT - edge] = True
    mean = powers.mean(axis=0)
    floor = float(np.percentile(mean[inside], FLOOR_PERCENTILE))
    if not floor > 0:
        floor = float(mean.max()) * 1e-9  # no noise at all: a generated signal
        if not floor > 0:
            return []
    middle = FFT // 2
    spike = slice(middle - DC_BINS, middle + DC_BINS + 1)
    # The mean over time weakens bursts: a short one stands out in the loudest tenth of the stretches.
    occupied = mean > ABOVE * (1 + 3 / np.sqrt(len(powers))) * floor  # an average of few varies more
    if len(powers) >= LOUD_FROM:
        loud = np.partition(powers, -(len(powers) // 10), axis=0)[-(len(powers) // 10) :].mean(axis=0)
        occupied |= loud > ABOVE * float(np.percentile(loud[inside], FLOOR_PERCENTILE))
    beside = occupied.copy()
    beside[spike] = False
    out: list[tuple[Occupied, np.ndarray]] = []
    for low, high in _groups(occupied, max(1, round(JOIN * FFT))):
        if not beside[low:high].any():
            continue
        strength = np.maximum(mean[low:high] - floor, 0)
        if high - low < WIDE:  # in a wide signal the spike is one bin of many
            strength[max(0, spike.start - low) : max(0, spike.stop - low)] = 0
        kept = np.flatnonzero(strength > FALL * strength.max())
        if not len(kept):
            continue
        low, high = low + int(kept[0]), low + int(kept[-1]) + 1
        bins = high - low
        inner = powers[:, low:high].sum(axis=1) / floor  # in units of the floor's mean in a bin
        on = inner > bins + 5 * np.sqrt(bins) + 3
        if not on.any():
            continue
        snr = float(inner[on].mean() / bins - 1)
        if snr <= 0:
            continue
        step = rate / FFT
        band = Band((low - middle - 0.5) * step, (high - middle - 0.5) * step)
        out.append((Occupied(band, float(10 * np.log10(snr)), float(on.mean())), on))
    # What lies at the band's edge is not reported, but may be what a side lobe, also a folded one, belongs to.
    return [one for one, on in out if abs(one.band.center) <= usable / 2 * rate
            and not any(_is_side_lobe(one, on, *other) for other in out)]


def _is_side_lobe(one: Occupied, on: np.ndarray, other: Occupied, other_on: np.ndarray) -> bool:
    """Whether the first is of the other's making: weak beside it, or weak and on only when that is."""
    if one.snr_db < other.snr_db - SAME_TIME_DB and other.occupancy < 0.9 and (on & other_on).sum() > 0.9 * on.sum():
        return True
    away = abs(one.band.center - other.band.center) / other.band.width
    return any(away < widths and one.snr_db < other.snr_db - weaker for widths, weaker in SKIRTS)


def tuned(samples: np.ndarray, rate: float, plan: TuningPlan) -> np.ndarray:
    """Complex64 samples shifted and decimated as the plan says; the filter's ends are left out."""
    if not plan.tunes:
        return samples
    shifted = samples
    if plan.center:
        turn = np.exp(-2j * np.pi * plan.center / rate * np.arange(len(samples)))
        shifted = (samples * turn).astype(np.complex64)
    if plan.decimation == 1:
        return shifted
    taps = plan.taps()
    size = 1 << (len(shifted) + len(taps) - 1).bit_length()
    filtered = np.fft.ifft(np.fft.fft(shifted, size) * np.fft.fft(taps, size))
    return filtered[len(taps) - 1 : len(shifted) : plan.decimation].astype(np.complex64)
