"""Which windows are worth an inference: energy gate and check for zeros and for values that are not finite.

What the gate can tell: that a window is hardly louder than the noise. What it cannot: a signal weaker than the gate
is gated with the noise; a signal shorter than a window counts by its mean power over the window. It errs on the open
side: until noise has been seen (a start in the midst of a signal, a receiver whose noise fills less than half of the
band), and for RELEARN_WINDOWS after the floor has risen beyond its reach, every window goes to the engine. One case is
wrongly closed: a signal like white noise over the whole band that lasts for RELEARN_WINDOWS without a pause is
taken for a new floor.
"""

from __future__ import annotations

import numpy as np

from .snr import NEAR, NoiseFloor, looks_like_noise, snr_db

OPEN = 0  # goes to the engine
NOISE = 1  # all zeros, or below the gate: noise without asking
INVALID = 2  # holds a value that is not finite: nothing can be said


class EnergyGate:
    """Sorts windows by power against the noise floor that it follows.

    Parameters
    ----------
    gate_db: windows less than this many dB above the floor are NOISE; None opens the gate for all but all-zero and
        invalid windows. Until the floor is known to be noise the gate is open.
    """

    def __init__(self, gate_db: float | None = None) -> None:
        self.set(gate_db)

    def set(self, gate_db: float | None) -> None:
        """Another threshold; the floor is learned anew, since how noise is told from signals follows from it. Between
        two calls of :meth:`sort`, or from another thread."""
        self._threshold = None if gate_db is None else 10 ** (gate_db / 10)
        self.floor = NoiseFloor() if gate_db is None else NoiseFloor(max(gate_db, 1.0))

    def sort(self, windows: np.ndarray, valid_first: int) -> tuple[np.ndarray, np.ndarray]:
        """Kinds uint8 (n,) of windows complex64 (n, length), and their SNR float64 (n,) in dB, nan where unknown.

        Unknown too: that of a window near a floor that was not seen to be noise. A signal that has not paused since the
        start is its own floor, and would be told as 20 dB below the noise.

        ``valid_first`` samples of the first window are signal, the rest of it zero fill; the others are whole.
        """
        count, length = windows.shape
        threshold = self._threshold
        parts = windows.view(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            energies = np.matmul(parts[:, None, :], parts[:, :, None])[:, 0, 0].astype(np.float64)
        kinds = np.zeros(count, np.uint8)
        # The sum of squares underflows or overflows where the samples need not: look at those windows themselves.
        for index in np.flatnonzero(energies == 0.0):
            kinds[index] = OPEN if parts[index].any() else NOISE
        for index in np.flatnonzero(~np.isfinite(energies)):
            kinds[index] = OPEN if np.isfinite(parts[index]).all() else INVALID
        powers = energies / length
        powers[0] *= length / valid_first
        floors, trusted = self.floor.follow(
            powers, lambda index: (index > 0 or valid_first == length) and looks_like_noise(windows[index])
        )
        if threshold is not None:
            kinds[(kinds == OPEN) & trusted & (powers < floors * threshold)] = NOISE
        ratios = snr_db(powers, floors)
        ratios[(kinds == INVALID) | (~trusted & (powers < NEAR * floors))] = np.nan
        return kinds, ratios
