#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""The display as a block of a flowgraph: its parameters, messages, statistics, window and cost."""


import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest
from PyQt5 import QtCore, QtWidgets

if __package__:  # collected by pytest from the source tree
    from . import display, recorder
    from .contract.errors import EMindError, UsageError
    from .gui.scene import Scene
    from .qa_display_case import COUNTS, RATE, Shown, application, detection, pdu
else:  # run by ctest on the module that was built
    from gnuradio.emind import display, recorder
    from gnuradio.emind.contract.errors import EMindError, UsageError
    from gnuradio.emind.gui.scene import Scene
    from qa_display_case import COUNTS, RATE, Shown, application, detection, pdu


class qa_display(Shown):
    def test_messages_of_other_blocks_change_nothing_and_abort_nothing(self):
        """Qt ends the program where one of its timers raises."""
        application()
        block = display(sample_rate=RATE)
        shown = Scene(RATE)
        block._on_detection(detection(0, "QPSK"))
        block._on_statistics(pdu(COUNTS))
        said = {"label": "QPSK", "confidence": 0.9}
        for other in ({"sample_start": "five"}, {"sample_start": 5, "modulation": {**said, "confidence": "high"}},
                      {"sample_start": 5, "rx_rate": "fast"}, {"sample_start": 5, "sample_count": None}):
            block._on_detection(pdu({"modulation": said, **other}))
        for other in ({"windows_seen": "many"}, {"latency_ms_p50": 1.0}, {"samples_written": "all"}, {1: 2}):
            block._on_statistics(pdu(other))
        for other in (pmt.PMT_NIL, pmt.intern("QPSK"), pmt.init_u8vector(1, [1])):
            block._on_detection(other)
            block._on_statistics(other)
        block._feed(shown)
        self.assertEqual([(run.start, run.stop, run.windows) for run in shown.runs], [(0, 1024, 1)])
        self.assertIn("900 inferred", "\n".join(shown.statistics_text()))
        self.assertEqual(shown.recorder, {})

    def test_statistics_are_told_in_words(self):
        block, window, _ = self.shown(np.zeros(10_000))
        self.assertIn("no statistics", window.statistics.text())
        block._on_statistics(pdu(COUNTS))
        block._on_async(pmt.cons(pmt.intern("uhd_async_msg"), pmt.to_pmt({"overflows": 2})))
        block._on_statistics(pdu({"samples_written": 5000, "samples_dropped": 7, "rows": 5, "error": ""}))
        window.refresh()
        text = window.statistics.text()
        for part in ("coverage 96.0 % of 1,000 windows", "40 skipped", "latency 12 ms (half), 31 ms", "2 overflows",
                     "3 gaps", "emind-nano on torch", "5,000 samples in 5 rows written, 7 dropped"):
            self.assertIn(part, text)
        block._on_statistics(pdu({"samples_written": 5000, "samples_dropped": 7, "rows": 5, "error": "disk full"}))
        window.refresh()
        self.assertIn("recording ended: disk full", window.statistics.text())

    def test_one_fft_a_line_at_any_rate_and_memory_of_one_picture(self):
        block = display(sample_rate=20e6, span_s=0.1)
        tb = gr.top_block()
        tb.connect(blocks.null_source(gr.sizeof_gr_complex), blocks.head(gr.sizeof_gr_complex, 10_000_000), block)
        tb.run()
        lines, _ = block._waterfall.lines()
        self.assertEqual(len(lines), block._waterfall.rows)
        self.assertLessEqual(block.ffts(), 0.5 / 0.1 * block._waterfall.rows + 1)  # half a second: five pictures
        self.assertGreater(block.ffts(), 4 * block._waterfall.rows)
        for k in range(10_000):
            block._on_detection(detection(1024 * k, ("QPSK", "BPSK")[k % 2]))
        block.qwidget().refresh()
        scene = block.qwidget()._scene
        self.assertLessEqual(len(scene.boxes) + len(scene.runs), 500)

    def test_a_new_rate_starts_the_picture_anew_and_the_centre_follows_the_tags(self):
        tags = []
        for offset, key, value in ((0, "rx_freq", 868e6), (60_000, "rx_rate", 2e6)):
            tag = gr.tag_t()
            tag.offset, tag.key, tag.value = offset, pmt.intern(key), pmt.from_double(value)
            tags.append(tag)
        block, window, _ = self.shown(np.zeros(100_000), [detection(70_000, "QPSK")], tags, span_s=0.1)
        self.assertEqual((window.waterfall._rate, window.waterfall._center), (2e6, 868e6))
        box = window._scene.boxes[0]
        self.assertEqual(box.start + block._origin, 70_000)
        self.assertEqual(block._origin, 60_000)

    def test_it_draws_no_oftener_than_asked_and_not_while_hidden(self):
        block, window, _ = self.shown(np.zeros(10_000), frame_rate=20.0)
        self.assertEqual(window._timer.interval(), 50)
        before = window.frames
        window.hide()
        window._tick()
        self.assertEqual(window.frames, before)
        window.show()
        window._tick()
        self.assertEqual(window.frames, before + 1)

    def test_closing_the_window_loses_nothing_of_a_recording(self):
        """The window is destroyed in mid-stream; every sample reaches the recorder and the flowgraph ends by itself."""
        import tempfile
        import threading
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            half, closed = threading.Event(), threading.Event()

            class source(gr.sync_block):
                def __init__(self):
                    gr.sync_block.__init__(self, "source", None, [np.complex64])
                    self.sent = 0

                def work(self, input_items, output_items):
                    if self.sent >= 400_000:
                        return -1
                    if self.sent >= 200_000:
                        half.set()
                        closed.wait(60)
                    count = min(8000, len(output_items[0]))
                    output_items[0][:count] = 1
                    self.sent += count
                    return count

            block = display(sample_rate=RATE)
            kept = recorder(str(Path(folder) / "take"), sample_rate=RATE, policy="lossless")
            tb = gr.top_block()
            begin = source()
            tb.connect(begin, block)
            tb.connect(begin, kept)
            window = block.qwidget()
            window.setAttribute(QtCore.Qt.WA_DeleteOnClose)
            window.show()
            tb.start()
            self.assertTrue(half.wait(60))
            window.close()
            QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
            block._on_detection(detection(0, "QPSK"))
            closed.set()
            tb.wait()
            self.assertGreaterEqual(begin.sent, 400_000)
            self.assertEqual(kept.statistics()["samples_written"], begin.sent)
            self.assertEqual(len(list(Path(folder).glob("*.parquet"))), 1)

    def test_messages_reach_it_while_it_runs(self):
        block = display(sample_rate=RATE)
        tb = gr.top_block()
        throttled = blocks.throttle(gr.sizeof_gr_complex, 1e5, True)
        tb.connect(blocks.null_source(gr.sizeof_gr_complex), throttled, block)
        for port, message in (("detections", detection(0, "QPSK")), ("statistics", pdu(COUNTS)),
                              ("async_msgs", pmt.cons(pmt.intern("a"), pmt.to_pmt({"overflows": 1})))):
            strobe = blocks.message_strobe(message, 5)
            tb.msg_connect(strobe, "strobe", block, port)
        tb.start()
        window = block.qwidget()
        timer = QtCore.QElapsedTimer()
        timer.start()
        while timer.elapsed() < 60_000:
            window.refresh()
            if window._scene.runs and window._scene.counts and window._scene.overflows:
                break
        tb.stop()
        tb.wait()
        self.assertTrue(window._scene.runs and window._scene.counts and window._scene.overflows)

    def test_messages_that_are_none_change_nothing(self):
        _, window, _ = self.shown(np.zeros(10_000), [pmt.from_long(3), pmt.intern("x"), pdu({"modulation": 3})])
        self.assertFalse(window._scene.runs)

    def test_impossible_parameters_are_refused(self):
        for parameters in ({"sample_rate": 0.0}, {"span_s": 0.0}, {"fft_size": 500}, {"frame_rate": 0.0},
                           {"offset": 6e5}, {"bandwidth": 2e6}, {"level_min": 0.0, "level_max": -10.0}):
            with self.assertRaises(UsageError):
                display(**{"sample_rate": RATE, **parameters})

    def test_without_qt_application_the_reason_is_one_line(self):
        import subprocess
        import sys

        code = ("import sys\nif sys.argv[1] == 'hide': sys.modules['PyQt5'] = None\n"
                f"from {display.__module__.rsplit('.', 1)[0]} import display, receiver\n"
                "try:\n    display()\nexcept Exception as fault:\n    print(type(fault).__name__, fault)")
        for what, says in (("hide", "python3-pyqt5"), ("leave", "QT GUI")):
            done = subprocess.run([sys.executable, "-c", code, what], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(done.stdout.startswith(EMindError.__name__), done.stdout)
            self.assertIn(says, done.stdout)
            self.assertEqual(len(done.stdout.splitlines()), 1)

    def test_a_window_that_is_too_small_at_first_is_enlarged_once(self):
        block = display(sample_rate=RATE)
        area = QtWidgets.QScrollArea()
        area.setWidgetResizable(True)
        area.setWidget(block.qwidget())
        area.resize(340, 400)
        area.show()
        for _ in range(3):
            QtWidgets.QApplication.processEvents()
        screen = QtWidgets.QApplication.primaryScreen().availableSize()
        self.assertEqual((area.width(), area.height()), (min(860, screen.width()), min(720, screen.height())))
        area.resize(340, 400)  # a person's wish
        area.hide()
        area.show()
        QtWidgets.QApplication.processEvents()
        self.assertEqual((area.width(), area.height()), (340, 400))


if __name__ == "__main__":
    gr_unittest.run(qa_display)
