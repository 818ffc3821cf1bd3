"""`emind live` with the real UHD driver on an emulated N210: answers, faults, commands, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from live_run import START_S, Live, driver, events_of, run_once, ticks
from usrp_emulator import Emulator
from usrp_emulator.receiver import Receiver

RATE = 500e3
QUICK = ("--rate", RATE, "--backend", "torch-float32", "--threads", 1, "--watchdog-ms", 400, "--check-ms", 200,
         "--reopen-s", 0.3)


@pytest.fixture(scope="module")
def journey(small_weights):
    """One run through all that goes wrong on a line: what it told, and what the emulator did."""
    with Emulator() as device, Live("--args", device.arguments, "--weights", small_weights, *QUICK) as run:
        run.until_event("opened", within=START_S)
        run.until_answers(20)
        for number in (1, 2, 3):
            device.overflow(samples=5000)
            run.until_event("overflow")
            run.until_answers_behind_gap(number)
        device.lose(packets=3)
        run.until_event("overflow")
        run.until_answers_behind_gap(4)
        device.lose(packets=16)
        run.until_answers_behind_gap(5)
        device.overflow(halt=True)
        run.until_event("resumed")
        run.until_answers_behind_gap(6)
        faults = events_of(device, "overflow", "loss", "start")
        run.say(freq=868.3e6, gain=20)
        run.until(lambda told: "event" not in told and abs(told["rx_freq"] - 868.3e6) < 1)
        run.say(freq=9e9)
        run.say(gain=77)
        run.say(rate=77e6)
        run.say(sheep=3)
        run.until_event("refused", 4)
        run.say(rate=250e3)
        run.until(lambda told: "event" not in told and told["rx_rate"] == 250e3)
        status = device.status()
        summary = run.finish()
        assert run.process.returncode == 0
    return run, faults, status, summary


@driver
def test_injected_overflows_are_told_one_for_one_with_their_reason(journey):
    run, faults, _, summary = journey
    told = run.events("overflow")
    assert [event["mark"] for event in told] == ["O", "O", "O", "D", "O"]
    assert all("--rate" in event["advice"] for event in told)
    assert "buffer ran over" in told[0]["reason"] and "packets were lost" in told[3]["reason"]
    assert (summary["overflows"], summary["overflows_device"], summary["overflows_network"]) == (5, 4, 1)


@driver
def test_every_gap_is_told_at_its_sample_and_time(journey):
    run, faults, _, summary = journey
    breaks = [event for event in faults if event["event"] != "start"]
    lost_of = [5000, 5000, 5000, 3 * 363, 16 * 363]
    gaps = run.events("gap")[:6]
    assert [gap["samples_lost"] for gap in gaps[:5]] == lost_of
    # The sixth is the halt: the new start's time says for how long nothing came.
    starts = [event for event in faults if event["event"] == "start"]
    assert ticks(gaps[5]["rx_time"]) == starts[1]["ticks"]
    begin, gone = starts[0]["ticks"], 0
    for number, (gap, fault) in enumerate(zip(gaps[:5], breaks)):
        at = fault["position"] - gone
        gone += lost_of[number]
        if number != 4:  # the check of the time comes later than the loss that nothing tells
            assert gap["sample"] == at
        assert gap["sample"] >= at
        assert ticks(gap["rx_time"]) - begin == (gap["sample"] + gone) * 200


@driver
def test_windows_have_the_right_time_and_none_lies_across_a_gap(journey):
    run, faults, _, _ = journey
    starts = [event["ticks"] for event in faults if event["event"] == "start"]
    gaps = [(gap["sample"], ticks(gap["rx_time"])) for gap in run.events("gap")[:6]]
    pieces = [(0, starts[0]), *gaps]
    answered = [one for one in run.answers() if abs(one["rx_freq"] - 433.92e6) < 1]
    assert len(answered) >= 120
    seen = set()
    for one in answered:
        first, end = one["sample_start"], one["sample_start"] + one["sample_count"]
        number = max(k for k, (sample, _) in enumerate(pieces) if sample <= first)
        assert number + 1 == len(pieces) or end <= pieces[number + 1][0]
        assert ticks(one["rx_time"]) == pieces[number][1] + (first - pieces[number][0]) * 200
        seen.add(number)
    assert seen == set(range(7))


@driver
def test_the_watchdog_starts_a_halted_stream_again_and_says_so(journey):
    run, faults, _, summary = journey
    names = [event["event"] for event in run.events() if event["event"] in ("silent", "restart", "resumed")]
    assert names == ["silent", "restart", "resumed"] and summary["restarts"] == 1
    halt = run.events("silent")[0]
    assert halt["after_ms"] >= 400 and run.events("resumed")[0]["sample"] >= halt["sample"]


@driver
def test_frequency_gain_and_rate_change_while_it_runs_and_what_cannot_be_is_refused(journey):
    run, _, status, _ = journey
    assert status["chains"][0]["frequency"] == pytest.approx(868.3e6, abs=1)
    assert status["gain_db"] == 20 and status["chains"][0]["rate"] == 250e3
    refusals = [event["text"] for event in run.events("refused")]
    for words in ("380 to 4420 MHz", "0 to 38 dB", "nearest is 5e+07", "sheep"):
        assert sum(words in text for text in refusals) == 1, refusals
    for earlier, later in pairwise(run.answers()):
        if earlier["rx_freq"] != later["rx_freq"]:
            assert earlier["sample_start"] + earlier["sample_count"] <= later["sample_start"]
    assert {one["rx_rate"] for one in run.answers()} == {RATE, 250e3}
    before = max((one for one in run.answers() if one["rx_rate"] == RATE), key=lambda one: one["sample_start"])
    assert before["time_s"] == pytest.approx(before["sample_start"] / RATE)
    for one in [one for one in run.answers() if one["rx_rate"] == 250e3]:
        passed = (ticks(one["rx_time"]) - ticks(before["rx_time"])) / 100e6
        assert one["time_s"] - before["time_s"] == pytest.approx(passed, abs=5e-3)
    assert all(gap["samples_lost"] >= 0 for gap in run.events("gap"))


@driver
def test_every_line_parses_and_the_counts_add_up(journey):
    run, _, _, summary = journey
    for one in run.answers():
        assert one["modulation"]["label"] and 0 < one["modulation"]["confidence"] <= 1
        assert one["sample_count"] <= 1024 and one["latency_ms"] >= 0 and "snr_db" in one and "time_s" in one
    assert summary["windows_seen"] == sum(summary["windows_" + kind] for kind in ("inferred", "skipped", "gated"))
    assert len(run.answers()) == summary["windows_inferred"] + summary["windows_gated"]
    assert summary["gaps"] >= 8  # six on the line, a new frequency, a new rate
    assert summary["samples_lost"] >= 3 * 5000 + 19 * 363 and summary["reopenings"] == 0


@driver
@pytest.mark.parametrize("how", ["answers nothing", "sends fail", "driver aborts"])
def test_a_device_that_goes_is_told_looked_for_and_received_from_again(small_weights, tmp_path, how):
    from emind.storage.parquet import Reader

    with Emulator() as device, Live("--args", device.arguments, "--weights", small_weights, *QUICK,
                                    "--record", tmp_path / "take", "--freq", 915e6) as run:
        process = run.until_event("opened", within=START_S)["process"]
        run.until_answers(30)
        run.say(freq=868.3e6)
        last = run.until(lambda told: "event" not in told and told["rx_freq"] < 900e6)
        if how == "driver aborts":
            os.kill(process, signal.SIGABRT)
            assert "took its process down" in run.until_event("lost")["text"]
        else:
            device.unplug(refuse=how == "sends fail")
            run.say(freq=868.4e6)  # where sends fail, a setting that was not thought over would abort the process
            assert "does not answer" in run.until_event("lost")["text"]
            device.plug_in()
        run.until_event("reopened", within=START_S)
        behind = run.until_answers(30)
        status = device.status()
        summary = run.finish()
    assert run.process.returncode == 0 and summary["reopenings"] == 1
    assert status["chains"][0]["frequency"] == pytest.approx(868.3e6, abs=1)  # the newest that was in force
    assert behind["sample_start"] > last["sample_start"] and behind["rx_freq"] == pytest.approx(868.3e6, abs=1)
    starts = [one["sample_start"] for one in run.answers()]
    assert starts == sorted(set(starts))
    files = summary["recording"]["files"]
    assert len(files) == 2 or (how == "driver aborts" and files)  # an abort may cost the last second
    assert not list(tmp_path.glob("*.part"))
    kept = sum(len(row.iq) for file in files for row in Reader(file))
    assert 0 < kept <= summary["samples"] and summary["recording"]["error"] == ""


@driver
def test_a_device_that_another_program_has_taken_is_said_and_not_fought_over_for_ever(small_weights):
    with Emulator() as device, Live("--args", device.arguments, "--weights", small_weights, *QUICK) as run:
        run.until_event("opened", within=START_S)
        run.until_answers(10)
        for _ in range(2):
            with Receiver(device.arguments) as other:
                other.until(1000)
                assert "another program" in run.until_event("lost", within=START_S)["text"]
                if run.events("reopened"):
                    break
            run.until_event("reopened", within=START_S)
            run.until_answers(10)
        summary = run.finish(stop=False)
    assert [event["event"] for event in run.events()].count("restart") == 10 == summary["restarts"]
    assert run.process.returncode == 1 and summary["reopenings"] == 1
    error, = [line for line in run.stderr if line.startswith("emind: error:")]
    assert "another program may be using it" in error and len(run.events("resumed")) == 0


@driver
def test_two_channels_are_answered_apart(small_weights):
    with Emulator() as device, Live("--args", device.arguments, "--weights", small_weights, *QUICK,
                                    "--subdev", "A:0 A:0", "--channels", "0,1") as run:
        run.until_event("opened", within=START_S)
        for channel in (0, 1):
            run.until(lambda told, channel=channel: told.get("channel") == channel, 10)
        run.finish()
    # When sample 0 was received, by each answer. Which windows are answered is up to the machine's load.
    begun = {channel: {ticks(one["rx_time"]) - round(one["sample_start"] * 100e6 / RATE) for one in run.answers()
                       if one["channel"] == channel} for channel in (0, 1)}
    assert len(begun[0]) == 1 and begun[0] == begun[1]


@driver
def test_automatic_gain_brings_the_level_up_and_leaves_it_there(small_weights):
    scene = 'scene:{"emitters": [{"frequency": 434e6, "level_db": -45}], "noise_db": -80}'
    with Emulator(scene) as device, Live("--args", device.arguments, "--weights", small_weights, *QUICK, "--gain",
                                         "auto", "--freq", 433.92e6) as run:
        run.until_event("opened", within=START_S)
        reached = run.until(lambda told: told.get("event") == "gain" and told["gain"] > 24)
        status = device.wait_for(samples_sent=device.status()["chains"][0]["samples_sent"] + RATE // 2)
        run.finish()
    assert 25 <= status["gain_db"] <= 38 and reached["gain"] <= status["gain_db"] + 6


@pytest.mark.parametrize("arguments, words", [
    (("--args", "type=usrp2,addr=127.0.0.77"), "no USRP at type=usrp2,addr=127.0.0.77"),
    (("--soapy", "nosuchdriver"), "no SoapySDR device driver=nosuchdriver"),
], ids=["address", "soapy"])
@driver
def test_an_absent_device_is_one_line(small_weights, arguments, words):
    done = run_once("live", *arguments, "--weights", small_weights, "--backend", "torch-float32")
    errors = [line for line in done.stderr.splitlines() if line.startswith("emind:")]
    assert done.returncode == 1 and len(errors) == 1 and words in errors[0] and "Traceback" not in done.stderr


ASK_FOR = """
import json, os, sys
from emind.commands.live_source import Refused, open_source
for settings in json.loads(sys.argv[1]):
    try:
        open_source(settings)
        print("taken")
    except Refused as fault:
        print(fault, flush=True)
os._exit(0)
"""


@driver
def test_what_the_device_cannot_do_is_one_line_that_says_what_it_can():
    standard = {"kind": "uhd", "rate": 1e6, "freq": 433.92e6, "gain": None, "antenna": None, "subdev": None,
                "rf_bandwidth": None, "clock_source": None, "time_source": None, "channels": [0]}
    asked = [({"rate": 77e6}, "nearest is 5e+07"), ({"rate": 1000.0}, "nearest is 195312"),
             ({"freq": 5.9e9}, "outside of what this board receives: 380 to 4420 MHz"), ({"gain": 99.0}, "0 to 38 dB"),
             ({"antenna": "ROOF"}, "TX/RX, RX2, CAL"), ({"subdev": "Q:9"}, "--subdev Q:9"),
             ({"clock_source": "sun"}, "--clock-source sun")]
    with Emulator() as device:
        cases = [standard | {"args": device.arguments} | one for one, _ in asked]
        done = subprocess.run([sys.executable, "-c", ASK_FOR, json.dumps(cases)], capture_output=True, text=True,
                              timeout=60, env={**os.environ, "UHD_LOG_CONSOLE_LEVEL": "off"})
    lines = [line for line in done.stdout.splitlines() if not line.startswith("usrp_source")]
    told = [line for line in lines if line]
    assert len(told) == len(asked), done.stdout + done.stderr
    for line, (one, words) in zip(told, asked):
        assert words in line, (one, line)


@driver
@pytest.mark.slow
def test_a_minute_at_a_million_samples_a_second_with_every_tag_at_its_time(small_weights):
    overflows = 12
    with Emulator() as device, Live("--args", "addr=127.0.0.1", "--rate", 1e6, "--weights", small_weights,
                                    "--duration", 60) as run:
        run.until_event("opened", within=START_S)
        for number in range(overflows):
            device.overflow(at=(number + 1) * 4_500_000, samples=1000 + number)
        summary = run.finish(stop=False, within=120)
        faults = events_of(device, "start", "overflow")
    assert run.process.returncode == 0 and summary["seconds"] >= 60 and summary["samples"] >= 50e6
    assert [event["mark"] for event in run.events("overflow")] == ["O"] * overflows
    pieces, gone = [(0, faults[0]["ticks"])], 0
    for number, (gap, fault) in enumerate(zip(run.events("gap"), faults[1:])):
        assert gap["samples_lost"] == 1000 + number and gap["sample"] == fault["position"] - gone
        assert ticks(gap["rx_time"]) == fault["ticks_after"]
        gone += 1000 + number
        pieces.append((gap["sample"], fault["ticks_after"]))
    assert len(pieces) == 1 + overflows == 1 + summary["gaps"]
    assert len(run.answers()) == summary["windows_inferred"] > 1000
    for one in run.answers():
        first, end = one["sample_start"], one["sample_start"] + one["sample_count"]
        number = max(k for k, (sample, _) in enumerate(pieces) if sample <= first)
        assert number == overflows or end <= pieces[number + 1][0]
        assert ticks(one["rx_time"]) == pieces[number][1] + (first - pieces[number][0]) * 100
    # All that is said here was asserted above, or is a measurement; -s shows it.
    print(f"\n{summary['seconds']:.1f} s at {summary['samples'] / summary['seconds'] / 1e6:.2f} MS/s; "
          f"{summary['windows_seen']:,} windows, {len(run.answers()):,} answered, each at the device's rx_time to the "
          f"tick, none across one of {summary['gaps']} gaps; {overflows} overflows injected, "
          f"{len(run.events('overflow'))} told; latency {summary['latency_ms_p50']:.0f} ms (half), "
          f"{summary['latency_ms_p99']:.0f} ms (99 of 100)")
