#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What the heads of an engine say of windows, as PMT: the values of tags, and detections."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pmt

from .contract import tags
from .contract.vocabulary import NOISE, family_of
from .contract.window import HeadSpec
from .dsp.framing import Anchor
from .runtime.dispatch import INFERRED, Released
from .runtime.dispatch import NOISE as FATE_NOISE

_RX_TIME = pmt.intern(tags.RX_TIME)
_RX_RATE = pmt.intern(tags.RX_RATE)
_RX_FREQ = pmt.intern(tags.RX_FREQ)
_LABEL = pmt.intern(tags.LABEL)
_CONFIDENCE = pmt.intern(tags.CONFIDENCE)
_LENGTH = pmt.intern(tags.LENGTH)
_FAMILY = pmt.intern(tags.FAMILY)
_SAMPLE_START = pmt.intern(tags.SAMPLE_START)
_SAMPLE_COUNT = pmt.intern(tags.SAMPLE_COUNT)
_SNR_DB = pmt.intern(tags.SNR_DB)
_LATENCY_MS = pmt.intern(tags.LATENCY_MS)
_NO_DATA = pmt.init_u8vector(0, [])

_MODULATION = "modulation"  # the head whose labels have families


class Said(NamedTuple):
    """What one head says of one window: the key of its tag, its entry in a detection, and the dict that both hold."""

    key: pmt.pmt_base
    entry: pmt.pmt_base
    value: pmt.pmt_base

    def tag(self, valid: int) -> pmt.pmt_base:
        """The tag's value, for a window of ``valid`` samples of signal."""
        return pmt.dict_add(self.value, _LENGTH, pmt.from_long(valid))


class Answers:
    """Makes PMT of what the heads of one engine say."""

    def __init__(self, heads: dict[str, HeadSpec]) -> None:
        self._heads = {name: _Classes(name, head.labels) for name, head in heads.items()}

    def of(self, released: Released) -> Iterator[tuple[int, list[Said]]]:
        """For each released window that something is said of: its index among them, and what."""
        best = {
            name: (rows.argmax(axis=1).tolist(), rows.max(axis=1).tolist()) for name, rows in released.answers.items()
        }
        inferred = 0
        for index in np.flatnonzero((released.fates == INFERRED) | (released.fates == FATE_NOISE)).tolist():
            if released.fates[index] == INFERRED:
                said = [self._heads[name].say(labels[inferred], confidences[inferred])
                        for name, (labels, confidences) in best.items()]
                inferred += 1
            else:
                said = [head.say(head.noise, 1.0) for head in self._heads.values() if head.noise is not None]
            yield index, said


class _Classes:
    """A head's tag key, its entry in detections, and its answers as dicts, made once for each label."""

    def __init__(self, name: str, labels: tuple[str, ...]) -> None:
        self.key = pmt.intern(tags.head_key(name))
        self.entry = pmt.intern(name)
        self.noise = labels.index(NOISE) if NOISE in labels else None
        self._values = []
        for label in labels:
            value = pmt.dict_add(pmt.make_dict(), _LABEL, pmt.intern(label))
            if name == _MODULATION:
                value = pmt.dict_add(value, _FAMILY, pmt.intern(family_of(label)))
            self._values.append(value)

    def say(self, label: int, confidence: float) -> Said:
        """Label, confidence and, for modulations, family."""
        value = pmt.dict_add(self._values[label], _CONFIDENCE, pmt.from_double(confidence))
        return Said(self.key, self.entry, value)


def detection(
    anchor: Anchor, number: int, valid: int, rate: float, said: list[Said], snr_db: float, latency_ms: float
) -> pmt.pmt_base:
    """PDU of window ``number``, which reckons from ``anchor``, with ``valid`` samples of signal at ``rate`` Hz."""
    start, state = anchor.start_of(number), anchor.state
    fields = pmt.dict_add(pmt.make_dict(), _SAMPLE_START, pmt.from_uint64(start))
    fields = pmt.dict_add(fields, _SAMPLE_COUNT, pmt.from_long(valid))
    time_ = state.time_at(start)
    if time_ is not None:
        moment = pmt.make_tuple(pmt.from_uint64(time_[0]), pmt.from_double(time_[1]))
        fields = pmt.dict_add(fields, _RX_TIME, moment)
    if not math.isnan(rate):
        fields = pmt.dict_add(fields, _RX_RATE, pmt.from_double(rate))
    if not math.isnan(state.freq):
        fields = pmt.dict_add(fields, _RX_FREQ, pmt.from_double(state.freq))
    if not math.isnan(snr_db):
        fields = pmt.dict_add(fields, _SNR_DB, pmt.from_double(float(snr_db)))
    fields = pmt.dict_add(fields, _LATENCY_MS, pmt.from_double(float(latency_ms)))
    for each in said:
        fields = pmt.dict_add(fields, each.entry, each.value)
    return pmt.cons(fields, _NO_DATA)
