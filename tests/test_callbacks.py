"""Setters as GNU Radio Companion's flowgraphs call them: nothing is raised, and what was set stays."""

from __future__ import annotations

import pytest
from emind import display, receiver, recorder
from emind.callbacks import Told
from emind.contract.errors import UsageError
from gnuradio import gr


class hierarchical(Told, gr.hier_block2):
    def __init__(self):
        gr.hier_block2.__init__(self, "several", gr.io_signature(0, 0, 0), gr.io_signature(0, 0, 0))
        self.value = 1

    def set_value(self, value):
        if value < 0:
            raise UsageError(f"value {value} must not be negative")
        self.value = value


def test_a_value_that_cannot_be_is_one_line_of_the_log_and_changes_nothing(capfd):
    block = hierarchical()
    block.told("set_value", 2)
    block.told("set_value", -1)
    block.told("set_value", "half-typ")  # an error that is none of ours
    assert block.value == 2
    told = capfd.readouterr()
    lines = [line for line in (told.out + told.err).splitlines() if "set_value" in line]
    assert len(lines) == 2
    assert lines[0].endswith("set_value: value -1 must not be negative; what was set stays")
    assert "TypeError" in lines[1]


def test_a_recorder_keeps_labels_and_trigger_that_companion_cannot_change(tmp_path):
    block = recorder(str(tmp_path / "take"), labels={"modulation": "LoRa"})
    before = block._new_trigger
    for setter, values in (("set_labels", ({"colour": "red"},)), ("set_labels", ("half-typ",)),
                           ("set_trigger", ("detection", -1, 4096, 10.0, (), 0.5))):
        with pytest.raises(Exception):
            getattr(block, setter)(*values)
        block.told(setter, *values)
    assert block.labels() == {"modulation": "LoRa"} and block._new_trigger is before
    block.told("set_trigger", "detection", 64, 64, 10.0, (), 0.5)
    block.told("set_labels", {"modulation": "GFSK"})
    assert block.labels() == {"modulation": "GFSK"} and block._new_trigger.pre_trigger == 64


def test_receiver_inference_and_display_keep_what_companion_cannot_change():
    whole, tuned = receiver(sample_rate=1e6), receiver(sample_rate=1e6, offset=1e5, bandwidth=2e5)
    for block, setter, value in ((whole, "set_offset", 1e5), (tuned, "set_offset", 1e9), (tuned, "set_gate_db", -1.0),
                                 (tuned.inference, "set_gate_db", "half-typ")):
        with pytest.raises(Exception):
            getattr(block, setter)(value)
        block.told(setter, value)
    assert tuned._tuner.center_freq() == 1e5 and tuned.inference._gate_db is None
    tuned.told("set_offset", -1e5)
    tuned.told("set_gate_db", 6.0)
    assert tuned._tuner.center_freq() == -1e5 and tuned.inference._gate_db == 6.0
    assert issubclass(display, Told)
