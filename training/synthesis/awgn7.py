"""AWGN-7: windows whose best possible classification is known, one symbol a sample, 128 samples.

Eleven classes to train on; seven of them (`SEVEN`) have a likelihood in closed form, so what the best classifier
reaches on them is known for every SNR.
"""

from __future__ import annotations

import numpy as np
from emind.contract.schema import Signal
from numpy.random import Generator

from . import channels as ch
from . import modulators as mod
from .recipe import Recipe, iq

LENGTH = 128
SEVEN = ("BPSK", "QPSK", "8PSK", "4PAM", "16QAM", "64QAM", "CPFSK")
CLASSES = (*SEVEN, "AM-DSB", "AM-SSB", "WBFM", "GFSK")
SNRS = range(-20, 20, 2)
INDEX = 0.55  # half-turns of phase a symbol of CPFSK
GFSK_TAPS = np.exp(-(np.arange(-4, 5) ** 2) / 5.0)
GFSK_TAPS = GFSK_TAPS / GFSK_TAPS.sum()

# PSK phases are 2 pi k / M + pi / M, for BPSK too: its points are +-j.
POINTS = {
    "BPSK": 1j * mod.psk(2), "QPSK": mod.psk(4), "8PSK": mod.psk(8), "4PAM": mod.pam(4), "16QAM": mod.qam(16),
    "64QAM": mod.qam(64),
}  # fmt: skip


def _message(rng: Generator) -> np.ndarray:
    """White Gaussian noise through a mean of nine, scaled to a peak of one."""
    m = np.convolve(rng.standard_normal(LENGTH + 8), np.ones(9) / 9, mode="valid")
    return m / np.max(np.abs(m))


def clean_window(rng: Generator, name: str) -> np.ndarray:
    """(128,) complex: the class before its mean is taken away and its power made one."""
    if name in POINTS:
        return POINTS[name][rng.integers(0, len(POINTS[name]), LENGTH)]
    if name == "CPFSK":
        return np.exp(1j * INDEX * np.pi * np.cumsum(rng.choice([-1.0, 1.0], LENGTH)))
    if name == "GFSK":
        signs = np.convolve(rng.choice([-1.0, 1.0], LENGTH + 8), GFSK_TAPS, mode="valid")
        return np.exp(1j * INDEX * np.pi * np.cumsum(signs))
    m = _message(rng)
    if name == "AM-DSB":
        return (1 + 0.65 * m).astype(complex)
    if name == "AM-SSB":
        return mod.single_sideband(m, upper=True)
    if name == "WBFM":
        return np.exp(1j * 2.2 * np.cumsum(m))
    raise KeyError(name)


def awgn7(rng: Generator, item: int) -> list[Signal]:
    """AWGN-7: 11 classes x 1,000 clean windows, each at SNR -20 to 18 dB by 2: 20 rows an item.

    ``transmission_id`` is the clean window: split by it, 70/15/15. No sampling rate: a symbol is a sample. The noise's
    power is exactly 10**(-SNR/10) on average, not for each window, or the likelihood would be another. Where the recipe
    is silent: sums and means reach beyond the window's edges (no fade at its ends); the deviation of GFSK is CPFSK's.
    """
    name = CLASSES[item % len(CLASSES)]
    x = clean_window(rng, name)
    x = x - x.mean()
    x = x / np.sqrt(np.mean(np.abs(x) ** 2))
    return [Signal(iq(x + ch.complex_noise(rng, LENGTH, ch.db(-snr))), "AWGN-7", transmission_id=str(item), snr=snr,
                   modulation=name)
            for snr in SNRS]


RECIPES = (Recipe("AWGN-7", awgn7, 110, 2_200, 11_000),)
