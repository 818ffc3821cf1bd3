"""Normalisation of windows before the encoder."""

from __future__ import annotations

import numpy as np


def max_abs(windows: np.ndarray) -> np.ndarray:
    """IQ / max|IQ| of each window (EMind, section VI-A).

    (N, L) complex64 to (N, L, 2) float32; an all-zero window stays zero.
    """
    windows = np.ascontiguousarray(windows, np.complex64)
    parts = windows.view(np.float32).reshape(*windows.shape, 2)
    # A window near the largest float would overflow when squared: scale by the larger branch first.
    branch = np.abs(parts).max(axis=(1, 2), keepdims=True)
    parts = np.divide(parts, branch, out=np.zeros_like(parts), where=branch > 0)
    peak = np.sqrt(np.einsum("nlc,nlc->nl", parts, parts).max(axis=1))[:, None, None]
    return np.divide(parts, peak, out=parts, where=peak > 0)


def max_abs_scale(windows: np.ndarray) -> np.ndarray:
    """(N,) float32: what `max_abs` divides windows (N, L) by, zero for an all-zero one."""
    return np.abs(windows).max(axis=1).astype(np.float32)


NORMALISE = {"max_abs": max_abs}
SCALE = {"max_abs": max_abs_scale}  # what brings a normalised window back to the scale of the input
