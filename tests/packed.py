"""Packed batches for the tests, drawn from noise."""

from __future__ import annotations

import torch
from emind.models.packed_batch import PackedBatch


def packed_batch(lengths, patch=8, capacity=6000, seed=0) -> PackedBatch:
    """Signals one behind another, a new row where the next does not fit."""
    generator = torch.Generator().manual_seed(seed)
    rows, starts, row, end = [], [], 0, 0
    for length in lengths:
        if end + length > capacity:
            row, end = row + 1, 0
        rows.append(row)
        starts.append(end)
        end += -(-length // patch) * patch
    iq = torch.zeros(row + 1, capacity, 2)
    for row, start, length in zip(rows, starts, lengths, strict=True):
        signal = torch.randn(length, 2, generator=generator)
        iq[row, start : start + length] = signal / signal.norm(dim=-1).max()
    rate = torch.tensor([1e6, torch.nan, 2e4]).repeat(len(lengths))[: len(lengths)]
    return PackedBatch(
        iq_RC2=iq,
        noise_RN=torch.rand(row + 1, capacity // patch, generator=generator),
        row_S=torch.tensor(rows),
        start_S=torch.tensor(starts),
        length_S=torch.tensor(lengths),
        rate_S=rate,
        source_S=torch.zeros(len(lengths), dtype=torch.long),
        patch=patch,
    )


def signal(batch: PackedBatch, number: int) -> torch.Tensor:
    """(L, 2): a view of the batch's rows."""
    start, length = int(batch.start_S[number]), int(batch.length_S[number])
    return batch.iq_RC2[int(batch.row_S[number]), start : start + length]
