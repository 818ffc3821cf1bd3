"""What two back ends' answers to the same windows are compared by."""

import numpy as np
import pytest
from emind.contract.window import HeadSpec
from emind_training.agreement import figures, page

HEAD = HeadSpec("modulation", "classification", ("a", "b"))


def test_labels_and_confidences_are_held_against_each_other():
    exact = np.array([[0.9, 0.1], [0.6, 0.4], [0.51, 0.49], [0.2, 0.8]])
    other = np.array([[0.895, 0.105], [0.63, 0.37], [0.49, 0.51], [0.2, 0.8]])
    told = figures(HEAD, exact, other)
    assert told["windows"] == 4 and told["same_label"] == 0.75
    assert told["same_label_where_sure"] == 1.0  # the third is a coin's throw
    assert told["within"] == pytest.approx(2 / 3)  # of the three with the same label
    assert told["largest_difference"] == pytest.approx(0.03)


def test_unknown_is_a_label_and_a_coin_s_throw_at_one_half():
    exact = np.array([[0.9, 0.1, 0.51], [0.9, 0.1, 0.9], [0.9, 0.1, 0.1]])
    other = np.array([[0.9, 0.1, 0.49], [0.9, 0.1, 0.9], [0.9, 0.1, 0.8]])
    told = figures(HEAD, exact, other)
    assert told["same_label"] == pytest.approx(1 / 3) and told["same_label_where_sure"] == 0.5


def test_the_page_has_a_row_a_head_and_says_what_was_left_out():
    told = figures(HEAD, np.array([[0.9, 0.1]]), np.array([[0.9, 0.1]]))
    text = page({"weights": "w", "backends": ["one", "two"], "heads": {"modulation": told}, "skipped": {"radar": "gone"}})
    assert "`w`, two against one" in text and "| modulation | 1 | 100.00% |" in text and "radar: gone" in text


def test_a_number_of_windows_below_one_is_refused(capsys):
    from emind_training.cli import main

    assert main(["agreement", "emind-nano", "--windows", "0"]) == 2
    assert "--windows 0" in capsys.readouterr().err
