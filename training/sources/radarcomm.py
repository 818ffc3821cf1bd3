"""RadarCommDataset (github.com/ANDROComputationalSolutions/RadarCommDataset): HDF5, one dataset a signal.

A dataset's name is a tuple as text, ``('pulsed', 'Airborne-detection', 10, 0)``: modulation, signal, SNR in dB, number;
it holds 256 numbers, 128 I and then 128 Q. 10 MHz. Certain for RadComDynamic.hdf5 (README and scripts of the
publisher). Its later files (AWGN, over the air) are read when they are of this layout, which public text says only of
the names, and refused otherwise. The signal of a radar (``Airborne-detection``) goes to ``radar_segmentation``; that of
a communication follows from its modulation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from emind.contract.schema import Signal

from .hdf5 import dataset, open_hdf5
from .source import Source, foreign, halves_to_iq

RATE_HZ = 10e6
MODULATIONS = {
    "pulsed": "Pulsed CW", "fmcw": "FMCW", "bpsk": "BPSK", "amdsb": "AM-DSB", "amssb": "AM-SSB", "ask": "ASK",
}  # fmt: skip
RADAR = {"pulsed", "fmcw"}


def parsed(path: Path, name: str) -> tuple[str, str, float, int]:
    """Modulation (plain), signal, SNR, number of a dataset's name."""
    try:
        modulation, signal, snr, number = ast.literal_eval(name)
        plain = modulation.lower().replace("-", "")
        if plain in MODULATIONS and isinstance(signal, str):
            return plain, signal, float(snr), int(number)
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
        pass
    raise foreign(path, f"not RadarCommDataset: {name[:80]!r} is not (modulation, signal, SNR, number)")


def read(path: Path, length: int | None = None) -> Iterator[Signal]:
    with open_hdf5(path) as file:
        names = list(file)
        if not names:
            raise foreign(path, "not RadarCommDataset: the file is empty")
        for name in names:
            modulation, signal, snr, _ = parsed(path, name)
            held = dataset(file, path, name)
            if held.size != 256 or held.dtype.kind != "f":
                raise foreign(path, f"not RadarCommDataset: {name} holds {held.dtype} {held.shape}, not 256 numbers")
            values = held[...].reshape(2, 128)
            radar = modulation in RADAR
            named = MODULATIONS[modulation]
            yield Signal(halves_to_iq(*values), "RadarCommDataset", RATE_HZ, snr=snr, modulation=named,
                         radar_waveform=named if radar else None, radar_segmentation=signal if radar else None)


SOURCES = (Source("RadarCommDataset", "RadComDynamic.hdf5", True, read),)
