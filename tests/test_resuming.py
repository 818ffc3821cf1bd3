"""What a run of `emind-train finetune` must find again when it goes on, and what may have changed since."""

import json
from dataclasses import replace

import pytest
from emind.contract.errors import EMindError
from emind.models.checkpoint import save_weights
from emind_training import config as air_config
from emind_training import finetune, task_train
from emind_training.run_state import FIXED_RUN
from safetensors import safe_open
from safetensors.torch import save_file
from task_runs import config, cut, micro, runs, trained  # noqa: F401

pytestmark = pytest.mark.usefixtures("micro")
OTHER = {"seed": 9, "validate_every": 2}


@pytest.fixture(scope="module")
def start(runs, tmp_path_factory):  # noqa: F811
    """A weights file to start from."""
    from emind.models import emind
    from emind.models.emind import EncoderConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(emind.SIZES, "micro", lambda **t: EncoderConfig(width=32, depth=1, heads=1, **t))
        made = trained(runs, "first", config("sensing"))
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_weights(path, made.own.model, made.window, made.calibration, made.training, made.figures)
    return path


def rewritten(checkpoint, change) -> None:
    """The same checkpoint with another record, as an older version would have left it."""
    with safe_open(str(checkpoint), framework="pt") as file:
        state = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    change(state)
    save_file(tensors, checkpoint, metadata={"state": json.dumps(state)})


def short(**run):
    return config("sensing", run={"checkpoint_seconds": 0.0, **run})


@pytest.mark.parametrize("key", FIXED_RUN)
def test_a_run_does_not_go_on_with_another_seed_or_other_looks(runs, monkeypatch, key):  # noqa: F811
    cut(monkeypatch, runs, f"other-{key}", short())
    before = getattr(short().run, key)
    with pytest.raises(EMindError, match=rf"made with \[run\] {key} = {before}, the configuration says {OTHER[key]}"):
        trained(runs, f"other-{key}", short(**{key: OTHER[key]}), resume=True)
    assert trained(runs, f"other-{key}", short(log_every=2), resume=True).training["steps"] == 6


def test_a_checkpoint_from_before_the_seed_was_kept_goes_on(runs, monkeypatch):  # noqa: F811
    checkpoint = cut(monkeypatch, runs, "older", short())
    rewritten(checkpoint, lambda state: [state["config"]["run"].pop(key) for key in FIXED_RUN])
    assert trained(runs, "older", short(), resume=True).training["steps"] == 6


def test_more_may_be_told_of_the_first_file_than_a_checkpoint_knows_but_it_must_be_that_file(runs, start, monkeypatch,  # noqa: F811
                                                                                              tmp_path):
    checkpoint = cut(monkeypatch, runs, "history", short(), init=start)

    def older(state):
        init = state["extra"]["init"]
        state["extra"]["init"] = {key: init[key] for key in task_train.INIT} | {"name": "once called so"}

    rewritten(checkpoint, older)
    other = tmp_path / "other.safetensors"
    made = trained(runs, "second", config("sensing", run={"seed": 4}))
    save_weights(other, made.own.model, made.window, made.calibration, made.training, made.figures)
    with pytest.raises(EMindError, match="the run had another init"):
        trained(runs, "history", short(), resume=True, init=other)
    init = trained(runs, "history", short(), resume=True, init=start).training["init"]
    assert init["name"] == "start.safetensors"


def test_a_run_on_the_air_set_keeps_its_seed_and_its_first_file(tmp_path):
    own = air_config.config_from_dict({
        "model": {"size": "micro"}, "optim": {"steps": 2, "batch": 2, "warmup_steps": 1, "bfloat16": False},
        "run": {"producers": 0, "validation_windows": 4, "checkpoint_seconds": 0.0}}, "test")
    finetune.train(own, tmp_path / "air", False)
    with pytest.raises(EMindError, match=r"made with \[run\] seed = 1, the configuration says 9"):
        finetune.train(replace(own, run=replace(own.run, seed=9)), tmp_path / "air", True)
    assert finetune.train(own, tmp_path / "air", True)[1]["steps"] == 2
