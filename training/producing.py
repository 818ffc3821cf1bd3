"""Planned rows become samples: by the producers, which are processes of their own and know nothing of torch.

A training step dispatches many short operations and needs the interpreter for each, so producers are processes: beside
one that never rests, a step of nano took a tenth longer where it was a thread. Each plans every batch (a few
microseconds a signal) and fills its own, in memory that it shares with the consumer:

    consumer ── changes of weights, "up to batch k" ──► producer p: fills p, p + producers, ...
             ◄── what lies where, the state after it ───
             ◄══ samples and noise, in shared memory ═══
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from emind.contract.errors import EMindError
from emind.dsp.normalise import max_abs

from .corpus import Corpus, GroupCache
from .packing import Row
from .planning import NOISE, POOL, Planner, Settings


@dataclass(frozen=True)
class Labels:
    """What is known of the signals of a batch, by row, then start; see ``emind.models.packed_batch``."""

    row: np.ndarray
    start: np.ndarray
    length: np.ndarray
    rate: np.ndarray
    source: np.ndarray


def filled(
    rows: list[Row], settings: Settings, cache: GroupCache, out: np.ndarray | None = None,
) -> tuple[np.ndarray, Labels, int]:
    """Normalised samples (rows, capacity, 2) float32, their labels, and how many signals were left out.

    A signal that is zero throughout or holds a value that is not finite is left out: its place stays empty.
    """
    iq = np.empty((len(rows), settings.capacity, 2), np.float32) if out is None else out
    iq[...] = 0
    numbers, placed = [], []
    for number, row in enumerate(rows):
        for one in row:
            numbers.append(number)
            placed.append(one)
    by_length: dict[int, list[int]] = {}
    for index, one in enumerate(placed):
        by_length.setdefault(one.length, []).append(index)
    usable = np.zeros(len(placed), bool)
    rates = np.empty(len(placed), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for length, indices in by_length.items():
            raw = np.empty((len(indices), length), np.complex64)
            for at, index in enumerate(indices):
                _, group, signal = placed[index].item
                part = cache[group]
                raw[at] = part.signal(signal)
                rates[index] = part.rates[signal]
            parts = max_abs(raw)
            flat = parts.reshape(len(parts), -1)
            power = np.einsum("nv,nv->n", flat, flat)
            good = np.isfinite(power) & (power > 0)  # max_abs makes zeros of NaN, and NaN of infinity
            usable[indices] = good
            for at in np.flatnonzero(good).tolist():
                one = placed[indices[at]]
                iq[numbers[indices[at]], one.start : one.start + length] = parts[at]
    cache.release()
    where = [(number, one.start, one.length, one.item[0]) for number, one in zip(numbers, placed, strict=True)]
    table = np.array(where, np.int64).reshape(-1, 4)[usable]
    labels = Labels(table[:, 0], table[:, 1], table[:, 2], rates[usable], table[:, 3])
    return iq, labels, int((~usable).sum())


def noise(seed: int, rows: list[int], patches: int, out: np.ndarray | None = None) -> np.ndarray:
    """Uniform in [0, 1), float32 (rows, patches): of each row by its number in the run."""
    drawn = np.empty((len(rows), patches), np.float32) if out is None else out
    key = np.random.SeedSequence([seed, NOISE]).generate_state(2, np.uint64)
    for index, row in enumerate(rows):
        counter = [0, 0, row, 0]  # drawing counts in the first word: rows never meet
        np.random.Generator(np.random.Philox(key=key, counter=counter)).random(out=drawn[index], dtype=np.float32)
    return drawn


def cache_of(corpus: Corpus) -> GroupCache:
    """Room for each set's pool, and for the groups before it that signals in open rows are from."""
    return GroupCache(corpus, (POOL + 2) * len(corpus.names) + POOL)


@dataclass(frozen=True)
class Share:
    """What a rank takes of each batch: its rows ``rank``, ``rank + world``, ..."""

    rank: int
    world: int

    def rows(self, count: int) -> list[int]:
        return list(range(self.rank, count, self.world))


def slot_shapes(settings: Settings, share: Share) -> tuple[tuple[int, int, int], tuple[int, int]]:
    rows = len(share.rows(settings.rows))
    return (rows, settings.capacity, 2), (rows, settings.capacity // settings.patch)


def slots(memory: Any, settings: Settings, share: Share, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Samples and noise of ``count`` batches in shared memory."""
    values = np.frombuffer(memory, np.float32).reshape(count, -1)
    first, second = slot_shapes(settings, share)
    size = int(np.prod(first))
    return [(row[:size].reshape(first), row[size:].reshape(second)) for row in values]


class Maker:
    """Plans all batches, and makes those that it is asked for."""

    def __init__(self, corpus: Corpus, settings: Settings, weights: list[float], share: Share,
                 state: dict[str, Any] | None) -> None:
        self.settings, self.share = settings, share
        self._cache = cache_of(corpus)
        self.planner = Planner(corpus, settings, weights, self._cache)
        if state is not None:
            self.planner.restore(state)

    def make(self, out: tuple[np.ndarray, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray, Labels, int]:
        """Samples, noise, labels and signals left out of the next batch, as far as this rank's rows go."""
        plan = self.planner.next()
        mine = self.share.rows(self.settings.rows)
        iq_out, noise_out = out or (None, None)
        iq, labels, left_out = filled([plan.rows[row] for row in mine], self.settings, self._cache, iq_out)
        first = plan.number * self.settings.rows
        return iq, noise(self.settings.seed, [first + row for row in mine],
                         self.settings.capacity // self.settings.patch, noise_out), labels, left_out


def produce(pipe: Any, memory: Any, count: int, which: int, producers: int, corpus: Corpus, settings: Settings,
            weights: list[float], share: Share, state: dict[str, Any] | None) -> None:
    """A producer: batches whose number (from the first on) is ``which`` modulo ``producers``, until the pipe closes."""
    os.nice(5)  # the training step goes first: there are batches in store
    try:
        maker = Maker(corpus, settings, weights, share, state)
        planner = maker.planner
        places = slots(memory, settings, share, count)
        first = planner.number
        allowed = first
        while True:
            while allowed <= planner.number or pipe.poll():
                what, *rest = pipe.recv()
                if what == "change":
                    planner.change(*rest)
                else:
                    allowed = rest[0]
            number = planner.number
            if (number - first) % producers != which:
                planner.next()
                continue
            place = (number - first) // producers % count
            _, _, labels, left_out = maker.make(places[place])
            pipe.send((number, place, labels, left_out, planner.state()))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # the consumer has ended, or says itself that it was interrupted
    except Exception as fault:
        expected = isinstance(fault, EMindError)
        try:
            pipe.send(fault if expected else RuntimeError(f"{type(fault).__name__} in a producer: {fault}"))
        except OSError:
            pass
        if not expected:
            raise  # its traceback is for the log
