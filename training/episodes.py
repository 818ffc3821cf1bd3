"""N-way K-shot episodes: classes and a few windows of each are drawn again and again, the encoder stays as it is.

An episode's windows are answered with the class whose mean feature vector is nearest by angle (Snell et al.,
"Prototypical networks", with cosine distance), after the mean of the episode's labelled windows is taken away. Nothing
is trained, so the figure is the features' own.
"""

from __future__ import annotations

import math

import numpy as np
from emind.contract.errors import UsageError


def episodes(
    feature_NF: np.ndarray, label_N: np.ndarray, ways: int, shots: int, queries: int, count: int, seed: int
) -> dict:
    """Mean share right over ``count`` episodes and the half width of its 95 % interval.

    UsageError where too few classes have ``shots + queries`` windows.
    """
    enough = [k for k in np.unique(label_N) if np.sum(label_N == k) >= shots + queries]
    if len(enough) < ways:
        raise UsageError(f"{ways}-way {shots}-shot: {len(enough)} classes have the {shots + queries} windows that an "
                         "episode takes; ask for fewer ways, shots or queries, or give more windows")
    rng = np.random.default_rng([seed, 7])
    of_class = {k: np.flatnonzero(label_N == k) for k in enough}
    right = np.empty(count)
    for episode in range(count):
        classes = rng.choice(enough, ways, replace=False)
        drawn = np.stack([rng.choice(of_class[k], shots + queries, replace=False) for k in classes])
        support, asked = feature_NF[drawn[:, :shots]], feature_NF[drawn[:, shots:]]
        middle = support.mean((0, 1))
        centre_WF = _unit((support - middle).mean(1))
        picked = (_unit(asked - middle) @ centre_WF.T).argmax(-1)
        right[episode] = np.mean(picked == np.arange(ways)[:, None])
    return {"ways": ways, "shots": shots, "queries": queries, "episodes": count, "accuracy": float(right.mean()),
            "interval_95": float(1.96 * right.std(ddof=1) / math.sqrt(count)) if count > 1 else None}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
