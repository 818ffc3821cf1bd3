"""How sets of signals are shown: tables for the terminal, and the page docs/datasets.md."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .synthesis.recipe import SIZES, Recipe

if TYPE_CHECKING:
    from .dataset import Contents

# Table III of the paper: attribute -> signals that have it, over all 14 pretraining sets, public ones included.
TABLE_III = {
    "modulation": 4_560_161, "radar_waveform": 627_680, "snr": 5_218_208, "infer_class": 120_000, "isr": 120_000,
    "band_width": 327_680, "pri": 627_680, "pulse_width": 627_680, "device_id": 75_809_684,
    "transmission_id": 17_930_880,
}  # fmt: skip
TABLE_III_LENGTHS = {
    128: 860_361, 256: 18_243_630, 288: 17_930_880, 320: 75_000, 384: 75_000, 400: 75_000, 480: 75_000, 512: 1_044_472,
    600: 11_928_835, 974: 30_367, 1024: 16_987_450, 2048: 292_800, 3840: 12_399, 4096: 13_498_730,
}  # fmt: skip
FEW_RATES = 12  # that a cell of a table lists
HEAD = ("set", "signals", "samples", "rate", "classes", "SNR, ISR (dB)")
PAPER = ("table", "signals", "samples", "rate", "classes", "SNR")


def console() -> Console:
    """Standard output; wide enough for the tables where it is not a terminal."""
    out = Console()
    return out if out.is_terminal else Console(width=140)


def _rate(hz: float) -> str:
    for unit, name in ((1e6, "MHz"), (1e3, "kHz")):
        if hz >= unit:
            return f"{hz / unit:g} {name}"
    return f"{hz:g} Hz"


def _span(made: Contents, name: str) -> str:
    low, high = made.ranges[name]
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _rates(rates: Iterable[float]) -> str:
    """Each of a few; of many how many there are, the least and the greatest."""
    found = sorted(rates)
    if len(found) > FEW_RATES:
        return f"{len(found)} from {_rate(found[0])} to {_rate(found[-1])}"
    return ", ".join(_rate(hz) for hz in found) or "one sample a symbol"


def row(name: str, made: Contents) -> list[str]:
    """A line of the table: what a set's files hold."""
    classes = made.classes()
    text = ", ".join(f"{len(values)} {column}" for column, values in classes.items() if len(values) > 1)
    levels = [_span(made, "snr")] if "snr" in made.ranges else []
    levels += [f"ISR {_span(made, 'isr')}"] if "isr" in made.ranges else []
    return [name, f"{made.rows:,}", ", ".join(f"{n:,}" for n in sorted(made.lengths)), _rates(made.rates), text,
            "; ".join(levels) or "-"]


def table(recipes: list[Recipe], made: dict[str, Contents]) -> Table:
    """What was built, each line above what the paper's table prints, for the terminal."""
    out = Table()
    for name in HEAD:
        out.add_column(name, overflow="fold")
    for recipe in recipes:
        out.add_row(*row(recipe.name, made[recipe.name]), end_section=not recipe.published)
        if p := recipe.published:
            out.add_row(f"  paper, Table {p.table}", p.count, p.length, p.rate, p.classes, p.snr, style="dim",
                        end_section=True)
    return out


def sets_table(sets: dict[str, Recipe]) -> Table:
    """The sets that can be built."""
    out = Table("set", *(f"{size}: items" for size in SIZES), "what")
    for recipe in sets.values():
        first = inspect.getdoc(recipe.draw).split("\n\n")[0].replace("\n", " ").partition(": ")[2]
        out.add_row(recipe.name, *(f"{recipe.items(size):,}" for size in SIZES), first)
    return out


def contents_table(path: Path, made: Contents) -> Table:
    """The columns of one file."""
    out = Table("column", "rows", "values", title=f"{path}: {made.rows:,} signals, {made.bytes / 1e6:.1f} MB",
                caption=f"{made.origin}; seed {made.seed}")
    out.add_row("iq", f"{made.rows:,}", "samples: " + ", ".join(f"{n:,}" for n in sorted(made.lengths)))
    for name, count in made.filled.items():
        if name in made.ranges:
            what = _span(made, name)
        else:
            values = made.values.get(name, {})
            shown = sorted(values)[:16]
            what = ", ".join(shown) + (f", ... ({len(values)} in all)" if len(values) > len(shown) else "")
        out.add_row(name, f"{count:,}", what if count else "-")
    return out


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"


def _markdown(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows]) + "\n"


def page(recipes: list[Recipe], made: dict[str, Contents], size: str, seed: int) -> str:
    """The page of the documentation: tables, then each set's own words on what was chosen where sources are silent."""
    from .lineage import as_run  # loads torch, which the tables do without
    from .synthesis.sets import SETS

    rows = []
    for recipe in recipes:
        p = recipe.published
        rows.append([*row(recipe.name, made[recipe.name]), *([p.table, p.count, p.length, p.rate, p.classes, p.snr]
                                                             if p else ["-"] * 6), f"{recipe.full:,}"])
    filled = [[name, f"{sum(one.filled[name] for one in made.values()):,}",
               f"{TABLE_III[name]:,}" if name in TABLE_III else "-"]
              for name in next(iter(made.values())).filled]
    lengths = sorted(set(TABLE_III_LENGTHS) | {n for one in made.values() for n in one.lengths})
    counts = [[f"{n:,}", f"{sum(one.lengths[n] for one in made.values()):,}", f"{TABLE_III_LENGTHS.get(n, 0):,}"]
              for n in lengths]
    notes = [f"### {recipe.name}\n\n{inspect.getdoc(recipe.draw)}\n"
             + (f"\nRows: {recipe.note}.\n" if recipe.note else "") for recipe in recipes]
    names = "all" if {recipe.name for recipe in recipes} == set(SETS) else " ".join(recipe.name for recipe in recipes)
    build = as_run(f"emind-train dataset build {names} --size {size} --seed {seed} --document docs/datasets.md")
    return "\n".join([
        "# The generated sets\n",
        _paragraph(f"Written by `{build}`; not edited by hand."),
        "## What was made, beside Tables I and IV of the EMind paper\n",
        _paragraph(
            "Left of `paper` what the files hold, right of it what the paper prints. `--size full` makes as many items "
            "as the last column says. Sets whose name ends in `-regen` are made from a published recipe and are not "
            "the original data. Sets without a table are not the paper's."),
        _markdown((*HEAD, *(f"paper: {name}" for name in PAPER), "items of full"), rows),
        "## Attributes, beside Table III\n",
        _paragraph(
            "Signals that have the attribute, of all sets above; the paper's counts cover its 14 pretraining sets, ten "
            "of them public recordings, of which none is generated here."),
        _markdown(("attribute", f"here, {size}", "paper"), filled),
        _markdown(("samples a signal", f"here, {size}", "paper"), counts),
        "## Rows that belong together\n",
        _paragraph(
            "Rows that share the text before a colon in `transmission_id` belong together, and a split must keep them "
            "on one side: a mixture (`17:mix`) and its clean sources (`17:source1`, `17:source2`), a noisy signal "
            "(`17:noisy`) and its clean self (`17:clean`). Without a colon the whole text is what rows share: the "
            "clean window of AWGN-7, the run of RML2016.10A-regen. `synthesis.recipe.linked` takes it apart."),
        "## How each set is made\n",
        *notes,
    ])
