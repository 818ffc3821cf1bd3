"""The weights that come with the module, and their cards."""

from pathlib import Path

import numpy as np
import pytest
from emind.contract.vocabulary import FAMILIES, MODULATIONS, family_of
from emind.models.checkpoint import read_header
from emind.runtime.engine import load_engine
from emind_training.config import read_config
from emind_training.evaluate import card
from emind_training.synthesis.air import AirConfig, air_window

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "python" / "emind" / "weights"
LIMIT_BYTES = {"emind-nano": 12_000_000}


@pytest.mark.parametrize("name", LIMIT_BYTES)
def test_the_file_is_within_its_size(name):
    assert (FOLDER / f"{name}.safetensors").stat().st_size <= LIMIT_BYTES[name]


def test_the_vocabulary_is_that_of_the_generators():
    heads = {head["name"]: head for head in read_header(FOLDER / "emind-nano.safetensors")["heads"]}
    assert tuple(heads["modulation"]["labels"]) == MODULATIONS
    assert len(MODULATIONS) >= 20 and {family_of(label) for label in MODULATIONS} == set(FAMILIES)


def test_the_weights_were_trained_with_the_configuration_in_the_tree():
    trained = read_header(FOLDER / "emind-nano.safetensors")["training"]["config"]
    assert trained == read_config(ROOT / "training" / "configs" / "nano-air.toml").to_dict()


@pytest.mark.parametrize("name", LIMIT_BYTES)
def test_the_card_says_what_the_header_says_and_nothing_else(name):
    text = (FOLDER / f"{name}.md").read_text()
    command = text.split("Made by: `")[1].split("`")[0]
    assert text == card(name, command, read_header(FOLDER / f"{name}.safetensors"), f"{name}-snr.png")
    assert command.startswith("emind-train finetune --task modulation --config training/configs/nano-air.toml")
    assert (FOLDER / f"{name}-snr.png").is_file()


def test_clear_windows_are_answered_as_often_as_the_card_claims():
    """Fresh windows at high SNR: the file, the engine and the figures belong together."""
    engine = load_engine("emind-nano")
    rows = engine.header["figures"]["modulation"]["by_snr"]
    claimed = np.mean([row["family_accuracy"] for row in rows if 14 <= row["snr_db"] <= 26])
    rng = np.random.default_rng(77)
    names = [name for name in MODULATIONS if name != "noise"] * 8
    windows = np.stack([air_window(rng, name, AirConfig(), rng.uniform(14, 26))[0] for name in names])
    answers = engine.infer(windows, np.full(len(names), np.nan))["modulation"].argmax(1)
    right = np.mean([family_of(MODULATIONS[k]) == family_of(name) for k, name in zip(answers, names)])
    deviation = np.sqrt(claimed * (1 - claimed) / len(names))
    assert abs(right - claimed) < 4 * deviation
