"""What users get wrong: one clear line, the right exit status, no half-written file, never a traceback."""

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT, tone_bursts


def assert_one_line(outcome, status, *says):
    assert outcome.status == status, outcome.err
    lines = outcome.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("emind: error: "), outcome.err
    for words in says:
        assert words in lines[0]
    assert outcome.out == ""


@pytest.fixture
def outputs(tmp_path):
    """Arguments that ask for every kind of output, into a folder that must stay empty."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder, ["--json", folder / "a.jsonl", "--annotate", folder / "a.sigmf-meta", "--plot", folder / "a.png"]


def test_no_such_file(emind, tmp_path, outputs):
    folder, arguments = outputs
    assert_one_line(emind("classify", tmp_path / "none.sigmf-meta", *arguments), 1, "none.sigmf-meta", "no such file")
    assert list(folder.iterdir()) == []


def test_unknown_format(emind, raw):
    outcome = emind("classify", raw(tone_bursts(5000)), "--rate", 1e6, "--format", "float7")
    assert_one_line(outcome, 2, "float7", "cf32_le")


def test_no_format(emind, raw):
    outcome = emind("classify", raw(tone_bursts(5000), "recording.iq"), "--rate", 1e6)
    assert_one_line(outcome, 2, "--format", "recording.iq")


def test_no_sample_rate(emind, raw):
    assert_one_line(emind("classify", raw(tone_bursts(5000))), 2, "--rate")


def test_impossible_sample_rate(emind, raw):
    assert_one_line(emind("classify", raw(tone_bursts(5000)), "--rate", -1), 2, "--rate")


def test_an_empty_file(emind, raw):
    assert_one_line(emind("classify", raw(np.zeros(0)), "--rate", 1e6), 1, "recording.cf32", "no samples")


def test_fewer_samples_than_a_window_are_answered_and_said(emind, raw, small_weights):
    outcome = emind("classify", raw(tone_bursts(300)), "--rate", 1e6, "--json", "-", "--weights", small_weights)
    assert outcome.status == 0
    assert "300 samples are fewer than one window of 1024" in outcome.err
    assert [(line["sample_start"], line["sample_count"]) for line in outcome.lines] == [(0, 300)]


def test_not_a_whole_number_of_samples(emind, raw):
    path = raw(tone_bursts(5000))
    path.write_bytes(path.read_bytes()[:-3])
    assert_one_line(emind("classify", path, "--rate", 1e6), 1, "39997 bytes", "cf32_le", "cut short")


@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0, -np.inf)])
def test_values_that_are_not_finite(emind, raw, outputs, bad):
    folder, arguments = outputs
    samples = tone_bursts(5000)
    samples[[3210, 4000]] = bad
    outcome = emind("classify", raw(samples), "--rate", 1e6, *arguments)
    assert_one_line(outcome, 1, "sample 3210 ", "not a finite number")
    assert list(folder.iterdir()) == []


def test_all_zeros_are_noise_and_said_so(emind, raw, small_weights):
    outcome = emind("classify", raw(np.zeros(5000)), "--rate", 1e6, "--json", "-", "--weights", small_weights)
    assert outcome.status == 0 and "every sample is zero; reported as noise" in outcome.err
    assert len(outcome.lines) == 5
    assert all(line["modulation"] == {"label": "noise", "family": "noise", "confidence": 1.0}
               for line in outcome.lines)


def damage_truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damage_header(data: bytes) -> bytes:
    return data[:8] + b"x" * 50 + data[58:]


def damage_empty(data: bytes) -> bytes:
    return b""


def damage_text(data: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\n" * 3


@pytest.mark.parametrize("damage", [damage_truncate, damage_header, damage_empty, damage_text])
def test_a_damaged_weights_file(emind, raw, small_weights, tmp_path, outputs, damage):
    folder, arguments = outputs
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damage(small_weights.read_bytes()))
    outcome = emind("classify", raw(tone_bursts(5000)), "--rate", 1e6, "--weights", path, *arguments)
    assert_one_line(outcome, 1, "damaged.safetensors")
    assert list(folder.iterdir()) == []
    assert_one_line(emind("weights", "show", path), 1, "damaged.safetensors")


def test_weights_that_do_not_exist(emind, raw):
    outcome = emind("classify", raw(tone_bursts(5000)), "--rate", 1e6, "--weights", "no-such")
    assert_one_line(outcome, 1, "no-such")


@pytest.mark.parametrize("option, name", [("--json", "a.jsonl"), ("--annotate", "a.sigmf-meta"), ("--plot", "a.png")])
def test_an_output_folder_that_cannot_be_written_is_named_before_anything_runs(
        emind, raw, tmp_path, monkeypatch, option, name):
    from emind.commands import classify

    monkeypatch.setattr(classify, "load", lambda *_: pytest.fail("the engine was loaded first"))
    path = raw(tone_bursts(5000))
    for folder in (tmp_path / "not there", path):  # a folder that is not there, and a file in its place
        outcome = emind("classify", path, "--rate", 1e6, option, folder / name)
        assert_one_line(outcome, 1, name, "cannot be written")
    (tmp_path / name).mkdir()
    assert_one_line(emind("classify", path, "--rate", 1e6, option, tmp_path / name), 1, "is a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(emind, raw, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    outcome = emind("classify", raw(tone_bursts(5000)), "--rate", 1e6, "--json", folder / "a.jsonl")
    assert_one_line(outcome, 1, "a.jsonl", "cannot be written")


def test_annotations_never_take_another_recordings_place(emind, raw, tmp_path):
    (tmp_path / "a.sigmf-data").write_bytes(b"another recording")
    outcome = emind("classify", raw(tone_bursts(5000)), "--rate", 1e6, "--annotate", tmp_path / "a.sigmf-meta")
    assert_one_line(outcome, 1, "another recording")
    assert (tmp_path / "a.sigmf-data").read_bytes() == b"another recording"
    assert not (tmp_path / "a.sigmf-meta").exists()


@pytest.mark.parametrize("arguments, says", [
    (["--no-tune", "--bandwidth", "1e3"], "--no-tune"),
    (["--center", "1e3"], "--bandwidth"),
    (["--bandwidth", "2e6"], "--bandwidth"),
    (["--bandwidth", "nan"], "--bandwidth"),
    (["--bandwidth", "1e3", "--center", "6e5"], "--center"),
    (["--hop", "-1"], "--hop"),
    (["--batch", "0"], "--batch"),
    (["--annotate", "a.json"], "--annotate"),
    (["--plot", "a.doc"], "--plot"),
])
def test_arguments_that_cannot_work_together(emind, raw, arguments, says):
    assert_one_line(emind("classify", raw(tone_bursts(5000)), "--rate", 1e6, *arguments), 2, says)


def test_a_hop_longer_than_the_window(emind, raw, small_weights):
    outcome = emind("classify", raw(tone_bursts(5000)), "--rate", 1e6, "--hop", 1025, "--weights", small_weights)
    assert_one_line(outcome, 2, "--hop")


def test_an_engine_that_fails_ends_the_run_with_its_reason(emind, raw, small_weights, monkeypatch, outputs):
    from emind.commands import classify

    folder, arguments = outputs
    load = classify.load

    def failing(*options):
        engine = load(*options)
        monkeypatch.setattr(type(engine), "infer", lambda *_: (_ for _ in ()).throw(RuntimeError("out of order")))
        return engine

    monkeypatch.setattr(classify, "load", failing)
    outcome = emind("classify", raw(tone_bursts(50_000)), "--rate", 1e6, "--no-tune", "--weights", small_weights,
                    *arguments)
    assert outcome.status == 1
    last = outcome.err.splitlines()[-1]
    assert last.startswith("emind: error: ") and "out of order" in last
    assert list(folder.iterdir()) == []


# Runs the command with an engine that says on standard output when it has its first batch, and is then slow:
# the interrupt comes while the flowgraph runs.
INTERRUPTED = """
import sys, threading
from emind.commands import classify
from emind.cli import main
load = classify.load
def loaded(*options):
    engine = load(*options)
    infer, pause = engine.infer, threading.Event()
    def slow(windows, rates):
        print("running", flush=True)
        pause.wait(0.2)
        return infer(windows, rates)
    engine.infer = slow
    return engine
classify.load = loaded
sys.exit(main())
"""


def test_an_interrupt_stops_the_run_and_leaves_nothing(raw, small_weights, outputs):
    folder, arguments = outputs
    command = [sys.executable, "-c", INTERRUPTED, "classify", raw(tone_bursts(2_000_000)), "--rate", "1e6",
               "--no-tune", "--weights", small_weights, *arguments]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    # Of a job in the background a test run inherits that interrupts are ignored, and would hand it on.
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    guard = threading.Timer(120, process.kill)  # only should it hang
    guard.start()
    try:
        assert process.stdout.readline() == "running\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    finally:
        guard.cancel()
        process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "emind: interrupted" and "Traceback" not in err
    assert list(folder.iterdir()) == []


def test_a_reader_that_goes_away_is_no_fault_of_the_user(raw, small_weights):
    command = [sys.executable, "-m", "emind.cli", "classify", raw(tone_bursts(400_000)), "--rate", "1e6", "--no-tune",
               "--json", "-", "--weights", small_weights]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment)
    assert json.loads(process.stdout.readline())["sample_start"] == 0
    process.stdout.close()
    err = process.stderr.read()
    process.wait()
    assert "Traceback" not in err and "Exception" not in err


def test_the_demo_names_a_bad_capture(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "examples" / "demo.py", "--capture", tmp_path / "none.sigmf-meta",
                           "--out", tmp_path / "out"], capture_output=True, text=True, timeout=120,
                          env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "none.sigmf-meta" in done.stderr.splitlines()[-1]
