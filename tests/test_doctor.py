"""`emind doctor` finds each fault, says what to do, and speaks where nothing else works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from emind.commands import doctor

DOCTOR = Path(doctor.__file__)


def run_doctor(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(DOCTOR), *arguments], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **variables})


def items_of(done: subprocess.CompletedProcess) -> dict[str, dict]:
    return {item["name"]: item for item in json.loads(done.stdout)["items"]}


def module_that_fails(folder: Path, name: str, complaint: str) -> Path:
    """A folder for PYTHONPATH in which importing ``name`` ends in an ImportError."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"raise ImportError({complaint!r})\n")
    return folder


def weights_file(path: Path, tensor_bytes: int = 8, cut: int = 0) -> Path:
    header = json.dumps({"__metadata__": {}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(tensor_bytes)
    path.write_bytes(data[:len(data) - cut])
    return path


def test_all_is_well_where_make_has_set_everything_up():
    done = run_doctor("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"] is True


def test_the_command_and_the_file_find_the_same_items():
    command = subprocess.run([str(Path(sys.prefix) / "bin" / "emind"), "doctor", "--json"], capture_output=True,
                             text=True, timeout=300)
    assert command.returncode == 0, command.stdout + command.stderr
    assert items_of(command).keys() == items_of(run_doctor("--json")).keys()


def test_lines_hold_a_mark_for_each_item_and_a_verdict():
    done = run_doctor()
    lines = done.stdout.splitlines()
    assert lines[-1] == "all is well"
    assert all(line.split()[0] in (doctor.OK, doctor.NOTE, doctor.FAULT, "->") for line in lines[:-1])


@pytest.mark.parametrize("module, item", [("gnuradio", "GNU Radio"), ("torch", "torch")])
def test_a_module_that_cannot_be_imported_is_a_fault_with_a_remedy(tmp_path, module, item):
    folder = module_that_fails(tmp_path, module, "it is broken")
    done = run_doctor("--json", PYTHONPATH=str(folder))
    assert done.returncode == 1
    found = items_of(done)[item]
    assert found["state"] == doctor.FAULT
    assert "it is broken" in found["detail"]
    assert found["remedy"]


TORCH = "2.13.0 {half} {cuda}"


@pytest.mark.parametrize("half, cuda, openvino, auto", [
    (True, False, doctor.Answer(True, "2026.0"), "openvino in bfloat16"),
    (False, False, doctor.Answer(True, "2026.0"), "openvino in float32"),
    (True, False, doctor.Answer(False, "ModuleNotFoundError: No module named 'openvino'"), "torch in bfloat16"),
    (True, True, doctor.Answer(True, "2026.0"), "torch on the graphics device"),
    (True, False, doctor.Answer(False, "ImportError: libtbb.so.12"), None),
])
def test_it_says_what_the_back_end_auto_comes_to(monkeypatch, half, cuda, openvino, auto):
    torch = doctor.Answer(True, TORCH.format(half=half, cuda=cuda))
    monkeypatch.setattr(doctor, "ask", lambda code: torch if "import torch" in code else openvino)
    items = {item.name: item for item in doctor.check_torch()}
    if auto is None:
        assert {items["OpenVINO"].state, items["back ends"].state} == {doctor.FAULT}
        assert "libtbb" in items["OpenVINO"].detail and "--backend torch" in items["back ends"].remedy
    else:
        assert items["back ends"].state == doctor.OK and auto in items["back ends"].detail
        assert items["OpenVINO"].state == (doctor.OK if openvino.ok else doctor.NOTE)
        assert bool(items["OpenVINO"].remedy) is not openvino.ok


def test_what_it_says_of_back_ends_is_what_an_engine_comes_to(small_weights):
    engine = pytest.importorskip("emind.runtime.engine").load_engine(small_weights)
    items = {item.name: item for item in doctor.check_torch()}
    library, precision = engine.backend.split("-")
    assert f"{library} in {precision}" in items["back ends"].detail
    if library == "openvino":
        from emind.runtime.openvino_graph import cache_folder

        assert doctor.cache_folder() == cache_folder() and str(cache_folder()) in items["OpenVINO"].detail


def test_compiled_graphs_are_counted_and_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / f"{number}.blob").write_bytes(bytes(1_000_000))
    assert doctor.kept_graphs(tmp_path).endswith(f"{tmp_path} (3, 3 MB)")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "each start compiles" in doctor.kept_graphs(tmp_path / "not" / "there")


def test_the_command_speaks_where_gnuradio_is_broken(tmp_path):
    folder = module_that_fails(tmp_path, "gnuradio", "numpy.core.multiarray failed to import")
    done = subprocess.run([str(Path(sys.prefix) / "bin" / "emind"), "doctor", "--json"], capture_output=True,
                          text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(folder)})
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "numpy" in items_of(done)["GNU Radio"]["detail"]


def test_a_numpy_of_another_major_version_than_gnuradio_s_is_a_fault(monkeypatch):
    answers = {sys.executable: "2.1.0", "/usr/bin/owner": "1.24.2"}
    monkeypatch.setattr(doctor, "ask", lambda code, python=sys.executable: doctor.Answer(True, answers[python]))
    item = doctor.check_numpy("/usr/bin/owner")
    assert item.state == doctor.FAULT
    assert "1.24.2" in item.detail and item.remedy


def test_an_interpreter_that_does_not_own_gnuradio_is_a_fault(tmp_path):
    item = doctor.check_interpreter(str(tmp_path / "python3"))
    assert item.state == doctor.FAULT
    assert str(tmp_path) in item.detail


@pytest.mark.parametrize("first_line, interpreter", [
    ("#!/usr/bin/python3\n", "/usr/bin/python3"),
    ("#!/opt/radio/bin/python3 -E\n", "/opt/radio/bin/python3"),
    ("#!/usr/bin/env sh\n", "/sh"),
    ("\x7fELF\n", None),
])
def test_the_owner_is_read_from_the_first_line_of_gnuradio_s_programs(tmp_path, first_line, interpreter):
    program = tmp_path / "grcc"
    program.write_text(first_line)
    found = doctor.interpreter_of(str(program))
    assert found == interpreter or (found and interpreter == "/sh" and found.endswith("/sh"))


def test_an_old_gnuradio_is_a_fault(monkeypatch):
    monkeypatch.setattr(doctor, "ask", lambda code: doctor.Answer(True, "3.8.2.0"))
    assert doctor.check_gnuradio().state == doctor.FAULT


def test_uhd_that_is_missing_is_a_note_and_no_fault(monkeypatch):
    monkeypatch.setattr(doctor, "ask", lambda code: doctor.Answer(False, "No module named 'gnuradio.uhd'"))
    item = doctor.check_uhd()
    assert item.state == doctor.NOTE and item.remedy


def test_a_changed_added_or_removed_source_file_makes_the_installed_copy_stale(tmp_path):
    source, installed = tmp_path / "source", tmp_path / "installed"
    for folder in (source, installed):
        (folder / "dsp").mkdir(parents=True)
        (folder / "same.py").write_text("a = 1\n")
    (source / "qa_same.py").write_text("")  # a test is not installed
    assert doctor.stale_files(source, installed) == []
    (source / "same.py").write_text("a = 2\n")
    (source / "dsp" / "new.py").write_text("")
    (installed / "dsp" / "old.py").write_text("")
    assert doctor.stale_files(source, installed) == ["dsp/new.py", "dsp/old.py", "same.py"]


def test_blocks_are_looked_for_where_grc_searches(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "grc_folders", lambda: [tmp_path])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "elsewhere"))
    assert doctor.check_grc().state == doctor.FAULT
    for block in doctor.BLOCKS:
        (tmp_path / f"emind_{block}.block.yml").write_text("")
    assert doctor.check_grc().state == doctor.OK


def test_weights_are_judged_by_header_and_length(tmp_path):
    assert doctor.weights_fault(weights_file(tmp_path / "good.safetensors")) == ""
    assert "cut off" in doctor.weights_fault(weights_file(tmp_path / "short.safetensors", cut=40))
    assert "tensors" in doctor.weights_fault(weights_file(tmp_path / "cut.safetensors", cut=4))
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes((4).to_bytes(8, "little") + b"nope")
    assert "damaged" in doctor.weights_fault(bad)
    assert "cannot be read" in doctor.weights_fault(tmp_path / "absent.safetensors")


def test_the_default_weights_must_be_there(tmp_path):
    weights_file(tmp_path / "other.safetensors")
    items = {item.name: item.state for item in doctor.check_weights(tmp_path)}
    assert items == {"weights other": doctor.OK, f"weights {doctor.DEFAULT_WEIGHTS}": doctor.FAULT}
