"""Speed of the data store: Parquet read back against a plain memory copy, the recorder block against a file sink.

All in one run, in turn, several times over, so that a machine that slows down slows all of them; the medians count.

read      a file of `Writer`, from the page cache: every sample copied once into memory, as a loader does
copy      the same number of bytes copied from memory to memory
recorder  an unthrottled source into the recorder (lossless), until its files are finished
sink      the same source into GNU Radio's own file sink
steady    a source throttled to 20 MS/s into the recorder (realtime): samples dropped
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

REPETITIONS = 5
STEADY_RATE = 20e6  # samples a second
ROW = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--folder", metavar="DIR", help="where files are written and removed again (default: a new one)")
    parser.add_argument("--megabytes", type=float, default=256.0, metavar="MB", help="of samples a file (default: 256)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S",
                        help="of the steady run; 0: leave it out (default: 10)")


def run(options: argparse.Namespace) -> int:
    from emind.contract.errors import UsageError

    if not options.megabytes >= 1 or not options.seconds >= 0:
        raise UsageError(f"--megabytes {options.megabytes:g} and --seconds {options.seconds:g} must be at least 1 and 0")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(Path(folder), int(options.megabytes * 1e6) // (8 * ROW), options.seconds)
    if options.json:
        print(json.dumps(figures))
    else:
        _print_table(figures)
    return 0


def measure(folder: Path, rows: int, seconds: float) -> dict:
    """The figures that `emind bench storage --json` prints; files of ``rows`` rows."""
    import numpy as np
    from emind.storage.parquet import Writer

    samples = np.random.default_rng(1).standard_normal((rows, 2 * ROW), np.float32).view(np.complex64)
    path = folder / "read.parquet"
    with Writer(path, origin="emind bench storage") as writer:
        writer.write_block(samples, modulation="QPSK", sampling_rate=1e6)
    out = np.zeros_like(samples)
    _read_rate(path, out)  # into the page cache
    rates: dict[str, list[float]] = {"read": [], "copy": [], "recorder": [], "sink": []}
    for _ in range(REPETITIONS):
        rates["read"].append(_read_rate(path, out))
        rates["copy"].append(_copy_rate(samples, out))
        rates["recorder"].append(_recorder_rate(folder, rows * ROW))
        rates["sink"].append(_sink_rate(folder, rows * ROW))
    assert np.array_equal(samples, out)
    read, copy, recorder, sink = (statistics.median(rates[name]) for name in rates)
    figures = {
        "read_gb_per_s": round(read / 1e9, 3), "copy_gb_per_s": round(copy / 1e9, 3),
        "ratio_to_copy": round(read / copy, 3),
        "recorder_msps": round(recorder / 1e6, 2), "sink_msps": round(sink / 1e6, 2),
        "ratio_to_sink": round(recorder / sink, 3),
    }
    if seconds:
        counts = _steady(folder, seconds)
        figures |= {"steady_msps": STEADY_RATE / 1e6, "steady_seconds": seconds,
                    "steady_seen": counts["samples_seen"], "steady_dropped": counts["samples_dropped"]}
    return figures


def _read_rate(path: Path, out) -> float:
    """Bytes of samples a second, file opened anew and copied into ``out``."""
    from emind.storage.parquet import Reader

    flat = out.reshape(-1)
    start = time.perf_counter()
    with Reader(path) as reader:
        place = 0
        for block in reader.blocks():
            flat[place : place + len(block.iq)] = block.iq
            place += len(block.iq)
    return out.nbytes / (time.perf_counter() - start)


def _copy_rate(samples, out) -> float:
    start = time.perf_counter()
    out[...] = samples
    return out.nbytes / (time.perf_counter() - start)


def _flow(sink, count: int, rate: float = 0.0) -> float:
    """Seconds that ``count`` samples take into ``sink``, to its end; throttled to ``rate`` unless that is 0."""
    from gnuradio import blocks, gr

    top_block = gr.top_block("emind bench storage")
    chain = [blocks.null_source(gr.sizeof_gr_complex), blocks.head(gr.sizeof_gr_complex, count)]
    if rate:
        chain.append(blocks.throttle(gr.sizeof_gr_complex, rate, True))
    top_block.connect(*chain, sink)
    start = time.perf_counter()
    top_block.run()
    return time.perf_counter() - start


def _recorder_rate(folder: Path, count: int) -> float:
    from emind.recorder import recorder

    block = recorder(str(folder / "take"), sample_rate=STEADY_RATE, policy="lossless", length=ROW)
    took = _flow(block, count)
    assert block.statistics()["samples_written"] == count
    _remove(block.files())
    return count / took


def _sink_rate(folder: Path, count: int) -> float:
    from gnuradio import blocks, gr

    path = folder / "sink.cf32"
    took = _flow(blocks.file_sink(gr.sizeof_gr_complex, str(path)), count)
    path.unlink()
    return count / took


def _steady(folder: Path, seconds: float) -> dict:
    from emind.recorder import recorder

    block = recorder(str(folder / "steady"), sample_rate=STEADY_RATE, policy="realtime", length=ROW)
    _flow(block, int(seconds * STEADY_RATE), STEADY_RATE)
    _remove(block.files())
    return block.statistics()


def _remove(files: list[str]) -> None:
    for file in files:
        Path(file).unlink()


def _print_table(figures: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("Parquet read back", f"{figures['read_gb_per_s']:.2f} GB/s")
    table.add_row("a plain memory copy", f"{figures['copy_gb_per_s']:.2f} GB/s")
    table.add_row("of which reading reaches", f"{figures['ratio_to_copy']:.0%}")
    table.add_row("the recorder", f"{figures['recorder_msps']:.1f} MS/s")
    table.add_row("a plain file sink", f"{figures['sink_msps']:.1f} MS/s")
    table.add_row("of which the recorder reaches", f"{figures['ratio_to_sink']:.0%}")
    if "steady_seen" in figures:
        table.add_row(f"{figures['steady_msps']:.0f} MS/s for {figures['steady_seconds']:g} s, samples dropped",
                      f"{figures['steady_dropped']:,} of {figures['steady_seen']:,}")
    Console(file=sys.stdout).print(table)
