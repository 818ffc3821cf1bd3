#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""Other weights while the stream runs."""

import numpy as np
import pmt
from gnuradio import gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import inference
    from .contract.errors import EMindError
    from .contract.window import WindowSpec
    from .qa_chain import LABELS, LENGTH, PATIENCE_S, AccountedFor, Chain, FakeEngine, class_of, known
else:  # run by ctest on the module that was built
    from gnuradio.emind import inference
    from gnuradio.emind.contract.errors import EMindError
    from gnuradio.emind.contract.window import WindowSpec
    from qa_chain import LABELS, LENGTH, PATIENCE_S, AccountedFor, Chain, FakeEngine, class_of, known


class qa_changing_weights(AccountedFor):
    def change(self, chain, engines, weights):
        """Let the block load one of these engines, or raise one of these errors, under that name."""

        def load(name):
            if isinstance(engines[name], Exception):
                raise engines[name]
            if engines[name].spec.length != LENGTH:
                raise EMindError(f"weights {name} are for windows of {engines[name].spec.length} samples")
            return engines[name]

        chain.inference._weights.changer._load = load
        chain.inference.set_weights(weights)
        self.assertTrue(chain.inference._weights.changer.wait(PATIENCE_S))

    def test_a_rate_that_the_new_weights_never_saw_is_said_without_an_anchor(self):
        spec = WindowSpec(length=LENGTH, hop=LENGTH, rate_min_hz=1e4, rate_max_hz=1e7)
        old = FakeEngine(held=True)
        chain = Chain(known(2000), old, batch=4, hold=16, sample_rate=1e8)
        chain.tb.start()
        self.assertTrue(old.entered.wait(PATIENCE_S))
        self.assertNotIn("rate_outside_training", chain.inference.statistics())
        self.change(chain, {"new": FakeEngine(spec=spec, name="new")}, "new")
        old.open.set()
        chain.tb.wait()
        self.assertTrue(chain.inference.statistics()["rate_outside_training"])

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
            block._weights.changer._load = lambda name: FakeEngine(name=name)
            block._weights.on_message(message)
            self.assertTrue(block._weights.changer.wait(PATIENCE_S))
            self.assertEqual(block.statistics()["weights"], "new")
        block._weights.on_message(pmt.from_long(7))
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


if __name__ == "__main__":
    gr_unittest.run(qa_changing_weights)
