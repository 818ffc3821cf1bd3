"""The engine whose streams are processes of their own."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import several_heads
from emind.contract.errors import EMindError, UsageError
from emind.runtime import engine_processes, ready
from emind.runtime.engine import load_engine
from emind.runtime.engine_processes import ProcessEngine
from emind.runtime.ready import MOST_PROCESSES, PROCESSES, default_processes, ready_engine
from emind.runtime.stream_process import MOST, Layout

BACKEND = "torch-float32"  # the quickest to start; the processes know no other difference between back ends
PATIENCE_S = 30


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return several_heads.save(tmp_path_factory.mktemp("weights") / "all.safetensors")


@pytest.fixture(scope="module")
def pair(path):
    """An engine in two processes, and the same in this one."""
    heads, streams = ("modulation", "radar", "anomaly"), ("denoise", "separation")
    engine = ProcessEngine(path, BACKEND, threads=2, batch=8, heads=heads, streams=streams, processes=2)
    yield engine, load_engine(path, BACKEND, 2, [*heads, *streams])
    engine.close()


def gone(number: int) -> bool:
    """Whether no process of that number is there, or only its end is left to be looked at."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(numbers: list[int]) -> None:
    watch = threading.Event()
    for _ in range(100 * PATIENCE_S):
        if all(gone(number) for number in numbers):
            return
        watch.wait(0.01)
    raise AssertionError(f"processes {numbers} are still there")


@pytest.mark.parametrize("count", [1, 2, 3, 16, 2 * MOST + 5])
def test_answers_are_those_of_the_engine_in_this_process_for_any_number_of_windows(pair, count):
    processes, here = pair
    windows, rates = several_heads.raw(count, seed=count), np.linspace(1e5, 1e6, count)
    wanted, found = here.infer(windows, rates), processes.infer(windows, rates)
    assert list(found) == list(processes.heads) and set(found) == set(wanted)
    for name, rows in wanted.items():
        assert found[name].dtype == rows.dtype
        np.testing.assert_allclose(found[name], rows, rtol=1e-4, atol=1e-5 * max(1, np.abs(rows).max()))


def test_answers_stay_when_the_next_batch_comes(pair):
    processes, _ = pair
    first = processes.infer(several_heads.raw(4, seed=1), np.full(4, 1e6))
    kept = {name: rows.copy() for name, rows in first.items()}
    processes.infer(several_heads.raw(4, seed=2), np.full(4, 1e6))
    for name, rows in kept.items():
        np.testing.assert_array_equal(first[name], rows)


def test_it_says_what_the_engine_in_this_process_says_of_itself(pair):
    processes, here = pair
    for name in ("spec", "domains", "name", "backend", "header"):
        assert getattr(processes, name) == getattr(here, name), name
    assert processes.heads == {name: here.heads[name] for name in processes.heads}
    assert len(processes.processes) == 2 and os.getpid() not in processes.processes


def test_windows_of_another_length_are_refused(pair):
    with pytest.raises(ValueError, match="200"):
        pair[0].infer(np.zeros((2, 100), np.complex64), np.full(2, np.nan))


def test_a_process_that_is_killed_is_an_error_once_and_then_replaced(path):
    engine = ProcessEngine(path, BACKEND, threads=2, heads=("modulation",), processes=2)
    try:
        windows, rates = several_heads.raw(8), np.full(8, np.nan)
        before = engine.infer(windows, rates)["modulation"]
        first, second = engine.processes
        os.kill(second, signal.SIGKILL)
        wait_until_gone([second])
        with pytest.raises(RuntimeError, match="died.*signal 9"):
            engine.infer(windows, rates)
        np.testing.assert_array_equal(engine.infer(windows, rates)["modulation"], before)
        assert engine.processes[0] == first and engine.processes[1] not in (first, second)
    finally:
        engine.close()


def test_a_process_that_hangs_is_ended_and_replaced(path, monkeypatch):
    monkeypatch.setattr(engine_processes, "ANSWER_S", 0.5)
    engine = ProcessEngine(path, BACKEND, threads=1, heads=("modulation",))
    try:
        windows, rates = several_heads.raw(2), np.full(2, np.nan)
        before = engine.infer(windows, rates)["modulation"]
        (hung,) = engine.processes
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(RuntimeError, match="has not answered for 0.5 s and was ended"):
            engine.infer(windows, rates)
        monkeypatch.setattr(engine_processes, "ANSWER_S", 20.0)  # the next one may start slowly
        np.testing.assert_array_equal(engine.infer(windows, rates)["modulation"], before)
        wait_until_gone([hung])
    finally:
        engine.close()


def test_a_process_that_cannot_be_replaced_is_tried_again_with_the_next_batch(path, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(path.read_bytes())
    engine = ProcessEngine(weights, BACKEND, threads=1, heads=("modulation",))
    try:
        windows, rates = several_heads.raw(2), np.full(2, np.nan)
        before = engine.infer(windows, rates)["modulation"]
        os.kill(engine.processes[0], signal.SIGKILL)
        wait_until_gone(engine.processes)
        weights.rename(tmp_path / "aside")
        with pytest.raises(RuntimeError, match="died"):
            engine.infer(windows, rates)
        for _ in range(2):
            with pytest.raises(EMindError, match="w.safetensors"):
                engine.infer(windows, rates)
        (tmp_path / "aside").rename(weights)
        np.testing.assert_array_equal(engine.infer(windows, rates)["modulation"], before)
    finally:
        engine.close()


def test_memory_that_cannot_be_shared_is_told_as_what_it_is(path, monkeypatch, tmp_path):
    monkeypatch.setattr(engine_processes, "_memory_file", lambda: open("/dev/null", "rb", buffering=0))
    with pytest.raises(EMindError, match="no memory to share with a process for inference"):
        ProcessEngine(path, BACKEND, threads=1, heads=("modulation",))


def test_closing_ends_the_processes_and_so_does_forgetting_the_engine(path):
    for forget in (False, True):
        engine = ProcessEngine(path, BACKEND, threads=1, heads=("modulation",))
        numbers = engine.processes
        assert not any(map(gone, numbers))
        if forget:
            del engine
            gc.collect()
        else:
            engine.close()
            with pytest.raises(RuntimeError, match="closed"):
                engine.infer(several_heads.raw(1), np.full(1, np.nan))
        wait_until_gone(numbers)


def test_the_processes_end_with_the_one_that_started_them_however_it_ends(path):
    program = (
        "import sys, signal, os; from emind.runtime.engine_processes import ProcessEngine\n"
        f"engine = ProcessEngine({str(path)!r}, {BACKEND!r}, threads=1, heads=('modulation',))\n"
        "print(*engine.processes, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_until_gone([int(number) for number in done.stdout.split()])


def test_weights_that_cannot_be_used_are_refused_in_the_same_words(path, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:5000])
    for weights, heads in ((broken, None), ("no-such-weights", None), (path, ("nonsense",))):
        with pytest.raises(EMindError) as here:
            ready_engine(weights, BACKEND, 1, 4, heads, processes=0)
        with pytest.raises(EMindError) as there:
            ready_engine(weights, BACKEND, 1, 4, heads, processes=1)
        assert str(there.value) == str(here.value) and type(there.value) is type(here.value)


def test_what_goes_wrong_there_is_told_and_the_next_batch_goes_on(path):
    engine = ProcessEngine(path, "torch-float32", threads=1, heads=("modulation",))
    try:
        stream = engine._streams[0]
        stream._connection.send_bytes((MOST + 1).to_bytes(4, "little"))  # more than the memory holds
        rows, fault = stream.answers(1)
        assert rows == {} and fault == f"ValueError: {MOST + 1} windows in an order"
        assert engine.infer(several_heads.raw(2), np.full(2, np.nan))["modulation"].shape == (2, 4)
    finally:
        engine.close()


def test_how_many_processes_there_are_by_default(monkeypatch):
    monkeypatch.setattr("emind.runtime.ready.available_threads", lambda: 4)
    monkeypatch.setattr("emind.runtime.ready.has_graphics_device", lambda: False)
    monkeypatch.delenv(PROCESSES, raising=False)
    assert [default_processes("auto", threads) for threads in (0, 1, 3, 9)] == [4, 1, 3, 4]
    assert default_processes("torch-compiled", 0) == 0
    monkeypatch.setattr("emind.runtime.ready.available_threads", lambda: 64)
    assert default_processes("openvino", 0) == MOST_PROCESSES
    monkeypatch.setattr("emind.runtime.ready.has_graphics_device", lambda: True)
    assert default_processes("auto", 0) == 0 and default_processes("openvino", 0) == MOST_PROCESSES
    monkeypatch.setenv(PROCESSES, "3")
    assert default_processes("auto", 0) == 3
    monkeypatch.setenv(PROCESSES, "many")
    with pytest.raises(UsageError, match="EMIND_PROCESSES=many"):
        default_processes("auto", 0)


def test_a_layout_comes_back_from_its_description_and_its_arrays_do_not_overlap():
    answers = {"a": np.zeros((3, 5), np.float32), "b": np.zeros((3, 2, 7), np.complex64)}
    layout = Layout.of(7, answers)
    assert Layout.from_dict(layout.to_dict()) == layout
    memory = bytearray(layout.size)
    windows, rates, rows = layout.arrays(memory)
    windows[...], rates[...], rows["a"][...], rows["b"][...] = 1 + 1j, 2, 3, 4j
    assert (windows == 1 + 1j).all() and (rates == 2).all() and (rows["a"] == 3).all() and (rows["b"] == 4j).all()
    assert rows["b"].shape == (MOST, 2, 7)


def test_no_more_processes_are_started_than_the_memory_holds(monkeypatch):
    monkeypatch.delenv(PROCESSES, raising=False)
    monkeypatch.setattr(ready, "available_threads", lambda: 6)
    for memory, processes in ((0, 1), (3 << 30, 3), (1 << 40, 6)):
        monkeypatch.setattr(ready, "available_memory", lambda memory=memory: memory)
        assert default_processes(BACKEND, 0) == processes
