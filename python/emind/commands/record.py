"""`emind record`: labelled samples from a radio or a recording to Parquet, SigMF or both; finishes files left behind.

    source ─► [receiver, for --trigger detection] ─► recorder ◄── keys or lines of JSON: labels, on and off
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract.answers import speaks
from ..contract.detection import MAIN_HEAD
from ..contract.errors import EMindError, UsageError
from ..contract.schema import LABELS, checked_label
from ..contract.vocabulary import UNKNOWN
from ..guarded import first_fault
from ..storage.part_file import FLOAT32, FULL_SCALE, INT16
from ..storage.recording import FORMATS, open_recording
from ..storage.recording_files import FILE_FORMATS, check_target, recover_file
from .head_text import add_heads_argument
from .live_source import (
    DEFAULT_FREQ, add_channels_argument, add_freq_argument, add_source_arguments, channels_of, source_settings)
from .record_control import Control

if TYPE_CHECKING:
    from ..receiver import receiver

RADIO_ONLY = ("args", "soapy", "freq", "channels", "gain", "antenna", "subdev", "rf_bandwidth", "clock_source",
              "time_source")
UHD_SCALE = 1 / 32767  # value of one step of UHD's sc16 as complex float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", nargs="?", help="folder and beginning of the names of the files")
    radio = add_source_arguments(parser, also=("--usrp",))
    add_freq_argument(radio)
    add_channels_argument(radio)
    source = parser.add_argument_group("a recording instead of a radio")
    source.add_argument("--from", dest="recording", metavar="RECORDING",
                        help="a .sigmf-meta file, or a raw file with --format and --rate")
    source.add_argument("--format", metavar="NAME", help=f"sample format of a raw file: {', '.join(FORMATS)}")
    what = parser.add_argument_group("what is written")
    what.add_argument("--seconds", type=float, metavar="S", help="how long (default: to the end, or until Ctrl-C)")
    what.add_argument("--label", action="append", default=[], metavar="COLUMN=VALUE",
                      help=f"a label of every sample; may be given again. Columns: {', '.join(LABELS)}")
    what.add_argument("--files", choices=FILE_FORMATS, default="parquet", help="default: parquet")
    what.add_argument("--length", type=int, default=1024, metavar="N", help="samples a row (default: 1024)")
    what.add_argument("--iq", choices=(FLOAT32, INT16), default=FLOAT32,
                      help="samples as 32-bit floats (default), or as 16-bit integers where the source has no more")
    what.add_argument("--rotate-mb", type=float, default=1024.0, metavar="MB",
                      help="a new file after so many megabytes; 0: never (default: 1024)")
    what.add_argument("--rotate-s", type=float, default=0.0, metavar="S", help="a new file after so many seconds")
    what.add_argument("--whole-rows", action="store_true",
                      help="leave out rows cut short by a gap, a change of labels or the end, as training wants it")
    what.add_argument("--no-measure", action="store_true", help="do not estimate SNR, amplitude and bandwidth")
    what.add_argument("--json", action="store_true", help="print the statistics at the end as one JSON object")
    when = parser.add_argument_group(
        "when", "While it runs: r switches off and on, q ends, keys given by --key label what follows. Where standard "
        'input is no terminal, a line of JSON: {"record": false}, {"label": {"modulation": "LoRa"}}, {"stop": true}.')
    when.add_argument("--trigger", choices=("none", "detection", "energy"), default="none",
                      help="write only what lies around answers that are not noise, or around energy; whole rows")
    when.add_argument("--pre", type=int, default=4096, metavar="N", help="samples ahead of an event (default: 4096)")
    when.add_argument("--post", type=int, default=4096, metavar="N", help="samples behind its end (default: 4096)")
    when.add_argument("--trigger-db", type=float, default=10.0, metavar="DB",
                      help="energy above the quietest stretches (default: 10)")
    when.add_argument("--trigger-label", action="append", default=[], metavar="CLASS",
                      help="only this answer is an event; may be given again")
    when.add_argument("--weights", default="emind-nano", metavar="NAME", help="that answer for --trigger detection")
    add_heads_argument(when)
    when.add_argument("--paused", action="store_true", help="switched off at the start")
    when.add_argument("--key", action="append", default=[], metavar="K:COLUMN=VALUE",
                      help="a key that labels what follows, such as 1:modulation=LoRa; may be given again")
    parser.add_argument("--recover", nargs="+", metavar="FILE.part",
                        help="finish files that a killed recording left, and do nothing else")


def run(options: argparse.Namespace) -> int:
    if options.recover:
        if options.out or options.recording:
            raise UsageError("--recover only finishes files: leave OUT and --from out")
        return _recover([Path(file) for file in options.recover])
    if not options.out:
        raise UsageError("name what to write: emind record OUT")
    if options.seconds is not None and not 0 < options.seconds < math.inf:
        raise UsageError(f"--seconds {options.seconds:g} must be above 0 and finite; without it: to the end")
    labels = parse_labels(options.label)
    keys = parse_keys(options.key)
    check_target(options.out)
    flowgraph = _from_recording(options, labels) if options.recording else _from_radio(options, labels)
    watchdog = getattr(flowgraph, "watchdog", None)
    Control(flowgraph, keys).run()
    statistics = flowgraph.recorder.statistics() | {"file_names": flowgraph.recorder.files()}
    if options.json:
        print(json.dumps(statistics), flush=True)
    else:
        for file in statistics["file_names"]:
            print(file, flush=True)
        print(f"{statistics['samples_written']:,} of {statistics['samples_seen']:,} samples in "
              f"{statistics['rows']:,} rows; {statistics['samples_dropped']:,} dropped, "
              f"{statistics['samples_skipped']:,} not wanted, {statistics['gaps']} gaps"
              + (f", {statistics['events']:,} events" if options.trigger != "none" else ""),
              file=sys.stderr)
    if watchdog is not None and watchdog.lost:
        print(f"emind: error: {watchdog.lost}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)  # destructors of a driver whose device has gone may hang or abort
    fault = first_fault(flowgraph.tail)
    if fault is not None:
        raise fault
    if statistics["error"]:
        raise EMindError(statistics["error"])
    return 0


def parse_labels(given: list[str]) -> dict:
    """``COLUMN=VALUE`` arguments as labels; UsageError names the one that is none."""
    labels = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            labels[name] = checked_label(name, value)
        except EMindError as fault:
            raise UsageError(f"--label {text}: {fault}") from None
        if not equals or not value:
            raise UsageError(f"--label {text}: write COLUMN=VALUE")
    return labels


def parse_keys(given: list[str]) -> dict[str, dict]:
    """``K:COLUMN=VALUE`` arguments as key -> labels; the same key may set several columns."""
    keys: dict[str, dict] = {}
    for text in given:
        key, colon, label = text.partition(":")
        if len(key) != 1 or not colon or key in "rq":
            raise UsageError(f"--key {text}: write K:COLUMN=VALUE, where K is one character and neither r nor q")
        keys.setdefault(key, {}).update(parse_labels([label]))
    return keys


def _recover(parts: list[Path]) -> int:
    """A SigMF recording is two files, of which either stands for both."""
    status = 0
    meta, data = (f".sigmf-{kind}.part" for kind in ("meta", "data"))
    for part in dict.fromkeys(part.with_name(part.name.replace(meta, data)) for part in parts):
        try:
            found = recover_file(part)
            print(found if found else f"{part} held nothing and is removed")
        except EMindError as fault:
            print(f"emind: error: {fault}", file=sys.stderr)
            status = max(status, fault.exit_status)
    return status


def _recorder(options: argparse.Namespace, labels: dict, rate: float, center: float, policy: str, scale: float,
              which: str = ""):
    """``which``: behind the beginning of the names."""
    from ..recorder import recorder

    made = recorder(options.out + which, file_format=options.files, sample_rate=rate, center_freq=center,
                    length=options.length, labels=labels, from_tags=False, policy=policy, iq_format=options.iq,
                    scale=scale, rotate_mb=options.rotate_mb, rotate_s=options.rotate_s, trigger=options.trigger,
                    pre_trigger=options.pre, post_trigger=options.post, trigger_db=options.trigger_db,
                    trigger_labels=tuple(options.trigger_label), recording=not options.paused,
                    short_rows=options.trigger == "none" and not options.whole_rows, measure=not options.no_measure)
    made.tells_end = False
    return made


def _chain(options: argparse.Namespace, rate: float, policy: str, engine: object | None = None) -> list:
    """What stands between source and recorder: for detections the receiver, which leaves the samples as they are."""
    if options.trigger != "detection":
        if options.trigger_label:
            raise UsageError("--trigger-label is for --trigger detection")
        return []
    from ..receiver import receiver

    block = receiver(options.weights, sample_rate=rate, policy=policy, heads=options.heads, engine=engine)
    for label in options.trigger_label:
        _check_trigger_label(label, block, rate)
    return [block]


def _check_trigger_label(label: str, block: receiver, rate: float) -> None:
    """UsageError for a label that no head can give: none has it, or those that do were not trained at this rate."""
    heads, domains = block.heads, block.domains
    known = sorted({each for head in heads.values() if speaks(head) for each in head.labels})
    having = [name for name, head in heads.items() if label in head.labels]
    if label == UNKNOWN and MAIN_HEAD in heads:
        having = [MAIN_HEAD]
    if not having:
        small = {each.lower(): each for each in known}
        near = [small[each] for each in get_close_matches(label.lower(), small, 1)]
        raise UsageError(f"--trigger-label {label}: none of the heads has that answer; "
                         + (f"did you mean {near[0]}?" if near else f"heads: {', '.join(heads)}"))
    if all(name in domains and not domains[name].covers(block.length, rate) for name in having):
        raise UsageError(f"--trigger-label {label}: the head {having[0]} was trained on {domains[having[0]]}; at "
                         f"{rate:g} its answers do not count")


def _from_recording(options: argparse.Namespace, labels: dict):
    """A flowgraph that reads a recording; it waits for the disk."""
    from gnuradio import gr

    from .flowgraph import recording_flowgraph

    given = [name for name in RADIO_ONLY if getattr(options, name) not in (None, "")]
    if given:
        raise UsageError(f"{', '.join('--' + name.replace('_', '-') for name in given)}: for a radio, leave out with "
                         "--from")
    recording = open_recording(options.recording, options.format, options.rate)
    count = recording.count
    if options.seconds is not None:
        count = max(1, round(min(count, options.seconds * recording.rate)))

    class flowgraph(recording_flowgraph):
        def __init__(self) -> None:
            gr.top_block.__init__(self, "emind record", catch_exceptions=True)
            self.handle_sigint = False
            self.recording = recording
            scale = recording.format.scale if recording.format.offset == 0 else recording.format.scale / 2
            if options.iq == INT16 and recording.format.component_bytes > 2:
                scale = FULL_SCALE
            self.recorder = _recorder(options, labels, recording.rate, recording.center or 0.0, "lossless", scale)
            # GNU Radio keeps no Python block alive: those behind the source.
            self.tail = [*_chain(options, recording.rate, "lossless"), self.recorder]
            self.connect(self._source(count), *self.tail)

    return flowgraph()


def _from_radio(options: argparse.Namespace, labels: dict):
    """A flowgraph that receives; it never waits."""
    if options.format:
        raise UsageError("--format is for --from")
    freq = DEFAULT_FREQ if options.freq is None else options.freq
    if not (math.isfinite(freq) and freq >= 0):
        raise UsageError(f"--freq {freq:g}: give a frequency in Hz")
    settings = source_settings(options) | {"freq": freq, "channels": channels_of(options)}
    os.environ.setdefault("UHD_LOG_CONSOLE_LEVEL", "warning")  # the driver reads it when it is loaded
    try:
        from .record_radio import radio_recording
    except ImportError as fault:
        raise EMindError(f"GNU Radio cannot be used here ({fault}); `emind doctor` says what to do") from None
    scale = UHD_SCALE if settings["kind"] == "uhd" else FULL_SCALE
    engines: list = []  # one for all channels

    def chain(rate: float) -> list:
        if options.trigger == "detection" and not engines:
            from ..runtime.ready import ready_engine

            engines.append(ready_engine(options.weights, heads=options.heads, waits=False))
        return _chain(options, rate, "realtime", *engines)

    flowgraph = radio_recording(
        settings, options.seconds,
        lambda rate, freq, which: _recorder(options, labels, rate, freq, "realtime", scale, which), chain)
    for text in flowgraph.remarks:
        print(f"emind: {text}", file=sys.stderr)
    return flowgraph
