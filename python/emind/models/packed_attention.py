"""The encoder over packed signals: linear layers on all tokens at once, attention inside each signal.

    tokens  | class rate patch patch | class rate patch patch patch | ...        one signal after the other
    linear  |------------------------------ all at once -------------------------|
    mix     |------ signal 0 --------|--------- signal 1 -----------| ...

Luo et al., section V-B. Attention has one interface (`attention_over`) and several implementations with equal results:
    grouped   signals of as many tokens together in one batched product; the fast path on processors
    varlen    the variable-length kernel, CUDA in half precision
    flex      flex_attention with a block mask; CUDA, compiled. Runs on processors uncompiled, forwards only
    masked    one product over the whole pack under a dense block mask: slow, the reference of the tests
    auto      varlen or flex on CUDA, else grouped

Shapes, by letter:
    S  signals of a batch           N  patches of all signals
    K  kept patches of all signals  P  samples in a patch
    T  tokens of all signals        D  width of a token; X = 3 D
    H  attention heads              C  channels of a sample
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .emind import Encoder, Mix, mix_windows, positions, sample_channels
from .masking import Selection
from .stems import STEMS
from .packed_batch import PackedBatch, Patches


@dataclass(frozen=True, eq=False)
class PackedFeatures:
    """Token features of all signals. Tensors of the batch's signals in the batch's order.

    tokens_TD: features, one signal after the other in no promised order
    first_S, count_S: first token and number of tokens of a signal: class, rate, seen patches, spectral tokens
    """

    tokens_TD: Tensor
    first_S: Tensor
    count_S: Tensor

    def of(self, signal: int) -> Tensor:
        """(T of this signal, D), as `Encoder.forward` gives them."""
        first = int(self.first_S[signal])
        return self.tokens_TD[first : first + int(self.count_S[signal])]

    def class_SD(self) -> Tensor:
        return self.tokens_TD.index_select(0, self.first_S)


def encode_packed(
    encoder: Encoder, batch: PackedBatch, kept: Selection | None = None, attention: str = "auto",
    patches: Patches | None = None, checkpointing: bool = False,
) -> PackedFeatures:  # fmt: skip
    """Features of all signals, of their kept patches only where ``kept`` is given.

    With everything kept they equal `Encoder.forward` of each signal alone. ``checkpointing`` computes each layer a
    second time on the way back instead of keeping what it computed.
    """
    patches = patches or Patches.of(batch)
    tokens_TD, count_S = packed_tokens(encoder, batch, patches, kept or Selection.everything(patches))
    mix = attention_over(count_S.tolist(), tokens_TD, attention)
    tokens_TD = encoder.norm(run_blocks(encoder.blocks, tokens_TD, mix, checkpointing))
    first_S = count_S.cumsum(0) - count_S
    place_S = torch.argsort(patches.order_S)
    return PackedFeatures(tokens_TD, first_S[place_S], count_S[place_S])


def run_blocks(blocks: Sequence, tokens_TD: Tensor, mix: Mix, checkpointing: bool) -> Tensor:
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            tokens_TD = checkpoint(block, tokens_TD, mix, use_reentrant=False)
        else:
            tokens_TD = block(tokens_TD, mix)
    return tokens_TD


def packed_tokens(encoder: Encoder, batch: PackedBatch, patches: Patches, kept: Selection) -> tuple[Tensor, Tensor]:
    """Tokens of all signals, (T, D), and how many each has, (S,), both in the order of `Patches`."""
    width, signals = encoder.config.width, batch.signals
    if batch.patch != encoder.config.patch:
        raise ValueError(f"the batch is packed in patches of {batch.patch}, the encoder's are {encoder.config.patch}")
    if STEMS[encoder.config.stem].kernel > 1:
        raise ValueError(f"the stem {encoder.config.stem!r} looks beyond a patch: what is masked would leak")
    iq_NP2 = patches.iq(batch)
    number_K = patches.number_N[kept.index_K]
    samples_KPC = visible_channels(iq_NP2, kept, number_K, encoder.config.channels)
    patches_KD = encoder.patch_tokens(samples_KPC).squeeze(-2)
    patches_KD = patches_KD + positions(int(patches.count_S[-1]), width, patches_KD.device)[number_K]
    rate_SD = encoder.rate_token(batch.rate_S[patches.order_S])
    parts = [encoder.class_token.expand(signals, -1), rate_SD, patches_KD]
    extra = 0
    if encoder.spectral_tokens is not None:
        extra = encoder.spectral_tokens.COUNT
        seen_NP2 = torch.where(kept.kept_N[:, None, None], iq_NP2, 0.0)
        parts += [encoder.spectral_tokens(iq_GL2).flatten(0, 1) for iq_GL2 in equal_lengths(seen_NP2, patches)]

    count_S = Encoder.PREFIX + kept.count_S + extra
    first_S = count_S.cumsum(0) - count_S
    behind_S1 = (first_S + Encoder.PREFIX + kept.count_S).unsqueeze(1)
    where = torch.cat([
        first_S,
        first_S + 1,
        kept.token_K(Encoder.PREFIX, extra),
        (behind_S1 + torch.arange(extra, device=behind_S1.device)).flatten(),
    ])  # fmt: skip
    tokens = torch.cat([part.to(patches_KD.dtype) for part in parts])
    # Every token is put in place once: the way back is a plain selection of rows, where a gather's would be a sum.
    return torch.zeros_like(tokens).index_copy(0, where, tokens), count_S


def visible_channels(iq_NP2: Tensor, kept: Selection, number_K: Tensor, channels: str) -> Tensor:
    """Channels of the kept patches' samples, (K, P, C), from kept samples only.

    The phase step of a patch's first sample needs the sample before it: zero at the start of a signal, as in
    `sample_channels`, and zero behind a masked patch, which it would tell about.
    """
    iq_KP2 = iq_NP2[kept.index_K]
    if channels == "iq":
        return iq_KP2
    before_K = (kept.index_K - 1).clamp_min(0)
    known_K1 = ((number_K > 0) & kept.kept_N[before_K]).unsqueeze(-1)
    before_K2 = torch.where(known_K1, iq_NP2[before_K, -1], 0.0)
    return sample_channels(torch.cat([before_K2.unsqueeze(1), iq_KP2], dim=1), channels)[:, 1:]


def equal_lengths(iq_NP2: Tensor, patches: Patches) -> list[Tensor]:
    """Signals in groups of equal length, each (G, L, 2), in the order of `Patches`. Views, no copies."""
    groups, first = [], 0
    for length, run in groupby(patches.length_S.tolist()):
        signals = len(list(run))
        count = -(-length // iq_NP2.shape[1])
        group = iq_NP2[first : first + signals * count].reshape(signals, -1, 2)
        groups.append(group[:, :length])
        first += signals * count
    return groups


def attention_over(counts: Sequence[int], tokens_TD: Tensor, kind: str = "auto") -> Mix:
    """Attention inside signals of so many tokens each, which lie one after the other."""
    if kind == "auto":
        kind = "grouped" if tokens_TD.device.type != "cuda" else "varlen" if varlen_serves() else "flex"
    if kind not in ATTENTION:
        raise ValueError(f"unknown attention {kind!r}; known: auto, {', '.join(ATTENTION)}")
    return ATTENTION[kind](counts, tokens_TD.device)


def grouped(counts: Sequence[int], device: torch.device) -> Mix:
    """Neighbours of equal token count form a group: (G, n, X) is a view of the tokens."""
    groups = [(len(list(run)), count) for count, run in groupby(counts)]
    sizes = [signals * count for signals, count in groups]

    def mix(qkv_TX: Tensor, heads: int) -> Tensor:
        mixed = [
            mix_windows(part.unflatten(0, group), heads).flatten(0, 1)
            for part, group in zip(qkv_TX.split(sizes), groups, strict=True)
        ]
        return torch.cat(mixed)

    return mix


def masked(counts: Sequence[int], device: torch.device) -> Mix:
    mask_TT = same_signal(counts, device)

    def mix(qkv_TX: Tensor, heads: int) -> Tensor:
        q_HTK, k_HTK, v_HTK = split_heads(qkv_TX, heads)
        score_HTT = (q_HTK * q_HTK.shape[-1] ** -0.5) @ k_HTK.transpose(-2, -1)
        weight_HTT = torch.softmax(score_HTT.masked_fill(~mask_TT, -torch.inf), dim=-1)
        return (weight_HTT @ v_HTK).transpose(0, 1).flatten(1)

    return mix


def flex(counts: Sequence[int], device: torch.device) -> Mix:
    from torch.nn.attention.flex_attention import create_block_mask

    signal_T = signal_of_token(counts, device)
    tokens = signal_T.shape[0]

    def inside_one_signal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return signal_T[query] == signal_T[key]

    block_mask = create_block_mask(inside_one_signal, None, None, tokens, tokens, device=device)

    def mix(qkv_TX: Tensor, heads: int) -> Tensor:
        q, k, v = (part.unsqueeze(0) for part in split_heads(qkv_TX, heads))
        return flex_kernel(device.type)(q, k, v, block_mask=block_mask)[0].transpose(0, 1).flatten(1)

    return mix


def varlen(counts: Sequence[int], device: torch.device) -> Mix:
    from torch.nn.attention.varlen import varlen_attn

    ends = torch.tensor([0, *counts], device=device).cumsum(0).to(torch.int32)
    longest = max(counts)

    def mix(qkv_TX: Tensor, heads: int) -> Tensor:
        qkv_T3HK = qkv_TX.unflatten(-1, (3, heads, -1))
        half = qkv_T3HK if qkv_T3HK.dtype in (torch.bfloat16, torch.float16) else qkv_T3HK.bfloat16()
        mixed_THK = varlen_attn(*half.unbind(1), ends, ends, longest, longest)
        return mixed_THK.flatten(1).to(qkv_TX.dtype)

    return mix


ATTENTION = {"grouped": grouped, "varlen": varlen, "flex": flex, "masked": masked}


def signal_of_token(counts: Sequence[int], device: torch.device) -> Tensor:
    """(T,)"""
    return torch.repeat_interleave(torch.tensor(counts, device=device))


def same_signal(counts: Sequence[int], device: torch.device) -> Tensor:
    """The dense block mask, (T, T): true where a token may see another."""
    signal_T = signal_of_token(counts, device)
    return signal_T.unsqueeze(1) == signal_T


def split_heads(qkv_TX: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each (H, T, K)."""
    return qkv_TX.unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3).unbind(0)


@cache
def flex_kernel(device: str):
    """Uncompiled, flex_attention computes every product and masks it: only where there is nothing to compile for."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if device == "cuda" else flex_attention


def varlen_serves() -> bool:
    """The variable-length kernel has half precision only, so it serves under autocast."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401
    except ImportError:
        return False
    return torch.is_autocast_enabled("cuda") and torch.cuda.get_device_capability() >= (8, 0)
