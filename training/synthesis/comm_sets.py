"""Sets of communications signals: EM-Comm, EM-Denoise-Signal, spectrum sensing, anomalies."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from emind.contract.schema import Signal
from numpy.random import Generator

from . import channels as ch
from . import interference as jam
from . import modulators as mod
from .air_messages import message
from .recipe import ROLE, Published, Recipe, cell, iq

RATE_HZ = 20e6
LENGTH = 1024
EDGE = 32  # samples before and after the window, so that echoes and filters settle outside it

pulse = lru_cache(mod.root_raised_cosine)
DIGITAL = {
    "BPSK": mod.psk(2), "QPSK": mod.psk(4), "8PSK": mod.psk(8), "4PAM": mod.pam(4), "16QAM": mod.qam(16),
    "64QAM": mod.qam(64), "256QAM": mod.qam(256),
}  # fmt: skip
TONES = {"2FSK": 2, "4FSK": 4, "8FSK": 8}
ANALOGUE = ("AM-DSB", "AM-USB", "AM-LSB", "FM")
MODULATIONS = (*DIGITAL, *TONES, *ANALOGUE)
RECTANGLE = mod.rectangle()


def linear(rng: Generator, points: np.ndarray, n: int, sps: float, rolloff: float) -> np.ndarray:
    """Random symbols with a root-raised-cosine pulse, at a random instant of the symbol."""
    shape = pulse(rolloff)
    symbols = points[rng.integers(0, len(points), mod.symbols_needed(sps, shape, n))]
    return mod.linear(symbols, sps, shape, n, -rng.random() * sps)


def modulated(rng: Generator, name: str, n: int) -> np.ndarray:
    """n samples of a modulation of EM-Comm, about unit power.

    Linear modulations: 4 to 16 samples a symbol, root-raised-cosine, roll-off 0.2, 0.25, 0.35 or 0.5. FSK: index 0.5 or
    1, 8 to 20 samples a symbol (2FSK, 4FSK), 16 to 32 (8FSK). Analogue: a speech-like message of 0.01 to 0.08 cycles a
    sample; AM depth 0.5 to 1, FM deviation 1 to 3 times the message's band.
    """
    if name in DIGITAL:
        return linear(rng, DIGITAL[name], n, rng.uniform(4, 16), (0.2, 0.25, 0.35, 0.5)[rng.integers(4)])
    if name in TONES:
        order = TONES[name]
        sps = rng.uniform(16, 32) if order == 8 else rng.uniform(8, 20)
        levels = 2.0 * rng.integers(0, order, mod.symbols_needed(sps, RECTANGLE, n)) - (order - 1)
        index = 0.5 if rng.random() < 0.5 else 1.0
        return mod.frequency_shift(levels, sps, index, RECTANGLE, n, -rng.random() * sps)
    band = rng.uniform(0.01, 0.08)
    m = message(rng, n, band)
    if name == "AM-DSB":
        return mod.amplitude(m, rng.uniform(0.5, 1.0))
    if name in ("AM-USB", "AM-LSB"):
        return mod.single_sideband(m, name == "AM-USB")
    if name == "FM":
        return mod.frequency(m, band * rng.uniform(1, 3))
    raise KeyError(f"no modulation is called {name!r}; known: {', '.join(MODULATIONS)}")


def em_comm(rng: Generator, item: int) -> list[Signal]:
    """EM-Comm: 14 modulations, 1,024 samples at 20 MHz, SNR -20 to 18 dB by 2.

    The paper recorded a USRP X310 and names neither the 14 modulations nor the channel. Chosen: BPSK, QPSK, 8PSK, 4PAM,
    16QAM, 64QAM, 256QAM, 2FSK, 4FSK, 8FSK, AM-DSB, AM-USB, AM-LSB, FM, all from the 29 formats it lists; a carrier
    offset within +-20 kHz, transmitter imbalance, in a third of the windows an indoor channel of up to 4 echoes. SNR is
    the received signal's power over the noise's in the whole 20 MHz. (The table prints "-20~-18db"; read as -20 to 18.)
    """
    name, snr = cell(item, MODULATIONS, range(-20, 20, 2))
    n = LENGTH + 2 * EDGE
    x = ch.iq_imbalance(modulated(rng, name, n), rng.normal(0, 0.2), rng.normal(0, 0.02))
    if rng.random() < 1 / 3:
        spread, echoes, k_factor = rng.uniform(0.5, 3), int(rng.integers(1, 5)), 10 ** rng.uniform(0.3, 2)
        x = ch.filtered(x, ch.multipath(rng, n, spread, echoes, k_factor))
    x = ch.shift(x, rng.uniform(-20e3, 20e3) / RATE_HZ, rng.uniform(0, 2 * np.pi))[EDGE:-EDGE]
    x = ch.scaled_to(x, 1.0)
    return [Signal(iq(x + ch.noise_for(rng, x, snr)), "EM-Comm", RATE_HZ, snr=snr, modulation=name)]


def em_denoise_signal(rng: Generator, item: int) -> list[Signal]:
    """EM-Denoise-Signal: a noisy, impaired signal and its clean self, 1,024 samples at 20 MHz, SNR -3 to 20 dB by 1.

    Two rows an item, ``transmission_id`` "N:noisy" and "N:clean" with the same N (`recipe.linked`). The clean one is
    what the transmitter meant: unit power, no noise, no offset, no imbalance. The noisy one has a carrier offset within
    +-50 kHz, amplitude imbalance within +-1 dB, phase imbalance within +-5 degrees, then white noise. The paper gives
    neither the imbalances nor the modulations: these are ours, the modulations those of EM-Comm.
    """
    name, snr = cell(item, MODULATIONS, range(-3, 21))
    clean = ch.scaled_to(modulated(rng, name, LENGTH), 1.0)
    x = ch.shift(clean, rng.uniform(-50e3, 50e3) / RATE_HZ)
    x = ch.iq_imbalance(x, rng.uniform(-1, 1), np.radians(rng.uniform(-5, 5)))
    x = x + ch.noise_for(rng, x, snr)
    one = dict(dataset_name="EM-Denoise-Signal", sampling_rate=RATE_HZ, modulation=name)
    return [Signal(iq(x), snr=snr, transmission_id=f"{item}{ROLE}noisy", **one),
            Signal(iq(clean), transmission_id=f"{item}{ROLE}clean", **one)]


def spectrum_sensing(rng: Generator, item: int) -> list[Signal]:
    """Spectrum-Sensing: signal or noise, 1,024 samples at 20 MHz, SNR -20 to 10 dB by 2.

    As many windows of noise as of signal. ``infer_class`` is "signal" or "noise"; a signal is one of EM-Comm's. The noise has unit power in both, so that an
    energy detector that knows it is a fair baseline.
    """
    kind, snr, name = cell(item, ("signal", "noise"), range(-20, 12, 2), MODULATIONS)
    if kind == "noise":
        return [Signal(iq(ch.complex_noise(rng, LENGTH)), "Spectrum-Sensing", RATE_HZ, infer_class=kind)]
    x = ch.shift(modulated(rng, name, LENGTH), rng.uniform(-20e3, 20e3) / RATE_HZ, rng.uniform(0, 2 * np.pi))
    x = ch.scaled_to(x, ch.db(snr))
    return [Signal(iq(x + ch.noise_for(rng, x, snr)), "Spectrum-Sensing", RATE_HZ, infer_class=kind, snr=snr,
                   modulation=name)]


ANOMALY_RATE_HZ = 40e6
ANOMALIES = ("normal", "single-tone", "multi-tone", "aliased-10MHz", "aliased-30MHz")


def anomaly(rng: Generator, item: int) -> list[Signal]:
    """Anomaly: anomalies on a QPSK link, 1,024 samples at 40 MHz, ISR -20, -10 or 0 dB.

    ``infer_class`` names the anomaly. After SpectrumFM's measurement at 2.9 GHz: QPSK of 20 MHz; a tone, or 2 to 5, sweeping +-10 MHz; a QPSK signal of
    10 MHz anywhere within +-15 MHz, or of 30 MHz. Chosen: roll-off 0.35 for all of them, a sweep in 5 to 50
    microseconds, the rate (the least that holds +-15 MHz with room for a filter), SNR 20 dB of the wanted signal over
    the noise in 40 MHz. ISR is the interferer's power over the wanted signal's.
    """
    kind, isr = cell(item, ANOMALIES, (-20, -10, 0))

    def qpsk(width_hz: float) -> np.ndarray:
        return linear(rng, DIGITAL["QPSK"], LENGTH, 1.35 * ANOMALY_RATE_HZ / width_hz, 0.35)

    wanted = ch.scaled_to(ch.shift(qpsk(20e6), 0.0, rng.uniform(0, 2 * np.pi)), 1.0)
    period = rng.uniform(5e-6, 50e-6) * ANOMALY_RATE_HZ
    if kind == "single-tone":
        other = jam.sweep(rng, LENGTH, 20e6 / ANOMALY_RATE_HZ, period)
    elif kind == "multi-tone":
        other = jam.swept_tones(rng, LENGTH, int(rng.integers(2, 6)), 20e6 / ANOMALY_RATE_HZ, period)
    elif kind == "aliased-10MHz":
        other = ch.shift(qpsk(10e6), rng.uniform(-10e6, 10e6) / ANOMALY_RATE_HZ, rng.uniform(0, 2 * np.pi))
    elif kind == "aliased-30MHz":
        other = ch.shift(qpsk(30e6), 0.0, rng.uniform(0, 2 * np.pi))
    else:
        other = np.zeros(LENGTH, complex)
    x = wanted + ch.scaled_to(other, ch.db(isr)) + ch.noise_for(rng, wanted, 20.0)
    return [Signal(iq(x), "Anomaly", ANOMALY_RATE_HZ, infer_class=kind, snr=20.0,
                   isr=None if kind == "normal" else isr, modulation="QPSK")]


RECIPES = (
    Recipe("EM-Comm", em_comm, 2_800, 56_000, 2_747_000,
           Published("I", "2,747,000", "1,024", "20 MHz", "14 modulations", "-20~-18 dB")),
    Recipe("EM-Denoise-Signal", em_denoise_signal, 336, 13_440, 134_400,
           Published("IV", "-", "1,024", "20 MHz", "-", "-3:20 dB"), note="noisy and clean rows"),
    Recipe("Spectrum-Sensing", spectrum_sensing, 896, 17_920, 179_200),
    Recipe("Anomaly", anomaly, 600, 15_000, 150_000),
)
