"""`emind-train unknown`: from where on the head `modulation` of a weights file says `unknown`, set anew without training.

The threshold lies where the asked share of generated validation windows keeps its class. Training sets it on the few
windows that it validates on; the last per mille needs more of them. Windows that the transmitter or the receiver never
treated as the generators do are called unknown more often than validation windows: a file that is to answer in the
field keeps more of them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

HEAD = "modulation"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.epilog = "example: emind-train unknown emind-nano --known-kept 0.998"
    p.add_argument("weights", help="released name or path; nothing in the file changes but this threshold and its card")
    p.add_argument("--known-kept", type=float, default=0.998, metavar="SHARE",
                   help="of validation windows that keep their class (default 0.998)")
    p.add_argument("--windows", type=int, default=8192, help="to set it on (default 8192)")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from emind.contract.errors import UsageError
    from emind.models.checkpoint import load_weights, save_weights
    from emind.runtime.weights import resolve

    from .task_card import write_card

    if not 0.5 <= args.known_kept < 1 or args.windows * (1 - args.known_kept) < 4:
        raise UsageError(f"--known-kept {args.known_kept:g} of --windows {args.windows}: at least half must be kept, and "
                         "at least 4 windows lie below the threshold")
    path = Path(resolve(args.weights))
    model, window, header = load_weights(path)
    told = set_anew(model, header, args.known_kept, args.windows)
    save_weights(path, model, window, header["calibration"], header["training"], header["figures"])
    write_card(path)
    print(json.dumps({"weights": str(path), **told}))
    return 0


def set_anew(model, header: dict, kept: float, windows: int) -> dict:
    """Change the header's threshold and the share of test windows below it; what was done.

    EMindError where the head is not there, may not say unknown, or was not trained on the air set.
    """
    from emind.contract.errors import EMindError
    from emind.models.heads import energy, energy_threshold

    from .evaluation import heads_of
    from .task_sources import AirSource
    from .tasks import AIR

    head = heads_of(header).get(HEAD)
    if head is None or head.config is None or head.set != AIR or "unknown" not in head.calibration:
        raise EMindError(f"the file has no head {HEAD} that says unknown and was trained with other tasks on {AIR}")
    temperature = head.calibration["temperature"]
    source = AirSource(
        head.task, replace(head.config, data=replace(head.config.data, validation_examples=windows)))
    threshold = energy_threshold(_logits(model, source.validating()), temperature, kept)
    tested = energy(_logits(model, source.testing()), temperature)
    before = head.calibration["unknown"]["threshold"]
    header["calibration"][HEAD]["unknown"]["threshold"] = threshold
    header["figures"][HEAD]["called_unknown"] = round((tested < threshold).float().mean().item(), 6)
    told = {"known_kept": kept, "windows": windows, "threshold": threshold, "before": before}
    header["training"]["unknown"] = {HEAD: told}
    return told


def _logits(model, batches):
    """(N, C) of all windows of these batches."""
    import torch

    model.eval()
    with torch.inference_mode():
        return torch.cat([model(batch.iq_BL2, batch.rate_B, [HEAD])[HEAD].float() for batch in batches])
