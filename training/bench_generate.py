"""`emind-train bench generate`: signals a second that a set's generator draws and writes."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from emind.contract.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", default="EM-Comm", help="name of the set (default EM-Comm)")
    parser.add_argument("--items", type=int, default=10_000, help="items to draw (default 10,000)")
    parser.add_argument("--processes", type=int, default=2, help="that draw (default 2)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from emind.storage.parquet import Writer

    from .synthesis.build import blocks, drawing
    from .synthesis.sets import chosen

    if args.items < 1 or args.processes < 1:
        raise UsageError(f"--items {args.items} and --processes {args.processes} must be at least 1")
    recipe = chosen([args.set])[0]
    with drawing(args.processes) as pool, tempfile.TemporaryDirectory() as folder:
        warm = 2 * args.processes * recipe.block  # so that every process has been started and has imported all
        for _ in blocks(recipe, 0, 0, warm, pool, args.processes):
            pass
        rows = samples = 0
        begin = time.perf_counter()
        with Writer(Path(folder) / "bench.parquet", origin="emind-train bench generate", seed=0) as writer:
            for block in blocks(recipe, 0, warm, warm + args.items, pool, args.processes):
                writer.write_many(block)
                rows += len(block)
                samples += sum(len(row.iq) for row in block)
        seconds = time.perf_counter() - begin
    figures = {"set": recipe.name, "processes": args.processes, "signals": rows, "seconds": round(seconds, 3),
               "signals_per_s": round(rows / seconds, 1), "samples_per_s": round(samples / seconds)}
    if args.json:
        print(json.dumps(figures))
    else:
        print(f"{recipe.name}: {figures['signals_per_s']:,.0f} signals a second, {samples / seconds / 1e6:.2f} million "
              f"samples a second, drawn by {args.processes} processes and written")
    return 0
