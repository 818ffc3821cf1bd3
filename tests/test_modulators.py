"""Each modulation against theory, each impairment against its definition."""

import numpy as np
import pytest
from emind_training.synthesis import channels as ch
from emind_training.synthesis import modulators as mod


def spectrum_share(x, low, high):
    """Share of the power between two frequencies in cycles per sample."""
    power = np.abs(np.fft.fft(x)) ** 2
    f = np.fft.fftfreq(len(x))
    return power[(f >= low) & (f <= high)].sum() / power.sum()


@pytest.mark.parametrize("points", [mod.psk(2), mod.psk(4), mod.psk(8), mod.pam(4), mod.qam(16), mod.qam(64), mod.ask(4)])
def test_constellations_have_unit_power_and_distinct_points(points):
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1)
    assert len(np.unique(np.round(points, 9))) == len(points)


@pytest.mark.parametrize("sps", [4.0, 5.0, 7.3])
def test_root_raised_cosine_twice_gives_back_the_symbols(sps):
    rng = np.random.default_rng(0)
    pulse = mod.root_raised_cosine(0.35)
    symbols = mod.qam(16)[rng.integers(0, 16, 200)]
    x = mod.linear(symbols, sps, pulse, int(180 * sps))
    t = np.arange(-6 * int(sps) - 6, 6 * int(sps) + 7)
    matched = np.interp(t / sps, np.linspace(-6, 6, len(pulse)), pulse, left=0, right=0) / sps
    y = np.convolve(x, matched, mode="same")
    at = (np.arange(20, 150) + 0.5 + 6) * sps
    received = np.interp(at, np.arange(len(y)), y.real) + 1j * np.interp(at, np.arange(len(y)), y.imag)
    error = np.sqrt(np.mean(np.abs(received - symbols[20:150]) ** 2))
    assert error < 0.08  # interpolation between samples included


@pytest.mark.parametrize("order, points", [(2, mod.psk(2)), (4, mod.psk(4)), (16, mod.qam(16))])
def test_symbol_errors_over_white_noise_are_those_of_the_closed_form(order, points):
    rng = np.random.default_rng(order)
    count, snr = 40_000, ch.db({2: 5, 4: 9, 16: 15}[order])
    sent = rng.integers(0, order, count)
    x = mod.linear(points[sent], 1.0, mod.raised_cosine(0.35, span=2), count, start=-2.5)
    received = x + ch.complex_noise(rng, count, 1 / snr)
    decided = np.argmin(np.abs(received[:, None] - points[None]), axis=1)
    errors = np.mean(decided != sent)
    from scipy.special import erfc

    def q(v):
        return 0.5 * erfc(v / np.sqrt(2))

    if order == 2:
        theory = q(np.sqrt(2 * snr))
    elif order == 4:
        theory = 1 - (1 - q(np.sqrt(snr))) ** 2
    else:
        theory = 1 - (1 - 1.5 * q(np.sqrt(snr / 5))) ** 2
    assert abs(errors - theory) < 4 * np.sqrt(theory * (1 - theory) / count)


def test_the_occupied_band_of_a_linear_modulation_is_its_symbol_rate_and_rolloff():
    rng = np.random.default_rng(1)
    x = mod.linear(mod.psk(4)[rng.integers(0, 4, 1500)], 8, mod.root_raised_cosine(0.25), 8192)
    edge = 1.25 / 8 / 2
    assert spectrum_share(x, -edge, edge) > 0.995
    assert spectrum_share(x, -edge / 2, edge / 2) < 0.75


def test_offset_qpsk_shifts_the_quadrature_branch_by_half_a_symbol():
    symbols = mod.psk(4)[[0, 1, 2, 3, 1, 0, 2, 3] * 8]
    x = mod.offset_quadrature(symbols, 8, mod.rectangle(), 256)
    changes_i = np.flatnonzero(np.diff(np.sign(x.real[16:-16]))) % 8
    changes_q = np.flatnonzero(np.diff(np.sign(x.imag[16:-16]))) % 8
    assert len(set(changes_i)) == len(set(changes_q)) == 1
    assert (changes_q[0] - changes_i[0]) % 8 == 4


def test_half_sine_offset_qpsk_has_a_constant_envelope():
    rng = np.random.default_rng(2)
    x = mod.offset_quadrature(mod.psk(4)[rng.integers(0, 4, 100)], 16, mod.half_sine(), 1200)
    np.testing.assert_allclose(np.abs(x[32:-32]), 1, atol=0.03)


def test_quarter_pi_dqpsk_turns_by_odd_multiples_of_a_quarter_pi():
    steps = np.random.default_rng(3).integers(0, 4, 50)
    turns = np.angle(mod.differential_quarter_pi(steps)[1:] / mod.differential_quarter_pi(steps)[:-1])
    assert set(np.round(np.abs(turns) / (np.pi / 4)).astype(int)) <= {1, 3}


def test_msk_turns_by_a_quarter_of_a_circle_each_symbol():
    levels = np.random.default_rng(4).integers(0, 2, 64) * 2 - 1
    x = mod.frequency_shift(levels, 16, 0.5, mod.rectangle(), 800)
    turn = np.angle(x[32::16][:40] / x[16::16][:40])
    np.testing.assert_allclose(np.abs(turn), np.pi / 2)
    np.testing.assert_allclose(np.abs(x), 1)


def test_the_tones_of_fsk_are_index_over_symbol_length_apart():
    levels = np.array([-3, -1, 1, 3]).repeat(8)
    x = mod.frequency_shift(levels, 32, 1.0, mod.rectangle(), 1024)
    step = np.angle(x[1:] * x[:-1].conj()) / (2 * np.pi)
    tones = np.unique(np.round(step[64:-64] * 64).astype(int))
    assert set(tones) >= {-3, -1, 1, 3}


def test_a_gaussian_pulse_has_the_area_of_a_symbol_and_is_wider_for_smaller_bt():
    wide, narrow = mod.gaussian(0.3), mod.gaussian(2.0)
    assert wide.sum() / mod.TABLE_STEPS == pytest.approx(1) == narrow.sum() / mod.TABLE_STEPS
    assert wide.max() < narrow.max()


def test_amplitude_modulation_keeps_its_carrier_and_sidebands():
    m = np.cos(2 * np.pi * 0.05 * np.arange(1000))
    power = np.abs(np.fft.fft(mod.amplitude(m, 0.8))) ** 2
    assert power[50] / power[0] == pytest.approx(0.4**2, rel=1e-6)
    assert power[950] == pytest.approx(power[50])


@pytest.mark.parametrize("upper", [True, False])
def test_single_sideband_has_one_side_only(upper):
    m = np.random.default_rng(5).standard_normal(2048)
    share = spectrum_share(mod.single_sideband(m, upper), 0, 0.5)
    assert share > 0.999 if upper else share < 0.001


def test_frequency_modulation_swings_by_its_deviation():
    x = mod.frequency(np.sin(2 * np.pi * 0.001 * np.arange(4000)), 0.1)
    step = np.angle(x[1:] * x[:-1].conj()) / (2 * np.pi)
    assert step.max() == pytest.approx(0.1, rel=1e-3) and step.min() == pytest.approx(-0.1, rel=1e-3)


def test_an_ofdm_symbol_repeats_its_end_as_prefix_and_gives_back_its_carriers():
    rng = np.random.default_rng(6)
    positions = np.r_[-26:0, 1:27]
    carriers = mod.qam(16)[rng.integers(0, 16, (3, 52))]
    x = mod.ofdm(carriers, 64, 16, positions, 240)
    np.testing.assert_allclose(x[80:96], x[144:160], atol=1e-12)
    back = np.fft.fft(x[96:160])[positions] * np.sqrt(52) / 64
    np.testing.assert_allclose(back, carriers[1], atol=1e-12)


def test_a_lora_symbol_dechirps_to_its_value():
    spreading, over = 7, 4
    for value in (0, 5, 100):
        x = mod.lora(np.array([value]), spreading, 1 / over, 128 * over)
        base = mod.lora(np.array([0]), spreading, 1 / over, 128 * over)
        bins = np.abs(np.fft.fft((x * base.conj())[::over]))
        assert bins.argmax() == value


def test_a_linear_sweep_covers_its_bandwidth_and_ends():
    x = mod.linear_sweep(500, 0.4, 700)
    step = np.angle(x[1:499] * x[:498].conj()) / (2 * np.pi)
    assert step[0] == pytest.approx(-0.2, abs=2e-3) and step[-1] == pytest.approx(0.2, abs=2e-3)
    assert not x[501:].any()


def test_pulse_position_puts_the_pulse_in_the_half_of_the_bit():
    envelope = mod.pulse_position(np.array([1, 0]), 2.0, 40)
    chips = envelope.reshape(-1, 2).mean(1)
    np.testing.assert_allclose(chips[:16], [1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(chips[16:20], [1, 0, 0, 1])


def test_on_off_holds_each_level_for_its_duration():
    np.testing.assert_array_equal(mod.on_off([1, 0, 1], np.array([2, 3, 4]), 7, start=1), [1, 0, 0, 0, 1, 1, 1])


# -------------------------------------------------------------------------------------------------- impairments


def test_a_mirror_has_the_stated_level():
    x = ch.shift(np.ones(1000, complex), 0.1)
    power = np.abs(np.fft.fft(ch.mirror(x, -20, 0.3))) ** 2
    assert 10 * np.log10(power[900] / power[100]) == pytest.approx(-20, abs=1e-6)


def test_imbalance_leaves_the_image_that_gain_and_phase_imply():
    x = ch.shift(np.ones(1000, complex), 0.1)
    gain_db, phase = 1.0, 0.05
    g = 10 ** (gain_db / 20) * np.exp(1j * phase)
    power = np.abs(np.fft.fft(ch.iq_imbalance(x, gain_db, phase))) ** 2
    assert power[900] / power[100] == pytest.approx(abs(1 - g) ** 2 / abs(1 + g) ** 2)


def test_a_converter_has_its_levels_and_clips():
    x = np.linspace(-2, 2, 4001) * (1 + 1j)
    y = ch.quantise(x, 3, 1.0)
    assert len(np.unique(y.real)) == 8 and y.real.max() == pytest.approx(0.875)
    inside = np.abs(x.real) < 1
    assert np.abs(y.real - x.real)[inside].max() <= 0.125 + 1e-9


def test_multipath_keeps_the_power_on_average():
    rng = np.random.default_rng(7)
    power = [np.mean(np.abs(ch.multipath(rng, 256, 3.0, 4, 4.0)) ** 2) for _ in range(300)]
    assert np.mean(power) == pytest.approx(1, abs=0.1)


def test_a_low_pass_passes_its_band_and_stops_the_rest():
    response = ch.lowpass(1000, 0.2, 0.05)
    f = np.abs(np.fft.fftfreq(1000))
    assert (response[f < 0.17] == 1).all() and (response[f > 0.23] == 0).all()


def test_the_amplifier_saturates():
    x = np.linspace(0, 10, 1000).astype(complex)
    y = np.abs(ch.compress(x, 1.2))
    assert y.max() < 1.2 * np.sqrt(np.mean(np.abs(x) ** 2)) and (np.diff(y) >= 0).all()


def test_noise_has_its_power():
    assert np.mean(np.abs(ch.complex_noise(np.random.default_rng(8), 100_000, 0.3)) ** 2) == pytest.approx(0.3, rel=0.02)
