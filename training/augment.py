"""Augmentation of training windows: another carrier phase, another time, and if asked the mirrored spectrum, noise.

What is done to a window is done to its clean sources too, so that they still add up; a delay that is a label moves with
the window.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .task_config import AugmentConfig


def turned(iq_BKL2: Tensor, angle_B: Tensor) -> Tensor:
    """All K signals of a row multiplied by exp(j angle)."""
    cos, sin = (part[:, None, None] for part in (torch.cos(angle_B), torch.sin(angle_B)))
    i_BKL, q_BKL = iq_BKL2.unbind(-1)
    return torch.stack([i_BKL * cos - q_BKL * sin, i_BKL * sin + q_BKL * cos], dim=-1)


def moved(iq_BKL2: Tensor, samples_B: Tensor) -> Tensor:
    """All K signals of a row so many samples later; what leaves the end comes in at the start."""
    batch, count, length, _ = iq_BKL2.shape
    index_BL = (torch.arange(length) - samples_B[:, None]) % length
    return iq_BKL2.gather(2, index_BL[:, None, :, None].expand(batch, count, length, 2))


def mirrored(iq_BKL2: Tensor, chosen_B: Tensor) -> Tensor:
    """All K signals of the chosen rows conjugated."""
    sign_B = torch.where(chosen_B, -1.0, 1.0)[:, None, None]
    i_BKL, q_BKL = iq_BKL2.unbind(-1)
    return torch.stack([i_BKL, q_BKL * sign_B], dim=-1)


def remixed(iq_BKL2: Tensor, order_B: Tensor, angle_B: Tensor) -> Tensor:
    """Mixtures (first) of two sources (B, 3, L, 2) with the second source of window ``order_B``, turned by ``angle_B``,
    in place of their own; normalised anew by the mixture's max|IQ|. The noise, what the sources do not add up to, stays.
    """
    mixture_BL2, first_BL2, second_BL2 = iq_BKL2.unbind(1)
    noise_BL2 = mixture_BL2 - first_BL2 - second_BL2
    second_BL2 = turned(second_BL2[order_B].unsqueeze(1), angle_B).squeeze(1)
    mixed_BKL2 = torch.stack([first_BL2 + second_BL2 + noise_BL2, first_BL2, second_BL2], 1)
    peak_B = mixed_BKL2[:, 0].square().sum(-1).amax(-1).sqrt()
    return mixed_BKL2 / torch.where(peak_B > 0, peak_B, 1.0)[:, None, None, None]


def noised(iq_BL2: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Some of the windows with white noise added, normalised anew by their max|IQ|."""
    batch = len(iq_BL2)
    chance_B, place_B = torch.rand(2, batch, generator=generator)
    noise_BL2 = torch.randn(iq_BL2.shape, generator=generator)
    below_db_B = config.noise_low_db + (config.noise_high_db - config.noise_low_db) * place_B
    scale_B = (iq_BL2.square().mean((1, 2)) * 10 ** (-below_db_B / 10)).sqrt()
    scale_B = torch.where(chance_B < config.noise_share, scale_B, 0.0)
    mixed_BL2 = iq_BL2 + scale_B[:, None, None] * noise_BL2
    peak_B = mixed_BL2.square().sum(-1).amax(-1).sqrt()
    return torch.where((scale_B > 0)[:, None, None], mixed_BL2 / peak_B.clamp(min=1e-30)[:, None, None], iq_BL2)


def augmented(
    iq_BKL2: Tensor, config: AugmentConfig, generator: torch.Generator, delay_B: Tensor | None = None,
    delay_range: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Windows with their clean sources (K of them in all, the window first), changed alike; and by how many samples
    each was moved, (B,).

    ``delay_B``: where the signal begins, in samples, which is a label and moves with it: it stays within
    ``delay_range``, and what begins there must not reach around the window's end.
    """
    batch, _, length, _ = iq_BKL2.shape
    angle_B, place_B, chance_B = torch.rand(3, batch, generator=generator)
    samples_B = torch.zeros(batch, dtype=torch.int64)
    if config.remix and iq_BKL2.shape[1] == 3:
        order_B, turn_B = torch.randperm(batch, generator=generator), torch.rand(batch, generator=generator)
        iq_BKL2 = remixed(iq_BKL2, order_B, 2 * math.pi * turn_B)
    if config.conjugate:
        iq_BKL2 = mirrored(iq_BKL2, chance_B < 0.5)
    if config.phase:
        iq_BKL2 = turned(iq_BKL2, 2 * math.pi * angle_B)
    if config.shift:
        most = max(0, math.floor(config.shift_most * length))
        low_B, high_B = torch.full((batch,), -float(most)), torch.full((batch,), float(most))
        if delay_B is not None:
            low_B = torch.maximum(low_B, torch.ceil(delay_range[0] - delay_B)).clamp(max=0)
            high_B = torch.minimum(high_B, torch.floor(delay_range[1] - delay_B)).clamp(min=0)
        samples_B = torch.floor(low_B + place_B * (high_B - low_B + 1)).clamp(low_B, high_B).to(torch.int64)
        iq_BKL2 = moved(iq_BKL2, samples_B)
    if config.noise_share and iq_BKL2.shape[1] == 1:  # a clean source beside it would no longer have its scale
        iq_BKL2 = noised(iq_BKL2[:, 0], config, generator).unsqueeze(1)
    return iq_BKL2, samples_B
