"""`emind-train dataset build` and `show`: make sets of signals, and say what files of signals hold.

`check`, `mend` and `split` stand in quality_commands.py.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from emind.contract.errors import UsageError
from emind.contract.schema import LABELS, TEXTS

from . import quality_commands

CLASS_COLUMNS = ("modulation", "radar_waveform", "infer_class", "device_id")


@dataclass
class Contents:
    """What one set's files hold: counted from the columns, the samples themselves are not read."""

    rows: int = 0
    lengths: Counter = field(default_factory=Counter)  # samples -> rows
    filled: Counter = field(default_factory=Counter)  # column -> rows that are not null
    values: dict[str, Counter] = field(default_factory=dict)  # text column -> value -> rows
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)  # number column -> least, greatest
    rates: Counter = field(default_factory=Counter)  # Hz -> rows
    bytes: int = 0
    origin: str = ""
    seed: str | None = None

    def classes(self) -> dict[str, list[str]]:
        """Column -> its distinct values; where signals are mixed ("A+B") the parts."""
        out = {}
        for name in CLASS_COLUMNS:
            values = self.values.get(name, Counter())
            split = name == "radar_waveform"
            found = sorted({part for value in values for part in (value.split("+") if split else [value])})
            if found:
                out[name] = found
        return out

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows, "bytes": self.bytes, "origin": self.origin, "seed": self.seed,
            "lengths": {str(k): v for k, v in sorted(self.lengths.items())},
            "sampling_rates_hz": {str(k): v for k, v in sorted(self.rates.items())},
            "filled": {name: self.filled[name] for name in LABELS},
            "classes": {name: dict(sorted(self.values[name].items())) for name in self.classes()},
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
        }  # fmt: skip


def contents(paths: list[Path]) -> Contents:
    """Counts over files. EMindError where one cannot be read."""
    from emind.storage.parquet import Reader

    out = Contents()
    for path in paths:
        with Reader(path) as reader:
            columns = reader.columns()
            lengths = reader.lengths()
            out.origin, out.seed = reader.metadata.get("origin", ""), reader.metadata.get("seed")
        out.rows += len(lengths)
        out.bytes += path.stat().st_size
        out.lengths.update(lengths.tolist())
        for name, column in columns.items():
            if name in TEXTS:
                known = [value for value in column if value is not None]
                out.filled[name] += len(known)
                out.values.setdefault(name, Counter()).update(known)
                continue
            known = column[~np.isnan(column)]
            out.filled[name] += len(known)
            if len(known):
                ends = (float(known.min()), float(known.max()))
                old = out.ranges.get(name, ends)
                out.ranges[name] = (min(old[0], ends[0]), max(old[1], ends[1]))
            if name == "sampling_rate":
                out.rates.update(known.tolist())
    return out


def add_arguments(commands: argparse._SubParsersAction) -> None:
    """The subcommands of `emind-train dataset`."""
    b = commands.add_parser(
        "build", help="generate sets of signals as Parquet",
        description="Generate sets of signals. What an interrupted run has finished is kept.",
        epilog="example: emind-train dataset build EM-Comm EM-Radar --size small --out data",
    )
    b.add_argument("sets", nargs="+", metavar="SET", help="names of sets, or all; `dataset show` lists them")
    b.add_argument("--size", choices=["small", "medium", "full"], default="small",
                   help="how many signals; full is as many as were published (default small)")
    b.add_argument("--out", type=Path, default=Path("data"), help="folder for the files (default data)")
    b.add_argument("--seed", type=int, default=0, help="of the generator; the same seed gives the same files")
    b.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that draw (default: one a core)")
    b.add_argument("--overwrite", action="store_true", help="make files anew that are there")
    b.add_argument("--document", type=Path, metavar="FILE.md", help="write the table beside the paper's as a page")
    b.add_argument("--json", action="store_true", help="print what was made as JSON")
    b.set_defaults(run=build)
    s = commands.add_parser(
        "show", help="say what files of signals hold; without files, which sets can be built",
        epilog="example: emind-train dataset show data/EM-Comm.parquet",
    )
    s.add_argument("files", nargs="*", type=Path, metavar="FILE", help="Parquet files of signals")
    s.add_argument("--json", action="store_true", help="print it as JSON")
    s.set_defaults(run=show)
    quality_commands.add_arguments(commands)


def build(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from .dataset_page import console, page, table
    from .outputs import writable
    from .synthesis.build import build_set, drawing, file_hash
    from .synthesis.sets import chosen

    if args.processes < 1 or args.seed < 0:
        raise UsageError(f"--processes {args.processes} must be at least 1 and --seed {args.seed} not negative")
    recipes = chosen(args.sets)
    if args.document:  # before anything long runs
        if args.document.is_dir():
            raise UsageError(f"--document {args.document}: is a folder; name a file")
        writable(args.document.parent, "--document")
    made, hashes = {}, {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with drawing(args.processes) as pool, Progress(*columns, console=Console(stderr=True)) as progress:
        for recipe in recipes:
            task = progress.add_task(recipe.name, total=recipe.items(args.size))
            paths = build_set(recipe, args.out, args.size, args.seed, pool, args.processes, args.overwrite,
                              lambda items, task=task: progress.advance(task, items))
            made[recipe.name] = contents(paths)
            hashes[recipe.name] = {str(path): file_hash(path) for path in paths}
    if args.document:
        args.document.write_text(page(recipes, made, args.size, args.seed), encoding="utf-8")
    if args.json:
        print(json.dumps({name: {**made[name].to_dict(), "files": hashes[name]} for name in made}))
    else:
        console().print(table(recipes, made))
    return 0


def show(args: argparse.Namespace) -> int:
    from .dataset_page import console, contents_table, sets_table
    from .synthesis.sets import SETS

    if not args.files:
        if args.json:
            print(json.dumps({r.name: {size: r.items(size) for size in ("small", "medium", "full")}
                              for r in SETS.values()}))
        else:
            console().print(sets_table(SETS))
        return 0
    found = {path: contents([path]) for path in args.files}
    if args.json:
        print(json.dumps({str(path): one.to_dict() for path, one in found.items()}))
        return 0
    for path, one in found.items():
        console().print(contents_table(path, one))
    return 0
