"""WiSig, compact sets (cores.ee.ucla.edu; ManySig, ManyTx, ManyRx, SingleDay): one pickle.

    {"tx_list", "rx_list", "capture_date_list", "equalized_list", "max_sig",
     "data": [tx][rx][date][equalized] -> (n, 256, 2) float64}

Certain: the publisher's data_utilities.py reads it so. 25 MHz, 802.11a/g. The emitter goes to ``device_id``; receiver,
date and number make ``transmission_id``, which the raw and the equalised copy of a packet share.
The full set (one pickle a node) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from emind.contract.schema import Signal

from .safe_pickle import load
from .source import Source, foreign, pairs_to_iq

RATE_HZ = 25e6
LISTS = ("tx_list", "rx_list", "capture_date_list", "equalized_list")


def cells(path: Path, data: Any, names: list[list], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple, np.ndarray]]:
    """(emitter, receiver, date, equalised) and the signals, of every cell."""
    if len(at) < len(names):
        level = names[len(at)]
        if not isinstance(data, list) or len(data) != len(level):
            raise foreign(path, f"not a compact WiSig set: data{list(at)} has no entry for each of {LISTS[len(at)]}")
        for name, part in zip(level, data):
            yield from cells(path, part, names, (*at, str(name)))
        return
    if isinstance(data, list) and not data:
        return
    if not isinstance(data, np.ndarray) or (data.size and (data.ndim != 3 or data.shape[1:] != (256, 2)
                                                           or data.dtype.kind != "f")):
        raise foreign(path, f"not a compact WiSig set: data{list(at)} does not hold (n, 256, 2) real numbers")
    if data.size:
        yield at, data


def read(path: Path, length: int | None = None) -> Iterator[Signal]:
    held = load(path)
    if not isinstance(held, dict) or not all(isinstance(held.get(name), list) and held[name] for name in LISTS):
        raise foreign(path, f"not a compact WiSig set: a dict with {', '.join(LISTS)} is expected")
    whole = list(cells(path, held.get("data"), [held[name] for name in LISTS]))
    for (emitter, receiver, date, _), block in whole:
        for number, row in enumerate(pairs_to_iq(block)):
            yield Signal(row, "WiSig", RATE_HZ, device_id=emitter,
                         transmission_id=f"{emitter}/{receiver}/{date}/{number}", modulation="OFDM")


SOURCES = (Source("WiSig", "ManySig.pkl ManyTx.pkl ManyRx.pkl SingleDay.pkl", True, read),)
