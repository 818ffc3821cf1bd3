"""What a set of signals is: a function that draws the rows of one item, and how many items its sizes have."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from emind.contract.schema import Signal
from numpy.random import Generator

SIZES = ("small", "medium", "full")
ROLE = ":"  # in a transmission_id: what stands before it is common to the rows that belong together


@dataclass(frozen=True)
class Published:
    """What the paper's table says of a set, as printed there; None where the set is not the paper's."""

    table: str
    count: str = "-"
    length: str = "-"
    rate: str = "-"
    classes: str = "-"
    snr: str = "-"


@dataclass(frozen=True)
class Recipe:
    """``draw(rng, item)`` returns the rows of item 0, 1, 2, ...: one signal, or signals that belong together.

    The item's number decides its class and SNR, so that a set is balanced; the generator decides the rest. ``small``,
    ``medium`` and ``full`` are numbers of items; ``full`` is as many as were published. ``version`` stands in files and
    in the headers of what was trained on them: it goes up when the same seed gives other signals.
    """

    name: str
    draw: Callable[[Generator, int], list[Signal]]
    small: int
    medium: int
    full: int
    published: Published | None = None
    block: int = 128  # items a process draws at a time
    note: str = ""  # what the table says beside the figures
    version: int = 1

    def items(self, size: str) -> int:
        return {"small": self.small, "medium": self.medium, "full": self.full}[size]

    def rows(self, seed: int, item: int) -> list[Signal]:
        """The rows of an item: the same wherever and whenever they are drawn."""
        return self.draw(np.random.default_rng([seed, zlib.crc32(self.name.encode()), item]), item)


def linked(transmission_id: str) -> tuple[str, str]:
    """Number that the rows of an item share, and the role of this row ("" where it has none)."""
    common, _, role = transmission_id.partition(ROLE)
    return common, role


def cell(item: int, *axes: tuple | list | range) -> list:
    """The item's place on each axis, the first running fastest: item -> [class, snr, ...]."""
    place = []
    for axis in axes:
        item, k = divmod(item, len(axis))
        place.append(axis[k])
    return place


def iq(x: np.ndarray) -> np.ndarray:
    """Samples as a row keeps them."""
    return np.ascontiguousarray(x, dtype=np.complex64)
