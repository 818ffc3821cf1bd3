"""Sets of interference: EM-Infer-Radar-v2, EM-Infer-Radar, EM-Infer-Comm. Radar jamming answers an LFM radar."""

from __future__ import annotations

import numpy as np
from emind.contract.schema import Signal
from numpy.random import Generator

from . import channels as ch
from . import interference as jam
from . import radar
from .comm_sets import DIGITAL, linear
from .recipe import Published, Recipe, cell, iq

RATE_HZ = 20e6
MICRO = 1e-6 * RATE_HZ  # samples in a microsecond
PURE_NOISE = "Pure Noise"
RADAR_CLASSES = (
    PURE_NOISE, "Intermittent Sampling Forwarding", "Spot-Jamming", "Blocking", "Frequency-Sweeping", "Range-Fooling",
    "Dense False Target", "Smart Noise", "Chaff", "Chaff + Intermittent Sampling Forwarding",
    "Dense False Target + Smart Noise", "Range-Fooling + Frequency Modulated Frequency-Sweeping",
)  # fmt: skip


def radar_scene(rng: Generator, kind: str, n: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """Echo and interference (n,) of unit power each, and the radar's labels.

    The radar: LFM of 2 to 5 MHz, pulses of 4 to 10 microseconds every 20 to 30, the carrier within +-2 MHz; one
    point target. What each class is:

    - Pure Noise: white Gaussian noise over the whole band
    - Intermittent Sampling Forwarding: slices of 0.5 to 1.5 microseconds repeated 1, 2 or 4 times (duty 1/2, 1/3, 1/5)
    - Spot-Jamming: Gaussian noise of 1 to 1.5 times the radar's band on its carrier
    - Blocking: noise FM of 12 to 18 MHz, constant envelope, wherever the carrier
    - Frequency-Sweeping: a carrier through 8 to 18 MHz every 5 to 50 microseconds
    - Range-Fooling: one copy 0.5 to 3 microseconds late and 0.2 to 1 later with each pulse
    - Dense False Target: 8 to 20 copies 0.3 to 1.2 microseconds apart
    - Smart Noise: noise convolved with the pulse over 3 to 10 microseconds
    - Chaff: 60 dipoles over 2 to 8 microseconds, Doppler of 200 Hz to 2 kHz
    - combinations: the sum of both at equal power
    """
    width, pri, band = rng.uniform(4, 10) * MICRO, rng.uniform(20, 30) * MICRO, rng.uniform(2e6, 5e6) / RATE_HZ
    carrier = rng.uniform(-2e6, 2e6) / RATE_HZ
    shape = radar.waveform(rng, "LFM", width, band)
    delay = rng.uniform(0, min(pri - width, n / 2))
    starts = radar.starts_in(n, pri, delay)
    before = np.concatenate([[delay - pri], starts])  # the answer to the pulse before the window reaches into it

    def part(name: str) -> np.ndarray:
        if name == PURE_NOISE:
            return ch.complex_noise(rng, n)
        if name == "Spot-Jamming":
            return ch.band_noise(rng, n, band * rng.uniform(1, 1.5), carrier)
        if name == "Blocking":
            return jam.noise_fm(rng, n, rng.uniform(12e6, 18e6) / RATE_HZ)
        if name in ("Frequency-Sweeping", "Frequency Modulated Frequency-Sweeping"):
            return jam.sweep(rng, n, rng.uniform(8e6, 18e6) / RATE_HZ, rng.uniform(5, 50) * MICRO)
        if name == "Intermittent Sampling Forwarding":
            x = jam.interrupted_sampling(shape, before, n, rng.uniform(0.5, 1.5) * MICRO, int(rng.choice([1, 2, 4])))
        elif name == "Range-Fooling":
            x = jam.range_pull_off(rng, shape, before, n, rng.uniform(0.5, 3) * MICRO, rng.uniform(0.2, 1) * MICRO)
        elif name == "Dense False Target":
            x = jam.false_targets(rng, shape, before, n, int(rng.integers(8, 21)), rng.uniform(0.3, 1.2) * MICRO)
        elif name == "Smart Noise":
            x = jam.smart_noise(rng, shape, before, n, rng.uniform(3, 10) * MICRO)
        elif name == "Chaff":
            doppler = 10 ** rng.uniform(2.3, 3.3) / RATE_HZ
            x = jam.chaff(rng, shape, before, n, rng.uniform(2, 8) * MICRO, doppler)
        else:
            raise KeyError(name)
        return ch.shift(x, carrier)

    phase = np.exp(2j * np.pi * rng.random())
    echo = ch.scaled_to(ch.shift(radar.pulses(shape, starts, n), carrier) * phase, 1.0)
    parts = [ch.scaled_to(part(name), 1.0) for name in kind.split(" + ")]
    labels = dict(radar_waveform="LFM", pri=pri / RATE_HZ, pulse_time_delay=delay / RATE_HZ, num_pulses=len(starts),
                  pulse_width=width / RATE_HZ, band_width=band * RATE_HZ)
    return echo, ch.scaled_to(np.sum(parts, axis=0), 1.0), labels


def em_infer_radar_v2(rng: Generator, item: int) -> list[Signal]:
    """EM-Infer-Radar-v2: 12 classes of radar interference, 2,048 samples at 20 MHz, ISR 30 to 60 dB by 2.

    The classes are those the paper names; what they look like is ours (`radar_scene`). ISR: interference over echo,
    mean powers over the window. The echo's SNR is 0 to 20 dB, so that the interference stands 30 to 80 dB above the
    noise. (The table prints "30~-60db"; read as 30 to 60.)
    """
    kind, isr = cell(item, RADAR_CLASSES, range(30, 62, 2))
    echo, interference, labels = radar_scene(rng, kind, 2048)
    snr = round(float(rng.uniform(0, 20)), 2)
    x = echo + np.sqrt(ch.db(isr)) * interference + ch.noise_for(rng, echo, snr)
    return [Signal(iq(x), "EM-Infer-Radar-v2", RATE_HZ, infer_class=kind, snr=snr, isr=isr, **labels)]


def em_infer_radar(rng: Generator, item: int) -> list[Signal]:
    """EM-Infer-Radar: 12 classes, 1,024 samples at 20 MHz, SNR -20 to 20 dB by 2.

    The paper gives a range of SNR and no ISR, and does not name the twelve: they are those of EM-Infer-Radar-v2. Since
    the interference is what is to be recognised, SNR is its power over the noise's; the echo is there at an ISR of 0 to
    20 dB (a label too).
    """
    kind, snr = cell(item, RADAR_CLASSES, range(-20, 22, 2))
    echo, interference, labels = radar_scene(rng, kind, 1024)
    isr = round(float(rng.uniform(0, 20)), 2)
    x = interference + np.sqrt(ch.db(-isr)) * echo + ch.noise_for(rng, interference, snr)
    return [Signal(iq(x), "EM-Infer-Radar", RATE_HZ, infer_class=kind, snr=snr, isr=isr, **labels)]


COMM_CLASSES = (
    "none", "single-tone", "multi-tone", "comb", "sweep", "narrow-band noise", "wide-band noise", "pulsed noise",
    "co-channel signal",
)  # fmt: skip


def comm_interference(rng: Generator, kind: str, n: int) -> np.ndarray:
    """One of the nine, n samples of unit power at 20 MHz (zeros for "none").

    Tones anywhere within +-6 MHz, 2 to 6 for multi-tone; a comb of 9 to 12 teeth 0.4 to 1.2 MHz apart; a sweep of 4 to
    16 MHz in 5 to 50 microseconds; noise of 0.2 to 2 MHz, or of 10 to 18; noise pulses of 5 to 30 % duty every 2 to 20
    microseconds; another QPSK or 16QAM of 1.25 to 5 Mbaud within +-2 MHz of the carrier.
    """
    if kind == "none":
        return np.zeros(n, complex)
    if kind == "single-tone":
        x = jam.tone(rng, n, rng.uniform(-6e6, 6e6) / RATE_HZ)
    elif kind == "multi-tone":
        x = jam.tones(rng, n, rng.uniform(-6e6, 6e6, int(rng.integers(2, 7))) / RATE_HZ)
    elif kind == "comb":
        teeth, spacing = int(rng.integers(9, 13)), rng.uniform(0.4e6, 1.2e6)
        x = jam.comb(rng, n, teeth, spacing / RATE_HZ, rng.uniform(-1e6, 1e6) / RATE_HZ)
    elif kind == "sweep":
        x = jam.sweep(rng, n, rng.uniform(4e6, 16e6) / RATE_HZ, rng.uniform(5, 50) * MICRO)
    elif kind == "narrow-band noise":
        x = ch.band_noise(rng, n, rng.uniform(0.2e6, 2e6) / RATE_HZ, rng.uniform(-4e6, 4e6) / RATE_HZ)
    elif kind == "wide-band noise":
        x = ch.band_noise(rng, n, rng.uniform(10e6, 18e6) / RATE_HZ)
    elif kind == "pulsed noise":
        x = jam.pulsed_noise(rng, n, rng.uniform(2, 20) * MICRO, rng.uniform(0.05, 0.3))
    elif kind == "co-channel signal":
        points = DIGITAL["QPSK" if rng.random() < 0.5 else "16QAM"]
        x = ch.shift(linear(rng, points, n, rng.uniform(4, 16), 0.25), rng.uniform(-2e6, 2e6) / RATE_HZ)
    else:
        raise KeyError(kind)
    return ch.scaled_to(x, 1.0)


def em_infer_comm(rng: Generator, item: int) -> list[Signal]:
    """EM-Infer-Comm: 9 classes, 1,024 samples at 20 MHz, SNR -20 to 20 dB by 2.

    The paper does not name the nine: these are what a monitoring station meets on a digital link (`COMM_CLASSES`,
    "none" among them). The link is QPSK or 16QAM of 1.25 to 5 Mbaud; SNR is the link's power over the noise's, ISR the
    interference's over the link's, -5 to 15 dB.
    """
    kind, snr = cell(item, COMM_CLASSES, range(-20, 22, 2))
    name = "QPSK" if rng.random() < 0.5 else "16QAM"
    link = ch.scaled_to(linear(rng, DIGITAL[name], 1024, rng.uniform(4, 16), 0.25), 1.0)
    isr = round(float(rng.uniform(-5, 15)), 2)
    x = link + np.sqrt(ch.db(isr)) * comm_interference(rng, kind, 1024) + ch.noise_for(rng, link, snr)
    return [Signal(iq(x), "EM-Infer-Comm", RATE_HZ, infer_class=kind, snr=snr, isr=None if kind == "none" else isr,
                   modulation=name)]


RECIPES = (
    Recipe("EM-Infer-Radar-v2", em_infer_radar_v2, 768, 19_200, 120_000,
           Published("I", "120,000", "2,048", "20 MHz", "12 interference classes", "ISR 30~-60 dB")),
    Recipe("EM-Infer-Radar", em_infer_radar, 756, 25_200, 252_000,
           Published("IV", "-", "1,024", "20 MHz", "12 classes", "-20:20 dB")),
    Recipe("EM-Infer-Comm", em_infer_comm, 756, 18_900, 189_000,
           Published("IV", "-", "1,024", "20 MHz", "9 classes", "-20:20 dB")),
)
