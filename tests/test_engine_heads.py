"""Heads of every kind through every back end: their answers are those of the bare model, in the user's units."""

import numpy as np
import pytest
import torch
from emind.contract.answers import read
from emind.contract.errors import EMindError
from emind.contract.window import RADAR_PARAMETERS, Domain, WindowSpec
from emind.models.checkpoint import load_weights
from emind.runtime.engine import load_engine, load_naive
from emind.runtime.header import speaking_heads
from emind.runtime.ring import Ring
from several_heads import HEADS, LENGTH, TEMPERATURES, bare, raw, save

COUNT = 19
RATES = np.where(np.arange(COUNT) % 3 == 0, np.nan, 1e6)
BACKENDS = ["torch-float32", "openvino-float32", "torch-bfloat16", "openvino"]
# Of the exact answers: probabilities, values as a share of their range, waveforms as a share of their peak.
TOLERANCE = {"torch-float32": 1e-5, "openvino-float32": 5e-5, "torch-bfloat16": 0.04, "openvino": 0.04,
             "torch-compiled": 0.04}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of these tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save(tmp_path_factory.mktemp("weights") / "all.safetensors", unknown=("modulation", "radar"))


@pytest.fixture(scope="module")
def windows():
    return raw(COUNT)


@pytest.fixture(scope="module")
def expected(path, windows):
    """From the bare model and the header, by the definitions, in float64."""
    model, _, header = load_weights(path)
    out = {}
    for name, outputs in bare(model, windows, RATES).items():
        head, values = HEADS[name], outputs.double().numpy()
        if head.kind == "reconstruction":
            peak = np.abs(windows).max(axis=1)[:, None, None].astype(float)
            out[name] = (values[..., 0] + 1j * values[..., 1]) * peak
            continue
        logits = values[:, : len(head.labels)] / TEMPERATURES.get(name, 1.0)
        parts = []
        if head.labels:
            odds = np.exp(logits)
            parts.append(odds / odds.sum(1, keepdims=True))
            if name in ("modulation", "radar"):
                threshold = header["calibration"][name]["unknown"]["threshold"]
                parts.append(1 / (1 + odds.sum(1, keepdims=True) * np.exp(-threshold)))
        ranges = [(p.low, p.high) for p in head.parameters]
        for (low, high), column in zip(ranges, values[:, len(head.labels) :].T):
            parts.append((low + (high - low) * column.clip(0, 1))[:, None])
        out[name] = np.concatenate(parts, 1)
    return out


def same(answers, expected, tolerance):
    assert set(answers) == set(expected)
    for name, head in HEADS.items():
        found, wanted = answers[name], expected[name]
        assert found.shape == wanted.shape
        if head.kind == "reconstruction":
            assert found.dtype == np.complex64
            scale = np.abs(wanted).max(axis=(1, 2), keepdims=True)
        else:
            assert found.dtype == np.float32
            scale = np.ones(wanted.shape[1])
            for place, parameter in enumerate(reversed(head.parameters)):
                scale[-1 - place] = parameter.high - parameter.low
        assert np.abs((found - wanted) / scale).max() < tolerance, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_kind_of_head_answers_as_the_bare_model(path, windows, expected, backend):
    if backend.startswith("openvino"):
        pytest.importorskip("openvino")
    engine = load_engine(path, backend)
    assert engine.heads == HEADS
    same(engine.infer(windows, RATES), expected, TOLERANCE[backend])


@pytest.mark.slow
def test_the_compiled_back_end_answers_for_every_kind_of_head(path, windows, expected):
    engine = load_engine(path, "torch-compiled")
    assert engine.backend.startswith("torch-compiled")
    for count in (1, 5, COUNT):
        parts = engine.infer(windows[:count], RATES[:count])
        same(parts, {name: rows[:count] for name, rows in expected.items()}, TOLERANCE["torch-compiled"])


def test_what_is_expected_says_something(expected):
    words = {name: read(HEADS[name], expected[name]) for name in ("modulation", "technology", "radar", "anomaly")}
    for name, said in words.items():
        assert len(set(said.labels)) > 1, name
    for name in ("modulation", "radar"):
        assert 0 < words[name].unknown.sum() < COUNT
    assert not words["technology"].unknown.any()
    spans = [p.high - p.low for p in RADAR_PARAMETERS]
    assert (words["radar"].values.std(axis=0) > 0.05 * np.array(spans)).all()


def test_labels_and_confidences_are_read_off_the_rows():
    row = [[0.1, 0.7, 0.2, 0.4, 3, 1e-5, 2e-5, 3e-6], [0.1, 0.7, 0.2, 0.6, 3, 1e-5, 2e-5, 3e-6]]
    said = read(HEADS["radar"], np.array(row))
    assert [said.names[place] for place in said.labels] == ["Barker", "unknown"]
    np.testing.assert_array_equal(said.confidences, [0.7, 0.6])
    np.testing.assert_array_equal(said.unknown, [False, True])
    np.testing.assert_array_equal(said.values[0], [3, 1e-5, 2e-5, 3e-6])
    bare_values = read(HEADS["rate"], np.array([[1e-5, 2e-5]]))
    assert bare_values.names == () and np.isnan(bare_values.confidences).all() and not bare_values.unknown.any()
    with pytest.raises(ValueError, match="columns"):
        read(HEADS["radar"], np.zeros((2, 9)))


def test_a_waveform_is_on_the_scale_of_the_input_and_in_its_place(path, windows):
    engine = load_engine(path, "torch-float32", heads=["denoise"])
    with torch.no_grad():  # a head that corrects nothing gives back its input
        for parameter in engine._model.heads["denoise"].values.parameters():
            parameter.zero_()
    found = engine.infer(windows, RATES)["denoise"]
    assert found.shape == (COUNT, 1, LENGTH)
    np.testing.assert_allclose(found[:, 0] / np.abs(windows).max(1)[:, None],
                               windows / np.abs(windows).max(1)[:, None], atol=1e-6)


def test_in_bfloat16_the_input_itself_is_not_rounded(path, windows):
    for backend in ("torch-bfloat16", "openvino"):
        if backend == "openvino":
            pytest.importorskip("openvino")
        engine, exact = (load_engine(path, name, heads=["denoise"]) for name in (backend, "torch-float32"))
        found, wanted = (each.infer(windows, RATES)["denoise"][:, 0] for each in (engine, exact))
        correction = wanted - windows
        assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(correction)


def test_only_the_heads_asked_for_are_run_and_their_answers_stay(path, windows, expected, monkeypatch):
    from emind.models.heads import AnomalyHead, ReconstructionHead

    for kind in (AnomalyHead, ReconstructionHead):
        monkeypatch.setattr(kind, "forward", lambda *_: pytest.fail("a head that nobody asked for was run"))
        if kind is ReconstructionHead:
            monkeypatch.setattr(kind, "latent", lambda *_: pytest.fail("a head that nobody asked for was run"))
    for backend in ("torch-float32", "openvino-float32"):
        if backend.startswith("openvino"):
            pytest.importorskip("openvino")
        engine = load_engine(path, backend, heads=("radar", "modulation"))
        assert list(engine.heads) == ["modulation", "radar"]
        answers = engine.infer(windows, RATES)
        assert set(answers) == {"modulation", "radar"}
        np.testing.assert_allclose(answers["modulation"], expected["modulation"], atol=5e-5)
    assert set(load_naive(path, heads=["technology"])(windows[0])) == {"technology"}


def test_a_head_that_the_weights_lack_is_an_error_that_lists_theirs(path):
    with pytest.raises(EMindError, match="no head 'colour'; its heads: modulation, technology, radar"):
        load_engine(path, "torch", heads=["modulation", "colour"])
    with pytest.raises(EMindError, match="no head; its heads"):
        load_engine(path, "torch", heads=[])


def test_heads_that_make_waveforms_do_not_speak(path):
    assert speaking_heads(path) == ["modulation", "technology", "radar", "rate", "anomaly"]


def test_a_heads_domain_is_what_the_header_says_of_it_or_of_the_file_that_it_came_from(tmp_path):
    first = {"heads": {"anomaly": {"length": 128, "rates_hz": [1e6, 2e6]}}}
    second = {"heads": {"technology": {"length": LENGTH, "rates_hz": None}},
              "kept_heads": {"heads": ["anomaly", "modulation"], "of": "first", "training": first}}
    training = {"heads": {"radar": {"length": 512, "rates_hz": [3.2e6, 3.2e6]}},
                "kept_heads": {"heads": ["anomaly", "modulation", "technology"], "of": "second", "training": second}}
    domains = load_engine(save(tmp_path / "w.safetensors", training=training), "torch-float32").domains
    assert domains["radar"] == Domain(512, 3.2e6, 3.2e6)
    assert domains["anomaly"] == Domain(128, 1e6, 2e6)
    assert domains["technology"] == Domain(LENGTH)
    assert domains["modulation"] == Domain(LENGTH, 1e4, 1e7)  # nothing is said of it but the file's window


def test_a_domain_covers_its_length_and_rates_and_an_unknown_rate():
    domain = Domain(512, 3.2e6, 3.2e6)
    assert domain.covers(512, 3.2e6) and domain.covers(512, 3.2001e6) and domain.covers(512, float("nan"))
    assert not (domain.covers(512, 3e6) or domain.covers(512, 3.3e6) or domain.covers(1024, 3.2e6))
    assert Domain(512).covers(512, 1.0)
    assert str(domain) == "windows of 512 samples at 3.2e+06 samples a second"
    whole = Domain.of_heads(["x"], WindowSpec(length=64, hop=64), {"seed": 1})
    assert str(whole["x"]) == "windows of 64 samples at any rate"


@pytest.mark.parametrize("training", [{"heads": {"radar": {}}}, {"heads": {"radar": {"length": "long"}}},
                                      {"heads": {"radar": {"length": 8, "rates_hz": 5}}}, {"heads": ["radar"]}])
def test_a_header_whose_domains_cannot_be_read_is_an_error_of_one_line(tmp_path, training):
    with pytest.raises(EMindError, match="header") as caught:
        load_engine(save(tmp_path / "w.safetensors", training=training), "torch-float32")
    assert "\n" not in str(caught.value)


def test_the_ring_keeps_rows_of_any_shape_and_type():
    ring = Ring(5, 4)
    waves = np.arange(2 * 2 * 4).reshape(2, 2, 4) * 1j
    ring.answer(4, 2, {"waves": waves.astype(np.complex64), "words": np.ones((2, 3), np.float32)}, engine=1)
    np.testing.assert_array_equal(ring.answers[1]["waves"][[4, 0]], waves)
    assert ring.answers[1]["waves"].dtype == np.complex64 and ring.answers[1]["words"].shape == (5, 3)
    with pytest.raises(ValueError, match="waves"):
        ring.answer(0, 3, {"waves": waves.astype(np.complex64)}, engine=1)
