"""Transmitter Classification (Morin et al., 2019): packets of 600 samples, real and imaginary part in separate files.

Two forms, both made by the authors' gr-txid (receiver flowgraph and notebook): ``<any>re_<receiver>_<emitter>.bin``
with ``<any>im_<receiver>_<emitter>.bin``, float32; or pickles ``pickle_rx_real`` and ``pickle_rx_imag`` (n, 600) with
``pickle_rx_labels`` (n, 2): emitter, receiver. NOT certain: this is what that code writes and reads; the published
download could not be seen. 5 MHz (EMind paper). A packet cut at the end of a file is left out, as the authors do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from emind.contract.schema import Signal

from .safe_pickle import load
from .source import BLOCK, Source, beside, foreign, halves_to_iq

RATE_HZ = 5e6
PACKET = 600
NAME = re.compile(r"(.*)re_(\d+)_(\d+)\.bin")


def signal(row: np.ndarray, emitter: int) -> Signal:
    return Signal(row, "Transmitter Classification", RATE_HZ, device_id=str(emitter))


def read(path: Path, length: int | None = None) -> Iterator[Signal]:
    name = NAME.fullmatch(path.name)
    if name:
        yield from read_raw(path, beside(path, f"{name[1]}im_{name[2]}_{name[3]}.bin"), int(name[3]))
    elif path.name.endswith("_real"):
        yield from read_pickle(path)
    else:
        raise foreign(path, "not Transmitter Classification: give re_<receiver>_<emitter>.bin or pickle_rx_real")


def read_raw(real: Path, imaginary: Path, emitter: int) -> Iterator[Signal]:
    sizes = [p.stat().st_size for p in (real, imaginary)]
    if sizes[0] != sizes[1] or sizes[0] % 4 or sizes[0] < 4 * PACKET:
        raise foreign(real, f"{sizes[0]} bytes, and {sizes[1]} in {imaginary.name}: not two equal files of float32 "
                            "packets")
    i, q = (np.memmap(p, "<f4", "r") for p in (real, imaginary))
    count = len(i) // PACKET
    for start in range(0, count, BLOCK):
        part = slice(start * PACKET, min(start + BLOCK, count) * PACKET)
        for row in halves_to_iq(i[part], q[part]).reshape(-1, PACKET):
            yield signal(row, emitter)


def read_pickle(real: Path) -> Iterator[Signal]:
    stem = real.name.removesuffix("_real")
    imaginary, named = beside(real, f"{stem}_imag"), beside(real, f"{stem}_labels")
    i, q, labels = load(real), load(imaginary), load(named)
    if not all(isinstance(a, np.ndarray) and a.ndim == 2 and a.dtype.kind == "f" for a in (i, q, labels)) \
            or i.shape != (len(i), PACKET) or q.shape != i.shape or labels.shape != (len(i), 2):
        raise foreign(real, f"not Transmitter Classification: arrays of (n, {PACKET}) twice and (n, 2) are expected")
    for row, label in zip(halves_to_iq(i, q), labels):
        yield signal(row, int(label[0]))


SOURCES = (Source("Transmitter Classification", "re_*_*.bin, or pickle_rx_real", False, read),)
