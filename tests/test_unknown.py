"""`emind-train unknown`: the threshold of `unknown` set anew in a released file."""

import json
import shutil

import numpy as np
import pytest
from emind.models.checkpoint import load_weights, read_header
from emind.runtime.engine import load_engine
from emind.runtime.weights import resolve
from emind_training import cli, finetune, task_data, task_sources
from emind_training.synthesis.air import AirConfig, air_batch
from emind_training.task_card import card


@pytest.fixture
def copy(released_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(task_sources, "AIR_WINDOWS", 256)
    path = tmp_path / "mine.safetensors"
    shutil.copy(resolve(released_weights), path)
    return path


def test_the_asked_share_of_validation_windows_keeps_its_class_and_nothing_else_changes(copy, capsys):
    old_model, _, old = load_weights(copy)
    assert cli.main(["unknown", str(copy), "--known-kept", "0.95", "--windows", "512"]) == 0
    told = json.loads(capsys.readouterr().out)
    model, _, new = load_weights(copy)
    assert told["threshold"] == new["calibration"]["modulation"]["unknown"]["threshold"] != told["before"]
    assert told["before"] == old["calibration"]["modulation"]["unknown"]["threshold"]

    config = AirConfig()
    size = task_data.EVALUATION_BATCH
    batches = [air_batch(finetune.VALIDATION_SEED, k, size, config) for k in range(512 // size)]
    engine = load_engine(str(copy), "torch-float32", 1, ("modulation",))
    answers = np.concatenate([engine.infer(b.iq, b.rate)["modulation"] for b in batches])
    assert np.mean(answers[:, -1] > 0.5) == pytest.approx(0.05, abs=0.006)

    state = model.state_dict()
    assert all((value == state[name]).all() for name, value in old_model.state_dict().items())
    for header in (old, new):
        header["calibration"]["modulation"].pop("unknown"), header["figures"]["modulation"].pop("called_unknown")
        header["training"].pop("unknown", None)
    assert old == new


def test_the_card_is_written_anew_and_says_it(copy):
    assert cli.main(["unknown", str(copy), "--known-kept", "0.9", "--windows", "256"]) == 0
    header = read_header(copy)
    pictures = {path.name for path in copy.parent.glob("mine-*.png")}
    text = copy.with_suffix(".md").read_text()
    assert pictures and text == card("mine", header, pictures, str(copy))
    assert f"{header['calibration']['modulation']['unknown']['threshold']:.3f}" in text
    assert 0.03 < header["figures"]["modulation"]["called_unknown"] < 0.2


@pytest.mark.parametrize("options", [["--known-kept", "1"], ["--known-kept", "0.3"], ["--windows", "1000"]])
def test_a_share_that_cannot_be_set_is_named(copy, capsys, options):
    assert cli.main(["unknown", str(copy), *options]) == 2
    assert "at least 4 windows" in capsys.readouterr().err


def test_a_file_without_such_a_head_is_refused(small_weights, capsys):
    assert cli.main(["unknown", str(small_weights)]) == 1
    assert "no head modulation that says unknown" in capsys.readouterr().err
