"""What a long run needs of its process: an orderly end when it is asked to stop, and sums in a definite order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM, so that the step is finished and saved; the second ends at once."""
    asked = threading.Event()
    before = {}

    def handle(number, frame) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_left_alone() -> Iterator[None]:
    """Processes started inside ignore the terminal's interrupt, which goes to all of them: this one ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def reproducible(seed: int, threads: int, device: torch.device) -> Iterator[None]:
    """Seed and threads; on a processor, sums in a definite order."""
    filling = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), filling.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(device.type == "cpu", warn_only=True)
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_num_threads(before[1])
        filling.fill_uninitialized_memory = before[2]
