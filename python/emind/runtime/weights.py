"""Where weights files are: released ones by name, others by path."""

from __future__ import annotations

from pathlib import Path

from ..contract.errors import EMindError

FOLDER = Path(__file__).resolve().parent.parent / "weights"
SUFFIX = ".safetensors"


def released() -> dict[str, Path]:
    """Name to path of every weights file that comes with the module."""
    return {path.stem: path for path in sorted(FOLDER.glob("*" + SUFFIX))}


def resolve(weights: str | Path) -> Path:
    """A path as it is; a bare name in the folder of released weights."""
    path = Path(weights)
    if path.suffix == SUFFIX or len(path.parts) > 1:
        if not path.is_file():
            raise EMindError(f"weights {path}: no such file")
        return path
    known = released()
    if str(weights) not in known:
        names = ", ".join(known) or "none installed"
        raise EMindError(f"weights {weights!r} are not known; released: {names}; or give the path of a {SUFFIX} file")
    return known[str(weights)]
