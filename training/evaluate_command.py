"""Measure a weights file anew and write one HTML page and one JSON file about it.

Each head is measured on the test part of the set that it was trained on: drawn again by its recipe and seed, or given
with --data. Figures that others printed stand beside ours. A pretrained file has no heads; of it the page shows the
linear probe over pretraining and what few labels gave.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from emind.contract.errors import EMindError, UsageError

from .outputs import writable


def add_arguments(e: argparse.ArgumentParser) -> None:
    e.epilog = "example: emind-train evaluate emind-nano --windows 2000 --out report"
    e.add_argument("weights", help="released name or path of a weights file")
    e.add_argument("--heads", nargs="+", default=[], metavar="HEAD", help="measure these only")
    e.add_argument("--windows", type=int, default=0, metavar="N", help="at most so many test windows a head; default "
                   "all")
    e.add_argument("--data", nargs="+", type=Path, default=[], metavar="FILE", help="SET-test.parquet, or folders of "
                   "them; default: the sets are drawn again")
    e.add_argument("--runs", type=Path, default=Path("runs"), help="folder in which drawn sets lie, or are put")
    e.add_argument("--out", type=Path, metavar="FOLDER", help="where NAME.html and NAME.json go; default RUNS/evaluate")
    e.add_argument("--pretraining", metavar="WEIGHTS", help="released name or path of a pretrained file, or the "
                   "folder of a pretraining run, whose probe is shown; default: the released file that the encoder started "
                   "from")
    e.add_argument("--baselines", action="store_true", help="measure energy detection beside sensing and train an "
                   "autoencoder beside anomaly, on the same split; default: their figures in the file, if it has them")
    e.add_argument("--no-map", action="store_true", help="leave out the t-SNE of features, which takes some seconds a "
                   "head")
    e.add_argument("--json", action="store_true", help="print the JSON")
    e.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.windows < 0:
        raise UsageError(f"--windows {args.windows} must be above 0")
    import sys

    from emind.models.checkpoint import AUTOENCODER, read_header
    from emind.runtime.weights import resolve

    from .report import page
    from .report_contents import contents, pretraining_of

    def say(line: str) -> None:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    started = time.monotonic()
    path = resolve(args.weights)
    header = read_header(path)
    if AUTOENCODER in header and (args.heads or args.data or args.baselines):
        raise UsageError(f"{path.name}: a pretrained file has no heads, so --heads, --data and --baselines have no "
                         "meaning")
    pretraining = pretraining_of(path, header, _pretraining(args.pretraining))
    folder = writable(args.out) if args.out else writable(args.runs / "evaluate", "--runs")
    evaluated = None if AUTOENCODER in header else _evaluated(path, args, say)
    report, pictures = contents(path, header, evaluated, pretraining, not args.no_map)
    report |= _run(args, time.monotonic() - started)
    for suffix, text in ((".json", json.dumps(report, indent=1, allow_nan=False) + "\n"),
                         (".html", page(report, pictures))):
        (folder / (path.stem + suffix)).write_text(text, encoding="utf-8")
    if args.json:
        print(json.dumps(report, allow_nan=False))
    for line in report["warnings"]:
        say(line)
    say(f"wrote {folder / path.stem}.html and .json")
    return 0


def _pretraining(given: str | None) -> Path | None:
    """A run's folder as it is, else the file. EMindError where there is neither."""
    from emind.runtime.weights import resolve

    if given is None or Path(given).is_dir():
        return Path(given) if given else None
    try:
        return resolve(given)
    except EMindError as fault:
        raise EMindError(f"--pretraining: {fault}") from None


def _evaluated(path: Path, args: argparse.Namespace, say):
    import torch
    from emind.models.checkpoint import load_weights

    from .evaluation import TEST, Asked, evaluate
    from .lineage import refuse_grown
    from .task_files import files_by_set

    model, _, header = load_weights(path)
    refuse_grown(header)
    files = files_by_set(args.data, (TEST,)) if args.data else None
    threads = torch.get_num_threads()
    torch.set_num_threads(header["training"]["config"]["run"].get("threads", 1))
    try:
        return evaluate(model, header, Asked(args.runs, files, args.windows, tuple(args.heads), args.baselines, say))
    finally:
        torch.set_num_threads(threads)


def _run(args: argparse.Namespace, seconds: float) -> dict:
    import torch

    from .cli import code_version, processor

    words = ["emind-train evaluate", args.weights]
    words += ["--heads", *args.heads] if args.heads else []
    words += ["--windows", str(args.windows)] if args.windows else []
    words += ["--data", *map(str, args.data)] if args.data else []
    words += ["--pretraining", args.pretraining] if args.pretraining else []
    words += ["--baselines"] if args.baselines else []
    return {"command": " ".join(words), "code": code_version(), "windows": args.windows, "seconds": round(seconds, 1),
            "machine": {"processor": processor(), "torch": torch.__version__},
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


