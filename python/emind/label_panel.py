#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block with which a person labels what a recorder writes."""

from __future__ import annotations

import pmt
from gnuradio import gr

from .contract import tags
from .contract.errors import UsageError
from .contract.schema import LABELS, TEXTS, checked_label
from .contract.vocabulary import MODULATIONS
from .gui.qt import need_application
from .gui.scene import fields_of, recorder_text
from .guarded import Guarded

_LABEL = pmt.intern("label")
_RECORD = pmt.intern("record")
_STATISTICS = pmt.intern(tags.PORT_STATISTICS)
_POLL_MS = 200


class label_panel(Guarded, gr.basic_block):
    """A small Qt control: a class or text for each column, keys for whole sets of labels, and a switch for recording.

    Message ports: ``label`` (a dict of the columns that changed) and ``record`` (a bool), for the ports of that name of
    :class:`recorder`; both are also sent at the start. Input ``statistics`` of the recorder: what is written is shown.

    Parameters
    ----------
    title: above the control
    column: the column that is offered first: ``modulation``, ``infer_class``, ``device_id``, ...
    choices: of that column; any other text can be typed. (): the modulations of the vocabulary
    labels: dict of columns at the start
    keys: dict of keys and the labels that they set, such as ``{"1": {"modulation": "LoRa"}}``; F9 switches recording
    recording: switched on at the start

    Raises
    ------
    UsageError: parameters that cannot work
    EMindError: a label that cannot be, PyQt5 is not installed, or no Qt application runs
    """

    def __init__(self, title: str = "", column: str = "modulation", choices: tuple[str, ...] = (),
                 labels: dict | None = None, keys: dict | None = None, recording: bool = False) -> None:
        if column not in TEXTS:
            raise UsageError(f"column {column!r} is no text: use {', '.join(TEXTS)}")
        start = {name: checked_label(name, value) for name, value in (labels or {}).items()}
        for key, found in (keys or {}).items():
            if not isinstance(found, dict):
                raise UsageError(f"key {key!r} needs a dict of labels, not {found!r}")
            for name, value in found.items():
                checked_label(name, value)
        form = _form_class()
        gr.basic_block.__init__(self, "emind_label_panel", in_sig=None, out_sig=None)
        columns = (column, *(name for name in LABELS if name not in (column, "sampling_rate")))
        self._told: pmt.pmt_base | None = None
        self._form = form(title, columns, tuple(choices) or MODULATIONS, start, {str(k): v for k, v in
                          (keys or {}).items()}, recording, self._send_labels, self._send_record)
        for port in (_LABEL, _RECORD):
            self.message_port_register_out(port)
        self.message_port_register_in(_STATISTICS)
        self.set_msg_handler(_STATISTICS, self._on_statistics)
        self._timer = _timer(self._form, self._show)

    def qwidget(self) -> object:
        """The Qt widget, to be put into a layout or shown as a window."""
        return self._form

    def start(self) -> bool:
        self._send_labels(self._form.labels())
        self._send_record(self._form.record.isChecked())
        return True

    def _send_labels(self, labels: dict) -> None:
        message = pmt.make_dict()
        for name, value in labels.items():
            message = pmt.dict_add(message, pmt.intern(name), pmt.PMT_NIL if value is None else pmt.to_pmt(value))
        self.message_port_pub(_LABEL, message)

    def _send_record(self, recording: bool) -> None:
        self.message_port_pub(_RECORD, pmt.from_bool(recording))

    def _on_statistics(self, message: pmt.pmt_base) -> None:
        self._told = message  # read when it is shown

    def _show(self) -> None:
        """Called by the control, in Qt's thread."""
        told, self._told = self._told, None
        fields = None if told is None else fields_of(told)
        if fields and "samples_written" in fields:
            self._form.status.setText(recorder_text(fields))


def _form_class():
    """The control's class; Qt comes in here, so that the module works without it."""
    need_application("a label panel", "emind record")
    from .gui.form import LabelForm

    return LabelForm


def _timer(form, action):
    """Calls ``action`` while the control lives."""
    from PyQt5 import QtCore

    timer = QtCore.QTimer(form)
    timer.timeout.connect(action)
    timer.start(_POLL_MS)
    return timer
