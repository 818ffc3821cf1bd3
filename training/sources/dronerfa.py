"""DroneRFa (Yu et al., 2024; scidb.cn): MATLAB 7.3, vectors RF0_I, RF0_Q, RF1_I, RF1_Q, at 100 MHz, cut into windows.

Names: ``T<type>_D<distance>_S<band and number>.mat``, or without D indoors; all codes binary. Certain: public readers
agree on names and variables. The first digit of S says which receiver channel the drone uses: 0 for RF0, 1 for RF1; of
the background (T0000) both are read. The type's code is the ``device_id``; values stay as the file has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from emind.contract.schema import Signal

from .hdf5 import open_mat
from .source import Source, foreign, halves_to_iq

RATE_HZ = 100e6
NAME = re.compile(r"(T[01]{4,5})(?:_D[01]{2})?_S([01])[01]{3}\.mat")
BACKGROUND = "T0000"
PART = 1 << 20  # samples read together


def read(path: Path, length: int) -> Iterator[Signal]:
    name = NAME.fullmatch(path.name)
    if not name:
        raise foreign(path, "not DroneRFa: names are like T0001_D00_S0000.mat")
    channels = ("RF0", "RF1") if name[1] == BACKGROUND else (f"RF{name[2]}",)
    with open_mat(path, tuple(f"{channel}_{part}" for channel in channels for part in "IQ")) as held:
        for channel in channels:
            if f"{channel}_I" not in held or f"{channel}_Q" not in held:
                raise foreign(path, f"not DroneRFa: it has no {channel}_I and {channel}_Q")
            i, q = held[f"{channel}_I"], held[f"{channel}_Q"]
            if i.size != q.size or i.size < length:
                raise foreign(path, f"{channel} has {i.size} and {q.size} samples: not equal, or fewer than {length}")
        for channel in channels:
            i, q = held[f"{channel}_I"], held[f"{channel}_Q"]
            whole, step = i.size // length * length, max(1, PART // length) * length
            for start in range(0, whole, step):
                part = slice(start, min(start + step, whole))
                for row in halves_to_iq(i[part], q[part]).reshape(-1, length):
                    yield Signal(row, "DroneRFa", RATE_HZ, device_id=name[1], transmission_id=f"{path.stem}/{channel}")


SOURCES = (Source("DroneRFa", "T*_D*_S*.mat", True, read, 1024),)
