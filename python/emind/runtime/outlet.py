"""How many messages may be sent, so that no more than a bounded number waits at whoever receives them.

GNU Radio keeps the messages for a block with a handler in a queue without a limit, and a sender is not told how long
it is. There are two ways to know, and one to do without:

- the receiving blocks are *watched*: their queues' lengths are read before something is sent;
- the receiver *acknowledges* what it has dealt with, and sent minus acknowledged is what is pending;
- neither: ``limit`` messages a second are sent, in bursts of at most ``limit``. That bounds what a flood can do, but
  a receiver slower than that still gathers messages.

One thread sends; any may acknowledge.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Outlet:
    """Counts what may be sent.

    Parameters
    ----------
    limit: most messages pending at a receiver, and most sent a second where nothing is known of it; 0: no bound
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        if limit < 0:
            raise ValueError(f"limit {limit} must not be negative")
        self.limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: list[Callable[[], int]] = []
        self.restart()

    def restart(self) -> None:
        """Nothing has been sent yet; what is watched stays."""
        with self._lock:
            self._acknowledges = False
            self._pending = 0  # sent and not acknowledged
            self._tokens, self._filled = float(self.limit), self._clock()

    def watch(self, length: Callable[[], int]) -> None:
        """Read the length of a receiver's queue from here as well."""
        self._watched.append(length)

    def acknowledge(self, count: int = 1) -> None:
        """The receiver has dealt with ``count`` messages. From the first time on what is pending is reckoned so."""
        with self._lock:
            self._acknowledges = True
            self._pending = max(0, self._pending - count)

    @property
    def knows(self) -> bool:
        """Whether anything tells how many messages are pending."""
        return bool(self._watched) or self._acknowledges

    def room(self) -> int | None:
        """Messages that may be sent now; None: as many as there are."""
        if not self.limit:
            return None
        with self._lock:
            if self._watched or self._acknowledges:
                pending = max((length() for length in self._watched), default=0)
                if self._acknowledges:
                    pending = max(pending, self._pending)
                return max(0, self.limit - pending)
            now = self._clock()
            self._tokens = min(self.limit, self._tokens + (now - self._filled) * self.limit)
            self._filled = now
            return int(self._tokens)

    def sent(self, count: int) -> None:
        """So many messages are about to go out."""
        with self._lock:
            self._pending += count
            self._tokens -= count
