"""Signals with their labels in SigMF: samples one after another, an annotation for each stretch with one set of labels.

The 16 labels stand in the annotation under ``emind:<column>``; ``core:label`` repeats the one that says most, for
programs that know only that, in 20 characters at most, as SigMF wants it, and the frequency edges say where to draw it.
"""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.errors import EMindError, UsageError
from ..contract.schema import LABELS, TEXTS, Signal, checked_label
from .part_file import FLOAT32, FULL_SCALE, INT16, PART, file_lock, open_part, sync_folder, to_steps
from .recording import DATA_SUFFIX, GENERATOR, META_SUFFIX, open_recording

NAMESPACE = "emind"
SCALE_KEY = f"{NAMESPACE}:iq_scale"  # value of one step, where it is not the full scale of SigMF's ci16
EXTENSION = {"name": NAMESPACE, "version": "1.0.0", "optional": True}
SAYS_MOST = ("modulation", "infer_class", "radar_waveform", "device_id", "dataset_name")
METADATA_ROOM = 1 << 16  # bytes
LABEL_ROOM = 20  # characters
MEASURED = ("snr", "amplitude", "band_width")  # may differ within an annotation, which then has the mean
_FORMATS = {FLOAT32: "cf32_le", INT16: "ci16_le"}


NO_CAPTURES = [{"core:sample_start": 0}]


class Growing(list):
    """JSON objects of which only the newest may still change. Each is encoded, and given out as unchecked, until
    another stands behind it."""

    def __init__(self, items: Iterable[dict] = ()) -> None:
        super().__init__(items)
        self._texts: list[str] = []
        self._checked = 0

    def text(self) -> str:
        """All of them, as they stand in a list within a list."""
        self._texts += map(_encoded, self[len(self._texts) : -1])
        return ",\n".join([*self._texts, *map(_encoded, self[-1:])])

    def unchecked(self) -> list[dict]:
        """Those that have come or may have changed since the last call."""
        out = self[self._checked :]
        self._checked = max(0, len(self) - 1)
        return out


def _encoded(item: dict) -> str:
    return textwrap.indent(json.dumps(item, indent=4), 8 * " ")


class SigmfWriter:
    """Writes samples and labels to ``<base>.sigmf-data`` and ``<base>.sigmf-meta``, called ``*.part`` until finished.

    ``base``: path without suffix. ``rate`` Hz. ``iq_format`` and ``scale``: as for Parquet. EMindError when the files
    cannot be written.
    """

    def __init__(self, base: str | Path, rate: float, *, origin: str, iq_format: str = FLOAT32,
                 scale: float = FULL_SCALE) -> None:
        if iq_format not in _FORMATS:
            raise UsageError(f"unknown iq_format {iq_format!r}: use {' or '.join(_FORMATS)}")
        if not (np.isfinite(rate) and rate > 0):
            raise UsageError(f"{base}: SigMF needs a sample rate, not {rate:g} Hz")
        base = Path(base)
        self.data, self.meta = (base.with_name(base.name + suffix) for suffix in (DATA_SUFFIX, META_SUFFIX))
        self.path = self.meta
        self.count = 0  # samples
        self.flushed = 0  # of which the file holds, described in the metadata
        self._format, self._scale, self._rate = iq_format, scale, float(rate)
        self._fields = {"core:description": origin, "core:extensions": [EXTENSION]}
        if iq_format == INT16 and scale != FULL_SCALE:
            self._fields[SCALE_KEY] = scale
        self._captures, self._annotations = Growing(), Growing()
        self._labels: dict[str, Any] | None = None  # of the newest annotation, without what was measured
        self._weights = dict.fromkeys(MEASURED, 0)  # samples behind each mean in the newest annotation
        self._file = open_part(_part(self.data), self.data)

    @property
    def size(self) -> int:
        """Bytes of samples."""
        return self.count * (8 if self._format == FLOAT32 else 4)

    def capture(self, frequency: float | None = None, time: str | None = None) -> None:
        """The next sample begins a stretch at that centre (Hz) and time (ISO 8601); it does not continue the last."""
        capture: dict[str, Any] = {"core:sample_start": self.count}
        if frequency is not None:
            capture["core:frequency"] = frequency
        if time is not None:
            capture["core:datetime"] = time
        if self._captures and self._captures[-1]["core:sample_start"] == self.count:
            self._captures[-1] = capture
        else:
            self._captures.append(capture)
        self._labels = None

    def write(self, iq: np.ndarray, labels: dict[str, Any], join: bool = False) -> None:
        """Append samples (complex64, any shape, in order); ``join``: to the annotation before, if the labels are the
        same but for what was measured, of which it then has the mean.

        OSError where the disk is full.
        """
        iq = np.ascontiguousarray(iq, np.complex64).reshape(-1)
        if self._format == FLOAT32:
            self._file.write(iq.view(np.uint8))
        else:
            self._file.write(to_steps(iq.view(np.float32), self._scale, self.data).astype("<i2").view(np.uint8))
        labels = {name: value for name, value in labels.items() if value is not None}
        told = {name: value for name, value in labels.items() if name not in MEASURED}
        joins = join and told == self._labels
        if joins:
            labels = self._joined(labels, len(iq))
            start = self._annotations[-1]["core:sample_start"]
        else:
            start, self._weights = self.count, dict.fromkeys(MEASURED, 0)
            self._joined(labels, len(iq))
        end = self.count + len(iq)
        frequency = self._captures[-1].get("core:frequency", 0.0) if self._captures else 0.0
        newest = annotation(start, end - start, labels, frequency, self._rate)
        if joins:
            self._annotations[-1] = newest
        else:
            self._annotations.append(newest)
        self._labels = told
        self.count += len(iq)

    def _joined(self, labels: dict[str, Any], count: int) -> dict[str, Any]:
        """The labels with what was measured as the mean over the whole annotation, ``count`` samples longer now."""
        out = dict(labels)
        for name in MEASURED:
            weight, new = self._weights[name], labels.get(name)
            if weight and (before := self._annotations[-1].get(f"{NAMESPACE}:{name}")) is not None:
                out[name] = before if new is None else _mean_of(name, before, weight, new, count)
            self._weights[name] += 0 if new is None else count
        return out

    def flush(self) -> None:
        """Bring the metadata up to what the data file holds. Only what is new since the last time is encoded and held
        against SigMF's rules: a recorder calls this every second, however many annotations there are."""
        header = self._header()
        text = json.dumps(header, indent=4).removesuffix("\n}")
        checked_metadata(self.meta, {**header, "captures": self._captures.unchecked() or NO_CAPTURES,
                                     "annotations": self._annotations.unchecked()})
        captures = self._captures.text() if self._captures else _encoded(NO_CAPTURES[0])
        newer = self.meta.with_name(self.meta.name + ".new" + PART)
        try:
            with newer.open("w", encoding="utf-8") as file:
                file.write(f'{text},\n    "captures": [\n{captures}\n    ],\n    "annotations": [')
                file.write(f"\n{self._annotations.text()}\n    " if self._annotations else "")
                file.write("]\n}\n")
            os.replace(newer, _part(self.meta))
        except OSError:
            newer.unlink(missing_ok=True)
            raise
        self.flushed = self.count

    def _header(self) -> dict:
        import sigmf

        return {"global": {"core:version": sigmf.__specification__, "core:datatype": _FORMATS[self._format],
                           "core:sample_rate": self._rate, **self._fields}}

    def finish(self) -> None:
        """Everything to the disk, and the final names."""
        self.flush()
        os.fsync(self._file.fileno())
        os.replace(_part(self.data), self.data)
        os.replace(_part(self.meta), self.meta)
        self._file.close()
        sync_folder(self.data.parent)

    def cut(self) -> None:
        """Back to whole samples, a little less than there are if need be: a full disk needs room for the metadata."""
        width = 8 if self._format == FLOAT32 else 4
        self.count = max(self.flushed, self.count - METADATA_ROOM // width)
        self._file.truncate(self.count * width)
        self._file.seek(self.count * width)
        self._captures, self._annotations = map(Growing, _cut(self._captures, self._annotations, self.count))
        self._labels = None

    def leave(self) -> None:
        """Let go of the files under their temporary names, for :func:`recover_sigmf`."""
        self._file.close()

    def descriptor(self) -> int:
        """The open file, as a descriptor of the caller's own: for forcing it to the disk from another thread."""
        return os.dup(self._file.fileno())

    def abort(self) -> None:
        """Remove what was written."""
        if not self._file.closed:
            _part(self.data).unlink(missing_ok=True)
            _part(self.meta).unlink(missing_ok=True)
            self._file.close()


def export_sigmf(base: str | Path, signals: Iterable[Signal], *, origin: str, rate: float | None = None,
                 iq_format: str = FLOAT32, scale: float = FULL_SCALE) -> int:
    """Writes signals to a SigMF recording, an annotation each. How many.

    All must have one sampling rate; ``rate`` (Hz) is for those that state none. EMindError or UsageError says what
    is wrong, and leaves no file.
    """
    writer: SigmfWriter | None = None
    number = 0
    try:
        for number, signal in enumerate(signals, 1):
            own = signal.sampling_rate or rate
            if own is None:
                raise UsageError(f"{base}: row {number - 1} states no sampling_rate: give a rate")
            if writer is None:
                rate = own
                writer = SigmfWriter(base, own, origin=origin, iq_format=iq_format, scale=scale)
            if own != rate:
                raise EMindError(f"{base}: row {number - 1} has {own:g} samples a second and those before it {rate:g}; "
                                 "a SigMF recording has one rate: export each by itself")
            writer.write(signal.iq, {name: value for name, value in signal.labels().items() if value is not None})
        if writer is None:
            raise EMindError(f"{base}: no signals to export")
        writer.finish()
    except BaseException as fault:
        if writer is not None:
            writer.abort()
        if isinstance(fault, OSError):
            raise EMindError(f"{base}: cannot be written ({fault.strerror})") from None
        raise
    return number


def import_sigmf(path: str | Path, *, label_column: str = "modulation", **labels: Any) -> Iterator[Signal]:
    """The annotated stretches of a SigMF recording as signals.

    Labels are those under ``emind:``; where an annotation has none, ``core:label`` goes into ``label_column`` and its
    frequency edges give ``band_width``. ``labels`` hold for every signal that says nothing else. EMindError names
    what cannot be: unreadable files, an annotation outside the recording, no annotations.
    """
    if label_column not in TEXTS:
        raise UsageError(f"label_column {label_column!r}: use {', '.join(TEXTS)}")
    common = {name: checked_label(name, value) for name, value in labels.items()}
    recording = open_recording(path)
    annotations = recording.metadata.get("annotations", [])
    if not annotations:
        raise EMindError(f"{recording.path}: has no annotations, so there is nothing to tell one signal from another")
    gain = recording.metadata["global"].get(SCALE_KEY)
    for number, fields in enumerate(annotations):
        try:
            start = int(fields["core:sample_start"])
            count = int(fields.get("core:sample_count", recording.count - start))
            found = labels_of(fields, label_column)
        except (KeyError, TypeError, ValueError, EMindError) as fault:
            raise EMindError(f"{recording.path}: annotation {number} cannot be read ({fault})") from None
        if start < 0 or count < 1 or start + count > recording.count:
            raise EMindError(f"{recording.path}: annotation {number} holds samples {start} to {start + count} of "
                             f"{recording.count}")
        iq = recording.read(start, count)
        if gain is not None:
            steps = np.rint(iq.view(np.float32) / np.float32(FULL_SCALE))
            iq = (steps * np.float32(gain)).view(np.complex64)
        yield Signal(iq, **{"sampling_rate": recording.rate, **common, **found})


def annotation(start: int, count: int, labels: dict[str, Any], frequency: float = 0.0, rate: float = 0.0) -> dict:
    """The SigMF annotation of a stretch, received at ``frequency`` Hz with ``rate`` samples a second.

    Readers draw a box only where an annotation has frequency edges: here those of the labelled bandwidth around the
    centre, or of the whole band.
    """
    fields: dict[str, Any] = {"core:sample_start": start, "core:sample_count": count, "core:generator": GENERATOR}
    width = min(labels.get("band_width") or rate, rate)
    if width:
        fields |= {"core:freq_lower_edge": frequency - width / 2, "core:freq_upper_edge": frequency + width / 2}
    for name in SAYS_MOST:
        if labels.get(name) is not None:
            text = labels[name]
            fields["core:label"] = text if len(text) <= LABEL_ROOM else text[: LABEL_ROOM - 1] + "…"
            break
    fields |= {f"{NAMESPACE}:{name}": labels[name] for name in LABELS if labels.get(name) is not None}
    return fields


def labels_of(fields: dict, label_column: str = "modulation") -> dict[str, Any]:
    """The labels in an annotation."""
    prefix = NAMESPACE + ":"
    ours = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    found = {name: checked_label(name, ours[name]) for name in LABELS if name in ours}
    if found:
        return found
    if fields.get("core:label"):
        found[label_column] = checked_label(label_column, fields["core:label"])
    if "core:freq_lower_edge" in fields and "core:freq_upper_edge" in fields:
        found["band_width"] = float(fields["core:freq_upper_edge"]) - float(fields["core:freq_lower_edge"])
    return found


def checked_metadata(path: Path, metadata: dict) -> dict:
    """The metadata with SigMF's version; EMindError where the sigmf package finds a fault in it."""
    import sigmf

    metadata["global"] = {"core:version": sigmf.__specification__, **metadata["global"]}
    try:
        sigmf.SigMFFile(metadata=metadata).validate()
    except Exception as fault:  # jsonschema's errors and sigmf's own have no common base
        raise EMindError(f"{path}: its metadata is not valid SigMF ({str(fault).splitlines()[0]})") from None
    return metadata


def recover_sigmf(part: str | Path) -> Path | None:
    """Finishes a recording whose writer was killed; the metadata file, None where there is nothing to keep.

    ``part``: its ``.sigmf-data.part``. What the metadata did not know of yet stays in the data without an annotation.
    """
    part = Path(part)
    data = part.with_suffix("")
    meta = data.with_name(data.name.removesuffix(DATA_SUFFIX) + META_SUFFIX)
    if part.suffix != PART or not data.name.endswith(DATA_SUFFIX):
        raise UsageError(f"{part}: only unfinished recordings (*{DATA_SUFFIX}{PART}) can be mended")
    with file_lock(part) as file:
        try:
            metadata = json.loads(_part(meta).read_text(encoding="utf-8"))
            width = {"cf32_le": 8, "ci16_le": 4}[metadata["global"]["core:datatype"]]
        except (OSError, ValueError, KeyError, TypeError) as fault:
            if os.fstat(file.fileno()).st_size:
                raise EMindError(f"{_part(meta)}: cannot be read, so {part.name} stays as it is ({fault})") from None
            part.unlink()
            return None
        if data.exists() or meta.exists():
            raise EMindError(f"{data}: exists already; move it away to finish {part.name}")
        count = os.fstat(file.fileno()).st_size // width
        file.truncate(count * width)
        os.fsync(file.fileno())
        os.rename(part, data)
        os.rename(_part(meta), meta)
    sync_folder(data.parent)
    return meta


def _mean_of(name: str, before: float, weight: int, new: float, count: int) -> float:
    """Mean of two values of so many samples each; of decibels that of the ratios."""
    if name == "snr":
        ratio = (weight * 10 ** (before / 10) + count * 10 ** (new / 10)) / (weight + count)
        return round(10 * math.log10(ratio), 1)
    return float(f"{(weight * before + count * new) / (weight + count):.4g}")


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _cut(captures: list[dict], annotations: list[dict], count: int) -> tuple[list[dict], list[dict]]:
    """What of the metadata lies before sample ``count``."""
    kept = [dict(a, **{"core:sample_count": min(a["core:sample_count"], count - a["core:sample_start"])})
            for a in annotations if a["core:sample_start"] < count]
    return [c for c in captures if c["core:sample_start"] < max(count, 1)], kept
