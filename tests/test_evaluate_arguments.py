"""`emind-train evaluate` looks at its arguments before it measures; its page prints commands as the card does."""

import html
import json
import re

import pytest
from emind.models.checkpoint import read_header
from emind.runtime.weights import resolve
from emind_training import cli, evaluation, lineage


@pytest.fixture
def opened(monkeypatch):
    """No set is drawn: names of the heads whose test part was asked for; figures are those of the file."""
    names = []

    def nothing(head, asked):
        names.append(head.name)
        return "not in this test"

    monkeypatch.setattr(evaluation, "test_part", nothing)
    return names


def test_pretraining_takes_a_released_name(opened, tmp_path):
    assert cli.main(["evaluate", "emind-separation", "--pretraining", "emind-tiny-pretrained", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "emind-separation.json").read_text())
    assert told["pretraining"]["name"] == "emind-tiny-pretrained" and opened == ["separation"]
    assert told["command"].endswith("--pretraining emind-tiny-pretrained")


@pytest.mark.parametrize("options, words", [
    (["--pretraining", "emind-small"], "--pretraining: weights 'emind-small' are not known; released: emind-nano"),
    (["--pretraining", "no/such.safetensors"], "--pretraining: weights no/such.safetensors: no such file"),
    (["--pretraining", "emind-nano"], "emind-nano.safetensors: not a pretrained file"),
    (["--pretraining", "{empty}"], "tells of no probe"),
    (["--out", "{file}"], "--out: nothing can be written into "),
    (["--runs", "{file}"], "--runs: nothing can be written into "),
])
def test_what_cannot_be_used_is_told_before_anything_is_measured(opened, tmp_path, capsys, options, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("kept")
    options = [word.format(empty=tmp_path / "empty", file=tmp_path / "file") for word in options]
    if "--runs" not in options:
        options = ["--runs", str(tmp_path / "runs"), *options]
    assert cli.main(["evaluate", "emind-separation", *options]) == 1
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1
    assert opened == [] and (tmp_path / "file").read_text() == "kept"


def test_the_page_prints_the_steps_that_the_card_prints(opened, tmp_path):
    assert cli.main(["evaluate", "emind-nano", "--heads", "denoise", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "emind-nano.html").read_text()
    made = lineage.steps(read_header(resolve("emind-nano"))["training"])
    blocks = re.findall(r"<li><pre>([^<]*)</pre>", page)
    assert len(made) >= 2 and [html.unescape(one) for one in blocks] == [command.strip("`") for command, _ in made]
    assert not re.search(r"--init emind-nano\b(?!-)", page)  # nothing is trained from itself
    assert "<pre>.venv/bin/emind-train evaluate emind-nano --heads denoise</pre>" in page
    assert "`" not in page.split("<details>")[0]
