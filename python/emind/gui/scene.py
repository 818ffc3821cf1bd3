"""What a display shows of detections and statistics, without Qt: boxes, last answers, and the counts in words."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pmt

from ..contract import tags
from ..contract.vocabulary import NOISE

MAIN_HEAD = "modulation"
QUIET = frozenset({NOISE, "none", "normal"})  # answers that say that nothing is there
MOST_BOXES = 400
MOST_RUNS = 12
_NO_HEADS = frozenset({tags.SAMPLE_START, tags.SAMPLE_COUNT, tags.RX_TIME, tags.RX_RATE, tags.RX_FREQ, tags.SNR_DB,
                       tags.LATENCY_MS})


@dataclass
class Run:
    """Answers in a row that are the same: samples ``start`` to ``stop`` of the display's stream."""

    start: int
    stop: int
    labels: dict[str, str]  # head -> label, the main head first
    freq: float | None  # rx_freq, Hz
    windows: int = 0
    confidences: dict[str, float] = field(default_factory=dict)  # head -> sum
    snrs: list[float] = field(default_factory=lambda: [0.0, 0])  # sum and count, dB

    @property
    def quiet(self) -> bool:
        """Nothing is there, all heads say."""
        return all(label in QUIET for label in self.labels.values())

    @property
    def snr_db(self) -> float | None:
        return self.snrs[0] / self.snrs[1] if self.snrs[1] else None

    def confidence(self, head: str) -> float:
        """Mean over the windows."""
        return self.confidences[head] / self.windows

    def text(self) -> str:
        """Label and confidence of each head that says that something is there; of all, where none does."""
        heard = {head: label for head, label in self.labels.items() if label not in QUIET} or self.labels
        main = next(iter(self.labels))
        return " · ".join(f"{'' if head == main else head + ' '}{label} {self.confidence(head):.2f}"
                          for head, label in heard.items())

    def answers(self) -> str:
        """What every head says; confidence of those beside the first."""
        return " · ".join(f"{label}" if number == 0 else f"{head} {label} {self.confidence(head):.2f}"
                          for number, (head, label) in enumerate(self.labels.items()))


class Scene:
    """Gathers what came over the message ports of a display.

    ``rate``: of the display's stream; detections of a decimated stream are brought to its samples by their
    ``rx_rate``. ``bridge_s``: answers that are the same and at most so many seconds apart are one run; under overload
    skipped windows lie between them. All calls come from one thread.
    """

    def __init__(self, rate: float, bridge_s: float = 0.0) -> None:
        self.rate, self.origin, self._picture = rate, 0, 0
        self.bridge_s = bridge_s
        self.boxes: deque[Run] = deque(maxlen=MOST_BOXES)  # without the quiet ones
        self.runs: deque[Run] = deque(maxlen=MOST_RUNS)
        self.overflows = 0
        self.counts: dict = {}
        self.recorder: dict = {}

    def move(self, rate: float, origin: int, picture: int) -> None:
        """Picture number ``picture`` begins at sample ``origin`` of the stream; what the last one had is forgotten."""
        if picture != self._picture:
            self.rate, self.origin, self._picture = rate, origin, picture
            self.boxes.clear()
            self.runs.clear()

    def detection(self, fields: dict) -> None:
        """The dict of a PDU of the port ``detections``."""
        heads = {name: value for name, value in fields.items()
                 if name not in _NO_HEADS and isinstance(value, dict) and tags.LABEL in value}
        if not heads or tags.SAMPLE_START not in fields:
            return
        names = sorted(heads, key=lambda name: (name != MAIN_HEAD, name))
        labels = {name: str(heads[name][tags.LABEL]) for name in names}
        own = fields.get(tags.RX_RATE)
        factor = max(1, round(self.rate / own)) if own and own > 0 else 1
        start = int(fields[tags.SAMPLE_START]) * factor - self.origin
        length = int(fields.get(tags.SAMPLE_COUNT, 1)) * factor
        if start + length <= 0:
            return
        run = self.runs[-1] if self.runs else None
        freq = fields.get(tags.RX_FREQ)
        bridged = round(self.bridge_s * self.rate)
        if run is None or run.labels != labels or run.freq != freq or not run.start <= start <= run.stop + bridged:
            run = Run(start, start, labels, freq)
            self.runs.append(run)
            if not run.quiet:
                self.boxes.append(run)
        run.stop = max(run.stop, start + length)
        run.windows += 1
        for name in names:
            confidence = float(heads[name].get(tags.CONFIDENCE, 0.0))
            run.confidences[name] = run.confidences.get(name, 0.0) + confidence
        snr = fields.get(tags.SNR_DB)
        if snr is not None:
            run.snrs[0] += float(snr)
            run.snrs[1] += 1

    def statistics(self, fields: dict) -> None:
        """The dict of a PDU of the port ``statistics`` of a receiver or of a recorder."""
        if "samples_written" in fields:
            self.recorder = fields
        else:
            self.counts = fields

    def overflow(self, count: int) -> None:
        self.overflows += count

    def forget_before(self, sample: int) -> None:
        """Boxes that have left the picture."""
        while self.boxes and self.boxes[0].stop < sample:
            self.boxes.popleft()

    def statistics_text(self) -> list[str]:
        """Coverage, skipped windows, latency, overflows, and what is recorded; a line each."""
        c = self.counts
        out = []
        if c:
            seen, answered = c.get("windows_seen", 0), c.get("windows_inferred", 0) + c.get("windows_gated", 0)
            share = f"{100 * answered / seen:.1f} %" if seen else "-"
            out.append(f"coverage {share} of {seen:,} windows: {c.get('windows_inferred', 0):,} inferred, "
                       f"{c.get('windows_gated', 0):,} gated, {c.get('windows_skipped', 0):,} skipped"
                       + _reasons(c))
            latency = "latency -"
            if c.get("latency_ms_p50") is not None:
                latency = f"latency {c['latency_ms_p50']:.0f} ms (half), {c['latency_ms_p99']:.0f} ms (99 of 100)"
            out.append(f"{latency} · {c.get('weights', '')} on {c.get('backend', '')}")
        else:
            out.append("no statistics yet")
        out.append(f"{self.overflows:,} overflows · {c.get('gaps', 0):,} gaps")
        if c.get("weights_error"):
            out.append(f"weights refused: {c['weights_error']}")
        if self.recorder:
            out.append(recorder_text(self.recorder))
        return out


def _reasons(counts: dict) -> str:
    """Why windows were skipped, where the block says."""
    words = {"skipped_no_room": "no room", "skipped_late": "late", "skipped_failed": "failed", "skipped_at_end": "at end"}
    parts = [f"{counts[key]:,} {text}" for key, text in words.items() if counts.get(key)]
    return f" ({', '.join(parts)})" if parts else ""


def recorder_text(counts: dict) -> str:
    """What a recorder's statistics say, in a line."""
    if counts.get("error"):
        return f"recording ended: {counts['error']}"
    state = "" if "recording" not in counts else "recording · " if counts["recording"] else "not recording · "
    return (f"{state}{counts['samples_written']:,} samples in {counts['rows']:,} rows written, "
            f"{counts['samples_dropped']:,} dropped")


def fields_of(message: pmt.pmt_base) -> dict | None:
    """The dict of a PDU, or a dict by itself; None for anything else."""
    if pmt.is_pair(message) and not pmt.is_dict(message):
        message = pmt.car(message)
    try:
        fields = pmt.to_python(message)
    except (ValueError, TypeError):
        return None
    return fields if isinstance(fields, dict) else None
