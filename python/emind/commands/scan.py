"""`emind scan`: steps over frequencies with a radio and tells what is where; table or JSON."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from contextlib import ExitStack
from queue import Empty, SimpleQueue

from ..contract.errors import EMindError, UsageError
from ..storage.replacing import replacing
from .classify import MAIN_HEAD, NOISE_FAMILY, _hz, progress_bar
from .head_text import OUTSIDE_NOTE, add_heads_argument, any_outside, left_out_note, shown, summary
from .live_process import Child, stopping_signals
from .live_source import AUTO, add_source_arguments, source_settings

USABLE = 0.8  # of the rate: what the receiver's filters pass evenly
STEP = 0.75  # of the rate from one step to the next: neighbours overlap, so a signal at an edge is whole in one of them
BESIDE = 0.125  # of the rate: how far beside a single frequency is tuned, away from the receiver's own spike
MOST_STEPS = 100_000
SILENT_S = 60.0  # without a word from the radio's process, beyond what a step may take
MOST_SAMPLES = 1 << 27  # of a dwell, which is held in memory as a whole: 1 GiB
MOST_TRIES = 4  # for a stretch without a gap
JOIN_HZ_SHARE = 0.5  # of the wider one's width: found twice where middles lie this near


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", nargs="+", metavar="HZ|LOW:HIGH[:STEP]",
                        help="frequencies, and ranges; the step is 0.75 of the rate unless it is given")
    add_source_arguments(parser, automatic=False)
    how = parser.add_argument_group("scanning")
    how.add_argument("--dwell-ms", type=float, default=250.0, metavar="MS",
                     help=f"time at each step, at most {MOST_SAMPLES >> 20} Mi samples (default: 250)")
    how.add_argument("--settle-ms", type=float, default=10.0, metavar="MS",
                     help="what is received so shortly after tuning is left out (default: 10)")
    how.add_argument("--weights", default="emind-nano", metavar="NAME", help="name or path of a weights file")
    add_heads_argument(how)
    how.add_argument("--backend", default="auto", metavar="NAME", help="what computes (default: auto)")
    how.add_argument("--threads", type=int, default=0, metavar="N", help="processor threads (default: 0 = all)")
    how.add_argument("--json", metavar="FILE", help="one JSON object a signal and line; - writes to standard output")
    how.add_argument("--quiet", action="store_true", help="no progress and no remarks on standard error")


def run(options: argparse.Namespace) -> int:
    if options.gain == AUTO:
        raise UsageError("--gain auto: a scan has one gain, so that signals can be compared; give decibels")
    settings = source_settings(options)
    for name in ("dwell_ms", "settle_ms"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value >= 0) or (name == "dwell_ms" and not value):
            raise UsageError(f"--{name.replace('_', '-')} {value:g} must be above 0")
    if (samples := options.dwell_ms / 1e3 * settings["rate"]) > MOST_SAMPLES:
        raise UsageError(f"--dwell-ms {options.dwell_ms:g} at a rate of {settings['rate']:g} Hz are {samples:.3g} samples "
                         f"to be held in memory, more than {MOST_SAMPLES}: lower one of them")
    steps = plan_steps(options.where, settings["rate"])
    settings |= {"mode": "scan", "steps": steps, "channels": [0], "dwell_s": options.dwell_ms / 1e3, "batch": 32,
                 "settle_s": options.settle_ms / 1e3, "weights": options.weights, "heads": options.heads,
                 "backend": options.backend, "threads": options.threads, "usable": USABLE,
                 "tries": MOST_TRIES}
    inbox: SimpleQueue = SimpleQueue()
    with ExitStack() as stack:
        path = stack.enter_context(replacing(options.json)) if options.json not in (None, "-") else None
        stack.enter_context(stopping_signals(inbox))
        progress = None if options.quiet else progress_bar(stack, "steps")
        found, done, fault = _receive(settings, inbox, progress, options.quiet)
        if fault is not None and not done:
            raise fault
        signals = merged(found)
        lines = [json.dumps(one) + "\n" for one in signals]
        if path:
            path.write_text("".join(lines), encoding="utf-8")
    if options.json == "-":
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    elif options.json is None:
        print_table(signals, done, len(steps), options.heads is not None)
    if done < len(steps) and not options.quiet:
        print(f"emind: ended after {done} of {len(steps)} steps", file=sys.stderr)
    if fault is not None:  # what was found until then stands above
        raise fault
    return 0


def plan_steps(where: list[str], rate: float) -> list[float]:
    """Frequencies in Hz to tune to, from what the arguments say; UsageError names the one that is none.

    A single frequency is heard an eighth of the rate beside the middle, where the receiver's own spike is.
    """
    steps: list[float] = []
    for text in where:
        try:
            numbers = [float(part) for part in text.split(":")]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3 or not all(math.isfinite(n) and n > 0 for n in numbers):
            raise UsageError(f"{text}: give a frequency in Hz, or a range LOW:HIGH or LOW:HIGH:STEP")
        if len(numbers) == 1:
            steps.append(numbers[0] + BESIDE * rate)
            continue
        low, high, step = numbers if len(numbers) == 3 else (*numbers, STEP * rate)
        if low > high:
            raise UsageError(f"{text}: the range ends below its start")
        half = USABLE / 2 * rate  # a step hears so much to either side
        if step > 2 * half:
            raise UsageError(f"{text}: steps of {step:g} Hz leave gaps; at this rate up to {2 * half:g} Hz")
        first, last = min(low + half, (low + high) / 2), max(high - half, (low + high) / 2)
        count = math.ceil((last - first) / step - 1e-9) + 1
        if len(steps) + count > MOST_STEPS:
            raise UsageError(f"{text}: more than {MOST_STEPS} steps")
        steps += [first + number * (last - first) / max(count - 1, 1) for number in range(count)]
    return steps


def longest_step_s(settings: dict) -> float:
    """What the radio's process may take for a step without a word: every try as long as it waits (`scan_worker`)."""
    return settings["tries"] * (3 * settings["dwell_s"] + settings["settle_s"] + 2.0)


def _receive(settings: dict, inbox: SimpleQueue, progress,
             quiet: bool) -> tuple[list[dict], int, EMindError | None]:
    """What the radio's process tells: signals, how many steps were done, and what ended it before the last."""
    found: list[dict] = []
    done, stopping = 0, False
    child = Child(settings, inbox)
    heard = time.monotonic()
    seen_logs: set[str] = set()
    try:
        while True:
            try:
                kind, _, what = inbox.get(timeout=0.2)
            except Empty:
                if time.monotonic() - heard > SILENT_S + longest_step_s(settings):
                    return found, done, EMindError("the driver hangs")
                continue
            heard = time.monotonic()
            if kind == "stop":
                stopping = True
                child.send({"stop": True})
            elif kind == "log" and not quiet and what not in seen_logs:
                seen_logs.add(what)
                print(what, file=sys.stderr)
            elif kind == "exit":
                return found, done, None if stopping else EMindError(
                    f"the radio's process failed with status {what}: "
                    f"{child.log[-1] if child.log else 'it said nothing'}")
            elif kind == "told" and what["kind"] == "step":
                found += [one | {"step_freq": what["freq"]} for one in what["found"]]
                done += 1
                if progress:
                    progress(done, len(settings["steps"]))
            elif kind == "told" and what["kind"] == "event" and not quiet:
                print(f"emind: {what['text']}", file=sys.stderr)
            elif kind == "told" and what["kind"] == "error":
                return found, done, (UsageError if what["status"] == 2 else EMindError)(what["text"])
            elif kind == "told" and what["kind"] == "ended":
                return found, done, None
    finally:
        child.close()


def merged(found: list[dict]) -> list[dict]:
    """Signals in order of frequency; what two neighbouring steps have both heard is told once, as the better heard."""
    out: list[dict] = []
    for one in sorted(found, key=lambda signal: signal["freq"]):
        before = out[-1] if out else None
        if before is not None and before["step_freq"] != one["step_freq"]:
            near = JOIN_HZ_SHARE * max(before["bandwidth"], one["bandwidth"])
            if one["freq"] - before["freq"] <= near:
                if one["snr_db"] * one["bandwidth"] > before["snr_db"] * before["bandwidth"]:
                    out[-1] = one
                continue
        out.append(one)
    return out


def print_table(signals: list[dict], done: int, steps: int, asked: bool = False) -> None:
    """What was found; ``asked``: heads were named, so all of them have a column."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(signals)} signals at {done} of {steps} steps")
    for name, justify in (("frequency (MHz)", "right"), ("width", "right"), ("modulation", "left"), ("family", "left"),
                          ("confidence", "right"), ("SNR (dB)", "right"), ("time on (%)", "right")):
        table.add_column(name, justify=justify)
    others = list(dict.fromkeys(name for one in signals for name, said in one.items()
                                if isinstance(said, dict) and name != MAIN_HEAD))
    named, others = others, [name for name in others if shown((one[name] for one in signals if name in one), asked)]
    for name in others:
        table.add_column(name)
    if any_outside(one[name] for one in signals for name in others if name in one):
        table.caption = OUTSIDE_NOTE
    elif left_out := [name for name in named if name not in others]:
        table.caption = left_out_note(left_out)
    for one in signals:
        head = one.get(MAIN_HEAD, {"label": "-", "family": "-", "confidence": math.nan})
        table.add_row(f"{one['freq'] / 1e6:.4f}", _hz(one["bandwidth"]), head["label"], head["family"],
                      f"{head['confidence']:.2f}", f"{one['snr_db']:.1f}", f"{100 * one['occupancy']:.0f}",
                      *(summary(shown([one[name]], asked)) if name in one else "-" for name in others),
                      style="dim" if head["family"] == NOISE_FAMILY else None)
    Console().print(table)
