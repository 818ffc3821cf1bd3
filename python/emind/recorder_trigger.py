#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What a recorder with a trigger writes: the samples around events."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .contract.errors import UsageError, require
from .dsp.framing import StreamState
from .dsp.trigger import EnergyTrigger, History, Selection, chunk_of
from .recorder_pmt import Wanted
from .storage.recorder_thread import Mark, RecorderThread
from .storage.recording_files import RecordingFiles, Stretch


NONE, DETECTION, ENERGY = "none", "detection", "energy"
TRIGGERS = (NONE, DETECTION, ENERGY)
MOST_PRE_TRIGGER = 1 << 27  # samples: a gigabyte


@dataclass(frozen=True)
class Trigger:
    """When a recorder writes: the parameters of :class:`.recorder.recorder` of these names. UsageError where they
    cannot work."""

    trigger: str = NONE
    pre_trigger: int = 4096
    post_trigger: int = 4096
    trigger_db: float = 10.0
    trigger_labels: tuple[str, ...] = ()
    trigger_confidence: float = 0.5

    def __post_init__(self) -> None:
        if self.trigger not in TRIGGERS:
            raise UsageError(f"unknown trigger {self.trigger!r}: use {', '.join(TRIGGERS)}")
        require((0 <= self.pre_trigger <= MOST_PRE_TRIGGER,
                 f"pre_trigger {self.pre_trigger} must be between 0 and {MOST_PRE_TRIGGER:,} samples"),
                (0 <= self.post_trigger < math.inf, f"post_trigger {self.post_trigger} must not be negative, and finite"),
                (0 < self.trigger_db <= 200, f"trigger_db {self.trigger_db:g} must be above 0 and at most 200"),
                (0 <= self.trigger_confidence <= 1,
                 f"trigger_confidence {self.trigger_confidence:g} must be between 0 and 1"))

    def checked(self, windows: bool, queue: int, length: int) -> Trigger:
        """Itself; UsageError where the input (``windows``, or a stream), or a queue of so many samples, is none for it."""
        if self.trigger != NONE and windows:
            raise UsageError(f"trigger {self.trigger!r} needs a stream: record in front of windowing or behind "
                             "overlap_add")
        require((2 * self.held(length) <= queue,
                 f"pre_trigger {self.pre_trigger} is more than half of the queue: while it runs at most "
                 f"{queue // 2 - length:,}, or give a larger queue_mb at the start"))
        return self

    def changed(self, **given: object) -> Trigger:
        """One with these fields, where they are not None."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @cached_property
    def wanted(self) -> Wanted:
        """Which answers count."""
        return Wanted(frozenset(self.trigger_labels), self.trigger_confidence)

    def held(self, length: int) -> int:
        """Samples kept back for events to come, where a row has ``length``: energy is told at the end of its chunk,
        which counts besides ``pre_trigger``."""
        if self.trigger == NONE:
            return 0
        return int(self.pre_trigger) + (chunk_of(length) if self.trigger == ENERGY else 0)


class AroundEvents:
    """Hands the samples around events to a recorder's thread; the newest are kept back for events to come.

    Parameters
    ----------
    trigger: what is an event; by ``detection`` only what :meth:`event` tells
    length: samples a row; what is written begins and ends at whole rows
    state: of the first sample, or of one before it
    labels: in force at the start
    stretch_at: what is known of a sample, from a state before it and the sample's number
    begin: number of the first sample
    events: so many have been written already
    """

    def __init__(self, trigger: Trigger, length: int, state: StreamState, labels: dict[str, Any],
                 stretch_at: Callable[[StreamState, int], Stretch], begin: int = 0, events: int = 0) -> None:
        self.events = events
        self._selection = Selection(int(trigger.pre_trigger), int(trigger.post_trigger), length)
        self._energy = None
        if trigger.trigger == ENERGY:
            self._energy = EnergyTrigger(trigger.trigger_db, chunk_of(length), begin)
        self._history = History(trigger.held(length), begin)
        self._marks: deque[tuple[int, Mark]] = deque()  # of samples that may yet be written
        self._states: deque[StreamState] = deque([state])
        self._restarts: list[int] = []  # samples from which on the noise may be another one
        self._labels = labels  # that the thread knows
        self._stretch_at = stretch_at

    def event(self, start: int, stop: int) -> None:
        """There is something from sample ``start`` to ``stop``."""
        self._selection.event(start, stop)

    def state(self, state: StreamState) -> None:
        """What is known from a sample on that :meth:`take` has not had yet."""
        last = self._states[-1]
        values = (last.rate, state.rate), (last.freq, state.freq)
        if self._energy is not None and any(new != old for old, new in values if not math.isnan(old)):
            self._restarts.append(state.sample)
        self._states.append(state)

    def take(self, items: np.ndarray, first: int, marks: Iterable[tuple[int, Mark]], labels: dict[str, Any],
             recording: bool, thread: RecorderThread, files: RecordingFiles) -> None:
        """The next samples, ``first`` the number of the first, with their marks by sample."""
        self._marks.extend(marks)
        for event in self._loud(items, first):
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

    def _loud(self, items: np.ndarray, first: int) -> list[tuple[int, int]]:
        """Events of energy in the next samples."""
        if self._energy is None:
            return []
        events, done = [], 0
        for sample in self._restarts:
            events += self._energy.events(items[done : sample - first])
            self._energy.restart()
            done = sample - first
        self._restarts.clear()
        return events + self._energy.events(items[done:])

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
