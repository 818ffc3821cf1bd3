"""Scores `emind classify` on a folder of real recordings and writes the tables of the documentation from it.

    python -m emind_benchmarks.recordings FOLDER [--write]

The folder's own ``score.py`` is the measure: it runs the command on every recording and judges by itself which
windows hold a signal. With ``--write`` its output becomes ``docs/real-recordings.md`` and the summary in
``README.md``, so that no figure there is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "real-recordings.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- recordings: written by `make score` -->", "<!-- /recordings -->"
COMMAND = "make score CAPTURES=<folder> WRITE=1"

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


def summary_lines(score: Score) -> list[str]:
    """The table by family with the mean over recordings."""
    lines = ["| family | recordings | share of windows right |", "|---|---|---|"]
    lines += [f"| `{row['family']}` | {row['count']} | {row['mean']} |" for row in score.families]
    count, mean = score.summary["recordings"], score.summary["mean_share"]
    return [*lines, f"| **mean over recordings** | {count} | **{mean:.3f}** |"]


def page(score: Score, weights: str) -> str:
    """The documentation page."""
    answers = [
        f"| `{row['family']}` | " + ", ".join(re.findall(r"'([^']+)': \d+", row["answers"])) + " |"
        for row in score.families
    ]
    rows = [
        f"| {row['file'].removesuffix('.sigmf-meta')} | `{row['family']}` | {row['kept']} | {row['share']} |"
        for row in score.recordings
    ]
    return "\n".join([
        "# Figures on real recordings", "",
        f"`{weights}` by `emind classify` with its defaults, on {score.summary['recordings']} recordings made by "
        f"others, {score.summary['failed']} of them failed. None was trained on. Written by `{COMMAND}`.", "",
        "The figure of a recording is the share of its windows whose modulation family is right, among those windows "
        "that hold a signal; which ones do is judged by the measuring script from the power alone. A recording counts "
        "as one, long or short.", "", "## By family", "", *summary_lines(score), "",
        "What the windows of a family were called, most frequent first:", "",
        "| family | answers |", "|---|---|", *answers, "",
        "## By recording", "", "| recording | family | windows with a signal | share right |", "|---|---|---|---|",
        *rows, "",
    ])  # fmt: skip


def with_summary(readme: str, score: Score) -> str:
    """The README with the summary between its marks replaced."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return "\n".join([before + BEGIN, *summary_lines(score), END + after])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with score.py, index.json and the recordings")
    parser.add_argument("--emind", default=str(Path(sys.executable).parent / "emind"), help="the command to measure")
    parser.add_argument("--weights", default="emind-nano", help="name that the page states")
    parser.add_argument("--write", action="store_true", help="write docs/real-recordings.md and the README's summary")
    args = parser.parse_args(argv)
    command = [sys.executable, str(args.folder / "score.py"), str(args.folder), "--emind", args.emind]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(run.stdout, end="")
    if run.returncode:
        return 1
    if args.write:
        score = parse(run.stdout)
        PAGE.write_text(page(score, args.weights))
        README.write_text(with_summary(README.read_text(), score))
    return 0


if __name__ == "__main__":
    sys.exit(main())
