"""`emind live` without a radio: recordings, lines, the terminal and its keys, a full disk; and its parts."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from conftest import tone_bursts
from emind.commands.live import parse_command
from emind.commands.live_process import Overflows
from emind.commands.live_view import View, text_of
from emind.commands.sample_clock import SampleClock
from emind.contract.errors import UsageError
from emind.storage.parquet import Reader
from live_run import START_S, Live, run_once


@pytest.mark.parametrize("arguments, words", [
    (("--gain", "loud"), "decibels, or auto"),
    (("--rate", 0), "--rate 0 must be above 0"),
    (("--channels", "0,0"), "--channels"),
    (("--channels", "left"), "--channels"),
    (("--duration", 0), "--duration"),
    (("--label", "modulation=LoRa"), "--record"),
    (("--soapy", "rtlsdr", "--subdev", "A:0"), "for a USRP"),
    (("--file", "x.cf32", "--freq", 1e6), "for a radio"),
    (("--format", "cu8"), "--file"),
    (("--watchdog-ms", -1), "--watchdog-ms"),
    (("--bandwidth", 9e9), "--bandwidth"),
    (("--gate-db", -3), "--gate-db -3 cannot be negative"),
    (("--gate-db", "nan"), "--gate-db nan"),
])
def test_arguments_that_cannot_work_are_one_line(emind, arguments, words):
    outcome = emind("live", *arguments)
    assert outcome.status == 2 and words in outcome.err and len(outcome.err.splitlines()) == 1


def test_a_recording_is_played_without_a_radio(raw, small_weights):
    path = raw(tone_bursts(100_000))
    with Live("--file", path, "--rate", 200e3, "--weights", small_weights, "--backend", "torch-float32") as run:
        run.until_event("opened", within=START_S)
        run.until_answers(3)
        run.say(freq=1e6)
        assert "no frequency" in run.until_event("refused")["text"]
        summary = run.finish(stop=False)
    assert run.process.returncode == 0 and summary["samples"] == 100_000
    assert summary["windows_seen"] == 97 == sum(summary["windows_" + k] for k in ("inferred", "skipped", "gated"))
    assert all(one["time_s"] == one["sample_start"] / 200e3 for one in run.answers())


def test_lines_for_a_pipe_and_the_counts_at_the_end(raw, small_weights):
    done = run_once("live", "--file", raw(tone_bursts(60_000)), "--rate", 200e3, "--weights", small_weights,
                    "--backend", "torch-float32")
    assert done.returncode == 0, done.stderr
    assert done.stdout and all(" s " in line and "windows" in line for line in done.stdout.splitlines())
    assert "60,000 samples" in done.stderr and "58 seen" in done.stderr


def test_a_terminal_gets_a_table_that_obeys_keys(raw, small_weights):
    """Under a pseudo-terminal: what is heard, the counts, and q to end it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    code = "import sys; from emind.cli import main; sys.exit(main())"
    path = raw(np.tile(tone_bursts(100_000), 40))
    process = subprocess.Popen(
        [sys.executable, "-c", code, "live", "--file", str(path), "--rate", "200e3", "--weights", str(small_weights),
         "--backend", "torch-float32"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"})
    before = termios.tcgetattr(slave)
    try:
        shown = read_until(master, "seen, ", START_S)
        os.write(master, b"\x1b[C")  # a recording cannot be tuned
        shown += read_until(master, "answered);", START_S)
        os.write(master, b"q")
        shown += read_until(master, None, 30)
        assert process.wait(30) == 0
        assert termios.tcgetattr(slave)[3] == before[3]  # the terminal is as it was
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)
    for words in ("recording.cf32", "200 kS/s", "last answers", "confidence", "latency", "q quit"):
        assert words in shown


def test_a_stopped_terminal_holds_up_neither_keys_nor_recording_nor_the_end(raw, small_weights, tmp_path):
    """Ctrl-S, then q: it ends with whole files, although nothing can be painted."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    code = "import sys; from emind.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "live", "--file", str(raw(np.tile(tone_bursts(100_000), 40))), "--rate", "200e3",
         "--weights", str(small_weights), "--backend", "torch-float32", "--record", str(tmp_path / "take")],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"})
    before = termios.tcgetattr(slave)
    try:
        read_until(master, "seen, ", START_S)
        os.write(master, b"\x13")
        read_until(master, None, 30)  # what was painted before
        part, = tmp_path.glob("take-*.part")
        size, end = part.stat().st_size, time.monotonic() + 30
        while part.stat().st_size < size + 3_000_000:  # two seconds of samples
            assert process.poll() is None and time.monotonic() < end
            os.sched_yield()
        os.write(master, b"q")
        assert process.wait(40) == 0
        assert termios.tcgetattr(slave)[3] == before[3]
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)
    file, = tmp_path.glob("take-*")
    assert file.suffix == ".parquet" and sum(len(row.iq) for row in Reader(file)) > 400_000


def read_until(number: int, words: str | None, within: float) -> str:
    """Text of a terminal until the words have come, or (None) until no more comes for two seconds."""
    text, end = "", time.monotonic() + within
    while time.monotonic() < end and (words is None or words not in text):
        if select.select([number], [], [], 2.0)[0]:
            text += os.read(number, 65536).decode(errors="replace")
        elif words is None:
            break
    assert words is None or words in text, text[-3000:]
    return text


def test_a_clock_that_went_back_is_told_as_that():
    gap = {"event": "gap", "sample": 3000, "rx_time": [5, 0.0]}
    assert text_of(gap | {"samples_lost": 50}) == "50 samples are missing before sample 3000"
    assert text_of(gap | {"samples_lost": 0}) == "the device's time went back before sample 3000"


def test_keys_become_commands():
    view = View({}, None)
    view.event({"event": "opened", "device": "N210", "serial": "1", "freq": 100e6, "rate": 1e6, "gain": 10.0})
    assert view.keys("\x1b[C\x1b[D\x1b[A\x1b[B") == \
        [{"freq": 100.25e6}, {"freq": 99.75e6}, {"gain": 11.0}, {"gain": 9.0}]
    assert view.keys("f868.31\x7f\x7f3\n") == [{"freq": pytest.approx(868.3e6)}]
    assert view.keys("f12\x1bxf\n") == [] and view.keys("q") == [{"stop": True}]
    assert view.keys("a") == [{"gain": "auto"}]
    view.event({"event": "set", "automatic_gain": True, "freq": 100e6, "rate": 1e6, "gain": 12.0})
    assert view.keys("a") == [{"gain": 12.0}]


@pytest.mark.parametrize("line", ["", "5", "[1]", "{}", '{"freq": "high"}', '{"freq": NaN}', '{"gain": true}', "{",
                                  '{"label": 3}', '{"label": {"sheep": 1}}', '{"rate": "auto"}'])
def test_a_line_that_is_no_command_is_refused(line):
    with pytest.raises(UsageError):
        parse_command(line)
    assert parse_command('{"gain": "auto", "freq": 1e8}') == {"gain": "auto", "freq": 1e8}


def test_the_level_is_brought_between_its_limits_and_left_there():
    pytest.importorskip("gnuradio")
    from emind.commands.live_watch import LevelControl

    control = LevelControl(lowest_db=0, highest_db=30)
    gain, level_at_zero = 0.0, 0.01
    for _ in range(10):
        gain = control.step(gain, min(1.0, level_at_zero * 10 ** (gain / 20)))
    assert 0.1 <= level_at_zero * 10 ** (gain / 20) <= 0.6
    assert control.step(gain, level_at_zero * 10 ** (gain / 20)) == gain
    assert control.step(20.0, 1.0) == 10.0 and control.step(25.0, 0.0001) == 30.0 and control.step(3.0, 1.0) == 0.0
    assert control.step(12.0, 0.0) == 12.0  # nothing came


def test_a_full_disk_ends_the_recording_and_not_the_reception(raw, small_weights, tmp_path):
    """Files may grow to 200 kB: what was written is finished, the run goes on and says so at its end."""
    code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
            "from emind.cli import main; sys.exit(main())")
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, "live", "--file", str(raw(tone_bursts(400_000))), "--rate", "200e3",
         "--weights", str(small_weights), "--backend", "torch-float32", "--record", str(tmp_path / "take"), "--json",
         "-"], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"})
    told = [json.loads(line) for line in done.stdout.splitlines()]
    ended, = [one for one in told if one.get("event") == "recording_ended"]
    assert done.returncode == 1 and "take" in ended["text"]
    assert [line for line in done.stderr.splitlines() if line.startswith("emind: error:")] == \
        [f"emind: error: {ended['text']}"]
    assert told[-1]["samples"] == 400_000 and told[-1]["recording"]["error"] == ended["text"]
    assert not list(tmp_path.glob("*.part"))


def test_answers_that_find_no_room_are_one_line(raw, small_weights):
    done = run_once("live", "--file", raw(tone_bursts(20_000)), "--rate", 200e3, "--weights", small_weights,
                    "--backend", "torch-float32", "--json", "/dev/full")
    errors = [line for line in done.stderr.splitlines() if line.startswith("emind: error:")]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert errors == ["emind: error: /dev/full: cannot be written (No space left on device)"]


def test_the_flowgraph_reads_how_many_answers_wait_instead_of_sending_so_many_a_second(raw, small_weights):
    pytest.importorskip("gnuradio")
    from emind.commands.live_flowgraph import of_recording
    from emind.runtime.engine import load_engine

    settings = {"file": raw(tone_bursts(5000)), "format": "cf32_le", "file_rate": 1e6, "offset": 0.0,
                "bandwidth": 0.0, "hop": 0, "batch": 32, "gate_db": None, "record": None}
    graph = of_recording(settings, load_engine(small_weights, "torch-float32"))
    outlet = graph.receivers[0].inference._detections._outlet
    assert outlet.knows and outlet.room() == outlet.limit
    outlet.sent(10 * outlet.limit)  # so many a second would be used up
    assert outlet.room() == outlet.limit


def test_the_time_of_a_sample_goes_on_at_the_new_rate_from_where_that_holds():
    clock = SampleClock()
    clock.change(0, 1e6)
    assert clock.at(1_000_000, 1e6) == 1.0
    assert clock.at(1_600_000, 5e5) == 1.6  # an answer at a new rate, of which nothing was told yet
    clock.change(1_500_000, 5e5)  # where it began
    assert clock.at(1_600_000, 5e5) == pytest.approx(1.7) and clock.at(2_000_000, 5e5) == pytest.approx(2.5)
    assert clock.at(1_400_000, 1e6) == 1.4  # answered late
    clock.change(2_500_000, 5e5)  # opened anew at the same rate
    assert clock.at(3_000_000, 5e5) == pytest.approx(4.5)


def test_a_new_rate_is_told_at_its_sample_and_no_loss_is_negative():
    gr = pytest.importorskip("gnuradio.gr")
    import pmt
    from emind.commands.live_watch import watch
    from gnuradio import blocks

    def tags_at(sample: int, rate: float, time_s: float) -> list:
        values = {"rx_rate": pmt.from_double(rate), "rx_time": pmt.make_tuple(
            pmt.from_uint64(int(time_s)), pmt.from_double(time_s % 1))}
        return [gr.tag_utils.python_to_tag((sample, pmt.intern(key), value, pmt.PMT_F))
                for key, value in values.items()]

    told = [*tags_at(0, 1e6, 5.0), *tags_at(1000, 5e5, 5.000818), *tags_at(2000, 5e5, 5.002918),
            *tags_at(3000, 5e5, 5.001)]
    graph, seen = gr.top_block(), watch(1e6)
    graph.connect(blocks.vector_source_c([0] * 4000, False, 1, told), seen)
    graph.run()
    assert seen.take_rates() == [(1000, 5e5)] and seen.take_rates() == []
    # 182 samples early at the change, 50 late behind it, and a clock that goes back.
    assert [(gap["sample"], gap["samples_lost"]) for gap in seen.take_gaps()] == [(2000, 50), (3000, 0)]
    assert seen.samples_lost == 50


def test_a_missing_recording_is_one_line(emind):
    outcome = emind("live", "--file", "nowhere.cf32", "--rate", 1e6)
    assert outcome.status == 1 and outcome.err == "emind: error: nowhere.cf32: no such file\n"


def test_overflows_find_their_marks_in_order_and_are_told_without_one_after_a_while():
    held = Overflows()
    held.happened(2, 100, now=5.0)
    held.mark("D")
    assert [event["mark"] for event in held.told(5.0)] == ["D"]
    assert held.told(5.2) == []
    held.mark("O")
    assert [event["mark"] for event in held.told(5.25)] == ["O"]
    held.happened(1, 300, now=6.0)
    late, = held.told(6.5)
    assert (late["mark"], late["sample"]) == ("", 300) and "did not say" in late["reason"]
    held.happened(1, 400, now=7.0)
    assert len(held.told(7.0, all_of_them=True)) == 1 and held.counts == {"O": 1, "D": 1, "": 2}


def test_answers_that_the_end_of_the_flowgraph_left_in_the_queue_are_told():
    pmt = pytest.importorskip("pmt")
    from emind.commands.live_watch import mailbox

    letters = mailbox(decimation=2)
    for start in (0, 1024):
        said = pmt.to_pmt({"sample_start": start, "sample_count": 1024, "latency_ms": 1.0, "modulation": {"label": "BPSK"}})
        letters.to_basic_block()._post(pmt.intern("detections"), pmt.cons(said, pmt.PMT_NIL))
    assert letters.take() == []  # no flowgraph, so no thread of the block's has read them
    letters.read_rest()
    assert [one["sample_start"] for one in letters.take()] == [0, 2048]
    letters.read_rest()
    assert letters.take() == []
