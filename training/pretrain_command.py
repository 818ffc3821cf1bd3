"""Train a masked autoencoder on a corpus of split sets, without labels, and write its weights file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from emind.contract.errors import EMindError, UsageError

from .outputs import weights_file

EPILOG = """example: emind-train pretrain --config training/configs/pretrain-debug.toml --set corpus.folder=SPLIT

Several processes: torchrun --nproc-per-node 2 -m emind_training.cli pretrain --config C --set run.parallel=ddp"""


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.epilog = EPILOG
    p.add_argument("--config", type=Path, required=True, help="TOML file, see training/configs/pretrain-*.toml")
    p.add_argument("--set", dest="changes", metavar="TABLE.KEY=VALUE", action="append", default=[],
                   help="stands for a line of the configuration; may be repeated")
    p.add_argument("--out", type=Path, help="weights file; default runs/NAME/NAME.safetensors")
    p.add_argument("--runs", type=Path, default=Path("runs"), help="folder for checkpoints and logs")
    p.add_argument("--resume", action="store_true", help="go on from the run's checkpoint, if there is one")
    p.add_argument("--export", choices=["last", "best"],
                   help="train no further: write the weights file from the run's last or best checkpoint")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .pretrain_config import read_config

    config = read_config(args.config, args.changes)
    folder = args.runs / config.run.name
    out = args.out or folder / f"{config.run.name}.safetensors"
    weights_file(out)
    from . import pretrain
    from .pretrain_state import check_same_run, fill_model, progress_of, read_state

    if out.resolve() in {(folder / name).resolve() for name in (pretrain.CHECKPOINT, pretrain.BEST)}:
        raise UsageError(f"--out {out}: is the name of a checkpoint of this run")
    first = int(os.environ.get("RANK", 0)) == 0
    if args.export:
        corpus, _ = pretrain.opened(config)
        path = folder / (pretrain.BEST if args.export == "best" else pretrain.CHECKPOINT)
        if not path.is_file():
            raise EMindError(f"{path}: no such checkpoint; run without --export first")
        state, tensors = read_state(path)
        check_same_run(path, state, config.to_dict(), pretrain.identity(corpus))
        model = pretrain.MaskedAutoencoder(config.autoencoder())
        fill_model(path, tensors, model)
        progress = progress_of(state)
    else:
        probe_set = None
        if config.probe.every and first:
            from .probe import ProbeSet

            probe_set = ProbeSet.generated(config.probe.set, train=config.probe.train, test=config.probe.test)
        model, progress = pretrain.train(config, folder, args.resume, probe_set)
        corpus = None
    if not first:
        return 0
    _write(out, model.eval(), config, corpus or pretrain.opened(config)[0], progress)
    print(f"{out}: {progress.step} steps, {progress.signals} signals, validation loss "
          f"{progress.history[-1]['validation']:.4f}" + (
              f", linear probe {100 * progress.probes[-1]['accuracy']:.1f} % right" if progress.probes else ""))
    return 0


def _write(out: Path, model, config, corpus, progress) -> None:
    """The weights file with the record of its training."""
    import torch
    from emind.contract.window import WindowSpec
    from emind.models.checkpoint import save_pretrained

    from .cli import code_version, processor
    from .synthesis.build import file_hash

    sets = {name: {"signals": corpus.signals(name), "drawn": progress.drawn.get(name, 0)} for name in corpus.names}
    training = {
        "task": "pretraining",
        "config": config.to_dict(),
        "code": code_version(),
        "corpus": {"files": {path.name: file_hash(path) for path in corpus.paths}, "sets": sets,
                   "signals": len(corpus), "skipped": corpus.skipped},
        "parameters": {"autoencoder": sum(p.numel() for p in model.parameters()),
                       "encoder": sum(p.numel() for p in model.encoder.parameters())},
        "machine": {"processor": processor(), "torch": torch.__version__, "threads": config.run.threads,
                    "processes": int(os.environ.get("WORLD_SIZE", 1)), "parallel": config.run.parallel},
        "steps": progress.step, "signals": progress.signals, "samples": progress.samples,
        "epochs": progress.signals / len(corpus), "seconds": round(progress.seconds, 1),
        "best": {"step": progress.best_step, "validation": progress.best_loss},
        "history": progress.history, "probes": progress.probes,
    }  # fmt: skip
    figures = {"pretraining": {"validation": progress.history[-1]["validation"],
                               "sets": progress.history[-1]["sets"], "probes": progress.probes}}
    save_pretrained(out, model, WindowSpec(patch=config.model.patch), training, figures)
