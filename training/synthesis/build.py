"""Sets drawn into Parquet files by several processes.

    items 0..127 -> process 0 \\
    items 128..255 -> process 1  > rows in order -> Writer -> NAME.parquet, or NAME-0000-of-0042.parquet ...
    items 256..383 -> process 0 /

Item k of a seed is the same whoever draws it and rows are written in order, so a file depends on neither the number of
processes nor on chance. A large set is cut into files of about half a gigabyte: what an interrupted run has finished
stays, and the next run goes on with the first file that is missing.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emind.contract.errors import EMindError
from emind.contract.schema import Signal
from emind.storage.parquet import Reader, Writer

from .recipe import Recipe
from .sets import SETS

FILE_SAMPLES = 1 << 26  # of a file: half a gigabyte of complex64
AHEAD = 3  # blocks drawn ahead for each process


@dataclass(frozen=True)
class Part:
    """One file of a set: items ``first`` to ``stop - 1``."""

    path: Path
    first: int
    stop: int
    origin: str


def parts(recipe: Recipe, size: str, seed: int, folder: Path) -> list[Part]:
    """The files a set is cut into."""
    total = recipe.items(size)
    samples = sum(len(row.iq) for row in recipe.rows(seed, 0))
    each = max(1, FILE_SAMPLES // (samples * recipe.block)) * recipe.block
    count = -(-total // each)
    out = []
    for k in range(count):
        first, stop = k * each, min(total, (k + 1) * each)
        name = f"{recipe.name}.parquet" if count == 1 else f"{recipe.name}-{k:04d}-of-{count:04d}.parquet"
        made = f"emind-train dataset build, recipes {recipe.version}"  # the plural is that of files that there are
        origin = f"{made}: {recipe.name}, items {first} to {stop - 1} of {total}"
        out.append(Part(folder / name, first, stop, origin))
    return out


def draw_block(name: str, seed: int, first: int, stop: int) -> list[Signal]:
    """Rows of a run of items; called in the drawing processes."""
    recipe = SETS[name]
    return [row for item in range(first, stop) for row in recipe.rows(seed, item)]


def _worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that writes ends the drawing ones
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)  # it was killed: nobody ends this process but itself

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def drawing(processes: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes that draw; None for one, where this process draws by itself."""
    if processes <= 1:
        yield None
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def blocks(
    recipe: Recipe, seed: int, first: int, stop: int, pool: ProcessPoolExecutor | None, processes: int
) -> Iterator[list[Signal]]:
    """Rows of items ``first`` to ``stop - 1``, in order, a block at a time."""
    runs = [(at, min(stop, at + recipe.block)) for at in range(first, stop, recipe.block)]
    if pool is None:
        for run in runs:
            yield draw_block(recipe.name, seed, *run)
        return
    waiting: deque = deque()
    for run in runs:
        waiting.append(pool.submit(draw_block, recipe.name, seed, *run))
        if len(waiting) > AHEAD * processes:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def finished(part: Part, seed: int) -> bool:
    """Whether the file is there already. EMindError where another file has its name."""
    if not part.path.exists():
        return False
    with Reader(part.path) as reader:
        made, by_seed = reader.metadata.get("origin"), reader.metadata.get("seed")
    if made != part.origin or str(by_seed) != str(seed):
        raise EMindError(f"{part.path}: is another file (made by {made!r}, seed {by_seed}); name another folder, or "
                         "--overwrite it")
    return True


def build_set(
    recipe: Recipe, folder: Path, size: str, seed: int, pool: ProcessPoolExecutor | None = None, processes: int = 1,
    overwrite: bool = False, progress: Callable[[int], None] = lambda items: None,
) -> list[Path]:
    """Write the files of a set that are missing; returns all its files. ``progress`` is told of items done.

    EMindError where the folder cannot be written, holds other files of these names, or a drawing process died.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise EMindError(f"{folder}: cannot be made ({fault.strerror})") from None
    todo = parts(recipe, size, seed, folder)
    done = [False if overwrite else finished(part, seed) for part in todo]  # all faults before any work
    for part, there in zip(todo, done, strict=True):
        if there:
            progress(part.stop - part.first)
            continue
        try:
            with Writer(part.path, origin=part.origin, seed=seed) as writer:
                at = part.first
                for rows in blocks(recipe, seed, part.first, part.stop, pool, processes):
                    writer.write_many(rows)
                    progress(min(recipe.block, part.stop - at))
                    at += recipe.block
        except OSError as fault:
            raise EMindError(f"{part.path}: cannot be written ({fault.strerror})") from None
        except BrokenProcessPool:
            raise EMindError(f"{recipe.name}: a drawing process was killed (out of memory?); the finished files stay, "
                             "start the same command again") from None
    return [part.path for part in todo]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
