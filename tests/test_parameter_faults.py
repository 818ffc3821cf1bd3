"""A parameter that cannot work is named, and no other."""

from __future__ import annotations

import math

import pytest
from emind.contract.errors import UsageError, require

pytest.importorskip("gnuradio")


def test_rules_that_hold_are_not_mentioned():
    require((True, "a"), (True, "b"))
    with pytest.raises(UsageError, match="^b; c$"):
        require((True, "a"), (False, "b"), (False, "c"))


@pytest.mark.parametrize("options, words", [
    ({"length": -5}, "length -5 must be at least 1"),
    ({"length": 10**9}, "length 1000000000 must be at most 67,108,864: the queue holds two rows"),
    ({"queue_mb": 0}, "queue_mb 0 must be above 0"),
    ({"rotate_s": -1.0}, "rotate_s -1 must not be negative"),
    ({"rotate_s": math.inf}, "rotate_s inf must not be negative, and below 1e15"),
    ({"rotate_mb": math.inf}, "rotate_mb inf must not be negative, and below 1e15"),
    ({"rotate_mb": 1e306}, "rotate_mb 1e+306 must not be negative, and below 1e15"),
    ({"queue_mb": math.inf}, "queue_mb inf must be above 0"),
    ({"sample_rate": math.nan}, "sample_rate nan must not be negative"),
    ({"center_freq": math.inf}, "center_freq inf must be finite"),
    ({"scale": 0.0}, "scale 0 must be above 0"),
    ({"pre_trigger": -1, "trigger": "energy"}, "pre_trigger -1 must be between 0 and "),
    ({"trigger_db": 0.0, "post_trigger": -3},
     "post_trigger -3 must not be negative, and finite; trigger_db 0 must be above 0"),
    ({"trigger_db": math.inf, "trigger": "energy"}, "trigger_db inf must be above 0 and at most 200"),
    ({"post_trigger": math.inf, "trigger": "energy"}, "post_trigger inf must not be negative, and finite"),
])
def test_the_recorder_names_what_is_wrong_alone(tmp_path, options, words):
    from emind.recorder import recorder

    with pytest.raises(UsageError) as caught:
        recorder(str(tmp_path / "take"), **options)
    assert str(caught.value).startswith(words) and str(caught.value).count(" must ") == words.count(" must ")


@pytest.mark.parametrize("options, words", [
    ({"batch": 0}, "batch 0 must be at least 1"), ({"hold": 0}, "hold 0 must be at least 1"),
    ({"max_latency_ms": -1.0}, "max_latency_ms -1 must not be negative"),
    ({"gate_db": -3.0}, "gate_db -3.0 must not be negative; None: off"),
    ({"gate_db": float("nan")}, "gate_db nan must not be negative; None: off"),
    ({"detections_limit": -1}, "detections_limit -1 must not be negative"),
])
def test_inference_names_what_is_wrong_alone_before_it_loads_anything(options, words):
    from emind.inference import inference

    with pytest.raises(UsageError) as caught:
        inference("no-such-weights", **options)
    assert str(caught.value) == words


def test_a_command_passes_it_on_as_one_line(emind, raw, tmp_path):
    outcome = emind("record", tmp_path / "take", "--from", raw([1, 2]), "--rate", 1e6, "--length", -5)
    assert (outcome.status, outcome.err) == (2, "emind: error: length -5 must be at least 1\n")


@pytest.mark.parametrize("argument", ["--seconds", "--rotate-mb", "--rotate-s"])
def test_a_recording_without_an_end_is_refused_in_one_line(emind, raw, tmp_path, argument):
    outcome = emind("record", tmp_path / "take", "--from", raw([1, 2]), "--rate", 1e6, argument, "inf")
    assert outcome.status == 2 and len(outcome.err.splitlines()) == 1
    assert argument[2:].replace("-", "_") in outcome.err and " inf " in outcome.err


def test_more_seconds_than_there_are_samples_for_are_all_of_them(emind, raw, tmp_path):
    outcome = emind("record", tmp_path / "take", "--from", raw([1, 2]), "--rate", 1e6, "--seconds", 1e308)
    assert outcome.status == 0 and "2 of 2 samples" in outcome.err
