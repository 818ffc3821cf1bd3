"""The table of `docs/enrol.md`: a row a set or group of recordings, as `emind-train enrolment --write` measured it."""

from __future__ import annotations

import re
from pathlib import Path

from emind.contract.errors import EMindError

BEGIN = "<!-- enrolment: from here on written by emind-train enrolment --write -->"
END = "<!-- enrolment: to here -->"
COLUMNS = ("signals", "classes", "ways, shots", "episodes", "among the enrolled", "windows together", "in the head",
           "linear probe", "old answers changed", "weights")


def row(found: dict, weights: str) -> str:
    def share(figure: dict) -> str:
        spread = figure["interval_95"]
        return f"{figure['mean']:.3f}" + ("" if spread is None else f" ± {spread:.3f}")

    cells = (
        f"{found['set']} by {found['by']}", f"{len(found['classes'])}", f"{found['ways']}, {found['shots']}",
        f"{found['episodes']}", share(found["accuracy"]), f"{found['several']}: {share(found['accuracy_several'])}",
        share(found["in_the_head"]), share(found["probe"]) if found["probe"] else "",
        f"{100 * found['old_changed']['mean']:.2f} %, at worst {100 * found['old_changed_worst']:.2f} %", weights)
    return "| " + " | ".join(cells) + " |"


def with_rows(text: str, rows: list[str]) -> str:
    """The page with these rows in its table, in place of those of the same signals and weights, else behind the others.
    EMindError for a page without the marks."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise EMindError(f"the page lacks the marks {BEGIN!r} and {END!r}, between which the table is written")
    before, rest = text.split(BEGIN)
    inside, after = rest.split(END)
    lines = [*(line for line in inside.splitlines() if line.startswith("| ")), *rows]
    known = {_what(line): line for line in lines if _what(line)[0] != COLUMNS[0]}
    table = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), *known.values()]
    return before + BEGIN + "\n" + "\n".join(table) + "\n" + END + after


def write(path: Path, rows: list[str]) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        path.write_text(with_rows(text, rows), encoding="utf-8")
    except OSError as fault:
        raise EMindError(f"{path}: {fault.strerror or fault}") from None


def _what(line: str) -> tuple[str, str]:
    """Signals and name of the weights, without the version of their code."""
    cells = re.split(r"\s*\|\s*", line)
    return cells[1], cells[-2].split(" ")[0]
