"""The receiver of the "air" set: its noise floor, its converter, and the tuner of `emind classify` after it."""

from __future__ import annotations

import numpy as np
from emind.dsp.band import MIN_WINDOWS, Band, TuningPlan, occupied_band, plan_tuning
from numpy.random import Generator
from scipy.signal import upfirdn

from . import channels as ch

STRETCH = 256  # samples of a spectrum that shows where the signal lies


def noise_floor(rng: Generator, n: int) -> np.ndarray:
    """Noise as front ends colour it. Every fifteenth window is confined to a sharp band, not more, and to none below a
    third of the rate: many carriers look the same, and a receiver's filter is seldom narrower."""
    x = ch.complex_noise(rng, n)
    kind = rng.random()
    if kind < 0.35:  # the edges of the receiver's own filter
        x = ch.filtered(x, ch.lowpass(n, rng.uniform(0.36, 0.5), rng.uniform(0.02, 0.3)))
    elif kind < 0.6:  # a slope and low humps over the band: deep ones are echoes, so a signal
        f = np.fft.fftfreq(n)
        ripple = rng.normal(0, 2) * 2 * f
        for order in range(1, int(rng.integers(2, 6))):
            ripple = ripple + rng.normal(0, 1.5) / order * np.cos(2 * np.pi * order * f + 2 * np.pi * rng.random())
        if rng.random() < 0.3:  # noise of the oscillator and the mixer around zero
            ripple = ripple + rng.uniform(3, 15) / (1 + (np.abs(f) / 10 ** rng.uniform(-2.5, -1)) ** 2)
        x = ch.filtered(x, 10 ** (ripple / 20))
    elif kind < 0.667:  # the channel filter of some service
        cutoff = rng.uniform(0.17, 0.45)
        response = ch.lowpass(n, cutoff, cutoff * 10 ** rng.uniform(-2.0, -0.5), rng.normal(0, 0.05))
        x = ch.filtered(x, np.maximum(response, 10 ** (-rng.uniform(25, 90) / 20)))
    if rng.random() < 0.1:  # gain control at work
        x = x * np.linspace(1.0, rng.uniform(0.6, 1.6), n)
    return x


def converted(rng: Generator, x: np.ndarray, quiet: bool = False) -> np.ndarray:
    """Mirror, DC, spur, and the converter with its clipping and steps; ``quiet`` where it has noise alone before it."""
    rms = np.sqrt(np.mean(np.abs(x) ** 2) + 1e-20)
    kind = rng.random()
    if kind < 0.4:
        x = ch.iq_imbalance(x, rng.normal(0, 0.6), rng.normal(0, 0.06))
    elif kind < 0.5:
        x = ch.mirror(x, rng.uniform(-25, -8), rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.35:
        x = x + rms * 10 ** rng.uniform(-2.0, -0.3) * np.exp(2j * np.pi * rng.random())
    spurs = int(rng.integers(1, 4)) if quiet and rng.random() < 0.15 else int(rng.random() < 0.08)
    for _ in range(spurs):
        x = x + rms * 10 ** rng.uniform(-2.0, -0.8) * np.exp(2j * np.pi * rng.uniform(-0.5, 0.5) * np.arange(len(x)))
    peak = np.max(np.abs(x)) + 1e-20
    kind = rng.random()
    if quiet and kind < 0.15:  # a few steps of eight bits
        return ch.quantise(x, 8, rms * 128 / rng.uniform(0.8, 6))
    if quiet and kind < 0.25:  # four bits
        return ch.quantise(x, 4, rms * 8 / rng.uniform(1, 4))
    if kind < 0.45:  # eight bits, of which a weak signal uses few
        return ch.quantise(x, 8, peak * 10 ** rng.uniform(0.0, 1.5))
    if kind < 0.52:  # overdriven
        return ch.quantise(x, int(rng.integers(8, 13)), peak * rng.uniform(0.35, 0.9))
    if kind < 0.75:
        return ch.quantise(x, int(rng.integers(10, 17)), peak * 10 ** rng.uniform(0.0, 1.5))
    return x


def tuning(bandwidth: float, most: int) -> int:
    """Decimation by which `emind classify` brings a signal of ``bandwidth`` cycles per sample to windows, at most
    ``most``."""
    return plan_tuning(Band(-bandwidth / 2, bandwidth / 2), 1.0, MIN_WINDOWS * most, 1).decimation


def middle(x: np.ndarray, offset: float, tolerance: float) -> float:
    """Where the tuner sees the middle of a signal that lies at ``offset``; there where it is further off than
    ``tolerance``: another one was found, and this window has to hold its own."""
    stretches = x[: len(x) // STRETCH * STRETCH].reshape(-1, STRETCH).astype(np.complex64)
    band = occupied_band(stretches, 1.0)
    return band.center if band and abs(band.center - offset) < tolerance else offset


def tuned(x: np.ndarray, center: float, decimation: int) -> np.ndarray:
    """Shift ``center`` to zero and decimate, by the tuner's own filter: (n,) to (n // decimation,)."""
    plan = TuningPlan(center, decimation)
    out = upfirdn(plan.taps(), ch.shift(x, -center).astype(np.complex64), 1, decimation)
    return out[plan.delay : plan.delay + len(x) // decimation]
