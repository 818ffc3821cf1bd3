"""Overlap-add against a plain sum, where windows agree, where they do not, and from the one to the other."""

import numpy as np
import pytest

from emind.dsp.overlap_add import OverlapAdd, taper

LENGTH = 60


def plain(windows, hop):
    """The weighted mean of the windows over each sample that they hold."""
    total = (len(windows) - 1) * hop + LENGTH
    sums, weights = np.zeros(total, np.complex128), np.zeros(total)
    for number, window in enumerate(windows):
        part = slice(number * hop, number * hop + LENGTH)
        sums[part] += window * taper(LENGTH)
        weights[part] += taper(LENGTH)
    return sums / weights


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal((*shape, 2)).astype(np.float32).view(np.complex64)[..., 0]


def added(adder, windows, calls):
    parts = []
    for part in np.array_split(windows, calls):
        out = np.zeros(len(part) * adder.hop + LENGTH, np.complex64)
        parts.append(out[: adder.add(part, out)])
    return np.concatenate(parts)


@pytest.mark.parametrize("hop", [60, 59, 30, 24, 15, 7, 1])
@pytest.mark.parametrize("changed", [(), range(300), (0,), (50,), range(20, 140, 9), range(150, 300)])
def test_the_result_is_the_weighted_mean_whichever_windows_were_changed(hop, changed):
    stream = noise(299 * hop + LENGTH)
    windows = np.lib.stride_tricks.sliding_window_view(stream, LENGTH)[::hop].copy()
    for number in changed:
        windows[number] += noise(LENGTH, seed=number + 1)
    expected = plain(windows, hop)
    for calls in (1, 13):
        adder = OverlapAdd(LENGTH, hop)
        finished = added(adder, windows, calls)
        np.testing.assert_allclose(finished, expected[: 300 * hop], rtol=0, atol=5e-6)
        rest = np.zeros(LENGTH, np.complex64)
        assert adder.flush(adder.tail, rest) == LENGTH - hop
        np.testing.assert_allclose(rest[: LENGTH - hop], expected[300 * hop :], rtol=0, atol=5e-6)


@pytest.mark.parametrize("hop", [30, 24])
def test_windows_that_nobody_changed_come_out_to_the_bit(hop):
    stream = noise(2000 * hop + LENGTH)
    stream[700 * hop] = np.nan
    windows = np.lib.stride_tricks.sliding_window_view(stream, LENGTH)[::hop].copy()
    out = added(OverlapAdd(LENGTH, hop), windows, 9)
    settled = slice(600 * hop, len(out))  # behind the first blocks
    np.testing.assert_array_equal(out[settled].view(np.uint64), stream[: len(out)][settled].view(np.uint64))


def test_a_break_forgets_what_came_before_it():
    adder = OverlapAdd(LENGTH, 30)
    added(adder, noise(500, LENGTH), 3)
    adder.reset()
    windows = noise(500, LENGTH, seed=5)
    np.testing.assert_allclose(added(adder, windows, 4), plain(windows, 30)[: 500 * 30], rtol=0, atol=5e-6)


def test_the_last_window_is_added_to_what_was_passed_on():
    stream = noise(400 * 30 + LENGTH)
    windows = np.lib.stride_tricks.sliding_window_view(stream, LENGTH)[::30].copy()
    adder = OverlapAdd(LENGTH, 30)
    added(adder, windows[:300], 2)
    out = np.zeros(LENGTH, np.complex64)
    assert adder.add_last(windows[300], 45, out) == 45
    np.testing.assert_allclose(out[:45], stream[300 * 30 : 300 * 30 + 45], rtol=0, atol=5e-6)
