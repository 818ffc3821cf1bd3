"""The demo's scene is what it says, and the demo finds it."""

import json
import sys

import numpy as np
import pytest
import sigmf
from conftest import ROOT
from emind.contract.vocabulary import MODULATIONS

sys.path.insert(0, str(ROOT / "examples"))
demo = pytest.importorskip("demo")
scene = pytest.importorskip("scene")


@pytest.fixture(scope="module")
def made():
    return scene.make_scene()


def test_the_scene_is_the_same_every_time(made):
    again, segments = scene.make_scene()
    # Not to the last bit: GNU Radio's kernels round differently where a buffer happens to be aligned differently.
    assert np.allclose(made[0], again, atol=1e-4) and made[1] == segments
    assert not np.allclose(scene.make_scene(seed=2)[0], again, atol=1e-2)


def test_the_scene_holds_many_classes_long_enough_to_judge(made):
    samples, segments = made
    signals = [s for s in segments if s.label != "noise"]
    assert len({s.label for s in signals}) >= 10 and {s.label for s in segments} <= set(MODULATIONS)
    assert all(s.end - s.start >= 9 * 1024 for s in signals), "at least 8 whole windows wherever they start"
    assert segments[0].start == 0 and segments[-1].end == len(samples)
    assert all(a.end == b.start for a, b in zip(segments, segments[1:]))


def test_each_signal_stands_above_the_noise_and_fills_a_fair_share_of_the_band(made):
    samples, segments = made
    quiet = np.mean(np.abs(samples[: segments[0].end]) ** 2)
    for segment in segments[1::2]:
        part = samples[segment.start : segment.end]
        assert 10 * np.log10(np.mean(np.abs(part) ** 2) / quiet) == pytest.approx(20, abs=1.5), segment.label
        power = np.sort(np.abs(np.fft.fft(part[: 16 * 1024].reshape(-1, 256), axis=1)).mean(axis=0) ** 2)[::-1]
        share = np.searchsorted(np.cumsum(power) / power.sum(), 0.97) / 256
        assert 0.04 < share < 0.7, (segment.label, share)


def test_scores_count_windows_inside_a_segment_only():
    from emind.commands.flowgraph import Answer, HeadAnswer

    def answer(start, label):
        return Answer(start, 100, None, {"modulation": HeadAnswer(label, 0.5, None)})

    segments = [scene.Segment("noise", 0, 150, 0.0), scene.Segment("QPSK", 150, 500, 0.0)]
    answers = [answer(0, "noise"), answer(100, "OOK"), answer(200, "QPSK"), answer(300, "8PSK"), answer(400, "QPSK")]
    score, = demo.score_segments(segments, answers)
    assert (score.label, score.majority, score.windows, score.right, score.right_family) == ("QPSK", "QPSK", 3, 2, 3)


def test_the_demo_writes_everything(tmp_path, capsys, small_weights):
    assert demo.main(["--out", str(tmp_path), "--weights", str(small_weights)]) == 0
    out = capsys.readouterr().out
    assert "true label" in out and str(tmp_path / "scene.png") in out
    assert (tmp_path / "scene.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    signal = sigmf.fromfile(str(tmp_path / "scene.sigmf-meta"))
    signal.validate()
    assert sum(line["sample_count"] for line in lines) == signal.sample_count
    by = {a["core:generator"] for a in signal.get_annotations()}
    assert by == {"gr-emind", "gr-emind scene"}, "truth and answers"


def test_the_demo_labels_a_recording(tmp_path, capsys, small_weights):
    scene.write_scene(tmp_path / "in" / "two", scene=scene.SCENE[:2])
    capture = tmp_path / "in" / "two.sigmf-meta"
    assert demo.main(["--capture", str(capture), "--out", str(tmp_path), "--weights", str(small_weights)]) == 0
    assert "modulation" in capsys.readouterr().out
    sigmf.fromfile(str(tmp_path / "two.sigmf-meta")).validate()
    assert (tmp_path / "two.png").is_file() and (tmp_path / "two.jsonl").is_file()


def test_the_released_weights_name_most_of_the_scene(tmp_path, released_weights, made):
    from emind.commands import classify
    from emind.dsp.band import TuningPlan
    from emind.storage.recording import open_recording

    segments = scene.write_scene(tmp_path / "scene")
    answers, _ = classify.classify(open_recording(tmp_path / "scene.sigmf-meta"), classify.load(released_weights),
                                   TuningPlan())
    scores = demo.score_segments(segments, answers)
    family = sum(s.right_family for s in scores) / sum(s.windows for s in scores)
    assert family >= 0.7, [(s.label, s.majority, s.right_family / s.windows) for s in scores]
