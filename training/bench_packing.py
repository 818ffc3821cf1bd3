"""`emind-train bench packing`: how full rows become, and what that is worth in a training step.

Signals have the lengths of the paper's Table III in their shares. Fill is that of best fit and of next fit, the paper's
way. Then the same signals go through whole training steps (forward, backward, AdamW) of the same model, packed and
padded to the longest of the batch, in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

from emind.contract.errors import UsageError

from .packing import OPEN_ROWS, Packer, Row, fill, packed

PATCH = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signals", type=int, default=200_000, help="that are packed for the fill (default 200,000)")
    parser.add_argument("--capacity", type=int, default=6000, help="samples of a row (default 6,000)")
    parser.add_argument("--open-rows", type=int, default=OPEN_ROWS, help=f"at most (default {OPEN_ROWS})")
    parser.add_argument("--model", default="nano", help="that does the steps: nano, tiny, small or base")
    parser.add_argument("--rows", type=int, default=4, help="of the step's batch (default 4)")
    parser.add_argument("--steps", type=int, default=7, help="that are timed of each kind (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="of the steps (default 1: least disturbed by what else "
                        "the machine does)")
    parser.add_argument("--seed", type=int, default=0, help="of lengths and signals (default 0)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import torch
    from emind.models.pretraining import AUTOENCODERS, MaskedAutoencoder

    from .padded import PaddedBatch, padded_loss

    if args.model not in AUTOENCODERS:
        raise UsageError(f"--model {args.model}: choose from {', '.join(AUTOENCODERS)}")
    if min(args.signals, args.rows, args.steps, args.threads) < 1:
        raise UsageError("--signals, --rows, --steps and --threads must be at least 1")
    lengths = drawn_lengths(args.signals, args.seed)
    figures = {"signals": args.signals, "capacity": args.capacity, "open_rows": args.open_rows}
    for name, open_rows in (("fill", args.open_rows), ("fill_next_fit", 1)):
        begin = time.perf_counter()
        rows = list(packed(lengths, Packer(args.capacity, PATCH, open_rows), flush=False))
        figures[name] = round(fill(rows, args.capacity), 4)
        if name == "fill":
            figures["packer_us_per_signal"] = round((time.perf_counter() - begin) / args.signals * 1e6, 2)
            first = rows[: args.rows]

    if len(first) < args.rows:
        raise UsageError(f"--signals {args.signals} fill {len(first)} rows, fewer than --rows {args.rows}")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    batch = noise_batch(first, args.capacity)
    padded = PaddedBatch.of(batch)
    model = MaskedAutoencoder(AUTOENCODERS[args.model]())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def seconds(loss: Callable[[], torch.Tensor]) -> float:
        begin = time.perf_counter()
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
        return time.perf_counter() - begin

    kinds = {"packed": lambda: model(batch).loss, "padded": lambda: padded_loss(model, padded)}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for step in range(args.steps + 1):
        for name, loss in kinds.items():
            taken = seconds(loss)
            if step:  # the first of each warms up
                times[name].append(taken)
    rates = {name: batch.signals / median(taken) for name, taken in times.items()}
    figures |= {
        "model": args.model, "threads": args.threads, "step_signals": batch.signals,
        "padded_cells_used": round(float(batch.length_S.sum()) / (batch.signals * int(batch.length_S.max())), 4),
        **{f"{name}_signals_per_s": round(rate, 2) for name, rate in rates.items()},
        "packed_vs_padded": round(rates["packed"] / rates["padded"], 2),
    }  # fmt: skip
    if args.json:
        print(json.dumps(figures))
    else:
        print(f"best fit over {args.open_rows} open rows fills {100 * figures['fill']:.1f} % of their cells, next fit "
              f"{100 * figures['fill_next_fit']:.1f} %; a step of {args.model} takes {rates['packed']:.1f} signals a "
              f"second packed and {rates['padded']:.1f} padded: {figures['packed_vs_padded']:.2f} times as many")
    return 0


def drawn_lengths(signals: int, seed: int) -> list[int]:
    """Lengths at random, in the shares of Table III."""
    import numpy as np

    from .dataset_page import TABLE_III_LENGTHS

    shares = np.array(list(TABLE_III_LENGTHS.values()), float)
    draw = np.random.default_rng(seed)
    return draw.choice(list(TABLE_III_LENGTHS), signals, p=shares / shares.sum()).tolist()


def noise_batch(rows: list[Row], capacity: int):
    """A packed batch of noise."""
    import torch
    from emind.models.packed_batch import PackedBatch

    iq_RC2 = torch.zeros(len(rows), capacity, 2)
    for number, row in enumerate(rows):
        for placed in row:
            iq_RC2[number, placed.start : placed.start + placed.length] = torch.rand(placed.length, 2) - 0.5
    where = torch.tensor([(number, placed.start, placed.length) for number, row in enumerate(rows) for placed in row])
    row_S, start_S, length_S = where.unbind(1)
    return PackedBatch(iq_RC2, torch.rand(len(rows), capacity // PATCH), row_S, start_S, length_S,
                       torch.full(row_S.shape, 1e6), torch.zeros_like(row_S), PATCH)
