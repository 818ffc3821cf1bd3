"""What the machine has, and who of this process runs on which of its cores."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

# Asked once: who is moved to some of them (`move_to`) still knows of all.
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def all_cores() -> set[int]:
    """Those that this process was started on."""
    return set(_CORES)


def available_threads() -> int:
    """Processors this process may use."""
    return len(_CORES)


def spared_threads() -> int:
    """Those that a flowgraph which must not wait leaves to inference: a quarter of all is its own, one at least."""
    return max(1, len(_CORES) - max(1, len(_CORES) // 4))


def divided_cores() -> tuple[list[int], list[int]]:
    """Cores of the flowgraph, and those of inference; none where there is nothing to divide."""
    if len(_CORES) < 2 or not hasattr(os, "sched_setaffinity"):
        return [], []
    own = len(_CORES) - spared_threads()
    return _CORES[:own], _CORES[own:]


def move_to(cores: list[int]) -> None:
    """Let all threads of this process, and those that it starts from now on, run on these cores only."""
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), cores)
        except ProcessLookupError:
            pass  # it has ended meanwhile


def has_graphics_device() -> bool:
    """Whether a driver of a device that CUDA may run on is loaded; asked without loading torch."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()


def available_memory() -> int:
    """Bytes that programs can still have; a lot where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 1 << 40


_SET_ASIDE = 0  # how many streams asked for it
_SET_ASIDE_LOCK = threading.Lock()


def set_aside_what_is_there() -> None:
    """Let Python's search for garbage pass over all objects of now: the libraries have a hundred thousand of them, and
    looking at each holds every thread of the process for tens of milliseconds, once in some seconds. Each call is ended
    by one of `take_back`."""
    global _SET_ASIDE
    with _SET_ASIDE_LOCK:
        _SET_ASIDE += 1
        gc.freeze()


def take_back() -> None:
    """Let the search for garbage look at everything again, once nobody else needs it otherwise."""
    global _SET_ASIDE
    with _SET_ASIDE_LOCK:
        _SET_ASIDE -= 1
        if _SET_ASIDE == 0:
            gc.unfreeze()
