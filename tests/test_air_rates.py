"""The sample rate that a window of a standard's signal is told to have: the one at which its symbols last as they should."""

import math

import numpy as np
import pytest
from emind.contract.vocabulary import MODULATIONS, NOISE
from emind_training import scenes
from emind_training.synthesis import air, air_ofdm, air_set, air_signals, air_standards
from emind_training.synthesis.air import CLASSES, AirConfig, told_rate, window_and_rate

N = 4096


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(air_standards, "STANDARD", 1.0)


def test_only_signals_that_look_like_a_standards_have_its_rate_and_not_all_of_them():
    rng, share = np.random.default_rng(2), {}
    for name in CLASSES:
        share[name] = np.mean([math.isfinite(window_and_rate(rng, name)[2]) for _ in range(40)])
    of_standards = {"OQPSK", "2FSK", "4FSK", "GFSK", "MSK", "WFM", "OFDM", "LoRa", "ADS-B"}
    assert {name for name in CLASSES if share[name]} == of_standards
    assert max(share.values()) < 0.95


KEYED = {"2FSK": {"telegram"}, "4FSK": {"private radio"}, "GFSK": {"Bluetooth", "short range"}, "MSK": {"GMSK"}}
SYMBOL_RATES = {
    "telegram": {1.2e3, 2.4e3, 4.8e3, 9.6e3, 32.768e3, 100e3},  # pagers, wireless meters
    "private radio": {2.4e3, 4.8e3},  # dPMR; DMR and P25
    "Bluetooth": {1e6, 2e6, 1.152e6},
    "short range": {4.8e3, 9.6e3, 19.2e3, 38.4e3, 40e3, 50e3, 100e3, 250e3},
    "GMSK": {9.6e3, 270.833e3},  # AIS, GSM
}


@pytest.mark.parametrize("name", KEYED)
def test_symbols_of_shift_keying_last_as_long_as_the_standards(monkeypatch, always, name):
    seen, asked = [], []
    for how in ("frequency_shift", "switched_tones"):
        original = getattr(air_signals.mod, how)
        monkeypatch.setattr(
            air_signals.mod, how, lambda levels, sps, index, *rest, o=original: seen.append((sps, index)) or o(
                levels, sps, index, *rest))  # fmt: skip
    rate_of = air_signals.rate_of
    monkeypatch.setattr(air_signals, "rate_of", lambda rng, which, samples: asked.append(which) or rate_of(rng, which, samples))
    rng, found = np.random.default_rng(2), {which: set() for which in KEYED[name]}
    for _ in range(90):
        rate = air_signals.SIGNALS[name](rng, 1280).rate
        if math.isfinite(rate):
            sps, index = seen[-1]
            found[asked[-1]].add(round(rate / sps, 3))
            assert asked[-1] != "Bluetooth" or 0.28 <= index <= 0.55
            assert asked[-1] != "GMSK" or index == 0.5
    assert found == {which: SYMBOL_RATES[which] for which in KEYED[name]}


def test_chips_of_802_15_4_have_their_lines(always):
    """The square of minimum shift keying has two lines, as far apart as chips follow each other: 2 a microsecond."""
    rng, right = np.random.default_rng(3), []
    while len(right) < 20:
        signal = air_signals.oqpsk(rng, N)
        if math.isfinite(signal.rate):
            power = np.abs(np.fft.fft(signal.samples**2 * np.hanning(N), 4 * N)) ** 2
            first, second = np.sort(_two_lines(power))
            places = np.array([second - first, 1 - second + first]) * signal.rate  # the band goes round
            right.append(np.abs(places / 2e6 - 1).min() < 0.02)
    assert np.mean(right) > 0.9


def _two_lines(power: np.ndarray) -> np.ndarray:
    """Places of the two strongest lines as shares of the rate."""
    one = int(power.argmax())
    rest = power.copy()
    rest[np.arange(one - 20, one + 21) % len(power)] = 0
    return np.array([one, int(rest.argmax())]) / len(power)


CARRIERS_APART = {
    "wifi": {52: {312.5e3}, 56: {312.5e3}, 114: {312.5e3}, 242: {78.125e3}},  # 802.11a, n, n at 40 MHz, ax
    "broadcast": {1705: {4464.286}, 6817: {1116.071}, 1536: {1e3}},  # DVB-T 2k, 8k, DAB
    "cellular": {12 * blocks: {15e3, 30e3} for blocks in (6, 15, 25, 50, 75, 100)},
}


@pytest.mark.parametrize("make", CARRIERS_APART)
def test_carriers_lie_as_far_apart_as_the_standards(monkeypatch, make):
    seen, original = [], air_ofdm.mod.ofdm

    def ofdm(carriers, transform, *rest):
        seen.append((carriers.shape[1], transform))
        return original(carriers, transform, *rest)

    monkeypatch.setattr(air_ofdm.mod, "ofdm", ofdm)
    rng, found = np.random.default_rng(4), {}
    for _ in range(60):
        rate = getattr(air_ofdm, make)(rng, 1280)[2]
        used, transform = seen[-1]
        found.setdefault(used, set()).add(round(rate / transform, 3))
    assert found.keys() == CARRIERS_APART[make].keys()
    assert all(found[used] <= CARRIERS_APART[make][used] for used in found)
    assert math.isnan(air_ofdm.unstated(rng, 1280)[2])


def test_a_chirp_of_lora_is_as_wide_as_one_of_the_three(always):
    rng = np.random.default_rng(5)
    widths = {round(signal.rate * signal.bandwidth) for signal in (air_signals.lora(rng, 1280) for _ in range(40))}
    assert widths == {125_000, 250_000, 500_000}


def test_the_pilot_of_stereo_lies_at_19_khz(always):
    rng, found = np.random.default_rng(6), []
    while len(found) < 15:
        signal = air_signals.wide_fm(rng, 16 * N)
        if math.isfinite(signal.rate):
            frequency = np.angle(signal.samples[1:] * signal.samples[:-1].conj())
            power = np.abs(np.fft.rfft(frequency * np.hanning(len(frequency)))) ** 2
            hertz = np.arange(len(power)) * signal.rate / len(frequency)
            above = (hertz > 16e3) & (hertz < 22e3)
            found.append(abs(hertz[above][power[above].argmax()] - 19e3) < 300)
    assert np.mean(found) > 0.8


def test_broadcasts_that_are_told_their_rate_deviate_by_75_khz_or_little_more(always):
    rng, widest = np.random.default_rng(10), []
    while len(widest) < 25:
        signal = air_signals.wide_fm(rng, N)
        if math.isfinite(signal.rate):
            hertz = np.abs(np.angle(signal.samples[1:] * signal.samples[:-1].conj())) / (2 * np.pi) * signal.rate
            widest.append(hertz.max())
    assert max(widest) < 85e3 and np.median(widest) > 40e3


def test_bluetooth_and_gsm_send_their_bits_as_they_are_and_plain_msk_has_no_standards_rate(monkeypatch, always):
    shares, original = [], air_signals._shift_keyed

    def shift_keyed(rng, n, order, pulse, *rest, manchester=0.25):
        shares.append((len(np.unique(pulse)) > 2, manchester))
        return original(rng, n, order, pulse, *rest, manchester=manchester)

    monkeypatch.setattr(air_signals, "_shift_keyed", shift_keyed)
    rng = np.random.default_rng(11)
    for _ in range(60):
        rate = air_signals.msk(rng, 1280).rate
        assert shares[-1] == ((True, 0.0) if math.isfinite(rate) else (False, 0.25))
    assert {smooth for smooth, _ in shares} == {True, False}
    asked, rate_of = [], air_signals.rate_of
    monkeypatch.setattr(air_signals, "rate_of", lambda rng, which, samples: asked.append(which) or rate_of(rng, which, samples))
    for _ in range(60):
        air_signals.gfsk(rng, 1280)
        assert shares[-1][1] == {"Bluetooth": 0.0, "short range": 0.25}[asked[-1]]


def test_half_a_bit_of_mode_s_lasts_half_a_microsecond(monkeypatch, always):
    seen, original = [], air_signals.mod.pulse_position
    monkeypatch.setattr(
        air_signals.mod, "pulse_position", lambda bits, half, *rest: seen.append(half) or original(bits, half, *rest)
    )
    rng = np.random.default_rng(7)
    for _ in range(10):
        rate = air_signals.ads_b(rng, 1280).rate
        assert rate == pytest.approx(seen[-1] * 2e6)


def test_behind_a_tuner_the_rate_is_the_tuners(monkeypatch):
    made, original = [], air.tuned
    monkeypatch.setattr(air, "tuned", lambda x, center, d: made.append(d) or original(x, center, d))
    monkeypatch.setitem(air.SIGNALS, "BPSK", _at(1e6, air.SIGNALS["BPSK"]))
    rng, tuned = np.random.default_rng(8), 0
    for _ in range(40):
        made.clear()
        rate = air._tuned_window(rng, "BPSK", 1280, 10.0)[1]
        assert rate == 1e6 / (made[0] if made else 1)
        tuned += len(made)
    assert tuned > 10


def _at(rate: float, make):
    def signal(rng, n):
        made = make(rng, n)
        made.rate = rate
        return made

    return signal


def test_told_are_standards_or_any_rate_where_there_is_none_and_three_tenths_are_withheld():
    config = AirConfig()
    standard = np.tile([2e6, math.nan, 1e9, 1.0], 3000)
    rate = told_rate(np.random.default_rng(9), standard, config)
    known, inside = np.isfinite(rate), (standard == 2e6) | np.isnan(standard)
    assert not known[~inside].any()  # no receiver that the weights know: better none told than a wrong one
    assert np.isnan(rate[inside]).mean() == pytest.approx(config.rate_unknown, abs=0.02)
    assert (rate[known & (standard == 2e6)] == 2e6).all()
    other = rate[known & np.isnan(standard)]
    assert other.min() >= config.rate_min_hz and other.max() <= config.rate_max_hz and len(np.unique(other)) == len(other)


def test_batches_files_and_scenes_tell_it(monkeypatch):
    for name in CLASSES:
        if name != NOISE:
            monkeypatch.setitem(air.SIGNALS, name, _at(3e6, air.SIGNALS[name]))
    batch = air.air_batch(1, 0, 120)
    known = np.isfinite(batch.rate) & (batch.label != CLASSES.index(NOISE))
    assert np.mean(batch.rate[known] == 3e6) > 0.75  # the others went through a tuner
    rows = [air_set.air(np.random.default_rng(k), k)[0] for k in range(60)]
    told = [row.sampling_rate for row in rows if row.sampling_rate and row.modulation]
    assert np.mean(np.array(told) == 3e6) > 0.75 and any(row.sampling_rate is None for row in rows)
    told = np.concatenate([_rates_of_signals(scenes.scene(np.random.default_rng(k), 20)) for k in range(12)])
    assert np.isnan(told).any() and np.mean(told[np.isfinite(told)] == 3e6) > 0.6


def test_scenes_tell_no_rate_where_the_standards_lies_outside_of_the_range(monkeypatch):
    for name in CLASSES:
        if name != NOISE:
            monkeypatch.setitem(air.SIGNALS, name, _at(1e9, air.SIGNALS[name]))
    told = np.concatenate([_rates_of_signals(scenes.scene(np.random.default_rng(k), 20)) for k in range(6)])
    assert np.isnan(told).mean() > 0.85  # the others went through a tuner


def _rates_of_signals(scene: scenes.Scene) -> np.ndarray:
    return scene.rate_N[scene.label_N != MODULATIONS.index(NOISE)]
