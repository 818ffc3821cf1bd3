"""Runs of `emind-train finetune` on sets of signals: every task, the tracks, several heads, resuming."""

import json

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError, UsageError
from emind.models.checkpoint import load_weights, read_header, save_weights
from emind.models.heads import LinearHead
from emind_training import cli, task_sources, task_train
from emind_training.pretrain_log import read_log
from emind_training.task_data import Examples
from emind_training.task_names import TASK_NAMES
from task_runs import config, cut, micro, runs, trained  # noqa: F401

LEARNED = [name for name in TASK_NAMES if name != "anomaly"]
FIELDS = {
    "modulation": {"accuracy", "kappa", "f1", "by_snr", "by_class", "confusion", "scored", "called_unknown"},
    "radar": {"accuracy", "mae", "mae_by_snr", "units", "expected_calibration_error"},
    "interference": {"accuracy", "precision", "recall", "by_snr"},
    "fingerprint": {"accuracy", "by_snr"},
    "separation": {"estimate", "mixture", "gain"},
    "denoise": {"input_snr_db", "output_snr_db", "gain_db", "by_snr"},
    "sensing": {"accuracy", "detection"},
    "anomaly": {"auc", "by_class", "by_isr"},
    "technology": {"accuracy", "f1"},
}
pytestmark = pytest.mark.usefixtures("micro")


def saved(path, made):
    save_weights(path, made.own.model, made.window, made.calibration, made.training, made.figures)
    return path


@pytest.fixture(scope="module")
def start(runs, tmp_path_factory):  # noqa: F811
    """A weights file with the heads `technology` and `sensing`."""
    from emind.models import emind
    from emind.models.emind import EncoderConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(emind.SIZES, "micro", lambda **t: EncoderConfig(width=32, depth=1, heads=1, **t))
        made = trained(runs, "start", config("technology", "sensing", data={"items": 48}))
    return saved(tmp_path_factory.mktemp("start") / "start.safetensors", made)


# ------------------------------------------------------------------------------------------------- every task


@pytest.mark.parametrize("task", LEARNED)
def test_a_task_learns_a_few_examples_and_its_figures_are_complete(runs, tmp_path, task):  # noqa: F811
    own = config(task, data={"train_examples": 16}, augment={"phase": False, "shift": False}, optim={
        "steps": 40, "batch": 16, "average": 0.0, "learning_rate": 5e-3}, run={"validate_every": 40})
    made = trained(runs, f"learn-{task}", own)
    losses = [line["loss"] for line in read_log(runs / f"learn-{task}" / "log.jsonl") if "loss" in line]
    gap = 0.25 if task not in ("separation", "denoise") else 0.05  # of dB there
    assert len(losses) == 40 and np.mean(losses[-3:]) < np.mean(losses[:3]) - gap
    assert FIELDS[task] <= set(made.figures[task]) and made.figures[task]["windows"] > 0
    assert made.training["examples"] == {task: 640}
    path = saved(tmp_path / "w.safetensors", made)
    model, window, header = load_weights(path)
    assert header["training"]["data"][task]["test"]["examples"] == made.figures[task]["windows"]
    assert all(len(digest) == 64 for part in ("train", "validation", "test")
               for digest in header["training"]["data"][task][part]["files"].values())
    assert window.length == header["training"]["heads"][task]["length"]
    json.dumps(header["figures"], allow_nan=False)


def test_the_anomaly_head_is_fitted_to_normal_windows_and_nothing_is_trained(runs):  # noqa: F811
    made = trained(runs, "anomaly", config("anomaly"))
    assert FIELDS["anomaly"] <= set(made.figures["anomaly"]) and made.training["steps"] == 0
    assert made.training["fitted"]["anomaly"]["normal_windows"] > 0
    assert made.own.model.heads["anomaly"].centres_CF.abs().sum() > 0


def test_the_anomaly_head_may_learn_the_named_anomalies_instead(runs):  # noqa: F811
    made = trained(runs, "anomaly-classes", config("anomaly", task={"anomaly": {"detector": "classes"}}))
    assert made.own.model.specs["anomaly"].labels[0] == "normal" and len(made.own.model.specs["anomaly"].labels) == 5
    assert {"accuracy", "detection"} <= set(made.figures["anomaly"]) and made.training["steps"] == 6


def test_radar_errors_are_in_si_units(runs):  # noqa: F811
    figures = trained(runs, "radar-si", config("radar")).figures["radar"]
    assert figures["units"] == {"num_pulses": "", "pulse_width": "s", "pri": "s", "pulse_time_delay": "s"}
    assert 0 < figures["mae"]["num_pulses"] < 4
    for name, most in (("pulse_width", 6e-6), ("pri", 6e-6), ("pulse_time_delay", 9e-6)):
        assert 1e-8 < figures["mae"][name] < most


# ------------------------------------------------------------------------------------------------- the loop


def cut_and_resumed(monkeypatch, runs, name, own, **asked):  # noqa: F811
    """The result of a run that was killed after its third step and then resumed."""
    cut(monkeypatch, runs, name, own, at=4, **asked)
    return trained(runs, name, own, resume=True, **asked)


@pytest.mark.parametrize("tasks, kinds", [
    (("technology",), 0.0), (("technology", "sensing"), 0.0), (("separation",), 0.0), (("technology",), 1.0)])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(runs, monkeypatch, tasks, kinds):  # noqa: F811
    name = "-".join(["resume", *tasks, *["kinds"] * (kinds > 0)])
    own = config(*tasks, data={"items": 48}, optim={"steps": 7}, run={"checkpoint_seconds": 0.0},
                 kinds={"share": kinds})
    whole = trained(runs, name + "-whole", own)
    resumed = cut_and_resumed(monkeypatch, runs, name + "-cut", own)
    for (key, a), b in zip(whole.own.model.state_dict().items(), resumed.own.model.state_dict().values()):
        assert torch.equal(a, b), key
    assert whole.figures == resumed.figures and whole.calibration == resumed.calibration
    first, second = (made.training["history"] for made in (whole, resumed))
    assert first == second


def test_a_checkpoint_is_neither_overwritten_nor_used_for_another_run(runs, start):  # noqa: F811
    own = config("technology")
    trained(runs, "guard", own)
    with pytest.raises(EMindError, match="exists; give --resume"):
        trained(runs, "guard", own)
    with pytest.raises(EMindError, match=r"another \[augment\]"):
        trained(runs, "guard", config("technology", augment={"conjugate": True}), resume=True)
    with pytest.raises(EMindError, match="the run had another init"):
        trained(runs, "guard", config("technology"), resume=True, init=start)


def test_the_run_ends_early_and_the_best_look_is_what_is_kept(runs, monkeypatch):  # noqa: F811
    scores = iter([0.1, 0.5, 0.3, 0.2, 0.9])
    monkeypatch.setattr(task_train._Run, "_score", lambda self, looks: next(scores))
    kept = []
    save = task_train._save_tensors
    monkeypatch.setattr(task_train, "_save_tensors", lambda path, tensors: (
        kept.append({name: value.clone() for name, value in tensors.items()}), save(path, tensors)))
    made = trained(runs, "early", config("technology", optim={"steps": 50, "patience": 2}, run={"validate_every": 2}))
    assert made.training["steps"] == 8 and made.training["best"] == {"step": 4, "score": 0.5}
    state = made.own.model.state_dict()
    assert len(kept) == 2 and all(torch.equal(state[name], value) for name, value in kept[1].items())
    assert any(not torch.equal(kept[0][name], value) for name, value in kept[1].items())


def test_the_test_part_is_read_once_and_after_training(runs, monkeypatch):  # noqa: F811
    opened, step = [], task_train._Run._updated
    read = Examples.open.__func__

    def noted(cls, paths, *rest, **more):
        opened.append(paths[0].name)
        return read(cls, paths, *rest, **more)

    monkeypatch.setattr(Examples, "open", classmethod(noted))
    monkeypatch.setattr(task_train._Run, "_updated", lambda *a: (opened.append("step"), step(*a))[1])
    trained(runs, "once", config("technology"))
    test = "Wireless-Technology-test.parquet"
    assert opened.count(test) == 1 and opened[-1] == test and "step" in opened


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(runs, monkeypatch):  # noqa: F811
    monkeypatch.setattr(task_train, "loss_of", lambda spec, outputs, *rest: outputs.sum() * torch.nan)
    with pytest.raises(EMindError, match="loss of technology is not finite at step 0"):
        trained(runs, "nan", config("technology"))
    assert np.load(runs / "nan" / "bad_batch.npz")["iq"].shape == (8, 1024, 2)


def test_turns_follow_the_shares_at_any_length():
    turns = task_sources.shared_out([3.0, 1.0, 2.0], 60)
    assert [turns.count(k) for k in range(3)] == [30, 10, 20]
    for steps in range(1, 60):
        assert all(abs(turns[:steps].count(k) - steps * share / 6) <= 1 for k, share in enumerate((3, 1, 2)))
        assert task_sources.shared_out([3.0, 1.0, 2.0], steps) == turns[:steps]


# ------------------------------------------------------------------------------------------------- tracks


def test_a_frozen_encoder_and_the_heads_it_has_stay_to_the_bit_and_are_saved_along(runs, start, tmp_path):  # noqa: F811
    before, _, header = load_weights(start)
    made = trained(runs, "frozen", config("interference", "radar", model=None), init=start, freeze=True)
    path = saved(tmp_path / "more.safetensors", made)
    model, window, new = load_weights(path)
    assert set(model.specs) == {"technology", "sensing", "interference", "radar"}
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.state_dict().items())
    for name in ("technology", "sensing"):
        assert new["calibration"][name] == header["calibration"][name]
        assert new["figures"][name] == header["figures"][name]
    assert window.to_dict() == header["window"]
    assert new["training"]["kept_heads"]["heads"] == ["technology", "sensing"]


def test_a_head_that_the_frozen_file_has_is_refused(runs, start):  # noqa: F811
    with pytest.raises(EMindError, match="has a head technology already"):
        trained(runs, "taken", config("technology", model=None), init=start, freeze=True)


def test_joint_training_moves_the_encoder_and_every_head(runs, start):  # noqa: F811
    before, _, _ = load_weights(start)
    made = trained(runs, "joint", config("technology", "sensing", model=None), init=start)
    assert made.training["init"]["heads"] == ["technology", "sensing"]  # they start from the file's
    changed = {name.rsplit(".", 2)[0] for name, value in made.own.model.state_dict().items()
               if not torch.equal(value, before.state_dict()[name])}
    assert any(name.startswith("encoder") for name in changed)
    assert {"heads.technology", "heads.sensing"} <= {".".join(name.split(".")[:2]) for name in changed}
    assert made.training["examples"] == {"technology": 24, "sensing": 24}


def test_a_probe_is_one_linear_layer_on_a_frozen_encoder(runs, start, tmp_path):  # noqa: F811
    before, _, _ = load_weights(start)
    made = trained(runs, "probe", config("interference", model=None), init=start, track="probe")
    head = made.own.model.heads["interference"]
    assert isinstance(head, LinearHead)
    assert made.training["learned_parameters"] == 9 * 64 + 9
    assert all(torch.equal(value, before.encoder.state_dict()[name])
               for name, value in made.own.model.encoder.state_dict().items())
    model, _, _ = load_weights(saved(tmp_path / "p.safetensors", made))
    assert isinstance(model.heads["interference"], LinearHead)


def test_adapters_are_merged_into_an_ordinary_encoder(runs, start, tmp_path):  # noqa: F811
    before, _, _ = load_weights(start)
    made = trained(runs, "lora", config("technology", model=None, optim={"learning_rate": 0.02}), init=start,
                   track="lora")
    model, _, _ = load_weights(saved(tmp_path / "l.safetensors", made))
    old, new = before.encoder.state_dict(), model.encoder.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed and all("attention" in name or "mlp" in name for name in changed)
    assert not any(name.endswith("bias") for name in changed)


def test_few_shots_train_on_k_of_each_class_and_give_episodes(runs, start):  # noqa: F811
    own = config("technology", model=None, data={"items": 240, "test_examples": 0},
                 episode={"queries": 2, "episodes": 5})
    made = trained(runs, "few", own, init=start, track="few-shot", per_class=3, ways=2)
    assert made.training["data"]["technology"]["train"]["examples"] == 9 and made.training["per_class"] == 3
    found = made.figures["technology"]["episodes"]
    assert (found["ways"], found["shots"], found["episodes"]) == (2, 3, 5) and 0 <= found["accuracy"] <= 1


@pytest.mark.parametrize("asked, fault", [
    ({"track": "probe"}, "--track probe leaves the encoder's weights as they are: give a file with --init"),
    ({"track": "lora"}, "--track lora leaves"),
    ({"freeze": True}, "--freeze-encoder needs the encoder of a file"),
    ({"track": "few-shot"}, "--track few-shot and --per-class K go together"),
    ({"per_class": 3}, "--track few-shot and --per-class K go together"),
    ({"ways": 5}, "--ways N asks for N-way K-shot episodes"),
])  # fmt: skip
def test_options_that_contradict_each_other_are_named(runs, asked, fault):  # noqa: F811
    with pytest.raises(UsageError, match=fault):
        trained(runs, "never", config("technology"), **asked)
    assert not (runs / "never").exists()


def test_scratch_takes_no_file(runs, start):  # noqa: F811
    with pytest.raises(UsageError, match="--track scratch starts from random weights"):
        trained(runs, "never", config("technology"), track="scratch", init=start)


# ------------------------------------------------------------------------------------------------- the command


def test_one_command_draws_trains_measures_and_says_how(tmp_path, capsys):
    toml = tmp_path / "c.toml"
    toml.write_text('[model]\nsize = "micro"\n[task.technology]\n[data]\nitems = 36\n[optim]\nsteps = 2\nbatch = 4\n'
                    '[run]\nname = "c"\n')
    out = tmp_path / "c.safetensors"
    arguments = ["finetune", "--task", "technology", "--config", str(toml), "--runs", str(tmp_path / "runs"),
                 "--out", str(out)]
    assert cli.main(arguments) == 0
    training = read_header(out)["training"]
    assert training["command"] == " ".join(["emind-train", *arguments[:5], *arguments[7:]])
    assert training["code"] and training["machine"]["torch"] == torch.__version__
    capsys.readouterr()
    assert cli.main(arguments) == 1 and "give --resume" in capsys.readouterr().err
    assert cli.main([*arguments, "--resume", "--data", str(tmp_path / "none")]) == 1
    assert "none: no such file" in capsys.readouterr().err


def test_a_configuration_of_the_air_set_trains_modulation_alone(tmp_path, capsys):
    toml = tmp_path / "air.toml"
    toml.write_text("[optim]\nsteps = 1\n")
    assert cli.main(["finetune", "--task", "radar", "--config", str(toml)]) == 2
    assert "has no table [task]" in capsys.readouterr().err
