"""EM-AIS: bursts of the ships' Automatic Identification System (ITU-R M.1371) from emitters with hardware of their own.

    message 168 bits -> frame check -> bit stuffing -> flags, training sequence -> NRZI -> GMSK 9,600 Bd -> hardware
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from emind.contract.schema import Signal
from numpy.random import Generator

from . import channels as ch
from . import modulators as mod
from .recipe import Published, Recipe, iq

BAUD = 9600.0
RATE_HZ = 156_250.0
LENGTH = 3840  # 24.6 ms: 236 bits, from the ramp to the end of nearly every burst
RAMP_BITS = 8  # before the training sequence
EMITTERS = 112
FLAG = np.array([0, 1, 1, 1, 1, 1, 1, 0])
SPS = RATE_HZ / BAUD
PULSE = mod.gaussian(0.4)


def frame_check(bits: np.ndarray) -> np.ndarray:
    """The 16 bits of the CRC of HDLC (CCITT, reflected, inverted) in the order in which they are sent."""
    register = 0xFFFF
    for bit in bits:
        register = (register >> 1) ^ (0x8408 if (register ^ int(bit)) & 1 else 0)
    return ((register ^ 0xFFFF) >> np.arange(16)) & 1


def stuffed(bits: np.ndarray) -> np.ndarray:
    """A zero behind every five ones, so that no data looks like a flag."""
    out, ones = [], 0
    for bit in bits:
        out.append(int(bit))
        ones = ones + 1 if bit else 0
        if ones == 5:
            out.append(0)
            ones = 0
    return np.array(out)


def position_report(rng: Generator) -> np.ndarray:
    """168 bits of message 1 as they are sent: each octet's least significant bit first.

    Everything but the type is random, the ship's number too, so that an emitter is known by its hardware only.
    """
    bits = np.concatenate([[0, 0, 0, 0, 0, 1], rng.integers(0, 2, 162)])
    return bits.reshape(-1, 8)[:, ::-1].ravel()


def burst_bits(message: np.ndarray) -> np.ndarray:
    """Training sequence, flag, message with its check (stuffed), flag; before NRZI."""
    body = stuffed(np.concatenate([message, frame_check(message)]))
    return np.concatenate([np.tile([0, 1], 12), FLAG, body, FLAG])


def nrzi(bits: np.ndarray) -> np.ndarray:
    """Levels +-1: a zero changes the level, a one keeps it."""
    return 1 - 2 * (np.cumsum(1 - bits) % 2)


@dataclass(frozen=True)
class Hardware:
    """What makes an emitter: drawn once from its number, the same in every set and for every seed."""

    offset_hz: float
    index: float
    clock_ppm: float
    gain_db: float
    phase: float
    leak: complex
    saturation: float
    smoothness: float
    rise: float  # bits
    overshoot: float
    settle_hz: float
    phase_noise: float


def hardware(emitter: int) -> Hardware:
    """Ranges within what the standard allows: carrier +-500 Hz, deviation +-4 %, ramp below one millisecond."""
    r = np.random.default_rng([0xA15, emitter])
    return Hardware(
        r.uniform(-500, 500), 0.5 * r.uniform(0.96, 1.04), r.uniform(-20, 20), r.normal(0, 0.25), r.normal(0, 0.03),
        10 ** r.uniform(-2.3, -1.5) * np.exp(2j * np.pi * r.random()), r.uniform(1.1, 2.0), r.uniform(1, 3),
        r.uniform(1.0, 6.0), r.uniform(-0.1, 0.25), r.uniform(-300, 300), 10 ** r.uniform(-3.3, -2.3),
    )  # fmt: skip


def transmitted(rng: Generator, message: np.ndarray, h: Hardware, n: int = LENGTH) -> np.ndarray:
    """The burst of this hardware, its first sample at the start of the power ramp; about unit power while on."""
    sps = SPS * (1 + h.clock_ppm * 1e-6)
    levels = nrzi(burst_bits(message))
    end = RAMP_BITS + len(levels)
    levels = np.concatenate([np.full(RAMP_BITS, levels[0]), levels, np.full(60, levels[-1])])
    t = np.arange(n) / sps  # bits
    ramp = 1 - (1 + h.overshoot * 4 * t / h.rise) * np.exp(-3 * t / h.rise)
    fall = np.clip(1 - (t - end), 0, 1)
    frequency = mod.pulse_train(levels, sps, PULSE, n, -3 * sps) * h.index / (2 * sps)
    frequency += h.settle_hz / RATE_HZ * np.exp(-t / 8)  # the synthesiser settles after the key is down
    x = np.exp(2j * np.pi * np.cumsum(frequency)) * ramp * fall * ch.phase_noise(rng, n, h.phase_noise)
    x = ch.compress(ch.iq_imbalance(x, h.gain_db, h.phase) + h.leak * (fall > 0), h.saturation, h.smoothness)
    return ch.shift(x, h.offset_hz / RATE_HZ)


def em_ais(rng: Generator, item: int) -> list[Signal]:
    """EM-AIS: 112 emitters, 3,840 samples: one burst from its power ramp on.

    The paper recorded ships (12,399 signals) and states 156.25 MHz; a burst of 26.7 ms has 3,840 samples only at
    156.25 kHz, which is what this set uses. An emitter is its hardware (`Hardware`): carrier offset, deviation, clock,
    imbalance, leakage, amplifier, power ramp, settling, phase noise. Each burst has its own message, a carrier drift of
    +-30 Hz, phase, and an SNR of 10 to 30 dB (burst's power over the noise's in 156.25 kHz).
    """
    emitter = item % EMITTERS
    snr = round(float(rng.uniform(10, 30)), 2)
    x = transmitted(rng, position_report(rng), hardware(emitter))
    x = ch.shift(x, rng.normal(0, 15) / RATE_HZ, rng.uniform(0, 2 * np.pi))
    on = np.abs(x) > 0.3
    x = x / np.sqrt(np.mean(np.abs(x[on]) ** 2))
    y = x + ch.noise_for(rng, x, snr, on)
    return [Signal(iq(y), "EM-AIS", RATE_HZ, device_id=f"{emitter:03d}", snr=snr, modulation="GMSK")]


RECIPES = (
    Recipe("EM-AIS", em_ais, 448, 4_480, 12_399,
           Published("IV (count: III)", "12,399", "3,840", "156.25 MHz", "112 emitters", "-")),
)
