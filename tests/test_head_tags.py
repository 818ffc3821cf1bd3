"""What heads of every kind say of windows, as tags, detections and counts of the inference block."""

import threading
import time

import numpy as np
import pmt
import pytest
from emind import inference
from emind.contract.answers import read
from emind.contract.errors import EMindError
from emind.contract.tags import WINDOWS_OUTSIDE
from emind.runtime.engine import load_engine
from gnuradio import blocks, gr
from several_heads import HEADS, LENGTH, raw, save

COUNT = 24
PATIENCE_S = 60
SPEAKING = ("modulation", "technology", "radar", "rate", "anomaly")
OUT_OF_IT = {"heads": {"radar": {"length": LENGTH, "rates_hz": [3e6, 4e6]},
                       "technology": {"length": 2 * LENGTH, "rates_hz": None}}}


@pytest.fixture(scope="module")
def windows():
    out = raw(COUNT)
    out[5] = 0
    return out


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return save(folder / "all.safetensors", unknown=("modulation", "radar"), training=OUT_OF_IT)


class Run:
    """windows -> inference -> sink; tags by head and window, detections and counts."""

    def __init__(self, block, windows):
        top_block = gr.top_block()
        source = blocks.vector_source_c(windows.reshape(-1).tolist(), False, LENGTH)
        self.sink, messages = blocks.vector_sink_c(LENGTH), blocks.message_debug()
        top_block.connect(source, block, self.sink)
        top_block.msg_connect(block, "detections", messages, "store")
        top_block.run()
        self.tags: dict[str, dict[int, dict]] = {}
        for tag in self.sink.tags():
            self.tags.setdefault(str(tag.key), {})[tag.offset] = pmt.to_python(tag.value)
        self.detections = [pmt.to_python(pmt.car(messages.get_message(n))) for n in range(messages.num_messages())]
        self.counts = block.statistics()


def made(weights, **options):
    return inference(str(weights), LENGTH, backend="torch-float32", threads=1, **options)


@pytest.fixture(scope="module")
def ran(path, windows):
    return Run(made(path, sample_rate=1e6), windows)


@pytest.fixture(scope="module")
def answers(path, windows):
    asked = np.delete(np.arange(COUNT), 5)
    rows = load_engine(path, "torch-float32", 1).infer(windows[asked], np.full(len(asked), 1e6))
    return {name: dict(zip(asked.tolist(), values)) for name, values in rows.items()}


def test_every_head_that_speaks_tags_every_window_with_what_the_engine_answered(ran, answers):
    assert set(ran.tags) == {f"emind_{name}" for name in SPEAKING}
    for name in SPEAKING:
        assert set(answers[name]) <= set(ran.tags[f"emind_{name}"])
        for number, row in answers[name].items():
            tag, said = ran.tags[f"emind_{name}"][number], read(HEADS[name], row[None])
            assert tag["length"] == LENGTH
            if said.names:
                assert tag["label"] == said.names[said.labels[0]]
                assert tag["confidence"] == pytest.approx(said.confidences[0], abs=1e-4)
            else:
                assert "label" not in tag and "confidence" not in tag


def test_a_radars_parameters_stand_by_name_in_si_units_unless_it_is_unknown(ran, answers):
    known = 0
    for number, row in answers["radar"].items():
        tag = ran.tags["emind_radar"][number]
        names = [parameter.name for parameter in HEADS["radar"].parameters]
        if tag["label"] == "unknown":
            assert not set(names) & set(tag)
            continue
        known += 1
        assert tag["num_pulses"] == round(float(row[4])) and isinstance(tag["num_pulses"], int)
        for place, parameter in list(enumerate(HEADS["radar"].parameters))[1:]:
            assert tag[parameter.name] == pytest.approx(float(row[4 + place]), rel=1e-3)
            assert parameter.low <= tag[parameter.name] * (1 + 1e-6) and tag[parameter.name] <= parameter.high * 1.001
    assert 0 < known < len(answers["radar"])


def test_unknown_is_a_label_with_a_confidence_above_one_half_and_a_family_of_its_own(ran):
    found = [tag for tag in ran.tags["emind_modulation"].values() if tag["label"] == "unknown"]
    assert 0 < len(found) < COUNT - 1
    assert all(tag["confidence"] > 0.5 and tag["family"] == "unknown" for tag in found)


def test_an_anomalys_score_is_the_probability_of_anomalous(ran, answers):
    labels = set()
    for number, row in answers["anomaly"].items():
        tag = ran.tags["emind_anomaly"][number]
        labels.add(tag["label"])
        assert tag["score"] == pytest.approx(float(row[1]), abs=1e-4)
        assert (tag["score"] > 0.5) == (tag["label"] == "anomalous")
    assert labels == {"normal", "anomalous"}


def test_a_gated_window_is_noise_to_the_heads_that_know_noise_only(ran):
    assert ran.tags["emind_modulation"][5]["label"] == "noise" and ran.tags["emind_modulation"][5]["confidence"] == 1
    assert not any(5 in ran.tags[f"emind_{name}"] for name in SPEAKING[1:])


def test_heads_outside_of_their_training_say_so_and_are_counted(ran, path, windows):
    for name in SPEAKING:
        marked = {number for number, tag in ran.tags[f"emind_{name}"].items() if tag.get("outside_training") is True}
        assert marked == (set(range(COUNT)) - {5} if name in ("radar", "technology") else set())
    assert ran.counts[WINDOWS_OUTSIDE] == {"radar": COUNT - 1, "technology": COUNT - 1}
    inside = Run(made(path, sample_rate=3.5e6, heads=["radar", "modulation"]), windows)
    assert set(inside.tags) == {"emind_radar", "emind_modulation"}
    assert not any("outside_training" in tag for tag in inside.tags["emind_radar"].values())
    assert WINDOWS_OUTSIDE not in inside.counts and inside.counts["results_lost"] == 0


def test_detections_say_what_the_tags_say(ran):
    assert len(ran.detections) == COUNT
    for detection in ran.detections:
        number = detection["sample_start"] // LENGTH
        for name in SPEAKING:
            tag = dict(ran.tags[f"emind_{name}"].get(number, {}))
            tag.pop("length", None)
            assert detection.get(name, {}) == tag


def test_waveform_heads_run_only_for_their_stream(path):
    assert list(made(path)._engine.heads) == list(SPEAKING)
    assert list(made(path, streams=("denoise",))._engine.heads) == [*SPEAKING, "denoise"]
    assert list(made(path, heads=["radar"], streams=("denoise",))._engine.heads) == ["radar", "denoise"]
    assert list(made(path, heads="radar")._engine.heads) == ["radar"]
    with pytest.raises(EMindError, match="no head 'colour'; its heads: modulation"):
        made(path, heads=["colour"])


def test_weights_with_other_heads_take_over_while_the_stream_runs(tmp_path, windows):
    first = save(tmp_path / "first.safetensors", names=("modulation", "anomaly"))
    second = save(tmp_path / "second.safetensors", seed=4, names=("radar", "technology", "denoise"), unknown=("radar",))
    block = made(first, batch=4)
    top_block = gr.top_block()
    source, sink = blocks.vector_source_c(windows[6:].reshape(-1).tolist(), True, LENGTH), blocks.vector_sink_c(LENGTH)
    top_block.connect(source, block, sink)
    top_block.start()
    passed(block, 50)
    block.set_weights(str(second))
    assert block._weights.changer.wait(PATIENCE_S)
    passed(block, 200)
    top_block.stop()
    top_block.wait()
    keys: dict[int, set] = {}
    for tag in sink.tags():
        keys.setdefault(tag.offset, set()).add(str(tag.key))
    count = len(sink.data()) // LENGTH
    assert set(keys) >= set(range(count))  # every window was answered, by one file's heads whole
    before, after = {"emind_modulation", "emind_anomaly"}, {"emind_radar", "emind_technology"}
    assert all(keys[number] in (before, after) for number in range(count))
    assert keys[0] == before and keys[count - 1] == after
    assert not any(keys[one] == after and keys[one + 1] == before for one in range(count - 1))


def passed(block, windows):
    """Wait until so many more windows have passed."""
    wanted, deadline, pause = block.nitems_written(0) + windows, time.monotonic() + PATIENCE_S, threading.Event()
    while block.nitems_written(0) < wanted:
        assert time.monotonic() < deadline
        pause.wait(0.005)


def test_weights_that_lack_a_head_that_was_asked_for_are_refused(tmp_path, path):
    block = made(path, heads=["radar"])
    block.set_weights(str(save(tmp_path / "other.safetensors", names=("modulation",))))
    assert block._weights.changer.wait(PATIENCE_S)
    said = block.statistics()
    assert said["weights"] == "all" and "no head 'radar'; its heads: modulation" in said["weights_error"]
