"""What the header of a weights file says, without making its model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..contract.errors import EMindError
from ..contract.window import RECONSTRUCTION, HeadSpec
from ..models.checkpoint import read_header
from .enrolled import visible
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
    specs = {head["name"]: HeadSpec.from_dict(head) for head in described(weights)[1]["heads"]}
    return [name for name, head in visible(specs).items() if head.kind != RECONSTRUCTION]


def heads_for(weights: str | Path, heads: Iterable[str] | None, streams: Iterable[str]) -> tuple[str, ...]:
    """What a block runs of these weights: the heads asked for, None for all that tag windows, and those of streams."""
    if heads is None:
        heads = speaking_heads(weights)
    heads, streams = ((names,) if isinstance(names, str) else names for names in (heads, streams))
    return tuple(dict.fromkeys([*heads, *streams]))
