"""Checkpoints of a pretraining run: everything the next step depends on, in one safetensors file, written atomically.

    tensors    model.*, exp_avg.*, exp_avg_sq.* of every parameter, rng
    metadata   configuration, step and counts, the loader's state, weights and loss histories of the sets, best loss

A file is the same whatever number of processes wrote it, so a run may go on with another number.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from emind.contract.errors import EMindError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .parallel import placed, whole
from .run_state import MOMENTS
from .weighting import LossHistory

FORMAT = "gr-emind-pretraining"
MAY_CHANGE = ("run",)  # tables whose keys do not decide what a step computes, but for:
FIXED = {"run": ("seed",)}


@dataclass
class Progress:
    """Where a run is. ``step`` is the next one; counts and seconds are of all steps before it."""

    step: int = 0
    signals: int = 0
    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0  # seconds of them for the loader
    loader: dict | None = None
    weights: dict[str, float] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)  # signals of each set
    losses: dict[str, LossHistory] = field(default_factory=dict)  # at the looks that the weights follow
    since_look: list[list[float]] = field(default_factory=list)  # sums in training since the last look
    best_loss: float | None = None
    best_step: int | None = None
    history: list[dict] = field(default_factory=list)  # validation looks
    probes: list[dict] = field(default_factory=list)


def progress_of(state: dict) -> Progress:
    """Where the run of a checkpoint is, from its metadata."""
    values = state["progress"]
    return Progress(**{**values, "losses": {name: LossHistory(**one) for name, one in values["losses"].items()}})


def save_state(
    paths: list[Path], config: dict, corpus: dict, model: nn.Module, optimizer, progress: Progress, write: bool
) -> None:
    """Write the same checkpoint to all paths. Every process must call it; the one with ``write`` writes."""
    tensors = {f"model.{name}": whole(value) for name, value in model.state_dict().items()}
    updates = 0
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{moment}.{name}": whole(state[moment]) for moment in MOMENTS if moment in state}
        updates = int(state["step"]) if "step" in state else updates
    if not write:
        return
    tensors["rng"] = torch.get_rng_state()
    state = {"updates": updates, "config": config, "corpus": corpus, "progress": asdict(progress)}
    for path in paths:
        temporary = path.with_suffix(".part")
        save_file(tensors, temporary, metadata={"format": FORMAT, "state": json.dumps(state)})
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


def read_state(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Metadata and tensors of a checkpoint. EMindError for a file that is none, or damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise EMindError(f"checkpoint {path}: not one of a pretraining run")
            return json.loads(metadata["state"]), {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise EMindError(f"checkpoint {path}: cannot be read ({error}); remove the folder {path.parent} to start "
                         "anew") from None


def check_same_run(path: Path, state: dict, config: dict, corpus: dict) -> None:
    """EMindError where the checkpoint is of another configuration or corpus; it names the first difference."""
    for table, values in config.items():
        before = state["config"].get(table, {})
        fixed = FIXED.get(table, ()) if table in MAY_CHANGE else sorted({*values, *before})
        for key in fixed:
            if before.get(key) != values.get(key):
                raise EMindError(f"checkpoint {path}: made with [{table}] {key} = {before.get(key)!r}, the "
                                 f"configuration says {values.get(key)!r}; restore it, or give the run another name")
    if state["corpus"] != corpus:
        changed = sorted(name for name in {*corpus, *state["corpus"]} if corpus.get(name) != state["corpus"].get(name))
        raise EMindError(f"checkpoint {path}: the corpus has changed since ({', '.join(changed)}); restore it, or give "
                         "the run another name")


def fill_model(path: Path, tensors: dict[str, torch.Tensor], model: nn.Module) -> None:
    """Put the checkpoint's parameters into the model. EMindError where they do not fit it."""
    own = {name: value for name, value in model.state_dict().items()}
    found = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    wrong = sorted({*own} ^ {*found}) or sorted(name for name in own if own[name].shape != found[name].shape)
    if wrong:
        raise EMindError(f"checkpoint {path}: of a model of another size ({wrong[0]} does not fit); give its "
                         "configuration, or the run another name")
    model.load_state_dict({name: placed(value, own[name]) for name, value in found.items()})


def restore(path: Path, state: dict, tensors: dict[str, torch.Tensor], model: nn.Module, optimizer) -> Progress:
    """Restore a run into model and optimizer, and torch's random state. Returns where it was."""
    fill_model(path, tensors, model)
    for name, parameter in model.named_parameters():
        moments = {moment: placed(tensors[f"{moment}.{name}"], parameter) for moment in MOMENTS
                   if f"{moment}.{name}" in tensors}
        if moments:
            optimizer.state[parameter] = {"step": torch.tensor(float(state["updates"])), **moments}
    torch.set_rng_state(tensors["rng"])
    return progress_of(state)
