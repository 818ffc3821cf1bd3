"""Sets of radar signals: EM-RadarParaIQSim, EM-Radar, EM-Radar-Mix, RadChar-regen.

SNR of a pulsed signal is its power while a pulse is on over the noise's power in the whole band.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from emind.contract.schema import Signal
from numpy.random import Generator

from . import channels as ch
from . import radar
from .recipe import ROLE, Published, Recipe, cell, iq

# (samples, Hz): 32 and 40 microseconds at either rate
PARA_WINDOWS = ((320, 10e6), (384, 12e6), (400, 10e6), (480, 12e6))


def _phase(rng: Generator) -> complex:
    return np.exp(2j * np.pi * rng.random())


def em_radar_para_iq_sim(rng: Generator, item: int) -> list[Signal]:
    """EM-RadarParaIQSim: 2 radar types, 3 parameters, 320/384/400/480 samples at 10/12 MHz, SNR 6 to 12 dB by 2.

    The paper names neither types nor parameters nor which length goes with which rate. Chosen: coherent pulse trains
    and LFM of 1 to 4 MHz; pulse width 1 to 4, repetition interval 6 to 12, delay 0 to 3 microseconds, each uniform;
    320 and 400 samples at 10 MHz, 384 and 480 at 12 MHz (32 and 40 microseconds). ``num_pulses`` is what begins in the
    window, the last one perhaps cut.
    """
    name, (n, rate), snr = cell(item, ("Coherent Pulse Train", "LFM"), PARA_WINDOWS, range(6, 14, 2))
    width, pri, delay = rng.uniform(1e-6, 4e-6), rng.uniform(6e-6, 12e-6), rng.uniform(0, 3e-6)
    shape = radar.waveform(rng, name, width * rate, rng.uniform(1e6, 4e6) / rate)
    starts = radar.starts_in(n, pri * rate, delay * rate)
    x = radar.pulses(shape, starts, n) * _phase(rng)
    y = x + ch.noise_for(rng, x, snr, x != 0)
    return [Signal(iq(y), "EM-RadarParaIQSim", rate, snr=snr, radar_waveform=name, pri=pri, pulse_time_delay=delay,
                   num_pulses=len(starts), pulse_width=width, amplitude=1.0)]


RADAR_RATE_HZ = 5e6
# emitter -> waveform, pulse width (s), repetition interval (s), bandwidth (Hz)
EMITTERS = {
    "emitter-0": ("Rectangular", 8e-6, 50e-6, 0.125e6), "emitter-1": ("Rectangular", 16e-6, 80e-6, 0.0625e6),
    "emitter-2": ("LFM", 20e-6, 60e-6, 1.0e6), "emitter-3": ("LFM", 30e-6, 90e-6, 2.0e6),
    "emitter-4": ("Phase Coded", 15e-6, 55e-6, 1.0e6), "emitter-5": ("Phase Coded", 31e-6, 100e-6, 1.0e6),
    "emitter-6": ("Stepped FM", 24e-6, 70e-6, 1.6e6), "emitter-7": ("Stepped FM", 16e-6, 45e-6, 0.8e6),
    "emitter-8": ("Custom FM", 25e-6, 65e-6, 1.5e6), "emitter-9": ("Custom FM", 18e-6, 75e-6, 2.2e6),
}  # fmt: skip


def em_radar(rng: Generator, item: int) -> list[Signal]:
    """EM-Radar: 10 emitters, 5 waveforms, 3 system parameters, 1,024 samples at 5 MHz, SNR -10 to 20 dB by 2.

    (10 emitters x 16 SNR x 2,048 = the paper's 327,680.) The paper names the waveforms in its list of nine and the
    parameters in Table III (width, repetition interval, bandwidth), not their values: ``EMITTERS`` has ours, two
    emitters a waveform, each parameter within +-5 % of its emitter's for each window. A small carrier offset (+-50 kHz)
    and a random start. The labels are those of the window, ``device_id`` names the emitter.
    """
    emitter, snr = cell(item, tuple(EMITTERS), range(-10, 22, 2))
    name, *values = EMITTERS[emitter]
    width, pri, band = np.array(values) * rng.uniform(0.95, 1.05, 3)
    n, rate = 1024, RADAR_RATE_HZ
    shape = radar.waveform(rng, name, width * rate, band / rate)
    delay = rng.uniform(0, pri)
    starts = radar.starts_in(n, pri * rate, delay * rate)
    x = ch.shift(radar.pulses(shape, starts, n), rng.uniform(-50e3, 50e3) / rate) * _phase(rng)
    y = x + ch.noise_for(rng, x, snr, x != 0)
    return [Signal(iq(y), "EM-Radar", rate, device_id=emitter, snr=snr, radar_waveform=name, pri=pri,
                   pulse_time_delay=delay, num_pulses=len(starts), pulse_width=width,
                   band_width=shape.bandwidth * rate, amplitude=1.0)]


MIXED = ("Rectangular", "Barker Code", "Polyphase Barker Code", "Frank Code", "LFM", "Phase Coded", "Stepped FM",
         "Custom FM")
MIXES = (*((one,) for one in MIXED), *combinations_with_replacement(MIXED, 2))


def em_radar_mix(rng: Generator, item: int) -> list[Signal]:
    """EM-Radar-Mix: 8 radar signals singly and in pairs, 1,024 samples at 5 MHz, SNR 12 dB, the clean sources kept.

    8 singles and 36 pairs (two of a kind included) x 2,800 = the paper's 123,200. Rows of an item: "N:mix", "N:source1"
    and, for a pair, "N:source2" (``transmission_id``, see `recipe.linked`); the mixture is the sum of its sources and
    the noise. Chosen: widths 10 to 40, repetition intervals 50 to 100 microseconds, bands 0.5 to 2 MHz, carriers within
    +-1 MHz, the second source within +-3 dB of the first. SNR is the mixture's mean power over the window against the
    noise's.
    """
    names = MIXES[item % len(MIXES)]
    n, rate = 1024, RADAR_RATE_HZ
    rows, total = [], np.zeros(n, complex)
    for k, name in enumerate(names, 1):
        width, pri = rng.uniform(10e-6, 40e-6), rng.uniform(50e-6, 100e-6)
        shape = radar.waveform(rng, name, width * rate, rng.uniform(0.5e6, 2e6) / rate)
        delay = rng.uniform(0, pri)
        starts = radar.starts_in(n, pri * rate, delay * rate)
        amplitude = 1.0 if k == 1 else float(10 ** (rng.uniform(-3, 3) / 20))
        x = amplitude * _phase(rng) * ch.shift(radar.pulses(shape, starts, n), rng.uniform(-1e6, 1e6) / rate)
        total += x
        rows.append(Signal(iq(x), "EM-Radar-Mix", rate, transmission_id=f"{item}{ROLE}source{k}", radar_waveform=name,
                           pri=pri, pulse_time_delay=delay, num_pulses=len(starts), pulse_width=width,
                           band_width=shape.bandwidth * rate, amplitude=amplitude))
    mixture = Signal(iq(total + ch.noise_for(rng, total, 12.0)), "EM-Radar-Mix", rate,
                     transmission_id=f"{item}{ROLE}mix", snr=12.0, radar_waveform="+".join(names))
    return [mixture, *rows]


RADCHAR_RATE_HZ = 3.2e6
RADCHAR = ("Coherent Pulse Train", "Barker Code", "Polyphase Barker Code", "Frank Code", "LFM")


def radchar_regen(rng: Generator, item: int) -> list[Signal]:
    """RadChar-regen: 5 waveforms, 512 samples at 3.2 MHz, SNR -20 to 20 dB by 1, made from RadChar's description.

    As described: 2 to 6 pulses (a whole number), width 10 to 16, repetition interval 17 to 23, delay 1 to 10
    microseconds, all uniform; Barker and polyphase Barker codes up to 13 chips, Frank up to 16. Not described and
    chosen: Barker lengths 5 to 13, polyphase Barker 5 to 13, Frank 4, 9 or 16 with equal chance; LFM bandwidth 0.4 to
    1.4 MHz, up or down; random carrier phase; SNR of the pulse's power over the noise's; unit pulse amplitude.
    """
    name, snr = cell(item, RADCHAR, range(-20, 21))
    n, rate = 512, RADCHAR_RATE_HZ
    width, pri, delay = rng.uniform(10e-6, 16e-6), rng.uniform(17e-6, 23e-6), rng.uniform(1e-6, 10e-6)
    count = int(rng.integers(2, 7))
    if name == "Barker Code":
        shape = radar.coded(name, width * rate, radar.barker_code(int(rng.choice([5, 7, 11, 13]))))
    elif name == "Polyphase Barker Code":
        shape = radar.coded(name, width * rate, radar.polyphase_barker_code(int(rng.integers(5, 14))))
    elif name == "Frank Code":
        shape = radar.coded(name, width * rate, radar.frank_code(int(rng.integers(2, 5))))
    else:
        shape = radar.waveform(rng, name, width * rate, rng.uniform(0.4e6, 1.4e6) / rate)
    starts = (delay + pri * np.arange(count)) * rate
    x = radar.pulses(shape, starts, n) * _phase(rng)
    y = x + ch.noise_for(rng, x, snr, x != 0)
    return [Signal(iq(y), "RadChar-regen", rate, snr=snr, radar_waveform=name, pri=pri, pulse_time_delay=delay,
                   num_pulses=count, pulse_width=width, band_width=shape.bandwidth * rate, amplitude=1.0)]


RECIPES = (
    Recipe("EM-RadarParaIQSim", em_radar_para_iq_sim, 960, 19_200, 300_000,
           Published("I", "300,000", "320/384/400/480", "10/12 MHz", "2 radar types", "6~-12 dB")),
    Recipe("EM-Radar", em_radar, 960, 32_000, 327_680,
           Published("I", "327,680", "1,024", "5 MHz", "10 emitters, 5 waveforms", "-10~-20 dB")),
    Recipe("EM-Radar-Mix", em_radar_mix, 352, 12_320, 123_200,
           Published("IV", "123,200 (section VI)", "1,024", "5 MHz", "8 radar signals", "12 dB"),
           note="mixture and source rows"),
    Recipe("RadChar-regen", radchar_regen, 1_025, 41_000, 205_000,
           Published("IV", "-", "512", "3.2 MHz", "5 waveforms", "-20:20 dB")),
)
