#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block that infers windows for flowgraphs elsewhere."""

from __future__ import annotations

import secrets
import threading
from collections import deque

import pmt
from gnuradio import gr

from .contract.errors import UsageError
from .guarded import Guarded
from .remote_pmt import Answers, Hello, Windows, answers_pdu, hello_pdu, read
from .runtime.engine_remote import CHUNK, HELLO_EVERY_S, described

_WINDOWS = pmt.intern("windows")
_ANSWERS = pmt.intern("answers")


class inference_host(Guarded, gr.basic_block):
    """Infers chunks of windows that come as messages, and publishes answers and, several times a second, a hello.

    Messages: in ``windows``, from a ZMQ PULL Message Source; out ``answers``, to a ZMQ PUB Message Sink. The chunks are
    those of :class:`remote_inference`; docs/hosts.md describes the messages. A chunk that cannot be read or inferred,
    or that finds ``queue`` others waiting, is counted and gets no answer.

    Parameters
    ----------
    weights: name or path of a weights file; its heads answer, but for those that make waveforms
    threads: of the engine, 0: as many as serve it
    backend: of the engine
    queue: chunks that may wait
    engine: an engine already loaded, instead of ``weights``, ``threads`` and ``backend``

    Raises
    ------
    EMindError: no such weights, or a damaged file
    """

    def __init__(
        self,
        weights: str = "emind-nano",
        threads: int = 0,
        backend: str = "auto",
        queue: int = 64,
        engine: object | None = None,
    ) -> None:
        if queue < 1:
            raise UsageError(f"queue {queue} must be at least one chunk")
        if engine is None:
            # torch comes in here and not with the block
            from .runtime.ready import ready_engine

            # Waveforms are not asked for: they would cost a layer or two, and as much to send as the windows.
            engine = ready_engine(weights, backend, threads, CHUNK)
        gr.basic_block.__init__(self, "emind_inference_host", None, None)
        self.engine = engine
        self._hello = hello_pdu(Hello(session := secrets.randbits(63), described(engine)))
        self._session = session
        self._counts = {"windows_answered": 0, "chunks_dropped": 0, "chunks_failed": 0, "messages_garbled": 0}
        self._queue, self._limit = deque(), queue
        self._changed = threading.Condition()
        self._running = False
        self._threads: list[threading.Thread] = []
        self.message_port_register_in(_WINDOWS)
        self.message_port_register_out(_ANSWERS)
        self.set_msg_handler(_WINDOWS, self._take)

    def statistics(self) -> dict[str, int]:
        """``windows_answered``, and what got no answer: ``chunks_dropped`` (no room), ``chunks_failed`` (the engine
        raised, or windows of another length), ``messages_garbled``."""
        with self._changed:
            return dict(self._counts)

    def start(self) -> bool:
        self._running = True
        self._threads = [threading.Thread(target=target, name=f"emind-host-{name}", daemon=True)
                         for name, target in (("infer", self._infer), ("hello", self._say_hello))]
        for thread in self._threads:
            thread.start()
        return True

    def stop(self) -> bool:
        with self._changed:
            self._running = False
            self._queue.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(30)
        return True

    def _take(self, message: pmt.pmt_base) -> None:
        try:
            chunk = read(message)
            if not isinstance(chunk, Windows):
                raise ValueError("not windows")
        except Exception as fault:  # whatever comes over the network, the next message may be right
            self._count("messages_garbled", f"a message that cannot be read: {fault}")
            return
        with self._changed:
            room = len(self._queue) < self._limit
            if room:
                self._queue.append(chunk)
                self._changed.notify_all()
        if not room:
            self._count("chunks_dropped", "more chunks come than can be inferred: the newest are dropped")

    def _count(self, what: str, said: str) -> None:
        """Count it, and say it the first time."""
        with self._changed:
            self._counts[what] += 1
            first = self._counts[what] == 1
        if first:
            self.logger.warn(said)

    def _infer(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or not self._running)
                if not self._running:
                    return
                chunk = self._queue.popleft()
            try:
                answers = self.engine.infer(chunk.windows, chunk.rates_hz)
                pdu = answers_pdu(Answers(chunk.client, self._session, chunk.number, answers))
            except Exception as error:  # whatever the engine's fault, the flowgraph that waits counts it as skipped
                self._count("chunks_failed", f"a chunk was not inferred: {type(error).__name__}: {error}")
                continue
            self.message_port_pub(_ANSWERS, pdu)
            with self._changed:
                self._counts["windows_answered"] += len(chunk.windows)

    def _say_hello(self) -> None:
        with self._changed:
            while self._running:
                self.message_port_pub(_ANSWERS, self._hello)
                self._changed.wait_for(lambda: not self._running, HELLO_EVERY_S)
