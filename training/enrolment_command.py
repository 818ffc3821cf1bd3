"""`emind-train enrolment`: how well few windows of a class do that the weights never saw, and what that costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from emind.contract.errors import UsageError

from . import enrolment_table
from .outputs import writable

OLD_SEED = 0x01D  # of the windows of known classes whose answers are compared
OLD_WINDOWS = 4096
SEED = 0xE1


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.epilog = "example: emind-train enrolment emind-nano --set EM-Infer-Comm --ways 5 --shots 5 --episodes 200"
    p.add_argument("weights", help="released name or path of weights with a reference (emind-train reference)")
    p.add_argument("--set", nargs="+", default=["EM-Infer-Comm"], metavar="SET", dest="sets",
                   help="sets to draw windows of (default EM-Infer-Comm)")
    p.add_argument("--recordings", nargs="+", type=Path, default=[], metavar="FILE",
                   help="SigMF recordings instead, each of them a class: the first half is enrolled, the second asked")
    p.add_argument("--label", metavar="COLUMN", help="classes by this column")
    p.add_argument("--ways", type=int, default=5)
    p.add_argument("--shots", type=int, default=5)
    p.add_argument("--queries", type=int, default=15)
    p.add_argument("--episodes", type=int, default=200)
    p.add_argument("--windows", type=int, default=3000, help="of a set; of a recording (default 3000)")
    p.add_argument("--out", type=Path, help="folder for NAME-enrolment.json and .png")
    p.add_argument("--write", type=Path, metavar="PAGE", help="put the figures into the table of this page")
    p.add_argument("--json", action="store_true", help="print the figures as JSON")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    for name in ("ways", "shots", "queries", "episodes", "windows"):
        if getattr(args, name) < (2 if name in ("ways", "shots") else 1):
            raise UsageError(f"--{name} {getattr(args, name)} is too few")
    if args.out:
        writable(args.out)
    if args.write:  # as it is: a page that cannot take the table is told now, not after an hour
        enrolment_table.write(args.write, [])
    import numpy as np
    import torch
    from emind.models.checkpoint import load_weights
    from emind.runtime.enrolling import features_of, features_of_views
    from emind.runtime.weights import resolve

    from . import enrolment
    from .cli import code_version
    from .reference import air_windows

    path = resolve(args.weights)
    torch.set_num_threads(1)
    model, window, header = load_weights(path)
    reference = enrolment.reference_in(model)
    plan = enrolment.Plan(args.ways, args.shots, args.queries, args.episodes)
    iq, _, _ = air_windows(OLD_SEED, OLD_WINDOWS, window)
    results = []
    names = [None] if args.recordings else args.sets
    for name in names:
        if name is None:
            examples = enrolment.recorded(args.recordings, window.length, args.windows)
        else:
            examples = enrolment.drawn(name, args.windows, window.length, SEED, args.label, args.ways)
        feature_NF = features_of(model, window, header, examples.windows, examples.rate,
                                 component_XY=reference.component_XY)
        # Known signals as a receiver hears them that is set to the enrolled class's rate.
        old_NF = features_of(model, window, header, iq, np.resize(examples.rate, len(iq)),
                             component_XY=reference.component_XY)
        found = enrolment.measured(
            reference, feature_NF, lambda place, drawn=examples: features_of_views(
                model, window, header, drawn.windows[place], drawn.rate[place],
                component_XY=reference.component_XY), examples, old_NF, plan)
        found["left_out"] = None if name is None else name not in trained_on(header)
        results.append(found)
        if not args.json:
            print("\n".join(lines(found)), flush=True)
    figures = {"weights": path.name, "code": code_version(), "old_windows": OLD_WINDOWS, "sets": results}
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{path.stem}-enrolment.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        draw(args.out / f"{path.stem}-enrolment.png", results, path.stem)
    if args.write:
        weights = f"{path.stem} {header['training'].get('code', '')}".rstrip()
        enrolment_table.write(args.write, [enrolment_table.row(found, weights) for found in results])
    if args.json:
        print(json.dumps(figures))
    return 0


def trained_on(header: dict) -> set[str]:
    """Names of the sets in the history of a weights file, as far as its header tells."""
    return {word for word in json.dumps(header["training"]).replace('"', " ").replace(",", " ").split()}


def lines(found: dict) -> list[str]:
    def share(figure: dict) -> str:
        spread = figure["interval_95"]
        return f"{figure['mean']:.3f}" + ("" if spread is None else f" +- {spread:.3f}")

    out = [f"{found['set']} by {found['by']}: {found['ways']}-way {found['shots']}-shot of {len(found['classes'])} "
           f"classes, {found['episodes']} episodes"
           + ("" if found["left_out"] in (True, None) else "; SEEN IN TRAINING"),
           f"  above 0 dB, among the enrolled     {share(found['accuracy'])}",
           f"  the same, {found['several']} windows together      {share(found['accuracy_several'])}",
           f"  above 0 dB, in the head they joined {share(found['in_the_head'])}",
           f"  linear probe with all windows       {share(found['probe']) if found['probe'] else 'too few windows'}",
           f"  old answers changed                {100 * found['old_changed']['mean']:.2f} %, in the worst episode "
           f"{100 * found['old_changed_worst']:.2f} %"]
    out += [f"    {row['snr_db']:5g} dB  {row['accuracy']:.3f}  {row['in_the_head']:.3f}  ({row['windows']})"
            for row in found["by_snr"]]
    out += [f"    {row['accuracy']:.3f}  {row['class']}, most often taken for {row['mistaken_for']} ({row['share']:.3f} "
            "where both are enrolled)" for row in found["by_class"]]
    return out


def draw(path: Path, results: list[dict], title: str) -> None:
    """Accuracy among the enrolled over SNR, a line a set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.0, 3.6), layout="constrained")
    for found in results:
        snr = [row["snr_db"] for row in found["by_snr"]]
        line, = axes.plot(snr, [row["accuracy"] for row in found["by_snr"]], "o-", label=found["set"])
        axes.plot(snr, [row["in_the_head"] for row in found["by_snr"]], ":", color=line.get_color())
    first = results[0]
    axes.set(xlabel="SNR, dB", ylabel="share right", ylim=(0, 1),
             title=f"{title}: {first['ways']}-way {first['shots']}-shot; dotted: in the head")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
