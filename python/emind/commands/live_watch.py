"""Blocks that `emind live` hangs onto the stream: what comes, how loud, where it breaks, and what is answered."""

from __future__ import annotations

import math
import threading
import time
from collections import deque

import numpy as np
import pmt
from gnuradio import gr

from ..contract import tags
from ..dsp.framing import Continuity, samples_between
from ..guarded import Guarded
from ..rx_tags import readings
from .head_text import rounded

_LEVEL_SAMPLES = 1024  # of each call are looked at for the level


class watch(Guarded, gr.sync_block):
    """Counts a stream's samples and finds where its time tags tell of lost ones. Input: complex stream; no output.

    Reads may come from another thread.
    """

    def __init__(self, rate: float) -> None:
        gr.sync_block.__init__(self, "emind_live_watch", in_sig=[np.complex64], out_sig=None)
        self._continuity = Continuity(rate)
        self._lock = threading.Lock()
        self._last_change = time.monotonic()
        self._peak = 0.0
        self._gaps: deque[dict] = deque(maxlen=10_000)
        self._rates: deque[tuple[int, float]] = deque(maxlen=10_000)
        self.samples = 0
        self.samples_lost = 0
        self.time_gaps = 0

    def silent_for(self) -> float:
        """Seconds since the last sample came."""
        return time.monotonic() - self._last_change

    def excuse(self) -> None:
        """Count the silence from now."""
        self._last_change = time.monotonic()

    def take_peak(self) -> float:
        """Largest magnitude since the last call, of the samples that were looked at."""
        with self._lock:
            peak, self._peak = self._peak, 0.0
        return peak

    def take_gaps(self) -> list[dict]:
        """Breaks of time since the last call: sample, samples lost (0 where the device's time went back), rx_time of
        the first sample behind it."""
        with self._lock:
            gaps = list(self._gaps)
            self._gaps.clear()
        return gaps

    def take_rates(self) -> list[tuple[int, float]]:
        """Changes of rate since the last call: the first sample that came at the new one, and that in Hz."""
        with self._lock:
            rates = list(self._rates)
            self._rates.clear()
        return rates

    def work(self, input_items: list, output_items: list) -> int:
        x = input_items[0]
        peak = float(np.abs(x[:_LEVEL_SAMPLES]).max()) if len(x) else 0.0
        found = self.get_tags_in_window(0, 0, len(x))
        if found:
            self._read(found)
        with self._lock:
            if peak > self._peak:  # also false for values that are no numbers
                self._peak = peak
            self.samples += len(x)
            self._last_change = time.monotonic()
        return len(x)

    def _read(self, found: list) -> None:
        for sample, reading in readings(found).items():
            before = self._continuity.state
            state = self._continuity.observe(sample, **reading)
            if state is None:
                continue
            changed = state.rate != before.rate and state.rate > 0
            if changed:
                with self._lock:
                    self._rates.append((sample, state.rate))
            if not state.gap or "time" not in reading:
                continue
            expected = before.time_at(sample)
            if expected is None or not before.rate > 0:
                continue
            away = samples_between(expected, state.time, before.rate)
            # Only a new rate or frequency; with a rate, the last samples before the tag may be at the new one already.
            if abs(away) <= 1.5 or (changed and away < 0):
                continue
            lost = max(0, round(away))
            with self._lock:
                self.time_gaps += 1
                self.samples_lost += lost
                self._gaps.append({"sample": sample, "samples_lost": lost, "rx_time": list(state.time)})


class announce(Guarded, gr.sync_block):
    """Passes a stream on and tags from where a new frequency or rate holds, for sources that do not.

    Samples that were on their way when the device was told count as new: this place is not exact.
    """

    def __init__(self) -> None:
        gr.sync_block.__init__(self, "emind_live_announce", in_sig=[np.complex64], out_sig=[np.complex64])
        self._lock = threading.Lock()
        self._fresh: dict = {}

    def tell(self, freq: float | None = None, rate: float | None = None) -> None:
        """What holds from the next sample on, in Hz; may come from another thread."""
        told = {pmt.intern(tags.RX_FREQ): freq, pmt.intern(tags.RX_RATE): rate}
        with self._lock:
            self._fresh.update({key: value for key, value in told.items() if value is not None})

    def work(self, input_items: list, output_items: list) -> int:
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        for key, value in fresh.items():
            self.add_item_tag(0, self.nitems_written(0), key, pmt.from_double(value))
        output_items[0][:] = input_items[0]
        return len(output_items[0])


class mailbox(Guarded, gr.basic_block):
    """Receives messages and keeps them until they are taken: detections as dicts, overflows as a number.

    Ports: ``detections`` of a receiver, and ``async_msgs`` of a USRP source. ``decimation`` is the receiver's, so that
    samples are told as the source counts them; ``channel`` is told with each detection unless it is None.
    """

    def __init__(self, decimation: int = 1, channel: int | None = None, most: int = 100_000) -> None:
        gr.basic_block.__init__(self, "emind_live_mailbox", in_sig=None, out_sig=None)
        self._factor, self._channel = decimation, channel
        self._detections: deque[dict] = deque(maxlen=most)
        self._lock = threading.Lock()
        self._overflows = 0
        for port, handler in ((tags.PORT_DETECTIONS, self._detection), ("async_msgs", self._async)):
            self.message_port_register_in(pmt.intern(port))
            self.set_msg_handler(pmt.intern(port), handler)

    def read_rest(self) -> None:
        """After the flowgraph: the messages for which its end left the block no time."""
        for port, handler in self.msg_handlers.items():
            while self.nmsgs(port):
                handler(self.delete_head_nowait(port))

    def take(self) -> list[dict]:
        """The detections since the last call, in order."""
        out = []
        while self._detections:
            out.append(self._detections.popleft())
        return out

    def take_overflows(self) -> int:
        with self._lock:
            count, self._overflows = self._overflows, 0
        return count

    def _detection(self, message: pmt.pmt_base) -> None:
        fields = pmt.to_python(pmt.car(message))
        out = {"sample_start": fields.pop(tags.SAMPLE_START) * self._factor,
               "sample_count": fields.pop(tags.SAMPLE_COUNT) * self._factor}
        if self._channel is not None:
            out["channel"] = self._channel
        for key in (tags.RX_TIME, tags.RX_RATE, tags.RX_FREQ, tags.SNR_DB):
            value = fields.pop(key, None)
            out[key] = list(value) if isinstance(value, tuple) else value
        if out[tags.SNR_DB] is not None:
            out[tags.SNR_DB] = round(out[tags.SNR_DB], 2) if math.isfinite(out[tags.SNR_DB]) else None
        out[tags.LATENCY_MS] = round(fields.pop(tags.LATENCY_MS), 1)
        for name, head in fields.items():
            out[name] = rounded(head)
        self._detections.append(out)

    def _async(self, message: pmt.pmt_base) -> None:
        fields = pmt.to_python(pmt.cdr(message)) if pmt.is_pair(message) else {}
        count = fields.get("overflows", 0) if isinstance(fields, dict) else 0
        with self._lock:
            self._overflows += int(count)


class LevelControl:
    """Automatic gain by the level of the samples, for devices that have none of their own, which are most.

    Keeps the largest magnitude between ``low`` and ``high`` of full scale; one step a call of :meth:`step`.
    """

    def __init__(self, low: float = 0.1, high: float = 0.6, lowest_db: float = 0.0, highest_db: float = 0.0) -> None:
        self.low, self.high, self.lowest_db, self.highest_db = low, high, lowest_db, highest_db

    def step(self, gain_db: float, peak: float) -> float:
        """The gain that should be set after ``peak`` (0 to 1, 0: nothing came) was met at ``gain_db``."""
        if not peak > 0 or self.low <= peak <= self.high:
            return gain_db
        if peak >= 0.99:  # clipped: how far is unknown
            wanted = gain_db - 10.0
        else:
            wanted = gain_db + 20 * math.log10(math.sqrt(self.low * self.high) / peak)
            wanted = max(gain_db - 10.0, min(gain_db + 6.0, wanted))
        return max(self.lowest_db, min(self.highest_db, round(wanted * 2) / 2))
