"""Scores `emind classify` on a folder of real recordings and writes the tables of the documentation from it.

    .venv/bin/python -m emind_benchmarks.recordings FOLDER [--weights NAME ...] [--write]

The folder's own ``score.py`` is the measure: it runs the command on every recording and judges by itself which
windows hold a signal. It measures twice for each weights file: with windows that support each other, as `emind
classify` answers by default, and with every window by itself. With ``--write`` its output becomes
``docs/real-recordings.md`` and the summary in ``README.md``, so that no figure there is typed by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "real-recordings.md"
README = ROOT / "README.md"
WEIGHTS = ROOT / "python" / "emind" / "weights"
BEGIN, END = "<!-- recordings: written by `make score` -->", "<!-- /recordings -->"
COMMAND = "make score CAPTURES=<folder> WRITE=1"
ASKED = {"emind-nano": 0.90, "emind-tiny": 0.92}  # mean over recordings that a release is to reach
UNSAID = "not said"
TOGETHER, ALONE = "with neighbours", "by itself"
OPTIONS = {TOGETHER: "", ALONE: " --no-neighbours"}

ROW = re.compile(r"^\s*(?P<share>\d\.\d\d) (?P<family>\S+)\s+(?P<kept>\d+)/\s*(?P<all>\d+) (?P<file>\S+)$")
FAMILY = re.compile(r"^(?P<family>\S+)\s+mean (?P<mean>[\d.]+) over (?P<count>\d+): (?P<answers>\{.*\})$")


@dataclass(frozen=True)
class Score:
    """What score.py printed: rows by recording, rows by family, and its closing line."""

    recordings: list[dict]
    families: list[dict]
    summary: dict


def parse(text: str) -> Score:
    """Read the output of score.py. Raises ValueError where its closing line is missing."""
    recordings, families, summary = [], [], None
    for line in text.splitlines():
        if match := ROW.match(line):
            recordings.append(match.groupdict())
        elif match := FAMILY.match(line):
            families.append(match.groupdict())
        elif line.startswith("{"):
            summary = json.loads(line)
    if summary is None:
        raise ValueError("score.py printed no closing line")
    return Score(recordings, families, summary)


Measured = dict[tuple[str, str], Score]  # by weights and by TOGETHER or ALONE


def command(emind: str, weights: str, how: str) -> str:
    """The command that score.py is given; it puts `classify RECORDING --json -` behind it."""
    inner = f'exec {shlex.quote(emind)} "$@" --weights {shlex.quote(weights)}{OPTIONS[how]}'
    return shlex.join(["sh", "-c", inner, "emind"])


def _columns(measured: Measured) -> list[str]:
    return [f"{weights}, {how}" for weights, how in measured]


def _table(first: list[str], columns: list[str]) -> list[str]:
    return [f"| {' | '.join(first + columns)} |", "|---" * (len(first) + len(columns)) + "|"]


def summary_lines(measured: Measured) -> list[str]:
    """The table by family with the mean over recordings."""
    scores = list(measured.values())
    lines = _table(["share of windows right", "recordings"], _columns(measured))
    for rows in zip(*(score.families for score in scores), strict=True):
        lines.append(f"| `{rows[0]['family']}` | {rows[0]['count']} | {' | '.join(row['mean'] for row in rows)} |")
    means = " | ".join(f"**{score.summary['mean_share']:.3f}**" for score in scores)
    return [*lines, f"| **mean over recordings** | {scores[0].summary['recordings']} | {means} |"]


def verdicts(measured: Measured) -> list[str]:
    """What is asked of a release, and whether it is so."""
    lines = []
    for (weights, how), score in measured.items():
        if weights not in ASKED:
            continue
        mean, low = score.summary["mean_share"], min(score.families, key=lambda row: float(row["mean"]))
        met = "met" if mean >= ASKED[weights] and float(low["mean"]) >= 0.8 else "not met"
        lines.append(f"- `{weights}`, {how}: asked are a mean of {ASKED[weights]:.2f} and no family under 0.80; it has "
                     f"{mean:.3f} and {low['mean']} (`{low['family']}`): {met}.")
    return lines


def which(name: str) -> str:
    """A released file by its hash, so that figures of a replaced one are found out; a path as it is."""
    file = WEIGHTS / f"{name}.safetensors"
    return f"`{name}` (SHA-256 `{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}`)" if file.is_file() else f"`{name}`"


def sources(folder: Path) -> list[str]:
    """A line for each place that recordings come from, by the folder's index; none where it has no index.

    ValueError for an index that is not JSON.
    """
    index = folder / "index.json"
    entries = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else []
    places = Counter(tuple(str(entry.get(key) or UNSAID) for key in ("source_repo", "licence"))
                     for entry in (entries.values() if isinstance(entries, dict) else entries))
    return [f"| {repository} | {licence} | {count} |" for (repository, licence), count in sorted(places.items())]


def page(measured: Measured, places: list[str]) -> str:
    """The documentation page. ``places``: rows of where the recordings come from."""
    scores = list(measured.values())
    answers = [
        f"| `{row['family']}` | {weights}, {how} | " + ", ".join(re.findall(r"'([^']+)': \d+", row["answers"])) + " |"
        for (weights, how), score in measured.items() for row in score.families
    ]
    rows = [
        f"| {row[0]['file'].removesuffix('.sigmf-meta')} | `{row[0]['family']}` | {row[0]['kept']} | "
        f"{' | '.join(each['share'] for each in row)} |"
        for row in zip(*(score.recordings for score in scores), strict=True)
    ]
    failed = sum(score.summary["failed"] for score in scores)
    return "\n".join([
        "# Figures on real recordings", "",
        f"Released weights by `emind classify` on {scores[0].summary['recordings']} recordings made by others; of the "
        f"runs of the command {failed} failed. None was trained on, but which weights were released and that windows "
        "support each other by default was decided with these figures in view: read them as validation, not as a test. "
        f"Written by `{COMMAND}` of {' and '.join(which(name) for name in dict.fromkeys(name for name, _ in measured))}.",
        "",
        "The figure of a recording is the share of its windows whose modulation family is right, among those windows "
        "that hold a signal; which ones do is judged by the measuring script from the power alone. A recording counts "
        "as one, long or short.", "",
        f"*{TOGETHER.capitalize()}* is the default: windows between which there is no noise support each other "
        "(`emind.dsp.neighbours`; how much was chosen on generated scenes, by `.venv/bin/python -m emind_training.scenes`). "
        f"*{ALONE.capitalize()}* is the model's answer to each window, as the blocks in a flowgraph give it "
        "(`--no-neighbours`).", "", *verdicts(measured), "", "## By family", "", *summary_lines(measured), "",
        "What the windows of a family were called, most frequent first:", "",
        *_table(["family", "weights", "answers"], []), *answers, "",
        "## By recording", "",
        *_table(["recording", "family", "windows with a signal"], _columns(measured)), *rows, "",
        *(["## Where the recordings come from", "",
           "They are not in this repository, since their licences differ. These have them, on GitHub:", "",
           *_table(["repository", "licence", "recordings"], []), *places, ""] if places else []),
    ])  # fmt: skip


def with_summary(readme: str, measured: Measured) -> str:
    """The README with the summary between its marks replaced."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return "\n".join([before + BEGIN, *summary_lines(measured), END + after])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with score.py, index.json and the recordings")
    parser.add_argument("--emind", default=str(Path(sys.executable).parent / "emind"), help="the command to measure")
    parser.add_argument("--weights", nargs="+", default=list(ASKED), metavar="NAME",
                        help=f"what is measured; default those of which figures are asked: {', '.join(ASKED)}")
    parser.add_argument("--write", action="store_true", help="write docs/real-recordings.md and the README's summary")
    args = parser.parse_args(argv)
    try:  # before anything is measured, which takes long
        places = sources(args.folder)
    except ValueError as fault:
        parser.error(f"{args.folder / 'index.json'}: {fault}")
    measured: Measured = {}
    for weights in args.weights:
        for how in OPTIONS:
            print(f"{weights}, {how}:", flush=True)
            run = subprocess.run(
                [sys.executable, str(args.folder / "score.py"), str(args.folder),
                 "--emind", command(args.emind, weights, how)], stdout=subprocess.PIPE, text=True)  # fmt: skip
            print(run.stdout, end="", flush=True)
            if run.returncode:
                return 1
            measured[weights, how] = parse(run.stdout)
    if args.write:
        PAGE.write_text(page(measured, places))
        README.write_text(with_summary(README.read_text(), measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
