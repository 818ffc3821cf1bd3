"""A worker whose engine fails: what is counted, when it tries again, and that the queue's length recovers."""

import numpy as np

from emind.runtime.worker import ENGINE_FAILED, LONGEST_PAUSE_S, NOBODY, PAUSE_S, Worker

LENGTH, PATIENCE_S = 4, 30


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Engine:
    def __init__(self, fault=None):
        self.fault, self.asked = fault, 0

    def infer(self, windows, rates_hz):
        self.asked += 1
        if self.fault:
            raise self.fault
        return {"value": windows[:, :1].real.astype(np.float32)}


def windows(count):
    return np.ones((count, LENGTH), np.complex64)


def settle(worker, count):
    while worker.settled < count:
        assert worker.wait(worker.settled, PATIENCE_S)


def test_pauses_double_up_to_a_bound_and_a_success_ends_them():
    engine, clock = Engine(RuntimeError("out of order")), Clock()
    worker = Worker(engine, LENGTH, batch=1, max_latency_s=0.0, goes_on=True, clock=clock)
    worker.start()
    pauses, number = [], 0
    for _ in range(9):
        worker.submit(windows(1), 1.0)
        number += 1
        settle(worker, number)
        assert worker.made_by(np.array([number - 1])).tolist() == [ENGINE_FAILED]
        worker.release(number)
        begun = clock.now
        assert worker.room() == 0  # nothing is taken on while it pauses
        while worker.room() == 0:
            clock.now += PAUSE_S / 4
        pauses.append(clock.now - begun)
    assert worker.errors == engine.asked == 9 and worker.error is None
    np.testing.assert_allclose(pauses[:4], PAUSE_S * 2.0 ** np.arange(4), atol=PAUSE_S / 3)
    assert max(pauses) <= LONGEST_PAUSE_S + PAUSE_S / 3
    engine.fault = None
    worker.submit(windows(1), 1.0)
    settle(worker, number + 1)
    assert worker.made_by(np.array([number])).tolist() == [0]
    engine.fault = RuntimeError("again")
    worker.submit(windows(1), 1.0)
    settle(worker, number + 2)
    worker.release(number + 2)
    clock.now += PAUSE_S
    assert worker.room() > 0  # the first pause is the shortest again
    assert worker.stop(PATIENCE_S)


def test_windows_that_waited_behind_a_failed_batch_are_settled_as_failed():
    worker = Worker(Engine(RuntimeError("out of order")), LENGTH, batch=4, max_latency_s=1e6, goes_on=True)
    worker.submit(windows(10), 1.0)
    worker.start()
    settle(worker, 10)
    assert (worker.made_by(np.arange(10)) == ENGINE_FAILED).all()
    assert worker.queue_depth == 0
    assert worker.stop(PATIENCE_S)


def test_new_weights_are_tried_at_once():
    worker = Worker(Engine(RuntimeError("out of order")), LENGTH, batch=1, goes_on=True, clock=Clock())
    worker.start()
    worker.submit(windows(1), 1.0)
    settle(worker, 1)
    assert worker.room() == 0
    worker.replace_engine(Engine())
    worker.submit(windows(worker.room()), 1.0)
    settle(worker, 2)
    assert worker.made_by(np.array([1])).tolist() == [1]
    assert worker.stop(PATIENCE_S)


def test_windows_that_give_way_are_settled_and_nobody_is_asked():
    engine = Engine()
    worker = Worker(engine, LENGTH, batch=4, max_latency_s=1e6)
    worker.submit(windows(3), 1.0)
    worker.cancel(2)
    assert (worker.waiting, worker.settled) == (1, 2)
    worker.cancel(5)
    assert (worker.waiting, worker.settled) == (0, 3)
    assert worker.made_by(np.arange(3)).tolist() == [NOBODY] * 3 and engine.asked == 0


def test_a_queue_cut_short_by_one_late_answer_grows_back():
    worker = Worker(Engine(), LENGTH, batch=4, max_latency_s=0.0, capacity=40)
    worker._bearable_s = 1e-9  # as after windows that were given up the moment they came
    worker.start()
    number = 0
    for _ in range(2000):
        count = worker.room()
        worker.submit(windows(min(count, 4)), 1.0)
        number += min(count, 4)
        settle(worker, number)
        worker.release(number)
        if worker.limit == 40:
            break
    assert worker.limit == 40
    assert worker.stop(PATIENCE_S)
