"""Figures of a trained model on generated windows: accuracy over SNR, calibration, confusion between families."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_accuracy

from emind.contract.vocabulary import FAMILIES, MODULATIONS, NOISE
from emind.models.heads import MultiHead

from .config import FinetuneConfig
from .finetune import FAMILY_OF_LABEL, TEST_SEED, VALIDATION_SEED, family_scores, fixed_batches, predict
from .lineage import as_run
from .measures import expected_calibration_error

SNR_STEP_DB = 4.0
TEMPERATURES = 0.05, 20.0  # unbounded, answers that are all right, or no better than chance, drive it to 0 or to 1e9


def temperature_of(logits_NC: Tensor, label_N: Tensor) -> float:
    """The temperature within ``TEMPERATURES`` that minimises the negative log-likelihood of these (validation)
    windows; a bound itself where the best lies at or beyond it."""
    logits_NC = logits_NC.double()

    def loss(log_t: float) -> float:
        return functional.cross_entropy(logits_NC / math.exp(log_t), label_N).item()

    low, high = map(math.log, TEMPERATURES)
    # The loss is convex in 1 / temperature, so a bounded search finds its only minimum.
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x
    best = min((low, high, best), key=loss)
    return TEMPERATURES[0] if best == low else TEMPERATURES[1] if best == high else math.exp(best)


def temperature_note(temperature: float) -> str:
    """What is to be said where a temperature met its bound; else nothing."""
    if TEMPERATURES[0] < temperature < TEMPERATURES[1]:
        return ""
    why = ("validation has hardly a wrong answer, so no confidence is too high for it"
           if temperature <= TEMPERATURES[0] else "the answers say next to nothing about the class")
    return f"the temperature met its bound of {temperature:g}: {why}"


def figures_of(logits_NC: Tensor, label_N: Tensor, snr_N: np.ndarray, config: FinetuneConfig) -> dict:
    """Everything the card prints, from calibrated logits."""
    picked = logits_NC.argmax(-1)
    family_log_p = family_scores(logits_NC)
    family, true_family = family_log_p.argmax(-1), FAMILY_OF_LABEL[label_N]
    right, right_family = (picked == label_N).numpy(), (family == true_family).numpy()
    edges = np.arange(config.data.snr_low_db, config.data.snr_high_db, SNR_STEP_DB)
    rows = []
    for low in edges:
        inside = (snr_N >= low) & (snr_N < low + SNR_STEP_DB)
        rows.append({
            "snr_db": float(low + SNR_STEP_DB / 2), "windows": int(inside.sum()),
            "accuracy": _mean(right[inside]), "family_accuracy": _mean(right_family[inside]),
        })  # fmt: skip
    by_class = {name: _mean(right[(label_N == k).numpy()]) for k, name in enumerate(MODULATIONS)}
    return {
        "windows": len(label_N),
        "accuracy": round(multiclass_accuracy(picked, label_N, len(MODULATIONS), average="micro").item(), 4),
        "family_accuracy": _mean(right_family),
        "expected_calibration_error": round(expected_calibration_error(logits_NC.softmax(-1), label_N), 4),
        "by_snr": rows,
        "by_class": by_class,
        "family_confusion": confusion_matrix(true_family, family, labels=range(len(FAMILIES))).tolist(),
    }


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def calibrate(model: MultiHead, config: FinetuneConfig) -> float:
    """Temperature on the validation windows."""
    logits, label, _ = predict(model, fixed_batches(VALIDATION_SEED, config.run.validation_windows, config))
    return temperature_of(logits, label)


def evaluate(model: MultiHead, temperature: float, config: FinetuneConfig) -> dict:
    """Figures on the test windows, which no choice was made on."""
    logits, label, snr = predict(model, fixed_batches(TEST_SEED, config.run.test_windows, config))
    return figures_of(logits / temperature, label, snr, config)


def plot_by_snr(figures: dict, path: Path, title: str) -> None:
    """Accuracy of class and family over SNR."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in figures["by_snr"] if row["windows"]]
    snr = [row["snr_db"] for row in rows]
    figure, axes = pyplot.subplots(figsize=(7.0, 3.6), layout="constrained")
    axes.plot(snr, [row["family_accuracy"] for row in rows], "o-", label=f"family ({len(FAMILIES)})")
    axes.plot(snr, [row["accuracy"] for row in rows], "s-", label=f"class ({len(MODULATIONS)})")
    axes.set(xlabel="SNR in the window's band, dB", ylabel="share right", ylim=(0, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def card(name: str, command: str, header: dict, picture: str) -> str:
    """The model card, from the header of the weights file and from nothing else."""
    training, figures, window = header["training"], header["figures"], header["window"]
    test, machine = figures["modulation"], training["machine"]
    architecture = ", ".join(f"{key} {value}" for key, value in header["architecture"].items())
    init = training.get("init")
    lines = [
        f"# {name}", "",
        f"EMind encoder with the head `modulation`: {len(MODULATIONS)} classes in {len(FAMILIES)} families.", "",
        f"- Architecture: {architecture}; {training['parameters']:,} parameters.",
        f"- Window: {window['length']} samples, hop {window['hop']}, normalised by `{window['normalisation']}`; "
        f"sample rates {window['rate_min_hz']:g} to {window['rate_max_hz']:g} Hz.",
        f"- Made by: `{as_run(command)}`", f"- Code: `{training['code']}`; seed {training['config']['run']['seed']}.",
        *([f"- Encoder started from `{init['name']}`, SHA-256 `{init['sha256']}`"
           + (f"; not from it: {', '.join(init['fresh'])}." if init["fresh"] else ".")] if init else []),
        f"- Data: {training['windows']:,} generated windows, each drawn once ({training['data']}). No recording was "
        "trained on.",
        f"- Time: {training['seconds'] / 60:.0f} minutes, {training['steps']:,} steps of "
        f"{training['config']['optim']['batch']} windows, on {machine['processor']}, "
        f"{training['config']['run']['threads']} threads shared with other work; torch {machine['torch']}.",
        f"- Calibration: temperature {header['calibration']['modulation']['temperature']:.3f}, fitted on "
        f"{training['config']['run']['validation_windows']:,} validation windows.", "",
        "## Figures on generated test windows", "",
        f"{test['windows']:,} windows of a seed of their own: class {test['accuracy']:.3f}, family "
        f"{test['family_accuracy']:.3f}, expected calibration error {test['expected_calibration_error']:.3f}. "
        "They do not predict the figures on real recordings, which stand in `docs/real-recordings.md`.", "",
        f"![Accuracy over SNR]({picture})", "",
        "| SNR, dB | windows | class | family |", "|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['snr_db']:g} | {row['windows']} | {row['accuracy']:.3f} | {row['family_accuracy']:.3f} |"
        for row in test["by_snr"]
        if row["windows"]
    ]
    lines += ["", f"SNR is over the whole band of the window; `{NOISE}` windows have none.", ""]
    lines += ["| class | share right |", "|---|---|"]
    lines += [f"| {label} | {share:.3f} |" for label, share in test["by_class"].items() if share is not None]
    lines += ["", "Families, true by row, answered by column:", "", "| | " + " | ".join(FAMILIES) + " |"]
    lines += ["|---" * (len(FAMILIES) + 1) + "|"]
    lines += [
        f"| **{FAMILIES[k]}** | " + " | ".join(str(count) for count in row) + " |"
        for k, row in enumerate(test["family_confusion"])
    ]
    lines += ["", "## Validation while training", "", "| step | class | family |", "|---|---|---|"]
    lines += [f"| {r['step']} | {r['accuracy']:.3f} | {r['family_accuracy']:.3f} |" for r in training["history"]]
    return "\n".join(lines) + "\n"
