"""What `emind-train enrolment` counts and writes into the documentation."""

import numpy as np
import pytest
from emind.contract.errors import EMindError
from emind_training.enrolment import Mistakes


def test_mistakes_are_counted_where_both_classes_were_enrolled():
    mistakes = Mistakes(["a", "b", "c"])
    mistakes.add(np.array(["b", "a"]), 0, np.array([0, 0, 1, 1]))  # windows of b, half of them called a
    mistakes.add(np.array(["b", "c"]), 0, np.array([0, 0, 0, 1]))
    mistakes.add(np.array(["a", "c"]), 0, np.array([0, 0, 0, 0]))
    worst, best = mistakes.by_class()
    assert worst == {"class": "b", "accuracy": 5 / 8, "windows": 8, "mistaken_for": "a", "share": 0.5}
    assert best["class"] == "a" and best["accuracy"] == 1.0


def test_figures_replace_their_row_in_the_page_and_leave_the_rest():
    from emind_training.enrolment_table import BEGIN, END, row, with_rows

    def found(name: str, accuracy: float) -> dict:
        figure = {"mean": accuracy, "interval_95": 0.01}
        return {"set": name, "by": "label", "classes": ["a", "b"], "ways": 2, "shots": 5, "episodes": 9, "several": 5,
                "accuracy": figure, "accuracy_several": figure, "in_the_head": {"mean": 0.5, "interval_95": None}, "probe": None,
                "old_changed": {"mean": 0.002, "interval_95": None}, "old_changed_worst": 0.004}

    page = f"before\n{BEGIN}\n{END}\nafter\n"
    page = with_rows(page, [row(found("A", 0.81), "w 1"), row(found("B", 0.82), "w 1")])
    page = with_rows(page, [row(found("A", 0.93), "w 2")])
    lines = page.splitlines()
    assert lines[0] == "before" and lines[-1] == "after" and len(lines) == 8
    assert lines[4] == "| A by label | 2 | 2, 5 | 9 | 0.930 ± 0.010 | 5: 0.930 ± 0.010 | 0.500 |  | 0.20 %, at worst " \
                       "0.40 % | w 2 |"
    assert "0.820" in lines[5] and "0.810" not in page
    other = with_rows(page, [row(found("A", 0.99), "other 1")])  # of other weights: beside those that are there
    assert "0.930" in other and "0.990" in other and len(other.splitlines()) == 9
    with pytest.raises(EMindError, match="lacks the marks"):
        with_rows("a page", [])
