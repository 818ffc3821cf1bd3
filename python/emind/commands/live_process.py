"""This side of the process that holds the radio: starts it, reads what it tells, and outlives it."""

from __future__ import annotations

import json
import math
import os
import re
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

# Letters that UHD prints while it streams, in front of whatever is printed next.
_MARKS = re.compile(r"^([ODUSL]+)(?=$|\[|usrp_source|gr::)")
_NOISE = re.compile(r"overflows? occurred|^\[INFO\]|^\[ERROR\].* resolve: Host not found|^$")
_REASONS = {
    "O": ("the device's buffer ran over: this computer, or the network, takes the samples too slowly",
          "lower --rate, end other programs, or connect the device directly"),
    "D": ("packets were lost between the device and the driver",
          "enlarge the socket buffer (sudo sysctl -w net.core.rmem_max=50000000), lower --rate, or mend the network"),
    "": ("samples were lost; the driver did not say where", "lower --rate or end other programs"),
}
MOST_WAITING = 20_000  # messages on the inbox: answers that come on top are counted and given up
INSIST_AFTER_S = 1.0  # a second signal sooner than this is the same one: shells and `timeout` send it twice
ASSIGN_WITHIN_S = 0.3  # a mark may come so much later than the message of its overflow


class Child:
    """The radio's process. Puts on ``inbox``: ("told", self, dict), ("mark", self, letter), ("log", self, line) and,
    last, ("exit", self, status)."""

    def __init__(self, settings: dict, inbox: SimpleQueue) -> None:
        self.inbox = inbox
        self.opened = False
        self.dropped = 0  # answers that nobody took in time
        self.log: deque[str] = deque(maxlen=20)
        environment = {
            **os.environ,
            "GR_CONF_UHD_LOGGING_INTERVAL_MS": "0",  # else overflows are told every 750 ms, summed, the last ones never
            "UHD_LOG_CONSOLE_LEVEL": os.environ.get("UHD_LOG_CONSOLE_LEVEL", "warning"),
            "PYTHONSAFEPATH": "1",  # the folder that one is in is no place for modules
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.live_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment, start_new_session=True)  # Ctrl-C is for this side only
        self.send(settings)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, command: dict) -> None:
        """One line to it; nothing where it has ended."""
        try:
            self._process.stdin.write((json.dumps(command) + "\n").encode())
            self._process.stdin.flush()
        except (BrokenPipeError, OSError, ValueError):
            pass

    def end(self, within: float) -> None:
        """Have it end in good order, with what it records; returns then, or after so many seconds."""
        self.send({"stop": True})
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            pass

    def kill(self) -> None:
        """End it now."""
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        self.kill()
        self._process.wait()
        self._reader.join(5.0)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            try:
                pipe.close()
            except OSError:
                pass

    def _read(self) -> None:
        streams = {self._process.stdout: b"", self._process.stderr: b""}
        with selectors.DefaultSelector() as selector:
            for stream in streams:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    stream = key.fileobj
                    data = os.read(stream.fileno(), 1 << 16)
                    if not data:
                        selector.unregister(stream)
                        continue
                    *lines, rest = (streams[stream] + data).split(b"\n")
                    if stream is self._process.stderr:
                        rest = self._marks_of(rest)
                    streams[stream] = rest
                    for line in lines:
                        (self._log if stream is self._process.stderr else self._told)(line)
        self.inbox.put(("exit", self, self._process.wait()))

    def _marks_of(self, rest: bytes) -> bytes:
        """Marks come without a line's end."""
        if rest and not rest.strip(b"ODUSL"):
            self._mark(rest.decode())
            return b""
        return rest

    def _mark(self, letters: str) -> None:
        for letter in letters:
            if letter in "OD":
                self.inbox.put(("mark", self, letter))

    def _told(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            self._log(line)
            return
        if told["kind"] == "detections" and self.inbox.qsize() >= MOST_WAITING:
            self.dropped += len(told["items"])
        else:
            self.inbox.put(("told", self, told))

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        found = _MARKS.match(text)
        if found:
            self._mark(found[1])
            text = text[found.end():]
        if not _NOISE.search(text):
            self.log.append(text)
            self.inbox.put(("log", self, text))


class Overflows:
    """Brings overflows and the driver's marks together: which of them came why."""

    def __init__(self) -> None:
        self.counts = {"O": 0, "D": 0, "": 0}
        self._marks: deque[str] = deque()
        self._waiting: deque[tuple[float, dict]] = deque()

    def mark(self, letter: str) -> None:
        self._marks.append(letter)

    def happened(self, count: int, sample: int, now: float) -> None:
        for _ in range(count):
            self._waiting.append((now, {"event": "overflow", "sample": sample}))

    def told(self, now: float, all_of_them: bool = False) -> list[dict]:
        """Events that can be told now: one an overflow, with its reason and what to change."""
        out = []
        while self._waiting and (self._marks or all_of_them or now - self._waiting[0][0] > ASSIGN_WITHIN_S):
            _, event = self._waiting.popleft()
            letter = self._marks.popleft() if self._marks else ""
            self.counts[letter] += 1
            reason, advice = _REASONS[letter]
            out.append(event | {"mark": letter, "reason": reason, "advice": advice})
        return out


def read_lines(file_number: int, inbox: SimpleQueue, kind: str, wanted: Callable[[], bool]) -> None:
    """Put ``(kind, None, text)`` on the inbox as text comes on a file descriptor, in a thread; lines for "line"."""

    def read() -> None:
        rest = b""
        while wanted():
            if not select.select([file_number], [], [], 0.2)[0]:
                continue
            data = os.read(file_number, 4096)
            if not data:
                return
            if kind == "line":
                *lines, rest = (rest + data).split(b"\n")
                for line in filter(bytes.strip, lines):
                    inbox.put((kind, None, line.decode(errors="replace")))
            else:
                inbox.put((kind, None, data.decode(errors="replace")))

    threading.Thread(target=read, daemon=True).start()


class stopping_signals:
    """``with stopping_signals(inbox):`` Ctrl-C, SIGTERM, SIGHUP put ("stop", None, name) on the inbox; a second one, a
    second later or more, raises KeyboardInterrupt."""

    def __init__(self, inbox: SimpleQueue) -> None:
        self._inbox = inbox
        self._before: dict = {}
        self._first = math.inf

    def __enter__(self) -> stopping_signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: closed terminal
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, _) -> None:
        now = time.monotonic()
        if now - self._first >= INSIST_AFTER_S:
            raise KeyboardInterrupt
        self._first = min(self._first, now)
        self._inbox.put(("stop", None, signal.Signals(number).name))

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
