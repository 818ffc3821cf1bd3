"""A stream of a given rate through windowing, inference and overlap-add: what was lost, and how long it ever waited.

The source is paced as a receiver is (`pacing.py`): what the flowgraph does not take in time waits, at most half a
second, then it is lost and counted. ``--rate`` is in samples a second, or with ``--share`` that of the engine's rate,
measured in the same run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .measuring import (
    add_apart_argument, add_weights_arguments, engine_rate, markdown_table, in_words, noise_windows, placed,
    stream_engine, weights_of, write_section,
)  # fmt: skip

LONGEST_WAIT_MS = 100.0
FAIR_SHARE = 0.85  # of the coverage that the engine's rate allows
RATE = 20e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights_arguments(parser)
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what computes (default: auto)")
    parser.add_argument("--rate", type=float, metavar="HZ", help="samples a second (default: 20e6)")
    parser.add_argument("--share", type=float, metavar="X", help="instead of --rate: this share of the engine's rate")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="(default: 10)")
    parser.add_argument("--hop", type=int, default=0, metavar="N", help="samples (default: the window's length)")
    parser.add_argument("--policy", default="realtime", help="realtime or lossless (default: realtime)")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="windows a batch (default: 32)")
    parser.add_argument("--max-latency-ms", type=float, default=2.0, metavar="MS",
                        help="after which a batch closes (default: 2)")
    add_apart_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--write", action="store_true",
                        help="add the run to the table in docs/realtime.md, in place of one of the same name")
    parser.add_argument("--name", metavar="TEXT", help="what the table in docs/realtime.md calls the run")


def run(options: argparse.Namespace) -> int:
    from emind.contract.errors import UsageError

    if options.rate is not None and options.share is not None:
        raise UsageError("--rate and --share both say how fast: give one of them")
    if not all(value is None or value > 0 for value in (options.rate, options.share, options.seconds)):
        raise UsageError("--rate, --share and --seconds must be above 0")
    with weights_of(options) as weights:
        figures = measure(weights, options)
    if options.write:
        _write(options, figures)
    if options.json:
        print(json.dumps(figures))
    else:
        print(markdown_table(["what", "figure"], rows(figures)))
    return 0


def measure(weights: str, options: argparse.Namespace) -> dict:
    """What :meth:`.pacing.paced_chain.figures` says, what the engine's rate allows, and the verdicts."""
    from .pacing import Load, paced_chain

    engine = stream_engine(weights, options, options.backend, options.policy)
    try:
        windows = noise_windows(engine.spec.length, max(128, options.batch))
        hop = options.hop or engine.spec.length
        settle = min(2.0, options.seconds)
        before = engine_rate(engine, windows, settle, options.batch)
        rate = options.share * before * hop if options.share else options.rate or RATE
        load = Load(rate, options.seconds, hop, options.policy, options.batch, options.max_latency_ms)
        figures = paced_chain(engine, load, windows.ravel()).run_to_end()
        after = engine_rate(engine, windows, settle, options.batch)
    finally:
        engine.close()
    mean = (before + after) / 2
    allowed = min(1.0, mean / (rate / hop))
    return {
        "weights": engine.name, "backend": engine.backend, **placed(engine, options), **figures,
        "engine_windows_per_s": round(mean, 1), "load": round(rate / hop / mean, 3),
        "coverage_allowed": round(allowed, 4), "share_of_allowed": round(figures["coverage"] / allowed, 3),
        "verdicts": verdicts(figures, figures["coverage"] / allowed),
    }  # fmt: skip


def verdicts(figures: dict, share_of_allowed: float) -> dict[str, bool]:
    """What the stream had to show, and whether it did; of a lossless one every window must be answered besides."""
    said = {
        "no sample lost": figures["samples_lost"] == 0 and figures["samples_missing"] == 0,
        f"never waited longer than {LONGEST_WAIT_MS:g} ms": figures["longest_wait_ms"] <= LONGEST_WAIT_MS,
        "seen = inferred + skipped + gated": figures["accounted"],
        "no answer lost": figures["results_lost"] == 0,
        "coverage within 15 % of what the engine's rate allows": share_of_allowed >= FAIR_SHARE,
    }
    if figures["policy"] == "lossless":
        said["no window skipped"] = figures["windows_skipped"] == 0
    return said


def rows(figures: dict) -> list[list[str]]:
    waited = f"{figures['longest_wait_ms']:.1f} ms, {figures['stalls']} stalls"
    fates = (f"{figures['windows_seen']:,} = {figures['windows_inferred']:,} + {figures['windows_skipped']:,} + "
             f"{figures['windows_gated']:,}")  # fmt: skip
    lines = [
        ["weights, back end, policy", f"{figures['weights']}, {figures['backend']}, {figures['policy']}"],
        ["engine", in_words(figures)],
        ["rate, seconds", f"{figures['rate'] / 1e6:.3f} MS/s, {figures['seconds']:g} s"],
        ["load on the engine", f"{figures['load']:.0%} of {figures['engine_windows_per_s']:,.0f} windows/s"],
        ["samples sent, lost, missing", f"{figures['samples_sent']:,}, {figures['samples_lost']}, "
                                        f"{figures['samples_missing']}"],
        ["longest wait of the stream", waited],
        ["windows seen = inferred + skipped + gated", fates],
        ["coverage, allowed by the engine's rate", f"{figures['coverage']:.1%}, {figures['coverage_allowed']:.1%}"],
        ["latency p50, p99, max (ms)", f"{figures['latency_ms_p50']}, {figures['latency_ms_p99']}, "
                                       f"{figures['latency_ms_max']}"],
    ]
    return lines + [[text, "yes" if met else "NO"] for text, met in figures["verdicts"].items()]


def _write(options: argparse.Namespace, figures: dict) -> None:
    """One row a run in the page, those of other names kept."""
    from .measuring import PAGE, section

    name = options.name or f"{figures['weights']}, {figures['rate'] / 1e6:.3g} MS/s, {figures['policy']}"
    kept = [line for line in section(PAGE.read_text(encoding="utf-8"), "stream").splitlines()
            if line.startswith("| ") and not line.startswith(("| run |", "| --- |", f"| {name} |"))]
    missed = [text for text, met in figures["verdicts"].items() if not met]
    engine = f"{figures['threads']} of {figures['cores']}{', apart' if figures['apart'] else ''}"
    row = [name, engine, f"{figures['seconds']:g}", f"{figures['load']:.0%}", f"{figures['samples_sent']:,}",
           f"{figures['samples_lost']:,}", f"{figures['longest_wait_ms']:.1f}", f"{figures['windows_skipped']:,}",
           f"{figures['coverage']:.1%}", f"{figures['coverage_allowed']:.1%}", "; ".join(missed) or "all met"]
    head = ["run", "threads", "s", "load", "samples sent", "lost", "longest wait, ms", "windows skipped", "answered",
            "engine allows", "verdicts"]
    table = markdown_table(head, [row]).splitlines()
    write_section("stream", "\n".join([*table[:2], *kept, table[2]]))
