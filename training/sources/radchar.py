"""RadChar (github.com/abcxyzi/RadChar): HDF5 with iq (n, 512) complex and labels (n,), a record a signal.

Certain: names, fields, units and the numbers of the classes stand in the publisher's README. 3.2 MHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from emind.contract.schema import Signal

from .hdf5 import dataset, open_hdf5
from .source import BLOCK, Source, foreign

RATE_HZ = 3.2e6
CLASSES = ("Coherent Pulse Train", "Barker Code", "Polyphase Barker Code", "Frank Code", "LFM")
FIELDS = ("index", "signal_type", "number_of_pulses", "pulse_width", "time_delay", "pulse_repetition_interval",
          "signal_to_noise_ratio")


def read(path: Path, length: int | None = None) -> Iterator[Signal]:
    with open_hdf5(path) as file:
        iq, labels = dataset(file, path, "iq"), dataset(file, path, "labels")
        if iq.ndim != 2 or iq.shape[1] != 512 or iq.dtype.kind != "c":
            raise foreign(path, f"not RadChar: iq is {iq.dtype} {iq.shape} instead of complex (n, 512)")
        if labels.shape != iq.shape[:1] or not set(FIELDS) <= set(labels.dtype.names or ()):
            raise foreign(path, f"not RadChar: labels {labels.shape} need one record a signal with {', '.join(FIELDS)}")
        for start in range(0, len(iq), BLOCK):
            block, known = iq[start : start + BLOCK].astype(np.complex64), labels[start : start + BLOCK]
            for row, label in zip(block, known):
                kind = int(label["signal_type"])
                if not 0 <= kind < len(CLASSES):
                    raise foreign(path, f"not RadChar: signal {int(label['index'])} has the unknown type {kind}")
                yield Signal(
                    row, "RadChar", RATE_HZ, snr=float(label["signal_to_noise_ratio"]), radar_waveform=CLASSES[kind],
                    pri=float(label["pulse_repetition_interval"]), pulse_time_delay=float(label["time_delay"]),
                    num_pulses=int(label["number_of_pulses"]), pulse_width=float(label["pulse_width"]),
                )  # fmt: skip


SOURCES = (Source("RadChar", "RadChar-*.h5", True, read),)
