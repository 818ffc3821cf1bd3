"""[model] of a fine-tuning run: a network that `compare` found good on a set can be trained into a weights file."""

from dataclasses import replace

import numpy as np
import pytest
from emind.contract.errors import EMindError
from emind.models.checkpoint import load_weights, save_weights
from emind.models.stems import STEMS
from emind.runtime.engine import load_engine
from emind_training.config import FinetuneConfig, ModelConfig
from emind_training.finetune import build_model
from task_runs import config, micro, runs, trained  # noqa: F401

pytestmark = pytest.mark.usefixtures("micro")


def test_a_run_with_a_stem_gives_a_weights_file_that_the_engine_answers_with(runs, tmp_path):  # noqa: F811
    own = replace(config("modulation"), model=ModelConfig("micro", patch=8, stem="waves_conv"))
    made = trained(runs, "stem", own)
    path = tmp_path / "stem.safetensors"
    save_weights(path, made.own.model, made.window, made.calibration, made.training, made.figures)
    model, window, header = load_weights(path)
    assert header["architecture"]["stem"] == "waves_conv" == header["training"]["config"]["model"]["stem"]
    assert any(name.startswith("encoder.stem.") for name in model.state_dict())
    iq = np.random.default_rng(0).standard_normal((3, 2 * window.length)).view(complex).astype(np.complex64)
    answer = load_engine(path, backend="torch").infer(iq, np.full(3, np.nan))["modulation"]
    assert answer.shape[0] == 3 and np.isfinite(answer).all()
    with pytest.raises(EMindError, match="the encoder has stem waves_conv, the configuration asks for linear"):
        trained(runs, "other", replace(config("modulation"), model=ModelConfig("micro", patch=8)), init=path)


@pytest.mark.parametrize("stem", STEMS)
def test_the_air_sets_configuration_takes_any_stem(stem):
    own = FinetuneConfig(model=ModelConfig("micro", stem=stem))
    assert build_model(own).encoder.config.stem == stem
    assert ("stem" in own.to_dict()["model"]) == (stem != "linear")  # checkpoints of older runs have no such key


def test_an_unknown_stem_or_size_is_one_line():
    for model, words in ((ModelConfig(stem="none"), "unknown stem 'none'"), (ModelConfig("huge"), "unknown size 'huge'")):
        with pytest.raises(EMindError, match=words):
            model.encoder()


def test_a_run_without_a_stem_is_written_as_before():
    assert set(config("sensing").to_dict()["model"]) == {"size", "patch", "channels", "spectral"}
