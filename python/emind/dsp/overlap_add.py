"""Weighted overlap-add: windows back to a stream, exactly, for any hop up to the length.

Every window is multiplied by a taper that is positive everywhere, the products are added, and each sample is divided
by the sum of the weights that met in it. Where all windows agree about a sample the result is that sample, whatever
hop and whatever windows are missing; where they differ (denoised copies), their middles count most.
"""

from __future__ import annotations

import numpy as np


def taper(length: int) -> np.ndarray:
    """Weights sin^2(pi (n + 1/2) / length), float32 (length,), all above zero."""
    return np.square(np.sin((np.arange(length) + 0.5) * np.pi / length)).astype(np.float32)


class OverlapAdd:
    """Accumulator of windows of ``length`` samples, ``hop`` apart.

    A sample is given out once no later window can hold it: the first ``hop`` of each window at once, the ``tail`` of
    ``length - hop`` with the windows behind it, or by :meth:`flush` where the stream breaks.
    """

    def __init__(self, length: int, hop: int) -> None:
        if not 1 <= hop <= length:
            raise ValueError(f"hop {hop} must be between 1 and the window length {length}")
        self.length, self.hop = length, hop
        self.tail = length - hop
        self._taper = taper(length)
        self._pieces = [(first, min(first + hop, length)) for first in range(0, length, hop)]
        self.reset()

    def reset(self) -> None:
        """Forget what has not been given out."""
        self._sum = np.zeros(self.tail, np.complex64)
        self._weight = np.zeros(self.tail, np.float32)

    def add(self, windows: np.ndarray, out: np.ndarray) -> int:
        """Add windows (n, length), each ``hop`` behind the last, and write the n * hop finished samples to ``out``."""
        count, hop = len(windows), self.hop
        total = count * hop
        if self.tail == 0:
            out[:total].reshape(count, hop)[...] = windows
            return total
        rows = count + len(self._pieces) - 1
        sums = np.zeros((rows, hop), np.complex64)
        weights = np.zeros((rows, hop), np.float32)
        flat_sums, flat_weights = sums.reshape(-1), weights.reshape(-1)
        flat_sums[: self.tail] = self._sum
        flat_weights[: self.tail] = self._weight
        for row, (first, last) in enumerate(self._pieces):
            weight = self._taper[first:last]
            sums[row : row + count, : last - first] += windows[:, first:last] * weight
            weights[row : row + count, : last - first] += weight
        np.divide(flat_sums[:total], flat_weights[:total], out=out[:total])
        self._sum = flat_sums[total : total + self.tail].copy()
        self._weight = flat_weights[total : total + self.tail].copy()
        return total

    def add_last(self, window: np.ndarray, valid: int, out: np.ndarray) -> int:
        """Add the last window before a gap, of which ``valid`` samples are signal, and write those to ``out``."""
        if self.tail == 0:
            out[:valid] = window[:valid]
            return valid
        sums = window[:valid] * self._taper[:valid]
        weights = self._taper[:valid].copy()
        shared = min(valid, self.tail)
        sums[:shared] += self._sum[:shared]
        weights[:shared] += self._weight[:shared]
        np.divide(sums, weights, out=out[:valid])
        self.reset()
        return valid

    def flush(self, count: int, out: np.ndarray) -> int:
        """Write the first ``count`` (at most ``tail``) unfinished samples as they are, and forget the rest."""
        weights = self._weight[:count]
        np.divide(self._sum[:count], np.where(weights > 0, weights, 1.0), out=out[:count])
        self.reset()
        return count
