"""Heads: what is asked of one encoder pass, and the model that joins them to it."""

from __future__ import annotations

from torch import Tensor, nn

from ..contract.window import HeadSpec
from .emind import Encoder, EncoderConfig, pooled


class ClassificationHead(nn.Module):
    """Pooled features (B, 2 D) to logits (B, classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.hidden = nn.Linear(2 * width, width)
        self.act = nn.GELU()
        self.logits = nn.Linear(width, classes)

    def forward(self, pooled_B2D: Tensor) -> Tensor:
        return self.logits(self.act(self.hidden(self.norm(pooled_B2D))))


HEADS = {"classification": ClassificationHead}


class MultiHead(nn.Module):
    """One encoder and any number of heads on the same pass."""

    def __init__(self, config: EncoderConfig, heads: dict[str, HeadSpec]) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.specs = dict(heads)
        self.heads = nn.ModuleDict(
            {name: HEADS[spec.kind](config.width, len(spec.labels)) for name, spec in heads.items()}
        )

    def forward(self, iq_BL2: Tensor, rate_B: Tensor) -> dict[str, Tensor]:
        """(B, L, 2) normalised IQ and (B,) Hz to the logits of each head, (B, classes)."""
        features_B2D = pooled(self.encoder(iq_BL2, rate_B))
        return {name: head(features_B2D) for name, head in self.heads.items()}
