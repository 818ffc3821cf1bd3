"""Noise floor that follows the quietest windows, and the signal-to-noise ratio against it."""

from __future__ import annotations

import math

import numpy as np

# Windows that the floor must have followed before it is worth a statement.
SETTLED_WINDOWS = 8
# How fast the floor may rise, a window: about 1 dB in 200 windows. It falls at once.
RISE = 10 ** (0.005 / 10)


class NoiseFloor:
    """Power of the quietest recent windows (mean of |x|^2 a sample).

    It falls to a quieter window at once and rises slowly, and only while the windows lie within ``reach_db`` above
    it: a signal that never pauses does not become the floor, however long it lasts. Its value does not depend on
    how the stream is cut into calls.
    """

    def __init__(self, reach_db: float = 6.0) -> None:
        self._reach = 10 ** (reach_db / 10)
        self.restart()

    def restart(self) -> None:
        """Forget the floor, as after a change of frequency or rate."""
        self._floor = math.inf
        self._seen = 0

    def follow(self, powers: np.ndarray) -> np.ndarray:
        """Floor at each of the windows with these powers, float64 (n,); nan until it has settled.

        Powers that are zero or not finite say nothing about the noise and are passed over.
        """
        floors = np.empty(len(powers))
        floor, seen, reach = self._floor, self._seen, self._reach
        for index, power in enumerate(powers.tolist()):
            if 0.0 < power < math.inf:
                seen += 1
                if power < floor:
                    floor = power
                elif power < floor * reach:
                    floor = min(power, floor * RISE)
            floors[index] = floor if seen >= SETTLED_WINDOWS else math.nan
        self._floor, self._seen = floor, seen
        return floors


def snr_db(powers: np.ndarray, floors: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio in dB, (power - floor) / floor, at least -20; nan where the floor is unknown."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return 10.0 * np.log10(np.maximum(powers / floors - 1.0, 0.01))
