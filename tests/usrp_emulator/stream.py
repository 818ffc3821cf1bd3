"""A receive chain: streaming commands in, packets of samples out, paced by the clock.

A sample's *position* counts from the start of its stream at the chain's rate, lost samples included, so position and
time stay tied together: ticks = start + position × decimation. The source is asked for samples by position.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import protocol
from .clock import Clock
from .faults import Fault, FaultList
from .sources import Source, Tuning

BLOCK_PACKETS = 32  # built and sent at once: the time for which control has to wait
SCALE_ONE = 1 << 17  # setting of the scale that leaves the amplitude as it is
CORDIC_GAIN = 1.65


@dataclass
class Command:
    now: bool
    chain: bool
    reload: bool
    stop: bool
    count: int
    ticks: int

    @classmethod
    def of_words(cls, word: int, high: int, low: int) -> Command:
        return cls(bool(word >> 31), bool(word >> 30 & 1), bool(word >> 29 & 1), bool(word >> 28 & 1),
                   word & 0x0FFFFFFF, high << 32 | low)


def decimation_of(word: int) -> int:
    """Ticks a sample: two half-band filters, each ×2 where its bit is set, and the comb filter's factor."""
    return (word & 0xFF) << (word >> 8 & 1) << (word >> 9 & 1)


def gain_of(scale: int, word: int) -> float:
    """Amplitude on the wire for an input of 1: the scale's setting times the growth of rotation and comb filter."""
    power = float(word & 0xFF) ** 4
    return scale / SCALE_ONE * CORDIC_GAIN * power / 2.0 ** math.ceil(math.log2(power))


class RxChain:
    """One receive chain; ``send`` gets each packet as a buffer, ``source`` gives the samples."""

    def __init__(self, number: int, clock: Clock, source: Source, send: Callable[[memoryview | bytes], None],
                 tuned_hz: Callable[[int], float], gain_db: Callable[[], float], note: Callable[..., None]):
        self.number, self.clock, self.source, self.send = number, clock, source, send
        self._tuned_hz, self._gain_db, self._note = tuned_hz, gain_db, note
        self.faults = FaultList()
        self.samples_sent = self.packets_sent = self.samples_lost = self.overflows = self.starts = 0
        self.reset()

    def reset(self) -> None:
        self._command_words = [0, 0]
        self._queue: deque[Command] = deque()
        self.stream_id = protocol.STREAM_ID[self.number]
        self.eight_bit = False
        self.per_packet = self.decimation_word = self.scale = self.frequency_word = 0
        self.halted = False
        self._idle()
        self._packet_count = 0

    def _idle(self) -> None:
        self.active: Command | None = None
        self._start_raw = self._position = 0
        self._left: int | None = None  # samples until the end of the burst; None while continuous

    # --- registers ---------------------------------------------------------------------------------------------

    def control(self, offset: int, value: int) -> None:
        """A write to the eight registers of the packet framer and the command queue."""
        if offset in (0, 1):
            self._command_words[offset] = value
        elif offset == 2:
            self._queue.append(Command.of_words(*self._command_words, value))
            self._begin()
        elif offset == 3:
            self.eight_bit = bool(value & 1)
        elif offset == 5:
            self.stream_id, self._packet_count = value, 0
        elif offset == 7:
            self.per_packet = value
        elif offset == 8:
            self._queue.clear()
            self.halted = False
            self._idle()

    def down_converter(self, offset: int, value: int) -> None:
        if offset == 0:
            self.frequency_word = value - (1 << 32 if value >> 31 else 0)
        elif offset == 1:
            self.scale = value
        elif offset == 2:
            self._change_rate(value)

    def _change_rate(self, word: int) -> None:
        """A new rate while streaming counts positions anew from the next sample."""
        if self.active and decimation_of(word) and self.decimation:
            self._start_raw, self._position = self._raw_of(self._position), 0
        self.decimation_word = word

    @property
    def decimation(self) -> int:
        return decimation_of(self.decimation_word)

    @property
    def rate(self) -> float:
        return protocol.TICK_RATE / self.decimation if self.decimation else 0.0

    @property
    def position(self) -> int:
        return self._position

    # --- time --------------------------------------------------------------------------------------------------

    def _raw_of(self, position: int) -> int:
        return self._start_raw + position * self.decimation

    def ticks_of(self, position: int) -> int:
        return self.clock.ticks(self._raw_of(position)) & (1 << 64) - 1

    def next_due(self) -> int | None:
        """Raw time at which `pump` has something to do, or None."""
        if not self.active:
            return None
        size = self.per_packet if self._left is None else min(self.per_packet, self._left)
        return self._raw_of(self._position + size)

    # --- streaming ---------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Take the next command where the running one lets it in."""
        while self._queue and not (self.active and self._left is not None):
            command = self._queue.popleft()
            if command.stop:
                self._finish()
                continue
            if not self.per_packet or not self.decimation or not self.scale:
                continue  # the driver's first command comes before the chain is set up
            if self.eight_bit:
                self._note("refused", chain=self.number, reason="8-bit samples are not emulated")
                continue
            raw = self.clock.raw()
            start = raw if command.now else self.clock.raw_of(command.ticks)
            if start < raw:
                self._error(protocol.LATE, command.ticks)
                continue
            if self.active:  # a continuous stream that is told to end after so many samples
                self._left = None if command.reload else command.count
                self.active = command
                continue
            self.active, self._start_raw, self._position = command, start, 0
            self._left = None if command.reload else command.count
            self.halted = False
            if command.reload or command.count > 1:  # the driver flushes with a burst of one sample when it opens
                self.starts += 1
                self._note("start", chain=self.number, ticks=self.ticks_of(0), rate=self.rate)

    def _finish(self) -> None:
        """End of a burst: what was received up to now, marked as the last packet."""
        if self.active:
            elapsed = (self.clock.raw() - self._start_raw) // self.decimation - self._position
            if elapsed > 0:
                self._send_one(min(elapsed, self.per_packet), last=True)
            self._note("stop", chain=self.number, position=self._position)
        self._idle()

    def pump(self, may_send: Callable[[], bool]) -> None:
        """Send what is due, at most one block of packets."""
        if not self.active:
            return
        raw = self.clock.raw()
        while self.active and (fault := self.faults.take(self._position)) and raw >= self._start_raw:
            self._suffer(fault)
        if not self.active:
            return
        ready = (raw - self._start_raw) // self.decimation - self._position
        packets = min(ready // self.per_packet, BLOCK_PACKETS)
        limit = self.faults.next_at()
        if limit is not None:
            packets = min(packets, -(-(limit - self._position) // self.per_packet))
        if self._left is not None:
            packets = min(packets, (self._left - 1) // self.per_packet)  # the last one is sent apart, marked
        if packets > 0 and may_send():
            self._send_block(packets)
        elif self._left is not None and self._left <= self.per_packet and ready >= self._left:
            self._end_of_count()

    def _end_of_count(self) -> None:
        chain = self.active.chain
        self._send_one(self._left, last=not chain)
        if chain and not self._queue:
            self._error(protocol.BROKEN_CHAIN, self.ticks_of(self._position))
        if chain and self._queue and not self._queue[0].stop:
            following = self._queue.popleft()
            self.active, self._left = following, None if following.reload else following.count
        else:
            self._idle()
            self._begin()

    def _wire(self, position: int, count: int) -> np.ndarray:
        """Samples as the converter and the chain would give them: int16 pairs (count, 2)."""
        tuning = Tuning(self._tuned_hz(self.number), self.rate, self._gain_db(), self.ticks_of(position), self.number)
        x = np.ascontiguousarray(self.source(position, count, tuning), np.complex64)
        if len(x) != count:
            raise ValueError(f"the source gave {len(x)} samples for {count}")
        scaled = x.view(np.float32) * np.float32(32767 * gain_of(self.scale, self.decimation_word))
        return np.clip(np.rint(scaled), -32768, 32767).astype(np.int16).reshape(-1, 2)

    def _send_block(self, packets: int) -> None:
        count = packets * self.per_packet
        words = protocol.data_packets(self._wire(self._position, count), self.per_packet, self.stream_id,
                                      self._packet_count, self.ticks_of(self._position), self.decimation)
        view, size = memoryview(words).cast("B"), words.shape[1] * 4
        for start in range(0, len(view), size):
            self.send(view[start:start + size])
        self._advance(count, packets)

    def _send_one(self, count: int, last: bool) -> None:
        trailer = protocol.TRAILER | (protocol.END_OF_BURST if last else 0)
        words = protocol.data_packets(self._wire(self._position, count), count, self.stream_id, self._packet_count,
                                      self.ticks_of(self._position), self.decimation, trailer)
        self.send(words.tobytes())
        self._advance(count, 1)

    def _advance(self, count: int, packets: int) -> None:
        self._position += count
        self._packet_count = self._packet_count + packets & 15
        self.samples_sent += count
        self.packets_sent += packets
        if self._left is not None:
            self._left -= count

    # --- faults ------------------------------------------------------------------------------------------------

    def _error(self, code: int, ticks: int) -> None:
        self.send(protocol.error_packet(code, self.stream_id, self._packet_count, ticks))
        self._note("error", chain=self.number, code=code, ticks=ticks)

    def _suffer(self, fault: Fault) -> None:
        position, before = self._position, self.ticks_of(self._position)
        if fault.kind == "overflow":
            self._error(protocol.OVERFLOW, before)
            self.overflows += 1
            lost = 0 if fault.halt else fault.samples
        elif fault.kind == "loss":
            lost = fault.packets * self.per_packet
            self._packet_count = self._packet_count + fault.packets & 15
        else:
            lost = 0
        self._position += lost
        self.samples_lost += lost
        self._note(fault.kind, chain=self.number, position=position, lost=lost, ticks=before,
                   ticks_after=self.ticks_of(self._position), halt=fault.halt)
        if fault.halt or fault.kind == "silence":
            self._queue.clear()
            self._idle()
            self.halted = True
