"""Train an encoder with one head or several, calibrate and measure them, and write a weights file.

A configuration with a table [task] trains on sets of signals: files of `emind-train dataset split`, or sets that are
drawn because none are given. One without trains the head `modulation` on the air set, drawn while training, and writes
a card and a plot as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from emind.contract.errors import UsageError

from .outputs import weights_file
from .task_names import FULL, TASK_NAMES, TRACKS

DATA = "the air set of `training/synthesis/air.py`, drawn while training"
MODULATION = "modulation"


def add_arguments(f: argparse.ArgumentParser) -> None:
    f.epilog = ("example: emind-train finetune --task radar --config training/configs/task-radar.toml "
                "--init emind-nano-pretrained --out radar.safetensors")
    f.add_argument("--task", nargs="+", choices=TASK_NAMES, default=[MODULATION], metavar="TASK",
                   help=f"what the heads answer, several for joint training: {', '.join(TASK_NAMES)} "
                   "(default modulation)")
    f.add_argument("--config", type=Path, required=True, help="TOML file, see training/configs/")
    f.add_argument("--data", nargs="+", type=Path, default=[], metavar="FILE",
                   help="files of `emind-train dataset split`, or folders of them; default: sets drawn by their "
                   "recipes")
    f.add_argument("--init", metavar="WEIGHTS", help="released name or path of a pretrained or fine-tuned file that "
                   "the encoder starts from; default random weights")
    f.add_argument("--track", choices=TRACKS, default=FULL, help="full (default), probe: a linear layer on the frozen "
                   "encoder, scratch: from random weights, lora: adapters, few-shot: --per-class K examples")
    f.add_argument("--freeze-encoder", action="store_true", help="the encoder and the heads of --init stay as they are "
                   "to the bit; the new heads are added to them")
    f.add_argument("--per-class", type=int, default=0, metavar="K", help="training examples a class, for few-shot")
    f.add_argument("--ways", type=int, default=0, metavar="N", help="N-way K-shot episodes as well, for few-shot")
    f.add_argument("--baselines", action="store_true", help="energy detection beside sensing, an autoencoder trained "
                   "on the same normal windows beside anomaly; their figures stand in the file")
    f.add_argument("--out", type=Path, help="weights file; default runs/NAME/NAME.safetensors")
    f.add_argument("--runs", type=Path, default=Path("runs"), help="folder for checkpoints, logs and drawn sets")
    f.add_argument("--resume", action="store_true", help="go on from the run's checkpoint, if there is one")
    f.set_defaults(run=finetune)


def finetune(args: argparse.Namespace) -> int:
    from .task_config import is_task_config

    return finetune_tasks(args) if is_task_config(args.config) else finetune_air(args)


def finetune_tasks(args: argparse.Namespace) -> int:
    """Heads on sets of signals."""
    import torch
    from emind.models.checkpoint import save_weights
    from emind.runtime.weights import resolve

    from .cli import code_version, processor
    from .task_config import read_task_config
    from .task_run import Asked, run

    config = read_task_config(args.config)
    init = resolve(args.init) if args.init else None
    out = _out(args, config.run.name)
    made = run(Asked(tuple(args.task), config, args.runs, tuple(args.data), init, args.track, args.freeze_encoder,
                     args.per_class, args.ways, args.baselines, args.resume))
    training = {**made.training, "command": command(args, out), "code": code_version(),
                "machine": {"processor": processor(), "torch": torch.__version__}}
    save_weights(out, made.own.model, made.window, made.calibration, training, made.figures)
    from .task_card import write_card as write_task_card

    written = write_task_card(out)
    print(f"wrote {out}: heads {', '.join(made.own.model.specs)}; {', '.join(path.name for path in written)}")
    return 0


def command(args: argparse.Namespace, out: Path) -> str:
    """The command line that makes this file again."""
    words = ["emind-train finetune --task", *args.task, "--config", str(args.config)]
    words += ["--data", *map(str, args.data)] if args.data else []
    words += ["--init", args.init] if args.init else []
    words += ["--track", args.track] if args.track != FULL else []
    words += ["--freeze-encoder"] if args.freeze_encoder else []
    words += ["--per-class", str(args.per_class)] if args.per_class else []
    words += ["--ways", str(args.ways)] if args.ways else []
    words += ["--baselines"] if args.baselines else []
    return " ".join([*words, "--out", str(out)])


def finetune_air(args: argparse.Namespace) -> int:
    """The head `modulation` on the air set."""
    from emind.runtime.weights import resolve

    from .config import read_config

    own = args.data, args.track != FULL, args.freeze_encoder, args.per_class, args.ways, args.baselines
    if args.task != [MODULATION] or any(own):
        raise UsageError(f"configuration {args.config}: has no table [task] and trains the air set alone; --data, "
                         "--track, --freeze-encoder, --per-class, --ways, --baselines and other tasks need one, see "
                         "training/configs/task-*.toml")
    config = read_config(args.config)
    init = resolve(args.init) if args.init else None
    out = _out(args, config.run.name)
    import torch
    from emind.contract.window import WindowSpec
    from emind.models.checkpoint import save_weights

    from . import evaluate as ev
    from .cli import code_version, processor
    from .finetune import HEAD, train

    model, record = train(config, args.runs / config.run.name, args.resume, init)
    print("calibrating and measuring")
    temperature = ev.calibrate(model, config)
    training = {
        "config": config.to_dict(),
        "code": code_version(),
        "data": DATA,
        "parameters": sum(p.numel() for p in model.parameters()),
        "machine": {"processor": processor(), "torch": torch.__version__},
        **record,
    }
    figures = {HEAD: ev.evaluate(model, temperature, config)}
    window = WindowSpec(
        length=config.data.length, hop=config.data.length, patch=config.model.patch,
        rate_min_hz=config.data.rate_min_hz, rate_max_hz=config.data.rate_max_hz,
    )  # fmt: skip
    save_weights(out, model, window, {HEAD: {"temperature": temperature}}, training, figures)
    start = f" --init {args.init}" if args.init else ""
    write_card(out, f"emind-train finetune --task {HEAD} --config {args.config}{start} --out {args.out or out}")
    print(f"{out}: class {figures[HEAD]['accuracy']:.3f}, family {figures[HEAD]['family_accuracy']:.3f}")
    return 0


def write_card(weights: Path, command: str) -> None:
    """Card and plot beside a weights file, from its header."""
    from emind.models.checkpoint import read_header

    from . import evaluate as ev

    header = read_header(weights)
    picture = weights.with_name(weights.stem + "-snr.png")
    ev.plot_by_snr(header["figures"]["modulation"], picture, f"{weights.stem} on generated test windows")
    weights.with_suffix(".md").write_text(ev.card(weights.stem, command, header, picture.name))


def _out(args: argparse.Namespace, name: str) -> Path:
    """Looked at before training: a file that cannot be written would cost the run."""
    return weights_file(args.out or args.runs / name / f"{name}.safetensors")
