"""Stems: what is made of each sample before samples are joined to patches.

The paper's tokenizer has none: a patch is one linear layer of its samples. That suits signals whose symbols are longer
than a patch. Where a symbol is one sample, or a window holds few of them, what a sample says by itself has to be found
first, and a linear layer finds nothing: 16QAM and 64QAM have the same mean and the same power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Stem:
    """``widths`` of the layers, GELU behind each. ``waves``: so many learned sines and cosines of a sample's I and Q
    beside its channels: their sums over a window are its characteristic function, in which a constellation's lattice
    stands as peaks. ``kernel``: samples that a layer sees; above 1 a sample's values follow from its neighbours too.
    """

    widths: tuple[int, ...] = ()
    waves: int = 0
    kernel: int = 1


STEMS = {
    "linear": Stem(),  # channels as they are: the paper's tokenizer
    "sample": Stem((64, 32)),  # a small network on each sample by itself
    "waves": Stem((64, 48), waves=48),
    "conv": Stem((48, 48), kernel=7),
    "waves_conv": Stem((64, 48), waves=32, kernel=7),
}
LOWEST, HIGHEST = 0.5, 100.0  # radians over a window's unit, of the waves before training


class Waves(nn.Module):
    """Channels (..., C), the first two I and Q, with sines and cosines of their projections: (..., C + 2 W)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        size = torch.exp(torch.empty(count).uniform_(math.log(LOWEST), math.log(HIGHEST)))
        angle = 2 * math.pi * torch.rand(count)
        self.vectors_2W = nn.Parameter(torch.stack([size * torch.cos(angle), size * torch.sin(angle)]))

    def forward(self, samples: Tensor) -> Tensor:
        # Angles of a hundred radians need more than bfloat16's eight bits.
        with torch.autocast(samples.device.type, enabled=False):
            phase = samples[..., :2].float() @ self.vectors_2W
            return torch.cat([samples.float(), torch.sin(phase), torch.cos(phase)], dim=-1)


class Convolution(nn.Module):
    """A layer over ``kernel`` samples, (B, L, C) to (B, L, widths); zeros stand before the first and behind the last."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.layer = nn.Conv1d(before, after, kernel, padding=kernel // 2)

    def forward(self, samples_BLC: Tensor) -> Tensor:
        return self.layer(samples_BLC.transpose(1, 2)).transpose(1, 2)


def stem_of(name: str, channels: int) -> tuple[nn.Sequential | None, int]:
    """The module, None where there is nothing to do, and how many values it makes of a sample of ``channels``."""
    stem = STEMS[name]
    layers: list[nn.Module] = []
    if stem.waves:
        layers.append(Waves(stem.waves))
        channels += 2 * stem.waves
    for width in stem.widths:
        layers += [nn.Linear(channels, width) if stem.kernel == 1 else Convolution(channels, width, stem.kernel),
                   nn.GELU()]
        channels = width
    return (nn.Sequential(*layers) if layers else None), channels
