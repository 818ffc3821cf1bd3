"""The card of a pretrained weights file and its pictures: from the file's header and from nothing else.

    header ─► <name>.md, <name>-loss.png, <name>-probe.png, <name>-fewshot.png beside the file
           └► the section of figures in docs/pretraining.md, of all pretrained files that come with the module
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from emind.contract.errors import EMindError
from emind.models.checkpoint import AUTOENCODER, read_header

from .lineage import as_run
from .pages import parts_of_page

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "pretraining.md"
RELEASED = "*-pretrained.safetensors"
COMMAND = "fewshot"
EXAMPLE = "--task radar --config training/configs/task-radar.toml"  # of what is trained from a pretrained file
BEGIN, END = "<!-- figures: written by `emind-train fewshot --write` -->", "<!-- /figures -->"
TRACKS = {"fine_tuned": "fine-tuned", "linear": "linear"}
COLOURS = {"pretrained": "tab:blue", "random": "tab:gray"}


def mean_and_deviation(values: list[float]) -> str:
    """In per cent, the deviation of a sample; none of a single value."""
    text = f"{100 * np.mean(values):.1f}"
    return f"{text} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else text


def gain(pretrained: list[float], random: list[float], windows: int) -> tuple[float, float]:
    """Mean difference of the arms, paired by seed, and its standard error: that of the seeds and of the test windows."""
    difference = np.subtract(pretrained, random)
    share = (np.mean(pretrained) + np.mean(random)) / 2
    of_seeds = np.var(difference, ddof=1) / len(difference) if len(difference) > 1 else 0.0
    return float(difference.mean()), math.sqrt(of_seeds + 2 * share * (1 - share) / windows)


def verdict(difference: float, error: float) -> str:
    """In words: two standard errors decide."""
    if abs(difference) <= 2 * error:
        return "no difference beyond chance"
    return "pretraining helps" if difference > 0 else "pretraining harms"


def fewshot_lines(figures: dict, heading: str = "###") -> list[str]:
    """Tables of a comparison of pretrained with random weights, as `fewshot.compare` gives it for each set."""
    lines = [f"Measured by `{as_run(figures['command'])}`, code `{figures['code']}`, {figures['seconds'] / 60:.0f} minutes on "
             f"{figures['machine']}.", ""]
    for one in figures["sets"]:
        recipe, seeds = one["recipe"], len(one["seeds"])
        seen = ("its recipe was pretrained on, with other windows" if one["pretrained_on"] else
                "not trained on" if figures.get("heads") else "not pretrained on")
        spread = f"mean and deviation over {seeds} seeds" if seeds > 1 else "one seed"
        unit = "a class and SNR label" if one["per_snr"] else "a class"
        rate = one["few"][0]["fine_tuned"]["pretrained"]["learning_rate"]
        by_seed = " and seed" if isinstance(rate, list) else ""  # files of before chose with the first seed
        steps = one.get("steps", [recipe["steps"]])  # and had one length
        length = " or ".join(f"{number:,}" for number in steps) + " steps"
        on = "on" if len(steps) == 1 else "chosen on"
        chosen = "learning rate chosen" if len(steps) == 1 else "length, and learning rate"
        lines += [
            f"{heading} {one['set']}: {one['label']}, {len(one['classes'])} classes, {seen}", "",
            f"Per cent right of {one['test']:,} test windows (chance {100 / len(one['classes']):.1f}), {spread}; κ is "
            f"Cohen's kappa; \"clear\" counts windows of {one['clear_db']:g} dB and "
            f"above. Fine-tuning: {length} of {recipe['batch']} windows, turned and shifted at random; "
            f"{chosen} among {', '.join(f'{rate:g}' for rate in recipe['rates'])} {on} {one['validation']:,} "
            f"validation windows, for each arm{by_seed} by itself. Linear: frozen features, logistic regression.", "",
            f"| track | windows {unit} | pretrained | random | gain, points | pretrained, clear | random, clear | "
            "κ pretrained | κ random | |", "|---" * 10 + "|",
        ]  # fmt: skip
        rows = [(label, str(row["k"]), row[track]) for track, label in TRACKS.items() for row in one["few"]]
        rows.append(("linear", f"{one['probe_windows']:,} in all", one["probe"]))
        for label, windows, arms in rows:
            a, b = arms["pretrained"], arms["random"]
            difference, error = gain(a["accuracy"], b["accuracy"], one["test"])
            clear = [mean_and_deviation(arm["accuracy_clear"]) if "accuracy_clear" in arm else "-" for arm in (a, b)]
            cells = [label, windows, mean_and_deviation(a["accuracy"]), mean_and_deviation(b["accuracy"]),
                     f"{100 * difference:+.1f} ± {100 * error:.1f}", *clear,
                     f"{np.mean(a['kappa']):.3f}", f"{np.mean(b['kappa']):.3f}", verdict(difference, error)]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *_untrained(one)]
    return lines


def _untrained(one: dict) -> list[str]:
    """Where more windows made the random arm worse, it was not trained to its end, and the gain is partly that."""
    shares = {row["k"]: 100 * float(np.mean(row["fine_tuned"]["random"]["accuracy"]))
              for row in sorted(one["few"], key=lambda row: row["k"])}
    worse = [k for place, k in enumerate(shares) if place and shares[k] < max(list(shares.values())[:place])]
    if not worse:
        return []
    told = ", ".join(f"{share:.1f} % with {k}" for k, share in shares.items())
    return [f"Random weights get worse with more windows ({told}): {max(one.get('steps', [one['recipe']['steps']])):,} steps have not trained them "
            "to their end. The gains of fine-tuning are those after so many steps and shrink where both arms are trained "
            "longer; docs/pretraining.md says how far.", ""]


def card(name: str, header: dict) -> str:
    """The model card of a pretrained file."""
    training, auto, machine = header["training"], header[AUTOENCODER], header["training"]["machine"]
    parameters, corpus, last = training["parameters"], training["corpus"], training["history"][-1]
    encoder = ", ".join(f"{key} {value}" for key, value in header["architecture"].items())
    decoder = ", ".join(f"{key} {value}" for key, value in auto.items() if key != "encoder")
    loss = "Mean square error of the masked values" + (" (each patch's less their mean, over their deviation)"
                                                       if auto["normalise_targets"] else "")
    if auto["spectral_weight"]:
        loss += (f", plus {auto['spectral_weight']:g} times that of the whole signal's spectral features, which a small "
                 "network reads out of the class token")
    loss += "."
    lines = [
        f"# {name}", "",
        "EMind masked autoencoder after pretraining: an encoder and the decoder that it was trained with, no heads. "
        f"`{as_run(f'emind-train finetune {EXAMPLE} --init {name}')}` starts from its encoder.", "",
        f"- Encoder: {encoder}; {parameters['encoder']:,} parameters.",
        f"- With it: {decoder}; {parameters['autoencoder']:,} parameters in all.",
        f"- Normalised by `{header['window']['normalisation']}`.",
        f"- Run: {training['steps']:,} steps, {training['signals']:,} signals, {training['samples']:,} samples, "
        f"{training['epochs']:.2f} times the corpus' {corpus['signals']:,} signals.",
        f"- Time: {training['seconds'] / 60:.0f} minutes on {machine['processor']}, {machine['processes']} processes of "
        f"{machine['threads']} threads beside other work; torch {machine['torch']}.",
        f"- Code: `{training['code']}`; seed {training['config']['run']['seed']}.",
        f"- Made by: `{as_run(f'emind-train pretrain --config FILE.toml --out {name}.safetensors')}`, FILE.toml being", "",
        "```toml", *_toml(training["config"]), "```", "",
        "## Loss", "",
        f"{loss} On validation signals, mean over the sets: {training['history'][0]['validation']:.4f} before the first "
        f"step, {last['validation']:.4f} at the end, lowest {training['best']['validation']:.4f} at step "
        f"{training['best']['step']:,}.", "",
        f"![Loss]({name}-loss.png)", "",
        "| set | signals | drawn | before | at the end | weight at the end |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for of_set, counts in corpus["sets"].items():
        first, final = (look["sets"][of_set] for look in (training["history"][0], last))
        lines.append(f"| {of_set} | {counts['signals']:,} | {counts['drawn']:,} | {first:.4f} | {final:.4f} | "
                     f"{last['weights'][of_set]:.3g} |")
    lines += ["", *corpus["skipped"], *([""] if corpus["skipped"] else [])]
    if training["probes"]:
        probe = training["config"]["probe"]
        lines += [
            "## Linear probe over pretraining", "",
            f"{probe['set']}, {probe['train']:,} windows to fit, {probe['test']:,} to test, all SNRs of the set.", "",
            f"![Linear probe]({name}-probe.png)", "", "| step | signals | per cent right |", "|---|---|---|",
            *(f"| {row['step']:,} | {row['signals']:,} | {100 * row['accuracy']:.1f} |" for row in training["probes"]),
            "",
        ]  # fmt: skip
    if "fewshot" in header["figures"]:
        lines += ["## Pretrained against random weights", "", f"![Few-shot]({name}-fewshot.png)", "",
                  *fewshot_lines(header["figures"]["fewshot"])]  # fmt: skip
    lines += ["## Corpus", "", "| file | SHA-256 |", "|---|---|"]
    lines += [f"| {file} | `{digest}` |" for file, digest in corpus["files"].items()]
    return "\n".join(lines) + "\n"


def _toml(config: dict) -> Iterable[str]:
    """A configuration of tables of plain values; JSON writes those as TOML does."""
    for table, values in config.items():
        yield f"[{table}]"
        yield from (f"{key} = {json.dumps(value)}" for key, value in values.items())


def write_card(weights: Path) -> list[Path]:
    """Card and pictures beside a pretrained weights file; what was written."""
    header, name = read_header(weights), weights.stem
    if AUTOENCODER not in header:
        raise EMindError(f"weights {weights}: not a pretrained file; the card of one with heads is written by finetune")
    written = [weights.with_name(f"{name}-loss.png")]
    draw_loss(written[0], header["training"]["history"], name)
    if header["training"]["probes"]:
        from .pretrain_log import draw_probe

        written.append(weights.with_name(f"{name}-probe.png"))
        title = f"{name}: linear probe on {header['training']['config']['probe']['set']}"
        draw_probe(written[-1], header["training"]["probes"], title)
    if "fewshot" in header["figures"]:
        written.append(weights.with_name(f"{name}-fewshot.png"))
        draw_fewshot(written[-1], header["figures"]["fewshot"]["sets"], name)
    written.append(weights.with_suffix(".md"))
    written[-1].write_text(card(name, header), encoding="utf-8")
    return written


def draw_loss(path: Path, history: list[dict], name: str) -> None:
    """Validation loss of each set over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    steps = [look["step"] for look in history]
    for k, of_set in enumerate(history[-1]["sets"]):
        axes.plot(steps, [look["sets"][of_set] for look in history], "-" if k < 10 else "--", label=of_set)
    axes.plot(steps, [look["validation"] for look in history], "k", linewidth=2, label="mean over sets")
    axes.set(xlabel="steps of pretraining", ylabel="validation loss", title=f"{name}: masked values")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=110)


def draw_fewshot(path: Path, sets: list[dict], name: str) -> None:
    """Per cent right over windows a class, both arms, with the deviation over seeds; a panel for each set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.0, 4.4 * len(sets)), 4.0), layout="constrained")
    for axes, one in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        shots = [row["k"] for row in one["few"]]
        for arm, colour in COLOURS.items():
            for track, style in (("fine_tuned", "o-"), ("linear", "s--")):
                values = np.array([row[track][arm]["accuracy"] for row in one["few"]])
                spread = values.std(axis=1, ddof=1) if values.shape[1] > 1 else np.zeros(len(values))
                axes.errorbar(shots, 100 * values.mean(axis=1), 100 * spread, fmt=style, color=colour, capsize=3,
                              label=f"{arm}, {TRACKS[track]}")
        axes.axhline(100 / len(one["classes"]), color="k", linestyle=":", linewidth=1, label="chance")
        axes.set(xscale="log", xticks=shots, xlabel="windows a class" + (" and SNR" if one["per_snr"] else ""),
                 title=f"{one['set']}" + (" (pretrained on)" if one["pretrained_on"] else ""))
        axes.set_xticks([], minor=True)
        axes.set_xticklabels([str(k) for k in shots])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("% right on test")
    figure.axes[0].legend(fontsize=7)
    figure.suptitle(f"{name}: pretrained against random first weights", fontsize=10)
    figure.savefig(path, dpi=110)


def section(headers: dict[str, dict]) -> str:
    """The figures of pretrained files, by name, as they stand in docs/pretraining.md."""
    lines = [] if headers else ["No pretrained file comes with this version."]
    for name, header in headers.items():
        training = header["training"]
        lines += [f"### {name}", "",
                  f"{training['steps']:,} steps, {training['signals']:,} signals, {training['seconds'] / 60:.0f} "
                  f"minutes; validation loss {training['history'][0]['validation']:.4f} before the first step, "
                  f"{training['history'][-1]['validation']:.4f} at the end. All of the run stands in its "
                  f"[card](../python/emind/weights/{name}.md).", ""]
        if training["probes"]:
            lines += [f"![Linear probe over pretraining](../python/emind/weights/{name}-probe.png)", ""]
        if "fewshot" in header["figures"]:
            lines += [f"![Pretrained against random](../python/emind/weights/{name}-fewshot.png)", "",
                      *fewshot_lines(header["figures"]["fewshot"], "####")]
    return "\n".join(lines)


def write_with_heads(page: Path, weights: Path, digest: str, figures: dict) -> None:
    """Figures of a file with heads between its marks in the page, and their picture in ``images`` beside it. Its header
    is left alone: other pages know the file by its hash. EMindError as `pages.parts_of_page`."""
    name = weights.stem
    before, behind = parts_of_page(page, name, COMMAND)
    lines = [f"### {name}, with heads", "", f"The file with the SHA-256 `{digest}`.", ""]
    if any(len(one["few"]) > 1 for one in figures["sets"]):  # a line through one point says no more than the table
        picture = page.parent / "images" / f"fewshot-{name}.png"
        picture.parent.mkdir(exist_ok=True)
        draw_fewshot(picture, figures["sets"], name)
        lines += [f"![{name} against random](images/{picture.name})", ""]
    lines += fewshot_lines(figures, "####")
    page.write_text(before + "\n\n" + "\n".join(lines) + "\n" + behind, encoding="utf-8")


def released_headers(folder: Path) -> dict[str, dict]:
    return {path.stem: read_header(path) for path in sorted(folder.glob(RELEASED))}


def with_section(page: str, text: str) -> str:
    """The page with what stands between its marks replaced. EMindError where it lacks them."""
    if BEGIN not in page or END not in page:
        raise EMindError(f"the page has no place for the figures: it lacks the lines {BEGIN} and {END}")
    before, rest = page.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}"
