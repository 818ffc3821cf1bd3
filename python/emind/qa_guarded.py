#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Blocks that raise, in flowgraphs that have to end nevertheless: a fault of these tests is that they never do."""

import threading

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from .contract.errors import EMindError
    from .guarded import Guarded, first_fault
else:  # run by ctest on the module that was built
    from gnuradio.emind.contract.errors import EMindError
    from gnuradio.emind.guarded import Guarded, first_fault

PATIENCE_S = 60


class fragile(Guarded, gr.basic_block):
    """Passes samples on, and raises in the method called ``where``."""

    def __init__(self, where=None, fault=None):
        gr.basic_block.__init__(self, "fragile", [np.complex64], [np.complex64])
        self.where, self.raised = where, fault or ZeroDivisionError("of a\n  test")
        self.message_port_register_in(pmt.intern("in"))
        self.set_msg_handler(pmt.intern("in"), self.take)

    def met(self, name):
        if name == self.where:
            raise self.raised

    def start(self):
        self.met("start")
        return True

    def stop(self):
        self.met("stop")
        return True

    def forecast(self, room, inputs):
        self.met("forecast")
        return [1] * inputs

    def general_work(self, inputs, outputs):
        self.met("work")
        count = min(len(inputs[0]), len(outputs[0]))
        outputs[0][:count] = inputs[0][:count]
        self.consume(0, count)
        return count

    def take(self, message):
        self.met("message")


def ended(block):
    """Whether an endless stream through the block ends by itself."""
    tb = gr.top_block(catch_exceptions=True)
    tb.connect(blocks.null_source(gr.sizeof_gr_complex), block, blocks.null_sink(gr.sizeof_gr_complex))
    over = threading.Event()

    def run():
        tb.start()
        if block.where == "message":
            block.to_basic_block()._post(pmt.intern("in"), pmt.PMT_T)
        tb.wait()
        over.set()

    threading.Thread(target=run, daemon=True).start()
    return over.wait(PATIENCE_S)


class qa_guarded(gr_unittest.TestCase):
    def test_what_a_block_raises_ends_the_flowgraph_and_is_told(self):
        for where in ("work", "forecast", "start", "message"):
            with self.subTest(where):
                block = fragile(where)
                self.assertTrue(ended(block))
                self.assertIs(block.fault, block.raised)
                self.assertEqual(str(first_fault([block])), "block fragile failed: ZeroDivisionError: of a test")

    def test_what_stop_raises_does_not_abort_the_program(self):
        block = fragile("stop")
        tb = gr.top_block(catch_exceptions=True)
        tb.connect(blocks.vector_source_c([1j] * 100), block, sink := blocks.vector_sink_c())
        tb.run()
        self.assertIs(block.fault, block.raised)
        self.assertEqual(len(sink.data()), 100)

    def test_the_next_run_begins_without_the_fault_of_the_last(self):
        block = fragile("work")
        tb = gr.top_block(catch_exceptions=True)
        tb.connect(blocks.vector_source_c([1j] * 100), block, sink := blocks.vector_sink_c())
        tb.run()
        self.assertEqual(len(sink.data()), 0)
        block.where = None
        tb.run()
        self.assertIsNone(block.fault)
        self.assertIsNone(first_fault([block]))

    def test_an_error_of_ours_is_told_by_its_text_alone_also_from_within_a_hierarchical_block(self):
        class outer:
            blocks = (fragile(), fragile("start", EMindError("the folder has gone")))

        outer.blocks[1].start()
        self.assertEqual(str(first_fault([object(), outer])), "block fragile failed: the folder has gone")


if __name__ == "__main__":
    gr_unittest.run(qa_guarded)
