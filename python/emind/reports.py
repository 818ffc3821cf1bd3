#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What leaves the inference block with its windows: a tag a head, and a detection."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from gnuradio import gr

from .answers_pmt import Answers, detection
from .contract import tags
from .detections_port import DetectionsPort
from .dsp.framing import Anchor, StreamState
from .runtime.dispatch import INFERRED, Released
from .runtime.statistics import Statistics


class Reports:
    """Tags released windows on all outputs of a block, and publishes their detections.

    Parameters
    ----------
    block: whose windows, of ``length`` samples, leave on ``ports`` outputs in step
    detections: its port for them
    rate: samples a second (Hz) where no tag tells, nan if unknown
    """

    def __init__(self, block: gr.basic_block, detections: DetectionsPort, length: int, ports: int, rate: float) -> None:
        self._block, self._detections = block, detections
        self._length, self._ports, self._rate = length, ports, rate
        self._answers, self._noise = Answers({}), []
        self._answering: object | None = None  # the engine that they are of
        # Called with what is released and the number of its first window: who needs whole rows reads them there.
        self.seen: Callable[[int, Released], None] | None = None
        self.restart(Statistics())

    def restart(self, statistics: Statistics) -> None:
        """The stream begins; what is sent, dropped or lost is counted there."""
        self._statistics = statistics
        self.outside: dict[str, int] = {}  # windows by the head that they are outside the training of
        self._outside_said: set[str] = set()
        self._coming: deque[Anchor] = deque()  # anchors behind the next window to leave
        self._anchor = Anchor(0, 0, self._length, self._length, StreamState())

    def forget_engine(self) -> None:
        """Hold on to none, once nothing more is reported."""
        self._answers, self._noise, self._answering = Answers({}), [], None

    def expect(self, anchor: Anchor) -> None:
        """Windows from this anchor on will leave."""
        self._coming.append(anchor)

    def rate_of(self, anchor: Anchor) -> float:
        """Hz, nan where unknown."""
        return self._rate if math.isnan(anchor.state.rate) else anchor.state.rate

    def of(self, released: Released, first: int) -> None:
        """Tag the released windows, the first of which is number ``first``, and publish their detections."""
        if self.seen is not None:
            self.seen(first, released)
        if released.engine is not self._answering:
            self._answering = released.engine
            domains = getattr(released.engine, "domains", None)
            self._answers = Answers(released.engine.heads, domains, self._length)
            # Made once: a band of which most is gated brings ten times as many windows as an engine can answer.
            self._noise = [(each.key, each.tag(self._length)) for each in self._answers.noise]
            self._outside_said = set()
        written, add_item_tag = self._block.nitems_written(0), self._block.add_item_tag
        reports = [report for report in self._answers.of(released) if report[1]]
        inferred = released.fates == INFERRED
        chosen = set()
        if self._detections.wanted():
            chosen.update(self._detections.choose([bool(inferred[index]) for index, _ in reports]))
            self._statistics.count(detections_sent=len(chosen), detections_dropped=len(reports) - len(chosen))
        for place, (index, said) in enumerate(reports):
            number = first + index
            anchor = self._anchor_of(number)
            valid, rate = anchor.valid_of(number, self._length), self.rate_of(anchor)
            if inferred[index]:
                outside = self._answers.flag(said, rate)
                if outside:
                    self._count_outside(outside, rate)
            whole = not inferred[index] and valid == self._length
            for key, value in self._noise if whole else [(each.key, each.tag(valid)) for each in said]:
                for port in range(self._ports):
                    add_item_tag(port, written + index, key, value)
            if place in chosen:
                snr_db, latency_ms = released.snr_db[index], released.latency_ms[index]
                self._detections.send(detection(anchor, number, valid, rate, said, snr_db, latency_ms))
        lost = int(inferred.sum()) - sum(bool(inferred[index]) for index, _ in reports) if self._answers.speak else 0
        self._statistics.count(results_lost=lost)

    def _count_outside(self, heads: list[str], rate: float) -> None:
        """Each of these heads answered a window unlike those that it was trained on; said once in the log."""
        for name in heads:
            self.outside[name] = self.outside.get(name, 0) + 1
        if new := [name for name in heads if name not in self._outside_said]:
            self._outside_said.update(new)
            at = "an unknown rate" if math.isnan(rate) else f"{rate:g} samples a second"
            trained = ", ".join(f"{name} ({self._answering.domains[name]})" for name in new)
            self._block.logger.warn(f"answers to windows of {self._length} samples at {at} are marked {tags.OUTSIDE} "
                                    f"where heads were trained on others: {trained}")

    def _anchor_of(self, number: int) -> Anchor:
        """The anchor that window ``number`` reckons from; numbers only grow."""
        while self._coming and self._coming[0].window <= number:
            self._anchor = self._coming.popleft()
        return self._anchor
