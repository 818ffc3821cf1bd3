"""An engine that is ready for a stream: loaded and warmed up, in processes of its own or in this one.

torch is loaded only where the engine runs in this process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..contract.errors import UsageError
from .machine import available_memory, available_threads, divided_cores, has_graphics_device, move_to, spared_threads

PROCESSES = "EMIND_PROCESSES"  # variable of the environment
MOST_PROCESSES = 8
PROCESS_BYTES = 1 << 30  # that one may take: a small encoder's has half of it


def ready_engine(
    weights: str | Path,
    backend: str = "auto",
    threads: int = 0,
    batch: int = 32,
    heads: Iterable[str] | None = None,
    streams: Iterable[str] = (),
    processes: int = -1,
    waits: bool = True,
    apart: bool = False,
):
    """Engine of these weights, warmed up for batches of that size.

    ``heads``, ``streams``: see :func:`.header.heads_for`. ``processes``: how many of its own it has, which leave the
    interpreter to the flowgraph, 0 none; below 0: as the variable EMIND_PROCESSES says, else one a thread, at most
    MOST_PROCESSES, where a processor computes. ``waits``: whether the stream waits for answers; where it does not, and
    nobody says how many ``threads``, some are left to the flowgraph. ``apart``: the processes get cores of their own,
    and this process, with all that runs in it, is kept off them. Raises as :func:`.engine.load_engine`.
    """
    if not threads and (apart or not waits):
        threads = spared_threads()
    processes = default_processes(backend, threads) if processes < 0 else processes
    if processes:
        from .engine_processes import ProcessEngine

        own, cores = divided_cores() if apart else ([], [])
        engine = ProcessEngine(weights, backend, threads, batch, heads, streams, processes, cores)
        if own:
            move_to(own)
        return engine
    from .engine import load_engine
    from .header import heads_for

    engine = load_engine(weights, backend, threads, heads_for(weights, heads, streams))
    engine.warm_up(batch)
    return engine


def default_processes(backend: str, threads: int) -> int:
    """How many, where nobody says."""
    told = os.environ.get(PROCESSES, "").strip()
    if told:
        if not told.isdecimal():
            raise UsageError(f"{PROCESSES}={told}: give a number of processes for inference, 0 for none beside this one")
        return int(told)
    if backend == "torch-compiled" or (backend in ("auto", "torch") and has_graphics_device()):
        return 0  # each would compile for minutes, or take the device's memory for itself
    most = available_threads()
    return max(1, min(threads or most, most, MOST_PROCESSES, available_memory() // PROCESS_BYTES))
