"""The published recipes that are made anew: AWGN-7 against its known ceiling, RML2016.10A block by block."""

import importlib.util

import numpy as np
import pytest
from emind_training.synthesis import awgn7, rml2016
from emind_training.synthesis import modulators as mod
from emind_training.synthesis.sets import SETS

GNU_RADIO = importlib.util.find_spec("gnuradio") is not None
RML = "RML2016.10A-regen"


def power(x):
    return np.mean(np.abs(np.asarray(x, complex)) ** 2)


def frequency(x):
    return np.angle(x[1:] * x[:-1].conj()) / (2 * np.pi)


def alike(x, y):
    """Greatest correlation coefficient of the middle of ``y`` with any stretch of ``x``."""
    y = y[len(y) // 4 : 3 * len(y) // 4]
    found = np.abs(np.correlate(x, y, "valid"))
    at = int(found.argmax())
    return found[at] / np.linalg.norm(x[at : at + len(y)]) / np.linalg.norm(y)


# ---------------------------------------------------------------------------------------------------- AWGN-7


def test_awgn7_windows_have_no_mean_unit_power_and_noise_of_the_stated_power():
    ratio = {snr: [] for snr in awgn7.SNRS}
    for item in range(88):
        rows = SETS["AWGN-7"].rows(0, item)
        assert [row.snr for row in rows] == list(range(-20, 20, 2))
        assert {row.transmission_id for row in rows} == {str(item)} and {row.modulation for row in rows} == {
            awgn7.CLASSES[item % 11]}
        cleanest = rows[-1].iq.astype(complex)
        assert abs(cleanest.mean()) < 0.05 and power(cleanest) == pytest.approx(1 + 10**-1.8, rel=0.1)
        for row in rows:
            ratio[row.snr].append(power(row.iq))
    for snr, powers in ratio.items():
        assert np.mean(powers) == pytest.approx(1 + 10 ** (-snr / 10), rel=0.04)


def test_awgn7_cpfsk_turns_by_its_index_and_psk_stands_where_the_recipe_says():
    rng = np.random.default_rng(0)
    steps = np.abs(np.angle(np.exp(2j * np.pi * frequency(awgn7.clean_window(rng, "CPFSK")))))
    np.testing.assert_allclose(steps, 0.55 * np.pi)
    for name, order in (("BPSK", 2), ("QPSK", 4), ("8PSK", 8)):
        phases = np.angle(awgn7.clean_window(rng, name)) % (2 * np.pi)
        k = (phases - np.pi / order) / (2 * np.pi / order)
        np.testing.assert_allclose(k, np.rint(k), atol=1e-9)
    assert set(np.round(awgn7.clean_window(rng, "4PAM").real * np.sqrt(5)).astype(int)) == {-3, -1, 1, 3}


def log_likelihood(y, name, noise):
    """(windows,) of y (windows, 128) for a class, means and powers of the windows taken as zero and one."""
    if name in awgn7.POINTS:
        distance = np.abs(y[..., None] - awgn7.POINTS[name]) ** 2
        return np.logaddexp.reduce(-distance / noise, axis=2).sum(1) - y.shape[1] * np.log(len(awgn7.POINTS[name]))
    phases = np.exp(1j * np.pi * np.arange(40) / 20)  # multiples of 0.55 pi are multiples of pi / 20, every eleventh
    state = np.full((len(y), 40), -np.inf)
    state[:, 0] = 0.0
    for k in range(y.shape[1]):
        state = np.logaddexp(np.roll(state, 11, 1), np.roll(state, -11, 1)) - np.log(2)
        state = state - np.abs(y[:, k, None] - phases) ** 2 / noise
    return np.logaddexp.reduce(state, axis=1)


@pytest.mark.parametrize("snr, ceiling", [(-10, 0.269469), (-4, 0.524803), (0, 0.676040), (4, 0.848183)])
def test_the_best_classifier_reaches_the_published_ceiling_on_awgn7(snr, ceiling):
    which, windows = [], []
    for item in range(11 * 150):
        if item % 11 < 7:
            rng = np.random.default_rng([5, item])
            row = next(r for r in awgn7.awgn7(rng, item) if r.snr == snr)
            which.append(item % 11)
            windows.append(row.iq)
    y = np.array(windows, complex)
    scores = np.stack([log_likelihood(y, name, 10 ** (-snr / 10)) for name in awgn7.SEVEN], 1)
    accuracy = np.mean(scores.argmax(1) == np.array(which))
    assert accuracy == pytest.approx(ceiling, abs=0.045)  # 1,050 windows, as the ceiling's own


# ------------------------------------------------------------------------------------------------- RML2016.10A


@pytest.mark.skipif(not GNU_RADIO, reason="RML2016.10A-regen is made by GNU Radio's blocks")
class TestRml2016:
    def test_windows_are_divided_by_the_sum_of_their_magnitudes_and_keep_their_run(self):
        for item in (0, 8, 220 - 1):
            rows = SETS[RML].rows(0, item)
            assert len(rows) == 20 and {row.transmission_id for row in rows} == {str(item)}
            for row in rows:
                assert np.abs(row.iq).sum() == pytest.approx(1, rel=1e-4)

    @pytest.mark.parametrize("name", ["BPSK", "QPSK", "8PSK", "QAM16", "QAM64"])
    def test_linear_modulations_have_eight_samples_a_symbol_and_their_excess_bandwidth(self, name):
        x = rml2016.modulated(np.random.default_rng(0), name, 6_000)
        bits = int(np.log2(len(rml2016.POINTS[name])))
        assert len(x) == pytest.approx(6_000 / bits * 8, rel=0.02)
        spectrum, f = np.abs(np.fft.fft(x)) ** 2, np.fft.fftfreq(len(x))
        assert spectrum[np.abs(f) < 1.35 / 16].sum() / spectrum.sum() > 0.995
        assert spectrum[np.abs(f) < 0.65 / 16].sum() / spectrum.sum() < 0.95

    def test_am_ssb_is_noise_only_and_am_dsb_has_its_carrier(self):
        rng = np.random.default_rng(0)
        assert not rml2016.modulated(rng, "AM-SSB", 2_000).any()
        assert np.mean(rml2016.modulated(rng, "AM-DSB", 2_000)[50:]).real == pytest.approx(1, abs=0.2)

    def test_gfsk_cpfsk_and_wbfm_have_a_constant_envelope(self):
        rng = np.random.default_rng(0)
        for name in ("GFSK", "CPFSK", "WBFM"):
            x = rml2016.modulated(rng, name, 2_000)[400:-400]
            np.testing.assert_allclose(np.abs(x), 1, atol=2e-3)

    def test_the_noise_has_the_amplitude_and_the_fixed_seed_of_the_recipe(self):
        nothing = np.zeros(20_000, np.complex64)
        one, two = rml2016.channel(nothing, 2.0), rml2016.channel(nothing, 2.0)
        np.testing.assert_array_equal(one, two)
        assert np.sqrt(power(one)) == pytest.approx(2.0, rel=0.05)  # the amplitude is a standard deviation: power 4

    def test_the_text_is_whitened(self):
        bits = rml2016.text_bits(np.random.default_rng(0), 40_000)
        assert bits.mean() == pytest.approx(0.5, abs=0.08)

    def test_our_linear_modulator_makes_the_waveform_of_gnu_radios(self):
        rng = np.random.default_rng(3)
        theirs = rml2016.modulated(rng, "QPSK", 2_000)
        bits = rml2016.text_bits(np.random.default_rng(3), 2_000).reshape(-1, 2)
        symbols = mod.psk(4)[bits @ [2, 1]]
        ours = mod.linear(symbols, 8, mod.root_raised_cosine(0.35), len(theirs))
        assert alike(ours, theirs) > 0.9999

    @pytest.mark.parametrize("bt", [0.3, 0.5])
    def test_our_gaussian_fsk_makes_the_waveform_of_gnu_radios(self, bt):
        from gnuradio import blocks, digital

        bits = np.random.default_rng(0).integers(0, 2, 400)
        source = blocks.vector_source_b(np.packbits(bits).tolist())
        theirs = rml2016._run(source, digital.gfsk_mod(16, sensitivity=np.pi / 2 / 16, bt=bt))
        ours = mod.frequency_shift(2.0 * bits - 1, 16, 0.5, mod.gaussian(bt), len(theirs))
        assert alike(frequency(ours), frequency(theirs)) > 0.998  # GNU Radio samples its pulse, ours is tabulated
