"""`emind-train bench loader`: signals a second into packed batches, memory, and how long a training step waits.

The corpus has the lengths of the paper's Table III and their shares; its files are noise, and are linked under several
names until they are as large as asked for. Rate and memory are those of a new process that does nothing but load.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emind.contract.errors import EMindError, UsageError

PAPER_RATE = 9389  # signals a second: 81 million, 10 epochs, 24 hours (section VI-A)
WARM = 10  # batches before the clock starts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gigabytes", type=float, default=8.0, help="size of the corpus (default 8)")
    parser.add_argument("--folder", type=Path, help="where the corpus is made and removed again (default: the "
                        "system's folder for temporary files)")
    parser.add_argument("--distinct-mib", type=int, default=24, help="samples written for each length, in MiB, before "
                        "files are linked (default 24)")
    parser.add_argument("--producers", type=int, default=2, help="processes of the rate's measurement (default 2)")
    parser.add_argument("--rows", type=int, default=40, help="of a batch (default 40)")
    parser.add_argument("--batches", type=int, default=300, help="that are timed (default 300)")
    parser.add_argument("--steps", type=int, default=8, help="training steps of nano that are timed (default 8)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if min(args.producers, args.rows, args.batches, args.steps, args.distinct_mib) < 1 or args.gigabytes <= 0:
        raise UsageError("--producers, --rows, --batches, --steps, --distinct-mib and --gigabytes must be above 0")
    if args.folder is not None and not args.folder.is_dir():
        raise UsageError(f"--folder {args.folder}: no such folder")
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="bench-loader-") as name:
        folder = Path(name)
        weights, size = make_corpus(folder, args.gigabytes * 1e9, args.distinct_mib << 20)
        loading = _apart(_load, folder, weights, args.rows, args.batches, args.producers)
        training = _apart(_train, folder, weights, args.rows, args.steps)
    figures = {**loading, **training, "producers": args.producers, "rows": args.rows, "corpus_bytes": size}
    if args.json:
        print(json.dumps(figures))
    else:
        print(f"{figures['signals_per_s']:,.0f} signals a second from {size / 1e9:.1f} GB (the paper's pace: "
              f"{PAPER_RATE:,}), {figures['peak_rss_mib']:.0f} MiB at most in all processes; a step of nano waits "
              f"{100 * figures['wait_share']:.2f} % of its time")
    return 0


def make_corpus(folder: Path, size: float, distinct: int) -> tuple[dict[str, float], int]:
    """A set for each length of Table III. Set -> its share of the signals, and the bytes of all files."""
    import numpy as np
    from emind.storage.parquet import Writer

    from .dataset_page import TABLE_III_LENGTHS

    draw = np.random.default_rng(0)
    noise = draw.standard_normal(2 * max(max(TABLE_III_LENGTHS), min(distinct // 8, 1 << 21)), np.float32)
    noise = noise.view(np.complex64)
    weights = {}
    originals = []
    for length, signals in TABLE_III_LENGTHS.items():
        name = f"length-{length:04d}"
        weights[name] = signals / sum(TABLE_III_LENGTHS.values())
        path = folder / f"{name}-train.parquet"
        with Writer(path, origin="emind-train bench loader") as writer:
            block = noise[: len(noise) // length * length].reshape(-1, length)
            while writer.samples + writer.pending < distinct // 8:
                writer.write_block(block, dataset_name=name, snr=10.0, sampling_rate=1e6)
        originals.append(path)
    total, piece = sum(path.stat().st_size for path in originals), 0
    once = total
    while total < size:
        for path in originals:
            os.link(path, folder / path.name.replace("-train", f"-{piece:04d}-of-9999-train"))
        total += once
        piece += 1
    return weights, total


def processor_seconds(pid: int | str) -> float:
    """Processor time of a process until now: what a machine that is busy with other things does not stretch."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise EMindError("this system does not say how long a process has run (/proc/<pid>/stat)") from None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mib(pid: int | str) -> float:
    """The most memory that a process has had. EMindError where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        raise EMindError("this system does not say how much memory a process has had (/proc/<pid>/status)") from None


def _apart(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What ``measure`` gives in a new process."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_measured, args=(theirs, measure, arguments))
    worker.start()
    theirs.close()
    try:
        answer = mine.recv()
    except EOFError:
        worker.join()
        raise EMindError(f"the measuring process ended with status {worker.exitcode}") from None
    worker.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _measured(pipe: Any, measure: Callable[..., dict[str, Any]], arguments: tuple) -> None:
    try:
        pipe.send(measure(*arguments))
    except EMindError as fault:
        pipe.send(fault)


def _load(folder: Path, weights: dict[str, float], rows: int, batches: int, producers: int) -> dict[str, Any]:
    from .corpus import Corpus
    from .loader import Loader

    begin = time.perf_counter()
    corpus = Corpus.open(folder)
    opened = time.perf_counter() - begin
    signals = samples = 0
    with Loader(corpus, rows, 6000, 8, seed=0, weights=weights, producers=producers) as loader:
        for _ in range(WARM):
            next(loader)
        everybody = ["self", *loader.processes]
        begin, used = time.perf_counter(), sum(map(processor_seconds, everybody))
        for _ in range(batches):
            batch = next(loader)
            signals += batch.signals
            samples += int(batch.length_S.sum())
        seconds = time.perf_counter() - begin
        used = sum(map(processor_seconds, everybody)) - used
        peaks = [peak_rss_mib(one) for one in everybody]
    return {"signals_per_s": round(signals / seconds, 1), "signals_per_processor_s": round(signals / used, 1),
            "samples_per_s": round(samples / seconds),
            "fill": round(samples / (batches * rows * 6000), 4), "signals": signals, "seconds": round(seconds, 3),
            "peak_rss_mib": round(sum(peaks), 1), "peak_rss_mib_by_process": [round(one, 1) for one in peaks],
            "open_seconds": round(opened, 2)}


def _train(folder: Path, weights: dict[str, float], rows: int, steps: int) -> dict[str, Any]:
    import torch
    from emind.models.pretraining import AUTOENCODERS, MaskedAutoencoder

    from .corpus import Corpus
    from .loader import Loader

    torch.manual_seed(0)
    model = MaskedAutoencoder(AUTOENCODERS["nano"]())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    with Loader(Corpus.open(folder), rows, 6000, 8, seed=0, weights=weights) as loader:
        for step in range(2 + steps):
            if step == 2:
                waited, begin = loader.wait_seconds, time.perf_counter()
            loss = model(next(loader)).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        seconds = time.perf_counter() - begin
        waited = loader.wait_seconds - waited
    return {"wait_share": round(waited / seconds, 5), "step_seconds": round(seconds / steps, 4)}
