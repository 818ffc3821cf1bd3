"""Packed batches of noise with the lengths of the paper's Table III and their shares, for measurements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from emind.models.packed_batch import PackedBatch

from .dataset_page import TABLE_III_LENGTHS
from .packing import OPEN_ROWS, Packer, Row, packed


def lengths_like_table_iii(count: int, seed: int = 0) -> list[int]:
    """Lengths drawn with the shares that they have among the 81 million signals."""
    share = np.array(list(TABLE_III_LENGTHS.values()), np.float64)
    drawn = np.random.default_rng(seed).choice(list(TABLE_III_LENGTHS), count, p=share / share.sum())
    return [int(length) for length in drawn]


def packed_noise(lengths: Sequence[int], capacity: int, patch: int, seed: int = 0) -> PackedBatch:
    """Signals of noise in rows by best fit."""
    return batch_of(list(packed(lengths, Packer(capacity, patch))), capacity, patch, seed)


def table_iii_batch(rows: int, capacity: int = 6000, patch: int = 8, seed: int = 0) -> PackedBatch:
    """So many rows of Table III's mix as they close in a long run, when short signals have filled what was left."""
    lengths = lengths_like_table_iii(12 * (rows + 2 * OPEN_ROWS), seed)
    closed = list(packed(lengths, Packer(capacity, patch), flush=False))
    return batch_of(closed[-rows:], capacity, patch, seed)


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
