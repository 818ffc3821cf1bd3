"""Minutes of overload: memory, queue and pending detections over time, and whether anything grew.

A paced source (`pacing.py`) sends ``--load`` times what the engine can do under policy realtime, and a consumer of the
detections is slower than they come. Once a second the process' resident memory, the engine's queue and the detections
that wait for the consumer are taken down.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable
from pathlib import Path

from emind.contract.tags import DETECTIONS_LIMIT

from .measuring import (
    add_apart_argument, add_output_arguments, add_weights_arguments, engine_rate, hand_out, markdown_table, new_figure,
    noise_windows, placed, stream_engine,
    weights_of,
)  # fmt: skip

GROWTH_MIB = 20.0
WARM_S = 60.0
MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights_arguments(parser)
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what computes (default: auto)")
    parser.add_argument("--minutes", type=float, default=2.0, metavar="M", help="(default: 2; the goal is told by 10)")
    parser.add_argument("--load", type=float, default=3.0, metavar="X", help="times the engine's rate (default: 3)")
    parser.add_argument("--consumer-ms", type=float, default=5.0, metavar="MS",
                        help="that the consumer of detections takes for each (default: 5, slower than they come)")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="windows a batch (default: 32)")
    add_apart_argument(parser)
    add_output_arguments(parser, "soak")


def run(options: argparse.Namespace) -> int:
    from emind.contract.errors import UsageError

    if not options.minutes > 0 or not options.load > 0 or not options.consumer_ms >= 0:
        raise UsageError("--minutes and --load must be above 0, --consumer-ms not negative")
    with weights_of(options) as weights:
        figures = measure(weights, options)
    hand_out("soak", figures, options, page, plot, "memory and queues over time")
    return 0 if figures["passed"] else 1


def measure(weights: str, options: argparse.Namespace) -> dict:
    """``trace``: a dict a second. ``growth_mib``: highest memory after the warm-up over that at its end."""
    from .pacing import Load, paced_chain

    engine = stream_engine(weights, options, options.backend, Load.policy)
    try:
        windows = noise_windows(engine.spec.length, max(128, options.batch))
        length, seconds = engine.spec.length, 60 * options.minutes
        rate = engine_rate(engine, windows, min(2.0, seconds / 4), options.batch)
        chain = paced_chain(engine, Load(options.load * rate * length, seconds, length, batch=options.batch),
                            windows.ravel(), options.consumer_ms / 1e3)
        begun, trace = time.monotonic(), []

        def look() -> None:
            counts = chain.inference.statistics()
            trace.append({"s": round(time.monotonic() - begun, 2), "rss_mib": round(resident(getattr(engine, "processes", ())) / MIB, 2),
                          "queue_depth": counts["queue_depth"], "detections_pending": chain.consumer.pending,
                          "windows_seen": counts["windows_seen"]})  # fmt: skip

        figures = chain.run_to_end(look, min(1.0, seconds / 8))
        look()
        counts = chain.inference.statistics()
        taken = chain.consumer.taken
    finally:
        engine.close()
    warm = min(WARM_S, seconds / 4)
    growth = grown(trace, warm)
    pending = max(row["detections_pending"] for row in trace)
    return {
        "weights": engine.name, "backend": engine.backend, **placed(engine, options), "load": options.load, "minutes": options.minutes,
        "engine_windows_per_s": round(rate, 1), **figures,
        "detections_taken": taken, "detections_pending_max": pending,
        **{key: value for key, value in counts.items() if key.startswith("detections_")},
        "queue_depth_max": max(row["queue_depth"] for row in trace),
        "warm_s": warm, "growth_mib": round(growth, 2), "growth_limit_mib": GROWTH_MIB,
        "passed": passes(growth, pending, figures), "trace": trace,
    }  # fmt: skip


def passes(growth_mib: float, pending: int, figures: dict) -> bool:
    """Whether memory stayed flat, detections that wait stayed bounded, and every window and answer is accounted for."""
    return (growth_mib <= GROWTH_MIB and pending <= DETECTIONS_LIMIT and figures["accounted"]
            and figures["results_lost"] == 0)  # fmt: skip


def resident(others: Iterable[int] = ()) -> int:
    """Bytes of this process, and of these others, that lie in memory."""
    pages = 0
    for process in ("self", *others):
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            pages += int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def grown(trace: list[dict], warm_s: float) -> float:
    """MiB by which memory was ever higher after ``warm_s`` than at the first look behind it."""
    after = [row["rss_mib"] for row in trace if row["s"] >= warm_s] or [trace[-1]["rss_mib"]]
    return max(after) - after[0]


def page(figures: dict) -> str:
    """Markdown: what was run, the table, the verdict."""
    first, last = figures["trace"][0], figures["trace"][-1]
    rows = [
        ["resident memory at the start, at the end", f"{first['rss_mib']:.0f}, {last['rss_mib']:.0f} MiB"],
        [f"its growth after the first {figures['warm_s']:g} s", f"{figures['growth_mib']:.1f} MiB"],
        ["windows seen", f"{figures['windows_seen']:,}"],
        ["inferred, skipped, gated", f"{figures['windows_inferred']:,}, {figures['windows_skipped']:,}, "
                                     f"{figures['windows_gated']:,}"],
        ["answers lost", str(figures["results_lost"])],
        ["deepest queue of the engine", f"{figures['queue_depth_max']} windows"],
        ["most detections pending", f"{figures['detections_pending_max']:,}"],
        *([key.replace("_", " "), f"{value:,}"] for key, value in figures.items()
          if key.startswith("detections_") and key != "detections_pending_max"),
        ["samples lost, longest wait of the stream", f"{figures['samples_lost']:,}, {figures['longest_wait_ms']:.1f} ms"],
    ]  # fmt: skip
    verdict = (f"Growth at most {figures['growth_limit_mib']:g} MiB, at most {DETECTIONS_LIMIT:,} detections pending, every "
               f"window accounted for and no answer lost: {'passed' if figures['passed'] else 'failed'}.")
    how = (f"`{figures['weights']}`, {figures['backend']}, {figures['minutes']:g} minutes at {figures['load']:.0%} of "
           f"the engine's {figures['engine_windows_per_s']:,.0f} windows a second, policy `realtime`.")  # fmt: skip
    return "\n".join([how, "", markdown_table(["what", "figure"], rows), "", verdict])


def plot(figures: dict, path: Path) -> None:
    """Memory (left), queue and pending detections (right) over time."""
    figure, axes = new_figure()
    right = axes.twinx()
    minutes = [row["s"] / 60 for row in figures["trace"]]
    memory = axes.plot(minutes, [row["rss_mib"] for row in figures["trace"]], color="C0", label="resident memory")
    queue = right.plot(minutes, [row["queue_depth"] for row in figures["trace"]], color="C1", linewidth=0.8,
                       label="windows in the engine's queue")
    pending = right.plot(minutes, [row["detections_pending"] for row in figures["trace"]], color="C2", linewidth=0.8,
                         label="detections pending")
    axes.set(xlabel="minutes", ylabel="resident memory (MiB)", ylim=(0, None))
    right.set(ylabel="windows, detections", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(handles=[*memory, *queue, *pending], loc="lower right", fontsize="small")
    figure.savefig(path, dpi=110)
    figure.clear()
