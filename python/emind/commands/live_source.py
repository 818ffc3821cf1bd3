"""What `emind live` and `emind scan` receive from: arguments, and sources of one kind behind one interface."""

from __future__ import annotations

import argparse
import math
import time

from ..contract.errors import EMindError, UsageError
from ..storage.recording import FORMATS
from . import usrp_lock

DEFAULT_RATE = 1e6
DEFAULT_FREQ = 433.92e6
RATE_TOLERANCE = 0.01  # of the rate: a device that is further away from what was asked cannot do it
FREQ_TOLERANCE_HZ = 1e3
ANSWER_TRIES = 3
AUTO = "auto"


class DeviceAbsent(EMindError):
    """No such device now; it may come later."""


class DeviceTaken(DeviceAbsent):
    """Another program receives from it."""


class Refused(EMindError):
    """A setting that the device cannot take; all is as before."""


def add_source_arguments(parser: argparse.ArgumentParser, automatic: bool = True, also: tuple[str, ...] = ()):
    """Arguments that say which radio, and how it is set; ``automatic``: the caller has a control of the gain;
    ``also``: further names of --args. The group, for more."""
    radio = parser.add_argument_group("radio")
    radio.add_argument("--args", *also, dest="args", default="", metavar="ARGS", help="device address, such as addr=192.168.10.2 or "
                                                                   "serial=30AD123 (default: the first USRP found)")
    radio.add_argument("--soapy", metavar="DRIVER",
                       help="a SoapySDR device instead of a USRP, such as rtlsdr or driver=hackrf,serial=1")
    radio.add_argument("--rate", type=float, metavar="HZ", help=f"samples a second (default: {DEFAULT_RATE:g})")
    radio.add_argument("--gain", default=None, metavar="DB",
                       help="gain" + ", or auto: set by the level of the samples" * automatic
                       + " (default: the middle of what there is)")
    radio.add_argument("--antenna", metavar="NAME", help="antenna connector, such as RX2")
    radio.add_argument("--subdev", metavar="SPEC", help="subdevice, such as A:0, or 'A:0 B:0' for two channels")
    radio.add_argument("--rf-bandwidth", type=float, metavar="HZ", help="width of the analogue filter")
    radio.add_argument("--clock-source", metavar="NAME", help="reference clock: internal, external, gpsdo, mimo")
    radio.add_argument("--time-source", metavar="NAME",
                       help="pulse per second: external, gpsdo, mimo. The device's time is set to this computer's, at "
                            "a pulse if there is one")
    return radio


def add_freq_argument(radio) -> None:
    radio.add_argument("--freq", type=float, metavar="HZ",
                       help=f"centre frequency (default: {DEFAULT_FREQ / 1e6:g}e6)")


def add_channels_argument(radio) -> None:
    radio.add_argument("--channels", metavar="LIST", help="channels, such as 0,1 (default: 0)")


def channels_of(options: argparse.Namespace) -> list[int]:
    """Numbers of the channels; UsageError where they are none."""
    try:
        channels = [int(text) for text in (options.channels or "0").split(",")]
    except ValueError:
        channels = []
    if not channels or min(channels) < 0 or len(set(channels)) < len(channels):
        raise UsageError(f"--channels {options.channels}: give their numbers, such as 0,1")
    return channels


def source_settings(options: argparse.Namespace) -> dict:
    """The arguments as a dict that JSON can carry; UsageError says which of them cannot work."""
    rate = DEFAULT_RATE if options.rate is None else options.rate
    for name, value in (("--rate", rate), ("--rf-bandwidth", options.rf_bandwidth)):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UsageError(f"{name} {value:g} must be above 0")
    gain: float | str | None = options.gain
    if gain not in (None, AUTO):
        try:
            gain = float(gain)
        except ValueError:
            raise UsageError(f"--gain {gain}: give decibels, or auto") from None
        if not math.isfinite(gain):
            raise UsageError(f"--gain {gain}: give decibels, or auto")
    if options.soapy and (options.args or options.subdev or options.clock_source or options.time_source):
        raise UsageError("--args, --subdev, --clock-source and --time-source are for a USRP: leave them out with "
                         "--soapy, which takes its device's arguments itself (--soapy driver=rtlsdr,serial=1)")
    return {"kind": "soapy" if options.soapy else "uhd", "args": options.soapy or options.args, "rate": rate,
            "gain": gain, "antenna": options.antenna, "subdev": options.subdev,
            "rf_bandwidth": options.rf_bandwidth, "clock_source": options.clock_source,
            "time_source": options.time_source}


def check_rate(asked: float, actual: float) -> str | None:
    """A remark where the device's rate is a little off; Refused where it is another one."""
    if abs(actual - asked) > RATE_TOLERANCE * asked:
        raise Refused(f"a rate of {asked:g} is not possible on this device: the nearest is {actual:g} samples a second "
                      f"(--rate {actual:.10g})")
    return None if actual == asked else f"rate {actual:.10g} instead of {asked:.10g}"


def plain(fault: Exception) -> str:
    """What a driver's exception says, in one line and without the names of its classes."""
    lines = [line.strip() for line in str(fault).strip().splitlines() if line.strip()] or [type(fault).__name__]
    first = lines[0]
    while ": " in first and first.split(": ")[0].endswith("Error"):
        first = first.split(": ", 1)[1]
    if first.startswith("assertion failed"):
        return " ".join(line.rstrip(".") + ";" for line in lines[1:]).rstrip(";") or first
    return first


# What drivers say where the system or another program stands in the way, and what to do about it.
_ADVICE = (
    (("insufficient permissions", "LIBUSB_ERROR_ACCESS", "usb_open error -3"),
     "allow this user to open it: install the driver's udev rules (Debian: package uhd-host; in UHD's folder of "
     "utilities uhd-usrp.rules, copied to /etc/udev/rules.d), and plug it in again"),
    (("LIBUSB_ERROR_BUSY", "usb_claim_interface error -6", "already claimed", "is in use", "already in use"),
     "another program is using it: end that one"),
)


def opening_failed(what: str, fault: Exception) -> EMindError:
    """A driver's exception while it opened ``what``, in one line, with what to do where that is known."""
    said = str(fault)
    for words, advice in _ADVICE:
        if any(word.lower() in said.lower() for word in words):
            return EMindError(f"{what} cannot be opened ({plain(fault)}): {advice}")
    return EMindError(f"{what} cannot be opened ({plain(fault)})")


class UhdSource:
    """A USRP. ``block`` has an output for each channel, and the ports ``async_msgs`` and ``command``.

    Raises DeviceAbsent where there is none, DeviceTaken where another program has it, Refused where a setting is
    impossible.
    """

    has_time = True
    tags_settings = True  # a new rate or frequency stands on the stream

    def __init__(self, settings: dict) -> None:
        try:
            from gnuradio import uhd
        except ImportError as fault:
            raise EMindError(f"UHD cannot be used here ({fault}); `emind doctor` says what to do") from None
        self._uhd = uhd
        self.channels = range(len(settings["channels"]))
        stream = uhd.stream_args(cpu_format="fc32", otw_format="sc16", channels=settings["channels"])
        address = settings["args"]
        at, searched = self._network_address(address)
        if at and usrp_lock.taken(at, searched=searched):
            raise DeviceTaken(f"the USRP at {at} is in use by another program: end that one, or name another device "
                              "with --args")
        try:
            self.block = uhd.usrp_source(address, stream)
        except RuntimeError as fault:
            if "No devices found" in str(fault):
                raise DeviceAbsent(f"no USRP at {address or 'any address'}: check address, cable and power; "
                                   "`uhd_find_devices` lists those that are there") from None
            raise opening_failed(f"the USRP at {address or 'any address'}", fault) from None
        self.remarks: list[str] = []
        self._set_up(settings)

    def _network_address(self, address: str) -> tuple[str | None, bool]:
        """Where a device of the N2x0 series stands that these arguments mean, None for any other; and whether the
        driver was asked."""
        given = dict(part.split("=", 1) for part in address.split(",") if "=" in part)
        if given.get("type") == "usrp2" and "addr" in given:
            return given["addr"], False
        if given.get("type", "usrp2") != "usrp2":
            return None, False
        try:
            found = [one.to_string() for one in self._uhd.find(self._uhd.device_addr(address))]
        except RuntimeError:
            return None, True
        return usrp_lock.address_of([dict(part.split("=", 1) for part in one.split(",") if "=" in part)
                                     for one in found]), True

    def _set_up(self, settings: dict) -> None:
        block = self.block
        if settings["subdev"]:
            self._do("--subdev", block.set_subdev_spec, settings["subdev"])
        for name in ("clock_source", "time_source"):
            if settings[name]:
                self._do("--" + name.replace("_", "-"), getattr(block, "set_" + name), settings[name], 0)
        try:
            self.set_rate(settings["rate"])
            for channel in self.channels:
                if settings["antenna"]:
                    self.set_antenna(settings["antenna"], channel)
            if settings["rf_bandwidth"]:
                for channel in self.channels:
                    self._do("--rf-bandwidth", block.set_bandwidth, settings["rf_bandwidth"], channel)
            self.set_freq(settings["freq"])
            span = block.get_gain_range(0)
            self.set_gain((span.start() + span.stop()) / 2 if settings["gain"] in (None, AUTO) else settings["gain"])
            self._set_time(settings["time_source"])
        except RuntimeError as fault:
            raise EMindError(f"the USRP does not answer ({plain(fault)})") from None

    def _do(self, name: str, call, *values) -> None:
        try:
            call(*values)
        except (RuntimeError, ValueError, IndexError) as fault:
            raise Refused(f"{name} {values[0]}: {plain(fault)}") from None

    def _set_time(self, pulses: str | None) -> None:
        """Device time is this computer's: at a pulse per second where there is one, else within a millisecond or so."""
        spec = self._uhd.time_spec
        if pulses in (None, "internal", "none"):
            self.block.set_time_now(spec(time.time()))
        else:
            before, end = self.block.get_time_last_pps().get_real_secs(), time.monotonic() + 2.5
            while self.block.get_time_last_pps().get_real_secs() == before:
                if time.monotonic() > end:
                    raise Refused(f"--time-source {pulses}: no pulse per second came within 2.5 s; check its cable")
                time.sleep(0.01)
            self.block.set_time_next_pps(spec(float(math.floor(time.time()) + 1)))
            time.sleep(1.1)  # until that pulse has been
        self._clock_offset = self.time_now() - time.monotonic()

    def describe(self) -> dict:
        info = dict(self.block.get_usrp_info(0))
        return {"device": info.get("mboard_name") or info.get("mboard_id", "USRP"),
                "serial": info.get("mboard_serial", ""), "board": info.get("rx_subdev_name", ""), **self.state()}

    def state(self) -> dict:
        return {"rate": self.block.get_samp_rate(), "freq": self.block.get_center_freq(0),
                "gain": self.block.get_gain(0), "antenna": self.block.get_antenna(0)}

    def set_rate(self, hz: float) -> None:
        if not (hz > 0 and math.isfinite(hz)):
            raise Refused(f"a rate of {hz:g} is not possible")
        # Asked first: once set, the device streams at its nearest rate until it is set back.
        check_rate(hz, self.block.get_samp_rates().clip(hz, True))
        before = self.block.get_samp_rate()
        self.block.set_samp_rate(hz)
        try:
            remark = check_rate(hz, self.block.get_samp_rate())
        except Refused:
            self.block.set_samp_rate(before)
            raise
        self.remarks += [remark] if remark else []

    def check_freq(self, hz: float) -> None:
        """Refused outside the board's range."""
        span = self.block.get_freq_range(0)
        low, high = span.start(), span.stop()
        if not low <= hz <= high:
            raise Refused(f"{hz / 1e6:.10g} MHz is outside of what this board receives: {low / 1e6:g} to "
                          f"{high / 1e6:g} MHz")

    def set_freq(self, hz: float) -> None:
        """Tune all channels; the source tags the first sample that comes then."""
        self.check_freq(hz)
        for channel in self.channels:
            self.block.set_center_freq(hz, channel)
        actual = self.block.get_center_freq(0)
        if abs(actual - hz) > FREQ_TOLERANCE_HZ:
            self.remarks.append(f"frequency {actual:.10g} Hz instead of {hz:.10g} Hz")

    def set_gain(self, db: float) -> None:
        span = self.block.get_gain_range(0)
        low, high = span.start(), span.stop()
        if not low <= db <= high:
            raise Refused(f"a gain of {db:g} dB is not possible: {low:g} to {high:g} dB")
        for channel in self.channels:
            self.block.set_gain(db, channel)

    def gain_range(self) -> tuple[float, float]:
        span = self.block.get_gain_range(0)
        return span.start(), span.stop()

    def set_antenna(self, name: str, channel: int | None = None) -> None:
        known = self.block.get_antennas(0)
        if name not in known:
            raise Refused(f"no antenna {name}: this board has {', '.join(known)}")
        for one in self.channels if channel is None else [channel]:
            self.block.set_antenna(name, one)

    def time_now(self) -> float:
        """Device time in seconds. RuntimeError when the device does not answer."""
        return self.block.get_time_now().get_real_secs()

    def alive(self) -> bool:
        """Whether it answers, and has not been switched off and on since it was opened."""
        for _ in range(ANSWER_TRIES):  # half a second each: a busy computer may be late
            try:
                return abs(self.time_now() - time.monotonic() - self._clock_offset) < 2.0
            except RuntimeError:
                continue
        return False

    def restart(self) -> None:
        """Start a stream that has halted; the driver does not do so."""
        self.block.issue_stream_cmd(self._uhd.stream_cmd(self._uhd.stream_mode_t.STREAM_MODE_START_CONTINUOUS))

    def request_tag(self) -> None:
        """Have the true time tagged: packets lost in multiples of 16 show in nothing else."""
        import pmt

        message = pmt.dict_add(pmt.make_dict(), pmt.intern("tag"), pmt.PMT_T)
        self.block.to_basic_block()._post(pmt.intern("command"), message)


class SoapySource:
    """A device through SoapySDR. Its block tags the time where the device's driver knows it; losses show in nothing
    else. A new rate or frequency is told to ``announcers``, which tag it.
    """

    has_time = False  # that could be asked for, or whether the device is there
    tags_settings = False
    announcers = ()

    def __init__(self, settings: dict) -> None:
        try:
            from gnuradio import soapy
        except ImportError as fault:
            raise EMindError(f"gr-soapy cannot be used here ({fault}); on Debian it is in gnuradio") from None
        driver = settings["args"] if "=" in settings["args"] else f"driver={settings['args']}"
        count = len(settings["channels"])
        self.channels, self.remarks, self._driver = range(count), [], driver
        try:
            self.block = soapy.source(driver, "fc32", count, "", "", [""] * count, [""] * count)
            if settings["antenna"]:
                self.set_antenna(settings["antenna"])
            if settings["rf_bandwidth"]:
                for channel in self.channels:
                    self.block.set_bandwidth(channel, settings["rf_bandwidth"])
            self.set_rate(settings["rate"])
            self.set_freq(settings["freq"])
            low, high = self.gain_range()
            self.set_gain((low + high) / 2 if settings["gain"] in (None, AUTO) else settings["gain"])
        except (RuntimeError, ValueError) as fault:
            if "no match" in str(fault) or "not found" in str(fault).lower():
                raise DeviceAbsent(f"no SoapySDR device {driver}: `SoapySDRUtil --find` lists those that are there") \
                    from None
            raise opening_failed(f"the SoapySDR device {driver}", fault) from None

    def describe(self) -> dict:
        return {"device": f"SoapySDR {self._driver}", "serial": "", "board": "", **self.state()}

    def state(self) -> dict:
        return {"rate": self.block.get_sample_rate(0), "freq": self.block.get_frequency(0),
                "gain": self.block.get_gain(0), "antenna": self.block.get_antenna(0)}

    def set_rate(self, hz: float) -> None:
        spans = self.block.get_sample_rate_range(0)  # the block raises on anything between its entries
        nearest = min((min(max(hz, span.minimum()), span.maximum()) for span in spans),
                      key=lambda rate: abs(rate - hz), default=hz)
        remark = check_rate(hz, nearest)
        for channel in self.channels:
            self.block.set_sample_rate(channel, nearest)
        for one in self.announcers:
            one.tell(rate=self.block.get_sample_rate(0))
        self.remarks += [remark] if remark else []

    def check_freq(self, hz: float) -> None:
        spans = self.block.get_frequency_range(0)
        if len(spans) and not any(span.minimum() <= hz <= span.maximum() for span in spans):
            raise Refused(f"{hz / 1e6:.10g} MHz is outside of what this device receives: " + ", ".join(
                f"{span.minimum() / 1e6:g} to {span.maximum() / 1e6:g} MHz" for span in spans))

    def set_freq(self, hz: float) -> None:
        self.check_freq(hz)
        for channel in self.channels:
            self.block.set_frequency(channel, hz)
        for one in self.announcers:
            one.tell(freq=self.block.get_frequency(0))

    def set_gain(self, db: float) -> None:
        low, high = self.gain_range()
        if not low <= db <= high:
            raise Refused(f"a gain of {db:g} dB is not possible: {low:g} to {high:g} dB")
        for channel in self.channels:
            self.block.set_gain(channel, db)

    def gain_range(self) -> tuple[float, float]:
        span = self.block.get_gain_range(0)
        return span.minimum(), span.maximum()

    def set_antenna(self, name: str) -> None:
        known = self.block.list_antennas(0)
        if known and name not in known:
            raise Refused(f"no antenna {name}: this device has {', '.join(known)}")
        for channel in self.channels:
            self.block.set_antenna(channel, name)


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a recording instead of a radio")
    group.add_argument("--file", metavar="RECORDING",
                       help="a .sigmf-meta file, or a raw file with --format and --rate; played at its own rate")
    group.add_argument("--format", metavar="NAME", help=f"sample format of a raw file: {', '.join(FORMATS)}")


def open_source(settings: dict) -> UhdSource | SoapySource:
    """The radio that the settings name, set up."""
    return (SoapySource if settings["kind"] == "soapy" else UhdSource)(settings)
