"""The emulated N210 against the real driver: found, opened, streaming, tuned, and failing on demand.

The driver runs in processes of its own with time limits, since it may hang or abort.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import struct
import subprocess

import numpy as np
import pytest
from usrp_emulator import Emitter, Emulator, EmulatorError, Scene, Tuning
from usrp_emulator.bench import Bench
from usrp_emulator.clock import Clock
from usrp_emulator.receiver import Receiver, ReceiverError
from usrp_emulator.sources import counter, named

driver = pytest.mark.skipif(
    importlib.util.find_spec("gnuradio") is None or importlib.util.find_spec("gnuradio.uhd") is None,
    reason="gnuradio.uhd is not installed")
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


@driver
def test_the_distribution_s_tools_find_and_probe_it():
    with Emulator():
        found = tool("uhd_find_devices", "addr=127.0.0.1")
        probed = tool("uhd_usrp_probe", "addr=127.0.0.1")
    assert found.count("UHD Device") == 1 and "serial: E0000001" in found
    for line in ("Mboard: N210r4", "ID: SBX (0x0054)", "FPGA Version: 11.1", "Freq range: 400.000 to 4400.000 MHz"):
        assert line in probed


@driver
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


@driver
def test_the_amplitude_holds_at_every_kind_of_decimation():
    with Emulator(np.full(1000, 0.5 - 0.25j)) as device, \
            Receiver(device.arguments, start=False) as radio:
        for decimation in (500, 112, 100, 28, 25):
            radio.ask("call", name="set_samp_rate", arguments=[100e6 / decimation])
            x = radio.acquire(2000)
            assert device.status()["chains"][0]["decimation"] == decimation
            assert len(x) == 2000 and np.abs(x - (0.5 - 0.25j)).max() < 1e-4


@driver
def test_settings_by_call_and_by_message_reach_the_registers_and_the_tags():
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
        radio.ask("command", freq=2.44e9, gain=20.0, tag=1)  # a message to the block; without `tag` it tags nothing
        radio.until_tag("rx_freq", 5)
        status = device.status()
        assert status["chains"][0]["frequency"] == pytest.approx(2.44e9, abs=1) and status["gain_db"] == 20
        _, tags, _ = radio.collect()
    told = [frequency for _, frequency in tagged(tags, "rx_freq")]
    assert told == pytest.approx([915e6, 433.92e6, 2.4501234e9, 868.3e6, 2.44e9], abs=1)


@driver
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


@driver
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


@driver
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


@driver
@pytest.mark.parametrize("reported", [True, False])
def test_a_halted_stream_stays_silent_until_it_is_started_again(reported):
    with Emulator() as device:
        if reported:
            device.overflow(at=20_000, halt=True)
        else:
            device.silence(at=20_000)
        with Receiver(device.arguments) as radio:
            status = device.wait_for(halted=True)["chains"][0]
            halt = events(device, "overflow" if reported else "silence")[0]["position"]
            assert not status["streaming"] and 20_000 <= halt < 20_000 + PACKET
            assert radio.until(halt) == radio.until(halt + 1, within=0.3) == halt
            radio.ask("restart")
            device.wait_for(starts=2)
            radio.until_tag("rx_time", 2)
            radio.until(40_000)
            x, tags, _ = radio.collect()
            log = radio.log
        starts = events(device, "start")
    assert fast_marks(log) == ("O" if reported else "")
    assert [(sample, ticks(t)) for sample, t in tagged(tags, "rx_time")] == \
        [(0, starts[0]["ticks"]), (halt, starts[1]["ticks"])]
    assert np.array_equal(positions(x), np.r_[0:halt, 0:len(x) - halt])


@driver
def test_the_device_goes_without_a_crash_and_comes_back_when_opened_again():
    with Emulator() as device, Receiver(device.arguments) as radio:
        radio.until(20_000)
        device.unplug()
        held = radio.until(10_000_000, within=0.3)
        assert radio.until(held + 1, within=0.2) == held  # nothing comes, and the flowgraph lives
        device.plug_in()
        assert radio.until(held + 1, within=0.2) == held  # it has forgotten that it was streaming
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


@driver
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


@driver
def test_an_absent_device_is_not_found():
    with Emulator() as device:
        device.unplug()
        with pytest.raises(ReceiverError, match="No devices found"), Receiver(device.arguments):
            pass


@driver
def test_a_second_process_takes_the_device_and_leaves_the_first_silent():
    with Emulator() as device, Receiver(device.arguments) as radio:
        radio.until(20_000)
        with Receiver(device.arguments) as other:  # this driver does not see that an N210 is in use
            other.until(20_000)
            held = radio.until(10_000_000, within=0.2)
            assert radio.until(held + 1, within=0.2) == held
            assert other.until(100_000) >= 100_000


@driver
def test_two_channels_of_one_board_come_with_the_same_samples_and_times():
    with Emulator() as device, Receiver(device.arguments, subdevice="A:0 A:0", channels=2) as radio:
        radio.until(30_000)
        first, first_tags, _ = radio.collect(0)
        second, second_tags, _ = radio.collect(1)
        assert [chain["starts"] for chain in device.status()["chains"]] == [1, 1]
    count = min(len(first), len(second))
    assert count >= 30_000 and np.array_equal(first[:count], second[:count])
    assert tagged(first_tags, "rx_time") == tagged(second_tags, "rx_time") != []


# --- without the driver --------------------------------------------------------------------------------------------


def test_a_burst_of_counted_samples_starts_on_time_and_ends_marked():
    bench = Bench()
    bench.command(250, at=1000)
    bench.run(9)
    assert not bench.packets
    bench.run(500)
    assert bench.sent() == [(0, 1000, 100, False), (1, 11_000, 100, False), (2, 21_000, 50, True)]
    assert not bench.errors() and bench.chain.active is None


def test_a_command_for_the_past_is_reported_late_and_a_chain_that_is_not_continued_broken():
    bench = Bench()
    bench.run(10)
    bench.command(250, at=5)
    assert bench.errors() == [2] and not bench.sent()
    bench.command(0xC0000000 | 100)  # now, and more to follow
    bench.run(200)
    assert bench.errors() == [2, 4] and [p[2] for p in bench.sent()] == [100]


def test_counted_samples_in_a_chain_follow_each_other_without_a_gap():
    bench = Bench()
    bench.command(0xC0000000 | 150)
    bench.command(0x80000000 | 50)
    bench.run(400)
    assert [p[1:] for p in bench.sent()] == [(0, 100, False), (10_000, 50, False), (15_000, 50, True)]
    assert not bench.errors()


def test_time_is_set_at_once_or_at_the_next_pulse():
    now = [5_300_000_000]
    clock = Clock(lambda: now[0])
    assert clock.ticks(clock.raw()) == 0
    clock.set(700, at_next_pulse=False)
    clock.set(0, at_next_pulse=True)
    now[0] = 5_999_999_990
    assert clock.ticks(clock.raw()) == 700 + 69_999_999
    now[0] = 6_000_000_010
    assert clock.ticks(clock.raw()) == 1 and clock.last_pulse() == 0
    now[0] = 8_500_000_000
    assert clock.last_pulse() == 200_000_000


def test_a_scene_is_heard_where_the_receiver_is_tuned():
    scene = Scene([Emitter(433.92e6, level_db=-30), Emitter(434.5e6, "qpsk", level_db=-30)], noise_db=-90)

    def peak(frequency: float, gain: float) -> tuple[float, float]:
        x = scene(scene.length - 5000, 10_000, Tuning(frequency, 1e6, gain, 0))  # over the joint of the loop
        spectrum = np.abs(np.fft.fft(x * np.hanning(len(x)))) / (len(x) / 2)
        return np.fft.fftfreq(len(x), 1e-6)[spectrum.argmax()], 20 * np.log10(spectrum.max())

    assert peak(434.0e6, 0) == (pytest.approx(-80e3, abs=110), pytest.approx(-30, abs=0.5))
    assert peak(433.8e6, 20) == (pytest.approx(120e3, abs=110), pytest.approx(-10, abs=0.5))
    assert peak(868e6, 0)[1] < -80


def test_a_scene_s_signals_repeat_and_its_noise_does_not():
    scene = Scene([Emitter(433.92e6, "bpsk", level_db=-30)], noise_db=-60)
    tuning = Tuning(433.92e6, 1e6, 0, 0)
    for passes in (1, 7):
        first, later = scene(4321, 1024, tuning), scene(4321 + passes * scene.length, 1024, tuning)
        assert np.abs(first - later).min() > 0  # `emind-train dataset check` refuses copies
        assert np.mean(np.abs(first - later) ** 2) == pytest.approx(2 * 10 ** -6, rel=0.2)  # twice the noise


def test_one_address_holds_one_emulator_and_the_next_waits_its_turn():
    with Emulator(address="127.0.0.2") as first, Emulator(address="127.0.0.3") as other:
        with pytest.raises(EmulatorError, match="hold its address"):
            Emulator(address="127.0.0.2", wait_for_start=0.7).__enter__()
        assert first.status()["present"] and other.status()["present"]
    with Emulator(address="127.0.0.2") as next_one:
        assert next_one.status()["present"]


def test_a_foreign_program_on_its_ports_and_a_wrong_request_are_named(capfd):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.bind(("127.0.0.4", 49156))
        with pytest.raises(EmulatorError, match="status 1"):
            Emulator(address="127.0.0.4").__enter__()
    assert "cannot stand at 127.0.0.4 port 49156: Address already in use" in capfd.readouterr().err
    with Emulator(address="127.0.0.4") as device:
        for request, message in (({"do": "fault", "kind": "fire"}, "no fault named 'fire'"),
                                 ({"do": "fault", "kind": "overflow", "samples": -1}, "must not be negative"),
                                 ({"do": "wait", "within": 1, "sheep": 3}, "no count named sheep"),
                                 ({"do": "dance"}, "cannot 'dance'")):
            with pytest.raises(EmulatorError, match=message):
                device.ask(**request)
        with pytest.raises(TimeoutError, match="starts"):
            device.wait_for(starts=1, within=0.05)
        assert device.status()["present"]


def test_requests_and_absence_as_a_program_without_the_driver_sees_them():
    def request(kind: bytes, length: int = 36, union: bytes = b"", version: int = 12) -> bytes:
        return struct.pack(">III24s", version, kind[0], 77, union).ljust(length, b"\0")

    with Emulator(address="127.0.0.5") as device, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as radio:
        radio.connect(("127.0.0.5", 49152))
        radio.settimeout(5)

        def ask(packet: bytes) -> tuple[int, bytes, int, bytes]:
            radio.send(packet)
            reply = radio.recv(2000)
            version, kind, sequence = struct.unpack_from(">III", reply)
            return version, bytes([kind]), sequence, reply[12:]

        radio.send(b"short")  # another series' discovery: no answer, so the next one belongs to the next request
        assert ask(request(b"a"))[:3] == (12, b"A", 77)
        assert ask(request(b"a"))[3][:4] == bytes([127, 0, 0, 5])
        assert ask(request(b"r", version=99))[1] == b"A"  # a driver of another protocol learns which this one has
        version, kind, _, union = ask(request(b"l", 1000, struct.pack(">I", 600)))
        assert kind == b"L" and len(union) == 588 and union[:4] == struct.pack(">I", 1000)
        ask(request(b"h", union=bytes([0x50, 1, 12])))
        assert ask(request(b"i", union=bytes([0x50, 4])))[3][:6] == bytes([0x50, 4, 127, 0, 0, 5])
        assert ask(request(b"r", union=struct.pack(">IIB", 0x5C00 + 48, 0, 1)))[3][4:8] == bytes([0, 11, 0, 1])
        device.unplug()
        radio.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(request(b"a"))
        device.unplug(refuse=True)
        with pytest.raises(ConnectionRefusedError):
            ask(request(b"a"))
        device.plug_in()
        radio.settimeout(5)
        assert ask(request(b"a"))[1] == b"A"


def test_a_source_is_a_file_or_a_function_as_well(tmp_path):
    x = (np.arange(5) * (0.1 + 0.05j)).astype(np.complex64)
    x.tofile(tmp_path / "a.cf32")
    tuning = Tuning(1e8, 1e6, 0, 0)
    assert np.array_equal(named(str(tmp_path / "a.cf32"))(3, 4, tuning), x[[3, 4, 0, 1]])
    assert named("usrp_emulator.sources:counter") is counter
    assert len(named('scene:{"emitters": [{"frequency": 1e8}], "length": 4096}')(4090, 100, tuning)) == 100
    with pytest.raises(ValueError, match="neither counter"):
        named("nothing")
