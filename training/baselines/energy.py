"""Energy detection: is there a signal, by power alone. The baseline of spectrum sensing.

Urkowitz, "Energy detection of unknown deterministic signals", Proceedings of the IEEE, 1967. SpectrumFM, section IV-D,
compares with it. Statistics rise with the chance of a signal; what threshold they need is the receiver's choice, so
they are compared by the area under the ROC.

    known       mean power over the noise's true power: the ideal that no receiver has
    measured    mean power over the noise's power measured in a noise-only recording of so many samples
    blind       mean power over the noise floor of the window itself, which a signal in the whole band raises as well

Shapes, by letter:
    B  windows    L  samples    M  samples of the noise-only recording    F  frequency bins
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

SEGMENT = 64  # samples of a periodogram of the blind detector
FLOOR_SHARE = 0.25  # of the bins, the weakest, are taken for noise


def known_noise(iq_BL: np.ndarray, noise_power: float | np.ndarray) -> np.ndarray:
    """Mean power in units of the noise's (a number or (B,)), (B,)."""
    return power(iq_BL) / noise_power


def measured_noise(iq_BL: np.ndarray, noise_BM: np.ndarray) -> np.ndarray:
    """Mean power over that of noise recorded beside each window, (B,)."""
    return power(iq_BL) / power(noise_BM)


def blind(iq_BL: np.ndarray) -> np.ndarray:
    """Mean power over the mean of the weakest quarter of the spectrum, (B,). No knowledge of the noise at all.

    White noise and a signal as wide as the band cannot be told apart by it.
    """
    length = iq_BL.shape[1] // SEGMENT * SEGMENT
    if not length:
        raise ValueError(f"windows of {iq_BL.shape[1]} samples are shorter than a periodogram of {SEGMENT}")
    segments = iq_BL[:, :length].reshape(len(iq_BL), -1, SEGMENT) * np.hanning(SEGMENT)
    spectrum_BF = np.mean(np.abs(np.fft.fft(segments)) ** 2, axis=1)
    floor_B = np.sort(spectrum_BF, axis=1)[:, : int(FLOOR_SHARE * SEGMENT)].mean(axis=1)
    return spectrum_BF.mean(axis=1) / floor_B


def power(iq_BL: np.ndarray) -> np.ndarray:
    """Mean squared magnitude of each window, (B,)."""
    return np.mean(np.abs(iq_BL) ** 2, axis=-1)


def auc(noise_only: np.ndarray, occupied: np.ndarray) -> float:
    """Area under the ROC of a statistic: how often an occupied window has more of it than an empty one."""
    truth = np.concatenate([np.zeros(len(noise_only)), np.ones(len(occupied))])
    return float(roc_auc_score(truth, np.concatenate([noise_only, occupied])))


def auc_by_snr(noise_only: np.ndarray, occupied: np.ndarray, snr_db: np.ndarray) -> dict[float, float]:
    """SNR label -> area under the ROC against all noise-only windows. ``snr_db``: of each occupied window."""
    return {float(level): auc(noise_only, occupied[snr_db == level]) for level in np.unique(snr_db)}
