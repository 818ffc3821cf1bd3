"""The public sets' original layouts, on small files that the tests write exactly so, and files that are not so."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from emind.contract.errors import EMindError, UsageError
from emind.storage.parquet import Reader
from emind_training.cli import main
from emind_training.sources.registry import SOURCES, chosen, signals
from source_files import MAKERS, complex_noise, python2_pickle

h5py = pytest.importorskip("h5py")


def read(name: str, *files: Path, length: int | None = None) -> list:
    return list(signals(chosen(name), files, length))


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_set_reads_its_layout_sample_by_sample(name, tmp_path):
    made = MAKERS[name](tmp_path)
    rows = read(name, made.path)
    assert len(rows) == len(made.iq) > 1
    for row, samples in zip(rows, made.iq):
        assert row.iq.dtype == np.complex64
        np.testing.assert_array_equal(row.iq, np.asarray(samples, np.complex64))
        assert row.dataset_name == name
        assert row.sampling_rate == made.rate
    for column, values in made.labels.items():
        assert [getattr(row, column) for row in rows] == values


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_set_goes_into_parquet_by_the_command(name, tmp_path, capsys):
    made = MAKERS[name](tmp_path)
    out = tmp_path / "out" / "set.parquet"
    assert main(["dataset", "import", name.lower(), str(made.path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == len(made.iq)
    with Reader(out) as reader:
        assert "original files" in reader.metadata["origin"]
        for row, samples in zip(reader, made.iq):
            np.testing.assert_array_equal(row.iq, np.asarray(samples, np.complex64))
        for column, values in made.labels.items():
            assert list(reader.columns([column])[column]) == values


@pytest.mark.parametrize("name", list(SOURCES))
def test_a_truncated_file_is_named_and_nothing_is_written(name, tmp_path, capsys):
    made = MAKERS[name](tmp_path)
    data = made.data.read_bytes()
    made.data.write_bytes(data[: len(data) * 3 // 5 + 1])
    out = tmp_path / "set.parquet"
    assert main(["dataset", "import", name, str(made.path), "--out", str(out)]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in said if line.startswith("emind-train: error:")]) == 1
    assert str(tmp_path) in said[-1] or made.data.name in " ".join(said)
    assert not list(tmp_path.glob("*.parquet*"))


@pytest.mark.parametrize("content", [b"", b"not a data set at all\n" * 40, os.urandom(4096)])
@pytest.mark.parametrize("name", list(SOURCES))
def test_a_foreign_file_is_named(name, content, tmp_path):
    made = MAKERS[name](tmp_path)
    made.data.write_bytes(content)
    with pytest.raises(EMindError) as fault:
        read(name, made.path)
    assert any(part.name in str(fault.value) for part in tmp_path.rglob("*")), fault.value


@pytest.mark.parametrize("name", list(SOURCES))
@pytest.mark.parametrize("other", list(SOURCES))
def test_a_file_of_one_set_is_no_file_of_another(name, other, tmp_path):
    rml = {"RML2016.10A", "RML2016.10B", "RML2016.04C"}
    if name == other or {name, other} <= rml:  # the classes overlap; see below
        return
    made = MAKERS[other](tmp_path)
    with pytest.raises(EMindError, match=made.path.name.split(".")[0]):
        read(name, made.path)


def test_a_class_that_the_set_does_not_have_is_refused(tmp_path):
    path = tmp_path / "RML2016.10b.dat"
    path.write_bytes(python2_pickle({("AM-SSB", 0): np.zeros((1, 2, 128), np.float32)}))
    assert len(read("RML2016.10A", path)) == 1
    with pytest.raises(EMindError, match="no class 'AM-SSB'"):
        read("RML2016.10B", path)


def test_windows_of_a_recording_have_the_length_asked_for_and_its_name_in_common(tmp_path):
    made = MAKERS["POWDER"](tmp_path)
    rows = read("POWDER", made.path, length=100)
    np.testing.assert_array_equal(np.concatenate([row.iq for row in rows]),
                                  np.concatenate(made.iq)[: 100 * len(rows)])
    assert {row.transmission_id for row in rows} == {made.path.stem}


def test_a_recording_shorter_than_its_metadata_say_is_refused(tmp_path):
    for name in ("POWDER", "Northeastern RF", "LoRa RF"):
        folder = tmp_path / name
        folder.mkdir()
        made = MAKERS[name](folder)
        data = made.data.read_bytes()
        made.data.write_bytes(data[: len(data) // 2 // 16 * 16])  # still whole samples
        with pytest.raises(EMindError, match="cut short"):
            read(name, made.path)


def test_raw_and_equalised_copy_of_a_packet_share_their_transmission(tmp_path):
    rows = read("WiSig", MAKERS["WiSig"](tmp_path).path)
    assert len({row.transmission_id for row in rows}) == len(rows) // 2


def test_npy_files_are_never_unpickled(tmp_path):
    made = MAKERS["Panoradio HF"](tmp_path)
    np.save(made.path, np.array([{}, Bomb(tmp_path)], object), allow_pickle=True)
    with pytest.raises(EMindError, match="not a readable .npy file"):
        read("Panoradio HF", made.path)
    assert not (tmp_path / "ran").exists()


class Bomb:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.system, (f"touch '{self.folder / 'ran'}'",)


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path):
    made = MAKERS["RadChar"](tmp_path)
    path = tmp_path / "linked.h5"
    with h5py.File(path, "w") as file:
        file["iq"] = h5py.ExternalLink(str(made.path), "/iq")
        file["labels"] = h5py.SoftLink("/iq")
    with pytest.raises(EMindError, match="no dataset 'iq'"):
        read("RadChar", path)


def test_mono_receiver_reads_matlab_5_and_7_3_alike(tmp_path):
    made = MAKERS["Mono Receiver"](tmp_path)
    from scipy.io import loadmat

    held = {k: v for k, v in loadmat(made.path).items() if not k.startswith("_")}
    new = tmp_path / "adsb_bladerf2_10M_qt0.mat"
    with h5py.File(new, "w", userblock_size=512) as file:
        for key, value in held.items():
            file[key] = value.T
    rows = read("Mono Receiver", new)
    assert [row.sampling_rate for row in rows] == [10e6] * len(made.iq)
    for row, samples in zip(rows, made.iq):
        np.testing.assert_array_equal(row.iq, np.asarray(samples, np.complex64))


def test_hdf5_is_read_in_parts(tmp_path, monkeypatch):
    from emind_training.sources import radchar, rml2018

    monkeypatch.setattr(radchar, "BLOCK", 2)
    monkeypatch.setattr(rml2018, "BLOCK", 2)
    for name in ("RadChar", "RML2018.01A"):
        made = MAKERS[name](tmp_path)
        np.testing.assert_array_equal([row.iq for row in read(name, made.path)],
                                      np.asarray(made.iq, np.complex64))


def test_values_that_no_label_can_have_are_refused_with_the_file(tmp_path):
    huge, path = 10**400, tmp_path / "RML2016.10a_dict.pkl"
    path.write_bytes(pickle.dumps({("BPSK", huge): np.zeros((1, 2, 128), np.float32)}, protocol=3))
    with pytest.raises(EMindError, match="RML2016.10a_dict.pkl"):
        read("RML2016.10A", path)
    path.write_bytes(pickle.dumps({("BPSK", 0): np.zeros((0, 2, 128), np.float32)}, protocol=3))
    with pytest.raises(EMindError, match="no signals"):
        read("RML2016.10A", path)
    made = MAKERS["HisarMod2019.1"](tmp_path)
    for name, text in (("labels", "nan"), ("labels", "inf"), ("labels", "99"), ("snr", "nan"), ("snr", "loud")):
        MAKERS["HisarMod2019.1"](tmp_path)
        side = tmp_path / f"train_{name}.csv"
        side.write_text(side.read_text().replace("0\n", text + "\n", 1))
        with pytest.raises(EMindError, match="train_"):
            read("HisarMod2019.1", made.path)
    made = MAKERS["ADS-B"](tmp_path)
    np.save(tmp_path / "Y_train_10Class.npy", np.array([0.0, np.nan, 1.0]))
    with pytest.raises(EMindError, match="X_train_10Class.npy"):
        read("ADS-B", made.path)


def test_wrong_arguments_are_usage_errors(tmp_path):
    made = MAKERS["RadChar"](tmp_path)
    with pytest.raises(UsageError, match="known: RML2016.10A"):
        chosen("RML2099")
    with pytest.raises(UsageError, match="length of their own"):
        read("RadChar", made.path, length=10)
    with pytest.raises(EMindError, match="no such file"):
        read("RadChar", tmp_path / "none.h5")
    with pytest.raises(EMindError, match="folder"):
        read("RadChar", tmp_path)
    out = tmp_path / "there.parquet"
    out.write_bytes(b"mine")
    assert main(["dataset", "import", "RadChar", str(made.path), "--out", str(out)]) == 2
    assert out.read_bytes() == b"mine"


def test_every_set_stands_in_the_documentation_with_what_is_certain():
    page = (Path(__file__).resolve().parents[1] / "docs" / "sources.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    for source in SOURCES.values():
        assert source.name in rows
        assert ("not certain" in rows[source.name]) is not source.certain


def test_complex_noise_is_not_symmetric():
    """The layouts are told apart by I and Q, so the samples of these tests must not survive a swap."""
    x = complex_noise(3, 8)
    assert not np.array_equal(x, x.imag + 1j * x.real)
