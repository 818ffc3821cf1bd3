"""`emind-train bench step`: a whole training step of packed signals beside this machine's matrix products.

A step is forward, backward, clipping and AdamW on rows of noise with the lengths of Table III. Its operations are
counted from its tokens: twice the multiplications of the forward pass, and twice that for the way back. Counted are
linear layers and attention inside each signal; not the patches' channels, norms, softmax, GELU, the optimiser. The
machine's rate is that of a square product in the same number format with the same threads. In every round it runs
about as long as the step beside it. The share is the median of the rounds' ratios, the rates are the best rounds'.
With one thread, the default, times are the processor's, so that what else the machine does hardly counts; with more
they are the clock's, and mean something on a machine that is doing nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from emind.contract.errors import UsageError

HEADLINE = ("small", "bfloat16")
SIZES = ("nano", "tiny", "small", "base")
DTYPES = ("float32", "bfloat16")
SIDE = 2048  # of the square product


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", choices=SIZES, action="append", help="only these (default: all but base)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="only these (default: both)")
    parser.add_argument("--rows", type=int, default=8, help="of 6,000 samples in a batch (default 8)")
    parser.add_argument("--patch", type=int, default=8, help="samples in a patch (default 8)")
    parser.add_argument("--rounds", type=int, default=5, help="that are timed (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="that compute (default 1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import torch

    if min(args.rows, args.rounds, args.patch, args.threads) < 1:
        raise UsageError("--rows, --rounds, --patch and --threads must be at least 1")
    if 6000 % args.patch:
        raise UsageError(f"--patch {args.patch}: rows of 6,000 samples are no whole number of such patches: "
                         "choose 8 or 16")
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    try:
        table = [measure(size, dtype, args.rows, args.patch, args.rounds, clock)
                 for size in args.size or SIZES[:-1] for dtype in args.dtype or DTYPES]
    finally:
        torch.set_num_threads(before)
    first = next((row for row in table if (row["size"], row["dtype"]) == HEADLINE), table[0])
    figures = {**first, "threads": args.threads, "rows": args.rows, "patch": args.patch, "table": table}
    if args.json:
        print(json.dumps(figures))
    else:
        for row in table:
            print(f"{row['size']:6} {row['dtype']:9} {row['signals_per_s']:8,.1f} signals a second, "
                  f"{row['gflops']:6.1f} GFLOP/s, {100 * row['share']:3.0f} % of the matrix product's "
                  f"{row['matmul_gflops']:.1f}")
    return 0


def measure(
    size: str, dtype: str, rows: int, patch: int, rounds: int, clock: Callable[[], float]
) -> dict[str, Any]:
    import torch
    from emind.models.pretraining import AUTOENCODERS, MaskedAutoencoder

    from .mix import table_iii_batch

    torch.manual_seed(0)
    batch = table_iii_batch(rows, patch=patch)
    model = MaskedAutoencoder(AUTOENCODERS[size](patch=patch))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    work = step_flops(model, batch)
    one, other = torch.randn(2, SIDE, SIDE, dtype=getattr(torch, dtype))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    def seconds_of(task: Callable[[], Any]) -> float:
        begin = clock()
        task()
        return clock() - begin

    step()
    torch.mm(one, other)
    repeat = max(1, round(seconds_of(step) / seconds_of(lambda: torch.mm(one, other))))
    steps, products = [], []
    for _ in range(rounds):
        steps.append(seconds_of(step))
        products.append(seconds_of(lambda: [torch.mm(one, other) for _ in range(repeat)]) / repeat)
    product = 2 * SIDE**3
    share = statistics.median(work / a / (product / b) for a, b in zip(steps, products, strict=True))
    return {
        "size": size, "dtype": dtype, "gflops": round(work / min(steps) / 1e9, 1),
        "matmul_gflops": round(product / min(products) / 1e9, 1), "share": round(share, 3),
        "signals_per_s": round(batch.signals / min(steps), 1), "signals": batch.signals,
        "step_s": round(min(steps), 4), "step_gflop": round(work / 1e9, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def step_flops(model: Any, batch: Any) -> float:
    """Operations of a training step: 2 a multiplication, forwards once and backwards twice."""
    from emind.models.emind import CHANNELS, PIECE, Encoder, SpectralTokens
    from emind.models.masking import random_selection
    from emind.models.packed_batch import Patches

    config, encoder = model.config, model.config.encoder
    patches = Patches.of(batch)
    kept = random_selection(batch, patches, config.mask_share)
    extra = SpectralTokens.COUNT if encoder.spectral else 0
    seen_S = (Encoder.PREFIX + extra + kept.count_S).double()
    all_S = (Encoder.PREFIX + patches.count_S).double()
    width, small = encoder.width, config.decoder_width
    seen, masked, signals = float(kept.count_S.sum()), kept.index_M.shape[0], batch.signals
    rate = model.encoder.rate_token
    macs = (
        seen * encoder.patch * CHANNELS[encoder.channels] * width
        + signals * (2 * rate.FREQUENCIES * width + width**2 + extra * PIECE * width)
        + layers_macs(seen_S, width, encoder.depth, encoder.mlp_ratio)
        + (seen + Encoder.PREFIX * signals) * width * small
        + layers_macs(all_S, small, config.decoder_depth, encoder.mlp_ratio)
        + masked * small * 2 * encoder.patch
    )
    if model.spectral_head is not None:
        macs += signals * (width**2 + width * SpectralTokens.COUNT * PIECE)
    return 6.0 * macs


def layers_macs(tokens_S: Any, width: int, depth: int, mlp_ratio: int) -> float:
    """Multiplications of transformer layers on signals of so many tokens each."""
    linear = (4 + 2 * mlp_ratio) * width**2 * float(tokens_S.sum())
    attention = 2 * width * float(tokens_S.square().sum())
    return depth * (linear + attention)
