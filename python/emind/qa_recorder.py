#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#

import json
import os
import tempfile
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import recorder, windowing
    from .contract.errors import EMindError, UsageError
    from .storage.parquet import Reader
    from .storage.sigmf_labels import import_sigmf
else:  # run by ctest on the module that was built
    from gnuradio.emind import recorder, windowing
    from gnuradio.emind.contract.errors import EMindError, UsageError
    from gnuradio.emind.storage.parquet import Reader
    from gnuradio.emind.storage.sigmf_labels import import_sigmf


def make_tag(offset, key, value):
    tag = gr.tag_t()
    tag.offset, tag.key, tag.value, tag.srcid = offset, pmt.intern(key), value, pmt.intern("source")
    return tag


def answer(label, length):
    value = pmt.dict_add(pmt.make_dict(), pmt.intern("label"), pmt.intern(label))
    value = pmt.dict_add(value, pmt.intern("confidence"), pmt.from_double(0.9))
    return pmt.dict_add(value, pmt.intern("length"), pmt.from_long(length))


def ramp(count):
    return (np.arange(1, count + 1) + 1j).astype(np.complex64)


def bursts(count, places):
    """Noise with a tone 30 dB above it at these places."""
    rng = np.random.default_rng(2)
    x = 0.003 * (rng.standard_normal((count, 2)) @ [1, 1j])
    for start, stop in places:
        x[start:stop] += 0.1 * np.exp(0.3j * np.arange(stop - start))
    return x.astype(np.complex64)


def samples_of(rows):
    return np.concatenate([row.iq for row in rows])


class qa_recorder(gr_unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.base = Path(self._folder.name) / "take"

    def tearDown(self):
        self._folder.cleanup()

    def record(self, samples, stream_tags=(), **parameters):
        """The block after it has recorded, and the rows of its Parquet files."""
        block = recorder(str(self.base), **{"policy": "lossless", "length": 64, **parameters})
        tb = gr.top_block()
        tb.connect(blocks.vector_source_c(samples.tolist(), False, 1, list(stream_tags)), block)
        tb.run()
        return block, self.rows()

    def rows(self):
        return [row for file in sorted(self.base.parent.glob("*.parquet")) for row in Reader(file)]

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
        self.assertEqual(block._new_labels, {"modulation": "8PSK", "snr": None})
        for wrong in (pmt.to_pmt({"colour": "red"}), pmt.from_long(3), pmt.to_pmt({"snr": "loud"})):
            block._take_labels(wrong)
        self.assertEqual(block._new_labels, {"modulation": "8PSK", "snr": None})

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

    def test_energy_is_recorded_from_before_it_begins_in_whole_rows(self):
        x = bursts(200_000, ((60_000, 70_000), (150_000, 151_000)))
        block, rows = self.record(x, trigger="energy", pre_trigger=1000, post_trigger=500, sample_rate=1e6,
                                  short_rows=False)
        events = {}
        for row in rows:
            self.assertEqual(len(row.iq), 64)
            events.setdefault(row.transmission_id, []).append(row.iq)
        self.assertEqual(len(events), 2)
        for (start, stop), parts in zip(((60_000, 70_000), (150_000, 151_000)), events.values()):
            got = np.concatenate(parts)
            begin = next(k for k in range(len(x)) if x[k] == got[0] and np.array_equal(x[k : k + 64], got[:64]))
            np.testing.assert_array_equal(got, x[begin : begin + len(got)])  # no sample missing, none twice
            self.assertLessEqual(begin, start - 1000 + 64)
            self.assertGreaterEqual(begin, start - 1000 - 64)
            self.assertGreaterEqual(begin + len(got), stop + 500 - 64)
            self.assertLessEqual(begin + len(got), stop + 500 + 192)
        counts = block.statistics()
        self.assertEqual(counts["events"], 2)
        self.assertEqual(counts["samples_seen"], len(x))
        self.assertEqual(counts["samples_written"] + counts["samples_skipped"], len(x))
        self.assertEqual((counts["samples_dropped"], counts["samples_queued"]), (0, 0))

    def test_a_tagged_answer_is_recorded_from_before_it_with_the_labels_of_the_tags(self):
        x = ramp(50_000)
        tags = [make_tag(at, "emind_modulation", answer(label, 1024))
                for at, label in ((1024, "noise"), (20_480, "QPSK"), (21_504, "QPSK"), (22_528, "noise"))]
        _, rows = self.record(x, tags, trigger="detection", pre_trigger=128, post_trigger=0)
        got = samples_of(rows)
        np.testing.assert_array_equal(got, x[20_352 : 20_352 + len(got)])
        self.assertEqual(len(got), 2176)  # 128 ahead and twice 1024: 34 rows
        self.assertEqual([row.modulation for row in rows], [None] * 2 + ["QPSK"] * 32)

    def test_only_the_wanted_labels_trigger_and_only_with_confidence(self):
        x = ramp(50_000)
        tags = [make_tag(10_240, "emind_modulation", answer("MSK", 1024)),
                make_tag(30_720, "emind_modulation", answer("QPSK", 1024))]
        _, rows = self.record(x, tags, trigger="detection", pre_trigger=0, post_trigger=0, trigger_labels=("QPSK",))
        np.testing.assert_array_equal(samples_of(rows), x[30_720:31_744])
        for file in self.base.parent.glob("*"):
            file.unlink()
        _, rows = self.record(x, tags, trigger="detection", trigger_confidence=0.95)  # the answers have 0.9
        self.assertEqual(rows, [])

    def test_a_detection_by_message_comes_late_and_is_taken_from_what_is_held(self):
        block = recorder(str(self.base), length=64, policy="lossless", trigger="detection", pre_trigger=6000,
                         post_trigger=0, sample_rate=1e6)
        x = ramp(40_000)

        class source(gr.sync_block):
            """Tells of samples 10,000 to 10,500 of the block behind a decimation by 2 when 12,000 are out."""

            def __init__(self):
                gr.sync_block.__init__(self, "source", None, [np.complex64])
                self.sent = 0

            def work(self, input_items, output_items):
                if self.sent == len(x):
                    return -1
                if self.sent == 12_000:
                    fields = {"sample_start": 5000, "sample_count": 250, "rx_rate": 5e5,
                              "modulation": {"label": "QPSK", "confidence": 0.9}}
                    block._take_detection(pmt.cons(pmt.to_pmt(fields), pmt.init_u8vector(0, [])))
                count = min(4000, len(output_items[0]), 12_000 - self.sent if self.sent < 12_000 else 4000,
                            len(x) - self.sent)
                output_items[0][:count] = x[self.sent : self.sent + count]
                self.sent += count
                return count

        tb = gr.top_block()
        begin = source()
        tb.connect(begin, block)
        tb.run()
        got = samples_of(self.rows()).real
        self.assertEqual(block.statistics()["events"], 1)
        self.assertTrue(np.all(np.diff(got) == 1))
        # Of what was asked for, 4000 to 10500, no more is lost than what had left the 6000 samples held.
        self.assertLessEqual(got[0], 10_001)
        self.assertGreaterEqual(got[-1], 10_500)

    def test_recording_is_switched_off_and_on_and_the_time_behind_a_pause_is_right(self):
        base = self.base
        rate = 1e6

        class source(gr.sync_block):
            def __init__(self):
                gr.sync_block.__init__(self, "source", None, [np.complex64])
                self.set_output_multiple(1000)
                self.sent = 0

            def work(self, input_items, output_items):
                if self.sent == 9000:
                    return -1
                block._take_record({0: pmt.PMT_T, 3000: pmt.cons(pmt.intern("pressed"), pmt.from_long(0)),
                                    6000: pmt.dict_add(pmt.make_dict(), pmt.intern("record"), pmt.PMT_T)
                                    }.get(self.sent, pmt.from_bool(block._recording)))
                if self.sent == 0:
                    self.add_item_tag(0, 0, pmt.intern("rx_time"),
                                      pmt.make_tuple(pmt.from_uint64(1_700_000_000), pmt.from_double(0.5)))
                output_items[0][:1000] = ramp(9000)[self.sent : self.sent + 1000]
                self.sent += 1000
                passed.wait_for_room(self.sent)
                return 1000

        class passed:
            """Lets the source go on when the recorder has had all before."""

            @staticmethod
            def wait_for_room(sent):
                while block.statistics()["samples_seen"] < sent - 1000:
                    os.sched_yield()

        block = recorder(str(base), file_format="both", length=500, policy="lossless", sample_rate=rate,
                         recording=False)
        tb = gr.top_block()
        begin = source()
        tb.connect(begin, block)
        tb.run()
        counts = block.statistics()
        self.assertEqual(counts["samples_written"] + counts["samples_skipped"], counts["samples_seen"])
        self.assertGreater(counts["samples_skipped"], 0)
        (meta,) = base.parent.glob("*.sigmf-meta")
        captures = json.loads(meta.read_text())["captures"]
        got = samples_of(self.rows()).real
        self.assertGreaterEqual(len(captures), 2)
        for capture in captures:
            sample = got[capture["core:sample_start"]] - 1
            expected = 1_700_000_000.5 + sample / rate
            told = datetime.fromisoformat(capture["core:datetime"].replace("Z", "+00:00")).timestamp()
            self.assertAlmostEqual(told, expected, places=5)

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
