"""Telling apart kinds of signals drawn by chance, beside the heads: it keeps in the features what few-shot needs.

    a family of kinds (`synthesis.kinds`) ─► encoder ─► pooled features, standardised ─► mean of a kind's other windows
    ─► cross-entropy of the kind by the cosine to these means

Nothing of it stands in the weights file: there are no parameters of its own, as enrolment by prototypes has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from emind.dsp.normalise import max_abs
from torch import Tensor
from torch.nn import functional

from .synthesis.air import AirConfig
from .synthesis.kinds import FAMILY, FAMILY_WINDOWS, OF_KIND, windows_of_kinds


@dataclass(frozen=True)
class KindsConfig:
    """``share``: of the steps, beside those of the heads; 0 for none. ``weight``: of its loss. ``temperature``: what
    cosines are divided by. ``families``: in a batch."""

    share: float = 0.0
    weight: float = 0.3
    temperature: float = 0.1
    families: int = 1


def kinds_batch(seed: int, config: KindsConfig, air: AirConfig) -> tuple[Tensor, Tensor]:
    """Windows (families * kinds * windows, L, 2) as the block normalises them, and rates in Hz, NaN where unknown."""
    iq, rate, _ = windows_of_kinds(seed, config.families * FAMILY_WINDOWS, air.length,
                                   (air.rate_min_hz, air.rate_max_hz))
    return torch.from_numpy(max_abs(iq)), torch.from_numpy(rate.astype(np.float32))


def kinds_loss(pooled_BF: Tensor, config: KindsConfig) -> Tensor:
    """Mean cross-entropy over the windows of whole families: of each against the kinds of its own family, a kind being
    the mean of its other windows."""
    features = pooled_BF.view(-1, FAMILY * OF_KIND, pooled_BF.shape[-1])
    centred = features - features.mean(1, keepdim=True)
    standard = centred / (centred.square().mean((0, 1)).sqrt() + 1e-4)
    unit_NKWF = functional.normalize(standard, dim=-1).unflatten(1, (FAMILY, OF_KIND))
    total_NKF = unit_NKWF.sum(2)
    direction_NKF = functional.normalize(total_NKF, dim=-1)
    cosine_NKWJ = torch.einsum("nkwf,njf->nkwj", unit_NKWF, direction_NKF)
    others_NKWF = functional.normalize(total_NKF.unsqueeze(2) - unit_NKWF, dim=-1)  # its own kind without itself
    own_NKW = (unit_NKWF * others_NKWF).sum(-1)
    same_KJ = torch.eye(FAMILY, dtype=torch.bool)[:, None]
    logits = torch.where(same_KJ, own_NKW.unsqueeze(-1), cosine_NKWJ) / config.temperature
    kind = torch.arange(FAMILY)[None, :, None].expand(logits.shape[:3])
    return functional.cross_entropy(logits.flatten(0, 2), kind.flatten())
