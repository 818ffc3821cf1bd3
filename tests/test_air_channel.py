"""The air set between transmitter and window: echoes, pairs of emitters, sharp filters, the tuner."""

import numpy as np
import pytest
from emind_training.synthesis import air
from emind_training.synthesis import channels as ch


def spectrum(x, bins=64):
    """Mean power in ``bins`` equal parts of the rate, zero frequency in the middle."""
    power = np.fft.fftshift(np.abs(np.fft.fft(x * np.hanning(len(x)))) ** 2)
    return power[: len(power) // bins * bins].reshape(bins, -1).mean(1)


def depth_db(x):
    """How far the weakest of 32 parts of the band lies below the mean."""
    parts = spectrum(x, 32)
    return 10 * np.log10(parts.mean() / parts.min())


def white(rng, n=8192):
    return ch.complex_noise(rng, n)


def test_a_share_of_channels_has_no_line_of_sight_and_cuts_parts_out_of_wide_signals():
    rng = np.random.default_rng(1)
    wide = [depth_db(air._propagated(rng, white(rng), 0.8, True)) for _ in range(200)]
    single = [depth_db(air._propagated(rng, white(rng), 0.8, False)) for _ in range(200)]
    assert 0.15 < np.mean(np.array(wide) > 10) < 0.6
    assert np.mean(np.array(single) > 10) < np.mean(np.array(wide) > 10) / 2


def test_a_channel_without_line_of_sight_leaves_the_power(monkeypatch):
    monkeypatch.setattr(air.ch, "fading", lambda rng, n, *rest: np.ones(n))
    rng = np.random.default_rng(2)
    powers = []
    for _ in range(100):
        x = white(rng)
        y = air._propagated(rng, x, 0.8, True)
        if depth_db(y) > 10:
            powers.append(ch.power(y) / ch.power(x))
    assert len(powers) > 15
    assert np.median(powers) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", air.PAIRED)
def test_a_pair_is_two_emitters_alike_in_power_side_by_side(name):
    rng = np.random.default_rng(3)
    balance, widths = [], []
    for _ in range(40):
        x, bandwidth, _ = air._pair(rng, name, 1280, 1024)
        parts = spectrum(x, 128)
        balance.append(10 * np.log10(parts[:64].sum() / parts[64:].sum()))
        widths.append(bandwidth)
    assert np.mean(np.abs(balance) < 6) > 0.7  # each side of the middle holds one of them
    assert max(widths) <= 1.0


def test_pairs_come_as_often_as_stated(monkeypatch):
    drawn = []
    pair = air._pair
    monkeypatch.setattr(air, "_pair", lambda *a: drawn.append(1) or pair(*a))
    rng = np.random.default_rng(4)
    shares = {}
    for name in air.PAIRED:
        drawn.clear()
        for _ in range(300):
            air.window_and_rate(rng, name)
        shares[name] = len(drawn) / 300
        assert 0.4 * air.PAIRED[name] < shares[name] < 1.7 * air.PAIRED[name]
    assert shares["OQPSK"] < shares["GFSK"]  # one listens before it sends, the other hops
    drawn.clear()
    for _ in range(100):
        air.window_and_rate(rng, "QPSK")
    assert not drawn
