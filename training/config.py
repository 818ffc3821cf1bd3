"""Configuration of a training run, read from TOML and checked key by key."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from emind.contract.errors import EMindError, UsageError

from .synthesis.air import AirConfig

if TYPE_CHECKING:
    from emind.models.emind import EncoderConfig


@dataclass(frozen=True)
class ModelConfig:
    """Size of the family and its tokenizer. ``stem``: what is made of each sample first, `emind.models.stems`."""

    size: str = "nano"
    patch: int = 16
    channels: str = "iq_envelope_phase"
    spectral: bool = True
    stem: str = "linear"

    def to_dict(self) -> dict:
        """Without the stem where it is none, as in files and checkpoints from before there were others."""
        values = asdict(self)
        if self.stem == ModelConfig.stem:
            del values["stem"]
        return values

    def encoder(self) -> EncoderConfig:
        """EMindError for a size or stem that is not known."""
        from emind.models.emind import SIZES

        if self.size not in SIZES:
            raise EMindError(f"unknown size {self.size!r}; known: {', '.join(SIZES)}")
        try:
            return SIZES[self.size](patch=self.patch, channels=self.channels, spectral=self.spectral, stem=self.stem)
        except ValueError as fault:
            raise EMindError(f"[model]: {fault}") from None


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay to zero over all steps."""

    steps: int = 4000
    batch: int = 256
    learning_rate: float = 1.5e-3
    warmup_steps: int = 300
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    average: float = 0.999  # decay of the running average of the weights, which is what is released
    family_weight: float = 0.5  # weight of the family's cross-entropy beside the class's
    label_smoothing: float = 0.02
    bfloat16: bool = True


@dataclass(frozen=True)
class RunConfig:
    """Seed, machine use and how often to look and save."""

    name: str = "run"
    seed: int = 1
    threads: int = 2
    producers: int = 1  # processes that draw windows
    log_every: int = 20
    validate_every: int = 500
    validation_windows: int = 4096
    test_windows: int = 23552
    checkpoint_seconds: float = 180.0


@dataclass(frozen=True)
class FinetuneConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    data: AirConfig = field(default_factory=AirConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def to_dict(self) -> dict:
        return asdict(self) | {"model": self.model.to_dict()}


def read_config(path: str | Path) -> FinetuneConfig:
    """Read TOML. An unknown table or key, or a value of another type, is an error that names it."""
    return config_from_dict(read_toml(path), str(path))


def config_from_dict(tables: dict, where: str) -> FinetuneConfig:
    """Configuration from nested dicts, checked; ``where`` stands in the errors."""
    return filled(FinetuneConfig, tables, where)


def read_toml(path: str | Path) -> dict:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise UsageError(f"configuration {path}: no such file") from None
    except OSError as error:
        raise UsageError(f"configuration {path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration {path}: not valid TOML ({error})") from None


def filled(kind: type, values: dict, where: str):
    """A dataclass from a table, key by key; what the table lacks keeps its default. Tables inside become dataclasses.

    UsageError for an unknown key, or a value of another type than the default.
    """
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UsageError(f"configuration {where}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    found = {}
    for name, value in values.items():
        default = getattr(kind(), name)
        if is_dataclass(default):
            if not isinstance(value, dict):
                raise UsageError(f"configuration {where}: [{name}] must be a table")
            found[name] = filled(type(default), value, f"{where} [{name}]")
        elif isinstance(default, float) and _is_number(value):
            found[name] = float(value)
        elif isinstance(default, tuple) and isinstance(value, (list, tuple)) and all(map(_is_number, value)):
            found[name] = tuple(float(one) for one in value)
        elif type(value) is type(default):
            found[name] = value
        else:
            raise UsageError(
                f"configuration {where}: {name} must be {type(default).__name__}, not {type(value).__name__}"
            )
    return kind(**found)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
