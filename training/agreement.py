"""`emind-train agreement`: how far the answers of one back end are from another's, on windows of the file's own tasks.

For each head that speaks, on the test part of the set that it was trained on: the share of windows with the same label,
and how far confidences of the same label differ. The reference runs in float32.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

REFERENCE = "torch-float32"
NEAR = 0.01  # of a confidence
BATCH = 32
COLUMNS = ("head", "windows", "same label", f"within {NEAR:g}", "p99 difference", "largest", "same where sure")
SURE = 0.05  # by which the two best answers differ where a label is no coin's throw


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.epilog = "example: emind-train agreement emind-nano --windows 2000"
    p.add_argument("weights", help="released name or path of a weights file")
    p.add_argument("--backend", default="auto", help="that is held against the reference (default auto)")
    p.add_argument("--windows", type=int, default=2000, metavar="N", help="at most so many a head (default 2000)")
    p.add_argument("--runs", type=Path, default=Path("runs"), help="folder in which drawn sets lie, or are put")
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import sys

    from emind.contract.errors import UsageError

    if args.windows < 1:
        raise UsageError(f"--windows {args.windows} must be above 0")
    figures = measured(args.weights, args.backend, args.windows, args.runs, lambda text: print(text, file=sys.stderr))
    print(json.dumps(figures) if args.json else page(figures))
    return 0


def measured(weights: str | Path, backend: str, windows: int, runs: Path, say=print) -> dict:
    """``heads``: figures by head, ``skipped``: heads without a test part, and why."""
    from emind.contract.answers import speaks
    from emind.models.checkpoint import read_header
    from emind.runtime.engine import load_engine
    from emind.runtime.weights import resolve

    from .evaluation import Asked, heads_of, test_part

    path = resolve(weights)
    asked = Asked(runs, windows=windows, say=say)
    found, skipped, names = {}, {}, []
    for name, head in heads_of(read_header(path)).items():
        if not speaks(head.spec):
            continue
        part = test_part(head, asked)
        if isinstance(part, str):
            skipped[name] = part
            continue
        engines = [load_engine(path, each, heads=[name]) for each in (REFERENCE, backend)]
        names = [engine.backend for engine in engines]
        found[name] = compared(engines, name, part.batches(), windows)
        for engine in engines:
            engine.close()
    return {"weights": path.stem, "backends": names, "heads": found, "skipped": skipped}


def compared(engines, name: str, batches: Iterable, windows: int) -> dict:
    """Figures of one head: of two engines, the first is the reference."""
    rows: list[list[np.ndarray]] = [[], []]
    count = 0
    for batch in batches:
        iq = np.ascontiguousarray(batch.iq_BL2.numpy(), np.float32).view(np.complex64)[..., 0]
        for start in range(0, len(iq), BATCH):
            part = slice(start, start + BATCH)
            for engine, kept in zip(engines, rows):
                kept.append(engine.infer(iq[part], batch.rate_B[part].numpy().astype(float))[name])
        count += len(iq)
        if count >= windows:
            break
    return figures(engines[0].heads[name], *(np.concatenate(kept)[:windows] for kept in rows))


def figures(head, exact: np.ndarray, other: np.ndarray) -> dict:
    """From rows of answers of the reference and of another to the same windows."""
    from emind.contract.answers import read

    words, others = read(head, exact), read(head, other)
    same = words.labels == others.labels
    apart = np.abs(words.confidences - others.confidences)[same]
    classes = np.sort(exact[:, : len(head.labels)], axis=1)
    sure = np.ones(len(same), bool) if classes.shape[1] < 2 else classes[:, -1] - classes[:, -2] > SURE
    if exact.shape[1] > len(head.labels) + len(head.parameters):
        sure &= np.abs(exact[:, len(head.labels)] - 0.5) > SURE / 2
    return {"windows": len(same), "same_label": float(same.mean()), "within": float((apart <= NEAR).mean()),
            "p99_difference": float(np.quantile(apart, 0.99)), "largest_difference": float(apart.max()),
            "same_label_where_sure": float(same[sure].mean())}  # fmt: skip


def page(told: dict) -> str:
    """Markdown."""
    lines = [f"`{told['weights']}`, {told['backends'][1]} against {told['backends'][0]}:", "",
             "| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for name, of in told["heads"].items():
        cells = [name, f"{of['windows']:,}", f"{of['same_label']:.2%}", f"{of['within']:.2%}",
                 f"{of['p99_difference']:.4f}", f"{of['largest_difference']:.4f}", f"{of['same_label_where_sure']:.2%}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [f"\n{name}: {why}" for name, why in told["skipped"].items()]
    return "\n".join(lines)
