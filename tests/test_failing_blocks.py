"""A block of a command's flowgraph that raises: the command ends, with one line that says so, and keeps what it has."""

from __future__ import annotations

import os
import queue
import subprocess
import sys

import numpy as np
import pytest
from conftest import tone_bursts

pytest.importorskip("gnuradio")

from emind.storage.parquet import Reader

COUNT = 400_000
RATE = 1e6


def failing(method, after: int):
    """The method of a block, raising once it has been called so often."""
    calls = []

    def work(self, *told):
        calls.append(1)
        if len(calls) > after:
            raise ZeroDivisionError("of a test")
        return method(self, *told)

    return work


def told(outcome) -> list[str]:
    return [line for line in outcome.err.splitlines() if line.startswith("emind: error:")]


def test_record_ends_and_keeps_what_came_before_the_recorder_failed(emind, raw, tmp_path, monkeypatch):
    from emind.recorder import recorder

    monkeypatch.setattr(recorder, "work", failing(recorder.work, 3))
    samples = tone_bursts(COUNT)
    outcome = emind("record", tmp_path / "take", "--from", raw(samples), "--rate", RATE)
    assert outcome.status == 1
    assert told(outcome) == ["emind: error: block emind_recorder failed: ZeroDivisionError: of a test"]
    (file,) = tmp_path.glob("take-*")
    got = np.concatenate([row.iq for row in Reader(file)])
    assert 0 < len(got) < COUNT and file.suffix == ".parquet"
    np.testing.assert_array_equal(got, samples[: len(got)])


def test_record_ends_where_a_recorder_cannot_start(emind, raw, tmp_path, monkeypatch):
    from emind.recorder import RecorderThread

    monkeypatch.setattr(RecorderThread, "start", failing(RecorderThread.start, 0))
    outcome = emind("record", tmp_path / "take", "--from", raw(tone_bursts(1000)), "--rate", RATE)
    assert outcome.status == 1
    assert told(outcome) == ["emind: error: block emind_recorder failed: ZeroDivisionError: of a test"]


@pytest.mark.parametrize("block", ["windowing", "inference", "overlap_add"])
def test_record_ends_where_a_block_of_the_receiver_in_front_fails(emind, raw, tmp_path, monkeypatch, small_weights,
                                                                  block):
    import emind as package

    kind = getattr(package, block)
    monkeypatch.setattr(kind, "general_work", failing(kind.general_work, 1))
    outcome = emind("record", tmp_path / "take", "--from", raw(tone_bursts(COUNT)), "--rate", RATE, "--trigger",
                    "detection", "--weights", small_weights)
    assert outcome.status == 1
    assert told(outcome) == [f"emind: error: block emind_{block} failed: ZeroDivisionError: of a test"]


@pytest.mark.parametrize("block, method", [("answers_sink", "work"), ("windowing", "forecast")])
def test_classify_ends(emind, raw, monkeypatch, small_weights, block, method):
    from emind.commands import flowgraph

    kind = getattr(flowgraph, block)
    monkeypatch.setattr(kind, method, failing(getattr(kind, method), 1))
    outcome = emind("classify", raw(tone_bursts(COUNT)), "--rate", RATE, "--weights", small_weights)
    assert outcome.status == 1
    (line,) = told(outcome)
    name = block if block == "answers_sink" else f"emind_{block}"
    assert f"block {name} failed: ZeroDivisionError: of a test" in line and " of 391 windows" in line


@pytest.mark.parametrize("block, method", [("watch", "work"), ("mailbox", "_detection")])
def test_live_ends(raw, small_weights, tmp_path, block, method):
    """The flowgraph is another process's: what it imports first spoils the block."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        f"sys.path.append({os.path.dirname(__file__)!r})\n"
        "if any(name.endswith('live_worker') for name in sys.orig_argv):\n"
        "    from emind.commands import live_watch\n"
        "    from test_failing_blocks import failing\n"
        f"    live_watch.{block}.{method} = failing(live_watch.{block}.{method}, 2)\n")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from emind.cli import main; sys.exit(main())", "live",
         "--file", str(raw(tone_bursts(COUNT))), "--rate", "200e3", "--weights", str(small_weights),
         "--backend", "torch-float32"], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("emind: error:")]
    assert errors == [f"emind: error: block emind_live_{block} failed: ZeroDivisionError: of a test"]


class Source:
    """As much of a radio as a scan asks for: an endless stream of zeros."""

    has_time, remarks = False, []

    def __init__(self) -> None:
        from gnuradio import blocks, gr

        self.block = blocks.null_source(gr.sizeof_gr_complex)

    def state(self) -> dict:
        return {"rate": RATE, "freq": 1e9}

    describe = state

    def set_freq(self, hz: float) -> None:
        pass

    check_freq = set_freq  # every frequency is one that it has


def test_scan_ends(monkeypatch, small_weights):
    from emind.commands import scan_worker

    sent = []

    class outlet:
        send = staticmethod(lambda kind, **what: sent.append((kind, what)))

    monkeypatch.setattr(scan_worker, "open_source", lambda settings: Source())
    monkeypatch.setattr(scan_worker.capture, "work", failing(scan_worker.capture.work, 0))
    settings = {"weights": str(small_weights), "backend": "torch-float32", "threads": 1, "apart": False, "batch": 8,
                "heads": None, "steps": [1e9], "dwell_s": 0.01, "settle_s": 0.0, "usable": 0.8,
                "tries": 4}
    assert scan_worker.scan(settings, outlet, queue.Queue()) == 1
    kind, what = sent[-1]
    assert kind == "error" and what["text"] == "block emind_scan_capture failed: ZeroDivisionError: of a test"


@pytest.mark.parametrize("block", ["paced_source", "tag_watch", "slow_consumer"])
def test_a_bench_ends(monkeypatch, small_weights, block):
    from emind.contract.errors import EMindError
    from emind.runtime.engine import load_engine
    from emind_benchmarks import measuring, pacing

    kind = getattr(pacing, block)
    method = "_handle" if block == "slow_consumer" else "work"
    monkeypatch.setattr(kind, method, failing(getattr(kind, method), 1))
    engine = load_engine(small_weights, "torch-float32")
    load = pacing.Load(64e3, 0.5, engine.spec.length, "lossless")
    chain = pacing.paced_chain(engine, load, measuring.noise_windows(engine.spec.length, 4).ravel(), 0.0)
    with pytest.raises(EMindError, match="failed: ZeroDivisionError: of a test"):
        chain.run_to_end()
