"""Batches of packed rows from a corpus, in an order that depends on seed and weights only.

    files ─► plan (planning.py) ─► producers (producing.py) ─► at most AHEAD batches in store ─► training step

The order does not depend on the number of producers or ranks, nor on how fast anybody is: a change of the weights
that is asked for after batch k takes effect with batch k + AHEAD + 1, whatever has been planned by then.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from emind.contract.errors import UsageError
from emind.models.packed_batch import PackedBatch

from .corpus import Corpus
from .packing import OPEN_ROWS
from .planning import Settings, checked, same_corpus, take
from .producing import Labels, Maker, Share, cache_of, filled, noise, produce, slot_shapes, slots

AHEAD = 8  # batches that are made before they are asked for, at most
STATE_VERSION = 1


class Loader:
    """Iterates over :class:`PackedBatch` without end; close it, or use it as a context manager.

    Parameters
    ----------
    rows: of a batch over all ranks; rank r gets rows r, r + world, ...
    capacity: samples of a row, a multiple of ``patch``
    weights: set -> weight, its share of the *signals*; 1 for a set that is not named, None for 1 each
    producers: processes; 0 makes batches in this one when they are asked for
    state: of another loader, to go on from there; ``weights`` are then those of the state

    Attributes
    ----------
    wait_seconds: time that the consumer waited for batches; skipped: signals that were zero or not finite, and are
    missing from the batches delivered here

    Raises
    ------
    UsageError: settings that do not go together
    EMindError: a signal longer than a row, a file that cannot be read, a state of another corpus
    """

    def __init__(
        self, corpus: Corpus, rows: int, capacity: int, patch: int, seed: int,
        weights: dict[str, float] | None = None, open_rows: int = OPEN_ROWS, rank: int = 0, world: int = 1,
        producers: int = 1, state: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= rank < world <= rows:
            raise UsageError(f"{rows} rows for {world} ranks, of which this is number {rank}: every rank needs a row")
        if producers < 0 or seed < 0:
            raise UsageError(f"producers {producers} and seed {seed} must not be negative")
        self.corpus = corpus
        self.settings = Settings(rows, capacity, patch, seed, open_rows)
        self.wait_seconds = 0.0
        self.skipped = 0
        self._share = Share(rank, world)
        self._workers: list[multiprocessing.process.BaseProcess] = []
        self._pipes: list[Any] = []
        self._inside: Maker | None = None
        first = self._weights(weights)
        planned = None
        self._pending: list[tuple[int, list[float]]] = []  # changes that the batches delivered do not have yet
        if state is not None:
            if state.get("version") != STATE_VERSION:
                raise UsageError(f"the loader's state has version {state.get('version')}, and this program knows "
                                 f"{STATE_VERSION}: start anew")
            same_corpus(state, corpus, self.settings)
            planned = state["planner"]
            self._pending = [(number, list(change)) for number, change in state["pending"]]
        self._unsent = list(self._pending)
        # The inside maker checks what the producers would find out too late; it makes the batches where there are none.
        maker = Maker(corpus, self.settings, first, self._share, planned)
        self._first = self._next = maker.planner.number
        self._state = maker.planner.state()
        if producers == 0:
            self._inside = maker
        else:
            self._start(producers, first, planned)

    def __iter__(self) -> Iterator[PackedBatch]:
        return self

    def __next__(self) -> PackedBatch:
        begin = time.perf_counter()
        if self._inside is not None:
            for change in self._unsent:
                self._inside.planner.change(*change)
            iq, noise_, labels, left_out = self._inside.make()
            state = self._inside.planner.state()
        else:
            iq, noise_, labels, left_out, state = self._received()
        self._unsent = []
        self._state = state
        self._pending = [one for one in self._pending if one[0] > self._next]
        self.skipped += left_out
        number, self._next = self._next, self._next + 1
        batch = _batch(iq, noise_, labels, self.settings.patch, number)
        self.wait_seconds += time.perf_counter() - begin
        return batch

    def set_weights(self, weights: dict[str, float]) -> int:
        """New weights; the number of the batch from which on they hold."""
        change = (self._next + AHEAD, checked(self._weights(weights)))
        self._pending.append(change)
        self._unsent.append(change)
        return change[0]

    def state(self) -> dict[str, Any]:
        """For JSON: from it a new loader, of any rank and with any producers, gives the batch after the last one."""
        return {
            "version": STATE_VERSION, "corpus": self.corpus.digest(), "settings": dict(vars(self.settings)),
            "planner": self._state, "pending": [[number, list(weights)] for number, weights in self._pending],
        }  # fmt: skip

    @property
    def processes(self) -> list[int]:
        """Numbers of the producers' processes."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """End the producers."""
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()
        self._pipes, self._workers = [], []

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *fault) -> None:
        self.close()

    def _weights(self, weights: dict[str, float] | None) -> list[float]:
        for name in weights or {}:
            if name not in self.corpus.names:
                raise UsageError(f"weights: the corpus has no set {name!r}; known: {', '.join(self.corpus.names)}")
        return [float((weights or {}).get(name, 1.0)) for name in self.corpus.names]

    def _start(self, producers: int, weights: list[float], planned: dict[str, Any] | None) -> None:
        context = multiprocessing.get_context("spawn")
        count = -(-AHEAD // producers)
        size = sum(int(np.prod(shape)) for shape in slot_shapes(self.settings, self._share))
        self._slots = []
        for which in range(producers):
            memory = context.RawArray("f", count * size)
            mine, theirs = context.Pipe()
            worker = context.Process(
                target=produce, name=f"producer {which}", daemon=True,
                args=(theirs, memory, count, which, producers, self.corpus, self.settings, weights, self._share,
                      planned))
            worker.start()
            theirs.close()
            self._workers.append(worker)
            self._pipes.append(mine)
            self._slots.append(slots(memory, self.settings, self._share, count))

    def _received(self) -> tuple[np.ndarray, np.ndarray, Labels, int, dict[str, Any]]:
        if not self._pipes:
            raise ValueError("the loader is closed")
        which = (self._next - self._first) % len(self._pipes)
        try:
            for pipe in self._pipes:
                for change in self._unsent:
                    pipe.send(("change", *change))
                pipe.send(("until", self._next + AHEAD))
            message = self._pipes[which].recv()
        except (EOFError, OSError):
            message = self._fault(which)
        if isinstance(message, Exception):
            self.close()
            raise message
        number, place, labels, left_out, state = message
        if number != self._next:
            raise RuntimeError(f"producer {which} made batch {number} and not {self._next}")
        iq, drawn = self._slots[which][place]
        return iq.copy(), drawn.copy(), labels, left_out, state

    def _fault(self, which: int) -> Exception:
        """Why a producer is gone: its own words, if it left any."""
        for pipe in self._pipes:
            try:
                while pipe.poll():
                    message = pipe.recv()
                    if isinstance(message, Exception):
                        return message
            except (EOFError, OSError):
                continue
        self._workers[which].join(1.0)
        return RuntimeError(f"producer {which} ended with status {self._workers[which].exitcode}")


def fixed_batches(
    corpus: Corpus, signals_per_set: int, rows: int, capacity: int, patch: int, seed: int = 0,
    open_rows: int = OPEN_ROWS, rank: int = 0, world: int = 1,
) -> Iterator[PackedBatch]:
    """Always the same signals, for validation: ``signals_per_set`` of each set, once, then it ends.

    The last batch has the rows that are left; with several ranks it may be missing for some.
    """
    settings, share = Settings(rows, capacity, patch, seed, open_rows), Share(rank, world)
    cache = cache_of(corpus)
    packed = take(corpus, settings, signals_per_set, cache)
    for number, first in enumerate(range(0, len(packed), rows)):
        some = packed[first : first + rows]
        mine = share.rows(len(some))
        if mine:
            iq, labels, _ = filled([some[row] for row in mine], settings, cache)
            drawn = noise(seed, [first + row for row in mine], capacity // patch)
            yield _batch(iq, drawn, labels, patch, number)


def _batch(iq: np.ndarray, drawn: np.ndarray, labels: Labels, patch: int, number: int) -> PackedBatch:
    return PackedBatch(
        torch.from_numpy(iq), torch.from_numpy(drawn), torch.from_numpy(labels.row.copy()),
        torch.from_numpy(labels.start.copy()), torch.from_numpy(labels.length.copy()), torch.from_numpy(labels.rate),
        torch.from_numpy(labels.source.copy()), patch, number)
