"""Where the signal lies, and the tuning that follows from it."""

import numpy as np
import pytest
from emind.dsp.band import (
    FILL, FILTER_REACH, MAX_STRETCHES, MIN_WINDOWS, Band, TuningPlan, fft_size, occupied_band, plan_tuning)
from emind.storage.recording import open_recording

RATE = 2e6


def band_limited(generator, count, low, high):
    """Gaussian signal of power 1 between two frequencies in Hz."""
    spectrum = np.fft.fft(generator.standard_normal((count, 2)) @ [1, 1j])
    frequency = np.fft.fftfreq(count, 1 / RATE)
    spectrum[(frequency < low) | (frequency > high)] = 0
    signal = np.fft.ifft(spectrum)
    return signal / np.sqrt(np.mean(np.abs(signal) ** 2))


def noise(generator, count, level):
    return level * np.sqrt(0.5) * (generator.standard_normal((count, 2)) @ [1, 1j])


def estimate(samples):
    size = fft_size(len(samples))
    return occupied_band(samples[: len(samples) // size * size].reshape(-1, size).astype(np.complex64), RATE)


@pytest.mark.parametrize("low, high", [(-200e3, -100e3), (300e3, 380e3), (-400e3, 500e3), (-15e3, 15e3)])
@pytest.mark.parametrize("bursts", [False, True])
def test_the_band_is_found(low, high, bursts):
    generator = np.random.default_rng(1)
    count = 400_000
    on = np.arange(count) % 100_000 < (12_000 if bursts else count)
    band = estimate(band_limited(generator, count, low, high) * on + noise(generator, count, 0.15))
    assert band.center == pytest.approx((low + high) / 2, abs=0.03 * (high - low) + RATE / 4096)
    assert band.width == pytest.approx(0.92 * (high - low), rel=0.08)


@pytest.mark.parametrize("bursts", [False, True])
def test_the_receivers_spike_at_zero_is_not_the_signal(bursts):
    generator = np.random.default_rng(2)
    count = 400_000
    on = np.arange(count) % 100_000 < (12_000 if bursts else count)
    samples = band_limited(generator, count, 300e3, 400e3) * on + noise(generator, count, 0.1) + 0.8
    band = estimate(samples)
    assert band.low > 290e3 and band.high < 410e3


def test_a_station_that_is_always_there_does_not_hide_a_burst():
    generator = np.random.default_rng(3)
    count = 400_000
    on = np.arange(count) % 100_000 < 10_000
    samples = 3 * band_limited(generator, count, 300e3, 350e3) * on + noise(generator, count, 0.1)
    samples += 0.8 * np.exp(2j * np.pi * -0.3 * np.arange(count))
    band = estimate(samples)
    assert band.low > 290e3 and band.high < 360e3


def test_nothing_above_the_floor_gives_no_band():
    assert occupied_band(np.zeros((8, 256), np.complex64), RATE) is None


def test_the_plan_fills_and_leaves_enough_windows():
    plan = plan_tuning(Band(90e3, 110e3), RATE, 10**6, 1024)
    assert plan.center == 100e3 and plan.decimation == int(FILL * RATE / 20e3)
    short = plan_tuning(Band(90e3, 110e3), RATE, 10 * MIN_WINDOWS * 1024, 1024)
    assert short.decimation == 10
    assert plan_tuning(Band(90e3, 110e3), RATE, 900, 1024).decimation == 1
    wide = plan_tuning(Band(-700e3, 720e3), RATE, 10**6, 1024)
    assert not wide.tunes and wide.band == Band(-700e3, 720e3)


@pytest.mark.parametrize("decimation", [2, 3, 17])
def test_the_filter_is_late_by_whole_samples_and_keeps_the_band(decimation):
    plan = TuningPlan(0.0, decimation)
    taps = plan.taps()
    assert len(taps) == 2 * FILTER_REACH * decimation + 1 and plan.delay == FILTER_REACH
    assert np.allclose(taps, taps[::-1], atol=1e-7) and taps.sum() == pytest.approx(1)
    response = 20 * np.log10(np.abs(np.fft.rfft(taps, 65536)) + 1e-12)
    frequency = np.arange(len(response)) / 65536 * decimation  # in new sample rates
    assert np.abs(response[frequency < 0.4]).max() < 0.1, "flat where the signal is"
    assert response[frequency > 0.62].max() < -60, "what would fold into the band is gone"


# True widths in Hz from what the recordings hold; the estimate is 92 % of the power, so it is less.
KNOWN_WIDTHS = {
    "ble_zigbee_BLE_124B_10M": (0.5e6, 1.2e6),
    "ble_zigbee_802154_84B_10M": (1.0e6, 2.4e6),
    "fsk_wmbus_T1_868.95M_1600k": (0.1e6, 0.25e6),
    "fsk_wmbus_S1_868.625M_2400k": (0.08e6, 0.2e6),
    "wifi_cond_dot11a_24M_20M": (10e6, 17e6),
    "ofdm_lte_dl_1815.3M_19200k": (10e6, 19e6),
    "lmr_dmr_tier3_control_48k": (4e3, 10e3),
    "adsb_modes1_1090M_2000k": (1e6, 2e6),
}


@pytest.mark.parametrize("name", KNOWN_WIDTHS)
def test_real_recordings_have_the_width_their_standard_says(captures, name):
    recording = open_recording(captures / f"{name}.sigmf-meta")
    band = occupied_band(recording.loud_and_spread(fft_size(recording.count), MAX_STRETCHES), recording.rate)
    low, high = KNOWN_WIDTHS[name]
    assert low <= band.width <= high
