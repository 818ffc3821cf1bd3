"""`emind record` opens and sets a radio as `emind live` does."""

from __future__ import annotations

import json

import pytest
from conftest import tone_bursts
from emind.storage.parquet import Reader
from live_run import START_S, Live, driver, run_once
from usrp_emulator import Emulator

pytest.importorskip("gnuradio")


@driver
def test_the_arguments_of_live_hold_and_what_is_not_given_is_its_default(tmp_path):
    with Emulator() as device:
        done = run_once("record", tmp_path / "take", "--args", device.arguments, "--subdev", "A:0", "--clock-source",
                        "internal", "--antenna", "TX/RX", "--seconds", 0.05)
        status = device.status()
    assert done.returncode == 0, done.stderr
    row, *_ = Reader(next(tmp_path.glob("*.parquet")))
    assert row.sampling_rate == status["chains"][0]["rate"] == 1e6
    assert status["chains"][0]["frequency"] == pytest.approx(433.92e6, abs=1)


@driver
def test_automatic_gain_brings_the_level_up_while_it_records(tmp_path):
    scene = 'scene:{"emitters": [{"frequency": 434e6, "level_db": -45}], "noise_db": -80}'
    with Emulator(scene) as device, Live(tmp_path / "take", "--usrp", device.arguments, "--rate", 500e3, "--gain",
                                         "auto", "--json", json_lines=False, command="record") as run:
        status = device.wait_for(within=START_S, samples_sent=1)
        while status["gain_db"] < 25:
            status = device.wait_for(within=START_S, samples_sent=status["chains"][0]["samples_sent"] + 50_000)
            assert status["chains"][0]["samples_sent"] < 20_000_000, run.stderr
        run.say(stop=True)
        counts = run.until(lambda told: True)
        assert run.process.wait(30) == 0
    assert status["gain_db"] <= 38 and counts["samples_written"] > 0
    assert any("by the level of the samples" in line for line in run.stderr)


@driver
def test_several_channels_have_files_each_with_the_same_labels_and_counts_together(tmp_path):
    with Emulator() as device:
        done = run_once("record", tmp_path / "take", "--args", device.arguments, "--subdev", "A:0 A:0", "--channels",
                        "0,1", "--rate", 500e3, "--seconds", 0.2, "--label", "modulation=QPSK", "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)  # and nothing else stands there
    files = [sorted(tmp_path.glob(f"take-channel{channel}-*.parquet")) for channel in (0, 1)]
    assert [len(each) for each in files] == [1, 1]
    assert sorted(map(str, tmp_path.iterdir())) == sorted(counts["file_names"])
    for (file,) in files:
        rows = list(Reader(file))
        assert sum(len(row.iq) for row in rows) == 100_000 and {row.modulation for row in rows} == {"QPSK"}
    assert counts["samples_seen"] == counts["samples_written"] == 200_000 and counts["error"] == ""


def test_a_soapysdr_device_is_recorded_like_a_usrp(tmp_path, monkeypatch):
    soapy = pytest.importorskip("gnuradio.soapy")
    from emind.commands.record_radio import radio_recording
    from emind.recorder import recorder
    from test_soapy import SETTINGS, Device

    monkeypatch.setattr(soapy, "source", Device)
    graph = radio_recording(
        SETTINGS | {"gain": "auto"}, None,
        lambda rate, freq, which: recorder(str(tmp_path / "take"), sample_rate=rate, center_freq=freq, policy="lossless"),
        lambda rate: [])
    graph.run()
    rows = list(Reader(graph.recorder.files()[0]))
    assert sum(len(row.iq) for row in rows) == 60_000 and {row.sampling_rate for row in rows} == {1e6}
    _, gain = graph.helpers
    assert graph.level.take_peak() > 0.4  # the source's level is looked at
    for peak, told in ((0.4, None), (1.0, "gain 15 dB, by the level of the samples")):
        gain._take_peak, gain._due = lambda peak=peak: peak, 0.0
        assert gain.look() == told
    assert gain.look() is None and graph.source.state()["gain"] == 15.0  # not again at once


@pytest.mark.parametrize("arguments, words", [
    (("--gain", "loud"), "decibels, or auto"), (("--soapy", "rtlsdr", "--subdev", "A:0"), "for a USRP"),
    (("--rf-bandwidth", 0), "--rf-bandwidth"), (("--freq", "nan"), "--freq"), (("--format", "cu8"), "--from"),
    (("--from", "x.sigmf-meta", "--gain", "auto", "--subdev", "A:0"), "--gain, --subdev: for a radio"),
])
def test_arguments_that_cannot_work_are_one_line(emind, tmp_path, arguments, words):
    outcome = emind("record", tmp_path / "take", *arguments)
    assert outcome.status == 2 and words in outcome.err and len(outcome.err.splitlines()) == 1


def test_heads_that_the_weights_lack_are_refused(emind, raw, tmp_path, small_weights):
    outcome = emind("record", tmp_path / "take", "--from", raw(tone_bursts(2000)), "--rate", 1e6, "--trigger",
                    "detection", "--weights", small_weights, "--heads", "radar")
    assert outcome.status != 0 and "radar" in outcome.err and len(outcome.err.splitlines()) == 1
    assert not list(tmp_path.glob("take*"))
