"""The energy gate on generated streams: what it lets through, what it closes on, and what it cannot tell."""

import numpy as np
import pytest

from emind.dsp.gate import NOISE, OPEN, EnergyGate
from emind.dsp.snr import LOOK_EVERY, LOOKS_FOR_TRUST, RELEARN_WINDOWS, looks_like_noise

LENGTH = 256
GATE_DB = 6.0


def noise(windows, power_db=0.0, seed=0, length=LENGTH):
    parts = np.random.default_rng(seed).standard_normal((windows, 2 * length)).astype(np.float32)
    return parts.view(np.complex64) * np.float32(np.sqrt(0.5) * 10 ** (power_db / 20))


def qpsk(windows, power_db, samples_per_symbol=4, seed=1):
    count = windows * LENGTH // samples_per_symbol
    symbols = np.exp(1j * (np.pi / 4 + np.pi / 2 * np.random.default_rng(seed).integers(0, 4, count)))
    samples = np.repeat(symbols, samples_per_symbol) * 10 ** (power_db / 20)
    return samples.astype(np.complex64).reshape(windows, LENGTH)


def tone(windows, power_db, offset=0.05):
    samples = np.exp(2j * np.pi * offset * np.arange(windows * LENGTH)) * 10 ** (power_db / 20)
    return samples.astype(np.complex64).reshape(windows, LENGTH)


def ofdm(windows, power_db, seed=2):
    """Carriers over the whole band: to second and fourth moments it is noise."""
    carriers = np.exp(0.5j * np.pi * np.random.default_rng(seed).integers(0, 4, (windows, LENGTH)))
    return (np.fft.ifft(carriers, axis=1) * np.sqrt(LENGTH) * 10 ** (power_db / 20)).astype(np.complex64)


def opened(windows, gate=None, calls=13):
    """Which windows the gate leaves open, bool (n,)."""
    gate = gate or EnergyGate(GATE_DB)
    return np.concatenate([gate.sort(part, LENGTH)[0] == OPEN for part in np.array_split(windows, calls)])


def test_the_gate_closes_soon_on_noise_and_opens_for_each_burst():
    stream = noise(2000)
    bursts = np.zeros(2000, bool)
    for first in (100, 500, 501, 1200):
        bursts[first : first + 40] = True
    stream[bursts] += qpsk(int(bursts.sum()), 10.0)
    is_open = opened(stream)
    np.testing.assert_array_equal(is_open[20:], bursts[20:])


@pytest.mark.parametrize("signal", [qpsk, tone])
def test_the_snr_of_a_signal_that_never_pauses_is_unknown_and_of_noise_and_signals_above_it_is_known(signal):
    always = signal(200, 12.0) + noise(200)
    assert np.isnan(EnergyGate().sort(always, LENGTH)[1]).all()
    stream = noise(200)
    stream[100:] += signal(100, 12.0)
    ratios = EnergyGate().sort(stream, LENGTH)[1]
    assert np.isfinite(ratios[20:]).all() and ratios[20:100].max() < 0
    np.testing.assert_allclose(ratios[100:], 12.0, atol=1.5)
    paused = np.concatenate([always, noise(100, seed=3)])
    paused[150:200] = always[:50]
    ratios = EnergyGate().sort(np.concatenate([paused, always]), LENGTH)[1]
    np.testing.assert_allclose(ratios[-100:], 12.0, atol=1.5)  # known from the first pause on


@pytest.mark.parametrize("signal", [qpsk, tone])
def test_a_signal_that_is_always_on_from_some_time_on_is_never_gated(signal):
    stream = noise(4000)
    stream[300:] += signal(3700, 12.0)
    is_open = opened(stream)
    assert not is_open[20:300].any() and is_open[300:].all()


@pytest.mark.parametrize("signal", [qpsk, tone])
def test_a_signal_present_at_the_start_is_let_through_and_its_first_pause_gives_the_floor(signal):
    stream = noise(3000)
    on = np.zeros(3000, bool)
    on[:1500] = on[1800:2000] = True
    stream[on] += signal(int(on.sum()), 12.0)
    is_open = opened(stream)
    assert is_open[on].all()
    settled = 1500 + (LOOKS_FOR_TRUST + 1) * LOOK_EVERY
    assert not is_open[settled:1800].any() and not is_open[2000:].any()


@pytest.mark.parametrize("step_db", [20.0, 8.0, 4.0, -8.0, -30.0])
def test_a_step_of_the_floor_is_followed_and_a_signal_behind_it_is_seen(step_db):
    stream = np.concatenate([noise(500), noise(2500, step_db, seed=4)])
    stream[2500:2600] += qpsk(100, step_db + 12.0)
    is_open = opened(stream)
    expected = np.zeros(3000, bool)
    expected[2500:2600] = True
    known_again = 500 + RELEARN_WINDOWS + 1 if step_db > 0 else 500
    np.testing.assert_array_equal(is_open[known_again:], expected[known_again:])
    if step_db > 10:
        assert is_open[500 : 500 + RELEARN_WINDOWS - 1].all()  # nothing is gated by a floor that is no more


def test_a_single_quiet_window_closes_nothing_for_long():
    stream = noise(2000)
    stream[700] *= 1e-3
    is_open = opened(stream)
    assert not is_open[20:701].any()
    assert is_open[701 : 700 + RELEARN_WINDOWS].all() and not is_open[702 + RELEARN_WINDOWS :].any()


def test_what_a_gate_cannot_tell():
    weak = noise(1000)
    weak[500:] += qpsk(500, 2.0)  # 4 dB above the noise alone, with it: below the gate
    assert not opened(weak)[20:].any()
    endless = noise(3000)
    endless[500:] += ofdm(2500, 15.0)  # white over the band and never pausing: taken for a new floor in the end
    is_open = opened(endless)
    assert is_open[500 : 500 + RELEARN_WINDOWS - 1].all() and not is_open[1500:].any()
    narrow = np.fft.ifft(np.fft.fft(noise(1000), axis=1) * (np.arange(LENGTH) < 80), axis=1).astype(np.complex64)
    assert opened(narrow).all()  # a receiver whose noise fills less than half of the band: the gate never closes


def test_what_looks_like_noise_and_what_does_not():
    assert all(looks_like_noise(window) for window in noise(300, -80.0))
    assert all(looks_like_noise(window + np.complex64(1e-4)) for window in noise(300, -80.0))  # an offset
    roll_off = np.fft.ifft(np.fft.fft(noise(100), axis=1) * (abs(np.fft.fftfreq(LENGTH)) < 0.4), axis=1)
    assert np.mean([looks_like_noise(window.astype(np.complex64)) for window in roll_off]) > 0.95
    for signal in (qpsk(100, 0.0), qpsk(100, 0.0, samples_per_symbol=1), tone(100, 0.0), np.ones((1, LENGTH))):
        assert not any(looks_like_noise(window.astype(np.complex64)) for window in signal)
        mixed = signal + noise(len(signal), -10.0, seed=9)
        assert np.mean([looks_like_noise(window.astype(np.complex64)) for window in mixed]) < 0.05
    assert not looks_like_noise(np.ones(4, np.complex64))


def test_the_gate_does_not_depend_on_how_the_stream_comes_in_calls():
    stream = np.concatenate([qpsk(200, 10.0) + noise(200), noise(400), noise(900, 15.0), noise(100) * 0.1])
    one = opened(stream, calls=1)
    for calls in (7, 400, len(stream)):
        np.testing.assert_array_equal(opened(stream, calls=calls), one)


def test_after_a_change_of_frequency_the_floor_is_found_anew():
    gate = EnergyGate(GATE_DB)
    opened(noise(300), gate)
    gate.floor.restart()
    is_open = opened(qpsk(300, 12.0) + noise(300), gate)
    assert is_open.all()


def test_the_snr_is_against_the_floor():
    gate = EnergyGate(GATE_DB)
    stream = noise(400, length=1024)
    stream[200:] += np.sqrt(100.0).astype(np.float32)
    kinds, ratios = gate.sort(stream, 1024)
    assert np.median(ratios[200:]) == pytest.approx(20.0, abs=0.7)
    assert (kinds[50:200] == NOISE).all()
