"""Places in Markdown pages that commands write their figures into: between two marks, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from emind.contract.errors import EMindError


def marks(name: str, command: str) -> tuple[str, str]:
    return f"<!-- {name}: from here on written by emind-train {command} --write -->", f"<!-- {name}: to here -->"


def parts_of_page(page: Path, name: str, command: str) -> tuple[str, str]:
    """A page up to its mark for the figures ``name`` of a command, and from the second mark on.

    EMindError for a page without the marks, or one that cannot be read and written."""
    begin, end = marks(name, command)
    try:
        with open(page, "r+", encoding="utf-8") as file:  # for writing too, so that a fault shows before the training
            whole = file.read()
    except (OSError, UnicodeDecodeError) as fault:
        raise EMindError(f"{page}: {getattr(fault, 'strerror', None) or fault}") from None
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(begin) > whole.index(end):
        raise EMindError(f"{page}: lacks the marks {begin!r} and {end!r}, between which the figures are written")
    return whole[: whole.index(begin) + len(begin)], whole[whole.index(end) :]
