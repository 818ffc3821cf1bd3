"""Train several models on the same windows of one set and measure them alike.

What is there already is gone on with: the same command after an interruption continues, and models that are done are
not trained or tested again. Two processes may train different models of one run at the same time (--only).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

from emind.contract.errors import UsageError

from .outputs import writable


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.epilog = "example: emind-train compare --config training/configs/compare-awgn7.toml"
    p.add_argument("--config", type=Path, required=True, help="TOML file, see training/configs/compare-*.toml")
    p.add_argument("--runs", type=Path, default=Path("runs"), help="folder for sets, checkpoints and results")
    p.add_argument("--name", help="of the run; default the configuration's")
    p.add_argument("--only", nargs="+", metavar="MODEL", help="train these models only; the report holds all that are "
                   "done")
    p.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="in place of the configuration's, with --only")
    p.add_argument("--minutes", type=float, help="stop after so many, with everything saved")
    p.add_argument("--full", action="store_true", help="all windows of the set at its published size")
    p.add_argument("--processes", type=int, default=1, help="that draw the set, the first time (default 1)")
    p.add_argument("--write", type=Path, metavar="PAGE", help="put table and picture between their marks in this page")
    p.add_argument("--json", action="store_true", help="print the results as JSON")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .compare_config import read_compare_config

    config = read_compare_config(args.config)
    names = [entry.name for entry in config.models]
    unknown = [name for name in args.only or () if name not in names]
    if unknown:
        raise UsageError(f"--only {unknown[0]}: no such model; known: {', '.join(names)}")
    if args.seeds and not args.only:
        raise UsageError("--seeds needs --only: say which models")
    if args.processes < 1 or (args.minutes is not None and args.minutes <= 0):
        raise UsageError("--processes must be at least 1 and --minutes above 0")
    if args.full:
        data = replace(config.data, size="full", windows=0, validation_windows=0, test_windows=0)
        config = replace(config, data=data, name=f"{config.name}-full")
    writable(args.runs / (args.name or config.name), "--runs")
    if args.write:  # looked at before hours of training, not behind them
        from .compare_report import COMMAND
        from .pages import parts_of_page

        parts_of_page(args.write, config.name, COMMAND)
        writable(args.write.parent, "--write")
    return _compared(config, args, args.only or names)


def _compared(config, args: argparse.Namespace, chosen: list[str]) -> int:
    import torch

    from .cli import code_version, processor
    from .compare import completed, train_one
    from .compare_data import open_set
    from .compare_report import draw, published, summary, table, write_page
    from .run_control import asked_to_stop

    say = (lambda line: None) if args.json else (lambda line: print(line, flush=True))
    folder = args.runs / (args.name or config.name)
    deadline = time.monotonic() + 60 * args.minutes if args.minutes else math.inf
    say(f"{config.data.set}, {config.data.size}: opening, or drawing what is missing")
    data = open_set(config.data, args.runs, args.processes)
    train, validation = data.part("train"), data.part("validation")
    say(f"{len(train):,} windows of {data.length} samples to train on, {len(validation):,} to choose on, "
        f"{len(data.classes)} classes")
    finished = True
    with asked_to_stop() as asked:
        for entry in (entry for entry in config.models if entry.name in chosen):
            for seed in args.seeds or entry.seeds:
                if asked.is_set() or time.monotonic() > deadline:
                    finished = False
                    break
                result = train_one(config, entry, seed, data, train, validation, folder / f"{entry.name}-{seed}",
                                   deadline, asked.is_set, say)
                finished = finished and result is not None
                if result:
                    say(f"{entry.name}, seed {seed}: test {100 * result['test']['accuracy']:.2f} %")
    results = [completed(config, result, data, train, validation, folder / f"{result['model']}-{result['seed']}", say)
               for result in _results(folder, config)]
    order = [entry.name for entry in config.models]
    rows = summary(results, order)
    record = {
        "set": config.data.set, "files": data.hashes, "command": _command(args), "code": code_version(),
        "machine": {"processor": processor(), "torch": torch.__version__}, "augmentation": vars(config.augment),
        "training_windows": len(train), "finished": finished, "published": published(config.data.set), "models": rows,
        "results": results,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if rows:
        text = table(rows, config.data.set, results[0]["test"]["windows"])
        (folder / "compare.md").write_text(text, encoding="utf-8")
        draw(folder / "compare.png", rows, config.data.set)
        if args.write:
            write_page(args.write, config.name, text, _command(args, every=True), rows, config.data.set)
        say("\n" + text)
    if args.json:
        print(json.dumps(record))
    if not finished:
        say("stopped before all was trained; the same command goes on")
        return 130 if asked.is_set() else 0
    return 0


def _results(folder: Path, config) -> list[dict]:
    """Results of this configuration's models that stand in the run's folder, in the order of the configuration."""
    own = {entry.name: json.loads(json.dumps(config.of(entry))) for entry in config.models}
    found = []
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        expected = own.get(result["model"])
        if expected is not None and all(result["run"][key] == expected[key] for key in expected):
            found.append(result)
    place = list(own)
    return sorted(found, key=lambda result: (place.index(result["model"]), result["seed"]))


def _command(args: argparse.Namespace, every: bool = False) -> str:
    """The command line that gives these figures again, ``every``: of all models of the configuration."""
    words = ["emind-train compare --config", str(args.config)] + (["--full"] if args.full else [])
    if not every:
        words += ["--only", *args.only] if args.only else []
        words += ["--seeds", *map(str, args.seeds)] if args.seeds else []
    return " ".join(words)
