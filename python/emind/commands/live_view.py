"""What `emind live` shows: a table that renews itself, lines, or JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from ..contract.errors import EMindError
from .classify import NOISE_FAMILY, _hz
from .head_text import MAIN_HEAD, OUTSIDE_MARK, OUTSIDE_NOTE, left_out_note, shown, summary
from .line_writer import LineWriter
from .live_process import read_lines
from .live_source import AUTO
from .painter import Painter

KEYS = "q quit   left/right frequency   up/down gain   a automatic gain   f type a frequency (MHz)"
_ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
           "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left"}
_TEXTS = {
    "opened": "{device} {serial} open: {freq:.10g} Hz, {rate:g} samples a second, gain {gain}",
    "reopened": "{device} {serial} is back after {after_s} s: {freq:.10g} Hz, {rate:g} samples a second",
    "overflow": "overflow at sample {sample}: {reason}; {advice}",
    "gap": "{samples_lost} samples are missing before sample {sample}",
    "jump": "the device's time went back before sample {sample}",
    "silent": "no samples for {after_ms} ms after sample {sample}",
    "restart": "the stream was started again ({restarts})",
    "resumed": "samples come again from sample {sample}",
    "lost": "device lost: {text}; it is looked for",
    "set": "set: {freq:.10g} Hz, {rate:g} samples a second, gain {gain}, antenna {antenna}",
    "gain": "automatic gain: {gain:g} dB",
    "refused": "refused: {text}",
    "remark": "{text}",
    "recording_ended": "the recording has ended: {text}",
}


def text_of(event: dict) -> str:
    """An event as a line."""
    name = "jump" if event["event"] == "gap" and event["samples_lost"] == 0 else event["event"]
    try:
        return _TEXTS[name].format(**event)
    except (KeyError, ValueError, TypeError):  # a recording has neither frequency nor gain
        return ", ".join(f"{key} {value}" for key, value in event.items() if value not in (None, ""))


def make_output(options, settings: dict, inbox) -> Output:
    """JSON where asked for, the table on a terminal, else lines."""
    if options.json is not None:
        return JsonOutput(options.json)
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")
    asked = options.heads is not None
    return View(settings, inbox, asked=asked) if terminal and not options.lines else Lines(LineWriter("-"), asked)


class Output(AbstractContextManager):
    """What a run tells goes here."""

    main, others = MAIN_HEAD, ()  # the head whose labels windows are put together by, and those that speak besides
    dropped = 0  # lines for which there was no room

    def opened(self, event: dict) -> None:
        """Take in which heads there are."""
        if event["event"] in ("opened", "reopened"):
            self.main, self.others = event.get("main", MAIN_HEAD), tuple(event.get("others", ()))

    def answers(self, items: list[dict]) -> None:
        """Windows that were answered, in order."""

    def event(self, event: dict) -> None:
        """Something happened."""

    def statistics(self, summary: dict) -> None:
        """The counts so far, twice a second."""

    def summary(self, summary: dict) -> None:
        """The counts at the end."""

    def log(self, text: str) -> None:
        """A line of the driver or of GNU Radio."""
        print(text, file=sys.stderr)

    def tick(self) -> None:
        """Called ten times a second or more often."""

    def keys(self, text: str) -> list[dict]:
        """What keys that were pressed ask for."""
        return []

    def __exit__(self, *_) -> None:
        pass


class JsonOutput(Output):
    """One JSON object a line: an answer, or an event, which has an entry ``event``; the last one is ``summary``."""

    def __init__(self, path: str) -> None:
        self._writer = LineWriter(path, tell=True)

    def __exit__(self, kind, *_) -> None:
        _end(self._writer, kind)

    @property
    def dropped(self) -> int:
        return self._writer.dropped

    def answers(self, items: list[dict]) -> None:
        self._writer.put([json.dumps(item) for item in items], answers=True)

    def event(self, event: dict) -> None:
        self._writer.put([json.dumps(event)])
        print(f"emind: {text_of(event)}", file=sys.stderr)

    def tick(self) -> None:
        self._writer.check()

    def summary(self, summary: dict) -> None:
        self._writer.put([json.dumps({"event": "summary", **summary})], last=True)
        self._writer.end()


def _end(writer: LineWriter | None, kind: type | None) -> None:
    """Behind an error: what was told before it; not behind an interrupt."""
    if writer is not None and kind is not None and issubclass(kind, EMindError):
        try:
            writer.end()
        except (EMindError, OSError):
            pass


def _line_of(group: list[dict], main: str, others: Sequence[str], asked: bool) -> str:
    first, head = group[0], group[0][main]
    snrs = [item["snr_db"] for item in group if item["snr_db"] is not None]
    confidence = sum(item[main]["confidence"] for item in group) / len(group)
    family = f" {head['family']:<8}" if "family" in head else ""
    said = "".join(f"  {name}: {text}" for name in others if (text := _said(name, group, asked)) != "-")
    snr = f"{sum(snrs) / len(snrs):5.1f} dB" if snrs else "      - "
    freq = "" if first["rx_freq"] is None else f"{first['rx_freq'] / 1e6:11.4f} MHz"
    channel = f"  channel {first['channel']}" if "channel" in first else ""
    return (f"{first['time_s']:10.4f} s  {freq}  {head['label']:<14}{family} {confidence:.2f}  {snr}  "
            f"{len(group)} windows{channel}{said}")


def _said(name: str, items: Iterable[dict], asked: bool) -> str:
    """What a head says of windows, in words."""
    return summary(shown([item[name] for item in items if name in item], asked))


class Lines(Output):
    """A line for windows in a row with one label; events and the counts on standard error.

    ``asked``: heads were named, so all of them speak, also outside of what they were trained on.
    """

    def __init__(self, writer: LineWriter | None = None, asked: bool = False) -> None:
        self._writer, self._asked = writer, asked  # no writer: printed
        self._groups: dict[int, list[dict]] = {}

    def __exit__(self, kind, *_) -> None:
        _end(self._writer, kind)

    @property
    def dropped(self) -> int:
        return 0 if self._writer is None else self._writer.dropped

    def tick(self) -> None:
        if self._writer is not None:
            self._writer.check()

    def answers(self, items: list[dict]) -> None:
        for item in items:
            if self.main not in item:
                continue
            group = self._groups.setdefault(item.get("channel", 0), [])
            if group and (self.main not in group[0] or group[0][self.main]["label"] != item[self.main]["label"]
                          or group[0]["rx_freq"] != item["rx_freq"]):
                self._print(group)
                group.clear()
            group.append(item)

    def _print(self, group: list[dict]) -> None:
        self._say(_line_of(group, self.main, self.others, self._asked))

    def _say(self, text: str, last: bool = False) -> None:
        if self._writer is None:
            print(text, flush=True)
        else:
            self._writer.put([text], answers=True, last=last)

    def event(self, event: dict) -> None:
        self.opened(event)
        print(f"emind: {text_of(event)}", file=sys.stderr)

    def summary(self, summary: dict) -> None:
        for group in self._groups.values():
            if group:
                self._print(group)
        print(f"emind: {counts_text(summary)}", file=sys.stderr)
        for name in summary.get("recording", {}).get("files", []):
            self._say(name, last=True)
        if self._writer is not None:
            self._writer.end()


def counts_text(summary: dict) -> str:
    """The counts in one line."""
    coverage = "-" if summary["coverage"] is None else f"{100 * summary['coverage']:.1f} %"
    return (f"{summary['seconds']:.1f} s, {summary['samples']:,} samples; windows: {summary['windows_seen']:,} seen, "
            f"{summary['windows_inferred']:,} inferred, {summary['windows_gated']:,} gated, "
            f"{summary['windows_skipped']:,} skipped ({coverage} answered); {summary['overflows']} overflows, "
            f"{summary['gaps']} gaps, {summary['restarts']} restarts, {summary['reopenings']} reopenings"
            + (f"; {summary['lines_dropped']:,} lines found no room" if summary["lines_dropped"] else ""))


class View(Output):
    """A table on the terminal: what is heard, the last answers, the counts and what happened; obeys keys.

    ``asked``: see :class:`Lines`.
    """

    def __init__(self, settings: dict, inbox, console=None, asked: bool = False) -> None:
        from rich.console import Console

        self._settings, self._inbox, self._asked = settings, inbox, asked
        if console is None:  # a file of its own: one that is held up by a stopped terminal shall not be the program's
            console = Console(file=os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding))
        self._console = console
        self._recent: deque[dict] = deque(maxlen=4000)
        self._runs: deque[list] = deque(maxlen=8)  # label, family, windows, sum of confidences, newest answer
        self._messages: deque[str] = deque(maxlen=6)
        self._told = self._counts = None
        self._typed: str | None = None
        self._due = 0.0
        self._open = False

    def __enter__(self) -> View:
        self._open = True
        if sys.stdin is not None and sys.stdin.isatty():
            import termios
            import tty

            number = sys.stdin.fileno()
            self._terminal = number, termios.tcgetattr(number)
            tty.setcbreak(number)
            read_lines(number, self._inbox, "keys", lambda: self._open)
        else:
            self._terminal = None
        self._painter = Painter(self.renderable(), self._console)
        return self

    def __exit__(self, *_) -> None:
        self._open = False
        painted = self._painter.end()
        if self._terminal:
            import termios

            how = termios.TCSADRAIN if painted else termios.TCSANOW  # the former waits for what is still to be painted
            termios.tcsetattr(self._terminal[0], how, self._terminal[1])

    def answers(self, items: list[dict]) -> None:
        for item in items:
            head = item.get(self.main)
            if head is None:
                continue
            self._recent.append(item)
            if not self._runs or self._runs[-1][0] != head["label"]:
                self._runs.append([head["label"], head.get("family", "-"), 0, 0.0, item])
            run = self._runs[-1]
            run[2] += 1
            run[3] += head["confidence"]
            run[4] = item

    def event(self, event: dict) -> None:
        self.opened(event)
        if event["event"] in ("opened", "reopened"):
            self._told = dict(event)
        elif event["event"] in ("set", "gain") and self._told:
            self._told.update({key: value for key, value in event.items() if key != "event"})
        if event["event"] != "gain":
            self._messages.append(text_of(event))

    def statistics(self, summary: dict) -> None:
        self._counts = summary

    def log(self, text: str) -> None:
        if text.startswith("["):
            self._messages.append(text)

    def summary(self, summary: dict) -> None:
        self._counts = summary
        self._painter.end(self.renderable(), summary.get("recording", {}).get("files", []))

    def tick(self) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + 0.25
            self._painter.show(self.renderable())

    def keys(self, text: str) -> list[dict]:
        """Commands for the keys in ``text``, which may be several."""
        out: list[dict] = []
        while text:
            arrow = next((key for key in _ARROWS if text.startswith(key)), None)
            key, text = (_ARROWS[arrow], text[len(arrow):]) if arrow else (text[0], text[1:])
            command = self._key(key)
            if command:
                out.append(command)
        return out

    def _key(self, key: str) -> dict | None:
        told = self._told or {}
        if self._typed is not None:  # a number is being typed
            if key in "0123456789.":
                self._typed += key
            elif key in ("\x7f", "\b"):
                self._typed = self._typed[:-1]
            else:
                typed, self._typed = self._typed, None
                try:
                    return {"freq": float(typed) * 1e6} if key in "\r\n" else None
                except ValueError:
                    return None
            return None
        if key == "q":
            return {"stop": True}
        if key == "f":
            self._typed = ""
        elif key == "a":
            return {"gain": told.get("gain") or 0.0} if told.get("automatic_gain") else {"gain": AUTO}
        elif key in ("left", "right") and told.get("freq"):
            return {"freq": told["freq"] + told["rate"] / 4 * (1 if key == "right" else -1)}
        elif key in ("up", "down") and told.get("gain") is not None:
            return {"gain": told["gain"] + (1.0 if key == "up" else -1.0)}
        return None

    def renderable(self):
        """The whole picture, from what has come so far."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        told = self._told
        if told is None:
            title = "opening ..."
        else:
            freq = "" if told.get("freq") is None else f"   {told['freq'] / 1e6:.6f} MHz"
            gain = "" if told.get("gain") is None else \
                f"   gain {told['gain']:g} dB" + (" (automatic)" if told.get("automatic_gain") else "")
            title = f"{told['device']} {told['serial']}{freq}   {_hz(told['rate'], 'S/s')}{gain}"
        speak = {name: [item[name] for item in self._recent if name in item] for name in self.others}
        others = [name for name, said in speak.items() if not said or shown(said, self._asked)]
        heard = Table(expand=False)
        for name, justify in (("heard", "left"), ("family", "left"), ("share", "right"), ("confidence", "right"),
                              ("SNR (dB)", "right"), *((name, "left") for name in others)):
            heard.add_column(name, justify=justify)
        labels: dict[str, list[dict]] = {}
        marked = False
        for item in self._recent:
            if self.main in item:  # after a change of weights older ones may lack it
                labels.setdefault(item[self.main]["label"], []).append(item)
        for label, items in sorted(labels.items(), key=lambda pair: -len(pair[1]))[:6]:
            snrs = [item["snr_db"] for item in items if item["snr_db"] is not None]
            family = items[0][self.main].get("family", "-")
            said = [_said(name, items, self._asked) for name in others]
            marked |= any(text.endswith(OUTSIDE_MARK) for text in said)
            heard.add_row(label, family, f"{100 * len(items) / len(self._recent):.0f} %",
                          f"{sum(i[self.main]['confidence'] for i in items) / len(items):.2f}",
                          f"{sum(snrs) / len(snrs):.1f}" if snrs else "-", *said,
                          style="dim" if family == NOISE_FAMILY else None)
        note = OUTSIDE_NOTE if marked else ""
        if left_out := [name for name in self.others if name not in others]:
            note = left_out_note(left_out)
        last = Table(title="last answers", title_justify="left")
        for name in ("at (s)", "windows", self.main, "confidence", "SNR (dB)"):
            last.add_column(name, justify="left" if name == self.main else "right")
        for label, family, windows, confidences, item in reversed(self._runs):
            last.add_row(f"{item['time_s']:.3f}", str(windows), label, f"{confidences / windows:.2f}",
                         "-" if item["snr_db"] is None else f"{item['snr_db']:.1f}",
                         style="dim" if family == NOISE_FAMILY else None)
        parts = [Text(title, style="bold"), heard, *([Text(note, style="dim")] if note else []), last]
        if self._counts:
            parts.append(Text(counts_text(self._counts)))
            if self._counts["latency_ms_p50"] is not None:
                parts.append(Text(f"latency {self._counts['latency_ms_p50']:.0f} ms (half of the windows), "
                                  f"{self._counts['latency_ms_p99']:.0f} ms (99 of 100)   "
                                  f"{self._counts['weights']} on {self._counts['backend']}"))
        parts += [Text(message, style="yellow") for message in self._messages]
        parts.append(Text(KEYS if self._typed is None else f"frequency in MHz: {self._typed}_", style="dim"))
        return Group(*parts)
