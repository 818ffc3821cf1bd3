"""HisarMod2019.1 (IEEE DataPort): {train,test}_data.csv, a signal a line, 1,024 complex numbers such as ``0.1-0.2i``.

Beside it ``_labels.csv`` (a class number a line: tens digit the order within the family, ones digit the family) and
``_snr.csv`` (dB). Certain for the files and the class numbers, which public readers share; the sampling rate (1 MHz) is
from the EMind paper. The repackaged .mat and .h5 copies that circulate are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path

import numpy as np
from emind.contract.schema import Signal

from .source import Source, beside, foreign

RATE_HZ = 1e6
SAMPLES = 1024
FAMILIES = (
    ("BPSK", "QPSK", "8PSK", "16PSK", "32PSK", "64PSK"),
    ("4QAM", "8QAM", "16QAM", "32QAM", "64QAM", "128QAM", "256QAM"),
    ("2FSK", "4FSK", "8FSK", "16FSK"),
    ("4PAM", "8PAM", "16PAM"),
    ("AM-DSB", "AM-DSB-SC", "AM-USB", "AM-LSB", "FM", "PM"),
)
CLASSES = {10 * order + family: name for family, names in enumerate(FAMILIES) for order, name in enumerate(names)}


def read(path: Path, length: int | None = None) -> Iterator[Signal]:
    if not path.name.endswith("_data.csv"):
        raise foreign(path, "not HisarMod2019.1: give train_data.csv or test_data.csv")
    stem = path.name.removesuffix("_data.csv")
    labels, snrs = beside(path, f"{stem}_labels.csv"), beside(path, f"{stem}_snr.csv")
    with ExitStack() as stack:
        files = [stack.enter_context(p.open(encoding="ascii", errors="replace")) for p in (path, labels, snrs)]
        for number, lines in enumerate(zip_longest(*files), 1):
            if None in lines:
                short = (path, labels, snrs)[lines.index(None)]
                raise foreign(short, f"ends after {number - 1} lines, before the files that belong to it")
            yield Signal(samples(path, number, lines[0]), "HisarMod2019.1", RATE_HZ,
                         snr=value(snrs, number, lines[2]), modulation=class_name(labels, number, lines[1]))


def samples(path: Path, number: int, line: str) -> np.ndarray:
    try:
        found = np.array([complex(part) for part in line.replace("i", "j").replace(" ", "").split(",")], np.complex64)
    except ValueError:
        raise foreign(path, f"not HisarMod2019.1: line {number} has something that is not a complex number") from None
    if len(found) != SAMPLES:
        raise foreign(path, f"line {number} has {len(found)} numbers instead of {SAMPLES}: cut short, or another set")
    return found


def value(path: Path, number: int, line: str) -> float:
    try:
        return float(line)
    except ValueError:
        raise foreign(path, f"line {number} is not a number: {line.strip()[:40]!r}") from None


def class_name(path: Path, number: int, line: str) -> str:
    found = CLASSES.get(int(value(path, number, line)))
    if found is None:
        raise foreign(path, f"line {number}: {line.strip()} is not a class of HisarMod2019.1")
    return found


SOURCES = (Source("HisarMod2019.1", "train_data.csv test_data.csv", True, read),)
