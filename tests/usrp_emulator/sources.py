"""What the antenna hears. A source is a callable ``(position, count, tuning) -> complex samples (count,)``.

``position`` counts samples from the start of the stream, lost ones included; full scale is an amplitude of 1.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Tuning:
    """How the receiver is set for these samples: frequencies in Hz, gain in dB, time of the first sample in ticks."""

    frequency: float
    rate: float
    gain_db: float
    ticks: int
    chain: int = 0


Source = Callable[[int, int, Tuning], np.ndarray]


def as_samples(array: np.ndarray) -> np.ndarray:
    """Complex samples, or pairs of integers (N, 2) whose steps are 1/32767: those arrive at the driver unchanged."""
    array = np.asarray(array)
    if array.ndim == 2 and array.shape[1] == 2:
        scale = np.float32(1 / 32767) if array.dtype.kind == "i" else np.float32(1)
        array = np.ascontiguousarray(array.astype(np.float32) * scale).view(np.complex64)[:, 0]
    if array.ndim != 1 or array.dtype.kind != "c" or not len(array):
        raise ValueError("a source is complex samples (N,) or pairs (N, 2), and not empty")
    return array.astype(np.complex64, copy=False)


class Loop:
    """A recording played again and again, whatever the receiver is tuned to."""

    def __init__(self, array: np.ndarray):
        self.samples = as_samples(array)

    def __call__(self, position: int, count: int, tuning: Tuning) -> np.ndarray:
        return _looped(self.samples, position, count)


def _looped(samples: np.ndarray, position: int, count: int) -> np.ndarray:
    """So many samples of an endless repetition; not to be written to."""
    start = position % len(samples)
    if start + count <= len(samples):
        return samples[start:start + count]
    return samples[np.arange(start, start + count) % len(samples)]


def counter(position: int, count: int, tuning: Tuning) -> np.ndarray:
    """Samples that tell their own position: I holds bits 0 to 14, Q bits 15 to 29, as integers at full scale 32767."""
    number = np.arange(position, position + count, dtype=np.int64)
    pairs = np.stack([number & 0x7FFF, number >> 15 & 0x7FFF], axis=1).astype(np.float32) / np.float32(32767)
    return pairs.view(np.complex64)[:, 0]


@dataclass(frozen=True)
class Emitter:
    """A signal on the air. ``level_db``: amplitude at a gain of 0 dB against full scale.

    ``kind``: ``tone``, ``bpsk``, ``qpsk`` (both at ``symbol_rate``, shaped) or ``2fsk`` (shift = symbol rate).
    ``on`` and ``off``: lengths of its bursts and pauses in seconds; always on where ``off`` is 0.
    """

    frequency: float
    kind: str = "tone"
    level_db: float = -40.0
    symbol_rate: float = 50e3
    on: float = 0.0
    off: float = 0.0


class Scene:
    """Emitters at radio frequencies and noise: heard where the receiver is tuned, at its rate and gain.

    One stretch of ``length`` samples is rendered for each setting and looped without a step at the joint; for that
    frequencies and symbol rates are moved to the nearest multiple of rate / length. The noise is looped with another
    period, so that no two recorded rows are the same for hours: to a check they would be copies of each other.
    """

    def __init__(self, emitters: Sequence[Emitter], noise_db: float = -60.0, length: int = 1 << 18, seed: int = 1):
        self.emitters, self.noise_db, self.length, self.seed = tuple(emitters), noise_db, length, seed
        self._rendered: dict[tuple[float, float], np.ndarray] = {}
        noise = np.random.default_rng(seed).standard_normal((length + 1, 2)) @ [1, 1j]
        self._noise = (noise * 10 ** (noise_db / 20) / np.sqrt(2)).astype(np.complex64)

    def __call__(self, position: int, count: int, tuning: Tuning) -> np.ndarray:
        key = tuning.frequency, tuning.rate
        if key not in self._rendered:
            if len(self._rendered) >= 16:  # 2 MB each
                self._rendered.pop(next(iter(self._rendered)))
            self._rendered[key] = self._render(*key)
        x = _looped(self._rendered[key], position, count) + _looped(self._noise, position, count)
        x *= np.float32(10 ** (tuning.gain_db / 20))
        return x

    def _render(self, frequency: float, rate: float) -> np.ndarray:
        x = np.zeros(self.length, np.complex128)
        time = np.arange(self.length)
        for number, emitter in enumerate(self.emitters):
            offset = emitter.frequency - frequency
            if abs(offset) > rate / 2:
                continue
            cycles = round(offset / rate * self.length)
            carrier = np.exp(2j * np.pi * ((cycles * time) % self.length) / self.length)
            level = 10 ** (emitter.level_db / 20)
            x += level * carrier * self._baseband(emitter, rate, np.random.default_rng((self.seed, number)))
        return x.astype(np.complex64)

    def _baseband(self, emitter: Emitter, rate: float, generator: np.random.Generator) -> np.ndarray:
        time = np.arange(self.length)
        symbols = max(2, round(emitter.symbol_rate / rate * self.length))
        if emitter.kind == "tone":
            x = np.ones(self.length, np.complex128)
        elif emitter.kind in ("bpsk", "qpsk"):
            points = np.exp(2j * np.pi * generator.integers(0, 2 if emitter.kind == "bpsk" else 4, symbols)
                            / (2 if emitter.kind == "bpsk" else 4))
            x = self._shaped(points)
        elif emitter.kind == "2fsk":
            sign = np.where(generator.permutation(symbols) % 2, 1, -1)  # as many up as down: the phase closes
            if symbols % 2:
                sign[0] = 0
            shift = emitter.symbol_rate / 2 / rate
            x = np.exp(2j * np.pi * shift * np.cumsum(sign[time * symbols // self.length]))
        else:
            raise ValueError(f"no emitter of kind {emitter.kind!r}: tone, bpsk, qpsk, 2fsk")
        if emitter.off:
            period = max(1, round(self.length / rate / (emitter.on + emitter.off)))  # bursts in a stretch
            x = x * ((time * period / self.length) % 1 < emitter.on / (emitter.on + emitter.off))
        return x

    def _shaped(self, points: np.ndarray, roll_off: float = 0.35) -> np.ndarray:
        """Root-raised-cosine pulses, periodic, by shaping the spectrum; mean power 1."""
        frequency = np.fft.fftfreq(self.length) * self.length / len(points)  # in symbol rates
        edge = np.clip((np.abs(frequency) - (1 - roll_off) / 2) / roll_off, 0, 1)
        # Bin k of the long spectrum holds frequency k; the symbols' spectrum repeats every len(points) bins.
        signed = np.rint(np.fft.fftfreq(self.length) * self.length).astype(np.int64)
        spectrum = np.fft.fft(points)[signed % len(points)] * np.cos(np.pi / 2 * edge)
        x = np.fft.ifft(spectrum)
        return x / np.sqrt(np.mean(np.abs(x) ** 2))

    @classmethod
    def of_json(cls, text: str) -> Scene:
        held = json.loads(text)
        emitters = [Emitter(**e) for e in held.pop("emitters", [])]
        return cls(emitters, **held)


def named(text: str) -> Source:
    """The source that a command line names: ``counter``, ``scene:{json}``, ``module:function`` or a file.

    Files: ``.npy``, or raw complex64 under any other suffix (also ``.sigmf-data`` of type cf32_le).
    """
    if text == "counter":
        return counter
    if text.startswith("scene:"):
        return Scene.of_json(text[6:])
    if Path(text).is_file():
        return Loop(np.load(text, mmap_mode="r", allow_pickle=False) if text.endswith(".npy")
                    else np.fromfile(text, np.complex64))
    module, colon, name = text.partition(":")
    if colon:
        return getattr(importlib.import_module(module), name)
    raise ValueError(f"{text}: neither counter, scene:{{...}}, module:function nor a file")
