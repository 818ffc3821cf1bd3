"""Enrolled classes: old answers stay, new ones are known, the report is right, and all of it can be undone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from emind.contract.errors import EMindError  # noqa: E402
from emind.contract.schema import Signal  # noqa: E402
from emind.contract.window import PROTOTYPES, HeadSpec, WindowSpec  # noqa: E402
from emind.dsp.normalise import NORMALISE  # noqa: E402
from emind.dsp.views import OFFSET, views  # noqa: E402
from emind.models.checkpoint import load_weights, save_weights  # noqa: E402
from emind.models.emind import EncoderConfig  # noqa: E402
from emind.models.heads import MultiHead  # noqa: E402
from emind.models.prototypes import Enrolled, main_components, reference_head, with_windows  # noqa: E402
from emind.runtime.engine import load_engine  # noqa: E402
from emind.runtime.enrolling import base_name, enrol, features_of, features_of_views, spectral_of  # noqa: E402
from emind.storage.parquet import Writer  # noqa: E402

LENGTH = 1024
FLOAT = ("--backend", "torch-float32")  # as the reference was made: twins differ by less than bfloat16 does


def noise(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, LENGTH, 2)) @ [1, 1j]).astype(np.complex64)


def known(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four kinds of windows that stand for known classes, and their numbers: noise, QPSK, two rates of 2ASK."""
    rng = np.random.default_rng(seed)
    kind, windows = rng.integers(0, 4, count), 0.2 * noise(count, seed + 1)
    for row, which in enumerate(kind):
        if which:
            points = np.exp(0.5j * np.pi * rng.integers(0, 4, LENGTH)) if which == 1 else rng.integers(0, 2, LENGTH)
            windows[row] += np.repeat(points, (8, 8, 32, 8)[which])[:LENGTH] if which != 3 else \
                np.repeat(points, 64)[:LENGTH]
    return windows, kind


def chirps(count: int, seed: int, slope: float = 0.3) -> np.ndarray:
    """A kind that nobody knows: sweeps."""
    time = np.arange(LENGTH) % 256 / 256 - 0.5
    return (np.exp(2j * np.pi * np.cumsum(slope * time)) + 0.2 * noise(count, seed)).astype(np.complex64)


@pytest.fixture(scope="module")
def weights(small_weights, tmp_path_factory) -> Path:
    """The small untrained weights with a reference of the four known kinds."""
    model, window, header = load_weights(small_weights)
    windows, kind = known(900, 3)
    features = features_of(model, window, header, windows, np.full(900, 1e6), "torch-float32")
    made = reference_head(model.encoder.config.width, features, torch.from_numpy(kind), 500, 3)
    spec = HeadSpec(base_name("modulation"), PROTOTYPES, (), centres=len(made.known_OF), extends="modulation",
                    references=500)
    model.specs[spec.name], model.heads[spec.name] = spec, made
    header["training"]["reference"] = {"classes": ["noise", "QPSK", "OOK fast", "OOK slow"]}
    path = tmp_path_factory.mktemp("enrol") / "base.safetensors"
    save_weights(path, model, window, header["calibration"], header["training"], header["figures"])
    return path


def parquet(path: Path, windows: np.ndarray, **labels) -> Path:
    with Writer(path, origin="test") as writer:
        for window in windows:
            writer.write(Signal(window, sampling_rate=1e6, **labels))
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return parquet(tmp_path_factory.mktemp("rows") / "chirp.parquet", chirps(8, 20), modulation="sweep")


@pytest.fixture
def enrolled(emind, weights, recording, tmp_path) -> tuple[Path, dict]:
    out = tmp_path / "more.safetensors"
    told = emind("enrol", "sweep", recording, "--weights", weights, "--out", out, "--json", "--backend",
                 "torch-float32")
    assert told.status == 0, told.err
    return out, json.loads(told.out)


def answers(path: Path, windows: np.ndarray, backend: str = "torch-float32"):
    engine = load_engine(path, backend, 1)
    rows = engine.infer(windows, np.full(len(windows), 1e6))
    engine.close()
    return engine.heads, rows


def test_a_reference_alone_changes_nothing(small_weights, weights):
    windows, _ = known(64, 9)
    before, after = answers(small_weights, windows), answers(weights, windows)
    assert before[0] == after[0]
    assert np.array_equal(before[1]["modulation"], after[1]["modulation"])


@pytest.mark.parametrize("backend", ["torch-float32", "openvino-float32"])
def test_the_new_class_is_answered_and_old_answers_stay_to_the_bit(weights, enrolled, backend):
    if backend.startswith("openvino"):
        pytest.importorskip("openvino")
    path, _ = enrolled
    new, (old, _) = chirps(40, 77), known(1500, 55)
    heads, rows = answers(path, new, backend)
    labels = heads["modulation"].labels
    assert labels[-1] == "sweep" and list(heads) == ["modulation"]
    picked = rows["modulation"].argmax(axis=1)
    assert np.mean(picked == len(labels) - 1) >= 0.9
    assert rows["modulation"].sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    before, after = answers(weights, old, backend)[1]["modulation"], answers(path, old, backend)[1]["modulation"]
    changed = after[:, :-1].argmax(axis=1) != before.argmax(axis=1)
    changed |= after[:, -1] > 0
    assert changed.mean() <= 0.005
    assert np.array_equal(after[~changed][:, :-1], before[~changed])


def test_the_report_names_what_it_would_be_confused_with(enrolled, weights, recording):
    path, report = enrolled
    assert report["name"] == "sweep" and report["windows"] == 8 and report["recognised"] >= 0.75
    assert report["changed"] <= 0.005 and sum(report["before"].values()) == pytest.approx(1.0)
    assert set(report["resembles"]) <= {"noise", "QPSK", "OOK fast", "OOK slow"} and len(report["resembles"]) == 3
    _, _, header = load_weights(path)
    assert header["figures"]["enrolled"]["modulation"]["sweep"]["windows"] == 8


def test_a_class_like_a_known_one_is_said_to_be_so_and_old_answers_stay_all_the_same(emind, weights, tmp_path):
    windows, kind = known(200, 91)
    twin = parquet(tmp_path / "twin.parquet", windows[kind == 1][:10])
    out = tmp_path / "twin.safetensors"
    told = emind("enrol", "my QPSK", twin, "--weights", weights, "--out", out, "--json")
    report = json.loads(told.out)
    assert next(iter(report["resembles"])) == "QPSK" and report["recognised"] < 0.5
    assert "too much like QPSK" in report["remarks"][0] and report["changed"] <= 0.005


def test_two_classes_compete_and_a_twin_of_an_enrolled_one_is_said_to_be_so(emind, enrolled, tmp_path):
    path, _ = enrolled
    steep = parquet(tmp_path / "steep.parquet", chirps(8, 30, 0.9))
    same = parquet(tmp_path / "same.parquet", chirps(8, 31))
    first = emind("enrol", "steep", steep, "--weights", path, "--out", path, "--json", *FLOAT)
    assert first.status == 0 and not json.loads(first.out)["taken_for"]
    heads, rows = answers(path, np.concatenate([chirps(20, 40), chirps(20, 41, 0.9)]))
    picked = np.array(heads["modulation"].labels)[rows["modulation"].argmax(axis=1)]
    assert np.mean(picked[:20] == "sweep") >= 0.8 and np.mean(picked[20:] == "steep") >= 0.8
    told = emind("enrol", "again", same, "--weights", path, "--out", tmp_path / "other.safetensors", *FLOAT)
    assert "hard to tell from sweep" in told.out


def test_what_was_enrolled_can_be_taken_away_again(emind, weights, enrolled, tmp_path):
    path, _ = enrolled
    undone = tmp_path / "undone.safetensors"
    assert emind("enrol", "sweep", "--remove", "--weights", path, "--out", undone).status == 0
    (model, _, header), (first, _, _) = load_weights(undone), load_weights(weights)
    assert model.specs == first.specs and not header["figures"]["enrolled"]["modulation"]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in first.state_dict().items())
    again = emind("enrol", "sweep", "--remove", "--weights", undone, "--out", undone)
    assert again.status == 1 and "is not enrolled" in again.err


def test_an_emitter_gets_a_head_of_its_own_which_knows_nothing_else(emind, weights, recording, tmp_path):
    out = tmp_path / "emitter.safetensors"
    assert emind("enrol", "node 7", recording, "--weights", weights, "--out", out, "--head", "emitter").status == 0
    heads, rows = answers(out, np.concatenate([chirps(20, 50), known(20, 51)[0]]))
    assert heads["emitter"].labels == ("node 7", "unknown")
    picked = rows["emitter"].argmax(axis=1)
    assert np.mean(picked[:20] == 0) >= 0.9 and np.mean(picked[20:] == 1) >= 0.9
    assert np.array_equal(rows["modulation"], answers(weights, np.concatenate([chirps(20, 50), known(20, 51)[0]]))[1]
                          ["modulation"])


def enrolled_of(weights: Path, windows: np.ndarray) -> Enrolled:
    model, window, header = load_weights(weights)
    head, rates = model.heads[base_name("modulation")], np.full(len(windows), 1e6)
    own = features_of(model, window, header, windows, rates, "torch-float32")
    return Enrolled(head.whitened(own), head.whitened(features_of_views(model, window, header, windows, rates, 4,
                                                                        "torch-float32")))


def test_the_order_of_enrolment_does_not_matter(weights):
    head = load_weights(weights)[0].heads[base_name("modulation")]
    one, two = enrolled_of(weights, chirps(6, 1)), enrolled_of(weights, chirps(6, 2, 0.9))
    probe = enrolled_of(weights, chirps(9, 5)).windows
    ab, ba = with_windows(head, [one, two]).of_whitened(probe), with_windows(head, [two, one]).of_whitened(probe)
    assert torch.allclose(ab, ba.flip(1), atol=1e-4)


def test_windows_and_views_come_back_as_they_were_enrolled(weights):
    head = load_weights(weights)[0].heads[base_name("modulation")]
    one, two = enrolled_of(weights, chirps(6, 1)), enrolled_of(weights, chirps(3, 2, 0.9))
    bare = Enrolled(two.windows, two.views[:, :0])
    both = with_windows(head, [one, bare])
    for given, back in ((one, Enrolled.of(both, 0)), (bare, Enrolled.of(both, 1))):
        assert torch.equal(given.windows, back.windows) and given.views.shape == back.views.shape
        assert torch.allclose(given.views, back.views, rtol=1e-3, atol=1e-3)  # kept as half floats


def test_a_class_enrolled_before_there_were_views_answers_as_it_did(weights, tmp_path):
    model, window, header = load_weights(weights)
    spec, head = model.specs[base_name("modulation")], model.heads[base_name("modulation")]
    old = with_windows(head, [Enrolled(enrolled_of(weights, chirps(6, 1)).windows, torch.zeros(6, 0, 1))])
    model.heads[spec.name] = old
    model.specs[spec.name] = HeadSpec(**{**vars(spec), "labels": ("sweep",), "windows": 6})
    assert "views" not in model.specs[spec.name].to_dict() and not [k for k in old.state_dict() if "view" in k]
    path = tmp_path / "old.safetensors"
    save_weights(path, model, window, header["calibration"], header["training"], header["figures"])
    heads, rows = answers(path, chirps(20, 77))
    assert np.mean(rows["modulation"].argmax(axis=1) == heads["modulation"].labels.index("sweep")) >= 0.8


@pytest.mark.parametrize("backend", ["torch-float32", "openvino-float32"])
def test_a_head_that_sees_spectral_components_is_answered_as_the_model_answers_it(backend, tmp_path):
    if backend.startswith("openvino"):
        pytest.importorskip("openvino")
    torch.manual_seed(2)
    heads = {"modulation": HeadSpec("modulation", "classification", ("a", "b", "c"))}
    model = MultiHead(EncoderConfig(width=32, depth=1, heads=1, patch=16, channels="iq", spectral=True), heads).eval()
    window, header = WindowSpec(patch=16), {"figures": {}, "training": {}, "calibration": {"modulation": {}}}
    windows, kind = known(400, 3)
    rates = np.full(400, 1e6)
    component_XY = main_components(spectral_of(window, windows), 8)
    features = features_of(model, window, header, windows, rates, "torch-float32", component_XY)
    made = reference_head(32, features, torch.from_numpy(kind), 200, 2, component_XY=component_XY).eval()
    spec = HeadSpec(base_name("modulation"), PROTOTYPES, (), centres=len(made.known_OF), extends="modulation",
                    references=200, components=8)
    model.specs[spec.name], model.heads[spec.name] = spec, made
    enrol(model, window, header, "sweep", chirps(8, 20), rates[:8], backend="torch-float32")
    path = tmp_path / "spectral.safetensors"
    save_weights(path, model, window, header["calibration"], header["training"], header["figures"])
    probe = np.concatenate([chirps(10, 40), known(10, 41)[0]])
    rows = answers(path, probe, backend)[1]["modulation"]
    with torch.no_grad():
        iq_BL2 = torch.from_numpy(NORMALISE[window.normalisation](probe))
        logit_B = load_weights(path)[0](iq_BL2, torch.full((20,), 1e6))[spec.name][:, 0]
    assert np.allclose(rows[:, 3], np.where(logit_B > 0, torch.sigmoid(logit_B), 0.0), atol=0.02)
    assert np.mean(rows[:10, 3] > 0.5) >= 0.8 and np.mean(rows[10:, 3] > 0.5) <= 0.1


def test_views_keep_the_signal_and_change_what_must_not_count():
    windows = chirps(20, 8)
    seen = views(windows, 4, seed=1)
    assert seen.shape == (20, 4, LENGTH) and seen.dtype == np.complex64
    assert np.array_equal(seen, views(windows, 4, seed=1)) and not np.array_equal(seen, views(windows, 4, seed=2))
    power, before = np.mean(np.abs(seen) ** 2, axis=2), np.mean(np.abs(windows) ** 2, axis=1)
    added_db = -10 * np.log10(np.mean(power / before[:, None] - 1.0, axis=0))
    assert added_db == pytest.approx([18.0, 13.0, 8.0, 3.0], abs=1.0)
    # The quietest view is the window, turned round and a little aside: the largest correlation is nearly whole.
    aside = np.exp(2j * np.pi * np.linspace(-OFFSET, OFFSET, 81)[:, None] * np.arange(LENGTH))
    for window, view in zip(windows, seen[:, 0]):
        spectra = np.fft.fft(view * aside) * np.conj(np.fft.fft(window))
        assert np.abs(np.fft.ifft(spectra)).max() >= 0.85 * np.linalg.norm(window) * np.linalg.norm(view)


def test_rows_are_chosen_by_label_and_raw_recordings_by_their_power(emind, weights, tmp_path, raw):
    mixed = tmp_path / "mixed.parquet"
    with Writer(mixed, origin="test") as writer:
        for k, window in enumerate(chirps(6, 60)):
            writer.write(Signal(window, sampling_rate=1e6, device_id="a" if k % 2 else "b",
                                num_pulses=4 if k < 4 else 5, snr=12.5 if k % 2 else None))
    for where, count in ((["device_id=a"], 3), (["num_pulses=4"], 4), (["snr=12.5", "num_pulses=4.0"], 2)):
        told = emind("enrol", "x", mixed, *(word for text in where for word in ("--where", text)), "--weights",
                     weights, "--out", tmp_path / "o.safetensors", "--json")
        assert json.loads(told.out)["windows"] == count
    pauses = np.concatenate([0.01 * noise(20, 61), chirps(5, 62)]).ravel()
    told = emind("enrol", "x", raw(pauses), "--rate", "1e6", "--no-tune", "--weights", weights, "--out",
                 tmp_path / "o.safetensors", "--json")
    assert json.loads(told.out)["windows"] == 5


def test_rows_of_noise_that_a_recorder_labelled_as_the_signal_are_left_out(emind, weights, tmp_path):
    """Around an event the recorder keeps noise, which bears the signal's label; its SNR tells."""
    pytest.importorskip("pmt")
    from emind.weights_pmt import EnrolRequest

    labelled, unmeasured = tmp_path / "labelled.parquet", tmp_path / "unmeasured.parquet"
    parts = np.concatenate([0.01 * noise(12, 63), chirps(9, 64), 0.01 * noise(9, 65)])
    snrs = np.repeat([-15.0, 20.0, -12.0], [12, 9, 9])
    for path, measured in ((labelled, True), (unmeasured, False)):
        with Writer(path, origin="test") as writer:
            for window, snr in zip(parts, snrs, strict=True):
                writer.write(Signal(window, sampling_rate=1e6, modulation="x", snr=snr if measured else None))
        for most, count in ((200, 9), (6, 6))[: 1 + measured]:
            told = emind("enrol", "x", path, "--most", most, "--weights", weights, "--out",
                         tmp_path / "o.safetensors", "--json")
            assert json.loads(told.out)["windows"] == count
        windows, rates = EnrolRequest("x", "", recording=str(path))._windows(LENGTH)
        assert np.array_equal(windows, parts[12:21]) and set(rates) == {1e6}


def test_where_no_row_is_above_the_noise_all_are_taken(tmp_path):
    pytest.importorskip("pmt")
    from emind.weights_pmt import EnrolRequest

    path = tmp_path / "full.parquet"
    parquet(path, chirps(5, 66), snr=-3.0)
    assert len(EnrolRequest("x", "", recording=str(path))._windows(LENGTH)[0]) == 5


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (["QPSK", "R"], 1, "has that label already"),
    (["x"], 2, "give recordings"),
    (["x", "R", "--remove"], 2, "give recordings"),
    (["x", "R", "--where", "colour=red"], 2, "COLUMN=VALUE"),
    (["x", "R", "--where", "snr=abc"], 2, "--where snr=abc: snr is a number"),
    (["x" * 65, "R"], 1, "1 to 64 characters"),
    (["line\nbreak", "R"], 1, "characters that can be printed"),
    (["", "R"], 1, "1 to 64 characters"),
    (["x", "R", "--where", "modulation=QAM"], 1, "no window that holds a signal"),
    (["x", "R", "--most", "1"], 1, "needs 2 at least"),
    (["x", "R", "--out", "here.bin"], 2, "ends in .safetensors"),
    (["x", "nowhere.parquet"], 1, "no such file"),
])
def test_mistakes_are_one_clear_line(emind, weights, recording, tmp_path, arguments, status, words):
    given = [recording if word == "R" else word for word in arguments]
    out = [] if "--out" in given else ["--out", tmp_path / "o.safetensors"]
    told = emind("enrol", *given, "--weights", weights, *out)
    assert told.status == status and words in told.err and len(told.err.strip().splitlines()) == 1
    assert not (tmp_path / "o.safetensors").exists()


def test_weights_without_a_reference_say_how_to_get_one(emind, small_weights, recording, tmp_path):
    told = emind("enrol", "x", recording, "--weights", small_weights, "--out", tmp_path / "o.safetensors")
    assert told.status == 1 and "emind-train reference" in told.err


def test_names_that_are_refused_are_refused_before_anything_is_computed(weights):
    model, window, header = load_weights(weights)
    with pytest.raises(EMindError, match="that label already"):
        enrol(model, window, header, "noise", np.zeros((3, 7), np.complex64), np.zeros(3))


def test_a_message_enrols_in_a_running_block_and_a_bad_one_leaves_the_old_weights(weights, recording, tmp_path):
    pytest.importorskip("gnuradio")
    import pmt
    from emind import inference
    from gnuradio import blocks, gr

    samples = chirps(12, 70)
    block = inference(weights=str(weights), length=LENGTH, backend="torch-float32", sample_rate=1e6)
    save = tmp_path / "live.safetensors"
    block._weights.on_message(pmt.to_pmt({"enrol": "sweep", "recording": str(recording), "save": str(save)}))
    assert block._weights.changer.wait(120) and block.statistics()["weights"] == "live"
    block._weights.on_message(pmt.to_pmt({"enrol": "other", "recording": "nowhere.parquet", "save": str(save)}))
    assert block._weights.changer.wait(120) and "no such file" in block.statistics()["weights_error"]
    top = gr.top_block()
    sink, tags = blocks.null_sink(8 * LENGTH), blocks.tag_debug(8 * LENGTH, "", "emind_modulation")
    tags.set_display(False)
    tags.set_save_all(True)
    top.connect(blocks.vector_source_c(samples.ravel().tolist(), False, LENGTH), block, sink)
    top.connect(block, tags)
    top.run()
    labels = [pmt.to_python(tag.value)["label"] for tag in tags.current_tags()]
    assert len(labels) == 12 and labels.count("sweep") >= 10
    block._weights.on_message(pmt.to_pmt({"remove": "sweep", "save": str(save)}))
    assert block._weights.changer.wait(120) and "sweep" not in block._engine.heads["modulation"].labels


def test_a_message_may_carry_the_samples_and_one_that_lacks_something_is_refused():
    pmt = pytest.importorskip("pmt")
    from emind.weights_pmt import read_enrol

    asked = read_enrol(pmt.to_pmt({"enrol": "x", "windows": chirps(2, 1).ravel(), "rate": 1e6, "save": "o"}))
    assert asked.samples.shape == (2 * LENGTH,) and asked.rate == 1e6 and asked.head == "modulation"
    assert read_enrol(pmt.intern("emind-nano")) is None
    assert read_enrol(pmt.cons(pmt.intern("weights"), pmt.intern("x"))) is None
    for bad in ({"enrol": "x"}, {"enrol": "x", "save": "o"}, {"enrol": "x", "save": "o", "colour": "red"}):
        with pytest.raises(EMindError, match="a message to enrol"):
            read_enrol(pmt.to_pmt(bad))
    # Anything else than an EMindError in the handler of a message would end the block.
    for bad in ({"windows": "text"}, {"windows": chirps(1, 1).ravel(), "rate": "fast"}, {"windows": 3, "rate": None}):
        with pytest.raises(EMindError, match="complex samples"):
            read_enrol(pmt.to_pmt({"enrol": "x", "save": "o", **bad}))
