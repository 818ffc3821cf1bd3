"""`emind enrol`: adds a class to weights from a handful of recorded windows, or takes it away."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..contract.errors import EMindError, UsageError
from ..contract.schema import LABELS, checked_label
from ..storage.recording import FORMATS

if TYPE_CHECKING:
    from ..runtime.enrolling import Report

PARQUET = (".parquet", ".part")
READ_SAMPLES = 1 << 25  # of a recording: more say little about a class of a few hundred windows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the class or emitter")
    parser.add_argument("recordings", metavar="RECORDING", nargs="*",
                        help="what it sounds like: .parquet or .sigmf-meta files, or raw ones with --format and --rate")
    parser.add_argument("--out", metavar="OUT.safetensors", required=True,
                        help="where the weights with the class are written; may be the --weights themselves")
    parser.add_argument("--weights", default="emind-nano", metavar="NAME", help="weights to begin with")
    parser.add_argument("--head", default="modulation", metavar="HEAD",
                        help="head that gets the class; one that the weights lack becomes a head of enrolled classes "
                             "alone, which answers unknown for everything else (default: modulation)")
    parser.add_argument("--remove", action="store_true", help="take the class away again")
    what = parser.add_argument_group("windows")
    what.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE",
                      help="of a .parquet file only rows with this label; may be given again")
    what.add_argument("--most", type=int, default=200, metavar="N", help="windows at most, spread out (default: 200)")
    what.add_argument("--format", metavar="NAME", help=f"sample format of a raw file: {', '.join(FORMATS)}")
    what.add_argument("--rate", type=float, metavar="HZ", help="sample rate, where the recording does not state it")
    what.add_argument("--no-tune", action="store_true", help="take the samples as they are, as a receiver does "
                      "that is tuned to the signal already")
    parser.add_argument("--backend", default="auto", metavar="NAME", help="what computes (default: auto)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(options: argparse.Namespace) -> int:
    if options.remove == bool(options.recordings):
        raise UsageError("give recordings of the class to enrol it, or --remove and none")
    if options.most < 1:
        raise UsageError(f"--most {options.most} must be at least 1")
    if not options.out.endswith(".safetensors") or not Path(options.out).parent.is_dir():
        raise UsageError(f"--out {options.out}: a name that ends in .safetensors, in a folder that exists")
    from ..runtime.enrolling import enrol, load, remove, save

    path, model, window, header = load(options.weights)
    if options.remove:
        remove(model, header, options.name, options.head)
        save(options.out, model, window, header)
        told = {"removed": options.name, "head": options.head, "weights": options.out}
        print(json.dumps(told) if options.json else
              f"{options.name} is no longer enrolled in head {options.head}; wrote {options.out}")
        return 0
    windows, rates = windows_from(options, window.length)
    report = enrol(model, window, header, options.name, windows, rates, options.head, options.backend)
    save(options.out, model, window, header)
    if options.json:
        print(json.dumps(report.to_dict() | {"weights": options.out}))
    else:
        print("\n".join(lines(report, options.out)))
    return 0


def windows_from(options: argparse.Namespace, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows (N, length) complex64 of all recordings that hold a signal, at most ``--most``, and their rates in Hz."""
    parts = []
    for name in options.recordings:
        if name.endswith(PARQUET):
            parts.append(_of_rows(name, options, length))
        else:
            parts.append(_of_recording(name, options, length))
    windows, rates = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    if not len(windows):
        raise EMindError("no window that holds a signal was found in what was given")
    picked = np.linspace(0, len(windows) - 1, min(options.most, len(windows))).astype(int)
    return windows[picked], rates[picked]


def _of_rows(name: str, options: argparse.Namespace, length: int) -> tuple[np.ndarray, np.ndarray]:
    from ..dsp.cutting import rows_to_take, windows_of_rows
    from ..storage.parquet import Reader

    wanted = {}
    for text in options.where:
        column, equals, value = text.partition("=")
        if not equals or column not in LABELS:
            raise UsageError(f"--where {text}: COLUMN=VALUE with one of {', '.join(LABELS)}")
        try:
            wanted[column] = checked_label(column, value)  # as the column stores it: a number is no text
        except EMindError as fault:
            raise UsageError(f"--where {text}: {fault}") from None
    with Reader(name) as rows:
        numbers = rows.where(**wanted) if wanted else np.arange(len(rows))
        numbers = numbers[rows_to_take(rows.columns(["snr"])["snr"][numbers], options.most)]
        windows, rates = windows_of_rows((rows[row] for row in numbers.tolist()), length)
    return windows, np.full(len(rates), options.rate) if options.rate else rates


def _of_recording(name: str, options: argparse.Namespace, length: int) -> tuple[np.ndarray, np.ndarray]:
    from ..dsp.cutting import tuned, windows_of, with_signal
    from ..storage.recording import open_recording
    from .classify import estimated_plan

    recording = open_recording(name, options.format, options.rate)
    samples, rate = recording.read(0, min(recording.count, READ_SAMPLES)), recording.rate
    if not np.isfinite(samples).all():
        raise EMindError(f"{recording.data}: holds values that are not finite; the file is damaged or the format is "
                         "another one")
    if not options.no_tune and samples.any():
        samples, rate = tuned(samples, rate, estimated_plan(recording, length))
    windows = windows_of(samples, length)
    windows = windows[with_signal(windows)]
    return windows, np.full(len(windows), rate)


def lines(report: Report, out: str) -> list[str]:
    """The report as a person reads it."""
    def shares(of: dict[str, float]) -> str:
        return ", ".join(f"{label} {share:.0%}" for label, share in of.items())

    told = [f"{report.name}: enrolled in head {report.head} from {report.windows} windows; wrote {out}",
            f"  recognised   {report.recognised:.0%} of its own windows, each judged by the others"]
    if report.before:
        told.append(f"  until now    they were answered {shares(report.before)}")
    if report.resembles:
        told.append("  resembles    " + ", ".join(f"{label} ({ratio:.1f} times as far as its own centre)"
                                                  for label, ratio in report.resembles.items()))
    if report.taken_for or report.takes:
        told.append("  enrolled too " + "; ".join(
            [f"its windows are nearer to {label}: {share:.0%}" for label, share in report.taken_for.items()]
            + [f"{label}'s are nearer to it: {share:.0%}" for label, share in report.takes.items()]))
    told.append(f"  old answers  {100 * report.changed:.2f} % of those to windows of known classes change"
                + (f", most of all: {shares(dict(list(report.taken_from.items())[:3]))}" if report.taken_from else ""))
    return told + [f"  beware       {remark}" for remark in report.remarks]
