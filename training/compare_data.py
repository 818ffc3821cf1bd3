"""Windows of a comparison: one set, drawn once into Parquet, split by what belongs together.

    recipe ─► <runs>/sets/<set>-<size>-seed<seed>/*.parquet ─► groups dealt into parts ─► windows of a part, in memory

The test part is not read before it is asked for. Augmentation and normalisation act on batches (B, L, 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from emind.contract.errors import EMindError, UsageError
from emind.storage.parquet import Reader
from torch import Tensor

from .compare_config import PHASES, Augmentation, SetConfig
from .probe import balanced
from .split import dealt, groups_of
from .synthesis.build import build_set, drawing, file_hash
from .synthesis.recipe import SIZES
from .synthesis.sets import SETS

PARTS = ("train", "validation", "test")
SUFFIX = "-regen"


@dataclass(frozen=True, eq=False)
class Part:
    """Windows of one part: iq_NL2 as stored, label_N numbers of classes, snr_N in dB, rate_N in Hz (NaN unknown)."""

    iq_NL2: Tensor
    label_N: Tensor
    snr_N: np.ndarray
    rate_N: Tensor

    def __len__(self) -> int:
        return len(self.label_N)

    def take(self, index: np.ndarray) -> Part:
        chosen = torch.from_numpy(index)
        return Part(self.iq_NL2[chosen], self.label_N[chosen], self.snr_N[index], self.rate_N[chosen])


@dataclass(frozen=True, eq=False)
class CompareSet:
    """Where a set's windows lie and which part each is of. ``hashes``: SHA-256 of its files."""

    config: SetConfig
    classes: tuple[str, ...]
    length: int
    files: tuple[Path, ...]
    part_of_row: tuple[np.ndarray, ...]
    hashes: dict[str, str]

    def part(self, name: str) -> Part:
        """Read a part, and of it the windows that the configuration asks for. EMindError where it has too few."""
        number = PARTS.index(name)
        iq, label, snr, rate = [], [], [], []
        for path, parts in zip(self.files, self.part_of_row, strict=True):
            with Reader(path) as reader:
                columns = reader.columns((self.config.label, "snr", "sampling_rate"))
                for block in reader.blocks():
                    own = np.flatnonzero(parts[block.first : block.first + len(block)] == number)
                    iq.append(block.rows()[own])
                rows = np.flatnonzero(parts == number)
                label.append([self.classes.index(columns[self.config.label][row]) for row in rows])
                snr.append(columns["snr"][rows])
                rate.append(columns["sampling_rate"][rows])
        samples = torch.view_as_real(torch.from_numpy(np.concatenate(iq)))
        part = Part(samples, torch.from_numpy(np.concatenate(label).astype(np.int64)), np.concatenate(snr),
                    torch.from_numpy(np.concatenate(rate).astype(np.float32)))
        wanted = (self.config.windows, self.config.validation_windows, self.config.test_windows)[number]
        if not wanted:
            return part
        rng = np.random.default_rng([self.config.seed, 11, number])
        return part.take(balanced(part.label_N.numpy(), part.snr_N, wanted, len(self.classes), rng,
                                  f"{self.config.set}, {name}"))


def open_set(
    config: SetConfig, runs: Path, processes: int = 1, progress: Callable[[int], None] = lambda items: None
) -> CompareSet:
    """The set, drawn if it is not there. UsageError for an unknown set, size or label; EMindError for a bad file."""
    if config.set not in SETS:
        raise UsageError(f"unknown set {config.set!r}; known: {', '.join(SETS)}")
    if config.size not in SIZES:
        raise UsageError(f"unknown size {config.size!r}; known: {', '.join(SIZES)}")
    folder = runs / "sets" / f"{config.set}-{config.size}-seed{config.seed}"
    with drawing(processes) as pool:
        files = build_set(SETS[config.set], folder, config.size, config.seed, pool, processes, progress=progress)
    keys, strata, names, lengths = [], {}, set(), set()
    for path in files:
        with Reader(path) as reader:
            groups, found = groups_of(path.name, reader)
            values = set(reader.columns((config.label,))[config.label])
            lengths.update(np.unique(reader.lengths()).tolist())
        if None in values:
            raise UsageError(f"{config.set}: some rows have no {config.label}")
        names |= values
        keys.append(groups)
        for group, stratum in zip(groups, found, strict=True):
            strata[group] = min(stratum, strata.get(group, stratum))
    if len(lengths) != 1:
        raise EMindError(f"{config.set}: has windows of several lengths, the compared networks have one")
    shares = (config.train_share, config.validation_share, config.test_share)
    if min(shares) < 1:
        raise UsageError(f"{config.set}: shares {':'.join(map(str, shares))} must be at least 1")
    parts = dealt(strata, shares, config.seed)
    part_of_row = tuple(np.array([parts[group] for group in groups], np.int8) for groups in keys)
    return CompareSet(config, tuple(sorted(names)), lengths.pop(), tuple(files), part_of_row,
                      {path.name: file_hash(path) for path in files})


def root_mean_square(part: Part) -> float:
    """Of all samples of a part: the one factor of the normalisation "set"."""
    return float(part.iq_NL2.double().square().sum(-1).mean().sqrt())


def repeated(part: Part, other: Part) -> int:
    """Windows of ``part`` that ``other`` has as well, but for their level: equal to a thousandth of the largest
    magnitude."""
    def scaled(one: Part) -> list[bytes]:
        peak_N = one.iq_NL2.square().sum(-1).amax(1).sqrt().clamp_min(1e-30)
        return [row.tobytes() for row in torch.round(1e3 * one.iq_NL2 / peak_N[:, None, None]).to(torch.int16).numpy()]

    known = set(scaled(other))
    return sum(row in known for row in scaled(part))


def normalised(iq_BL2: Tensor, how: str, scale: float) -> Tensor:
    """By one factor for the whole set, each window to unit power, or each to a largest magnitude of one."""
    if how == "set":
        return iq_BL2 / scale
    power_BL = iq_BL2.square().sum(-1)
    level_B = power_BL.mean(1) if how == "unit_power" else power_BL.amax(1)
    return iq_BL2 * torch.where(level_B > 0, level_B, 1.0).rsqrt()[:, None, None]


def augmented(
    iq_BL2: Tensor, snr_B: np.ndarray, how: Augmentation, levels: np.ndarray, generator: torch.Generator
) -> Tensor:
    """A training batch as the configuration says. ``levels``: SNR labels of the set, for added noise."""
    batch, length, _ = iq_BL2.shape
    # All chances are drawn whatever is used of them, so that one option does not change what another draws.
    turn_B, mirror_B, start_B, share_B, level_B = torch.rand(5, batch, generator=generator)
    parts = PHASES[how.phase]
    if parts is None or parts:
        angle_B = 2 * math.pi * (turn_B if parts is None else torch.floor(turn_B * parts) / parts)
        cos, sin = torch.cos(angle_B)[:, None], torch.sin(angle_B)[:, None]
        i_BL, q_BL = iq_BL2.unbind(-1)
        iq_BL2 = torch.stack([i_BL * cos - q_BL * sin, i_BL * sin + q_BL * cos], dim=-1)
    if how.conjugate:
        sign_B1 = torch.where(mirror_B < 0.5, -1.0, 1.0)[:, None]
        iq_BL2 = torch.stack([iq_BL2[..., 0], iq_BL2[..., 1] * sign_B1], dim=-1)
    if how.shift:
        index_BL = (torch.arange(length) + torch.floor(start_B * length).long()[:, None]) % length
        iq_BL2 = iq_BL2.gather(1, index_BL.unsqueeze(-1).expand(-1, -1, 2))
    if how.noise:
        amplitude_B = torch.from_numpy(added_noise(snr_B, levels, level_B.numpy())).float()
        amplitude_B = torch.where(share_B < how.noise, amplitude_B, 0.0)
        iq_BL2 = iq_BL2 + amplitude_B[:, None, None] * torch.randn(iq_BL2.shape, generator=generator)
    return iq_BL2


def added_noise(snr_B: np.ndarray, levels: np.ndarray, chance_B: np.ndarray) -> np.ndarray:
    """Deviation of I and of Q of the noise that takes a window of unit signal power to an SNR of ``levels`` at or below
    its own, drawn by ``chance_B`` from 0 to 1, (B,)."""
    levels = np.sort(levels)
    allowed_B = np.searchsorted(levels, snr_B, side="right")
    target_B = levels[np.minimum((chance_B * allowed_B).astype(int), allowed_B - 1)]
    power_B = 10 ** (-target_B / 10) - 10 ** (-np.asarray(snr_B) / 10)
    return np.sqrt(np.maximum(power_B, 0.0) / 2)
