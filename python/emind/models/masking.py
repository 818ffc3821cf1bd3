"""Which patches the encoder sees in masked training.

Luo et al., section V-C: each signal of a pack is masked by itself, whatever its length, without a loop. The patches of
the whole pack are sorted once by (number of their signal + noise): that shuffles each signal inside itself. The first
patches of each signal in this order are kept.

The kept share is exact for every signal: max(1, (1 - share) x patches, rounded, halves up). A signal of one patch is
therefore seen whole and has nothing to reconstruct. Class and rate token are no patches and always kept.

Shapes, by letter:
    S  signals    N  patches of all signals    K  kept patches    M  masked patches
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .packed_batch import PackedBatch, Patches


@dataclass(frozen=True, eq=False)
class Selection:
    """Kept and masked patches, in the order of `Patches`.

    kept_N: true where the encoder sees a patch
    index_K, index_M: which patches are kept and masked, rising
    place_K: place of the signal that a kept patch is of
    count_S: kept patches of each signal
    """

    kept_N: Tensor
    index_K: Tensor
    index_M: Tensor
    place_K: Tensor
    count_S: Tensor

    @staticmethod
    def of(patches: Patches, kept_N: Tensor, count_S: Tensor | None = None) -> Selection:
        index_K, index_M = kept_N.nonzero().squeeze(1), kept_N.logical_not().nonzero().squeeze(1)
        place_K = patches.place_N.index_select(0, index_K)
        if count_S is None:
            count_S = torch.zeros_like(patches.count_S).index_add_(0, place_K, torch.ones_like(place_K))
        return Selection(kept_N, index_K, index_M, place_K, count_S)

    @staticmethod
    def everything(patches: Patches) -> Selection:
        kept_N = torch.ones_like(patches.place_N, dtype=torch.bool)
        return Selection.of(patches, kept_N, patches.count_S)

    def token_K(self, prefix: int, behind: int) -> Tensor:
        """Where the kept patches lie among tokens that have ``prefix`` others before and ``behind`` after a signal."""
        number_K = torch.arange(self.index_K.shape[0], device=self.index_K.device)
        return number_K + prefix + self.place_K * (prefix + behind)


def kept_count(count_S: Tensor, mask_share: float) -> Tensor:
    """How many of its patches each signal keeps."""
    return count_S.double().mul_(1.0 - mask_share).add_(0.5).long().clamp_min_(1)


def random_selection(batch: PackedBatch, patches: Patches, mask_share: float) -> Selection:
    """Decided by the batch's noise alone."""
    noise_N = batch.noise_RN.reshape(-1).index_select(0, patches.slot_N)
    order_N = shuffled(noise_N, patches.place_N, batch.signals)
    count_S = kept_count(patches.count_S, mask_share)
    keeps_N = patches.number_N < count_S.index_select(0, patches.place_N)
    # Signals lie in their order before and after the sort, so position i of the sorted pack is rank number_N[i].
    kept_N = torch.empty_like(keeps_N).index_copy_(0, order_N, keeps_N)
    return Selection.of(patches, kept_N, count_S)


def shuffled(noise_N: Tensor, place_N: Tensor, signals: int) -> Tensor:
    """Patches by signal, then noise: the one sort of the whole pack, stable."""
    if noise_N.device.type == "cpu" and signals <= 1 << 16 and sys.byteorder == "little":
        # Floats that are not negative are ordered as their bits are, and numpy sorts keys of 16 bits by their digits,
        # three to five times as fast as torch compares floats.
        low_N, high_N = noise_N.numpy().view(np.uint16).reshape(-1, 2).T
        return torch.from_numpy(np.lexsort((low_N, high_N, place_N.numpy().astype(np.uint16))))
    return by_one_key(noise_N, place_N)


def by_one_key(noise_N: Tensor, place_N: Tensor) -> Tensor:
    """In float64 the sum is exact and stays below the next signal's number."""
    return torch.argsort(noise_N.double().add_(place_N), stable=True)


def random_selection_by_loop(batch: PackedBatch, patches: Patches, mask_share: float) -> Selection:
    """The same, signal by signal: the comparison of the tests and of `emind-train bench masking`."""
    noise_N = batch.noise_RN.reshape(-1).index_select(0, patches.slot_N)
    kept, index_kept, index_masked, places, counts = [], [], [], [], []
    first = 0
    for place, noise_n in enumerate(noise_N.split(patches.count_S.tolist())):
        patches_n = noise_n.shape[0]
        keep = max(1, int((1.0 - mask_share) * patches_n + 0.5))
        kept_n = torch.zeros(patches_n, dtype=torch.bool)
        kept_n[torch.argsort(noise_n, stable=True)[:keep]] = True
        kept.append(kept_n)
        index_kept.append(kept_n.nonzero().squeeze(1) + first)
        index_masked.append(kept_n.logical_not().nonzero().squeeze(1) + first)
        places.append(torch.full((keep,), place))
        counts.append(keep)
        first += patches_n
    joined = (torch.cat(parts) for parts in (kept, index_kept, index_masked, places))
    return Selection(*joined, torch.tensor(counts))
