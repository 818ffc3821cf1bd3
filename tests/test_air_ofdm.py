"""OFDM of the air set as it is used."""

import numpy as np
import pytest
from emind_training.synthesis import air_ofdm

N = 1280


@pytest.mark.parametrize("make", [air_ofdm.wifi, air_ofdm.cellular, air_ofdm.broadcast, air_ofdm.unstated])
def test_the_power_lies_in_the_stated_band(make):
    rng = np.random.default_rng(1)
    for _ in range(25):
        x, bandwidth, _ = make(rng, N)
        assert len(x) == N and np.isfinite(x).all() and 0 < bandwidth < 1
        power = np.abs(np.fft.fft(x * np.hanning(N))) ** 2
        inside = np.abs(np.fft.fftfreq(N)) < bandwidth / 2 + 8 / N
        assert power[inside].sum() > 0.93 * power.sum()


def test_bands_are_wide_and_narrow_and_symbols_longer_than_a_window(monkeypatch):
    transforms, widths = [], []
    original = air_ofdm.mod.ofdm

    def ofdm(carriers, transform, *rest):
        transforms.append(transform)
        return original(carriers, transform, *rest)

    monkeypatch.setattr(air_ofdm.mod, "ofdm", ofdm)
    rng = np.random.default_rng(2)
    for _ in range(150):
        widths.append(air_ofdm.any_ofdm(rng, N)[1])
    assert np.mean(np.array(widths) < 0.25) > 0.1 and np.mean(np.array(widths) > 0.6) > 0.25
    assert max(transforms) > 3 * N


def test_wifi_frames_begin_with_training_that_comes_again_after_one_symbol():
    """Over more than a whole symbol, which a cyclic prefix of a quarter does not reach."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(40):
        x, bandwidth, _ = air_ofdm.wifi(rng, N)
        best = 0.0
        for lag in {round(used / bandwidth) for _, used, _ in air_ofdm.WIFI}:  # the true transform is among these
            if 2.3 * lag > N:
                continue
            span = np.ones(int(1.2 * lag))
            product = np.convolve(x[:-lag] * x[lag:].conj(), span, "valid")
            early = np.convolve(np.abs(x[:-lag]) ** 2, span, "valid")
            late = np.convolve(np.abs(x[lag:]) ** 2, span, "valid")
            best = max(best, (np.abs(product) / np.sqrt(early * late + 1e-6)).max())
        found.append(best > 0.97)
    assert 0.2 < np.mean(found) < 1


def test_most_of_a_window_holds_signal():
    rng = np.random.default_rng(4)
    assert min(np.mean(np.abs(air_ofdm.any_ofdm(rng, N)[0]) > 1e-9) for _ in range(100)) > 0.25


def test_some_cells_load_a_small_part_of_their_band_only(monkeypatch):
    seen = []
    original = air_ofdm._modulated

    def modulated(rng, carriers, *rest):
        power = np.sort((np.abs(carriers) ** 2).mean(0))[::-1].cumsum()
        seen.append(np.mean(power < 0.9 * power[-1]))
        return original(rng, carriers, *rest)

    monkeypatch.setattr(air_ofdm, "_modulated", modulated)
    rng = np.random.default_rng(5)
    for _ in range(100):
        air_ofdm.cellular(rng, N)
    assert 0.1 < np.mean(np.array(seen) < 0.5) < 0.45
    assert np.mean(np.array(seen) > 0.8) > 0.25


def test_some_signals_take_nearly_all_of_the_rate():
    rng = np.random.default_rng(7)
    shares = np.array([air_ofdm._share(rng, 0.06, 0.94) for _ in range(2000)])
    assert shares.min() >= 0.06 and shares.max() <= 0.94
    assert 0.2 < np.mean(shares > 0.78) < 0.4
