"""What can go wrong on demand. A fault waits until the stream reaches its sample and then happens once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Fault:
    """``kind``: what happens at the first packet boundary at or behind sample ``at`` of the stream (None: at once).

    - ``overflow``: the device drops ``samples`` samples and reports it; with ``halt`` it also stops, as the real
      device does, until the next streaming command.
    - ``loss``: ``packets`` packets are lost on the way: their numbers and their time are gone. 16, or a multiple,
      cannot be seen from the 4-bit numbers.
    - ``silence``: the stream stops without a word; with ``halt`` only.
    """

    kind: str
    at: int | None = None
    samples: int = 3630
    packets: int = 16
    halt: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("overflow", "loss", "silence"):
            raise ValueError(f"no fault named {self.kind!r}: overflow, loss or silence")
        for name in ("samples", "packets"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


class FaultList:
    """Faults in the order of their samples."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._waiting.append(fault)
        self._waiting.sort(key=lambda f: -1 if f.at is None else f.at)

    def take(self, position: int) -> Fault | None:
        """The next fault that is due when the stream stands at ``position``."""
        if self._waiting and (self._waiting[0].at is None or self._waiting[0].at <= position):
            return self._waiting.pop(0)
        return None

    def next_at(self) -> int | None:
        """The sample before which a block of packets must end, or None."""
        return self._waiting[0].at or 0 if self._waiting else None

    def clear(self) -> None:
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)
