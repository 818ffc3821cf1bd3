#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Block that answers questions about windows."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pmt
from gnuradio import gr

from .callbacks import Told
from .contract import tags
from .contract.errors import EMindError, UsageError, require
from .detections_port import DetectionsPort
from .dsp.framing import Anchor, StreamState, anchor_from_fields, window_buffer
from .engine_reports import EngineFaults, RateCheck, StatisticsPort
from .guarded import Guarded
from .reports import Reports
from .runtime.dispatch import LOSSLESS, POLICIES, Dispatcher, Released
from .runtime.machine import set_aside_what_is_there, take_back
from .runtime.ready import ready_engine
from .runtime.statistics import Statistics
from .runtime.streams import Streams
from .runtime.worker import Worker, lanes_of
from .weights_port import WeightsPort

_WINDOW = pmt.intern(tags.WINDOW)
_RECONSTRUCTION = pmt.intern(tags.RECONSTRUCTION)

_RECEIVER_GLANCE_S = 0.002  # how often a receiver that is behind is looked at
_DEADLINE_S = 0.08  # the stream waits at most 100 ms, the scheduler's part included


class _Closed(NamedTuple):
    """In the place of the engine that was given back."""

    name: str
    backend: str


def _gate_rule(gate_db: float | None) -> tuple[bool, str]:
    return gate_db is None or gate_db >= 0, f"gate_db {gate_db} must not be negative; None: off"


class inference(Guarded, Told, gr.basic_block):
    """Asks EMind about each window and tags it with the answers; the windows pass unchanged.

    Input and output: vectors of ``length`` complex samples, all their tags kept. Each head in ``streams`` adds as many
    outputs as it makes waveforms of a window: denoised ones on one, separated ones on two. All outputs are in step and
    carry the same tags.

    A window is held back in the input buffer until its answer is there, while a thread gathers windows into batches
    and infers them. All-zero windows, windows below the gate and windows with values that are not finite never
    reach the engine: they count as gated, the former two are reported as ``noise`` with confidence 1.

    Tags on the output: for each head ``emind_<head>``, a dict of ``label`` (symbol), ``confidence`` (0 to 1) and
    ``length`` (samples that are signal); for the head ``modulation`` ``family`` (symbol); for an anomaly head
    ``score``, the probability of anomalous; for a regression its parameters by name, in SI units. The label is
    ``unknown`` where the window resembles none of the head's classes. ``outside_training`` is true where the head was
    not trained on windows of this length or rate, else absent.

    Tags on the outputs of ``streams``: ``emind_reconstruction`` on the first window and wherever it changes what the
    windows hold: ``reconstructed``, or ``skipped`` or ``gated``, where a head's first output is the window as it came
    and its others are zero.

    Messages:

    - ``detections``: a PDU for each tagged window, whose dict has ``sample_start``, ``sample_count``, ``rx_time``,
      ``rx_rate`` (Hz) and ``rx_freq`` (Hz) where known, ``snr_db`` against the quietest windows where known,
      ``latency_ms`` from the window's arrival to its leaving, and an entry a head with what its tag says.
    - ``statistics``: a PDU about once a second, when the stream has drained, and in stop() (which reaches only blocks
      that run on; :meth:`statistics` is exact at any time).
    - ``detections_ack``, an input: a receiver that sends a message for each detection it has dealt with (or, for
      several, their number) never gets more than ``detections_limit`` ahead of that.
    - ``weights``, an input: name or path of other weights, see :meth:`set_weights`.

    Parameters
    ----------
    weights: name or path of a weights file
    length: samples a window, as the weights ask for
    sample_rate: samples a second where no tag tells, 0 if unknown
    policy: ``lossless`` (the stream waits, every window is answered); or one under which the stream does not wait:
        ``realtime-even`` (under overload every n-th window is answered; ``realtime`` is short for it),
        ``realtime-skip-newest`` (those that find no room behind the ones that wait are skipped) or
        ``realtime-skip-oldest`` (those that have waited longest give way to new ones). A window without an answer
        after 80 ms, or when ``hold`` windows have come behind it, passes untagged and counts as skipped as well
    batch: windows at which a batch closes
    max_latency_ms: time after which it closes although it is not full
    hold: windows held back at most; the buffer of the block in front should hold twice as many (:class:`windowing`
        with its default does)
    gate_db: windows less than this many dB above the noise floor are gated; None: no gate
    threads: of the engine, 0: as many as serve it
    backend: of the engine
    streams: heads whose waveforms come out as well, such as ``("denoise",)`` or ``("separation",)``
    heads: those that answer, None: all that say something of a window; those that make waveforms run for ``streams``
    detections_limit: most detections pending at a receiver that :meth:`watch_detections` names or that acknowledges;
        of other receivers nothing is known, and they are sent at most so many a second. Under ``lossless`` the stream
        waits for the former and the others get all; else what is too many is dropped and counted. 0: no limit
    engine: an engine already loaded, instead of ``weights``, ``threads``, ``backend`` and ``processes``
    processes: of the engine's own, below 0: as many as serve it; 0: it runs among the blocks, see :mod:`.runtime.ready`
    apart: those get processor cores of their own, and the whole program that the block is in is kept off them: answers
        come sooner, as long as nothing else on the machine wants the same cores

    Raises
    ------
    EMindError: no such weights, a damaged file, weights made for another window length or without such a head
    """

    def __init__(
        self,
        weights: str = "emind-nano",
        length: int = 1024,
        sample_rate: float = 0.0,
        policy: str = "lossless",
        batch: int = 32,
        max_latency_ms: float = 2.0,
        hold: int = 128,
        gate_db: float | None = None,
        threads: int = 0,
        backend: str = "auto",
        streams: Sequence[str] = (),
        detections_limit: int = tags.DETECTIONS_LIMIT,
        heads: Sequence[str] | None = None,
        engine: object | None = None,
        processes: int = -1,
        apart: bool = False,
    ) -> None:
        if policy not in POLICIES:
            raise UsageError(f"unknown policy {policy!r}: use {' or '.join(POLICIES)}")
        require((batch >= 1, f"batch {batch} must be at least 1"), (hold >= 1, f"hold {hold} must be at least 1"),
                (max_latency_ms >= 0, f"max_latency_ms {max_latency_ms:g} must not be negative"),
                (sample_rate >= 0, f"sample_rate {sample_rate:g} must not be negative"),
                _gate_rule(gate_db),
                (detections_limit >= 0, f"detections_limit {detections_limit} must not be negative"))

        def load(weights: str) -> object:
            return ready_engine(weights, backend, threads, batch, heads, streams, processes, policy == LOSSLESS, apart)

        given = engine
        if engine is None:
            engine = load(weights)
            gc.collect()  # not in `start`, where other streams may run
        if length != engine.spec.length:
            raise EMindError(
                f"{engine.name} was trained on windows of {engine.spec.length} samples: "
                f"set length {engine.spec.length} instead of {length} in windowing, inference and overlap_add"
            )
        self._streams = Streams(streams, engine.heads, engine.name)
        windows = [(np.complex64, (length,))]
        outputs = windows * (1 + self._streams.ports)
        gr.basic_block.__init__(self, "emind_inference", in_sig=windows, out_sig=outputs)
        self._engine = engine  # what the next start begins with
        self.kept_engine = given  # another's: it stays when this block is closed
        self._engine_lock = threading.Lock()  # a change of weights against start and stop
        self._load_engine = load
        running = getattr(engine, "weights", "")
        self._weights = WeightsPort(self, running, engine.name, backend, self._load, self._accept)
        self._length = length
        self._policy, self._gate_db = policy, gate_db
        self._batch, self._max_latency_s = batch, max_latency_ms / 1e3
        self._hold = window_buffer(length, 2 * hold) // 2
        self._worker: Worker | None = None
        self._dispatcher: Dispatcher | None = None
        self._detections = DetectionsPort(self, detections_limit, waits=policy == LOSSLESS)
        rate = sample_rate if sample_rate > 0 else math.nan
        self._reports = Reports(self, self._detections, length, len(outputs), rate)
        self._statistics_port = StatisticsPort(self, self.statistics)
        self._faults, self._rate = EngineFaults(self), RateCheck(self)
        self._prepare()
        self.set_msg_handler(pmt.intern(tags.PORT_DETECTIONS_ACK), self._on_acknowledge)
        self.set_tag_propagation_policy(gr.TPP_ALL_TO_ALL)
        level = self.log_level()
        self.set_log_level("warn")  # the call says at level info what it does
        self.set_min_output_buffer(window_buffer(length, 256))
        self.set_log_level(level)

    def statistics(self) -> dict:
        """Counts since the flowgraph started, with the keys of ``contract.tags.STATISTICS_KEYS``.

        ``rate_outside_training`` is added, True, once a sample rate was met that the weights never saw,
        ``windows_outside_training``, windows by head, where heads answered what is unlike their training, and
        ``weights_error`` when the newest weights asked for were refused: what was wrong with them.
        """
        worker = self._worker
        depth = 0 if worker is None else worker.queue_depth
        engine = self._engine if worker is None else worker.engine
        errors = self._errors_before + (0 if worker is None else worker.errors)
        values = self._statistics.snapshot(depth, engine.backend, engine.name, errors)
        if self._rate.outside:
            values["rate_outside_training"] = True
        if self._reports.outside:
            values[tags.WINDOWS_OUTSIDE] = dict(self._reports.outside)
        if self._weights.error is not None:
            values["weights_error"] = self._weights.error
        return values

    def set_weights(self, weights: str) -> None:
        """Go over to other weights, a name or path, while the stream runs; returns at once.

        They are loaded and warmed up aside and take over between two batches: no sample is lost, and each answer is
        of the old ones or of the new ones. Weights that cannot be used, or ask for another window length, are refused
        with a line in the log, and the old ones go on.
        """
        self._weights.ask(weights)

    def set_gate_db(self, gate_db: float | None) -> None:
        """Another gate from the next windows on, or None for none; UsageError where it is negative."""
        require(_gate_rule(gate_db))
        self._gate_db = gate_db
        if self._dispatcher is not None:
            self._dispatcher.set_gate(gate_db)

    def watch_detections(self, block: object, port: str = tags.PORT_DETECTIONS) -> None:
        """Leave no more than ``detections_limit`` messages in the queue of this block's input port.

        For a receiver whose queue Python can see: any block but a hierarchical one, connected to ``detections``.
        """
        self._detections.watch(block, port)

    def error(self) -> BaseException | None:
        """What the engine, or this block, raised since the flowgraph started, if anything did.

        A lossless block ends the flowgraph then; any other lets windows pass without answers and tries again.
        """
        return self._faults.newest or self.fault

    def close(self) -> None:
        """Give back the engine that the block has loaded, with its processes and memory, now; its flowgraph has ended.

        For scripts that drop a block while another stream under ``realtime`` runs: until that ends Python looks for no
        garbage among what was there when it began (:mod:`.runtime.machine`), blocks with their engines included. An
        engine that was given to the block stays. The counts can still be read; the block cannot run again. EMindError
        while it runs.
        """
        with self._engine_lock:
            if self._worker is not None:
                raise EMindError("the flowgraph still runs: stop it, and wait for its end, before a block is closed")
            engine, self._engine = self._engine, _Closed(self._engine.name, self._engine.backend)
            self._dispatcher = None
            self._reports.forget_engine()
        if engine is not self.kept_engine and not isinstance(engine, _Closed):
            engine.close()

    def start(self) -> bool:
        with self._engine_lock:
            return self._start()

    def _start(self) -> bool:
        if isinstance(self._engine, _Closed):
            raise EMindError("this block was closed and has no engine any more: make a new one")
        self._prepare()
        lossless = self._policy == LOSSLESS
        # As many as the lanes have may wait while they are inferred, and all of them are held back.
        lanes = lanes_of(self._engine)
        batch = max(1, min(self._batch, self._hold // (2 * lanes)))
        most = 2 * batch * (1 + lanes)
        self._worker = Worker(
            self._engine,
            self._length,
            batch=batch,
            max_latency_s=self._max_latency_s,
            capacity=most if lossless else max(most, self._hold),
            slots=0 if lossless else 2 * batch * lanes + self._hold,
            goes_on=not lossless,
        )
        self._dispatcher = Dispatcher(
            self._worker,
            self._statistics,
            policy=self._policy,
            hold=self._hold,
            deadline_s=max(_DEADLINE_S, 2 * self._max_latency_s),
            gate_db=self._gate_db,
        )
        if not lossless:
            set_aside_what_is_there()
        self._worker.start()
        return True

    def stop(self) -> bool:
        if self._worker is None:
            return True
        if not self._worker.stop():
            self.logger.error("the engine has not come back from its last batch: its thread is left behind")
        if self._policy != LOSSLESS:
            take_back()
        self._dispatcher.abandon()
        self._statistics_port.publish()
        with self._engine_lock:
            self._errors_before = self._worker.errors
            self._worker = None
        return True

    def _on_acknowledge(self, message: pmt.pmt_base) -> None:
        self._detections.acknowledge(message)

    def _load(self, weights: str) -> object:
        engine = self._load_engine(weights)
        if engine.spec.length != self._length:
            raise EMindError(
                f"weights {weights} are for windows of {engine.spec.length} samples, this flowgraph cuts {self._length}"
            )
        self._streams.check(engine.heads, weights)
        return engine

    def _accept(self, engine: object) -> None:
        with self._engine_lock:
            closed = isinstance(self._engine, _Closed)
            if not closed:
                self._engine = engine
                if self._worker is not None:
                    self._worker.replace_engine(engine)
                    self._rate.engine_changed()
        if closed:  # while it was loaded
            engine.close()

    def _prepare(self) -> None:
        self._statistics = Statistics()
        self._reports.restart(self._statistics)
        self._streams.restart()
        self._statistics_port.restart()
        self._faults.restart()
        self._detections.restart()
        self._errors_before = 0  # those of a worker that has ended
        self._rate.restart()
        self._scanned = 0  # tags before this window are known
        self._coming: deque[Anchor] = deque()  # anchors at or behind the next window to admit
        self._admitting = Anchor(0, 0, self._length, self._length, StreamState())

    def forecast(self, noutput_items: int, ninputs: int) -> list[int]:
        return [1] * ninputs

    def general_work(self, input_items: list, output_items: list) -> int:
        windows, out = input_items[0], output_items[0]
        first = self.nitems_read(0)
        try:
            self._scan(first + len(windows))
        except ValueError as fault:
            raise EMindError(str(fault)) from None
        self._admit(windows, first)
        if self._faults.end(self._worker):
            return -1
        released = self._release(windows, out)
        if released is None:
            # The scheduler would call again at once: the windows that wait stay in its buffer.
            self._dispatcher.wait()
            if self._faults.end(self._worker):
                return -1
            self._admit(windows, first)
            released = self._release(windows, out)
        count = 0
        if released is not None:
            count = len(released.fates)
            out[:count] = windows[:count]
            self._make_streams([port[:count] for port in output_items[1:]], windows[:count], released)
            self._reports.of(released, first)
            self.consume(0, count)
        self._statistics_port.publish_if_due(drained=count == len(windows))
        return count

    def _scan(self, end: int) -> None:
        """Take in where the windows lie that came since the last call."""
        if end <= self._scanned:
            return
        for tag in self.get_tags_in_range(0, self._scanned, end, _WINDOW):
            anchor = anchor_from_fields(tag.offset, pmt.to_python(tag.value))
            if anchor.valid > self._length:
                raise ValueError(
                    f"windowing of length {anchor.valid} or more met an inference of length {self._length}: "
                    "give both blocks the same length"
                )
            self._coming.append(anchor)
            self._reports.expect(anchor)
        self._scanned = end

    def _admit(self, windows: np.ndarray, first: int) -> None:
        """Hand what is new to the dispatcher, piece by piece between anchors."""
        end = first + len(windows)
        while (number := first + self._dispatcher.held) < end:
            if self._coming and self._coming[0].window <= number:
                self._reach(self._coming.popleft())
            stop = min(end, self._coming[0].window) if self._coming else end
            rate = self._reports.rate_of(self._admitting)
            self._rate.check_anew(rate, self._worker.engine)
            valid = self._admitting.valid_of(number, self._length)
            count = self._dispatcher.admit(windows[number - first : stop - first], rate, valid)
            if count < stop - number:
                break

    def _reach(self, anchor: Anchor) -> None:
        """The next window to admit is an anchor."""
        before, after = self._admitting.state, anchor.state
        self._admitting = anchor
        if anchor.state.gap:
            self._statistics.count(gaps=1)
            if not (_same(before.rate, after.rate) and _same(before.freq, after.freq)):
                self._dispatcher.restart_floor()
        self._rate.check(self._reports.rate_of(anchor), self._worker.engine)

    def _release(self, windows: np.ndarray, out: np.ndarray) -> Released | None:
        held = self._dispatcher.held
        if not held:
            return None
        most = self._detections.windows(len(out))
        if not most:
            time.sleep(_RECEIVER_GLANCE_S)
            return None
        return self._dispatcher.release(most, len(windows) - held)

    def _make_streams(self, ports: list[np.ndarray], windows: np.ndarray, released: Released) -> None:
        written = self.nitems_written(0)
        for index, state in self._streams.fill(ports, windows, released):
            for port in range(1, 1 + len(ports)):
                self.add_item_tag(port, written + index, _RECONSTRUCTION, pmt.intern(state))


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
