"""MCLDNN: I, Q and both together through convolutions of their own, then two LSTMs and dense layers.

Xu, Luo, Parr, Luo, "A spatiotemporal multi-channel learning framework for automatic modulation recognition", IEEE
Wireless Communications Letters, 2020. 406,199 parameters at 11 classes, as published.

The paper gives the network the samples as the set has them; so do we, but for one factor for the whole set.

    I and Q ─► 2 x 8, 50 ──────────────────────────────────┐
    I ─► 8, causal, 50 ─┐                                  ├─► 2 x 5, 100 ─► LSTM 128 ─► LSTM 128 ─► 128 ─► 128 ─► C
    Q ─► 8, causal, 50 ─┴─► one below the other ─► 1 x 8, 50 ┘

Shapes, by letter:
    B  windows    L  samples    C  classes    F  filters    U  units of an LSTM
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import glorot, recurrent_start


class Mcldnn(nn.Module):
    """(B, L, 2) IQ to logits (B, C)."""

    NORMALISATION = "set"
    FILTERS, JOINED, UNITS = 50, 100, 128

    def __init__(self, length: int, classes: int) -> None:
        super().__init__()
        if length < 5:
            raise ValueError(f"MCLDNN needs windows of at least 5 samples, not {length}")
        self.conv_iq = nn.Conv2d(1, self.FILTERS, (2, 8))
        self.conv_i = nn.Conv1d(1, self.FILTERS, 8)
        self.conv_q = nn.Conv1d(1, self.FILTERS, 8)
        self.conv_each = nn.Conv2d(self.FILTERS, self.FILTERS, (1, 8))
        self.conv_joined = nn.Conv2d(2 * self.FILTERS, self.JOINED, (2, 5))
        self.lstm = nn.LSTM(self.JOINED, self.UNITS, num_layers=2, batch_first=True)
        self.hidden = nn.ModuleList(nn.Linear(self.UNITS, self.UNITS) for _ in range(2))
        self.dropout = nn.Dropout(0.5)
        self.logits = nn.Linear(self.UNITS, classes)
        glorot(self)
        recurrent_start(self.lstm)

    def forward(self, iq_BL2: Tensor) -> Tensor:
        x_B12L = iq_BL2.transpose(1, 2).unsqueeze(1)
        # "Same" padding of even kernels: the smaller half before, as the published code's library does it.
        both_BF2L = functional.relu(self.conv_iq(functional.pad(x_B12L, (3, 4, 0, 1))))
        behind = [functional.pad(iq_BL2[:, :, part].unsqueeze(1), (7, 0)) for part in (0, 1)]
        each = [functional.relu(conv(x)) for conv, x in zip((self.conv_i, self.conv_q), behind, strict=True)]
        each_BF2L = functional.relu(self.conv_each(functional.pad(torch.stack(each, dim=2), (3, 4))))
        joined_BFL = functional.relu(self.conv_joined(torch.cat([both_BF2L, each_BF2L], dim=1))).squeeze(2)
        x_BU = self.lstm(joined_BFL.transpose(1, 2))[0][:, -1]
        for hidden in self.hidden:
            x_BU = self.dropout(functional.selu(hidden(x_BU)))
        return self.logits(x_BU)
