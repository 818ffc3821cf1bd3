"""Configuration of a comparison: one set, one augmentation, one number of windows and epochs, several models."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from emind.contract.errors import UsageError

from .baselines import NETWORKS
from .config import filled, read_toml

EMIND = "emind"
PHASES = {"none": 0, "half": 2, "quarter": 4, "any": None}  # equal parts of a turn that a window may be turned by
NORMALISATIONS = ("set", "unit_power", "max_abs")


@dataclass(frozen=True)
class SetConfig:
    """What is classified. ``windows`` of the training part, balanced by class and SNR; 0 means all of them."""

    set: str = "AWGN-7"
    label: str = "modulation"
    size: str = "full"
    seed: int = 0  # of the set and of its split
    train_share: int = 70
    validation_share: int = 15
    test_share: int = 15
    windows: int = 0
    validation_windows: int = 0
    test_windows: int = 0


@dataclass(frozen=True)
class Augmentation:
    """What training windows go through, the same for every model.

    ``phase``: turned by nothing, by whole halves or quarters of a turn, or by any angle. ``shift``: in time, around the
    window's end. ``conjugate``: half of the windows. ``noise``: so large a share gets noise added, down to a lower SNR
    of the set; only where the noise's power is exactly known (AWGN-7).
    """

    phase: str = "any"
    shift: bool = False
    conjugate: bool = False
    noise: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """Common to all models: every one sees ``epochs`` times the same windows, unless it stops after ``patience`` epochs
    without a better validation accuracy (0: never)."""

    epochs: int = 30
    patience: int = 0
    warmup_share: float = 0.03
    clip_norm: float = 1.0
    threads: int = 1
    checkpoint_seconds: float = 120.0


@dataclass(frozen=True)
class ModelEntry:
    """One model. Fields from ``size`` on are read for the network "emind" only."""

    name: str = ""
    network: str = EMIND
    seeds: tuple = (1.0,)
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    average: float = 0.0  # decay of a running average of the weights, which is then what is measured; 0: none
    bfloat16: bool = False
    normalisation: str = ""  # "" is the network's own
    size: str = "nano"
    patch: int = 8
    channels: str = "iq_envelope_phase"
    spectral: bool = False
    stem: str = "sample"
    dropout: float = 0.0
    init: str = ""  # weights file that the encoder starts from


@dataclass(frozen=True)
class CompareConfig:
    name: str = "compare"
    data: SetConfig = field(default_factory=SetConfig)
    augment: Augmentation = field(default_factory=Augmentation)
    train: TrainingConfig = field(default_factory=TrainingConfig)
    models: tuple[ModelEntry, ...] = ()

    def of(self, entry: ModelEntry) -> dict:
        """All that the training of one model depends on, for its checkpoint and its result."""
        common = asdict(self.train) | {"threads": None, "checkpoint_seconds": None}
        return {"model": asdict(replace(entry, seeds=())), "data": asdict(self.data) | asdict(self.augment),
                "optim": common}


def read_compare_config(path: str | Path) -> CompareConfig:
    """Read TOML; UsageError names what is unknown, of another type, or cannot be."""
    return compare_config(read_toml(path), str(path))


def compare_config(tables: dict, where: str) -> CompareConfig:
    tables = dict(tables)
    models = tables.pop("models", [])
    if not isinstance(models, list) or not models or not all(isinstance(one, dict) for one in models):
        raise UsageError(f"configuration {where}: give at least one [[models]] table")
    entries = tuple(_entry(one, where) for one in models)
    config = replace(filled(CompareConfig, tables, where), models=entries)
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"configuration {where}: two models are called {twice!r}; give each a name")
    if config.augment.phase not in PHASES:
        raise UsageError(f"configuration {where}: phase {config.augment.phase!r}; known: {', '.join(PHASES)}")
    if not 0.0 <= config.augment.noise <= 1.0:
        raise UsageError(f"configuration {where}: noise {config.augment.noise} must lie between 0 and 1")
    if config.augment.noise and config.data.set != "AWGN-7":
        raise UsageError(f"configuration {where}: noise can be added to AWGN-7 only, where its power is known exactly")
    if config.train.epochs < 1 or min(entry.batch for entry in entries) < 1:
        raise UsageError(f"configuration {where}: epochs and batch must be at least 1")
    return config


def _entry(table: dict, where: str) -> ModelEntry:
    entry = filled(ModelEntry, table, f"{where} [[models]]")
    if entry.network != EMIND and entry.network not in NETWORKS:
        raise UsageError(f"configuration {where}: unknown network {entry.network!r}; known: {EMIND}, "
                         f"{', '.join(NETWORKS)}")
    if entry.normalisation not in ("", *NORMALISATIONS):
        raise UsageError(f"configuration {where}: unknown normalisation {entry.normalisation!r}; known: "
                         f"{', '.join(NORMALISATIONS)}")
    if not re.fullmatch(r"[\w.+-]*", entry.name):
        raise UsageError(f"configuration {where}: the name {entry.name!r} is a folder's too: letters, digits and ._+- "
                         "only")
    seeds = tuple(int(seed) for seed in entry.seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"configuration {where}: {entry.name or entry.network}: give different seeds, at least one")
    return replace(entry, name=entry.name or entry.network, seeds=seeds)
