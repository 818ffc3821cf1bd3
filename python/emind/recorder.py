#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block that records labelled samples."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

import numpy as np
import pmt
from gnuradio import gr

from .callbacks import Told
from .contract import tags
from .contract.errors import EMindError, UsageError, require
from .contract.schema import changed_labels
from .dsp.framing import Anchor, Continuity, StreamState, anchor_from_fields
from .dsp.row_measure import RowMeasure
from .guarded import Guarded
from .recorder_pmt import answer_of, labels_of, switch_of
from .recorder_trigger import DETECTION, NONE, AroundEvents, Trigger
from .rx_tags import reading_of
from .storage.recorder_thread import LONGEST_ROW, STATISTICS_KEYS, Mark, RecorderThread
from .storage.recording_files import RecordingFiles, Stretch, moment

_WINDOW = pmt.intern(tags.WINDOW)
_LABEL_PORT = pmt.intern("label")
_RECORD_PORT = pmt.intern("record")
_DETECTIONS = pmt.intern(tags.PORT_DETECTIONS)
_STATISTICS = pmt.intern(tags.PORT_STATISTICS)
_NO_DATA = pmt.init_u8vector(0, [])

LOSSLESS, REALTIME = "lossless", "realtime"
POLICIES = (LOSSLESS, REALTIME)
_STATISTICS_EVERY_S = 1.0
_WAIT_S = 0.1
_MOST_EVENTS = 4096  # messages that wait for the next samples


class recorder(Guarded, Told, gr.sync_block):
    """Records samples with labels to Parquet (17 attributes a row), SigMF, or both.

    Input: a complex stream, or with ``windows`` vectors of ``length`` complex samples. A row has ``length`` samples;
    it is shorter where the stream breaks (a gap, a new rate or frequency, a change of labels, dropped samples) and at
    the end, where every sample that came is written; without ``short_rows`` such rows are left out and counted.

    What is written: all, or with a ``trigger`` from ``pre_trigger`` samples ahead of each event to ``post_trigger``
    behind its end, in whole rows. Events are tags ``emind_<head>`` on the stream (a :class:`receiver` in front) or
    messages at the port ``detections`` (of a receiver beside this block, whose answers come later than the samples:
    ``pre_trigger`` then has to cover that time too), or a power ``trigger_db`` above that of the quietest stretches.
    Without ``trigger_labels`` the ``modulation`` alone decides, or any head where none of that name answers. Messages
    at the port ``record`` (a bool, a pair or a dict with one) switch the recording off and on.

    Labels, the latter going before the former: ``labels``; messages at the port ``label``, a dict of columns (or a PDU
    with one) for the samples that come after it, where nil takes a label away; with ``from_tags`` the tags
    ``emind_modulation``, ``emind_interference``, ``emind_fingerprint`` and ``emind_radar`` of :class:`inference`, for
    the samples that they are about; ``measure``: ``snr``, ``amplitude`` and ``band_width`` as estimated of each row,
    see :class:`.dsp.row_measure.RowMeasure`; the name of the files as ``dataset_name``, and with a trigger a
    ``transmission_id`` an event. ``rx_rate``, ``rx_freq`` and ``rx_time`` are obeyed.

    Answers are events and labels only where they count: the head was trained on windows of this rate, knows the class
    and is as sure as ``trigger_confidence``; where ``modulation`` is noise no other head counts but ``sensing``.

    Files are called ``<path>-<UTC time>-<number>`` and, until they are finished, ``*.part``. Whatever happens to the
    program, every finished row group can be read. When the disk is full the recording ends, what was written is
    finished, and the flowgraph runs on. Files that a killed recorder left are finished at the start.

    Message port ``statistics``: a PDU about once a second and at the end: ``samples_seen`` = ``samples_written`` +
    ``samples_queued`` + ``samples_dropped`` + ``samples_skipped`` (not wanted), ``rows``, ``gaps``, ``files``
    (finished), ``error`` (text, empty while there is none), ``recording`` (switched on), ``events``.

    Parameters
    ----------
    path: folder and beginning of the file names
    file_format: ``parquet``, ``sigmf`` or ``both``
    sample_rate: samples a second where no tag tells, 0 if unknown
    center_freq: centre frequency in Hz where no tag tells, 0 if unknown; SigMF states it
    length: samples a row
    windows: the input is vectors of ``length`` samples, from :class:`windowing` or :class:`inference`; where they
        overlap for Parquet only, else the flowgraph ends with an error
    labels: dict of columns, such as ``{"dataset_name": "garden", "modulation": "QPSK"}``; None: no labels
    from_tags: take labels from tags
    policy: ``realtime`` (the stream never waits: what the disk cannot keep up with is dropped and counted) or
        ``lossless`` (the stream waits)
    iq_format: ``float32``, or ``int16`` where every value is a multiple of ``scale``
    scale: value of one step of int16: 1/32768 for ci16 files, 1/32767 for UHD's sc16
    rotate_mb: megabytes after which a new file begins, 0: never
    rotate_s: seconds after which a new file begins, 0: never
    queue_mb: megabytes that may wait for the disk
    trigger: ``none``, ``detection`` or ``energy``; the latter two need a stream, not windows
    pre_trigger, post_trigger: samples kept ahead of an event and behind its end
    trigger_db: of the energy, above the noise floor
    trigger_labels: labels that are a detection, of any head; none: every modulation but noise
    trigger_confidence: of an answer that is a detection or a label, at least
    recording: switched on at the start
    short_rows: rows shorter than ``length`` are written too
    measure: estimate SNR, amplitude and occupied bandwidth

    Raises
    ------
    EMindError or UsageError: parameters that cannot work, a folder that cannot be written
    """

    tells_end = True  # in the log, where a recording ends early; False for programs that tell it themselves

    def __init__(
        self,
        path: str = "recording",
        file_format: str = "parquet",
        sample_rate: float = 0.0,
        center_freq: float = 0.0,
        length: int = 1024,
        windows: bool = False,
        labels: dict | None = None,
        from_tags: bool = True,
        policy: str = "realtime",
        iq_format: str = "float32",
        scale: float = 1 / 32768,
        rotate_mb: float = 1024.0,
        rotate_s: float = 0.0,
        queue_mb: float = 128.0,
        trigger: str = "none",
        pre_trigger: int = 4096,
        post_trigger: int = 4096,
        trigger_db: float = 10.0,
        trigger_labels: tuple[str, ...] = (),
        trigger_confidence: float = 0.5,
        recording: bool = True,
        short_rows: bool = True,
        measure: bool = True,
    ) -> None:
        if policy not in POLICIES:
            raise UsageError(f"unknown policy {policy!r}: use {' or '.join(POLICIES)}")
        require((length >= 1, f"length {length} must be at least 1"),
                (length <= LONGEST_ROW, f"length {length} must be at most {LONGEST_ROW:,}: the queue holds two rows"),
                (0 < queue_mb <= 1e6, f"queue_mb {queue_mb:g} must be above 0 and at most a million"),
                *((0 <= value < 1e15, f"{name} {value:g} must not be negative, and below 1e15") for name, value in (
                    ("sample_rate", sample_rate), ("rotate_mb", rotate_mb), ("rotate_s", rotate_s))),
                (math.isfinite(center_freq), f"center_freq {center_freq:g} must be finite"),
                (iq_format in ("float32", "int16"), f"iq_format {iq_format!r} must be float32 or int16"),
                (0 < scale < math.inf, f"scale {scale:g} must be above 0"))
        if file_format != "parquet" and not sample_rate:
            raise UsageError("SigMF states a sample rate: set sample_rate, or record to Parquet")
        given = Trigger(trigger, pre_trigger, post_trigger, trigger_db, tuple(trigger_labels), trigger_confidence)
        self._files_options: dict[str, Any] = {
            "base": path, "file_format": file_format, "iq_format": iq_format, "scale": scale,
            "rotate_bytes": rotate_mb * 1e6, "rotate_s": rotate_s}
        self._labels = changed_labels({}, labels or {})
        # Refuses what cannot work, and loads the libraries before anything runs.
        self._files = RecordingFiles(**self._files_options)
        item = (np.complex64, (length,)) if windows else np.complex64
        gr.sync_block.__init__(self, "emind_recorder", in_sig=[item], out_sig=None)
        self._sample_rate, self._center_freq = sample_rate, center_freq
        self._length, self._windows = length, windows
        self._from_tags, self._policy = from_tags, policy
        self._recording, self._short_rows, self._measures = bool(recording), short_rows, measure
        self._capacity = max(2 * length, int(queue_mb * 1e6 / 8), 4 * given.held(length))
        # The latter holds from the next samples on.
        self._trigger = self._new_trigger = given.checked(windows, self._capacity, length)
        self._thread: RecorderThread | None = None
        self._last: dict | None = None
        self._prepare()
        self.message_port_register_out(_STATISTICS)
        for port, handler in ((_LABEL_PORT, self._take_labels), (_RECORD_PORT, self._take_record),
                              (_DETECTIONS, self._take_detection)):
            self.message_port_register_in(port)
            self.set_msg_handler(port, handler)

    def set_labels(self, labels: dict | None) -> None:
        """Other labels from the next samples on, instead of all before."""
        self._new_labels = self._labels = changed_labels({}, labels or {})

    def labels(self) -> dict[str, Any]:
        """The labels in force."""
        return dict(self._labels)

    def set_recording(self, recording: bool) -> None:
        """Switch off (samples are passed over and counted as skipped) or on, from the next samples on."""
        self._recording = bool(recording)

    def set_trigger(self, trigger: str | None = None, pre_trigger: int | None = None, post_trigger: int | None = None,
                    trigger_db: float | None = None, trigger_labels: tuple[str, ...] | None = None,
                    trigger_confidence: float | None = None) -> None:
        """Write around other events, or everything, from the next samples on; None: as it was. What was kept back for
        events of before is not written. UsageError where it cannot work."""
        given = self._new_trigger.changed(
            trigger=trigger, pre_trigger=pre_trigger, post_trigger=post_trigger, trigger_db=trigger_db,
            trigger_labels=None if trigger_labels is None else tuple(trigger_labels),
            trigger_confidence=trigger_confidence)
        if given != self._new_trigger:
            self._new_trigger = given.checked(self._windows, self._capacity, self._length)

    def statistics(self) -> dict:
        """Counts since the flowgraph started; exact once it has ended."""
        thread = self._thread
        counts = thread.statistics() if thread is not None else self._last
        if counts is None:
            counts = {**dict.fromkeys(STATISTICS_KEYS, 0), "error": ""}
        return {**counts, "recording": self._recording, "events": self._events}

    def files(self) -> list[str]:
        """The finished files, in order; of SigMF the metadata file."""
        return [str(file) for file in self._files.files]

    def error(self) -> Exception | None:
        """What ended the recording early, if anything did."""
        return self._error or self.fault

    def start(self) -> bool:
        self._prepare()
        self._files = RecordingFiles(**self._files_options)
        for text in self._files.recover():
            self.logger.warn(text)
        self._thread = RecorderThread(self._files, self._length, self._capacity, self._labels,
                                      measure=RowMeasure().next_rows if self._measures else None,
                                      short_rows=self._short_rows)
        stretch = self._stretch(self._continuity.state) if self._sample_rate or self._center_freq else None
        self._thread.mark(0, Mark(stretch=stretch, known={"dataset_name": self._files.base.name}))
        self._thread.start()
        return True

    def stop(self) -> bool:
        thread = self._thread
        if thread is None:
            return True
        thread.stop()
        self._look_after(thread)
        self._last = thread.statistics()
        self._thread = None
        self._publish_statistics()
        return True

    def _prepare(self) -> None:
        self._new_labels: dict | None = None
        self._continuity = Continuity(self._sample_rate)
        self._statistics_due = time.monotonic() + _STATISTICS_EVERY_S
        self._error: Exception | None = None
        self._last: dict | None = None
        self._paused = False  # what came last was not wanted
        self._anchor: Anchor | None = None  # of windows
        self._told: deque[tuple[int, int]] = deque(maxlen=_MOST_EVENTS)  # detections by message
        self._trigger, self._events = self._new_trigger, 0
        self._around = self._new_around(0)

    def _new_around(self, begin: int) -> AroundEvents | None:
        """For the samples from number ``begin`` on."""
        if self._trigger.trigger == NONE:
            return None
        return AroundEvents(self._trigger, self._length, self._continuity.state, self._labels, self._stretch_at, begin,
                            self._events)

    def work(self, input_items: list, output_items: list) -> int:
        items = input_items[0]
        thread = self._thread
        self._look_after(thread)
        self._publish_statistics_if_due()
        if self._new_trigger is not self._trigger:
            self._change_trigger(thread)
        if self._around is not None:
            return self._work_triggered(items, thread)
        if not self._recording:
            self._pass_over(items, thread)
            return len(items)
        if self._paused:
            self._paused = False
            thread.mark(thread.position, Mark(stretch=self._stretch_now()))
        room = thread.room() // (self._length if self._windows else 1)
        if room < len(items) and self._policy == LOSSLESS and thread.error is None:
            if room == 0:
                thread.wait(_WAIT_S)
                room = thread.room() // (self._length if self._windows else 1)
            items = items[:room]
        taken = items[:room]
        if self._new_labels is not None:
            thread.mark(thread.position, Mark(labels=self._new_labels))
            self._new_labels = None
        self._mark(len(taken), len(items), thread)
        thread.put(taken.reshape(-1))
        if len(taken) < len(items):
            thread.drop(items[len(taken) :].size)
        return len(items)

    def _mark(self, taken: int, offered: int, thread: RecorderThread) -> None:
        """Tell the thread what the tags on these items say."""
        position, size = thread.position, self._length if self._windows else 1
        for item, mark in self._marks_of(taken, offered):
            thread.mark(position + min(item, taken) * size, mark)

    def _marks_of(self, taken: int, offered: int) -> list[tuple[int, Mark]]:
        """What the tags on the next ``offered`` items say, by item; of those behind ``taken`` only where they lie."""
        found = self.get_tags_in_window(0, 0, offered)
        first = self.nitems_read(0)
        readings: dict[int, dict] = {}
        marks: list[tuple[int, Mark]] = []
        detections = self._trigger.trigger == DETECTION
        said: dict[int, dict[str, dict]] = {}  # item -> head -> its answer
        for tag in found:
            item = tag.offset - first
            if self._windows and pmt.eq(tag.key, _WINDOW):
                mark = self._window_mark(tag, item < taken)
                if mark is not None:
                    marks.append((item, mark))
            elif not self._windows and (reading := reading_of(tag)):
                readings.setdefault(item, {}).update(reading)
            elif item < taken and (self._from_tags or detections) and (answer := answer_of(tag)):
                said.setdefault(item, {})[answer[0]] = answer[1]
        for item, answers in said.items():
            if detections and (length := self._trigger.wanted.in_answers(answers)):
                self._around.event(first + item, first + item + length)
            if self._from_tags:
                marks += [(item, Mark(span=(self._length if self._windows else length, labels)))
                          for length, labels in labels_of(answers, self._trigger.trigger_confidence)]
        for item in sorted(readings):
            state = self._continuity.observe(first + item, **readings[item])
            if state is not None:
                marks.append((item, Mark(stretch=self._stretch(state), gap=state.gap)))
                if self._around is not None:
                    self._around.state(state)
        return sorted(marks, key=lambda one: one[0])

    def _pass_over(self, items: np.ndarray, thread: RecorderThread) -> None:
        """Nothing of this is wanted; rate, frequency and time are followed all the same."""
        self._marks_of(0, len(items))
        thread.skip(items.size)
        self._paused = True

    def _stretch_now(self) -> Stretch:
        """Of the next sample, after a pause."""
        at = self.nitems_read(0)
        state = self._continuity.state
        if self._anchor is not None:
            state, at = self._anchor.state, self._anchor.start_of(at)
        return self._stretch_at(state, at)

    def _stretch_at(self, state: StreamState, sample: int) -> Stretch:
        stretch = self._stretch(state)
        time_ = state.time_at(sample)
        return Stretch(stretch.rate, stretch.freq, None if time_ is None else moment(*time_))

    def _change_trigger(self, thread: RecorderThread) -> None:
        """Another trigger from the next sample on: what has been written and counted stays."""
        self._trigger = self._new_trigger
        self._told.clear()
        self._around = self._new_around(self.nitems_read(0))
        if self._around is None:  # everything
            self._paused, self._new_labels = False, None
            thread.mark(thread.position, Mark(labels=self._labels, stretch=self._stretch_now(),
                                              known={"dataset_name": self._files.base.name}))

    def _work_triggered(self, items: np.ndarray, thread: RecorderThread) -> int:
        """Write what lies around events; the newest samples are kept back for those to come."""
        if self._policy == LOSSLESS and thread.error is None:
            held = self._trigger.held(self._length)
            room = thread.room() - held
            if room <= 0:
                thread.wait(_WAIT_S)
                room = thread.room() - held
            items = items[: max(0, room)]
            if not len(items):
                return 0
        first = self.nitems_read(0)
        marks = [(first + item, mark) for item, mark in self._marks_of(len(items), len(items))]
        while self._told:
            self._around.event(*self._told.popleft())
        self._around.take(items, first, marks, self._labels, self._recording, thread, self._files)
        self._events = self._around.events
        return len(items)

    def _window_mark(self, tag: gr.tag_t, taken: bool) -> Mark | None:
        try:
            anchor = anchor_from_fields(tag.offset, pmt.to_python(tag.value))
        except ValueError as fault:
            self.logger.warn(str(fault))
            return None
        if anchor.hop < self._length and self._files_options["file_format"] != "parquet":
            raise EMindError(f"windows that overlap (hop {anchor.hop} of {self._length} samples) would stand in SigMF "
                             "twice: record to Parquet, or cut them with hop = length")
        self._anchor = anchor
        valid = anchor.valid if taken and anchor.valid < self._length else None
        return Mark(stretch=self._stretch(anchor.state), gap=anchor.state.gap, valid=valid)

    def _stretch(self, state: StreamState) -> Stretch:
        """What is known from a sample on; where no tag told, what the parameters say."""
        rate = self._sample_rate if math.isnan(state.rate) else state.rate
        freq = self._center_freq if math.isnan(state.freq) else state.freq
        return Stretch(rate or None, freq or None, None if state.time is None else moment(*state.time))

    def _take_labels(self, message: pmt.pmt_base) -> None:
        """A message with labels; what cannot be a label is said in the log and changes nothing."""
        if pmt.is_pair(message) and not pmt.is_dict(message):  # a PDU
            message = pmt.car(message)
        try:
            fields = pmt.to_python(message)
            if not isinstance(fields, dict):
                raise EMindError(f"a message at the port label is no dict: {message}")
            self.set_labels(changed_labels(self._labels, fields))
        except (EMindError, ValueError, TypeError) as fault:
            self.logger.warn(f"labels not taken: {fault}")

    def _take_record(self, message: pmt.pmt_base) -> None:
        """On or off: a bool or number, a pair whose second is one (GNU Radio's buttons), a dict with ``record``."""
        recording = switch_of(message)
        if recording is None:
            self.logger.warn(f"a message at the port record is on or off, not {message}")
        else:
            self.set_recording(recording)

    def _take_detection(self, message: pmt.pmt_base) -> None:
        """A receiver's PDU: an event where it says that something is there."""
        trigger = self._trigger
        event = trigger.trigger == DETECTION and trigger.wanted.in_message(message, self._continuity.state.rate)
        if event:
            self._told.append(event)

    def _look_after(self, thread: RecorderThread) -> None:
        if thread.error is not None and self._error is None:
            self._error = thread.error
            if self.tells_end:
                self.logger.error(f"{thread.error}; the flowgraph runs on, samples are counted as dropped")

    def _publish_statistics_if_due(self) -> None:
        if time.monotonic() >= self._statistics_due:
            self._publish_statistics()

    def _publish_statistics(self) -> None:
        self._statistics_due = time.monotonic() + _STATISTICS_EVERY_S
        self.message_port_pub(_STATISTICS, pmt.cons(pmt.to_pmt(self.statistics()), _NO_DATA))
