"""`emind classify`, `emind live` and `emind scan` with weights that have several heads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emind.commands import classify
from emind.commands.head_text import main_of, others_of, quantity, summary
from emind.commands.live_view import Lines, View
from emind.commands.scan import print_table
from emind.commands.scan_worker import describe
from emind.contract.answers import read
from emind.dsp.band import Band
from emind.dsp.occupancy import Occupied
from emind.runtime.engine import load_engine
from rich.console import Console
from several_heads import HEADS, LENGTH, raw, save

COUNT = 40
RATE = 1e6
RADAR = ("num_pulses", "pulse_width", "pri", "pulse_time_delay")
OUT_OF_IT = {"heads": {"radar": {"length": LENGTH, "rates_hz": [3e6, 4e6]}}}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save(tmp_path_factory.mktemp("weights") / "all.safetensors", unknown=("radar",), training=OUT_OF_IT)


@pytest.fixture(scope="module")
def windows():
    return raw(COUNT) / np.float32(1e4)


@pytest.fixture
def recording(tmp_path, windows):
    place = tmp_path / "windows.cf32"
    windows.reshape(-1).tofile(place)
    return place


def options(path, recording):
    return ["classify", recording, "--format", "cf32_le", "--rate", str(RATE), "--weights", path, "--no-tune", "--no-gate",
            "--backend", "torch-float32", "--threads", "1"]  # fmt: skip


def test_the_json_has_what_every_head_says_of_every_window(emind, path, recording, windows):
    done = emind(*options(path, recording), "--json", "-")
    assert done.status == 0 and len(done.lines) == COUNT
    answers = load_engine(path, "torch-float32", 1, ["radar", "anomaly"]).infer(windows, np.full(COUNT, RATE))
    radar, anomaly = (read(HEADS[name], answers[name]) for name in ("radar", "anomaly"))
    for number, line in enumerate(done.lines):
        assert set(line) >= {"modulation", "technology", "radar", "rate", "anomaly"} and "denoise" not in line
        said = line["radar"]
        assert said["label"] == radar.names[radar.labels[number]] and said["outside_training"] is True
        assert said["confidence"] == pytest.approx(radar.confidences[number], abs=1e-3)
        if said["label"] == "unknown":
            assert not set(RADAR) & set(said)
        else:
            assert [said[name] for name in RADAR[1:]] == pytest.approx(radar.values[number, 1:].tolist(), rel=1e-2)
        assert line["anomaly"]["score"] == pytest.approx(answers["anomaly"][number, 1], abs=1e-3)
        assert "label" not in line["rate"] and "outside_training" not in line["modulation"]
    assert len({line["radar"]["label"] for line in done.lines}) > 2


@pytest.mark.parametrize("target", ["-", "/dev/stdout"])
def test_standard_output_has_json_lines_alone_though_gnu_radio_warns(path, recording, target):
    arguments = [str(a) for a in options(path, recording)]
    command = [Path(sys.executable).with_name("emind"), *arguments, "--json", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and [json.loads(line)["sample_start"] for line in done.stdout.splitlines()][1] == LENGTH
    assert "outside_training" in done.stderr


def test_heads_asked_for_are_the_only_ones_that_answer(emind, path, recording):
    done = emind(*options(path, recording), "--json", "-", "--heads", "technology,radar")
    assert all(set(line) == {"sample_start", "sample_count", "time_s", "snr_db", "technology", "radar"}
               for line in done.lines)
    wrong = emind(*options(path, recording), "--heads", "colour")
    assert wrong.status == 1 and "no head 'colour'; its heads: modulation, technology" in wrong.err
    assert len(wrong.err.strip().splitlines()) == 1


def test_the_table_has_a_column_a_head_and_marks_what_lies_outside_of_training(emind, path, recording, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    done = emind(*options(path, recording), "--heads", "modulation,technology,radar,rate,anomaly")
    head = next(line for line in done.out.splitlines() if "modulation" in line)
    assert [name for name in ("modulation", "technology", "radar", "rate", "anomaly") if name in head] == [
        "modulation", "technology", "radar", "rate", "anomaly"]
    assert "µs" in done.out and "unlike what the head was trained on" in done.out
    quiet = emind(*options(path, recording))
    head = next(line for line in quiet.out.splitlines() if "modulation" in line)
    assert "technology" in head and "radar" not in head and "lengths or rates: radar (--heads shows them)" in quiet.out
    without = emind(*options(path, recording), "--heads", "radar")
    head = next(line for line in without.out.splitlines() if "windows" in line and "radar" in line)
    assert "modulation" not in head and "family" not in head


def test_annotations_and_picture_say_what_other_heads_say(emind, path, recording, tmp_path):
    meta, picture = tmp_path / "out.sigmf-meta", tmp_path / "out.png"
    done = emind(*options(path, recording), "--annotate", meta, "--plot", picture, "--quiet")
    assert done.status == 0, done.err
    notes = [note["core:comment"] for note in json.loads(meta.read_text())["annotations"]]
    assert notes and all("; radar: " in note and "; anomaly: " in note for note in notes)
    plain = tmp_path / "plain.png"
    assert emind(*options(path, recording), "--plot", plain, "--quiet", "--heads", "modulation").status == 0
    heights = [int.from_bytes(file.read_bytes()[20:24], "big") for file in (plain, picture)]
    assert heights[1] > heights[0] + 100  # a lane for each head with labels


def item(number, modulation="BPSK", **heads):
    said = {"modulation": {"label": modulation, "family": "psk", "confidence": 0.8}} | heads
    return {"sample_start": number, "sample_count": 1, "time_s": number / 10, "rx_freq": 1e8, "snr_db": 10.0, **said}


RADAR_SAID = {"label": "LFM", "confidence": 0.9, "num_pulses": 4, "pri": 19e-6, "outside_training": True}


def test_live_lines_say_what_other_heads_say(capsys):
    for asked, said in ((True, "  radar: LFM 0.90, num_pulses 4, pri 19 µs*"), (False, "")):
        lines = Lines(asked=asked)
        lines.event({"event": "opened", "device": "x", "main": "modulation", "others": ["radar", "anomaly"]})
        lines.answers([item(0, radar=RADAR_SAID), item(1, radar=RADAR_SAID), item(2, "2FSK")])
        (line,) = capsys.readouterr().out.splitlines()
        assert "BPSK" in line and line.endswith("2 windows" + said)
    lines.answers([item(3, radar=RADAR_SAID | {"outside_training": False}), item(4)])
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 windows")  # that of 2FSK
    lines.answers([item(5, "QPSK")])
    assert capsys.readouterr().out.splitlines()[-1].endswith("2 windows  radar: LFM 0.90, num_pulses 4, pri 19 µs")


def test_live_lines_go_by_the_first_head_where_there_is_no_modulation(capsys):
    lines = Lines()
    lines.event({"event": "opened", "device": "x", "main": "radar", "others": []})
    one, other = (item(n) | {"radar": RADAR_SAID | {"label": label}} for n, label in enumerate(("LFM", "Barker")))
    for each in (one, other):
        del each["modulation"]
    lines.answers([one, other])
    (line,) = capsys.readouterr().out.splitlines()
    assert "LFM" in line and "0.90" in line


@pytest.mark.parametrize("asked", [True, False])
def test_the_live_table_has_a_column_a_head_that_knows_such_windows_or_was_asked_for(asked):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    view = View({}, None, console, asked)
    view.event({"event": "opened", "device": "x", "serial": "1", "rate": 1e6, "freq": None, "gain": None,
                "main": "modulation", "others": ["radar"]})
    view.answers([item(0, radar=RADAR_SAID), item(1)])
    console.print(view.renderable())
    text = " ".join(console.export_text().split())  # captions are broken at the table's width
    assert ("LFM 0.90, num_pulses 4, pri 19 µs*" in text and "unlike what the head" in text) == asked
    assert ("not shown, since trained on windows of other lengths or rates: radar" in text) != asked


@pytest.mark.parametrize("asked", [True, False])
def test_the_table_of_a_scan_has_a_column_a_head_that_knows_such_windows_or_was_asked_for(asked, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    known = {"label": "signal", "confidence": 0.9}
    print_table([item(0, radar=RADAR_SAID, sensing=known) | {"freq": 1e8, "bandwidth": 1e4, "occupancy": 1.0}], 1, 1,
                asked)
    text = " ".join(capsys.readouterr().out.split())
    assert "sensing" in text and "signal 0.90" in text
    assert ("LFM 0.90" in text) == asked and ("rates: radar (--heads" in text) != asked


def test_a_scan_tells_what_every_head_says_of_a_signal(path, windows):
    engine = load_engine(path, "torch-float32", 1, ["modulation", "radar", "rate", "anomaly"])
    samples = np.tile(windows[3], 100)
    found = describe(Occupied(Band(-0.4 * RATE, 0.4 * RATE), 20.0, 1.0), samples, RATE, 1e8, engine)
    assert found["radar"]["outside_training"] is True and "outside_training" not in found["modulation"]
    assert found["modulation"]["label"] in HEADS["modulation"].labels and "family" in found["modulation"]
    assert 0 <= found["anomaly"]["score"] <= 1 and set(found["rate"]) == {"pulse_width", "pri"}
    assert json.dumps(found)


def test_several_answers_are_summed_up_by_the_commonest_label_and_medians():
    answers = [{"label": "LFM", "confidence": 0.9, "pri": p} for p in (18e-6, 19e-6, 50e-6)]
    assert summary(answers) == "LFM 0.90, pri 19 µs"
    assert summary([*answers, {"label": "unknown", "confidence": 0.6}]) == "LFM 75 % 0.90, pri 19 µs"
    assert summary([{"label": "unknown", "confidence": 0.6}]) == "unknown 0.60"
    assert summary([{"pri": 2e-5}]) == "pri 20 µs" and summary([]) == "-"
    assert (quantity("pri", 0.0), quantity("pri", 1.5e-3), quantity("num_pulses", 4)) == ("0 s", "1.5 ms", "4")


def test_windows_are_put_together_by_modulation_or_by_the_first_head_with_labels():
    assert main_of(HEADS) == "modulation"
    rest = {name: head for name, head in HEADS.items() if name not in ("modulation", "technology")}
    assert main_of(rest) == "radar" and others_of(rest) == ["rate", "anomaly"]


def test_the_default_engine_of_classify_makes_no_waveforms(path):
    assert set(classify.load(str(path), "torch-float32", 1).heads) == {
        "modulation", "technology", "radar", "rate", "anomaly"}
