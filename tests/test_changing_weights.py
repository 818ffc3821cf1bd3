"""Weights files that replace others in a block: real files, good, damaged and unfit."""

import numpy as np
import pmt
import pytest
import torch
from emind import inference
from emind.contract.window import HeadSpec, WindowSpec
from emind.models.checkpoint import save_weights
from emind.models.emind import nano
from emind.models.heads import MultiHead
from emind.runtime.engine import load_engine

LENGTH = 256
PATIENCE_S = 120


def save(path, labels, length=LENGTH, head="modulation"):
    torch.manual_seed(len(labels))
    model = MultiHead(nano(patch=16), {head: HeadSpec(head, "classification", labels)})
    save_weights(path, model, WindowSpec(length=length, hop=length, patch=16), {}, {}, {})
    return path


@pytest.fixture
def block(tmp_path):
    return inference(str(save(tmp_path / "old.safetensors", ("BPSK", "QPSK"))), LENGTH, backend="torch", threads=1)


def change(block, weights):
    block.set_weights(str(weights))
    assert block._weights.changer.wait(PATIENCE_S)
    return block.statistics()


def test_another_file_takes_over_with_its_own_heads(block, tmp_path):
    path = save(tmp_path / "new.safetensors", ("none", "tone", "sweep"), head="interference")
    said = change(block, path)
    assert said["weights"] == "new" and "weights_error" not in said
    windows = np.exp(2j * np.pi * np.outer(np.arange(1, 4), np.arange(LENGTH)) / 37).astype(np.complex64)
    expected = load_engine(path, "torch", 1).infer(windows, np.full(3, np.nan))
    np.testing.assert_allclose(
        block._engine.infer(windows, np.full(3, np.nan))["interference"], expected["interference"], atol=1e-6
    )


def test_garbage_a_cut_file_a_missing_one_and_another_length_leave_the_old_weights(block, tmp_path):
    good = save(tmp_path / "good.safetensors", ("BPSK", "QPSK", "8PSK"))
    (tmp_path / "garbage.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-1000])
    save(tmp_path / "long.safetensors", ("BPSK",), length=2 * LENGTH)
    for name, said in (
        ("garbage", "not a whole safetensors file"),
        ("cut", "not a whole safetensors file"),
        ("missing", "no such file"),
        ("long", f"windows of {2 * LENGTH} samples, this flowgraph cuts {LENGTH}"),
    ):
        found = change(block, tmp_path / f"{name}.safetensors")
        assert found["weights"] == "old" and said in found["weights_error"] and "\n" not in found["weights_error"]
    assert change(block, good)["weights"] == "good"


def test_a_file_that_was_refused_may_be_asked_for_again_once_it_is_mended(block, tmp_path):
    path = tmp_path / "later.safetensors"
    assert "no such file" in change(block, path)["weights_error"]
    save(path, ("BPSK", "QPSK", "8PSK"))
    assert change(block, path)["weights"] == "later"


def test_a_file_that_is_overwritten_while_its_weights_are_in_force_changes_no_answer(block, tmp_path):
    path = save(tmp_path / "kept.safetensors", ("BPSK", "QPSK", "8PSK"))
    size = path.stat().st_size
    change(block, path)
    windows = np.exp(2j * np.pi * np.outer(np.arange(1, 4), np.arange(LENGTH)) / 37).astype(np.complex64)
    before = block._engine.infer(windows, np.full(3, np.nan))
    for damage in (lambda file: file.write(b"\xff" * size), lambda file: file.truncate(10)):
        with path.open("r+b") as file:  # in place: a file that was mapped would change under the engine
            damage(file)
        after = block._engine.infer(windows, np.full(3, np.nan))
        for head, rows in before.items():
            np.testing.assert_array_equal(after[head], rows)
    path.rename(tmp_path / "damaged.safetensors")
    found = change(block, tmp_path / "damaged.safetensors")
    assert found["weights"] == "kept" and "not a whole safetensors file" in found["weights_error"]


def test_a_given_engine_runs_its_own_weights_not_those_that_the_block_would_load_by_default(tmp_path):
    path, other = (str(save(tmp_path / f"{name}.safetensors", labels))
                   for name, labels in (("given", ("BPSK", "QPSK")), ("other", ("BPSK", "QPSK", "8PSK"))))
    given = load_engine(path, "torch", 1)
    block = inference(other, LENGTH, backend="torch", threads=1, engine=given)
    assert change(block, path)["weights"] == "given" and block._engine is given  # they run already
    assert change(block, other)["weights"] == "other"  # what `weights` says is not what ran


def test_a_class_of_an_engine_without_a_file_cannot_be_enrolled_and_the_engine_goes_on(tmp_path):
    engine = load_engine(save(tmp_path / "old.safetensors", ("BPSK", "QPSK")), "torch", 1)
    engine.weights = ""  # as one that a program has made of a model in memory
    block = inference(length=LENGTH, engine=engine)
    for word in ("enrol", "remove"):
        request = {word: "sweep", "save": str(tmp_path / "new.safetensors")}
        request |= {"windows": np.ones(4 * LENGTH, np.complex64), "rate": 1e6} if word == "enrol" else {}
        block._weights.on_message(pmt.to_pmt(request))
        assert block._weights.changer.wait(PATIENCE_S)
        assert "not loaded from a weights file" in block.statistics()["weights_error"]
        assert block.statistics()["weights"] == "old" and not (tmp_path / "new.safetensors").exists()
