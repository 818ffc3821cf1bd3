"""Back ends against each other: whichever runs, the answers are the same."""

import logging
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError
from emind.contract.vocabulary import MODULATIONS
from emind.contract.window import HeadSpec, WindowSpec
from emind.models.checkpoint import save_weights
from emind.models.emind import nano
from emind.models.heads import MultiHead
from emind.runtime import engine as engines
from emind.runtime import engine_torch
from emind.runtime.engine import available_threads, load_engine
from emind_training.synthesis.air import air_batch

openvino_graph = pytest.importorskip("emind.runtime.openvino_graph")
pytest.importorskip("openvino")

TOKENIZERS = {
    "released": {"patch": 16, "channels": "iq_envelope_phase", "spectral": True},
    "paper": {"patch": 8},
    "uneven": {"patch": 12, "channels": "iq_envelope_phase"},
    "by sample": {"patch": 8, "channels": "iq_envelope_phase", "stem": "sample"},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of these tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "gr-emind"


def save(path, tokenizer="released", length=1024, seed=0, depth=4):
    torch.manual_seed(seed)
    heads = {
        "modulation": HeadSpec("modulation", "classification", MODULATIONS),
        "interference": HeadSpec("interference", "classification", ("none", "tone", "sweep")),
    }
    config = TOKENIZERS[tokenizer]
    window = WindowSpec(length=length, hop=length, patch=config["patch"])
    save_weights(path, MultiHead(replace(nano(**config), depth=depth), heads), window, {"modulation": {"temperature": 2.0}}, {}, {})
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """Of one layer: compiled in a fraction of the time."""
    return save(tmp_path_factory.mktemp("weights") / "shallow.safetensors", depth=1)


def raw(count, length=1024, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, length)) + 1j * rng.standard_normal((count, length))
    return (x * rng.uniform(1e-3, 1e3, (count, 1))).astype(np.complex64)


@pytest.mark.parametrize(("tokenizer", "length"), [
    ("released", 1024), ("paper", 512), ("uneven", 1000), ("by sample", 128)])
def test_openvino_in_float32_answers_as_torch_in_float32(tmp_path, tokenizer, length):
    where = save(tmp_path / "w.safetensors", tokenizer, length)
    windows = raw(11, length)
    rates = np.array([np.nan, 1e6, 2e6, 0.0, 1e6, 3e3, 6e7, np.nan, 1e6, 1e6, 1e6])
    expected = load_engine(where, "torch-float32").infer(windows, rates)
    answers = load_engine(where, "openvino-float32").infer(windows, rates)
    assert set(answers) == {"modulation", "interference"}
    for head in expected:
        np.testing.assert_allclose(answers[head], expected[head], atol=2e-5)


def test_openvino_and_torch_agree_on_generated_validation_windows():
    batch = air_batch(seed=77, number=0, size=600)
    answers = {
        name: load_engine("emind-nano", name).infer(batch.iq, batch.rate)["modulation"]
        for name in ("torch-float32", "torch", "openvino")
    }
    exact = answers.pop("torch-float32")
    second, first = np.sort(exact, axis=1)[:, -2:].T
    clear = first - second > 0.03
    assert np.mean(clear) > 0.9
    for found in answers.values():
        same = found.argmax(1) == exact.argmax(1)
        # About three windows of a thousand hang on the last bits of bfloat16; of six hundred, six leave room for chance.
        assert same[clear].all() and np.mean(same) >= 0.99
        apart = np.abs(found.max(1) - exact.max(1))
        assert np.mean(apart <= 0.01) >= 0.97 and apart.max() < 0.025 and apart.mean() < 0.003


@pytest.fixture(scope="module")
def warm(path):
    """An engine of one stream with graphs for batches of up to 16 windows."""
    engine = load_engine(path, "openvino-float32", threads=1)
    engine.warm_up(16)
    assert sorted(engine._graphs["pass"]._sized) == [1, 2, 3, 4, 6, 8, 12, 16]
    return engine


@pytest.mark.parametrize("count, size", [(1, 1), (4, 4), (5, 6), (7, 8), (9, 0), (11, 12), (13, 0), (14, 16), (17, 0)])
def test_a_batch_is_filled_up_by_two_windows_at_most(warm, count, size):
    assert warm._graphs["pass"]._size_for(count) == size


@pytest.mark.parametrize("count", [1, 5, 7, 9, 11, 16, 33])
def test_a_window_is_answered_the_same_in_any_batch(warm, count):
    engine = warm
    windows, rates = raw(count), np.full(count, 1e6)
    one_by_one = [engine.infer(windows[n : n + 1], rates[n : n + 1])["modulation"][0] for n in range(count)]
    np.testing.assert_allclose(engine.infer(windows, rates)["modulation"], one_by_one, atol=1e-5)


def test_answers_stay_when_the_next_batch_is_inferred(shallow):
    engine = load_engine(shallow, "openvino", threads=1)
    first = engine.infer(raw(4, seed=1), np.full(4, 1e6))["modulation"]
    kept = first.copy()
    engine.infer(raw(4, seed=2), np.full(4, 1e6))
    np.testing.assert_array_equal(first, kept)


def test_a_second_start_takes_the_compiled_graph_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    where = save(tmp_path / "w.safetensors", seed=5, depth=1)
    windows, rates = raw(3), np.full(3, 1e6)
    expected = load_engine(where, "openvino").infer(windows, rates)["modulation"]
    blobs = list(openvino_graph.cache_folder().glob("*.blob"))
    assert len(blobs) == 2  # the encoder, and the heads

    def not_again(*arguments):
        raise AssertionError("converted again")

    with monkeypatch.context() as patch:
        patch.setattr(openvino_graph, "_converted", not_again)
        np.testing.assert_array_equal(load_engine(where, "openvino").infer(windows, rates)["modulation"], expected)
    for damaged in (blobs[0].read_bytes()[:-100], b"", b"nonsense"):
        for blob in blobs:
            blob.write_bytes(damaged)
        np.testing.assert_array_equal(load_engine(where, "openvino").infer(windows, rates)["modulation"], expected)
    save(where, seed=6, depth=1)  # other weights under the same name
    other = load_engine(where, "openvino").infer(windows, rates)["modulation"]
    np.testing.assert_allclose(other, load_engine(where, "torch").infer(windows, rates)["modulation"], atol=0.02)
    assert np.abs(other - expected).max() > 1e-3


def test_a_cache_that_cannot_be_written_is_no_fault(shallow, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_engine(shallow, "openvino").infer(raw(1), np.full(1, 1e6))["modulation"].shape == (1, len(MODULATIONS))


def test_a_graph_that_cannot_be_kept_leaves_nothing_behind(shallow, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def full(*paths):
        raise OSError("disk full")

    monkeypatch.setattr(openvino_graph.os, "replace", full)
    load_engine(shallow, "openvino")
    assert list(tmp_path.glob("gr-emind/*")) == []


def test_the_cache_is_bounded(shallow, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(openvino_graph, "KEPT_GRAPHS", 1)
    load_engine(shallow, "openvino")
    load_engine(shallow, "openvino-float32")
    assert len(list(tmp_path.glob("gr-emind/*"))) == 1


def test_openvino_reports_to_nobody_neither_when_imported_nor_when_it_converts(shallow, tmp_path):
    code = (
        "import sys\n"
        "from emind.runtime import engine, openvino_graph\n"
        "openvino_graph.import_openvino()\n"
        f"engine.load_engine({str(shallow)!r}, 'openvino-float32')\n"
        "sys.exit(any(name.startswith('openvino_telemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, timeout=300)
    assert done.returncode == 0 and list(tmp_path.glob("gr-emind/*.blob"))


def test_auto_is_openvino_where_it_is_installed_and_torch_elsewhere(shallow, monkeypatch):
    assert load_engine(shallow).backend.startswith("openvino")
    monkeypatch.setattr(engines, "_has_openvino", lambda: False)
    assert load_engine(shallow).backend.startswith("torch-")
    with pytest.raises(EMindError, match="not installed"):
        load_engine(shallow, "openvino")


def test_every_back_end_keeps_to_the_threads_of_the_machine(shallow):
    for backend in ("openvino", "torch"):
        assert load_engine(shallow, backend, threads=1000).threads == available_threads()
    engine = load_engine(shallow, "openvino", threads=1)
    assert engine._graphs["pass"].any_size.get_property("INFERENCE_NUM_THREADS") == 1


def test_without_a_compiler_the_eager_back_end_runs_and_a_line_says_so(path, monkeypatch, caplog):
    monkeypatch.setattr(engine_torch.shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING, "emind"):
        engine = load_engine(path, "torch-compiled")
    assert engine.backend == load_engine(path, "torch").backend
    (record,) = caplog.records
    assert "no C++ compiler" in record.getMessage() and "\n" not in record.getMessage()


@pytest.mark.slow
def test_the_compiled_layers_answer_as_the_eager_ones(path):
    windows, rates = raw(40), np.full(40, 1e6)
    engine = load_engine(path, "torch-compiled")
    assert engine.backend.startswith("torch-compiled")
    for count in (1, 8, 40):
        answers = engine.infer(windows[:count], rates[:count])["modulation"]
        expected = load_engine(path, "torch").infer(windows[:count], rates[:count])["modulation"]
        np.testing.assert_allclose(answers, expected, atol=0.01)


def test_an_engine_leaves_the_threads_stack_for_signals_alone(shallow):
    """The processor's plug-in once gave the main thread one that it later freed: the next signal was a crash."""
    program = (
        "import ctypes, gc, os, signal, sys\n"
        "from emind.runtime.engine import load_engine\n"
        "class Stack(ctypes.Structure):\n"
        "    _fields_ = [('place', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]\n"
        "def now():\n"
        "    stack = Stack()\n"
        "    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0\n"
        "    return stack.place, stack.flags, stack.size\n"
        "before = now()\n"
        "for _ in range(2):\n"
        f"    engine = load_engine({str(shallow)!r}, 'openvino')\n"
        "    assert now() == before, (before, now())\n"
        "    del engine; gc.collect()\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "signal.pause()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 7, done.stderr
