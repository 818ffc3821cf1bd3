"""ResNet for modulations: stacks of residual units, halved in time after each, then dense layers.

O'Shea, Roy, Clancy, "Over-the-air deep learning based radio signal classification", IEEE JSTSP, 2018 (figures 6 and 7,
table IV): six stacks of 32 filters, kernels of 3; two dense layers of 128 with SELU and alpha dropout. Built as the
paper says it has 165,144 parameters at 1,024 samples and 24 classes; the paper prints 236,344 and does not say where
the others are. At 128 samples and 11 classes 106,123.

The paper scales each window to zero mean and unit variance; taking the mean away would take a carrier away, which some
of the compared classes differ in, so here each window has unit power.

Shapes, by letter:
    B  windows    L  samples    C  classes    F  filters
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Unit(nn.Module):
    """x + conv(relu(conv(x))), (B, F, L) to (B, F, L)."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(filters, filters, 3, padding=1)
        self.second = nn.Conv1d(filters, filters, 3, padding=1)

    def forward(self, x_BFL: Tensor) -> Tensor:
        return x_BFL + self.second(functional.relu(self.first(x_BFL)))


class Stack(nn.Module):
    """A linear layer on each sample, two units, the larger of two neighbours: (B, ., L) to (B, F, L / 2)."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(channels, filters, 1), Unit(filters), Unit(filters), nn.MaxPool1d(2))

    def forward(self, x_BFL: Tensor) -> Tensor:
        return self.layers(x_BFL)


class ResNet(nn.Module):
    """(B, L, 2) IQ to logits (B, C)."""

    NORMALISATION = "unit_power"
    FILTERS, STACKS, UNITS = 32, 6, 128

    def __init__(self, length: int, classes: int) -> None:
        super().__init__()
        if length < 2**self.STACKS:
            raise ValueError(f"ResNet needs windows of at least {2**self.STACKS} samples, not {length}")
        channels = [2, *[self.FILTERS] * self.STACKS]
        self.stacks = nn.Sequential(*(Stack(a, b) for a, b in zip(channels, channels[1:], strict=False)))
        self.head = nn.Sequential(
            nn.Linear(self.FILTERS * (length >> self.STACKS), self.UNITS), nn.SELU(), nn.AlphaDropout(0.3),
            nn.Linear(self.UNITS, self.UNITS), nn.SELU(), nn.AlphaDropout(0.3),
            nn.Linear(self.UNITS, classes),
        )  # fmt: skip

    def forward(self, iq_BL2: Tensor) -> Tensor:
        return self.head(self.stacks(iq_BL2.transpose(1, 2)).flatten(1))
