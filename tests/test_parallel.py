"""Two processes under torchrun against one: the same losses, the same weights, the same errors."""

import subprocess
import sys

import pytest
import torch
from emind.contract.errors import UsageError
from emind_training.cli import main
from emind_training.parallel import Group, joined, layers
from emind_training.pretrain import MaskedAutoencoder
from emind_training.pretrain_config import read_config
from emind_training.pretrain_state import read_state
from pretraining_runs import arguments, logged, made_config, made_corpus, stopping_at
from safetensors.torch import load_file

STEPS = 4
CHANGES = {"optim__steps": STEPS, "corpus__weighting_every": 1}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    return made_config(folder, made_corpus(folder))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, config):
    runs = tmp_path_factory.mktemp("alone")
    assert main(arguments(config, runs, **CHANGES)) == 0
    return runs


def torchrun(config, runs, *more, processes=2, **changes):
    """`emind-train pretrain` in so many processes, which meet on a free port of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(processes),
               "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "emind_training.cli",
               *arguments(config, runs, *more, **{**CHANGES, **changes})]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def equal_runs(runs, alone):
    """Losses of every step and set, weights of the sets and the model within what float32 sums in another order do."""
    assert [step for step, _ in logged(runs)] == list(range(1, STEPS + 1))
    for key in ("loss", "reconstruction", "spectral", "norm", "signals"):
        assert [v for _, v in logged(runs, key=key)] == pytest.approx([v for _, v in logged(alone, key=key)], abs=1e-4)
    assert logged(runs, "look", "weights") == logged(alone, "look", "weights")
    for (_, sets), (_, expected) in zip(logged(runs, "look", "sets"), logged(alone, "look", "sets"), strict=True):
        assert sets == pytest.approx(expected, abs=1e-4)
    trained, expected = (load_file(folder / "r" / "r.safetensors") for folder in (runs, alone))
    assert trained.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(trained[name], value, atol=2e-4, rtol=0)


def test_two_processes_train_as_one_and_save_the_same(tmp_path, config, alone):
    done = torchrun(config, tmp_path, run__parallel="ddp")
    assert done.returncode == 0, done.stderr
    equal_runs(tmp_path, alone)
    state, tensors = read_state(tmp_path / "r" / "checkpoint.safetensors")
    one_state, one_tensors = read_state(alone / "r" / "checkpoint.safetensors")
    assert {name: value.shape for name, value in tensors.items()} == \
        {name: value.shape for name, value in one_tensors.items()}
    assert state["progress"]["loader"] == one_state["progress"]["loader"]
    assert state["progress"]["drawn"] == one_state["progress"]["drawn"]


@pytest.mark.slow
def test_shared_parameters_change_nothing(tmp_path, config, alone):
    # In two parts each: gradients are added up before they are shared.
    done = torchrun(config, tmp_path, run__parallel="fsdp", optim__accumulate=2, probe__every=2, probe__train=50,
                    probe__test=50)
    assert done.returncode == 0, done.stderr
    equal_runs(tmp_path, alone)
    assert [step for step, _ in logged(tmp_path, "probe", "accuracy")] == [0, 2, 4]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_run_that_one_process_began_goes_on_with_two(tmp_path, config, alone, monkeypatch, kind):
    with monkeypatch.context() as patch:
        stopping_at(2, patch)
        assert main(arguments(config, tmp_path, **CHANGES)) == 130
    assert len(logged(tmp_path)) in (2, 3)
    done = torchrun(config, tmp_path, "--resume", run__parallel=kind)
    assert done.returncode == 0, done.stderr
    equal_runs(tmp_path, alone)


def test_every_layer_is_shared_by_itself(config):
    model = MaskedAutoencoder(read_config(config).autoencoder())
    assert layers(model) == [*model.encoder.blocks, *model.decoder.blocks]


def test_without_torchrun_there_is_one_process_whatever_the_configuration_says(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for kind in ("none", "ddp", "fsdp"):
        with joined(kind) as group:
            assert (group.rank, group.world, group.first) == (0, 1, True)
            assert group.sum(torch.tensor([2.0])).item() == 2 and group.wrapped(model := torch.nn.Linear(1, 1)) is model


def test_several_processes_need_a_way_to_train_together(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun started 2 processes, and the configuration says"), joined("none"):
        pass


def test_rows_that_cannot_be_shared_equally_are_refused(tmp_path, config, monkeypatch):
    from emind_training.pretrain import parts_of_a_step

    read = read_config(config, ["optim.accumulate=2"])
    parts_of_a_step(read, 2)
    with pytest.raises(UsageError, match="rows 4 cannot be shared equally by 4 processes in 2 parts"):
        parts_of_a_step(read, 4)
    assert Group(rank=1, world=2).first is False
