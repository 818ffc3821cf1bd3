"""The 17 attributes of a signal (EMind, section IV-B): column names, their order, units and what may stand in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import EMindError

SCHEMA_VERSION = 1

# column -> what it holds. The order is the order in the file.
KINDS: dict[str, str] = {
    "iq": "samples",
    "dataset_name": "text",
    "sampling_rate": "real",  # Hz
    "device_id": "text",  # the emitter
    "transmission_id": "text",  # of the burst, or of what signals that belong together have in common
    "infer_class": "text",  # interference
    "snr": "real",  # dB
    "isr": "real",  # dB
    "modulation": "text",
    "radar_waveform": "text",
    "pri": "real",  # s
    "pulse_time_delay": "real",  # s
    "num_pulses": "whole",
    "pulse_width": "real",  # s
    "band_width": "real",  # Hz
    "amplitude": "real",
    "radar_segmentation": "text",  # type of the segment, or one class number a sample joined by commas
}
COLUMNS: tuple[str, ...] = tuple(KINDS)
IQ = "iq"
LABELS: tuple[str, ...] = tuple(name for name in COLUMNS if name != IQ)
TEXTS: tuple[str, ...] = tuple(name for name, kind in KINDS.items() if kind == "text")
WHOLE_MAX = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Signal:
    """One row: ``iq`` complex64 (n,), and what is known of it; None where nothing is. Units: see ``KINDS``."""

    iq: np.ndarray
    dataset_name: str | None = None
    sampling_rate: float | None = None
    device_id: str | None = None
    transmission_id: str | None = None
    infer_class: str | None = None
    snr: float | None = None
    isr: float | None = None
    modulation: str | None = None
    radar_waveform: str | None = None
    pri: float | None = None
    pulse_time_delay: float | None = None
    num_pulses: int | None = None
    pulse_width: float | None = None
    band_width: float | None = None
    amplitude: float | None = None
    radar_segmentation: str | None = None

    def labels(self) -> dict[str, Any]:
        """Everything but ``iq``, in the order of the columns."""
        return {name: getattr(self, name) for name in LABELS}


def checked_label(name: str, value: Any) -> Any:
    """The value as its column stores it: str, float, int or None. EMindError names a column or value that cannot be.

    Numbers become text in a text column (emitters are often numbered); a number that is not finite is refused.
    """
    kind = KINDS.get(name)
    if kind is None or name == IQ:
        raise EMindError(f"there is no label {name!r}; known: {', '.join(LABELS)}")
    if value is None:
        return None
    if kind == "text":
        if isinstance(value, (str, int, np.integer)) and not isinstance(value, bool):
            return str(value)
        raise EMindError(f"{name} is text, not {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise EMindError(f"{name} is a number, not {value!r}") from None
    if not np.isfinite(number):
        raise EMindError(f"{name} must be a finite number or None, not {value!r}")
    if kind == "real":
        return number
    if number != int(number) or abs(number) > WHOLE_MAX:
        raise EMindError(f"{name} is a whole number, not {value!r}")
    return int(number)


def changed_labels(before: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``before`` with the columns of ``change``, checked; None takes a label away. EMindError leaves ``before`` whole."""
    merged = {**before, **{name: checked_label(name, value) for name, value in change.items()}}
    return {name: value for name, value in merged.items() if value is not None}
