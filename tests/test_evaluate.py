"""`emind-train evaluate` and the cards of files with heads of every kind."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from emind.models.checkpoint import load_weights, read_header, save_weights
from emind.runtime.weights import resolve
from emind_training import cli, evaluation, published, task_card
from emind_training.evaluation import curve, reliability
from emind_training.measures import classification_scores, detection_scores
from emind_training.report_contents import pretraining_of
from emind_training.report_tables import text
from emind_training.synthesis.build import file_hash
from task_runs import config, runs, trained  # noqa: F401

TASKS = ("technology", "radar", "separation", "denoise", "sensing", "anomaly")


def saved(path, made, command):
    training = {**made.training, "command": command, "code": "c0de", "machine": {"processor": "p", "torch": "t"}}
    save_weights(path, made.own.model, made.window, made.calibration, training, made.figures)
    return path


@pytest.fixture(scope="module")
def weights(runs, tmp_path_factory):  # noqa: F811
    """Hardly trained, a head of every kind."""
    from emind.models import emind
    from emind.models.emind import EncoderConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(emind.SIZES, "micro", lambda **t: EncoderConfig(width=32, depth=1, heads=1, **t))
        own = config(*TASKS, data={"items": 120}, optim={"steps": 6}, run={"validate_every": 6, "bss_windows": 1},
                     task={"denoise": {"align": True}})
        made = trained(runs, "every", own, baselines=True)
    return saved(tmp_path_factory.mktemp("weights") / "every.safetensors", made, "emind-train finetune --task x")


def evaluated(weights, runs, out, *options):  # noqa: F811
    assert cli.main(["evaluate", str(weights), "--runs", str(runs), "--out", str(out), *options]) == 0
    return json.loads((out / "every.json").read_text()), (out / "every.html").read_text()


# ------------------------------------------------------------------------------------------------ the report


@pytest.fixture(scope="module")
def report(weights, runs, tmp_path_factory):  # noqa: F811
    return evaluated(weights, runs, tmp_path_factory.mktemp("report"), "--baselines", "--heads", *TASKS)


def test_figures_measured_anew_are_those_of_the_file(report, weights):
    stored = load_weights(weights)[2]["figures"]
    for name, head in report[0]["heads"].items():
        assert head["measured"] and head["differs"] == [] and not head["bounded"], name
        assert head["figures"].items() <= stored[name].items() and head["figures"]["windows"] > 0
        assert head["data"]["same_files"] is True
    assert tuple(report[0]["heads"]) == TASKS


def test_the_page_is_one_file_and_holds_every_table_of_the_json(report):
    told, page = report
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert set(re.findall(r"(?:src|href)='([^':,]*)", page)) <= {"data", *re.findall(r"href='(#[\w-]+)'", page)}
    anchors = re.findall(r"href='#([\w-]+)'", page)
    assert len(anchors) == len(TASKS) + 3 and all(f"id='{anchor}'" in page for anchor in anchors)
    cells = set(re.findall(r"<td>([^<]*)</td>", page))
    for table in [*[one for name in TASKS for one in told["tables"][name]], told["tables"]["summary"]]:
        assert not table["title"] or html.escape(table["title"], quote=True) in page
        assert {html.escape(text(cell), quote=True) for row in table["rows"] for cell in row} <= cells


def test_the_papers_tables_stand_beside_ours_with_what_they_were_measured_on(report):
    titles = {name: [one["title"] for one in report[0]["tables"][name]] for name in TASKS}
    assert titles["radar"][0].startswith("EMind, Table VI: ")
    assert titles["separation"][0].startswith("EMind, Table VIII")
    assert titles["technology"][0].startswith("SpectrumFM, Table III")
    radar = report[0]["tables"]["radar"][0]
    rows = {row[0]: dict(zip(radar["head"][1:], row[1:])) for row in radar["rows"]}
    ours, figures = rows["every, RadChar-regen"], report[0]["heads"]["radar"]["figures"]
    assert rows["EMind"]["class, -10 dB, %"] == 86.65
    assert any("RadChar-regen was made again" in note for note in radar["notes"])
    assert radar["rows"][radar["ours"][0]][-1] == pytest.approx(100 * figures["accuracy"])
    assert radar["rows"][radar["ours"][0]][4] == figures["mae"]["num_pulses"] and len(ours) == len(rows["EMind"])
    si = next(one for one in report[0]["tables"]["radar"] if one["title"] == "Mean absolute errors in SI units")
    assert [row[1] for row in si["rows"]] == ["1", "s", "s", "s"] and si["rows"][1][-1] == figures["mae"]["pulse_width"]
    sets = next(one for one in report[0]["tables"]["radar"] if one["title"] == "EMind, Table IV: the set")
    assert sets["rows"][1][-1] is None  # of 24 windows of a set of 120: not all its SNRs
    separation = report[0]["tables"]["separation"][0]
    assert [row[0] for row in separation["rows"]][-1] == "the untouched mixture"
    sensing = [row[0] for row in report[0]["tables"]["sensing"][0]["rows"]]
    assert sensing[0] == "SpectrumFM" and "energy, noise power known, same run" in sensing


def test_denoising_tells_the_stored_row_and_the_fitted_offset(report):
    rows = report[0]["tables"]["denoise"][0]["rows"]
    assert [row[0] for row in rows] == ["against the clean row with the noisy row's offset and imbalance",
                                        "against the clean row as stored",
                                        "carrier offset and complex gain fitted to each"]
    assert rows[1][1] < 0 < rows[2][1]  # with its offset the input is worse than nothing, whatever its noise


def test_every_picture_of_the_issue_is_there(report):
    captions = " ".join(re.findall(r"<figcaption>([^<]*)", report[1]))
    for words in ("Accuracy over SNR", "Confusion", "t-SNE", "Input, target and answer", "Calibration", "false alarms",
                  "Mean absolute errors over SNR", "SNR before and after", "Area under the curve by level"):
        assert words in captions
    assert report[1].count("data:image/png;base64,") > 15


def test_what_a_head_calls_unknown_is_told_of_its_own_and_of_other_sets(report):
    head = report[0]["heads"]["technology"]
    unknown = head["details"]["unknown"]
    assert unknown["known_called_unknown"] == pytest.approx(head["figures"]["called_unknown"])
    assert set(unknown["foreign"]) == set(TASKS) - {"technology"}
    assert all(0 <= one["called_unknown"] <= 1 and one["windows"] > 0 for one in unknown["foreign"].values())
    assert "unknown" not in report[0]["heads"]["sensing"]["details"]


# ------------------------------------------------------------------------------------------------ bounds, files, errors


def test_a_bound_is_kept_and_said(weights, runs, tmp_path):  # noqa: F811
    told, page = evaluated(weights, runs, tmp_path, "--windows", "6", "--heads", "technology", "--no-map")
    head = told["heads"]["technology"]
    assert head["figures"]["windows"] == 6 and head["bounded"] and head["differs"] is None and "t-SNE" not in page
    assert told["command"].endswith("--heads technology --windows 6") and "part of the test windows" in page
    assert told["tables"]["technology"][0]["title"].endswith(", ours on 6 test windows")


def test_given_files_are_measured_and_the_other_heads_told_from_the_file(weights, runs, tmp_path, capsys):  # noqa: F811
    [test] = runs.glob("sets/Wireless-Technology-*/Wireless-Technology-test.parquet")
    told, page = evaluated(weights, runs, tmp_path, "--data", str(test), "--no-map")
    measured = {name for name, head in told["heads"].items() if head["measured"]}
    assert measured == {"technology"} and "RadChar-regen is not among the files" in told["heads"]["radar"]["why"]
    assert told["heads"]["radar"]["figures"]["mae"] and "Not measured anew" in page
    capsys.readouterr()
    assert cli.main(["evaluate", str(weights), "--heads", "radar", "--data", str(test), "--out", str(tmp_path)]) == 1
    assert "no head of the file could be measured on Wireless-Technology" in capsys.readouterr().err


@pytest.mark.parametrize("options, status, words", [
    (["--heads", "weather"], 2, "--heads weather: the file has no such head; there: technology"),
    (["--windows", "-1"], 2, "--windows -1 must be above 0"),
    (["--data", "nowhere"], 1, "nowhere: no such file"),
])
def test_errors_are_one_line(weights, tmp_path, capsys, options, status, words):
    assert cli.main(["evaluate", str(weights), "--out", str(tmp_path), *options]) == status
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1


def test_a_pretrained_file_shows_its_probe_and_what_few_labels_gave(tmp_path, capsys):
    assert cli.main(["evaluate", "emind-nano-pretrained", "--heads", "radar"]) == 2
    assert "has no heads" in capsys.readouterr().err
    assert cli.main(["evaluate", "emind-nano-pretrained", "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    tables = told["tables"]["pretraining"]
    assert tables[0]["title"].startswith("Linear probe over pretraining") and len(tables[0]["rows"]) >= 2
    few = next(one for one in tables if "10 a class, RadChar-regen" in one["title"])
    assert ["EMind, EMind, Table IX", 78.37, 72.97] in few["rows"] and len(few["ours"]) == 4
    assert "EMind, figure 10" in (tmp_path / "emind-nano-pretrained.html").read_text()


def test_a_fine_tuned_file_shows_the_probe_of_what_it_began_with_else_of_an_encoder_of_its_size():
    path, first = resolve("emind-nano"), resolve("emind-nano-pretrained")
    header = read_header(path)
    own = {"name": first.name, "sha256": file_hash(first)}
    for init, began in ((own, True), ({"name": "a.safetensors", "sha256": "0", "pretrained": own}, True),
                        ({"name": first.name, "sha256": "0"}, False), (None, False)):
        found = pretraining_of(path, header | {"training": {"init": init}}, None)
        assert found["name"] == "emind-nano-pretrained" and found["own"] == began and len(found["probes"]) >= 2
    header["architecture"] |= {"width": 384}
    assert pretraining_of(path, header | {"training": {"init": None}}, None) is None


# ------------------------------------------------------------------------------------------------ cards


def test_a_card_tells_each_head_by_what_the_header_says(weights):
    written = {path.name for path in task_card.write_card(weights)}
    card, header = weights.with_suffix(".md").read_text(), load_weights(weights)[2]
    assert {"every.md", "every-sensing.png", "every-denoise.png"} <= written
    assert "`.venv/bin/emind-train finetune --task x`" in card
    assert f"`.venv/bin/emind-train evaluate {weights}`" in card
    for name in TASKS:
        part = card.split(f"## {name}\n")[1].split("\n## ")[0]
        assert "- Falls short: " in part and "- Calibration: " in part and header["figures"][name]["set"] in part
    technology = card.split("## technology\n")[1].split("\n## ")[0]
    assert f"below an energy of {header['calibration']['technology']['unknown']['threshold']:.3f}" in technology
    assert "SpectrumFM published 0.8226 on TechRec" in technology


def test_a_head_that_was_added_to_a_file_is_measured_beside_the_kept_ones(weights, runs, tmp_path):  # noqa: F811
    own = config("interference", model=None, optim={"steps": 2})
    made = trained(runs, "added", own, init=weights, freeze=True)
    path = saved(tmp_path / "every.safetensors", made, "emind-train finetune --task y")
    told, _ = evaluated(path, runs, tmp_path, "--heads", "interference", "technology", "--no-map")
    assert all(told["heads"][name]["differs"] == [] for name in ("interference", "technology"))
    task_card.write_card(path)
    card = path.with_suffix(".md").read_text()
    assert card.index("1. `.venv/bin/emind-train finetune --task x`") < card.index(
        "2. `.venv/bin/emind-train finetune --task y`")


# ------------------------------------------------------------------------------------------------ parts


def test_the_bins_of_reliability_give_the_calibration_error():
    rng = np.random.default_rng(0)
    probability = torch.from_numpy(rng.dirichlet(np.ones(4), 300))
    label = torch.from_numpy(rng.integers(0, 4, 300))
    rows = reliability(probability.max(-1).values.numpy(), (probability.argmax(-1) == label).numpy())
    error = sum(row["windows"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / 300
    expected = classification_scores(probability, label)["expected_calibration_error"]
    assert sum(row["windows"] for row in rows) == 300 and error == pytest.approx(expected, abs=1e-6)


def test_a_detection_curve_encloses_the_area_that_is_told():
    rng = np.random.default_rng(0)
    usual, strange = rng.standard_normal(900), rng.standard_normal(700) + 1
    found = curve(usual, strange)
    score, truth = np.concatenate([usual, strange]), np.arange(1600) >= 900
    assert len(found["detected"]) <= evaluation.CURVE
    area = np.trapz(found["detected"], found["false_alarms"])
    assert area == pytest.approx(detection_scores(score, truth)["auc"], abs=0.01)


def test_published_figures_are_typed_nowhere_but_in_their_file():
    folder = Path(published.__file__).parent
    figures = {f"{value:g}" for table in published.tables() for row in table.rows.values() for value in row
               if value is not None and len(f"{value:g}".replace(".", "").lstrip("-0")) >= 4}
    assert len(figures) > 100 and {"62.51", "86.65", "0.8226", "78.37"} <= figures
    for path in folder.rglob("*.py"):
        found = set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", path.read_text())) & figures
        assert not found, (path.name, found)


def test_a_published_row_for_a_set_made_again_is_that_of_the_original():
    assert published.headline("RML2016.10A-regen")["EMind"] == 62.51 == published.headline("RML2016.10A")["EMind"]
    assert published.headline("AWGN-7", "distance_to_ceiling_points") == {"PET-CGDNN": 6.4}
    assert published.dataset("RadChar-regen")["length"] == 512 and published.dataset("Anomaly") is None
