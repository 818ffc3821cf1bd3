"""The radio's side of `emind scan`: at each frequency tune, wait until it holds, take samples, name what is there."""

from __future__ import annotations

import math
import queue
import threading

import numpy as np
from gnuradio import gr

from ..contract.answers import read
from ..contract.errors import EMindError
from ..contract.tags import CONFIDENCE, FAMILY, LABEL, OUTSIDE, SCORE
from ..contract.vocabulary import family_of
from ..contract.window import ANOMALY, HeadSpec
from ..dsp.band import plan_tuning
from ..dsp.framing import Continuity, Moment
from ..dsp.occupancy import Occupied, find_signals, tuned
from ..guarded import Guarded, first_fault
from ..rx_tags import readings
from .head_text import MAIN_HEAD, rounded
from .live_source import open_source, plain

MOST_WINDOWS = 64  # are asked about a signal
LOUD_SHARE = 0.25  # of the loudest windows' power: a window that holds the signal


class capture(Guarded, gr.sync_block):
    """Keeps a stretch of samples that all belong to one frequency and have no gap. Input: complex stream.

    Samples count from :meth:`begin` on: where the source tags time and frequency, those that were received at the
    wanted frequency, ``after`` (device time) or later; else those behind the first ``settle`` ones.
    """

    def __init__(self, rate: float, has_time: bool) -> None:
        gr.sync_block.__init__(self, "emind_scan_capture", in_sig=[np.complex64], out_sig=None)
        self._continuity, self._has_time = Continuity(rate), has_time
        self._rate = rate
        self._changed = threading.Condition()
        self._wanted: int | None = None
        self._parts: list[np.ndarray] = []
        self._held = 0
        self.gaps = 0
        self.samples = 0

    def begin(self, count: int, freq: float, after: float, settle: int) -> None:
        """Forget what was kept; keep ``count`` samples from now on."""
        with self._changed:
            self._parts, self._held, self._wanted = [], 0, count
            self._freq, self._after, self._from = freq, after, None if self._has_time else self.samples + settle
            self.start_time: Moment | None = None
            self.gaps = 0

    def finished(self, within: float) -> np.ndarray | None:
        """The stretch once it is whole, None where it is not within so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._wanted is not None and self._held >= self._wanted, within):
                return None
            self._wanted = None
            return np.concatenate(self._parts)

    def work(self, input_items: list, output_items: list) -> int:
        x = input_items[0]
        first = self.nitems_read(0)
        told = readings(self.get_tags_in_window(0, 0, len(x)))
        cuts = list(told)
        with self._changed:
            self._take(x[: cuts[0] - first] if cuts else x, first)
            for number, sample in enumerate(cuts):
                state = self._continuity.observe(sample, **told[sample])
                if state is not None and state.gap:
                    self._break()
                end = cuts[number + 1] if number + 1 < len(cuts) else first + len(x)
                self._take(x[sample - first : end - first], sample)
            self.samples = first + len(x)
            if self._wanted is not None and self._held >= self._wanted:
                self._changed.notify_all()
        return len(x)

    def _break(self) -> None:
        """The stream does not go on: what was kept is no stretch."""
        if self._wanted is not None and 0 < self._held < self._wanted:
            self._parts, self._held, self.start_time = [], 0, None
            self.gaps += 1

    def _take(self, x: np.ndarray, first: int) -> None:
        if self._wanted is None or self._held >= self._wanted or not len(x):
            return
        if not self._held:
            skip = self._skip(first)
            if skip is None or skip >= len(x):
                return
            x, first = x[skip:], first + skip
            self.start_time = self._continuity.state.time_at(first)
        part = x[: self._wanted - self._held].copy()
        self._parts.append(part)
        self._held += len(part)

    def _skip(self, first: int) -> int | None:
        """Samples from ``first`` on that do not count yet; None: not to be told."""
        if not self._has_time:
            return max(0, self._from - first)
        state = self._continuity.state
        now = state.time_at(first)
        if now is None or math.isnan(state.freq) or abs(state.freq - self._freq) > 1.0:
            return None
        return max(0, math.ceil((self._after - now[0] - now[1]) * self._rate))


class ScanFailed(EMindError):
    """No samples came, or none without gaps."""


def scan(settings: dict, outlet, commands: queue.Queue) -> int:
    """All steps, told one by one; exit status."""
    try:
        from ..runtime.ready import ready_engine

        model = [settings[name] for name in ("weights", "backend", "threads", "batch", "heads")]
        engine = ready_engine(*model, waits=False)
        source = open_source(settings | {"freq": settings["steps"][0]})
        for freq in settings["steps"]:  # before the first is listened to: one that is impossible costs no time
            source.check_freq(freq)
        rate = source.state()["rate"]
        outlet.send("opened", weights=engine.name, backend=engine.backend, **source.describe())
        for text in source.remarks:
            outlet.send("event", event="remark", text=text)
        source.remarks.clear()
        graph = gr.top_block("emind scan", catch_exceptions=True)
        graph.handle_sigint = False
        taking = capture(rate, source.has_time)
        graph.connect((source.block, 0), taking)
        graph.start()
        for number, freq in enumerate(settings["steps"]):
            if _told_to_stop(commands):
                break
            samples, start, tries = _listen(source, taking, freq, rate, settings)
            found = [describe(one, samples, rate, freq, engine) | {"rx_time": start and list(start)}
                     for one in find_signals(samples, rate, settings["usable"])]
            outlet.send("step", number=number, freq=freq, found=found, tries=tries)
        graph.stop()
        graph.wait()
    except EMindError as fault:
        outlet.send("error", text=str(fault), status=fault.exit_status, absent=False)
        return 1
    except RuntimeError as fault:
        outlet.send("error", text=f"the device does not answer ({plain(fault)})", status=1, absent=False)
        return 1
    outlet.send("ended")
    return 0


def _told_to_stop(commands: queue.Queue) -> bool:
    try:
        command = commands.get_nowait()
    except queue.Empty:
        return False
    return command is None or bool(command.get("stop"))


def _listen(source, taking: capture, freq: float, rate: float, settings: dict) -> tuple[np.ndarray, Moment | None, int]:
    """Samples of one dwell at ``freq`` without a gap, the time of the first, and how many tries it took."""
    dwell = settings["dwell_s"]
    count = max(16 * 1024, round(dwell * rate))
    for attempt in range(1, settings["tries"] + 1):
        if source.has_time and not source.alive():
            raise ScanFailed(f"the device has gone: it does not answer at {freq / 1e6:g} MHz")
        if attempt == 1 or not source.has_time:
            source.set_freq(freq)
        after = source.time_now() + settings["settle_s"] if source.has_time else 0.0
        taking.begin(count, source.state()["freq"], after, round(settings["settle_s"] * rate))
        if source.has_time:
            source.request_tag()  # the frequency as it is, with the time, whatever was tagged before
        samples = taking.finished(3 * count / rate + settings["settle_s"] + 2.0)
        fault = first_fault([taking])
        if fault is not None:
            raise fault
        if samples is not None:
            return samples, taking.start_time, attempt + taking.gaps
        if source.has_time and source.alive():
            source.restart()  # an overflow halts some devices
    raise ScanFailed(f"no {dwell:g} s without a gap came at {freq / 1e6:g} MHz in {settings['tries']} tries: "
                     "lower --rate or --dwell-ms")


def describe(found: Occupied, samples: np.ndarray, rate: float, center: float, engine) -> dict:
    """What a signal is: tuned to, cut into windows, asked for."""
    plan = plan_tuning(found.band, rate, len(samples), engine.spec.length)
    x = tuned(samples, rate, plan)
    length = engine.spec.length
    count = len(x) // length
    windows = x[: count * length].reshape(count, length)
    powers = np.mean(np.abs(windows) ** 2, axis=1)
    loud = np.flatnonzero(powers >= LOUD_SHARE * np.percentile(powers, 95))
    if len(loud) > MOST_WINDOWS:
        loud = loud[np.linspace(0, len(loud) - 1, MOST_WINDOWS).astype(int)]
    rates = np.full(len(loud), rate / plan.decimation)
    answers = engine.infer(np.ascontiguousarray(windows[loud], np.complex64), rates)
    out = {"freq": center + found.band.center, "bandwidth": found.band.width, "snr_db": round(found.snr_db, 1),
           "occupancy": round(found.occupancy, 3), "windows": len(loud)}
    for name, head in engine.heads.items():
        if name in answers:
            out[name] = _said(head, answers[name])
            if name in engine.domains and not engine.domains[name].covers(length, rate / plan.decimation):
                out[name][OUTSIDE] = True
    return out


def _said(head: HeadSpec, rows: np.ndarray) -> dict:
    """What a head says of one signal's windows: the mean of its probabilities, the medians of its parameters."""
    mean = read(head, np.asarray(rows).mean(axis=0, keepdims=True))
    out: dict = {}
    if mean.names:
        label = mean.names[mean.labels[0]]
        out[LABEL] = label
        if head.name == MAIN_HEAD:
            out[FAMILY] = family_of(label)
        out[CONFIDENCE] = float(mean.confidences[0])
        if head.kind == ANOMALY:
            out[SCORE] = float(np.asarray(rows)[:, 1].mean())
    if not mean.unknown[0]:
        values = np.median(read(head, np.asarray(rows)).values, axis=0).tolist()
        for parameter, value in zip(head.parameters, values):
            out[parameter.name] = value if parameter.unit else round(value)
    return rounded(out)
