"""Views of a window: the same signal as it might have been heard a moment later, from farther away, tuned less well."""

from __future__ import annotations

import numpy as np

OFFSET = 0.01  # cycles a sample, at most, that a view is tuned aside
NOISE_DB = (3.0, 18.0)  # of a window's power over that of the noise a view gets


def views(windows_NL: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(N, count, L) complex64 of windows (N, L): begun elsewhere, with another phase, a small carrier offset and more
    noise. What tells a class from others survives all of it. The rate stays, and no view is mirrored: some classes are
    each other's mirror image."""
    rng = np.random.default_rng(seed)
    number, length = windows_NL.shape
    out_NVL = np.empty((number, count, length), np.complex64)
    level_N = np.sqrt(np.mean(np.abs(windows_NL) ** 2, axis=1))
    time_L = np.arange(length)
    for k in range(count):
        # The quietest view first: with few views none is all noise.
        ratio_db = NOISE_DB[1] - (NOISE_DB[1] - NOISE_DB[0]) * k / max(1, count - 1)
        at_NL = (time_L + rng.integers(length, size=(number, 1))) % length
        turn_NL = rng.random((number, 1)) + rng.uniform(-OFFSET, OFFSET, (number, 1)) * time_L
        noise_NL = rng.standard_normal((number, length, 2)).view(complex)[..., 0]
        noise_NL *= (level_N * 10 ** (-ratio_db / 20) / np.sqrt(2))[:, None]
        out_NVL[:, k] = np.take_along_axis(windows_NL, at_NL, axis=1) * np.exp(2j * np.pi * turn_NL) + noise_NL
    return out_NVL
