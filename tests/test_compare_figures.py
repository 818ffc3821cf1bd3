"""What `emind-train compare` tells beside the mean over SNR: validation scored alike, and without a class of noise."""

import json

import numpy as np
import pytest
import torch
from emind_training import compare, compare_data
from emind_training.cli import main
from emind_training.compare_data import Part, repeated
from emind_training.compare_report import summary, table

TOML = """name = "small"
[data]
set = "AWGN-7"
size = "small"
windows = 220
validation_windows = 220
test_windows = 220
[train]
epochs = 1
[[models]]
network = "petcgdnn"
name = "P"
"""
REGENERATED = "RML2016.10A-regen"


def part(iq, label, snr=None):
    iq = np.asarray(iq, np.complex64)
    return Part(torch.view_as_real(torch.from_numpy(iq)), torch.tensor(label),
                np.zeros(len(iq)) if snr is None else np.asarray(snr, float), torch.full((len(iq),), torch.nan))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "c.toml").write_text(TOML)
    return folder


@pytest.fixture(autouse=True)
def as_it_was(runs):
    """Each test starts from the result that the first run wrote."""
    yield
    if (runs / "first.json").exists():
        (runs / "small" / "P-1" / "result.json").write_text((runs / "first.json").read_text())


def compared(runs) -> dict:
    """The command's result of the one model, and its table."""
    assert main(["compare", "--config", str(runs / "c.toml"), "--runs", str(runs)]) == 0
    text = (runs / "small" / "P-1" / "result.json").read_text()
    if not (runs / "first.json").exists():
        (runs / "first.json").write_text(text)
    return json.loads(text)


def changed(runs, change) -> None:
    file = runs / "small" / "P-1" / "result.json"
    result = json.loads(file.read_text())
    change(result)
    file.write_text(json.dumps(result))


def test_the_score_without_a_class_of_noise_leaves_its_windows_out_and_no_others():
    classes, snr = ("AM-SSB", "BPSK", "QPSK"), [0, 0, 0, 2, 2, 2]
    label = [0, 1, 2, 0, 1, 2]
    logits = np.eye(3)[[0, 1, 0, 1, 1, 2]]  # QPSK at 0 dB and AM-SSB at 2 dB are missed
    found = compare.figures_of(logits, part(np.ones((6, 4)), label, snr), classes, REGENERATED)
    assert found["accuracy"] == pytest.approx(np.mean([2 / 3, 2 / 3]))
    assert found["without"]["class"] == "AM-SSB" and found["without"]["windows"] == 4
    assert found["without"]["by_snr"] == [[0.0, 0.5], [2.0, 1.0]] and found["without"]["accuracy"] == 0.75
    assert "without" not in compare.figures_of(logits, part(np.ones((6, 4)), label, snr), classes, "RadChar-regen")


def test_windows_are_the_same_whatever_their_level_and_not_otherwise():
    rng = np.random.default_rng(0)
    known = rng.standard_normal((50, 2 * 16)).view(complex)
    strange = rng.standard_normal((30, 2 * 16)).view(complex)
    test = np.concatenate([0.01 * known[:20], strange, 1j * known[:10]])
    assert repeated(part(test, [0] * 60), part(known, [0] * 50)) == 20


def test_a_result_of_an_earlier_version_gets_the_score_of_validation_without_reading_test_again(runs, monkeypatch):
    whole = compared(runs)
    assert set(whole["validation"]) == set(whole["test"]) and whole["validation"] != whole["test"]
    changed(runs, lambda result: result.pop("validation"))
    read, open_part = [], compare_data.CompareSet.part
    with monkeypatch.context() as patch:
        patch.setattr(compare_data.CompareSet, "part", lambda self, name: (read.append(name), open_part(self, name))[1])
        assert compared(runs) == whole
    assert read == ["train", "validation"]
    text = (runs / "small" / "compare.md").read_text()
    assert "| validation, mean over SNR, % |" in text and f"| {100 * whole['validation']['accuracy']:.2f} |" in text


def test_a_result_of_an_earlier_version_gets_the_score_without_noise_from_its_own_weights(runs, monkeypatch):
    before = compared(runs)
    monkeypatch.setitem(compare.NOISE_ALONE, "AWGN-7", "64QAM")
    after = compared(runs)
    own = after["test"].pop("without")
    assert after["validation"].pop("without")["class"] == "64QAM"
    assert after == before and own["left_out"] + own["windows"] == 220 and own["also_in_training"] == 0
    assert compared(runs)["test"]["without"] == own
    text = (runs / "small" / "compare.md").read_text()
    assert "| without 64QAM, % |" in text and f"| {100 * own['accuracy']:.2f} |" in text
    assert f"0 of its {own['left_out']} test windows are among the training" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_weights_that_are_not_of_the_result_are_refused(runs):
    compared(runs)
    changed(runs, lambda result: result.pop("validation"))

    def other(result):
        result["test"]["accuracy"] += 0.1

    changed(runs, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(compare.NOISE_ALONE, "AWGN-7", "64QAM")
        assert main(["compare", "--config", str(runs / "c.toml"), "--runs", str(runs)]) == 1


def test_a_row_without_a_figure_has_an_empty_cell():
    one = {"model": "P", "seed": 1, "parameters": 1, "epochs": 1, "training_windows": 1, "windows_a_second": 1.0,
           "test": {"accuracy": 0.5, "by_snr": [[0.0, 0.5]], "windows": 2}}
    rows = summary([one], ["P"])
    assert rows[0]["validation_accuracy"] is None and rows[0]["without"] is None
    assert "| P | 1 | 1 | 1 | 1 |  | 50.00 |  |" in table(rows, REGENERATED, 2)
