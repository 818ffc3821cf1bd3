"""What a head's answers are, row by row: where a class, a value, `unknown` stands, and what a row says.

An engine gives an array a head whose first axis is the window. By kind of the head, with C labels and Q parameters:

    classification  (N, C) probabilities of the labels; (N, C + 1) where the head may say `unknown`
    regression      (N, C + Q), or (N, C + 1 + Q) where it may say `unknown`: the same, then values in SI units
    anomaly         (N, 2) probabilities of normal and anomalous
    reconstruction  (N, K, L) complex64 waveforms on the scale of the window as it came in

Probabilities of the labels sum to 1. That of `unknown`, behind them, stands beside that sum: above one half the window
is of none of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .vocabulary import UNKNOWN
from .window import RECONSTRUCTION, HeadSpec

UNKNOWN_FROM = 0.5


@dataclass(frozen=True)
class Words:
    """What rows say: ``labels`` (N,) int, each a place in ``names``, with ``confidences`` (N,), 0 to 1, and ``values``
    (N, Q) in SI units in the order of the head's parameters. A head without labels has no names, all labels are -1 and
    the confidences NaN."""

    names: tuple[str, ...]
    labels: np.ndarray
    confidences: np.ndarray
    values: np.ndarray

    @property
    def unknown(self) -> np.ndarray:
        """(N,) bool: of none of the classes. Their values say nothing."""
        return self.labels == (len(self.names) - 1 if self.names[-1:] == (UNKNOWN,) else len(self.names))


def speaks(head: HeadSpec) -> bool:
    """Whether there are words for what the head answers: a label or values, and no waveform."""
    return head.kind != RECONSTRUCTION


def read(head: HeadSpec, rows: np.ndarray) -> Words:
    """What rows (N, columns) of a head that speaks say. ValueError for another number of columns."""
    classes, wanted = len(head.labels), len(head.labels) + len(head.parameters)
    spare = rows.shape[1] - wanted
    if spare not in (0, 1) or (spare and not classes):
        raise ValueError(f"head {head.name} answered {rows.shape[1]} columns; it has {wanted}")
    values = rows[:, classes + spare :]
    if not classes:
        return Words((), np.full(len(rows), -1), np.full(len(rows), np.nan), values)
    labels = rows[:, :classes].argmax(axis=1)
    confidences = rows[:, :classes].max(axis=1)
    if not spare:
        return Words(head.labels, labels, confidences, values)
    unknown = rows[:, classes] > UNKNOWN_FROM
    return Words(
        (*head.labels, UNKNOWN),
        np.where(unknown, classes, labels),
        np.where(unknown, rows[:, classes], confidences),
        values,
    )
