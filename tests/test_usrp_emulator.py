"""The emulated N210 against the real driver: found, opened, streaming, tuned, and failing on demand.

The driver runs in processes of its own with time limits, since it may hang or abort.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess

import numpy as np
import pytest
from usrp_emulator import Emulator
from usrp_emulator.receiver import Receiver, ReceiverError

if importlib.util.find_spec("gnuradio") is None or importlib.util.find_spec("gnuradio.uhd") is None:
    pytest.skip("gnuradio.uhd is not installed", allow_module_level=True)

PACKET = 363  # samples


def positions(x: np.ndarray) -> np.ndarray:
    """The position that each sample of the `counter` source tells."""
    return np.rint(x.real * 32767).astype(int) | np.rint(x.imag * 32767).astype(int) << 15


def ticks(rx_time) -> int:
    return round(rx_time[0] * 100e6) + round(rx_time[1] * 100e6)


def tagged(tags, key: str) -> list[tuple[int, object]]:
    return [(sample, value) for sample, k, value in tags if k == key]


def events(device: Emulator, name: str) -> list[dict]:
    return [event for event in device.status()["events"] if event["event"] == name]


def fast_marks(log: str) -> str:
    """The single letters that the driver prints while streaming: O an overflow, D packets out of sequence."""
    return "".join(re.findall(r"^[OD]+(?=usrp_source|$)", log, re.MULTILINE))


def tool(name: str, arguments: str) -> str:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed (Debian: uhd-host)")
    run = subprocess.run([program, "--args", arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_distribution_s_tools_find_and_probe_it():
    with Emulator():
        found = tool("uhd_find_devices", "addr=127.0.0.1")
        probed = tool("uhd_usrp_probe", "addr=127.0.0.1")
    assert found.count("UHD Device") == 1 and "serial: E0000001" in found
    for line in ("Mboard: N210r4", "ID: SBX (0x0054)", "FPGA Version: 11.1", "Freq range: 400.000 to 4400.000 MHz"):
        assert line in probed


def test_samples_arrive_unchanged_with_time_rate_and_frequency_at_the_first():
    sent = np.random.default_rng(3).integers(-32767, 32768, (50_000, 2), dtype=np.int16)
    with Emulator(sent) as device, Receiver(device.arguments, rate=1e6, frequency=915e6) as radio:
        assert radio.until(200_000) >= 200_000
        x, tags, overflows = radio.collect()
        start, = events(device, "start")
        status = device.status()["chains"][0]
    pairs = np.stack([x.real, x.imag], 1) * 32767
    expected = sent[np.arange(len(x)) % len(sent)]
    assert np.array_equal(np.rint(pairs), expected)
    assert np.abs(pairs - expected).max() < 0.2  # the driver's scale, not only its order
    assert [t[:2] for t in tags] == [(0, "rx_time"), (0, "rx_rate"), (0, "rx_freq")] and not overflows
    assert ticks(tags[0][2]) == start["ticks"]
    assert tags[1][2] == 1e6 and tags[2][2] == pytest.approx(915e6, abs=1)
    assert status["samples_sent"] >= len(x) and status["samples_lost"] == 0 and not status["streaming"]


def test_the_amplitude_holds_at_every_kind_of_decimation():
    with Emulator(np.full(1000, 0.5 - 0.25j)) as device, \
            Receiver(device.arguments, start=False) as radio:
        for decimation in (500, 112, 100, 28, 25):
            radio.ask("call", name="set_samp_rate", arguments=[100e6 / decimation])
            x = radio.acquire(2000)
            assert device.status()["chains"][0]["decimation"] == decimation
            assert len(x) == 2000 and np.abs(x - (0.5 - 0.25j)).max() < 1e-4


def test_frequency_gain_and_antenna_reach_the_registers_and_the_tags():
    with Emulator() as device, Receiver(device.arguments, frequency=915e6, gain=10) as radio:
        status = device.status()
        assert status["chains"][0]["frequency"] == pytest.approx(915e6, abs=1) and status["gain_db"] == 10
        settings = (433.92e6, 25.5, "TX/RX"), (2.4501234e9, 37.25, "CAL"), (868.3e6, 0, "RX2")
        for number, (frequency, gain, antenna) in enumerate(settings):
            radio.until_tag("rx_freq", number + 1)
            radio.ask("call", name="set_center_freq", arguments=[frequency])
            radio.ask("call", name="set_gain", arguments=[gain])
            radio.ask("call", name="set_antenna", arguments=[antenna])
            told = radio.ask("settings")  # by a read of the time: all that was written before is done
            status = device.status()
            assert status["chains"][0]["frequency"] == pytest.approx(frequency, abs=1)
            assert told["frequency"] == pytest.approx(frequency, abs=1)
            assert (status["gain_db"], status["antenna"]) == (pytest.approx(gain), antenna)
        radio.until_tag("rx_freq", 4)
        _, tags, _ = radio.collect()
    assert [f for _, f in tagged(tags, "rx_freq")] == pytest.approx([915e6, 433.92e6, 2.4501234e9, 868.3e6], abs=1)


def test_an_overflow_is_told_once_and_time_goes_on_at_the_right_sample():
    with Emulator() as device:
        device.overflow(at=100_000, samples=5000)
        with Receiver(device.arguments) as radio:
            radio.until(150_000)
            x, tags, overflows = radio.collect()
            log = radio.log
        overflow, = events(device, "overflow")
    assert overflows == [1]
    assert fast_marks(log) == "O"
    first = overflow["position"]
    assert 100_000 <= first < 100_000 + PACKET
    assert [sample for sample, _ in tagged(tags, "rx_time")] == [0, first]
    (_, begin), (_, again) = tagged(tags, "rx_time")
    assert ticks(again) - ticks(begin) == (first + 5000) * 100 == overflow["ticks_after"] - ticks(begin)
    expected = np.arange(len(x))
    expected[first:] += 5000
    assert np.array_equal(positions(x), expected)


def test_a_command_message_tunes_and_tags_where_it_asks_for_a_tag():
    with Emulator() as device, Receiver(device.arguments, frequency=915e6) as radio:
        radio.until_tag("rx_freq", 1)
        radio.ask("command", freq=868.3e6, gain=20.0, tag=1)
        radio.until_tag("rx_freq", 2)
        status = device.status()
        _, tags, _ = radio.collect()
    assert status["chains"][0]["frequency"] == pytest.approx(868.3e6, abs=1) and status["gain_db"] == 20
    assert [f for _, f in tagged(tags, "rx_freq")] == pytest.approx([915e6, 868.3e6], abs=1)


def test_a_new_rate_is_set_and_told():
    with Emulator() as device, Receiver(device.arguments, rate=1e6) as radio:
        radio.until(20_000)
        radio.ask("call", name="set_samp_rate", arguments=[2e6])
        radio.until_tag("rx_rate", 2)
        radio.until(100_000)
        status = device.status()["chains"][0]
        x, tags, overflows = radio.collect()
    assert status["rate"] == 2e6 and status["decimation"] == 50 and not overflows
    (_, slow), (sample, fast) = tagged(tags, "rx_rate")
    assert (slow, fast) == (1e6, 2e6) and sample >= 20_000
    restart, = np.flatnonzero(np.diff(positions(x)) != 1)  # the emulator counts anew from the change on
    assert positions(x)[restart + 1] == 0


def test_sixteen_lost_packets_show_in_the_time_only_and_three_are_noticed():
    with Emulator() as device:
        device.lose(packets=16, at=50_000)
        with Receiver(device.arguments) as radio:
            radio.until(70_000)
            radio.ask("command", tag=1)  # the source tags the next sample with its time
            radio.until_tag("rx_time", 2)
            quiet = radio.log
            device.lose(packets=3)
            radio.until_tag("rx_time", 3)
            x, tags, overflows = radio.collect()
            log = radio.log
        missed = [event["position"] for event in events(device, "loss")]
    assert fast_marks(quiet) == "" and fast_marks(log) == "D" and overflows == [1]
    (_, begin), (asked, later), (noticed, last) = tagged(tags, "rx_time")
    assert missed[0] < asked < noticed
    assert ticks(later) - ticks(begin) == (asked + 16 * PACKET) * 100
    assert ticks(last) - ticks(begin) == (noticed + 19 * PACKET) * 100
    expected = np.arange(len(x))
    expected[missed[0]:] += 16 * PACKET
    expected[noticed:] += 3 * PACKET
    assert np.array_equal(positions(x), expected)


@pytest.mark.parametrize("reported", [True, False])
def test_a_halted_stream_stays_silent_until_it_is_started_again(reported):
    with Emulator() as device:
        if reported:
            device.overflow(at=20_000, halt=True)
        else:
            device.silence(at=20_000)
        with Receiver(device.arguments) as radio:
            halt = radio.until(20_000 + PACKET, within=1.0)
            status = device.status()["chains"][0]
            assert status["halted"] and not status["streaming"] and 20_000 <= halt < 20_000 + PACKET
            radio.ask("restart")
            radio.until_tag("rx_time", 2)
            radio.until(40_000)
            x, tags, _ = radio.collect()
            log = radio.log
        starts = events(device, "start")
    assert fast_marks(log) == ("O" if reported else "")
    assert [(sample, ticks(t)) for sample, t in tagged(tags, "rx_time")] == \
        [(0, starts[0]["ticks"]), (halt, starts[1]["ticks"])]
    assert np.array_equal(positions(x), np.r_[0:halt, 0:len(x) - halt])


def test_the_device_goes_without_a_crash_and_comes_back_when_opened_again():
    with Emulator() as device, Receiver(device.arguments) as radio:
        radio.until(20_000)
        device.unplug()
        held = radio.until(10_000_000, within=0.5)
        assert radio.until(held + 1, within=0.5) == held  # nothing comes, and the flowgraph lives
        device.plug_in()
        assert radio.until(held + 1, within=0.5) == held  # it has forgotten that it was streaming
        before, _, _ = radio.collect()
        radio.ask("close")
        radio.ask("open", arguments=device.arguments, rate=2e6, frequency=433e6, gain=5)
        radio.ask("start")
        radio.until(20_000)
        status = device.status()
        x, tags, _ = radio.collect()
        assert radio.alive
    assert np.array_equal(positions(before), np.arange(held))
    assert np.array_equal(positions(x), np.arange(len(x))) and tagged(tags, "rx_rate") == [(0, 2e6)]
    assert status["chains"][0]["frequency"] == pytest.approx(433e6, abs=1) and status["gain_db"] == 5


def test_a_cable_out_for_a_moment_costs_samples_but_not_the_stream():
    with Emulator() as device, Receiver(device.arguments) as radio:
        radio.until(20_000)
        device.unplug()
        held = radio.until(10_000_000, within=0.3)
        device.plug_in(switched_off=False)
        radio.until(held + 50_000)
        x, _, _ = radio.collect()
    told = positions(x)
    jump, = np.flatnonzero(np.diff(told) != 1)
    assert jump + 1 == held and (told[held] - held) % PACKET == 0 and told[held] - held > 0


def test_an_absent_device_is_not_found():
    with Emulator() as device:
        device.unplug()
        with pytest.raises(ReceiverError, match="No devices found"), Receiver(device.arguments):
            pass
