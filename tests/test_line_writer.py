"""`emind live` and a reader of its output that is slow, paused or gone."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import tone_bursts
from emind.commands.line_writer import LineWriter
from emind.contract.errors import EMindError
from emind.storage.parquet import Reader
from live_run import START_S

LONG = "x" * 300_000  # more than a pipe holds


def read_lines(number: int, count: int) -> list[str]:
    """Lines of a pipe until there are so many."""
    data = b""
    while data.count(b"\n") < count:
        data += os.read(number, 1 << 16)
    return data.decode().splitlines()


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that a reader has opened: its path, and the reader's descriptor."""
    os.mkfifo(tmp_path / "pipe")
    number = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(number, True)
    yield tmp_path / "pipe", number
    os.close(number)


def test_lines_that_find_no_room_are_counted_and_told_where_they_are_missing(pipe):
    path, number = pipe
    writer = LineWriter(str(path), tell=True, most=5)
    writer.put([LONG])
    for word in "abcdef":  # the first four fit beside the long one
        writer.put([word], answers=True)
    writer.put(["event"])
    assert writer.dropped == 2
    lines = read_lines(number, 7)
    assert lines[0] == LONG and lines[1:5] == ["a", "b", "c", "d"]
    assert json.loads(lines[5]) == {"event": "lines_dropped", "count": 2} and lines[6] == "event"
    writer.put(["last"], last=True)
    writer.end()
    assert read_lines(number, 1) == ["last"]


def test_what_is_gone_or_full_is_an_error_and_so_is_a_reader_who_never_reads(pipe, monkeypatch):
    path, number = pipe
    stalled = LineWriter(str(path))
    stalled.put([LONG, "more"])
    monkeypatch.setattr("emind.commands.line_writer.STALLED_S", 0.3)
    with pytest.raises(EMindError, match="nobody reads it any more; 2 lines are lost"):
        stalled.end()
    read_lines(number, 2)
    full = LineWriter("/dev/full")
    full.put(["line"])
    with pytest.raises(EMindError, match="/dev/full: cannot be written"):
        full.end()
    with pytest.raises(EMindError, match="no/file: cannot be written"):
        LineWriter("no/file")
    reading, writing = os.pipe()
    gone = LineWriter(f"/proc/self/fd/{writing}")
    os.close(writing)
    os.close(reading)
    gone.put(["line"])
    with pytest.raises(BrokenPipeError):
        gone.end()


class Paused:
    """`emind live --json -` whose output nobody reads; ``radio`` is the number of the radio's process."""

    def __init__(self, *arguments):
        code = "import sys; from emind.cli import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "live", *map(str, arguments), "--backend", "torch-float32", "--json", "-"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
        fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, 4096)

    def __enter__(self) -> Paused:
        for line in self.process.stderr:
            found = re.search(rb"process (\d+)", line)
            if found:
                self.radio = int(found[1])
                return self
        raise AssertionError("the radio's process did not open")

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def until_recorded(self, base: Path, size: int, within: float = START_S) -> None:
        """So many bytes: what was answered meanwhile is more than the pipe holds."""
        end = time.monotonic() + within
        while sum(part.stat().st_size for part in base.parent.glob(base.name + "*.part")) < size:
            assert time.monotonic() < end, "too little comes"
            time.sleep(0.05)

    def until_the_radio_ended(self, within: float = START_S) -> None:
        end = time.monotonic() + within
        while Path(f"/proc/{self.radio}").exists():
            assert time.monotonic() < end, "the radio's process goes on"
            time.sleep(0.05)


def test_the_duration_holds_while_the_reader_pauses_and_nothing_is_lost(raw, small_weights):
    with Paused("--file", raw(np.tile(tone_bursts(100_000), 40)), "--rate", 200e3, "--weights", small_weights,
                "--duration", 2) as run:
        run.until_the_radio_ended()
        told = [json.loads(line) for line in run.process.stdout]
        assert run.process.wait(30) == 0
    summary = told[-1]
    assert summary["event"] == "summary" and summary["lines_dropped"] == 0 and summary["samples"] < 3_000_000
    answers = [one for one in told if "event" not in one]
    assert len(answers) == summary["windows_inferred"] + summary["windows_gated"] > 50


def test_a_second_signal_ends_it_although_nobody_reads_and_the_recording_is_whole(raw, small_weights, tmp_path):
    with Paused("--file", raw(np.tile(tone_bursts(100_000), 40)), "--rate", 200e3, "--weights", small_weights,
                "--record", tmp_path / "take") as run:
        run.until_recorded(tmp_path / "take", 800_000)
        first = time.monotonic()
        for _ in range(2):  # as `timeout` and shells do: one and the same
            run.process.send_signal(signal.SIGTERM)
        run.until_the_radio_ended()
        while time.monotonic() < first + 1.1:
            time.sleep(0.05)
        assert run.process.poll() is None  # it waits for the reader
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(8) == 130  # sooner than it would have given the reader up
    file, = tmp_path.glob("take-*.parquet")
    assert len(Reader(file)) > 0 and not list(tmp_path.glob("*.part"))
