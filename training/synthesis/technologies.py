"""Wireless technologies by the structure of their downlinks: LTE-like, Wi-Fi-like, DVB-T-like; random payloads."""

from __future__ import annotations

import numpy as np
from emind.contract.schema import Signal
from numpy.random import Generator
from scipy.signal import resample_poly

from . import channels as ch
from . import modulators as mod
from .recipe import Recipe, cell, iq

RATE_HZ = 20e6
LENGTH = 1024
TECHNOLOGIES = ("LTE", "Wi-Fi", "DVB-T")
POINTS = (mod.psk(4), mod.qam(16), mod.qam(64))


def _positions(used: int) -> np.ndarray:
    return np.concatenate([np.arange(-(used // 2), 0), np.arange(1, used - used // 2 + 1)])


def _carriers(rng: Generator, shape: tuple[int, int]) -> np.ndarray:
    points = POINTS[rng.integers(len(POINTS))]
    return points[rng.integers(0, len(points), shape)]


def _piece(rng: Generator, x: np.ndarray, n: int) -> np.ndarray:
    start = int(rng.integers(0, len(x) - n + 1))
    return x[start : start + n]


def lte(rng: Generator, n: int) -> np.ndarray:
    """10 MHz: 600 carriers of 15 kHz at 15.36 MHz, prefixes of a slot (80, 72 x 6), reference signals every sixth
    carrier in symbols 0 and 4, resource blocks partly loaded."""
    symbols = 7
    carriers = _carriers(rng, (symbols, 600))
    load = rng.random((symbols, 50)) < rng.uniform(0.4, 1.0)
    carriers *= np.repeat(load, 12, axis=1)
    for symbol, first in ((0, 0), (4, 3)):
        carriers[symbol, first::6] = np.sqrt(2) * mod.psk(4)[rng.integers(0, 4, 100)]
    x = np.concatenate([mod.ofdm(carriers[k : k + 1], 1024, 72 if k else 80, _positions(600), 1104)
                        for k in range(symbols)])
    whole = int(np.ceil(n * 96 / 125)) + 64
    return resample_poly(_piece(rng, x, whole), 125, 96)[24 : 24 + n]


def wifi(rng: Generator, n: int) -> np.ndarray:
    """802.11a frames at 20 MHz: short and long training, data symbols of 80 samples with 4 pilots, pauses between."""
    positions, short = _positions(52), np.zeros((1, 52), complex)
    short[:, ::4] = np.sqrt(13 / 6) * mod.psk(4)[rng.integers(0, 4, 13)]
    x = []
    while sum(map(len, x)) < 2 * n:
        preamble = np.tile(mod.ofdm(short, 64, 0, positions, 64), 3)[:160]
        long = np.tile(mod.ofdm(mod.psk(2)[rng.integers(0, 2, (1, 52))], 64, 0, positions, 64), 3)[32:]
        data = _carriers(rng, (int(rng.integers(4, 20)), 52))
        data[:, [5, 19, 32, 46]] = rng.choice([-1, 1], (len(data), 1))
        x += [preamble, long, mod.ofdm(data, 64, 16, positions, 80 * len(data)), np.zeros(int(rng.integers(180, 700)))]
    return _piece(rng, np.concatenate(x), n)


def dvb_t(rng: Generator, n: int) -> np.ndarray:
    """8 MHz, 2K mode: 1,705 carriers at 64/7 MHz, guard 1/32 to 1/4, every twelfth carrier a pilot, 4/3 high."""
    symbols, guard = 3, int(2048 * rng.choice([1 / 32, 1 / 16, 1 / 8, 1 / 4]))
    carriers = _carriers(rng, (symbols, 1705))
    first = int(rng.integers(4))
    for k in range(symbols):
        place = slice(3 * ((k + first) % 4), None, 12)
        carriers[k, place] = 4 / 3 * rng.choice([-1, 1], len(range(1705)[place]))
    x = mod.ofdm(carriers, 2048, guard, np.arange(-852, 853), symbols * (2048 + guard))
    whole = int(np.ceil(n * 16 / 35)) + 64
    return resample_poly(_piece(rng, x, whole), 35, 16)[40 : 40 + n]


MAKE = {"LTE": lte, "Wi-Fi": wifi, "DVB-T": dvb_t}


def wireless_technology(rng: Generator, item: int) -> list[Signal]:
    """Wireless-Technology: LTE, Wi-Fi or DVB-T, 1,024 samples at 20 MHz, SNR -6 to 12 dB by 2 (as recorded sets have).

    The name of the technology stands in ``infer_class``, and "OFDM" in ``modulation``. One rate for all three, so that
    the rate gives nothing away. Chosen: a channel of up to 5 echoes within 50 ns to 1 microsecond, a carrier offset
    within +-20 kHz; SNR while the signal is on over the noise in 20 MHz. At least an eighth of a Wi-Fi window is frame.
    """
    name, snr = cell(item, TECHNOLOGIES, range(-6, 14, 2))
    n = LENGTH + 64
    while True:
        x = MAKE[name](rng, n)
        if np.mean(np.abs(x) > 0) > 0.125:
            break
    x = ch.filtered(x, ch.multipath(rng, n, rng.uniform(1, 20), int(rng.integers(1, 6)), 10 ** rng.uniform(0, 2)))
    x = ch.shift(x, rng.uniform(-20e3, 20e3) / RATE_HZ, rng.uniform(0, 2 * np.pi))[32:-32]
    on = np.abs(x) > 0.02 * np.abs(x).max()
    x = x / np.sqrt(np.mean(np.abs(x[on]) ** 2))
    return [Signal(iq(x + ch.noise_for(rng, x, snr, on)), "Wireless-Technology", RATE_HZ, infer_class=name, snr=snr,
                   modulation="OFDM")]


RECIPES = (Recipe("Wireless-Technology", wireless_technology, 600, 15_000, 150_000),)
