"""Kinds of signals drawn by chance: what a metric for few-shot recognition is trained on.

A kind is a programme with everything settled that makes it this kind: how the carrier moves, what gates it, what echoes
it has. A window of it draws the rest: data, phase, start, carrier offset, SNR, and whatever the kind leaves open. Kinds
come in families that share all but one trait, so that what must be told apart is not always far apart:

    family: traits, each settled, or left open within a range   ─► kind: one trait of the family drawn anew ─► windows

None of the named sets (`synthesis.sets`) is drawn here: laws of frequency, codes, gates and echoes are random. Times in
samples, frequencies in cycles per sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from . import channels as ch

CARRIERS = ("swept", "hopping", "coded", "noise", "tones", "shaken")
GATES = ("continuous", "pulsed", "sliced")
ECHOES = ("none", "regular", "cloud", "fresh cloud")
TRAITS = ("carrier", "law", "band", "width", "period", "gate", "slices", "echoes", "second")
OPEN = 0.35  # of a family's traits of number are left open
GRID = 256  # points of a law of frequency
SNR_DB = (-1.0, 24.0)
FAMILY, OF_KIND = 5, 16  # kinds of a family, windows of a kind
FAMILY_WINDOWS = FAMILY * OF_KIND
RATE_UNKNOWN = 0.2  # share of families whose windows are given without their rate


@dataclass(frozen=True)
class Span:
    """A number's range, log-uniform; settled where both ends are nearly one."""

    low: float
    high: float

    def draw(self, rng: Generator) -> float:
        return float(self.low * (self.high / self.low) ** rng.random())


@dataclass(frozen=True)
class Kind:
    """``law``: seed of the carrier's law, code or tones, drawn for each window where None. ``second``: another kind
    underneath and its power against this one's."""

    carrier: str
    law: int | None
    parts: int  # of the law: degree, hops, chips, tones
    band: Span
    width: Span  # of a pulse, or of a period where continuous
    duty: Span
    gate: str
    slices: tuple[Span, float]  # length and duty of the pieces of a sliced pulse
    echoes: str
    spacing: Span
    count: int
    offset: float  # the carrier's largest
    reverses: bool
    second: tuple[Kind, float] | None = None


def windows_of_kinds(
    seed: int, count: int, length: int, rates_hz: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows (N, length) complex64, rates (N,) in Hz or NaN, a family's the same, and the kind's number of each; as
    many whole families as ``count`` windows hold."""
    low, high = max(rates_hz[0], 1.0), min(rates_hz[1], 1e9)
    iq, rate = [], []
    for number in range(count // FAMILY_WINDOWS):
        rng = np.random.default_rng([seed, number])
        told = np.nan if rng.random() < RATE_UNKNOWN else float(low * (high / low) ** rng.random())
        for kind in family(rng, FAMILY):
            iq += [window(rng, kind, length) for _ in range(OF_KIND)]
        rate += [told] * FAMILY_WINDOWS
    return np.stack(iq), np.array(rate), np.arange(len(iq)) // OF_KIND


def family(rng: Generator, kinds: int) -> list[Kind]:
    """Kinds that share all traits but one or two."""
    first = _drawn(rng)
    if rng.random() < 0.3:
        first = replace(first, second=(_drawn(rng), float(10 ** rng.uniform(-2, 0))))
    traits = list(rng.choice(TRAITS, int(rng.integers(1, 3)), replace=False))
    return [_varied(rng, first, traits) for _ in range(kinds)]


def _span(rng: Generator, low: float, high: float, open_share: float = OPEN) -> Span:
    if rng.random() < open_share:
        ends = np.sort(np.exp(rng.uniform(np.log(low), np.log(high), 2)))
        return Span(float(ends[0]), float(ends[1]))
    middle = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return Span(middle * 0.95, middle * 1.05)


def _drawn(rng: Generator) -> Kind:
    carrier = str(rng.choice(CARRIERS, p=(0.3, 0.15, 0.15, 0.2, 0.1, 0.1)))
    return Kind(
        carrier, None if rng.random() < 0.35 else int(rng.integers(1 << 30)), _parts(rng), _span(rng, 0.02, 0.8),
        _span(rng, 24, 500), _span(rng, 0.1, 0.9), str(rng.choice(GATES, p=(0.3, 0.55, 0.15))),
        (_span(rng, 4, 40), float(rng.choice((0.2, 0.33, 0.5, 0.67)))),
        str(rng.choice(ECHOES, p=(0.6, 0.14, 0.13, 0.13))), _span(rng, 3, 60), int(rng.integers(2, 20)),
        float(rng.choice((0.0, 0.01, 0.1))), bool(rng.random() < 0.5))


def _parts(rng: Generator) -> int:
    return int(np.exp(rng.uniform(np.log(2), np.log(24))))


def _varied(rng: Generator, kind: Kind, traits: list[str]) -> Kind:
    other = _drawn(rng)
    changes: dict = {}
    for trait in traits:
        changes |= {
            "carrier": lambda: {"carrier": other.carrier}, "law": lambda: {"law": other.law, "parts": other.parts},
            "band": lambda: {"band": other.band}, "width": lambda: {"width": other.width},
            "period": lambda: {"duty": other.duty}, "gate": lambda: {"gate": other.gate},
            "slices": lambda: {"gate": "sliced", "slices": other.slices},
            "echoes": lambda: {"echoes": str(rng.choice(ECHOES)), "spacing": other.spacing, "count": other.count},
            "second": lambda: {"second": None if rng.random() < 0.3 else (other, float(10 ** rng.uniform(-1, 0.5)))},
        }[trait]()
    return replace(kind, **changes)


def window(rng: Generator, kind: Kind, n: int, snr_db: float | None = None) -> np.ndarray:
    """(n,) complex64. The SNR is of the power while the signal is on, in the whole band."""
    x = ch.scaled_to(_signal(rng, kind, n), 1.0)
    if kind.second is not None:
        other, power = kind.second
        x = x + ch.scaled_to(_signal(rng, other, n), power)
    level = np.abs(x)
    on = level > 0.1 * level.max()
    snr_db = rng.uniform(*SNR_DB) if snr_db is None else snr_db
    return (x + ch.noise_for(rng, x, snr_db, on)).astype(np.complex64)


def _signal(rng: Generator, kind: Kind, n: int) -> np.ndarray:
    """One component (n,), of any power above zero."""
    width, band = kind.width.draw(rng), kind.band.draw(rng)
    period = width if kind.gate == "continuous" else width / kind.duty.draw(rng)
    laws = np.random.default_rng(kind.law) if kind.law is not None else rng
    pulse = _pulse(rng, laws, kind, int(np.ceil(width)), band)
    if kind.gate == "continuous" and kind.carrier == "noise":
        pulse = ch.band_noise(rng, n, band)
    if kind.gate == "sliced":
        length, share = kind.slices[0].draw(rng), kind.slices[1]
        pulse = pulse * ((np.arange(len(pulse)) / length) % 1.0 < share)
    spacing = kind.spacing.draw(rng)
    taps = _taps(rng, kind, spacing)
    reach = len(pulse) + len(taps) - 1
    start = rng.uniform(-reach - (0.3 if kind.gate == "continuous" else 0.0) * period, min(period - reach, n / 2))
    x = np.zeros(n, complex)
    sent = np.convolve(pulse, taps) if len(taps) > 1 else pulse
    for at in np.rint(np.arange(start, n, max(period, 2.0))).astype(int):
        if kind.echoes == "fresh cloud":
            sent = np.convolve(pulse, _taps(rng, kind, spacing))
        if kind.carrier == "noise" and kind.law is None and kind.gate != "continuous":
            fresh = _pulse(rng, rng, kind, len(pulse), band)
            sent = np.convolve(fresh, taps) if len(taps) > 1 else fresh
        low, high = max(0, at), min(n, at + len(sent))
        if high > low:
            x[low:high] += sent[low - at : high - at]
    if kind.reverses and rng.random() < 0.5:
        x = x.conj()
    x = ch.shift(x, rng.uniform(-kind.offset, kind.offset), rng.uniform(0, 2 * np.pi))
    # A gap as long as the window leaves nothing to recognise: such a window is drawn anew.
    return x if np.mean(np.abs(x) ** 2) > 1e-6 else _signal(rng, kind, n)


def _pulse(rng: Generator, laws: Generator, kind: Kind, width: int, band: float) -> np.ndarray:
    """(width,) one period of the carrier, unit power."""
    u = (np.arange(width) + rng.random()) / width
    if kind.carrier == "noise":
        n = max(64, 2 * width)
        return ch.band_noise(laws, n, min(0.9, band))[:width]
    if kind.carrier == "shaken":
        path = ch.band_noise(laws, max(64, 2 * width), min(0.9, band * 0.3)).real[:width]
        return np.exp(2j * np.pi * np.cumsum(0.5 * band * path))
    if kind.carrier == "tones":
        at = (laws.random(kind.parts) - 0.5) * band if laws.random() < 0.5 else \
            (np.arange(kind.parts) - (kind.parts - 1) / 2) * band / kind.parts
        turns = np.outer(at, np.arange(width)) + laws.random((kind.parts, 1))
        return np.exp(2j * np.pi * turns).sum(0) / np.sqrt(kind.parts)
    if kind.carrier == "coded":
        order = int(laws.choice((2, 4, 8)))
        chips = np.exp(2j * np.pi * laws.integers(0, order, max(2, round(band * width))) / order)
        return chips[np.minimum((u * len(chips)).astype(int), len(chips) - 1)]
    if kind.carrier == "hopping":
        levels = laws.permutation(kind.parts) / max(1, kind.parts - 1) - 0.5
        return np.exp(2j * np.pi * band * np.cumsum(levels[np.minimum((u * kind.parts).astype(int), kind.parts - 1)]))
    return np.exp(2j * np.pi * band * np.cumsum(np.interp(u, np.linspace(0, 1, GRID), _sweep(laws, kind.parts))))


def _sweep(laws: Generator, parts: int) -> np.ndarray:
    """(GRID,) a smooth law of frequency over a pulse, from -1/2 to 1/2: a polynomial of chance."""
    weights = laws.standard_normal(min(parts, 6)) / np.arange(1, min(parts, 6) + 1)
    law = np.polynomial.legendre.legval(np.linspace(-1, 1, GRID), [0.0, *weights])
    return (law - law.min()) / max(np.ptp(law), 1e-9) - 0.5


def _taps(rng: Generator, kind: Kind, spacing: float) -> np.ndarray:
    """Impulse response of what the pulse meets; one tap without echoes."""
    if kind.echoes == "none":
        return np.ones(1, complex)
    if kind.echoes == "regular":
        at = np.rint(spacing * np.arange(kind.count)).astype(int)
    else:
        at = rng.integers(0, max(2, int(3 * spacing)), 3 * kind.count)
    at = at[at < 512]
    taps = np.zeros(at.max() + 1, complex)
    np.add.at(taps, at, ch.complex_noise(rng, len(at)))
    return taps
