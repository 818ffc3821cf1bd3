"""Energy as a trigger: a floor that noise has left is learned anew, and what is a signal stays an event."""

from __future__ import annotations

import numpy as np
import pytest
from emind.dsp.snr import LOOK_EVERY, RELEARN_WINDOWS
from emind.dsp.trigger import EnergyTrigger

CHUNK = 64
COUNT = (RELEARN_WINDOWS + 200) * CHUNK


def noise(count: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(5).standard_normal((count, 2), np.float32).view(np.complex64)[:, 0]


def events(samples: np.ndarray, piece: int = 1 << 20, chunk: int = CHUNK) -> list[tuple[int, int]]:
    """As they are told, those that touch joined."""
    trigger, found = EnergyTrigger(10.0, chunk), []
    for start in range(0, len(samples), piece):
        for begin, end in trigger.events(samples[start : start + piece]):
            if found and found[-1][1] == begin:
                begin = found.pop()[0]
            found.append((begin, end))
    return found


@pytest.mark.parametrize("piece", [33, 64, 1000, 1 << 20])
def test_noise_that_has_become_louder_is_an_event_until_it_is_learned_and_no_longer(piece):
    samples = np.concatenate([noise(50 * CHUNK), noise(COUNT, 10.0)])
    assert events(samples, piece) == [(50 * CHUNK, (49 + RELEARN_WINDOWS) * CHUNK)]


def test_one_chunk_that_is_abnormally_quiet_does_not_make_all_that_follows_an_event():
    samples = noise(COUNT)
    samples[20 * CHUNK : 21 * CHUNK] *= 0.05
    (event,) = events(samples)
    assert event == (21 * CHUNK, (20 + RELEARN_WINDOWS) * CHUNK)


def test_a_signal_that_is_no_noise_is_an_event_however_long_it_lasts():
    tone = 20 * np.exp(0.7j * np.arange(COUNT)).astype(np.complex64)
    samples = np.concatenate([noise(50 * CHUNK), tone, noise(LOOK_EVERY * CHUNK)])
    assert events(samples) == [(50 * CHUNK, 50 * CHUNK + COUNT)]


def test_behind_a_restart_the_floor_is_another_one_and_chunks_begin_there():
    trigger = EnergyTrigger(10.0, CHUNK, begin=7)
    assert trigger.events(noise(30 * CHUNK + 5)) == []
    trigger.restart()
    samples = noise(COUNT, 10.0)
    samples[40 * CHUNK : 42 * CHUNK] *= 10
    assert trigger.events(samples) == [(7 + 5 + 70 * CHUNK, 7 + 5 + 72 * CHUNK)]
