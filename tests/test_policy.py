"""Which windows each overload policy answers, with a simulated engine and a clock that moves when told."""

import numpy as np
import pytest

from emind.runtime.policy import EVEN, LOSSLESS, POLICIES, QUEUE_S, REALTIME, SKIP_NEWEST, SKIP_OLDEST, Even, choice

SPEED = 1000.0  # windows a second that the engine infers
BATCH = 32


class Station:
    """An engine behind a queue: takes what waits, at most a batch, and needs 1 / SPEED for each window."""

    def __init__(self, limit=128, batch=BATCH):
        self.now, self.free_at = 0.0, 0.0
        self.limit, self.batch = limit, batch
        self.queue, self.answered, self.ages = [], [], []
        self.speed = 0.0  # unknown until the first batch is done

    def clock(self):
        return self.now

    @property
    def waiting(self):
        return len(self.queue)

    def room(self):
        return self.limit - len(self.queue)

    def cancel(self, count):
        del self.queue[:count]

    def pass_time(self, until):
        """A batch starts when it is full, or 20 ms after its first window came."""
        while self.queue:
            full = len(self.queue) >= self.batch
            ripe = self.queue[self.batch - 1][1] if full else self.queue[0][1] + 0.02
            begins = max(self.free_at, ripe)
            if begins > until:
                break
            taken, self.queue = self.queue[: self.batch], self.queue[self.batch :]
            self.free_at = begins + len(taken) / SPEED
            self.answered += [number for number, _ in taken]
            self.ages += [self.free_at - arrival for _, arrival in taken]
            self.speed = SPEED
        self.now = until


def run(policy, load, chunk, seconds=2.0, **options):
    """Feed ``load`` times what the engine infers in pieces of ``chunk`` windows. The station, and windows fed."""
    station = Station(**options)
    chooser = choice(policy, station.clock)
    fed = 0
    while station.now < seconds:
        station.pass_time(station.now + chunk / (load * SPEED))
        chosen = chooser.choose(chunk, station)
        assert len(chosen) <= station.room() and (np.diff(chosen) > 0).all()
        station.queue += [(fed + int(index), station.now) for index in chosen]
        fed += chunk
    return station, fed


@pytest.mark.parametrize("chunk", [1, 32, 100, 128])
@pytest.mark.parametrize("policy", [EVEN, SKIP_NEWEST, SKIP_OLDEST, REALTIME])
def test_below_capacity_every_window_is_answered(policy, chunk):
    station, fed = run(policy, 0.7, chunk)
    station.pass_time(station.now + 1.0)
    assert station.answered == list(range(fed))


@pytest.mark.parametrize("load", [1.5, 3.0, 8.0])
@pytest.mark.parametrize("chunk", [1, 7, 50, 120])
def test_even_leaves_no_long_stretch_and_keeps_the_engine_busy(load, chunk):
    station, fed = run(EVEN, load, chunk)
    chosen = station.answered + [number for number, _ in station.queue]
    settled = [number for number in chosen if number > 0.8 * load * SPEED]
    distances = np.diff(settled)
    # The share is trimmed by half at most, and a distance is a whole number of windows.
    assert distances.max() <= 2 * load + 1
    assert len(settled) == pytest.approx((fed - settled[0]) / load, rel=0.05)


def test_even_is_as_regular_as_the_load_when_the_queue_is_as_it_should_be():
    station = Station(batch=16)
    chooser = Even(station.clock)
    chosen = []
    station.speed, station.queue = 1024.0, [(0, 0.0)] * 24  # one and a half batches, always
    for number in range(4000):
        station.now = number / 4096  # exact, as is the share of a quarter
        chosen += [number] * len(chooser.choose(1, station))
    assert set(np.diff(chosen[200:])) == {4}
    assert chosen[:80] == list(range(80))  # before the rate is known


def test_even_spreads_what_room_there_is_over_what_comes_at_once():
    station = Station(limit=5)
    assert Even(station.clock).choose(20, station).tolist() == [0, 4, 8, 12, 16]
    station.queue = [(0, 0.0)] * 5
    assert Even(station.clock).choose(20, station).tolist() == []


def test_even_follows_a_load_that_changes():
    station = Station()
    chooser = Even(station.clock)
    numbers = []
    for load, seconds in ((4.0, 3.0), (0.5, 3.0), (2.0, 3.0)):
        begun, fed, before = station.now, 0, len(station.answered)
        while station.now < begun + seconds:
            station.pass_time(station.now + 10 / (load * SPEED))
            station.queue += [(0, station.now)] * len(chooser.choose(10, station))
            fed += 10
        numbers.append((len(station.answered) - before) / fed)
    assert numbers == pytest.approx([0.25, 1.0, 0.5], rel=0.06)


def test_skip_newest_answers_those_that_came_first():
    station = Station(limit=8, batch=4)
    chooser = choice(SKIP_NEWEST, station.clock)
    assert chooser.choose(20, station).tolist() == list(range(8))
    station.queue = [(n, 0.0) for n in range(6)]
    assert chooser.choose(20, station).tolist() == [0, 1]
    assert [n for n, _ in station.queue] == list(range(6))


def test_skip_oldest_answers_those_that_came_last():
    station = Station(limit=8, batch=4)
    chooser = choice(SKIP_OLDEST, station.clock)
    assert chooser.choose(20, station).tolist() == list(range(12, 20))
    station.queue = [(n, 0.0) for n in range(6)]
    assert chooser.choose(5, station).tolist() == list(range(5))
    assert [n for n, _ in station.queue] == [3, 4, 5]  # three gave way
    assert chooser.choose(1, Station(limit=8)).tolist() == [0]


@pytest.mark.parametrize("policy", [SKIP_NEWEST, SKIP_OLDEST, EVEN])
def test_every_policy_keeps_the_engine_busy_under_overload(policy):
    station, _ = run(policy, 3.0, 40)
    assert len(station.answered) == pytest.approx(station.now * SPEED, rel=0.03)


def test_the_longest_stretch_is_shortest_with_even_and_the_wait_with_skip_newest_longest():
    longest, age = {}, {}
    for policy in (SKIP_NEWEST, SKIP_OLDEST, EVEN):
        station, _ = run(policy, 4.0, 10)
        longest[policy] = np.diff(station.answered[len(station.answered) // 2 :]).max()
        age[policy] = np.median(station.ages[len(station.ages) // 2 :])
    assert longest[EVEN] < 0.2 * min(longest[SKIP_NEWEST], longest[SKIP_OLDEST])
    assert max(age[EVEN], age[SKIP_OLDEST]) < age[SKIP_NEWEST]


def test_a_name_says_which_policy_it_is():
    assert POLICIES == (LOSSLESS, REALTIME, EVEN, SKIP_NEWEST, SKIP_OLDEST)
    assert isinstance(choice(REALTIME, float), Even) and isinstance(choice(EVEN, float), Even)
    with pytest.raises(ValueError, match="hurried.*realtime-even"):
        choice("hurried", float)


def test_even_lets_no_more_wait_than_the_engine_infers_in_time():
    """A slow engine's one and a half batches would be answered when nobody waits for them any more."""
    station = Station(limit=128)
    chooser = Even(station.clock)
    station.speed = 400.0
    for waiting, more in ((int(400 * QUEUE_S) - 5, True), (int(400 * QUEUE_S) + 5, False)):
        station.queue = [(0, 0.0)] * waiting
        taken = []
        for number in range(4000):
            station.now += 1 / 1600
            taken.append(len(chooser.choose(1, station)))
        assert (sum(taken[2000:]) > 500) == more
