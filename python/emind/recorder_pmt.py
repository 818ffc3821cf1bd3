#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What tags and messages tell a recorder: labels, events, and its switch."""

from __future__ import annotations

import math
from typing import NamedTuple

import pmt
from gnuradio import gr

from .contract import tags
from .contract.detection import counting, detected

_RECORD = pmt.intern("record")
_LABEL = pmt.intern(tags.LABEL)

# Which column a head's answer goes into.
HEAD_COLUMNS = {
    "modulation": "modulation", "interference": "infer_class", "fingerprint": "device_id", "radar": "radar_waveform"}
PARAMETERS = ("pri", "pulse_time_delay", "num_pulses", "pulse_width", "band_width")  # entries that are columns too


class Wanted(NamedTuple):
    """Which answers are events, see :func:`.contract.detection.detected`."""

    labels: frozenset[str]
    confidence: float  # at least

    def in_answers(self, answers: dict[str, dict]) -> int | None:
        """Samples that the event lasts, where the answers to a window are one."""
        return max((_length(answers[head]) for head in detected(answers, self.labels, self.confidence)), default=None)

    def in_message(self, message: pmt.pmt_base, rate: float) -> tuple[int, int] | None:
        """First sample and the one behind the last, where a receiver's PDU is an event; its samples are brought to
        those of a stream of ``rate`` by its ``rx_rate``."""
        try:
            fields = pmt.to_python(pmt.car(message)) if pmt.is_pair(message) else None
            if not isinstance(fields, dict) or tags.SAMPLE_START not in fields:
                return None
            answers = {head: value for head, value in fields.items() if isinstance(value, dict)}
            if not detected(answers, self.labels, self.confidence):
                return None
            own = fields.get(tags.RX_RATE)
            factor = max(1, round(rate / own)) if own and rate > 0 else 1
            start = int(fields[tags.SAMPLE_START]) * factor
            return start, start + int(fields.get(tags.SAMPLE_COUNT, 1)) * factor
        except (TypeError, ValueError, OverflowError, RuntimeError):  # of another block; an error here ends this one
            return None


def switch_of(message: pmt.pmt_base) -> bool | None:
    """A bool or number, a pair whose second is one (GNU Radio's buttons), or a dict with ``record``; else None."""
    if pmt.is_dict(message) and pmt.dict_has_key(message, _RECORD):
        message = pmt.dict_ref(message, _RECORD, pmt.PMT_NIL)
    elif pmt.is_pair(message):
        message = pmt.cdr(message)
    return bool(pmt.to_python(message)) if pmt.is_bool(message) or pmt.is_integer(message) else None


def answer_of(tag: gr.tag_t) -> tuple[str, dict] | None:
    """The head whose tag it is, and what it says; None for any other tag."""
    key = pmt.symbol_to_string(tag.key)
    if not key.startswith(tags.HEAD_PREFIX) or not pmt.is_dict(tag.value) or not pmt.dict_has_key(tag.value, _LABEL):
        return None
    fields = pmt.to_python(tag.value)
    length = fields.get(tags.LENGTH, 1)
    return (key[len(tags.HEAD_PREFIX) :], fields) if isinstance(length, int) and length > 0 else None


def labels_of(answers: dict[str, dict], confidence: float) -> list[tuple[int, dict[str, str | float]]]:
    """Labels from the answers to a window, where they count: samples that each is about, and the columns."""
    out = []
    for head, fields in counting(answers, confidence).items():
        if head not in HEAD_COLUMNS:
            continue
        found: dict[str, str | float] = {HEAD_COLUMNS[head]: fields[tags.LABEL]}
        for name in PARAMETERS:
            value = fields.get(name)
            if isinstance(value, (int, float)) and math.isfinite(value):
                found[name] = round(value) if name == "num_pulses" else float(value)
        out.append((_length(fields), found))
    return out


def _length(fields: dict) -> int:
    return fields.get(tags.LENGTH, 1)
