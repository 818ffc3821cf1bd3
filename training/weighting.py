"""How often each data set is drawn: section V-D of the EMind paper, which names the aim and gives no rule.

    losses of each set at every look ─► fall so far, slope now ─► score in [-1, 1] ─► weight in [1/4, 4]

A weight of 1 is the equal share. Weights have the mean 1, so they say how a set compares with the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from emind.contract.errors import UsageError

SCHEMES = ("equal", "paper", "adaptive")
# Section VI-A.1, by the names that files of these sets have here. Sets that the paper does not list have 1.
PAPER = {
    "EM-Comm": 1.0, "HisarMod2019.1": 0.5, "Panoradio HF": 1.0, "RadarCommDataset": 1.0, "EM-RadarParaIQSim": 0.5,
    "EM-Radar": 0.5, "WiSig": 1.0, "Northeastern RF": 1.0, "POWDER": 1.0, "Transmitter Classification": 1.0,
    "LoRa RF": 1.0, "Mono Receiver": 1.0, "DroneRFa": 0.5, "EM-Infer-Radar-v2": 0.5,
}  # fmt: skip
LOWEST, HIGHEST = 0.25, 4.0
RECENT = 4  # looks that the slope is taken from
FEWEST = 3  # finite validation losses that a slope needs
STEEP = 0.02  # change of the logarithm of a loss between two looks that counts as a clear trend
PACE = 0.3  # share of the way to the target that one update goes


@dataclass
class LossHistory:
    """Losses of one set, an entry a look. NaN in ``train`` where the set was not drawn since the look before."""

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


def first_weights(names: Sequence[str], scheme: str) -> dict[str, float]:
    """Weights that a run starts with. UsageError for an unknown scheme."""
    if scheme not in SCHEMES:
        raise UsageError(f"unknown weighting {scheme!r}; known: {', '.join(SCHEMES)}")
    return {name: PAPER.get(name, 1.0) if scheme == "paper" else 1.0 for name in names}


def next_weights(histories: Mapping[str, LossHistory], weights: Mapping[str, float]) -> dict[str, float]:
    """Weights after a look, from the losses up to it and the weights until now.

    What a set gets depends on its validation loss, and is a blend of four cases, so that nothing jumps:

    - It falls. Whoever has fallen less than the others since the first look is slow and goes up; whoever has fallen more
      learns easily and goes down.
    - It rises and the training loss does not fall (or the set was not drawn at all): the set is being forgotten
      and goes up.
    - It rises while the training loss falls: overfitting, and more of the same signals would make it worse: down.
    - It stands still. After a fall the set has been learned and goes down. Without one it may be noise or not have
      begun, which cannot be told apart, so it goes back to 1.

    Falls and slopes are those of the logarithm: sets lie at different levels, because their noise does, and the level
    that is left at the end says nothing about what can still be learned. One update goes `PACE` of the way, in the
    logarithm, from the present weight to 4^score; then all are scaled to the mean 1 within [1/4, 4]. Three decimals,
    so that which signal is drawn does not hang on the last bit of a loss. A set with fewer than `FEWEST` finite
    losses keeps its weight; losses that are not finite are passed over.
    """
    falls = {name: _fall(history.validation) for name, history in histories.items()}
    known = [fall for fall in falls.values() if fall is not None]
    if not known:
        return dict(weights)
    typical = max(float(np.median(known)), 0.0)
    moved = {}
    for name, weight in weights.items():
        history = histories.get(name)
        if history is None or falls[name] is None:
            moved[name] = weight
        else:
            score = _score(history, falls[name], typical)
            moved[name] = math.exp((1 - PACE) * math.log(weight) + PACE * score * math.log(HIGHEST))
    return {name: round(weight, 3) for name, weight in _normalised(moved).items()}


def _score(history: LossHistory, fall: float, typical: float) -> float:
    """-1 (draw far less) to 1 (draw far more)."""
    trend = math.tanh(_slope(history.validation) / STEEP)
    train_slope = _slope(history.train)
    learning = max(0.0, -math.tanh(train_slope / STEEP)) if math.isfinite(train_slope) else 0.0
    falling, rising, still = max(0.0, -trend), max(0.0, trend), 1 - abs(trend)
    scale = max(typical, STEEP)
    behind = min(1.0, max(0.0, (typical - fall) / scale))
    learned = min(1.0, max(0.0, fall / scale))
    return falling * behind + rising * (1 - 2 * learning) - 0.5 * still * learned


def _logarithms(losses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Look numbers and logarithms of the losses that are finite and above zero."""
    values = np.array(losses, dtype=float)
    good = np.isfinite(values) & (values > 0)
    return np.flatnonzero(good), np.log(values[good])


def _fall(losses: Sequence[float]) -> float | None:
    """How far the logarithm has fallen from the first look to the lowest; None where there are too few."""
    _, values = _logarithms(losses)
    return float(values[0] - values.min()) if len(values) >= FEWEST else None


def _slope(losses: Sequence[float]) -> float:
    """Change of the logarithm a look, over the last `RECENT`, by least squares; NaN from fewer than two."""
    looks, values = _logarithms(losses)
    recent = looks >= len(losses) - RECENT
    looks, values = looks[recent], values[recent]
    return float(np.polyfit(looks, values, 1)[0]) if len(values) >= 2 else math.nan


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Scaled so that the mean is 1 with every weight within bounds. The common factor is found by bisection."""
    raw = np.array(list(weights.values()))
    low, high = LOWEST / raw.max(), HIGHEST / raw.min()
    for _ in range(60):
        middle = math.sqrt(low * high)
        if np.clip(raw * middle, LOWEST, HIGHEST).mean() < 1:
            low = middle
        else:
            high = middle
    return dict(zip(weights, np.clip(raw * high, LOWEST, HIGHEST).tolist(), strict=True))
