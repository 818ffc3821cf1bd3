"""The corpus: which signals of which files a run learns from, row group by row group.

    <folder>/<set>-train.parquet        sets and parts by the names of the files that `emind-train dataset split`
    <folder>/<set>-validation.parquet   writes; a set's part in several files: <set>-0000-of-0003-train.parquet

What is kept in memory is one entry a row group (8 MiB of samples): its file, how many of its rows are chosen, its
longest. Which rows those are is read again from the file's labels when the row group's turn has come, so that a corpus
of 81 million signals costs a megabyte here.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError
from emind.storage.parquet import Reader

SNR_ABOVE_DB = 6.0  # section VI-A
PIECE = r"(?:-\d+-of-\d+)?"


@dataclass(frozen=True)
class Chosen:
    """Which rows take part. Rows whose SNR is unknown stay; so do rows whose rate is unknown."""

    snr_above: float | None = SNR_ABOVE_DB  # dB; None takes all
    length_min: int = 1
    length_max: int | None = None  # samples; longer signals are left out
    rate_min_hz: float | None = None
    rate_max_hz: float | None = None

    def rows(self, snr: np.ndarray, rate: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Numbers of the chosen rows, of the columns' values (rows,), nan for unknown."""
        keep = lengths >= self.length_min
        if self.length_max is not None:
            keep &= lengths <= self.length_max
        if self.snr_above is not None:
            keep &= ~(snr <= self.snr_above)
        if self.rate_min_hz is not None:
            keep &= ~(rate < self.rate_min_hz)
        if self.rate_max_hz is not None:
            keep &= ~(rate > self.rate_max_hz)
        return np.flatnonzero(keep)


@dataclass(frozen=True)
class RowGroup:
    """The chosen signals of a row group. ``iq`` and ``begin``: as in the file, so signal i is
    ``iq[begin[i]:begin[i] + lengths[i]]``; ``rates`` in Hz, NaN where unknown."""

    iq: np.ndarray
    begin: np.ndarray
    lengths: np.ndarray
    rates: np.ndarray
    map: mmap.mmap | None

    def signal(self, index: int) -> np.ndarray:
        begin = self.begin[index]
        return self.iq[begin : begin + self.lengths[index]]


class Corpus:
    """An index over the files of one part. Groups of all files are numbered through.

    ``names``: of the sets, sorted. ``part``: as in the files' names. ``chosen``: which rows. ``skipped``: what was
    passed over because it is damaged, a line each.
    """

    def __init__(self, part: str, chosen: Chosen, sets: dict[str, list[tuple[Path, np.ndarray, np.ndarray]]],
                 skipped: list[str]) -> None:
        self.part, self.chosen, self.skipped = part, chosen, skipped
        self.names = sorted(sets)
        self.paths = [path for name in self.names for path, _, _ in sets[name]]
        parts = [one for name in self.names for one in sets[name]]
        sizes = [len(counts) for _, counts, _ in parts]
        self._counts = np.concatenate([counts for _, counts, _ in parts])
        self._longest = np.concatenate([longest for _, _, longest in parts])
        self._file = np.repeat(np.arange(len(parts), dtype=np.int32), sizes)
        self._first = np.cumsum([0, *sizes])[:-1]  # each file's first group
        ends = np.cumsum([0, *(sum(len(one[1]) for one in sets[name]) for name in self.names)])
        self._bounds = [(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    @classmethod
    def open(
        cls, folder: str | Path, part: str = "train", snr_above: float | None = SNR_ABOVE_DB,
        skip_damaged: bool = False, sets: list[str] | None = None, **chosen: float | None,
    ) -> Corpus:
        """Index the files of a folder. Reads the labels and the lengths of all rows, not their samples.

        ``sets``: only these. ``chosen``: further fields of :class:`Chosen`. ``skip_damaged``: pass over files that
        cannot be read, and say so in ``skipped``.

        Raises
        ------
        EMindError: no such folder or nothing in it, a damaged file or one of another version, a set without a row
        """
        rule = Chosen(snr_above=snr_above, **chosen)
        files = _files(Path(folder), part, sets)
        found: dict[str, list[tuple[Path, np.ndarray, np.ndarray]]] = {}
        skipped = []
        for name, paths in files.items():
            rows = 0
            for path in paths:
                try:
                    counts, longest, count = _scanned(path, rule)
                except EMindError as fault:
                    if not skip_damaged:
                        raise EMindError(f"{fault}; mend or remove the file, or skip damaged files") from None
                    skipped.append(f"skipped: {fault}")
                    continue
                rows += count
                found.setdefault(name, []).append((path, counts, longest))
            if name in found and not sum(counts.sum() for _, counts, _ in found[name]):
                above = "" if snr_above is None else f" (SNR above {snr_above:g} dB)"
                raise EMindError(f"{paths[0]}: none of the {rows} signals of {name} is left after the choice of rows"
                                 f"{above}: choose more widely, or leave the set out")
        if not found:
            raise EMindError(f"{folder}: all of its {part} files are damaged: {skipped[0].removeprefix('skipped: ')}")
        return cls(part, rule, found, skipped)

    def signals(self, name: str) -> int:
        """How many signals of a set are chosen."""
        return int(self._counts[slice(*self._bounds[self.names.index(name)])].sum())

    def __len__(self) -> int:
        return int(self._counts.sum())

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.paths)

    def groups(self, source: int) -> np.ndarray:
        """Numbers of the row groups of a set (by its number) that have chosen rows."""
        first, last = self._bounds[source]
        return first + np.flatnonzero(self._counts[first:last])

    def require_capacity(self, capacity: int) -> None:
        """EMindError where a chosen signal is longer than a row of ``capacity`` samples."""
        worst = int(self._longest.argmax())
        if self._longest[worst] > capacity:
            path = self.paths[self._file[worst]]
            raise EMindError(f"{path}: has a signal of {self._longest[worst]} samples, and a row holds {capacity}: "
                             "raise the capacity, or choose signals by length")

    def digest(self) -> str:
        """Of the sets and the numbers of their chosen rows: what a saved pointer into the corpus depends on."""
        known = hashlib.blake2b(repr((self.part, self.names, self._bounds)).encode(), digest_size=8)
        known.update(self._counts.tobytes())
        return known.hexdigest()

    def load(self, group: int) -> RowGroup:
        """The chosen signals of a row group, mapped where the file allows it."""
        file = self._file[group]
        local = int(group - self._first[file])
        with Reader(self.paths[file]) as reader:
            if local >= reader.row_groups:
                raise EMindError(f"{self.paths[file]}: has changed since the corpus was opened: start anew")
            block = reader.block(local)
            columns = reader.columns(("snr", "sampling_rate"), local)
        lengths = np.diff(block.starts)
        rows = self.chosen.rows(columns["snr"], columns["sampling_rate"], lengths)
        if len(rows) != self._counts[group]:
            raise EMindError(f"{self.paths[file]}: has changed since the corpus was opened: start anew")
        return RowGroup(block.iq, block.starts[rows], lengths[rows],
                        columns["sampling_rate"][rows].astype(np.float32), block.map)


class GroupCache:
    """Row groups by number, the ones last used. Samples stay in the files: ``release`` after use."""

    def __init__(self, corpus: Corpus, size: int) -> None:
        self.corpus, self.size = corpus, size
        self._groups: OrderedDict[int, RowGroup] = OrderedDict()

    def __getitem__(self, group: int) -> RowGroup:
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = self.corpus.load(group)
            _release(found)
            if len(self._groups) > self.size:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(group)
        return found

    def release(self) -> None:
        """Take the pages of the mapped files out of this process's memory; the system keeps them as it sees fit."""
        for group in self._groups.values():
            _release(group)


def _release(group: RowGroup) -> None:
    if group.map is not None:
        group.map.madvise(mmap.MADV_DONTNEED)


def _files(folder: Path, part: str, sets: list[str] | None) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise EMindError(f"{folder}: no such folder of split sets; `emind-train dataset split` makes one")
    pattern = re.compile(rf"(.+?){PIECE}-{re.escape(part)}{PIECE}\.parquet")
    out: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        match = pattern.fullmatch(path.name)
        if match:
            out.setdefault(match[1], []).append(path)
    if not out:
        what = f"its Parquet files are none of the part {part!r}" if any(folder.glob("*.parquet")) else \
            "it holds no Parquet files"
        raise EMindError(f"{folder}: {what}; `emind-train dataset split` writes <set>-{part}.parquet")
    for name in sets or ():
        if name not in out:
            raise EMindError(f"{folder}: has no set {name!r} in its part {part!r}; known: {', '.join(out)}")
    return {name: out[name] for name in sorted(sets or out)}


def _scanned(path: Path, rule: Chosen) -> tuple[np.ndarray, np.ndarray, int]:
    """Chosen rows and the longest of them, for each row group; and the number of all rows."""
    with Reader(path) as reader:
        columns = reader.columns(("snr", "sampling_rate"))
        lengths = reader.lengths()
        if len(lengths) != len(columns["snr"]):
            raise EMindError(f"{path}: is damaged: {len(lengths)} rows of samples and {len(columns['snr'])} of labels")
        counts = np.zeros(reader.row_groups, np.int32)
        longest = np.zeros(reader.row_groups, np.int64)
        chosen = rule.rows(columns["snr"], columns["sampling_rate"], lengths)
        groups = np.searchsorted(reader.first_rows, chosen, "right") - 1
        np.add.at(counts, groups, 1)
        np.maximum.at(longest, groups, lengths[chosen])
    return counts, longest, len(lengths)
