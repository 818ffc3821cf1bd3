"""`emind-train bench masking`: the vectorised mask of a pack beside a loop over its signals.

Both give the same tensors, checked in each round: which patches are kept and masked, of which signal each kept one is,
and how many each signal keeps. In a round each takes the same fifty packs one after the other, all of new noise, since
a processor learns the order of a repeated one. Times are the processor's in one thread, so that what else the machine
does hardly counts.
The first figure is of signals of 128 samples, Table III's shortest: 64 of them are a pack as the paper's rows of 6,000
samples hold 46. The others are of as many signals of Table III's mix, where sorting outweighs what a loop costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import fields, replace

from emind.contract.errors import EMindError, UsageError

PATCH, CAPACITY, MASK_SHARE = 8, 8192, 0.75
PACKS = 50  # of a round


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signals", type=int, default=64, help="of a pack (default 64)")
    parser.add_argument("--rounds", type=int, default=15, help="that are timed (default 15)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import torch

    from .mix import lengths_like_table_iii

    if args.signals < 1 or args.rounds < 1:
        raise UsageError(f"--signals {args.signals} and --rounds {args.rounds} must be at least 1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        short = measure([128] * args.signals, args.rounds)
        mix = measure(lengths_like_table_iii(args.signals), args.rounds)
    finally:
        torch.set_num_threads(threads)
    figures = {"signals": args.signals, "mask_share": MASK_SHARE, "rounds": args.rounds, **short, "table_iii": mix}
    if args.json:
        print(json.dumps(figures))
    else:
        for name, one in (("128 samples each", short), ("Table III's mix", mix)):
            print(f"{args.signals} signals, {name}, {one['patches']:,} patches: {one['vectorised_us']:.0f} us, by a "
                  f"loop {one['loop_us']:.0f} us, {one['vectorised_vs_loop']:.1f} times as fast")
    return 0


def measure(lengths: Sequence[int], rounds: int) -> dict[str, float]:
    """Microseconds a pack, medians over the rounds, and the median of the rounds' ratios."""
    import torch
    from emind.models.masking import random_selection, random_selection_by_loop
    from emind.models.packed_batch import Patches

    from .mix import packed_noise

    batch = packed_noise(lengths, CAPACITY, PATCH)
    patches = Patches.of(batch)
    generator = torch.Generator().manual_seed(0)
    vectorised, loop = [], []
    for _ in range(rounds + 1):
        packs = [replace(batch, noise_RN=torch.rand(batch.noise_RN.shape, generator=generator)) for _ in range(PACKS)]
        begin = time.thread_time()
        ones = [random_selection(pack, patches, MASK_SHARE) for pack in packs]
        middle = time.thread_time()
        others = [random_selection_by_loop(pack, patches, MASK_SHARE) for pack in packs]
        end = time.thread_time()
        vectorised.append((middle - begin) / PACKS)
        loop.append((end - middle) / PACKS)
        for one, other in zip(ones, others, strict=True):
            if not all(torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)):
                raise EMindError("the vectorised mask is not that of the loop: a fault in emind/models/masking.py")
    vectorised, loop = vectorised[1:], loop[1:]
    ratio = statistics.median(b / a for a, b in zip(vectorised, loop, strict=True))
    return {"vectorised_vs_loop": round(ratio, 2), "patches": int(patches.count_S.sum()),
            "vectorised_us": round(1e6 * statistics.median(vectorised), 1),
            "loop_us": round(1e6 * statistics.median(loop), 1)}
