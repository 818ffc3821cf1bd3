"""Quality control of sets of signals: what is wrong with which row of which file.

    file ─► rows ─► each row by itself ──────────────────► faults (file, row, kind, words)
                 ├► hash of its samples ─► all files ────► duplicates, rows on both sides of a split
                 └► measured minus label ─► its peers ───► rows whose label does not fit

What a measurement gives depends on the class (a spectrum says little about the SNR of a signal that fills it), so a
row is compared with its peers: rows of the same set, class and SNR. Memory: one row group, the labels of one file, and
some 40 bytes for each row. Labels that say what is expected are believed: a row without noise ("clean" or "source" in
its transmission_id) is zero between its pulses and nothing is wrong with it.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError
from emind.contract.schema import KINDS, Signal
from emind.storage.parquet import Reader

from . import quality_measure as measure
from .quality_measure import db, power
from .synthesis.recipe import linked

SHORTEST = 8  # samples: one patch
STUCK = 32  # equal samples in a row
RARE = 0.01  # share of rows: a length that fewer have, where nearly all rows share another, is a fault
USUAL = 0.9
OFFSET_SHARE, OFFSET_LINE = 0.05, 200.0  # a constant offset: share of the power, height above its neighbours
# These hold a carrier: a line at zero frequency is theirs.
CARRIED = re.compile(r"AM|FM|OOK|ASK|DSB|CW|tone|comb|carrier|sweep", re.IGNORECASE)
PEERS = 8  # with fewer, a row has nobody to be compared with
SNR_DB, BAND_DB = 10.0, 6.0  # least distance from its peers at which a row is an outlier
CHANCE = 10.0  # times the peers' own spread
SIGMAS = 6.0
SHIFTED_DB = 1.5  # a whole set beside its SNR labels
CLEAR_SNR_DB = 10.0  # above, pulses and bands are measured
MIXTURE_DB = 0.5
UNBALANCED = 10.0  # the most frequent class over the rarest
CLASS_COLUMNS = ("modulation", "radar_waveform", "infer_class")
POSITIVE = ("sampling_rate", "pri", "pulse_width", "band_width")
NOT_NEGATIVE = ("num_pulses", "amplitude")
PART = re.compile(r"^emind-train dataset split, seed (?P<seed>\d+): (?P<part>\S+) of ")
# What each kind means; the mendable ones are mended by quality_mend, the others dropped.
MENDABLE = {"not finite", "direct current", "text"}


@dataclass(frozen=True)
class Fault:
    """``row`` of ``file``: what kind, and the words for a reader."""

    file: str
    row: int
    kind: str
    words: str

    @property
    def line(self) -> str:
        return f"{self.file}: row {self.row}: {self.kind}: {self.words}"


@dataclass
class Report:
    """What a check found. ``faults`` are of rows; ``notes`` are for a reader and fault nothing."""

    files: list[str]
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: dict[str, dict[str, Counter]] = field(default_factory=dict)  # set -> column -> value -> rows
    lengths: dict[str, Counter] = field(default_factory=dict)  # set -> samples -> rows
    levels: dict[str, Counter] = field(default_factory=dict)  # set -> SNR in steps of 2 dB -> rows

    def kinds(self) -> Counter:
        return Counter(fault.kind for fault in self.faults)

    def to_dict(self) -> dict:
        return {"files": self.files, "rows": self.rows, "faulty_rows": len({(f.file, f.row) for f in self.faults}),
                "kinds": dict(self.kinds()), "faults": [asdict(fault) for fault in self.faults], "notes": self.notes,
                "classes": {name: {column: dict(sorted(c.items())) for column, c in columns.items()}
                            for name, columns in self.classes.items()}}


def without_noise(row: Signal) -> bool:
    """Whether the labels say that the row is a clean one: exact zeros and equal samples are as they should be."""
    role = linked(row.transmission_id)[1] if row.transmission_id else ""
    return row.snr is None and (role == "clean" or role.startswith("source") or measure.has_pulses(row))


def class_of(row: Signal) -> str:
    return "/".join(getattr(row, name) or "" for name in CLASS_COLUMNS)


def label_faults(row: Signal) -> Iterable[tuple[str, str]]:
    """Labels that cannot be, whatever the samples are: (kind, words)."""
    for name, kind in KINDS.items():
        value = getattr(row, name)
        if kind == "text" and value is not None and value != value.strip():
            yield "text", f"{name} {value!r} has spaces around it"
        elif kind == "text" and value == "":
            yield "text", f"{name} is an empty text where it should be null"
        elif kind in ("real", "whole") and value is not None and not np.isfinite(value):
            yield "label", f"{name} is {value}"
    for name in POSITIVE:
        value = getattr(row, name)
        if value is not None and value <= 0:
            yield "label", f"{name} is {value:g}: it must be above 0"
    for name in NOT_NEGATIVE:
        value = getattr(row, name)
        if value is not None and value < 0:
            yield "label", f"{name} is {value:g}: it must not be negative"
    if row.pri and row.pulse_width and row.pulse_width > row.pri:
        yield "label", f"pulse_width {row.pulse_width:g} s is longer than pri {row.pri:g} s"
    if row.band_width and row.sampling_rate and row.band_width > row.sampling_rate:
        yield "label", f"band_width {row.band_width:g} Hz is more than sampling_rate {row.sampling_rate:g} Hz"
    segments = row.radar_segmentation
    if segments and "," in segments and segments.count(",") + 1 != len(row.iq):
        yield "label", f"radar_segmentation names {segments.count(',') + 1} samples of {len(row.iq)}"


def sample_faults(row: Signal) -> Iterable[tuple[str, str]]:
    """What is wrong with the samples themselves: (kind, words)."""
    x, n = row.iq, len(row.iq)
    if n < SHORTEST:
        yield "length", f"has {n} samples: fewer than a patch of {SHORTEST}"
        return
    values = x.view(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        bad = int(np.sum(~finite.reshape(-1, 2).all(axis=1)))
        yield "not finite", f"{bad} of {n} samples are NaN or infinite, the first is {int(np.argmin(finite)) // 2}"
        return
    start, length = measure.longest_run(x)
    if length == n:
        yield "constant", f"all {n} samples are {x[0]:g}"
        return
    if without_noise(row):
        return
    if length >= STUCK:
        where = "at its start" if start == 0 else "at its end" if start + length == n else f"from sample {start}"
        kind = "padded" if start == 0 or start + length == n else "stuck"
        yield kind, f"{length} of {n} samples are {x[start]:g} {where}"
    share = measure.clipped_share(x)
    if share:
        yield "clipping", f"{share:.1%} of the I and Q values stand at their limit {np.abs(values).max():g}"
    if row.radar_waveform is None and not CARRIED.search(class_of(row)):
        share, line = measure.direct_current(x)
        if share > OFFSET_SHARE and line > OFFSET_LINE:
            yield "direct current", f"{share:.0%} of the power is a constant offset of {np.mean(x):.3g}"


def pulse_faults(row: Signal) -> Iterable[tuple[str, str]]:
    """Pulse labels against what is measured, where the signal is clear enough."""
    if not measure.has_pulses(row) or row.infer_class is not None:
        return
    if row.snr is not None and row.snr < CLEAR_SNR_DB:
        return
    for name, (label, found, slack) in measure.found_pulses(row).items():
        unit = "" if name == "num_pulses" else f" samples (+-{slack:.0f})"
        yield "pulses", f"{name}: the label says {label:.4g}, measured {found:.4g}{unit}"


class Peers:
    """Measured minus label of many rows, by group; names those far from their group's middle."""

    def __init__(self) -> None:
        self._groups: dict[tuple, tuple[array, array, array]] = {}

    def add(self, key: tuple, place: int, value: float, tolerance: float) -> None:
        """``tolerance``: dB that chance alone can reach; the group's own spread counts where this is 0."""
        group = self._groups.setdefault(key, (array("q"), array("d"), array("f")))
        for column, entry in zip(group, (place, value, tolerance), strict=True):
            column.append(entry)

    def outliers(self, least: dict[str, float]) -> Iterable[tuple[int, str, float, float]]:
        """(place, what was measured, distance from the peers, the peers' own middle)."""
        for key, columns in self._groups.items():
            places, values, chance = (np.array(column) for column in columns)
            enough = len(values) >= PEERS
            middle = float(np.median(values)) if enough else 0.0
            tolerance = chance
            if not chance.any():
                if not enough:
                    continue
                spread = 1.4826 * float(np.median(np.abs(values - middle)))
                tolerance = np.full(len(values), max(least[key[0]], CHANCE * spread))
            for index in np.flatnonzero(np.abs(values - middle) > tolerance):
                yield int(places[index]), key[0], float(values[index] - middle), middle


    def shifted(self) -> Iterable[tuple[str, float]]:
        """Sets whose pulses, at labels from 0 dB on, stand by more than SHIFTED_DB beside what the labels ask for."""
        sets: dict[str, list[float]] = {}
        for (what, name, step, *rest), (_, values, _) in self._groups.items():
            if what == "SNR" and rest == ["pulses"] and step >= 0:
                sets.setdefault(name, []).extend(values)
        for name, values in sets.items():
            middle = float(np.median(values))
            if len(values) >= PEERS and abs(middle) > SHIFTED_DB:
                yield name, middle


class Checker:
    """Takes the rows of files one after another; ``finish`` compares them with each other."""

    def __init__(self, paths: list[Path]) -> None:
        self.report = Report([str(path) for path in paths])
        self._hashes, self._places = array("Q"), array("q")
        self._peers = Peers()
        self._parts: dict[tuple[str, str], dict[str, int]] = {}  # rows that belong together -> part -> place
        self._group: tuple[int, str, str, list[tuple[int, Signal]]] | None = None

    def fault(self, place: int, kind: str, words: str) -> None:
        file, row = divmod(place, 1 << 40)
        self.report.faults.append(Fault(self.report.files[file], row, kind, words))

    def add_file(self, number: int, progress: Callable[[int], None]) -> None:
        path = Path(self.report.files[number])
        with Reader(path) as reader:
            if reader.count == 0:
                raise EMindError(f"{path}: holds no signals")
            reader.verify()
            part = PART.match(reader.metadata.get("origin", ""))
            first = number << 40
            for index, row in enumerate(reader):
                self.add_row(first + index, row, part["part"] if part else "")
                if index % 256 == 255:
                    progress(256)
            progress(reader.count % 256)
        self._end_group()

    def add_row(self, place: int, row: Signal, part: str) -> None:
        report, name = self.report, row.dataset_name or ""
        report.rows += 1
        self._count(row, name)
        found = [*sample_faults(row), *label_faults(row)]
        broken = {kind for kind, _ in found}
        if not broken & {"not finite", "constant", "length", "padded", "stuck", "label"}:
            found += pulse_faults(row)
            self._measure(place, row, name)
        for kind, words in found:
            self.fault(place, kind, words)
        if not broken & {"constant", "length"}:
            digest = hashlib.blake2b(row.iq.view(np.uint8), digest_size=8).digest()
            self._hashes.append(int.from_bytes(digest, "little"))
            self._places.append(place)
        common, role = linked(row.transmission_id) if row.transmission_id else ("", "")
        if part and common:
            self._leak(place, part, (name, common))
        if not role or not self._group or self._group[:3] != (place >> 40, name, common):
            self._end_group()
            if role:
                self._group = (place >> 40, name, common, [])
        if role and len(self._group[3]) < 16:
            self._group[3].append((place, row))

    def _count(self, row: Signal, name: str) -> None:
        report = self.report
        report.lengths.setdefault(name, Counter())[len(row.iq)] += 1
        columns = report.classes.setdefault(name, {})
        for column in CLASS_COLUMNS:
            value = getattr(row, column)
            if value is not None:
                columns.setdefault(column, Counter())[value] += 1
        if row.snr is not None and np.isfinite(row.snr):
            report.levels.setdefault(name, Counter())[2 * round(row.snr / 2)] += 1

    def _measure(self, place: int, row: Signal, name: str) -> None:
        """The row's SNR and bandwidth for the comparison with its peers."""
        if row.isr is not None:
            return  # what the interference leaves of the signal cannot be told apart
        key = (name, class_of(row), len(row.iq))
        if row.snr is not None and row.snr > measure.LEAST_DB:
            step = int(row.snr // 4)
            if measure.has_pulses(row):
                found = measure.snr_by_pulses(row)
                if found is not None:
                    self._peers.add(("SNR", name, step, "pulses"), place, found[0], SIGMAS * found[1] + 1.0)
            else:
                seen = measure.snr_by_spectrum(row.iq)
                if seen is not None:
                    self._peers.add(("SNR", *key, step), place, seen - row.snr, 0.0)
        if row.band_width and row.sampling_rate and row.infer_class is None:
            if row.snr is None or row.snr >= CLEAR_SNR_DB:
                band = measure.bandwidth(row)
                if band:
                    self._peers.add(("bandwidth", *key), place, db(band / row.band_width), 0.0)

    def _leak(self, place: int, part: str, group: tuple[str, str]) -> None:
        """Rows that belong together must be in one part of a split."""
        seen = self._parts.setdefault(group, {})
        seen.setdefault(part, place)
        other = next((first for name, first in seen.items() if name != part), None)
        if other is not None:
            file, row = divmod(other, 1 << 40)
            self.fault(place, "leak", f"belongs to row {row} of {self.report.files[file]}, another part of the split")

    def _end_group(self) -> None:
        """A mixture must be the sum of its sources and of noise at its SNR."""
        group, self._group = self._group, None
        rows = group[3] if group else []
        mixes = [(place, row) for place, row in rows if linked(row.transmission_id)[1] == "mix"]
        sources = [row.iq for _, row in rows if linked(row.transmission_id)[1].startswith("source")]
        if len(mixes) != 1 or not sources or len({len(row.iq) for _, row in rows}) != 1:
            return
        place, mix = mixes[0]
        total = np.sum(sources, axis=0, dtype=np.complex64)
        rest = power(np.ascontiguousarray(mix.iq - total))
        if mix.snr is None or not np.isfinite(rest) or rest == 0:
            return
        found = db(power(total) / rest)
        if abs(found - mix.snr) > MIXTURE_DB:
            self.fault(place, "SNR", f"the label says {mix.snr:g} dB, mixture minus sources gives {found:.1f} dB")

    def finish(self, opened: Callable[[int], Reader]) -> Report:
        self._duplicates(opened)
        self._lengths(opened)
        for place, what, distance, middle in self._peers.outliers({"SNR": SNR_DB, "bandwidth": BAND_DB}):
            self.fault(place, what, f"measured {distance:+.1f} dB from what rows of the same labels have "
                                    f"(theirs is {middle:+.1f} dB from the label)")
        self.report.notes += [f"{name}: SNR is {middle:+.1f} dB from the labels in the middle of all rows: wrong, or "
                              "defined otherwise than as power in the pulses over the noise's"
                              for name, middle in self._peers.shifted()]
        self._balance()
        order = {name: index for index, name in enumerate(self.report.files)}
        self.report.faults.sort(key=lambda fault: (order[fault.file], fault.row))
        return self.report

    def _duplicates(self, opened: Callable[[int], Reader]) -> None:
        """Rows of equal samples: all but the first are named. A hash finds them, the samples decide."""
        hashes, places = np.array(self._hashes, np.uint64), np.array(self._places, np.int64)
        order = np.argsort(hashes, kind="stable")
        sorted_hashes = hashes[order]
        first = 0
        for index in np.flatnonzero(sorted_hashes[1:] == sorted_hashes[:-1]) + 1:
            if sorted_hashes[index] != sorted_hashes[first]:
                first = int(np.searchsorted(sorted_hashes, sorted_hashes[index]))
            place, other = int(places[order[index]]), int(places[order[first]])
            (file, row), (other_file, other_row) = divmod(place, 1 << 40), divmod(other, 1 << 40)
            if opened(file).iq(row).tobytes() == opened(other_file).iq(other_row).tobytes():
                where = "" if file == other_file else f"{self.report.files[other_file]} "
                self.fault(place, "duplicate", f"has the samples of {where}row {other_row}")

    def _lengths(self, opened: Callable[[int], Reader]) -> None:
        odd = {}
        for name, counts in self.report.lengths.items():
            total, (usual, most) = sum(counts.values()), counts.most_common(1)[0]
            if most >= USUAL * total:
                odd[name] = usual, {n for n, count in counts.items() if count < RARE * total and n >= SHORTEST}
        if not any(lengths for _, lengths in odd.values()):
            return
        for number in range(len(self.report.files)):
            reader = opened(number)
            names = reader.columns(["dataset_name"])["dataset_name"]
            for row, (name, length) in enumerate(zip(names, reader.lengths().tolist(), strict=True)):
                usual, lengths = odd.get(name or "", (0, ()))
                if length in lengths:
                    self.fault((number << 40) + row, "length", f"has {length} samples where its set has {usual}")

    def _balance(self) -> None:
        for name, columns in self.report.classes.items():
            for column, counts in columns.items():
                (most, high), (least, low) = counts.most_common(1)[0], counts.most_common()[-1]
                if high > UNBALANCED * low:
                    self.report.notes.append(f"{name}: {column} is unbalanced: {most} in {high} rows, {least} in {low}")


def check(paths: list[Path], progress: Callable[[int], None] = lambda rows: None) -> Report:
    """Everything that is wrong with files of signals. EMindError where one cannot be read or is empty."""
    checker = Checker(paths)
    for number in range(len(paths)):
        checker.add_file(number, progress)
    readers: dict[int, Reader] = {}

    def opened(number: int) -> Reader:
        if number not in readers:
            if len(readers) >= 16:
                readers.pop(next(iter(readers))).close()
            readers[number] = Reader(paths[number])
        return readers[number]

    try:
        return checker.finish(opened)
    finally:
        for reader in readers.values():
            reader.close()
