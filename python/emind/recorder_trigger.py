#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What a recorder with a trigger writes: the samples around events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .dsp.framing import StreamState
from .dsp.trigger import EnergyTrigger, History, Selection, chunk_of
from .storage.recorder_thread import Mark, RecorderThread
from .storage.recording_files import RecordingFiles, Stretch


def held(before: int, length: int, energy: bool) -> int:
    """Samples kept back for events to come: energy is told at the end of its chunk, which counts besides ``before``."""
    return before + (chunk_of(length) if energy else 0)


class AroundEvents:
    """Hands the samples around events to a recorder's thread; the newest are kept back for events to come.

    Parameters
    ----------
    before, after: samples ahead of an event and behind its end
    length: samples a row; what is written begins and ends at whole rows
    energy_db: power above the quietest stretches that is an event, None: only what :meth:`event` tells
    state: of the first sample
    labels: in force at the start
    stretch_at: what is known of a sample, from a state before it and the sample's number
    """

    def __init__(self, before: int, after: int, length: int, energy_db: float | None, state: StreamState,
                 labels: dict[str, Any], stretch_at: Callable[[StreamState, int], Stretch]) -> None:
        self.events = 0
        self._selection = Selection(before, after, length)
        self._energy = None if energy_db is None else EnergyTrigger(energy_db, chunk_of(length))
        self._history = History(held(before, length, energy_db is not None))
        self._marks: deque[tuple[int, Mark]] = deque()  # of samples that may yet be written
        self._states: deque[StreamState] = deque([state])
        self._labels = labels  # that the thread knows
        self._stretch_at = stretch_at

    def event(self, start: int, stop: int) -> None:
        """There is something from sample ``start`` to ``stop``."""
        self._selection.event(start, stop)

    def state(self, state: StreamState) -> None:
        """What is known from a sample on that :meth:`take` has not had yet."""
        self._states.append(state)

    def take(self, items: np.ndarray, first: int, marks: Iterable[tuple[int, Mark]], labels: dict[str, Any],
             recording: bool, thread: RecorderThread, files: RecordingFiles) -> None:
        """The next samples, ``first`` the number of the first, with their marks by sample."""
        self._marks.extend(marks)
        if self._energy is not None:
            for event in self._energy.events(items):
                self._selection.event(*event)
        if not recording:
            self._selection.close()
        written = 0
        for start, stop, fresh in self._selection.take(self._history.oldest, first + len(items)):
            self._begin(start, fresh, labels, thread, files)
            self._write(start, stop, fresh, items, thread)
            written += stop - start
        thread.skip(len(items) - written)
        self._history.push(items)
        self._forget(self._history.oldest)

    def _begin(self, start: int, fresh: bool, labels: dict[str, Any], thread: RecorderThread,
               files: RecordingFiles) -> None:
        """Tell the thread what holds from sample ``start``; ``fresh``: with which an event begins."""
        if fresh:
            self.events += 1
            name = files.base.name
            known = {"dataset_name": name,
                     "transmission_id": f"{name}-{files.started:%Y%m%dT%H%M%SZ}-{self.events}"}
            state = next((one for one in reversed(self._states) if one.sample <= start), self._states[0])
            thread.mark(thread.position, Mark(labels=labels, stretch=self._stretch_at(state, start), known=known))
            for sample, mark in self._marks:  # labels that began earlier
                if mark.span is not None and sample < start < sample + mark.span[0]:
                    thread.mark(thread.position, Mark(span=(sample + mark.span[0] - start, mark.span[1])))
        elif labels is not self._labels:
            thread.mark(thread.position, Mark(labels=labels))
        self._labels = labels

    def _write(self, start: int, stop: int, fresh: bool, items: np.ndarray, thread: RecorderThread) -> None:
        """Hand over samples ``start`` to ``stop``, the first of which may lie in the history."""
        room = min(thread.room(), stop - start)
        origin = thread.position - start
        for sample, mark in self._marks:
            if start <= sample < stop and not (fresh and sample == start and mark.span is None):
                thread.mark(origin + min(sample, start + room), mark)
        middle = self._history.end  # the first sample that is not in the history
        upto = start + room
        if start < middle:
            thread.put(self._history.read(start, min(upto, middle)))
        if upto > middle:
            thread.put(items[max(start, middle) - middle : upto - middle])
        if room < stop - start:
            thread.drop(stop - start - room)

    def _forget(self, oldest: int) -> None:
        """Marks and states that no sample to come can need."""
        while self._marks and self._marks[0][0] + (self._marks[0][1].span or (1,))[0] <= oldest:
            self._marks.popleft()
        while len(self._states) > 1 and self._states[1].sample <= oldest:
            self._states.popleft()
