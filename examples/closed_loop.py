#!/usr/bin/env python3
"""The closed loop: record two signals, check, train a head on them, load it into a running flowgraph, see the new tags.

    radio or file ─► emind record ─► emind-train dataset check, split ─► emind-train finetune ─► weights file
    the same radio or file ─► flowgraph that runs ──────────────── message "weights" ◄───────────────┘
                                   └─► tags emind_technology with the name that was given to the signal

With a USRP (or the emulated one of tests/usrp_emulator):
    .venv/bin/python examples/closed_loop.py --usrp addr=192.168.10.2 --rate 1e6 --new node 868.3e6 --other noise 900e6
Without hardware, from raw complex64 files:
    .venv/bin/python examples/closed_loop.py --rate 1e6 --new node node.cf32 --other noise noise.cf32
It prints each command before it runs it, and in the end how many windows had which name before and after.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pmt
from gnuradio import blocks, gr

from gnuradio import emind

HEAD = "technology"
WITHIN_S = 120.0
ROW = 1024  # samples
CONFIG = """
[task.{head}]
[optim]
steps = {steps}
batch = 16
warmup_steps = 5
learning_rate = 3e-3
bfloat16 = false
average = 0.0
[run]
name = "closed-loop"
validate_every = {steps}
log_every = {steps}
"""


class names_seen(gr.sync_block):
    """Counts the labels of one head's tags; ``seen`` is set with the first label that is asked for."""

    def __init__(self, head: str, wanted: str) -> None:
        gr.sync_block.__init__(self, "names_seen", in_sig=[np.complex64], out_sig=None)
        self.counts: Counter[str] = Counter()
        self.seen = threading.Event()
        self._key, self._wanted = pmt.intern(f"emind_{head}"), wanted

    def work(self, input_items, output_items):
        for tag in self.get_tags_in_window(0, 0, len(input_items[0]), self._key):
            label = pmt.symbol_to_string(pmt.dict_ref(tag.value, pmt.intern("label"), pmt.PMT_NIL))
            self.counts[label] += 1
            if label == self._wanted:
                self.seen.set()
        return len(input_items[0])


class monitor(gr.top_block):
    """A radio at ``where`` Hz, or the file of that name again and again, into the receiver block."""

    def __init__(self, options: argparse.Namespace, where: str, wanted: str) -> None:
        gr.top_block.__init__(self, "closed loop")
        self.receiver = emind.receiver(options.weights, sample_rate=options.rate, backend=options.backend)
        self.before, self.after = names_seen("modulation", wanted), names_seen(HEAD, wanted)
        if options.usrp:
            from gnuradio import uhd

            source = uhd.usrp_source(options.usrp, uhd.stream_args(cpu_format="fc32"))
            source.set_samp_rate(options.rate)
            source.set_center_freq(float(where))
        else:
            source = blocks.throttle(gr.sizeof_gr_complex, options.rate)
            self.connect(blocks.file_source(gr.sizeof_gr_complex, where, True), source)
        self.connect(source, self.receiver)
        self.connect(self.receiver, self.before)
        self.connect(self.receiver, self.after)

    def load(self, weights: Path) -> None:
        message = pmt.cons(pmt.intern("weights"), pmt.intern(str(weights)))
        self.receiver.inference.to_basic_block()._post(pmt.intern("weights"), message)


def step(module: str, *arguments: object) -> None:
    """Show a command and run it; the loop ends where one fails."""
    print(f"$ {module.replace('_', '-')} {' '.join(map(str, arguments))}", flush=True)
    package = "emind.cli" if module == "emind" else "emind_training.cli"
    done = subprocess.run([sys.executable, "-m", package, *map(str, arguments)], check=False)
    if done.returncode:
        raise SystemExit(f"closed_loop: {module} ended with status {done.returncode}")


def record(options: argparse.Namespace, name: str, where: str) -> Path:
    """Some seconds of one signal, labelled with its name."""
    source = ["--usrp", options.usrp, "--freq", where] if options.usrp else ["--from", where, "--format", "cf32"]
    seconds = max(64, round(options.seconds * options.rate / ROW)) * ROW / options.rate  # whole rows
    step("emind", "record", options.folder / name, *source, "--rate", options.rate, "--seconds", seconds,
         "--label", f"infer_class={name}", "--label", "dataset_name=closed-loop")
    return sorted(options.folder.glob(f"{name}-*.parquet"))[-1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new", nargs=2, required=True, metavar=("NAME", "WHERE"), help="frequency in Hz, or a file")
    parser.add_argument("--other", nargs=2, required=True, metavar=("NAME", "WHERE"), help="what it is to be told from")
    parser.add_argument("--usrp", default="", metavar="ARGS", help="device address; without it WHERE are raw files")
    parser.add_argument("--rate", type=float, default=1e6, metavar="HZ")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each recording (default 0.5)")
    parser.add_argument("--weights", default="emind-nano", help="what runs first, and what the encoder comes from")
    parser.add_argument("--steps", type=int, default=100, help="of training (default 100)")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--folder", type=Path, default=Path("build/closed-loop"))
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    files = [record(options, *signal) for signal in (options.new, options.other)]
    step("emind_train", "dataset", "check", *files)
    step("emind_train", "dataset", "split", *files, "--out", options.folder / "split", "--ratios", "6:2:2",
         "--overwrite")
    config = options.folder / "closed-loop.toml"
    config.write_text(CONFIG.format(head=HEAD, steps=options.steps), encoding="utf-8")
    weights = options.folder / "closed-loop.safetensors"
    step("emind_train", "finetune", "--task", HEAD, "--config", config, "--data", options.folder / "split", "--init",
         options.weights, "--freeze-encoder", "--out", weights, "--runs", options.folder / "runs")
    flowgraph = monitor(options, options.new[1], options.new[0])
    flowgraph.start()
    try:
        flowgraph.load(weights)
        seen = flowgraph.after.seen.wait(WITHIN_S)
    finally:
        flowgraph.stop()
        flowgraph.wait()
    print(json.dumps({"modulation": flowgraph.before.counts, HEAD: flowgraph.after.counts,
                      "weights": flowgraph.receiver.inference.statistics()["weights"]}))
    return 0 if seen else 1


if __name__ == "__main__":
    sys.exit(main())
