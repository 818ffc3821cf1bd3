#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block that cuts a stream into windows."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pmt
from gnuradio import gr

from .contract import tags
from .contract.errors import UsageError
from .dsp.framing import Continuity, Framer, Run, StreamState, window_buffer
from .guarded import Guarded
from .rx_tags import behind_tuner, reading_of, readings

_RX_TIME = pmt.intern(tags.RX_TIME)
_RX_RATE = pmt.intern(tags.RX_RATE)
_FREQ = pmt.intern("freq")  # of GNU Radio's tuning filters
_RX_FREQ = pmt.intern(tags.RX_FREQ)
_WINDOW = pmt.intern(tags.WINDOW)
_WINDOW_START = pmt.intern(tags.WINDOW_START)
_WINDOW_VALID = pmt.intern(tags.WINDOW_VALID)
_WINDOW_HOP = pmt.intern(tags.WINDOW_HOP)
_WINDOW_GAP = pmt.intern(tags.WINDOW_GAP)
_STREAM_TAG = pmt.intern(tags.STREAM_TAG)
_STREAM_TAG_SAMPLE = pmt.intern(tags.STREAM_TAG_SAMPLE)
_STREAM_TAG_KEY = pmt.intern(tags.STREAM_TAG_KEY)
_STREAM_TAG_VALUE = pmt.intern(tags.STREAM_TAG_VALUE)
_STREAM_TAG_SOURCE = pmt.intern(tags.STREAM_TAG_SOURCE)


class windowing(Guarded, gr.basic_block):
    """Cuts a complex stream into windows of ``length`` samples, one every ``hop`` samples.

    Input: complex stream. Output: vectors of ``length`` complex samples, one a window.

    No window straddles a gap. A gap is a sample whose ``rx_time`` does not continue the last one (by more than one
    sample), or whose ``rx_rate`` or ``rx_freq`` is new. Samples before a gap that no full window holds come out as
    one zero-filled window; the next window starts at the gap. Samples behind the last full window at the end of the
    stream are dropped (a block in Python cannot see that end): who needs them appends ``length`` zeros.

    Tags on the output (an item is a window):

    - ``emind_window``, a dict, on each window that says something new: the first, a zero-filled one, the first
      behind a gap, and the first behind a sample where rate, frequency or time became known. It holds ``start``
      (uint64, absolute sample), ``hop`` and ``valid`` (long, samples), ``gap`` (#t right behind a gap), and
      ``rx_rate`` (Hz), ``rx_freq`` (Hz), ``rx_time`` of its first sample where known. The windows that follow it are
      whole and lie ``hop`` samples apart.
    - ``emind_stream_tag``, a dict, one for each tag of the stream, on the first window that holds its sample:
      ``sample`` (uint64, absolute), ``key``, ``value``, ``source``. :class:`overlap_add` puts it back. The value of
      ``rx_rate`` and ``rx_freq`` is that of this input, as ``decimation`` and ``frequency_offset`` make it.

    Parameters
    ----------
    length: samples a window
    hop: samples from one window's start to the next one's, 1 to ``length``
    sample_rate: samples a second at this input, 0 if only an ``rx_rate`` tag tells
    decimation: by how much the stream was decimated after the ``rx_rate`` tag was made
    frequency_offset: Hz by which the stream was shifted down after the ``rx_freq`` tag was made
    buffer_windows: windows that the output buffer holds, so that the block behind can hold windows back in it

    Raises
    ------
    UsageError: parameters that cannot work
    """

    def __init__(
        self,
        length: int = 1024,
        hop: int = 1024,
        sample_rate: float = 0.0,
        decimation: int = 1,
        frequency_offset: float = 0.0,
        buffer_windows: int = 256,
    ) -> None:
        if not 1 <= hop <= length:
            raise UsageError(f"hop {hop} must be between 1 and the window length {length}")
        if decimation < 1:
            raise UsageError(f"decimation {decimation} must be at least 1")
        if not sample_rate >= 0:
            raise UsageError(f"sample_rate {sample_rate} must not be negative")
        gr.basic_block.__init__(self, "emind_windowing", in_sig=[np.complex64], out_sig=[(np.complex64, (length,))])
        self._length, self._hop = length, hop
        self._sample_rate = sample_rate
        self._decimation, self._frequency_offset = decimation, frequency_offset
        self._tuner: pmt.pmt_base | None = None
        self._gaps = 0
        self._prepare()
        self.set_tag_propagation_policy(gr.TPP_DONT)
        windows = window_buffer(length, buffer_windows)
        # With its own tags the rate is no more than what sizes the buffer in front of the block: room for many windows.
        self.set_relative_rate(1, max(1, windows // 4) * length)
        level = self.log_level()
        self.set_log_level("warn")  # the call says at level info what it does
        self.set_min_output_buffer(windows)
        self.set_log_level(level)

    def follow(self, tuner: str) -> None:
        """Obey the tags ``freq`` of the block of this alias, which made ``frequency_offset``: another offset from there
        on, and a gap."""
        self._tuner = pmt.intern(tuner)

    def gaps(self) -> int:
        """Gaps met since the flowgraph started."""
        return self._gaps

    def start(self) -> bool:
        self._prepare()
        return True

    def _prepare(self) -> None:
        self._framer = Framer(self._length, self._hop)
        self._continuity = Continuity(self._sample_rate)
        self._state = self._continuity.state  # of the newest window
        self._news: deque[StreamState] = deque([self._state])
        self._stream_tags: deque[gr.tag_t] = deque()
        self._scanned = 0  # tags before this sample are known
        self._enough = 1  # samples that the next call needs
        self._gaps = 0
        self._source_freq = math.nan

    def forecast(self, noutput_items: int, ninputs: int) -> list[int]:
        return [self._enough] * ninputs

    def general_work(self, input_items: list, output_items: list) -> int:
        samples, windows = input_items[0], output_items[0]
        first = self.nitems_read(0)
        end = first + len(samples)
        if end > self._scanned:
            self._scan(end)
        produced = 0
        for run in self._framer.take(end, len(windows)):
            self._copy(samples[run.start - first :], run, windows[produced : produced + run.count])
            if self._news or self._stream_tags or run.valid < self._length:
                self._tag(run, self.nitems_written(0) + produced)
            produced += run.count
        used = self._framer.position - first
        self.consume(0, used)
        # Asking for one sample more than has been looked at: a gap that a few samples bring is met although no full
        # window follows, and the scheduler has no reason to call again before there is something new.
        left = len(samples) - used
        self._enough = left + 1 if left < self._length else self._length
        return produced

    def _copy(self, samples: np.ndarray, run: Run, out: np.ndarray) -> None:
        length, hop = self._length, self._hop
        if run.valid < length:
            out[0, : run.valid] = samples[: run.valid]
            out[0, run.valid :] = 0
        elif hop == length:
            out[...] = samples[: run.count * length].reshape(run.count, length)
        else:
            span = (run.count - 1) * hop + length
            out[...] = np.lib.stride_tricks.sliding_window_view(samples[:span], length)[::hop]

    def _scan(self, end: int) -> None:
        """Take in the tags on the samples from where the last call ended."""
        found = self.get_tags_in_range(0, self._scanned, end)
        self._scanned = end
        if not found:
            return
        retuned: set[int] = set()
        if self._decimation > 1 or self._frequency_offset or self._tuner is not None:
            found = [tuned for tag in found if (tuned := self._behind_tuner(tag, retuned)) is not None]
        self._stream_tags.extend(found)
        told = readings(found)
        for sample in sorted(retuned | told.keys()):
            reading = told.get(sample, {})
            if sample in retuned and "freq" not in reading:
                self._continuity.observe(sample, **reading)
                self._news.append(self._continuity.break_at(sample))
                self._framer.mark_gap(sample)
                continue
            state = self._continuity.observe(sample, **reading)
            if state is None:
                continue
            self._news.append(state)
            if state.gap:
                self._framer.mark_gap(sample)

    def _behind_tuner(self, tag: gr.tag_t, retuned: set[int]) -> gr.tag_t | None:
        """The tag as it is of this input. The tuner's own becomes one of ``rx_freq``, where that is known."""
        if self._tuner is None or not (pmt.eq(tag.key, _FREQ) and pmt.eq(tag.srcid, self._tuner)):
            self._source_freq = reading_of(tag).get("freq", self._source_freq)
            return behind_tuner(tag, self._decimation, self._frequency_offset)
        retuned.add(tag.offset)
        self._frequency_offset = pmt.to_double(tag.value)
        if math.isnan(self._source_freq):
            return None
        value = pmt.from_double(self._source_freq + self._frequency_offset)
        return gr.tag_utils.python_to_tag((tag.offset, _RX_FREQ, value, tag.srcid))

    def _tag(self, run: Run, item: int) -> None:
        """Tag the windows of a run, the first of which is output item ``item``."""
        framer = self._framer
        speaking: dict[int, tuple[StreamState, bool]] = {}
        if run.valid < self._length:
            speaking[0] = self._state, False
        while self._news:
            window = framer.first_window_from(run, self._news[0].sample)
            if window >= run.count:
                break
            self._state = state = self._news.popleft()
            behind_gap = state.gap or (window in speaking and speaking[window][1])
            speaking[window] = state, behind_gap
            self._gaps += state.gap
        for window, (state, behind_gap) in speaking.items():
            self._add_window_tag(item + window, run.start + window * self._hop, run.valid, state, behind_gap)
        while self._stream_tags:
            window = framer.first_window_with(run, self._stream_tags[0].offset)
            if window >= run.count:
                break
            self._add_stream_tag(item + window, self._stream_tags.popleft())

    def _add_window_tag(self, item: int, start: int, valid: int, state: StreamState, behind_gap: bool) -> None:
        value = pmt.dict_add(pmt.make_dict(), _WINDOW_START, pmt.from_uint64(start))
        value = pmt.dict_add(value, _WINDOW_HOP, pmt.from_long(self._hop))
        value = pmt.dict_add(value, _WINDOW_VALID, pmt.from_long(valid))
        if behind_gap:
            value = pmt.dict_add(value, _WINDOW_GAP, pmt.PMT_T)
        if not math.isnan(state.rate):
            value = pmt.dict_add(value, _RX_RATE, pmt.from_double(state.rate))
        if not math.isnan(state.freq):
            value = pmt.dict_add(value, _RX_FREQ, pmt.from_double(state.freq))
        time = state.time_at(start)
        if time is not None:
            value = pmt.dict_add(value, _RX_TIME, pmt.make_tuple(pmt.from_uint64(time[0]), pmt.from_double(time[1])))
        self.add_item_tag(0, item, _WINDOW, value)

    def _add_stream_tag(self, item: int, tag: gr.tag_t) -> None:
        value = pmt.dict_add(pmt.make_dict(), _STREAM_TAG_SAMPLE, pmt.from_uint64(tag.offset))
        value = pmt.dict_add(value, _STREAM_TAG_KEY, tag.key)
        value = pmt.dict_add(value, _STREAM_TAG_VALUE, tag.value)
        value = pmt.dict_add(value, _STREAM_TAG_SOURCE, tag.srcid)
        self.add_item_tag(0, item, _STREAM_TAG, value)
