"""`emind-train compare`: same windows for all, resumable to the bit, the test part read once; the AWGN-7 ceiling."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError, UsageError
from emind_training import compare, compare_data
from emind_training.ceiling import bayes_accuracy, distance_to_ceiling, log_likelihood, read_ceiling, renormalised
from emind_training.cli import main
from emind_training.compare_config import Augmentation, compare_config, read_compare_config
from emind_training.compare_data import added_noise, augmented, normalised, open_set
from emind_training.synthesis.awgn7 import CLASSES, SEVEN
from safetensors.torch import load_file

CONFIGS = Path(compare.__file__).parent / "configs"
DEBUG = CONFIGS / "compare-debug.toml"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def data(runs):
    return open_set(read_compare_config(DEBUG).data, runs)


@pytest.fixture(scope="module")
def finished(runs, data):
    """The debug comparison, run once by the command."""
    assert main(["compare", "--config", str(DEBUG), "--runs", str(runs)]) == 0
    return runs / "compare-debug"


# --------------------------------------------------------------------------------------------------------- the run


def test_a_page_gets_table_picture_and_command_between_its_marks_again_and_again(finished, runs, tmp_path, capsys):
    page = tmp_path / "docs" / "comparisons.md"
    page.parent.mkdir()
    begin, end = "<!-- compare-debug: from here on written by emind-train compare --write -->", "<!-- compare-debug: to here -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nbehind\n")
    again = ["compare", "--config", str(DEBUG), "--runs", str(runs), "--write", str(page)]
    for _ in range(2):
        assert main(again) == 0
        text = page.read_text()
        assert text.startswith(f"before\n{begin}\n") and text.endswith(f"{end}\nbehind\n") and "old" not in text
        assert text.count("| PET-CGDNN | 71,871 | 2 | 440 |") == 1 and f"emind-train compare --config {DEBUG}`" in text
    assert (page.parent / "images" / "compare-debug.png").read_bytes()[:4] == b"\x89PNG"
    assert "(images/compare-debug.png)" in text
    page.write_text("no marks")
    assert main(again) == 1 and "lacks the marks" in capsys.readouterr().err and page.read_text() == "no marks"


def test_a_comparison_writes_json_table_and_plot_of_all_models_and_seeds(finished):
    folder = finished
    record = json.loads((folder / "compare.json").read_text())
    assert record["finished"] and record["training_windows"] == 440
    assert {(one["model"], one["seed"]) for one in record["results"]} == {
        ("PET-CGDNN", 1), ("PET-CGDNN", 2), ("EMind-nano", 1)}
    row = next(row for row in record["models"] if row["model"] == "PET-CGDNN")
    accuracy = [one["test"]["accuracy"] for one in record["results"] if one["model"] == "PET-CGDNN"]
    assert row["accuracy"] == pytest.approx(np.mean(accuracy))
    assert row["deviation"] == pytest.approx(np.std(accuracy, ddof=1))
    for one in record["results"]:
        by_snr = dict(one["test"]["by_snr"])
        expected = 100 * np.mean([read_ceiling()[snr] - by_snr[snr] for snr in range(-10, 10, 2)])
        assert one["test"]["distance_to_ceiling_points"] == pytest.approx(expected)
        assert one["test"]["windows"] == 140 and one["test"]["eleven"]["windows"] == 220
    table = (folder / "compare.md").read_text()
    assert "| PET-CGDNN | 71,871 | 2 | 440 |" in table and "PET-CGDNN, as published" in table and "54.30" in table
    assert (folder / "compare.png").read_bytes()[:4] == b"\x89PNG"


def test_a_finished_comparison_reads_no_test_window_again(finished, runs, monkeypatch):
    read = []
    before = compare_data.CompareSet.part
    monkeypatch.setattr(compare_data.CompareSet, "part", lambda self, name: read.append(name) or before(self, name))
    result = finished / "PET-CGDNN-1" / "result.json"
    written = result.stat().st_mtime_ns
    assert main(["compare", "--config", str(DEBUG), "--runs", str(runs), "--json"]) == 0
    assert read == ["train", "validation"] and result.stat().st_mtime_ns == written


def test_parts_share_no_clean_window_and_are_all_there(data, runs):
    from emind.storage.parquet import Reader

    with Reader(data.files[0]) as reader:
        clean = reader.columns(("transmission_id",))["transmission_id"]
    of = {name: set(clean[data.part_of_row[0] == number]) for number, name in enumerate(compare_data.PARTS)}
    assert sum(map(len, of.values())) == len(set(clean)) == 110
    assert {name: len(own) for name, own in of.items()} == {"train": 77, "validation": 17, "test": 16}


def test_a_part_is_balanced_by_class_and_holds_the_files_samples(data):
    from emind.storage.parquet import Reader

    part = data.part("validation")
    assert np.bincount(part.label_N.numpy()).tolist() == [20] * 11
    with Reader(data.files[0]) as reader:
        rows = {row.iq.tobytes(): (row.modulation, row.snr) for row in reader}
    for k in range(len(part)):
        found = rows[torch.view_as_complex(part.iq_NL2[k].contiguous()).numpy().tobytes()]
        assert found == (data.classes[part.label_N[k]], part.snr_N[k])


def trained(config, entry, data, folder, **stops):
    train, validation = data.part("train"), data.part("validation")
    return compare.train_one(config, entry, 5, data, train, validation, folder, **stops)


@pytest.mark.parametrize("model", [0, 1])
def test_a_stopped_training_goes_on_to_the_same_bits(data, tmp_path, model):
    config = read_compare_config(DEBUG)
    entry = replace(config.models[model], average=0.9, batch=100)
    whole = trained(config, entry, data, tmp_path / "whole")
    for stop_after in (3, 4):  # inside the first epoch, then inside the second
        steps = iter(range(100))
        assert trained(config, entry, data, tmp_path / "parts", stop=lambda: next(steps) >= stop_after) is None
    parts = trained(config, entry, data, tmp_path / "parts")
    timed = ("seconds", "windows_a_second")
    assert {k: v for k, v in parts.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}
    for name in ("best.safetensors", "checkpoint.safetensors"):
        a, b = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys()


def test_a_folder_of_another_configuration_is_refused(data, tmp_path):
    config = read_compare_config(DEBUG)
    entry = config.models[0]
    trained(config, entry, data, tmp_path)
    with pytest.raises(EMindError, match="another configuration"):
        trained(config, replace(entry, learning_rate=0.5), data, tmp_path)
    (tmp_path / "result.json").unlink()
    with pytest.raises(EMindError, match="another"):
        trained(config, replace(entry, learning_rate=0.5), data, tmp_path)


def test_the_best_epoch_of_validation_is_what_is_tested(data, tmp_path):
    config = read_compare_config(DEBUG)
    config = replace(config, train=replace(config.train, epochs=4, patience=1))
    entry = replace(config.models[0], learning_rate=1.0)  # so high that it does not get better
    result = trained(config, entry, data, tmp_path)
    history = [one["accuracy"] for one in result["history"]]
    best = history.index(max(history)) + 1
    assert result["best_epoch"] == best and result["epochs"] == min(4, best + 1)
    model = compare.build(entry, data.length, len(data.classes))
    model.load_state_dict(load_file(tmp_path / "best.safetensors"))
    scale = compare_data.root_mean_square(data.part("train"))
    test = data.part("test")
    figures = compare.figures_of(compare.answers(model, test, "set", scale).numpy(), test, data.classes, "AWGN-7")
    assert json.loads(json.dumps(figures)) == json.loads(json.dumps(result["test"]))


def test_an_encoder_starts_from_a_weights_file_and_refuses_one_that_does_not_suit(tmp_path):
    from emind.contract.window import HeadSpec, WindowSpec
    from emind.models.checkpoint import save_weights
    from emind.models.emind import nano
    from emind.models.heads import MultiHead

    config = read_compare_config(DEBUG)
    path = tmp_path / "w.safetensors"
    torch.manual_seed(1)
    model = MultiHead(nano(patch=8, stem="sample", channels="iq_envelope_phase"),
                      {"modulation": HeadSpec("modulation", "classification", ("a", "b"))})
    save_weights(path, model, WindowSpec(length=128, hop=128, patch=8), {"modulation": {"temperature": 1.0}}, {}, {})
    entry = replace(config.models[1], init=str(path))
    built = compare.build(entry, 128, 11)
    ours = built.encoder.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in model.encoder.state_dict().items())
    with pytest.raises(EMindError, match="has stem sample"):
        compare.build(replace(entry, stem="linear"), 128, 11)


@pytest.mark.parametrize(("change", "message"), [
    ({"models": []}, "at least one"),
    ({"models": [{"network": "vgg"}]}, "unknown network 'vgg'"),
    ({"models": [{"name": "a"}, {"name": "a"}]}, "two models"),
    ({"models": [{"name": "a/b"}]}, "letters"),
    ({"models": [{"seeds": [1, 1]}]}, "different seeds"),
    ({"models": [{"normalisation": "peak"}]}, "unknown normalisation"),
    ({"models": [{}], "augment": {"phase": "some"}}, "phase 'some'"),
    ({"models": [{}], "augment": {"noise": 0.5}, "data": {"set": "RadChar-regen"}}, "AWGN-7 only"),
])
def test_a_faulty_configuration_is_named(change, message):
    with pytest.raises(UsageError, match=message):
        compare_config(change, "c.toml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("compare-*.toml")), ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_its_head_says_how_to_launch_it(path):
    config = read_compare_config(path)
    assert f"emind-train compare --config training/configs/{path.name}" in path.read_text()
    for entry in config.models:
        compare.build(entry, 512 if config.data.set == "RadChar-regen" else 128, 11)


def test_unknown_models_and_lone_seeds_are_usage_errors(capsys, runs):
    assert main(["compare", "--config", str(DEBUG), "--runs", str(runs), "--only", "VGG"]) == 2
    assert main(["compare", "--config", str(DEBUG), "--runs", str(runs), "--seeds", "3"]) == 2
    assert "no such model" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- augmentation, normalisation


def changed(iq, how, seed=0):
    snr = np.full(len(iq), 0.0)
    return augmented(iq, snr, how, np.arange(-20, 20, 2.0), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("phase", "turns"), [("none", {0}), ("half", {0, 2}), ("quarter", {0, 1, 2, 3})])
def test_windows_are_turned_by_whole_parts_only(phase, turns):
    iq = torch.randn(200, 16, 2)
    ratio = torch.view_as_complex(changed(iq, Augmentation(phase=phase))) / torch.view_as_complex(iq)
    quarter = torch.round(ratio.angle() / (np.pi / 2)) % 4
    assert set(quarter[:, 0].int().tolist()) == turns
    assert (ratio - torch.polar(torch.ones(200, 16), quarter * np.pi / 2)).abs().max() < 1e-3


def test_added_noise_takes_a_window_to_a_label_of_the_set_at_or_below_its_own():
    levels = np.arange(-20, 20, 2.0)
    snr = np.repeat(levels, 50)
    deviation = added_noise(snr, levels, np.random.default_rng(0).random(len(snr)))
    reached = -10 * np.log10(10 ** (-snr / 10) + 2 * deviation**2)
    assert np.abs(reached[:, None] - levels).min(axis=1).max() < 1e-9
    assert (reached <= snr + 1e-9).all() and len(np.unique(reached.round(6))) == len(levels)


def test_one_option_does_not_change_what_another_draws():
    iq = torch.randn(50, 16, 2)
    both, one = changed(iq, Augmentation(phase="any", shift=True)), changed(iq, Augmentation(phase="any"))
    a, b = (torch.view_as_complex(x.contiguous()) for x in (both, one))
    # Shifted or not, a window was turned by the same angle: the same samples, in another place.
    assert torch.allclose(torch.sort(a.real).values, torch.sort(b.real).values, atol=1e-6) and not torch.equal(a, b)


def test_normalisations_do_what_they_say():
    iq = torch.randn(5, 32, 2) * torch.tensor([1e-3, 1, 10, 100, 0])[:, None, None]
    power = normalised(iq, "unit_power", 1.0).square().sum(-1).mean(1)
    assert torch.allclose(power, torch.tensor([1.0, 1, 1, 1, 0]))
    peak = normalised(iq, "max_abs", 1.0).square().sum(-1).amax(1)
    assert torch.allclose(peak, torch.tensor([1.0, 1, 1, 1, 0]))
    assert torch.equal(normalised(iq, "set", 4.0), iq / 4)


# ------------------------------------------------------------------------------------------------------ the ceiling


def test_the_distance_is_the_mean_from_minus_ten_to_eight_decibels():
    ceiling = read_ceiling()
    assert len(ceiling) == 20 and np.mean(list(ceiling.values())) == pytest.approx(0.606, abs=5e-4)
    inside = [snr for snr in ceiling if -10 <= snr <= 8]
    below = {snr: value - (0.05 if snr in inside else 0.5) for snr, value in ceiling.items()}
    assert distance_to_ceiling(below, ceiling) == pytest.approx(5.0)
    one = dict(ceiling) | {0.0: ceiling[0.0] - 0.1}
    assert distance_to_ceiling(one, ceiling) == pytest.approx(10 / len(inside))
    with pytest.raises(EMindError, match="-2 dB"):
        distance_to_ceiling({snr: 1.0 for snr in ceiling if snr != -2}, ceiling)


def test_the_posterior_is_renormalised_over_the_seven():
    logits = np.zeros((1, len(CLASSES)))
    logits[0, CLASSES.index("WBFM")] = 50.0  # none of the seven
    logits[0, CLASSES.index("8PSK")] = np.log(4.0)
    assert renormalised(logits, CLASSES)[0].tolist() == pytest.approx([0.1, 0.1, 0.4, 0.1, 0.1, 0.1, 0.1])
    shuffled = tuple(sorted(CLASSES))
    again = renormalised(logits[:, [CLASSES.index(name) for name in shuffled]], shuffled)
    assert again[0].argmax() == SEVEN.index("8PSK")


@pytest.mark.parametrize("snr", [-4, 4])
def test_the_largest_likelihood_reaches_the_published_ceiling(snr):
    windows = 80
    expected = read_ceiling()[snr]
    deviation = np.sqrt(expected * (1 - expected) / (7 * windows))
    assert bayes_accuracy(snr, windows) == pytest.approx(expected, abs=3 * deviation + 0.01)


def test_the_recursion_over_phases_sums_all_paths():
    rng = np.random.default_rng(0)
    iq = rng.standard_normal((2, 6)) + 1j * rng.standard_normal((2, 6))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    paths = np.exp(0.55j * np.pi * np.cumsum(signs, axis=1))
    by_path = np.exp(-np.abs(iq[:, None] - paths) ** 2 / 0.5).prod(axis=2).mean(axis=1)
    assert log_likelihood(iq, 10 * np.log10(2.0))[:, SEVEN.index("CPFSK")] == pytest.approx(np.log(by_path))


def test_without_the_phase_the_ceiling_is_points_lower():
    """Why windows of AWGN-7 are turned by half a turn only."""
    known, unknown = bayes_accuracy(-4, 30), bayes_accuracy(-4, 30, angles=16)
    assert known - unknown > 0.06


def test_half_a_turn_changes_no_likelihood_but_that_of_a_phase_that_starts_at_zero():
    rng = np.random.default_rng(0)
    iq = rng.standard_normal((5, 128)) + 1j * rng.standard_normal((5, 128))
    memoryless = [number for number, name in enumerate(SEVEN) if name != "CPFSK"]
    assert np.allclose(log_likelihood(-iq, 3)[:, memoryless], log_likelihood(iq, 3)[:, memoryless])
    assert not np.allclose(log_likelihood(1j * iq, 3)[:, memoryless], log_likelihood(iq, 3)[:, memoryless])
