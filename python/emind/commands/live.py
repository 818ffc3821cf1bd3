"""`emind live`: what a radio receives, named while it comes; table, lines or JSON; keys and commands while it runs."""

from __future__ import annotations

import argparse
import glob
import json
import math
import sys
import time
from pathlib import Path
from queue import Empty, SimpleQueue

from ..contract.errors import EMindError, UsageError
from ..contract.schema import changed_labels, checked_label
from ..storage.recording import open_recording
from ..storage.recording_files import FILE_FORMATS, check_target
from .head_text import add_heads_argument
from .live_process import Child, Overflows, read_lines, stopping_signals
from .live_source import (
    AUTO, DEFAULT_FREQ, add_channels_argument, add_file_arguments, add_freq_argument, add_source_arguments,
    channels_of, source_settings)
from .record import parse_labels
from .sample_clock import SampleClock

SETTINGS = ("freq", "gain", "rate", "antenna", "label", "stop")  # what a command may hold
ADDED = ("samples", "samples_lost", "overflows", "restarts", "gaps", "windows_seen", "windows_inferred",
         "windows_skipped", "windows_gated")
HANGS_AFTER_S = 20.0  # without a word from the radio's process, once the device is open
STOP_WITHIN_S = 12.0
MOST_WORDLESS = 2  # times that the device answers and sends nothing, one soon after the other
WORDLESS_WITHIN_S = 300.0
MOST_CRASHES = 3  # in a row, without the device having been opened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    radio = add_source_arguments(parser)
    add_freq_argument(radio)
    add_channels_argument(radio)
    add_file_arguments(parser)
    what = parser.add_argument_group("what is looked at")
    what.add_argument("--offset", type=float, default=0.0, metavar="HZ", help="from the middle to the signal")
    what.add_argument("--bandwidth", type=float, default=0.0, metavar="HZ",
                      help="width of the signal: the stream is decimated to it (default: all of the band)")
    what.add_argument("--weights", default="emind-nano", metavar="NAME", help="name or path of a weights file")
    add_heads_argument(what)
    what.add_argument("--hop", type=int, default=0, metavar="N", help="samples from window to window (default: length)")
    what.add_argument("--gate-db", type=float, metavar="DB", help="windows less than this above the floor are noise")
    what.add_argument("--batch", type=int, default=32, metavar="N", help="windows inferred together (default: 32)")
    what.add_argument("--backend", default="auto", metavar="NAME", help="what computes (default: auto)")
    what.add_argument("--threads", type=int, default=0, metavar="N", help="processor threads (default: 0 = all)")
    what.add_argument("--apart", action="store_true", help="inference and the radio on processor cores of their own")
    out = parser.add_argument_group("output (a table that renews itself; lines where no terminal is)")
    out.add_argument("--json", metavar="FILE", help="one JSON object a line, an answer or an event; - writes to "
                                                    "standard output, and commands are read from standard input")
    out.add_argument("--lines", action="store_true", help="lines on a terminal too")
    out.add_argument("--duration", type=float, metavar="S", help="seconds (default: until q, Ctrl-C or the file's end)")
    out.add_argument("--record", metavar="PATH", help="record all that comes: folder and beginning of the names")
    out.add_argument("--record-files", choices=FILE_FORMATS, default="parquet", help="default: parquet")
    out.add_argument("--label", action="append", default=[], metavar="COLUMN=VALUE",
                     help="a label of what is recorded; may be given again")
    watch = parser.add_argument_group("watching the device")
    watch.add_argument("--watchdog-ms", type=float, default=1000.0, metavar="MS",
                       help="start the stream again after so long a silence; 0: never (default: 1000)")
    watch.add_argument("--check-ms", type=float, default=250.0, metavar="MS",
                       help="ask for the true time so often, which shows lost packets; 0: never (default: 250)")
    watch.add_argument("--reopen-s", type=float, default=2.0, metavar="S",
                       help="look for a lost device so often; 0: give up (default: 2)")


def run(options: argparse.Namespace) -> int:
    settings = live_settings(options)
    from .live_view import make_output

    inbox: SimpleQueue = SimpleQueue()
    with make_output(options, settings, inbox) as output, stopping_signals(inbox):
        session = Session(settings, output, inbox, options.duration)
        read_commands = options.json is not None and not sys.stdin.isatty() if sys.stdin else False
        if read_commands:
            read_lines(sys.stdin.fileno(), inbox, "line", lambda: not session.over)
        return session.run()


def live_settings(options: argparse.Namespace) -> dict:
    """What the radio's process is told, checked; UsageError or EMindError says what cannot work."""
    for name in ("watchdog_ms", "check_ms", "reopen_s", "offset", "bandwidth", "freq", "duration", "gate_db"):
        value = getattr(options, name)
        if value is not None and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} {value}: give a number")
        if value is not None and value < 0 and name != "offset":
            raise UsageError(f"--{name.replace('_', '-')} {value:g} cannot be negative")
    if options.duration is not None and not options.duration > 0:
        raise UsageError("--duration must be above 0")
    if options.hop < 0 or options.batch < 1 or options.threads < 0:
        raise UsageError("--hop and --threads cannot be negative, --batch must be at least 1")
    if options.json not in (None, "-") and not Path(options.json).parent.is_dir():
        raise EMindError(f"{options.json}: no such folder")
    channels = channels_of(options)
    labels = parse_labels(options.label)
    if labels and not options.record:
        raise UsageError("--label is for what is recorded: give --record PATH too")
    if options.record:
        check_target(options.record)
    common = {
        "mode": "live", "offset": options.offset, "bandwidth": options.bandwidth, "weights": options.weights,
        "heads": options.heads, "hop": options.hop, "gate_db": options.gate_db, "batch": options.batch,
        "backend": options.backend, "threads": options.threads, "apart": options.apart,
        "record": options.record, "record_files": options.record_files, "labels": labels,
        "watchdog_s": options.watchdog_ms / 1e3, "check_s": options.check_ms / 1e3, "reopen_s": options.reopen_s,
        "wait_for_device": False, "channels": channels}
    if options.file:
        if options.args or options.soapy or options.freq is not None or options.gain is not None or channels != [0]:
            raise UsageError("--args, --soapy, --freq, --gain and --channels are for a radio: leave them out with "
                             "--file")
        recording = open_recording(options.file, options.format, options.rate)
        return common | {"kind": "file", "file": options.file, "format": options.format, "file_rate": options.rate,
                         "rate": recording.rate, "freq": recording.center, "gain": None}
    if options.format:
        raise UsageError("--format is for --file")
    settings = source_settings(options)
    if not 0 <= options.bandwidth <= settings["rate"] or not abs(options.offset) <= settings["rate"] / 2:
        raise UsageError(f"--offset and --bandwidth lie outside of the rate of {settings['rate']:g}")
    return common | settings | {"freq": DEFAULT_FREQ if options.freq is None else options.freq}


def parse_command(text: str) -> dict:
    """A line of JSON as a command; UsageError says what is wrong with it."""
    try:
        command = json.loads(text)
    except ValueError:
        command = None
    if not isinstance(command, dict) or not command:
        raise UsageError('a command is a JSON object such as {"freq": 868.3e6, "gain": 30}, '
                         f"not {text.strip()[:60]!r}")
    unknown = command.keys() - set(SETTINGS)
    if unknown:
        raise UsageError(f"a command holds {', '.join(SETTINGS)}, not {', '.join(sorted(unknown))}")
    for key in ("freq", "gain", "rate"):
        value = command.get(key, 0.0)
        if (key, value) != ("gain", AUTO) and (
                isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)):
            raise UsageError(f"{key} is a number, not {value!r}")
    if "label" in command:
        if not isinstance(command["label"], dict):
            raise UsageError("label is an object of columns")
        try:
            command["label"] = {name: checked_label(name, value) for name, value in command["label"].items()}
        except EMindError as fault:
            raise UsageError(f"label: {fault}") from None
    return command


class Session:
    """The whole of a run, over as many processes with the radio as it takes."""

    def __init__(self, settings: dict, output, inbox: SimpleQueue, duration: float | None = None) -> None:
        self.settings, self.output, self.inbox, self.duration = settings, output, inbox, duration
        self.before = dict.fromkeys(ADDED, 0)  # counts of processes that have ended
        self.now: dict = {}  # the newest counts of the one that runs
        self.offset = 0  # added to its sample numbers
        self.newest = 0  # the sample behind the last answer
        self.clock = SampleClock()
        self.overflows = Overflows()
        self.reopenings = self.crashes = self.wordless = 0
        self.dropped = 0  # answers that came faster than they were told, of processes that have ended
        self.wordless_at = -math.inf
        self.files: list[str] = []
        self.there_before = self._recordings() if settings["record"] else set()
        self.fault: EMindError | None = None
        self.recording_error = ""
        self.finished: float | None = None  # when the newest process had counted to its end
        self.logged: set[str] = set()
        self.latency: dict = {}
        self.over = False
        self.started: float | None = None
        self.lost_at: float | None = None
        self.stop_due: float | None = None
        self.again_due: float | None = None

    def run(self) -> int:
        self.child: Child | None = Child(self.settings, self.inbox)
        self.heard = time.monotonic()
        try:
            while not self.over:
                try:
                    self._take(*self.inbox.get(timeout=0.1))
                except Empty:
                    pass
                self._keep_time(time.monotonic())
        except BaseException:  # nobody reads what is told any more: what is recorded shall be whole all the same
            if self.child is not None and self.settings["record"]:
                self.child.end(STOP_WITHIN_S)
            raise
        finally:
            self.over = True
            if self.child is not None:
                self.child.close()
        self._tell_overflows(all_of_them=True)
        if self.settings["record"]:
            self._finish_recordings()
        if self.fault is not None and self.started is None:
            raise self.fault
        self.output.summary(self.summary())
        if self.fault is not None:
            raise self.fault
        if self.recording_error:
            raise EMindError(self.recording_error)
        return 0

    def _keep_time(self, now: float) -> None:
        self._tell_overflows()
        self.output.tick()
        if self.duration and self.started is not None and now - self.started >= self.duration:
            self._stop()
        if self.stop_due is not None and now > self.stop_due:
            self._event("remark", text="the radio's process did not end in time and was killed")
            self.over = True
        if self.again_due is not None and now >= self.again_due:
            self.again_due, self.heard = None, now
            self.child = Child(self.settings | {"wait_for_device": True}, self.inbox)
        if self.child is not None and self.child.opened and now - self.heard > HANGS_AFTER_S:
            self.heard = now
            self._event("remark", text="the driver hangs; its process is ended")
            self.child.kill()

    def _stop(self) -> None:
        if self.stop_due is None:
            self.stop_due = time.monotonic() + STOP_WITHIN_S
            if self.child is None:
                self.over = True
            else:
                self.child.send({"stop": True})

    # --- what comes --------------------------------------------------------------------------------------------

    def _take(self, kind: str, child: Child | None, what) -> None:
        if child is not None and child is not self.child:
            return
        if kind == "told":
            self.heard = time.monotonic()
            getattr(self, "_on_" + what.pop("kind"))(**what)
        elif kind == "mark":
            self.overflows.mark(what)
        elif kind == "log":
            if what not in self.logged:  # each channel's socket says the same
                self.logged.add(what)
                self.output.log(what)
        elif kind == "exit":
            self._on_exit(what)
        elif kind == "stop":
            self._stop()
        else:  # a line or a key
            for command in self._commands(kind, what):
                self._command(command)

    def _commands(self, kind: str, text: str) -> list[dict]:
        try:
            return [parse_command(text)] if kind == "line" else self.output.keys(text)
        except EMindError as fault:
            self._event("refused", text=str(fault))
            return []

    def _command(self, command: dict) -> None:
        if command.pop("stop", False):
            self._stop()
            return
        if "label" in command:  # together with those before, as the processes to come need them too
            command["label"] = self.settings["labels"] = changed_labels(self.settings["labels"], command["label"])
        if command and self.child is not None:
            self.child.send(command)

    def _on_opened(self, **told) -> None:
        self.child.opened, self.crashes, self.now = True, 0, {}
        self.decimation = told["decimation"]
        self.clock.change(self.offset, told["rate"])
        if self.started is None:
            self.started = time.monotonic()
            self._event("opened", **told)
        else:
            self.reopenings += 1
            self._event("reopened", **told, after_s=round(time.monotonic() - self.lost_at, 1), sample=0)

    def _on_detections(self, items: list[dict]) -> None:
        for item in items:
            item["sample_start"] += self.offset
            if item["rx_freq"] is None and self.settings["freq"] is not None:
                item["rx_freq"] = self.settings["freq"] + self.settings["offset"]
            rate = item["rx_rate"] and item["rx_rate"] * self.decimation
            item["time_s"] = self.clock.at(item["sample_start"], rate)
            self.newest = max(self.newest, item["sample_start"] + item["sample_count"])
        self.output.answers(items)

    def _on_rate(self, sample: int, rate: float) -> None:
        self.clock.change(sample + self.offset, rate)

    def _on_overflow(self, count: int, sample: int) -> None:
        self.overflows.happened(count, sample + self.offset, time.monotonic())

    def _on_event(self, event: str, **fields) -> None:
        if event == "set":
            gain = AUTO if fields["automatic_gain"] else fields.get("gain")
            self.settings.update({key: fields[key] for key in ("freq", "rate", "antenna") if fields.get(key)})
            if gain is not None:
                self.settings["gain"] = gain
        if event == "recording_ended":
            self.recording_error = fields["text"]
        self._event(event, **fields)

    def _on_statistics(self, final: bool, **counts) -> None:
        self.now = counts
        if final:
            self.finished = time.monotonic()
        self.output.statistics(self.summary())

    def _on_error(self, text: str, status: int, absent: bool) -> None:
        if self.started is None or self.settings["reopen_s"] == 0 or self.child.opened:
            self.fault = (UsageError if status == 2 else EMindError)(text)
        else:
            self._event("remark", text=text)

    def _on_lost(self, text: str, answers: bool) -> None:
        self._event("lost", text=text)
        now = time.monotonic()
        if answers:
            self.wordless = self.wordless + 1 if now - self.wordless_at < WORDLESS_WITHIN_S else 1
            self.wordless_at = now
        if answers and self.wordless >= MOST_WORDLESS:  # a device does not say that it is in use: no endless fight
            self.fault = EMindError(f"{text}; it was opened anew, and so it was again")

    def _on_ended(self) -> None:
        pass

    def _on_exit(self, status: int) -> None:
        child, self.child = self.child, None
        child.close()
        self.dropped += child.dropped
        self._add_up()
        if self.stop_due is not None or status == 0 or self.fault is not None:
            if status != 0 and self.fault is None:
                self._event("remark", text=self._crashed(status))
            self.over = True
            return
        now = time.monotonic()
        if status != 3 and child.opened:  # 3: it has said so itself
            self._event("lost", text=self._crashed(status))
        if child.opened:
            self.lost_at = now
        else:
            self.crashes += 1
        if self.started is None or self.crashes >= MOST_CRASHES:
            last = next((line for line in reversed(child.log) if line.strip()), "it said nothing")
            self.fault = self.fault or EMindError(f"the radio's process failed with status {status}: {last}")
            self.over = True
        elif not self.settings["reopen_s"] or self.settings["kind"] == "file":
            self.fault = EMindError("the device has gone (--reopen-s 0: not looked for)")
            self.over = True
        else:
            self.again_due = now + (0 if child.opened else self.settings["reopen_s"])

    def _crashed(self, status: int) -> str:
        return f"the driver took its process down (status {status})"

    def _add_up(self) -> None:
        for key in ADDED:
            self.before[key] += self.now.get(key, 0)
        self.offset = max(self.before["samples"], self.newest)
        self.latency = {key: self.now[key] for key in self.now if key.startswith("latency") or key in (
            "backend", "weights")}
        self.now = {}

    def _recordings(self) -> set[Path]:
        """Finished files of that name, from this run or before."""
        base = Path(self.settings["record"])
        return {file for file in base.parent.glob(glob.escape(base.name) + "-*")
                if file.suffix in (".parquet", ".sigmf-meta")}

    def _finish_recordings(self) -> None:
        """Files that a process which was taken down left unfinished; then all that this run has made."""
        from ..storage.recording_files import recover_file

        base = Path(self.settings["record"])
        for part in sorted(base.parent.glob(glob.escape(base.name) + "-*.part")):
            try:
                recover_file(part)
            except EMindError as fault:
                self._event("remark", text=str(fault))
        self.files = sorted(map(str, self._recordings() - self.there_before))

    # --- what is told ------------------------------------------------------------------------------------------

    def _event(self, event: str, **fields) -> None:
        if "sample" in fields:
            fields["sample"] += self.offset
        self.output.event({"event": event, **fields})

    def _tell_overflows(self, all_of_them: bool = False) -> None:
        for event in self.overflows.told(time.monotonic(), all_of_them):
            self.output.event(event)

    def summary(self) -> dict:
        """All counts of the run so far."""
        counts = {key: self.before[key] + self.now.get(key, 0) for key in ADDED}
        seen = counts["windows_seen"]
        marks = self.overflows.counts
        until = self.finished if self.over and self.finished else time.monotonic()
        out = {"seconds": 0.0 if self.started is None else round(until - self.started, 3), **counts,
               "coverage": round((counts["windows_inferred"] + counts["windows_gated"]) / seen, 4) if seen else None,
               "lines_dropped": self.output.dropped + self.dropped + (self.child.dropped if self.child else 0),
               "overflows_device": marks["O"], "overflows_network": marks["D"], "reopenings": self.reopenings}
        out |= {key: self.now.get(key, self.latency.get(key)) for key in (
            "latency_ms_p50", "latency_ms_p99", "backend", "weights")}
        if self.settings["record"]:
            out["recording"] = {"files": self.files, "error": self.recording_error}
        return out
