"""`emind-train pretrain`: what a run writes, that it goes on where it was, and that its faults are one line."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from emind.contract.errors import UsageError
from emind.contract.schema import Signal
from emind.models.checkpoint import load_pretrained
from emind.storage import parquet
from emind_training import pretrain
from emind_training.cli import main
from emind_training.corpus import Corpus
from emind_training.loader import Loader
from emind_training.pretrain_config import config_from_dict, read_config
from emind_training.pretrain_log import read_log
from emind_training.pretrain_state import read_state
from pretraining_runs import arguments, logged, made_config, made_corpus, stopping_at
from safetensors.torch import load_file

CONFIGS = Path(pretrain.__file__).parent / "configs"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return made_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def config(tmp_path_factory, corpus):
    return made_config(tmp_path_factory.mktemp("config"), corpus)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, config):
    """A run that nobody interrupted."""
    runs = tmp_path_factory.mktemp("whole")
    assert main(arguments(config, runs)) == 0
    return runs


def same_tensors(one, other):
    one, other = load_file(one), load_file(other)
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_debug_ends_and_leaves_all_that_a_run_leaves(tmp_path, corpus, capsys):
    given = ["pretrain", "--config", str(CONFIGS / "pretrain-debug.toml"), "--set", f"corpus.folder={corpus}",
             "--runs", str(tmp_path)]
    assert main(given) == 0
    folder = tmp_path / "pretrain-debug"
    lines = read_log(folder / "log.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if line["kind"] == "probe"] == [0, 3, 6]
    looks = [line["validation"] for line in lines if line["kind"] == "look"]
    assert looks[-1] < 0.9 * looks[0]
    assert (folder / "probe.png").read_bytes().startswith(b"\x89PNG") and list((folder / "tensorboard").iterdir())
    model, _, header = load_pretrained(folder / "pretrain-debug.safetensors")
    assert "6 steps" in capsys.readouterr().out
    training = header["training"]
    assert sum(one["drawn"] for one in training["corpus"]["sets"].values()) == training["signals"] > 0
    assert sorted(training["corpus"]["files"]) == sorted(path.name for path in corpus.glob("*-train.parquet"))
    assert all(len(digest) == 64 for digest in training["corpus"]["files"].values())
    assert training["config"] == read_config(CONFIGS / "pretrain-debug.toml", [f"corpus.folder={corpus}"]).to_dict()
    assert training["probes"] == header["figures"]["pretraining"]["probes"]
    state, tensors = read_state(folder / "checkpoint.safetensors")
    assert all(torch.equal(value, tensors[f"model.{name}"]) for name, value in model.state_dict().items())


def test_tensorboard_has_the_curves_of_every_set(whole, corpus):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(whole / "r" / "tensorboard")).Reload()
    names = Corpus.open(corpus).names
    assert {f"{kind}/{name}" for kind in ("validation", "weight") for name in names} <= set(board.Tags()["scalars"])
    assert {"train/signals_per_s", "train/samples_per_s", "train/wait_share"} <= set(board.Tags()["scalars"])
    shown = [(point.step, point.value) for point in board.Scalars("train/loss")]
    assert shown == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in logged(whole)]


def test_a_run_killed_at_a_random_step_goes_on_as_if_nothing_had_been(tmp_path, config, whole):
    # The seed of the step is in the name of the folder that pytest leaves behind when this fails.
    step = random.randint(2, 6)
    runs = tmp_path / f"killed-in-step-{step}"
    command = [sys.executable, "-m", "emind_training.cli",
               *arguments(config, runs, run__producers=1, run__checkpoint_seconds=0.05)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(logged(runs)) < step and process.poll() is None:
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL and len(logged(runs)) < 8
    assert main(arguments(config, runs, "--resume")) == 0
    assert logged(runs) == logged(whole)
    assert logged(runs, "look", "weights") == logged(whole, "look", "weights")
    assert logged(runs, "look", "sets") == logged(whole, "look", "sets")
    assert same_tensors(runs / "r" / "checkpoint.safetensors", whole / "r" / "checkpoint.safetensors")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_run_asked_to_stop_saves_and_goes_on_with_other_machine_settings(
    tmp_path, config, whole, monkeypatch, capsys, how
):
    with monkeypatch.context() as patch:
        stopping_at(3, patch, how)
        assert main(arguments(config, tmp_path)) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "r" / "r.safetensors").exists()
    state, _ = read_state(tmp_path / "r" / "checkpoint.safetensors")
    assert 3 <= state["progress"]["step"] <= 4
    assert main(arguments(config, tmp_path, "--resume", run__recompute="true", run__validate_every=2)) == 0
    assert logged(tmp_path) == logged(whole)
    assert same_tensors(tmp_path / "r" / "checkpoint.safetensors", whole / "r" / "checkpoint.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_of_processes_leaves_a_run_that_goes_on(tmp_path, config, whole, how):
    command = [sys.executable, "-m", "emind_training.cli", *arguments(config, tmp_path, run__producers=1)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    while len(logged(tmp_path)) < 2 and process.poll() is None:
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    os.killpg(process.pid, how)
    error = process.communicate()[1]
    assert process.returncode == 130 and "interrupted" in error and "Traceback" not in error
    assert main(arguments(config, tmp_path, "--resume")) == 0
    assert logged(tmp_path) == logged(whole)


def test_two_threads_give_the_same_run_twice(tmp_path, config):
    for runs in (tmp_path / "a", tmp_path / "b"):
        assert main(arguments(config, runs, run__threads=2, optim__steps=2)) == 0
    assert same_tensors(tmp_path / "a" / "r" / "r.safetensors", tmp_path / "b" / "r" / "r.safetensors")


def test_the_first_loss_is_the_models_own_on_the_first_batch(config, corpus, whole):
    read = read_config(config)
    torch.manual_seed(read.run.seed)
    model = pretrain.MaskedAutoencoder(read.autoencoder())
    with Loader(Corpus.open(corpus), 4, 2048, 16, read.run.seed, open_rows=4, producers=0) as loader:
        result = model(next(loader))
    assert logged(whole)[0] == (1, pytest.approx(result.loss.item(), rel=1e-6))


def test_parts_of_a_step_add_up_to_the_whole_step(tmp_path, config, whole):
    assert main(arguments(config, tmp_path, optim__accumulate=4)) == 0
    assert [loss for _, loss in logged(tmp_path)] == pytest.approx([loss for _, loss in logged(whole)], abs=1e-4)


def test_parts_of_a_batch_hold_each_signal_once(corpus):
    with Loader(Corpus.open(corpus), 4, 2048, 16, 1, producers=0) as loader:
        batch = next(loader)
    found = []
    for part in pretrain.in_parts(batch, 2):
        assert part.iq_RC2.shape[0] == 2 and part.row_S.min() == 0 and part.row_S.max() == 1
        found += [part.iq_RC2[row, start : start + length] for row, start, length
                  in zip(part.row_S, part.start_S, part.length_S, strict=True)]
    own = [batch.iq_RC2[row, start : start + length] for row, start, length
           in zip(batch.row_S, batch.start_S, batch.length_S, strict=True)]
    assert len(own) == len(found) and all(map(torch.equal, own, found))


def test_bfloat16_follows_float32_without_being_it(tmp_path, config, whole):
    assert main(arguments(config, tmp_path, optim__bfloat16="true")) == 0
    losses = [loss for _, loss in logged(tmp_path)]
    assert losses == pytest.approx([loss for _, loss in logged(whole)], rel=0.03) and logged(tmp_path) != logged(whole)


def test_clipping_holds_the_gradient_back(tmp_path, config, whole):
    # Below AdamW's epsilon a clipped gradient moves nothing.
    assert main(arguments(config, tmp_path, optim__clip_norm=1e-12, optim__weight_decay=0.0)) == 0
    held, free = ([loss for _, loss in logged(runs, "look", "validation")] for runs in (tmp_path, whole))
    assert held[-1] == pytest.approx(held[0], rel=1e-3) and free[-1] < 0.9 * free[0]
    assert all(norm > 0.05 for _, norm in logged(tmp_path, key="norm"))


def test_the_papers_weights_decide_what_is_drawn(tmp_path, config):
    assert main(arguments(config, tmp_path, corpus__weighting="paper", optim__steps=12)) == 0
    drawn = read_state(tmp_path / "r" / "checkpoint.safetensors")[0]["progress"]["drawn"]
    # EM-Radar has half the weight of the others. Rows close in another order than signals come, hence the slack.
    assert drawn["EM-Comm"] == pytest.approx(2 * drawn["EM-Radar"], abs=10) and drawn["EM-Radar"] > 8
    assert all(weights == {"AWGN-7": 1.0, "EM-Comm": 1.0, "EM-Radar": 0.5}
               for _, weights in logged(tmp_path, "look", "weights"))


def test_adaptive_weights_start_equal_and_then_move(whole):
    weights = [one for _, one in logged(whole, "look", "weights")]
    assert set(weights[0].values()) == {1.0} and len(set(weights[-1].values())) > 1


def test_best_is_the_lowest_validation_loss_and_either_can_be_written_as_weights(tmp_path, config):
    # With this learning rate it soon gets worse.
    changes = {"run__validate_every": 1, "optim__learning_rate": 0.3, "optim__warmup_share": 0.3,
               "optim__clip_norm": 100}
    assert main(arguments(config, tmp_path, **changes)) == 0
    looks = [(loss, step) for step, loss in logged(tmp_path, "look", "validation") if step]
    best = min(looks)[1]
    assert best < 8 and read_state(tmp_path / "r" / "best.safetensors")[0]["progress"]["step"] == best
    for which, step in (("best", best), ("last", 8)):
        out = tmp_path / f"{which}.safetensors"
        assert main(arguments(config, tmp_path, "--export", which, "--out", str(out), **changes)) == 0
        assert load_pretrained(out)[2]["training"]["steps"] == step


def test_epochs_count_signals(tmp_path, config, corpus):
    count = len(Corpus.open(corpus))
    assert main(arguments(config, tmp_path, optim__steps=0, optim__epochs=0.2)) == 0
    signals = logged(tmp_path, key="signals")
    assert signals[-1][1] >= 0.2 * count > signals[-2][1]


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_batch(tmp_path, config, capsys):
    assert main(arguments(config, tmp_path, optim__learning_rate=1e30)) == 1
    error = capsys.readouterr().err
    assert "not finite at step" in error and error.count("\n") == 1
    bad = load_file(tmp_path / "r" / "bad_batch.safetensors")
    assert bad["iq_RC2"].shape == (4, 2048, 2) and bad["length_S"].sum() > 0 and bad["noise_RN"].shape == (4, 128)


def test_the_learning_rate_rises_then_falls_to_what_is_asked():
    config = config_from_dict({"optim": {"steps": 100, "learning_rate": 2.0, "final_share": 0.25}}, "here")
    rates = [pretrain.learning_rate(share / 1000, config) for share in range(1001)]
    assert rates[0] == 0 and rates[50] == pytest.approx(1.0) and max(rates) == pytest.approx(2.0)
    assert rates.index(max(rates)) == 100 and rates[-1] == pytest.approx(0.5)
    assert rates[100:] == sorted(rates[100:], reverse=True) and rates[:101] == sorted(rates[:101])
    assert pretrain.learning_rate(0.55, config) == pytest.approx(1.25)


def test_the_paper_is_the_base_configuration():
    config = read_config(CONFIGS / "pretrain-base.toml")
    m, c, o = config.model, config.corpus, config.optim
    assert (m.size, m.patch, m.channels, m.spectral, m.mask_share, m.spectral_weight) == \
        ("base", 8, "iq", False, 0.75, 0.0)
    assert (c.rows, c.capacity, c.snr_above, c.weighting) == (40, 6000, 6.0, "adaptive")
    assert (o.epochs, o.learning_rate, o.warmup_share) == (10, 1e-4, 0.1)
    assert (config.autoencoder().encoder.depth, config.autoencoder().decoder_depth) == (12, 8)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("pretrain-*.toml")), ids=lambda path: path.stem)
def test_every_configuration_says_how_it_is_started_and_what_a_step_is(path):
    config = read_config(path)
    head = path.read_text().split("[model]")[0]
    assert f"pretrain --config training/configs/{path.name}" in head.replace("\\\n#       ", "")
    assert f"{config.corpus.rows} rows of {config.corpus.capacity:,} samples" in head.replace("\n# ", " ")


@pytest.mark.parametrize("changes, said", [
    ({"model__depth": 4}, "unknown key 'depth'; known: size, patch"),
    ({"modle__size": '"nano"'}, "unknown key 'modle'; known: model, corpus"),
    ({"model__size": "huge"}, "size 'huge' is unknown; known: nano, tiny, small, base"),
    ({"model__patch": 7}, "capacity 2048 must be a multiple of the patch, 7"),
    ({"model__patch": '"16"'}, "patch must be int, not str"),
    ({"optim__epochs": 2}, "give either steps or epochs"),
    ({"optim__steps": 0}, "give either steps or epochs"),
    ({"optim__betas": "[0.9]"}, "betas must be two numbers"),
    ({"optim__accumulate": 3}, "accumulate 3 must divide the 4 rows"),
    ({"corpus__weighting": "even"}, "weighting 'even' is unknown"),
    ({"run__parallel": "horovod"}, "parallel 'horovod' is unknown; known: none, ddp, fsdp"),
    ({"run__name": "../r"}, "must be the name of a folder"),
])
def test_a_configuration_that_cannot_be_is_one_line(tmp_path, config, capsys, changes, said):
    assert main(arguments(config, tmp_path, **changes)) == 2
    error = capsys.readouterr().err
    assert said in error and str(config) in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_what_is_not_there_or_stands_in_the_way_is_one_line(tmp_path, config, corpus, whole, capsys):
    def refused(status, said, *given, **changes):
        assert main([*given] or arguments(config, tmp_path, **changes)) == status
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1

    (tmp_path / "empty").mkdir()
    refused(1, "holds no Parquet files", corpus__folder=tmp_path / "empty")
    refused(1, "no such folder", corpus__folder=tmp_path / "nowhere")
    refused(1, "has no set 'EM-Com'", corpus__sets='["EM-Com"]')
    refused(2, "no such file", *arguments(tmp_path / "nowhere.toml", tmp_path))
    refused(2, "must end in .safetensors", *arguments(config, tmp_path, "--out", "weights.pt"))
    refused(2, "is the name of a checkpoint", *arguments(config, whole, "--out",
                                                       str(whole / "r" / "checkpoint.safetensors")))
    refused(1, "no such checkpoint", *arguments(config, tmp_path, "--export", "best"))
    refused(1, "exists; give --resume to go on", *arguments(config, whole))


def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(tmp_path, config, whole, capsys):
    for changes, said in (
        ({"model__size": "tiny"}, "made with [model] size = 'nano', the configuration says 'tiny'"),
        ({"optim__steps": 9}, "made with [optim] steps = 8"),
        ({"run__seed": 2}, "made with [run] seed = 1"),
        ({"corpus__sets": '["AWGN-7"]'}, "made with [corpus] sets = []"),
    ):
        assert main(arguments(config, whole, "--resume", **changes)) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_a_damaged_file_is_named_and_skipped_only_on_request(tmp_path, config, corpus, capsys):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for path in corpus.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[: len(content) // 2] if path.name.startswith("EM-Comm") else content)
    given = dict(corpus__folder=folder, optim__steps=2)
    assert main(arguments(config, tmp_path / "runs", **given)) == 1
    error = capsys.readouterr().err
    assert str(folder / "EM-Comm-train.parquet") in error and error.count("\n") == 1
    assert main(arguments(config, tmp_path / "runs", **given, corpus__skip_damaged="true")) == 0
    header = load_pretrained(tmp_path / "runs" / "r" / "r.safetensors")[2]
    assert sorted(header["training"]["corpus"]["sets"]) == ["AWGN-7", "EM-Radar"]
    assert "EM-Comm-train.parquet" in header["training"]["corpus"]["skipped"][0]


def test_a_corpus_of_another_schema_version_is_refused(tmp_path, config, monkeypatch, capsys):
    monkeypatch.setattr(parquet, "SCHEMA_VERSION", 99)
    (tmp_path / "corpus").mkdir()
    for part in ("train", "validation"):
        with parquet.Writer(tmp_path / "corpus" / f"New-{part}.parquet", origin="t") as writer:
            writer.write(Signal(np.ones(128, np.complex64)))
    monkeypatch.undo()
    assert main(arguments(config, tmp_path / "runs", corpus__folder=tmp_path / "corpus")) == 1
    error = capsys.readouterr().err
    assert "New-train.parquet" in error and "version 99" in error and error.count("\n") == 1


def test_a_corpus_that_changed_is_refused_on_resume(tmp_path, config, corpus, monkeypatch, capsys):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for path in corpus.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with monkeypatch.context() as patch:
        stopping_at(2, patch)
        assert main(arguments(config, tmp_path / "runs", corpus__folder=folder)) == 130
    for part in ("train", "validation"):
        (folder / f"EM-Comm-{part}.parquet").unlink()
    capsys.readouterr()
    assert main(arguments(config, tmp_path / "runs", "--resume", corpus__folder=folder)) == 1
    error = capsys.readouterr().err
    assert "the corpus has changed since (EM-Comm, digest)" in error and error.count("\n") == 1


@pytest.mark.parametrize("damage", [b"", b"\x00" * 64, json.dumps({}).encode()])
def test_a_damaged_checkpoint_is_one_line(tmp_path, config, damage, capsys):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "checkpoint.safetensors").write_bytes(damage)
    assert main(arguments(config, tmp_path, "--resume")) == 1
    error = capsys.readouterr().err
    assert "cannot be read" in error and error.count("\n") == 1


def test_a_change_on_the_command_line_must_name_its_table(config):
    with pytest.raises(UsageError, match=r"--set 'steps=2': give TABLE.KEY=VALUE"):
        read_config(config, ["steps=2"])
    assert read_config(config, ["optim.betas=[0.8, 0.9]"]).optim.betas == (0.8, 0.9)
    assert math.isclose(read_config(config, ["model.mask_share=0.5"]).autoencoder().mask_share, 0.5)
