"""Interference on communications and jamming of radars. Times in samples, frequencies in cycles per sample.

Each function returns n samples; the sets scale them to the wanted power. Radar jammers that answer a pulse get the
pulse train they answer.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from . import channels as ch
from .radar import Waveform, pulses


def tone(rng: Generator, n: int, frequency: float) -> np.ndarray:
    """One carrier with random phase."""
    return np.exp(2j * np.pi * (frequency * np.arange(n) + rng.random()))


def tones(rng: Generator, n: int, frequencies: np.ndarray) -> np.ndarray:
    """Carriers of equal power with random phases; total power one."""
    phase = rng.random((len(frequencies), 1))
    return np.exp(2j * np.pi * (np.outer(frequencies, np.arange(n)) + phase)).sum(0) / np.sqrt(len(frequencies))


def comb(rng: Generator, n: int, teeth: int, spacing: float, centre: float) -> np.ndarray:
    """``teeth`` equally spaced carriers around ``centre``."""
    return tones(rng, n, centre + (np.arange(teeth) - (teeth - 1) / 2) * spacing)


def sweep(rng: Generator, n: int, bandwidth: float, period: float, centre: float = 0.0) -> np.ndarray:
    """A carrier that runs through ``bandwidth`` every ``period`` samples, up or down; constant envelope."""
    position = (np.arange(n) / period + rng.random()) % 1.0
    direction = 1.0 if rng.random() < 0.5 else -1.0
    return np.exp(2j * np.pi * np.cumsum(centre + direction * (position - 0.5) * bandwidth))


def swept_tones(rng: Generator, n: int, count: int, bandwidth: float, period: float) -> np.ndarray:
    """``count`` carriers that sweep through the same band, each from its own place."""
    position = (np.arange(n)[None] / period + rng.random((count, 1))) % 1.0
    phase = np.cumsum((position - 0.5) * bandwidth, axis=1) + rng.random((count, 1))
    return np.exp(2j * np.pi * phase).sum(0) / np.sqrt(count)


def noise_fm(rng: Generator, n: int, bandwidth: float, centre: float = 0.0) -> np.ndarray:
    """A carrier whose frequency follows Gaussian noise, +-2 sigma over ``bandwidth``: constant envelope, wide band."""
    message = ch.band_noise(rng, n, min(0.9, bandwidth)).real
    message = np.clip(message / np.std(message), -2, 2) / 2
    return np.exp(2j * np.pi * (np.cumsum(centre + message * bandwidth / 2) + rng.random()))


def pulsed_noise(rng: Generator, n: int, period: float, duty: float) -> np.ndarray:
    """White noise that is on for the share ``duty`` of each ``period``."""
    return ch.complex_noise(rng, n) * ((np.arange(n) / period + rng.random()) % 1.0 < duty)


# --------------------------------------------------------------------------------------------------- radar jammers


def interrupted_sampling(
    shape: Waveform, starts: np.ndarray, n: int, slice_width: float, repeats: int
) -> np.ndarray:
    """Intermittent-sampling repeater: stores ``slice_width`` samples of the pulse, sends them ``repeats`` times, and
    again, as long as the pulse lasts. Its period is slice_width * (repeats + 1)."""
    x = np.zeros(n, complex)
    period = slice_width * (repeats + 1)
    for start in starts:
        for at in np.arange(0.0, shape.width, period):
            first, last = int(np.ceil(start + at + slice_width)), int(np.ceil(start + at + period))
            k = np.arange(max(0, first), min(n, last))
            if len(k):
                since = k - start - at - slice_width
                x[k] += shape.at(at + since % slice_width)
    return x


def range_pull_off(
    rng: Generator, shape: Waveform, starts: np.ndarray, n: int, delay: float, pull: float
) -> np.ndarray:
    """Range deception: a copy ``delay`` behind the first echo, ``pull`` further behind at each following pulse."""
    late = starts + delay + pull * np.arange(len(starts))
    return pulses(shape, late, n) * np.exp(2j * np.pi * rng.random())


def false_targets(
    rng: Generator, shape: Waveform, starts: np.ndarray, n: int, count: int, spacing: float
) -> np.ndarray:
    """``count`` copies behind each echo, ``spacing`` apart, with phases and up to 3 dB of difference of their own."""
    offsets = spacing * (1 + np.arange(count))
    gains = 10 ** (rng.uniform(-3, 0, count) / 20) * np.exp(2j * np.pi * rng.random(count))
    late = (starts[:, None] + offsets).ravel()
    return pulses(shape, late, n, np.tile(gains, len(starts)))


def smart_noise(rng: Generator, shape: Waveform, starts: np.ndarray, n: int, spread: float) -> np.ndarray:
    """Noise convolved with the radar's own pulse over ``spread`` samples behind each echo: in its band, and it passes
    its matched filter."""
    x = np.zeros(n, complex)
    pulse = shape.at(np.arange(int(np.ceil(shape.width))))
    for start in starts:
        burst = np.convolve(ch.complex_noise(rng, max(2, int(spread))), pulse)
        first = int(np.ceil(start))
        low, high = max(0, first), min(n, first + len(burst))
        if high > low:
            x[low:high] += burst[low - first : high - first]
    return x


def chaff(
    rng: Generator, shape: Waveform, starts: np.ndarray, n: int, spread: float, doppler: float, scatterers: int = 60
) -> np.ndarray:
    """A cloud of dipoles: many echoes over ``spread`` samples with Gaussian gains, each with a small Doppler shift
    of its own (standard deviation ``doppler``), so that it fluctuates from pulse to pulse."""
    delay = rng.uniform(0, spread, scatterers)
    gain = ch.complex_noise(rng, scatterers)
    speed = rng.normal(0, doppler, scatterers)
    late = (starts[:, None] + delay).ravel()
    gains = (gain * np.exp(2j * np.pi * speed * starts[:, None])).ravel()
    return pulses(shape, late, n, gains)
