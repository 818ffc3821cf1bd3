"""ADS-B bursts of aircraft: Mono Receiver (MATLAB) and ADS-B (npy).

Mono Receiver (Liu et al., 2020; adsb_records_qt.mat and adsb_bladerf2_10M_qt0.mat): vectors icaoLst (n),
msgIdLst (n), rawIMatrix and rawQMatrix (n x samples of a burst, one behind the other), snrLst (n) where there.
Certain for the names and their order: the publisher's MATLAB code reads them so. The file states no rate: 10 MHz where
its name says 10M, else the 8 MHz of the paper. ``device_id`` is the aircraft's ICAO address in hexadecimal.
The preprocessed adsb-107loaded.mat has no samples and is refused.

ADS-B (Tu et al., 2022): NOT certain for the set of 198 aircraft and 3,000 samples that the paper uses; no public text
shows its files. What is read is the form in which parts of it circulate, X_<part>.npy (n, samples, 2) real with
Y_<part>.npy (n,) class numbers. 50 MHz, from the EMind paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from emind.contract.schema import Signal

from .hdf5 import open_mat
from .source import BLOCK, Source, beside, foreign, halves_to_iq, load_npy, pairs_to_iq

MONO = ("icaoLst", "msgIdLst", "rawIMatrix", "rawQMatrix", "snrLst")
MONO_NEEDED = MONO[:4]
ADSB_RATE_HZ = 50e6


def mono_receiver(path: Path, length: int | None = None) -> Iterator[Signal]:
    with open_mat(path, MONO) as held:
        missing = [name for name in MONO_NEEDED if name not in held]
        if missing:
            raise foreign(path, f"not Mono Receiver: it has no {', '.join(missing)}")
        count, samples = held["msgIdLst"].size, held["rawIMatrix"].size
        if not count or samples % count or held["icaoLst"].size != count or held["rawQMatrix"].size != samples:
            raise foreign(path, f"not Mono Receiver: {samples} and {held['rawQMatrix'].size} samples and "
                                f"{held['icaoLst'].size} addresses for {count} messages")
        burst = samples // count
        rate = 10e6 if "_10M" in path.name else 8e6
        icao = held["icaoLst"][:]
        snr = held["snrLst"][:] if "snrLst" in held and held["snrLst"].size == count else np.full(count, np.nan)
        for start in range(0, count, BLOCK):
            part = slice(start * burst, min(start + BLOCK, count) * burst)
            block = halves_to_iq(held["rawIMatrix"][part], held["rawQMatrix"][part]).reshape(-1, burst)
            for row, address, level in zip(block, icao[start : start + BLOCK], snr[start : start + BLOCK]):
                yield Signal(row, "Mono Receiver", rate, device_id=f"{int(address):06X}",
                             snr=float(level) if np.isfinite(level) else None, modulation="ADS-B")


def adsb(path: Path, length: int | None = None) -> Iterator[Signal]:
    if not (path.name.startswith("X_") and path.suffix == ".npy"):
        raise foreign(path, "not ADS-B: give X_<part>.npy, with Y_<part>.npy beside it")
    x = load_npy(path)
    labels = beside(path, "Y_" + path.name[2:])
    y = load_npy(labels)
    if x.ndim != 3 or x.shape[2] != 2 or x.shape[1] < 3 or x.dtype.kind != "f":
        raise foreign(path, f"not ADS-B: {x.dtype} {x.shape} instead of real (n, samples, 2)")
    if y.size != len(x) or max(y.shape, default=0) != y.size or y.dtype.kind not in "iuf":
        raise foreign(labels, f"not ADS-B: {y.dtype} {y.shape} instead of a class number for each of {len(x)} signals")
    classes = y.reshape(-1)
    for start in range(0, len(x), BLOCK):
        for row, aircraft in zip(pairs_to_iq(x[start : start + BLOCK]), classes[start : start + BLOCK]):
            yield Signal(row, "ADS-B", ADSB_RATE_HZ, device_id=str(int(aircraft)), modulation="ADS-B")


SOURCES = (
    Source("Mono Receiver", "adsb_records_qt.mat", True, mono_receiver),
    Source("ADS-B", "X_*.npy", False, adsb),
)
