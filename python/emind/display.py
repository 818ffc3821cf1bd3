#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block that shows a stream's waterfall with what was detected in it."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import pmt
from gnuradio import gr

from .callbacks import Told
from .contract import tags
from .contract.errors import UsageError
from .dsp.waterfall import Waterfall
from .gui.qt import need_application
from .gui.scene import Scene, fields_of
from .guarded import Guarded

_RX_RATE = pmt.intern(tags.RX_RATE)
_RX_FREQ = pmt.intern(tags.RX_FREQ)
_DETECTIONS = pmt.intern(tags.PORT_DETECTIONS)
_STATISTICS = pmt.intern(tags.PORT_STATISTICS)
_ASYNC = pmt.intern("async_msgs")
_PARTS = 20, 40, 160  # of the picture: bridged where windows are skipped, until a label is given up, longest pause
_MOST_WAITING = 4096  # detections that wait for the next picture; older ones are not shown


class display(Guarded, Told, gr.sync_block):
    """Shows a waterfall with a labelled box for each detection, the last answers, and the statistics, in Qt.

    Input: the complex stream that the detections are about: the output of :class:`receiver`, or the stream before it
    (detections of a decimated stream are brought to its samples by their ``rx_rate``). A box lasts while the main head
    says that something is there, named by its most frequent answer: it goes on over skipped windows for 1/20 of the
    picture, over pauses for 1/160, and ends where fewer than a quarter of the answers of 1/40 give its label. What
    other heads say stands in the table where it counts, see :mod:`.contract.detection`. A box is as wide as the part of
    the channel that stands above the noise floor meanwhile, or as the channel where nothing does. ``rx_rate`` and
    ``rx_freq`` tags are obeyed.

    Message ports: ``detections`` and ``statistics`` of :class:`inference` or :class:`receiver` (``statistics`` also of
    :class:`recorder`), ``async_msgs`` of a USRP source, whose overflows are counted.

    It takes one FFT a line of the picture, whatever the sample rate, holds one picture, and draws at most
    ``frame_rate`` times a second, not at all while it cannot be seen. Closing its window ends nothing else.

    Parameters
    ----------
    sample_rate: samples a second where no tag tells
    center_freq: Hz where no tag tells
    title: above the waterfall
    span_s: seconds that the waterfall shows; with slow streams more, since a line has at least ``fft_size`` samples
    fft_size: samples an FFT, a power of two
    frame_rate: pictures a second at most
    offset: Hz from the middle of the band to that of the channel, as given to a receiver behind this point
    bandwidth: Hz of the channel, 0: the whole band
    show_noise: boxes also where nothing is
    level_min, level_max: dB of full scale at the ends of the colours, None: by what is there

    Raises
    ------
    UsageError: parameters that cannot work
    EMindError: PyQt5 is not installed, or no Qt application runs
    """

    def __init__(
        self,
        sample_rate: float = 1e6,
        center_freq: float = 0.0,
        title: str = "",
        span_s: float = 5.0,
        fft_size: int = 512,
        frame_rate: float = 10.0,
        offset: float = 0.0,
        bandwidth: float = 0.0,
        show_noise: bool = False,
        level_min: float | None = None,
        level_max: float | None = None,
    ) -> None:
        if not sample_rate > 0 or not span_s > 0 or not 0 < frame_rate <= 60:
            raise UsageError(f"sample_rate {sample_rate} and span_s {span_s} must be above 0, "
                             f"frame_rate {frame_rate} above 0 and at most 60")
        if not (64 <= fft_size <= 1 << 15) or fft_size & (fft_size - 1):
            raise UsageError(f"fft_size {fft_size} must be a power of two from 64 to 32768")
        channel = _channel_of(offset, bandwidth, sample_rate)
        if level_min is not None and level_max is not None and not level_min < level_max:
            raise UsageError(f"level_min {level_min} must be below level_max {level_max}")
        widget = _widget_class()
        gr.sync_block.__init__(self, "emind_display", in_sig=[np.complex64], out_sig=None)
        self._rate, self._center = sample_rate, center_freq
        self._span_s, self._fft_size = span_s, fft_size
        self._lock = threading.Lock()
        self._waiting: deque = deque(maxlen=_MOST_WAITING)  # detections, as they came
        self._told: deque = deque(maxlen=16)  # newest statistics
        self._overflows = 0
        self._picture = -1
        self._begin()
        scene = Scene(sample_rate, *(span_s / part for part in _PARTS))
        self._widget = widget(title, scene, self._feed, channel, (level_min, level_max), frame_rate, show_noise)
        for port, handler in ((_DETECTIONS, self._on_detection), (_STATISTICS, self._on_statistics),
                              (_ASYNC, self._on_async)):
            self.message_port_register_in(port)
            self.set_msg_handler(port, handler)

    def qwidget(self) -> object:
        """The Qt widget, to be put into a layout or shown as a window."""
        return self._widget

    def set_sample_rate(self, sample_rate: float) -> None:
        """Another rate, as after a change at the source: the picture starts anew."""
        with self._lock:
            self._set_rate(sample_rate)

    def set_center_freq(self, center_freq: float) -> None:
        """Another centre frequency in Hz; until a tag tells otherwise."""
        with self._lock:
            self._center = center_freq

    def set_channel(self, offset: float, bandwidth: float) -> None:
        """Another channel, as after :meth:`receiver.set_offset` of a receiver behind this point; boxes that are there
        keep theirs. UsageError outside the band."""
        self._widget.waterfall.channel = _channel_of(offset, bandwidth, self._rate)

    def ffts(self) -> int:
        """FFTs taken so far: one a line."""
        with self._lock:
            return self._before + self._waterfall.count

    def work(self, input_items: list, output_items: list) -> int:
        samples = input_items[0]
        found = self.get_tags_in_window(0, 0, len(samples))
        with self._lock:
            first, done = self.nitems_read(0), 0
            for tag in sorted(found, key=lambda one: one.offset):
                if pmt.eq(tag.key, _RX_FREQ) and pmt.is_number(tag.value):
                    self._center = pmt.to_double(tag.value)
                elif pmt.eq(tag.key, _RX_RATE) and pmt.is_number(tag.value):
                    at = tag.offset - first
                    self._waterfall.take(samples[done:at])
                    done = at
                    self._set_rate(pmt.to_double(tag.value))
            self._waterfall.take(samples[done:])
        return len(samples)

    def start(self) -> bool:
        with self._lock:
            self._begin()
        return True

    def _begin(self) -> None:
        self._before = 0
        self._origin = 0  # number of the stream's sample that the waterfall began with
        self._picture += 1
        self._waterfall = Waterfall(self._rate, self._span_s, size=self._fft_size)

    def _set_rate(self, rate: float) -> None:
        if not rate > 0 or rate == self._rate:
            return
        self._before += self._waterfall.count
        self._origin += self._waterfall.position
        self._rate = rate
        self._picture += 1
        self._waterfall = Waterfall(rate, self._span_s, size=self._fft_size)

    def _on_detection(self, message: pmt.pmt_base) -> None:
        self._waiting.append(message)  # read when it is drawn

    def _on_statistics(self, message: pmt.pmt_base) -> None:
        self._told.append(message)

    def _on_async(self, message: pmt.pmt_base) -> None:
        """What a USRP source tells: a pair whose dict has a number of overflows."""
        fields = pmt.to_python(pmt.cdr(message)) if pmt.is_pair(message) else {}
        if isinstance(fields, dict):
            with self._lock:
                self._overflows += int(fields.get("overflows", 0))

    def _feed(self, scene: Scene) -> tuple:
        """Everything that came since the last picture; called by the window."""
        with self._lock:
            waterfall, center = self._waterfall, self._center
            picture = waterfall.rate, self._origin, self._picture
            lines, first = waterfall.lines()
            overflows, self._overflows = self._overflows, 0
        scene.overflow(overflows)
        scene.move(*picture)
        for waiting, take in ((self._waiting, scene.detection), (self._told, scene.statistics)):
            for _ in range(len(waiting)):
                fields = fields_of(waiting.popleft())
                if fields is None:
                    continue
                try:
                    take(fields)
                except (TypeError, ValueError, OverflowError):  # of another block; Qt aborts at what its timers raise
                    pass
        return lines, first, waterfall.rows, waterfall.every, waterfall.rate, center


def _channel_of(offset: float, bandwidth: float, rate: float) -> tuple[float, float] | None:
    """Hz from the middle of the band; None: all of it."""
    if not 0 <= bandwidth <= rate or not abs(offset) <= rate / 2:
        raise UsageError(f"offset {offset:g} Hz and bandwidth {bandwidth:g} Hz must lie within the band of {rate:g} "
                         "samples a second")
    return (offset - bandwidth / 2, offset + bandwidth / 2) if bandwidth > 0 else None


def _widget_class():
    """The window's class; Qt comes in here, so that the module works without it."""
    need_application("a display", "emind live")
    from .gui.view import DisplayWidget

    return DisplayWidget
