"""How each modulation class of the "air" set looks on the air: parameters drawn at random, one function a class.

Each function takes the random generator and a length in samples and returns a `Signal`. The ranges are wide on
purpose: a window comes from an unknown transmitter at an unknown oversampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from . import modulators as mod
from .air_messages import message, programme
from .air_ofdm import any_ofdm
from .air_standards import rate_if_standard, rate_of

# 802.15.4 chips of data symbol 0 at 2.4 GHz; the others are rotations by 4 chips, 8...15 with odd chips inverted.
ZIGBEE_CHIPS = np.array([int(c) for c in "11011001110000110101001000101110"])


@dataclass
class Signal:
    """Samples (n,), the occupied bandwidth as a share of the sample rate, whether on-off is its nature, and whether
    it is made to pass echoes that are long against a sample (many carriers). ``rate`` in Hz where it is one of a
    standard, whose symbols last so and so long; nan where any rate will do."""

    samples: np.ndarray
    bandwidth: float
    bursty: bool = False
    linear_amplifier: bool = False
    multicarrier: bool = False
    rate: float = math.nan


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _samples_per_symbol(rng: Generator, low: float = 2.0, high: float = 64.0) -> float:
    """2 to 64, mostly what a receiver that tuned to the signal sees; a third are whole numbers."""
    sps = _log_uniform(rng, low, min(high, 16.0)) if rng.random() < 0.75 else _log_uniform(rng, low, high)
    return float(max(low, np.rint(sps))) if rng.random() < 0.35 else sps


def _data(rng: Generator, count: int, order: int) -> np.ndarray:
    """Symbol numbers: mostly random, sometimes a preamble's repetition, a constant run, or long idle stretches."""
    values = rng.integers(0, order, count)
    kind = rng.random()
    if kind < 0.08:
        pattern = rng.integers(0, order, int(rng.integers(2, 9)))
        length = int(rng.uniform(0.2, 0.7) * count)
        at = int(rng.integers(0, max(1, count - length)))
        values[at : at + length] = np.resize(pattern, length)
    elif kind < 0.13:
        length = int(rng.uniform(0.05, 0.3) * count)
        at = int(rng.integers(0, max(1, count - length)))
        values[at : at + length] = values[at]
    return values


def _nyquist_pulse(rng: Generator) -> tuple[np.ndarray, float]:
    """A pulse and its bandwidth in symbol rates."""
    kind = rng.random()
    rolloff = float(rng.choice([0.2, 0.22, 0.25, 0.35, 0.5])) if rng.random() < 0.5 else rng.uniform(0.1, 0.9)
    if kind < 0.6:
        return mod.root_raised_cosine(rolloff), 1 + rolloff
    if kind < 0.85:
        return mod.raised_cosine(rolloff), 1 + rolloff
    return mod.rectangle(), 2.0


def _linear(rng: Generator, n: int, points: np.ndarray, differential: bool = False) -> Signal:
    pulse, width = _nyquist_pulse(rng)
    sps = _samples_per_symbol(rng)
    count = mod.symbols_needed(sps, pulse, n)
    values = _data(rng, count, len(points))
    symbols = mod.differential_quarter_pi(values) if differential else points[values]
    x = mod.linear(symbols, sps, pulse, n, -rng.random() * sps)
    return Signal(x, min(1.0, width / sps), linear_amplifier=True)


def noise(rng: Generator, n: int) -> Signal:
    return Signal(np.zeros(n, complex), 1.0)


def _keyed_durations(rng: Generator, n: int, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Levels 0/1 and their durations in samples for the codings of remote controls and sensors."""
    count = max(4, int(n / unit) + 4)
    bits = _data(rng, count, 2)
    coding = rng.random()
    if coding < 0.35:  # pulse width
        ratio = rng.uniform(2, 4)
        if rng.random() < 0.5:
            on, off = np.where(bits, ratio, 1.0), np.where(bits, 1.0, ratio)
        else:
            on, off = np.where(bits, ratio, 1.0), np.full(count, rng.uniform(1, 3))
        levels, durations = np.tile([1, 0], count), np.stack([on, off], 1).ravel()
    elif coding < 0.5:  # pulse distance
        ratio = rng.uniform(2, 4)
        levels = np.tile([1, 0], count)
        durations = np.stack([np.ones(count), np.where(bits, ratio, rng.uniform(1, 1.6))], 1).ravel()
    elif coding < 0.7:  # Manchester
        levels, durations = np.stack([bits, 1 - bits], 1).ravel(), np.ones(2 * count)
    else:  # plain bits
        levels, durations = bits, np.ones(count)
    durations = durations * unit
    if rng.random() < 0.4:  # packets: after some tens of keys a pause
        levels, durations = levels.copy(), durations.astype(float)
        packet = 2 * int(rng.integers(4, 40))
        levels[packet - 1 :: packet] = 0
        durations[packet - 1 :: packet] = unit * _log_uniform(rng, 5, 60)
    return levels, durations


def ook(rng: Generator, n: int) -> Signal:
    unit = _log_uniform(rng, 2.0, 150.0) if rng.random() < 0.8 else _samples_per_symbol(rng)
    levels, durations = _keyed_durations(rng, n, unit)
    start = rng.random() * unit * 8
    envelope = mod.on_off(levels, durations, n, start)
    if envelope.max() < 0.5 or envelope.min() > 0.5:  # a window without an edge says nothing: put one in
        envelope[int(rng.integers(n // 4, 3 * n // 4)) :] = 1.0 - envelope[0]
    message_end = rng.random() < 0.1  # little of the message is in the window, mostly what is sent beside it
    if message_end:
        length = int(rng.uniform(0.1, 0.5) * n)
        envelope[:-length] = 0.0
        if envelope.max() < 0.5:
            envelope[-length // 2 :] = 1.0
        envelope = envelope if rng.random() < 0.5 else envelope[::-1]
    envelope = _edges(rng, envelope, unit)
    if rng.random() < (0.7 if message_end else 0.25):  # the off state is not off: leakage, or keying of partial depth
        floor = rng.uniform(0.03, 0.45)
        envelope = floor + (1 - floor) * envelope
    x = envelope.astype(complex)
    if rng.random() < 0.35:  # the oscillator is pulled while the key changes
        pull = rng.uniform(-0.15, 0.15) * min(1.0, 8 / unit)
        x = x * np.exp(2j * np.pi * np.cumsum(pull * (1 - envelope) + rng.uniform(-0.3, 0.3) * pull * envelope))
    if rng.random() < 0.3:  # restarted oscillator: a new phase at every key-down
        key_down = np.cumsum(np.diff(envelope > 0.5 * envelope.max(), prepend=False).astype(int) > 0)
        x = x * np.exp(2j * np.pi * rng.random(key_down[-1] + 1))[key_down]
    return Signal(x, min(1.0, 3.0 / unit), bursty=True)


def _edges(rng: Generator, envelope: np.ndarray, unit: float) -> np.ndarray:
    """Finite rise and fall times."""
    rise = max(1, int(unit * rng.uniform(0.0, 0.5)))
    if rise == 1:
        return envelope
    kernel = np.hanning(rise + 2)[1:-1] if rng.random() < 0.6 else np.exp(-np.arange(rise) * 3.0 / rise)
    return np.convolve(envelope, kernel / kernel.sum(), mode="same")


def ask4(rng: Generator, n: int) -> Signal:
    return _linear(rng, n, mod.ask(4, lowest=float(rng.choice([0.0, 0.1, 0.25]))))


def bpsk(rng: Generator, n: int) -> Signal:
    return _linear(rng, n, mod.psk(2))


def qpsk(rng: Generator, n: int) -> Signal:
    return _linear(rng, n, mod.psk(4))


def psk8(rng: Generator, n: int) -> Signal:
    return _linear(rng, n, mod.psk(8))


def qam16(rng: Generator, n: int) -> Signal:
    return _linear(rng, n, mod.qam(16))


def qam64(rng: Generator, n: int) -> Signal:
    return _linear(rng, n, mod.qam(64))


def pam4(rng: Generator, n: int) -> Signal:
    return _linear(rng, n, mod.pam(4))


def dqpsk_quarter_pi(rng: Generator, n: int) -> Signal:
    return _linear(rng, n, mod.psk(4), differential=True)


def oqpsk(rng: Generator, n: int) -> Signal:
    if rng.random() < 0.55:  # 802.15.4: half-sine chips of a spreading code
        sps = 2 * _log_uniform(rng, 1.5, 8.0)  # a branch symbol is two chips
        pulse, width = mod.half_sine(), 1.5
        count = mod.symbols_needed(sps, pulse, n)
        nibbles = _data(rng, 2 * count // 32 + 2, 16)
        chips = np.concatenate([_zigbee(nibble) for nibble in nibbles])
        at = 2 * int(rng.integers(0, 16))
        pairs = chips[at:].reshape(-1, 2)[:count] * 2.0 - 1
        symbols = (pairs[:, 0] + 1j * pairs[:, 1]) / np.sqrt(2)
        linear_amplifier = False
        rate = rate_of(rng, "802.15.4", sps / 2)
    else:
        rate = math.nan
        sps, (pulse, width) = _samples_per_symbol(rng), _nyquist_pulse(rng)
        count = mod.symbols_needed(sps, pulse, n)
        symbols = mod.psk(4)[_data(rng, count, 4)]
        linear_amplifier = True
    x = mod.offset_quadrature(symbols, sps, pulse, n, -rng.random() * sps)
    return Signal(x, min(1.0, width / sps), linear_amplifier=linear_amplifier, rate=rate)


def _zigbee(nibble: int) -> np.ndarray:
    chips = np.roll(ZIGBEE_CHIPS, 4 * (nibble % 8))
    if nibble >= 8:
        chips = chips.copy()
        chips[1::2] ^= 1
    return chips


def _shift_keyed(rng: Generator, n: int, order: int, pulse: np.ndarray, index: float, sps: float,
                 manchester: float = 0.25) -> Signal:
    """``manchester``: share whose bits are sent as two of opposite sign, where there are two levels."""
    count = mod.symbols_needed(sps, pulse, n)
    values = _data(rng, count, order)
    if order == 2 and rng.random() < manchester:
        bits = values[: count // 2 + 1]
        values = np.stack([bits, 1 - bits], 1).ravel()
        values = np.concatenate([values, values])[:count]
    if rng.random() < 0.15:  # the alternation before a packet: a sine in frequency where the pulse is smooth
        length = int(rng.uniform(0.2, 1.6) * count)
        values[:length] = np.resize([0, order - 1], min(length, count))
    levels = values * 2.0 - (order - 1)
    if rng.random() < 0.08:  # the carrier before or after a packet: in the middle, or on an outer tone
        edge = max(1, int(rng.uniform(0.1, 0.5) * count))
        beside = slice(edge) if rng.random() < 0.5 else slice(-edge, None)
        levels[beside] = rng.choice([0.0, 0.0, 1.0 - order, order - 1.0])
    bandwidth = min(1.0, (index * (order - 1) + 1.2) / sps)
    if order == 2 and index > 1.5 and rng.random() < 0.3:
        gains = 10 ** (rng.uniform(-3, 3, order) / 20)
        return Signal(mod.switched_tones(levels, sps, index, n, rng.random(order) * 2 * np.pi, gains), bandwidth)
    x = mod.frequency_shift(levels, sps, index, pulse, n, -rng.random() * sps)
    if rng.random() < 0.3:  # unequal tones: a sloping front end
        level = mod.pulse_train(levels, sps, pulse, n)
        x = x * 10 ** (rng.uniform(-3, 3) * level / (20 * (order - 1)))
    return Signal(x, bandwidth)


def _deviation(rng: Generator, order: int, low: float, high: float, room: float = 0.85) -> tuple[float, float]:
    """Modulation index and samples per symbol such that the signal fits into the band."""
    index = _log_uniform(rng, low, high)
    least = max(2.0, (index * (order - 1) + 1.2) / room)
    if rng.random() < 0.8:
        sps = least * _log_uniform(rng, 1.0, 8.0)
    else:
        sps = least * _log_uniform(rng, 1.0, 40.0)
    return index, min(sps, 250.0)


def fsk2(rng: Generator, n: int) -> Signal:
    index, sps = _deviation(rng, 2, 0.6, 12.0)
    pulse = mod.rectangle() if rng.random() < 0.7 else mod.gaussian(rng.uniform(0.8, 2.0))
    return replace(_shift_keyed(rng, n, 2, pulse, index, sps), rate=rate_of(rng, "telegram", sps))


def fsk4(rng: Generator, n: int) -> Signal:
    index, sps = _deviation(rng, 4, 0.2, 3.0)
    kind, rate = rng.random(), math.nan
    if kind < 0.45:  # DMR, dPMR, P25: Nyquist-shaped frequency
        pulse = mod.root_raised_cosine(0.2) if rng.random() < 0.6 else mod.raised_cosine(0.2)
        index, sps = rng.uniform(0.2, 0.6), _log_uniform(rng, 3.0, 25.0)
        rate = rate_of(rng, "private radio", sps)
    elif kind < 0.7:
        pulse = mod.gaussian(rng.uniform(0.3, 1.0))
    else:
        pulse = mod.rectangle()
    return replace(_shift_keyed(rng, n, 4, pulse, index, sps), rate=rate)


def gfsk(rng: Generator, n: int) -> Signal:
    index, sps = _deviation(rng, 2, 0.3, 1.5)
    kind = rng.random()
    if kind < 0.4:  # Bluetooth and its like
        index, sps = rng.uniform(0.28, 0.55), _log_uniform(rng, 2.0, 20.0)
        x = _shift_keyed(rng, n, 2, mod.gaussian(rng.uniform(0.4, 0.6)), index, sps, manchester=0.0)
        return replace(x, rate=rate_of(rng, "Bluetooth", sps))
    if kind < 0.6:  # home automation and meters: tones further apart
        index = _log_uniform(rng, 0.5, 2.5)
        sps = max(2.0, (index + 1.2) / 0.85) * _log_uniform(rng, 1.0, 16.0)
        x = _shift_keyed(rng, n, 2, mod.gaussian(rng.uniform(0.5, 1.0)), index, sps)
    else:
        x = _shift_keyed(rng, n, 2, mod.gaussian(rng.uniform(0.3, 0.7)), index, sps)
    return replace(x, rate=rate_of(rng, "short range", sps))


def msk(rng: Generator, n: int) -> Signal:
    # Without a Gaussian filter MSK is rare, and the chips of 802.15.4 (OQPSK) look the same.
    sps = _samples_per_symbol(rng)
    if rng.random() < 0.25:
        return _shift_keyed(rng, n, 2, mod.rectangle(), 0.5, sps)
    smooth = _shift_keyed(rng, n, 2, mod.gaussian(rng.uniform(0.25, 0.5)), 0.5, sps, manchester=0.0)
    return replace(smooth, rate=rate_of(rng, "GMSK", sps))


def am_dsb(rng: Generator, n: int) -> Signal:
    bandwidth = _log_uniform(rng, 0.01, 0.35)
    return Signal(mod.amplitude(programme(rng, n, bandwidth), rng.uniform(0.4, 1.0)), 2 * bandwidth)


def am_ssb(rng: Generator, n: int) -> Signal:
    bandwidth = _log_uniform(rng, 0.02, 0.45)
    audio = programme(rng, n, bandwidth, pauses=True, music_share=0.15)
    return Signal(mod.single_sideband(audio, bool(rng.random() < 0.5)), bandwidth, linear_amplifier=True)


def narrow_fm(rng: Generator, n: int) -> Signal:
    bandwidth = _log_uniform(rng, 0.005, 0.12)
    index = _log_uniform(rng, 0.5, 3.0)
    audio = programme(rng, n, bandwidth, music_share=0.1)
    if rng.random() < 0.3:  # a sub-audible tone that opens the receiver
        tone = rng.uniform(67, 250) / 3000 * bandwidth * np.arange(n) + rng.random()
        audio = 0.85 * audio + 0.15 * np.cos(2 * np.pi * tone)
    return Signal(mod.frequency(audio, index * bandwidth), min(1.0, 2 * (index + 1) * bandwidth))


def _broadcast_audio(rng: Generator, n: int, bandwidth: float) -> np.ndarray:
    """Mostly music; a quarter is the denser sound of a compressed studio signal."""
    return message(rng, n, bandwidth) if rng.random() < 0.25 else programme(rng, n, bandwidth, music_share=0.6)


def wide_fm(rng: Generator, n: int) -> Signal:
    deviation = _log_uniform(rng, 0.04, 0.35)
    stereo = rng.random() < 0.6
    rate = rate_of(rng, "broadcast", 1.0) if stereo else math.nan  # at one sample a cycle of the audio's band
    bandwidth = deviation / rng.uniform(3.5, 12.0 if math.isnan(rate) else 5.2)  # a standard's reaches 75 kHz
    m, rate = _broadcast_audio(rng, n, bandwidth), rate / bandwidth
    if stereo:  # 19 kHz pilot, difference signal on 38 kHz, audio to 15 kHz
        t = np.arange(n) * bandwidth / 15.0
        phase = 2 * np.pi * rng.random()
        side = _broadcast_audio(rng, n, bandwidth) * rng.random()
        m = 0.85 * (m + side * np.cos(2 * np.pi * 38 * t + 2 * phase)) + 0.1 * np.cos(2 * np.pi * 19 * t + phase)
    return Signal(mod.frequency(np.clip(m, -1, 1), deviation), min(1.0, 2 * (deviation + 2 * bandwidth)), rate=rate)


def ofdm(rng: Generator, n: int) -> Signal:
    x, bandwidth, rate = any_ofdm(rng, n)
    return Signal(x, bandwidth, linear_amplifier=True, multicarrier=True, rate=rate_if_standard(rng, rate))


def lora(rng: Generator, n: int) -> Signal:
    spreading = int(rng.integers(5, 12))
    bandwidth = _log_uniform(rng, 0.08, 0.9)
    chips = 2**spreading
    count = int(n * bandwidth / chips) + 3
    values = rng.integers(0, chips, count)
    if rng.random() < 0.3:  # preamble: base chirps
        values[: int(rng.integers(1, count + 1))] = 0
    start = rng.random() * chips / bandwidth
    x = mod.lora(values, spreading, bandwidth, n, start, bool(rng.random() < 0.85))
    return Signal(x, bandwidth, rate=rate_of(rng, "LoRa", 1 / bandwidth))


def lfm_pulse(rng: Generator, n: int) -> Signal:
    width = _log_uniform(rng, 40, 1000)
    bandwidth = max(_log_uniform(rng, 0.03, 0.9), min(0.9, 6 / width)) * rng.choice([-1, 1])
    interval = width / rng.uniform(0.05, 0.9)
    one = mod.linear_sweep(width, bandwidth, int(width) + 1)
    x = np.zeros(n, complex)
    first = rng.uniform(-0.5 * width, min(interval, n * 0.4))
    for at in np.arange(first, n, interval).astype(int):
        lo, hi = max(0, at), min(n, at + len(one))
        x[lo:hi] = one[lo - at : hi - at]
    return Signal(x, abs(bandwidth), bursty=True)


def ads_b(rng: Generator, n: int) -> Signal:
    half_bit = _log_uniform(rng, 0.9, 6.0) if rng.random() < 0.75 else float(rng.integers(1, 6))
    x = np.zeros(n, complex)
    at = rng.uniform(-100 * half_bit, 0.5 * n)
    while at < n:
        bits = rng.integers(0, 2, 112 if rng.random() < 0.5 else 56)
        envelope = mod.pulse_position(bits, half_bit, n, at)
        if rng.random() < 0.7:
            envelope = _edges(rng, envelope, half_bit)
        gain = 10 ** (rng.uniform(-8, 0) / 20) * np.exp(2j * np.pi * rng.random())
        drift = np.exp(2j * np.pi * rng.uniform(-0.1, 0.1) * np.arange(n))
        x += envelope * gain * drift
        at += (16 + 2 * len(bits)) * half_bit + rng.exponential(600)
    if not np.any(x):
        x += mod.pulse_position(rng.integers(0, 2, 112), half_bit, n, n * 0.3)
    return Signal(x, min(1.0, 1.0 / half_bit), bursty=True, rate=rate_of(rng, "Mode S", half_bit))


SIGNALS = {
    "noise": noise, "OOK": ook, "4ASK": ask4, "BPSK": bpsk, "QPSK": qpsk, "OQPSK": oqpsk,
    "pi/4-DQPSK": dqpsk_quarter_pi, "8PSK": psk8, "16QAM": qam16, "64QAM": qam64, "4PAM": pam4, "2FSK": fsk2,
    "4FSK": fsk4, "GFSK": gfsk, "MSK": msk, "AM-DSB": am_dsb, "AM-SSB": am_ssb, "NFM": narrow_fm, "WFM": wide_fm,
    "OFDM": ofdm, "LoRa": lora, "LFM": lfm_pulse, "ADS-B": ads_b,
}  # fmt: skip
