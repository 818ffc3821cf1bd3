"""The sets whose original files can be read, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import Signal

from . import (
    adsb, dronerfa, hisarmod, panoradio, radarcomm, radchar, recordings, rml2016, rml2018, transmitter, wisig)
from .source import Source, foreign

NUMBERS = ("snr", "pri", "pulse_time_delay", "pulse_width")

SOURCES: dict[str, Source] = {
    source.name: source
    for module in (rml2016, rml2018, radchar, hisarmod, panoradio, wisig, recordings, adsb, transmitter, radarcomm,
                   dronerfa)
    for source in module.SOURCES
}


def chosen(name: str) -> Source:
    """The set of that name, in any case; UsageError names those that can be read."""
    found = next((source for key, source in SOURCES.items() if key.lower() == name.lower()), None)
    if found is None:
        raise UsageError(f"unknown set {name!r}; known: {', '.join(SOURCES)}")
    return found


def signals(source: Source, files: Iterable[Path], length: int | None = None) -> Iterator[Signal]:
    """The signals of all files. UsageError for a length that cannot be, EMindError names a bad file and its fault."""
    if length is not None and source.length is None:
        raise UsageError(f"--length {length}: the signals of {source.name} have a length of their own")
    if length is not None and length < 1:
        raise UsageError(f"--length {length} must be at least 1")
    for path in files:
        path = Path(path)
        if not path.is_file():
            raise EMindError(f"{path}: {'is a folder; give its files' if path.is_dir() else 'no such file'}")
        yield from checked(source, path, length)


def checked(source: Source, path: Path, length: int | None) -> Iterator[Signal]:
    """The signals of one file; whatever values a damaged file has, the fault comes with its name."""
    empty = True
    try:
        for signal in source.read(path, length or source.length):
            empty = False
            for name in NUMBERS:
                value = getattr(signal, name)
                if value is not None and not math.isfinite(value):
                    raise foreign(path, f"not {source.name}: a signal has the {name} {value}")
            yield signal
    except (OSError, ValueError, OverflowError) as fault:
        raise foreign(path, f"not {source.name}, or damaged ({type(fault).__name__}: {fault})") from None
    if empty:
        raise foreign(path, "holds no signals")
