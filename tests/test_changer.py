"""Requests for other weights that come while one is being loaded."""

import threading

from emind.runtime.changing import MOST_WAITING, Changer

PATIENCE_S = 60


def test_of_names_that_wait_the_newest_counts_and_what_is_no_name_is_carried_out_in_order():
    begun, go_on = threading.Event(), threading.Event()
    loaded, refused = [], []

    def load(asked):
        loaded.append(asked)
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return asked

    changer = Changer(load, lambda engine: None, lambda asked, fault: refused.append((asked, str(fault))))
    changer.ask("first")
    assert begun.wait(PATIENCE_S)
    enrolments = [("enrol", number) for number in range(MOST_WAITING)]
    changer.ask("passed over")
    for request in enrolments[:2]:
        changer.ask(request)
    changer.ask("newest")
    for request in enrolments[2:]:
        changer.ask(request)
    assert [asked for asked, _ in refused] == enrolments[-1:] and "wait already" in refused[0][1]
    go_on.set()
    assert changer.wait(PATIENCE_S)
    assert loaded == ["first", *enrolments[:2], "newest", *enrolments[2:-1]]
