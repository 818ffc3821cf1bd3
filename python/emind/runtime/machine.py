"""What the machine has."""

from __future__ import annotations

import os
from pathlib import Path


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def has_graphics_device() -> bool:
    """Whether a driver of a device that CUDA may run on is loaded; asked without loading torch."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()
