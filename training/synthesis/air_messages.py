"""Speech and music for the analogue classes of the "air" set.

A message is real, of known audio bandwidth in cycles per sample, which stands for some 3 kHz of speech or 15 kHz of
music: pitch, formants, syllables and notes follow in their true proportions to it. A window of a narrow message then
holds a few pitch periods, that of a wide one a word.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from . import channels as ch

SPEECH_HZ = 3_000.0  # what `bandwidth` stands for
MUSIC_HZ = (4_000.0, 15_000.0)
PEAK_RMS = (0.25, 0.5)  # range of the mean level under a peak of one: speech peaks far above its mean


def _harmonics(phase: np.ndarray, weights: np.ndarray, blend: np.ndarray, rng: Generator) -> np.ndarray:
    """Overtones of ``phase`` (n,) rad; ``blend`` (n,) glides their amplitudes from weights[0] (K,) to weights[1]."""
    count = weights.shape[1]
    turn = np.exp(1j * phase).astype(np.complex64)  # twice as fast, and 24 factors lose nothing
    tones = np.cumprod(np.broadcast_to(turn, (count, len(phase))), axis=0)
    start = np.exp(2j * np.pi * rng.random(count))
    first, last = (weights * start).astype(np.complex64) @ tones
    return ((1 - blend) * first + blend * last).real


def _resonances(f: np.ndarray, rng: Generator) -> np.ndarray:
    """Amplitude of a vocal tract with three or four formants at frequencies ``f`` in Hz."""
    centres = rng.uniform([250, 800, 2200, 3200], [900, 2400, 3200, 4200])
    widths = rng.uniform(50, 250, 4)
    peaks = 1 / np.sqrt(1 + ((f[:, None] - centres) / widths) ** 2)
    return (peaks * 10 ** (-rng.uniform(0, 1, 4) * np.arange(4) / 2)).sum(1) + 0.01


def voiced(rng: Generator, n: int, bandwidth: float) -> np.ndarray:
    """A vowel: overtones of a gliding pitch under formants that move."""
    hz = bandwidth / SPEECH_HZ  # cycles per sample of one hertz
    t = np.arange(n) / n
    pitch = rng.uniform(75, 300) * hz
    glide = 1 + rng.uniform(-0.25, 0.25) * min(1.0, n * hz * 5) * (t - 0.5)  # a quarter of the pitch in 0.2 s
    phase = 2 * np.pi * np.cumsum(pitch * glide)
    k = np.arange(1, min(24, max(2, int(bandwidth / pitch))) + 1)
    fall = k ** -rng.uniform(0.3, 1.3)
    frequency = k * pitch / hz
    weights = np.stack([fall * _resonances(frequency, rng), fall * _resonances(frequency, rng)])
    return _harmonics(phase, weights, np.clip(t * rng.uniform(0.5, 2), 0, 1), rng)


def unvoiced(rng: Generator, n: int, bandwidth: float) -> np.ndarray:
    """A consonant: noise through one broad resonance in the upper part of the band."""
    f = np.fft.rfftfreq(n)
    centre, width = rng.uniform(0.5, 1.1) * bandwidth, rng.uniform(0.1, 0.4) * bandwidth
    shape = 1 / (1 + ((f - centre) / width) ** 2)
    return np.fft.irfft(shape * (rng.standard_normal(len(f)) + 1j * rng.standard_normal(len(f))), n)


def music(rng: Generator, n: int, bandwidth: float) -> np.ndarray:
    """One to four notes with overtones that decay from their onset, perhaps a beat of broad noise under them."""
    hz = bandwidth / rng.uniform(*MUSIC_HZ)
    t = np.arange(n)
    x = np.zeros(n)
    for _ in range(int(rng.integers(1, 5))):
        pitch = 60 * 2 ** rng.uniform(0, 5) * hz
        count = int(np.clip(bandwidth / pitch, 1, 16))
        vibrato = 1 + rng.uniform(0, 0.01) * np.sin(2 * np.pi * (rng.uniform(4, 7) * hz * t + rng.random()))
        weights = np.repeat(((rng.random(count) + 0.1) / np.arange(1, count + 1) ** rng.uniform(0.4, 1.6))[None], 2, 0)
        note = _harmonics(2 * np.pi * np.cumsum(pitch * vibrato), weights, np.zeros(n), rng)
        if rng.random() < 0.5:
            since = t - rng.uniform(-0.5, 0.6) * n
            note = note * np.where(since >= 0, np.exp(-np.maximum(since, 0) * hz * rng.uniform(1, 12)), 0.02)
        x += rng.uniform(0.3, 1) * note
    if rng.random() < 0.35:
        f = np.fft.rfftfreq(n)
        shape = 1 / np.sqrt(1 + (f / (bandwidth * rng.uniform(0.02, 0.3))) ** 2)
        beat = np.fft.irfft(shape * (rng.standard_normal(len(f)) + 1j * rng.standard_normal(len(f))), n)
        x = _unit(x) + rng.uniform(0.1, 0.7) * _unit(beat)
    return x


def speech(rng: Generator, n: int, bandwidth: float, pauses: bool) -> np.ndarray:
    """Vowels and consonants under the envelope of syllables; ``pauses`` between words, at most half of the window."""
    x = _unit(voiced(rng, n, bandwidth))
    kind = rng.random()
    if kind < 0.1:
        x = _unit(unvoiced(rng, n, bandwidth))
    elif kind < 0.4:  # from one into the other within the window
        change = np.clip((np.arange(n) - rng.uniform(0.1, 0.9) * n) / (n * rng.uniform(0.01, 0.2)), 0, 1)
        change = change if rng.random() < 0.5 else 1 - change
        x = x * change + rng.uniform(0.1, 0.6) * _unit(unvoiced(rng, n, bandwidth)) * (1 - change)
    elif kind < 0.6:  # breath under the voice
        x = x + rng.uniform(0.03, 0.3) * _unit(unvoiced(rng, n, bandwidth))
    hz = bandwidth / SPEECH_HZ
    syllables = 0.5 + 0.5 * np.cos(2 * np.pi * (rng.uniform(2, 8) * hz * np.arange(n) + rng.random()))
    x = x * (1 - rng.uniform(0.3, 0.97) * syllables)
    if pauses and rng.random() < 0.25:
        edge = rng.uniform(0.3, 0.7) * n
        gate = np.clip((np.arange(n) - edge) / (n * rng.uniform(0.02, 0.15)) + 0.5, 0, 1)
        x = x * (gate if rng.random() < 0.5 else 1 - gate)
    return x


def programme(rng: Generator, n: int, bandwidth: float, pauses: bool = False, music_share: float = 0.25) -> np.ndarray:
    """A message (n,) within +-1 of audio bandwidth ``bandwidth`` cycles per sample: mostly speech, sometimes music,
    seldom a steady tone. ``pauses`` where silence is part of the modulation's look (no carrier in it)."""
    kind = rng.random()
    low = bandwidth * rng.uniform(0.01, 0.1)
    if kind < 0.05:
        pitch, t = rng.uniform(0.1, 0.95) * bandwidth, np.arange(n)
        x = np.cos(2 * np.pi * (pitch * t + rng.random())) + (rng.random() < 0.4) * np.cos(
            2 * np.pi * (pitch * rng.uniform(0.3, 1.0) * t + rng.random()))  # fmt: skip
        low = 0.0
    elif kind < 0.05 + music_share:
        x = music(rng, n, bandwidth)
    else:
        x = speech(rng, n, bandwidth, pauses)
    peak = rng.uniform(2.0, 4.0) * np.sqrt(np.mean(x**2))  # the transmitter's limiter, ahead of its filter
    x = np.clip(x, -peak, peak)
    edge = bandwidth * rng.uniform(0.02, 0.2)
    x = ch.filtered(x, ch.lowpass(n, bandwidth - edge / 2, edge) - (low > 0) * ch.lowpass(n, low, low)).real
    x = _unit(x) * rng.uniform(*PEAK_RMS)
    return x / max(1.0, np.abs(x).max())


def _unit(x: np.ndarray) -> np.ndarray:
    return x / (np.sqrt(np.mean(x**2)) + 1e-12)


def message(rng: Generator, n: int, bandwidth: float) -> np.ndarray:
    """Real audio-like message within +-1: formants, harmonics, tones, syllables; ``bandwidth`` cycles a sample."""
    total = 2 * n
    f = np.fft.rfftfreq(total)
    low = bandwidth * rng.uniform(0.02, 0.12)
    shape = np.zeros(len(f))
    for _ in range(int(rng.integers(1, 4))):
        centre = rng.uniform(low, bandwidth)
        shape += rng.random() * np.exp(-(((f - centre) / (bandwidth * rng.uniform(0.05, 0.4))) ** 2))
    shape *= (f > low) & (f < bandwidth)
    m = np.fft.irfft(shape * (rng.standard_normal(len(f)) + 1j * rng.standard_normal(len(f))))
    m /= np.sqrt(np.mean(m**2)) + 1e-12
    if rng.random() < 0.85:  # a voiced sound or a tone
        pitch = bandwidth * np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
        count = max(1, int(rng.uniform(0.3, 1.0) * bandwidth / pitch))
        t, k = np.arange(total), np.arange(1, count + 1)[:, None]
        roll = rng.random((count, 1)) / k ** rng.uniform(0.2, 1.5)
        tones = (roll * np.cos(2 * np.pi * k * pitch * t + 2 * np.pi * rng.random((count, 1)))).sum(0)
        tones /= np.sqrt(np.mean(tones**2)) + 1e-12
        m = m * rng.random() ** 2 + tones * rng.uniform(0.2, 1.0)
    if rng.random() < 0.4:  # syllables
        rate = bandwidth * np.exp(rng.uniform(np.log(0.005), np.log(0.05)))
        m = m * (0.55 + 0.45 * np.sin(2 * np.pi * (rate * np.arange(total) + rng.random())))
    m = m[n // 2 : n // 2 + n]
    m = m / (np.sqrt(np.mean(m**2)) + 1e-9) * rng.uniform(0.25, 0.5)  # speech peaks far above its mean
    return np.clip(m, -1.0, 1.0)
