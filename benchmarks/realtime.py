"""Windows a second through the inference block, beside the obvious Python block and the bare engine.

Three things are measured in turn, several times over, so that a machine that slows down slows all of them; the
medians count. All use the same weights, and of them the heads that a block runs, those that tag windows:

block   windowing -> inference (lossless) in a flowgraph whose source is never throttled
naive   a Python block that calls the eager float32 model on one window in each work()
engine  the engine alone, outside GNU Radio, with the block's batches

Latency and skipped windows are those of a fourth run: policy realtime, fed at half of the rate that the block reached.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from .measuring import BATCH, RATE_HZ, add_weights_arguments, engine_rate, noise_windows, weights_of

REPETITIONS = 5
FEED = 0.5  # share of the block's rate at which latency is measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_weights_arguments(parser)
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what computes (default: auto)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="in all, about (default: 20)")


def run(options: argparse.Namespace) -> int:
    from emind.contract.errors import UsageError

    if not options.seconds > 0:
        raise UsageError(f"--seconds {options.seconds:g} must be above 0")
    with weights_of(options) as weights:
        figures = measure(weights, options.seconds, options.backend, options.threads)
    if options.json:
        print(json.dumps(figures))
    else:
        _print_table(figures)
    return 0


def measure(weights: str, seconds: float, backend: str = "auto", threads: int = 0) -> dict:
    """The figures that `emind bench realtime --json` prints."""
    from emind.runtime.engine import load_naive
    from emind.runtime.header import heads_for
    from emind.runtime.ready import ready_engine

    engine = ready_engine(weights, backend, threads, BATCH)
    naive = load_naive(weights, heads_for(weights, None, ()))
    length = engine.spec.length
    windows = noise_windows(length)
    each = seconds / (3 * REPETITIONS + 3)

    bare_rate = engine_rate(engine, windows, each)  # warms up, too
    naive_rate = _naive_rate(naive, windows, 2)
    block_rate, _ = _block_rate(engine, windows, 4 * BATCH)
    rates: dict[str, list[float]] = {"block": [], "naive": [], "engine": []}
    lost = 0
    for _ in range(REPETITIONS):
        block_rate, missing = _block_rate(engine, windows, max(BATCH, int(bare_rate * each)))
        lost += missing
        rates["block"].append(block_rate)
        rates["naive"].append(_naive_rate(naive, windows, max(2, int(naive_rate * each))))
        rates["engine"].append(engine_rate(engine, windows, each))
        naive_rate = rates["naive"][-1]
    block, plain, bare = (statistics.median(rates[name]) for name in ("block", "naive", "engine"))
    feed = block * FEED
    live = _live_statistics(engine, windows, feed, max(BATCH, int(feed * 2 * each)))
    return {
        "windows_per_s": round(block, 1), "msps": round(block * length / 1e6, 3),
        "naive_windows_per_s": round(plain, 1), "ratio_to_naive": round(block / plain, 2),
        "engine_windows_per_s": round(bare, 1), "share_of_engine": round(block / bare, 3),
        "latency_ms_p50": round(live["latency_ms_p50"], 2), "latency_ms_p99": round(live["latency_ms_p99"], 2),
        "windows_skipped": live["windows_skipped"], "results_lost": lost,
        "weights": engine.name, "backend": engine.backend,
    }


def _source(windows, count: int, top_block, rate: float = 0.0):
    """``count`` windows of samples; throttled to ``rate`` windows a second unless that is 0."""
    from gnuradio import blocks, gr

    length = windows.shape[1]
    source = blocks.vector_source_c(windows.ravel().tolist(), True)
    end = blocks.head(gr.sizeof_gr_complex, count * length)
    if rate:
        top_block.connect(source, blocks.throttle(gr.sizeof_gr_complex, rate * length, True), end)
    else:
        top_block.connect(source, end)
    return end


def _block_rate(engine, windows, count: int) -> tuple[float, int]:
    """Windows a second through the inference block, and how many of them came out without an answer."""
    from gnuradio import blocks, gr
    from emind.contract.tags import head_key
    from emind.inference import inference
    from emind.windowing import windowing

    length = windows.shape[1]
    top_block = gr.top_block("emind bench block")
    cut = windowing(length=length, hop=length, sample_rate=RATE_HZ)
    infer = inference(length=length, sample_rate=RATE_HZ, policy="lossless", batch=BATCH, engine=engine)
    answers = blocks.tag_debug(gr.sizeof_gr_complex * length, "answers", head_key(next(iter(engine.heads))))
    answers.set_display(False)
    answers.set_save_all(True)
    top_block.connect(_source(windows, count, top_block), cut, infer, answers)
    start = time.perf_counter()
    top_block.run()
    took = time.perf_counter() - start
    answered = {tag.offset for tag in answers.current_tags()}  # num_tags() counts the last call's only
    return count / took, count - len(answered)


def _naive_rate(naive, windows, count: int) -> float:
    """Windows a second of a block as one would first write it: the model on one window in each work()."""
    import numpy as np
    import pmt
    from gnuradio import blocks, gr

    length = windows.shape[1]

    class naive_block(gr.sync_block):
        def __init__(self):
            gr.sync_block.__init__(self, "naive", [(np.complex64, length)], [(np.complex64, length)])

        def work(self, input_items, output_items):
            window = input_items[0][0]
            for head, answer in naive(window).items():
                self.add_item_tag(0, self.nitems_written(0), pmt.intern(head), pmt.intern(str(answer)))
            output_items[0][0] = window
            return 1

    top_block = gr.top_block("emind bench naive")
    block = naive_block()
    vectors = blocks.stream_to_vector(gr.sizeof_gr_complex, length)
    sink = blocks.null_sink(gr.sizeof_gr_complex * length)
    top_block.connect(_source(windows, count, top_block), vectors, block, sink)
    start = time.perf_counter()
    top_block.run()
    return count / (time.perf_counter() - start)


def _live_statistics(engine, windows, rate: float, count: int) -> dict:
    """Statistics of the inference block under policy realtime, fed ``rate`` windows a second."""
    from gnuradio import blocks, gr
    from emind.inference import inference
    from emind.windowing import windowing

    length = windows.shape[1]
    top_block = gr.top_block("emind bench live")
    cut = windowing(length=length, hop=length, sample_rate=RATE_HZ)
    infer = inference(length=length, sample_rate=RATE_HZ, policy="realtime", batch=BATCH, engine=engine)
    sink = blocks.null_sink(gr.sizeof_gr_complex * length)
    top_block.connect(_source(windows, count, top_block, rate), cut, infer, sink)
    top_block.run()
    return infer.statistics()


def _print_table(figures: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{figures['weights']}, {figures['backend']}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for text, value in (
        ("the block", f"{figures['windows_per_s']:,.0f} windows/s = {figures['msps']:.2f} MS/s"),
        ("a Python block, one window a work()", f"{figures['naive_windows_per_s']:,.0f} windows/s"),
        ("the block is faster by", f"{figures['ratio_to_naive']:.1f} times"),
        ("the engine outside GNU Radio", f"{figures['engine_windows_per_s']:,.0f} windows/s"),
        ("of which the block reaches", f"{figures['share_of_engine']:.0%}"),
        (f"latency at {FEED:.0%} load, median", f"{figures['latency_ms_p50']:.1f} ms"),
        (f"latency at {FEED:.0%} load, 99th percentile", f"{figures['latency_ms_p99']:.1f} ms"),
        (f"windows skipped at {FEED:.0%} load", str(figures["windows_skipped"])),
        ("answers lost", str(figures["results_lost"])),
    ):
        table.add_row(text, value)
    Console(file=sys.stdout).print(table)
