"""Configuration of a pretraining run, read from TOML and checked key by key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from emind.contract.errors import UsageError
from emind.models.emind import CHANNELS
from emind.models.pretraining import AUTOENCODERS, AutoencoderConfig

from .config import filled, read_toml, tomllib
from .weighting import SCHEMES

PARALLEL = ("none", "ddp", "fsdp")


@dataclass(frozen=True)
class ModelConfig:
    """Size of the family, its tokenizer, and what is masked and asked for."""

    size: str = "nano"
    patch: int = 8
    channels: str = "iq"
    spectral: bool = False
    mask_share: float = 0.75
    normalise_targets: bool = True
    spectral_weight: float = 0.0


@dataclass(frozen=True)
class CorpusConfig:
    """Which signals, how they are packed and how often each set is drawn."""

    folder: str = "runs/pretraining-corpus"  # files <set>-train.parquet and <set>-validation.parquet
    sets: list[str] = field(default_factory=list)  # of the folder; none given: all
    snr_above: float = 6.0  # dB; signals without a label for it are taken
    capacity: int = 6000  # samples in a row
    rows: int = 40  # rows of a step, over all processes
    open_rows: int = 16  # rows that the packer chooses from
    weighting: str = "adaptive"  # equal, paper or adaptive
    weighting_every: int = 500  # steps between two looks that the weights follow
    validation_signals: int = 64  # of each set, the same at every look
    skip_damaged: bool = False


@dataclass(frozen=True)
class OptimConfig:
    """AdamW; linear warm-up, then cosine decay. The run ends after ``steps`` or, where that is 0, after ``epochs``."""

    steps: int = 0
    epochs: float = 0.0
    learning_rate: float = 1e-4
    final_share: float = 0.0  # of the learning rate that is left at the end
    warmup_share: float = 0.10  # of the run
    weight_decay: float = 0.05
    betas: tuple[float, ...] = (0.9, 0.95)
    clip_norm: float = 1.0
    accumulate: int = 1  # parts that the rows of a step are computed in, to save memory
    bfloat16: bool = False


@dataclass(frozen=True)
class RunConfig:
    """Seed, machine use and how often to look and save. But for the seed, another value resumes the same run."""

    name: str = "pretrain"
    seed: int = 1
    parallel: str = "none"  # none, ddp or fsdp; the last two under torchrun
    threads: int = 1  # of each process
    producers: int = 1  # processes that read and pack, for each process that trains
    recompute: bool = False  # each layer a second time on the way back, instead of keeping what it computed
    log_every: int = 20
    validate_every: int = 500
    checkpoint_seconds: float = 180.0


@dataclass(frozen=True)
class ProbeConfig:
    """Linear probe along the run (the paper's figure 10). ``every`` in steps; 0: no probe."""

    set: str = "RadChar-regen"
    every: int = 1000
    train: int = 2000
    test: int = 2000


@dataclass(frozen=True)
class PretrainConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)

    def to_dict(self) -> dict:
        """As it comes back from JSON, so that it can be compared with one that was saved."""
        return json.loads(json.dumps(asdict(self)))

    def autoencoder(self) -> AutoencoderConfig:
        m = self.model
        own = AUTOENCODERS[m.size](patch=m.patch, channels=m.channels, spectral=m.spectral)
        return replace(own, mask_share=m.mask_share, normalise_targets=m.normalise_targets,
                       spectral_weight=m.spectral_weight)


def read_config(path: str | Path, changes: Sequence[str] = ()) -> PretrainConfig:
    """Read TOML; each change ``table.key=value`` stands for a line of the file. UsageError names what is wrong."""
    tables = read_toml(path)
    for change in changes:
        name, separator, value = change.partition("=")
        table, dot, key = name.strip().partition(".")
        if not (separator and dot and table and key):
            raise UsageError(f"--set {change!r}: give TABLE.KEY=VALUE, such as optim.steps=200")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()  # text needs no quotation marks on a command line
        if not isinstance(tables.setdefault(table, {}), dict):
            raise UsageError(f"configuration {path}: [{table}] must be a table")
        tables[table][key] = parsed
    return config_from_dict(tables, str(path))


def config_from_dict(tables: dict, where: str) -> PretrainConfig:
    """Configuration from nested dicts, checked; ``where`` stands in the errors."""
    config = filled(PretrainConfig, tables, where)
    for what, right in _conditions(config):
        if not right:
            raise UsageError(f"configuration {where}: {what}")
    return config


def _conditions(config: PretrainConfig) -> list[tuple[str, bool]]:
    m, c, o, r, p = config.model, config.corpus, config.optim, config.run, config.probe
    return [
        (f"[model] size {m.size!r} is unknown; known: {', '.join(AUTOENCODERS)}", m.size in AUTOENCODERS),
        (f"[model] channels {m.channels!r} is unknown; known: {', '.join(CHANNELS)}", m.channels in CHANNELS),
        ("[model] patch must be at least 1", m.patch >= 1),
        (f"[model] mask_share {m.mask_share:g} must lie between 0 and 1", 0 < m.mask_share < 1),
        ("[model] spectral_weight must not be negative", m.spectral_weight >= 0),
        (f"[corpus] capacity {c.capacity} must be a multiple of the patch, {m.patch}",
         c.capacity > 0 and c.capacity % max(1, m.patch) == 0),
        ("[corpus] sets must be names", all(isinstance(name, str) for name in c.sets)),
        ("[corpus] rows, open_rows, weighting_every and validation_signals must be at least 1",
         min(c.rows, c.open_rows, c.weighting_every, c.validation_signals) >= 1),
        (f"[corpus] weighting {c.weighting!r} is unknown; known: {', '.join(SCHEMES)}", c.weighting in SCHEMES),
        ("[optim] give either steps or epochs", (o.steps > 0) != (o.epochs > 0) and min(o.steps, o.epochs) >= 0),
        ("[optim] learning_rate and clip_norm must be above 0", min(o.learning_rate, o.clip_norm) > 0),
        ("[optim] warmup_share and final_share must lie between 0 and 1",
         0 <= o.warmup_share < 1 and 0 <= o.final_share <= 1),
        ("[optim] betas must be two numbers from 0 to below 1", len(o.betas) == 2 and all(0 <= b < 1 for b in o.betas)),
        (f"[optim] accumulate {o.accumulate} must divide the {c.rows} rows of a step",
         o.accumulate >= 1 and c.rows % o.accumulate == 0),
        (f"[run] parallel {r.parallel!r} is unknown; known: {', '.join(PARALLEL)}", r.parallel in PARALLEL),
        (f"[run] name {r.name!r} must be the name of a folder", Path(r.name).name == r.name and r.name != ""),
        ("[run] threads, log_every and validate_every must be at least 1",
         min(r.threads, r.log_every, r.validate_every) >= 1),
        ("[run] producers, seed and checkpoint_seconds must not be negative",
         min(r.producers, r.seed, r.checkpoint_seconds) >= 0),
        ("[probe] every must not be negative", p.every >= 0),
    ]
