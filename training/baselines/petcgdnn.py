"""PET-CGDNN: a phase is estimated and undone, then convolutions, a GRU, a dense layer.

Zhang, Luo, Xu, Luo, Zheng, "An efficient deep learning model for automatic modulation recognition based on parameter
estimation and transformation", IEEE Communications Letters, 2021. 71,871 parameters at 128 samples and 11 classes, as
published.

The paper gives the network the samples as the set has them; so do we, but for one factor for the whole set.

Shapes, by letter:
    B  windows    L  samples    C  classes    F  filters, S their samples in time    U  units of the GRU
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import glorot, recurrent_start


class PetCgdnn(nn.Module):
    """(B, L, 2) IQ to logits (B, C)."""

    NORMALISATION = "set"
    FILTERS, UNITS = (75, 25), 128

    def __init__(self, length: int, classes: int) -> None:
        super().__init__()
        first, second = self.FILTERS
        self.phase = nn.Linear(2 * length, 1)
        self.conv_pair = nn.Conv1d(2, first, 8)  # the paper's kernel of 8 x 2 spans I and Q
        self.conv_time = nn.Conv1d(first, second, 5)
        self.gru = nn.GRU(second, self.UNITS, batch_first=True)
        self.logits = nn.Linear(self.UNITS, classes)
        glorot(self)
        recurrent_start(self.gru)

    def forward(self, iq_BL2: Tensor) -> Tensor:
        x_BFS = functional.relu(self.conv_pair(self.turned(iq_BL2).transpose(1, 2)))
        x_BFS = functional.relu(self.conv_time(x_BFS))
        _, last_1BU = self.gru(x_BFS.transpose(1, 2))
        return self.logits(last_1BU[0])

    def turned(self, iq_BL2: Tensor) -> Tensor:
        """Each window turned back by the angle that a linear layer reads from it."""
        angle_B1 = self.phase(iq_BL2.flatten(1))
        cos_B1, sin_B1 = torch.cos(angle_B1), torch.sin(angle_B1)
        i_BL, q_BL = iq_BL2.unbind(-1)
        return torch.stack([i_BL * cos_B1 + q_BL * sin_B1, q_BL * cos_B1 - i_BL * sin_B1], dim=-1)
