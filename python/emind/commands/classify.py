"""`emind classify`: runs the flowgraph on a recording; JSON lines, SigMF annotations, a picture, a table."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..contract.errors import EMindError, UsageError
from ..contract.vocabulary import NOISE, UNKNOWN, family_of
from ..dsp.band import MAX_STRETCHES, Band, TuningPlan, fft_size, occupied_band, plan_tuning
from ..dsp.neighbours import Known, decided
from ..storage.recording import (
    DATA_SUFFIX, FORMATS, META_SUFFIX, Recording, annotated_metadata, check_samples, open_recording)
from ..storage.replacing import replacing
from .head_text import (
    MAIN_HEAD, OUTSIDE_MARK, OUTSIDE_NOTE, add_heads_argument, any_outside, left_out_note, main_of, others_of, summary)

if TYPE_CHECKING:
    from .flowgraph import Answer

Progress = Callable[[int, int], None]  # called with how many are done and how many there are
NOISE_FAMILY = family_of(NOISE)
BURST_SNR_DB = 6.0  # a window this far above the floor shows that the floor is one
SURE = 0.9  # confidence with which an answer stands at the noise floor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", metavar="RECORDING",
                        help="a .sigmf-meta file, or a raw file of IQ samples with --format and --rate")
    parser.add_argument("--format", metavar="NAME", help=f"sample format of a raw file: {', '.join(FORMATS)}")
    parser.add_argument("--rate", type=float, metavar="HZ", help="sample rate, where the recording does not state it")
    out = parser.add_argument_group("output (without --json: a table)")
    out.add_argument("--json", metavar="FILE", help="one JSON object a window and line; - writes to standard output")
    out.add_argument("--annotate", metavar="OUT.sigmf-meta", help="the recording's SigMF metadata with annotations")
    out.add_argument("--plot", metavar="OUT.png", help="a spectrogram with the labels drawn on it")
    out.add_argument("--quiet", action="store_true", help="no progress and no remarks on standard error")
    tune = parser.add_argument_group("tuning (otherwise to the band that the recording's spectrum shows as occupied)")
    tune.add_argument("--center", type=float, metavar="HZ",
                      help="middle of the signal, relative to the recording's centre frequency "
                           "(below it: --center=-3e5)")
    tune.add_argument("--bandwidth", type=float, metavar="HZ", help="width of the signal")
    tune.add_argument("--no-tune", action="store_true", help="take the samples as they are")
    model = parser.add_argument_group("inference")
    model.add_argument("--weights", default="emind-nano", metavar="NAME", help="name or path of a weights file")
    add_heads_argument(model)
    model.add_argument("--hop", type=int, default=0, metavar="N",
                       help="samples from window to window, after tuning (default: the window length)")
    model.add_argument("--no-gate", action="store_true",
                       help="keep unsure answers for windows at the recording's noise floor too (default: noise)")
    model.add_argument("--no-neighbours", action="store_true",
                       help="every window's modulation by itself (default: windows between which there is no noise "
                            "support each other)")
    model.add_argument("--policy", choices=("lossless", "realtime"), default="lossless",
                       help="realtime leaves out windows that cannot be answered in time (default: lossless)")
    model.add_argument("--batch", type=int, default=32, metavar="N", help="windows inferred together (default: 32)")
    model.add_argument("--backend", default="auto", metavar="NAME", help="what computes (default: auto)")
    model.add_argument("--threads", type=int, default=0, metavar="N", help="processor threads (default: 0 = all)")


def run(options: argparse.Namespace) -> int:
    say = _silent if options.quiet else _say
    recording = open_recording(options.recording, options.format, options.rate)
    _check_options(options, recording)
    silent_recording = not check_samples(recording)
    with ExitStack() as outputs:  # opened before anything long runs; named only when all is done
        json_path = outputs.enter_context(replacing(options.json)) if options.json not in (None, "-") else None
        plot_path = outputs.enter_context(replacing(options.plot)) if options.plot else None
        meta_path = outputs.enter_context(replacing(options.annotate)) if options.annotate else None
        data = data_beside(recording, options.annotate) if options.annotate else None
        if data:
            annotated_metadata(recording, [], data.name)  # whether theirs is valid shows before anything long runs
        engine = load(options.weights, options.backend, options.threads, options.heads)
        main, others = main_of(engine.heads), others_of(engine.heads)
        length = engine.spec.length
        if options.hop > length:
            raise UsageError(f"--hop {options.hop} is longer than the window of {length} samples")
        if recording.count < length:
            say(f"{recording.path}: {recording.count} samples are fewer than one window of {length}; "
                "the rest of the window is filled with zeros")
        if recording.cuts:
            say(f"{recording.path}: {len(recording.cuts) + 1} captures; what is found is told of each by itself, and a "
                "window over a boundary holds both")
        if silent_recording:
            known = any(NOISE in head.labels for head in engine.heads.values())
            say(f"{recording.path}: every sample is zero; "
                + ("reported as noise" if known else f"{', '.join(engine.heads)} cannot say so and says nothing"))
        plan = choose_plan(options, recording, length, silent_recording)
        say(describe(plan, recording))
        with ExitStack() as stack:
            progress = None if options.quiet else progress_bar(stack, "windows")
            answers, skipped = classify(recording, engine, plan, options.hop, options.policy, options.batch, progress)
        if skipped:
            say(f"{skipped} windows were skipped (policy {options.policy})")
        if not options.no_gate:
            answers, gated = floor_as_noise(answers)
            if gated:
                say(f"{gated} windows at the noise floor reported as noise (--no-gate keeps the model's answers)")
        if not options.no_neighbours:
            answers, changed = by_neighbours(answers, engine)
            if changed:
                say(f"{changed} windows follow their neighbours (--no-neighbours keeps the model's answers)")
        if json_path:
            with json_path.open("w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in json_lines(answers, recording.rate))
        if meta_path and data:
            metadata = annotated_metadata(recording, annotations(answers, recording, plan, main, others), data.name)
            meta_path.write_text(json.dumps(metadata, indent=4) + "\n", encoding="utf-8")
            link_data(recording, data)
        if plot_path:
            from .plot import plot_recording

            lanes = {name: runs(answers, name, (), recording.cuts) for name in others if engine.heads[name].labels}
            plot_recording(recording, runs(answers, main, (), recording.cuts), plot_path, plan=plan, others=lanes)
    if options.json == "-":
        for line in json_lines(answers, recording.rate):
            print(line)
        sys.stdout.flush()
    if options.json is None:
        print_table(runs(answers, main, others, recording.cuts), recording, main, others, options.heads is not None)
    return 0


def _say(text: str) -> None:
    print(f"emind: {text}", file=sys.stderr)


def _silent(text: str) -> None:
    pass


def _check_options(options: argparse.Namespace, recording: Recording) -> None:
    """UsageError for arguments that cannot work together or are out of range."""
    if options.no_tune and (options.center is not None or options.bandwidth is not None):
        raise UsageError("--no-tune cannot go with --center or --bandwidth")
    if options.center is not None and options.bandwidth is None:
        raise UsageError("--center also needs --bandwidth, the width of the signal in Hz")
    if options.bandwidth is not None and not 0 < options.bandwidth <= recording.rate:
        raise UsageError(f"--bandwidth {options.bandwidth:g} must be above 0 and at most the rate of "
                         f"{recording.rate:g} Hz")
    if options.center is not None and not abs(options.center) <= recording.rate / 2:
        raise UsageError(f"--center {options.center:g} lies outside the recording: at most {recording.rate / 2:g} Hz "
                         "to either side of its centre frequency")
    if options.hop < 0 or options.batch < 1 or options.threads < 0:
        raise UsageError("--hop and --threads cannot be negative, --batch must be at least 1")
    if options.annotate and not options.annotate.endswith(META_SUFFIX):
        raise UsageError(f"--annotate {options.annotate}: the name must end in {META_SUFFIX}")
    if options.plot and not options.plot.endswith(".png"):
        raise UsageError(f"--plot {options.plot}: the name must end in .png")


def load(weights: str, backend: str = "auto", threads: int = 0, heads: Sequence[str] | None = None):
    """The engine of that name; EMindError says what is wrong with the weights. ``heads``: None for all that speak."""
    from ..runtime.engine import load_engine
    from ..runtime.header import heads_for

    return load_engine(weights, backend, threads, heads_for(weights, heads, ()))


def choose_plan(options: argparse.Namespace, recording: Recording, length: int, nothing: bool = False) -> TuningPlan:
    """How to tune: as the options say, else to the band that the spectrum shows as occupied."""
    if options.no_tune or nothing:
        return TuningPlan()
    if options.bandwidth is not None:
        center = options.center or 0.0
        band = Band(center - options.bandwidth / 2, center + options.bandwidth / 2)
        return replace(plan_tuning(band, recording.rate, recording.count, length), center=center)
    return estimated_plan(recording, length)


def estimated_plan(recording: Recording, length: int) -> TuningPlan:
    """The plan for the band that holds most of the recording's power above its noise floor."""
    band = occupied_band(recording.loud_and_spread(fft_size(recording.count), MAX_STRETCHES), recording.rate)
    return TuningPlan() if band is None else plan_tuning(band, recording.rate, recording.count, length)


def describe(plan: TuningPlan, recording: Recording) -> str:
    """One line that says what the tuning does."""
    if plan.band is None:
        return f"not tuned; {_hz(recording.rate, 'S/s')}"
    where = f"band of {_hz(plan.band.width)} at {plan.band.center / _unit(plan.band.center)[0]:+.4g} " \
            f"{_unit(plan.band.center)[1]}Hz"
    if not plan.tunes:
        return f"{where}; wide enough, taken as recorded at {_hz(recording.rate, 'S/s')}"
    if plan.decimation == 1:
        return f"{where}; shifted to zero, not decimated"
    return f"{where}; shifted to zero and decimated by {plan.decimation} to " \
           f"{_hz(recording.rate / plan.decimation, 'S/s')}"


def _unit(value: float) -> tuple[float, str]:
    return next(((f, u) for f, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if abs(value) >= f), (1.0, ""))


def _hz(value: float, unit: str = "Hz") -> str:
    factor, prefix = _unit(value)
    return f"{value / factor:.4g} {prefix}{unit}"


def classify(recording: Recording, engine, plan: TuningPlan, hop: int = 0, policy: str = "lossless", batch: int = 32,
             progress: Progress | None = None) -> tuple[list[Answer], int]:
    """Answers for every window, in order, and how many windows were skipped."""
    from .flowgraph import recording_flowgraph

    flowgraph = recording_flowgraph(recording, engine, plan, hop, policy, batch)
    flowgraph.run_to_end(progress)
    answers = flowgraph.answers()
    return answers, flowgraph.windows - len(answers)


def floor_as_noise(answers: list[Answer]) -> tuple[list[Answer], int]:
    """The answers with those at the recording's noise floor turned into noise, and how many were.

    Only where the recording has bursts well above that floor, so that it is one, and not a signal that is always on;
    and only where the model is not sure: a weak signal under a strong one may be recognised all the same.
    """
    if not any(a.snr_db is not None and a.snr_db >= BURST_SNR_DB for a in answers):
        return answers, 0
    out, gated = [], 0
    for answer in answers:
        head = answer.heads.get(MAIN_HEAD)
        quiet = answer.snr_db is None or answer.snr_db < 0
        if quiet and head and head.family != NOISE_FAMILY and head.confidence < SURE:
            noise = replace(head, label=NOISE, family=NOISE_FAMILY, confidence=1 - head.confidence)
            answer = replace(answer, heads=answer.heads | {MAIN_HEAD: noise})
            gated += 1
        out.append(answer)
    return out, gated


def by_neighbours(answers: list[Answer], engine) -> tuple[list[Answer], int]:
    """The answers with each window's modulation as `dsp.neighbours` decides it, and of how many the label changed.

    Confidence is then that of the window with its neighbours. Windows that are noise by now stay so.
    """
    asked = [n for n, answer in enumerate(answers) if answer.row is not None]
    if MAIN_HEAD not in engine.heads or not asked:
        return answers, 0
    labels = engine.heads[MAIN_HEAD].labels
    rows = np.zeros((len(answers), len(answers[asked[0]].row)), np.float32)
    rows[asked] = [answers[n].row for n in asked]
    quiet = np.array([a.row is None or a.heads[MAIN_HEAD].family == NOISE_FAMILY for a in answers])
    names, out, changed = (*labels, UNKNOWN), list(answers), 0
    for n, (place, confidence) in enumerate(zip(*decided(Known(labels, rows, quiet)))):
        head = answers[n].heads.get(MAIN_HEAD)
        if head is None or quiet[n]:
            continue
        changed += names[place] != head.label
        new = replace(head, label=names[place], family=family_of(names[place]), confidence=float(confidence))
        out[n] = replace(answers[n], heads=answers[n].heads | {MAIN_HEAD: new})
    return out, changed


def progress_bar(stack: ExitStack, title: str) -> Progress | None:
    """A progress bar that lives as long as the stack; None where standard error is not a terminal."""
    if not sys.stderr.isatty():
        return None
    from rich import progress
    from rich.console import Console

    bar = stack.enter_context(progress.Progress(
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True))
    task = bar.add_task(title, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def json_lines(answers: Iterable[Answer], rate: float) -> Iterable[str]:
    """One JSON object a window, without line ends."""
    for answer in answers:
        fields = {"sample_start": answer.sample_start, "sample_count": answer.sample_count,
                  "time_s": answer.sample_start / rate,
                  "snr_db": None if answer.snr_db is None else round(answer.snr_db, 2)}
        for name, head in answer.heads.items():
            fields[name] = head.fields()
        yield json.dumps(fields)


@dataclass(frozen=True)
class Run:
    """Neighbouring windows with the same label: samples start to end of the recording, mean confidence and SNR, and
    what other heads say of them, as text by head."""

    label: str
    family: str
    start: int
    end: int
    windows: int
    confidence: float
    snr_db: float | None
    others: Mapping[str, str] = field(default_factory=dict)
    outside: bool = False


def runs(answers: Iterable[Answer], head: str = MAIN_HEAD, others: Sequence[str] = (),
         cuts: Sequence[int] = ()) -> list[Run]:
    """Windows that follow each other with one label of ``head``, put together. No run goes over one of the samples
    ``cuts``, in order: a window belongs to where it begins, and its run ends at the cut."""
    groups: list[list[Answer]] = []
    for answer in answers:
        if head not in answer.heads or answer.heads[head].label is None:
            continue
        if groups and groups[-1][-1].heads[head].label == answer.heads[head].label \
                and answer.sample_start <= groups[-1][-1].sample_start + groups[-1][-1].sample_count \
                and bisect_right(cuts, answer.sample_start) == bisect_right(cuts, groups[-1][-1].sample_start):
            groups[-1].append(answer)
        else:
            groups.append([answer])
    out = []
    for group in groups:
        first, snrs = group[0].heads[head], [a.snr_db for a in group if a.snr_db is not None]
        end = group[-1].sample_start + group[-1].sample_count
        cut = bisect_right(cuts, group[0].sample_start)
        end = min(end, cuts[cut]) if cut < len(cuts) else end
        out.append(Run(first.label, first.family or first.label, group[0].sample_start, end, len(group),
                       sum(a.heads[head].confidence for a in group) / len(group),
                       sum(snrs) / len(snrs) if snrs else None,
                       {name: summary([a.heads[name].fields() for a in group if name in a.heads]) for name in others},
                       any_outside(a.heads[name].more for a in group for name in (head, *others) if name in a.heads)))
    return out


def annotations(answers: Iterable[Answer], recording: Recording, plan: TuningPlan, main: str = MAIN_HEAD,
                others: Sequence[str] = ()) -> list[dict]:
    """SigMF annotations, one a run that is not noise; other heads speak in the comment."""
    band = plan.band or Band(-recording.rate / 2, recording.rate / 2)
    out = []
    for part in runs(answers, main, others, recording.cuts):
        center = recording.center_at(part.start) or 0.0
        said = "".join(f"; {name}: {text}" for name, text in part.others.items() if text != "-")
        if part.family != NOISE_FAMILY:
            out.append({
                "core:sample_start": recording.offset + part.start, "core:sample_count": part.end - part.start,
                "core:freq_lower_edge": center + band.low, "core:freq_upper_edge": center + band.high,
                "core:label": part.label,
                "core:comment": f"family {part.family}, confidence {part.confidence:.2f}, {part.windows} windows{said}",
            })
    return out


def data_beside(recording: Recording, meta: str) -> Path:
    """Where the data of the metadata file ``meta`` lies; EMindError when another recording lies there."""
    path = Path(meta)
    name = recording.data.name if recording.header_bytes else path.name.removesuffix(META_SUFFIX) + DATA_SUFFIX
    data = path.with_name(name)
    if data.exists() and not data.samefile(recording.data):
        raise EMindError(f"{data}: exists already and is another recording; choose another name for {meta}")
    return data


def link_data(recording: Recording, data: Path) -> None:
    """Links the recording's data to the name that its new metadata gives it."""
    if data.exists():
        return
    try:
        data.unlink(missing_ok=True)  # a link whose file has gone
        data.symlink_to(os.path.relpath(recording.data.resolve(), data.parent.resolve()))
    except OSError as fault:
        raise EMindError(f"{data}: cannot be linked to {recording.data} ({fault.strerror})") from None


def print_table(parts: list[Run], recording: Recording, main: str = MAIN_HEAD, others: Sequence[str] = (),
                asked: bool = False) -> None:
    """What was found, one line a run, to standard output; ``asked``: heads were named, so all have a column."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{recording.path.name}: {recording.count / recording.rate:.4g} s at "
                        f"{_hz(recording.rate, 'S/s')}")
    for column in ("from (s)", "to (s)", "windows"):
        table.add_column(column, justify="right")
    table.add_column(main)
    if main == MAIN_HEAD:
        table.add_column("family")
    for column in ("confidence", "SNR (dB)"):
        table.add_column(column, justify="right")
    left_out = [name for name in others if not asked and any(part.others.get(name, "-") != "-" for part in parts)
                and all(part.others.get(name, "-")[-1] in "-" + OUTSIDE_MARK for part in parts)]
    others = [name for name in others if name not in left_out]
    for column in others:
        table.add_column(column)
    if left_out:
        table.caption = left_out_note(left_out)
    elif any(part.outside for part in parts):
        table.caption = OUTSIDE_NOTE
    digits = max(0, min(9, 3 - math.floor(math.log10(max(recording.count / recording.rate, 1e-9)))))
    for part in parts:
        style = "dim" if part.family == NOISE_FAMILY else None
        table.add_row(f"{part.start / recording.rate:.{digits}f}", f"{part.end / recording.rate:.{digits}f}",
                      str(part.windows), part.label, *([part.family] if main == MAIN_HEAD else []),
                      f"{part.confidence:.2f}", "-" if part.snr_db is None else f"{part.snr_db:.1f}",
                      *(part.others.get(name, "-") for name in others), style=style)
    console = Console()
    console.print(table)
