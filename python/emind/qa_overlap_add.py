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
    from . import overlap_add, windowing
    from .contract.errors import UsageError
else:  # run by ctest on the module that was built
    from gnuradio.emind import overlap_add, windowing
    from gnuradio.emind.contract.errors import UsageError


def make_tag(offset, key, value, source="source"):
    tag = gr.tag_t()
    tag.offset, tag.key, tag.value, tag.srcid = offset, pmt.intern(key), value, pmt.intern(source)
    return tag


def noise(count, seed=1):
    parts = np.random.default_rng(seed).standard_normal((count, 2), np.float32)
    return parts.view(np.complex64)[:, 0]


class qa_overlap_add(gr_unittest.TestCase):
    def there_and_back(self, samples, length, hop, tags=()):
        """Samples and tags of the stream behind windowing and overlap_add."""
        tb = gr.top_block()
        source = blocks.vector_source_c(samples.tolist(), False, 1, list(tags))
        cutter, adder = windowing(length, hop), overlap_add(length, hop)
        sink = blocks.vector_sink_c()
        tb.connect(source, cutter, adder, sink)
        tb.run()
        return np.array(sink.data(), np.complex64), sink.tags()

    def test_windows_side_by_side_come_back_bit_for_bit(self):
        samples = noise(64 * 50)
        out, _ = self.there_and_back(samples, 64, 64)
        np.testing.assert_array_equal(out, samples)

    def test_overlapping_windows_come_back_for_any_hop(self):
        samples = noise(64 * 50)
        for hop in (32, 16, 48, 24, 7, 63):
            out, _ = self.there_and_back(samples, 64, hop)
            windows = (len(samples) - 64) // hop + 1
            self.assertEqual(len(out), windows * hop)
            np.testing.assert_allclose(out, samples[: len(out)], rtol=0, atol=2e-6)

    def test_sample_k_in_is_sample_k_out_across_gaps(self):
        samples = noise(2000)
        tags = [make_tag(at, "rx_freq", pmt.from_double(at)) for at in (0, 3, 250, 251, 640, 704, 1311)]
        for hop in (64, 32, 24):
            out, found = self.there_and_back(samples, 64, hop, tags)
            self.assertGreaterEqual(len(out), 2000 - 2 * 64)
            np.testing.assert_allclose(out, samples[: len(out)], rtol=0, atol=2e-6)
            self.assertEqual([tag.offset for tag in found], [tag.offset for tag in tags])

    def test_the_streams_own_tags_come_back_with_key_value_and_source_on_their_sample(self):
        offsets = [0, 5, 63, 64, 65, 500, 500, 1023]
        tags = [make_tag(at, f"key{n}", pmt.from_long(n), f"source{n}") for n, at in enumerate(offsets)]
        for hop in (64, 32, 24):
            _, found = self.there_and_back(noise(1200), 64, hop, tags)
            seen = {
                (tag.offset, pmt.symbol_to_string(tag.key), pmt.to_long(tag.value), pmt.symbol_to_string(tag.srcid))
                for tag in found
            }
            self.assertEqual(seen, {(at, f"key{n}", n, f"source{n}") for n, at in enumerate(offsets)})
            self.assertEqual(len(found), len(offsets))

    def test_a_tag_on_a_window_comes_out_on_the_windows_first_sample(self):
        length, hop = 64, 24
        tags = [make_tag(item, "emind_modulation", pmt.from_long(item)) for item in range(10)]
        tb = gr.top_block()
        source = blocks.vector_source_c(noise(length * 10).tolist(), False, length, tags)
        adder, sink = overlap_add(length, hop), blocks.vector_sink_c()
        tb.connect(source, adder, sink)
        tb.run()
        self.assertEqual(
            [(tag.offset, pmt.to_long(tag.value)) for tag in sink.tags()], [(item * hop, item) for item in range(10)]
        )

    def test_where_windows_differ_the_weighted_mean_comes_out(self):
        length, hop = 8, 4
        windows = noise(3 * length).reshape(3, length)
        tb = gr.top_block()
        source = blocks.vector_source_c(windows.reshape(-1).tolist(), False, length)
        adder, sink = overlap_add(length, hop), blocks.vector_sink_c()
        tb.connect(source, adder, sink)
        tb.run()
        weights = np.sin((np.arange(length) + 0.5) * np.pi / length) ** 2
        total, weight = np.zeros(16, complex), np.zeros(16)
        for n in range(3):
            total[n * hop : n * hop + length] += windows[n] * weights
            weight[n * hop : n * hop + length] += weights
        np.testing.assert_allclose(sink.data(), (total / weight)[:12], rtol=1e-5)

    def test_windows_of_another_hop_end_the_flowgraph_instead_of_shifting_samples(self):
        tb = gr.top_block()
        source = blocks.null_source(gr.sizeof_gr_complex)
        cutter, adder, sink = windowing(64, 32), overlap_add(64, 64), blocks.vector_sink_c()
        tb.connect(source, cutter, adder, sink)
        tb.run()
        self.assertEqual(len(sink.data()), 0)

    def test_a_window_larger_than_a_default_buffer_does_not_freeze(self):
        samples = noise(300_000)
        for hop in (100_000, 50_000):
            out, _ = self.there_and_back(samples, 100_000, hop)
            self.assertGreaterEqual(len(out), 250_000)
            np.testing.assert_allclose(out, samples[: len(out)], rtol=0, atol=2e-6)

    def test_a_hop_that_leaves_samples_out_is_refused(self):
        for hop in (0, 65):
            with self.assertRaises(UsageError):
                overlap_add(64, hop)

    def separated(self, samples, length, hop, swapped, tags=()):
        """Two streams behind overlap_add of windows (n, 2, length) of two sources, with some swapped; and tags."""
        windows = np.stack([samples[:, at : at + length] for at in range(0, samples.shape[1] - length + 1, hop)])
        windows[swapped] = windows[swapped][:, ::-1]
        tb = gr.top_block()
        adder = overlap_add(length, hop, sources=2)
        sinks = [blocks.vector_sink_c() for _ in range(2)]
        for port, sink in enumerate(sinks):
            source = blocks.vector_source_c(windows[:, port].reshape(-1).tolist(), False, length, [] if port else tags)
            tb.connect(source, (adder, port))
            tb.connect((adder, port), sink)
        tb.run()
        found = [[(tag.offset, str(tag.key)) for tag in sink.tags()] for sink in sinks]
        return [np.array(sink.data(), np.complex64) for sink in sinks], found

    def test_a_source_stays_on_its_port_however_the_windows_are_swapped(self):
        samples = np.stack([noise(64 * 50, 1), 0.3 * noise(64 * 50, 2)])
        for hop in (32, 48, 24, 63):
            count = (samples.shape[1] - 64) // hop + 1
            swapped = np.flatnonzero(np.random.default_rng(hop).integers(0, 2, count))
            if 0 in swapped:  # which port is whose is the first window's to say
                swapped = np.setdiff1d(np.arange(count), swapped)
            self.assertGreater(len(swapped), count / 4)
            outs, _ = self.separated(samples, 64, hop, swapped)
            for out, source in zip(outs, samples):
                self.assertEqual(len(out), count * hop)
                np.testing.assert_allclose(out, source[: len(out)], rtol=0, atol=2e-6)

    def test_tags_of_the_first_port_come_out_on_all(self):
        samples = np.stack([noise(640, 1), noise(640, 2)])
        tags = [make_tag(item, "emind_modulation", pmt.PMT_T) for item in range(3)]
        _, found = self.separated(samples, 64, 32, [], tags)
        self.assertEqual(found, [[(item * 32, "emind_modulation") for item in range(3)]] * 2)

    def test_windows_that_were_not_separated_stay_as_they_are_and_say_nothing_of_the_order(self):
        length, hop = 64, 16
        samples = np.stack([noise(640, 1), noise(640, 2)])
        passed = [make_tag(9, "emind_reconstruction", pmt.intern("skipped")),
                  make_tag(11, "emind_reconstruction", pmt.intern("reconstructed"))]
        plain, _ = self.separated(samples, length, hop, [9, 10])
        kept, found = self.separated(samples, length, hop, [9, 10], passed)
        np.testing.assert_allclose(plain[0], samples[0, : len(plain[0])], rtol=0, atol=2e-6)
        # Windows 9 and 10 came swapped and were left so; windows 8 and 11 overlap, and the order goes on behind them.
        changed = np.flatnonzero(np.abs(kept[0] - plain[0]) > 1e-3)
        self.assertGreaterEqual(changed[0], 9 * hop)
        self.assertLess(changed[-1], 10 * hop + length)
        self.assertEqual(found[1], [(9 * hop, "emind_reconstruction"), (11 * hop, "emind_reconstruction")])

    def test_several_sources_whose_windows_do_not_overlap_are_refused(self):
        for options in ({"hop": 64, "sources": 2}, {"hop": 32, "sources": 0}):
            with self.assertRaises(UsageError) as caught:
                overlap_add(64, **options)
            self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    gr_unittest.run(qa_overlap_add)
