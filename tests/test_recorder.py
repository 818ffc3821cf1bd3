"""The recorder against killed processes, full disks and disks that are too slow; `emind record`."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import tone_bursts
from emind.contract.errors import EMindError
from emind.storage import recording_files
from emind.storage.parquet import Reader
from emind.storage.recorder_thread import PIECE, Mark, RecorderThread
from emind.storage.recording_files import RecordingFiles, Stretch
from emind.storage.sigmf_labels import Signal, export_sigmf, import_sigmf

# Records an endless ramp of numbers that float32 holds, in processes that are killed one after the other.
KILLED = """
import os, random, signal, sys, glob
import numpy as np
from gnuradio import gr
from emind.recorder import recorder
folder, kills = sys.argv[1], int(sys.argv[2])

class ramp(gr.sync_block):
    def __init__(self):
        gr.sync_block.__init__(self, "ramp", None, [np.complex64])
        self.sent = 0
    def work(self, inputs, outputs):
        out = outputs[0]
        out.real[:] = (self.sent + np.arange(len(out))) % (1 << 24)
        out.imag[:] = 1
        self.sent += len(out)
        return len(out)

def size_of(base):
    total = 0
    for file in glob.glob(base + "-*"):
        try:
            total += os.stat(file).st_size
        except FileNotFoundError:  # it got its final name this moment
            pass
    return total

random.seed(6)
for number in range(kills):
    base = os.path.join(folder, f"{number:02d}")
    child = os.fork()
    if child == 0:
        source = ramp()
        block = recorder(base, policy="lossless", rotate_mb=4.0, queue_mb=2.0, length=1000, labels={"snr": number})
        flowgraph = gr.top_block()
        flowgraph.connect(source, block)
        flowgraph.run()
        os._exit(1)
    size = random.randrange(1, 30_000_000)
    try:
        while size_of(base) < size:
            os.sched_yield()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments_every_finished_row_group_reads_back_bit_exact(tmp_path, kills):
    pytest.importorskip("gnuradio")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(kills)], capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stderr
    rows = files = 0
    for number in range(kills):
        found = sorted(tmp_path.glob(f"{number:02d}-*"))
        assert len(found) - 1 <= len([file for file in found if file.suffix == ".parquet"]) <= len(found)
        expected = 0
        for file in found:
            try:
                reader = Reader(file)
            except EMindError:  # killed before the opening of a file was whole: it held nothing
                assert file.suffix == ".part" and file.stat().st_size < 20_000
                continue
            reader.verify()
            files += 1
            for one in reader:
                ramp = (expected + np.arange(len(one.iq))) % (1 << 24)
                np.testing.assert_array_equal(one.iq, (ramp + 1j).astype(np.complex64))
                assert one.snr == number
                expected += len(one.iq)
                rows += 1
        if found[-1].suffix == ".part":  # the next recording of that name finishes it
            RecordingFiles(tmp_path / f"{number:02d}").recover()
            again = sum(int(Reader(file).lengths().sum()) for file in tmp_path.glob(f"{number:02d}-*"))
            assert again == expected and not list(tmp_path.glob(f"{number:02d}-*.part"))
    assert rows > 100 * kills and files > kills


def thread_for(base, samples: np.ndarray, chunk: int = 5000, **options) -> RecorderThread:
    """A recorder's thread that has taken ``samples`` as a lossless block would."""
    files = RecordingFiles(base, **options)
    thread = RecorderThread(files, 100, 20_000)
    thread.mark(0, Mark(stretch=Stretch(1e6)))
    thread.start()
    for start in range(0, len(samples), chunk):
        part = samples[start : start + chunk]
        while thread.error is None and thread.room() < len(part):
            thread.wait(1.0)
        if thread.error is None:
            thread.put(part)
        else:
            thread.drop(len(part))
    thread.stop()
    return thread


@pytest.mark.parametrize("file_format", ["parquet", "sigmf", "both"])
def test_a_full_disk_ends_the_recording_and_loses_nothing_before(small_disk, file_format):
    samples = tone_bursts(2_000_000)
    thread = thread_for(small_disk / "take", samples, file_format=file_format, row_group_bytes=400_000,
                        rotate_bytes=3e6)
    assert "No space left" in str(thread.error) and "take" in str(thread.error)
    counts = thread.statistics()
    assert counts["samples_seen"] == counts["samples_written"] + counts["samples_dropped"] == len(samples)
    assert counts["samples_queued"] == 0 and counts["error"]
    assert not list(small_disk.glob("*.part"))
    for suffix, reader in (("*.parquet", Reader), ("*.sigmf-meta", import_sigmf)):
        files = sorted(small_disk.glob(suffix))
        if files:
            got = np.concatenate([one.iq for file in files for one in reader(file)])
            np.testing.assert_array_equal(got, samples[: len(got)])
            assert len(got) >= (2 if file_format == "both" else 5) * 100_000
            if suffix == "*.parquet" or file_format == "sigmf":
                assert len(got) == counts["samples_written"]


def test_a_full_disk_does_not_stop_the_flowgraph(small_disk):
    gr = pytest.importorskip("gnuradio.gr")
    from emind.recorder import recorder
    from gnuradio import blocks

    count = 2_000_000
    block = recorder(str(small_disk / "take"), policy="realtime")
    flowgraph = gr.top_block()
    source, end = blocks.null_source(gr.sizeof_gr_complex), blocks.head(gr.sizeof_gr_complex, count)
    beside = blocks.vector_sink_c()
    flowgraph.connect(source, end, block)
    flowgraph.connect(end, beside)
    flowgraph.run()
    counts = block.statistics()
    assert len(beside.data()) == count == counts["samples_seen"]
    assert counts["samples_dropped"] > 0 and counts["samples_written"] + counts["samples_dropped"] == count
    assert block.error() is not None
    assert sum(int(Reader(file).lengths().sum()) for file in small_disk.glob("*.parquet")) == counts["samples_written"]


def test_what_the_disk_cannot_keep_up_with_is_counted(tmp_path, monkeypatch):
    gr = pytest.importorskip("gnuradio.gr")
    from emind.recorder import recorder
    from gnuradio import blocks

    let_go = threading.Event()
    write = RecordingFiles.write

    def slow(self, rows, labels):
        let_go.wait(60)
        write(self, rows, labels)

    monkeypatch.setattr(recording_files.RecordingFiles, "write", slow)
    count = 400_000
    block = recorder(str(tmp_path / "take"), policy="realtime", queue_mb=0.8)

    class watcher(gr.sync_block):
        """Lets the disk go on when all samples have come to the block beside it."""

        def __init__(self):
            gr.sync_block.__init__(self, "watcher", [np.complex64], None)
            self.seen = 0

        def work(self, input_items, output_items):
            self.seen += len(input_items[0])
            return len(input_items[0])

        def stop(self):
            let_go.set()
            return True

    flowgraph = gr.top_block()
    beside = watcher()
    source = blocks.vector_source_c(np.arange(count).tolist())
    flowgraph.connect(source, block)
    flowgraph.connect(source, beside)
    threading.Thread(target=lambda: _when(lambda: block.statistics()["samples_seen"] == count, let_go)).start()
    flowgraph.run()
    counts = block.statistics()
    assert counts["samples_seen"] == count and counts["samples_dropped"] > 0 and counts["gaps"] > 0
    assert counts["samples_written"] + counts["samples_dropped"] == count
    rows = [one.iq.real for file in tmp_path.glob("*.parquet") for one in Reader(file)]
    assert sum(map(len, rows)) == counts["samples_written"]
    for row in rows:  # no row straddles samples that are missing
        assert len(row) == 1 or np.all(np.diff(row) == 1)


def test_a_recording_that_has_failed_gathers_nothing_more(tmp_path, monkeypatch):
    """The stream goes on for days, with a tag a window."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordingFiles, "write", fail)
    thread = RecorderThread(RecordingFiles(tmp_path / "take"), 10, 1000)
    thread.put(np.ones(20, np.complex64))
    thread.mark(25, Mark(labels={"snr": 1.0}))
    thread.start()
    _when(lambda: thread.error is not None, threading.Event())
    for sample in range(30, 1000):
        thread.mark(sample, Mark(span=(10, {"modulation": "QPSK"})))
        thread.drop(1)
    assert not thread._marks and thread.room() == 0
    assert thread.stop(30)


def test_a_row_longer_than_what_is_taken_together_is_written_whole(tmp_path):
    length = PIECE + 5
    thread = RecorderThread(RecordingFiles(tmp_path / "take"), length, 1)  # the queue takes two rows, whatever is asked
    samples = np.arange(2 * length, dtype=np.float32).astype(np.complex64)
    thread.put(samples)
    thread.start()
    assert thread.stop(30)
    rows = [row.iq for file in tmp_path.glob("*.parquet") for row in Reader(file)]
    assert [len(row) for row in rows] == [length, length]
    np.testing.assert_array_equal(np.concatenate(rows), samples)


def test_messages_of_other_blocks_are_no_detections_and_no_error():
    """An error in the handler of a message would end the block."""
    pmt = pytest.importorskip("pmt")
    from emind.recorder_pmt import Wanted

    wanted, said = Wanted(frozenset(), 0.5), {"label": "QPSK", "confidence": 0.9}
    good = {"sample_start": 5, "sample_count": 10, "modulation": said}

    def event(fields):
        return wanted.in_message(pmt.cons(pmt.to_pmt(fields), pmt.init_u8vector(0, [])), 1e6)

    assert event(good) == (5, 15) and event({**good, "rx_rate": 5e5}) == (10, 30)
    for other in ({"sample_start": "five"}, {"sample_count": None}, {"rx_rate": "fast"}, {"sample_start": np.inf},
                  {"modulation": {**said, "confidence": "high"}}):
        assert event({**good, **other}) is None
    for other in (pmt.PMT_NIL, pmt.PMT_T, pmt.intern("QPSK"), pmt.init_u8vector(1, [1]), pmt.to_pmt(good)):
        assert wanted.in_message(other, 1e6) is None


def _when(condition, event: threading.Event) -> None:
    while not event.is_set() and not condition():
        os.sched_yield()
    event.set()


# --- SigMF with labels ---


def test_sigmf_carries_all_labels_there_and_back(tmp_path):
    signals = [Signal(tone_bursts(100 + n), modulation="QPSK", snr=float(n), num_pulses=n, sampling_rate=1e6,
                      transmission_id=f"t{n}") for n in range(5)]
    assert export_sigmf(tmp_path / "a", signals, origin="test") == 5
    for one, other in zip(signals, import_sigmf(tmp_path / "a.sigmf-meta"), strict=True):
        np.testing.assert_array_equal(one.iq, other.iq)
        assert one.labels() == other.labels()


def test_annotations_of_other_programs_give_label_and_band(tmp_path):
    export_sigmf(tmp_path / "a", [Signal(tone_bursts(100))], origin="test", rate=1e6)
    meta = tmp_path / "a.sigmf-meta"
    text = json.loads(meta.read_text())
    text["annotations"] = [{"core:sample_start": 10, "core:sample_count": 20, "core:label": "GMSK",
                            "core:freq_lower_edge": 1e5, "core:freq_upper_edge": 3e5}]
    meta.write_text(json.dumps(text))
    (one,) = import_sigmf(meta, dataset_name="theirs")
    assert (len(one.iq), one.modulation, one.band_width, one.dataset_name) == (20, "GMSK", 2e5, "theirs")
    text["annotations"][0]["core:sample_count"] = 200
    meta.write_text(json.dumps(text))
    with pytest.raises(EMindError, match="annotation 0"):
        list(import_sigmf(meta))


def test_sigmf_of_two_rates_is_refused_and_leaves_nothing(tmp_path):
    signals = [Signal(tone_bursts(10), sampling_rate=rate) for rate in (1e6, 2e6)]
    with pytest.raises(EMindError, match="row 1"):
        export_sigmf(tmp_path / "a", signals, origin="test")
    assert list(tmp_path.iterdir()) == []


# --- emind record ---


def test_record_copies_a_recording_with_labels(emind, raw, tmp_path):
    pytest.importorskip("gnuradio")
    samples = tone_bursts(10_000)
    outcome = emind("record", tmp_path / "take", "--from", raw(samples), "--rate", 1e6, "--files", "both",
                    "--label", "modulation=QPSK", "--label", "snr=12", "--json")
    assert outcome.status == 0, outcome.err
    counts = json.loads(outcome.out)
    assert counts["samples_written"] == 10_000 and len(counts["file_names"]) == 2
    (file,) = tmp_path.glob("take-*.parquet")
    rows = list(Reader(file))
    np.testing.assert_array_equal(np.concatenate([row.iq for row in rows]), samples)
    assert {(row.modulation, row.snr, row.sampling_rate) for row in rows} == {("QPSK", 12.0, 1e6)}


@pytest.mark.parametrize("name, scale", [("ci16_le", 1 / 32768), ("ci8", 1 / 128), ("cu8", 1 / 255)])
def test_record_keeps_the_source_s_resolution_in_int16(emind, tmp_path, name, scale):
    pytest.importorskip("gnuradio")
    from emind.storage.recording import FORMATS, open_recording

    layout = FORMATS[name]
    info = np.iinfo(layout.dtype)
    np.random.default_rng(1).integers(info.min, info.max + 1, 8000).astype(layout.dtype).tofile(tmp_path / "r.bin")
    outcome = emind("record", tmp_path / "take", "--from", tmp_path / "r.bin", "--format", name, "--rate", 1e6,
                    "--iq", "int16")
    assert outcome.status == 0, outcome.err
    (file,) = tmp_path.glob("take-*.parquet")
    got = np.concatenate([row.iq for row in Reader(file)])
    assert float(Reader(file).metadata["iq_scale"]) == pytest.approx(scale)
    np.testing.assert_allclose(got, open_recording(tmp_path / "r.bin", name, 1e6).read(0, 4000), atol=scale / 50)


def test_record_finishes_what_a_killed_recorder_left(emind, tmp_path):
    files = RecordingFiles(tmp_path / "take")
    files.write(tone_bursts(1000).reshape(10, 100), {})
    files.flush()
    files._parquet.leave()  # what SIGKILL does
    (part,) = tmp_path.glob("*.part")
    outcome = emind("record", "--recover", part)
    assert outcome.status == 0 and Path(outcome.out.strip()) == part.with_suffix("")
    assert Reader(part.with_suffix("")).count == 10
    assert emind("record", "--recover", part).status == 1


@pytest.mark.parametrize("arguments, says", [
    ([], "OUT"), (["take", "--rate", "0"], "--rate"), (["take", "--label", "colour=red"], "colour"),
    (["take", "--label", "snr=loud"], "snr"), (["take", "--seconds", "0"], "--seconds"),
    (["take", "--from", "x.cf32", "--rate", "1e6", "--freq", "1e9"], "--freq"),
])
def test_record_refuses_arguments_that_cannot_work_in_one_line(emind, arguments, says):
    outcome = emind("record", *arguments)
    assert outcome.status == 2 and says in outcome.err and len(outcome.err.splitlines()) == 1


def test_ctrl_c_ends_a_recording_with_all_that_came(tmp_path):
    pytest.importorskip("gnuradio")
    code = ("import sys, threading, os, signal\nfrom emind.commands import record\n"
            "from gnuradio import gr, blocks\n"
            "def endless(options, labels):\n"
            "    class flowgraph(gr.top_block):\n"
            "        def __init__(self):\n"
            "            gr.top_block.__init__(self)\n"
            "            self.recorder = record._recorder(options, labels, 1e6, 0.0, 'lossless', 1 / 32768)\n"
            "            self.connect(blocks.null_source(8), self.recorder)\n"
            "            self.tail = [self.recorder]\n"
            "    graph = flowgraph()\n"
            "    def press():\n"
            "        while not graph.recorder.statistics()['samples_written']: os.sched_yield()\n"
            "        os.kill(os.getpid(), signal.SIGINT)\n"
            "    threading.Thread(target=press, daemon=True).start()\n"
            "    return graph\n"
            "record._from_radio = endless\n"
            "from emind.cli import main\n"
            f"sys.exit(main(['record', {str(tmp_path / 'take')!r}, '--json']))\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["samples_written"] == counts["samples_seen"] > 0
    assert sum(int(Reader(file).lengths().sum()) for file in counts["file_names"]) == counts["samples_written"]
    assert signal.SIGINT and not list(tmp_path.glob("*.part"))
