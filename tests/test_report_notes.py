"""What a table beside published figures says of how ours were had: shown anomalies, rates, more of the set."""

from dataclasses import replace

import pytest
from emind.models.checkpoint import read_header
from emind.runtime.weights import resolve
from emind_training.evaluation import Head, heads_of, trained_how
from emind_training.report_tables import of_head, rates
from emind_training.task_card import falls_short


@pytest.fixture(scope="module")
def header():
    return read_header(resolve("emind-nano"))


def tables(head: Head) -> list[dict]:
    return of_head(head.name, {"figures": head.figures, "set": head.set, "trained": trained_how(head),
                               "classes": list(head.classes), "length": head.length}, "w")


def with_table(head: Head, **values) -> Head:
    """The head as if it had been trained with these values in its task's table."""
    config = head.training["config"]
    task = config["task"] | {head.name: config["task"][head.name] | values}
    return replace(head, training=head.training | {"config": config | {"task": task}})


def test_a_head_that_learned_the_anomalies_is_not_set_beside_one_class_detectors_without_a_word(header):
    head = heads_of(header)["anomaly"]
    assert trained_how(head)["detector"] == "classes"
    notes = " ".join(tables(head)[0]["notes"])
    assert "shown the named anomalies in training" in notes and "normal windows alone" in notes
    own = head.figures["baselines"]["autoencoder"]["by_isr"][-1]
    assert own["isr_db"] == 0 and f"weak: {own['auc']:.4g} at an ISR of 0 dB" in notes and "has 0.84 on" in notes
    assert "was shown the anomalies that it is tested on" in " ".join(falls_short(head))
    fitted = with_table(head, detector="normal")
    assert "shown the named" not in " ".join(tables(fitted)[0]["notes"])
    assert "was shown the anomalies" not in " ".join(falls_short(fitted))


def test_the_table_of_sets_has_our_rate(header):
    heads = heads_of(header)
    for name, expected in (("radar", 3.2e6), ("fingerprint", 156250.0)):
        row = next(one for one in tables(heads[name]) if one["title"] == "EMind, Table IV: the set")["rows"][1]
        assert row[3] == expected
    row = next(one for one in tables(heads["interference"]) if one["title"] == "EMind, Table IV: the set")["rows"][1]
    assert row[3] == "told any from 8,000 to 62,000,000"
    assert rates(None) is None and rates([1e6, 2e6]) == "1,000,000 to 2,000,000"


def test_a_head_that_had_more_of_its_set_than_the_papers_says_so(header):
    heads = heads_of(header)
    assert "had 82 % of its set to train on, the paper 10 % of its own" in falls_short(heads["interference"])
    assert "had 82 % of its set to train on, the paper 50 % of its own" in falls_short(heads["fingerprint"])
    assert not any("of its set to train on" in line for line in falls_short(heads["radar"]))
