"""RML2016.10A, 10B and 04C (deepsig.ai): one pickle of Python 2, {(modulation, SNR in dB): (n, 2, 128) float32}.

Certain: the publisher's own reading example and every public reader agree. The files do not state a sampling rate;
1 MHz is what the publications say (the generating scripts run their channel at 200 kHz). Labels stay as published
(``QAM16``), their SNR is the generator's setting, not a measured one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from emind.contract.schema import Signal

from .safe_pickle import load
from .source import Source, foreign, halves_to_iq

RATE_HZ = 1e6
CLASSES_10A = {"8PSK", "AM-DSB", "AM-SSB", "BPSK", "CPFSK", "GFSK", "PAM4", "QAM16", "QAM64", "QPSK", "WBFM"}
CLASSES = {
    "RML2016.10A": CLASSES_10A, "RML2016.10B": CLASSES_10A - {"AM-SSB"}, "RML2016.04C": CLASSES_10A,
}  # fmt: skip


def read(name: str, path: Path) -> Iterator[Signal]:
    held = load(path)
    if not isinstance(held, dict) or not held:
        raise foreign(path, f"not {name}: a dict of (modulation, SNR) is expected")
    for key, block in held.items():  # all of it, before a row is given: a foreign file gives none
        if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str) and isinstance(key[1], int)):
            raise foreign(path, f"not {name}: key {key!r} is not (modulation, SNR)")
        if key[0] not in CLASSES[name]:
            raise foreign(path, f"not {name}: it has no class {key[0]!r}")
        if not isinstance(block, np.ndarray) or block.shape[1:] != (2, 128) or block.dtype.kind != "f":
            raise foreign(path, f"not {name}: {key!r} does not hold (n, 2, 128) real numbers")
    for modulation, snr in sorted(held):
        block = held[modulation, snr]
        for row in halves_to_iq(block[:, 0], block[:, 1]):
            yield Signal(row, name, RATE_HZ, snr=float(snr), modulation=modulation)


SOURCES = tuple(
    Source(name, files, True, lambda path, length, name=name: read(name, path))
    for name, files in (("RML2016.10A", "RML2016.10a_dict.pkl"), ("RML2016.10B", "RML2016.10b.dat"),
                        ("RML2016.04C", "RML2016.04C.multisnr.pkl"))
)
