#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""The way between a flowgraph and its inference hosts: gr-zeromq's message blocks, for each host one pair.

    chunks ──► host_port ──► push_msg_sink ═══ tcp ═══► the host's pull_msg_source
    engine ◄── host_port ◄── sub_msg_source ◄══ tcp ═══ the host's pub_msg_sink, at the next port

A push socket keeps what it cannot send; so nothing is sent to a host that has not said hello, see
`runtime/engine_remote.py`. Answers and hellos are published to all flowgraphs that ask a host, and each takes its own.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Sequence

import numpy as np
import pmt
from gnuradio import gr

from .contract.errors import EMindError, UsageError
from .remote_pmt import Answers, Hello, Windows, read, windows_pdu
from .runtime.engine_remote import Listener

POLL_MS = 50  # how long gr-zeromq's blocks look for a message before they look whether they should end
_TCP = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[^:/\s]+):(\d{1,5})")

_WINDOWS = pmt.intern("windows")
_SAID = pmt.intern("said")

_log = logging.getLogger("emind")


def answers_address(address: str) -> str:
    """Where a host that takes windows at ``address`` publishes its answers: the next TCP port, or a socket beside.

    UsageError for anything that is no address.
    """
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return address + ".answers"
    found = _TCP.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65535:
        raise UsageError(f"{address!r} is no address of an inference host: give tcp://<name>:<port>, the port below "
                         "65535, or ipc://<file>")
    return f"tcp://{found[1]}:{int(found[2]) + 1}"


def import_zeromq():
    """gr-zeromq. EMindError where GNU Radio was built without it; all other blocks do without."""
    try:
        from gnuradio import zeromq
    except ImportError as fault:
        raise EMindError(f"this GNU Radio has no gr-zeromq, which inference hosts are reached by: {fault}") from None
    return zeromq


class host_port(gr.basic_block):
    """What a flowgraph has of one host: sends it chunks, and tells a listener what it says.

    Messages: out ``windows``; in ``said``, whatever the host published.
    """

    def __init__(self, host: int, client: int, listener: Listener) -> None:
        gr.basic_block.__init__(self, "emind_host_port", None, None)
        self.garbled = 0  # messages that were none
        self._host, self._client, self._listener = host, client, listener
        self.message_port_register_out(_WINDOWS)
        self.message_port_register_in(_SAID)
        self.set_msg_handler(_SAID, self._take)

    def send(self, number: int, windows: np.ndarray, rates_hz: np.ndarray) -> None:
        self.message_port_pub(_WINDOWS, windows_pdu(Windows(self._client, number, windows, rates_hz)))

    def _take(self, message: pmt.pmt_base) -> None:
        try:
            said = read(message)
            if isinstance(said, Hello):
                self._listener.hello(self._host, said.session, said.info)
            elif isinstance(said, Answers) and said.client == self._client:
                self._listener.answer(self._host, said.session, said.number, said.answers)
        except Exception as fault:  # whatever comes over the network, the next message may be right
            self.garbled += 1
            if self.garbled == 1:
                _log.warning("host %d sent what cannot be read: %s", self._host, fault)


class zeromq_link(gr.top_block):
    """A flowgraph of its own that runs from here to :meth:`close`, so that hosts are known before any stream starts."""

    def __init__(self, addresses: Sequence[str], listener: Listener) -> None:
        gr.top_block.__init__(self, "emind hosts", catch_exceptions=True)
        self.handle_sigint = False
        zeromq = import_zeromq()
        pairs = [(address, answers_address(address)) for address in addresses]
        client = secrets.randbits(63)
        # Blocks in Python live only as long as something has them; gr-zeromq's are kept along.
        self._ports = [host_port(host, client, listener) for host in range(len(pairs))]
        self._ends = []
        for port, (windows, answers) in zip(self._ports, pairs):
            try:
                sink = zeromq.push_msg_sink(windows, POLL_MS, False)
                source = zeromq.sub_msg_source(answers, POLL_MS, False)
            except RuntimeError as fault:
                raise UsageError(f"host {windows}: {fault}") from None
            self.msg_connect(port, "windows", sink, "in")
            self.msg_connect(source, "out", port, "said")
            self._ends += [sink, source]
        self.start()

    def send(self, host: int, number: int, windows: np.ndarray, rates_hz: np.ndarray) -> None:
        self._ports[host].send(number, windows, rates_hz)

    def close(self) -> None:
        self.stop()
        self.wait()
