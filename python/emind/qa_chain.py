#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""What the tests of the inference block share: an engine that is told what to do, and the blocks around it."""

import threading
import time

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import inference, overlap_add, windowing
    from .contract.window import HeadSpec, WindowSpec
else:  # run by ctest on the module that was built
    from gnuradio.emind import inference, overlap_add, windowing
    from gnuradio.emind.contract.window import HeadSpec, WindowSpec

LENGTH = 64
LABELS = ("noise", "BPSK", "QPSK", "16QAM", "2FSK")
PATIENCE_S = 60


class FakeEngine:
    """Answers from the window's content: its mean magnitude modulo the number of labels.

    ``make``: callables (n, L) -> (n, K, L) that make the waveforms of further heads of these names.
    """

    backend = "fake"

    def __init__(self, head="modulation", length=LENGTH, spec=None, error=None, held=False, name="fake", shift=0,
                 **make):
        self.name, self.shift, self.make = name, shift, make
        self.spec = spec or WindowSpec(length=length, hop=length)
        self.heads = {head: HeadSpec(head, "classification", LABELS)}
        self.words = list(self.heads)
        sources = {"denoise": 1, "separation": 2}
        self.heads |= {name: HeadSpec(name, "reconstruction", sources=sources[name]) for name in make}
        self.error = error
        self.windows, self.rates = [], []
        self.entered, self.open = threading.Event(), threading.Event()
        if not held:
            self.open.set()

    def infer(self, windows, rates_hz):
        self.entered.set()
        self.open.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.windows.append(windows.copy())
        self.rates.append(rates_hz.copy())
        answers = np.full((len(windows), len(LABELS)), 0.05, np.float32)
        classes = [(self.class_of(window) + self.shift) % len(LABELS) for window in windows]
        answers[np.arange(len(windows)), classes] = 0.8
        return {head: answers for head in self.words} | {head: make(windows) for head, make in self.make.items()}

    def class_of(self, window):
        return class_of(window)


def class_of(window):
    return int(round(float(np.mean(np.abs(window))))) % len(LABELS)


def known(windows, seed=7):
    """A stream of windows of constant magnitude 1 to 4 and random phase."""
    rng = np.random.default_rng(seed)
    magnitudes = np.repeat(rng.integers(1, 5, windows), LENGTH)
    phases = rng.uniform(-np.pi, np.pi, windows * LENGTH)
    return (magnitudes * np.exp(1j * phases)).astype(np.complex64)


def make_tag(offset, key, value):
    tag = gr.tag_t()
    tag.offset, tag.key, tag.value, tag.srcid = offset, pmt.intern(key), value, pmt.intern("source")
    return tag


def until(condition):
    """Wait for a condition; give up after a time that only a fault takes."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition was never met")
        pause.wait(0.001)


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "emind-worker"]


class Chain:
    """source -> windowing -> inference -> overlap_add -> sink, with the detections kept."""

    def __init__(self, samples, engine, hop=LENGTH, stream_tags=(), length=LENGTH, repeat=False, **options):
        self.tb = gr.top_block()
        self.source = blocks.vector_source_c(samples.tolist(), repeat, 1, list(stream_tags))
        self.windowing = windowing(length, hop)
        self.inference = inference(length=length, engine=engine, **options)
        self.overlap_add = overlap_add(length, hop)
        self.sink = blocks.vector_sink_c()
        self.messages, self.reports = blocks.message_debug(), blocks.message_debug()
        self.tb.connect(self.source, self.windowing, self.inference, self.overlap_add, self.sink)
        self.tb.msg_connect(self.inference, "detections", self.messages, "store")
        self.tb.msg_connect(self.inference, "statistics", self.reports, "store")

    def run(self):
        self.tb.run()
        return self

    @property
    def out(self):
        return np.array(self.sink.data(), np.complex64)

    def tags(self, key="emind_modulation"):
        """(offset, value) of the tags with this key, by offset."""
        found = [(tag.offset, pmt.to_python(tag.value)) for tag in self.sink.tags() if str(tag.key) == key]
        return sorted(found, key=lambda item: item[0])

    def detections(self):
        messages = [self.messages.get_message(n) for n in range(self.messages.num_messages())]
        return [pmt.to_python(pmt.car(message)) for message in messages]


class AccountedFor(gr_unittest.TestCase):
    """Tests after which no worker is left, and which add up where windows went."""

    def tearDown(self):
        self.assertEqual(workers(), [])  # every worker thread ends with its block

    def assert_adds_up(self, counts):
        parts = counts["windows_inferred"] + counts["windows_skipped"] + counts["windows_gated"]
        self.assertEqual(counts["windows_seen"], parts)
        reasons = [counts[f"skipped_{reason}"] for reason in ("no_room", "late", "failed", "at_end")]
        self.assertEqual(counts["windows_skipped"], sum(reasons))
        self.assertEqual(counts["results_lost"], 0)
