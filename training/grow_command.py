"""A larger encoder that starts from what a trained smaller one knows, heads and all.

It answers nearly as the file that it was made from, and is to be trained further: `emind-train finetune --init`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SIZES = ("tiny", "small", "base")  # what there is to grow to; the names of `emind.models.emind.SIZES` but for the least


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.epilog = "example: emind-train grow emind-nano --size tiny --out runs/emind-tiny-grown.safetensors"
    p.add_argument("weights", help="released name or path of a fine-tuned file")
    p.add_argument("--size", choices=SIZES, required=True, help="of the encoder that it grows to")
    p.add_argument("--out", type=Path, required=True, help="weights file to write; it is to be trained further")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from emind.contract.errors import UsageError
    from emind.models.checkpoint import load_weights, save_weights
    from emind.runtime.weights import resolve

    from .cli import code_version
    from .grow import grown
    from .lineage import origin, refuse_grown

    path = Path(resolve(args.weights))
    if args.out.suffix != ".safetensors":
        raise UsageError(f"--out {args.out}: the name must end in .safetensors")
    model, window, header = load_weights(path)
    refuse_grown(header)
    larger, left_out = grown(model, args.size)
    training = {"grown_from": origin(path),
                "command": f"emind-train grow {args.weights} --size {args.size} --out {args.out}", "code": code_version()}
    calibration = {name: values for name, values in header["calibration"].items() if name in larger.specs}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(args.out, larger, window, calibration, training, {})
    print(f"wrote {args.out}: {args.size}, heads {', '.join(larger.specs)}"
          + (f"; left out, since they are fitted and not trained: {', '.join(left_out)}" if left_out else ""))
    return 0
