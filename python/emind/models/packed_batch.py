"""Signals of many lengths in rows of one capacity, as the loader delivers and the model takes them.

    row 0 | signal 0 ....... | signal 1 .. | signal 2 ............ | fill |
    row 1 | signal 3 ........................... | signal 4 ....... | fill |

Every signal starts at a multiple of the patch, so a patch never holds samples of two signals.

Shapes, by letter:
    R  rows                        C  capacity of a row in samples
    S  signals of the batch        P  samples in a patch
    N  patches of all signals
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Rows of signals and where each signal lies. Signals are ordered by row, then start.

    iq_RC2: normalised I and Q, float32; zero where there is no signal
    noise_RN: uniform in [0, 1) for each patch, float32 (R, C // P); decides what is masked
    row_S, start_S, length_S: int64; ``start`` and ``length`` in samples, ``start`` a multiple of the patch
    rate_S: sampling rate in Hz, float32; NaN where unknown
    source_S: int64, number of the data set that a signal is from
    patch: samples in a patch
    number: of the batch in its run
    """

    iq_RC2: Tensor
    noise_RN: Tensor
    row_S: Tensor
    start_S: Tensor
    length_S: Tensor
    rate_S: Tensor
    source_S: Tensor
    patch: int
    number: int = 0

    @property
    def signals(self) -> int:
        return self.length_S.shape[0]

    @property
    def capacity(self) -> int:
        return self.iq_RC2.shape[1]

    @property
    def fill(self) -> float:
        """Share of the rows' cells that hold samples."""
        return float(self.length_S.sum()) / max(1, self.iq_RC2.shape[0] * self.capacity)

    def to(self, device: torch.device | str) -> PackedBatch:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return PackedBatch(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()})


@dataclass(frozen=True, eq=False)
class Patches:
    """All patches of a batch, one signal after the other, the shortest signal first; the rows' fill is left out.

    Signals of equal length lie side by side, so that a group of them is a view and nothing is gathered.

    order_S: which signal of the batch stands at each place
    length_S, count_S, first_S: samples, patches and first patch of the signal at each place
    place_N: place of the signal that a patch is of; never falls
    number_N: number of a patch in its signal
    slot_N: where a patch lies in the rows, cut into patches
    """

    order_S: Tensor
    length_S: Tensor
    count_S: Tensor
    first_S: Tensor
    place_N: Tensor
    number_N: Tensor
    slot_N: Tensor

    @staticmethod
    def of(batch: PackedBatch) -> Patches:
        if batch.capacity % batch.patch:
            raise ValueError(f"rows of {batch.capacity} samples are no whole number of patches of {batch.patch}")
        order_S = torch.argsort(batch.length_S, stable=True)
        length_S = batch.length_S[order_S]
        count_S = (length_S + batch.patch - 1) // batch.patch
        first_S = count_S.cumsum(0) - count_S
        place_N = torch.repeat_interleave(count_S)
        number_N = torch.arange(place_N.shape[0], device=count_S.device) - first_S[place_N]
        slot_S = (batch.row_S[order_S] * batch.capacity + batch.start_S[order_S]) // batch.patch
        return Patches(order_S, length_S, count_S, first_S, place_N, number_N, slot_S[place_N] + number_N)

    def iq(self, batch: PackedBatch) -> Tensor:
        """Samples of all patches, (N, P, 2), zero behind the end of a signal."""
        return batch.iq_RC2.reshape(-1, batch.patch, 2).index_select(0, self.slot_N)

    def holds_signal(self, patch: int) -> Tensor:
        """Which samples of a patch are signal and which the fill of a last patch, (N, P)."""
        left_N = self.length_S[self.place_N] - self.number_N * patch
        return torch.arange(patch, device=left_N.device) < left_N.unsqueeze(-1)
