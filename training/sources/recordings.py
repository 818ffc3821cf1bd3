"""Sets of long recordings, cut into windows: POWDER, Northeastern RF, LoRa RF.

Each is a file of complex samples with JSON beside it, SigMF or nearly so. The windows of a recording share its name as
``transmission_id``, so that a split by source keeps them together. What a recording has beyond its last whole window
is left out.

POWDER (Reus-Muns et al., 2020; Northeastern's repository): ``4G_Day_1_bes_s1.bin``, cf32, and a .json with the rate
(7.69 MHz; Wi-Fi 5 MHz) and number of samples. Certain: public readers quote names and JSON. The base station is the
emitter.

LoRa RF (Elmaghbub and Hamdaoui, 2021; Oregon State): ``Day1/Device7/IQ_1.dat``, ``Device7_IQ.dat`` or, in the setups
with one recording an emitter, ``Config1/IQ_7.dat``; complex64 at 1 MHz, as public readers and indexes show. The
.sigmf-meta beside it is used where it is there.

Northeastern RF (Al-Shawabka et al., 2020): NOT certain. No public text shows that set's files. What is read is the
layout of the same university's ORACLE set: ``WiFi_air_X310_3123D65_8ft_run2.sigmf-data`` with .sigmf-meta, the metadata
under ``_metadata`` or at the top. A recording whose name does not have a radio's type and serial number is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from emind.contract.schema import Signal

from .source import BLOCK, Source, beside, foreign

TYPES = {"cf32": "<f4", "cf32_le": "<f4", "cf64": "<f8", "cf64_le": "<f8", "ci16": "<i2", "ci16_le": "<i2"}
POWDER_NAME = re.compile(r"(4G|5G|WiFi)_Day_([12])_(bes|browning|honors|meb)_s(\d+)\.bin", re.IGNORECASE)
POWDER_TECHNOLOGY = {"4g": "LTE", "5g": "5G NR", "wifi": "Wi-Fi"}
RADIO_NAME = re.compile(r"_(X310|N210|B210|N2\d\d)_([0-9A-Za-z]+)_.*\.sigmf-(?:data|meta)")
LORA_DEVICE = re.compile(r"Device_?(\d+)", re.IGNORECASE)
LORA_FLAT = re.compile(r"IQ_(\d+)\.dat", re.IGNORECASE)
LORA_SETUP = re.compile(r"(Config|Location)_?\d+|\d+m", re.IGNORECASE)


def metadata(path: Path) -> dict[str, Any]:
    """The JSON object of a file, without the wrapping some of these sets put around SigMF."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise foreign(path, f"not readable JSON ({fault})") from None
    inner = found.get("_metadata", found) if isinstance(found, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("global"), dict):
        raise foreign(path, "not SigMF metadata: it has no global section")
    return inner


def stated(path: Path, held: dict[str, Any], key: str) -> float:
    """A number above zero that the metadata state, as a number or as text."""
    try:
        value = float(held[key])
        if np.isfinite(value) and value > 0:
            return value
    except (KeyError, TypeError, ValueError):
        pass
    raise foreign(path, f"states no {key} above zero")


def check_count(path: Path, meta: Path, held: dict[str, Any], samples: int) -> None:
    """EMindError where one annotation counts other samples than the file has: it is cut short."""
    notes = held.get("annotations")
    notes = [notes] if isinstance(notes, dict) else notes if isinstance(notes, list) else []
    if len(notes) == 1 and isinstance(notes[0], dict) and "core:sample_count" in notes[0]:
        count = int(stated(meta, notes[0], "core:sample_count"))
        if count != samples:
            raise foreign(path, f"has {samples} samples, but {meta.name} counts {count}: cut short, or another format")


def open_samples(path: Path, datatype: str) -> np.ndarray:
    """Components (samples, 2) of a raw file, mapped."""
    code = TYPES.get(datatype)
    if code is None:
        raise foreign(path, f"sample format {datatype!r} cannot be read; known: {', '.join(TYPES)}")
    try:
        size = path.stat().st_size
        if not size or size % (2 * np.dtype(code).itemsize):
            raise foreign(path, f"{size} bytes are not a whole number of {datatype} samples")
        return np.memmap(path, code, "r").reshape(-1, 2)
    except OSError as fault:
        raise foreign(path, f"cannot be read ({fault.strerror})") from None


def windows(path: Path, components: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Windows of ``length`` samples one behind the other, complex64; int16 as -1 to 1."""
    count = len(components) // length
    if not count:
        raise foreign(path, f"has {len(components)} samples, fewer than one window of {length}")
    scale = np.float32(1 / 32768 if components.dtype.kind == "i" else 1)
    rows = max(1, BLOCK * 256 // length)
    for start in range(0, count, rows):
        block = components[start * length : min(start + rows, count) * length].astype(np.float32) * scale
        yield from block.view(np.complex64).reshape(-1, length)


def powder(path: Path, length: int) -> Iterator[Signal]:
    name = POWDER_NAME.fullmatch(path.name)
    if not name:
        raise foreign(path, "not POWDER: names are like 4G_Day_1_bes_s1.bin")
    meta = beside(path, path.with_suffix(".json").name)
    held = metadata(meta)
    rate = stated(meta, held["global"], "core:sample_rate")
    components = open_samples(path, str(held["global"].get("core:datatype")))
    check_count(path, meta, held, len(components))
    for row in windows(path, components, length):
        yield Signal(row, "POWDER", rate, device_id=name[3].lower(), transmission_id=path.stem,
                     infer_class=POWDER_TECHNOLOGY[name[1].lower()], modulation="OFDM")


def northeastern(path: Path, length: int) -> Iterator[Signal]:
    name = RADIO_NAME.search(path.name)
    if not name:
        raise foreign(path, "not Northeastern RF: names are like WiFi_air_X310_3123D65_8ft_run2.sigmf-meta")
    stem = path.name.rsplit(".sigmf-", 1)[0]
    meta, data = beside(path, f"{stem}.sigmf-meta"), beside(path, f"{stem}.sigmf-data")
    held = metadata(meta)
    rate = stated(meta, held["global"], "core:sample_rate")
    components = open_samples(data, str(held["global"].get("core:datatype")))
    check_count(data, meta, held, len(components))
    for row in windows(data, components, length):
        yield Signal(row, "Northeastern RF", rate, device_id=f"{name[1]}-{name[2]}", transmission_id=stem,
                     modulation="OFDM")


def lora_device(path: Path) -> str:
    """Number of the emitter, from file name or folder; EMindError where they do not say it."""
    named = LORA_DEVICE.match(path.name) or LORA_DEVICE.fullmatch(path.parent.name)
    if named and path.suffix.lower() == ".dat":
        return named[1]
    flat = LORA_FLAT.fullmatch(path.name)
    if flat and LORA_SETUP.fullmatch(path.parent.name):
        return flat[1]
    raise foreign(path, "not LoRa RF: files are Day1/Device7/IQ_1.dat, Device7_IQ.dat or Config1/IQ_7.dat")


def lora(path: Path, length: int) -> Iterator[Signal]:
    path = path.absolute()  # the folders say what was recorded
    device, rate = lora_device(path), 1e6
    meta = path.with_suffix(".sigmf-meta")
    datatype, held = "cf32_le", None
    if meta.is_file():
        held = metadata(meta)
        rate = stated(meta, held["global"], "core:sample_rate")
        datatype = str(held["global"].get("core:datatype", datatype))
    components = open_samples(path, datatype)
    if held:
        check_count(path, meta, held, len(components))
    recording = "/".join(path.with_suffix("").parts[-4:])  # setup, day, device, number
    for row in windows(path, components, length):
        yield Signal(row, "LoRa RF", rate, device_id=device, transmission_id=recording, modulation="LoRa")


SOURCES = (
    Source("POWDER", "*_Day_*_*_s*.bin", True, powder, 512),
    Source("Northeastern RF", "WiFi_air_X310_*.sigmf-meta", False, northeastern, 288),
    Source("LoRa RF", "Day*/Device*/IQ_*.dat", True, lora, 4096),
)
