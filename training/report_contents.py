"""What an evaluation tells: the report as plain values, its tables and warnings, and the pictures of each section."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError
from emind.models.checkpoint import AUTOENCODER, read_header
from emind.runtime.weights import released

from . import measures
from . import report_pictures as draw
from .evaluation import FEATURES, Evaluation, Measured
from .pretrain_log import LOG, read_log
from .published import headline, tables_of
from .report_tables import of_head, summary, table
from .synthesis.build import file_hash
from .task_figures import clean
from .tasks import RECONSTRUCTION

CURVES = 12  # detection curves in one picture at most
PAPERS_LEVEL = "SNR -4 dB"  # of SpectrumFM's curve of spectrum sensing
MAP_SNR_DB = 0.0  # windows of a map of features have this SNR or more, where it is known
Pictures = dict[str, list[tuple[str, bytes]]]


def contents(
    path: Path, header: dict, evaluated: Evaluation | None, pretraining: dict | None, with_map: bool
) -> tuple[dict, Pictures]:
    """The report, but for what was run, and its pictures. ``pretraining``: of :func:`pretraining_of`."""
    heads = evaluated.report if evaluated else {}
    parameters = header["training"]["parameters"]
    report = {
        "weights": {"name": path.stem, "sha256": file_hash(path), "architecture": header["architecture"],
                    "parameters": parameters["encoder"] if isinstance(parameters, dict) else parameters,
                    "window": clean(header["window"])},
        "heads": heads, "pretraining": pretraining, "tables": {},
        "warnings": warnings(heads),
    }
    pictures: Pictures = {}
    for name, head in heads.items():
        report["tables"][name] = of_head(name, head, path.stem)
        pictures[name] = of_figures(name, head)
        one = evaluated.measured.get(name) if evaluated else None
        if one is not None:
            pictures[name] += of_windows(one, with_map)
    report["tables"]["summary"] = summary(report)
    if report["pretraining"]:
        report["tables"]["pretraining"] = pretraining_tables(report["pretraining"])
        probes = report["pretraining"]["probes"]
        if probes:
            pictures["pretraining"] = [("Linear probe over pretraining (EMind, figure 10)",
                                        draw.probe(probes, report["pretraining"]["name"]))]
    return report, pictures


def warnings(heads: dict[str, dict]) -> list[str]:
    """What a reader must know before the figures."""
    out = []
    for name, head in heads.items():
        if not head["measured"]:
            out.append(f"{name}: not measured anew, {head['why']}.")
        elif head["differs"]:
            out.append(f"{name}: {len(head['differs'])} figures differ from those of the file, the first is "
                       f"{head['differs'][0]}.")
        note = head.get("details", {}).get("temperature_note")
        if note:
            out.append(f"{name}: {note}.")
    return out


# ------------------------------------------------------------------------------------------------ pictures


def of_figures(name: str, head: dict) -> list[tuple[str, bytes]]:
    """Pictures that figures alone are enough for."""
    figures, details, out = head["figures"], head.get("details", {}), []
    rows = figures.get("by_snr") or []
    if rows and "accuracy" in rows[0]:
        marks = {} if head["trained"]["per_class"] else headline(head["set"])
        out.append(("Accuracy over SNR" + (", published means dotted" if marks else ""),
                    draw.accuracy_by_snr(rows, f"{name} on {head['set']}", marks)))
    if rows and "output_snr_db" in rows[0]:
        out.append(("SNR before and after", draw.denoising_by_snr(rows, f"{name} on {head['set']}")))
    if "mae_by_snr" in figures:
        out.append(("Mean absolute errors over SNR", draw.errors_by_snr(figures["mae_by_snr"], figures["units"], name)))
    counts = figures.get("confusion") or details.get("confusion")
    if counts:
        out.append(("Confusion: per cent of the true class, answered by column",
                    draw.confusion(counts, head["classes"], f"{name} on {head['set']}")))
    detection = figures.get("detection", figures if "auc" in figures else None)
    if detection:
        picture = draw.area_by_level({name: detection, **figures.get("baselines", {})}, f"{name} on {head['set']}")
        if picture:
            out.append(("Area under the curve by level, with the baselines", picture))
    if details.get("curves"):
        areas = _areas(detection)
        some = _some(details["curves"])
        out.append(("Detections over false alarms", draw.detection_curves(some, areas, f"{name} on {head['set']}")))
    if details.get("reliability"):
        out.append(("Calibration: share right over confidence, windows below",
                    draw.reliability(details["reliability"], figures["expected_calibration_error"], name)))
    return out


def _some(curves: dict[str, dict]) -> dict[str, dict]:
    """All that are of no level, and of levels as many as there is room for, that of the papers (-4 dB) among them."""
    levels = [name for name in curves if name.endswith(" dB")]
    room = max(1, CURVES - (len(curves) - len(levels)))
    step = -(-len(levels) // room) or 1
    first = levels.index(PAPERS_LEVEL) % step if PAPERS_LEVEL in levels else 0
    kept = set(levels[first::step])
    return {name: one for name, one in curves.items() if name in kept or name not in levels}


def _areas(detection: dict) -> dict[str, float | None]:
    areas = {"all": detection["auc"]}
    areas |= {name: one["auc"] for name, one in detection.get("by_class", {}).items()}
    for key in ("by_snr", "by_isr"):
        areas |= {f"{key[3:].upper()} {row[f'{key[3:]}_db']:g} dB": row["auc"] for row in detection.get(key, ())
                  if "auc" in row}
    return areas


def of_windows(one: Measured, with_map: bool) -> list[tuple[str, bytes]]:
    """Pictures of samples and features."""
    if one.head.spec.kind == RECONSTRUCTION:
        return _waveforms(one)
    if not with_map:
        return []
    batch = one.found.batch
    clear = ~(batch.snr_B < MAP_SNR_DB)
    index = np.flatnonzero(clear)
    index = index[np.unique(np.linspace(0, len(index) - 1, min(FEATURES, len(index))).astype(int))]
    classes = one.head.classes
    picture = draw.feature_map(one.features[index], batch.label_B.numpy()[index], classes, one.head.name)
    words = (f"t-SNE of the encoder's pooled features: {len(index)} test windows"
             + (f" of {MAP_SNR_DB:g} dB and above, or of unknown SNR" if not clear.all() else ""))
    return [(words, picture)] if picture else []


def _waveforms(one: Measured) -> list[tuple[str, bytes]]:
    """Windows at the quartiles of the gain: neither the best nor the worst."""
    mixture, truth, answer = (measures.as_complex(x) for x in (
        one.found.batch.iq_BL2, one.found.batch.targets_BKL2, one.found.outputs))
    there = np.flatnonzero(np.abs(truth).max(-1).min(-1) > 0)
    if not len(there):
        return []
    ordered = np.stack([a[measures.best_order(a, t)] for a, t in zip(answer[there], truth[there])])
    after = measures.si_sdr_db(ordered, truth[there]).mean(-1)
    gain = after - measures.si_sdr_db(np.broadcast_to(mixture[there][:, None], ordered.shape), truth[there]).mean(-1)
    out = []
    for share, words in ((0.75, "upper quartile"), (0.5, "median"), (0.25, "lower quartile")):
        k = int(np.argsort(gain)[int(share * (len(gain) - 1))])
        row = there[k]
        snr = one.found.batch.snr_B[row]
        title = f"{words} of the gain: SI-SDR {gain[k]:+.1f} dB" + (f", SNR {snr:g} dB" if np.isfinite(snr) else "")
        picture = draw.waveforms(mixture[row], truth[row], ordered[k], float(one.found.batch.rate_B[row]), title)
        out.append((f"Input, target and answer, I and Q and their spectra: test window {row}, {title}", picture))
    return out


# ------------------------------------------------------------------------------------------------ pretraining


def pretraining_of(path: Path, header: dict, given: Path | None) -> dict | None:
    """Probe and few-shot figures of the pretrained file: this one, the one given, or the released one that the encoder
    started from, known by its hash; else the released one of its size, with ``own`` false. Of a run's folder the probe
    alone. EMindError where ``given`` cannot be used."""
    if given is not None and given.is_dir():
        lines = read_log(given / LOG)
        found = [line for line in lines if line.get("kind") == "probe"]
        probes = [{key: line[key] for key in ("step", "signals", "accuracy")} for line in found]
        if not probes:
            raise EMindError(f"--pretraining {given}: its {LOG} tells of no probe")
        return {"name": given.name, "own": True, "probes": probes, "probe_set": None, "fewshot": None}
    own = True
    if given is not None:
        found, name = read_header(given), given.stem
        if AUTOENCODER not in found:
            raise EMindError(f"--pretraining {given}: not a pretrained file")
    elif AUTOENCODER in header:
        found, name = header, path.stem
    else:
        start = _first_start(header["training"])
        start = start and start.get("pretrained", start)
        pretrained = [p for p in released().values() if AUTOENCODER in read_header(p)]
        theirs = [p for p in pretrained if start and p.name == start["name"] and file_hash(p) == start["sha256"]]
        alike = [p for p in pretrained if _size(read_header(p)) == _size(header)]
        if not theirs and not alike:
            return None
        own = bool(theirs)
        found, name = read_header((theirs or alike)[0]), (theirs or alike)[0].stem
    training = found["training"]
    return {"name": name, "own": own, "probes": training["probes"], "probe_set": training["config"]["probe"]["set"],
            "fewshot": found["figures"].get("fewshot"), "signals": training["signals"], "steps": training["steps"]}


def _size(header: dict) -> tuple:
    return header["architecture"]["width"], header["architecture"]["depth"]


def _first_start(training: dict) -> dict | None:
    """What the encoder started from, through the files whose heads were kept."""
    kept = training.get("kept_heads")
    return (_first_start(kept["training"]) if kept else None) or training.get("init")


def pretraining_tables(own: dict) -> list[dict]:
    on = f" on {own['probe_set']}" if own["probe_set"] else ""
    out = []
    if own["probes"]:
        out.append(table(f"Linear probe over pretraining{on}", ["steps", "signals", "share right"],
                         [[p["step"], p["signals"], p["accuracy"]] for p in own["probes"]]))
    for one in (own["fewshot"] or {}).get("sets", ()):
        task = "radar" if one["label"] == "radar_waveform" else "modulation"
        for few in one["few"]:
            out.append(_few(one, few, task))
    return out


def _few(one: dict, few: dict, task: str) -> dict:
    rows = []
    published = tables_of(task, one["set"], few["k"])
    for each in published:
        rows += [[f"{who}, {each.where}", *values] for who, values in each.rows.items() if not each.ways]
    mine = []
    for track, arms in (("fine-tuned", few["fine_tuned"]), ("linear", few["linear"])):
        for arm, values in arms.items():
            mine.append(len(rows))
            rows.append([f"ours, {arm}, {track}", 100 * _mean(values["accuracy"]), 100 * _mean(values["kappa"])])
    unit = "a class and SNR" if one["per_snr"] else "a class"
    notes = [f"Mean over {len(one['seeds'])} seeds on {one['test']:,} test windows of {one['set']}; "
             + ("its recipe was pretrained on, with other windows." if one["pretrained_on"] else "not pretrained on.")]
    return table(f"Few-shot, {few['k']} {unit}, {one['set']}", ["", "OA, %", "kappa, %"], rows, notes, mine)


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


