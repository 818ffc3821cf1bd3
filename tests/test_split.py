"""Splitting sets: exact shares, nothing on both sides, the same seed the same files."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import Signal
from emind.storage.parquet import INT16, Reader, Writer
from emind_training.cli import main
from emind_training.quality import check
from emind_training.split import dealt, drawn_ratios, parsed_ratios, ratios_of, split
from emind_training.synthesis import build
from emind_training.synthesis.recipe import linked
from emind_training.synthesis.sets import SETS


def made(folder, name, items, seed=1):
    return build.build_set(dataclasses.replace(SETS[name], small=items), folder, "small", seed)


def rows_of(path):
    with Reader(path) as reader:
        return list(reader)


def content(rows):
    return Counter((row.iq.tobytes(), tuple(row.labels().values())) for row in rows)


def test_every_row_comes_into_exactly_one_part(tmp_path):
    paths = [*made(tmp_path / "in", "EM-Radar-Mix", 132), *made(tmp_path / "in", "EM-Radar", 160)]
    parts = split(paths, tmp_path / "out", (8, 1, 1), seed=3)
    assert set(parts) == {"EM-Radar-Mix", "EM-Radar"}
    for source in paths:
        out = [row for path, _, _ in parts[source.stem].values() for row in rows_of(path)]
        assert content(out) == content(rows_of(source))


def test_rows_that_belong_together_stay_together(tmp_path):
    for name, items in (("EM-Radar-Mix", 132), ("EM-Denoise-Signal", 100), ("AWGN-7", 44)):
        [parts] = split(made(tmp_path / "in", name, items), tmp_path / "out", (7, 2, 1), seed=4).values()
        sides = [{linked(row.transmission_id)[0] for row in rows_of(path)} for path, _, _ in parts.values()]
        assert sum(map(len, sides)) == len(set().union(*sides)) == items and min(map(len, sides)) > 0


def test_shares_are_exact_over_the_set_and_even_over_classes_and_snr(tmp_path):
    [parts] = split(made(tmp_path / "in", "EM-Radar", 1600), tmp_path / "out", (9, 1), seed=0).values()
    assert [(groups, rows) for _, groups, rows in parts.values()] == [(1440, 1440), (160, 160)]
    per_class = Counter((row.device_id, row.snr) for row in rows_of(parts["validation"][0]))
    assert len(per_class) == 160 and set(per_class.values()) == {1}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_draw(tmp_path):
    paths = [*made(tmp_path / "in", "RadChar-regen", 205), *made(tmp_path / "in", "EM-Radar", 160)]
    names = []
    for folder, seed, order in (("a", 1, paths), ("b", 1, paths), ("c", 2, paths), ("d", 1, paths[::-1])):
        parts = split(order, tmp_path / folder, (9, 1), seed)
        names.append({name: [path.read_bytes() for path, _, _ in one.values()] for name, one in parts.items()})
    assert names[0] == names[1] == names[3] and names[0] != names[2]


def test_a_transmission_has_its_part_whatever_the_order_of_files_and_rows():
    strata = {("s", str(k)): (str(k % 3),) for k in range(100)}
    turned = dict(reversed(strata.items()))
    assert dealt(strata, (9, 1), 5) == dealt(turned, (9, 1), 5)


def test_parts_of_one_set_in_several_files_are_split_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FILE_SAMPLES", 64 * 1024)
    paths = build.build_set(dataclasses.replace(SETS["EM-Radar"], small=160, block=32), tmp_path / "in", "small", 1)
    assert len(paths) > 1
    [parts] = split(paths, tmp_path / "out", (9, 1)).values()
    assert [rows for _, _, rows in parts.values()] == [144, 16]


def test_the_parts_pass_the_check_together_and_a_moved_row_is_a_leak(tmp_path):
    [parts] = split(made(tmp_path / "in", "EM-Radar-Mix", 132), tmp_path / "out", None, seed=2).values()
    paths = [path for path, _, _ in parts.values()]
    assert check(paths).faults == []
    with Reader(paths[0]) as reader, Reader(paths[1]) as other:
        origin, rows = other.metadata["origin"], [*other, reader[1]]
    with Writer(paths[1], origin=origin) as writer:
        writer.write_many(rows)
    found = {(fault.file, fault.row, fault.kind) for fault in check(paths).faults}
    assert {(str(paths[1]), len(rows) - 1, kind) for kind in ("leak", "duplicate")} <= found


def test_the_ratios_of_the_paper():
    assert ratios_of("EM-Comm", None) == ratios_of("EM-Infer-Radar-v2", None) == (9, 1)
    assert ratios_of("EM-Radar-Mix", None) == (9, 1, 1)  # 100,800 : 11,200 : 11,200
    given = Counter(dealt({("m", str(k)): (k % 44,) for k in range(1232)}, ratios_of("EM-Radar-Mix", None), 0).values())
    assert given == {0: 1008, 1: 112, 2: 112}
    assert ratios_of("RadChar-regen", None) == ratios_of("AWGN-7", None) == (70, 15, 15)
    for name in ("RML2016.10A", "RML2016.10A-regen", "RML2016.10B", "RML2016.04C", "RML2018.01A"):
        train, validation, test = ratios_of(name, None)
        assert (train + validation) / test == 4 and train == 9 * validation
    for name, share in {"ADS-B": 1 / 9, "EM-Infer-Comm": 1 / 9, "EM-Infer-Radar": 1 / 9, "EM-AIS": 1}.items():
        train, validation, test = ratios_of(name, None)
        assert (train + validation) / test == share and train == 9 * validation
    assert drawn_ratios("EM-AIS") == drawn_ratios("EM-Infer-Comm") == (9, 1, 1)
    assert drawn_ratios("RadChar-regen") == (70, 15, 15) and drawn_ratios("EM-Comm") == (9, 1)
    assert ratios_of("EM-Comm", (4, 1)) == (4, 1)
    assert parsed_ratios("paper") is None and parsed_ratios("70:15:15") == (70, 15, 15)


@pytest.mark.parametrize("text", ["9", "9:0", "a:b", "1:1:1:1", "9:-1", "0.9:0.1", ""])
def test_other_ratios_are_refused(text):
    with pytest.raises(UsageError, match="--ratios"):
        parsed_ratios(text)


def signals(path, count, **labels):
    rng = np.random.default_rng(0)
    with Writer(path, origin="test", iq_format=INT16) as writer:
        for _ in range(count):
            values = rng.integers(-99, 100, 64).astype(np.float32) / 32768
            writer.write(Signal(values.view(np.complex64), **labels))
    return path


def test_rows_without_transmission_are_groups_of_their_own_and_whole_numbers_stay_so(tmp_path):
    [parts] = split([signals(tmp_path / "a.parquet", 50)], tmp_path / "out").values()
    assert [rows for _, _, rows in parts.values()] == [45, 5]
    with Reader(parts["train"][0]) as reader:
        assert reader.metadata["iq_format"] == INT16


def test_what_cannot_be_split_is_said_before_anything_is_written(tmp_path):
    one = signals(tmp_path / "a.parquet", 30, dataset_name="one", transmission_id="7")
    with pytest.raises(EMindError, match="one: 1 groups of signals are too few for 9:1: validation would be empty"):
        split([one], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    many = signals(tmp_path / "b.parquet", 30, dataset_name="b")
    split([many], tmp_path / "out")
    with pytest.raises(EMindError, match="exists already"):
        split([many], tmp_path / "out")
    split([many], tmp_path / "out", overwrite=True)


def test_a_set_name_cannot_leave_the_folder(tmp_path):
    path = signals(tmp_path / "a.parquet", 30, dataset_name="../../evil")
    [parts] = split([path], tmp_path / "out").values()
    assert {path.parent for path, _, _ in parts.values()} == {tmp_path / "out"}


def test_the_command_prints_what_it_made(tmp_path, capsys):
    [path] = made(tmp_path / "in", "EM-Radar", 320)
    assert main(["dataset", "split", str(path), "--out", str(tmp_path / "out"), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)["EM-Radar"]
    assert {part: one["rows"] for part, one in out.items()} == {"train": 288, "validation": 32}
    assert main(["dataset", "split", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["dataset", "split", str(path), "--out", str(tmp_path / "x"), "--ratios", "nine"]) == 2


def test_a_class_that_a_part_lacks_is_said(tmp_path, capsys):
    with Writer(tmp_path / "mine.parquet", origin="a test") as writer:
        for name, recordings in (("BPSK", 30), ("QPSK", 1)):
            for number in range(recordings):
                for _ in range(3):
                    writer.write(Signal(np.ones(64, np.complex64), "mine", 1e6, modulation=name,
                                        transmission_id=f"{name}-{number}"))
    assert main(["dataset", "split", str(tmp_path / "mine.parquet"), "--out", str(tmp_path), "--ratios", "8:1:1"]) == 0
    out, err = capsys.readouterr()
    [part] = {row.transmission_id: part for part in ("train", "validation", "test")
              for row in rows_of(tmp_path / f"mine-{part}.parquet") if row.modulation == "QPSK"}.values()
    others = [other for other in ("train", "validation", "test") if other != part]
    assert [line for line in err.splitlines() if "no " in line] == [
        f"emind-train: mine: no modulation QPSK in {other}: record more of it, or give other ratios" for other in others]
    assert "BPSK" not in err and out.count("rows of") == 3


def test_parts_that_have_every_class_are_made_without_a_remark(tmp_path):
    remarks = []
    split(made(tmp_path / "in", "EM-Radar", 640), tmp_path / "out", (8, 1, 1), seed=4, remark=remarks.append)
    assert remarks == []
