"""Labels changed while `emind record` and `emind live` run: by the same lines, with the same effect."""

from __future__ import annotations

import json
from itertools import groupby
from types import SimpleNamespace

import pytest
from conftest import tone_bursts
from emind.commands.live import parse_command
from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import changed_labels
from emind.storage.parquet import Reader
from live_run import START_S, Live

pytest.importorskip("gnuradio")


def test_a_change_keeps_the_other_labels_and_none_takes_one_away():
    before = {"modulation": "LoRa", "dataset_name": "garden"}
    assert changed_labels(before, {"modulation": None, "snr": "12"}) == {"dataset_name": "garden", "snr": 12.0}
    with pytest.raises(EMindError, match="num_pulses"):
        changed_labels(before, {"num_pulses": "many"})
    assert before == {"modulation": "LoRa", "dataset_name": "garden"}


def test_a_line_with_a_wrong_label_changes_nothing_and_the_next_one_is_obeyed(tmp_path, capsys):
    from emind.commands.record_control import Control
    from emind.recorder import recorder

    graph = SimpleNamespace(recorder=recorder(tmp_path / "take", labels={"dataset_name": "garden"}))
    control = Control(graph, {})
    for label, wanted in (({"num_pulses": "many"}, {"dataset_name": "garden"}),
                          ({"modulation": "LoRa"}, {"dataset_name": "garden", "modulation": "LoRa"}),
                          ({"dataset_name": None}, {"modulation": "LoRa"})):
        control._obey_line(json.dumps({"label": label}))
        assert graph.recorder.labels() == wanted
    refusal, *changes = capsys.readouterr().err.splitlines()
    assert "num_pulses is a number, not 'many'" in refusal
    assert changes == ["emind: labels: dataset_name=garden, modulation=LoRa", "emind: labels: modulation=LoRa"]


def test_a_command_of_live_carries_labels_as_their_columns_store_them():
    assert parse_command('{"label": {"modulation": null, "num_pulses": "4", "device_id": 7}}') == \
        {"label": {"modulation": None, "num_pulses": 4, "device_id": "7"}}
    for label, words in (({"num_pulses": "many"}, "num_pulses"), ({"modulation": True}, "modulation is text"),
                         ({"snr": [1]}, "snr")):
        with pytest.raises(UsageError, match=words):
            parse_command(json.dumps({"label": label}))


def test_a_label_given_while_the_device_is_away_holds_when_it_is_back():
    from queue import Queue

    from emind.commands.live import Session
    from emind.commands.live_worker import Radio

    session = Session({"record": None, "labels": {"dataset_name": "garden"}}, None, None)
    session.child = None  # between two processes
    session._command({"label": {"modulation": "LoRa"}})
    assert session.settings["labels"] == {"dataset_name": "garden", "modulation": "LoRa"}
    commands: Queue = Queue()
    radio = Radio({"gain": None, "labels": {}}, None, commands)
    commands.put({"label": {"modulation": "FSK"}})
    commands.put({"stop": True})
    assert not radio._wait(5.0)
    assert radio.settings["labels"] == {"modulation": "FSK"}


def test_what_live_records_has_the_merged_labels(raw, small_weights, tmp_path):
    with Live("--file", raw(tone_bursts(800_000)), "--rate", 200e3, "--weights", small_weights, "--backend",
              "torch-float32", "--record", tmp_path / "take", "--label", "dataset_name=garden") as run:
        run.until_event("opened", within=START_S)
        last = run.until_answers(1)
        for value in ("LoRa", None):
            run.say(label={"modulation": value})
            run.until_event("set")
            # What was on its way may have the labels of before: read well beyond it.
            last = run.until(lambda told, last=last: told.get("sample_start", 0) > last["sample_start"] + 100_000)
        run.say(label={"modulation": "GFSK", "snr": "loud"})
        assert "snr is a number" in run.until_event("refused")["text"]
        summary = run.finish()
    rows = [row for file in summary["recording"]["files"] for row in Reader(file)]
    assert {row.dataset_name for row in rows} == {"garden"}
    assert [name for name, _ in groupby(row.modulation for row in rows)] == [None, "LoRa", None]
