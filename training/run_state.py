"""Checkpoints of a run: model, running average and optimizer in one safetensors file, written atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from emind.contract.errors import EMindError

FIXED_RUN = ("seed", "validate_every")  # of [run]: what is drawn, and which looks there are to choose the best of
MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(path: Path, step: int, config: dict, model, average: dict, optimizer, extra: dict) -> None:
    """Write everything the next step depends on. ``average`` maps parameter names to the running average."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    updates = {}  # of each parameter: those of a head that other heads' batches pass over have fewer
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS if moment in state}
        updates |= {name: int(state["step"])} if "step" in state else {}
    tensors = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    metadata = {"state": json.dumps({"step": step, "updates": updates, "config": config, "extra": extra})}
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, metadata=metadata)
    os.replace(temporary, path)


def load_state(
    path: Path, config: dict, model, average: dict, optimizer, fixed: tuple[str, ...] = ("model", "data", "optim")
) -> tuple[int, dict]:
    """Restore a run into the given objects. Returns the next step and the extra entries. ``fixed``: tables of the
    configuration that must be as they were, and so must `FIXED_RUN`, where the checkpoint tells it."""
    try:
        with safe_open(str(path), framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise EMindError(f"checkpoint {path}: cannot be read ({error}); start without --resume") from None
    try:
        return _restored(path, state, tensors, config, model, average, optimizer, fixed)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EMindError(f"checkpoint {path}: not that of this run ({reason}); start without --resume") from None


def _restored(path, state, tensors, config, model, average, optimizer, fixed) -> tuple[int, dict]:
    for part in fixed:
        if state["config"].get(part) != config.get(part):
            raise EMindError(f"checkpoint {path}: made with another [{part}]; start without --resume")
    before, now = state["config"].get("run", {}), config.get("run", {})
    for key in FIXED_RUN:
        if key in before and key in now and before[key] != now[key]:
            raise EMindError(f"checkpoint {path}: made with [run] {key} = {before[key]}, the configuration says "
                             f"{now[key]}; give it back its value, or start without --resume")
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for name, value in average.items():
        value.copy_(tensors[f"average.{name}"])
    for name, parameter in model.named_parameters():
        moments = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS if f"{moment}.{name}" in tensors}
        if moments:
            updates = state["updates"]  # one number in checkpoints of earlier versions
            own = updates[name] if isinstance(updates, dict) else updates
            optimizer.state[parameter] = {"step": torch.tensor(float(own)), **moments}
    return state["step"], state["extra"]
