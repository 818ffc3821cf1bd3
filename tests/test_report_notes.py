"""What a table beside published figures says of how ours were had: shown anomalies, rates, more of the set, how many
windows; and on a card, where ours fall short."""

import re
import shutil
from dataclasses import replace

import pytest
from emind.models.checkpoint import read_header
from emind.runtime.weights import FOLDER, resolve
from emind_training import published
from emind_training.evaluation import Head, heads_of, trained_how
from emind_training.report_tables import of_head, rates
from emind_training.task_card import card, falls_short, write_card


@pytest.fixture(scope="module")
def header():
    return read_header(resolve("emind-nano"))


def tables(head: Head, **more) -> list[dict]:
    return of_head(head.name, {"figures": head.figures, "set": head.set, "trained": trained_how(head),
                               "classes": list(head.classes), "length": head.length} | more, "w")


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


def snr_of_the_set(head: Head, **more) -> str | None:
    return next(one for one in tables(head, **more) if one["title"] == "EMind, Table IV: the set")["rows"][1][4]


def test_the_snr_of_the_set_is_told_only_of_figures_that_have_all_of_it(header):
    head = heads_of(header)["interference"]
    assert snr_of_the_set(head) == "-20 to 20 dB" == snr_of_the_set(head, bounded=False, data={"set": head.set})
    assert snr_of_the_set(head, bounded=True) is None
    assert snr_of_the_set(head, data={"set": "EM-Comm"}) is None
    training, config = head.training, head.training["config"]

    def with_config(**data):
        return replace(head, training=training | {"config": config | {"data": config["data"] | data}})

    windows = head.figures["windows"]
    assert snr_of_the_set(with_config(test_examples=windows)) is None
    assert snr_of_the_set(with_config(test_examples=windows + 1)) == "-20 to 20 dB"
    own = training["data"][head.name]
    few = own | {"drawn": own["drawn"] | {"items": 130}}
    assert snr_of_the_set(replace(head, training=training | {"data": training["data"] | {head.name: few}})) is None
    given = own | {"drawn": None}
    given = replace(head, training=training | {"data": training["data"] | {head.name: given}})
    assert snr_of_the_set(given) is None  # nothing says how much of the set files hold that were given


def test_titles_say_how_many_windows_were_measured():
    head = heads_of(read_header(resolve("emind-separation")))["separation"]
    whole = [one["title"] for one in tables(head)]
    assert f"Separation, {head.figures['windows']} test windows, one complex gain allowed" in whole
    assert not any("ours on" in title for title in whole)
    some = {"windows": 20, "bss_eval": head.figures["bss_eval"] | {"windows": 12}}
    pairs = {"pairs": head.figures["bss_eval"] | {"windows": 7}}
    titles = [one["title"] for one in tables(replace(head, figures=head.figures | some | pairs), bounded=True)]
    assert titles[0].startswith("EMind, Table VIII") and titles[0].endswith(", ours on 12 test windows")
    assert [title for title in titles if title.startswith("Separation, ")] == [
        "Separation, 20 test windows, one complex gain allowed", "Separation, 7 pairs, one complex gain allowed",
        "Separation, 12 windows, one complex gain allowed", "Separation, 12 windows, BSS Eval with 512 taps"]


def test_an_error_below_the_published_one_does_not_fall_short():
    head = heads_of(read_header(resolve("emind-separation")))["separation"]
    assert falls_short(head) == []
    bss = head.figures["bss_eval"]
    worse = bss | {"estimate": bss["estimate"] | {"mse_db": -15.0}}
    line, = falls_short(replace(head, figures=head.figures | {"bss_eval": worse}))
    assert line.startswith("MSE, dB -15, EMind, fine-tuned published ")


def test_errors_are_the_published_columns_of_which_less_is_better():
    columns = {column for table in published.tables() for column in table.columns}
    less = {column.title for column in columns if published.lower_is_better(column)}
    assert {"MSE", "below the ceiling", "MAE pulses, -10 dB"} <= less
    assert less == {column.title for column in columns if re.match("MAE|MSE|below", column.title)}


@pytest.mark.parametrize("name", ["mine", "emind-separation"])
def test_the_command_on_a_card_finds_the_file_that_it_is_the_card_of(name, tmp_path):
    file = tmp_path / f"{name}.safetensors"
    shutil.copy(resolve("emind-separation"), file)
    write_card(file)
    told = re.search(r"`.venv/bin/emind-train evaluate (\S+)`", file.with_suffix(".md").read_text())[1]
    assert resolve(told) == file
    released = FOLDER / "emind-separation.safetensors"
    assert "`.venv/bin/emind-train evaluate emind-separation`" in card(released.stem, read_header(released), set())
