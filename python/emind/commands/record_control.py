"""Runs a recording: keys or lines of JSON label it and switch it, Ctrl-C ends it with all that came."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from contextlib import contextmanager

from ..contract.errors import EMindError
from ..contract.schema import changed_labels
from .live_process import read_lines
from .live_source import plain

TICK_S = 0.1
TELL_EVERY = 10  # ticks


class Control:
    """``flowgraph`` has a ``recorder``, and with a radio a ``watchdog`` and ``helpers`` to be looked at; ``keys``: key
    -> labels that it sets."""

    def __init__(self, flowgraph, keys: dict[str, dict]) -> None:
        self._flowgraph, self._keys = flowgraph, keys
        self._watchdog, self._helpers = getattr(flowgraph, "watchdog", None), getattr(flowgraph, "helpers", [])
        self._labels = dict(flowgraph.recorder.labels())
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self._over = threading.Event()
        self._terminal = False

    def run(self) -> None:
        """Until the flowgraph ends, or somebody ends it; what is wrong with a command is said and changes nothing."""
        if threading.current_thread() is not threading.main_thread():
            self._flowgraph.run()
            return
        # GNU Radio's own wait() does not return on a signal.
        before = {number: signal.signal(number, lambda *_: self._flowgraph.stop())
                  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}  # the last: the terminal is closed
        try:
            with self._input():
                self._flowgraph.start()
                threading.Thread(target=lambda: (self._flowgraph.wait(), self._over.set()), daemon=True).start()
                tick = 0
                while not self._over.wait(TICK_S):
                    while not self._inbox.empty():
                        kind, _, text = self._inbox.get()
                        self._obey_line(text) if kind == "line" else self._obey_keys(text)
                    if self._look_after():
                        break
                    if self._flowgraph.recorder.statistics()["error"]:  # nothing more can be recorded
                        self._flowgraph.stop()
                    tick += 1
                    if self._terminal and tick % TELL_EVERY == 0:
                        self._tell()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _look_after(self) -> bool:
        """Whether the device has gone; then the files are finished, and the driver is left alone."""
        for helper in self._helpers:
            try:
                told = helper.look()
            except RuntimeError as fault:  # the driver's: the watchdog finds out whether the device has gone
                told = f"the device did not take it ({plain(fault)})"
            if told:
                self._say(told)
        if self._watchdog is None or not self._watchdog.lost:
            return False
        self._flowgraph.recorder.stop()
        return True

    def set_labels(self, labels: dict) -> None:
        """Change these labels of what follows; None takes one away. EMindError: nothing is changed."""
        wanted = changed_labels(self._labels, labels)
        self._flowgraph.recorder.set_labels(wanted)
        self._labels = wanted
        self._say("labels: " + (", ".join(f"{k}={v}" for k, v in self._labels.items()) or "none"))

    def set_recording(self, recording: bool) -> None:
        self._flowgraph.recorder.set_recording(recording)
        self._say("recording" if recording else "not recording")

    def _obey_keys(self, text: str) -> None:
        for key in text:
            if key == "q":
                self._flowgraph.stop()
            elif key == "r":
                self.set_recording(not self._flowgraph.recorder.statistics()["recording"])
            elif key in self._keys:
                try:
                    self.set_labels(self._keys[key])
                except EMindError as fault:
                    self._say(str(fault))

    def _obey_line(self, text: str) -> None:
        try:
            command = json.loads(text)
            if not isinstance(command, dict) or not command or command.keys() - {"label", "record", "stop"}:
                raise ValueError
            if not isinstance(command.get("label", {}), dict) or not isinstance(command.get("record", True), bool):
                raise ValueError
        except ValueError:
            self._say(f"not understood: {text.strip()}; known are label (an object), record (true, false) and stop")
            return
        try:
            if "label" in command:
                self.set_labels(command["label"])
        except EMindError as fault:
            self._say(str(fault))
        if "record" in command:
            self.set_recording(command["record"])
        if command.get("stop"):
            self._flowgraph.stop()

    @contextmanager
    def _input(self):
        """Keys from a terminal, lines from anything else; nothing where there is no standard input."""
        try:
            number = sys.stdin.fileno()
            self._terminal = os.isatty(number)
            ours = not self._terminal or os.tcgetpgrp(number) == os.getpgrp()  # reading in the background would stop us
        except (AttributeError, OSError, ValueError):
            ours = False
        if not ours:
            self._terminal = False
            yield
            return
        wanted = True
        read_lines(number, self._inbox, "keys" if self._terminal else "line", lambda: wanted)
        if not self._terminal:
            try:
                yield
            finally:
                wanted = False
            return
        import termios
        import tty

        state = termios.tcgetattr(number)
        tty.setcbreak(number)
        self._say("r: off and on, q: end" + "".join(
            f", {key}: {' '.join(f'{k}={v}' for k, v in found.items())}" for key, found in self._keys.items()))
        try:
            yield
        finally:
            wanted = False
            try:
                termios.tcsetattr(number, termios.TCSADRAIN, state)
            except termios.error:
                pass  # the terminal has gone
            self._print("\n")

    def _tell(self) -> None:
        counts = self._flowgraph.recorder.statistics()
        state = "recording" if counts["recording"] else "not recording"
        taken = counts["samples_written"] + counts["samples_queued"]
        self._print(f"\r\x1b[K{state}: {taken:,} samples in {counts['rows']:,} rows, "
                    f"{counts['samples_dropped']:,} dropped")

    def _say(self, text: str) -> None:
        self._print(("\r\x1b[K" if self._terminal else "") + f"emind: {text}\n")

    @staticmethod
    def _print(text: str) -> None:
        """To standard error; a terminal that was closed ends no recording by not being there."""
        try:
            print(text, end="", file=sys.stderr, flush=True)
        except OSError:
            pass
