#!/usr/bin/env python3
"""The demonstration: a GNU Radio flowgraph labels signals whose true labels are known.

No hardware needed. Without an argument it makes a scene with GNU Radio's modulators and channel model
(examples/scene.py), runs the flowgraph of `emind classify` on it and prints a table of true label and answer; it
should show most signals right. `--capture FILE.sigmf-meta` labels a recording instead. Under build/demo/ it leaves
the recording with annotations (.sigmf-meta), the answers (.jsonl) and a picture (.png).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from emind.commands import classify
from emind.commands.plot import plot_recording
from emind.contract.errors import EMindError
from emind.contract.vocabulary import family_of
from emind.dsp.band import TuningPlan
from emind.storage.recording import Recording, annotated_metadata, check_samples, open_recording
from emind.storage.replacing import replacing

ROOT = Path(__file__).resolve().parents[1]
say = Console(stderr=True)


@dataclass(frozen=True)
class Score:
    """What was answered for one true signal: its windows, those with the right label and the right family."""

    label: str
    majority: str
    confidence: float
    windows: int
    right: int
    right_family: int


def score_segments(segments, answers) -> list[Score]:
    """One score a true segment that is not noise, over the windows that lie wholly inside of it."""
    scores = []
    for segment in segments:
        inside = [a.heads[classify.MAIN_HEAD] for a in answers
                  if segment.start <= a.sample_start and a.sample_start + a.sample_count <= segment.end]
        if segment.label == "noise" or not inside:
            continue
        majority = Counter(a.label for a in inside).most_common(1)[0][0]
        votes = [a.confidence for a in inside if a.label == majority]
        scores.append(Score(segment.label, majority, sum(votes) / len(votes), len(inside),
                            sum(a.label == segment.label for a in inside),
                            sum(family_of(a.label) == family_of(segment.label) for a in inside)))
    return scores


def print_scores(scores: list[Score]) -> None:
    table = Table(title="what the flowgraph said")
    for column, side in (("true label", "left"), ("answer", "left"), ("confidence", "right"), ("windows", "right"),
                         ("right", "right"), ("right family", "right")):
        table.add_column(column, justify=side)
    for s in scores:
        good = family_of(s.majority) == family_of(s.label)
        style = "green" if s.majority == s.label else "yellow" if good else "red"
        table.add_row(s.label, f"[{style}]{s.majority}[/{style}]", f"{s.confidence:.2f}", str(s.windows),
                      f"{s.right / s.windows:.0%}", f"{s.right_family / s.windows:.0%}")
    total = sum(s.windows for s in scores)
    table.add_section()
    table.add_row("all", "", "", str(total), f"{sum(s.right for s in scores) / total:.0%}",
                  f"{sum(s.right_family for s in scores) / total:.0%}")
    Console().print(table)


def write_results(base: Path, recording: Recording, answers, plan: TuningPlan, truth=(), title=None) -> list[Path]:
    """base.jsonl, base.sigmf-meta (with the data beside it) and base.png; each appears only when it is complete."""
    meta, picture, lines = (base.with_name(base.name + s) for s in (".sigmf-meta", ".png", ".jsonl"))
    if truth:
        lines = base.with_name("answers.jsonl")
    data = classify.data_beside(recording, str(meta))
    metadata = annotated_metadata(recording, classify.annotations(answers, recording, plan), data.name)
    with replacing(lines) as path:
        path.write_text("".join(line + "\n" for line in classify.json_lines(answers, recording.rate)), encoding="utf-8")
    with replacing(meta) as path:
        path.write_text(json.dumps(metadata, indent=4) + "\n", encoding="utf-8")
    classify.link_data(recording, data)
    with replacing(picture) as path:
        plot_recording(recording, classify.runs(answers), path, plan=plan, truth=truth, title=title)
    return [picture, lines, meta]


def label_capture(recording: Recording, folder: Path, engine) -> list[Path]:
    """Labels a recording as `emind classify` does, with a table of what was found."""
    plan = classify.estimated_plan(recording, engine.spec.length)
    say.print(f"{recording.path.name}: {classify.describe(plan, recording)}", highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        answers, _ = classify.classify(recording, engine, plan, progress=classify.progress_bar(stack, "windows"))
    answers, _ = classify.floor_as_noise(answers)
    answers, _ = classify.by_neighbours(answers, engine)
    classify.print_table(classify.runs(answers), recording)
    name = recording.path.name.removesuffix(".sigmf-meta").removesuffix(".sigmf-data")
    return write_results(folder / name, recording, answers, plan)


def label_scene(folder: Path, engine, seed: int) -> list[Path]:
    """Makes the scene, labels it, compares with the truth."""
    from scene import SCENE, write_scene

    base = folder / "scene"
    with ExitStack() as stack:
        segments = write_scene(base, seed, progress=classify.progress_bar(stack, "making the scene"))
    say.print(f"scene: {len(SCENE)} signals, made with GNU Radio's modulators and channel model", highlight=False)
    recording = open_recording(base.with_name("scene.sigmf-meta"))
    with ExitStack() as stack:
        answers, _ = classify.classify(recording, engine, TuningPlan(),
                                       progress=classify.progress_bar(stack, "windows"))
    answers, _ = classify.floor_as_noise(answers)
    answers, _ = classify.by_neighbours(answers, engine)
    print_scores(score_segments(segments, answers))
    truth = [classify.Run(s.label, family_of(s.label), s.start, s.end, 0, 1.0, None) for s in segments]
    return write_results(base, recording, answers, TuningPlan(), truth,
                         "Answer and truth, window by window")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="demo.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("--capture", type=Path, metavar="FILE.sigmf-meta", help="label this recording, not a scene")
    parser.add_argument("--rate", type=float, metavar="HZ", help="sample rate, where the recording does not state it")
    parser.add_argument("--weights", default="emind-nano", metavar="NAME", help="name or path of a weights file")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo", metavar="FOLDER",
                        help="where the results go (default: build/demo)")
    parser.add_argument("--seed", type=int, default=1, help="of the scene (default: 1)")
    options = parser.parse_args(argv)
    try:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise EMindError(f"{options.out}: cannot be made ({fault.strerror})") from None
        recording = open_recording(options.capture, rate=options.rate) if options.capture else None
        if recording:
            check_samples(recording)
        engine = classify.load(options.weights)
        if recording:
            written = label_capture(recording, options.out, engine)
        else:
            written = label_scene(options.out, engine, options.seed)
    except EMindError as fault:
        print(f"demo: error: {fault}", file=sys.stderr)
        return fault.exit_status
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    for path in written:
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
