#!/usr/bin/env python
# -*- coding: utf-8 -*-
#
# Copyright 2026 The gr-emind authors.
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
"""When a recorder writes: around events, and while it is switched on."""

import json
import os
from datetime import datetime

import numpy as np
import pmt
from gnuradio import blocks, gr, gr_unittest

if __package__:  # collected by pytest from the source tree
    from . import recorder
    from .contract.errors import UsageError
    from .qa_recorder_case import Recorded, answer, bursts, make_tag, ramp, samples_of
else:  # run by ctest on the module that was built
    from gnuradio.emind import recorder
    from gnuradio.emind.contract.errors import UsageError
    from qa_recorder_case import Recorded, answer, bursts, make_tag, ramp, samples_of


class changing_recorder(recorder):
    """Changes its trigger at the samples that ``plan`` tells: (sample, arguments of set_trigger)."""

    plan = ()

    def work(self, input_items, output_items):
        count, at = len(input_items[0]), self.nitems_read(0)
        while self.plan and self.plan[0][0] == at:
            self.set_trigger(**self.plan.pop(0)[1])
        if self.plan:
            count = min(count, self.plan[0][0] - at)
        return recorder.work(self, [input_items[0][:count]], output_items)


class qa_recorder_events(Recorded):
    def test_energy_is_recorded_from_before_it_begins_in_whole_rows(self):
        x = bursts(200_000, ((60_000, 70_000), (150_000, 151_000)))
        block, rows = self.record(x, trigger="energy", pre_trigger=1000, post_trigger=500, sample_rate=1e6,
                                  short_rows=False)
        events = {}
        for row in rows:
            self.assertEqual(len(row.iq), 64)
            events.setdefault(row.transmission_id, []).append(row.iq)
        self.assertEqual(len(events), 2)
        for (start, stop), parts in zip(((60_000, 70_000), (150_000, 151_000)), events.values()):
            got = np.concatenate(parts)
            begin = next(k for k in range(len(x)) if x[k] == got[0] and np.array_equal(x[k : k + 64], got[:64]))
            np.testing.assert_array_equal(got, x[begin : begin + len(got)])  # no sample missing, none twice
            self.assertLessEqual(begin, start - 1000 + 64)
            self.assertGreaterEqual(begin, start - 1000 - 64)
            self.assertGreaterEqual(begin + len(got), stop + 500 - 64)
            self.assertLessEqual(begin + len(got), stop + 500 + 192)
        counts = block.statistics()
        self.assertEqual(counts["events"], 2)
        self.assertEqual(counts["samples_seen"], len(x))
        self.assertEqual(counts["samples_written"] + counts["samples_skipped"], len(x))
        self.assertEqual((counts["samples_dropped"], counts["samples_queued"]), (0, 0))

    def test_louder_noise_at_another_frequency_or_rate_is_no_event(self):
        x = bursts(60_000, ((50_000, 51_000),))
        x[20_010:] *= 10
        for key in ("rx_freq", "rx_rate"):
            tags = [make_tag(0, key, pmt.from_double(1e6)), make_tag(20_010, key, pmt.from_double(2e6))]
            block, rows = self.record(x, tags, trigger="energy", pre_trigger=0, post_trigger=0)
            self.assertEqual(block.statistics()["events"], 1)
            self.assertTrue(1000 <= sum(len(row.iq) for row in rows) <= 1192)
            for file in self.base.parent.glob("*"):
                file.unlink()

    def test_the_trigger_can_change_while_it_runs(self):
        x = bursts(200_000, ((10_000, 11_000), (60_000, 70_000), (105_000, 106_000), (150_000, 151_000)))
        block = changing_recorder(str(self.base), policy="lossless", length=64, sample_rate=1e6, pre_trigger=1000,
                                  post_trigger=500)
        block.plan = [(20_000, {"trigger": "energy"}), (100_000, {"trigger": "none"}),
                      (120_000, {"trigger": "detection", "trigger_labels": ("QPSK",)})]
        tags = [make_tag(at, "emind_modulation", answer(label, 1024))
                for at, label in ((30_720, "QPSK"), (122_880, "MSK"), (184_320, "QPSK"))]
        tb = gr.top_block()
        tb.connect(blocks.vector_source_c(x.tolist(), False, 1, tags), block)
        tb.run()
        rows, counts = self.rows(), block.statistics()
        events = list(dict.fromkeys(row.transmission_id for row in rows))
        first, second = (event for event in events if event)
        self.assertEqual(events, [None, first, second])  # everything, energy, everything again, the answer QPSK
        parts = {event: samples_of([row for row in rows if row.transmission_id == event]) for event in events}
        np.testing.assert_array_equal(parts[None], np.concatenate([x[:20_000], x[100_000:120_000]]))
        begin = int(np.flatnonzero(x == parts[first][0])[0])
        self.assertTrue(58_500 < begin <= 59_000)
        np.testing.assert_array_equal(parts[first], x[begin : begin + len(parts[first])])
        np.testing.assert_array_equal(parts[second], x[183_320 : 183_320 + len(parts[second])])
        self.assertEqual((counts["events"], counts["samples_seen"]), (2, len(x)))
        self.assertEqual(counts["samples_written"], sum(map(len, parts.values())))
        self.assertEqual(counts["samples_written"] + counts["samples_skipped"], len(x))
        times = [(row.sampling_rate, row.dataset_name) for row in rows]
        self.assertEqual(set(times), {(1e6, "take")})

    def test_a_trigger_that_cannot_be_is_refused_and_the_old_one_goes_on(self):
        block = recorder(str(self.base), trigger="energy", queue_mb=1.0)
        for wrong, words in (({"trigger": "sound"}, "unknown trigger"), ({"trigger_db": -1.0}, "trigger_db"),
                             ({"pre_trigger": 70_000}, "half of the queue")):
            with self.assertRaisesRegex(UsageError, words):
                block.set_trigger(**wrong)
        tb = gr.top_block()
        tb.connect(blocks.vector_source_c(bursts(20_000, ((8000, 9000),)).tolist()), block)
        tb.run()
        self.assertEqual(block.statistics()["events"], 1)
        with self.assertRaisesRegex(UsageError, "needs a stream"):
            recorder(str(self.base), windows=True).set_trigger("detection")

    def test_as_much_is_kept_ahead_of_energy_in_whatever_pieces_it_comes(self):
        x, events = bursts(40_000, ((20_000, 24_000), (31_111, 32_000))), []
        for pieces in (64, 100, 333, 4096):
            _, rows = self.record(x, pieces=pieces, length=1024, trigger="energy", pre_trigger=1000, post_trigger=0)
            parts = {}
            for row in rows:
                parts.setdefault(row.transmission_id, []).append(row.iq)
            begins = [int(np.flatnonzero(x == part[0][0])[0]) for part in parts.values()]
            for begin, start in zip(begins, (20_000, 31_111), strict=True):
                self.assertTrue(start - 1000 - 256 < begin <= start - 1000, (pieces, begin))
            events.append(begins)
            for file in self.base.parent.glob("*"):
                file.unlink()
        self.assertEqual(events, events[:1] * 4)

    def test_a_tagged_answer_is_recorded_from_before_it_with_the_labels_of_the_tags(self):
        x = ramp(50_000)
        tags = [make_tag(at, "emind_modulation", answer(label, 1024))
                for at, label in ((1024, "noise"), (20_480, "QPSK"), (21_504, "QPSK"), (22_528, "noise"))]
        _, rows = self.record(x, tags, trigger="detection", pre_trigger=128, post_trigger=0)
        got = samples_of(rows)
        np.testing.assert_array_equal(got, x[20_352 : 20_352 + len(got)])
        self.assertEqual(len(got), 2176)  # 128 ahead and twice 1024: 34 rows
        self.assertEqual([row.modulation for row in rows], [None] * 2 + ["QPSK"] * 32)

    def test_only_the_wanted_labels_trigger_and_only_with_confidence(self):
        x = ramp(50_000)
        tags = [make_tag(10_240, "emind_modulation", answer("MSK", 1024)),
                make_tag(30_720, "emind_modulation", answer("QPSK", 1024))]
        _, rows = self.record(x, tags, trigger="detection", pre_trigger=0, post_trigger=0, trigger_labels=("QPSK",))
        np.testing.assert_array_equal(samples_of(rows), x[30_720:31_744])
        for file in self.base.parent.glob("*"):
            file.unlink()
        _, rows = self.record(x, tags, trigger="detection", trigger_confidence=0.95)  # the answers have 0.9
        self.assertEqual(rows, [])

    def test_heads_that_hear_something_in_noise_trigger_and_label_nothing(self):
        """As a receiver tags noise: heads that have no class for it name one of theirs."""
        x, tags = ramp(50_000), []
        for at in range(0, 49_152, 1024):
            tags.append(make_tag(at, "emind_modulation", answer("noise", 1024)))
            tags.append(make_tag(at, "emind_fingerprint", answer("039", 1024)))
            radar = pmt.dict_add(answer("LFM", 1024), pmt.intern("pri"), pmt.from_double(2e-5))
            tags.append(make_tag(at, "emind_radar", pmt.dict_add(radar, pmt.intern("outside_training"), pmt.PMT_T)))
        for wanted in ((), ("039",), ("LFM",)):
            block, rows = self.record(x, tags, trigger="detection", trigger_labels=wanted)
            self.assertEqual((rows, block.statistics()["events"]), ([], 0))
        _, rows = self.record(x[:49_152], tags)
        self.assertEqual({(row.modulation, row.device_id, row.radar_waveform, row.pri) for row in rows},
                         {("noise", None, None, None)})

    def test_what_is_unknown_unsure_or_outside_of_its_training_is_no_label_and_no_event(self):
        outside = pmt.dict_add(answer("QPSK", 64), pmt.intern("outside_training"), pmt.PMT_T)
        unsure = pmt.dict_add(answer("QPSK", 64), pmt.intern("confidence"), pmt.from_double(0.4))
        tags = [make_tag(64, "emind_modulation", answer("unknown", 64)), make_tag(64, "emind_radar", answer("LFM", 64)),
                make_tag(128, "emind_modulation", outside), make_tag(192, "emind_modulation", unsure),
                make_tag(256, "emind_interference", answer("unknown", 64)),
                make_tag(320, "emind_modulation", answer("QPSK", 64))]
        _, rows = self.record(ramp(64 * 6), tags)
        self.assertEqual([row.modulation for row in rows], [None] * 5 + ["QPSK"])
        self.assertEqual([row.radar_waveform for row in rows], [None, "LFM"] + [None] * 4)
        self.assertEqual({row.infer_class for row in rows}, {None})
        for file in self.base.parent.glob("*"):
            file.unlink()
        _, rows = self.record(ramp(64 * 6), tags, trigger="detection", pre_trigger=0, post_trigger=0)
        np.testing.assert_array_equal(samples_of(rows), ramp(64 * 6)[320:])

    def test_a_receiver_s_message_about_noise_is_no_event(self):
        block = recorder(str(self.base), length=64, trigger="detection", sample_rate=1e6)
        said = {"label": "LFM", "confidence": 0.9}
        for heads in ({"modulation": {"label": "noise", "confidence": 0.9}, "radar": said},
                      {"modulation": {**said, "outside_training": True}},
                      {"radar": {**said, "outside_training": True}}):
            block._take_detection(pmt.cons(pmt.to_pmt({"sample_start": 0, "sample_count": 64, **heads}), pmt.PMT_NIL))
        self.assertEqual(list(block._told), [])
        block._take_detection(pmt.cons(pmt.to_pmt({"sample_start": 0, "sample_count": 64, "modulation": said}),
                                       pmt.PMT_NIL))
        self.assertEqual(list(block._told), [(0, 64)])

    def test_a_detection_by_message_comes_late_and_is_taken_from_what_is_held(self):
        block = recorder(str(self.base), length=64, policy="lossless", trigger="detection", pre_trigger=6000,
                         post_trigger=0, sample_rate=1e6)
        x = ramp(40_000)

        class source(gr.sync_block):
            """Tells of samples 10,000 to 10,500 of the block behind a decimation by 2 when 12,000 are out."""

            def __init__(self):
                gr.sync_block.__init__(self, "source", None, [np.complex64])
                self.sent = 0

            def work(self, input_items, output_items):
                if self.sent == len(x):
                    return -1
                if self.sent == 12_000:
                    fields = {"sample_start": 5000, "sample_count": 250, "rx_rate": 5e5,
                              "modulation": {"label": "QPSK", "confidence": 0.9}}
                    block._take_detection(pmt.cons(pmt.to_pmt(fields), pmt.init_u8vector(0, [])))
                count = min(4000, len(output_items[0]), 12_000 - self.sent if self.sent < 12_000 else 4000,
                            len(x) - self.sent)
                output_items[0][:count] = x[self.sent : self.sent + count]
                self.sent += count
                return count

        tb = gr.top_block()
        begin = source()
        tb.connect(begin, block)
        tb.run()
        got = samples_of(self.rows()).real
        self.assertEqual(block.statistics()["events"], 1)
        self.assertTrue(np.all(np.diff(got) == 1))
        # Of what was asked for, 4000 to 10500, no more is lost than what had left the 6000 samples held.
        self.assertLessEqual(got[0], 10_001)
        self.assertGreaterEqual(got[-1], 10_500)

    def test_recording_is_switched_off_and_on_and_the_time_behind_a_pause_is_right(self):
        base = self.base
        rate = 1e6

        class source(gr.sync_block):
            def __init__(self):
                gr.sync_block.__init__(self, "source", None, [np.complex64])
                self.set_output_multiple(1000)
                self.sent = 0

            def work(self, input_items, output_items):
                if self.sent == 9000:
                    return -1
                block._take_record({0: pmt.PMT_T, 3000: pmt.cons(pmt.intern("pressed"), pmt.from_long(0)),
                                    6000: pmt.dict_add(pmt.make_dict(), pmt.intern("record"), pmt.PMT_T)
                                    }.get(self.sent, pmt.from_bool(block._recording)))
                if self.sent == 0:
                    self.add_item_tag(0, 0, pmt.intern("rx_time"),
                                      pmt.make_tuple(pmt.from_uint64(1_700_000_000), pmt.from_double(0.5)))
                output_items[0][:1000] = ramp(9000)[self.sent : self.sent + 1000]
                self.sent += 1000
                passed.wait_for_room(self.sent)
                return 1000

        class passed:
            """Lets the source go on when the recorder has had all before."""

            @staticmethod
            def wait_for_room(sent):
                while block.statistics()["samples_seen"] < sent - 1000:
                    os.sched_yield()

        block = recorder(str(base), file_format="both", length=500, policy="lossless", sample_rate=rate,
                         recording=False)
        tb = gr.top_block()
        begin = source()
        tb.connect(begin, block)
        tb.run()
        counts = block.statistics()
        self.assertEqual(counts["samples_written"] + counts["samples_skipped"], counts["samples_seen"])
        self.assertGreater(counts["samples_skipped"], 0)
        (meta,) = base.parent.glob("*.sigmf-meta")
        captures = json.loads(meta.read_text())["captures"]
        got = samples_of(self.rows()).real
        self.assertGreaterEqual(len(captures), 2)
        for capture in captures:
            sample = got[capture["core:sample_start"]] - 1
            expected = 1_700_000_000.5 + sample / rate
            told = datetime.fromisoformat(capture["core:datetime"].replace("Z", "+00:00")).timestamp()
            self.assertAlmostEqual(told, expected, places=5)


if __name__ == "__main__":
    gr_unittest.run(qa_recorder_events)
