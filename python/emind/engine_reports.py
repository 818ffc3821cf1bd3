#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What the inference block tells of its engine: statistics about once a second, faults and unfit rates in the log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pmt

from .contract import tags
from .runtime.worker import Worker

_STATISTICS = pmt.intern(tags.PORT_STATISTICS)
_NO_DATA = pmt.init_u8vector(0, [])
_STATISTICS_EVERY_S = 1.0
_ERRORS_EVERY_S = 10.0  # a fault that lasts is said once in this time


class StatisticsPort:
    """The output port `statistics` of a block, which sends what ``values`` gives."""

    def __init__(self, block, values: Callable[[], dict]) -> None:
        self._block, self._values = block, values
        block.message_port_register_out(_STATISTICS)
        self.restart()

    def restart(self) -> None:
        """The stream begins."""
        self._due, self._drained_due = time.monotonic() + _STATISTICS_EVERY_S, 0.0

    def publish_if_due(self, drained: bool) -> None:
        """Once a second, and when all that is there has left: who waits for the last windows of a file hears of them.

        What stop() publishes comes too late for blocks that end with this one's last window.
        """
        now = time.monotonic()
        if drained and now >= self._drained_due:
            self._drained_due = now + _STATISTICS_EVERY_S
        elif now < self._due:
            return
        self.publish()

    def publish(self) -> None:
        self._due = time.monotonic() + _STATISTICS_EVERY_S
        self._block.message_port_pub(_STATISTICS, pmt.cons(pmt.to_pmt(self._values()), _NO_DATA))


class EngineFaults:
    """Looks after errors of a worker's engine, and says them in a block's log."""

    def __init__(self, block) -> None:
        self._block = block
        self.restart()

    def restart(self) -> None:
        """The stream begins."""
        self.newest: BaseException | None = None
        self._told, self._due = 0, 0.0

    def end(self, worker: Worker) -> bool:
        """True when the flowgraph has to end because of one."""
        if worker.errors > self._told:
            self.newest = error = worker.last_error
            now = time.monotonic()
            if worker.error is not None or now >= self._due:
                times = worker.errors - self._told
                failed = f"the engine {worker.engine.name} failed" + (f" {times} times" if times > 1 else "")
                then = "the flowgraph ends" if worker.error is not None else "windows pass unanswered until it works"
                self._block.logger.error(f"{failed}, {then}: {type(error).__name__}: {error}")
                self._told, self._due = worker.errors, now + _ERRORS_EVERY_S
        return worker.error is not None


class RateCheck:
    """Says in a block's log, once, that a sample rate lies outside what the engine was trained on."""

    def __init__(self, block) -> None:
        self._block = block
        self.restart()

    def restart(self) -> None:
        """The stream begins."""
        self.outside = self._changed = False

    def engine_changed(self) -> None:
        """What was found holds of another engine; a steady stream has no anchor any more that would have it checked."""
        self._changed = True

    def check_anew(self, rate: float, engine) -> None:
        """If the engine has changed. In the thread of the stream, so that no anchor asks the old one in between."""
        if self._changed:
            self._changed = self.outside = False
            self.check(rate, engine)

    def check(self, rate: float, engine) -> None:
        """``rate`` in Hz, nan where unknown."""
        spec = engine.spec
        if self.outside or math.isnan(rate) or spec.covers(rate):
            return
        self.outside = True
        self._block.logger.warn(
            f"{rate:g} samples a second lie outside the {spec.rate_min_hz:g} to {spec.rate_max_hz:g} that "
            f"{engine.name} was trained on: expect wrong answers"
        )
