#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What the tests of the display share: signals, messages, and the block with its window after samples have passed."""

import gc
import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # before Qt comes in

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest
from PyQt5 import QtWidgets

if __package__:  # collected by pytest from the source tree
    from . import display
else:  # run by ctest on the module that was built
    from gnuradio.emind import display

RATE = 1e6
COUNTS = {"windows_seen": 1000, "windows_inferred": 900, "windows_skipped": 40, "windows_gated": 60, "gaps": 3,
          "queue_depth": 0, "latency_ms_p50": 12.0, "latency_ms_p99": 31.0, "backend": "torch", "weights": "emind-nano"}


def application():
    """The one of this process; Qt aborts where a window is made without."""
    global _application
    _application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["qa_display"])
    return _application


def pdu(fields):
    return pmt.cons(pmt.to_pmt(fields), pmt.init_u8vector(0, []))


def detection(start, label, confidence=0.9, count=1024, **more):
    return pdu({"sample_start": start, "sample_count": count, "latency_ms": 5.0, "snr_db": 18.0,
                "modulation": {"label": label, "confidence": confidence, "family": "psk"}, **more})


def burst(count, start, stop, hertz, level=0.3):
    """Noise, and from start to stop a tone of some width around hertz."""
    rng = np.random.default_rng(3)
    time = np.arange(count)
    wide = np.cumsum(rng.choice([-0.1, 0.1], count // 8 + 1).repeat(8)[:count])  # some 30 kHz of frequency keying
    hiss = 0.003 * (rng.standard_normal((count, 2)) @ [1, 1j])
    return (hiss + level * ((time >= start) & (time < stop)) * np.exp(1j * (2 * np.pi * hertz / RATE * time + wide)))


class Shown(gr_unittest.TestCase):
    """Tests with an application, and windows that are taken down by the thread that made them."""

    def setUp(self):
        application()

    def tearDown(self):
        gc.collect()  # GNU Radio's blocks are in circles; windows left to the next block's thread would take Qt down

    def shown(self, samples, messages=(), tags=(), **parameters):
        """The block after samples have passed, and its window with the messages shown."""
        gc.collect()
        block = display(**{"sample_rate": RATE, "span_s": len(samples) / RATE, **parameters})
        tb = gr.top_block()
        tb.connect(blocks.vector_source_c(np.asarray(samples, np.complex64).tolist(), False, 1, list(tags)), block)
        tb.run()
        for message in messages:
            block._on_detection(message)
        window = block.qwidget()
        window.resize(800, 800)
        window.show()
        window.refresh()
        QtWidgets.QApplication.processEvents()
        return block, window, window.grab().toImage()
