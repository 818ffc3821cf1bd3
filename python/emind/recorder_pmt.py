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
from .contract.vocabulary import NOISE

_RECORD = pmt.intern("record")

# Which column a head's answer goes into.
HEAD_COLUMNS = {
    "modulation": "modulation", "interference": "infer_class", "fingerprint": "device_id", "radar": "radar_waveform"}
PARAMETERS = ("pri", "pulse_time_delay", "num_pulses", "pulse_width", "band_width")  # entries that are columns too
_COLUMN_OF_TAG = {tags.head_key(head): column for head, column in HEAD_COLUMNS.items()}
QUIET = frozenset({NOISE, "none", "normal"})  # answers that say that nothing is there


class Wanted(NamedTuple):
    """Which answers are events: these labels, or where there are none all that say that something is there."""

    labels: frozenset[str]
    confidence: float  # at least

    def in_tag(self, tag: gr.tag_t) -> tuple[int, int] | None:
        """First sample and the one behind the last, where a tag is a head's and an event."""
        if not pmt.symbol_to_string(tag.key).startswith(tags.HEAD_PREFIX) or not pmt.is_dict(tag.value):
            return None
        fields = pmt.to_python(tag.value)
        length = fields.get(tags.LENGTH, 1)
        if not self._in_fields(fields) or not isinstance(length, int) or length < 1:
            return None
        return tag.offset, tag.offset + length

    def in_message(self, message: pmt.pmt_base, rate: float) -> tuple[int, int] | None:
        """The same of a receiver's PDU; its samples are brought to those of a stream of ``rate`` by its ``rx_rate``."""
        try:
            fields = pmt.to_python(pmt.car(message)) if pmt.is_pair(message) else None
            if not isinstance(fields, dict) or tags.SAMPLE_START not in fields:
                return None
            if not any(self._in_fields(value) for value in fields.values() if isinstance(value, dict)):
                return None
            own = fields.get(tags.RX_RATE)
            factor = max(1, round(rate / own)) if own and rate > 0 else 1
            start = int(fields[tags.SAMPLE_START]) * factor
            return start, start + int(fields.get(tags.SAMPLE_COUNT, 1)) * factor
        except (TypeError, ValueError, OverflowError, RuntimeError):  # of another block; an error here ends this one
            return None

    def _in_fields(self, fields: dict) -> bool:
        label, confidence = fields.get(tags.LABEL), fields.get(tags.CONFIDENCE, 1.0)
        if not isinstance(label, str) or not confidence >= self.confidence:
            return False
        return label in self.labels if self.labels else label not in QUIET


def switch_of(message: pmt.pmt_base) -> bool | None:
    """A bool or number, a pair whose second is one (GNU Radio's buttons), or a dict with ``record``; else None."""
    if pmt.is_dict(message) and pmt.dict_has_key(message, _RECORD):
        message = pmt.dict_ref(message, _RECORD, pmt.PMT_NIL)
    elif pmt.is_pair(message):
        message = pmt.cdr(message)
    return bool(pmt.to_python(message)) if pmt.is_bool(message) or pmt.is_integer(message) else None


def labels_of(tag: gr.tag_t) -> tuple[int, dict[str, str | float]] | None:
    """Samples that a head's tag is about, and the label; None for any other tag."""
    column = _COLUMN_OF_TAG.get(pmt.symbol_to_string(tag.key))
    if column is None or not pmt.is_dict(tag.value):
        return None
    fields = pmt.to_python(tag.value)
    label, length = fields.get(tags.LABEL), fields.get(tags.LENGTH, 1)
    if not isinstance(label, str) or not isinstance(length, int) or length < 1:
        return None
    found = {column: label}
    for name in PARAMETERS:
        value = fields.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            found[name] = round(value) if name == "num_pulses" else float(value)
    return length, found
