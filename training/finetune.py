"""Supervised training of an encoder with its `modulation` head on the air set, from scratch or from other weights.

The loop is all here: draw, forward, loss, step, look, save. What it writes lies in ``runs/<name>/``:
``checkpoint.safetensors`` (resumes to the identical next step), ``log.jsonl``, and at the end the weights file.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from emind.contract.errors import EMindError
from emind.contract.vocabulary import FAMILIES, MODULATION_FAMILY, MODULATIONS
from emind.contract.window import HeadSpec
from emind.dsp.normalise import max_abs
from emind.models import losses
from emind.models.checkpoint import load_encoder
from emind.models.emind import Encoder
from emind.models.heads import MultiHead

from .config import FinetuneConfig
from .lineage import origin
from .run_state import load_state, save_state
from .stream import air_batches
from .synthesis.air import CLASSES, Batch

VALIDATION_SEED, TEST_SEED = 1_000_003, 2_000_003  # never a training seed
HEAD = "modulation"
LABEL_OF_CLASS = np.array([MODULATIONS.index(name) for name in CLASSES])
FAMILY_OF_LABEL = torch.tensor([FAMILIES.index(MODULATION_FAMILY[name]) for name in MODULATIONS])


def build_model(config: FinetuneConfig) -> MultiHead:
    return MultiHead(config.model.encoder(), {HEAD: HeadSpec(HEAD, "classification", MODULATIONS)})


def start_from(path: Path, encoder: Encoder) -> dict:
    """Give the encoder the weights of a pretrained or fine-tuned file. What is told of it (`lineage.origin`), and
    ``fresh``: the encoder's parts that are not from it.

    Spectral tokens that the file lacks stay as they are; any other difference is an EMindError that names it.
    """
    found, _, _ = load_encoder(path)
    theirs, ours = found.config.to_dict(), encoder.config.to_dict()
    free = {"dropout"} | ({"spectral"} if ours["spectral"] and not theirs["spectral"] else set())
    for key, value in ours.items():
        if key not in free and theirs[key] != value:
            raise EMindError(f"weights {path}: the encoder has {key} {theirs[key]}, the configuration asks for {value}; "
                             "change [model] in the configuration, or take another file")
    fresh = encoder.load_state_dict(found.state_dict(), strict=False).missing_keys
    return origin(path) | {"fresh": sorted({name.split(".")[0] for name in fresh})}


def tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """IQ (B, L, 2) normalised as in the block, rate (B,), label (B,)."""
    return (
        torch.from_numpy(max_abs(batch.iq)),
        torch.from_numpy(batch.rate.astype(np.float32)),
        torch.from_numpy(LABEL_OF_CLASS[batch.label]),
    )


def family_scores(logits_BC: Tensor) -> Tensor:
    """Log-probabilities of the families, (B, families): classes of one family add up."""
    return losses.family_scores(logits_BC, FAMILY_OF_LABEL)


def loss_of(logits_BC: Tensor, label_B: Tensor, config: FinetuneConfig) -> Tensor:
    """Cross-entropy of the class, plus that of its family."""
    o = config.optim
    return losses.classification_loss(logits_BC, label_B, FAMILY_OF_LABEL, o.family_weight, o.label_smoothing)


def learning_rate(step: int, config: FinetuneConfig) -> float:
    o = config.optim
    if step < o.warmup_steps:
        return o.learning_rate * (step + 1) / o.warmup_steps
    done = (step - o.warmup_steps) / max(1, o.steps - o.warmup_steps)
    return o.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay on matrices only."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    free = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@torch.no_grad()
def predict(model: MultiHead, batches) -> tuple[Tensor, Tensor, np.ndarray]:
    """Logits (N, C), labels (N,) and SNR (N,) over batches."""
    model.eval()
    logits, labels, snrs = [], [], []
    for batch in batches:
        iq, rate, label = tensors(batch)
        logits.append(model(iq, rate)[HEAD].float())
        labels.append(label)
        snrs.append(batch.snr)
    return torch.cat(logits), torch.cat(labels), np.concatenate(snrs)


def fixed_batches(seed: int, windows: int, config: FinetuneConfig) -> list[Batch]:
    size = 256
    count = max(1, windows // size)
    return [b for _, b in air_batches(seed, 0, count, min(size, windows), config.data, 0)]


def train(
    config: FinetuneConfig, folder: Path, resume: bool, init: Path | None = None
) -> tuple[MultiHead, dict]:
    """Run to the last step. Returns the averaged model and what was run (steps, windows, seconds, history).

    ``init``: weights file that the encoder starts from; a resumed run must name the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.safetensors"
    o, run = config.optim, config.run
    torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    model = build_model(config)
    source = None if init is None else start_from(init, model.encoder)
    optimizer = torch.optim.AdamW(parameter_groups(model, o.weight_decay), lr=0.0, betas=(0.9, 0.98))
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    step, record = 0, {"seconds": 0.0, "history": []} | ({"init": source} if source else {})
    if resume and checkpoint.exists():
        step, record = load_state(checkpoint, config.to_dict(), model, average, optimizer)
        if any((record.get("init") or {}).get(key) != (source or {}).get(key) for key in ("sha256", "fresh")):
            before = record["init"]["name"] if "init" in record else "random weights"
            raise EMindError(f"checkpoint {checkpoint}: the run started from {before}, not from "
                             f"{init or 'random weights'}; give --init as before, or start without --resume")
    elif checkpoint.exists():
        raise EMindError(f"{checkpoint} exists; give --resume to go on, or remove the folder to start anew")
    validation = fixed_batches(VALIDATION_SEED, run.validation_windows, config)
    started = saved = time.monotonic()
    before = record["seconds"]
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns) as progress, open(folder / "log.jsonl", "a") as log:
        task = progress.add_task(run.name, total=o.steps, completed=step)
        for step, batch in air_batches(run.seed, step, o.steps, o.batch, config.data, run.producers):
            iq, rate, label = tensors(batch)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=o.bfloat16):
                logits = model(iq, rate)[HEAD]
            loss = loss_of(logits.float(), label, config)
            if not torch.isfinite(loss):
                np.savez(folder / "bad_batch.npz", iq=batch.iq, label=batch.label, snr=batch.snr, rate=batch.rate)
                raise EMindError(f"loss is not finite at step {step}; the batch is in {folder / 'bad_batch.npz'}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), o.clip_norm)
            optimizer.step()
            # The average starts short, so that early looks are not at the initial weights.
            decay = min(o.average, (step + 1) / (step + 10))
            with torch.no_grad():
                for name, p in model.named_parameters():
                    average[name].lerp_(p, 1 - decay)
            record["seconds"] = before + time.monotonic() - started
            if step % run.log_every == 0:
                line = {"step": step, "loss": round(loss.item(), 4), "norm": round(float(norm), 3)}
                log.write(json.dumps(line | {"seconds": round(record["seconds"], 1)}) + "\n")
                log.flush()
                progress.update(task, completed=step, description=f"{run.name} loss {loss.item():.3f}")
            last = step + 1 == o.steps
            if (step + 1) % run.validate_every == 0 or last:
                line = {"step": step + 1} | look(averaged(model, average, config), validation)
                record["history"].append(line)
                log.write(json.dumps(line) + "\n")
                progress.console.print(line)
            if time.monotonic() - saved > run.checkpoint_seconds or last:
                save_state(checkpoint, step + 1, config.to_dict(), model, average, optimizer, record)
                saved = time.monotonic()
    record |= {"steps": o.steps, "windows": o.steps * o.batch}
    return averaged(model, average, config), record


def averaged(model: MultiHead, average: dict, config: FinetuneConfig) -> MultiHead:
    copy = build_model(config)
    copy.load_state_dict(model.state_dict() | average)
    return copy.eval()


def look(model: MultiHead, batches: list[Batch]) -> dict:
    """Accuracy of class and family on fixed windows."""
    logits, label, _ = predict(model, batches)
    picked = logits.argmax(-1)
    family = family_scores(logits).argmax(-1)
    return {
        "accuracy": round((picked == label).float().mean().item(), 4),
        "family_accuracy": round((family == FAMILY_OF_LABEL[label]).float().mean().item(), 4),
        "loss": round(functional.cross_entropy(logits, label).item(), 4),
    }
