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
from typing import Any

import numpy as np
import pmt
from gnuradio import gr

from .contract import tags
from .contract.errors import EMindError, UsageError
from .contract.schema import checked_label
from .dsp.framing import Continuity, Moment, StreamState, anchor_from_fields
from .storage.recorder_thread import Mark, RecorderThread
from .storage.recording_files import RecordingFiles, Stretch, moment

_RX_TIME = pmt.intern(tags.RX_TIME)
_RX_RATE = pmt.intern(tags.RX_RATE)
_RX_FREQ = pmt.intern(tags.RX_FREQ)
_WINDOW = pmt.intern(tags.WINDOW)
_LABEL_PORT = pmt.intern("label")
_STATISTICS = pmt.intern(tags.PORT_STATISTICS)
_NO_DATA = pmt.init_u8vector(0, [])

# Which column a head's answer goes into.
HEAD_COLUMNS = {
    "modulation": "modulation", "interference": "infer_class", "fingerprint": "device_id", "radar": "radar_waveform"}
_COLUMN_OF_TAG = {tags.head_key(head): column for head, column in HEAD_COLUMNS.items()}
LOSSLESS, REALTIME = "lossless", "realtime"
POLICIES = (LOSSLESS, REALTIME)
_STATISTICS_EVERY_S = 1.0
_WAIT_S = 0.1
_BUFFER_SAMPLES = 1 << 16


class recorder(gr.sync_block):
    """Records samples with labels to Parquet (17 attributes a row), SigMF, or both.

    Input: a complex stream, or with ``windows`` vectors of ``length`` complex samples. A row has ``length`` samples;
    it is shorter where the stream breaks (a gap, a new rate or frequency, a change of labels, dropped samples) and at
    the end, where every sample that came is written.

    Labels, the latter going before the former: ``labels``; messages at the port ``label``, a dict of columns (or a PDU
    with one) for the samples that come after it, where nil takes a label away; with ``from_tags`` the tags
    ``emind_modulation``, ``emind_interference``, ``emind_fingerprint`` and ``emind_radar`` of :class:`inference`, for
    the samples that they are about. ``rx_rate``, ``rx_freq`` and ``rx_time`` are obeyed.

    Files are called ``<path>-<UTC time>-<number>`` and, until they are finished, ``*.part``. Whatever happens to the
    program, every finished row group can be read. When the disk is full the recording ends, what was written is
    finished, and the flowgraph runs on. Files that a killed recorder left are finished at the start.

    Message port ``statistics``: a PDU about once a second and at the end: ``samples_seen`` = ``samples_written`` +
    ``samples_queued`` + ``samples_dropped``, ``rows``, ``gaps``, ``files`` (finished), ``error`` (text, empty while
    there is none).

    Parameters
    ----------
    path: folder and beginning of the file names
    file_format: ``parquet``, ``sigmf`` or ``both``
    sample_rate: samples a second where no tag tells, 0 if unknown
    center_freq: centre frequency in Hz where no tag tells, 0 if unknown; SigMF states it
    length: samples a row
    windows: the input is vectors of ``length`` samples, from :class:`windowing` or :class:`inference`
    labels: dict of columns, such as ``{"dataset_name": "garden", "modulation": "QPSK"}``; None: no labels
    from_tags: take labels from tags
    policy: ``realtime`` (the stream never waits: what the disk cannot keep up with is dropped and counted) or
        ``lossless`` (the stream waits)
    iq_format: ``float32``, or ``int16`` where every value is a multiple of ``scale``
    scale: value of one step of int16: 1/32768 for ci16 files, 1/32767 for UHD's sc16
    rotate_mb: megabytes after which a new file begins, 0: never
    rotate_s: seconds after which a new file begins, 0: never
    queue_mb: megabytes that may wait for the disk

    Raises
    ------
    EMindError or UsageError: parameters that cannot work, a folder that cannot be written
    """

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
    ) -> None:
        if policy not in POLICIES:
            raise UsageError(f"unknown policy {policy!r}: use {' or '.join(POLICIES)}")
        if length < 1 or not sample_rate >= 0 or not rotate_mb >= 0 or not rotate_s >= 0 or not queue_mb > 0:
            raise UsageError(
                f"length {length} must be at least 1, queue_mb {queue_mb} above 0, and sample_rate {sample_rate}, "
                f"rotate_mb {rotate_mb} and rotate_s {rotate_s} not negative"
            )
        if not 0 < scale < math.inf or iq_format not in ("float32", "int16"):
            raise UsageError(f"iq_format {iq_format!r} must be float32 or int16, and scale {scale} above 0")
        if file_format != "parquet" and not sample_rate:
            raise UsageError("SigMF states a sample rate: set sample_rate, or record to Parquet")
        self._files_options: dict[str, Any] = {
            "base": path, "file_format": file_format, "iq_format": iq_format, "scale": scale,
            "rotate_bytes": rotate_mb * 1e6, "rotate_s": rotate_s}
        self._labels = _checked(labels or {})
        # Refuses what cannot work, and loads the libraries before anything runs.
        self._files = RecordingFiles(**self._files_options)
        item = (np.complex64, (length,)) if windows else np.complex64
        gr.sync_block.__init__(self, "emind_recorder", in_sig=[item], out_sig=None)
        self._sample_rate, self._center_freq = sample_rate, center_freq
        self._length, self._windows = length, windows
        self._from_tags, self._policy = from_tags, policy
        self._capacity = max(2 * length, int(queue_mb * 1e6 / 8))
        self._thread: RecorderThread | None = None
        self._last: dict | None = None
        self._prepare()
        self.message_port_register_in(_LABEL_PORT)
        self.message_port_register_out(_STATISTICS)
        self.set_msg_handler(_LABEL_PORT, self._take_labels)

    def set_labels(self, labels: dict | None) -> None:
        """Other labels from the next samples on, instead of all before."""
        self._new_labels = self._labels = _checked(labels or {})

    def statistics(self) -> dict:
        """Counts since the flowgraph started; exact once it has ended."""
        thread = self._thread
        if thread is not None:
            return thread.statistics()
        return dict(self._last or dict.fromkeys(
            ("samples_seen", "samples_written", "samples_queued", "samples_dropped", "rows", "gaps", "files"), 0),
            **({} if self._last else {"error": ""}))

    def files(self) -> list[str]:
        """The finished files, in order; of SigMF the metadata file."""
        return [str(file) for file in self._files.files]

    def error(self) -> Exception | None:
        """What ended the recording early, if anything did."""
        return self._error

    def start(self) -> bool:
        self._prepare()
        self._files = RecordingFiles(**self._files_options)
        for text in self._files.recover():
            self.logger.warn(text)
        self._thread = RecorderThread(self._files, self._length, self._capacity, self._labels)
        if self._sample_rate or self._center_freq:
            self._thread.mark(0, Mark(stretch=self._stretch(self._continuity.state)))
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
        self._last = None

    def work(self, input_items: list, output_items: list) -> int:
        items = input_items[0]
        thread = self._thread
        self._look_after(thread)
        self._publish_statistics_if_due()
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
        found = self.get_tags_in_window(0, 0, offered)
        if not found:
            return
        first, position = self.nitems_read(0), thread.position
        size = self._length if self._windows else 1
        readings: dict[int, dict] = {}
        marks: list[tuple[int, Mark]] = []
        for tag in found:
            item = tag.offset - first
            at = position + min(item, taken) * size
            if self._windows and pmt.eq(tag.key, _WINDOW):
                mark = self._window_mark(tag, item < taken)
                if mark is not None:
                    marks.append((at, mark))
            elif not self._windows and (reading := _reading(tag)):
                readings.setdefault(item, {}).update(reading)
            elif self._from_tags and item < taken:
                labels = _labels_of(tag)
                if labels:
                    marks.append((at, Mark(span=(self._length if self._windows else labels[0], labels[1]))))
        for item in sorted(readings):
            state = self._continuity.observe(first + item, **readings[item])
            if state is not None:
                marks.append((position + min(item, taken), Mark(stretch=self._stretch(state), gap=state.gap)))
        for at, mark in sorted(marks, key=lambda one: one[0]):
            thread.mark(at, mark)

    def _window_mark(self, tag: gr.tag_t, taken: bool) -> Mark | None:
        try:
            anchor = anchor_from_fields(tag.offset, pmt.to_python(tag.value))
        except ValueError as fault:
            self.logger.warn(str(fault))
            return None
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
            self.set_labels({**self._labels, **fields})
        except (EMindError, ValueError, TypeError) as fault:
            self.logger.warn(f"labels not taken: {fault}")

    def _look_after(self, thread: RecorderThread) -> None:
        if thread.error is not None and self._error is None:
            self._error = thread.error
            self.logger.error(f"{thread.error}; the flowgraph runs on, samples are counted as dropped")

    def _publish_statistics_if_due(self) -> None:
        if time.monotonic() >= self._statistics_due:
            self._publish_statistics()

    def _publish_statistics(self) -> None:
        self._statistics_due = time.monotonic() + _STATISTICS_EVERY_S
        self.message_port_pub(_STATISTICS, pmt.cons(pmt.to_pmt(self.statistics()), _NO_DATA))


def _checked(labels: dict) -> dict[str, Any]:
    return {str(name): checked_label(str(name), value) for name, value in labels.items()}


def _labels_of(tag: gr.tag_t) -> tuple[int, dict[str, str]] | None:
    """Samples that a head's tag is about, and the label; None for any other tag."""
    column = _COLUMN_OF_TAG.get(pmt.symbol_to_string(tag.key))
    if column is None or not pmt.is_dict(tag.value):
        return None
    fields = pmt.to_python(tag.value)
    label, length = fields.get(tags.LABEL), fields.get(tags.LENGTH, 1)
    if not isinstance(label, str) or not isinstance(length, int) or length < 1:
        return None
    return length, {column: label}


def _reading(tag: gr.tag_t) -> dict[str, float | Moment]:
    """What a tag of a source says about the stream; nothing where its value makes no sense."""
    value = tag.value
    if pmt.eq(tag.key, _RX_TIME):
        if not (pmt.is_tuple(value) and pmt.length(value) == 2):
            return {}
        whole, fraction = (_number(pmt.tuple_ref(value, i)) for i in (0, 1))
        return {} if math.isnan(whole) or math.isnan(fraction) else {"time": (int(whole), fraction)}
    for key, name in ((_RX_RATE, "rate"), (_RX_FREQ, "freq")):
        if pmt.eq(tag.key, key):
            number = _number(value)
            return {} if math.isnan(number) or (name == "rate" and number <= 0) else {name: number}
    return {}


def _number(value: pmt.pmt_base) -> float:
    if not (pmt.is_real(value) or pmt.is_integer(value) or pmt.is_uint64(value)):
        return math.nan
    number = float(pmt.to_python(value))
    return number if math.isfinite(number) else math.nan
