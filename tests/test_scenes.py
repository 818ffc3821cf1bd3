"""Generated scenes, by which it was chosen how much a window's neighbours say."""

import numpy as np
import pytest
from emind.contract.vocabulary import MODULATIONS, NOISE
from emind.dsp.neighbours import CHANGE, Known
from emind_training import scenes

NOISE_PLACE = MODULATIONS.index(NOISE)


def test_a_scene_is_of_emitters_that_last_and_noise_between_some_of_them():
    counts, noises = [], 0
    for seed in range(6):
        one = scenes.scene(np.random.default_rng(seed), 60)
        assert one.iq_NL.shape == (len(one.label_N), 1024) and 60 <= len(one.label_N) < 110
        assert np.isfinite(one.iq_NL).all()
        edges = np.flatnonzero(np.diff(one.label_N))
        lengths = np.diff(np.r_[-1, edges, len(one.label_N) - 1])
        first = one.label_N[np.r_[0, edges + 1]]
        counts += lengths[first != NOISE_PLACE].tolist()
        noises += (first == NOISE_PLACE).sum()
        alone = np.flatnonzero(one.short_N)
        around = one.label_N[np.stack([alone - 1, alone, alone + 1])] if len(alone) else np.ones((3, 0))
        assert (around[1] != around[0]).all() and (around[1] != around[2]).all() and (around != NOISE_PLACE).all()
    assert 2.5 < np.mean(counts) < 6 and 0.3 < noises / len(counts) < 0.7
    again = scenes.scene(np.random.default_rng(5), 60)
    assert np.array_equal(again.iq_NL, one.iq_NL)


def test_what_counts_as_right():
    labels = (NOISE, "BPSK", "QPSK", "GFSK")
    rows = np.eye(5)[[1, 2, 3, 4, 0]] * 0.9 + 0.02
    truth = np.array([MODULATIONS.index(name) for name in ("BPSK", "BPSK", "MSK", "GFSK", NOISE)])
    right = scenes.families_right(Known(labels, rows), truth, None)
    assert right.tolist() == [True, True, True, False, True]  # QPSK is of BPSK's family; the fourth says unknown


@pytest.mark.slow
def test_neighbours_help_the_released_weights_on_scenes(released_weights):
    answered = scenes.answers(str(released_weights), 12)
    labels, right = scenes.shares(answered, CHANGE)
    assert right.mean() > scenes.shares(answered, None)[1].mean() + 0.005
