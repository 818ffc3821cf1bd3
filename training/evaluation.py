"""A weights file measured anew, head by head, on the test part of what each head was trained on.

    header ─► a head's set, size, seed, configuration ─► its test part: drawn again, found in runs/sets, or given
           ─► answers ─► the figures of the file's header, anew  and  what a report shows besides: curves, examples

What was measured is one dict of plain values (`Evaluation.report`), from which the page is written; samples and
features that are drawn but not told as figures stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from emind.contract.errors import EMindError, UsageError
from emind.contract.window import HeadSpec
from emind.models.heads import MultiHead, energy

from . import evaluate as air
from . import measures
from .config import config_from_dict
from .evaluation_record import differences, trained_how
from .finetune import HEAD, TEST_SEED, fixed_batches
from .lineage import refuse_grown
from .synthesis.sets import SETS
from .task_baselines import baseline_figures, has_baselines
from .task_config import TaskFinetuneConfig, task_config_from_dict
from .task_data import Examples, TaskBatch
from .task_figures import Answers, clean, detection_score, figures_of, joined, stored_targets
from .task_files import PARTS, SetFiles, drawn_set, manifest
from .task_sources import AIR_WINDOWS, AirSource, opened_part, task_batch_of_air
from .tasks import AIR, ANOMALY, CLASSIFICATION, RECONSTRUCTION, REGRESSION, TASKS, Task

TEST = PARTS[2]
KINDS = (CLASSIFICATION, REGRESSION, RECONSTRUCTION, ANOMALY)  # of heads that are trained
FEATURES = 1500  # windows at most whose features are kept for a map
CURVE = 100  # points of a detection curve at most
FOREIGN = 256  # windows at most of each other head's set that a head is shown
BINS = measures.CALIBRATION_BINS


@dataclass(frozen=True)
class Head:
    """A head of a file, and the part of the header that says how it was trained."""

    name: str
    spec: HeadSpec
    task: Task
    training: dict
    set: str
    calibration: dict
    figures: dict

    @property
    def config(self) -> TaskFinetuneConfig | None:
        """None for a head of a run on the air set alone."""
        if "tasks" not in self.training:
            return None
        return task_config_from_dict({k: v for k, v in self.training["config"].items() if v is not None}, "header")

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the labels of its set: an anomaly head that was fitted to normal windows answers less than they say."""
        if self.spec.kind != ANOMALY:
            return self.spec.labels
        return tuple(self.training["heads"][self.name].get("classes", ())) or self.task.known_classes(self.set)

    @property
    def length(self) -> int:
        """Samples of a window."""
        if "tasks" not in self.training:
            return self.training["config"]["data"]["length"]
        return self.training["heads"][self.name]["length"]


@dataclass
class Measured:
    """Answers of a head on its test part. ``features``: pooled, (N, F), of the first windows kept for a map."""

    head: Head
    found: Answers
    features: np.ndarray
    figures: dict
    details: dict
    about: dict


@dataclass
class Asked:
    """``data``: files by set. ``windows`` above 0: at most so many a head. ``baselines``: measure them anew."""

    runs: Path
    data: dict[str, SetFiles] | None = None
    windows: int = 0
    heads: tuple[str, ...] = ()
    baselines: bool = False
    say: Callable[[str], None] = print


@dataclass
class Evaluation:
    measured: dict[str, Measured] = field(default_factory=dict)
    report: dict = field(default_factory=dict)


def heads_of(header: dict) -> dict[str, Head]:
    """Every head of a file that was trained. EMindError where the header does not say what a head was trained on."""
    refuse_grown(header)
    out = {}
    for fields in header["heads"]:
        spec = HeadSpec.from_dict(fields)
        if spec.kind not in KINDS:  # classes enrolled on a receiver have no test part
            continue
        training = training_of(header["training"], spec.name)
        if training is None or spec.name not in TASKS:
            raise EMindError(f"head {spec.name}: the file does not say what it was trained on")
        figures = header["figures"].get(spec.name, {})
        set_name = training["data"][spec.name]["set"] if "tasks" in training else AIR
        out[spec.name] = Head(spec.name, spec, TASKS[spec.name], training, set_name,
                              header["calibration"].get(spec.name, {}), figures)
    return out


def training_of(training: dict, head: str) -> dict | None:
    """The record of the run that trained a head: the file's own, or that of a file whose heads were kept."""
    if head in training.get("tasks", [HEAD]):
        return training
    kept = training.get("kept_heads")
    return training_of(kept["training"], head) if kept and head in kept["heads"] else None


def evaluate(model: MultiHead, header: dict, asked: Asked) -> Evaluation:
    """Measure the heads whose test part can be had; of the others the header's figures are told.

    Raises
    ------
    UsageError: a head that the file has not
    EMindError: a file or set that cannot be used; no head could be measured though files were given
    """
    heads = heads_of(header)
    unknown = sorted(set(asked.heads) - set(heads))
    if unknown:
        raise UsageError(f"--heads {unknown[0]}: the file has no such head; there: {', '.join(heads)}")
    out = Evaluation()
    for name, head in heads.items():
        if asked.heads and name not in asked.heads:
            continue
        part = test_part(head, asked)
        entry = {"set": head.set, "kind": head.spec.kind, "classes": list(head.classes), "length": head.length,
                 "calibration": head.calibration, "stored": head.figures, "trained": trained_how(head)}
        if isinstance(part, str):
            asked.say(f"{name}: not measured anew: {part}")
            out.report[name] = entry | {"measured": False, "why": part, "figures": head.figures}
            continue
        one = out.measured[name] = _measured(model, head, part, asked)
        bounded = bool(asked.windows) and one.figures["windows"] < head.figures.get("windows", 0)
        same = head.set == one.about["set"] and not bounded
        baselines = one.figures.get("baselines") or head.figures.get("baselines")
        out.report[name] = entry | {
            "measured": True, "bounded": bounded, "data": one.about, "details": one.details,
            "figures": one.figures | ({"baselines": baselines} if baselines else {}),
            "differs": differences(one.figures, head.figures) if same else None}
        asked.say(f"{name}: {one.figures['windows']} windows of {one.about['set']}")
    if asked.data is not None and not out.measured:
        raise EMindError(f"--data: no head of the file could be measured on {', '.join(asked.data)}; its heads were "
                         f"trained on {', '.join(sorted({head.set for head in heads.values()}))}")
    _shown_to_each_other(model, out)
    return out


# ------------------------------------------------------------------------------------------------ test parts


@dataclass
class _Part:
    batches: Callable[[], Iterable[TaskBatch]]
    about: dict
    test: Examples | None = None
    train: Callable[[], Examples] | None = None


def test_part(head: Head, asked: Asked) -> _Part | str:
    """The test part of a head's set, or why it cannot be had."""
    config = head.config
    if config is None:
        return _air_run(head, asked)
    table = config.of(head.name)
    if head.set == AIR:
        windows = config.data.test_examples or AIR_WINDOWS
        config = replace(config, data=replace(config.data, test_examples=min(asked.windows or windows, windows)))
        return _Part(AirSource(head.task, config).testing, {"set": AIR, "seed": TEST_SEED, "drawn": "anew"})
    stored = head.training["data"][head.name]
    files = _files(head, asked, stored)
    if isinstance(files, str):
        return files
    set_name, parts = files
    label = table.label or head.task.label
    test = opened_part(parts[TEST], head.task, label, head.classes, replace(table, length=head.length))
    test = test.at_most(config.data.test_examples, 0).at_most(asked.windows, 0)
    about = {"set": set_name, "files": manifest(parts, TEST), "drawn": stored["drawn"] if asked.data is None else None,
             "trained_files": stored.get(TEST, {}).get("files", {})}
    about["same_files"] = set(about["files"].values()) == set(about["trained_files"].values())

    def train() -> Examples:
        whole = opened_part(parts[PARTS[0]], head.task, label, head.classes, replace(table, length=head.length))
        few = head.training.get("per_class")
        return whole.few(few, config.run.seed) if few else whole.at_most(config.data.train_examples, config.run.seed)

    return _Part(test.in_order, about, test, train if parts.get(PARTS[0]) else None)


def _files(head: Head, asked: Asked, stored: dict) -> tuple[str, SetFiles] | str:
    if asked.data is not None:
        if head.set in asked.data:
            return head.set, asked.data[head.set]
        known = [name for name in head.task.sets if name in asked.data]
        return (known[0], asked.data[known[0]]) if known else f"{head.set} is not among the files"
    drawn = stored.get("drawn")
    if not drawn:
        return f"it was trained on files of {head.set}; give their test part with --data"
    recipe = SETS.get(drawn["recipe"])
    if recipe is None or recipe.version != drawn["recipes"]:
        here = f"here it is of version {recipe.version}" if recipe else "here there is none of that name"
        return (f"{head.set} was drawn by version {drawn['recipes']} of the recipe {drawn['recipe']}, {here}; give its "
                "files with --data")
    asked.say(f"{head.name}: opening {head.set}, or drawing it")
    files, about = drawn_set(drawn["recipe"], asked.runs / "sets", "", drawn["seed"], drawn["items"])
    return head.set, files


def _air_run(head: Head, asked: Asked) -> _Part:
    config = config_from_dict(head.training["config"], "header")
    windows = min(asked.windows or config.run.test_windows, config.run.test_windows)

    def batches() -> Iterable[TaskBatch]:
        at = 0
        for batch in fixed_batches(TEST_SEED, windows, config):
            yield task_batch_of_air(batch, at)
            at += len(batch.snr)

    return _Part(batches, {"set": AIR, "seed": TEST_SEED, "drawn": "anew"})


# ------------------------------------------------------------------------------------------------ measuring


@torch.no_grad()
def _measured(model: MultiHead, head: Head, part: _Part, asked: Asked) -> Measured:
    model.eval()
    outputs, seen, features = [], [], []
    for batch in part.batches():
        pass_ = model.features(batch.iq_BL2, batch.rate_B)
        outputs.append(model.heads[head.name].answer(pass_).float())
        seen.append(batch)
        features.append(pass_.pooled_BF.float().numpy())
    found = Answers(head.spec, torch.cat(outputs), joined(seen))
    config = head.config
    if config is None:
        own = config_from_dict(head.training["config"], "header")
        figures = air.figures_of(found.outputs / head.calibration["temperature"], found.batch.label_B,
                                 found.batch.snr_B, own)
        config = TaskFinetuneConfig()
        full = figures_of(found, head.task, head.classes, part.about["set"], head.calibration, config)
        extra = {name: full[name] for name in ("kappa", "precision", "recall", "f1", "confusion")}
    else:
        figures = figures_of(found, head.task, head.classes, part.about["set"], head.calibration, config,
                             stored_targets(part.test))
        extra = {}
    if asked.baselines and has_baselines(head.task) and part.train is not None:
        with torch.enable_grad():
            figures["baselines"] = baseline_figures(head.task, part.train(), part.test, found.batch)
    return Measured(head, found, np.concatenate(features), figures, _details(head, found) | extra, part.about)


def _details(head: Head, found: Answers) -> dict:
    """What the figures leave out: calibration by confidence, detection curves, who is called unknown."""
    out: dict = {}
    task, spec = head.task, head.spec
    if spec.kind == RECONSTRUCTION:
        return out
    if spec.kind != ANOMALY:
        probability = (found.logits / head.calibration["temperature"]).softmax(-1)
        out["reliability"] = reliability(probability.max(-1).values.numpy(),
                                         (probability.argmax(-1) == found.batch.label_B).numpy())
        out["temperature_note"] = air.temperature_note(head.calibration["temperature"])
    if task.normal:
        out["curves"] = _curves(head, found)
    if "unknown" in head.calibration:
        energies = _energies(head, found.logits)
        threshold, snr = head.calibration["unknown"]["threshold"], found.batch.snr_B
        step = None if np.all(snr[np.isfinite(snr)] % 1 == 0) else 4.0
        out["unknown"] = {
            "threshold": threshold, "known_called_unknown": float((energies < threshold).mean()),
            "by_snr": measures.by_snr(snr, lambda mask: {"called_unknown": float((energies[mask] < threshold).mean())},
                                      step)}
    return clean(out)


def reliability(confidence_N: np.ndarray, right_N: np.ndarray) -> list[dict]:
    """A row for each bin of confidence that has windows: bounds, windows, mean confidence, share right."""
    place_N = np.clip(np.ceil(confidence_N * BINS).astype(int) - 1, 0, BINS - 1)
    return [{"from": k / BINS, "to": (k + 1) / BINS, "windows": int(own.sum()),
             "confidence": float(confidence_N[own].mean()), "accuracy": float(right_N[own].mean())}
            for k in range(BINS) if (own := place_N == k).any()]


def _curves(head: Head, found: Answers) -> dict:
    """Detections over false alarms: of all anomalies, of each class, at each SNR and ISR."""
    score, batch = detection_score(found, head.task, head.classes, head.calibration), found.batch
    label = batch.label_B.numpy()
    normal = label == head.classes.index(head.task.normal)
    groups = {"all": ~normal}
    if len(head.classes) > 2:
        groups |= {name: label == k for k, name in enumerate(head.classes) if name != head.task.normal}
    for unit, values in (("SNR", batch.snr_B), ("ISR", batch.isr_B)):
        levels = np.unique(values[~normal & np.isfinite(values)])
        if len(levels) > 1:
            groups |= {f"{unit} {level:g} dB": ~normal & (values == level) for level in levels}
    return {name: curve(score[normal], score[own]) for name, own in groups.items() if own.any() and normal.any()}


def curve(usual: np.ndarray, strange: np.ndarray) -> dict[str, list[float]]:
    """False alarms and detections, both rising, at most about a hundred points."""
    from sklearn.metrics import roc_curve

    truth = np.concatenate([np.zeros(len(usual)), np.ones(len(strange))])
    alarms, detected, _ = roc_curve(truth, np.concatenate([usual, strange]))
    if len(alarms) > CURVE:
        keep = np.unique(np.concatenate([np.linspace(0, len(alarms) - 1, CURVE).astype(int)]))
        alarms, detected = alarms[keep], detected[keep]
    return {"false_alarms": alarms.tolist(), "detected": detected.tolist()}


def _energies(head: Head, logits: torch.Tensor) -> np.ndarray:
    return energy(logits, head.calibration["temperature"]).numpy()


@torch.no_grad()
def _shown_to_each_other(model: MultiHead, out: Evaluation) -> None:
    """Each head that may answer unknown is shown windows of the other heads' sets, none of which is of its classes."""
    for name, one in out.measured.items():
        if "unknown" not in one.head.calibration:
            continue
        known, threshold = _energies(one.head, one.found.logits), one.head.calibration["unknown"]["threshold"]
        rows = {}
        for other, theirs in out.measured.items():
            if other == name or theirs.about["set"] == one.about["set"] or _of_modulations(one, theirs):
                continue
            pooled = torch.from_numpy(_evenly(theirs.features, FOREIGN))
            outputs = _from_pooled(model, one.head, pooled)
            logits = outputs[:, : len(one.head.spec.labels)]
            foreign = _energies(one.head, logits)
            told = measures.detection_scores(np.concatenate([-known, -foreign]),
                                             np.arange(len(known) + len(foreign)) >= len(known))
            rows[other] = clean({"set": theirs.about["set"], "windows": len(foreign), "auc": told["auc"],
                                 "called_unknown": float((foreign < threshold).mean())})
        out.report[name]["details"]["unknown"]["foreign"] = rows


def _of_modulations(one: Measured, other: Measured) -> bool:
    """A head of all modulations knows what communications are made of: only radar is strange to it."""
    return one.head.name == HEAD and other.head.name not in ("radar", "separation")


def _from_pooled(model: MultiHead, head: Head, pooled_BF: torch.Tensor) -> torch.Tensor:
    return model.heads[head.name](pooled_BF).float()


def _evenly(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]
