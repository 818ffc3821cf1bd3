"""What others printed, from published.toml, and our own figures under the same names.

A column's key is the path of a figure in a head's figures: "accuracy", "scored.mean_over_snr", "auc.single-tone".
"...@-10" is that at an SNR of -10 dB. Ours come in the unit of the column: shares as "%", seconds as "µs".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from emind.contract.errors import EMindError

from .ceiling import RANGE_DB, distance_to_ceiling, read_ceiling
from .config import read_toml

FILE = Path(__file__).with_name("published.toml")
REGENERATED = "-regen"
ERRORS = ("mae", "mse_db", "distance_to_ceiling_points")  # first words of keys of which less is better
UNITS = {"%": 100.0, "µs": 1e6, "": 1.0, "dB": 1.0, "points": 1.0}  # of a column, in those of our figures


@dataclass(frozen=True)
class Column:
    key: str
    title: str
    unit: str

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """``rows``: who -> figures in the order of ``columns``, None where nothing is printed. ``shots`` 0: not few-shot.
    ``other_set``: what the figures were measured on where it is another set than ours, not one made again."""

    source: str
    table: str
    task: str
    set: str
    title: str
    columns: tuple[Column, ...]
    rows: dict[str, tuple[float | None, ...]]
    headline: tuple[str, ...] = ()
    train: str = ""
    note: str = ""
    other_set: str = ""
    shots: int = 0
    ways: int = 0
    per_snr: bool = False

    @property
    def where(self) -> str:
        """Of the source, for a caption."""
        name = f"{self.source}, Table {self.table}" if self.table.isupper() else f"{self.source}, {self.table}"
        return name.rstrip(", ")


@lru_cache(maxsize=1)
def tables() -> tuple[Table, ...]:
    """EMindError where the file has a row that does not fit its columns, or a unit that is not known."""
    out = []
    for one in read_toml(FILE)["tables"]:
        columns = tuple(Column(*each) for each in one.pop("columns"))
        rows = {name: tuple(None if math.isnan(v) else float(v) for v in values)
                for name, values in one.pop("rows").items()}
        table = Table(columns=columns, rows=rows, **(one | {"headline": tuple(one["headline"])}))
        if any(len(values) != len(columns) for values in rows.values()) or set(table.headline) - set(rows):
            raise EMindError(f"{FILE.name}: {table.where}, {table.set}: a row does not fit its columns")
        if any(column.unit not in UNITS for column in columns):
            raise EMindError(f"{FILE.name}: {table.where}, {table.set}: an unknown unit")
        out.append(table)
    return tuple(out)


def base(set_name: str) -> str:
    return set_name.removesuffix(REGENERATED)


def tables_of(task: str, set_name: str, shots: int = 0) -> list[Table]:
    """Of a task and a set, made again or not. ``shots``: examples a class; 0 leaves few-shot tables out."""
    return [t for t in tables() if (t.task, t.set) == (task, base(set_name)) and t.shots == shots]


def dataset(set_name: str) -> dict | None:
    """The row of EMind's Table IV."""
    return next((one for one in read_toml(FILE)["datasets"] if one["set"] == base(set_name)), None)


def headline(set_name: str, key: str = "accuracy") -> dict[str, float]:
    """Who -> figure of the column ``key``, of rows that short tables show; few-shot left out."""
    out = {}
    for table in tables():
        for column, name in ((c, n) for c in range(len(table.columns)) for n in table.headline):
            if table.set == base(set_name) and not table.shots and table.columns[column].key == key:
                if table.rows[name][column] is not None:
                    out[name] = table.rows[name][column]
    return out


def lower_is_better(column: Column) -> bool:
    return column.key.partition("@")[0].split(".")[0] in ERRORS


def own_row(table: Table, figures: dict) -> tuple[float | None, ...]:
    """A head's figures in the columns of a published table, None where it has none."""
    return tuple(None if (value := own(column.key, figures)) is None else value * UNITS[column.unit]
                 for column in table.columns)


def own(key: str, figures: dict) -> float | None:
    """The figure that a column's key names, in its own unit (shares, seconds, dB)."""
    name, _, snr = key.partition("@")
    first, *rest = name.split(".")
    detection = figures.get("detection", figures if "auc" in figures else {})
    if first == "distance_to_ceiling_points":
        return _distance(figures)
    if first == "auc":
        if snr:
            return _at(detection.get("by_snr"), snr, ("auc",))
        return _deep(detection, ("by_class", *rest, "auc") if rest else ("auc",))
    if snr:
        return _at(figures.get("mae_by_snr" if first == "mae" else "by_snr"), snr, tuple(rest) or (first,))
    if figures.get("bss_eval") and first in figures["bss_eval"]["estimate"]:
        return figures["bss_eval"]["estimate"][first]
    return _deep(figures, (first, *rest))


def _at(rows: list[dict] | None, snr: str, path: tuple[str, ...]) -> float | None:
    row = next((row for row in rows or () if row["snr_db"] == float(snr)), None)
    return None if row is None else _deep(row, path)


def _deep(figures: dict | None, path: tuple[str, ...]) -> float | None:
    for name in path:
        figures = figures.get(name) if isinstance(figures, dict) else None
    return figures if isinstance(figures, (int, float)) else None


def _distance(figures: dict) -> float | None:
    rows = figures.get("scored", {}).get("by_snr", [])
    found, ceiling = {row["snr_db"]: row["accuracy"] for row in rows}, read_ceiling()
    if any(snr not in found for snr in ceiling if RANGE_DB[0] <= snr <= RANGE_DB[1]):
        return None
    return distance_to_ceiling(found, ceiling)
