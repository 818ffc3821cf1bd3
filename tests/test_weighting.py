"""Weights of the data sets from made-up loss histories: each case of section V-D, and histories that say little."""

import math

import numpy as np
import pytest
from emind.contract.errors import UsageError
from emind_training.weighting import HIGHEST, LOWEST, LossHistory, first_weights, next_weights

LOOKS = 8


def falling(rate=0.1, start=1.0, looks=LOOKS):
    """A loss that falls by the same share at every look."""
    return [start * math.exp(-rate * k) for k in range(looks)]


def ordinary():
    return LossHistory(train=falling(), validation=falling())


def after(updates=1, **histories):
    """Weights of sets a, b, c (learning at the same pace) and of the named ones."""
    every = {"a": ordinary(), "b": ordinary(), "c": ordinary(), **histories}
    weights = dict.fromkeys(every, 1.0)
    for _ in range(updates):
        weights = next_weights(every, weights)
    return weights


def test_sets_that_learn_alike_keep_equal_weights():
    assert after(updates=5) == {"a": 1.0, "b": 1.0, "c": 1.0}


def test_a_slow_set_goes_up_and_an_easy_one_down_once_it_is_learned():
    fast = falling(0.4)
    learned = fast[:4] + [fast[3]] * (LOOKS - 4)
    slow = LossHistory(falling(0.04), falling(0.04))
    weights = after(slow=slow, easy=LossHistory(learned, learned))
    assert weights["easy"] < weights["a"] < weights["slow"]
    assert weights["easy"] < 1 < weights["slow"]
    still_learning = after(slow=slow, fast=LossHistory(fast, fast))
    assert still_learning["fast"] == still_learning["a"] < still_learning["slow"]


def test_the_level_of_a_loss_does_not_matter():
    weights = after(noisy=LossHistory(falling(start=50.0), falling(start=50.0)))
    assert set(weights.values()) == {1.0}


def test_a_forgotten_set_goes_up():
    down_then_up = [1.0, 0.8, 0.7, 0.6, 0.65, 0.72, 0.8, 0.9]
    both_rise = after(forgotten=LossHistory(down_then_up, down_then_up))
    not_drawn = after(forgotten=LossHistory([1.0, 0.8, 0.7, *[math.nan] * 5], down_then_up))
    for weights in (both_rise, not_drawn):
        assert weights["forgotten"] > 1.2 > weights["a"]


def test_an_overfitting_set_goes_down():
    weights = after(overfitting=LossHistory(falling(), [1.0, 0.8, 0.7, 0.6, 0.65, 0.72, 0.8, 0.9]))
    assert weights["overfitting"] < 0.8 < weights["a"]


def test_forgetting_and_overfitting_differ_by_the_training_loss_alone():
    rising = [1.0, 0.8, 0.7, 0.6, 0.65, 0.72, 0.8, 0.9]
    weights = [after(x=LossHistory(train, rising))["x"] for train in (rising, [0.6] * LOOKS, falling())]
    assert weights == sorted(weights, reverse=True) and weights[0] > 1 > weights[-1]


def test_a_learned_set_goes_down_and_one_that_never_began_comes_back_to_the_others():
    learned = LossHistory([1.0, 0.5, 0.3, 0.3, *[0.3] * 4], [1.0, 0.5, 0.3, 0.3, *[0.3] * 4])
    assert after(learned=learned)["learned"] < 0.9
    still = {"a": ordinary(), "b": ordinary(), "noise": LossHistory([2.0] * LOOKS, [2.0] * LOOKS)}
    weights = {"a": 0.5, "b": 0.5, "noise": 2.0}
    for _ in range(30):
        weights = next_weights(still, weights)
    assert weights == {"a": 1.0, "b": 1.0, "noise": 1.0}


def test_weights_stay_within_their_bounds_with_the_mean_1_however_long_it_goes_on():
    rising = [1.0, 0.5, 0.5, 0.6, 0.7, 0.9, 1.1, 1.4]
    histories = {f"over{k}": LossHistory(falling(), rising) for k in range(7)}
    histories["forgotten"] = LossHistory(rising, rising)
    weights = dict.fromkeys(histories, 1.0)
    for _ in range(50):
        weights = next_weights(histories, weights)
        assert all(LOWEST <= w <= HIGHEST for w in weights.values())
        assert sum(weights.values()) / len(weights) == pytest.approx(1, abs=1e-3)
    assert weights["forgotten"] == pytest.approx(HIGHEST)


def test_one_update_changes_a_weight_by_less_than_a_factor_of_3():
    rising = [1.0, 0.1, 0.1, 0.3, 0.9, 2.7, 8.1, 24.3]
    weights = after(a=LossHistory(rising, rising), b=LossHistory(falling(2.0), rising))
    assert all(1 / 3 < w < 3 for w in weights.values())
    assert weights["a"] > weights["c"] > weights["b"]


def test_a_slightly_different_loss_gives_a_slightly_different_weight():
    generator = np.random.default_rng(3)
    for _ in range(50):
        train, validation = np.exp(generator.normal(0, 0.05, (2, LOOKS)).cumsum(axis=1))
        near = [after(x=LossHistory(list(train), list(validation * factor)))["x"]
                for factor in (1.0, 1 + 1e-4 * np.arange(LOOKS))]
        assert abs(near[0] - near[1]) <= 0.01


@pytest.mark.parametrize("validation", [[], [1.0], [1.0, 0.2], [math.nan] * LOOKS, [1.0, math.inf, math.nan, 0.2]])
def test_a_history_too_short_to_judge_keeps_its_weight(validation):
    alone = {"new": LossHistory(validation, validation)}
    assert next_weights(alone, {"new": 1.0}) == {"new": 1.0}
    assert after(new=LossHistory(validation, validation)) == {"a": 1.0, "b": 1.0, "c": 1.0, "new": 1.0}


def test_losses_that_are_not_finite_are_passed_over():
    broken = falling(0.04)
    broken[2] = math.nan
    broken[5] = math.inf
    whole = after(slow=LossHistory(falling(0.04), falling(0.04)))["slow"]
    assert after(slow=LossHistory(broken, broken))["slow"] == pytest.approx(whole, abs=0.02)


def test_the_rule_leaves_what_it_is_given_alone():
    histories, weights = {"a": ordinary(), "b": LossHistory(falling(0.01), falling(0.01))}, {"a": 1.0, "b": 1.0}
    first = next_weights(histories, weights)
    assert weights == {"a": 1.0, "b": 1.0} and histories["a"] == ordinary()
    assert next_weights(histories, weights) == first


def test_a_run_starts_equal_or_with_the_papers_weights():
    names = ["EM-Comm", "EM-Radar", "EM-RadarParaIQSim", "EM-Infer-Radar-v2", "Air"]
    assert set(first_weights(names, "adaptive").values()) == set(first_weights(names, "equal").values()) == {1.0}
    assert first_weights(names, "paper") == {
        "EM-Comm": 1.0, "EM-Radar": 0.5, "EM-RadarParaIQSim": 0.5, "EM-Infer-Radar-v2": 0.5, "Air": 1.0}
    with pytest.raises(UsageError, match="'even'; known: equal, paper, adaptive"):
        first_weights(names, "even")
