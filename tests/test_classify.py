"""`emind classify`: every window of a recording, answered as the bare engine answers it."""

import json

import numpy as np
import pytest
import sigmf
from conftest import tone_bursts
from emind.commands.classify import classify, floor_as_noise, load
from emind.commands.flowgraph import Answer, HeadAnswer
from emind.contract.vocabulary import MODULATIONS, family_of
from emind.dsp.band import Band, TuningPlan
from emind.dsp.neighbours import Known, decided
from emind.storage.recording import open_recording

RATE = 1e6


@pytest.fixture(scope="module")
def engine(small_weights):
    return load(str(small_weights), "torch-float32", 1)


def cut(samples, length, hop):
    """Windows by hand: the last one zero-filled, every sample in one of them."""
    count = 1 + max(0, -(-(len(samples) - length) // hop))
    padded = np.pad(samples, (0, (count - 1) * hop + length - len(samples)))
    return np.stack([padded[k * hop : k * hop + length] for k in range(count)])


def bare(engine, windows, rate):
    """(label, confidence) of each window by the engine alone; silence is noise without being asked."""
    answers = engine.infer(np.ascontiguousarray(windows, np.complex64), np.full(len(windows), rate))["modulation"]
    return [("noise", 1.0) if not window.any() else (MODULATIONS[row.argmax()], float(row.max()))
            for window, row in zip(windows, answers)]


def assert_same(answers, expected):
    assert [a.heads["modulation"].label for a in answers] == [label for label, _ in expected]
    assert np.allclose([a.heads["modulation"].confidence for a in answers], [c for _, c in expected], atol=1e-3)
    assert len({round(c, 3) for _, c in expected}) > len(expected) / 2, "different answers, or the test says nothing"


@pytest.mark.parametrize("hop", [1024, 384, 1000])
@pytest.mark.parametrize("count", [40 * 1024, 40 * 1024 + 1, 33_333])
def test_answers_equal_those_of_the_bare_engine(raw, engine, count, hop):
    samples = tone_bursts(count)
    answers, skipped = classify(open_recording(raw(samples), rate=RATE), engine, TuningPlan(), hop)
    assert skipped == 0
    assert [a.sample_start for a in answers] == [k * hop for k in range(len(answers))]
    assert answers[-1].sample_start + answers[-1].sample_count == count, "the recording's end is answered for"
    assert_same(answers, bare(engine, cut(samples, 1024, hop), RATE))


@pytest.mark.parametrize("decimation, center", [(1, 200e3), (4, 120e3), (7, -310e3)])
def test_tuned_answers_equal_those_of_the_engine_on_windows_tuned_by_hand(raw, engine, decimation, center):
    count = 50_001
    samples = (tone_bursts(count) * np.exp(2j * np.pi * center / RATE * np.arange(count))).astype(np.complex64)
    plan = TuningPlan(center, decimation)
    # Without delay: output sample k stands at sample k * decimation of the recording.
    shifted = samples.astype(complex) * np.exp(-2j * np.pi * center / RATE * np.arange(count))
    taps = plan.taps()
    tuned = np.convolve(shifted, taps)[len(taps) // 2 :][:count:decimation]
    tuned *= np.exp(-2j * np.pi * center / RATE * plan.delay * decimation)  # the phase GNU Radio's filter starts at
    answers, _ = classify(open_recording(raw(samples), rate=RATE), engine, plan)
    assert [a.sample_start for a in answers] == [k * 1024 * decimation for k in range(len(answers))]
    assert answers[-1].sample_start + answers[-1].sample_count == count
    expected = bare(engine, cut(tuned, 1024, 1024), RATE / decimation)
    assert_same(answers[:-1], expected[:-1])  # the filter's tail in the last window is cut off by hand


def test_json_lines_hold_the_contracts_fields(emind, raw, small_weights):
    outcome = emind("classify", raw(tone_bursts(20_000)), "--rate", 1e6, "--json", "-", "--no-tune",
                    "--weights", small_weights)
    assert outcome.status == 0, outcome.err
    assert len(outcome.lines) == 20
    for number, line in enumerate(outcome.lines):
        assert set(line) == {"sample_start", "sample_count", "time_s", "snr_db", "modulation"}
        assert line["sample_start"] == 1024 * number and line["time_s"] == pytest.approx(1024e-6 * number)
        assert set(line["modulation"]) == {"label", "family", "confidence"}
        assert line["modulation"]["family"] == family_of(line["modulation"]["label"])
        assert 0 <= line["modulation"]["confidence"] <= 1
        assert line["snr_db"] is None or -60 < line["snr_db"] < 60
    assert sum(line["sample_count"] for line in outcome.lines) == 20_000


def test_a_narrow_signal_is_tuned_to_and_said_so(emind, raw, small_weights):
    samples = np.zeros(200_000, complex)
    symbols = np.random.default_rng(5).integers(0, 4, 200_000 // 80)
    samples += np.exp(0.5j * np.pi * symbols).repeat(80) * np.exp(2j * np.pi * 0.2 * np.arange(200_000))
    samples += 0.02 * np.random.default_rng(6).standard_normal(200_000)
    path = raw(samples)
    tuned = emind("classify", path, "--rate", 1e6, "--json", "-", "--weights", small_weights)
    assert "kHz at +199.8 kHz" in tuned.err and "decimated by" in tuned.err and len(tuned.err.splitlines()) == 1
    count = tuned.lines[0]["sample_count"]
    assert count > 4 * 1024 and count % 1024 == 0
    assert sum(line["sample_count"] for line in tuned.lines) == 200_000
    plain = emind("classify", path, "--rate", 1e6, "--json", "-", "--no-tune", "--weights", small_weights)
    assert "not tuned" in plain.err and plain.lines[0]["sample_count"] == 1024
    by_hand = emind("classify", path, "--rate", 1e6, "--json", "-", "--center", 200e3, "--bandwidth", 50e3,
                    "--weights", small_weights)
    assert "decimated by 7 " in by_hand.err and by_hand.lines[0]["sample_count"] == 7 * 1024


def test_annotations_are_valid_sigmf_with_the_data_beside_them(emind, raw, small_weights, tmp_path):
    out = tmp_path / "elsewhere" / "labelled.sigmf-meta"
    out.parent.mkdir()
    outcome = emind("classify", raw(tone_bursts(30_000)), "--rate", 1e6, "--annotate", out, "--json",
                    tmp_path / "a.jsonl", "--no-tune", "--weights", small_weights)
    assert outcome.status == 0, outcome.err
    signal = sigmf.fromfile(str(out))
    signal.validate()
    assert np.array_equal(signal.read_samples(0, 100), tone_bursts(30_000)[:100])
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    answered = [line for line in lines if line["modulation"]["family"] != "noise"]
    annotated = signal.get_annotations()
    assert answered and sum(a["core:sample_count"] for a in annotated) == sum(a["sample_count"] for a in answered)
    starts = {line["sample_start"]: line["modulation"]["label"] for line in lines}
    assert all(starts[a["core:sample_start"]] == a["core:label"] for a in annotated)


def test_a_recording_can_be_annotated_in_place_twice(emind, small_weights, tmp_path):
    tone_bursts(30_000).tofile(tmp_path / "r.sigmf-data")
    meta = tmp_path / "r.sigmf-meta"
    meta.write_text(json.dumps({
        "global": {"core:datatype": "cf32_le", "core:version": "1.0.0", "core:sample_rate": 1e6},
        "captures": [{"core:sample_start": 0, "core:frequency": 100e6}],
        "annotations": [{"core:sample_start": 5, "core:sample_count": 1, "core:label": "theirs"}]}))
    for _ in range(2):
        assert emind("classify", meta, "--annotate", meta, "--weights", small_weights).status == 0
    labels = [a["core:label"] for a in json.loads(meta.read_text())["annotations"]]
    assert labels.count("theirs") == 1
    ours = [a for a in json.loads(meta.read_text())["annotations"] if a["core:label"] != "theirs"]
    assert ours and all(99e6 < a["core:freq_lower_edge"] < a["core:freq_upper_edge"] < 101e6 for a in ours)
    assert len({a["core:sample_start"] for a in ours}) == len(ours)


def test_the_picture_and_the_table(emind, raw, small_weights, tmp_path):
    outcome = emind("classify", raw(tone_bursts(30_000)), "--rate", 1e6, "--plot", tmp_path / "p.png",
                    "--weights", small_weights)
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "modulation" in outcome.out and "recording.cf32" in outcome.out


@pytest.mark.parametrize("policy", ["lossless", "realtime"])
def test_every_policy_answers_in_order(emind, raw, small_weights, policy):
    outcome = emind("classify", raw(tone_bursts(100_000)), "--rate", 1e6, "--json", "-", "--policy", policy,
                    "--no-tune", "--weights", small_weights)
    assert outcome.status == 0, outcome.err
    starts = [line["sample_start"] for line in outcome.lines]
    assert starts == sorted(starts)
    if policy == "lossless":
        assert len(starts) == 98


def test_runs_and_annotations_of_a_known_band():
    from emind.commands.classify import annotations, runs
    from emind.commands.flowgraph import Answer, HeadAnswer
    from emind.storage.recording import FORMATS, Recording

    def answer(number, label, confidence):
        return Answer(number * 100, 100, 3.0, {"modulation": HeadAnswer(label, confidence, family_of(label))})

    answers = [answer(0, "noise", 1.0), answer(1, "GFSK", 0.8), answer(2, "GFSK", 0.6), answer(4, "GFSK", 0.5)]
    assert [(r.label, r.start, r.end, r.windows) for r in runs(answers)] == [
        ("noise", 0, 100, 1), ("GFSK", 100, 300, 2), ("GFSK", 400, 500, 1)]
    recording = Recording(None, None, FORMATS["ci8"], 1e6, 500, 100e6)
    first, second = annotations(answers, recording, TuningPlan(5e3, 10, Band(4e3, 6e3)))
    assert (first["core:freq_lower_edge"], first["core:freq_upper_edge"]) == (100.004e6, 100.006e6)
    assert "0.70" in first["core:comment"] and second["core:sample_start"] == 400


def test_windows_without_a_signal_have_a_line_where_no_head_knows_noise(emind, raw, released_weights):
    quiet = raw(np.zeros(8192, np.complex64))
    outcome = emind("classify", quiet, "--rate", 1e6, "--heads", "fingerprint", "--json", "-")
    assert outcome.status == 0 and "skipped" not in outcome.err, outcome.err
    assert "every sample is zero; fingerprint cannot say so" in outcome.err
    assert [line["sample_start"] for line in outcome.lines] == [k * 1024 for k in range(8)]
    assert not any("fingerprint" in line for line in outcome.lines)
    half = tone_bursts(8192)
    half[:4096] = 0
    outcome = emind("classify", raw(half), "--rate", 1e6, "--heads", "fingerprint", "--json", "-", "--no-tune")
    assert ["fingerprint" in line for line in outcome.lines] == [False] * 4 + [True] * 4, outcome.err
    outcome = emind("classify", raw(half), "--rate", 1e6, "--json", "-", "--no-tune")
    assert [line["modulation"]["label"] for line in outcome.lines[:4]] == ["noise"] * 4
    assert emind("classify", quiet, "--rate", 1e6, "--heads", "fingerprint").status == 0


def test_a_run_ends_where_a_capture_begins_and_lies_at_its_capture_s_frequency(emind, tmp_path):
    samples = np.exp(2j * np.pi * 0.05 * np.arange(10_240)).astype("<c8")
    meta, out = tmp_path / "two.sigmf-meta", tmp_path / "out.sigmf-meta"
    meta.with_suffix(".sigmf-data").write_bytes(samples.tobytes())
    meta.write_text(json.dumps({
        "global": {"core:datatype": "cf32_le", "core:version": "1.0.0", "core:sample_rate": 1e6, "core:offset": 7000},
        "captures": [{"core:sample_start": 7000, "core:frequency": 100e6},
                     {"core:sample_start": 7000 + 5000, "core:frequency": 200e6}], "annotations": []}))
    outcome = emind("classify", meta, "--annotate", out, "--no-tune", "--no-gate")
    assert outcome.status == 0 and "2 captures" in outcome.err, outcome.err
    found = [(note["core:sample_start"] - 7000, note["core:sample_count"], note["core:freq_lower_edge"])
             for note in json.loads(out.read_text())["annotations"]]
    assert found and {frequency for _, _, frequency in found} == {99.5e6, 199.5e6}
    for start, count, frequency in found:
        assert (start < 5000) == (frequency == 99.5e6), "a window belongs to the capture that it begins in"
        assert frequency > 100e6 or start + count <= 5000
    meta.write_text(meta.read_text().replace('"core:frequency": 200000000.0', '"core:header_bytes": 8'))
    outcome = emind("classify", meta, "--no-tune")
    assert outcome.status == 1 and "capture behind the first has a header" in outcome.err


def test_real_recordings_of_every_family(emind, captures, released_weights):
    """One short recording of each kind: mostly the right family. The whole folder is `make score`'s matter."""
    for name, families in (("ble_zigbee_BLE_124B_10M", {"fsk"}), ("wifi_cond_dot11n_58.5M_20M", {"ofdm"}),
                           ("psk_sat_picsat_12k", {"psk"})):
        outcome = emind("classify", captures / f"{name}.sigmf-meta", "--json", "-")
        assert outcome.status == 0, outcome.err
        found = [line["modulation"]["family"] for line in outcome.lines]
        assert sum(f in families for f in found) >= len(found) / 3, (name, found)


def answer(label: str, confidence: float, snr_db: float | None) -> Answer:
    return Answer(0, 1024, snr_db, {"modulation": HeadAnswer(label, confidence, family_of(label))})


def test_unsure_answers_at_the_noise_floor_become_noise_where_bursts_stand_above_it():
    burst, unsure, sure = answer("QPSK", 0.4, 15.0), answer("OFDM", 0.6, None), answer("NFM", 0.95, -2.0)
    after, gated = floor_as_noise([burst, unsure, sure])
    assert gated == 1 and after[0] is burst and after[2] is sure
    head = after[1].heads["modulation"]
    assert (head.label, head.family) == ("noise", "noise") and head.confidence == pytest.approx(0.4)


def test_a_recording_without_bursts_keeps_all_its_answers():
    answers = [answer("OFDM", 0.3, None), answer("OFDM", 0.3, 1.0)]
    assert floor_as_noise(answers) == (answers, 0)


def test_neighbours_support_each_other_unless_told_not_to(emind, raw, engine, small_weights):
    rng, time_ = np.random.default_rng(8), np.arange(1024)
    samples = np.concatenate([  # each window a tone, a chirp or noise: random weights tell some of them apart
        [np.exp(2j * np.pi * rng.uniform(-0.4, 0.4) * time_), np.exp(1j * rng.uniform(-3e-3, 3e-3) * time_**2),
         rng.standard_normal((2, 1024)).T @ [1, 1j]][int(rng.integers(0, 3))] for _ in range(50)]).astype(np.complex64)
    command = ("classify", raw(samples), "--rate", 1e6, "--json", "-", "--no-tune", "--no-gate", "--weights",
               small_weights, "--backend", "torch-float32")
    together, apart = emind(*command), emind(*command, "--no-neighbours")
    windows = np.ascontiguousarray(cut(samples, 1024, 1024), np.complex64)
    rows = engine.infer(windows, np.full(len(windows), RATE))["modulation"]
    silent = ~windows.any(axis=1)
    places, confidences = decided(Known(MODULATIONS, rows, silent))
    for line, place, confidence, quiet, row in zip(together.lines, places, confidences, silent, rows, strict=True):
        if not quiet and row.argmax():  # neither silence nor noise
            assert (line["modulation"]["label"], line["modulation"]["family"]) == (
                MODULATIONS[place], family_of(MODULATIONS[place]))
            assert line["modulation"]["confidence"] == pytest.approx(confidence, abs=2e-3)
    expected = [label for label, _ in bare(engine, windows, RATE)]
    assert [line["modulation"]["label"] for line in apart.lines] == expected
    changed = [a for a, b in zip(together.lines, apart.lines) if a["modulation"]["label"] != b["modulation"]["label"]]
    assert changed and f"{len(changed)} windows follow their neighbours" in together.err
    assert "neighbours" not in apart.err
