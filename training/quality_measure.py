"""What can be measured of one signal, for comparison with its labels. Arrays are complex64 (n,), levels in dB.

Each function answers None where the signal does not allow an answer (too short, too noisy, no gap between pulses).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from emind.contract.schema import Signal

SEGMENT = 64  # samples of a spectrum that is averaged
LEAST_SEGMENTS = 4  # lengths of one that a signal must have: the spectrum of 128 samples is mostly chance
QUIET_SHARE = 0.2  # of its bins: the lowest are the noise
LEAST_DB = -10.0  # below, a spectrum of a thousand samples shows noise only
FEW = 24  # samples; a power measured over fewer says nothing
EDGE = 1.5  # samples left out on each side of a pulse's edge


def db(ratio: float) -> float:
    """Ratio of powers in dB."""
    return 10.0 * float(np.log10(max(ratio, 1e-30)))


def power(x: np.ndarray) -> float:
    """Mean of |x|^2."""
    flat = x.view(np.float32)
    return float(np.dot(flat, flat) / max(1, len(x)))


def longest_run(x: np.ndarray) -> tuple[int, int]:
    """Start and length of the longest stretch of samples that are equal to the last bit."""
    same = x[1:] == x[:-1]
    if not same.any():
        return 0, 1
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest] - starts[longest]) + 1


def clipped_share(x: np.ndarray) -> float:
    """Share of the I and Q values that stand at the greatest magnitude, 0 where they do not pile up there.

    Values pile up at a limit where they are four times as many as at the next lower level: the tail of noise is
    thinner with every step, and even a quantised sine has only 2.4 times as many.
    """
    values = np.abs(x.view(np.float32))
    peak = values.max()
    at = values >= peak * (1 - 1e-6)
    count = int(at.sum())
    if peak == 0 or count < max(8, 0.005 * len(values)):
        return 0.0
    rest = values[~at]
    if len(np.unique(rest)) < 8:  # a constellation, not a waveform
        return 0.0
    below = int((rest >= rest.max() * (1 - 1e-6)).sum())
    return count / len(values) if count > 4 * below else 0.0


@lru_cache(maxsize=64)
def _near_zero(n: int) -> np.ndarray:
    """Rows of the Fourier matrix for the bins 0, +-1 ... +-4; (9, n)."""
    bins = np.array([0, 1, -1, 2, -2, 3, -3, 4, -4])
    return (np.exp(-2j * np.pi * np.outer(bins, np.arange(n)) / n) / n).astype(np.complex64)


def direct_current(x: np.ndarray) -> tuple[float, float]:
    """Share of the power that the mean has, and how far bin 0 stands above its eight neighbours (a ratio).

    A constant offset is in bin 0 alone; a slow signal and a carrier that is a little off reach into the neighbours.
    """
    total = power(x)
    if len(x) < 32 or total == 0:
        return 0.0, 0.0
    lines = np.abs(_near_zero(len(x)) @ x) ** 2
    return float(lines[0] / total), float(lines[0] / max(float(lines[1:].mean()), 1e-12 * total))


def _spectrum(x: np.ndarray) -> np.ndarray:
    """Averaged power spectrum, (SEGMENT,), zero frequency first; its mean is the signal's power."""
    window = np.hanning(SEGMENT + 1)[:-1].astype(np.float32)
    starts = np.arange(0, len(x) - SEGMENT + 1, SEGMENT // 2)
    pieces = x[starts[:, None] + np.arange(SEGMENT)] * window
    return np.mean(np.abs(np.fft.fft(pieces, axis=1)) ** 2, axis=0) / float(np.sum(window**2))


def _lowest(spectrum: np.ndarray) -> float:
    count = int(len(spectrum) * QUIET_SHARE)
    return float(np.partition(spectrum, count)[:count].mean())


@lru_cache(maxsize=64)
def _quiet_bias(n: int) -> float:
    """What the lowest bins of white noise are to be multiplied by to give its power, for n samples."""
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((48, n)) + 1j * rng.standard_normal((48, n))).astype(np.complex64)
    return 2.0 / float(np.mean([_lowest(_spectrum(row)) for row in noise]))


def snr_by_spectrum(x: np.ndarray) -> float | None:
    """Power above the floor of the spectrum over the floor's, dB; the floor is what the quietest fifth of bins has."""
    if len(x) < LEAST_SEGMENTS * SEGMENT:
        return None
    spectrum = _spectrum(x)
    floor = _lowest(spectrum) * _quiet_bias(min(len(x), 4096))
    return max(LEAST_DB, db(float(spectrum.mean()) / floor - 1.0)) if floor > 0 else None


def bandwidth(row: Signal) -> float | None:
    """Band in Hz between which 80 % of the power above the floor lies, of the labelled pulses where there are any."""
    x, rate = row.iq, row.sampling_rate
    if has_pulses(row):
        x = x * _pulse_mask(row, EDGE)
    if len(x) < LEAST_SEGMENTS * SEGMENT:
        return None
    spectrum = np.fft.fftshift(_spectrum(x))
    floor = _lowest(spectrum) * _quiet_bias(min(len(x), 4096))
    above = np.where(spectrum > 2 * floor, spectrum - floor, 0.0)
    if not above.sum() > 0:
        return None
    share = np.cumsum(above) / above.sum()
    low, high = np.interp([0.1, 0.9], np.append(0.0, share), np.arange(SEGMENT + 1))
    return float(high - low) * rate / SEGMENT


def has_pulses(row: Signal) -> bool:
    """Whether the labels say where the pulses are."""
    return None not in (row.sampling_rate, row.pri, row.pulse_width, row.pulse_time_delay, row.num_pulses)


def _pulse_mask(row: Signal, widen: float) -> np.ndarray:
    """Samples inside a pulse that is ``widen`` samples longer at either end, by the labels; bool (n,)."""
    rate, n = row.sampling_rate, len(row.iq)
    mask = np.zeros(n, bool)
    for k in range(min(row.num_pulses, n)):
        start = (row.pulse_time_delay + k * row.pri) * rate
        first, last = np.ceil(start - widen), np.ceil(start + row.pulse_width * rate + widen)
        if first >= n:
            break
        mask[int(max(0, first)) : int(max(0, min(n, last)))] = True
    return mask


def snr_by_pulses(row: Signal) -> tuple[float, float] | None:
    """How far (power in the labelled pulses over the power between them) is from what the SNR label asks for, in dB,
    and the standard deviation that this has by chance. Wrong places of the pulses show in it as wrong SNR does."""
    inside, outside = row.iq[_pulse_mask(row, -EDGE)], row.iq[~_pulse_mask(row, EDGE)]
    if len(inside) < FEW or len(outside) < FEW:
        return None
    between = power(outside)
    if between == 0:
        return None
    snr = 10 ** (row.snr / 10)
    spread = np.sqrt((1 + 2 * snr) / (len(inside) * (1 + snr) ** 2) + 1 / len(outside))
    return db(power(inside) / between) - db(1 + snr), float(4.343 * spread)


def found_pulses(row: Signal) -> dict[str, tuple[float, float, float]]:
    """Pulse parameters that differ: name -> (label, measured, tolerance), in samples (``num_pulses``: a count).

    Empty where all agree or where the gaps are too short, or the pulses too few, to be measured.
    """
    rate, n = row.sampling_rate, len(row.iq)
    width, pri, delay = row.pulse_width * rate, row.pri * rate, row.pulse_time_delay * rate
    smooth = int(np.clip(width / 3, 1, 15))
    if pri - width < 4 * smooth + 6 or width < 8:
        return {}
    level = np.convolve(np.abs(row.iq) ** 2, np.ones(smooth) / smooth, mode="same")
    noise, top = np.quantile(level, 0.05), np.quantile(level, 0.97)
    if top < 4 * noise:
        return {}
    on = level > 0.4 * (top + noise)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if len(starts):  # noise cuts a pulse in pieces: gaps shorter than the smoothing are none
        apart = starts[1:] - ends[:-1] > smooth
        starts, ends = starts[np.concatenate([[True], apart])], ends[np.concatenate([apart, [True]])]
    long = ends - starts >= max(2, 0.5 * width)
    cut = (ends >= n - smooth) | (starts < smooth)  # a pulse cut by the window's ends may be any length
    sure = int(long.sum())
    starts, ends, cut = (part[long | cut] for part in (starts, ends, cut))
    if not len(starts):
        return {}
    slack = 3.0 + smooth
    labelled = delay + pri * np.arange(row.num_pulses)
    expected = int(np.sum((labelled + width > slack) & (labelled < n - slack - 0.5 * width)))
    out: dict[str, tuple[float, float, float]] = {}
    if len(starts) < expected or sure > len(labelled):
        out["num_pulses"] = (row.num_pulses, len(starts), 0)
    if 0 <= delay < n - slack and abs(starts[0] - delay) > slack:
        out["pulse_time_delay"] = (delay, float(starts[0]), slack)
    whole = ends[~cut] - starts[~cut]
    if len(whole) and abs(np.median(whole) - width) > slack:
        out["pulse_width"] = (width, float(np.median(whole)), slack)
    if len(starts) >= 2 and abs(np.median(np.diff(starts)) - pri) > slack:
        out["pri"] = (pri, float(np.median(np.diff(starts))), slack)
    return out
