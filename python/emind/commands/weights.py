"""`emind weights`: which weights files there are, and what one holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

NO_HEADS = "none: pretrained, to be given heads by `emind-train finetune --init`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="the weights files that came with this installation",
                                epilog="example: emind weights list")
    shown = actions.add_parser("show", help="what the header of a weights file says",
                               epilog="example: emind weights show emind-nano")
    shown.add_argument("weights", metavar="NAME", help="name or path of a weights file")
    for sub in (listed, shown):
        sub.add_argument("--json", action="store_true", help="for a program to read")


def run(options: argparse.Namespace) -> int:
    return _list(options.json) if options.action == "list" else _show(options.weights, options.json)


def _list(as_json: bool) -> int:
    from ..runtime.header import described
    from ..runtime.weights import released

    headers = {name: described(path) for name, path in released().items()}
    if as_json:
        print(json.dumps([{"name": n, "path": str(p), "bytes": p.stat().st_size} | h for n, (p, h) in headers.items()]))
    elif not headers:
        print("no weights files are installed")
    for name, (path, header) in headers.items() if not as_json else ():
        heads = ", ".join(f"{head['name']} ({_outputs(head)})" for head in header["heads"])
        heads = heads or NO_HEADS
        print(f"{name}  {path.stat().st_size / 1e6:.1f} MB  window {header['window']['length']}  {heads}")
    return 0


def _outputs(head: dict) -> str:
    """What a head puts out, counted."""
    counts = {"labels": len(head["labels"]), "parameters": len(head.get("parameters", ())),
              "waveforms": head.get("sources", 0)}
    return ", ".join(f"{count} {name if count > 1 else name[:-1]}" for name, count in counts.items() if count)


def _show(weights: str, as_json: bool) -> int:
    from ..runtime.header import described

    path, header = described(weights)
    if as_json:
        print(json.dumps({"name": path.stem, "path": str(path), "bytes": path.stat().st_size} | header))
    else:
        _print_header(path, header)
    return 0


def _print_header(path: Path, header: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{path.name}, {path.stat().st_size / 1e6:.1f} MB", show_header=False, show_lines=True)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for part, value in header.items():
        if part == "heads":
            text = "\n".join(f"{h['name']} ({h['kind']}): {_meant(h)}" for h in value) or NO_HEADS
        else:
            text = "\n".join(f"{key} = {_plain(inner)}" for key, inner in value.items())
        table.add_row(part, text or "-")
    Console().print(table)


def _meant(head: dict) -> str:
    """Labels, parameters with their units, and how many waveforms."""
    units = [f"{each['name']} ({each['unit'] or 'count'})" for each in head.get("parameters", ())]
    waves = [_outputs({"labels": (), "sources": head["sources"]})] if head.get("sources") else []
    return ", ".join([*head["labels"], *units, *waves])


def _plain(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)
