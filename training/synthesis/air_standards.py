"""Symbol rates of standards: at which sample rate a receiver sees a signal that looks like one of theirs."""

from __future__ import annotations

import math

from numpy.random import Generator

# A signal that looks like one of a standard has its rate in this share of the windows: the rest is equipment with rates
# of its own.
STANDARD = 0.6
# Symbols, chips or bits a second, or bandwidth; how far OFDM's carriers lie apart stands in air_ofdm.py.
RATES_HZ = {
    "802.15.4": (2e6,),  # chips at 2.4 GHz: below one gigahertz a symbol has another number of them
    "Bluetooth": (1e6, 1e6, 1e6, 2e6, 1.152e6),  # and DECT, the last
    "short range": (4.8e3, 9.6e3, 19.2e3, 38.4e3, 40e3, 50e3, 100e3, 250e3),
    "GMSK": (9.6e3, 9.6e3, 270.833e3, 270.833e3),
    "private radio": (4.8e3, 4.8e3, 2.4e3),
    "telegram": (32.768e3, 100e3, 4.8e3, 1.2e3, 2.4e3, 9.6e3),
    "LoRa": (125e3, 125e3, 250e3, 500e3),
    "Mode S": (2e6,),  # half bits
    "broadcast": (15e3,),  # bandwidth of the audio
}


def rate_of(rng: Generator, name: str, samples: float) -> float:
    """Sample rate in Hz of a receiver that has so many samples of a symbol, or nan."""
    return float(rng.choice(RATES_HZ[name])) * samples if rng.random() < STANDARD else math.nan


def rate_if_standard(rng: Generator, rate: float) -> float:
    """The rate for the share of windows that have a standard's, nan for the others."""
    return rate if rng.random() < STANDARD else math.nan


