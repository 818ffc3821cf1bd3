"""`emind-train fewshot`: a pretrained encoder against random first weights on sets that it has not seen."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from emind.contract.errors import EMindError, UsageError

from .outputs import writable

SUFFIX = ".parquet"
AIR = "Air"  # as a recipe; drawn while training it is called air


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.epilog = "example: emind-train fewshot emind-nano-pretrained --sets RadChar-regen AWGN-7 --out runs/fewshot"
    p.add_argument("weights", help="released name or path of a pretrained (or fine-tuned) file")
    p.add_argument("--sets", nargs="+", default=["RadChar-regen"], metavar="SET",
                   help=f"names of sets, drawn here, or {SUFFIX} files of one set each (default RadChar-regen)")
    p.add_argument("--label", metavar="COLUMN", help="what is asked; default the first label with two classes")
    p.add_argument("--shots", nargs="+", type=int, default=[10, 50, 100], metavar="K",
                   help="windows a class (default 10 50 100)")
    p.add_argument("--per-snr", action="store_true", help="K windows a class and SNR label, as the paper for RML2016")
    p.add_argument("--seeds", type=int, default=3, metavar="N", help="how many (default 3)")
    p.add_argument("--steps", nargs="+", type=int, default=[600, 3000], help="lengths of the fine-tuning that validation "
                   "chooses from (default 600 3000)")
    p.add_argument("--rates", nargs="+", type=float, metavar="RATE", help="learning rates that validation chooses from "
                   "(default 0.0001 0.0005 0.002)")
    p.add_argument("--pool", type=int, default=2000, help="windows that those to train on are drawn from")
    p.add_argument("--validation", type=int, default=500, help="windows that choose the learning rates")
    p.add_argument("--test", type=int, default=2000, help="windows that are answered at the end")
    p.add_argument("--probe-windows", type=int, default=1000, help="windows of the pool that the linear probe is fitted "
                   "to, beside those of the few-shot tracks")
    p.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    p.add_argument("--out", type=Path, default=Path("runs/fewshot"), help="folder for NAME.json, NAME.png and "
                   "done/, fine-tunings that are done; the same command goes on from there (default runs/fewshot)")
    p.add_argument("--write", action="store_true", help="of a pretrained file: put the figures into its header and write "
                   "its card and the section of docs/pretraining.md; of one with heads: write them between its marks "
                   "in that page")
    p.add_argument("--json", action="store_true", help="print the figures as JSON")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    for name in ("seeds", "validation", "test", "probe_windows", "threads"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(args, name)} must be at least 1")
    for name in ("shots", "steps"):
        if min(getattr(args, name)) < 1:
            raise UsageError(f"--{name} {min(getattr(args, name))} must be at least 1")
    for rate in args.rates or ():
        if not 0 < rate < 1:
            raise UsageError(f"--rates {rate:g} must lie between 0 and 1")
    writable(args.out)
    import torch
    from emind.models.checkpoint import AUTOENCODER, load_encoder, with_figures
    from emind.runtime.engine import has_bfloat16
    from emind.runtime.weights import resolve

    from . import pretrained_card as cards
    from .cli import code_version, processor
    from .fewshot import Plan, Recipe, compare
    from .fewshot_kept import Kept
    from .pages import parts_of_page
    from .synthesis.build import file_hash

    path = resolve(args.weights)
    encoder, _, header = load_encoder(path)
    if args.write and AUTOENCODER not in header:
        parts_of_page(cards.PAGE, path.stem, cards.COMMAND)  # a page without the place is told before the training
    seen = pretrained_sets(header)
    torch.set_num_threads(args.threads)
    rates = tuple(args.rates) if args.rates else Recipe.rates
    plan = Plan(tuple(args.shots), args.per_snr, tuple(range(args.seeds)), args.probe_windows,
                tuple(args.steps), Recipe(rates=rates, bfloat16=has_bfloat16()))
    kept = Kept(args.out / "done", {"weights": file_hash(path)}, code_version())
    results = []
    for name in args.sets:
        probe_set = _windows(name, args)
        if not args.json:
            print(f"{probe_set.name}: {len(probe_set.classes)} classes by {probe_set.column}, "
                  f"{len(probe_set.train)} / {len(probe_set.validation)} / {len(probe_set.test)} windows", flush=True)
        say = (lambda line: None) if args.json else (lambda line: print("  " + line, flush=True))
        results.append(compare(encoder, probe_set, plan, say, kept) | {"pretrained_on": probe_set.name in seen})
    figures = {
        "command": command(args), "code": ", ".join(sorted(kept.codes)), "machine": processor(),
        "threads": args.threads, "seconds": fine_tuning_seconds(results), "sets": results,
        "heads": AUTOENCODER not in header,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{path.stem}.json").write_text(json.dumps({"weights": path.name, **figures}, indent=1) + "\n")
    cards.draw_fewshot(args.out / f"{path.stem}.png", results, path.stem)
    if args.json:
        print(json.dumps(figures))
    else:
        print("\n".join(cards.fewshot_lines(figures)))
    if args.write and figures["heads"]:
        cards.write_with_heads(cards.PAGE, path, file_hash(path), figures)
        print(f"wrote {cards.PAGE}")
    elif args.write:
        with_figures(path, {"fewshot": figures})
        for written in cards.write_card(path):
            print(f"wrote {written}")
        write_page(path.parent)
    return 0


def command(args: argparse.Namespace) -> str:
    """The command line that gives these figures again."""
    words = ["emind-train fewshot", str(args.weights), "--sets", *args.sets, "--shots", *map(str, args.shots)]
    words += ["--label", args.label] if args.label else []
    words += ["--per-snr"] if args.per_snr else []
    words += ["--rates", *(f"{rate:g}" for rate in args.rates)] if args.rates else []
    words += ["--steps", *map(str, args.steps)]
    for name in ("seeds", "pool", "validation", "test", "probe_windows"):
        words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return " ".join(words)


def fine_tuning_seconds(results: list[dict]) -> float:
    """What the fine-tunings took, in this run and in those before it whose results were kept; without the probes."""
    return round(sum(sum(one["seconds"]) for result in results for row in result["few"]
                     for one in row["fine_tuned"].values()), 1)


def pretrained_sets(header: dict) -> set[str]:
    """Names of the sets that a file was pretrained on or, where it has heads, that these were trained on."""
    training = header["training"]
    sources = training.get("data", {})
    if isinstance(sources, str):  # a head of the air set alone has a sentence there
        return {AIR}
    asked = {one["set"] for one in sources.values() if isinstance(one, dict) and "set" in one}
    return set(training.get("corpus", {}).get("sets", {})) | {AIR if name == AIR.lower() else name for name in asked}


def write_page(folder: Path) -> None:
    """The section of the documentation, where this tree has the page and the weights lie in its folder of releases."""
    from emind.runtime.weights import FOLDER

    from . import pretrained_card as cards

    if folder.resolve() != FOLDER.resolve() or not cards.PAGE.is_file():
        return
    text = cards.section(cards.released_headers(FOLDER))
    cards.PAGE.write_text(cards.with_section(cards.PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    print(f"wrote {cards.PAGE}")


def _windows(name: str, args: argparse.Namespace):
    from .probe import ProbeSet

    counts = {"train": args.pool, "validation": args.validation, "test": args.test, "column": args.label}
    if name.endswith(SUFFIX):
        if not Path(name).is_file():
            raise EMindError(f"{name}: no such file")
        return ProbeSet.from_file(name, **counts)
    return ProbeSet.generated(name, **counts)
