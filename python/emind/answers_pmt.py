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
from typing import NamedTuple

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


class Said(NamedTuple):
    """What one head says of one window: its name, the key of its tag, its entry in a detection, and the dict that both
    hold."""

    head: str
    key: pmt.pmt_base
    entry: pmt.pmt_base
    value: pmt.pmt_base

    def tag(self, valid: int) -> pmt.pmt_base:
        """The tag's value, for a window of ``valid`` samples of signal."""
        return pmt.dict_add(self.value, _LENGTH, pmt.from_long(valid))

    def marked(self) -> Said:
        """The same, said of a window unlike those that the head was trained on."""
        return self._replace(value=pmt.dict_add(self.value, _OUTSIDE, pmt.PMT_T))


class Answers:
    """Makes PMT of what the heads of one engine say, all but those that make waveforms.

    ``domains``: what each was trained on, ``length`` the samples of a window. Heads without a domain are never outside.
    """

    def __init__(
        self, heads: Mapping[str, HeadSpec], domains: Mapping[str, Domain] | None = None, length: int = 0
    ) -> None:
        self._heads = {name: _Head(head) for name, head in heads.items() if speaks(head)}
        # What is said of a window found to be noise.
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

    def flagged(self, said: list[Said], rate_hz: float) -> tuple[list[Said], list[str]]:
        """What heads say, marked where it comes from a head that was not trained on such windows; and those heads."""
        if rate_hz != self._rate and not (math.isnan(rate_hz) and math.isnan(self._rate)):
            self._rate, self._outside = rate_hz, self._heads_outside(rate_hz)
        if not self._outside:
            return said, []
        outside = [each.head for each in said if each.head in self._outside]
        return [each.marked() if each.head in self._outside else each for each in said], outside

    def _heads_outside(self, rate_hz: float) -> frozenset[str]:
        domains = ((name, self._domains[name]) for name in self._heads if name in self._domains)
        return frozenset(name for name, domain in domains if not domain.covers(self._length, rate_hz))


class _Head:
    """A head's tag key, its entry in detections, and its answers as dicts, made once for each label."""

    def __init__(self, head: HeadSpec) -> None:
        self._spec = head
        self.key = pmt.intern(tags.head_key(head.name))
        self.entry = pmt.intern(head.name)
        self._dicts = {label: self._labelled(label) for label in (*head.labels, UNKNOWN)}
        # A count is told as a whole number, everything else as a double.
        self._parameters = [(pmt.intern(each.name), not each.unit) for each in head.parameters]
        self.noise = self._said(pmt.dict_add(self._dicts[NOISE], _CONFIDENCE, pmt.from_double(1.0))) \
            if NOISE in head.labels else None

    def read(self, rows: np.ndarray) -> Callable[[int], Said]:
        """From rows of answers to what is said of the n-th of them."""
        words = read(self._spec, rows)
        # Python's own numbers at once: one by one they would cost more than all the rest.
        labels, confidences = words.labels.tolist(), words.confidences.tolist()
        values = words.values.tolist() if self._parameters else None
        anomaly = self._spec.kind == ANOMALY

        def say(n: int) -> Said:
            fields = pmt.make_dict()
            if words.names:
                label = words.names[labels[n]]
                fields = pmt.dict_add(self._dicts[label], _CONFIDENCE, pmt.from_double(confidences[n]))
                if anomaly:
                    score = confidences[n] if labels[n] else 1.0 - confidences[n]
                    fields = pmt.dict_add(fields, _SCORE, pmt.from_double(score))
                if label == UNKNOWN:
                    return self._said(fields)
            if values is not None:
                for (key, count), value in zip(self._parameters, values[n]):
                    number = pmt.from_long(round(value)) if count else pmt.from_double(value)
                    fields = pmt.dict_add(fields, key, number)
            return self._said(fields)

        return say

    def _said(self, value: pmt.pmt_base) -> Said:
        return Said(self._spec.name, self.key, self.entry, value)

    def _labelled(self, label: str) -> pmt.pmt_base:
        value = pmt.dict_add(pmt.make_dict(), _LABEL, pmt.intern(label))
        if self._spec.name == _MODULATION:
            value = pmt.dict_add(value, _FAMILY, pmt.intern(family_of(label)))
        return value


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
