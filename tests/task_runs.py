"""What the tests of tasks share: a very small encoder, sets of a few examples, and a run of one task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from emind.models import emind
from emind.models.emind import EncoderConfig
from emind_training import task_train
from emind_training.task_config import TaskFinetuneConfig, task_config_from_dict
from emind_training.task_run import Asked, Result, run

ITEMS = {"modulation": 22, "radar": 60, "interference": 54, "fingerprint": 60, "separation": 60, "denoise": 24,
         "sensing": 48, "anomaly": 120, "technology": 36}
SET = {"modulation": "AWGN-7"}


@pytest.fixture
def micro(monkeypatch):
    """A size that trains in a moment."""
    monkeypatch.setitem(emind.SIZES, "micro", lambda **t: EncoderConfig(width=32, depth=1, heads=1, **t))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of runs whose sets are drawn once."""
    return tmp_path_factory.mktemp("runs")


def config(*tasks: str, model: str | None = "micro", **tables: dict) -> TaskFinetuneConfig:
    """Of a run of six steps; ``tables`` are changes, ``task`` those of the tasks' own tables."""
    own = tables.pop("task", {})
    base = {
        "task": {name: {"set": SET.get(name, "")} | own.get(name, {}) for name in tasks},
        "data": {"items": ITEMS[tasks[0]], "validation_examples": 24, "test_examples": 24},
        "optim": {"steps": 6, "batch": 8, "warmup_steps": 2, "bfloat16": False, "learning_rate": 3e-3},
        "run": {"name": "-".join(tasks), "validate_every": 3, "log_every": 1, "bss_windows": 0,
                "checkpoint_seconds": 1e9},
    }  # fmt: skip
    base = {name: values | tables.get(name, {}) for name, values in base.items()}
    base |= {name: values for name, values in tables.items() if name not in base}
    return task_config_from_dict(base | ({"model": {"size": model}} if model else {}), "test")


def trained(runs: Path, out: str, own: TaskFinetuneConfig, **asked) -> Result:
    """The run, its checkpoint and log in a folder named ``out`` below ``runs``."""
    own = replace(own, run=replace(own.run, name=out))
    return run(Asked(tuple(own.tasks), own, runs, say=lambda line: None, **asked))


def cut(monkeypatch, runs: Path, out: str, own: TaskFinetuneConfig, at: int = 3, **asked) -> Path:
    """A run that is killed before the update of batch ``at``; its checkpoint."""
    update = task_train._Run._updated

    def killed(self, number, *rest):
        if number == at:
            raise KeyboardInterrupt
        return update(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(task_train._Run, "_updated", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(runs, out, own, **asked)
    return runs / out / task_train.CHECKPOINT
