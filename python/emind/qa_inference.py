#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import inference, overlap_add, windowing
    from .contract.errors import EMindError, UsageError
    from .contract.tags import STATISTICS_KEYS
    from .contract.window import HeadSpec, WindowSpec
else:  # run by ctest on the module that was built
    from gnuradio.emind import inference, overlap_add, windowing
    from gnuradio.emind.contract.errors import EMindError, UsageError
    from gnuradio.emind.contract.tags import STATISTICS_KEYS
    from gnuradio.emind.contract.window import HeadSpec, WindowSpec

LENGTH = 64
LABELS = ("noise", "BPSK", "QPSK", "16QAM", "2FSK")
PATIENCE_S = 60


class FakeEngine:
    """Answers from the window's content: its mean magnitude modulo the number of labels."""

    backend = "fake"

    def __init__(self, head="modulation", length=LENGTH, spec=None, error=None, held=False, name="fake", shift=0):
        self.name, self.shift = name, shift
        self.spec = spec or WindowSpec(length=length, hop=length)
        self.heads = {head: HeadSpec(head, "classification", LABELS)}
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
        answers[np.arange(len(windows)), [(class_of(window) + self.shift) % len(LABELS) for window in windows]] = 0.8
        return {head: answers for head in self.heads}


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


class qa_inference(gr_unittest.TestCase):
    def tearDown(self):
        self.assertEqual(workers(), [])  # every worker thread ends with its block

    def assert_adds_up(self, counts):
        parts = counts["windows_inferred"] + counts["windows_skipped"] + counts["windows_gated"]
        self.assertEqual(counts["windows_seen"], parts)

    def test_each_tag_lies_on_its_windows_first_sample_for_any_hop(self):
        samples = known(100)
        own = [make_tag(at, "mark", pmt.from_long(at)) for at in (0, 1, 63, 64, 999, 3000)]
        for hop in (LENGTH, LENGTH // 2, 24):
            engine = FakeEngine()
            chain = Chain(samples, engine, hop, own).run()
            starts = range(0, len(samples) - LENGTH + 1, hop)
            expected = [LABELS[class_of(samples[start : start + LENGTH])] for start in starts]
            tags = chain.tags()
            # Content 0 mod 5 cannot be: magnitudes are 1 to 4. So every window was inferred, none gated.
            self.assertEqual([offset for offset, _ in tags], list(starts))
            self.assertEqual([value["label"] for _, value in tags], expected)
            self.assertGreater(len(set(expected)), 2)
            self.assertEqual(tags[0][1]["length"], LENGTH)
            self.assertAlmostEqual(tags[0][1]["confidence"], 0.8, places=6)
            self.assertEqual(chain.tags("mark"), [(at, at) for at in (0, 1, 63, 64, 999, 3000)])
            np.testing.assert_allclose(chain.out, samples[: len(chain.out)], rtol=0, atol=5e-6)
            counts = chain.inference.statistics()
            self.assertEqual(counts["windows_inferred"], len(starts))
            self.assert_adds_up(counts)

    def test_the_engine_sees_the_windows_as_they_are_with_their_rate(self):
        samples = known(40)
        tags = [make_tag(0, "rx_rate", pmt.from_double(2e6))]
        engine = FakeEngine()
        Chain(samples, engine, stream_tags=tags, sample_rate=1e6).run()
        np.testing.assert_array_equal(np.concatenate(engine.windows).reshape(-1), samples)
        np.testing.assert_array_equal(np.concatenate(engine.rates), 2e6)
        engine = FakeEngine()
        Chain(samples, engine, sample_rate=1e6).run()
        np.testing.assert_array_equal(np.concatenate(engine.rates), 1e6)
        engine = FakeEngine()
        Chain(samples, engine).run()
        self.assertTrue(np.isnan(np.concatenate(engine.rates)).all())

    def test_detections_agree_with_the_tags(self):
        samples = known(50)
        stream_tags = [
            make_tag(0, "rx_rate", pmt.from_double(1e6)),
            make_tag(0, "rx_freq", pmt.from_double(433e6)),
            make_tag(0, "rx_time", pmt.make_tuple(pmt.from_uint64(100), pmt.from_double(0.9999))),
            make_tag(1000, "rx_freq", pmt.from_double(434e6)),
        ]
        for hop in (LENGTH, 24):
            chain = Chain(samples, FakeEngine(), hop, stream_tags).run()
            tags, detections = chain.tags(), chain.detections()
            self.assertEqual(len(tags), len(detections))
            for (offset, tag), detection in zip(tags, detections):
                self.assertEqual(detection["sample_start"], offset)
                self.assertEqual(detection["sample_count"], tag.pop("length"))
                self.assertEqual(detection["modulation"], tag)
                self.assertEqual(detection["rx_rate"], 1e6)
                self.assertEqual(detection["rx_freq"], 433e6 if offset < 1000 else 434e6)
                whole, fraction = detection["rx_time"]
                self.assertAlmostEqual(whole - 100 + fraction, 0.9999 + offset / 1e6, places=9)
                self.assertGreaterEqual(detection["latency_ms"], 0)
            self.assertEqual(chain.inference.statistics()["gaps"], 1)
            self.assertIn(1000, [offset for offset, _ in tags])

    def test_zeros_and_values_that_are_not_finite_never_reach_the_engine(self):
        samples = known(10)
        samples[2 * LENGTH : 3 * LENGTH] = 0
        samples[5 * LENGTH + 3] = np.nan
        samples[7 * LENGTH + 60] = np.inf
        engine = FakeEngine()
        chain = Chain(samples, engine).run()
        counts = chain.inference.statistics()
        self.assertEqual((counts["windows_gated"], counts["windows_inferred"]), (3, 7))
        self.assert_adds_up(counts)
        self.assertTrue(np.isfinite(np.concatenate(engine.windows).view(np.float32)).all())
        tags = dict(chain.tags())
        self.assertEqual(
            tags[2 * LENGTH], {"label": "noise", "confidence": 1.0, "length": LENGTH, "family": "noise"}
        )
        self.assertEqual(sorted(tags), [n * LENGTH for n in range(10) if n not in (5, 7)])
        self.assertEqual(len(chain.detections()), 8)

    def test_all_zeros_run_no_inference_at_all(self):
        engine = FakeEngine()
        chain = Chain(np.zeros(20 * LENGTH, np.complex64), engine).run()
        self.assertEqual(engine.windows, [])
        self.assertEqual(chain.inference.statistics()["windows_gated"], 20)
        self.assertEqual([value["label"] for _, value in chain.tags()], ["noise"] * 20)

    def test_the_gate_closes_on_windows_near_the_noise_floor(self):
        rng = np.random.default_rng(3)
        parts = rng.standard_normal((60 * LENGTH, 2)).astype(np.float32) * 0.01
        samples = parts.view(np.complex64)[:, 0].copy()
        loud = range(30, 40)
        samples[30 * LENGTH : 40 * LENGTH] *= 100
        chain = Chain(samples, FakeEngine(), gate_db=6.0).run()
        inferred = {d["sample_start"] // LENGTH for d in chain.detections() if d["modulation"]["confidence"] < 1}
        self.assertEqual({n for n in inferred if n >= 8}, set(loud))  # open until the floor has settled
        snr = {d["sample_start"] // LENGTH: d["snr_db"] for d in chain.detections() if "snr_db" in d}
        self.assertTrue(all(35 < snr[n] < 45 for n in loud))
        self.assert_adds_up(chain.inference.statistics())

    def test_a_window_cut_short_by_a_gap_says_how_long_it_is(self):
        tags = [make_tag(0, "rx_freq", pmt.from_double(1.0)), make_tag(100, "rx_freq", pmt.from_double(2.0))]
        chain = Chain(known(4), FakeEngine(), stream_tags=tags).run()
        lengths = [(at, value["length"]) for at, value in chain.tags()]
        self.assertEqual(lengths, [(0, 64), (64, 36), (100, 64), (164, 64)])
        self.assertEqual([d["sample_count"] for d in chain.detections()], [64, 36, 64, 64])

    def test_lossless_answers_every_window_however_slow_the_engine(self):
        samples = known(600)
        engine = FakeEngine(held=True)
        chain = Chain(samples, engine, batch=4, hold=16)
        chain.tb.start()
        self.assertTrue(engine.entered.wait(PATIENCE_S))
        until(lambda: chain.inference.statistics()["queue_depth"] == 16)  # the ring is full, the stream waits
        self.assertEqual(chain.inference.nitems_written(0), 0)
        engine.open.set()
        chain.tb.wait()
        counts = chain.inference.statistics()
        self.assertEqual((counts["windows_seen"], counts["windows_inferred"]), (600, 600))
        self.assertEqual(len(chain.tags()), 600)
        np.testing.assert_array_equal(chain.out, samples)

    def test_realtime_passes_every_sample_untagged_when_the_engine_does_not_answer(self):
        samples = known(1000)
        own = [make_tag(at, "mark", pmt.from_long(at)) for at in (0, 77, 30_000)]
        engine = FakeEngine(held=True)
        chain = Chain(samples, engine, stream_tags=own, policy="realtime", batch=4, hold=16)
        chain.tb.start()
        self.assertTrue(engine.entered.wait(PATIENCE_S))
        until(lambda: chain.overlap_add.nitems_written(0) == len(samples))  # the engine still has its first batch
        engine.open.set()
        chain.tb.wait()
        np.testing.assert_array_equal(chain.out, samples)
        self.assertEqual(chain.tags(), [])
        self.assertEqual(chain.detections(), [])
        self.assertEqual(chain.tags("mark"), [(0, 0), (77, 77), (30_000, 30_000)])
        counts = chain.inference.statistics()
        self.assertEqual((counts["windows_seen"], counts["windows_skipped"]), (1000, 1000))
        self.assertEqual(counts["windows_inferred"], 0)

    def test_realtime_tags_what_is_answered_in_time_and_counts_the_rest(self):
        samples = known(5000)
        chain = Chain(samples, FakeEngine(), policy="realtime").run()
        counts = chain.inference.statistics()
        self.assert_adds_up(counts)
        self.assertEqual(counts["windows_seen"], 5000)
        tags = chain.tags()
        self.assertEqual(len(tags), counts["windows_inferred"])
        for offset, value in tags:
            self.assertEqual(value["label"], LABELS[class_of(samples[offset : offset + LENGTH])])
        np.testing.assert_array_equal(chain.out, samples)

    def test_an_engine_that_raises_ends_a_lossless_flowgraph(self):
        engine = FakeEngine(error=RuntimeError("out of order"))
        chain = Chain(known(10), engine, repeat=True).run()  # would never end by itself
        self.assertIs(chain.inference.error(), engine.error)
        self.assertEqual(chain.tags(), [])
        self.assert_adds_up(chain.inference.statistics())

    def test_an_engine_that_raises_leaves_a_realtime_stream_running_without_answers(self):
        samples = known(500)
        engine = FakeEngine(error=RuntimeError("out of order"))
        chain = Chain(samples, engine, policy="realtime").run()
        np.testing.assert_array_equal(chain.out, samples)
        self.assertEqual(chain.tags(), [])
        self.assertIs(chain.inference.error(), engine.error)
        self.assertEqual(chain.inference.statistics()["windows_skipped"], 500)

    def test_an_engine_that_leaves_windows_out_is_an_error_and_not_a_shift(self):
        engine = FakeEngine()
        engine.infer = lambda windows, rates: {"modulation": np.zeros((len(windows) - 1, len(LABELS)), np.float32)}
        chain = Chain(known(10), engine).run()
        self.assertIsInstance(chain.inference.error(), ValueError)

    def test_stop_while_the_ring_is_full_ends_everything(self):
        for policy in ("lossless", "realtime"):
            engine = FakeEngine(held=True)
            chain = Chain(known(10), engine, repeat=True, policy=policy, batch=2, hold=8)
            chain.tb.start()
            self.assertTrue(engine.entered.wait(PATIENCE_S))
            until(lambda: chain.inference.statistics()["queue_depth"] >= 2)
            chain.tb.stop()
            engine.open.set()
            chain.tb.wait()
            self.assert_adds_up(chain.inference.statistics())
            self.assertEqual(workers(), [])

    def change(self, chain, engines, weights):
        """Let the block load one of these engines, or raise one of these errors, under that name."""

        def load(name):
            if isinstance(engines[name], Exception):
                raise engines[name]
            if engines[name].spec.length != LENGTH:
                raise EMindError(f"weights {name} are for windows of {engines[name].spec.length} samples")
            return engines[name]

        chain.inference._changer._load = load
        chain.inference.set_weights(weights)
        self.assertTrue(chain.inference._changer.wait(PATIENCE_S))

    def test_weights_change_between_two_batches_and_each_answer_is_of_one_engine(self):
        samples = known(2000)
        for policy in ("lossless", "realtime"):
            old, new = FakeEngine("modulation", held=True), FakeEngine("radar", name="new", shift=1)
            chain = Chain(samples, old, policy=policy, batch=4, hold=16)
            chain.tb.start()
            self.assertTrue(old.entered.wait(PATIENCE_S))  # a batch is with the old one
            self.change(chain, {"new": new}, "new")
            old.open.set()
            chain.tb.wait()
            np.testing.assert_array_equal(chain.out, samples)  # no sample lost
            counts = chain.inference.statistics()
            self.assert_adds_up(counts)
            before, after = chain.tags("emind_modulation"), chain.tags("emind_radar")
            self.assertEqual(len(before) + len(after), counts["windows_inferred"])
            for tags, shift in ((before, 0), (after, 1)):
                for offset, value in tags:
                    content = class_of(samples[offset : offset + LENGTH])
                    self.assertEqual(value["label"], LABELS[(content + shift) % len(LABELS)])
            if policy == "lossless":
                self.assertEqual(counts["windows_inferred"], 2000)
                self.assertEqual(len(before), 4)  # the batch that the old one had, and no more
                self.assertLess(before[-1][0], after[0][0])
            self.assertEqual(counts["weights"], "new")
            self.assertIsNone(chain.inference.error())

    def test_weights_that_are_refused_leave_the_old_ones_running(self):
        samples = known(600)
        for fault, said in (
            (EMindError("weights bad: not a whole safetensors file"), "not a whole safetensors file"),
            (RuntimeError("out of memory"), "RuntimeError: out of memory"),
            (FakeEngine(length=2 * LENGTH), f"windows of {2 * LENGTH}"),
        ):
            old = FakeEngine(held=True)
            chain = Chain(samples, old, batch=4)
            chain.tb.start()
            self.assertTrue(old.entered.wait(PATIENCE_S))
            self.change(chain, {"bad": fault}, "bad")
            self.assertIn(said, chain.inference.statistics()["weights_error"])
            old.open.set()
            chain.tb.wait()
            counts = chain.inference.statistics()
            self.assertEqual((counts["windows_inferred"], counts["weights"]), (600, "fake"))
            self.assertEqual(len(chain.tags()), 600)

    def test_good_weights_after_bad_ones_clear_the_error_and_a_restart_keeps_them(self):
        samples = known(50)
        chain = Chain(samples, FakeEngine())
        engines = {"bad": EMindError("weights bad: damaged"), "new": FakeEngine(name="new", shift=1)}
        self.change(chain, engines, "bad")
        self.assertIn("weights_error", chain.inference.statistics())
        self.change(chain, engines, "new")
        self.assertNotIn("weights_error", chain.inference.statistics())
        chain.run()
        expected = [LABELS[(class_of(samples[at : at + LENGTH]) + 1) % len(LABELS)] for at, _ in chain.tags()]
        self.assertEqual([value["label"] for _, value in chain.tags()], expected)

    def test_a_message_changes_the_weights_in_any_of_its_forms(self):
        key, path = pmt.intern("weights"), pmt.intern("new")
        for message in (path, pmt.cons(key, path), pmt.dict_add(pmt.make_dict(), key, path)):
            block = inference(length=LENGTH, engine=FakeEngine())
            block._changer._load = lambda name: FakeEngine(name=name)
            block._on_weights(message)
            self.assertTrue(block._changer.wait(PATIENCE_S))
            self.assertEqual(block.statistics()["weights"], "new")
        block._on_weights(pmt.from_long(7))
        self.assertEqual(block.statistics()["weights"], "new")

    def test_new_weights_that_raise_end_or_pass_as_any_engine(self):
        samples = known(300)
        old, broken = FakeEngine(held=True), FakeEngine(name="broken", error=RuntimeError("out of order"))
        chain = Chain(samples, old, policy="realtime", batch=4)
        chain.tb.start()
        self.assertTrue(old.entered.wait(PATIENCE_S))
        self.change(chain, {"broken": broken}, "broken")
        old.open.set()
        chain.tb.wait()
        np.testing.assert_array_equal(chain.out, samples)
        self.assert_adds_up(chain.inference.statistics())

    def test_start_after_stop_begins_anew(self):
        samples = known(50)
        tags = [make_tag(0, "rx_freq", pmt.from_double(1.0)), make_tag(1000, "rx_freq", pmt.from_double(2.0))]
        chain = Chain(samples, FakeEngine(), stream_tags=tags, hop=32)
        seen = []
        for _ in range(2):
            chain.source.rewind()
            chain.source.set_data(samples.tolist(), tags)
            chain.sink.reset()
            chain.run()
            seen.append((chain.tags(), chain.inference.statistics()["windows_seen"], chain.windowing.gaps()))
            np.testing.assert_allclose(chain.out, samples[: len(chain.out)], rtol=0, atol=5e-6)
        self.assertEqual(seen[0], seen[1])
        self.assertGreater(len(seen[0][0]), 90)

    def test_two_inference_blocks_work_one_behind_the_other(self):
        samples = known(200)
        tb = gr.top_block()
        source, cutter = blocks.vector_source_c(samples.tolist()), windowing(LENGTH, 32)
        first = inference(length=LENGTH, engine=FakeEngine("modulation"))
        second = inference(length=LENGTH, engine=FakeEngine("radar"))
        adder, sink = overlap_add(LENGTH, 32), blocks.vector_sink_c()
        tb.connect(source, cutter, first, second, adder, sink)
        tb.run()
        keys = [str(tag.key) for tag in sink.tags()]
        count = (len(samples) - LENGTH) // 32 + 1
        self.assertEqual((keys.count("emind_modulation"), keys.count("emind_radar")), (count, count))
        by_key = [
            [(tag.offset, pmt.to_python(tag.value)["label"]) for tag in sink.tags() if str(tag.key) == key]
            for key in ("emind_modulation", "emind_radar")
        ]
        self.assertEqual(sorted(by_key[0]), sorted(by_key[1]))

    def test_two_chains_in_one_flowgraph_keep_their_windows_apart(self):
        one, other = known(150, seed=1), known(150, seed=2)
        tb = gr.top_block()
        kept = []
        for samples in (one, other):
            parts = [
                blocks.vector_source_c(samples.tolist()), windowing(LENGTH, LENGTH),
                inference(length=LENGTH, engine=FakeEngine()), overlap_add(LENGTH, LENGTH), blocks.vector_sink_c(),
            ]  # fmt: skip
            tb.connect(*parts)
            kept.append(parts)
        tb.run()
        for samples, parts in zip((one, other), kept):
            found = sorted((tag.offset, pmt.to_python(tag.value)["label"]) for tag in parts[-1].tags())
            starts = range(0, len(samples), LENGTH)
            self.assertEqual(found, [(at, LABELS[class_of(samples[at : at + LENGTH])]) for at in starts])

    def test_a_window_larger_than_a_default_buffer_does_not_freeze(self):
        length = 100_000
        samples = np.tile(known(25_000), 1)[: 5 * length]
        for policy in ("lossless", "realtime"):
            chain = Chain(samples, FakeEngine(length=length), length, length=length, policy=policy).run()
            np.testing.assert_array_equal(chain.out, samples)
            self.assertEqual(chain.inference.statistics()["windows_seen"], 5)

    def test_windows_without_windowing_lie_side_by_side(self):
        samples = known(20)
        tb = gr.top_block()
        source = blocks.vector_source_c(samples.tolist(), False, LENGTH)
        block, sink = inference(length=LENGTH, engine=FakeEngine()), blocks.vector_sink_c(LENGTH)
        messages = blocks.message_debug()
        tb.connect(source, block, sink)
        tb.msg_connect(block, "detections", messages, "store")
        tb.run()
        starts = [pmt.to_python(pmt.car(messages.get_message(n)))["sample_start"] for n in range(20)]
        self.assertEqual(starts, [n * LENGTH for n in range(20)])
        self.assertEqual([tag.offset for tag in sink.tags()], list(range(20)))

    def test_statistics_are_published_under_the_names_of_the_contract(self):
        chain = Chain(known(10), FakeEngine()).run()
        self.assertGreaterEqual(chain.reports.num_messages(), 1)
        report = pmt.to_python(pmt.car(chain.reports.get_message(0)))
        self.assertEqual(set(report), set(STATISTICS_KEYS))
        counts = chain.inference.statistics()
        self.assertEqual(set(counts), set(STATISTICS_KEYS))
        self.assertEqual((counts["queue_depth"], counts["backend"]), (0, "fake"))
        self.assertGreaterEqual(counts["latency_ms_p99"], counts["latency_ms_p50"])

    def test_a_rate_that_training_never_saw_is_said_in_the_statistics(self):
        spec = WindowSpec(length=LENGTH, hop=LENGTH, rate_min_hz=1e4, rate_max_hz=1e7)
        chain = Chain(known(5), FakeEngine(spec=spec), sample_rate=1e8).run()
        self.assertTrue(chain.inference.statistics()["rate_outside_training"])
        chain = Chain(known(5), FakeEngine(spec=spec), sample_rate=1e6).run()
        self.assertNotIn("rate_outside_training", chain.inference.statistics())

    def test_arguments_that_cannot_work_are_refused_in_one_line(self):
        for options in ({"policy": "hurried"}, {"batch": 0}, {"hold": 0}, {"max_latency_ms": -1.0}):
            with self.assertRaises(UsageError) as caught:
                inference(length=LENGTH, engine=FakeEngine(), **options)
            self.assertNotIn("\n", str(caught.exception))
        with self.assertRaises(EMindError) as caught:
            inference(length=128, engine=FakeEngine())
        self.assertIn("64", str(caught.exception))

    def test_importing_the_blocks_does_not_import_torch(self):
        package = inference.__module__.rpartition(".")[0]
        code = f"import sys, importlib; importlib.import_module({package!r}); sys.exit('torch' in sys.modules)"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.assertEqual(subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode, 0)


if __name__ == "__main__":
    gr_unittest.run(qa_inference)
