"""A flowgraph with `uhd.usrp_source` in a process of its own, obeying JSON lines: the driver may hang or abort there.

`Receiver` is the test's side; run as a program this file is the other.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


class ReceiverError(RuntimeError):
    """The driver refused, did not answer in time, or took its process down."""


class Receiver:
    """``with Receiver(arguments, rate=1e6) as radio:`` opens the device, starts the flowgraph and collects samples.

    The process is killed at the end: an emulator is none the worse for it.
    """

    def __init__(self, arguments: str, rate: float = 1e6, frequency: float = 915e6, gain: float = 10.0,
                 subdevice: str = "", channels: int = 1, wait: float = 30.0, start: bool = True):
        self._settings = {"arguments": arguments, "rate": rate, "frequency": frequency, "gain": gain,
                          "subdevice": subdevice, "channels": channels}
        self.wait, self._start = wait, start

    def __enter__(self) -> Receiver:
        self._folder = tempfile.TemporaryDirectory(prefix="usrp-receiver-")
        self._log = open(Path(self._folder.name) / "log", "w+")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, env={
                **os.environ, "OMP_NUM_THREADS": "1",
                "GR_CONF_UHD_LOGGING_INTERVAL_MS": "0",  # else overflows are told at most every 750 ms, summed
            })
        try:
            self.ask("open", **self._settings)
            if self._start:
                self.ask("start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()  # at an orderly end the driver takes up to 1.5 s, and much longer without its device
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()
        self._folder.cleanup()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """What the driver has printed so far."""
        self._log.flush()
        return (Path(self._folder.name) / "log").read_text()

    def ask(self, do: str, **values) -> dict:
        """Send a request to the flowgraph's process and wait for its answer."""
        try:
            self._process.stdin.write((json.dumps({"do": do, **values}) + "\n").encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ReceiverError(f"the receiver's process has ended:\n{self.log}") from None
        if not select.select([self._process.stdout], [], [], self.wait)[0]:
            raise ReceiverError(f"no answer to {do!r} within {self.wait:g} s:\n{self.log}")
        line = self._process.stdout.readline()
        if not line:
            raise ReceiverError(f"the receiver's process ended in {do!r}:\n{self.log}")
        answer = json.loads(line)
        if "error" in answer:
            raise ReceiverError(answer["error"])
        return answer

    def until(self, samples: int, within: float = 20.0) -> int:
        """Wait until each channel has so many samples, at most ``within`` seconds; returns how many the first has."""
        return self.ask("until", samples=samples, within=within)["samples"]

    def until_tag(self, key: str, count: int, within: float = 20.0) -> int:
        """Wait until ``count`` tags of this key have come; returns the number of samples."""
        return self.ask("until_tag", key=key, count=count, within=within)["samples"]

    def acquire(self, samples: int) -> np.ndarray:
        """So many samples and no more, without the flowgraph."""
        path = Path(self._folder.name) / "samples.npy"
        self.ask("acquire", samples=samples, path=str(path))
        return np.load(path)

    def collect(self, channel: int = 0) -> tuple[np.ndarray, list[tuple[int, str, object]], list[int]]:
        """Stop; a channel's samples and tags (sample, key, value), and the numbers of overflows in the messages."""
        path = Path(self._folder.name) / "samples.npy"
        answer = self.ask("stop", path=str(path), channel=channel)
        return np.load(path), [tuple(t) for t in answer["tags"]], answer["overflows"]


def main() -> None:
    import threading

    import pmt
    from gnuradio import gr, uhd

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # GNU Radio's log goes to standard output: keep it apart from the answers

    class Sink(gr.sync_block):
        """Keeps samples, tags and the driver's messages; waiting on counts, not on time."""

        def __init__(self):
            gr.sync_block.__init__(self, "sink", [np.complex64], None)
            self.parts, self.tags, self.overflows = [], [], []
            self.samples, self.changed = 0, threading.Condition()
            self.message_port_register_in(pmt.intern("messages"))
            self.set_msg_handler(pmt.intern("messages"), self._message)

        def work(self, input_items, output_items):
            x = input_items[0]
            with self.changed:
                for tag in self.get_tags_in_window(0, 0, len(x)):
                    self.tags.append((tag.offset, pmt.symbol_to_string(tag.key), pmt.to_python(tag.value)))
                self.parts.append(x.copy())
                self.samples += len(x)
                self.changed.notify_all()
            return len(x)

        def _message(self, message):
            self.overflows += pmt.to_python(pmt.cdr(message)).values()

        def wait_for(self, reached, within):
            with self.changed:
                self.changed.wait_for(reached, within)
                return {"samples": self.samples}

    held = {}

    def open_device(arguments, rate, frequency, gain, subdevice="", channels=1):
        stream = uhd.stream_args("fc32", "sc16", channels=list(range(channels)))
        held["source"] = source = uhd.usrp_source(arguments, stream)
        if subdevice:
            source.set_subdev_spec(subdevice)
        source.set_samp_rate(rate)
        if "addr1" in arguments:
            source.set_time_unknown_pps(uhd.time_spec(0.0))
        for channel in range(channels):
            source.set_center_freq(frequency, channel)
            source.set_gain(gain, channel)
        held["graph"], held["sinks"] = gr.top_block(), [Sink() for _ in range(channels)]
        held["sink"] = held["sinks"][0]
        for channel, sink in enumerate(held["sinks"]):
            held["graph"].connect((source, channel), sink)
        held["graph"].msg_connect(source, "async_msgs", held["sink"], "messages")
        return {}

    def start():
        held["graph"].start()
        return {}

    def until(samples, within):
        for sink in reversed(held["sinks"]):
            count = sink.wait_for(lambda sink=sink: sink.samples >= samples, within)
        return count

    def until_tag(key, count, within):
        return held["sink"].wait_for(lambda: sum(t[1] == key for t in held["sink"].tags) >= count, within)

    def command(**values):
        """Through the source's command port, as a flowgraph would."""
        message = pmt.make_dict()
        for key, value in values.items():
            message = pmt.dict_add(message, pmt.intern(key), pmt.to_pmt(value))
        held["source"].to_basic_block()._post(pmt.intern("command"), message)
        return {}

    def settings():
        source = held["source"]
        return {"frequency": source.get_center_freq(), "rate": source.get_samp_rate(), "gain": source.get_gain(),
                "time": source.get_time_now().get_real_secs()}

    def call(name, arguments):
        getattr(held["source"], name)(*arguments)
        return {}

    def restart():
        """What a watchdog does to a silent stream."""
        held["source"].issue_stream_cmd(uhd.stream_cmd(uhd.stream_mode_t.STREAM_MODE_START_CONTINUOUS))
        return {}

    def stop(path, channel=0):
        held["graph"].stop()
        held["graph"].wait()
        sink = held["sinks"][channel]
        np.save(path, np.concatenate(sink.parts) if sink.parts else np.empty(0, np.complex64))
        return {"tags": sink.tags, "overflows": held["sink"].overflows}

    def acquire(samples, path):
        source = held["source"]
        source.finite_acquisition(1)  # the first one starts and stops the stream, and what that gave may still come
        begin = source.get_time_now().get_real_secs()
        while source.get_time_now().get_real_secs() < begin + 1e-3:  # until an answer of the device came behind it
            pass
        np.save(path, np.array(source.finite_acquisition(samples), np.complex64))
        return {}

    def close():
        held.clear()
        return {}

    does = {"open": open_device, "start": start, "until": until, "until_tag": until_tag, "command": command,
            "settings": settings, "call": call, "restart": restart, "acquire": acquire, "stop": stop, "close": close}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = does[request.pop("do")](**request)
        except (RuntimeError, ValueError, KeyError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
