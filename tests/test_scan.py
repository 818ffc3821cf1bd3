"""`emind scan`: what is found in a band, and where, by itself and with the real driver on an emulated N210."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from emind.commands import scan
from emind.commands.scan import merged, plan_steps
from emind.contract.errors import UsageError
from emind.dsp.band import Band, TuningPlan, plan_tuning
from emind.dsp.occupancy import find_signals, tuned
from live_run import START_S, Live, driver, run_once
from usrp_emulator import Emitter, Emulator, Scene, Tuning

EMITTERS = [
    {"frequency": 433.92e6, "kind": "2fsk", "level_db": -40, "symbol_rate": 50e3, "on": 0.02, "off": 0.03},
    {"frequency": 434.2e6, "kind": "qpsk", "level_db": -45, "symbol_rate": 60e3},
    {"frequency": 435.1e6, "kind": "bpsk", "level_db": -45, "symbol_rate": 40e3},
    {"frequency": 868.3e6, "kind": "qpsk", "level_db": -40, "symbol_rate": 50e3},
]


def noise(count: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((count, 2)) @ [1, 1j]).astype(np.complex64)


def near(signals: list[dict], frequency: float) -> list[dict]:
    return [one for one in signals if abs(one["freq"] - frequency) < 10e3]


@pytest.mark.parametrize("dwell_s", [0.25, 120.0])
def test_a_long_dwell_is_no_driver_that_hangs(monkeypatch, dwell_s):
    """A step without a word as long as its tries may take is waited for, and a minute longer."""
    now = [0.0]

    class Silent:
        def get(self, timeout):
            now[0] += 1.0
            raise scan.Empty

    class NoChild:
        def __init__(self, settings, inbox):
            pass

        def close(self):
            pass

    monkeypatch.setattr(scan, "Child", NoChild)
    monkeypatch.setattr(scan.time, "monotonic", lambda: now[0])
    settings = {"dwell_s": dwell_s, "settle_s": 0.01, "tries": 4, "steps": [1e9]}
    _, _, fault = scan._receive(settings, Silent(), None, True)
    assert "driver hangs" in str(fault) and now[0] == pytest.approx(4 * (3 * dwell_s + 2.01) + 60, abs=2)


def test_signals_are_found_at_their_frequency_width_strength_and_share_of_time():
    scene = Scene([Emitter(**one) for one in EMITTERS[:2]] + [Emitter(434.38e6, level_db=-60)], noise_db=-60)
    x = scene(0, 1 << 18, Tuning(434e6, 1e6, 0.0, 0))
    burst, steady, tone = find_signals(x.astype(np.complex64), 1e6)
    assert 434e6 + burst.band.center == pytest.approx(433.92e6, abs=5e3)
    assert burst.occupancy == pytest.approx(0.4, abs=0.05) and 50e3 < burst.band.width < 120e3
    # The level over the noise in the signal's own band: 20 dB against all of it, and it fills some 8 %.
    assert burst.snr_db == pytest.approx(20 + 10 * np.log10(1e6 / burst.band.width), abs=1.5)
    assert 434e6 + steady.band.center == pytest.approx(434.2e6, abs=3e3)
    assert steady.occupancy > 0.98 and 55e3 < steady.band.width < 85e3
    assert 434e6 + tone.band.center == pytest.approx(434.38e6, abs=1e3) and tone.band.width < 5e3


@pytest.mark.parametrize("count", [16 * 1024, 100_000])
def test_noise_is_no_signal_nor_are_silence_and_the_receiver_s_own_spike(count):
    assert sum(len(find_signals(noise(count, seed), 1e6)) for seed in range(30)) == 0
    assert find_signals(noise(count, 99) + np.float32(3), 1e6) == []
    assert find_signals(np.zeros(count, np.complex64), 1e6) == []


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="fewer"):
        find_signals(noise(16 * 1024 - 1, 1), 1e6)


def test_tuning_keeps_the_signal_and_takes_the_rest_away():
    n = np.arange(100_000)
    wanted, other = np.exp(2j * np.pi * 0.201 * n), np.exp(-2j * np.pi * 0.15 * n)
    plan = plan_tuning(Band(0.19e6, 0.21e6), 1e6, len(n), 1024)
    x = tuned((wanted + other).astype(np.complex64), 1e6, plan)
    assert plan.decimation > 10 and len(x) == pytest.approx(len(n) / plan.decimation, abs=30)
    start = 12  # the filter's first full output stands at the delay's sample
    expected = np.exp(2j * np.pi * 0.001 * plan.decimation * np.arange(len(x)))
    share = np.abs(np.vdot(expected, x)) ** 2 / (np.vdot(x, x).real * len(x))
    assert share > 0.999 and np.mean(np.abs(x[start:]) ** 2) == pytest.approx(1, abs=0.02)
    assert tuned(wanted, 1e6, TuningPlan()) is wanted


def test_steps_cover_a_range_and_a_single_frequency_stands_beside_the_middle():
    assert plan_steps(["100e6"], 1e6) == [100.125e6]
    steps = plan_steps(["100e6:105e6"], 1e6)
    assert steps[0] - 0.4e6 == 100e6 and steps[-1] + 0.4e6 == 105e6
    assert max(np.diff(steps)) <= 0.75e6
    assert plan_steps(["100e6:100.1e6"], 1e6) == [100.05e6]
    assert len(plan_steps(["100e6:101e6:0.1e6", "868e6"], 1e6)) == 4


@pytest.mark.parametrize("where, words", [
    ("fm", "give a frequency"), ("2e6:1e6", "ends below"), ("1e6:9e6:2e6", "leave gaps"), ("-5", "give a frequency"),
    ("1:2:3:4", "give a frequency"), ("1e6:9e9:10", "more than"), ("nan", "give a frequency"), ("1e6:2e6:0", "give a"),
])
def test_a_range_that_is_none_is_one_line(where, words):
    with pytest.raises(UsageError, match=words):
        plan_steps([where], 1e6)


def test_what_two_steps_have_heard_is_told_once():
    def one(freq, step, snr=10.0, width=50e3):
        return {"freq": freq, "step_freq": step, "snr_db": snr, "bandwidth": width}

    found = [one(101e6, 1), one(100e6, 1, 9.0), one(100.01e6, 2, 12.0), one(102e6, 2), one(102.01e6, 2)]
    assert [(signal["freq"], signal["snr_db"]) for signal in merged(found)] == \
        [(100.01e6, 12.0), (101e6, 10.0), (102e6, 10.0), (102.01e6, 10.0)]


def test_wrong_arguments_are_one_line(emind):
    for arguments, words in ((["fm"], "give a frequency"), (["100e6", "--dwell-ms", 0], "--dwell-ms"),
                             (["100e6", "--dwell-ms", 1e6, "--rate", 10e6], "1e+10 samples to be held in memory"),
                             (["100e6", "--gain", "loud"], "decibels"), (["100e6", "--gain", "auto"], "one gain")):
        outcome = emind("scan", *arguments)
        assert outcome.status == 2 and words in outcome.err and len(outcome.err.splitlines()) == 1


@driver
def test_a_scan_finds_the_emitters_of_a_scene_at_their_frequencies(small_weights):
    scene = "scene:" + json.dumps({"emitters": EMITTERS, "noise_db": -75})
    with Emulator(scene) as device:
        done = run_once("scan", "433.4e6:435.4e6", "868.3e6", "--args", device.arguments, "--rate", 1e6, "--json", "-",
                        "--dwell-ms", 150, "--weights", small_weights, "--backend", "torch-float32", "--threads", 1)
        status = device.status()
    assert done.returncode == 0, done.stderr
    signals = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["freq"] for one in signals] == sorted(one["freq"] for one in signals)
    assert len(signals) == len(EMITTERS), signals
    for emitter in EMITTERS:
        one, = near(signals, emitter["frequency"])
        assert one["freq"] == pytest.approx(emitter["frequency"], abs=5e3)
        assert one["occupancy"] == pytest.approx(0.4 if "off" in emitter else 1.0, abs=0.1)
        assert one["snr_db"] > 20 and one["windows"] >= 1 and one["modulation"]["label"]
        assert len(one["rx_time"]) == 2
    assert status["chains"][0]["frequency"] == pytest.approx(868.3e6 + 0.125e6, abs=1)


@driver
def test_no_sample_of_another_frequency_is_taken(small_weights):
    """An emitter that only the first step can hear is loud; the steps behind it, silent, must hear nothing."""
    scene = 'scene:{"emitters": [{"frequency": 500.1e6, "level_db": -25}], "noise_db": -80}'
    with Emulator(scene) as device:
        done = run_once("scan", *["500e6", "600e6"] * 4, "--args", device.arguments, "--json", "-", "--dwell-ms", 20,
                        "--settle-ms", 2, "--weights", small_weights, "--backend", "torch-float32", "--threads", 1)
    assert done.returncode == 0, done.stderr
    signals = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(signals) == 4 and len(near(signals, 500.1e6)) == 4
    assert {one["occupancy"] for one in signals} == {1.0}


@driver
def test_an_overflow_in_a_dwell_costs_that_stretch_only(small_weights):
    scene = 'scene:{"emitters": [{"frequency": 500.1e6, "level_db": -25}], "noise_db": -80}'
    with Emulator(scene) as device:
        for at in (30_000, 150_000):
            device.overflow(at=at, samples=700)
        device.overflow(at=250_000, halt=True)
        done = run_once("scan", "500e6", "--args", device.arguments, "--json", "-", "--dwell-ms", 200,
                        "--weights", small_weights, "--backend", "torch-float32", "--threads", 1)
        status = device.status()["chains"][0]
    assert done.returncode == 0, done.stderr
    one, = [json.loads(line) for line in done.stdout.splitlines()]
    assert one["freq"] == pytest.approx(500.1e6, abs=1e3) and one["occupancy"] == 1.0
    assert status["overflows"] == 3 and status["starts"] == 2


@driver
def test_a_device_that_goes_in_the_middle_costs_what_was_not_heard_yet(small_weights, tmp_path):
    scene = 'scene:{"emitters": [{"frequency": 500.1e6, "level_db": -25}], "noise_db": -80}'
    arguments = ("500e6", *["600e6"] * 200, "--dwell-ms", 50, "--weights", small_weights, "--backend", "torch-float32",
                 "--threads", 1, "--quiet")
    with Emulator(scene) as device, Live(*arguments, "--args", device.arguments, command="scan") as run:
        end = time.monotonic() + START_S
        while abs(device.status()["chains"][0]["frequency"] - 600.125e6) > 1 and time.monotonic() < end:
            device.wait_for(samples_sent=device.status()["chains"][0]["samples_sent"] + 10_000, within=START_S)
        device.unplug()
        one = run.until(lambda told: True, within=START_S)
        assert run.process.wait(30) == 1
    assert one["freq"] == pytest.approx(500.1e6, abs=5e3)
    error, = [line for line in run.stderr if line.startswith("emind: error:")]
    assert "the device has gone" in error or "does not answer" in error, run.stderr


@driver
def test_an_absent_device_and_a_frequency_out_of_range_are_one_line(small_weights):
    settings = ("--weights", small_weights, "--backend", "torch-float32", "--quiet")
    absent = run_once("scan", "433e6", "--args", "type=usrp2,addr=127.0.0.77", *settings)
    with Emulator() as device:
        outside = run_once("scan", "433e6", "9e9", "--args", device.arguments, *settings)
        status = device.status()["chains"][0]
    assert status["starts"] == 0  # said before anything was listened to
    for done, words in ((absent, "no USRP at"), (outside, "380 to 4420 MHz")):
        assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
