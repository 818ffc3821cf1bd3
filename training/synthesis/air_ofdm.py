"""OFDM of the "air" set: Wi-Fi frames, LTE-like and broadcast downlinks, and numerologies that nobody stated.

A receiver's rate has nothing to do with the transmitter's: a symbol may be far longer than the window, and the band a
twentieth of the rate. A transform here is as long as the useful symbol lasts in the receiver's samples, so it is any
whole number, seldom a power of two.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from . import modulators as mod

# Bins, used carriers, hertz between them: 802.11a/g, n, n at 40 MHz, ax.
WIFI = ((64, 52, 312.5e3), (64, 56, 312.5e3), (128, 114, 312.5e3), (256, 242, 78.125e3))
RESOURCE_BLOCKS = (6, 15, 25, 50, 75, 100)  # LTE and its relatives (drone links too), 12 carriers each
CELLULAR_HZ = (15e3, 15e3, 15e3, 30e3)  # between carriers; the last of LTE's successor
# Used carriers, step of the pilots, prefixes, hertz between carriers: DVB-T 2k and 8k in 8 MHz, DAB.
BROADCAST = (
    (1705, 12, (4, 8, 16, 32), 64e6 / 7 / 2048), (6817, 12, (4, 8, 16, 32), 64e6 / 7 / 8192), (1536, 0, (4,), 1e3),
)  # fmt: skip
POINTS = (mod.psk(2), mod.psk(4), mod.qam(16), mod.qam(64))


def _positions(used: int) -> np.ndarray:
    """Bins around an empty one at zero."""
    return np.concatenate([np.arange(-(used // 2), 0), np.arange(1, used - used // 2 + 1)])


def _carriers(rng: Generator, count: int, used: int, least: int = 0) -> np.ndarray:
    points = POINTS[int(rng.integers(least, len(POINTS)))]
    return points[rng.integers(0, len(points), (count, used))]


def _share(rng: Generator, low: float, high: float) -> float:
    """Of the rate that is occupied: what a receiver is set to, at times hardly more than the signal takes, or a wide
    capture with the signal somewhere in it."""
    kind = rng.random()
    if kind < 0.2:
        return rng.uniform(0.85 * high, high)
    wide = kind < 0.6
    return rng.uniform(max(low, 0.3), high) if wide else float(np.exp(rng.uniform(np.log(low), np.log(0.5))))


def _modulated(rng: Generator, carriers: np.ndarray, transform: int, prefix: int, n: int) -> np.ndarray:
    """A stretch of n samples that starts anywhere in the first symbol; some transmitters round the borders off."""
    roll = int(prefix * rng.uniform(0, 0.5)) if rng.random() < 0.4 else 0
    start = int(rng.integers(0, transform + prefix))
    return mod.ofdm(carriers, transform, prefix, _positions(carriers.shape[1]), n, start, roll)


def _count(n: int, period: int) -> int:
    return -(-n // period) + 1


def wifi(rng: Generator, n: int) -> tuple[np.ndarray, float, float]:
    """Frames of short training, long training and data with steady pilots, and the pauses between them."""
    bins, used, apart = WIFI[int(rng.integers(0, 2 if rng.random() < 0.7 else len(WIFI)))]
    over = rng.uniform(1.0, 1.3) if rng.random() < 0.6 else rng.uniform(1.0, 5.0)
    transform, positions = int(round(bins * over)), _positions(used)
    prefix = transform // (4 if rng.random() < 0.8 else 8)
    short = np.zeros((1, used), complex)
    short[:, ::4] = 2 * mod.psk(4)[rng.integers(0, 4, (1, len(range(0, used, 4))))]
    pilots = np.linspace(0.1 * used, 0.9 * used, 4).astype(int)
    long_frames, x, length = rng.random() < 0.5, [], 0
    while length < 2 * n:
        data = _carriers(rng, int(rng.integers(20, 60) if long_frames else rng.integers(2, 20)), used)
        data[:, pilots] = rng.choice([-1, 1], 4) * rng.choice([-1, 1], (len(data), 1))
        frame = [
            np.resize(mod.ofdm(short, transform, 0, positions, transform), int(2.5 * transform)),
            np.tile(mod.ofdm(_carriers(rng, 1, used, 1), transform, 0, positions, transform), 3)[transform // 2 :],
            mod.ofdm(data, transform, prefix, positions, (transform + prefix) * len(data)),
            np.zeros(int(transform * np.exp(rng.uniform(0, 3)))),
        ]
        gain = 10 ** (rng.uniform(-6, 6) / 20)  # another station sends the next frame
        x += [gain * part for part in frame]
        length += sum(map(len, frame))
    x = np.concatenate(x)
    start = int(rng.integers(0, len(x) - n + 1))
    piece = x[start : start + n]
    if np.mean(np.abs(piece) > 0) < 0.3:  # almost only a pause: what follows it
        piece = np.resize(x[: int(0.8 * n)], n)
    return piece, used / transform, apart * transform


def cellular(rng: Generator, n: int) -> tuple[np.ndarray, float, float]:
    """Resource blocks of twelve carriers: some empty, each user at a level of its own, reference signals among them."""
    blocks = int(rng.choice(RESOURCE_BLOCKS))
    used = 12 * blocks
    transform = int(used / _share(rng, 0.06, 0.94))
    prefix = int(transform * (0.25 if rng.random() < 0.1 else 0.0703))
    count = _count(n, transform + prefix)
    carriers = _carriers(rng, count, used, 1)
    level = np.ones((count, blocks))
    kind = rng.random()
    if kind < 0.25:  # a cell at night: few neighbouring blocks, what is sent beside them is weak
        level[:] = 0.0 if rng.random() < 0.4 else 10 ** (-rng.uniform(12, 30) / 20)
        for _ in range(int(rng.integers(1, 3))):
            size = max(2, int(blocks * rng.uniform(0.06, 0.45)))
            first = int(rng.integers(0, blocks - size + 1))
            level[:, first : first + size] = 10 ** (rng.uniform(-4, 0) / 20)
    elif kind < 0.5:  # users with neighbouring blocks, the same ones for many symbols
        edges = np.sort(rng.integers(0, blocks, int(rng.integers(1, 8))))
        user = np.searchsorted(edges, np.arange(blocks), side="right")
        gain = 10 ** (rng.uniform(-6, 3, user.max() + 1) / 20) * (rng.random(user.max() + 1) < rng.uniform(0.4, 1.0))
        level[:] = gain[user]
        if rng.random() < 0.4:  # the control symbol before them is full
            level[int(rng.integers(0, count))] = 1.0
    elif kind < 0.62:  # single blocks, others each symbol
        level = (rng.random((count, blocks)) < rng.uniform(0.3, 0.95)).astype(float)
    if not level.any(1).all():
        level[~level.any(1), int(rng.integers(0, blocks))] = 1.0
    carriers = carriers * np.repeat(level, 12, axis=1)
    step = 6 if rng.random() < 0.6 else 3
    references = 10 ** (rng.uniform(-12, 6) / 20) * max(level.max(), 0.1)  # where a cell is empty, all that is there
    for symbol in range(count):
        if rng.random() < 0.35:
            at = slice(int(rng.integers(0, step)), None, step)
            carriers[symbol, at] = references * mod.psk(4)[rng.integers(0, 4, carriers[symbol, at].shape)]
        # Synchronisation: a sequence of constant envelope, on all carriers or the middle ones. A symbol that lasts
        # longer than the window may be all that is in it; roots near 0 are chirps there and left to those classes.
        if rng.random() < (0.17 if transform > 1000 else 0.1):
            wide = used if rng.random() < 0.6 else 62
            root, k = int(rng.integers(5, wide - 5)), np.arange(wide)
            first = (used - wide) // 2
            carriers[symbol, first : first + wide] = np.exp(-1j * np.pi * root * k * (k + 1) / (wide + 1))
    rate = float(rng.choice(CELLULAR_HZ)) * transform
    return _modulated(rng, carriers, transform, prefix, n), used / transform, rate


def broadcast(rng: Generator, n: int) -> tuple[np.ndarray, float, float]:
    """Thousands of carriers, all loaded, boosted pilots on every twelfth."""
    used, step, prefixes, apart = BROADCAST[int(rng.integers(0, len(BROADCAST)))]
    transform = int(used / _share(rng, 0.12, 0.94))
    prefix = transform // int(rng.choice(prefixes))
    carriers = _carriers(rng, _count(n, transform + prefix), used, 1)
    if step:
        for symbol, row in enumerate(carriers):
            row[3 * (symbol % 4) :: step] = 4 / 3 * rng.choice([-1, 1], len(row[3 * (symbol % 4) :: step]))
    return _modulated(rng, carriers, transform, prefix, n), used / transform, apart * transform


def unstated(rng: Generator, n: int) -> tuple[np.ndarray, float, float]:
    """Any transform, prefix, pilots and load."""
    short = rng.random() < 0.5
    occupied = rng.uniform(0.25, 0.95) if short else _share(rng, 0.06, 0.95)  # of few carriers none is narrow
    transform = int(rng.choice([64, 64, 128, 256])) if short else int(np.exp(rng.uniform(np.log(48), np.log(4096))))
    used = max(12, int(occupied * transform))
    prefix = int(transform * rng.choice([0.25, 0.125, 0.07, 0.0625, 0.03125]))
    carriers = _carriers(rng, _count(n, transform + prefix), used)
    if rng.random() < 0.5:  # pilots: every k-th carrier, stronger, the same sign pattern in each symbol
        step = int(rng.integers(3, 16))
        carriers[:, ::step] = rng.choice([-1, 1], len(range(0, used, step))) * rng.uniform(1.0, 1.5)
    if rng.random() < 0.3:  # blocks of carriers empty, another set each symbol
        block = int(rng.integers(6, 25))
        load = rng.random((len(carriers), used // block + 1)) < rng.uniform(0.3, 0.95)
        load[:, 0] = True
        carriers = carriers * np.repeat(load, block, axis=1)[:, :used]
    return _modulated(rng, carriers, transform, prefix, n), used / transform, np.nan


def any_ofdm(rng: Generator, n: int) -> tuple[np.ndarray, float, float]:
    """Samples (n,) of unit power, their bandwidth as a share of the rate, and the rate in Hz at which their carriers lie
    as far apart as the standard's; nan without one."""
    kind = rng.random()
    make = wifi if kind < 0.35 else cellular if kind < 0.66 else broadcast if kind < 0.74 else unstated
    x, bandwidth, rate = make(rng, n)
    return x / np.sqrt(np.mean(np.abs(x) ** 2) + 1e-12), min(1.0, bandwidth), rate
