"""What the header of a weights file says, without making its model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..contract.errors import EMindError
from ..contract.window import RECONSTRUCTION
from ..models.checkpoint import read_header
from .weights import resolve


def described(weights: str | Path) -> tuple[Path, dict]:
    """Path and parsed header of a released name or a weights path; EMindError names what is wrong with it."""
    path = resolve(weights)
    return path, read_header(path)


def check_heads(names: Iterable[str], known: Sequence[str], weights: str | Path) -> tuple[str, ...]:
    """The names, each once. EMindError where there is none, or the weights have no head of that name."""
    names = tuple(dict.fromkeys((names,) if isinstance(names, str) else names))
    lacking = [name for name in names if name not in known]
    if lacking or not names:
        lack = f"have no head {lacking[0]!r}" if lacking else "are to run no head"
        raise EMindError(f"weights {weights} {lack}; its heads: {', '.join(known)}")
    return names


def speaking_heads(weights: str | Path) -> list[str]:
    """The heads of these weights that tag windows: all but those that make waveforms."""
    return [head["name"] for head in described(weights)[1]["heads"] if head["kind"] != RECONSTRUCTION]
