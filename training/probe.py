"""A linear probe: what a linear classifier reads out of a frozen encoder (EMind, section VI-B and figure 10).

    set ─► items or groups, each in one part only ─► train, validation, test: balanced by class, spread over SNR
        ─► features of the frozen encoder ─► standardised ─► logistic regression ─► accuracy on test

The windows of a probe set depend on its description alone, so accuracies along a run, of several runs and of several
encoders are of the same windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import Signal
from emind.models.emind import Encoder
from emind.runtime.engine import has_bfloat16
from emind.storage.parquet import Reader
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from .features import encoder_features
from .split import dealt, groups_of
from .synthesis.sets import SETS

PARTS = ("train", "validation", "test")
LABELS = ("modulation", "radar_waveform", "infer_class", "device_id")  # the first with two classes or more is asked
DEFAULT_SET = "RadChar-regen"  # drawn by numpy alone, in a second
SEED = 3_000_003  # never that of a corpus, nor of training, validation or test windows of the air set
ROWS_AN_ITEM = 5  # at most: windows of one transmission are alike
SNR_STEP_DB = 2.0
DRAW = 64  # items drawn between two looks at what is still missing
MOST_ITEMS = 64  # drawn for each window that is wanted, before a class is called too rare
REGULARISATION = 0.1  # inverse strength, of standardised features
ITERATIONS = 300


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows with their labels: ``iq`` complex64 as received, ``rate`` (N,) Hz or NaN, ``label`` (N,) numbers of
    classes, ``snr`` (N,) dB or NaN, ``group`` (N,) numbers of what windows of one transmission have in common."""

    iq: list[np.ndarray]
    rate: np.ndarray
    label: np.ndarray
    snr: np.ndarray
    group: np.ndarray

    def __len__(self) -> int:
        return len(self.iq)

    def take(self, index: np.ndarray) -> Windows:
        return Windows([self.iq[k] for k in index], self.rate[index], self.label[index], self.snr[index],
                       self.group[index])


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """Fixed windows of one set in parts that share no transmission. ``column``: the label that is asked."""

    name: str
    column: str
    classes: tuple[str, ...]
    train: Windows
    validation: Windows
    test: Windows
    source: str  # what it was made from

    def to_dict(self) -> dict:
        """What it is, for a record of figures."""
        return {"set": self.name, "label": self.column, "classes": list(self.classes), "source": self.source,
                **{part: len(getattr(self, part)) for part in PARTS}}

    def digest(self) -> str:
        """SHA-256 of all windows and their labels."""
        found = hashlib.sha256()
        for part in PARTS:
            own: Windows = getattr(self, part)
            for values in (*own.iq, own.rate, own.label, own.snr):
                found.update(np.ascontiguousarray(values).tobytes())
        return found.hexdigest()

    @classmethod
    def generated(
        cls, name: str = DEFAULT_SET, train: int = 2000, validation: int = 0, test: int = 2000, seed: int = SEED,
        column: str | None = None, rows_an_item: int = ROWS_AN_ITEM,
    ) -> ProbeSet:
        """Windows drawn from a recipe of `synthesis.sets`, with the recipe's SNR range. No item is in two parts.

        Raises
        ------
        UsageError: the set is not known, or its rows lack the label
        EMindError: a recipe needs what is not installed
        """
        if name not in SETS:
            raise UsageError(f"probe: unknown set {name!r}; known: {', '.join(SETS)}")
        counts = {"train": train, "validation": validation, "test": test}
        recipe = SETS[name]
        order = iter(np.random.default_rng([seed, 1]).permutation(recipe.full).tolist())

        def items() -> Iterator[tuple[int, list[Signal]]]:
            for item in order:
                yield item, recipe.rows(seed, item)

        # Test first, so that its windows are the same however many there are to train on.
        rows = {part: _drawn(items(), counts[part], rows_an_item, column, name) for part in reversed(PARTS)}
        source = f"recipe {name}, seed {seed}, at most {rows_an_item} rows an item"
        return _assembled(cls, name, column, rows, counts, seed, source)

    @classmethod
    def from_file(
        cls, path: str | Path, train: int = 2000, validation: int = 0, test: int = 2000, seed: int = SEED,
        column: str | None = None,
    ) -> ProbeSet:
        """Windows of a Parquet file of one set, dealt into parts by transmission as `emind-train dataset split` does.

        Raises
        ------
        EMindError: the file cannot be read, or holds too few windows of a class
        """
        counts = {"train": train, "validation": validation, "test": test}
        wanted = [part for part in PARTS if counts[part]]
        with Reader(path) as reader:
            groups, strata = groups_of(Path(path).name, reader)
            parts = dealt(dict(zip(groups, strata, strict=True)), tuple(counts[part] for part in wanted), seed)
            number = {group: k for k, group in enumerate(dict.fromkeys(groups))}
            labels = reader.columns(LABELS if column is None else (column,))
            column = column or _asked(labels, str(path))
            labelled = [row for row in range(reader.count) if labels[column][row] is not None]
            snr = reader.columns(("snr",))["snr"]
            rows: dict[str, list] = {part: [] for part in PARTS}
            for row in labelled:
                rows[wanted[parts[groups[row]]]].append(row)
            classes = sorted({str(labels[column][row]) for row in labelled})
            for part in PARTS:  # the labels alone decide which rows are read
                own = np.array(rows[part], np.int64)
                label = np.array([classes.index(str(labels[column][row])) for row in own], np.int64)
                chosen = balanced(label, snr[own], counts[part], len(classes), _generator(seed, part), str(path))
                rows[part] = [(number[groups[row]], reader[int(row)]) for row in np.sort(own[chosen])]
            name = reader.columns(("dataset_name",))["dataset_name"][0] or Path(path).stem
        return _assembled(cls, name, column, rows, counts, seed, f"{Path(path).name}, seed {seed}")


def balanced(
    label_N: np.ndarray, snr_N: np.ndarray, count: int, classes: int, rng: np.random.Generator, where: str
) -> np.ndarray:
    """Numbers of ``count // classes`` windows of each class, spread evenly over its SNR labels as far as they go.

    EMindError where a class has too few.
    """
    each = count // classes
    if count and not each:
        raise EMindError(f"{where}: {count} windows are fewer than its {classes} classes")
    chosen = []
    for k in range(classes):
        own = rng.permutation(np.flatnonzero(label_N == k))
        if len(own) < each:
            raise EMindError(f"{where}: class number {k} of {classes} has {len(own)} windows, {each} are asked for")
        level = np.nan_to_num(np.round(snr_N[own] / SNR_STEP_DB), nan=np.inf)
        turn = np.zeros(len(own), np.int64)  # the how-manieth of its SNR each one is
        for value in np.unique(level):
            same = level == value
            turn[same] = np.arange(same.sum())
        chosen.append(own[np.argsort(turn, kind="stable")][:each])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def linear_probe(encoder: Encoder, probe_set: ProbeSet, seed: int = 0, bfloat16: bool | None = None) -> float:
    """Accuracy on the test part of a linear classifier trained on the frozen encoder's features of the train part.

    ``bfloat16``: what the encoder computes in; None where the processor multiplies it.
    """
    short = has_bfloat16() if bfloat16 is None else bfloat16
    train, test = (encoder_features(encoder, part.iq, part.rate, short) for part in (probe_set.train, probe_set.test))
    answer = linear_answers(train, probe_set.train.label, test, seed)
    return float(np.mean(answer == probe_set.test.label))


def linear_answers(train: np.ndarray, label: np.ndarray, test: np.ndarray, seed: int = 0) -> np.ndarray:
    """Classes (M,) that logistic regression, fitted to features ``train`` (N, F), answers for ``test`` (M, F)."""
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(C=REGULARISATION, max_iter=ITERATIONS, random_state=seed)
    return model.fit(scaler.transform(train), label).predict(scaler.transform(test))


def _generator(seed: int, part: str) -> np.random.Generator:
    return np.random.default_rng([seed, 2, PARTS.index(part)])


def _asked(columns: dict[str, Sequence], where: str) -> str:
    """The first column that tells classes apart."""
    for name in LABELS:
        if len({value for value in columns[name] if value is not None}) > 1:
            return name
    raise UsageError(f"{where}: no column of {', '.join(LABELS)} has two classes")


def _drawn(
    items: Iterator[tuple[int, list[Signal]]], count: int, rows_an_item: int, column: str | None, name: str
) -> list[tuple[int, Signal]]:
    """Item and row of so many rows that every class has its share of ``count``."""
    rows: list[tuple[int, Signal]] = []
    drawn = 0
    while count:
        for item, signals in (next(items, (0, [])) for _ in range(DRAW)):
            pick = np.random.default_rng(item).permutation(len(signals))[:rows_an_item]
            rows += [(item, signals[k]) for k in pick if column is None or getattr(signals[k], column) is not None]
        drawn += DRAW
        if len(rows) >= count:
            asked = column or _asked({c: [getattr(s, c) for _, s in rows] for c in LABELS}, name)
            of_class: dict[str, int] = {}
            for _, signal in rows:
                if (value := getattr(signal, asked)) is not None:
                    of_class[value] = of_class.get(value, 0) + 1
            if min(of_class.values()) >= count // len(of_class):
                return rows
        if drawn > MOST_ITEMS * count + DRAW:
            raise UsageError(f"{name}: {drawn} items gave too few windows with the label {column or LABELS}")
    return rows


def _assembled(
    cls: type[ProbeSet], name: str, column: str | None, rows: dict[str, list[tuple[int, Signal]]],
    counts: dict[str, int], seed: int, source: str,
) -> ProbeSet:
    everything = [signal for part in PARTS for _, signal in rows[part]]
    column = column or _asked({c: [getattr(s, c) for s in everything] for c in LABELS}, name)
    classes = tuple(sorted({getattr(s, column) for s in everything if getattr(s, column) is not None}))
    if len(classes) < 2:
        raise UsageError(f"{name}: the label {column} has {len(classes)} classes, a probe needs two")
    windows = {}
    for part in PARTS:
        pairs = [(group, s) for group, s in rows[part] if getattr(s, column) is not None]
        label = np.array([classes.index(getattr(s, column)) for _, s in pairs], np.int64)
        snr = np.array([np.nan if s.snr is None else s.snr for _, s in pairs], float)
        rate = np.array([np.nan if s.sampling_rate is None else s.sampling_rate for _, s in pairs], float)
        every = Windows([np.asarray(s.iq) for _, s in pairs], rate, label, snr,
                        np.array([group for group, _ in pairs], np.int64))
        windows[part] = every.take(balanced(label, snr, counts[part], len(classes), _generator(seed, part), name))
    return cls(name, column, classes, source=source, **windows)
