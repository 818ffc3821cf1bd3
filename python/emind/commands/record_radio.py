"""`emind record` from a radio: the settings are held against what the device can do, and its stream is looked after."""

from __future__ import annotations

import time
from collections.abc import Callable

from gnuradio import blocks, gr

from .live_source import AUTO, open_source
from .live_watch import LevelControl, watch

SILENT_S = 1.0
MOST_RESTARTS = 5
MOST_SAMPLES = 1 << 62  # that GNU Radio can count

LEVEL_EVERY_S = 0.25


class radio_recording(gr.top_block):
    """A radio, and behind each channel what ``chain(rate)`` gives and the recorder that
    ``make_recorder(rate, freq, which)`` makes; ``which`` is for its files' names, empty where there is one channel.

    Rate and frequency are those that the device has. Raises what :func:`open_source` raises. ``remarks`` are for the
    user; ``helpers`` are to be asked ten times a second whether they have something to tell.
    """

    def __init__(self, settings: dict, seconds: float | None, make_recorder: Callable, chain: Callable) -> None:
        gr.top_block.__init__(self, "emind record", catch_exceptions=True)
        self.handle_sigint = False
        self.source = open_source(settings)
        state = self.source.state()
        self.remarks = self.source.remarks
        self.tail, recorders = [], []  # GNU Radio keeps no Python block alive
        several = len(self.source.channels) > 1
        for channel in self.source.channels:
            kept = make_recorder(state["rate"], state["freq"], f"-channel{channel}" if several else "")
            behind = [*chain(state["rate"]), kept]
            stream = [(self.source.block, channel)]
            if seconds is not None:
                stream.append(blocks.head(gr.sizeof_gr_complex, max(1, round(min(seconds * state["rate"], MOST_SAMPLES)))))
            self.connect(*stream, *behind)
            self.tail += behind
            recorders.append(kept)
        self.recorder = Together(recorders) if several else recorders[0]
        self.watchdog = Watchdog(self.source, lambda: self.recorder.statistics()["samples_seen"])
        self.helpers = [self.watchdog]
        if settings["gain"] == AUTO:
            self.level = watch(state["rate"])
            self.connect(self.source.block, self.level)
            self.helpers.append(AutomaticGain(self.source, self.level.take_peak, self.watchdog))


class Together:
    """Several recorders as one: labels and the switch are for all, counts are sums."""

    def __init__(self, recorders: list) -> None:
        self._all = recorders

    def labels(self) -> dict:
        return self._all[0].labels()

    def set_labels(self, labels: dict | None) -> None:
        for one in self._all:
            one.set_labels(labels)

    def set_recording(self, recording: bool) -> None:
        for one in self._all:
            one.set_recording(recording)

    def stop(self) -> bool:
        return all([one.stop() for one in self._all])

    def files(self) -> list[str]:
        return [file for one in self._all for file in one.files()]

    def statistics(self) -> dict:
        """The first error stands for all."""
        first, *others = (one.statistics() for one in self._all)
        for counts in others:
            for name, value in counts.items():
                if name == "error":
                    first[name] = first[name] or value
                elif name != "recording":
                    first[name] += value
        return first


class AutomaticGain:
    """Sets the gain by the level of the samples, see :class:`.live_watch.LevelControl`."""

    def __init__(self, source, take_peak: Callable[[], float], watchdog: Watchdog,
                 now: Callable[[], float] = time.monotonic) -> None:
        low, high = source.gain_range()
        self._source, self._take_peak, self._watchdog, self._now = source, take_peak, watchdog, now
        self._control, self._due = LevelControl(lowest_db=low, highest_db=high), 0.0

    def look(self) -> str | None:
        """What to tell, if anything. RuntimeError where the driver fails."""
        if self._now() < self._due or self._watchdog.lost:
            return None
        self._due = self._now() + LEVEL_EVERY_S
        before = self._source.state()["gain"]
        wanted = self._control.step(before, self._take_peak())
        if wanted == before or (self._source.has_time and not self._source.alive()):
            return None  # a setting that a device which has gone does not take could abort the process
        self._source.set_gain(wanted)
        now = self._source.state()["gain"]
        return None if now == before else f"gain {now:g} dB, by the level of the samples"


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
        if not self._source.has_time:
            self.lost = "the device has stopped sending: check cable and power; what came until then is recorded"
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
