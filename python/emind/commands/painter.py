"""A picture on the terminal that renews itself, painted by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .line_writer import STALLED_S


class Painter:
    """Keeps the newest picture on a terminal, on a thread of its own: a terminal that is stopped (Ctrl-S, a connection
    that stalls) holds up nothing, and has the newest picture when it goes on."""

    def __init__(self, first, console) -> None:
        from rich.live import Live

        self._live = Live(first, console=console, auto_refresh=False, transient=False)
        self._console = console
        self._newest, self._lines = None, ()
        self._ending = False
        self._fault: OSError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="emind-table", daemon=True)
        self._thread.start()

    def show(self, picture) -> None:
        """This one, once the terminal has taken the one that is being painted. OSError: the terminal has gone."""
        if self._fault is not None:
            raise self._fault
        with self._changed:
            self._newest = picture
            self._changed.notify()

    def end(self, picture=None, lines: Sequence[str] = ()) -> bool:
        """The last picture, and lines behind it; whether the terminal has taken them within some seconds."""
        if not self._ending:
            with self._changed:
                self._newest, self._lines, self._ending = picture or self._newest, lines, True
                self._changed.notify()
            self._thread.join(STALLED_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._live.start(refresh=True)
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._newest is not None or self._ending)
                    picture, self._newest = self._newest, None
                if picture is None:
                    break
                self._live.update(picture, refresh=True)
            self._live.stop()
            for line in self._lines:
                self._console.print(line, soft_wrap=True)
        except OSError as fault:
            self._fault = fault
