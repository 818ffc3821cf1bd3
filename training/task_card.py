"""The card of a weights file with any heads, and a picture a head: from the file's header and from nothing else.

    header ─► <name>.md, <name>-<head>.png beside the file
"""

from __future__ import annotations

from pathlib import Path

from emind.models.checkpoint import read_header
from emind.runtime.weights import FOLDER

from . import report_pictures as draw
from .evaluate import temperature_note
from .evaluation import Head, heads_of, trained_how
from .lineage import as_run, steps
from .published import REGENERATED, base, headline, lower_is_better, own_row, tables_of
from .report_tables import of_head, text
from .tasks import CLASSES

POOR_CLASS = 0.5  # share right below which a class is named
POOR_CALIBRATION = 0.05  # expected calibration error
POOR_AREA = 0.9


def write_card(weights: Path) -> list[Path]:
    """Card and pictures beside a weights file; what was written."""
    header = read_header(weights)
    written = []
    for name, head in heads_of(header).items():
        picture = picture_of(head)
        if picture:
            written.append(weights.with_name(f"{weights.stem}-{name}.png"))
            written[-1].write_bytes(picture)
    written.append(weights.with_suffix(".md"))
    released = weights.resolve().parent == FOLDER.resolve()
    text = card(weights.stem, header, {path.name for path in written}, "" if released else str(weights))
    written[-1].write_text(text, encoding="utf-8")
    return written


def picture_of(head: Head) -> bytes | None:
    """What the head can do over SNR, or ISR."""
    figures, title = head.figures, f"{head.name} on {head.set}"
    rows = figures.get("by_snr") or []
    if "detection" in figures or "auc" in figures:
        return draw.area_by_level({head.name: figures.get("detection", figures), **figures.get("baselines", {})}, title)
    if rows and "output_snr_db" in rows[0]:
        return draw.denoising_by_snr(rows, title)
    if rows and "accuracy" in rows[0]:
        return draw.accuracy_by_snr(rows, title, {} if head.training.get("per_class") else headline(head.set))
    return None


def card(name: str, header: dict, pictures: set[str], path: str = "") -> str:
    """The whole text. ``pictures``: names of files that lie beside it. ``path``: of a file that is not a released one,
    which commands do not know by its name."""
    heads, training, window = heads_of(header), header["training"], header["window"]
    machine = training["machine"]
    architecture = ", ".join(f"{key} {value}" for key, value in header["architecture"].items())
    lines = [
        f"# {name}", "",
        f"EMind encoder with {len(heads)} head{'s' * (len(heads) > 1)}: {', '.join(f'`{one}`' for one in heads)}.", "",
        f"- Architecture: {architecture}; {training['parameters']:,} parameters.",
        f"- Window: {window['length']} samples, hop {window['hop']}, normalised by `{window['normalisation']}`; sample "
        f"rates {window['rate_min_hz']:g} to {window['rate_max_hz']:g} Hz.",
        f"- Made on {machine['processor']}, torch {machine['torch']}.",
        f"- Measured again, with more tables and pictures: `{as_run(f'emind-train evaluate {path or name}')}`.", "",
        "## Made by", "",
        *_commands(training),
    ]  # fmt: skip
    for one in heads.values():
        lines += ["", *_head(one, name, pictures)]
    return "\n".join(lines).rstrip() + "\n"


def _commands(training: dict) -> list[str]:
    """One command, or one after the other."""
    made = steps(training)
    if len(made) == 1:
        return [made[0][0], "", made[0][1]]
    return [line for k, (command, how) in enumerate(made, 1) for line in (f"{k}. {command}", "", f"   {how}", "")][:-1]


def _head(head: Head, name: str, pictures: set[str]) -> list[str]:
    trained = trained_how(head)
    parts = ", ".join(f"{count:,} for {part}" for part, count in trained["parts"].items() if count)
    drawn = trained["drawn"]
    origin = (f"drawn: {drawn['items']:,} items, seed {drawn['seed']}, split {drawn['split']}"
              if isinstance(drawn, dict) else "drawn while training" if drawn else "files that were given")
    lines = [f"## {head.name}", "",
             f"- Set: {head.set}, {origin}" + (f"; {parts}" if parts else "") + f"; {trained['examples']:,} windows "
             "were shown in training." + (" No recording was trained on." if drawn else ""),
             f"- Track: {trained['track']}{', %d a class' % trained['per_class'] if trained['per_class'] else ''}."]
    lines += [f"- Classes: {', '.join(head.spec.labels)}."] if head.spec.labels and len(head.spec.labels) <= 32 else (
        [f"- Classes: {len(head.spec.labels)}."] if head.spec.labels else [])
    lines.append("- Calibration: " + _calibration(head))
    short = falls_short(head)
    lines += ["- Falls short: " + ("; ".join(short) if short else "of none of the marks that this card looks at") + ".",
              ""]
    file = f"{name}-{head.name}.png"
    lines += [f"![{head.name}]({file})", ""] if file in pictures else []
    entry = {"figures": head.figures, "set": head.set, "trained": trained, "classes": list(head.classes),
             "length": head.length}
    for one in of_head(head.name, entry, name):
        lines += _markdown(one)
    return lines


def _calibration(head: Head) -> str:
    calibration, words = head.calibration, []
    if head.spec.kind == "anomaly":
        return "the threshold lies where the asked share of normal validation windows is called anomalous."
    if "temperature" in calibration:
        note = temperature_note(calibration["temperature"])
        words.append(f"temperature {calibration['temperature']:.3f}, fitted on validation{f' ({note})' if note else ''}")
    if "expected_calibration_error" in head.figures:
        words.append(f"expected calibration error {head.figures['expected_calibration_error']:.3f}")
    if "unknown" in calibration:
        called = head.figures.get("called_unknown")
        words.append(f"`unknown` below an energy of {calibration['unknown']['threshold']:.3f}"
                     + (f", which {100 * called:.1f} % of the test windows are" if called is not None else ""))
    return ("; ".join(words) or "none: the head answers with waveforms") + "."


def falls_short(head: Head) -> list[str]:
    """What a reader should not expect of a head: below published figures, poor classes, poor calibration."""
    figures, out = head.figures, []
    for one in tables_of(head.name, head.set, head.training.get("per_class") or 0):
        ours = own_row(one, figures)
        for who in one.headline:
            for column, theirs, mine in zip(one.columns, one.rows[who], ours, strict=True):
                if theirs is None or mine is None or (mine <= theirs if lower_is_better(column) else mine >= theirs):
                    continue
                on = f" on {base(head.set)}" if head.set.endswith(REGENERATED) else (
                    f" on {one.other_set}" if one.other_set else "")
                out.append(f"{column.heading} {text(mine)}, {who} published {text(theirs)}{on}")
    out += _easier(head)
    poor = [name for name, share in figures.get("by_class", {}).items()
            if isinstance(share, float) and share < POOR_CLASS]
    if poor:
        more = f" and {len(poor) - 8} more" if len(poor) > 8 else ""
        out.append(f"less than {POOR_CLASS:.0%} right: {', '.join(poor[:8])}{more}")
    if figures.get("expected_calibration_error", 0) > POOR_CALIBRATION:
        out.append(f"expected calibration error above {POOR_CALIBRATION:g}")
    area = figures.get("detection", figures).get("auc") if ("detection" in figures or "auc" in figures) else None
    if area is not None and area < POOR_AREA:
        out.append(f"area under the curve {area:.3f} over all levels")
    for key, words in (("gain_db", "SNR"), ("fitted_gain_db", "SNR with the offset fitted")):
        if figures.get(key) is not None and figures[key] <= 0:
            out.append(f"the output has no higher {words} than the input")
    if "estimate" in figures and figures["gain"]["si_sdr"] is not None and figures["gain"]["si_sdr"] <= 0:
        out.append("the answers have no higher SI-SDR than the untouched mixture")
    return out


def _easier(head: Head) -> list[str]:
    """Where a figure beside a published one was had more easily than that."""
    trained, out = trained_how(head), []
    if trained.get("detector") == CLASSES:
        out.append("was shown the anomalies that it is tested on, which the detectors beside it were not")
    theirs = {one.train for one in tables_of(head.name, head.set, trained["per_class"] or 0) if one.train.endswith("%")}
    if trained["split"] and theirs:
        split = [int(part) for part in trained["split"].split(":")]
        share = 100 * split[0] / sum(split)
        if share > 1.1 * max(float(one.rstrip(" %")) for one in theirs):
            out.append(f"had {share:.0f} % of its set to train on, the paper {' or '.join(sorted(theirs))} of its own")
    return out


def _markdown(one: dict) -> list[str]:
    head = [cell or " " for cell in one["head"]]
    lines = [f"**{one['title']}**", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for number, row in enumerate(one["rows"]):
        cells = [text(cell).replace("|", "\\|") for cell in row]
        if number in one["ours"]:
            cells = [f"**{cell}**" if cell != "–" else cell for cell in cells]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *(f"{note}  " for note in one["notes"]), ""] if one["notes"] else [*lines, ""]
