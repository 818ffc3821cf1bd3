"""RML2016.10A-regen: the published recipe of RML2016.10A with GNU Radio's own blocks. Needs GNU Radio.

    bits of text, whitened, or audio -> modulator (8 samples a symbol) -> dynamic channel model -> 20 windows a run

The one place of the training package that uses GNU Radio; it is imported when a window is drawn.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO

import numpy as np
from emind.contract.errors import EMindError
from emind.contract.schema import Signal
from numpy.random import Generator

from . import modulators as mod
from .air_messages import message
from .recipe import Published, Recipe, cell, iq

CLASSES = ("BPSK", "QPSK", "8PSK", "PAM4", "QAM16", "QAM64", "GFSK", "CPFSK", "WBFM", "AM-DSB", "AM-SSB")
SNRS = range(-20, 20, 2)
LENGTH = 128
WINDOWS = 20  # of a run
SPS = 8
RATE_HZ = 200e3  # of the channel model; the paper's table calls the set 1 MHz
POINTS = {
    "BPSK": mod.psk(2), "QPSK": mod.psk(4), "8PSK": mod.psk(8), "PAM4": mod.pam(4), "QAM16": mod.qam(16),
    "QAM64": mod.qam(64),
}  # fmt: skip
ITEMS = {"QAM16": 20_000, "QAM64": 30_000}  # bits or audio samples of a run; else 10,000
LETTERS = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz", np.uint8)
LETTER_SHARE = np.array(
    [127, 91, 82, 75, 70, 67, 63, 61, 60, 43, 40, 28, 28, 24, 24, 24, 22, 20, 19, 10, 15, 20, 8, 2, 1, 1]
)


def text_bits(rng: Generator, count: int) -> np.ndarray:
    """Bits of English-like text, least significant first, whitened with a repeating random block of 256 bits."""
    letters = rng.choice(LETTERS, count // 8 + 1, p=LETTER_SHARE / LETTER_SHARE.sum())
    letters = np.where(rng.random(len(letters)) < 0.18, ord(" "), letters).astype(np.uint8)
    bits = np.unpackbits(letters, bitorder="little")[:count]
    return bits ^ np.resize(rng.integers(0, 2, 256, dtype=np.uint8), count)


def audio(rng: Generator, count: int) -> np.ndarray:
    """Speech-like audio at 44.1 kHz within +-1, up to 5 kHz."""
    return message(rng, count, 5_000 / 44_100).astype(np.float32)


def _gnuradio():
    try:
        from gnuradio import analog, blocks, channels, digital, filter, gr
    except ImportError as fault:
        raise EMindError(f"RML2016.10A-regen needs GNU Radio, which cannot be imported ({fault})") from None
    return analog, blocks, channels, digital, filter, gr


def _run(source, *chain) -> np.ndarray:
    """What comes out of blocks connected in a row."""
    _, blocks, _, _, _, gr = _gnuradio()
    top, sink = gr.top_block(), blocks.vector_sink_c()
    top.connect(source, *chain, sink)
    top.run()
    return np.array(sink.data(), np.complex64)


def modulated(rng: Generator, name: str, count: int) -> np.ndarray:
    """One run before the channel, from ``count`` bits or audio samples."""
    analog, blocks, _, digital, filter, gr = _gnuradio()
    if name in POINTS:
        points = POINTS[name]
        each = int(np.log2(len(points)))
        bits = text_bits(rng, count // each * each).reshape(-1, each)
        symbols = points[bits @ (1 << np.arange(each)[::-1])]
        filters = 32
        taps = filter.firdes.root_raised_cosine(filters, filters, 1.0, 0.35, filters * 11 * SPS)
        return _run(blocks.vector_source_c(symbols.tolist()), filter.pfb_arb_resampler_ccf(SPS, taps, filters))
    if name == "GFSK":
        packed = np.packbits(text_bits(rng, count))
        return _run(blocks.vector_source_b(packed.tolist()), digital.gfsk_mod(SPS, sensitivity=0.1, bt=0.35))
    if name == "CPFSK":
        source = blocks.vector_source_b(text_bits(rng, count).tolist())
        return _run(source, analog.cpfsk_bc(0.5, 1.0, SPS))
    source = blocks.vector_source_f(audio(rng, count).tolist())
    if name == "WBFM":
        with redirect_stdout(StringIO()):  # the block prints the length of its filter
            transmitter = analog.wfm_tx(audio_rate=44.1e3, quad_rate=220.5e3)
        return _run(source, transmitter)
    # The carrier has the frequency zero: its cosine is one, its sine is zero, so AM-SSB holds noise only.
    wave, offset = (analog.GR_COS_WAVE, 1.0) if name == "AM-DSB" else (analog.GR_SIN_WAVE, 0.0)
    product, top, sink = blocks.multiply_ff(), gr.top_block(), blocks.vector_sink_f()
    top.connect(source, filter.mmse_resampler_ff(0.0, 44.1e3 / RATE_HZ), blocks.add_const_ff(offset), product, sink)
    top.connect(analog.sig_source_f(RATE_HZ, wave, 0.0, 1.0), (product, 1))
    top.run()
    return np.array(sink.data(), np.float32).astype(np.complex64)


def channel(x: np.ndarray, noise_amp: float) -> np.ndarray:
    """Through GNU Radio's dynamic channel model with the recipe's figures and its fixed seed."""
    _, blocks, channels, _, _, _ = _gnuradio()
    model = channels.dynamic_channel_model(
        RATE_HZ, 0.01, 50, 0.01, 500, 8, 1, True, 4, [0.0, 0.9, 1.7], [1.0, 0.8, 0.3], 8, noise_amp, 0x1337
    )
    return _run(blocks.vector_source_c(x.tolist()), model)


def rml2016_10a(rng: Generator, item: int) -> list[Signal]:
    """RML2016.10A-regen: 11 classes, 128 samples, SNR label -20 to 18 dB by 2; an item is a run of 20 windows.

    50 runs a class and label x 20 windows = the 220,000 of the original, which cut some 40 windows from each of fewer
    runs. ``transmission_id`` is the run. Windows start at U{50..500} and hop U{128..5 % of the run}; each is divided by
    the sum of its magnitudes. Text and audio are generated (the original's are not free to pass on). AM-SSB is
    faithful: its carrier is sin(0), so the class is noise only.

    Flaws of the original, kept: ``snr`` is a label, not the true SNR (``noise_amp`` = 10**(-snr/10) is a standard
    deviation and the signal's power differs by class); the channel's seed is the same in every run; the channel's
    transients outlast the skip.

    So a split by run parts the source's bits and audio and where windows are cut, but neither noise nor fading: windows
    that start at the same place of their runs have the same. Of AM-SSB such windows are one window at several levels,
    and after normalisation identical; `emind-train compare` counts those that are in training and test.
    """
    name, snr = cell(item, CLASSES, SNRS)
    rows: list[Signal] = []
    while len(rows) < WINDOWS:
        y = channel(modulated(rng, name, ITEMS.get(name, 10_000)), 10 ** (-snr / 10))
        at = int(rng.integers(50, 501))
        while at + LENGTH < len(y) and len(rows) < WINDOWS:
            window = y[at : at + LENGTH]
            rows.append(Signal(iq(window / np.sum(np.abs(window))), "RML2016.10A-regen", RATE_HZ,
                               transmission_id=str(item), snr=snr, modulation=name))
            at += int(rng.integers(LENGTH, round(len(y) * 0.05) + 1))
    return rows


RECIPES = (
    Recipe("RML2016.10A-regen", rml2016_10a, 220, 2_200, 11_000,
           Published("IV", "220,000", "128", "1 MHz", "11 modulations", "-20:18 dB"), block=4,
           note="SNR is the recipe's label, not the true SNR"),
)
