"""The 17 attributes: their names, and what may stand in them."""

import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from emind.contract.errors import EMindError
from emind.contract.schema import COLUMNS, KINDS, LABELS, TEXTS, Signal, checked_label


def test_there_are_17_columns_in_the_agreed_order():
    assert COLUMNS == (
        "iq", "dataset_name", "sampling_rate", "device_id", "transmission_id", "infer_class", "snr", "isr",
        "modulation", "radar_waveform", "pri", "pulse_time_delay", "num_pulses", "pulse_width", "band_width",
        "amplitude", "radar_segmentation")
    assert LABELS == COLUMNS[1:] and set(TEXTS) < set(LABELS) and tuple(KINDS) == COLUMNS


def test_a_signal_has_the_columns_as_fields_none_where_unknown():
    assert tuple(field.name for field in fields(Signal)) == COLUMNS
    signal = Signal(np.zeros(3, np.complex64), snr=3.0)
    assert signal.labels() == {**dict.fromkeys(LABELS), "snr": 3.0}


@pytest.mark.parametrize("name, given, stored", [
    ("modulation", "QPSK", "QPSK"), ("device_id", 7, "7"), ("device_id", np.int64(7), "7"), ("snr", 3, 3.0),
    ("snr", np.float32(0.5), 0.5), ("num_pulses", 4.0, 4), ("num_pulses", np.int8(4), 4), ("isr", None, None),
])
def test_a_label_is_stored_as_its_column_does(name, given, stored):
    value = checked_label(name, given)
    assert value == stored and type(value) is type(stored)


@pytest.mark.parametrize("name, value", [
    ("colour", "red"), ("iq", 1), ("modulation", 2.5), ("modulation", True), ("snr", "loud"), ("snr", float("nan")),
    ("pri", float("inf")), ("num_pulses", 2.5), ("num_pulses", 1e12),
])
def test_what_no_column_can_hold_is_refused_by_name(name, value):
    with pytest.raises(EMindError, match=name):
        checked_label(name, value)


def test_the_schema_and_the_blocks_need_neither_torch_nor_pyarrow():
    code = ("import sys, emind, emind.contract.schema\n"
            "print(sorted({'torch', 'pyarrow', 'sigmf'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
