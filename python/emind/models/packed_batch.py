"""Signals of many lengths in rows of one capacity, as the loader delivers and the model takes them.

    row 0 | signal 0 ....... | signal 1 .. | signal 2 ............ | fill |
    row 1 | signal 3 ........................... | signal 4 ....... | fill |

Every signal starts at a multiple of the patch, so a patch never holds samples of two signals.

Shapes, by letter:
    R  rows                        C  capacity of a row in samples
    S  signals of the batch        P  samples in a patch
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
