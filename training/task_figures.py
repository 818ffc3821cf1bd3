"""What a trained head is worth: its loss, its calibration and its figures, from its answers on a part of a set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from emind.contract.errors import EMindError
from emind.contract.vocabulary import FAMILIES, MODULATION_FAMILY, MODULATIONS
from emind.contract.window import HeadSpec
from emind.models.heads import AnomalyHead, denormalised, energy_threshold, normalised, split_regression
from emind.models.losses import classification_loss, denoising_loss, family_scores, regression_loss, separation_loss
from sklearn.metrics import confusion_matrix
from torch import Tensor

from . import measures
from .evaluate import temperature_of
from .task_config import TaskFinetuneConfig, TaskTable
from .task_data import Examples, TaskBatch
from .task_model import Prepared
from .tasks import ANOMALY, CLASSIFICATION, RECONSTRUCTION, REGRESSION, SCORED, Task

FAMILY_OF_C = torch.tensor([FAMILIES.index(MODULATION_FAMILY[name]) for name in MODULATIONS])
SNR_STEP_DB = 4.0  # of a row, where SNR labels are no whole numbers


@dataclass
class Answers:
    """What a head put out for all examples of a part, (N, ...), with what is known of them."""

    spec: HeadSpec
    outputs: Tensor
    batch: TaskBatch

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def logits(self) -> Tensor:
        return split_regression(self.outputs, self.spec)[0] if self.spec.kind == REGRESSION else self.outputs


@torch.no_grad()
def answers(own: Prepared, head: str, batches: Iterable[TaskBatch]) -> Answers:
    """In evaluation mode and float32."""
    own.model.eval()
    parts, seen = [], []
    for batch in batches:
        parts.append(own.answer(batch.iq_BL2, batch.rate_B, head)[0].float())
        seen.append(batch)
    return Answers(own.model.specs[head], torch.cat(parts), joined(seen))


def loss_of(spec: HeadSpec, outputs: Tensor, batch: TaskBatch, table: TaskTable, config: TaskFinetuneConfig,
            latent_BNX: Tensor | None = None) -> Tensor:
    """The task's loss of a batch."""
    o = config.optim
    if spec.kind == RECONSTRUCTION:
        kind = {"kind": table.loss} if table.loss else {}
        if spec.sources == 1:
            return denoising_loss(outputs[:, 0], batch.targets_BKL2[:, 0], **kind)
        return separation_loss(outputs, batch.targets_BKL2, latent_BNX, o.latent_weight, **kind)
    if spec.kind == REGRESSION:
        logits, values = split_regression(outputs, spec)
        kind = {"kind": table.loss} if table.loss else {}
        return (classification_loss(logits, batch.label_B, label_smoothing=o.label_smoothing)
                + regression_loss(values, normalised(batch.values_BQ, spec), **kind))
    families = FAMILY_OF_C if spec.labels == MODULATIONS else None
    return classification_loss(outputs, batch.label_B, families, o.family_weight, o.label_smoothing)


def look(found: Answers, table: TaskTable, config: TaskFinetuneConfig) -> dict[str, float]:
    """Loss on validation, and the share right where there are classes."""
    line = {"loss": round(loss_of(found.spec, found.outputs, found.batch, table, config).item(), 5)}
    if found.spec.kind in (CLASSIFICATION, REGRESSION):
        right = (found.logits.argmax(-1) == found.batch.label_B).float().mean().item()
        line["accuracy"] = round(right, 5)
    return line


def calibrated(found: Answers, task: Task, config: TaskFinetuneConfig) -> dict:
    """Entry of a head in the file's calibration, from validation: temperature, and from where on it says unknown."""
    if found.spec.kind == RECONSTRUCTION:
        return {}
    if found.spec.kind == ANOMALY:
        return {"temperature": 1.0}
    temperature = temperature_of(found.logits, found.batch.label_B)
    entry: dict = {"temperature": temperature}
    if task.unknown:
        entry["unknown"] = {"threshold": energy_threshold(found.logits, temperature, config.run.known_kept)}
    return entry


@torch.no_grad()
def fit_anomaly(own: Prepared, head: str, place: int, train: Iterable[TaskBatch], validation: Iterable[TaskBatch],
                false_alarms: float) -> dict:
    """Fit an anomaly head to the normal windows of the training part; its threshold on those of validation.

    ``place``: number of the normal class among the set's.
    """
    own.model.eval()
    module = own.model.heads[head]
    assert isinstance(module, AnomalyHead)

    def normal(batches: Iterable[TaskBatch]) -> Tensor:
        return torch.cat([own.model.features(b.iq_BL2, b.rate_B).pooled_BF[b.label_B == place] for b in batches])

    fitted, checked = normal(train), normal(validation)
    if len(fitted) < 2 or len(checked) < 2:
        raise EMindError(f"{head}: {len(fitted)} normal windows to fit and {len(checked)} to set the threshold on are "
                         "too few; give more examples")
    module.fit(fitted, torch.zeros(len(fitted), dtype=torch.int64))
    module.set_threshold(checked, false_alarms)
    return {"normal_windows": len(fitted), "threshold_windows": len(checked), "false_alarms": false_alarms}


def stored_targets(test: Examples | None) -> Tensor | None:
    """The clean rows as stored, where a denoiser's targets are changed (`alignment.py`); else None."""
    if test is None or not test.align:
        return None
    own = copy(test)
    own.align = False
    return torch.cat([batch.targets_BKL2 for batch in own.in_order()])


def detection_score(found: Answers, task: Task, classes: Sequence[str], calibration: dict) -> np.ndarray:
    """(N,): grows with how little a window looks like the task's normal class."""
    if found.spec.kind == ANOMALY:
        return found.logits[:, 1].numpy()
    logit = (found.logits / calibration["temperature"]).softmax(-1).clamp(1e-30, 1).log()
    place = classes.index(task.normal)
    others = [k for k in range(len(classes)) if k != place]
    return (logit[:, others].logsumexp(-1) - logit[:, place]).numpy()


def figures_of(found: Answers, task: Task, classes: tuple[str, ...], set_name: str, calibration: dict,
               config: TaskFinetuneConfig, stored: Tensor | None = None) -> dict:
    """All figures of a task, from its answers on the test part. Values that do not exist are None.

    ``stored``: see :func:`stored_targets`.
    """
    if found.spec.kind == RECONSTRUCTION:
        return clean(_waveform_figures(found, config.run.bss_windows, stored))
    batch, snr = found.batch, found.batch.snr_B
    if found.spec.kind == ANOMALY:
        score = detection_score(found, task, classes, calibration)
        return clean({"windows": len(found)} | detection_figures(score, task, classes, batch))
    probability = (found.logits / calibration["temperature"]).softmax(-1)

    def classified(mask: np.ndarray) -> dict:
        return {"accuracy": float((probability[mask].argmax(-1) == batch.label_B[mask]).float().mean())}

    label = batch.label_B.numpy()
    out = measures.classification_scores(probability, batch.label_B)
    out["by_snr"] = _by_snr(snr, classified)
    out["by_class"] = {name: classified(label == k)["accuracy"] for k, name in enumerate(classes) if (label == k).any()}
    out["confusion"] = confusion_matrix(label, probability.argmax(-1).numpy(), labels=range(len(classes))).tolist()
    if "unknown" in calibration:
        energies = torch.logsumexp(found.logits / calibration["temperature"], -1)
        out["called_unknown"] = float((energies < calibration["unknown"]["threshold"]).float().mean())
    if found.spec.labels == MODULATIONS:
        family = family_scores(probability.clamp_min(1e-30).log(), FAMILY_OF_C).argmax(-1)
        out["family_accuracy"] = float((family == FAMILY_OF_C[batch.label_B]).float().mean())
    if task.normal:
        out["detection"] = detection_figures(detection_score(found, task, classes, calibration), task, classes, batch)
    if set_name in SCORED:
        out["scored"] = _scored(probability, batch, classes, SCORED[set_name])
    if found.spec.kind == REGRESSION:
        value = denormalised(split_regression(found.outputs, found.spec)[1], found.spec).numpy()
        names = [p.name for p in task.parameters]
        truth = batch.values_BQ.numpy()
        out["mae"] = measures.mean_absolute_errors(value, truth, names)
        out["units"] = {p.name: p.unit for p in task.parameters}
        out["mae_by_snr"] = _by_snr(
            snr, lambda mask: measures.mean_absolute_errors(value[mask], truth[mask], names))
    return clean(out)


def _by_snr(snr: np.ndarray, measure: Callable[[np.ndarray], dict]) -> list[dict]:
    whole = np.all(snr[np.isfinite(snr)] % 1 == 0)
    return measures.by_snr(snr, measure, None if whole else SNR_STEP_DB)


def detection_figures(score: np.ndarray, task: Task, classes: Sequence[str], batch: TaskBatch) -> dict:
    """Area under the curve over all, for each other class, SNR and ISR, each against all normal windows."""
    label = batch.label_B.numpy()
    normal = label == classes.index(task.normal)

    def against(positive: np.ndarray) -> dict:
        chosen = normal | positive
        return measures.detection_scores(score[chosen], positive[chosen])

    out = against(~normal)
    named = {name: against(label == k) for k, name in enumerate(classes) if name != task.normal}
    if len(named) > 1:
        out["by_class"] = named
    for key, values in (("by_snr", batch.snr_B), ("by_isr", batch.isr_B)):
        rows = _by_snr(np.where(normal, np.nan, values), against)
        if len(rows) > 1:
            out[key] = [{f"{key[3:]}_db": row.pop("snr_db"), **row} for row in rows if row.pop("windows")]
    return out


def _scored(probability: Tensor, batch: TaskBatch, classes: tuple[str, ...], some: tuple[str, ...]) -> dict:
    """Accuracy on windows of some classes, the probability shared out over those alone; mean over SNR labels."""
    index = torch.tensor([classes.index(name) for name in some])
    inside = torch.isin(batch.label_B, index).numpy()
    right = (index[probability[:, index].argmax(-1)] == batch.label_B).numpy()
    rows = _by_snr(np.where(inside, batch.snr_B, np.nan), lambda mask: {"accuracy": float(right[mask].mean())})
    return {"classes": list(some), "windows": int(inside.sum()), "by_snr": rows,
            "mean_over_snr": float(np.mean([row["accuracy"] for row in rows])) if rows else math.nan}


def _waveform_figures(found: Answers, bss_windows: int, stored: Tensor | None) -> dict:
    answer, truth = (measures.as_complex(x) for x in (found.outputs, found.batch.targets_BKL2))
    mixture = measures.as_complex(found.batch.iq_BL2)
    if found.spec.sources == 1:
        out = measures.denoising_scores(answer[:, 0], truth[:, 0], mixture)
        out["by_snr"] = _by_snr(
            found.batch.snr_B, lambda mask: measures.denoising_scores(answer[mask, 0], truth[mask, 0], mixture[mask]))
        if stored is not None:
            out["stored"] = measures.denoising_scores(answer[:, 0], measures.as_complex(stored)[:, 0], mixture)
        return out
    out = measures.separation_scores(answer, truth, mixture, (1,))
    pairs = np.all(np.abs(truth).max(-1) > 0, axis=1)
    if not pairs.all():
        out["pairs"] = measures.separation_scores(answer[pairs], truth[pairs], mixture[pairs], (1,))
    if bss_windows:  # the toolkit's own taps take half a second a window; the paper took 100 windows
        chosen = np.sort(np.random.default_rng(0).permutation(len(answer))[:bss_windows])
        out["bss_eval"] = measures.separation_scores(answer[chosen], truth[chosen], mixture[chosen])
    return out


def joined(batches: list[TaskBatch]) -> TaskBatch:
    tensors = ("iq_BL2", "rate_B", "label_B", "values_BQ", "targets_BKL2")
    arrays = ("snr_B", "isr_B", "rows")
    # Windows are needed again only where waveforms are compared.
    waveforms = batches[0].targets_BKL2.shape[1] > 0
    values = {name: torch.cat([getattr(b, name) for b in batches]) if waveforms or name != "iq_BL2"
              else torch.zeros(0, 0, 2) for name in tensors}
    return TaskBatch(**values, **{name: np.concatenate([getattr(b, name) for b in batches]) for name in arrays})


def clean(value):
    """Rounded for a header; what is not a number becomes None."""
    if isinstance(value, dict):
        return {key: clean(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value

