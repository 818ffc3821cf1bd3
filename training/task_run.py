"""`emind-train finetune` on sets of signals: from a configuration to a weights file with its figures.

    files, or a set drawn ─► model by track ─► training ─► calibration on validation ─► test, once ─► weights file
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from emind.contract.errors import UsageError
from emind.contract.window import HeadSpec, WindowSpec

from .episodes import episodes
from .features import encoder_features
from .task_config import TaskFinetuneConfig
from .evaluate import temperature_note
from .task_baselines import baseline_figures, has_baselines
from .task_figures import answers, calibrated, figures_of, fit_anomaly, stored_targets
from .task_files import files_by_set
from .task_model import Prepared, check_track, finished, prepared
from .task_names import FEW_SHOT, FULL, PROBE
from .task_sources import FileSource, Source, source_of
from .task_train import train
from .tasks import ANOMALY, CLASSIFICATION, REGRESSION, Task, tasks_named

SETS_FOLDER = "sets"  # below the runs: sets that were drawn because no files were given


@dataclass(frozen=True)
class Asked:
    """What the options say. ``data``: files or folders of files; none draws the sets. ``ways`` above 0: episodes."""

    tasks: tuple[str, ...]
    config: TaskFinetuneConfig
    runs: Path
    data: tuple[Path, ...] = ()
    init: Path | None = None
    track: str = FULL
    freeze: bool = False
    per_class: int = 0
    ways: int = 0
    baselines: bool = False
    resume: bool = False
    say: Callable[[str], None] = print


@dataclass
class Result:
    """Everything that `save_weights` asks for."""

    own: Prepared
    window: WindowSpec
    calibration: dict
    figures: dict
    training: dict = field(default_factory=dict)


def run(asked: Asked) -> Result:
    """Train, calibrate and measure.

    Raises
    ------
    UsageError: options that contradict each other, a task or set that is not known
    EMindError: files, weights or a checkpoint that cannot be used; a loss that is not finite
    """
    tasks = tasks_named(asked.tasks)
    few = asked.per_class or asked.config.data.per_class
    _check(asked, tasks, few)
    config = asked.config.with_tasks([task.name for task in tasks])
    files = files_by_set(asked.data) if asked.data else None
    sources = [source_of(task, config, files, asked.runs / SETS_FOLDER, few if asked.track == FEW_SHOT else 0)
               for task in tasks]
    for source in sources:
        asked.say(f"{source.task.name}: {source.set}, {_counts(source)}")
    torch.manual_seed(config.run.seed)
    specs = {source.task.name: _spec(source, config, asked.track) for source in sources}
    own = prepared(specs, config.model, asked.track, asked.init, asked.freeze, config.lora)
    folder = asked.runs / config.run.name
    record = train(own, sources, config, folder, asked.resume, asked.track)
    own = finished(own)
    torch.set_num_threads(config.run.threads)
    calibration, figures = _kept(own)
    fitted = {}
    for source in sources:
        name = source.task.name
        if specs[name].kind == ANOMALY:
            fitted[name] = fit_anomaly(own, name, source.classes.index(source.task.normal), source.train.in_order(),
                                       source.validating(), config.run.false_alarms)
        entry = calibrated(answers(own, name, source.validating()), source.task, config)
        if entry:
            calibration[name] = entry
        found = answers(own, name, source.testing())
        figures[name] = {"set": source.set, "track": asked.track} | figures_of(
            found, source.task, source.classes, source.set, entry, config, stored_targets(source.test))
        if "temperature" in entry and temperature_note(entry["temperature"]):
            asked.say(f"{name}: {temperature_note(entry['temperature'])}")
        if asked.baselines and has_baselines(source.task):
            figures[name]["baselines"] = baseline_figures(source.task, source.train, source.test, found.batch)
        if asked.ways:
            figures[name]["episodes"] = _episodes(own, source, asked.ways, few, config)
        asked.say(f"{name}: {headline(figures[name])}")
    training = {
        "config": config.to_dict(), "tasks": [task.name for task in tasks], "track": asked.track,
        "per_class": few if asked.track == FEW_SHOT else None, **record, "fitted": fitted,
        "parameters": sum(p.numel() for p in own.model.parameters()),
        "learned_parameters": _learned(own), "data": {source.task.name: source.about() for source in sources},
        "heads": {source.task.name: {"length": source.length, "rates_hz": source.rates,
                                     "classes": list(source.classes)} for source in sources},
    }  # fmt: skip
    if own.kept:
        training["kept_heads"] = {"heads": list(own.kept), "of": own.init, "training": own.header["training"]}
    return Result(own, _window(own, sources), calibration, figures, training)


def headline(figures: dict) -> str:
    """The figures of a head in one line."""
    if "accuracy" in figures:
        line = f"{figures['windows']} test windows, {figures['accuracy']:.3f} right, kappa {figures['kappa']:.3f}"
        if "mae" in figures:
            line += ", mean errors " + ", ".join(
                f"{name} {value:.4g} {figures['units'][name]}".rstrip() for name, value in figures["mae"].items())
        return line + (f", AUC {_number(figures['detection']['auc'])}" if "detection" in figures else "")
    if "auc" in figures:
        return f"{figures['windows']} test windows, AUC {_number(figures['auc'])}"
    if "output_snr_db" in figures:
        return (f"{figures['windows']} test windows, SNR {_number(figures['input_snr_db'])} dB before, "
                f"{_number(figures['output_snr_db'])} dB after")
    return (f"{figures['windows']} test windows, SI-SDR {_number(figures['estimate']['si_sdr'])} dB, the untouched "
            f"mixture {_number(figures['mixture']['si_sdr'])} dB")


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _check(asked: Asked, tasks: Sequence[Task], few: int) -> None:
    check_track(asked.track, asked.init, asked.freeze)
    if (asked.track == FEW_SHOT) != bool(few):
        raise UsageError("--track few-shot and --per-class K go together")
    if asked.ways < 0 or asked.ways == 1 or few < 0:
        raise UsageError(f"--ways {asked.ways} must be at least 2, and --per-class {few} at least 1")
    if asked.config.kinds.share and (asked.freeze or asked.track == PROBE):
        raise UsageError("[kinds] trains the encoder, which is frozen here: leave the table out")
    if asked.baselines and not any(has_baselines(task) for task in tasks):
        raise UsageError("--baselines: energy detection for sensing and an autoencoder for anomaly; networks for the "
                         "other tasks are trained by `emind-train compare`")
    if asked.ways and (asked.track != FEW_SHOT or any(task.kind != CLASSIFICATION for task in tasks)):
        raise UsageError("--ways N asks for N-way K-shot episodes: give it with --track few-shot, for tasks of classes")


def _spec(source: Source, config: TaskFinetuneConfig, track: str) -> HeadSpec:
    table = config.of(source.task.name)
    spec = source.task.head(source.classes, table.skip, table.detector)
    if track == PROBE and spec.kind in (CLASSIFICATION, REGRESSION):
        return replace(spec, linear=True)
    return spec


def _counts(source: Source) -> str:
    if isinstance(source, FileSource):
        classes = f", {len(source.classes)} classes" if source.classes else ""
        return f"{len(source.train)} training and {len(source.validation)} validation examples{classes}"
    return f"drawn while training, {len(source.classes)} classes"


def _kept(own: Prepared) -> tuple[dict, dict]:
    """Calibration and figures of the heads that are kept, as their file has them."""
    if own.header is None:
        return {}, {}
    calibration, figures = ({name: own.header[key][name] for name in own.kept if name in own.header[key]}
                            for key in ("calibration", "figures"))
    return calibration, figures


def _episodes(own: Prepared, source: Source, ways: int, shots: int, config: TaskFinetuneConfig) -> dict:
    """N-way K-shot on the test part, with the features of the encoder as it is now."""
    features, labels = [], []
    for batch in source.testing():
        iq = batch.iq_BL2.numpy()
        features.append(encoder_features(own.model.encoder, list(np.ascontiguousarray(iq).view(np.complex64)[..., 0]),
                                         batch.rate_B.numpy()))
        labels.append(batch.label_B.numpy())
    e = config.episode
    return episodes(np.concatenate(features), np.concatenate(labels), ways, shots, e.queries, e.episodes,
                    config.run.seed)


def _learned(own: Prepared) -> int:
    """Values that learned: of adapters, the merged layers count."""
    encoder = 0 if own.frozen else sum(p.numel() for p in own.model.encoder.parameters())
    return encoder + sum(p.numel() for name in own.learning for p in own.model.heads[name].parameters())


def _window(own: Prepared, sources: Sequence[Source]) -> WindowSpec:
    """Of the file whose heads are kept; else of the first task, with the rates that any of the tasks has seen."""
    if own.kept:
        return own.window
    length = sources[0].length
    rates = [source.rates for source in sources]
    known = [pair for pair in rates if pair is not None]
    low, high = (0.0, math.inf) if len(known) < len(rates) else (min(p[0] for p in known), max(p[1] for p in known))
    return WindowSpec(length=length, hop=length, patch=own.model.encoder.config.patch, rate_min_hz=low,
                      rate_max_hz=high)

