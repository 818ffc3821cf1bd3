"""Noise floor that follows the quietest windows, and the signal-to-noise ratio against it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

# Windows that the floor must have followed before it is worth a statement.
SETTLED_WINDOWS = 8
# How fast the floor may rise, a window: about 1 dB in 200 windows. It falls at once.
RISE = 10 ** (0.005 / 10)
# So many windows in a row beyond the floor's reach, of which the quietest look like noise, are a new floor.
RELEARN_WINDOWS = 512
# Every so many windows one is looked at, and as many noisy ones in a row make a floor trusted.
LOOK_EVERY, LOOKS_FOR_TRUST = 32, 3
# A window is near another level when it is less than this above it.
NEAR = 2.0


class NoiseFloor:
    """Power of the quietest recent windows (mean of |x|^2 a sample).

    It falls to a quieter window at once and rises slowly, and only while the windows lie within ``reach_db`` above
    it: a signal that never pauses does not become the floor, however long it lasts. A floor that has risen by more,
    as after a change of gain, is met by looking: if RELEARN_WINDOWS in a row lie beyond the reach and the quietest of
    those looked at are noise, they are the new floor. Its value does not depend on how the stream is cut into calls.

    ``trusted`` says whether windows near the floor were seen to be noise. At a start in the midst of a signal the
    floor is the signal's power, and not trusted, until the first pause.
    """

    def __init__(self, reach_db: float = 6.0) -> None:
        self._reach = 10 ** (reach_db / 10)
        self.restart()

    def restart(self) -> None:
        """Forget the floor, as after a change of frequency or rate."""
        self._floor = math.inf
        self._seen = 0
        self._votes = 0
        self._forget_streak()

    @property
    def trusted(self) -> bool:
        return self._votes >= LOOKS_FOR_TRUST

    def follow(self, powers: np.ndarray, noisy: Callable[[int], bool] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Floor at each of the windows with these powers, float64 (n,), nan until it has settled; and whether it was
        trusted, bool (n,).

        ``noisy`` tells whether the window of an index looks like noise; without it nothing is relearned or trusted.
        Powers that are zero or not finite say nothing about the noise and are passed over.
        """
        floors, trusted = np.empty(len(powers)), np.zeros(len(powers), bool)
        reach = self._reach
        for index, power in enumerate(powers.tolist()):
            if 0.0 < power < math.inf:
                self._seen += 1
                floor = self._floor
                if power < floor * reach:
                    self._floor = floor = power if power < floor else min(power, floor * RISE)
                    if self._streak:
                        self._forget_streak()
                elif noisy is not None:
                    self._beyond(power, index, noisy)
                if noisy is not None and self._votes < LOOKS_FOR_TRUST and power < NEAR * floor and (
                        self._seen <= SETTLED_WINDOWS or self._seen % LOOK_EVERY == 0):
                    self._votes = self._votes + 1 if noisy(index) else 0
            floors[index] = self._floor if self._seen >= SETTLED_WINDOWS else math.nan
            trusted[index] = self._votes >= LOOKS_FOR_TRUST
        return floors, trusted

    def _forget_streak(self) -> None:
        self._streak = 0
        self._looks: list[tuple[float, bool]] = []

    def _beyond(self, power: float, index: int, noisy: Callable[[int], bool]) -> None:
        """One more window beyond the reach of the floor."""
        if self._streak % LOOK_EVERY == 0:
            self._looks.append((power, noisy(index)))
        self._streak += 1
        if self._streak < RELEARN_WINDOWS:
            return
        quietest = min(power for power, _ in self._looks)
        quiet = [is_noise for power, is_noise in self._looks if power < NEAR * quietest]
        if sum(quiet) > len(quiet) / 2:
            self._floor = min(power for power, is_noise in self._looks if is_noise)
            self._votes = LOOKS_FOR_TRUST
        self._forget_streak()


def looks_like_noise(window: np.ndarray) -> bool:
    """Whether a window, complex64 (length,), could be a receiver's noise: white enough, and as peaked as noise.

    White: the magnitude of the autocorrelation at lags 1 to 4 stays below a half. Peaked: mean |x|^4 / (mean |x|^2)^2
    is 2 within the scatter of so many samples. A carrier, a signal that leaves much of the band empty, and any
    modulation with few levels at one sample a symbol are told from noise; OFDM or noise that fills the band is not.
    An offset of the converter, up to twice the noise's power, is no signal and is taken off first.
    """
    length = len(window)
    samples = (window / np.abs(window).max()).astype(np.complex128)
    offset = samples.mean()
    samples -= offset
    squares = np.square(samples.real) + np.square(samples.imag)
    power = squares.mean()
    if not power > 1e-12 or length < 16 or abs(offset) ** 2 > 2 * power:
        return False
    scatter = 1 / math.sqrt(length)
    if abs(np.square(squares).mean() / power**2 - 2.0) > 0.3 + 4 * scatter:
        return False
    return all(
        abs(np.vdot(samples[lag:], samples[:-lag])) / (length * power) < 0.5 + 2 * scatter for lag in (1, 2, 3, 4)
    )


def snr_db(powers: np.ndarray, floors: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio in dB, (power - floor) / floor, at least -20; nan where the floor is unknown."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return 10.0 * np.log10(np.maximum(powers / floors - 1.0, 0.01))
