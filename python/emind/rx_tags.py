#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What a source's tags tell of its stream: rate, frequency and time, in the words of ``dsp.framing.Continuity``."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pmt
from gnuradio import gr

from .contract import tags
from .dsp.framing import Moment

_RX_TIME = pmt.intern(tags.RX_TIME)
_NUMBERS = ((pmt.intern(tags.RX_RATE), "rate"), (pmt.intern(tags.RX_FREQ), "freq"))


def reading_of(tag: gr.tag_t) -> dict[str, float | Moment]:
    """``rate`` (Hz), ``freq`` (Hz) or ``time`` as one tag tells it; nothing where its value makes no sense."""
    value = tag.value
    if pmt.eq(tag.key, _RX_TIME):
        if not (pmt.is_tuple(value) and pmt.length(value) == 2):
            return {}
        whole, fraction = (_number(pmt.tuple_ref(value, place)) for place in (0, 1))
        return {} if math.isnan(whole) or math.isnan(fraction) else {"time": (int(whole), fraction)}
    for key, name in _NUMBERS:
        if pmt.eq(tag.key, key):
            number = _number(value)
            return {} if math.isnan(number) or (name == "rate" and number <= 0) else {name: number}
    return {}


def behind_tuner(tag: gr.tag_t, decimation: int, frequency_offset: float) -> gr.tag_t:
    """A tag of a source as it is of its stream shifted down by Hz and decimated: with the new rate or frequency."""
    reading = reading_of(tag)
    if "rate" in reading:
        value = reading["rate"] / decimation
    elif "freq" in reading:
        value = reading["freq"] + frequency_offset
    else:
        return tag
    tuned = gr.tag_t()
    tuned.offset, tuned.key, tuned.value, tuned.srcid = tag.offset, tag.key, pmt.from_double(value), tag.srcid
    return tuned


def readings(found: Iterable[gr.tag_t]) -> dict[int, dict[str, float | Moment]]:
    """What these tags tell, by sample, ascending; samples whose tags tell nothing are left out."""
    told: dict[int, dict[str, float | Moment]] = {}
    for tag in found:
        reading = reading_of(tag)
        if reading:
            told.setdefault(tag.offset, {}).update(reading)
    return dict(sorted(told.items()))


def _number(value: pmt.pmt_base) -> float:
    """A real PMT number as float, nan for anything else or anything infinite."""
    if not (pmt.is_real(value) or pmt.is_integer(value) or pmt.is_uint64(value)):
        return math.nan
    number = float(pmt.to_python(value))
    return number if math.isfinite(number) else math.nan
