"""Which output of a separation is which source, from window to window.

A network that separates is trained without regard to the order of its outputs, so two windows side by side may have
theirs the other way round. Where windows overlap both have heard the same samples: of all orders of the newer window's
outputs that one continues which has the largest sum of correlations with the older window's over the overlap. That is
also the order of the smallest squared difference, since the powers do not depend on it. Samples count by how much both
windows weigh there in the overlap-add, for outputs are least certain at a window's edges.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from .overlap_add import taper


class SourceOrder:
    """Keeps the order of ``sources`` waveforms over windows of ``length`` samples.

    Windows that overlap with none that was separated before (the first, behind a gap, behind windows left out) keep the
    order in which they came, and a new order begins: :attr:`begun` counts these.
    """

    def __init__(self, length: int, sources: int) -> None:
        self.length, self.sources = length, sources
        self._taper = taper(length)
        self._orders = np.array(list(permutations(range(sources))))  # the first one changes nothing
        self._rows = np.arange(sources)
        self.begun = 0
        self.restart()

    def restart(self) -> None:
        """The stream breaks: nothing that comes continues what was."""
        self._last: np.ndarray | None = None  # (K, L), in order
        self._start = 0  # of its first sample

    def arrange(self, windows: np.ndarray, start: int, hop: int, separated: np.ndarray | None = None) -> np.ndarray:
        """Windows (n, K, L), ``hop`` samples apart, the first at sample ``start``, each with its sources in order.

        ``separated`` bool (n,): those that are not are left as they are and say nothing of the order; None: all are.
        The windows may be borrowed: they are neither kept nor changed.
        """
        arranged = np.array(windows)
        which = range(len(windows)) if separated is None else np.flatnonzero(separated).tolist()
        for index in which:
            position = start + index * hop
            order = self._continuing(windows[index], position - self._start)
            if order is not None:
                arranged[index] = windows[index][order]
            self._last, self._start = arranged[index], position
        if self._last is not None and self._last.base is not None:
            self._last = self._last.copy()  # one window instead of all that came with it
        return arranged

    def _continuing(self, window: np.ndarray, distance: int) -> np.ndarray | None:
        """The order of a window (K, L) that continues the last one, ``distance`` samples before; None: as it is."""
        if self._last is None or not 0 < distance < self.length:
            self.begun += 1
            return None
        shared = self.length - distance
        weight = self._taper[distance:] * self._taper[:shared]
        alike = ((self._last[:, distance:] * weight) @ window[:, :shared].conj().T).real
        best = int(alike[self._rows, self._orders].sum(axis=1).argmax())
        return self._orders[best] if best else None
