#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#

import json
import tempfile
import threading
from pathlib import Path

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import receiver, recorder
    from .contract.errors import UsageError
    from .contract.window import WindowSpec
    from .qa_chain import LABELS, LENGTH, FakeEngine, make_tag
    from .storage.parquet import Reader
else:  # run by ctest on the module that was built
    from gnuradio.emind import receiver, recorder
    from gnuradio.emind.contract.errors import UsageError
    from gnuradio.emind.contract.window import WindowSpec
    from gnuradio.emind.storage.parquet import Reader
    from qa_chain import LABELS, LENGTH, FakeEngine, make_tag


class PhaseEngine(FakeEngine):
    """Says BPSK where the window's phase hardly turns, else QPSK."""

    def class_of(self, window):
        turn = abs(np.angle((window[1:] * window[:-1].conj()).sum()))
        return LABELS.index("BPSK" if turn < 0.05 else "QPSK")


def tone(count, turns):
    """Complex tone of ``turns`` turns a sample."""
    return np.exp(2j * np.pi * turns * np.arange(count)).astype(np.complex64)


class qa_receiver(gr_unittest.TestCase):
    def run_block(self, block, samples, stream_tags=()):
        tb = gr.top_block()
        source = blocks.vector_source_c(samples.tolist(), False, 1, list(stream_tags))
        sink, messages = blocks.vector_sink_c(), blocks.message_debug()
        reports = blocks.message_debug()
        tb.connect(source, block, sink)
        tb.msg_connect(block, "detections", messages, "store")
        tb.msg_connect(block, "statistics", reports, "store")
        tb.run()
        self.assertNotIn("emind-worker", [thread.name for thread in threading.enumerate()])
        self.assertGreaterEqual(reports.num_messages(), 1)
        detections = [pmt.to_python(pmt.car(messages.get_message(n))) for n in range(messages.num_messages())]
        return np.array(sink.data(), np.complex64), sink.tags(), detections

    def test_without_tuning_sample_k_in_is_sample_k_out(self):
        samples = tone(6400, 0.01)
        for hop in (0, 32):
            block = receiver(engine=PhaseEngine(), hop=hop, policy="lossless")
            out, tags, detections = self.run_block(block, samples, [make_tag(999, "mark", pmt.PMT_T)])
            np.testing.assert_allclose(out, samples[: len(out)], rtol=0, atol=1e-6)
            answers = sorted(tag.offset for tag in tags if str(tag.key) == "emind_modulation")
            self.assertEqual(answers, list(range(0, 6400 - LENGTH + 1, hop or LENGTH)))
            self.assertEqual([d["sample_start"] for d in detections], answers)
            self.assertEqual([tag.offset for tag in tags if str(tag.key) == "mark"], [999])
            self.assertEqual(block.statistics()["windows_inferred"], len(answers))

    def test_the_hop_is_the_weights_own_unless_told_otherwise(self):
        block = receiver(engine=PhaseEngine(spec=WindowSpec(length=LENGTH, hop=16)), policy="lossless")
        self.run_block(block, tone(640, 0.01))
        self.assertEqual(block.statistics()["windows_seen"], (640 - LENGTH) // 16 + 1)

    def test_an_offset_and_a_bandwidth_shift_and_decimate(self):
        rate, offset = 1e6, 2e5
        engine = PhaseEngine()
        block = receiver(engine=engine, sample_rate=rate, offset=offset, bandwidth=5e4, policy="lossless")
        self.assertEqual((block.decimation, block.rate), (7, rate / 7))
        tags = [make_tag(0, "rx_rate", pmt.from_double(rate)), make_tag(0, "rx_freq", pmt.from_double(1e8))]
        tags += [make_tag(0, "rx_time", pmt.make_tuple(pmt.from_uint64(5), pmt.from_double(0.25))),
                 make_tag(35_000, "rx_freq", pmt.from_double(2e8)), make_tag(42_000, "mark", pmt.from_double(1e8))]
        out, found, detections = self.run_block(block, tone(70_000, offset / rate), tags)
        told = [(tag.offset, str(tag.key), pmt.to_python(tag.value)) for tag in found
                if not str(tag.key).startswith("emind_")]
        self.assertEqual(sorted(told), [  # what holds on the stream that comes out
            (0, "rx_freq", 1e8 + offset), (0, "rx_rate", rate / 7), (0, "rx_time", (5, 0.25)),
            (5000, "rx_freq", 2e8 + offset), (6000, "mark", 1e8)])
        np.testing.assert_allclose(np.abs(out[100:]), 1, atol=1e-3)  # in the pass band, and nothing aliased
        np.testing.assert_allclose(np.angle(out[101:] * out[100:-1].conj()), 0, atol=1e-3)  # at zero
        np.testing.assert_allclose(np.concatenate(engine.rates), rate / 7)
        self.assertEqual((detections[0]["rx_freq"], detections[-1]["rx_freq"]), (1e8 + offset, 2e8 + offset))
        self.assertAlmostEqual(detections[-1]["rx_rate"], rate / 7)
        self.assertEqual(detections[-1]["modulation"]["label"], "BPSK")
        self.assertEqual(block.gaps(), 1)  # where the frequency changes

    def retuned(self, stream_tags, then, count=280_000):
        """Detections and tags of a receiver at 200 kHz, tuned to ``then`` when half of the samples have been sent."""
        rate = 1e6
        block = receiver(engine=PhaseEngine(), sample_rate=rate, offset=2e5, bandwidth=5e4, policy="lossless")

        class sender(gr.sync_block):
            def __init__(self):
                gr.sync_block.__init__(self, "sender", None, [np.complex64])
                self.x, self.sent = tone(count, 2e5 / rate), 0

            def work(self, input_items, output_items):
                if not self.sent:
                    for key, value in stream_tags:
                        self.add_item_tag(0, 0, pmt.intern(key), pmt.from_double(value))
                part = self.x[self.sent : self.sent + min(len(output_items[0]), 4096)]
                output_items[0][: len(part)] = part
                if self.sent < count // 2 <= self.sent + len(part):
                    block.set_offset(then)
                self.sent += len(part)
                return len(part) or -1

        tb, source, sink, messages = gr.top_block(), sender(), blocks.vector_sink_c(), blocks.message_debug()
        tb.connect(source, block, sink)
        tb.msg_connect(block, "detections", messages, "store")
        tb.run()
        detections = [pmt.to_python(pmt.car(messages.get_message(n))) for n in range(messages.num_messages())]
        return block, detections, sink.tags()

    def test_the_offset_changes_while_it_runs_and_no_window_lies_across(self):
        block, detections, tags = self.retuned([("rx_freq", 1e8), ("rx_rate", 1e6)], 1.8e5)
        self.assertEqual(block.gaps(), 1)
        told = [(tag.offset, pmt.to_python(tag.value)) for tag in tags if str(tag.key) == "rx_freq"]
        self.assertEqual([freq for _, freq in told], [1e8 + 2e5, 1e8 + 1.8e5])
        change = told[1][0]
        self.assertEqual([tag.offset for tag in tags if str(tag.key) == "freq"], [])
        for one in detections[1:]:  # the first holds the filter's beginning
            before = one["sample_start"] + one["sample_count"] <= change
            self.assertTrue(before or one["sample_start"] >= change)
            self.assertEqual((one["rx_freq"], one["modulation"]["label"]),
                             (1e8 + 2e5, "BPSK") if before else (1e8 + 1.8e5, "QPSK"))
        self.assertTrue(0 < change < 40_000 and detections[-1]["sample_start"] > change)

    def test_the_offset_changes_though_the_frequency_is_not_known(self):
        block, detections, _ = self.retuned([], 1.8e5)
        self.assertEqual(block.gaps(), 1)
        labels = [one["modulation"]["label"] for one in detections[1:]]
        self.assertEqual(sorted(labels), labels)  # BPSK, then QPSK, and nothing between
        self.assertEqual(set(labels), {"BPSK", "QPSK"})
        self.assertTrue(all("rx_freq" not in one for one in detections))

    def test_an_offset_that_cannot_be_is_refused_and_leaves_the_old_one(self):
        block = receiver(engine=PhaseEngine(), sample_rate=1e6, offset=2e5, policy="lossless")
        with self.assertRaisesRegex(UsageError, "outside the band"):
            block.set_offset(6e5)
        still = receiver(engine=PhaseEngine(), sample_rate=1e6, policy="lossless")
        still.set_offset(0.0)
        with self.assertRaisesRegex(UsageError, "cannot be tuned"):
            still.set_offset(1e5)

    def test_the_gate_changes_while_it_runs(self):
        rng = np.random.default_rng(1)
        noise = (rng.standard_normal((400 * LENGTH, 2)) @ [0.01, 0.01j]).astype(np.complex64)
        block = receiver(engine=PhaseEngine(), sample_rate=1e6, policy="lossless")
        block.set_gate_db(10.0)  # before the start, which has it from its first window on
        with self.assertRaisesRegex(UsageError, "gate_db -1"):
            block.set_gate_db(-1)
        self.run_block(block, noise)
        self.assertGreater(block.statistics()["windows_gated"], 200)
        block = receiver(engine=PhaseEngine(), sample_rate=1e6, policy="lossless", gate_db=10.0)

        class sender(gr.sync_block):
            def __init__(self):
                gr.sync_block.__init__(self, "sender", None, [np.complex64])
                self.sent = 0

            def work(self, input_items, output_items):
                part = noise[self.sent : self.sent + min(len(output_items[0]), LENGTH)]
                output_items[0][: len(part)] = part
                self.sent += len(part)
                if self.sent == 200 * LENGTH:
                    block.set_gate_db(None)
                return len(part) or -1

        tb, source, sink = gr.top_block(), sender(), blocks.null_sink(gr.sizeof_gr_complex)
        tb.connect(source, block, sink)
        tb.run()
        counts = block.statistics()
        self.assertTrue(counts["windows_inferred"] >= 180 and counts["windows_seen"] == 400, counts)

    def test_a_recorder_behind_a_tuned_receiver_states_what_it_records(self):
        rate, offset = 1e6, 1e5
        tags = [make_tag(0, "rx_rate", pmt.from_double(rate)), make_tag(0, "rx_freq", pmt.from_double(868e6))]
        with tempfile.TemporaryDirectory() as folder:
            first = receiver(engine=PhaseEngine(), sample_rate=rate, offset=offset, bandwidth=1e5, policy="lossless")
            again = receiver(engine=PhaseEngine(), sample_rate=first.rate, offset=-2e4, policy="lossless")
            keep = recorder(folder + "/take", file_format="both", sample_rate=again.rate, policy="lossless")
            tb = gr.top_block()
            tb.connect(blocks.vector_source_c(tone(60_000, 0.1).tolist(), False, 1, tags), first, again, keep)
            tb.run()
            (parquet,), (meta,) = Path(folder).glob("*.parquet"), Path(folder).glob("*.sigmf-meta")
            with Reader(parquet) as rows:
                self.assertEqual({row.sampling_rate for row in rows}, {rate / 3})
            said = json.loads(meta.read_text())
        self.assertEqual(said["global"]["core:sample_rate"], rate / 3)
        self.assertEqual({capture["core:frequency"] for capture in said["captures"]}, {868.08e6})

    def test_an_offset_alone_shifts_and_keeps_the_rate(self):
        block = receiver(engine=PhaseEngine(), sample_rate=1e6, offset=-1e5, policy="lossless")
        out, _, detections = self.run_block(block, tone(6400, -0.1))
        self.assertEqual((block.decimation, len(out)), (1, 6400))
        np.testing.assert_allclose(out, out[0], atol=1e-3)
        self.assertEqual({d["modulation"]["label"] for d in detections}, {"BPSK"})

    def test_realtime_is_the_default_and_loses_no_sample(self):
        samples = tone(64_000, 0.2)
        block = receiver(engine=PhaseEngine())
        out, _, _ = self.run_block(block, samples)
        np.testing.assert_array_equal(out, samples)
        counts = block.statistics()
        parts = counts["windows_inferred"] + counts["windows_skipped"] + counts["windows_gated"]
        self.assertEqual((counts["windows_seen"], parts), (1000, 1000))
        self.assertIsNone(block.error())

    def test_a_window_larger_than_a_default_buffer_does_not_freeze(self):
        samples = tone(300_000, 0.01)
        for options in ({}, {"offset": 1e4, "bandwidth": 1e5}):
            engine = PhaseEngine(spec=WindowSpec(length=50_000, hop=25_000))
            block = receiver(engine=engine, policy="lossless", **options)
            out, _, _ = self.run_block(block, samples)
            self.assertGreaterEqual(len(out) * block.decimation, 200_000)

    def test_arguments_that_cannot_work_are_refused_in_one_line(self):
        for options in (
            {"sample_rate": 0.0}, {"offset": 6e5}, {"bandwidth": 2e6}, {"bandwidth": -1.0}, {"hop": 65}, {"hop": -1},
            {"policy": "hurried"},
        ):  # fmt: skip
            with self.assertRaises(UsageError) as caught:
                receiver(engine=PhaseEngine(), **{"sample_rate": 1e6, **options})
            self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    gr_unittest.run(qa_receiver)
