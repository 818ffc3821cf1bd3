"""Latency over load: what a window waits for its tag, and how many get one, from a tenth of what the engine can do to
three times as much.

The engine's rate is measured in the same run, before each load. A paced source (`pacing.py`) then sends that share of
it; latency counts from the moment at which a window's last sample is due at the source to the moment at which a block
behind the inference block sees its tag, so everything between is in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .measuring import (
    add_apart_argument, add_output_arguments, add_weights_arguments, engine_rate, hand_out, markdown_table, new_figure,
    in_words, noise_windows, placed,
    stream_engine, weights_of,
)  # fmt: skip

LOADS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0, 3.0)
GOAL_LOAD, GOAL_MS = 0.5, 25.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights_arguments(parser)
    parser.add_argument("--backend", nargs="+", default=["auto"], metavar="NAME",
                        help="what computes; several are measured one after the other (default: auto)")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS, metavar="SHARE",
                        help="shares of the engine's rate (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="for each load (default: 10)")
    parser.add_argument("--hop", type=int, default=0, metavar="N", help="samples (default: the window's length)")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="windows a batch (default: 32)")
    parser.add_argument("--max-latency-ms", type=float, default=2.0, metavar="MS",
                        help="after which a batch closes (default: 2)")
    add_apart_argument(parser)
    parser.add_argument("--policy", default="realtime", help="realtime or lossless (default: realtime)")
    add_output_arguments(parser, "latency")


def run(options: argparse.Namespace) -> int:
    from emind.contract.errors import UsageError

    if not options.seconds > 0 or options.hop < 0 or not all(load > 0 for load in options.loads):
        raise UsageError(f"--seconds {options.seconds:g} and each of --loads must be above 0, --hop at least 1")
    with weights_of(options) as weights:
        figures = measure(weights, options)
    hand_out("latency", figures, options, page, plot, "latency and coverage over load")
    return 0


def measure(weights: str, options: argparse.Namespace) -> dict:
    """``backends``: for each its ``loads``, a dict a load as :meth:`.pacing.paced_chain.figures` has it."""
    from .pacing import Load, paced_chain

    results = []
    for backend in options.backend:
        engine = stream_engine(weights, options, backend, options.policy)
        try:
            windows = noise_windows(engine.spec.length, max(128, options.batch))
            hop = options.hop or engine.spec.length
            runs = []
            for share in options.loads:
                rate = engine_rate(engine, windows, min(1.0, options.seconds), options.batch)
                load = Load(share * rate * hop, options.seconds, hop, options.policy, options.batch,
                            options.max_latency_ms)
                figures = paced_chain(engine, load, windows.ravel()).run_to_end()
                runs.append({"load": share, "engine_windows_per_s": round(rate, 1), **figures})
            results.append({"backend": engine.backend, "weights": engine.name, "loads": runs, **placed(engine, options)})
        finally:
            engine.close()
    return {"hop": hop, "batch": options.batch, "max_latency_ms": options.max_latency_ms, "policy": options.policy,
            "seconds": options.seconds, "goal": goal(results), "backends": results}  # fmt: skip


def goal(results: list[dict]) -> list[dict]:
    """For each back end that was measured at half load: whether p99 is within the goal."""
    return [
        {"backend": result["backend"], "load": run["load"], "latency_ms_p99": run["latency_ms_p99"],
         "goal_ms": GOAL_MS, "met": run["latency_ms_p99"] <= GOAL_MS}
        for result in results for run in result["loads"] if run["load"] == GOAL_LOAD
    ]  # fmt: skip


def page(figures: dict) -> str:
    """Markdown: a line on how it was measured, and a table a back end."""
    lines = [
        f"Hop {figures['hop']:,}, batches of {figures['batch']} that close after {figures['max_latency_ms']:g} ms, "
        f"policy `{figures['policy']}`, {figures['seconds']:g} s a load. Latency in ms, from a window's last sample to "
        "its tag, of the windows that got one.",
    ]
    for result in figures["backends"]:
        rows = [
            [f"{run['load']:.0%}", f"{run['engine_windows_per_s']:,.0f}", f"{run['coverage']:.1%}",
             *(f"{run[key]:.1f}" for key in ("latency_ms_p50", "latency_ms_p99", "latency_ms_max")),
             f"{run['windows_skipped']:,}", str(run["stalls"]), str(run["samples_lost"])]
            for run in result["loads"]
        ]  # fmt: skip
        head = ["load", "engine, windows/s", "answered", "p50", "p99", "max", "skipped", "stalls", "samples lost"]
        lines += ["", f"`{result['weights']}`, {result['backend']}, {in_words(result)}:", "", markdown_table(head, rows)]
    for each in figures["goal"]:
        lines += ["", f"Goal at {each['load']:.0%} load, p99 at most {each['goal_ms']:g} ms: {each['backend']} "
                      f"{each['latency_ms_p99']:.1f} ms, {'met' if each['met'] else 'missed'}."]
    return "\n".join(lines)


def plot(figures: dict, path: Path) -> None:
    """Latency (left) and the share of windows answered (right) over load."""
    figure, axes = new_figure()
    right = axes.twinx()
    for index, result in enumerate(figures["backends"]):
        runs, colour = result["loads"], f"C{index}"
        loads = [100 * run["load"] for run in runs]
        for key, style in (("latency_ms_p50", "-"), ("latency_ms_p99", "--")):
            axes.plot(loads, [run[key] for run in runs], style, color=colour, marker="o", markersize=3,
                      label=f"{result['backend']}, {key.removeprefix('latency_ms_')}")
        right.plot(loads, [100 * run["coverage"] for run in runs], ":", color=colour)
    axes.axhline(GOAL_MS, color="0.6", linewidth=0.8)
    axes.set(xlabel="load (% of the engine's rate)", ylabel="last sample to tag (ms)", yscale="log")
    right.set(ylabel="windows answered (%, dotted)", ylim=(0, 105))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=110)
    figure.clear()
