"""The air set as rows of a file: every class at the lengths of Table III, so that pretraining sees them all."""

from __future__ import annotations

import numpy as np
from emind.contract.schema import Signal
from numpy.random import Generator

from .air import CLASSES, AirConfig, told_rate, window_and_rate
from .recipe import Recipe, cell, iq

LENGTHS = (128, 256, 512, 600, 974, 1024, 2048, 4096)


def air(rng: Generator, item: int) -> list[Signal]:
    """Air: 23 classes as a receiver in the field delivers them, 128 to 4,096 samples, SNR -6 to 30 dB.

    The chain of `synthesis/air.py`: transmitter, burst, propagation, neighbour, receiver filter, mirror, converter,
    and for some the tuner of `emind classify`. SNR is the signal's power while it is on over the noise power in the
    window's band. The sampling rate of a signal that looks like a standard's is mostly one at which its
    symbols last as there, else anywhere from 8 kHz to 62 MHz; three tenths of the windows do not tell it.
    ``infer_class`` is "noise" where there is no signal.
    """
    length, name = cell(item, LENGTHS, CLASSES)
    config = AirConfig(length=length)
    x, snr, standard = window_and_rate(rng, name, config)
    known = float(told_rate(rng, np.float64(standard), config))
    rate = known if np.isfinite(known) else None
    if name == "noise":
        return [Signal(iq(x), "Air", rate, infer_class=name)]
    return [Signal(iq(x), "Air", rate, snr=snr if np.isfinite(snr) else None, modulation=name)]


# Version 2: standards' sample rates, and standards without what they have not.
RECIPES = (Recipe("Air", air, 736, 73_600, 736_000, note="lengths of Table III", version=2),)
