"""What a window is: the part of a weights file that the blocks obey."""

from __future__ import annotations

from dataclasses import asdict, dataclass

NORMALISATIONS = ("max_abs",)


@dataclass(frozen=True)
class WindowSpec:
    """Length and hop in samples, patch in samples, rates in Hz seen in training.

    ``normalisation`` names what the engine does to each raw window before the encoder:
    ``max_abs`` is IQ / max|IQ| (EMind, section VI-A).
    """

    length: int = 1024
    hop: int = 1024
    patch: int = 8
    normalisation: str = "max_abs"
    rate_min_hz: float = 0.0
    rate_max_hz: float = float("inf")

    def __post_init__(self) -> None:
        if self.length < 1 or self.patch < 1:
            raise ValueError(f"window length {self.length} and patch {self.patch} must be at least 1")
        if not 1 <= self.hop <= self.length:
            raise ValueError(f"hop {self.hop} must be between 1 and the window length {self.length}")
        if self.normalisation not in NORMALISATIONS:
            raise ValueError(f"unknown normalisation {self.normalisation!r}; known: {', '.join(NORMALISATIONS)}")
        if not self.rate_min_hz <= self.rate_max_hz:
            raise ValueError(f"rate_min_hz {self.rate_min_hz} is above rate_max_hz {self.rate_max_hz}")

    def covers(self, rate_hz: float) -> bool:
        """Whether training saw this sample rate."""
        return self.rate_min_hz <= rate_hz <= self.rate_max_hz

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> WindowSpec:
        return cls(**fields)


@dataclass(frozen=True)
class HeadSpec:
    """A head's name, kind (``classification``) and what its outputs mean, in order."""

    name: str
    kind: str
    labels: tuple[str, ...]
