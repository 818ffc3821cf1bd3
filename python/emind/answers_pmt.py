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
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pmt

from .contract import tags
from .contract.answers import read, speaks
from .contract.vocabulary import NOISE, UNKNOWN, family_of
from .contract.window import ANOMALY, Domain, HeadSpec
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
_SCORE = pmt.intern(tags.SCORE)
_OUTSIDE = pmt.intern(tags.OUTSIDE)
_SAMPLE_START = pmt.intern(tags.SAMPLE_START)
_SAMPLE_COUNT = pmt.intern(tags.SAMPLE_COUNT)
_SNR_DB = pmt.intern(tags.SNR_DB)
_LATENCY_MS = pmt.intern(tags.LATENCY_MS)
_NO_DATA = pmt.init_u8vector(0, [])

_MODULATION = "modulation"  # the head whose labels have families
_MOST_CONSTANTS = 1024  # dicts kept of a head: windows before gaps may be of any length


class Said:
    """What one head says of one window: a label, empty where it has none, and ``fields``, PMT keys and values.

    Most windows are whole and of few labels, so what does not change from one to the next is made once.
    """

    __slots__ = ("_head", "_label", "_fields", "outside")

    def __init__(self, head: _Head, label: str, fields: list[tuple[pmt.pmt_base, pmt.pmt_base]]) -> None:
        self._head, self._label, self._fields = head, label, fields
        self.outside = False  # the window is unlike those that the head was trained on

    @property
    def head(self) -> str:
        """Its name."""
        return self._head.name

    @property
    def key(self) -> pmt.pmt_base:
        """Of its tag."""
        return self._head.key

    @property
    def entry(self) -> pmt.pmt_base:
        """Its key in a detection."""
        return self._head.entry

    @property
    def value(self) -> pmt.pmt_base:
        """What stands there."""
        return self._with_fields(self._head.constant(self._label, 0, self.outside))

    def tag(self, valid: int) -> pmt.pmt_base:
        """The tag's value, for a window of ``valid`` samples of signal: the same, and how many those are."""
        return self._with_fields(self._head.constant(self._label, valid, self.outside))

    def _with_fields(self, value: pmt.pmt_base) -> pmt.pmt_base:
        for key, field in self._fields:
            value = pmt.acons(key, field, value)  # as dict_add, for a key that is not there yet
        return value


class Answers:
    """Makes PMT of what the heads of one engine say, all but those that make waveforms.

    ``domains``: what each was trained on, ``length`` the samples of a window. Heads without a domain are never outside.
    """

    def __init__(
        self, heads: Mapping[str, HeadSpec], domains: Mapping[str, Domain] | None = None, length: int = 0
    ) -> None:
        self._heads = {name: _Head(head) for name, head in heads.items() if speaks(head)}
        # What the heads say of a window found to be noise.
        self.noise = [head.noise for head in self._heads.values() if head.noise is not None]
        self._domains, self._length = domains or {}, length
        self._rate, self._outside = math.nan, self._heads_outside(math.nan)

    @property
    def speak(self) -> bool:
        """Whether any head says something."""
        return bool(self._heads)

    def of(self, released: Released) -> Iterator[tuple[int, list[Said]]]:
        """For each released window that was inferred or found to be noise: its index among them, and what is said."""
        rows = [head.read(released.answers[name]) for name, head in self._heads.items() if name in released.answers]
        inferred = 0
        for index in np.flatnonzero((released.fates == INFERRED) | (released.fates == FATE_NOISE)).tolist():
            if released.fates[index] == INFERRED:
                yield index, [say(inferred) for say in rows]
                inferred += 1
            else:
                yield index, self.noise

    def flag(self, said: list[Said], rate_hz: float) -> list[str]:
        """Mark what comes from heads that were not trained on such windows, and return their names."""
        if rate_hz != self._rate and not (math.isnan(rate_hz) and math.isnan(self._rate)):
            self._rate, self._outside = rate_hz, self._heads_outside(rate_hz)
        if not self._outside:
            return []
        outside = [each for each in said if each.head in self._outside]
        for each in outside:
            each.outside = True
        return [each.head for each in outside]

    def _heads_outside(self, rate_hz: float) -> frozenset[str]:
        domains = ((name, self._domains[name]) for name in self._heads if name in self._domains)
        return frozenset(name for name, domain in domains if not domain.covers(self._length, rate_hz))


class _Head:
    """A head's name, tag key and entry in detections, and its answers as :class:`Said`."""

    def __init__(self, head: HeadSpec) -> None:
        self._spec = head
        self.name = head.name
        self.key = pmt.intern(tags.head_key(head.name))
        self.entry = pmt.intern(head.name)
        self._constants: dict[tuple[str, int, bool], pmt.pmt_base] = {}
        # A count is told as a whole number, everything else as a double.
        self._parameters = [(pmt.intern(each.name), not each.unit) for each in head.parameters]
        # What is said of a window found to be noise.
        self.noise = Said(self, NOISE, [(_CONFIDENCE, pmt.from_double(1.0))]) if NOISE in head.labels else None

    def read(self, rows: np.ndarray) -> Callable[[int], Said]:
        """From rows of answers to what is said of the n-th of them."""
        words = read(self._spec, rows)
        # Python's own numbers at once: one by one they would cost more than all the rest.
        labels, confidences = words.labels.tolist(), words.confidences.tolist()
        values = words.values.tolist() if self._parameters else None
        anomaly = self._spec.kind == ANOMALY

        def say(n: int) -> Said:
            label, fields = "", []
            if words.names:
                label = words.names[labels[n]]
                fields.append((_CONFIDENCE, pmt.from_double(confidences[n])))
                if anomaly:
                    score = confidences[n] if labels[n] else 1.0 - confidences[n]
                    fields.append((_SCORE, pmt.from_double(score)))
            if values is not None and label != UNKNOWN:
                for (key, count), value in zip(self._parameters, values[n]):
                    fields.append((key, pmt.from_long(round(value)) if count else pmt.from_double(value)))
            return Said(self, label, fields)

        return say

    def constant(self, label: str, valid: int, outside: bool) -> pmt.pmt_base:
        """Dict of what does not depend on the window: label, family, ``valid`` unless it is 0, and the mark."""
        value = self._constants.get((label, valid, outside))
        if value is not None:
            return value
        value = pmt.make_dict()
        if label:
            value = pmt.dict_add(value, _LABEL, pmt.intern(label))
            if self.name == _MODULATION:
                value = pmt.dict_add(value, _FAMILY, pmt.intern(family_of(label)))
        if valid:
            value = pmt.dict_add(value, _LENGTH, pmt.from_long(valid))
        if outside:
            value = pmt.dict_add(value, _OUTSIDE, pmt.PMT_T)
        if len(self._constants) < _MOST_CONSTANTS:
            self._constants[label, valid, outside] = value
        return value


def detection(
    anchor: Anchor, number: int, valid: int, rate: float, said: list[Said], snr_db: float, latency_ms: float
) -> pmt.pmt_base:
    """PDU of window ``number``, which reckons from ``anchor``, with ``valid`` samples of signal at ``rate`` Hz."""
    start, state = anchor.start_of(number), anchor.state
    fields = pmt.acons(_SAMPLE_START, pmt.from_uint64(start), pmt.make_dict())
    fields = pmt.acons(_SAMPLE_COUNT, pmt.from_long(valid), fields)
    time_ = state.time_at(start)
    if time_ is not None:
        moment = pmt.make_tuple(pmt.from_uint64(time_[0]), pmt.from_double(time_[1]))
        fields = pmt.acons(_RX_TIME, moment, fields)
    if not math.isnan(rate):
        fields = pmt.acons(_RX_RATE, pmt.from_double(rate), fields)
    if not math.isnan(state.freq):
        fields = pmt.acons(_RX_FREQ, pmt.from_double(state.freq), fields)
    if not math.isnan(snr_db):
        fields = pmt.acons(_SNR_DB, pmt.from_double(float(snr_db)), fields)
    fields = pmt.acons(_LATENCY_MS, pmt.from_double(float(latency_ms)), fields)
    for each in said:
        fields = pmt.acons(each.entry, each.value, fields)
    return pmt.cons(fields, _NO_DATA)
