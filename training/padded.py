"""The masked autoencoder on signals padded to the longest: what packing is measured against.

The same modules and the same masks as on packed signals, so the loss is the same; only the fill takes part in every
layer, and attention must be told to look past it.

Shapes, by letter:
    S  signals                 N  patches of the longest         K  kept patches of the longest
    V  values of a patch       T  tokens of the longest          D  width of a token
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from emind.models.emind import Encoder, Mix, positions
from emind.models.masking import kept_count
from emind.models.packed_batch import PackedBatch
from emind.models.pretraining import MaskedAutoencoder, normalised
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PaddedBatch:
    """Signals one below the other, each with zeros up to the longest.

    iq_SNV: values of each patch; noise_SN: decides what is masked; length_S: samples; rate_S: Hz
    """

    iq_SNV: Tensor
    noise_SN: Tensor
    length_S: Tensor
    rate_S: Tensor

    @staticmethod
    def of(batch: PackedBatch) -> PaddedBatch:
        """The same signals with the same noise."""
        patch = batch.patch
        longest = -(-int(batch.length_S.max()) // patch)
        iq = torch.zeros(batch.signals, longest * patch, 2)
        noise = torch.zeros(batch.signals, longest)
        for signal, (row, start, length) in enumerate(zip(
                batch.row_S.tolist(), batch.start_S.tolist(), batch.length_S.tolist(), strict=True)):
            iq[signal, :length] = batch.iq_RC2[row, start : start + length]
            count = -(-length // patch)
            noise[signal, :count] = batch.noise_RN[row, start // patch : start // patch + count]
        return PaddedBatch(iq.reshape(batch.signals, longest, 2 * patch), noise, batch.length_S, batch.rate_S)


def padded_loss(model: MaskedAutoencoder, batch: PaddedBatch) -> Tensor:
    """The loss of ``model(packed batch).loss`` for the paper's tokenizer (I and Q, no spectral tokens)."""
    encoder, decoder = model.encoder, model.decoder
    if encoder.config.channels != "iq" or encoder.spectral_tokens is not None or model.spectral_head is not None:
        raise ValueError("padded signals are for the paper's tokenizer: I and Q, no spectral tokens")
    signals, patches, values = batch.iq_SNV.shape
    count_S = (batch.length_S + encoder.config.patch - 1) // encoder.config.patch
    real_SN = torch.arange(patches) < count_S.unsqueeze(1)
    keep_S = kept_count(count_S, model.config.mask_share)
    order_SN = torch.argsort(batch.noise_SN.masked_fill(~real_SN, 2.0), dim=1, stable=True)
    index_SK = order_SN[:, : int(keep_S.max())]
    seen_SK = torch.arange(index_SK.shape[1]) < keep_S.unsqueeze(1)

    iq_SKV = batch.iq_SNV.gather(1, index_SK.unsqueeze(-1).expand(-1, -1, values))
    patches_SKD = encoder.patch_layer(iq_SKV) + positions(patches, encoder.config.width)[index_SK]
    class_S1D = encoder.class_token.expand(signals, 1, -1)
    tokens_STD = torch.cat([class_S1D, encoder.rate_token(batch.rate_S).unsqueeze(1), patches_SKD], dim=1)
    mix = looking_past_fill(seen_SK)
    for block in encoder.blocks:
        tokens_STD = block(tokens_STD, mix)
    seen_STD = decoder.embed(encoder.norm(tokens_STD))

    width = seen_STD.shape[-1]
    # Fill of the kept goes to a place behind the last patch, which is cut off again.
    target_SK = torch.where(seen_SK, index_SK, patches).unsqueeze(-1).expand(-1, -1, width)
    all_SND = decoder.mask_token.to(seen_STD.dtype).expand(signals, patches + 1, -1)
    all_SND = all_SND.scatter(1, target_SK, seen_STD[:, Encoder.PREFIX :])[:, :patches]
    tokens_STD = torch.cat([seen_STD[:, : Encoder.PREFIX], all_SND + positions(patches, width)], dim=1)
    mix = looking_past_fill(real_SN)
    for block in decoder.blocks:
        tokens_STD = block(tokens_STD, mix)
    values_SNV = decoder.values(decoder.norm(tokens_STD[:, Encoder.PREFIX :]))

    kept_SN = torch.zeros(signals, patches + 1, dtype=torch.bool).scatter(1, target_SK[..., 0], True)[:, :patches]
    samples = torch.arange(values // 2 * patches).reshape(patches, -1)
    counts_SNV = (samples < batch.length_S[:, None, None]).repeat_interleave(2, dim=-1).float()
    counts_SNV = counts_SNV * (real_SN & ~kept_SN).unsqueeze(-1)
    target_SNV = batch.iq_SNV
    if model.config.normalise_targets:
        target_SNV = normalised(target_SNV.flatten(0, 1), counts_SNV.flatten(0, 1)).reshape(target_SNV.shape)
    return ((values_SNV.float() - target_SNV).square() * counts_SNV).nansum() / counts_SNV.sum().clamp_min(1)


def looking_past_fill(real_SN: Tensor) -> Mix:
    """Attention inside each padded signal: class and rate token, and what is True, are seen."""
    hidden_S11T = ~torch.nn.functional.pad(real_SN, (Encoder.PREFIX, 0), value=True)[:, None, None]

    def mix(qkv_STX: Tensor, heads: int) -> Tensor:
        q_SHTK, k_SHTK, v_SHTK = qkv_STX.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        score_SHTT = (q_SHTK * q_SHTK.shape[-1] ** -0.5) @ k_SHTK.transpose(-2, -1)
        weight_SHTT = torch.softmax(score_SHTT.masked_fill(hidden_S11T, -torch.inf), dim=-1)
        return (weight_SHTT @ v_SHTK).transpose(1, 2).flatten(2)

    return mix
