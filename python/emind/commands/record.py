"""`emind record`: labelled samples from a USRP or a recording to Parquet, SigMF or both; finishes files left behind."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..contract.errors import EMindError, UsageError
from ..contract.schema import LABELS, checked_label
from ..storage.part_file import FLOAT32, FULL_SCALE, INT16
from ..storage.recording import FORMATS, open_recording
from ..storage.recording_files import FILE_FORMATS, recover_file

UHD_SCALE = 1 / 32767  # value of one step of UHD's sc16 as complex float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", nargs="?", help="folder and beginning of the names of the files")
    source = parser.add_argument_group("source (a USRP unless --from names a recording)")
    source.add_argument("--from", dest="recording", metavar="RECORDING",
                        help="a .sigmf-meta file, or a raw file with --format and --rate")
    source.add_argument("--format", metavar="NAME", help=f"sample format of a raw file: {', '.join(FORMATS)}")
    source.add_argument("--rate", type=float, metavar="HZ", help="sample rate")
    source.add_argument("--usrp", default="", metavar="ARGS", help="device address, such as serial=30AD123")
    source.add_argument("--freq", type=float, metavar="HZ", help="centre frequency of the USRP")
    source.add_argument("--gain", type=float, metavar="DB", help="gain of the USRP")
    source.add_argument("--antenna", metavar="NAME", help="antenna of the USRP")
    source.add_argument("--seconds", type=float, metavar="S", help="how long (default: to the end, or until Ctrl-C)")
    what = parser.add_argument_group("what is written")
    what.add_argument("--label", action="append", default=[], metavar="COLUMN=VALUE",
                      help=f"a label of every sample; may be given again. Columns: {', '.join(LABELS)}")
    what.add_argument("--files", choices=FILE_FORMATS, default="parquet", help="default: parquet")
    what.add_argument("--length", type=int, default=1024, metavar="N", help="samples a row (default: 1024)")
    what.add_argument("--iq", choices=(FLOAT32, INT16), default=FLOAT32,
                      help="samples as 32-bit floats (default), or as 16-bit integers where the source has no more")
    what.add_argument("--rotate-mb", type=float, default=1024.0, metavar="MB",
                      help="a new file after so many megabytes; 0: never (default: 1024)")
    what.add_argument("--rotate-s", type=float, default=0.0, metavar="S", help="a new file after so many seconds")
    what.add_argument("--json", action="store_true", help="print the statistics at the end as one JSON object")
    parser.add_argument("--recover", nargs="+", metavar="FILE.part",
                        help="finish files that a killed recording left, and do nothing else")


def run(options: argparse.Namespace) -> int:
    if options.recover:
        if options.out or options.recording:
            raise UsageError("--recover only finishes files: leave OUT and --from out")
        return _recover([Path(file) for file in options.recover])
    if not options.out:
        raise UsageError("name what to write: emind record OUT")
    if options.seconds is not None and not options.seconds > 0:
        raise UsageError(f"--seconds {options.seconds:g} must be above 0")
    labels = parse_labels(options.label)
    flowgraph = _from_recording(options, labels) if options.recording else _from_usrp(options, labels)
    with _interruptible(flowgraph):
        flowgraph.run()
    statistics = flowgraph.recorder.statistics() | {"file_names": flowgraph.recorder.files()}
    if options.json:
        print(json.dumps(statistics))
    else:
        for file in statistics["file_names"]:
            print(file)
        print(f"{statistics['samples_written']:,} of {statistics['samples_seen']:,} samples in "
              f"{statistics['rows']:,} rows; {statistics['samples_dropped']:,} dropped, {statistics['gaps']} gaps",
              file=sys.stderr)
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


def _recover(parts: list[Path]) -> int:
    status = 0
    for part in parts:
        try:
            found = recover_file(part)
            print(found if found else f"{part} held nothing and is removed")
        except EMindError as fault:
            print(f"emind: error: {fault}", file=sys.stderr)
            status = max(status, fault.exit_status)
    return status


def _recorder(options: argparse.Namespace, labels: dict, rate: float, center: float, policy: str, scale: float):
    from ..recorder import recorder

    return recorder(options.out, file_format=options.files, sample_rate=rate, center_freq=center,
                    length=options.length, labels=labels, policy=policy, iq_format=options.iq, scale=scale,
                    rotate_mb=options.rotate_mb, rotate_s=options.rotate_s)


def _from_recording(options: argparse.Namespace, labels: dict):
    """A flowgraph that reads a recording; it waits for the disk."""
    from gnuradio import gr

    from .flowgraph import recording_flowgraph

    if options.usrp or options.freq is not None or options.gain is not None or options.antenna:
        raise UsageError("--usrp, --freq, --gain and --antenna are for a USRP: leave them out with --from")
    recording = open_recording(options.recording, options.format, options.rate)
    count = recording.count
    if options.seconds is not None:
        count = max(1, min(count, round(options.seconds * recording.rate)))

    class flowgraph(recording_flowgraph):
        def __init__(self) -> None:
            gr.top_block.__init__(self, "emind record", catch_exceptions=True)
            self.handle_sigint = False
            self.recording = recording
            scale = recording.format.scale if recording.format.offset == 0 else recording.format.scale / 2
            if options.iq == INT16 and recording.format.component_bytes > 2:
                scale = FULL_SCALE
            self.recorder = _recorder(options, labels, recording.rate, recording.center or 0.0, "lossless", scale)
            self.connect(self._source(count), self.recorder)

    return flowgraph()


def _from_usrp(options: argparse.Namespace, labels: dict):
    """A flowgraph that receives; it never waits."""
    if options.rate is None or options.freq is None:
        raise UsageError("a USRP needs --rate and --freq; --from records a recording")
    if not options.rate > 0:
        raise UsageError(f"--rate {options.rate:g} must be above 0")
    try:
        from gnuradio import blocks, gr, uhd
    except ImportError as fault:
        raise EMindError(f"UHD cannot be used here ({fault}); `emind doctor` says what to do") from None

    class flowgraph(gr.top_block):
        def __init__(self) -> None:
            gr.top_block.__init__(self, "emind record", catch_exceptions=True)
            self.recorder = _recorder(options, labels, options.rate, options.freq, "realtime", UHD_SCALE)
            try:
                usrp = uhd.usrp_source(options.usrp, uhd.stream_args(cpu_format="fc32", channels=[0]))
            except RuntimeError as fault:
                raise EMindError(f"no USRP ({str(fault).strip().splitlines()[-1]}); `uhd_find_devices` lists "
                                 "those that are there") from None
            usrp.set_samp_rate(options.rate)
            usrp.set_center_freq(options.freq)
            if options.gain is not None:
                usrp.set_gain(options.gain)
            if options.antenna:
                usrp.set_antenna(options.antenna)
            stream = usrp
            if options.seconds is not None:
                stream = blocks.head(gr.sizeof_gr_complex, round(options.seconds * options.rate))
                self.connect(usrp, stream)
            self.connect(stream, self.recorder)

    return flowgraph()


@contextmanager
def _interruptible(flowgraph) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the recording, which is no fault: all that came is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def run() -> None:  # GNU Radio's own wait() does not return on a signal
        ended = threading.Event()
        flowgraph.start()
        threading.Thread(target=lambda: (flowgraph.wait(), ended.set()), daemon=True).start()
        while not ended.wait(0.1):
            pass

    before = {number: signal.signal(number, lambda *_: flowgraph.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    flowgraph.run = run
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
