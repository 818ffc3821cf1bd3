"""Weighted overlap-add: windows back to a stream, exactly, for any hop up to the length.

Every window is multiplied by a taper that is positive everywhere, the products are added, and each sample is divided
by the sum of the weights that met in it. Where all windows agree about a sample the result is that sample, whatever
hop and whatever windows are missing; where they differ (denoised copies), their middles count most.

Most windows are copies of one stream: those that agree bit by bit with their neighbours are passed on as they are,
which costs a twentieth of the sums. The sums go by blocks of windows that stay in the processor's cache.
"""

from __future__ import annotations

import numpy as np


def taper(length: int) -> np.ndarray:
    """Weights sin^2(pi (n + 1/2) / length), float32 (length,), all above zero."""
    return np.square(np.sin((np.arange(length) + 0.5) * np.pi / length)).astype(np.float32)


BLOCK_BYTES = 128 << 10


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
        padded = np.zeros(len(self._pieces) * hop, np.float32)
        padded[:length] = self._taper
        # What meets in a sample once as many windows have come as can hold it; and in the samples not finished yet.
        by_piece = padded.reshape(len(self._pieces), hop)
        self._full = np.repeat(1.0 / by_piece.sum(axis=0), 2).astype(np.float32)
        self._full_tail = np.cumsum(by_piece[::-1], axis=0)[::-1].reshape(-1)[hop:length].astype(np.float32)
        self._doubled = np.repeat(self._taper, 2)  # a weight for I, the same for Q
        self._block = max(1, BLOCK_BYTES // (8 * length))
        self.reset()

    def reset(self) -> None:
        """Forget what has not been given out."""
        self._sum = np.zeros(self.tail, np.complex64)
        self._weight = np.zeros(self.tail, np.float32)
        self._missing = len(self._pieces) - 1  # windows until sums are of as many as can be
        self._agreeing = 0  # windows in a row that agreed with the one before
        self._last = np.zeros(self.tail, np.complex64)  # the end of the last window, where ``_sum`` is not kept
        self._passing = False  # whether that is so

    def add(self, windows: np.ndarray, out: np.ndarray) -> int:
        """Add windows (n, length), each ``hop`` behind the last, and write the n * hop finished samples to ``out``."""
        count, hop = len(windows), self.hop
        total = count * hop
        if self.tail == 0:
            out[:total].reshape(count, hop)[...] = windows
            return total
        done = 0
        while done < count:
            most = self._missing or self._block  # the first ones behind a break have sums of their own
            block = windows[done : done + most]
            self._add_block(block, out[done * hop : (done + len(block)) * hop])
            done += len(block)
        return total

    def _add_block(self, windows: np.ndarray, out: np.ndarray) -> None:
        agreed = self._agree(windows)
        if agreed and not self._missing and self._agreeing >= len(self._pieces) - 1:
            out.reshape(len(windows), self.hop)[...] = windows[:, : self.hop]
            self._last[...] = windows[-1, self.hop :]
            self._passing = True
            return
        self._agreeing = self._agreeing + len(windows) if agreed else 0
        self._keep_sums()
        if self._missing:
            self._add_first(windows, out)
        else:
            self._add_full(windows, out)
        self._last[...] = windows[-1, self.hop :]

    def _agree(self, windows: np.ndarray) -> bool:
        """Whether each window begins as the one before it ends, to the bit."""
        if not _identical(windows[0, : self.tail], self._last):
            return False
        return _identical(windows[1:, : self.tail], windows[:-1, self.hop :])

    def _keep_sums(self) -> None:
        if self._passing:
            self._sum, self._weight = self._last * self._full_tail, self._full_tail.copy()
            self._passing = False

    def _add_full(self, windows: np.ndarray, out: np.ndarray) -> None:
        """Where as many windows meet in each sample as can: their weights are known."""
        count, width = len(windows), 2 * self.hop
        parts = np.ascontiguousarray(windows).view(np.float32)
        sums = np.zeros((count + len(self._pieces) - 1, width), np.float32)
        flat = sums.reshape(-1)
        flat[: 2 * self.tail] = self._sum.view(np.float32)
        for row, (first, last) in enumerate(self._pieces):
            weighted = parts[:, 2 * first : 2 * last] * self._doubled[2 * first : 2 * last]
            sums[row : row + count, : 2 * (last - first)] += weighted
        np.multiply(sums[:count], self._full, out=out.view(np.float32).reshape(count, width))
        self._sum = flat[count * width : count * width + 2 * self.tail].view(np.complex64).copy()

    def _add_first(self, windows: np.ndarray, out: np.ndarray) -> None:
        """Where fewer windows meet, right behind a break; at most as many windows as are missing."""
        count, hop = len(windows), self.hop
        total = count * hop
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
        self._missing -= count

    def add_last(self, window: np.ndarray, valid: int, out: np.ndarray) -> int:
        """Add the last window before a gap, of which ``valid`` samples are signal, and write those to ``out``."""
        if self.tail == 0:
            out[:valid] = window[:valid]
            return valid
        self._keep_sums()
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
        self._keep_sums()
        weights = self._weight[:count]
        np.divide(self._sum[:count], np.where(weights > 0, weights, 1.0), out=out[:count])
        self.reset()
        return count


def _identical(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether complex64 arrays with contiguous rows are the same to the bit."""
    return np.array_equal(one.view(np.uint64), other.view(np.uint64))
