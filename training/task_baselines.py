"""Baselines of the detection tasks, measured on the same test windows in the same run as the head.

    sensing    energy detection: noise power known, measured in one other window, or not known at all
    anomaly    an autoencoder trained on the same normal windows of the training part, and no others

Networks for the classification tasks are trained by `emind-train compare`.
"""

from __future__ import annotations

import numpy as np
from emind.contract.errors import EMindError

from .baselines import autoencoder, energy
from .task_data import Examples, TaskBatch
from .task_figures import clean, detection_figures
from .tasks import ANOMALY, Task

CHUNK = 1024  # windows in memory as stored
EPOCHS = 20
KNOWN, MEASURED, BLIND = ("energy, noise power known", "energy, noise power measured in one window",
                          "energy, noise power not known")
AUTOENCODER = "autoencoder"


def has_baselines(task: Task) -> bool:
    return bool(task.normal)


def baseline_figures(task: Task, train: Examples, test: Examples, batch: TaskBatch, seed: int = 0) -> dict[str, dict]:
    """Name -> figures of detection, as the head's own (`task_figures.detection_figures`).

    ``batch``: what is known of the examples of ``test``, in their order. EMindError where the training part has no
    window of the normal class, or windows have a length that the autoencoder cannot take.
    """
    place = train.classes.index(task.normal)
    normal = np.flatnonzero(train.label == place)
    if not len(normal):
        raise EMindError(f"{task.name}: the training part has no window of the class {task.normal}, which the "
                         "baselines rest on")
    scores = _autoencoder(train, normal, test, seed) if task.kind == ANOMALY else _energy(train, normal, test, seed)
    return {name: clean({"training_windows": count} | detection_figures(score, task, train.classes, batch))
            for name, (count, score) in scores.items()}


def _energy(train: Examples, normal: np.ndarray, test: Examples, seed: int) -> dict[str, tuple[int, np.ndarray]]:
    known = np.concatenate([energy.power(train.raw(part)) for part in _chunks(normal)]).mean()
    rng = np.random.default_rng([seed, 21])
    found: dict[str, list[np.ndarray]] = {KNOWN: [], MEASURED: [], BLIND: []}
    for part in _chunks(np.arange(len(test))):
        iq_BL = test.raw(part)
        found[KNOWN].append(energy.known_noise(iq_BL, known))
        found[MEASURED].append(energy.measured_noise(iq_BL, train.raw(rng.choice(normal, len(part)))))
        found[BLIND].append(energy.blind(iq_BL))
    counts = {KNOWN: len(normal), MEASURED: len(normal), BLIND: 0}
    return {name: (counts[name], np.concatenate(parts)) for name, parts in found.items()}


def _autoencoder(train: Examples, normal: np.ndarray, test: Examples, seed: int) -> dict[str, tuple[int, np.ndarray]]:
    windows_NL = np.concatenate([train.raw(part) for part in _chunks(normal)])
    try:
        model = autoencoder.train_on_normal(windows_NL, EPOCHS, seed=seed)
    except ValueError as fault:
        raise EMindError(f"baseline {AUTOENCODER}: {fault}") from None
    score = [autoencoder.reconstruction_error(model, test.raw(part)) for part in _chunks(np.arange(len(test)))]
    return {AUTOENCODER: (len(normal), np.concatenate(score))}


def _chunks(index: np.ndarray) -> list[np.ndarray]:
    return np.split(index, range(CHUNK, len(index), CHUNK))
