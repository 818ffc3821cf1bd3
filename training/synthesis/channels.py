"""What happens between transmitter and receiver, and in the receiver's front end.

Arrays are complex, one window with some margin. Frequencies in cycles per sample, powers as ratios.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator


def db(value: float) -> float:
    """Decibels of power to a ratio."""
    return 10.0 ** (value / 10.0)


def complex_noise(rng: Generator, n: int, power: float = 1.0) -> np.ndarray:
    """White Gaussian noise of the given power."""
    return np.sqrt(power / 2) * (rng.standard_normal(n) + 1j * rng.standard_normal(n))


def shift(x: np.ndarray, frequency: float, phase: float = 0.0) -> np.ndarray:
    """Carrier offset and phase."""
    return x * np.exp(1j * (2 * np.pi * frequency * np.arange(len(x)) + phase))


def filtered(x: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filter by a frequency response on the bins of ``np.fft.fftfreq(len(x))``; the ends wrap around."""
    return np.fft.ifft(np.fft.fft(x) * response)


def lowpass(n: int, cutoff: float, transition: float, centre: float = 0.0) -> np.ndarray:
    """Response of a zero-phase low-pass with a raised-cosine edge around ``cutoff``, of width ``transition``."""
    f = np.abs((np.fft.fftfreq(n) - centre + 0.5) % 1.0 - 0.5)
    edge = np.clip((f - cutoff) / max(transition, 1e-6) + 0.5, 0.0, 1.0)
    return 0.5 + 0.5 * np.cos(np.pi * edge)


def multipath(rng: Generator, n: int, spread: float, taps: int, k_factor: float) -> np.ndarray:
    """Frequency response of ``taps`` echoes with exponential profile of ``spread`` samples; power about one.

    ``k_factor`` is the power of the first path over that of all echoes.
    """
    delay = np.concatenate([[0.0], rng.exponential(spread, taps)])
    gain = np.exp(-0.5 * delay / spread) * np.exp(2j * np.pi * rng.random(taps + 1)) * rng.rayleigh(0.7, taps + 1)
    gain[1:] /= np.sqrt(np.sum(np.abs(gain[1:]) ** 2)) + 1e-9
    gain[0] = np.sqrt(k_factor)
    gain /= np.sqrt(1 + k_factor)
    return np.exp(-2j * np.pi * np.fft.fftfreq(n)[:, None] * delay[None, :]) @ gain


def fading(rng: Generator, n: int, doppler: float, k_factor: float, waves: int = 8) -> np.ndarray:
    """Rician flat fading as a sum of waves; ``doppler`` in cycles per sample."""
    angle, phase = rng.random((2, waves)) * 2 * np.pi
    t = np.arange(n)
    scatter = np.exp(1j * (2 * np.pi * doppler * np.cos(angle)[:, None] * t + phase[:, None])).sum(0) / np.sqrt(waves)
    return (np.sqrt(k_factor) + scatter) / np.sqrt(1 + k_factor)


def phase_noise(rng: Generator, n: int, step: float) -> np.ndarray:
    """Random-walk phase, ``step`` radians a sample."""
    return np.exp(1j * np.cumsum(rng.standard_normal(n)) * step)


def compress(x: np.ndarray, saturation: float, smoothness: float = 2.0) -> np.ndarray:
    """Rapp model of a power amplifier, saturating at ``saturation`` times the mean amplitude."""
    a = np.abs(x)
    limit = saturation * np.sqrt(np.mean(a**2) + 1e-12)
    return x / (1 + (a / limit) ** (2 * smoothness)) ** (1 / (2 * smoothness))


def iq_imbalance(x: np.ndarray, gain_db: float, phase_rad: float) -> np.ndarray:
    """Unequal branches: leaves a mirror image at -f."""
    g = 10 ** (gain_db / 20)
    a = 0.5 * (1 + g * np.exp(1j * phase_rad))
    b = 0.5 * (1 - g * np.exp(1j * phase_rad))
    return a * x + b * x.conj()


def mirror(x: np.ndarray, image_db: float, phase: float) -> np.ndarray:
    """A mirror image of stated level."""
    return x + 10 ** (image_db / 20) * np.exp(1j * phase) * x.conj()


def quantise(x: np.ndarray, bits: int, full_scale: float) -> np.ndarray:
    """Round to a converter of ``bits`` whose range is +-full_scale; beyond it clips."""
    half = 2 ** (bits - 1)

    def branch(v: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(v / full_scale * half - 0.5) + 0.5, -half + 0.5, half - 0.5) * (full_scale / half)

    return branch(x.real) + 1j * branch(x.imag)


def power(x: np.ndarray) -> float:
    """Mean power."""
    return float(np.vdot(x, x).real) / len(x)


def noise_for(rng: Generator, x: np.ndarray, snr_db: float, on: np.ndarray | None = None) -> np.ndarray:
    """White noise that gives ``x`` this SNR: its mean power (where ``on``) over the noise's, in the whole band.

    The noise of each window is scaled to its exact power, so that the label is true of the very window. ValueError for
    a signal of zero power, which no noise can give an SNR.
    """
    signal = power(x if on is None else x[on]) if on is None or on.any() else 0.0
    if not signal > 0:
        raise ValueError("a signal of zero power has no SNR")
    noise = rng.standard_normal(2 * len(x)).view(complex)
    noise *= np.sqrt(signal * db(-snr_db) / power(noise))
    return noise


def scaled_to(x: np.ndarray, wanted: float) -> np.ndarray:
    """``x`` at this mean power; zeros stay zeros."""
    now = power(x)
    return x * np.sqrt(wanted / now) if now > 0 else x


def band_noise(rng: Generator, n: int, bandwidth: float, centre: float = 0.0) -> np.ndarray:
    """Gaussian noise of unit power confined to ``bandwidth`` around ``centre``, cycles per sample."""
    noise = filtered(complex_noise(rng, n), lowpass(n, bandwidth / 2, 0.1 * bandwidth, centre))
    return scaled_to(noise, 1.0)
