"""The flowgraph that answers for a recording: file -> complex -> tuner -> windowing -> inference -> answers.

Every sample of the recording is in a window. The recording is followed by as many zeros as the last window and the
tuner's filter need, because a Python block cannot see that its stream ends; the zeros are not counted in any answer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pmt
from gnuradio import blocks, filter, gr

from ..contract import tags
from ..contract.errors import EMindError
from ..dsp.band import TuningPlan
from ..guarded import Guarded, first_fault, text_of
from ..inference import inference
from ..runtime.dispatch import INFERRED, Released
from ..runtime.dispatch import NOISE as FATE_NOISE
from ..storage.recording import Recording
from ..windowing import windowing
from .head_text import MAIN_HEAD, rounded

SECTION_SAMPLES = 1 << 30  # samples that one file source reads: stream_mux counts in 32 bits
FLOOR_PERCENTILE = 10  # of the windows' powers: what counts as the noise floor
LEAST_ABOVE_FLOOR = 1.5  # times the floor: below it a power says nothing about signal and noise


@dataclass(frozen=True)
class HeadAnswer:
    """What one head says of a window. ``family`` is None for heads other than modulation, ``label`` and ``confidence``
    for one without classes. ``more``: what else its tag says, such as parameters."""

    label: str | None
    confidence: float | None
    family: str | None = None
    more: Mapping[str, float | int | bool] = field(default_factory=dict)

    def fields(self) -> dict:
        """As in JSON."""
        own = {tags.LABEL: self.label, tags.FAMILY: self.family, tags.CONFIDENCE: self.confidence}
        return rounded({key: value for key, value in own.items() if value is not None} | dict(self.more))


@dataclass(frozen=True)
class Answer:
    """One window: samples of the original recording, and what each head says of it. ``row``: the columns of the head
    `modulation`, as in `contract.answers`; None where it was not asked."""

    sample_start: int
    sample_count: int
    snr_db: float | None
    heads: dict[str, HeadAnswer]
    row: np.ndarray | None = field(default=None, compare=False)


class answers_sink(Guarded, gr.sync_block):
    """Keeps the heads' tags and the power of each window.

    Input: windows (vectors of ``length`` complex samples) with the tags of the inference block.
    """

    def __init__(self, length: int) -> None:
        gr.sync_block.__init__(self, name="answers_sink", in_sig=[(np.complex64, length)], out_sig=None)
        self.answers: dict[int, dict[str, HeadAnswer]] = {}  # window number -> head -> answer
        self.powers: list[float] = []
        self._known: dict[str, str] = {}  # one text object a label, however many windows

    def work(self, input_items, output_items):
        windows = input_items[0]
        for tag in self.get_tags_in_window(0, 0, len(windows)):
            key = pmt.symbol_to_string(tag.key)
            own = key in (tags.WINDOW, tags.STREAM_TAG) or not pmt.is_dict(tag.value)
            if key.startswith(tags.HEAD_PREFIX) and not own:
                self.answers.setdefault(tag.offset, {})[key.removeprefix(tags.HEAD_PREFIX)] = self._read(tag.value)
        self.powers.extend(np.mean(windows.real**2 + windows.imag**2, axis=1).tolist())
        return len(windows)

    def _read(self, value) -> HeadAnswer:
        fields = {pmt.symbol_to_string(pmt.car(pair)): pmt.cdr(pair) for pair in _pairs(value)}
        fields.pop(tags.LENGTH, None)
        texts = (fields.pop(key, None) for key in (tags.LABEL, tags.FAMILY))
        label, family = (None if text is None else pmt.symbol_to_string(text) for text in texts)
        confidence = fields.pop(tags.CONFIDENCE, None)
        return HeadAnswer(None if label is None else self._known.setdefault(label, label),
                          None if confidence is None else pmt.to_double(confidence),
                          None if family is None else self._known.setdefault(family, family),
                          {key: pmt.to_python(value) for key, value in fields.items()})


def _pairs(dictionary) -> list:
    items = pmt.dict_items(dictionary)
    return [pmt.nth(i, items) for i in range(pmt.length(items))]


class recording_flowgraph(gr.top_block):
    """Top block for one recording.

    ``plan`` says how to tune, ``hop`` is in samples after tuning. ``answers()`` after ``run_to_end()``.
    """

    def __init__(self, recording: Recording, engine, plan: TuningPlan | None = None, hop: int = 0,
                 policy: str = "lossless", batch: int = 32) -> None:
        gr.top_block.__init__(self, "emind classify", catch_exceptions=True)
        self.handle_sigint = False
        self.recording, self.plan = recording, plan or TuningPlan()
        self.length, self.hop = engine.spec.length, hop or engine.spec.length
        tuned = math.ceil(recording.count / self.plan.decimation)
        self.windows = 1 + max(0, math.ceil((tuned - self.length) / self.hop))
        needed = (self.windows - 1) * self.hop + self.length
        rate = recording.rate / self.plan.decimation

        stream = self._source((needed + self.plan.delay) * self.plan.decimation)
        if self.plan.tunes:
            tuner = filter.freq_xlating_fir_filter_ccf(
                self.plan.decimation, self.plan.taps().tolist(), self.plan.center, recording.rate)
            skip = blocks.skiphead(gr.sizeof_gr_complex, self.plan.delay)  # the filter's delay, exactly
            self.connect(stream, tuner, skip)
            stream = skip
        self.inference = inference(length=self.length, sample_rate=rate, policy=policy, batch=batch, engine=engine)
        # GNU Radio keeps no reference to the Python side of a block: all three are attributes.
        self.windowing = windowing(length=self.length, hop=self.hop, sample_rate=rate)
        self.sink = answers_sink(self.length)
        self._quiet: set[int] = set()  # numbers of windows that no head was asked about: there is nothing in them
        self._rows: dict[int, np.ndarray] = {}  # window number -> what the head `modulation` says of each class
        self.inference._reports.seen = self._keep
        self.connect(stream, self.windowing, self.inference, self.sink)

    def _keep(self, first: int, released: Released) -> None:
        self._quiet.update((first + np.flatnonzero(released.fates == FATE_NOISE)).tolist())
        if MAIN_HEAD in released.answers:
            numbers = first + np.flatnonzero(released.fates == INFERRED)
            self._rows.update(zip(numbers.tolist(), np.asarray(released.answers[MAIN_HEAD], np.float32)))

    def _source(self, total: int):
        """The recording's samples as complex numbers, then zeros, ``total`` in all."""
        sections = [(start, min(SECTION_SAMPLES, self.recording.count - start))
                    for start in range(0, self.recording.count, SECTION_SAMPLES)]
        zeros = total - self.recording.count
        joined = blocks.stream_mux(gr.sizeof_gr_complex, [count for _, count in sections] + [max(zeros, 1)])
        for port, (start, count) in enumerate(sections):
            self.connect(self._section(start, count), (joined, port))
        self.connect(blocks.null_source(gr.sizeof_gr_complex), (joined, len(sections)))
        end = blocks.head(gr.sizeof_gr_complex, total)
        self.connect(joined, end)
        return end

    def _section(self, start: int, count: int):
        """Samples ``start`` to ``start + count`` of the file, converted to complex by GNU Radio's own blocks."""
        layout = self.recording.format
        first = self.recording.header_bytes + start * layout.sample_bytes
        item = layout.sample_bytes if layout.name == "cf32_le" else layout.component_bytes
        if first % item:  # a header of odd length: file_source can only skip whole items
            source = blocks.file_source(1, str(self.recording.data), False, first, count * layout.sample_bytes)
            chain = [source, blocks.stream_to_vector(1, item)]
        else:
            items = count * layout.sample_bytes // item
            chain = [blocks.file_source(item, str(self.recording.data), False, first // item, items)]
        if layout.name in ("ci16_le", "ci16_be"):
            if layout.name == "ci16_be":
                chain.append(blocks.endian_swap(2))
            chain.append(blocks.interleaved_short_to_complex(False, False, 1 / layout.scale))
        elif layout.name == "ci8":
            chain.append(blocks.interleaved_char_to_complex(False, 1 / layout.scale))
        elif layout.name != "cf32_le":
            chain += {
                "cf32_be": lambda: [blocks.endian_swap(4)],
                "ci32_le": lambda: [blocks.int_to_float(1, 1 / layout.scale)],
                "cu8": lambda: [blocks.uchar_to_float(), blocks.add_const_ff(layout.offset),
                                blocks.multiply_const_ff(layout.scale)],
            }[layout.name]()
            apart, together = blocks.deinterleave(gr.sizeof_float), blocks.float_to_complex()
            self.connect((apart, 0), (together, 0))
            self.connect((apart, 1), (together, 1))
            self.connect(*chain, apart)
            return together
        if len(chain) > 1:
            self.connect(*chain)
        return chain[-1]

    def run_to_end(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Runs until every window is answered. ``progress`` gets windows done and windows in all.

        KeyboardInterrupt stops the flowgraph, waits for it and goes on to the caller. EMindError when the flowgraph
        ended before the recording did.
        """
        ended = threading.Event()

        def wait() -> None:
            self.wait()
            ended.set()

        # GNU Radio's wait() does not return on a signal: it waits in a thread, this one hears the interrupt.
        waiter = threading.Thread(target=wait, daemon=True)
        try:
            self.start()
            waiter.start()
            while not ended.wait(0.05):
                if progress:
                    progress(len(self.sink.powers), self.windows)
        except KeyboardInterrupt:
            self.stop()
            if waiter.ident is None:  # the interrupt came while the flowgraph was starting
                self.wait()
            else:
                ended.wait()
            raise
        if progress:
            progress(len(self.sink.powers), self.windows)
        if len(self.sink.powers) < self.windows:
            fault, error = first_fault([self.windowing, self.inference, self.sink]), self.inference.error()
            why = fault or ("its log above says why" if error is None else text_of(error))
            raise EMindError(f"{self.recording.path}: the flowgraph ended after {len(self.sink.powers)} of "
                             f"{self.windows} windows; {why}")

    def answers(self) -> list[Answer]:
        """The windows in order. One that was skipped (policy realtime) has no answer and is left out; one in which there
        is nothing has those of heads that know noise."""
        step, span = self.hop * self.plan.decimation, self.length * self.plan.decimation
        starts = np.arange(self.windows) * step
        counts = np.minimum(span, self.recording.count - starts)
        powers = np.array(self.sink.powers) * span / counts  # of the samples, without the zeros behind them
        floor = np.percentile(powers, FLOOR_PERCENTILE)
        out = []
        for number, (start, count, power) in enumerate(zip(starts.tolist(), counts.tolist(), powers.tolist())):
            heads = self.sink.answers.get(number, {})
            if heads or number in self._quiet:
                snr = 10 * math.log10(power / floor - 1) if floor > 0 and power > LEAST_ABOVE_FLOOR * floor else None
                out.append(Answer(start, count, snr, heads, self._rows.get(number)))
        return out
