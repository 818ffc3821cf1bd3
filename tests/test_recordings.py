"""The page of figures on real recordings is what the measure printed."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from emind_benchmarks import recordings

ROOT = Path(__file__).resolve().parents[1]

PRINTED = """\
 0.97 ppm        132/  349 adsb.sigmf-meta
 1.00 ofdm        17/   18 wifi.sigmf-meta
 0.50 ofdm         4/   20 lte.sigmf-meta
ppm      mean 0.970 over 1: {'ppm': 128, 'ook-ask': 4}
ofdm     mean 0.750 over 2: {'ofdm': 19, 'qam': 2}
{"recordings": 3, "failed": 0, "mean_share": 0.8233, "macro_family": 0.86}
"""


def measured():
    better = PRINTED.replace("0.50 ofdm", "0.90 ofdm").replace("mean 0.750", "mean 0.950").replace("0.8233", "0.9567")
    return {("emind-nano", recordings.TOGETHER): recordings.parse(better),
            ("emind-nano", recordings.ALONE): recordings.parse(PRINTED)}


def test_every_printed_figure_reaches_the_page():
    text = recordings.page(measured(), [])
    for row in ("| adsb | `ppm` | 132 | 0.97 | 0.97 |", "| lte | `ofdm` | 4 | 0.90 | 0.50 |",
                "| `ofdm` | 2 | 0.950 | 0.750 |", "| **mean over recordings** | 3 | **0.957** | **0.823** |",
                "| `ofdm` | emind-nano, by itself | ofdm, qam |"):
        assert row in text


def test_the_page_says_that_its_recordings_are_validation():
    text = (ROOT / "docs" / "real-recordings.md").read_text()
    for page in (text, recordings.page(measured(), [])):
        assert "decided with these figures in view: read them as validation, not as a test. Written by `make" in page


def test_the_page_says_whether_what_is_asked_is_met():
    text = recordings.page(measured(), [])
    assert "with neighbours: asked are a mean of 0.90 and no family under 0.80; it has 0.957 and 0.950" in text
    assert "it has 0.823 and 0.750 (`ofdm`): not met." in text and text.count(": met.") == 1


def test_the_folders_measure_gets_one_command_with_options_behind_its_own(tmp_path):
    """As score.py does: split the words, put its own behind them, run."""
    fake = tmp_path / "a folder" / "emind"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\n")
    fake.chmod(0o755)
    words = shlex.split(recordings.command(str(fake), "emind-tiny", recordings.ALONE))
    said = subprocess.run([*words, "classify", "my file", "--json", "-"], capture_output=True, text=True).stdout
    assert said == "classify|my file|--json|-|--weights|emind-tiny|--no-neighbours|"
    together = shlex.split(recordings.command(str(fake), "emind-nano", recordings.TOGETHER))
    said = subprocess.run([*together, "classify"], capture_output=True, text=True).stdout
    assert said == "classify|--weights|emind-nano|"


def test_the_page_is_of_the_released_files_as_they_are():
    text = (ROOT / "docs" / "real-recordings.md").read_text()
    for name in ("emind-nano", "emind-tiny"):
        assert recordings.which(name) in text, f"{name} is not what was scored: {recordings.COMMAND}"
    assert recordings.which("/somewhere/mine.safetensors") == "`/somewhere/mine.safetensors`"


def test_the_page_says_where_recordings_come_from_as_far_as_their_folder_does(tmp_path):
    entry = {"source_repo": "someone/signals", "licence": "MIT"}
    (tmp_path / "index.json").write_text(json.dumps([entry, entry, entry | {"source_repo": "a/b"}]))
    text = recordings.page(measured(), recordings.sources(tmp_path))
    assert text.index("| a/b | MIT | 1 |") < text.index("| someone/signals | MIT | 2 |")
    (tmp_path / "index.json").write_text(json.dumps({"a": {"licence": "MIT"}, "b": entry, "c": {"source_repo": None}}))
    assert recordings.sources(tmp_path) == ["| not said | MIT | 1 |", "| not said | not said | 1 |",
                                            "| someone/signals | MIT | 1 |"]
    assert recordings.sources(tmp_path / "nowhere") == []
    assert "Where the recordings come from" not in recordings.page(measured(), [])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Of a measure that notes what it was asked and prints the same each time; page and README are copies."""
    (tmp_path / "score.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "with (Path(__file__).parent / 'asked').open('a') as file:\n    file.write(sys.argv[3] + '\\n')\n"
        f"print({PRINTED!r}, end='')\n")
    (tmp_path / "README.md").write_text(f"{recordings.BEGIN}\n{recordings.END}\n")
    monkeypatch.setattr(recordings, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(recordings, "README", tmp_path / "README.md")
    return tmp_path


def test_the_command_as_the_page_prints_it_measures_all_weights_of_which_figures_are_asked(folder):
    assert recordings.main([str(folder), "--write"]) == 0
    asked = (folder / "asked").read_text().splitlines()
    assert len(asked) == 2 * len(recordings.ASKED)
    for name in recordings.ASKED:
        assert sum(f"--weights {name}" in one for one in asked) == 2
        assert recordings.which(name) in (folder / "page.md").read_text()
        assert f"{name}, {recordings.TOGETHER}" in (folder / "README.md").read_text()


def test_an_index_that_cannot_be_read_is_told_before_anything_is_measured(folder, capsys):
    (folder / "index.json").write_text("[{")
    with pytest.raises(SystemExit, match="2"):
        recordings.main([str(folder), "--write"])
    assert "index.json: Expecting" in capsys.readouterr().err
    assert not (folder / "asked").exists() and not (folder / "page.md").exists()


def test_a_run_without_a_closing_line_is_refused():
    with pytest.raises(ValueError, match="no closing line"):
        recordings.parse(PRINTED.splitlines()[0])


def test_the_summary_is_replaced_between_its_marks_and_nothing_else():
    readme = f"a\n{recordings.BEGIN}\nold\n{recordings.END}\nb\n"
    once = recordings.with_summary(readme, measured())
    assert once.startswith(f"a\n{recordings.BEGIN}\n| share") and once.endswith(f"{recordings.END}\nb\n")
    assert recordings.with_summary(once, measured()) == once


def test_the_readme_and_the_page_state_the_same_figure():
    figure = re.compile(r"\*\*mean over recordings\*\* \| (\d+) \| \*\*([\d.]+)\*\*")
    in_readme = figure.search((ROOT / "README.md").read_text())
    on_page = figure.search((ROOT / "docs" / "real-recordings.md").read_text())
    assert in_readme and on_page and in_readme.groups() == on_page.groups()
