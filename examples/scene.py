#!/usr/bin/env python3
"""A scene of known signals after each other, made with GNU Radio's own modulators and channel model.

No hardware needed. `.venv/bin/python examples/scene.py OUT` writes OUT.sigmf-data and OUT.sigmf-meta, whose annotations hold
the true labels; examples/demo.py labels such a scene and compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gnuradio import analog, blocks, channels, digital, filter, gr
from gnuradio.filter import firdes

from emind.storage.recording import FORMATS, Recording, annotated_metadata

RATE = 1_000_000  # samples a second
LENGTH = 24 * 1024  # samples a signal
GAP = 3 * 1024 + 300  # samples of noise between signals: windows do not start where signals do
SETTLE = 8 * 1024  # samples thrown away while the modulators' filters fill
NOISE_POWER_DB = -20.0  # over the whole band; signals have power 1
CENTER = 915e6  # Hz, what the metadata says


@dataclass(frozen=True)
class Segment:
    """A signal of the scene: its class, samples ``start`` to ``end``, and where its middle lies, Hz."""

    label: str
    start: int
    end: int
    offset: float


def _symbols(generator: np.random.Generator, order: int, count: int = 60_000) -> blocks.vector_source_b:
    return blocks.vector_source_b(generator.integers(0, order, count).tolist(), True)


def _keyed(generator, levels: list[float], sps: int) -> list:
    """Random levels held for ``sps`` samples, float."""
    return [_symbols(generator, len(levels)), digital.chunks_to_symbols_bf(levels), blocks.repeat(gr.sizeof_float, sps)]


def _audio(generator: np.random.Generator, cutoff: float) -> blocks.vector_source_f:
    """Something like speech, within -1 to 1: syllables of a pitch with its overtones up to ``cutoff`` Hz."""
    length = 6_000  # samples a syllable
    time = np.arange(length) / RATE
    syllables = []
    for _ in range(12):
        pitch = cutoff * generator.uniform(0.06, 0.2)
        overtones = np.arange(1, int(cutoff / pitch) + 1)
        phases = 2 * np.pi * (np.outer(overtones * pitch, time) + generator.random((len(overtones), 1)))
        voice = np.sum(np.cos(phases) * (generator.random((len(overtones), 1)) / np.sqrt(overtones)[:, None]), axis=0)
        syllables.append(voice * np.hanning(length) ** 0.5)
    programme = np.concatenate(syllables)
    return blocks.vector_source_f((programme / np.abs(programme).max()).tolist(), True)


def _linear(constellation, sps: int, excess_bw: float = 0.35) -> Callable:
    """A linear modulation with root raised cosine pulses."""
    def chain(generator) -> list:
        bytes_ = blocks.vector_source_b(generator.integers(0, 256, 60_000).tolist(), True)
        return [bytes_, digital.generic_mod(constellation(), False, sps, True, excess_bw)]
    return chain


def _shift_keyed(tones: int, sps: int, index: float) -> Callable:
    """Continuous-phase frequency shift keying: neighbouring tones are index / symbol time apart."""
    def chain(generator) -> list:
        levels = [float(v) for v in range(1 - tones, tones, 2)]
        return [*_keyed(generator, levels, sps), analog.frequency_modulator_fc(np.pi * index / sps)]
    return chain


def _on_off(generator) -> list:
    return [*_keyed(generator, [0.0, 1.0], 12), filter.fir_filter_fff(1, [0.25] * 4), blocks.float_to_complex()]


def _gfsk(generator) -> list:
    sps = 8
    bytes_ = blocks.vector_source_b(generator.integers(0, 256, 60_000).tolist(), True)
    return [bytes_, digital.gfsk_mod(sps, np.pi * 0.7 / sps, 0.5)]


def _msk(generator) -> list:
    return [blocks.vector_source_b(generator.integers(0, 256, 60_000).tolist(), True), digital.gmsk_mod(6, bt=0.35)]


def _am(generator) -> list:
    return [_audio(generator, 60e3), blocks.multiply_const_ff(0.8), blocks.add_const_ff(1.0),
            blocks.float_to_complex()]


def _ssb(generator) -> list:
    """Upper sideband: the audio's positive frequencies only."""
    taps = firdes.complex_band_pass(1.0, RATE, 10e3, 140e3, 15e3)
    return [_audio(generator, 120e3), blocks.float_to_complex(), filter.fir_filter_ccc(1, taps)]


def _wfm(generator) -> list:
    return [_audio(generator, 15e3), analog.wfm_tx(RATE, RATE)]


def _ofdm(generator) -> list:
    """64 carriers of which 52 are used, QPSK, cyclic prefix 16, made at half the rate."""
    packet = 96
    return [blocks.vector_source_b(generator.integers(0, 256, 60_000).tolist(), True),
            blocks.stream_to_tagged_stream(gr.sizeof_char, 1, packet, "packet_len"),
            digital.ofdm_tx(fft_len=64, cp_len=16, packet_length_tag_key="packet_len", bps_header=1, bps_payload=2,
                            scramble_bits=True),
            filter.rational_resampler_ccc(interpolation=2, decimation=1)]


def _lora(generator) -> list:
    """Upward chirps over 250 kHz, spreading factor 7, each starting at the frequency of its symbol."""
    steps, oversampling, width = 128, 4, 250e3
    symbols = generator.integers(0, steps, 200)
    ramp = np.arange(steps * oversampling) / (steps * oversampling)
    frequency = ((symbols[:, None] / steps + ramp) % 1.0 - 0.5) * width
    return [blocks.vector_source_f(frequency.ravel().tolist(), True),
            analog.frequency_modulator_fc(2 * np.pi / RATE)]


# True label, what makes it, and by how many Hz it lies off the middle.
SCENE: tuple[tuple[str, Callable, float], ...] = (
    ("OOK", _on_off, 12e3),
    ("BPSK", _linear(lambda: digital.psk_constellation(2), 5), -20e3),
    ("QPSK", _linear(lambda: digital.psk_constellation(4), 4), 15e3),
    ("8PSK", _linear(lambda: digital.psk_constellation(8), 4), -9e3),
    ("16QAM", _linear(lambda: digital.qam_constellation(16), 4), 6e3),
    ("64QAM", _linear(lambda: digital.qam_constellation(64), 4), -6e3),
    ("2FSK", _shift_keyed(2, 10, 2.0), 10e3),
    ("4FSK", _shift_keyed(4, 12, 1.0), -14e3),
    ("GFSK", _gfsk, 8e3),
    ("MSK", _msk, -11e3),
    ("AM-DSB", _am, 18e3),
    ("AM-SSB", _ssb, -60e3),
    ("WFM", _wfm, -16e3),
    ("OFDM", _ofdm, 5e3),
    ("LoRa", _lora, 13e3),
)


def _run(chain: list, count: int) -> np.ndarray:
    """``count`` samples of what the blocks make, power 1, after they have settled."""
    top_block = gr.top_block("emind scene")
    sink = blocks.vector_sink_c()
    top_block.connect(*chain, blocks.skiphead(gr.sizeof_gr_complex, SETTLE), blocks.head(gr.sizeof_gr_complex, count),
                      sink)
    top_block.run()
    samples = np.array(sink.data(), np.complex64)
    return samples / np.sqrt(np.mean(np.abs(samples) ** 2))


def _through_channel(samples: np.ndarray, offset: float, seed: int) -> np.ndarray:
    """Frequency offset and noise by GNU Radio's channel model."""
    top_block = gr.top_block("emind channel")
    channel = channels.channel_model(noise_voltage=10 ** (NOISE_POWER_DB / 20), frequency_offset=offset / RATE,
                                     epsilon=1.0, taps=[1.0], noise_seed=seed)
    sink = blocks.vector_sink_c()
    # The channel's resampler keeps a few samples back: zeros push them out.
    source = blocks.vector_source_c(np.concatenate([samples, np.zeros(64, np.complex64)]).tolist(), False)
    top_block.connect(source, channel, blocks.head(gr.sizeof_gr_complex, len(samples)), sink)
    top_block.run()
    return np.array(sink.data(), np.complex64)


def make_scene(seed: int = 1, length: int = LENGTH, scene=SCENE,
               progress: Callable[[int, int], None] | None = None) -> tuple[np.ndarray, list[Segment]]:
    """Samples (complex64) and true segments. The same seed gives the same scene."""
    parts, segments, position = [], [], 0
    for number, (label, make, offset) in enumerate(scene):
        generator = np.random.default_rng([seed, number])
        signal = _run(make(generator), length)
        padded = np.concatenate([np.zeros(GAP, np.complex64), signal])
        parts.append(_through_channel(padded, offset, int(generator.integers(1, 2**31))))
        segments.append(Segment("noise", position, position + GAP, 0.0))
        segments.append(Segment(label, position + GAP, position + len(padded), offset))
        position += len(padded)
        if progress:
            progress(number + 1, len(scene))
    return 0.1 * np.concatenate(parts), segments


def truth_annotations(segments: list[Segment]) -> list[dict]:
    """SigMF annotations of the true labels; noise has none."""
    return [{"core:sample_start": s.start, "core:sample_count": s.end - s.start, "core:label": s.label,
             "core:comment": "truth", "core:generator": "gr-emind scene"} for s in segments if s.label != "noise"]


def write_scene(base: Path, seed: int = 1, length: int = LENGTH, scene=SCENE,
                progress: Callable[[int, int], None] | None = None) -> list[Segment]:
    """Writes base.sigmf-data and base.sigmf-meta and gives the true segments."""
    samples, segments = make_scene(seed, length, scene, progress)
    base.parent.mkdir(parents=True, exist_ok=True)
    data, meta = base.with_name(base.name + ".sigmf-data"), base.with_name(base.name + ".sigmf-meta")
    samples.tofile(data)
    recording = Recording(meta, data, FORMATS["cf32_le"], float(RATE), len(samples), CENTER)
    metadata = annotated_metadata(recording, truth_annotations(segments), data.name)
    metadata["global"]["core:description"] = "Signals made with GNU Radio's modulators and channel model"
    meta.write_text(json.dumps(metadata, indent=4) + "\n", encoding="utf-8")
    return segments


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    for segment in write_scene(Path(sys.argv[1].removesuffix(".sigmf-meta"))):
        print(f"{segment.start / RATE * 1e3:8.2f} ms to {segment.end / RATE * 1e3:8.2f} ms  {segment.label}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
