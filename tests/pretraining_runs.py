"""What the tests of pretraining share: a small corpus, configurations that end in a moment, and the runs' logs."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

from emind_training import pretrain
from emind_training.pretrain_log import read_log
from emind_training.split import split
from emind_training.synthesis import build
from emind_training.synthesis.sets import SETS

CONFIG = """
[model]
patch = 16
channels = "iq_envelope_phase"
spectral_weight = 0.5
[corpus]
folder = "{folder}"
rows = 4
capacity = 2048
open_rows = 4
weighting_every = 2
validation_signals = 3
[optim]
steps = 8
learning_rate = 1e-3
[run]
name = "r"
producers = 0
log_every = 1
validate_every = 4
[probe]
every = 0
"""


def made_corpus(folder: Path) -> Path:
    """Three sets with a handful of signals each, of 128 and 1,024 samples, in two parts."""
    paths = [path for name, items in (("EM-Comm", 280), ("EM-Radar", 320), ("AWGN-7", 44))
             for path in build.build_set(dataclasses.replace(SETS[name], small=items), folder / "whole", "small", 1)]
    split(paths, folder / "split", (4, 1), seed=1)
    return folder / "split"


def made_config(folder: Path, corpus: Path) -> Path:
    path = folder / "run.toml"
    path.write_text(CONFIG.format(folder=corpus))
    return path


def arguments(config: Path, runs: Path, *more: str, **changes) -> list[str]:
    """Of `emind-train pretrain`; ``changes`` as table__key=value."""
    own = [f"--set={name.replace('__', '.')}={value}" for name, value in changes.items()]
    return ["pretrain", "--config", str(config), "--runs", str(runs), *own, *more]


def logged(runs: Path, kind: str = "step", key: str = "loss") -> list[tuple[int, float]]:
    """(step, value) of a run's log, in the order of its lines."""
    return [(line["step"], line[key]) for line in read_log(runs / "r" / "log.jsonl") if line["kind"] == kind]


def stopping_at(step, monkeypatch, how=signal.SIGTERM):
    """Sends this process a signal in the middle of its step number ``step``."""
    rates = []

    def learning_rate(*given):
        rates.append(pretrain_rate(*given))
        if len(rates) == step:
            os.kill(os.getpid(), how)
        return rates[-1]

    pretrain_rate = pretrain.learning_rate
    monkeypatch.setattr(pretrain, "learning_rate", learning_rate)
