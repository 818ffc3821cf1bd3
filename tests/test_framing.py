"""Pure arithmetic of windows: where they start, where the stream breaks, how they add up again."""

import math

import numpy as np
import pytest

from emind.dsp import gate
from emind.dsp.framing import (
    Continuity,
    Framer,
    Run,
    StreamState,
    advance,
    anchor_from_fields,
    samples_between,
    window_buffer,
)
from emind.dsp.gate import EnergyGate
from emind.dsp.overlap_add import OverlapAdd, taper
from emind.dsp.snr import SETTLED_WINDOWS, NoiseFloor, snr_db


def spans(runs, hop):
    """(start, end of signal) of each window of the runs."""
    return [(run.start + n * hop, run.start + n * hop + run.valid) for run in runs for n in range(run.count)]


@pytest.mark.parametrize("hop", [8, 4, 3, 1])
def test_windows_are_the_same_however_the_stream_is_cut_into_calls(hop):
    rng = np.random.default_rng(hop)
    gaps = [3, 40, 41, 64, 90]
    whole = Framer(8, hop)
    for gap in gaps:
        whole.mark_gap(gap)
    expected = spans(whole.take(200, 1000), hop)
    for _ in range(20):
        framer, found, end, marked = Framer(8, hop), [], 0, 0
        while end < 200:
            end = min(200, end + int(rng.integers(1, 30)))
            while marked < len(gaps) and gaps[marked] < end:
                framer.mark_gap(gaps[marked])
                marked += 1
            while runs := framer.take(end, int(rng.integers(1, 4))):
                found += spans(runs, hop)
        assert found == expected


@pytest.mark.parametrize("hop", [8, 4, 3, 1])
def test_no_window_straddles_a_gap_and_no_sample_before_one_is_lost(hop):
    gaps = [3, 40, 41, 64, 90]
    framer = Framer(8, hop)
    for gap in gaps:
        framer.mark_gap(gap)
    found = spans(framer.take(200, 1000), hop)
    held = set()
    for start, end in found:
        assert not any(start < gap < end for gap in gaps)
        held |= set(range(start, end))
    assert set(range(gaps[-1])) <= held
    assert {start for start, _ in found} >= set(gaps)


def test_a_gap_on_a_border_makes_no_empty_window():
    framer = Framer(8, 8)
    framer.mark_gap(16)
    assert framer.take(24, 10) == [Run(0, 2, 8), Run(16, 1, 8)]


@pytest.mark.parametrize("hop", [8, 4, 3])
def test_the_first_window_with_a_sample_is_the_first(hop):
    framer, run = Framer(8, hop), Run(10, 6, 8)
    for sample in range(10, 10 + 5 * hop + 8):
        holds = [n for n in range(6) if run.start + n * hop <= sample < run.start + n * hop + 8]
        assert framer.first_window_with(run, sample) == holds[0]
    assert framer.first_window_with(run, 10 + 5 * hop + 8) >= 6
    assert framer.first_window_with(Run(10, 1, 3), 13) >= 1  # behind the signal, in the zero fill


@pytest.mark.parametrize("hop", [0, -1, 9])
def test_a_hop_that_leaves_samples_out_is_refused(hop):
    with pytest.raises(ValueError):
        Framer(8, hop)
    with pytest.raises(ValueError):
        OverlapAdd(8, hop)


def test_clock_arithmetic_keeps_nanoseconds_over_a_day():
    start = (1_700_000_000, 0.75)
    later = advance(start, 86_400 * 20_000_000 + 7, 20e6)
    assert later[0] == 1_700_086_400
    assert later[1] == pytest.approx(0.75 + 7 / 20e6, abs=1e-9)
    assert samples_between(start, later, 20e6) == pytest.approx(86_400 * 20_000_000 + 7, abs=0.01)
    assert advance((5, 0.1), -200_000, 1e6) == (4, pytest.approx(0.9))


def test_the_first_tags_of_a_stream_are_news_and_no_gap():
    stream = Continuity()
    state = stream.observe(0, rate=1e6, freq=1e9, time=(10, 0.5))
    assert state == StreamState(0, 1e6, 1e9, (10, 0.5), gap=False)
    assert stream.observe(500, rate=1e6, freq=1e9, time=(10, 0.5005)) is None
    assert state.time_at(1500) == (10, pytest.approx(0.5015))


@pytest.mark.parametrize(
    "tags",
    [{"rate": 2e6}, {"freq": 2e9}, {"time": (11, 0.0)}, {"time": (10, 0.50051)}, {"time": (10, 0.50049)}],
)
def test_whatever_does_not_continue_is_a_gap(tags):
    stream = Continuity()
    stream.observe(0, rate=1e6, freq=1e9, time=(10, 0.5))
    assert stream.observe(500, **tags).gap


def test_time_within_a_sample_continues_and_slow_drift_never_becomes_a_gap():
    stream = Continuity()
    stream.observe(0, rate=1e6, time=(0, 0.0))
    states = [stream.observe(n * 1000, time=advance((0, 0.0), n * 1000 + n * 0.7, 1e6)) for n in range(1, 200)]
    assert not any(state.gap for state in states if state)
    assert sum(state is not None for state in states) > 50  # but who reckons with the time is told


def test_what_becomes_known_in_midstream_is_no_gap():
    stream = Continuity()
    assert not stream.observe(100, freq=1e9).gap
    assert not stream.observe(200, rate=1e6).gap
    assert not stream.observe(300, time=(1, 0.0)).gap


def test_a_second_time_without_a_rate_cannot_be_shown_to_continue():
    stream = Continuity()
    stream.observe(0, time=(1, 0.0))
    assert stream.observe(1000, time=(1, 0.001)).gap


def test_a_rate_given_beforehand_counts_as_known():
    stream = Continuity(1e6)
    assert stream.observe(0, rate=2e6).gap is False  # nothing lies before the first sample
    stream = Continuity(1e6)
    assert stream.observe(64, rate=2e6).gap


def test_an_anchor_comes_from_its_tag_and_a_broken_tag_is_named():
    fields = {"start": 100, "hop": 32, "valid": 20, "rx_rate": 1e6, "rx_time": (1, 0.5), "gap": True}
    anchor = anchor_from_fields(7, fields)
    assert (anchor.start_of(9), anchor.valid_of(7, 64), anchor.valid_of(8, 64)) == (164, 20, 64)
    assert anchor.state.gap and anchor.state.rate == 1e6 and math.isnan(anchor.state.freq)
    with pytest.raises(ValueError, match="emind_window"):
        anchor_from_fields(0, {"start": 1})


def test_buffers_hold_the_windows_asked_for_within_bounds():
    assert window_buffer(1024, 256) == 256
    assert window_buffer(1024, 1) == 4
    assert window_buffer(1 << 20, 256) * 8 * (1 << 20) <= 32 << 20
    assert window_buffer(1 << 24, 256) == 4


@pytest.mark.parametrize("hop", [64, 32, 16, 48, 24, 63, 7])
def test_overlap_add_gives_the_stream_back_however_it_is_cut_into_calls(hop):
    rng = np.random.default_rng(hop)
    samples = rng.standard_normal((2000, 2)).astype(np.float32).view(np.complex64)[:, 0]
    windows = np.lib.stride_tricks.sliding_window_view(samples, 64)[::hop]
    adder, parts, first = OverlapAdd(64, hop), [], 0
    while first < len(windows):
        count = int(rng.integers(1, 6))
        out = np.zeros(64 * 6, np.complex64)
        parts.append(out[: adder.add(windows[first : first + count], out)])
        first += count
    tail = np.zeros(64, np.complex64)
    parts.append(tail[: adder.flush(adder.tail, tail)])
    got = np.concatenate(parts)
    assert len(got) == (len(windows) - 1) * hop + 64
    np.testing.assert_allclose(got, samples[: len(got)], rtol=0, atol=2e-6)
    if hop == 64:
        np.testing.assert_array_equal(got, samples[: len(got)])


def test_the_last_window_before_a_gap_gives_its_signal_and_nothing_of_its_fill():
    samples = np.arange(1, 101).astype(np.complex64)
    adder, out = OverlapAdd(64, 32), np.zeros(200, np.complex64)
    done = adder.add(samples[None, :64], out)
    last = np.zeros(64, np.complex64)
    last[:60] = samples[32:92]
    done += adder.add_last(last, 60, out[done:])
    assert done == 92
    np.testing.assert_allclose(out[:92], samples[:92], rtol=1e-6)


def test_the_taper_is_positive_everywhere():
    assert (taper(1024) > 0).all() and taper(1) == 1


def test_the_floor_falls_at_once_rises_slowly_and_not_with_a_signal():
    floor = NoiseFloor(reach_db=6.0)
    assert np.isnan(floor.follow(np.full(SETTLED_WINDOWS - 1, 2.0))[0]).all()
    assert floor.follow(np.array([1.0]))[0][0] == 1.0
    assert floor.follow(np.full(100_000, 1000.0))[0][-1] == 1.0
    risen = floor.follow(np.full(100_000, 2.0))[0]
    assert risen[0] < 1.01 and risen[-1] == 2.0
    assert floor.follow(np.array([0.0, np.inf, np.nan]))[0][-1] == 2.0


def test_the_floor_does_not_depend_on_the_calls():
    powers = np.random.default_rng(0).exponential(1.0, 500)
    one, other = NoiseFloor(), NoiseFloor()
    parts = [other.follow(part)[0] for part in np.array_split(powers, 37)]
    np.testing.assert_array_equal(one.follow(powers)[0], np.concatenate(parts))


def test_snr_is_the_power_above_the_floor():
    np.testing.assert_allclose(snr_db(np.array([11.0, 2.0, 1.0]), np.ones(3)), [10.0, 0.0, -20.0])
    assert np.isnan(snr_db(np.array([1.0]), np.array([np.nan])))[0]


def test_the_gate_tells_zeros_from_tiny_and_infinity_from_huge():
    windows = np.ones((6, 8), np.complex64)
    windows[0] = 0
    windows[1] = 1e-30  # squares to zero
    windows[2, 3] = complex(0, np.nan)
    windows[3, 3] = np.inf
    windows[4] = 1e30  # squares to infinity
    kinds, _ = EnergyGate().sort(windows, 8)
    assert kinds.tolist() == [gate.NOISE, gate.OPEN, gate.INVALID, gate.INVALID, gate.OPEN, gate.OPEN]


def test_the_gate_compares_zero_filled_windows_by_their_signal():
    gated = EnergyGate(10.0)
    noise = np.random.default_rng(0).standard_normal((200, 128)).astype(np.float32).view(np.complex64) * 0.1
    gated.sort(noise / np.sqrt(np.mean(np.abs(noise) ** 2, axis=1, keepdims=True)) * 0.1, 64)
    window = np.zeros((1, 64), np.complex64)
    window[0, :4] = 1.0
    kinds, ratios = gated.sort(window, 4)
    assert kinds[0] == gate.OPEN
    assert ratios[0] == pytest.approx(10 * math.log10(99), abs=0.1)
    assert gated.sort(np.full((1, 64), 0.2, np.complex64), 64)[0][0] == gate.NOISE
