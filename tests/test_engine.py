"""The engine: raw numpy windows in, calibrated answers out."""

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError, UsageError
from emind.contract.vocabulary import MODULATIONS
from emind.contract.window import HeadSpec, WindowSpec
from emind.dsp.normalise import max_abs
from emind.models.checkpoint import save_weights
from emind.models.emind import nano
from emind.models.heads import MultiHead
from emind.runtime.engine import available_threads, load_engine, load_naive
from emind.runtime.weights import resolve


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    heads = {"modulation": HeadSpec("modulation", "classification", MODULATIONS)}
    model = MultiHead(nano(patch=16, channels="iq_envelope_phase", spectral=True), heads)
    where = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(where, model, WindowSpec(patch=16), {"modulation": {"temperature": 2.0}}, {}, {})
    return where


def raw(count, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 1024)) + 1j * rng.standard_normal((count, 1024))
    return (x * rng.uniform(1e-3, 1e3, (count, 1))).astype(np.complex64)


def test_probabilities_sum_to_one_for_every_head(path):
    answers = load_engine(path).infer(raw(5), np.full(5, np.nan))["modulation"]
    assert answers.shape == (5, len(MODULATIONS)) and answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)


def test_bfloat16_and_float32_agree(path):
    windows, rates = raw(64), np.full(64, 1e6)
    full = load_engine(path, backend="torch-float32").infer(windows, rates)["modulation"]
    half = load_engine(path, backend="torch-bfloat16").infer(windows, rates)["modulation"]
    assert np.abs(full - half).max() < 0.01


@pytest.mark.parametrize("count", [1, 7, 16, 33])
def test_splitting_a_batch_over_streams_changes_nothing(path, count):
    windows, rates = raw(count), np.full(count, np.nan)
    one = load_engine(path, backend="torch-float32", threads=1).infer(windows, rates)["modulation"]
    all_ = load_engine(path, backend="torch-float32").infer(windows, rates)["modulation"]
    np.testing.assert_allclose(one, all_, atol=1e-5)


def test_the_temperature_softens_the_answers(path):
    window = raw(1)
    calibrated = load_engine(path, backend="torch-float32").infer(window, np.array([np.nan]))["modulation"][0]
    bare = load_naive(path)(window[0])["modulation"]
    expected = bare**0.5 / (bare**0.5).sum()  # temperature 2
    np.testing.assert_allclose(calibrated, expected, atol=1e-4)


def test_answers_do_not_depend_on_the_level(path):
    engine = load_engine(path, backend="torch-float32")
    window = raw(1)
    a, b = (engine.infer(window * np.float32(gain), np.array([np.nan]))["modulation"] for gain in (1, 1e-6))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_threads_are_never_more_than_the_machine_has(path):
    assert load_engine(path, threads=1000).threads == available_threads()


def test_windows_of_another_length_are_refused(path):
    with pytest.raises(ValueError, match="1024"):
        load_engine(path).infer(raw(2)[:, :512], np.full(2, np.nan))


def test_an_unknown_back_end_is_an_error_that_lists_the_known(path):
    for weights in (path, "no/such.safetensors"):  # told before weights are read
        with pytest.raises(UsageError, match="torch-float32"):
            load_engine(weights, backend="abacus")


def test_an_unknown_name_is_an_error_that_says_what_there_is():
    with pytest.raises(EMindError, match="give the path of a .safetensors file"):
        resolve("emind-enormous")


def test_normalisation_is_by_the_largest_magnitude_and_keeps_zero():
    windows = np.array([[3 + 4j, 1], [0, 0], [1e30 + 1e30j, 1e29]], np.complex64)
    parts = max_abs(windows)
    np.testing.assert_allclose(parts[0], [[0.6, 0.8], [0.2, 0]], atol=1e-6)
    assert not parts[1].any()
    assert np.isfinite(parts).all()
    np.testing.assert_allclose(np.hypot(*parts[2, 0]), 1, atol=1e-6)
