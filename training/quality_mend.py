"""Drops or mends the rows that `quality` names, until nothing is named any more."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import TEXTS, Signal
from emind.storage.parquet import INT16, Reader, Writer

from .quality import MENDABLE, Report, check
from .synthesis.recipe import linked

FEW = 0.01  # share of samples that are not finite up to which they are replaced from their neighbours
MENDED = "; without its faulty rows"
ROUNDS = 5  # without the faulty rows their peers' spread is smaller, so that a further row may stand out


@dataclass
class Mended:
    """What was done: rows by (file, what), the faults that were found first, files of which nothing is left."""

    dropped: Counter = field(default_factory=Counter)  # file -> rows
    mended: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)
    files: list[Path] = field(default_factory=list)  # that are clean now
    empty: list[str] = field(default_factory=list)
    rounds: int = 0

    def to_dict(self) -> dict:
        return {"dropped": dict(self.dropped), "mended": dict(self.mended), "kinds": dict(self.kinds),
                "files": [str(path) for path in self.files], "empty": self.empty, "rounds": self.rounds}


def mended_row(row: Signal, kinds: set[str]) -> Signal | None:
    """The row without its faults, None where it can only be dropped."""
    if not kinds <= MENDABLE:
        return None
    changes: dict = {}
    if "text" in kinds:
        changes = {name: (getattr(row, name) or "").strip() or None for name in TEXTS}
    if "not finite" in kinds:
        x = row.iq.copy()
        good = np.isfinite(x.view(np.float32)).reshape(-1, 2).all(axis=1)
        if np.mean(~good) > FEW:
            return None
        places = np.arange(len(x))
        for part in (x.real, x.imag):
            part[~good] = np.interp(places[~good], places[good], part[good])
        changes["iq"] = x
    elif "direct current" in kinds:
        changes["iq"] = (row.iq - row.iq.mean()).astype(np.complex64)
    return dataclasses.replace(row, **changes)


def _group(dataset_name: str | None, transmission_id: str | None) -> tuple[str | None, str] | None:
    """What a row's mates share, None where it has none: a mixture without its sources is worth nothing."""
    common, role = linked(transmission_id) if transmission_id else ("", "")
    return (dataset_name, common) if role else None


def _whole(x: np.ndarray, step: float) -> np.ndarray:
    """Samples on the steps that their file stores."""
    steps = np.clip(np.rint(x.view(np.float32) / np.float32(step)), -32768, 32767)
    return (steps * np.float32(step)).astype(np.float32).view(np.complex64)


def write_without_faults(path: Path, target: Path, report: Report, drop_only: bool, done: Mended) -> bool:
    """Writes ``target`` from ``path``, which may be the same file. False where no row is left: nothing is written."""
    kinds: dict[int, set[str]] = {}
    for fault in report.faults:
        if fault.file == str(path):
            kinds.setdefault(fault.row, set()).add(fault.kind)
    with Reader(path) as reader:
        fixed: dict[int, bool] = {}
        lost = set()
        for index in sorted(kinds):
            row = reader[index]
            fixed[index] = not drop_only and mended_row(row, kinds[index]) is not None
            if not fixed[index]:
                lost.add(_group(row.dataset_name, row.transmission_id))
        columns = reader.columns(("dataset_name", "transmission_id"))
        groups = map(_group, columns["dataset_name"], columns["transmission_id"])
        keep = [fixed.get(index, True) and (group is None or group not in lost) for index, group in enumerate(groups)]
        if not any(keep):
            done.empty.append(str(path))
            return False
        about = reader.metadata
        steps = float(about["iq_scale"]) if about.get("iq_format") == INT16 else None
        form = {"iq_format": INT16, "scale": steps} if steps else {}
        origin = about.get("origin", str(path)).removesuffix(MENDED) + MENDED
        with Writer(target, origin=origin, seed=about.get("seed"), recorded=about.get("recorded"), **form) as writer:
            for index, row in enumerate(reader):
                if not keep[index]:
                    continue
                if index in fixed:
                    row = mended_row(row, kinds[index])
                    if steps:
                        row = dataclasses.replace(row, iq=_whole(row.iq, steps))
                writer.write(row)
        done.dropped[str(target)] += keep.count(False)
        done.mended[str(target)] += sum(keep[index] for index in fixed)
    return True


def mend(
    paths: list[Path], out: Path | None, drop_only: bool = False, progress: Callable[[int], None] = lambda rows: None,
) -> Mended:
    """Writes each file without its faults into the folder ``out``; None: in its own place.

    Raises
    ------
    UsageError: ``out`` holds one of the files, or two of them have one name
    EMindError: a file cannot be read or written, or faults are left
    """
    targets = {path: path if out is None else out / path.name for path in paths}
    if out is not None:
        if len({*targets.values()}) < len(paths):
            raise UsageError("two of the files have the same name: mend them one by one, or into their own place")
        taken = [target for target in targets.values() if target.exists()]
        if taken:
            raise UsageError(f"{taken[0]}: exists already; name another folder")
        out.mkdir(parents=True, exist_ok=True)
    done = Mended()
    report = check(paths, progress)
    done.kinds = report.kinds()
    for path, target in targets.items():
        if any(fault.file == str(path) for fault in report.faults):
            if not write_without_faults(path, target, report, drop_only, done):
                continue
        elif path != target:
            shutil.copyfile(path, target)
        done.files.append(target)
    while report.faults and done.files:
        done.rounds += 1
        report = check(done.files, progress)
        if not report.faults:
            break
        if done.rounds > ROUNDS:
            raise EMindError(f"{report.faults[0].line}: is still there after {ROUNDS} rounds")
        done.kinds += report.kinds()
        for path in {fault.file: None for fault in report.faults}:
            if not write_without_faults(Path(path), Path(path), report, drop_only, done):
                done.files.remove(Path(path))
    return done
