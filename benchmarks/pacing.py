"""A stream with a clock of its own, as a receiver has it, through the blocks; and what became of every sample.

    paced_source ─► windowing ─► inference ─┬─► overlap_add ─► null_sink
     (clock)                                ├─► tag_watch: latency from a window's last sample to its tag
                                            └─► slow_consumer of detections (soak)

The source owes sample k at k / rate. What the flowgraph does not take waits as in a receiver's own buffer; what that
cannot hold any more is an overflow: lost, counted, and tagged as a gap.
"""

from __future__ import annotations

import bisect
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pmt
from emind.contract import tags
from emind.contract.errors import EMindError
from emind.dsp.framing import Anchor, StreamState, anchor_from_fields
from emind.guarded import Guarded, first_fault
from emind.inference import inference
from emind.overlap_add import overlap_add
from emind.runtime.statistics import Reservoir
from emind.windowing import windowing
from gnuradio import blocks, gr

STALL_S = 0.1  # a stream that waits longer than this stalls
BUFFER_S = 0.5  # what the receiver itself can hold
KEPT = 1 << 16  # latencies
CHUNK_S = 0.001  # samples are handed on in pieces of at least so much

_RX_TIME, _RX_RATE = pmt.intern(tags.RX_TIME), pmt.intern(tags.RX_RATE)
_WINDOW = pmt.intern(tags.WINDOW)
_DETECTIONS = pmt.intern(tags.PORT_DETECTIONS)


class paced_source(Guarded, gr.sync_block):
    """``count`` samples at ``rate`` a second by the machine's clock, from ``samples`` again and again.

    Output: complex stream, with rx_time and rx_rate on the first sample and behind each overflow.

    ``sent`` and ``lost`` add up to ``count`` at the end; ``longest_wait_s`` is the age of the oldest sample that the
    flowgraph had not taken, at its highest, and ``stalls`` how often that passed STALL_S.
    """

    def __init__(self, samples: np.ndarray, rate: float, count: int, buffer_s: float = BUFFER_S,
                 clock: Callable[[], float] = time.monotonic) -> None:
        gr.sync_block.__init__(self, "paced_source", None, [np.complex64])
        self.rate, self.count = rate, count
        self.sent = self.lost = self.stalls = 0
        self.longest_wait_s = 0.0
        self.begun = math.nan
        self._samples, self._buffer, self._clock = samples, max(1, int(buffer_s * rate)), clock
        self._chunk = max(1, int(CHUNK_S * rate))
        self._stalled = False
        self._gaps: list[tuple[int, int]] = [(0, 0)]  # number of the first sample sent behind a gap, lost before it
        level = self.log_level()
        self.set_log_level("warn")  # the call says at level info what it does
        self.set_min_output_buffer(max(8192, 16 * self._chunk))
        self.set_log_level(level)

    def due_at(self, sample: int) -> float:
        """Time on the clock at which the stream's sample of that number was due."""
        _, lost = self._gaps[bisect.bisect_right(self._gaps, (sample, self.count)) - 1]
        return self.begun + (sample + lost) / self.rate

    def _owed(self) -> int:
        return min(int((self._clock() - self.begun) * self.rate), self.count) - self.sent - self.lost

    def work(self, input_items, output_items):
        out = output_items[0]
        if self.sent + self.lost >= self.count:
            return -1
        if math.isnan(self.begun):
            self.begun = self._clock()
            self._tag()
        self._judge(self._clock() - self.begun - (self.sent + self.lost) / self.rate)
        owed = self._owed()
        wanted = min(self._chunk, len(out), self.count - self.sent - self.lost)
        if owed < wanted:
            time.sleep((wanted - owed) / self.rate)
            owed = self._owed()
        if owed > self._buffer:
            self.lost += owed - self._buffer
            owed = self._buffer
            self._gaps.append((self.sent, self.lost))
            self._tag()
        count = min(owed, len(out))
        place, done = (self.sent + self.lost) % len(self._samples), 0
        while done < count:
            part = self._samples[place : place + count - done]
            out[done : done + len(part)] = part
            place, done = 0, done + len(part)
        self.sent += count
        return count

    def _judge(self, wait_s: float) -> None:
        self.longest_wait_s = max(self.longest_wait_s, wait_s)
        if wait_s > STALL_S and not self._stalled:
            self.stalls += 1
        self._stalled = wait_s > STALL_S

    def _tag(self) -> None:
        fraction, whole = math.modf((self.sent + self.lost) / self.rate)
        moment = pmt.make_tuple(pmt.from_uint64(int(whole)), pmt.from_double(fraction))
        self.add_item_tag(0, self.sent, _RX_TIME, moment)
        self.add_item_tag(0, self.sent, _RX_RATE, pmt.from_double(self.rate))


class tag_watch(Guarded, gr.sync_block):
    """Takes down when each window's tag came, against the source's clock.

    Input: vectors of ``length`` samples with the tags of the inference block. ``tags`` is how many came, ``latency_ms``
    holds the newest KEPT of them: what grows with the length of a run would look like a leak in a soak.
    """

    def __init__(self, length: int, key: str, source: paced_source) -> None:
        gr.sync_block.__init__(self, "tag_watch", [(np.complex64, length)], None)
        self.tags, self.largest_ms = 0, math.nan
        self.latency_ms = Reservoir(KEPT)
        self._length, self._key, self._source = length, pmt.intern(key), source
        self._anchor = Anchor(0, 0, length, length, StreamState())

    def work(self, input_items, output_items):
        count, now = len(input_items[0]), time.monotonic()
        came = []
        for tag in sorted(self.get_tags_in_window(0, 0, count), key=_place):
            if pmt.eq(tag.key, _WINDOW):
                self._anchor = anchor_from_fields(tag.offset, pmt.to_python(tag.value))
            elif pmt.eq(tag.key, self._key):
                last = self._anchor.start_of(tag.offset) + self._length - 1
                came.append(1e3 * (now - self._source.due_at(last)))
        if came:
            self.tags += len(came)
            self.largest_ms = max(came) if math.isnan(self.largest_ms) else max(self.largest_ms, *came)
            self.latency_ms.add(np.array(came))
        return count


def _place(tag: gr.tag_t) -> tuple[int, bool]:
    """Order of tags: by window, and where a window lies before what is said of it."""
    return tag.offset, not pmt.eq(tag.key, _WINDOW)


class slow_consumer(Guarded, gr.basic_block):
    """Takes detections, ``seconds`` each. ``pending`` is how many wait for it."""

    def __init__(self, seconds: float) -> None:
        gr.basic_block.__init__(self, "slow_consumer", None, None)
        self.taken = 0
        self._pause = threading.Event()
        self._seconds = seconds
        self.message_port_register_in(_DETECTIONS)
        self.set_msg_handler(_DETECTIONS, self._handle)

    @property
    def pending(self) -> int:
        return self.to_basic_block().nmsgs(_DETECTIONS)

    def stop(self) -> bool:
        self._pause.set()  # what still waits is taken at once
        return True

    def _handle(self, message) -> None:
        self.taken += 1
        if self._seconds > 0:
            self._pause.wait(self._seconds)


@dataclass(frozen=True)
class Load:
    """What is sent: ``rate`` samples a second for so many seconds, and how the blocks are set."""

    rate: float
    seconds: float
    hop: int
    policy: str = "realtime"
    batch: int = 32
    max_latency_ms: float = 2.0

    @property
    def hold(self) -> int:
        """Windows that the inference block may hold back: a tenth of a second's, within what buffers can take."""
        return min(2048, max(128, math.ceil(0.1 * self.rate / self.hop)))


class paced_chain(gr.top_block):
    """The flowgraph at the head of this file. ``consumer_s``: what a consumer takes for each detection, None: none."""

    def __init__(self, engine, load: Load, samples: np.ndarray, consumer_s: float | None = None) -> None:
        gr.top_block.__init__(self, "emind bench", catch_exceptions=True)
        self.handle_sigint = False
        self.load, self.length = load, engine.spec.length
        length, hop = self.length, load.hop
        windows = max(1, math.ceil((load.rate * load.seconds - length) / hop) + 1)
        self.source = paced_source(samples, load.rate, (windows - 1) * hop + length)
        self.windowing = windowing(length=length, hop=hop, sample_rate=load.rate, buffer_windows=2 * load.hold)
        self.inference = inference(length=length, sample_rate=load.rate, policy=load.policy, batch=load.batch,
                                   max_latency_ms=load.max_latency_ms, hold=load.hold, engine=engine)
        self.watch = tag_watch(length, tags.head_key(next(iter(engine.heads))), self.source)
        self.joined = overlap_add(length=length, hop=hop)
        self.sink = blocks.null_sink(gr.sizeof_gr_complex)
        self.connect(self.source, self.windowing, self.inference, self.joined, self.sink)
        self.connect(self.inference, self.watch)
        self.consumer = None if consumer_s is None else slow_consumer(consumer_s)
        if self.consumer is not None:
            self.msg_connect(self.inference, tags.PORT_DETECTIONS, self.consumer, tags.PORT_DETECTIONS)
            self.inference.watch_detections(self.consumer)

    def run_to_end(self, each: Callable[[], None] | None = None, every_s: float = 1.0) -> dict:
        """Run it, ``each`` called every so often, and return :meth:`figures`. EMindError when the engine failed."""
        ended = threading.Event()

        def wait() -> None:
            self.wait()
            ended.set()

        self.start()
        threading.Thread(target=wait, name="emind-bench", daemon=True).start()
        try:
            while not ended.wait(every_s):
                if each is not None:
                    each()
        finally:
            self.stop()
            ended.wait()
        fault = first_fault([self.source, self.windowing, self.inference, self.watch, self.joined, self.consumer])
        if fault is not None:
            raise fault
        error = self.inference.error()
        if error is not None:
            raise EMindError(f"the engine failed: {type(error).__name__}: {error}")
        return self.figures()

    def figures(self) -> dict:
        """Samples and windows, where each went, and latencies. ``results_lost``: inferred, but no tag came out."""
        counts, load, source = self.inference.statistics(), self.load, self.source
        seen, inferred = counts["windows_seen"], counts["windows_inferred"]
        accounted = inferred + counts["windows_skipped"] + counts["windows_gated"]
        median, tail = self.watch.latency_ms.percentiles(50, 99)
        return {
            "rate": load.rate, "seconds": load.seconds, "hop": load.hop, "policy": load.policy,
            "samples_due": source.count, "samples_sent": source.sent, "samples_lost": source.lost,
            # Overlapping windows: what the last ones hold alone waits for more and is dropped at the end.
            "samples_missing": source.sent - (self.length - load.hop) - self.sink.nitems_read(0),
            "longest_wait_ms": round(1e3 * source.longest_wait_s, 2), "stalls": source.stalls,
            **{key: value for key, value in counts.items() if key.startswith("windows_")},
            "accounted": seen == accounted, "coverage": round(inferred / max(1, seen), 4),
            "results_lost": inferred - self.watch.tags,
            "latency_ms_p50": round(float(median), 2), "latency_ms_p99": round(float(tail), 2),
            "latency_ms_max": round(self.watch.largest_ms, 2),
        }  # fmt: skip
