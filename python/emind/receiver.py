#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block that does it all: complex stream in, tagged complex stream out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gnuradio import gr
from gnuradio.filter import firdes, freq_xlating_fir_filter_ccf

from .callbacks import Told
from .contract import tags
from .contract.errors import UsageError, require
from .dsp.framing import window_buffer
from .inference import inference
from .overlap_add import overlap_add
from .runtime.dispatch import LOSSLESS
from .runtime.ready import ready_engine
from .runtime.streams import Streams
from .windowing import windowing

_FILL = 0.35  # of the new rate that the wanted band may fill
_HOLD_S = 0.1  # of windows that a realtime stream may hold back


class receiver(Told, gr.hier_block2):
    """Tunes if asked to, cuts windows, asks EMind, and puts the answers on the stream as tags.

    Input: complex stream. Output: complex stream with the tags of :class:`inference` on each window's first sample
    and the stream's own tags in place. With neither ``offset`` nor ``bandwidth`` sample k in is sample k out;
    otherwise the output is the shifted and decimated stream, all sample numbers count its samples, and ``rx_rate`` and
    ``rx_freq`` on it are its own. (``rx_time`` stays that of the sample that came in; with ``bandwidth`` the filter
    brings the signal some six samples of the output later.)

    Each head in ``streams`` adds outputs, aligned with the first one to the sample and with the same tags: the denoised
    stream, or the two separated ones. ``emind_reconstruction`` tags say where they hold the input instead, see
    :class:`inference`; where windows overlap, one kind goes over into the other smoothly.

    Message ports: ``detections``, ``statistics`` and, as an input, ``weights``, see :class:`inference`.

    Parameters
    ----------
    weights: name or path of a weights file
    sample_rate: samples a second at the input
    offset: Hz from the middle of the input band to the signal
    bandwidth: Hz that the signal occupies; the stream is decimated by the largest whole number that leaves the signal
        at most 0.35 of the new rate. 0: not decimated
    hop: samples from one window's start to the next one's; 0: as the weights say, or half a window with ``streams``
    policy, batch, max_latency_ms, gate_db, threads, backend, streams, heads, engine, processes, apart: see
        :class:`inference`
    hold: windows held back at most; 0: as many as come in 0.1 s, at least 128

    Raises
    ------
    UsageError: parameters that cannot work; EMindError: see :class:`inference`
    """

    def __init__(
        self,
        weights: str = "emind-nano",
        sample_rate: float = 1e6,
        offset: float = 0.0,
        bandwidth: float = 0.0,
        hop: int = 0,
        policy: str = "realtime",
        batch: int = 32,
        max_latency_ms: float = 2.0,
        gate_db: float | None = None,
        hold: int = 0,
        threads: int = 0,
        backend: str = "auto",
        streams: Sequence[str] = (),
        heads: Sequence[str] | None = None,
        engine: object | None = None,
        processes: int = -1,
        apart: bool = False,
    ) -> None:
        if not sample_rate > 0:
            raise UsageError(f"sample_rate {sample_rate} must be above zero")
        _check_offset(offset, sample_rate)
        if not 0 <= bandwidth <= sample_rate:
            raise UsageError(f"bandwidth {bandwidth:g} Hz must lie between 0 and the sample rate {sample_rate:g}")
        given = engine
        if engine is None:
            engine = ready_engine(weights, backend, threads, batch, heads, streams, processes, policy == LOSSLESS, apart)
        wanted = Streams(streams, engine.heads, engine.name)
        length = engine.spec.length
        hop = hop or (max(1, length // 2) if wanted.ports else engine.spec.hop)
        if not 1 <= hop <= length:
            raise UsageError(f"hop {hop} must be between 1 and the window length {length}")
        gr.hier_block2.__init__(
            self,
            "emind_receiver",
            gr.io_signature(1, 1, gr.sizeof_gr_complex),
            gr.io_signature(1 + wanted.ports, 1 + wanted.ports, gr.sizeof_gr_complex),
        )
        self.length, self.heads = length, engine.heads  # samples a window, and who answers
        self.domains = getattr(engine, "domains", {})  # what the heads were trained on
        self.stream_ports = wanted.ports  # outputs behind the first one
        self.decimation = max(1, int(_FILL * sample_rate / bandwidth)) if bandwidth > 0 else 1
        self.rate = sample_rate / self.decimation
        hold = hold or max(128, math.ceil(_HOLD_S * self.rate / hop))
        buffer = window_buffer(length, 2 * hold)
        self._sample_rate, self._tuner = sample_rate, None
        if offset or self.decimation > 1:
            taps = [1.0]
            if self.decimation > 1:  # the new band's outer tenth on each side may alias, the signal lies well within
                taps = firdes.low_pass(1.0, sample_rate, 0.4 * self.rate, 0.2 * self.rate)
            self._tuner = freq_xlating_fir_filter_ccf(self.decimation, taps, offset, sample_rate)
        self.windowing = windowing(length, hop, self.rate, self.decimation, offset, buffer)
        if self._tuner is not None:
            self.windowing.follow(self._tuner.alias())
        self.inference = inference(
            weights, length, self.rate, policy, batch, max_latency_ms, hold, gate_db, threads, backend, streams,
            heads=heads, engine=engine, processes=processes, apart=apart,
        )  # fmt: skip
        self.inference.kept_engine = given
        chain = [self.windowing, self.inference]
        if self._tuner is not None:
            chain.insert(0, self._tuner)
        self.connect(self, *chain)
        # One for the windows themselves, then one a head. Blocks in Python live only as long as something here has them.
        self.overlap_adds = [overlap_add(length, hop, sources) for sources in (1, *wanted.sources.values())]
        self.blocks = [self.windowing, self.inference, *self.overlap_adds]
        port = 0
        for adder, sources in zip(self.overlap_adds, (1, *wanted.sources.values())):
            for source in range(sources):
                self.connect((self.inference, port), (adder, source))
                self.connect((adder, source), (self, port))
                port += 1
        for port in (tags.PORT_DETECTIONS, tags.PORT_STATISTICS):
            self.message_port_register_hier_out(port)
            self.msg_connect(self.inference, port, self, port)
        self.message_port_register_hier_in(tags.PORT_WEIGHTS)
        self.msg_connect(self, tags.PORT_WEIGHTS, self.inference, tags.PORT_WEIGHTS)

    def set_weights(self, weights: str) -> None:
        """Go over to other weights while the stream runs, see :meth:`inference.set_weights`."""
        self.inference.set_weights(weights)

    def set_offset(self, offset: float) -> None:
        """Look at another place of the band, Hz from its middle, while the stream runs; windows end where that begins.

        UsageError outside the band, and where neither an offset nor a bandwidth was given at the start: then the
        receiver has no filter that could tune.
        """
        _check_offset(offset, self._sample_rate)
        if self._tuner is None:
            require((not offset, "the receiver was made without offset and bandwidth and so cannot be tuned: give one"))
        elif offset != self._tuner.center_freq():
            self._tuner.set_center_freq(offset)

    def set_gate_db(self, gate_db: float | None) -> None:
        """Another gate while the stream runs, see :meth:`inference.set_gate_db`."""
        self.inference.set_gate_db(gate_db)

    def close(self) -> None:
        """Give back the engine with its processes and memory, see :meth:`inference.close`."""
        self.inference.close()

    def statistics(self) -> dict:
        """Counts since the flowgraph started, see :meth:`inference.statistics`."""
        return self.inference.statistics()

    def gaps(self) -> int:
        """Gaps met since the flowgraph started."""
        return self.windowing.gaps()

    def error(self) -> Exception | None:
        """What the engine, or a block in here, raised since the flowgraph started, if anything did."""
        return self.inference.error() or next((block.fault for block in self.blocks if block.fault is not None), None)


def _check_offset(offset: float, sample_rate: float) -> None:
    require((abs(offset) <= sample_rate / 2,
             f"offset {offset:g} Hz lies outside the band of {sample_rate:g} samples a second"))
