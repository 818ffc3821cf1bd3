#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # before Qt comes in

import tempfile
from pathlib import Path

import numpy as np
import pmt
from gnuradio import gr, gr_unittest
from PyQt5 import QtCore, QtTest, QtWidgets

if __package__:  # collected by pytest from the source tree
    from . import label_panel, recorder
    from .contract.errors import EMindError, UsageError
    from .storage.parquet import Reader
else:  # run by ctest on the module that was built
    from gnuradio.emind import label_panel, recorder
    from gnuradio.emind.contract.errors import EMindError, UsageError
    from gnuradio.emind.storage.parquet import Reader


class heard(gr.basic_block):
    """Keeps what comes."""

    def __init__(self):
        gr.basic_block.__init__(self, "heard", in_sig=None, out_sig=None)
        self.came = []
        for port in ("label", "record"):
            self.message_port_register_in(pmt.intern(port))
        self.set_msg_handler(pmt.intern("label"), self._label)
        self.set_msg_handler(pmt.intern("record"), self._record)

    def _label(self, message):
        self.came.append(("label", pmt.to_python(message)))

    def _record(self, message):
        self.came.append(("record", pmt.to_python(message)))


class stepped_source(gr.sync_block):
    """Ones, as many as it is allowed to send."""

    def __init__(self):
        gr.sync_block.__init__(self, "stepped_source", None, [np.complex64])
        self.allowed = self.sent = 0
        self.over = False

    def work(self, input_items, output_items):
        while self.sent == self.allowed and not self.over:
            os.sched_yield()
        if self.sent == self.allowed:
            return -1
        count = min(len(output_items[0]), self.allowed - self.sent)
        output_items[0][:count] = 1 + np.arange(self.sent, self.sent + count)
        self.sent += count
        return count


class qa_label_panel(gr_unittest.TestCase):
    def setUp(self):
        global _application
        _application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["qa_label_panel"])

    def test_a_choice_a_key_and_the_switch_are_sent(self):
        panel, ear = label_panel(keys={"1": {"modulation": "LoRa"}}, labels={"dataset_name": "garden"}), heard()
        tb = gr.top_block()
        tb.msg_connect(panel, "label", ear, "label")
        tb.msg_connect(panel, "record", ear, "record")
        tb.start()
        form = panel.qwidget()
        form.show()
        form.activateWindow()
        QtTest.QTest.qWaitForWindowActive(form, 5000)
        form.value.setCurrentText("GFSK")
        QtTest.QTest.mouseClick(form.apply, QtCore.Qt.LeftButton)
        self.assertEqual(form.now.text(), "dataset_name = garden, modulation = GFSK")
        form.setFocus()
        QtTest.QTest.keyClick(form, QtCore.Qt.Key_1)
        QtTest.QTest.keyClick(form, QtCore.Qt.Key_F9)
        form.value.setCurrentText("")
        QtTest.QTest.mouseClick(form.apply, QtCore.Qt.LeftButton)
        timer = QtCore.QElapsedTimer()
        timer.start()
        while len(ear.came) < 6 and timer.elapsed() < 30_000:
            QtWidgets.QApplication.processEvents()
        tb.stop()
        tb.wait()
        # Each port keeps its order; between two ports there is none.
        self.assertEqual([value for port, value in ear.came if port == "label"], [
            {"dataset_name": "garden"}, {"modulation": "GFSK"}, {"modulation": "LoRa"}, {"modulation": None}])
        self.assertEqual([value for port, value in ear.came if port == "record"], [False, True])
        self.assertEqual(form.labels(), {"dataset_name": "garden"})
        self.assertIn("recording", form.record.text())

    def test_what_the_panel_says_is_in_the_recorded_rows(self):
        with tempfile.TemporaryDirectory() as folder:
            panel = label_panel(choices=("mine", "yours"))
            kept = recorder(str(Path(folder) / "take"), sample_rate=1e6, length=100, policy="lossless",
                            recording=False)
            source = stepped_source()
            tb = gr.top_block()
            tb.connect(source, kept)
            for port in ("label", "record"):
                tb.msg_connect(panel, port, kept, port)
            tb.msg_connect(kept, "statistics", panel, "statistics")
            form = panel.qwidget()
            tb.start()

            def until(condition):
                timer = QtCore.QElapsedTimer()
                timer.start()
                while not condition():
                    self.assertLess(timer.elapsed(), 30_000)
                    QtWidgets.QApplication.processEvents()

            def send(count):
                source.allowed += count
                until(lambda: kept.statistics()["samples_seen"] == source.allowed)

            send(1000)  # not wanted
            form.value.setCurrentText("mine")
            form.apply.click()
            form.record.click()
            until(lambda: kept._recording and kept._labels.get("modulation") == "mine")
            send(500)
            form.value.setCurrentText("a third")
            form.apply.click()
            until(lambda: kept._labels.get("modulation") == "a third")
            send(300)
            form.record.click()
            until(lambda: not kept._recording)
            send(200)
            source.over = True
            tb.wait()
            panel._on_statistics(pmt.cons(pmt.to_pmt(kept.statistics()), pmt.init_u8vector(0, [])))
            panel._show()
            self.assertIn("800 samples in 8 rows", form.status.text())
            self.assertIn("not recording", form.status.text())
            rows = [row for file in Path(folder).glob("*.parquet") for row in Reader(file)]
            self.assertEqual([row.modulation for row in rows], ["mine"] * 5 + ["a third"] * 3)
            np.testing.assert_array_equal(np.concatenate([row.iq for row in rows]).real, np.arange(1001, 1801))

    def test_a_label_that_cannot_be_is_said_and_not_sent(self):
        panel = label_panel()
        form = panel.qwidget()
        form.column.setCurrentText("snr")
        form.value.setCurrentText("loud")
        form.apply.click()
        self.assertIn("snr", form.now.text())
        self.assertEqual(form.labels(), {})

    def test_it_may_record_from_the_start(self):
        panel, ear = label_panel(recording=True), heard()
        tb = gr.top_block()
        tb.msg_connect(panel, "record", ear, "record")
        tb.start()
        timer = QtCore.QElapsedTimer()
        timer.start()
        while not ear.came and timer.elapsed() < 30_000:
            QtWidgets.QApplication.processEvents()
        tb.stop()
        tb.wait()
        self.assertEqual(ear.came, [("record", True)])

    def test_impossible_parameters_are_refused(self):
        for parameters in ({"column": "colour"}, {"column": "snr"}, {"keys": {"1": "LoRa"}}):
            with self.assertRaises(UsageError):
                label_panel(**parameters)
        for parameters in ({"labels": {"colour": "red"}}, {"keys": {"1": {"colour": "red"}}}):
            with self.assertRaises(EMindError):
                label_panel(**parameters)


if __name__ == "__main__":
    gr_unittest.run(qa_label_panel)
