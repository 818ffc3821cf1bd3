#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""The message port for detections: bounded, and what is not sent is counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pmt

from .contract import tags
from .runtime.outlet import Outlet

_DETECTIONS = pmt.intern(tags.PORT_DETECTIONS)
_ACKNOWLEDGE = pmt.intern(tags.PORT_DETECTIONS_ACK)


class DetectionsPort:
    """Ports ``detections`` and ``detections_ack`` of a block, see :mod:`.runtime.outlet` for what they keep to.

    ``waits``: the stream waits for receivers that are watched or acknowledge, and others get every message. Else what
    finds no room is dropped, of each call's windows those that were gated first.
    """

    def __init__(self, block: object, limit: int, waits: bool) -> None:
        self._block, self._waits = block, waits
        self._outlet = Outlet(limit)
        block.message_port_register_out(_DETECTIONS)
        block.message_port_register_in(_ACKNOWLEDGE)  # the block hands on what comes there

    def restart(self) -> None:
        self._outlet.restart()

    def watch(self, block: object, port: str) -> None:
        """Look at the queue of this block's input port before something is sent."""
        key = pmt.intern(port)
        self._outlet.watch(lambda: block.nmsgs(key))

    def wanted(self) -> bool:
        """Whether anybody subscribed."""
        return not pmt.is_null(self._block.message_subscribers(_DETECTIONS))

    def windows(self, most: int) -> int:
        """Of ``most`` windows how many may be released: all, unless the stream waits for a receiver."""
        if not self._waits or not self._outlet.knows or not self.wanted():
            return most
        room = self._outlet.room()
        return most if room is None else min(most, room)

    def choose(self, inferred: Sequence[bool]) -> list[int]:
        """Which of these windows, told whether they were inferred, are sent: ascending indices. They count as sent."""
        count = len(inferred)
        room = None if self._waits and not self._outlet.knows else self._outlet.room()
        if room is None or room >= count:
            chosen = list(range(count))
        else:
            gated_last = np.argsort(np.logical_not(inferred), kind="stable")
            chosen = np.sort(gated_last[:room]).tolist()
        self._outlet.sent(len(chosen))
        return chosen

    def send(self, message: pmt.pmt_base) -> None:
        self._block.message_port_pub(_DETECTIONS, message)

    def acknowledge(self, message: pmt.pmt_base) -> None:
        """An integer above zero: so many; anything else, such as the detection itself: one."""
        count = pmt.to_long(message) if pmt.is_integer(message) else 1
        self._outlet.acknowledge(max(count, 1))
