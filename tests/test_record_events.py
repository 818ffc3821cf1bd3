"""`emind record` with a trigger, to the end: a disk that fills up in the middle, and a real engine that says when."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("gnuradio")

from emind.storage.parquet import Reader

RATE = 1e6


def rows_of(folder) -> list:
    return [row for file in sorted(folder.glob("*.parquet")) for row in Reader(file)]


def test_a_disk_that_fills_up_during_an_event_costs_what_comes_then_and_nothing_before(emind, raw, small_disk):
    count, burst = 3_000_000, 100_000  # every other 100,000 samples: 12 MB for a disk of 8
    rng = np.random.default_rng(3)
    samples = 0.003 * rng.standard_normal((count, 2), np.float32).view(np.complex64)[:, 0]
    loud = np.arange(count) // burst % 2 == 1
    samples[loud] += np.float32(0.3)
    outcome = emind("record", small_disk / "take", "--from", raw(samples), "--rate", RATE, "--trigger", "energy",
                    "--pre", 3000, "--post", 1000, "--rotate-mb", 1, "--json")
    assert outcome.status == 1
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("emind: error:")]
    assert "No space left" in line and str(small_disk / "take") in line
    counts = json.loads(outcome.out.splitlines()[-1])
    written, dropped, skipped = (counts[f"samples_{name}"] for name in ("written", "dropped", "skipped"))
    assert written + dropped + skipped == counts["samples_seen"] <= count and counts["samples_queued"] == 0
    assert dropped > 0 and len(counts["file_names"]) > 3 and not list(small_disk.glob("*.part"))
    events: dict[str, list[np.ndarray]] = {}
    for row in rows_of(small_disk):
        events.setdefault(row.transmission_id, []).append(row.iq)
    assert sum(len(iq) for parts in events.values() for iq in parts) == written
    *whole, last = (np.concatenate(parts) for parts in events.values())
    assert len(whole) >= 5
    begins = [find(samples, event) for event in (*whole, last)]
    for number, (begin, event) in enumerate(zip(begins, whole)):
        first = burst * (1 + 2 * number)
        assert first - 3000 - 1024 <= begin <= first - 3000 + 256
        assert first + burst + 1000 - 256 <= begin + len(event)


def find(samples: np.ndarray, event: np.ndarray) -> int:
    """Where it lies, every sample of it."""
    (begin,) = np.flatnonzero(samples == event[0])
    np.testing.assert_array_equal(samples[begin : begin + len(event)], event)
    return int(begin)


def test_a_real_engine_s_answers_decide_what_is_written(emind, raw, tmp_path, released_weights, monkeypatch):
    from emind.contract.answers import read
    from emind.runtime.engine import load_engine

    monkeypatch.setenv("EMIND_PROCESSES", "0")  # what other processes would infer, this one does sooner
    rng, count = np.random.default_rng(4), 96
    windows = 0.01 * rng.standard_normal((count, 2 * 1024), np.float32).view(np.complex64)
    keyed = rng.integers(0, 2, (count, 64)).repeat(16, axis=1)
    windows += (rng.integers(0, 2, (count, 1)) * keyed).astype(np.complex64)  # in every other one, by chance
    engine = load_engine(released_weights, "torch-float32", heads=["modulation"])
    spec, rows = engine.heads["modulation"], engine.infer(windows, np.full(count, RATE))["modulation"]
    words, wanted = read(spec, rows), spec.labels.index("OOK")
    surely = set(np.flatnonzero((words.labels == wanted) & (words.confidences > 0.6)).tolist())
    perhaps = set(np.flatnonzero(rows[:, wanted] > 0.4).tolist())  # a back end may differ by a hundredth
    assert len(surely) > 10 and len(perhaps) < 60
    outcome = emind("record", tmp_path / "take", "--from", raw(windows.ravel()), "--rate", RATE, "--trigger",
                    "detection", "--trigger-label", "OOK", "--weights", released_weights, "--pre", 0, "--post", 0)
    assert outcome.status == 0, outcome.err
    number = {window.tobytes(): index for index, window in enumerate(windows)}
    got = {number[row.iq.tobytes()] for row in rows_of(tmp_path)}
    assert surely <= got <= perhaps


def test_noise_makes_no_event_though_every_head_of_the_released_weights_answers(emind, raw, tmp_path, released_weights):
    noise = 0.01 * np.random.default_rng(0).standard_normal((64 * 1024, 2), np.float32).view(np.complex64)[:, 0]
    outcome = emind("record", tmp_path / "take", "--from", raw(noise), "--rate", RATE, "--trigger", "detection",
                    "--weights", released_weights, "--json")
    assert outcome.status == 0, outcome.err
    counts = json.loads(outcome.out.splitlines()[-1])
    assert (counts["samples_seen"], counts["samples_written"], counts["events"]) == (len(noise), 0, 0)
    assert rows_of(tmp_path) == []


@pytest.mark.parametrize(("label", "rate", "words"), [
    ("Lora", 1e6, "did you mean LoRa?"),
    ("banana split", 1e6, "none of the heads has that answer; heads: modulation"),
    ("Barker Code", 1e6, "the head radar was trained on windows of 1024 samples at 3.2e+06 samples a second; at 1e+06"),
    ("Barker Code", 3.2e6, ""), ("unknown", 1e6, ""),
])
def test_a_trigger_label_that_no_head_can_give_is_refused(emind, raw, tmp_path, released_weights, label, rate, words):
    outcome = emind("record", tmp_path / "take", "--from", raw(np.ones(4096, np.complex64)), "--rate", rate,
                    "--trigger", "detection", "--trigger-label", label, "--weights", released_weights)
    assert outcome.status == (2 if words else 0) and words in outcome.err
    assert not words or (len(outcome.err.splitlines()) == 1 and not list(tmp_path.glob("take*")))


def test_a_trigger_label_without_detection_is_refused(emind, raw, tmp_path):
    outcome = emind("record", tmp_path / "take", "--from", raw(np.ones(4096, np.complex64)), "--rate", 1e6, "--trigger",
                    "energy", "--trigger-label", "LoRa")
    assert outcome.status == 2 and "--trigger detection" in outcome.err
