"""What a display shows of detections and statistics, without Qt: boxes, last answers, and the counts in words."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pmt

from ..contract import tags
from ..contract.detection import LEAST_CONFIDENCE, MAIN_HEAD, QUIET, SENSING_HEAD
from ..contract.vocabulary import UNKNOWN

MOST_BOXES = 400
MOST_RUNS = 12
_NO_HEADS = frozenset({tags.SAMPLE_START, tags.SAMPLE_COUNT, tags.RX_TIME, tags.RX_RATE, tags.RX_FREQ, tags.SNR_DB,
                       tags.LATENCY_MS})


@dataclass
class Answer:
    """What was said of one window: samples ``start`` to ``stop`` of the display's stream."""

    start: int
    stop: int
    labels: dict[str, str]  # head -> label, the main head first
    confidences: dict[str, float]
    freq: float | None  # rx_freq, Hz
    snr_db: float | None

    @property
    def main(self) -> str:
        """The head that boxes are named by."""
        return next(iter(self.labels))

    @property
    def quiet(self) -> bool:
        """Nothing is there: the main head says so, or where it is no ``modulation`` all heads do."""
        if self.main == MAIN_HEAD:
            return self.labels[MAIN_HEAD] in QUIET
        return all(label in QUIET or self.confidences[head] < LEAST_CONFIDENCE for head, label in self.labels.items())


@dataclass
class Run:
    """Answers in a row that are shown as one; each head's label is the one that it gave most often."""

    start: int
    stop: int
    quiet: bool
    freq: float | None
    windows: int = 0
    votes: dict[str, dict[str, list]] = field(default_factory=dict)  # head -> label -> [windows, sum of confidences]
    snrs: list[float] = field(default_factory=lambda: [0.0, 0])  # sum and count, dB

    def add(self, answer: Answer, sign: int = 1) -> None:
        """Counts an answer, or takes it back (-1)."""
        self.windows += sign
        for head, label in answer.labels.items():
            vote = self.votes.setdefault(head, {}).setdefault(label, [0, 0.0])
            vote[0] += sign
            vote[1] += sign * answer.confidences[head]
        if answer.snr_db is not None:
            self.snrs[0] += sign * answer.snr_db
            self.snrs[1] += sign
        if sign > 0:
            self.stop = max(self.stop, answer.stop)

    @property
    def labels(self) -> dict[str, str]:
        return {head: self._most(head) for head in self.votes}

    def _most(self, head: str) -> str:
        given = self.votes[head]
        return max(given, key=lambda label: given[label][0])

    @property
    def snr_db(self) -> float | None:
        return self.snrs[0] / self.snrs[1] if self.snrs[1] else None

    @property
    def main(self) -> str:
        """The head that names it: ``modulation``, or where there is none the first that hears something."""
        first = next(iter(self.votes))
        if first == MAIN_HEAD or self.quiet:
            return first
        return next((head for head, label in self.labels.items() if label not in QUIET), first)

    @property
    def label(self) -> str:
        return self._most(self.main)

    def agreeing(self) -> int:
        """Windows of which the main head said what is shown."""
        return max(vote[0] for vote in self.votes[self.main].values())

    def confidence(self, head: str) -> float:
        """Mean over the windows that agree."""
        count, total = max(self.votes[head].values(), key=lambda vote: vote[0])
        return total / count

    @property
    def stray(self) -> bool:
        """Whether it is a window or two without power above the noise floor: weights err once in a thousand windows."""
        return not self.quiet and self.windows <= 2 and self.snr_db is not None and self.snr_db <= 0

    def text(self) -> str:
        """The main head's label and confidence."""
        return f"{self.label} {self.confidence(self.main):.2f}"

    def others(self) -> list[str]:
        """What the other heads are sure to hear besides, each with its confidence."""
        if self.quiet:
            return []
        return [f"{head} {label} {self.confidence(head):.2f}" for head, label in self.labels.items()
                if head not in (self.main, SENSING_HEAD) and label not in QUIET and label != UNKNOWN
                and self.confidence(head) >= LEAST_CONFIDENCE and 2 * self.votes[head][label][0] >= self.windows]


class _Recent:
    """The newest answers of a run, and how often each head gave which label. That is counted as they come and go:
    thousands may come a second."""

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self.answers: deque[Answer] = deque()
        self.given: dict[str, Counter] = {}
        for answer in answers:
            self.append(answer)

    def append(self, answer: Answer) -> None:
        self.answers.append(answer)
        for head, label in answer.labels.items():
            self.given.setdefault(head, Counter())[label] += 1

    def forget_oldest(self) -> None:
        for head, label in self.answers.popleft().labels.items():
            self.given[head][label] -= 1


class Scene:
    """Gathers what came over the message ports of a display.

    All calls come from one thread.

    Parameters
    ----------
    rate: of the display's stream; detections of a decimated stream are brought to its samples by their ``rx_rate``
    bridge_s: skipped windows between two answers end a run only where they last longer, seconds
    settle_s: a run ends where fewer than a quarter of the main head's answers of so many seconds give its label
    pause_s: nothing for at most so many seconds between two equal answers does not end a run
    """

    def __init__(self, rate: float, bridge_s: float = 0.0, settle_s: float = 0.0, pause_s: float = 0.0) -> None:
        self.rate, self.origin, self._picture = rate, 0, 0
        self.bridge_s, self.settle_s, self.pause_s = bridge_s, settle_s, pause_s
        self.boxes: deque[Run] = deque(maxlen=MOST_BOXES)  # without the quiet ones
        self.runs: deque[Run] = deque(maxlen=MOST_RUNS)
        self._recent = _Recent()  # of the newest run, those of the last settle_s
        self.overflows = 0
        self.counts: dict = {}
        self.recorder: dict = {}

    def move(self, rate: float, origin: int, picture: int) -> None:
        """Picture number ``picture`` begins at sample ``origin`` of the stream; what the last one had is forgotten."""
        if picture != self._picture:
            self.rate, self.origin, self._picture = rate, origin, picture
            self.boxes.clear()
            self.runs.clear()
            self._recent = _Recent()

    def detection(self, fields: dict) -> None:
        """The dict of a PDU of the port ``detections``."""
        answer = self._answer(fields)
        if answer is None:
            return
        if not self._continues(answer):
            self._begin([answer], answer.start)
            return
        run = self.runs[-1]
        run.add(answer)
        self._recent.append(answer)
        since = answer.stop - max(answer.stop - answer.start, round(self.settle_s * self.rate))
        while self._recent.answers[0].start < since:
            self._recent.forget_oldest()
        if not run.quiet:
            self._split(run)

    def _answer(self, fields: dict) -> Answer | None:
        heads = {name: value for name, value in fields.items()
                 if name not in _NO_HEADS and isinstance(value, dict) and tags.LABEL in value
                 and not value.get(tags.OUTSIDE)}
        if not heads or tags.SAMPLE_START not in fields:
            return None
        names = sorted(heads, key=lambda name: (name != MAIN_HEAD, name))
        own = fields.get(tags.RX_RATE)
        factor = max(1, round(self.rate / own)) if own and own > 0 else 1
        start = int(fields[tags.SAMPLE_START]) * factor - self.origin
        stop = start + int(fields.get(tags.SAMPLE_COUNT, 1)) * factor
        snr = fields.get(tags.SNR_DB)
        return None if stop <= 0 else Answer(
            start, stop, {name: str(heads[name][tags.LABEL]) for name in names},
            {name: float(heads[name].get(tags.CONFIDENCE, 0.0)) for name in names}, fields.get(tags.RX_FREQ),
            None if snr is None else float(snr))

    def _continues(self, answer: Answer) -> bool:
        """Whether it belongs to the newest run, or to the one before a pause, which then is the newest again. Noise
        before and after stray answers is one run, which they are counted in."""
        run = self.runs[-1] if self.runs else None
        if not self._follows(run, answer):
            return False
        if answer.quiet and run.stray and len(self.runs) > 1 and self.runs[-2].quiet and all(
                self._follows(self.runs[-2], stray) for stray in self._recent.answers):
            self.runs.pop()
            self.boxes.pop()
            run = self.runs[-1]
            for stray in self._recent.answers:
                run.add(stray)
            self._recent = _Recent()
            return True
        if run.quiet == answer.quiet:
            return True
        before = self.runs[-2] if run.quiet and len(self.runs) > 1 else None
        if (before is None or before.quiet or before.freq != answer.freq
                or answer.labels.get(before.main) != before.label
                or answer.start - before.stop > round(self.pause_s * self.rate)):
            return False
        self.runs.pop()
        self._recent = _Recent()
        return True

    def _follows(self, run: Run | None, answer: Answer) -> bool:
        """Whether an answer comes behind a run, of the same heads at the same frequency."""
        return (run is not None and run.freq == answer.freq and _same_heads(run.votes, answer.labels)
                and run.start <= answer.start <= run.stop + round(self.bridge_s * self.rate))

    def _split(self, run: Run) -> None:
        """Where few answers still give a label of the run, another begins with the first that does not."""
        recent = self._recent
        first, last = recent.answers[0], recent.answers[-1]
        if run.start > first.start - (last.stop - first.start):
            return  # too young to be two: its own label follows the majority
        head, label = run.main, run.label
        if 4 * recent.given[head][label] >= len(recent.answers):
            return
        while recent.answers[0].labels[head] == label:
            recent.forget_oldest()
        moved = list(recent.answers)
        for answer in moved:
            run.add(answer, -1)
        run.stop = min(run.stop, max(moved[0].start, run.start + 1))
        self._begin(moved, run.stop)

    def _begin(self, answers: list[Answer], start: int) -> None:
        run = Run(start, start, answers[0].quiet, answers[0].freq)
        for answer in answers:
            run.add(answer)
        self._recent = _Recent(answers)
        self.runs.append(run)
        if not run.quiet:
            self.boxes.append(run)

    def statistics(self, fields: dict) -> None:
        """The dict of a PDU of the port ``statistics`` of a receiver or of a recorder. ValueError for another's."""
        before = self.counts, self.recorder
        if "samples_written" in fields:
            self.recorder = fields
        else:
            self.counts = fields
        try:
            fields["samples_written" if self.recorder is fields else "windows_seen"]
            self.statistics_text()
        except (TypeError, ValueError, KeyError):
            self.counts, self.recorder = before
            raise ValueError("statistics of no block that is known") from None

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
            decided = answered + c.get("windows_skipped", 0)  # the others wait for their answer
            share = f"{100 * answered / decided:.1f} %" if decided else "-"
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
        if c.get(tags.WINDOWS_OUTSIDE):
            heads = ", ".join(sorted(c[tags.WINDOWS_OUTSIDE]))
            out.append(f"not shown, since trained on windows of other rates: {heads}")
        if c.get("weights_error"):
            out.append(f"weights refused: {c['weights_error']}")
        if self.recorder:
            out.append(recorder_text(self.recorder))
        return out


def _same_heads(one: Collection[str], other: Collection[str]) -> bool:
    """Whether one run may have the answers of both: the others need not all answer where the main head does."""
    return MAIN_HEAD in one and MAIN_HEAD in other or set(one) == set(other)


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
    return (f"{state}{counts['samples_written']:,} samples in {counts.get('rows', 0):,} rows written, "
            f"{counts.get('samples_dropped', 0):,} dropped")


def fields_of(message: pmt.pmt_base) -> dict | None:
    """The dict of a PDU, or a dict by itself; None for anything else."""
    if pmt.is_pair(message) and not pmt.is_dict(message):
        message = pmt.car(message)
    try:
        fields = pmt.to_python(message)
    except (ValueError, TypeError):
        return None
    return fields if isinstance(fields, dict) else None
