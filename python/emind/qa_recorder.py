#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What a recorder writes: rows, labels, files."""

import json
import threading
from pathlib import Path

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import recorder, windowing
    from .contract.errors import EMindError, UsageError
    from .qa_recorder_case import Recorded, answer, bursts, make_tag, ramp, samples_of
    from .storage.sigmf_labels import import_sigmf
else:  # run by ctest on the module that was built
    from gnuradio.emind import recorder, windowing
    from gnuradio.emind.contract.errors import EMindError, UsageError
    from gnuradio.emind.storage.sigmf_labels import import_sigmf
    from qa_recorder_case import Recorded, answer, bursts, make_tag, ramp, samples_of


class qa_recorder(Recorded):
    def test_every_sample_is_in_a_row_the_last_one_short(self):
        samples = ramp(64 * 5 + 10)
        block, rows = self.record(samples, sample_rate=1e6, labels={"modulation": "QPSK", "snr": 3})
        np.testing.assert_array_equal(samples_of(rows), samples)
        self.assertEqual([len(row.iq) for row in rows], [64] * 5 + [10])
        self.assertEqual({(row.modulation, row.snr, row.sampling_rate) for row in rows}, {("QPSK", 3.0, 1e6)})
        statistics = block.statistics()
        self.assertEqual(statistics["samples_seen"], len(samples))
        self.assertEqual(statistics["samples_written"], len(samples))
        self.assertEqual(statistics["samples_dropped"], 0)
        self.assertEqual(statistics["files"], len(block.files()))
        self.assertEqual(list(self.base.parent.glob("*.part")), [])

    def test_a_row_has_the_label_of_the_tag_that_its_middle_lies_in(self):
        tags = [make_tag(64, "emind_modulation", answer("8PSK", 128)),
                make_tag(64, "emind_interference", answer("tone", 64)),
                make_tag(256, "emind_modulation", answer("MSK", 64))]
        _, rows = self.record(ramp(64 * 6), tags, labels={"modulation": "unknown"})
        self.assertEqual([row.modulation for row in rows], ["unknown", "8PSK", "8PSK", "unknown", "MSK", "unknown"])
        self.assertEqual([row.infer_class for row in rows], [None, "tone", None, None, None, None])

    def test_tags_are_left_alone_when_asked(self):
        _, rows = self.record(ramp(128), [make_tag(0, "emind_modulation", answer("8PSK", 128))], from_tags=False)
        self.assertEqual([row.modulation for row in rows], [None, None])

    def test_no_row_straddles_a_gap(self):
        samples = ramp(300)
        tags = [make_tag(0, "rx_rate", pmt.from_double(1e6)), make_tag(100, "rx_rate", pmt.from_double(2e6))]
        block, rows = self.record(samples, tags)
        self.assertEqual([len(row.iq) for row in rows], [64, 36, 64, 64, 64, 8])
        self.assertEqual([row.sampling_rate for row in rows], [1e6] * 2 + [2e6] * 4)
        np.testing.assert_array_equal(samples_of(rows), samples)
        self.assertEqual(block.statistics()["gaps"], 1)

    def test_windows_are_rows_without_their_zero_fill(self):
        samples = ramp(64 * 4)
        tags = [make_tag(0, "rx_rate", pmt.from_double(1e6)), make_tag(100, "rx_rate", pmt.from_double(2e6))]
        block = recorder(str(self.base), length=64, windows=True, policy="lossless")
        cut = windowing(64, 64)
        tb = gr.top_block()
        tb.connect(blocks.vector_source_c(samples.tolist(), False, 1, tags), cut, block)
        tb.run()
        rows = self.rows()
        self.assertEqual([len(row.iq) for row in rows], [64, 36, 64, 64])
        self.assertEqual([row.sampling_rate for row in rows], [1e6, 1e6, 2e6, 2e6])
        np.testing.assert_array_equal(samples_of(rows), samples[:228])
        self.assertEqual(block.statistics()["samples_written"], 228)

    def test_windows_that_overlap_end_the_flowgraph_where_sigmf_would_hold_them_twice(self):
        for file_format in ("both", "sigmf", "parquet"):
            block = recorder(str(self.base), file_format, 1e6, length=64, windows=True, policy="lossless")
            cut = windowing(64, 32)
            tb = gr.top_block()
            tb.connect(blocks.vector_source_c(ramp(640).tolist()), cut, block)
            tb.run()
            if file_format == "parquet":
                self.assertIsNone(block.error())
                self.assertEqual([row.iq[0].real for row in self.rows()], [1 + 32 * k for k in range(19)])
            else:
                self.assertRegex(str(block.error()), "hop 32 of 64 samples.* Parquet")
                self.assertEqual(list(self.base.parent.iterdir()), [])

    def test_the_parameters_in_a_radar_s_tag_are_columns(self):
        value = answer("LFM", 128)
        for name, number in (("pri", 1e-3), ("pulse_width", 2e-5), ("num_pulses", 3.0)):
            value = pmt.dict_add(value, pmt.intern(name), pmt.from_double(number))
        _, rows = self.record(ramp(128), [make_tag(0, "emind_radar", value)])
        self.assertEqual({(row.radar_waveform, row.pri, row.pulse_width, row.num_pulses) for row in rows},
                         {("LFM", 1e-3, 2e-5, 3)})

    def test_tags_label_windows(self):
        block = recorder(str(self.base), length=64, windows=True, policy="lossless")
        tag = make_tag(1, "emind_radar", answer("LFM", 64))
        tb = gr.top_block()
        tb.connect(blocks.vector_source_c(ramp(256).tolist(), False, 64, [tag]), block)
        tb.run()
        self.assertEqual([row.radar_waveform for row in self.rows()], [None, "LFM", None, None])

    def test_messages_label_what_comes_after_them(self):
        """A source that sends a label before some samples, itself, so that the order is sure."""
        base = self.base

        class labelling_source(gr.sync_block):
            def __init__(self):
                gr.sync_block.__init__(self, "labelling_source", None, [np.complex64])
                self.message_port_register_out(pmt.intern("label"))
                self.sent = 0

            def work(self, input_items, output_items):
                out = output_items[0]
                if self.sent == 0:
                    block.set_labels({"modulation": "BPSK"})
                if self.sent >= 640:
                    return -1
                count = min(64, len(out))
                out[:count] = 1
                self.sent += count
                return count

        block = recorder(str(base), length=64, policy="lossless", labels={"dataset_name": "a"})
        tb = gr.top_block()
        source = labelling_source()
        tb.connect(source, block)
        tb.run()
        self.assertEqual({(row.modulation, row.dataset_name) for row in self.rows()}, {("BPSK", "take")})

    def test_a_message_is_a_dict_or_a_pdu_and_nil_takes_a_label_away(self):
        block = recorder(str(self.base), length=64, labels={"modulation": "BPSK"})
        known = pmt.to_pmt({"snr": 4.5, "modulation": "8PSK"})
        block._take_labels(known)
        self.assertEqual(block._new_labels, {"modulation": "8PSK", "snr": 4.5})
        nil = pmt.dict_add(pmt.make_dict(), pmt.intern("snr"), pmt.PMT_NIL)
        block._take_labels(pmt.cons(nil, pmt.init_u8vector(0, [])))
        self.assertEqual(block._new_labels, {"modulation": "8PSK"})
        for wrong in (pmt.to_pmt({"colour": "red"}), pmt.from_long(3), pmt.to_pmt({"snr": "loud"})):
            block._take_labels(wrong)
        self.assertEqual(block._new_labels, {"modulation": "8PSK"})

    def test_a_label_that_was_taken_away_is_filled_in_again(self):
        samples, names = ramp(128), ("dataset_name", "sampling_rate", "amplitude")
        for none in (dict.fromkeys(names), None):
            block = recorder(str(self.base), length=64, policy="lossless", sample_rate=1e6,
                             labels=none or {"dataset_name": "garden", "sampling_rate": 5.0, "amplitude": 5.0})

            class source(gr.sync_block):
                """Begins with a message to the recorder."""

                def work(self, input_items, output_items):
                    if self.nitems_written(0):
                        return -1
                    if none is None:
                        block._take_labels(pmt.to_pmt(dict.fromkeys(names)))
                    output_items[0][: len(samples)] = samples
                    return len(samples)

            tb = gr.top_block()
            begin = source("source", None, [np.complex64])
            tb.connect(begin, block)
            tb.run()
            rows = self.rows()
            self.assertEqual({(row.dataset_name, row.sampling_rate) for row in rows}, {("take", 1e6)})
            self.assertFalse({row.amplitude for row in rows} & {None, 5.0})  # but as measured

    def test_messages_reach_the_block_while_it_runs(self):
        done = threading.Event()
        taken = []

        class watched(recorder):
            def set_labels(self, labels):
                super().set_labels(labels)
                taken.append(labels)
                done.set()

        block = watched(str(self.base), length=64, policy="lossless")
        tb = gr.top_block()
        sender = blocks.message_strobe(pmt.to_pmt({"modulation": "MSK"}), 10)
        source = blocks.null_source(gr.sizeof_gr_complex)
        tb.connect(source, blocks.throttle(gr.sizeof_gr_complex, 1e5, True), block)
        tb.msg_connect(sender, "strobe", block, "label")
        tb.start()
        self.assertTrue(done.wait(30))
        tb.stop()
        tb.wait()
        self.assertEqual(taken[0], {"modulation": "MSK"})

    def test_a_new_file_begins_by_size_and_by_time(self):
        samples = ramp(10_000)
        for parameters in ({"rotate_mb": 0.016}, {"rotate_s": 2e-3, "sample_rate": 1e6}):
            block, rows = self.record(samples, **parameters)
            np.testing.assert_array_equal(samples_of(rows), samples)
            self.assertGreaterEqual(len(block.files()), 4)
            for file in block.files():
                Path(file).unlink()

    def test_sigmf_has_the_samples_and_the_labels(self):
        samples = ramp(1000)
        tags = [make_tag(128, "emind_modulation", answer("8PSK", 128))]
        block, rows = self.record(samples, tags, file_format="both", sample_rate=1e6)
        metas = [file for file in block.files() if file.endswith("meta")]
        self.assertEqual(len(metas), 1)
        parts = list(import_sigmf(metas[0]))
        np.testing.assert_array_equal(samples_of(parts), samples)
        self.assertEqual([(len(p.iq), p.modulation) for p in parts], [(128, None), (128, "8PSK"), (744, None)])
        np.testing.assert_array_equal(samples_of(rows), samples)

    def test_int16_keeps_every_step_and_refuses_what_lies_between(self):
        samples = (ramp(1000).view(np.float32) / 32768).view(np.complex64)
        _, rows = self.record(samples, iq_format="int16")
        np.testing.assert_array_equal(samples_of(rows), samples)
        block, _ = self.record(samples * np.float32(0.3), iq_format="int16")
        self.assertIn("steps", str(block.error()))
        self.assertEqual(block.statistics()["samples_dropped"], 1000)

    def test_it_runs_again(self):
        block = recorder(str(self.base), length=64, policy="lossless")
        tb = gr.top_block()
        source = blocks.vector_source_c(ramp(100).tolist())
        tb.connect(source, block)
        for _ in range(2):
            source.rewind()
            tb.run()
        self.assertEqual(len(samples_of(self.rows())), 200)

    def test_snr_amplitude_and_bandwidth_are_estimated_of_each_row(self):
        rng = np.random.default_rng(5)
        count, snr = 64 * 1024, 15.0
        symbols = np.exp(0.5j * np.pi * rng.integers(0, 4, count // 8)).repeat(8)
        on = (np.arange(count) // 8192) % 2 == 1
        hiss = 0.01 / np.sqrt(2) * (rng.standard_normal((count, 2)) @ [1, 1j])
        x = (hiss + 0.01 * 10 ** (snr / 20) * on * symbols).astype(np.complex64)
        _, rows = self.record(x, length=1024, sample_rate=1e6)
        loud = [row for row in rows if abs(row.iq).mean() > 0.02]
        quiet = [row for row in rows if abs(row.iq).mean() <= 0.02]
        self.assertEqual((len(loud), len(quiet)), (32, 32))
        self.assertLess(max(abs(row.snr - snr) for row in loud[8:]), 1.0)
        self.assertLess(max(row.snr for row in quiet), 0.0)
        self.assertLess(max(abs(row.amplitude - 0.01 * 10 ** (snr / 20)) for row in loud[8:]), 0.005)
        self.assertTrue(all(80e3 < row.band_width < 400e3 for row in loud[8:]), [row.band_width for row in loud])
        self.assertEqual({row.band_width for row in quiet}, {None})
        self.assertEqual({row.dataset_name for row in rows}, {"take"})

    def test_what_is_told_goes_before_what_is_measured(self):
        _, rows = self.record(bursts(8192, ((2000, 4000),)), labels={"snr": 3, "dataset_name": "garden"},
                              sample_rate=1e6)
        self.assertEqual({(row.snr, row.dataset_name) for row in rows}, {(3.0, "garden")})

    def test_annotations_are_short_and_have_frequency_edges(self):
        label = "a-name-of-more-than-twenty-characters"
        block, _ = self.record(ramp(1000), file_format="sigmf", sample_rate=1e6, center_freq=868e6,
                               labels={"modulation": label, "band_width": 2e5})
        (meta,) = self.base.parent.glob("*.sigmf-meta")
        (note,) = json.loads(meta.read_text())["annotations"]
        self.assertEqual((note["core:freq_lower_edge"], note["core:freq_upper_edge"]), (867.9e6, 868.1e6))
        self.assertLessEqual(len(note["core:label"]), 20)
        self.assertEqual(note["emind:modulation"], label)
        (signal,) = import_sigmf(meta)
        self.assertEqual(signal.modulation, label)

    def test_impossible_parameters_are_refused(self):
        for parameters in (
            {"policy": "hope"}, {"length": 0}, {"file_format": "wav"}, {"file_format": "sigmf"}, {"scale": 0.0},
            {"iq_format": "int8"}, {"queue_mb": 0.0}, {"rotate_s": -1.0}, {"trigger": "hope"},
            {"trigger": "energy", "windows": True}, {"pre_trigger": -1}, {"post_trigger": -1}, {"trigger_db": 0.0},
            {"trigger_confidence": 2.0},
        ):
            with self.assertRaises(UsageError):
                recorder(str(self.base), **parameters)
        for parameters in ({"labels": {"colour": "red"}}, {"path": "/no/such/folder/take"}):
            with self.assertRaises(EMindError):
                recorder(**{"path": str(self.base), **parameters})


if __name__ == "__main__":
    gr_unittest.run(qa_recorder)
