"""Building sets: the same files whoever draws them, restart, faults, and the command."""

import dataclasses
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from emind.contract.errors import EMindError
from emind.storage.parquet import Reader
from emind_training import dataset_page
from emind_training.cli import main
from emind_training.dataset import contents
from emind_training.synthesis import build
from emind_training.synthesis.recipe import cell, linked
from emind_training.synthesis.sets import SETS

ROOT = Path(__file__).resolve().parents[1]


def few(name, items, block=8):
    return dataclasses.replace(SETS[name], small=items, block=block)


def hashes(paths):
    return [build.file_hash(path) for path in paths]


def test_one_and_two_processes_write_the_same_bytes(tmp_path):
    for name in ("RadChar-regen", "EM-Radar-Mix"):
        recipe = few(name, 50)
        alone = build.build_set(recipe, tmp_path / "1", "small", 3)
        with build.drawing(2) as pool:
            both = build.build_set(recipe, tmp_path / "2", "small", 3, pool, 2)
        assert hashes(alone) == hashes(both)
        assert hashes(alone) != hashes(build.build_set(recipe, tmp_path / "other", "small", 4))


def test_a_file_holds_the_rows_in_the_order_of_the_items(tmp_path):
    [path] = build.build_set(few("EM-Comm", 20), tmp_path, "small", 1)
    with Reader(path) as reader:
        assert reader.count == 20 and reader.metadata["seed"] == "1"
        for item in (0, 7, 19):
            [row] = SETS["EM-Comm"].rows(1, item)
            np.testing.assert_array_equal(reader.iq(item), row.iq)
            assert reader[item].modulation == row.modulation and reader[item].snr == row.snr


def test_an_interrupted_set_goes_on_with_the_first_missing_file(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FILE_SAMPLES", 8 * 512)  # a block a file
    recipe = few("RadChar-regen", 40)
    whole = hashes(build.build_set(recipe, tmp_path / "whole", "small", 5))
    assert len(whole) == 5
    done = []

    def interrupt(items):
        done.append(items)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build.build_set(recipe, tmp_path / "cut", "small", 5, progress=interrupt)
    left = sorted((tmp_path / "cut").glob("*.parquet"))
    assert len(left) == 2
    before = [path.stat().st_mtime_ns for path in left]
    assert hashes(build.build_set(recipe, tmp_path / "cut", "small", 5)) == whole
    assert [path.stat().st_mtime_ns for path in left] == before
    assert not [path for path in (tmp_path / "cut").iterdir() if path.suffix != ".parquet"]


def test_another_file_of_the_name_is_refused_unless_it_may_be_overwritten(tmp_path):
    recipe = few("RadChar-regen", 10)
    [path] = build.build_set(recipe, tmp_path, "small", 0)
    with pytest.raises(EMindError, match="RadChar-regen.parquet: is another file"):
        build.build_set(recipe, tmp_path, "small", 1)
    with Reader(path) as reader:
        assert reader.metadata["seed"] == "0"
    build.build_set(recipe, tmp_path, "small", 1, overwrite=True)
    with Reader(path) as reader:
        assert reader.metadata["seed"] == "1"


def test_a_file_of_another_version_of_a_recipe_is_not_taken_for_done(tmp_path):
    today = few("Air", 8)
    [path] = build.build_set(dataclasses.replace(today, version=1), tmp_path, "small", 0)
    with Reader(path) as reader:
        assert reader.metadata["origin"] == "emind-train dataset build, recipes 1: Air, items 0 to 7 of 8"
    assert today.version > 1
    with pytest.raises(EMindError, match=r"Air.parquet: is another file \(made by '.* recipes 1: Air"):
        build.build_set(today, tmp_path, "small", 0)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EMindError, match="file"):
        build.build_set(few("RadChar-regen", 4), tmp_path / "file", "small", 0)


def test_progress_counts_every_item_once(tmp_path):
    seen = []
    build.build_set(few("EM-Radar", 27), tmp_path, "small", 0, progress=seen.append)
    assert sum(seen) == 27
    again = []
    build.build_set(few("EM-Radar", 27), tmp_path, "small", 0, progress=again.append)
    assert sum(again) == 27


def test_a_cell_runs_through_its_first_axis_fastest():
    assert [cell(k, "ab", (1, 2, 3)) for k in range(7)] == [
        ["a", 1], ["b", 1], ["a", 2], ["b", 2], ["a", 3], ["b", 3], ["a", 1]]
    assert linked("17:mix") == ("17", "mix") and linked("17") == ("17", "")


# ----------------------------------------------------------------------------------------------- the command


@pytest.fixture
def short_sets(monkeypatch):
    for name in ("EM-Radar-Mix", "RadChar-regen"):
        monkeypatch.setitem(SETS, name, few(name, 30))


def test_build_says_as_json_what_it_made_and_writes_the_page(short_sets, tmp_path, capsys):
    page = tmp_path / "sets.md"
    status = main(["dataset", "build", "EM-Radar-Mix", "RadChar-regen", "--out", str(tmp_path), "--processes", "1",
                   "--json", "--document", str(page)])
    made = json.loads(capsys.readouterr().out)
    assert status == 0 and set(made) == {"EM-Radar-Mix", "RadChar-regen"}
    assert made["RadChar-regen"]["rows"] == 30 and made["RadChar-regen"]["lengths"] == {"512": 30}
    assert made["RadChar-regen"]["ranges"]["snr"] == [-20.0, -15.0]
    for path, digest in made["EM-Radar-Mix"]["files"].items():
        assert build.file_hash(Path(path)) == digest
    text = page.read_text()
    assert "Written by `.venv/bin/emind-train dataset build EM-Radar-Mix RadChar-regen --size small" in " ".join(text.split())
    assert "| RadChar-regen | 30 | 512 | 3.2 MHz | 5 radar_waveform | -20 to -15 | IV |" in text


def test_a_page_that_cannot_be_written_is_told_before_anything_is_drawn(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for page, said in ((tmp_path, "is a folder"), (tmp_path / "file" / "sets.md", "nothing can be written")):
        assert main(["dataset", "build", "RadChar-regen", "--out", str(tmp_path / "out"), "--document", str(page)]) > 0
        told = capsys.readouterr().err
        assert said in told and len(told.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_build_prints_the_table_beside_the_papers(short_sets, tmp_path, capsys):
    assert main(["dataset", "build", "RadChar-regen", "--out", str(tmp_path), "--processes", "1"]) == 0
    out = capsys.readouterr().out
    assert "RadChar-regen" in out and "paper, Table IV" in out and "3.2 MHz" in out


def test_show_says_what_a_file_holds_and_without_one_what_can_be_built(tmp_path, capsys):
    [path] = build.build_set(few("EM-Radar-Mix", 44), tmp_path, "small", 0)
    assert main(["dataset", "show", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)[str(path)]
    assert shown["rows"] == 124 and shown["filled"]["snr"] == 44 and shown["sampling_rates_hz"] == {"5000000.0": 124}
    assert main(["dataset", "show", str(path)]) == 0
    assert "EM-Radar-Mix" in capsys.readouterr().out
    assert main(["dataset", "show", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(SETS)
    assert main(["dataset", "show"]) == 0
    assert "AWGN-7" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, status, says", [
    (["build", "EM-Com"], 2, "unknown set 'EM-Com'; known: EM-Comm"),
    (["build", "EM-Comm", "--processes", "0"], 2, "--processes 0"),
    (["show", "nowhere.parquet"], 1, "nowhere.parquet"),
])
def test_mistakes_are_one_line_and_a_status(arguments, status, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["dataset", *arguments]) == status
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error


def test_the_generator_bench_counts_what_it_drew(capsys):
    assert main(["bench", "generate", "--set", "RadChar-regen", "--items", "40", "--processes", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["signals"] == 40 and figures["signals_per_s"] > 0
    assert figures["samples_per_s"] == pytest.approx(512 * figures["signals_per_s"], rel=0.01)


def test_classes_of_mixtures_are_those_of_their_parts(tmp_path):
    paths = build.build_set(few("EM-Radar-Mix", 44), tmp_path, "small", 0)
    assert len(contents(paths).classes()["radar_waveform"]) == 8


def test_the_page_of_the_documentation_is_that_of_the_recipes():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    for recipe in SETS.values():
        assert inspect.getdoc(recipe.draw) in text, f"{recipe.name}: write docs/datasets.md anew"
        assert f"| {recipe.name} | " in text and f"| {recipe.full:,} |" in text


def test_a_cell_lists_few_rates_and_sums_up_many():
    assert dataset_page._rates([2e6, 48e3]) == "48 kHz, 2 MHz"
    assert dataset_page._rates([]) == "one sample a symbol"
    assert dataset_page._rates([1e3 * k for k in range(1, 101)]) == "100 from 1 kHz to 100 kHz"
