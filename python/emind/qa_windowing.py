#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import windowing
    from .contract.errors import UsageError
else:  # run by ctest on the module that was built
    from gnuradio.emind import windowing
    from gnuradio.emind.contract.errors import UsageError


def make_tag(offset, key, value, source="source"):
    tag = gr.tag_t()
    tag.offset, tag.key, tag.value, tag.srcid = offset, pmt.intern(key), value, pmt.intern(source)
    return tag


def moment(whole, fraction):
    return pmt.make_tuple(pmt.from_uint64(whole), pmt.from_double(fraction))


def ramp(count):
    return (np.arange(1, count + 1) + 1j).astype(np.complex64)


class qa_windowing(gr_unittest.TestCase):
    def run_block(self, block, samples, stream_tags=(), length=64):
        """Windows (n, length), and the tags as (item, key, value)."""
        tb = gr.top_block()
        source = blocks.vector_source_c(samples.tolist(), False, 1, list(stream_tags))
        sink = blocks.vector_sink_c(length)
        tb.connect(source, block, sink)
        tb.run()
        found = [(tag.offset, pmt.symbol_to_string(tag.key), pmt.to_python(tag.value)) for tag in sink.tags()]
        return np.array(sink.data(), np.complex64).reshape(-1, length), found

    def window_tags(self, found):
        return {item: value for item, key, value in found if key == "emind_window"}

    def test_windows_follow_each_other_when_hop_is_the_length(self):
        samples = ramp(64 * 5 + 10)
        windows, found = self.run_block(windowing(64, 64), samples)
        np.testing.assert_array_equal(windows, samples[:320].reshape(5, 64))
        self.assertEqual(self.window_tags(found), {0: {"start": 0, "hop": 64, "valid": 64}})

    def test_windows_overlap_by_any_hop(self):
        samples = ramp(1000)
        for hop in (32, 24, 1):
            windows, _ = self.run_block(windowing(64, hop), samples)
            expected = np.lib.stride_tricks.sliding_window_view(samples, 64)[::hop]
            np.testing.assert_array_equal(windows, expected)

    def test_a_change_of_frequency_ends_a_window_with_zeros_and_starts_the_next(self):
        samples = ramp(64 * 6)
        tags = [
            make_tag(0, "rx_freq", pmt.from_double(1e9)),
            make_tag(150, "rx_freq", pmt.from_double(2e9)),
            make_tag(250, "rx_freq", pmt.from_double(2e9)),  # says nothing new
        ]
        block = windowing(64, 64)
        windows, found = self.run_block(block, samples, tags)
        np.testing.assert_array_equal(windows[2, :22], samples[128:150])
        np.testing.assert_array_equal(windows[2, 22:], 0)
        np.testing.assert_array_equal(windows[3], samples[150:214])
        self.assertEqual(block.gaps(), 1)
        self.assertEqual(
            self.window_tags(found),
            {
                0: {"start": 0, "hop": 64, "valid": 64, "rx_freq": 1e9},
                2: {"start": 128, "hop": 64, "valid": 22, "rx_freq": 1e9},
                3: {"start": 150, "hop": 64, "valid": 64, "rx_freq": 2e9, "gap": True},
            },
        )

    def test_no_zero_filled_window_when_the_gap_falls_on_a_border(self):
        tags = [make_tag(0, "rx_rate", pmt.from_double(1e6)), make_tag(128, "rx_rate", pmt.from_double(2e6))]
        windows, found = self.run_block(windowing(64, 64), ramp(256), tags)
        self.assertEqual(len(windows), 4)
        expected = {"start": 128, "hop": 64, "valid": 64, "rx_rate": 2e6, "gap": True}
        self.assertEqual(self.window_tags(found)[2], expected)

    def test_with_overlap_the_window_before_a_gap_holds_what_no_full_window_held(self):
        samples = ramp(64 * 4)
        tags = [make_tag(0, "rx_freq", pmt.from_double(1.0)), make_tag(150, "rx_freq", pmt.from_double(2.0))]
        windows, found = self.run_block(windowing(64, 32), samples, tags)
        # Full windows at 0, 32, 64 cover up to 128; one at 96 is filled up from 150 on; then 150, 182.
        self.assertEqual({item: tag["start"] for item, tag in self.window_tags(found).items()}, {0: 0, 3: 96, 4: 150})
        self.assertEqual(self.window_tags(found)[3]["valid"], 54)
        np.testing.assert_array_equal(windows[3, :54], samples[96:150])
        np.testing.assert_array_equal(windows[3, 54:], 0)
        np.testing.assert_array_equal(windows[4], samples[150:214])
        self.assertEqual(len(windows), 6)

    def test_time_that_continues_is_no_gap_and_time_that_jumps_is_one(self):
        rate = 1e6
        tags = [
            make_tag(0, "rx_rate", pmt.from_double(rate)),
            make_tag(0, "rx_time", moment(1_700_000_000, 0.9999)),
            make_tag(300, "rx_time", moment(1_700_000_001, 0.0002)),  # 300 samples later, over the full second
            make_tag(500, "rx_time", moment(1_700_000_001, 0.0054)),  # 5 ms were lost
        ]
        block = windowing(64, 64)
        _, found = self.run_block(block, ramp(1000), tags)
        self.assertEqual(block.gaps(), 1)
        windows = self.window_tags(found)
        self.assertEqual({item: tag["start"] for item, tag in windows.items()}, {0: 0, 7: 448, 8: 500})
        self.assertEqual(windows[7]["valid"], 52)
        whole, fraction = windows[7]["rx_time"]
        self.assertEqual(whole, 1_700_000_001)
        self.assertAlmostEqual(fraction, 0.9999 + 448e-6 - 1, places=9)
        self.assertEqual(windows[8]["rx_time"], (1_700_000_001, 0.0054))

    def test_every_stream_tag_rides_on_the_first_window_that_holds_its_sample(self):
        offsets = [0, 1, 63, 64, 100, 100, 149, 150, 151, 400]
        for hop in (64, 32, 24):
            tags = [make_tag(offset, f"tag{n}", pmt.from_long(n), f"src{n}") for n, offset in enumerate(offsets)]
            tags.append(make_tag(0, "rx_freq", pmt.from_double(1.0)))
            tags.append(make_tag(150, "rx_freq", pmt.from_double(2.0)))
            _, found = self.run_block(windowing(64, hop), ramp(600), tags)
            anchors = self.window_tags(found)
            riders = [(item, value) for item, key, value in found if key == "emind_stream_tag"]
            self.assertEqual(len(riders), len(tags))

            def span(item):
                anchor = max(number for number in anchors if number <= item)
                start = anchors[anchor]["start"] + (item - anchor) * hop
                return start, start + (anchors[anchor]["valid"] if item == anchor else 64)

            for item, value in riders:
                start, end = span(item)
                self.assertTrue(start <= value["sample"] < end)
                if item and not anchors.get(item, {}).get("gap"):
                    self.assertGreaterEqual(value["sample"], span(item - 1)[1])
            for n, offset in enumerate(offsets):
                mine = [value for _, value in riders if value["key"] == f"tag{n}"]
                self.assertEqual(mine, [{"sample": offset, "key": f"tag{n}", "value": n, "source": f"src{n}"}])

    def test_what_an_earlier_tuner_did_is_reckoned_in(self):
        tags = [make_tag(0, "rx_rate", pmt.from_double(8e6)), make_tag(0, "rx_freq", pmt.from_double(1e8))]
        block = windowing(64, 64, sample_rate=1e6, decimation=8, frequency_offset=2e5)
        _, found = self.run_block(block, ramp(128), tags)
        self.assertEqual(block.gaps(), 0)
        self.assertEqual(self.window_tags(found)[0]["rx_rate"], 1e6)
        self.assertEqual(self.window_tags(found)[0]["rx_freq"], 1e8 + 2e5)
        carried = {value["key"]: value["value"] for _, key, value in found if key == "emind_stream_tag"}
        self.assertEqual(carried, {"rx_rate": 1e6, "rx_freq": 1e8 + 2e5})

    def test_a_gap_is_met_although_less_than_a_window_follows(self):
        tags = [make_tag(0, "rx_freq", pmt.from_double(1.0)), make_tag(20, "rx_freq", pmt.from_double(2.0))]
        windows, _ = self.run_block(windowing(64, 64), ramp(40), tags)
        self.assertEqual(len(windows), 1)
        np.testing.assert_array_equal(windows[0, :20], ramp(20))
        np.testing.assert_array_equal(windows[0, 20:], 0)

    def test_tags_that_make_no_sense_are_carried_and_otherwise_ignored(self):
        tags = [
            make_tag(10, "rx_time", pmt.intern("noon")),
            make_tag(20, "rx_rate", pmt.from_double(-5.0)),
            make_tag(30, "rx_freq", pmt.from_double(float("nan"))),
            make_tag(40, "rx_time", pmt.make_tuple(pmt.from_long(1))),
        ]
        block = windowing(64, 64)
        windows, found = self.run_block(block, ramp(128), tags)
        self.assertEqual((len(windows), block.gaps()), (2, 0))
        self.assertEqual(sum(key == "emind_stream_tag" for _, key, _ in found), 4)

    def test_a_window_larger_than_a_default_buffer_does_not_freeze(self):
        length = 100_000
        windows, _ = self.run_block(windowing(length, length), ramp(3 * length), length=length)
        np.testing.assert_array_equal(windows.reshape(-1), ramp(3 * length))

    def test_arguments_that_cannot_work_are_refused(self):
        for arguments in ({"hop": 65}, {"hop": 0}, {"decimation": 0}, {"sample_rate": -1.0}):
            with self.assertRaises(UsageError) as caught:
                windowing(**{"length": 64, "hop": 64, **arguments})
            self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    gr_unittest.run(qa_windowing)
