#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What a block in Python raises ends its flowgraph.

GNU Radio logs an exception, ends the block's thread and tells nobody: the blocks around it wait for ever. Raised in
`start`, it leaves the whole flowgraph waiting before its first sample, and raised in `stop` it aborts the program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from .contract.errors import EMindError

_WORK_DONE = -1


class Guarded:
    """First base of a block in Python: what its work, start, stop or message handlers raise is logged in one line,
    kept as ``fault`` until the next start, and ends the flowgraph with the block's next work."""

    fault: Exception | None = None

    def __init_subclass__(cls, **more: object) -> None:
        super().__init_subclass__(**more)
        for name in ("start", "stop"):
            if name in cls.__dict__:
                setattr(cls, name, _kept(cls.__dict__[name], restarts=name == "start"))

    def handle_general_work(self, *told: object) -> int:
        if self.fault is None:
            try:
                return super().handle_general_work(*told)
            except Exception as fault:
                _keep(self, fault)
        return _WORK_DONE

    def handle_forecast(self, room: int, inputs: int) -> list[int]:
        if self.fault is None:
            try:
                return super().handle_forecast(room, inputs)
            except Exception as fault:
                _keep(self, fault)
        return [1] * inputs  # so that work is called

    def set_msg_handler(self, port: object, handler: Callable) -> None:
        @functools.wraps(handler)
        def guarded(message: object) -> None:
            try:
                handler(message)
            except Exception as fault:
                _keep(self, fault)

        setattr(self, handler.__name__, guarded)  # GNU Radio finds it by its name
        super().set_msg_handler(port, guarded)


def _kept(method: Callable, restarts: bool) -> Callable:
    @functools.wraps(method)
    def guarded(self: Guarded) -> bool:
        if restarts:
            self.fault = None
        try:
            return bool(method(self))
        except Exception as fault:
            _keep(self, fault)
            return False

    return guarded


def _keep(block: Guarded, fault: Exception) -> None:
    if block.fault is not None:  # what follows from the first, perhaps thousands of times
        return
    block.fault = fault
    block.logger.error(f"the flowgraph ends: {text_of(fault)}")


def text_of(fault: BaseException) -> str:
    """In one line; of an error that is none of ours with its type, which is often all that says something."""
    text = " ".join(str(fault).split())
    return text if isinstance(fault, EMindError) else f"{type(fault).__name__}: {text}"


def first_fault(blocks: Iterable[object]) -> EMindError | None:
    """What the first of these blocks that failed says, with the block's name; None where none did.

    A block may be a hierarchical one that lists its own as ``blocks``.
    """
    for block in blocks:
        fault = getattr(block, "fault", None)
        if fault is not None:
            return EMindError(f"block {block.name()} failed: {text_of(fault)}")
        inner = first_fault(getattr(block, "blocks", ()))
        if inner is not None:
            return inner
    return None
