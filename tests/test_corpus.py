"""The corpus: which files and rows it holds, and what it says of folders and files that it cannot use."""

import os
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpora import signal_of, write_set
from emind.contract.errors import EMindError
from emind.storage.parquet import INT16
from emind_training.corpus import Corpus, GroupCache

LENGTHS = [128, 974, 8, 1, 600, 2048, 256, 300] * 6


def all_signals(corpus, source):
    groups = [corpus.load(group) for group in corpus.groups(source)]
    return [group.signal(index) for group in groups for index in range(len(group.lengths))]


def test_sets_and_parts_are_those_of_the_names(tmp_path):
    write_set(tmp_path, "EM-Comm", [100] * 3)
    write_set(tmp_path, "EM-Comm", [100] * 2, part="validation")
    write_set(tmp_path, "Air-2.0", [100] * 4)
    assert Corpus.open(tmp_path).names == ["Air-2.0", "EM-Comm"]
    validation = Corpus.open(tmp_path, "validation")
    assert (validation.names, len(validation), validation.signals("EM-Comm")) == (["EM-Comm"], 2, 2)
    assert Corpus.open(tmp_path, sets=["EM-Comm"]).names == ["EM-Comm"]


def test_a_set_in_several_files_is_one_set(tmp_path):
    for piece in range(3):
        write_set(tmp_path, f"Large-{piece:04d}-of-0003", LENGTHS, first_mark=100 * piece)
    corpus = Corpus.open(tmp_path)
    assert corpus.names == ["Large"] and len(corpus) == 3 * len(LENGTHS)
    expected = [signal_of(100 * piece + row, length) for piece in range(3) for row, length in enumerate(LENGTHS)]
    assert all(np.array_equal(a, b) for a, b in zip(all_signals(corpus, 0), expected, strict=True))
    assert len(corpus.groups(0)) > 6


def test_rows_at_or_below_the_snr_are_left_out_and_unknown_ones_stay(tmp_path):
    write_set(tmp_path, "a", [10, 20, 30, 40, 50], snr=[5.0, 6.0, 6.5, None, -20.0], group=64)
    assert [len(x) for x in all_signals(Corpus.open(tmp_path), 0)] == [30, 40]
    assert [len(x) for x in all_signals(Corpus.open(tmp_path, snr_above=None), 0)] == [10, 20, 30, 40, 50]
    assert [len(x) for x in all_signals(Corpus.open(tmp_path, snr_above=5.5), 0)] == [20, 30, 40]


def test_rows_can_be_chosen_by_length_and_rate(tmp_path):
    write_set(tmp_path, "a", [10, 20, 30, 40], rate=[1e3, 1e6, None, 1e9])
    assert [len(x) for x in all_signals(Corpus.open(tmp_path, length_min=20, length_max=30), 0)] == [20, 30]
    chosen = Corpus.open(tmp_path, rate_min_hz=1e4, rate_max_hz=1e7)
    assert [len(x) for x in all_signals(chosen, 0)] == [20, 30]
    rates = chosen.load(0).rates
    assert rates[0] == 1e6 and np.isnan(rates[1])


def test_samples_as_steps_of_a_converter_can_be_used(tmp_path):
    write_set(tmp_path, "float", LENGTHS)
    write_set(tmp_path, "whole", LENGTHS, iq_format=INT16)
    corpus = Corpus.open(tmp_path)
    for exact, stepped in zip(all_signals(corpus, 0), all_signals(corpus, 1), strict=True):
        assert np.abs(exact / 4 - stepped).max() < 1e-4


def test_the_index_does_not_grow_with_the_rows(tmp_path):
    write_set(tmp_path, "few", [16] * 16, group=1 << 20)
    few = len(pickle.dumps(Corpus.open(tmp_path)))
    write_set(tmp_path, "few", [16] * 8000, group=1 << 20)
    assert len(pickle.dumps(Corpus.open(tmp_path))) == few


def test_pages_of_the_files_are_given_back(tmp_path):
    """Resident pages of the mapping, from the system: all of it after reading, none after release."""
    path = write_set(tmp_path, "a", [65536] * 64, group=1 << 22)
    cache = GroupCache(Corpus.open(tmp_path), 4)
    total = sum(float(np.abs(cache[0].signal(index)).sum()) for index in range(64))
    assert total > 0

    def resident():
        kib = 0
        with open("/proc/self/smaps") as file:
            inside = False
            for line in file:
                if "-" in line.split(" ")[0]:
                    inside = line.rstrip().endswith(os.fspath(path))
                elif inside and line.startswith("Rss:"):
                    kib += int(line.split()[1])
        return kib

    assert resident() > 30_000
    cache.release()
    assert resident() < 1000


def test_a_signal_longer_than_a_row_is_named_with_its_file(tmp_path):
    write_set(tmp_path, "a", [100])
    write_set(tmp_path, "b", [100, 7000, 200])
    corpus = Corpus.open(tmp_path)
    corpus.require_capacity(7000)
    with pytest.raises(EMindError, match=r"b-train.parquet: has a signal of 7000 samples, and a row holds 6000"):
        corpus.require_capacity(6000)
    Corpus.open(tmp_path, length_max=6000).require_capacity(6000)


def test_a_folder_without_sets_is_said_in_one_line(tmp_path):
    with pytest.raises(EMindError, match="no such folder"):
        Corpus.open(tmp_path / "nowhere")
    with pytest.raises(EMindError, match="it holds no Parquet files"):
        Corpus.open(tmp_path)
    write_set(tmp_path, "a", [100], part="validation")
    with pytest.raises(EMindError, match="none of the part 'train'"):
        Corpus.open(tmp_path)
    with pytest.raises(EMindError, match="has no set 'b' in its part 'validation'; known: a"):
        Corpus.open(tmp_path, "validation", sets=["b"])


@pytest.mark.parametrize("damage", ["cut", "overwritten", "empty", "footer"])
def test_a_damaged_file_is_named_and_skipped_on_request_only(tmp_path, damage):
    write_set(tmp_path, "good", LENGTHS)
    path = write_set(tmp_path, "bad", LENGTHS)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "overwritten":
        data[: len(data) // 2] = bytes(len(data) // 2)
    elif damage == "footer":
        data[-200:-100] = os.urandom(100)
    else:
        data = b""
    path.write_bytes(data)
    with pytest.raises(EMindError, match="bad-train.parquet") as fault:
        Corpus.open(tmp_path)
    assert "\n" not in str(fault.value)
    corpus = Corpus.open(tmp_path, skip_damaged=True)
    assert corpus.names == ["good"] and len(corpus.skipped) == 1 and "bad-train.parquet" in corpus.skipped[0]


def test_nothing_but_damaged_files_is_no_corpus(tmp_path):
    (tmp_path / "a-train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(EMindError, match="all of its train files are damaged"):
        Corpus.open(tmp_path, skip_damaged=True)


def test_a_file_of_another_version_is_refused(tmp_path):
    path = write_set(tmp_path, "a", [100])
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"emind.schema_version": b"9"}), path)
    with pytest.raises(EMindError, match="a-train.parquet: has version 9 of the schema"):
        Corpus.open(tmp_path)


def test_a_set_without_a_row_left_is_named(tmp_path):
    write_set(tmp_path, "loud", [100], snr=20.0)
    write_set(tmp_path, "quiet", [100] * 3, snr=-5.0)
    with pytest.raises(EMindError, match=r"none of the 3 signals of quiet is left .*SNR above 6 dB"):
        Corpus.open(tmp_path)


def test_a_file_that_changed_after_opening_is_found(tmp_path):
    write_set(tmp_path, "a", [100] * 4)
    corpus = Corpus.open(tmp_path)
    write_set(tmp_path, "a", [100] * 3)
    with pytest.raises(EMindError, match="has changed since the corpus was opened"):
        corpus.load(0)
    assert Corpus.open(tmp_path).digest() != corpus.digest()
