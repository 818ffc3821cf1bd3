"""The batching worker, its ring, and the fates of windows, without GNU Radio. All waits are on events and counts."""

import threading

import numpy as np
import pytest

from emind.contract.tags import STATISTICS_KEYS
from emind.runtime.dispatch import INFERRED, INVALID, NOISE, SKIPPED, Dispatcher
from emind.runtime.ring import Ring
from emind.runtime.statistics import Reservoir, Statistics
from emind.runtime.worker import Worker

LENGTH = 4
PATIENCE_S = 30


class Clock:
    """Time that moves when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Engine:
    """Answers each window with its first sample's real part; waits at its gate if it is shut."""

    def __init__(self, shut=False, error=None):
        self.batches, self.rates, self.error = [], [], error
        self.entered, self.gate = threading.Semaphore(0), threading.Event()
        if not shut:
            self.gate.set()

    def infer(self, windows, rates_hz):
        self.entered.release()
        assert self.gate.wait(PATIENCE_S)
        if self.error:
            raise self.error
        assert windows.flags.c_contiguous
        self.batches.append(windows[:, 0].real.astype(int).tolist())
        self.rates.append(rates_hz.tolist())
        return {"value": windows[:, :1].real.astype(np.float32)}


def windows_of(*values):
    return np.repeat(np.array(values, np.complex64)[:, None], LENGTH, axis=1)


@pytest.fixture
def running():
    """Makes started workers and ends them."""
    started = []

    def make(engine, **options):
        options = {"batch": 4, "max_latency_s": 1e6, **options}
        worker = Worker(engine, LENGTH, **options)
        worker.start()
        started.append((worker, engine))
        return worker

    yield make
    for worker, engine in started:
        engine.gate.set()
        assert worker.stop(PATIENCE_S)
    assert "emind-worker" not in [thread.name for thread in threading.enumerate()]


def settle(worker, count):
    while worker.settled < count and worker.error is None:
        assert worker.wait(worker.settled, PATIENCE_S)


def test_a_ring_reads_across_its_end_what_was_written():
    ring = Ring(5, LENGTH)
    for first in range(0, 40, 3):
        values = np.arange(first + 1, first + 4)
        ring.write(first, windows_of(*values), float(first), 0.0)
        windows, rates = ring.read(first, 3)
        assert windows[:, 0].real.tolist() == values.tolist()
        assert rates.tolist() == [first] * 3
        assert windows.flags.c_contiguous
        ring.answer(first, 3, {"head": np.stack([values, values], axis=1)})
        assert ring.answers[0]["head"][(first + np.arange(3)) % 5, 1].tolist() == values.tolist()


def test_batches_close_on_size_and_every_window_is_answered_in_order(running):
    engine = Engine()
    worker = running(engine)
    for first in range(0, 80, 4):
        while worker.room() < 4:
            settle(worker, worker.settled + 1)
            worker.release(worker.settled)
        assert worker.submit(windows_of(*range(first, first + 4)), 1e6) == first
    settle(worker, 80)
    assert sum(engine.batches, []) == list(range(80))
    assert all(len(batch) == 4 for batch in engine.batches)
    assert (worker.made_by(np.arange(76, 80)) == 0).all()
    who, answers = worker.answers(np.arange(76, 80), 0)
    assert who is engine and answers["value"][:, 0].tolist() == [76, 77, 78, 79]
    assert set(sum(engine.rates, [])) == {1e6}


def test_a_batch_closes_on_latency_before_it_is_full(running):
    engine = Engine()
    worker = running(engine, max_latency_s=0.0)
    worker.submit(windows_of(7), np.nan)
    settle(worker, 1)
    assert engine.batches == [[7]]


def test_the_ring_takes_no_more_than_it_holds_and_no_slot_is_reused_while_the_engine_reads_it(running):
    engine = Engine(shut=True)
    worker = running(engine, capacity=8)
    worker.submit(windows_of(*range(8)), 1.0)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    assert worker.room() == 0
    worker.release(8)  # the caller gives all up; four are with the engine
    assert worker.room() == 0
    assert worker.queue_depth == 8
    engine.gate.set()
    settle(worker, 8)
    assert worker.room() == 8
    assert engine.batches == [[0, 1, 2, 3]]  # what waited was cancelled


def test_an_engine_that_raises_is_reported_and_ends_the_thread(running):
    error = RuntimeError("broken")
    worker = running(Engine(error=error), max_latency_s=0.0)
    worker.submit(windows_of(1), 1.0)
    settle(worker, 1)
    assert worker.error is error
    assert worker.room() == 0


@pytest.mark.parametrize("rows", [np.zeros((3, 2)), np.zeros(1), np.zeros((0, 2))])
def test_answers_that_do_not_fit_the_windows_are_an_error(running, rows):
    engine = Engine()
    engine.infer = lambda windows, rates: {"value": rows}
    worker = running(engine, max_latency_s=0.0)
    worker.submit(windows_of(1, 2), 1.0)
    settle(worker, 1)
    assert isinstance(worker.error, ValueError) and "value" in str(worker.error)


def test_a_new_engine_takes_over_between_two_batches_and_each_answer_says_whose_it_is(running):
    old, new = Engine(shut=True), Engine()
    new.infer = lambda windows, rates: {"other": np.full((len(windows), 3), 9, np.float32)}
    worker = running(old)
    worker.submit(windows_of(*range(8)), 1.0)
    assert old.entered.acquire(timeout=PATIENCE_S)
    worker.replace_engine(new)
    assert worker.engine is new
    old.gate.set()
    settle(worker, 8)
    assert old.batches == [[0, 1, 2, 3]]
    assert worker.made_by(np.arange(8)).tolist() == [0] * 4 + [1] * 4
    assert worker.answers(np.arange(4), 0)[0] is old
    who, rows = worker.answers(np.arange(4, 8), 1)
    assert who is new and list(rows) == ["other"] and rows["other"].shape == (4, 3)


def test_answers_of_two_engines_are_released_apart_and_the_old_one_is_forgotten(running):
    old, new = Engine(shut=True), Engine()
    new.infer = lambda windows, rates: {"other": windows[:, :1].real.astype(np.float32)}
    statistics = Statistics()
    worker = running(old, capacity=16)
    dispatcher = Dispatcher(worker, statistics, policy="lossless", hold=16)
    dispatcher.admit(windows_of(1, 0, 2, 3, 4, 0, 5, 6, 7, 8), 1.0, LENGTH)  # 0: gated, never sent
    assert old.entered.acquire(timeout=PATIENCE_S)
    worker.replace_engine(new)
    old.gate.set()
    settle(worker, 8)
    first, second = dispatcher.release(16), dispatcher.release(16)
    assert first.engine is old and first.answers["value"][:, 0].tolist() == [1, 2, 3, 4]
    assert first.fates.tolist() == [INFERRED, NOISE, INFERRED, INFERRED, INFERRED, NOISE]
    assert second.engine is new and second.answers["other"][:, 0].tolist() == [5, 6, 7, 8]
    assert list(second.answers) == ["other"] and dispatcher.held == 0
    assert list(worker._engines.values()) == [new]
    assert adds_up(statistics)


def test_engines_that_come_and_go_while_nothing_is_asked_are_not_kept(running):
    first, second, last = Engine(), Engine(), Engine()
    worker = running(first, max_latency_s=0.0)
    dispatcher = Dispatcher(worker, Statistics(), policy="lossless", hold=16)
    for engine in (*(Engine() for _ in range(5)), second, last):
        worker.replace_engine(engine)
        dispatcher.admit(windows_of(0, 0), 1.0, LENGTH)  # gated
        assert dispatcher.release(16).engine is first
    assert list(worker._engines.values()) == [first, last]
    dispatcher.admit(windows_of(7), 1.0, LENGTH)
    settle(worker, 1)
    released = dispatcher.release(16)
    assert released.engine is last and released.answers["value"].tolist() == [[7]]
    assert list(worker._engines.values()) == [last]


def test_what_an_engine_failed_on_counts_as_failed_although_the_stream_ends_there(running):
    engine, statistics = Engine(shut=True), Statistics()
    worker = running(engine, capacity=16)
    dispatcher = Dispatcher(worker, statistics, policy="lossless", hold=16)
    dispatcher.admit(windows_of(*range(1, 11)), 1.0, LENGTH)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    engine.gate.set()
    assert engine.entered.acquire(timeout=PATIENCE_S)  # the first batch of four has its answers
    worker.wait(3, PATIENCE_S)
    engine.error = RuntimeError("broken")
    worker.submit(windows_of(11, 12), 1.0)
    while worker.error is None:
        worker.wait(12, PATIENCE_S)
    dispatcher.abandon()
    counts = statistics.snapshot(0, "fake", "none")
    assert counts["windows_skipped"] == 10 and adds_up(statistics)
    assert counts["skipped_failed"] in (2, 6) and counts["skipped_at_end"] == 10 - counts["skipped_failed"]


def test_stop_leaves_what_waits_unanswered_and_a_waiting_caller_wakes(running):
    engine = Engine(shut=True)
    worker = running(engine)
    worker.submit(windows_of(1), 1.0)  # the batch never closes
    woken = []
    waiter = threading.Thread(target=lambda: woken.append(worker.wait(0, PATIENCE_S)))
    waiter.start()
    assert worker.stop(PATIENCE_S)
    waiter.join(PATIENCE_S)
    assert woken == [True]
    assert engine.batches == [] and worker.room() == 0


def test_a_worker_that_never_started_stops():
    assert Worker(Engine(), LENGTH).stop()


def test_once_answers_come_too_late_no_more_wait_than_can_come_in_time(running):
    engine, clock = Engine(shut=True), Clock()
    worker = running(engine, capacity=40, clock=clock)
    worker.submit(windows_of(*range(4)), 1.0)
    assert engine.entered.acquire(timeout=PATIENCE_S)
    assert worker.room() == 36
    worker.too_late(0.125)
    clock.now += 0.03125  # for 4 windows: 16 in the time that the caller bears, two fifths of them may wait
    engine.gate.set()
    settle(worker, 4)
    worker.release(4)
    assert worker.room() == 6
    worker.submit(windows_of(*range(4)), 1.0)  # takes no time now
    settle(worker, 8)
    worker.release(8)
    assert worker.room() == 40


def test_arguments_that_cannot_work_are_refused():
    for options in ({"batch": 0}, {"max_latency_s": -1.0}):
        with pytest.raises(ValueError):
            Worker(Engine(), LENGTH, **options)
    with pytest.raises(ValueError):
        Dispatcher(Worker(Engine(), LENGTH), Statistics(), policy="hurried", hold=4)
    with pytest.raises(ValueError):
        Dispatcher(Worker(Engine(), LENGTH), Statistics(), policy="lossless", hold=0)


def adds_up(statistics):
    counts = statistics.snapshot(0, "fake", "none")
    parts = counts["windows_inferred"] + counts["windows_skipped"] + counts["windows_gated"]
    return counts["windows_seen"] == parts


def test_lossless_admits_what_can_be_submitted_and_releases_in_order(running):
    engine, statistics = Engine(shut=True), Statistics()
    worker = running(engine, capacity=8)
    dispatcher = Dispatcher(worker, statistics, policy="lossless", hold=100)
    stream = windows_of(*range(1, 31))
    assert dispatcher.admit(stream, 1.0, LENGTH) == 8
    assert dispatcher.release(100) is None
    engine.gate.set()
    released, admitted = [], 8
    while len(released) < 28:
        dispatcher.wait()
        admitted += dispatcher.admit(stream[admitted:], 1.0, LENGTH)
        part = dispatcher.release(3)  # as much as the output has room for
        if part is not None:
            assert (part.fates == INFERRED).all() and len(part.fates) <= 3
            released += part.answers["value"][:, 0].astype(int).tolist()
        if admitted == 30 and len(released) == 28:
            break
    assert released == list(range(1, 29))  # the last two wait for a full batch
    dispatcher.abandon()
    assert adds_up(statistics)


def test_gated_windows_keep_their_place_among_the_others(running):
    engine, statistics = Engine(), Statistics()
    worker = running(engine, max_latency_s=0.0)
    dispatcher = Dispatcher(worker, statistics, policy="lossless", hold=10)
    assert dispatcher.admit(windows_of(1, 0, np.nan, 2, 0), 1.0, LENGTH) == 5
    fates, values = [], []
    while len(fates) < 5:
        part = dispatcher.release(10)
        if part is None:
            dispatcher.wait()
            continue
        fates += part.fates.tolist()
        values += part.answers["value"][:, 0].tolist() if part.answers else []
    assert fates == [INFERRED, NOISE, INVALID, INFERRED, NOISE]
    assert values == [1, 2]
    counts = statistics.snapshot(0, "fake", "none")
    assert (counts["windows_inferred"], counts["windows_gated"]) == (2, 3)


def test_realtime_skips_at_once_what_finds_no_room_and_later_what_has_no_answer(running):
    engine, statistics, clock = Engine(shut=True), Statistics(), Clock()
    worker = running(engine, batch=2, capacity=4)
    dispatcher = Dispatcher(worker, statistics, policy="realtime", hold=10, deadline_s=0.1, clock=clock)
    assert dispatcher.admit(windows_of(*range(1, 7)), 1.0, LENGTH) == 6
    assert dispatcher.release(10) is None  # four wait in front of the two that were skipped
    clock.now += 0.05
    assert dispatcher.release(10) is None
    clock.now += 0.06
    part = dispatcher.release(10)
    assert part.fates.tolist() == [SKIPPED] * 6
    engine.gate.set()
    settle(worker, 4)
    assert sum(engine.batches, []) in ([], [1, 2])  # late answers are dropped, waiting windows cancelled
    counts = statistics.snapshot(0, "fake", "none")
    assert (counts["windows_seen"], counts["windows_skipped"], counts["windows_inferred"]) == (6, 6, 0)


def test_realtime_gives_way_when_more_windows_press_than_can_be_held(running):
    engine, statistics, clock = Engine(shut=True), Statistics(), Clock()
    worker = running(engine, batch=2, capacity=8)
    dispatcher = Dispatcher(worker, statistics, policy="realtime", hold=4, deadline_s=0.1, clock=clock)
    assert dispatcher.admit(windows_of(*range(1, 10)), 1.0, LENGTH) == 4
    part = dispatcher.release(10, pressing=3)
    assert part.fates.tolist() == [SKIPPED] * 3
    assert dispatcher.held == 1
    dispatcher.abandon()
    assert adds_up(statistics)


def test_realtime_goes_on_without_the_engine_after_its_error(running):
    statistics = Statistics()
    worker = running(Engine(error=RuntimeError("broken")), max_latency_s=0.0)
    dispatcher = Dispatcher(worker, statistics, policy="realtime", hold=10)
    dispatcher.admit(windows_of(1, 2), 1.0, LENGTH)
    while worker.error is None:
        worker.wait(0, PATIENCE_S)
    dispatcher.admit(windows_of(3, 4), 1.0, LENGTH)
    assert dispatcher.release(10).fates.tolist() == [SKIPPED] * 4
    assert adds_up(statistics)


def test_the_reservoir_is_bounded_and_keeps_the_newest():
    reservoir = Reservoir(100)
    assert reservoir.percentiles(50, 99) == [0.0, 0.0]
    for first in range(0, 1000, 30):
        reservoir.add(np.arange(first, first + 30, dtype=float))
    low, high = reservoir.percentiles(0, 100)
    assert (low, high) == (920.0, 1019.0)
    reservoir.add(np.arange(5000.0))
    assert reservoir.percentiles(0, 100) == [4900.0, 4999.0]


def test_a_snapshot_has_the_keys_of_the_contract():
    statistics = Statistics()
    statistics.count(seen=3, inferred=1, skipped=1, gated=1, gaps=2)
    statistics.add_latencies(np.array([1.0, 3.0]))
    snapshot = statistics.snapshot(5, "fake", "none")
    assert tuple(snapshot) == STATISTICS_KEYS
    assert snapshot["latency_ms_p50"] == 2.0 and snapshot["queue_depth"] == 5 and snapshot["gaps"] == 2
