"""Small corpora for the tests: every signal knows who it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from emind.contract.schema import Signal
from emind.storage.parquet import FLOAT32, Writer


def signal_of(mark: int, length: int) -> np.ndarray:
    """Complex64 (length,) whose values follow from ``mark``; its greatest magnitude is 2, so normalising halves it."""
    draw = np.random.default_rng(mark)
    x = (draw.uniform(-1, 1, length) + 1j * draw.uniform(-1, 1, length)).astype(np.complex64)
    x[draw.integers(length)] = 2.0
    return x


def write_set(
    folder: Path, name: str, lengths: list[int], snr=10.0, rate=1e6, part: str = "train", group: int = 4096,
    iq_format: str = FLOAT32, first_mark: int = 0, changed=None,
) -> Path:
    """``<name>-<part>.parquet`` with a signal of each length; ``group``: samples of a row group, at most about.

    ``snr`` and ``rate`` are one value or a list; ``changed``: row -> samples in place of the usual.
    """
    path = folder / f"{name}-{part}.parquet"
    with Writer(path, origin="test", row_group_bytes=8 * group, iq_format=iq_format) as writer:
        for row, length in enumerate(lengths):
            iq = (changed or {}).get(row)
            if iq is None:
                iq = signal_of(first_mark + row, length)
                if iq_format != FLOAT32:
                    iq = (np.round(iq.view(np.float32) * 8192) / 32768).astype(np.float32).view(np.complex64)
            writer.write(Signal(
                iq, dataset_name=name, snr=snr[row] if isinstance(snr, list) else snr,
                sampling_rate=rate[row] if isinstance(rate, list) else rate))
    return path
