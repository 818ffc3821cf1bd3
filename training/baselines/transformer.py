"""A plain transformer encoder over samples of IQ.

Vaswani et al., "Attention is all you need", 2017: the "Transformer [20]" of EMind's Table V, whose sizes neither EMind
nor SpectrumFM states. Chosen: patches of 8 samples, a class token, width 128, four layers of two heads, post-norm as in
the paper, learned positions; no other channels, no rate token, no pretraining. That is the size of `emind-nano`, so the
two differ in what EMind adds.

Each window has unit power.

Shapes, by letter:
    B  windows    L  samples    C  classes    P  samples in a patch    N  patches    T  tokens, 1 + N    D  width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from emind.models.emind import mix_windows


class Layer(nn.Module):
    """Self-attention and a feed-forward network, each added and then normalised."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.norm_feed = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = self.norm_attention(x_BTD + self.dropout(self.out(mix_windows(self.qkv(x_BTD), self.heads))))
        return self.norm_feed(x_BTD + self.dropout(self.narrow(functional.relu(self.wide(x_BTD)))))


class Transformer(nn.Module):
    """(B, L, 2) IQ to logits (B, C)."""

    NORMALISATION = "unit_power"
    PATCH, WIDTH, DEPTH, HEADS, DROPOUT = 8, 128, 4, 2, 0.1

    def __init__(self, length: int, classes: int) -> None:
        super().__init__()
        self.patch_layer = nn.Linear(2 * self.PATCH, self.WIDTH)
        self.class_token = nn.Parameter(torch.empty(self.WIDTH))
        self.position_TD = nn.Parameter(torch.empty(1 - (-length // self.PATCH), self.WIDTH))
        self.layers = nn.Sequential(*(Layer(self.WIDTH, self.HEADS, self.DROPOUT) for _ in range(self.DEPTH)))
        self.logits = nn.Linear(self.WIDTH, classes)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.position_TD, std=0.02)

    def forward(self, iq_BL2: Tensor) -> Tensor:
        filled_BL2 = functional.pad(iq_BL2, (0, 0, 0, -iq_BL2.shape[1] % self.PATCH))
        patches_BND = self.patch_layer(filled_BL2.reshape(len(iq_BL2), -1, 2 * self.PATCH))
        class_B1D = self.class_token.to(patches_BND.dtype).expand(len(iq_BL2), 1, -1)
        tokens_BTD = torch.cat([class_B1D, patches_BND], dim=1) + self.position_TD
        return self.logits(self.layers(tokens_BTD)[:, 0])
