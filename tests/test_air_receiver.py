"""The air set's receiver: noise floor, converter, and the tuner of `emind classify`."""

import numpy as np
import pytest
from emind.dsp.band import FILL
from emind_training.synthesis import air, air_receiver
from emind_training.synthesis import channels as ch

N = 1280


def parts_db(x, parts=32):
    """Power of equal parts of the band, relative to the strongest."""
    power = np.abs(np.fft.fft(x * np.hanning(len(x)))) ** 2
    power = power[: len(power) // parts * parts].reshape(parts, -1).mean(1)
    return 10 * np.log10(power / power.max())


def test_noise_floors_are_white_or_coloured_and_few_are_confined_to_a_sharp_band_none_to_a_narrow_one():
    rng = np.random.default_rng(1)
    white = np.percentile([-parts_db(ch.complex_noise(rng, 4096)).min() for _ in range(50)], 95)
    floors = np.array([parts_db(air_receiver.noise_floor(rng, 4096)) for _ in range(300)])
    depth, wide = -floors.min(1), np.mean(floors > -20, axis=1)
    confined = wide < 0.65
    assert 0.2 < np.mean(depth < white) < 0.6
    assert np.mean((depth > white) & ~confined) > 0.2
    assert 0.02 < np.mean(confined) < 0.12
    assert wide.min() > 0.3


def test_some_noise_has_a_few_steps_of_the_converter_only():
    rng = np.random.default_rng(2)
    windows = [air_receiver.converted(rng, ch.complex_noise(rng, N), quiet=True) for _ in range(300)]
    levels = [len(np.unique(x.real)) for x in windows]
    assert 0.1 < np.mean(np.array(levels) < 24) < 0.4
    assert min(levels) >= 2


def test_the_tuner_keeps_a_signal_in_its_band_and_takes_off_what_is_beyond():
    n, decimation = 8192, 4
    wanted = np.exp(2j * np.pi * 0.21 * np.arange(n))
    beyond = np.exp(-2j * np.pi * 0.3 * np.arange(n))
    out = air_receiver.tuned(wanted, 0.2, decimation)[64:-64]
    assert len(air_receiver.tuned(wanted, 0.2, decimation)) == n // decimation
    assert np.abs(out) == pytest.approx(1.0, abs=0.01)
    assert np.angle(out[1:] * out[:-1].conj()) == pytest.approx(2 * np.pi * 0.01 * decimation, abs=0.01)
    assert np.abs(air_receiver.tuned(beyond, 0.2, decimation)[64:-64]).max() < 1e-2


def test_decimation_is_that_of_the_classify_command():
    assert air_receiver.tuning(FILL / 3.5, 8) == 3
    assert air_receiver.tuning(FILL / 100, 8) == 8
    assert air_receiver.tuning(0.9, 8) == 1


def test_the_middle_is_estimated_and_never_that_of_another_signal():
    rng = np.random.default_rng(3)
    x = ch.band_noise(rng, 4 * N, 0.05, 0.21) + 0.01 * ch.complex_noise(rng, 4 * N)
    seen = air_receiver.middle(x, 0.2, 0.05)
    assert seen != 0.2 and seen == pytest.approx(0.21, abs=0.01)
    assert air_receiver.middle(x, -0.2, 0.05) == -0.2


@pytest.mark.parametrize("name", ["BPSK", "GFSK", "NFM"])
def test_the_snr_of_a_tuned_window_holds_after_the_tuner(monkeypatch, name):
    """The same draw with and without its noise: their difference is the noise."""
    monkeypatch.setattr(air, "converted", lambda rng, x: x)
    monkeypatch.setattr(air, "middle", lambda x, offset, tolerance: offset)
    monkeypatch.setattr(air.ch, "lowpass", lambda n, *rest: np.ones(n))
    monkeypatch.setattr(air, "_burst", lambda rng, x, bursty: (x, np.ones(len(x), bool)))
    monkeypatch.setattr(air, "_propagated", lambda rng, x, *rest: x)
    monkeypatch.setattr(air, "_NEIGHBOURS", ("BPSK",))
    noise = ch.complex_noise
    decimations, measured = [], []
    original = air.tuned
    monkeypatch.setattr(air, "tuned", lambda x, center, d: decimations.append(d) or original(x, center, d))
    for seed in range(25):
        noisy, _ = air._tuned_window(np.random.default_rng(seed), name, N, 6.0)
        monkeypatch.setattr(air.ch, "complex_noise", lambda rng, n, power=1.0: 0 * noise(rng, n, power))
        clean, _ = air._tuned_window(np.random.default_rng(seed), name, N, 6.0)
        monkeypatch.setattr(air.ch, "complex_noise", noise)
        measured.append(10 * np.log10(ch.power(clean[128:-128]) / ch.power((noisy - clean)[128:-128])))
    assert len(decimations) > 15 and max(decimations) > 2
    assert np.median(measured) == pytest.approx(6.0, abs=0.5)


def test_a_share_of_the_windows_is_tuned(monkeypatch):
    count = []
    original = air.tuned
    monkeypatch.setattr(air, "tuned", lambda *a: count.append(1) or original(*a))
    air.air_batch(5, 0, 300)
    assert 0.05 < len(count) / 300 < 0.25
