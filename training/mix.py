"""Packed batches of noise with the lengths of the paper's Table III and their shares, for measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from emind.models.packed_batch import PackedBatch

from .dataset_page import TABLE_III_LENGTHS
from .packing import Packer, Row


def lengths_like_table_iii(count: int, seed: int = 0) -> list[int]:
    """Lengths drawn with the shares that they have among the 81 million signals."""
    share = np.array(list(TABLE_III_LENGTHS.values()), np.float64)
    drawn = np.random.default_rng(seed).choice(list(TABLE_III_LENGTHS), count, p=share / share.sum())
    return [int(length) for length in drawn]


def packed_noise(lengths: Sequence[int], capacity: int, patch: int, rows: int | None = None, seed: int = 0) -> PackedBatch:
    """Signals of noise in rows by best fit; the first ``rows`` rows that close, or all."""
    packer, closed = Packer(capacity, patch), []
    for number, length in enumerate(lengths):
        closed += packer.place(length, number)
    if rows is None:
        closed += packer.flush()
    elif len(closed) < rows:
        raise ValueError(f"{len(lengths)} signals close {len(closed)} rows of {capacity} samples, not {rows}")
    return batch_of(closed[:rows], capacity, patch, seed)


def batch_of(rows: Sequence[Row], capacity: int, patch: int, seed: int = 0) -> PackedBatch:
    draw = np.random.default_rng(seed)
    iq = np.zeros((len(rows), capacity, 2), np.float32)
    for row, signals in enumerate(rows):
        for signal in signals:
            samples = draw.standard_normal((signal.length, 2), np.float32)
            iq[row, signal.start : signal.start + signal.length] = samples / np.hypot(*samples.T).max()
    places = [(row, signal.start, signal.length) for row, signals in enumerate(rows) for signal in signals]
    row_S, start_S, length_S = torch.tensor(places).T.contiguous()
    return PackedBatch(
        iq_RC2=torch.from_numpy(iq),
        noise_RN=torch.from_numpy(draw.random((len(rows), capacity // patch), np.float32)),
        row_S=row_S,
        start_S=start_S,
        length_S=length_S,
        rate_S=torch.full((len(places),), 1e6),
        source_S=torch.zeros(len(places), dtype=torch.long),
        patch=patch,
    )
