"""What a window is, given what its neighbours are."""

import itertools

import numpy as np
import pytest
from emind.contract.vocabulary import MODULATIONS
from emind.dsp.neighbours import CHANGE, Known, best_of_best_family, decided, stretches, with_neighbours

NAMES = ("noise", "OFDM", "LoRa", "GFSK")


def row(label, share, names=NAMES):
    """Probability ``share`` for one label, the rest evenly for the others."""
    out = np.full(len(names), (1 - share) / (len(names) - 1))
    out[names.index(label)] = share
    return out


def labels_of(rows, change=CHANGE, quiet=None, names=NAMES):
    place, confidence = decided(Known(names, np.array(rows), quiet), change)
    return [(*names, "unknown")[n] for n in place], confidence


def test_it_is_the_exact_posterior_of_the_chain():
    rng = np.random.default_rng(1)
    own, change = rng.dirichlet(np.ones(3), 5), 0.35
    total = np.zeros((5, 3))
    for path in itertools.product(range(3), repeat=5):
        weight = np.prod([own[n, c] for n, c in enumerate(path)])
        weight *= np.prod([1 - change if a == b else change / 2 for a, b in zip(path, path[1:])])
        for n, c in enumerate(path):
            total[n, c] += weight
    assert with_neighbours(own, change) == pytest.approx(total / total.sum(1, keepdims=True))


def test_windows_keep_their_own_probabilities_where_neighbours_say_nothing():
    own = np.random.default_rng(2).dirichlet(np.ones(4), 9)
    assert with_neighbours(own, 0.75) == pytest.approx(own)
    assert with_neighbours(own[:1], 0.1) == pytest.approx(own[:1])
    with pytest.raises(ValueError, match=r"0\.9 must lie in 0 to 0\.750"):
        with_neighbours(own, 0.9)


def test_a_chain_of_any_length_stays_finite():
    own = np.zeros((50_000, 3))
    own[np.arange(50_000), np.arange(50_000) // 1000 % 3] = 1.0
    assert (with_neighbours(own, 0.2).argmax(1) == np.arange(50_000) // 1000 % 3).all()


def test_an_unsure_window_follows_its_neighbours_and_all_grow_surer():
    rows = [row("OFDM", 0.8), row("OFDM", 0.7), row("LoRa", 0.45), row("OFDM", 0.8)]
    labels, confidence = labels_of(rows)
    assert labels == ["OFDM"] * 4
    assert confidence[0] > 0.8 and confidence[3] > 0.8
    assert labels_of(rows, None)[0] == ["OFDM", "OFDM", "LoRa", "OFDM"]


@pytest.mark.parametrize("share", [0.9, 0.95, 0.99])
def test_a_short_burst_of_another_signal_between_two_others_survives(share):
    rows = [row("OFDM", 0.9, MODULATIONS)] * 5 + [row("GFSK", share, MODULATIONS)] + [row("LoRa", 0.9, MODULATIONS)] * 5
    assert labels_of(rows, names=MODULATIONS)[0] == ["OFDM"] * 5 + ["GFSK"] + ["LoRa"] * 5


def test_a_window_within_one_other_signal_survives_if_it_is_very_sure_alone():
    rows = [row("OFDM", 0.9, MODULATIONS)] * 5 + [row("GFSK", 0.995, MODULATIONS)] + [row("OFDM", 0.9, MODULATIONS)] * 5
    assert labels_of(rows, names=MODULATIONS)[0][5] == "GFSK"
    rows[5] = row("GFSK", 0.5, MODULATIONS)
    assert labels_of(rows, names=MODULATIONS)[0][5] == "OFDM"


def test_two_sure_windows_within_one_other_signal_survive():
    rows = [row("OFDM", 0.9, MODULATIONS)] * 5 + [row("GFSK", 0.9, MODULATIONS)] * 2
    rows += [row("OFDM", 0.9, MODULATIONS)] * 5
    assert labels_of(rows, names=MODULATIONS)[0] == ["OFDM"] * 5 + ["GFSK"] * 2 + ["OFDM"] * 5


def test_the_likeliest_family_comes_before_its_likeliest_class():
    """Three quarters for shift keying, divided among its classes, against one class that has a third."""
    one = np.full(len(MODULATIONS), 1e-3)
    for name, share in (("OQPSK", 0.35), ("MSK", 0.3), ("GFSK", 0.25), ("2FSK", 0.1)):
        one[MODULATIONS.index(name)] = share
    place, share = best_of_best_family(MODULATIONS, one[None])
    assert MODULATIONS[place[0]] == "MSK" and share[0] == pytest.approx(0.65, abs=0.01)
    other = one.copy()
    other[MODULATIONS.index("MSK")] = 0.36
    labels, confidence = labels_of([one, other], change=0.9, names=MODULATIONS)
    assert labels == ["MSK", "MSK"] and confidence[0] < 0.5  # of the class, not of its family
    assert labels_of([one], None, names=MODULATIONS)[0] == ["OQPSK"]  # by itself a window says its likeliest class


def test_an_enrolled_class_is_said_where_it_is_likelier_than_each_class_of_a_family():
    names = (*MODULATIONS, "my node", "yours")
    one = np.full(len(names), 1e-3)
    for name, share in (("my node", 0.45), ("GFSK", 0.28), ("MSK", 0.27)):
        one[names.index(name)] = share
    place, share = best_of_best_family(names, one[None])
    assert names[place[0]] == "my node" and share[0] == pytest.approx(0.45)
    assert labels_of([one], names=names)[0] == ["my node"]
    one[names.index("GFSK")] = 0.5  # likelier than the enrolled one
    assert labels_of([one], names=names)[0] == ["GFSK"]
    two = np.full(len(names), 1e-3)
    two[[names.index("my node"), names.index("yours")]] = 0.3, 0.4  # they are no family together
    assert labels_of([two], names=names)[0] == ["yours"]


def test_nothing_is_said_across_noise_and_noise_stays():
    pause = [row("noise", 0.5)]
    rows = [row("OFDM", 0.9)] * 4 + pause + [row("LoRa", 0.4)] + pause + [row("OFDM", 0.9)] * 4
    labels, _ = labels_of(rows)
    assert labels == ["OFDM"] * 4 + ["noise", "LoRa", "noise"] + ["OFDM"] * 4
    quiet = np.zeros(len(rows), bool)
    quiet[[4, 6]] = True
    rows[4] = rows[6] = row("GFSK", 0.5)  # what was found to be noise otherwise
    assert labels_of(rows, quiet=quiet)[0][5] == "LoRa"
    assert labels_of(rows)[0][5] != "LoRa"


def test_a_window_of_no_class_takes_that_of_its_neighbours_but_a_stretch_of_such_stays_unknown():
    def strange(chance, label="LoRa"):
        return np.append(row(label, 0.4), chance)

    known = np.append(row("OFDM", 0.95), 0.1)
    labels, confidence = labels_of([known, known, strange(0.8), known, known])
    assert labels == ["OFDM"] * 5
    labels, confidence = labels_of([strange(0.8)] * 5)
    assert labels == ["unknown"] * 5 and confidence == pytest.approx(0.8)
    lone = [np.append(row("OFDM", 0.4), 0.1)] + [strange(0.8)] * 3
    assert labels_of(lone)[0][-1] == "unknown"


def test_stretches_are_runs():
    assert stretches(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == [(0, 2), (3, 4), (6, 7)]
    assert stretches(np.zeros(3, bool)) == [] and stretches(np.ones(2, bool)) == [(0, 2)]
