"""How many messages may go out, with a clock that moves when told."""

import pytest

from emind.runtime.outlet import Outlet


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_of_a_receiver_that_is_watched_the_queue_decides():
    lengths = [0, 0]
    outlet = Outlet(10, Clock())
    outlet.watch(lambda: lengths[0])
    outlet.watch(lambda: lengths[1])
    assert outlet.knows and outlet.room() == 10
    lengths[1] = 7
    outlet.sent(500)  # what went out before and is gone from the queues counts no more
    assert outlet.room() == 3
    lengths[0] = 12
    assert outlet.room() == 0


def test_once_acknowledged_what_is_pending_never_exceeds_the_limit():
    outlet = Outlet(10, Clock())
    outlet.sent(4)
    assert not outlet.knows
    outlet.acknowledge()
    assert outlet.knows and outlet.room() == 7
    outlet.sent(7)
    assert outlet.room() == 0
    outlet.acknowledge(3)
    assert outlet.room() == 3
    outlet.acknowledge(1000)  # a receiver that counts wrongly gets no more than the limit
    assert outlet.room() == 10


def test_without_knowledge_so_many_a_second_go_out_in_bursts_of_as_many():
    clock = Clock()
    outlet = Outlet(10, clock)
    sent = 0
    for _ in range(400):  # ten seconds
        room = outlet.room()
        assert room <= 10
        outlet.sent(room)
        sent += room
        clock.now += 0.025
    assert sent == pytest.approx(110, abs=1)
    clock.now += 100.0
    assert outlet.room() == 10


def test_a_new_start_forgets_what_was_pending_and_keeps_what_is_watched():
    outlet = Outlet(10, Clock())
    outlet.acknowledge()
    outlet.sent(10)
    outlet.restart()
    assert not outlet.knows and outlet.room() == 10
    outlet.watch(lambda: 4)
    outlet.restart()
    assert outlet.knows and outlet.room() == 6


def test_no_limit_is_no_limit_and_a_negative_one_is_refused():
    assert Outlet(0).room() is None
    with pytest.raises(ValueError):
        Outlet(-1)
