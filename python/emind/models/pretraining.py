"""The masked autoencoder over packed signals.

Luo et al., section V: the encoder sees the class token, the rate token and a quarter of the patches of each signal; a
smaller decoder gets what it said, mask tokens in the places of the rest, and must say the I and Q values there.

    rows -> patches -> mask -> encoder (kept patches) -> decoder (all patches) -> error on the masked patches

Beside the paper's loss there is one of our own, off by default: from the class token alone, the spectral features of
the whole signal (`spectral_weight`).

Shapes, by letter:
    S  signals of a batch           N  patches of all signals
    K  kept patches, M  masked      P  samples in a patch, V = 2 P values
    T  tokens of all signals        D  width of a token in encoder or decoder
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from . import emind
from .emind import Block, Encoder, EncoderConfig, SpectralTokens, positions, spectral_features
from .masking import Selection, random_selection
from .packed_attention import PackedFeatures, attention_over, encode_packed, equal_lengths, run_blocks
from .packed_batch import PackedBatch, Patches


@dataclass(frozen=True)
class AutoencoderConfig:
    """An encoder, its decoder and what is asked of them."""

    encoder: EncoderConfig
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    mask_share: float = 0.75
    normalise_targets: bool = True
    spectral_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.mask_share < 1.0:
            raise ValueError(f"mask share {self.mask_share} must lie between 0 and 1")
        if self.spectral_weight < 0.0:
            raise ValueError(f"spectral weight {self.spectral_weight} must not be negative")
        self.decoder_block  # noqa: B018 - the layer checks its own width and heads

    @property
    def decoder_block(self) -> EncoderConfig:
        return EncoderConfig(
            width=self.decoder_width, depth=self.decoder_depth, heads=self.decoder_heads,
            mlp_ratio=self.encoder.mlp_ratio, patch=self.encoder.patch, dropout=self.encoder.dropout,
        )  # fmt: skip

    def to_dict(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_dict(fields: dict) -> AutoencoderConfig:
        return AutoencoderConfig(**{**fields, "encoder": EncoderConfig(**fields["encoder"])})


def nano(**tokenizer) -> AutoencoderConfig:
    return AutoencoderConfig(emind.nano(**tokenizer), decoder_width=64, decoder_depth=2, decoder_heads=1)


def tiny(**tokenizer) -> AutoencoderConfig:
    return AutoencoderConfig(emind.tiny(**tokenizer), decoder_width=128, decoder_depth=3, decoder_heads=2)


def small(**tokenizer) -> AutoencoderConfig:
    return AutoencoderConfig(emind.small(**tokenizer), decoder_width=256, decoder_depth=4, decoder_heads=4)


def base(**tokenizer) -> AutoencoderConfig:
    """The paper's 110 million parameters."""
    return AutoencoderConfig(emind.base(**tokenizer), decoder_width=512, decoder_depth=8, decoder_heads=8)


AUTOENCODERS = {"nano": nano, "tiny": tiny, "small": small, "base": base}


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a batch's reconstruction missed, for each signal in the batch's order.

    error_S: sum of squared errors over the masked values; count_S: how many values that are
    spectral_error_S, spectral_count_S: the same of the spectral features, where they are asked for
    """

    error_S: Tensor
    count_S: Tensor
    spectral_error_S: Tensor | None = None
    spectral_count_S: Tensor | None = None
    spectral_weight: float = 0.0

    @property
    def loss(self) -> Tensor:
        """Mean over values, not over signals: every masked sample counts the same."""
        loss = self.error_S.sum() / self.count_S.sum().clamp_min(1)
        if self.spectral_error_S is not None:
            loss = loss + self.spectral_weight * self.spectral_error_S.sum() / self.spectral_count_S.sum()
        return loss


class Decoder(nn.Module):
    """The encoder's tokens and the mask token in the places of the masked patches, to the values there."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.embed = nn.Linear(config.encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(config.decoder_block) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width)
        self.values = nn.Linear(width, 2 * config.encoder.patch)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(
        self, seen: PackedFeatures, patches: Patches, kept: Selection, attention: str, checkpointing: bool
    ) -> Tensor:
        """(M, V) of the masked patches, in the order of `Patches`."""
        # Where the tokens lie that the encoder saw, and where they go: class and rate token, then patches.
        prefix = torch.arange(Encoder.PREFIX, device=kept.kept_N.device)
        from_S = seen.first_S[patches.order_S]
        count_S = Encoder.PREFIX + patches.count_S
        to_S = count_S.cumsum(0) - count_S
        to_N = to_S[patches.place_N] + Encoder.PREFIX + patches.number_N
        behind = (seen.tokens_TD.shape[0] - kept.index_K.shape[0]) // from_S.shape[0] - Encoder.PREFIX
        source = torch.cat([(from_S.unsqueeze(1) + prefix).flatten(), kept.token_K(Encoder.PREFIX, behind)])
        target = torch.cat([(to_S.unsqueeze(1) + prefix).flatten(), to_N[kept.index_K], to_N[kept.index_M]])

        # Spectral tokens of the encoder, if any, end here: they helped to encode what was seen.
        seen_TD = self.embed(seen.tokens_TD.index_select(0, source))
        mask_MD = self.mask_token.to(seen_TD.dtype).expand(kept.index_M.shape[0], -1)
        both_TD = torch.cat([seen_TD, mask_MD])
        tokens_TD = torch.zeros_like(both_TD).index_copy(0, target, both_TD)
        where = positions(int(patches.count_S[-1]), tokens_TD.shape[1], tokens_TD.device)
        place_TD = where.new_zeros(tokens_TD.shape).index_copy_(0, to_N, where[patches.number_N])
        mix = attention_over(count_S.tolist(), tokens_TD, attention)
        tokens_TD = run_blocks(self.blocks, tokens_TD + place_TD, mix, checkpointing)
        return self.values(self.norm(tokens_TD.index_select(0, to_N[kept.index_M])))


class MaskedAutoencoder(nn.Module):
    """`encoder` is an ordinary encoder: what pretraining leaves behind."""

    def __init__(self, config: AutoencoderConfig, attention: str = "auto", checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config
        self.attention = attention
        self.checkpointing = checkpointing
        self.encoder = Encoder(config.encoder)
        self.decoder = Decoder(config)
        self.spectral_head = None
        if config.spectral_weight > 0.0:
            width = config.encoder.width
            self.spectral_head = nn.Sequential(
                nn.Linear(width, width), nn.GELU(), nn.Linear(width, SpectralTokens.COUNT * emind.PIECE)
            )

    def forward(self, batch: PackedBatch) -> Reconstruction:
        patches = Patches.of(batch)
        kept = random_selection(batch, patches, self.config.mask_share)
        seen = encode_packed(self.encoder, batch, kept, self.attention, patches, self.checkpointing)
        values_MV = self.decoder(seen, patches, kept, self.attention, self.checkpointing)
        return self.loss(batch, patches, kept, seen, values_MV)

    def loss(
        self, batch: PackedBatch, patches: Patches, kept: Selection, seen: PackedFeatures, values_MV: Tensor
    ) -> Reconstruction:
        index_M = kept.index_M
        counts_MV = patches.holds_signal(batch.patch)[index_M].repeat_interleave(2, dim=1).float()
        target_MV = patches.iq(batch)[index_M].flatten(1)
        if self.config.normalise_targets:
            target_MV = normalised(target_MV, counts_MV)
        error_M = ((values_MV.float() - target_MV).square() * counts_MV).sum(dim=1)
        signal_M = patches.order_S[patches.place_N[index_M]]
        zero_S = torch.zeros(batch.signals, device=error_M.device)
        error_S = zero_S.index_add(0, signal_M, error_M)
        count_S = zero_S.index_add(0, signal_M, counts_MV.sum(dim=1))
        if self.spectral_head is None:
            return Reconstruction(error_S, count_S)
        guess_SF = self.spectral_head(seen.class_SD()).float()
        spectral_error_S = (guess_SF - spectral_targets(batch, patches)).square().sum(dim=1)
        spectral_count_S = torch.full_like(zero_S, guess_SF.shape[1])
        return Reconstruction(error_S, count_S, spectral_error_S, spectral_count_S, self.config.spectral_weight)


def normalised(target_MV: Tensor, counts_MV: Tensor) -> Tensor:
    """Each patch's values less their mean, over their deviation; what is fill takes no part."""
    number_M1 = counts_MV.sum(dim=1, keepdim=True)
    mean_M1 = (target_MV * counts_MV).sum(dim=1, keepdim=True) / number_M1
    centred_MV = (target_MV - mean_M1) * counts_MV
    variance_M1 = centred_MV.square().sum(dim=1, keepdim=True) / number_M1
    return centred_MV * torch.rsqrt(variance_M1 + 1e-6)


@torch.no_grad()
def spectral_targets(batch: PackedBatch, patches: Patches) -> Tensor:
    """Spectral features of each whole signal, (S, 37 x 64), in the batch's order.

    They come on similar scales (deviations of 0.2 to 0.6 over generated signals of 128 to 1,024 samples), but for the
    phase steps, which are halved, and the logarithms of almost nothing, which are cut off.
    """
    taper = torch.hann_window(emind.SPECTRUM, periodic=True, device=batch.iq_RC2.device)
    groups = equal_lengths(patches.iq(batch), patches)
    features_SQP = torch.cat([spectral_features(iq_GL2, taper) for iq_GL2 in groups])
    features_SQP[:, -3:] *= 0.5
    return features_SQP.flatten(1)[torch.argsort(patches.order_S)].clamp_(-1.5, 1.5)
