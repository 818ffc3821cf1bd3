"""The store: bit-exact for us and for any Parquet reader, whatever becomes of the writer."""

import errno
import hashlib
import multiprocessing
import os
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import COLUMNS, LABELS, Signal
from emind.storage import parquet
from emind.storage.iq_page import ALIGNMENT
from emind.storage.parquet import Reader, Writer, recover
from emind.storage.thrift import ThriftReader, encode

FULL = dict(dataset_name="set", sampling_rate=1e6, device_id="d", transmission_id="t", infer_class="tone", snr=-3.5,
            isr=30.0, modulation="QPSK", radar_waveform="LFM", pri=2e-5, pulse_time_delay=1e-6, num_pulses=4,
            pulse_width=1e-5, band_width=2e5, amplitude=0.5, radar_segmentation="search")


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(2 * count).astype(np.float32).view(np.complex64)


def mixed(rows: int = 300, seed: int = 1) -> list[Signal]:
    """Rows of many lengths, odd ones and single samples among them, with and without labels."""
    generator = np.random.default_rng(seed)
    return [Signal(noise(int(length), number), **(FULL if number % 3 else {}) | {"snr": float(number)})
            for number, length in enumerate(generator.integers(1, 60, rows))]


def assert_same(one: Signal, other: Signal) -> None:
    np.testing.assert_array_equal(one.iq.view(np.uint32), other.iq.view(np.uint32))
    assert one.labels() == other.labels()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "set.parquet"
    signals = mixed()
    with Writer(path, origin="test", seed=5, row_group_bytes=8000) as writer:
        writer.write_many(signals)
    return path, signals


def test_rows_come_back_bit_exact_in_any_order(written):
    path, signals = written
    reader = Reader(path)
    assert reader.count == len(reader) == len(signals) and reader.row_groups > 5
    for one, other in zip(signals, reader, strict=True):
        assert_same(one, other)
    for row in (0, 299, 17, -1, 150):
        assert_same(signals[row], reader[row])
    with pytest.raises(IndexError):
        reader[300]
    reader.verify()


def test_any_parquet_reader_finds_lists_of_i_and_q(written):
    path, signals = written
    table = pq.read_table(path, page_checksum_verification=True)
    assert table.column_names == list(COLUMNS)
    for one, row in zip(signals, table.column("iq").to_pylist(), strict=True):
        np.testing.assert_array_equal(np.array(row, np.float32), one.iq.view(np.float32).reshape(-1, 2))
    for name in LABELS:
        assert table.column(name).to_pylist() == [getattr(s, name) for s in signals], name


def test_labels_are_dictionary_encoded_and_compressed_and_samples_can_be_used_in_place(written):
    path, _ = written
    about = pq.read_metadata(path)
    for group in range(about.num_row_groups):
        columns = {c.path_in_schema.split(".")[0]: c for c in map(about.row_group(group).column, range(17))}
        assert columns["iq"].compression == "UNCOMPRESSED"
        for name in LABELS:
            assert columns[name].compression == "ZSTD", name
        assert "RLE_DICTIONARY" in columns["modulation"].encodings
    reader = Reader(path)
    for group in range(reader.row_groups):
        iq = reader.block(group).iq
        assert not iq.flags.owndata and not iq.flags.writeable and iq.flags.aligned
        assert iq.__array_interface__["data"][0] % ALIGNMENT == 0


def test_columns_are_read_and_filtered_without_samples(written, monkeypatch):
    path, signals = written
    reader = Reader(path)
    monkeypatch.setattr(Reader, "block", lambda *a: pytest.fail("samples were read"))
    columns = reader.columns(["modulation", "snr", "num_pulses"])
    assert columns["modulation"].tolist() == [s.modulation for s in signals]
    assert np.array_equal(columns["snr"], [s.snr for s in signals])
    assert np.array_equal(columns["num_pulses"], [s.num_pulses or np.nan for s in signals], equal_nan=True)
    assert np.array_equal(reader.lengths(), [len(s.iq) for s in signals])
    wanted = [i for i, s in enumerate(signals) if s.modulation in ("QPSK", "MSK") and s.snr >= 200]
    assert reader.where(modulation={"QPSK", "MSK"}, snr=lambda db: db >= 200).tolist() == wanted
    assert reader.where(modulation=None).tolist() == [i for i, s in enumerate(signals) if s.modulation is None]
    assert reader.where(num_pulses=4, snr=[1.0, 2.0, 3.0]).tolist() == [1, 2]
    assert reader.table(["snr"], modulation="QPSK").num_rows == 200
    with pytest.raises(UsageError, match="colour"):
        reader.columns(["colour"])


def test_metadata_says_version_origin_seed_and_time(tmp_path):
    with Writer(tmp_path / "a.parquet", origin="a generator", seed=5, recorded="2026-01-02T03:04:05Z") as writer:
        writer.write(Signal(noise(4)))
    metadata = Reader(tmp_path / "a.parquet").metadata
    assert metadata["schema_version"] == "1" and metadata["origin"] == "a generator"
    assert metadata["seed"] == "5" and metadata["recorded"] == "2026-01-02T03:04:05Z"


def test_the_same_rows_give_the_same_bytes_however_they_are_handed_over(tmp_path):
    signals = [Signal(noise(100, n), modulation="QPSK", snr=float(n)) for n in range(50)]
    hashes = set()
    for name in ("a", "b"):
        with Writer(tmp_path / name, origin="t", seed=1, row_group_bytes=8000) as writer:
            if name == "a":
                writer.write_many(signals)
            else:
                writer.write_block(np.stack([s.iq for s in signals]), modulation="QPSK", snr=[s.snr for s in signals])
        hashes.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_a_row_longer_than_a_row_group_is_one(tmp_path):
    with Writer(tmp_path / "a.parquet", origin="t", row_group_bytes=80) as writer:
        writer.write_many([Signal(noise(3)), Signal(noise(5001, 1)), Signal(noise(7, 2))])
    reader = Reader(tmp_path / "a.parquet")
    assert reader.lengths().tolist() == [3, 5001, 7]
    np.testing.assert_array_equal(reader.iq(1), noise(5001, 1))


def test_not_a_number_and_infinity_are_kept(tmp_path):
    iq = np.array([np.nan + 1j, np.inf - 1j, -0.0 + 0j], np.complex64)
    with Writer(tmp_path / "a.parquet", origin="t") as writer:
        writer.write(Signal(iq))
    np.testing.assert_array_equal(Reader(tmp_path / "a.parquet").iq(0).view(np.uint32), iq.view(np.uint32))


@pytest.mark.parametrize("bits, scale", [(16, 1 / 32768), (12, 1 / 2048), (16, 1 / 32767), (8, 1 / 128)])
def test_int16_loses_nothing_that_the_converter_saw(tmp_path, bits, scale):
    steps = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 200_000)
    iq = (steps.astype(np.float32) * np.float32(scale)).view(np.complex64)
    with Writer(tmp_path / "a.parquet", origin="t", iq_format="int16", scale=scale, row_group_bytes=400_000) as writer:
        writer.write_block(iq.reshape(-1, 100))
    reader = Reader(tmp_path / "a.parquet")
    np.testing.assert_array_equal(np.concatenate([s.iq for s in reader]), iq)
    assert (tmp_path / "a.parquet").stat().st_size < 0.8 * iq.nbytes
    raw = np.array(pq.read_table(tmp_path / "a.parquet").column("iq").to_pylist()).ravel()
    np.testing.assert_array_equal(raw, steps)
    reader.verify()


def test_int16_refuses_what_it_would_round(tmp_path):
    for iq in (noise(100), np.full(100, 1.5, np.complex64)):
        with pytest.raises(EMindError, match="a.parquet.*steps"), \
                Writer(tmp_path / "a.parquet", origin="t", iq_format="int16") as writer:
            writer.write(Signal(iq))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("row", [
    Signal(np.zeros(0, np.complex64)), Signal(noise(4).reshape(2, 2)), Signal(noise(4), snr="loud"),
    Signal(noise(4), num_pulses=1.5),
])
def test_a_row_that_cannot_be_is_refused_and_leaves_no_file(tmp_path, row):
    with pytest.raises(EMindError), Writer(tmp_path / "a.parquet", origin="t") as writer:
        writer.write(row)
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_its_name_only_when_it_is_finished(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"older")
    with Writer(path, origin="t") as writer:
        writer.write(Signal(noise(4)))
        assert path.read_bytes() == b"older"
        with pytest.raises(EMindError, match="another process"):
            Writer(path, origin="t")
    assert Reader(path).count == 1 and list(tmp_path.iterdir()) == [path]


# --- Files that are not what they should be ---


@pytest.mark.parametrize("content, fault", [
    (b"", "is empty"), (b"PAR1", "cut off"), (b"hello, this is a text", "not Parquet"),
    (b"PAR1" + bytes(100) + (50).to_bytes(4, "little") + b"PAR1", "not readable"),
])
def test_a_foreign_file_is_named_with_its_fault(tmp_path, content, fault):
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(EMindError, match=f"x.parquet.*{fault}"):
        Reader(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(EMindError, match="none.parquet.*no such file"):
        Reader(tmp_path / "none.parquet")
    with pytest.raises(EMindError, match="folder"):
        Reader(tmp_path)
    with pytest.raises(EMindError, match="cannot be written"):
        Writer(tmp_path / "no" / "a.parquet", origin="t")


def test_a_file_cut_off_anywhere_is_named_with_its_fault(written, tmp_path):
    path, _ = written
    content = path.read_bytes()
    cut = tmp_path / "cut.parquet"
    for size in np.random.default_rng(1).integers(1, len(content), 60).tolist():
        cut.write_bytes(content[:size])
        with pytest.raises(EMindError, match="cut.parquet"):
            Reader(cut)


def test_damage_is_an_error_of_ours_wherever_it_is(written, tmp_path):
    """Bytes anywhere in the file are changed: everything reads as before, or EMindError says what is wrong."""
    path, signals = written
    content = path.read_bytes()
    bad = tmp_path / "bad.parquet"
    generator = np.random.default_rng(2)
    refused = 0
    for place in generator.integers(0, len(content), 150).tolist():
        damaged = bytearray(content)
        damaged[place] ^= int(generator.integers(1, 256))
        bad.write_bytes(damaged)
        try:
            reader = Reader(bad)
            reader.verify()
            reader.columns()
        except EMindError as fault:
            assert "bad.parquet" in str(fault)
            refused += 1
    assert refused > 50


def test_parquet_without_our_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(EMindError, match="a.parquet.*'iq'"):
        Reader(tmp_path / "a.parquet")


def test_a_newer_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SCHEMA_VERSION", 99)
    with Writer(tmp_path / "a.parquet", origin="t") as writer:
        writer.write(Signal(noise(4)))
    with pytest.raises(EMindError, match="version 99"):
        Reader(tmp_path / "a.parquet")


@pytest.mark.parametrize("flat", [False, True])
def test_a_file_of_another_program_with_the_same_columns_is_read(tmp_path, flat):
    signals = mixed(40)
    pairs = [s.iq.view(np.float32) if flat else s.iq.view(np.float32).reshape(-1, 2).tolist() for s in signals]
    table = pa.table({name: pairs if name == "iq" else [getattr(s, name) for s in signals] for name in COLUMNS})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    for one, other in zip(signals, Reader(tmp_path / "a.parquet"), strict=True):
        assert_same(one, other)


# --- Writers that do not come to their end ---


def test_an_unfinished_file_reads_up_to_its_last_row_group_and_can_be_finished(tmp_path):
    signals = mixed(100)
    writer = Writer(tmp_path / "a.parquet", origin="t", row_group_bytes=2000)
    writer.write_many(signals)
    whole = writer.count
    writer.leave()
    part = tmp_path / "a.parquet.part"
    assert 0 < whole < 100
    reader = Reader(part)
    assert not reader.finished and reader.count == whole
    for one, other in zip(signals, reader):
        assert_same(one, other)
    assert recover(part) == tmp_path / "a.parquet" and not part.exists()
    for one, other in zip(signals[:whole], Reader(tmp_path / "a.parquet"), strict=True):
        assert_same(one, other)
    assert pq.read_table(tmp_path / "a.parquet").num_rows == whole


def test_recovery_keeps_what_lies_before_a_damaged_row_group(tmp_path):
    writer = Writer(tmp_path / "a.parquet", origin="t", row_group_bytes=800)
    ends = []
    for number in range(5):
        writer.write(Signal(noise(100, number)))
        writer.flush()
        ends.append(writer.size)
    writer.leave()
    part = tmp_path / "a.parquet.part"
    with part.open("r+b") as file:  # as after a power failure: lengths on the disk, the data not
        file.seek(ends[2] + 700)
        file.write(bytes(64))
    assert Reader(recover(part)).count == 3


def test_recovery_refuses_a_file_that_is_being_written_and_takes_no_name(tmp_path):
    writer = Writer(tmp_path / "a.parquet", origin="t")
    writer.write(Signal(noise(4)))
    writer.flush()
    with pytest.raises(EMindError, match="still writing"):
        recover(tmp_path / "a.parquet.part")
    writer.leave()
    (tmp_path / "a.parquet").write_bytes(b"other")
    with pytest.raises(EMindError, match="exists already"):
        recover(tmp_path / "a.parquet.part")
    assert (tmp_path / "a.parquet").read_bytes() == b"other"


def write_until_killed(path, told) -> None:
    writer = Writer(path, origin="t", row_group_bytes=40_000)
    number = 0
    while True:
        for _ in range(30):
            writer.write(Signal(noise(1 + number % 300, number), num_pulses=number))
            number += 1
        told.value = writer.count


def test_killed_at_any_byte_every_finished_row_group_is_bit_exact(tmp_path):
    """The file of 50 writers that SIGKILL ends when it has reached a random size."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["emind.storage.parquet"])
    generator = np.random.default_rng(4)
    found = []
    for number in range(50):
        path, told = tmp_path / f"{number}.parquet", context.Value("q", 0, lock=False)  # SIGKILL would leave it locked
        process = context.Process(target=write_until_killed, args=(path, told))
        process.start()
        part, size = path.with_name(path.name + ".part"), int(generator.integers(1, 400_000))
        while not part.exists() or part.stat().st_size < size:
            os.sched_yield()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        try:
            rows = list(Reader(part))
        except EMindError:  # killed before the opening was written: nothing had been finished
            rows = []
        assert len(rows) >= told.value
        for row, one in enumerate(rows):
            assert_same(one, Signal(noise(1 + row % 300, row), num_pulses=row))
        found.append(len(rows))
    assert np.mean(np.array(found) > 0) > 0.5


class FullDisk:
    """A file on a disk that has room for ``room`` more bytes."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data) -> None:
        data = memoryview(data)
        self.file.write(data[: self.room])
        self.room -= min(self.room, len(data))
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def test_a_full_disk_leaves_all_finished_row_groups_and_room_for_the_footer(tmp_path):
    writer = Writer(tmp_path / "a.parquet", origin="t", row_group_bytes=800)
    disk = writer._file = FullDisk(writer._file, 50_000)
    number = 0
    with pytest.raises(OSError):
        while True:
            writer.write(Signal(noise(100, number)))
            number += 1
    disk.room = 1 << 20  # the room that was kept
    whole = writer.count
    writer.discard()
    writer.close()
    reader = Reader(tmp_path / "a.parquet")
    assert reader.count == whole > 5
    reader.verify()
    for row, one in enumerate(reader):
        np.testing.assert_array_equal(one.iq, noise(100, row))


# --- The protocol of the footer ---


def test_thrift_is_written_back_byte_for_byte(written):
    path, _ = written
    content = path.read_bytes()
    footer = content[-8 - int.from_bytes(content[-8:-4], "little"): -8]
    assert encode(ThriftReader(footer).struct()) == footer


def test_thrift_refuses_what_makes_no_sense():
    for data in (b"", b"\x15", b"\x19\xfc\xff\xff\xff\x7f", b"\x18\x7f", b"\x1d\x00", b"\x15" + b"\xff" * 12):
        with pytest.raises(ValueError):
            ThriftReader(data).struct()
