"""Lines written by a thread of their own, so that a reader who stops taking them holds up nothing else."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque

from ..contract.errors import EMindError
from ..storage.replacing import own

MOST_WAITING = 50_000  # lines; twice as many where they are no answers
AT_ONCE = 500
STALLED_S = 10.0  # without a byte being taken: at the end nobody is waited for any longer


class LineWriter:
    """Writes lines to a file, or ``-`` for standard output, in their order. EMindError where it cannot be opened.

    What finds no room is counted in ``dropped``; where room comes again a line with the event ``lines_dropped`` stands
    in its place if ``tell`` is set.
    """

    def __init__(self, path: str, tell: bool = False, most: int = MOST_WAITING) -> None:
        self._name, self._tell, self._most = "standard output" if path == "-" else path, tell, most
        try:
            if path == "-":
                sys.stdout.flush()
                self._file = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)  # without a lock
            else:
                self._file = open(own(path), "wb", buffering=0)
        except (OSError, AttributeError) as fault:
            raise EMindError(f"{self._name}: cannot be written ({getattr(fault, 'strerror', None) or fault})") from None
        self.dropped = 0
        self._told = 0  # of which a line tells
        self._lines: deque[str] = deque()
        self._in_hand = 0  # lines that are being written
        self._written = 0  # bytes
        self._fault: OSError | None = None
        self._ending = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="emind-output", daemon=True).start()

    def put(self, lines: list[str], answers: bool = False, last: bool = False) -> None:
        """Take lines without their ends; ``last``: whether there is room or not. Raises as :meth:`check`."""
        self.check()
        with self._changed:
            waiting = len(self._lines) + self._in_hand
            if not last and waiting + len(lines) > self._most * (1 if answers else 2):
                self.dropped += len(lines)
                return
            if self._tell and self.dropped > self._told:
                self._lines.append(json.dumps({"event": "lines_dropped", "count": self.dropped - self._told}))
                self._told = self.dropped
            self._lines.extend(lines)
            self._changed.notify_all()

    def check(self) -> None:
        """BrokenPipeError where the reader has gone, EMindError where the disk is full or the like."""
        if isinstance(self._fault, BrokenPipeError):
            raise self._fault
        if self._fault is not None:
            raise EMindError(f"{self._name}: cannot be written ({self._fault.strerror})")

    def end(self) -> None:
        """Write what waits. Raises as :meth:`check`, and EMindError where nobody takes it."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            written, since = self._written, time.monotonic()
            while self._fault is None and (left := len(self._lines) + self._in_hand):
                self._changed.wait(0.1)
                if self._written != written:
                    written, since = self._written, time.monotonic()
                elif time.monotonic() - since > STALLED_S:
                    raise EMindError(f"{self._name}: nobody reads it any more; {left:,} lines are lost")
        self.check()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._ending)
                if not self._lines:
                    break
                lines = [self._lines.popleft() for _ in range(min(AT_ONCE, len(self._lines)))]
                self._in_hand = len(lines)
            data = memoryview(("\n".join(lines) + "\n").encode())
            try:
                while len(data):
                    count = self._file.write(data) or 0
                    self._written += count
                    data = data[count:]
            except OSError as fault:
                self._fault = fault
            with self._changed:
                self._in_hand = 0
                self._changed.notify_all()
            if self._fault is not None:
                break
        try:
            self._file.close()
        except OSError as fault:
            self._fault = self._fault or fault
