"""`emind live --soapy`: settings held against what a device can do, and the same receiver behind another source."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from conftest import tone_bursts
from live_run import START_S, Live
from usrp_emulator import Emulator

pytest.importorskip("gnuradio.soapy")

from emind.commands import live_source
from emind.commands.live_source import Refused, SoapySource
from gnuradio import gr, soapy

Span = namedtuple("Span", "low high")
SETTINGS = {"kind": "soapy", "args": "rtlsdr", "rate": 1e6, "freq": 100e6, "gain": None, "antenna": None,
            "rf_bandwidth": None, "channels": [0]}
# Debian's soapysdr-module-uhd, which leads SoapySDR to the emulated N210.
MODULES = [file for folder in [*filter(None, os.environ.get("SOAPY_SDR_PLUGIN_PATH", "").split(":")),
                               *map(str, Path("/usr/lib").glob("*/SoapySDR/modules*"))]
           for file in Path(folder).glob("libuhdSupport.so")]


class Range:
    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def minimum(self) -> float:
        return self._low

    def maximum(self) -> float:
        return self._high


class Device(gr.sync_block):
    """Has the interface of `soapy.source` as far as it is used, and an RTL-SDR's limits."""

    def __init__(self, driver, kind, channels, *_):
        gr.sync_block.__init__(self, "device", None, [np.complex64])
        self.driver, self.asked = driver, {}
        self.x = tone_bursts(60_000)
        self.sent = 0

    def get_sample_rate_range(self, channel):
        return [Range(225_001, 300_000), Range(900_001, 3_200_000)]

    def get_frequency_range(self, channel):
        return [Range(24e6, 1764e6)]

    def get_gain_range(self, channel):
        return Range(0, 49.6)

    def list_antennas(self, channel):
        return ("RX",)

    def set_sample_rate(self, channel, value):
        self.asked["rate"] = value

    def set_frequency(self, channel, value):
        self.asked["freq"] = value

    def set_gain(self, channel, value):
        self.asked["gain"] = value

    def set_antenna(self, channel, value):
        self.asked["antenna"] = value

    def get_sample_rate(self, channel):
        return self.asked.get("rate", 0.0)

    def get_frequency(self, channel):
        return self.asked.get("freq", 0.0)

    def get_gain(self, channel):
        return self.asked.get("gain", 0.0)

    def get_antenna(self, channel):
        return self.asked.get("antenna", "RX")

    def work(self, input_items, output_items):
        part = self.x[self.sent:self.sent + min(len(output_items[0]), 4096)]
        output_items[0][:len(part)] = part
        self.sent += len(part)
        return len(part) or -1


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(soapy, "source", Device)
    return lambda **changes: live_source.open_source(SETTINGS | changes)


def test_the_stand_in_asks_for_nothing_that_the_real_block_lacks():
    used = {name for name in vars(Device) if not name.startswith("_") and name != "work"}
    assert len(used) == 12 and used <= set(dir(soapy.source))


def test_a_device_is_set_up_with_the_middle_of_its_gain(device):
    source = device()
    assert source.block.driver == "driver=rtlsdr"
    assert source.state() == {"rate": 1e6, "freq": 100e6, "gain": 24.8, "antenna": "RX"} and not source.remarks
    assert device(args="driver=rtlsdr,serial=2", gain=10.0).state()["gain"] == 10


@pytest.mark.parametrize("change, words", [
    ({"rate": 10e6}, "nearest is 3.2e+06"), ({"rate": 500e3}, "nearest is 300000"),
    ({"freq": 5e9}, "24 to 1764 MHz"), ({"gain": 80.0}, "0 to 49.6 dB"), ({"antenna": "ROOF"}, "this device has RX"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_what_the_device_cannot_do_is_one_line_that_says_what_it_can(device, change, words):
    with pytest.raises(Refused) as refused:
        device(**change)
    assert words in str(refused.value) and len(str(refused.value)) < 160


def test_a_rate_a_little_off_is_taken_and_said(device):
    source = device(rate=225_000.0)
    assert source.state()["rate"] == 225_001 and source.remarks == ["rate 225001 instead of 225000"]


def test_a_driver_that_is_not_there_is_one_line():
    with pytest.raises(live_source.DeviceAbsent, match="no SoapySDR device driver=nosuch: `SoapySDRUtil --find`"):
        SoapySource(SETTINGS | {"args": "nosuch"})


def test_the_receiver_answers_behind_such_a_source_and_windows_end_where_it_is_tuned(device, small_weights):
    from emind.commands import live_flowgraph
    from emind.runtime.ready import ready_engine

    source = device()
    engine = ready_engine(str(small_weights), "torch-float32", 1, 32)
    graph = live_flowgraph.of_radio(
        {"offset": 0.0, "bandwidth": 0.0, "hop": 0, "batch": 32, "gate_db": None, "record": None}, engine, source)
    x, source.block.x = source.block.x, source.block.x[:30_000]
    graph.run()
    source.set_freq(200e6)
    source.block.x = x
    graph.run()  # goes on where it was
    answers = graph.mailboxes[0].take()
    assert graph.watches[0].samples == 60_000
    frequencies = [one["rx_freq"] for one in answers]
    assert set(frequencies) == {100e6, 200e6} and frequencies == sorted(frequencies)
    for one in answers:
        first, end = one["sample_start"], one["sample_start"] + one["sample_count"]
        assert end <= 30_000 or first >= 30_000
        assert one["rx_rate"] == 1e6 and one["modulation"]["label"]


@pytest.mark.skipif(not MODULES, reason="no SoapySDR module for UHD (Debian: soapysdr-module-uhd)")
def test_the_emulated_usrp_through_soapysdr(small_weights):
    with Emulator() as radio, Live("--soapy", f"driver=uhd,{radio.arguments}", "--rate", 5e5, "--freq", 868.3e6,
                                   "--weights", small_weights, "--backend", "torch-float32", "--threads", 1) as run:
        opened = run.until_event("opened", within=START_S)
        run.until_answers(10)
        run.say(freq=433e6, gain=5)
        run.until(lambda told: "event" not in told and abs(told["rx_freq"] - 433e6) < 1)
        run.say(rate=77e6)
        assert "nearest is 5e+07" in run.until_event("refused")["text"]
        radio.overflow(samples=5000)  # this driver has a clock, so the loss shows in the time
        assert run.until(lambda told: told.get("event") == "gap" and told["samples_lost"] == 5000)
        status = radio.status()
        radio.unplug()
        run.until_event("lost")
        radio.plug_in()
        run.until_event("reopened", within=START_S)
        run.until_answers(5)
        summary = run.finish()
    assert opened["gain"] == 19 and status["gain_db"] == 5 and summary["reopenings"] == 1
    assert status["chains"][0]["frequency"] == pytest.approx(433e6, abs=1)
