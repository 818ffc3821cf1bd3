#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""How detections become boxes and lines of a display's table, without a window."""

from collections import Counter

from gnuradio import gr_unittest

if __package__:  # collected by pytest from the source tree
    from .gui.scene import Scene
else:  # run by ctest on the module that was built
    from gnuradio.emind.gui.scene import Scene

RATE = 1e6


class qa_display_scene(gr_unittest.TestCase):
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


if __name__ == "__main__":
    gr_unittest.run(qa_display_scene)
