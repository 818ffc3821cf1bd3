"""The `emind` command: a thin front end; each subcommand is a module in ``commands``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from .contract.errors import EMindError

# name, what it does, an example
COMMANDS = (
    ("classify", "name the signals in a recording", "emind classify capture.sigmf-meta --json answers.jsonl"),
    ("record", "record labelled samples from a USRP or a recording",
     "emind record take --freq 868.3e6 --rate 1e6 --seconds 10 --label modulation=LoRa"),
    ("live", "name what a radio receives while it comes",
     "emind live --args addr=192.168.10.2 --freq 868.3e6 --gain auto"),
    ("scan", "step over frequencies with a radio and tell what is where",
     "emind scan 430e6:440e6 868.3e6 --args addr=192.168.10.2"),
    ("host", "answer windows that flowgraphs elsewhere send", "emind host --bind tcp://0.0.0.0:5555"),
    ("enrol", "teach weights a new class or emitter from a handful of windows",
     "emind enrol LoRa-node take-1.parquet --out mine.safetensors"),
    ("doctor", "tell what is installed, what is wrong and how to mend it", "emind doctor"),
    ("bench", "measure speed on this machine", "emind bench realtime --seconds 5"),
    ("weights", "list weights files and show what one holds", "emind weights show emind-nano"),
)
INTERRUPTED = 130  # what a shell reports of a program that SIGINT ended


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser. Only the chosen subcommand's module is imported, so that help and typing mistakes answer at once."""
    parser = argparse.ArgumentParser(
        prog="emind", description="EMind for GNU Radio: names the signals in IQ samples.",
        epilog="example: emind classify capture.sigmf-meta --plot capture.png")
    parser.add_argument("--version", action="version", version=f"emind {_version()}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, what, example in COMMANDS:
        sub = subparsers.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".",
                                    epilog=f"example: {example}")
        if name == chosen:
            module = importlib.import_module(f".commands.{name}", __package__)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("gr-emind")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _keep_standard_output() -> None:
    """Only what the command itself prints reaches standard output: GNU Radio logs to descriptor 1, among JSON lines."""
    try:
        sys.stdout.flush()
        ours = os.fdopen(os.dup(1), "w", buffering=1 if os.isatty(1) else -1, encoding=sys.stdout.encoding,
                         errors=sys.stdout.errors)  # fmt: skip
        os.dup2(2, 1)
    except (OSError, AttributeError):  # one of the two is closed: nothing can be mixed up
        return
    sys.stdout = ours


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    if argv is None:
        _keep_standard_output()
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    try:
        options = build_parser(chosen).parse_args(arguments)
        return options.run(options)
    except EMindError as fault:
        print(f"emind: error: {fault}", file=sys.stderr)
        return fault.exit_status
    except KeyboardInterrupt:
        print("emind: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as fault:
        if fault.name is None or fault.name.startswith("emind"):
            raise
        print(f"emind: error: the Python module {fault.name} is missing here; `emind doctor` says what to do",
              file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
