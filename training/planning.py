"""What the loader decides before it reads a sample: which signal comes next, and into which row.

    set 0: pointer ─┐ weights
    set 1: pointer ─┼────────► next signal ─► packer ─► rows ─► batch k, and the state after it
    set 2: pointer ─┘

Everything follows from the seed, the corpus and the weights, one batch after another: whoever plans batch k anywhere
(another producer, another rank, a resumed run) plans the same one.

*Which set.* Each set has a time at which it is due, and after each of its signals the next is due 1/weight later; the
set that is due first goes next, so at any moment every set has had its share of the signals to within one. A new
weight stretches or shrinks what is left until the set is due.

*Which signal.* A pointer goes through its set epoch by epoch, each set at its own speed. The row groups come in an
order drawn for the epoch; a few of them at a time are a pool, and the pool's rows come in an order drawn for the
pool. So files are read nearly in sequence, and no signal comes twice before all have come once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from emind.contract.errors import EMindError, UsageError

from .corpus import Corpus, GroupCache
from .packing import OPEN_ROWS, Packer, Row, row_from, row_state

POOL = 4  # row groups that are shuffled together: 32 MiB of samples
EPOCH, POOLS, NOISE = range(3)  # what a random stream is for


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """A random stream of its own for each purpose."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *purpose])))


class Pointer:
    """Where a set is being read: epoch, pool and place in the pool."""

    def __init__(self, corpus: Corpus, cache: GroupCache, source: int, seed: int) -> None:
        self._cache, self._source, self._seed = cache, source, seed
        self._groups = corpus.groups(source)
        self.restore([0, 0, 0])

    def restore(self, state: list[int]) -> None:
        self.epoch, self._pool, self._place = state
        self._drawn: np.ndarray | None = None  # the pool's signals, (signals, 3)

    def state(self) -> list[int]:
        return [self.epoch, self._pool, self._place]

    def next(self) -> tuple[int, int, int]:
        """Row group, number among its chosen signals, samples."""
        if self._drawn is None:
            self._drawn = self._shuffled()
        group, index, length = self._drawn[self._place].tolist()
        self._place += 1
        if self._place == len(self._drawn):
            self._drawn = None
            self._place = 0
            self._pool += 1
            if self._pool * POOL >= len(self._groups):
                self._pool = 0
                self.epoch += 1
        return group, index, length

    def _shuffled(self) -> np.ndarray:
        order = stream(self._seed, EPOCH, self._source, self.epoch).permutation(self._groups)
        chosen = order[self._pool * POOL : (self._pool + 1) * POOL].tolist()
        lengths = [self._cache[group].lengths for group in chosen]
        groups = np.repeat(chosen, [len(one) for one in lengths])
        numbers = np.concatenate([np.arange(len(one)) for one in lengths])
        mixed = stream(self._seed, POOLS, self._source, self.epoch, self._pool).permutation(len(groups))
        return np.stack([groups, numbers, np.concatenate(lengths)], axis=1)[mixed]


class Turns:
    """Which set is next, by weight."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = checked(weights)
        self.now = 0.0
        # Half a turn in, so that the first of a rare set comes in the middle of the stretch that it stands for.
        self.due = [0.5 / weight if weight else None for weight in weights]

    def next(self) -> int:
        least, source = min((due, number) for number, due in enumerate(self.due) if due is not None)
        self.now = least
        self.due[source] = least + 1 / self.weights[source]
        return source

    def change(self, weights: list[float]) -> None:
        for number, (new, old) in enumerate(zip(checked(weights), self.weights, strict=True)):
            if not new:
                self.due[number] = None
            elif not old:
                self.due[number] = self.now + 0.5 / new
            else:
                self.due[number] = self.now + (self.due[number] - self.now) * (old / new)
        self.weights = list(weights)

    def state(self) -> dict[str, Any]:
        return {"weights": list(self.weights), "now": self.now, "due": list(self.due)}

    def restore(self, state: dict[str, Any]) -> None:
        self.weights, self.now, self.due = list(state["weights"]), state["now"], list(state["due"])


def checked(weights: list[float]) -> list[float]:
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UsageError(f"weights {weights}: give numbers of at least 0, one of them above")
    return weights


@dataclass(frozen=True)
class Settings:
    """What the order of the signals depends on, beside corpus and weights."""

    rows: int  # of a batch, over all ranks
    capacity: int  # samples of a row
    patch: int
    seed: int
    open_rows: int = OPEN_ROWS


@dataclass(frozen=True)
class Plan:
    """Batch ``number``: its rows, whose items are (set, row group, number in the group)."""

    number: int
    rows: list[Row]


class Planner:
    """Plans batch after batch. ``state()`` is the whole of it, for JSON."""

    def __init__(self, corpus: Corpus, settings: Settings, weights: list[float], cache: GroupCache) -> None:
        corpus.require_capacity(settings.capacity)
        self.corpus, self.settings = corpus, settings
        self.number = 0  # of the next batch
        self._pointers = [Pointer(corpus, cache, source, settings.seed) for source in range(len(corpus.names))]
        self._turns = Turns(weights)
        self._packer = Packer(settings.capacity, settings.patch, settings.open_rows)
        self._closed: list[Row] = []  # rows beyond the batches planned so far
        self._changes: list[tuple[int, list[float]]] = []  # batch from which on, weights

    def change(self, number: int, weights: list[float]) -> None:
        """Weights from batch ``number`` on, which has not been planned yet."""
        if number < self.number:
            raise ValueError(f"batch {number} is planned already")
        self._changes.append((number, weights))

    def next(self) -> Plan:
        while self._changes and self._changes[0][0] <= self.number:
            self._turns.change(self._changes.pop(0)[1])
        while len(self._closed) < self.settings.rows:
            source = self._turns.next()
            group, index, length = self._pointers[source].next()
            self._closed += self._packer.place(length, (source, group, index))
        plan = Plan(self.number, self._closed[: self.settings.rows])
        del self._closed[: self.settings.rows]
        self.number += 1
        return plan

    def state(self) -> dict[str, Any]:
        return {
            "number": self.number, "pointers": [pointer.state() for pointer in self._pointers],
            "turns": self._turns.state(), "open": self._packer.state(),
            "closed": [row_state(row) for row in self._closed],
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.number = state["number"]
        for pointer, where in zip(self._pointers, state["pointers"], strict=True):
            pointer.restore(where)
        self._turns.restore(state["turns"])
        self._packer.restore(state["open"])
        self._closed = [row_from(row) for row in state["closed"]]
        self._changes = []


def take(corpus: Corpus, settings: Settings, signals_per_set: int, cache: GroupCache) -> list[Row]:
    """The rows of a fixed choice: so many signals of each set (all, where it has fewer), in turn."""
    corpus.require_capacity(settings.capacity)
    if signals_per_set < 1:
        raise UsageError(f"{signals_per_set} signals a set are none: give at least 1")
    pointers = [Pointer(corpus, cache, source, settings.seed) for source in range(len(corpus.names))]
    left = [min(signals_per_set, corpus.signals(name)) for name in corpus.names]
    packer = Packer(settings.capacity, settings.patch, settings.open_rows)
    rows: list[Row] = []
    for turn in range(max(left)):
        for source, pointer in enumerate(pointers):
            if turn < left[source]:
                group, index, length = pointer.next()
                rows += packer.place(length, (source, group, index))
    return rows + packer.flush()


def same_corpus(state: dict[str, Any], corpus: Corpus, settings: Settings) -> None:
    """EMindError where a saved state belongs to another corpus or to other settings."""
    if state.get("corpus") != corpus.digest():
        raise EMindError("the saved place in the corpus belongs to another corpus: its sets, its files or the choice "
                         "of rows have changed since; start anew, or bring the old corpus back")
    known = {name: state.get("settings", {}).get(name) for name in vars(settings)}
    for name, value in vars(settings).items():
        if known[name] != value:
            raise EMindError(f"the saved place in the corpus was reached with {name} = {known[name]}, not {value}: "
                             "set it back, or start anew")
