"""Time of the device: a counter of 100 MHz that the driver sets at once or at the next pulse per second.

Two scales: *raw* ticks are the machine's own and never jump; *ticks* are what the driver sees. Pulses come at whole
seconds of the raw scale, so that emulators on one machine share them, like radios on one pulse generator.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .protocol import TICK_RATE

NANOSECONDS = 1_000_000_000 // TICK_RATE


class Clock:
    def __init__(self, monotonic_ns: Callable[[], int] = time.monotonic_ns):
        self._monotonic_ns = monotonic_ns
        self.reset()

    def reset(self) -> None:
        """As after switching on: ticks count from zero."""
        self._offset = -self.raw()
        self._pending: tuple[int, int] | None = None  # raw time of a pulse, ticks from then on

    def raw(self) -> int:
        return self._monotonic_ns() // NANOSECONDS

    def ticks(self, raw: int) -> int:
        """What the counter shows at a raw time that is not before the last setting."""
        self._settle(raw)
        return raw + self._offset

    def raw_of(self, ticks: int) -> int:
        return ticks - self._offset

    def last_pulse(self) -> int:
        """The counter's value at the last pulse per second."""
        raw = self.raw()
        return self.ticks(raw - raw % TICK_RATE)

    def set(self, ticks: int, at_next_pulse: bool) -> None:
        raw = self.raw()
        self._settle(raw)
        if at_next_pulse:
            self._pending = raw - raw % TICK_RATE + TICK_RATE, ticks
        else:
            self._offset, self._pending = ticks - raw, None

    def _settle(self, raw: int) -> None:
        if self._pending and raw >= self._pending[0]:
            self._offset, self._pending = self._pending[1] - self._pending[0], None
