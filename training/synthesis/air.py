"""The "air" set: windows as a receiver in the field delivers them.

    symbols -> modulator -> amplifier, oscillator -> burst -> multipath, fading, offset, neighbour
            -> noise -> receiver filter -> mirror, DC, spur -> converter -> (tuner) -> window

Windows are drawn in batches; batch k of a seed is the same wherever and whenever it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from . import channels as ch
from .air_receiver import converted, middle, noise_floor, tuned, tuning
from .air_signals import SIGNALS, Signal

CLASSES = tuple(SIGNALS)
# Many emitters of one kind share a band. Share of windows with two of them: those that hop do not listen before.
PAIRED = {"GFSK": 0.2, "MSK": 0.1, "OQPSK": 0.05}
TUNED_SHARE = 0.2  # of the windows are tried; those whose signal is wide enough already are taken as they are
MARGIN = 128  # samples generated before and after the window, so that filters settle outside it


@dataclass(frozen=True)
class AirConfig:
    """Ranges of the air set. SNR is the signal's power while it is on over the noise power in the window's band."""

    length: int = 1024
    snr_low_db: float = -6.0
    snr_high_db: float = 30.0
    rate_min_hz: float = 8e3
    rate_max_hz: float = 6.2e7
    rate_unknown: float = 0.3  # share of windows whose rate is withheld


@dataclass
class Batch:
    """iq (B, length) complex64, label (B,) index into CLASSES, snr (B,) dB (NaN for noise), rate (B,) Hz or NaN."""

    iq: np.ndarray
    label: np.ndarray
    snr: np.ndarray
    rate: np.ndarray


def air_batch(seed: int, number: int, size: int, config: AirConfig = AirConfig()) -> Batch:
    """Batch ``number`` of the endless sequence of ``seed``."""
    rng = np.random.default_rng([seed, number])
    label = rng.integers(0, len(CLASSES), size)
    iq = np.empty((size, config.length), np.complex64)
    snr, rate = np.empty(size), np.empty(size)
    for row, which in enumerate(label):
        iq[row], snr[row], rate[row] = window_and_rate(rng, CLASSES[which], config)
    return Batch(iq, label, snr, told_rate(rng, rate, config))


def told_rate(rng: Generator, standard: np.ndarray, config: AirConfig = AirConfig()) -> np.ndarray:
    """Rates in Hz that receivers tell of their windows: those of standards, any where there is none (nan), nan for the
    share that is withheld and where the standard's lies outside of the range."""
    rate = np.exp(rng.uniform(np.log(config.rate_min_hz), np.log(config.rate_max_hz), np.shape(standard)))
    rate = np.where(np.isnan(standard), rate, standard)
    rate = np.where((rate >= config.rate_min_hz) & (rate <= config.rate_max_hz), rate, np.nan)
    return np.where(rng.random(np.shape(standard)) < config.rate_unknown, np.nan, rate)


def window_and_rate(
    rng: Generator, name: str, config: AirConfig = AirConfig(), snr_db: float | None = None
) -> tuple[np.ndarray, float, float]:
    """One window (length,) complex64 of a class, its SNR in dB, and the sample rate in Hz where the signal is of a
    standard that says how long its symbols last (its receiver's, in the window); nan where any rate will do."""
    n = config.length + 2 * MARGIN
    if snr_db is None:
        snr_db = rng.uniform(config.snr_low_db, config.snr_high_db)
    if name == "noise":
        x = _noise(rng, n)
        return x[MARGIN : MARGIN + config.length].astype(np.complex64), np.nan, np.nan
    if rng.random() < TUNED_SHARE:
        window, rate = _tuned_window(rng, name, n, snr_db)
    else:
        if rng.random() < PAIRED.get(name, 0.0):
            x, bandwidth, rate = _pair(rng, name, n, config.length)
        else:
            signal = SIGNALS[name](rng, n)
            rate = signal.rate
            bandwidth = max(signal.bandwidth, 4.0 / config.length)
            x = _sent(rng, signal, signal.samples, bandwidth)
        window = converted(rng, _received(rng, x, bandwidth, snr_db)[0])
    return window[MARGIN : MARGIN + config.length].astype(np.complex64), snr_db, rate


def _noise(rng: Generator, n: int) -> np.ndarray:
    """No signal: what the receiver makes of its own noise, tuned somewhere now and then."""
    decimation = int(rng.integers(2, 6)) if rng.random() < 0.5 * TUNED_SHARE else 1
    x = converted(rng, noise_floor(rng, n * decimation), quiet=True)
    return tuned(x, rng.uniform(-0.4, 0.4), decimation) if decimation > 1 else x


def _tuned_window(rng: Generator, name: str, n: int, snr_db: float) -> tuple[np.ndarray, float]:
    """A narrow signal received at several times the window's rate and tuned to as `emind classify` does.

    A signal that fills so much of the band that nothing is left to decimate is taken as it is. The SNR holds in the
    window's band, after the tuner.
    """
    most = int(rng.integers(2, 5))
    signal = SIGNALS[name](rng, most * n)
    decimation = tuning(signal.bandwidth, most)
    if signal.bursty and decimation < most:  # a part of it may be a pause
        signal, decimation = SIGNALS[name](rng, n), 1
    bandwidth = max(signal.bandwidth, 4.0 / n)
    x = _sent(rng, signal, signal.samples[: decimation * n], bandwidth)
    x, offset = _received(rng, x, bandwidth, snr_db - 10 * np.log10(decimation))
    x = converted(rng, x)
    x = tuned(x, middle(x, offset, 0.2 / decimation), decimation) if decimation > 1 else x
    return x, signal.rate / decimation


def _sent(rng: Generator, signal: Signal, x: np.ndarray, bandwidth: float) -> np.ndarray:
    """Transmitter, burst and channel; power about one while the signal is on."""
    x = _transmitted(rng, x, signal.linear_amplifier)
    x, on = _burst(rng, x, signal.bursty)
    x = x / np.sqrt(np.mean(np.abs(x[on]) ** 2) + 1e-12)
    return _propagated(rng, x, bandwidth, signal.multicarrier)


def _pair(rng: Generator, name: str, n: int, length: int) -> tuple[np.ndarray, float, float]:
    """Two emitters of one class side by side, alike in power: their sum, the bandwidth of both together, and the rate.

    Mostly two of one standard, so the same rate and deviation. Where they hardly fit beside each other they overlap.
    """
    for _ in range(4):
        first = SIGNALS[name](rng, 2 * n)
        if first.bandwidth < 0.45:
            break
    alike = rng.random() < 0.75
    second = first if alike else SIGNALS[name](rng, 2 * n)
    width = max(first.bandwidth, second.bandwidth, 4.0 / length)
    apart = rng.uniform(0.8, 2.0) * width
    apart = min(apart, max(0.3, 0.95 - width)) * rng.choice([-1, 1])
    one = _sent(rng, first, first.samples[:n], width)
    two = _sent(rng, second, second.samples[n:], width) * 10 ** (rng.uniform(-3, 3) / 20)
    x = ch.shift(one, -apart / 2) + ch.shift(two, apart / 2)
    loud = np.abs(x) > 0.3 * np.abs(x[MARGIN : n - MARGIN]).max()
    return x / np.sqrt(np.mean(np.abs(x[loud]) ** 2) + 1e-12), min(1.0, width + abs(apart)), first.rate


def _transmitted(rng: Generator, x: np.ndarray, linear_amplifier: bool) -> np.ndarray:
    n = len(x)
    if linear_amplifier and rng.random() < 0.3:
        x = ch.compress(x, rng.uniform(1.1, 2.5), rng.uniform(1, 3))
    if rng.random() < 0.3:
        x = x * ch.phase_noise(rng, n, 10 ** rng.uniform(-3.5, -1.7))
    if rng.random() < 0.2:  # the oscillator drifts through the window
        x = x * np.exp(1j * np.pi * rng.uniform(-0.03, 0.03) / n * np.arange(n) ** 2)
    if rng.random() < 0.15:  # gain droops or rises
        x = x * np.linspace(1.0, rng.uniform(0.5, 1.5), n)
    return x


def _burst(rng: Generator, x: np.ndarray, bursty: bool) -> tuple[np.ndarray, np.ndarray]:
    """Cut to a burst that starts, ends or pauses inside the window. Returns the signal and where it is on."""
    n = len(x)
    inside = slice(MARGIN, n - MARGIN)
    on = np.zeros(n, bool)
    on[inside] = True
    kind = rng.random()
    if kind < 0.33 and not (bursty and kind < 0.15):
        least = rng.uniform(0.12, 0.4) * (n - 2 * MARGIN)
        gate = np.ones(n)
        lo, hi = MARGIN, n - MARGIN
        if kind < 0.11:  # starts inside
            gate[: int(rng.uniform(lo, hi - least))] = 0
        elif kind < 0.22:  # ends inside
            gate[int(rng.uniform(lo + least, hi)) :] = 0
        elif kind < 0.27:  # starts and ends inside
            start = rng.uniform(lo, hi - least)
            gate[: int(start)] = 0
            gate[int(rng.uniform(start + least, hi)) :] = 0
        elif kind < 0.3:  # a pause
            start = rng.uniform(lo, hi - least)
            gate[int(start) : int(rng.uniform(start, min(hi, start + 2 * least)))] = 0
        else:  # time slots
            slot = rng.uniform(80, 500)
            gate = ((np.arange(n) / slot + rng.random()) % 1 < rng.uniform(0.3, 0.8)).astype(float)
        on &= gate > 0
        ramp = int(rng.integers(1, 24))
        gate = np.convolve(gate, np.hanning(ramp + 2)[1:-1] / np.hanning(ramp + 2)[1:-1].sum(), mode="same")
        x = x * gate
    if bursty:  # power is counted where the signal is on, not over its own pauses
        level = np.abs(x)
        on &= level > 0.3 * level[inside].max()
    return x, on if on.any() else np.ones(n, bool)


def _propagated(rng: Generator, x: np.ndarray, bandwidth: float, multicarrier: bool = False) -> np.ndarray:
    """Echoes and fading. Without a line of sight whole parts of a wide signal's band are gone.

    Multicarrier systems are built for echoes of many samples; single carriers are used where the echoes last less
    than about half a symbol.
    """
    n = len(x)
    kind = rng.random()
    if kind < 0.35:  # a line of sight
        spread = min(24.0, 10 ** rng.uniform(-1.0, 0.0) / bandwidth)
        response = ch.multipath(rng, n, spread, int(rng.integers(1, 6)), 10 ** rng.uniform(0.0, 2.0))
        x = ch.filtered(x, response)
    elif kind < (0.8 if multicarrier else 0.5):
        spread = 10 ** rng.uniform(0.0, 1.1 if multicarrier else 0.9)
        if not multicarrier:
            spread = min(spread, rng.uniform(0.1, 0.5) / bandwidth)
        response = ch.multipath(rng, n, spread, int(rng.integers(3, 9)), 10 ** rng.uniform(-2.0, 0.0))
        x = ch.scaled_to(ch.filtered(x, response), ch.power(x))  # what is received sets the SNR
    if rng.random() < 0.15:
        x = x * ch.fading(rng, n, 10 ** rng.uniform(-5, -3), 10 ** rng.uniform(0, 1.5))
    return x


def _received(rng: Generator, x: np.ndarray, bandwidth: float, snr_db: float) -> tuple[np.ndarray, float]:
    """Offset, neighbour, noise and the receiver's filter: what is received, and the offset in cycles per sample."""
    n = len(x)
    room = max(0.0, 0.5 - bandwidth / 2)
    if rng.random() < 0.7:  # tuned to the signal, not exactly
        offset = float(np.clip(rng.normal(0, 0.08) * bandwidth + rng.normal(0, 0.01), -room, room))
    else:
        offset = rng.uniform(-room, room) if room else 0.0
    x = ch.shift(x, offset, rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.12:  # a weaker neighbour, somewhere in the band or upon the signal
        other = SIGNALS[_NEIGHBOURS[int(rng.integers(0, len(_NEIGHBOURS)))]](rng, n).samples
        level = ch.db(-rng.uniform(8, 25)) / (np.mean(np.abs(other) ** 2) + 1e-12)
        if rng.random() < 0.3:  # loud, but for a short part of the window
            level = ch.db(rng.uniform(-8, 4)) / (np.mean(np.abs(other) ** 2) + 1e-12)
            start, length = rng.uniform(0, n), rng.uniform(0.05, 0.25) * n
            other = other * (np.abs(np.arange(n) - start) < length / 2)
        where = offset + rng.uniform(-0.5, 0.5) * (bandwidth if rng.random() < 0.3 else 1.0)
        x = x + np.sqrt(level) * ch.shift(other, where, rng.uniform(0, 2 * np.pi))
    total = ch.complex_noise(rng, n, ch.db(-snr_db)) + x
    kind = rng.random()
    if kind < 0.35:  # a channel filter, not always centred: noise is limited to it as well
        if kind < 0.1:  # of another service: the audio filter of a single-sideband receiver, say
            cutoff = rng.uniform(min(0.45, max(0.1, 0.55 * bandwidth)), 0.48)
            edge = 10 ** rng.uniform(-2.5, -1.0)
        else:
            cutoff = min(0.5, bandwidth / 2 * rng.uniform(1.0, 3.5) + abs(rng.normal(0, 0.02)))
            edge = 10 ** rng.uniform(-1.7, -0.1)
        centre = offset + rng.normal(0, 0.1) * bandwidth
        total = ch.filtered(total, ch.lowpass(n, cutoff, cutoff * edge, centre))
        stop = ch.db(-rng.uniform(25, 90)) * np.mean(np.abs(total) ** 2)
        total = total + ch.complex_noise(rng, n, stop)
    elif kind < 0.65:
        total = ch.filtered(total, ch.lowpass(n, rng.uniform(0.36, 0.5), rng.uniform(0.02, 0.3)))
    return total, offset


_NEIGHBOURS = ("BPSK", "QPSK", "OQPSK", "GFSK", "NFM", "OOK", "16QAM", "2FSK")
