"""`emind-train dataset check`, `mend` and `split`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emind.contract.errors import EMindError, UsageError

LINES = 40  # of faults that are printed; --json and --html name more


def add_arguments(commands: argparse._SubParsersAction) -> None:
    c = commands.add_parser(
        "check", help="name faulty rows: samples, labels, duplicates; exit 1 if there are any",
        description="Name the faulty rows of files of signals. Give the parts of a split together, so that rows which "
        "stand in two of them are found. Exit status 0: no fault, 1: faults, or a file that cannot be read.",
        epilog="example: emind-train dataset check data/EM-Comm.parquet --html quality.html",
    )
    c.add_argument("files", nargs="+", type=Path, metavar="FILE", help="Parquet files of signals")
    c.add_argument("--html", type=Path, metavar="OUT", help="write a page with pictures of random and faulty rows")
    c.add_argument("--draws", type=int, default=4, help="random rows of each file on the page (default 4)")
    c.add_argument("--seed", type=int, default=0, help="of the random rows (default 0)")
    c.add_argument("--json", action="store_true", help="print everything that was found as JSON")
    c.set_defaults(run=check)
    m = commands.add_parser(
        "mend", help="drop or mend the rows that check names",
        description="Write the files without their faults. Text and samples that are NaN (up to 1 %% of a row) or have "
        "a constant offset are mended, other faulty rows are dropped, with the rows that belong to them.",
        epilog="example: emind-train dataset mend data/EM-Comm.parquet --out clean",
    )
    m.add_argument("files", nargs="+", type=Path, metavar="FILE", help="Parquet files of signals")
    where = m.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the mended files")
    where.add_argument("--in-place", action="store_true", help="replace the files themselves")
    m.add_argument("--drop-only", action="store_true", help="drop every faulty row, mend none")
    m.add_argument("--json", action="store_true", help="print what was done as JSON")
    m.set_defaults(run=mend)
    s = commands.add_parser(
        "split", help="split sets into train, validation and test without leaks",
        description="Split files of signals. Rows that belong together (transmission_id) stay together; classes and "
        "SNR are shared out evenly; the same seed gives the same files.",
        epilog="example: emind-train dataset split data/EM-Comm.parquet --out split --ratios 9:1",
    )
    s.add_argument("files", nargs="+", type=Path, metavar="FILE", help="Parquet files of signals")
    s.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for SET-PART.parquet")
    s.add_argument("--ratios", default="9:1", help="train:validation or train:validation:test, or paper: those of the "
                   "paper for each set (default 9:1)")
    s.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    s.add_argument("--overwrite", action="store_true", help="replace files that are there")
    s.add_argument("--json", action="store_true", help="print what was made as JSON")
    s.set_defaults(run=split)


def distinct(paths: list[Path]) -> list[Path]:
    """The files; UsageError where one is named twice: all of its rows would be duplicates."""
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise UsageError(f"{path}: is named twice")
        seen[path.resolve()] = path
    return paths


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], None]]:
    """A counter of rows on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,.0f} rows"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda rows: bar.advance(task, rows)


def _readable(paths: list[Path]) -> None:
    """Opens every file, so that one which cannot be read is named before long work begins."""
    from emind.storage.parquet import Reader

    for path in paths:
        with Reader(path) as reader:
            if not reader.count:
                raise EMindError(f"{path}: holds no signals")


def check(args: argparse.Namespace) -> int:
    from .quality import check as checked

    if args.draws < 0 or args.seed < 0:
        raise UsageError(f"--draws {args.draws} and --seed {args.seed} must not be negative")
    if args.html and args.html.resolve() in {path.resolve() for path in args.files}:
        raise UsageError(f"--html {args.html}: is one of the files that are checked")
    _readable(distinct(args.files))
    with progress("checking") as step:
        report = checked(args.files, step)
    if args.html:
        from .quality_report import page

        try:
            args.html.write_text(page(report, args.draws, args.seed), encoding="utf-8")
        except OSError as fault:
            raise EMindError(f"{args.html}: cannot be written ({fault.strerror})") from None
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        for fault in report.faults[:LINES]:
            print(fault.line)
        if len(report.faults) > LINES:
            print(f"... and {len(report.faults) - LINES:,} more; --json names all")
        for note in report.notes:
            print(f"note: {note}")
        rows = len({(fault.file, fault.row) for fault in report.faults})
        kinds = ", ".join(f"{kind} {count}" for kind, count in report.kinds().most_common())
        print(f"{report.rows:,} rows in {len(report.files)} files: " + (f"{rows:,} faulty ({kinds})" if rows else
                                                                        "no faults"))
    return 1 if report.faults else 0


def mend(args: argparse.Namespace) -> int:
    from .quality_mend import mend as mended

    _readable(distinct(args.files))
    with progress("checking") as step:
        done = mended(args.files, None if args.in_place else args.out, args.drop_only, step)
    if args.json:
        print(json.dumps(done.to_dict()))
    else:
        for path in done.files:
            print(f"{path}: {done.dropped[str(path)]} rows dropped, {done.mended[str(path)]} mended")
        for path in done.empty:
            print(f"{path}: no row is left; not written")
    return 1 if done.empty else 0


def split(args: argparse.Namespace) -> int:
    from .split import parsed_ratios
    from .split import split as parted

    if args.seed < 0:
        raise UsageError(f"--seed {args.seed} must not be negative")
    ratios = parsed_ratios(args.ratios)
    _readable(distinct(args.files))
    remarks: list[str] = []
    with progress("splitting") as step:
        made = parted(args.files, args.out, ratios, args.seed, args.overwrite, step, remarks.append)
    for text in remarks:
        print(f"emind-train: {text}", file=sys.stderr)
    if args.json:
        print(json.dumps({name: {part: {"file": str(path), "groups": groups, "rows": rows}
                                 for part, (path, groups, rows) in parts.items()} for name, parts in made.items()}))
    else:
        for parts in made.values():
            for path, groups, rows in parts.values():
                print(f"{path}: {rows:,} rows of {groups:,} groups")
    return 0
