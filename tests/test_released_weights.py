"""The weights that come with the module, and their cards."""

from pathlib import Path

import numpy as np
import pytest
from emind.contract.vocabulary import FAMILIES, MODULATIONS, family_of
from emind.models.checkpoint import read_header
from emind.runtime.engine import load_engine
from emind_training.synthesis.air import AirConfig, told_rate, window_and_rate
from emind_training.task_card import card
from emind_training.task_config import read_task_config, task_config_from_dict

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "python" / "emind" / "weights"
LIMIT_BYTES = {"emind-nano": 12_000_000, "emind-tiny": 25_000_000, "emind-separation": 12_000_000}
CONFIGS = {"emind-nano": "release-nano.toml", "emind-tiny": "release-tiny.toml",
           "emind-separation": "task-separation.toml"}
SEVEN = {"modulation", "interference", "radar", "sensing", "anomaly", "fingerprint", "denoise"}
HEADS = {
    "emind-nano": SEVEN,
    "emind-tiny": SEVEN,
    "emind-separation": {"separation"},
}


@pytest.mark.parametrize("name", LIMIT_BYTES)
def test_the_file_is_within_its_size(name):
    assert (FOLDER / f"{name}.safetensors").stat().st_size <= LIMIT_BYTES[name]


@pytest.mark.parametrize("name", HEADS)
def test_the_file_has_the_heads_that_are_promised(name):
    heads = {head["name"]: head for head in read_header(FOLDER / f"{name}.safetensors")["heads"]}
    assert {each for each, head in heads.items() if head["kind"] != "prototypes"} == HEADS[name]


@pytest.mark.parametrize("name", ["emind-nano", "emind-tiny"])
def test_the_vocabulary_is_that_of_the_generators(name):
    heads = {head["name"]: head for head in read_header(FOLDER / f"{name}.safetensors")["heads"]}
    assert tuple(heads["modulation"]["labels"]) == MODULATIONS
    assert len(MODULATIONS) >= 20 and {family_of(label) for label in MODULATIONS} == set(FAMILIES)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_weights_were_trained_with_the_configuration_in_the_tree(name):
    training = read_header(FOLDER / f"{name}.safetensors")["training"]
    in_tree = read_task_config(ROOT / "training" / "configs" / CONFIGS[name])
    recorded = task_config_from_dict(training["config"], name)  # an option that is newer than the file has its default
    assert recorded == in_tree.with_tasks(training["tasks"])
    assert set(training["tasks"]) == set(in_tree.tasks)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_was_trained_on_windows_of_the_files_length(name):
    header = read_header(FOLDER / f"{name}.safetensors")
    assert {head["length"] for head in header["training"]["heads"].values()} == {header["window"]["length"]}


@pytest.mark.parametrize("name", LIMIT_BYTES)
def test_the_card_says_what_the_header_says_and_nothing_else(name):
    pictures = {path.name for path in FOLDER.glob(f"{name}-*.png")}
    assert (FOLDER / f"{name}.md").read_text() == card(name, read_header(FOLDER / f"{name}.safetensors"), pictures)


@pytest.mark.parametrize("name", ["emind-nano", "emind-tiny"])
def test_clear_windows_are_answered_as_often_as_the_card_claims(name):
    """Fresh windows at high SNR, their rates told as in training: the file, the engine and the figures belong together."""
    engine = load_engine(name, heads=["modulation"])
    rows = [row for row in engine.header["figures"]["modulation"]["by_snr"] if 14 <= row["snr_db"] <= 26]
    counts = [row["windows"] for row in rows]
    claimed = np.average([row["accuracy"] for row in rows], weights=counts)
    rng = np.random.default_rng(77)
    names = [name for name in MODULATIONS if name != "noise"] * 12
    drawn = [window_and_rate(rng, name, AirConfig(), rng.uniform(14, 26)) for name in names]
    windows, rates = np.stack([one[0] for one in drawn]), told_rate(rng, np.array([one[2] for one in drawn]))
    answers = engine.infer(windows, rates)["modulation"][:, : len(MODULATIONS)].argmax(1)
    right = np.mean([MODULATIONS[k] == name for k, name in zip(answers, names)])
    assert abs(right - claimed) < 4 * np.sqrt(claimed * (1 - claimed) * (1 / len(names) + 1 / sum(counts)))
