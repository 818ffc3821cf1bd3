"""Where batches come from: files of one set, or the air set drawn while training. Both answer the same questions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from emind.contract.errors import EMindError, UsageError

from . import finetune
from .stream import air_batches
from .synthesis.air import Batch
from .task_config import TaskFinetuneConfig, TaskTable
from .task_data import ANY_RATE_HZ, EVALUATION_BATCH, Examples, TaskBatch
from .task_files import PARTS, SetFiles, chosen_set, drawn_set, manifest
from .tasks import AIR, ANOMALY, CLASSIFICATION, NORMAL, REGRESSION, Task

TRAIN, VALIDATION, TEST = PARTS
AIR_WINDOWS = 4096  # of the test part, where the configuration sets no number


@dataclass
class FileSource:
    """Examples of the three parts of a set. The test part is opened when its batches are asked for, not before."""

    task: Task
    set: str
    files: SetFiles
    train: Examples
    validation: Examples
    label: str
    table: TaskTable
    test_most: int
    drawn: dict | None
    _test: Examples | None = None

    @classmethod
    def open(
        cls, task: Task, config: TaskFinetuneConfig, files: dict[str, SetFiles] | None, sets: Path, per_class: int = 0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> FileSource:
        """``files``: that were given, by set; None draws the set into the folder ``sets``. ``per_class`` above 0: few
        training examples of each class. Errors: see `task_files` and `Examples.open`."""
        table, data, drawn = config.of(task.name), config.data, None
        if files is None:
            name = task.set_of(table.set)
            own, drawn = drawn_set(name, sets, data.size, data.seed, data.items, data.processes, progress)
        else:
            name = chosen_set(files, table.set, task.sets, task.name)
            own = files[name]
        label = table.label or task.label
        known = task.known_classes(name) if label == task.label else ()
        train = opened_part(own[TRAIN], task, label, known, table)
        validation = opened_part(own[VALIDATION], task, label, train.classes, table)
        seed = config.run.seed
        train = train.few(per_class, seed) if per_class else train.at_most(data.train_examples, seed)
        validation = validation.at_most(data.validation_examples, 0)
        _check_classes(task, label, train, validation, table)
        return cls(task, name, own, train, validation, label, table, data.test_examples, drawn)

    @property
    def test(self) -> Examples | None:
        """The test part, once its batches have been asked for."""
        return self._test

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def length(self) -> int:
        return self.train.length

    @property
    def rates(self) -> tuple[float, float] | None:
        """Least and greatest known sampling rate in training, Hz."""
        if self.table.any_rate:
            return ANY_RATE_HZ
        known = self.train.rate[np.isfinite(self.train.rate)]
        return (float(known.min()), float(known.max())) if len(known) else None

    def training(self, seed: int, size: int, first: int, stop: int) -> Iterator[TaskBatch]:
        return itertools.islice(self.train.batches(seed, size, first), stop - first)

    def validating(self) -> Iterator[TaskBatch]:
        return self.validation.in_order()

    def testing(self) -> Iterator[TaskBatch]:
        if self._test is None:
            whole = opened_part(self.files[TEST], self.task, self.label, self.classes, self.table)
            self._test = whole.at_most(self.test_most, 0)
        return self._test.in_order()

    def state(self) -> dict:
        """What a resumed run must find again: files and numbers of examples, but for the test part."""
        return {"set": self.set, "label": self.label, "drawn": self.drawn,
                TRAIN: {"examples": len(self.train), "files": manifest(self.files, TRAIN)},
                VALIDATION: {"examples": len(self.validation), "files": manifest(self.files, VALIDATION)}}

    def about(self) -> dict:
        """The same with the test part, which has been read by now."""
        return self.state() | {TEST: {"examples": len(self._test) if self._test else 0,
                                      "files": manifest(self.files, TEST)}}


@dataclass
class AirSource:
    """The modulation task on the air set: each training window is drawn once. Seeds of the parts are finetune.py's."""

    task: Task
    config: TaskFinetuneConfig
    set: str = AIR
    label: str = "modulation"
    train: None = None
    test: None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.task.known_classes(AIR)

    @property
    def length(self) -> int:
        return self.config.air.length

    @property
    def rates(self) -> tuple[float, float]:
        return self.config.air.rate_min_hz, self.config.air.rate_max_hz

    def training(self, seed: int, size: int, first: int, stop: int) -> Iterator[TaskBatch]:
        for number, batch in air_batches(seed, first, stop, size, self.config.air, self.config.run.producers):
            yield task_batch_of_air(batch, number * size)

    def validating(self) -> Iterator[TaskBatch]:
        return self._fixed(finetune.VALIDATION_SEED, self.config.data.validation_examples)

    def testing(self) -> Iterator[TaskBatch]:
        return self._fixed(finetune.TEST_SEED, self.config.data.test_examples or AIR_WINDOWS)

    def _fixed(self, seed: int, windows: int) -> Iterator[TaskBatch]:
        size = min(EVALUATION_BATCH, windows)
        for number, batch in air_batches(seed, 0, max(1, windows // size), size, self.config.air, 0):
            yield task_batch_of_air(batch, number * size)

    def state(self) -> dict:
        return {"set": AIR, "label": self.label, "drawn": "while training"}

    def about(self) -> dict:
        return self.state()


Source = FileSource | AirSource


def _check_classes(task: Task, label: str, train: Examples, validation: Examples, table: TaskTable) -> None:
    """EMindError where there is one class only, or the one is missing that the others are told from, or too rare to fit
    an anomaly head to."""
    if task.kind in (CLASSIFICATION, REGRESSION) and len(train.classes) < 2:
        raise EMindError(f"task {task.name}: all {TRAIN} examples are {train.classes[0]!r} by {label}; a head that tells "
                         "classes apart needs two at least")
    if not task.normal:
        return
    fitted = task.kind == ANOMALY and table.detector == NORMAL
    for part, examples in ((TRAIN, train), (VALIDATION, validation)):
        found = [name for k, name in enumerate(examples.classes) if (examples.label == k).any()]
        if task.normal not in found:
            raise EMindError(f"task {task.name}: no {part} example is {task.normal!r} by {label}, which the others are "
                             f"told from; there: {', '.join(found)}. Label such signals {task.normal!r}, or name their "
                             f"column: [task.{task.name}] label = ...")
        count = int((examples.label == examples.classes.index(task.normal)).sum())
        if fitted and count < 2:
            raise EMindError(f"task {task.name}: {count} {part} example is {task.normal!r}; a head that is fitted to "
                             "such windows needs 2 at least, and some hundred to be of use")


def opened_part(paths: list[Path], task: Task, label: str, classes: tuple[str, ...], table: TaskTable) -> Examples:
    return Examples.open(paths, task, label, classes, table.length, table.singles, table.fill, table.align)


def task_batch_of_air(batch: Batch, first: int) -> TaskBatch:
    iq_BL2, rate_B, label_B = finetune.tensors(batch)
    count, length, _ = iq_BL2.shape
    return TaskBatch(iq_BL2, rate_B, label_B, torch.zeros(count, 0), torch.zeros(count, 0, length, 2), batch.snr,
                     np.full(count, np.nan), first + np.arange(count))


def source_of(
    task: Task, config: TaskFinetuneConfig, files: dict[str, SetFiles] | None, sets: Path, per_class: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Source:
    """The air set where the task asks for it, or nothing else is given; else files."""
    table = config.of(task.name)
    if table.set == AIR and AIR not in task.sets:
        raise UsageError(f"task {task.name}: the air set is drawn for the task modulation; name another set in the "
                         f"configuration, [task.{task.name}] set = ..., such as {task.sets[0]}")
    if task.set_of(table.set) == AIR and (files is None or table.set == AIR):
        if per_class:
            raise UsageError(f"task {task.name}: few examples a class need a set of files; name one in the "
                             f"configuration, [task.{task.name}] set = ..., such as {task.sets[1]}")
        return AirSource(task, config)
    return FileSource.open(task, config, files, sets, per_class, progress)


def shared_out(shares: list[float], steps: int) -> list[int]:
    """Whose batch each step takes: the one that lags most behind its share, the first of equals."""
    whole, given, out = sum(shares), [0] * len(shares), []
    for step in range(1, steps + 1):
        lag = [share / whole * step - done for share, done in zip(shares, given, strict=True)]
        out.append(max(range(len(shares)), key=lambda k: (round(lag[k], 9), -k)))
        given[out[-1]] += 1
    return out
