"""Spectrogram of a recording with the labels drawn on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..contract.vocabulary import FAMILIES, NOISE, UNKNOWN
from ..dsp.band import TuningPlan
from ..storage.recording import Recording

if TYPE_CHECKING:
    from .classify import Run

COLUMNS, ROWS = 1400, 512  # of the spectrogram at most: bounded time and memory for any length
MOST_LABELS = 48  # longest runs get their name written; more would cover each other
BACKGROUND, INK, FAINT = "#0e1117", "#e6e8ee", "#8b93a7"
COLORS = dict(zip(FAMILIES, (
    "#5b6478", "#f2b134", "#4fa3ff", "#9b7bff", "#36d399", "#ff8a5c", "#ff5c7a", "#2ad4d9", "#e879f9", "#c8e65c")))


def spectrogram(recording: Recording) -> np.ndarray:
    """Power in dB, float32 (frequencies, columns), lowest frequency first; columns are evenly spread in time.

    Each column is the mean and the peak of its stretch in equal parts, so that short bursts stay visible.
    """
    size = int(np.clip(2 ** int(np.log2(max(recording.count / 64, 1))), 64, ROWS))
    stretches = recording.segments(size, 8 * COLUMNS)
    columns = min(len(stretches), COLUMNS)
    window = np.hanning(size).astype(np.float32)
    edges = np.linspace(0, len(stretches), columns + 1).astype(int)
    out = np.empty((size, columns), np.float32)
    for column, (first, last) in enumerate(zip(edges[:-1], edges[1:])):
        power = np.abs(np.fft.fftshift(np.fft.fft(stretches[first:last] * window, axis=1), axes=1)) ** 2
        out[:, column] = (power.mean(axis=0) + power.max(axis=0)) / 2
    return 10 * np.log10(out + 1e-12)


def plot_recording(recording: Recording, answers: Sequence[Run], path: Path, plan: TuningPlan | None = None,
                   truth: Sequence[Run] = (), title: str | None = None,
                   others: Mapping[str, Sequence[Run]] | None = None) -> None:
    """Writes a PNG: the spectrogram, below it a lane with the answers, one for each of ``others``, by head, and with
    ``truth`` one for that too."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    scale, unit = _time_unit(recording.count / recording.rate)
    band_scale, band_unit = next(((f, u) for f, u in ((1e6, "MHz"), (1e3, "kHz")) if recording.rate >= 2 * f),
                                 (1.0, "Hz"))
    duration = recording.count / recording.rate * scale
    lanes = [("answer", answers), *(others or {}).items()] + ([("truth", truth)] if truth else [])
    own = {"answer", "truth"}  # lanes whose colours stand for families
    style = {"axes.edgecolor": FAINT, "axes.labelcolor": INK, "xtick.color": FAINT, "ytick.color": FAINT,
             "text.color": INK, "font.size": 10, "axes.facecolor": BACKGROUND, "figure.facecolor": BACKGROUND}
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            1 + len(lanes), 1, sharex=True, figsize=(14, 6.4 + 0.62 * len(lanes)),
            gridspec_kw={"height_ratios": [8] + [0.75] * len(lanes), "hspace": 0.06})
        picture = spectrogram(recording)
        low, high = np.percentile(picture, [40, 99.7])
        half = recording.rate / 2 / band_scale
        axes[0].imshow(picture, aspect="auto", origin="lower", cmap="magma", vmin=low, vmax=max(high, low + 1),
                       extent=(0, duration, -half, half), interpolation="nearest")
        middle = "" if recording.center is None else f" from {recording.center / 1e6:.6g} MHz"
        axes[0].set_ylabel(f"frequency{middle} ({band_unit})")
        axes[0].set_title(title or recording.path.name, loc="left", fontsize=13, pad=12)
        if plan is not None and plan.band is not None:
            for edge in (plan.band.low, plan.band.high):
                axes[0].axhline(edge / band_scale, color=INK, lw=0.8, ls=(0, (6, 4)), alpha=0.7)
        for axis, (name, parts) in zip(axes[1:], lanes):
            colors = None if name in own else _colors_of(parts)
            _draw_lane(axis, name, parts, recording.rate / scale, duration, colors)
        for part in truth:
            if part.family != "noise":
                for edge in (part.start, part.end):
                    axes[0].axvline(edge / recording.rate * scale, color=INK, lw=0.5, alpha=0.35)
        axes[-1].set_xlabel(f"time ({unit})")
        axes[0].set_xlim(0, duration)
        families = list(dict.fromkeys(p.family for name, parts in lanes if name in own for p in parts))
        handles = [plt.Rectangle((0, 0), 1, 1, color=_color(f)) for f in families]
        axes[0].legend(handles, families, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(families) or 1,
                       frameon=False, fontsize=9, handlelength=1, columnspacing=1.2, labelcolor=INK)
        figure.savefig(path, format="png", dpi=110, bbox_inches="tight")
        plt.close(figure)


def _draw_lane(axis, name: str, parts: Sequence[Run], rate: float, duration: float,
               colors: Mapping[str, str] | None = None) -> None:
    """Boxes coloured by family, or by label where ``colors`` says how, with the names of those that are long enough to
    hold them."""
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
    from matplotlib.colors import to_rgba

    shades = [colors[part.label] if colors else _color(part.family) for part in parts]
    axis.broken_barh([(part.start / rate, (part.end - part.start) / rate) for part in parts], (0, 1), lw=0,
                     facecolors=[to_rgba(shade, 0.55 + 0.45 * min(part.confidence, 1.0))
                                 for shade, part in zip(shades, parts)])
    for part in sorted(parts, key=lambda p: p.start - p.end)[:MOST_LABELS]:
        share, middle = (part.end - part.start) / rate / duration, (part.start + part.end) / 2 / rate
        small = share <= 0.0075 * len(part.label)
        upright = share <= 0.0065 * len(part.label)
        if not upright or (share > 0.01 and len(part.label) <= 6):
            axis.text(middle, 0.5, part.label, ha="center", va="center", fontsize=7 if small else 9, color="#05070b",
                      fontweight="bold", rotation=90 if upright else 0, clip_on=True)


def _colors_of(parts: Sequence[Run]) -> dict[str, str]:
    """A colour for each label of a head; those that say that there is nothing are grey."""
    labels = sorted({part.label for part in parts})
    bright = [color for family, color in COLORS.items() if family != NOISE]
    named = {label: bright[place % len(bright)] for place, label in enumerate(labels)}
    return named | {label: COLORS[NOISE] for label in labels if label in (NOISE, "none", "normal", UNKNOWN)}


def _color(family: str) -> str:
    return COLORS.get(family, INK)


def _time_unit(seconds: float) -> tuple[float, str]:
    return next(((f, u) for f, u in ((1.0, "s"), (1e3, "ms")) if seconds * f >= 1), (1e6, "µs"))
