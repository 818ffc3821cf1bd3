#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Tags, detections and statistics of the inference block."""

import os
import subprocess
import sys

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import inference
    from .contract.errors import EMindError, UsageError
    from .contract.tags import STATISTICS_KEYS
    from .contract.window import WindowSpec
    from .qa_chain import LABELS, LENGTH, AccountedFor, Chain, FakeEngine, class_of, known, make_tag
else:  # run by ctest on the module that was built
    from gnuradio.emind import inference
    from gnuradio.emind.contract.errors import EMindError, UsageError
    from gnuradio.emind.contract.tags import STATISTICS_KEYS
    from gnuradio.emind.contract.window import WindowSpec
    from qa_chain import LABELS, LENGTH, AccountedFor, Chain, FakeEngine, class_of, known, make_tag


class qa_inference(AccountedFor):
    def test_each_tag_lies_on_its_windows_first_sample_for_any_hop(self):
        samples = known(100)
        own = [make_tag(at, "mark", pmt.from_long(at)) for at in (0, 1, 63, 64, 999, 3000)]
        for hop in (LENGTH, LENGTH // 2, 24):
            engine = FakeEngine()
            chain = Chain(samples, engine, hop, own).run()
            starts = range(0, len(samples) - LENGTH + 1, hop)
            expected = [LABELS[class_of(samples[start : start + LENGTH])] for start in starts]
            tags = chain.tags()
            # Content 0 mod 5 cannot be: magnitudes are 1 to 4. So every window was inferred, none gated.
            self.assertEqual([offset for offset, _ in tags], list(starts))
            self.assertEqual([value["label"] for _, value in tags], expected)
            self.assertGreater(len(set(expected)), 2)
            self.assertEqual(tags[0][1]["length"], LENGTH)
            self.assertAlmostEqual(tags[0][1]["confidence"], 0.8, places=6)
            self.assertEqual(chain.tags("mark"), [(at, at) for at in (0, 1, 63, 64, 999, 3000)])
            np.testing.assert_allclose(chain.out, samples[: len(chain.out)], rtol=0, atol=5e-6)
            counts = chain.inference.statistics()
            self.assertEqual(counts["windows_inferred"], len(starts))
            self.assert_adds_up(counts)

    def test_the_engine_sees_the_windows_as_they_are_with_their_rate(self):
        samples = known(40)
        tags = [make_tag(0, "rx_rate", pmt.from_double(2e6))]
        engine = FakeEngine()
        Chain(samples, engine, stream_tags=tags, sample_rate=1e6).run()
        np.testing.assert_array_equal(np.concatenate(engine.windows).reshape(-1), samples)
        np.testing.assert_array_equal(np.concatenate(engine.rates), 2e6)
        engine = FakeEngine()
        Chain(samples, engine, sample_rate=1e6).run()
        np.testing.assert_array_equal(np.concatenate(engine.rates), 1e6)
        engine = FakeEngine()
        Chain(samples, engine).run()
        self.assertTrue(np.isnan(np.concatenate(engine.rates)).all())

    def test_detections_agree_with_the_tags(self):
        samples = known(50)
        stream_tags = [
            make_tag(0, "rx_rate", pmt.from_double(1e6)),
            make_tag(0, "rx_freq", pmt.from_double(433e6)),
            make_tag(0, "rx_time", pmt.make_tuple(pmt.from_uint64(100), pmt.from_double(0.9999))),
            make_tag(1000, "rx_freq", pmt.from_double(434e6)),
        ]
        for hop in (LENGTH, 24):
            chain = Chain(samples, FakeEngine(), hop, stream_tags).run()
            tags, detections = chain.tags(), chain.detections()
            self.assertEqual(len(tags), len(detections))
            for (offset, tag), detection in zip(tags, detections):
                self.assertEqual(detection["sample_start"], offset)
                self.assertEqual(detection["sample_count"], tag.pop("length"))
                self.assertEqual(detection["modulation"], tag)
                self.assertEqual(detection["rx_rate"], 1e6)
                self.assertEqual(detection["rx_freq"], 433e6 if offset < 1000 else 434e6)
                whole, fraction = detection["rx_time"]
                self.assertAlmostEqual(whole - 100 + fraction, 0.9999 + offset / 1e6, places=9)
                self.assertGreaterEqual(detection["latency_ms"], 0)
            self.assertEqual(chain.inference.statistics()["gaps"], 1)
            self.assertIn(1000, [offset for offset, _ in tags])

    def test_zeros_and_values_that_are_not_finite_never_reach_the_engine(self):
        samples = known(10)
        samples[2 * LENGTH : 3 * LENGTH] = 0
        samples[5 * LENGTH + 3] = np.nan
        samples[7 * LENGTH + 60] = np.inf
        engine = FakeEngine()
        chain = Chain(samples, engine).run()
        counts = chain.inference.statistics()
        self.assertEqual((counts["windows_gated"], counts["windows_inferred"]), (3, 7))
        self.assert_adds_up(counts)
        self.assertTrue(np.isfinite(np.concatenate(engine.windows).view(np.float32)).all())
        tags = dict(chain.tags())
        self.assertEqual(
            tags[2 * LENGTH], {"label": "noise", "confidence": 1.0, "length": LENGTH, "family": "noise"}
        )
        self.assertEqual(sorted(tags), [n * LENGTH for n in range(10) if n not in (5, 7)])
        self.assertEqual(len(chain.detections()), 8)

    def test_all_zeros_run_no_inference_at_all(self):
        engine = FakeEngine()
        chain = Chain(np.zeros(20 * LENGTH, np.complex64), engine).run()
        self.assertEqual(engine.windows, [])
        self.assertEqual(chain.inference.statistics()["windows_gated"], 20)
        self.assertEqual([value["label"] for _, value in chain.tags()], ["noise"] * 20)

    def test_the_gate_closes_on_windows_near_the_noise_floor(self):
        rng = np.random.default_rng(3)
        parts = rng.standard_normal((60 * LENGTH, 2)).astype(np.float32) * 0.01
        samples = parts.view(np.complex64)[:, 0].copy()
        loud = range(30, 40)
        samples[30 * LENGTH : 40 * LENGTH] *= 100
        chain = Chain(samples, FakeEngine(), gate_db=6.0).run()
        inferred = {d["sample_start"] // LENGTH for d in chain.detections() if d["modulation"]["confidence"] < 1}
        self.assertEqual({n for n in inferred if n >= 8}, set(loud))  # open until the floor has settled
        snr = {d["sample_start"] // LENGTH: d["snr_db"] for d in chain.detections() if "snr_db" in d}
        self.assertTrue(all(35 < snr[n] < 45 for n in loud))
        self.assert_adds_up(chain.inference.statistics())

    def test_a_window_cut_short_by_a_gap_says_how_long_it_is(self):
        tags = [make_tag(0, "rx_freq", pmt.from_double(1.0)), make_tag(100, "rx_freq", pmt.from_double(2.0))]
        chain = Chain(known(4), FakeEngine(), stream_tags=tags).run()
        lengths = [(at, value["length"]) for at, value in chain.tags()]
        self.assertEqual(lengths, [(0, 64), (64, 36), (100, 64), (164, 64)])
        self.assertEqual([d["sample_count"] for d in chain.detections()], [64, 36, 64, 64])

    def test_a_window_larger_than_a_default_buffer_does_not_freeze(self):
        length = 100_000
        samples = np.tile(known(25_000), 1)[: 5 * length]
        for policy in ("lossless", "realtime"):
            chain = Chain(samples, FakeEngine(length=length), length, length=length, policy=policy).run()
            np.testing.assert_array_equal(chain.out, samples)
            self.assertEqual(chain.inference.statistics()["windows_seen"], 5)

    def test_windows_without_windowing_lie_side_by_side(self):
        samples = known(20)
        tb = gr.top_block()
        source = blocks.vector_source_c(samples.tolist(), False, LENGTH)
        block, sink = inference(length=LENGTH, engine=FakeEngine()), blocks.vector_sink_c(LENGTH)
        messages = blocks.message_debug()
        tb.connect(source, block, sink)
        tb.msg_connect(block, "detections", messages, "store")
        tb.run()
        starts = [pmt.to_python(pmt.car(messages.get_message(n)))["sample_start"] for n in range(20)]
        self.assertEqual(starts, [n * LENGTH for n in range(20)])
        self.assertEqual([tag.offset for tag in sink.tags()], list(range(20)))

    def test_statistics_are_published_under_the_names_of_the_contract(self):
        chain = Chain(known(10), FakeEngine()).run()
        self.assertGreaterEqual(chain.reports.num_messages(), 1)
        report = pmt.to_python(pmt.car(chain.reports.get_message(0)))
        self.assertEqual(set(report), set(STATISTICS_KEYS))
        counts = chain.inference.statistics()
        self.assertEqual(set(counts), set(STATISTICS_KEYS))
        self.assertEqual((counts["queue_depth"], counts["backend"]), (0, "fake"))
        self.assertGreaterEqual(counts["latency_ms_p99"], counts["latency_ms_p50"])

    def test_a_rate_that_training_never_saw_is_said_in_the_statistics(self):
        spec = WindowSpec(length=LENGTH, hop=LENGTH, rate_min_hz=1e4, rate_max_hz=1e7)
        chain = Chain(known(5), FakeEngine(spec=spec), sample_rate=1e8).run()
        self.assertTrue(chain.inference.statistics()["rate_outside_training"])
        chain = Chain(known(5), FakeEngine(spec=spec), sample_rate=1e6).run()
        self.assertNotIn("rate_outside_training", chain.inference.statistics())

    def test_arguments_that_cannot_work_are_refused_in_one_line(self):
        for options in ({"policy": "hurried"}, {"batch": 0}, {"hold": 0}, {"max_latency_ms": -1.0}):
            with self.assertRaises(UsageError) as caught:
                inference(length=LENGTH, engine=FakeEngine(), **options)
            self.assertNotIn("\n", str(caught.exception))
        with self.assertRaises(EMindError) as caught:
            inference(length=128, engine=FakeEngine())
        self.assertIn("64", str(caught.exception))

    def test_importing_the_blocks_does_not_import_torch(self):
        package = inference.__module__.rpartition(".")[0]
        code = f"import sys, importlib; importlib.import_module({package!r}); sys.exit('torch' in sys.modules)"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.assertEqual(subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode, 0)


if __name__ == "__main__":
    gr_unittest.run(qa_inference)
