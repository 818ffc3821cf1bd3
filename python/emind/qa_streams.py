#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""The streams of reconstruction heads through windowing, inference and overlap_add, beside the pass-through."""

import sys
import threading
from unittest import mock

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import inference, receiver
    from .contract.errors import EMindError, UsageError
    from .qa_chain import FakeEngine, make_tag
else:  # run by ctest on the module that was built
    from gnuradio.emind import inference, receiver
    from gnuradio.emind.contract.errors import EMindError, UsageError
    from qa_chain import FakeEngine, make_tag

LENGTH = 1024
DENOISE, SEPARATION, MODULATION = "denoise", "separation", "modulation"
PATIENCE_S = 60


def making(held=False, **make):
    """An engine with heads that make waveforms, see :class:`FakeEngine`."""
    return FakeEngine(length=LENGTH, held=held, **make)


def identity(windows):
    return windows[:, None, :].copy()


def negative(windows):
    return -windows[:, None, :]


def noise(count, seed=1):
    """Complex noise, no sample larger than 1."""
    parts = np.random.default_rng(seed).standard_normal((count, 2), np.float32).view(np.complex64)[:, 0]
    return parts / np.abs(parts).max()


def two_signals(count):
    """Two signals that a mask in frequency takes apart: one in the lower half of the band, one in the upper."""
    spectrum = np.fft.fft(noise(count, 3))
    frequency = np.fft.fftfreq(count)
    lower = np.fft.ifft(np.where(frequency < 0, spectrum, 0))
    upper = np.fft.ifft(np.where(frequency < 0, 0, 0.5 * spectrum))
    return lower.astype(np.complex64), upper.astype(np.complex64)


class Halves:
    """Separates such signals: exact but for the window's edges, the outputs in random order."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.swapped = 0

    def __call__(self, windows):
        spectrum, frequency = np.fft.fft(windows, axis=1), np.fft.fftfreq(windows.shape[1])
        halves = np.stack([np.where(frequency < 0, spectrum, 0), np.where(frequency < 0, 0, spectrum)], axis=1)
        swap = self.rng.integers(0, 2, len(windows)).astype(bool)
        halves[swap] = halves[swap][:, ::-1]
        self.swapped += int(swap.sum())
        return np.fft.ifft(halves, axis=2).astype(np.complex64)


def marks(*offsets):
    return [make_tag(offset, "mark", pmt.from_long(offset)) for offset in offsets]


class Run:
    """A stream through a receiver: samples and tags of each of its outputs."""

    def __init__(self, samples, engine, stream_tags=(), meanwhile=None, policy="lossless", **options):
        self.receiver = receiver(engine=engine, policy=policy, **options)
        tb = gr.top_block()
        tb.connect(blocks.vector_source_c(samples.tolist(), False, 1, list(stream_tags)), self.receiver)
        sinks = [blocks.vector_sink_c() for _ in range(1 + self.receiver.stream_ports)]
        for port, sink in enumerate(sinks):
            tb.connect((self.receiver, port), sink)
        tb.start()
        if meanwhile is not None:
            meanwhile()
        tb.wait()
        self.outs = [np.array(sink.data(), np.complex64) for sink in sinks]
        self.tags = [sorted(((tag.offset, str(tag.key), str(tag.value)) for tag in sink.tags())) for sink in sinks]
        self.counts = self.receiver.statistics()

    def states(self, port):
        return [(offset, value) for offset, key, value in self.tags[port] if key == "emind_reconstruction"]

    def other_tags(self, port):
        return [tag for tag in self.tags[port] if tag[1] != "emind_reconstruction"]


class qa_streams(gr_unittest.TestCase):
    def tearDown(self):
        self.assertNotIn("emind-worker", [thread.name for thread in threading.enumerate()])

    def assert_equal_samples(self, out, samples):
        self.assertGreater(len(out), 0)
        np.testing.assert_allclose(out, samples[: len(out)], rtol=0, atol=1e-6)

    def test_a_model_that_changes_nothing_gives_the_input_and_every_tag_at_its_sample(self):
        samples = noise(40 * LENGTH)
        own = marks(0, 1, 511, 512, 1023, 1024, 20_000, 38_000)
        for hop in (1024, 512, 384, 1000):
            run = Run(samples, making(denoise=identity), own, hop=hop, streams=(DENOISE,))
            windows = (len(samples) - LENGTH) // hop + 1
            for out in run.outs:
                self.assertEqual(len(out), windows * hop)
                self.assert_equal_samples(out, samples)
            self.assertEqual(run.other_tags(0), run.other_tags(1))
            found = [offset for offset, key, _ in run.tags[1] if key == "mark"]
            self.assertEqual(found, [0, 1, 511, 512, 1023, 1024, 20_000, 38_000])
            answers = [offset for offset, key, _ in run.tags[1] if key == "emind_modulation"]
            self.assertEqual(answers, [number * hop for number in range(windows)])
            self.assertEqual(run.states(1), [(0, "reconstructed")])
            self.assertEqual(run.states(0), [])

    def test_what_the_model_makes_lies_beside_its_input_to_the_sample(self):
        samples = noise(20 * LENGTH)
        for hop in (1024, 512, 384, 1000):
            run = Run(samples, making(denoise=negative), hop=hop, streams=(DENOISE,))
            self.assertEqual(len(run.outs[0]), len(run.outs[1]))
            np.testing.assert_allclose(run.outs[0] + run.outs[1], 0, rtol=0, atol=1e-6)

    def test_across_gaps_both_streams_stay_in_step_and_no_window_straddles_one(self):
        samples = noise(20 * LENGTH)
        gaps = (3000, 3001, 3400, 9_000, 9_000 + LENGTH, 15_000)
        tags = [make_tag(at, "rx_freq", pmt.from_double(at)) for at in (0, *gaps)]
        for hop in (1024, 512, 384):
            run = Run(samples, making(denoise=identity), tags, hop=hop, streams=(DENOISE,))
            self.assertEqual(run.receiver.gaps(), len(gaps))
            self.assertGreater(len(run.outs[1]), 18 * LENGTH)
            for out in run.outs:
                self.assert_equal_samples(out, samples)
            self.assertEqual(run.other_tags(0), run.other_tags(1))
            self.assertEqual([offset for offset, key, _ in run.tags[1] if key == "rx_freq"], [0, *gaps])

        def first_sample(windows):  # tells where windows begin
            return windows[:, :1, None] + 0 * identity(windows)

        starts = Run(samples, making(denoise=first_sample), tags, hop=LENGTH, streams=(DENOISE,)).outs[1]
        for gap, end in zip(gaps, (*gaps[1:], len(starts))):
            np.testing.assert_allclose(starts[gap : min(gap + LENGTH, end)], samples[gap], rtol=0, atol=1e-6)

    def test_the_last_windows_tail_comes_out_where_zeros_follow(self):
        samples = noise(10 * LENGTH + 300)
        padded = np.concatenate([samples, np.zeros(2 * LENGTH, np.complex64)])
        for hop in (512, 384):
            run = Run(padded, making(denoise=identity), hop=hop, streams=(DENOISE,))
            self.assertGreaterEqual(len(run.outs[1]), len(samples))
            self.assert_equal_samples(run.outs[1], padded)

    def test_gated_windows_pass_as_they_came_and_are_marked(self):
        samples = noise(12 * LENGTH)
        samples[4 * LENGTH : 6 * LENGTH] = 0
        samples[8 * LENGTH + 3] = np.inf
        run = Run(samples, making(denoise=negative), streams=(DENOISE,), hop=LENGTH)
        self.assertEqual(run.counts["windows_gated"], 3)
        expected = -samples
        expected[4 * LENGTH : 6 * LENGTH] = 0
        expected[8 * LENGTH : 9 * LENGTH] = samples[8 * LENGTH : 9 * LENGTH]
        np.testing.assert_array_equal(run.outs[1], expected)
        gated, made = "gated", "reconstructed"
        edges = [(0, made), (4, gated), (6, made), (8, gated), (9, made)]
        self.assertEqual(run.states(1), [(window * LENGTH, state) for window, state in edges])

    def test_skipped_windows_pass_as_they_came_and_are_marked(self):
        samples = noise(600 * LENGTH)
        fake = making(held=True, denoise=negative)

        def meanwhile():
            fake.entered.wait(PATIENCE_S)
            fake.open.set()

        run = Run(samples, fake, marks(7, 400_000), meanwhile, "realtime", hop=LENGTH, batch=4, hold=8,
                  streams=(DENOISE,))
        counts = run.counts
        self.assertGreater(counts["windows_skipped"], 0)
        self.assertGreater(counts["windows_inferred"], 0)
        self.assertEqual(len(run.outs[1]), len(samples))
        np.testing.assert_array_equal(run.outs[0], samples)
        inferred = {offset for offset, key, _ in run.tags[1] if key == "emind_modulation"}
        self.assertEqual(len(inferred), counts["windows_inferred"])
        signs = np.where([start in inferred for start in range(0, len(samples), LENGTH)], -1, 1)
        np.testing.assert_array_equal(run.outs[1], samples * signs.repeat(LENGTH))
        # The marks say the same as the answers: from each to the next one holds what it says.
        state, said = dict(run.states(1)), []
        for start in range(0, len(samples), LENGTH):
            said.append(state[start] if start in state else said[-1])
        self.assertEqual([each == "reconstructed" for each in said], (signs < 0).tolist())
        self.assertEqual(set(said), {"reconstructed", "skipped"})
        self.assertEqual(len(state), 1 + int(np.count_nonzero(np.diff(signs))))
        self.assertEqual([tag for tag in run.other_tags(1) if tag[1] == "mark"], [(7, "mark", "7"),
                                                                                 (400_000, "mark", "400000")])

    def test_an_engine_that_fails_lets_the_streams_go_on_with_the_input(self):
        samples = noise(60 * LENGTH)

        def broken(windows):
            raise RuntimeError("out of order")

        run = Run(samples, making(denoise=broken), policy="realtime", hop=512, streams=(DENOISE,))
        self.assertIsInstance(run.receiver.error(), RuntimeError)
        self.assert_equal_samples(run.outs[1], samples)
        self.assertEqual(run.states(1), [(0, "skipped")])

    def test_separated_sources_keep_their_ports_and_lie_beside_the_mixture_to_the_sample(self):
        sources = two_signals(60 * LENGTH)
        mixture = sources[0] + sources[1]
        for hop in (512, 384, 768):
            halves = Halves(hop)
            run = Run(mixture, making(separation=halves), marks(5000), hop=hop, streams=(SEPARATION,))
            self.assertGreater(halves.swapped, 10)
            self.assertEqual([len(out) for out in run.outs], [len(run.outs[0])] * 3)
            self.assert_equal_samples(run.outs[1] + run.outs[2], mixture)
            first = int(np.argmax([np.vdot(run.outs[1], source[: len(run.outs[1])]).real for source in sources]))
            inner = slice(LENGTH, len(run.outs[0]) - LENGTH)
            for out, source in zip(run.outs[1:], (sources[first], sources[1 - first])):
                error = out[inner] - source[: len(out)][inner]
                power = np.mean(np.abs(source) ** 2)
                self.assertLess(np.mean(np.abs(error) ** 2), 0.02 * power)  # what a window's edges leave
            self.assertEqual([tag[0] for tag in run.tags[2] if tag[1] == "mark"], [5000])
            self.assertEqual(run.other_tags(1), run.other_tags(0))
            self.assertEqual(run.tags[2], run.tags[1])

    def test_windows_without_a_separation_give_the_mixture_first_and_then_silence(self):
        mixture = noise(20 * LENGTH)
        mixture[10 * LENGTH + 5] = np.nan
        run = Run(mixture, making(separation=lambda windows: np.stack([0.25 * windows, 0.75 * windows], axis=1)),
                  hop=512, streams=(SEPARATION,))
        passed = slice(10 * LENGTH, 10 * LENGTH + 512)  # no window that holds these is separated
        np.testing.assert_allclose(run.outs[1][passed], mixture[passed], atol=1e-6)
        np.testing.assert_array_equal(np.delete(run.outs[2][passed], 5), 0)
        self.assert_equal_samples(np.nan_to_num(run.outs[1] + run.outs[2]), np.nan_to_num(mixture))
        self.assertEqual(run.states(1), [(0, "reconstructed"), (19 * 512, "gated"), (21 * 512, "reconstructed")])

    def test_several_heads_give_their_streams_in_the_order_asked_for(self):
        samples = noise(10 * LENGTH)
        fake = making(denoise=negative, separation=lambda windows: np.stack([2 * windows, 3 * windows], axis=1))
        for streams, factors in (((DENOISE, SEPARATION), (1, -1, 2, 3)), ((SEPARATION, DENOISE), (1, 2, 3, -1))):
            run = Run(samples, fake, hop=512, streams=streams)
            self.assertEqual(run.receiver.stream_ports, 3)
            for out, factor in zip(run.outs, factors):
                np.testing.assert_allclose(out, factor * samples[: len(out)], rtol=0, atol=4e-6)

    def test_the_hop_is_half_a_window_where_streams_are_wanted_unless_told_otherwise(self):
        samples = noise(10 * LENGTH)
        run = Run(samples, making(denoise=identity), streams=(DENOISE,))
        self.assertEqual(run.counts["windows_seen"], 19)
        self.assertEqual(Run(samples, making(denoise=identity)).counts["windows_seen"], 10)

    def test_behind_a_tuner_the_streams_lie_beside_what_was_tuned(self):
        samples = noise(80 * LENGTH)
        run = Run(samples, making(denoise=negative), sample_rate=1e6, offset=1e5, bandwidth=5e4, streams=(DENOISE,))
        self.assertEqual(run.receiver.decimation, 7)
        self.assertGreater(len(run.outs[1]), 10 * LENGTH)
        np.testing.assert_allclose(run.outs[0] + run.outs[1], 0, atol=1e-6)

    def test_weights_without_the_head_are_refused_in_one_line_that_says_what_they_have(self):
        for make, streams, said in (
            ({}, (DENOISE,), "no head that makes one"),
            ({"separation": identity}, (DENOISE,), "separation"),
            ({"denoise": identity}, (MODULATION,), "denoise"),
        ):
            for block in (lambda **options: inference(length=LENGTH, **options), receiver):
                with self.assertRaises(EMindError) as caught:
                    block(engine=making(**make), streams=streams)
                message = str(caught.exception)
                self.assertIn(said, message)
                self.assertIn(repr(streams[0]), message)
                self.assertNotIn("\n", message)

    def test_streams_that_cannot_work_are_refused_in_one_line(self):
        fake = making(denoise=identity, separation=Halves(1))
        for options in ({"streams": (DENOISE, DENOISE)}, {"streams": (SEPARATION,), "hop": LENGTH}):
            with self.assertRaises(UsageError) as caught:
                receiver(engine=fake, **options)
            self.assertNotIn("\n", str(caught.exception))

    def test_new_weights_without_the_head_leave_the_old_ones_running(self):
        samples = noise(100 * LENGTH)
        for new, said in ((making(), "no stream 'denoise'"), (making(denoise=negative), None)):
            old = making(held=True, denoise=identity)
            block = receiver(engine=old, policy="lossless", hop=512, batch=4, streams=(DENOISE,))
            tb = gr.top_block()
            tb.connect(blocks.vector_source_c(samples.tolist()), block)
            sinks = [blocks.vector_sink_c() for _ in range(2)]
            for port, sink in enumerate(sinks):
                tb.connect((block, port), sink)
            tb.start()
            self.assertTrue(old.entered.wait(PATIENCE_S))
            with mock.patch.dict(vars(sys.modules[inference.__module__]), ready_engine=lambda *arguments: new):
                block.set_weights("new")
                self.assertTrue(block.inference._weights.changer.wait(PATIENCE_S))
            old.open.set()
            tb.wait()
            out = np.array(sinks[1].data(), np.complex64)
            self.assertEqual(len(out), len(sinks[0].data()))
            if said:
                self.assertIn(said, block.statistics()["weights_error"])
                self.assert_equal_samples(out, samples)
            else:
                self.assertNotIn("weights_error", block.statistics())
                np.testing.assert_allclose(out[-LENGTH:], -samples[: len(out)][-LENGTH:], atol=1e-6)

    def test_a_start_after_a_stop_begins_anew(self):
        samples = noise(10 * LENGTH)
        samples[8 * LENGTH :] = 0
        block = receiver(engine=making(denoise=negative), policy="lossless", hop=LENGTH, streams=(DENOISE,))
        source, sinks = blocks.vector_source_c(samples.tolist()), [blocks.vector_sink_c() for _ in range(2)]
        tb = gr.top_block()
        tb.connect(source, block)
        for port, sink in enumerate(sinks):
            tb.connect((block, port), sink)
        for _ in range(2):
            source.rewind()
            for sink in sinks:
                sink.reset()
            tb.run()
            np.testing.assert_array_equal(np.array(sinks[1].data(), np.complex64), -samples)
            states = [(tag.offset, str(tag.value)) for tag in sinks[1].tags() if str(tag.key) == "emind_reconstruction"]
            self.assertEqual(states, [(0, "reconstructed"), (8 * LENGTH, "gated")])


if __name__ == "__main__":
    gr_unittest.run(qa_streams)
