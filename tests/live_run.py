"""`emind live` and `emind scan` as a user's process, obeyed and read line by line, for tests with the emulated N210."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

driver = pytest.mark.skipif(
    importlib.util.find_spec("gnuradio") is None or importlib.util.find_spec("gnuradio.uhd") is None,
    reason="gnuradio.uhd is not installed")
START_S = 90.0  # loading on a busy machine


class Live:
    """``with Live("--args", ...) as run:`` starts `emind live --json -`; ``run.all`` holds what it has told so far."""

    def __init__(self, *arguments, json_lines: bool = True, command: str = "live"):
        self._arguments = [command, *map(str, arguments), *(["--json", "-"] if json_lines else [])]
        self.all: list[dict] = []
        self._fresh: queue.Queue = queue.Queue()

    def __enter__(self) -> Live:
        code = "import sys; from emind.cli import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *self._arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
        self.stderr: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._drain.join(5)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._fresh.put(json.loads(line))
        self._fresh.put(None)

    def _read_errors(self) -> None:
        for line in self.process.stderr:
            self.stderr.append(line.decode(errors="replace").rstrip())

    def say(self, **command) -> None:
        self.process.stdin.write((json.dumps(command) + "\n").encode())
        self.process.stdin.flush()

    def until(self, reached: Callable[[dict], bool], count: int = 1, within: float = 30.0) -> dict:
        """Read on until ``count`` objects for which ``reached`` holds have come; the last of them."""
        end = time.monotonic() + within
        while True:
            try:
                told = self._fresh.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"did not come in {within:g} s; events: {self.events()}; {self.stderr}") from None
            assert told is not None, f"ended with status {self.process.wait()}: {self.stderr}"
            self.all.append(told)
            if reached(told):
                count -= 1
                if count == 0:
                    return told

    def until_event(self, name: str, count: int = 1, within: float = 30.0) -> dict:
        return self.until(lambda told: told.get("event") == name, count, within)

    def until_answers(self, count: int, within: float = 30.0) -> dict:
        return self.until(lambda told: "event" not in told, count, within)

    def until_answers_behind_gap(self, number: int, count: int = 20) -> None:
        """Until so many windows behind the gap of this number, from 1, are answered: those before it may come late."""
        while len(self.events("gap")) < number:
            self.until_event("gap")
        first = self.events("gap")[number - 1]["sample"]
        self.until(lambda told: "event" not in told and told["sample_start"] >= first, count)

    def finish(self, stop: bool = True, within: float = 30.0) -> dict:
        """Stop it, read to the end, and give the summary."""
        if stop:
            self.say(stop=True)
        end = time.monotonic() + within
        while (told := self._fresh.get(timeout=max(0.1, end - time.monotonic()))) is not None:
            self.all.append(told)
        self.process.wait(within)
        summary = self.all[-1]
        assert summary.get("event") == "summary", (self.all[-1], self.stderr)
        return summary

    def events(self, name: str | None = None) -> list[dict]:
        return [told for told in self.all if "event" in told and name in (None, told["event"])]

    def answers(self) -> list[dict]:
        return [told for told in self.all if "event" not in told]


def ticks(rx_time) -> int:
    """100 MHz ticks of a device time [whole seconds, fraction]."""
    return int(rx_time[0]) * 100_000_000 + round(rx_time[1] * 100e6)


def events_of(device, *names: str) -> list[dict]:
    return [event for event in device.status()["events"] if event["event"] in names]


def run_once(*arguments, timeout: float = 120.0, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """A command that ends by itself."""
    code = "import sys; from emind.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL, cwd=cwd,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
