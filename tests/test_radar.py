"""Radar waveforms and interference: each against the property that defines it."""

import numpy as np
import pytest
from emind_training.synthesis import channels as ch
from emind_training.synthesis import interference as jam
from emind_training.synthesis import radar


def rng(seed=0):
    return np.random.default_rng(seed)


def frequency(x):
    """Cycles per sample from each sample to the next."""
    return np.angle(x[1:] * x[:-1].conj()) / (2 * np.pi)


def band_share(x, low, high):
    power = np.abs(np.fft.fft(x)) ** 2
    f = np.fft.fftfreq(len(x))
    return power[(f >= low) & (f <= high)].sum() / power.sum()


def sidelobes(code):
    return np.abs(np.correlate(code, code, "full"))[len(code):]


def runs(on):
    """Starts and ends of the stretches that are on."""
    edges = np.diff(np.concatenate([[0], on.astype(int), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


# ----------------------------------------------------------------------------------------------------- codes


@pytest.mark.parametrize("length", radar.BARKER)
def test_barker_codes_have_no_sidelobe_above_one(length):
    assert len(radar.barker_code(length)) == length
    assert sidelobes(radar.barker_code(length)).max() <= 1 + 1e-9


@pytest.mark.parametrize("length", radar.POLYPHASE_BARKER)
def test_polyphase_barker_codes_have_unit_chips_and_no_sidelobe_above_one(length):
    code = radar.polyphase_barker_code(length)
    assert len(code) == length
    np.testing.assert_allclose(np.abs(code), 1)
    assert sidelobes(code).max() <= 1 + 1e-3


@pytest.mark.parametrize("side", [2, 3, 4])
def test_frank_codes_have_a_perfect_cyclic_autocorrelation(side):
    code = radar.frank_code(side)
    spectrum = np.abs(np.fft.fft(code)) ** 2
    np.testing.assert_allclose(spectrum, side**2)  # flat: all cyclic sidelobes are zero


@pytest.mark.parametrize("bits", [3, 4, 5, 6])
def test_maximal_codes_have_cyclic_sidelobes_of_minus_one(bits):
    code = radar.maximal_code(bits)
    cyclic = np.fft.ifft(np.abs(np.fft.fft(code)) ** 2).real
    np.testing.assert_allclose(cyclic, [len(code)] + [-1] * (len(code) - 1), atol=1e-9)


# -------------------------------------------------------------------------------------------------- waveforms


@pytest.mark.parametrize("name", radar.WAVEFORMS)
def test_every_waveform_has_unit_envelope_over_its_width_and_nothing_outside(name):
    shape = radar.waveform(rng(), name, 160.5, 0.1)
    x = shape.at(np.arange(-40, 260) + 0.25)
    assert shape.name == name
    np.testing.assert_allclose(np.abs(x[40:200]), 1)  # 0.25 to 159.25
    assert not x[:40].any() and not x[201:].any()


@pytest.mark.parametrize("name", ["LFM", "Custom FM", "Stepped FM"])
@pytest.mark.parametrize("bandwidth", [0.1, 0.3])
def test_sweeps_cover_their_bandwidth_and_no_more(name, bandwidth):
    shape = radar.waveform(rng(3), name, 400, bandwidth)
    f = frequency(shape.at(np.arange(400)))
    reach = bandwidth / 2 * (7 / 8 if name == "Stepped FM" else 1)
    assert shape.bandwidth == pytest.approx(bandwidth)
    near = 0.03 * bandwidth  # the bent sweep moves on by this much within its last sample
    assert f.max() == pytest.approx(reach, abs=near) and f.min() == pytest.approx(-reach, abs=near)


def test_a_stepped_pulse_has_eight_equal_steps_of_continuous_phase():
    f = frequency(radar.stepped_fm(400, 0.2).at(np.arange(400)))
    steps, counts = np.unique(np.round(f, 4), return_counts=True)
    steps = steps[counts > 20]
    assert len(steps) == 8
    np.testing.assert_allclose(np.diff(steps), 0.2 / 8, atol=2e-4)


def test_the_bent_sweep_has_lower_sidelobes_than_the_straight_one():
    def highest(shape):
        x = shape.at(np.arange(500))
        lobes = np.abs(np.correlate(x, x, "full"))[499:] / 500
        first_null = int(np.argmax(np.diff(lobes) > 0))
        return lobes[first_null:].max()

    assert highest(radar.custom_fm(500, 0.2)) < 0.75 * highest(radar.linear_fm(500, 0.2))


def test_a_negative_bandwidth_sweeps_down():
    assert np.all(np.diff(frequency(radar.linear_fm(300, -0.2).at(np.arange(300)))) < 0)


def test_an_unmodulated_pulse_has_its_first_null_at_one_over_its_width():
    x = np.concatenate([radar.rectangular(50).at(np.arange(50)), np.zeros(950)])
    spectrum = np.abs(np.fft.fft(x))
    assert spectrum[20] < 1e-9 * spectrum[0] and spectrum[10] > 0.5 * spectrum[0]


def test_a_coded_pulse_changes_phase_at_its_chips_only():
    x = radar.coded("Barker Code", 130, radar.barker_code(13)).at(np.arange(130))
    changes = np.flatnonzero(np.abs(np.diff(x)) > 1) + 1
    np.testing.assert_array_equal(changes, [50, 70, 90, 100, 110, 120])


def test_codes_take_the_length_whose_chip_rate_is_nearest():
    assert radar.waveform(rng(), "Frank Code", 100, 0.16).bandwidth == pytest.approx(0.16)
    assert radar.waveform(rng(), "Barker Code", 100, 0.12).bandwidth == pytest.approx(0.11, abs=0.021)
    assert radar.waveform(rng(), "Phase Coded", 100, 0.3).bandwidth == pytest.approx(0.31)


def test_pulses_start_and_repeat_where_they_are_told_to_a_fraction_of_a_sample():
    shape = radar.linear_fm(40.0, 0.3)
    x = radar.pulses(shape, 10.25 + 100.5 * np.arange(4), 420)
    starts, ends = runs(x != 0)
    np.testing.assert_array_equal(starts, [11, 111, 212, 312])
    np.testing.assert_array_equal(ends - starts, 40)
    np.testing.assert_allclose(x[111:151], shape.at(np.arange(111, 151) - 110.75))


# ----------------------------------------------------------------------------------- interference, communications


def test_a_comb_has_its_teeth_at_equal_spacing_and_equal_height():
    power = np.abs(np.fft.fft(jam.comb(rng(), 1000, 11, 0.03, 0.005))) ** 2 / 1000**2
    teeth = np.flatnonzero(power > 1e-9)
    places = np.sort(np.fft.fftfreq(1000)[teeth])
    assert len(teeth) == 11
    np.testing.assert_allclose(np.diff(places), 0.03)
    np.testing.assert_allclose(power[teeth], 1 / 11)


def test_a_sweep_runs_through_its_band_once_a_period():
    f = frequency(jam.sweep(rng(1), 1000, 0.4, 250.0))
    jumps = np.flatnonzero(np.abs(np.diff(f)) > 0.2)
    np.testing.assert_array_equal(np.diff(jumps), 250)
    assert f.max() - f.min() == pytest.approx(0.4, abs=0.005)


def test_swept_tones_are_as_many_as_asked_at_any_instant():
    x = jam.swept_tones(rng(2), 4096, 3, 0.4, 1e7)  # hardly moving: three lines
    spectrum = np.abs(np.fft.fft(x * np.hanning(4096)))
    peaks = np.flatnonzero((spectrum > np.roll(spectrum, 1)) & (spectrum > np.roll(spectrum, -1))
                           & (spectrum > 0.3 * spectrum.max()))
    assert len(peaks) == 3


@pytest.mark.parametrize("bandwidth, centre", [(0.05, 0.2), (0.5, 0.0)])
def test_band_noise_stays_in_its_band_and_fills_it(bandwidth, centre):
    x = ch.band_noise(rng(), 8192, bandwidth, centre)
    assert np.mean(np.abs(x) ** 2) == pytest.approx(1)
    assert band_share(x, centre - 0.56 * bandwidth, centre + 0.56 * bandwidth) > 0.999
    assert band_share(x, centre, centre + 0.6 * bandwidth) == pytest.approx(0.5, abs=0.08)


def test_noise_fm_has_a_constant_envelope_and_fills_its_band():
    x = jam.noise_fm(rng(), 8192, 0.6)
    np.testing.assert_allclose(np.abs(x), 1)
    assert band_share(x, -0.33, 0.33) > 0.9 and band_share(x, -0.05, 0.05) < 0.4


def test_pulsed_noise_is_on_for_its_duty():
    x = jam.pulsed_noise(rng(), 20_000, 200.0, 0.2)
    assert np.mean(x != 0) == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(np.diff(runs(x != 0)[0][1:]), 200)


# --------------------------------------------------------------------------------------------- interference, radar

STARTS = np.array([50.0, 550.0, 1050.0, 1550.0])
SHAPE = radar.linear_fm(120.0, 0.25)


def matched(x):
    """Output of the radar's matched filter; sample k answers a pulse that starts at k."""
    pulse = SHAPE.at(np.arange(120))
    return np.abs(np.correlate(x, pulse, "valid")) / 120


@pytest.mark.parametrize("repeats, duty", [(1, 1 / 2), (2, 1 / 3), (4, 1 / 5)])
def test_the_intermittent_repeater_sends_each_slice_as_often_as_stated_and_listens_between(repeats, duty):
    width = 12
    x = jam.interrupted_sampling(SHAPE, STARTS[:1], 400, width, repeats)
    period = width * (repeats + 1)
    on = x[50 : 50 + 120] != 0
    whole = on[: 120 // period * period]
    assert 1 - whole.mean() == pytest.approx(duty)  # the share of time it samples
    stored = SHAPE.at(np.arange(width))
    for k in range(repeats):
        np.testing.assert_allclose(x[50 + width * (k + 1) : 50 + width * (k + 2)], stored, atol=1e-9)


def test_range_pull_off_walks_away_from_the_echo():
    peaks = []
    x = matched(jam.range_pull_off(rng(), SHAPE, STARTS, 2300, 20, 15))
    for k, start in enumerate(STARTS.astype(int)):
        peaks.append(int(np.argmax(x[start : start + 300])))
        assert x[start + peaks[-1]] == pytest.approx(1, abs=1e-6)
    assert peaks == [20, 35, 50, 65]


def test_false_targets_are_as_many_and_as_far_apart_as_stated():
    x = matched(jam.false_targets(rng(), SHAPE, STARTS[:1], 600, 5, 40.0))
    peaks = np.flatnonzero((x > np.roll(x, 1)) & (x > np.roll(x, -1)) & (x > 0.6))
    np.testing.assert_array_equal(peaks, 50 + 40 * np.arange(1, 6))


def test_smart_noise_keeps_to_the_radars_band_and_passes_its_matched_filter():
    x = jam.smart_noise(rng(), SHAPE, STARTS, 2300, 80)
    assert band_share(x, -0.15, 0.15) > 0.95
    white = ch.scaled_to(ch.complex_noise(rng(1), 2300), np.mean(np.abs(x) ** 2))
    assert np.mean(matched(x) ** 2) > 2 * np.mean(matched(white) ** 2)


def test_chaff_spreads_over_its_cloud_and_changes_from_pulse_to_pulse():
    x = jam.chaff(rng(), SHAPE, STARTS, 2300, 100, 1e-3)
    starts, ends = runs(np.abs(x) > 0)
    np.testing.assert_allclose(starts, STARTS, atol=6)
    np.testing.assert_allclose(ends - starts, 220, atol=8)
    first, second = x[50:270], x[550:770]
    still = jam.chaff(rng(), SHAPE, STARTS, 2300, 100, 0.0)

    def alike(a, b):
        return abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b)

    assert alike(first, second) < 0.9 and alike(still[50:270], still[550:770]) > 0.999
