"""AWGN-7: the likelihood of its seven classes, what the best classifier reaches, and the distance to it.

The likelihood is that of the generator with its carrier phase known: the points of a modulation lie where they lie, and
CPFSK starts at the phase zero. Who does not know the phase has a lower ceiling (`python -m emind_training.ceiling`
prints both). So windows must not be turned by any angle in training, only by what leaves every class as it is: half a
turn.

A clean window's mean is taken away and its power made one, which moves its points a little; the likelihood leaves that
out. The published ceiling is kept in ``configs/awgn7-bayes-ceiling.csv``.

Shapes, by letter:
    N  windows    L  samples    M  points of a modulation    C  classes    S  phases of CPFSK
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError

from .synthesis.awgn7 import INDEX, LENGTH, POINTS, SEVEN, clean_window
from .synthesis.channels import complex_noise, db

CEILING = Path(__file__).with_name("configs") / "awgn7-bayes-ceiling.csv"
RANGE_DB = (-10.0, 8.0)  # of the distance to the ceiling, both ends included
PHASES = 40  # of CPFSK: steps of 0.55 half-turns come back after 40


def read_ceiling(path: Path = CEILING) -> dict[float, float]:
    """SNR (dB) -> share right of the best possible classifier."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {float(row["snr_db"]): float(row["bayes_accuracy"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError) as fault:
        raise EMindError(f"ceiling {path}: cannot be read ({fault})") from None


def distance_to_ceiling(
    accuracy: dict[float, float], ceiling: dict[float, float], low: float = RANGE_DB[0], high: float = RANGE_DB[1]
) -> float:
    """Mean of ceiling - accuracy over the SNR labels of the ceiling from ``low`` to ``high``, in points (hundredths).

    EMindError where an SNR of that range was not measured.
    """
    labels = [snr for snr in sorted(ceiling) if low <= snr <= high]
    missing = [snr for snr in labels if snr not in accuracy]
    if missing or not labels:
        raise EMindError(f"distance to the ceiling: no accuracy at {missing[0] if missing else low:g} dB")
    return 100 * float(np.mean([ceiling[snr] - accuracy[snr] for snr in labels]))


def renormalised(logits_NC: np.ndarray, classes: tuple[str, ...], among: tuple[str, ...] = SEVEN) -> np.ndarray:
    """Posterior of the classes ``among``, (N, their number): of all classes, the others struck out, scaled to one."""
    columns = [classes.index(name) for name in among]
    kept = logits_NC[:, columns] - logits_NC[:, columns].max(axis=1, keepdims=True)
    kept = np.exp(kept)
    return kept / kept.sum(axis=1, keepdims=True)


def log_likelihood(iq_NL: np.ndarray, snr_db: float) -> np.ndarray:
    """Log-likelihood of each of `SEVEN`, up to what they share, (N, 7), at a known SNR."""
    noise = db(-snr_db)
    columns = [_memoryless(iq_NL, POINTS[name], noise) if name in POINTS else _cpfsk(iq_NL, noise) for name in SEVEN]
    return np.stack(columns, axis=1)


def bayes_accuracy(snr_db: float, windows: int, seed: int = 0, angles: int = 0) -> float:
    """Share of ``windows`` a class, drawn as AWGN-7 draws them, that the largest likelihood names rightly.

    ``angles``: 0 where the carrier's phase is known; else windows are turned by any angle, and the likelihood is the
    mean over so many angles.
    """
    rng = np.random.default_rng([seed, 7])
    right = 0
    for number, name in enumerate(SEVEN):
        clean = np.stack([clean_window(rng, name) for _ in range(windows)])
        clean -= clean.mean(axis=1, keepdims=True)
        clean /= np.sqrt(np.mean(np.abs(clean) ** 2, axis=1, keepdims=True))
        noisy = clean + complex_noise(rng, windows * LENGTH, db(-snr_db)).reshape(windows, LENGTH)
        if angles:
            noisy = noisy * np.exp(2j * np.pi * rng.random((windows, 1)))
        turns = np.exp(2j * np.pi * np.arange(max(1, angles)) / max(1, angles))
        likelihood = np.stack([log_likelihood(noisy * turn, snr_db) for turn in turns], axis=-1)
        right += int((_log_mean_exp(likelihood).argmax(axis=1) == number).sum())
    return right / (windows * len(SEVEN))


def _memoryless(iq_NL: np.ndarray, points_M: np.ndarray, noise: float) -> np.ndarray:
    """Symbols are independent: the mean over the points, sample by sample, (N,)."""
    return _log_mean_exp(-np.abs(iq_NL[..., None] - points_M) ** 2 / noise).sum(axis=1)


def _cpfsk(iq_NL: np.ndarray, noise: float) -> np.ndarray:
    """Sum over all paths of the phase, one step up or down a sample: the forward recursion over its phases, (N,)."""
    points_S = np.exp(1j * np.pi * INDEX * np.arange(PHASES))
    state_NS = np.full((len(iq_NL), PHASES), -np.inf)
    state_NS[:, 0] = 0.0
    for sample_N in iq_NL.T:
        state_NS = np.logaddexp(np.roll(state_NS, 1, axis=1), np.roll(state_NS, -1, axis=1)) - np.log(2)
        state_NS = state_NS - np.abs(sample_N[:, None] - points_S) ** 2 / noise
    return _log_mean_exp(state_NS) + np.log(PHASES)


def _log_mean_exp(values: np.ndarray) -> np.ndarray:
    top = values.max(axis=-1, keepdims=True)
    return (top + np.log(np.mean(np.exp(values - top), axis=-1, keepdims=True)))[..., 0]


def main() -> None:
    """What the likelihood reaches by itself, with the phase and without, beside the published ceiling."""
    windows, angles = 60, 48
    print(f"{windows} windows a class; without the phase: mean over {angles} angles")
    print("| SNR, dB | published | phase known | phase unknown |\n|---|---|---|---|")
    for snr, published in read_ceiling().items():
        if RANGE_DB[0] <= snr <= RANGE_DB[1]:
            known, unknown = bayes_accuracy(snr, windows), bayes_accuracy(snr, windows, angles=angles)
            print(f"| {snr:g} | {published:.3f} | {known:.3f} | {unknown:.3f} |", flush=True)


if __name__ == "__main__":
    main()
