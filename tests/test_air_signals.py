"""Parameters of the air set's signals that recordings have taught."""

import numpy as np
import pytest
from emind_training.synthesis import air_signals

N = 1280


@pytest.mark.parametrize("name, order", [("2FSK", 2), ("GFSK", 2), ("4FSK", 4)])
def test_packets_of_shift_keying_begin_with_an_alternation_some_of_them_fill_the_window_with_it(
    monkeypatch, name, order
):
    seen = []
    original = air_signals.mod.frequency_shift

    def frequency_shift(levels, *rest):
        changes = np.flatnonzero(levels[:-1] != -levels[1:])
        seen.append((changes[0] if len(changes) else len(levels)) / len(levels))
        return original(levels, *rest)

    monkeypatch.setattr(air_signals.mod, "frequency_shift", frequency_shift)
    rng = np.random.default_rng(1)
    for _ in range(250):
        signal = air_signals.SIGNALS[name](rng, 1280)
        assert 0 < signal.bandwidth <= 1 and np.isfinite(signal.samples).all()
    packets = np.array(seen) > 0.2
    assert 0.07 < np.mean(packets) < 0.35
    assert 0.01 < np.mean(np.array(seen) > 0.9) < 0.2


def test_most_minimum_shift_keying_is_smoothed(monkeypatch):
    pulses = []
    original = air_signals.mod.frequency_shift
    monkeypatch.setattr(
        air_signals.mod,
        "frequency_shift",
        lambda levels, sps, index, pulse, *rest: pulses.append((index, len(np.unique(pulse)))) or original(
            levels, sps, index, pulse, *rest
        ),
    )
    rng = np.random.default_rng(2)
    for _ in range(150):
        air_signals.msk(rng, 1280)
    assert {index for index, _ in pulses} == {0.5}
    assert 0.1 < np.mean([values == 2 for _, values in pulses]) < 0.4


def test_a_remote_control_may_leak_its_carrier_beside_a_short_message():
    """Windows that hold little keying and a steady weak carrier for the rest."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(300):
        level = np.abs(air_signals.ook(rng, N).samples)
        level = level / level.max()
        halves = level[: N // 2], level[N // 2 :]
        quiet = min(halves, key=np.ptp)
        found.append(np.ptp(quiet) < 1e-6 and 0.02 < quiet.max() < 0.5 and np.ptp(level) > 0.5)
    assert 0.02 < np.mean(found) < 0.2


def test_a_carrier_may_stand_before_or_after_a_packet_of_shift_keying(monkeypatch):
    levels = []
    original = air_signals.mod.frequency_shift
    monkeypatch.setattr(
        air_signals.mod, "frequency_shift", lambda a, *rest: levels.append(np.array(a)) or original(a, *rest))
    rng = np.random.default_rng(6)
    for _ in range(300):
        air_signals.gfsk(rng, N)
    standing = [a for a in levels if (a == 0).any()]
    assert 0.02 < len(standing) / len(levels) < 0.08  # half of the carriers stand in the middle, the others on a tone
    for a in standing:
        assert (a[:1] == 0).all() != (a[-1:] == 0).all() and 0 < np.mean(a == 0) <= 0.5
