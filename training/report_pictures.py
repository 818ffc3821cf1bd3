"""Pictures of an evaluation, as PNG: of figures in plain dicts, or of samples and features that no table could hold.

The same functions draw for the HTML page of `emind-train evaluate` and for the cards beside weights files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 90
NAMED = 30  # classes at most whose names stand on an axis
MAP_CLASSES = 20  # classes at most that have a colour in a map of features; the rest is grey
SHOWN_DB = 60.0  # of a spectrum, below its largest value
SAMPLES = 256  # of a waveform that are drawn


def png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **kinds):
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **kinds)


def accuracy_by_snr(rows: list[dict], title: str, published: dict[str, float] | None = None) -> bytes:
    """Share right over SNR, of classes and, where they have them, of families; means that others printed dashed."""
    rows = [row for row in rows if row["windows"]]
    snr = [row["snr_db"] for row in rows]
    figure, axes = _figure(7.0, 3.6)
    for key, name, style in (("accuracy", "class", "o-"), ("family_accuracy", "family", "s-")):
        if rows and key in rows[0]:
            axes.plot(snr, [row[key] for row in rows], style, markersize=4, label=name)
    for k, (name, value) in enumerate((published or {}).items()):
        axes.axhline(value / 100, linestyle=":", linewidth=1, color="grey")
        axes.annotate(f"{name}, published mean {value:g} %", (0.01 + 0.5 * (k % 2), value / 100), fontsize=7,
                      xycoords=("axes fraction", "data"), va="bottom")
    axes.set(xlabel="SNR, dB", ylabel="share right", ylim=(0, 1.02), title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return png(figure)


def confusion(counts: list[list[int]], classes: Sequence[str], title: str) -> bytes:
    """True by row, answered by column, shares of the row; numbers where there is room."""
    share = np.asarray(counts, float)
    share = share / np.maximum(share.sum(1, keepdims=True), 1)
    size = float(np.clip(0.42 * len(classes) + 2.2, 3.6, 9.5))
    figure, axes = _figure(size, size)
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axes.set(xlabel="answered", ylabel="true", title=title)
    if len(classes) <= NAMED:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classes)), classes, fontsize=7)
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.005:
                axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=6,
                          color="white" if value > 0.6 else "black")
    return png(figure)


def reliability(rows: list[dict], error: float, title: str) -> bytes:
    """Share right over confidence, with the share of windows in each bin below."""
    figure, (axes, counts) = _figure(4.2, 4.2, 2, 1, height_ratios=(3, 1), sharex=True)
    axes.plot([0, 1], [0, 1], "k:", linewidth=1)
    axes.plot([r["confidence"] for r in rows], [r["accuracy"] for r in rows], "o-", markersize=4)
    axes.set(ylabel="share right", xlim=(0, 1), ylim=(0, 1.02), title=f"{title}, ECE {error:.3f}")
    axes.grid(alpha=0.3)
    whole = sum(r["windows"] for r in rows)
    counts.bar([(r["from"] + r["to"]) / 2 for r in rows], [r["windows"] / whole for r in rows],
               width=[0.9 * (r["to"] - r["from"]) for r in rows])
    counts.set(xlabel="confidence", ylabel="windows")
    return png(figure)


def feature_map(features_NF: np.ndarray, label_N: np.ndarray, classes: Sequence[str], title: str) -> bytes | None:
    """t-SNE of pooled features, a colour a class; None where there are too few windows for one."""
    from sklearn.manifold import TSNE

    if len(features_NF) < 6:
        return None
    spread = features_NF.std(0)
    scaled = (features_NF - features_NF.mean(0)) / np.where(spread > 0, spread, 1.0)
    place = TSNE(perplexity=min(30.0, (len(scaled) - 1) / 4), init="pca", random_state=0).fit_transform(scaled)
    figure, axes = _figure(7.2, 5.2)
    colours = _colours()
    for k, name in enumerate(classes):
        own = label_N == k
        if own.any():
            named = k < MAP_CLASSES
            axes.scatter(*place[own].T, s=7, color=colours[k] if named else "lightgrey",
                         label=name if named else None)
    axes.set(xticks=[], yticks=[], title=title)
    axes.legend(fontsize=6, markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return png(figure)


def _colours() -> np.ndarray:
    from matplotlib import colormaps

    return colormaps["tab20"](np.arange(MAP_CLASSES))


def detection_curves(curves: dict[str, dict], areas: dict[str, float | None], title: str) -> bytes:
    """Detections over false alarms, for each group of windows."""
    figure, axes = _figure(6.4, 4.2)
    for k, (name, one) in enumerate(curves.items()):
        area = areas.get(name)
        axes.plot(one["false_alarms"], one["detected"], "-" if k < 10 else "--", linewidth=1.2,
                  label=name if area is None else f"{name} (AUC {area:.3f})")
    axes.plot([0, 1], [0, 1], "k:", linewidth=1)
    axes.set(xlabel="false alarms", ylabel="detected", xlim=(0, 1), ylim=(0, 1.02), title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return png(figure)


def area_by_level(figures: dict[str, dict], title: str) -> bytes | None:
    """Area under the curve over SNR, or ISR: the head and its baselines, each by name."""
    key = next((key for key in ("by_snr", "by_isr") if any(key in one for one in figures.values())), None)
    if key is None:
        return None
    level = f"{key[3:]}_db"
    figure, axes = _figure(6.6, 3.4)
    for k, (name, one) in enumerate(figures.items()):
        rows = [row for row in one.get(key, ()) if row["auc"] is not None]
        axes.plot([r[level] for r in rows], [r["auc"] for r in rows], "o-" if not k else "--", markersize=4, label=name)
    axes.set(xlabel=f"{key[3:].upper()}, dB", ylabel="area under the curve", ylim=(0.4, 1.02), title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return png(figure)


def errors_by_snr(rows: list[dict], units: dict[str, str], title: str) -> bytes:
    """Mean absolute error of each parameter over SNR; times in microseconds."""
    figure, panels = _figure(9.0, 2.8, 1, len(units), squeeze=False)
    for axes, (name, unit) in zip(panels[0], units.items(), strict=True):
        scale = 1e6 if unit == "s" else 1.0
        axes.plot([r["snr_db"] for r in rows], [r[name] * scale for r in rows], "o-", markersize=3)
        axes.set(xlabel="SNR, dB", title=name + (", µs" if unit == "s" else ""), ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    return png(figure)


def denoising_by_snr(rows: list[dict], title: str) -> bytes:
    """SNR of output and input over the label, as stored and with the carrier offset fitted."""
    figure, panels = _figure(8.4, 3.4, 1, 2, sharey=True)
    titles = ("", "against the target"), ("fitted_", "offset and gain fitted")
    for axes, (prefix, name) in zip(panels, titles, strict=True):
        snr = [r["snr_db"] for r in rows]
        axes.plot(snr, [r[f"{prefix}input_snr_db"] for r in rows], "s--", markersize=4, label="untouched input")
        axes.plot(snr, [r[f"{prefix}output_snr_db"] for r in rows], "o-", markersize=4, label="output")
        axes.set(xlabel="SNR label, dB", title=name)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("SNR, dB")
    panels[0].legend()
    figure.suptitle(title, fontsize=10)
    return png(figure)


def waveforms(
    mixture_L: np.ndarray, target_KL: np.ndarray, answer_KL: np.ndarray, rate_hz: float, title: str
) -> bytes:
    """Input, targets and answers of a window: I and Q over time on the left, power spectra on the right."""
    lines = [("input", mixture_L)]
    for k in range(len(target_KL)):
        number = f" {k + 1}" if len(target_KL) > 1 else ""
        lines += [(f"target{number}", target_KL[k]), (f"answer{number}", answer_KL[k])]
    known = np.isfinite(rate_hz) and rate_hz > 0
    rate, time_unit, frequency_unit = (rate_hz, "µs", "MHz") if known else (1.0, "sample", "of the rate")
    figure, panels = _figure(9.5, 1.25 * len(lines) + 0.8, len(lines), 2, width_ratios=(2, 1), sharex="col")
    length = len(mixture_L)
    start = int(np.argmax(np.convolve(np.abs(target_KL).sum(0) ** 2, np.ones(min(SAMPLES, length)), "valid")))
    part = slice(start, start + SAMPLES)
    time = np.arange(length)[part] / rate * (1e6 if known else 1)
    frequency = np.fft.fftshift(np.fft.fftfreq(length)) * rate * (1e-6 if known else 1)
    top = max(_spectrum(x).max() for _, x in lines)
    for (name, x), (wave, spectrum) in zip(lines, panels, strict=True):
        wave.plot(time, x.real[part], linewidth=0.7)
        wave.plot(time, x.imag[part], linewidth=0.7)
        wave.set_ylabel(name, fontsize=8)
        spectrum.plot(frequency, np.maximum(_spectrum(x), top - SHOWN_DB), linewidth=0.6)
        spectrum.set_ylim(top - SHOWN_DB, top + 3)
        for axes in (wave, spectrum):
            axes.tick_params(labelsize=7)
            axes.grid(alpha=0.3)
    panels[-1][0].set_xlabel(time_unit, fontsize=8)
    panels[-1][1].set_xlabel(frequency_unit + ", power in dB", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return png(figure)


def _spectrum(x: np.ndarray) -> np.ndarray:
    power = np.abs(np.fft.fftshift(np.fft.fft(x * np.hanning(len(x))))) ** 2
    return 10 * np.log10(power + 1e-12)


def probe(probes: list[dict], title: str) -> bytes:
    """Accuracy of a linear probe over the steps of pretraining: the paper's figure 10."""
    figure, axes = _figure(6.6, 3.4)
    axes.plot([p["step"] for p in probes], [100 * p["accuracy"] for p in probes], "o-")
    axes.axhline(100 * probes[0]["accuracy"], color="grey", linestyle=":", label=f"after {probes[0]['step']} steps")
    axes.set(xlabel="steps of pretraining", ylabel="linear probe, % right", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return png(figure)
