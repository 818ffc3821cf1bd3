"""Metadata of a SigMF recording that grows: whole and valid after each flush, at the cost of what is new."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sigmf
from emind.contract.errors import EMindError
from emind.storage import sigmf_labels
from emind.storage.sigmf_labels import SigmfWriter

ROW = np.ones(64, np.complex64)


def written(writer: SigmfWriter) -> dict:
    """What stands in the unfinished metadata, which is valid and in the form of all SigMF files of this package."""
    text = writer.meta.with_name(writer.meta.name + ".part").read_text(encoding="utf-8")
    metadata = json.loads(text)
    assert text == json.dumps(metadata, indent=4) + "\n"
    sigmf.SigMFFile(metadata=metadata).validate()
    return metadata


def test_after_each_flush_the_metadata_hold_all_that_was_written(tmp_path):
    writer = SigmfWriter(tmp_path / "take", 1e6, origin="a test")
    writer.flush()
    assert written(writer)["captures"] == [{"core:sample_start": 0}] and written(writer)["annotations"] == []
    writer.capture(100e6)
    writer.capture(101e6, "2026-01-01T00:00:00.000000Z")  # instead of the one before: no sample came between
    for number, (name, snr) in enumerate([("QPSK", 3.0), ("QPSK", 5.0), ("FSK", 7.0), ("FSK", 9.0), ("QPSK", 1.0)]):
        writer.write(ROW, {"modulation": name, "snr": snr}, join=True)
        writer.flush()
        told = written(writer)
        last = told["annotations"][-1]
        assert last["core:sample_start"] + last["core:sample_count"] == 64 * (number + 1)
    assert [(a["core:sample_start"], a["core:sample_count"], a["emind:modulation"]) for a in told["annotations"]] == \
        [(0, 128, "QPSK"), (128, 128, "FSK"), (256, 64, "QPSK")]
    assert [a["emind:snr"] for a in told["annotations"]] == [4.1, 8.1, 1.0]  # means of the ratios
    assert told["captures"] == [{"core:sample_start": 0, "core:frequency": 101e6,
                                 "core:datetime": "2026-01-01T00:00:00.000000Z"}]
    writer.capture(102e6)
    writer.write(ROW, {"modulation": "AM"})
    writer.finish()
    told = json.loads(writer.meta.read_text(encoding="utf-8"))
    assert len(told["annotations"]) == 4 and [c["core:frequency"] for c in told["captures"]] == [101e6, 102e6]


def test_a_flush_encodes_and_checks_what_is_new_and_not_all(tmp_path, monkeypatch):
    encoded, checked = [], []
    encode, check = sigmf_labels._encoded, sigmf_labels.checked_metadata
    monkeypatch.setattr(sigmf_labels, "_encoded", lambda item: encoded.append(item) or encode(item))
    monkeypatch.setattr(sigmf_labels, "checked_metadata",
                        lambda path, metadata: checked.extend(metadata["annotations"]) or check(path, metadata))
    writer = SigmfWriter(tmp_path / "take", 1e6, origin="a test")
    for number in range(500):
        writer.write(ROW, {"transmission_id": str(number)})
        if number % 100 == 99:
            encoded.clear(), checked.clear()
            writer.flush()
            assert len(encoded) <= 103 and len(checked) <= 101  # the newest of before may have changed
    assert len(written(writer)["annotations"]) == 500


def test_what_sigmf_does_not_allow_is_said_at_the_flush_behind_it(tmp_path):
    writer = SigmfWriter(tmp_path / "take", 1e6, origin="a test")
    writer.write(ROW, {})
    writer.flush()
    writer._annotations.append({"core:sample_start": -3})
    with pytest.raises(EMindError, match="not valid SigMF"):
        writer.flush()


def test_a_full_disk_takes_the_end_away_and_leaves_the_rest_whole(tmp_path):
    writer = SigmfWriter(tmp_path / "take", 1e6, origin="a test")
    for number in range(300):
        writer.write(ROW, {"transmission_id": str(number)})
        if number == 99:
            writer.flush()
    writer.cut()
    writer.flush()
    told = written(writer)["annotations"]
    assert 100 * 64 <= writer.count < 300 * 64
    assert told[-1]["core:sample_start"] + told[-1]["core:sample_count"] == writer.count
