"""The flowgraph of `emind live`: a source, and behind each channel a watch, a receiver and, if wanted, a recorder."""

from __future__ import annotations

from pathlib import Path

import pmt
from gnuradio import blocks, gr

from ..contract import tags
from ..receiver import receiver
from ..recorder import recorder
from ..storage.recording import open_recording
from .flowgraph import recording_flowgraph
from .live_watch import announce, mailbox, watch
from .record import UHD_SCALE


class live_flowgraph(recording_flowgraph):
    """Top block. ``watches``, ``receivers``, ``mailboxes`` and ``recorders``: one a channel, the last may be empty."""

    def __init__(self) -> None:
        gr.top_block.__init__(self, "emind live", catch_exceptions=True)
        self.handle_sigint = False
        self.watches: list[watch] = []
        self.receivers: list[receiver] = []
        self.recorders: list[recorder] = []
        self.mailboxes: list[mailbox] = []
        self.announcers: list[announce] = []  # of a source that does not tag its settings
        self._sinks: list = []

    def python_blocks(self) -> list:
        """Those that may fail, see :mod:`..guarded`."""
        return [*self.announcers, *self.watches, *self.receivers, *self.recorders, *self.mailboxes]

    def _attach(self, settings: dict, engine, outputs: list, rate: float, center: float | None) -> None:
        for number, output in enumerate(outputs):
            seen = watch(rate)
            answering = receiver(sample_rate=rate, offset=settings["offset"], bandwidth=settings["bandwidth"],
                                 hop=settings["hop"], policy="realtime", batch=settings["batch"],
                                 gate_db=settings["gate_db"], engine=engine)
            end = blocks.null_sink(gr.sizeof_gr_complex)
            self.connect(output, seen)
            self.connect(output, answering, end)
            self.watches.append(seen)
            self.receivers.append(answering)
            self._sinks.append(end)
            if settings["record"]:
                path = settings["record"] if len(outputs) == 1 else f"{settings['record']}-channel{number}"
                kept = recorder(path, file_format=settings["record_files"], sample_rate=rate, center_freq=center or 0.0,
                                length=engine.spec.length, labels=settings["labels"], from_tags=False,
                                policy="realtime", scale=UHD_SCALE)
                kept.tells_end = False  # an event does
                self.connect(output, kept)
                self.recorders.append(kept)
            letters = mailbox(answering.decimation, number if len(outputs) > 1 else None)
            self.msg_connect(answering, tags.PORT_DETECTIONS, letters, tags.PORT_DETECTIONS)
            answering.inference.watch_detections(letters)  # else no more than so many a second are sent
            self.mailboxes.append(letters)


def of_radio(settings: dict, engine, source) -> live_flowgraph:
    """Behind a radio that is open and set up."""
    graph = live_flowgraph()
    graph.source = source.block
    state = source.state()
    outputs = [(source.block, number) for number in source.channels]
    if not source.tags_settings:
        source.announcers = graph.announcers = [announce() for _ in outputs]
        for output, telling in zip(outputs, graph.announcers):
            telling.tell(state["freq"], state["rate"])
            graph.connect(output, telling)
        outputs = list(graph.announcers)
    graph._attach(settings, engine, outputs, state["rate"], state["freq"])
    if source.block.has_msg_port(pmt.intern("async_msgs")):
        graph.msg_connect(source.block, "async_msgs", graph.mailboxes[0], "async_msgs")
    return graph


def of_recording(settings: dict, engine) -> live_flowgraph:
    """A recording, played at its own rate."""
    graph = live_flowgraph()
    graph.recording = recording = open_recording(Path(settings["file"]), settings["format"], settings["file_rate"])
    throttle = blocks.throttle(gr.sizeof_gr_complex, recording.rate)
    graph.connect(graph._source(recording.count), throttle)
    graph._attach(settings, engine, [throttle], recording.rate, recording.center)
    return graph
