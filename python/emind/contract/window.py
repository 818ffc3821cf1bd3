"""What a window is: the part of a weights file that the blocks obey."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import inf, isfinite

NORMALISATIONS = ("max_abs",)
CLASSIFICATION, REGRESSION, ANOMALY, RECONSTRUCTION = "classification", "regression", "anomaly", "reconstruction"
PROTOTYPES = "prototypes"
RATE_TOLERANCE = 1e-3


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
class Domain:
    """What one head was trained on: windows of ``length`` samples, at rates in Hz. Heads of one file may differ in it.

    Outside of it a head answers all the same, and its answer says that it is outside.
    """

    length: int
    rate_min_hz: float = 0.0
    rate_max_hz: float = inf

    def covers(self, length: int, rate_hz: float) -> bool:
        """Whether training saw windows of this length at this rate; NaN, a rate that nobody knows, lies in any range.

        A range of one rate is taken with the tolerance of a crystal oscillator.
        """
        low, high = self.rate_min_hz * (1 - RATE_TOLERANCE), self.rate_max_hz * (1 + RATE_TOLERANCE)
        return length == self.length and not (rate_hz < low or rate_hz > high)

    def __str__(self) -> str:
        at = f"{self.rate_min_hz:g}"
        if self.rate_max_hz != self.rate_min_hz:
            at += f" to {self.rate_max_hz:g}"
        rates = "any rate" if self.rate_max_hz == inf and not self.rate_min_hz else f"{at} samples a second"
        return f"windows of {self.length} samples at {rates}"

    @classmethod
    def of_heads(cls, names: Iterable[str], window: WindowSpec, training: dict) -> dict[str, Domain]:
        """Domains of these heads, from the window and the entry ``training`` of a weights file's header.

        What the header does not say of a head is that of the file's window. Heads that were kept from another file have
        their domain in what that file said.
        """
        whole = cls(window.length, window.rate_min_hz, window.rate_max_hz)
        return {name: cls._of(name, whole, training) for name in names}

    @classmethod
    def _of(cls, name: str, whole: Domain, training: dict) -> Domain:
        while isinstance(training, dict):
            if name in training.get("heads", {}):
                told = training["heads"][name]
                low, high = told.get("rates_hz") or (0.0, inf)
                return cls(int(told["length"]), float(low), float(high))
            kept = training.get("kept_heads", {})
            training = kept.get("training") if name in kept.get("heads", ()) else None
        return whole


@dataclass(frozen=True)
class Parameter:
    """A quantity that a regression head tells: name, SI unit (empty for a count) and the range training normalised by.

    The name is that of its Parquet column and of its entry in tags.
    """

    name: str
    unit: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ValueError(f"parameter {self.name}: the range {self.low} to {self.high} is empty or not finite")


RADAR_PARAMETERS = (
    Parameter("num_pulses", "", 2.0, 6.0),
    Parameter("pulse_width", "s", 10e-6, 16e-6),
    Parameter("pri", "s", 17e-6, 23e-6),
    Parameter("pulse_time_delay", "s", 1e-6, 10e-6),
)
"""What EMind asks of RadChar, with RadChar's ranges (section VI-C.2)."""


@dataclass(frozen=True)
class HeadSpec:
    """A head's name, kind and what its outputs mean, in order.

    ``classification``  a logit for each of ``labels``
    ``anomaly``         logits of the two ``labels``, normal and anomalous, by the distance of the features to those of
                        normal windows: to the nearest of ``centres`` points
    ``regression``      logits of ``labels``, if there are any, then a normalised value for each of ``parameters``
    ``reconstruction``  ``sources`` waveforms: 1 denoises, 2 separates. With ``skip`` the head sees the samples besides
                        the features and corrects them; without, it is the paper's, which sees features only
    ``prototypes``      a logit for each of ``labels``, which are enrolled classes of the head ``extends``, perhaps none:
                        from ``windows`` enrolled windows with ``views`` of them, ``centres`` points and ``references`` windows
                        of known classes; it sees ``components`` of the spectral features besides the pooled ones

    ``linear``: a classification or regression of one linear layer, as a probe of a frozen encoder has it.
    """

    name: str
    kind: str
    labels: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    sources: int = 0
    skip: bool = False
    centres: int = 0
    linear: bool = False
    extends: str = ""
    windows: int = 0
    references: int = 0
    views: int = 0
    components: int = 0

    def __post_init__(self) -> None:
        fault = {
            "classification": "needs labels" if not self.labels else "",
            "anomaly": "needs two labels and a centre" if len(self.labels) != 2 or self.centres < 1 else "",
            "regression": "needs parameters" if not self.parameters else "",
            "reconstruction": "needs a source" if self.sources < 1 else "",
            "prototypes": "needs a head to extend, centres and references" if not self.extends or self.centres < 1
            or self.references < 1 or self.windows < len(self.labels) else "",
        }.get(self.kind, "")
        if fault:
            raise ValueError(f"head {self.name} of kind {self.kind} {fault}")
        for names in (self.labels, [parameter.name for parameter in self.parameters]):
            if len(set(names)) < len(names):
                raise ValueError(f"head {self.name}: a name stands twice among {', '.join(names)}")

    def to_dict(self) -> dict:
        """As in a weights file: what a kind has no use for is left out."""
        fields = asdict(self)
        optional = ("parameters", "sources", "skip", "centres", "linear", "extends", "windows", "references",
                    "views", "components")
        return {key: value for key, value in fields.items() if key not in optional or value}

    @classmethod
    def from_dict(cls, fields: dict) -> HeadSpec:
        parameters = tuple(Parameter(**each) for each in fields.get("parameters", ()))
        return cls(**{**fields, "labels": tuple(fields["labels"]), "parameters": parameters})
