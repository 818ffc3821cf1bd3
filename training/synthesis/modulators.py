"""Modulators: symbols or messages to complex baseband at any, not only whole, number of samples per symbol.

Every function returns ``n`` samples as complex128. Times are in samples and frequencies in cycles per sample, so
nothing here knows a sample rate. Powers are about one while the signal is on.
"""

from __future__ import annotations

import numpy as np

TABLE_STEPS = 128  # points a symbol in a tabulated pulse: timing error below 1/256 symbol


# ---------------------------------------------------------------------------------------------- constellations


def psk(order: int) -> np.ndarray:
    """Points 2 pi k / M (+ pi / M for M > 2), unit power."""
    return np.exp(2j * np.pi * (np.arange(order) + (0.5 if order > 2 else 0.0)) / order)


def pam(order: int) -> np.ndarray:
    """Levels -(M-1), ..., M-1, unit power."""
    levels = np.arange(order) * 2.0 - (order - 1)
    return (levels / np.sqrt(np.mean(levels**2))).astype(complex)


def qam(order: int) -> np.ndarray:
    """Square QAM, unit power."""
    side = pam(round(order**0.5)).real
    return (side[:, None] + 1j * side[None, :]).ravel() / np.sqrt(2.0)


def ask(order: int, lowest: float = 0.0) -> np.ndarray:
    """Unipolar amplitude levels from ``lowest`` to 1, unit power."""
    levels = np.linspace(lowest, 1.0, order)
    return (levels / np.sqrt(np.mean(levels**2))).astype(complex)


# ------------------------------------------------------------------------------------------------------ pulses


def _symbol_times(span: int) -> np.ndarray:
    return np.arange(-span * TABLE_STEPS, span * TABLE_STEPS + 1) / TABLE_STEPS


def root_raised_cosine(rolloff: float, span: int = 6) -> np.ndarray:
    """Root-raised-cosine pulse tabulated over +-span symbols, unit energy a symbol."""
    t = _symbol_times(span)
    a = rolloff
    with np.errstate(divide="ignore", invalid="ignore"):
        h = (np.sin(np.pi * t * (1 - a)) + 4 * a * t * np.cos(np.pi * t * (1 + a))) / (
            np.pi * t * (1 - (4 * a * t) ** 2)
        )
    h[np.isclose(t, 0)] = 1 - a + 4 * a / np.pi
    edge = np.isclose(np.abs(t), 1 / (4 * a))
    h[edge] = a / np.sqrt(2) * ((1 + 2 / np.pi) * np.sin(np.pi / (4 * a)) + (1 - 2 / np.pi) * np.cos(np.pi / (4 * a)))
    return h


def raised_cosine(rolloff: float, span: int = 6) -> np.ndarray:
    """Raised-cosine (Nyquist) pulse tabulated over +-span symbols, one at its centre."""
    t = _symbol_times(span)
    with np.errstate(divide="ignore", invalid="ignore"):
        h = np.sinc(t) * np.cos(np.pi * rolloff * t) / (1 - (2 * rolloff * t) ** 2)
    h[np.isclose(np.abs(t), 1 / (2 * rolloff))] = np.pi / 4 * np.sinc(1 / (2 * rolloff))
    return h


def half_sine(span: int = 1) -> np.ndarray:
    """Half a sine wave over one symbol (802.15.4)."""
    t = _symbol_times(span)
    return np.where(np.abs(t) <= 0.5, np.cos(np.pi * t), 0.0) * np.sqrt(2.0)


def rectangle(span: int = 1) -> np.ndarray:
    """One symbol long, one high."""
    t = _symbol_times(span)
    return ((t > -0.5) & (t <= 0.5)).astype(float)


def gaussian(bt: float, span: int = 3) -> np.ndarray:
    """Rectangle smoothed by a Gaussian of bandwidth-time product ``bt``: the frequency pulse of GFSK. Area one symbol."""
    t = _symbol_times(span)
    sigma = np.sqrt(np.log(2)) / (2 * np.pi * bt)
    kernel = np.exp(-0.5 * (t / sigma) ** 2)
    smoothed = np.convolve(rectangle(span), kernel / kernel.sum(), mode="same")
    return smoothed / (smoothed.sum() / TABLE_STEPS)


def pulse_train(symbols: np.ndarray, sps: float, pulse: np.ndarray, n: int, start: float = 0.0) -> np.ndarray:
    """Sum of pulses: symbol k is centred at sample ``start + (k + 0.5 + span) * sps``.

    ``pulse`` is a table over +-span symbols. At least ``symbols_needed(...)`` symbols must be given.
    """
    span = (len(pulse) - 1) // (2 * TABLE_STEPS)
    t = (np.arange(n) - start) / sps - 0.5 - span
    nearest = np.floor(t).astype(int)
    k = nearest[:, None] + np.arange(-span + 1, span + 1)[None, :]
    index = np.rint((t[:, None] - k) * TABLE_STEPS).astype(int) + span * TABLE_STEPS
    valid = (k >= 0) & (k < len(symbols))
    return np.einsum("nk,nk->n", np.where(valid, symbols[np.clip(k, 0, len(symbols) - 1)], 0.0), pulse[index])


def symbols_needed(sps: float, pulse: np.ndarray, n: int) -> int:
    """Symbols that touch ``n`` samples."""
    return int(np.ceil(n / sps)) + 2 * ((len(pulse) - 1) // (2 * TABLE_STEPS)) + 2


# -------------------------------------------------------------------------------------------------- modulations


def linear(symbols: np.ndarray, sps: float, pulse: np.ndarray, n: int, start: float = 0.0) -> np.ndarray:
    """PSK, QAM, PAM, ASK: complex symbols through a pulse."""
    return pulse_train(np.asarray(symbols, complex), sps, pulse, n, start)


def offset_quadrature(symbols: np.ndarray, sps: float, pulse: np.ndarray, n: int, start: float = 0.0) -> np.ndarray:
    """OQPSK: the quadrature branch half a symbol late."""
    i = pulse_train(symbols.real, sps, pulse, n, start)
    q = pulse_train(symbols.imag, sps, pulse, n, start + sps / 2)
    return i + 1j * q


def differential_quarter_pi(steps: np.ndarray) -> np.ndarray:
    """pi/4-DQPSK symbols from steps 0...3: each turns the phase by pi/4 + k pi/2."""
    return np.exp(1j * np.cumsum(np.pi / 4 + np.pi / 2 * np.asarray(steps)))


def frequency_shift(
    levels: np.ndarray, sps: float, index: float, pulse: np.ndarray, n: int, start: float = 0.0
) -> np.ndarray:
    """Continuous-phase FSK: levels +-1, +-3, ... with modulation index h (tones h / sps apart)."""
    frequency = pulse_train(np.asarray(levels, float), sps, pulse, n, start) * index / (2 * sps)
    return np.exp(2j * np.pi * np.cumsum(frequency))


def switched_tones(levels: np.ndarray, sps: float, index: float, n: int, phases: np.ndarray, gains: np.ndarray):
    """FSK by switching free-running oscillators: a phase jump at every change, and unequal tones."""
    k = np.minimum((np.arange(n) / sps).astype(int), len(levels) - 1)
    tone = np.asarray(levels)[k]
    which = ((tone + len(gains) - 1) // 2).astype(int)
    return gains[which] * np.exp(2j * np.pi * tone * index / (2 * sps) * np.arange(n) + 1j * phases[which])


def amplitude(message: np.ndarray, depth: float) -> np.ndarray:
    """AM with carrier: 1 + depth * m, m within +-1."""
    s = 1.0 + depth * message
    return (s / np.sqrt(np.mean(s**2))).astype(complex)


def single_sideband(message: np.ndarray, upper: bool) -> np.ndarray:
    """The analytic signal of the message, or its conjugate for the lower sideband."""
    spectrum = np.fft.fft(message)
    half = len(message) // 2
    spectrum[half:] = 0
    spectrum[0] = 0
    s = np.fft.ifft(spectrum)
    s /= np.sqrt(np.mean(np.abs(s) ** 2)) + 1e-12
    return s if upper else s.conj()


def frequency(message: np.ndarray, deviation: float) -> np.ndarray:
    """FM of peak ``deviation`` cycles per sample for a message within +-1."""
    return np.exp(2j * np.pi * deviation * np.cumsum(message))


def ofdm(
    carriers: np.ndarray, transform: int, prefix: int, positions: np.ndarray, n: int, start: int = 0, roll: int = 0
) -> np.ndarray:
    """OFDM symbols with cyclic prefix.

    ``carriers`` (symbols, used) go to the bins ``positions`` (negative below the centre) of a transform of
    ``transform`` samples; ``roll`` samples at each border fade as a raised cosine.
    """
    grid = np.zeros((len(carriers), transform), complex)
    grid[:, positions % transform] = carriers
    body = np.fft.ifft(grid, axis=1) * transform / np.sqrt(max(1, len(positions)))
    blocks = np.concatenate([body[:, transform - prefix :], body], axis=1) if prefix else body
    if roll:
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(roll) + 0.5) / roll)
        extended = np.concatenate([blocks, body[:, :roll]], axis=1)
        extended[:, :roll] *= ramp
        extended[:, -roll:] *= ramp[::-1]
        length = blocks.shape[1]
        out = np.zeros(len(blocks) * length + roll, complex)
        for k, block in enumerate(extended):
            out[k * length : k * length + length + roll] += block
    else:
        out = blocks.ravel()
    return out[start : start + n]


def lora(values: np.ndarray, spreading: int, bandwidth: float, n: int, start: float = 0.0, up: bool = True):
    """LoRa chirps: value v of 2**spreading starts the sweep over ``bandwidth`` cycles per sample at v."""
    chips = 2**spreading
    t = (np.arange(n) + start) * bandwidth  # in chips
    k = np.minimum((t // chips).astype(int), len(values) - 1)
    position = (t - k * chips + np.asarray(values)[k]) % chips
    f = (position / chips - 0.5) * bandwidth
    return np.exp(2j * np.pi * np.cumsum(f if up else -f))


def linear_sweep(length: float, bandwidth: float, n: int) -> np.ndarray:
    """LFM pulse of ``length`` samples over ``bandwidth`` (sign = direction), from sample 0; zero after its end."""
    t = np.arange(n)
    return np.where(t < length, np.exp(1j * np.pi * bandwidth * (t * t / length - t)), 0.0)


def pulse_position(bits: np.ndarray, half_bit: float, n: int, start: float = 0.0, preamble: bool = True) -> np.ndarray:
    """Mode S pulse-position modulation: envelope of a message with its 8-microsecond preamble.

    ``half_bit`` is the length of a chip (0.5 microseconds) in samples. Zero outside the message.
    """
    head = np.zeros(16)
    head[[0, 2, 7, 9]] = 1
    chips = np.stack([bits, 1 - bits], axis=1).ravel().astype(float)
    chips = np.concatenate([head, chips]) if preamble else chips
    edges = np.concatenate([[0.0], np.cumsum(chips)])
    # The mean of the chips over each sample's own duration: exact also below two samples a chip.
    t = np.clip((np.arange(n + 1) - start) / half_bit, 0, len(chips))
    return np.diff(np.interp(t, np.arange(len(edges)), edges)) * half_bit


def on_off(levels: np.ndarray, durations: np.ndarray, n: int, start: float = 0.0) -> np.ndarray:
    """Keyed envelope: level k for ``durations[k]`` samples."""
    ends = np.cumsum(durations) - start
    return np.asarray(levels, float)[np.minimum(np.searchsorted(ends, np.arange(n), side="right"), len(levels) - 1)]
