#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Engines that fail, stops and starts at bad moments, several blocks: where the windows went is always known."""

import threading

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import inference, overlap_add, windowing
    from .qa_chain import LABELS, LENGTH, PATIENCE_S, AccountedFor, Chain, FakeEngine, class_of, known, make_tag, until, workers
else:  # run by ctest on the module that was built
    from gnuradio.emind import inference, overlap_add, windowing
    from qa_chain import LABELS, LENGTH, PATIENCE_S, AccountedFor, Chain, FakeEngine, class_of, known, make_tag, until, workers


class qa_faults(AccountedFor):
    def test_an_engine_that_raises_ends_a_lossless_flowgraph(self):
        engine = FakeEngine(error=RuntimeError("out of order"))
        chain = Chain(known(10), engine, repeat=True).run()  # would never end by itself
        self.assertIs(chain.inference.error(), engine.error)
        self.assertEqual(chain.tags(), [])
        self.assert_adds_up(chain.inference.statistics())

    def test_an_engine_that_raises_leaves_a_realtime_stream_running_without_answers(self):
        samples = known(500)
        engine = FakeEngine(error=RuntimeError("out of order"))
        chain = Chain(samples, engine, policy="realtime").run()
        np.testing.assert_array_equal(chain.out, samples)
        self.assertEqual(chain.tags(), [])
        self.assertIs(chain.inference.error(), engine.error)
        self.assertEqual(chain.inference.statistics()["windows_skipped"], 500)

    def test_an_engine_that_leaves_windows_out_is_an_error_and_not_a_shift(self):
        engine = FakeEngine()
        engine.infer = lambda windows, rates: {"modulation": np.zeros((len(windows) - 1, len(LABELS)), np.float32)}
        chain = Chain(known(10), engine).run()
        self.assertIsInstance(chain.inference.error(), ValueError)

    def test_stop_while_the_ring_is_full_ends_everything(self):
        for policy in ("lossless", "realtime"):
            engine = FakeEngine(held=True)
            chain = Chain(known(10), engine, repeat=True, policy=policy, batch=2, hold=8)
            chain.tb.start()
            self.assertTrue(engine.entered.wait(PATIENCE_S))
            until(lambda: chain.inference.statistics()["queue_depth"] >= 2)
            chain.tb.stop()
            engine.open.set()
            chain.tb.wait()
            self.assert_adds_up(chain.inference.statistics())
            self.assertEqual(workers(), [])

    def test_start_after_stop_begins_anew(self):
        samples = known(50)
        tags = [make_tag(0, "rx_freq", pmt.from_double(1.0)), make_tag(1000, "rx_freq", pmt.from_double(2.0))]
        chain = Chain(samples, FakeEngine(), stream_tags=tags, hop=32)
        seen = []
        for _ in range(2):
            chain.source.rewind()
            chain.source.set_data(samples.tolist(), tags)
            chain.sink.reset()
            chain.run()
            seen.append((chain.tags(), chain.inference.statistics()["windows_seen"], chain.windowing.gaps()))
            np.testing.assert_allclose(chain.out, samples[: len(chain.out)], rtol=0, atol=5e-6)
        self.assertEqual(seen[0], seen[1])
        self.assertGreater(len(seen[0][0]), 90)

    def test_two_inference_blocks_work_one_behind_the_other(self):
        samples = known(200)
        tb = gr.top_block()
        source, cutter = blocks.vector_source_c(samples.tolist()), windowing(LENGTH, 32)
        first = inference(length=LENGTH, engine=FakeEngine("modulation"))
        second = inference(length=LENGTH, engine=FakeEngine("radar"))
        adder, sink = overlap_add(LENGTH, 32), blocks.vector_sink_c()
        tb.connect(source, cutter, first, second, adder, sink)
        tb.run()
        keys = [str(tag.key) for tag in sink.tags()]
        count = (len(samples) - LENGTH) // 32 + 1
        self.assertEqual((keys.count("emind_modulation"), keys.count("emind_radar")), (count, count))
        by_key = [
            [(tag.offset, pmt.to_python(tag.value)["label"]) for tag in sink.tags() if str(tag.key) == key]
            for key in ("emind_modulation", "emind_radar")
        ]
        self.assertEqual(sorted(by_key[0]), sorted(by_key[1]))

    def test_two_chains_in_one_flowgraph_keep_their_windows_apart(self):
        one, other = known(150, seed=1), known(150, seed=2)
        tb = gr.top_block()
        kept = []
        for samples in (one, other):
            parts = [
                blocks.vector_source_c(samples.tolist()), windowing(LENGTH, LENGTH),
                inference(length=LENGTH, engine=FakeEngine()), overlap_add(LENGTH, LENGTH), blocks.vector_sink_c(),
            ]  # fmt: skip
            tb.connect(*parts)
            kept.append(parts)
        tb.run()
        for samples, parts in zip((one, other), kept):
            found = sorted((tag.offset, pmt.to_python(tag.value)["label"]) for tag in parts[-1].tags())
            starts = range(0, len(samples), LENGTH)
            self.assertEqual(found, [(at, LABELS[class_of(samples[at : at + LENGTH])]) for at in starts])

    def test_an_engine_that_raises_once_costs_its_windows_and_goes_on(self):
        for fault in (RuntimeError("out of order"), SystemExit(3)):
            engine = FakeEngine()
            chain = Chain(known(100), engine, repeat=True, policy="realtime", batch=4, hold=64)
            chain.tb.start()
            until(lambda: chain.inference.statistics()["windows_inferred"] > 0)
            engine.error = fault
            until(lambda: chain.inference.statistics()["skipped_failed"] > 0)  # or late, where the machine is slow
            engine.error = None
            before = chain.inference.statistics()["windows_inferred"]
            until(lambda: chain.inference.statistics()["windows_inferred"] > before)
            chain.tb.stop()
            chain.tb.wait()
            counts = chain.inference.statistics()
            self.assert_adds_up(counts)
            self.assertGreater(counts["skipped_failed"], 0)
            self.assertGreaterEqual(counts["engine_errors"], 1)
            self.assertIs(chain.inference.error(), fault)

    def test_an_engine_that_asks_to_exit_ends_a_lossless_flowgraph_and_not_the_program(self):
        engine = FakeEngine(error=SystemExit(3))
        chain = Chain(known(10), engine, repeat=True).run()
        self.assertIs(chain.inference.error(), engine.error)
        self.assert_adds_up(chain.inference.statistics())

    def kill_worker(self, chain):
        """End the thread of the worker from within, where nothing catches it."""
        worker = chain.inference._worker
        thread, ready = worker._threads[0], worker._ready

        def dies():
            if threading.current_thread() is not thread:  # the stream asks as well, when it hands over a batch
                return ready()
            worker._ready = ready
            raise SystemExit  # a thread that raises this ends without a word

        worker._ready = dies
        return thread

    def test_a_realtime_stream_gets_a_new_worker_when_the_old_one_dies(self):
        chain = Chain(known(100), FakeEngine(), repeat=True, policy="realtime", batch=4, hold=64)
        chain.tb.start()
        until(lambda: chain.inference.statistics()["windows_inferred"] > 0)
        dead = self.kill_worker(chain)
        until(lambda: chain.inference.statistics()["engine_errors"] == 1)
        before = chain.inference.statistics()["windows_inferred"]
        until(lambda: chain.inference.statistics()["windows_inferred"] > before)
        self.assertFalse(dead.is_alive())
        chain.tb.stop()
        chain.tb.wait()
        self.assert_adds_up(chain.inference.statistics())
        self.assertIn("died", str(chain.inference.error()))

    def test_a_lossless_flowgraph_ends_when_the_worker_dies(self):
        chain = Chain(known(100), FakeEngine(), repeat=True, batch=4)
        chain.tb.start()
        until(lambda: chain.inference.statistics()["windows_inferred"] > 0)
        self.kill_worker(chain)
        chain.tb.wait()
        self.assertIn("died", str(chain.inference.error()))
        self.assert_adds_up(chain.inference.statistics())

    def test_a_stream_that_ends_in_mid_window_gives_every_whole_window(self):
        samples = known(10)[:-20]
        for policy in ("lossless", "realtime"):
            chain = Chain(samples, FakeEngine(), policy=policy).run()
            counts = chain.inference.statistics()
            self.assertEqual((counts["windows_seen"], counts["windows_inferred"]), (9, 9))
            np.testing.assert_array_equal(chain.out, samples[: 9 * LENGTH])

    def test_a_run_after_a_failed_one_begins_anew(self):
        engine = FakeEngine(error=RuntimeError("out of order"))
        chain = Chain(known(50), engine).run()
        self.assertEqual(chain.inference.statistics()["engine_errors"], 1)
        engine.error = None
        chain.source.rewind()
        chain.sink.reset()
        chain.run()
        counts = chain.inference.statistics()
        self.assertIsNone(chain.inference.error())
        self.assertEqual((counts["windows_inferred"], counts["engine_errors"]), (50, 0))

    def test_windows_end_where_the_rate_changes_and_each_goes_to_the_engine_with_its_own(self):
        tags = [make_tag(0, "rx_rate", pmt.from_double(1e6)), make_tag(200, "rx_rate", pmt.from_double(2e6)),
                make_tag(400, "rx_freq", pmt.from_double(1e8)), make_tag(500, "rx_rate", pmt.from_double(5e5))]
        for hop in (LENGTH, 32):
            samples, engine = known(12), FakeEngine()
            chain = Chain(samples, engine, hop, stream_tags=tags, sample_rate=3e6).run()
            rate_at = [(500, 5e5), (200, 2e6), (0, 1e6)]
            starts = [d["sample_start"] for d in chain.detections()]
            expected = [next(rate for first, rate in rate_at if start >= first) for start in starts]
            self.assertEqual(np.concatenate(engine.rates).tolist(), expected)
            self.assertEqual([d["rx_rate"] for d in chain.detections()], expected)
            self.assertTrue({200, 500} <= set(starts))
            for d in chain.detections():  # none straddles a change
                end = d["sample_start"] + d["sample_count"]
                self.assertFalse(any(d["sample_start"] < at < end for at in (200, 500)))


if __name__ == "__main__":
    gr_unittest.run(qa_faults)
