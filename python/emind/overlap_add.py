#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block that turns windows back into a stream."""

from __future__ import annotations

import numpy as np
import pmt
from gnuradio import gr

from .contract import tags
from .contract.errors import EMindError, UsageError
from .dsp.framing import Anchor, StreamState, anchor_from_fields, window_buffer
from .dsp.overlap_add import OverlapAdd
from .dsp.source_order import SourceOrder
from .guarded import Guarded

_WINDOW = pmt.intern(tags.WINDOW)
_STREAM_TAG = pmt.intern(tags.STREAM_TAG)
_STREAM_TAG_SAMPLE = pmt.intern(tags.STREAM_TAG_SAMPLE)
_STREAM_TAG_KEY = pmt.intern(tags.STREAM_TAG_KEY)
_STREAM_TAG_VALUE = pmt.intern(tags.STREAM_TAG_VALUE)
_STREAM_TAG_SOURCE = pmt.intern(tags.STREAM_TAG_SOURCE)
_RECONSTRUCTION = pmt.intern(tags.RECONSTRUCTION)
_RECONSTRUCTED = pmt.intern(tags.RECONSTRUCTED)


class overlap_add(Guarded, gr.basic_block):
    """Turns windows of ``length`` samples, ``hop`` apart, back into a stream: sample k in is sample k out.

    Input: vectors of ``length`` complex samples, on ``sources`` ports. Output: as many complex streams, in step.

    Where windows overlap, each sample is the mean of the windows that hold it, weighted towards their middles; windows
    that nobody changed give the stream back. ``emind_window`` tags say where windows lie and which samples are zero
    fill (those are left out); without them every window follows ``hop`` samples behind the last one.

    With several ``sources`` the ports hold what a separation made of the same windows, and a source stays on its port:
    each window's are put in the order in which they continue the last window's over the samples that both hold. Windows
    that ``emind_reconstruction`` says were not separated stay as they are. Where nothing overlaps (behind a gap, behind
    a window left out with ``hop`` of half a window) the order begins anew.

    Tags: ``emind_stream_tag`` comes out as the stream's own tag, with its key, value and source, on its exact sample;
    every other tag of a window comes out on the window's first sample; ``emind_window`` ends here. The tags are those
    of the first port, and come out on all.

    The last ``length - hop`` samples of the last window wait for windows that would hold them too, and are dropped at
    the end of the stream: none with ``hop`` = ``length``.

    Parameters
    ----------
    length: samples a window
    hop: samples from one window's start to the next one's, as in :class:`windowing`
    sources: ports whose windows belong together; above 1 the hop must be below the length

    Raises
    ------
    UsageError: a hop that leaves samples out, or several sources whose windows do not overlap
    """

    def __init__(self, length: int = 1024, hop: int = 1024, sources: int = 1) -> None:
        if not 1 <= hop <= length:
            raise UsageError(f"hop {hop} must be between 1 and the window length {length}")
        if sources < 1:
            raise UsageError(f"sources {sources} must be at least 1")
        if sources > 1 and hop == length:
            raise UsageError(
                f"{sources} sources keep their order where windows overlap: "
                f"set a hop below the window length {length}, such as {length // 2}"
            )
        self._adders = [OverlapAdd(length, hop) for _ in range(sources)]
        self._order = SourceOrder(length, sources) if sources > 1 else None
        gr.basic_block.__init__(
            self, "emind_overlap_add", in_sig=[(np.complex64, (length,))] * sources, out_sig=[np.complex64] * sources
        )
        self._length, self._hop = length, hop
        self._prepare()
        self.set_tag_propagation_policy(gr.TPP_DONT)
        self.set_relative_rate(length, 1)
        self.set_output_multiple(length)  # whatever a window brings out fits
        level = self.log_level()
        self.set_log_level("warn")  # the call says at level info what it does
        self.set_min_output_buffer(window_buffer(length, 256) * length)
        self.set_log_level(level)

    def start(self) -> bool:
        self._prepare()
        return True

    def _prepare(self) -> None:
        for adder in self._adders:
            adder.reset()
        if self._order is not None:
            self._order.restart()
        self._separated = True  # the newest window, as far as its tags tell
        self._anchor = Anchor(0, 0, self._hop, self._length, StreamState())
        self._expected = 0  # sample at which the next window starts if it continues
        self._shift = 0  # from sample number in to sample number out; 0 unless windows are missing
        self._due: list[gr.tag_t] = []  # with offsets of samples out

    def forecast(self, noutput_items: int, ninputs: int) -> list[int]:
        return [1] * ninputs

    def general_work(self, input_items: list, output_items: list) -> int:
        waiting = min(len(windows) for windows in input_items)
        first = self.nitems_read(0)
        found = self.get_tags_in_range(0, first, first + waiting)
        try:
            anchors = [
                anchor_from_fields(tag.offset, pmt.to_python(tag.value)) for tag in found if pmt.eq(tag.key, _WINDOW)
            ]
            for anchor in anchors:
                if anchor.hop != self._hop or anchor.valid > self._length:
                    raise ValueError(
                        f"windows of hop {anchor.hop} met an overlap_add of length {self._length} and hop {self._hop}: "
                        "give both blocks the same length and hop"
                    )
        except ValueError as fault:
            raise EMindError(str(fault)) from None
        # Runs: from one anchor to the next, the first perhaps continuing the last call's.
        starts = sorted({first, *(anchor.window for anchor in anchors)})
        by_window = {anchor.window: anchor for anchor in anchors}
        separated = self._separation(found, first, waiting)
        produced = done = 0
        written = self.nitems_written(0)
        tag_index = 0
        for start, stop in zip(starts, [*starts[1:], first + waiting]):
            anchor = by_window.get(start)
            if anchor is not None:
                flushed = self._begin(anchor, [out[produced:] for out in output_items], written + produced)
                if flushed is None:
                    break
                produced += flushed
            here = slice(start - first, stop - first)
            inputs, outs = [windows[here] for windows in input_items], [out[produced:] for out in output_items]
            count, samples = self._add(inputs, separated[here], start, outs)
            while tag_index < len(found) and found[tag_index].offset < start + count:
                self._route(found[tag_index])
                tag_index += 1
            produced += samples
            done += count
            if count < stop - start:
                break
        self._emit_tags(written + produced)
        if done:
            self._separated = bool(separated[done - 1])
        self.consume_each(done)
        return produced

    def _separation(self, found: list, first: int, count: int) -> np.ndarray:
        """Which of ``count`` windows, the first number ``first``, were separated: bool (count,)."""
        separated = np.full(count, self._separated)
        if self._order is not None:
            for tag in found:
                if pmt.eq(tag.key, _RECONSTRUCTION):
                    separated[tag.offset - first :] = pmt.eq(tag.value, _RECONSTRUCTED)
        return separated

    def _begin(self, anchor: Anchor, outs: list[np.ndarray], position: int) -> int | None:
        """Windows start anew at an anchor, output sample ``position``. Samples flushed, None if they do not fit."""
        count = 0
        if anchor.start != self._expected:
            count = min(max(anchor.start - self._expected, 0), self._adders[0].tail)
            if len(outs[0]) < count + self._length:
                return None
            for adder, out in zip(self._adders, outs):
                adder.flush(count, out)
            self._shift = position + count - anchor.start
            self._expected = anchor.start
        if anchor.state.gap and self._order is not None:
            self._order.restart()
        self._anchor = anchor
        return count

    def _add(
        self, inputs: list[np.ndarray], separated: np.ndarray, number: int, outs: list[np.ndarray]
    ) -> tuple[int, int]:
        """Add as many windows, the first of them window ``number``, as ``outs`` have room for: (windows, samples)."""
        room = len(outs[0])
        valid = self._anchor.valid_of(number, self._length)
        if valid < self._length:
            if room < valid:
                return 0, 0
            for adder, windows, out in zip(self._adders, self._arranged(inputs, separated, number, 1), outs):
                adder.add_last(windows[0], valid, out)
            self._expected = self._anchor.start + valid
            return 1, valid
        count = min(len(inputs[0]), room // self._hop)
        if count == 0:
            return 0, 0
        for adder, windows, out in zip(self._adders, self._arranged(inputs, separated, number, count), outs):
            adder.add(windows, out)
        self._expected += count * self._hop
        return count, count * self._hop

    def _arranged(self, inputs: list[np.ndarray], separated: np.ndarray, number: int, count: int) -> list[np.ndarray]:
        """The first ``count`` windows of each source, on the source's own port."""
        if self._order is None:
            return [windows[:count] for windows in inputs]
        stacked = np.stack([windows[:count] for windows in inputs], axis=1)
        start = self._anchor.start_of(number)
        arranged = self._order.arrange(stacked, start, self._hop, separated[:count])
        return [arranged[:, source] for source in range(len(inputs))]

    def _route(self, tag: gr.tag_t) -> None:
        """Note where a tag of a window has to come out."""
        if pmt.eq(tag.key, _WINDOW):
            return
        if pmt.eq(tag.key, _STREAM_TAG):
            fields = tag.value
            tag.offset = pmt.to_uint64(pmt.dict_ref(fields, _STREAM_TAG_SAMPLE, pmt.PMT_NIL)) + self._shift
            tag.key = pmt.dict_ref(fields, _STREAM_TAG_KEY, pmt.PMT_NIL)
            tag.srcid = pmt.dict_ref(fields, _STREAM_TAG_SOURCE, pmt.PMT_F)
            tag.value = pmt.dict_ref(fields, _STREAM_TAG_VALUE, pmt.PMT_NIL)
        else:
            tag.offset = self._anchor.start_of(tag.offset) + self._shift
        self._due.append(tag)  # itself: to take it apart and put it together again would cost more than all the rest

    def _emit_tags(self, end: int) -> None:
        """Put out the tags of all samples before ``end``."""
        if not self._due:
            return
        later = []
        for tag in self._due:
            if tag.offset < end:
                for port in range(len(self._adders)):
                    self.add_item_tag(port, tag)
            else:
                later.append(tag)
        self._due = later
