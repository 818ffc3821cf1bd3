"""`emind record` from a USRP: the settings are held against what the device can do, and its stream is looked after."""

from __future__ import annotations

import time
from collections.abc import Callable

from gnuradio import blocks, gr

from .live_source import DEFAULT_FREQ, UhdSource

SILENT_S = 1.0
MOST_RESTARTS = 5


class usrp_recording(gr.top_block):
    """A USRP, what ``chain(rate)`` gives, and the recorder that ``make_recorder(rate, freq)`` makes.

    Rate and frequency are those that the device has. Raises what :class:`UhdSource` raises. ``remarks`` are for the
    user.
    """

    def __init__(self, settings: dict, seconds: float | None, make_recorder: Callable, chain: Callable) -> None:
        gr.top_block.__init__(self, "emind record", catch_exceptions=True)
        self.handle_sigint = False
        self.source = UhdSource(STANDARD | settings)
        state = self.source.state()
        self.remarks = self.source.remarks
        self.recorder = make_recorder(state["rate"], state["freq"])
        self.tail = [*chain(state["rate"]), self.recorder]  # GNU Radio keeps no Python block alive
        stream = [self.source.block]
        if seconds is not None:
            stream.append(blocks.head(gr.sizeof_gr_complex, max(1, round(seconds * state["rate"]))))
        self.connect(*stream, *self.tail)
        self.watchdog = Watchdog(self.source, lambda: self.recorder.statistics()["samples_seen"])


STANDARD = {"kind": "uhd", "freq": DEFAULT_FREQ, "gain": None, "antenna": None, "subdev": None, "rf_bandwidth": None,
            "clock_source": None, "time_source": None, "channels": [0]}


class Watchdog:
    """Finds a stream that has fallen silent: one that halted is started again, a device that has gone is given up."""

    def __init__(self, source, count: Callable[[], int], now: Callable[[], float] = time.monotonic) -> None:
        self._source, self._count, self._now = source, count, now
        self._seen, self._since, self._in_vain = -1, 0.0, 0  # the first look begins the first silence
        self.lost = ""  # why, once it is; no block of the driver may be touched from then on, it could abort

    def look(self) -> str | None:
        """What to tell, if anything. Sets ``lost`` where nothing more will come."""
        seen, now = self._count(), self._now()
        if seen != self._seen:
            self._seen, self._since, self._in_vain = seen, now, 0
            return None
        if now - self._since < SILENT_S or self.lost:
            return None
        if not self._source.alive():
            self.lost = ("the device does not answer, or was switched off and on: check cable and power; what came "
                         "until then is recorded")
            return None
        if self._in_vain >= MOST_RESTARTS:
            self.lost = (f"the device answers, but sends nothing after {MOST_RESTARTS} restarts of its stream: another "
                         "program may be using it; what came until then is recorded")
            return None
        if self._count() != self._seen:  # while the device was asked
            return None
        self._source.restart()
        self._in_vain += 1
        self._since = self._now()
        return f"no samples came for {SILENT_S:g} s: the stream was started again"
