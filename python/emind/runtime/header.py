"""What the header of a weights file says, without making its model."""

from __future__ import annotations

from pathlib import Path

from ..models.checkpoint import read_header
from .weights import resolve


def described(weights: str | Path) -> tuple[Path, dict]:
    """Path and parsed header of a released name or a weights path; EMindError names what is wrong with it."""
    path = resolve(weights)
    return path, read_header(path)
