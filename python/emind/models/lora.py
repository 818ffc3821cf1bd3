"""Low-rank adapters on an encoder's linear layers: trained in place of its weights, then merged into them.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models": W + (alpha / rank) B A, with B zero at first, so that
training starts from the encoder as it is. Merged, the encoder is an ordinary one and its file an ordinary file.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from .emind import Encoder

LAYERS = ("qkv", "out", "mlp")


class LowRankLinear(nn.Module):
    """A linear layer that stays as it is, and a product of two thin matrices that learns beside it."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.scale * functional.linear(functional.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The layer, with what was learned added to its weights."""
        self.layer.weight += self.scale * (self.up.double() @ self.down.double()).to(self.layer.weight.dtype)
        return self.layer.requires_grad_(True)


def inject(encoder: Encoder, rank: int = 8, alpha: float = 16.0, layers: tuple[str, ...] = LAYERS) -> int:
    """Put adapters on these layers of every block and freeze all else of the encoder. How many values learn.

    ``layers``: qkv and out of the attention, mlp (both of its layers). Heads are not touched: they learn as before.
    """
    if rank < 1:
        raise ValueError(f"rank {rank} must be at least 1")
    unknown = sorted(set(layers) - set(LAYERS))
    if unknown or not layers:
        raise ValueError(f"layers {layers} to adapt; known: {', '.join(LAYERS)}")
    if next(_adapted(encoder), None):
        raise ValueError("the encoder has adapters already; merge them first")
    encoder.requires_grad_(False)
    for block in encoder.blocks:
        places = [(block.attention, name) for name in ("qkv", "out") if name in layers]
        places += [(block.mlp, name) for name in ("0", "2") if "mlp" in layers]
        for parent, name in places:
            setattr(parent, name, LowRankLinear(getattr(parent, name), rank, alpha))
    return sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def merge(encoder: Encoder) -> None:
    """Add every adapter to its layer and take it away; the whole encoder may learn again."""
    for parent, name, adapter in list(_adapted(encoder)):
        setattr(parent, name, adapter.merged())
    encoder.requires_grad_(True)


def _adapted(encoder: Encoder) -> Iterator[tuple[nn.Module, str, LowRankLinear]]:
    for parent in encoder.modules():
        for name, child in parent.named_children():
            if isinstance(child, LowRankLinear):
                yield parent, name, child
