"""`emind bench`: measurements of this machine. The measuring itself lives in the package emind_benchmarks."""

from __future__ import annotations

import argparse
import importlib

from ..contract.errors import EMindError

# name, module, what it measures
BENCHES = (
    ("realtime", "emind_benchmarks.realtime", "windows a second through the GNU Radio block"),
    ("latency", "emind_benchmarks.latency", "latency and coverage over load, a tenth to three times the engine's rate"),
    ("stream", "emind_benchmarks.stream", "a stream of a given rate: samples lost, longest wait, coverage"),
    ("soak", "emind_benchmarks.soak", "minutes of overload: memory and queues over time"),
    ("storage", "emind_benchmarks.storage", "reading Parquet, and recording"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(dest="bench", metavar="NAME", required=True)
    for name, module_name, what in BENCHES:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as fault:
            if fault.name != module_name.split(".")[0]:
                raise
            raise EMindError(f"{fault.name} is not installed here; `make install` in the repository does it") from None
        sub = subparsers.add_parser(name, help=what, description=module.__doc__.split("\n\n")[0],
                                    epilog=f"example: emind bench {name} --json")
        module.add_arguments(sub)
        sub.set_defaults(measure=module.run)


def run(options: argparse.Namespace) -> int:
    return options.measure(options)
