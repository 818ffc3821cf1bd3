"""Where windows start, where the stream breaks, and what time it is at a sample.

Samples are counted from the start of the stream; windows likewise. A *gap* is a sample at which the stream does
not continue what came before: windows never straddle one.

    samples   0 . . . . . . . . . . . . . . . . g . . . . .
    windows   [--- full ---][--- full ---][part]              zero-filled from g on, valid < length
                                                [--- full --- the next window starts at g
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from ..contract import tags

# A clock reading: whole seconds and the fraction, kept apart so that nanoseconds survive a Unix time.
Moment = tuple[int, float]

# How far, in samples, a time tag may be off before it counts as a gap: a tuner that decimates moves a tag by up to
# half a sample, and so the distance between two tags by up to one.
TIME_TOLERANCE_SAMPLES = 1.0 + 1e-3


def advance(moment: Moment, samples: int, rate_hz: float) -> Moment:
    """The clock reading ``samples`` (may be negative) after ``moment``, its fraction within [0, 1)."""
    fraction = moment[1] + samples / rate_hz
    whole = math.floor(fraction)
    return moment[0] + whole, fraction - whole


def samples_between(earlier: Moment, later: Moment, rate_hz: float) -> float:
    """Samples that pass between two clock readings."""
    return ((later[0] - earlier[0]) + (later[1] - earlier[1])) * rate_hz


@dataclass(frozen=True)
class StreamState:
    """What is known of the stream from ``sample`` on. Rate and frequency in Hz, nan where unknown.

    ``time`` is the clock reading of ``sample``, or None. ``gap`` says that the stream breaks at ``sample``.
    """

    sample: int = 0
    rate: float = math.nan
    freq: float = math.nan
    time: Moment | None = None
    gap: bool = False

    def time_at(self, sample: int) -> Moment | None:
        """Clock reading of another sample, None where the time or the rate to reckon with is unknown."""
        if self.time is None or sample == self.sample:
            return self.time
        return advance(self.time, sample - self.sample, self.rate) if self.rate > 0 else None


class Continuity:
    """Follows the time, rate and frequency of a stream and finds where it breaks.

    Parameters
    ----------
    rate: sample rate in Hz where no tag says otherwise, 0 or nan if unknown.
    """

    def __init__(self, rate: float = math.nan) -> None:
        self.state = StreamState(rate=rate if rate > 0 else math.nan)
        self._reference = self.state  # the newest clock reading, so that drift between readings does not add up

    def observe(
        self, sample: int, rate: float | None = None, freq: float | None = None, time: Moment | None = None
    ) -> StreamState | None:
        """Take what the tags on one sample say; None stands for no tag.

        Returns the state from that sample on, or None when the tags say nothing new. A value that was unknown until
        now is news but no gap; a changed value, or a time that does not continue the last one, is both. A second
        time while the rate is unknown cannot be shown to continue the first, so it is a gap.
        """
        old, reference = self.state, self._reference
        new_rate = old.rate if rate is None else rate
        new_freq = old.freq if freq is None else freq
        broken = _changed(old.rate, new_rate) or _changed(old.freq, new_freq)
        expected = reference.time_at(sample)
        if time is not None and reference.time is not None:
            broken = broken or expected is None or not _continues(expected, time, reference.rate)
        now = expected if time is None else time
        state = StreamState(sample, new_rate, new_freq, now, gap=broken and sample > 0)
        self._reference = state
        if not state.gap and not self._news(state):
            return None
        self.state = state
        return state

    def break_at(self, sample: int) -> StreamState:
        """The stream does not continue at this sample, though no tag says so; the state from there on."""
        time = self._reference.time_at(sample)
        self._reference = self.state = StreamState(sample, self.state.rate, self.state.freq, time, gap=sample > 0)
        return self.state

    def _news(self, state: StreamState) -> bool:
        """Whether those who reckon from the last published state would be wrong from here on."""
        old = self.state
        if _differs(old.rate, state.rate) or _differs(old.freq, state.freq):
            return True
        if state.time is None:
            return False
        predicted = old.time_at(state.sample)
        return predicted is None or not _continues(predicted, state.time, state.rate)


def _changed(old: float, new: float) -> bool:
    return not math.isnan(old) and old != new


def _differs(old: float, new: float) -> bool:
    return old != new and not (math.isnan(old) and math.isnan(new))


def _continues(expected: Moment, found: Moment, rate_hz: float) -> bool:
    """Whether two readings of one sample agree within the tolerance; without a rate they must be equal."""
    if not rate_hz > 0:
        return expected == found
    return abs(samples_between(expected, found, rate_hz)) <= TIME_TOLERANCE_SAMPLES


@dataclass(frozen=True)
class Run:
    """``count`` windows, ``hop`` samples apart, the first at sample ``start``; ``valid`` samples of each are signal."""

    start: int
    count: int
    valid: int


class Framer:
    """Cuts a stream into windows of ``length`` samples every ``hop``, and anew at each gap.

    ``position`` is the first sample of the next window: what lies before it is not needed any more.
    """

    def __init__(self, length: int, hop: int) -> None:
        if not 1 <= hop <= length:
            raise ValueError(f"hop {hop} must be between 1 and the window length {length}")
        self.length, self.hop = length, hop
        self.position = 0
        self._covered = 0  # no window has held this sample yet
        self._gaps: deque[int] = deque()

    def mark_gap(self, sample: int) -> None:
        """The stream breaks before ``sample``, which no window has held yet. In order."""
        self._gaps.append(sample)

    def take(self, end: int, space: int) -> list[Run]:
        """The windows, at most ``space``, that the samples before ``end`` give; they count as taken."""
        runs = []
        while space > 0:
            at_gap = bool(self._gaps) and self._gaps[0] <= end
            limit = self._gaps[0] if at_gap else end
            count = min(space, (limit - self.position - self.length) // self.hop + 1)
            if count > 0:
                runs.append(Run(self.position, count, self.length))
                self.position += count * self.hop
                self._covered = self.position - self.hop + self.length
                space -= count
            elif at_gap:
                if self._covered < limit:  # samples that no full window holds
                    runs.append(Run(self.position, 1, limit - self.position))
                    space -= 1
                self.position = self._covered = self._gaps.popleft()
            else:
                break
        return runs

    def first_window_with(self, run: Run, sample: int) -> int:
        """Which window of the run is the first that holds ``sample``; ``run.count`` or more if none does."""
        return max(0, -((run.start + run.valid - 1 - sample) // self.hop))

    def first_window_from(self, run: Run, sample: int) -> int:
        """Which window of the run is the first that starts at ``sample`` or later."""
        return max(0, -((run.start - sample) // self.hop))


@dataclass(frozen=True)
class Anchor:
    """A window that says where it lies; those behind it follow by arithmetic until the next anchor.

    ``window`` is its number, ``start`` its first sample, ``valid`` its own samples that are signal (windows behind an
    anchor are whole), ``state`` the stream at its first sample (with ``gap``: the stream broke right before it).
    """

    window: int
    start: int
    hop: int
    valid: int
    state: StreamState

    def start_of(self, window: int) -> int:
        """First sample of a window at or behind this one."""
        return self.start + (window - self.window) * self.hop

    def valid_of(self, window: int, length: int) -> int:
        """Samples of a window at or behind this one that are signal and not zero fill."""
        return self.valid if window == self.window else length


def anchor_from_fields(window: int, fields: dict) -> Anchor:
    """The anchor that an ``emind_window`` dict on window number ``window`` stands for.

    Raises ValueError where an entry that every such dict has is missing or impossible.
    """
    try:
        start, hop, valid = (int(fields[key]) for key in (tags.WINDOW_START, tags.WINDOW_HOP, tags.WINDOW_VALID))
    except (KeyError, TypeError) as fault:
        raise ValueError(f"the tag {tags.WINDOW} on window {window} has no usable entry {fault}") from None
    if hop < 1 or valid < 1:
        raise ValueError(f"the tag {tags.WINDOW} on window {window} has hop {hop} and valid {valid}")
    state = StreamState(
        start,
        float(fields.get(tags.RX_RATE, math.nan)),
        float(fields.get(tags.RX_FREQ, math.nan)),
        fields.get(tags.RX_TIME),
        bool(fields.get(tags.WINDOW_GAP, False)),
    )
    return Anchor(window, start, hop, valid, state)


def window_buffer(length: int, windows: int, limit_bytes: int = 32 << 20) -> int:
    """Windows of ``length`` complex64 samples for a buffer to hold: as asked, within ``limit_bytes``, at least 4."""
    return max(4, min(windows, limit_bytes // (8 * length)))
