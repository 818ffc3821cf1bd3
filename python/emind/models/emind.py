"""The EMind encoder: IQ windows to features.

Luo et al., "EMind: A Foundation Model for Multi-task Electromagnetic Signals Understanding", section V.
The paper's tokenizer is I and Q in patches of 8; `EncoderConfig` also offers what helped on real
recordings: envelope and phase-step channels, longer patches, and spectral tokens.

Shapes, by letter:
    B  windows in a batch          L  samples in a window
    C  channels of a sample        P  samples in a patch
    N  patches of a window         S  spectral tokens
    T  all tokens, 2 + N + S       D  width of a token
    H  attention heads             F  frequency bins
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .stems import STEMS, stem_of

CHANNELS = {
    "iq": 2,  # I, Q: the paper's input
    "iq_envelope_phase": 5,  # I, Q, |x|, cosine and sine of the phase step from the sample before
}
SPECTRUM = 1024  # transform length of the spectral tokens
PIECE = 64  # values in a spectral token


@dataclass(frozen=True)
class EncoderConfig:
    """Width, depth and tokenizer of an encoder. Heads of one encoder share it."""

    width: int
    depth: int
    heads: int
    mlp_ratio: int = 4
    patch: int = 8
    channels: str = "iq"
    spectral: bool = False
    dropout: float = 0.0
    stem: str = "linear"

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise ValueError(f"unknown channels {self.channels!r}; known: {', '.join(CHANNELS)}")
        if self.stem not in STEMS:
            raise ValueError(f"unknown stem {self.stem!r}; known: {', '.join(STEMS)}")
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and divisible by {self.heads} heads")

    def to_dict(self) -> dict:
        return asdict(self)


def nano(**tokenizer) -> EncoderConfig:
    return EncoderConfig(width=128, depth=4, heads=2, **tokenizer)


def tiny(**tokenizer) -> EncoderConfig:
    return EncoderConfig(width=192, depth=6, heads=3, **tokenizer)


def small(**tokenizer) -> EncoderConfig:
    return EncoderConfig(width=384, depth=8, heads=6, **tokenizer)


def base(**tokenizer) -> EncoderConfig:
    return EncoderConfig(width=768, depth=12, heads=12, **tokenizer)


SIZES = {"nano": nano, "tiny": tiny, "small": small, "base": base}


def sample_channels(iq_BL2: Tensor, channels: str) -> Tensor:
    """Channels of each sample, (B, L, C). The first sample's phase step is taken as zero."""
    if channels == "iq":
        return iq_BL2
    i_BL, q_BL = iq_BL2.unbind(-1)
    envelope_BL = torch.sqrt(i_BL * i_BL + q_BL * q_BL)
    cos_BL, sin_BL = phase_step(i_BL, q_BL)
    norm_BL = torch.sqrt(cos_BL * cos_BL + sin_BL * sin_BL) + 1e-6
    step = [functional.pad(part / norm_BL, (1, 0)) for part in (cos_BL, sin_BL)]
    return torch.stack([i_BL, q_BL, envelope_BL, *step], dim=-1)


def phase_step(i_BL: Tensor, q_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of x[n] conj(x[n-1]), each (B, L-1)."""
    i0, i1, q0, q1 = i_BL[:, :-1], i_BL[:, 1:], q_BL[:, :-1], q_BL[:, 1:]
    return i1 * i0 + q1 * q0, q1 * i0 - i1 * q0


class Ordering:
    """How spectral features are put in order, nearly half of what they cost; the runtime has a faster way."""

    @staticmethod
    def ascending(values: Tensor) -> Tensor:
        """Sorted along the last dimension."""
        return torch.sort(values, dim=-1).values

    @staticmethod
    def strongest(values: Tensor) -> Tensor:
        """The PIECE largest of the last dimension, the largest first."""
        return torch.topk(values, PIECE, dim=-1).values


class SpectralTokens(nn.Module):
    """Global views of a window as tokens: pieces of 64 values, each mapped by a linear layer of its own.

    - Log power spectrum; autocorrelation magnitude at lags 1 to 512 (cyclic prefixes, symbol rates); spectra of
      x^2, x^4 and |x|^2 (carriers and symbol rates as lines).
    - The same sorted, so that how strong the peaks are does not depend on where they lie: the power spectrum, and the
      64 strongest of the autocorrelation's narrow peaks and of each line spectrum.
    - Quantiles of the envelope and of the phase step smoothed over 2, 8 and 32 samples (levels and tones).

    They see the whole window: in masked training they must be computed from the visible part only.
    """

    COUNT = (8 + 8 + 4 + 4 + 4) + 5 + 4
    ordering = Ordering

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(self.COUNT, PIECE, width))
        self.bias = nn.Parameter(torch.zeros(self.COUNT, width))
        nn.init.trunc_normal_(self.weight, std=PIECE**-0.5)
        self.register_buffer("taper", torch.hann_window(SPECTRUM, periodic=True), persistent=False)

    def forward(self, iq_BL2: Tensor) -> Tensor:
        """(B, L, 2) to (B, S, D). Windows of another length than 1,024 are cut or filled into segments of it."""
        features_BSP = self.features(iq_BL2)
        return torch.einsum("bsp,spd->bsd", features_BSP, self.weight) + self.bias

    def features(self, iq_BL2: Tensor) -> Tensor:
        return spectral_features(iq_BL2, self.taper, self.ordering)


def spectral_features(iq_BL2: Tensor, taper_F: Tensor, ordering: type[Ordering] = Ordering) -> Tensor:
    """What spectral tokens are made of, (B, L, 2) to (B, S, 64), with a Hann window. Nothing in it is learned."""
    batch, length, _ = iq_BL2.shape
    segments = max(1, -(-length // SPECTRUM))
    iq = functional.pad(iq_BL2.float(), (0, 0, 0, segments * SPECTRUM - length))
    x = torch.view_as_complex(iq.reshape(batch * segments, SPECTRUM, 2).contiguous())
    square = x * x
    power = x.real * x.real + x.imag * x.imag

    def mean_over_segments(values: Tensor) -> Tensor:
        return values if segments == 1 else values.reshape(batch, segments, -1).mean(dim=1)

    def spectrum(signal: Tensor) -> Tensor:
        transform = torch.fft.fft(signal * taper_F)
        return mean_over_segments(transform.real * transform.real + transform.imag * transform.imag)

    def level(values: Tensor, pool: int, lines: bool) -> Tensor:
        """Log of power over its mean, pooled: lines keep their peak, bands their mean."""
        values = values / (values.mean(dim=-1, keepdim=True) + 1e-12)
        values = values.reshape(batch, -1, pool)
        values = values.amax(-1) if lines else values.mean(-1)
        return torch.log10(values + 1e-4) * 0.5

    density = level(torch.fft.fftshift(spectrum(x), dim=-1), 2, lines=False)
    lag_spectrum = torch.fft.fft(x, n=2 * SPECTRUM)
    lags = torch.fft.ifft(lag_spectrum.real * lag_spectrum.real + lag_spectrum.imag * lag_spectrum.imag)
    correlation = mean_over_segments(lags.abs())
    correlation = correlation[:, 1 : SPECTRUM // 2 + 1] / (correlation[:, :1] + 1e-12)
    surroundings = sums(functional.pad(correlation, (16, 16)), 33) / 33
    ripple = power - power.mean(dim=-1, keepdim=True)
    ripple_spectrum = torch.fft.rfft(ripple * taper_F)
    ripple_power = mean_over_segments(
        ripple_spectrum.real * ripple_spectrum.real + ripple_spectrum.imag * ripple_spectrum.imag
    )[:, :-1]
    line_spectra = [
        level(torch.fft.fftshift(spectrum(square), dim=-1), 4, lines=True),
        level(torch.fft.fftshift(spectrum(square * square), dim=-1), 4, lines=True),
        level(ripple_power, 2, lines=True),
    ]
    narrow_peaks = 4.0 * (correlation - surroundings)[:, 16:]
    flat = torch.cat(
        [
            density,
            2.0 * correlation,
            *line_spectra,
            ordering.ascending(density).unflatten(-1, (PIECE, -1)).mean(-1),
            *(ordering.strongest(values) for values in (narrow_peaks, *line_spectra)),
            envelope_and_step_quantiles(iq.reshape(batch, segments * SPECTRUM, 2), ordering),
        ],
        dim=-1,
    )
    return flat.reshape(batch, SpectralTokens.COUNT, PIECE)


def sums(values: Tensor, count: int) -> Tensor:
    """Of each ``count`` neighbours along the last axis, (..., N) to (..., N - count + 1). By doubling: on a processor
    several times as quick as pooling or convolution."""
    done, width, at, total = values, 1, 0, None
    while True:
        if count & width:
            part = done[..., at:]
            total = part if total is None else total[..., : part.shape[-1]] + part[..., : total.shape[-1]]
            at += width
        if 2 * width > count:
            return total[..., : values.shape[-1] - count + 1]
        done = done[..., : done.shape[-1] - width] + done[..., width:]
        width *= 2


def envelope_and_step_quantiles(iq_BL2: Tensor, ordering: type[Ordering]) -> Tensor:
    """Sorted envelope and smoothed phase steps at 64 evenly spaced ranks each, (B, 4 * 64)."""
    i_BL, q_BL = iq_BL2.unbind(-1)
    rows = [torch.sqrt(i_BL * i_BL + q_BL * q_BL).unflatten(-1, (-1, 4)).mean(-1)]
    cos_BL, sin_BL = phase_step(i_BL, q_BL)
    steps_B2L = functional.pad(torch.stack([cos_BL, sin_BL], dim=1), (1, 0))
    # Every fourth sample's sums over 2, 8 and 32 around it, from those of whole fours. Summing before the angle weighs
    # each step by its power: gaps between bursts hardly count. Beyond the ends are zeros, which no angle sees.
    fours = steps_B2L.unflatten(-1, (-1, 4))
    pairs = functional.pad(fours[..., :-1, 3], (1, 0)) + fours[..., 0]
    fours = fours.sum(-1)
    eights = sums(functional.pad(fours, (1, 0)), 2)
    for smoothed in (pairs, eights, sums(functional.pad(fours, (4, 3)), 8)):
        rows.append(torch.atan2(smoothed[:, 1], smoothed[:, 0]))
    ordered = ordering.ascending(torch.stack(rows, dim=1))
    picked = ordered.unflatten(-1, (PIECE, -1)).mean(-1)
    return picked.flatten(1)


class RateToken(nn.Module):
    """The sampling rate as a token: log10 through Fourier features and a small network; learned where unknown."""

    FREQUENCIES = 8

    def __init__(self, width: int) -> None:
        super().__init__()
        self.unknown = nn.Parameter(torch.zeros(width))
        self.network = nn.Sequential(nn.Linear(2 * self.FREQUENCIES, width), nn.GELU(), nn.Linear(width, width))
        self.register_buffer("octaves", 2.0 ** torch.arange(self.FREQUENCIES) * (math.pi / 16), persistent=False)

    def forward(self, rate_B: Tensor) -> Tensor:
        """(B,) in Hz, NaN where unknown, to (B, D)."""
        known_B1 = torch.isfinite(rate_B).unsqueeze(-1) & (rate_B > 0).unsqueeze(-1)
        angle = torch.log10(torch.where(known_B1[:, 0], rate_B, 1.0)).unsqueeze(-1) * self.octaves
        token_BD = self.network(torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1))
        return torch.where(known_B1, token_BD, self.unknown)


def positions(count: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sine and cosine positions, (count, width). They restart with every signal."""
    frequency = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    angle = torch.arange(count, device=device).unsqueeze(-1) * frequency
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=-1).flatten(1)


Mix = Callable[[Tensor, int], Tensor]
"""Queries, keys and values in one (..., 3 D) and a number of heads to what attention mixes, (..., D)."""


def mix_windows(qkv_BTX: Tensor, heads: int) -> Tensor:
    """Attention inside each window, (B, T, 3 D) to (B, T, D), written as two matrix products and a softmax.

    On processors, in bfloat16, this is twice as fast as the fused kernel, forwards and backwards.
    """
    batch, tokens, triple = qkv_BTX.shape
    key = triple // (3 * heads)
    q_BHTK, k_BHTK, v_BHTK = qkv_BTX.reshape(batch, tokens, 3, heads, key).permute(2, 0, 3, 1, 4)
    weight_BHTT = torch.softmax((q_BHTK * key**-0.5) @ k_BHTK.transpose(-2, -1), dim=-1)
    mixed_BHTK = weight_BHTT @ v_BHTK
    return mixed_BHTK.transpose(1, 2).reshape(batch, tokens, heads * key)


class Attention(nn.Module):
    """Multi-head self-attention. ``mix`` says which tokens see each other: all of a window, or those of a signal."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, mix: Mix = mix_windows) -> Tensor:
        return self.out(mix(self.qkv(x_BTD), self.heads))


class Block(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.norm_mlp = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, config.mlp_ratio * config.width),
            nn.GELU(),
            nn.Linear(config.mlp_ratio * config.width, config.width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, mix: Mix = mix_windows) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.attention(self.norm_attention(x_BTD), mix))
        return x_BTD + self.dropout(self.mlp(self.norm_mlp(x_BTD)))


class Encoder(nn.Module):
    """Windows to token features: class token, rate token, patches, then spectral tokens if configured."""

    PREFIX = 2  # class and rate token

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem, values = stem_of(config.stem, CHANNELS[config.channels])
        self.patch_layer = nn.Linear(config.patch * values, config.width)
        self.class_token = nn.Parameter(torch.zeros(config.width))
        self.rate_token = RateToken(config.width)
        self.spectral_tokens = SpectralTokens(config.width) if config.spectral else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.rate_token.unknown, std=0.02)

    def tokenize(self, iq_BL2: Tensor, rate_B: Tensor) -> Tensor:
        """(B, L, 2) normalised IQ and (B,) Hz to (B, T, D). The last patch is zero-filled where P does not divide L."""
        batch, length, _ = iq_BL2.shape
        samples_BLC = sample_channels(iq_BL2, self.config.channels)
        samples_BLC = functional.pad(samples_BLC, (0, 0, 0, -length % self.config.patch))
        patches_BND = self.patch_tokens(samples_BLC)
        patches_BND = patches_BND + positions(patches_BND.shape[1], self.config.width, patches_BND.device)
        tokens = [self.class_token.expand(batch, 1, -1), self.rate_token(rate_B).unsqueeze(1), patches_BND]
        if self.spectral_tokens is not None:
            tokens.append(self.spectral_tokens(iq_BL2))
        return torch.cat(tokens, dim=1)

    def patch_tokens(self, samples_BLC: Tensor) -> Tensor:
        """Channels of samples (..., N P, C), whole patches, to (..., N, D), without positions."""
        if self.stem is not None:
            samples_BLC = self.stem(samples_BLC)
        return self.patch_layer(samples_BLC.unflatten(-2, (-1, self.config.patch)).flatten(-2))

    def encode(self, tokens_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD)
        return self.norm(tokens_BTD)

    def forward(self, iq_BL2: Tensor, rate_B: Tensor) -> Tensor:
        """(B, L, 2) normalised IQ and (B,) sampling rates in Hz to token features (B, T, D)."""
        return self.encode(self.tokenize(iq_BL2, rate_B))


def pooled(features_BTD: Tensor) -> Tensor:
    """One vector a window, (B, 2 D): the class token beside the mean of all other tokens."""
    return torch.cat([features_BTD[:, 0], features_BTD[:, 1:].mean(dim=1)], dim=-1)
