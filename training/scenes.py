"""Generated scenes: windows that follow each other, of emitters that come and go, to choose how much a window's
neighbours may say of it (``CHANGE`` of `emind.dsp.neighbours`).

`python -m emind_training.scenes [WEIGHTS [SCENES]]` prints the share of windows whose family is right by that chance.
No recording takes part.

Shapes, by letter:
    N  windows    L  samples    C  classes
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from emind.contract.vocabulary import MODULATIONS, NOISE, UNKNOWN, family_of
from emind.dsp.neighbours import Known, decided

from .synthesis.air import CLASSES, AirConfig, told_rate, window_and_rate

HEAD = "modulation"
SEED = 4_000_003  # never a training seed
MEAN_WINDOWS = 4.0  # that an emitter is heard for
PAUSE_SHARE = 0.5  # of emitters that are followed by noise; the others by the next emitter at once
CHANGES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Scene:
    """iq_NL complex64, label_N places in MODULATIONS, rate_N in Hz or NaN (an emitter of a standard has its own, as if
    tuned to), short_N: a window that an emitter is heard for alone, with others before and after it at once."""

    iq_NL: np.ndarray
    label_N: np.ndarray
    rate_N: np.ndarray
    short_N: np.ndarray


def scene(rng: np.random.Generator, windows: int, config: AirConfig = AirConfig()) -> Scene:
    """About ``windows`` windows of one receiver: emitters of random classes, each heard for some windows."""
    parts: list[tuple[str, np.ndarray, float]] = []
    while sum(len(iq) for _, iq, _ in parts) < windows:
        name = CLASSES[int(rng.integers(1, len(CLASSES)))]
        parts.append((name, *_heard(rng, name, int(rng.geometric(1 / MEAN_WINDOWS)), config)))
        if rng.random() < PAUSE_SHARE:
            parts.append((NOISE, *_heard(rng, NOISE, int(rng.integers(1, 4)), config)))
    alone = [
        0 < place < len(parts) - 1 and len(iq) == 1 and NOISE not in (parts[place - 1][0], name, parts[place + 1][0])
        and name not in (parts[place - 1][0], parts[place + 1][0])
        for place, (name, iq, _) in enumerate(parts)
    ]
    counts = [len(iq) for _, iq, _ in parts]
    any_rate = float(told_rate(rng, np.float64(np.nan), config))
    own = np.array([told for _, _, told in parts])
    rate = np.where(np.isnan(any_rate) | np.isnan(own), any_rate, own)
    rate[(rate < config.rate_min_hz) | (rate > config.rate_max_hz)] = np.nan  # better none told than a wrong one
    return Scene(
        np.concatenate([iq for _, iq, _ in parts]),
        np.repeat([MODULATIONS.index(name) for name, _, _ in parts], counts),
        np.repeat(rate, counts),
        np.repeat(alone, counts),
    )


def _heard(rng: np.random.Generator, name: str, windows: int, config: AirConfig) -> tuple[np.ndarray, float]:
    """One emitter, for so many windows (windows, L), drawn in one piece, and its standard's rate or nan."""
    longer = AirConfig(length=windows * config.length, snr_low_db=0.0, snr_high_db=config.snr_high_db)
    iq, _, rate = window_and_rate(rng, name, longer)
    return iq.reshape(windows, config.length), rate


def families_right(known: Known, label_N: np.ndarray, change: float | None) -> np.ndarray:
    """(N,) bool: whether the family of what is said is that of the label; `unknown` never is."""
    said, _ = decided(known, change)
    names = (*known.labels, UNKNOWN)
    return np.array([family_of(names[place]) == family_of(MODULATIONS[label]) for place, label in zip(said, label_N)])


def answers(weights: str, count: int) -> list[tuple[Scene, Known]]:
    """``count`` scenes of some 60 windows, and what each of their windows says by itself."""
    from emind.runtime.engine import load_engine

    engine = load_engine(weights, "torch", 1, (HEAD,))
    rng, out = np.random.default_rng(SEED), []
    for _ in range(count):
        one = scene(rng, 60)
        rows = engine.infer(one.iq_NL, one.rate_N)[HEAD]
        out.append((one, Known(engine.heads[HEAD].labels, rows)))
    return out


def shares(answered: list[tuple[Scene, Known]], change: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all windows and whether their family is right, both (N,)."""
    right = [families_right(known, one.label_N, change) for one, known in answered]
    return np.concatenate([one.label_N for one, _ in answered]), np.concatenate(right)


def main() -> int:
    """Print the table."""
    weights, count = (sys.argv[1:] + ["emind-nano", "40"][len(sys.argv) - 1 :])[:2]
    answered = answers(weights, int(count))
    short = np.concatenate([one.short_N for one, _ in answered])
    rows = []
    for change in (None, *CHANGES):
        label, right = shares(answered, change)
        signal = label != MODULATIONS.index(NOISE)
        rows.append(("by itself" if change is None else f"{change:g}", *(right[of].mean() for of in (signal, short))))
    print(f"{signal.sum()} windows of signals, {short.sum()} of them alone between others\n")
    print("| chance of a change | family right | of windows alone between others |\n|---|---|---|")
    for change, *figures in rows:
        print(f"| {change} | {' | '.join(f'{figure:.4f}' for figure in figures)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
