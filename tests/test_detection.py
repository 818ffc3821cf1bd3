"""Which answers count: the rule that recorder and display share."""

from __future__ import annotations

import pytest
from emind.contract.detection import counting, counts, detected, is_noise


def said(label, confidence=0.9, **more):
    return {"label": label, "confidence": confidence, **more}


OUTSIDE = {"outside_training": True}
NOISE = {"modulation": said("noise"), "fingerprint": said("039", 0.95), "radar": said("LFM"),
         "anomaly": said("multi-tone"), "sensing": said("signal")}


@pytest.mark.parametrize("answer", [
    said("unknown", 0.99), said("QPSK", 0.49), said("QPSK", **OUTSIDE), {"confidence": 0.9}, said(3),
    said("QPSK", "high"), said("QPSK", float("nan")),
])
def test_what_is_unknown_unsure_or_outside_of_the_training_does_not_count(answer):
    assert not counts(answer)
    assert not detected({"modulation": answer}) and not detected({"radar": answer})


def test_the_confidence_asked_for_is_enough_by_itself():
    assert counts(said("QPSK", 0.5)) and counts({"label": "QPSK"}) and counts(said("QPSK", 0.2), 0.2)


def test_where_the_main_head_hears_noise_no_other_counts_but_sensing():
    assert set(counting(NOISE)) == {"modulation", "sensing"}
    assert detected(NOISE) == [] and detected(NOISE, {"LFM", "039"}) == []
    assert detected(NOISE, {"signal"}) == ["sensing"] and detected(NOISE, {"noise"}) == ["modulation"]


def test_the_noise_of_a_main_head_outside_of_its_training_says_nothing():
    answers = {**NOISE, "modulation": said("noise", **OUTSIDE)}
    assert not is_noise(answers) and detected(answers) == [] and detected(answers, {"039"}) == ["fingerprint"]


def test_without_labels_the_main_head_alone_decides():
    assert detected({"modulation": said("QPSK"), "interference": said("none")}) == ["modulation"]
    unsure = {"modulation": said("QPSK", 0.3), "interference": said("single-tone")}
    assert detected(unsure) == [] and detected(unsure, {"single-tone"}) == ["interference"]
    assert detected({"modulation": said("unknown"), "radar": said("LFM")}) == []


def test_unknown_is_an_event_where_it_is_asked_for():
    unknown = {"modulation": said("unknown"), "radar": said("LFM")}
    assert detected(unknown, {"unknown"}) == ["modulation"] and detected(unknown, {"LFM"}) == ["radar"]
    assert detected({"modulation": said("unknown", **OUTSIDE)}, {"unknown"}) == []


def test_where_there_is_no_main_head_every_other_may_say_that_something_is_there():
    assert detected({"interference": said("none"), "radar": said("LFM"), "anomaly": said("normal")}) == ["radar"]
    assert detected({"radar": said("LFM", **OUTSIDE), "sensing": said("noise")}) == []
