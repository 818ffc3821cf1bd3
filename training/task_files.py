"""Which files a task's examples stand in: those that were given, or a set drawn by its recipe and split.

    --data FILE or FOLDER ...                 <set>-train.parquet, <set>-validation.parquet, <set>-test.parquet
    nothing: runs/sets/<set>-<hash>/          the same, by `dataset build` and `dataset split`
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from emind.contract.errors import EMindError, UsageError

from .corpus import PIECE
from .split import drawn_ratios, split
from .synthesis.build import build_set, drawing, file_hash
from .synthesis.recipe import SIZES
from .synthesis.sets import SETS

PARTS = ("train", "validation", "test")
NAME = re.compile(rf"(.+?){PIECE}-({'|'.join(PARTS)}){PIECE}\.parquet")
MADE = "made.json"
SPLIT_SEED = 0
THREE_PARTS = (8, 1, 1)  # of sets that the paper splits in two, for pretraining

SetFiles = dict[str, list[Path]]  # part -> files


def files_by_set(given: Sequence[Path], needed: Sequence[str] = PARTS) -> dict[str, SetFiles]:
    """Set -> part -> files, of files and folders of files that `emind-train dataset split` wrote.

    Raises
    ------
    UsageError: a file's name says neither set nor part
    EMindError: a file or folder is not there, or a set lacks a part that is ``needed``
    """
    out: dict[str, SetFiles] = {}
    for path in given:
        if not path.exists():
            raise EMindError(f"{path}: no such file")
        for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
            match = NAME.fullmatch(file.name)
            if match:
                out.setdefault(match[1], {}).setdefault(match[2], []).append(file)
            elif not path.is_dir():
                raise UsageError(f"--data {file}: is not called SET-PART.parquet, with a part of {', '.join(PARTS)}; "
                                 "`emind-train dataset split` writes such files")
    for name, parts in out.items():
        missing = [part for part in needed if part not in parts]
        if missing:
            raise EMindError(f"{name}: has no part {missing[0]!r} among the files; split it into three: `emind-train "
                             "dataset split --ratios paper`, or 8:1:1")
    if not out:
        raise EMindError(f"{', '.join(map(str, given))}: no files SET-PART.parquet; `emind-train dataset split` writes "
                         "them")
    return out


def chosen_set(found: dict[str, SetFiles], asked: str, known: Sequence[str], task: str) -> str:
    """The set of a task among those that were given: the one asked for, else the one that the task is known for."""
    if asked:
        if asked not in found:
            raise UsageError(f"task {task}: the set {asked!r} is not among the files; there: {', '.join(found)}")
        return asked
    matching = [name for name in known if name in found] or (list(found) if len(found) == 1 else [])
    if not matching:
        raise UsageError(f"task {task}: none of {', '.join(found)} is a set it is known for ({', '.join(known)}); name "
                         f"it in the configuration: [task.{task}] set = ...")
    return matching[0]


def drawn_set(
    name: str, folder: Path, size: str, seed: int, items: int = 0, processes: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[SetFiles, dict]:
    """Files of a set drawn by its recipe and split (`split.drawn_ratios`), and what they were made from.

    They stay in ``folder`` under a name with a hash of everything they follow from, and are drawn once. ``items``
    above 0: instead of those of ``size``.
    """
    if name not in SETS:
        raise UsageError(f"unknown set {name!r}; known: {', '.join(SETS)}; or give files with --data")
    recipe = SETS[name]
    count = items or recipe.items(size)
    ratios = drawn_ratios(name)
    ratios = ratios if len(ratios) == len(PARTS) else THREE_PARTS
    about = {"recipe": name, "recipes": recipe.version, "items": count, "seed": seed, "split": ":".join(map(str, ratios)),
             "split_seed": SPLIT_SEED}
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=6).hexdigest()
    own = folder / f"{name}-{digest}"
    made = own / MADE
    if not made.exists():
        # Sizes are numbers of items; the recipe's smallest stands for the number that is wanted.
        with drawing(processes) as pool:
            whole = build_set(replace(recipe, **{SIZES[0]: count}), own / "whole", SIZES[0], seed, pool, processes,
                              progress=progress)
        parts = split(whole, own, ratios, SPLIT_SEED, overwrite=True)
        for path in whole:
            path.unlink()
        (own / "whole").rmdir()
        temporary = made.with_suffix(".part")
        temporary.write_text(json.dumps(about | {"files": {
            path.name: file_hash(path) for each in parts.values() for path, _, _ in each.values()}}))
        os.replace(temporary, made)
    return files_by_set([own])[name], about


def manifest(files: SetFiles, part: str) -> dict[str, str]:
    """Name -> SHA-256 of a part's files."""
    return {path.name: file_hash(path) for path in files[part]}
