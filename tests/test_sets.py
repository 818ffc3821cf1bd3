"""The generated sets: shapes and labels, every SNR and ISR by measuring it, linked rows, the published recipes."""

import importlib.util
from collections import Counter
from math import comb

import numpy as np
import pytest
from emind_training.synthesis import ais, comm_sets, interference_sets, radar, radar_sets, technologies
from emind_training.synthesis import channels as ch
from emind_training.synthesis import interference as jam
from emind_training.synthesis import modulators as mod
from emind_training.synthesis.recipe import linked
from emind_training.synthesis.sets import SETS
from scipy.special import erfc

GNU_RADIO = importlib.util.find_spec("gnuradio") is not None
RML = "RML2016.10A-regen"
NAMES = [name for name in SETS if name != RML or GNU_RADIO]
# set -> column of its classes, how many, samples, Hz, items that go once round its classes
LAYOUT = {
    "EM-Comm": ("modulation", 14, {1024}, {20e6}, 14), "EM-Denoise-Signal": ("modulation", 14, {1024}, {20e6}, 14),
    "Spectrum-Sensing": ("infer_class", 2, {1024}, {20e6}, 2), "Anomaly": ("infer_class", 5, {1024}, {40e6}, 5),
    "EM-RadarParaIQSim": ("radar_waveform", 2, {320, 384, 400, 480}, {10e6, 12e6}, 8),
    "EM-Radar": ("device_id", 10, {1024}, {5e6}, 10), "EM-Radar-Mix": ("radar_waveform", 44, {1024}, {5e6}, 44),
    "RadChar-regen": ("radar_waveform", 5, {512}, {3.2e6}, 5),
    "EM-Infer-Radar-v2": ("infer_class", 12, {2048}, {20e6}, 12),
    "EM-Infer-Radar": ("infer_class", 12, {1024}, {20e6}, 12), "EM-Infer-Comm": ("infer_class", 9, {1024}, {20e6}, 9),
    "EM-AIS": ("device_id", 112, {3840}, {156_250.0}, 112),
    "Wireless-Technology": ("infer_class", 3, {1024}, {20e6}, 3), "AWGN-7": ("modulation", 11, {128}, {None}, 11),
    RML: ("modulation", 11, {128}, {200e3}, 11),
    "Air": ("modulation", 23, {128, 256, 512, 600, 974, 1024, 2048, 4096}, None, 184),  # noise has no modulation
}  # fmt: skip


def db(ratio):
    return 10 * np.log10(ratio)


def power(x):
    return np.mean(np.abs(np.asarray(x, complex)) ** 2)


def frequency(x):
    return np.angle(x[1:] * x[:-1].conj()) / (2 * np.pi)


def test_every_set_of_the_plan_is_registered():
    assert set(SETS) == set(LAYOUT)


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_the_sets_name_length_rate_and_each_class_equally_often(name):
    column, classes, lengths, rates, cycle = LAYOUT[name]
    rows = [row for item in range(cycle) for row in SETS[name].rows(0, item)]
    assert {row.dataset_name for row in rows} == {name}
    assert {len(row.iq) for row in rows} == lengths
    assert rates is None or {row.sampling_rate for row in rows} == rates
    assert all(row.iq.dtype == np.complex64 and np.isfinite(row.iq).all() for row in rows)
    counted = Counter(getattr(row, column) for row in rows)
    if name == "Air":
        assert {row.infer_class for row in rows if row.modulation is None} == {"noise"}
    if name == "EM-Radar-Mix":  # the clean sources have rows of their own
        counted = Counter(row.radar_waveform for row in rows if linked(row.transmission_id)[1] == "mix")
    assert len(counted) == classes and len(set(counted.values())) == 1


@pytest.mark.parametrize("name", NAMES)
def test_an_item_is_the_same_whenever_it_is_drawn_and_another_with_another_seed(name):
    first, again, other = (SETS[name].rows(seed, 5) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.iq, two.iq)
        assert one.labels() == two.labels()
    assert not np.array_equal(first[0].iq, other[0].iq)


# set -> version, mean of |Re| over the largest |x| of a row, over items of seed 0
DRAWN = {
    "EM-Comm": (1, 0.24539447), "EM-Denoise-Signal": (1, 0.37728405), "Spectrum-Sensing": (1, 0.21663769),
    "Anomaly": (1, 0.34807512), "EM-RadarParaIQSim": (1, 0.19842128), "EM-Radar": (1, 0.19866921),
    "EM-Radar-Mix": (1, 0.19137035), "RadChar-regen": (1, 0.21377563), "EM-Infer-Radar-v2": (1, 0.23499174),
    "EM-Infer-Radar": (1, 0.19734865), "EM-Infer-Comm": (1, 0.23499320), "EM-AIS": (1, 0.48350620),
    "Wireless-Technology": (1, 0.20234437), "Air": (2, 0.30583081), "AWGN-7": (1, 0.29234385),
    "RML2016.10A-regen": (1, 0.30334002),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_that_draws_other_signals_has_another_version(name):
    """Files and headers tell generators apart by the version alone. If this fails: raise it, then write the figure."""
    rows = [row.iq for k in range(24 if name == RML else 60) for row in SETS[name].rows(0, 17 * k)]
    version, figure = DRAWN[name]
    drawn = np.mean([np.abs(x.real).mean() / np.abs(x).max() for x in rows])
    assert SETS[name].version == version and drawn == pytest.approx(figure, rel=1e-5)


# ------------------------------------------------------------------------------------------------- SNR and ISR


@pytest.fixture
def silent(monkeypatch):
    """Draws an item with its noise left out; the generator draws the noise all the same."""
    def draw(name, seed, item):
        with monkeypatch.context() as patch:
            kept = ch.noise_for
            patch.setattr(ch, "noise_for", lambda *a, **k: 0 * kept(*a, **k))
            return SETS[name].rows(seed, item)

    return draw


ON = {  # samples over which a set counts the signal's power; all, where not here
    "EM-RadarParaIQSim": lambda x: x != 0, "EM-Radar": lambda x: x != 0, "RadChar-regen": lambda x: x != 0,
    "EM-AIS": lambda x: np.abs(x) > 0.3 * np.sqrt(np.mean(np.abs(x[x != 0]) ** 2)),
    "Wireless-Technology": lambda x: np.abs(x) > 0.02 * np.abs(x).max(),
}  # fmt: skip
INTERFERED = ("EM-Infer-Radar-v2", "EM-Infer-Radar", "EM-Infer-Comm", "Anomaly")


@pytest.mark.parametrize("name", [n for n in SETS if n not in (RML, "AWGN-7", "Air", *INTERFERED)])
def test_the_snr_label_is_what_is_measured(name, silent):
    seen = set()
    for item in [*range(60), *range(97, 2000, 97)]:
        noisy, clean = SETS[name].rows(7, item)[0], silent(name, 7, item)[0]
        if noisy.snr is None:
            assert noisy.infer_class == "noise" and power(noisy.iq) == pytest.approx(1, rel=0.2)
            continue
        x = clean.iq.astype(complex)
        on = ON.get(name, lambda v: np.ones(len(v), bool))(x)
        assert db(power(x[on]) / power(noisy.iq - clean.iq)) == pytest.approx(noisy.snr, abs=0.1), (item, noisy)
        seen.add(noisy.snr)
    assert len(seen) > 3 or name == "EM-Radar-Mix"


def test_every_snr_of_em_comm_is_in_the_set():
    seen = {SETS["EM-Comm"].rows(0, item)[0].snr for item in range(280)}
    assert seen == set(range(-20, 20, 2))


@pytest.mark.parametrize("name", ["EM-Infer-Radar-v2", "EM-Infer-Radar"])
def test_isr_and_snr_of_radar_interference_are_what_is_measured(name, silent, monkeypatch):
    kept = interference_sets.radar_scene

    def only(which):
        def scene(*args):
            parts = list(kept(*args))
            parts[1 - which] = np.zeros_like(parts[which])
            return tuple(parts)
        return scene

    for item in range(0, 12 * 16, 7):
        row, clean = SETS[name].rows(3, item)[0], silent(name, 3, item)[0]
        monkeypatch.setattr(ch, "noise_for", lambda r, x, *a: np.zeros(len(x)))
        monkeypatch.setattr(interference_sets, "radar_scene", only(0))
        echo = power(SETS[name].rows(3, item)[0].iq)
        monkeypatch.setattr(interference_sets, "radar_scene", only(1))
        interference = power(SETS[name].rows(3, item)[0].iq)
        monkeypatch.undo()
        noise = power(row.iq.astype(complex) - clean.iq)
        assert db(interference / echo) == pytest.approx(row.isr, abs=0.05)
        wanted = echo if name.endswith("v2") else interference
        tolerance = 0.2 if db(interference / noise) < 50 else 3.0  # float32 beside interference 80 dB above it
        assert db(wanted / noise) == pytest.approx(row.snr, abs=tolerance)


def test_isr_and_snr_of_communications_interference_are_what_is_measured(silent, monkeypatch):
    kept = interference_sets.comm_interference
    for item in range(0, 9 * 21, 5):
        row, clean = SETS["EM-Infer-Comm"].rows(3, item)[0], silent("EM-Infer-Comm", 3, item)[0]
        with monkeypatch.context() as patch:
            patch.setattr(ch, "noise_for", lambda r, x, *a: np.zeros(len(x)))
            patch.setattr(interference_sets, "comm_interference", lambda *a: 0 * kept(*a))
            link = SETS["EM-Infer-Comm"].rows(3, item)[0].iq
        assert db(power(link) / power(row.iq - clean.iq)) == pytest.approx(row.snr, abs=0.1)
        if row.infer_class == "none":
            assert row.isr is None and np.array_equal(link, clean.iq)
        else:
            assert db(power(clean.iq - link) / power(link)) == pytest.approx(row.isr, abs=0.1)


def test_isr_and_snr_of_the_anomalies_are_what_is_measured(silent, monkeypatch):
    for item in range(30):
        row, clean = SETS["Anomaly"].rows(3, item)[0], silent("Anomaly", 3, item)[0]
        with monkeypatch.context() as patch:
            patch.setattr(ch, "noise_for", lambda r, x, *a: np.zeros(len(x)))
            first, kept = [], comm_sets.linear
            patch.setattr(comm_sets, "linear", lambda *a: kept(*a) * (not first and not first.append(1)))
            for name in ("sweep", "swept_tones"):
                patch.setattr(jam, name, lambda r, n, *a: np.zeros(n))
            link = SETS["Anomaly"].rows(3, item)[0].iq
        assert db(power(link) / power(row.iq - clean.iq)) == pytest.approx(row.snr, abs=0.1)
        if row.infer_class == "normal":
            assert row.isr is None and np.array_equal(link, clean.iq)
        else:
            assert db(power(clean.iq - link) / power(link)) == pytest.approx(row.isr, abs=0.1)


def test_a_signal_of_zero_power_has_no_snr():
    with pytest.raises(ValueError, match="zero power"):
        ch.noise_for(np.random.default_rng(0), np.zeros(8, complex), 10)


# --------------------------------------------------------------------------------------------- modulations


@pytest.mark.parametrize("points, snr", [(mod.psk(8), 14), (mod.pam(4), 11), (mod.qam(64), 20), (mod.qam(256), 26)])
def test_symbol_errors_of_the_denser_constellations_are_those_of_the_closed_form(points, snr):
    rng, count, order = np.random.default_rng(1), 40_000, len(points)
    sent = rng.integers(0, order, count)
    received = points[sent] + ch.complex_noise(rng, count, ch.db(-snr))
    decided = np.concatenate([np.argmin(np.abs(part[:, None] - points), 1) for part in np.array_split(received, 40)])
    errors, es = np.mean(decided != sent), ch.db(snr)

    def q(v):
        return 0.5 * erfc(v / np.sqrt(2))

    if abs(np.abs(points) - 1).max() < 1e-9:
        theory = 2 * q(np.sqrt(2 * es) * np.sin(np.pi / order))
    elif np.abs(points.imag).max() < 1e-9:
        theory = 2 * (1 - 1 / order) * q(np.sqrt(6 * es / (order**2 - 1)))
    else:
        theory = 1 - (1 - 2 * (1 - order**-0.5) * q(np.sqrt(3 * es / (order - 1)))) ** 2
    assert abs(errors - theory) < 4 * np.sqrt(theory * (1 - theory) / count) + 1e-5


@pytest.mark.parametrize("order", [2, 4, 8])
def test_symbol_errors_of_orthogonal_fsk_are_those_of_the_closed_form(order):
    rng, count, sps, es = np.random.default_rng(order), 8_000, 16, ch.db(8)
    sent = rng.integers(0, order, count)
    levels = 2.0 * np.concatenate([sent, [0, 0]]) - (order - 1)
    x = mod.frequency_shift(levels, sps, 1.0, mod.rectangle(), count * sps, start=-sps)
    y = (x + ch.complex_noise(rng, len(x), sps / es)).reshape(count, sps)
    tones = np.exp(-2j * np.pi * np.outer((2.0 * np.arange(order) - (order - 1)) / (2 * sps), np.arange(sps)))
    errors = np.mean(np.argmax(np.abs(y @ tones.T), 1) != sent)
    theory = sum((-1) ** (k + 1) * comb(order - 1, k) / (k + 1) * np.exp(-k / (k + 1) * es) for k in range(1, order))
    assert abs(errors - theory) < 4 * np.sqrt(theory * (1 - theory) / count)


@pytest.mark.parametrize("name", comm_sets.MODULATIONS)
def test_each_modulation_of_em_comm_occupies_the_band_that_its_parameters_imply(name):
    for seed in range(4):
        x = comm_sets.modulated(np.random.default_rng(seed), name, 8192)
        spectrum = np.abs(np.fft.fft(x * np.hanning(8192))) ** 2
        f = np.fft.fftfreq(8192)

        def share(low, high, f=f, spectrum=spectrum):
            return spectrum[(f >= low) & (f <= high)].sum() / spectrum.sum()

        if name in comm_sets.DIGITAL:
            assert share(-1.5 / 4 / 2, 1.5 / 4 / 2) > 0.995 and share(-1 / 40, 1 / 40) < 0.95
        elif name in comm_sets.TONES:
            order = comm_sets.TONES[name]
            assert share(-order / 16 if order == 8 else -(order + 2) / 16, (order + 2) / 16) > 0.97
        elif name == "AM-USB":
            assert share(0, 0.09) > 0.99
        elif name == "AM-LSB":
            assert share(-0.09, 0) > 0.99
        elif name == "AM-DSB":
            assert share(-0.09, 0.09) > 0.99 and share(-2 / 8192, 2 / 8192) > 0.4  # its carrier
        else:
            assert share(-0.33, 0.33) > 0.98  # Carson: 2 (deviation + band)
            np.testing.assert_allclose(np.abs(x), 1)


# ------------------------------------------------------------------------------------------------------- radar


@pytest.mark.parametrize("name", ["EM-Radar", "RadChar-regen", "EM-RadarParaIQSim"])
def test_pulse_labels_are_what_is_measured_in_the_noiseless_window(name, silent):
    for item in range(40):
        row = silent(name, 11, item)[0]
        on = (row.iq != 0).astype(int)
        starts = np.flatnonzero(np.diff(np.concatenate([[0], on])) == 1)
        ends = np.flatnonzero(np.diff(np.concatenate([on, [0]])) == -1)
        assert len(starts) == row.num_pulses
        assert starts[0] / row.sampling_rate == pytest.approx(row.pulse_time_delay, abs=1.01 / row.sampling_rate)
        if len(starts) > 1:
            assert np.mean(np.diff(starts)) / row.sampling_rate == pytest.approx(row.pri, abs=1.01 / row.sampling_rate)
            width = (ends - starts + 1)[0] / row.sampling_rate
            assert width == pytest.approx(row.pulse_width, abs=1.01 / row.sampling_rate)


def test_radchar_stays_within_the_published_ranges_and_fits_its_window():
    rows = [SETS["RadChar-regen"].rows(0, item)[0] for item in range(600)]
    for name, low, high in (("pulse_width", 10e-6, 16e-6), ("pri", 17e-6, 23e-6), ("pulse_time_delay", 1e-6, 10e-6)):
        values = np.array([getattr(row, name) for row in rows])
        assert values.min() >= low and values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, rel=0.03)
    assert {row.num_pulses for row in rows} == {2, 3, 4, 5, 6}
    assert {row.snr for row in rows} == set(range(-20, 21))
    assert max(r.pulse_time_delay + 5 * r.pri + r.pulse_width for r in rows if r.num_pulses == 6) * 3.2e6 < 512


def test_emitters_of_em_radar_keep_to_their_parameters():
    for item in range(100):
        row = SETS["EM-Radar"].rows(1, item)[0]
        waveform, width, pri, _ = radar_sets.EMITTERS[row.device_id]
        assert row.radar_waveform == waveform
        assert row.pulse_width == pytest.approx(width, rel=0.05) and row.pri == pytest.approx(pri, rel=0.05)


def test_a_mixture_is_the_sum_of_its_sources_and_noise():
    for item in range(44):
        mix, *sources = SETS["EM-Radar-Mix"].rows(4, item)
        assert [linked(row.transmission_id) for row in (mix, *sources)] == [
            (str(item), role) for role in ("mix", "source1", "source2")[: 1 + len(sources)]]
        assert mix.radar_waveform == "+".join(row.radar_waveform for row in sources)
        total = sum(row.iq.astype(complex) for row in sources)
        assert db(power(total) / power(mix.iq - total)) == pytest.approx(12, abs=0.01)
        for source in sources:
            assert np.abs(source.iq[source.iq != 0]).max() == pytest.approx(source.amplitude, rel=0.01) or len(
                sources) == 2
    assert set(radar_sets.MIXED) < set(radar.WAVEFORMS) and len(radar_sets.MIXED) == 8


def test_the_noisy_signal_is_its_clean_one_offset_imbalanced_and_noisy(silent):
    offsets = []
    for item in range(0, 336, 3):
        noisy, clean = silent("EM-Denoise-Signal", 2, item)
        assert linked(noisy.transmission_id) == (str(item), "noisy")
        assert linked(clean.transmission_id) == (str(item), "clean") and clean.snr is None
        assert power(clean.iq) == pytest.approx(1, rel=1e-3)
        product = noisy.iq.astype(complex) * clean.iq.conj()
        spectrum = np.abs(np.fft.fft(product, 1 << 16))
        offset = np.fft.fftfreq(1 << 16)[spectrum.argmax()] * 20e6
        assert abs(offset) < 51e3
        offsets.append(offset)
        turned = noisy.iq * np.exp(-2j * np.pi * offset / 20e6 * np.arange(1024))
        error = power(turned * np.exp(-1j * np.angle(np.vdot(clean.iq, turned))) - clean.iq)
        assert error < 0.03  # 1 dB and 5 degrees leave an image at -23 dB
    assert max(offsets) > 40e3 and min(offsets) < -40e3


# ------------------------------------------------------------------------------------- EM-AIS and technologies


def test_an_ais_burst_demodulates_to_its_message_with_a_valid_frame_check():
    rng = np.random.default_rng(0)
    for emitter in range(0, 112, 16):
        message = ais.position_report(rng)
        x = ais.transmitted(rng, message, ais.hardware(emitter))
        f = np.convolve(frequency(x), np.ones(8) / 8, mode="same")
        f = f - ais.hardware(emitter).offset_hz / ais.RATE_HZ
        sent = ais.burst_bits(message)
        at = np.rint((ais.RAMP_BITS + 0.5 + np.arange(len(sent))) * ais.SPS).astype(int)
        levels = np.sign(f[at[at < len(f)]])
        bits = (levels[1:] == levels[:-1]).astype(int)
        np.testing.assert_array_equal(bits, sent[1 : 1 + len(bits)])
        assert len(bits) >= len(sent) - 4  # at most the end of the closing flag is beyond the window
    assert ais.frame_check(np.unpackbits(np.frombuffer(b"123456789", np.uint8), bitorder="little")) @ (
        1 << np.arange(16)) == 0x906E  # the published check value of CRC-16/X-25


def test_stuffing_leaves_no_flag_in_a_message():
    bits = "".join(map(str, ais.stuffed(np.ones(50, int))))
    assert "111111" not in bits and bits.replace("111110", "11111") == "1" * 50


def test_emitters_differ_and_are_the_same_in_every_set():
    assert len({ais.hardware(k) for k in range(112)}) == 112 and ais.hardware(3) == ais.hardware(3)
    rng = np.random.default_rng(0)

    def offset(emitter):
        x = ais.transmitted(rng, ais.position_report(rng), ais.hardware(emitter))[400:3400]
        return np.mean(frequency(x)) * ais.RATE_HZ

    assert np.std([offset(7) for _ in range(6)]) < 0.5 * np.std([offset(k) for k in range(12)])


@pytest.mark.parametrize("name, occupied, lag", [("LTE", 9.0e6, 1333), ("Wi-Fi", 16.6e6, 64), ("DVB-T", 7.61e6, 4480)])
def test_each_technology_has_its_bandwidth_and_its_prefix(name, occupied, lag):
    n, others, at_lag = 9000, [], []
    for seed in range(12):
        x = technologies.MAKE[name](np.random.default_rng(seed), n)
        spectrum, f = np.abs(np.fft.fft(x)) ** 2, np.fft.fftfreq(n) * 20e6
        assert spectrum[np.abs(f) < occupied / 2 * 1.02].sum() / spectrum.sum() > 0.98
        assert spectrum[np.abs(f) < occupied / 2 * 0.8].sum() / spectrum.sum() < 0.95

        def correlation(k, x=x):
            return abs(np.vdot(x[:-k], x[k:])) / np.vdot(x, x).real

        at_lag.append(correlation(lag))
        others += [correlation(k) for k in range(lag + 150, lag + 400, 37)]
    assert np.mean(at_lag) > 3 * np.mean(others)
