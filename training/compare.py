"""Several models trained on the same windows, in the same order, with the same augmentation, and measured alike.

For each model and seed, in ``<runs>/<name>/<model>-<seed>/``:

    epochs ─► validation after each ─► best.safetensors ─► (at the end, once) test ─► result.json
         └─► checkpoint.safetensors: goes on with the identical next step

What a step computes follows from the configuration, the seed and the step's number. No choice looks at the test part:
it is read when a model's training is over, and a result that stands is not measured again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from emind.contract.errors import EMindError
from emind.models.checkpoint import load_encoder
from emind.models.emind import SIZES, Encoder, pooled
from emind.models.heads import ClassificationHead
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from .baselines import NETWORKS
from .ceiling import CEILING, distance_to_ceiling, read_ceiling, renormalised
from .compare_config import EMIND, CompareConfig, ModelEntry
from .compare_data import CompareSet, Part, augmented, normalised, repeated, root_mean_square
from .run_control import reproducible
from .run_state import load_state, save_state
from .synthesis.awgn7 import SEVEN
from .synthesis.build import file_hash

AWGN7 = "AWGN-7"
NOISE_ALONE = {"RML2016.10A-regen": "AM-SSB"}  # classes of which a faithful recipe makes noise and nothing else
EVALUATION_BATCH = 512
BEST, RESULT = "best.safetensors", "result.json"
SAME = 2e-3  # share of test windows by which the same weights may differ on another processor


class EmindClassifier(nn.Module):
    """An encoder with a classification head."""

    NORMALISATION = "max_abs"

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = ClassificationHead(encoder.config.width, classes)

    def forward(self, iq_BL2: Tensor, rate_B: Tensor) -> Tensor:
        return self.head(pooled(self.encoder(iq_BL2, rate_B)).float())


def build(entry: ModelEntry, length: int, classes: int) -> nn.Module:
    """The model of an entry with its first weights. EMindError where a weights file does not suit, or the size."""
    if entry.network != EMIND:
        try:
            return NETWORKS[entry.network](length, classes)
        except ValueError as fault:
            raise EMindError(f"{entry.name}: {fault}") from None
    if entry.size not in SIZES:
        raise EMindError(f"{entry.name}: unknown size {entry.size!r}; known: {', '.join(SIZES)}")
    try:
        config = SIZES[entry.size](patch=entry.patch, channels=entry.channels, spectral=entry.spectral,
                                   stem=entry.stem, dropout=entry.dropout)
    except ValueError as fault:
        raise EMindError(f"{entry.name}: {fault}") from None
    encoder = Encoder(config)
    if entry.init:
        found, _, _ = load_encoder(entry.init)
        theirs = found.config.to_dict()
        for key, value in config.to_dict().items():
            if key not in ("dropout", "spectral") and theirs[key] != value:
                raise EMindError(f"{entry.name}: the encoder of {entry.init} has {key} {theirs[key]}, the "
                                 f"configuration asks for {value}")
        encoder.load_state_dict(found.state_dict(), strict=False)
    return EmindClassifier(encoder, classes)


def logits_of(model: nn.Module, iq_BL2: Tensor, rate_B: Tensor) -> Tensor:
    return model(iq_BL2, rate_B) if isinstance(model, EmindClassifier) else model(iq_BL2)


def learning_rate(step: int, steps: int, entry: ModelEntry, config: CompareConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, round(config.train.warmup_share * steps))
    if step < warmup:
        return entry.learning_rate * (step + 1) / warmup
    return entry.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.inference_mode()
def answers(model: nn.Module, part: Part, how: str, scale: float) -> Tensor:
    """Logits (N, C) of all windows of a part, in float32."""
    model.eval()
    out = []
    for iq_BL2, rate_B in zip(part.iq_NL2.split(EVALUATION_BATCH), part.rate_N.split(EVALUATION_BATCH), strict=True):
        out.append(logits_of(model, normalised(iq_BL2, how, scale), rate_B).float())
    return torch.cat(out)


def accuracy_by_snr(right_N: np.ndarray, snr_N: np.ndarray) -> dict[float, float]:
    """SNR label (dB) -> share right."""
    return {float(snr): float(right_N[snr_N == snr].mean()) for snr in np.unique(snr_N)}


def figures_of(logits_NC: np.ndarray, part: Part, classes: tuple[str, ...], set_name: str) -> dict:
    """Accuracy over all windows, by SNR and its mean over SNR. For AWGN-7 the score is that of the seven classes whose
    best is known: on their windows, the posterior renormalised over them; the eleven stand beside it. Where a class is
    noise alone (`NOISE_ALONE`), the score without its windows stands beside it."""
    label_N = part.label_N.numpy()
    right_N = logits_NC.argmax(1) == label_N
    out = {"windows": len(part), **_summary(right_N, part.snr_N)}
    without = {}
    if set_name in NOISE_ALONE:
        name = NOISE_ALONE[set_name]
        own = label_N != classes.index(name)
        without = {"without": {"class": name, "windows": int(own.sum()), **_summary(right_N[own], part.snr_N[own])}}
    if set_name != AWGN7:
        return out | without
    place = np.array([SEVEN.index(name) if name in SEVEN else -1 for name in classes])[label_N]
    own = place >= 0
    right_N = renormalised(logits_NC[own], classes).argmax(1) == place[own]
    score = {"windows": int(own.sum()), **_summary(right_N, part.snr_N[own])}
    ceiling = read_ceiling(CEILING)
    by_snr = dict(score["by_snr"])
    score["distance_to_ceiling_points"] = distance_to_ceiling(by_snr, ceiling)
    return {**score, "eleven": out, **without}


def _summary(right_N: np.ndarray, snr_N: np.ndarray) -> dict:
    by_snr = accuracy_by_snr(right_N, snr_N)
    return {"accuracy": float(np.mean(list(by_snr.values()))), "by_snr": [[snr, by_snr[snr]] for snr in by_snr]}


def train_one(
    config: CompareConfig, entry: ModelEntry, seed: int, data: CompareSet, train: Part, validation: Part, folder: Path,
    deadline: float = math.inf, stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda line: None,
) -> dict | None:
    """Train to the last epoch and measure; what stands in ``folder`` is gone on with. None where time ran out before.

    ``deadline`` (of `time.monotonic`) and ``stop`` end it after a step, with everything saved.

    Raises
    ------
    EMindError: the folder holds another run, or the loss is not finite
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = config.of(entry) | {"seed": seed, "files": data.hashes}
    if entry.init:
        own["init"] = file_hash(Path(entry.init))
    own = json.loads(json.dumps(own))
    result_file = folder / RESULT
    if result_file.exists():
        result = json.loads(result_file.read_text())
        if result["run"] != own:
            raise EMindError(f"{result_file}: is of another configuration; name another run, or remove the folder")
        return completed(config, result, data, train, validation, folder, say)
    with reproducible(seed, config.train.threads, torch.device("cpu")):
        model, record = _trained(config, entry, seed, data, train, validation, folder, own, deadline, stop, say)
        if model is None:
            return None
        how, scale = entry.normalisation or model.NORMALISATION, record["scale"]
        test = _tested(model, data, train, how, scale)
        chosen_on = figures_of(answers(model, validation, how, scale).numpy(), validation, data.classes, data.config.set)
    result = {
        "model": entry.name, "network": entry.network, "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()), "normalisation": how,
        "training_windows": len(train), "epochs": record["epoch"], "best_epoch": record["best_epoch"],
        "validation_accuracy": record["best"], "seconds": round(record["seconds"], 1),
        "windows_a_second": round(record["epoch"] * len(train) / max(record["seconds"], 1e-9), 1),
        "history": record["history"], "validation": chosen_on, "test": test, "run": own,
    }  # fmt: skip
    _write(result_file, json.dumps(result, indent=1) + "\n")
    return result


def completed(
    config: CompareConfig, result: dict, data: CompareSet, train: Part, validation: Part, folder: Path,
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """A result of an earlier version with the figures that it lacks, from the weights that it is of: what the table
    shows of validation, and the score without a class that is noise. Nothing else in it changes."""
    entry = next(one for one in config.models if one.name == result["model"])
    wants_test = data.config.set in NOISE_ALONE and "without" not in result["test"]
    best = folder / BEST
    if ("validation" in result and not wants_test) or not best.exists():
        return result
    say(f"{entry.name}, seed {result['seed']}: measuring what an earlier version left out")
    scale, how = root_mean_square(train), result["normalisation"]
    with reproducible(result["seed"], config.train.threads, torch.device("cpu")):
        model = build(entry, data.length, len(data.classes))
        model.load_state_dict(load_file(best))
        chosen_on = figures_of(answers(model, validation, how, scale).numpy(), validation, data.classes, data.config.set)
        test = _tested(model, data, train, how, scale) if wants_test else result["test"]
    if abs(test["accuracy"] - result["test"]["accuracy"]) > SAME:
        raise EMindError(f"{best}: scores {test['accuracy']:.4f} on test, the result beside it says "
                         f"{result['test']['accuracy']:.4f}; they are not of one training")
    test = result["test"] | {key: value for key, value in test.items() if key not in result["test"]}
    result = result | {"validation": chosen_on, "test": test}
    _write(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return result


def _tested(model: nn.Module, data: CompareSet, train: Part, how: str, scale: float) -> dict:
    """Figures on the test part, and of a class that is noise how many windows training has as well."""
    part = data.part("test")
    test = figures_of(answers(model, part, how, scale).numpy(), part, data.classes, data.config.set)
    if "without" in test:
        number = data.classes.index(test["without"]["class"])
        own, theirs = (one.take(np.flatnonzero(one.label_N.numpy() == number)) for one in (part, train))
        test["without"] |= {"left_out": len(own), "also_in_training": repeated(own, theirs)}
    return test


def _trained(
    config: CompareConfig, entry: ModelEntry, seed: int, data: CompareSet, train: Part, validation: Part, folder: Path,
    own: dict, deadline: float, stop: Callable[[], bool], say: Callable[[str], None],
) -> tuple[nn.Module | None, dict]:
    """The model with the weights of its best epoch, None where time ran out, and what was recorded."""
    checkpoint, best_file = folder / "checkpoint.safetensors", folder / BEST
    model = build(entry, data.length, len(data.classes))
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": entry.weight_decay},
                                   {"params": rest, "weight_decay": 0.0}], lr=0.0)
    average = {name: p.detach().clone() for name, p in model.named_parameters()} if entry.average else {}
    step, record = 0, {"seconds": 0.0, "epoch": 0, "best": -1.0, "best_epoch": 0, "history": [], "over": False,
                       "scale": root_mean_square(train)}
    if checkpoint.exists():
        step, record = load_state(checkpoint, own, model, average, optimizer)
        if record["run"] != own:
            raise EMindError(f"{checkpoint}: is of another configuration; name another run, or remove the folder")
    record["run"] = own
    how = entry.normalisation or model.NORMALISATION
    each = -(-len(train) // entry.batch)
    steps, levels = each * config.train.epochs, np.unique(train.snr_N)
    generator = torch.Generator()
    started = saved = time.monotonic()
    spent = record["seconds"]

    def save() -> None:
        record["seconds"] = spent + time.monotonic() - started
        save_state(checkpoint, step, own, model, average, optimizer, record)

    while step < steps and not record["over"]:
        epoch, first = divmod(step, each)
        order = torch.randperm(len(train), generator=generator.manual_seed(_number(seed, 1, epoch)))
        for place in range(first, each):
            if time.monotonic() > deadline or stop():
                save()
                return None, record
            batch = train.take(order[place * entry.batch : (place + 1) * entry.batch].numpy())
            generator.manual_seed(_number(seed, 2, step))
            torch.manual_seed(_number(seed, 3, step))  # dropout
            loss = _step(model, entry, config, batch, how, record["scale"], levels, generator, optimizer,
                         learning_rate(step, steps, entry, config))
            if not math.isfinite(loss):
                raise EMindError(f"{entry.name}, seed {seed}: the loss is not finite at step {step}; lower its "
                                 "learning_rate")
            for name, p in model.named_parameters() if average else ():
                average[name].lerp_(p.detach(), 1 - min(entry.average, (step + 1) / (step + 10)))
            step += 1
            if time.monotonic() - saved > config.train.checkpoint_seconds and place + 1 < each:
                save()
                saved = time.monotonic()
        record["epoch"] = epoch + 1
        _look(model, average, entry, config, validation, how, record, best_file, loss)
        say(f"{entry.name}, seed {seed}: epoch {epoch + 1} of {config.train.epochs}, loss {loss:.3f}, validation "
            f"{record['history'][-1]['accuracy']:.4f} (best {record['best']:.4f} in epoch {record['best_epoch']})")
        save()
        saved = time.monotonic()
    model.load_state_dict(load_file(best_file))
    return model.eval(), record


def _step(
    model: nn.Module, entry: ModelEntry, config: CompareConfig, batch: Part, how: str, scale: float, levels: np.ndarray,
    generator: torch.Generator, optimizer: torch.optim.Optimizer, rate: float,
) -> float:
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    iq_BL2 = normalised(augmented(batch.iq_NL2, batch.snr_N, config.augment, levels, generator), how, scale)
    with torch.autocast("cpu", torch.bfloat16, enabled=entry.bfloat16):
        logits_BC = logits_of(model, iq_BL2, batch.rate_N)
    loss = functional.cross_entropy(logits_BC.float(), batch.label_N, label_smoothing=entry.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_norm)
    optimizer.step()
    return loss.item()


def _look(
    model: nn.Module, average: dict, entry: ModelEntry, config: CompareConfig, validation: Part, how: str, record: dict,
    best_file: Path, loss: float,
) -> None:
    """Validation accuracy; the best weights so far are kept."""
    current = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(current | average)
    logits_NC = answers(model, validation, how, record["scale"])
    accuracy = float((logits_NC.argmax(1) == validation.label_N).float().mean())
    record["history"].append({"epoch": record["epoch"], "loss": round(loss, 4), "accuracy": round(accuracy, 5)})
    if accuracy > record["best"]:
        record |= {"best": accuracy, "best_epoch": record["epoch"]}
        temporary = best_file.with_suffix(".part")
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary)
        os.replace(temporary, best_file)
    patience = config.train.patience
    record["over"] = bool(patience) and record["epoch"] - record["best_epoch"] >= patience
    model.load_state_dict(current)


def _number(seed: int, use: int, count: int) -> int:
    """A generator's seed: another for each use and step."""
    return int(np.random.SeedSequence([seed, use, count]).generate_state(1, np.uint64)[0]) >> 1


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.part")  # two processes may complete the same result
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
