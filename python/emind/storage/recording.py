"""IQ recordings on disk: what they hold, samples by number, and SigMF annotations. Reads SigMF pairs and raw files."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..contract.errors import EMindError, UsageError

META_SUFFIX = ".sigmf-meta"
DATA_SUFFIX = ".sigmf-data"
GENERATOR = "gr-emind"  # core:generator of our annotations, so that a second run replaces them
LOOK = 16  # times as many stretches are looked at as are kept
SCAN_SAMPLES = 1 << 20  # samples looked at together when a whole recording is checked


@dataclass(frozen=True)
class SampleFormat:
    """How one complex sample lies in a file: two components of ``dtype``; value = (raw + offset) * scale."""

    name: str
    dtype: str
    offset: float = 0.0
    scale: float = 1.0

    @property
    def component_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def sample_bytes(self) -> int:
        return 2 * self.component_bytes


FORMATS: dict[str, SampleFormat] = {
    f.name: f
    for f in (
        SampleFormat("cf32_le", "<f4"),
        SampleFormat("cf32_be", ">f4"),
        SampleFormat("ci32_le", "<i4", scale=1 / 2147483648),
        SampleFormat("ci16_le", "<i2", scale=1 / 32768),
        SampleFormat("ci16_be", ">i2", scale=1 / 32768),
        SampleFormat("ci8", "i1", scale=1 / 128),
        SampleFormat("cu8", "u1", offset=-127.5, scale=1 / 127.5),
    )
}
# Names used by other programs, and by file names that say what they hold.
ALIASES = {
    "cf32": "cf32_le", "fc32": "cf32_le", "cfile": "cf32_le", "complex64": "cf32_le", "ci32": "ci32_le",
    "cs16": "ci16_le", "ci16": "ci16_le", "sc16": "ci16_le", "cs8": "ci8", "sc8": "ci8", "uc8": "cu8",
}


def parse_format(name: str) -> SampleFormat:
    """The sample format of that name; UsageError names those that exist."""
    key = name.lower().lstrip(".")
    found = FORMATS.get(ALIASES.get(key, key))
    if found is None:
        raise UsageError(f"unknown sample format {name!r}; known: {', '.join(FORMATS)}")
    return found


@dataclass(frozen=True)
class Recording:
    """A recording: ``count`` complex samples at byte ``header_bytes`` of ``data``; rate and centre in Hz."""

    path: Path  # as the user named it
    data: Path
    format: SampleFormat
    rate: float
    count: int
    center: float | None = None
    header_bytes: int = 0
    metadata: dict = field(default_factory=dict)  # the SigMF metadata; empty for a raw file
    captures: tuple[tuple[int, float | None], ...] = ()  # of SigMF, one at each retune or gap: first sample and centre
    offset: int = 0  # what SigMF counts the first sample as

    def center_at(self, sample: int) -> float | None:
        """Centre frequency in Hz of the capture that the sample lies in."""
        return next((center for start, center in reversed(self.captures) if start <= sample), self.center)

    @property
    def cuts(self) -> tuple[int, ...]:
        """Samples at which a new capture begins."""
        return tuple(start for start, _ in self.captures[1:] if 0 < start < self.count)

    def read(self, start: int, count: int) -> np.ndarray:
        """Samples ``start`` to ``start + count`` (cut at the end), complex64."""
        count = max(0, min(count, self.count - start))
        raw = np.fromfile(self.data, self.format.dtype, 2 * count,
                          offset=self.header_bytes + start * self.format.sample_bytes)
        if raw.dtype != np.dtype("<f4"):
            raw = (raw.astype(np.float32) + np.float32(self.format.offset)) * np.float32(self.format.scale)
        return raw.view(np.complex64)

    def segments(self, length: int, most: int) -> np.ndarray:
        """At most ``most`` stretches of ``length`` samples spread over the recording, complex64 (n, length).

        A recording shorter than ``length`` gives one zero-filled stretch.
        """
        if self.count < length:
            return np.pad(self.read(0, self.count), (0, length - self.count))[None]
        have = self.count // length
        if have <= most:
            return self.read(0, have * length).reshape(have, length)
        starts = np.linspace(0, self.count - length, most).astype(np.int64)
        return np.stack([self.read(int(s), length) for s in starts])

    def loud_and_spread(self, length: int, most: int) -> np.ndarray:
        """Like ``segments``, but of a long recording half are the loudest of many more that are looked at.

        So rare bursts are among them.
        """
        if self.count // length <= most:
            return self.segments(length, most)
        starts = np.linspace(0, self.count - length, min(LOOK * most, self.count // length)).astype(np.int64)
        levels = [float(np.var(self.read(int(start), length))) for start in starts]
        loudest = starts[np.sort(np.argsort(levels)[-(most // 2):])]
        return np.concatenate([np.stack([self.read(int(s), length) for s in loudest]),
                               self.segments(length, most - len(loudest))])


def open_recording(path: str | Path, sample_format: str | None = None, rate: float | None = None) -> Recording:
    """Opens a SigMF recording (its metadata or data file) or a raw file and checks that it can be read.

    ``rate`` in Hz is needed where the file does not state one and goes before a stated one. EMindError or
    UsageError says what is wrong: no such file, unknown format, no rate, empty, not whole samples.
    """
    path = Path(path)
    if path.name.endswith(".sigmf"):
        raise EMindError(f"{path}: a SigMF archive; unpack it first (tar xf) and give its {META_SUFFIX} file")
    if path.name.endswith(DATA_SUFFIX) and sample_format is None:
        path = path.with_name(path.name.removesuffix(DATA_SUFFIX) + META_SUFFIX)
    if path.is_dir():
        raise EMindError(f"{path}: is a folder, not a recording")
    if not path.is_file():
        raise EMindError(f"{path}: no such file")
    if path.name.endswith(META_SUFFIX):
        return _open_sigmf(path, sample_format, rate)
    return _open_raw(path, sample_format, rate)


def _open_raw(path: Path, sample_format: str | None, rate: float | None) -> Recording:
    name = sample_format or path.suffix
    if not sample_format and name.lower().lstrip(".") not in {*FORMATS, *ALIASES}:
        raise UsageError(f"{path}: cannot tell its sample format; state it with --format ({', '.join(FORMATS)})")
    layout = parse_format(name)
    return Recording(path, path, layout, _checked_rate(path, rate), _sample_count(path, layout, 0, 0))


def _open_sigmf(path: Path, sample_format: str | None, rate: float | None) -> Recording:
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        fields = metadata["global"]
        datatype = fields["core:datatype"]
        capture = (metadata.get("captures") or [{}])[0]
        header = int(capture.get("core:header_bytes", 0))
        trailing = int(fields.get("core:trailing_bytes", 0))
        offset = int(fields.get("core:offset", 0))  # of the first sample, which captures count from too
        captures = []
        for one in metadata.get("captures") or [{}]:
            center = one.get("core:frequency")
            captures.append((int(one.get("core:sample_start", offset)) - offset,
                             None if center is None else float(center)))
            if captures[1:] and int(one.get("core:header_bytes", 0)):
                raise EMindError(f"{path}: a capture behind the first has a header in the data file; such recordings "
                                 "cannot be read, split them at the captures first")
        channels = int(fields.get("core:num_channels", 1))
        stated = fields.get("core:sample_rate")
        stated = None if stated is None else float(stated)
        dataset = str(fields.get("core:dataset", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        raise EMindError(f"{path}: not readable SigMF metadata ({type(fault).__name__}: {fault})") from None
    if channels != 1:
        raise EMindError(f"{path}: holds {channels} channels; recordings of one channel can be read")
    if sample_format is not None and parse_format(sample_format).name != datatype:
        raise UsageError(f"{path}: says {datatype}, but --format says {sample_format}; leave --format out")
    layout = FORMATS.get(datatype)
    if layout is None:
        raise EMindError(f"{path}: sample format {datatype} cannot be read; known: {', '.join(FORMATS)}")
    data = path.with_name(dataset or path.name.removesuffix(META_SUFFIX) + DATA_SUFFIX)
    if not data.is_file():
        raise EMindError(f"{data}: no such file, but {path.name} describes it")
    count = _sample_count(data, layout, header, trailing)
    captures.sort(key=lambda one: one[0])
    return Recording(path, data, layout, _checked_rate(path, rate if rate is not None else stated), count,
                     captures[0][1], header, metadata, tuple(captures), offset)


def _checked_rate(path: Path, rate: float | None) -> float:
    if rate is None:
        raise UsageError(f"{path}: states no sample rate; give it with --rate HZ")
    if not (np.isfinite(rate) and rate > 0):
        raise UsageError(f"{path}: a sample rate of {rate:g} Hz is not possible; give it with --rate HZ")
    return float(rate)


def _sample_count(data: Path, layout: SampleFormat, header: int, trailing: int) -> int:
    try:
        with data.open("rb"):
            size = os.path.getsize(data) - header - trailing
    except OSError as fault:
        raise EMindError(f"{data}: cannot be read ({fault.strerror})") from None
    if size <= 0:
        raise EMindError(f"{data}: holds no samples")
    if size % layout.sample_bytes:
        raise EMindError(f"{data}: {size} bytes are not a whole number of {layout.name} samples "
                         f"({layout.sample_bytes} bytes each); the file is cut short or the format is another one")
    return size // layout.sample_bytes


def check_samples(recording: Recording) -> bool:
    """Looks at every sample once: EMindError names the first that is not finite; False when all are zero."""
    some = False
    may_be_bad = np.dtype(recording.format.dtype).kind == "f"
    for start in range(0, recording.count, SCAN_SAMPLES):
        samples = recording.read(start, SCAN_SAMPLES)
        if may_be_bad and not np.isfinite(samples.view(np.float32)).all():
            bad = start + int(np.flatnonzero(~np.isfinite(samples))[0])
            raise EMindError(f"{recording.data}: sample {bad} is not a finite number ({samples[bad - start]:g}); "
                             "the file is damaged or the format is another one")
        some = some or bool(samples.any())
        if some and not may_be_bad:
            break
    return some


def annotated_metadata(recording: Recording, annotations: list[dict], data_name: str) -> dict:
    """SigMF metadata of the recording with these annotations, those of an earlier run replaced.

    ``annotations`` hold core:sample_start, core:sample_count and any further keys. ``data_name`` is the name of
    the data file beside the metadata file. The result is valid by the sigmf package, or EMindError says why not.
    """
    import sigmf

    theirs = [a for a in recording.metadata.get("annotations", []) if a.get("core:generator") != GENERATOR]
    fields = {"core:version": sigmf.__specification__, "core:datatype": recording.format.name}
    fields |= {k: v for k, v in recording.metadata.get("global", {}).items() if k != "core:dataset"}
    fields["core:sample_rate"] = recording.rate
    if not data_name.endswith(DATA_SUFFIX):
        fields["core:dataset"] = data_name
    capture = {"core:sample_start": 0} | ({} if recording.center is None else {"core:frequency": recording.center})
    ours = [{"core:generator": GENERATOR, **a} for a in annotations]
    metadata = {
        "global": fields,
        "captures": recording.metadata.get("captures") or [capture],
        "annotations": sorted(theirs + ours, key=lambda a: a["core:sample_start"]),
    }
    try:
        sigmf.SigMFFile(metadata=metadata).validate()
    except Exception as fault:  # jsonschema's errors and sigmf's own have no common base
        reason = str(fault).splitlines()[0]
        raise EMindError(f"{recording.path}: its metadata is not valid SigMF ({reason})") from None
    return metadata
