"""The `emind-train` command."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from pathlib import Path

from emind.contract.errors import EMindError

from . import (
    agreement,
    bench_generate,
    bench_loader,
    bench_masking,
    bench_packing,
    bench_step,
    compare_command,
    dataset,
    evaluate_command,
    enrolment_command,
    fewshot_command,
    finetune_command,
    grow_command,
    pretrain_command,
    reference,
    unknown,
)
from .sources import command as import_command


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="emind-train", description="Train and measure the weights that gr-emind loads.")
    commands = p.add_subparsers(dest="command", required=True)
    finetune_command.add_arguments(commands.add_parser(
        "finetune", help="train an encoder with its heads", description=finetune_command.__doc__))
    pretrain_command.add_arguments(commands.add_parser(
        "pretrain", help="train a masked autoencoder on a corpus, without labels",
        description=pretrain_command.__doc__))
    w = commands.add_parser(
        "fewshot", help="measure what pretraining is worth: few labels, against random first weights",
        description=fewshot_command.__doc__)
    fewshot_command.add_arguments(w)
    grow_command.add_arguments(commands.add_parser(
        "grow", help="a larger encoder that starts from what a trained smaller one knows",
        description=grow_command.__doc__))
    reference.add_arguments(commands.add_parser(
        "reference", help="put windows of known classes into a weights file, so that classes can be enrolled with it",
        description=reference.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    unknown.add_arguments(commands.add_parser(
        "unknown", help="set anew, without training, from where on a weights file says unknown",
        description=unknown.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    agreement.add_arguments(commands.add_parser(
        "agreement", help="measure how far one back end's answers are from another's",
        description=agreement.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    enrolment_command.add_arguments(commands.add_parser(
        "enrolment", help="measure enrolment: few windows of classes that the weights never saw",
        description=enrolment_command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    compare_command.add_arguments(commands.add_parser(
        "compare", help="train several models on the same windows of one set, and measure them alike",
        description=compare_command.__doc__))
    evaluate_command.add_arguments(commands.add_parser(
        "evaluate", help="measure a weights file and write an HTML page and JSON about it",
        description=evaluate_command.__doc__))
    d = commands.add_parser("dataset", help="make, show and check sets of signals")
    sets = d.add_subparsers(dest="dataset", metavar="WHAT", required=True)
    dataset.add_arguments(sets)
    import_command.add_arguments(sets)
    b = commands.add_parser("bench", help="measure this machine")
    benches = b.add_subparsers(dest="bench", metavar="NAME", required=True)
    bench_generate.add_arguments(benches.add_parser(
        "generate", help="signals a second that are drawn and written", description=bench_generate.__doc__,
        epilog="example: emind-train bench generate --set EM-Comm --json"))
    bench_packing.add_arguments(benches.add_parser(
        "packing", help="how full rows become, and what that is worth in a step", description=bench_packing.__doc__,
        epilog="example: emind-train bench packing --json"))
    bench_masking.add_arguments(benches.add_parser(
        "masking", help="the mask of a pack beside a loop over its signals", description=bench_masking.__doc__,
        epilog="example: emind-train bench masking --json"))
    bench_step.add_arguments(benches.add_parser(
        "step", help="training steps beside this machine's matrix products", description=bench_step.__doc__,
        epilog="example: emind-train bench step --json"))
    bench_loader.add_arguments(benches.add_parser(
        "loader", help="signals a second into batches, memory, and waiting", description=bench_loader.__doc__,
        epilog="example: emind-train bench loader --gigabytes 8 --json"))
    return p


def code_version() -> str:
    """The commit, marked where the tree differs from it."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True,
            check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except EMindError as error:
        print(f"emind-train: error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as fault:
        from .outputs import told

        where = f"{fault.filename}: " if fault.filename else ""
        print(f"emind-train: error: {where}{told(fault)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("emind-train: interrupted; what is finished stays (finetune goes on with --resume)", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
