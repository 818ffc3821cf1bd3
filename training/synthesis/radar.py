"""Radar pulses and pulse trains. Times in samples, frequencies in cycles per sample, amplitude one while a pulse is on.

A waveform is a function of time: evaluated at any fraction of a sample, zero outside its pulse. So a pulse that starts
between two samples has the phases it would have in a real converter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.signal import max_len_seq

BARKER = {
    2: "+-", 3: "++-", 4: "++-+", 5: "+++-+", 7: "+++--+-", 11: "+++---+--+-", 13: "+++++--++-+-+",
}  # fmt: skip
# Phases in degrees, found by minimising the sidelobes: no aperiodic sidelobe exceeds one, which is what Barker asks.
POLYPHASE_BARKER = {
    4: (0.0, 177.5, 85.3, 139.9),
    5: (0.0, 45.6, 214.9, 339.4, 263.0),
    6: (0.0, 37.5, 135.0, 292.5, 150.0, 67.5),
    7: (0.0, 140.8, 219.9, 48.7, 338.5, 35.5, 10.6),
    8: (0.0, 54.7, 159.1, 332.7, 195.1, 73.0, 64.9, 357.6),
    9: (0.0, 265.3, 250.6, 145.2, 311.8, 154.2, 230.5, 268.5, 35.0),
    10: (0.0, 153.2, 143.8, 272.3, 26.9, 225.5, 88.0, 89.3, 46.9, 78.2),
    11: (0.0, 101.6, 240.2, 84.8, 254.3, 222.4, 344.0, 10.7, 358.2, 290.7, 259.0),
    12: (0.0, 266.2, 242.5, 89.0, 302.3, 56.2, 336.8, 341.2, 54.6, 188.9, 261.8, 290.1),
    13: (0.0, 123.6, 44.6, 178.5, 335.0, 297.3, 307.3, 7.0, 241.0, 242.0, 74.6, 50.5, 296.0),
}
STEPS = 8  # frequencies of a stepped pulse
TANGENT = 1.2  # bend of the non-linear sweep: 0 is a straight line


@dataclass(frozen=True)
class Waveform:
    """``at(t)``: the pulse at times t, samples since its start. ``width`` samples, ``bandwidth`` cycles per sample."""

    name: str
    width: float
    bandwidth: float
    at: Callable[[np.ndarray], np.ndarray]


def barker_code(length: int) -> np.ndarray:
    """Chips +-1."""
    return np.array([1.0 if c == "+" else -1.0 for c in BARKER[length]], complex)


def polyphase_barker_code(length: int) -> np.ndarray:
    """Chips of unit modulus, 4 to 13 of them."""
    return np.exp(1j * np.radians(POLYPHASE_BARKER[length]))


def frank_code(side: int) -> np.ndarray:
    """side**2 chips with phases 2 pi i k / side."""
    i = np.arange(side)
    return np.exp(2j * np.pi * np.outer(i, i).ravel() / side)


def maximal_code(bits: int) -> np.ndarray:
    """2**bits - 1 chips +-1 of a maximal-length sequence: its cyclic autocorrelation is -1 off the peak."""
    return (1.0 - 2.0 * max_len_seq(bits)[0]).astype(complex)


def _inside(t: np.ndarray, width: float) -> np.ndarray:
    return (t >= 0) & (t < width)


def rectangular(width: float, name: str = "Rectangular") -> Waveform:
    """An unmodulated pulse; its bandwidth is 1 / width."""
    return Waveform(name, width, 1.0 / width, lambda t: _inside(t, width).astype(complex))


def linear_fm(width: float, bandwidth: float) -> Waveform:
    """A straight sweep over ``bandwidth``, downwards where it is negative."""

    def at(t: np.ndarray) -> np.ndarray:
        return np.where(_inside(t, width), np.exp(1j * np.pi * bandwidth * (t * t / width - t)), 0.0)

    return Waveform("LFM", width, abs(bandwidth), at)


def custom_fm(width: float, bandwidth: float) -> Waveform:
    """A sweep that hurries at its edges: frequency B/2 tan(2 g u) / tan(g), u = t/width - 1/2. Lower sidelobes."""
    g = TANGENT

    def at(t: np.ndarray) -> np.ndarray:
        u = np.clip(t / width - 0.5, -0.5, 0.5)
        turns = -bandwidth / 2 / np.tan(g) * width * np.log(np.cos(2 * g * u)) / (2 * g)
        return np.where(_inside(t, width), np.exp(2j * np.pi * turns), 0.0)

    return Waveform("Custom FM", width, abs(bandwidth), at)


def stepped_fm(width: float, bandwidth: float, steps: int = STEPS) -> Waveform:
    """``steps`` equal tones one after the other with continuous phase; their centres cover B (steps - 1) / steps."""
    tones = (np.arange(steps) - (steps - 1) / 2) * bandwidth / steps
    starts = np.concatenate([[0.0], np.cumsum(tones) * width / steps])[:-1]

    def at(t: np.ndarray) -> np.ndarray:
        k = np.clip((t * steps / width).astype(int), 0, steps - 1)
        turns = starts[k] + tones[k] * (t - k * width / steps)
        return np.where(_inside(t, width), np.exp(2j * np.pi * turns), 0.0)

    return Waveform("Stepped FM", width, abs(bandwidth), at)


def coded(name: str, width: float, chips: np.ndarray) -> Waveform:
    """A pulse cut into chips of equal length; its bandwidth is the chip rate."""
    count = len(chips)

    def at(t: np.ndarray) -> np.ndarray:
        k = np.clip(np.floor(t * count / width), 0, count - 1).astype(int)
        return np.where(_inside(t, width), chips[k], 0.0)

    return Waveform(name, width, count / width, at)


def waveform(rng: Generator, name: str, width: float, bandwidth: float) -> Waveform:
    """A pulse of a named kind. Codes take the length whose chip rate is nearest to ``bandwidth``, sweeps a direction."""
    wanted = width * bandwidth

    def nearest(lengths) -> int:
        return min(lengths, key=lambda length: abs(length - wanted))

    direction = 1.0 if rng.random() < 0.5 else -1.0
    if name in ("Rectangular", "Coherent Pulse Train"):
        return rectangular(width, name)
    if name == "LFM":
        return linear_fm(width, direction * bandwidth)
    if name == "Custom FM":
        return custom_fm(width, direction * bandwidth)
    if name == "Stepped FM":
        return stepped_fm(width, direction * bandwidth)
    if name == "Barker Code":
        return coded(name, width, barker_code(nearest(BARKER)))
    if name == "Polyphase Barker Code":
        return coded(name, width, polyphase_barker_code(nearest(POLYPHASE_BARKER)))
    if name == "Frank Code":
        return coded(name, width, frank_code(round(nearest((4, 9, 16, 25, 36)) ** 0.5)))
    if name == "Phase Coded":
        return coded(name, width, maximal_code(int(np.log2(nearest((7, 15, 31, 63)) + 1))))
    raise KeyError(f"no radar waveform is called {name!r}; known: {', '.join(WAVEFORMS)}")


WAVEFORMS = (
    "Coherent Pulse Train", "Barker Code", "Polyphase Barker Code", "Frank Code", "LFM", "Rectangular", "Phase Coded",
    "Stepped FM", "Custom FM",
)  # fmt: skip


def pulses(shape: Waveform, starts: np.ndarray, n: int, gains: np.ndarray | None = None) -> np.ndarray:
    """(n,) the sum of the pulse at each of ``starts`` (samples, any fraction), each times its complex gain."""
    x = np.zeros(n, complex)
    gains = np.ones(len(starts)) if gains is None else gains
    for start, gain in zip(starts, gains, strict=True):
        first, last = max(0, int(np.ceil(start))), min(n, int(np.ceil(start + shape.width)))
        if last > first:
            x[first:last] += gain * shape.at(np.arange(first, last) - start)
    return x


def starts_in(n: int, pri: float, delay: float) -> np.ndarray:
    """Starts of all pulses of an endless train that begin inside the window."""
    return delay + pri * np.arange(max(1, int(np.ceil((n - delay) / pri))))
