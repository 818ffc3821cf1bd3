"""Pickles of public sets are read without running what they say."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from emind.contract.errors import EMindError
from emind_training.sources.safe_pickle import load
from source_files import python2_pickle


class Calls:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Sets(Calls):
    """Pickles as a call whose result gets ``state``."""

    def __init__(self, function, arguments, state) -> None:
        self.call = function, arguments, state


def touch(path: Path) -> str:
    return f"touch '{path}'"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


RECONSTRUCT = np.zeros(1).__reduce__()[0]
ATTACKS = {
    "os.system": lambda p: pickle.dumps(Calls(os.system, touch(p))),
    "protocol 0": lambda p: b"cos\nsystem\n(S'" + touch(p).replace("'", "").encode() + b"'\ntR.",
    "INST opcode": lambda p: b"(S'" + touch(p).replace("'", "").encode() + b"'\nios\nsystem\n.",
    "eval": lambda p: pickle.dumps(Calls(eval, f"open({str(p)!r}, 'w')")),
    "exec": lambda p: pickle.dumps(Calls(exec, f"open({str(p)!r}, 'w')")),
    "import": lambda p: pickle.dumps(Calls(__import__, "antigravity")),
    "nested in a value": lambda p: pickle.dumps({("QPSK", 0): [np.zeros(2), (1, Calls(os.system, touch(p)))]}),
    "in a key": lambda p: pickle.dumps({(Calls(os.system, touch(p)), 0): 1}),
    "as the argument of an array": lambda p: pickle.dumps(Calls(RECONSTRUCT, np.ndarray, Calls(os.system, touch(p)))),
    "getattr chain": lambda p: (b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\n" + text("os") + b"\x85R"
                                + text("system") + b"\x86R" + text(touch(p)) + b"\x85R."),
    "dotted name": lambda p: b"\x80\x04\x8c\x05numpy\x8c\x0bos.getcwd.x\x93.",
    "numpy's way to os": lambda p: b"\x80\x04\x8c\x05numpy\x8c\x07os.path\x93.",
    "numpy.load": lambda p: pickle.dumps(Calls(np.load, str(p))),
    "numpy.memmap": lambda p: b"\x80\x02cnumpy\nmemmap\nX\x01\x00\x00\x00x\x85R.",
    "ndarray itself": lambda p: pickle.dumps(Calls(np.ndarray, (10**6,))),
    "ndarray as a value": lambda p: pickle.dumps(np.ndarray),
    "state for a name": lambda p: b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00xK\x01sb.",
    "attributes for a name": lambda p: b"\x80\x02cnumpy\nndarray\nN}X\x01\x00\x00\x00xK\x01s\x86b.",
    "object array": lambda p: pickle.dumps(np.array([Calls(os.system, touch(p)), 1], object)),
    "object array of plain values": lambda p: pickle.dumps(np.array([1, "a"], object)),
    "object dtype behind numbers": lambda p: pickle.dumps(Sets(RECONSTRUCT, (np.ndarray, (0,), b"b"),
                                                               (1, (1,), np.dtype("O"), False, b"\x01" * 8))),
    "record array": lambda p: pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "O")])),
    "codec": lambda p: b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R.",
    "extension": lambda p: b"\x80\x02\x82\x01.",
    "persistent": lambda p: b"\x80\x02K\x01Q.",
    "class": lambda p: pickle.dumps(io.BytesIO()),
    "huge shape": lambda p: pickle.dumps(Sets(RECONSTRUCT, (np.ndarray, (0,), b"b"),
                                              (1, (2**40,), np.dtype("f4"), False, b"1234"))),
    "negative shape": lambda p: pickle.dumps(Sets(RECONSTRUCT, (np.ndarray, (0,), b"b"),
                                                  (1, (-1, -1), np.dtype("f4"), False, b"1234"))),
    "itself": lambda p: b"\x80\x02]q\x00h\x00a.",
    "deep": lambda p: b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    "huge length": lambda p: b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.",
}


class Watch:
    """Notes what would be run while it is entered. Python cannot remove an audit hook, so there is one."""

    EVENTS = ("os.system", "exec", "import", "subprocess.Popen")

    def __init__(self) -> None:
        self.events, self.on = [], False
        sys.addaudithook(lambda event, arguments: self.on and event in self.EVENTS and self.events.append(event))

    def __enter__(self) -> None:
        self.events, self.on = [], True

    def __exit__(self, *fault) -> None:
        self.on = False


WATCHED = Watch()


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_a_malicious_pickle_is_refused_without_running(attack, tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "RML2016.10a_dict.pkl"
    path.write_bytes(ATTACKS[attack](mark))
    before = set(sys.modules)
    with WATCHED, pytest.raises(EMindError, match="RML2016.10a_dict.pkl"):
        load(path)
    called = WATCHED.events
    assert not called and not mark.exists()
    assert set(sys.modules) == before


def test_the_attacks_are_attacks(tmp_path):
    """Python's own unpickler runs the first of them, so that the test above would notice."""
    mark = tmp_path / "ran"
    for name in ("os.system", "protocol 0", "nested in a value", "getattr chain", "object array"):
        with WATCHED:
            pickle.loads(ATTACKS[name](mark))
        assert mark.exists() and "os.system" in WATCHED.events, name
        mark.unlink()


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_of_numbers_come_back_as_they_were(protocol, tmp_path):
    generator = np.random.default_rng(1)
    held = {
        ("QPSK", -20): generator.random((3, 2, 5), np.float32), "big": np.arange(6, dtype=">i2").reshape(2, 3),
        "fortran": np.asfortranarray(generator.random((3, 4))), "complex": np.array([1 + 2j]),
        "empty": np.zeros((0, 4)), "list": [1, 2.5, "text", None, True, b"bytes", (np.uint8([7]),)],
    }  # fmt: skip
    path = tmp_path / "set.pkl"
    path.write_bytes(pickle.dumps(held, protocol))
    same(load(path), held)


def test_pickles_of_python_2_come_back_as_they_were(tmp_path):
    path = tmp_path / "set.dat"
    held = {("QAM16", 2): np.arange(256, dtype=np.float32).reshape(1, 2, 128)}
    path.write_bytes(python2_pickle(held))
    kinds = {code.name for code, _, _ in pickletools.genops(path.read_bytes())}
    assert {"SHORT_BINSTRING", "BINSTRING"} <= kinds and not {"BINUNICODE", "BINBYTES"} & kinds
    same(load(path), held)


def test_damaged_bytes_give_data_or_an_error_and_run_nothing(tmp_path):
    generator = np.random.default_rng(5)
    whole = pickle.dumps({"data": [[np.arange(6.0).reshape(2, 3)]], "list": ["a", 1]}, protocol=3)
    path, refused = tmp_path / "set.pkl", 0
    load_once = tmp_path / "whole.pkl"
    load_once.write_bytes(whole)
    load(load_once)
    for _ in range(1500):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), generator.integers(1, 4)):
            data[place] = generator.integers(256)
        path.write_bytes(data)
        with WATCHED:
            try:
                load(path)
            except EMindError as fault:
                assert "set.pkl" in str(fault)
                refused += 1
        assert not [event for event in WATCHED.events if event != "import"]
    assert refused > 500


def same(found, wanted) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key in wanted:
            same(found[key], wanted[key])
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted):
            same(one, other)
    elif isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    else:
        assert found == wanted
