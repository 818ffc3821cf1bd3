"""Panoradio HF (panoradio-sdr.de): dataset_panoradio_hf.npy (n, 2048) complex64 and ..._tags.csv: ``idx, mode, snr``.

Certain: the publisher's readme and public readers agree. 6 kHz. The transmission mode (``rtty45_170``) goes to
``modulation``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from emind.contract.schema import Signal

from .source import BLOCK, Source, foreign, load_npy

RATE_HZ = 6e3


def tags(path: Path, rows: int) -> list[tuple[str, float]]:
    """(mode, SNR) of each row, from the one tags file in the folder."""
    found = sorted(path.parent.glob("*tags.csv"))
    if len(found) != 1:
        raise foreign(path, f"needs its tags beside it: {len(found)} files there end in tags.csv instead of one")
    out = []
    try:
        with found[0].open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True)
            if [cell.strip() for cell in next(lines, [])] != ["idx", "mode", "snr"]:
                raise foreign(found[0], "not tags of Panoradio HF: the first line must be idx, mode, snr")
            for index, mode, snr in lines:
                if int(index) != len(out):
                    raise foreign(found[0], f"row {len(out)} has the number {index}: not in the signals' order")
                out.append((mode.strip(), float(snr)))
    except (OSError, ValueError, csv.Error) as fault:
        raise foreign(found[0], f"row {len(out)} is not idx, mode, snr ({fault})") from None
    if len(out) != rows:
        raise foreign(found[0], f"has {len(out)} rows for {rows} signals in {path.name}")
    return out


def read(path: Path, length: int | None = None) -> Iterator[Signal]:
    iq = load_npy(path)
    if iq.ndim != 2 or iq.shape[1] != 2048 or iq.dtype.kind != "c":
        raise foreign(path, f"not Panoradio HF: {iq.dtype} {iq.shape} instead of complex (n, 2048)")
    known = tags(path, len(iq))
    for start in range(0, len(iq), BLOCK):
        block = iq[start : start + BLOCK].astype(np.complex64)
        for row, (mode, snr) in zip(block, known[start : start + BLOCK]):
            yield Signal(row, "Panoradio HF", RATE_HZ, snr=snr, modulation=mode)


SOURCES = (Source("Panoradio HF", "dataset_panoradio_hf.npy", True, read),)
