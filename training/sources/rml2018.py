"""RML2018.01A (deepsig.ai, GOLD_XYZ_OSC.0001_1024.hdf5): X (n, 1024, 2) float32, Y (n, 24) one-hot, Z (n, 1) SNR in dB.

Certain for the arrays. The classes that belong to the 24 columns are those of ``classes-fixed.txt``; the
``classes.txt`` published first has them in another order, which does not fit the signals. The sampling rate is not in
the file; 1 MHz is what publications say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from emind.contract.schema import Signal

from .hdf5 import dataset, open_hdf5
from .source import BLOCK, Source, foreign, pairs_to_iq

RATE_HZ = 1e6
CLASSES = (
    "OOK", "4ASK", "8ASK", "BPSK", "QPSK", "8PSK", "16PSK", "32PSK", "16APSK", "32APSK", "64APSK", "128APSK", "16QAM",
    "32QAM", "64QAM", "128QAM", "256QAM", "AM-SSB-WC", "AM-SSB-SC", "AM-DSB-WC", "AM-DSB-SC", "FM", "GMSK", "OQPSK",
)  # fmt: skip


def read(path: Path, length: int | None = None) -> Iterator[Signal]:
    with open_hdf5(path) as file:
        x, y, z = (dataset(file, path, name) for name in "XYZ")
        rows = len(x) if x.shape else 0
        if x.shape != (rows, 1024, 2) or x.dtype.kind != "f" or y.shape != (rows, 24) or z.shape != (rows, 1):
            raise foreign(path, f"not RML2018.01A: X {x.shape}, Y {y.shape}, Z {z.shape} instead of "
                                "(n, 1024, 2), (n, 24), (n, 1)")
        for start in range(0, rows, BLOCK):
            part = slice(start, start + BLOCK)
            hot, snr, iq = y[part], z[part, 0], pairs_to_iq(x[part])
            if not ((hot != 0).sum(1) == 1).all():
                bad = start + int(np.flatnonzero((hot != 0).sum(1) != 1)[0])
                raise foreign(path, f"not RML2018.01A: row {bad} of Y does not name one class")
            for row, which, level in zip(iq, hot.argmax(1), snr):
                yield Signal(row, "RML2018.01A", RATE_HZ, snr=float(level), modulation=CLASSES[which])


SOURCES = (Source("RML2018.01A", "GOLD_XYZ_OSC.0001_1024.hdf5", True, read),)
