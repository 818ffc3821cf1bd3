"""Sources keep their place from window to window, and what a window says of the order."""

from __future__ import annotations

import numpy as np
import pytest

from emind.dsp.source_order import SourceOrder

LENGTH = 64


def noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]


def cut(sources: np.ndarray, hop: int) -> np.ndarray:
    """Sources (K, S) to windows (n, K, LENGTH)."""
    return np.stack([sources[:, at : at + LENGTH] for at in range(0, sources.shape[1] - LENGTH + 1, hop)])


def shuffled(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sources of each window but the first in any order."""
    out = windows.copy()
    for index in range(1, len(out)):
        out[index] = out[index][rng.permutation(out.shape[1])]
    return out


@pytest.mark.parametrize("sources", [2, 3, 4])
@pytest.mark.parametrize("hop", [1, 16, 32, 48, 60])
def test_any_order_of_the_outputs_is_undone_however_the_windows_come_in_calls(sources, hop):
    rng = np.random.default_rng([sources, hop])
    powers = 10 ** (-np.arange(sources) / 2)  # 10 dB from one to the next
    windows = cut(noise(rng, sources, 40 * hop + LENGTH) * powers[:, None].astype(np.float32), hop)
    mixed = shuffled(windows, rng)
    assert not np.array_equal(mixed, windows)
    order, start = SourceOrder(LENGTH, sources), 1000
    done = 0
    while done < len(windows):
        count = int(rng.integers(1, 9))
        arranged = order.arrange(mixed[done : done + count], start + done * hop, hop)
        np.testing.assert_array_equal(arranged, windows[done : done + count])
        done += count
    assert order.begun == 1


def test_the_order_is_kept_although_each_output_has_much_of_the_other_source_and_noise():
    rng = np.random.default_rng(5)
    hop, length = 512, 1024
    samples = noise(rng, 2, 100 * hop + length)
    windows = np.stack([samples[:, at : at + length] for at in range(0, samples.shape[1] - length + 1, hop)])
    # The source itself lies 1.6 dB above the rest of its output: far worse than what is called separated.
    leaking = 0.7 * windows + 0.3 * windows[:, ::-1] + 0.5 * noise(rng, *windows.shape)
    swapped = rng.integers(0, 2, len(windows)).astype(bool)
    swapped[0] = False
    heard = np.where(swapped[:, None, None], leaking[:, ::-1], leaking)
    arranged = SourceOrder(length, 2).arrange(heard, 0, hop)
    np.testing.assert_array_equal(arranged, leaking)


def test_windows_not_separated_are_left_alone_and_the_order_goes_on_where_others_overlap():
    rng = np.random.default_rng(6)
    windows = cut(noise(rng, 2, 40 * 16 + LENGTH), 16)
    mixed = windows[:, ::-1].copy()
    mixed[:10] = windows[:10]
    separated = np.ones(len(windows), bool)
    separated[10:13] = False
    order = SourceOrder(LENGTH, 2)
    arranged = order.arrange(mixed, 0, 16, separated)
    np.testing.assert_array_equal(arranged[10:13], mixed[10:13])
    assert order.begun == 2  # windows 9 and 13 lie 64 samples apart: they share none
    np.testing.assert_array_equal(arranged[13:], mixed[13:])
    separated[12] = True  # windows 9 and 12 share 16 samples
    order = SourceOrder(LENGTH, 2)
    arranged = order.arrange(mixed, 0, 16, separated)
    assert order.begun == 1
    np.testing.assert_array_equal(arranged[12:], windows[12:])


def test_behind_a_break_a_new_order_begins():
    rng = np.random.default_rng(7)
    windows = cut(noise(rng, 2, 4 * 32 + LENGTH), 32)
    order = SourceOrder(LENGTH, 2)
    order.arrange(windows[:2], 0, 32)
    order.restart()
    np.testing.assert_array_equal(order.arrange(windows[2:, ::-1], 64, 32), windows[2:, ::-1])
    assert order.begun == 2


def test_the_windows_are_neither_changed_nor_kept():
    rng = np.random.default_rng(8)
    windows = cut(noise(rng, 2, 10 * 32 + LENGTH), 32)
    borrowed = windows[:5].copy()
    order = SourceOrder(LENGTH, 2)
    order.arrange(borrowed, 0, 32)
    np.testing.assert_array_equal(borrowed, windows[:5])
    borrowed[...] = 0  # the buffer is used for other samples
    np.testing.assert_array_equal(order.arrange(windows[5:, ::-1], 5 * 32, 32), windows[5:])


def test_silence_and_values_that_are_not_finite_leave_the_order_as_it_comes():
    windows = np.zeros((3, 2, LENGTH), np.complex64)
    windows[1, 0, 3] = np.nan
    arranged = SourceOrder(LENGTH, 2).arrange(windows, 0, 32)
    np.testing.assert_array_equal(arranged, windows)
