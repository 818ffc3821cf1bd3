"""Labelled examples of files of signals, as batches: `<set>-<part>.parquet` -> rows with labels -> `TaskBatch`.

    labels of all rows ─► examples (a row, or linked rows together) ─► order of an epoch ─► batch n ─► iq, normalised

Only labels are kept in memory. Samples are read from mapped files when their batch has come, from at most ``MIXED`` row
groups at a time, among which an epoch's order mixes. Batch n of a seed follows from the seed and n alone, so a resumed
run goes on with the identical next batch.
"""

from __future__ import annotations

import math
import mmap
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from emind.contract.errors import EMindError
from emind.dsp.normalise import max_abs
from emind.storage.parquet import Reader
from torch import Tensor

from .alignment import aligned
from .augment import AugmentConfig, augmented
from .probe import balanced
from .synthesis.recipe import linked
from .tasks import RECONSTRUCTION, Task

ANY_RATE_HZ = (8e3, 62e6)  # drawn from, evenly over the logarithm, where a task is told any rate
UNKNOWN_RATE = 0.25  # share of windows whose rate is then not told
TAIL = 16  # the last of so many equal parts of a signal is its noise
MIXED = 16  # row groups (8 MiB of samples each) that an epoch's order mixes
EVALUATION_BATCH = 128
DELAY = "pulse_time_delay"
LABELS = ("snr", "isr", "sampling_rate", "transmission_id", "dataset_name")


@dataclass
class TaskBatch:
    """Normalised windows with what is known of them.

    iq_BL2: as the block normalises; rate_B in Hz, NaN where unknown. label_B: number of the class, -1 where the task
    has none. values_BQ: parameters in SI units. targets_BKL2: clean signals on the scale of iq_BL2. snr_B and isr_B in
    dB, NaN where unknown. ``rows``: which examples of their part.
    """

    iq_BL2: Tensor
    rate_B: Tensor
    label_B: Tensor
    values_BQ: Tensor
    targets_BKL2: Tensor
    snr_B: np.ndarray
    isr_B: np.ndarray
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.iq_BL2)

    def augmented(self, task: Task, config: AugmentConfig, generator: torch.Generator) -> TaskBatch:
        """Changed as the task allows, targets and a delay that is a label alike."""
        config = config if task.shift else replace(config, shift=False)
        names = [parameter.name for parameter in task.parameters]
        delay_B, limits = None, None
        if DELAY in names:
            of = task.parameters[names.index(DELAY)]
            delay_B = self.values_BQ[:, names.index(DELAY)] * self.rate_B
            # The narrowest range in samples that the batch's rates give; they are one rate in every known set.
            limits = of.low * float(self.rate_B.max()), of.high * float(self.rate_B.min())
        every, samples_B = augmented(torch.cat([self.iq_BL2[:, None], self.targets_BKL2], 1), config, generator,
                                     delay_B, limits)
        values_BQ = self.values_BQ
        if delay_B is not None:
            values_BQ = values_BQ.clone()
            values_BQ[:, names.index(DELAY)] += samples_B / self.rate_B
        return replace(self, iq_BL2=every[:, 0].contiguous(), targets_BKL2=every[:, 1:], values_BQ=values_BQ)

    def at_any_rate(self, generator: torch.Generator) -> TaskBatch:
        """Told another sampling rate than its own, or none: what a head then learns does not rest on it."""
        low, high = map(math.log, ANY_RATE_HZ)
        place_B, chance_B = torch.rand(2, len(self), generator=generator)
        rate_B = torch.exp(low + (high - low) * place_B)
        return replace(self, rate_B=torch.where(chance_B < UNKNOWN_RATE, torch.nan, rate_B))


class Examples:
    """Examples of one part of a set. ``classes``: of the labels, in order; empty where the task has none."""

    def __init__(self, task: Task, files: _Files, classes: tuple[str, ...], columns: dict[str, np.ndarray],
                 length: int, align: bool = False) -> None:
        self.task, self.files, self.classes, self.length, self.align = task, files, classes, length, align
        self._columns = columns

    @classmethod
    def open(
        cls, paths: Sequence[Path], task: Task, label: str = "", classes: Sequence[str] = (), length: int = 0,
        singles: bool = False, fill: bool = False, align: bool = False,
    ) -> Examples:
        """Read the labels of all rows. Rows without the label or a parameter are left out.

        ``classes`` empty: those found here, sorted. ``length``: samples that longer signals are cut to, 0 for none;
        with ``fill`` shorter ones, which end before their window does, are continued by noise of the power of their last
        samples. ``singles``: linked rows of which only the first target is there take part too; the others are silent.
        ``align``: the target of a denoiser gets the offset, gain and imbalance of its noisy row.

        Raises
        ------
        EMindError: a file cannot be read; no row has what the task needs; a class that is not among ``classes``;
            signals of several lengths, or shorter than ``length``
        """
        files, where, label = _Files(paths), ", ".join(path.name for path in paths), label or task.label
        names = [parameter.name for parameter in task.parameters]
        found = files.columns((*LABELS, *([label] if label else []), *names))
        rows_EK = _linked_rows(found, task, where, singles) if task.roles else np.arange(files.count)[:, None]
        keep = np.ones(len(rows_EK), bool)
        if label:
            keep &= np.array([value is not None for value in found[label]], bool)[rows_EK[:, 0]]
        for name in names:
            keep &= np.isfinite(found[name][rows_EK[:, 0]])
        rows_EK = rows_EK[keep]
        first = rows_EK[:, 0]
        if not len(first):
            raise EMindError(f"{where}: no signal has what the task {task.name} needs "
                             f"({', '.join([label] * bool(label) + names) or ' and '.join(task.roles)})")
        texts = [str(value) for value in found[label][first]] if label else []
        classes = tuple(classes) or tuple(sorted(set(texts)))
        number = {name: k for k, name in enumerate(classes)}
        strange = sorted(set(texts) - set(number))
        if strange:
            raise EMindError(f"{where}: {label} {strange[0]!r} is not among the classes of training: "
                             f"{', '.join(classes)}")
        columns = {
            "rows": rows_EK, "group": files.group_of(first), "snr": found["snr"][first], "isr": found["isr"][first],
            "rate": found["sampling_rate"][first].astype(np.float32),
            "label": np.array([number[text] for text in texts] or np.full(len(first), -1), np.int64),
            "values": np.stack([found[name][first] for name in names], 1) if names else np.zeros((len(first), 0)),
        }  # fmt: skip
        lengths = files.lengths()[np.where(rows_EK < 0, rows_EK[:, :1], rows_EK)]
        if length and lengths.min() < length and not fill:
            raise EMindError(f"{where}: has a signal of {lengths.min()} samples, the task's length is {length}; with "
                             f"[task.{task.name}] fill = true it is continued by noise")
        if not length and lengths.min() != lengths.max():
            raise EMindError(f"{where}: signals of {lengths.min()} to {lengths.max()} samples; give [task.{task.name}] "
                             "a length that they are cut to")
        return cls(task, files, classes, columns, length or int(lengths.min()), align)

    def __len__(self) -> int:
        return len(self._columns["rows"])

    @property
    def label(self) -> np.ndarray:
        return self._columns["label"]

    @property
    def snr(self) -> np.ndarray:
        return self._columns["snr"]

    @property
    def rate(self) -> np.ndarray:
        return self._columns["rate"]

    def take(self, index: np.ndarray) -> Examples:
        return Examples(self.task, self.files, self.classes, {k: v[index] for k, v in self._columns.items()},
                        self.length, self.align)

    def few(self, per_class: int, seed: int) -> Examples:
        """So many examples of each class, spread over its SNR labels. EMindError where a class has fewer."""
        if self.task.kind == RECONSTRUCTION:
            return self.take(np.sort(np.random.default_rng([seed, 3]).permutation(len(self))[:per_class]))
        where = f"{self.files.paths[0].name} and {per_class} a class"
        return self.take(balanced(self.label, self.snr, per_class * len(self.classes), len(self.classes),
                                  np.random.default_rng([seed, 3]), where))

    def at_most(self, count: int, seed: int) -> Examples:
        """``count`` of the examples (0: all), drawn so that classes and SNR labels keep their shares."""
        if not count or len(self) <= count:
            return self
        chance = np.random.default_rng([seed, 4]).random(len(self))
        order = np.lexsort((chance, np.nan_to_num(self.snr, nan=np.inf), self.label))
        places = (np.arange(count) * len(self)) // count
        return self.take(np.sort(order[places]))

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order of an epoch: every example once, mixed among ``MIXED`` row groups at a time."""
        rng = np.random.default_rng([seed, 5, epoch])
        groups = rng.permutation(np.unique(self._columns["group"]))
        of = self._columns["group"]
        parts = [np.flatnonzero(np.isin(of, groups[at : at + MIXED])) for at in range(0, len(groups), MIXED)]
        return np.concatenate([rng.permutation(part) for part in parts])

    def batches(self, seed: int, size: int, first: int = 0) -> Iterator[TaskBatch]:
        """Training batches ``first``, ``first`` + 1, ... without end; one epoch follows the other."""
        epoch, at = divmod(first * size, len(self))
        order, number = self.order(seed, epoch), first
        while True:
            parts, missing = [], size
            while missing:
                if at == len(order):
                    epoch, at = epoch + 1, 0
                    order = self.order(seed, epoch)
                parts.append(order[at : at + missing])
                at, missing = at + len(parts[-1]), missing - len(parts[-1])
            yield self.batch(np.concatenate(parts), np.random.default_rng([seed, 6, number]))
            number += 1

    def in_order(self, size: int = EVALUATION_BATCH) -> Iterator[TaskBatch]:
        """All examples once, cut in the middle where they are longer than a window."""
        for at in range(0, len(self), size):
            yield self.batch(np.arange(at, min(len(self), at + size)))

    def raw(self, index: np.ndarray) -> np.ndarray:
        """(B, length) complex64: the inputs of these examples as stored, not normalised, cut in the middle.

        For detectors that measure power. EMindError where a signal is shorter than a window.
        """
        out = np.empty((len(index), self.length), np.complex64)
        for b, row in enumerate(self._columns["rows"][index, 0]):
            iq = self.files.iq(int(row))
            spare = len(iq) - self.length
            if spare < 0:
                raise EMindError(f"{self.files.paths[0].name}: a signal of {len(iq)} samples is shorter than a window")
            out[b] = iq[spare // 2 : spare // 2 + self.length]
        self.files.trim()
        return out

    def batch(self, index: np.ndarray, cut: np.random.Generator | None = None) -> TaskBatch:
        """The examples of these numbers; ``cut`` draws where longer signals are cut, else in the middle."""
        rows_BK = self._columns["rows"][index]
        signals = np.empty((*rows_BK.shape, self.length), np.complex64)
        for b, rows in enumerate(rows_BK):
            start = None
            for k, row in enumerate(rows):
                if row < 0:
                    signals[b, k] = 0
                    continue
                iq = self.files.iq(int(row))
                if len(iq) < self.length:
                    iq = _continued(iq, self.length, row if cut is None else cut)
                spare = len(iq) - self.length
                if start is None:
                    start = spare // 2 if cut is None else int(cut.integers(0, spare + 1))
                signals[b, k] = iq[start : start + self.length]
        self.files.trim()
        if self.align:
            signals[:, 1] = aligned(signals[:, 0], signals[:, 1])
        peak_B = np.abs(signals[:, 0]).max(axis=1)
        targets = signals[:, 1:] / np.where(peak_B > 0, peak_B, 1.0)[:, None, None]
        own = {name: self._columns[name][index] for name in ("rate", "label", "values", "snr", "isr")}
        return TaskBatch(
            torch.from_numpy(max_abs(signals[:, 0])), torch.from_numpy(own["rate"]), torch.from_numpy(own["label"]),
            torch.from_numpy(own["values"].astype(np.float32)),
            torch.from_numpy(np.ascontiguousarray(targets, np.complex64).view(np.float32)
                             .reshape(*targets.shape, 2).copy()),
            own["snr"], own["isr"], np.asarray(index))  # fmt: skip


def _continued(iq: np.ndarray, length: int, seed: int | np.random.Generator) -> np.ndarray:
    """The signal, then white noise of the power of its last samples."""
    missing = length - len(iq)
    power = np.mean(np.abs(iq[-max(1, len(iq) // TAIL) :]) ** 2)
    noise = np.random.default_rng(seed).standard_normal(2 * missing).view(np.complex128) * np.sqrt(power / 2)
    return np.concatenate([iq, noise.astype(np.complex64)])


class _Files:
    """The rows of several files, numbered through, and the row groups last used."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [Path(path) for path in paths]
        self._readers = [Reader(path) for path in self.paths]
        self._first = np.cumsum([0, *(reader.count for reader in self._readers)])
        starts = [first + reader.first_rows[:-1] for first, reader in zip(self._first, self._readers)]
        self._groups = np.concatenate(starts)  # first row of each row group
        self._file_of_group = np.repeat(np.arange(len(starts)), [len(one) for one in starts])
        self._group_of_file = np.cumsum([0, *(len(one) for one in starts)])
        self._blocks: OrderedDict[int, object] = OrderedDict()

    @property
    def count(self) -> int:
        return int(self._first[-1])

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        each = [reader.columns(list(dict.fromkeys(names))) for reader in self._readers]
        return {name: np.concatenate([one[name] for one in each]) for name in names}

    def lengths(self) -> np.ndarray:
        return np.concatenate([reader.lengths() for reader in self._readers])

    def group_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._groups, rows, "right") - 1

    def iq(self, row: int) -> np.ndarray:
        group = int(self.group_of(np.array([row]))[0])
        block = self._blocks.get(group)
        if block is None:
            file = self._file_of_group[group]
            block = self._blocks[group] = self._readers[file].block(int(group - self._group_of_file[file]))
        else:
            self._blocks.move_to_end(group)
        return block.row(row - int(self._groups[group]))

    def trim(self) -> None:
        """Let go of the row groups that were not used lately; the mapped ones' pages go back to the system."""
        while len(self._blocks) > MIXED + 2:
            _, block = self._blocks.popitem(last=False)
            if block.map is not None:
                block.map.madvise(mmap.MADV_DONTNEED)


def _linked_rows(found: dict[str, np.ndarray], task: Task, where: str, singles: bool) -> np.ndarray:
    """(examples, roles) numbers of rows that belong together. Items that lack a role are left out; with ``singles``
    those stay that have the first two, and -1 stands for the others."""
    items: dict[tuple[str, str], dict[str, int]] = {}
    for row, (name, text) in enumerate(zip(found["dataset_name"], found["transmission_id"], strict=True)):
        common, role = linked(text or "")
        if role in task.roles:
            items.setdefault((name or "", common), {})[role] = row
    needed = task.roles[:2] if singles else task.roles
    whole = [[item.get(role, -1) for role in task.roles] for item in items.values() if all(r in item for r in needed)]
    if not whole:
        raise EMindError(f"{where}: no linked rows {', '.join(task.roles)} (transmission_id \"N:{task.roles[0]}\")")
    return np.array(whole, np.int64)
