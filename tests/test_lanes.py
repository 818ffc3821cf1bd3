"""The worker with an engine that infers several batches at a time, and who runs on which cores."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from emind.runtime import machine
from emind.runtime.worker import ENGINE_FAILED, Worker

LENGTH = 4
PATIENCE_S = 30


class Lanes:
    """Answers each window with its first sample's real part, in lanes whose gates are shut until told."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.gates = [threading.Semaphore(0) for _ in range(lanes)]
        self.entered: list[list[list[int]]] = [[] for _ in range(lanes)]
        self.errors: list[Exception | None] = [None] * lanes
        self.changed = threading.Condition()

    def infer(self, windows, rates_hz, lane):
        with self.changed:
            self.entered[lane].append(windows[:, 0].real.astype(int).tolist())
            self.changed.notify_all()
        assert self.gates[lane].acquire(timeout=PATIENCE_S)
        if self.errors[lane] is not None:
            raise self.errors[lane]
        return {"value": windows[:, :1].real.astype(np.float32)}

    def wait_for(self, batches: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: sum(map(len, self.entered)) == batches, PATIENCE_S)


def windows_of(*values):
    return np.repeat(np.array(values, np.complex64)[:, None], LENGTH, axis=1)


@pytest.fixture
def pair():
    """An engine of two lanes and a started worker of batches of two."""
    engine = Lanes(2)
    worker = Worker(engine, LENGTH, batch=2, max_latency_s=1e6, capacity=8, goes_on=True)
    worker.start()
    yield engine, worker
    for gate in engine.gates:
        for _ in range(10):
            gate.release()
    assert worker.stop(PATIENCE_S)
    assert "emind-worker" not in [thread.name for thread in threading.enumerate()]


def lane_of(engine: Lanes, batch: list[int]) -> int:
    return next(lane for lane, batches in enumerate(engine.entered) if batch in batches)


def values(worker: Worker, count: int) -> list[int]:
    return worker.answers(np.arange(count), 0)[1]["value"][:, 0].astype(int).tolist()


def test_each_lane_has_a_batch_at_a_time(pair):
    engine, worker = pair
    worker.submit(windows_of(1, 2, 3, 4, 5, 6), 1e6)
    engine.wait_for(2)
    assert sorted(batches[0] for batches in engine.entered) == [[1, 2], [3, 4]]
    assert worker.waiting == 2 and worker.settled == 0 and worker.queue_depth == 6


def test_windows_are_settled_in_order_though_the_later_batch_comes_back_first(pair):
    engine, worker = pair
    worker.submit(windows_of(1, 2, 3, 4), 1e6)
    engine.wait_for(2)
    first, second = lane_of(engine, [1, 2]), lane_of(engine, [3, 4])
    engine.gates[second].release()
    worker.submit(windows_of(5, 6), 1e6)
    engine.wait_for(3)  # the lane that is free has taken the next
    assert worker.settled == 0 and [5, 6] in engine.entered[second]
    engine.gates[first].release()
    assert worker.wait(3, PATIENCE_S) and worker.settled == 4  # not the third batch, which is still inferred
    assert values(worker, 4) == [1, 2, 3, 4]
    engine.gates[second].release()
    assert worker.wait(5, PATIENCE_S)
    assert values(worker, 6) == [1, 2, 3, 4, 5, 6]


def test_no_slot_is_given_away_while_an_earlier_lane_still_reads_its_windows(pair):
    engine, worker = pair
    worker.submit(windows_of(1, 2, 3, 4, 5, 6, 7, 8), 1e6)
    engine.wait_for(2)
    assert worker.room() == 0
    second = lane_of(engine, [3, 4])
    engine.gates[second].release()
    engine.wait_for(3)
    worker.release(4)  # the caller gave them up
    assert worker.room() == 0, "windows 1 and 2 are still with the engine"


def test_an_error_in_one_lane_is_no_error_of_the_other_s_windows(pair):
    engine, worker = pair
    worker.submit(windows_of(1, 2, 3, 4), 1e6)
    engine.wait_for(2)
    good, bad = lane_of(engine, [1, 2]), lane_of(engine, [3, 4])
    engine.errors[bad] = ValueError("broken lane")
    engine.gates[bad].release()
    with engine.changed:
        pass
    engine.gates[good].release()
    assert worker.wait(3, PATIENCE_S)
    assert worker.errors == 1 and str(worker.last_error) == "broken lane"
    made_by = worker.made_by(np.arange(4)).tolist()
    assert made_by == [0, 0, ENGINE_FAILED, ENGINE_FAILED] and values(worker, 2) == [1, 2]


def test_an_engine_with_fewer_lanes_takes_over(pair):
    engine, worker = pair

    class Single:
        def __init__(self):
            self.calls = threading.Semaphore(0)

        def infer(self, windows, rates_hz):
            self.calls.release()
            return {"value": -windows[:, :1].real.astype(np.float32)}

    worker.replace_engine(single := Single())
    worker.submit(windows_of(1, 2, 3, 4), 1e6)
    assert worker.wait(3, PATIENCE_S)
    assert worker.answers(np.arange(4), 1)[1]["value"][:, 0].tolist() == [-1, -2, -3, -4]
    assert worker.made_by(np.arange(4)).tolist() == [1] * 4 and single.calls.acquire(timeout=PATIENCE_S)


def test_a_worker_of_one_thread_has_all_lanes_of_the_next_engine_infer_each_batch():
    class Two:
        lanes = 2

        def infer(self, windows, rates_hz, lane=None):
            return {"value": np.full((len(windows), 1), -1 if lane is None else lane, np.float32)}

    worker = Worker(Lanes(1), LENGTH, batch=2, max_latency_s=1e6)
    worker.replace_engine(Two())
    worker.start()
    worker.submit(windows_of(1, 2), 1e6)
    assert worker.wait(1, PATIENCE_S)
    assert worker.answers(np.arange(2), 1)[1]["value"][:, 0].tolist() == [-1, -1]
    assert worker.stop(PATIENCE_S)


def test_a_lane_that_waits_keeps_no_engine_that_another_took_over_from(pair):
    engine, worker = pair
    worker.submit(windows_of(1, 2, 3, 4), 1e6)
    engine.wait_for(2)
    for gate in engine.gates:
        gate.release()
    assert worker.wait(3, PATIENCE_S)
    old = Lanes(2)
    for gate in old.gates:
        gate.release()
    seen = weakref.ref(old)
    worker.replace_engine(old)
    worker.submit(windows_of(5, 6), 1e6)
    assert worker.wait(5, PATIENCE_S)
    worker.replace_engine(engine)
    worker.release(6)
    worker.forget_engines(2)
    del old
    for gate in engine.gates:
        gate.release()
    worker.submit(windows_of(7, 8), 1e6)  # one lane has it, the other still waits since the old engine's batch
    assert worker.wait(7, PATIENCE_S)
    gc.collect()
    assert seen() is None


def test_the_speed_of_lanes_that_end_together_is_that_of_all_of_them():
    worker = Worker(Lanes(2), LENGTH, batch=16)
    for _ in range(40):  # 32 windows a second, in two batches that come back within a millisecond
        worker._reckon(16, 1.0, 0.999)
        worker._reckon(16, 1.0, 0.001)
    assert worker.speed == pytest.approx(32, rel=0.2)


def test_what_is_set_aside_for_one_stream_stays_so_until_the_last_one_ends():
    before = gc.get_freeze_count()
    machine.set_aside_what_is_there()
    machine.set_aside_what_is_there()
    machine.take_back()
    assert gc.get_freeze_count() > before
    machine.take_back()
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("cores, own", [(1, 0), (2, 1), (4, 1), (8, 2), (16, 4)])
def test_a_quarter_of_the_cores_is_the_flowgraph_s(monkeypatch, cores, own):
    monkeypatch.setattr(machine, "_CORES", list(range(cores)))
    mine, theirs = machine.divided_cores()
    if cores > 1:
        assert len(mine) == own and mine + theirs == list(range(cores)) and machine.spared_threads() == cores - own
    else:
        assert mine == theirs == [] and machine.spared_threads() == 1


@pytest.mark.skipif(len(machine.all_cores()) < 2, reason="there is one core only")
def test_an_engine_apart_leaves_the_program_the_other_cores(small_weights):
    program = (
        "import os, sys, threading\n"
        "from emind.runtime.ready import ready_engine\n"
        "before = os.sched_getaffinity(0)\n"
        f"engine = ready_engine({str(small_weights)!r}, 'torch-float32', batch=2, processes=8, apart=True)\n"
        "seen = []\n"
        "thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0))); thread.start(); thread.join()\n"
        "theirs = set().union(*(os.sched_getaffinity(number) for number in engine.processes))\n"
        "assert seen == [os.sched_getaffinity(0)] and not theirs & seen[0] and theirs | seen[0] == before\n"
        f"again = ready_engine({str(small_weights)!r}, 'torch-float32', 1, 2, processes=1)\n"
        "assert os.sched_getaffinity(again.processes[0]) == before, 'it runs wherever the system puts it'\n"
        "engine.close(); again.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
