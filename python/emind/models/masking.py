"""Which patches the encoder sees in masked training.

Luo et al., section V-C: each signal of a pack is masked by itself, whatever its length, without a loop. The patches of
the whole pack are sorted once by (number of their signal + noise): that shuffles each signal inside itself. The first
patches of each signal in this order are kept.

The kept share is exact for every signal: max(1, (1 - share) x patches, rounded, halves up). A signal of one patch is
therefore seen whole and has nothing to reconstruct. Class and rate token are no patches and always kept.

Shapes, by letter: S signals, N patches of all signals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .packed_batch import PackedBatch, Patches


def kept_count(count_S: Tensor, mask_share: float) -> Tensor:
    """How many of its patches each signal keeps."""
    return torch.floor((1.0 - mask_share) * count_S.double() + 0.5).long().clamp_min(1)


def random_mask(batch: PackedBatch, patches: Patches, mask_share: float) -> Tensor:
    """(N,), true where the encoder sees a patch. Decided by the batch's noise alone."""
    noise_N = batch.noise_RN.reshape(-1)[patches.slot_N]
    # In float64 the sum is exact and stays below the next signal's number.
    order_N = torch.argsort(patches.place_N + noise_N.double(), stable=True)
    keeps_N = patches.number_N < kept_count(patches.count_S, mask_share)[patches.place_N]
    # Signals lie in their order before and after the sort, so position i of the sorted pack is rank number_N[i].
    return torch.empty_like(keeps_N).index_copy_(0, order_N, keeps_N)


def random_mask_loop(batch: PackedBatch, patches: Patches, mask_share: float) -> Tensor:
    """The same, signal by signal: the comparison that `emind-train bench masking` measures."""
    noise_N = batch.noise_RN.reshape(-1)[patches.slot_N]
    masks = []
    for noise_n in noise_N.split(patches.count_S.tolist()):
        keep = max(1, int((1.0 - mask_share) * noise_n.shape[0] + 0.5))
        order_n = torch.argsort(noise_n, stable=True)
        mask_n = torch.zeros(noise_n.shape[0], dtype=torch.bool, device=noise_n.device)
        mask_n[order_n[:keep]] = True
        masks.append(mask_n)
    return torch.cat(masks)
