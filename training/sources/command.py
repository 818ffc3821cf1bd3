"""`emind-train dataset import`: the original files of a public set as Parquet."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from emind.contract.errors import UsageError
from emind.contract.schema import Signal

STEP = 1000  # rows between updates of the progress


def add_arguments(commands: argparse._SubParsersAction) -> None:
    i = commands.add_parser(
        "import", help="read a public set's original files into Parquet",
        description="Read the original files of a public set, as published, into one Parquet file. A file of another "
        "layout is refused and nothing is written. docs/sources.md says what each set's files are.",
        epilog="example: emind-train dataset import RML2016.10A RML2016.10a_dict.pkl --out data/RML2016.10A.parquet",
    )
    i.add_argument("set", metavar="SET", help="name of the set, as in docs/sources.md")
    i.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the set's files, or some of them")
    i.add_argument("--out", type=Path, required=True, metavar="OUT.parquet", help="Parquet file to write")
    i.add_argument("--length", type=int, metavar="N",
                   help="samples of a window, for sets of long recordings; default is the paper's")
    i.add_argument("--overwrite", action="store_true", help="replace OUT.parquet if it is there")
    i.add_argument("--json", action="store_true", help="print what was read as JSON")
    i.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from emind.storage.parquet import Writer
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from ..dataset import contents
    from ..dataset_page import console, contents_table
    from .registry import chosen, signals

    source = chosen(args.set)
    if args.out.exists() and not args.overwrite:
        raise UsageError(f"--out {args.out}: is there already; --overwrite replaces it")
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UsageError(f"--out {args.out}: its folder cannot be made ({fault.strerror})") from None
    columns = (TextColumn("{task.description} {task.completed:.0f} signals"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(source.name, total=None)
        with Writer(args.out, origin=f"emind-train dataset import: original files of {source.name}") as writer:
            writer.write_many(counted(signals(source, args.files, args.length), progress, task))
    found = contents([args.out])
    if args.json:
        print(json.dumps({"set": source.name, "file": str(args.out), **found.to_dict()}))
    else:
        console().print(contents_table(args.out, found))
    return 0


def counted(rows: Iterable[Signal], progress, task) -> Iterator[Signal]:
    """The rows, with the progress told now and then."""
    done = 0
    for done, row in enumerate(rows, 1):
        yield row
        if done % STEP == 0:
            progress.update(task, completed=done)
    progress.update(task, completed=done)
