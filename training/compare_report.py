"""What a comparison gives: one JSON, a table, and accuracy over SNR as a picture."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError

from .ceiling import RANGE_DB, read_ceiling
from .compare import AWGN7, NOISE_ALONE
from .lineage import as_run
from .pages import parts_of_page
from .published import headline

COMMAND = "compare"


def summary(results: list[dict], order: list[str]) -> list[dict]:
    """Mean and deviation over the seeds of each model, the best first; models without a result are left out."""
    rows = []
    for name in order:
        own = [one for one in results if one["model"] == name]
        if not own:
            continue
        accuracy = [one["test"]["accuracy"] for one in own]
        row = {
            "model": name, "parameters": own[0]["parameters"], "seeds": [one["seed"] for one in own],
            "epochs": max(one["epochs"] for one in own), "training_windows": own[0]["training_windows"],
            "accuracy": float(np.mean(accuracy)),
            "deviation": float(np.std(accuracy, ddof=1)) if len(accuracy) > 1 else None,
            "windows_a_second": float(np.mean([one["windows_a_second"] for one in own])),
            "by_snr": np.mean([one["test"]["by_snr"] for one in own], axis=0).tolist(),
        }  # fmt: skip
        for key, figures in (("validation_accuracy", [one.get("validation") for one in own]),
                             ("without", [one["test"].get("without") for one in own])):
            row[key] = float(np.mean([one["accuracy"] for one in figures])) if all(figures) else None
        if row["without"] is not None:
            row["repeated"] = {key: own[0]["test"]["without"][key] for key in ("left_out", "also_in_training")}
        if "distance_to_ceiling_points" in own[0]["test"]:
            row["distance_to_ceiling_points"] = float(
                np.mean([one["test"]["distance_to_ceiling_points"] for one in own]))
        rows.append(row)
    return sorted(rows, key=lambda row: -row["accuracy"])


def published(set_name: str) -> dict[str, float]:
    """Mean over SNR in percent that others printed, each on the original set."""
    return headline(set_name, "scored.mean_over_snr" if set_name == AWGN7 else "accuracy")


def table(rows: list[dict], set_name: str, test_windows: int) -> str:
    """Markdown: our models, then what others printed."""
    ceiling, noise = any("distance_to_ceiling_points" in row for row in rows), NOISE_ALONE.get(set_name)
    head = ["model", "parameters", "seeds", "training windows", "epochs", "validation, mean over SNR, %",
            "test, mean over SNR, %"]
    head += [f"without {noise}, %"] if noise else []
    head += ["points below the ceiling"] if ceiling else []
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        spread = f" ± {100 * row['deviation']:.2f}" if row["deviation"] is not None else ""
        cells = [row["model"], f"{row['parameters']:,}", str(len(row["seeds"])), f"{row['training_windows']:,}",
                 str(row["epochs"]), _percent(row["validation_accuracy"]), f"{100 * row['accuracy']:.2f}{spread}"]
        cells += [_percent(row["without"])] if noise else []
        cells += [f"{row['distance_to_ceiling_points']:.2f}"] if ceiling else []
        lines.append("| " + " | ".join(cells) + " |")
    for name, figure in published(set_name).items():
        cells = [f"{name}, as published", "", "", "", "", "", f"{figure:.2f}", *[""] * bool(noise)]
        if ceiling:
            distance = headline(set_name, "distance_to_ceiling_points").get(name)
            cells.append("" if distance is None else f"{distance:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"{test_windows:,} test windows of {set_name}, read once after each model's training; what was "
              "trained, and for how long, was chosen on validation. Validation is scored as the test is; the best epoch "
              "was chosen by the share of all its windows that are right."]
    known = next((row["repeated"] for row in rows if "repeated" in row), None)
    if noise and known:
        lines.append(f"{noise} is noise alone by the set's recipe, and the same noise in every run: "
                     f"{known['also_in_training']:,} of its {known['left_out']:,} test windows are among the training "
                     "windows, but for their level. Without it: the other classes' windows, answered among all classes.")
    if ceiling:
        lines.append(f"Distance to the Bayes ceiling: mean from {RANGE_DB[0]:g} to {RANGE_DB[1]:g} dB.")
    if set_name.endswith("-regen") and published(set_name):
        lines.append(f"The published figures are of the original {set_name.removesuffix('-regen')}; ours is made again "
                     "from its recipe and has other windows.")
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def draw(path: Path, rows: list[dict], set_name: str) -> None:
    """Accuracy over SNR: a line a model, published means dashed, for AWGN-7 the ceiling."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.0, 4.6), layout="constrained")
    if set_name == AWGN7:
        ceiling = read_ceiling()
        axes.plot(list(ceiling), list(ceiling.values()), "k-", linewidth=2, label="Bayes ceiling")
    for row in rows:
        snr, accuracy = np.array(row["by_snr"]).T
        axes.plot(snr, accuracy, "o-", markersize=3, label=f"{row['model']} ({100 * row['accuracy']:.2f})")
    for (name, value), style in zip(published(set_name).items(), cycle([":", "--", "-.", (0, (1, 4))])):
        axes.axhline(value / 100, linestyle=style, linewidth=1, color="grey", label=f"{name}, published mean {value:g}")
    axes.set(xlabel="SNR label, dB", ylabel="share right", ylim=(0, 1), title=set_name)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write_page(page: Path, name: str, text: str, command: str, rows: list[dict], set_name: str) -> None:
    """Put table and picture of the comparison ``name`` between its marks in a Markdown page; the picture goes into the
    folder ``images`` beside it. EMindError for a page without the marks, or one that cannot be written."""
    before, behind = parts_of_page(page, name, COMMAND)
    try:
        picture = page.parent / "images" / f"{name}.png"
        picture.parent.mkdir(exist_ok=True)
        draw(picture, rows, set_name)
        inside = f"\n`{as_run(command)}`\n\n{text}\n![accuracy over SNR](images/{picture.name})\n"
        page.write_text(before + "\n" + inside + behind, encoding="utf-8")
    except OSError as fault:
        raise EMindError(f"{page}: {fault.strerror or fault}") from None
