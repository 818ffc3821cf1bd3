"""The page of a quality check: one HTML file with everything inside it, pictures too."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from pathlib import Path

import numpy as np
from emind.contract.schema import Signal
from emind.storage.parquet import Reader

from .quality import Report

SHOWN = 500  # faults in the table; the JSON has all of them
FAULTY = 8  # faulty rows that are drawn, one of each kind first
STYLE = """body{font:15px/1.45 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.6em 0}td,th{border:1px solid #ccc;padding:.15em .6em;text-align:left;
vertical-align:top}img{max-width:100%}.good{color:#176b2c}.bad{color:#a51d1d}
.bar{background:#4477aa;height:.7em;display:inline-block}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}img{background:#fff}td,th{border-color:#555}}"""


def picture(row: Signal, title: str) -> bytes:
    """PNG: waveform, spectrogram and constellation of a signal."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x = np.nan_to_num(np.asarray(row.iq, np.complex64), posinf=0, neginf=0)
    x = np.pad(x, (0, 8 - len(x))) if len(x) < 8 else x  # enough to draw
    rate, unit, hertz = (row.sampling_rate, "time (us)", "frequency (MHz)") if row.sampling_rate else (
        1.0, "sample", "cycles per sample")
    scale, mega = (1e6, 1e-6) if row.sampling_rate else (1.0, 1.0)
    figure = Figure(figsize=(11, 2.9), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    wave, spectrum, points = figure.subplots(1, 3, width_ratios=(2, 1.5, 1))
    t = np.arange(len(x)) / rate * scale
    wave.plot(t, x.real, lw=0.6, label="I")
    wave.plot(t, x.imag, lw=0.6, label="Q")
    wave.set(xlabel=unit, title=title)
    wave.legend(loc="upper right", fontsize=7)
    n = int(np.clip(2 ** int(np.log2(max(len(x), 8)) - 4), 8, 256))
    starts = np.arange(0, max(1, len(x) - n + 1), max(1, n // 4))
    pieces = np.pad(x, (0, max(0, n - len(x))))[starts[:, None] + np.arange(n)] * np.hanning(n)
    level = np.abs(np.fft.fftshift(np.fft.fft(pieces, axis=1), axes=1)) ** 2
    level = 10 * np.log10(np.maximum(level, max(level.max(), 1e-30) * 1e-8))
    spectrum.imshow(level.T, aspect="auto", origin="lower", vmin=level.max() - 50,
                    extent=(0, len(x) / rate * scale, -rate / 2 * mega, rate / 2 * mega))
    spectrum.set(xlabel=unit, ylabel=hertz)
    points.scatter(x.real, x.imag, s=2, alpha=0.5)
    points.set(xlabel="I", ylabel="Q")
    points.set_aspect("equal", "datalim")
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _table(head: tuple[str, ...], rows: list[tuple]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + f"</tr>{cells}</table>"


def _bars(title: str, counts: list[tuple[str, int]]) -> str:
    most = max((count for _, count in counts), default=1)
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{count:,}</td><td><span class='bar' style='width:"
                   f"{200 * count / most:.0f}px'></span></td></tr>" for name, count in counts[:40])
    more = f"<p>and {len(counts) - 40} more</p>" if len(counts) > 40 else ""
    return f"<details><summary>{html.escape(title)}: {len(counts)}</summary><table>{rows}</table>{more}</details>"


def _drawn(path: str, index: int, row: Signal, words: list[str]) -> str:
    labels = [(name, f"{value:g}" if isinstance(value, float) else value)
              for name, value in row.labels().items() if value is not None]
    image = base64.b64encode(picture(row, f"{Path(path).name}, row {index}")).decode()
    faults = "".join(f"<p class='bad'>{html.escape(text)}</p>" for text in words)
    return (f"<h3>{html.escape(path)}, row {index}: {len(row.iq)} samples</h3>{faults}"
            f"<img alt='waveform, spectrogram, constellation' src='data:image/png;base64,{image}'>"
            + _table(tuple(name for name, _ in labels), [tuple(value for _, value in labels)]))


def page(report: Report, draws: int, seed: int) -> str:
    """The whole page: what was checked, what was found, ``draws`` rows of each set of files drawn at random."""
    rng = np.random.default_rng(seed)
    words: dict[tuple[str, int], list[str]] = {}
    examples: dict[str, tuple[str, int]] = {}
    for fault in report.faults:
        words.setdefault((fault.file, fault.row), []).append(f"{fault.kind}: {fault.words}")
        examples.setdefault(fault.kind, (fault.file, fault.row))
    chosen = list(dict.fromkeys([*examples.values(), *words]))[:FAULTY]
    faulty, random = [], []
    for path in report.files:
        with Reader(path) as reader:
            for file, index in chosen:
                if file == path:
                    faulty.append(_drawn(path, index, reader[index], words[file, index]))
            for index in sorted(rng.choice(reader.count, min(draws, reader.count), replace=False).tolist()):
                random.append(_drawn(path, index, reader[index], words.get((path, index), [])))
    kinds: Counter = report.kinds()
    verdict = (f"<p class='bad'>{len(words):,} of {report.rows:,} rows have faults.</p>" if words else
               f"<p class='good'>{report.rows:,} rows, no faults.</p>")
    parts = ["<!doctype html><html lang='en'><meta charset='utf-8'><title>Quality of signals</title>",
             f"<style>{STYLE}</style><h1>Quality of signals</h1>{verdict}",
             "<ul>" + "".join(f"<li>{html.escape(path)}</li>" for path in report.files) + "</ul>"]
    if kinds:
        parts += ["<h2>Faults</h2>", _table(("kind", "times"), kinds.most_common()),
                  _table(("file", "row", "kind", "fault"),
                         [(f.file, f.row, f.kind, f.words) for f in report.faults[:SHOWN]])]
        if len(report.faults) > SHOWN:
            parts.append(f"<p>and {len(report.faults) - SHOWN:,} more</p>")
    if report.notes:
        parts.append("<h2>To know</h2><ul>" + "".join(f"<li>{html.escape(n)}</li>" for n in report.notes) + "</ul>")
    parts.append("<h2>What the sets hold</h2>")
    for name, counts in report.lengths.items():
        parts.append(f"<h3>{html.escape(name) or '(no name)'}: {sum(counts.values()):,} rows</h3>")
        parts.append(_bars("samples", [(f"{n:,}", count) for n, count in sorted(counts.items())]))
        for column, values in report.classes.get(name, {}).items():
            parts.append(_bars(column, sorted(values.items())))
        levels = sorted(report.levels.get(name, {}).items())
        if levels:
            parts.append(_bars("SNR in steps of 2 dB", [(f"{level} dB", count) for level, count in levels]))
    if faulty:
        parts += ["<h2>Faulty rows</h2>", *faulty]
    parts += [f"<h2>Random rows (seed {seed})</h2>", *random]
    return "\n".join(parts) + "</html>\n"
