"""The process of `emind live` that holds the radio. Run as a module; settings and commands come as JSON lines.

It is a process of its own because the driver may hang, or abort, when its device goes (UHD does where sends fail):
`emind live` then starts another. Standard output carries JSON lines; what driver and GNU Radio print goes to standard
error. The first line in is a dict of settings, the further ones are commands: freq, gain, rate, antenna, label, stop.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import IO

from ..contract.errors import EMindError, UsageError
from ..guarded import first_fault
from .head_text import main_of, others_of
from .live_source import AUTO, DeviceAbsent, Refused, open_source

TICK_S = 0.05
STATISTICS_EVERY_S = 0.5
LEVEL_EVERY_S = 0.25
CLOSE_WITHIN_S = 5.0
MOST_RESTARTS = 5  # without a sample: then the device is opened anew
LOST, FAILED = 3, 1  # exit statuses
NUMBERS = ("samples", "samples_lost", "overflows", "restarts", "gaps", "windows_seen", "windows_inferred",
           "windows_skipped", "windows_gated")


class Outlet:
    """Writes JSON lines. Where the reader has ended this process may finish its files, and then ends too."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._lock, self._closed = file, threading.Lock(), False

    def send(self, kind: str, **fields) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                self._file.write(json.dumps({"kind": kind, **fields}) + "\n")
                self._file.flush()
            except BrokenPipeError:  # the commands have ended as well, which ends reception
                self._closed = True
                ending = threading.Timer(2 * CLOSE_WITHIN_S, os._exit, (0,))  # a driver may hang
                ending.daemon = True
                ending.start()


def commands_from(file: IO[str]) -> queue.Queue:
    """Lines of JSON as they come; None at the end of the file."""
    out: queue.Queue = queue.Queue()

    def read() -> None:
        for line in file:
            try:
                out.put(json.loads(line))
            except ValueError:
                pass  # the other side checks what it sends
        out.put(None)

    threading.Thread(target=read, daemon=True).start()
    return out


class Lost(Exception):
    """The device does not answer, or has been switched off and on."""


class Wordless(Lost):
    """The device answers, and sends nothing to this process."""


class Radio:
    """Source, receivers, recorder and the watch over them; ``run`` returns this process's exit status."""

    def __init__(self, settings: dict, outlet: Outlet, commands: queue.Queue) -> None:
        self.settings, self.outlet, self.commands = settings, outlet, commands
        self.overflows = self.restarts = 0
        self.restarts_in_vain = 0
        self.silent, self.silent_at = False, 0
        self.graph = None
        self.ended = threading.Event()
        self.stopping = False
        self.automatic = settings["gain"] == AUTO
        self.recorder_error = ""

    # --- building ----------------------------------------------------------------------------------------------

    def build(self) -> bool:
        """Flowgraph and device; waits for an absent device where it was there before. False when told to stop."""
        from ..runtime.ready import ready_engine

        settings = self.settings
        model = [settings[name] for name in ("weights", "backend", "threads", "batch", "heads")]
        engine = ready_engine(*model, waits=False, apart=settings["apart"])
        if settings["hop"] > engine.spec.length:
            raise UsageError(f"--hop {settings['hop']} is longer than the window of {engine.spec.length} samples")
        from . import live_flowgraph

        if settings["kind"] == "file":
            self.source = None
            self.graph = live_flowgraph.of_recording(settings, engine)
            rate = self.graph.recording.rate
            state = {"device": self.graph.recording.path.name, "serial": "", "board": "", "rate": rate,
                     "freq": self.graph.recording.center, "gain": None, "antenna": None}
        else:
            while True:
                try:
                    self.source = open_source(settings)
                    break
                except DeviceAbsent:
                    if not settings["wait_for_device"] or not self._wait(settings["reopen_s"]):
                        if settings["wait_for_device"]:
                            return False
                        raise
            self.graph = live_flowgraph.of_radio(settings, engine, self.source)
            state = self.source.describe()
            rate = state["rate"]
            if self.automatic:
                from .live_watch import LevelControl

                low, high = self.source.gain_range()
                self.control = LevelControl(lowest_db=low, highest_db=high)
        tuned = self.graph.receivers[0]
        self.outlet.send("opened", weights=engine.name, main=main_of(engine.heads), others=others_of(engine.heads),
                         backend=engine.backend, decimation=tuned.decimation,
                         length=engine.spec.length, automatic_gain=self.automatic, process=os.getpid(), **state)
        self._send_remarks()
        if not engine.spec.covers(tuned.rate):
            self.outlet.send("event", event="remark", text=f"{tuned.rate:g} samples a second lie outside the "
                             f"{engine.spec.rate_min_hz:g} to {engine.spec.rate_max_hz:g} that {engine.name} was "
                             "trained on: expect wrong answers")
        return True

    def _wait(self, seconds: float) -> bool:
        """Between two tries to open; False when told to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                command = self.commands.get(timeout=left)
            except queue.Empty:
                return True
            if command is None or command.get("stop"):
                return False
            self.settings.update({k: v for k, v in command.items() if k in ("freq", "gain", "rate", "antenna")})
            self.settings["labels"] = command.get("label", self.settings["labels"])
        return True

    # --- running -----------------------------------------------------------------------------------------------

    def run(self) -> int:
        try:
            if not self.build():
                return 0
        except EMindError as fault:
            self.outlet.send("error", text=str(fault), status=fault.exit_status, absent=isinstance(fault, DeviceAbsent))
            return FAILED
        self.graph.start()
        threading.Thread(target=lambda: (self.graph.wait(), self.ended.set()), daemon=True).start()
        try:
            self._loop()
            if self.source is not None and not self._there():
                raise Lost("the device does not answer, or was switched off and on")
        except Lost as fault:
            # No block of the driver is touched any more: where its sends fail it would abort the process.
            for recorder in self.graph.recorders:
                recorder.stop()
            self._report(final=True)
            self.outlet.send("lost", text=str(fault), answers=isinstance(fault, Wordless))
            return LOST
        return self._close()

    def _loop(self) -> None:
        settings, watch = self.settings, self.graph.watches[0]
        now = time.monotonic()
        statistics_due, level_due = now, now + LEVEL_EVERY_S
        tag_due = now + settings["check_s"] if settings["check_s"] and self.source and self.source.has_time else None
        watch.excuse()
        while not self.ended.is_set() and not self.stopping:
            self._obey()
            now = time.monotonic()
            if self.source and settings["watchdog_s"]:
                self._look_after(watch)
            if tag_due is not None and now >= tag_due and not self.silent:
                tag_due = now + settings["check_s"]
                self.source.request_tag()
            if self.automatic and now >= level_due:
                level_due = now + LEVEL_EVERY_S
                self._control_level(watch.take_peak())
            self._send_news()
            if now >= statistics_due:
                statistics_due = now + STATISTICS_EVERY_S
                self._report()
                self.stopping |= first_fault(self.graph.mailboxes) is not None  # no stream ends them

    def _obey(self) -> None:
        """Commands that have come within a tick; they are obeyed one by one."""
        try:
            command = self.commands.get(timeout=TICK_S)
        except queue.Empty:
            return
        if command is None or command.get("stop"):
            self.stopping = True
            return
        try:
            self._set(command)
            told = {} if self.source is None else self.source.state()
            self.outlet.send("event", event="set", **told, automatic_gain=self.automatic)
            self._send_remarks()
        except Refused as fault:
            self.outlet.send("event", event="refused", text=str(fault))
        except EMindError as fault:
            self.outlet.send("event", event="refused", text=str(fault))
        except RuntimeError as fault:  # the driver: the watchdog finds out whether the device has gone
            self.outlet.send("event", event="refused", text=f"the device did not take it ({fault})")

    def _set(self, command: dict) -> None:
        if "label" in command:
            if not self.graph.recorders:
                raise Refused("labels are for what is recorded: start with --record")
            for recorder in self.graph.recorders:
                recorder.set_labels(command["label"])
        if self.source is None:
            if command.keys() - {"label"}:
                raise Refused("a recording has no frequency, gain or rate to set")
            return
        if not self._there():  # a setting would be lost, or abort this process
            raise Lost("the device does not answer, or was switched off and on")
        if "rate" in command:
            self.source.set_rate(float(command["rate"]))
        if "freq" in command:
            self.source.set_freq(float(command["freq"]))
        if "antenna" in command:
            self.source.set_antenna(str(command["antenna"]))
        if "gain" in command:
            if command["gain"] != AUTO:
                self.source.set_gain(float(command["gain"]))
            elif not self.automatic:
                from .live_watch import LevelControl

                low, high = self.source.gain_range()
                self.control = LevelControl(lowest_db=low, highest_db=high)
            self.automatic = command["gain"] == AUTO

    def _control_level(self, peak: float) -> None:
        before = self.source.state()["gain"]
        wanted = self.control.step(before, peak)
        if wanted != before and self._there():
            self.source.set_gain(wanted)
            if self.source.state()["gain"] != before:
                self.outlet.send("event", event="gain", gain=self.source.state()["gain"], peak=round(peak, 4))

    def _there(self) -> bool:
        """Whether the device answers, where that can be asked."""
        return not self.source.has_time or self.source.alive()

    def _look_after(self, watch) -> None:
        """The watchdog: a stream that has halted is started again, a device that has gone is given up."""
        quiet = watch.silent_for()
        if self.silent and watch.samples > self.silent_at:
            self.silent, self.restarts_in_vain = False, 0
            self.outlet.send("event", event="resumed", sample=watch.samples)
        if quiet < self.settings["watchdog_s"]:
            return
        if not self.silent:
            self.silent, self.silent_at = True, watch.samples
            self.outlet.send("event", event="silent", sample=watch.samples, after_ms=round(1e3 * quiet))
        if not self.source.has_time:
            raise Lost("the device has stopped sending")
        if not self.source.alive():
            raise Lost("the device does not answer, or was switched off and on")
        if watch.silent_for() < self.settings["watchdog_s"]:
            return
        if self.restarts_in_vain >= MOST_RESTARTS:
            raise Wordless(f"the device answers, but sends nothing after {MOST_RESTARTS} restarts of its stream: "
                           "another program may be using it")
        self.source.restart()
        self.restarts += 1
        self.restarts_in_vain += 1
        watch.excuse()
        self.outlet.send("event", event="restart", sample=watch.samples, restarts=self.restarts)

    # --- telling -----------------------------------------------------------------------------------------------

    def _send_remarks(self) -> None:
        if self.source is not None:
            for text in self.source.remarks:
                self.outlet.send("event", event="remark", text=text)
            self.source.remarks.clear()

    def _send_news(self) -> None:
        count = self.graph.mailboxes[0].take_overflows()
        if count:
            self.overflows += count
            self.outlet.send("overflow", count=count, sample=self.graph.watches[0].samples)
        for sample, rate in self.graph.watches[0].take_rates():
            self.outlet.send("rate", sample=sample, rate=rate)
        for gap in self.graph.watches[0].take_gaps():
            self.outlet.send("event", event="gap", **gap)
        found = [one for mailbox in self.graph.mailboxes for one in mailbox.take()]
        if found:
            self.outlet.send("detections", items=found)

    def counts(self) -> dict:
        """All counts since this process opened the device, summed over its channels."""
        channels = [receiver.statistics() for receiver in self.graph.receivers]
        out = {key: sum(one[key] for one in channels) for key in NUMBERS if key.startswith("windows_")}
        first, watch = channels[0], self.graph.watches[0]
        kept = [recorder.statistics() | {"file_names": recorder.files()} for recorder in self.graph.recorders]
        # When a flowgraph is stopped its blocks end each at its own sample.
        samples = max([watch.samples, *(told["samples_seen"] for told in kept)])
        return out | {
            "samples": samples, "samples_lost": watch.samples_lost, "overflows": self.overflows,
            "restarts": self.restarts, "gaps": self.graph.receivers[0].gaps(),
            "latency_ms_p50": first["latency_ms_p50"], "latency_ms_p99": first["latency_ms_p99"],
            "queue_depth": first["queue_depth"], "backend": first["backend"], "weights": first["weights"],
            "recorder": kept}

    def _report(self, final: bool = False) -> None:
        self._send_news()
        counts = self.counts()
        for told in counts["recorder"]:
            if told["error"] and told["error"] != self.recorder_error:
                self.recorder_error = told["error"]
                self.outlet.send("event", event="recording_ended", text=self.recorder_error)
        self.outlet.send("statistics", final=final, **counts)

    def _close(self) -> int:
        """In order: stop, wait, count, close the device; each within its time."""
        self.graph.stop()
        error = fault = None
        if self.ended.wait(CLOSE_WITHIN_S):
            error = next((e for e in (r.inference.error() for r in self.graph.receivers) if e is not None), None)
            fault = first_fault(self.graph.python_blocks())
            for mailbox in self.graph.mailboxes:
                mailbox.read_rest()
        self._report(final=True)
        if error is not None or fault is not None:
            text = str(fault) if fault is not None else f"the engine failed: {type(error).__name__}: {error}"
            self.outlet.send("error", text=text, status=1, absent=False)
        self.outlet.send("ended")
        closer = threading.Thread(target=self._let_go, daemon=True)
        closer.start()
        closer.join(CLOSE_WITHIN_S)
        return 0

    def _let_go(self) -> None:
        self.source = self.graph = None


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process decides
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # GNU Radio's log goes to standard output
    outlet = Outlet(answers)
    settings = json.loads(sys.stdin.readline())
    commands = commands_from(sys.stdin)
    if settings["mode"] == "scan":
        from .scan_worker import scan

        status = scan(settings, outlet, commands)
    else:
        status = Radio(settings, outlet, commands).run()
    os._exit(status)  # destructors of a driver whose device has gone may hang or abort


if __name__ == "__main__":
    main()
