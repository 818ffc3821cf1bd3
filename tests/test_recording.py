"""Recordings: every format gives the same samples by number, by our reader and by GNU Radio's blocks."""

import json
import os

import numpy as np
import pytest
import sigmf
from emind.contract.errors import EMindError, UsageError
from emind.storage.recording import FORMATS, annotated_metadata, check_samples, open_recording, parse_format
from emind.storage.replacing import replacing

IQ = np.array([0.5 - 0.25j, -0.75 + 0.125j, 0.0 + 0.0j, -1.0 + 0.5j], np.complex64)


def encode(samples, layout):
    """Complex numbers as the bytes of a format."""
    plain = samples.view(np.float32).astype(np.float64) / layout.scale - layout.offset
    if np.dtype(layout.dtype).kind != "f":
        plain = np.round(plain)
    return plain.astype(layout.dtype).tobytes()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_back(tmp_path, name):
    layout = FORMATS[name]
    path = tmp_path / "recording.bin"
    path.write_bytes(encode(IQ, layout))
    recording = open_recording(path, name, 1e6)
    assert recording.count == len(IQ)
    assert np.allclose(recording.read(0, 4), IQ, atol=0.75 * layout.scale)
    assert np.array_equal(recording.read(1, 2), recording.read(0, 4)[1:3])
    assert len(recording.read(3, 10)) == 1, "a read is cut at the end"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("header", [0, 7])
def test_gnu_radio_reads_what_we_read(tmp_path, monkeypatch, name, header):
    gr = pytest.importorskip("gnuradio.gr")
    from emind.commands import flowgraph
    from gnuradio import blocks

    monkeypatch.setattr(flowgraph, "SECTION_SAMPLES", 300)  # so that a recording has several
    generator = np.random.default_rng(3)
    samples = (generator.uniform(-1, 1, (1000, 2)) @ [1, 1j] * 0.7).astype(np.complex64)
    (tmp_path / "r.bin").write_bytes(b"x" * header + encode(samples, FORMATS[name]))
    meta = {"global": {"core:datatype": name, "core:version": "1.0.0", "core:sample_rate": 1e6,
                       "core:dataset": "r.bin"},
            "captures": [{"core:sample_start": 0, "core:header_bytes": header}], "annotations": []}
    (tmp_path / "r.sigmf-meta").write_text(json.dumps(meta))
    recording = open_recording(tmp_path / "r.sigmf-meta")

    class only_source(flowgraph.recording_flowgraph):
        def __init__(self):
            gr.top_block.__init__(self, "source")
            self.recording, self.sink = recording, blocks.vector_sink_c()
            self.connect(self._source(1100), self.sink)

    source = only_source()
    source.run()
    got = np.array(source.sink.data(), np.complex64)
    assert len(got) == 1100
    assert np.array_equal(got[:1000], recording.read(0, 1000))
    assert not got[1000:].any(), "zeros follow the recording"


def test_format_names_of_other_programs_are_understood():
    assert parse_format("fc32").name == parse_format("CF32").name == "cf32_le"
    assert parse_format("cs8").name == "ci8"
    with pytest.raises(UsageError, match="cu8"):
        parse_format("float7")


def test_a_raw_files_name_can_state_its_format(tmp_path):
    (tmp_path / "a.cs16").write_bytes(encode(IQ, FORMATS["ci16_le"]))
    assert open_recording(tmp_path / "a.cs16", rate=48e3).format.name == "ci16_le"
    (tmp_path / "a.bin").write_bytes(b"12345678")
    with pytest.raises(UsageError, match="--format"):
        open_recording(tmp_path / "a.bin", rate=48e3)


def test_segments_cover_a_short_recording_and_sample_a_long_one(raw):
    recording = open_recording(raw(np.arange(1000)), rate=1.0)
    assert np.array_equal(recording.segments(100, 50).ravel().real, np.arange(1000))
    few = recording.segments(100, 3)
    assert few.shape == (3, 100) and few[0, 0] == 0 and few[-1, -1] == 999
    assert recording.segments(1024, 3).shape == (1, 1024)


def test_the_one_burst_of_a_long_recording_is_among_the_segments(raw):
    samples = 0.1 * np.random.default_rng(1).standard_normal(400_000)
    samples[123_400:123_800] += np.tile([1, -1], 200)
    recording = open_recording(raw(samples), rate=1.0)
    found = recording.loud_and_spread(100, 16 * 16)
    assert found.shape == (256, 100)
    assert np.sum(np.var(found, axis=1) > 0.5) >= 3
    assert np.sum(np.var(found, axis=1) < 0.02) > 128, "and most are as quiet as the recording"


def sigmf_pair(folder, fields=(), capture=(), data=IQ.tobytes()):
    (folder / "a.sigmf-data").write_bytes(data)
    meta = {"global": {"core:datatype": "cf32_le", "core:version": "1.0.0", "core:sample_rate": 2e6, **dict(fields)},
            "captures": [{"core:sample_start": 0, **dict(capture)}], "annotations": []}
    path = folder / "a.sigmf-meta"
    path.write_text(json.dumps({**meta, "global": {k: v for k, v in meta["global"].items() if v is not None}}))
    return path


def test_sigmf_gives_rate_and_centre_and_either_file_opens_it(tmp_path):
    path = sigmf_pair(tmp_path, capture={"core:frequency": 433e6}.items())
    for name in (path, path.with_name("a.sigmf-data")):
        recording = open_recording(name)
        assert (recording.rate, recording.center, recording.count) == (2e6, 433e6, 4)
    assert open_recording(path, rate=5.0).rate == 5.0, "what the user says goes first"


@pytest.mark.parametrize("fields, says", [
    ({"core:datatype": "rf32_le"}, "rf32_le cannot be read"),
    ({"core:datatype": None}, "not readable SigMF"),
    ({"core:num_channels": 2}, "2 channels"),
    ({"core:sample_rate": None}, "--rate"),
    ({"core:sample_rate": 0}, "not possible"),
    ({"core:sample_rate": "fast"}, "not readable SigMF"),
    ({"core:dataset": "other.bin"}, "no such file"),
    ({"core:trailing_bytes": 32}, "no samples"),
])
def test_metadata_that_cannot_be_used_is_named(tmp_path, fields, says):
    with pytest.raises(EMindError, match=says):
        open_recording(sigmf_pair(tmp_path, fields.items()))


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", '{"global": 3}'])
def test_metadata_that_is_no_sigmf_is_named(tmp_path, text):
    (tmp_path / "a.sigmf-meta").write_text(text)
    with pytest.raises(EMindError, match="not readable SigMF"):
        open_recording(tmp_path / "a.sigmf-meta")


def test_an_archive_and_a_folder_are_refused(tmp_path):
    (tmp_path / "a.sigmf").write_bytes(b"")
    for path, says in ((tmp_path / "a.sigmf", "archive"), (tmp_path, "folder")):
        with pytest.raises(EMindError, match=says):
            open_recording(path)


def test_check_finds_the_first_bad_sample_and_silence(raw):
    samples = np.ones(5000, np.complex64)
    assert check_samples(open_recording(raw(samples), rate=1.0))
    assert not check_samples(open_recording(raw(0 * samples), rate=1.0))
    samples[4321] = 1j * np.inf
    samples[4999] = np.nan
    with pytest.raises(EMindError, match="sample 4321 "):
        check_samples(open_recording(raw(samples), rate=1.0))


def test_annotations_are_valid_and_replace_only_our_own(tmp_path):
    path = sigmf_pair(tmp_path)
    recording = open_recording(path)
    recording.metadata["annotations"].append({"core:sample_start": 2, "core:label": "theirs"})
    metadata = annotated_metadata(recording, [{"core:sample_start": 0, "core:label": "first"}], "a.sigmf-data")
    path.write_text(json.dumps(metadata))
    metadata = annotated_metadata(open_recording(path), [{"core:sample_start": 1, "core:label": "second"}],
                                  "a.sigmf-data")
    path.write_text(json.dumps(metadata))
    signal = sigmf.fromfile(str(path))
    signal.validate()
    assert [a["core:label"] for a in signal.get_annotations()] == ["second", "theirs"]


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_device_and_a_link_keep_their_names_and_a_full_disk_is_one_line(tmp_path):
    link, full = tmp_path / "latest", tmp_path / "full"
    link.symlink_to(tmp_path / "out.txt")
    (tmp_path / "out.txt").write_text("old")
    with replacing(link) as unfinished:
        unfinished.write_text("new")
    assert link.is_symlink() and (tmp_path / "out.txt").read_text() == "new"
    os.mkfifo(full)
    with replacing(full) as given:
        assert given == full
    full.unlink()
    with pytest.raises(EMindError, match="full: not written \\(No space left"), replacing(full) as unfinished:
        with open("/dev/full", "w") as file:  # as a write to ``unfinished`` would on such a disk
            file.write("much")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "out.txt"]
