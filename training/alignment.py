"""A clean signal with the offset, gain and imbalance of its noisy partner: what a denoiser on the air is to give back.

EM-Denoise-Signal's noisy row has a carrier offset and an imbalance of I and Q that its clean row lacks. A stream put
together again from windows must keep its carrier's phase from one to the next, so there the noise alone is to go. The
impaired signal without noise is not stored, but for the error of the fit it follows from the two rows:

    impaired = a z + b conj(z),    z = clean exp(j 2 pi f n)

with the f of the highest correlation, and a, b by least squares. Of N samples at signal-to-noise ratio R the fit's own
error lies about N R / 4 below the signal: 24 dB at N = 1,024 and -3 dB, where a denoiser is far from it.
"""

from __future__ import annotations

import numpy as np

FINER = 8  # points of the transform a bin of the window, before the peak's parabola
LARGEST_OFFSET = 1 / 128  # cycles a sample


def aligned(noisy_BL: np.ndarray, clean_BL: np.ndarray) -> np.ndarray:
    """Complex (B, L) noisy and clean signals to (B, L): the clean ones as they stand in the noisy ones."""
    length = noisy_BL.shape[1]
    turns = np.exp(2j * np.pi * offset(noisy_BL, clean_BL)[:, None] * np.arange(length))
    z_BL = clean_BL * turns
    power_B = (np.abs(z_BL) ** 2).sum(1)
    square_B = (np.conj(z_BL) ** 2).sum(1)  # <z, conj z>
    first_B, second_B = (noisy_BL * np.conj(z_BL)).sum(1), (noisy_BL * z_BL).sum(1)
    # A real signal is its own mirror: b has no meaning, and the ridge keeps it small.
    ridged_B = power_B * (1 + 1e-3) + 1e-30
    whole_B = ridged_B**2 - np.abs(square_B) ** 2
    a_B = (ridged_B * first_B - square_B * second_B) / whole_B
    b_B = (ridged_B * second_B - np.conj(square_B) * first_B) / whole_B
    return (a_B[:, None] * z_BL + b_B[:, None] * np.conj(z_BL)).astype(noisy_BL.dtype)


def offset(noisy_BL: np.ndarray, clean_BL: np.ndarray) -> np.ndarray:
    """(B,): cycles a sample by which the noisy signals lie above the clean ones, within ``LARGEST_OFFSET``."""
    length = noisy_BL.shape[1]
    points = FINER * length
    size_BF = np.abs(np.fft.fft(noisy_BL * np.conj(clean_BL), points, axis=1))
    reach = max(1, int(points * LARGEST_OFFSET))
    bins = np.arange(-reach, reach + 1)
    near_BF = size_BF[:, bins]
    peak_B = near_BF[:, 1:-1].argmax(1) + 1
    row = np.arange(len(peak_B))
    before, at, after = (near_BF[row, peak_B + k] for k in (-1, 0, 1))
    curve = before - 2 * at + after
    bend = np.where(curve < 0, 0.5 * (before - after) / np.where(curve < 0, curve, -1.0), 0.0)
    return (bins[peak_B] + np.clip(bend, -1, 1)) / points
