"""Weights files that replace others in a block: real files, good, damaged and unfit."""

import numpy as np
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
