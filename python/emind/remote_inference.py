#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block that has other hosts answer questions about windows."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from gnuradio import gr

from .contract import tags
from .contract.errors import EMindError
from .inference import inference
from .remote_link import zeromq_link
from .runtime.engine_remote import RemoteEngine


class remote_inference(gr.hier_block2):
    """As :class:`inference`, but the windows are inferred by other processes, on this machine or others.

    Input and output: vectors of ``length`` complex samples; tags and the messages ``detections`` and ``statistics`` as
    in :class:`inference`. ``emind host`` runs a host; all must have the same weights.

    Hosts that are there share the windows, each as many as it can answer. One that is lost costs the windows that it
    had, which count as skipped, and takes part again when it is there again. While none is there all windows are
    skipped, and the stream goes on, under every policy.

    Parameters
    ----------
    hosts: addresses, such as ``["tcp://10.0.0.2:5555", "tcp://10.0.0.3:5555"]``
    length: samples a window, as the hosts' weights ask for
    batch: windows that are sent out together; with several hosts more than for one engine
    timeout_ms: a host that is silent, or owes an answer, for longer is lost
    sample_rate, policy, max_latency_ms, hold, gate_db: see :class:`inference`
    engine: an engine already connected, instead of ``hosts`` and ``timeout_ms``

    Raises
    ------
    EMindError: no host answers, or their weights are for another window length; UsageError: what is no address
    """

    def __init__(
        self,
        hosts: Sequence[str] = ("tcp://127.0.0.1:5555",),
        length: int = 1024,
        sample_rate: float = 0.0,
        policy: str = "realtime",
        batch: int = 64,
        max_latency_ms: float = 5.0,
        hold: int = 256,
        gate_db: float | None = None,
        timeout_ms: float = 1000.0,
        engine: object | None = None,
    ) -> None:
        if engine is None:
            addresses = [hosts] if isinstance(hosts, str) else list(hosts)
            engine = RemoteEngine(addresses, zeromq_link, timeout_ms / 1e3)
        if length != engine.spec.length:
            engine.close()
            raise EMindError(f"the hosts' weights {engine.name} are for windows of {engine.spec.length} samples: set "
                             f"length {engine.spec.length} instead of {length}")
        signature = gr.io_signature(1, 1, length * gr.sizeof_gr_complex)
        gr.hier_block2.__init__(self, "emind_remote_inference", signature, signature)
        self.engine = engine
        self._closed = weakref.finalize(self, engine.close)  # also at the interpreter's end
        self.inference = inference(
            length=length, sample_rate=sample_rate, policy=policy, batch=batch, max_latency_ms=max_latency_ms,
            hold=hold, gate_db=gate_db, engine=engine,
        )  # fmt: skip
        self.connect(self, self.inference, self)
        for port in (tags.PORT_DETECTIONS, tags.PORT_STATISTICS):
            self.message_port_register_hier_out(port)
            self.msg_connect(self.inference, port, self, port)

    def hosts(self) -> list[dict]:
        """Of each host: address, state (there, silent, lost, refused), windows sent and answered, times lost."""
        return self.engine.hosts()

    def close(self) -> None:
        """Leave the hosts; the flowgraph has ended, see :meth:`inference.close`."""
        self.inference.close()
        self._closed()

    def statistics(self) -> dict:
        """Counts since the flowgraph started, see :meth:`inference.statistics`."""
        return self.inference.statistics()

    def error(self) -> Exception | None:
        """What failed since the flowgraph started, if anything did. A lost host is no failure."""
        return self.inference.error()
