#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What becomes of windows and detections when more come than can be dealt with."""

import threading
import time

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import inference
    from .qa_chain import LABELS, LENGTH, PATIENCE_S, AccountedFor, Chain, FakeEngine, class_of, known, make_tag, until
else:  # run by ctest on the module that was built
    from gnuradio.emind import inference
    from qa_chain import LABELS, LENGTH, PATIENCE_S, AccountedFor, Chain, FakeEngine, class_of, known, make_tag, until


class Receiver(gr.basic_block):
    """Takes messages while it is open, and says at the port ``done`` when it has dealt with one."""

    def __init__(self, shut):
        gr.basic_block.__init__(self, "receiver", None, None)
        self.got, self.most, self.open = [], 0, threading.Event()
        if not shut:
            self.open.set()
        self.message_port_register_in(pmt.intern("in"))
        self.message_port_register_out(pmt.intern("done"))
        self.set_msg_handler(pmt.intern("in"), self.take)

    def pending(self):
        return self.nmsgs(pmt.intern("in"))

    def take(self, message):
        self.most = max(self.most, self.pending())
        self.open.wait(PATIENCE_S)
        self.got.append(message)
        self.message_port_pub(pmt.intern("done"), pmt.PMT_T)


class qa_overload(AccountedFor):
    def test_lossless_answers_every_window_however_slow_the_engine(self):
        samples = known(600)
        engine = FakeEngine(held=True)
        chain = Chain(samples, engine, batch=4, hold=16)
        chain.tb.start()
        self.assertTrue(engine.entered.wait(PATIENCE_S))
        until(lambda: chain.inference.statistics()["queue_depth"] == 16)  # the ring is full, the stream waits
        self.assertEqual(chain.inference.nitems_written(0), 0)
        engine.open.set()
        chain.tb.wait()
        counts = chain.inference.statistics()
        self.assertEqual((counts["windows_seen"], counts["windows_inferred"]), (600, 600))
        self.assertEqual(len(chain.tags()), 600)
        np.testing.assert_array_equal(chain.out, samples)

    def test_realtime_passes_every_sample_untagged_when_the_engine_does_not_answer(self):
        samples = known(1000)
        own = [make_tag(at, "mark", pmt.from_long(at)) for at in (0, 77, 30_000)]
        engine = FakeEngine(held=True)
        chain = Chain(samples, engine, stream_tags=own, policy="realtime", batch=4, hold=16)
        chain.tb.start()
        self.assertTrue(engine.entered.wait(PATIENCE_S))
        until(lambda: chain.overlap_add.nitems_written(0) == len(samples))  # the engine still has its first batch
        engine.open.set()
        chain.tb.wait()
        np.testing.assert_array_equal(chain.out, samples)
        self.assertEqual(chain.tags(), [])
        self.assertEqual(chain.detections(), [])
        self.assertEqual(chain.tags("mark"), [(0, 0), (77, 77), (30_000, 30_000)])
        counts = chain.inference.statistics()
        self.assertEqual((counts["windows_seen"], counts["windows_skipped"]), (1000, 1000))
        self.assertEqual(counts["windows_inferred"], 0)

    def test_realtime_tags_what_is_answered_in_time_and_counts_the_rest(self):
        samples = known(5000)
        chain = Chain(samples, FakeEngine(), policy="realtime").run()
        counts = chain.inference.statistics()
        self.assert_adds_up(counts)
        self.assertEqual(counts["windows_seen"], 5000)
        tags = chain.tags()
        self.assertEqual(len(tags), counts["windows_inferred"])
        for offset, value in tags:
            self.assertEqual(value["label"], LABELS[class_of(samples[offset : offset + LENGTH])])
        np.testing.assert_array_equal(chain.out, samples)

    def test_each_realtime_policy_loses_no_sample_and_accounts_for_each_window(self):
        samples = known(3000)
        for policy in ("realtime", "realtime-even", "realtime-skip-newest", "realtime-skip-oldest"):
            chain = Chain(samples, FakeEngine(), policy=policy, batch=4, hold=16).run()
            np.testing.assert_array_equal(chain.out, samples)
            counts = chain.inference.statistics()
            self.assert_adds_up(counts)
            self.assertEqual(counts["windows_seen"], 3000)
            self.assertEqual(len(chain.tags()), counts["windows_inferred"])
            self.assertGreater(counts["windows_inferred"], 0)
            self.assertGreater(counts["stall_ms_max"], 0)

    def with_receiver(self, samples, shut=False, acknowledges=False, **options):
        """A chain whose detections go to a receiver that may be held up."""
        chain = Chain(samples, FakeEngine(), **options)
        chain.receiver = Receiver(shut)
        chain.tb.msg_connect(chain.inference, "detections", chain.receiver, "in")
        if acknowledges:
            chain.tb.msg_connect(chain.receiver, "done", chain.inference, "detections_ack")
        return chain

    def test_a_slow_receiver_that_is_watched_never_has_more_pending_than_the_limit(self):
        samples = known(1000)
        chain = self.with_receiver(samples, shut=True, policy="realtime", detections_limit=10)
        chain.inference.watch_detections(chain.receiver, "in")
        chain.tb.start()
        until(lambda: chain.overlap_add.nitems_written(0) == len(samples))  # it stopped nothing
        self.assertLessEqual(chain.receiver.pending(), 10)
        chain.receiver.open.set()
        chain.tb.wait()
        counts = chain.inference.statistics()
        self.assert_adds_up(counts)
        self.assertEqual(counts["detections_sent"] + counts["detections_dropped"], counts["windows_inferred"])
        self.assertLessEqual(counts["detections_sent"], 11)  # the limit, and one that the receiver has in hand
        self.assertEqual(len(chain.receiver.got), counts["detections_sent"])
        self.assertLessEqual(chain.receiver.most, 10)
        self.assertEqual(len(chain.tags()), counts["windows_inferred"])  # the stream's tags are all there

    def test_a_lossless_stream_waits_for_a_receiver_that_is_watched(self):
        samples = known(200)
        chain = self.with_receiver(samples, shut=True, detections_limit=10)
        chain.inference.watch_detections(chain.receiver, "in")
        chain.tb.start()
        until(lambda: chain.receiver.pending() == 10)
        self.assertLessEqual(chain.inference.nitems_written(0), 11)
        chain.receiver.open.set()
        chain.tb.wait()
        self.assertEqual(len(chain.receiver.got), 200)
        self.assertLessEqual(chain.receiver.most, 10)
        self.assertEqual(chain.inference.statistics()["detections_dropped"], 0)

    def test_a_receiver_that_acknowledges_never_has_more_pending_than_the_limit(self):
        samples = known(200)
        chain = self.with_receiver(samples, acknowledges=True, detections_limit=8)
        chain.run()
        self.assertEqual(len(chain.receiver.got), 200)
        self.assertEqual(chain.inference.statistics()["detections_dropped"], 0)

    def test_a_receiver_of_which_nothing_is_known_gets_so_many_a_second_and_no_more(self):
        samples = known(1000)
        begun = time.monotonic()
        chain = Chain(samples, FakeEngine(), policy="realtime", detections_limit=5).run()
        elapsed = time.monotonic() - begun
        counts = chain.inference.statistics()
        self.assertEqual(len(chain.detections()), counts["detections_sent"])
        self.assertGreaterEqual(counts["detections_sent"], 5)
        self.assertLessEqual(counts["detections_sent"], 5 + 5 * elapsed)
        self.assertEqual(counts["detections_sent"] + counts["detections_dropped"], counts["windows_inferred"])

    def test_nobody_listens_and_nothing_is_sent_or_dropped(self):
        tb = gr.top_block()
        source = blocks.vector_source_c(known(50).tolist(), False, LENGTH)
        block, sink = inference(length=LENGTH, engine=FakeEngine(), detections_limit=1), blocks.null_sink(8 * LENGTH)
        tb.connect(source, block, sink)
        tb.run()
        counts = block.statistics()
        self.assertEqual((counts["windows_inferred"], counts["detections_sent"]), (50, 0))
        self.assertEqual(counts["detections_dropped"], 0)


if __name__ == "__main__":
    gr_unittest.run(qa_overload)
