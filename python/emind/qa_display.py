#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#

import gc
import os
from collections import Counter

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # before Qt comes in

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest
from PyQt5 import QtCore, QtWidgets

if __package__:  # collected by pytest from the source tree
    from . import display, recorder
    from .contract.errors import EMindError, UsageError
    from .gui.scene import Scene
    from .gui.view import colour_of
else:  # run by ctest on the module that was built
    from gnuradio.emind import display, recorder
    from gnuradio.emind.contract.errors import EMindError, UsageError
    from gnuradio.emind.gui.scene import Scene
    from gnuradio.emind.gui.view import colour_of

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


class qa_display(gr_unittest.TestCase):
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

    def test_thousands_of_detections_cost_no_more_each_than_few(self):
        """Their votes are counted as they come: a look through all of the last ones at each was half a core."""
        scene = Scene(RATE, 0.25, 0.125, 0.03)
        for number in range(3000):
            scene.detection({"sample_start": 256 * number, "sample_count": 256,
                             "modulation": {"label": "QPSK" if number < 1500 else "8PSK", "confidence": 0.9}})
            recent = scene._recent
            if number % 100 == 0:
                self.assertEqual(+recent.given["modulation"],
                                 Counter(answer.labels["modulation"] for answer in recent.answers))
        self.assertLess(len(recent.answers), 600)
        self.assertEqual([run.labels["modulation"] for run in scene.runs], ["QPSK", "8PSK"])
        self.assertEqual([run.start for run in scene.runs], [0, 256 * 1500])

    def test_the_pixels_of_a_box_lie_where_the_signal_is(self):
        start, stop, hertz = 204_800, 409_600, 200e3
        x = burst(800_000, start, stop, hertz)
        _, window, image = self.shown(x, [detection(s, "QPSK") for s in range(start, stop, 1024)])
        view = window.waterfall
        area = view.plot().translated(view.pos())
        box = colour_of("QPSK").rgb()

        def coloured(x, y):
            return any(image.pixel(round(x) + dx, round(y) + dy) == box for dx in (-1, 0, 1) for dy in (-1, 0, 1))

        # Of 800,000 samples from top (newest) to bottom and 1 MHz from left to right, reckoned here by itself.
        top = area.top() + area.height() * (1 - stop / 800_000)
        bottom = area.top() + area.height() * (1 - start / 800_000)
        middle = area.left() + area.width() * (0.5 + hertz / RATE)
        self.assertTrue(coloured(middle, top) and coloured(middle, bottom))
        row = round((top + bottom) / 2)
        edges = [x for x in range(area.left(), area.right()) if image.pixel(x, row) == box]
        self.assertLess(abs((min(edges) + max(edges)) / 2 - middle), 0.02 * area.width())
        self.assertLess(max(edges) - min(edges), 0.15 * area.width())  # the occupied part, not the whole band
        self.assertFalse(coloured(middle, bottom + 20) or coloured(middle, top - 40))
        # Inside it is brighter than beside it at the same time, and than before it at the same frequency.
        def light(x, y):
            return np.mean([image.pixelColor(round(x) + d, round(y) + e).lightness()
                            for d in range(-3, 4) for e in range(-3, 4)])
        self.assertGreater(light(middle, row), 2 * light(area.left() + 0.25 * area.width(), row))
        self.assertGreater(light(middle, row), 2 * light(middle, bottom + 40))

    def test_a_box_says_what_the_main_head_says_and_the_table_what_others_are_sure_of(self):
        start = 300_000
        x = burst(600_000, start, start + 4096, -100e3)
        tone = {"label": "single-tone", "confidence": 0.75}
        others = {"interference": tone, "sensing": {"label": "signal", "confidence": 1.0},
                  "fingerprint": {"label": "039", "confidence": 0.4}, "jammer": {"label": "unknown", "confidence": 0.9}}
        messages = [detection(0, "noise", 1.0, interference={"label": "none", "confidence": 0.9})]
        messages += [detection(start + 1024 * k, "QPSK", 0.8 + 0.05 * k, **others) for k in range(4)]
        _, window, _ = self.shown(x, messages)
        self.assertEqual([text for _, text in window.waterfall.drawn], ["QPSK 0.88"])
        self.assertEqual([text for _, text in window.waterfall.named], ["QPSK 0.88"])
        table = window.answers
        rows = [[table.item(row, column).text() for column in range(5)] for row in range(2)]
        self.assertEqual(rows[0], ["0.304", "4", "QPSK · interference single-tone 0.75", "0.88", "18.0"])
        self.assertEqual(rows[1][1:4], ["1", "noise", "1.00"])
        self.assertEqual(table.item(0, 2).toolTip(), rows[0][2])  # all of it where the column is too narrow

    def test_noise_has_no_box_whatever_the_other_heads_make_of_it(self):
        heads = {"fingerprint": {"label": "039", "confidence": 0.9}, "sensing": {"label": "signal", "confidence": 1.0},
                 "radar": {"label": "LFM", "confidence": 0.9, "outside_training": True}}
        block, window, _ = self.shown(burst(200_000, 0, 0, 0.0), [detection(at, "noise", **heads)
                                                                  for at in range(0, 200_000 - 1024, 1024)])
        self.assertEqual(window.waterfall.drawn, [])
        self.assertEqual((len(window._scene.runs), window.answers.item(0, 2).text()), (1, "noise"))
        block._on_statistics(pdu({**COUNTS, "windows_outside_training": {"radar": 195, "anomaly": 195}}))
        window.refresh()
        self.assertIn("not shown, since trained on windows of other rates: anomaly, radar", window.statistics.text())

    def test_a_stray_answer_in_noise_is_counted_in_the_noise(self):
        """Weights err once in a thousand windows: a box for each would fill the picture of a fast stream."""
        def told(strays, snr_db):
            scene = Scene(RATE, 0.02, 0.01, 0.005)
            for k in range(60):
                label = strays.get(k, "noise")
                scene.detection({"sample_start": 1024 * k, "sample_count": 1024,
                                 "snr_db": snr_db if k in strays else -15.0, "modulation": {"label": label, "confidence": 0.6}})
            return [(run.text().split()[0], run.agreeing(), run.windows) for run in scene.runs], len(scene.boxes)

        self.assertEqual(told({20: "LFM", 40: "ADS-B", 41: "LFM"}, -18.0), ([("noise", 57, 60)], 0))
        noise, burst_, rest = ("noise", 20, 20), ("LFM", 1, 1), ("noise", 39, 39)
        self.assertEqual(told({20: "LFM"}, 9.0), ([noise, burst_, rest], 1))  # a burst that is there
        three = dict.fromkeys((20, 21, 22), "LFM")
        self.assertEqual(told(three, -18.0), ([noise, ("LFM", 3, 3), ("noise", 37, 37)], 1))

    def test_other_heads_neither_end_a_box_nor_are_needed_for_it(self):
        """A gated window is answered by the heads that know noise alone; a fingerprint may change with each window."""
        scene = Scene(RATE, 0.02, 0.01, 0.005)
        for k in range(60):
            heads = {"modulation": {"label": "QPSK", "confidence": 0.9}}
            if k % 3:
                heads["fingerprint"] = {"label": f"{k:03}", "confidence": 0.9}
            scene.detection({"sample_start": 1024 * k, "sample_count": 1024, **heads})
        self.assertEqual([(run.stop, run.windows, run.text(), run.others()) for run in scene.boxes],
                         [(60 * 1024, 60, "QPSK 0.90", [])])

    def test_without_a_main_head_the_one_that_hears_something_names_the_box(self):
        scene = Scene(RATE)
        for k, (radar, confidence) in enumerate((("LFM", 0.3), ("LFM", 0.9), ("LFM", 0.8), ("none", 0.9))):
            scene.detection({"sample_start": 1024 * k, "sample_count": 1024,
                             "anomaly": {"label": "normal", "confidence": 0.9},
                             "radar": {"label": radar, "confidence": confidence}})
        self.assertEqual([(run.start, run.stop, run.text()) for run in scene.boxes], [(1024, 3072, "LFM 0.85")])

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

    def test_detections_of_a_decimated_stream_come_to_the_samples_of_the_full_one(self):
        _, window, _ = self.shown(np.zeros(500_000), [detection(10_000, "QPSK", rx_rate=RATE / 10)], offset=250e3,
                                  bandwidth=100e3)
        (box,) = window._scene.boxes
        self.assertEqual((box.start, box.stop), (100_000, 110_240))
        self.assertEqual(window.waterfall.band_of(box), (200e3, 300e3))  # nothing stands out: the channel

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

    def test_a_row_of_windows_is_one_run_until_something_changes(self):
        scene = Scene(RATE)
        for start, label, freq in ((0, "QPSK", 1e6), (512, "QPSK", 1e6), (1024, "QPSK", 1e6), (2048, "BPSK", 1e6),
                                   (3072, "BPSK", 2e6), (9000, "BPSK", 2e6)):
            scene.detection({"sample_start": start, "sample_count": 1024, "rx_freq": freq,
                             "modulation": {"label": label, "confidence": 0.5}})
        self.assertEqual([(run.start, run.stop, run.windows) for run in scene.runs],
                         [(0, 2048, 3), (2048, 3072, 1), (3072, 4096, 1), (9000, 10_024, 1)])

    def said(self, answers, **parameters):
        """Runs of a scene after (start, label) of windows of 1,024 samples."""
        scene = Scene(RATE, **parameters)
        for start, label in answers:
            scene.detection({"sample_start": start, "sample_count": 1024,
                             "modulation": {"label": label, "confidence": 0.5}})
        return [(run.start, run.stop, run.text().split()[0], run.agreeing(), run.windows) for run in scene.runs]

    def test_skipped_windows_between_answers_are_bridged_and_not_counted(self):
        answers = ((0, "QPSK"), (9000, "QPSK"), (20_025, "QPSK"), (30_000, "BPSK"), (42_000, "QPSK"))
        self.assertEqual(self.said(answers, bridge_s=0.01), [
            (0, 10_024, "QPSK", 2, 2), (20_025, 30_000, "QPSK", 1, 1), (30_000, 31_024, "BPSK", 1, 1),
            (42_000, 43_024, "QPSK", 1, 1)])

    def test_single_other_answers_do_not_end_a_box_and_a_new_signal_does(self):
        labels = ["QPSK"] * 40 + ["8PSK"] + ["QPSK"] * 5 + ["8PSK"] * 2 + ["QPSK"] * 20 + ["16QAM"] * 30
        self.assertEqual(self.said([(1024 * k, label) for k, label in enumerate(labels)], settle_s=0.01),
                         [(0, 68 * 1024, "QPSK", 65, 68), (68 * 1024, 98 * 1024, "16QAM", 30, 30)])

    def test_a_signal_between_two_classes_is_one_box_with_the_more_frequent_name(self):
        labels = ["BPSK"] * 30 + ["QPSK", "QPSK", "pi/4-DQPSK"] * 10
        self.assertEqual(self.said([(1024 * k, label) for k, label in enumerate(labels)], settle_s=0.01),
                         [(0, 30 * 1024, "BPSK", 30, 30), (30 * 1024, 60 * 1024, "QPSK", 20, 30)])

    def test_short_pauses_belong_to_a_signal_and_longer_ones_do_not(self):
        labels = ["QPSK"] * 10 + ["noise"] * 2 + ["QPSK"] * 10 + ["noise"] * 9 + ["QPSK"] * 10
        self.assertEqual(self.said([(1024 * k, label) for k, label in enumerate(labels)], pause_s=0.005), [
            (0, 22 * 1024, "QPSK", 20, 20), (22 * 1024, 31 * 1024, "noise", 9, 9),
            (31 * 1024, 41 * 1024, "QPSK", 10, 10)])

    def test_an_answer_before_its_samples_gets_its_width_with_them(self):
        _, window, _ = self.shown(burst(200_000, 100_000, 150_000, 200e3), [detection(120_000, "QPSK")])
        view = window.waterfall
        lines, first, rows, every, rate, center = window._feed(window._scene)
        boxes = list(window._scene.boxes)
        view._bands.clear()
        view.show_lines(lines[: 110_000 // every], first, rows, every, rate, center, boxes)
        self.assertEqual(view.band_of(boxes[0]), (-RATE / 2, RATE / 2))
        view.show_lines(lines, first, rows, every, rate, center, boxes)
        low, high = view.band_of(boxes[0])
        self.assertTrue(100e3 < low < 200e3 < high < 300e3)

    def test_texts_do_not_overlap_and_the_longest_box_has_its_own(self):
        messages = [detection(s, "QPSK") for s in range(730_000, 760_000, 1024)]
        messages += [detection(s, label) for s, label in ((765_000, "BPSK"), (770_000, "8PSK"), (775_000, "NFM"))]
        _, window, _ = self.shown(burst(800_000, 720_000, 790_000, 200e3), messages, span_s=0.08)
        names = window.waterfall.named
        self.assertIn("QPSK 0.90", [text for _, text in names])
        self.assertEqual(len(window.waterfall.drawn), 4)
        self.assertTrue(all(rect.height() >= 4 for rect, _ in window.waterfall.drawn))
        for k, (one, _) in enumerate(names):
            self.assertFalse(any(one.intersects(other) for other, _ in names[:k]))

    def test_a_text_stands_beside_its_box_or_where_that_has_no_room_above_it(self):
        for hertz, width, beside in ((200e3, 0, "left"), (-200e3, 0, "left"), (430e3, 0, "right"), (0.0, 1, "")):
            messages = [detection(s, "QPSK") for s in range(100_000, 180_000, 1024)]
            samples = burst(200_000, 100_000, 180_000, hertz) if not width else np.zeros(200_000)
            _, window, _ = self.shown(samples, messages)
            ((box, _),), ((name, _),) = window.waterfall.drawn, window.waterfall.named
            if beside:
                self.assertFalse(box.intersects(name))
                self.assertGreater((name.left() - box.right()) * (1 if beside == "left" else -1), 0)
                self.assertTrue(box.top() <= name.top() <= box.bottom())
            self.assertTrue(window.waterfall.plot().contains(name))

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

    def test_labels_that_are_seen_have_colours_of_their_own(self):
        names = ["BPSK", "QPSK", "pi/4-DQPSK", "16QAM", "64QAM", "4FSK"]
        self.assertEqual([colour_of(name).rgb() for name in names], [colour_of(name).rgb() for name in names])
        self.assertGreater(len({colour_of(name).rgb() for name in names}), 4)


if __name__ == "__main__":
    gr_unittest.run(qa_display)
