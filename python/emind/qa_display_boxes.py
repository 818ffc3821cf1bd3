#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Where a display draws boxes and texts, and what they say."""

import numpy as np
from gnuradio import gr_unittest

if __package__:  # collected by pytest from the source tree
    from .contract.errors import UsageError
    from .gui.view import colour_of
    from .qa_display_case import COUNTS, RATE, Shown, burst, detection, pdu
else:  # run by ctest on the module that was built
    from gnuradio.emind.contract.errors import UsageError
    from gnuradio.emind.gui.view import colour_of
    from qa_display_case import COUNTS, RATE, Shown, burst, detection, pdu


class qa_display_boxes(Shown):
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

    def test_detections_of_a_decimated_stream_come_to_the_samples_of_the_full_one(self):
        _, window, _ = self.shown(np.zeros(500_000), [detection(10_000, "QPSK", rx_rate=RATE / 10)], offset=250e3,
                                  bandwidth=100e3)
        (box,) = window._scene.boxes
        self.assertEqual((box.start, box.stop), (100_000, 110_240))
        self.assertEqual(window.waterfall.band_of(box), (200e3, 300e3))  # nothing stands out: the channel

    def test_boxes_lie_in_the_channel_of_their_time(self):
        block, window, _ = self.shown(np.zeros(500_000), [detection(100_000, "QPSK")], offset=250e3, bandwidth=100e3)
        block.set_channel(-300e3, 50e3)
        block._on_detection(detection(400_000, "BPSK"))
        window.refresh()
        self.assertEqual([window.waterfall.band_of(box) for box in window._scene.boxes],
                         [(200e3, 300e3), (-325e3, -275e3)])
        for wrong in ((0.0, 2e6), (6e5, 1e3)):
            with self.assertRaises(UsageError):
                block.set_channel(*wrong)

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

    def test_labels_that_are_seen_have_colours_of_their_own(self):
        names = ["BPSK", "QPSK", "pi/4-DQPSK", "16QAM", "64QAM", "4FSK"]
        self.assertEqual([colour_of(name).rgb() for name in names], [colour_of(name).rgb() for name in names])
        self.assertGreater(len({colour_of(name).rgb() for name in names}), 4)


if __name__ == "__main__":
    gr_unittest.run(qa_display_boxes)
