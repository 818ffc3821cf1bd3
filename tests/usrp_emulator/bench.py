"""A receive chain without sockets, on a clock that stands still until told: for tests of commands and packets."""

from __future__ import annotations

import numpy as np

from .clock import Clock
from .sources import counter
from .stream import RxChain


class Bench:
    """One sample a microsecond, 100 samples a packet, from the `counter` source."""

    def __init__(self):
        self.nanoseconds, self.packets, self.events = 5_300_000_000, [], []
        self.clock = Clock(lambda: self.nanoseconds)
        self.chain = RxChain(0, self.clock, counter, lambda p: self.packets.append(bytes(p)), lambda _: 1e8,
                             lambda: 0.0, lambda event, **values: self.events.append((event, values)))
        for offset, value in ((7, 100), (5, 3)):
            self.chain.control(offset, value)
        for offset, value in ((1, 1 << 17), (2, 0x300 | 25)):
            self.chain.down_converter(offset, value)

    def command(self, word: int, at: int = 0) -> None:
        for offset, value in enumerate((word, at >> 32, at & 0xFFFFFFFF)):
            self.chain.control(offset, value)

    def run(self, microseconds: int) -> None:
        """A step of a microsecond is one sample."""
        for _ in range(microseconds):
            self.nanoseconds += 1000
            self.chain.pump(lambda: True)

    def sent(self) -> list[tuple[int, int, int, bool]]:
        """Number, time, samples and whether it ends a burst, of each packet of samples."""
        out = []
        for packet in self.packets:
            word = np.frombuffer(packet, ">u4").astype(int)
            if word[0] >> 28 == 1:
                out.append((word[0] >> 16 & 15, word[2] << 32 | word[3], len(word) - 5, bool(word[-1] & 0x100)))
        return out

    def errors(self) -> list[int]:
        return [int.from_bytes(p[-4:], "big") for p in self.packets if p[0] >> 4 == 5]
