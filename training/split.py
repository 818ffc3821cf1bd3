"""Splits sets of signals into parts (train, validation, test) so that nothing leaks from one into the other.

    files ─► labels ─► groups that stay together ─► strata (set, class, SNR), shuffled ─► part ─► NAME-PART.parquet

Rows that share what stands before a colon in ``transmission_id`` are a group (`synthesis.recipe.linked`); a row
without one is a group of its own. Groups, not rows, are dealt out: in each stratum every part gets its share, to
within one, and over a whole set as well. Which part a group comes into depends on the seed and on the groups, not on
the order of the files.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError, UsageError
from emind.storage.parquet import FLOAT32, INT16, Reader, Writer

from .synthesis.recipe import linked

PAPER = "paper"
PARTS = {2: ("train", "validation"), 3: ("train", "validation", "test")}
# Section VI-A: pretraining sets 9:1. Section VI-B: EM-Radar-Mix 100,800 : 11,200 : 11,200; 80 % for training on the
# RML sets; training to testing 1:9 on ADS-B and the interference sets, 5:5 on EM-AIS. Where the paper names no
# validation part, a tenth of its training share is ours, so that the test part is the paper's and is read once.
# The other task sets: the recipe's own where it states one, else as EM-Radar-Mix, since the paper says nothing.
PRETRAINING = {"EM-Comm", "EM-RadarParaIQSim", "EM-Radar", "EM-Infer-Radar-v2"}
RECIPES = {"RadChar": (70, 15, 15), "AWGN-7": (70, 15, 15)}
PAPER_TASKS = {
    **dict.fromkeys(("RML2016.10A", "RML2016.10B", "RML2016.04C", "RML2018.01A"), (72, 8, 20)),
    **dict.fromkeys(("ADS-B", "EM-Infer-Comm", "EM-Infer-Radar"), (9, 1, 90)),
    "EM-AIS": (45, 5, 50),
}
REGENERATED = "-regen"  # at the end of the name of a set that is made again from a description
NO_CLASS = ("", str(None))  # of a row without that label
MOST_NAMED = 5  # classes in a remark
LABELS = ("modulation", "radar_waveform", "infer_class", "device_id")
COLUMNS = ("dataset_name", "transmission_id", *LABELS, "snr")

Group = tuple[str, str]  # set, what its rows share


def parsed_ratios(text: str) -> tuple[int, ...] | None:
    """"9:1" -> (9, 1); None for "paper". UsageError for what is no ratio of two or three whole numbers."""
    if text == PAPER:
        return None
    if not re.fullmatch(r"\d+(:\d+){1,2}", text) or 0 in (ratios := tuple(map(int, text.split(":")))):
        raise UsageError(f"--ratios {text!r}: give two or three whole numbers above 0, such as 9:1 or 70:15:15, "
                         f"or {PAPER}")
    return ratios


def ratios_of(name: str, ratios: tuple[int, ...] | None) -> tuple[int, ...]:
    """The ratios of a set; those of the paper for None."""
    if ratios is not None:
        return ratios
    own = name.removesuffix(REGENERATED)
    return PAPER_TASKS[own] if own in PAPER_TASKS else drawn_ratios(name)


def drawn_ratios(name: str) -> tuple[int, ...]:
    """The ratios of a set that is drawn because no files were given: the paper's, but where the paper trains on a tenth
    or a half of a set far larger than the one that is drawn, nine elevenths of it are for training."""
    return (9, 1) if name in PRETRAINING else RECIPES.get(name.removesuffix(REGENERATED), (9, 1, 1))


def groups_of(file: str, reader: Reader) -> tuple[list[Group], list[tuple]]:
    """Each row's group and stratum. ``file``: a name that sets its rows without transmission apart from others'."""
    columns = reader.columns(COLUMNS)
    groups, strata = [], []
    for row, (name, common, *labels, snr) in enumerate(zip(*(columns[name] for name in COLUMNS), strict=True)):
        own = linked(common)[0] if common else f"\0{file}\0{row}"
        groups.append((name or "", own))
        strata.append((*(str(label) for label in labels), f"{2 * round(snr / 2):+d}" if np.isfinite(snr) else ""))
    return groups, strata


def dealt(strata: dict[Group, tuple], ratios: tuple[int, ...], seed: int) -> dict[Group, int]:
    """Group -> number of its part, for the groups of one set."""
    def chance(group: Group) -> bytes:
        return hashlib.blake2b(f"{seed}\0{group[0]}\0{group[1]}".encode(), digest_size=16).digest()

    order = sorted(strata, key=lambda group: (strata[group], chance(group)))
    share = np.array(ratios) / sum(ratios)
    given = np.zeros(len(ratios))
    out = {}
    for place, group in enumerate(order, 1):
        part = int(np.argmax(share * place - given))  # the part that lags most behind its share
        given[part] += 1
        out[group] = part
    return out


def absent(held: dict[Group, set[tuple[str, str]]], given: dict[Group, int], parts: tuple[str, ...]) -> list[str]:
    """A line for each label and part that lacks some of the label's classes. ``held``: what rows of a group are labelled
    with, as (label, class)."""
    out = []
    every = set().union(*held.values())
    for number, part in enumerate(parts):
        lacks = every - set().union(*(held[group] for group, own in given.items() if own == number))
        for label in LABELS:
            own = sorted(name for of, name in lacks if of == label)
            more = f" and {len(own) - MOST_NAMED} more" if len(own) > MOST_NAMED else ""
            if own:
                out.append(f"no {label} {', '.join(own[:MOST_NAMED])}{more} in {part}: record more of it, or give other "
                           "ratios")
    return out


def file_name(name: str, part: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._+-]+', '_', name).strip('.') or 'signals'}-{part}.parquet"


def split(
    paths: list[Path], out: Path, ratios: tuple[int, ...] | None = (9, 1), seed: int = 0, overwrite: bool = False,
    progress: Callable[[int], None] = lambda rows: None, remark: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, tuple[Path, int, int]]]:
    """Set -> part -> (file, groups, rows). Several files of one set are split as one. ``remark`` gets a line for each
    label of which a part has not every class.

    Raises
    ------
    EMindError: a file cannot be read or is empty, a set has too few groups, a part's file exists already
    """
    keys: list[list[Group]] = []
    first: dict[str, dict[Group, tuple]] = {}
    held: dict[str, dict[Group, set[tuple[str, str]]]] = {}
    origins: dict[str, str] = {}
    scales = set()
    same_name = Counter(path.name for path in paths)
    for path in paths:
        with Reader(path) as reader:
            if reader.count == 0:
                raise EMindError(f"{path}: holds no signals")
            groups, strata = groups_of(path.name if same_name[path.name] == 1 else str(path), reader)
            about = reader.metadata
        scales.add(about.get("iq_scale") if about.get("iq_format") == INT16 else None)
        keys.append(groups)
        for group, stratum in zip(groups, strata, strict=True):
            known = first.setdefault(group[0], {})
            known[group] = min(stratum, known.get(group, stratum))  # whichever row and file comes first
            own = held.setdefault(group[0], {}).setdefault(group, set())
            own.update((label, name) for label, name in zip(LABELS, stratum) if name not in NO_CLASS)
            origins.setdefault(group[0], about.get("origin", str(path)))
    parts: dict[Group, int] = {}
    for name, strata in first.items():
        shares = ratios_of(name, ratios)
        given = dealt(strata, shares, seed)
        missing = set(range(len(shares))) - set(given.values())
        if missing:
            raise EMindError(f"{name or paths[0]}: {len(strata)} groups of signals are too few for "
                             f"{':'.join(map(str, shares))}: {PARTS[len(shares)][min(missing)]} would be empty")
        parts.update(given)
        for text in absent(held[name], given, PARTS[len(shares)]):
            remark(f"{name or paths[0]}: {text}")
    names = {(name, part): out / file_name(name, text) for name in first
             for part, text in enumerate(PARTS[len(ratios_of(name, ratios))])}
    if len({*names.values()}) < len(names):
        raise EMindError(f"{out}: the names of two sets lead to the same file")
    source = {path.resolve() for path in paths}
    for target in names.values():
        if target.resolve() in source or (target.exists() and not overwrite):
            raise EMindError(f"{target}: exists already; name another folder, or --overwrite it")
    out.mkdir(parents=True, exist_ok=True)
    scale = scales.pop() if len(scales) == 1 else None
    form = {"iq_format": INT16, "scale": float(scale)} if scale else {"iq_format": FLOAT32}
    rows: Counter = Counter()
    with ExitStack() as stack:
        writers = {}
        for (name, part), target in names.items():
            text = PARTS[len(ratios_of(name, ratios))][part]
            origin = f"emind-train dataset split, seed {seed}: {text} of {origins[name]}"
            writers[name, part] = stack.enter_context(Writer(target, origin=origin, seed=seed, **form))
        for path, groups in zip(paths, keys, strict=True):
            with Reader(path) as reader:
                for index, row in enumerate(reader):
                    key = groups[index][0], parts[groups[index]]
                    writers[key].write(row)
                    rows[key] += 1
                    if index % 256 == 255:
                        progress(256)
                progress(reader.count % 256)
    members = Counter((group[0], part) for group, part in parts.items())
    return {name: {PARTS[len(ratios_of(name, ratios))][part]: (names[name, part], members[name, part], rows[name, part])
                   for part in range(len(ratios_of(name, ratios)))} for name in first}
